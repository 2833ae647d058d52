"""Haloes as projected NFW profiles that end at their radius, one after the other, in NumPy and astropy alone."""

import numpy as np

from .lensing_loop import scales


def cut_nfw(x, c):
    """Takada & Jain 2003 (MNRAS 340, 580), eq. 27: surface density over 2 rho_s r_s, away from x = 1."""
    inside = (x > 0) & (x < c)
    x = np.where(inside, x, 0.5 * min(c, 1.0))
    ratio = (x**2 + c) / (x * (1 + c))
    near = np.arccosh(np.maximum(ratio, 1.0)) / np.abs(1 - x**2) ** 1.5
    far = -np.arccos(np.minimum(ratio, 1.0)) / np.abs(1 - x**2) ** 1.5
    value = -np.sqrt(c**2 - x**2) / ((1 - x**2) * (1 + c)) + np.where(x < 1, near, far)
    return np.where(inside, value, 0.0)


def one_halo(shape, row, column, r_s, c, points=12):
    """(ny, nx) shares of a halo's mass, its centre that of a pixel; each pixel by points x points values. r_s : pixels."""
    offset = (np.arange(points) + 0.5) / points - 0.5
    dy = (np.arange(shape[0])[:, None] - row + offset).ravel()
    dx = (np.arange(shape[1])[:, None] - column + offset).ravel()
    sigma = cut_nfw(np.hypot(dy[:, None], dx) / r_s, c)
    image = sigma.reshape(shape[0], points, shape[1], points).mean(axis=(1, 3))
    if image.sum() == 0:
        image[row, column] = 1.0
    return image / image.sum()


def mass_map(shape, pixel_arcmin, rows, columns, mass, c, z):
    """(ny, nx) mass of haloes whose centres are those of pixels; 200m masses."""
    total = np.zeros(shape)
    for k in range(len(mass)):
        theta, _ = scales(mass[k], c[k], z[k], z[k] + 1)
        total += mass[k] * one_halo(shape, rows[k], columns[k], theta / np.radians(pixel_arcmin / 60), c[k])
    return total
