"""`run` and `fit` with measured masses, through the program: numbers, files, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import warm_start
from pages_that_run import run_page

PRIOR = "alpha1=0:3,alpha2=1:0.5,alpha4=0:2,scatter=0.3:0.3,alpha3=3e14"
NUMBER, CALIBRATORS = 400, 100
TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial_weak_lensing.md"
COMMON = ["--lum", "L500", "--sigma", "e_L500", "--sigma-kind", "linear", "--lum-unit", "1e44 erg/s", "--lum-in",
          "1e44 erg/s", "--population", "gaussian"]  # fmt: skip
MASSES = ["--calib-mass", "M_lens", "--calib-sigma", "e_M_lens", "--calib-unit", "1e14 Msun"]
LINEAR = ["--calib-sigma-kind", "linear"]
BELIEFS = ["--calib-bias", "0:0.05", "--calib-scatter", "0.1:0.03"]


def table(**changes):
    rng = np.random.default_rng(3)
    z = rng.uniform(0.1, 0.7, NUMBER)
    ln_mass = 32.8 + 0.4 * rng.normal(size=NUMBER)
    ln_lum = 1.0 + 0.8 * (ln_mass - np.log(3e14)) + np.log1p(z) + np.hypot(0.25, 0.1) * rng.normal(size=NUMBER)
    measured = np.exp(ln_mass + np.hypot(0.1, 0.2) * rng.normal(size=NUMBER)) / 1e14
    measured[CALIBRATORS:] = np.nan
    lum = np.exp(ln_lum)
    columns = {
        "name": [f"C{i}" for i in range(NUMBER)],
        "ra": rng.uniform(150, 152, NUMBER),
        "dec": rng.uniform(-1, 1, NUMBER),
        "z": z,
        "L500": lum,
        "e_L500": 0.1 * lum,
        "M_lens": measured,
        "e_M_lens": 0.2 * measured,
        "M_true": np.exp(ln_mass),
    }
    return pd.DataFrame(columns | changes)


def program(command, source, out, *options, prior=PRIOR):
    asked = [command, str(source), "--out", str(out), "--relation-prior", prior, *COMMON, *options]
    return warm_start.run(asked, source.parent)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrated") / "clusters.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    ended = program("run", source, out, *MASSES, *LINEAR, *BELIEFS, "--truth", "M_true")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return out, ended.stdout


def test_masses_are_those_of_the_truth(done, source):
    out, told = done
    masses, truth = pd.read_parquet(out / "masses.parquet"), np.log10(table()["M_true"])
    off = (masses["log10_mass_mean"] - truth) / masses["log10_mass_sd"]
    # All masses share an error of 0.05 in ln M: a quarter of the error of one. Their errors go with a scatter that 100
    # measured masses tell to 15 %.
    assert abs(off.mean()) < 1.0 and 0.6 < off.std() < 1.6
    assert "100 of 400 objects have a calibration mass ('M_lens')" in told
    assert "The model fits the observed luminosities" in told and "cannot see" not in told
    assert "calibrators check: the fit predicts" in told and "error that all masses share" in told


def test_the_tutorial_runs(done, tmp_path, monkeypatch):
    """It has as many objects as the run above, which has compiled all that it needs."""
    monkeypatch.chdir(tmp_path)
    run_page(TUTORIAL.read_text(encoding="utf-8"), tmp_path)


def test_files_of_the_run(done):
    out, _ = done
    record = json.loads((out / "run.json").read_text())
    assert record["calibrators_check"]["calibrators"] == CALIBRATORS
    assert record["calibrators_check"]["p_value"] > 1e-4
    assert {"bias", "population_centre"} <= set(record["fit"]["mean"])
    names = {path.name for path in (out / "figures").iterdir()}
    assert {"calibration.png", "calibrators_check.png", "relation.png"} <= names
    assert not [note for note in record["notes"] if "could not be drawn" in note]
    report = (out / "report.html").read_text()
    assert "Calibrated on 100 measured masses" in report
    assert "The model fits the observed luminosities" in report and "cannot see" not in report


def test_draws_of_a_run_serve_another(done, source, tmp_path):
    """relation.npz keeps relation and population together; relation.csv would take them apart and is refused."""
    out, _ = done

    def again(folder, relation):
        asked = ["run", str(source), "--out", str(tmp_path / folder), *COMMON[:-2], "--no-map",
                 "--no-figures", "--relation-from", "this_catalogue", "--relation", str(out / relation)]  # fmt: skip
        return warm_start.run(asked, tmp_path)

    ended = again("again", "relation.npz")
    assert ended.returncode == 0, ended.stderr
    first, second = (pd.read_parquet(p / "masses.parquet") for p in (out, tmp_path / "again"))
    # The first run thinned the draws to 100: the same masses within a few per cent of their errors.
    off = (first["log10_mass_mean"] - second["log10_mass_mean"]) / first["log10_mass_sd"]
    assert off.abs().max() < 0.3
    ended = again("other", "relation.csv")
    assert ended.returncode == 2 and "give relation.npz" in ended.stderr


def test_a_misfit_writes_nothing(source, tmp_path):
    """The mass prior as it is does not describe these objects, and the check of the calibrators says so."""
    options = [*MASSES, *LINEAR, *BELIEFS, "--population", "fixed"]
    ended = program("fit", source, tmp_path / "out", *options)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "does not describe this catalogue" in ended.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "unit", "normalisation", "words"),
    [
        ("fit", "2e13 Msun", "-0.4:0.1", ("without the beliefs about it the data ask for alpha1", "--calib-unit")),
        ("run", "2e15 Msun", "0:3", ("objects are more massive than", "the whole sky has", "--calib-unit")),
    ],
)
def test_masses_in_a_wrong_unit_are_refused(source, tmp_path, command, unit, normalisation, words):
    """The other parameters give way, each within its belief, and the check of the calibrators may pass.

    Masses a factor of 5 off are not so far from published relations that nothing is fitted.
    """
    options = ["--calib-mass", "M_lens", "--calib-sigma", "e_M_lens", "--calib-unit", unit, *LINEAR, *BELIEFS]
    options += ["--no-figures"] + ["--no-map"] * (command == "run")
    believed = PRIOR.replace("alpha1=0:3", f"alpha1={normalisation}").replace("alpha3=3e14", "alpha3=5e13")
    ended = program(command, source, tmp_path / "out", *options, prior=believed)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert not [word for word in words if word not in ended.stderr], ended.stderr
    assert not (tmp_path / "out").exists()


def test_objects_selected_by_their_measured_mass(tmp_path):
    """The relation is that of the truth, and measured masses and luminosities are as predicted for such objects."""
    rng, frame = np.random.default_rng(8), table()
    measured = frame["M_true"] * np.exp(np.hypot(0.1, 0.2) * rng.normal(size=NUMBER)) / 1e14
    frame = frame.assign(M_lens=measured, e_M_lens=0.2 * measured)[measured > 1.8].head(64)  # of many evaluations
    frame.to_csv(tmp_path / "selected.csv", index=False)
    options = ["--selected-on", "mass>1.8e14:0.01", "--calib-chosen-by", "mass", "--no-map", "--no-figures"]
    ended = program("run", tmp_path / "selected.csv", tmp_path / "out", *MASSES, *LINEAR, *BELIEFS, *options)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    found = record["fit"]
    for name, true in (("alpha1", 1.0), ("alpha2", 0.8), ("scatter", 0.25)):
        assert abs(found["mean"][name] - true) < 5 * found["sd"][name], found
    assert "measured mass above 1.8e+14 Msun" in json.dumps(record)
    assert "calibrators check: the fit predicts" in ended.stdout
    assert record["prior_check"]["p_value"] > 1e-4 and "was not checked" not in ended.stdout


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (MASSES[:2], "--calib-sigma"),
        ([*MASSES, "--calib-chosen-by", "mass"], "need that selection"),
        ([*MASSES, "--calib-chosen-by", "chance"], "give one of random, luminosity, mass"),
        ([*MASSES, "--selected-on", "mass>2e14", "--lum-limit", "1"], "a catalogue has one limit"),
        ([*MASSES, "--selected-on", "richness>20"], "names no observable of these: none is given"),
        ([*MASSES, "--selected-on", "mass>2", "--calib-chosen-by", "mass"], "give it in Msun"),
        ([*MASSES, "--selected-on", "mass>2e14", "--calib-convert"], "leave one of them out"),
        ([*MASSES, "--calib-bias", "none"], "cannot be read"),
        ([*MASSES, "--calib-scatter", "-0.1"], "at least 0"),
        ([*MASSES, "--calib-scatter", "20"], "20 in ln M"),
        ([*MASSES, "--calib-bias", "0.8:0.1"], "-0.22 where 1 - b is 0.8"),
        (["--calib-mass", "L500", "--calib-sigma", "0.2", "--calib-unit", "1e14 Msun"], "is the observable and the"),
        ([*MASSES, "--calib-scatter-correlation", "1"], "both excluded"),
        ([*MASSES, "--population", "gauss"], "is not known"),
        (["--calib-mass", "M_len", "--calib-sigma", "0.2"], "M_len"),
        (["--calib-mass", "M_lens", "--calib-sigma", "e_M_lens", *LINEAR], "states no unit"),
        ([*MASSES[:4], "--calib-unit", "erg/s", *LINEAR], "erg"),
        ([*MASSES[:4], "--calib-unit", "1e14 Msun/h", *LINEAR], "h"),
        (["--calib-bias", "0.1"], "has no effect"),
        ([*MASSES, *LINEAR, "--fit-method", "guess"], "guess"),
    ],
)
def test_refused(source, tmp_path, options, match):
    ended = program("fit", source, tmp_path / "out", *options)
    assert ended.returncode == 2 and match in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") <= 2 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"M_lens": np.full(NUMBER, np.nan)}, ""),
        ({"M_lens": np.where(np.arange(NUMBER) < 4, 3.0, np.nan), "e_M_lens": 0.5}, "needs at least 10"),
        ({"M_lens": np.where(np.arange(NUMBER) < 20, 3.0, np.nan), "e_M_lens": 0.5}, "nuts"),
        ({"M_lens": np.where(np.arange(NUMBER) < 100, 14.5, np.nan), "e_M_lens": np.nan}, ""),
    ],
)
def test_bad_columns(tmp_path, changes, match):
    path = tmp_path / "bad.csv"
    table(**changes).to_csv(path, index=False)
    ended = program("fit", path, tmp_path / "out", *MASSES, *LINEAR)
    assert ended.returncode == 2 and match in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    assert not (tmp_path / "out").exists()


def test_populations_are_compared(source, tmp_path):
    """These masses have a normal distribution; the mass prior as it is does not describe them."""
    out = tmp_path / "out"
    ended = program("fit", source, out, *MASSES, *LINEAR, *BELIEFS, "--compare-populations", "--no-figures")
    assert ended.returncode == 0, ended.stderr
    found = pd.read_csv(out / "populations.csv").set_index("population")
    assert set(found.index) == {"gaussian", "hmf_completeness", "skew_normal", "mixture:2", "fixed"}
    assert found["difference"].iloc[0] == 0 and -found["difference"]["fixed"] > 3 * found["error"]["fixed"]
    assert "populations compared by 100 measured masses" in ended.stdout


def test_comparing_populations_needs_masses(source, tmp_path):
    ended = warm_start.run(["fit", str(source), "--out", str(tmp_path / "out"), "--relation-prior", PRIOR, *COMMON[:-2],
                            "--compare-populations"], tmp_path)  # fmt: skip
    assert ended.returncode == 2 and "--compare-populations" in ended.stderr and "--calib-mass" in ended.stderr
