"""Luminosity and its error from a table's columns: units are checked, logarithms undone, bars converted to sigma."""

import re

import numpy as np

from massmap_jax.catalogue.column_names import USUAL_NAMES
from massmap_jax.catalogue.columns import ColumnTable, as_float64, is_negative_sentinel
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.units import (
    LN10,
    has_little_h,
    is_log_unit,
    name_has_little_h,
    sigma_ln_from_bars,
    split_unit_scale,
    strip_log,
)
from massmap_jax.errors import MassmapError

DEFAULT_SIGMA_LN_LUM = 0.05
"""Error in ln L where a catalogue has none, as in the mocks of BigMaLI (2017)."""

# Placeholders in a column of logarithms, where -1 and -9 are values like any other.
LOG_SENTINELS = (-99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)


def numbers(table: ColumnTable, name: str, role: str, notes: list[str]) -> np.ndarray:
    """Read a column as float64, with a note where it was text."""
    values = table.column(name)
    numbers = as_float64(values, f"{role} column {name!r} of {table.label}")
    if values.dtype.kind in "OSU" and numbers.size and np.isfinite(numbers).any():
        notes.append(f"{role} column {name!r} holds text: its cells were read as numbers")
    return numbers


def linear_luminosity(table, name, raw, lum_log, lum_scale, lum_unit, notes):
    """Convert a luminosity column to linear luminosities.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        Name of the column.
    raw : Float[np.ndarray, "row"]
        Its values.
    lum_log : {"none", "ln", "log10"}
        Whether the column is a logarithm.
    lum_scale : float
        Factor that multiplies the linear luminosity.
    lum_unit : str or None
        Unit that replaces the one in the table.
    notes : list of str
        Conversions are added to it.

    Returns
    -------
    luminosity : Float[np.ndarray, "row"]
        Linear luminosity, in `unit`.
    flag : Int[np.ndarray, "row"]
        `Flag` bits of rows with a placeholder.
    unit : str
        Its unit, without a scale.

    Raises
    ------
    MassmapError
        For a unit with h, magnitudes, a logarithm that was not declared, or two different scales.
    """
    where = f"luminosity column {name!r} of {table.label}"
    if lum_log not in ("none", "ln", "log10"):
        raise MassmapError(f"lum_log is {lum_log!r}: it must be 'none', 'ln' or 'log10'")
    if not (np.isfinite(lum_scale) and lum_scale > 0):
        raise MassmapError(f"lum_scale is {lum_scale!r}: it must be a positive number")
    metadata = table.units.get(name, "")
    if lum_unit is None:
        if has_little_h(metadata) or name_has_little_h(name):
            raise MassmapError(
                f"{where} is in units with h (unit {metadata!r}): divide by h with lum_scale (1/0.7 = 1.4286"
                " for h = 0.7) and pass lum_unit='Msun', or keep the unit with lum_unit='Msun/h'"
            )
        if not metadata and re.search(r"^mag(_|$)|_mag$|magnitude", name.lower()):
            raise MassmapError(
                f"{where} looks like magnitudes by its name: convert it to luminosities, or pass its unit as lum_unit="
            )
        if is_log_unit(metadata) and lum_log == "none":
            remedy = (
                "convert magnitudes to luminosities" if "mag" in metadata.lower() else "pass lum_log='log10' (or 'ln')"
            )
            raise MassmapError(f"{where} has the logarithmic unit {metadata!r}: {remedy}")
    elif metadata and metadata != lum_unit:
        notes.append(f"luminosity unit: {lum_unit!r} as given, in place of {metadata!r} in the file")
    unit_scale, unit = split_unit_scale(strip_log(metadata if lum_unit is None else lum_unit))
    if unit_scale != 1.0 and lum_scale != 1.0:
        if lum_unit is not None:
            raise MassmapError(
                f"lum_unit={lum_unit!r} holds a scale and lum_scale={lum_scale:g} gives another: keep one of them"
            )
        notes.append(
            f"luminosity scale: {lum_scale:g} as given, in place of {unit_scale:g} in the file's unit {metadata!r}"
        )
    elif unit_scale != 1.0:
        lum_scale = unit_scale
        notes.append(f"luminosity: multiplied by {unit_scale:g}, the scale in its unit")

    sentinel = is_negative_sentinel(raw) if lum_log == "none" else np.isin(raw, LOG_SENTINELS)
    bits = np.where(sentinel, np.int32(Flag.LUM_SENTINEL), np.int32(0))
    with np.errstate(over="ignore"):
        linear = lum_scale * {"none": lambda x: x, "ln": np.exp, "log10": lambda x: 10.0**x}[lum_log](raw)
    if lum_log == "none":
        _refuse_hidden_log(where, name, unit, raw, linear[~sentinel])
    return linear, bits, unit


def _refuse_hidden_log(where: str, name: str, unit: str, raw: np.ndarray, linear: np.ndarray):
    """Refuse values declared linear that can only be logarithms, judged by their range and by name or unit."""
    good = linear[np.isfinite(linear) & (linear > 0)]
    if good.size == 0:
        return
    low, high, lower = good.min(), good.max(), name.lower().replace("catalog", "")
    named_log = "log" in lower or lower.startswith(("lg", "ln_"))
    # No halo has 60 Msun, no galaxy 60 Lsun or erg/s; a bare mass of 8 to 17 is 10^8 to 10^17 Msun.
    physical = any(word in unit.lower() for word in ("msun", "solmass", "m_sun", "lsun", "sollum", "l_sun", "erg"))
    bare_mass = (
        not unit and low > 8.0 and high < 17.0 and ("mass" in lower or lower.startswith(("m200", "m500", "mvir")))
    )
    if (low > 3.0 and high < 60.0 and (named_log or physical)) or bare_mass:
        raise MassmapError(
            f"{where} looks like log10 (values {low:g} to {high:g}, first row 0 with value"
            f" {float(raw[0])!r}): pass lum_log='log10' (or 'ln'), or the unit's scale, as in lum_unit='1e14"
            " Msun'"
        )


def sigma_ln_errors(table, lum_name, raw, lum_log, sigma, kind, plus, minus, min_snr, choose, notes):
    """Convert the error columns to an error in ln L.

    Parameters
    ----------
    table : ColumnTable
        The table.
    lum_name : str
        Name of the luminosity column.
    raw : Float[np.ndarray, "row"]
        Values of that column.
    lum_log : {"none", "ln", "log10"}
        Whether that column is a logarithm.
    sigma : str or float or None
        Column of the error, or one number.
    kind : {"ln", "dex", "linear"}
        What the error is in.
    plus, minus : str or None
        Columns of the upper and lower bar.
    min_snr : float
        Least signal-to-noise ratio of linear bars.
    choose : callable
        Finds a column; see `choose_column`.
    notes : list of str
        Guesses and conversions are added to it.

    Returns
    -------
    sigma : float or Float[np.ndarray, "row"]
        Standard deviation of the error in ln L.
    flag : Int[np.ndarray, "row"]
        `Flag` bits of rows whose bars are refused.

    Raises
    ------
    MassmapError
        For arguments that contradict each other, an error in another unit than the luminosity, or one that is too large
        to be in ln L.
    """
    if kind not in ("ln", "dex", "linear"):
        raise MassmapError(f"sigma_kind is {kind!r}: it must be 'ln', 'dex' or 'linear'")
    if not min_snr > 1.0:
        raise MassmapError(f"min_snr is {min_snr!r}: it must be above 1, where a bar reaches zero luminosity")
    none = np.zeros(raw.size, np.int32)
    if (plus is None) != (minus is None):
        raise MassmapError("sigma_plus and sigma_minus go together: give both bars, or sigma for a symmetric one")
    if plus is not None:
        if sigma is not None:
            raise MassmapError("sigma is given together with sigma_plus and sigma_minus: give one error or two bars")
        up, down = (
            _bar(table, lum_name, choose("error", x, option), notes)
            for x, option in ((plus, "sigma_plus"), (minus, "sigma_minus"))
        )
        if np.any(down < 0) and not np.any(down > 0):
            down = np.abs(down)
            notes.append(f"lower bars in {minus!r} are written as negative numbers: their size was taken")
        if lum_log != "none" or kind == "dex":
            mean = np.where((up >= 0) & (down >= 0), 0.5 * (up + down), np.fmin(up, down))
            return mean * (1.0 if lum_log == "ln" and kind != "dex" else LN10), none
        return _linear_bars(raw, up, down, min_snr)

    if kind == "linear" and lum_log != "none":
        raise MassmapError(
            f"lum_log is {lum_log!r} but sigma_kind is 'linear': the error of a logarithm is 'dex' or 'ln'"
        )
    value = _as_number(sigma, table)
    if sigma is None:
        lower = lum_name.lower()
        bars = {
            f"{lower}_err",
            f"{lower}_error",
            f"e_{lower}",
            f"err_{lower}",
            f"{lower}err",
            f"sigma_{lower}",
            f"d{lower}",
        }
        name = choose(
            "sigma",
            None,
            "sigma",
            usual=USUAL_NAMES["sigma"] if kind == "ln" else (bars,),
            required=kind != "ln",
        )
        if name is None:
            notes.append(f"luminosity error: no column given or guessed, {DEFAULT_SIGMA_LN_LUM} in ln L for all")
            unused = [
                c for c in table.names if c.lower() in bars or c.lower().startswith((f"{lower}_err", f"e_{lower}"))
            ]
            if unused:
                notes.append(
                    f"not used as error of {lum_name!r}: {', '.join(unused)} (sigma, sigma_plus, sigma_minus,"
                    " sigma_kind)"
                )
            return DEFAULT_SIGMA_LN_LUM, none
    elif value is None:
        name = choose("sigma", sigma, "sigma")
    if value is not None:
        if not (np.isfinite(value) and value >= 0):
            raise MassmapError(f"sigma is {value!r}: it must be a finite number, 0 or more")
        error = np.full(raw.size, value)
    elif kind == "linear":
        error = _bar(table, lum_name, name, notes)
    else:
        error = numbers(table, name, "sigma", notes)
    if kind == "linear":
        return _linear_bars(raw, error, error, min_snr)
    error = error * (LN10 if kind == "dex" else 1.0)
    good = error[np.isfinite(error) & (error >= 0)]
    if good.size and np.median(good) > 2.0:
        raise MassmapError(
            f"sigma has a median of {np.median(good):.3g} in ln L, a factor of {np.exp(np.median(good)):.2g}:"
            " it looks like a bar in the luminosity's own unit (sigma_kind='linear')"
        )
    return error, none


def _as_number(sigma, table: ColumnTable) -> float | None:
    """Give the number that sigma is or spells, or None where it names a column."""
    if sigma is None or sigma in table.names:
        return None
    try:
        return float(sigma)
    except (TypeError, ValueError):
        return None


def _bar(table: ColumnTable, lum_name: str, name: str, notes: list[str]) -> np.ndarray:
    """Read an error bar; refuse one in another unit than the luminosity."""
    unit, lum_unit = table.units.get(name), table.units.get(lum_name)
    if unit and lum_unit and unit != lum_unit:
        raise MassmapError(
            f"error column {name!r} of {table.label} is in {unit!r} but {lum_name!r} is in {lum_unit!r}:"
            " convert them to one unit"
        )
    return numbers(table, name, "error", notes)


def _linear_bars(raw, up, down, min_snr):
    """Convert linear bars to sigma in ln L, and flag negative bars and those with too low a signal-to-noise ratio."""
    sigma = sigma_ln_from_bars(raw, up, down)
    with np.errstate(all="ignore"):
        low = (raw / (0.5 * (up + down)) < min_snr) | (raw <= down)
    negative = (up < 0) | (down < 0)
    bits = np.where(negative, np.int32(Flag.SIGMA_NEGATIVE), np.int32(0))
    bits |= np.where(low & ~negative, np.int32(Flag.SIGMA_LOW_SNR), np.int32(0))
    return np.where(bits == 0, sigma, np.nan), bits
