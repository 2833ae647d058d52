"""Convergence and shear of haloes, one after the other on the whole grid, in NumPy and astropy alone."""

import numpy as np
from astropy import constants, units
from astropy.cosmology import Planck18


def bmo_sigma(x, tau):
    """Baltz, Marshall & Oguri 2009, eq. A.10 over 2 rho_s r_s (away from x = 1)."""
    f = np.where(x < 1, np.arccosh(1 / np.minimum(x, 1)), np.arccos(1 / np.maximum(x, 1))) / np.sqrt(np.abs(1 - x**2))
    root = np.sqrt(tau**2 + x**2)
    terms = (tau**2 + 1) / (x**2 - 1) * (1 - f) + 2 * f - np.pi / root
    terms += (tau**2 - 1) / (tau * root) * np.log(x / (root + tau))
    return tau**2 / (tau**2 + 1) ** 2 * terms


def bmo_enclosed(x, tau):
    """Their eq. A.11 over 4 pi rho_s r_s^3."""
    f = np.where(x < 1, np.arccosh(1 / np.minimum(x, 1)), np.arccos(1 / np.maximum(x, 1))) / np.sqrt(np.abs(1 - x**2))
    root = np.sqrt(tau**2 + x**2)
    terms = (tau**2 + 1 + 2 * (x**2 - 1)) * f + tau * np.pi + (tau**2 - 1) * np.log(tau)
    terms += root * (-np.pi + (tau**2 - 1) / tau * np.log(x / (root + tau)))
    return tau**2 / (tau**2 + 1) ** 2 * terms


def scales(mass, c, z, z_source, overdensity=200, mean=True):
    """Scale radius in radians and 2 rho_s r_s / Sigma_crit, of mass [Msun] and concentration in <overdensity>m or c."""
    density = overdensity * Planck18.critical_density(z) * (Planck18.Om(z) if mean else 1.0)
    radius = (3 * mass * units.Msun / (4 * np.pi * density)) ** (1 / 3)
    r_s = radius / c
    rho_s = mass * units.Msun / (4 * np.pi * r_s**3 * (np.log1p(c) - c / (1 + c)))
    d_l, d_s = Planck18.angular_diameter_distance(z), Planck18.angular_diameter_distance(z_source)
    # In a flat universe; astropy takes two redshifts from 7.2 on.
    d_ls = (Planck18.comoving_distance(z_source) - Planck18.comoving_distance(z)) / (1 + z_source)
    critical = constants.c**2 / (4 * np.pi * constants.G) * d_s / (d_l * d_ls)
    return float(r_s / d_l), float(2 * rho_s * r_s / critical)


def mean_over_pixel(density, dy, dx, number=60):
    """Mean of density(R) over a pixel's area, R from a place dy, dx off its centre [pixels]: a grid in each of the four
    rectangles between the place and the corners, dense towards the place."""
    node, weight = np.polynomial.legendre.leggauss(number)
    node, weight = (node + 1) / 2, weight / 2
    node, weight = node**5, weight * 5 * node**4
    total = 0.0
    for height in (0.5 - dy, 0.5 + dy):
        for width in (0.5 - dx, 0.5 + dx):
            r = np.hypot(height * node[:, None], width * node)
            total += height * width * weight @ density(np.maximum(r, 1e-30)) @ weight
    return total


def convergence(shape, pixel_arcmin, x, y, mass, c, z, z_source, truncation, shear=False):
    """(ny, nx) kappa, or (3, ny, nx) with shear, of haloes at pixel coordinates x, y; 200m masses, no cut.

    Values at pixel centres; kappa of a halo is averaged over the pixel that holds it."""
    total = np.zeros((3 if shear else 1, *shape))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for k in range(len(mass)):
        theta, amplitude = scales(mass[k], c[k], z[k], z_source)
        dx, dy = columns - x[k], rows - y[k]
        u = np.hypot(dx, dy) * np.radians(pixel_arcmin / 60) / theta
        sigma = bmo_sigma(u, truncation * c[k])
        row, column = int(np.floor(y[k] + 0.5)), int(np.floor(x[k] + 0.5))
        held = sigma.copy()
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            per_scale, tau = np.radians(pixel_arcmin / 60) / theta, truncation * c[k]
            held[row, column] = mean_over_pixel(
                lambda r, a=per_scale, tau=tau: bmo_sigma(r * a, tau), y[k] - row, x[k] - column
            )
        total[0] += amplitude * held
        if shear:
            tangential = amplitude * (2 * bmo_enclosed(u, truncation * c[k]) / u**2 - sigma)
            angle = np.arctan2(dy, dx)
            total[1] -= tangential * np.cos(2 * angle)
            total[2] -= tangential * np.sin(2 * angle)
    return total if shear else total[0]
