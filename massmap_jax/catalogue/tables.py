"""`open_table`: a table of any kind, in a file or in memory, as named columns.

Kinds of file are told apart by their first bytes, because a suffix may be wrong or missing.
"""

import bz2
import dataclasses
import gzip
import io
import lzma
import re
import stat
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from massmap_jax.catalogue.columns import ColumnTable, as_plain
from massmap_jax.catalogue.csv_metadata import metadata_file, read_metadata
from massmap_jax.catalogue.hdf5 import read_hdf5
from massmap_jax.catalogue.sky_frames import sky_columns
from massmap_jax.catalogue.text_layout import TextLayout
from massmap_jax.catalogue.text_table import parse_text
from massmap_jax.catalogue.value_and_error import split_values
from massmap_jax.errors import MassmapError, first_line

FORMATS = ("cds", "csv", "ecsv", "fits", "hdf5", "ipac", "mrt", "parquet", "text", "votable")
_TEXT = ("csv", "text")
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def open_table(
    source,
    *,
    format: str | None = None,
    names: Sequence[str] | None = None,
    text_columns: Collection[str] = (),
    delimiter: str | None = None,
    header: str | None = None,
) -> ColumnTable:
    """Open a table by its path, or wrap one that is in memory.

    Parameters
    ----------
    source : str, os.PathLike, dict, astropy.table.Table, pandas.DataFrame, pyarrow.Table or np.ndarray, (row,)
        A path is text (cells between commas, semicolons, tabs, "|" or spaces, with or without a header), ECSV, a
        machine-readable table of CDS or the AAS, IPAC, VOTable, FITS, HDF5 or Parquet. Of several tables in a FITS,
        VOTable or HDF5 file the first is taken, or path[NAME] (or its number). All but HDF5 and Parquet may be
        compressed with gzip, bzip2 or xz. A table in memory is a dict of arrays, a structured array, or a table of
        astropy, pandas or pyarrow.
    format : {"cds", "csv", "ecsv", "fits", "hdf5", "ipac", "mrt", "parquet", "text", "votable"}, optional
        The file's kind, where its content does not tell.
    names : sequence of str, optional
        Column names of a text file, which replace its header if it has one.
    text_columns : collection of str
        Columns (by `normal_name`) whose cells in a text file are kept as written, so that the id 007 stays 007.
    delimiter, header : str, optional
        Of a text file, where its lines do not tell; see `massmap_jax.catalogue.text_layout.find_text_layout`.

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
    for option, given in (("delimiter", delimiter), ("header", header)):
        if given is not None and not isinstance(source, (str, Path)):
            raise MassmapError(f"{option}={given!r} is for text files, and the catalogue is a table in memory")
    if isinstance(source, ColumnTable):
        return source
    if not isinstance(source, (str, Path)):
        return _table_in_memory(source)
    path, extension = split_extension(str(source))
    kind = format or sniff_format(path)
    check_text_options(path, kind, names=names, delimiter=delimiter, header=header)

    def read_text() -> ColumnTable:
        table, layout = split_values(*parse_text(read_bytes(path), path, names, text_columns, delimiter, header))
        return from_arrow(table, path, *units_of_text(path, layout))

    readers = {
        "fits": lambda: _read_fits(path, extension),
        "parquet": lambda: _read_parquet(path),
        "ecsv": lambda: _read_ascii(path, "ecsv"),
        "cds": lambda: _read_ascii(path, "cds"),
        "mrt": lambda: _read_ascii(path, "cds"),  # CDS's form with another title; one reader knows both
        "ipac": lambda: _read_ascii(path, "ipac"),
        "votable": lambda: _read_votable(path, extension),
        "hdf5": lambda: read_hdf5(path, extension),
        "csv": read_text,
        "text": read_text,
    }
    try:
        # A damaged file makes the readers warn and then fail; the error alone says enough.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = readers[kind]()
    except MassmapError:
        raise
    except Exception as error:  # the formats' libraries raise errors of a dozen unrelated types
        raise unreadable(path, kind, error) from error
    if not table.names:
        raise MassmapError(f"{path} has no columns: it needs at least a luminosity and a redshift")
    return replace(table, column=_said_as_sentence(table.column, path, kind))


def units_of_text(path, layout: TextLayout) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give units and notes of a text file: its own, and for columns without one those of the file beside it."""
    beside = {name: unit for name, unit in read_metadata(path)[1].items() if name in layout.names}
    beside = {name: unit for name, unit in beside.items() if name not in layout.units}
    notes = (f"units: of {', '.join(beside)} taken from {metadata_file(path)}",) if beside else ()
    return layout.units | beside, layout.notes + notes


def unreadable(path, kind: str, error: Exception) -> MassmapError:
    """Make the error of a file that a format's library cannot read."""
    return MassmapError(f"{path} cannot be read as {kind}: {first_line(error)}; is it damaged, or cut short?")


def _said_as_sentence(column: Callable[[str], np.ndarray], path: str, kind: str) -> Callable[[str], np.ndarray]:
    """Read a column later, when a damaged page of Parquet or heap of FITS is met."""

    def read(name: str) -> np.ndarray:
        try:
            return column(name)
        except MassmapError:
            raise
        except Exception as error:
            raise unreadable(f"column {name!r} of {path}", kind, error) from error

    return read


def check_text_options(path: str, kind: str, **given) -> None:
    """Refuse options that are for text files where the file is another kind."""
    for option, value in given.items():
        if value is not None and kind not in _TEXT:
            are = "names are" if option == "names" else f"{option} is"
            raise MassmapError(f"{are} given, but {path} is {kind} and names its own columns: leave {option} out")


def sniff_format(path: str) -> str:
    """Tell the kind of a file by what it holds, looking inside gzip, bzip2 and xz.

    Parameters
    ----------
    path : str
        Path of the file.

    Returns
    -------
    str
        One of `FORMATS`; "text" for every kind of delimiter.

    Raises
    ------
    MassmapError
        For a file that does not exist, is not readable or empty, or is of a kind that is not supported.
    """
    if Path(path).is_dir():
        raise MassmapError(f"{path} is a folder: give the path of one catalogue file")
    check_regular(path)
    try:
        with open_plain(path) as file:
            head = file.read(1 << 16)
    except FileNotFoundError:
        raise MassmapError(f"there is no file {path}: check the path") from None
    except Exception as error:  # of the file system, or of three libraries for damaged compression
        raise MassmapError(f"{path} cannot be read: {first_line(error)}") from error
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise MassmapError(f"{path} is empty")
    if head.startswith(b"version https://git-lfs"):
        raise MassmapError(f"{path} is a git-lfs pointer and not the file itself: fetch it with git lfs pull")
    for kind, first in (("fits", b"SIMPLE  ="), ("parquet", b"PAR1"), ("hdf5", b"\x89HDF"), ("ecsv", b"# %ECSV")):
        if start.startswith(first):
            return kind
    if start.startswith(b"<") and re.search(rb"<(\w+:)?VOTABLE", head):
        return "votable"
    others = {
        b"PK\x03\x04": "a zip or npz archive",
        b"\x93NUMPY": "a .npy array",
        b"\x1f\x9d": "compressed by compress (.Z)",
        b"<": "XML or HTML",
        b"{": "JSON",
        b"[{": "JSON",
    }
    other = next((name for first, name in others.items() if start.startswith(first)), None)
    if re.search(rb"^\s*\\begin\{(?:table|tabular|deluxetable|longtable)", head, re.MULTILINE):
        other = "a LaTeX table"
    if re.match(rb"=+(?:[ \t]+=+)+[ \t]*\r?\n", start):
        other = "a reStructuredText table"
    if other or b"\x00" in head[:4096]:
        raise MassmapError(
            f"{path} is {other or 'binary (or UTF-16 text)'}: convert it to FITS, Parquet, VOTable, ECSV, CSV or plain"
            " UTF-8 text"
        )
    if re.search(rb"^\s*Byte-by-byte Description of file", head, re.MULTILINE | re.IGNORECASE):
        return "cds"
    return "ipac" if _is_ipac(head) else "text"


def _is_ipac(head: bytes) -> bool:
    """Tell an IPAC table: lines of names between "|" above rows without."""
    lines = [line.rstrip() for line in head.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(b"\\")]
    in_bars = [line.startswith(b"|") and line.endswith(b"|") for line in lines]
    number = in_bars.index(False) if False in in_bars else len(lines)
    types = {b"double", b"d", b"float", b"f", b"real", b"r", b"int", b"i", b"long", b"l", b"char", b"c", b"date"}
    typed = number > 1 and {cell.strip().lower() for cell in lines[1].strip(b"|").split(b"|")} <= types
    return 0 < number <= 4 and (typed or (number < len(lines) and b"|" not in b"".join(lines[number:-1])))


def check_regular(path) -> None:
    """Refuse a pipe, socket or device: opening one may wait for ever, and it cannot be read twice."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:  # whatever opens the file reports it
        return
    if not stat.S_ISREG(mode):
        raise MassmapError(f"{path} is a pipe or a device, not a regular file: write what it gives to a file first")


def open_plain(path: str):
    """Open a file for reading bytes, uncompressed if it is compressed (gzip, bzip2, xz)."""
    with open(path, "rb") as file:
        first = file.read(6)
    opened: Callable[..., Any] = next(
        (opener for magic, opener in _COMPRESSED.items() if first.startswith(magic)), open
    )
    return opened(path, "rb")


def read_bytes(path: str) -> bytes:
    """Read a whole file, uncompressed."""
    with open_plain(path) as file:
        return file.read()


def split_extension(path: str) -> tuple[str, str | None]:
    """Split "a.fits[CLUSTERS]" into ("a.fits", "CLUSTERS"), unless a file has exactly that name."""
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", path)
    if match is None or Path(path).exists():
        return path, None
    return match[1], match[2]


def _table_in_memory(source) -> ColumnTable:
    label = f"the {type(source).__name__}"
    if hasattr(source, "colnames"):  # astropy Table
        return _from_astropy(source, label)
    if hasattr(source, "column_names") and hasattr(source, "schema"):  # pyarrow Table
        import pyarrow as pa

        return from_arrow(pa.Table.from_batches([source]) if isinstance(source, pa.RecordBatch) else source, label)
    if hasattr(source, "columns") and hasattr(source, "iloc"):  # pandas DataFrame
        # An index that has a name is a column too, as the one of set_index("name") is.
        named = [name for name in source.index.names if name is not None and name not in source.columns]
        source = source.reset_index(level=named) if named else source
        names = tuple(str(name) for name in source.columns)
        return ColumnTable(label, names, lambda name: _array_from_pandas(source.iloc[:, names.index(name)]))
    if hasattr(source, "header") and isinstance(getattr(source, "data", None), np.ndarray):  # an HDU of astropy
        source = source.data
    if isinstance(source, np.ndarray) and source.dtype.names and hasattr(source, "columns"):
        return _from_fits_records(source, label)
    if isinstance(source, np.ndarray) and source.dtype.names:
        return ColumnTable(label, source.dtype.names, lambda name: as_plain(source[name]))
    if hasattr(source, "__arrow_c_stream__"):  # polars, and others that share their columns through Arrow
        import pyarrow as pa

        return from_arrow(pa.table(source), label)
    if isinstance(source, dict):
        units = {str(name): str(x.unit) for name, x in source.items() if getattr(x, "unit", None) is not None}
        return ColumnTable(label, tuple(map(str, source)), lambda name: as_plain(source[name]), units)
    raise MassmapError(
        f"a catalogue cannot be read from a {type(source).__name__}: give a path, an astropy Table, a pandas "
        "DataFrame or a dict of arrays"
    )


def _from_fits_records(source, label: str) -> ColumnTable:
    """Wrap what `astropy.io.fits.getdata` gives, with the units and missing values that its columns state."""
    from astropy.io import fits
    from astropy.table import Table

    return _from_astropy(Table.read(fits.BinTableHDU(data=source), character_as_bytes=False), label)


def _array_from_pandas(series) -> np.ndarray:
    """Give the NumPy values of a Series; one backed by Arrow is not converted through Python objects."""
    if hasattr(series.dtype, "pyarrow_dtype"):
        return _array_from_arrow(series.array.__arrow_array__())
    return as_plain(series)


def _from_astropy(table, label: str, notes: tuple[str, ...] = ()) -> ColumnTable:
    units = {name: str(table[name].unit) for name in table.colnames if getattr(table[name], "unit", None) is not None}
    sky: dict[str, np.ndarray] = {}
    names: list[str] = []
    for name in table.colnames:
        if not hasattr(table[name], "transform_to"):  # a SkyCoord has it, and no other column
            names.append(name)
            continue
        columns, note = sky_columns(name, table[name])
        sky, units, notes = sky | columns, units | dict.fromkeys(columns, "deg"), (*notes, note)
        names += columns
    described = {name: getattr(getattr(table[name], "info", None), "description", None) for name in table.colnames}
    return ColumnTable(
        label, tuple(names), lambda name: sky[name] if name in sky else as_plain(table[name]), units, notes,
        descriptions={name: str(text) for name, text in described.items() if text},
    )  # fmt: skip


def fits_descriptions(header) -> dict[str, str]:
    """Give what a FITS table says of its columns, which many files do in the comments of the cards that name them.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header of the table.

    Returns
    -------
    dict of str to str
        Descriptions by column.
    """
    cards = {i: f"TTYPE{i}" for i in range(1, header.get("TFIELDS", 0) + 1) if f"TTYPE{i}" in header}
    found = {str(header[card]): header.get(f"TCOMM{i}") or header.comments[card] for i, card in cards.items()}
    return {name: str(text) for name, text in found.items() if text}


def _read_fits(path: str, extension: str | None) -> ColumnTable:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as hdus:
        hdu, notes = fits_table(hdus, path, extension)
        table = Table.read(hdu, character_as_bytes=False)
        found = _from_astropy(table, path, notes)
        return dataclasses.replace(found, descriptions=fits_descriptions(hdu.header) | found.descriptions)


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


def _read_ascii(path: str, kind: str) -> ColumnTable:
    """Read a text format that astropy knows."""
    from astropy.table import Table

    data = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    notes: tuple[str, ...] = ()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text, notes = data.decode("latin-1"), ("the file is not UTF-8: read as Latin-1",)
    lines = text.splitlines()
    table = Table.read(lines, format=f"ascii.{kind}", guess=False)
    return _from_astropy(table, path, notes)


def _read_votable(path: str, extension: str | None) -> ColumnTable:
    from astropy.io import votable

    tables = list(votable.parse(io.BytesIO(read_bytes(path)), verify="ignore").iter_tables())
    tables = [table for table in tables if table.fields]
    if not tables:
        raise MassmapError(f"{path} is a VOTable (XML) that holds no table: give one with rows, or another format")
    labels = [{str(i), table.ID, table.name} for i, table in enumerate(tables)]
    listed = ", ".join(f"{i} {table.name or table.ID or ''}".strip() for i, table in enumerate(tables))
    chosen = [table for table, known in zip(tables, labels, strict=True) if extension is None or extension in known]
    if not chosen:
        raise MassmapError(f"{path} has no table {extension!r}; its tables are: {listed}")
    notes: tuple[str, ...] = ()
    if extension is None and len(tables) > 1:
        notes = (f"VOTable: took the first table of {listed}; choose with {path}[NAME]",)
    found = chosen[0].to_table(use_names_over_ids=True)
    if not len(found) and b"<CSV" in read_bytes(path):
        raise MassmapError(
            f"{path} is a VOTable (XML) with its rows as CSV inside, as VizieR's votable/-tsv gives them, and not in a"
            " form of VOTable: get the table as VOTable or as TSV"
        )
    return _from_astropy(found, path, notes)


def _read_parquet(path: str) -> ColumnTable:
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    units = parquet_units(schema)

    def column(name: str) -> np.ndarray:
        return _array_from_arrow(
            pq.read_table(path, columns=[name], partitioning=None, page_checksum_verification=True).column(0)
        )

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
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return _rows_from_arrow(column)
    null = None if column.null_count == 0 else column.is_null().to_numpy()
    if null is not None and pa.types.is_integer(column.type):
        return np.ma.masked_array(column.fill_null(0).to_numpy(), null)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        if null is None:
            return column.to_numpy().astype(str)
        return np.ma.masked_array(column.fill_null("").to_numpy().astype(str), null)
    return column.to_numpy()


def _rows_from_arrow(column) -> np.ndarray:
    """Give the rows of a column of lists: a matrix where they hold numbers and have one length, NaN where null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    lengths = {int(n) for chunk in chunks for n in pc.unique(pc.list_value_length(chunk.drop_null())).to_pylist()}
    value = column.type.value_type
    if len(lengths) != 1 or not (pa.types.is_floating(value) or pa.types.is_integer(value)):
        return np.array(column.to_pylist(), dtype=object) if len(lengths) > 1 else column.to_numpy(zero_copy_only=False)
    length = lengths.pop()
    parts = []
    for chunk in chunks:
        # Chunk by chunk: all numbers together may be more than the offsets of one list can count.
        flat = pc.list_flatten(chunk.drop_null()).to_numpy(zero_copy_only=False).reshape(-1, length)
        if chunk.null_count:
            rows = np.full((len(chunk), length), np.nan)
            rows[chunk.is_valid().to_numpy(zero_copy_only=False)] = flat
            flat = rows
        parts.append(flat)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
