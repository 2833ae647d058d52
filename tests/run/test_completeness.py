"""The completeness of a catalogue as a file: what is read, what is refused, and the fit that takes it."""

import json
import warnings
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
import warm_start
from astropy.table import Table

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.run.completeness import read_completeness
from massmap_jax.run.job import _check_fitted
from massmap_jax.run.options import JobOptions, PriorOptions, load_prior, selection_of, selection_of_fit

UNIT = "1e44 erg/s"
RNG = np.random.default_rng(4)
LUM, Z = np.exp(RNG.uniform(np.log(0.6), np.log(8.0), 40)), RNG.uniform(0.1, 0.5, 40)
# Completeness by luminosity and redshift, in 1e44 erg/s.
AT_LUM, AT_Z = np.array([0.5, 1.0, 2.0, 4.0]), np.array([0.05, 0.6])
TABLE = np.array([[0.1, 0.6, 0.9, 1.0], [0.05, 0.3, 0.8, 1.0]])
GRID = "z,L500,completeness\n" + "".join(
    f"{z},{lum},{TABLE[j, i]}\n" for j, z in enumerate(AT_Z) for i, lum in enumerate(AT_LUM)
)


def catalogue(unit=UNIT, lum=LUM, column="L500", **observables):
    made = mm.HaloCatalogue.from_arrays(luminosity=lum, redshift=Z, sigma_ln_luminosity=0.1, lum_unit=unit)
    made = replace(made, columns_read={"lum": column, "z": "z"})
    if observables:
        errors = dict.fromkeys(observables, np.full(Z.size, 0.1))
        made = made.with_observables(mm.Observables.from_arrays(observables, errors, units={"richness": ""}))
    return made


def read(path, *, of=None, columns=None, **more):
    """The completeness of a file, with the notes on it in one text."""
    options = JobOptions(relation="fit", completeness=str(path), completeness_columns=columns, **more)
    notes: list[str] = []
    found = read_completeness({}, options, catalogue() if of is None else of, notes)
    return found, "\n".join(notes)


def of_text(tmp_path, text, **more):
    path = tmp_path / "completeness.csv"
    path.write_text(text)
    return read(path, **more)


def check_table(found):
    """The nodes and values of `TABLE`, in 1e44 erg/s."""
    np.testing.assert_allclose(np.exp(found.ln_value), AT_LUM, rtol=1e-12)
    np.testing.assert_array_equal(found.redshift, AT_Z)
    np.testing.assert_array_equal(found.prob, TABLE)


# -- what is read ----------------------------------------------------------------------------------------------------


def columns_of(lum=lambda x: x, name="L500"):
    j, i = np.indices(TABLE.shape)
    order = np.random.default_rng(1).permutation(TABLE.size)
    columns = {"z": AT_Z[j], name: lum(AT_LUM[i]), "completeness": TABLE}
    return {name: np.ravel(a)[order] for name, a in columns.items()}


@pytest.mark.parametrize("kind", ["csv", "ecsv", "fits", "parquet", "txt"])
def test_any_kind_of_table_with_its_rows_in_any_order(tmp_path, kind):
    path, columns = tmp_path / f"c.{kind}", columns_of()
    if kind == "parquet":
        pd.DataFrame(columns).to_parquet(path)
    else:
        Table(columns).write(path, **({"format": "ascii.basic"} if kind == "txt" else {}))
    found, notes = read(path)
    check_table(found)
    assert found.observable == "" and found.unit == UNIT
    assert "2 redshifts x 4 values of the luminosity ('L500', which states no unit: taken to be in 1e44 erg/s)" in notes
    assert "constant beyond" in notes


@pytest.mark.parametrize(
    ("name", "of", "unit", "told"),
    [
        ("L500", lambda x: x * 1e44, "erg/s", "converted from erg/s to 1e44 erg/s"),
        ("L500", lambda x: x * 1e37, "W", "converted from W to 1e44 erg/s"),
        ("log_L500", lambda x: np.log10(x) + 44, "erg/s", "log10, converted"),
        ("L500", lambda x: np.log10(x) + 44, "dex(erg/s)", "log10, converted"),
        ("lnL500", np.log, UNIT, "'lnL500', ln)"),
        ("Lx", lambda x: x, UNIT, "'Lx')"),
        ("luminosity [1e45 erg/s]", lambda x: x / 10, None, "converted from 1e45 erg/s"),
    ],
)
def test_logarithms_and_other_units(tmp_path, name, of, unit, told):
    made = Table(columns_of(of, name))
    made[name].unit = unit
    made.write(tmp_path / "c.ecsv")
    found, notes = read(tmp_path / "c.ecsv")
    check_table(found)
    assert told in notes.replace("erg / s", "erg/s"), notes


def test_without_redshifts_and_columns_by_name(tmp_path):
    found, notes = of_text(
        tmp_path, "flux_of_light,share\n1,0.2\n2,1\n", columns="lum=flux_of_light,completeness=share"
    )
    assert found.redshift.size == 1 and found.prob.tolist() == [[0.2, 1.0]] and "the same at all redshifts" in notes
    selection = found.selection()
    # Linear in ln L between the nodes, by hand; constant beyond them.
    at = np.exp(selection.log_prob(np.log([0.9, 2**0.5, 5.0]), np.array([0.1, 0.2, 0.3])))
    np.testing.assert_allclose(at, [0.2, 0.6, 1.0], rtol=1e-5)


def test_units_that_are_not_stated(tmp_path):
    made = Table(columns_of())
    made["L500"].unit = UNIT
    made.write(tmp_path / "c.ecsv")
    found, notes = read(tmp_path / "c.ecsv", of=catalogue(unit=""))
    check_table(found)
    assert f"the catalogue states no unit of the luminosity: taken to be that of {tmp_path}/c.ecsv, 1e+44 erg" in notes
    # Under a published relation the catalogue comes to another unit, and the completeness with it.
    moved = found.in_unit("erg/s")
    np.testing.assert_allclose(np.exp(moved.ln_value), AT_LUM * 1e44, rtol=1e-10)
    assert found.in_unit("") is found and found.in_unit("Mpc") is found


def test_another_observable(tmp_path):
    of = catalogue(richness=20 * LUM)
    asked = {"observable": "richness=lam", "observable_sigma": "richness=0.1"}
    for name in ("richness", "lam", "log10_lam"):
        values = [np.log10(v) if name.startswith("log") else v for v in (10.0, 40.0)]
        found, notes = of_text(tmp_path, f"{name},p_det\n{values[0]},0.1\n{values[1]},1\n", of=of, **asked)
        assert found.observable == "richness" and "2 values of richness" in notes
        np.testing.assert_allclose(np.exp(found.ln_value), [10, 40], rtol=1e-12)
    options = JobOptions(relation="fit", completeness=found.file, **asked)
    assert selection_of_fit(options, UNIT, found).describe() == "richness by a table of 1 redshifts x 2 values"
    # Masses do not depend on it, and the check of luminosities does not know it.
    assert selection_of(options, UNIT, found) is None
    assert _check_fitted(of, None, None, options, told := [], found) is None
    assert "was not checked" in told[0] and "selected by richness by a table" in told[0]
    with pytest.raises(MassmapError, match=r"'richness' and 'lum' in .* could each be what it is a function of"):
        of_text(tmp_path, "richness,lum,p_det\n1,1,0.1\n2,2,1\n", of=of, **asked)
    # A richness is no luminosity, where none is an observable.
    with pytest.raises(MassmapError, match="has the name of an observable of the catalogue \\('L500'\\)"):
        of_text(tmp_path, "richness,p_det\n1,0.1\n2,1\n")
    # Where the luminosity is a richness by its column, any name of a richness is.
    assert of_text(tmp_path, "richness,p_det\n1,0.1\n2,1\n", of=catalogue("", column="lambda"))[0].observable == ""


def test_what_is_told_of_objects_and_of_a_completeness_that_falls(tmp_path):
    faint, bright, far = (LUM < 1).sum(), (LUM > 4).sum(), (Z > 0.4).sum()
    rows = [f"{z},{lum},{p}\n" for z in (0.0, 0.4) for lum, p in ((1, 0.5), (2, 1), (4, 0.9))]
    _, notes = of_text(tmp_path, "z,L500,p\n" + "".join(rows))
    assert f"{faint} of 40 objects have a luminosity below" in notes and "at its lowest one, 1, is taken" in notes
    assert f"{bright} of 40 objects have a luminosity above" in notes and "at its highest one, 4, is taken" in notes
    assert f"{far} of 40 objects have a redshift beyond those" in notes
    assert "falls with luminosity in 2 steps, the most from 1 to 0.9 between 2 and 4 at z = 0" in notes


# -- what is refused -------------------------------------------------------------------------------------------------

BAD = {
    "percent": (GRID.replace("1.0\n", "100\n").replace("0.9\n", "90\n"), "is in per cent (the largest is 100)"),
    "above 1": (GRID.replace("1.0\n", "1.2\n"), "2 of 8 rows where 'completeness' is not between 0 and 1, first row 3"),
    "below 0": (GRID.replace("0.1\n", "-0.1\n"), "1 of 8 rows where 'completeness' is not between 0 and 1, first row 0"),
    "blank": (GRID.replace("0.6,1.0,0.3", "0.6,1.0,"), "1 of 8 rows where 'completeness' is no number, first row 5"),
    "text": (GRID.replace("0.6,1.0,0.3", "0.6,1.0,some"), "completeness column 'completeness'"),
    "not whole": (GRID.replace("0.6,1.0,0.3\n", ""), "1 of 8 nodes have no row, the first L500 = 1, z = 0.6"),
    "twice": (GRID + "0.6,1.0,0.3\n", "1 nodes in more than one row, the first L500 = 1, z = 0.6"),
    "third axis": (
        GRID.replace("z,L500", "z,exposure,L500").replace("0.05,", "0.05,1,", 4).replace("\n0.6,", "\n0.6,1,")
        + "0.6,2,1.0,0.3\n",
        "(a function of exposure, too, cannot be used)",
    ),
    "one value": ("z,L500,completeness\n0.1,1,0.5\n0.3,1,0.6\n", "has 1 value of 'L500', and needs two or more"),
    "zero": (GRID.replace(",0.05\n", ",0\n").replace("0.3\n", "0\n").replace("0.6,2.0,0.8", "0.6,2.0,0")
             .replace("0.6,4.0,1.0", "0.6,4.0,0"), "is 0 everywhere at 1 redshifts, first z = 0.6"),
    "no luminosity": (GRID.replace("0.6,1.0,", "0.6,0,"), "1 of 8 rows where 'L500' is no value above 0, first row 5"),
    "no redshift": (GRID.replace("0.6,1.0,", "-1,1.0,"), "1 of 8 rows where 'z' is no redshift, first row 5 (-1)"),
    "no rows": ("z,L500,completeness\n", "has no rows"),
    "no header": ("0.1,1,0.5\n0.1,2,0.6\n0.1,3,0.6\n", "does not name its columns"),
    "no column of it": (GRID.replace("completeness", "number"), "no column"),
    "another quantity": (GRID.replace("L500", "flux"), "has the name of an observable of the catalogue ('L500')"),
    "two of it": ("L500,completeness,comp\n1,0.1,1\n2,1,1\n", "could each be the completeness column"),
    "another unit": (GRID.replace("L500", "L500 (keV)"), "which is not a multiple of the catalogue's unit '1e44 erg/s'"),
    "with h": (GRID.replace("L500", "L500 [erg/s/h2]"), "is in units with h"),
    "hidden log": ("L500 (erg/s),p\n" + "".join(f"{v},{p}\n" for v, p in
                   zip((43.1, 43.3, 43.6, 43.8, 44.0), (0.1, 0.3, 0.5, 0.8, 1), strict=True)), "looks like log10"),
    "of brighter objects": (GRID.replace("L500", "L500 (1e48 erg/s)"), "all 40 objects are below that, first row 0"),
    "of fainter objects": (GRID.replace("L500", "L500 (1e36 erg/s)"), "all 40 objects are far above that, first row 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused(tmp_path, name):
    text, words = BAD[name]
    with pytest.raises(MassmapError) as refused:
        of_text(tmp_path, text)
    assert words in str(refused.value), str(refused.value)
    assert "\n" not in str(refused.value) and "completeness.csv" in str(refused.value)


def test_magnitudes_are_no_luminosity_by_their_name(tmp_path):
    (tmp_path / "c.csv").write_text(GRID)
    options = JobOptions(relation="fit", completeness=str(tmp_path / "c.csv"))
    with pytest.raises(MassmapError, match="name of an observable"):
        read_completeness({"magnitudes": "absolute"}, options, catalogue(), [])


# -- the fit ---------------------------------------------------------------------------------------------------------

LIGHTEST, HEAVIEST, INDEX, NUMBER = 3e13, 3e15, -1.2, 3000
BELIEFS = "alpha1=0.5:1,alpha2=1.3:0.1,alpha4=0,scatter=0.3:0.05,alpha3=1e14"
OF_LUM = ["--lum", "L500", "--sigma", "0.1", "--sigma-kind", "ln", "--lum-unit", UNIT, "--lum-in", UNIT]
ASKED = [*OF_LUM, "--prior", "prior.txt", "--prior-per", "ln_mass", "--prior-support", "sharp", "--no-figures"]


def chance(ln_lum, z):
    """The completeness by which objects are kept: linear in ln L and z between the nodes, by NumPy."""
    of_z = (z - AT_Z[0]) / np.diff(AT_Z)[0]
    low, high = (np.interp(ln_lum, np.log(AT_LUM), row) for row in TABLE)
    return (1 - of_z) * low + of_z * high


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Objects of a population of masses that is a power law, kept by the completeness, and a table of it."""
    path, rng = tmp_path_factory.mktemp("completeness"), np.random.default_rng(8)
    ends = np.array([LIGHTEST, HEAVIEST]) ** INDEX
    ln_mass = np.log(ends[0] + rng.uniform(size=NUMBER) * (ends[1] - ends[0])) / INDEX
    z = rng.uniform(0.1, 0.55, NUMBER)
    ln_lum = 0.5 + 1.3 * (ln_mass - np.log(1e14)) + np.hypot(0.3, 0.1) * rng.normal(size=NUMBER)
    kept = rng.uniform(size=NUMBER) < chance(ln_lum, z)
    pd.DataFrame({"z": z, "L500": np.exp(ln_lum)})[kept].to_csv(path / "c.csv", index=False, float_format="%.17g")
    mass = np.geomspace(LIGHTEST, HEAVIEST, 120)
    rows = [f"{z} {m:.8e} {(m / LIGHTEST) ** INDEX:.8e}\n" for z in (0.0, 1.0) for m in mass]
    (path / "prior.txt").write_text("".join(rows))
    pd.DataFrame(columns_of(lambda x: np.log10(x) + 44, "logL500 [erg/s]")).to_csv(path / "table.csv", index=False)
    return path


@pytest.fixture(scope="module")
def program(folder):
    fitted = [*ASKED, "--relation-prior", BELIEFS, "--completeness", "table.csv"]
    ran = warm_start.run(["fit", "c.csv", "--out", "fit", *fitted], folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "fit" / "run.json").read_text()), ran.stdout


def fit_by_python(folder, selection, brighter_than=0.0):
    objects = pd.read_csv(folder / "c.csv")
    objects = objects[objects["L500"] >= brighter_than]
    made = mm.HaloCatalogue.from_arrays(
        luminosity=objects["L500"], redshift=objects["z"], sigma_ln_luminosity=0.1, lum_unit=UNIT
    )
    prior = load_prior(PriorOptions(source=str(folder / "prior.txt"), per="ln_mass", support="sharp"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The key is that of the program with --seed 0.
        key = jax.random.split(jax.random.key(0), 3)[0]
        return mm.fit_relation(made, prior, mm.RelationPrior.parse(BELIEFS), selection=selection, key=key)


def moved(fit, other):
    """How far one fit is from another, in errors of the latter."""
    return max(abs(fit.mean[p] - other.mean[p]) / other.sd[p] for p in other.mean)


@pytest.fixture(scope="module")
def by_python(folder):
    return fit_by_python(folder, mm.TabulatedSelection(AT_Z, np.log(AT_LUM), TABLE))


def test_the_program_fits_what_python_fits_with_the_same_table(program, by_python):
    record, told = program
    for p, mean in record["fit"]["mean"].items():
        assert mean == pytest.approx(by_python.mean[p], abs=2e-3 * by_python.sd[p])
    truth = {"alpha1": 0.5, "alpha2": 1.3, "scatter": 0.3}
    assert max(abs(by_python.mean[p] - v) / by_python.sd[p] for p, v in truth.items()) < 4
    assert record["selection"] == "table of 2 redshifts x 4 luminosities, table.csv"
    assert record["inputs"]["completeness"]["path"] == "table.csv" == record["config"]["completeness"]
    assert "note: completeness of table.csv: 2 redshifts x 4 values of the luminosity ('logL500 [erg/s]', log10" in told
    assert record["prior_check"]["p_value"] > 1e-3


def test_without_the_completeness_the_fit_is_off(folder, by_python):
    assert moved(fit_by_python(folder, None), by_python) > 3


def test_a_step_is_the_limit(folder, tmp_path):
    """A table that rises from 0 to 1 within 0.2 % of the limit, among the objects above it."""
    step = f"L500,completeness\n1,0\n{1.5 * 0.999},0\n{1.5 * 1.001},1\n2,1\n"
    found, _ = of_text(tmp_path, step)
    table = fit_by_python(folder, found.selection(), 1.5 * 1.001)
    limit = fit_by_python(folder, mm.FluxLimit(1.5), 1.5 * 1.001)
    assert moved(table, limit) < 1e-3


def test_run_json_repeats_the_run_and_a_changed_table_is_refused(folder, program):
    again = ["fit", "--config", "fit/run.json", "--out", "again"]
    ran = warm_start.run(again, folder)
    assert ran.returncode == 0, ran.stderr
    assert (folder / "again" / "relation.csv").read_bytes() == (folder / "fit" / "relation.csv").read_bytes()
    text = (folder / "table.csv").read_text()
    try:
        (folder / "table.csv").write_text(text.replace("0.9", "0.8"))
        ran = warm_start.run([*again[:-1], "third"], folder)
    finally:
        (folder / "table.csv").write_text(text)
    assert ran.returncode == 2 and "table.csv has changed since fit/run.json was written" in ran.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--completeness", "none.csv"], ("--completeness none.csv is no file",)),
        (
            ["--completeness", "table.csv", "--lum-limit", "1"],
            ("--lum-limit and --completeness are given", "one limit"),
        ),
        (["--completeness", "table.csv", "--completeness-columns", "lum"], ("lum = A, z = B",)),
        (["--completeness", "table.csv", "--completeness-columns", "y=A"], ("names 'y'", "lum, z, completeness")),
        (["--completeness", "table.csv", "--completeness-columns", "lum=logL"], ("no column 'logL' in", "table.csv")),
        (["--completeness", "high.csv"], ("catalogued objects no chance to be in the catalogue, first row",)),
        (["--completeness", "table.csv", "--noise", "linear"], ("linear", "a sharp limit")),
    ],
)
def test_the_program_refuses_in_one_sentence(folder, given, words):
    (folder / "high.csv").write_text("L500,completeness\n1.2,0\n3,1\n")
    kind = ["--sigma-kind", "fraction"] if "linear" in given else []
    ran = warm_start.run(["fit", "c.csv", "--out", "no", *ASKED, *kind, "--relation-prior", BELIEFS, *given], folder)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr
    assert not [word for word in words if word not in ran.stderr], ran.stderr
    assert not (folder / "no").exists()


def test_draws_of_other_data_are_weighed_with_it(folder):
    """Masses of `run` and `stream` with one table."""
    draws = "alpha1,alpha2,alpha4,scatter,alpha3\n0.3,1.3,0,0.3,1e14\n0.7,1.3,0,0.3,1e14\n"
    (folder / "draws.csv").write_text(draws)
    given = [*ASKED[:-1], "--relation", "draws.csv", "--relation-from", "other_data", "--quiet"]
    masses = {}
    for name, more in {"with": ["--completeness", "table.csv"], "without": []}.items():
        ran = warm_start.run(["run", "c.csv", "--out", name, *given, "--no-map", "--no-figures", *more], folder)
        assert ran.returncode == 0, ran.stderr
        masses[name] = pd.read_parquet(folder / name / "masses.parquet")["log10_mass_mean"]
    (folder / "own.csv").write_text((folder / "table.csv").read_text())
    streamed = [*given, "--method", "analytic", "--completeness"]
    ran = warm_start.run(["stream", "c.csv", "--out", "stream", *streamed, "own.csv"], folder)
    assert ran.returncode == 0, ran.stderr
    masses["stream"] = pd.read_parquet(folder / "stream" / "masses")["log10_mass_mean"]
    off = {name: np.abs(values - masses["with"]).max() for name, values in masses.items()}
    assert off["stream"] < 1e-5 and off["without"] > 5e-3, off
    assert "completeness" in json.loads((folder / "stream" / "run.json").read_text())["inputs"]
    (folder / "own.csv").write_text((folder / "table.csv").read_text().replace("0.9", "0.8"))
    ran = warm_start.run(["stream", "c.csv", "--out", "stream", *streamed, "own.csv", "--resume"], folder)
    assert ran.returncode == 2 and "another completeness" in ran.stderr
