"""`massmap-jax stream` on a large Parquet file, compared with pyarrow reading and writing the same columns alone.

    python benchmarks/programs/stream_speed.py [--rows 10000000] [--folder DIR] [--uncertain]

The file is generated in a temporary folder. Prints the result and writes results/stream-<rows>.json. With --uncertain,
the same rows, with one error of ln L, are streamed with errors of the redshift of 3 % of 1 + z, too, read off the table
of posteriors (all of them) and integrated (the first 20,000), under 10 draws of the relation; the masses of these are
compared; results/stream-uncertain-<rows>.json.
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
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 1_000_000


def generate(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        z = rng.uniform(0.05, 3.0, n)
        columns = {
            "id": np.arange(start, start + n),
            "z": z,
            "lum_obs": np.exp(rng.normal(9.0, 0.45, n) + 1.1 * np.log1p(z)),
            "sigma": rng.uniform(0.03, 0.2, n),
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def plain(path: Path, out: Path, columns: int) -> float:
    """Return the seconds pyarrow alone takes to read the input and write `columns` float32 columns, id and flag."""
    rng = np.random.default_rng(1)
    values = [rng.normal(12, 0.3, CHUNK).astype(np.float32) for _ in range(columns)]
    out.mkdir()
    start = time.perf_counter()
    with pq.ParquetFile(path) as file:
        for number, batch in enumerate(file.iter_batches(CHUNK)):
            n = batch.num_rows
            table = {"id": batch.column(0), **{f"c{i}": v[:n] for i, v in enumerate(values)}}
            pq.write_table(pa.table(table | {"flag": np.zeros(n, np.int32)}), out / f"{number}.parquet")
    return time.perf_counter() - start


def watched(command, folder) -> tuple[str, float]:
    """Return what a program printed, and its peak memory [GiB].

    The memory is the kernel's VmHWM; `ru_maxrss` would start at the peak of this process.
    """
    peak = 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            status = Path(f"/proc/{running.pid}/status").read_text()
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
            peak = max(peak, *found, 0)
            time.sleep(0.1)
        said = running.stdout.read()
    if running.returncode:
        raise SystemExit(f"{command[0]} ended with {running.returncode}")
    return said, peak / 2**20


UNCERTAIN = ["--z-err", "0.03", "--z-err-kind", "relative", "--z-contains", "likelihood", "--lum-moves", "yes"]
INTEGRATED = 20_000


def uncertain(folder: Path, command: list[str], rows: int) -> dict:
    """Speed of a stream with errors of the redshift beside the same rows without, and the error of its table."""
    few = folder / "few.parquet"
    with pq.ParquetFile(folder / "in.parquet") as file:
        pq.write_table(pa.Table.from_batches([next(file.iter_batches(INTEGRATED))]), few)
    runs = {
        "exact": ([], rows),
        "table": (UNCERTAIN, rows),
        "integrated": ([*UNCERTAIN, "--method", "analytic"], INTEGRATED),
    }
    figures: dict = {"rows": rows}
    for name, (more, number) in runs.items():
        source = few if name == "integrated" else folder / "in.parquet"
        args = [*command[:2], str(source), "--out", name, *command[5:], *more]
        for _ in range(2):  # the second run finds its compiled code in the cache
            shutil.rmtree(folder / name, ignore_errors=True)
            start = time.perf_counter()
            _, peak = watched(args, folder)
            seconds = time.perf_counter() - start
        figures[name] = {"rows": number, "s": seconds, "rows a second": number / seconds, "peak memory GiB": peak}
        print(name, figures[name], flush=True)
    total = json.loads((folder / "table" / "manifest.jsonl").read_text().splitlines()[-1])
    made = np.load(folder / "table" / "surface.npz")
    figures["rows beside the table"] = total["beside_surface"]
    figures["nodes"] = made["values"].shape
    figures["error of the table"] = json.loads(str(made["meta"]))["error"]
    part = "masses/part-00000.parquet"
    read, exact = (pq.read_table(folder / name / part).slice(0, INTEGRATED) for name in ("table", "integrated"))
    good = np.asarray(exact["flag"]) == 0
    for name, sd in (("log10_mass_mean", "log10_mass_sd"), ("log10_mass_q84", "log10_mass_sd"), ("z_mean", "z_sd")):
        off = np.abs(np.asarray(read[name]) - np.asarray(exact[name]))[good] / np.asarray(exact[sd])[good]
        figures[f"error of {name} in this run [sd]"] = float(off.max())
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--uncertain", action="store_true")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        generate(folder / "in.parquet", given.rows)
        alone = None if given.uncertain else plain(folder / "in.parquet", folder / "plain", 11)
        program = str(Path(sys.executable).with_name("massmap-jax"))
        args = ["stream", "in.parquet", "--out", "out", "--relation", "bigmali2017", "--float32"]
        args += ["--sigma", "sigma", "--sigma-kind", "ln"]
        if given.uncertain:
            args[-3:] = ["0.1", "--sigma-kind", "ln", "--num-relation-draws", "10"]
            figures = uncertain(folder, [program, *args], given.rows)
            print(json.dumps(figures, indent=2))
            out = Path(__file__).resolve().parent.parent / "results" / f"stream-uncertain-{given.rows}.json"
            out.write_text(json.dumps(figures, indent=2) + "\n")
            return
        seconds = []
        for name in ("out", "again"):  # the second run finds its compiled code in the cache
            args[3] = name
            start = time.perf_counter()
            said, peak = watched([program, *args], folder)
            seconds.append(time.perf_counter() - start)
        total = json.loads((folder / "again" / "manifest.jsonl").read_text().splitlines()[-1])
        surface = json.loads(str(np.load(folder / "again" / "surface.npz")["meta"]))
        figures = {
            "rows": given.rows,
            "pyarrow alone s": alone,
            "stream s": seconds,
            "rows a second": given.rows / seconds[1],
            "ratio": seconds[1] / alone,
            "peak memory GiB": peak,
            "rows beside the surface": total["beside_surface"],
            "error of the surface": surface["error"],
        }
        print(said)
        print(json.dumps(figures, indent=2))
        out = Path(__file__).resolve().parent.parent / "results" / f"stream-{given.rows}.json"
        out.write_text(json.dumps(figures, indent=2) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
