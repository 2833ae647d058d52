"""What the benchmarks share: the field, the 2017 loop, the floor of this machine, and the table of results.

Every row times a public call, with the compilation counted separately, and then compares the output of that same call
with the reference in `accuracy`.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import accuracy
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from inputs import GRID_MASSES, SURVEY, Field, make_field, reference_draws
from peers import notebook_2017
from provenance import processor

import massmap_jax

LONGEST = 120.0  # seconds that the timed rounds of one row may take together
_FIGURES = []


def pytest_addoption(parser):
    group = parser.getgroup("massmap_jax benchmarks")
    group.addoption("--halos", type=int, default=SURVEY, help="rows of the field (default: all 115,919)")
    group.addoption("--rounds", type=int, default=5, help="timed rounds of a row (fewer if long); the fastest counts")
    group.addoption(
        "--figures", default=None, help="where to write NAME.json and NAME.md; default: results/ for the full field"
    )


@pytest.fixture(scope="session")
def field(request) -> Field:
    return make_field(request.config.getoption("--halos"))


@pytest.fixture(scope="session")
def checked(field) -> np.ndarray:
    """Rows that are compared with the reference."""
    return np.arange(min(1000, len(field.catalogue)))


@pytest.fixture(scope="session")
def exact(field, checked):
    """A function from relation draws to reference posteriors, computed once for each number of draws.

    The fast form of the reference is itself checked against tests/reference on 20 rows.
    """
    known = {}

    def posteriors(relation):
        draws, objects = reference_draws(relation), field.objects.take(checked)
        if relation.num_draws not in known:
            difference = accuracy.check_against_reference(field.prior_reference, objects.take(slice(0, 20)), draws)
            assert difference < 1e-7, f"accuracy.exact_posteriors is {difference:.1e} sd from tests/reference"
            known[relation.num_draws] = accuracy.exact_posteriors(field.prior_reference, objects, draws)
        return known[relation.num_draws]

    return posteriors


class Clock(NamedTuple):
    """Seconds of the fastest round: wall time, and processor time summed over threads.

    Processor time varies less on a machine that others use at the same time.
    """

    wall: float
    cpu: float


def fastest(function, rounds) -> Clock:
    wall, cpu = [], []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return Clock(min(wall), min(cpu))


class NotebookLoop:
    """The 2017 loop on one halo of this field (410 masses x 10 x 100 draws), and the time of its fastest round.

    The loop is timed again beside every row that has a target, because the load of a shared machine changes.
    """

    def __init__(self, field):
        self.mass = field.prior_reference.mass
        self.density = np.exp(field.prior_reference.row(1.38)) / self.mass
        self.rng = np.random.default_rng(3)
        self.clock = Clock(np.inf, np.inf)

    def time_again(self, rounds=1):
        now = fastest(self._one_halo, rounds)
        scale = GRID_MASSES / self.mass.size
        self.clock = Clock(min(self.clock.wall, now.wall * scale), min(self.clock.cpu, now.cpu * scale))

    def _one_halo(self):
        arguments = (4300.0, 1.38, 0.05, self.mass, self.density, self.rng)
        notebook_2017.posterior_of_one_halo(*arguments, n_s=10, n_l=100)


@pytest.fixture(scope="session")
def notebook(field) -> NotebookLoop:
    loop = NotebookLoop(field)
    loop.time_again(3)
    return loop


@pytest.fixture(scope="session")
def exp_rate() -> float:
    """Gaussian exponentials per second on this device in float32, summed and not stored: the unit of the floor."""
    # 16 MB are enough work for every thread, and few enough that the time is not that of the memory.
    x = jnp.linspace(-3.0, 3.0, 2**22, dtype=jnp.float32)
    function = jax.jit(lambda x: jnp.exp(-0.5 * x * x).sum())
    function(x).block_until_ready()
    return x.size / fastest(lambda: function(x).block_until_ready(), 40).wall


_COMPILE_EVENTS = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: _COMPILE_EVENTS.append((name, seconds)) if "/core/compile/" in name else None
)
# The stages of compilation, and the part of their names in jax.monitoring.
_STAGES = {"trace": "jaxpr_trace", "lower": "jaxpr_to_mlir", "xla": "backend_compile"}


def _compile_seconds(events) -> dict:
    seconds = {stage: sum(s for name, s in events if key in name) for stage, key in _STAGES.items()}
    return {stage: round(s, 3) for stage, s in seconds.items()}


@pytest.fixture
def record(benchmark, request, field, notebook, exp_rate):
    """A function that times a call, judges its output, and keeps the row for the table."""

    def run(name, function, judge, *, halos, elements=None, grid_elements=None, target=None, against_notebook=True):
        """Time `function()` and let `judge(output)` decide on its output.

        `elements` is the least number of exponentials that the call needs for one halo.
        """
        jax.clear_caches()  # so that each row compiles, whatever ran before
        _COMPILE_EVENTS.clear()
        start = time.perf_counter()
        jax.block_until_ready(function())
        first = time.perf_counter() - start
        compiling = _compile_seconds(_COMPILE_EVENTS)
        kept, cpu = {}, []

        def timed():
            begin = time.process_time()
            kept["output"] = jax.block_until_ready(function())
            cpu.append(time.process_time() - begin)

        begin = time.perf_counter()
        rounds = min(request.config.getoption("--rounds"), max(2, int(LONGEST / first)))
        benchmark.pedantic(timed, rounds=rounds, iterations=1)
        stats = benchmark.stats
        wall = stats.stats.min if stats is not None else time.perf_counter() - begin
        per_halo = wall / halos
        row = {
            "name": name,
            "halos": halos,
            "compile_s": compiling,
            "first_call_s": first,
            "run_s": wall,
            "us_per_halo": 1e6 * per_halo,
            "cpu_us_per_halo": 1e6 * min(cpu) / halos,
        }
        if against_notebook:
            if target:
                notebook.time_again()
            row["times_faster"] = notebook.clock.wall / per_halo
            row["times_faster_cpu"] = notebook.clock.cpu / (min(cpu) / halos)
        if elements:
            row["floor_us"] = 1e6 * elements / exp_rate
            row["over_floor"] = per_halo / (elements / exp_rate)
        if grid_elements:
            row["plain_grid_floor_us"] = 1e6 * grid_elements / exp_rate
            row["over_plain_grid_floor"] = per_halo / (grid_elements / exp_rate)
        if target:
            row["target"] = target
            row["target_met"] = bool(row["times_faster"] >= target)
        row |= judge(kept["output"])
        benchmark.extra_info.update(row | environment())
        _FIGURES.append(row)
        assert row["passed"], f"{name}: the output is out of tolerance: {row['error']}"

    return run


def peak_memory(what: str, rows: int) -> dict:
    """Return the peak resident memory of a new process that does one job on `rows` rows."""
    command = [sys.executable, str(Path(__file__).parent / "programs" / "peak_memory.py"), what, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def record_memory(benchmark):
    """A function that keeps a row on peak memory; the same limit holds for every length of the catalogue."""

    def run(what, rows, limit_gib=2.0):
        kept = {}
        benchmark.pedantic(lambda: kept.update(peak_memory(what, rows)), rounds=1, iterations=1)
        row = {"name": f"peak memory: {what}", "halos": rows, **kept, "passed": kept["peak_gib"] < limit_gib}
        benchmark.extra_info.update(row | environment())
        _FIGURES.append(row)
        assert row["passed"], f"{what} on {rows} rows used {kept['peak_gib']:.2f} GiB, limit {limit_gib} GiB"

    return run


def environment() -> dict:
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {processor() if device.platform == 'cpu' else device.device_kind}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "dtype": str(jnp.zeros(()).dtype),
        "versions": {
            "massmap_jax": massmap_jax.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


@pytest.fixture(scope="session", autouse=True)
def _remember(request, field, notebook, exp_rate):
    request.config.stash[_CONTEXT] = {
        "field": field.name,
        "rows": len(field.catalogue),
        "notebook": notebook,
        "gaussian_exps_per_s": exp_rate,
        **environment(),
    }


_CONTEXT = pytest.StashKey[dict]()


def pytest_terminal_summary(terminalreporter, config):
    context = config.stash.get(_CONTEXT, None)
    if context is None or not _FIGURES:
        return
    clock = context.pop("notebook").clock
    context |= {"notebook_s_per_halo": clock.wall, "notebook_cpu_s_per_halo": clock.cpu}
    text = _markdown(context, _FIGURES)
    terminalreporter.section("massmap_jax figures")
    terminalreporter.write(text)
    name = config.getoption("--figures")
    if name is None and context["rows"] == SURVEY:
        folder = Path(__file__).parent / "results"
        name = folder / f"{context['device'].partition(':')[0]}-{context['dtype']}"
    if name is not None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".json").write_text(json.dumps({**context, "figures": _FIGURES}, indent=1) + "\n")
        path.with_name(path.name + ".md").write_text(text)
        terminalreporter.write_line(f"written to {path}.json and .md")


_COLUMNS = (
    "row",
    "halos",
    "compile s (trace + lower + XLA)",
    "run s",
    "µs/halo",
    "CPU µs/halo",
    "× notebook (by CPU)",
    "target",
    "× floor",
    "× plain-grid floor",
    "error",
    "verdict",
)


def _markdown(context, figures) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in context["versions"].items())
    lines = [
        f"{context['rows']:,} rows of the {context['field']}; {context['device']}, {context['cores']} cores, "
        f"{context['dtype']}; {versions}.",
        f"Notebook loop: {context['notebook_s_per_halo']:.2f} s a halo ({context['notebook_cpu_s_per_halo']:.2f} s of "
        f"CPU). Floor: {context['gaussian_exps_per_s'] / 1e9:.2f}e9 Gaussian exps a second in float32.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
    ]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in figures if "peak_gib" not in row]
    memory = [row for row in figures if "peak_gib" in row]
    if memory:
        lines += ["", "| job in its own process | rows | peak GiB | of it before the job | verdict (< 2 GiB) |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {row['name'].partition(': ')[2]} | {row['halos']:,} | {row['peak_gib']:.2f} | "
            f"{row['before_gib']:.2f} | {_verdict(row)} |"
            for row in memory
        ]
    return "\n".join(lines) + "\n"


def _cells(row) -> list[str]:
    compiling, target = row["compile_s"], row.get("target")
    error = " ".join(f"{name} {value:.1e}" for name, value in row["error"].items())
    if "ratio_to_expected" in row:
        error += "; rms over expected: " + " ".join(f"{value:.2f}" for value in row["ratio_to_expected"].values())
    return [
        row["name"],
        f"{row['halos']:,}",
        " + ".join(f"{compiling[stage]:.1f}" for stage in _STAGES),
        f"{row['run_s']:.2f}",
        f"{row['us_per_halo']:.2f}",
        f"{row['cpu_us_per_halo']:.2f}",
        f"{row['times_faster']:,.0f} ({row['times_faster_cpu']:,.0f})" if "times_faster" in row else "",
        f"{target:,}: {'met' if row['target_met'] else 'MISSED'}" if target else "",
        f"{row['over_floor']:.1f}" if "over_floor" in row else "",
        f"{row['over_plain_grid_floor']:.2f}" if "over_plain_grid_floor" in row else "",
        error,
        _verdict(row),
    ]


def _verdict(row) -> str:
    return "ok" if row["passed"] else "**FAILED**"
