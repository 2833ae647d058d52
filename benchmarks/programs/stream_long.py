"""Whether `massmap-jax stream` would take 10^9 rows as it takes 10^7: time and memory of each chunk, first to last.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/stream_long.py [--rows 20000000] [--chunk 100000]

A stream keeps nothing of a chunk but a line of its manifest, so a long run is many chunks. This one has small chunks
and many of them: the times at which the parts were put in place, the memory while they were made and the bytes written
are compared between the second and the last fifth of the run, and go on to 10^9 rows in a straight line. Chunks of the
usual size, 1,000,000 rows, cost less a row (`stream_speed.py`). Seconds of the processor tell a slower program from a
machine that is busy with something else. Writes results/stream-long.json.
"""

import argparse
import json
import os
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


def state(process: int) -> tuple[float, float]:
    """Memory that a process holds now [GiB], and the processor seconds that it has used; NaN once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return np.nan, np.nan
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found[0] / 2**20 if found else np.nan, sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def watched(command, folder: Path) -> list[tuple[float, float, float]]:
    """Run a program; (time, memory, processor seconds) while it ran, four times a second."""
    samples = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            samples.append((time.time(), *state(running.pid)))
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
    samples = samples[np.isfinite(samples).all(axis=1)]
    fifth = len(parts) // 5
    pieces = {"second fifth": (fifth, 2 * fifth), "last fifth": (4 * fifth, len(parts) - 1)}
    used = np.interp(done, samples[:, 0], samples[:, 2])
    of_chunk = {name: float(used[end] - used[start]) / (end - start) for name, (start, end) in pieces.items()}
    memory = {}
    for name, (start, end) in pieces.items():
        memory[name] = float(samples[(samples[:, 0] >= done[start]) & (samples[:, 0] <= done[end]), 1].max())
    k = np.arange(fifth, len(parts))
    rate, rate_of_processor = (given.chunk / np.polyfit(k, clock[k], 1)[0] for clock in (done, used))
    found = {
        **provenance(),
        "rows": given.rows,
        "chunks": len(parts),
        "rows of a chunk": given.chunk,
        "processor s a chunk": of_chunk,
        "memory GiB": memory,
        "rows a second": float(rate),
        "rows a second of processor": float(rate_of_processor),
        "extrapolated to 10^9 rows": {
            "hours": ROWS / rate / 3600,
            "hours of processor": ROWS / rate_of_processor / 3600,
            "GiB of parts": ROWS * size / 2**30,
            "MiB of manifest, chunks of 1,000,000 rows": manifest * ROWS / 1e6 / 2**20,
        },
    }
    print(json.dumps(found, indent=2))
    (RESULTS / "stream-long.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
