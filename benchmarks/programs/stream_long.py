"""Whether `massmap-jax stream` would take 10^9 rows as it takes 10^7: time and memory of each chunk, first to last.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/stream_long.py [--rows 20000000] [--chunk 100000]

A stream keeps nothing of a chunk but a line of its manifest, so a long run is many chunks. This one has small chunks
and many of them: the times at which the parts were put in place, the memory while they were made and the bytes written
are compared between the second and the last fifth of the run, and go on to 10^9 rows in a straight line. Chunks of the
usual size, 1,000,000 rows, cost less a row (`stream_speed.py`). Writes results/stream-long.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from programs.stream_speed import generate
from provenance import RESULTS, provenance

ROWS = 1_000_000_000
OPTIONS = ("--relation", "bigmali2017", "--float32", "--sigma", "sigma", "--sigma-kind", "ln")


def resident(process: int) -> float:
    """Memory that a process holds now [GiB]; NaN once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return np.nan
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found[0] / 2**20 if found else np.nan


def watched(command, folder: Path) -> list[tuple[float, float]]:
    """Run a program; (time, memory) while it ran, four times a second."""
    samples = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            samples.append((time.time(), resident(running.pid)))
            time.sleep(0.25)
    if running.returncode:
        raise SystemExit(f"{command[0]} ended with {running.returncode}")
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--chunk", type=int, default=100_000)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        generate(folder / "in.parquet", given.rows)
        program = str(Path(sys.executable).with_name("massmap-jax"))
        command = [program, "stream", "in.parquet", "--out", "out", *OPTIONS, "--chunk-rows", str(given.chunk)]
        samples = np.array(watched(command, folder))
        parts = sorted((folder / "out" / "masses").glob("part-*.parquet"))
        done = np.array([part.stat().st_mtime for part in parts])
        size = sum(part.stat().st_size for part in parts) / given.rows
        manifest = (folder / "out" / "manifest.jsonl").stat().st_size / len(parts)
    finally:
        shutil.rmtree(folder)
    fifth = len(parts) // 5
    times = {
        name: float(done[end] - done[start]) / (end - start)
        for name, start, end in (("second fifth", fifth, 2 * fifth), ("last fifth", 4 * fifth, len(parts) - 1))
    }
    memory = {
        name: float(np.nanmax(samples[(samples[:, 0] >= done[start]) & (samples[:, 0] <= done[end]), 1]))
        for name, start, end in (("second fifth", fifth, 2 * fifth), ("last fifth", 4 * fifth, len(parts) - 1))
    }
    # The line through the time of every part but the first fifth, and the error of its bend.
    k = np.arange(fifth, len(parts))
    quadratic, covariance = np.polyfit(k / k[-1], done[k], 2, cov=True)
    rate = given.chunk / np.polyfit(k, done[k], 1)[0]
    found = {
        **provenance(),
        "rows": given.rows,
        "chunks": len(parts),
        "rows of a chunk": given.chunk,
        "s a chunk": times,
        "memory GiB": memory,
        "bend of the time over that of the run": [
            float(quadratic[0] / (done[-1] - done[0])),
            float(np.sqrt(covariance[0, 0]) / (done[-1] - done[0])),
        ],
        "rows a second": float(rate),
        "extrapolated to 10^9 rows": {
            "hours": ROWS / rate / 3600,
            "GiB of parts": ROWS * size / 2**30,
            "MiB of manifest, chunks of 1,000,000 rows": manifest * ROWS / 1e6 / 2**20,
        },
    }
    print(json.dumps(found, indent=2))
    (RESULTS / "stream-long.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
