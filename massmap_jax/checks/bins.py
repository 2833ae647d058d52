"""Bins of the data, test levels and p values that the checks share."""

import numpy as np

from massmap_jax.checks.ecdf_bands import uniformity_p_value
from massmap_jax.errors import MassmapError

NOMINAL = (0.68, 0.95)
"""Probability of the central intervals whose coverage is counted."""
LEAST_IN_BIN = 50
"""Least number of objects in a bin: fewer say too little about a distribution."""


def equal_parts(values: np.ndarray, number: int) -> np.ndarray:
    """Sort values into bins that are equally full.

    Parameters
    ----------
    values : Float[np.ndarray, "n"]
        The values.
    number : int
        Number of bins.

    Returns
    -------
    Int[np.ndarray, "n"]
        Bin of each value, from 0 to number - 1; equal values are split by their order.
    """
    return np.argsort(np.argsort(values, kind="stable")) * number // max(values.size, 1)


def bins_of_data(z: np.ndarray, lum: np.ndarray, number: int) -> np.ndarray:
    """Sort objects into number x number bins of redshift and observed luminosity that are equally full.

    Parameters
    ----------
    z : Float[np.ndarray, "n"]
        Redshifts.
    lum : Float[np.ndarray, "n"]
        Observed luminosities [any unit].
    number : int
        Number of bins in redshift, and of bins in luminosity within each of them.

    Returns
    -------
    Int[np.ndarray, "n"]
        Bin of each object, from 0 to number^2 - 1, the luminosity varying fastest.
    """
    in_z = equal_parts(z, number)
    index = np.empty(z.size, dtype=int)
    for b in range(number):
        index[in_z == b] = b * number + equal_parts(lum[in_z == b], number)
    return index


def p_text(p: float) -> str:
    """Write a p value for a person.

    Parameters
    ----------
    p : float
        The p value.

    Returns
    -------
    str
        For example 'p = 0.02'; below 1e-9, where only a bound is known, 'p < 1e-9'.
    """
    return "p < 1e-9" if p < 1e-9 else f"p = {p:.2g}"


def p_values(pit, which, number) -> tuple[float, np.ndarray, float]:
    """Compute p values of the uniformity of PITs over all objects, in each bin, and of both together.

    Parameters
    ----------
    pit : Float[np.ndarray, "n"]
        Probability integral transforms.
    which : Int[np.ndarray, "n"]
        Bin of each object.
    number : int
        Number of bins; a single bin, which holds all objects, is not counted as a second test.

    Returns
    -------
    p_all : float
        p value over all objects.
    p_bins : Float[np.ndarray, "bin"]
        p value in each bin.
    p_value : float
        The smallest of them, times their number (Bonferroni), at most 1.
    """
    p_all = uniformity_p_value(pit)
    # A single bin holds all objects: it is not a second test.
    p_bins = np.array([p_all] if number == 1 else [uniformity_p_value(pit[which == b]) for b in range(number)])
    tests = 1 if number == 1 else 1 + number
    return p_all, p_bins, float(min(1.0, tests * min(p_all, p_bins.min())))


def check_level(level) -> None:
    """Refuse a test level that is not between 0 and 1.

    Parameters
    ----------
    level : float
        False-alarm probability of a test.

    Raises
    ------
    MassmapError
        If it is not one number between 0 and 1.
    """
    one_value = np.isscalar(level)
    if not (one_value and 0 < level < 1):
        raise MassmapError(f"level is {level!r}: give a probability between 0 and 1, say 0.01")
