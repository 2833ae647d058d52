"""The table of masses under the names of ACT and eRASS1, read again by the layouts of these catalogues."""

import numpy as np
import pytest
from astropy.table import Table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.run.options import JobOptions, check_options
from massmap_jax.run.published_names import NAMES, mass_column, published_names

PRIOR = MassPrior.default()
PLACE = {"ra": [10.0, 20.0, 30.0], "dec": [-5.0, 0.0, 5.0], "ids": ["A 1", "A 2", "A 3"]}


@pytest.fixture(scope="module")
def posterior():
    catalogue = HaloCatalogue.from_arrays(
        luminosity=[3e14, 4e14, 8e14], redshift=[0.2, 0.4, 0.6], sigma_ln_luminosity=0.1, lum_unit="Msun", **PLACE
    )
    return mass_posterior(catalogue, PRIOR, MassLuminosityRelation.identity())


@pytest.mark.parametrize("names", ["act", "act_dr5", "act_dr6"])
def test_masses_under_the_names_of_act(posterior, tmp_path, names):
    columns, info = published_names(posterior.to_table(), names, "200m", "Msun")
    write_table(tmp_path / "masses.fits", columns, **info)
    table = Table.read(tmp_path / "masses.fits")
    q16, q50, q84 = np.exp(posterior.quantiles[:, 1:4]).T / 1e14
    np.testing.assert_allclose(table["M200m"], q50, rtol=1e-12)
    np.testing.assert_allclose(table["M200m_errPlus"], q84 - q50, rtol=1e-9)
    np.testing.assert_allclose(table["M200m_errMinus"], q50 - q16, rtol=1e-9)
    assert str(table["M200m_errPlus"].unit) == "1e+14 solMass"
    assert table["RADeg"].tolist() == PLACE["ra"] and list(table["name"]) == PLACE["ids"]
    assert "log10_mass_mean" in table.colnames and "ra" not in table.colnames


@pytest.mark.parametrize("suffix", ["fits", "parquet", "csv"])
@pytest.mark.parametrize("names", ["act", "act_dr5", "act_dr6"])
def test_the_layout_of_act_reads_the_observed_mass_again(posterior, tmp_path, names, suffix):
    """The uncorrected one, as from ACT's own files: the corrected one has the prior in it already."""
    columns, info = published_names(posterior.to_table(), names, "200m", "Msun")
    path = tmp_path / f"masses.{suffix}"
    write_table(path, columns, **info)
    again = read_catalogue(path, columns=names)
    objects = posterior.catalogue
    assert again.ids.tolist() == PLACE["ids"] and again.lum_unit == "Msun"
    np.testing.assert_allclose(again.ln_lum_obs, objects.ln_lum_obs, rtol=1e-9)
    np.testing.assert_allclose(again.redshift, objects.redshift)
    np.testing.assert_allclose(again.ra, objects.ra)
    np.testing.assert_allclose(again.sigma_ln_lum, objects.sigma_ln_lum, rtol=0.01)


def test_the_layout_of_erass1_reads_the_luminosity_again(tmp_path):
    catalogue = HaloCatalogue.from_arrays(
        luminosity=[1e44, 2e44, 3e44], redshift=[0.2, 0.4, 0.6], sigma_ln_luminosity=0.1, lum_unit="erg/s", **PLACE
    )
    relation = MassLuminosityRelation.create(alpha1=np.log(1e44), alpha2=1.5, alpha3=3e14, scatter=0.3)
    posterior = mass_posterior(catalogue, PRIOR, relation)
    columns, info = published_names(posterior.to_table(), "erass1", "500c", "erg/s")
    low, middle, high = np.exp(posterior.quantiles[:, 1:4]).T / 1e13
    np.testing.assert_allclose(columns["M500_L"], low)
    np.testing.assert_allclose(columns["M500"], middle)
    np.testing.assert_allclose(columns["M500_H"], high)
    write_table(tmp_path / "masses.fits", columns, **info)
    assert str(Table.read(tmp_path / "masses.fits")["M500"].unit) == "1e+13 solMass"
    again = read_catalogue(tmp_path / "masses.fits", columns="erass1")
    np.testing.assert_allclose(again.ln_lum_obs, catalogue.ln_lum_obs, rtol=1e-9)
    np.testing.assert_allclose(again.sigma_ln_lum, 0.1, rtol=0.01)


@pytest.mark.parametrize("names", NAMES)
def test_every_column_is_described_and_none_is_lost(posterior, names):
    before = posterior.to_table()
    columns, info = published_names(before, names, "500c", "Msun")
    assert set(info["descriptions"]) == set(columns)
    assert len(columns) >= len(before) + 3
    np.testing.assert_array_equal(columns["mass_mean"], before["mass_mean"])


@pytest.mark.parametrize("unit", ["", "richness", "erg/s"])
def test_a_luminosity_of_another_kind_keeps_its_own_column_only(posterior, unit):
    columns, _ = published_names(posterior.to_table(), "act_dr5", "500c", unit)
    assert "M500cUncorr" not in columns and "ln_lum_obs" in columns and "M500c" in columns


@pytest.mark.parametrize(
    ("names", "definition", "words"),
    [("erass1", "200m", "200m"), ("act", "vir", "vir"), ("act", "unknown", "unknown"), ("spt", "500c", "act_dr5")],
)
def test_what_has_no_name_is_refused(names, definition, words):
    with pytest.raises(MassmapError, match=words):
        mass_column(names, definition)


def test_unknown_names_are_refused_before_anything_is_read():
    with pytest.raises(MassmapError, match="column_names 'spt' are not known"):
        check_options(JobOptions(relation="identity", column_names="spt"))
