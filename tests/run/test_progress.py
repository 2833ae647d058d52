"""Progress: on a terminal only, never with --quiet, every counted work to its end, and no number changed by it."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import warm_start
from models.walk import Walk

import massmap_jax as mm
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.relation.nuts import run_nuts
from massmap_jax.run.progress import Progress
from massmap_jax.steps import Step

PROGRAM = Path(sys.executable).with_name("massmap-jax")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, quiet=False):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(quiet) as watch:
        watch("reading [bold]in.csv[/bold]")
        bars = watch.__self__._bars if hasattr(watch, "__self__") else None
        if bars is not None:
            bars.refresh()
        watch(Step("mass map", 20, 100, "objects"))
        if bars is not None:
            bars.refresh()
            (task,) = bars.tasks
            assert (task.completed, task.total) == (20, 100)
        watch("figures")
        if bars is not None:
            (task,) = bars.tasks
            assert (task.completed, task.total) == (0, None)  # the next stage begins anew
    return stream.getvalue()


def test_on_a_terminal(monkeypatch):
    text = shown(monkeypatch, Terminal())
    assert "mass map: 20 of 100 objects" in text and "left" in text and "passed" in text
    assert "reading [bold]in.csv[/bold]" in text  # a name in brackets is no markup


def test_nothing_elsewhere_and_nothing_when_quiet(monkeypatch):
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, Terminal(), quiet=True) == ""


def test_the_time_left_is_that_of_the_stage(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress() as watch:
        bars = watch.__self__._bars
        now = [0.0]
        bars.get_time = lambda: now[0]
        watch("compiling")
        now[0] = 500.0
        for done in range(0, 50, 10):
            watch(Step("sampling", done, 100))
            now[0] += 2.0
        (task,) = bars.tasks
        assert task.time_remaining == pytest.approx(12, abs=1)  # 60 are left of 100, at 5 a second


@pytest.fixture(scope="module")
def objects():
    rng = np.random.default_rng(3)
    place = {"ra": rng.uniform(10, 10.2, 30), "dec": rng.uniform(0, 0.2, 30)}
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=rng.lognormal(9.0, 0.5, 30), redshift=rng.uniform(0.1, 0.5, 30), sigma_ln_luminosity=0.05, **place
    )
    return catalogue, mm.MassPrior.default(), mm.MassLuminosityRelation.preset("bigmali2017")


def counted(function):
    """The result with and without a watch, and the steps that were told."""
    told = []
    return function(), function(watch=told.append), [step for step in told if isinstance(step, Step)]


def rises_to_its_end(steps, total):
    done = [step.done for step in steps]
    return done == sorted(done) and done[-1] == total and {step.total for step in steps} == {total}


@pytest.mark.slow
def test_masses_are_counted_and_the_same(objects):
    plain, watched, steps = counted(lambda **w: mm.mass_posterior(*objects, chunk_size=16, **w))
    assert np.array_equal(plain.mean, watched.mean) and np.array_equal(plain.quantiles, watched.quantiles)
    assert rises_to_its_end(steps, 30) and len(steps) > 1


@pytest.mark.slow
def test_a_map_is_counted_and_the_same(objects):
    grid, key = mm.PixelGrid.fit(objects[0].ra, objects[0].dec), jax.random.key(0)
    plain, watched, steps = counted(lambda **w: mm.mass_map(key, *objects, grid, num_draws=8, chunk_size=16, **w))
    assert np.array_equal(plain.mean, watched.mean) and np.array_equal(plain.sd, watched.sd)
    assert rises_to_its_end(steps, 30) and steps[0].done == 0


def test_nuts_is_counted_and_the_same():
    def sample(**watch):
        start = jnp.zeros((2, 1))
        settings = {"num_warmup": 60, "num_samples": 70}
        return run_nuts(jax.random.key(1), lambda x, model: 0.5 * (x**2).sum(), None, start, **settings, **watch)

    plain, watched, steps = counted(sample)
    assert np.array_equal(plain.draws, watched.draws) and plain.draws.shape == (2, 70, 1)
    assert [step.done for step in steps] == [0, 50, 100, 130] and rises_to_its_end(steps, 130)


@pytest.mark.slow
def test_nuts_for_each_object_is_counted(objects):
    """With a kernel that compiles in a moment: what is told does not depend on it."""
    told, few = [], {"num_warmup": 10, "num_samples": 10, "num_chains": 1, "chunk_size": 16}
    sample_halo_masses(jax.random.key(2), *objects, kernel=Walk, watch=told.append, **few)
    assert rises_to_its_end(told, 30) and told[0].done == 0


@pytest.mark.slow
def test_the_program_on_a_terminal(tmp_path):
    """The stages pass by on stderr; stdout, and with --quiet both, are as without a terminal."""
    rng = np.random.default_rng(4)
    table = {"z": rng.uniform(0.1, 0.5, 20), "M": rng.uniform(1, 9, 20) * 1e14}
    pd.DataFrame(table).to_csv(tmp_path / "in.csv", index=False)
    common = ["run", "in.csv", "--lum", "M", "--sigma", "0.1", "--relation", "identity", "--no-figures", "--no-report"]

    def on_terminal(*more):
        master, slave = pty.openpty()
        environment = warm_start.environment_of_runs() | {"TERM": "xterm", "COLUMNS": "120"}
        running = subprocess.Popen(
            [str(PROGRAM), *common, *more], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the program has ended
                break
            if not piece:
                break
            text += piece
        os.close(master)
        stdout = running.communicate()[0].decode()
        assert running.returncode == 0, text
        return stdout, text.decode()

    stdout, stderr = on_terminal("--out", "loud")
    assert "reading" in stderr and "mass posteriors" in stderr and "passed" in stderr
    assert "results in loud" in stdout and "passed" not in stdout
    assert on_terminal("--out", "quiet", "--quiet") == ("", "")
    assert (tmp_path / "loud" / "masses.parquet").read_bytes() == (tmp_path / "quiet" / "masses.parquet").read_bytes()
