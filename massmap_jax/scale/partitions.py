"""A catalogue in partitions that no machine holds whole (LSDB, dask): how one is read, and sums over all of them.

dask and LSDB are imported when called. What tasks need beside their partition (prior, relation, posterior surface) is
`Held`: it goes to each worker process once, whatever the number of partitions.
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
# Results of so many partitions, or of so many sums of them, are added in one task.
_TOGETHER = 8
_NOT_FOR_PARTITIONS = ("source", "names", "delimiter", "header", "format", "need_usable", "need_positions")
_NOT_FOR_PARTITIONS += ("duplicate_ids",)


# -- one partition ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a partition becomes a `HaloCatalogue`.

    Attributes
    ----------
    kinds : of the columns that are read, by name: "number", "text" or another dtype.
    mapping : `read_catalogue`'s keywords.
    id : the column, or the index, that the ids are in; None where they are not asked for.
    """

    kinds: dict[str, str]
    mapping: dict
    id: str | None = None

    @classmethod
    def of(cls, meta, columns: dict | None, *, ids: bool = False) -> "Reading":
        """Settled on the empty frame that tells a catalogue's columns, before a row is read.

        Parameters
        ----------
        columns : `read_catalogue`'s keywords (lum, z, sigma, ...); what is left out is guessed as there.
        ids : whether ids are needed, which then have to be unique in the whole catalogue.
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
        read: list[str] = []

        def column(name):
            read.append(name)
            return _nothing(kinds[name])

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
        """Columns that are read."""
        return list(self.kinds)

    def catalogue(self, partition) -> HaloCatalogue | None:
        """Objects of a partition, in order; None where it is empty."""
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
            dataclasses.replace(open_table(frame), label="a partition"), need_usable=False, **self.mapping
        )


def _remedy(name: str) -> str:
    return f"write the files that hold {name!r} with one schema"


def _kind(dtype) -> str:
    from pandas.api import types

    if types.is_bool_dtype(dtype):
        return "bool"
    if types.is_numeric_dtype(dtype):
        return "number"
    return "text" if types.is_object_dtype(dtype) or types.is_string_dtype(dtype) else str(dtype)


def _nothing(kind: str) -> np.ndarray:
    """One missing value of a kind of column: the reader says what it thinks of the column, and not of its values."""
    return {"number": np.full(1, np.nan), "text": np.array([""]), "bool": np.zeros(1, dtype=bool)}.get(
        kind, np.array([{}], dtype=object)
    )


# -- all of them --------------------------------------------------------------------------------------------------


class Partitions:
    """An LSDB `Catalog` or a `dask.dataframe.DataFrame`, alike.

    Attributes
    ----------
    source : as given. meta : empty frame with its columns, dtypes and index.

    Raises
    ------
    MassmapError : dask is not installed; anything else than these two; no partitions.
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
        self.meta = source._meta if isinstance(source, dd.DataFrame) else source.meta
        if source.npartitions == 0:
            raise MassmapError("the catalogue has no partitions: nothing is left of it to compute")

    def delayed(self, columns: list[str] | None = None) -> list:
        """Each partition, as dask's `Delayed`; of some columns only."""
        source = self.source if columns is None or len(columns) == len(self.meta.columns) else self.source[columns]
        return source.to_delayed()

    def fingerprint(self) -> str:
        """Changes with what makes the partitions: functions, arguments, and size and date of the files that are read.

        Files of LSDB are looked at where they are on a disk; those of dask where dask does (Parquet).
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
        """`combine` of lists of `work(partition)`, in a tree whose shape depends on the number of partitions only."""
        from dask import compute, delayed

        each, together = delayed(work, traverse=False), delayed(combine, traverse=False)
        level = [each(part) for part in self.delayed(columns)]
        level = [together(level[i : i + _TOGETHER]) for i in range(0, len(level), _TOGETHER)]
        while len(level) > 1:
            level = [together(level[i : i + _TOGETHER]) for i in range(0, len(level), _TOGETHER)]
        with told_as_sentences():
            return compute(level[0])[0]


def _graph_of(expression) -> Iterator[str]:
    """A dask expression in words that another process repeats; dask's own name of a Parquet source changes with every
    process, by what it has found out of the files so far."""
    from dask.base import tokenize

    for node in expression.walk():
        named = dict(zip(node._parameters, node.operands, strict=False))
        further = node.operands[len(node._parameters) :]
        own = [v for n, v in named.items() if n not in ("_dataset_info_cache", "_pq_length_stats")]
        yield type(node).__name__
        yield from (tokenize(v) for v in [*own, *further] if not hasattr(v, "walk"))
        yield str(getattr(node, "checksum", ""))


def finished(tasks: list) -> Iterator:
    """Results of dask's `Delayed` tasks as they come; those not begun are cancelled when the caller stops."""
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
    """What dask makes of a partition that cannot be computed, as a MassmapError."""
    try:
        yield
    except KeyError as error:
        raise MassmapError(
            f"a partition has not the columns of the others ({error.args[0]}): write their files with one schema"
        ) from error
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise MassmapError(
            "a partition's worker died each time it was tried, for want of memory most often: give the workers more "
            "memory, or the catalogue smaller partitions"
        ) from error


# -- what goes to the workers once ------------------------------------------------------------------------------------


class Held:
    """An object that every task needs; a task carries its name, and each worker process gets the object once.

    With a dask client, all its workers get it now, and those that join later when they do. Without one, tasks run in
    this process (dask's threads) or carry the object themselves.
    """

    def __init__(self, value):
        self.name = digest_of([*jax.tree.leaves(value), np.array(str(jax.tree.structure(value)))])
        self._value = value
        self._sent = _send(self.name, value)

    @property
    def value(self):
        """The object; looked for where it is used, since dask's scheduler reads tasks too, and has not got it."""
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
    held = Held.__new__(Held)
    held.name, held._sent = name, value is None
    # One copy in a process, however many tasks bring it.
    held._value = value if value is None else HELD.setdefault(name, value)
    return held


def _client():
    """dask's client, or None."""
    try:
        from distributed import default_client

        return default_client()
    except (ImportError, ValueError):
        return None


def _send(name: str, value) -> bool:
    client = _client()
    if client is None:
        return False
    from distributed import WorkerPlugin

    class Delivery(WorkerPlugin):
        def __init__(self):
            self.content = (name, value)

        def setup(self, worker):
            # Imported: this class goes to the worker by value, with copies of the globals that it names.
            from massmap_jax.scale.worker_memory import hold

            hold(*self.content)

    client.register_plugin(Delivery(), name=f"massmap_jax-{name}")
    return True
