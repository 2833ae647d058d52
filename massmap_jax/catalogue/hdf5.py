"""Tables in HDF5 files, as pandas, astropy and simulation codes write them."""

import numpy as np

from massmap_jax.catalogue.columns import ColumnTable, as_plain
from massmap_jax.errors import MassmapError

# astropy describes the columns of a table in a data set beside it, of this name.
_BY_ASTROPY = ".__table_column_meta__"


def read_hdf5(path: str, group: str | None) -> ColumnTable:
    """Read a table from an HDF5 file: a data set with named fields, or a group of data sets of one length.

    A data set of two dimensions is a column with an array in each row.

    Parameters
    ----------
    path : str
        The file.
    group : str or None
        The data set or group, such as "Subhalo" or "/catalogue/table"; by default the only one, or the first.

    Returns
    -------
    ColumnTable
        Names, units (from attributes called unit or units) and values of the columns.

    Raises
    ------
    MassmapError
        Where h5py (or, for what pandas wrote, PyTables) is not installed, and for a file without a table.
    """
    try:
        import h5py
    except ImportError:
        raise MassmapError(
            f"{path} is HDF5, and reading it needs h5py (pip install h5py): install it, or convert the file to FITS, "
            "Parquet or CSV"
        ) from None
    with h5py.File(path, "r") as file:
        by_pandas = sorted(name for name in _groups(file, h5py) if "pandas_type" in file[name].attrs)
        tables = {} if by_pandas else _tables(file, h5py)
        listed = ", ".join(by_pandas or tables)
        if not listed:
            raise MassmapError(
                f"{path} holds no table: it needs a data set with named fields, or a group of data sets of one length"
            )
        wanted = None if group is None else "/" + group.strip("/")
        chosen = [name for name in (by_pandas or tables) if wanted in (None, name)]
        if not chosen:
            raise MassmapError(f"{path} has no table {group!r}; its tables are: {listed}")
        notes: tuple[str, ...] = ()
        if group is None and "," in listed:
            notes = (f"HDF5 table: took the first of {listed}; choose with {path}[NAME]",)
        if by_pandas:
            return _by_pandas(path, chosen[0], notes)
        if chosen[0] + _BY_ASTROPY in file:
            return _by_astropy(path, chosen[0], notes)
        columns, units = {}, {}
        for name, (data, column) in tables[chosen[0]].items():
            columns[name] = data[column] if column else data[()]
            unit = data.attrs.get("unit", data.attrs.get("units")) if not column else None
            if isinstance(unit, bytes | str) and unit:
                units[name] = unit.decode() if isinstance(unit, bytes) else unit
    return ColumnTable(path, tuple(columns), lambda name: _as_array(columns[name]), units, notes)


def nodes_of_qp(path: str) -> np.ndarray | None:
    """Give the redshifts at which all densities of a qp ensemble are.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    Float[np.ndarray, "node"] or None
        Redshifts, or the edges of a histogram; None for another file, or one whose densities have none in common.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if not _is_qp(file):
            return None
        name = next((name for name in ("xvals", "bins") if name in file["meta"]), None)
        return None if name is None else np.ravel(file["meta"][name][()]).astype(np.float64)


def _is_qp(file) -> bool:
    """Whether it is a qp ensemble: groups "meta", "data" and mostly "ancil", what else is known of the objects."""
    return "meta" in file and "data" in file and "pdf_name" in file["meta"]


def _groups(file, h5py) -> list[str]:
    found = ["/"]
    file.visititems(lambda name, item: found.append("/" + name) if isinstance(item, h5py.Group) else None)
    return found


def _tables(file, h5py) -> dict[str, dict]:
    """Find the tables of a file: for each, the data set and field of every column."""
    found = {}

    def look(name, item):
        if isinstance(item, h5py.Dataset):
            if item.dtype.names and item.ndim == 1 and not name.endswith(_BY_ASTROPY):
                found["/" + name] = {field: (item, field) for field in item.dtype.names}
            return
        sets = {key: value for key, value in item.items() if isinstance(value, h5py.Dataset) and value.ndim == 1}
        sets = {key: value for key, value in sets.items() if not value.dtype.names and value.size > 0}
        arrays = {key: value for key, value in item.items() if isinstance(value, h5py.Dataset) and value.ndim == 2}
        # p(z) of each object, and beside it the redshifts of its columns, which are no column of the table.
        heights, widths = {a.shape[0] for a in arrays.values()}, {a.shape[1] for a in arrays.values()}
        if len(heights) == 1 and any(value.size in heights for value in sets.values()):
            sets = {key: value for key, value in sets.items() if value.size in heights or value.size not in widths}
            sets |= arrays
        if len(sets) > 1 and len({value.shape[0] for value in sets.values()}) == 1:
            found["/" + name.strip("/")] = {key: (value, None) for key, value in sets.items()}

    if _is_qp(file):
        parts = [file[name] for name in ("ancil", "data") if name in file]
        sets = {key: value for part in parts for key, value in part.items() if isinstance(value, h5py.Dataset)}
        number = max((value.shape[0] for value in sets.values() if value.ndim), default=0)
        rows = {key: (value, None) for key, value in sets.items() if value.ndim and value.shape[0] == number}
        return {"/data": {key: column for key, column in rows.items() if column[0].ndim < 3}}
    look("/", file)
    file.visititems(look)
    return found


def _by_astropy(path: str, name: str, notes: tuple[str, ...]) -> ColumnTable:
    from astropy.table import Table

    table = Table.read(path, format="hdf5", path=name, character_as_bytes=False)
    units = {c: str(table[c].unit) for c in table.colnames if table[c].unit is not None}
    return ColumnTable(path, tuple(table.colnames), lambda column: as_plain(table[column]), units, notes)


def _by_pandas(path: str, name: str, notes: tuple[str, ...]) -> ColumnTable:
    try:
        import pandas as pd

        frame = pd.read_hdf(path, name)
    except ImportError:
        raise MassmapError(
            f"{path} was written by pandas, and reading it needs pandas and PyTables (pip install pandas tables): "
            "install them, or convert the file to Parquet"
        ) from None
    if not hasattr(frame, "columns"):
        raise MassmapError(f"{name} in {path} is a series and not a table: write a DataFrame with to_parquet")
    return ColumnTable(path, tuple(map(str, frame.columns)), lambda column: frame[column].to_numpy(), {}, notes)


def _as_array(values: np.ndarray) -> np.ndarray:
    """Give text as str, where h5py gives bytes."""
    if values.dtype.kind == "O":
        return np.array([x.decode("utf-8", "replace") if isinstance(x, bytes) else x for x in values], dtype=object)
    return values
