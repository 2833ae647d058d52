"""The NumPyro model of (alpha, S) and every mass of a field together, in coordinates that decouple them."""

from collections.abc import Callable

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from massmap_jax.argument_kinds import check_kinds
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
    """Make the joint NumPyro model of the relation and all masses.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects, with lognormal noise; unusable rows are left out.
    prior : MassPrior
        Prior density p(ln M | z) of the masses.
    relation_prior : RelationPrior
        Prior of the relation; its free parameters are sampled.
    coordinates : callable, optional
        (e, GaussianTerm) -> (ln_mass, ln abs(d ln M / de)), elementwise over halos; default `TruncatedGaussian`, fitted
        at the prior's central relation. Another choice changes the number of effective draws and not the answer.
    selection : Selection, optional
        Which objects can be in the catalogue; the density is divided by the probability that each is.

    Returns
    -------
    callable
        A NumPyro model without arguments. Sites: the free parameters of the relation (`alpha1_offset` in place of
        alpha1) and `e` (halo,); reported: alpha1 and `ln_mass` (halo,) [ln Msun], the usable rows in order.

    See Also
    --------
    start, start_metric : a start and a mass matrix for NUTS.
    relation_model : the relation alone, with the masses marginalised.
    halo_mass_model : the masses alone.

    Notes
    -----
    The joint density is prior(relation) x product over halos of p(ln M | z) P(L_obs | M, z, relation) abs(d ln M / de),
    at ln M = coordinates(e; likelihood of ln M under the current relation). In these coordinates masses and relation
    are nearly independent, which NUTS needs: with ln M itself as coordinate its trees saturate.

    alpha1 is sampled where the data are (`alpha1_offset`), because at alpha3 it is strongly correlated with the slopes.

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
    >>> model = mm.field_model(catalogue, mm.MassPrior.default(), mm.RelationPrior.preset("bigmali2017", alpha4=1.1))
    >>> sites = {"alpha1_offset": 0.0, "alpha2": 0.359, "scatter": 0.155, "e": jnp.zeros(5)}
    >>> ln_density, trace = log_density(model, (), {}, sites)
    >>> trace["ln_mass"]["value"].shape
    (5,)

    Sample it with any kernel of NumPyro, such as ``MCMC(NUTS(model), num_warmup=500, num_samples=500)``.
    """
    check_kinds("field_model", catalogue=catalogue, prior=prior)
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
            e = numpyro.sample("e", dist.Normal(0.0, 1.0).mask(False))  # gives a start only: its density is left out
            ln_mass, ln_jacobian = coordinates(e, term)
            numpyro.deterministic("ln_mass", ln_mass)
            numpyro.factor("prior_times_likelihood", data.ln_prior(prior, ln_mass) + term(ln_mass) + ln_jacobian)
            if selection is not None:
                ln_norm = jax.vmap(lambda z, sigma: selection.log_norm(relation, prior, z, sigma))(data.z, data.sigma)
                numpyro.factor("selection", -ln_norm)

    return model


def default_coordinates(objects: PlacedObjects, prior: MassPrior, relation_prior: RelationPrior) -> TruncatedGaussian:
    """Fit the coordinates of every halo at the prior's central relation; arrays (halo,) on the host."""
    relation = relation_prior.relation(relation_prior.central())
    return jax.tree.map(np.asarray, _fitted(objects.on_device(), prior, relation))


@jax.jit
def _fitted(objects: PlacedObjects, prior: MassPrior, relation) -> TruncatedGaussian:
    """The coordinates of every object; compiled once for all models of a shape."""

    def one(halo):
        return TruncatedGaussian.fit(halo, prior, relation.data_term(halo.ln_lum_obs, halo.sigma, halo.z))

    return jax.vmap(one, out_axes=TruncatedGaussian(0, 0, 0, None, None))(objects)
