"""Mass maps object by object and pixel by pixel, in plain NumPy; nothing of massmap_jax."""

import numpy as np


def tangent_pixel(ra, dec, centre, shape, pixel_arcmin):
    """(row, column) of one position [deg] on a gnomonic grid, or None outside: rotate to the pole, divide."""
    ra, dec, ra0, dec0 = np.radians([ra, dec, *centre])
    x, y, z = np.cos(dec) * np.cos(ra - ra0), np.cos(dec) * np.sin(ra - ra0), np.sin(dec)
    depth = np.cos(dec0) * x + np.sin(dec0) * z
    north = -np.sin(dec0) * x + np.cos(dec0) * z
    side = np.radians(pixel_arcmin / 60)
    column = int(np.floor(-y / depth / side + shape[1] / 2))
    row = int(np.floor(north / depth / side + shape[0] / 2))
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def tangent_pixel_area(row, column, shape, pixel_arcmin):
    """Solid angle [arcmin^2] of a pixel by the excess of its two spherical triangles (Van Oosterom & Strackee 1983)."""
    side = np.radians(pixel_arcmin / 60)
    x, y = (
        (column - (shape[1] - 1) / 2 + np.array([-0.5, 0.5])) * side,
        (row - (shape[0] - 1) / 2 + np.array([-0.5, 0.5])) * side,
    )
    corners = [
        np.array([a, b, 1.0]) / np.sqrt(a * a + b * b + 1)
        for a, b in ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))
    ]

    def triangle(a, b, c):
        return 2 * np.arctan2(abs(a @ np.cross(b - a, c - a)), 1 + a @ b + b @ c + c @ a)

    total = triangle(*corners[:3]) + triangle(corners[0], *corners[2:])
    return total * np.degrees(60) ** 2


def smoothed_image(image, inside, sigma_pixels, reach=5.0):
    """Every pixel's mass over the pixels inside, by a Gaussian cut off at a square of `reach` sigma."""
    far = int(reach * sigma_pixels + 0.5)
    out = np.zeros(image.shape)
    for row, column in np.argwhere(inside):
        rows, columns = np.indices(image.shape)
        weight = np.exp(-0.5 * ((rows - row) ** 2 + (columns - column) ** 2) / sigma_pixels**2)
        weight[(abs(rows - row) > far) | (abs(columns - column) > far) | ~inside] = 0.0
        out += image[row, column] * weight / weight.sum()
    return np.where(inside, out, np.nan)
