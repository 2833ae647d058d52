"""HaloCatalogue: values checked and flagged, positions, ids and their hashes."""

import hashlib

import numpy as np
import pytest

from massmap_jax.catalogue.flags import UNUSABLE, Flag, count, describe, describe_all, summary_lines
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue, id_hash
from massmap_jax.catalogue.units import (
    has_little_h,
    is_log_unit,
    mass_from_msun_h,
    name_has_little_h,
    sigma_ln_from_bars,
    split_unit_scale,
    strip_log,
)
from massmap_jax.errors import MassmapError

GOOD = {"luminosity": [10.0, 20.0, 30.0], "redshift": [0.1, 0.2, 0.3], "sigma_ln_luminosity": 0.05}


@pytest.mark.parametrize(
    ("column", "value", "flag"),
    [
        ("luminosity", np.nan, Flag.LUM_MISSING),
        ("luminosity", np.inf, Flag.LUM_MISSING),
        ("luminosity", -99.0, Flag.LUM_SENTINEL),
        ("luminosity", -1.0, Flag.LUM_SENTINEL),
        ("luminosity", -2.5, Flag.LUM_NOT_POSITIVE),
        ("luminosity", 0.0, Flag.LUM_NOT_POSITIVE),
        ("luminosity", 99.0, Flag.OK),
        ("redshift", np.nan, Flag.Z_MISSING),
        ("redshift", -np.inf, Flag.Z_MISSING),
        ("redshift", -1.0, Flag.Z_SENTINEL),
        ("redshift", 99.0, Flag.Z_SENTINEL),
        ("redshift", -0.01, Flag.Z_NEGATIVE),
        ("redshift", 0.0, Flag.OK),
        ("sigma_ln_luminosity", np.nan, Flag.SIGMA_MISSING),
        ("sigma_ln_luminosity", -0.1, Flag.SIGMA_NEGATIVE),
        ("sigma_ln_luminosity", 99.0, Flag.SIGMA_MISSING),
        ("sigma_ln_luminosity", 0.0, Flag.OK),
        ("ra", np.nan, Flag.POSITION_BAD),
        ("ra", 9999.0, Flag.POSITION_BAD),
        ("dec", -99.0, Flag.POSITION_BAD),
    ],
)
def test_one_bad_value_is_flagged_and_its_row_kept(column, value, flag):
    columns = {**GOOD, "sigma_ln_luminosity": [0.1, 0.1, 0.1], "ra": [1.0, 2.0, 3.0], "dec": [4.0, 5.0, 6.0]}
    columns[column] = [*columns[column][:1], value, *columns[column][2:]]
    catalogue = HaloCatalogue.from_arrays(**columns)
    np.testing.assert_array_equal(catalogue.flag, [0, int(flag), 0])
    assert catalogue.usable[1] == (flag in (Flag.OK, Flag.POSITION_BAD))
    kept = {
        "luminosity": catalogue.ln_lum_obs,
        "redshift": catalogue.redshift,
        "sigma_ln_luminosity": catalogue.sigma_ln_lum,
        "ra": catalogue.ra,
        "dec": catalogue.dec,
    }[column]
    assert np.isnan(kept[1]) == (flag != Flag.OK)
    assert not np.isnan(kept[[0, 2]]).any()


@pytest.mark.parametrize("dtype", [">f8", ">f4", "f4", "i4", ">i2", "u8", "O", "U8", "S8"])
def test_any_number_type_becomes_native_float64(dtype):
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.array([1, 2, 4]).astype(dtype), redshift=[0.1, 0.2, 0.3], sigma_ln_luminosity=0.05
    )
    assert catalogue.ln_lum_obs.dtype == np.dtype(np.float64) and catalogue.ln_lum_obs.dtype.isnative
    np.testing.assert_allclose(catalogue.ln_lum_obs, np.log([1, 2, 4]))


def test_an_error_that_is_not_given_is_told_of(recwarn):
    with pytest.warns(UserWarning, match=r"no error of the luminosity is given: 0.05 in ln L is taken"):
        silent = HaloCatalogue.from_arrays(luminosity=[1.0, 2.0], redshift=[0.1, 0.2])
    assert (silent.sigma_ln_lum == 0.05).all() and "no error of the luminosity" in silent.notes[0]
    recwarn.clear()
    assert HaloCatalogue.from_arrays(**GOOD).notes == ()
    HaloCatalogue.from_arrays(luminosity=[1.0], redshift=[0.1], sigma_luminosity=0.5, noise_kind="normal")
    assert not recwarn.list


def test_masked_and_nullable_values_are_missing():
    import pandas as pd

    masked = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])
    nullable = pd.Series([1, None, 3], dtype="Int64")
    for values in (masked, masked.astype(int), nullable, [1.0, None, 3.0], ["1", "", "3"]):
        catalogue = HaloCatalogue.from_arrays(luminosity=values, redshift=GOOD["redshift"], sigma_ln_luminosity=0.05)
        np.testing.assert_array_equal(catalogue.flag, [0, Flag.LUM_MISSING, 0])


def test_inputs_are_copied():
    luminosity, redshift = np.ones(2), np.ones(2)
    catalogue = HaloCatalogue.from_arrays(luminosity=luminosity, redshift=redshift, sigma_ln_luminosity=np.ones(2))
    redshift[0] = 7.0
    assert catalogue.redshift[0] == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"redshift": [0.1, 0.2]}, ["redshift", "2 rows", "3"]),
        ({"luminosity": [], "redshift": []}, ["no rows"]),
        ({"luminosity": 3.0}, ["luminosity", "shape"]),
        ({"luminosity": np.ones((3, 2))}, ["luminosity", "shape (3, 2)"]),
        ({"luminosity": [1.0, "bright", "faint"]}, ["luminosity", "2 rows", "first row 1", "'bright'"]),
        ({"luminosity": [True, False, True]}, ["luminosity", "bool"]),
        ({"ids": [7, 8, 8]}, ["ids", "1 row", "first row 2", "8", "row_number"]),
        ({"ids": ["a", None, "b"]}, ["id is missing", "first row 1"]),
        ({"ra": [1.0, 2.0, 3.0]}, ["ra is given without dec"]),
        (
            {"ra": [10.0, 20.0, 30.0], "dec": [150.0, 160.0, 170.0]},
            ["3 rows", "first row 0", "150.0", "swapped", "arcmin"],
        ),
        (
            {"ra": [10.0, 200.0, 30.0], "dec": [1.0, 2.0, 3.0], "position_unit": "hourangle"},
            ["24 hours", "200.0", "deg"],
        ),
        ({"ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0], "position_unit": "furlong"}, ["furlong", "arcmin"]),
        ({"ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0], "field_centre": (1, 2)}, ["field_centre", "arcmin"]),
        ({"noise_kind": "poisson"}, ["poisson", "lognormal"]),
    ],
)
def test_what_cannot_be_a_catalogue_is_refused_with_reason(change, words):
    with pytest.raises(MassmapError) as told:
        HaloCatalogue.from_arrays(**{**GOOD, **change})
    for word in words:
        assert word in str(told.value)


def test_right_ascension_wraps_and_hours_become_degrees():
    where = {"ra": [-10.0, 370.0, -1e-14], "dec": [0.0, 0.0, 0.0]}
    np.testing.assert_allclose(HaloCatalogue.from_arrays(**GOOD, **where).ra, [350.0, 10.0, 0.0])
    hours = HaloCatalogue.from_arrays(**GOOD, ra=[0.0, 12.0, 23.5], dec=[1, 2, 3], position_unit="hourangle")
    np.testing.assert_allclose(hours.ra, [0.0, 180.0, 352.5])
    suspect = HaloCatalogue.from_arrays(**GOOD, ra=[0.0, 12.0, 23.5], dec=[-60, 2, 60])
    assert "hourangle" in suspect.notes[0]


@pytest.mark.parametrize("centre", [(0.1, 0.0), (150.0, 2.2), (10.0, 89.9), (200.0, -90.0)])
def test_offsets_agree_with_astropys_tangent_plane(centre):
    from astropy.wcs import WCS

    x, y = np.array([-30.0, 0.0, 25.0]), np.array([12.0, 0.0, -100.0])
    catalogue = HaloCatalogue.from_arrays(**GOOD, ra=x, dec=y, position_unit="arcmin", field_centre=centre)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (
        ["RA---TAN", "DEC--TAN"],
        centre,
        [0, 0],
        [1 / 60, 1 / 60],
    )
    ra, dec = wcs.wcs_pix2world(np.c_[x, y], 1).T  # pixels of one arcmin, counted from the centre
    np.testing.assert_allclose(catalogue.dec, dec, atol=1e-10)
    apart = (catalogue.ra - ra + 180.0) % 360.0 - 180.0
    np.testing.assert_allclose(apart * np.cos(np.deg2rad(dec)), 0.0, atol=1e-10)
    assert catalogue.frame == "sky"


def test_offsets_without_a_centre_stay_flat():
    catalogue = HaloCatalogue.from_arrays(
        **GOOD, ra=[-200.0, 0.0, 5.0], dec=[-95.0, 3.0, 400.0], position_unit="arcmin"
    )
    assert catalogue.frame == "flat" and catalogue.usable.all() and not catalogue.flag.any()
    np.testing.assert_array_equal(catalogue.dec, [-95.0, 3.0, 400.0])


def test_ids_of_any_type_are_kept():
    for ids in (["a", "b", "ü"], [3, 1, 2**62], np.array([b"x", b"y", b"z"]), ["1", 2, 3.5]):
        catalogue = HaloCatalogue.from_arrays(**GOOD, ids=ids)
        kept = catalogue.ids.tolist()
        assert kept == [x.decode() if isinstance(x, bytes) else x for x in np.asarray(ids, dtype=object).tolist()]
    np.testing.assert_array_equal(HaloCatalogue.from_arrays(**GOOD).ids, [0, 1, 2])


def test_hash_is_blake2b_of_the_id_as_text_whatever_its_type():
    expected = hashlib.blake2b(b"7", digest_size=8).digest()
    for ids in (
        [7],
        np.array([7], "i4"),
        np.array([7], ">i8"),
        ["7"],
        np.array([b"7"]),
        [7.0],
        np.array([7], object),
    ):
        high, low = id_hash(ids)[0]
        assert int(high).to_bytes(4, "big") + int(low).to_bytes(4, "big") == expected
    hashes = id_hash(np.arange(100_000))
    assert hashes.dtype == np.uint32 and len(np.unique(hashes, axis=0)) == 100_000


def test_repeated_ids_fall_back_to_row_numbers_that_follow_the_row():
    catalogue = HaloCatalogue.from_arrays(**GOOD, ids=["a", "a", "b"], duplicate_ids="row_number")
    assert catalogue.ids.tolist() == ["a", "a", "b"]
    np.testing.assert_array_equal(catalogue.hashes, id_hash([0, 1, 2]))
    np.testing.assert_array_equal(catalogue.subset([2, 1]).hashes, id_hash([2, 1]))


def test_subset_takes_every_column_along():
    catalogue = HaloCatalogue.from_arrays(
        **GOOD,
        ra=[1, 2, 3],
        dec=[4, 5, 6],
        ids=["a", "b", "c"],
        truth_mass=[1e13, 1e14, 0.0],
        lum_unit="Lsun",
    )
    for index in (np.array([False, True, True]), slice(1, None), [1, 2], np.array([1, 2])):
        part = catalogue.subset(index)
        assert len(part) == 2 and part.ids.tolist() == ["b", "c"] and part.lum_unit == "Lsun"
        np.testing.assert_array_equal(part.hashes, catalogue.hashes[1:])
        np.testing.assert_array_equal(part.ra, [2.0, 3.0])
        np.testing.assert_allclose(part.truth_ln_mass, [np.log(1e14), np.nan])
    assert len(catalogue.subset(1)) == 1


def test_flags_are_described_and_counted():
    flags = np.array([0, Flag.LUM_MISSING, Flag.LUM_MISSING | Flag.Z_NEGATIVE, Flag.EDGE])
    assert describe(0) == "" and describe(flags[2]) == "LUM_MISSING|Z_NEGATIVE"
    assert describe_all(flags).tolist() == ["", "LUM_MISSING", "LUM_MISSING|Z_NEGATIVE", "EDGE"]
    assert count(flags) == {"LUM_MISSING": 2, "Z_NEGATIVE": 1, "EDGE": 1}
    assert "4 rows, 2 with a mass, 2 without" in summary_lines(flags)[0]
    assert all(describe(bit) == bit.name for bit in Flag if bit)
    kept = Flag.POSITION_BAD | Flag.EDGE | Flag.OUTSIDE_RELATION | Flag.NOT_CONVERGED | Flag.NO_LUMINOSITY
    assert ~UNUSABLE & sum(Flag) == kept


def test_units():
    np.testing.assert_allclose(mass_from_msun_h([7e13], 0.7), [1e14])
    with pytest.raises(MassmapError, match=r"0\.7"):
        mass_from_msun_h(1e14, 70)
    # L = 10 with bars +5 and -5: the log interval is ln 1.5 - ln 0.5 = ln 3.
    np.testing.assert_allclose(sigma_ln_from_bars(10.0, 5.0, 5.0), 0.5 * np.log(3.0))
    np.testing.assert_allclose(sigma_ln_from_bars(10.0, 0.01, 0.01), 0.001, rtol=1e-6)
    assert np.isnan(sigma_ln_from_bars([10.0, -1.0, 10.0], 1.0, [10.0, 0.1, -1.0])).all()
    assert split_unit_scale("1e14 Msun") == (1e14, "Msun")
    assert split_unit_scale("1e+14 solMass") == (1e14, "solMass")
    assert split_unit_scale("10**44 erg / s") == (1e44, "erg / s")
    assert split_unit_scale("Lsun") == (1.0, "Lsun") and split_unit_scale("") == (1.0, "")
    assert all(
        map(
            has_little_h,
            [
                "Msun/h",
                "solMass / h",
                "h-1 Msun",
                "h^-1 Msun",
                "Msun h**-1",
                "1e14 Msun/h70",
                "Msun h_{70}^{-1}",
            ],
        )
    )
    assert not any(map(has_little_h, ["Msun", "erg / s", "ph / s", "photon/s", ""]))
    assert all(map(name_has_little_h, ["mass_msun_h", "M200_Msun/h", "lum_Msunh", "mass_solmass_per_h"]))
    assert not any(map(name_has_little_h, ["mass", "M500cUnc", "msun_halo", "lum", "host_mass_msun"]))
    assert all(map(is_log_unit, ["dex(solMass)", "log10(erg/s)", "mag", "[solMass]", "log Msun"]))
    assert not any(map(is_log_unit, ["solMass", "1e14 Msun", "Lsun", ""]))
    assert (
        strip_log("dex(solMass)") == "solMass" and strip_log("[solMass]") == "solMass" and strip_log("Msun") == "Msun"
    )
