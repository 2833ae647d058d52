"""Several observables of one object, with correlated errors, as one Gaussian term in ln M.

Each observable is linear in ln M, with normal residuals:

    y_i = intercept_i + slope_i (ln M - pivot) + noise_i,   noise ~ N(0, C)

Their product over i is a Gaussian in ln M times a constant. A measured mass is such an observable, of slope 1.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from massmap_jax.likelihood.terms import GaussianTerm

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
    number = len(residual)
    there = [jnp.asarray(o) for o in observed]
    factor: list[list] = []
    by_residual: list = []
    by_slope: list = []
    ln_determinant: Any = 0.0
    for i in range(number):
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
    precision = sum(b**2 for b in by_slope)
    shift = sum(b * r for b, r in zip(by_slope, by_residual, strict=True)) / precision
    square = sum(r**2 for r in by_residual) - precision * shift**2
    count = sum(o.astype(jnp.result_type(float)) for o in there)
    return GaussianTerm(pivot + shift, precision**-0.5, -0.5 * (count * _LN_2PI + ln_determinant + square))
