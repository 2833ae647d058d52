"""The data of a relation fit to a catalogue in partitions: `RelationData` summed over them, and a census of the
rows."""

from collections.abc import Callable
from functools import partial
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from massmap_jax.catalogue.flags import REASONS, UNUSABLE, count
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Range, flag_of_part
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points
from massmap_jax.relation.data import CatalogueData, refuse_start
from massmap_jax.scale import manifest
from massmap_jax.scale.partitions import Held, Partitions, Reading

if TYPE_CHECKING:  # importing them imports NumPyro, which workers do not need
    pass


class PartitionedData:
    """Present a catalogue in partitions as the `RelationData` of a fit; each quantity is one pass over the partitions.

    Parameters
    ----------
    catalogue : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue.
    prior : MassPrior
        The mass prior.
    selection : Selection
        Which objects enter the catalogue.
    columns : dict, optional
        Keywords of `massmap_jax.read_catalogue` that name the columns.

    Attributes
    ----------
    num_halos : int
        Number of usable objects.
    constant : float
        Sum of their ln p_det, the part of the log likelihood that does not depend on the relation.
    where : Range
        Range of the usable objects.
    lum_unit : str
        Unit of the luminosity, always empty: partitions have no units.
    extra : None
        Partitions have no mass likelihoods of single objects.
    """

    def __init__(self, catalogue, prior: MassPrior, selection, columns: dict | None = None):
        self.partitions = Partitions(catalogue)
        self.prior, self.selection = prior, selection
        self.reading = Reading.of(self.partitions.meta, columns)
        found = census(self.partitions, self.reading, prior, selection)
        self.num_halos, self.constant, self.where = found.usable, found.constant, found.where
        self.lum_unit = ""  # partitions have no units
        self.extra = None

    def _over(self, ask: Callable, combine: Callable):
        """Ask every partition with usable objects, and combine the answers in order."""
        work = _DataPart(self.reading, Held({"prior": self.prior, "selection": self.selection}), ask)
        return self.partitions.reduce(work, partial(_known, combine), self.reading.names)

    def compressed(self, scatter: float) -> Points:
        """Compress the objects to weighted points.

        Parameters
        ----------
        scatter : float
            Scatter in ln L at fixed mass that sets the spacing of the points.

        Returns
        -------
        Points
            The points of all partitions; their weights add up to the number of objects.
        """
        return self._over(partial(CatalogueData.compressed, scatter=scatter, whole=self.where), add)

    def halos(self) -> Points:
        """Collect the objects themselves as points.

        Returns
        -------
        Points
            One point per usable object.
        """
        return self._over(CatalogueData.halos, _joined)

    def middle(self, relation) -> tuple[float, float]:
        """Find a typical mass and redshift, as weighted medians of those of the partitions.

        Parameters
        ----------
        relation : Relation
            The relation by which masses are read off luminosities.

        Returns
        -------
        tuple of (float, float)
            The medians of the two numbers that `CatalogueData.middle` gives for a partition.
        """
        found = self._over(partial(_middle, relation=relation), _stacked)
        return _weighted_median(found[:, 0], found[:, 2]), _weighted_median(found[:, 1], found[:, 2])

    def refuse(self, relation) -> None:
        """Refuse a fit that would start at a relation under which an object has no finite likelihood.

        Parameters
        ----------
        relation : Relation
            The starting point.

        Raises
        ------
        MassmapError
            With the number of such objects and the first of them.
        """
        number, first = self._over(partial(CatalogueData.not_finite, relation=relation), _first_bad)
        refuse_start(number, first, self.num_halos)


class _DataPart:
    """A question about the usable objects of one partition, in double precision; None where there are none."""

    def __init__(self, reading: Reading, held: Held, ask: Callable):
        self.reading, self.held, self.ask = reading, held, ask

    def __call__(self, partition):
        held, catalogue = self.held.value, self.reading.catalogue(partition)
        if catalogue is None or ((flag_of_part(catalogue, held["prior"]) & UNUSABLE) != 0).all():
            return None
        with jax.enable_x64(True):
            return self.ask(CatalogueData(catalogue, held["prior"], held["selection"]))


def _known(combine: Callable, parts: list):
    """Combine the answers that are not None, in order."""
    found = None
    for part in parts:
        found = part if found is None else found if part is None else combine(found, part)
    return found


def _middle(data: CatalogueData, relation) -> np.ndarray:
    """Give the middle of a partition and its number of objects, as one row."""
    return np.array([[*data.middle(relation), data.num_halos]])


def _stacked(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Stack the rows of two answers."""
    return np.concatenate([a, b])


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Find the value at which half of the weight is reached."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])


def _joined(a: Points, b: Points) -> Points:
    """Join the points of two answers."""
    return Points(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))


def _first_bad(a, b):
    """Add two numbers of bad objects, and keep the first such object."""
    return a[0] + b[0], a[1] if a[0] else b[1]


class Census(NamedTuple):
    """Count the rows of a partition or of a catalogue; counts of parts can be added.

    Attributes
    ----------
    rows : int
        Number of rows.
    usable : int
        Number of usable rows.
    flags : dict of str to int
        Rows by flag.
    where : Range or None
        Range of the usable rows, None if there are none.
    constant : float
        Sum of their ln p_det.
    """

    rows: int
    usable: int
    flags: dict[str, int]
    where: Range | None
    constant: float

    def __add__(self, other: "Census") -> "Census":
        where = self.where or other.where
        if self.where is not None and other.where is not None:
            ends = zip(self.where[:3], other.where[:3], strict=True)  # redshifts are exact here
            where = Range(*((min(a[0], b[0]), max(a[1], b[1])) for a, b in ends))
        return Census(
            self.rows + other.rows,
            self.usable + other.usable,
            manifest.add_counts([self.flags, other.flags]),
            where,
            self.constant + other.constant,
        )


def census(partitions: Partitions, reading: Reading, prior: MassPrior, selection) -> Census:
    """Count the rows of a catalogue in one pass over its partitions: usable ones, flags, and their range.

    Parameters
    ----------
    partitions : Partitions
        The catalogue.
    reading : Reading
        How a partition is read.
    prior : MassPrior
        The mass prior.
    selection : Selection
        Which objects enter the catalogue.

    Returns
    -------
    Census
        The sums over all partitions.

    Raises
    ------
    MassmapError
        If no row can be used.
    """
    work = _Count(reading, Held({"prior": prior, "selection": selection}))
    found = partitions.reduce(work, partial(_known, add), reading.names)
    if found.usable == 0:
        refuse_none_usable(found.flags)
    return found


class _Count:
    """The census of one partition."""

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


def refuse_none_usable(flags: dict[str, int]) -> None:
    """Refuse a catalogue without a usable row, and say why the rows cannot be used.

    Parameters
    ----------
    flags : dict of str to int
        Rows by flag.

    Raises
    ------
    MassmapError
        Always.
    """
    reasons = "; ".join(f"{flags[bit.name]} rows: {text}" for bit, text in REASONS.items() if bit.name in flags)
    raise MassmapError(f"no row of the catalogue can be used ({reasons or 'there are none'}): check columns and units")
