"""Masses of a catalogue too large for memory: `stream(...)` reads, computes and writes it a chunk at a time.

The folder written:

    manifest.jsonl   first line: what was asked for and of which input; then a line for each chunk done; last, the sums
    masses/          part-00000.parquet (or .fits), one for each chunk, rows in the catalogue's order
    surface.npz      the table that the masses were read from (method "surface")
    mass_map.fits    where a map was asked for: its draws are summed on the way, in one pass

A chunk's part is renamed into place whole, then its line is added to the manifest. So whatever stops a run, what the
manifest lists is good; `resume` goes on behind it, and ends with the same bytes as a run that was never stopped.

What computes is no part of the manifest: a run may be resumed on other devices. The bytes are the same where the
devices are; on others, what is integrated (not read from surface.npz) may differ in the last digit.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue import HaloCatalogue
from massmap_jax.chunks import Chunks
from massmap_jax.column_names import USUAL_NAMES, choose_column
from massmap_jax.errors import MassmapError
from massmap_jax.flags import UNUSABLE, Flag, count, describe_all
from massmap_jax.io import read_catalogue
from massmap_jax.map_io import write_map
from massmap_jax.maps import MapSums, effective_draws, pick
from massmap_jax.options import JobOptions, check_definitions, check_options, load_prior, load_relation, selection_of
from massmap_jax.outputs import DESCRIPTIONS, PROGRAM, UNITS
from massmap_jax.pixels import PixelGrid
from massmap_jax.posterior import check_relation_from, mass_posterior
from massmap_jax.surface import PosteriorSurface, Range
from massmap_jax.writers import atomic_file, told_as_sentence, write_table

MANIFEST, PARTS, SURFACE, LOCK = "manifest.jsonl", "masses", "surface.npz", ".lock"
MAP, MAP_STATE = "mass_map.fits", "map_state.npz"
# Chunks between two copies of the map's sums on the disk: a resumed run begins at the last.
_MAP_EVERY = 8
DEFAULT_COLUMNS = (
    "id", "log10_mass_mean", "log10_mass_sd", "log10_mass_q025", "log10_mass_q16", "log10_mass_q50", "log10_mass_q84",
    "log10_mass_q975", "mass_mean", "log_evidence", "edge_mass", "information_bits", "flag",
)  # fmt: skip
FORMATS = ("parquet", "fits")
# Noise widths beyond those of the first chunk, by this factor, are in the table too.
_SIGMA_MARGIN = 1.25
_LINES_AHEAD = 2


@dataclass(frozen=True)
class StreamOptions:
    """What decides the bytes that are written, beside the catalogue.

    columns : `read_catalogue`'s keywords. job : prior, relation, seed. chunk_rows : rows of a part.
    keep : columns to write. float32 : numbers but ids as float32.
    map_centre : (RA, Dec) in degrees, or (x, y) in arcmin on a flat field, for a map of `map_arcmin` on a side.
    """

    job: JobOptions
    columns: dict
    method: str = "surface"
    chunk_rows: int = 1_000_000
    keep: tuple[str, ...] = DEFAULT_COLUMNS
    float32: bool = False
    format: str = "parquet"
    precision: str = "float32"
    map_centre: tuple[float, float] | None = None
    map_arcmin: float | None = None


def stream(
    source, out, options: StreamOptions, *, resume: bool = False, watch: Callable[[str], None] = lambda stage: None
) -> dict:
    """Masses of a catalogue into a folder, in constant memory; the manifest's last line, with the sums.

    Parameters
    ----------
    source : Parquet file or folder of them, FITS (FILE[EXTENSION]), CSV or whitespace text.
    out : folder, new unless `resume`, which goes on with a run that was stopped.
    watch : called with a line on rows done, rate and time left.

    Raises
    ------
    MassmapError : the folder exists (or, to resume, does not), another run is writing to it, the input or an option
        changed since, an unreadable part of the input, a full disk. What was done stays and can be resumed.
    """
    _check(options)
    out = Path(out)
    job = options.job
    if out.exists() and not resume:
        unfinished = (out / MANIFEST).exists() and not any("done" in line for line in _lines(out)[-1:])
        raise MassmapError(
            f"{out} exists and is left as it was: choose another folder"
            + (", or pass --resume to go on with the run that was stopped there" if unfinished else "")
        )
    if resume and not (out / MANIFEST).exists():
        raise MassmapError(f"{out} holds no run to resume (no {MANIFEST}): leave --resume out to begin one")
    mapping = dict(options.columns)
    id_names = set().union(*USUAL_NAMES["id"]) | ({mapping["id"].lower()} if mapping.get("id") else set())
    chunks = Chunks(source, names=mapping.pop("names", None), text_columns=id_names)
    header = {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "input": chunks.fingerprint(),
        "options": json.loads(json.dumps(asdict(options))),
    }
    prior = load_prior(job.prior)
    relation = load_relation(job, jax.random.split(jax.random.key(job.seed), 3)[0], prior)
    relation_from = job.relation_from or ("fixed_draws" if relation.num_draws > 1 else None)
    header["relation_from"] = check_relation_from(relation, relation_from)
    header["relation"] = _digest(jax.tree.leaves(relation))
    header["prior"] = _digest(jax.tree.leaves(prior))
    check_definitions(prior, relation)

    with told_as_sentence(out, "what was done stays, to go on with by --resume"):
        out.mkdir(parents=False, exist_ok=resume)
        with _locked(out):
            (out / PARTS).mkdir(exist_ok=True)
            done = _resume(out, header) if resume else _begin(out, header)
            if done and "done" in done[-1]:
                (out / MAP_STATE).unlink(missing_ok=True)
                return done[-1]
            run = _Run(out, options, mapping, prior, relation, relation_from, watch, chunks.num_rows)
            run.restore_map(done)
            for line in run.lines(chunks, done):
                _append(out, line)
                done.append(line)
            run.write_map()
            total = {
                "done": len(done),
                "rows": sum(line["rows"] for line in done),
                "flags": dict(sorted(_sum(line["flags"] for line in done).items())),
                "beside_surface": sum(line["beside_surface"] for line in done),
                "id_hash": _digest([np.array([line["id_hash"] for line in done])]),
            }
            if chunks.num_rows is not None and total["rows"] != chunks.num_rows:
                raise MassmapError(
                    f"{total['rows']} rows were written of {chunks.num_rows}: the input changed meanwhile"
                )
            _append(out, total)
            (out / MAP_STATE).unlink(missing_ok=True)
    return total


class _Run:
    """Reading ahead, computing, writing behind: each in a thread of its own, chunks in order."""

    def __init__(self, out, options, mapping, prior, relation, relation_from, watch, num_rows):
        self.out, self.options, self.mapping, self.num_rows = out, options, mapping, num_rows
        self.prior, self.relation, self.relation_from = prior, relation, relation_from
        self.watch, self.selection = watch, selection_of(options.job)
        self.surface, self.sums = None, None
        self.rows_read = 0
        if options.map_centre is not None:
            self.sums = self._map_sums(mapping)

    def _map_sums(self, mapping) -> MapSums:
        job, side = self.options.job, self.options.map_arcmin
        pixel = job.pixel_arcmin or side / 64
        flat = mapping.get("position_unit") == "arcmin" and mapping.get("field_centre") is None
        number = int(np.ceil(side / pixel - 1e-9))
        grid = PixelGrid("flat" if flat else "tangent", (number, number), pixel, self.options.map_centre)
        key_relation, key_mass = jax.random.split(jax.random.split(jax.random.key(job.seed), 3)[2])
        return MapSums(grid, self.prior, pick(key_relation, self.relation.as_batch(), job.num_map_draws), key_mass)

    def restore_map(self, done: list) -> None:
        """The map's sums as they were last saved; what was done since is done again."""
        if self.sums is None:
            return
        path = self.out / MAP_STATE
        state = dict(np.load(path)) if path.exists() else {"chunks": np.array(0)}
        del done[int(state["chunks"]) :]
        if done:
            self.sums.restore(state)
        with told_as_sentence(self.out):
            header = (self.out / MANIFEST).read_text().splitlines()[0]
            (self.out / MANIFEST).write_text("\n".join([header, *map(json.dumps, done)]) + "\n")

    def _save_map(self, number: int) -> dict:
        """A copy of the sums after so many chunks, to be written once those are in the manifest."""
        return {"chunks": np.array(number), **{name: a.copy() for name, a in self.sums.state().items()}}

    def write_map(self) -> None:
        if self.sums is not None:
            relation = self.relation.as_batch()
            image = self.sums.finish(ess=effective_draws(relation), relation_from=self.relation_from)
            write_map(self.out / MAP, image, self._meta(), overwrite=True)

    def lines(self, chunks: Chunks, done: list) -> Iterator[dict]:
        """Manifest lines of the chunks that are not done yet; a line comes once its part is in place."""
        began, rows_before = time.monotonic(), sum(line["rows"] for line in done)
        rows = rows_before
        if self.options.method == "surface":
            self.surface = self._load_surface(chunks)
        tables = chunks.read(self.options.chunk_rows, len(done))
        self.rows_read = rows_before
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                ahead = reader.submit(lambda: self._catalogue(next(tables, None)))
                number, written = len(done), []
                while (catalogue := ahead.result()) is not None:
                    ahead = reader.submit(lambda: self._catalogue(next(tables, None)))
                    columns, beside = self._columns(catalogue)
                    number += 1
                    state = self._save_map(number) if self.sums is not None and number % _MAP_EVERY == 0 else None
                    part = writer.submit(self._write, number - 1, catalogue, columns, beside)
                    written.append((part, state))
                    while len(written) > _LINES_AHEAD:
                        rows += yield from self._finished(*written.pop(0))
                        self._say(rows, (rows - rows_before) / (time.monotonic() - began))
                for part, state in written:
                    yield from self._finished(part, state)
            finally:
                reader.shutdown(cancel_futures=True)
                writer.shutdown(cancel_futures=True)

    def _finished(self, part, state):
        """The line of a part once it is in place; then the map's sums so far. Its rows."""
        line = part.result()
        yield line
        if state is not None:
            with atomic_file(self.out / MAP_STATE, overwrite=True) as path, open(path, "wb") as file:
                np.savez(file, **state)
        return line["rows"]

    def _say(self, rows, rate):
        left = ""
        if self.num_rows is not None:
            left = f" of {self.num_rows:,}, {_duration((self.num_rows - rows) / rate)} left"
        self.watch(f"{rows:,} rows{left} ({rate:,.0f} a second)")

    def _catalogue(self, table) -> HaloCatalogue | None:
        if table is None:
            return None
        catalogue = read_catalogue(table, need_usable=False, **self.mapping)
        if choose_column(table, "id", self.mapping.get("id"), "id")[0] is None:
            # Row numbers of the whole catalogue, not of the chunk.
            catalogue = eqx.tree_at(lambda c: c.ids, catalogue, self.rows_read + np.arange(len(catalogue)))
        self.rows_read += len(catalogue)
        return catalogue

    def _load_surface(self, chunks) -> PosteriorSurface:
        path = self.out / SURFACE
        if path.exists():
            return PosteriorSurface.load(path)
        first = next((c for c in map(self._catalogue, chunks.read(self.options.chunk_rows)) if c.usable.any()), None)
        if first is None:
            raise MassmapError(f"no row of {chunks.path} can be used: check the columns and their units")
        sigma = first.sigma_ln_lum[first.usable]
        one = np.ptp(sigma) == 0
        margin = 1.0 if one else _SIGMA_MARGIN
        where = self._range(chunks, (sigma.min() / margin, sigma.max() * margin))
        surface = PosteriorSurface.build(
            self.prior,
            self.relation,
            where,
            relation_from=self.relation_from,
            selection=self.selection,
            watch=self.watch,
        )
        surface.save(path)
        return surface

    def _range(self, chunks: Chunks, sigma: tuple[float, float]) -> Range:
        """Where objects are: by the file's own statistics, or wherever the prior has room."""
        ln_lum, z = [-np.inf, np.inf], [self.prior.z_min, min(self.prior.z_max, 20.0)]
        ends = chunks.extremes()
        if ends is not None:
            unnamed = {name: value for name, value in self.mapping.items() if name not in ("id", "duplicate_ids")}
            with contextlib.suppress(MassmapError):  # statistics of no use: the prior's own range
                found = read_catalogue(ends, need_usable=False, duplicate_ids="row_number", **unnamed)
                ln_lum = [v if np.isfinite(v) else end for v, end in zip(found.ln_lum_obs, ln_lum, strict=True)]
                z = [v if np.isfinite(v) else end for v, end in zip(found.redshift, z, strict=True)]
                z = [min(max(v, self.prior.z_min), self.prior.z_max) for v in z]
        return Range(tuple(ln_lum), tuple(z), sigma)

    def _columns(self, catalogue: HaloCatalogue) -> tuple[dict, int]:
        covered = (catalogue.redshift >= self.prior.z_min) & (catalogue.redshift <= self.prior.z_max)
        if self.sums is not None and catalogue.ra is None:
            raise MassmapError("the catalogue has no positions: a map needs ra and dec")
        if not (catalogue.usable & covered).any():
            if self.sums is not None:
                self.sums.n_flagged += len(catalogue)
            return self._none_usable(catalogue), 0
        posterior = mass_posterior(
            catalogue,
            self.prior,
            self.relation,
            relation_from=self.relation_from,
            selection=self.selection,
            method=self.options.method,
            surface=self.surface,
        )
        if self.sums is not None:
            self.sums.add(catalogue, posterior)
        return posterior.to_table(self.options.keep), posterior.num_beside_surface

    def _none_usable(self, catalogue) -> dict:
        """Columns of a chunk without a usable row: NaN, and the flags that say why."""
        flag = np.array(catalogue.flag, dtype=np.int32)
        flag[(flag & UNUSABLE) == 0] |= Flag.Z_OUTSIDE_PRIOR
        known = {"id": catalogue.ids, "ra": catalogue.ra, "dec": catalogue.dec, "z": catalogue.redshift}
        known |= {"ln_lum_obs": catalogue.ln_lum_obs, "sigma_ln_lum": catalogue.sigma_ln_lum, "flag": flag}
        nan = np.full(len(catalogue), np.nan)
        columns = {name: known.get(name, nan) for name in self.options.keep}
        return columns | ({"flag_reason": describe_all(flag)} if "flag_reason" in columns else {})

    def _meta(self) -> dict:
        return {
            "program": PROGRAM,
            "version": massmap_jax.__version__,
            "mass_definition": self.prior.mass_definition,
            "mass_unit": "Msun without h",
            "prior": self.prior.description,
            "relation_source": self.relation.source,
            "relation_from": self.relation_from or "one relation",
            "method": self.options.method,
            "seed": self.options.job.seed,
        }

    def _write(self, number, catalogue, columns, beside) -> dict:
        options = self.options
        if options.float32:
            narrow = {n: v.astype(np.float32) for n, v in columns.items() if v.dtype == np.float64 and n != "id"}
            columns = {name: narrow.get(name, values) for name, values in columns.items()}
        name = f"part-{number:05d}.{options.format}"
        path = self.out / PARTS / name
        write_table(path, columns, self._meta(), UNITS, DESCRIPTIONS, overwrite=True)
        line = {"part": name, "rows": len(catalogue), "size": path.stat().st_size}
        line["flags"] = count(columns["flag"]) if "flag" in columns else count(catalogue.flag)
        line["beside_surface"] = beside
        line["id_hash"] = _digest([catalogue.ids])
        if "id" in columns and _ids_of(path) != line["id_hash"]:
            raise MassmapError(f"the ids in {path} are not those of the catalogue: the disk or the file system failed")
        return line


def _ids_of(path: Path) -> str:
    """Hash of the ids in a written part."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        from massmap_jax.readers import from_arrow

        return _digest([from_arrow(pq.read_table(path, columns=["id"], partitioning=None), str(path)).column("id")])
    from astropy.table import Table

    return _digest([np.asarray(Table.read(path, character_as_bytes=False)["id"])])


def _digest(arrays) -> str:
    """Hash of arrays, of numbers or text, whatever their byte order and the width of the text."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        array = np.asarray(array)
        if array.dtype.kind in "iu":
            array = array.astype("<i8")
        if array.dtype.kind in "USO":
            texts = (v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel().tolist())
            digest.update("\0".join(texts).encode())
        else:
            digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return digest.hexdigest()


# -- the manifest --------------------------------------------------------------------------------------------


def _begin(out: Path, header: dict) -> list:
    _append(out, header)
    return []


def _append(out: Path, line: dict) -> None:
    with open(out / MANIFEST, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _lines(out: Path) -> list[dict]:
    """The manifest's whole lines; one that was cut off in writing is dropped."""
    text = (out / MANIFEST).read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _resume(out: Path, header: dict) -> list:
    """Lines of the chunks that are done, litter of the stopped run removed; refused where anything has changed."""
    lines = _lines(out)
    for path in [*out.glob(".*"), *(out / PARTS).glob(".*")]:
        if path.name != LOCK:
            path.unlink()
    if not lines:
        (out / MANIFEST).unlink()
        return _begin(out, header)
    before, *done = lines
    for what in header:
        if before.get(what) != header[what]:
            names = _differences(before.get(what), header[what])
            raise MassmapError(
                f"{out} was begun with another {what}{names}: resume with what it was begun with, or begin in another "
                "folder"
            )
    for line in done:
        if "done" not in line:
            part = out / PARTS / line["part"]
            if not part.exists() or part.stat().st_size != line["size"]:
                raise MassmapError(f"{part} is missing or was changed since it was written: begin in another folder")
    with told_as_sentence(out):
        (out / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return done


def _differences(before, now) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({before} before, {now} now)" if len(f"{before}{now}") < 100 else ""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    nested = [_differences(before.get(name), now.get(name)) for name in names]
    return f" ({', '.join(f'{name}{more}' for name, more in zip(names, nested, strict=True))})"


@contextlib.contextmanager
def _locked(out: Path):
    """No two runs in one folder; the lock ends with the process, however it ends."""
    import fcntl

    with open(out / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MassmapError(f"another run is writing to {out}: wait for it, or choose another folder") from None
        try:
            yield
        finally:
            (out / LOCK).unlink(missing_ok=True)


# -- checks and small things ---------------------------------------------------------------------------------


def _check(options: StreamOptions) -> None:
    if options.job.relation == "fit":
        raise MassmapError(
            "a catalogue in chunks needs a relation: fit it to a part that fits in memory (massmap-jax fit) and give "
            "the relation.npz that comes of it, or name a preset"
        )
    check_options(options.job)
    if options.method not in ("surface", "analytic"):
        raise MassmapError(f"method {options.method!r} is not known here: give surface or analytic")
    if options.format not in FORMATS:
        raise MassmapError(f"format {options.format!r} is not known here: give one of {', '.join(FORMATS)}")
    if options.chunk_rows < 1:
        raise MassmapError(f"chunk_rows is {options.chunk_rows}: give at least 1")
    if (options.map_centre is None) != (options.map_arcmin is None):
        raise MassmapError("a map needs both map_centre, in degrees, and map_arcmin, its side: give both or neither")
    if options.map_arcmin is not None and not 0 < options.map_arcmin <= 7200:
        raise MassmapError(f"map_arcmin is {options.map_arcmin:g}: give a side in arcmin above 0 and up to 7200")
    if options.map_centre is not None and options.job.relation_from == "other_data":
        raise MassmapError(
            "relation_from='other_data' needs the evidence of the whole catalogue before its map is drawn: fit the "
            "relation with these draws as prior and use this_catalogue, or choose fixed_draws"
        )
    known = dict.fromkeys([*DEFAULT_COLUMNS, *DESCRIPTIONS])
    unknown = [name for name in options.keep if name not in known]
    if unknown or not options.keep:
        listed = ", ".join(unknown) or "of no name"
        raise MassmapError(f"output columns {listed} are not known: choose among {', '.join(known)}")


def _sum(counts) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
