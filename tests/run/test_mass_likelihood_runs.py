"""`run` and `fit` with mass likelihoods of some objects, through the program: numbers, files, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import warm_start
from astropy import units
from astropy.table import Table, vstack
from reference import shear_reference as slow

pytestmark = pytest.mark.slow
NUMBER, LENSED = 200, 60
FIT = ["--relation-prior", "alpha1=0:2,alpha2=1:0.3,alpha4=0,scatter=0.3:0.2,alpha3=3e14", "--accept-misfit"]
COMMON = ["--lum", "L500", "--sigma", "0.1", "--lum-unit", "1e44 erg/s", "--lum-in", "1e44 erg/s"]
LENSING = ["--mass-likelihood", "lens.csv", "--mass-likelihood-error-kind", "linear", "--mass-likelihood-unit",
           "1e14 Msun", "--mass-likelihood-scatter", "0.2", "--mass-likelihood-bias", "0:0.05"]  # fmt: skip
# As many as of a shear profile, so that runs share what they compile.
NODES = np.linspace(11.0, 16.6, 141)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("likelihoods")
    rng = np.random.default_rng(5)
    ln_mass = 32.6 + 0.4 * rng.normal(size=NUMBER)
    ln_lum = 1.0 + ln_mass - np.log(3e14) + np.hypot(0.3, 0.1) * rng.normal(size=NUMBER)
    measured = ln_mass[:LENSED] + np.hypot(0.2, 0.15) * rng.normal(size=LENSED)
    names = [f"C{i}" for i in range(NUMBER)]
    table = {"name": names, "ra": rng.uniform(150, 151, NUMBER), "dec": rng.uniform(0, 1, NUMBER)}
    table |= {"z": rng.uniform(0.1, 0.6, NUMBER), "L500": np.exp(ln_lum), "M_true": np.exp(ln_mass)}
    pd.DataFrame(table).to_csv(path / "clusters.csv", index=False)
    mass = np.exp(measured) / 1e14
    lens = pd.DataFrame({"name": names[:LENSED], "m_wl": mass, "m_wl_err": 0.15 * mass}).sample(frac=1, random_state=1)
    lens.to_csv(path / "lens.csv", index=False)
    shown = pd.DataFrame(
        {f"lnl_{node:.2f}": -0.5 * ((node * np.log(10) - measured) / 0.25) ** 2 for node in NODES}
    ).assign(name=names[:LENSED])
    shown.to_parquet(path / "tables.parquet")
    return path


def program(folder, command, out, *options):
    return warm_start.run([command, "clusters.csv", "--out", out, *COMMON, *options], folder)


@pytest.fixture(scope="module")
def fitted(folder):
    ended = program(folder, "fit", "fitted", *FIT, *LENSING, "--no-figures")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_fit_uses_them(folder, fitted):
    assert "60 of 200 objects have a mass likelihood" in fitted and "--mass-likelihood-definition states it" in fitted
    record = json.loads((folder / "fitted" / "run.json").read_text())
    assert record["fit"]["sd"]["extra_bias"] == pytest.approx(0.05, rel=0.3)
    assert record["fit"]["diagnostics"]["with_mass_likelihood"] == LENSED
    assert record["mass_likelihoods"] == {
        "objects": LENSED,
        "mass_definition": "unknown",
        "from": "masses",
        "file": "lens.csv",
    }
    assert record["inputs"]["mass_likelihood"]["path"] == "lens.csv"
    described = warm_start.run(["info", "fitted"], folder).stdout
    assert "mass likelihoods: 60 objects, lens.csv" in described and "extra_bias: " in described


def test_a_changed_file_is_refused_where_a_run_is_repeated(folder, fitted):
    kept = (folder / "lens.csv").read_text()
    (folder / "lens.csv").write_text(kept + "C199,5,1\n")
    changed = warm_start.run(["fit", "--config", "fitted/run.json", "--out", "changed"], folder)
    (folder / "lens.csv").write_text(kept)
    assert changed.returncode == 2 and "lens.csv has changed" in changed.stderr and not (folder / "changed").exists()


def test_masses_and_maps_under_a_given_relation(folder):
    """The relation is known and not fitted; the tables are narrower than what the luminosity says."""
    (folder / "draws.csv").write_text("alpha1,alpha2,alpha4,scatter,alpha3\n1,1,0,0.9,3e14\n1.1,1,0,0.9,3e14\n")
    given = ["--relation", "draws.csv", "--num-map-draws", "20", "--no-figures"]
    ended = program(folder, "run", "table", *given, "--mass-likelihood", "tables.parquet")
    assert ended.returncode == 0, ended.stderr
    masses, truth = pd.read_parquet(folder / "table" / "masses.parquet"), pd.read_csv(folder / "clusters.csv")["M_true"]
    sd = masses["log10_mass_sd"].to_numpy()
    assert (sd[:LENSED] < 0.25 / np.log(10)).all() and (sd[LENSED:] > 0.25 / np.log(10)).all()
    assert 0.7 < ((masses["log10_mass_mean"] - np.log10(truth)) / sd)[:LENSED].std() < 1.4
    assert (
        "60 objects have a mass likelihood, of masses in tables.parquet" in (folder / "table/report.html").read_text()
    )
    assert json.loads((folder / "table" / "run.json").read_text())["map"] is not None


GOOD = "name,m_wl,m_wl_err\nC1,4,1\nC2,5,1\n"
BAD = [
    (None, [], ["there is no file bad.csv"]),
    ("", [], ["bad.csv is empty"]),
    (GOOD + "X9,4,1\n", [], ["not in the catalogue: 1 row, first row 2 with value 'X9'", "with --id"]),
    (GOOD + "C1,4,1\n", [], ["two mass likelihoods", "first row 2 with value 'C1'"]),
    (GOOD.replace("name", "who").replace("C2", "CX"), [], ["usual name for the id", "--mass-likelihood-id"]),
    (GOOD, ["--mass-likelihood-mass", "m_lens"], ["no column 'm_lens' in bad.csv"]),
    (GOOD.replace("m_wl_err", "e"), [], ["--mass-likelihood-error"]),
    (GOOD, ["--mass-likelihood-unit", "erg/s"], ["erg"]),
    (GOOD, ["--mass-likelihood-unit", "1e14 Msun/h"], ["h"]),
    (GOOD, ["--mass-likelihood-error-kind", "exact"], ["mass_likelihood_error_kind is 'exact'"]),
    (GOOD.replace("C2,5", "C2,-5"), [], ["cannot be used", "1 row, first row 1", "4 of its errors below zero"]),
    (GOOD.replace("C2,5", "C2,0"), [], ["cannot be used", "a mass is not 0"]),
    (GOOD, ["--mass-likelihood-scatter", "-0.2"], ["mass_likelihood_scatter is -0.2", "at least 0"]),
    (GOOD, ["--mass-likelihood-scatter", "20"], ["mass_likelihood_scatter is 20", "0.2 for 20 %"]),
    (GOOD, ["--mass-likelihood-bias", "none"], ["cannot be read"]),
    (GOOD, ["--mass-likelihood-bias", "0.7:0.1"], ["0.7 in ln M", "-0.22 where 1 - b is 0.8"]),
    (GOOD.replace("m_wl,", "M500,"), ["--mass-likelihood-mass", "M500"], ["are of M500 masses", "of 200m", "'M500'"]),
    (GOOD, ["--mass-likelihood-definition", "500"], ["500c, 200m or vir"]),
    (GOOD, ["--mass-likelihood-definition", "500c"], ["are of 500c masses", "of 200m", "--mass-definition 500c"]),
    (GOOD, ["--calib-mass", "M_true", "--calib-sigma", "0.2"], ["--calib-mass", "leave one out"]),
    (GOOD, ["--method", "monte_carlo"], ["method 'monte_carlo' does not use mass likelihoods"]),
    ("name,lnl_13,lnl_14,lnl_15\nC1,0,1,0\n", [], ["at 3 masses: give at least 5"]),
    ("name,lnl_13,lnl_13.5,lnl_14,lnl_14.5,lnl_15\nC1,0,inf,0,0,0\n", [], ["not finite", "'lnl_13.5'"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "words"), BAD)
def test_refused(folder, text, options, words):
    """One sentence, exit code 2, and no folder."""
    (folder / "bad.csv").unlink(missing_ok=True)
    if text is not None:
        (folder / "bad.csv").write_text(text)
    columns = [] if text and "lnl" in text else [*LENSING[2:6]]
    asked = [*FIT, "--mass-definition", "200m", "--prior", "hmf"] if "500c" in options else FIT
    ended = program(folder, "run", "out", *asked, "--no-map", "--mass-likelihood", "bad.csv", *columns, *options)
    assert ended.returncode == 2 and not [word for word in words if word not in ended.stderr], ended.stderr
    assert ended.stderr.count("\n") == 1 and ended.stdout == "" and not (folder / "out").exists()


def shear_profiles(folder):
    """Noiseless profiles of three objects, of which two have 1e14 and 9e14 Msun; radii in kpc, by an ECSV file."""
    clusters = pd.read_csv(folder / "clusters.csv")
    parts = []
    for row, mass in ((0, 1e14), (3, 9e14)):
        z, radius = clusters["z"][row], np.geomspace(0.3, 2.5, 6)
        shear = slow.reduced_shear(radius, np.log([mass]), slow.mean_ln_c(np.log([mass]), z), z, 1.2)[0]
        parts.append(Table({"name": [f"C{row}"] * 6, "radius": radius * 1e3 * units.kpc, "gt": shear,
                            "gt_err": 0.008 * radius**-0.5, "z": [1.2] * 6}))  # fmt: skip
    return vstack(parts)


def test_shear_profiles(folder):
    """The lensed objects are those of their own masses; the record says what was read, and whom to cite."""
    shear_profiles(folder).write(folder / "shear.ecsv", overwrite=True)
    (folder / "draws.csv").write_text("alpha1,alpha2,alpha4,scatter,alpha3\n1,1,0,0.9,3e14\n1.1,1,0,0.9,3e14\n")
    given = ["--relation", "draws.csv", "--no-map", "--no-figures"]
    ended = program(folder, "run", "sheared", *given, "--shear", "shear.ecsv", "--shear-radius-unit", "kpc")
    assert ended.returncode == 0, ended.stderr
    masses = pd.read_parquet(folder / "sheared" / "masses.parquet").set_index("id")
    assert masses.loc["C3", "log10_mass_mean"] - masses.loc["C0", "log10_mass_mean"] > 0.6
    assert max(masses.loc[["C0", "C3"], "log10_mass_sd"]) < 0.8 * masses["log10_mass_sd"].median()
    record = json.loads((folder / "sheared" / "run.json").read_text())
    assert record["mass_likelihoods"]["from"] == "shear profiles" and record["mass_likelihoods"]["objects"] == 2
    assert record["inputs"]["shear"]["path"] == "shear.ecsv"
    assert "shear profiles: source_redshift column: guessed 'z'" in record["notes"]
    assert "Duffy et al. 2008" in (folder / "sheared" / "report.html").read_text()


@pytest.fixture(scope="module")
def stacks(folder):
    """Three stacks by luminosity of the brighter objects, the fainter ones in none; and their mean shears."""
    clusters = pd.read_csv(folder / "clusters.csv")
    order = np.argsort(-clusters["L500"].to_numpy())[:150]
    clusters["bin"] = pd.Series(np.nan, index=clusters.index, dtype=object)
    clusters.loc[order, "bin"] = np.repeat(["bright", "middle", "faint"], 50)
    clusters["w"] = 1.0
    clusters.to_csv(folder / "binned.csv", index=False)
    parts, radius = [], np.geomspace(0.3, 2.5, 6)
    for name in ("bright", "middle", "faint"):
        own = clusters[clusters["bin"] == name]
        each = [
            slow.reduced_shear(radius, np.log([m]), slow.mean_ln_c(np.log([m]), z), z, 1.2)[0]
            for m, z in zip(own["M_true"], own["z"], strict=True)
        ]
        parts.append(Table({"stack": [name] * 6, "radius": radius * units.Mpc, "gt": np.mean(each, axis=0),
                            "gt_err": 0.002 * radius**-0.5}))  # fmt: skip
    vstack(parts).write(folder / "stacks.ecsv", overwrite=True)
    return clusters


STACKS = [
    "--shear",
    "stacks.ecsv",
    "--shear-id",
    "stack",
    "--shear-z",
    "1.2",
    "--shear-stack",
    "bin",
    "--shear-radius-unit",
    "Mpc",
]


def run_binned(folder, out, *options, command="run", catalogue="binned.csv"):
    return warm_start.run([command, catalogue, "--out", out, *COMMON, *options], folder)


def test_stacks(folder, stacks):
    """They are in the fit, masses are made without them, and the record says what was read.

    The objects are no sample of the mass function, as the fit takes them to be: the stacks show it.
    """
    asked = [*FIT, "--no-map", "--no-figures", "--num-relation-draws", "10", *STACKS, "--shear-stack-weight", "w"]
    ended = run_binned(folder, "stacked", *asked)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "stacked" / "run.json").read_text())
    assert record["mass_likelihoods"]["from"] == "stacked shear profiles"
    assert record["mass_likelihoods"]["objects"] == 150
    fit = record["fit"]
    assert fit["diagnostics"]["stacks"] == 3 and fit["diagnostics"]["stacks_p"] < 1e-4
    assert "the fitted shear of the stacks is far from the measured one" in " ".join(record["notes"])
    assert "150 of 200 objects are in 3 stacks with a shear profile" in " ".join(record["notes"])
    assert "150 objects are in stacked shear profiles" in (folder / "stacked" / "report.html").read_text()


@pytest.mark.parametrize(
    ("catalogue", "options", "words"),
    [
        (lambda t: t, ["--shear-stack", "bn"], ["no column 'bn'"]),
        (lambda t: t.assign(bin=np.nan), [], ["no object is in a stack: column 'bin' of the catalogue is blank"]),
        (lambda t: t.replace({"bin": {"faint": "other"}}), [], ["name no stack of the catalogue", "'faint'"]),
        (lambda t: t.assign(w=np.where(t["L500"] == t["L500"].max(), -1, 1)), ["--shear-stack-weight", "w"],
         ["1 of 150 weights of members are not above 0"]),
        (lambda t: t.assign(z=np.where(t["L500"] == t["L500"].max(), 1.3, t["z"])), [],
         ["source in front of the lens: 1 of 3 profiles, the first"]),
    ],
)  # fmt: skip
def test_stacks_that_cannot_be_used(folder, stacks, catalogue, options, words):
    catalogue(stacks).to_csv(folder / "bad_bins.csv", index=False)
    ended = run_binned(folder, "out", *FIT, *STACKS, *options, command="fit", catalogue="bad_bins.csv")
    assert ended.returncode == 2 and not [word for word in words if word not in ended.stderr], ended.stderr
    assert ended.stderr.count("\n") == 1 and not (folder / "out").exists()


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda t: t[:7], [], ["fewer bins", "than parameters", "1 of 2 profiles", "of row 3 of the catalogue"]),
        (lambda t: t.__setitem__("z", 0.05), [], ["source in front of the lens: 2 of 2 profiles", "--shear-z"]),
        (lambda t: t.__setitem__("gt_err", 0.0), [], ["errors of shears are not above 0"]),
        (lambda t: t.__setitem__("gt", 12.0), [], ["not between -1 and 1"]),
        (lambda t: t.__setitem__("name", "X"), [], ["not in the catalogue: 12 rows", "with --id"]),
        (lambda t: t.__setitem__("radius", np.asarray(t["radius"])), [], ["states no unit", "--shear-radius-unit"]),
        (lambda t: t.__setitem__("radius", 1.0 * units.Mpc), [], ["two bins of one radius"]),
        (lambda t: t, ["--shear-radius-unit", "Mpc/h"], ["'Mpc/h'", "no length without h"]),
        (lambda t: t, ["--shear-radius-unit", "Mpc"], ["median radius beyond 50 Mpc"]),
        (lambda t: t.rename_column("gt", "g"), [], ["usual name for the shear", "--shear-gt"]),
        (lambda t: t, ["--shear-gt", "gx"], ["no column 'gx'"]),
        (lambda t: t, ["--shear-scatter", "-1"], ["shear_scatter is -1"]),
        (lambda t: t, ["--shear-profile", "einasto"], ["'einasto'", "nfw or bmo1"]),
        (lambda t: t, ["--shear-sigma-crit", "z"], ["state no unit", "--shear-sigma-crit-unit"]),
        (lambda t: t, ["--mass-likelihood", "lens.csv"], ["--mass-likelihood and --shear are given"]),
        (lambda t: t, ["--calib-mass", "M_true", "--calib-sigma", "0.2"], ["--shear cannot be fitted together"]),
    ],
)
def test_shears_that_cannot_be_used(folder, change, options, words):
    table = shear_profiles(folder)
    changed = change(table)
    (table if changed is None else changed).write(folder / "bad.ecsv", overwrite=True)
    unit = [] if "--shear-radius-unit" in [*options, *words] else ["--shear-radius-unit", "kpc"]
    ended = program(folder, "fit", "out", *FIT, "--shear", "bad.ecsv", *unit, *options)
    assert ended.returncode == 2 and not [word for word in words if word not in ended.stderr], ended.stderr
    assert ended.stderr.count("\n") == 1 and ended.stdout == "" and not (folder / "out").exists()


def test_a_catalogue_without_ids(folder):
    pd.read_csv(folder / "clusters.csv").drop(columns="name").to_csv(folder / "noid.csv", index=False)
    ended = warm_start.run(["fit", "noid.csv", "--out", "out", *COMMON, *FIT, *LENSING], folder)
    assert ended.returncode == 2 and "matched by id" in ended.stderr and "--id" in ended.stderr, ended.stderr
