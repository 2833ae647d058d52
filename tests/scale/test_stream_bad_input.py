"""`massmap-jax stream` on odd and hostile files: rows in order with the masses of the plain table, or one sentence.

The cases are in hostile/stream_cases.py. All go through `stream` in one process, most of them without the integrals, which
have no part in reading; one that warns as well goes through the installed command.
"""

import json
import os
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm_start
from astropy.table import Table
from hostile import field as good
from hostile.stream_cases import CASES, LINES, fits_cut_short, halves, parquet

from massmap_jax.catalogue.flags import Flag
from massmap_jax.errors import MassmapError
from massmap_jax.run.options import JobOptions, PriorOptions
from massmap_jax.scale import stream as module
from massmap_jax.scale.stream import StreamOptions, stream

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


def test_a_refused_table_leaves_no_folder(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise MassmapError("more than 4,000,000 nodes")

    monkeypatch.setattr(module.PosteriorSurface, "build", refuse)
    parquet(tmp_path / "o.parquet")
    with pytest.raises(MassmapError, match="nodes"):
        stream(tmp_path / "o.parquet", tmp_path / "out", replace(OPTIONS, method="surface"))
    assert not (tmp_path / "out").exists()


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


# -- the folder of a stopped run, changed since -------------------------------------------------------------------

MAPPED = replace(
    OPTIONS,
    job=replace(OPTIONS.job, num_map_draws=4, pixel_arcmin=3.0),
    map_centre=(float(np.median(good.RA)), float(np.median(good.DEC))),
    map_arcmin=12.0,
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run with a map, whole, and the same stopped before its last part: two of its folders, and the catalogue."""
    folder = tmp_path_factory.mktemp("stopped")
    parquet(folder / "o.parquet")
    write, every = module._Run._write, module._MAP_EVERY

    def fails(self, number, *args):
        if number == 2:
            raise KeyboardInterrupt
        return write(self, number, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAP_EVERY", 2)
        stream(folder / "o.parquet", folder / "whole", MAPPED)
        patch.setattr(module._Run, "_write", fails)
        with pytest.raises(KeyboardInterrupt):
            stream(folder / "o.parquet", folder / "cut", MAPPED)
    assert every == module._MAP_EVERY
    assert {p.name for p in (folder / "cut").iterdir()} == {"manifest.jsonl", "masses", "map_state.npz"}
    return folder


def resumed(folder, tmp_path, change, name="cut"):
    """What becomes of a copy of a folder that is changed and resumed."""
    out = tmp_path / name
    shutil.copytree(folder / name, out)
    change(out)
    stream(folder / "o.parquet", out, MAPPED, resume=True)
    return entries(out)


def line_changed(number, text):
    def change(out):
        lines = (out / "manifest.jsonl").read_bytes().split(b"\n")
        lines[number] = text(lines[number]) if callable(text) else text
        (out / "manifest.jsonl").write_bytes(b"\n".join(lines))

    return change


def without_field(name):
    def text(line):
        found = json.loads(line)
        del found[name]
        return json.dumps(found).encode()

    return text


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "text",
    [
        b"garbage",
        b"\0\0\0\0\0",
        "{'H\xf6he': 1}".encode("latin-1"),
        b"[1, 2]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b"",
        without_field("check"),
        lambda line: line.replace(b'"rows": 8', b'"rows": 9').replace(b'"seed": 5', b'"seed": 6'),
    ],
    ids=lambda text: "edited" if callable(text) else repr(text[:12]),
)
def test_a_manifest_that_was_changed(number, text, stopped, tmp_path):
    with pytest.raises(MassmapError) as refusal:
        resumed(stopped, tmp_path, line_changed(number, text))
    said = str(refusal.value)
    assert f"line {number + 1} of" in said and "begin in another folder" in said and not re.search(PYTHON_TALK, said)
    assert ("remove this line" in said) == (number > 0)


def test_a_manifest_without_a_line_in_between(stopped, tmp_path):
    """Each line holds, and they are not those of one run: the parts would be taken for others."""

    def change(out):
        lines = (out / "manifest.jsonl").read_bytes().split(b"\n")
        (out / "manifest.jsonl").write_bytes(b"\n".join([lines[0], *lines[2:]]))

    with pytest.raises(MassmapError, match=r"line 2 of .* is not as it was written"):
        resumed(stopped, tmp_path, change)


def cut_at_the_end(out):
    with open(out / "manifest.jsonl", "ab") as file:
        file.write(b'{"part": "part-0' + bytes(300))


def with_state(**changes):
    def change(out):
        state = dict(np.load(out / "map_state.npz"))
        np.savez(out / "map_state.npz", **state | {name: np.array(value) for name, value in changes.items()})

    return change


def flipped(name, place=-300):
    def change(out):
        content = bytearray((out / name).read_bytes())
        content[place] ^= 1
        (out / name).write_bytes(content)

    return change


def zeroed(name):
    return lambda out: (out / name).write_bytes(bytes((out / name).stat().st_size))


@pytest.mark.parametrize(
    "change",
    [
        lambda out: None,
        cut_at_the_end,
        lambda out: (out / "manifest.jsonl").write_bytes(b""),
        lambda out: (out / "map_state.npz").unlink(),
        lambda out: (out / "map_state.npz").write_bytes(b""),
        lambda out: (out / "map_state.npz").write_bytes((out / "map_state.npz").read_bytes()[:-40]),
        lambda out: (out / "map_state.npz").write_bytes(pickle.dumps({"chunks": 1})),
        with_state(chunks=1),
        with_state(chunks=-1),
        with_state(chunks=10**9),
        with_state(chunks=[1, 2]),
        with_state(mean=np.zeros(16)),
        with_state(digest="0"),
        zeroed("masses/part-00000.parquet"),
        flipped("masses/part-00001.parquet"),
        lambda out: (out / "masses" / "part-00001.parquet").unlink(),
        lambda out: shutil.copy(out / "masses" / "part-00001.parquet", out / "masses" / "part-00000.parquet"),
    ],
    ids=[
        *("as it was", "line cut", "no line", "no state", "empty state", "state cut", "pickle", "fewer chunks"),
        *("negative", "more chunks", "many chunks", "no mass", "other digest", "zeroed", "byte flipped", "missing"),
        "another part",
    ],
)
def test_what_was_done_is_checked(change, stopped, tmp_path):
    """Whatever is not as it was written is made again: the bytes of a run that was left alone."""
    assert resumed(stopped, tmp_path, change) == entries(stopped / "whole")


@pytest.mark.parametrize(
    "change", [flipped("masses/part-00000.parquet"), zeroed("mass_map.fits"), lambda out: shutil.rmtree(out / "masses")]
)
def test_a_finished_run_is_checked_too(change, stopped, tmp_path):
    assert resumed(stopped, tmp_path, change, name="whole") == entries(stopped / "whole")


def test_damaged_parts_alone_are_computed(stopped, tmp_path, monkeypatch):
    computed, masses = [], module.posterior_of_part
    monkeypatch.setattr(
        module, "posterior_of_part", lambda catalogue, *a, **o: computed.append(1) or masses(catalogue, *a, **o)
    )
    resumed(stopped, tmp_path, flipped("masses/part-00001.parquet"), name="whole")
    assert len(computed) == 1


def test_a_table_of_posteriors_that_was_changed_is_made_again(tmp_path):
    parquet(tmp_path / "o.parquet")
    options = replace(OPTIONS, method="surface")
    stream(tmp_path / "o.parquet", tmp_path / "out", options)
    whole = entries(tmp_path / "out")
    (tmp_path / "out" / "surface.npz").write_bytes(b"")
    stream(tmp_path / "o.parquet", tmp_path / "out", options, resume=True)
    assert entries(tmp_path / "out") == whole


@pytest.mark.parametrize("kind", ["touched", "copied"])
def test_the_same_input_at_another_time(kind, stopped, tmp_path):
    source = tmp_path / "o.parquet"
    shutil.copyfile(stopped / "o.parquet", source)
    shutil.copytree(stopped / "cut", tmp_path / "out")
    if kind == "touched":
        os.utime(source, ns=(0, 0))
    stream(source, tmp_path / "out", MAPPED, resume=True)
    assert entries(tmp_path / "out") == entries(stopped / "whole")


def test_hidden_files_of_others_stay(stopped, tmp_path):
    theirs = (".notes", ".part-00001.txt", "masses/.gitignore", ".surface.old.npz")

    def change(out):
        for name in theirs:
            (out / name).write_text("mine")
        (out / ".cache").mkdir()
        (out / "masses" / ".part-00002.abcd_123.parquet").write_text("half a part")

    found = resumed(stopped, tmp_path, change)
    assert found.keys() - entries(stopped / "whole").keys() == {*theirs, ".cache"}


# -- the installed command ----------------------------------------------------------------------------------------


def test_refused_by_the_program(tmp_path):
    """astropy warns of such a file: nothing but the sentence is on stderr."""
    fits_cut_short(tmp_path)
    before = entries(tmp_path)
    options = {**COLUMNS, "out": "out", "relation": "bigmali2017", "num-relation-draws": "8", "method": "analytic"}
    args = [
        "stream",
        "o.fits",
        *(v for name, value in options.items() for v in (f"--{name.replace('_', '-')}", value)),
    ]
    ran = warm_start.run(args, tmp_path)
    assert ran.returncode == 2 and ran.stdout == "", ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: o.fits is cut short") and not re.search(PYTHON_TALK, ran.stderr[:-1])
    assert entries(tmp_path) == before


def published_job(**changes):
    """A published relation of luminosities in 1e44 erg/s."""
    prior = PriorOptions(source="hmf", mass_definition="500c")
    given = {"prior": prior, "relation": "lx_mcxc11", "relation_scatter": "0.4:0.05", "num_relation_draws": 4}
    return JobOptions(**(given | changes))


def bright(folder, name="L500", unit=None, scale=1.0):
    """Clusters of 1e14 to 8e14 Msun, and one of 2e13, by their luminosities in 1e44 erg/s, times a scale."""
    lum = np.array([0.7, 1.1, 2.2, 4.5, 9.0, 0.03]) * scale
    table = Table({"z": np.full(6, 0.1), name: lum, "e": 0.1 * lum})
    for column in (name, "e"):
        table[column].unit = unit
    table.write(folder / "clusters.fits", overwrite=True)
    return folder / "clusters.fits", {"lum": name, "sigma": "e", "sigma_kind": "linear"}


def test_a_published_relation_as_in_run(tmp_path):
    """Luminosities are brought to its unit and objects out of its range are flagged, as `run` does; it is told."""
    masses = {}
    for name, unit, scale in (("stated", "erg/s", 1e44), ("same", "1e44 erg/s", 1.0)):
        path, columns = bright(tmp_path, unit=unit, scale=scale)
        given = {"job": published_job(), "method": "analytic", "keep": ("log10_mass_mean", "flag")}
        total = stream(path, tmp_path / name, StreamOptions(columns=columns, **given))
        found = pq.read_table(tmp_path / name / "masses" / "part-00000.parquet")
        masses[name] = np.asarray(found["log10_mass_mean"])
        assert total["flags"] == {"OUTSIDE_RELATION": 1} and np.asarray(found["flag"])[5] & Flag.OUTSIDE_RELATION
        assert any("column 'L500' is taken to be that" in note for note in total["notes"])
        assert any("multiplied by 1e-44" in note for note in total["notes"])
    np.testing.assert_allclose(masses["stated"], masses["same"], atol=1e-5)
    assert np.all((masses["same"][:5] > 13.8) & (masses["same"][:5] < 15.0))


@pytest.mark.parametrize(
    ("name", "unit", "scale", "job", "words"),
    [
        ("richness", None, 1.0, {}, "is a richness by its name"),
        ("flux", None, 1.0, {}, "is a flux by its name"),
        ("L500", "keV", 1.0, {}, "has luminosities in 'keV'"),
        ("L500", "1e44 erg/s", 1e5, {}, "times brighter than that of a halo of 1e"),
        ("L500", None, 1e44, {}, r"states no unit of the luminosity.*Msun in 'erg/s', by the relation"),
        ("L500", None, 1e-30, {}, "would be no mass in any of them"),
        ("L500", None, 10.0, {}, "Msun in '1e44 erg/s', .* Msun in '1e43 erg/s'"),
    ],
)
def test_an_observable_of_another_relation_is_refused_before_any_work(tmp_path, name, unit, scale, job, words):
    path, columns = bright(tmp_path, name, unit, scale)
    with pytest.raises(MassmapError, match=words):
        stream(path, tmp_path / "out", StreamOptions(job=published_job(**job), columns=columns, method="surface"))
    assert not (tmp_path / "out").exists()
