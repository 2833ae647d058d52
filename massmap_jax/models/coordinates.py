"""Coordinates e of ln M in which the posterior of one object, given the relation, is close to N(0, 1).

Around an object's mass ln p(ln M | z) is close to a parabola, so the posterior is close to a Gaussian cut off at the
ends of the mass table, and the map from e to ln M is that Gaussian's quantile function at Phi(e). The densities that
the models sample are the exact ones times |d ln M / de|: a poor map lowers the effective number of draws and does not
change the answer. Any callable (e, term) -> (ln_mass, ln |d ln M / de|) will do that is smooth and rises from R onto
the masses of the table.
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
    """The map from e to ln M of each object, with a parabola in place of its ln prior.

    Arrays are (halo,), or scalars for one object under vmap. Make one with `fit`, and call it with e and the likelihood
    of ln M.

    Attributes
    ----------
    pivot : Float[Array, "*halo"]
        Mass about which the parabola is expanded [ln Msun].
    slope, curvature : Float[Array, "*halo"]
        ln p(ln M | z) is about slope (ln M - pivot) + curvature (ln M - pivot)^2 / 2, up to a constant.
    low, high : Float[Array, ""]
        Ends of the mass table [ln Msun].

    See Also
    --------
    field_model : a model that samples in these coordinates.
    sample_halo_masses : NUTS of each halo in these coordinates.
    """

    pivot: Float[Array, "*halo"]
    slope: Float[Array, "*halo"]
    curvature: Float[Array, "*halo"]
    low: Float[Array, ""]
    high: Float[Array, ""]

    @classmethod
    def fit(cls, objects: PlacedObjects, prior: MassPrior, term: GaussianTerm) -> "TruncatedGaussian":
        """Fit the parabola of one object, where its posterior under `term` is.

        Parameters
        ----------
        objects : PlacedObjects
            One object (scalars); use vmap for more.
        prior : MassPrior
            The mass prior.
        term : GaussianTerm
            Likelihood of ln M of this object.

        Returns
        -------
        TruncatedGaussian
            The map of this object.
        """

        def at(ln_mass):
            return objects.ln_prior(prior, ln_mass)

        low, high, _ = prior.posterior_range(objects.z, term.centre[None], term.width[None])
        ln_mass = panels.panel_nodes(low, high, panels.BASE_PANELS)
        values = jax.vmap(at)(ln_mass)
        ln_post = values + term(ln_mass)
        # Panel weights of [0, 1]: the range of an extreme object may be narrower than the float precision.
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
        """Give the axes of `jax.vmap` over objects.

        Returns
        -------
        TruncatedGaussian
            0 for arrays that have an axis of objects, None for the ends of the table.
        """
        return TruncatedGaussian(0, 0, 0, None, None)

    def __call__(self, e, term: GaussianTerm):
        """Map e to ln M.

        Parameters
        ----------
        e : Float[Array, "*halo"]
            Coordinate.
        term : GaussianTerm
            Likelihood of ln M.

        Returns
        -------
        ln_mass : Float[Array, "*halo"]
            ln of the mass [ln Msun], inside the table.
        ln_jacobian : Float[Array, "*halo"]
            ln abs(d ln M / de).
        """
        # A parabola that opens upwards must not outweigh the likelihood.
        precision = jnp.maximum(1 / term.width**2 - self.curvature, 0.25 / term.width**2)
        width = 1 / jnp.sqrt(precision)
        centre = term.centre + (self.slope + self.curvature * (term.centre - self.pivot)) / precision
        centre, width = _soften(centre, width, self.low, self.high)
        low, high = (self.low - centre) / width, (self.high - centre) / width
        u, ln_slope = truncated_quantile(e, low, high)
        # Rounding must not lead out of the table.
        return jnp.clip(centre + width * u, self.low, self.high), ln_slope + jnp.log(width)


def _soften(centre, width, low, high):
    """Move a Gaussian centred far beyond an end of the table, so that its tail stays in the range of float32.

    The new one has the same slope at the end, which is _STEEPEST of its widths away from its centre. Inside the table
    both are close to one exponential.
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
    """u of `truncated_quantile`, from the smaller tail; with its derivatives in closed form."""
    below, above = ndtr(e), ndtr(-e)
    lower = ndtr(low) * above + ndtr(high) * below
    upper = ndtr(-low) * above + ndtr(-high) * below
    # The smaller tail has more significant digits.
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
