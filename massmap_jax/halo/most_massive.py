"""Whether the whole sky has halos as massive as a catalogue says: masses in a wrong unit often are more massive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from massmap_jax.halo.cosmology import comoving_volume

if TYPE_CHECKING:
    from jaxtyping import Float

# The k-th most massive object is looked at above this mass [Msun] times (k / 3)^-0.3, half of what would be too many:
# the mass function is made for strange catalogues alone.
_STRANGE, _FALL = 2e15, -0.3
_LOWEST = 1e14
# The volume is that out to this redshift at least: all objects of a simulation's snapshot have one redshift.
_LEAST_REDSHIFT = 0.3
# A factor that masses may be off by, as cosmologies and mass functions differ.
_MARGIN = 1.3
# One or two masses may be wrong on their own.
_LEAST_OBJECTS = 3
# Probability of so many halos below which there are too many, of all numbers that are tried together.
_LEVEL = 1e-6
# Part of all halos in the sky that is told, of so many objects or more.
_SHARE, _LEAST_IN_SHARE = 0.2, 5
_REDSHIFTS, _MASSES = 24, 64


class TooMany(NamedTuple):
    """More massive objects than the whole sky has.

    Attributes
    ----------
    number : int
        How many objects are more massive than `mass`.
    mass : float
        That mass [Msun], lowered by a factor of 1.3, for the differences of cosmologies and mass functions.
    expected : float
        How many halos above that mass the whole sky has, out to the largest redshift.
    """

    number: int
    mass: float
    expected: float


def too_many(ln_mass: Float[np.ndarray, " halo"], z_max: float, cosmology: Any, mass_definition: str) -> TooMany | None:
    """Compare the number of the most massive objects with that of all halos in the sky.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "halo"]
        ln of the masses [ln Msun], such as posterior means; NaN where there is none.
    z_max : float
        The largest redshift.
    cosmology : str or astropy.cosmology.FLRW
        As in `hmf_table`.
    mass_definition : str
        "200m", "200c", "500c" or "vir".

    Returns
    -------
    TooMany or None
        The number of objects that is the least likely; None where the sky has as many, or has not been asked because
        no mass is so large.

    Notes
    -----
    The halos above M out to z are Poisson distributed about 4 pi times the integral of n(> M, z) dV/dz; n is Tinker et
    al. 2008. With the k-th most massive object in the place of M, k of them or more have a probability each, and the
    least of these counts n times (Bonferroni).

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.halo.most_massive import too_many
    >>> clusters = np.log([5e14, 8e14, 9e14, 1e15])
    >>> too_many(clusters, 0.3, "Planck18", "500c") is None
    True
    >>> too_many(clusters + np.log(10), 0.3, "Planck18", "500c").number
    3
    """
    from scipy.stats import poisson

    counted = _in_the_sky(ln_mass, z_max, cosmology, mass_definition)
    if counted is None:
        return None
    heaviest, ln_above = counted
    counts = np.arange(1, heaviest.size + 1)
    chance = poisson.sf(counts - 1, np.exp(ln_above))[_LEAST_OBJECTS - 1 :]
    if not chance.min() * chance.size < _LEVEL:
        return None
    k = int(np.argmin(chance)) + _LEAST_OBJECTS - 1
    return TooMany(int(counts[k]), float(np.exp(heaviest[k])), float(np.exp(ln_above[k])))


def large_share(
    ln_mass: Float[np.ndarray, " halo"], z_max: float, cosmology: Any, mass_definition: str
) -> TooMany | None:
    """Give the objects that would be a large part of all halos in the sky that are as massive.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "halo"]
        As in `too_many`.
    z_max : float
        The largest redshift.
    cosmology : str or astropy.cosmology.FLRW
        As in `too_many`.
    mass_definition : str
        As in `too_many`.

    Returns
    -------
    TooMany or None
        The number of objects, five or more, that is the largest part of those in the sky; None where it is less than a
        fifth.

    Notes
    -----
    Such a catalogue is not impossible: one of the whole sky holds all of them. A small one is likelier in a wrong unit.

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.halo.most_massive import large_share
    >>> clusters = np.log(np.geomspace(1.5e14, 6e14, 40))
    >>> large_share(clusters, 0.5, "Planck18", "200m") is None
    True
    >>> large_share(clusters + np.log(10), 0.5, "Planck18", "200m").number
    5
    """
    counted = _in_the_sky(ln_mass, z_max, cosmology, mass_definition)
    if counted is None:
        return None
    heaviest, ln_above = counted
    share = np.arange(1, heaviest.size + 1) / np.exp(ln_above)
    share[: _LEAST_IN_SHARE - 1] = 0.0
    k = int(np.argmax(share))
    if not share[k] > _SHARE:
        return None
    return TooMany(k + 1, float(np.exp(heaviest[k])), float(np.exp(ln_above[k])))


def _in_the_sky(ln_mass, z_max: float, cosmology: Any, mass_definition: str) -> tuple[np.ndarray, np.ndarray] | None:
    """ln of the largest masses, lowered by the margin, and ln of how many halos the sky has above each.

    None where no mass is so large that it is worth to make the mass function.
    """
    known = np.asarray(ln_mass, dtype=np.float64)
    heaviest = np.sort(known[np.isfinite(known)])[::-1]
    counts = np.arange(1, heaviest.size + 1)
    strange = heaviest > np.log(_STRANGE) + _FALL * np.log(counts / _LEAST_OBJECTS)
    if not strange[_LEAST_OBJECTS - 1 :].any():
        return None
    heaviest = heaviest[heaviest > np.log(_LOWEST * _MARGIN)] - np.log(_MARGIN)
    from massmap_jax.halo.abundance import CosmologyParameters, mass_function

    z = np.linspace(1e-3, max(z_max, _LEAST_REDSHIFT), _REDSHIFTS)
    nodes = np.linspace(np.log(_LOWEST), np.log(1e17), _MASSES)
    parameters = CosmologyParameters.of(cosmology)
    ln_n = np.asarray(mass_function(parameters, z, nodes, fit="Tinker08", mass_definition=mass_definition))
    # Comoving volume of the sky per unit redshift, at each redshift: 41,253 square degrees.
    volume = comoving_volume(cosmology, z) * 4 * np.pi / np.deg2rad(1.0) ** 2
    per_ln_mass = np.trapezoid(volume[:, None] * np.exp(ln_n.astype(np.float64)), z, axis=0)
    steps = 0.5 * (per_ln_mass[1:] + per_ln_mass[:-1]) * np.diff(nodes)
    above = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    # In the ln, since the numbers fall by many orders of magnitude between nodes.
    ln_above = np.interp(heaviest, nodes, np.log(np.maximum(above, 1e-300)))
    return heaviest, ln_above
