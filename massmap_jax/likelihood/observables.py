"""Several observables of one object, with correlated errors, as one Gaussian term in ln M.

Each observable is linear in ln M, with normal residuals:

    y_i = intercept_i + slope_i (ln M - pivot) + noise_i,   noise ~ N(0, C)

Their product over i is a Gaussian in ln M times a constant. A measured mass is such an observable, of slope 1. Of an
observable that is only known to lie below (or above) a limit, what counts is its distribution given the others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from massmap_jax.likelihood.terms import GaussianTerm

UNKNOWN = 1e4
"""A width that says nothing about ln M."""
_LN_2PI = np.log(2 * np.pi)


def gaussian_term(residual: Sequence, slope: Sequence, covariance: Sequence[Sequence], observed: Sequence, pivot):
    """Combine observables that are linear in ln M into one Gaussian term in ln M.

    Parameters
    ----------
    residual : sequence of array_like, (...)
        y_i - intercept_i, what is left of each observable at ln M = pivot.
    slope : sequence of array_like, (...)
        d y_i / d ln M.
    covariance : sequence of sequence of array_like, (...)
        C, scatter and measurement error together. Only the lower triangle, covariance[i][j] with j <= i, is read.
    observed : sequence of array_like, (...)
        Whether the entry is there. What is missing counts for nothing; at least one has to be observed.
    pivot : array_like, (...)
        The ln M that the intercepts belong to [ln Msun].

    Returns
    -------
    GaussianTerm
        ln of the joint density of the observed entries as a function of ln M.

    Notes
    -----
    With r the residuals and b the slopes,

        width^-2 = b' C^-1 b,   centre = pivot + width^2 b' C^-1 r,
        log_norm = -[p ln 2 pi + ln det C + r' C^-1 r - (b' C^-1 r)^2 width^2] / 2.

    The Cholesky factor of C is written out entry by entry: for a few observables this is many times faster than a call
    of LAPACK for each object. For a missing entry, b and r are set to 0 and its rows of C to those of the unit matrix,
    which leaves it out exactly.

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.likelihood.observables import gaussian_term
    >>> covariance = [[0.09], [0.012, 0.04]]
    >>> term = gaussian_term([0.3, 0.1], [0.8, 1.0], covariance, [True, True], np.log(1e14))
    >>> print(f"{term.centre - np.log(1e14):.3f} {term.width:.3f}")
    0.146 0.189

    The second entry alone:

    >>> term = gaussian_term([0.3, 0.1], [0.8, 1.0], covariance, [False, True], np.log(1e14))
    >>> print(f"{term.centre - np.log(1e14):.3f} {term.width:.3f}")
    0.100 0.200
    """
    solved = _Solved.of(residual, slope, covariance, observed)
    by_slope, by_residual = solved.by_slope, solved.by_residual
    precision = sum(b**2 for b in by_slope)
    shift = sum(b * r for b, r in zip(by_slope, by_residual, strict=True)) / precision
    square = sum(r**2 for r in by_residual) - precision * shift**2
    count = sum(o.astype(jnp.result_type(float)) for o in solved.there)
    return GaussianTerm(pivot + shift, precision**-0.5, -0.5 * (count * _LN_2PI + solved.ln_determinant + square))


def given_the_others(
    residual: Sequence, slope: Sequence, covariance: Sequence[Sequence], observed: Sequence, own_slope, own_covariance
):
    """Give the distribution of one more observable at fixed ln M, given those that were observed.

    Parameters
    ----------
    residual, slope, covariance, observed : sequence
        Of the others, as in `gaussian_term`.
    own_slope : array_like, (...)
        Slope of this observable.
    own_covariance : sequence of array_like, (...)
        Its covariance with each of the others, and its variance as the last.

    Returns
    -------
    offset : Float[Array, "..."]
        Mean of y - intercept at ln M = pivot.
    rise : Float[Array, "..."]
        By how much the mean rises with ln M.
    spread : Float[Array, "..."]
        Standard deviation.

    Notes
    -----
    With c the covariance with the others, r their residuals and b their slopes, the mean is own_slope x + c' C^-1
    (r - b x) at ln M = pivot + x, and the variance is that of this observable less c' C^-1 c.

    Examples
    --------
    An observable that says 0.3 more than expected lets the other one be expected higher, at each mass:

    >>> from massmap_jax.likelihood.observables import given_the_others
    >>> offset, rise, spread = given_the_others([0.3], [0.8], [[0.09]], [True], 1.0, [0.045, 0.04])
    >>> print(f"{offset:.3f} {rise:.3f} {spread:.3f}")
    0.150 0.600 0.132
    """
    solved = _Solved.of(residual, slope, covariance, observed)
    own: list = []
    for i, row in enumerate(solved.factor):
        rest = jnp.where(solved.there[i], own_covariance[i], 0.0) - sum((row[k] * own[k] for k in range(i)), start=0.0)
        own.append(rest / row[i])
    offset = sum((w * r for w, r in zip(own, solved.by_residual, strict=True)), start=jnp.zeros(()))
    rise = own_slope - sum((w * b for w, b in zip(own, solved.by_slope, strict=True)), start=jnp.zeros(()))
    return offset, rise, jnp.sqrt(own_covariance[-1] - sum((w**2 for w in own), start=0.0))


def first_given_the_others(
    residual: Sequence, slope: Sequence, covariance: Sequence[Sequence], observed: Sequence, pivot
):
    """Split observables into the first, at given mass and others, and the Gaussian term of all others.

    Parameters
    ----------
    residual, slope, covariance, observed : sequence
        As in `gaussian_term`; whether the first was observed does not matter.
    pivot : array_like, (...)
        The ln M that the intercepts belong to [ln Msun].

    Returns
    -------
    term : GaussianTerm
        ln of the density of the others that were observed; where there are none, of `UNKNOWN` width and norm 0.
    offset, rise, spread : Float[Array, "..."]
        Mean of the first less its intercept at ln M = pivot, by how much it rises with ln M, and standard deviation, as
        in `given_the_others`.
    """
    others = residual[1:], slope[1:], [row[1:] for row in covariance[1:]], [jnp.asarray(o) for o in observed[1:]]
    own = [*(row[0] for row in covariance[1:]), covariance[0][0]]
    given = given_the_others(*others, slope[0], own)
    if not others[0]:
        return GaussianTerm(pivot, jnp.full_like(pivot, UNKNOWN), jnp.zeros_like(pivot)), *given
    # At least one has to be there for `gaussian_term`: where there is none, the last stands in and counts for nothing.
    *there, last = others[3]
    known = sum((o.astype(int) for o in there), start=last.astype(int)) > 0
    term = gaussian_term(*others[:3], [*there, last | ~known], pivot)
    width, log_norm = jnp.where(known, term.width, UNKNOWN), jnp.where(known, term.log_norm, 0.0)
    return GaussianTerm(jnp.where(known, term.centre, pivot), width, log_norm), *given


class _Solved(NamedTuple):
    """Cholesky factor F of the covariance, row by row, and F^-1 times the residuals and the slopes."""

    factor: list[list]
    by_residual: list
    by_slope: list
    there: list
    ln_determinant: Any

    @classmethod
    def of(cls, residual, slope, covariance, observed) -> "_Solved":
        """Solve, with the rows and columns of what is missing set to those of the unit matrix."""
        there = [jnp.asarray(o) for o in observed]
        factor: list[list] = []
        by_residual: list = []
        by_slope: list = []
        ln_determinant: Any = 0.0
        for i in range(len(residual)):
            row: list = []
            for j in range(i):
                value = jnp.where(there[i] & there[j], covariance[i][j], 0.0)
                value = value - sum((row[k] * factor[j][k] for k in range(j)), start=0.0)
                row.append(value / factor[j][j])
            variance = jnp.where(there[i], covariance[i][i], 1.0) - sum((v**2 for v in row), start=0.0)
            row.append(jnp.sqrt(variance))
            factor.append(row)
            ln_determinant = ln_determinant + 2 * jnp.log(row[i])
            # Forward substitution: C = F F', so r' C^-1 r is the squared length of F^-1 r.
            for values, solved in ((residual[i], by_residual), (slope[i], by_slope)):
                rest = jnp.where(there[i], values, 0.0) - sum((row[k] * solved[k] for k in range(i)), start=0.0)
                solved.append(rest / row[i])
        return cls(factor, by_residual, by_slope, there, ln_determinant)
