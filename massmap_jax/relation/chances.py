"""The sum over a catalogue of ln A, the chances to be in it, where a table says which objects are."""

from functools import reduce

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Boxes, Points, compress
from massmap_jax.relation.data import filled

# Boxes of redshift and error in which ln A is interpolated; it depends on no luminosity.
_OF_CHANCES = Boxes(lum_nodes=1, z_nodes=2, sigma_nodes=3)


class Chances(eqx.Module):
    """Redshifts and errors that stand for those of all objects in the sum of ln A of a table of the completeness.

    Attributes
    ----------
    z : Float[Array, "chance"]
        Redshifts.
    sigma : Float[Array, "chance"]
        Errors of ln L, or of ln of the observable that the objects were selected on.
    weight : Float[Array, "chance"]
        How many objects each stands for; some may be negative.

    Notes
    -----
    A is an integral over luminosities at each mass, and takes a hundred times as long as the evidence of an object. It
    depends on redshift and error alone, so that ln A is interpolated from few of them (`relation.compress`).
    """

    z: Float[Array | np.ndarray, " chance"]
    sigma: Float[Array | np.ndarray, " chance"]
    weight: Float[Array | np.ndarray, " chance"]

    @classmethod
    def of(cls, z, sigma, weight, redshift_nodes, scatter: float) -> "Chances":
        """Find the redshifts and errors for some objects: their own, where these are fewer.

        Parameters
        ----------
        z, sigma, weight : Float[np.ndarray, "point"]
            As the attributes, of each object.
        redshift_nodes : Float[np.ndarray, "node"]
            Redshifts where ln A has kinks.
        scatter : float
            Least scatter S of the relations to be evaluated.

        Returns
        -------
        Chances
            Filled up to a few sizes with copies of weight 0.
        """
        ends = float(sigma.min()), float(sigma.max())
        asked = {"redshift_nodes": redshift_nodes, "scatter": scatter, "sigma_range": ends, "boxes": _OF_CHANCES}
        parts = []
        for one in np.unique(weight):  # whole objects, and those that stand for many
            own = weight == one
            short = compress(np.zeros(own.sum()), sigma[own], z[own], **asked)
            parts.append(short._replace(weight=one * short.weight))
        points = reduce(Points.__add__, parts)
        columns = (z, sigma, weight) if points.z.size >= z.size else (points.z, points.sigma, points.weight)
        return cls(filled(columns[0]), filled(columns[1]), filled(columns[2], 0.0))

    def __call__(self, relation, prior: MassPrior, selection) -> Float[Array, ""]:
        """Sum ln A over all objects.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation, with its population where one was fitted.
        prior : MassPrior
            The mass prior.
        selection : TabulatedSelection or SelectedOn
            The table.

        Returns
        -------
        Float[Array, ""]
            The sum.
        """
        ln_a = selection.log_norms(relation, prior, jnp.asarray(self.z), jnp.asarray(self.sigma))
        return (self.weight * ln_a).sum()
