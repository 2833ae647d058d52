"""Columns that are taken for others, placeholders by the other values, and files as spreadsheets write them.

Each table holds several instances of a kind; beside what is refused or flagged stands what must not be.
"""

import io
from dataclasses import replace

import astropy.cosmology.units as cu
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, QTable, Table
from astropy.utils.masked import Masked

from massmap_jax.catalogue.column_checks import repeated_objects
from massmap_jax.catalogue.column_names import id_columns
from massmap_jax.catalogue.columns import ColumnTable, is_negative_sentinel, is_positive_sentinel
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.match import match_to_catalogue
from massmap_jax.catalogue.membership import Membership
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError
from massmap_jax.scale.chunks import Chunks

NUM = 12
RNG = np.random.default_rng(17)
Z = np.round(RNG.uniform(0.06, 0.5, NUM), 4)
LUM = np.round(RNG.lognormal(1, 0.5, NUM), 4)
RA, DEC = np.round(RNG.uniform(20, 330, NUM), 4), np.round(RNG.uniform(-60, 60, NUM), 4)
EXACT = {"z_contains": "likelihood", "lum_moves": "no"}
NAMES = np.array([f"XMM-{i}" for i in range(NUM)])


def read(columns, *, units=None, **options):
    table = Table({"name": NAMES, **columns})
    for name, unit in (units or {}).items():
        table[name].unit = unit
    return read_catalogue(table, **{"sigma": 0.1} | options)


def refused(*words, **call):
    with pytest.raises(MassmapError) as told:
        read(call.pop("columns"), **call)
    for word in words:
        assert word in str(told.value), told.value


# ---- columns that are taken for others


@pytest.mark.parametrize(
    ("columns", "units"),
    [
        ({"l": RA, "b": DEC, "z": Z, "N200": LUM}, {}),
        ({"lambda": RA, "beta": DEC, "z": Z, "Ngal": LUM}, {}),
        ({"L": RA, "B": DEC, "z": Z}, {}),
        ({"lambda": RA, "z": Z}, {"lambda": "deg"}),
        ({"l": RA, "z": Z}, {"l": "rad"}),
    ],
)
def test_an_angle_is_not_guessed_for_the_luminosity(columns, units):
    refused("luminosity: choose it with lum=", columns=columns, units=units)


@pytest.mark.parametrize("name", ["l", "lambda", "L500"])
def test_alone_they_are_luminosities_and_beside_angles_the_other_is_taken(name):
    assert read({name: LUM, "z": Z}).columns_read["lum"] == name
    assert read({"l": RA, "b": DEC, "L500": LUM, "z": Z}).columns_read["lum"] == "L500"


def test_an_angle_that_is_named_for_the_luminosity_is_refused():
    refused("is an angle by its unit", columns={"theta": LUM, "z": Z}, units={"theta": "arcmin"}, lum="theta")
    assert read({"Y500": LUM, "z": Z}, units={"Y500": "arcmin2"}, lum="Y500").usable.all()


@pytest.mark.parametrize(
    ("name", "values", "unit", "words"),
    [
        ("Z", 0.3 + 0.01 * Z, "solar", "no redshift by its unit"),
        ("z", LUM, "keV", "no redshift by its unit"),
        ("z", LUM, "deg", "no redshift by its unit"),
        ("Z", 0.2 + RNG.uniform(0, 0.2, NUM) + 0.4, "", "has other values"),
        ("z", 17.0 + Z, "", "has other values"),
        ("redshift", 5.0 * Z + 1, "", "has other values"),
    ],
)
def test_another_quantity_is_no_redshift(name, values, unit, words):
    refused(words, columns={name: values, "zspec": Z, "L500": LUM}, units={name: unit} if unit else None)


@pytest.mark.parametrize("name", ["D_A", "D_L_Mpc", "dist", "lum_dist", "comoving_distance", "lookback", "expfac"])
def test_a_distance_or_a_time_by_name_is_no_redshift(name):
    words = "scale factor" if name == "expfac" else "distance or a time by its name"
    refused(words, columns={name: 0.5 * Z, "L500": LUM}, z=name)


def test_redshifts_that_may_be_1_plus_z_are_told():
    assert any("1 + z" in note for note in read({"z": 1 + Z, "L500": LUM}).notes)
    assert not any("1 + z" in note for note in read({"z": Z + 0.6, "L500": LUM}).notes)


def test_a_z_band_is_no_redshift():
    bands = {"g": 19 + Z, "r": 18 + Z, "i": 17.5 + Z, "z": 17.0 + Z, "L500": LUM}
    refused("magnitudes in the z band", columns=bands)


@pytest.mark.parametrize(
    "beside",
    [
        {"zphot": Z + 0.02 * (1 + Z) * RNG.normal(size=NUM)},
        {"z_spec": np.where(np.arange(NUM) % 3 == 0, Z, -1.0)},
        {"zspec": np.where(np.arange(NUM) < 2, Z + 0.4, Z)},
        {"zphot": np.where(np.arange(NUM) % 2 == 0, Z, 99.9)},
    ],
)
@pytest.mark.parametrize("unit", ["", "redshift", "---", "None"])
def test_redshifts_beside_others_and_with_words_for_a_unit_are_taken(beside, unit):
    columns = {"z": Z, **beside, "L500": LUM}
    names = ["name", *columns]
    table = Table([NAMES, *columns.values()], names=names)
    path_units = {"z": unit} if unit else {}
    source = ColumnTable("the table", tuple(names), lambda name: np.asarray(table[name]), path_units)
    assert read_catalogue(source, sigma=0.1).redshift == pytest.approx(Z)


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"lum": "e_L500"}, {"e_L500": LUM, "L500": LUM, "z": Z}),
        ({"lum": "LX_err"}, {"LX": LUM, "LX_err": LUM, "z": Z}),
        ({"lum": "L500", "z": "zerr"}, {"L500": LUM, "z": Z, "zerr": 0.01 * Z}),
        ({"lum": "L500", "z": "Z_LAMBDA_ERR"}, {"L500": LUM, "Z_LAMBDA": Z, "Z_LAMBDA_ERR": 0.01 * Z}),
        ({"lum": "L500", "sigma": "z", "sigma_kind": "ln"}, {"L500": LUM, "z": Z}),
        ({"lum": "L500", "z_err": "z", **EXACT}, {"L500": LUM, "z": Z}),
        ({"lum": "L500", "z_err": "e", "sigma": "e", "sigma_kind": "ln", **EXACT}, {"L500": LUM, "z": Z, "e": 0.1 * Z}),
    ],
)
def test_an_error_is_no_observable(options, columns):
    refused("error of", columns=columns, **options)


def test_names_that_look_like_errors_alone_are_taken():
    assert read({"sigma_v": 100 * LUM, "v": LUM, "z": Z}, lum="sigma_v").usable.all()
    assert read({"e_L500": LUM, "z": Z}, lum="e_L500").usable.all()


@pytest.mark.parametrize(
    ("ra", "dec", "words"),
    [
        ("l", "b", "galactic frame"),
        ("SGL", "SGB", "supergalactic frame"),
        ("ELON", "ELAT", "ecliptic frame"),
        ("ecl_lon", "ecl_lat", "ecliptic frame"),
        ("RAB1950", "DEB1950", "B1950"),
        ("RA_1950", "DEC_1950", "B1950"),
        ("DEJ2000", "RAJ2000", "swapped"),
        ("dec_bcg", "ra_bcg", "swapped"),
    ],
)
def test_positions_of_another_frame_are_refused(ra, dec, words):
    columns = {ra: 0.1 * RA, dec: DEC, "z": Z, "L500": LUM}
    refused(words, columns=columns, ra=ra, dec=dec, lum="L500")


@pytest.mark.parametrize(
    ("ra", "dec"), [("RAJ2000", "DEJ2000"), ("RA_BCG", "DEC_BCG"), ("alpha", "delta"), ("X_WORLD", "Y_WORLD")]
)
def test_positions_of_any_other_name_are_taken(ra, dec):
    found = read({ra: RA, dec: DEC, "z": Z, "L500": LUM}, ra=ra, dec=dec, lum="L500")
    assert found.ra == pytest.approx(RA) and found.dec == pytest.approx(DEC)


@pytest.mark.parametrize("dec", [90 - DEC, 10 * DEC, np.where(np.arange(NUM) < 4, 100.0 + DEC, DEC)])
def test_many_impossible_declinations_are_another_coordinate(dec):
    refused("dec is outside", columns={"ra": RA, "dec": dec, "z": Z, "L500": LUM}, ra="ra", dec="dec")


@pytest.mark.parametrize("value", [-999.0, 99.9, 999.0])
def test_declinations_that_are_placeholders_are_flagged(value):
    dec = np.where(np.arange(NUM) < 5, value, DEC)
    found = read({"ra": RA, "dec": dec, "z": Z, "L500": LUM}, ra="ra", dec="dec")
    assert np.flatnonzero(found.flag & int(Flag.POSITION_BAD)).tolist() == [0, 1, 2, 3, 4]


# ---- rows


def test_repeated_rows_are_told_without_ids():
    twice = {"ra": RA, "dec": DEC, "z": Z, "L500": LUM}
    doubled = read_catalogue({name: np.tile(column, 2) for name, column in twice.items()}, sigma=0.1)
    assert any(f"{NUM} objects have the position" in n and "first row 12 those of row 0" in n for n in doubled.notes)
    one = read_catalogue({n: np.append(column, column[3]) for n, column in twice.items()}, sigma=0.1)
    assert repeated_objects(one).startswith("1 object has") and "row 12 those of row 3" in repeated_objects(one)


def test_objects_that_share_some_numbers_are_no_repetitions():
    same_place = {"ra": np.full(NUM, 150.0), "dec": np.full(NUM, 2.0), "z": Z, "L500": LUM}
    assert repeated_objects(read(same_place)) == ""
    assert repeated_objects(read({"z": np.full(NUM, 0.3), "L500": np.full(NUM, 2.0)})) == ""


@pytest.mark.parametrize("word", ["Mean", "TOTAL", "median:", "std"])
def test_rows_of_a_summary_are_refused(tmp_path, word):
    path = tmp_path / "in.csv"
    path.write_text(f"name,z,L500\nA,0.1,2\nB,0.2,4\n{word},0.15,3\n")
    with pytest.raises(MassmapError, match=f"summaries by their id: 1 row, first row 2 with value '{word}'"):
        read_catalogue(path, sigma=0.1)
    path.write_text("name,z,L500\nMeanwell 1,0.1,2\nMaximus,0.2,4\n")
    assert len(read_catalogue(path, sigma=0.1)) == 2


@pytest.mark.parametrize("mark", ["<", ">", b"<", "<="])
def test_limits_by_the_flags_of_cds_are_no_measurements(mark):
    flags = [mark if i in (2, 7) else type(mark)() for i in range(NUM)]
    found = read({"l_L500": flags, "L500": LUM, "z": Z})
    assert np.flatnonzero(found.flag == Flag.LUM_MISSING).tolist() == [2, 7] and found.usable.sum() == NUM - 2
    assert any("'L500' is a limit and no measurement in 2 rows, first row 2" in note for note in found.notes)
    found = read({"L500": LUM, "l_z": flags, "z": Z})
    assert np.flatnonzero(found.flag == Flag.Z_MISSING).tolist() == [2, 7]
    assert read({"l_L500": [""] * NUM, "L500": LUM, "z": Z}).usable.all()


@pytest.mark.parametrize(
    ("name", "mark", "other", "limits"),
    [
        ("L500_limit", "<", "", 2),
        ("flag_L500", "UL", "det", 2),
        ("L500_type", "upper limit", "measured", 2),
        ("L500_ul", 1, 0, 2),
        ("L500_is_limit", True, False, 2),
        ("l500_uplim", "Y", "N", 2),
        ("L500_detected", 0, 1, 2),
        ("is_detected_L500", "no", "yes", 2),
        ("L500_det", False, True, 2),
        ("det_L500", 0.0, 3.2, 0),
        ("L500_flag", 1, 0, 0),
        ("L500_quality", "L", "H", 0),
        ("L500_UL", 1.0, 2.5, 0),
        ("note_L500", "see text", "", 0),
        ("f_Mass", "<", "", 0),
        ("L500_flag", "U", "D", 2),
        ("L500flag", "u", "", 2),
        ("q_L500", "L", "D", 2),
        ("L500_type", "upper", "det", 2),
        ("L500_flag", "U", "U", 0),
        ("L500_type", "L", "E", 0),
    ],
)
def test_limits_by_flags_of_other_names(name, mark, other, limits):
    flags = [mark if i in (2, 7) else other for i in range(NUM)]
    found = read({"z": Z, "L500": LUM, name: flags})
    assert (found.flag == Flag.LUM_MISSING).sum() == limits and found.usable.sum() == NUM - limits
    assert any(f"rows, first row 2 with value '{mark}' of '{name}'" in note for note in found.notes) == bool(limits)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("L500_flag", (1, 0), "(0 in 10, 1 in 2 rows)"),
        ("flag_L500", (1.0, 0.0), "(0.0 in 10, 1.0 in 2 rows)"),
        ("L500_quality", ("C", "A"), "(A in 10, C in 2 rows)"),
        ("q_L500", (3, 1), "(1 in 10, 3 in 2 rows)"),
        ("good", (False, True), "(False in 2, True in 10 rows)"),
        ("AGN_contaminated", (1, 0), "(0 in 10, 1 in 2 rows)"),
        ("contaminated", ("yes", ""), "(blank in 10, yes in 2 rows)"),
        ("L500_flag", (0, 0), ""),
        ("flux_flag", (1, 0), ""),
        ("L500_flag", ("UL", "det"), ""),  # used
    ],
)
def test_flags_that_are_not_used_are_told(name, values, told):
    found = read({"z": Z, "L500": LUM, name: [values[0] if i in (2, 7) else values[1] for i in range(NUM)]})
    said = [note for note in found.notes if "by its name a flag, and is not used" in note]
    assert len(said) == bool(told) and all(repr(name) in note and told in note for note in said)


@pytest.mark.parametrize("name", ["cz", "v_hel", "vrad", "velocity", "rv", "zp1", "ln1pz", "log(1+z)", "aexp", "scale"])
def test_no_redshift_by_its_name(name):
    with pytest.raises(MassmapError, match=r"redshift column .* by its name"):
        read({name: Z, "L500": LUM}, z=name)


@pytest.mark.parametrize(
    ("description", "words", "unit"),
    [
        ("log10 of the X-ray luminosity", "lum_log='log10'", ""),
        ("Logarithm of L500", "lum_log='log10'", ""),
        ("natural logarithm of the luminosity", "lum_log='ln'", ""),
        ("X-ray luminosity, ln(L)", "lum_log='ln'", ""),
        ("X-ray luminosity with log-normal errors", "", ""),
        ("Catalogued luminosity of 0.1 to 2.4 keV", "", ""),
        ("X-ray luminosity in units of 1e43 erg/s", "", "erg/s"),
        ("X-ray luminosity (10^44 erg/s)", "", "erg/s"),
        ("luminosity in 0.5 to 2 keV", "", ""),
    ],
)
def test_what_a_description_says_of_a_luminosity(description, words, unit):
    source = {"z": Z, "X": Column(LUM, description=description)}
    if words:
        with pytest.raises(MassmapError, match=f"described as .*{words}, or lum_log='none'"):
            read(source, lum="X")
        assert read(source, lum="X", lum_log="none").usable.all()
        return
    found = read(source, lum="X")
    assert found.lum_unit == unit
    scale = 1e43 if "43" in description else 1e44 if unit else 1.0
    np.testing.assert_allclose(np.exp(found.ln_lum_obs), LUM * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("log10(1+z)", "give the redshift itself"),
        ("natural log, ln (1 + z) of the cluster", "give the redshift itself"),
        ("1+z", "subtract 1"),
        ("Heliocentric velocity / c", "over the speed of light"),
        ("scale factor at the snapshot", "give 1/a - 1"),
        ("redshift; its error is 0.01 (1+z)", ""),
        ("Redshift from velocities of 10 members", ""),
    ],
)
def test_no_redshift_by_its_description(description, words):
    """Values of log10(1 + z) are redshifts of nearer objects by their look."""
    source = {"z": Column(Z, description=description), "L500": LUM}
    if not words:
        assert read(source).usable.all()
        return
    with pytest.raises(MassmapError, match=rf"described as .*{words}"):
        read(source)


@pytest.mark.parametrize(("name", "mark", "told"), [("UL", 1, True), ("upper_limit", "<", True), ("UL", 3.1, False)])
def test_flags_of_limits_that_do_not_say_of_what_are_told(name, mark, told):
    found = read({"z": Z, "L500": LUM, name: [mark if i in (2, 7) else 0 for i in range(NUM)]})
    assert found.usable.all()
    assert any(f"column '{name}' marks limits in 2 rows, first row 2" in note for note in found.notes) == told
    found = read({"z": Z, "L500": LUM, "detected": [i not in (2, 7) for i in range(NUM)], "detection": Z})
    assert found.usable.all()
    told = "column 'detected' says that there is no detection in 2 rows, first row 2 with value 'False'"
    assert sum(told in note for note in found.notes) == sum("no detection" in note for note in found.notes) == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_ids_that_lost_their_digits_are_refused(kind):
    ids = np.array([1, 2, 3000 if kind is np.float16 else 123456789], dtype=kind)
    columns = {"objid": ids, "z": [0.1, 0.2, 0.3], "L500": [1.0, 2.0, 3.0]}
    with pytest.raises(MassmapError, match="too large to be exact in 1 row, first row 2"):
        read_catalogue(columns, sigma=0.1)
    assert read_catalogue(columns | {"objid": np.arange(3, dtype=kind)}, sigma=0.1).ids.tolist() == [0, 1, 2]


def test_the_error_of_the_luminosity_goes_before_a_column_called_sigma():
    columns = {"L500": LUM, "L500_err": 0.1 * LUM, "sigma": np.full(NUM, 850.0), "z": Z}
    assert read(columns, sigma=None, sigma_kind="linear").sigma_ln_lum == pytest.approx(0.1003, abs=1e-3)
    assert read({"lum": LUM, "sigma": np.full(NUM, 0.2), "z": Z}, sigma=None, sigma_kind="ln").usable.all()


# ---- placeholders


def test_nines_are_placeholders_in_double_and_single_precision():
    yes = np.array([99, 99.9, 99.99, 999, 999.9, 999.99, 9999, 9999.9, 99999, 999999, 99.9999])
    no = np.array([98.9, 99.5, 100.0, 1000.0, 1e6, 990.0, 9.99, 0.0, np.nan, np.inf])
    for kind in (np.float64, np.float32):
        assert is_positive_sentinel(yes.astype(kind).astype(np.float64)).all()
        assert not is_positive_sentinel(no.astype(kind).astype(np.float64)).any()
        assert is_negative_sentinel(-yes.astype(kind).astype(np.float64)).all()


def first(values, value):
    return np.where(np.arange(NUM) == 0, value, values)


@pytest.mark.parametrize("value", [-99.9, -9.99, 99.99, 999.9, -32768.0, -1e30, 1e-99, -2147483648.0, -0.99])
@pytest.mark.parametrize(("log", "centre"), [("log10", 44.0), ("ln", 101.0)])
def test_logarithms_far_from_all_others_are_placeholders(value, log, centre):
    found = read({"logL": first(centre + np.log10(LUM), value), "z": Z}, lum="logL", lum_log=log)
    assert found.flag.tolist() == [Flag.LUM_SENTINEL] + [0] * (NUM - 1)


@pytest.mark.parametrize("value", [99.9, 999.0, 9999.9, 1e-99, 1e-30, 1e12, -99.9])
def test_luminosities_far_from_all_others_are_placeholders(value):
    found = read({"L500": first(LUM, value), "z": Z})
    assert found.flag.tolist() == [Flag.LUM_SENTINEL] + [0] * (NUM - 1)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (first(LUM, 40.0), {}),
        (first(LUM * 30, 99.0), {}),
        (first(LUM, 1e-3), {}),
        (first(LUM * 1e44, 1e39), {}),
        (np.geomspace(1e6, 1e12, NUM), {}),
        (first(np.log10(LUM), -3.0), {"lum_log": "log10"}),
        (first(11 + np.log10(LUM), 5.5), {"lum_log": "log10"}),
    ],
)
def test_rare_luminosities_are_none(values, options):
    assert read({"obs": values, "z": Z}, lum="obs", **{"lum_log": "none"} | options).usable.all()


@pytest.mark.parametrize(
    ("values", "flagged"),
    [
        ([-1.0, 3.1, 0.4, -0.7, 2.2, 5.5, 8.1, 1.4], []),
        ([-1.0, -1.0, 3.0, 4.0, -2.0, 6.0, 8.0, 1.0], []),
        ([-1.0, -1.0, 3.1, 0.4, -0.7, 2.2, 5.5, 8.1], [0, 1]),
        ([-1.0, 3.1, 0.4, 2.2, 5.5, 8.1, 1.4, 3.3], [0]),
        ([-99.9, 3.1, 0.4, -0.7, 5.5, 8.1, 1.4, 3.3], [0]),
    ],
)
def test_minus_one_under_linear_noise(values, flagged):
    """A measurement where others are below zero and it is there once, or all are counts; a placeholder else."""
    table = {"flux": values, "e": np.ones(8), "z": np.full(8, 0.2)}
    found = read_catalogue(table, lum="flux", sigma="e", sigma_kind="linear", noise="linear")
    assert np.flatnonzero((found.flag & int(Flag.LUM_SENTINEL)) != 0).tolist() == flagged


@pytest.mark.parametrize(
    ("kind", "value", "usual"),
    [("dex", 9.99, 0.1), ("dex", 99.9, 0.1), ("ln", 30.0, 0.2), ("mag", 99.99, 0.1), ("dex", 1e10, 0.1)],
)
def test_errors_far_longer_than_all_others_are_not_known(kind, value, usual):
    found = read({"L500": LUM, "z": Z, "e": first(np.full(NUM, usual), value)}, sigma="e", sigma_kind=kind)
    assert found.flag.tolist() == [Flag.SIGMA_MISSING] + [0] * (NUM - 1)
    assert any("longer than the others" in note or value > 99 for note in found.notes)


def test_wide_errors_are_kept():
    found = read({"L500": LUM, "z": Z, "e": first(np.full(NUM, 0.2), 2.0)}, sigma="e", sigma_kind="dex")
    assert found.usable.all()
    table = {"L500": LUM, "z": Z, "e": first(np.full(NUM, 0.5), 999.0)}
    linear = read(table, sigma="e", sigma_kind="linear", noise="linear")
    assert linear.flag.tolist() == [Flag.SIGMA_MISSING] + [0] * (NUM - 1)


# ---- files


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_decimal_commas(tmp_path, mark):
    path = tmp_path / "in.csv"
    rows = [(n, *(str(x).replace(".", ",") for x in row)) for n, *row in zip(NAMES, RA, DEC, Z, LUM, strict=True)]
    lines = [mark.join(("Name", "RA", "Dec", "z", "L500")), *(mark.join(row) for row in rows)]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    found = read_catalogue(path, sigma=0.1)
    assert np.exp(found.ln_lum_obs) == pytest.approx(LUM) and found.redshift == pytest.approx(Z)
    assert found.ra == pytest.approx(RA) and any("holds text" in note for note in found.notes)


@pytest.mark.parametrize("cells", [("1,234", "2,345"), ("1,5", "1.5"), ("1,234,567", "0,5"), ("1,234.5", "2,5")])
def test_commas_that_may_be_thousands_are_refused(tmp_path, cells):
    path = tmp_path / "in.csv"
    path.write_text("Name;z;L500\n" + "".join(f"A{i};0.1;{cell}\n" for i, cell in enumerate(cells)))
    with pytest.raises(MassmapError, match="comma"):
        read_catalogue(path, sigma=0.1)


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ('"Name","RA (deg)","Dec (deg)","z","L500 (1e44 erg/s)"', "erg/s"),
        ('"name","ra [deg]","dec [deg]","z","LX [10^44 erg s^-1]"', "erg s^-1"),
        ('"id","RA","Dec","redshift (spec)","Lx (0.1-2.4 keV)"', ""),
    ],
)
def test_units_in_brackets_behind_a_usual_name(tmp_path, header, unit):
    path = tmp_path / "in.csv"
    rows = zip(NAMES, RA, DEC, Z, LUM, strict=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    found = read_catalogue(path, sigma=0.1)
    assert found.lum_unit == unit and found.ra == pytest.approx(RA) and found.redshift == pytest.approx(Z)


@pytest.mark.parametrize("rule", ["----\t----\t----\t----\t----", None])
def test_tabs_around_angles_with_blanks(tmp_path, rule):
    path = tmp_path / "in.tsv"
    rows = [f"{n}\t06 4{i % 10} 15.0\t-47 00 1{i % 10}\t{z}\t{lum}" for i, (n, z, lum) in enumerate(zip(NAMES, Z, LUM))]
    path.write_text("\n".join(["Name\tRAJ2000\tDEJ2000\tz\tL500", *([rule] if rule else []), *rows]) + "\n")
    found = read_catalogue(path, sigma=0.1)
    assert found.ra[0] == pytest.approx(15 * (6 + 40 / 60 + 15 / 3600)) and found.redshift == pytest.approx(Z)


def test_sexagesimal_degrees_by_their_unit():
    table = Table(
        {"RAJ2000": ["10:30:00", "20:15:00"], "DEJ2000": ["01:00:00", "-02:30:00"], "z": [0.1, 0.2], "L": [1, 2]}
    )
    table["RAJ2000"].unit = table["DEJ2000"].unit = None
    for unit, factor in (("d:m:s", 1.0), ("h:m:s", 15.0), ("", 15.0)):
        units = {"RAJ2000": unit, "DEJ2000": "d:m:s"} if unit else {}
        source = ColumnTable("the table", tuple(table.colnames), lambda name: np.asarray(table[name]), units)
        assert read_catalogue(source, lum="L", sigma=0.1).ra == pytest.approx([10.5 * factor, 20.25 * factor])


@pytest.mark.parametrize("unit", ["lg erg/s", "lg(erg/s)", "lg Lsun"])
def test_lg_is_a_logarithm(unit):
    columns = {"L500": 44 + np.log10(LUM), "z": Z}
    source = ColumnTable("the table", tuple(columns), columns.__getitem__, {"L500": unit})
    with pytest.raises(MassmapError, match="lum_log='log10'"):
        read_catalogue(source, sigma=0.1)
    found = read_catalogue(source, sigma=0.1, lum_log="log10")
    assert found.ln_lum_obs == pytest.approx(np.log(10) * columns["L500"])


# ---- flags of centrals


@pytest.mark.parametrize(
    "flags",
    [
        ["C", "S", "C"],
        ["central", "Satellite", "CENTRAL"],
        ["yes", "no", "Yes"],
        ["Y", "N", "y"],
        ["True", "False", "true"],
        ["T", "F", "T"],
        ["BCG", "member", "bcg"],
        ["1", "0", "1.0"],
        np.array([b"C ", b"S ", b"C "]),
        np.array([True, False, True], dtype=object),
    ],
)
def test_words_are_flags_of_centrals(flags):
    assert Membership.from_flags(flags, purity=0.9).central.tolist() == pytest.approx([0.9, 0.1, 0.9])


def test_words_that_are_missing_or_say_nothing():
    pd = pytest.importorskip("pandas")
    found = Membership.from_flags(pd.Series([True, None, False], dtype="boolean"), purity=0.9).central
    assert found == pytest.approx([0.9, np.nan, 0.1], nan_ok=True)
    found = Membership.from_flags(["C", "", "--"], purity=0.9).central
    assert found == pytest.approx([0.9, np.nan, np.nan], nan_ok=True)
    for flags, words in ((["C", "X"], "'X'"), ([1, 2, 2], "write 0 for 2"), ([1, 0, 3], "neither 0 nor 1")):
        with pytest.raises(MassmapError, match=words):
            Membership.from_flags(flags, purity=0.9)


@pytest.mark.parametrize("chances", [[90.0, 12.0, 0.5], [100.0, 55.0, 80.0, 1.0], [2.0, 3.0, 0.9]])
def test_per_cent_are_no_probabilities(chances):
    with pytest.raises(MassmapError, match="no percent"):
        Membership.from_probability(chances)


# ---- a second table


def sky(num, seed, size=2.0):
    rng = np.random.default_rng(seed)
    return 150 + size * rng.random(num), 2 + size * rng.random(num), rng.uniform(0.1, 0.9, num)


def catalogue_of(ra, dec, z):
    return read_catalogue({"id": np.arange(len(ra)), "ra": ra, "dec": dec, "z": z, "lum": 1 + z}, sigma=0.1)


@pytest.mark.parametrize("with_redshift", [False, True])
def test_matches_that_are_no_more_than_chance_are_refused(with_redshift):
    ra, dec, z = sky(3000, 1)
    other_ra, other_dec, other_z = sky(60, 2)
    redshift, radius = (other_z, 0.5) if with_redshift else (None, 0.2)
    with pytest.raises(MassmapError, match="by chance"):
        match_to_catalogue(
            catalogue_of(ra, dec, z), ra=other_ra, dec=other_dec, redshift=redshift, separation_arcmin=radius
        )


def test_true_matches_among_many_objects_are_found():
    ra, dec, z = sky(3000, 1)
    rows = np.random.default_rng(4).choice(3000, 60, replace=False)
    found = match_to_catalogue(catalogue_of(ra, dec, z), ra=ra[rows], dec=dec[rows] + 1e-4, separation_arcmin=0.02)
    assert found.rows.tolist() == rows.tolist()


@pytest.mark.parametrize("first_id", [0, 1])
def test_running_numbers_alone_are_told(first_id):
    ra, dec, z = sky(30, 1)
    catalogue = read_catalogue({"id": first_id + np.arange(30), "ra": ra, "dec": dec, "z": z, "lum": 1 + z}, sigma=0.1)
    running = first_id + np.arange(12)
    assert any("running numbers" in note for note in match_to_catalogue(catalogue, ids=running).notes)
    for more in ({"redshift": z[:12]}, {"ra": ra[:12], "dec": dec[:12]}):
        assert not any("running" in note for note in match_to_catalogue(catalogue, ids=running, **more).notes)
    assert not any("running" in note for note in match_to_catalogue(catalogue, ids=running + 5).notes)


# ---- a partition of few rows

ODD = {
    "bars longer than L": ({"L500": [1.0], "e": [2.0]}, {"sigma": "e", "sigma_kind": "linear"}),
    "bars like bounds": (
        {"L500": [1.0], "up": [1.5], "low": [0.5]},
        {"sigma_plus": "up", "sigma_minus": "low", "sigma_kind": "linear", "sigma": None},
    ),
    "outside its bounds": (
        {"L500": [1.0], "up": [0.9], "low": [0.5]},
        {"sigma_plus": "up", "sigma_minus": "low", "sigma_kind": "bounds", "sigma": None},
    ),
    "fraction above 1": ({"L500": [1.0], "e": [1.2]}, {"sigma": "e", "sigma_kind": "fraction"}),
    "wide": ({"L500": [1.0], "e": [1.5]}, {"sigma": "e", "sigma_kind": "dex"}),
    "light": ({"M500": [50.0]}, {"lum": "M500", "lum_unit": "Msun"}),
    "strange log": ({"logL": [-32768.0]}, {"lum": "logL", "lum_log": "log10"}),
    "strange z": ({"L500": [1.0], "z": [32767.0]}, {}),
}


@pytest.mark.parametrize("kind", ODD)
def test_one_odd_row_of_a_partition_does_not_judge_the_catalogue(kind):
    """It is flagged, or has the mass that it has; alone, as a catalogue, it is refused."""
    from massmap_jax.catalogue.tables import open_table

    columns, options = ODD[kind]
    table = open_table({"z": np.array([0.2])} | {name: np.array(column) for name, column in columns.items()})
    options = {"sigma": 0.1} | options
    with pytest.raises(MassmapError):
        read_catalogue(table, need_usable=False, **options)
    assert len(read_catalogue(replace(table, few=True), need_usable=False, **options)) == 1


@pytest.mark.parametrize("factor", [100.0, 50.0])
def test_redshift_errors_in_per_cent_say_nothing(factor):
    columns = {"L500": LUM, "z": Z, "z_err": 0.02 * factor * (1 + Z)}
    refused("these say nothing of the redshift", columns=columns, z_err="z_err", **EXACT)


# ---- tables and arrays of other packages


def from_arrays(**columns):
    return HaloCatalogue.from_arrays(**{"luminosity": LUM, "redshift": Z} | columns)


@pytest.mark.parametrize(
    ("given", "column", "expected"),
    [
        ({"ra": 10 * Z * u.hourangle, "dec": Z * u.deg}, "ra", 150 * Z),
        ({"ra": np.radians(RA) * u.rad, "dec": np.radians(DEC) * u.rad}, "dec", DEC),
        ({"ra": Z * 3600 * u.arcsec, "dec": Z * u.arcmin}, "ra", Z),
        ({"ra": RA * u.deg, "dec": DEC * u.deg, "position_unit": "rad"}, "ra", RA),
        ({"ra": Z / 4 * u.deg, "dec": Z * u.deg, "position_unit": "arcmin"}, "ra", 15 * Z),
        ({"redshift": 100 * Z * u.percent}, "redshift", Z),
        ({"redshift": Z * cu.redshift}, "redshift", Z),
        ({"sigma_ln_luminosity": 10 * u.percent}, "sigma_ln_lum", 0.1),
        ({"truth_mass": (LUM * 1e14 * u.Msun).to(u.kg)}, "truth_ln_mass", np.log(LUM * 1e14)),
        ({"luminosity": LUM * 1e37 * u.W, "lum_unit": "1e44 erg/s"}, "ln_lum_obs", np.log(LUM)),
        ({"luminosity": LUM * u.Unit("1e14 Msun")}, "ln_lum_obs", np.log(1e14 * LUM)),
        ({"luminosity": [x * u.Msun for x in LUM], "lum_unit": "1e14 Msun"}, "ln_lum_obs", np.log(LUM / 1e14)),
    ],
)
def test_quantities_become_numbers_of_the_unit_that_is_meant(given, column, expected):
    assert getattr(from_arrays(**given), column) == pytest.approx(expected, rel=1e-6)


def test_a_luminosity_keeps_the_unit_of_its_quantity():
    assert from_arrays(luminosity=LUM * u.Unit("1e14 Msun")).lum_unit == "solMass"
    assert from_arrays(luminosity=LUM * u.erg / u.s).lum_unit == "erg / s"
    assert from_arrays(luminosity=LUM * u.dimensionless_unscaled).lum_unit == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ra": Z * u.Mpc, "dec": Z * u.Mpc}, "ra is in 'Mpc'"),
        ({"redshift": 3e5 * Z * u.km / u.s}, "redshift is in 'km / s'"),
        ({"sigma_ln_luminosity": 0.1 * Z * u.dex}, "sigma_ln_luminosity is in 'dex'"),
        ({"sigma_ln_luminosity": 0.1 * LUM * u.erg / u.s}, "sigma_ln_luminosity is in 'erg / s'"),
        ({"luminosity": LUM * u.kg, "lum_unit": "erg/s"}, "luminosity is in 'kg'"),
        ({"luminosity": np.log10(LUM) * u.dex(u.Msun)}, "a logarithm"),
        ({"luminosity": LUM * u.ABmag}, "a logarithm"),
        ({"truth_mass": LUM * u.Msun / cu.littleh}, "truth_mass is in 'solMass / littleh'"),
    ],
)
def test_quantities_of_another_kind_are_refused(given, words):
    with pytest.raises(MassmapError) as told:
        from_arrays(**given)
    assert words in str(told.value), told.value


def test_the_mask_of_astropys_masked_arrays_is_seen():
    gone = np.arange(NUM) < 2
    table = QTable({"name": NAMES, "z": Masked(Z, mask=gone[::-1]), "M500": Masked(LUM * 1e14 * u.Msun, mask=gone)})
    found = read_catalogue(table, lum="M500", sigma=0.1)
    assert np.flatnonzero(found.flag == Flag.LUM_MISSING).tolist() == [0, 1]
    assert np.flatnonzero(found.flag == Flag.Z_MISSING).tolist() == [NUM - 2, NUM - 1]
    assert from_arrays(luminosity=Masked(LUM, mask=gone)).flag[:3].tolist() == [Flag.LUM_MISSING] * 2 + [0]


@pytest.mark.parametrize("part", ["data", "table", "row 2 masked"])
def test_what_astropy_fits_gives_keeps_its_units(part):
    hdu = fits.BinTableHDU(
        Table({"name": NAMES, "z": Z, "M500": LUM, "N": np.arange(NUM)}, units={"M500": "1e14 Msun"})
    )
    hdu.header["TNULL4"] = 2
    hdu = fits.HDUList.fromstring(whole_file(hdu))[1]
    lum = "N" if part == "row 2 masked" else "M500"
    found = read_catalogue(hdu if part == "table" else hdu.data, lum=lum, sigma=0.1)
    if lum == "N":
        assert found.flag[2] == Flag.LUM_MISSING
    else:
        assert np.exp(found.ln_lum_obs) == pytest.approx(1e14 * LUM) and found.ids.tolist() == NAMES.tolist()


def whole_file(hdu):
    with io.BytesIO() as file:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
        return file.getvalue()


def test_tables_that_share_their_columns_through_arrow():
    import pyarrow as pa

    class Shared:  # as polars and duckdb have it
        def __init__(self, columns):
            self.table = pa.table(columns)

        def __arrow_c_stream__(self, requested_schema=None):
            return self.table.__arrow_c_stream__(requested_schema)

    found = read_catalogue(Shared({"name": NAMES, "z": Z, "L500": LUM}), sigma=0.1)
    assert np.exp(found.ln_lum_obs) == pytest.approx(LUM) and found.ids.tolist() == NAMES.tolist()


# ---- simulations, and masses without a word that they are logarithms

BOX = {"x": 20 * RNG.uniform(0, 1, NUM), "y": 20 * RNG.uniform(0, 1, NUM), "z": 20 * RNG.uniform(0, 1, NUM)}


@pytest.mark.parametrize("scale", [1.0, 0.05, 5.0])
@pytest.mark.parametrize("names", ["xyz", "XYZ"])
def test_a_place_in_a_box_is_no_redshift(scale, names):
    columns = {name: scale * BOX[name.lower()] for name in names}
    refused("looks like a place in a box", columns={**columns, "M200c": LUM * 1e14}, lum="M200c")
    found = read({**columns, "redshift": Z, "M200c": LUM * 1e14}, lum="M200c")
    assert found.redshift == pytest.approx(Z)
    found = read({"x": 50 * Z, "y": 2 * Z, "z": Z, "vx": Z, "vy": Z, "vz": Z, "zspec": Z, "M200c": LUM}, lum="M200c")
    assert found.columns_read["z"] == "zspec"


@pytest.mark.parametrize(
    ("columns", "units"),
    [
        ({"x": 40 * Z, "y": -30 * Z}, {}),
        ({"x": 2 * Z, "y": Z}, {"x": "arcmin", "y": "arcmin"}),
        ({"X": 900 * Z, "Y": 800 * Z}, {}),
        ({"x": Z}, {}),
    ],
)
def test_a_redshift_beside_places_on_the_sky_is_one(columns, units):
    assert read({**columns, "z": Z, "L500": LUM}, units=units).redshift == pytest.approx(Z)


def test_a_place_in_a_box_that_is_named_as_the_redshift_is_told():
    found = read({**{name: 0.05 * values for name, values in BOX.items()}, "M200c": LUM * 1e14}, lum="M200c", z="z")
    assert any("place in a box" in note for note in found.notes)


@pytest.mark.parametrize("name", ["mass", "lp_mass_med", "Mstar", "M_star", "Mhalo", "M500", "mbcg"])
@pytest.mark.parametrize("light", [6.8, 10.5, 0.0, -99.0])
def test_logarithms_of_masses_by_their_values(name, light):
    refused("lum_log=", columns={name: first(10.5 + np.log10(LUM), light), "z": Z}, lum=name)


@pytest.mark.parametrize("name", ["M500", "mass", "Mstar", "L500"])
def test_masses_in_another_unit_than_msun_are_no_logarithms(name):
    """In 1e14 Msun, with a few of 8 and more among them, or without a name that speaks of masses."""
    values = first(3.0 + 1.5 * LUM, 2.5) if name != "L500" else 9.0 + LUM
    assert read({name: values, "z": Z}, lum=name).usable.all()


@pytest.mark.parametrize("lum", ["mass_mean", "log10_mass_mean", "log10_mass_q50"])
def test_masses_that_were_inferred_are_told_from_what_was_observed(lum):
    masses = {"log10_mass_mean": 14 + np.log10(LUM), "log10_mass_q50": 14 + np.log10(LUM), "mass_mean": 1e14 * LUM}
    columns = {"z": Z, **masses, "log10_mass_sd": np.full(NUM, 0.1), "ln_lum_obs": np.log(LUM)}
    log = None if lum == "mass_mean" else "log10"
    assert any("counts twice" in note for note in read(columns, lum=lum, lum_log=log).notes)
    assert not any("counts twice" in note for note in read(columns, lum="ln_lum_obs", lum_log="ln").notes)
    assert not any("counts twice" in note for note in read({"z": Z, "mass_mean": LUM}, lum="mass_mean").notes)


# ---- what the second look at files and arrays found


@pytest.mark.parametrize(
    "name",
    [
        *("mass_h-1Msun", "M500_h70", "Lx_h50", "L500_h71", "M200_h", "m200c_h", "Mvir_h", "MASS_H70", "M500 (h^-1)"),
        *("M500 (10^14 h71^-1 Msun)", "Lx (10^44 h50^-2 erg/s)"),
    ],
)
def test_units_with_h_by_name(name):
    refused("in units with h", columns={name: 1e14 * LUM, "z": Z}, lum=name)


@pytest.mark.parametrize("name", ["m_h", "M500_H", "L500_H", "M_halo", "lum_hard", "h_mass", "Lx_high", "rich_h5"])
def test_an_h_in_a_name_that_is_no_hubble_constant(name):
    assert read({name: 1e14 * LUM, "z": Z}, lum=name).usable.all()


def test_both_bars_by_their_names_in_cds():
    bars = {"e_LX": 0.1 * LUM, "E_LX": 0.3 * LUM}
    found = read({"LX": LUM, "z": Z, **bars}, units=dict.fromkeys(("LX", *bars), "10+37W"), sigma=None)
    assert found.sigma_ln_lum == pytest.approx(0.5 * (np.log(1.3) - np.log(0.9)))
    assert (found.columns_read["sigma_plus"], found.columns_read["sigma_minus"]) == ("E_LX", "e_LX")
    found = read({"LX": LUM, "z": Z, **bars}, sigma="e_LX", sigma_kind="linear")
    assert found.sigma_ln_lum == pytest.approx(np.arctanh(0.1))


@pytest.mark.parametrize(
    ("name", "factor"), [("eLx (%)", 10.0), ("LX_err [%]", 10.0), ("dL (dex)", np.arctanh(0.1) / np.log(10))]
)
def test_the_unit_of_an_error_by_its_name(name, factor):
    found = read({"Lx": LUM, "z": Z, name: np.full(NUM, factor)}, lum="Lx", sigma=name)
    assert found.sigma_ln_lum == pytest.approx(np.arctanh(0.1))


@pytest.mark.parametrize("name", ["richness", "LAMBDA_CHISQ", "N_mem", "N200", "Rich", "ngal"])
def test_a_narrow_bin_of_richness_is_no_logarithm(name):
    assert read({name: 20 + 2 * Z, "z": Z}, lum=name).usable.all()


def test_nor_is_one_of_temperatures():
    assert read({"kT": 6 + Z, "z": Z}, lum="kT").usable.all()
    assert read({"TX": 6 + Z, "z": Z}, units={"TX": "keV"}, lum="TX").usable.all()
    refused("lum_log=", columns={"TX": 14 + Z, "z": Z}, lum="TX")


@pytest.mark.parametrize("number", [1, 3])
def test_a_position_of_zero_among_others_is_none(number):
    gone = np.arange(NUM) < number
    found = read({"ra": np.where(gone, 0.0, RA), "dec": np.where(gone, 0.0, DEC), "z": Z, "L500": LUM})
    bad = (found.flag & int(Flag.POSITION_BAD)) != 0
    assert bad.sum() == (number if number > 1 else 0) and not bad[number:].any()
    assert any(f"exactly 0 in {number} row" in note for note in found.notes)
    assert not read({"ra": np.zeros(NUM), "dec": np.zeros(NUM), "z": Z, "L500": LUM}).flag.any()
    flat = from_arrays(ra=np.where(gone, 0.0, RA), dec=np.where(gone, 0.0, DEC), position_unit="arcmin")
    assert not flat.flag.any()


def test_radians_of_a_part_of_the_sky_are_told():
    columns = {"ra": np.linspace(0.2, 1.5, NUM), "dec": np.linspace(-1.0, 0.0, NUM), "z": Z, "L500": LUM}
    assert any("position_unit='rad'" in note for note in read(columns).notes)
    assert not any("'rad'" in note for note in read(columns | {"ra": 10 + columns["ra"]}).notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"luminosity": None, "ln_luminosity": 1e14 * LUM}, "no logarithm"),
        ({"sigma_ln_luminosity": 0.1 * LUM * 1e14}, "sigma_ln_luminosity has a median"),
        ({"sigma_ln_luminosity": 10.0}, "(0.1 is 10 %)"),
        ({"redshift": 299792.458 * Z}, "over 299792.458"),
        ({"redshift": 100 * (0.3 + Z)}, "per cent over 100"),
        ({"truth_mass": 14 + 0.1 * LUM}, "10**x"),
        ({"truth_mass": LUM}, "Msun"),
    ],
)
def test_arrays_that_are_other_numbers(given, words):
    with pytest.raises(MassmapError) as told:
        from_arrays(**given)
    assert words in str(told.value), told.value


def test_wide_errors_and_some_that_are_placeholders_are_no_other_numbers():
    assert from_arrays(sigma_ln_luminosity=3.0).usable.all()
    assert from_arrays(sigma_ln_luminosity=first(np.full(NUM, 0.1), 1e14)).sigma_ln_lum[1] == 0.1
    assert from_arrays(sigma_ln_luminosity=50.0, noise_kind="normal").usable.all()


@pytest.mark.parametrize("lines", [1, 2, 4])
@pytest.mark.parametrize("mark", ["|", ",", "\t"])
def test_lines_of_words_above_the_header(tmp_path, lines, mark):
    path = tmp_path / "in.txt"
    above = ["Results from a query of the database", "which the observatory runs", "for one object", "of many"][:lines]
    rows = [mark.join(("Name", "z", "L500")), *(mark.join(map(str, row)) for row in zip(NAMES, Z, LUM, strict=True))]
    path.write_text("\n".join([*above, "", *rows]) + "\n")
    found = read_catalogue(path, sigma=0.1)
    assert found.redshift == pytest.approx(Z) and sum("above the header" in note for note in found.notes) == lines


@pytest.mark.parametrize("comment", ["#Units: Masses in Msun / h", "# mvir [Msun/h]", "# M200 in 1e10 h^-1 Msun"])
def test_a_comment_on_units_with_h_is_told(tmp_path, comment):
    path = tmp_path / "in.txt"
    text = "# halo finder\n{}\n# id z M200c\n" + "".join(
        f"{i} {z} {lum}e14\n" for i, (z, lum) in enumerate(zip(Z, LUM))
    )
    path.write_text(text.format(comment))
    assert any("units with h" in note for note in read_catalogue(path, lum="M200c", sigma=0.1).notes)
    path.write_text(text.format("# masses in Msun, without h"))
    assert not any("units with h" in note for note in read_catalogue(path, lum="M200c", sigma=0.1).notes)


@pytest.mark.parametrize("cell", ["0.2:", "0.2?", "0.2~"])
def test_marks_of_doubt_behind_a_number(tmp_path, cell):
    path = tmp_path / "in.csv"
    path.write_text(f"name,z,L500\nA,{cell},2\nB,0.3,4\n")
    with pytest.raises(MassmapError, match="footnote marks"):
        read_catalogue(path, sigma=0.1)


@pytest.mark.parametrize("unit", ["%", "0.01", "10**-2"])
def test_per_cent_as_fits_writes_it(unit):
    source = {"Lx": LUM, "z": Z, "e_Lx": np.full(NUM, 10.0)}
    table = ColumnTable("the table", tuple(source), source.__getitem__, {"Lx": "1e44 erg/s", "e_Lx": unit})
    assert read_catalogue(table).sigma_ln_lum == pytest.approx(np.arctanh(0.1))


@pytest.mark.parametrize("name", ["z_err", "e_z", "zErr", "sigma_z", "dz", "z_unc"])
def test_an_error_of_redshifts_alone_is_no_redshift(name):
    refused("an error of redshifts by its name", columns={name: 0.1 * Z, "L500": LUM}, z=name)


@pytest.mark.parametrize(("first_z", "second_z"), [("zlambda", "zspec"), ("zph", "zsp"), ("z_cl", "zphoto")])
def test_one_of_several_redshifts_is_asked_for(first_z, second_z):
    gaps = np.where(np.arange(NUM) % 2 == 0, np.nan, Z)
    refused("could each be the redshift", columns={first_z: Z, second_z: gaps, "L500": LUM})


@pytest.mark.parametrize(("ra", "dec"), [("ra_deg", "dec_deg"), ("RAdeg", "DEdeg"), ("ra_deg", "dec")])
@pytest.mark.parametrize("other", ["decimal", "sexagesimal"])
def test_degrees_by_name_go_before_angles_of_the_plain_name(ra, dec, other):
    plain = {"ra": RA, "dec": DEC} if other == "decimal" else {"ra": ["10:00:00"] * NUM, "dec": ["-10:00:00"] * NUM}
    found = read({**plain, ra: RA, dec: DEC, "z": Z, "L500": LUM})
    assert found.ra == pytest.approx(RA) and found.dec == pytest.approx(DEC)


@pytest.mark.parametrize(
    ("values", "unit"),
    [(1e44 * LUM, "1e44 erg/s"), (1e14 * LUM, "1e14 Msun"), (1e37 * LUM, "1e37 W")],
)
def test_a_scale_that_the_numbers_have_already(values, unit):
    refused("nothing has more than", columns={"L500": values, "z": Z}, lum_unit=unit)
    found = read({"L500": values, "z": Z}, lum_unit=unit.split()[1], lum_scale=1.0)
    assert np.exp(found.ln_lum_obs) == pytest.approx(values)


@pytest.mark.parametrize("size", [2, 5, NUM])
def test_positions_of_zero_are_known_in_every_part_alike(tmp_path, size):
    """A part may hold none but these, or one alone."""
    path = tmp_path / "in.csv"
    gone = np.arange(NUM) < 7
    rows = zip(NAMES, np.where(gone, 0, RA), np.where(gone, 0, DEC), Z, LUM, strict=True)
    path.write_text("\n".join(["name,ra,dec,z,L500", *(",".join(map(str, row)) for row in rows)]) + "\n")
    chunks = Chunks(path, text_columns=id_columns())
    sample = chunks.sample()
    flags = [
        read_catalogue(replace(part, sample=sample), sigma=0.1, need_usable=False).flag for part in chunks.read(size)
    ]
    assert ((np.concatenate(flags) & int(Flag.POSITION_BAD)) != 0).tolist() == gone.tolist()
