"""Quadrature of a one-dimensional posterior in ln M on panels that follow it.

A posterior in ln M is prior x likelihood. `posterior_range` finds the interval that holds it, and the interval is
cut into equal panels of 8 Gauss-Legendre nodes. Through those nodes goes one polynomial of degree 7 a panel: its
integral is the evidence, its running integral the CDF, and the CDF's inverse the quantile function, so that every
summary and every draw comes from one object. No table has to be built, and a coarse or sharp-edged prior is met by
the same code (errors: tests/test_posterior.py and benchmarks/).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NODES = 8
# exp(-30) of the peak density: 7.7 standard deviations of a Gaussian, 30 e-folds of an exponential at a sharp edge.
DEPTH = 30.0
# Panels for the range of one Gaussian: 1.9 standard deviations a panel, where 8 nodes leave errors below 1e-6.
BASE_PANELS = 8

_x, _w = np.polynomial.legendre.leggauss(NODES)
# f(x_i) -> coefficients of the interpolant, in powers of t on [-1, 1], lowest first. A panel spans two standard
# deviations at most, so these are close to Taylor coefficients: small, and safe in float32.
_TO_POWERS = np.linalg.inv(np.vander(_x, NODES, increasing=True)).T
_NEWTON_STEPS = 8


class Blocks(NamedTuple):
    """Bounds of ln p over blocks of neighbouring cells, and the blocks' ends in ln M; last axis (block,)."""

    lowest: Float[Array, "... block"]
    highest: Float[Array, "... block"]
    left: Float[Array, "block"]
    right: Float[Array, "block"]

    @classmethod
    def of(cls, ln_density: Float[Array, "... mass"], nodes: Float[Array, "mass"], number: int = 32) -> "Blocks":
        """Blocks of a table of ln densities, linear between its nodes."""
        cells = nodes.shape[0] - 1
        size = -(-cells // number)
        # Padding repeats the last node: cells of no width.
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
    """Interval of ln M outside which every prior x Gaussian(centre, width) is below exp(-DEPTH) of its peak.

    Parameters
    ----------
    blocks : bounds of the ln prior density per ln M (any normalisation).
    centre, width : (corner,)
        Gaussians in ln M. For many relation draws the corners (extreme centres x extreme widths) are enough: at a
        fixed width the posterior rises monotonically with the centre.

    Returns
    -------
    low, high : ends of the union of the corners' intervals, inside the nodes.
    narrowest : the shortest of those intervals.
    """
    lowest, highest, left, right = blocks
    centre, width = centre[:, None], width[:, None]
    distance = jnp.maximum(0.0, jnp.maximum(left - centre, centre - right))
    fall = 0.5 * (distance / width) ** 2
    peak = (lowest - fall).max(axis=1, keepdims=True)  # a lower bound of the peak ln density
    keep = highest - fall >= peak - DEPTH
    low = jnp.where(keep, left, jnp.inf).min(axis=1)
    high = jnp.where(keep, right, -jnp.inf).max(axis=1)
    # A block may be much wider than the Gaussian: cut it down by the Gaussian alone.
    reach = width[:, 0] * jnp.sqrt(2 * (DEPTH + jnp.where(keep, highest, -jnp.inf).max(axis=1) - peak[:, 0]))
    low, high = jnp.maximum(low, centre[:, 0] - reach), jnp.minimum(high, centre[:, 0] + reach)
    # Rounding can cross the ends of a range narrower than the precision of ln M.
    low, high = jnp.minimum(low, high), jnp.maximum(low, high)
    return low.min(), high.max(), (high - low).min()


def panel_nodes(low, high, panels: int) -> Float[Array, "node"]:
    """ln M of the `panels * NODES` quadrature nodes of [low, high]."""
    place = (np.arange(panels)[:, None] + 0.5 * (_x + 1)).ravel() / panels
    return low + (high - low) * jnp.asarray(place, dtype=jnp.result_type(low))


def panel_weights(low, high, panels: int) -> Float[Array, "node"]:
    """Quadrature weights of `panel_nodes`: sum(weights * f) is the integral of f over [low, high]."""
    return (high - low) * jnp.asarray(np.tile(0.5 * _w, panels) / panels, dtype=jnp.result_type(low))


def _integral_coefficients(coefficients):
    """Powers of t, lowest first, of the integral from -1 of sum_i c_i t^i; c has the power axis last."""
    rising = coefficients / jnp.arange(1, NODES + 1, dtype=coefficients.dtype)
    # By the recurrence that will evaluate it, so that the integral at -1 is 0 to the last bit.
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
    """Densities (panel, NODES), and the mass of each panel in units of half its width."""
    density = density.reshape(panels, NODES)
    return density, density @ jnp.asarray(_w, dtype=density.dtype)


def end_densities(density: Float[Array, "node"]):
    """Densities at the low and the high end of the interval, which are no nodes."""
    to_powers = jnp.asarray(_TO_POWERS, dtype=density.dtype)
    first, last = density[:NODES] @ to_powers, density[-NODES:] @ to_powers
    signs = jnp.asarray((-1.0) ** np.arange(NODES), dtype=density.dtype)
    return (first * signs).sum(), last.sum()


def panel_cdf(density: Float[Array, "node"], low, high, panels: int, ln_mass) -> Float[Array, "..."]:
    """P(ln M <= ln_mass) of the density (any normalisation) given at the panel nodes."""
    density, mass = _by_panel(density, panels)
    below = jnp.cumsum(mass) - mass
    place = jnp.clip((ln_mass - low) / (high - low), 0.0, 1.0) * panels
    panel = jnp.clip(jnp.floor(place), 0, panels - 1).astype(int)
    coefficients = density[panel] @ jnp.asarray(_TO_POWERS, dtype=density.dtype)
    inside, _ = _value_and_slope(2 * (place - panel) - 1, _integral_coefficients(coefficients))
    return jnp.clip((below[panel] + inside) / mass.sum(), 0.0, 1.0)


def panel_quantile(density: Float[Array, "node"], low, high, panels: int, lower, upper) -> Float[Array, "..."]:
    """ln M at which the lower tail holds `lower` and the upper tail `upper` (= 1 - lower) of the mass.

    Both tails are asked for because 1 - lower rounds the upper one away in float32: each level is found from its
    nearer end of the interval.
    """
    density, mass = _by_panel(density, panels)
    below, above = jnp.cumsum(mass) - mass, jnp.cumsum(mass[::-1])[::-1] - mass
    total = mass.sum()
    from_below = lower <= upper
    # The panel of a level: the number of inner edges that lie at or below it.
    at_or_below = jnp.where(
        from_below[..., None], (below + mass)[:-1] <= lower[..., None] * total, above[:-1] >= upper[..., None] * total
    )
    panel = at_or_below.sum(axis=-1)
    target = jnp.where(from_below, lower * total - below[panel], mass[panel] - (upper * total - above[panel]))
    exact, target = target, jnp.clip(target, 0.0, mass[panel])
    coefficients = _integral_coefficients(density[panel] @ jnp.asarray(_TO_POWERS, dtype=density.dtype))

    def newton(_, state):
        # Inside a shrinking bracket: the running integral rises with t, and its slope is the density.
        t, left, right = state
        integral, value = _value_and_slope(t, coefficients)
        short = integral < target
        left, right = jnp.where(short, t, left), jnp.where(short, right, t)
        step = t - (integral - target) / jnp.where(value > 0, value, 1.0)
        good = (value > 0) & (step >= left) & (step <= right)
        return jnp.where(good, step, 0.5 * (left + right)), left, right

    t = 2 * target / jnp.where(mass[panel] > 0, mass[panel], 1.0) - 1
    t, _, _ = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, (t, -jnp.ones_like(t), jnp.ones_like(t)))
    # One more Newton step from the root as a constant: its derivative is that of the root, brackets and all aside.
    t = jax.lax.stop_gradient(t)
    integral, value = _value_and_slope(t, coefficients)
    t = t - jnp.where(value > 0, (integral - exact) / jnp.where(value > 0, value, 1.0), 0.0)
    return low + (high - low) * (panel + 0.5 * (t + 1)) / panels
