"""Values of a luminosity column that mean "none": which they are is told by the other values of the column."""

import numpy as np
from jaxtyping import Bool, Int

from massmap_jax.catalogue.columns import is_negative_sentinel, is_positive_sentinel, rows_text
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.units import LN10

# These are placeholders only where the others are logarithms of large numbers, as those of masses in Msun are.
_SMALL_LOGS = (0.0, -1.0, -9.0)
# What netCDF and other programs write where there is no value; the like of them may be a luminosity in erg/s.
_FILL_VALUES = (1e20, 1e30, 1e36, 9.969209968386869e36, 1e37, 1e38, float(np.finfo(np.float32).max), 1e99)
# No luminosities of one sample lie so many powers of ten from their median.
_FAR_DEX = 10.0
# Others that there must be to say what is far from them.
_ENOUGH = 5


def is_log_sentinel(values: np.ndarray) -> Bool[np.ndarray, " row"]:
    """Tell which logarithms are nines alone, 99 and more, of either sign; -1 and -9 are values like any other.

    Parameters
    ----------
    values : Float[np.ndarray, "row"]
        Logarithms.

    Returns
    -------
    Bool[np.ndarray, "row"]
        True for -99, 99.9, -999.99 and the like.
    """
    return is_positive_sentinel(np.abs(values))


def linear_flags(
    raw: np.ndarray, like: np.ndarray, notes: list[str], *, signed: bool = False
) -> Int[np.ndarray, " row"]:
    """Give the flags of luminosities.

    Parameters
    ----------
    raw : Float[np.ndarray, "row"]
        The column.
    like : Float[np.ndarray, "row"]
        Values that tell which are ordinary in this column.
    notes : list of str
        What was taken for a placeholder because of the others is added.
    signed : bool, optional
        Whether values below zero are ordinary, as with linear noise.

    Returns
    -------
    Int[np.ndarray, "row"]
        `Flag` bits.
    """
    sentinel = is_negative_sentinel(raw)
    if signed:
        sentinel &= ~_is_measured(raw, like)
    filled = _is_fill_value(raw)
    others = like[np.isfinite(like) & (like > 0) & ~_is_fill_value(like)]
    if filled.any():  # a luminosity may be 1e36 where its like are
        sentinel |= filled & (raw > 1e5 * (np.median(others) if others.size else np.inf))
    others = others[~is_positive_sentinel(others)]
    if others.size >= _ENOUGH:
        nines = is_positive_sentinel(raw) & (raw > 2.0 * others.max())
        with np.errstate(all="ignore"):
            far = (raw > 0) & (np.abs(np.log10(raw) - np.log10(np.median(others))) > _FAR_DEX)
        sentinel |= _told((nines | far) & ~sentinel, raw, notes)
    bits = np.where(np.isfinite(raw) & (raw <= 0), np.int32(Flag.LUM_NOT_POSITIVE), np.int32(0))
    bits = np.where(sentinel, np.int32(Flag.LUM_SENTINEL), bits)
    return np.where(np.isfinite(raw), bits, np.int32(Flag.LUM_MISSING))


def log_flags(raw: np.ndarray, log: str, like: np.ndarray, notes: list[str]) -> Int[np.ndarray, " row"]:
    """Give the flags of logarithms of luminosities.

    Parameters
    ----------
    raw : Float[np.ndarray, "row"]
        The column.
    log : {"log10", "ln"}
        Which logarithms.
    like : Float[np.ndarray, "row"]
        Values that tell which are ordinary in this column.
    notes : list of str
        What was taken for a placeholder because of the others is added.

    Returns
    -------
    Int[np.ndarray, "row"]
        `Flag` bits.
    """
    dex = 1.0 if log == "log10" else LN10
    sentinel = is_log_sentinel(raw)
    others = like[np.isfinite(like) & ~is_log_sentinel(like) & ~np.isin(like, _SMALL_LOGS)]
    if others.size and np.median(others) > 5.0 * dex:
        sentinel |= np.isin(raw, _SMALL_LOGS)
    if others.size >= _ENOUGH:
        with np.errstate(invalid="ignore"):
            far = np.isfinite(raw) & (np.abs(raw - np.median(others)) > _FAR_DEX * dex)
        sentinel |= _told(far & ~sentinel, raw, notes)
    bits = np.where(sentinel, np.int32(Flag.LUM_SENTINEL), np.int32(0))
    bits = np.where(np.isfinite(raw), bits, np.int32(Flag.LUM_MISSING))
    return np.where(raw == -np.inf, np.int32(Flag.LUM_NOT_POSITIVE), bits)


def _is_measured(raw: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Tell which of -1, -9 and the like are measurements, where noise makes values below zero.

    A measured value is exactly -1 once by chance, or often where all are whole numbers, as counts are; and others are
    below zero, too.
    """
    finite = like[np.isfinite(like)]
    if not ((finite < 0) & ~is_negative_sentinel(finite)).any():
        return np.zeros(raw.shape, dtype=bool)
    small = (raw == -1.0) | (raw == -9.0)
    if np.array_equal(finite, np.round(finite)):
        return small
    alone = [value for value in (-1.0, -9.0) if (finite == value).sum() <= 1]
    return np.isin(raw, alone)


def _told(found: np.ndarray, raw: np.ndarray, notes: list[str]) -> np.ndarray:
    """Say which values were taken for placeholders because of the others."""
    if found.any():
        notes.append(
            f"luminosity: {rows_text(found, raw)}, far from all others: taken for a placeholder (LUM_SENTINEL)"
        )
    return found


def _is_fill_value(values: np.ndarray) -> np.ndarray:
    high = np.flatnonzero(values > 0.99 * min(_FILL_VALUES))
    found = np.zeros(values.shape, dtype=bool)
    found[high] = np.isclose(values[high, None], _FILL_VALUES, rtol=1e-6, atol=0).any(axis=1)
    return found
