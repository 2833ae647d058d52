"""Masses, maps and the relation of a catalogue on many machines: an LSDB `Catalog` or a dask DataFrame in.

    mass_posterior   the same lazy catalogue with mass columns
    write            its masses as a folder of Parquet parts; a run that was stopped is resumed
    mass_map         the map of `maps.mass_map`, summed over partitions
    fit_relation     the fit of `relation_fit.fit_relation`, its data compressed partition by partition

`dask.distributed`'s client, where there is one, does the work; else dask's threads. Workers are processes: one thread
each, since the compiled code uses a core or more by itself. A worker that is lost costs the partitions it was at.
"""

import json
from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue.flags import REASONS, UNUSABLE, count
from massmap_jax.catalogue.halo_catalogue import id_hash
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.write import write_table
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Range, flag_of_part
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.maps.draws import MassDraws
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.sums import MapSums
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points
from massmap_jax.relation.data import SMOOTH, CatalogueData, refuse_start
from massmap_jax.run.outputs import DESCRIPTIONS, PROGRAM, UNITS
from massmap_jax.scale import manifest
from massmap_jax.scale.manifest import PARTS, digest_of
from massmap_jax.scale.partitions import Held, Partitions, Reading, finished
from massmap_jax.scale.parts import (
    MASS_COLUMNS,
    check_columns,
    columns_of_part,
    meta_of,
    posterior_of_part,
    single_precision,
)

if TYPE_CHECKING:  # they bring NumPyro, which workers can do without
    from massmap_jax.relation.beliefs import RelationPrior
    from massmap_jax.relation.fitted import RelationPosterior

METHODS = ("surface", "analytic")
SURFACE = "surface.npz"
_RESUME = "resume=True"
# Of ids, in each partition, that are compared with those of the others: the ones with the smallest hashes.
_COMPARED = 256
# Columns of `MassPosterior.to_table` that a catalogue has itself, under its own names.
_OWN = ("id", "ra", "dec", "x", "y", "z", "ln_lum_obs", "sigma_ln_lum", "log10_mass_true", "r_hat", "divergences")


# -- masses -------------------------------------------------------------------------------------------------------


class MassColumns:
    """Mass columns of a partition: a function for `map_partitions`, of pandas and nested-pandas frames alike.

    Rows, their order, the index and the columns that were there are left as they are, in their dtypes. A row that
    cannot be used has NaN and a flag that says why.

        function = MassColumns(ddf._meta, prior, relation, columns={"lum": "L", "z": "z"})
        ddf.map_partitions(function, meta=function.meta)

    Parameters
    ----------
    meta : empty frame with the columns, dtypes and index of the partitions.
    columns : `read_catalogue`'s keywords; what is left out is guessed as there. Units are not guessed from metadata.
    surface : for method "surface", a `PosteriorSurface` of the same prior, relation, relation_from and selection.
    prior, relation, relation_from, method, selection : as in `massmap_jax.mass_posterior`.
    keep : mass columns (`parts.MASS_COLUMNS`, or any of `MassPosterior.to_table` but those of the catalogue itself).
    prefix : of their names. float32 : numbers in single precision.

    Attributes
    ----------
    meta : the empty frame with the mass columns added.

    Raises
    ------
    MassmapError : a column that is missing or cannot be what it is asked for, a name that the catalogue has already.
    """

    def __init__(
        self,
        meta,
        prior: MassPrior,
        relation,
        *,
        columns: dict | None = None,
        relation_from: RelationFrom | None = None,
        method: str = "analytic",
        selection=None,
        surface: PosteriorSurface | None = None,
        keep=MASS_COLUMNS,
        prefix: str = "",
        float32: bool = False,
    ):
        if method not in METHODS:
            raise MassmapError(f"method {method!r} is not known here: give one of {', '.join(METHODS)}")
        if method == "surface" and surface is None:
            raise MassmapError("method 'surface' needs surface=, which lsdb.posterior_surface makes of a catalogue")
        check_columns(keep, [name for name in (*MASS_COLUMNS, *DESCRIPTIONS) if name not in _OWN])
        check_labels(relation=relation, mass_prior=prior)
        taken = [prefix + name for name in keep if prefix + name in meta.columns]
        if taken:
            raise MassmapError(f"the catalogue has columns {', '.join(taken)} already: give prefix='massmap_', say")
        self.reading = Reading.of(meta, columns)
        self.keep, self.prefix, self.float32 = tuple(keep), prefix, float32
        relation_from = check_relation_from(relation, relation_from)
        options = {"relation_from": relation_from, "method": method}
        self.held = Held(
            {"prior": prior, "relation": relation, "selection": selection, "surface": surface, "options": options}
        )
        empty = {name: np.zeros(0, dtype=np.int32 if name == "flag" else np.float64) for name in self.keep}
        if "flag_reason" in empty:
            empty["flag_reason"] = np.zeros(0, dtype=str)
        self.meta = self._with(meta, empty)

    def __call__(self, partition):
        catalogue = self.reading.catalogue(partition)
        if catalogue is None:
            return self._with(partition, {name: self.meta[self.prefix + name].to_numpy() for name in self.keep})
        return self._with(partition, self.masses(catalogue)[0])

    def masses(self, catalogue) -> tuple[dict[str, np.ndarray], int]:
        """Mass columns of some objects, and how many were beside the surface."""
        held = self.held.value
        posterior = posterior_of_part(
            catalogue,
            held["prior"],
            held["relation"],
            selection=held["selection"],
            surface=held["surface"],
            **held["options"],
        )
        columns = columns_of_part(catalogue, held["prior"], posterior, self.keep)
        return columns, 0 if posterior is None else posterior.num_beside_surface

    def _with(self, partition, columns):
        columns = single_precision(columns) if self.float32 else columns
        made = partition.assign(**{self.prefix + name: values for name, values in columns.items()})
        if "flag_reason" in columns:  # an empty text column has no dtype of its own
            made[self.prefix + "flag_reason"] = made[self.prefix + "flag_reason"].astype("str")
        return made

    def __dask_tokenize__(self):
        reading = self.reading
        return (
            massmap_jax.__version__,
            *(self.held.name, self.keep, self.prefix, self.float32),
            *(tuple(reading.kinds.items()), repr(sorted(reading.mapping.items()))),
        )


def mass_posterior(
    catalogue,
    prior: MassPrior,
    relation,
    *,
    columns: dict | None = None,
    relation_from: RelationFrom | None = None,
    method: str = "surface",
    selection=None,
    surface: PosteriorSurface | None = None,
    keep=MASS_COLUMNS,
    prefix: str = "",
    float32: bool = False,
    watch: Callable[[str], None] = lambda stage: None,
):
    """The catalogue with mass columns, of the same lazy kind; dask computes it partition by partition.

    Parameters
    ----------
    catalogue : LSDB `Catalog` or `dask.dataframe.DataFrame`.
    method : "surface" (masses interpolated, to 1 % of the posterior sd) or "analytic" (each object integrated).
    surface : for method "surface"; None: one is made now, in this process, over the range of the catalogue, for which
        its columns are read once (`posterior_surface`).
    columns : `read_catalogue`'s keywords, for the names of the catalogue's columns.
    prior, relation, relation_from, selection : as in `massmap_jax.mass_posterior`.
    keep : mass columns to make. prefix : of their names. float32 : make them single.
    watch : is told what is being done.

    Raises
    ------
    MassmapError : columns that are not there, a relation and a prior of different mass definitions; with method
        "surface", no usable row in the whole catalogue.
    """
    partitions = Partitions(catalogue)
    common = {"columns": columns, "relation_from": relation_from, "selection": selection}
    if method == "surface" and surface is None:
        surface = posterior_surface(catalogue, prior, relation, watch=watch, **common)
    function = MassColumns(
        partitions.meta,
        prior,
        relation,
        method=method,
        surface=surface,
        keep=keep,
        prefix=prefix,
        float32=float32,
        **common,
    )
    return partitions.source.map_partitions(function, meta=function.meta)


def posterior_surface(
    catalogue,
    prior: MassPrior,
    relation,
    *,
    columns: dict | None = None,
    relation_from: RelationFrom | None = None,
    selection=None,
    watch: Callable[[str], None] = lambda stage: None,
) -> PosteriorSurface:
    """The table that method "surface" reads, over the range of a catalogue: one pass over its partitions.

    catalogue, columns, prior, relation, relation_from, selection, watch : as in `mass_posterior`. `MassmapError` where
    no row can be used, and as `PosteriorSurface.build`.
    """
    partitions = Partitions(catalogue)
    relation_from = check_relation_from(relation, relation_from)
    check_labels(relation=relation, mass_prior=prior)
    watch("finding the range of the catalogue")
    found = _census(partitions, Reading.of(partitions.meta, columns), prior, NoSelection())
    return PosteriorSurface.build(
        prior, relation, found.where, relation_from=relation_from, selection=selection, watch=watch
    )


# -- a folder of parts --------------------------------------------------------------------------------------------


def write(
    catalogue,
    out,
    prior: MassPrior,
    relation,
    *,
    resume: bool = False,
    columns: dict | None = None,
    relation_from: RelationFrom | None = None,
    method: str = "surface",
    selection=None,
    surface: PosteriorSurface | None = None,
    keep=MASS_COLUMNS,
    carry=(),
    float32: bool = False,
    fingerprint: str | None = None,
    watch: Callable[[str], None] = lambda stage: None,
) -> dict:
    """Masses into a folder, a Parquet part for each partition; the manifest's last line, with the sums.

    The folder is that of `stream`: manifest.jsonl, masses/part-00000.parquet, ..., surface.npz. Workers write the
    parts, so they have to see the folder under the same path. A run that was stopped, whatever stopped it, is gone on
    with by `resume=True`: only what is missing is computed, and it ends with the same bytes as a run left alone.

    Parameters
    ----------
    out : folder, new unless `resume`.
    prior, relation, columns, relation_from, method, selection, surface, keep, float32, watch : as in `mass_posterior`.
    carry : columns of the catalogue to write beside the masses, such as an id; a named index is written in any case.
    fingerprint : words for the input, to compare on resuming; None: of dask's graph and of the size and date of the
        files that it reads (`Partitions.fingerprint`).

    Raises
    ------
    MassmapError : as `mass_posterior`; the folder exists (or, to resume, does not), another run is writing to it, input
        or an option changed since, a disk that is full. What was done stays and can be resumed.
    """
    out = Path(out)
    manifest.check_folder(out, resume, _RESUME)
    partitions = Partitions(catalogue)
    carry = list(carry)
    lacking = [name for name in carry if name not in partitions.meta.columns]
    if lacking:
        raise MassmapError(f"carry= names {', '.join(lacking)}: choose among {', '.join(partitions.meta.columns)}")
    common = {"columns": columns, "relation_from": relation_from, "selection": selection}
    made = partial(MassColumns, partitions.meta, prior, relation, keep=keep, float32=float32, **common)
    made()  # whatever can be refused is refused before a folder is made
    header = {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "input": partitions.fingerprint() if fingerprint is None else fingerprint,
        "options": {
            "columns": columns or {},
            "method": method,
            "keep": list(keep),
            "carry": carry,
            "float32": float32,
            "partitions": partitions.source.npartitions,
            "selection": "none" if selection is None else selection.describe(),
            "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        },
        "relation_from": check_relation_from(relation, relation_from),
        "relation": digest_of(jax.tree.leaves(relation)),
        "prior": digest_of(jax.tree.leaves(prior)),
    }
    header = json.loads(json.dumps(header, default=str))
    with manifest.opened(out, header, resume=resume, option=_RESUME) as done:
        if done and "done" in done[-1]:
            return done[-1]
        if method == "surface" and (out / SURFACE).exists():
            surface = PosteriorSurface.load(out / SURFACE)
        elif method == "surface":
            surface = surface or posterior_surface(catalogue, prior, relation, watch=watch, **common)
            surface.save(out / SURFACE)
        function = made(method=method, surface=surface)
        meta = meta_of(prior, relation, relation_from, method)
        part = _WritePart(function, str((out / PARTS).resolve()), meta, carry)
        _write_missing(partitions, part, out, done, watch)
        lines = sorted(done, key=lambda line: line["part"])
        total = manifest.total_of(lines)
        # In the order of the partitions, whatever order they were done in.
        manifest.rewrite(out, [header, *lines, total])
        manifest.remove_litter(out)
    return total


def _write_missing(partitions, part, out, done, watch) -> None:
    from dask import delayed

    have = {line["part"] for line in done}
    sources = partitions.delayed(list(dict.fromkeys([*part.carry, *part.function.reading.names])))
    write_one = delayed(part, traverse=False)
    tasks = [write_one(source, i) for i, source in enumerate(sources) if part.name(i) not in have]
    for line in finished(tasks):
        path = out / PARTS / line["part"]
        if not path.exists():
            raise MassmapError(
                f"a worker wrote {path}, which is not to be seen from here: give a folder that all share"
            )
        manifest.append(out, line)
        done.append(line)
        watch(f"{len(done)} of {len(sources)} partitions, {sum(line['rows'] for line in done):,} rows")


class _WritePart:
    """Masses of a partition to its file; the manifest's line."""

    def __init__(self, function: MassColumns, folder: str, meta: dict, carry: list[str]):
        self.function, self.folder, self.meta, self.carry = function, folder, meta, carry

    def name(self, number: int) -> str:
        return f"part-{number:05d}.parquet"

    def __call__(self, partition, number: int) -> dict:
        function = self.function
        catalogue = function.reading.catalogue(partition)
        if catalogue is None:
            columns, beside, flag = (
                {name: function.meta[name].to_numpy() for name in function.keep},
                0,
                np.zeros(0, int),
            )
        else:
            columns, beside = function.masses(catalogue)
            flag = columns.get("flag", catalogue.flag)
        columns = single_precision(columns) if function.float32 else columns
        own = {} if partition.index.name is None else {str(partition.index.name): partition.index.to_numpy()}
        table = open_table(partition[self.carry])
        own |= {name: _plain(table.column(name)) for name in self.carry}
        path = Path(self.folder) / self.name(number)
        write_table(path, own | columns, self.meta, UNITS, DESCRIPTIONS, overwrite=True)
        names = digest_of(own.values()) if own else ""
        line = {"part": path.name, "rows": len(partition), "size": path.stat().st_size}
        return line | {"flags": count(flag), "beside_surface": beside, "id_hash": names}


def _plain(values: np.ndarray) -> np.ndarray:
    """A column to write: what is masked is NaN, or an empty text."""
    if not np.ma.isMaskedArray(values):
        return values
    return values.filled("") if values.dtype.kind in "SU" else values.astype(np.float64).filled(np.nan)


# -- maps ---------------------------------------------------------------------------------------------------------


def mass_map(
    key,
    catalogue,
    prior: MassPrior,
    relation,
    grid: PixelGrid,
    *,
    columns: dict | None = None,
    relation_from: RelationFrom | None = None,
    num_draws: int = 100,
    keep_draws: bool = False,
    selection=None,
    surface: PosteriorSurface | None = None,
    draws: Literal["exact", "table"] = "table",
) -> MassMap:
    """`massmap_jax.mass_map` of a catalogue in partitions: the same draws for the same key, each object's by its id.

    Parameters
    ----------
    columns : as in `mass_posterior`; the id has to be unique in the whole catalogue. Where there is none, the index of
        HATS (_healpix_29) serves.
    surface : for the mean map, a `PosteriorSurface` of the same prior, relation, relation_from and selection
        (`posterior_surface`); None: each object is integrated.
    draws : "table", which each worker makes once, or "exact".
    grid, relation_from, num_draws, keep_draws, selection : as in `massmap_jax.mass_map`. For a small field, cut the
        catalogue first (LSDB's `cone_search`).

    Raises
    ------
    MassmapError : no positions, no id, an id that comes again, no usable row, relation_from="other_data" (whose weights
        are known after a pass over the whole catalogue only).
    """
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    relation_from = check_relation_from(relation, relation_from)
    check_labels(relation=relation, mass_prior=prior)
    if relation_from == "other_data":
        raise MassmapError(
            "relation_from='other_data' needs the evidence of the whole catalogue before its map is drawn: fit the "
            "relation with these draws as prior and use this_catalogue, or choose fixed_draws"
        )
    partitions = Partitions(catalogue)
    reading = Reading.of(partitions.meta, columns, ids=True)
    relation = relation.as_batch()
    key_relation, key_mass = jax.random.split(key)
    # The draws' weights are settled, so each draw's posterior is normalised.
    options = {"relation_from": "fixed_draws", "selection": selection}
    if surface is not None:
        options |= {"relation_from": relation_from, "method": "surface", "surface": surface}
    chosen = relation.pick(key_relation, num_draws)
    work = _MapPart(reading, grid, prior, relation, chosen, key_mass, options, draws)
    found = partitions.reduce(work, work.together, reading.names)
    if found["usable"] == 0:
        _none_usable(found["flags"])
    sums = work.empty()
    sums.restore(_spread(found["state"], grid))
    return sums.finish(ess=relation.effective_draws, relation_from=relation_from, keep_draws=keep_draws)


# The draws of the map that this process works on: their table is made once for its partitions.
_DRAWS: dict[tuple[str, str], MassDraws] = {}


class _MapPart:
    """The map's sums of a partition, and of several."""

    def __init__(self, reading, grid, prior, relation, chosen, key_mass, options, draws):
        self.reading, self.grid, self.draws = reading, grid, draws
        # Typed keys are not pickled.
        key = {"data": np.asarray(jax.random.key_data(key_mass)), "kind": str(jax.random.key_impl(key_mass))}
        self.held = Held({"prior": prior, "relation": relation, "chosen": chosen, "key": key, "options": options})

    def empty(self) -> MapSums:
        held, name = self.held.value, (self.held.name, self.draws)
        draws = _DRAWS.get(name)
        if draws is None:
            key = jax.random.wrap_key_data(held["key"]["data"], impl=held["key"]["kind"])
            draws = MassDraws(held["prior"], held["chosen"], key, self.draws)
            _DRAWS.clear()  # of an earlier map
            _DRAWS[name] = draws
        return MapSums(self.grid, draws)

    def __call__(self, partition) -> dict:
        held, sums = self.held.value, self.empty()
        catalogue = self.reading.catalogue(partition)
        found = {"usable": 0, "flags": {}, "ids": np.zeros((0, 2), dtype=np.uint32)}
        if catalogue is not None:
            if catalogue.ra is None:
                raise MassmapError("the catalogue has no positions: a map needs ra and dec")
            posterior = posterior_of_part(catalogue, held["prior"], held["relation"], **held["options"])
            if posterior is None:
                sums.n_flagged += len(catalogue)
            else:
                sums.add(catalogue, posterior)
                found["usable"] = int(posterior.usable.sum())
            found["flags"] = count(flag_of_part(catalogue, held["prior"]))
            found["ids"] = _smallest(id_hash(catalogue.ids))
        return found | {"state": _occupied(sums.state())}

    def together(self, parts: list[dict]) -> dict:
        sums = self.empty()
        for part in parts:
            other = self.empty()
            other.restore(_spread(part["state"], self.grid))
            sums.merge(other)
        ids = _smallest(np.concatenate([part["ids"] for part in parts]))
        if np.unique(ids, axis=0).shape[0] < ids.shape[0]:
            raise MassmapError(
                f"ids in {self.reading.id!r} come again in another partition, and they key each object's random "
                "numbers: name a column that is unique in the whole catalogue with columns={'id': ...}"
            )
        flags = manifest.add_counts(part["flags"] for part in parts)
        usable = sum(part["usable"] for part in parts)
        return {"usable": usable, "flags": flags, "ids": ids, "state": _occupied(sums.state())}


def _smallest(hashes: np.ndarray) -> np.ndarray:
    """The same ids are among the smallest hashes in every partition that has them."""
    return hashes[np.lexsort((hashes[:, 1], hashes[:, 0]))[:_COMPARED]]


def _occupied(state: dict) -> dict:
    """A map's sums with its occupied pixels only, which is what travels."""
    return state | {name: state[name][state["pixels"]] for name in ("mean", "nobj")}


def _spread(state: dict, grid: PixelGrid) -> dict:
    whole = {}
    for name in ("mean", "nobj"):
        whole[name] = np.zeros(grid.num_pixels)
        whole[name][state["pixels"]] = state[name]
    return state | whole


# -- the relation -------------------------------------------------------------------------------------------------


def fit_relation(
    catalogue,
    prior: MassPrior,
    relation_prior: "RelationPrior | str | dict" = "bigmali2017",
    *,
    columns: dict | None = None,
    method: str = "laplace",
    selection=None,
    key=None,
    num_draws: int = 1000,
    num_chains: int = 4,
    num_warmup: int = 200,
    watch: Callable[[str], None] = lambda stage: None,
) -> "RelationPosterior":
    """`massmap_jax.fit_relation` to a catalogue in partitions: three to five passes over it, then nothing but points.

    Each pass reads four columns and ends in a few thousand weighted points (`compress`), whose weights add up. The
    sampling is done in this process. Result, errors and prior, relation_prior, method, key, num_draws, num_chains,
    num_warmup and watch are those of `massmap_jax.fit_relation`; `columns` as in `mass_posterior`. The selection
    is None, `FluxLimit` or `TabulatedSelection`. Where the catalogue fits in the workers' memory, `catalogue.persist()`
    (dask) spares reading it again.

    `MassmapError` also for another selection.
    """
    from massmap_jax.relation.fit import check_fit, fit_to

    relation_prior = check_fit(prior, relation_prior, method, num_draws, num_chains, num_warmup)
    selection = NoSelection() if selection is None else selection
    if not isinstance(selection, SMOOTH):
        raise MassmapError(
            f"the selection {type(selection).__name__} would be taken at every object, which no machine holds: give a "
            "FluxLimit or a TabulatedSelection"
        )
    watch("counting the objects")
    data = PartitionedData(catalogue, prior, selection, columns)
    return fit_to(data, relation_prior, method, key, num_draws, num_chains, num_warmup, watch)


class PartitionedData:
    """`relation_data.RelationData` of a catalogue in partitions: each quantity is one pass over them."""

    def __init__(self, catalogue, prior: MassPrior, selection, columns: dict | None = None):
        self.partitions = Partitions(catalogue)
        self.prior, self.selection = prior, selection
        self.reading = Reading.of(self.partitions.meta, columns)
        found = _census(self.partitions, self.reading, prior, selection)
        self.num_halos, self.constant, self.where = found.usable, found.constant, found.where
        self.lum_unit = ""  # partitions have no units

    def _over(self, ask: Callable, combine: Callable):
        work = _DataPart(self.reading, Held({"prior": self.prior, "selection": self.selection}), ask)
        return self.partitions.reduce(work, partial(_known, combine), self.reading.names)

    def compressed(self, scatter: float) -> Points:
        return self._over(partial(CatalogueData.compressed, scatter=scatter, whole=self.where), add)

    def halos(self) -> Points:
        return self._over(CatalogueData.halos, _joined)

    def middle(self, relation) -> tuple[float, float]:
        found = self._over(partial(_middle, relation=relation), _stacked)
        return _weighted_median(found[:, 0], found[:, 2]), _weighted_median(found[:, 1], found[:, 2])

    def refuse(self, relation) -> None:
        number, first = self._over(partial(CatalogueData.not_finite, relation=relation), _first_bad)
        refuse_start(number, first, self.num_halos)


class _DataPart:
    """Something of the usable objects of a partition, in double precision; None where there are none."""

    def __init__(self, reading: Reading, held: Held, ask: Callable):
        self.reading, self.held, self.ask = reading, held, ask

    def __call__(self, partition):
        held, catalogue = self.held.value, self.reading.catalogue(partition)
        if catalogue is None or ((flag_of_part(catalogue, held["prior"]) & UNUSABLE) != 0).all():
            return None
        with jax.enable_x64(True):
            return self.ask(CatalogueData(catalogue, held["prior"], held["selection"]))


def _known(combine: Callable, parts: list):
    """What is there, combined in order."""
    found = None
    for part in parts:
        found = part if found is None else found if part is None else combine(found, part)
    return found


def _middle(data: CatalogueData, relation) -> np.ndarray:
    return np.array([[*data.middle(relation), data.num_halos]])


def _stacked(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])


def _joined(a: Points, b: Points) -> Points:
    return Points(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))


def _first_bad(a, b):
    return a[0] + b[0], a[1] if a[0] else b[1]


# -- what a catalogue holds -----------------------------------------------------------------------------------------


class Census(NamedTuple):
    """Of a partition or of all: rows, usable ones, rows by flag, where the usable ones are, sum of their ln p_det."""

    rows: int
    usable: int
    flags: dict[str, int]
    where: Range | None
    constant: float

    def __add__(self, other: "Census") -> "Census":
        where = self.where or other.where
        if self.where is not None and other.where is not None:
            ends = zip(self.where, other.where, strict=True)
            where = Range(*((min(a[0], b[0]), max(a[1], b[1])) for a, b in ends))
        return Census(
            self.rows + other.rows,
            self.usable + other.usable,
            manifest.add_counts([self.flags, other.flags]),
            where,
            self.constant + other.constant,
        )


def _census(partitions: Partitions, reading: Reading, prior: MassPrior, selection) -> Census:
    work = _Count(reading, Held({"prior": prior, "selection": selection}))
    found = partitions.reduce(work, partial(_known, add), reading.names)
    if found.usable == 0:
        _none_usable(found.flags)
    return found


class _Count:
    def __init__(self, reading: Reading, held: Held):
        self.reading, self.held = reading, held

    def __call__(self, partition) -> Census:
        held, catalogue = self.held.value, self.reading.catalogue(partition)
        if catalogue is None:
            return Census(0, 0, {}, None, 0.0)
        flag = flag_of_part(catalogue, held["prior"])
        usable = int(((flag & UNUSABLE) == 0).sum())
        if usable == 0:
            return Census(flag.size, 0, count(flag), None, 0.0)
        with jax.enable_x64(True):
            data = CatalogueData(catalogue, held["prior"], held["selection"])
        return Census(flag.size, usable, count(flag), data.range(), data.constant)


def _none_usable(flags: dict[str, int]) -> None:
    reasons = "; ".join(f"{flags[bit.name]} rows: {text}" for bit, text in REASONS.items() if bit.name in flags)
    raise MassmapError(f"no row of the catalogue can be used ({reasons or 'there are none'}): check columns and units")
