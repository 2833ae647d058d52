"""Quadrature of a one-dimensional posterior in ln M on panels that follow it.

A posterior in ln M is prior x likelihood. `posterior_range` finds the interval that holds it, and the interval is cut
into equal panels of 8 Gauss-Legendre nodes. In each panel one polynomial of degree 7 goes through the nodes: its
integral is the evidence, its running integral the CDF, and the inverse of the CDF the quantile function, so every
summary and every draw comes from one object. No table has to be built, and the same code serves coarse and
sharp-edged priors (errors: tests/posterior/test_posterior.py and benchmarks/).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NODES = 8
# exp(-30) of the peak density: 7.7 standard deviations of a Gaussian, 30 e-folds of an exponential at a sharp edge.
DEPTH = 30.0
# Panels for the range of one Gaussian: 1.9 standard deviations per panel, where 8 nodes have errors below 1e-6.
BASE_PANELS = 8

_x, _w = np.polynomial.legendre.leggauss(NODES)
# Matrix from f(x_i) to the coefficients of the interpolant, in powers of t on [-1, 1], lowest first. A panel spans two
# standard deviations at most, so these are close to Taylor coefficients: small, and safe in float32.
_TO_POWERS = np.linalg.inv(np.vander(_x, NODES, increasing=True)).T
_NEWTON_STEPS = 8


class Blocks(NamedTuple):
    """Bounds of ln p over blocks of neighbouring mass cells.

    Attributes
    ----------
    lowest : Float[Array, "... block"]
        Lower bound of ln p in each block.
    highest : Float[Array, "... block"]
        Upper bound of ln p in each block.
    left : Float[Array, "block"]
        Lower end of each block [ln Msun].
    right : Float[Array, "block"]
        Upper end of each block [ln Msun].
    """

    lowest: Float[Array, "... block"]
    highest: Float[Array, "... block"]
    left: Float[Array, "block"]
    right: Float[Array, "block"]

    @classmethod
    def of(cls, ln_density: Float[Array, "... mass"], nodes: Float[Array, "mass"], number: int = 32) -> "Blocks":
        """Bound a table of ln densities that is linear between its nodes.

        Parameters
        ----------
        ln_density : Float[Array, "... mass"]
            ln p at the nodes.
        nodes : Float[Array, "mass"]
            Nodes in ln M [ln Msun].
        number : int, optional
            Number of blocks, at most.

        Returns
        -------
        Blocks
            The bounds.
        """
        cells = nodes.shape[0] - 1
        size = -(-cells // number)
        # Padding repeats the last node, which makes cells of zero width.
        short = -cells % size
        nodes = jnp.concatenate([nodes, jnp.repeat(nodes[-1:], short)])
        ln_density = jnp.concatenate([ln_density, jnp.repeat(ln_density[..., -1:], short, axis=-1)], axis=-1)
        body = ln_density[..., :-1].reshape(*ln_density.shape[:-1], -1, size)
        last = ln_density[..., size::size]
        lowest, highest = jnp.minimum(body.min(axis=-1), last), jnp.maximum(body.max(axis=-1), last)
        return cls(lowest, highest, nodes[:-1:size], nodes[size::size])


def posterior_range(
    blocks: Blocks, centre: Float[Array, "corner"], width: Float[Array, "corner"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Find the interval of ln M outside which prior x Gaussian is negligible.

    Parameters
    ----------
    blocks : Blocks
        Bounds of the ln prior density per ln M, in any normalisation.
    centre : Float[Array, "corner"]
        Means of the Gaussians [ln Msun].
    width : Float[Array, "corner"]
        Standard deviations of the Gaussians [ln Msun].

    Returns
    -------
    low : Float[Array, ""]
        Lower end of the union of the Gaussians' intervals [ln Msun], inside the nodes.
    high : Float[Array, ""]
        Upper end of that union [ln Msun], inside the nodes.
    narrowest : Float[Array, ""]
        Length of the shortest of the intervals [ln Msun].

    Notes
    -----
    Outside the interval every prior x Gaussian is below exp(-`DEPTH`) of its peak. For many relation draws the corners
    (extreme centres x extreme widths) are enough: at a fixed width the posterior rises monotonically with the centre.
    """
    lowest, highest, left, right = blocks
    centre, width = centre[:, None], width[:, None]
    distance = jnp.maximum(0.0, jnp.maximum(left - centre, centre - right))
    fall = 0.5 * (distance / width) ** 2
    peak = (lowest - fall).max(axis=1, keepdims=True)  # a lower bound of the peak ln density
    keep = highest - fall >= peak - DEPTH
    low = jnp.where(keep, left, jnp.inf).min(axis=1)
    high = jnp.where(keep, right, -jnp.inf).max(axis=1)
    # A block may be much wider than the Gaussian: limit it by the reach of the Gaussian alone.
    reach = width[:, 0] * jnp.sqrt(2 * (DEPTH + jnp.where(keep, highest, -jnp.inf).max(axis=1) - peak[:, 0]))
    low, high = jnp.maximum(low, centre[:, 0] - reach), jnp.minimum(high, centre[:, 0] + reach)
    # Rounding can swap the ends of a range that is narrower than the precision of ln M.
    low, high = jnp.minimum(low, high), jnp.maximum(low, high)
    return low.min(), high.max(), (high - low).min()


def corners(groups) -> list[list[Float[Array, "corner"]]]:
    """Combine the least and the greatest values of some quantities over draws.

    Parameters
    ----------
    groups : list of list of Float[Array, "draw"]
        Quantities; those of one group are at their least values, or their greatest ones, together.

    Returns
    -------
    list of list of Float[Array, "corner"]
        In the same form, their values at each of the 2^n combinations of n groups.
    """
    at_most = (np.arange(2 ** len(groups))[:, None] >> np.arange(len(groups))) & 1 == 1
    return [
        [jnp.where(at_most[:, i], quantity.max(), quantity.min()) for quantity in group]
        for i, group in enumerate(groups)
    ]


def panel_nodes(low, high, panels: int) -> Float[Array, "node"]:
    """Return the quadrature nodes of an interval of ln M.

    Parameters
    ----------
    low : Float[Array, ""]
        Lower end of the interval [ln Msun].
    high : Float[Array, ""]
        Upper end of the interval [ln Msun].
    panels : int
        Number of panels.

    Returns
    -------
    Float[Array, "node"]
        The panels * `NODES` nodes [ln Msun].
    """
    place = (np.arange(panels)[:, None] + 0.5 * (_x + 1)).ravel() / panels
    return low + (high - low) * jnp.asarray(place, dtype=jnp.result_type(low))


def cubic_weights(t) -> tuple[Float[Array | np.ndarray, "..."], ...]:
    """Return the weights of values at 0, 1, 2 and 3 in the cubic polynomial through them, at t.

    Parameters
    ----------
    t : Float[Array, "..."]
        Where, in steps of the nodes.

    Returns
    -------
    tuple of four Float[Array, "..."]
        Lagrange polynomials, in NumPy or JAX as `t` is.
    """
    return (
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    )


def cubic_at(values: Float[Array, "node"], place) -> Float[Array, "..."]:
    """Interpolate values at equally spaced nodes by the cubic through the four nearest ones.

    Parameters
    ----------
    values : Float[Array, "node"]
        The values, four or more.
    place : Float[Array, "..."]
        Where, in steps from the first node; beyond the ends the last cubic is continued.

    Returns
    -------
    Float[Array, "..."]
        Values in the shape of `place`.
    """
    first = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)).astype(int) - 1, 0, values.shape[0] - 4)
    weights = jnp.stack(cubic_weights(place - first))
    return (weights * jnp.stack([values[first + i] for i in range(4)])).sum(axis=0)


def panel_weights(low, high, panels: int) -> Float[Array, "node"]:
    """Return the quadrature weights of `panel_nodes`.

    Parameters
    ----------
    low : Float[Array, ""]
        Lower end of the interval [ln Msun].
    high : Float[Array, ""]
        Upper end of the interval [ln Msun].
    panels : int
        Number of panels.

    Returns
    -------
    Float[Array, "node"]
        Weights such that sum(weights * f) is the integral of f over the interval [ln Msun].
    """
    return (high - low) * jnp.asarray(np.tile(0.5 * _w, panels) / panels, dtype=jnp.result_type(low))


def _integral_coefficients(coefficients):
    """Powers of t, lowest first, of the integral from -1 of sum_i c_i t^i; c has the power axis last."""
    rising = coefficients / jnp.arange(1, NODES + 1, dtype=coefficients.dtype)
    # Use the recurrence that will evaluate the polynomial, so that the integral at -1 is 0 to the last bit.
    start, _ = _value_and_slope(-jnp.ones_like(rising[..., 0]), rising)
    return jnp.concatenate([start[..., None], rising], axis=-1)


def _value_and_slope(t, coefficients):
    """A polynomial (powers lowest first, last axis) and its derivative at t, by one Horner recurrence."""
    value = coefficients[..., -1]
    slope = jnp.zeros_like(value)
    for i in range(coefficients.shape[-1] - 2, -1, -1):
        slope = slope * t + value
        value = value * t + coefficients[..., i]
    return value, slope


def _by_panel(density: Float[Array, "node"], panels: int):
    """Densities (panel, NODES), and the integral over each panel in units of half its width."""
    density = density.reshape(panels, NODES)
    return density, density @ jnp.asarray(_w, dtype=density.dtype)


def end_densities(density: Float[Array, "node"]):
    """Extrapolate the density to the two ends of the interval, which are not nodes.

    Parameters
    ----------
    density : Float[Array, "node"]
        Density at the `panel_nodes`, in any normalisation.

    Returns
    -------
    low : Float[Array, ""]
        Density at the lower end.
    high : Float[Array, ""]
        Density at the upper end.
    """
    to_powers = jnp.asarray(_TO_POWERS, dtype=density.dtype)
    first, last = density[:NODES] @ to_powers, density[-NODES:] @ to_powers
    signs = jnp.asarray((-1.0) ** np.arange(NODES), dtype=density.dtype)
    return (first * signs).sum(), last.sum()


def panel_cdf(density: Float[Array, "node"], low, high, panels: int, ln_mass) -> Float[Array, "..."]:
    """Compute P(ln M <= ln_mass) of a density given at the panel nodes.

    Parameters
    ----------
    density : Float[Array, "node"]
        Density at the `panel_nodes`, in any normalisation.
    low : Float[Array, ""]
        Lower end of the interval [ln Msun].
    high : Float[Array, ""]
        Upper end of the interval [ln Msun].
    panels : int
        Number of panels.
    ln_mass : Float[Array, "..."]
        Where to evaluate the CDF [ln Msun].

    Returns
    -------
    Float[Array, "..."]
        The CDF in the shape of `ln_mass`.
    """
    density, mass = _by_panel(density, panels)
    below = jnp.cumsum(mass) - mass
    place = jnp.clip((ln_mass - low) / (high - low), 0.0, 1.0) * panels
    panel = jnp.clip(jnp.floor(place), 0, panels - 1).astype(int)
    coefficients = density[panel] @ jnp.asarray(_TO_POWERS, dtype=density.dtype)
    inside, _ = _value_and_slope(2 * (place - panel) - 1, _integral_coefficients(coefficients))
    return jnp.clip((below[panel] + inside) / mass.sum(), 0.0, 1.0)


def panel_quantile(density: Float[Array, "node"], low, high, panels: int, lower, upper) -> Float[Array, "..."]:
    """Compute quantiles of ln M of a density given at the panel nodes.

    Parameters
    ----------
    density : Float[Array, "node"]
        Density at the `panel_nodes`, in any normalisation.
    low : Float[Array, ""]
        Lower end of the interval [ln Msun].
    high : Float[Array, ""]
        Upper end of the interval [ln Msun].
    panels : int
        Number of panels.
    lower : Float[Array, "..."]
        Probability below the quantile.
    upper : Float[Array, "..."]
        Probability above it, 1 - lower.

    Returns
    -------
    Float[Array, "..."]
        ln M [ln Msun], in the shape of `lower`.

    Notes
    -----
    Both tails are arguments because in float32 1 - lower would round a small upper tail away. Each quantile is found
    from its nearer end of the interval, by Newton steps inside a shrinking bracket.
    """
    density, mass = _by_panel(density, panels)
    below, above = jnp.cumsum(mass) - mass, jnp.cumsum(mass[::-1])[::-1] - mass
    total = mass.sum()
    from_below = lower <= upper
    # The panel that holds a level is the number of inner edges at or below that level.
    at_or_below = jnp.where(
        from_below[..., None], (below + mass)[:-1] <= lower[..., None] * total, above[:-1] >= upper[..., None] * total
    )
    panel = at_or_below.sum(axis=-1)
    target = jnp.where(from_below, lower * total - below[panel], mass[panel] - (upper * total - above[panel]))
    exact, target = target, jnp.clip(target, 0.0, mass[panel])
    coefficients = _integral_coefficients(density[panel] @ jnp.asarray(_TO_POWERS, dtype=density.dtype))

    def newton(_, state):
        # The running integral rises with t, and its slope is the density.
        """One Newton step on the running integral, or a bisection where it would leave the bracket."""
        t, left, right = state
        integral, value = _value_and_slope(t, coefficients)
        short = integral < target
        left, right = jnp.where(short, t, left), jnp.where(short, right, t)
        step = t - (integral - target) / jnp.where(value > 0, value, 1.0)
        good = (value > 0) & (step >= left) & (step <= right)
        return jnp.where(good, step, 0.5 * (left + right)), left, right

    t = 2 * target / jnp.where(mass[panel] > 0, mass[panel], 1.0) - 1
    t, _, _ = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, (t, -jnp.ones_like(t), jnp.ones_like(t)))
    # One more Newton step from the root, held constant: its derivative is that of the root, without the brackets.
    t = jax.lax.stop_gradient(t)
    integral, value = _value_and_slope(t, coefficients)
    t = t - jnp.where(value > 0, (integral - exact) / jnp.where(value > 0, value, 1.0), 0.0)
    return low + (high - low) * (panel + 0.5 * (t + 1)) / panels
