"""Shear profiles from tables with one row for each bin: what is read, and what is refused in one sentence."""

import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.table import Table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.shear_file import read_shear_profiles
from massmap_jax.likelihood.shear_names import check_name
from massmap_jax.prior.mass_prior import MassPrior

CATALOGUE = HaloCatalogue.from_arrays(
    luminosity=[1.0, 2.0, 3.0], redshift=[0.1, 0.2, 0.3], sigma_ln_luminosity=0.05, ids=["A", "B", "C"]
)
# The guessed columns are told in warnings, which these tests do not ask for.
pytestmark = pytest.mark.filterwarnings("ignore:shear profiles")


def read(source, catalogue, **given):
    """Profiles whose lengths are said to be proper ones, if nothing else is."""
    return read_shear_profiles(source, catalogue, **({"radius_unit": "Mpc"} | given))


def long_table(**changes):
    """Three bins of C and two of A, in any order."""
    columns = {
        "id": ["C", "A", "C", "C", "A"],
        "radius": [2.0, 1.0, 0.5, 1.0, 0.5] * units.Mpc,
        "gt": [0.02, 0.05, 0.09, 0.04, 0.08],
        "gt_err": [0.02, 0.01, 0.03, 0.04, 0.05],
        "z_source": [1.2, 0.9, 1.0, 1.1, 0.8],
    } | changes
    return Table({name: values for name, values in columns.items() if values is not None})


def clmm_table(shear, **meta):
    """The columns of a profile that CLMM makes."""
    radius = np.array([0.5, 1.0, 2.0])
    return Table(
        {"radius_min": radius * 0.8, "radius": radius, "radius_max": radius * 1.3, "gt": shear, "gt_err": [0.01] * 3,
         "gx": [0.0] * 3, "gx_err": [0.01] * 3, "z": [0.9, 1.0, 1.1], "z_err": [0.1] * 3, "n_src": [10, 20, 30]},
        meta=meta,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["memory", "fits", "parquet", "ecsv"])
def test_rows_are_sorted_into_profiles(tmp_path, suffix):
    table = long_table()
    if suffix != "memory":
        table.write(tmp_path / f"shear.{suffix}")
        table = tmp_path / f"shear.{suffix}"
    found = read(table, CATALOGUE)
    assert found.rows.tolist() == [0, 2] and found.radius_unit == "Mpc" and found.sigma_crit is None
    nan = np.nan
    np.testing.assert_array_equal(found.radius, [[0.5, 1.0, nan], [0.5, 1.0, 2.0]])
    np.testing.assert_array_equal(found.shear, [[0.08, 0.05, nan], [0.09, 0.04, 0.02]])
    np.testing.assert_array_equal(found.source_redshift, [[0.8, 0.9, nan], [1.0, 1.1, 1.2]])
    sd = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(sd, [[0.05, 0.01, nan], [0.03, 0.04, 0.02]], rtol=1e-12)


def wide_table(**changes):
    """One row for each object, with arrays of bins; the second bin of A is blank."""
    sd, rho = np.array([0.01, 0.02, 0.03]), 0.4 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    columns = {
        "id": ["C", "A"],
        "radius": [[0.5, 1.0, 2.0], [0.4, 0.8, 1.6]] * units.Mpc,
        "gt": [[0.09, 0.04, 0.02], [0.08, np.nan, 0.03]],
        "gt_err": [[0.01, 0.02, 0.03]] * 2,
        "z_source": [1.0, 1.1],
        "cov": [np.outer(sd, sd) * rho] * 2,
    } | changes
    return Table({name: values for name, values in columns.items() if values is not None})


@pytest.mark.parametrize("form", ["memory", "fits", "parquet", "flat"])
def test_one_row_for_each_object_with_arrays_of_bins(tmp_path, form):
    table = wide_table()
    expected = np.array(table["cov"])
    if form in ("flat", "parquet"):
        table["cov"] = expected.reshape(2, 9)
    if form == "fits":
        table.write(tmp_path / "wide.fits")
        table = tmp_path / "wide.fits"
    if form == "parquet":
        frame = {name: list(map(np.asarray, table[name])) if table[name].ndim > 1 else list(table[name])
                 for name in table.colnames}  # fmt: skip
        pd.DataFrame(frame).to_parquet(tmp_path / "wide.parquet")
        table = tmp_path / "wide.parquet"
    found = read(table, CATALOGUE, covariance="cov", radius_unit="Mpc")
    assert found.rows.tolist() == [2, 0]
    np.testing.assert_array_equal(found.shear, [[0.09, 0.04, 0.02], [0.08, np.nan, 0.03]])
    np.testing.assert_allclose(found.covariance[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found.covariance[1][np.ix_([0, 2], [0, 2])], expected[1][np.ix_([0, 2], [0, 2])])
    np.testing.assert_array_equal(found.source_redshift[0], [1.0, 1.0, 1.0])
    if form == "memory":
        errors = read(table, CATALOGUE, source_redshift=1.3)
        np.testing.assert_allclose(errors.covariance[0], np.diag([1e-4, 4e-4, 9e-4]))
        assert (errors.source_redshift[0] == 1.3).all()


@pytest.mark.parametrize(
    ("changes", "given", "told"),
    [
        ({"id": ["C", "C"]}, {}, "more than one row of an object: 2 rows"),
        ({"cov": [[1.0] * 4] * 2}, {"covariance": "cov"}, "holds 4 numbers in each row, and 3 bins need 3 x 3"),
        ({"cov": [np.ones((3, 3))] * 2}, {"covariance": "cov"}, "covariances are singular"),
        ({}, {"covariance": "cov", "error": "gt_err"}, "error= and covariance= are given"),
        ({"gt": [0.1, 0.2]}, {}, "column 'gt' .* has to be one array of numbers per object"),
    ],
)
def test_arrays_of_bins_that_cannot_be_used(changes, given, told):
    with pytest.raises(MassmapError, match=told):
        read(wide_table(**changes), CATALOGUE, **given)
    with pytest.raises(MassmapError, match="covariance= is for a table with one row for each object"):
        read(long_table(), CATALOGUE, covariance="gt_err")


@pytest.mark.parametrize(
    ("unit", "given", "kind", "factor"),
    [
        ("kpc", "kpc", "Mpc", 1e-3),
        ("", "pkpc", "Mpc", 1e-3),
        ("", "proper kpc", "Mpc", 1e-3),
        ("", "ckpc", "Mpc", 1e-3 / 1.3),  # object C is at z = 0.3
        ("kpc", "cMpc", "Mpc", 1 / 1.3),
        ("", "Mpc (comoving)", "Mpc", 1 / 1.3),
        ("arcsec", None, "arcmin", 1 / 60),
        ("rad", None, "arcmin", 3437.746770784939),
        ("", "deg", "arcmin", 60.0),
        ("Mpc", "kpc", "Mpc", 1e-3),
    ],
)
def test_units_of_radii(unit, given, kind, factor):
    table = long_table(radius=units.Quantity([2.0, 1.0, 0.5, 1.0, 0.5], unit))
    found = read(table, CATALOGUE, radius_unit=given)
    assert found.radius_unit == kind
    np.testing.assert_allclose(found.radius[1], np.array([0.5, 1.0, 2.0]) * factor, rtol=1e-12)


def test_which_lengths_radii_are_is_told():
    """Comoving radii of lenses at z = 0.3 were read as proper ones, 1.3 times too large, without a word."""
    given = dict(shear="gt", error="gt_err", source_redshift="z_source")
    for name in ("radius", "r", "R", "rp"):
        table = long_table()
        table.rename_column("radius", name)
        with pytest.warns(
            match=r"taken as proper lengths at the lens: give radius_unit='cMpc' where they are comoving"
        ):
            assert read_shear_profiles(table, CATALOGUE, radius=name, **given).radius[1, 2] == 2.0
    for name, description in (("r_proper", ""), ("r", "Physical radius"), ("R_phys", "")):
        table = long_table()
        table.rename_column("radius", name)
        table[name].description = description
        with warnings.catch_warnings(record=True) as found:
            assert read_shear_profiles(table, CATALOGUE, radius=name, **given).radius[1, 2] == 2.0
        assert not any("comoving" in str(one.message) for one in found)
    table = long_table()
    table.rename_column("radius", "r_com")
    assert read(table, CATALOGUE, radius="r_com", radius_unit="cMpc", **given).radius[1, 2] == pytest.approx(2 / 1.3)
    nowhere = HaloCatalogue.from_arrays(
        luminosity=[1.0, 2.0], redshift=[0.1, np.nan], sigma_ln_luminosity=0.05, ids=["A", "C"]
    )
    with pytest.raises(MassmapError, match="comoving, and the lens has no redshift in 3 rows"):
        read(long_table(), nowhere, radius_unit="cMpc")
    wide = read(wide_table(), CATALOGUE, radius_unit="cMpc")
    np.testing.assert_allclose(wide.radius[0], np.array([0.5, 1.0, 2.0]) / 1.3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gt": [0.0213, 0.0, 0.0912, 0.0, 0.0834]}, "exactly 0, as no measured one is: 2 of 2 profiles"),
        ({"radius": [99.0, 1.0, 0.5, 1.0, 0.5] * units.Mpc}, "placeholders, as 99 or 1e20: 1 of 2 profiles"),
        ({"radius": [1e20, 1.0, 0.5, 1.0, 0.5] * units.Mpc}, "placeholders, as 99 or 1e20: 1 of 2 profiles"),
        ({"gt": [0.02, 0.0, 0.09, 0.04, 0.08]}, ""),
        ({"gt": [0.0, 0.1, 0.1, 0.0, -0.1], "gt_err": [0.1] * 5}, ""),  # rounded
    ],
)
def test_numbers_that_mean_none_in_a_profile(changes, told):
    if not told:
        read(long_table(**changes), CATALOGUE)
        return
    with pytest.raises(MassmapError, match=told):
        read(long_table(**changes), CATALOGUE)


@pytest.mark.parametrize(
    ("bin_units", "kind", "factor"), [("Mpc", "Mpc", 1.0), ("radians", "arcmin", 3437.746770784939)]
)
def test_profiles_as_clmm_makes_them(tmp_path, bin_units, kind, factor):
    """One table for each cluster, the unit in its metadata, z that of the sources; from memory or from files."""
    tables = {
        "B": clmm_table([0.08, 0.04, 0.02], bin_units=bin_units),
        "A": clmm_table([0.1, 0.05, 0.02], bin_units=bin_units),
    }
    found = read_shear_profiles(tables, CATALOGUE)
    assert found.rows.tolist() == [0, 1] and found.radius_unit == kind
    np.testing.assert_allclose(found.radius, np.array([[0.5, 1.0, 2.0]] * 2) * factor)
    np.testing.assert_array_equal(found.shear, [[0.1, 0.05, 0.02], [0.08, 0.04, 0.02]])
    np.testing.assert_array_equal(found.source_redshift, [[0.9, 1.0, 1.1]] * 2)
    tables["A"].write(tmp_path / "A.csv")
    again = read({"A": tmp_path / "A.csv"}, CATALOGUE, radius_unit="Mpc")
    np.testing.assert_array_equal(again.shear, found.shear[:1])


def test_blank_bins_and_one_redshift_of_all_sources():
    found = read(long_table(gt=[0.02, np.nan, 0.09, 0.04, np.nan], z_source=None), CATALOGUE, source_redshift=1.1)
    assert found.rows.tolist() == [2] and (found.source_redshift == 1.1).all()


@pytest.mark.parametrize(("unit", "given"), [("Msun / pc2", None), (None, "Msun/pc2"), ("g / cm2", None)])
def test_critical_surface_densities_in_place_of_redshifts(unit, given):
    density = np.array([2800.0, 2900.0, 3000.0, 3100.0, 3200.0])
    scale = (1 * units.Unit("Msun/pc2")).to_value(unit) if unit == "g / cm2" else 1.0
    column = density * scale if unit is None else units.Quantity(density * scale, unit)
    found = read(long_table(z_source=None, sc=column), CATALOGUE, sigma_crit="sc", sigma_crit_unit=given)
    assert found.source_redshift is None
    np.testing.assert_allclose(np.sort(found.sigma_crit[~np.isnan(found.sigma_crit)]), density * 1e12, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "given", "told"),
    [
        ({"sc": [3e15] * 5}, {"sigma_crit": "sc"}, "column 'sc' of .* state no unit: give sigma_crit_unit="),
        ({"sc": [3e15] * 5}, {"sigma_crit": "sc", "sigma_crit_unit": "Msun/Mpc"}, "no mass per area without h"),
        ({"sc": [-1.0] * 5 * units.Unit("Msun/pc2")}, {"sigma_crit": "sc"}, "densities are not above 0"),
        ({}, {"sigma_crit": "sc", "source_redshift": 1.0}, "source_redshift= and sigma_crit= are given"),
        ({"id": ["C", "A", "C", "X", "A"]}, {}, "not in the catalogue: 1 row, first row 3 with value 'X'"),
        ({"id": None}, {}, "usual name for the id: choose it with id="),
        (
            {"radius": [2.0, 1.0, 0.5, 1.0, 0.5]},
            {"radius_unit": None},
            "'radius' .* states no unit: give radius_unit='Mpc'",
        ),
        ({}, {"radius_unit": "Mpc/h"}, "'Mpc/h', which is no length without h and no angle"),
        ({"radius": [2.0, 1.0, 0.5, 0.5, 0.5] * units.Mpc}, {}, "two bins of one radius .* 1 row, first row"),
        ({"gt": None}, {}, "usual name for the shear: choose it with shear="),
        ({"gt_err": None}, {}, "usual name for the error: choose it with error="),
        ({"z_source": None}, {}, "usual name for the source_redshift: choose it with source_redshift="),
        ({"gt": ["a"] * 5}, {}, "column 'gt' of the Table"),
        ({"gt_err": [0.01, np.nan, 0.01, 0.01, 0.01]}, {}, "errors of shears are not above 0: 1 of 2 profiles"),
        ({"gt": [0.02, np.nan, 0.09, 0.04, 0.08]}, {}, "fewer bins .*: 1 of 2 profiles, the first of row 0"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(changes, given, told):
    with pytest.raises(MassmapError, match=told):
        read(long_table(**changes), CATALOGUE, **given)


def test_columns_of_treecorr_and_units_in_names():
    table = long_table()
    plain = {"object": table["id"], "meanr (Mpc)": np.asarray(table["radius"]), "gamT": table["gt"], "gamX": table["gt"],
             "sigma": table["gt_err"], "z_s": table["z_source"]}  # fmt: skip
    found, wanted = read(plain, CATALOGUE), read(table, CATALOGUE)
    np.testing.assert_array_equal(found.shear, wanted.shear)
    np.testing.assert_array_equal(found.radius, wanted.radius)
    np.testing.assert_array_equal(found.covariance, wanted.covariance)


def test_an_excess_surface_density_over_a_large_number_is_a_shear_that_nothing_reduces():
    """The likelihoods are those of Delta Sigma / Sigma_crit with reduced=False, whatever the number."""
    prior = MassPrior.default()
    radius, signal, error = np.array([0.5, 1.0, 2.0]), np.array([9e13, 4.5e13, 2e13]), np.array([2e13, 1e13, 8e12])
    made = []
    for density, reduced in ((3e15, False), (1e18, True)):
        table = {
            "id": ["A"] * 3,
            "radius": radius,
            "gt": signal / density,
            "gt_err": error / density,
            "sc": [density] * 3,
        }
        profiles = read(table, CATALOGUE, radius_unit="Mpc", sigma_crit="sc", sigma_crit_unit="Msun/Mpc2")
        made.append(np.asarray(profiles.likelihoods(CATALOGUE, prior, reduced=reduced).log_likelihood)[0])
    one, other = (ln_l - ln_l.max() for ln_l in made)
    seen = one > -10
    np.testing.assert_allclose(other[seen], one[seen], atol=2e-3)
    with pytest.raises(
        MassmapError, match=r"'ds' .* is an excess surface density .* one large number such as 1e6 Msun/pc2"
    ):
        read({"id": ["A"] * 3, "radius": radius, "ds": signal, "ds_err": error}, CATALOGUE, radius_unit="Mpc")


def test_an_empty_table_no_tables_and_two_kinds_of_radii():
    with pytest.raises(MassmapError, match="has no rows"):
        read(long_table()[:0], CATALOGUE)
    with pytest.raises(MassmapError, match="no shear profiles are given"):
        read({}, CATALOGUE)
    tables = {
        "A": clmm_table([0.1, 0.05, 0.02], bin_units="Mpc"),
        "B": clmm_table([0.1, 0.05, 0.02], bin_units="arcmin"),
    }
    with pytest.raises(MassmapError, match="lengths and some angles"):
        read_shear_profiles(tables, CATALOGUE)


@pytest.mark.parametrize(
    ("role", "name", "unit", "words"),
    [
        ("radius", "r_comoving", "Mpc", "a comoving radius"),
        ("radius", "r_Mpc_h", "Mpc", "units with h"),
        ("radius", "R_hMpc", "Mpc", ""),
        ("radius", "theta_arcmin", "Mpc", "in arcmin by its name, and its unit is 'Mpc'"),
        ("radius", "r_kpc", "Mpc", "in kpc by its name"),
        ("radius", "r_kpc", "kpc", ""),
        ("radius", "theta_deg", "arcmin", "in deg by its name"),
        ("radius", "log_r", "Mpc", "a logarithm"),
        ("radius", "r_over_r200", "Mpc", "a radius over that of the halo"),
        ("radius", "r_mean", "Mpc", ""),
        ("shear", "kappa", None, "a convergence"),
        ("shear", "g_x", None, "the cross shear"),
        ("shear", "gamma_cross", None, "the cross shear"),
        ("shear", "DeltaSigma", None, "an excess surface density"),
        ("shear", "g_t", None, ""),
        ("error", "gt_var", None, "a variance or a signal-to-noise"),
        ("error", "weight", None, "a weight"),
        ("error", "gt_err", None, ""),
        ("source_redshift", "z_lens", None, "that of the lens"),
        ("source_redshift", "zl", None, "that of the lens"),
        ("source_redshift", "beta", None, "a ratio of distances"),
        ("source_redshift", "z", None, ""),
        ("source_redshift", "z_source", None, ""),
        ("sigma_crit", "inv_sigma_crit", None, "the inverse"),
        ("sigma_crit", "sigma_crit_comoving", None, "a comoving density"),
        ("sigma_crit", "sigma_crit", None, ""),
        ("covariance", "invcov", None, "the inverse of a covariance"),
        ("covariance", "corr", None, "a matrix of correlations"),
        ("covariance", "cov_gt", None, ""),
    ],
)
def test_names_of_other_columns_are_refused(role, name, unit, words):
    if not words:
        check_name(role, name, "t.csv", unit)
        return
    with pytest.raises(MassmapError, match=words):
        check_name(role, name, "t.csv", unit)
