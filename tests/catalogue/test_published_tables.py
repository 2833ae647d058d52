"""Text tables in the forms in which papers and their authors publish them; the files here are made up."""

import numpy as np
import pytest

from massmap_jax import read_catalogue
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import named_hubble, overdensity_in
from massmap_jax.catalogue.value_and_error import value_with_error
from massmap_jax.errors import MassmapError

ROWS = "A1 0.10 3.5 0.2\nA2 0.20 4.5 0.3\nA3 0.30 5.5 none\n"


def table(tmp_path, text, **how):
    path = tmp_path / "table.dat"
    path.write_text(text)
    return open_table(str(path), **how)


# -- names of the columns --


def test_a_comment_between_bars_that_ends_with_one(tmp_path):
    """As HEASARC writes it; a blank padded to its column's width leaves the others numbers."""
    text = (
        "\n# Results of a query\n\n# num|name |y      |redshift |mass    |\n"
        "|   1|A 1  |1.5e-03|  0.1935 | 4.71   |\n|   2|A 2  |2.5e-03|         |        |\n|   3|A 3  |3.5e-03| 0.2    | 5.5  |\n"
    )
    found = table(tmp_path, text)
    assert found.names == ("", "num", "name", "y", "redshift", "mass", "")
    np.testing.assert_array_equal(found.column("redshift"), [0.1935, np.nan, 0.2])
    np.testing.assert_array_equal(found.column("mass"), [4.71, np.nan, 5.5])
    assert list(found.column("name")) == ["A 1", "A 2", "A 3"]


@pytest.mark.parametrize(
    "above, names, units",
    [
        ("# Values assume WMAP7.\n\n# id redshift\n# M500 dM500\n\n", ["id", "redshift", "M500", "dM500"], {}),
        (
            "# Of table 3.\n#\n# id z\n# M500 [1e13 Msun] errM500+ [1e13 Msun]\n#\n",
            ["id", "z", "M500", "errM500+"],
            {"M500": "1e13 Msun", "errM500+": "1e13 Msun"},
        ),
        (
            "# Columns:\n# name\n# k_B T_X (keV)\n# log10(M_500)\n# E_kin/E_thrm\n",
            ["name", "k_B T_X (keV)", "log10(M_500)", "E_kin/E_thrm"],
            {},
        ),
        ("# name\n# z\n# M_500\n# error of it\n", ["name", "z", "M_500", "error of it"], {}),
    ],
)
def test_names_over_several_comments(tmp_path, above, names, units):
    found = table(tmp_path, above + ROWS)
    assert list(found.names) == names and found.units == units
    assert any("several comment lines" in note for note in found.notes)
    np.testing.assert_array_equal(found.column(names[3]), [0.2, 0.3, np.nan])


@pytest.mark.parametrize(
    "above",
    [
        "# the redshift of\n# these\n",  # as many words as columns, but prose
        "# one two\n# three four\n",  # no usual name
        "# first note\n# second note\n# third note\n# fourth note\n",
        "# id z\n# M500 M500\n",  # a name that comes twice
        "# id z\n# M500\n",  # one too few
        "# the z\n\n# M500 e\n",  # two paragraphs
    ],
)
def test_prose_does_not_name_columns(tmp_path, above):
    assert table(tmp_path, above + ROWS).names == ("col1", "col2", "col3", "col4")


def test_names_that_leave_some_columns_out_are_told(tmp_path):
    """As where the bars of a value have no names of their own."""
    found = table(tmp_path, "# Made by hand\n\n# Cluster z kT {a}\nA1 0.1 3.5 +0.2 -0.1\nA2 0.2 4.5 +0.3 -0.2\n")
    assert found.names == ("col1", "col2", "col3", "col4", "col5")
    assert any("'Cluster z kT {a}' has 4 words and cannot name them" in note for note in found.notes)
    quiet = table(tmp_path, "# Made by hand in 2020\nA1 0.1 3.5\nA2 0.2 4.5\n")
    assert not any("cannot name" in note for note in quiet.notes)


def test_sentences_above_the_table(tmp_path):
    """Without a comment mark, which the line of the names has."""
    text = 'What the columns are:\n\n    "id": Name of the cluster\n    "z": Redshift of the cluster\n\n'
    names = "#id\tz\tT\te_T\n"
    rows = ROWS.replace(" ", "\t")
    found = table(tmp_path, text + names + rows)
    assert found.names == ("id", "z", "T", "e_T") and found.column("z").size == 3
    assert sum("above the header: left out" in note for note in found.notes) == 3
    # A row that was cut short is no sentence.
    for short in ("A0\n", "A 0\n", "A0 0.05 3.5\n"):
        with pytest.raises(MassmapError, match="another number of cells"):
            table(tmp_path, names + short.replace("0 ", "0\t") + rows).column("z")


def test_a_count_of_the_rows_above_them(tmp_path):
    found = table(tmp_path, "3\n" + ROWS, names=["id", "z", "T", "e_T"])
    np.testing.assert_array_equal(found.column("z"), [0.1, 0.2, 0.3])
    assert any("number of rows" in note for note in found.notes)
    with pytest.raises(MassmapError, match="columns"):
        table(tmp_path, "4\n" + ROWS, names=["id", "z", "T", "e_T"]).column("z")
    # A column of numbers is one, whatever its first is.
    assert table(tmp_path, "z\n2\n3\n").column("z").size == 2


def test_tabs_whose_last_cells_are_left_out(tmp_path):
    """As a table copied from a web page; the cells have blanks in them."""
    rows = "NGC 1550\t0.012\t1.06 +or- 0.02\t3.2\nNGC 383\t0.017\t1.67 +or- 0.1\t4\nA 262\t0.016\t1.9 +or- 0.1\n"
    with pytest.raises(MassmapError, match=r"has 4 columns but another number of cells in 1 row.*'A 262"):
        table(tmp_path, "# name\tz\tT (keV)\tM\n" + rows)
    found = table(tmp_path, "# name\tz\tT (keV)\tM\n" + rows[:-1] + "\tnodata\n")
    assert found.names == ("name", "z", "T (keV)", "T_err (keV)", "M")


@pytest.mark.parametrize("mark", ["#Units: ", "# units = "])
def test_units_in_a_comment(tmp_path, mark):
    names = "name,hms,z,m200\n"
    rows = "Abell 1,01:31:53.5,0.2,8.5\nAbell 2,02:39:50.4,0.3,24.1\n"
    found = table(tmp_path, mark + "1,hh:mm:ss,1,1e14 * Msun\n" + names + rows)
    assert found.units == {"hms": "hh:mm:ss", "m200": "1e14 * Msun"}
    catalogue = read_catalogue(found, lum="m200", sigma=0.1)
    np.testing.assert_allclose(np.exp(np.asarray(catalogue.ln_lum_obs)), [8.5e14, 24.1e14], rtol=1e-6)
    # Where one of them is no unit, or one is missing, none is taken.
    for bad in ("1,hh:mm:ss,1,see paper\n", "1,hh:mm:ss,1e14 Msun\n"):
        assert not table(tmp_path, mark + bad + names + rows).units


# -- values with their errors --


@pytest.mark.parametrize(
    "cell, value, plus, minus",
    [
        ("5.6 ± 0.3", 5.6, 0.3, 0.3),
        ("5.6 +/- 0.3", 5.6, 0.3, 0.3),
        ("1.06 +or- 0.02*", 1.06, 0.02, 0.02),
        (r"$5.6\pm0.3$", 5.6, 0.3, 0.3),
        ("1.2e14 +- 3e13", 1.2e14, 3e13, 3e13),
        ("5.60^{+0.70}_{-0.60}", 5.6, 0.7, 0.6),
        ("465^+15_-19*", 465, 15, 19),
        (r"$^d\rm 3.01^{+ 0.07}_{- 0.08 }$", 3.01, 0.07, 0.08),
        (r"$\rm0.575^{+ 0.004}_{- 0.003 }$", 0.575, 0.004, 0.003),
        (r"3.1_{\u22120.2}^{+0.3}".replace(r"\u2212", "\u2212"), 3.1, 0.3, 0.2),
        ("1.36+0.77-0.48", 1.36, 0.77, 0.48),
        ("-5.1 +0.3/-0.2", -5.1, 0.3, 0.2),
    ],
)
def test_values_with_errors(cell, value, plus, minus):
    assert value_with_error(cell)[:3] == (value, plus, minus)


@pytest.mark.parametrize(
    "cell", ["5.6", "<3.2", "A2-B", "12+30", "2001-01-02", "1.5(3)", "4.9^+0.5_-0.4 (10)", "J0102+1534-2", "", "5.6 ±"]
)
def test_other_cells_hold_no_value_with_error(cell):
    assert value_with_error(cell) is None


def test_columns_of_values_with_errors_are_parted(tmp_path):
    text = (
        "id,z,T [keV],M\nA1,0.1,5.60^{+0.70}_{-0.60},2 +/- 0.2\nA2,0.2,(2.16^{+0.35}_{-0.30}),3 +/- 0.3\nA3,0.3,...,\n"
    )
    found = table(tmp_path, text)
    assert found.names == ("id", "z", "T [keV]", "T_plus [keV]", "T_minus [keV]", "M", "M_err")
    np.testing.assert_array_equal(found.column("T_minus [keV]"), [0.6, np.nan, np.nan])
    np.testing.assert_array_equal(found.column("M_err"), [0.2, 0.3, np.nan])
    assert any("1 in brackets" in note and "M (M_err)" in note for note in found.notes)
    bars = {"sigma_plus": "T_plus [keV]", "sigma_minus": "T_minus [keV]"}
    catalogue = read_catalogue(found, lum="T [keV]", **bars)
    np.testing.assert_allclose(catalogue.sigma_ln_lum[0], (np.log1p(0.7 / 5.6) - np.log1p(-0.6 / 5.6)) / 2, rtol=1e-6)
    # The error of a name with a unit is found as that of a name without one is, and its unit says what it is in.
    catalogue = read_catalogue(
        table(tmp_path, "z;L500 (1e44 erg/s)\n0.1;4.6 +/- 0.1\n0.2;1.4 +/- 0.1\n"), lum="L500 (1e44 erg/s)"
    )
    np.testing.assert_allclose(catalogue.sigma_ln_lum, np.arctanh(0.1 / np.array([4.6, 1.4])), rtol=1e-5)
    # A limit or a bare number among them is not guessed at.
    for other in ("<3.2", "4.1"):
        with pytest.raises(MassmapError, match="columns of their own"):
            read_catalogue(table(tmp_path, text.replace("...", other)), lum="T [keV]", sigma=0.1)


@pytest.mark.parametrize(
    "blank", ["nodata", "n.a.", "N.D.", "Unknown", "\u2014", "~", "?", ".", r"\nodata", r"$\ldots$"]
)
def test_what_means_no_value(tmp_path, blank):
    found = table(tmp_path, f"id,z,T\nA1,0.1,3.5\nA2,0.2,{blank}\nA3,{blank},5.5\n")
    np.testing.assert_array_equal(found.column("T"), [3.5, np.nan, 5.5])
    np.testing.assert_array_equal(found.column("z"), [0.1, 0.2, np.nan])
    in_memory = read_catalogue({"z": [0.1, 0.2], "T": ["3.5", blank]}, lum="T", sigma=0.1)
    assert in_memory.usable.tolist() == [True, False]


def test_another_word_among_numbers_is_asked_about(tmp_path):
    found = table(tmp_path, "id,z,T\nA1,0.1,3.5\nA2,0.2,soft\nA3,0.3,5.5\n")
    with pytest.raises(MassmapError, match="'soft'; leave the cell blank where"):
        read_catalogue(found, lum="T", sigma=0.1)


# -- what names and units say --


@pytest.mark.parametrize(
    "text, hubble",
    [
        ("Msun/h70", "70"),
        ("1E13 Msun/h73", "73"),
        ("h^-1_70 1.e14 MSun", "70"),
        (r"$h_{70}^{-1} M_\odot$", "70"),
        ("h^{-1}_{50} Msun", "50"),
        ("Msunh70", "70"),
        *((text, "") for text in ("Msun/h", "h^-1 Msun", "h_100", "1e14 Msun", "depth 70", "kpc")),
    ],
)
def test_an_h_with_an_index_is_not_little_h(text, hubble):
    assert named_hubble(text) == hubble


@pytest.mark.parametrize("unit, factor", [("1e14 Msun/h70", False), ("1e14 Msun/h", True)])
def test_a_mass_in_units_of_h70_is_not_to_be_divided_by_a_number(unit, factor):
    """Who divides 3e14 Msun/h70 by 0.7 is 0.15 dex off."""
    source = {"z": [0.1, 0.2], f"M200 [{unit}]": [3.0, 4.0]}
    with pytest.raises(MassmapError, match="units with h") as told:
        read_catalogue(source, lum=f"M200 [{unit}]", sigma=0.1)
    assert ("1.4286" in str(told.value)) is factor and ("is 1 and not 0.7" in str(told.value)) is not factor


@pytest.mark.parametrize("name", ["M500_gas", "M500_3D_star", "M500_stellar", "M_500_BCG", "M500_gas_err"])
def test_a_mass_in_a_halo_is_not_the_halo_s(name):
    assert overdensity_in(name) == ""
    notes = read_catalogue({"z": [0.1, 0.2], name: [3.0, 4.0]}, lum=name, sigma=0.1, lum_unit="1e13 Msun").notes
    assert not any("mass definition" in note for note in notes)


@pytest.mark.parametrize("name", ["Delta_M", "errM+", "eM_p", "sigM", "dM"])
def test_columns_that_may_be_the_error_are_named(name):
    source = {"z": [0.1, 0.2], "M": [3.0, 4.0], name: [0.3, 0.4]}
    with pytest.raises(MassmapError, match=r"may be it|does not say what") as told:
        read_catalogue(source, lum="M", lum_unit="1e14 Msun")
    assert name in str(told.value)


# -- one object under two names --


def test_one_object_under_two_names_is_told():
    """Of a list compiled from several surveys: 4 arcsec apart, at redshifts that differ in the third digit."""
    rng = np.random.default_rng(5)
    number = 200
    columns = {"ra": rng.uniform(0, 360, number), "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, number)))}
    columns |= {"z": rng.uniform(0.1, 0.6, number), "lum": rng.lognormal(0, 1, number)}

    def told(**changed):
        notes = read_catalogue(columns | changed, lum="lum", sigma=0.1).notes
        return [note for note in notes if "under two names" in note]

    assert not told()
    ra, dec, z = (columns[name].copy() for name in ("ra", "dec", "z"))
    ra[150], dec[150], z[150] = ra[7], dec[7] + 4 / 3600, z[7] + 0.001
    (note,) = told(ra=ra, dec=dec, z=z)
    assert "1 pair of objects" in note and "rows 7 and 150" in note
    # The twins: at another redshift, and farther apart.
    assert not told(ra=ra, dec=dec, z=np.where(np.arange(number) == 150, z + 0.05, z))
    assert not told(ra=ra, dec=np.where(np.arange(number) == 150, dec + 12 / 3600, dec), z=z)


def test_pairs_by_chance_are_not_told():
    """Galaxies in a small field, 300 pairs of which lie within 10 arcsec at one redshift."""
    rng = np.random.default_rng(6)
    number = 20_000
    columns = {"ra": 150 + rng.uniform(0, 0.5, number), "dec": rng.uniform(-0.25, 0.25, number)}
    columns |= {"z": rng.uniform(0.2, 0.4, number), "lum": rng.lognormal(0, 1, number)}
    assert not any("under two names" in note for note in read_catalogue(columns, lum="lum", sigma=0.1).notes)


# -- tables of surveys, as their users get them: names, units and rows are made up --

ABOVE_EACH = [
    "Identifier",
    "Right ascension of its peak [deg]",
    "photometric redshift z_gal",
    "number of members N_gal",
    "redshift of its brightest galaxy (-1.0 if none)",
    "lower limit of the mass M_200 [10^13 M_sun/h]",
    "upper limit of the mass M_200 [10^13 M_sun/h]",
]


def described(lines, rows="1 10.5 0.31 25.0 0.30 3.1 4.2\n2 11.5 0.42 35.0 -1.0 4.1 5.2\n"):
    return "".join(f"# column {i}: {line}\n" for i, line in enumerate(lines, 1)) + rows


def test_numbered_comments_that_end_with_a_symbol_or_have_none(tmp_path):
    """The first word of a sentence is no name: two columns were "redshift", and a radius had the unit of the last."""
    found = table(tmp_path, described(ABOVE_EACH))
    assert found.names == (
        "Identifier",
        "Right ascension of its peak",
        "z_gal",
        "N_gal",
        "redshift",
        "lower limit of the mass M_200",
        "upper limit of the mass M_200",
    )
    assert found.units == {found.names[1]: "deg", found.names[5]: "10^13 M_sun/h", found.names[6]: "10^13 M_sun/h"}


def test_numbered_comments_that_begin_with_the_name_keep_it(tmp_path):
    names = ["NUMBER running number", "RA right ascension [deg]", "redshift", "lum of the brightest [1e44 erg/s]"]
    found = table(tmp_path, described(names, "1 10.5 0.3 1.2\n2 11.5 0.4 1.3\n"))
    assert found.names == ("NUMBER", "RA", "redshift", "lum")
    trees = ["Mvir virial mass M_vir", "Conc concentration c_vir", "rs scale radius r_s", "vmax largest velocity"]
    assert table(tmp_path, described(trees, "1 10.5 0.3 1.2\n2 11.5 0.4 1.3\n")).names == ("Mvir", "Conc", "rs", "vmax")
    twice = [*names[:2], "survey A, redshift", "survey A, richness", "survey B, richness (or 0)"]
    found = table(tmp_path, described(twice, "1 10.5 0.3 22 0\n2 11.5 0.4 33 21\n"))
    assert found.names == (
        "NUMBER running number",
        "RA",
        "survey A, redshift",
        "survey A, richness",
        "survey B, richness",
    )


@pytest.mark.parametrize("first", [0, 1])
def test_names_with_their_number_behind_them(tmp_path, first):
    """As programs for trees of halos write them: "mvir(2)" is no name that a user types."""
    names = ["a", "id", "mvir", "M200b", "x", "y", "z"]
    head = "#" + " ".join(f"{name}({i})" for i, name in enumerate(names, first)) + "\n#Omega_M = 0.3\n"
    rows = "0.5 11 1e12 1.1e12 5.5 6.5 7.5\n0.5 12 2e12 2.1e12 8.5 9.5 1.5\n"
    assert table(tmp_path, head + rows).names == tuple(names)
    other = head.replace("mvir(", "mvir(7")
    assert table(tmp_path, other + rows).names[0] == f"a({first})"


def test_a_long_line_of_names_is_shown_in_part(tmp_path):
    names = " ".join(f"quantity_number_{i}" for i in range(60))
    note = next(n for n in table(tmp_path, f"# {names}\n{' '.join('1.5' for _ in range(60))}\n").notes if "names" in n)
    assert len(note) < 400 and note.endswith("...'")


@pytest.mark.parametrize("name", ["spec_z", "phot_z", "z_avg", "Zfof", "z_group"])
def test_further_names_of_a_redshift(tmp_path, name):
    (tmp_path / "t.csv").write_text(f"{name},lum\n0.1,1.5\n0.2,2.5\n")
    found = read_catalogue(tmp_path / "t.csv", sigma=0.1)
    np.testing.assert_array_equal(found.redshift, [0.1, 0.2])


def test_positions_in_columns_named_after_their_form(tmp_path):
    (tmp_path / "t.csv").write_text("hms,dms,z,lum\n01:00:00,-00:30:00,0.1,1.5\n02:00:00,+10:30:00,0.2,2.5\n")
    found = read_catalogue(tmp_path / "t.csv", sigma=0.1)
    np.testing.assert_allclose((found.ra, found.dec), ([15.0, 30.0], [-0.5, 10.5]))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("BCGRA,BCGDec,PeakRA,PeakDec", ("'BCGRA' and 'BCGDec'", "'PeakRA' and 'PeakDec'")),
        ("ra_opt,dec_opt,ra_x,dec_x", ("'ra_opt' and 'dec_opt'", "'ra_x' and 'dec_x'")),
        ("mean RA,mean DEC,a,b", ("'mean RA' and 'mean DEC'",)),
        ("pmra,pmdec,e_RA,e_DEC", ()),
        ("RA_err,DEC_err,ratio,deco", ()),
    ],
)
def test_columns_that_may_be_positions_are_told(tmp_path, names, said):
    """There are positions; that the catalogue has none is not true, and says not what to do."""
    (tmp_path / "t.csv").write_text(f"z,lum,{names}\n0.1,1.5,10,20,11,21\n0.2,2.5,12,22,13,23\n")
    notes = [note for note in read_catalogue(tmp_path / "t.csv", sigma=0.1).notes if "no positions" in note]
    assert bool(notes) == bool(said) and all(pair in notes[0] and "ra= and dec=" in notes[0] for pair in said)


def test_masses_per_h_are_read_as_the_refusal_says(tmp_path):
    """The power of ten of the unit is part of the factor, and bars in the file's unit are those of the masses."""
    rows = "1 10.5 0.31 25.0 3.5 3.1 4.2\n2 11.5 0.42 35.0 4.5 4.1 5.2\n"
    (tmp_path / "t.dat").write_text(described([*ABOVE_EACH[:4], "mass M_lens [10^13 M_sun/h]", *ABOVE_EACH[5:]], rows))
    how = {"z": "z_gal", "lum": "M_lens"}
    with pytest.raises(MassmapError, match=r"lum_scale= \(1e\+13/0.7 = 1.4286e\+13 for h = 0.7\)"):
        read_catalogue(tmp_path / "t.dat", sigma=0.1, **how)
    upper, lower = ABOVE_EACH[6].partition(" [")[0], ABOVE_EACH[5].partition(" [")[0]
    bars = {"sigma_plus": upper, "sigma_minus": lower, "sigma_kind": "bounds"}
    found = read_catalogue(tmp_path / "t.dat", lum_scale=1e13 / 0.7, lum_unit="Msun", **how, **bars)
    np.testing.assert_allclose(np.exp(found.ln_lum_obs), np.array([3.5, 4.5]) * 1e13 / 0.7)
    np.testing.assert_allclose(found.sigma_ln_lum, [np.log(4.2 / 3.1) / 2, np.log(5.2 / 4.1) / 2], rtol=0.02)
    # Bars in another unit than the file's of the masses are still refused.
    text = (tmp_path / "t.dat").read_text().replace("limit of the mass M_200 [10^13 M_sun/h]", "limit of M_200 [keV]")
    (tmp_path / "t.dat").write_text(text)
    bars |= {"sigma_plus": upper.replace("the mass ", ""), "sigma_minus": lower.replace("the mass ", "")}
    with pytest.raises(MassmapError, match="keV"):
        read_catalogue(tmp_path / "t.dat", lum_scale=1e13 / 0.7, lum_unit="Msun", **how, **bars)


def test_a_votable_with_its_rows_as_csv_is_named(tmp_path):
    """VizieR gives it; to astropy it has no rows."""
    field = '<FIELD name="z" datatype="double"/><FIELD name="lum" datatype="double"/>'
    data = '<DATA><CSV headlines="1" colsep=";"><![CDATA[z;lum\n0.1;1.5\n]]></CSV></DATA>'
    (tmp_path / "t.xml").write_text(
        '<?xml version="1.0"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE><TABLE>{field}{data}</TABLE></RESOURCE></VOTABLE>"
    )
    with pytest.raises(MassmapError, match="rows as CSV inside"):
        open_table(str(tmp_path / "t.xml"))


@pytest.mark.parametrize(
    ("layout", "text", "lum"),
    [
        ("camira", described(["ID", "RA", "Dec", "redshift z_cl", "richness N_mem"], "7 1 2 0.3 22\n8 2 3 0.4 33\n"), 1.0),
        ("psz2", "name,redshift,mass_sz,mass_sz_pos_err,mass_sz_neg_err\nA,0.1,22,4,5\nB,0.2,33,5,6\n", 1e14),
        ("gama", "GroupID,IterCenRA,IterCenDec,Zfof,VelDisp,VelErr\n7,1,2,0.1,22,4\n8,2,3,0.2,33,5\n", 1.0),
        ("erass1", "Name;RAJ2000;DEJ2000;zBest;L500\n ;deg;deg; ;10+35J\n--;---;---;---;---\nA;1;2;0.1;22\nB;2;3;0.2;33\n", 1e42),
    ],
)  # fmt: skip
def test_layouts_under_the_names_of_other_archives(tmp_path, layout, text, lum):
    (tmp_path / "t.dat").write_text(text)
    given = {} if layout == "psz2" else {"sigma": 0.2}
    found = read_catalogue(tmp_path / "t.dat", columns=layout, **given)
    np.testing.assert_allclose(np.exp(found.ln_lum_obs), np.array([22, 33]) * lum)
    assert found.usable.all() and str(found.ids[0]) in "7A"
    assert (found.ra is None) == (layout == "psz2")
    if layout != "erass1":  # which is known by its bounds
        told = read_catalogue(tmp_path / "t.dat", lum=found.columns_read["lum"], z=found.columns_read["z"], sigma=0.2)
        assert any(f"columns='{layout}'" in note for note in told.notes) == (layout != "psz2")


def test_sentences_above_a_table_between_bars(tmp_path):
    """As HEASARC's batch interface answers: its first lines were taken for all there is."""
    text = (
        "Results from heasarc_some: A catalogue of some survey\nCoordinate system: Equatorial\n"
        "|name |ra         |dec        |redshift|mass_500c|mass_500c_error|\n"
        "|A 1  |22 32 33.14|-59 59 13.4|0.594800|  3.47218|        0.65505|\n"
        "|B 22 |01 15 19.27|+05 58 48.3|0.395649|         |               |\n"
        "|C 333|01 16 19.27|+05 59 48.3|0.095649|  1.21006|        0.26651|\n"
    )
    found = table(tmp_path, text)
    assert [name for name in found.names if name] == ["name", "ra", "dec", "redshift", "mass_500c", "mass_500c_error"]
    np.testing.assert_array_equal(found.column("mass_500c"), [3.47218, np.nan, 1.21006])
    assert sum("above the header: left out" in note for note in found.notes) == 2
    read = read_catalogue(tmp_path / "table.dat", lum="mass_500c", sigma_kind="linear", lum_unit="1e14 Msun")
    np.testing.assert_allclose(read.ra[1:], [18.830292, 19.080292], atol=1e-5)


@pytest.mark.parametrize("name", ["Flag", "z_flag", "quality", "L500_flag2", "class"])
def test_a_flag_is_no_luminosity(tmp_path, name):
    (tmp_path / "t.csv").write_text(f"z,{name},flagship\n0.1,1,1.5\n0.2,2,2.5\n")
    with pytest.raises(MassmapError, match="is a flag or a class by its name"):
        read_catalogue(tmp_path / "t.csv", lum=name, sigma=0.1)
    read_catalogue(tmp_path / "t.csv", lum="flagship", sigma=0.1)


@pytest.mark.parametrize(
    ("names", "told"), [("zphot_lo68,zphot_hi68", True), ("z_min,z_max", True), ("zlimit,zlum", False)]
)
def test_bounds_of_photometric_redshifts_are_told_where_they_are_not_used(tmp_path, names, told):
    (tmp_path / "t.csv").write_text(f"zphot,lum,{names}\n0.1,1.5,0.08,0.13\n0.2,2.5,0.17,0.26\n")
    notes = read_catalogue(tmp_path / "t.csv", sigma=0.1).notes
    assert any("redshift errors are given" in note and names.split(",")[0] in note for note in notes) == told
