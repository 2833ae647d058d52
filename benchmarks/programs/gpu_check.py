"""The package on an accelerator, compared with the speed of that device, with a CPU, and with float64.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/gpu_check.py [--small] [--figures PATH]

The calls are `mass_posterior` (analytic with 100 relation draws, monte_carlo with 10 x 100), the posterior surface, the
gradient of ln P(data | relation) and NUTS for each halo, all on the full field; surface and analytic also on 10^7 rows.
Only jax, numpyro, numpy, scipy, matplotlib and equinox are needed. The program prints a table and, unless `--small` is
given, writes results/gpu-<device>.json. It also runs on a device that is not an accelerator, so `--small` on a CPU is a
dry run. The exit code is 1 if a result is out of tolerance.

Run it in float32. The same calls run on the CPU of the same machine in separate processes: in float32 on fewer rows for
the time, and in float64 on the 1,000 checked rows for the error.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from inputs import PANEL_NODES, SURVEY, Field, make_field, relation_draws
from provenance import RESULTS, provenance

from massmap_jax import HaloCatalogue, devices, log_likelihood, mass_posterior
from massmap_jax.likelihood.objects import Range
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.surface import PosteriorSurface

CHECKED = 1000
DRAWS, FEW_DRAWS, NUM_LUM = 100, 10, 100
NUM_WARMUP, NUM_SAMPLES = 150, 300
PARAMETERS = ("alpha1", "alpha2", "alpha4", "scatter")
# Bytes per object: 3 numbers go to the device, 13 columns come back, and 8 corners of a cell of the table are read.
SURFACE_UP, SURFACE_DOWN, SURFACE_READ = 3 * 4, 13 * 4, 8 * 13 * 4


class Sizes(NamedTuple):
    """Numbers of rows of the calls, and the number of timed rounds."""

    survey: int
    large: int
    nuts: int
    rounds: int


FULL, SMALL = Sizes(SURVEY, 10_000_000, SURVEY, 5), Sizes(2_000, 20_000, 1_000, 2)
ON_CPU, ON_CPU_SMALL = Sizes(16_384, 0, 4_096, 2), Sizes(1_000, 0, 1_000, 1)
IN_FLOAT64 = Sizes(CHECKED, 0, 0, 1)


class Job(NamedTuple):
    """A call to time. `values(output)` returns its answers for the checked rows.

    The numbers with a default are the least work that one halo needs.
    """

    name: str
    halos: int
    call: Callable
    values: Callable
    special: float = 0.0  # special functions
    memory: float = 0.0  # bytes of device memory
    up: float = 0.0  # bytes to the device
    down: float = 0.0  # bytes from it


def jobs(field: Field, sizes: Sizes):
    """Yield the calls one after the other; each posterior surface is built only when it is needed."""
    survey = field.take(np.arange(min(sizes.survey, len(field.catalogue))))
    many, few, one = draws(DRAWS), draws(FEW_DRAWS), draws(1).draw(0)
    masses = field.prior.ln_mass_nodes.size

    def posterior(catalogue, relation, method="analytic"):
        options = {"relation_from": "fixed_draws", "key": jax.random.key(1), "num_lum_draws": NUM_LUM}
        return mass_posterior(catalogue, field.prior, relation, method=method, **options)

    def summaries(found):
        return {name: np.asarray(getattr(found, name))[:CHECKED] for name in ("mean", "sd", "quantiles")}

    # To the device: 6 numbers of an object and 2 of its range. Back: 9 summaries and 5 quantiles.
    moved = {"up": 8 * 4, "down": 14 * 4}
    number = len(survey.catalogue)
    exps = DRAWS * PANEL_NODES
    call = partial(posterior, survey.catalogue, many)
    yield Job(f"analytic, {DRAWS} draws", number, call, summaries, special=exps, **moved)
    call = partial(posterior, survey.catalogue, few, "monte_carlo")
    special = FEW_DRAWS * NUM_LUM * PANEL_NODES
    yield Job(f"monte_carlo, {FEW_DRAWS} x {NUM_LUM}", number, call, summaries, special=special, **moved)

    gradient = jax.jit(jax.value_and_grad(lambda r: log_likelihood(r, survey.catalogue, field.prior)))
    checked = survey.catalogue.subset(np.arange(min(CHECKED, number)))
    of_checked = jax.jit(jax.value_and_grad(lambda r: log_likelihood(r, checked, field.prior)))

    def slopes(_):
        value, found = of_checked(one)
        return {"gradient": np.array([float(value), *(float(getattr(found, p)) for p in PARAMETERS)])}

    # The norm of the prior at each redshift, once more for the gradient, and the panels three times.
    special = 2 * masses + 3 * PANEL_NODES
    yield Job("gradient of ln L", number, lambda: gradient(one), slopes, special=special)

    if sizes.nuts:
        part = field.take(np.arange(min(sizes.nuts, len(field.catalogue)))).catalogue
        options = {"relation_from": "fixed_draws", "num_warmup": NUM_WARMUP, "num_samples": NUM_SAMPLES}

        def chains(found):
            return {name: np.asarray(getattr(found, name))[:CHECKED] for name in ("mean", "sd", "ess")}

        # One gradient per transition, with one exponential for the prior and one for the likelihood.
        steps = NUM_WARMUP + NUM_SAMPLES
        call = partial(sample_halo_masses, jax.random.key(1), part, field.prior, one, **options)
        yield Job("NUTS per halo, 1 draw", len(part), call, chains, special=2 * steps, up=7 * 4, down=4 * NUM_SAMPLES)

    if sizes.large:
        read = {"memory": SURFACE_READ + SURFACE_UP + SURFACE_DOWN, "up": SURFACE_UP, "down": SURFACE_DOWN}
        for rows in (survey.catalogue, larger(survey.catalogue, sizes.large)):
            objects = (rows.ln_lum_obs, rows.redshift, rows.sigma_ln_lum)
            surface = PosteriorSurface.build(field.prior, many, Range.of(*objects), relation_from="fixed_draws")
            objects = [a.astype(np.float32) for a in objects]
            name = f"surface, {DRAWS} draws"
            yield Job(name, objects[0].size, partial(surface, *objects), partial(_of_surface, surface), **read)
        call = partial(posterior, rows, many)
        yield Job(f"analytic, {DRAWS} draws", len(rows), call, summaries, special=exps, **moved)


def draws(number: int):
    """Return the same relation draws in every precision; in float64, JAX would draw other random numbers."""
    with jax.enable_x64(False):
        return jax.tree.map(lambda a: np.asarray(a, dtype=np.float64), relation_draws(number))


def field_of(number: int) -> Field:
    with jax.enable_x64(False):  # so that a simulated field is the same in every precision
        return make_field(number)


def larger(catalogue: HaloCatalogue, number: int) -> HaloCatalogue:
    """Return a catalogue of `number` rows: the checked rows first, then random rows of the given catalogue."""
    first = np.arange(min(CHECKED, len(catalogue)))
    rows = np.concatenate([first, np.random.default_rng(5).integers(0, len(catalogue), number - first.size)])
    return HaloCatalogue.from_arrays(
        luminosity=np.exp(catalogue.ln_lum_obs[rows]),
        redshift=catalogue.redshift[rows],
        sigma_ln_luminosity=catalogue.sigma_ln_lum[rows],
    )


def _of_surface(surface, columns):
    column = {name: columns[:CHECKED, i].astype(np.float64) for i, name in enumerate(surface.names)}
    quantiles = np.stack([column[n] for n in surface.names if n.startswith("quantile")], axis=1)
    return {"mean": column["mean"], "sd": column["sd"], "quantiles": quantiles}


# -- the device's own speed ----------------------------------------------------------------------------------


def fastest(function, rounds) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def speeds(small: bool) -> dict[str, float]:
    """Measure one device: exponentials and logarithms per second, and bytes per second in memory, to it and from it."""
    size = 2**22 if small or devices.platform() == "cpu" else 2**28
    terms = 32  # evaluations for each number read, so that the time is not that of reading
    x = jnp.linspace(0.5, 3.0, size // 16, dtype=jnp.float32)
    exps = jax.jit(lambda x: sum(jnp.exp(-0.5 * (x - 0.1 * i) ** 2) for i in range(terms)))
    logs = jax.jit(lambda x: sum(jnp.log(x + 0.1 * i) for i in range(terms)))
    found = {}
    for name, function in (("exp", exps), ("log", logs)):
        function(x).block_until_ready()
        found[f"{name} a second"] = terms * x.size / fastest(partial(function, x), 10)
    large = jnp.ones(size, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    copy(large).block_until_ready()
    found["bytes a second, memory"] = 2 * large.nbytes / fastest(lambda: copy(large), 10)
    host = np.ones(size // 4, dtype=np.float32)
    found["bytes a second, to the device"] = host.nbytes / fastest(lambda: jax.device_put(host), 5)
    # JAX keeps a copy on the host together with the array, so each round needs a new array.
    seconds = []
    for i in range(5):
        made = jax.block_until_ready(large[: host.size] * i)
        start = time.perf_counter()
        np.array(made)
        seconds.append(time.perf_counter() - start)
    found["bytes a second, from the device"] = host.nbytes / min(seconds)
    return found


def floor(job: Job, speed: dict[str, float], number: int) -> float:
    """Return the seconds that the least work of a call takes on `number` devices, if its parts run at the same time."""
    parts = (
        job.special / speed["exp a second"] / number,
        job.memory / speed["bytes a second, memory"] / number,
        job.up / speed["bytes a second, to the device"],
        job.down / speed["bytes a second, from the device"],
    )
    return job.halos * max(parts)


# -- measuring and judging -----------------------------------------------------------------------------------


def measure(field: Field, sizes: Sizes, watch=lambda line: None) -> list[tuple[Job, dict, dict]]:
    """Return each job with its times and its values for the checked rows."""
    found = []
    for job in jobs(field, sizes):
        start = time.perf_counter()
        output = jax.block_until_ready(job.call())
        first = time.perf_counter() - start
        values = job.values(output)
        del output
        seconds = {"first call s": first, "run s": fastest(job.call, max(1, min(sizes.rounds, int(120 / first))))}
        seconds["us per halo"] = 1e6 * seconds["run s"] / job.halos
        # Without the call and its arguments: arrays of 10^7 rows would stay in memory to the end.
        found.append((job._replace(call=None, values=None), seconds, values))
        watch(f"{job.name}, {job.halos:,} halos: {seconds['us per halo']:.4g} us a halo")
    return found


def on_cpu(sizes: Sizes, float64: bool) -> dict[str, tuple[float, dict]]:
    """Return, by the name of the job, microseconds per halo and values from a process that runs on the CPU."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": str(int(float64))}
    environment["XLA_FLAGS"] = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cpu.npz"
        command = [sys.executable, __file__, "--child", str(path), "--sizes", json.dumps(sizes)]
        subprocess.run(command, env=environment, check=True)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    found = {}
    for key, array in arrays.items():
        name, _, what = key.partition("|")
        found.setdefault(name, (float(arrays[f"{name}|us"]), {}))[1][what] = array
    return found


def child(path: str, sizes: Sizes) -> None:
    arrays = {}
    for job, seconds, values in measure(field_of(max(sizes)), sizes):
        arrays |= {f"{job.name}|{what}": array for what, array in values.items()}
        arrays[f"{job.name}|us"] = np.array(seconds["us per halo"])
    np.savez(path, **arrays)


def judge(job: Job, values: dict, exact: dict, on_cpu: dict) -> tuple[dict[str, float], bool]:
    """Return the errors on the checked rows, against float64 on the CPU, and whether they are within tolerance.

    `exact` and `on_cpu` hold values by the name of the job, in float64 and in float32. Errors of summaries are in
    posterior sd.
    """
    if job.name.startswith("gradient"):
        best = exact[job.name][1]["gradient"]
        error = dict(zip(("value", *PARAMETERS), np.abs(values["gradient"] / best - 1).tolist(), strict=True))
        return error, max(error.values()) < 1e-3
    best = exact[f"analytic, {DRAWS} draws"][1]
    if job.name.startswith("NUTS"):
        z = (values["mean"] - exact["NUTS"][1]["mean"]) * np.sqrt(values["ess"]) / exact["NUTS"][1]["sd"]
        error = {"rms z of the mean": float(np.sqrt(np.mean(z**2))), "largest z": float(np.abs(z).max())}
        return error, 0.8 < error["rms z of the mean"] < 1.2 and error["largest z"] < 6
    # 1.5e-2 is the tolerance of the surface plus the error of float32.
    limit = 1e-2 if job.name.startswith("analytic") else 1.5e-2
    error = {}
    if job.name.startswith("monte_carlo"):
        # In float64 other random numbers are drawn. So the estimate is compared with float32 on the CPU, and the noise
        # of both with the exact answer.
        best = exact[f"analytic, {FEW_DRAWS} draws"][1]
        noise = [float(np.sqrt(np.mean(((v["mean"] - best["mean"]) / best["sd"]) ** 2))) for v in (values, on_cpu)]
        error = {"rms of the mean": noise[0], "the same on the CPU": noise[1]}
        best = on_cpu
    against = {name: float((np.abs(values[name] - best[name]) / _as_column(best["sd"], values[name])).max()) for name in
               ("mean", "sd", "quantiles")}  # fmt: skip
    return against | error, max(against.values()) < limit


def _as_column(sd, like):
    return sd[:, None] if like.ndim == 2 else sd


def exact_values(field: Field) -> dict:
    """Return analytic values in float64 for the jobs that sample, whose own float64 call draws other numbers."""
    checked = field.take(np.arange(min(CHECKED, len(field.catalogue))))
    found = {}
    for name, relation in ((f"analytic, {FEW_DRAWS} draws", draws(FEW_DRAWS)), ("NUTS", draws(1))):
        with jax.enable_x64(True):
            posterior = mass_posterior(checked.catalogue, checked.prior, relation, relation_from="fixed_draws")
        found[name] = (np.nan, {"mean": posterior.mean, "sd": posterior.sd})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few thousand rows: a dry run")
    parser.add_argument("--figures", type=Path, default=None, help="file to write")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=lambda text: Sizes(*json.loads(text)), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.sizes)
        return 0
    sizes = SMALL if given.small else FULL
    field = field_of(sizes.survey)
    figures = {**provenance(), "field": field.name, "small": given.small, "speeds": speeds(given.small)}
    measured = measure(field, sizes, lambda line: print(line, file=sys.stderr, flush=True))
    exact = on_cpu(IN_FLOAT64, True) | exact_values(field)
    slow = on_cpu(ON_CPU_SMALL if given.small else ON_CPU, False)
    figures["rows"] = []
    for job, seconds, values in measured:
        us_on_cpu, values_on_cpu = slow.get(job.name, (np.nan, {}))
        error, passed = judge(job, values, exact, values_on_cpu)
        least = floor(job, figures["speeds"], devices.count())
        row = {"name": job.name, "halos": job.halos, **seconds, "floor s": least}
        row |= {"times the floor": seconds["run s"] / least, "us per halo on the CPU": us_on_cpu}
        row |= {"times the CPU": us_on_cpu / seconds["us per halo"], "error": error, "passed": bool(passed)}
        figures["rows"].append(row)
    print(table(figures))
    path = given.figures
    if path is None and not given.small:
        path = RESULTS / f"gpu-{figures['device']['kind'].lower().replace(' ', '-')}.json"
    if path is not None:
        # JSON has no NaN, which stands for what was not measured on the CPU.
        text = json.dumps(figures, indent=2).replace("NaN", "null")
        path.write_text(text + "\n")
    return int(not all(row["passed"] for row in figures["rows"]))


def table(figures: dict) -> str:
    device, speed = figures["device"], figures["speeds"]
    lines = [f"{device['count']} x {device['kind']}; " + ", ".join(f"{n} {v:.3g}" for n, v in speed.items()), ""]
    names = ("first call s", "run s", "us per halo", "times the floor", "us per halo on the CPU", "times the CPU")
    lines += ["| row | halos | " + " | ".join(names) + " | error | verdict |", "|" + "---|" * (len(names) + 4)]
    for row in figures["rows"]:
        error = " ".join(f"{name} {value:.1e}" for name, value in row["error"].items())
        cells = [row["name"], f"{row['halos']:,}", *(f"{row[name]:.4g}" for name in names), error]
        lines.append("| " + " | ".join([*cells, "ok" if row["passed"] else "**FAILED**"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
