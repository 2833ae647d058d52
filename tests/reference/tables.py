"""Raw mass-function tables for the tests: one made here from a formula, one read from the public file."""

from pathlib import Path

import numpy as np

LN10 = np.log(10.0)


def schechter_table(num_mass=410, num_redshift=20, mass_range=(1.25655630e10, 1.5459e14), z_max=3.5, slope=-0.88):
    """A mass function of the shape, range and spacing of the ancestors' table, from a closed formula.

    dn/dlnM is proportional to (M/M*)^(slope + 0.03 z) exp(-(M/M*)^0.6), log10 M* = 14.2 - 0.75 z (Msun): the
    slopes at the two ends are close to those of Tinker et al. (2010), and the shape changes with redshift.

    Returns
    -------
    redshift (j,); mass (k,) [Msun], equal steps in ln M; density (j, k) per unit mass [1/Msun], each row summing
    to 1 by the trapezoid rule in mass.
    """
    redshift = np.linspace(0.0, z_max, num_redshift)
    mass = np.geomspace(*mass_range, num_mass)
    characteristic = 10.0 ** (14.2 - 0.75 * redshift)[:, None]
    ratio = mass / characteristic
    density = ratio ** (slope + 0.03 * redshift[:, None]) * np.exp(-(ratio**0.6)) / mass
    return redshift, mass, density / np.trapezoid(density, mass, axis=1)[:, None]


def read_three_columns(path: Path):
    """Table of three columns (z node, mass, density per unit mass) as (redshift (j,), mass (k,), density (j, k))."""
    column = np.loadtxt(path)
    redshift = np.unique(column[:, 0])
    mass = column[:, 1].reshape(redshift.size, -1)
    if np.any(mass != mass[0]):
        raise ValueError(f"{path}: the mass nodes differ between redshifts")
    return redshift, mass[0], column[:, 2].reshape(mass.shape)
