"""Each point against the straight line through all others: which one is too far from it to be by chance."""

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

# Points for each number that the line has, below which a slope with redshift is left out.
_FEWEST = 12


def deleted_p_values(
    y: Float[np.ndarray, " point"],
    x: Float[np.ndarray, " point"],
    redshift: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
) -> Float[np.ndarray, " point"]:
    """Give the p value of each point's distance from the line that is fitted to the others.

    Parameters
    ----------
    y, x : Float[np.ndarray, "point"]
        The points.
    redshift : Float[np.ndarray, "point"]
        Redshifts; from 12 points on the line is y = a + b x + c ln(1 + z), for fewer without the last term.
    variance : Float[np.ndarray, "point"]
        Relative variances of y about the line: their common factor is fitted.

    Returns
    -------
    Float[np.ndarray, "point"]
        Two-sided p values, each for one point alone; 1 for fewer than 6 points.

    Notes
    -----
    The residual over its standard deviation, both by the line without the point (externally studentised), follows
    Student's t with n - p - 1 degrees of freedom where y is normal (Belsley, Kuh & Welsch 1980, section 2.1). It needs
    no fit without the point: t = r sqrt[(n - p - 1) / (RSS (1 - h) - r^2)], r the residual and h the leverage of the
    point in the line through all, in units of the standard deviations given.

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.checks.deleted import deleted_p_values
    >>> x = np.linspace(0.0, 1.0, 10)
    >>> y = 2 * x + 0.1 * np.cos(7 * np.arange(10.0))
    >>> y[3] += 2.0
    >>> p = deleted_p_values(y, x, np.full(10, 0.2), np.ones(10))
    >>> int(np.argmin(p)), bool(p[3] < 1e-6)
    (3, True)
    """
    columns = [np.ones_like(x), x - x.mean()]
    if y.size >= _FEWEST and np.ptp(redshift) > 0:
        columns.append(np.log1p(redshift) - np.log1p(redshift).mean())
    free = y.size - len(columns) - 1
    if y.size < 6 or free < 2:
        return np.ones(y.size)
    scale = 1.0 / np.sqrt(variance)
    q, _ = np.linalg.qr(np.stack(columns, axis=1) * scale[:, None])
    residual = y * scale - q @ (q.T @ (y * scale))
    leverage = np.sum(q**2, axis=1)
    left = np.maximum((residual @ residual) * (1 - leverage) - residual**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(2 * student.sf(np.abs(residual) * np.sqrt(free / left), free), nan=1.0)
