"""Concentration of a halo of given mass, and the scale radius and density that follow from it."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.devices import padded_size
from massmap_jax.errors import MassmapError
from massmap_jax.keys import base_normals

# Duffy et al. 2008 (MNRAS 390, L64), Table 1, full sample at 0 < z < 2, 1e11 to 1e15 Msun/h, WMAP5:
# c = A (M / 2e12 Msun/h)^B (1 + z)^C, per mass definition.
DUFFY08 = {"200c": (5.71, -0.084, -0.47), "vir": (7.85, -0.081, -0.71), "200m": (10.14, -0.081, -1.01)}
_PIVOT = 2e12
# Their lognormal scatter at fixed mass, all haloes (0.11 for relaxed ones): 0.15 dex.
SCATTER_LN = float(0.15 * np.log(10))
# Nodes of the table for other definitions: ln c is straight to 3e-4 between them.
_LN_MASS_NODES, _Z_NODES = np.log(np.geomspace(1e9, 1e16, 57)), np.expm1(np.linspace(0.0, np.log(5.0), 129))


def mean_ln_concentration(
    ln_mass: Float[np.ndarray, "..."], z: Float[np.ndarray, "..."], mass_definition: str, cosmology: Any = "Planck18"
) -> Float[np.ndarray, "..."]:
    """Mean ln c of Duffy et al. 2008 at ln_mass [ln Msun, no h] and z, c and M of one mass_definition; they broadcast.

    Definitions other than 200c, 200m and vir are converted for NFW haloes (`ln_concentration_at`). Masses and redshifts
    beyond the simulations' (DUFFY08) are extrapolated. cosmology : a name or text as in `prior_hmf`, or a flat astropy
    LambdaCDM.

    Raises
    ------
    MassmapError : a definition that is not <number>c, <number>m or vir.
    """
    flrw = _flrw(cosmology)
    if mass_definition in DUFFY08:
        norm, slope, evolution = DUFFY08[mass_definition]
        return np.log(norm) + slope * (ln_mass - np.log(_PIVOT / flrw.h)) + evolution * np.log1p(z)
    overdensity(mass_definition, cosmology, np.zeros(1))
    return _converted(mass_definition, flrw)(np.stack(np.broadcast_arrays(ln_mass, z), axis=-1))


def concentration_key(key: Array) -> Array:
    """The key of the concentrations that go with the masses of a map's key."""
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
    """ln c of haloes under map draws: normal with `scatter` about `mean_ln_concentration`, keyed by object and draw."""
    ln_c = mean_ln_concentration(ln_mass, z[:, None], mass_definition, cosmology)
    if scatter == 0:
        return ln_c
    padded = np.resize(hashes, (padded_size(hashes.shape[0]), 2))
    return ln_c + scatter * np.asarray(_scores(key, padded, ln_mass.shape[1]))[: hashes.shape[0]]


@partial(jax.jit, static_argnums=2)
def _scores(key, hashes, num_draws):
    return jax.vmap(lambda one: base_normals(key, one, (num_draws,)))(hashes)


def overdensity(mass_definition: str, cosmology: Any, z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Mean density inside the radius of a mass_definition [Msun Mpc^-3, proper] at each redshift z; cosmology as above.

    "vir" is Bryan & Norman 1998 (ApJ 495, 80, eq. 6) for a flat universe.

    Raises
    ------
    MassmapError : a definition that is not <number>c, <number>m or vir.
    """
    flrw = _flrw(cosmology)
    critical = flrw.critical_density(z).to_value("Msun / Mpc3")
    if mass_definition == "vir":
        x = flrw.Om(z) - 1
        return (18 * np.pi**2 + 82 * x - 39 * x**2) * critical
    number, kind = mass_definition[:-1], mass_definition[-1:]
    try:
        times = float(number)
    except ValueError:
        times = np.nan
    if kind not in ("c", "m") or not (np.isfinite(times) and times > 0):
        raise MassmapError(
            f"a halo's radius does not follow from the mass definition {mass_definition!r}: it has to be like 200m, "
            "200c, 500c or vir; say which one the prior's masses are"
        )
    return times * critical * (flrw.Om(z) if kind == "m" else 1.0)


def _flrw(cosmology):
    from massmap_jax.halo.mass_function import flrw_of

    return flrw_of(cosmology)


def _converted(mass_definition, flrw):
    """ln c(ln M, z) in another definition, linear between nodes."""
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


def ln_concentration_at(ln_c: Float[np.ndarray, "..."], ratio: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """ln c of the same NFW halo within the radius of another mean density, `ratio` times the first; they broadcast.

    The mean density within r = c r_s goes as m(c) / c^3, m(c) = ln(1 + c) - c / (1 + c) (Hu & Kravtsov 2003, ApJ 584,
    702, appendix C), which falls with c: its inverse is looked up, to 1e-6 in ln c for c of 0.01 to 10,000.
    """
    nodes = np.linspace(np.log(0.01), np.log(1e4), 8192)
    ln_density = _ln_nfw_mass(nodes) - 3 * nodes
    wanted = _ln_nfw_mass(ln_c) - 3 * ln_c + np.log(ratio)
    return np.interp(-wanted, -ln_density, nodes)


def _ln_nfw_mass(ln_c):
    c = np.exp(ln_c)
    return np.log(np.log1p(c) - c / (1 + c))
