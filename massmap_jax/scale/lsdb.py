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
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax

import massmap_jax
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.data import SMOOTH
from massmap_jax.run.outputs import PROGRAM
from massmap_jax.scale import manifest
from massmap_jax.scale.manifest import PARTS, digest_of
from massmap_jax.scale.partitioned_data import PartitionedData, census, refuse_none_usable
from massmap_jax.scale.partitions import Partitions, Reading, finished
from massmap_jax.scale.parts import (
    MASS_COLUMNS,
    meta_of,
)
from massmap_jax.scale.tasks import MapPart, MassColumns, WritePart, spread_over_cells

if TYPE_CHECKING:  # they bring NumPyro, which workers can do without
    from massmap_jax.relation.beliefs import RelationPrior
    from massmap_jax.relation.fitted import RelationPosterior

SURFACE = "surface.npz"
_RESUME = "resume=True"


# -- masses -------------------------------------------------------------------------------------------------------


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
    found = census(partitions, Reading.of(partitions.meta, columns), prior, NoSelection())
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
        part = WritePart(function, str((out / PARTS).resolve()), meta, carry)
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
    work = MapPart(reading, grid, prior, relation, chosen, key_mass, options, draws)
    found = partitions.reduce(work, work.together, reading.names)
    if found["usable"] == 0:
        refuse_none_usable(found["flags"])
    sums = work.empty()
    sums.restore(spread_over_cells(found["state"], grid))
    return sums.finish(ess=relation.effective_draws, relation_from=relation_from, keep_draws=keep_draws)


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
