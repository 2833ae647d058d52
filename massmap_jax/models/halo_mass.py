"""The NumPyro model of each halo's ln M itself: prior x likelihood, in no special coordinates."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import GaussianTerm
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
    """Make the NumPyro model of the masses: one site `ln_mass` with an entry for each usable halo.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects, with lognormal noise; unusable rows are left out.
    prior : MassPrior
        Prior density p(ln M | z) of the masses.
    relation : MassLuminosityRelation or RelationPrior
        One relation is fixed. A batch of relation draws is marginalised: the density of each halo is the mixture over
        the draws. A `RelationPrior` is latent: its free parameters are sites too.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        Where a batch of draws is from, which sets the weights of the mixture as in `mass_posterior`: for
        "this_catalogue" and "fixed_draws" each draw is divided by its evidence Z_k, for "other_data" it is not.
    luminosity : {"marginal", "latent"}, optional
        "marginal" integrates over ln L in closed form; "latent" makes it a site `ln_lum` (halo,), for one relation or a
        latent one.
    selection : Selection, optional
        Which objects can be in the catalogue; it enters the weights of "other_data" only.

    Returns
    -------
    callable
        A NumPyro model without arguments. Sites: `ln_mass` (halo,) [ln Msun], the usable rows in order; with one
        relation or a latent one the data are the observed site `ln_lum_obs`, a density per ln L_obs.

    Raises
    ------
    MassmapError
        Another `luminosity`, a latent one with a batch of relations, or a batch without `relation_from`.

    See Also
    --------
    sample_halo_masses : NUTS of the same density, each halo on its own and much faster.
    mass_posterior : the same posterior by integration.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import massmap_jax as mm
    >>> from numpyro.infer.util import log_density
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> model = mm.halo_mass_model(catalogue, mm.MassPrior.default(), relation)
    >>> ln_density = jax.jit(lambda ln_mass: log_density(model, (), {}, {"ln_mass": ln_mass})[0])
    >>> bool(ln_density(jnp.full(5, 25.0)) > ln_density(jnp.full(5, 30.0)))
    True

    Sample it with any kernel of NumPyro, such as ``MCMC(NUTS(model), num_warmup=500, num_samples=500)``.
    """
    latent_relation = isinstance(relation, RelationPrior)
    check_kinds(
        "halo_mass_model", catalogue=catalogue, prior=prior, **({} if latent_relation else {"relation": relation})
    )
    if luminosity not in ("marginal", "latent"):
        raise MassmapError(f"luminosity {luminosity!r} is not known: give 'marginal' or 'latent'")
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    objects = PlacedObjects.of(catalogue, prior)
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
    """The model with a batch of relation draws: the likelihood of each halo is a mixture."""
    check_relation(relation)
    # Once, not at every gradient: the evidences depend on the data only. Kept on the host, (halo, draw).
    terms = _terms(objects.on_device(), prior, relation.as_batch(), selection, normalise)
    terms = jax.tree.map(np.asarray, terms)

    def model():
        with numpyro.plate("halo", len(objects)):
            ln_mass = numpyro.sample("ln_mass", HaloMass(objects.on_device(), prior))
            numpyro.factor("likelihood", mixture_log_likelihood(jax.tree.map(jnp.asarray, terms), ln_mass))

    return model


@partial(jax.jit, static_argnames="normalise")
def _terms(objects: PlacedObjects, prior: MassPrior, relation, selection, normalise: bool) -> GaussianTerm:
    """The likelihood of each object under each draw (halo, draw); compiled once for all models of a shape."""
    norm = prior.norm_coefficients()
    return jax.vmap(lambda one: draw_terms(one, prior, norm, relation, selection, normalise=normalise)[0])(objects)
