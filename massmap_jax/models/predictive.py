"""Draws of observed luminosities: what data the prior, or the posterior, predicts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.prior.mass_prior import MassPrior


def prior_predictive(
    key: Array, catalogue: HaloCatalogue, prior: MassPrior, relation, num: int
) -> Float[Array, "draw halo"]:
    """Draw observed luminosities from the prior: masses from the prior, luminosities from the relation, and noise.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    catalogue : HaloCatalogue
        Its usable rows give redshifts and errors; the luminosities are not used.
    prior : MassPrior
        Prior density of the masses.
    relation : Relation
        One relation, or a batch, from which each draw takes one relation (by weight) for all halos.
    num : int
        Draws for each row.

    Returns
    -------
    Float[Array, "draw halo"]
        ln L_obs of the usable rows, in the unit of the relation.

    See Also
    --------
    posterior_predictive : the same for given draws of the masses.
    """
    objects = PlacedObjects.of(catalogue, prior).on_device()
    key_mass, key_lum = jax.random.split(key)
    z = jnp.broadcast_to(objects.z, (num, len(objects)))
    return _draw_luminosities(key_lum, objects, relation, prior.sample(key_mass, z))


def posterior_predictive(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    ln_mass: Float[Array, "draw halo"],
    *,
    paired: bool = False,
) -> Float[Array, "draw halo"]:
    """Draw one repeat of the observation for each draw of the masses.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    catalogue : HaloCatalogue
        Its usable rows give redshifts and errors.
    prior : MassPrior
        The mass prior, which decides with the catalogue which rows are usable.
    relation : Relation
        One relation, or a batch, from which each draw takes one relation (by weight) for all halos.
    ln_mass : Float[Array, "draw halo"]
        Draws of ln M of the usable rows [ln Msun].
    paired : bool, optional
        Whether relation draw i belongs to mass draw i, as in the samples of one chain.

    Returns
    -------
    Float[Array, "draw halo"]
        ln L_obs of the usable rows, in the unit of the relation.

    Raises
    ------
    MassmapError
        Paired draws that differ in number.
    """
    objects, ln_mass = PlacedObjects.of(catalogue, prior).on_device(), jnp.asarray(ln_mass)
    if paired and relation.num_draws != ln_mass.shape[0]:
        raise MassmapError(
            f"paired draws need one relation for each of the {ln_mass.shape[0]} mass draws, and there are "
            f"{relation.num_draws}: give paired=False to draw relations by weight"
        )
    return _draw_luminosities(key, objects, relation, ln_mass, paired=paired)


def _draw_luminosities(key, objects, relation, ln_mass, *, paired=False):
    """ln L_obs (draw, halo) of given masses (draw, halo), scatter and noise included."""
    key_relation, key_lum = jax.random.split(key)
    batch, num = relation.as_batch(), ln_mass.shape[0]
    if paired:
        chosen = jnp.arange(num)
    else:
        chosen = jax.random.categorical(key_relation, jnp.asarray(batch.log_weight, dtype=float), shape=(num,))
    batch = jax.tree.map(lambda a: jnp.asarray(a, dtype=float)[chosen], batch)

    def one(relation, ln_mass, key):
        scatter = relation.scatter_ln_lum(ln_mass, objects.z)
        mean = relation.mean_ln_lum(ln_mass, objects.z)
        return mean + jnp.sqrt(scatter**2 + objects.sigma**2) * jax.random.normal(key, mean.shape)

    return jax.vmap(one)(batch, ln_mass, jax.random.split(key_lum, num))
