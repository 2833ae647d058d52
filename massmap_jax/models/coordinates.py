"""Coordinates e of ln M in which the posterior of one object, given the relation, is close to N(0, 1).

Around an object's mass ln p(ln M | z) is close to a parabola, so the posterior is close to a Gaussian cut off at the
ends of the mass table, and the map from e to ln M is that Gaussian's quantile function at Phi(e). The densities that
the models sample are the exact ones times |d ln M / de|: a poor map costs effective draws and changes no answer. Any
callable (e, term) -> (ln_mass, ln |d ln M / de|), smooth and rising from R onto the table's masses, will do.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from massmap_jax.likelihood.terms import GaussianTerm
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior

# A table's end further than this from the Gaussian's centre, in its widths: see `_soften`.
_STEEPEST = 8.0


class TruncatedGaussian(eqx.Module):
    """The map of each object, from a parabola in place of its ln prior; arrays (halo,), or scalars under vmap.

    Attributes
    ----------
    pivot, slope, curvature : ln p(ln M | z) is about slope (ln M - pivot) + curvature (ln M - pivot)^2 / 2.
    low, high : () ends of the mass table [ln Msun].
    """

    pivot: Float[Array, "*halo"]
    slope: Float[Array, "*halo"]
    curvature: Float[Array, "*halo"]
    low: Float[Array, ""]
    high: Float[Array, ""]

    @classmethod
    def fit(cls, objects: PlacedObjects, prior: MassPrior, term: GaussianTerm) -> "TruncatedGaussian":
        """Parabolas fitted where the posteriors under `term` are; one of the `objects` (scalars), vmap over more.

        prior : the mass prior.
        """

        def at(ln_mass):
            return objects.ln_prior(prior, ln_mass)

        low, high, _ = prior.posterior_range(objects.z, term.centre[None], term.width[None])
        ln_mass = panels.panel_nodes(low, high, panels.BASE_PANELS)
        values = jax.vmap(at)(ln_mass)
        ln_post = values + term(ln_mass)
        # Weights of [0, 1]: an absurd object's range may be narrower than the precision.
        weight = jax.nn.softmax(ln_post + jnp.log(panels.panel_weights(0.0, 1.0, panels.BASE_PANELS)))
        pivot = (weight * ln_mass).sum()
        x = ln_mass - pivot
        # Orthogonal polynomials 1, x, x^2 - skew x - variance under the posterior's weights.
        variance = jnp.maximum((weight * x**2).sum(), 1e-12)
        skew = (weight * x**3).sum() / variance
        second = x**2 - skew * x - variance
        quadratic = (weight * second * values).sum() / jnp.maximum((weight * second**2).sum(), 1e-24)
        slope = (weight * x * values).sum() / variance - quadratic * skew
        nodes = jnp.asarray(prior.ln_mass_nodes, dtype=float)
        return cls(pivot, slope, 2 * quadratic, nodes[0], nodes[-1])

    def axes(self) -> "TruncatedGaussian":
        """vmap axes over objects."""
        return TruncatedGaussian(0, 0, 0, None, None)

    def __call__(self, e, term: GaussianTerm):
        """ln M, and ln |d ln M / de|, at e."""
        # A parabola that opens upwards may not win over the likelihood.
        precision = jnp.maximum(1 / term.width**2 - self.curvature, 0.25 / term.width**2)
        width = 1 / jnp.sqrt(precision)
        centre = term.centre + (self.slope + self.curvature * (term.centre - self.pivot)) / precision
        centre, width = _soften(centre, width, self.low, self.high)
        low, high = (self.low - centre) / width, (self.high - centre) / width
        u, ln_slope = truncated_quantile(e, low, high)
        # Rounding may not leave the table.
        return jnp.clip(centre + width * u, self.low, self.high), ln_slope + jnp.log(width)


def _soften(centre, width, low, high):
    """Far beyond an end, the Gaussian with the same slope there and the end _STEEPEST widths away.

    Both are close to one exponential, and the tail probabilities stay in the range of float32.
    """
    end = jnp.where(centre < low, low, high)
    beyond = jnp.maximum((low - centre) / width, (centre - high) / width)
    stretch = jnp.maximum(beyond / _STEEPEST, 1.0)
    return jnp.where(stretch > 1, end + (centre - end) / stretch**2, centre), width / stretch


def truncated_quantile(e, low, high):
    """u with Phi(u) = Phi(low) + Phi(e) [Phi(high) - Phi(low)], and ln du/de, for low < high."""
    u = _quantile(e, low, high)
    mass = jnp.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    return u, 0.5 * (u**2 - e**2) + jnp.log(mass)


@jax.custom_jvp
def _quantile(e, low, high):
    below, above = ndtr(e), ndtr(-e)
    lower = ndtr(low) * above + ndtr(high) * below
    upper = ndtr(-low) * above + ndtr(-high) * below
    # The smaller tail has the digits.
    tail = ndtri(jnp.maximum(jnp.minimum(lower, upper), jnp.finfo(jnp.result_type(e)).tiny))
    return jnp.clip(jnp.where(lower < upper, tail, -tail), low, high)


@_quantile.defjvp
def _quantile_jvp(primals, tangents):
    e, low, high = primals
    u = _quantile(e, low, high)

    def density(x):
        return jnp.exp(0.5 * (u**2 - x**2))

    mass = jnp.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    d_e, d_low, d_high = tangents
    return u, density(e) * mass * d_e + density(low) * ndtr(-e) * d_low + density(high) * ndtr(e) * d_high
