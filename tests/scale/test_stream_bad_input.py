"""`massmap-jax stream` on odd and hostile files: rows in order with the masses of the plain table, or one sentence.

The cases are in hostile/stream_cases.py. All go through `stream` in one process, most of them without the integrals, which
have no part in reading; one that warns as well goes through the installed command.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import field as good
from hostile.stream_cases import CASES, LINES, fits_cut_short, halves, parquet

from massmap_jax.errors import MassmapError
from massmap_jax.run.options import JobOptions
from massmap_jax.scale import stream as module
from massmap_jax.scale.stream import StreamOptions, stream

PROGRAM = Path(sys.executable).with_name("massmap-jax")
COLUMNS = {"lum": "lum", "z": "z", "sigma": "sigma", "sigma_kind": "ln", "ra": "ra", "dec": "dec", "id": "name"}
KEEP = ("id", "ra", "dec", "z", "ln_lum_obs", "sigma_ln_lum", "log10_mass_mean", "flag")
# Read and integrated; of each kind of file one.
WITH_MASSES = ("the_first_half_is_null", "what_spark_leaves_beside_the_parts", "fits_null_integers", "csv_semicolons")
OPTIONS = StreamOptions(
    job=JobOptions(relation="bigmali2017", num_relation_draws=8, relation_from="fixed_draws", seed=5),
    columns=COLUMNS,
    method="analytic",
    chunk_rows=8,
    keep=KEEP,
)
PYTHON_TALK = r"\b\w+(Error|Exception)\b|Errno|<class|object at 0x|Traceback|\x1b|\n"


def parts_of(out):
    """Rows of all parts, which share one schema."""
    paths = sorted((out / "masses").iterdir())
    assert len({pq.read_schema(path).remove_metadata() for path in paths}) == 1
    return pa.concat_tables([pq.read_table(path) for path in paths]).to_pydict()


def entries(folder):
    """Every path in a folder, with a file's bytes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else oct(p.lstat().st_mode)
        for p in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """log10 mass by row of the good field, from the plainest of files."""
    folder = tmp_path_factory.mktemp("plain")
    parquet(folder / "o.parquet")
    stream(folder / "o.parquet", folder / "out", OPTIONS)
    found = parts_of(folder / "out")
    assert found["id"] == good.IDS.tolist() and not any(found["flag"])
    return np.array(found["log10_mass_mean"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case, plain, tmp_path, monkeypatch):
    case.put(tmp_path)
    before = entries(tmp_path)
    out = tmp_path / "out"
    if case.name not in WITH_MASSES:
        monkeypatch.setattr(module, "posterior_of_part", lambda *args, **options: None)
    if case.words:
        with pytest.raises(MassmapError) as refusal:
            stream(tmp_path / case.source, out, OPTIONS)
        said = str(refusal.value).replace(str(tmp_path) + "/", "")
        for word in case.words:
            assert re.search(word, said.lower()), said
        assert 10 < len(said) < 400 and not re.search(PYTHON_TALK, said), said
        if case.on_way:  # rows of the first chunk are good: a run that began
            shutil.rmtree(out)
    else:
        total = stream(tmp_path / case.source, out, OPTIONS)
        found = parts_of(out)
        assert [str(i) for i in found["id"]] == [str(i) for i in (good.IDS if case.ids is None else case.ids)]
        flagged = np.asarray(found["flag"]) != 0
        assert tuple(np.flatnonzero(flagged)) == case.flagged
        wanted = {"ra": good.RA, "dec": good.DEC, "z": good.REDSHIFT, "sigma_ln_lum": good.SIGMA}
        for name, values in (wanted | {"ln_lum_obs": np.log(good.LUM)}).items():
            read = np.array(found[name], dtype=float)
            np.testing.assert_allclose(read[~flagged], values[~flagged], rtol=1e-15, err_msg=name)
        if case.name in WITH_MASSES:
            mass = np.array(found["log10_mass_mean"], dtype=float)
            np.testing.assert_array_equal(mass, np.where(flagged, np.nan, plain))
        assert total["rows"] == good.NUM and bool(total["flags"]) == bool(case.flagged)
        shutil.rmtree(out)
    assert entries(tmp_path) == before


# -- the folder that is written ---------------------------------------------------------------------------------


def refusal_of(source, out, **changes):
    with pytest.raises(MassmapError) as refusal:
        stream(source, out, replace(OPTIONS, **changes))
    return str(refusal.value)


@pytest.mark.parametrize("place", ["survey/out", "survey", "survey/deep/../out", "link/out"])
def test_output_inside_the_catalogue(place, tmp_path):
    """Its parts would be input to the run that goes on."""
    halves(tmp_path / "survey", lambda t: t)
    (tmp_path / "survey" / "deep").mkdir()
    (tmp_path / "link").symlink_to("survey")
    before = entries(tmp_path)
    said = refusal_of(tmp_path / "survey", tmp_path / place)
    assert "exists" in said if place == "survey" else "inside the catalogue's folder" in said
    assert entries(tmp_path) == before


@pytest.mark.parametrize("kind", ["folder of others", "empty folder", "file", "link to nothing", "no parent"])
def test_output_that_cannot_be(kind, tmp_path):
    parquet(tmp_path / "o.parquet")
    out = tmp_path / "out"
    if kind.endswith("folder") or kind.startswith("folder"):
        out.mkdir()
    if kind == "folder of others":
        (out / "thesis.tex").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    elif kind == "link to nothing":
        out.symlink_to("nowhere")
    elif kind == "no parent":
        out = out / "masses"
    before = entries(tmp_path)
    said = refusal_of(tmp_path / "o.parquet", out)
    assert "out" in said and not re.search(PYTHON_TALK, said)
    assert entries(tmp_path) == before


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_input_that_grows_while_it_is_read(kind, tmp_path, monkeypatch):
    """No total is written, and what was done cannot be taken for the whole."""
    source = tmp_path / f"o.{kind}"
    source.write_text("\n".join(LINES) + "\n") if kind == "csv" else parquet(source)
    write = module._Run._write

    def grows(self, number, *args):
        if number == 0:
            with open(source, "a") as file:
                file.write(LINES[1].replace(good.IDS[0], "new") + "\n")
        return write(self, number, *args)

    monkeypatch.setattr(module._Run, "_write", grows)
    said = refusal_of(source, tmp_path / "out")
    assert f"o.{kind} was changed while it was read" in said
    assert '"done"' not in (tmp_path / "out" / "manifest.jsonl").read_text()
    with pytest.raises(MassmapError, match=f"another input.*o.{kind}|o.{kind} cannot be read as"):
        stream(source, tmp_path / "out", OPTIONS, resume=True)


def test_surface_and_maps_need_what_they_need_before_there_is_a_folder(tmp_path):
    parquet(tmp_path / "bad.parquet", pa.table({**good.COLUMNS, "z": np.full(good.NUM, np.nan)}))
    assert "no row" in refusal_of(tmp_path / "bad.parquet", tmp_path / "out", method="surface")
    parquet(tmp_path / "o.parquet", pa.table({n: v for n, v in good.COLUMNS.items() if n not in ("ra", "dec")}))
    without = {name: column for name, column in COLUMNS.items() if name not in ("ra", "dec")}
    said = refusal_of(
        tmp_path / "o.parquet", tmp_path / "out", columns=without, map_centre=(150.0, 2.0), map_arcmin=9.0
    )
    assert "a map needs ra and dec" in said
    assert not (tmp_path / "out").exists()


# -- the installed command ----------------------------------------------------------------------------------------


def test_refused_by_the_program(tmp_path):
    """astropy warns of such a file: nothing but the sentence is on stderr."""
    fits_cut_short(tmp_path)
    before = entries(tmp_path)
    options = {**COLUMNS, "out": "out", "relation": "bigmali2017", "num-relation-draws": "8", "method": "analytic"}
    args = [
        str(PROGRAM),
        "stream",
        "o.fits",
        *(v for name, value in options.items() for v in (f"--{name.replace('_', '-')}", value)),
    ]
    ran = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 2 and ran.stdout == "", ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: o.fits is cut short") and not re.search(PYTHON_TALK, ran.stderr[:-1])
    assert entries(tmp_path) == before
