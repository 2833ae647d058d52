"""The model of each halo's ln M itself: prior x likelihood, in no special coordinates."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.models.mixture import check_relation, draw_terms, mixture_log_likelihood
from massmap_jax.models.objects import HaloMass, PlacedObjects
from massmap_jax.models.relation import relation_sites
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior


def halo_mass_model(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    *,
    relation_from: RelationFrom | None = None,
    luminosity: Literal["marginal", "latent"] = "marginal",
    selection=None,
) -> Callable:
    """The model with one site `ln_mass` (halo,), the usable rows in order [ln Msun].

    Parameters
    ----------
    catalogue, prior : as in `mass_posterior`.
    relation : one relation (fixed); a batch of draws (marginalised: the density is the mixture over draws with the
        weights of `relation_from`, as in `mass_posterior`; "this_catalogue" and "fixed_draws" divide each draw by its
        evidence Z_k, "other_data" does not); or a `RelationPrior` (latent: its free parameters are sites too).
    luminosity : "marginal" integrates over ln L in closed form; "latent" makes it a site `ln_lum` (halo,), for one
        relation or a latent one.
    selection : enters the weights of "other_data" only.

    With one relation or a latent one the data are the site `ln_lum_obs`, an observed density per ln L_obs.

    `MassmapError` for another `luminosity`, or a latent one with a batch of relations.
    """
    if luminosity not in ("marginal", "latent"):
        raise MassmapError(f"luminosity {luminosity!r} is not known: give 'marginal' or 'latent'")
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    objects = PlacedObjects.of(catalogue, prior)
    latent_relation = isinstance(relation, RelationPrior)
    if not latent_relation:
        relation_from = check_relation_from(relation, relation_from)
        if relation.num_draws > 1:
            if luminosity == "latent":
                raise MassmapError(
                    f"a latent luminosity needs one relation, and this batch has {relation.num_draws} draws: give "
                    "luminosity='marginal', or a RelationPrior"
                )
            return _mixture_model(objects, prior, relation, relation_from != "other_data", selection or NoSelection())
        relation = relation.as_batch().draw(0)
    the_relation = relation_sites(relation) if latent_relation else lambda: relation

    def model():
        own = the_relation()
        data = objects.on_device()
        with numpyro.plate("halo", len(objects)):
            ln_mass = numpyro.sample("ln_mass", HaloMass(data, prior))
            mean, scatter = own.mean_ln_lum(ln_mass, data.z), own.scatter_ln_lum(ln_mass, data.z)
            if luminosity == "latent":
                mean, scatter = numpyro.sample("ln_lum", dist.Normal(mean, scatter)), 0.0
            numpyro.sample("ln_lum_obs", dist.Normal(mean, jnp.sqrt(scatter**2 + data.sigma**2)), obs=data.ln_lum_obs)

    return model


def _mixture_model(objects: PlacedObjects, prior, relation, normalise: bool, selection) -> Callable:
    check_relation(relation)
    norm = prior.norm_coefficients()

    def one(halo):
        return draw_terms(halo, prior, norm, relation.as_batch(), selection, normalise=normalise)[0]

    # Once, not at every gradient: the evidences depend on the data only. Kept on the host, (halo, draw).
    terms = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(objects.on_device()))

    def model():
        with numpyro.plate("halo", len(objects)):
            ln_mass = numpyro.sample("ln_mass", HaloMass(objects.on_device(), prior))
            numpyro.factor("likelihood", mixture_log_likelihood(jax.tree.map(jnp.asarray, terms), ln_mass))

    return model
