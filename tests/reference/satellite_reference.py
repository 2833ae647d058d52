"""Galaxies in halos in plain NumPy: centrals and satellites of Cacciato et al. 2009, and host masses on a grid.

Everything here is in Msun and Lsun without h, and natural logarithms; the numbers of the paper are in Msun/h and
Lsun/h^2, to base 10.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import erf

H = 0.7
SCATTER = 0.143 * np.log(10)
# A mass function of about the right shape, dn/dlnM, in any normalisation.
LN_MASS = np.log(10) * np.linspace(11.0, 15.8, 2401)


def mass_function(ln_mass):
    """dn/dlnM."""
    x = np.exp(ln_mass) / 10**14.3
    return x**-0.9 * np.exp(-(x**0.7))


def central_ln_lum(ln_mass):
    """ln of the median luminosity of centrals [ln Lsun]."""
    log10_mass = ln_mass / np.log(10) + np.log10(H) - 11.07
    low, high = 3.273, 0.255
    log10_lum = 9.935 + low * log10_mass - (low - high) * np.log10(1 + 10**log10_mass)
    return np.log(10) * (log10_lum - 2 * np.log10(H))


def satellites_per_ln_lum(ln_lum, ln_mass):
    """Phi_s: mean number of satellites per ln L."""
    log10_mass = ln_mass / np.log(10) + np.log10(H)
    m = log10_mass - 12
    phi = 10 ** (-0.766 + 1.008 * m - 0.094 * m**2)
    slope = -2 + 0.501 * (1 - 2 / np.pi * np.arctan(2.106 * (log10_mass - 14.28)))
    # dN/dlog10 L = phi x^(slope + 1) exp(-x^2) ln 10
    x = np.exp(ln_lum - central_ln_lum(ln_mass)) / 0.562
    return phi * x ** (slope + 1) * np.exp(-(x**2))


def noisy_satellites(ln_lum_obs, ln_mass, sigma, number=401):
    """Phi_s convolved with the noise, by the trapezoidal rule over 9 standard deviations; at each of `ln_mass`."""
    steps = np.linspace(-9, 9, number)
    weight = np.exp(-0.5 * steps**2) / np.sqrt(2 * np.pi)
    values = satellites_per_ln_lum(ln_lum_obs + sigma * steps, np.asarray(ln_mass)[..., None]) * weight
    return np.trapezoid(values, steps, axis=-1)


def number_above(ln_lum_min, ln_mass, sigma):
    """N_s: mean number of satellites observed above a limit."""
    grid = np.linspace(ln_lum_min - 9 * sigma, np.log(1e13), 6001)
    detected = 0.5 * (1 + erf((grid - ln_lum_min) / sigma / np.sqrt(2))) if sigma > 0 else (grid >= ln_lum_min) * 1.0
    return np.trapezoid(satellites_per_ln_lum(grid, np.asarray(ln_mass)[..., None]) * detected, grid, axis=-1)


def normal(x, mean, sd):
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / sd / np.sqrt(2 * np.pi)


def densities(ln_lum_obs, sigma, central=1.0, satellite=1.0, ln_mass=LN_MASS):
    """Joint densities on a grid of ln M of one galaxy: as a central, and as a satellite."""
    prior = mass_function(ln_mass)
    width = np.hypot(SCATTER, sigma)
    return (
        central * prior * normal(ln_lum_obs, central_ln_lum(ln_mass), width),
        satellite * prior * noisy_satellites(ln_lum_obs, ln_mass, sigma),
    )


def group_density(ln_lum_obs, members, sigma, ln_lum_min, poisson=True, ln_mass=LN_MASS):
    """Joint density on a grid of ln M of a group: its central and its satellites."""
    ln_density = np.log(densities(ln_lum_obs, sigma, ln_mass=ln_mass)[0])
    for one in members:
        ln_density = ln_density + np.log(noisy_satellites(one, ln_mass, sigma))
    if poisson:
        ln_density = ln_density - number_above(ln_lum_min, ln_mass, sigma)
    return np.exp(ln_density - ln_density.max())


class Galaxies(NamedTuple):
    """A mock catalogue; one entry per galaxy above the limit.

    Attributes
    ----------
    ln_lum_obs : observed luminosity. ln_mass : of the host. is_central : the truth. halo : number of the host.
    halo_ln_mass : of every halo, the empty ones too.
    """

    ln_lum_obs: np.ndarray
    ln_mass: np.ndarray
    is_central: np.ndarray
    halo: np.ndarray
    halo_ln_mass: np.ndarray


def galaxies(seed, num_drawn, ln_lum_min, sigma):
    """Galaxies from n(M) [Phi_c + Phi_s], each in a halo of its own: no two share a host, and so no error."""
    rng = np.random.default_rng(seed)
    faintest = ln_lum_min - 6 * sigma
    number = np.interp(LN_MASS, LN_MASS[::8], _expected(faintest))
    density = mass_function(LN_MASS)
    of_type = np.trapezoid([density, density * number], LN_MASS)
    is_central = rng.uniform(0, of_type.sum(), num_drawn) < of_type[0]
    ln_mass = np.where(
        is_central, _from_density(rng, density, num_drawn), _from_density(rng, density * number, num_drawn)
    )
    ln_lum = central_ln_lum(ln_mass) + rng.normal(0, SCATTER, num_drawn)
    ln_lum[~is_central] = _satellites(rng, ln_mass[~is_central], faintest)
    ln_lum_obs = ln_lum + rng.normal(0, sigma, num_drawn)
    seen = ln_lum_obs >= ln_lum_min
    halo = np.arange(seen.sum())
    return Galaxies(ln_lum_obs[seen], ln_mass[seen], is_central[seen], halo, ln_mass[seen])


def field(seed, num_halos, ln_lum_min, sigma):
    """Halos from the mass function, a central in each, Poisson satellites, noise, and a limit in observed luminosity."""
    rng = np.random.default_rng(seed)
    ln_mass = _from_density(rng, mass_function(LN_MASS), num_halos)
    central = central_ln_lum(ln_mass) + rng.normal(0, SCATTER, num_halos)
    faintest = ln_lum_min - 6 * sigma
    number = rng.poisson(np.interp(ln_mass, LN_MASS[::8], _expected(faintest)))
    halo = np.repeat(np.arange(num_halos), number)
    satellite = _satellites(rng, ln_mass[halo], faintest)
    ln_lum = np.concatenate([central, satellite])
    halo = np.concatenate([np.arange(num_halos), halo])
    is_central = np.arange(halo.size) < num_halos
    ln_lum_obs = ln_lum + rng.normal(0, sigma, ln_lum.size)
    seen = ln_lum_obs >= ln_lum_min
    return Galaxies(ln_lum_obs[seen], ln_mass[halo[seen]], is_central[seen], halo[seen], ln_mass)


@cache
def _expected(faintest):
    """Mean number of satellites above a true luminosity, at every eighth mass."""
    return number_above(faintest, LN_MASS[::8], 0.0)


def _from_density(rng, density, number):
    """Values on the grid of masses, by the inverse CDF."""
    below = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(LN_MASS))])
    return np.interp(rng.uniform(0, below[-1], number), below, LN_MASS)


def _satellites(rng, ln_mass, faintest):
    """One luminosity above `faintest` for each mass, from Phi_s by the inverse CDF on a grid."""
    out = np.empty(ln_mass.size)
    grid = np.linspace(faintest, np.log(1e12), 1201)
    for start in range(0, ln_mass.size, 2000):
        part = slice(start, start + 2000)
        density = satellites_per_ln_lum(grid, ln_mass[part, None])
        below = np.concatenate([np.zeros((density.shape[0], 1)), np.cumsum(density[:, 1:] + density[:, :-1], 1)], 1)
        level = rng.uniform(0, below[:, -1])
        out[part] = [np.interp(u, b, grid) for u, b in zip(level, below, strict=True)]
    return out
