"""The usable rows of a catalogue as the models see them: data, and the prior density at each object's redshift."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, UInt
from numpyro.distributions import constraints

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.objects import Objects, lognormal_rows
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.prior.mass_prior import MassPrior


class PlacedObjects(eqx.Module):
    """Objects whose masses are sampled, with the place of each in the prior's table; or one of them, under vmap.

    Attributes
    ----------
    objects : Objects
        The data, with one redshift each and lognormal noise.
    z_node : Int[Array, "*halo"]
        Redshift cell of the prior: the index of its lower node.
    z_place : Float[Array, "*halo"]
        Place in that cell, 0 to 1.
    ln_norm : Float[Array, "*halo"]
        What to add to ln p interpolated in z, so that it is normalised.
    """

    objects: Objects
    z_node: Int[Array, "*halo"]
    z_place: Float[Array, "*halo"]
    ln_norm: Float[Array, "*halo"]

    @classmethod
    def of(cls, catalogue: HaloCatalogue, prior: MassPrior) -> "PlacedObjects":
        """Take the usable rows of a catalogue, in order (`likelihood.objects.lognormal_rows`).

        Parameters
        ----------
        catalogue : HaloCatalogue
            The catalogue.
        prior : MassPrior
            The mass prior.

        Returns
        -------
        PlacedObjects
            The usable rows, arrays (halo,) on the host.
        """
        refuse_uncertain(catalogue, "a NumPyro model")
        objects = Objects.of(catalogue, lognormal_rows(catalogue, prior), prior)
        node, place, ln_norm = _place_in_redshift(
            prior, prior.norm_coefficients(), jnp.asarray(objects.z[:, 0], dtype=float)
        )
        return cls(objects, np.asarray(node), np.asarray(place), np.asarray(ln_norm))

    @property
    def ln_lum_obs(self) -> Float[Array, "*halo"]:
        """ln of the observed luminosity."""
        return self.objects.ln_lum_obs[..., 0]

    @property
    def sigma(self) -> Float[Array, "*halo"]:
        """Standard deviation of the luminosity's noise [ln L]."""
        return self.objects.sigma

    @property
    def z(self) -> Float[Array, "*halo"]:
        """Redshift."""
        return self.objects.z[..., 0]

    @property
    def id_hash(self) -> UInt[Array, "*halo 2"]:
        """Hash of the id of each object, which keys its random numbers."""
        return self.objects.id_hash

    def __len__(self) -> int:
        return self.z_node.shape[0]

    def take(self, rows) -> "PlacedObjects":
        """Take some of these objects."""
        return jax.tree.map(lambda a: a[rows], self)

    def on_device(self) -> "PlacedObjects":
        """Copy to device arrays of JAX's default precision."""
        return jax.tree.map(lambda a: jnp.asarray(a, dtype=float if a.dtype.kind == "f" else None), self)

    def ln_prior(self, prior: MassPrior, ln_mass) -> Float[Array, "*halo"]:
        """Evaluate ln p(ln M | z) of one mass for each object.

        It is `MassPrior.log_prob` inside the table, without its sum over cells.
        Outside the table ln p goes on linearly: coordinates and supports keep masses inside.
        """
        table = jnp.asarray(prior.ln_density, dtype=float)
        cell, fraction = prior.locate(ln_mass)
        # Four neighbours in a table that stays in cache are cheaper than a row of it for each object.
        upper = jnp.minimum(self.z_node + 1, table.shape[0] - 1)
        low = table[self.z_node, cell] * (1 - self.z_place) + table[upper, cell] * self.z_place
        high = table[self.z_node, cell + 1] * (1 - self.z_place) + table[upper, cell + 1] * self.z_place
        return low + fraction * (high - low) + self.ln_norm


class HaloMass(dist.Distribution):
    """The mass prior of some objects as a NumPyro distribution of ln M, batch shape (halo,).

    Parameters
    ----------
    objects : PlacedObjects
        The objects.
    prior : MassPrior
        The mass prior.
    """

    def __init__(self, objects: PlacedObjects, prior: MassPrior):
        self.objects, self.prior = objects, prior
        super().__init__(batch_shape=objects.z.shape)

    @property
    def support(self):
        """The masses of the table [ln Msun]."""
        nodes = self.prior.ln_mass_nodes
        return constraints.interval(jnp.asarray(nodes[0], dtype=float), jnp.asarray(nodes[-1], dtype=float))

    def log_prob(self, value):
        """Evaluate ln p(ln M | z) of one ln M [ln Msun] for each object."""
        return self.objects.ln_prior(self.prior, value)

    def sample(self, key, sample_shape=()):
        """Draw ln M [ln Msun] of each object from the prior."""
        return self.prior.sample(key, jnp.broadcast_to(self.objects.z, (*sample_shape, *self.batch_shape)))


@jax.jit
@partial(jax.vmap, in_axes=(None, None, 0))
def _place_in_redshift(prior, norm, z):
    """Lower node and place of each z between the prior's redshift nodes, and the missing ln norm."""
    if prior.redshift_nodes.shape[0] == 1:
        node, place = jnp.zeros((), int), jnp.zeros_like(z)
        raw = jnp.asarray(prior.ln_density, dtype=float)[0, 0]
    else:
        upper, place = prior.locate_redshift(z)
        node = upper - 1
        first = jnp.asarray(prior.ln_density, dtype=float)[:, 0]
        raw = (1 - place) * first[node] + place * first[upper]
    return node, place, prior.ln_density_at(z, norm)[0] - raw
