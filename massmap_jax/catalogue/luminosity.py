"""ln of the luminosity from a table's column: its unit, its scale, whether it is a logarithm, conversion on request.

A luminosity is a column here, and `ln_lum_obs` from here on: nothing else is called a luminosity in between.
"""

import contextlib
import re
from typing import NamedTuple

import numpy as np

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_float64, is_negative_sentinel
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.magnitudes import Magnitudes, looks_like_magnitudes
from massmap_jax.catalogue.placeholders import is_log_sentinel, linear_flags, log_flags
from massmap_jax.catalogue.units import (
    LN10,
    has_little_h,
    is_unit,
    log_kind,
    name_has_little_h,
    named_hubble,
    plain_unit,
    power_at_end,
    split_unit_scale,
    strip_log,
    unit_factor,
    unit_in_name,
    without_named_hubble,
)
from massmap_jax.errors import MassmapError

LOGS = ("none", "ln", "log10")
# Names of masses, of halos and of what is in them.
_MASS_NAME = r"mass|^m_?(?:\d{3}|vir|star|stellar|halo|h\d|gas|bcg|tot|dyn|lens|wl|cl)|^m_|^sm(?:_|$)"
_SMALL_LOG = r"rich|lambda|^n_?(?:mem|gal|200|500|bcg|clus)|^k_?t(?![a-z])"
# Richnesses and velocity dispersions [km/s], whose natural and decimal logarithms are all below this.
_NEVER_SMALL, _SMALLEST = r"rich|lambda|^(?:sig(?:ma)?_?v|v(?:el)?_?disp)", 8.0
# More than the mass of any halo, and than the power of any halo or galaxy.
_LARGEST = {"Msun": 1e17, "erg/s": 1e50}
_OF_A_FLAG = r"(?:.*_)?(?:q?flags?|flg|quality|status|class|type)\d*"
# "r500", "R_200c", "theta_500", "R500_kpc", "rvir", "Rlambda", "r_core", "extent".
_OF_A_RADIUS = (
    r"(?:log_?|ln_?|log10_?)?(?:(?:r|rad|radius|theta|th|ang)_?(?:\d{3,4}_?[cm]?|vir|lambda|delta|c|core|s|scale)"
    r"|radius|angular_(?:size|radius)|extent)(?:_?(?:h?_?[ckm]?pc(?:_?h)?|arcmin|arcsec|deg))?"
)
# What a description says of a logarithm; that of a natural one has a name.
_LOG_DESCRIBED = (
    r"(?i)^(?P<ln>ln\b|natural log)|(?P<natural>\bln ?[(L]|\bnatural log)"
    r"|^(?:decimal |base.10 )?log(?:10|arithm\w*)?\b(?!-)|\blog_?10\b|\bdecimal log"
)
# Rows below which the spread of the values says nothing of whether they are logarithms.
_ENOUGH_ROWS = 5


class Luminosity(NamedTuple):
    """A luminosity column as it was read.

    Attributes
    ----------
    name : str
        Name of the column.
    raw : Float[np.ndarray, "row"]
        Its values, as they stand there.
    log : {"none", "ln", "log10", "mag"}
        Whether they are logarithms or magnitudes.
    column_unit : str
        Unit of the values, as the table or the user states it.
    ln_lum_obs : Float[np.ndarray, "row"]
        ln of the luminosity in `unit`; NaN in flagged rows.
    unit : str
        Unit of the luminosity.
    flag : Int[np.ndarray, "row"]
        `Flag` bits.
    ln_scale : float
        ln of the factor between the column and `unit`, where the column is linear; 0 where it is not.
    few : bool
        Whether the rows are too few to judge by them; see `ColumnTable`.
    """

    name: str
    raw: np.ndarray
    log: str
    column_unit: str
    ln_lum_obs: np.ndarray
    unit: str
    flag: np.ndarray
    ln_scale: float = 0.0
    few: bool = False


def numbers(table: ColumnTable, name: str, role: str, notes: list[str]) -> np.ndarray:
    """Read a column as float64, with a note where it was text."""
    values = table.column(name)
    numbers = as_float64(values, f"{role} column {name!r} of {table.label}")
    # Nullable columns of pandas are objects too, of numbers.
    kind = values.dtype.kind
    text = kind in "SU" or (kind == "O" and any(isinstance(value, (str, bytes)) for value in values.tolist()))
    if text and np.isfinite(numbers).any():
        notes.append(f"{role} column {name!r} holds text: its cells were read as numbers")
    return numbers


def typical(table: ColumnTable, name: str, values: np.ndarray) -> np.ndarray:
    """Give the values of a column that tell what it is like: those of the table's sample, or else all.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        Name of the column.
    values : Float[np.ndarray, "row"]
        Its values in the table.

    Returns
    -------
    Float[np.ndarray, "row"]
        The values.
    """
    if table.sample is not None:
        with contextlib.suppress(MassmapError):  # cells that are no numbers: the part that holds them says so
            return numbers(table.sample, name, "sampled", [])
    return values


def read_luminosity(
    table: ColumnTable,
    name: str,
    notes: list[str],
    *,
    lum_log: str | None,
    lum_scale: float | None,
    lum_unit: str | None,
    lum_in: str | None,
    magnitudes: Magnitudes | None,
    redshift: np.ndarray,
    signed: bool = False,
) -> Luminosity:
    """Read a luminosity column.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        Name of the column.
    notes : list of str
        What was taken for granted or converted is added to it.
    lum_log : {"none", "ln", "log10"} or None
        Whether the column is a logarithm; None where its name, unit and values are to say.
    lum_scale : float or None
        Factor that multiplies the (linear) luminosity; None for the scale in its unit.
    lum_unit : str or None
        Unit that replaces the one in the table.
    lum_in : str or None
        Unit to convert the luminosity to.
    magnitudes : Magnitudes or None
        How magnitudes become luminosities, where the column holds magnitudes.
    redshift : Float[np.ndarray, "row"]
        Redshifts, for apparent magnitudes.
    signed : bool, optional
        Whether values below zero are ordinary, as with linear noise.

    Returns
    -------
    Luminosity
        The column.

    Raises
    ------
    MassmapError
        For a unit with h, magnitudes or a logarithm that was not declared, a scale that is not clear, or a unit that
        cannot be converted.
    """
    where = f"luminosity column {name!r} of {table.label}"
    if lum_log not in (None, *LOGS):
        raise MassmapError(f"lum_log is {lum_log!r}: it must be 'none', 'ln' or 'log10'")
    if lum_scale is not None and not (np.isfinite(lum_scale) and lum_scale > 0):
        raise MassmapError(f"lum_scale is {lum_scale!r}: it must be a positive number")
    raw = numbers(table, name, "luminosity", notes)
    if raw.size == 0:
        raise MassmapError(f"{table.label} has no rows: at least one object is needed")
    stated = table.units.get(name, "")
    described = " ".join(table.descriptions.get(name, "").split())
    if not stated and (stated := unit_in_name(name) or power_at_end(name)):
        notes.append(f"luminosity unit: {stated!r}, from the name of the column")
    elif not stated and (stated := _unit_described(described)):
        notes.append(f"luminosity unit: {stated!r}, from the description of the column, {described!r}")
    if magnitudes is not None:
        _check_magnitudes(where, stated, lum_log, lum_scale, magnitudes)
        ln_lum, flag = _from_magnitudes(where, raw, redshift, magnitudes, notes)
        ln_lum, unit = converted(where, ln_lum, lum_unit or "", lum_in, notes)
        return Luminosity(name, raw, "mag", "mag", ln_lum, unit, flag, few=table.few)
    if lum_unit is None and (has_little_h(stated) or name_has_little_h(name)):
        is_mass = re.search(r"(?i)m_?(?:sun|sol)|solmass|mass", f"{plain_unit(stated)} {name}") is not None
        other = "1e44 erg/s/h2" if "erg" in name.lower() else "Lsun/h2"
        ten = _power_of_ten(stated)
        over = "1" if ten == 1 else f"{ten:g}"
        remedy = (
            f"divide by h with lum_scale= ({over}/0.7 = {ten / 0.7:.5g} for h = 0.7) and pass lum_unit='Msun', or keep"
            f" the unit with lum_unit='{'' if ten == 1 else f'{ten:g} '}Msun/h'"
            if is_mass
            else f"bring it to your h with lum_scale= ({over}/0.7^2 = {ten / 0.49:.5g} for h^-2 and h = 0.7, {over} for"
            " h70 and H0 = 70) and"
            f" pass the unit without h as lum_unit=, or keep it with lum_unit={stated or other!r}"
        )
        if hubble := named_hubble(stated) or named_hubble(name):
            remedy = (
                f"{without_named_hubble(hubble)}: pass the unit without it as lum_unit=, with its power of ten (and"
                " lum_scale= where your H0 is another)"
            )
        raise MassmapError(f"{where} is in units with h (unit {stated!r}): {remedy}")
    _refuse_another_unit(where, stated, lum_unit, lum_scale, notes)
    if unit_factor(strip_log(lum_unit or stated), "deg") is not None:
        raise MassmapError(f"{where} is an angle by its unit {lum_unit or stated!r}: choose the luminosity's with lum=")
    _refuse_no_luminosity(where, name, stated, lum_unit)
    text = stated if lum_unit is None else lum_unit
    _refuse_magnitudes(where, name, raw, text, lum_log)
    if log_kind(text) and log_kind(text) != lum_log:
        instead = "" if lum_log is None else f" in place of {lum_log!r}, or its true unit as lum_unit="
        raise MassmapError(f"{where} has the logarithmic unit {text!r}: pass lum_log='{log_kind(text)}'{instead}")
    scale, unit, true_scale = _scale(where, text, lum_unit, lum_scale, lum_in, notes)
    if lum_log in (None, "none") and lum_scale != 1 and not table.few:  # 1: the user knows
        _refuse_impossible(where, raw, true_scale, unit)
    if lum_log is None:
        if (said := re.search(_LOG_DESCRIBED, described)) and not log_kind(text):
            raise MassmapError(
                f"{where} is described as {described!r}: pass lum_log='{'ln' if said.lastgroup else 'log10'}', or"
                " lum_log='none' where it is linear"
            )
        _refuse_hidden_log(where, name, unit, raw, true_scale, signed, table.few)
    log = lum_log or "none"
    if log == "none":
        flag = linear_flags(raw, typical(table, name, raw), notes, signed=signed)
        with np.errstate(all="ignore"):
            ln_lum = np.log(np.where(flag == 0, scale * raw, np.nan))
    else:
        if not table.few:
            _refuse_linear(where, raw, log)
        flag = log_flags(raw, log, typical(table, name, raw), notes)
        ln_lum = np.where(flag == 0, raw if log == "ln" else raw * LN10, np.nan) + np.log(scale)
    ln_scale = float(converted(where, np.log(scale), unit, lum_in, [])[0]) if log == "none" else 0.0
    ln_lum, unit = converted(where, ln_lum, unit, lum_in, notes)
    return Luminosity(name, raw, log, text, ln_lum, unit, flag, ln_scale, table.few)


def _unit_described(description: str) -> str:
    """Give the unit that a description ends with, "in units of 1e43 erg/s" or in brackets; "" where there is none."""
    if found := unit_in_name(description):
        return found
    tail = re.search(
        r"(?i)\bin (?:units? of )?((?:1e|10[+^*])\S+\s+\S.*|erg\S* ?\S*|[LM]_?sun|sol(?:Mass|Lum))$", description
    )
    return tail[1] if tail and is_unit(tail[1]) else ""


def _power_of_ten(unit: str) -> float:
    """Give the number that a unit begins with; 1 where that is not clear."""
    with contextlib.suppress(MassmapError):
        return split_unit_scale(unit)[0]
    return 1.0


def _refuse_no_luminosity(where: str, name: str, stated: str, lum_unit: str | None) -> None:
    """Refuse flags by name, and radii and the angles that they fill by name or unit; those of halos are from masses."""
    if re.fullmatch(_OF_A_RADIUS, normal_name(name)):
        raise MassmapError(
            f"{where} is a radius or the angle that it fills by its name (of halos, both are computed from a mass):"
            " choose the luminosity's with lum=, or rename the column if it is another observable"
        )
    if re.fullmatch(_OF_A_FLAG, normal_name(name)):
        raise MassmapError(
            f"{where} is a flag or a class by its name: choose the luminosity's with lum=, or rename the column if it"
            " is an observable"
        )
    if lum_unit is None and unit_factor(strip_log(stated), "Mpc") is not None:
        raise MassmapError(
            f"{where} is a length by its unit {stated!r}: choose the luminosity's with lum=, or say"
            f" lum_unit={stated!r} if a length is the observable"
        )


def converted(where: str, ln_lum, unit: str, lum_in: str | None, notes: list[str]) -> tuple[np.ndarray, str]:
    """Convert ln L to the unit that was asked for; a luminosity that states no unit is taken to be in that."""
    if lum_in is None:
        return ln_lum, unit
    split_unit_scale(lum_in)  # a scale that is not clear is refused
    if not unit:
        notes.append(f"luminosity: no unit is stated, taken to be in {lum_in}, as lum_in says")
        return ln_lum, lum_in
    factor = unit_factor(unit, lum_in)
    if factor is None:
        raise MassmapError(
            f"{where} is in {unit!r}, which is not a multiple of lum_in={lum_in!r}: give a unit of the same kind, or"
            " correct the column's with lum_unit="
        )
    if factor != 1.0:
        notes.append(f"luminosity: converted from {unit} to {lum_in}, multiplied by {factor:g}")
    return ln_lum + np.log(factor), lum_in


def _check_magnitudes(where, stated, lum_log, lum_scale, how):
    """Refuse what contradicts magnitudes."""
    if lum_log not in (None, "none") or lum_scale is not None:
        raise MassmapError(
            f"magnitudes={how.mode!r} is given together with lum_log or lum_scale: magnitudes have a zero point,"
            " mag_zero=, and need neither"
        )
    if stated and log_kind(stated) != "mag":
        raise MassmapError(f"{where} is in {stated!r}, no magnitudes: leave out magnitudes={how.mode!r}")


def _from_magnitudes(where, raw, redshift, how, notes) -> tuple[np.ndarray, np.ndarray]:
    """ln L and flags of magnitudes; nothing is as faint as the 40th or as bright as the -40th."""
    flag = np.where(np.isfinite(raw), np.int32(0), np.int32(Flag.LUM_MISSING))
    flag = np.where((flag == 0) & (np.abs(raw) > 40), np.int32(Flag.LUM_SENTINEL), flag)
    return np.where(flag == 0, how.ln_luminosity(where, raw, redshift, flag == 0, notes), np.nan), flag


def _refuse_another_unit(where, stated, lum_unit, lum_scale, notes):
    """Refuse a unit that is given in place of a multiple of it; note where it replaces another thing."""
    if lum_unit is None or not stated or stated == lum_unit:
        return
    factor = unit_factor(strip_log(stated), strip_log(lum_unit))
    if factor not in (None, 1.0) and lum_scale is None:
        raise MassmapError(
            f"{where} is in {stated!r} by the file, and lum_unit={lum_unit!r} differs by a factor of {factor:g}:"
            f" convert with lum_in={lum_unit!r}, or pass lum_scale=1 too if the file is wrong"
        )
    notes.append(f"luminosity unit: {lum_unit!r} as given, in place of {stated!r} in the file")


def _refuse_magnitudes(where, name, raw, text, lum_log):
    """Refuse magnitudes, by unit or by name, unless a unit or lum_log says that they are none."""
    by_unit = log_kind(text) == "mag"
    by_name = not text and lum_log is None and looks_like_magnitudes(name, raw)
    if by_unit or by_name:
        raise MassmapError(
            f"{where} holds magnitudes by its {'unit ' + repr(text) if by_unit else 'name'}: convert magnitudes with"
            " magnitudes='absolute' or magnitudes='apparent' and mag_zero=, the absolute magnitude of one unit of"
            " luminosity (or pass the unit of a linear luminosity as lum_unit=)"
        )


def _scale(where, text, lum_unit, lum_scale, lum_in, notes) -> tuple[float, str, float]:
    """Give the factor on the numbers, the unit of the result, and the factor that brings them to it without scale."""
    inside = strip_log(text)
    own, unit = split_unit_scale(inside)
    if lum_scale is None:
        if own != 1.0:
            keep = f", to {unit}; lum_in={inside!r} keeps the numbers as they are"
            keep = keep if unit and lum_in is None else ""
            notes.append(f"luminosity: multiplied by {own:g}, the scale in its unit{keep}")
        return own, unit, own
    if own == 1.0:
        return lum_scale, unit, lum_scale
    if lum_scale == 1.0:
        notes.append(f"luminosity: the numbers as they are, in units of {inside} (lum_scale=1)")
        return 1.0, inside, own
    if np.isclose(lum_scale, own, rtol=1e-6):
        return lum_scale, unit, lum_scale
    given = f"lum_unit={lum_unit!r}" if lum_unit is not None else f"the file's unit {text!r}"
    raise MassmapError(
        f"{where}: {given} holds a scale and lum_scale={lum_scale:g} gives another: keep one of them, and say with"
        " lum_unit= what unit the result is in"
    )


def named_log(name: str) -> str:
    """Tell what logarithm a column's name speaks of.

    Parameters
    ----------
    name : str
        Such as "logL", "lg_mass", "M500_log10", "ln_lambda" or "lum_dex".

    Returns
    -------
    str
        "log10", "ln", or "" where it speaks of none ("catalogue", "morphology").
    """
    # A new word begins at a capital after a small letter, so that "xrayLogL" is three words.
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if re.search(r"(?<![a-z])ln(?=$|[^a-z]|[lmxyn]x?(?![a-z])|lum|lam|mass|mstar|rich|l\d|m\d)", words):
        return "ln"
    log = r"(?<![a-z])log(?!ic|is|in(?![a-z])|o(?![a-z])|os)|log_?10|(?<!cata)(?<!ana)(?<!dia)log(?![a-z])"
    found = re.search(rf"{log}|(?<![a-z])(?:lg(?=$|[^a-z]|[lmr])|dex(?![a-z]))", words)
    return "log10" if found else ""


def _refuse_hidden_log(where: str, name: str, unit: str, raw: np.ndarray, scale: float, signed: bool, few: bool):
    """Refuse values that nobody called linear and that can be logarithms, judged by name, unit and values.

    Where they are `signed`, with linear noise, negative ones are ordinary.
    """
    good = raw[np.isfinite(raw) & (raw > 0)]
    there = raw[np.isfinite(raw)]
    shown = f"values {there.min():g} to {there.max():g}, first row 0" if there.size else "no values, first row 0"
    shown += f" with value {float(raw[0])!r}"
    log = named_log(name)
    lower = name.lower()
    reason = ""
    if log:
        reason = "by its name"
    elif good.size and not few:
        low, high = good.min(), good.max()
        tiny = any((factor := unit_factor(unit, known)) and scale * high * factor < 100 for known in ("Msun", "Lsun"))
        # A few may be light, such as dwarf galaxies, or placeholders.
        bare_mass = not unit and scale == 1 and np.quantile(good, 0.1) > 8.0 and high < 17.0
        bare_mass = bare_mass and re.search(_MASS_NAME, lower) is not None
        negative = np.isfinite(raw) & (raw < 0) & ~is_negative_sentinel(raw)
        # Half of a sample of luminosities within 10 % of each other is a logarithm's spread, not a luminosity's.
        # Less where a scale is stated, as in 1e14 Msun: a sample of so narrow a range of masses may be meant.
        narrow = 0.1 if scale == 1 else 0.05
        close = good.size >= _ENOUGH_ROWS and low > 5.0 and high < 60.0 and np.std(np.log(good)) < narrow
        # No logarithm of a richness, temperature or velocity is above 5, and clusters are cut into bins of these.
        close = close and re.search(_SMALL_LOG, lower) is None
        close = close and all(unit_factor(unit, known) is None for known in ("keV", "km/s"))
        small = good.size >= _ENOUGH_ROWS and low > 1.0 and high < _SMALLEST
        # A few members are counted, in whole numbers.
        if small and re.search(_NEVER_SMALL, lower) and np.mean(good != np.round(good)) > 0.5:
            reason = f"since none of the {good.size} values reaches {_SMALLEST:g}"
        elif tiny and unit:
            reason = f"since no halo or galaxy has {scale * high:.3g} {unit}"
        elif bare_mass:
            reason = "since no halo has so few solar masses"
        elif negative.sum() > max(2, 0.1 * raw.size) and not signed:
            reason = f"since {negative.sum()} rows are negative"
        elif close and np.unique(good).size > good.size // 2:
            reason = f"since all values lie within {100 * np.std(np.log(good)):.1f} % of each other"
    if reason:
        raise MassmapError(
            f"{where} looks like {log or 'log10'} {reason} ({shown}): pass lum_log='{log or 'log10'}' (or"
            f" '{'log10' if log == 'ln' else 'ln'}'), or lum_log='none' where it is linear, with its unit's scale, as"
            " in lum_unit='1e14 Msun'"
        )


def _refuse_impossible(where: str, raw: np.ndarray, scale: float, unit: str) -> None:
    """Refuse values beyond all masses and luminosities: the scale of the unit may be in the numbers already."""
    good = raw[np.isfinite(raw) & (raw > 0)]
    if not good.size or not unit:
        return
    middle = float(np.median(good))
    for known, most in _LARGEST.items():
        factor = unit_factor(unit, known)
        if factor is not None and scale * middle * factor > most:
            twice = f"; where the numbers hold the scale {scale:g} already, pass lum_unit={unit!r} and lum_scale=1"
            raise MassmapError(
                f"{where} has a median of {scale * middle:.3g} {unit}, and nothing has more than {most:g} {known}: look"
                f" at its unit{twice if scale > 1 else ''}"
            )


def _refuse_linear(where: str, raw: np.ndarray, log: str):
    """Refuse linear values that are declared logarithms: no luminosity is 10^100 of anything."""
    good = raw[np.isfinite(raw) & ~is_log_sentinel(raw)]
    limit = 100.0 if log == "log10" else 230.0
    if good.size and np.median(np.abs(good)) > limit:
        raise MassmapError(
            f"{where} does not look like a logarithm (median {np.median(good):g}, first row 0 with value"
            f" {float(raw[0])!r}): leave out lum_log={log!r}, or choose the column of the logarithm"
        )
