"""Column values of any origin (lists, masked, big-endian, Series, text) as plain NumPy; errors say in which rows."""

import dataclasses
import re
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from massmap_jax.errors import MassmapError

# Placeholders that catalogues write for "no value". A negative one is impossible for a luminosity, its error
# or a redshift; 99, 999 and 9999 are impossible for a redshift, but not for a luminosity, which may have any unit.
NEGATIVE_SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0)
POSITIVE_SENTINELS = (99.0, 999.0, 9999.0)
# 99.9, 999.99 and all other numbers of nines alone that a rounding to single precision tells from a power of ten.
_NINES = tuple(10.0**k - 10.0**-d for k in range(2, 7) for d in range(7 - k))

BLANKS = (
    *(
        "",
        "-",
        "--",
        "---",
        "\u2212",
        "\u2013",
        "\u2014",
        ".",
        "...",
        "....",
        "~",
        "?",
        "nan",
        "na",
        "n/a",
        "#n/a",
        "n.a.",
    ),
    *("n/d", "n.d.", "null", "(null)", "none", "<na>", "nat", "masked", "indef", "undef", "undefined", "unknown"),
    *("missing", "nodata", "no data", "no_data", r"\n", r"\nodata", r"\ldots", r"$\ldots$", r"\dots", r"$\dots$"),
    *(r"\cdots", r"$\cdots$"),
)
"""Cells of a text column (in lower case) that mean "no value"."""

# The largest integer up to which all are exact, by the bytes of a floating-point number.
_EXACT = {2: 2.0**11, 4: 2.0**24}
_PADDING = " \t\n\r\x00\xa0"


@dataclasses.dataclass(frozen=True)
class ColumnTable:
    """Names, units and values of a table's columns.

    Attributes
    ----------
    label : str
        What to call the table in an error: the file's path, or its type.
    names : tuple of str
        Names of the columns, in the table's order.
    column : callable
        Gives the values of a column by its name, an array or masked array. Parquet columns are read only when asked
        for.
    units : dict of str to str
        Units by column, as the table's metadata writes them; columns without a unit are left out.
    notes : tuple of str
        What was guessed in reading the table.
    sample : ColumnTable or None
        Where the table is one part of a catalogue, rows of that catalogue which tell what its values are like, so that
        a placeholder is known for one in every part alike.
    few : bool
        Whether the table is a part of a catalogue with too few rows to judge by them what a column holds.
    descriptions : dict of str to str
        What the file says of its columns; those that it does not describe are left out.
    """

    label: str
    names: tuple[str, ...]
    column: Callable[[str], np.ndarray]
    units: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: "ColumnTable | None" = None
    few: bool = False
    descriptions: dict[str, str] = dataclasses.field(default_factory=dict)


def number_in(cell) -> float | None:
    """Give the number that a text spells, with a Fortran exponent (1.5D+14) too; None where it spells none."""
    if not isinstance(cell, str):
        if isinstance(cell, np.ndarray) and cell.ndim > 0:  # NumPy before 2.4 makes a number of an array of one
            return None
        try:
            return float(cell)
        except (TypeError, ValueError):
            return None
    text = cell.strip().replace("\u2212", "-")  # the minus sign of typesetting
    if "_" in text:  # Python reads 1_000 as a number, and no catalogue means one by it
        return None
    try:
        return float(text)
    except ValueError:
        pass
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d{1,3})", text)
    return None if match is None else float(f"{match[1]}e{match[2]}")


def is_negative_sentinel(values: np.ndarray) -> np.ndarray:
    """Tell which values are one of `NEGATIVE_SENTINELS`, or nines alone such as -99.9; (n,) bool."""
    return np.isin(values, NEGATIVE_SENTINELS) | is_positive_sentinel(-np.asarray(values))


def is_positive_sentinel(values: np.ndarray) -> np.ndarray:
    """Tell which values are nines alone, 99 and more: `POSITIVE_SENTINELS`, 99.9, 999.99 and the like; (n,) bool."""
    values = np.asarray(values)
    high = np.flatnonzero(values > 98.0)
    found = np.zeros(values.shape, dtype=bool)
    if high.size:
        found[high] = np.isclose(values[high, None], _NINES, rtol=1e-7, atol=0).any(axis=1)
    return found


def rows_text(bad: np.ndarray, values) -> str:
    """Say how many rows are bad, the first (0-based) and its value: "3 rows, first row 17 with value -99.0"."""
    first = int(np.flatnonzero(bad)[0])
    count = int(np.count_nonzero(bad))
    value = values[first]
    shown = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())[:80]
    return f"{count} row{'s' if count > 1 else ''}, first row {first} with value {shown}"


def as_float64(values, name: str, *, rows: int | None = None, scalar: bool = False) -> np.ndarray:
    """Convert values to a native, contiguous float64 array; NaN where masked or missing.

    Parameters
    ----------
    values : array_like, (n,)
        Numbers of any width and byte order, a masked array, a pandas Series, or text that spells numbers.
    name : str
        What to call the column in an error.
    rows : int, optional
        The number of values that there must be.
    scalar : bool
        Accept a single number for all rows.

    Returns
    -------
    Float[np.ndarray, "n"]
        A new array.

    Raises
    ------
    MassmapError
        For values that are not one per object, not numbers, or text that does not spell a number.
    """
    array = as_plain(values)
    if array.ndim == 0 and scalar:
        array = np.broadcast_to(array, (rows,))
    _check_shape(array, name, rows)
    kind = array.dtype.kind
    if kind in "OSU":
        return _numbers_from_text(array, name)
    if kind not in "iuf":
        raise MassmapError(f"{name} holds {array.dtype} values, not numbers: choose a numeric column")
    if np.ma.isMaskedArray(array):
        return np.ma.filled(array.astype(np.float64), np.nan)
    return np.array(array, dtype=np.float64)


def as_matrix(values, name: str, width: int | None = None) -> Float[np.ndarray, "halo column"]:
    """Give one row of numbers per object; NaN in rows that are missing.

    Parameters
    ----------
    values : array_like, (halo, column)
        Numbers, or an array of lists of one length, as columns of Parquet are.
    name : str
        What they are, for messages.
    width : int, optional
        Numbers in a row, for a part of a catalogue in which all rows may be missing.

    Returns
    -------
    Float[np.ndarray, "halo column"]
        The rows, in the precision that they have.

    Raises
    ------
    MassmapError
        Where there is no row of numbers per object, or rows have different lengths.
    """
    array = np.ma.filled(values.astype(float), np.nan) if np.ma.isMaskedArray(values) else values
    if isinstance(array, list | tuple) or getattr(array, "dtype", None) == np.dtype(object):
        rows = [None if _is_nothing(row) else np.asarray(row, dtype=object) for row in array]
        sizes = {row.shape for row in rows if row is not None}
        if not sizes and width is not None:
            return np.full((len(rows), width), np.nan)
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            told = "numbers, not arrays" if sizes == {()} else f"arrays of shapes {sorted(sizes)[:3]}"
            raise MassmapError(
                f"{name} holds {told if sizes else 'nothing'}: give one array per object, all of a length"
            )
        empty = np.full(next(iter(sizes)), np.nan)
        try:
            array = np.stack([empty if row is None else row.astype(np.float64) for row in rows])
        except (TypeError, ValueError):
            raise MassmapError(f"{name} holds arrays of something else than numbers: choose another column") from None
    array = np.asarray(array)
    if array.dtype.kind not in "iuf" or array.ndim != 2:
        what = "text" if array.dtype.kind in "SUO" else f"shape {array.shape}"
        raise MassmapError(
            f"{name} has {what}: it has to be one array of numbers per object, a vector column of FITS or VOTable, a"
            " column of lists in Parquet, or a data set of two dimensions in HDF5"
        )
    return array


def as_ids(values, *, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Convert ids to a native array, and tell which are missing.

    Parameters
    ----------
    values : array_like, (n,)
        Ids of any type.
    rows : int, optional
        The number of ids that there must be.

    Returns
    -------
    ids : np.ndarray, (n,)
        The ids with their values unchanged, but for blanks around text; bytes become str.
    missing : Bool[np.ndarray, "n"]
        True where there is no id.

    Raises
    ------
    MassmapError
        For ids that are not one per object.
    """
    array = as_plain(values)
    if array.dtype.kind in "SU" and isinstance(values, list | tuple):
        array = np.array(values, dtype=object)  # NumPy would turn 2 in ["a", 2] into text
    _check_shape(array, "ids", rows)
    missing = np.ma.getmaskarray(array).copy()
    array = np.ma.getdata(array)
    kind = array.dtype.kind
    if kind == "f":
        missing |= np.isnan(array)
        if array.dtype.itemsize < 8 and np.any(large := np.abs(array) > _EXACT[array.dtype.itemsize]):
            raise MassmapError(
                f"ids are floating-point numbers of {8 * array.dtype.itemsize} bits and too large to be exact in"
                f" {rows_text(large, array)}: write them as integers or text, or choose another column with id="
            )
        if (
            not missing.any()
            and np.array_equal(array, np.floor(array))
            and np.all(np.abs(array.astype(np.float64)) < 2**53)
        ):
            array = array.astype(np.int64)
    elif kind == "O":
        array = np.fromiter((_plain_text(x) for x in array), dtype=object, count=array.size)
        missing |= np.array([_is_missing(x) for x in array], dtype=bool)
        if all(isinstance(x, str) for x in array):
            array = array.astype(str)
        elif all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in array):
            array = _integers(array)
    elif kind in "SU":
        array = np.char.decode(array, "utf-8", "replace") if kind == "S" else array
        array = np.char.strip(array, _PADDING)
        missing |= array == ""
    return array.astype(array.dtype.newbyteorder("=")), missing


def as_plain(values) -> np.ndarray:
    """Give the array or masked array behind a list, Quantity, Column or Series; a nullable Series becomes objects."""
    if hasattr(values, "to_numpy") and not isinstance(getattr(values, "dtype", None), np.dtype):
        return np.asarray(values.to_numpy(dtype=object), dtype=object)
    if hasattr(values, "unmasked"):  # astropy's Masked, whose mask NumPy does not see
        return np.ma.masked_array(np.asarray(values.unmasked), np.asarray(values.mask))
    if np.ma.isMaskedArray(values):
        return np.ma.masked_array(np.ma.getdata(values).view(np.ndarray), np.ma.getmaskarray(values))
    try:
        return np.array(values, subok=False, copy=None)
    except ValueError:  # rows of different lengths
        return np.array(list(values), dtype=object)


def _check_shape(array: np.ndarray, name: str, rows: int | None):
    if array.ndim != 1:
        raise MassmapError(f"{name} has shape {array.shape}: it must be one column with one value per object")
    if rows is not None and array.size != rows:
        raise MassmapError(
            f"{name} has {array.size} rows where {rows} are expected: every column needs one value per object"
        )


def _plain_text(value):
    """Give text without padding, and bytes as text; any other value as it is."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip(_PADDING) if isinstance(value, str) else value


def _integers(values: np.ndarray) -> np.ndarray:
    """Give Python integers, as a nullable column holds them, as 64-bit ones where they fit."""
    for kind in (np.int64, np.uint64):
        try:
            return np.array(values.tolist(), dtype=kind)
        except OverflowError:
            continue
    return values


def _is_nothing(row) -> bool:
    return row is None or (isinstance(row, float) and row != row)


def _is_missing(value) -> bool:
    return value is None or (isinstance(value, float) and value != value) or str(value) in ("<NA>", "NaT", "")


def _numbers_from_text(array: np.ndarray, name: str) -> np.ndarray:
    """Convert text to numbers, NaN for blanks; refuse a column with any other text."""
    missing = np.ma.getmaskarray(array)
    texts = np.ma.getdata(array).tolist()
    numbers = np.full(len(texts), np.nan)
    bad = np.zeros(len(texts), dtype=bool)
    commas = _has_decimal_commas(value for value, gone in zip(texts, missing, strict=True) if not gone)
    for row, value in enumerate(texts):
        if missing[row]:
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if value is None or str(value).strip().lower() in BLANKS:
            continue
        number = number_in(value)
        if number is None and commas:
            number = number_in(value.replace(",", "."))
        if number is None:
            bad[row] = True
        else:
            numbers[row] = number
    if bad.any():
        value = texts[np.argmax(bad)]
        kind = {"ndarray": "list", "dict": "structure"}.get(type(value).__name__, type(value).__name__)
        held = "text" if isinstance(value, str | bytes) else f"{kind} values"
        remedy = _remedy(value)
        if not remedy and np.isfinite(numbers).sum() > bad.sum():
            remedy = "leave the cell blank where it means that there is no value, or "
        raise MassmapError(
            f"{name} holds {held} where numbers are needed: {rows_text(bad, texts)}; {remedy}choose a numeric column"
        )
    return numbers


def _has_decimal_commas(cells: Iterable) -> bool:
    """Tell whether numbers are written with decimal commas: none has a point, and one has no thousands after it."""
    certain = False
    for cell in cells:
        text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        if not isinstance(text, str) or text.strip().lower() in BLANKS:
            continue
        found = re.fullmatch(r"[+-]?(\d*)(?:,(\d+))?(?:[eE][+-]?\d+)?", text.strip())
        if found is None:
            return False
        # 1,234 may be a thousand; 12,34 and 0,234 are not.
        certain |= found[2] is not None and (len(found[2]) != 3 or found[1] in ("", "0"))
    return certain


_REMEDIES = {
    r"[^:]*:[^:]*:[^:]*": "write angles in decimal",
    r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?": "write thousands without commas and decimals with a point",
    r"[+-]?\d*,\d+([eE][+-]?\d+)?": "write decimals with a point, not a comma",
    r"\d[\d.]*\s*%": "write per cent without the sign, with sigma_kind='percent' for errors",
    r"[<>≤≥~]+\s*[\d.].*": "leave limits blank, or leave their rows out",
    r".*\d\s*(±|\+/?-|\+or-|\\pm).*|.*\d\(\d+\)|.*\d\s*[\^_]\s*\{?\s*[-+−].*|.*\d\s+\+[\d.]+\s*[-−/][\d.\s-]+.*": (
        "write value and error in columns of their own"
    ),
    r"\(?[+-]?\d[\d.]*\)?\s*(\*+|[†‡§]|\$?\^\{?\w+\}?\$?|[a-df-z:?~!])|\([+-]?\d[\d.]*\)": (
        "take brackets and footnote marks away from the numbers"
    ),
    r"[+-]?[\d.]+[+-]\d{1,3}|[+-]?[\d.]+\s*[xX×*]\s*10.*|[+-]?[\d.]+[qQ][+-]?\d+": "write powers of ten as 1.5e14",
    r"\*+": "the stars are numbers too wide for their column, write the table anew",
}


def _remedy(cell) -> str:
    """Say how to write a cell that is nearly a number; "" for other text."""
    text = cell.strip() if isinstance(cell, str) else ""
    remedy = next((said for form, said in _REMEDIES.items() if re.fullmatch(form, text)), "")
    return f"{remedy}, or " if remedy else ""
