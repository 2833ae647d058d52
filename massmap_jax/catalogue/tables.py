"""`open_table`: a table of any kind, in a file or in memory, as named columns.

Kinds of file are told apart by their first bytes, because a suffix may be wrong or missing.
"""

import gzip
import re
import stat
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.columns import ColumnTable, as_plain
from massmap_jax.catalogue.text_table import parse_text
from massmap_jax.errors import MassmapError

FORMATS = ("csv", "ecsv", "fits", "parquet", "text")


def open_table(
    source,
    *,
    format: str | None = None,
    names: Sequence[str] | None = None,
    text_columns: Collection[str] = (),
) -> ColumnTable:
    """Open a table by its path, or wrap one that is in memory.

    Parameters
    ----------
    source : str, os.PathLike, dict, astropy.table.Table, pandas.DataFrame, pyarrow.Table or np.ndarray, (row,)
        A path is CSV (comma, semicolon or tab), ECSV, FITS (the first table, or path[EXTENSION] by name or number),
        Parquet, or text in columns separated by spaces, with or without a header. All but Parquet may be gzipped. A
        table in memory is a dict of arrays, a structured array, or a table of astropy, pandas or pyarrow.
    format : {"csv", "ecsv", "fits", "parquet", "text"}, optional
        The file's kind, where its first bytes do not tell.
    names : sequence of str, optional
        Column names of a text file, which replace its header if it has one.
    text_columns : collection of str
        Columns (in lower case) whose cells in a text file are kept as written, so that the id 007 stays 007.

    Returns
    -------
    ColumnTable
        Names, units and values of the columns.

    Raises
    ------
    MassmapError
        For a file that is missing, unreadable, of no known kind, damaged or without columns.
    """
    if format is not None and format not in FORMATS:
        raise MassmapError(f"format is {format!r}: it must be one of {', '.join(FORMATS)}")
    if isinstance(source, ColumnTable):
        return source
    if not isinstance(source, (str, Path)):
        return _table_in_memory(source)
    path, extension = split_extension(str(source))
    kind = format or sniff_format(path)
    if names is not None and kind not in ("csv", "text"):
        raise MassmapError(f"names are given, but {path} is {kind} and names its own columns: leave names out")
    readers = {
        "fits": lambda: _read_fits(path, extension),
        "parquet": lambda: _read_parquet(path),
        "ecsv": lambda: _read_ecsv(path),
        "csv": lambda: _read_text(path, names, text_columns),
        "text": lambda: _read_text(path, names, text_columns),
    }
    try:
        # A damaged file makes the readers warn and then fail; the error alone says enough.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = readers[kind]()
    except MassmapError:
        raise
    except Exception as error:  # the formats' libraries raise errors of a dozen unrelated types
        raise MassmapError(f"{path} cannot be read as {kind}: {first_line(error)}") from error
    if not table.names:
        raise MassmapError(f"{path} has no columns: it needs at least a luminosity and a redshift")
    return table


def sniff_format(path: str) -> str:
    """Tell the kind of a file by its first bytes, looking inside gzip.

    Parameters
    ----------
    path : str
        Path of the file.

    Returns
    -------
    str
        "fits", "parquet", "ecsv" or "text".

    Raises
    ------
    MassmapError
        For a file that does not exist, is not readable or empty, or is of a kind that is not supported.
    """
    if Path(path).is_dir():
        raise MassmapError(f"{path} is a folder: give the path of one catalogue file")
    check_regular(path)
    try:
        with open_plain_or_gzip(path) as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise MassmapError(f"there is no file {path}: check the path") from None
    except (OSError, EOFError) as error:
        raise MassmapError(f"{path} cannot be read: {first_line(error)}") from error
    if not head.strip():
        raise MassmapError(f"{path} is empty")
    if head.startswith(b"version https://git-lfs"):
        raise MassmapError(f"{path} is a git-lfs pointer and not the file itself: fetch it with git lfs pull")
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.removeprefix(b"\xef\xbb\xbf").startswith(b"# %ECSV"):
        return "ecsv"
    others = {
        b"\x89HDF": "HDF5",
        b"PK\x03\x04": "a zip or npz archive",
        b"\x93NUMPY": "a .npy array",
        b"<": "XML",
    }
    other = next((name for start, name in others.items() if head.startswith(start)), None)
    if other or b"\x00" in head:
        raise MassmapError(
            f"{path} is {other or 'binary (or UTF-16 text)'}: convert it to FITS, Parquet, ECSV, CSV or plain"
            " UTF-8 text"
        )
    return "text"


def check_regular(path) -> None:
    """Refuse a pipe, socket or device: opening one may wait for ever, and it cannot be read twice."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:  # whatever opens the file reports it
        return
    if not stat.S_ISREG(mode):
        raise MassmapError(f"{path} is a pipe or a device, not a regular file: write what it gives to a file first")


def open_plain_or_gzip(path: str):
    """Open a file for reading bytes, uncompressed if it is gzipped."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else open(path, "rb")


def split_extension(path: str) -> tuple[str, str | None]:
    """Split "a.fits[CLUSTERS]" into ("a.fits", "CLUSTERS"), unless a file has exactly that name."""
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", path)
    if match is None or Path(path).exists():
        return path, None
    return match[1], match[2]


def first_line(error: Exception) -> str:
    """Give the reason in a library's error, without the rest of its text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__


def _table_in_memory(source) -> ColumnTable:
    label = f"the {type(source).__name__}"
    if hasattr(source, "colnames"):  # astropy Table
        return _from_astropy(source, label)
    if hasattr(source, "column_names") and hasattr(source, "schema"):  # pyarrow Table
        return from_arrow(source, label)
    if hasattr(source, "columns") and hasattr(source, "iloc"):  # pandas DataFrame
        names = tuple(str(name) for name in source.columns)
        return ColumnTable(label, names, lambda name: _array_from_pandas(source.iloc[:, names.index(name)]))
    if isinstance(source, np.ndarray) and source.dtype.names:
        return ColumnTable(label, source.dtype.names, lambda name: as_plain(source[name]))
    if isinstance(source, dict):
        units = {str(name): str(x.unit) for name, x in source.items() if getattr(x, "unit", None) is not None}
        return ColumnTable(label, tuple(map(str, source)), lambda name: as_plain(source[name]), units)
    raise MassmapError(
        f"a catalogue cannot be read from a {type(source).__name__}: give a path, an astropy Table, a pandas "
        "DataFrame or a dict of arrays"
    )


def _array_from_pandas(series) -> np.ndarray:
    """Give the NumPy values of a Series; one backed by Arrow is not converted through Python objects."""
    if hasattr(series.dtype, "pyarrow_dtype"):
        return _array_from_arrow(series.array.__arrow_array__())
    return as_plain(series)


def _from_astropy(table, label: str, notes: tuple[str, ...] = ()) -> ColumnTable:
    units = {name: str(table[name].unit) for name in table.colnames if getattr(table[name], "unit", None) is not None}
    return ColumnTable(label, tuple(table.colnames), lambda name: as_plain(table[name]), units, notes)


def _read_fits(path: str, extension: str | None) -> ColumnTable:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as hdus:
        hdu, notes = fits_table(hdus, path, extension)
        table = Table.read(hdu, character_as_bytes=False)
    return _from_astropy(table, path, notes)


def fits_table(hdus, path: str, extension: str | None):
    """Find the table of a FITS file that the extension names, with a note if it is one of several.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
        The open file.
    path : str
        Its path, for messages.
    extension : str or None
        Name or number of the extension; None for the first table.

    Returns
    -------
    hdu : astropy.io.fits.BinTableHDU
        The table.
    notes : tuple of str
        What was chosen.

    Raises
    ------
    MassmapError
        For a file without a table, or without the table named.
    """
    from astropy.io import fits

    tables = {i: hdu.name for i, hdu in enumerate(hdus) if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))}
    tables = {i: name for i, name in tables.items() if not isinstance(hdus[i], fits.CompImageHDU)}
    if not tables:
        raise MassmapError(f"{path} holds no table, only images: give a FITS file with a binary table")
    listed = ", ".join(f"{i} {name}".strip() for i, name in tables.items())
    chosen = [i for i, name in tables.items() if extension in (None, str(i)) or extension.upper() == name]
    if not chosen:
        raise MassmapError(f"{path} has no table {extension!r}; its tables are: {listed}")
    notes: tuple[str, ...] = ()
    if extension is None and len(tables) > 1:
        notes = (f"FITS table: took the first, {chosen[0]}, of {listed}; choose with {path}[NAME]",)
    return hdus[chosen[0]], notes


def _read_ecsv(path: str) -> ColumnTable:
    from astropy.table import Table

    return _from_astropy(Table.read(path, format="ascii.ecsv"), path)


def _read_parquet(path: str) -> ColumnTable:
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    units = parquet_units(schema)

    def column(name: str) -> np.ndarray:
        return _array_from_arrow(pq.read_table(path, columns=[name], partitioning=None).column(0))

    return ColumnTable(path, tuple(schema.names), column, units)


def parquet_units(schema) -> dict[str, str]:
    """Give the units of columns, from the metadata of the fields or from what astropy wrote."""
    units = {f.name: f.metadata[b"unit"].decode() for f in schema if f.metadata and b"unit" in f.metadata}
    written_by_astropy = (schema.metadata or {}).get(b"table_meta_yaml")
    if written_by_astropy:
        from astropy.table import meta

        header = meta.get_header_from_yaml(written_by_astropy.decode().split("\n"))
        units |= {c["name"]: str(c["unit"]) for c in header["datatype"] if c.get("unit")}
    return {name: unit for name, unit in units.items() if unit}


def from_arrow(table, label: str, units: dict[str, str] | None = None, notes: tuple[str, ...] = ()) -> ColumnTable:
    """Wrap a pyarrow Table as named columns."""
    names = tuple(table.column_names)
    return ColumnTable(
        label, names, lambda name: _array_from_arrow(table.column(names.index(name))), units or {}, tuple(notes)
    )


def _array_from_arrow(column) -> np.ndarray:
    """Give the NumPy values of an Arrow column; null is masked for integers and text, and NaN for floats."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_temporal(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.string())
    null = None if column.null_count == 0 else column.is_null().to_numpy()
    if null is not None and pa.types.is_integer(column.type):
        return np.ma.masked_array(column.fill_null(0).to_numpy(), null)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        if null is None:
            return column.to_numpy().astype(str)
        return np.ma.masked_array(column.fill_null("").to_numpy().astype(str), null)
    return column.to_numpy()


def _read_text(path: str, names: Sequence[str] | None, text_columns: Collection[str]) -> ColumnTable:
    with open_plain_or_gzip(path) as file:
        table, notes, _ = parse_text(file.read(), path, names, text_columns)
    return from_arrow(table, path, notes=notes)
