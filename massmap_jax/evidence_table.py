"""G(x, z, w) on a lattice: the ln evidence of an object depends on the prior and three numbers only.

    G = ln of the integral of p(ln M|z) N(ln M; x, w^2) d ln M

Built once per prior, the table serves every relation draw, every sigma and every evolution law. What is tabulated is
what is left of G after the factor that a table of masses with an end has,

    R = G - ln Phi((x + b w^2 - m0) / w),

b the slope of ln p at the lowest mass m0 (and the like at the highest, where objects come near it): exact where ln p
is linear, and smooth, so that local polynomials of degree 5 in x and in ln w leave errors near 1e-6.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Int

from massmap_jax.prior import MassPrior

# Steps of the lattice: in x in units of the smallest w, and in ln w.
X_STEP, LN_W_STEP = 0.25, 0.1
_TAPS = 6
# The massive end is felt by objects nearer to it than this, in units of w.
_REACH = 10.0
# Lagrange polynomials of 6 equal steps about their middle, coefficients by power (row) and tap (column).
_LAGRANGE = np.linalg.inv(np.vander(np.arange(_TAPS) - (_TAPS - 1) / 2, increasing=True))
_LAGRANGE_SLOPE = np.arange(1, _TAPS)[:, None] * _LAGRANGE[1:]


class EvidenceTable(eqx.Module):
    """Tabulated G of a prior at chosen redshifts; float64: build and call it under `jax.enable_x64(True)`.

    Attributes
    ----------
    slopes : (2, row) of ln p at the low and the high end of the masses. ends : (2,) ln M of the ends.
    ln_width, centre : (w,), (x,) the lattice, equal steps.
    residual : (w, row, x) R.
    high_end : whether the massive end has its factor.
    """

    slopes: Float[Array, "2 row"]
    ends: Float[Array, "2"]
    ln_width: Float[Array, "w"]
    centre: Float[Array, "x"]
    residual: Float[Array, "w row x"]
    high_end: bool = eqx.field(static=True)

    @classmethod
    def build(cls, prior: MassPrior, redshift, width, centre) -> "EvidenceTable":
        """Table at redshifts (row,) for widths (low, high) and centres (low, high) in ln Msun."""
        # Two more lattice steps than asked for at each end keep the six taps central.
        ln_low, ln_high = np.log(width)
        ln_width = LN_W_STEP * np.arange(np.floor(ln_low / LN_W_STEP) - 2, np.ceil(ln_high / LN_W_STEP) + 3)
        step = X_STEP * np.exp(ln_width[0])
        nodes = np.asarray(prior.ln_mass_nodes)
        x = step * np.arange(np.floor(centre[0] / step) - 2, np.ceil(centre[1] / step) + 3)
        high_end = bool(centre[1] > nodes[-1] - _REACH * width[1])
        residual, slopes = _tabulate(prior, np.asarray(redshift), x, np.exp(ln_width), high_end)
        return cls(slopes, nodes[[0, -1]], ln_width, x, residual, high_end)

    def __call__(
        self,
        row: Int[Array, "point"],
        group: Int[Array, "point"],
        centre: Float[Array, "point"],
        widths: Float[Array, "group"],
    ) -> Float[Array, "point"]:
        """G of points: each has a row, a centre and one of a few widths; NaN where one of them leaves the lattice."""
        low_slope, high_slope = jnp.asarray(self.slopes)[:, row]
        factors = _end_factors(centre, widths[group], low_slope, high_slope, self.ends, self.high_end)
        return _interpolate(centre, jnp.log(widths), self, row, group) + factors


def _interpolate(centre, ln_widths, table, row, group):
    """R with a derivative rule: partial derivatives by lookup, as the transpose of a lookup is a slow scatter."""

    @jax.custom_jvp
    def value(centre, ln_widths):
        return _lookup(table, row, group, centre, ln_widths, 0, 0)

    @value.defjvp
    def derivative(primals, tangents):
        by_centre = _lookup(table, row, group, *primals, 1, 0)
        by_ln_width = _lookup(table, row, group, *primals, 0, 1)
        return value(*primals), by_centre * tangents[0] + by_ln_width * tangents[1][group]

    return value(centre, ln_widths)


def _lookup(table, row, group, centre, ln_widths, centre_order, width_order):
    """R, or its first derivative by centre or by ln width: widths are contracted first, then six taps in centre."""
    first, weights, outside = _taps(ln_widths, table.ln_width, width_order)
    blocks = jax.vmap(lambda i: jax.lax.dynamic_slice_in_dim(jnp.asarray(table.residual), i, _TAPS))(first)
    contracted = jnp.einsum("gw,gwrx->grx", weights, blocks)
    entry, x_weights, off_lattice = _taps(centre, table.centre, centre_order)
    _, rows, number = contracted.shape
    start = (group * rows + row) * number + entry
    taps = contracted.ravel().at[start[:, None] + np.arange(_TAPS)].get(mode="promise_in_bounds")
    return jnp.where(outside[group] | off_lattice, jnp.nan, (x_weights * taps).sum(axis=1))


def _taps(value, nodes, order):
    """First of the six lattice nodes about each value, their weights (or the weights' slopes), whether it is outside."""
    size, step = nodes.shape[0], nodes[1] - nodes[0]
    place = (value - nodes[0]) / step
    outside = ~((place >= 1) & (place <= size - 2))
    first = jnp.floor(jax.lax.stop_gradient(jnp.where(outside, 0.0, place))).astype(int)
    first = jnp.clip(first - (_TAPS // 2 - 1), 0, size - _TAPS)
    t = place - first - (_TAPS - 1) / 2
    coefficients = _LAGRANGE if order == 0 else _LAGRANGE_SLOPE / step
    weights = jnp.zeros((*t.shape, _TAPS)) + coefficients[-1]
    for row in coefficients[-2::-1]:
        weights = weights * t[..., None] + row
    return first, weights, outside


def _end_factors(centre, width, low_slope, high_slope, ends, high_end):
    factors = log_ndtr((centre + low_slope * width**2 - ends[0]) / width)
    return factors + log_ndtr((ends[1] - centre - high_slope * width**2) / width) if high_end else factors


@partial(jax.jit, static_argnames="high_end")
def _tabulate(prior, redshift, x, widths, high_end):
    nodes = jnp.asarray(prior.ln_mass_nodes)

    def at_redshift(z):
        row = prior.ln_density_at(z)
        low = (row[1] - row[0]) / (nodes[1] - nodes[0])
        high = (row[-1] - row[-2]) / (nodes[-1] - nodes[-2])

        def entry(centre, width):
            factors = _end_factors(centre, width, low, high, nodes[jnp.array([0, -1])], high_end)
            return prior.log_evidence_of_row(row, centre, z, width) - factors

        over_x = jax.vmap(entry, (0, None))
        return jax.vmap(over_x, (None, 0))(x, widths), jnp.stack([low, high])

    residual, slopes = jax.lax.map(at_redshift, redshift)
    return residual.swapaxes(0, 1), slopes.T
