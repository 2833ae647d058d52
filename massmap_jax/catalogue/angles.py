"""Angles that are not one number: sexagesimal text, and hours, minutes and seconds in columns of their own."""

import re

import numpy as np

from massmap_jax.catalogue.columns import BLANKS, number_in, rows_text
from massmap_jax.errors import MassmapError

# "10 45 30.2", "10:45:30", "10h45m30s", "-05d30m00s", "+05°30′00″", "10:45.5"
_SEXAGESIMAL = re.compile(
    r"([+\-−]?)\s*(\d{1,3})\s*(hr|h|:|deg|d|°|\s)\s*(\d{1,2}(?:\.\d*)?)\s*"
    r"(?:(?:min|m|:|'|′|\s)\s*(?:(\d{1,2}(?:\.\d*)?)\s*(?:sec|s|\"|″|'')?)?)?",
    re.IGNORECASE,
)
_MINUS = ("-", "−", "–", "s")
_PLUS = ("+", "", "n")


def is_sexagesimal(values: np.ndarray) -> bool:
    """Tell whether most cells of a column are angles such as 10:45:30 or 10h45m30s."""
    if values.dtype.kind not in "OSU":
        return False
    texts = [text for text in _texts(values) if text.lower() not in BLANKS]
    return bool(texts) and 2 * sum(_SEXAGESIMAL.fullmatch(text) is not None for text in texts) > len(texts)


def sexagesimal(values: np.ndarray, where: str) -> tuple[np.ndarray, str, np.ndarray]:
    """Read sexagesimal angles.

    Parameters
    ----------
    values : np.ndarray, (row,)
        Text; see `is_sexagesimal`.
    where : str
        What to call the column in an error.

    Returns
    -------
    angle : Float[np.ndarray, "row"]
        In the unit of the first part (hours or degrees); NaN where blank or bad.
    unit : str
        "hourangle" or "deg" where letters tell it, "" where colons or spaces leave it open.
    bad : Bool[np.ndarray, "row"]
        True where there is text that is no such angle.

    Raises
    ------
    MassmapError
        For a column that has hours in some rows and degrees in others.
    """
    texts = _texts(values)
    angle, units = np.full(len(texts), np.nan), set()
    bad = np.zeros(len(texts), dtype=bool)
    for row, text in enumerate(texts):
        if text.lower() in BLANKS:
            continue
        match = _SEXAGESIMAL.fullmatch(text)
        minutes, seconds = (float(match[4]), float(match[5] or 0.0)) if match else (np.nan, np.nan)
        # 60 seconds are what a rounded 59.96 is written as.
        if match is None or not (minutes <= 60.0 and seconds <= 60.0):
            bad[row] = True
            continue
        mark = match[3].lower()
        units.add("hourangle" if mark.startswith("h") else "deg" if mark[0] in "d°" else "")
        size = float(match[2]) + minutes / 60.0 + seconds / 3600.0
        angle[row] = -size if match[1] in ("-", "−") else size
    if len(units) > 1:
        raise MassmapError(f"{where} is written in several ways (hours, degrees, colons): write all rows alike")
    return angle, units.pop() if units else "", bad


def combine_parts(first, minutes, seconds, signs=None, *, where: str, most: float) -> np.ndarray:
    """Combine hours or degrees, minutes and seconds; a sign on any of them, or in `signs`, is that of the whole.

    Parameters
    ----------
    first : np.ndarray, (row,)
        Hours or degrees, numbers or text; "-00" is negative.
    minutes, seconds : Float[np.ndarray, "row"]
        NaN where there is none.
    signs : np.ndarray, (row,), optional
        "-", "+" or blank, or numbers below and above zero.
    where : str
        What to call the columns in an error.
    most : float
        The largest possible angle.

    Returns
    -------
    Float[np.ndarray, "row"]
        The angle in the unit of the first part; NaN where a part is missing or impossible.

    Raises
    ------
    MassmapError
        For parts that are no such angle in most rows, or a sign that is none.
    """
    negative, whole = _sign_and_size(first, where)
    parts = [whole]
    for part in (minutes, seconds):
        negative |= np.signbit(part) & np.isfinite(part)
        parts.append(np.abs(part))
    if signs is not None:
        negative |= _negative_signs(signs, where)
    given = np.isfinite(parts).all(axis=0)
    # A fraction of a degree is in its minutes already, or this is a decimal angle.
    possible = given & (parts[1] <= 60.0) & (parts[2] <= 60.0) & (whole <= most) & (whole == np.floor(whole))
    if 2 * np.count_nonzero(possible) <= np.count_nonzero(given):
        bad = given & ~possible
        raise MassmapError(
            f"{where} cannot be combined to an angle: "
            + (rows_text(bad, np.transpose(parts).tolist()) if bad.any() else "no row has all of its parts")
        )
    size = parts[0] + parts[1] / 60.0 + parts[2] / 3600.0
    return np.where(possible, np.where(negative, -size, size), np.nan)


def _texts(values: np.ndarray) -> list[str]:
    missing = np.ma.getmaskarray(values)
    cells = np.ma.getdata(values).tolist()
    cells = [
        c.decode("utf-8", "replace") if isinstance(c, bytes) else "" if c is None or c != c else str(c) for c in cells
    ]
    return ["" if gone else cell.strip() for cell, gone in zip(cells, missing, strict=True)]


def _sign_and_size(values: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers, or text that spells them, into sign and size; NaN where blank."""
    if values.dtype.kind not in "OSU":
        values = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
        return np.signbit(values) & np.isfinite(values), np.abs(values)
    texts = [text.replace("−", "-") for text in _texts(values)]
    numbers = [np.nan if text.lower() in BLANKS else number_in(text) for text in texts]
    bad = np.array([number is None for number in numbers], dtype=bool)
    if bad.any():
        raise MassmapError(f"{where} holds text where numbers are needed: {rows_text(bad, texts)}")
    negative = np.array([text.startswith("-") and text.lower() not in BLANKS for text in texts], dtype=bool)
    return negative, np.abs(np.array(numbers, dtype=np.float64))


def _negative_signs(signs: np.ndarray, where: str) -> np.ndarray:
    if signs.dtype.kind in "iuf":
        return np.ma.filled(np.ma.asarray(signs) < 0, False)
    texts = [text.lower() for text in _texts(signs)]
    numbers = [number_in(text) for text in texts]
    bad = np.array(
        [t not in _MINUS + _PLUS and (n is None or abs(n) != 1.0) for t, n in zip(texts, numbers, strict=True)], bool
    )
    if bad.any():
        raise MassmapError(f"the sign of {where} is neither + nor -: {rows_text(bad, texts)}")
    return np.array([t in _MINUS or n == -1.0 for t, n in zip(texts, numbers, strict=True)], dtype=bool)
