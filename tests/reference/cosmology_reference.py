"""ln L of a relation under a mass function, cluster by cluster: trapezoids in ln M, a cubic spline in redshift."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

_TOGETHER = 500


def ln_likelihood(relation, pivot, ln_lum, sigma, z, nodes, mass, density, ln_lum_min=None):
    """Sum of ln (Z_k / A_k) over clusters.

    `relation` has alpha1, alpha2, alpha4 and scatter; `density` is dn/dlnM at `nodes` (redshift) x `mass` [Msun]. The
    luminosities are densities per L, so ln L is taken off. `ln_lum_min` is a limit in ln L_obs.
    """
    x, total = np.log(mass), 0.0
    spline = CubicSpline(nodes, np.log(density))
    for start in range(0, z.size, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        row = spline(z[part])
        prior = np.exp(row - row.max(axis=1, keepdims=True))
        prior /= np.trapezoid(prior, x, axis=1)[:, None]
        mean = relation["alpha1"] + relation["alpha2"] * (x - np.log(pivot))
        mean = mean + relation["alpha4"] * np.log1p(z[part])[:, None]
        spread = np.hypot(relation["scatter"], sigma[part])[:, None]
        normal = np.exp(-0.5 * ((ln_lum[part, None] - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        total += (np.log(np.trapezoid(prior * normal, x, axis=1)) - ln_lum[part]).sum()
        if ln_lum_min is not None:
            total -= np.log(np.trapezoid(prior * ndtr((mean - ln_lum_min) / spread), x, axis=1)).sum()
    return total
