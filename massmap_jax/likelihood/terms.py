"""What an object's data say about its mass: a log likelihood in ln M. Terms of independent data add.

Posterior, evidence and maps see nothing else of the data. A lognormal observable is a `GaussianTerm`; anything else
(weak lensing, an upper limit, a measured mass likelihood) is a `TabulatedTerm`.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)


class GaussianTerm(eqx.Module):
    """log_norm - (ln M - centre)^2 / (2 width^2); arrays of one shape, whatever it is.

    Attributes
    ----------
    centre, width : (...) mean and standard deviation [ln Msun]. log_norm : (...) of the likelihood at the centre.
    """

    centre: Float[Array, "..."]
    width: Float[Array, "..."]
    log_norm: Float[Array, "..."]

    @classmethod
    def normalised(cls, centre, width, ln_scale=0.0) -> "GaussianTerm":
        """exp(ln_scale) times a normal density in ln M, of mean `centre` and sd `width` [ln Msun], which broadcast."""
        return cls(centre, width, ln_scale - jnp.log(width) - _HALF_LN_2PI)

    def __call__(self, ln_mass):
        return self.log_norm - 0.5 * ((ln_mass - self.centre) / self.width) ** 2

    def __add__(self, other: "GaussianTerm") -> "GaussianTerm":
        """The product of two Gaussian likelihoods, again Gaussian in ln M."""
        variance = 1 / (self.width**-2 + other.width**-2)
        centre = variance * (self.centre / self.width**2 + other.centre / other.width**2)
        apart = (self.centre - other.centre) ** 2 / (self.width**2 + other.width**2)
        return GaussianTerm(centre, jnp.sqrt(variance), self.log_norm + other.log_norm - 0.5 * apart)


class TabulatedTerm(eqx.Module):
    """ln likelihood at nodes of ln M, linear between them and constant outside (no information there).

    Attributes
    ----------
    ln_mass_nodes : (g,) increasing, ln Msun, common to all objects.
    log_likelihood : (g,) for one object, (halo, g) for a catalogue; finite.
    """

    ln_mass_nodes: Float[Array, "g"]
    log_likelihood: Float[Array, "*halo g"]

    def __call__(self, ln_mass):
        return jnp.interp(ln_mass, self.ln_mass_nodes, self.log_likelihood)
