"""Tables as an astronomer meets them, in other notations than the tests that came first: a true answer, or a refusal.

Each test is a table of instances. A refusal is one sentence, and the words that show the way are quoted from it.
"""

import bz2
import gzip

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.read import read_catalogue, read_relation
from massmap_jax.catalogue.tables import open_table
from massmap_jax.errors import MassmapError
from massmap_jax.scale.chunks import Chunks


def read(tmp_path, source, **options):
    """Read a table in memory, or the text of a file."""
    if isinstance(source, (str, bytes)):
        path = tmp_path / "o.txt"
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        source = path
    if "sigma" not in options and "sigma_plus" not in options:
        options["sigma"] = 0.1
    return read_catalogue(source, **options)


def refused(words, call, *given, **options):
    with pytest.raises(MassmapError) as told:
        call(*given, **options)
    sentence = str(told.value)
    assert "\n" not in sentence and len(sentence) < 600, sentence
    for word in words:
        assert word in sentence, sentence


def luminosity(catalogue):
    return np.exp(np.asarray(catalogue.ln_lum_obs))


# ---- relations: no weight is dropped, and no logarithm to base 10 is taken for a natural one

DRAWS = {"alpha1": [1.0, 1.1, 1.2], "alpha2": [0.8, 0.9, 1.0], "alpha3": [3e14] * 3, "alpha4": [0.0, 0.1, 0.2]}
DRAWS["scatter"] = [0.2, 0.25, 0.3]


def relation_file(tmp_path, columns, index=False):
    path = tmp_path / "relation.csv"
    pd.DataFrame(columns).to_csv(path, index=index)
    return path


@pytest.mark.parametrize("name", ["weight", "Weight", "WEIGHTS", "wt", "mult", "multiplicity", "importance_weight"])
def test_weights_by_name(tmp_path, name):
    found = read_relation(relation_file(tmp_path, DRAWS | {name: [1.0, 2.0, 0.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, np.log(2.0), -np.inf])


@pytest.mark.parametrize("name", ["logw", "lnw", "logwt", "log_weight", "ln_w", "logweights"])
def test_logarithms_of_weights_by_name(tmp_path, name):
    found = read_relation(relation_file(tmp_path, DRAWS | {name: [0.0, -1.0, -2.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, -1.0, -2.0])


@pytest.mark.parametrize(
    "name",
    [
        *("posterior_weight", "prior_weight", "like_weight", "post_wt", "chi2_weight", "sample_weight", "w", "wgt"),
        *("counts", "log10_weight", "ln(weight)", "temperature"),
    ],
)
def test_a_column_that_may_be_a_weight_is_never_dropped(tmp_path, name):
    file = relation_file(tmp_path, DRAWS | {name: [1.0, 2.0, 0.0]})
    refused([repr(name), "relation_columns"], read_relation, file)
    found = read_relation(file, columns={"weight": name})
    np.testing.assert_allclose(found["log_weight"], [0.0, np.log(2.0), -np.inf])


@pytest.mark.parametrize("beside", ["logL_birth", "nlive", "logz", "logvol", "lnZ"])
def test_draws_of_nested_samplers_need_their_weights(tmp_path, beside):
    columns = DRAWS | {beside: [3.0, 2.0, 1.0]}
    refused([repr(beside)], read_relation, relation_file(tmp_path, columns))
    found = read_relation(relation_file(tmp_path, columns | {"logwt": [0.0, -1.0, -2.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, -1.0, -2.0])


def test_the_index_that_pandas_writes_is_no_parameter(tmp_path):
    notes = []
    found = read_relation(relation_file(tmp_path, DRAWS, index=True), notes=notes)
    np.testing.assert_allclose(found["scatter"], DRAWS["scatter"])
    assert any("the unnamed index" in note for note in notes)


@pytest.mark.parametrize("name, unit", [("scatter", "dex"), ("alpha1", "dex"), ("scatter", "dex(erg/s)")])
def test_parameters_in_dex_by_their_unit_are_refused(tmp_path, name, unit):
    table = Table(DRAWS)
    table[name].unit = unit
    table.write(tmp_path / "relation.ecsv")
    refused([name, "2.302585"], read_relation, tmp_path / "relation.ecsv")


@pytest.mark.parametrize("column", ["scatter_dex", "sigma_log10", "dex"])
def test_parameters_in_dex_by_their_name_are_refused(tmp_path, column):
    draws = {column if name == "scatter" else name: values for name, values in DRAWS.items()}
    refused(["dex"], read_relation, relation_file(tmp_path, draws), columns={"scatter": column})


def test_a_parameter_that_is_there_twice_is_to_be_renamed(tmp_path):
    path = tmp_path / "relation.csv"
    path.write_text("alpha1,alpha2,alpha3,alpha4,scatter,alpha1\n1,.8,3e14,0,.2,5\n")
    refused(["rename"], read_relation, path)


# ---- units of the luminosity: the scale as it is meant, or a question

VALUES = [1.5, 2.5, 4.0, 6.0, 3.0]
Z = [0.1, 0.2, 0.3, 0.4, 0.5]


def with_unit(unit, values=VALUES, name="M500", **more):
    table = Table({"Z": Z, name: values} | more)
    table[name].unit = u.Unit(unit, parse_strict="silent")
    return table


@pytest.mark.parametrize(
    "unit, scale",
    [
        *((unit, 1e14) for unit in ("10+14Msun", "1E+14 solMass", "10**14 M_sun", "10^14^ M_sun_", "x10^14 Msun")),
        *((unit, 1e14) for unit in (r"$10^{14} M_\odot$", "10**(14) solMass", "1e14 M☉", "10¹⁴ M⊙", "(1e14 Msun)")),
        *(("10+37W", 1e37), ("1e-4 arcmin2", 1e-4), ("10+10Lsun", 1e10), ("%", 0.01), ("--", 1.0), ("counts/s", 1.0)),
    ],
)
def test_scales(tmp_path, unit, scale):
    catalogue = read(tmp_path, with_unit(unit), lum="M500")
    np.testing.assert_allclose(luminosity(catalogue), scale * np.array(VALUES))


@pytest.mark.parametrize(
    "unit, words",
    [
        *((unit, ["in units with h", "lum_scale"]) for unit in ("10^14 h^-1 Msun", "1e14 h-1 Msun", "1e14 Msun/h70")),
        *((unit, ["in units with h"]) for unit in ("M_sun h_70^-1", "1e14 solMass h70-1", "1e14 Msun/littleh")),
        *((unit, ["is not clear", "lum_scale="]) for unit in ("Msun*1e14", "Msun 1e14", "e14 Msun", "E14 Msun")),
        *((unit, ["no longer raised", "lum_scale="]) for unit in ("1014 Msun", "1044 erg/s", "1010 Lsun")),
        *((unit, ["magnitudes", "mag_zero="]) for unit in ("mag", "AB mag", "Mag", "STmag")),
        *((unit, ["no halo or galaxy has"]) for unit in ("kg", "Lsun", "Msun", "1e14 g")),
    ],
)
def test_units_that_are_asked_about(tmp_path, unit, words):
    refused(words, read, tmp_path, with_unit(unit), lum="M500")


@pytest.mark.parametrize("unit", ["1000 Lsun", "1e3 Lsun", "100 kLsun"])
def test_round_numbers_are_scales(tmp_path, unit):
    catalogue = read(tmp_path, with_unit(unit), lum="M500", lum_in="Lsun")
    np.testing.assert_allclose(luminosity(catalogue), (1e5 if "k" in unit else 1e3) * np.array(VALUES))


LOGS = [14.2, 14.4, 14.6, 14.1, 14.3]


@pytest.mark.parametrize(
    "unit, log",
    [
        *((unit, "log10") for unit in ("[solMass]", "dex(solMass)", "log(Msun)", "log M_sun", "dex(erg/s)")),
        ("ln(Msun)", "ln"),
    ],
)
def test_logarithms_by_unit(tmp_path, unit, log):
    table = with_unit(unit, LOGS)
    refused([f"lum_log='{log}'"], read, tmp_path, table, lum="M500")
    factor = np.log(10.0) if log == "log10" else 1.0
    np.testing.assert_allclose(read(tmp_path, table, lum="M500", lum_log=log).ln_lum_obs, factor * np.array(LOGS))
    for other in {"ln", "log10", "none"} - {log}:
        refused([f"lum_log='{log}'", "lum_unit="], read, tmp_path, table, lum="M500", lum_log=other)


def test_a_scale_within_a_logarithm(tmp_path):
    catalogue = read(tmp_path, with_unit("log(1e14 Msun)", [0.2, 0.4, 0.6, 0.1, 0.3]), lum="M500", lum_log="log10")
    np.testing.assert_allclose(luminosity(catalogue), 10 ** np.array(LOGS))


@pytest.mark.parametrize("placeholder", [0.0, -1.0, -9.0, -99.0, 999.0, -np.inf])
@pytest.mark.parametrize("log, values", [("log10", LOGS), ("ln", [32.0, 33.0, 34.0, 32.5, 33.5])])
def test_placeholders_among_logarithms_of_masses(tmp_path, placeholder, log, values):
    catalogue = read(tmp_path, {"z": Z, "logM": [*values[:4], placeholder]}, lum="logM", lum_log=log)
    assert (catalogue.flag[:4] == 0).all() and catalogue.flag[4] in (Flag.LUM_SENTINEL, Flag.LUM_NOT_POSITIVE)


@pytest.mark.parametrize("values", [[0.3, 0.0, -1.0, 0.5, 0.1], [-4.0, -5.0, -9.0, -4.5, -4.2]])
def test_small_logarithms_are_no_placeholders(tmp_path, values):
    catalogue = read(tmp_path, {"z": Z, "logY": values}, lum="logY", lum_log="log10")
    assert (catalogue.flag == 0).all()


@pytest.mark.parametrize(
    "name", ["Llog", "LOG_LX", "lgLX", "Lx_log", "log(L)", "L_LOG10", "lnY", "LX_LN", "logten_L", "dexL", "log-lambda"]
)
def test_logarithms_by_name(tmp_path, name):
    refused(["lum_log="], read, tmp_path, {"z": Z, name: VALUES}, lum=name)


@pytest.mark.parametrize("name", ["M500", "MASS_200", "m2500"])
def test_a_mass_of_an_unknown_definition_is_told(tmp_path, name):
    notes = read(tmp_path, with_unit("1e14 Msun", name=name), lum=name).notes
    assert any("does not say whether" in note for note in notes)
    notes = read(tmp_path, with_unit("1e14 Msun", name=name + "c"), lum=name + "c").notes
    assert not any("does not say whether" in note for note in notes)


# ---- errors of the luminosity

L = np.array([3.2, 4.1, 3.0, 1.4, 4.3, 2.2, 2.9, 5.1])
ZS = np.linspace(0.1, 0.5, 8)
TEN = 0.5 * (np.log1p(0.1) - np.log1p(-0.1))  # a bar of 10 per cent


@pytest.mark.parametrize(
    "columns, options, sigma",
    [
        ({"lo": 0.9 * L, "hi": 1.1 * L}, {"sigma_plus": "hi", "sigma_minus": "lo", "sigma_kind": "bounds"}, TEN),
        ({"up": 0.1 * L, "dn": -0.1 * L}, {"sigma_plus": "up", "sigma_minus": "dn", "sigma_kind": "linear"}, TEN),
        ({"lum_err_pct": 0 * L + 10}, {"sigma": "lum_err_pct"}, TEN),
        ({"lum_relerr": 0 * L + 0.1}, {"sigma": "lum_relerr"}, TEN),
        ({"err_dex": 0 * L + 0.1}, {"sigma": "err_dex"}, 0.1 * np.log(10)),
        ({"e_logL": 0 * L + 0.1}, {"sigma": "e_logL"}, 0.1 * np.log(10)),
        ({"sigma_lnL": 0 * L + 0.1}, {"sigma": "sigma_lnL"}, 0.1),
        ({"e_mag": 0 * L + 0.1}, {"sigma": "e_mag"}, 0.04 * np.log(10)),
        ({}, {"sigma": 10, "sigma_kind": "percent"}, TEN),
    ],
)
def test_errors_in_their_notations(tmp_path, columns, options, sigma):
    catalogue = read(tmp_path, {"z": ZS, "lum": L} | columns, **options)
    np.testing.assert_allclose(catalogue.sigma_ln_lum, sigma, rtol=1e-12)


@pytest.mark.parametrize(("scale", "asked"), [(1.0, True), (1e3, True), (1e5, False), (1e44, False)])
def test_errors_that_can_only_be_bars_are_not_asked_about(tmp_path, scale, asked):
    columns, options = {"z": ZS, "lum": scale * L, "e_lum": 0.1 * scale * L}, {"sigma": "e_lum"}
    if asked:
        refused(["sigma_kind=", "'linear'"], read, tmp_path, columns, **options)
        return
    catalogue = read(tmp_path, columns, **options)
    np.testing.assert_allclose(catalogue.sigma_ln_lum, np.arctanh(0.1), rtol=1e-9)
    assert any("can be nothing else" in note for note in catalogue.notes)
    refused(["sigma_kind="], read, tmp_path, columns | {"e_lum": 10 * scale * L}, **options)


@pytest.mark.parametrize(
    "columns, options, words",
    [
        ({"lo": 0.9 * L, "hi": 1.1 * L}, {"sigma_plus": "hi", "sigma_minus": "lo"}, ["sigma_kind='bounds'"]),
        ({"lo": 0.9 * L, "hi": 1.1 * L}, {"sigma_plus": "lo", "sigma_minus": "hi", "sigma_kind": "bounds"}, ["inter"]),
        ({"hi": 1.1 * L}, {"sigma": "hi", "sigma_kind": "linear"}, ["upper bound"]),
        ({"lum_err_pct": 0 * L + 0.1}, {"sigma": "lum_err_pct"}, ["'fraction'"]),
        ({"lum_frac": 0 * L + 10}, {"sigma": "lum_frac"}, ["'percent'"]),
        ({"e_lum": 0.1 * L}, {"sigma": "e_lum"}, ["sigma_kind=", "'linear'"]),
        ({"lum_ivar": 100 / L**2}, {"sigma": "lum_ivar"}, ["variance"]),
        ({"e_lum": 1e3 * L}, {"sigma": "e_lum", "sigma_kind": "dex"}, ["impossible factor"]),
        ({"e_lum": -0.1 * L}, {"sigma": "e_lum", "sigma_kind": "linear"}, ["SIGMA_NEGATIVE 8", "(sigma)"]),
        ({}, {"sigma": 10}, ["'percent'"]),
    ],
)
def test_errors_that_are_asked_about(tmp_path, columns, options, words):
    refused(words, read, tmp_path, {"z": ZS, "lum": L} | columns, **options)


@pytest.mark.parametrize("kind", ["dex", "ln", "mag"])
@pytest.mark.parametrize("value", [99.0, 999.0, -99.0, -1.0, 0.0, np.nan])
def test_placeholders_of_errors_in_logarithms(tmp_path, kind, value):
    errors = np.where(np.arange(8) < 2, value, 0.1)
    catalogue = read(tmp_path, {"z": ZS, "lum": L, "e": errors}, sigma="e", sigma_kind=kind)
    assert (catalogue.flag[:2] != 0).all() and (catalogue.flag[2:] == 0).all()


@pytest.mark.parametrize(
    "unit, errors, factor",
    [("Msun", 1e13, 0.1), ("10+13Msun", 1.0, 0.1), ("1e14 solMass", 0.1, 0.1), ("kg", 1.98840987e43, 0.1)],
)
def test_bars_in_another_unit_than_the_luminosity(tmp_path, unit, errors, factor):
    table = with_unit("1e14 Msun", e_M500=errors * np.array(VALUES))
    table["e_M500"].unit = u.Unit(unit, parse_strict="silent")
    sigma = read(tmp_path, table, lum="M500", sigma="e_M500").sigma_ln_lum
    np.testing.assert_allclose(sigma, 0.5 * (np.log1p(factor) - np.log1p(-factor)), rtol=1e-4)


def test_quantities_in_memory(tmp_path):
    table = QTable({"z": [0.1, 0.2], "lum": [1.2e44, 1.3e44] * u.Unit("erg/s"), "e": [1.2e36, 1.3e36] * u.W})
    np.testing.assert_allclose(read(tmp_path, table, sigma="e").sigma_ln_lum, TEN)
    table = QTable({"z": [0.1, 0.2], "lum": [14.2, 14.3] * u.dex(u.Msun)})
    refused(["lum_log='log10'"], read, tmp_path, table)
    refused(["mag_zero="], read, tmp_path, QTable({"z": [0.1, 0.2], "lum": [14.2, 14.3] * u.ABmag}))


def test_nullable_columns_of_pandas_hold_no_text(tmp_path):
    z, lum = pd.array([0.1, None, 0.3], dtype="Float64"), pd.array([1, 2, None], dtype="Int64")
    catalogue = read(tmp_path, pd.DataFrame({"z": z, "lum": lum}))
    assert catalogue.flag.tolist() == [0, Flag.Z_MISSING, Flag.LUM_MISSING]
    assert not any("holds text" in note for note in catalogue.notes)


# ---- redshifts


@pytest.mark.parametrize(
    "name, values, unit, words",
    [
        ("1+z", [1.1, 1.2], "", ["1 + z", "subtract 1"]),
        ("zp1", [1.1, 1.2], "", ["subtract 1"]),
        ("one_plus_z", [1.1, 1.2], "", ["subtract 1"]),
        ("a", [0.9, 0.8], "", ["scale factor"]),
        ("scale_factor", [0.9, 0.8], "", ["scale factor"]),
        ("log_z", [-1.0, -0.7], "", ["logarithm"]),
        ("z", [-1.0, -0.7], "dex", ["logarithm"]),
        ("dist", [1.2, 1.8], "Gpc", ["distance"]),
        ("comoving", [120.0, 180.0], "Mpc / littleh", ["distance"]),
        ("lookback", [1.2, 1.8], "Gyr", ["time"]),
        ("dist", [120.0, 180.0], "", ["distance"]),
        ("d", [120.0, 180.0], "", ["no redshifts", "z="]),
        ("cz", [3000.0, 6000.0], "", ["velocity"]),
        ("cz", [3.0, 6.0], "km/s", ["velocity"]),
    ],
)
def test_columns_that_are_no_redshifts(tmp_path, name, values, unit, words):
    table = Table({name: values, "lum": [1.5, 2.5]})
    if unit:
        table[name].unit = u.Unit(unit, parse_strict="silent")
    refused(words, read, tmp_path, table, z=name)


def test_redshifts_of_zero_among_others_are_told(tmp_path):
    notes = read(tmp_path, {"z": [0.0, 0.1, 0.2], "lum": [1.0, 2.0, 3.0]}).notes
    assert any("0 in 1 row, first row 0" in note for note in notes)
    notes = read(tmp_path, {"z": [0.0, 0.0], "lum": [1.0, 2.0]}).notes  # a snapshot of a simulation
    assert not any("redshift column 'z' is 0" in note for note in notes)


# ---- positions


@pytest.mark.parametrize(
    "header, rows, options, ra, dec",
    [
        ("RA_h,RA_m,RA_s,DE_sign,DE_d,DE_m,DE_s", ["10,45,30,-,0,30,0", "10,15,0,-,5,45,0"], {}, 161.375, -0.5),
        ("RA_hh,RA_mm,RA_ss,Dec_dd,Dec_mm,Dec_ss", ["10,45,30,-00,30,0", "10,15,0,-05,45,0"], {}, 161.375, -0.5),
        ("RAh,RAm,RAs,DEd,DEm,DEs", ["10,45,30,-0,30,0", "10,15,0,-5,45,0"], {}, 161.375, -0.5),
        ("RAh,RAm,DE-,DEd,DEm", ["10,45.5,-,0,30", "10,15,+,5,45"], {}, 161.375, -0.5),
        ("RA,Dec", ["10h45m30s,-00d30m00s", "10h15m00s,-05d45m00s"], {}, 161.375, -0.5),
        ("RA,Dec", ["10h45m30s,-00°30'00\"", "10h15m00s,-05°45'00\""], {}, 161.375, -0.5),
        ("RAJ2000,DEJ2000", ["10 45 30,-00 30 00", "10 15 00,-05 45 00"], {}, 161.375, -0.5),
        ("RAJ2000,DEJ2000", ["10 45.5,-00 30", "10 15.0,-05 45"], {}, 161.375, -0.5),
        ("RA,Dec", ["161d22m30s,-00d30m00s", "151d15m00s,-05d45m00s"], {}, 161.375, -0.5),
        ("ra_hours,dec_deg", ["10.758333333333333,-0.5", "2.7,-20"], {}, 161.375, -0.5),
        (
            "ra [h],dec [deg]",
            ["10.758333333333333,-0.5", "2.7,-2"],
            {"ra": "ra [h]", "dec": "dec [deg]"},
            161.375,
            -0.5,
        ),
        (
            "ra [rad],dec [rad]",
            ["2.8,-0.1", "2.7,-0.2"],
            {"ra": "ra [rad]", "dec": "dec [rad]"},
            np.degrees(2.8),
            np.degrees(-0.1),
        ),
        (
            "ra_rad,dec_rad",
            ["2.8,-0.1", "2.7,-0.2"],
            {"ra": "ra_rad", "dec": "dec_rad"},
            np.degrees(2.8),
            np.degrees(-0.1),
        ),
        ("ra,dec", ["161.375,\u22120.5", "150,\u22125"], {}, 161.375, -0.5),
        ("ra,dec", ["-198.625,-0.5", "-40,16"], {}, 161.375, -0.5),
    ],
)
def test_angles(tmp_path, header, rows, options, ra, dec):
    lines = [f"{row},0.{i + 1},{i + 1}.5" for i, row in enumerate(rows)]
    # Quotation marks of arcseconds are none of CSV.
    text = "\n".join([f"{header},z,lum", *lines]).replace('"', "''") + "\n"
    catalogue = read(tmp_path, text, **options)
    np.testing.assert_allclose([catalogue.ra[0], catalogue.dec[0]], [ra, dec], rtol=1e-6)


@pytest.mark.parametrize(
    "ra, dec, words",
    [
        ([-30.0, -40.0], [150.0, 160.0], "swapped"),
        ([3.7e8, 4.0e8], [1.5e7, 1.6e7], "position_unit"),
        ([60.0, 120.0] * u.arcsec, [0.1, 0.2] * u.arcsec, "arcsec"),
        ([60.0, 120.0] * u.deg, [0.1, 0.2] * u.rad, "convert both"),
    ],
)
def test_guessed_positions_that_cannot_be_cost_the_map_with_a_word(tmp_path, ra, dec, words):
    catalogue = read(tmp_path, {"z": [0.1, 0.2], "lum": [1.0, 2.0], "ra": ra, "dec": dec})
    assert catalogue.ra is None
    assert any("no positions" in note and words in note for note in catalogue.notes)


def test_right_ascensions_beyond_one_turn_are_told(tmp_path):
    catalogue = read(tmp_path, {"z": [0.1, 0.2], "lum": [1.0, 2.0], "ra": [370.0, 400.0], "dec": [1.0, 2.0]})
    assert catalogue.ra.tolist() == [10.0, 40.0]
    assert any("beyond 360 degrees in 2 rows" in note for note in catalogue.notes)


# ---- text

TWO = {"z": [0.1, 0.2], "lum": [1.5, 2.5]}
VIZIER = (
    "#RESOURCE=yCat\n#Column\tMCXC\t(A12)\tName\n#Column\tz\t(F6.4)\tRedshift\n#Column\tL500\t(F9.6)\tLum\n"
    "MCXC\tz\tL500\n\t\t10+37W\n------------\t------\t---------\nA\t0.1\t1.5\nB\t0.2\t2.5\n"
)


@pytest.mark.parametrize(
    "text, options, scale",
    [
        (VIZIER, {}, 1e37),
        ("id,z,L500\n,,10^44 erg/s\nA,0.1,1.5\nB,0.2,2.5\n", {}, 1e44),
        ("# -  -  1e44erg/s\n# id z  L500\nA 0.1 1.5\nB 0.2 2.5\n", {}, 1e44),
        ("# id z  L500\n# -  -  1e44erg/s\nA 0.1 1.5\nB 0.2 2.5\n", {}, 1e44),
        ("# id, z, L500 (1e44 erg/s)\nA, 0.1, 1.5\nB, 0.2, 2.5\n", {"lum": "L500 (1e44 erg/s)"}, 1e44),
        ("id,z,lum\nA,0.1,1.5\nB,0.2,2.5\n# 2 rows\n# end\n", {}, 1),
        ("i z lum\n1 0.1 1.5d+14\n2 0.2 2.5D14\n", {}, 1e14),
        ("0 1 2\n0.1 1.5 3.0\n0.2 2.5 3.1\n", {"names": ["z", "lum", "x"]}, 1),
        (",0,1\n0,0.1,1.5\n1,0.2,2.5\n", {"names": ["i", "z", "lum"]}, 1),
        ("z|lum|200|500\n0.1|1.5|2|3\n0.2|2.5|3|4\n", {}, 1),
        ("id|z|L (0.5,2 keV)\nA|0.1|1.5\nB|0.2|2.5\n", {"lum": "L (0.5,2 keV)"}, 1),
        ("id z lum\nA,1 0.1 1.5\nB,2 0.2 2.5\n", {}, 1),
        ('id,z,lum,note\nA,0.1,1.5,"x;y;z"\nB,0.2,2.5,"a;b;c"\n', {}, 1),
        ("| id | z | lum |\n|----|----|----|\n| A | 0.1 | 1.5 |\n| B | 0.2 | 2.5 |\n", {}, 1),
        ("id & z & lum \\\\\nA & 0.1 & 1.5 \\\\\nB & 0.2 & 2.5 \\\\\n", {}, 1),
        ("\ufeffid,z,lum\r\n\r\nA,0.1,1.5\r\nB,0.2,2.5", {}, 1),
        ("id,z,lum\rA,0.1,1.5\rB,0.2,2.5\r", {}, 1),
        ("Böhringer,z,lum\nA,0.1,1.5\nB,0.2,2.5\n".encode("latin-1"), {}, 1),
        (gzip.compress(b"id,z,lum\nA,0.1,1.5\nB,0.2,2.5\n", mtime=0), {}, 1),
        (bz2.compress(b"id\tz\tlum\nA\t0.1\t1.5\nB\t0.2\t2.5\n"), {}, 1),
    ],
)
def test_text(tmp_path, text, options, scale):
    catalogue = read(tmp_path, text, **options)
    np.testing.assert_allclose(luminosity(catalogue), scale * np.array(TWO["lum"]))
    np.testing.assert_allclose(catalogue.redshift, TWO["z"])


@pytest.mark.parametrize(
    "cells, ids",
    [
        (["  0012 ", "0123"], ["0012", "0123"]),
        (["  7", " 12"], [7, 12]),
        (['" A 1 "', '"A 2"'], ["A 1", "A 2"]),
        (["1E5", "100000"], ["1E5", "100000"]),
        (["+12", "12"], ["+12", "12"]),
    ],
)
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_ids(tmp_path, cells, ids, mark):
    lines = [("id", "z", "lum"), (cells[0], "0.1", "1.5"), (cells[1], "0.2", "2.5")]
    catalogue = read(tmp_path, "\n".join(map(mark.join, lines)) + "\n")
    assert catalogue.ids.tolist() == ids


@pytest.mark.parametrize(
    "text, told",
    [
        ("id,z,lum\nA#1,0.1,1\n#2,0.2,2\n", True),
        ("id z lum\nA 0.1 1\n#B 0.2 2\nC 0.3 3\n", True),
        ("id,z,lum\nA,0.1,1\n# 1, 2 and 3\n# the, end, here\n", False),
        ("# id,z,lum\n# 1,2,3\nA,0.1,1\n", False),
    ],
)
def test_rows_that_are_comments_are_told(tmp_path, text, told):
    notes = read(tmp_path, text).notes
    assert told == any("comment mark are left out, 1 of them" in note for note in notes), notes


@pytest.mark.parametrize("blank", ["", "-", "--", "---", "...", "nan", "N/A", "NULL", "INDEF", "<NA>"])
def test_blanks(tmp_path, blank):
    catalogue = read(tmp_path, f"id,z,lum\nA,0.1,1.5\nB,{blank},2.5\nC,0.3,{blank}\n")
    assert catalogue.flag.tolist() == [0, Flag.Z_MISSING, Flag.LUM_MISSING]


@pytest.mark.parametrize(
    "cell, words",
    [
        ('"1,500"', "thousands without commas"),
        ("15%", "without the sign"),
        ("<1.5", "limits"),
        ("1.5(2)", "columns of their own"),
        ("1.5±", "columns of their own"),
        ("<1.5±0.2", "limits"),
        ("1.06*", "footnote marks"),
        ("(1.94)", "footnote marks"),
        ("1.94 a", "footnote marks"),
        ("1.94$^{b}$", "footnote marks"),
        ("1.5+14", "as 1.5e14"),
        ("1.5x10^14", "as 1.5e14"),
        ("*****", "stars"),
        ("A", "choose a numeric column"),
    ],
)
def test_cells_that_are_nearly_numbers(tmp_path, cell, words):
    refused([words, "first row 0"], read, tmp_path, f"id,z,lum\nA,0.1,{cell}\nB,0.2,{cell}\n")


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"id":"A","z":0.1,"lum":1.5}\n{"id":"B","z":0.2,"lum":2.5}\n', ["is JSON", "convert"]),
        ('[{"id":"A","z":0.1,"lum":1.5}]', ["is JSON", "convert"]),
        ("\\begin{table}\n\\begin{tabular}{cc}\nz & lum \\\\\n0.1 & 1 \\\\\n\\end{tabular}\n", ["a LaTeX table"]),
        ("%paper\n\\begin{deluxetable}{cc}\n0.1 & 1 \\\\\n\\end{deluxetable}\n", ["a LaTeX table"]),
        ("<html><table><tr><td>z</td></tr></table></html>", ["HTML", "convert"]),
        ("id,z,lum\nA,0.1,1.5\n".encode("utf-16"), ["UTF-16"]),
        ("id,z,lum\nA,0.1,1.5\n(2 rows)\nB,0.2,2.5\n", ["(2 rows)", "cut short", "# before a line"]),
        ("id,z,lum\nA,0.1,1.5\nB,0.2,2.5\nC\n", ["first row 2 with 1: 'C'", "cut short"]),
        ("id,z,lum\n1,0.1,1.5\n2,0.2,2.5\n3\n", ["first row 2 with 1: '3'", "cut short"]),
        ("id,z,lum\nA,0.1,1.5,\nB,0.2,2.5,\n", ["3 columns", "first row 0 with 4"]),
        ("id,z,lum\nA,0.1,1.5\nid,z,lum\nB,0.2,2.5\n", ["first row 1 with value 'z'"]),
        ("id,z,lum\nA,0.1,1.5\n,0.2,2.5\n", ["id is missing", "row_number"]),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, words):
    refused(words, read, tmp_path, text)


PSQL = " id | z | lum \n----+-----+---\n A | 0.1 | 1.5\n B | 0.2 | 2.5\n"


@pytest.mark.parametrize(
    "text, footer",
    [
        (f"{PSQL}(2 rows)\n", "(2 rows)"),
        (f"{PSQL}(2 rows)\n\nTime: 0.612 ms\n\n", "(2 rows)', 'Time: 0.612 ms"),
        ("id,z,lum\nA,0.1,1.5\nB,0.2,2.5\n\nEND\n", "END"),
        ("id,z,lum\nA,0.1,1.5\nB,0.2,2.5\n2 rows in set (0.00 sec)", "2 rows in set (0.00 sec)"),
        ("id,z,lum\n1,0.1,1.5\n2,0.2,2.5\nexported on Monday\n", "exported on Monday"),
        ("z lum\n0.1 1.5\n0.2 2.5\n(2 rows)\n", "(2 rows)"),  # as many words as columns
        ("id z lum x y\n1 0.1 1.5 3 3\n2 0.2 2.5 3 3\n-- end of file --\n", "-- end of file --"),
        ("id\tz\tlum\nA\t0.1\t1.5\nB\t0.2\t2.5\n----------\n", "----------"),
    ],
)
@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_a_footer_is_left_out_and_told(tmp_path, text, footer, size):
    """Of a whole file, and in chunks that end before it, at it, or hold it alone."""
    (tmp_path / "t.txt").write_text(text)
    chunks = Chunks(tmp_path / "t.txt")
    tables = [open_table(tmp_path / "t.txt")] if size is None else list(chunks.read(size))
    assert np.concatenate([table.column("lum") for table in tables]).tolist() == [1.5, 2.5]
    assert f"below the last row, left out: '{footer}'" in (tables[-1].notes if size is None else chunks.footer)


@pytest.mark.parametrize("last", [",,A", "-,,A", "-9,,", "nan,,"])
def test_a_last_row_with_one_cell_is_no_footer(tmp_path, last):
    (tmp_path / "t.txt").write_text(f"z,lum,id\n0.1,1.5,B\n0.2,2.5,C\n0.3,2.5,D\n{last}\n")
    assert len(open_table(tmp_path / "t.txt").column("z")) == 4


FIXED = """id     z    lum   err
 1   0.1   1.50   0.1
 2   0.2          0.2
 3         3.50   0.3
 4   0.4   4.50   0.4
 5   0.5   5.50   0.5
"""
RULED = "id  z    lum  err\n--- ---- ---- ---\n1   0.1  1.50 0.1\n2   0.2       0.2\n3        3.50 0.3\n"
RULED += "4   0.4  4.50 0.4\n5   0.5  5.50 0.5\n"


@pytest.mark.parametrize("text", [FIXED, f"# {FIXED}".replace("\n", "\n  "), RULED])
@pytest.mark.parametrize("size", [None, 1, 2])
def test_blanks_of_a_table_with_fixed_columns(tmp_path, text, size):
    (tmp_path / "t.txt").write_text(text)
    tables = [open_table(tmp_path / "t.txt")] if size is None else Chunks(tmp_path / "t.txt").read(size)
    rows = [np.transpose([t.column(name).astype(float) for name in ("z", "lum", "err")]) for t in tables]
    expected = [(0.1, 1.5, 0.1), (0.2, np.nan, 0.2), (np.nan, 3.5, 0.3), (0.4, 4.5, 0.4), (0.5, 5.5, 0.5)]
    np.testing.assert_array_equal(np.concatenate(rows), expected)


@pytest.mark.parametrize(
    "text",
    [
        "id z lum err\n1 0.1 1.5 0.1\n2 0.2 0.2\n",  # the columns stand nowhere in particular
        FIXED.replace("2   0.2          0.2", "2   0.234567890  0.2"),  # over two columns
        FIXED.replace("2   0.2          0.2", "2   0.2        55   "),  # between two
        # Two words and a blank: as many words as columns, but not below their names.
        "name      z    lum\nAbell 22      1.50\nA2744   0.3   2.00\nB1            1.00\n",
        FIXED.replace("2   0.2", "2\t0.2"),
    ],
)
def test_blanks_that_may_be_of_two_columns_are_refused(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(MassmapError, match="write nan where a cell is blank"):
        open_table(tmp_path / "t.txt")


@pytest.mark.parametrize("kind", ["ascii.ecsv", "votable", "ascii.mrt", "ascii.ipac", "fits", "parquet"])
def test_formats_of_astropy_keep_scale_bars_and_positions(tmp_path, kind):
    table = Table({"Name": ["A 1", "B 2"], "RAdeg": [10.0, 20.0] * u.deg, "DEdeg": [-5.0, 5.0] * u.deg} | TWO)
    table["up"], table["dn"] = [0.15, 0.25], [0.15, 0.25]
    for name in ("lum", "up", "dn"):
        table[name].unit = 1e14 * u.Msun
    path = tmp_path / "table"
    table.write(path, format=kind)
    catalogue = read_catalogue(path, sigma_plus="up", sigma_minus="dn")
    np.testing.assert_allclose(luminosity(catalogue), [1.5e14, 2.5e14])
    np.testing.assert_allclose(catalogue.sigma_ln_lum, TEN)
    assert catalogue.ids.tolist() == ["A 1", "B 2"] and catalogue.dec.tolist() == [-5.0, 5.0]


LUMS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("tiny", [1e-30, 1e-9, 1e-6])
@pytest.mark.parametrize(
    "ordinary, options",
    [
        (np.full(5, 0.1), {"sigma": "e", "sigma_kind": "ln"}),
        (np.full(5, 0.1), {"sigma": "e", "sigma_kind": "dex"}),
        (np.full(5, 0.1), {"sigma": "e", "sigma_kind": "fraction"}),
        (np.full(5, 10.0), {"sigma": "e", "sigma_kind": "percent"}),
        (0.1 * LUMS, {"sigma": "e", "sigma_kind": "linear"}),
        (0.1 * LUMS, {"sigma_plus": "up", "sigma_minus": "e", "sigma_kind": "linear"}),
    ],
)
def test_an_error_as_a_placeholder_is_flagged_and_told(ordinary, options, tiny):
    """1e-30 keeps a division from failing; as an error it would make a mass exact."""
    error = ordinary.copy()
    error[[1, 3]] = tiny
    catalogue = read_catalogue({"z": 0.1 * LUMS, "lum": LUMS, "e": error, "up": ordinary}, **options)
    assert (catalogue.flag == int(Flag.SIGMA_MISSING)).tolist() == [False, True, False, True, False]
    assert f"more than 1,000 times shorter than the others in 2 rows, first row 1 with value {tiny!r}" in " ".join(
        catalogue.notes
    )


def test_bounds_as_close_as_a_placeholder():
    upper = 1.1 * LUMS
    upper[2] = LUMS[2] * (1 + 1e-9)
    lower = np.where(np.arange(5) == 2, LUMS, 0.9 * LUMS)
    table = {"z": 0.1 * LUMS, "lum": LUMS, "up": upper, "down": lower}
    catalogue = read_catalogue(table, sigma_plus="up", sigma_minus="down", sigma_kind="bounds")
    assert catalogue.flag.tolist() == [0, 0, int(Flag.SIGMA_MISSING), 0, 0]


@pytest.mark.parametrize(
    "error",
    [
        np.full(5, 1e-6),  # a simulation, all alike
        np.array([0.3, 0.3, 0.3, 0.01, 2e-4]),  # the brightest is well measured
        np.array([0.01, 5e-5, 0.01, 0.02, 0.01]),
    ],
)
def test_small_errors_that_are_no_placeholders(error):
    catalogue = read_catalogue({"z": 0.1 * LUMS, "lum": LUMS, "e": error}, sigma="e", sigma_kind="ln")
    assert not catalogue.flag.any() and "shorter" not in " ".join(catalogue.notes)
