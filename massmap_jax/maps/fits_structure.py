"""The structure of a FITS file, checked before astropy reads it, and what goes wrong told as one sentence.

A header that lies about the size of its data (a missing NAXIS1, a length beyond the file's end) makes astropy search,
allocate or fail in many ways, some of them slow. The standard's own rules are a page: Pence et al. 2010 (A&A 524, A42),
sections 3 and 4.4.
"""

import gzip
import io
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from massmap_jax.catalogue.tables import open_plain
from massmap_jax.errors import MassmapError

_BLOCK, _CARD = 2880, 80
# 36,000 cards, far beyond any header; a file without an END is not read to its end.
_MOST_BLOCKS = 1000
_BITPIX = (8, 16, 32, 64, -32, -64)


def checked_names(path: Path) -> list[str]:
    """Check every header of a FITS file against the file's length.

    Parameters
    ----------
    path : path
        A file, plain or compressed by gzip.

    Returns
    -------
    list of str
        Name of each extension, "" where it has none; the primary header first.

    Raises
    ------
    MassmapError
        Not a FITS file, a mandatory keyword that is missing, given twice or no number, or a file cut short.
    """
    names: list[str] = []
    start = 0
    try:
        with open_plain(str(path)) as file:
            if isinstance(file, gzip.GzipFile):
                file = io.BytesIO(file.read())  # it cannot be searched from its end
            length = file.seek(0, 2)
            while start < length:
                file.seek(start)
                cards, size = _header(file, first=not names)
                if cards is None and names:
                    break  # the standard lets other records follow the last extension
                if cards is None:
                    raise MassmapError("it does not begin with SIMPLE")
                number = len(names)
                end = start + size + _blocks(_data_bytes(cards)) * _BLOCK
                if end > length:
                    raise MassmapError(f"header {number} asks for {end:,} bytes and the file has {length:,}")
                names.append(_text(cards.get("EXTNAME", [""])[0]))
                start = end
    except MassmapError as error:
        raise MassmapError(f"cannot read {path}: it is not a whole FITS file ({error})") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"it is not a whole FITS file ({error})"
        raise MassmapError(f"cannot read {path}: {reason}") from error
    if not names:
        raise MassmapError(f"cannot read {path}: it is not a whole FITS file (it is empty)")
    return names


@contextmanager
def opened(path: Path, what: str, own: frozenset[str]) -> Iterator:
    """Open a FITS file; whatever goes wrong while it is open is told as one sentence that names it.

    Parameters
    ----------
    path : path
    what : str
        What the file has to be, such as "a mass map written by massmap_jax".
    own : frozenset of str
        Names of extensions that may be there once only.

    Yields
    ------
    astropy.io.fits.HDUList
        All of it in memory, not mapped.

    Raises
    ------
    MassmapError
        As `checked_names`; an extension of `own` that comes twice; or for whatever is raised while the file is open.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    names = checked_names(path)
    twice = sorted({name for name in names if name in own and names.count(name) > 1})
    if twice:
        raise MassmapError(f"cannot read {path}: it has two extensions {', '.join(twice)}, and which is meant is open")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)  # how astropy says that a file is cut short
            with fits.open(path, memmap=False) as hdus:
                yield hdus
    except MassmapError as error:
        raise MassmapError(f"cannot read {path}: {error}") from error
    except KeyError as error:
        raise MassmapError(f"{path} is not {what}: {_first_line(error.args[0])}") from error
    # Any other: astropy, NumPy and json raise whatever a header that lies makes them meet.
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"it is not a whole FITS file ({_first_line(error)})"
        raise MassmapError(f"cannot read {path}: {reason}") from error


def number(header, keyword: str, *, whole: bool = False) -> float | int:
    """Read a card that has to be a number.

    Parameters
    ----------
    header : astropy.io.fits.Header
    keyword : str
    whole : bool
        It has to be an integer, at least 0.

    Returns
    -------
    float or int

    Raises
    ------
    MassmapError
        It is text, a truth value or undefined; or not whole where it has to be.
    """
    value = header[keyword]
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or (whole and value < 0):
        wanted = "a count" if whole else "a number"
        raise MassmapError(f"{keyword} is {value!r} where {wanted} is needed: the header was changed")
    return value


def _first_line(error) -> str:
    return next(iter(str(error).splitlines()), "no reason given").rstrip(".")


def _header(file, first: bool):
    """Values of the mandatory cards and EXTNAME by keyword, as text, and the header's length; None where none is."""
    cards: dict[str, list[str]] = {}
    for block in range(_MOST_BLOCKS):
        data = file.read(_BLOCK)
        if block == 0 and not data.startswith(b"SIMPLE  =" if first else b"XTENSION="):
            return None, 0
        if len(data) < _BLOCK:
            raise MassmapError("a header has no END")
        for place in range(0, _BLOCK, _CARD):
            card = data[place : place + _CARD].decode("latin-1")
            keyword = card[:8].rstrip()
            if keyword == "END" and not card[8:].strip():
                return cards, (block + 1) * _BLOCK
            if card[8:10] == "= " and (keyword.startswith("NAXIS") or keyword in _WANTED):
                cards.setdefault(keyword, []).append(card[10:])
    raise MassmapError("a header has no END")


_WANTED = ("BITPIX", "PCOUNT", "GCOUNT", "EXTNAME")


def _data_bytes(cards) -> int:
    """Bytes of data that a header announces."""
    bits, axes = _integer(cards, "BITPIX"), _integer(cards, "NAXIS")
    if bits not in _BITPIX:
        raise MassmapError(f"BITPIX is {bits}, which the standard does not know")
    if not 0 <= axes <= 999:
        raise MassmapError(f"NAXIS is {axes}, and the standard allows 0 to 999")
    if axes == 0:
        return 0
    sides = [_integer(cards, f"NAXIS{i + 1}") for i in range(axes)]
    counts = _integer(cards, "PCOUNT", 0), _integer(cards, "GCOUNT", 1)
    if min(*sides, *counts) < 0:
        raise MassmapError("a length in a header is negative")
    return abs(bits) // 8 * counts[1] * (counts[0] + math.prod(sides))


def _integer(cards, keyword: str, default: int | None = None) -> int:
    given = cards.get(keyword, [])
    if not given and default is not None:
        return default
    if len(given) != 1:
        raise MassmapError(f"{keyword} is {'missing' if not given else 'given twice'} in a header")
    text = given[0].partition("/")[0].strip()
    try:
        return int(text)
    except ValueError:
        raise MassmapError(f"{keyword} is {text!r} in a header, and no whole number") from None


def _text(value: str) -> str:
    """The text of a card's value, without its quotes."""
    return value.strip()[1:].partition("'")[0].strip() if value.strip().startswith("'") else ""


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)
