"""Options that would have no effect with the others given are refused by the program, pair by pair, before any work."""

import numpy as np
import pandas as pd
import pytest
import warm_start

from massmap_jax.run.options import _ACTS

pytestmark = pytest.mark.slow
IDENTITY = ["--relation", "identity"]
PUBLISHED = ["--relation", "pratt09"]
PRESET = ["--relation", "bigmali2017"]
FIT = ["--relation-prior", "bigmali2017"]
DRAWS = ["--relation", "draws.csv"]
NPZ_PRIOR = ["--prior", "prior.npz"]
MEASURED = ["--calib-mass", "M", "--calib-sigma", "0.2"]
# (options that are given, the one that has no effect beside them, its field, words of what it is for)
PAIRS = [
    (IDENTITY, ["--prior-mass-range", "1e13:1e16"], "mass_range", "--prior hmf"),
    (IDENTITY, ["--hmf-model", "Tinker08"], "hmf_model", "--prior hmf"),
    ([*IDENTITY, *NPZ_PRIOR], ["--hmf-model", "Tinker08"], "hmf_model", "--prior hmf"),
    (IDENTITY, ["--transfer-model", "CAMB"], "transfer_model", "--prior hmf"),
    (IDENTITY, ["--prior-per", "ln_mass"], "per", "a text file"),
    ([*IDENTITY, "--prior", "hmf"], ["--prior-per", "ln_mass"], "per", "a text file"),
    (IDENTITY, ["--prior-mass-unit", "Msun/h"], "mass_unit", "a text file"),
    (IDENTITY, ["--prior-snap", "upper"], "snap", "a text file"),
    ([*IDENTITY, *NPZ_PRIOR], ["--prior-snap", "upper"], "snap", "a text file"),
    (IDENTITY, ["--h", "0.7"], "h", "Msun/h"),
    ([*IDENTITY, "--prior", "prior.txt"], ["--h", "0.7"], "h", "Msun/h"),
    ([*IDENTITY, *NPZ_PRIOR], ["--prior-support", "sharp"], "support", "no .npz"),
    (IDENTITY, ["--cosmology", "WMAP9"], "cosmology", "--prior hmf"),
    ([*IDENTITY, "--no-map"], ["--cosmology", "WMAP9"], "cosmology", "--prior hmf"),
    ([*IDENTITY, "--prior", "prior.txt"], ["--cosmology-draws", "planck18"], "cosmology_draws", "--prior default"),
    (DRAWS, ["--cosmology-columns", "sigma8=s8"], "cosmology_columns", "--cosmology-draws"),
    (
        [*DRAWS, "--cosmology-draws", "planck18"],
        ["--cosmology-columns", "h=h0"],
        "cosmology_columns",
        "a file of draws",
    ),
    (IDENTITY, ["--num-relation-draws", "50"], "num_relation_draws", "draws itself"),
    (DRAWS, ["--num-relation-draws", "50"], "num_relation_draws", "draws itself"),
    (IDENTITY, ["--relation-from", "other_data"], "relation_from", "a relation with draws"),
    (IDENTITY, ["--relation-columns", "alpha1=a"], "relation_columns", "a file of draws"),
    (PUBLISHED, ["--relation-columns", "alpha1=a"], "relation_columns", "a file of draws"),
    (FIT, ["--relation-columns", "alpha1=a"], "relation_columns", "a file of draws"),
    (IDENTITY, ["--ignore-columns"], "ignore_columns", "a file of draws"),
    (PRESET, ["--ignore-columns"], "ignore_columns", "a file of draws"),
    (FIT, ["--ignore-columns"], "ignore_columns", "a file of draws"),
    (IDENTITY, FIT, "relation_prior", "--relation fit"),
    (PUBLISHED, FIT, "relation_prior", "--relation fit"),
    (DRAWS, FIT, "relation_prior", "--relation fit"),
    (FIT, ["--relation-scatter", "0.2"], "relation_scatter", "--relation identity"),
    (PRESET, ["--relation-scatter", "0.2"], "relation_scatter", "--relation identity"),
    (DRAWS, ["--relation-scatter", "0.2"], "relation_scatter", "--relation identity"),
    (FIT, ["--mass-bias", "0.8"], "mass_bias", "--relation identity"),
    (PRESET, ["--mass-bias", "0.8"], "mass_bias", "--relation identity"),
    (DRAWS, ["--mass-bias", "0.8"], "mass_bias", "--relation identity"),
    (IDENTITY, ["--fit-method", "nuts"], "fit_method", "--relation fit"),
    (DRAWS, ["--fit-method", "nuts"], "fit_method", "--relation fit"),
    (IDENTITY, ["--calib-mass", "M"], "calib_mass", "a relation that is fitted"),
    (FIT, ["--calib-sigma", "0.2"], "calib_sigma", "--calib-mass"),
    (FIT, ["--calib-sigma-kind", "dex"], "calib_sigma_kind", "--calib-mass"),
    (FIT, ["--calib-sigma-plus", "E_M"], "calib_sigma_plus", "--calib-mass"),
    (FIT, ["--calib-sigma-minus", "e_M"], "calib_sigma_minus", "--calib-mass"),
    (FIT, ["--calib-log", "log10"], "calib_log", "--calib-mass"),
    (FIT, ["--calib-unit", "Msun"], "calib_unit", "--calib-mass"),
    (FIT, ["--calib-correlation", "0.2"], "calib_correlation", "--calib-mass"),
    (FIT, ["--calib-bias", "0.1"], "calib_bias", "--calib-mass"),
    (FIT, ["--calib-scatter", "0.1"], "calib_scatter", "--calib-mass"),
    (FIT, ["--calib-noise", "linear"], "calib_noise", "--calib-mass"),
    (FIT, ["--calib-scatter-correlation", "0.1"], "calib_scatter_correlation", "--calib-mass"),
    (FIT, ["--calib-chosen-by", "luminosity"], "calib_chosen_by", "--calib-mass"),
    (FIT, ["--calib-definition", "500c"], "calib_definition", "--calib-mass"),
    (FIT, ["--calib-convert"], "calib_convert", "--calib-mass"),
    (FIT, ["--calib-file", "lens.csv"], "calib_file", "--calib-mass"),
    ([*FIT, *MEASURED], ["--calib-id", "name"], "calib_id", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-ra", "ra"], "calib_ra", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-dec", "dec"], "calib_dec", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-position-unit", "rad"], "calib_position_unit", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-z", "z"], "calib_z", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-separation", "2"], "calib_separation", "--calib-file"),
    ([*FIT, *MEASURED], ["--calib-dz", "0.1"], "calib_dz", "--calib-file"),
    (FIT, ["--population", "gaussian"], "population", "--calib-mass"),
    (FIT, ["--compare-populations"], "compare_populations", "--calib-mass"),
    *[
        (
            IDENTITY,
            [f"--mass-likelihood-{name.replace('_', '-')}", value],
            f"mass_likelihood_{name}",
            "--mass-likelihood",
        )
        for name, value in (
            ("id", "name"),
            ("mass", "M"),
            ("error", "e_M"),
            ("error_kind", "dex"),
            ("error_plus", "E_M"),
            ("error_minus", "e_M"),
            ("unit", "Msun"),
            ("log", "ln"),
            ("scatter", "0.2"),
            ("definition", "500c"),
            ("bias", "0:0.05"),
        )
    ],
    ([*FIT, "--shear", "s.csv"], ["--shear-sigma-crit-unit", "Msun/pc2"], "shear_sigma_crit_unit", "a column of the"),
    ([*IDENTITY, "--shear", "s.csv"], ["--shear-stack", "bin"], "shear_stack", "that is fitted with --shear"),
    ([*FIT, "--shear", "s.csv"], ["--shear-stack-weight", "w"], "shear_stack_weight", "a column of the"),
    ([*IDENTITY, "--shear", "s.csv"], ["--mass-likelihood-bias", "0:0.05"], "mass_likelihood_bias", "that is fitted"),
    *[
        (FIT, [f"--shear-{name.replace('_', '-')}", value], f"shear_{name}", "--shear")
        for name, value in (
            ("id", "name"),
            ("radius", "r"),
            ("radius_unit", "kpc"),
            ("sigma_crit", "sc"),
            ("covariance", "cov"),
            ("profile", "bmo1"),
            ("gt", "g"),
            ("error", "e"),
            ("z", "1.0"),
            ("scatter", "0.1"),
        )
    ],
    (IDENTITY, ["--observable", "y=Y"], "observable", "a relation that is fitted"),
    (PUBLISHED, ["--observable", "y=Y"], "observable", "a relation that is fitted"),
    (FIT, ["--observable-sigma", "y=0.2"], "observable_sigma", "--observable"),
    (FIT, ["--observable-sigma-kind", "y=dex"], "observable_sigma_kind", "--observable"),
    (FIT, ["--observable-log", "y=log10"], "observable_log", "--observable"),
    (FIT, ["--observable-unit", "y=Mpc2"], "observable_unit", "--observable"),
    (FIT, ["--observable-limit", "y=l_y"], "observable_limit", "--observable"),
    (FIT, ["--observable-prior", "y:bigmali2017"], "observable_prior", "--observable"),
    (FIT, ["--scatter-correlation", "1"], "scatter_correlation", "--observable"),
    (FIT, ["--selected-on", "y"], "selected_on", "--observable"),
    (IDENTITY, ["--accept-misfit"], "accept_misfit", "--relation fit"),
    (PUBLISHED, ["--accept-misfit"], "accept_misfit", "--relation fit"),
    (IDENTITY, ["--lum-limit", "2"], "lum_limit", "which objects are in the catalogue"),
    ([*PRESET, "--relation-from", "fixed_draws"], ["--lum-limit", "2"], "lum_limit", "--relation-from other_data"),
    (IDENTITY, ["--flux-limit", "2"], "flux_limit", "which objects are in the catalogue"),
    (PUBLISHED, ["--flux-min", "1e-12"], "flux_min", "which objects are in the catalogue"),
    (IDENTITY, ["--snr-limit", "5"], "snr_limit", "which objects are in the catalogue"),
    (IDENTITY, ["--completeness", "in.csv"], "completeness", "which objects are in the catalogue"),
    ([*FIT, "--lum-limit", "2"], ["--completeness-columns", "lum=M"], "completeness_columns", "a file of the"),
    (IDENTITY, ["--k-correction", "0.5"], "k_correction", "--flux-min"),
    ([*FIT, "--lum-limit", "2"], ["--k-correction", "0.5"], "k_correction", "--flux-min"),
    (PRESET, ["--pivot", "1e14"], "pivot", "--relation identity"),
    (FIT, ["--pivot", "1e14"], "pivot", "--relation identity"),
    (IDENTITY, ["--num-lum-draws", "50"], "num_lum_draws", "--method monte_carlo"),
    ([*IDENTITY, "--method", "quadrature"], ["--num-lum-draws", "50"], "num_lum_draws", "--method monte_carlo"),
    ([*IDENTITY, "--no-map"], ["--pixel-arcmin", "1"], "pixel_arcmin", "a map"),
    ([*IDENTITY, "--no-map"], ["--num-map-draws", "50"], "num_map_draws", "a map"),
    ([*IDENTITY, "--no-map"], ["--map-unit", "Msun/Mpc2"], "map_unit", "a map"),
    ([*IDENTITY, "--no-map"], ["--map-slices", "0.1,0.3"], "map_slices", "a map"),
    ([*IDENTITY, "--no-map"], ["--smooth", "2"], "smooth_arcmin", "a map"),
    ([*IDENTITY, "--no-map"], ["--nside", "64"], "nside", "a map"),
    ([*IDENTITY, "--no-map"], ["--healpix-order", "NESTED"], "healpix_order", "a map"),
    ([*IDENTITY, "--no-map"], ["--halo-profile", "nfw"], "halo_profile", "a map"),
    ([*IDENTITY, "--no-figures"], ["--pdf-figures"], "pdf_figures", "figures"),
    ([*IDENTITY, "--no-figures"], ["--map-colours", "grey"], "map_colours", "figures of a map"),
    ([*IDENTITY, "--no-map"], ["--map-colours", "grey"], "map_colours", "figures of a map"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("effects")
    rng = np.random.default_rng(2)
    table = {"ra": rng.uniform(10, 11, 9), "dec": rng.uniform(0, 1, 9), "z": 0.3, "M": rng.uniform(1, 5, 9) * 1e14}
    pd.DataFrame(table).to_csv(path / "in.csv", index=False)
    (path / "draws.csv").write_text("alpha1,alpha2,alpha4,scatter,alpha3\n1,1,0,0.2,1e14\n1.1,1,0,0.2,1e14\n")
    return path


def refused(folder, *args):
    before = sorted(folder.iterdir())
    ran = warm_start.run(args, folder)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stdout == "" and ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert sorted(folder.iterdir()) == before
    return ran.stderr


def test_every_option_that_acts_with_others_is_here():
    assert {field for _, _, field, _ in PAIRS} == _ACTS.keys()


@pytest.mark.parametrize(("given", "idle", "field", "purpose"), PAIRS)
def test_refused_beside_the_others(given, idle, field, purpose, folder):
    """One sentence: the option as it was written, that it has no effect, what it is for, and to leave it out."""
    command = "run" if field != "compare_populations" else "fit"  # the one option here that `run` does not have
    error = refused(folder, command, "in.csv", "--out", "out", "--lum", "M", "--sigma", "0.1", *given, *idle)
    option, *value = idle
    assert error.startswith(f"error: {option} "), error
    shown = error.removeprefix(f"error: {option} ").partition("has no effect here: it is for ")
    assert shown[0].strip() == "".join(value).replace("1e14", "1e+14") and purpose in shown[2], error
    assert shown[2].rstrip().endswith("leave it out")


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("fit", ["--pdf-figures", "--no-figures", *FIT], ("--pdf-figures", "it is for figures")),
        ("fit", ["--hmf-model", "Tinker08", *FIT], ("--hmf-model", "--prior hmf")),
        ("fit", ["--k-correction", "1", *FIT], ("--k-correction", "--flux-min")),
        ("stream", [*IDENTITY, "--pixel-arcmin", "1"], ("--pixel-arcmin", "it is for a map")),
        ("stream", [*IDENTITY, "--num-map-draws", "5"], ("--num-map-draws", "it is for a map")),
        ("stream", [*IDENTITY, "--pivot", "2", "--prior-snap", "upper"], ("--prior-snap", "a text file")),
        ("stream", [*IDENTITY, "--map-arcmin", "60"], ("map_centre", "give both or neither")),
        ("stream", [*IDENTITY, "--z-grid", "0:1:9"], ("--z-grid", "no effect", "--z-pdf")),
        ("stream", [*IDENTITY, "--k-correction", "1"], ("--k-correction", "--lum-moves yes")),
        ("stream", [*IDENTITY, "--columns", "id,z_sd"], ("z_sd", "redshifts that are not exact", "--z-err")),
        ("run", [*FIT, "--lum-limit", "2", "--flux-min", "1e-12"], ("--lum-limit and --flux-min are given",)),
        ("run", [*IDENTITY, "--source-redshift", "1", "--no-map"], ("source_redshift", "no map is asked for")),
        ("run", [*IDENTITY, "--mag-zero", "4"], ("--mag-zero 4 has no effect",)),
        ("run", [*IDENTITY, "--sigma-plus", "M", "--sigma-minus", "M"], ("sigma is given together with",)),
        ("run", [*FIT, "--relation-from", "other_data"], ("other_data", "leave it out")),
    ],
)
def test_other_options_that_do_not_go_together(command, args, words, folder):
    error = refused(folder, command, "in.csv", "--out", "out", "--lum", "M", "--sigma", "0.1", *args)
    assert not [word for word in words if word not in error], error
