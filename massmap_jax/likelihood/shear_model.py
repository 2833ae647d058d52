"""ln likelihood of ln M of a tangential shear profile: concentration and scatter of the lensing mass marginalised.

With t = ln M_WL the mass of the NFW halo that lenses as the object does, g the model's reduced shear in the bins, C the
covariance of the measured one and ln c normal about a published mean at that mass,

    L_g(t) = integral of exp[-(g_obs - g(t, c))^T C^-1 (g_obs - g(t, c)) / 2] p(ln c | t, z) d ln c

and the true mass, about which t is normal with the scatter S, has L(ln M) = integral of N(t; ln M, S) L_g(t) dt.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.halo import profiles

LN_MASS_NODES = np.linspace(11.0, 16.6, 141) * np.log(10.0)
"""ln M of the nodes, 0.04 dex apart."""
_STEP = LN_MASS_NODES[1] - LN_MASS_NODES[0]
# The nodes of ln c reach to this many standard deviations.
_REACH = 5.0
# Numbers of nodes of ln c, and the largest product of their step and the signal to noise of a profile: masses then
# change by less than 1e-3 of their error where the nodes are twice as many. The more, the finer is ln M, too.
_NUMBERS, _FINE_ENOUGH = (11, 21, 61, 321), 2.0
_PER_NODE = 20


class Smoothing(NamedTuple):
    """How a table is smoothed by the scatter: read off its spline at finer nodes, and averaged there.

    refine : (fine, node), the spline of values at the nodes.
    near : (node, window), which finer nodes are averaged for a node.
    ln_weight : (node, window), ln of their weights, which sum to 1.
    """

    refine: np.ndarray
    near: np.ndarray
    ln_weight: np.ndarray

    @classmethod
    def of(cls, scatter: float, number: int) -> "Smoothing":
        """Prepare the smoothing by a scatter in ln M, above 0.

        Parameters
        ----------
        scatter : float
            Standard deviation in ln M.
        number : int
            Nodes of the concentration, of which precise profiles need many.

        Returns
        -------
        Smoothing
            The matrices.
        """
        from scipy.interpolate import CubicSpline

        times = max(4, -(-number // _PER_NODE), int(np.ceil(_STEP / (0.7 * scatter))))
        number = LN_MASS_NODES.size
        fine = np.linspace(LN_MASS_NODES[0], LN_MASS_NODES[-1], times * (number - 1) + 1)
        refine = CubicSpline(LN_MASS_NODES, np.eye(number))(fine)
        half = int(np.ceil(5.0 * scatter / _STEP * times))
        near = times * np.arange(number)[:, None] + np.arange(-half, half + 1)
        inside = (near >= 0) & (near < fine.size)
        near = np.clip(near, 0, fine.size - 1)
        ln_weight = np.where(inside, -0.5 * ((fine[near] - LN_MASS_NODES[:, None]) / scatter) ** 2, -np.inf)
        return cls(refine, near, ln_weight - np.log(np.exp(ln_weight).sum(axis=1, keepdims=True)))


def number_of_concentrations(signal_to_noise: Float[np.ndarray, "n"], scatter: float) -> np.ndarray:
    """Choose how many nodes of ln c each profile needs.

    Parameters
    ----------
    signal_to_noise : Float[np.ndarray, "n"]
        Square root of g^T C^-1 g of each profile.
    scatter : float
        Standard deviation of ln c.

    Returns
    -------
    Int[np.ndarray, "n"]
        1 without scatter, else 11 and more; 0 where a profile is too precise for any of these numbers.
    """
    if scatter == 0:
        return np.ones(signal_to_noise.shape, dtype=int)
    least = 1 + 2 * _REACH * scatter * signal_to_noise / _FINE_ENOUGH
    return np.append(_NUMBERS, 0)[np.searchsorted(_NUMBERS, least)]


def tangential_shear(radius, sigma_crit, mass, c, scale, truncation: float | None, reduced: bool) -> Array:
    """Compute the tangential shear of NFW halos; all arrays broadcast.

    Parameters
    ----------
    radius : array_like
        Projected radii [Mpc, proper].
    sigma_crit : array_like
        Critical surface density of the sources [Msun / Mpc^2].
    mass, c, scale : array_like
        Mass [Msun], concentration and scale radius [Mpc].
    truncation : float or None
        Truncation radius of BMO1 over the halo's radius; None for NFW.
    reduced : bool
        Whether g = gamma / (1 - kappa), as images show it, or gamma. Inside the tangential critical curve, where
        lensing is strong and g > 1, it is gamma + kappa, which is 1 there and grows with the mass: no weak shear is
        taken for that of a halo whose Einstein radius holds it.

    Returns
    -------
    Float[Array, "..."]
        The shear.
    """
    x = radius / scale
    if truncation is None:
        sigma, mean = profiles.nfw_sigma(x), profiles.nfw_mean_sigma(x)
    else:
        sigma, mean = profiles.bmo_sigma(x, truncation * c), profiles.bmo_mean_sigma(x, truncation * c)
    # M = 4 pi rho_s r_s^3 m(c), so 2 rho_s r_s = M / [2 pi r_s^2 m(c)].
    amplitude = mass / (2 * jnp.pi * scale**2 * profiles.nfw_mass(c))
    gamma = amplitude * ((mean - sigma) / sigma_crit)
    if not reduced:
        return gamma
    kappa = amplitude * (sigma / sigma_crit)
    weak = gamma + kappa < 1
    return jnp.where(weak, gamma / jnp.where(weak, 1 - kappa, 1.0), gamma + kappa)


def ln_likelihoods(
    radius: Float[np.ndarray, "n b"],
    shear: Float[np.ndarray, "n b"],
    whitening: Float[np.ndarray, "n b b"],
    sigma_crit: Float[np.ndarray, "n b"],
    ln_radius: Float[np.ndarray, "n node"],
    ln_c: Float[np.ndarray, "n node"],
    *,
    number: int,
    concentration_scatter: float,
    scatter: float,
    truncation: float | None,
    reduced: bool,
) -> Float[np.ndarray, "n node"]:
    """Compute the ln likelihood of profiles at `LN_MASS_NODES`.

    Parameters
    ----------
    radius, shear, sigma_crit : Float[np.ndarray, "n b"]
        Projected radius [Mpc, proper], tangential shear and critical surface density [Msun / Mpc^2] of each bin.
    whitening : Float[np.ndarray, "n b b"]
        Makes errors independent and of unit size; lower triangles, with 0 for bins without a shear.
    ln_radius, ln_c : Float[np.ndarray, "n node"]
        ln of the halo's radius [Mpc] and mean ln c at each mass.
    number : int
        Nodes of the concentration, as `number_of_concentrations` gives it.
    concentration_scatter : float
        Standard deviation of ln c.
    scatter : float
        Standard deviation of the lensing mass in ln M; 0 for none.
    truncation : float or None
        Truncation radius of BMO1 over the halo's radius; None for NFW.
    reduced : bool
        Whether the shears are gamma / (1 - kappa), or gamma alone.

    Returns
    -------
    Float[np.ndarray, "n node"]
        ln likelihood, without the part that is common to all masses.
    """
    first, ln_scale = _lattice(ln_radius - ln_c, number, concentration_scatter)
    # Of each scale radius, the first mass that uses it; and how many do at most.
    uses = np.arange(ln_scale.shape[1]) - number + 1
    lowest = np.stack([np.searchsorted(one, uses) for one in first])
    count = max((np.searchsorted(one, uses + number - 1, side="right") - low).max()
                for one, low in zip(first, lowest, strict=True))  # fmt: skip
    columns = (radius, shear, whitening, sigma_crit, ln_radius, ln_c, first, ln_scale, lowest)
    width = concentration_scatter if number > 1 else 1.0
    smoothing = None if scatter == 0 else Smoothing.of(scatter, number)
    settings = {"number": number, "masses": _whole(count), "truncation": truncation, "reduced": reduced}
    with jax.enable_x64(True):
        return np.asarray(_compiled(columns, width, smoothing, **settings))


def _lattice(ln_scale: np.ndarray, number: int, scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the concentration at each mass that share their scale radii, so that few profiles serve all masses.

    Of ln of the scale radii at the mean concentrations (n, node): the first node of each mass in the lattice, and the
    lattice (n, ...), ln of scale radii. The integral by the trapezoidal rule does not depend on where its nodes begin.
    """
    if number == 1:
        return np.broadcast_to(np.arange(ln_scale.shape[1]), ln_scale.shape), ln_scale
    step = 2 * _REACH * scatter / (number - 1)
    lowest = ln_scale.min(axis=1, keepdims=True) - _REACH * scatter
    first = np.ceil((ln_scale - _REACH * scatter - lowest) / step - 1e-9).astype(int)
    return first, lowest + step * np.arange(_whole(first.max() + number))


def _whole(size) -> int:
    """A size, rounded up to few different ones."""
    return 16 * -(-int(size) // 16) if size > 1 else 1


@partial(jax.jit, static_argnames=("number", "masses", "truncation", "reduced"))
def _compiled(columns, concentration_scatter, smoothing, *, number, masses, truncation, reduced):
    def one(profile):
        radius, shear, whitening, sigma_crit, ln_radius, ln_c, first, ln_scale, lowest = profile
        # (scale radius, mass): of each scale radius the masses that use it. Bins come first.
        place = jnp.minimum(lowest[:, None] + jnp.arange(masses), LN_MASS_NODES.size - 1)
        ln_c_here = ln_radius[place] - ln_scale[:, None]
        scale, c = jnp.exp(ln_scale)[:, None], jnp.exp(ln_c_here)
        mass, bins = jnp.exp(LN_MASS_NODES)[place], (shear.size, 1, 1)
        model = tangential_shear(radius.reshape(bins), sigma_crit.reshape(bins), mass, c, scale, truncation, reduced)
        away = whitening @ (shear.reshape(bins) - model).reshape(shear.size, -1)
        ln_prior = -0.5 * ((ln_c_here - ln_c[place]) / concentration_scatter) ** 2
        ln_both = jnp.stack([ln_prior.ravel(), ln_prior.ravel() - 0.5 * (away**2).sum(axis=0)])
        # (mass, concentration)
        used = first[:, None] + jnp.arange(number)
        ln_both = ln_both[:, used * masses + jnp.arange(first.size)[:, None] - lowest[used]]
        ln_norm, values = jax.nn.logsumexp(ln_both, axis=-1)
        values = values - ln_norm
        if smoothing is None:
            return values
        return jax.nn.logsumexp((smoothing.refine @ values)[smoothing.near] + smoothing.ln_weight, axis=-1)

    return jax.lax.map(one, columns)
