"""Units, logarithms, magnitudes and errors that could be read in two ways: read in the right one, or refused.

Each row of a table is an instance of a kind of input that once gave a wrong luminosity without a word.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, Table

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.units import (
    contradicts_name,
    has_little_h,
    log_kind,
    mass_definition_in,
    overdensity_in,
    power_at_end,
    same_unit,
    split_unit_scale,
    strip_log,
    unit_factor,
)
from massmap_jax.errors import MassmapError

Z = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
LUM = np.array([1.0, 2.1, 3.3, 0.7, 5.2, 9.0])
LN10 = np.log(10.0)
ATANH = np.arctanh  # what a symmetric bar of a fraction f is in ln L: [ln(1 + f) - ln(1 - f)] / 2


def table(lum=LUM, unit=None, name="lum", **more):
    """A table whose luminosity column has a unit; a pair (values, unit) in `more` is a column with one."""
    columns = {"z": Z, name: Column(lum, unit=u.Unit(unit, parse_strict="silent") if unit else None)}
    for key, value in more.items():
        columns[key] = (
            Column(value[0], unit=u.Unit(value[1], parse_strict="silent")) if isinstance(value, tuple) else value
        )
    return Table(columns)


def refused(source, *words, **options):
    __tracebackhide__ = True
    with pytest.raises(MassmapError) as told:
        read_catalogue(source, **options)
    text = str(told.value)
    assert not [word for word in words if word not in text], text
    assert "\n" not in text and len(text) < 900
    return text


def lum_of(catalogue):
    return np.exp(catalogue.ln_lum_obs)


# ---- scales and units


@pytest.mark.parametrize(
    ("unit", "scale", "rest"),
    [
        ("10+14Msun", 1e14, "Msun"),
        ("10+44erg/s", 1e44, "erg/s"),
        ("10-12mW/m2", 1e-12, "mW/m2"),
        ("10+37W", 1e37, "W"),
        ("10^{44} erg/s", 1e44, "erg/s"),
        ("10^(44) erg/s", 1e44, "erg/s"),
        ("10**-4", 1e-4, ""),
        ("10-4", 1e-4, ""),
        ("0.0001", 1e-4, ""),
        ("10^-12 erg/s/cm2", 1e-12, "erg/s/cm2"),
        (r"1e14 M_{\sun}", 1e14, "Msun"),
        (r"$10^{14}\,M_\odot$", 1e14, "Msun"),
        ("10¹⁴ M☉", 1e14, "Msun"),
        ("10^14^Msun", 1e14, "Msun"),
        ("5x10^13 Msun", 5e13, "Msun"),
        (r"2.5\times10^{13} Msun", 2.5e13, "Msun"),
        ("1.0E+44 erg s-1", 1e44, "erg s-1"),
        ("1D44 erg/s", 1e44, "erg/s"),
        ("1e14*Msun", 1e14, "Msun"),
        ("10+14.Msun", 1e14, "Msun"),
        ("1000 solLum", 1e3, "solLum"),
        ("%", 0.01, ""),
        ("---", 1.0, ""),
        ("erg s^-1 cm^-2", 1.0, "erg s^-1 cm^-2"),
        ("Mpc^(3/2)", 1.0, "Mpc^(3/2)"),
        ("bigmali2017 luminosity unit", 1.0, "bigmali2017 luminosity unit"),
    ],
)
def test_scales_in_every_notation(unit, scale, rest):
    found, left = split_unit_scale(unit)
    assert found == pytest.approx(scale, rel=1e-12) and left == rest
    if rest and scale != 1:
        catalogue = read_catalogue(table(unit=unit), sigma=0.1)
        np.testing.assert_allclose(lum_of(catalogue), scale * LUM, rtol=1e-12)
        assert any(f"{scale:g}" in note for note in catalogue.notes)


@pytest.mark.parametrize("text", ["10+14solMass", "10**44 erg/s", "1e-12 erg / (s cm2)", "10-4", "10+37W", "1e3 Lsun"])
def test_scales_agree_with_astropys_parsers(text):
    found = None
    for form in (None, "cds", "fits", "vounit"):
        try:
            found = u.Unit(text, format=form)
            break
        except ValueError:
            continue
    scale, rest = split_unit_scale(text)
    assert (scale * u.Unit(rest)).unit.to(found, scale) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "unit",
    [
        "10e14 Msun",
        "Msun/1e14",
        "Msun*1e14",
        "Msun x 10^14",
        "10(44)erg/s",
        "10[44] erg/s",
        "0.1-2.4 keV erg/s",
        "10+400 W",
    ],
)
def test_a_scale_that_is_not_clear_is_refused(unit):
    refused(table(), "not clear", sigma=0.1, lum_unit=unit)
    if unit != "10e14 Msun":  # which astropy's tables pass on as 1e15 Msun, as they read it
        refused(table(unit=unit), "not clear", "lum_unit", sigma=0.1)
    catalogue = read_catalogue(table(unit=unit), sigma=0.1, lum_unit="Msun", lum_scale=1e14)
    np.testing.assert_allclose(lum_of(catalogue), 1e14 * LUM)


@pytest.mark.parametrize(
    "unit",
    [
        "Msun/h",
        "h-1 Msun",
        "10+14h-1Msun",
        "1e14 h^-1 Msun",
        "Msun h^{-1}",
        "h70-1.Msun",
        "1e14 M_sun/h_70",
        "Msunh-1",
        "h^-2 erg/s",
        "solMass / littleh",
        "10^14 h^{-1} M_\\odot",
        "10¹⁴ h⁻¹ M☉",
        "Msun/(h)",
        "1e44 h70^-2 erg/s",
    ],
)
def test_little_h_in_any_notation_must_be_dealt_with(unit):
    assert has_little_h(unit)
    refused(table(unit=unit), "units with h", "lum_scale", sigma=0.1)


def test_units_without_h_have_none():
    for unit in (
        "erg/s/Hz",
        "Msun",
        "solMass",
        "W / Hz",
        "1e14 Msun",
        "photon / s",
        "M_sun",
        "Lsun",
        "Mpc2",
        "richness",
    ):
        assert not has_little_h(unit), unit


def test_lum_scale_1_means_1():
    catalogue = read_catalogue(table(unit="10+14Msun"), sigma=0.1, lum_scale=1.0)
    np.testing.assert_array_equal(catalogue.ln_lum_obs, np.log(LUM))
    assert same_unit(catalogue.lum_unit, "1e14 Msun")
    catalogue = read_catalogue(table(), sigma=0.1, lum_scale=1.0, lum_unit="1e44 erg/s")
    np.testing.assert_array_equal(catalogue.ln_lum_obs, np.log(LUM))
    assert catalogue.lum_unit == "1e44 erg/s"
    refused(table(unit="10+14Msun"), "holds a scale", "1e+13", "lum_unit", sigma=0.1, lum_scale=1e13)


def test_another_unit_of_the_same_kind_is_a_contradiction():
    refused(table(unit="10+14Msun"), "1e+14", "lum_in", sigma=0.1, lum_unit="Msun")
    refused(table(unit="1e37 W"), "lum_in='1e42 erg/s'", sigma=0.1, lum_unit="1e42 erg/s")
    note = [n for n in read_catalogue(table(unit="1e37 W"), sigma=0.1, lum_unit="1e44 erg/s").notes if "as given" in n]
    assert note


def test_linear_columns_are_the_logarithm_of_what_they_were():
    for scale in (1.0, 1e14, 1 / 0.7):
        catalogue = read_catalogue(table(), sigma=0.1, lum_scale=scale, lum_unit="keV")
        np.testing.assert_array_equal(catalogue.ln_lum_obs, np.log(scale * LUM))


@pytest.mark.parametrize(
    ("unit", "lum_in", "factor"),
    [
        ("1e37 W", "1e44 erg/s", 1.0),
        ("10+37W", "erg/s", 1e44),
        ("10+14Msun", "1e12 Msun", 100.0),
        ("1e44 erg/s", "Lsun", 1e44 / 3.828e33),
        (None, "1e44 erg/s", 1.0),
    ],
)
def test_lum_in_converts(unit, lum_in, factor):
    catalogue = read_catalogue(table(unit=unit), sigma=0.1, lum_in=lum_in)
    np.testing.assert_allclose(lum_of(catalogue), factor * LUM, rtol=1e-12)
    assert catalogue.lum_unit == lum_in
    log = {"lum": "logL", "lum_log": "log10", "lum_in": lum_in, "sigma": 0.1}
    same = read_catalogue(table(np.log10(LUM), unit, "logL"), **log)
    np.testing.assert_allclose(same.ln_lum_obs, catalogue.ln_lum_obs, rtol=1e-12, atol=1e-12)


def test_lum_in_of_another_kind_is_refused():
    refused(table(unit="10+14Msun"), "not a multiple", "lum_in", sigma=0.1, lum_in="erg/s")


def test_units_are_compared_across_notations():
    assert same_unit("10+44erg/s", "1e44 erg s-1") and same_unit("10^{14} M_{\\odot}", "10+14solMass")
    assert unit_factor("10+37W", "erg/s") == pytest.approx(1e44)
    assert unit_factor("10+14Msun", "1e44 erg/s") is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [("L500 [1e44 erg/s]", "1e44 erg/s"), ("M500 (10^14 Msun)", "10^14 Msun"), ("lum [10+37W]", "10+37W")],
)
def test_a_unit_in_the_name_counts(name, unit):
    catalogue = read_catalogue(table(name=name), lum=name, sigma=0.1)
    scale, rest = split_unit_scale(unit)
    np.testing.assert_allclose(lum_of(catalogue), scale * LUM)
    assert catalogue.lum_unit == rest and any("name" in note for note in catalogue.notes)


# ---- logarithms


@pytest.mark.parametrize(
    "name",
    ["logL", "log_lambda", "LOGM500", "lgMass", "lg_m", "M500_log", "mass_log10", "log10Y", "xrayLogL", "lum_dex"],
)
@pytest.mark.parametrize(
    "values", [np.log10(LUM) + 0.2, np.log10(LUM) + 1.4, np.log10(LUM) + 44], ids=["0", "1.4", "44"]
)
def test_a_logarithm_by_name_is_asked_about_whatever_its_range(name, values):
    refused(table(values, name=name), repr(name), "lum_log='log10'", "lum_log='none'", lum=name, sigma=0.1)
    catalogue = read_catalogue(table(values, name=name), lum=name, sigma=0.1, lum_log="log10")
    np.testing.assert_allclose(catalogue.ln_lum_obs, values * LN10)


@pytest.mark.parametrize("name", ["ln_lambda", "lnL", "lnM500", "ln", "LN_LUM", "lnlambda"])
def test_a_natural_logarithm_by_name(name):
    refused(table(np.log(LUM * 20), name=name), "lum_log='ln'", lum=name, sigma=0.1)
    catalogue = read_catalogue(table(np.log(LUM * 20), name=name), lum=name, sigma=0.1, lum_log="ln")
    np.testing.assert_allclose(lum_of(catalogue), 20 * LUM)
    linear = read_catalogue(table(20 * LUM, name=name), lum=name, sigma=0.1, lum_log="none")
    np.testing.assert_array_equal(linear.ln_lum_obs, np.log(20 * LUM))


def test_names_that_only_contain_the_letters():
    for name in (
        "catalog_flux",
        "catalogue_lum",
        "morphology_l",
        "analog",
        "lnum_x",
        "logo",
        "cosmologyL",
        "flag_lum",
        "image_l",
    ):
        assert read_catalogue(table(name=name), lum=name, sigma=0.1).usable.all(), name


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.array([43.1, 44.2, 44.3, 44.4, 43.9, 44.0]), {"lum_unit": "erg/s"}),
        (np.array([13.1, 14.2, 14.3, 14.4, 13.9, 14.0]), {"lum_unit": "Msun"}),
        (np.array([0.1, 0.9, 1.3, 1.7, 0.5, 0.2]), {"lum_unit": "erg/s"}),  # a logarithm, or 1e44 forgotten
        (np.array([36.2, 37.1, 36.6, 36.9, 36.5, 36.0]), {"lum_unit": "W"}),
        (np.array([-0.3, 0.4, 0.9, -0.1, -1.2, 0.2]), {}),
        (np.array([43.1, 44.2, 44.3, 44.4, 43.9, 44.0]), {}),
        (np.array([10.1, 10.4, 11.0, 10.9, 10.6, 10.3]), {}),
    ],
)
def test_values_that_look_like_logarithms_are_asked_about(values, options):
    refused(table(values), "looks like log10", "lum_log='none'", sigma=0.1, **options)
    read_catalogue(table(values), sigma=0.1, lum_log="none", **options)
    read_catalogue(table(values), sigma=0.1, lum_log="log10", **options)


def test_linear_values_declared_logarithms_are_refused():
    refused(table(LUM * 1e4), "does not look like a logarithm", sigma=0.1, lum_log="log10")
    refused(table(LUM * 1e44), "does not look like a logarithm", sigma=0.1, lum_log="ln")


@pytest.mark.parametrize(
    ("unit", "kind", "inside"),
    [
        ("[solMass]", "log10", "solMass"),
        ("log(Msun)", "log10", "Msun"),
        ("log10(10^14 Msun)", "log10", "10^14 Msun"),
        ("dex(solLum)", "log10", "solLum"),
        ("dex", "log10", ""),
        ("log(M/Msun)", "log10", "Msun"),
        ("[10+7W]", "log10", "10+7W"),
        ("ln(Lsun)", "ln", "Lsun"),
    ],
)
def test_logarithmic_units(unit, kind, inside):
    assert log_kind(unit) == kind and strip_log(unit) == inside
    refused(table(unit=unit), "logarithmic unit", f"lum_log='{kind}'", sigma=0.1)
    catalogue = read_catalogue(table(unit=unit), sigma=0.1, lum_log=kind)
    scale, rest = split_unit_scale(inside)
    np.testing.assert_allclose(catalogue.ln_lum_obs, LUM * (LN10 if kind == "log10" else 1) + np.log(scale))
    assert catalogue.lum_unit == rest


# ---- magnitudes


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("M_r", "ABmag"),
        ("L", "mag"),
        ("x", "mag(AB)"),
        ("mag_i", None),
        ("rmag", None),
        ("MAG_AUTO", None),
        ("cModelMag_r", None),
    ],
)
def test_magnitudes_are_refused_with_the_mode_that_reads_them(name, unit):
    values = np.array([17.1, 18.2, 16.9, 19.4, 17.7, 18.0])
    refused(
        table(values, unit, name), "magnitudes='absolute'", "magnitudes='apparent'", "mag_zero", lum=name, sigma=0.1
    )


def test_absolute_magnitudes():
    mag = np.array([-21.0, -22.5, -23.0, -20.1, np.nan, 99.0])
    sun = {"lum": "M_r", "magnitudes": "absolute", "mag_zero": 4.65}
    catalogue = read_catalogue(
        table(mag, None, "M_r", e=np.full(6, 0.1)), sigma="e", sigma_kind="mag", lum_unit="Lsun", **sun
    )
    np.testing.assert_allclose(lum_of(catalogue)[:4], 10 ** (-0.4 * (mag[:4] - 4.65)))
    np.testing.assert_allclose(catalogue.sigma_ln_lum[:4], 0.04 * LN10)
    assert catalogue.flag[4] == Flag.LUM_MISSING and catalogue.flag[5] & Flag.LUM_SENTINEL
    assert catalogue.lum_unit == "Lsun"
    np.testing.assert_allclose(read_catalogue(table(mag, "ABmag", "M_r"), sigma=0.2, **sun).sigma_ln_lum, 0.08 * LN10)


def test_apparent_magnitudes_with_distance_modulus_and_k_correction():
    from astropy.cosmology import Planck18

    mag = np.array([17.1, 18.2, 16.9, 19.4, 17.7, 18.0])
    options = {"magnitudes": "apparent", "mag_zero": 4.65, "sigma": 0.1, "lum": "rmag"}
    absolute = mag - Planck18.distmod(Z).value
    catalogue = read_catalogue(table(mag, None, "rmag"), **options)
    np.testing.assert_allclose(catalogue.ln_lum_obs, -0.4 * LN10 * (absolute - 4.65), rtol=1e-8)
    corrected = read_catalogue(table(mag, None, "rmag"), k_correction=-1.2, **options)
    np.testing.assert_allclose(corrected.ln_lum_obs - catalogue.ln_lum_obs, -1.2 * np.log1p(Z), rtol=1e-8)
    other = read_catalogue(table(mag, None, "rmag"), cosmology="H0=50,Om0=1.0,Ob0=0.05,sigma8=0.8,n_s=0.95", **options)
    assert np.all(other.ln_lum_obs > catalogue.ln_lum_obs)


def test_magnitudes_and_their_modes_contradicted():
    apparent, absolute = np.linspace(16, 18, 6), np.linspace(-22, -20, 6)
    zero = {"mag_zero": 0.0, "sigma": 0.1, "lum": "m"}
    refused(table(apparent, None, "m"), "magnitudes='apparent'", magnitudes="absolute", **zero)
    refused(table(absolute, None, "m"), "magnitudes='absolute'", magnitudes="apparent", **zero)
    refused(table(absolute, None, "m"), "zero point", magnitudes="absolute", lum="m", sigma=0.1)
    refused(table(LUM, "erg/s", "m"), "no magnitudes", magnitudes="absolute", **zero)
    refused(table(absolute, None, "m"), "lum_scale", magnitudes="absolute", lum_scale=10.0, **zero)
    refused(table(), "no effect", sigma=0.1, mag_zero=4.6)
    refused(table(absolute, None, "m"), "no effect on absolute", magnitudes="absolute", k_correction=1.0, **zero)
    refused(table(absolute, None, "m"), "must be 'absolute'", magnitudes="AB", **zero)


# ---- errors


@pytest.mark.parametrize(
    ("source", "options", "sigma"),
    [
        # the unit decides
        (table(unit="1e44 erg/s", e=(0.1 * LUM, "1e44 erg/s")), {}, ATANH(0.1)),
        (table(unit="1e44 erg/s", e=(LUM, "1e43 erg/s")), {}, ATANH(0.1)),
        (table(unit="10+14Msun", e=(0.1 * LUM, "10+14Msun")), {}, ATANH(0.1)),
        (table(unit="1e44 erg/s", e=(0 * LUM + 10, "%")), {}, ATANH(0.1)),
        (table(e=(0 * LUM + 0.1, "dex")), {}, 0.1 * LN10),
        (table(e=(0 * LUM + 0.1, "mag")), {}, 0.04 * LN10),
        # the name decides
        (table(e_pct=0 * LUM + 10), {"sigma": "e_pct"}, ATANH(0.1)),
        (table(frac_err=0 * LUM + 0.1), {"sigma": "frac_err"}, ATANH(0.1)),
        (table(lum_err_dex=0 * LUM + 0.1), {"sigma": "lum_err_dex"}, 0.1 * LN10),
        (table(e_logL=0 * LUM + 0.1), {"sigma": "e_logL"}, 0.1 * LN10),
        (table(sigma_ln_lum=0 * LUM + 0.1), {"sigma": None}, 0.1),
        (table(sigma_lnL=0 * LUM + 0.1), {"sigma": "sigma_lnL"}, 0.1),
        # the user decides
        (table(e=0 * LUM + 10), {"sigma_kind": "percent"}, ATANH(0.1)),
        (table(e=0 * LUM + 0.1), {"sigma_kind": "fraction"}, ATANH(0.1)),
        (table(e=0 * LUM + 0.1), {"sigma_kind": "mag"}, 0.04 * LN10),
        (table(e=0.1 * LUM), {"sigma_kind": "linear"}, ATANH(0.1)),
        (table(), {"sigma": 0.1}, 0.1),
        (table(), {"sigma": 10, "sigma_kind": "percent"}, ATANH(0.1)),
    ],
)
def test_what_errors_are_in(source, options, sigma):
    catalogue = read_catalogue(source, **{"sigma": "e", **options})
    np.testing.assert_allclose(catalogue.sigma_ln_lum, sigma, rtol=1e-12)
    if "sigma_kind" not in options:
        assert any("luminosity error" in note or "sigma column" in note for note in catalogue.notes)


@pytest.mark.parametrize("name", ["e", "e_lum", "lum_err", "sigma"])
@pytest.mark.parametrize("pair", [False, True], ids=["one", "pair"])
def test_errors_that_say_nothing_are_asked_about(name, pair):
    source = table(**{name: 0.1 * LUM, "low": 0.1 * LUM})
    how = {"sigma_plus": name, "sigma_minus": "low"} if pair else {"sigma": name}
    text = refused(source, repr(name), "'ln'", "'dex'", "'linear'", "median", "sigma_kind", **how)
    assert "10 %" in text  # what 'linear' would make of it


@pytest.mark.parametrize("log", ["log10", "ln"])
@pytest.mark.parametrize("way", ["column", "number", "pair", "guessed"])
def test_errors_of_a_logarithm_are_in_it_however_they_are_given(log, way):
    source = table(LUM + 40, name="L", e_L=0 * LUM + 0.1, low=0 * LUM + 0.1)
    how = {"column": {"sigma": "e_L"}, "number": {"sigma": 0.1}, "guessed": {}}
    how["pair"] = {"sigma_plus": "e_L", "sigma_minus": "low"}
    catalogue = read_catalogue(source, lum="L", lum_log=log, **how[way])
    np.testing.assert_allclose(catalogue.sigma_ln_lum, 0.1 * (LN10 if log == "log10" else 1))


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (table(), {}, ("no column", "error", "sigma=")),
        (table(lum_uncert=0.1 * LUM), {}, ("lum_uncert", "may be it")),
        (table(unit="Msun", e=(LUM, "erg/s")), {"sigma": "e", "lum_log": "none"}, ("'erg / s'", "'solMass'")),
        (table(e=(LUM, "erg/s")), {"sigma": "e"}, ("'erg / s'", "lum_unit")),
        (table(e=(0 * LUM + 0.1, "dex")), {"sigma": "e", "sigma_kind": "ln"}, ("in dex", "leave sigma_kind out")),
        (table(e=(10 + 0 * LUM, "%")), {"sigma": "e", "sigma_kind": "linear"}, ("per cent", "leave sigma_kind out")),
        (
            table(unit="1e14 Msun", e=(0.1 * LUM, "1e14 Msun")),
            {"sigma": "e", "sigma_kind": "ln"},
            ("bars", "sigma_kind"),
        ),
        (table(e=0 * LUM + 8), {"sigma": "e", "sigma_kind": "fraction"}, ("'percent'",)),
        (table(e=0 * LUM + 0.08), {"sigma": "e", "sigma_kind": "percent"}, ("'fraction'",)),
        (table(e=10 + 0 * LUM), {"sigma": "e", "sigma_kind": "ln"}, ("percent", "median")),
        (table(1e44 * LUM, e=0.1 * LUM), {"sigma": "e", "sigma_kind": "linear"}, ("too short", "fraction")),
        (table(1e14 * LUM, e=10 + 0 * LUM), {"sigma": "e", "sigma_kind": "linear"}, ("too short", "percent")),
        (
            table(100 * LUM, e=[0.08, 0.1, 0.09, 0.11, 0.1, 0.08]),
            {"sigma": "e", "sigma_kind": "linear"},
            ("too short",),
        ),
        (table(e=0 * LUM), {"sigma": "e", "sigma_kind": "linear"}, ("0 in all 6 rows", "sigma=0")),
        (table(SNR=10 + 0 * LUM), {"sigma": "SNR"}, ("signal-to-noise",)),
        (table(lum_ivar=10 + 0 * LUM), {"sigma": "lum_ivar"}, ("variance",)),
        (table(e=3 * LUM), {"sigma": "e", "sigma_kind": "linear"}, ("longer than the luminosity", "bounds")),
        (table(e=LUM), {"sigma": "e", "sigma_kind": "bounds"}, ("sigma_plus", "sigma_minus")),
    ],
)
def test_errors_that_cannot_be_are_refused(source, options, words):
    refused(source, *words, **options)


@pytest.mark.parametrize("log", [None, "log10"])
def test_bounds_are_seen_and_read(log):
    linear = log is None
    value = LUM if linear else np.log10(LUM) + 44
    low, high = (0.9 * value, 1.2 * value) if linear else (value - 0.05, value + 0.08)
    source = table(value, name="L", low=low, high=high)
    pair = {"lum": "L", "lum_log": log, "sigma_plus": "high", "sigma_minus": "low"}
    refused(source, "bounds", "sigma_kind='bounds'", **pair)
    catalogue = read_catalogue(source, sigma_kind="bounds", **pair)
    np.testing.assert_allclose(catalogue.sigma_ln_lum, 0.5 * np.log(1.2 / 0.9) if linear else 0.065 * LN10, rtol=1e-10)
    swapped = {**pair, "sigma_plus": "low", "sigma_minus": "high"}
    refused(source, "interchanged", "6 of 6 rows", sigma_kind="bounds", **swapped)


def test_a_bound_that_is_missing_or_on_the_wrong_side_is_flagged():
    low, high = 0.9 * LUM, 1.1 * LUM
    low[1], high[2] = np.nan, 0.5 * LUM[2]
    source = table(low=low, high=high)
    catalogue = read_catalogue(source, sigma_plus="high", sigma_minus="low", sigma_kind="bounds")
    assert catalogue.flag[1] & Flag.SIGMA_MISSING and catalogue.flag[2] & Flag.SIGMA_NEGATIVE
    assert catalogue.usable.sum() == 4


@pytest.mark.parametrize("kind", ["linear", "ln", "dex", "fraction", "percent", "mag"])
def test_zero_among_positive_errors_is_an_error_that_is_not_known(kind):
    error = 0.1 * LUM if kind == "linear" else 0 * LUM + (10 if kind == "percent" else 0.1)
    error[[0, 3]] = 0
    catalogue = read_catalogue(table(e=error), sigma="e", sigma_kind=kind)
    np.testing.assert_array_equal(catalogue.flag, [Flag.SIGMA_MISSING, 0, 0, Flag.SIGMA_MISSING, 0, 0])
    assert any("0 in 2 rows, first row 0" in note for note in catalogue.notes)
    np.testing.assert_array_equal(read_catalogue(table(), sigma=0).sigma_ln_lum, 0)


def test_a_chunk_of_zero_errors_is_flagged_and_not_refused():
    catalogue = read_catalogue(table(e=0 * LUM), sigma="e", sigma_kind="linear", need_usable=False)
    assert (catalogue.flag == Flag.SIGMA_MISSING).all()


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("logL_err", "linear", "although the name of 'logL_err' says in dex"),
        ("lnL_err", "dex", "although the name of 'lnL_err' says in ln L"),
        ("e_pct", "fraction", "although the name of 'e_pct' says per cent of the luminosity"),
        ("L_ivar", "linear", "although by its name 'L_ivar' is a signal-to-noise ratio or a variance"),
        ("logL_err", "dex", ""),
        ("e_L", "linear", ""),
        ("sigma", "dex", ""),
    ],
)
def test_a_kind_that_the_name_contradicts_is_told(name, kind, told):
    notes = read_catalogue(table(**{name: 0.1 * LUM / LUM.max()}), sigma=name, sigma_kind=kind).notes
    assert ("although" in " ".join(notes)) == bool(told) and any(told in note for note in notes)


# ---- what else a column's name says


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("M500c", "500c"),
        ("M500cUnc", "500c"),
        ("M200m", "200m"),
        ("logM200m", "200m"),
        ("lnM200b", "200m"),
        ("M_500c", "500c"),
        ("MASS_200C", "200c"),
        ("Mvir", "vir"),
        ("M500crit", "500c"),
        ("Group_M_Crit200", "200c"),
        ("m_mean200", "200m"),
        ("GROUP_M_TOPHAT200", "vir"),
        ("logMcrit500", "500c"),
        ("M500", ""),
        ("M200mean", ""),
        ("dm_crit", ""),
        ("LX500c", ""),
        ("lum", ""),
    ],
)
def test_mass_definition_by_name(name, definition):
    assert mass_definition_in(name) == definition


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("L500_1e43", "1e43 erg/s"),
        ("Lx44", "1e44 erg/s"),
        ("LX_1e42_erg_s", "1e42 erg/s"),
        ("L_44_ergs", "1e44 erg/s"),
        ("L500_1e44ergs-1", "1e44 erg/s"),
        ("lum_10^45", "1e45 erg/s"),
        *((name, "") for name in ("L500", "lum_42", "L0.5_2", "lambda_44", "M_1e43", "L1e3", "l4", "Lx_4")),
    ],
)
def test_the_power_of_ten_of_a_luminosity_by_its_name(name, unit):
    assert power_at_end(name) == unit


def test_the_mass_definition_is_a_label_where_the_observable_is_a_mass():
    assert read_catalogue(table(name="M500c", unit="10+14Msun"), lum="M500c", sigma=0.1).mass_definition == "500c"
    assert (
        read_catalogue(table(name="M500c", unit="erg/s"), lum="M500c", lum_log="none", sigma=0.1).mass_definition == ""
    )
    assert read_catalogue(table(), sigma=0.1).mass_definition == ""
    catalogue = read_catalogue(table(name="M200m"), lum="M200m", sigma=0.1)
    assert catalogue.subset([0, 1]).mass_definition == "200m"


@pytest.mark.parametrize("name", ["z_err", "e_z", "redshift_err", "zerr", "sigma_z", "Z_E", "dz"])
def test_redshift_errors_are_said_to_be_unused(name):
    notes = read_catalogue(table(**{name: 0.01 + 0 * Z}), sigma=0.1).notes
    assert any("redshift errors" in note and repr(name) in note for note in notes)


def test_other_columns_are_no_redshift_errors():
    notes = read_catalogue(table(dec=Z, ra=Z, deltaz_flag=Z, e_ra=Z, zeta=Z), sigma=0.1).notes
    assert not any("redshift errors" in note for note in notes)


@pytest.mark.parametrize("fill", [1e20, 9.969209968386869e36, np.float32(9.96921e36), np.finfo(np.float32).max])
def test_fill_values_of_other_programs_are_flagged(fill):
    lum = np.array([1.0, 2.0, 3.0, 4.0, 5.0, float(fill)])
    catalogue = read_catalogue(Table({"lum": lum, "z": Z}), lum="lum", sigma=0.1)
    assert catalogue.usable.tolist() == [True] * 5 + [False] and catalogue.flag[5] == Flag.LUM_SENTINEL
    like = float(fill) * np.array([0.5, 0.8, 1.1, 1.3, 2.0, 1.0])
    among_its_like = read_catalogue(Table({"lum": like, "z": Z}), lum="lum", sigma=0.1)
    assert among_its_like.usable.all()


# ---- layouts


def test_layouts_of_the_public_catalogues(public_data):
    act = read_catalogue(public_data / "act_dr3" / "E-D56Clusters.fits", columns="act")
    assert len(act) == 182 and act.usable.all() and act.mass_definition == "500c" and act.lum_unit == "Msun"
    by_hand = read_catalogue(
        public_data / "act_dr3" / "E-D56Clusters.fits",
        lum="M500cUnc",
        sigma_plus="M500cUnc_errPlus",
        sigma_minus="M500cUnc_errMinus",
        sigma_kind="linear",
        lum_unit="1e14 Msun",
    )
    np.testing.assert_array_equal(act.ln_lum_obs, by_hand.ln_lum_obs)
    np.testing.assert_array_equal(act.sigma_ln_lum, by_hand.sigma_ln_lum)
    assert any("columns='act'" in note for note in by_hand.notes)
    refused(public_data / "act_dr3" / "E-D56Clusters.fits", "columns='act' reads them")
    spt = read_catalogue(public_data / "spt" / "SPT2500d.fits", columns="spt")
    raw = Table.read(public_data / "spt" / "SPT2500d.fits")
    known = np.asarray(raw["M500"]) > 0
    np.testing.assert_array_equal(spt.usable, known)
    np.testing.assert_allclose(np.exp(spt.ln_lum_obs[known]), 1e14 * np.asarray(raw["M500"], float)[known], rtol=1e-12)
    assert spt.mass_definition == "500c" and spt.key_number is not None


POSITION = {"RA": 10 * Z, "DEC": Z}
LOOK_ALIKES = {
    "redmapper": (
        {**POSITION, "ID": range(6), "Z_LAMBDA": Z, "LAMBDA": 20 + LUM, "LAMBDA_ERR": 2 + 0 * LUM},
        "richness",
        20 + LUM,
    ),
    "psz2": (
        {
            **POSITION,
            "NAME": list("abcdef"),
            "REDSHIFT": Z,
            "MSZ": LUM,
            "MSZ_ERR_UP": 0.1 * LUM,
            "MSZ_ERR_LOW": 0.1 * LUM,
        },
        "Msun",
        1e14 * LUM,
    ),
    "erass1": (
        {**POSITION, "NAME": list("abcdef"), "BEST_Z": Z, "L500": LUM, "L500_L": 0.9 * LUM, "L500_H": 1.1 * LUM},
        "erg/s",
        1e42 * LUM,
    ),
    "act_dr5": (
        {"RADeg": Z, "decDeg": Z, "name": list("abcdef"), "redshift": Z, "M500cUncorr": LUM}
        | {"M500cUncorr_errPlus": 0.1 * LUM, "M500cUncorr_errMinus": 0.1 * LUM},
        "Msun",
        1e14 * LUM,
    ),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_layouts_of_look_alikes(name):
    columns, unit, lum = LOOK_ALIKES[name]
    catalogue = read_catalogue(Table(columns), columns=name)
    np.testing.assert_allclose(lum_of(catalogue), lum)
    assert catalogue.lum_unit == unit and catalogue.usable.all() and catalogue.ra is not None
    short = {key: value for key, value in columns.items() if key not in ("Z_LAMBDA", "REDSHIFT", "BEST_Z", "redshift")}
    refused(Table(short), f"columns={name!r}", "for z", columns=name)


def test_what_is_given_beside_a_layout_takes_its_place():
    columns, _, _ = LOOK_ALIKES["psz2"]
    catalogue = read_catalogue(Table({**columns, "Y": LUM}), columns="psz2", lum="Y", sigma=0.1)
    assert catalogue.lum_unit == "" and catalogue.mass_definition == ""
    np.testing.assert_allclose(catalogue.sigma_ln_lum, 0.1)
    refused(Table(columns), "no layout", "redmapper", columns="planck")
    mcxc = Table({"MCXC": list("abcdef"), "RAdeg": Z, "DEdeg": Z, "z": Z, "L500": Column(LUM, unit="1e37 W")})
    refused(mcxc, "sigma=", columns="mcxc")
    catalogue = read_catalogue(mcxc, columns="mcxc", sigma=0.2)
    np.testing.assert_allclose(lum_of(catalogue), LUM, rtol=1e-12)
    assert catalogue.lum_unit == "1e44 erg/s"


@pytest.mark.parametrize(
    ("name", "stated", "others"),
    [
        ("M500", "500", ("200m", "200c", "vir")),
        ("log_M500", "500", ("200m",)),
        ("M200", "200", ("500c", "vir")),
        ("MASS2500", "2500", ("500c",)),
        ("M500kpc", "", ()),
        ("M_500_kpc", "", ()),
        ("M_lens", "", ()),
        ("M_gas500", "", ()),
        ("SIM200", "", ()),
    ],
)
def test_overdensity_by_name(name, stated, others):
    assert overdensity_in(name) == stated
    contradicted = [d for d in ("200m", "200c", "500c", "2500c", "vir") if contradicts_name(d, name)]
    assert set(others) <= set(contradicted)
    assert not any(d.rstrip("mc") == stated for d in contradicted) and (stated or not contradicted)
