"""`massmap-jax stream`: the same masses as in memory, whatever the file, the chunk or the accident on the way."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_chunks
import warm_start
from astropy.table import Table
from filelock import FileLock

from massmap_jax.catalogue.flags import count
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.run.options import JobOptions, load_prior, load_relation
from massmap_jax.scale.chunks import Chunks
from massmap_jax.scale.stream import StreamOptions, _Run, stream

PROGRAM = Path(sys.executable).with_name("massmap-jax")
ROWS, CHUNK = 5000, 800
# Each costs the start of a program; MASSMAP_TEST_KILLS=20 for the whole proof, in two minutes.
KILLS = int(os.environ.get("MASSMAP_TEST_KILLS", "2"))
# So many that none of the runs ends before its kill: 30 chunks for each.
CHUNK_KILLED = 200
ROWS_KILLED = 30 * CHUNK_KILLED * (KILLS + 1)
ENVIRONMENT = warm_start.environment_of_runs()
JOB = JobOptions(relation="bigmali2017", num_relation_draws=8, relation_from="fixed_draws", seed=5)
COLUMNS = ("id", "ra", "dec", "z", "ln_lum_obs", "log10_mass_mean", "log10_mass_q16", "log_evidence", "flag")


def columns(number=ROWS, seed=1):
    rng = np.random.default_rng(seed)
    table = {
        "id": np.arange(number) * 7 + 10**12,
        "ra": rng.uniform(10, 12, number),
        "dec": rng.uniform(-1, 1, number),
        "z": rng.uniform(0.05, 2.0, number),
        "lum": np.exp(rng.normal(9.0, 0.5, number)),
        "sigma_ln_lum": rng.uniform(0.03, 0.1, number),
    }
    bad = rng.permutation(number)[:40]
    table["z"][bad[:10]], table["lum"][bad[10:20]], table["lum"][bad[20:30]] = np.nan, -99.0, 3e13
    table["z"][bad[30:]] = 7.0
    table["lum"][CHUNK : 2 * CHUNK] = np.nan  # a chunk without a usable row
    return table


def options(**changes):
    return StreamOptions(
        **({"job": JOB, "columns": {}, "method": "analytic", "chunk_rows": CHUNK, "keep": COLUMNS} | changes)
    )


def write_parquet(path, table, rows=700):
    pq.write_table(pa.table(table), path, row_group_size=rows)


def read_parts(out):
    parts = [pq.read_table(p) for p in sorted((out / "masses").iterdir())]
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0].column_names}


def hashes(out):
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "run.json"  # it holds the date and the command line
    }


@pytest.fixture(scope="module")
def catalogue_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "objects.parquet"
    write_parquet(path, columns())
    return path


@pytest.fixture(scope="module")
def in_memory(catalogue_file):
    catalogue = read_catalogue(catalogue_file)
    prior = load_prior(JOB.prior)
    relation = load_relation(JOB, jax.random.split(jax.random.key(JOB.seed), 3)[0], prior)
    return mass_posterior(catalogue, prior, relation, relation_from="fixed_draws").to_table(COLUMNS)


@pytest.fixture(scope="module")
def streamed(catalogue_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "masses"
    return out, stream(catalogue_file, out, options())


def placeholders(kind, number=60):
    """Columns whose first rows, a whole small chunk of them, are placeholders by their neighbours alone."""
    rng = np.random.default_rng(3)
    table = {"z": rng.uniform(0.1, 1.0, number), "lum": np.exp(rng.normal(9.0, 0.5, number))}
    table["sigma_ln_lum"] = rng.uniform(0.05, 0.2, number)
    if kind == "log":
        table["lum"] = np.log10(table["lum"]) + 6.0
        table["lum"][:7], table["lum"][20], table["lum"][31:38] = 0.0, -9.0, -1.0
    elif kind == "fill":
        table["lum"][:7], table["lum"][30:36] = 1e30, 1e20
    elif kind == "sigma":
        table["sigma_ln_lum"][:7], table["sigma_ln_lum"][31] = 1e-30, 1e-9
    elif kind == "bars":
        table["up"], table["down"] = 0.1 * table["lum"], -0.1 * table["lum"]
        table["down"][:7] *= -1.0  # so that the lower bars of the rest are negative and no convention
    return table


@pytest.mark.parametrize(
    ("kind", "flags", "mapping"),
    [
        ("log", {"LUM_SENTINEL": 15}, {"lum_log": "log10", "sigma_kind": "ln", "lum_scale": 1e-6}),
        ("fill", {"LUM_SENTINEL": 13}, {}),
        ("sigma", {"SIGMA_MISSING": 8}, {}),
        ("bars", {"SIGMA_NEGATIVE": 53}, {"sigma_plus": "up", "sigma_minus": "down", "sigma_kind": "linear"}),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_placeholders_do_not_depend_on_the_chunk(tmp_path, kind, flags, mapping, form):
    path = tmp_path / f"objects.{form}"
    Table(placeholders(kind)).write(path, format="parquet" if form == "parquet" else "ascii.csv")
    expected = read_catalogue(path, **mapping)
    assert count(expected.flag) == flags
    prior, relation = load_prior(JOB.prior), load_relation(JOB, jax.random.key(0), load_prior(JOB.prior))
    for rows in (5, 7, 13, 60):
        chunks = Chunks(path)
        run = _Run(tmp_path, {}, options(columns=mapping), dict(mapping), prior, relation, "fixed_draws", print, chunks)
        found = list(map(run._catalogue, chunks.read(rows)))
        np.testing.assert_array_equal(np.concatenate([part.flag for part in found]), expected.flag, err_msg=f"{rows}")
        np.testing.assert_array_equal(np.concatenate([part.sigma_ln_lum for part in found]), expected.sigma_ln_lum)
        assert run.notes(chunks, {"rows": 60, "flags": {}})[: len(expected.notes)] == [
            n for n in expected.notes if "position" not in n
        ]


def test_same_as_in_memory(streamed, in_memory):
    out, total = streamed
    found = read_parts(out)
    assert tuple(found) == COLUMNS
    for name in COLUMNS:
        np.testing.assert_array_equal(found[name], in_memory[name], err_msg=name)
    assert total["rows"] == ROWS and total["done"] == -(-ROWS // CHUNK)
    assert np.isnan(found["log10_mass_mean"][CHUNK : 2 * CHUNK]).all()
    flags = np.asarray(found["flag"])
    assert total["flags"] == {"LUM_MISSING": CHUNK, **{k: v for k, v in total["flags"].items() if k != "LUM_MISSING"}}
    assert sum(total["flags"].values()) >= np.count_nonzero(flags)
    assert {p.name for p in out.iterdir()} == {"manifest.jsonl", "masses"}


@pytest.mark.parametrize("kind", ["csv", "text", "fits", "folder", "other chunk", "csv.gz"])
def test_every_kind_of_file(kind, streamed, tmp_path):
    table, chunk = columns(), CHUNK
    if kind == "csv":
        source = tmp_path / "objects.csv"
        Table(table).write(source, format="ascii.csv")
    elif kind == "csv.gz":
        source = tmp_path / "objects.csv.gz"
        Table(table).write(tmp_path / "o.csv", format="ascii.csv")
        import gzip

        source.write_bytes(gzip.compress((tmp_path / "o.csv").read_bytes()))
    elif kind == "text":
        source = tmp_path / "objects.txt"
        Table(table).write(source, format="ascii.commented_header")
    elif kind == "fits":
        source = tmp_path / "objects.fits"
        Table(table).write(source)
    elif kind == "folder":
        source = tmp_path / "objects"
        (source / "b").mkdir(parents=True)
        for i, name in enumerate(["a.parquet", "b/c.parquet", "d.parquet"]):
            part = {n: v[[0, 1500, 1503][i] : [1500, 1503, ROWS][i]] for n, v in table.items()}
            write_parquet(source / name, part)
    else:
        source, chunk = tmp_path / "objects.parquet", 1999
        write_parquet(source, table, 5000)
    stream(source, tmp_path / "out", options(chunk_rows=chunk))
    found, best = read_parts(tmp_path / "out"), read_parts(streamed[0])
    for name in COLUMNS:
        if kind in ("csv", "text", "csv.gz") and best[name].dtype.kind == "f":  # decimal digits
            np.testing.assert_allclose(found[name], best[name], rtol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], best[name], err_msg=name)


def test_without_ids_rows_are_numbered_throughout(tmp_path):
    table = columns()
    del table["id"]
    write_parquet(tmp_path / "o.parquet", table)
    stream(tmp_path / "o.parquet", tmp_path / "out", options())
    np.testing.assert_array_equal(read_parts(tmp_path / "out")["id"], np.arange(ROWS))


def test_text_ids_fits_parts_and_single_precision(tmp_path, in_memory):
    table = columns()
    table["id"] = np.array([f"J{i:06d}é" if i % 2 else f"a{i}" for i in range(ROWS)])
    write_parquet(tmp_path / "o.parquet", table)
    stream(tmp_path / "o.parquet", tmp_path / "out", options(float32=True))
    found = read_parts(tmp_path / "out")
    assert found["id"].tolist() == table["id"].tolist()
    assert found["log10_mass_mean"].dtype == np.float32
    np.testing.assert_allclose(found["log10_mass_mean"], in_memory["log10_mass_mean"], rtol=1e-6)
    table["id"] = np.char.replace(table["id"], "é", "e")
    write_parquet(tmp_path / "o.parquet", table)
    stream(tmp_path / "o.parquet", tmp_path / "fits", options(format="fits"))
    parts = [Table.read(p, character_as_bytes=False) for p in sorted((tmp_path / "fits" / "masses").iterdir())]
    assert [str(i) for part in parts for i in part["id"]] == table["id"].tolist()
    np.testing.assert_array_equal(
        np.concatenate([np.ma.filled(p["log10_mass_mean"], np.nan) for p in parts]), in_memory["log10_mass_mean"]
    )


def test_surface_is_near_the_integral_and_reused(catalogue_file, in_memory, tmp_path):
    out = tmp_path / "out"
    total = stream(catalogue_file, out, options(method="surface", keep=(*COLUMNS, "log10_mass_sd")))
    found = read_parts(out)
    good = np.isfinite(in_memory["log10_mass_mean"])
    off = np.abs(found["log10_mass_mean"] - in_memory["log10_mass_mean"])[good] / found["log10_mass_sd"][good]
    assert off.max() < 0.01
    assert total["beside_surface"] >= 5  # the luminosities of 3e13, outside of the spoiled chunk
    whole = hashes(out)
    # cut short after the third part: the table is loaded, and the bytes are the same
    shutil.copytree(out, tmp_path / "cut")
    lines = (out / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "cut" / "manifest.jsonl").write_text("\n".join(lines[:4]) + "\n" + lines[4][:20])
    for i in range(3, 7):
        (tmp_path / "cut" / "masses" / f"part-{i:05d}.parquet").unlink()
    stream(catalogue_file, tmp_path / "cut", options(method="surface", keep=(*COLUMNS, "log10_mass_sd")), resume=True)
    assert hashes(tmp_path / "cut") == whole


# -- maps --------------------------------------------------------------------------------------------------------------


def test_map_is_that_of_the_whole_catalogue(catalogue_file, tmp_path, monkeypatch):
    """One pass, a chunk at a time: the same draws, to rounding; and stopped between two saves of its sums, the same bytes."""
    import jax

    from massmap_jax.maps.files import read_map
    from massmap_jax.maps.mass_map import mass_map
    from massmap_jax.maps.pixels import PixelGrid
    from massmap_jax.scale import stream as module

    job = replace(JOB, num_map_draws=12, pixel_arcmin=6.0)
    asked = options(job=job, map_centre=(11.0, 0.0), map_arcmin=96.0)
    monkeypatch.setattr(module, "_MAP_EVERY", 2)
    stream(catalogue_file, tmp_path / "out", asked)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"manifest.jsonl", "masses", "mass_map.fits"}
    found = read_map(tmp_path / "out" / "mass_map.fits")

    catalogue = read_catalogue(catalogue_file)
    prior = load_prior(job.prior)
    key_relation, _, key_map = jax.random.split(jax.random.key(job.seed), 3)
    relation = load_relation(job, key_relation, prior)
    grid = PixelGrid("tangent", (16, 16), 6.0, (11.0, 0.0))
    whole = mass_map(
        key_map, catalogue, prior, relation, grid, relation_from="fixed_draws", num_draws=12, draws="table"
    )
    assert whole.n_outside > 0 and whole.nobj.sum() > 2000
    for name in ("mean", "sd", "q16", "q50", "q84", "nobj"):
        np.testing.assert_allclose(found[name], getattr(whole, name), rtol=1e-12, err_msg=name)

    calls = []

    def fails(self, *args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return write(self, *args)

    write = module._Run._write
    monkeypatch.setattr(module._Run, "_write", fails)
    with pytest.raises(KeyboardInterrupt):
        stream(catalogue_file, tmp_path / "cut", asked)
    assert (tmp_path / "cut" / "map_state.npz").exists()
    monkeypatch.setattr(module._Run, "_write", write)
    stream(catalogue_file, tmp_path / "cut", asked, resume=True)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "out")


# -- on the command line: accidents ----------------------------------------------------------------------------------------


def run(folder, *args, chunk=CHUNK, **more):
    """more : options of a start of its own, from nothing."""
    if not more:
        # The bytes are compared with those of runs that are started as users start them.
        return warm_start.run(command(*args, chunk=chunk)[1:], folder, chunk=small_chunks.MANY)
    given = {"cwd": folder, "capture_output": True, "text": True, "timeout": 600, "env": ENVIRONMENT} | more
    return subprocess.run(command(*args, chunk=chunk), **given)


def command(source, out="out", *args, chunk=CHUNK):
    return [
        *[str(PROGRAM), "stream", str(source), "--out", out, "--relation", "bigmali2017", "--num-relation-draws", "8"],
        *["--seed", "5", "--method", "analytic", "--chunk-rows", str(chunk), "--columns", ",".join(COLUMNS), *args],
    ]


def refused(ran, *words):
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
    for word in words:
        assert word in ran.stderr, ran.stderr


@pytest.fixture
def folder(tmp_path, catalogue_file):
    shutil.copy2(catalogue_file, tmp_path / "o.parquet")
    return tmp_path


def stopped_after(folder, parts):
    """A folder as a run leaves it that was stopped after some parts: the rest cut off, litter in place."""
    assert run(folder, "o.parquet").returncode == 0
    whole = hashes(folder / "out")
    lines = (folder / "out" / "manifest.jsonl").read_text().splitlines()
    (folder / "out" / "manifest.jsonl").write_text("\n".join(lines[: 1 + parts]) + "\n")
    for path in sorted((folder / "out" / "masses").iterdir())[parts + 1 :]:
        path.unlink()
    (folder / "out" / "masses" / ".part-00004.abc_1234.parquet").write_text("half a part")
    (folder / "out" / ".lock").write_text("")
    return whole


def test_run_resume_and_refusals(folder):
    """Stopped and resumed: the same bytes. With another setting or input it is refused, and nothing changes."""
    whole = stopped_after(folder, 3)
    before = hashes(folder / "out")
    refused(run(folder, "o.parquet"), "out exists", "--resume")
    refused(run(folder, "o.parquet", "out", "--resume", "--seed", "6"), "another options", "seed")
    refused(run(folder, "o.parquet", "out", "--resume", chunk=900), "another options", "chunk_rows")
    refused(run(folder, "o.parquet", "new", "--resume"), "no run to resume")
    assert not (folder / "new").exists()
    saved = (folder / "o.parquet").read_bytes()
    table = columns()
    table["lum"][17] *= 1.001
    write_parquet(folder / "o.parquet", table)
    refused(run(folder, "o.parquet", "out", "--resume"), "another input", "o.parquet")
    (folder / "o.parquet").write_bytes(saved)  # the same content, at another time
    with FileLock(folder / "out" / ".lock"):
        refused(run(folder, "o.parquet", "out", "--resume"), "another run is writing to out")
    unlitter = {name for name in before if not Path(name).name.startswith(".")}
    assert {n: h for n, h in hashes(folder / "out").items() if n in unlitter} == {n: before[n] for n in unlitter}
    done = run(folder, "o.parquet", "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{ROWS:,} rows" in done.stdout and "LUM_MISSING" in done.stdout
    assert hashes(folder / "out") == whole
    again = run(folder, "o.parquet", "out", "--resume")
    assert again.returncode == 0 and hashes(folder / "out") == whole


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """kill -9 again and again on the way through one catalogue, resumed each time: the bytes of a run left alone."""
    write_parquet(tmp_path / "o.parquet", columns(ROWS_KILLED), 2500)
    assert run(tmp_path, "o.parquet", "whole", chunk=CHUNK_KILLED).returncode == 0
    rng = np.random.default_rng(9)
    manifest = tmp_path / "out" / "manifest.jsonl"
    lines, litter, begun = [0], 0, 0
    said = tmp_path / "stderr"
    while len(lines) <= KILLS:
        begun += 1
        assert begun < 4 * KILLS, "it always ends before it is killed"
        resume = ["--resume"] if lines[-1] else []
        if not resume and (tmp_path / "out").exists():
            shutil.rmtree(tmp_path / "out")  # killed before the first line: nothing to go on with
        with open(said, "w") as stderr:
            running = subprocess.Popen(
                command("o.parquet", "out", *resume, chunk=CHUNK_KILLED),
                cwd=tmp_path,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        wanted = lines[-1] + rng.integers(0, 16)
        while (count_lines(manifest) < wanted or wanted == 0) and running.poll() is None:
            time.sleep(0.002)
            wanted = wanted or 1
        time.sleep(rng.uniform(0, 0.06))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        if running.returncode != -signal.SIGKILL:
            # It was faster than this process, on a busy machine: this was no kill. Begin again from nothing.
            assert running.returncode == 0, said.read_text()
            shutil.rmtree(tmp_path / "out")
            lines[-1] = 0
            continue
        lines.append(count_lines(manifest))
        litter += sum(1 for path in (tmp_path / "out" / "masses").glob(".*"))
    print(f"lines in the manifest after each kill: {lines[1:]}; parts half written: {litter}")
    assert len(set(lines)) > KILLS / 2
    final = run(tmp_path, "o.parquet", "out", "--resume", chunk=CHUNK_KILLED)
    assert final.returncode == 0, final.stderr
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


# What threads import, written on the last line of stderr.
IMPORTS_OF_THREADS = """
import atexit, sys, threading
found = set()
def hook(event, arguments):
    if event == "import" and threading.current_thread() is not threading.main_thread():
        found.add(arguments[0].partition(".")[0])
sys.addaudithook(hook)
atexit.register(lambda: print(*sorted(found), file=sys.stderr))
from massmap_jax.cli import main
main()
"""


def test_threads_import_no_large_package(folder):
    """Two threads that import modules of astropy at the same time may stop the run with a _DeadlockError."""
    stopped_after(folder, 2)
    program = [sys.executable, "-c", IMPORTS_OF_THREADS, *command("o.parquet", "out", "--resume", "--quiet")[1:]]
    done = subprocess.run(program, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.splitlines()[-1].split())
    assert not imported & {"astropy", "pandas", "scipy", "jax", "equinox"}, imported


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_full_disk_stops_it_and_a_resume_finishes(folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    environment = {**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(folder, "o.parquet", "whole").returncode == 0
    # A copy: what cannot be written whole must not stay in the cache of the other tests.
    cache = shutil.copytree(ENVIRONMENT["JAX_COMPILATION_CACHE_DIR"], folder / "cache")
    environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    ran = run(folder, "o.parquet", preexec_fn=limit, env=environment)
    refused(ran, "could not be written", "File too large")
    assert not [p for p in (folder / "out" / "masses").iterdir() if p.name.startswith(".")]
    done = run(folder, "o.parquet", "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert hashes(folder / "out") == hashes(folder / "whole")


def test_an_unreadable_row_group_names_itself_and_keeps_what_was_done(folder):
    content = bytearray((folder / "o.parquet").read_bytes())
    place = pq.ParquetFile(folder / "o.parquet").metadata.row_group(4).column(3).data_page_offset
    content[place : place + 400] = bytes(400)
    (folder / "o.parquet").write_bytes(content)
    refused(run(folder, "o.parquet"), "row group 4 of o.parquet cannot be read")
    assert len(list((folder / "out" / "masses").iterdir())) >= 1


@pytest.mark.parametrize("change", ["type", "missing"])
def test_a_folder_whose_files_differ_is_refused(change, tmp_path):
    (tmp_path / "in").mkdir()
    table = columns(100)
    write_parquet(tmp_path / "in" / "a.parquet", table)
    other = (
        {n: v for n, v in table.items() if n != "sigma_ln_lum"}
        if change == "missing"
        else {**table, "sigma_ln_lum": table["id"]}
    )
    write_parquet(tmp_path / "in" / "b.parquet", other)
    refused(run(tmp_path, "in"), "column 'sigma_ln_lum'", "b.parquet", "missing" if change == "missing" else "int64")
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_positions_that_cannot_be_read_stop_a_map_only(tmp_path):
    """Columns that the user named: they matter where a map, or they themselves, are to be written."""
    table = columns(100)
    table["ra"], table["dec"] = table["dec"], table["ra"] + 100
    write_parquet(tmp_path / "in.parquet", table)
    named = {"columns": {"ra": "ra", "dec": "dec"}, "keep": ("id", "log10_mass_mean", "flag")}
    assert stream(tmp_path / "in.parquet", tmp_path / "out", options(**named))["rows"] == 100
    for more in ({"map_centre": (11.0, 0.0), "map_arcmin": 60.0}, {"keep": ("id", "ra", "flag")}):
        with pytest.raises(MassmapError, match="dec"):
            stream(tmp_path / "in.parquet", tmp_path / "other", options(**named | more))
    assert not (tmp_path / "other").exists()


def test_options_that_cannot_work(catalogue_file, tmp_path):
    for changes, words in (
        ({"job": JobOptions()}, "needs a relation"),
        ({"method": "monte_carlo"}, "surface or analytic"),
        ({"format": "csv"}, "parquet, fits"),
        ({"chunk_rows": 0}, "at least 1"),
        ({"keep": ("id", "mas")}, "mas are not known"),
        ({"job": replace(JOB, pixel_arcmin=1.0)}, "pixel_arcmin=1 has no effect here: it is for a map"),
        ({"map_centre": (11.0, 0.0)}, "map_centre, in degrees, and map_arcmin"),
        ({"map_centre": (11.0, 0.0), "map_arcmin": -3.0}, "map_arcmin is -3"),
    ):
        with pytest.raises(MassmapError, match=words):
            stream(catalogue_file, tmp_path / "out", options(**changes))
    with pytest.raises(MassmapError, match="there is no file"):
        stream(tmp_path / "none.parquet", tmp_path / "out", options())
    (tmp_path / "empty").mkdir()
    with pytest.raises(MassmapError, match=r"no \.parquet file"):
        stream(tmp_path / "empty", tmp_path / "out", options())
    assert not (tmp_path / "out").exists()
