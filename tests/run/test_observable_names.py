"""The column of the observable beside what a published relation is for, by its name."""

import pytest

from massmap_jax.errors import MassmapError
from massmap_jax.relation.presets import find_preset
from massmap_jax.run.observable_names import check_observable, check_own_mass, refuse_no_halo_mass
from massmap_jax.run.options import JobOptions, check_options


@pytest.mark.parametrize(
    ("relation", "column"),
    [
        ("lx_mcxc11", "Lbol"),
        ("lx_mcxc11", "fx"),
        ("lx_mcxc11", "M500"),
        ("lx_mcxc11", "richness"),
        ("lambda_murata18", "LX"),
        ("lambda_murata18", "log_Lx"),
        ("mgas_akino22", "M500c"),
        ("sigv_munari13", "N200"),
        ("ysz_planck15", "kT"),
        ("ysz_planck15", "Y5R500"),
        ("ysz_planck15", "y5r500_error"),
        ("lx_mcxc11", "Lxcex"),
        ("lx_mcxc11", "L500_core_excised"),
        ("lx_mcxc11", "L_0.5-2"),
        ("lx_mcxc11", "Lx_0520"),
        ("lx_mcxc11", "Lx_Ez"),
        ("lx_mcxc11", "L500 E(z)^-1"),
        ("mgas_akino22", "Mgas_Ez"),
        ("lx_mcxc11", "kTexc"),
        ("lx_mcxc11", "x_Tx500ce"),
        ("lx_mcxc11", "T_eRO_soft"),
        ("mgas_akino22", "T_spec_500"),
        ("mstar_kravtsov18", "mg500"),
        ("mgas_akino22", "StellarMass"),
        ("lc_cacciato09", "log_stellar_mass"),
        ("ysz_planck15", "SNR"),
        ("sigv_evrard08", "vmax"),
        ("sigv_munari13", "Vcirc_200"),
        ("sigv_munari13", "sigma_3D"),
        ("sigv_munari13", "sigma_v_3d"),
        ("sigv_evrard08", "FWHM_v"),
        ("lx_mcxc11", "fixed_SNR"),
        ("lx_mcxc11", "DET_LIKE_0"),
        ("lx_mcxc11", "ML_CTS_1"),
        ("lx_mcxc11", "count_rate"),
        # Richness of other finders, from 0.3 to 3 times lambda for one cluster.
        *(
            ("lambda_murata18", name)
            for name in (
                "N_mem",
                "Nfof",
                "N200",
                "Ngal",
                "n0.5",
                "MADCOWS_Richness",
                "RL*",
                "N_cor",
                "lambda_star",
                "log_N200",
                "Abell richness",
                "B_gg",
            )
        ),
    ],
)
def test_an_observable_of_another_name_is_refused(relation, column):
    with pytest.raises(MassmapError, match="by its name"):
        check_observable(find_preset(relation), column, [])


@pytest.mark.parametrize(
    ("relation", "column"),
    [
        ("lx_mcxc11", "LX"),
        ("lx_mcxc11", "L500"),
        ("lx_mcxc11", "lum"),
        ("lx_mcxc11", "Lx_cin"),
        ("lx_mcxc11", "Lx500"),
        ("lx_mcxc11", "L500_52"),
        ("lx_mcxc11", "text"),
        ("lambda_murata18", "LAMBDA_CHISQ"),
        ("lambda_murata18", "RICHNESS"),
        ("lambda_murata18", "lum_obs"),
        ("mgas_akino22", "Mgas"),
        ("mgas_akino22", "x_mg500"),
        ("mgas_akino22", "mass_g"),
        ("smhm_moster13", "StellarMass"),
        ("mstar_akino22", "logMstar"),
        ("ysz_planck15", "Y500"),
        ("sigv_munari13", "vdisp"),
        ("sigv_munari13", "sigma_1D"),
        ("lc_cacciato09", "lum_r"),
    ],
)
def test_an_observable_that_may_be_it_is_told(relation, column):
    notes: list[str] = []
    check_observable(find_preset(relation), column, notes)
    assert len(notes) == 1 and repr(column) in notes[0] and find_preset(relation).observable in notes[0]
    check_observable(find_preset(relation), "", notes)
    assert len(notes) == 1


@pytest.mark.parametrize("column", ["M500", "logM_500", "m2500", "MASS_180"])
def test_a_mass_of_another_overdensity_is_not_given_out_as_the_prior_s(column):
    """A mass M500 would be written as one of 200m, about twice too low."""
    with pytest.raises(MassmapError, match=r"by its name.*prior='hmf'") as refused:
        check_own_mass("200m", column)
    # prior='hmf' is no way to a definition that it has not.
    assert ("mass_definition='500c'" in str(refused.value)) == ("500" in column and "2500" not in column)
    assert ("makes none" in str(refused.value)) == (column in ("m2500", "MASS_180"))
    for other in ("M200", "m200", "M_lens", "mass", "", "M_dyn"):
        check_own_mass("200m", other)
    check_own_mass("500c", "M500")


APERTURES = [
    "M500kpc",
    "M(<1Mpc)",
    "M_lt_1Mpc",
    "Mtot_1.5Mpc",
    "logM_0p5Mpc",
    "M2D",
    "M500_cyl",
    "M200c_proj",
    "Map",
    "M_z0",
    "M200c(z=0)",
]
PARTS = ["TotStellarMass", "total_gas_mass", "Mg500", "M500_gas", "x_mgas", "StellarMass", "logMstar", "M_BCG"]
BARYONS = ["Mbar", "M_b", "M500_baryon", "M_HI", "M_BH", "dust_mass"]


@pytest.mark.parametrize("column", [*PARTS, *APERTURES, *BARYONS])
def test_what_is_no_halo_mass_is_not_given_out_as_one(column):
    """Masses of gas were written as masses of halos, without a word."""
    with pytest.raises(MassmapError, match=r"by its name, and relation='identity' would give it out as the mass of"):
        check_own_mass("500c", column)
    with pytest.raises(MassmapError, match="by its name"):
        check_own_mass("500c", column, stated="500c")
    for other in ("M500", "M_lambda", "MSZ", "M_gal", "lum", "Mdyn", "M500_hi", "M_bright", "mass_apparent", "Mhalo"):
        check_own_mass("500c", other)


def test_a_folder_of_that_name_is_no_file_of_draws(tmp_path, monkeypatch):
    """As the folder of an earlier run may be called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lx_mcxc11").mkdir()
    (tmp_path / "draws").mkdir()
    assert JobOptions(relation="lx_mcxc11").is_published and not JobOptions(relation="draws").is_published
    (tmp_path / "lx_capasso20").write_text("alpha1 alpha2 scatter")
    assert JobOptions(relation="lx_capasso20").is_file


@pytest.mark.parametrize(
    "column",
    [
        "M2D",
        "M500kpc",
        "Mbar",
        "N200",
        "kT",
        "Lx",
        "richness",
        "Mgas500",
        "M500_gas",
        "logMstar",
        "M_BCG",
        "M500_3D_star",
        "sigma_v",
        "M500 E(z)",
    ],
)
def test_what_is_no_mass_of_a_halo_is_no_calibration_mass(column):
    with pytest.raises(MassmapError, match=r"by its name, and no mass of a halo: calib_mass="):
        refuse_no_halo_mass(column)


@pytest.mark.parametrize("column", ["M", "M500", "MWL", "logM200c", "M_lambda", "MSZ", "m500_x", "M500_YX"])
def test_a_mass_of_a_halo_is_one(column):
    refuse_no_halo_mass(column)


@pytest.mark.parametrize("relation", ["lx_mcxc11:scatter=0.4", "LX_MCXC11:0.4"])
def test_a_scatter_behind_the_name_of_a_relation_has_an_option(relation):
    with pytest.raises(MassmapError, match=r"give relation='\w+', and its scatter as relation_scatter="):
        check_options(JobOptions(relation=relation))
