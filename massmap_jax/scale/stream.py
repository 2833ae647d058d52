"""Masses of a catalogue too large for memory: `stream` reads, computes and writes it one chunk at a time.

The folder that it writes:

    manifest.jsonl   first line: the options and the input; then one line for each finished chunk; last, the sums
    masses/          part-00000.parquet (or .fits), one for each chunk, with the rows in the catalogue's order
    surface.npz      the table in which the masses were interpolated (method "surface")
    mass_map.fits    the map, if one was asked for: its realisations are summed in the same pass
    run.json         from the command line: the call and its options, written at the end

A part is renamed into place only when it is complete, and then its line is added to the manifest, with its digest.
`resume` checks what was done by the digests, writes what is missing or was damaged again and continues after it. The
result has the same bytes as that of a run without interruption.

The manifest does not record the device, so a run may be resumed on another one. The bytes are the same on equal
devices; on others, masses that are integrated (not interpolated in surface.npz) may differ in the last digit.
"""

import contextlib
import importlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np

import massmap_jax
from massmap_jax import devices
from massmap_jax.catalogue.archives import read_npz, told_of_archive
from massmap_jax.catalogue.column_names import choose_column, id_columns
from massmap_jax.catalogue.flags import Flag, count
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.redshift_columns import is_uncertain
from massmap_jax.catalogue.write import atomic_file, ids_in_fits, write_table
from massmap_jax.choices import check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Range
from massmap_jax.likelihood.redshifts import place
from massmap_jax.maps.files import write_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.sums import MapSums
from massmap_jax.posterior.columns import KNOWN_COLUMNS, PROGRAM, column_info
from massmap_jax.posterior.mass_posterior import check_redshifts
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.posterior.surface_redshifts import errors_of, range_of_errors
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.presets import find_preset
from massmap_jax.run.beside_beliefs import beyond_all_masses, slips
from massmap_jax.run.completeness import Completeness, read_completeness
from massmap_jax.run.inputs import inputs_of
from massmap_jax.run.observable_names import check_observable, check_own_mass, refuse_falling
from massmap_jax.run.observable_options import observables_of
from massmap_jax.run.options import (
    JobOptions,
    check_options,
    draws_of_uncertain,
    load_prior,
    load_relation,
    selection_of,
    with_definition_of_relation,
)
from massmap_jax.run.outputs import RECORD, versions
from massmap_jax.run.under_published import in_unit_of, in_unit_of_relation, with_flags_of_part
from massmap_jax.scale import manifest
from massmap_jax.scale.chunks import SAMPLE_ROWS, Chunks
from massmap_jax.scale.manifest import PARTS, Manifest, digest_of
from massmap_jax.scale.parts import (
    MASS_COLUMNS,
    REDSHIFTS,
    blocks_of,
    check_columns,
    check_redshift_columns,
    columns_of_part,
    joined,
    meta_of,
    posterior_of_part,
    single_precision,
)
from massmap_jax.steps import Step

SURFACE, MAP, MAP_STATE = "surface.npz", "mass_map.fits", "map_state.npz"
# Chunks between two copies of the map's sums on disk; a resumed run continues from the last copy.
_MAP_EVERY = 8
DEFAULT_COLUMNS = ("id", *MASS_COLUMNS)
# Keywords that may name files beside the catalogue.
_REDSHIFT_FILES = ("z_grid", "z_code_prior")
FORMATS = ("parquet", "fits")
# The table reaches beyond the noise widths of the first chunk by this factor.
_SIGMA_MARGIN = 1.25
_LINES_AHEAD = 2
# Rows, and places in a file that they are read from, which tell where a table with errors of redshifts has to be right.
_OF_TABLE, _PLACES = 2**17, 8
_RESUME = "--resume"  # the option that continues a stopped run


@dataclass(frozen=True)
class StreamOptions:
    """Options of `stream`: everything beside the catalogue that decides the bytes of the result.

    Attributes
    ----------
    job : JobOptions
        Prior, relation, selection and seed, as in a run of the command line.
    columns : dict
        Keywords of `massmap_jax.read_catalogue` that name the columns (lum, z, sigma, ...).
    method : {"surface", "analytic"}
        "surface" interpolates the masses in a table, to 1 % of the posterior standard deviation. "analytic" integrates
        each object.
    chunk_rows : int
        Rows of a part. The memory needed is in proportion to it.
    keep : tuple of str, optional
        Columns to write; by default `DEFAULT_COLUMNS`, and z_mean and z_sd where redshifts are not exact.
    float32 : bool
        Write all numbers but ids in single precision.
    format : {"parquet", "fits"}
        Format of the parts.
    precision : {"float32", "float64"}
        Precision of the computation.
    map_centre : tuple of (float, float), optional
        Centre of the map: (RA, Dec) [deg], or (x, y) on a flat field [arcmin]. No map is made without it.
    map_arcmin : float, optional
        Side of the square map [arcmin].
    """

    job: JobOptions
    columns: dict
    method: str = "surface"
    chunk_rows: int = 1_000_000
    keep: tuple[str, ...] | None = None
    float32: bool = False
    format: str = "parquet"
    precision: str = "float32"
    map_centre: tuple[float, float] | None = None
    map_arcmin: float | None = None

    @property
    def uncertain(self) -> bool:
        """Whether redshifts are distributions."""
        return is_uncertain(self.columns)


def stream(
    source,
    out,
    options: StreamOptions,
    *,
    resume: bool = False,
    before: dict[str, str] | None = None,
    watch: Callable[[str], None] = lambda stage: None,
) -> dict:
    """Write the masses of a catalogue into a folder, chunk by chunk in constant memory.

    Parameters
    ----------
    source : str or Path
        A Parquet file or a folder of them, a FITS table (FILE[EXTENSION]), or CSV or whitespace-separated text.
        Repeated ids are found only within a chunk, because finding all of them would need every id in memory.
    out : str or Path
        The folder to write. It must not exist, unless `resume` is true.
    options : StreamOptions
        Columns, prior, relation, method and format.
    resume : bool
        Continue the run that was stopped in `out`.
    before : dict of str to str, optional
        The input of an earlier run that this one repeats, as its manifest has it. Another input is refused.
    watch : callable
        Called with a line of text that reports the finished rows.

    Returns
    -------
    dict
        The last line of the manifest: the number of parts ("done"), of rows ("rows") and of rows by flag ("flags"), and
        the number of rows outside the table's range ("beside_surface"); and "notes": what was guessed and converted in
        the first rows, and what was left out below the last.

    Raises
    ------
    MassmapError
        If the folder exists (or, with `resume`, does not), another run is writing to it, the input or an option has
        changed, a part of the input cannot be read, or the disk is full. The parts that were written stay and can be
        resumed.

    See Also
    --------
    massmap_jax.lsdb.write : The same on many machines.
    """
    keep = options.keep or DEFAULT_COLUMNS + (REDSHIFTS if options.uncertain else ())
    _check(options, keep)
    told: list[str] = []
    options = replace(options, keep=keep, job=with_definition_of_relation(options.job, told))
    out = Path(out)
    job = options.job
    manifest.check_folder(out, resume, _RESUME)
    mapping = dict(options.columns)
    if Path(source).is_dir() and Path(source).resolve() in [out.resolve(), *out.resolve().parents]:
        raise MassmapError(f"{out} is inside the catalogue's folder {source}: choose a folder outside of it")
    of_text = {name: mapping.pop(name, None) for name in ("names", "delimiter", "header")}
    chunks = Chunks(source, text_columns=id_columns(mapping.get("id")), **of_text)
    if before is not None and (other := chunks.differs_from(before)):
        raise MassmapError(
            f"{source} is not what the run that is repeated has read ({other} is another): give the catalogue on the "
            "command line to use it as it is"
        )
    header = {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "input": chunks.fingerprint(),
        "options": json.loads(json.dumps(asdict(options))),
    }
    prior = load_prior(job.prior, told)
    relation = load_relation(job, jax.random.split(jax.random.key(job.seed), 3)[0], prior)
    if options.uncertain:
        relation = draws_of_uncertain(relation, told)
        header["redshift file"] = inputs_of({name: mapping.get(name) for name in _REDSHIFT_FILES})
    if job.completeness is not None:
        header["completeness"] = inputs_of({"completeness": job.completeness})
    relation_from = job.relation_from or ("fixed_draws" if relation.num_draws > 1 else None)
    header["relation_from"] = check_relation_from(relation, relation_from)
    header["relation"] = digest_of(jax.tree.leaves(relation))
    header["prior"] = digest_of(jax.tree.leaves(prior))
    check_labels(relation=relation, mass_prior=prior)
    if job.relation == "identity":
        check_own_mass(prior.mass_definition, str(mapping.get("lum") or ""))

    run = _Run(out, header, options, mapping, prior, relation, relation_from, watch, chunks)
    # Read before the folder is made, so that an unreadable catalogue leaves no folder behind.
    first = None if resume else run.first_usable(chunks)
    with manifest.opened(out, header, resume=resume, option=_RESUME) as book:
        if options.method == "surface":
            with _nothing_left(out, unless=resume):
                run.load_surface(chunks, first, book)
        finished = book.total if run.sums is None or book.holds(MAP) else None
        if finished is None:
            run.restore_map(book)
        damaged = book.damaged(watch)
        if damaged:
            run.write_again(chunks, damaged, book)
        if finished is None:
            for line in run.lines(chunks, book.parts):
                book.add_part(line)
            run.write_map()
        elif not damaged:
            (out / MAP_STATE).unlink(missing_ok=True)
            return finished | {"notes": told + run.notes(chunks, finished)}
        if run.sums is not None:
            book.add_file(MAP)
        total = manifest.total_of(book.parts)
        if chunks.num_rows is not None and total["rows"] != chunks.num_rows:
            raise MassmapError(f"{total['rows']} rows were written of {chunks.num_rows}: the input changed meanwhile")
        if changed := chunks.differs_from(header["input"]):
            raise MassmapError(f"{changed} was changed while it was read: begin again, in another folder")
        book.finish(total)
        (out / MAP_STATE).unlink(missing_ok=True)
    return total | {"notes": told + run.notes(chunks, total)}


@contextlib.contextmanager
def _nothing_left(out: Path, *, unless: bool) -> Iterator[None]:
    """Remove a folder that was made for a table of masses which is then refused: it would be in the way of the next."""
    try:
        yield
    except MassmapError:
        if not unless:
            shutil.rmtree(out, ignore_errors=True)
        raise


def write_record(out: Path, record: dict, total: dict) -> None:
    """Write run.json of a finished run, with which `massmap-jax stream --config` repeats it.

    Parameters
    ----------
    out : Path
        The folder that `stream` wrote.
    record : dict
        What is to be said of the call; its "config" are the options by name.
    total : dict
        What `stream` returned.
    """
    config = record["config"]
    header = manifest.header_of(out)
    files = inputs_of({name: config.get(name) for name in ("relation", "prior", "completeness", *_REDSHIFT_FILES)})
    record = record | {
        "program": PROGRAM,
        "version": header["version"],
        "catalogue": config["catalogue"],
        "inputs": {"catalogue": {"path": config["catalogue"], "files": header["input"]}, **files},
        "parts": total["done"],
        "rows": total["rows"],
        "flags": total["flags"],
        "notes": total["notes"],
        "versions": versions(),
        "device": devices.describe(),
    }
    with atomic_file(out / RECORD, overwrite=True) as path:
        path.write_text(json.dumps(record, indent=2) + "\n")


class _Run:
    """A run in progress: one thread reads ahead, one computes and one writes, with the chunks in order."""

    def __init__(self, out, header, options, mapping, prior, relation, relation_from, watch, chunks):
        self.out, self.header, self.options, self.mapping = out, header, options, mapping
        self.num_rows, self.sample = chunks.num_rows, chunks.sample()
        self.keep = options.keep or DEFAULT_COLUMNS
        self.prior, self.relation, self.relation_from = prior, relation, relation_from
        self.watch, self.surface, self.sums = watch, None, None
        self.rows_read = 0
        self.preset = find_preset(str(options.job.relation)) if options.job.is_published else None
        self.told = []
        self.first = self._first_rows()
        job, unit = self._by_first_rows()
        self.selection = selection_of(job, unit, self._completeness(unit))
        self.meta = meta_of(prior, relation, relation_from, options.method) | {"seed": options.job.seed}
        if options.map_centre is not None:
            self.sums = self._map_sums(mapping)

    def _first_rows(self) -> HaloCatalogue | None:
        """Read the first rows; None where they cannot be read, which is for their own chunk to say."""
        if self.sample is not None:
            with contextlib.suppress(MassmapError):
                return read_catalogue(self.sample, need_usable=False, need_positions=False, **self.mapping)
        return None

    def _by_first_rows(self) -> tuple[JobOptions, str]:
        """Compare the first rows with the relation before anything is computed; the options in the unit they are read
        in, and that unit."""
        job, unit = self.options.job, self.mapping.get("lum_in") or self.mapping.get("lum_unit") or ""
        first = self.first
        if first is None:
            return job, unit
        if self.preset is not None:
            check_observable(self.preset, first.columns_read.get("lum", ""), self.told)
            job, first = in_unit_of_relation(job, first, self.relation, self.told)
        elif job.relation == "identity":
            check_own_mass(self.prior.mass_definition, first.columns_read.get("lum", ""), first.mass_definition)
        if job.is_file and isinstance(self.relation, MassLuminosityRelation):
            refuse_falling(first.columns_read.get("lum", ""), self.relation, self.told)
        check_labels(catalogue=first, relation=self.relation, mass_prior=self.prior)
        some = first.usable
        if too := beyond_all_masses(first.ln_lum_obs[some], first.redshift[some], self.relation, self.prior):
            of = first.ln_lum_obs[some], first.redshift[some], self.relation, self.prior
            raise MassmapError(too + (slips(str(job.relation), *of) if job.is_file else ""))
        return job, first.lum_unit or unit

    def _completeness(self, unit: str) -> Completeness | None:
        """Read the completeness of the catalogue, if one is given, as one of the unit that the masses are computed in.

        The first rows tell which luminosity it is one of."""
        if self.options.job.completeness is None:
            return None
        if self.first is None:
            raise MassmapError(
                "completeness= is given, and the beginning of the catalogue, which has to tell the unit of its"
                " luminosity, cannot be read: look at the columns that are named"
            )
        told: list[str] = []
        found = read_completeness(self.mapping, self.options.job, self.first, told)
        # How many of the first rows are beyond the table tells nothing of the others.
        self.told.extend(told[:1])
        return None if found is None else found.in_unit(unit or self.relation.lum_unit)

    def _map_sums(self, mapping) -> MapSums:
        """Make the empty sums of the map on its grid, with one relation draw per realisation."""
        job, side = self.options.job, self.options.map_arcmin
        pixel = job.pixel_arcmin or side / 64
        flat = mapping.get("position_unit") == "arcmin" and mapping.get("field_centre") is None
        number = int(np.ceil(side / pixel - 1e-9))
        grid = PixelGrid("flat" if flat else "tangent", (number, number), pixel, self.options.map_centre)
        key_relation, key_mass = jax.random.split(jax.random.split(jax.random.key(job.seed), 3)[2])
        chosen = self.relation.pick(key_relation, job.num_map_draws)
        return MapSums(grid, MassSamples(self.prior, chosen, key_mass, "table"))

    def restore_map(self, book: Manifest) -> None:
        """Load the map's sums as they were last saved, and drop later chunks from the manifest so that they are done
        again: all of them if there are no sums, or not those of these chunks."""
        if self.sums is None:
            return
        path, number = self.out / MAP_STATE, 0
        with contextlib.suppress(MassmapError), told_of_archive(f"{path}", "cannot be read"):
            state = read_npz(path)
            saved, digest = int(state["chunks"]), str(state.pop("digest"))
            if 0 < saved <= len(book.parts) and digest == self._digest_of_map(state, book.parts[:saved]):
                self.sums.restore(state)
                number = saved
        book.keep(book.parts[:number], [SURFACE])

    def _copy_of_map(self, number: int) -> dict:
        """Copy the sums after `number` chunks, to be written once those chunks are in the manifest."""
        return {"chunks": np.array(number), **{name: a.copy() for name, a in self.sums.state().items()}}

    def _digest_of_map(self, state: dict, parts: list[dict]) -> str:
        """Hash the map's sums and what they are sums of."""
        of = np.array([json.dumps(self.header), *(line["id_hash"] for line in parts)])
        return digest_of([of, *(state[name] for name in sorted(state))])

    def _save_map(self, state: dict, parts: list[dict]) -> None:
        """Write the map's sums after these parts."""
        with atomic_file(self.out / MAP_STATE, overwrite=True) as path, open(path, "wb") as file:
            np.savez(file, **state, digest=np.array(self._digest_of_map(state, parts)))

    def write_map(self) -> None:
        """Write mass_map.fits from the sums, if a map was asked for."""
        if self.sums is not None:
            relation = self.relation.as_batch()
            image = self.sums.finish(ess=relation.effective_draws, relation_from=self.relation_from)
            write_map(self.out / MAP, image, self.meta, overwrite=True)

    def write_again(self, chunks: Chunks, damaged: list[int], book: Manifest) -> None:
        """Write damaged parts again, in one pass over the chunks from the first of them to the last."""
        first, parts = damaged[0], list(book.parts)
        self.rows_read = sum(line["rows"] for line in parts[:first])
        tables = chunks.read(self.options.chunk_rows, first)
        for number in range(first, damaged[-1] + 1):
            catalogue = self._next(tables)
            if catalogue is None:
                raise MassmapError(f"{chunks.path} ends before part {number}: the input changed meanwhile")
            if number in damaged:
                parts[number] = self._write(number, catalogue, *self._masses(catalogue, to_map=False))
            self.watch(Step("writing damaged parts again", number - first + 1, damaged[-1] - first + 1, "parts"))
        book.keep(parts, [SURFACE])

    def lines(self, chunks: Chunks, done: list) -> Iterator[dict]:
        """Yield the manifest lines of the chunks that are not done yet, each once its part is in place."""
        began, rows_before = time.monotonic(), sum(line["rows"] for line in done)
        rows = rows_before
        tables = chunks.read(self.options.chunk_rows, len(done))
        self.rows_read = rows_before
        _import_for_threads()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                ahead = reader.submit(self._next, tables)
                number, written = len(done), []
                while (catalogue := ahead.result()) is not None:
                    ahead = reader.submit(self._next, tables)
                    columns, beside = self._masses(catalogue)
                    number += 1
                    state = self._copy_of_map(number) if self.sums is not None and number % _MAP_EVERY == 0 else None
                    part = writer.submit(self._write, number - 1, catalogue, columns, beside)
                    written.append((part, state))
                    while len(written) > _LINES_AHEAD:
                        rows += yield from self._finished(*written.pop(0), done)
                        self._say(rows, (rows - rows_before) / (time.monotonic() - began))
                for part, state in written:
                    yield from self._finished(part, state, done)
            finally:
                reader.shutdown(cancel_futures=True)
                writer.shutdown(cancel_futures=True)

    def _finished(self, part, state, done):
        """Yield the line of a part once it is in place, then save the map's sums; return the number of its rows."""
        line = part.result()
        yield line
        if state is not None:
            self._save_map(state, done)  # the caller has added the line
        return line["rows"]

    def _say(self, rows, rate):
        """Report the finished rows: of how many, where that is known, or else at which rate."""
        known = self.num_rows is not None
        self.watch(Step("masses", rows, self.num_rows, "rows") if known else f"{rows:,} rows ({rate:,.0f} a second)")

    def _next(self, tables: Iterator) -> HaloCatalogue | None:
        """Read the next chunk, or None at the end; an error says at which row the chunk begins."""
        try:
            table = next(tables, None)
            return None if table is None else self._catalogue(table)
        except MassmapError as error:
            if self.rows_read == 0:
                raise
            raise MassmapError(f"{error} (in the chunk that begins at row {self.rows_read})") from error

    def _catalogue(self, table) -> HaloCatalogue:
        """Turn a table into a catalogue; without an id column, ids are the row numbers in the whole catalogue."""
        placed = self.sums is not None or not {"ra", "dec"}.isdisjoint(self.keep)
        table = replace(table, sample=self.sample)
        catalogue = self._in_unit(read_catalogue(table, need_usable=False, need_positions=placed, **self.mapping))
        if choose_column(table, "id", self.mapping.get("id"), "id")[0] is None:
            # Row numbers in the whole catalogue, not in the chunk.
            catalogue = replace(catalogue, ids=self.rows_read + np.arange(len(catalogue)))
        self.rows_read += len(catalogue)
        return catalogue

    def _in_unit(self, catalogue: HaloCatalogue) -> HaloCatalogue:
        """Bring luminosities to the unit of a published relation, as `run` does."""
        return catalogue if self.preset is None else in_unit_of(catalogue, self.relation, [])

    def notes(self, chunks: Chunks, total: dict) -> list[str]:
        """What was guessed and converted in reading the first rows, what was left out below the last, and whether most
        of them are outside the range of a published relation."""
        rows: int = total["rows"]
        notes = () if self.first is None else self.first.notes
        outside = total["flags"].get(Flag.OUTSIDE_RELATION.name, 0)
        where = f"in the first {SAMPLE_ROWS:,} rows: " if rows > SAMPLE_ROWS else ""
        most = [
            f"more than half of the rows, {outside:,} of {rows:,}, lie outside the masses or redshifts that the"
            f" relation {self.options.job.relation} was measured for (OUTSIDE_RELATION): see whether the relation and"
            " the unit of the luminosity are right"
        ]
        return [*(f"{where}{note}" for note in notes), *self.told, *most[: outside > 0.5 * rows], *chunks.footer]

    def first_usable(self, chunks: Chunks) -> HaloCatalogue:
        """Return the first chunk with a usable row; refuse a catalogue without one."""
        self.rows_read = 0
        tables = chunks.read(self.options.chunk_rows)
        while (catalogue := self._next(tables)) is not None:
            if catalogue.usable.any():
                if self.sums is not None and catalogue.ra is None:
                    raise MassmapError("the catalogue has no positions: a map needs ra and dec")
                if catalogue.redshift_distributions is not None:
                    given = self.relation, self.relation_from, self.options.method, self.selection
                    check_redshifts(catalogue, *given)
                    # Refuses a mass prior that does not say how many halos there are.
                    place(catalogue, np.flatnonzero(catalogue.usable)[:1], self.prior)
                return catalogue
        if self.rows_read == 0:
            raise MassmapError(f"{chunks.path} has no rows: give a catalogue with at least one object")
        raise MassmapError(f"no row of {chunks.path} can be used: check the columns and their units")

    def load_surface(self, chunks: Chunks, first: HaloCatalogue | None, book: Manifest) -> None:
        """Load the table of method "surface" from the folder, or make and save it."""
        path = self.out / SURFACE
        if book.holds(SURFACE):
            self.surface = PosteriorSurface.load(path)
            return
        first = first or self.first_usable(chunks)
        sigma = first.sigma_ln_lum[first.usable]
        where = self._range(chunks, _widened(float(sigma.min()), float(sigma.max())))
        known, objects = first.redshift_distributions, None
        if known is not None:
            some = [catalogue.subset(catalogue.usable) for catalogue in self._spread_over(chunks, first)]
            columns = [(c.ln_lum_obs, c.redshift, c.sigma_ln_lum, errors_of(c)) for c in some]
            objects = tuple(np.concatenate(values) for values in zip(*columns, strict=True))
            sigma = _widened(*map(float, np.quantile(objects[2], [0.0, 1.0])))
            where = where._replace(sigma=sigma, redshift_error=_widened(*range_of_errors(objects[3])))
        self.surface = PosteriorSurface.build(
            self.prior,
            self.relation,
            where,
            relation_from=self.relation_from,
            selection=self.selection,
            redshifts=known,
            objects=objects,
            watch=self.watch,
        )
        self.surface.save(path)
        book.add_file(SURFACE)

    def _spread_over(self, chunks: Chunks, first: HaloCatalogue) -> Iterator[HaloCatalogue]:
        """Give the first chunk with a usable row; of a Parquet file, rows from all over it, too: it may be sorted."""
        yield first.subset(slice(0, _OF_TABLE))
        size = min(self.options.chunk_rows, _OF_TABLE)
        number = 0 if chunks.num_rows is None else chunks.num_rows // size
        for skip in np.unique(np.linspace(0, number - 1, _PLACES).round().astype(int)) if number > 1 else ():
            read_before = self.rows_read
            with contextlib.suppress(MassmapError):  # their own chunk says so
                tables = chunks.read(size, int(skip))
                catalogue = self._next(tables)
                if catalogue is not None:
                    yield catalogue
            self.rows_read = read_before

    def _range(self, chunks: Chunks, sigma: tuple[float, float]) -> Range:
        """Find the range of the objects from the file's own statistics, or else take the range of the prior."""
        ln_lum, z = [-np.inf, np.inf], [self.prior.z_min, min(self.prior.z_max, 20.0)]
        ends = chunks.extremes()
        if ends is not None:
            unnamed = {name: value for name, value in self.mapping.items() if name not in ("id", "duplicate_ids")}
            with contextlib.suppress(MassmapError):  # the statistics cannot be used: keep the prior's range
                found = self._in_unit(
                    read_catalogue(ends, need_usable=False, need_positions=False, duplicate_ids="row_number", **unnamed)
                )
                ln_lum = [v if np.isfinite(v) else end for v, end in zip(found.ln_lum_obs, ln_lum, strict=True)]
                z = [v if np.isfinite(v) else end for v, end in zip(found.redshift, z, strict=True)]
                z = [min(max(v, self.prior.z_min), self.prior.z_max) for v in z]
        return Range(tuple(ln_lum), tuple(z), sigma)

    def _masses(self, catalogue: HaloCatalogue, *, to_map: bool = True) -> tuple[dict, int]:
        """Compute the columns of a chunk, and count its rows outside the table's range; add it to the map."""
        found, beside = [], 0
        for part in blocks_of(catalogue):
            posterior = self._posterior(part)
            if to_map:
                self._add_to_map(part, posterior)
            columns, outside = self._columns(part, posterior)
            found.append(columns)
            beside += outside
        return joined(found), beside

    def _posterior(self, catalogue: HaloCatalogue) -> MassPosterior | None:
        """Compute the masses of a part; None if none of its rows can be used."""
        posterior = posterior_of_part(
            catalogue,
            self.prior,
            self.relation,
            relation_from=self.relation_from,
            selection=self.selection,
            method=self.options.method,
            surface=self.surface,
        )
        return posterior if posterior is None or self.preset is None else with_flags_of_part(posterior, self.preset)

    def _add_to_map(self, catalogue: HaloCatalogue, posterior: MassPosterior | None) -> None:
        """Add a part to the sums of the map, if one was asked for."""
        if self.sums is not None:
            self.sums.n_flagged += len(catalogue) if posterior is None else 0
            if posterior is not None:
                self.sums.add(catalogue, posterior)

    def _columns(self, catalogue: HaloCatalogue, posterior: MassPosterior | None) -> tuple[dict, int]:
        """List the columns of a part, and count its rows outside the table's range."""
        columns = columns_of_part(catalogue, self.prior, posterior, self.keep)
        return columns, 0 if posterior is None else posterior.num_beside_surface

    def _write(self, number, catalogue, columns, beside) -> dict:
        """Write a part and return its line of the manifest; check the ids of the written file."""
        options = self.options
        if options.float32:
            columns = single_precision(columns)
        name = f"part-{number:05d}.{options.format}"
        path = self.out / PARTS / name
        write_table(path, columns, self.meta, **column_info(columns), overwrite=True)
        line = manifest.line_of_part(path, len(catalogue))
        line["flags"] = count(columns["flag"]) if "flag" in columns else count(catalogue.flag)
        line["beside_surface"] = beside
        line["id_hash"] = digest_of([catalogue.ids])
        held = ids_in_fits(catalogue.ids) if options.format == "fits" else catalogue.ids
        if "id" in columns and _ids_of(path) != digest_of([held]):
            raise MassmapError(f"the ids in {path} are not those of the catalogue: the disk or the file system failed")
        return line


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range with a margin for what other chunks hold; none where all is the same."""
    margin = 1.0 if low == high else _SIGMA_MARGIN
    return low / margin, high * margin


def _import_for_threads() -> None:
    """Import what reading and writing would import when they need it.

    Modules of astropy import each other. Two threads that do so at the same time may each wait for the other, and
    Python then ends one of them with a _DeadlockError.
    """
    for name in ("astropy.table", "astropy.io.fits", "astropy.io.misc.yaml", "pandas", "pyarrow.parquet"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _ids_of(path: Path) -> str:
    """Hash the ids in a written part."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        from massmap_jax.catalogue.tables import from_arrow

        return digest_of([from_arrow(pq.read_table(path, columns=["id"], partitioning=None), str(path)).column("id")])
    from astropy.table import Table

    return digest_of([np.asarray(Table.read(path, character_as_bytes=False)["id"])])


# -- checks ---------------------------------------------------------------------------------


def _check(options: StreamOptions, keep: tuple[str, ...]) -> None:
    """Refuse options that no catalogue could make valid."""
    if options.job.relation in (None, "fit"):
        raise MassmapError(
            "a catalogue in chunks needs a relation: fit it to a part that fits in memory (massmap-jax fit) and give "
            "the relation.npz that it writes, or name a published relation"
        )
    if names := observables_of(options.job.relation):
        raise MassmapError(
            f"the relation {options.job.relation} is one of {', '.join(names)} beside the luminosity, and a stream"
            " reads the luminosity alone: use massmap-jax run on parts that fit in memory, with its --observable"
        )
    check_options(replace(options.job, make_map=options.map_centre is not None))
    if options.method not in ("surface", "analytic"):
        raise MassmapError(f"method {options.method!r} is not known here: give surface or analytic")
    if options.method == "surface" and options.columns.get("noise") == "linear":
        raise MassmapError(
            "with noise='linear' a posterior surface is made for a narrow range of objects only: give method='analytic'"
        )
    if options.method == "surface" and options.uncertain and options.columns.get("z_err") is None:
        raise MassmapError(
            "a posterior surface takes redshifts that are exact or have a normal error, z_err=, and not p(z) of any"
            " shape: give method='analytic'"
        )
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
    check_columns(keep, ("id", *MASS_COLUMNS, *KNOWN_COLUMNS))
    check_redshift_columns(keep, options.uncertain)
