"""The program on input that can be read in two ways: one sentence and exit code 2, or the right answer and a note."""

import numpy as np
import pandas as pd
import pytest
import warm_start

NUM = 40
PLAIN = ["--no-map", "--no-figures", "--no-report", "--quiet"]
IDENTITY = ["--relation", "identity"]
BELIEFS = "alpha1=2.3:1,alpha2=1:0.2,alpha4=0:0.3,scatter=0.3:0.15,alpha3=1e14"


def program(folder, *args, platforms="cpu"):
    # The backend is of no use to a program that writes files.
    return warm_start.run(args, folder, JAX_PLATFORMS=platforms, MPLBACKEND="no such backend")


def refused(folder, *args, **more):
    before = sorted(path.name for path in folder.iterdir())
    ran = program(folder, *args, **more)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1 and "Traceback" not in ran.stderr
    assert sorted(path.name for path in folder.iterdir()) == before
    return ran.stderr


def masses():
    rng = np.random.default_rng(3)
    z, mass = rng.uniform(0.1, 0.6, NUM), 10 ** rng.uniform(13.8, 14.8, NUM)
    columns = {"z": z, "M": mass / 1e14, "logM": np.log10(mass), "e_M": 0.1 * mass / 1e14, "e_logM": 0.05}
    return pd.DataFrame(columns | {"M_lo": 0.9 * mass / 1e14, "M_up": 1.1 * mass / 1e14})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("nonsense")
    masses().to_csv(path / "in.csv", index=False)
    prior = pd.DataFrame({"z": [0.0] * 9 + [1.0] * 9, "M": list(np.geomspace(1e12, 1e16, 9)) * 2})
    prior["density"] = prior["M"] ** -1.9
    prior.to_csv(path / "prior.csv", index=False)
    np.savetxt(path / "prior.txt", prior.to_numpy())
    prior[["M", "z", "density"]].to_csv(path / "order.csv", index=False)
    prior.assign(M=np.log10(prior["M"])).rename(columns={"M": "log10M"}).to_csv(path / "logs.csv", index=False)
    return path


def test_a_prior_with_commas_and_a_header_is_that_of_blanks(folder):
    from massmap_jax.run.options import PriorOptions, load_prior

    one, other = (load_prior(PriorOptions(source=str(folder / f"prior.{kind}"))) for kind in ("csv", "txt"))
    np.testing.assert_allclose(one.ln_density, other.ln_density, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lum", "logM", "--sigma", "0.1"], ("'logM'", "--lum-log log10", "--lum-log none")),
        (["--lum", "M"], ("e_M", "--sigma-kind", "'ln'", "'linear'", "10 %")),
        (["--lum", "M_up"], ("error", "--sigma")),
        (["--lum", "M", "--sigma-plus", "M_up", "--sigma-minus", "M_lo"], ("bounds", "--sigma-kind bounds")),
        (["--lum", "M", "--sigma", "0.1", "--lum-unit", "10e14 Msun"], ("not clear", "--lum-scale")),
        (["--lum", "M", "--sigma", "0.1", "--columns", "planck"], ("redmapper",)),
        (["--lum", "M", "--sigma", "0.1", "--mag-zero", "4"], ("no effect",)),
        (["--lum", "M", "--sigma", "0.1", "--flux-min", "1e-12"], ("no effect",)),
        (["--lum", "M", "--sigma", "0.1", "--ignore-columns"], ("no effect", "file of draws")),
        (["--lum", "M", "--sigma", "0.1", "--mass-bias", "20"], ("factor of 0.05", "1 - b")),
        (["--lum", "M", "--sigma", "0.1", "--mass-bias", "0.2:0.05"], ("factor of 5", "0.8:0.05")),
        (["--lum", "M", "--sigma", "0.1", "--prior", "logs.csv"], ("'log10M'", "logarithms", "Msun")),
        (["--lum", "M", "--sigma", "0.1", "--prior", "order.csv"], ("M, z, density", "in this order")),
    ],
)
def test_refusals(folder, options, words):
    error = refused(folder, "run", "in.csv", "--out", "out", *IDENTITY, *options, *PLAIN)
    assert not [word for word in words if word not in error], error


def test_a_relation_to_base_10_is_named_where_it_gives_masses_of_no_halo(folder):
    """Of an observable in 1e44 erg/s, by a relation in erg/s: neither halo nor prior is to blame."""
    law = {"alpha1": 44.7, "alpha2": 1.35, "alpha4": 0, "scatter": 0.25, "alpha3": 3e14}
    pd.DataFrame(law, index=[0]).to_csv(folder / "log10.csv", index=False)
    options = ["--lum", "M", "--lum-log", "none", "--sigma", "0.1", "--relation", "log10.csv"]
    error = refused(folder, "run", "in.csv", "--out", "out", *options, *PLAIN)
    for word in ("the relation log10.csv gives a median observable of", "2.302585, and it is in erg/s", "--lum-unit"):
        assert word in error, error


def test_a_logarithm_and_the_linear_column_give_the_same_masses(folder):
    ways = {
        "linear": ["--lum", "M", "--lum-unit", "1e14 Msun", "--sigma", "e_M", "--sigma-kind", "linear"],
        "bounds": [
            "--lum",
            "M",
            "--lum-unit",
            "1e14 Msun",
            "--sigma-plus",
            "M_up",
            "--sigma-minus",
            "M_lo",
            "--sigma-kind",
            "bounds",
        ],
        "log": ["--lum", "logM", "--lum-log", "log10", "--sigma", str(np.arctanh(0.1) / np.log(10))],
    }
    found = {}
    for name, options in ways.items():
        ran = program(folder, "run", "in.csv", "--out", name, *IDENTITY, *options, "--pivot", "1", *PLAIN)
        assert ran.returncode == 0, ran.stderr
        found[name] = pd.read_parquet(folder / name / "masses.parquet")["log10_mass_mean"]
    np.testing.assert_allclose(found["bounds"], found["linear"], atol=1e-5)
    np.testing.assert_allclose(found["log"], found["linear"], atol=1e-4)


def test_weights_of_draws_change_the_masses_as_they_should(folder):
    rng = np.random.default_rng(8)
    right = {"alpha1": rng.normal(0, 0.02, 20), "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.0, "scatter": 0.1}
    draws = pd.DataFrame(right)
    wrong = draws.assign(alpha1=draws["alpha1"] - 1.5)
    both = pd.concat([draws.assign(weight=5.0), wrong.assign(weight=0.0)])
    both.to_csv(folder / "weighted.csv", index=False)
    draws.to_csv(folder / "right.csv", index=False)
    found = []
    for name in ("weighted", "right"):
        options = ["--relation", f"{name}.csv", "--relation-from", "fixed_draws", "--lum", "M", "--sigma", "0.1"]
        ran = program(folder, "run", "in.csv", "--out", f"of_{name}", *options, *PLAIN)
        assert ran.returncode == 0, ran.stderr
        found.append(pd.read_parquet(folder / f"of_{name}" / "masses.parquet")["log10_mass_mean"])
    np.testing.assert_allclose(*found, atol=2e-3)
    both.assign(tension=1.0).to_csv(folder / "odd.csv", index=False)
    error = refused(folder, "run", "in.csv", "--out", "odd", *options[2:], "--relation", "odd.csv", *PLAIN)
    assert "'tension'" in error and "--ignore-columns" in error


def test_faint_objects_left_out_on_signal_to_noise_stop_a_fit(tmp_path):
    rng = np.random.default_rng(1)
    lum = np.exp(rng.exponential(0.5, 400)) * 1.5
    noise = 0.2 + 0.25 * lum ** rng.normal(0.4, 0.1, 400)
    pd.DataFrame({"z": rng.uniform(0.1, 0.5, 400), "lum": lum, "e": noise}).to_csv(tmp_path / "in.csv", index=False)
    options = ["--lum", "lum", "--sigma", "e", "--sigma-kind", "linear", "--relation-prior", BELIEFS]
    error = refused(tmp_path, "fit", "in.csv", "--out", "out", *options, "--lum-limit", "1.5", "--quiet")
    words = ("SIGMA_LOW_SNR", "signal to noise", "--min-snr", "--lum-limit", "first row")
    assert not [word for word in words if word not in error], error
    error = refused(tmp_path, "fit", "in.csv", "--out", "out", *options, "--lum-limit", "1.5", "--flux-min", "1e-12")
    assert "one limit" in error


def test_layouts_are_listed_and_shown(tmp_path):
    listed = program(tmp_path, "columns")
    assert listed.returncode == 0 and all(name in listed.stdout for name in ("act_dr5", "redmapper", "mcxc", "erass1"))
    shown = program(tmp_path, "columns", "act")
    assert "M500cUnc_errPlus" in shown.stdout and "verified on the file" in shown.stdout


def test_a_platform_that_jax_does_not_know(tmp_path):
    error = refused(tmp_path, "simulate", "--out", "f.csv", "--num-halos", "20", platforms="abacus")
    assert "JAX cannot start on JAX_PLATFORMS=abacus" in error and "--device cpu" in error


def test_what_a_refused_relation_advises_can_be_followed(folder):
    draws = {
        "alpha1": [1.0, 1.1],
        "alpha2": [0.8, 0.9],
        "alpha3": [3e14] * 2,
        "alpha4": [0.0] * 2,
        "scatter": [0.2] * 2,
    }
    pd.DataFrame(draws | {"note": [1, 2]}).to_csv(folder / "draws.csv", index=False)
    args = ["run", "in.csv", "--out", "o", "--lum", "M", "--sigma", "0.1", "--relation", "draws.csv", *PLAIN]
    told = refused(folder, *args)
    assert "or pass --ignore-columns if they" in told
    # The catalogue and the relation do not belong together, which is refused later and in other words.
    assert "'note'" not in program(folder, *args, "--ignore-columns").stderr.partition("error: ")[2]
