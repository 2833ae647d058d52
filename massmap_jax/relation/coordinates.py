"""The coordinates that a posterior of a relation is searched and sampled in, where it is near a normal distribution.

A relation is sampled at a pivot, where ln L is known best and hardly correlated with slope and evolution, and reported
at alpha3:

    a = alpha1 + alpha2 ln(M_pivot / alpha3) + alpha4 ln(1 + z_pivot),   alpha2,   alpha4,   ln S

Where the masses have a normal population of width W, very many luminosities fix their own mean and variance far better
than the parts that make them. There the pivot is the population's centre, and S and W are sampled as

    v = 1/2 ln(S^2 + alpha2^2 W^2),   l = ln(S^2 / (alpha2^2 W^2)),

which needs a slope that is surely not 0: with few objects it may be.

A belief about the scatter of measured masses that is a normal above 0 is sampled by its score: S_m = F^-1(Phi(x)), with
F the belief. In ln S_m the posterior has a long tail towards 0, since the data say nothing there.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

_TILTS = ("alpha2", "alpha4")
_CENTRE, _WIDTH = "population_centre", "population_width"


class Coordinates(eqx.Module):
    """The free parameters in coordinates without bounds, and the ln posterior density in them.

    Attributes
    ----------
    prior : RelationPrior or JointPrior
        Prior of the parameters.
    pivot_ln_mass : Float[Array, ""]
        ln(M_pivot / alpha3), where no population has its own centre.
    pivot_evolution : Float[Array, ""]
        ln(1 + z_pivot), or ln E(z_pivot).
    of_many : bool
        Whether very many luminosities fix their own distribution, if that of the masses is normal.
    """

    prior: Any
    pivot_ln_mass: Float[Array, ""]
    pivot_evolution: Float[Array, ""]
    of_many: bool = eqx.field(static=True, default=False)

    @classmethod
    def at(cls, prior, centre: float, z: float, of_many: bool = False) -> "Coordinates":
        """Put the pivot at a ln M and a redshift; where these are arrays, at their medians."""
        evolution = np.median(np.asarray(prior.relation(prior.central()).ln_redshift_variable(z)))
        return cls(prior, np.median(centre) - np.log(prior.alpha3), evolution, of_many)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return self.prior.free

    def values(self, x: Float[Array, "*draw dim"]) -> dict[str, Array]:
        """Give the free parameters, at alpha3, of points in the sampling coordinates."""
        at = dict(zip(self.free, jnp.moveaxis(jnp.asarray(x), -1, 0), strict=True))
        if self._by_total_width:
            half, ratio = at[_WIDTH], at["scatter"]
            at["scatter"] = half + 0.5 * jax.nn.log_sigmoid(ratio)
            at[_WIDTH] = half + 0.5 * jax.nn.log_sigmoid(-ratio) - jnp.log(jnp.abs(self._value("alpha2", at)))
        values = {}
        for p in self.free:
            if belief := self._scored(p):
                values[p] = _from_score(at[p], belief)
            else:
                values[p] = jnp.exp(at[p]) if is_width(p) else jnp.tanh(at[p]) if is_correlation(p) else at[p]
        for p in (p for p in self.free if p.startswith("alpha1")):
            values[p] = values[p] - self._shift(values, p.removeprefix("alpha1"))
        return values

    def reported(self, x: Float[Array, "*draw dim"]) -> dict[str, Array]:
        """Give the parameters that a fit reports, at alpha3, of points in the sampling coordinates."""
        return self.prior.reported(self.values(x))

    @partial(jax.jit, inline=True)
    def place(self, values: dict) -> Float[Array, " dim"]:
        """Give the sampling coordinates of given parameters."""
        x = {}
        for p in self.free:
            value = jnp.asarray(values[p], dtype=float)
            if belief := self._scored(p):
                x[p] = _score(value, belief)
            else:
                x[p] = jnp.log(value) if is_width(p) else jnp.arctanh(value) if is_correlation(p) else value
        for p in (p for p in self.free if p.startswith("alpha1")):
            x[p] = x[p] + self._shift(values, p.removeprefix("alpha1"))
        if self._by_total_width:
            of_scatter, of_masses = x["scatter"], x[_WIDTH] + jnp.log(jnp.abs(self._value("alpha2", values)))
            x["scatter"] = 2 * (of_scatter - of_masses)
            x[_WIDTH] = 0.5 * jnp.logaddexp(2 * of_scatter, 2 * of_masses)
        return jnp.stack([x[p] for p in self.free])

    @property
    def _of_normal(self) -> bool:
        """Whether there are very many luminosities, of masses with a normal population."""
        return self.of_many and self.prior.population.is_normal

    @property
    def _by_total_width(self) -> bool:
        """Whether scatter and width of the masses are sampled by the width of the luminosities."""
        return self._of_normal and {"scatter", _WIDTH} <= set(self.free)

    def _scored(self, name: str) -> dist.Distribution | None:
        """The belief about a scatter of measured masses, where it is a normal above 0."""
        belief = self.prior.beliefs[name] if name == "mass_scatter" else None
        if isinstance(belief, dist.LeftTruncatedDistribution) and isinstance(belief.base_dist, dist.Normal):
            return belief
        return None

    def _value(self, name: str, values):
        """A parameter, free or fixed."""
        return values[name] if name in values else self.prior.beliefs[name]

    def _shift(self, values, of: str):
        """Change of the normalisation of a relation from alpha3 to the pivot; `of` ends the names of its parameters."""
        alpha2, alpha4 = (self._value(p + of, values) for p in _TILTS)
        pivot = self._value(_CENTRE, values) - jnp.log(self.prior.alpha3) if self._of_normal else self.pivot_ln_mass
        return alpha2 * pivot + alpha4 * self.pivot_evolution

    def log_density(self, x: Float[Array, " dim"], likelihood) -> Float[Array, ""]:
        """Evaluate ln of likelihood x prior density in these coordinates.

        The shift has Jacobian 1, the ln of a width has the width, artanh of a correlation R has 1 - R^2, and that of
        the two widths into their sum and ratio is a constant, which is left out.
        """
        values = self.values(x)
        jacobian: Any = 0.0
        for i, p in enumerate(self.free):
            if belief := self._scored(p):
                # In the score the belief is a standard normal; its density at the value is in `prior.log_prob`.
                jacobian = jacobian + dist.Normal().log_prob(x[i]) - belief.log_prob(values[p])
            elif is_width(p):
                jacobian = jacobian + jnp.log(values[p])
            elif is_correlation(p):
                jacobian = jacobian + jnp.log1p(-(values[p] ** 2))
        return likelihood(self.prior.relation(values)) + self.prior.log_prob(values) + jacobian


def _from_score(x, belief):
    """The value that a normal above a limit exceeds as often as a standard normal exceeds x."""
    loc, scale = belief.base_dist.loc, belief.base_dist.scale
    return loc - scale * ndtri(ndtr((loc - belief.low) / scale) * ndtr(-x))


def _score(value, belief):
    """The standard normal x of a value; the inverse of `_from_score`."""
    loc, scale = belief.base_dist.loc, belief.base_dist.scale
    return -ndtri(ndtr((loc - value) / scale) / ndtr((loc - belief.low) / scale))


def is_width(name: str) -> bool:
    """Tell whether a parameter is a width, which is sampled by its ln."""
    return name.startswith(("scatter", "mass_scatter", "population_width", "selection_width"))


def is_correlation(name: str) -> bool:
    """Tell whether a parameter is a correlation, which is sampled by its artanh."""
    return name.startswith(("correlation", "partial_"))
