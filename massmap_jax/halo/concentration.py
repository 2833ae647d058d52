"""Concentrations of halos of given mass, and the mean densities that define a halo's radius."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.devices import padded_size
from massmap_jax.halo.cosmology import flrw_of, overdensity
from massmap_jax.keys import base_normals

# Duffy et al. 2008 (MNRAS 390, L64), Table 1, full sample at 0 < z < 2, 1e11 to 1e15 Msun/h, WMAP5:
# c = A (M / 2e12 Msun/h)^B (1 + z)^C, per mass definition.
DUFFY08 = {"200c": (5.71, -0.084, -0.47), "vir": (7.85, -0.081, -0.71), "200m": (10.14, -0.081, -1.01)}
_PIVOT = 2e12
# Their lognormal scatter at fixed mass: 0.15 dex for all halos (0.11 dex for relaxed ones).
SCATTER_LN = float(0.15 * np.log(10))
# Nodes of the table for other definitions: ln c is straight to 3e-4 between them.
_LN_MASS_NODES, _Z_NODES = np.log(np.geomspace(1e9, 1e16, 57)), np.expm1(np.linspace(0.0, np.log(5.0), 129))


def mean_ln_concentration(
    ln_mass: Float[np.ndarray, "..."], z: Float[np.ndarray, "..."], mass_definition: str, cosmology: Any = "Planck18"
) -> Float[np.ndarray, "..."]:
    """Compute the mean ln c of halos after Duffy et al. (2008).

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "..."]
        ln of the halo mass [ln Msun, no h], in `mass_definition`.
    z : Float[np.ndarray, "..."]
        Redshift. It broadcasts with `ln_mass`.
    mass_definition : str
        Definition of both the mass and the concentration: "200c", "200m", "vir", or another <number>c or <number>m,
        such as "500c".
    cosmology : str or astropy.cosmology.FLRW, default "Planck18"
        A name or a text of parameters as in `massmap_jax.halo.mass_function.hmf_table`, or a flat astropy LambdaCDM.

    Returns
    -------
    Float[np.ndarray, "..."]
        Mean of ln c, in the broadcast shape of `ln_mass` and `z`.

    Raises
    ------
    MassmapError
        If the mass definition is not <number>c, <number>m or vir.

    See Also
    --------
    overdensity : The mean density that belongs to a mass definition.
    ln_concentration_at : The conversion.

    Notes
    -----
    ln c = ln A + B ln[M / (2e12 Msun/h)] + C ln(1 + z), with A, B and C of Duffy et al. (2008, MNRAS 390, L64), Table
    1, full sample (`DUFFY08`). They were fitted to simulations at 0 < z < 2 and 1e11 to 1e15 Msun/h in the WMAP5
    cosmology; masses and redshifts beyond are extrapolated. Definitions other than 200c, 200m and vir are converted
    for NFW halos (`ln_concentration_at`).

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.halo.concentration import mean_ln_concentration
    >>> ln_c = mean_ln_concentration(np.log([1e13, 1e14, 1e15]), np.array(0.3), "200m")
    >>> [round(c, 2) for c in np.exp(ln_c).tolist()]
    [7.05, 5.85, 4.85]
    """
    flrw = flrw_of(cosmology)
    if mass_definition in DUFFY08:
        norm, slope, evolution = DUFFY08[mass_definition]
        return np.log(norm) + slope * (ln_mass - np.log(_PIVOT / flrw.h)) + evolution * np.log1p(z)
    overdensity(mass_definition, cosmology, np.zeros(1))
    return _converted(mass_definition, flrw)(np.stack(np.broadcast_arrays(ln_mass, z), axis=-1))


def concentration_key(key: Array) -> Array:
    """Derive the random key of the concentrations from the key of a map's masses.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key of the masses.

    Returns
    -------
    Key[Array, ""]
        Key for `drawn_ln_concentration`, independent of the masses' own.
    """
    return jax.random.fold_in(key, 1)


def drawn_ln_concentration(
    key: Array,
    hashes: Int[np.ndarray, "halo 2"],
    ln_mass: Float[np.ndarray, "halo draw"],
    z: Float[np.ndarray, "halo"],
    mass_definition: str,
    cosmology: Any,
    scatter: float = SCATTER_LN,
) -> Float[np.ndarray, "halo draw"]:
    """Draw ln c of halos in each map realisation, normal about `mean_ln_concentration`.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key, see `concentration_key`.
    hashes : Int[np.ndarray, "halo 2"]
        Hashes of the objects' ids. The random numbers belong to an object and a realisation, whatever the order of the
        rows.
    ln_mass : Float[np.ndarray, "halo draw"]
        ln of the mass [ln Msun] of each halo in each map realisation.
    z : Float[np.ndarray, "halo"]
        Redshift of each halo.
    mass_definition : str
        Definition of both the mass and the concentration, as in `mean_ln_concentration`.
    cosmology : str or astropy.cosmology.FLRW
        As in `mean_ln_concentration`.
    scatter : float, optional
        Standard deviation of ln c at fixed mass; 0.15 dex (Duffy et al. 2008, full sample) by default. With 0 the mean
        is returned.

    Returns
    -------
    Float[np.ndarray, "halo draw"]
        ln c of each halo in each map realisation.
    """
    ln_c = mean_ln_concentration(ln_mass, z[:, None], mass_definition, cosmology)
    if scatter == 0:
        return ln_c
    padded = np.resize(hashes, (padded_size(hashes.shape[0]), 2))
    return ln_c + scatter * np.asarray(_scores(key, padded, ln_mass.shape[1]))[: hashes.shape[0]]


@partial(jax.jit, static_argnums=2)
def _scores(key, hashes, num_draws):
    """Standard normal scores (halo, draw), keyed by each halo's id."""
    return jax.vmap(lambda one: base_normals(key, one, (num_draws,)))(hashes)


def _converted(mass_definition, flrw):
    """Return a function of (ln M, z) that gives ln c in another definition, linear between nodes."""
    from scipy.interpolate import RegularGridInterpolator

    # c falls with M, and M changes by a factor of 2 at most for the usual definitions: nodes of 200c beyond both ends.
    from_ln_mass = np.linspace(_LN_MASS_NODES[0] - 5.0, _LN_MASS_NODES[-1] + 5.0, 256)
    ln_c = mean_ln_concentration(from_ln_mass[:, None], _Z_NODES, "200c", flrw)
    ratio = overdensity(mass_definition, flrw, _Z_NODES) / overdensity("200c", flrw, _Z_NODES)
    to_ln_c = ln_concentration_at(ln_c, ratio)
    to_ln_mass = from_ln_mass[:, None] + _ln_nfw_mass(to_ln_c) - _ln_nfw_mass(ln_c)
    rows = [np.interp(_LN_MASS_NODES, mass, c) for mass, c in zip(to_ln_mass.T, to_ln_c.T, strict=True)]
    nodes = (_LN_MASS_NODES, _Z_NODES)
    return RegularGridInterpolator(nodes, np.array(rows).T, bounds_error=False, fill_value=None)


def ln_mass_in(
    ln_mass: Float[np.ndarray, "halo"],
    z: Float[np.ndarray, "halo"],
    given: str,
    wanted: str,
    cosmology: Any = "Planck18",
) -> tuple[Float[np.ndarray, "halo"], Float[np.ndarray, "halo"]]:
    """Convert masses of NFW halos to another mass definition, with the scatter that unknown concentrations add.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "halo"]
        ln of the masses [ln Msun].
    z : Float[np.ndarray, "halo"]
        Redshifts.
    given, wanted : str
        Definitions of the masses, before and after, as in `mean_ln_concentration`.
    cosmology : str or astropy.cosmology.FLRW, optional
        As in `mean_ln_concentration`.

    Returns
    -------
    ln_mass : Float[np.ndarray, "halo"]
        ln of the mass within the wanted radius, at the mean concentration.
    scatter : Float[np.ndarray, "halo"]
        Standard deviation of that ln mass at fixed mass, for the scatter of ln c at fixed mass (`SCATTER_LN`).

    Raises
    ------
    MassmapError
        For a mass definition without a radius.

    Examples
    --------
    A cluster of 5e14 Msun within the radius of 500 times the critical density:

    >>> import numpy as np
    >>> from massmap_jax.halo.concentration import ln_mass_in
    >>> ln_mass, scatter = ln_mass_in(np.log([5e14]), np.array([0.3]), "500c", "200m")
    >>> print(np.exp(ln_mass[0]).round(-13), scatter[0].round(3))
    990000000000000.0 0.121
    """
    ln_c = mean_ln_concentration(ln_mass, z, given, cosmology)
    ratio = overdensity(wanted, cosmology, z) / overdensity(given, cosmology, z)

    def change(ln_c):
        return _ln_nfw_mass(ln_concentration_at(ln_c, ratio)) - _ln_nfw_mass(ln_c)

    return ln_mass + change(ln_c), np.abs(change(ln_c + SCATTER_LN) - change(ln_c - SCATTER_LN)) / 2


def ln_concentration_at(ln_c: Float[np.ndarray, "..."], ratio: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Convert the concentration of an NFW halo to another mass definition.

    Parameters
    ----------
    ln_c : Float[np.ndarray, "..."]
        ln of the concentration.
    ratio : Float[np.ndarray, "..."]
        Mean density inside the radius of the wanted definition, over that of the given one. It broadcasts with `ln_c`.

    Returns
    -------
    Float[np.ndarray, "..."]
        ln of the concentration within the wanted radius.

    Notes
    -----
    The mean density within c scale radii goes as m(c) / c^3, m(c) = ln(1 + c) - c / (1 + c) (Hu & Kravtsov 2003, ApJ
    584, 702, appendix C). It falls with c, and its inverse is looked up, to 1e-6 in ln c for c of 0.01 to 10,000.
    """
    nodes = np.linspace(np.log(0.01), np.log(1e4), 8192)
    ln_density = _ln_nfw_mass(nodes) - 3 * nodes
    wanted = _ln_nfw_mass(ln_c) - 3 * ln_c + np.log(ratio)
    return np.interp(-wanted, -ln_density, nodes)


def _ln_nfw_mass(ln_c):
    c = np.exp(ln_c)
    return np.log(np.log1p(c) - c / (1 + c))
