"""A catalogue in partitions that need not fit on one machine (LSDB, Dask): how one is read, and sums over all of them.

Dask and LSDB are imported when they are needed. What tasks need beside their partition (prior, relation, posterior
surface) is `Held`: it is sent to each worker process once, whatever the number of partitions.
"""

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from massmap_jax.catalogue.column_names import USUAL_NAMES, choose_column
from massmap_jax.catalogue.columns import ColumnTable
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.tables import open_table
from massmap_jax.errors import MassmapError
from massmap_jax.scale.manifest import digest_of
from massmap_jax.scale.worker_memory import HELD

HATS_INDEX = "_healpix_29"
_LABEL = "the catalogue"
# Number of partitions, or of their sums, whose results are added in one task.
_TOGETHER = 8
# A partition of fewer rows, as there are at the edges of a survey, does not tell what its columns hold.
_FEW = 20
_NOT_FOR_PARTITIONS = (
    "source",
    "names",
    "delimiter",
    "header",
    "format",
    "need_usable",
    "need_positions",
    "duplicate_ids",
)


# -- one partition ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reading:
    """Turn a partition into a `HaloCatalogue`, with columns that were chosen once for the whole catalogue.

    Attributes
    ----------
    kinds : dict of str to str
        The columns that are read, by name: "number", "text" or another dtype.
    mapping : dict
        Keywords of `massmap_jax.read_catalogue`.
    id : str or None
        The column, or the index, with the ids. None where ids are not needed.
    """

    kinds: dict[str, str]
    mapping: dict
    id: str | None = None

    @classmethod
    def of(cls, meta, columns: dict | None, *, ids: bool = False) -> "Reading":
        """Choose the columns by the empty frame that describes a catalogue, before a row is read.

        Parameters
        ----------
        meta : pandas.DataFrame
            Empty frame with the columns, dtypes and index of the partitions.
        columns : dict or None
            Keywords of `massmap_jax.read_catalogue` (lum, z, sigma, ...). Columns that are left out are guessed.
        ids : bool
            Whether ids are needed; they must then be unique in the whole catalogue.

        Returns
        -------
        Reading
            The choice.

        Raises
        ------
        MassmapError
            For an unknown keyword, a column that is missing or of the wrong kind, or no id where ids are needed.
        """
        mapping = dict(columns or {})
        known = [name for name in inspect.signature(read_catalogue).parameters if name not in _NOT_FOR_PARTITIONS]
        unknown = [name for name in mapping if name not in known]
        if unknown:
            raise MassmapError(f"columns= does not know {', '.join(unknown)}: give any of {', '.join(known)}")
        own_id, own_truth = mapping.pop("id", None), mapping.pop("truth", None)
        names = tuple(map(str, meta.columns))
        kinds = dict(zip(names, map(_kind, meta.dtypes), strict=True))
        unread = set().union(*USUAL_NAMES["id"], *USUAL_NAMES["true mass"]) | {
            str(n).lower() for n in (own_id, own_truth)
        }
        shown = tuple(n for n in names if n.lower() not in unread or n in mapping.values())
        if mapping.get("z_grid") in names:
            raise MassmapError(
                f"z_grid={mapping['z_grid']!r} is a column, and a partition may have no row that tells its redshifts:"
                " give a range such as '0:3:301', or a file that all workers see"
            )
        if str(dict(zip(names, meta.dtypes, strict=True)).get(str(mapping.get("z_pdf")), "")).startswith("str"):
            raise MassmapError(
                f"z_pdf column {mapping['z_pdf']!r} holds text: Dask makes text of lists, unless they are lists of"
                " Arrow, or dask.config.set({'dataframe.convert-string': False}) is called before the catalogue is"
                " opened"
            )
        read: list[str] = []

        def column(name):
            read.append(name)
            # The dtype of a column of arrays is that of any object.
            return np.array([None], dtype=object) if name == mapping.get("z_pdf") else _nothing(kinds[name])

        read_catalogue(ColumnTable(_LABEL, shown, column), need_usable=False, **mapping)
        found = None
        if ids:
            found, _ = choose_column(ColumnTable(_LABEL, names, _nothing), "id", own_id, "id")
            if found is None and meta.index.name == HATS_INDEX:
                found = HATS_INDEX
            if found is None:
                raise MassmapError(
                    "the catalogue has no id column, and row numbers of its partitions repeat: name a column that is "
                    "unique in the whole catalogue with columns={'id': ...}"
                )
            mapping["id"] = found
            read += [found] if found in kinds else []
        return cls({name: kinds[name] for name in dict.fromkeys(read)}, mapping, found)

    @property
    def names(self) -> list[str]:
        """Names of the columns that are read."""
        return list(self.kinds)

    def catalogue(self, partition) -> HaloCatalogue | None:
        """Read the objects of a partition, in order.

        Parameters
        ----------
        partition : pandas.DataFrame
            The partition.

        Returns
        -------
        HaloCatalogue or None
            None for an empty partition.

        Raises
        ------
        MassmapError
            If a column is missing or of another kind than in the rest of the catalogue.
        """
        for name, kind in self.kinds.items():
            if name not in partition.columns:
                raise MassmapError(f"a partition has no column {name!r}, which others have: {_remedy(name)}")
            if _kind(partition.dtypes[name]) != kind:
                raise MassmapError(
                    f"column {name!r} of a partition holds {partition.dtypes[name]} where the catalogue says {kind}: "
                    + _remedy(name)
                )
        if len(partition) == 0:
            return None
        frame = partition[self.names]
        if self.id is not None and self.id not in self.kinds:
            frame = frame.assign(**{self.id: partition.index})
        return read_catalogue(
            dataclasses.replace(open_table(frame), label="a partition", few=len(frame) < _FEW),
            need_usable=False,
            **self.mapping,
        )


def _remedy(name: str) -> str:
    """Say what to do about partitions of different columns."""
    return f"write the files that hold {name!r} with one schema"


def _kind(dtype) -> str:
    """Name the kind of a column by its dtype."""
    from pandas.api import types

    if types.is_bool_dtype(dtype):
        return "bool"
    if types.is_numeric_dtype(dtype):
        return "number"
    return "text" if types.is_object_dtype(dtype) or types.is_string_dtype(dtype) else str(dtype)


def _nothing(kind: str) -> np.ndarray:
    """Make one missing value of a kind, so that the reader judges the column and not its values."""
    return {"number": np.full(1, np.nan), "text": np.array([""]), "bool": np.zeros(1, dtype=bool)}.get(
        kind, np.array([{}], dtype=object)
    )


# -- all of them --------------------------------------------------------------------------------------------------


class Partitions:
    """Treat an LSDB `Catalog` and a `dask.dataframe.DataFrame` alike.

    Parameters
    ----------
    source : lsdb.Catalog or dask.dataframe.DataFrame
        The catalogue.

    Attributes
    ----------
    source : lsdb.Catalog or dask.dataframe.DataFrame
        As it was given.
    meta : pandas.DataFrame
        Empty frame with its columns, dtypes and index.

    Raises
    ------
    MassmapError
        If Dask is not installed, the source is neither of the two, or it has no partitions.
    """

    def __init__(self, source):
        try:
            import dask.dataframe as dd
        except ImportError:
            raise MassmapError(
                "catalogues in partitions need dask, which is not installed: pip install 'dask[dataframe]' distributed "
                "lsdb"
            ) from None
        if not (isinstance(source, dd.DataFrame) or hasattr(source, "hc_structure")):
            raise MassmapError(
                f"a {type(source).__name__} is not a catalogue in partitions: give an LSDB Catalog (lsdb.open_catalog) "
                "or a dask DataFrame (dask.dataframe.read_parquet)"
            )
        self.source = source
        if isinstance(source, dd.DataFrame):
            self.meta = source._meta
        else:
            self.meta = source.meta if hasattr(source, "meta") else source._ddf._meta  # lsdb 0.7 has no meta
        if source.npartitions == 0:
            raise MassmapError("the catalogue has no partitions: nothing is left of it to compute")

    def delayed(self, columns: list[str] | None = None) -> list:
        """List the partitions as Dask's `Delayed` objects.

        Parameters
        ----------
        columns : list of str, optional
            The columns to read. By default all are read.

        Returns
        -------
        list of dask.delayed.Delayed
            One per partition.
        """
        source = self.source if columns is None or len(columns) == len(self.meta.columns) else self.source[columns]
        return source.to_delayed()

    def fingerprint(self) -> str:
        """Identify what makes the partitions: functions, arguments, and size and date of the files that are read.

        The files of LSDB are looked up if they are on a local disk; those of Dask as Dask does (Parquet).

        Returns
        -------
        str
            A hash that changes with the input.
        """
        if hasattr(self.source, "expr"):
            said = list(_graph_of(self.source.expr))
        else:
            said = [str(part.key) for part in self.source.to_delayed()]
            folder = self.source.hc_structure.catalog_path
            if folder is not None and Path(str(folder)).is_dir():
                found = sorted(Path(str(folder)).rglob("*.parquet"))
                said += [f"{p.name}:{s.st_size}:{s.st_mtime_ns}" for p, s in ((p, p.stat()) for p in found)]
        return digest_of([np.array(said)])

    def reduce(self, work: Callable, combine: Callable, columns: list[str]):
        """Combine the results of all partitions, in a tree whose shape depends only on the number of partitions.

        Parameters
        ----------
        work : callable
            Called with a partition.
        combine : callable
            Called with a list of results of `work` or of itself.
        columns : list of str
            The columns to read.

        Returns
        -------
        object
            The last result of `combine`.

        Raises
        ------
        MassmapError
            If a partition cannot be computed.
        """
        from dask import compute, delayed

        each, together = delayed(work, traverse=False), delayed(combine, traverse=False)
        level = [each(part) for part in self.delayed(columns)]
        level = [together(level[i : i + _TOGETHER]) for i in range(0, len(level), _TOGETHER)]
        while len(level) > 1:
            level = [together(level[i : i + _TOGETHER]) for i in range(0, len(level), _TOGETHER)]
        with told_as_sentences():
            return compute(level[0])[0]


def _graph_of(expression) -> Iterator[str]:
    """Describe a Dask expression in words that are the same in another process.

    Dask's own name of a Parquet source changes with what the process has read of its files so far.
    """
    from dask.base import tokenize

    for node in expression.walk():
        named = dict(zip(node._parameters, node.operands, strict=False))
        further = node.operands[len(node._parameters) :]
        own = [v for n, v in named.items() if n not in ("_dataset_info_cache", "_pq_length_stats")]
        yield type(node).__name__
        yield from (tokenize(v) for v in [*own, *further] if not hasattr(v, "walk"))
        yield str(getattr(node, "checksum", ""))


def finished(tasks: list) -> Iterator:
    """Yield the results of Dask's `Delayed` tasks as they are finished.

    Tasks that have not begun are cancelled when the caller stops.

    Parameters
    ----------
    tasks : list of dask.delayed.Delayed
        The tasks.

    Yields
    ------
    object
        The result of a task, in the order in which they are finished.
    """
    from dask import compute

    client = _client()
    if client is None:
        size = os.cpu_count() or 1
        for start in range(0, len(tasks), size):
            yield from compute(*tasks[start : start + size])
        return
    from distributed import as_completed

    futures = client.compute(tasks)
    try:
        with told_as_sentences():
            for future in as_completed(futures):
                yield future.result()
                future.release()
    finally:
        client.cancel([future for future in futures if not future.done()])


@contextlib.contextmanager
def told_as_sentences():
    """Turn Dask's errors about a partition that cannot be computed into a MassmapError.

    Raises
    ------
    MassmapError
        If a partition lacks a column, or its workers died.
    """
    try:
        yield
    except KeyError as error:
        raise MassmapError(
            f"a partition lacks a column that the others have ({error.args[0]}): write their files with one schema"
        ) from error
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise MassmapError(
            "the worker of a partition died at every attempt, most often because it ran out of memory: give the "
            "workers more memory, or the catalogue smaller partitions"
        ) from error


# -- what is sent to each worker once ---------------------------------------------------------------------------------


class Held:
    """Hold an object that every task needs: a task carries only its name, and each worker process gets the object once.

    With a Dask client, all its workers get the object now, and workers that join later get it then. Without a client,
    tasks run in this process (Dask's threads) or carry the object themselves.

    Parameters
    ----------
    value : object
        A pytree of arrays, such as a prior or a relation.

    Attributes
    ----------
    name : str
        Hash of the object.
    """

    def __init__(self, value):
        self.name = digest_of([*jax.tree.leaves(value), np.array(str(jax.tree.structure(value)))])
        self._value = value
        self._sent = _send(self.name, value)

    @property
    def value(self):
        """The object, looked up where it is used, since Dask's scheduler also unpickles tasks and does not have it."""
        value = self._value if self._value is not None else HELD.get(self.name)
        if value is None:
            raise MassmapError(
                "a worker was not given the prior and the relation: make the lazy catalogue anew, after dask's client"
            )
        return value

    def __reduce__(self):
        return _received, (self.name, None if self._sent else self._value)

    def __dask_tokenize__(self):
        return self.name


def _received(name: str, value) -> Held:
    """Rebuild a `Held` in the process that receives a task."""
    held = Held.__new__(Held)
    held.name, held._sent = name, value is None
    # One copy in a process, however many tasks carry it.
    held._value = value if value is None else HELD.setdefault(name, value)
    return held


def _client():
    """Find Dask's client, or None."""
    try:
        from distributed import default_client

        return default_client()
    except (ImportError, ValueError):
        return None


def _send(name: str, value) -> bool:
    """Send an object to all workers, also to later ones; return whether there is a client to do so."""
    client = _client()
    if client is None:
        return False
    from distributed import WorkerPlugin

    class Delivery(WorkerPlugin):
        def __init__(self):
            self.content = (name, value)

        def setup(self, worker):
            # Imported here, because this class is sent to the worker by value, with copies of the globals it names.
            from massmap_jax.scale.worker_memory import hold

            hold(*self.content)

    client.register_plugin(Delivery(), name=f"massmap_jax-{name}")
    return True
