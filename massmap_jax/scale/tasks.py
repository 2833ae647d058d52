"""The work of a worker on one partition: mass columns, a written part, the sums of a map."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue.flags import count
from massmap_jax.catalogue.halo_catalogue import id_hash
from massmap_jax.catalogue.redshift_columns import is_uncertain
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.write import write_table
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import flag_of_part
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.sums import MapSums
from massmap_jax.posterior.columns import KNOWN_COLUMNS, column_info
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.scale import manifest
from massmap_jax.scale.manifest import digest_of
from massmap_jax.scale.partitions import Held, Reading
from massmap_jax.scale.parts import (
    MASS_COLUMNS,
    blocks_of,
    check_columns,
    check_redshift_columns,
    columns_of_part,
    joined,
    posterior_of_part,
    single_precision,
)

if TYPE_CHECKING:  # importing them imports NumPyro, which workers do not need
    pass

# Columns of `MassPosterior.to_table` that the catalogue already has under its own names.
_OWN = ("id", "ra", "dec", "x", "y", "z", "ln_lum_obs", "sigma_ln_lum", "log10_mass_true", "r_hat", "divergences")


METHODS = ("surface", "analytic")


class MassColumns:
    """Add mass columns to a partition: a function for `map_partitions` of pandas and nested-pandas frames.

    Rows, their order, the index and the existing columns keep their values and dtypes. A row that cannot be used has
    NaN and a flag that says why.

        function = MassColumns(ddf._meta, prior, relation, columns={"lum": "L", "z": "z"})
        ddf.map_partitions(function, meta=function.meta)

    Parameters
    ----------
    meta : pandas.DataFrame
        Empty frame with the columns, dtypes and index of the partitions.
    prior : MassPrior
        The mass prior.
    relation : Relation
        One relation, or a batch of draws.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue`. Columns that are left out are guessed; units are not.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `massmap_jax.mass_posterior`.
    method : {"surface", "analytic"}
        "surface" interpolates the masses in a table; "analytic" integrates each object.
    selection : Selection, optional
        As in `massmap_jax.mass_posterior`.
    surface : PosteriorSurface, optional
        The table of method "surface", made with the same prior, relation, relation_from and selection.
    keep : sequence of str
        Mass columns (`parts.MASS_COLUMNS`, or any of `MassPosterior.to_table` but those of the catalogue itself).
    prefix : str
        Put before the name of each mass column.
    float32 : bool
        Make the mass columns in single precision.

    Attributes
    ----------
    meta : pandas.DataFrame
        The empty frame with the mass columns added.

    Raises
    ------
    MassmapError
        For a column that is missing, of the wrong kind, or has the name of a mass column.
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
        check_columns(keep, [name for name in (*MASS_COLUMNS, *KNOWN_COLUMNS) if name not in _OWN])
        check_labels(relation=relation, mass_prior=prior)
        taken = [prefix + name for name in keep if prefix + name in meta.columns]
        if taken:
            raise MassmapError(f"the catalogue has columns {', '.join(taken)} already: give prefix='massmap_', say")
        self.reading = Reading.of(meta, columns)
        check_redshift_columns(keep, is_uncertain(columns or {}))
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
        """Compute the mass columns of some objects.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The objects.

        Returns
        -------
        columns : dict of str to np.ndarray, (halo,)
            The mass columns.
        number : int
            Number of objects outside the table's range, which were integrated.
        """
        held, found, beside = self.held.value, [], 0
        for part in blocks_of(catalogue):
            posterior = posterior_of_part(
                part,
                held["prior"],
                held["relation"],
                selection=held["selection"],
                surface=held["surface"],
                **held["options"],
            )
            found.append(columns_of_part(part, held["prior"], posterior, self.keep))
            beside += 0 if posterior is None else posterior.num_beside_surface
        return joined(found), beside

    def _with(self, partition, columns):
        """Add columns to a frame, with the prefix and in the precision that were asked for."""
        columns = single_precision(columns) if self.float32 else columns
        made = partition.assign(**{self.prefix + name: values for name, values in columns.items()})
        if "flag_reason" in columns:  # an empty text column would get another dtype
            made[self.prefix + "flag_reason"] = made[self.prefix + "flag_reason"].astype("str")
        return made

    def __dask_tokenize__(self):
        reading = self.reading
        return (
            massmap_jax.__version__,
            *(self.held.name, self.keep, self.prefix, self.float32),
            *(tuple(reading.kinds.items()), repr(sorted(reading.mapping.items()))),
        )


class WritePart:
    """Write the masses of a partition to its file, and return its line of the manifest.

    Parameters
    ----------
    function : MassColumns
        The masses.
    folder : str
        Folder of the parts.
    meta : dict
        Metadata of each part.
    carry : list of str
        Columns of the catalogue to write beside the masses.
    """

    def __init__(self, function: MassColumns, folder: str, meta: dict, carry: list[str]):
        self.function, self.folder, self.meta, self.carry = function, folder, meta, carry

    def name(self, number: int) -> str:
        """Name the file of a partition.

        Parameters
        ----------
        number : int
            Number of the partition.

        Returns
        -------
        str
            The file name.
        """
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
        write_table(path, own | columns, self.meta, **column_info(columns), overwrite=True)
        names = digest_of(own.values()) if own else ""
        line = manifest.line_of_part(path, len(partition))
        return line | {"flags": count(flag), "beside_surface": beside, "id_hash": names}


def _plain(values: np.ndarray) -> np.ndarray:
    """Fill the masked values of a column with NaN, or with empty text."""
    if not np.ma.isMaskedArray(values):
        return values
    return values.filled("") if values.dtype.kind in "SU" else values.astype(np.float64).filled(np.nan)


# The draws of the map that this process works on: their table is made once for its partitions.
_DRAWS: dict[tuple[str, str], MassSamples] = {}


class MapPart:
    """Sum the map of one partition, and add the sums of several.

    Parameters
    ----------
    reading : Reading
        How a partition is read.
    grid : PixelGrid
        The pixels.
    prior : MassPrior
        The mass prior.
    relation : Relation
        One relation, or a batch of draws, for the mean map.
    chosen : Relation
        One relation draw per map realisation.
    key_mass : Key[Array, ""]
        Random key of the masses.
    options : dict
        Arguments of `mass_posterior` for the mean map.
    draws : {"table", "exact"}
        How masses are sampled.
    """

    def __init__(self, reading, grid, prior, relation, chosen, key_mass, options, draws):
        self.reading, self.grid, self.draws = reading, grid, draws
        # Typed keys cannot be pickled.
        key = {"data": np.asarray(jax.random.key_data(key_mass)), "kind": str(jax.random.key_impl(key_mass))}
        self.held = Held({"prior": prior, "relation": relation, "chosen": chosen, "key": key, "options": options})

    def empty(self) -> MapSums:
        """Make sums of nothing; the table of the mass draws is made once in a process.

        Returns
        -------
        MapSums
            The sums.
        """
        held, name = self.held.value, (self.held.name, self.draws)
        draws = _DRAWS.get(name)
        if draws is None:
            key = jax.random.wrap_key_data(held["key"]["data"], impl=held["key"]["kind"])
            draws = MassSamples(held["prior"], held["chosen"], key, self.draws)
            _DRAWS.clear()  # of an earlier map
            _DRAWS[name] = draws
        return MapSums(self.grid, draws)

    def __call__(self, partition) -> dict:
        held, sums = self.held.value, self.empty()
        catalogue = self.reading.catalogue(partition)
        found: dict[str, Any] = {"usable": 0, "flags": {}, "ids": np.zeros((0, 2), dtype=np.uint32)}
        if catalogue is not None:
            if catalogue.ra is None:
                raise MassmapError("the catalogue has no positions: a map needs ra and dec")
            for part in blocks_of(catalogue):
                posterior = posterior_of_part(part, held["prior"], held["relation"], **held["options"])
                if posterior is None:
                    sums.n_flagged += len(part)
                else:
                    sums.add(part, posterior)
                    found["usable"] += int(posterior.usable.sum())
            found["flags"] = count(flag_of_part(catalogue, held["prior"]))
            found["ids"] = _smallest(id_hash(catalogue.ids))
        return found | {"state": _occupied(sums.state())}

    def together(self, parts: list[dict]) -> dict:
        """Add the sums of several partitions.

        Parameters
        ----------
        parts : list of dict
            Sums, numbers of usable rows, flags and id hashes of the partitions.

        Returns
        -------
        dict
            The same of all of them.

        Raises
        ------
        MassmapError
            If an id is in two partitions.
        """
        sums = self.empty()
        for part in parts:
            other = self.empty()
            other.restore(spread_over_cells(part["state"], self.grid))
            sums.merge(other)
        ids = _smallest(np.concatenate([part["ids"] for part in parts]))
        if np.unique(ids, axis=0).shape[0] < ids.shape[0]:
            raise MassmapError(
                f"ids in {self.reading.id!r} are repeated in another partition, and the random numbers of an object "
                "depend on its id: name a column that is unique in the whole catalogue with columns={'id': ...}"
            )
        flags = manifest.add_counts(part["flags"] for part in parts)
        usable = sum(part["usable"] for part in parts)
        return {"usable": usable, "flags": flags, "ids": ids, "state": _occupied(sums.state())}


# Number of ids in each partition, those with the smallest hashes, that are compared with the other partitions.
_COMPARED = 256


def _smallest(hashes: np.ndarray) -> np.ndarray:
    """Keep the ids with the smallest hashes: an id that is in two partitions is among those of both."""
    return hashes[np.lexsort((hashes[:, 1], hashes[:, 0]))[:_COMPARED]]


def _occupied(state: dict) -> dict:
    """Keep only the occupied pixels of a map's sums, to send less data."""
    return state | {name: state[name][state["pixels"]] for name in ("mean", "nobj")}


def spread_over_cells(state: dict, grid: PixelGrid) -> dict:
    """Put the sums of occupied cells, as workers send them, in their places among all cells of the map.

    Parameters
    ----------
    state : dict
        Sums of the occupied cells.
    grid : PixelGrid
        The pixels of the map.

    Returns
    -------
    dict
        Sums of all cells.
    """
    whole = {}
    for name in ("mean", "nobj"):
        whole[name] = np.zeros(grid.num_pixels)
        whole[name][state["pixels"]] = state[name]
    return state | whole
