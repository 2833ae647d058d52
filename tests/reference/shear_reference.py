"""Likelihoods of masses from tangential shear profiles, in plain NumPy and astropy on fine grids.

NFW by the formulas of Wright & Brainerd (2000) as they are printed, concentrations of Duffy et al. (2008) for 200m.
"""

from functools import cache

import numpy as np
from astropy import constants, units
from astropy.cosmology import Planck18
from scipy.interpolate import CubicSpline


def mean_ln_c(ln_mass, z):
    """Mean ln c of 200m masses."""
    return np.log(10.14) - 0.081 * (ln_mass - np.log(2e12 / Planck18.h)) - 1.01 * np.log1p(z)


@cache
def critical(z, z_source):
    """Critical surface density [Msun / Mpc^2]."""
    far, near = Planck18.angular_diameter_distance(z_source), Planck18.angular_diameter_distance(z)
    between = (Planck18.comoving_distance(z_source) - Planck18.comoving_distance(z)) / (1 + z_source)
    return (constants.c**2 / (4 * np.pi * constants.G) * far / (near * between)).to_value("Msun / Mpc2")


@cache
def density_200m(z):
    """200 times the mean density [Msun / Mpc^3]."""
    return 200 * (Planck18.critical_density(z) * Planck18.Om(z)).to_value("Msun / Mpc3")


def reduced_shear(radius, ln_mass, ln_c, z, z_source, reduced=True):
    """Tangential shear at `radius` [Mpc], the last axis, of NFW halos of 200m masses."""
    mass, c = np.exp(ln_mass)[..., None], np.exp(ln_c)[..., None]
    r_s = np.cbrt(3 * mass / (4 * np.pi * density_200m(z))) / c
    rho_s = mass / (4 * np.pi * r_s**3 * (np.log1p(c) - c / (1 + c)))
    x = radius / r_s
    below, above = np.minimum(x, 1 - 1e-9), np.maximum(x, 1 + 1e-9)
    f = np.where(
        x < 1,
        2 * np.arctanh(np.sqrt((1 - below) / (1 + below))) / np.sqrt(1 - below**2),
        2 * np.arctan(np.sqrt((above - 1) / (1 + above))) / np.sqrt(above**2 - 1),
    )
    kappa = 2 * r_s * rho_s * (1 - f) / (x**2 - 1) / critical(z, z_source)
    mean = 4 * r_s * rho_s * (f + np.log(x / 2)) / x**2 / critical(z, z_source)
    if not reduced:
        return mean - kappa
    return np.where(mean < 1, (mean - kappa) / np.where(mean < 1, 1 - kappa, 1.0), mean)  # strong lensing: above 1


def drawn_shears(rng, radius, ln_mass, z, z_source, scatter, scatter_c):
    """Shears without noise about halos of some masses, with lensing masses and concentrations that scatter."""
    lensing = ln_mass + rng.normal(0.0, scatter, z.size)
    ln_c = mean_ln_c(lensing, z) + rng.normal(0.0, scatter_c, z.size)
    own = np.empty((z.size, radius.size))
    for one in np.unique(z):
        here = z == one
        own[here] = reduced_shear(radius, lensing[here], ln_c[here], one, z_source)
    return own


def ln_likelihood(ln_mass, radius, shear, covariance, z, z_source, scatter, scatter_c, reduced=True):
    """ln likelihood at ln_mass: 201 concentrations, and 0.01 in ln M."""
    grid = np.arange(24.5, 39.5, 0.01)
    score = np.linspace(-5, 5, 201) if scatter_c else np.zeros(1)
    weight = np.exp(-0.5 * score**2) / np.exp(-0.5 * score**2).sum()
    inverse = np.linalg.inv(covariance)
    values = np.empty(grid.size)
    for i, one in enumerate(grid):
        ln_c = mean_ln_c(one, z) + scatter_c * score
        away = shear - reduced_shear(radius, np.full(score.size, one), ln_c, z, z_source, reduced)
        chi2 = np.einsum("ka,ab,kb->k", away, inverse, away)
        values[i] = -0.5 * chi2.min() + np.log(np.sum(weight * np.exp(-0.5 * (chi2 - chi2.min()))))
    if scatter == 0:
        return CubicSpline(grid, values)(ln_mass)
    out = []
    for one in ln_mass:
        ln_terms = values - 0.5 * ((grid - one) / scatter) ** 2
        out.append(ln_terms.max() + np.log(np.sum(np.exp(ln_terms - ln_terms.max()))))
    return np.array(out)


def angle(radius, z):
    """Radii [Mpc] as angles [arcmin]."""
    return (radius * units.Mpc / Planck18.angular_diameter_distance(z) * units.rad).to_value("arcmin")
