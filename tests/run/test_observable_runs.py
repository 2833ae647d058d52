"""`run` and `fit` with further observables, through the program: numbers, files, and what is refused."""

import json
import re

import equinox as eqx
import numpy as np
import pandas as pd
import pytest
import warm_start
from astropy.table import Table

import massmap_jax as mm
from massmap_jax.catalogue.observables import MEASURED, UPPER_LIMIT
from massmap_jax.relation.joint_posterior import JointPosterior
from massmap_jax.run.info import describe_path
from massmap_jax.run.observable_columns import read_observables
from massmap_jax.run.options import JobOptions, check_options

NUMBER, DRAWS = 300, 100
LIGHTEST, HEAVIEST, INDEX = 3e13, 3e15, -1.2
COMMON = ["--sigma-kind", "linear", "--prior", "prior.txt", "--prior-per", "ln_mass", "--prior-support", "sharp"]
LUM = ["--lum", "L500", "--sigma", "e_L500"]
PRIOR = ["--relation-prior", "alpha1=0:2,alpha2=1:0.5,alpha4=0,scatter=0.3:0.2,alpha3=1e14"]
RICHNESS = ["--observable", "richness=lam", "--observable-sigma", "richness=e_lam"]
LINEAR = ["--observable-sigma-kind", "richness=linear"]
OF_RICHNESS = ["--observable-prior", "richness:alpha1=3:1,alpha2=1:0.3,alpha4=0,scatter=0.3:0.2,alpha3=1e14"]
DARK = 5  # objects without a luminosity


def table():
    rng = np.random.default_rng(5)
    ends = np.array([LIGHTEST, HEAVIEST]) ** INDEX
    ln_mass = np.log(ends[0] + rng.uniform(size=NUMBER) * (ends[1] - ends[0])) / INDEX
    x = ln_mass - np.log(1e14)
    both = 0.4 * 0.25 * np.array([[1.6, 0.4], [0.4, 0.625]])
    scatter = rng.multivariate_normal(np.zeros(2), both, NUMBER)
    lum = np.exp(0.5 + 1.3 * x + scatter[:, 0] + 0.1 * rng.normal(size=NUMBER))
    richness = np.exp(3.4 + x + scatter[:, 1] + 0.15 * rng.normal(size=NUMBER))
    ln_y = -11 + 1.6 * x + np.hypot(0.2, 0.2) * rng.normal(size=NUMBER)
    limit = ln_y < -12.7
    ln_y[limit] = -12.7
    richness[rng.uniform(size=NUMBER) < 0.15] = np.nan
    lum[:DARK] = np.nan
    return pd.DataFrame(
        {
            "name": [f"C{i}" for i in range(NUMBER)],
            "z": rng.uniform(0.1, 0.6, NUMBER),
            "L500": lum,
            "e_L500": 0.1 * lum,
            "lam": richness,
            "e_lam": 0.15 * richness,
            "log_y": ln_y / np.log(10),
            "e_log_y": 0.2 / np.log(10),
            "l_y": np.where(limit, "<", ""),
            "word": "bright",
            "void": np.full(NUMBER, -99.0),
            "M_true": np.exp(ln_mass),
        }
    )


def program(command, folder, out, *options):
    return warm_start.run([command, "clusters.csv", "--out", out, *LUM, *COMMON, *options], folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("observables")
    table().to_csv(path / "clusters.csv", index=False)
    mass = np.geomspace(LIGHTEST, HEAVIEST, 120)
    rows = [f"{z} {m:.8e} {(m / LIGHTEST) ** INDEX:.8e}\n" for z in (0.0, 1.0) for m in mass]
    (path / "prior.txt").write_text("".join(rows))
    return path


@pytest.fixture(scope="module")
def done(folder):
    """One fit of richness and luminosity, and its masses: the only thing here that takes long."""
    ended = program("run", folder, "out", *PRIOR, *RICHNESS, *LINEAR, *OF_RICHNESS, "--no-map", "--no-figures")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return folder / "out", ended.stdout


def by_hand(data, relation):
    """Mean and standard deviation of ln M of each row, on a grid: a mixture over the draws of normal laws x prior."""
    t = np.linspace(np.log(LIGHTEST), np.log(HEAVIEST), 2000)
    ln_prior, shares, (richness,) = INDEX * t, relation.shares, relation.laws
    laws = [{p: np.asarray(v, np.float64) for p, v in law.columns().items()} for law in (relation, richness)]
    values = np.stack([np.log(data["L500"]), np.log(data["lam"])])
    sigma = np.arctanh([0.1, 0.15])  # half of the interval in ln that a bar of 10 or 15 % spans
    correlation = np.asarray(relation.scatter_correlation)[:, 0, 1]
    moments = np.zeros((len(data), 2))
    for draw, share in enumerate(shares):
        scatter = np.array([law["scatter"][draw] for law in laws])
        covariance = np.diag(scatter**2 + sigma**2)
        covariance[0, 1] = covariance[1, 0] = correlation[draw] * scatter[0] * scatter[1]
        mean = np.stack([law["alpha1"][draw] + law["alpha2"][draw] * (t - np.log(1e14)) for law in laws])
        for row in range(len(data)):
            there = np.isfinite(values[:, row])
            off = values[there, row, None] - mean[there]
            ln_p = ln_prior - 0.5 * (off * np.linalg.solve(covariance[np.ix_(there, there)], off)).sum(axis=0)
            p = np.exp(ln_p - ln_p.max())
            moments[row] += share * np.array([(p * t).sum(), (p * t**2).sum()]) / p.sum()
    return moments[:, 0], np.sqrt(moments[:, 1] - moments[:, 0] ** 2)


def test_masses_are_those_by_hand(done):
    out, _ = done
    masses, data = pd.read_parquet(out / "masses.parquet")[:40], table()[:40]
    assert {(lum, rich) for lum, rich in np.isfinite(data[["L500", "lam"]]).to_numpy()} > {(True, False), (False, True)}
    mean, sd = by_hand(data, JointPosterior.load(out / "relation.npz").draws.thinned(DRAWS))
    assert np.allclose(masses["log10_mass_mean"], mean / np.log(10), atol=5e-4)
    assert np.allclose(masses["log10_mass_sd"], sd / np.log(10), atol=5e-4)


def test_masses_are_those_of_the_truth_and_richness_shortens_error_bars(done):
    out, told = done
    masses, data = pd.read_parquet(out / "masses.parquet"), table()
    off = (masses["log10_mass_mean"] - np.log10(data["M_true"])) / masses["log10_mass_sd"]
    assert abs(off.mean()) < 0.5 and 0.8 < off.std() < 1.2
    rich, lum = np.isfinite(data["lam"]), np.isfinite(data["L500"])
    sd = [masses["log10_mass_sd"][rows].median() for rows in (rich & lum, rich & ~lum, ~rich & lum)]
    assert sd[0] < 0.95 * min(sd[1:])
    dark = masses["flag_reason"].str.contains("NO_LUMINOSITY")
    assert dark.sum() == DARK and np.array_equal(dark, ~lum) and np.isfinite(masses["log10_mass_mean"]).all()
    assert f"{DARK} objects have no luminosity" in told


def test_what_the_run_says_of_them(done, folder):
    out, _ = done
    record = json.loads((out / "run.json").read_text())
    missing = int(table()["lam"].isna().sum())
    found = record["observables"]["by_name"]["richness"]
    assert (found["measured"], found["missing"], found["upper_limits"]) == (NUMBER - missing, missing, 0)
    assert found["relation"]["alpha2"]["mean"] == pytest.approx(record["fit"]["mean"]["alpha2_richness"], abs=0.02)
    correlation = np.array(record["observables"]["scatter_correlation"]["mean"])
    assert correlation[0, 1] == pytest.approx(record["fit"]["mean"]["correlation_richness"], abs=0.05)
    assert record["options"]["observable"] == "richness=lam" == record["config"]["observable"]
    report = (out / "report.html").read_text()
    assert "slope d ln richness / d ln M" in report and "Correlation of their scatters" in report
    assert f"<td>richness</td><td>not stated</td><td>{NUMBER - missing}</td>" in report
    assert f"observable richness: {NUMBER - missing} measured, {missing} missing" in describe_path(str(out))
    assert "alpha2_richness" in describe_path(str(out / "relation.npz"))


def test_relation_file_gives_the_same_masses_of_fits_by_a_file_of_options(done, folder):
    """The draws that the first run used; the richness is a log10 here, with an error in dex."""
    out, _ = done
    fit = JointPosterior.load(out / "relation.npz")
    eqx.tree_at(lambda p: p.draws, fit, fit.draws.thinned(DRAWS)).save(folder / "few.npz")
    data = table().rename(columns={"lam": "log_lam", "e_lam": "dex"})
    data["log_lam"], data["dex"] = np.log10(data["log_lam"]), np.arctanh(0.15) / np.log(10)
    Table.from_pandas(data.drop(columns="l_y")).write(folder / "clusters.fits")
    (folder / "run.yaml").write_text(
        "catalogue: clusters.fits\nout: again\nlum: L500\nsigma: e_L500\nsigma_kind: linear\nprior: prior.txt\n"
        "prior_per: ln_mass\nprior_support: sharp\nrelation: few.npz\nrelation_from: this_catalogue\nno_map: true\n"
        "no_figures: true\nno_report: true\nobservable: [richness=log_lam]\nobservable_sigma: richness=dex\n"
        "observable_log: richness=log10\n"
    )
    ended = warm_start.run(["run", "--config", "run.yaml"], folder)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    first, second = (pd.read_parquet(folder / one / "masses.parquet") for one in ("out", "again"))
    assert np.allclose(first["log10_mass_mean"], second["log10_mass_mean"], atol=1e-3)
    assert np.allclose(first["log10_mass_sd"], second["log10_mass_sd"], atol=1e-3)
    alone = program("run", folder, "bad", "--relation", "few.npz", "--relation-from", "this_catalogue")
    assert alone.returncode == 2 and "--observable richness=COLUMN" in alone.stderr and not (folder / "bad").exists()
    ended = program("stream", folder, "bad", "--relation", "few.npz", "--relation-from", "this_catalogue")
    assert ended.returncode == 2 and "massmap-jax run" in ended.stderr and not (folder / "bad").exists()


def read(folder, **given):
    """The observables of some options, the notes, and the catalogue."""
    catalogue = mm.read_catalogue(folder / "clusters.csv", lum="L500", sigma="e_L500", sigma_kind="linear")
    options, notes = JobOptions(relation="fit", **given), []
    found = read_observables(str(folder / "clusters.csv"), {}, options, catalogue, notes)
    return found.observables, notes


def test_columns_are_read_by_the_rules_of_a_luminosity(folder):
    data = table()
    found, notes = read(
        folder,
        observable="richness=lam,y_sz=log_y",
        observable_sigma="richness=e_lam,y_sz=e_log_y",
        observable_sigma_kind="richness=linear",
        observable_log="y_sz=log10",
        observable_unit="y_sz=Mpc2",
        observable_limit="y_sz=l_y",
    )
    limit = (data["l_y"] == "<").to_numpy()
    assert found.names == ("richness", "y_sz") and found.units == {"richness": "", "y_sz": "Mpc2"}
    values = np.stack([np.log(data["lam"]), np.log(10) * data["log_y"]], axis=1)
    assert np.allclose(found.ln_value, values, equal_nan=True)
    assert np.allclose(found.sigma, np.where(np.isfinite(values), [np.arctanh(0.15), 0.2], np.nan), equal_nan=True)
    assert np.array_equal(found.kind[:, 1], np.where(limit, UPPER_LIMIT, MEASURED))
    assert f"{(~limit).sum()} measured, {limit.sum()} upper limits, of 300 objects" in " ".join(notes)


def test_numbers_stay_those_of_the_column_where_its_unit_has_a_scale(tmp_path):
    columns = {"L500": [1.0, 2.0, 3.0], "e_L500": 0.1, "z": 0.2, "y": [1.0, 2.0, 3.0]}
    pd.DataFrame(columns).to_csv(tmp_path / "clusters.csv", index=False)
    found, _ = read(tmp_path, observable="y=y", observable_sigma="y=0.1", observable_unit="y=1e-5 Mpc2")
    assert np.allclose(np.exp(found.ln_value[:, 0]), [1.0, 2.0, 3.0]) and found.units == {"y": "1e-5 Mpc2"}
    with pytest.raises(mm.MassmapError, match="observable_log is 'log'"):
        read(tmp_path, observable="y=y", observable_sigma="y=0.1", observable_log="y=log")


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        (["<", ">", "", "="], [2, 3, 1, 1]),
        (["yes", "No", "TRUE", "f"], [2, 1, 2, 1]),
        ([1, 0, np.nan, 1], [2, 1, 1, 2]),
        ([True, False, False, True], [2, 1, 1, 2]),
        (["maybe", "no", "no", "no"], None),
        ([2, 0, 0, 0], None),
    ],
)
def test_ways_to_write_that_a_value_is_a_limit(cells, kinds, tmp_path):
    columns = {"L500": [1.0, 2.0, 3.0, 4.0], "e_L500": 0.1, "z": 0.2, "y": [0.1, 0.2, 0.3, 0.4], "limit": cells}
    pd.DataFrame(columns).to_csv(tmp_path / "clusters.csv", index=False)
    asked = {"observable": "y=y", "observable_sigma": "y=0.2", "observable_limit": "y=limit"}
    if kinds is None:
        with pytest.raises(mm.MassmapError, match=r"does not say which values are limits: 1 row, first row 0"):
            read(tmp_path, **asked)
    else:
        assert read(tmp_path, **asked)[0].kind[:, 0].tolist() == kinds


def test_a_limit_without_an_error_is_not_lost(tmp_path):
    columns = {"L500": [1.0, 2.0, 3.0], "e_L500": 0.1, "z": 0.2, "y": [1.0, 2.0, 3.0], "limit": [0, 1, 0]}
    pd.DataFrame(columns | {"e_y": [0.1, np.nan, 0.1]}).to_csv(tmp_path / "clusters.csv", index=False)
    with pytest.raises(
        mm.MassmapError, match=r"limits of y have no error .* 1 row, first row 1 .*observable_sigma='y="
    ):
        read(
            tmp_path, observable="y=y", observable_sigma="y=e_y", observable_sigma_kind="y=linear",
            observable_limit="y=limit",
        )  # fmt: skip


Y = {"observable": "y=Y", "observable_sigma": "y=0.2", "observable_prior": "y:bigmali2017"}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"observable": "lam"}, "give NAME=COLUMN, such as richness=lambda"),
        ({"observable_sigma": None}, "the observable y has no error"),
        ({"observable_prior": None}, "the observable y has no prior"),
        ({"observable": "y=Y,y=Z"}, "given twice for y"),
        ({"observable_limit": "x=l_x"}, "x, which is no observable of these: y"),
        (
            {"observable": "y=Y,x=Y", "observable_sigma": "y=1,x=1", "observable_prior": "y:bigmali2017,x:bigmali2017"},
            "both the column 'Y'",
        ),
        ({"observable_prior": "y:alpha1=3:1,alpha2=1:0.3,scatter=0.3"}, "of y cannot be used: the prior"),
        ({"scatter_correlation": "0"}, "scatter_correlation='0' cannot be used"),
        ({"scatter_correlation": "correlation_x=0.1"}, "there are correlation_y"),
        ({"scatter_correlation": "high"}, "give the shape of an LKJ prior"),
        ({"selected_on": "y=20"}, "give NAME>VALUE"),
        ({"selected_on": "y>-20"}, "give a positive number"),
        ({"selected_on": "L500>1"}, "lum_limit="),
        ({"selected_on": "y>20", "lum_limit": 1.0}, "a catalogue has one limit"),
        ({"method": "surface"}, "knows the luminosity alone"),
        ({"uncertain_redshifts": True}, "several observables need exact ones"),
    ],
)
def test_options_that_no_catalogue_could_make_valid(given, match):
    options = JobOptions(relation="fit", relation_prior="bigmali2017", **(Y | given))
    with pytest.raises(mm.MassmapError, match=re.escape(match)):
        check_options(options)


@pytest.mark.parametrize(
    ("column", "more", "match"),
    [
        ("lambda", [], "no column 'lambda'"),
        ("word", [], "holds text"),
        ("L500", [], "the luminosity itself"),
        ("void", [], "none of the 300 values"),
        ("log_y", [], "--observable-log richness=log10"),
        ("lam", ["--observable-sigma", "richness=e_lam"], "--observable-sigma-kind"),
        ("lam", ["--z-err", "0.01"], "need exact ones"),
    ],
)
def test_refused_in_one_sentence(column, more, match, folder):
    sigma = [] if "--observable-sigma" in more else ["--observable-sigma", "richness=0.2"]
    asked = ["--observable", f"richness={column}", *sigma, *more, *OF_RICHNESS]
    ended = program("fit", folder, "bad", *PRIOR, *asked)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stdout + ended.stderr
    assert match in ended.stderr and not (folder / "bad").exists(), ended.stderr
