"""ln L of a relation under a mass function, cluster by cluster: trapezoids in ln M, a cubic spline in redshift."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtr
from scipy.stats import norm

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


def ln_likelihood_with_masses(
    relation, pivot, objects, nodes, mass, density, *, completeness=None, limit=None, threshold=None
):
    """Sum of ln (Z_k / A_k) over clusters with measured masses of some.

    `relation` also has bias, mass_scatter and correlation; `objects` is ln_lum, sigma, z, ln_mass_obs (NaN for none) and
    sigma_mass. `density` is dn/dlnM at `nodes` (redshift, among them that of each object) x `mass` [Msun]. The
    population is the mass function, times Phi of (ln M - centre) / width with `completeness` = (centre, width).
    Luminosities and masses are densities per ln L and ln M_obs. `limit` is one of ln L_obs, and `threshold` = (ln M, width,
    typical error) one of the measured mass.
    """
    x, total = np.log(mass), 0.0
    for ln_lum, sigma, z, ln_mass, sigma_mass in zip(*objects, strict=True):
        prior = density[np.argmin(np.abs(np.asarray(nodes) - z))].copy()
        if completeness is not None:
            prior *= ndtr((x - completeness[0]) / completeness[1])
        prior /= np.trapezoid(prior, x)
        mean = relation["alpha1"] + relation["alpha2"] * (x - np.log(pivot)) + relation["alpha4"] * np.log1p(z)
        spread = np.hypot(relation["scatter"], sigma)
        integrand = prior * norm.pdf(ln_lum, mean, spread)
        if np.isfinite(ln_mass):
            # Of the measured mass given the luminosity.
            c12 = relation["correlation"] * relation["scatter"] * relation["mass_scatter"]
            variance = relation["mass_scatter"] ** 2 + sigma_mass**2 - c12**2 / spread**2
            middle = x + relation["bias"] + c12 / spread**2 * (ln_lum - mean)
            integrand = integrand * norm.pdf(ln_mass, middle, np.sqrt(variance))
        total += np.log(np.trapezoid(integrand, x))
        if limit is not None:
            total -= np.log(np.trapezoid(prior * ndtr((mean - limit) / spread), x))
        if threshold is not None:
            m50, width, error = threshold
            wide = np.sqrt(width**2 + relation["mass_scatter"] ** 2 + error**2)
            total -= np.log(np.trapezoid(prior * ndtr((x + relation["bias"] - m50) / wide), x))
            total += np.log(ndtr((ln_mass - m50) / width))
    return total
