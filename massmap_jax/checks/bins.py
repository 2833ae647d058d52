"""Bins of the data, levels and p values that the checks share."""

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.checks.ecdf_bands import uniformity_p_value
from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    pass

NOMINAL = (0.68, 0.95)
"""Probability of the central intervals whose coverage is counted."""
LEAST_IN_BIN = 50
"""Fewer objects than this in a bin say nothing about a distribution."""


def equal_parts(values: np.ndarray, number: int) -> np.ndarray:
    """Bin of each value, 0 to number - 1, the bins equally full; ties go by order."""
    return np.argsort(np.argsort(values, kind="stable")) * number // max(values.size, 1)


def bins_of_data(z: np.ndarray, lum: np.ndarray, number: int) -> np.ndarray:
    """number x number bins: in z, and in L_obs within each bin of z."""
    in_z = equal_parts(z, number)
    index = np.empty(z.size, dtype=int)
    for b in range(number):
        index[in_z == b] = b * number + equal_parts(lum[in_z == b], number)
    return index


def p_text(p: float) -> str:
    """'p = 0.02'; a very small p value is a bound and no figure to quote."""
    return "p < 1e-9" if p < 1e-9 else f"p = {p:.2g}"


def p_values(pit, which, number) -> tuple[float, np.ndarray, float]:
    """p value over all objects, in each bin, and of both together."""
    p_all = uniformity_p_value(pit)
    # One bin holds all: it is not a second test.
    p_bins = np.array([p_all] if number == 1 else [uniformity_p_value(pit[which == b]) for b in range(number)])
    tests = 1 if number == 1 else 1 + number
    return p_all, p_bins, float(min(1.0, tests * min(p_all, p_bins.min())))


def check_level(level) -> None:
    """Refuse a test level that is not between 0 and 1."""
    if not (np.isscalar(level) and 0 < level < 1):
        raise MassmapError(f"level is {level!r}: give a probability between 0 and 1, say 0.01")
