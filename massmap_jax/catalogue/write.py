"""Tables out, complete or not at all: `write_table`, and `atomic_file` for a file of another kind."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.csv_metadata import metadata_file, metadata_text
from massmap_jax.catalogue.described import DescribedTable, as_json, writable
from massmap_jax.catalogue.parquet_metadata import parquet_metadata
from massmap_jax.errors import MassmapError
from massmap_jax.stopping import undone_if_stopped

SUFFIXES = (".parquet", ".fits", ".csv", ".ecsv", ".vot")


def write_table(
    path,
    columns: Mapping[str, np.ndarray],
    meta: Mapping | None = None,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    ucds: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write columns to a .parquet, .fits, .csv, .ecsv or .vot (VOTable) file.

    The file is written under another name and renamed at the end, so a failure leaves what was there before.

    Parameters
    ----------
    path : str or os.PathLike
        File to write; its suffix says which kind of table.
    columns : dict of str to np.ndarray, (row,)
        Columns by name: numbers, booleans or text, all of the same length. FITS is ASCII: other letters are written as
        "\\xf6", and where ids have them a column `row` of row numbers is added.
    meta : dict, optional
        Metadata, kept in the Parquet schema (as JSON), in FITS header cards, in the ECSV meta, in INFO elements of a
        VOTable, or beside a CSV file, which has a header and rows only, in NAME.csv-metadata.json.
    units : dict of str to str, optional
        Units by column. A unit that FITS does not allow goes into the column's comment there.
    descriptions : dict of str to str, optional
        Descriptions by column.
    ucds : dict of str to str, optional
        By column, the words of the Virtual Observatory for what it holds, such as "pos.eq.ra;meta.main".
    overwrite : bool
        Replace a file of that name.

    Raises
    ------
    MassmapError
        For an unknown suffix, columns of different lengths, a file that exists, or one that cannot be written (for
        example because the disk is full).

    See Also
    --------
    massmap_jax.MassPosterior.to_table : The columns of a posterior.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> columns = {"id": np.array([7, 8]), "log10_mass_mean": np.array([14.5, 13.75])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "masses.csv"
    ...     mm.write_table(path, columns, meta={"prior": "default"}, descriptions={"id": "cluster"})
    ...     lines = path.read_text().splitlines()
    ...     sorted(file.name for file in Path(folder).iterdir())
    ['masses.csv', 'masses.csv-metadata.json']
    >>> lines[-2:]
    ['7,14.5', '8,13.75']
    """
    path = Path(path)
    writers = dict(zip(SUFFIXES, (_write_parquet, _write_fits, _write_csv, _write_ecsv, _write_votable), strict=True))
    if path.suffix.lower() not in writers:
        raise MassmapError(f"{path} must end in one of {', '.join(SUFFIXES)} to say what kind of table to write")
    columns = {name: writable(values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise MassmapError(f"the columns for {path} differ in length: {lengths}")
    table = DescribedTable(columns, meta or {}, units or {}, descriptions or {}, ucds or {})
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_file(path, overwrite=overwrite))
        if path.suffix.lower() == ".csv":
            _write_beside(stack, path, table, overwrite)
        writers[path.suffix.lower()](temporary, table)


def _write_beside(stack: contextlib.ExitStack, path: Path, table: DescribedTable, overwrite: bool) -> None:
    """Write the metadata of a CSV file beside it, in place before the file itself; those of an earlier one go."""
    beside = metadata_file(path)
    if table.says_something:
        file = stack.enter_context(atomic_file(beside, overwrite=overwrite))
        file.write_text(metadata_text(table, path.name), encoding="utf-8")
    elif overwrite:
        beside.unlink(missing_ok=True)
    elif beside.exists():
        raise MassmapError(f"{beside} exists, and {path.name} would be read with it: remove it, or overwrite")


@contextlib.contextmanager
def atomic_file(path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` if the block ends without an error.

    Parameters
    ----------
    path : str or os.PathLike
        File to make. The temporary one has the same folder and suffix.
    overwrite : bool
        Replace a file of that name.

    Yields
    ------
    Path
        The temporary file; it is removed if the block fails.

    Raises
    ------
    MassmapError
        For a folder of that name, a file that exists when `overwrite` is false, or an OSError in the block.
    """
    path = Path(path)
    if path.is_dir():
        raise MassmapError(f"{path} is a folder: give the name of a file to write")
    if path.exists() and not overwrite:
        raise MassmapError(f"{path} exists and is left as it was: choose another name or overwrite")
    with told_as_sentence(path):
        check_parent(path)
        target = Path(os.path.realpath(path))  # a link stays; the file it points to is replaced
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            with undone_if_stopped(partial(temporary.unlink, missing_ok=True)):
                yield temporary
                temporary.chmod(0o666 & ~umask())
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def told_as_sentence(path: Path, left: str = "nothing was left behind"):
    """Turn an OSError of the block into a MassmapError that says what became of the output."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if "requested and" in reason:  # NumPy's text for a short write, which has no error number
            reason = f"disk full or file too large: {reason} bytes"
        raise MassmapError(
            f"{path} could not be written ({reason}); {left}: check space and permissions, or choose another place"
        ) from error


def check_parent(path: Path) -> None:
    """Refuse a path whose folder does not exist."""
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise MassmapError(f"the folder {parent} does not exist, so {path.name} cannot be written there: make it first")


def umask() -> int:
    """Give the permissions that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _arrow_table(columns: Mapping[str, np.ndarray]):
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _write_parquet(path, table: DescribedTable):
    import pyarrow as pa
    from pyarrow import parquet

    arrow = _arrow_table(table.columns)
    nothing = {"unit": "", "description": "", "ucd": ""}
    fields = [field.with_metadata(nothing | table.about(field.name)) for field in arrow.schema]
    parquet.write_table(arrow.cast(pa.schema(fields, metadata=parquet_metadata(table))), path)


def _write_csv(path, table: DescribedTable):
    from pyarrow import csv

    with open(path, "wb") as file:
        csv.write_csv(_arrow_table(table.columns), file, csv.WriteOptions(quoting_style="needed"))


def _write_ecsv(path, table: DescribedTable):
    table.astropy().write(path, format="ascii.ecsv", overwrite=True)


def _write_votable(path, table: DescribedTable):
    path.write_bytes(table.votable())


def ids_change_in_fits(ids) -> bool:
    """Tell whether ids are text that FITS, which is ASCII, cannot hold as it is."""
    ids = writable(ids)
    return ids.dtype.kind == "U" and not all(map(str.isascii, ids.tolist()))


def ids_in_fits(ids) -> np.ndarray:
    """Give ids as they are read back from a FITS file."""
    ids = writable(ids)
    return _ascii(ids).astype(str) if ids.dtype.kind == "U" else ids


def _ascii(values: np.ndarray) -> np.ndarray:
    return np.char.encode(values, "ascii", "backslashreplace")


def _write_fits(path, table: DescribedTable):
    import warnings

    from astropy.io import fits

    columns = dict(table.columns)
    if "id" in columns and "row" not in columns and ids_change_in_fits(columns["id"]):
        rows = {"id": columns["id"], "row": np.arange(len(columns["id"]))}
        columns = rows | columns
        of_row = {"row": "row number from 0: ids here are not as in the catalogue, FITS is ASCII"}
        table = replace(table, descriptions=of_row | dict(table.descriptions))
    fields, comments = [], []
    for name, values in columns.items():
        if values.dtype.kind == "U":
            values = _ascii(values)
        unit, described = table.unit_and_description(name, "fits")
        # FITS has signed integers only: larger ones are stored with an offset, which every reader takes off.
        zero = 2**63 if values.dtype == np.uint64 and values.size and values.max() >= 2**63 else None
        fields.append(
            fits.Column(name=name, format=_fits_format(values.dtype), array=values, unit=unit or None, bzero=zero)
        )
        comments.append(described)
    hdu = fits.BinTableHDU.from_columns(fits.ColDefs(fields), name="MASSES")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # long keys and values: HIERARCH and CONTINUE cards
        for number, comment in enumerate(comments, start=1):
            if comment:
                hdu.header[f"TCOMM{number}"] = _fits_value(comment)
        for number, name in enumerate(columns, start=1):
            if table.ucds.get(name):
                hdu.header[f"TUCD{number}"] = table.ucds[name]
        for key, value in table.meta.items():
            key = key if len(key) <= 8 and key.isidentifier() else f"HIERARCH {key}"
            hdu.header[key] = _fits_value(value)
        hdu.writeto(path, overwrite=True)


def _fits_format(dtype: np.dtype) -> str:
    """Give the FITS format of a column: FITS has no unsigned and no 8-bit signed integers."""
    if dtype.kind == "S":
        return f"{max(dtype.itemsize, 1)}A"
    # FITS has no unsigned and no 8-bit signed integers; the next wider signed one holds them.
    formats = {
        "b1": "L",
        "i1": "I",
        "u1": "I",
        "i2": "I",
        "u2": "J",
        "i4": "J",
        "u4": "K",
        "i8": "K",
        "u8": "K",
        "f4": "E",
    }
    return formats.get(dtype.str[1:], "D")


def _fits_value(value):
    """Give a value that a FITS header card can hold."""
    if isinstance(value, bool | int | np.integer) or (isinstance(value, float | np.floating) and np.isfinite(value)):
        return value.item() if isinstance(value, np.generic) else value
    text = value if isinstance(value, str) else as_json(value)
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ")
