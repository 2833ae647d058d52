"""Values that can be read in two ways and are told of: bars of one length, p(z) beside its redshift, hours as degrees."""

import re

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.photo_z import RedshiftDistributions
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError

N = 20
Z, LUM = np.linspace(0.06, 0.3, N), np.geomspace(0.5, 8.0, N)
UNCERTAIN = {"z_contains": "likelihood", "lum_moves": "yes"}


def notes(columns, **options):
    table = Table({"z": Z, "lum": LUM} | columns)
    return read_catalogue(table, **({"sigma": 0.1} | options)).notes


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (np.full(N, 0.1), "linear", True),
        (np.full(N, 0.1), "fraction", False),
        (np.full(N, 0.1), "ln", False),
        (0.1 * LUM, "linear", False),
        (np.append(np.full(N - 1, 0.1), 0.11), "linear", False),
    ],
)
def test_bars_of_one_length(error, kind, told):
    found = notes({"e": error}, sigma="e", sigma_kind=kind)
    assert any("in all rows, of luminosities from 0.5 to 8" in note for note in found) is told


def test_bars_of_one_length_of_luminosities_that_hardly_differ_are_bars():
    found = notes({"lum": np.linspace(3, 5, N), "e": np.full(N, 0.1)}, sigma="e", sigma_kind="linear")
    assert not any("in all rows" in note for note in found)


@pytest.mark.parametrize(("last", "told"), [(1.0, False), (1.4, True), (0.75, True)])
def test_redshifts_to_one_side_of_their_own_densities(last, told):
    """A grid that goes from 0 to 1.4 in place of 1, of densities that scatter about the redshifts."""
    centre = Z + 0.02 * np.random.default_rng(0).normal(size=N)
    density = norm.pdf(np.linspace(0, 1, 101), centre[:, None], 0.04)
    found = notes({"pz": density}, z_pdf="pz", z_grid=f"0:{last}:101", **UNCERTAIN)
    assert any("of their own p(z): see whether the grid" in note for note in found) is told


@pytest.mark.parametrize(("offset", "told"), [(0.0, False), (0.05, True)])
def test_the_same_of_quantiles(offset, told):
    levels = (1, 5, 16, 25, 50, 75, 84, 95, 99)
    columns = {f"q{level}": Z + offset + 0.03 * norm.ppf(level / 100) for level in levels}
    asked = ",".join(f"{level}:q{level}" for level in levels)
    found = notes(columns, z_quantiles=asked, **UNCERTAIN)
    assert any("of their own p(z)" in note for note in found) is told


@pytest.mark.parametrize(
    ("error", "refused"),
    [(Z - 0.01, True), (Z + 0.01, True), (0.02 * (1 + Z), False), (0.3 * Z, False), (np.full(N, 0.1), False)],
)
def test_a_bound_in_the_place_of_an_error_of_the_redshift(error, refused):
    if refused:
        with pytest.raises(MassmapError, match="looks like a bound of the redshift"):
            notes({"z_err": error}, z_err="z_err", **UNCERTAIN)
    else:
        assert notes({"z_err": error}, z_err="z_err", **UNCERTAIN)


@pytest.mark.parametrize(
    ("width", "dec", "told"),
    [(2.0 / 15, 2.0, True), (2.0 / 15, 50.0, True), (2.0, 2.0, False), (0.5, 2.0, False), (1e-3, 2.0, True)],
)
def test_right_ascensions_in_hours_of_one_field(width, dec, told):
    """A field of 2 degrees, the same at declination 50; one that is 4 times as high as wide is as it is."""
    rng = np.random.default_rng(2)
    ra = 10 + rng.uniform(0, width / np.cos(np.radians(dec)), N)
    found = notes({"ra": ra, "dec": dec + rng.uniform(0, 2, N)})
    assert any("higher than wide: if ra is in hours" in note for note in found) is told


def test_one_object_more_massive_than_any_halo():
    from types import SimpleNamespace

    from massmap_jax.run.misfit import giants

    catalogue = SimpleNamespace(ids=np.array(["a", "b", "c"]))
    mean = np.log([1e14, 9e15, 8e15])
    one = SimpleNamespace(usable=np.array([True, True, False]), mean=mean, catalogue=catalogue)
    assert "1 object is more massive than any halo" in giants(one) and "row 1 (b)" in giants(one)
    assert giants(SimpleNamespace(usable=np.array([True, False, False]), mean=mean, catalogue=catalogue)) == ""


@pytest.mark.parametrize(("factor", "told"), [(np.pi / 180, True), (1.0, False)])
def test_a_field_in_radians(factor, told):
    """A field of 2 degrees about (150, 2) is one of 2 arcmin about (2.6, 0.03) where its radians are taken as degrees."""
    rng = np.random.default_rng(2)
    found = notes({"ra": factor * rng.uniform(150, 152, N), "dec": factor * rng.uniform(1, 3, N)})
    assert any("if they are in radians" in note for note in found) is told


@pytest.mark.parametrize(("dec", "sign", "refused"), [(2.0, "-", True), (2.0, "+", False), (-2.0, "-", False)])
def test_a_sign_in_a_column_beside_the_declination(dec, sign, refused):
    columns = {"ra": np.linspace(150, 152, N), "dec": np.linspace(dec - 0.5, dec, N), "DEsign": np.full(N, sign)}
    found = [note for note in notes(columns) if "has a minus sign" in note]
    assert bool(found) is refused
    if refused:
        with pytest.raises(MassmapError, match="is never negative, and 'DEsign' beside it has a minus sign"):
            notes(columns, ra="ra", dec="dec")


@pytest.mark.parametrize(
    ("name", "values", "refused"),
    [
        ("richness", np.log(np.geomspace(20, 150, N)), True),
        ("Richness", np.log10(np.geomspace(20, 150, N)), True),
        ("lambda_chisq", np.log(np.geomspace(5, 150, N)), True),
        ("sigma_v", np.log(np.geomspace(400, 1200, N)), True),
        ("vdisp", np.log10(np.geomspace(400, 1200, N)), True),
        ("richness", np.geomspace(5, 150, N), False),
        ("richness", np.round(np.linspace(2, 7, N)), False),
        ("kT", np.geomspace(1, 7, N), False),
        ("sigma_v", np.geomspace(100, 1200, N), False),
    ],
)
def test_logarithms_of_what_is_never_so_small(name, values, refused):
    if refused:
        with pytest.raises(MassmapError, match="looks like log10 since none of the 20 values reaches 8"):
            notes({name: values}, lum=name)
    else:
        notes({name: values}, lum=name)


def test_logarithms_below_zero_are_shown_as_they_are():
    with pytest.raises(MassmapError, match=r"looks like log10 by its name \(values -5\.5 to -3\.6, first row 0"):
        read_catalogue({"z": [0.1, 0.2, 0.3], "logY": [-5.5, -4.2, -3.6]}, lum="logY", sigma=0.1)


@pytest.mark.parametrize(("error", "told"), [([20.0, 30.0, 25.0], True), ([900.0, 1200.0, 500.0], False)])
def test_per_cent_in_the_place_of_bars(error, told):
    table = {"z": [0.1, 0.2, 0.3], "L": [5.0, 6.0, 7.0], "e_L": error}
    with pytest.raises(MassmapError, match="longer than the luminosity itself") as refused:
        read_catalogue(table, lum="L", sigma="e_L", sigma_kind="linear")
    assert ("sigma_kind='percent'" in str(refused.value)) is told


def test_bars_of_one_length_in_per_cent():
    found = notes({"lum": 100 * LUM, "e": np.full(N, 10.0)}, sigma="e", sigma_kind="linear")
    assert any("where it is per cent of them, pass sigma_kind='percent'" in note for note in found)


@pytest.mark.parametrize("name", ["luminosity", "redshift", "position"])
@pytest.mark.parametrize(("number", "round_to", "told"), [(12, 9, True), (3, 9, False), (12, 1, False), (90, 9, False)])
def test_one_value_of_many_rows(name, number, round_to, told):
    """A value that no rule knows as a placeholder; twins: too few, rounded values that all repeat, and one for most."""
    rng = np.random.default_rng(5)
    ra, dec, z, lum = (np.round(rng.uniform(*ends, 100), round_to) for ends in ((9, 11), (4, 6), (0.1, 0.9), (1, 3)))
    rows = np.arange(40, 40 + number) % 100
    if name == "position":
        ra[rows], dec[rows] = 10.25, 5.5
    else:
        {"luminosity": lum, "redshift": z}[name][rows] = 0.75
    if round_to == 1:
        ra = np.round(ra)
        dec = np.round(dec)
        ra[rows], dec[rows] = (10, 5) if name == "position" else (ra[rows], dec[rows])
    catalogue = read_catalogue({"ra": ra, "dec": dec, "z": z, "L500": lum}, sigma=0.1)
    of = [note for note in catalogue.notes if f"12 of 100 objects have the same {name}, " in note]
    assert bool(of) is told and (not told or "first row 40, and other values hardly repeat" in of[0])


@pytest.mark.parametrize(
    ("z", "told"),
    [(1 / (1 + Z), True), (np.linspace(0.51, 1.0, N), True), (np.append(1 / (1 + Z[1:]), 0.4), False), (Z, False)],
)
def test_redshifts_that_may_be_scale_factors(z, told):
    assert any("if these are scale factors" in note for note in notes({"z": z})) is told


@pytest.mark.parametrize("name", ["ln1pz", "log1pz", "ln_1_plus_z", "a", "aexp", "scale_factor", "z_plus_1", "log_a"])
def test_names_of_what_is_no_redshift(name):
    with pytest.raises(MassmapError, match=r"is a logarithm|is a scale factor|is 1 \+ z"):
        notes({name: 0.2 + Z}, z=name)


@pytest.mark.parametrize("name", ["r500", "R_200c", "theta_500", "R500_kpc", "rvir", "Rlambda", "log_r200", "extent"])
def test_radii_and_angles_by_name_are_no_luminosity(name):
    with pytest.raises(MassmapError, match="is a radius or the angle"):
        notes({name: LUM}, lum=name)


def test_lengths_by_unit_are_no_luminosity_unless_one_says_so():
    table = Table({"z": Z, "x": LUM})
    table["x"].unit = "kpc"
    with pytest.raises(MassmapError, match=r"is a length by its unit 'kpc'.*lum_unit='kpc'"):
        read_catalogue(table, lum="x", sigma=0.1)
    assert read_catalogue(table, lum="x", sigma=0.1, lum_unit="kpc").lum_unit == "kpc"
    for name in ("L_r", "rich", "radio_lum", "r_500_lum", "theory"):
        assert read_catalogue(Table({"z": Z, name: LUM}), lum=name, sigma=0.1).usable.all()


GRID = np.linspace(0, 1, 101)
DENSITY = norm.pdf(GRID, Z[:, None], 0.04)
DRAWS = Z[:, None] + 0.02 * np.random.default_rng(5).normal(size=(N, 101))


@pytest.mark.parametrize(
    ("name", "values", "grid", "words"),
    [
        (
            "pz",
            ((GRID - Z[:, None]) / 0.04) ** 2,
            "0:1:101",
            "are lower at the catalogue's own redshift than .* 20 of 20",
        ),
        ("pz", np.cumsum(DENSITY, axis=1) + np.linspace(0, 9, N)[:, None], "0:1:101", "as cumulative distributions do"),
        ("pz", DRAWS, "0:1:101", "these are draws of the redshift"),
        ("pz", DENSITY, "0:2.5:101", "are lower at the catalogue's own redshift|half of the catalogue's redshifts"),
        ("pz", DENSITY, "zg", "half of the catalogue's redshifts lie .* and are redshifts, not 1 . z"),
        ("pz", DENSITY, "ln1pz", "'ln1pz' of the Table is a logarithm"),
        ("pz", DENSITY, "one_plus_z", "'one_plus_z' of the Table is 1 . z by its name"),
        ("chi2_z", DENSITY, "0:1:101", "holds chi.2 by its name"),
        ("lnpz", DENSITY, "0:1:101", "holds logarithms by its name"),
        ("pz_cdf", DENSITY, "0:1:101", "holds cumulative distributions by its name"),
        ("z_samples", DENSITY, "0:1:101", "holds draws of the redshift by its name"),
    ],
)
def test_what_is_no_density_of_the_redshift_is_refused(name, values, grid, words):
    columns = {name: values, "zg": np.tile(0.65 * GRID, (N, 1)), "one_plus_z": np.tile(1 + GRID, (N, 1))}
    columns["ln1pz"] = np.tile(np.log1p(GRID), (N, 1))
    with pytest.raises(MassmapError, match=words):
        notes(columns, z_pdf=name, z_grid=grid, **UNCERTAIN)


@pytest.mark.parametrize(
    ("unit", "words"),
    [("km/s", "divide it by the speed of light"), ("%", "is in '%'"), ("mag", "has no unit"), ("", "")],
)
def test_units_of_errors_of_redshifts(unit, words):
    table = Table({"z": Z, "lum": LUM, "e_z": 0.01 * (1 + Z)})
    table["e_z"].unit = unit
    if not words:
        assert read_catalogue(table, sigma=0.1, z_err="e_z", **UNCERTAIN).usable.all()
        return
    with pytest.raises(MassmapError, match=words):
        read_catalogue(table, sigma=0.1, z_err="e_z", **UNCERTAIN)


@pytest.mark.parametrize(
    ("columns", "call", "told"),
    [
        ({"zspec": Z, "e_zp": 0.02 + 0 * Z, "zp": Z}, {"z": "zspec", "z_err": "e_zp"}, True),
        ({"zp": Z, "zp_err": 0.02 + 0 * Z}, {"z": "zp", "z_err": "zp_err"}, False),
        ({"zp": Z, "e_zp": 0.02 + 0 * Z, "e": Z}, {"z": "zp", "z_err": "e_zp"}, False),
    ],
)
def test_the_error_of_another_column_is_told(columns, call, told):
    found = notes(columns, **call, **UNCERTAIN)
    assert any("by its name that of 'zp', and the value is 'zspec'" in note for note in found) is told
    found = notes({"L1": LUM, "Lbol": LUM, "Lbol_err": 0.1 * LUM}, lum="L1", sigma="Lbol_err", sigma_kind="linear")
    assert any("by its name that of 'Lbol', and the value is 'L1'" in note for note in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zlo zhi n\n0 0.1 3\n0.1 0.4 5\n0.4 1 3\n", "has 3 columns, zlo, zhi, n: give two"),
        ("ln1pz n\n0 3\n0.4 5\n1 3\n", "is a logarithm by its name"),
        ("z cdf\n0 0\n0.4 0.5\n1 1\n", "holds cumulative distributions"),
        ("z n\n0.28 3\n0.4 5\n1 3\n", "18 of 20 redshifts lie beyond, first row 0"),
        ("z n\n0.1 3\n0.4 5\n1 3\n", "taken as constant there"),
        ("z n\n" + "".join(f"{z} {z}\n" for z in np.linspace(0, 1, 12)), "see whether it is cumulative"),
        ("z n\n0 3\n0.4 5\n1 3\n", ""),
    ],
)
def test_the_density_that_is_divided_out(tmp_path, text, words):
    (tmp_path / "n.txt").write_text(text)
    call = {"z_err": "e", "z_contains": "posterior", "lum_moves": "no", "z_code_prior": str(tmp_path / "n.txt")}
    try:
        found = notes({"e": 0.02 + 0 * Z}, **call)
    except MassmapError as refused:
        found = [str(refused)]
    assert re.search(words, " ".join(found)) if words else not any("z_code_prior" in note for note in found), found


def test_redshifts_of_other_objects_are_refused_in_python():
    """In any order but the catalogue's; a part of a catalogue is not judged."""
    catalogue = HaloCatalogue.from_arrays(luminosity=LUM, redshift=Z, sigma_ln_luminosity=0.05)
    for other in (
        RedshiftDistributions.gaussian(Z[::-1], 0.01, contains="likelihood", lum_moves=False),
        RedshiftDistributions.grid(GRID, ((GRID - Z[:, None]) / 0.04) ** 2, contains="likelihood", lum_moves=False),
    ):
        with pytest.raises(MassmapError, match=r"of the catalogue (?:lie outside of their own|are lower at)"):
            catalogue.with_redshifts(other)
        assert catalogue.with_redshifts(other, compare=False).usable.all()
    with pytest.raises(MassmapError, match="lum_moves is 'no': give True"):
        RedshiftDistributions.gaussian(Z, 0.01, contains="likelihood", lum_moves="no")
