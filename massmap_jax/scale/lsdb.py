"""Masses, maps and the relation of a catalogue on many machines, from an LSDB `Catalog` or a Dask DataFrame.

    mass_posterior   the same lazy catalogue with mass columns
    write            its masses as a folder of Parquet parts; a run that was stopped can be resumed
    mass_map         the map of `massmap_jax.mass_map`, summed over partitions
    fit_relation     the fit of `massmap_jax.fit_relation`, with the data compressed partition by partition

The work is done by the workers of a `dask.distributed` client, or by Dask's threads if there is no client. Give each
worker process one thread, since the compiled code uses a core or more by itself. If a worker dies, only the partitions
that it was working on are computed again.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue.redshift_columns import is_uncertain
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Range
from massmap_jax.likelihood.selection import NoSelection, described
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
from massmap_jax.steps import Step

if TYPE_CHECKING:  # importing them imports NumPyro, which workers do not need
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
    """Add mass columns to the catalogue; the result is lazy, and Dask computes it partition by partition.

    Parameters
    ----------
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue in partitions.
    prior : MassPrior
        The mass prior P(ln M | z).
    relation : Relation
        One mass-luminosity relation, or a batch of draws.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue` that name the columns (lum, z, sigma, ...). Columns that are left out
        are guessed from the usual names.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        How the relation draws are weighted, as in `massmap_jax.mass_posterior`. Required for more than one draw.
    method : {"surface", "analytic"}
        "surface" interpolates the masses in a table, to 1 % of the posterior standard deviation. "analytic" integrates
        each object.
    selection : Selection, optional
        Which objects enter the catalogue, as in `massmap_jax.mass_posterior`.
    surface : PosteriorSurface, optional
        The table of method "surface", made with the same prior, relation, relation_from and selection. By default it is
        made now, in this process, with `posterior_surface`, which reads the columns of the catalogue once.
    keep : sequence of str
        The mass columns to make.
    prefix : str
        Put before the name of each mass column.
    float32 : bool
        Make the mass columns in single precision.
    watch : callable
        Called with a line of text at every stage, to report progress.

    Returns
    -------
    lsdb.Catalog or dask.dataframe.DataFrame
        A lazy catalogue of the same kind as the input: its rows in their order, with the mass columns added.

    Raises
    ------
    MassmapError
        For a column that is missing or taken, a relation and a prior of different mass definitions, or, with method
        "surface", a catalogue without a usable row.

    See Also
    --------
    massmap_jax.mass_posterior : The same masses of a catalogue in memory.
    write : Write the masses to a folder, with a manifest from which a stopped run is resumed.
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
    """Tabulate the mass posterior over the range of a catalogue, in one pass over its partitions.

    Parameters
    ----------
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue in partitions.
    prior : MassPrior
        The mass prior P(ln M | z).
    relation : Relation
        One mass-luminosity relation, or a batch of draws.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue` that name the columns (lum, z, sigma, ...). Columns that are left out
        are guessed from the usual names.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        How the relation draws are weighted, as in `massmap_jax.mass_posterior`. Required for more than one draw.
    selection : Selection, optional
        Which objects enter the catalogue, as in `massmap_jax.mass_posterior`.
    watch : callable
        Called with a line of text at every stage, to report progress.

    Returns
    -------
    PosteriorSurface
        The table that method "surface" of `mass_posterior` and `write` interpolates in.

    Raises
    ------
    MassmapError
        For a catalogue without a usable row, luminosities that are those of no halo, and in the cases of
        `PosteriorSurface.build`.
    """
    partitions = Partitions(catalogue)
    relation_from = check_relation_from(relation, relation_from)
    check_labels(relation=relation, mass_prior=prior)
    _refuse_uncertain(columns, "a posterior surface over partitions", "use method='analytic'")
    watch("finding the range of the catalogue")
    found = census(partitions, Reading.of(partitions.meta, columns), prior, NoSelection())
    _refuse_no_halos(found.where, relation, prior)
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
    """Write the masses into a folder, with one Parquet part for each partition.

    The folder has the layout of `massmap_jax.scale.stream.stream`: manifest.jsonl, masses/part-00000.parquet, ...,
    surface.npz. The workers write the parts, so they must see the folder under the same path. A run that was stopped
    for any reason is continued with `resume=True`: only the missing parts are computed, and the result has the same
    bytes as that of a run without interruption.

    Parameters
    ----------
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue in partitions.
    out : str or Path
        The folder. It must not exist, unless `resume` is true.
    prior : MassPrior
        The mass prior P(ln M | z).
    relation : Relation
        One mass-luminosity relation, or a batch of draws.
    resume : bool
        Continue the run that was stopped in `out`.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue` that name the columns (lum, z, sigma, ...). Columns that are left out
        are guessed from the usual names.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        How the relation draws are weighted, as in `massmap_jax.mass_posterior`. Required for more than one draw.
    method : {"surface", "analytic"}
        As in `mass_posterior`.
    selection : Selection, optional
        Which objects enter the catalogue, as in `massmap_jax.mass_posterior`.
    surface : PosteriorSurface, optional
        As in `mass_posterior`. A resumed run uses the table in the folder.
    keep : sequence of str
        The mass columns to write.
    carry : sequence of str
        Columns of the catalogue to write beside the masses, such as an id. An index with a name is always written.
    float32 : bool
        Write the mass columns in single precision.
    fingerprint : str, optional
        Text that identifies the input, compared when the run is resumed. By default it is derived from Dask's graph and
        from the size and date of the files that it reads (`Partitions.fingerprint`).
    watch : callable
        Called with a line of text at every stage, to report progress.

    Returns
    -------
    dict
        The last line of the manifest: the number of parts ("done"), of rows ("rows") and of rows by flag ("flags"), and
        the number of rows outside the table's range ("beside_surface").

    Raises
    ------
    MassmapError
        In the cases of `mass_posterior`, and if the folder exists (or, with `resume`, does not), another run is writing
        to it, the input or an option has changed, or the disk is full. The parts that were written stay and can be
        resumed.
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
    made()  # bad arguments are refused before the folder is made
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
            "selection": described(selection),
            "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        },
        "relation_from": check_relation_from(relation, relation_from),
        "relation": digest_of(jax.tree.leaves(relation)),
        "prior": digest_of(jax.tree.leaves(prior)),
    }
    header = json.loads(json.dumps(header, default=str))
    with manifest.opened(out, header, resume=resume, option=_RESUME) as book:
        if method == "surface" and book.holds(SURFACE):
            surface = PosteriorSurface.load(out / SURFACE)
        elif method == "surface":
            surface = surface or posterior_surface(catalogue, prior, relation, watch=watch, **common)
            surface.save(out / SURFACE)
            book.add_file(SURFACE)
        damaged = book.damaged(watch)
        if book.total is not None and not damaged:
            return book.total
        if damaged:
            book.keep([line for number, line in enumerate(book.parts) if number not in damaged], [SURFACE])
        function = made(method=method, surface=surface)
        meta = meta_of(prior, relation, relation_from, method)
        part = WritePart(function, str((out / PARTS).resolve()), meta, carry)
        _write_missing(partitions, part, book, watch)
        # In the order of the partitions, which may have been finished in another order.
        book.keep(sorted(book.parts, key=lambda line: line["part"]), [SURFACE])
        total = manifest.total_of(book.parts)
        book.finish(total)
        manifest.remove_litter(out)
    return total


def _write_missing(partitions, part, book: manifest.Manifest, watch) -> None:
    """Compute the parts that the manifest does not list, and append a line for each as it is finished."""
    from dask import delayed

    have = {line["part"] for line in book.parts}
    sources = partitions.delayed(list(dict.fromkeys([*part.carry, *part.function.reading.names])))
    write_one = delayed(part, traverse=False)
    tasks = [write_one(source, i) for i, source in enumerate(sources) if part.name(i) not in have]
    for line in finished(tasks):
        path = book.out / PARTS / line["part"]
        if not path.exists():
            raise MassmapError(
                f"a worker wrote {path}, which this process cannot see: give a folder that all machines share"
            )
        book.add_part(line)
        rows = sum(line["rows"] for line in book.parts)
        watch(Step("masses", len(book.parts), len(sources), f"partitions, {rows:,} rows"))


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
    """Sum the masses of a catalogue in partitions per pixel, in coherent map realisations.

    The same key gives the same realisations as `massmap_jax.mass_map`, because the random numbers of each object depend
    on its id.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key: one relation draw per map realisation, and random numbers by the object's id.
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue in partitions. Cut out a small field before the call, for example with LSDB's `cone_search`.
    prior : MassPrior
        The mass prior P(ln M | z).
    relation : Relation
        One mass-luminosity relation, or a batch of draws.
    grid : PixelGrid
        The pixels.
    columns : dict, optional
        As in `mass_posterior`. The id must be unique in the whole catalogue; without an id column, the index of HATS
        (`_healpix_29`) is used.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        How the relation draws are weighted, as in `massmap_jax.mass_posterior`. Required for more than one draw.
        "other_data" is refused.
    num_draws : int
        Number of map realisations.
    keep_draws : bool
        Keep the image of every realisation.
    selection : Selection, optional
        Which objects enter the catalogue, as in `massmap_jax.mass_posterior`.
    surface : PosteriorSurface, optional
        A table of `posterior_surface` for the mean map, made with the same prior, relation, relation_from and
        selection. By default each object is integrated.
    draws : {"table", "exact"}
        "table" looks sampled masses up in the prior's tabulated quantile function, which each worker makes once.
        "exact" integrates each object.

    Returns
    -------
    MassMap
        Images of mean, error and quantiles.

    Raises
    ------
    MassmapError
        For a catalogue without positions, without ids, with an id that is repeated, or without a usable row, and for
        relation_from "other_data", whose weights would be known only after a pass over the whole catalogue.

    See Also
    --------
    massmap_jax.mass_map : The map of a catalogue in memory.
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
    # The draws were picked by their weights, so each draw's posterior is normalised.
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
    """Fit the relation to a catalogue in partitions, in three to five passes over it.

    Each pass reads four columns and compresses each partition to a few thousand weighted points, whose weights add up.
    The sampling then runs in this process on these points. If the catalogue fits in the workers' memory, call its
    `persist()` first, so that it is read only once.

    Parameters
    ----------
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue in partitions.
    prior : MassPrior
        The mass prior P(ln M | z).
    relation_prior : RelationPrior or str or dict
        The prior of the relation's parameters, as in `massmap_jax.fit_relation`.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue` that name the columns (lum, z, sigma, ...). Columns that are left out
        are guessed from the usual names.
    method : {"laplace", "importance", "nuts"}
        As in `massmap_jax.fit_relation`.
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
        Which objects enter the catalogue, `massmap_jax.NoSelection()` by default.
    key : Key[Array, ""], optional
        Random key of the sampling.
    num_draws : int
        Number of relation draws in the result.
    num_chains : int
        Number of chains of method "nuts".
    num_warmup : int
        Warm-up steps of each chain of method "nuts".
    watch : callable
        Called with a line of text at every stage, to report progress.

    Returns
    -------
    RelationPosterior
        The posterior of the relation, with its draws and diagnostics.

    Raises
    ------
    MassmapError
        In the cases of `massmap_jax.fit_relation`, and for a selection that would have to be evaluated at every object.

    See Also
    --------
    massmap_jax.fit_relation : The fit to a catalogue in memory.
    """
    from massmap_jax.relation.fit import check_fit, fit_to

    relation_prior = check_fit(prior, relation_prior, method, num_draws, num_chains, num_warmup)
    selection = NoSelection() if selection is None else selection
    if not isinstance(selection, SMOOTH):
        raise MassmapError(
            f"the selection {type(selection).__name__} would be taken at every object, which no machine holds: give a "
            "FluxLimit or a TabulatedSelection"
        )
    _refuse_uncertain(columns, "a fit over partitions", "fit a part that fits in memory")
    watch("counting the objects")
    data = PartitionedData(catalogue, prior, selection, columns)
    return fit_to(data, relation_prior, method, key, num_draws, num_chains, num_warmup, watch)


def _refuse_no_halos(where: Range | None, relation, prior: MassPrior) -> None:
    """Refuse luminosities that are those of no halo, the faintest and the brightest alike, as in another unit."""
    from massmap_jax.run.beside_beliefs import beyond_all_masses  # beliefs are distributions of NumPyro

    if where is None:
        return
    z = np.array([np.mean(where.redshift)])
    named = zip(("the faintest luminosity", "the brightest luminosity"), where.ln_lum, strict=True)
    told = [beyond_all_masses(np.array([end]), z, relation, prior, what) for what, end in named]
    if all(told):
        raise MassmapError(told[0])


def _refuse_uncertain(columns: dict | None, what: str, remedy: str) -> None:
    """Refuse redshifts that are distributions, where they would be taken as exact."""
    if is_uncertain(columns or {}):
        raise MassmapError(f"{what} takes redshifts as exact, and columns= gives their errors: {remedy}")
