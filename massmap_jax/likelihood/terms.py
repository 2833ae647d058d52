"""What an object's data say about its mass: a log likelihood in ln M. Terms of independent data add.

Posteriors, evidences and maps use the data only through these terms. A lognormal observable is a `GaussianTerm`;
anything else (weak lensing, an upper limit, a measured mass likelihood) is a `TabulatedTerm`.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)


class GaussianTerm(eqx.Module):
    """A likelihood that is Gaussian in ln M: log_norm - (ln M - centre)^2 / (2 width^2).

    The three arrays have one shape, for example () for one object or (halo,) for a catalogue.

    Attributes
    ----------
    centre : Float[Array, "..."]
        Mean of the Gaussian [ln Msun].
    width : Float[Array, "..."]
        Standard deviation of the Gaussian [ln Msun].
    log_norm : Float[Array, "..."]
        ln likelihood at the centre.

    See Also
    --------
    TabulatedTerm : A likelihood of any shape.

    Examples
    --------
    Two independent mass measurements of one halo, 0.4 and 0.3 in ln M wide; their product is Gaussian again:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> first = mm.GaussianTerm.normalised(np.log(1.0e14), 0.4)
    >>> both = first + mm.GaussianTerm.normalised(np.log(1.2e14), 0.3)
    >>> round(float(both.width), 2)
    0.24
    >>> bool(both(np.log(1.1e14)) > both(np.log(3e14)))
    True
    """

    centre: Float[Array | np.ndarray, "..."]
    width: Float[Array | np.ndarray, "..."]
    log_norm: Float[Array | np.ndarray, "..."]

    @classmethod
    def normalised(cls, centre, width, ln_scale=0.0) -> "GaussianTerm":
        """Make the term of a normal density in ln M, times a factor.

        Parameters
        ----------
        centre : array_like, (...)
            Mean [ln Msun].
        width : array_like, (...)
            Standard deviation [ln Msun].
        ln_scale : array_like, (...)
            ln of the factor; 0 by default. All three broadcast.

        Returns
        -------
        GaussianTerm
            The term whose integral over ln M is exp(ln_scale).
        """
        return cls(centre, width, ln_scale - jnp.log(width) - _HALF_LN_2PI)

    def __call__(self, ln_mass) -> Float[Array, "..."]:
        """Log likelihood at ln_mass [ln Msun]."""
        return self.log_norm - 0.5 * ((ln_mass - self.centre) / self.width) ** 2

    def __add__(self, other: "GaussianTerm") -> "GaussianTerm":
        """The product of two Gaussian likelihoods, again Gaussian in ln M."""
        variance = 1 / (self.width**-2 + other.width**-2)
        centre = variance * (self.centre / self.width**2 + other.centre / other.width**2)
        apart = (self.centre - other.centre) ** 2 / (self.width**2 + other.width**2)
        return GaussianTerm(centre, jnp.sqrt(variance), self.log_norm + other.log_norm - 0.5 * apart)


class TabulatedTerm(eqx.Module):
    """A likelihood given by its ln at nodes of ln M, linear between them and constant outside.

    Outside the nodes the data are taken to carry no information on the mass.

    Parameters
    ----------
    ln_mass_nodes : Float[Array, "g"]
        Nodes [ln Msun], increasing, common to all objects.
    log_likelihood : Float[Array, "*halo g"]
        ln likelihood at the nodes, in any normalisation and finite: (g,) for one object, (halo, g) for a catalogue.

    See Also
    --------
    GaussianTerm : A likelihood that is Gaussian in ln M.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> nodes = np.log([1e13, 1e14, 1e15])
    >>> term = mm.TabulatedTerm(nodes, np.array([-2.0, 0.0, -3.0]))
    >>> [round(float(term(ln_mass)), 2) for ln_mass in np.log([1e12, 10**13.5, 1e14])]
    [-2.0, -1.0, 0.0]
    """

    ln_mass_nodes: Float[Array | np.ndarray, "g"]
    log_likelihood: Float[Array | np.ndarray, "*halo g"]

    def __call__(self, ln_mass) -> Float[Array, "..."]:
        """Log likelihood of one object at ln_mass [ln Msun]."""
        return jnp.interp(ln_mass, self.ln_mass_nodes, self.log_likelihood)
