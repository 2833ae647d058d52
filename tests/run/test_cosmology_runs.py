"""Draws of the cosmology by the program: masses are those of the library, their error is in sums; bad files refused."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import warm_start
from pages_that_run import run_page

import massmap_jax as mm
from massmap_jax import CosmologyDraws
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.relation.joint_posterior import JointPosterior
from massmap_jax.run.cosmology import brings_cosmologies, paired
from massmap_jax.run.options import JobOptions, load_relation

NUMBER, DRAWS = 120, 20
GIVEN = ("--relation", "relation.csv", "--relation-from", "this_catalogue")
CHAIN = ("--cosmology-draws", "chain.csv", "--cosmology-columns", "sigma8=s_8,n_s=0.96")
TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial_cosmology.md"
CIRCLE = ("--no-map", "--no-figures", "--circle", "150.5,2.5,120")
GOOD = {"omega_m": 0.3, "sigma8": 0.8, "h": 0.7, "n_s": 0.96, "omega_b": 0.05}


def small_prior():
    """A mass function at few redshifts and masses: a fit of the cosmology makes thousands of them."""
    return mm.MassPrior.from_cosmology(
        "Planck18", redshift=np.linspace(0.0, 0.9, 7), log10_mass_range=(12.5, 16.0), dlog10_mass=0.05
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cosmology")
    rng = np.random.default_rng(8)
    table = {
        "id": np.arange(NUMBER),
        "L": np.exp(np.clip(rng.normal(1.5, 0.5, NUMBER), -0.6, None)),
        "z": rng.uniform(0.1, 0.8, NUMBER),
    }
    table |= {"ra": rng.uniform(150, 151, NUMBER), "dec": rng.uniform(2, 3, NUMBER)}
    pd.DataFrame(table).to_csv(path / "c.csv", index=False, float_format="%.17g")
    # One law in all draws: what all objects share is the cosmology alone.
    law = {"alpha1": np.zeros(DRAWS), "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.2, "scatter": 0.6}
    pd.DataFrame(law).to_csv(path / "relation.csv", index=False)
    chain = {"Om0": rng.normal(0.3, 0.01, 50), "s_8": rng.normal(0.8, 0.09, 50), "h": 0.7, "Ob0": 0.05}
    pd.DataFrame(chain | {"weight": rng.integers(1, 4, 50)}).to_csv(path / "chain.csv", index=False)
    cases = {
        "no_sigma8.csv": [{k: v for k, v in GOOD.items() if k != "sigma8"} | {"S8": 0.8}],
        "nan.csv": [GOOD, GOOD | {"h": np.nan}],
        "odd_om.csv": [GOOD, GOOD, GOOD | {"omega_m": 1.7}],
        "weights.csv": [GOOD | {"weight": 1.0, "wt": 2.0}],
        "negative.csv": [GOOD | {"weight": -1.0}],
        "w.csv": [GOOD | {"w": -0.9}],
    }
    for name, rows in cases.items():
        pd.DataFrame(rows).to_csv(path / name, index=False)
    small_prior().save(path / "prior.npz")
    (path / "prose.txt").write_text("The cosmology is not known yet.\nIt will be known, perhaps, later.\n")
    (path / "prior.txt").write_text("0.1 1e14 1\n0.1 1e15 0.1\n0.9 1e14 1\n0.9 1e15 0.1\n")
    return path


def run(folder, *more, out="no", command="run"):
    return warm_start.run([command, "c.csv", "--out", out, "--lum", "L", "--sigma", "0.1", *more], folder)


def record_of(folder, *more, out):
    ran = run(folder, *more, *CIRCLE, out=out)
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / out / "run.json").read_text()), ran.stdout


@pytest.fixture(scope="module")
def under_chain(folder):
    return record_of(folder, *GIVEN, *CHAIN, out="chain")


def test_masses_are_those_of_the_library(folder, under_chain):
    catalogue = mm.read_catalogue(folder / "c.csv", lum="L", sigma=0.1)
    prior = mm.MassPrior.default()
    chain = CosmologyDraws.read(folder / "chain.csv", columns={"sigma8": "s_8", "n_s": 0.96})
    relation = mm.MassLuminosityRelation.from_draws(**read_relation(folder / "relation.csv"))
    _, key = jax.random.split(jax.random.fold_in(jax.random.key(0), 3))
    both = mm.with_cosmology(relation, chain, prior, key)
    own = mm.mass_posterior(catalogue, prior, both, relation_from="this_catalogue")
    found = pd.read_parquet(folder / "chain" / "masses.parquet")
    np.testing.assert_allclose(found["log10_mass_mean"] * np.log(10), own.mean, atol=1e-4)
    np.testing.assert_allclose(found["log10_mass_sd"] * np.log(10), own.sd, rtol=1e-3)
    told = under_chain[0]["cosmology_draws"]
    assert (told["source"], told["draws"]) == ("chain.csv", DRAWS)
    for name, values in both.population.values.items():
        assert told["mean"][name] == pytest.approx(values.mean()) and told["sd"][name] == pytest.approx(values.std())


def test_the_cosmology_is_in_the_error_of_the_sum(folder, under_chain):
    fixed, _ = record_of(folder, *GIVEN, out="fixed")
    assert fixed["cosmology_draws"] is None
    assert under_chain[0]["circle"]["sd_msun"] > 1.5 * fixed["circle"]["sd_msun"]


def test_what_is_told_of_them(folder, under_chain):
    record, said = under_chain
    told = record["cosmology_draws"]["summary"]
    assert told.startswith(f"{DRAWS} draws of chain.csv: omega_m 0.") and "n_s 0.96, omega_b 0.05" in told
    assert f"cosmology: {told}" in said
    assert f"cosmology: {told}" in warm_start.run(["info", "chain"], folder).stdout
    page = (folder / "chain" / "report.html").read_text()
    assert told.replace("+-", "±") in page and "draws of the cosmology: the source of chain.csv" in page
    notes = " ".join(record["notes"])
    assert f"{DRAWS} of 50 draws of the cosmology are used" in notes and "fitted under one cosmology" in notes
    table = (folder / "chain" / "masses.parquet").read_bytes()
    assert told.encode() in table


def test_one_relation_is_repeated_for_each_cosmology_of_planck():
    relation, prior = (
        mm.MassLuminosityRelation(alpha1=0.0, alpha2=1.0, scatter=0.6, alpha3=1e14),
        mm.MassPrior.default(),
    )
    options = JobOptions(relation="identity", cosmology_draws="planck18", num_relation_draws=DRAWS)
    assert options.has_draws
    notes = []
    both, used = paired(relation, None, prior, options, jax.random.key(0), notes)
    assert both.num_draws == used.num_draws == DRAWS and notes == []
    # The number that is used is made, so that its mean and its errors are Planck's.
    assert used.mean["sigma8"] == pytest.approx(0.8102, abs=1e-4)
    assert used.sd["sigma8"] == pytest.approx(0.0060, rel=0.01)
    # As many as are asked for, or fewer, are used as they are, with their weights.
    weights = np.repeat([1.0, 3.0], DRAWS // 2)
    few = CosmologyDraws.from_arrays(**GOOD | {"sigma8": 0.65 + 0.1 * weights}, log_weight=np.log(weights))
    _, used = paired(relation, few, prior, replace(options, num_relation_draws=99), jax.random.key(0), notes)
    assert used.num_draws == DRAWS and used.mean["sigma8"] == pytest.approx(0.9) and notes == []


def test_a_chain_that_has_changed_is_refused_where_a_run_is_repeated(folder, under_chain):
    kept = (folder / "chain.csv").read_text()
    (folder / "chain.csv").write_text(kept + "0.3,0.8,0.7,0.05,1\n")
    ran = warm_start.run(["run", "--config", "chain/run.json", "--out", "no"], folder)
    (folder / "chain.csv").write_text(kept)
    assert ran.returncode == 2 and "chain.csv has changed since" in ran.stderr, ran.stderr


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("run", ["no_sigma8.csv"], ("no_sigma8.csv has no sigma8", "--cosmology-columns sigma8=...", "S8")),
        ("run", ["nan.csv"], ("h of the cosmology must lie in", "first row 1")),
        ("run", ["odd_om.csv"], ("omega_m of the cosmology must lie in 0.01 to 1", "first row 2 with value 1.7")),
        ("run", ["prose.txt"], ("prose.txt", "columns")),
        ("run", ["c.csv"], ("c.csv has no omega_m, sigma8",)),
        ("run", ["w.csv"], ("'w' of w.csv is not -1 in 1 row", "flat LambdaCDM")),
        ("run", ["weights.csv"], ("are both weights of the draws", "--cosmology-columns weight=weight")),
        ("run", ["negative.csv"], ("must be finite, not negative", "--cosmology-columns log_weight=weight")),
        ("run", ["there_is_none"], ("--cosmology-draws there_is_none is no file", "planck18")),
        ("run", ["."], ("--cosmology-draws . is no file",)),
        ("run", ["chain.csv", "--cosmology-columns", "s_8"], ("cosmology_columns is 's_8'", "sigma8=B")),
        (
            "run",
            ["planck18", "--z-err", "0.01"],
            ("--cosmology-draws and redshifts that are not exact (--z-err", "leave one"),
        ),
        ("run", ["planck18", "--method", "surface"], ("method 'surface' knows one mass prior", "analytic")),
        ("run", ["planck18", "--method", "nuts"], ("method 'nuts' knows one mass prior",)),
        ("run", ["planck18", "--prior", "hmf", "--transfer-model", "EH_NoBAO"], ("can follow the cosmology", "EH")),
        ("stream", ["planck18"], ("--cosmology-draws is an option of massmap-jax run and fit, not of stream",)),
        # No command has it: a slip of the pen is told as before.
        ("run", ["planck18", "--cosmology_columns", "h=h0"], ("No such option", "--cosmology_columns")),
    ],
)
def test_refused_in_one_sentence(folder, command, more, words):
    before = sorted(path.name for path in folder.iterdir())
    ran = run(folder, *GIVEN, "--cosmology-draws", *more, command=command)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr
    for word in words:
        assert word in ran.stderr, ran.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--population", "gaussian"], "the population 'gaussian' is no part of a mass function"),
        (["--compare-populations"], "--compare-populations compares forms of the population under one cosmology"),
    ],
)
def test_what_a_fit_with_measured_masses_does_not_take_is_refused(folder, more, words):
    masses = ("--calib-mass", "M", "--calib-sigma", "0.2", "--relation-prior", "bigmali2017")
    ran = run(folder, *masses, "--cosmology-draws", "planck18", *more, command="fit")
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and words in ran.stderr, ran.stderr


FIT = ("--relation-prior", "alpha1=0:0.5,alpha2=1:0.1,alpha4=0.2,scatter=0.6:0.1,alpha3=1e14", *CHAIN)
FIT += ("--no-figures", "--accept-misfit", "--lum-limit", "0.5", "--prior", "prior.npz")


@pytest.fixture(scope="module")
def fitted(folder):
    ran = run(folder, *FIT, command="fit", out="fitted")
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "fitted" / "run.json").read_text()), ran.stdout


def test_a_fit_varies_the_cosmology_and_says_so(folder, fitted):
    record, said = fitted
    assert list(record["fit"]["mean"])[-2:] == ["omega_m", "sigma8"] and "sigma8" in said
    told = record["cosmology_draws"]
    assert told["source"] == "a fit of relation and cosmology, under chain.csv" and told["draws"] == 1000
    assert told["sd"]["sigma8"] == pytest.approx(record["fit"]["sd"]["sigma8"])
    assert "the catalogue does not narrow the cosmology" in " ".join(record["fit"]["notes"])
    words = warm_start.run(["info", "fitted/relation.npz"], folder).stdout
    assert "sigma8" in words and "prior 0.8" in words
    own = pd.read_csv(folder / "fitted" / "relation.csv")
    assert own["sigma8"].mean() == pytest.approx(record["fit"]["mean"]["sigma8"], rel=1e-6)


def test_masses_are_under_the_fitted_cosmologies(folder, fitted):
    """Those of a run that fits are those of the library under the draws that `fit` kept."""
    direct, _ = record_of(folder, *FIT, "--num-relation-draws", DRAWS, out="direct")
    assert direct["fit"]["mean"] == fitted[0]["fit"]["mean"]
    assert not any("fitted under one cosmology" in note for note in direct["notes"])
    options = JobOptions(relation=str(folder / "fitted" / "relation.npz"))
    prior = small_prior()
    kept = load_relation(options, jax.random.key(0), prior).thinned(DRAWS)
    catalogue = mm.read_catalogue(folder / "c.csv", lum="L", sigma=0.1)
    own = mm.mass_posterior(catalogue, prior, kept, relation_from="this_catalogue")
    found = pd.read_parquet(folder / "direct" / "masses.parquet")["log10_mass_mean"]
    np.testing.assert_allclose(found * np.log(10), own.mean, atol=1e-4)
    assert direct["cosmology_draws"]["mean"]["sigma8"] == pytest.approx(kept.parameter("sigma8").mean())


def test_measured_masses_and_cosmology_in_one_run(folder):
    """One run fits both, writes masses under the draws that it keeps, and says what it learned of the cosmology."""
    rng, prior = np.random.default_rng(3), small_prior()
    z = rng.choice([0.2, 0.5, 0.8], 4 * NUMBER)
    ln_mass = np.asarray(prior.sample(jax.random.key(0), z))
    ln_lum = ln_mass - np.log(1e14) + 0.3 * rng.normal(size=z.size)
    chosen = np.argsort(-ln_lum)[:NUMBER]
    measured = np.exp(ln_mass[chosen] + 0.2 * rng.normal(size=NUMBER))
    measured[NUMBER // 2 :] = np.nan
    columns = {"L": np.exp(ln_lum[chosen]), "z": z[chosen], "M": measured}
    pd.DataFrame(columns).to_csv(folder / "m.csv", index=False)
    limit = str(float(columns["L"].min()))
    given = ["run", "m.csv", "--out", "both", "--lum", "L", "--sigma", "0.05", "--lum-limit", limit, *CHAIN]
    given += ["--relation", "fit", "--relation-prior", "alpha1=0:1,alpha2=1:0.2,alpha4=0,scatter=0.3:0.1,alpha3=1e14"]
    given += ["--calib-mass", "M", "--calib-sigma", "0.2", "--calib-unit", "Msun", "--calib-chosen-by", "luminosity"]
    given += ["--population", "fixed", "--no-map", "--no-figures", "--accept-misfit", "--prior", "prior.npz"]
    ran = warm_start.run([*given, "--num-relation-draws", str(DRAWS)], folder)
    assert ran.returncode == 0, ran.stderr
    record = json.loads((folder / "both" / "run.json").read_text())
    assert list(record["fit"]["mean"])[-2:] == ["omega_m", "sigma8"] and "sigma8" in ran.stdout
    told = record["cosmology_draws"]
    assert told["source"] == "a fit of relation and cosmology, under chain.csv" and told["draws"] == DRAWS
    notes = " ".join(record["notes"])
    assert "measured masses are taken as they are given under all draws" in notes and "cosmology" in notes
    fit = JointPosterior.load(folder / "both" / "relation.npz")
    catalogue = mm.read_catalogue(folder / "m.csv", lum="L", sigma=0.05)
    kept = fit.draws.thinned(DRAWS)
    own = mm.mass_posterior(catalogue, prior, kept, relation_from="this_catalogue")
    found = pd.read_parquet(folder / "both" / "masses.parquet")["log10_mass_mean"]
    np.testing.assert_allclose(found * np.log(10), own.mean, atol=1e-4)
    assert told["mean"]["sigma8"] == pytest.approx(kept.parameter("sigma8").mean())
    # Read again, it brings its cosmologies along.
    options = JobOptions(relation=str(folder / "both" / "relation.npz"))
    assert brings_cosmologies(load_relation(options, jax.random.key(0), prior))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--relation", "fitted/relation.npz", *CHAIN], "brings the cosmologies along"),
        (["--relation", "fitted/relation.csv"], "give relation.npz of the same fit"),
        (["--relation", "fitted/relation.npz", "--prior", "hmf", "--cosmology", "WMAP9"], "under another mass prior"),
    ],
)
def test_a_fit_is_not_taken_apart(folder, fitted, more, words):
    ran = run(folder, *more, "--relation-from", "this_catalogue", *CIRCLE)
    assert ran.returncode == 2 and words in ran.stderr and not (folder / "no").exists(), ran.stderr


def test_a_published_law_of_another_form_is_refused(folder):
    law = ("--relation", "smhm_moster13", "--relation-scatter", "0.3", "--num-relation-draws", DRAWS)
    ran = run(folder, *law, "--cosmology-draws", "planck18")
    assert ran.returncode == 2 and "brings more along" in ran.stderr and not (folder / "no").exists(), ran.stderr


def test_the_tutorial_runs(under_chain, tmp_path, monkeypatch):
    """It has as many draws as the run above, which has compiled what its run needs."""
    monkeypatch.chdir(tmp_path)
    run_page(TUTORIAL.read_text(encoding="utf-8"), tmp_path)
