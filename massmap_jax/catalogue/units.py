"""Conversions of units at the edge of the package: inside, mass is in Msun without h and logarithms are natural."""

import re

import numpy as np

from massmap_jax.errors import MassmapError

LN10 = float(np.log(10.0))


def mass_from_msun_h(mass_msun_h, h: float):
    """Convert a mass in Msun/h to Msun: M = m / h.

    Parameters
    ----------
    mass_msun_h : array_like, (...)
        Mass [Msun/h].
    h : float
        Hubble constant over 100 km/s/Mpc; there is no default.

    Returns
    -------
    np.ndarray, (...)
        Mass [Msun], float64.

    Raises
    ------
    MassmapError
        For an h that is not between 0.1 and 2 (70 instead of 0.7 is a common slip).
    """
    if not 0.1 < h < 2.0:
        raise MassmapError(f"h is {h!r}, but it is H0 / (100 km/s/Mpc), near 0.7: give h=0.7, not h=70")
    return np.asarray(mass_msun_h, dtype=np.float64) / h


def ln_from_dex(dex):
    """Convert a width or value in dex (factors of ten) to one in natural logarithms."""
    return np.asarray(dex, dtype=np.float64) * LN10


def dex_from_ln(ln):
    """Convert a width or value in natural logarithms to one in dex (factors of ten)."""
    return np.asarray(ln, dtype=np.float64) / LN10


def sigma_ln_from_bars(value, err_plus, err_minus):
    """Convert linear error bars to the sigma of a lognormal error in ln L: half of the log interval that they span.

    Parameters
    ----------
    value, err_plus, err_minus : array_like, (n,)
        L and the lengths of its upper and lower bar, all in one unit.

    Returns
    -------
    Float[np.ndarray, "n"]
        sigma [ln L]; NaN where L <= 0, a bar is negative, or the lower bar reaches zero luminosity.

    Notes
    -----
    sigma = [ln(1 + e+/L) - ln(1 - e-/L)] / 2; a symmetric bar has e+ = e-.
    """
    value, up, down = (np.asarray(x, dtype=np.float64) for x in (value, err_plus, err_minus))
    possible = (value > 0) & (up >= 0) & (down >= 0) & (down < value)
    with np.errstate(all="ignore"):
        sigma = 0.5 * (np.log1p(up / value) - np.log1p(-down / value))
    return np.where(possible, sigma, np.nan)


def split_unit_scale(unit: str) -> tuple[float, str]:
    """Split a unit into its leading number and the rest: "1e14 Msun" is (1e14, "Msun"), "10**44 erg" (1e44, "erg")."""
    match = re.fullmatch(r"\s*(?:10\s*(?:\*\*|\^)\s*([+-]?\d+)|(\d[\d.]*(?:[eE][+-]?\d+)?))\s*[*. ]?\s*(\D.*)", unit)
    if match is None:
        return 1.0, unit.strip()
    power, number, rest = match.groups()
    return (10.0 ** int(power) if power else float(number)), rest.strip()


def has_little_h(unit: str) -> bool:
    """Tell whether a unit such as "Msun/h", "solMass / h" or "h-1 Msun" contains the Hubble constant."""
    pattern = r"/\s*\(?\s*h(70)?\b|\bh_?\{?(70)?\}?\s*(\^|\*\*|_)?\s*[{(]?-\s*\d|h_?inv|little_?h"
    return re.search(pattern, unit, re.IGNORECASE) is not None


def name_has_little_h(name: str) -> bool:
    """Tell whether a column name such as "mass_msun_h" says that its unit contains the Hubble constant."""
    pattern = r"m(sun|sol)[_ ]*(/|per|over)?[_ ]*h(70|inv)?(?![a-z])|solmass[_ ]*(/|per)?[_ ]*h(inv)?(?![a-z])"
    return has_little_h(name) or re.search(pattern, name, re.IGNORECASE) is not None


def is_log_unit(unit: str) -> bool:
    """Tell whether a unit such as "dex(solMass)", "log10(erg/s)", "[solMass]" or "mag" is a logarithm."""
    return re.search(r"\bdex\b|\blog|\bln\b|\bmag|^\s*\[.*\]\s*$", unit, re.IGNORECASE) is not None


def strip_log(unit: str) -> str:
    """Give the unit inside a logarithm: "solMass" for "dex(solMass)" or "[solMass]"."""
    match = re.fullmatch(
        r"\s*(?:dex|log10|log|ln)?\s*[(\[](.*)[)\]]\s*|\s*(?:dex|log10|log|ln)\s*(.*)", unit, re.IGNORECASE
    )
    return unit if match is None else (match[1] or match[2] or "").strip()
