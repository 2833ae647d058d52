"""G(x, z, w) on a lattice: the ln evidence of an object depends on the prior and three numbers only.

    G = ln of the integral of p(ln M|z) N(ln M; x, w^2) d ln M

Built once per prior, the table serves every relation draw, every sigma and every evolution law. G is smooth on the
scale w of the Gaussian, also at the ends of the masses. So local polynomials in x (in steps that are proportional to
the smallest w) and in ln w give it to 1e-5 or better, which is also the accuracy of the integration itself.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.prior.mass_prior import MassPrior

# Steps of the lattice, and nodes of the local polynomials: in x in units of the smallest w, and in ln w.
X_STEP, X_TAPS = 0.125, 4
LN_W_STEP, LN_W_TAPS = 0.1, 6
# Reading a number of a contiguous block is this many times cheaper than looking one up.
_CONTIGUOUS = 8


class EvidenceTable(eqx.Module):
    """Tabulated G of a prior at chosen redshifts, in float64: build and call it under `jax.enable_x64(True)`.

    Attributes
    ----------
    ln_width : Float[Array, "w"]
        ln of the widths of the lattice, in equal steps.
    centre : Float[Array, "x"]
        Centres of the lattice [ln Msun], in equal steps.
    values : Float[Array, "w row x"]
        G at the nodes of the lattice; a row is a redshift.
    """

    ln_width: Float[Array, " w"]
    centre: Float[Array, " x"]
    values: Float[Array, "w row x"]

    @classmethod
    def build(cls, prior: MassPrior, redshift, width, centre) -> "EvidenceTable":
        """Tabulate G of a prior.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        redshift : array_like, (row,)
            Redshifts of the table.
        width : tuple of (float, float)
            Least and greatest width of the Gaussian [ln M].
        centre : tuple of (float, float)
            Least and greatest centre of the Gaussian [ln Msun].

        Returns
        -------
        EvidenceTable
            The table; its lattice holds these ranges.
        """
        ln_width = _lattice(*np.log(width), LN_W_STEP, LN_W_TAPS)
        x = _lattice(*centre, X_STEP * np.exp(ln_width[0]), X_TAPS)
        return cls(ln_width, x, _tabulate(prior, np.asarray(redshift), x, np.exp(ln_width)))

    def __call__(
        self,
        row: Int[Array, "point"],
        group: Int[Array, "point"],
        centre: Float[Array, "point"],
        widths: Float[Array, " group"],
    ) -> Float[Array, "point"]:
        """Evaluate G of points.

        Parameters
        ----------
        row : Int[Array, "point"]
            Which redshift of the table a point has.
        group : Int[Array, "point"]
            Which of the widths a point has.
        centre : Float[Array, "point"]
            Centre of its Gaussian [ln Msun].
        widths : Float[Array, "group"]
            The distinct widths [ln M].

        Returns
        -------
        Float[Array, "point"]
            G; NaN where the centre or the width of a point is outside the lattice.
        """

        @jax.custom_jvp
        def value(centre, ln_widths):
            return _lookup(self, row, group, centre, ln_widths, 0, 0)

        # Partial derivatives by lookup: JAX would transpose the lookup of the values, which is a slow scatter.
        @value.defjvp
        def derivative(primals, tangents):
            by_centre = _lookup(self, row, group, *primals, 1, 0)
            by_ln_width = _lookup(self, row, group, *primals, 0, 1)
            return value(*primals), by_centre * tangents[0] + by_ln_width * tangents[1][group]

        return value(centre, jnp.log(widths))


def _lattice(low, high, step, taps):
    """Multiples of a step that hold [low, high] so that every interpolation stencil is central."""
    return step * np.arange(np.floor(low / step) - (taps // 2 - 1), np.ceil(high / step) + taps // 2)


def _lookup(table, row, group, centre, ln_widths, centre_order, width_order):
    """G, or its first derivative by centre or by ln width."""
    values = jnp.asarray(table.values)
    _, rows, number = values.shape
    first, weights, outside = _stencil(ln_widths, table.ln_width, LN_W_TAPS, width_order)
    entry, x_weights, off_lattice = _stencil(centre, table.centre, X_TAPS, centre_order)
    taps = np.arange(X_TAPS)[:, None]
    if _CONTIGUOUS * group.size * X_TAPS > ln_widths.size * rows * number:
        # Few widths: the table at each of them, then a lookup in x.
        blocks = jax.vmap(lambda i: jax.lax.dynamic_slice_in_dim(values, i, LN_W_TAPS))(first)
        at_width = jnp.einsum("wg,gwrx->grx", weights, blocks)
        found = at_width.ravel().at[(group * rows + row) * number + entry + taps].get(mode="promise_in_bounds")
    else:
        place = ((first[group] + np.arange(LN_W_TAPS)[:, None]) * rows + row) * number + entry
        found = values.ravel().at[place[:, None] + taps].get(mode="promise_in_bounds")
        found = jnp.einsum("wp,wxp->xp", weights[:, group], found)
    return jnp.where(outside[group] | off_lattice, jnp.nan, (x_weights * found).sum(axis=0))


def _stencil(value, nodes, taps, order):
    """First lattice node of each value's stencil, Lagrange weights (taps, value) or their slopes, whether outside."""
    size, step = nodes.shape[0], nodes[1] - nodes[0]
    place = (value - nodes[0]) / step
    before = taps // 2 - 1
    outside = ~((place >= before) & (place <= size - 1 - before))
    first = jnp.floor(jax.lax.stop_gradient(jnp.where(outside, 0.0, place))).astype(int)
    first = jnp.clip(first - before, 0, size - taps)
    # Lagrange polynomials of equal steps about their middle, coefficients by power (row) and tap (column).
    coefficients = np.linalg.inv(np.vander(np.arange(taps) - (taps - 1) / 2, increasing=True))
    if order == 1:
        coefficients = np.arange(1, taps)[:, None] * coefficients[1:]
    t = place - first - (taps - 1) / 2
    weights = jnp.broadcast_to(coefficients[-1][:, None], (taps, t.shape[0]))
    for powers in coefficients[-2::-1]:
        weights = weights * t + powers[:, None]
    return first, weights if order == 0 else weights / step, outside


@jax.jit
def _tabulate(prior, redshift, x, widths):
    """G at each width, redshift and centre: (w, row, x)."""

    def at_redshift(z):
        row = prior.ln_density_at(z)
        over_x = jax.vmap(lambda x, w: prior.log_evidence_of_row(row, x, z, w), (0, None))
        return jax.vmap(over_x, (None, 0))(x, widths)

    return jax.lax.map(at_redshift, redshift).swapaxes(0, 1)
