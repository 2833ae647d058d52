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
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue.column_names import choose_column, id_columns
from massmap_jax.catalogue.flags import count
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.write import atomic_file, ids_in_fits, write_table
from massmap_jax.choices import check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Range
from massmap_jax.maps.files import write_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.sums import MapSums
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.run.options import (
    JobOptions,
    check_options,
    load_prior,
    load_relation,
    selection_of,
)
from massmap_jax.run.outputs import DESCRIPTIONS, PROGRAM, UNITS
from massmap_jax.scale import manifest
from massmap_jax.scale.chunks import Chunks
from massmap_jax.scale.manifest import MANIFEST, PARTS, digest_of
from massmap_jax.scale.parts import (
    MASS_COLUMNS,
    check_columns,
    columns_of_part,
    meta_of,
    posterior_of_part,
    single_precision,
)

SURFACE, MAP, MAP_STATE = "surface.npz", "mass_map.fits", "map_state.npz"
# Chunks between two copies of the map's sums on the disk: a resumed run begins at the last.
_MAP_EVERY = 8
DEFAULT_COLUMNS = ("id", *MASS_COLUMNS)
FORMATS = ("parquet", "fits")
# Noise widths beyond those of the first chunk, by this factor, are in the table too.
_SIGMA_MARGIN = 1.25
_LINES_AHEAD = 2
_RESUME = "--resume"  # what a person passes to go on


@dataclass(frozen=True)
class StreamOptions:
    """What decides the bytes that are written, beside the catalogue.

    columns : `read_catalogue`'s keywords. job : prior, relation, seed. chunk_rows : rows of a part.
    method : "surface" or "analytic". precision : of the device, "float32" or "float64".
    keep : columns to write. format : "parquet" or "fits". float32 : numbers but ids as float32.
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
        Repeated ids are found within a chunk only: to find all would hold every id in memory.
    out : folder, new unless `resume`, which goes on with a run that was stopped.
    options : what decides the bytes.
    watch : called with a line on rows done, rate and time left.

    Raises
    ------
    MassmapError : the folder exists (or, to resume, does not), another run is writing to it, the input or an option
        changed since, an unreadable part of the input, a full disk. What was done stays and can be resumed.
    """
    _check(options)
    out = Path(out)
    job = options.job
    manifest.check_folder(out, resume, _RESUME)
    mapping = dict(options.columns)
    if Path(source).is_dir() and Path(source).resolve() in [out.resolve(), *out.resolve().parents]:
        raise MassmapError(f"{out} is inside the catalogue's folder {source}: choose a folder outside of it")
    of_text = {name: mapping.pop(name, None) for name in ("names", "delimiter", "header")}
    chunks = Chunks(source, text_columns=id_columns(mapping.get("id")), **of_text)
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
    header["relation"] = digest_of(jax.tree.leaves(relation))
    header["prior"] = digest_of(jax.tree.leaves(prior))
    check_labels(relation=relation, mass_prior=prior)

    run = _Run(out, options, mapping, prior, relation, relation_from, watch, chunks.num_rows)
    # Before there is a folder: what is wrong with every chunk leaves none.
    first = None if resume else run.first_usable(chunks)
    with manifest.opened(out, header, resume=resume, option=_RESUME) as done:
        if done and "done" in done[-1]:
            (out / MAP_STATE).unlink(missing_ok=True)
            return done[-1]
        run.restore_map(done)
        if options.method == "surface":
            run.load_surface(chunks, first)
        for line in run.lines(chunks, done):
            manifest.append(out, line)
            done.append(line)
        run.write_map()
        total = manifest.total_of(done)
        if chunks.num_rows is not None and total["rows"] != chunks.num_rows:
            raise MassmapError(f"{total['rows']} rows were written of {chunks.num_rows}: the input changed meanwhile")
        if changed := chunks.changed_since(header["input"]):
            raise MassmapError(f"{changed} was changed while it was read: begin again, in another folder")
        manifest.append(out, total)
        (out / MAP_STATE).unlink(missing_ok=True)
    return total


class _Run:
    """Reading ahead, computing, writing behind: each in a thread of its own, chunks in order."""

    def __init__(self, out, options, mapping, prior, relation, relation_from, watch, num_rows):
        self.out, self.options, self.mapping, self.num_rows = out, options, mapping, num_rows
        self.prior, self.relation, self.relation_from = prior, relation, relation_from
        self.watch, self.selection = (
            watch,
            selection_of(options.job, mapping.get("lum_in") or mapping.get("lum_unit") or ""),
        )
        self.surface, self.sums = None, None
        self.rows_read = 0
        self.meta = meta_of(prior, relation, relation_from, options.method) | {"seed": options.job.seed}
        if options.map_centre is not None:
            self.sums = self._map_sums(mapping)

    def _map_sums(self, mapping) -> MapSums:
        job, side = self.options.job, self.options.map_arcmin
        pixel = job.pixel_arcmin or side / 64
        flat = mapping.get("position_unit") == "arcmin" and mapping.get("field_centre") is None
        number = int(np.ceil(side / pixel - 1e-9))
        grid = PixelGrid("flat" if flat else "tangent", (number, number), pixel, self.options.map_centre)
        key_relation, key_mass = jax.random.split(jax.random.split(jax.random.key(job.seed), 3)[2])
        chosen = self.relation.pick(key_relation, job.num_map_draws)
        return MapSums(grid, MassSamples(self.prior, chosen, key_mass, "table"))

    def restore_map(self, done: list) -> None:
        """The map's sums as they were last saved; what was done since is done again."""
        if self.sums is None:
            return
        path = self.out / MAP_STATE
        state = dict(np.load(path)) if path.exists() else {"chunks": np.array(0)}
        del done[int(state["chunks"]) :]
        if done:
            self.sums.restore(state)
        header = json.loads((self.out / MANIFEST).read_text().splitlines()[0])
        manifest.rewrite(self.out, [header, *done])

    def _save_map(self, number: int) -> dict:
        """A copy of the sums after so many chunks, to be written once those are in the manifest."""
        return {"chunks": np.array(number), **{name: a.copy() for name, a in self.sums.state().items()}}

    def write_map(self) -> None:
        if self.sums is not None:
            relation = self.relation.as_batch()
            image = self.sums.finish(ess=relation.effective_draws, relation_from=self.relation_from)
            write_map(self.out / MAP, image, self.meta, overwrite=True)

    def lines(self, chunks: Chunks, done: list) -> Iterator[dict]:
        """Manifest lines of the chunks that are not done yet; a line comes once its part is in place."""
        began, rows_before = time.monotonic(), sum(line["rows"] for line in done)
        rows = rows_before
        tables = chunks.read(self.options.chunk_rows, len(done))
        self.rows_read = rows_before
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                ahead = reader.submit(self._next, tables)
                number, written = len(done), []
                while (catalogue := ahead.result()) is not None:
                    ahead = reader.submit(self._next, tables)
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

    def _next(self, tables: Iterator) -> HaloCatalogue | None:
        """The next chunk; an error's rows are the chunk's, so it says where that begins."""
        try:
            table = next(tables, None)
            return None if table is None else self._catalogue(table)
        except MassmapError as error:
            if self.rows_read == 0:
                raise
            raise MassmapError(f"{error} (in the chunk that begins at row {self.rows_read})") from error

    def _catalogue(self, table) -> HaloCatalogue:
        catalogue = read_catalogue(table, need_usable=False, **self.mapping)
        if choose_column(table, "id", self.mapping.get("id"), "id")[0] is None:
            # Row numbers of the whole catalogue, not of the chunk.
            catalogue = replace(catalogue, ids=self.rows_read + np.arange(len(catalogue)))
        self.rows_read += len(catalogue)
        return catalogue

    def first_usable(self, chunks: Chunks) -> HaloCatalogue:
        """The first chunk with a row that can be used; refused where there is none."""
        self.rows_read = 0
        tables = chunks.read(self.options.chunk_rows)
        while (catalogue := self._next(tables)) is not None:
            if catalogue.usable.any():
                if self.sums is not None and catalogue.ra is None:
                    raise MassmapError("the catalogue has no positions: a map needs ra and dec")
                return catalogue
        if self.rows_read == 0:
            raise MassmapError(f"{chunks.path} has no rows: give a catalogue with at least one object")
        raise MassmapError(f"no row of {chunks.path} can be used: check the columns and their units")

    def load_surface(self, chunks: Chunks, first: HaloCatalogue | None) -> None:
        path = self.out / SURFACE
        if path.exists():
            self.surface = PosteriorSurface.load(path)
            return
        first = first or self.first_usable(chunks)
        sigma = first.sigma_ln_lum[first.usable]
        one = np.ptp(sigma) == 0
        margin = 1.0 if one else _SIGMA_MARGIN
        where = self._range(chunks, (sigma.min() / margin, sigma.max() * margin))
        self.surface = PosteriorSurface.build(
            self.prior,
            self.relation,
            where,
            relation_from=self.relation_from,
            selection=self.selection,
            watch=self.watch,
        )
        self.surface.save(path)

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
        posterior = posterior_of_part(
            catalogue,
            self.prior,
            self.relation,
            relation_from=self.relation_from,
            selection=self.selection,
            method=self.options.method,
            surface=self.surface,
        )
        if self.sums is not None:
            self.sums.n_flagged += len(catalogue) if posterior is None else 0
            if posterior is not None:
                self.sums.add(catalogue, posterior)
        columns = columns_of_part(catalogue, self.prior, posterior, self.options.keep)
        return columns, 0 if posterior is None else posterior.num_beside_surface

    def _write(self, number, catalogue, columns, beside) -> dict:
        options = self.options
        if options.float32:
            columns = single_precision(columns)
        name = f"part-{number:05d}.{options.format}"
        path = self.out / PARTS / name
        write_table(path, columns, self.meta, UNITS, DESCRIPTIONS, overwrite=True)
        line = {"part": name, "rows": len(catalogue), "size": path.stat().st_size}
        line["flags"] = count(columns["flag"]) if "flag" in columns else count(catalogue.flag)
        line["beside_surface"] = beside
        line["id_hash"] = digest_of([catalogue.ids])
        held = ids_in_fits(catalogue.ids) if options.format == "fits" else catalogue.ids
        if "id" in columns and _ids_of(path) != digest_of([held]):
            raise MassmapError(f"the ids in {path} are not those of the catalogue: the disk or the file system failed")
        return line


def _ids_of(path: Path) -> str:
    """Hash of the ids in a written part."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        from massmap_jax.catalogue.tables import from_arrow

        return digest_of([from_arrow(pq.read_table(path, columns=["id"], partitioning=None), str(path)).column("id")])
    from astropy.table import Table

    return digest_of([np.asarray(Table.read(path, character_as_bytes=False)["id"])])


# -- checks and small things ---------------------------------------------------------------------------------


def _check(options: StreamOptions) -> None:
    if options.job.relation in (None, "fit"):
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
    check_columns(options.keep, ("id", *MASS_COLUMNS, *DESCRIPTIONS))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
