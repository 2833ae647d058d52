"""Every conversion at the edge of the package: inside, mass is Msun without h and logarithms are natural."""

import re

import numpy as np

from massmap_jax.errors import MassmapError

LN10 = float(np.log(10.0))


def mass_from_msun_h(mass_msun_h, h: float):
    """Mass in Msun from a mass in Msun/h: M = m / h.

    Parameters
    ----------
    mass_msun_h : array_like
        Mass [Msun/h].
    h : float
        Hubble constant over 100 km/s/Mpc; there is no default.

    Raises
    ------
    MassmapError
        Where h is not between 0.1 and 2 (70 for 0.7 is the usual slip).
    """
    if not 0.1 < h < 2.0:
        raise MassmapError(f"h is {h!r}, but it is H0 / (100 km/s/Mpc), near 0.7: give h=0.7, not h=70")
    return np.asarray(mass_msun_h, dtype=np.float64) / h


def ln_from_dex(dex):
    """Natural-log width or value from one in dex (factors of ten)."""
    return np.asarray(dex, dtype=np.float64) * LN10


def dex_from_ln(ln):
    """Dex from a natural-log width or value."""
    return np.asarray(ln, dtype=np.float64) / LN10


def sigma_ln_from_bars(value, err_plus, err_minus):
    """Lognormal sigma in ln L from linear error bars: half the log interval that they span.

    sigma = [ln(1 + e+/L) - ln(1 - e-/L)] / 2; a symmetric bar has e+ = e-.

    Parameters
    ----------
    value, err_plus, err_minus : array_like, (n,)
        L and the lengths of its upper and lower bar, all in one unit.

    Returns
    -------
    np.ndarray, (n,)
        sigma [ln L]; NaN where L <= 0, a bar is negative, or the lower bar reaches zero luminosity.
    """
    value, up, down = (np.asarray(x, dtype=np.float64) for x in (value, err_plus, err_minus))
    possible = (value > 0) & (up >= 0) & (down >= 0) & (down < value)
    with np.errstate(all="ignore"):
        sigma = 0.5 * (np.log1p(up / value) - np.log1p(-down / value))
    return np.where(possible, sigma, np.nan)


def split_unit_scale(unit: str) -> tuple[float, str]:
    """Leading number and rest of a unit: "1e14 Msun" is (1e14, "Msun"), "10**44 erg" (1e44, "erg")."""
    match = re.fullmatch(r"\s*(?:10\s*(?:\*\*|\^)\s*([+-]?\d+)|(\d[\d.]*(?:[eE][+-]?\d+)?))\s*[*. ]?\s*(\D.*)", unit)
    if match is None:
        return 1.0, unit.strip()
    power, number, rest = match.groups()
    return (10.0 ** int(power) if power else float(number)), rest.strip()


def has_little_h(unit: str) -> bool:
    """Whether a unit such as "Msun/h", "solMass / h" or "h-1 Msun" carries the Hubble constant."""
    pattern = r"/\s*\(?\s*h(70)?\b|\bh_?\{?(70)?\}?\s*(\^|\*\*|_)?\s*[{(]?-\s*\d|h_?inv|little_?h"
    return re.search(pattern, unit, re.IGNORECASE) is not None


def name_has_little_h(name: str) -> bool:
    """Whether a column name such as "mass_msun_h" says that its unit carries the Hubble constant."""
    pattern = r"m(sun|sol)[_ ]*(/|per|over)?[_ ]*h(70|inv)?(?![a-z])|solmass[_ ]*(/|per)?[_ ]*h(inv)?(?![a-z])"
    return has_little_h(name) or re.search(pattern, name, re.IGNORECASE) is not None


def is_log_unit(unit: str) -> bool:
    """Whether a unit such as "dex(solMass)", "log10(erg/s)", "[solMass]" or "mag" is a logarithm."""
    return re.search(r"\bdex\b|\blog|\bln\b|\bmag|^\s*\[.*\]\s*$", unit, re.IGNORECASE) is not None


def strip_log(unit: str) -> str:
    """The unit inside a logarithm: "solMass" of "dex(solMass)" or "[solMass]"."""
    match = re.fullmatch(
        r"\s*(?:dex|log10|log|ln)?\s*[(\[](.*)[)\]]\s*|\s*(?:dex|log10|log|ln)\s*(.*)", unit, re.IGNORECASE
    )
    return unit if match is None else (match[1] or match[2] or "").strip()
