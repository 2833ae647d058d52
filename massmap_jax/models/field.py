"""The model of (alpha, S) and every mass of a field together, in coordinates that decouple them."""

from collections.abc import Callable

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.labels import check_labels
from massmap_jax.models.coordinates import TruncatedGaussian
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.models.relation import Pivot, relation_sites
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior


def field_model(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior,
    *,
    coordinates: Callable | None = None,
    selection=None,
) -> Callable:
    """The joint model of the relation and all masses; sites: the free parameters of the relation, and `e` (halo,).

    ln M = coordinates(e; the likelihood of ln M under the current relation) is reported as `ln_mass` (halo,), the
    usable rows in order. The joint density is prior(relation) p1 p3 p4 at ln M, times `|d ln M / de|`: p1 the prior
    and p3 p4 the likelihood of L_obs given M. alpha1 is sampled at the data (`relation_sites`).

    Parameters
    ----------
    relation_prior : of the relation's free parameters.
    coordinates : (e, GaussianTerm) -> `(ln_mass, ln |d ln M / de|)`, elementwise over halos; default
        `TruncatedGaussian` fitted at the prior's central relation. Another one changes the effective draws only.
    selection : which objects are in the catalogue; divides by the probability that each is.
    """
    check_labels(catalogue=catalogue, relation_prior=relation_prior, mass_prior=prior)
    objects = PlacedObjects.of(catalogue, prior)
    if coordinates is None:
        coordinates = default_coordinates(objects, prior, relation_prior)
    sample_relation = relation_sites(relation_prior, Pivot.of(objects, relation_prior))

    def model():
        data = objects.on_device()
        relation = sample_relation()
        term = relation.data_term(data.ln_lum_obs, data.sigma, data.z)
        with numpyro.plate("halo", len(objects)):
            e = numpyro.sample("e", dist.Normal(0.0, 1.0).mask(False))  # a place to start: its density is left out
            ln_mass, ln_jacobian = coordinates(e, term)
            numpyro.deterministic("ln_mass", ln_mass)
            numpyro.factor("prior_times_likelihood", data.ln_prior(prior, ln_mass) + term(ln_mass) + ln_jacobian)
            if selection is not None:
                ln_norm = jax.vmap(lambda z, sigma: selection.log_norm(relation, prior, z, sigma))(data.z, data.sigma)
                numpyro.factor("selection", -ln_norm)

    return model


def default_coordinates(objects: PlacedObjects, prior: MassPrior, relation_prior: RelationPrior) -> TruncatedGaussian:
    """The coordinates that suit every halo at the prior's central relation; arrays (halo,) on the host."""
    relation = relation_prior.relation(relation_prior.central())

    def one(halo):
        return TruncatedGaussian.fit(halo, prior, relation.data_term(halo.ln_lum_obs, halo.sigma, halo.z))

    fitted = jax.jit(jax.vmap(one, out_axes=TruncatedGaussian(0, 0, 0, None, None)))(objects.on_device())
    return jax.tree.map(np.asarray, fitted)
