"""`massmap-jax stream` with redshifts that are distributions: the same masses as in memory, whatever the chunk."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm_start

import massmap_jax as mm
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError
from massmap_jax.run.options import JobOptions, load_prior, load_relation
from massmap_jax.scale import chunks, parts
from massmap_jax.scale import stream as module
from massmap_jax.scale.stream import StreamOptions, stream
from scale.test_stream import hashes, read_parts

ROWS, CHUNK = 210, 50
JOB = JobOptions(relation="identity", pivot=1e14, seed=5, uncertain_redshifts=True)
GRID = np.linspace(0.0, 1.6, 81)
LEVELS = (1, 5, 16, 30, 50, 70, 84, 95, 99)
COMMON = {"lum": "lum", "z": "z", "sigma": 0.3, "sigma_kind": "ln", "lum_moves": "yes", "z_contains": "likelihood"}
GIVEN = {
    "error": {"z_err": "error", "z_err_kind": "relative"},
    "grid": {"z_pdf": "pz", "z_grid": "0:1.6:81"},
    "column of the grid": {"z_pdf": "pz", "z_grid": "nodes"},
    "quantiles": {"z_quantiles": ",".join(f"{level}:q{level}" for level in LEVELS)},
}


def columns():
    """The second chunk has not a row whose p(z) can be used; in others some cannot."""
    from scipy.special import ndtri

    rng = np.random.default_rng(1)
    z = rng.uniform(0.4, 0.6, ROWS)
    error = np.full(ROWS, 0.03)
    table = {"id": np.arange(ROWS) * 7 + 10**12, "ra": rng.uniform(10, 10.5, ROWS), "dec": rng.uniform(0, 0.5, ROWS)}
    table |= {"z": z, "lum": np.exp(rng.normal(0.5, 0.6, ROWS)), "error": error}
    density = np.exp(-0.5 * ((np.log1p(GRID) - np.log1p(z)[:, None]) / error[:, None]) ** 2)
    quantiles = np.expm1(np.log1p(z)[:, None] + error[:, None] * ndtri(np.array(LEVELS) / 100))
    bad = np.r_[CHUNK : 2 * CHUNK, 3, 170]
    table["error"][bad[::2]], table["error"][bad[1::2]] = np.nan, -1.0
    density[170], quantiles[170] = 0.0, 0.5
    quantiles[bad] = np.nan
    null = np.isin(np.arange(ROWS), bad[:-1])
    table["pz"] = pa.array([None if gone else row.tolist() for gone, row in zip(null, density, strict=True)])
    table["nodes"] = pa.array([None if gone else GRID.tolist() for gone in null])
    return table | {f"q{level}": quantiles[:, i] for i, level in enumerate(LEVELS)}, bad


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "objects.parquet"
    pq.write_table(pa.table(columns()[0]), path, row_group_size=80)
    return path


def options(kind, **changes):
    return StreamOptions(
        **({"job": JOB, "columns": COMMON | GIVEN[kind], "method": "analytic", "chunk_rows": CHUNK} | changes)
    )


def in_memory(path, kind):
    prior = load_prior(JOB.prior)
    relation = load_relation(JOB, jax.random.split(jax.random.key(JOB.seed), 3)[0], prior)
    catalogue = read_catalogue(path, **COMMON | GIVEN[kind])
    return catalogue, prior, relation, mm.mass_posterior(catalogue, prior, relation)


@pytest.mark.parametrize("kind", GIVEN)
def test_same_as_in_memory_whatever_the_chunk(kind, objects, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_BLOCK", 64)
    expected = in_memory(objects, kind)[-1].to_table()
    assert np.flatnonzero(expected["flag"]).tolist() == sorted(columns()[1])
    for rows in (CHUNK, ROWS) if kind == "error" else (CHUNK,):
        total = stream(objects, tmp_path / str(rows), options(kind, chunk_rows=rows))
        found = read_parts(tmp_path / str(rows))
        assert {"z_mean", "z_sd", "id", "log10_mass_sd"} < set(found)
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert total["flags"] == {"Z_ERROR_BAD": CHUNK + 2} and total["rows"] == ROWS
        assert any("p(z) contains: likelihood" in note for note in total["notes"])
        good = expected["flag"] == 0
        # The mean is drawn towards where there are more halos; it is not the measured redshift.
        assert np.abs(found["z_mean"] - np.asarray(pq.read_table(objects)["z"]))[good].min() > 1e-4


def test_surface_is_near_the_integral_and_reused(objects, tmp_path):
    out = tmp_path / "out"
    columns = COMMON | {"z_err": "error", "z_err_kind": "relative", "sigma": 0.3}
    whole = pq.read_table(objects)
    near = np.flatnonzero((np.asarray(whole["z"]) > 0.4) & (np.asarray(whole["z"]) < 0.6))
    pq.write_table(whole.take(near), tmp_path / "o.parquet")
    expected = in_memory(tmp_path / "o.parquet", "error")[-1].to_table()
    total = stream(tmp_path / "o.parquet", out, options("error", columns=columns, method="surface", chunk_rows=30))
    found, good = read_parts(out), expected["flag"] == 0
    assert total["beside_surface"] == 0 and good.sum() > 30
    for name, sd in (("log10_mass_mean", "log10_mass_sd"), ("z_mean", "z_sd"), ("log10_mass_q84", "log10_mass_sd")):
        off = np.abs(found[name] - expected[name])[good] / expected[sd][good]
        assert 0 < off.max() < 0.01, name
    shutil.copytree(out, tmp_path / "cut")
    lines = (out / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "cut" / "manifest.jsonl").write_text("\n".join(lines[:3]) + "\n")
    stream(
        tmp_path / "o.parquet", tmp_path / "cut",
        options("error", columns=columns, method="surface", chunk_rows=30), resume=True,
    )  # fmt: skip
    assert hashes(tmp_path / "cut") == hashes(out)


def test_map_is_that_of_the_whole_and_resumes(objects, tmp_path, monkeypatch):
    from massmap_jax.maps.files import read_map

    monkeypatch.setattr(parts, "_BLOCK", 64)
    monkeypatch.setattr(module, "_MAP_EVERY", 2)
    job = replace(JOB, num_map_draws=8, pixel_arcmin=6.0)
    asked = options("error", job=job, map_centre=(10.25, 0.25), map_arcmin=36.0)
    stream(objects, tmp_path / "out", asked)
    found = read_map(tmp_path / "out" / "mass_map.fits")
    catalogue, prior, relation, posterior = in_memory(objects, "error")
    grid = mm.PixelGrid("tangent", (6, 6), 6.0, (10.25, 0.25))
    key = jax.random.split(jax.random.key(JOB.seed), 3)[2]
    whole = mm.mass_map(key, catalogue, prior, relation, grid, num_draws=8, posterior=posterior)
    for name in ("mean", "sd", "q50", "nobj"):
        np.testing.assert_allclose(found[name], getattr(whole, name), rtol=1e-6, err_msg=name)

    calls, write = [], module._Run._write

    def fails(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write(self, *args)

    monkeypatch.setattr(module._Run, "_write", fails)
    with pytest.raises(KeyboardInterrupt):
        stream(objects, tmp_path / "cut", asked)
    monkeypatch.setattr(module._Run, "_write", write)
    stream(objects, tmp_path / "cut", asked, resume=True)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "out")


def test_what_cannot_be_is_refused_before_the_folder_is_made(objects, tmp_path):
    exact = {"lum": "lum", "z": "z", "sigma": 0.3}
    percent = COMMON | {"z_err": "per_cent", "z_err_kind": "relative"}
    bare = tmp_path / "bare.npz"
    mm.MassPrior.from_table([0.1, 1.0], np.logspace(12, 16, 50), np.ones((2, 50)), per="ln_mass").save(bare)
    table = pq.read_table(objects)
    table = table.append_column("per_cent", pa.array(np.full(ROWS, 1.5)))
    pq.write_table(table, tmp_path / "o.parquet")
    for changes, words in (
        (
            {"columns": exact, "keep": ("redmapper",)},
            "'redmapper' is a layout of a catalogue, which massmap-jax run takes",
        ),
        ({"columns": exact, "keep": ("id", "z_sd")}, "output columns z_sd are those of redshifts that are not exact"),
        ({"columns": COMMON}, "no effect without z_err="),
        ({"columns": percent}, "say nothing of the redshift"),
        ({"job": replace(JOB, prior=replace(JOB.prior, source=str(bare)))}, "how many halos there are"),
    ):
        with pytest.raises(MassmapError, match=words):
            stream(tmp_path / "o.parquet", tmp_path / "out", options("error", **changes))
        assert not (tmp_path / "out").exists()


def test_rows_that_the_whole_catalogue_would_be_refused_for(objects, tmp_path, monkeypatch):
    """In a later chunk they stop the stream, which says where."""
    monkeypatch.setattr(chunks, "SAMPLE_ROWS", 40)
    table = columns()[0]
    table["error"][160] = 0.0
    pq.write_table(pa.table(table), tmp_path / "o.parquet")
    words = "0 in 1 rows, first row 10: .* .in the chunk that begins at row 150"
    with pytest.raises(MassmapError, match=words):
        stream(tmp_path / "o.parquet", tmp_path / "out", options("error"))


def test_redshifts_of_their_own_in_a_later_chunk(objects, tmp_path, monkeypatch):
    """p(z) is put on the redshifts of the first rows, in every chunk: the masses are those without the shift."""
    monkeypatch.setattr(chunks, "SAMPLE_ROWS", 40)
    table = columns()[0]
    shifted = np.array(GRID) + 0.001
    rows = [None if row is None else np.array(row) for row in table["pz"].to_pylist()]
    grids = [None if row is None else list(row) for row in table["nodes"].to_pylist()]
    for i in range(150, ROWS):
        if rows[i] is not None and rows[i].any():
            rows[i] = np.exp(np.interp(shifted, GRID, np.log(np.maximum(rows[i], 1e-300))))
            grids[i] = list(shifted)
    stream(objects, tmp_path / "as it is", options("column of the grid"))
    pq.write_table(pa.table(table | {"nodes": pa.array(grids), "pz": pa.array(rows)}), tmp_path / "o.parquet")
    stream(tmp_path / "o.parquet", tmp_path / "out", options("column of the grid"))
    one, other = (pq.read_table(tmp_path / name / "masses").to_pandas() for name in ("as it is", "out"))
    assert one["z_sd"].notna().sum() > 100 and one["flag"].tolist() == other["flag"].tolist()
    np.testing.assert_allclose(other["log10_mass_mean"], one["log10_mass_mean"], atol=2e-3)


def test_on_the_command_line(objects, tmp_path):
    """Options as of `run`; the record repeats the stream; another file of redshifts is not the same run."""
    (tmp_path / "grid.txt").write_text("z\n" + "".join(f"{x:.2f}\n" for x in GRID))
    args = ["stream", str(objects), "--out", "out", "--lum", "lum", "--z", "z", "--sigma", "0.3", "--sigma-kind", "ln",
            "--relation", "identity", "--pivot", "1e14", "--seed", "5", "--z-pdf", "pz", "--z-grid", "grid.txt",
            "--z-contains", "likelihood", "--lum-moves", "yes", "--chunk-rows", "100"]  # fmt: skip
    done = warm_start.run(args, tmp_path)
    assert done.returncode == 2 and "--method analytic" in done.stderr, done.stderr
    done = warm_start.run([*args, "--method", "analytic"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "p(z) contains: likelihood" in done.stdout
    found, expected = read_parts(tmp_path / "out"), in_memory(objects, "grid")[-1].to_table()
    np.testing.assert_allclose(found["z_mean"], expected["z_mean"], rtol=1e-4)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]["z_grid"]["path"] == "grid.txt"
    (tmp_path / "grid.txt").write_text("z\n" + "".join(f"{x:.3f}\n" for x in GRID))
    done = warm_start.run([*args, "--method", "analytic", "--resume"], tmp_path)
    assert done.returncode == 2 and "begun with another redshift file" in done.stderr, done.stderr
