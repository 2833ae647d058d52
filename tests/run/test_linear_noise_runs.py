"""Masses with linear noise by the program: those of the library, and one sentence where something cannot take it."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import warm_start

import massmap_jax as mm
from massmap_jax.catalogue.relation_files import read_relation

NUMBER = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("linear")
    rng = np.random.default_rng(4)
    lum, z = np.exp(rng.normal(0.5, 0.7, NUMBER)), rng.uniform(0.1, 0.8, NUMBER)
    error = lum / np.linspace(1.5, 30, NUMBER)  # two in twelve are below the limit of lognormal noise
    table = {"id": np.arange(NUMBER), "L": lum, "e_L": error, "z": z, "ra": 150 + 0.1 * z, "dec": 2 + 0.1 * z}
    pd.DataFrame(table).to_csv(path / "c.csv", index=False, float_format="%.17g")
    rows = {"alpha1": [0.0, 0.1], "alpha2": [1.3, 1.2], "alpha3": 1e14, "alpha4": 0.2, "scatter": [0.3, 0.25]}
    pd.DataFrame(rows).to_csv(path / "relation.csv", index=False)
    return path


def run(folder, *more, out="out", command="run", table="c.csv"):
    bars = ["--lum", "L", "--sigma", "e_L", "--sigma-kind", "linear", "--noise", "linear"]
    return warm_start.run([command, table, "--out", out, *bars, *more], folder)


FITTED = ("--relation-prior", "alpha1=0:1,alpha2=1.3:0.3,alpha4=0.2:0.5,scatter=0.3:0.1,alpha3=1e14")
GIVEN = ("--relation", "relation.csv", "--relation-from", "fixed_draws")


def test_masses_are_those_of_the_library(folder):
    ran = run(folder, *GIVEN, "--no-figures")
    assert ran.returncode == 0, ran.stderr
    found = pd.read_parquet(folder / "out" / "masses.parquet")
    catalogue = mm.read_catalogue(folder / "c.csv", lum="L", sigma="e_L", sigma_kind="linear", noise="linear")
    relation = mm.MassLuminosityRelation.from_draws(**read_relation(folder / "relation.csv"))
    assert catalogue.usable.all()
    own = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation, relation_from="fixed_draws")
    lognormal = mm.mass_posterior(
        mm.HaloCatalogue.from_arrays(
            luminosity=np.exp(catalogue.ln_lum_obs),
            redshift=catalogue.redshift,
            sigma_ln_luminosity=catalogue.sigma_ln_lum,
        ),
        mm.MassPrior.default(),
        relation,
        relation_from="fixed_draws",
    )
    np.testing.assert_allclose(found["log10_mass_mean"] * np.log(10), own.mean, atol=1e-4)
    assert np.abs(lognormal.mean - own.mean)[:2].min() > 0.5  # the twin: the same bars as errors in ln L
    record = json.loads((folder / "out" / "run.json").read_text())
    assert "linear" in json.dumps(record) and (folder / "out" / "mass_map.fits").exists()


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        (
            "run",
            [*FITTED, "--snr-limit", "3"],
            ("1 objects have a signal to noise below", "row 0"),
        ),
        ("run", [*GIVEN, "--snr-limit", "3"], ("--snr-limit 3 has no effect", "which objects are in the catalogue")),
        ("run", [*FITTED, "--snr-limit", "-1"], ("limit in signal to noise is -1",)),
        ("run", [*FITTED, "--snr-limit", "1", "--lum-limit", "1"], ("--lum-limit and --snr-limit are given",)),
        ("run", [*FITTED, "--noise", "lognormal", "--snr-limit", "5"], ("for a fit to linear noise",)),
        ("run", [*GIVEN, "--min-snr", "2"], ("min_snr has no effect", "--noise linear")),
        ("run", [*GIVEN, "--noise", "poisson"], ("noise is 'poisson'", "lognormal or linear")),
        ("run", [*GIVEN, "--sigma-kind", "dex"], ("in dex", "--sigma-kind linear")),
        ("stream", list(GIVEN), ("narrow range of objects only", "--method analytic")),
    ],
)
def test_what_cannot_take_it_says_so(folder, command, more, words):
    before = sorted(path.name for path in folder.iterdir())
    ran = run(folder, *more, *([] if command == "stream" else ["--no-map"]), out="no", command=command)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr
    for word in words:
        assert word in ran.stderr, ran.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_signal_to_noise_at_which_noise_alone_explains_all(folder):
    pd.read_csv(folder / "c.csv").assign(e_L=lambda t: t.L / 1.2).to_csv(folder / "faint.csv", index=False)
    ran = run(folder, *GIVEN, "--no-map", out="no", table="faint.csv")
    assert ran.returncode == 2 and "12 objects have a signal to noise below 5" in ran.stderr, ran.stderr


BELIEFS = "alpha1=1.6:0.5,alpha2=1.7:0.3,alpha4=0.5,scatter=0.2:0.1,alpha3=3e14"


def test_a_fit_with_a_limit_in_signal_to_noise(tmp_path):
    """The program fits what the library fits, checks it and says so; the limit is in the record."""
    rng = np.random.default_rng(8)
    z = rng.uniform(0.1, 0.8, 150)
    lum = np.exp(1.6 + 1.7 * rng.normal(0, 0.5, z.size) + 0.5 * np.log1p(z)) + 0.4 * rng.normal(size=z.size)
    table = pd.DataFrame({"L": lum, "e_L": 0.4, "z": z})[lum > 5 * 0.4]
    table.to_csv(tmp_path / "c.csv", index=False, float_format="%.17g")
    more = ["--relation-prior", BELIEFS, "--snr-limit", "5", "--accept-misfit", "--no-figures"]
    ran = run(tmp_path, *more, command="fit")
    assert ran.returncode == 0, ran.stderr
    found = mm.RelationPosterior.load(tmp_path / "out" / "relation.npz")
    catalogue = mm.read_catalogue(tmp_path / "c.csv", lum="L", sigma="e_L", sigma_kind="linear", noise="linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = mm.fit_relation(catalogue, mm.MassPrior.default(), BELIEFS, selection=mm.SignalToNoiseLimit(5.0))
    for name in ("alpha1", "alpha2", "scatter"):
        assert abs(float(found.maximum.parameter(name)) - float(own.maximum.parameter(name))) < 1e-2 * own.sd[name], (
            name
        )
    record = (tmp_path / "out" / "run.json").read_text()
    assert '"snr_limit": 5' in record and "signal to noise of at least 5" in record
    assert json.loads(record)["fit"]["selection"] == "signal to noise of at least 5"


def test_measurements_below_zero(folder):
    """Zero and -1.5 errors have masses; -6 errors is no noise, and the row is counted."""
    table = pd.read_csv(folder / "c.csv")
    table.loc[0, "L"], table.loc[1, "L"], table.loc[2, "L"] = -1.5 * table["e_L"][0], 0.0, -6 * table["e_L"][2]
    table.to_csv(folder / "below.csv", index=False)
    ran = run(folder, *GIVEN, "--no-map", "--no-figures", out="below", table="below.csv")
    assert ran.returncode == 0, ran.stderr
    found = pd.read_parquet(folder / "below" / "masses.parquet")
    assert np.isfinite(found["log10_mass_mean"]).tolist() == [True, True, False] + [True] * (NUMBER - 3)
    assert found["log10_mass_mean"][:2].max() < found["log10_mass_mean"][3:].max()
    assert "more than four errors below zero" in ran.stdout + ran.stderr
    ran = run(folder, "--lum-limit", "0.1", *FITTED, out="fit", table="below.csv", command="fit")
    assert ran.returncode != 0 and "2 objects have a luminosity of zero or less, first row 0" in ran.stderr
