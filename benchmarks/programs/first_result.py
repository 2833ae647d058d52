"""The time of `massmap-jax run` on 1,000 rows from start to end, with JAX's cache on disk empty and filled.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/first_result.py [--rows 1000] [--rounds 3]

Every number is the time of a separate process, started as a user starts the program. Prints a table and writes
results/first-result-<device>.json.
"""

import argparse
import builtins
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

JOBS = {"run": [], "run --relation bigmali2017 --no-figures": ["--relation", "bigmali2017", "--no-figures"]}
# The stages of compilation as jax.monitoring names them. "trace" is the tracing of Python functions. jax.monitoring
# counts "from cache" within "xla"; here it is subtracted.
STAGES = {
    "trace": "/jax/core/compile/jaxpr_trace_duration",
    "lower": "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "xla": "/jax/core/compile/backend_compile_duration",
    "from cache": "/jax/compilation_cache/cache_retrieval_time_sec",
}
# "rest" is neither importing nor compiling. "reading" and "figures" are stages of the run and include some of each.
COLUMNS = ("total", "import", "trace", "lower", "xla", "from cache", "rest", "reading", "figures")


def catalogue(path: Path, rows: int) -> None:
    """Write a table of luminosities, redshifts and positions."""
    rng = np.random.default_rng(0)
    z = rng.uniform(0.05, 2.0, rows)
    ln_lum = rng.normal(9.0, 0.45, rows) + 1.1 * np.log1p(z)
    ra, dec = 150 + rng.uniform(-0.3, 0.3, rows), 2 + rng.uniform(-0.3, 0.3, rows)
    columns = np.column_stack([np.arange(rows), ra, dec, z, np.exp(ln_lum)])
    np.savetxt(path, columns, delimiter=",", header="id,ra,dec,z,lum", comments="", fmt=["%d"] + ["%.8g"] * 4)


# -- inside the program that is timed ------------------------------------------------------------------------


class Covered:
    """Total time covered by intervals that may overlap, such as a function traced within the trace of another."""

    def __init__(self):
        self.spans = []

    def add(self, seconds: float) -> None:
        """Add an interval of this length that ends now."""
        end = time.perf_counter()
        self.spans.append((end - seconds, end))

    def total(self) -> float:
        covered, reached = 0.0, -np.inf
        for start, end in sorted(self.spans):
            covered += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return covered


def program(figures: Path, arguments: list[str]) -> None:
    """Run `massmap-jax` with the time of imports and compilation measured."""
    plain, imports, compiling, counts = builtins.__import__, Covered(), {name: Covered() for name in STAGES}, {}
    began = time.perf_counter()

    def timed_import(*given, **named):
        start = time.perf_counter()
        try:
            return plain(*given, **named)
        finally:
            imports.add(time.perf_counter() - start)

    builtins.__import__ = timed_import
    import jax.monitoring

    names = {event: name for name, event in STAGES.items()}
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling[names[event]].add(seconds) if event in names else None
    )
    jax.monitoring.register_event_listener(lambda event, **_: counts.update({event: counts.get(event, 0) + 1}))
    from massmap_jax.cli import main

    sys.argv = ["massmap-jax", *arguments]
    try:
        main()
    finally:
        builtins.__import__ = plain
        found = {"import": imports.total(), **{name: spans.total() for name, spans in compiling.items()}}
        both = Covered()
        both.spans = [span for one in (imports, *compiling.values()) for span in one.spans]
        found |= {"rest": time.perf_counter() - began - both.total()}
        found |= {"compiled": len(compiling["xla"].spans)}
        found |= {"found in the cache": counts.get("/jax/compilation_cache/cache_hits", 0)}
        figures.write_text(json.dumps(found))


# -- the clock -----------------------------------------------------------------------------------------------


def run_once(folder: Path, cache: Path, job: list[str]) -> dict:
    """Return the seconds of one run, split into what they were spent on."""
    environment = {name: v for name, v in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(cache)}
    out, figures = folder / "out", folder / "figures.json"
    arguments = ["run", str(folder / "objects.csv"), "--out", str(out), "--overwrite", "--quiet", *job]
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--program", str(figures), *arguments], env=environment, check=True)
    total = time.perf_counter() - start
    found = {"total": total} | json.loads(figures.read_text())
    found["xla"] -= found["from cache"]
    stages = json.loads((out / "run.json").read_text())["seconds"]
    found |= {name: stages.get(name, 0.0) for name in ("reading", "figures")}
    return found | {"stages": stages}


def measure(folder: Path, job: list[str], rounds: int) -> dict:
    """Return the fastest run with an empty cache (a new folder each time) and the fastest with a filled cache."""
    caches = [folder / f"cache{i}" for i in range(rounds)]
    cold = [run_once(folder, cache, job) for cache in caches]
    warm = [run_once(folder, caches[0], job) for _ in range(rounds)]
    return {name: min(runs, key=lambda r: r["total"]) for name, runs in (("cold", cold), ("warm", warm))}


def main() -> None:
    if sys.argv[1:2] == ["--program"]:
        return program(Path(sys.argv[2]), sys.argv[3:])
    from provenance import (  # not at the top: it imports JAX, which the timed process has to import itself
        RESULTS,
        provenance,
    )

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = {}
    for name, job in JOBS.items():
        with tempfile.TemporaryDirectory() as folder:
            catalogue(Path(folder) / "objects.csv", given.rows)
            found[name] = measure(Path(folder), job, given.rounds)
    width = max(map(len, JOBS)) + 6
    print(f"{'seconds':{width}}" + "".join(f"{name:>12}" for name in COLUMNS))
    for name, runs in found.items():
        for cache, row in runs.items():
            print(f"{name + ', ' + cache:{width}}" + "".join(f"{row[column]:12.2f}" for column in COLUMNS))
    figures = {"rows": given.rows, "rounds": given.rounds, **provenance(), "seconds": found}
    path = RESULTS / f"first-result-{figures['device']['platform']}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
