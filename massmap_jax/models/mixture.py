"""One object's likelihood of ln M under many relation draws, with the weights of `mass_posterior`."""

import jax
import jax.numpy as jnp
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.terms import GaussianTerm
from massmap_jax.prior.population import population_of
from massmap_jax.relation.several import refuse_several

_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)


def draw_terms(one, prior, norm, relation, selection, *, normalise: bool) -> tuple[GaussianTerm, GaussianTerm]:
    """Give one object's likelihood of ln M under every relation draw, and one Gaussian near their average.

    Parameters
    ----------
    one : PlacedObjects
        One object (scalars).
    prior : MassPrior
        The mass prior.
    norm : Float[Array, "node coefficient"]
        `prior.norm_coefficients()`.
    relation : MassLuminosityRelation
        A batch of draws.
    selection : Selection
        Which objects can be in the catalogue.
    normalise : bool
        True ("this_catalogue", "fixed_draws"): a draw weighs W_j / Z_j, so that each draw's posterior is normalised
        before they are averaged. False ("other_data"): W_j / A_j, so that the object itself updates the draws.

    Returns
    -------
    terms : GaussianTerm
        The likelihood of each draw, (draw,), with its weight in `log_norm`. Both choices of the weights are exact.
    typical : GaussianTerm
        One Gaussian with about the mean and the variance of their mixture, for coordinates.
    """
    terms = jax.vmap(lambda r: r.data_term(one.ln_lum_obs, one.sigma, one.z))(relation)
    if relation.num_draws == 1:
        return terms, jax.tree.map(lambda a: a[0], terms)
    row = prior.ln_density_at(one.z, norm)
    gauss = jax.vmap(lambda centre, width: prior.log_evidence_of_row(row, centre, one.z, width))
    ln_evidence = terms.log_norm + jnp.log(terms.width) + _HALF_LN_2PI + gauss(terms.centre, terms.width)
    ln_weight = jax.nn.log_softmax(relation.log_weight)
    if normalise:
        # A draw without evidence has no posterior to average.
        ln_weight = jnp.where(jnp.isfinite(ln_evidence), ln_weight - ln_evidence, -jnp.inf)
    else:
        ln_weight = ln_weight - jax.vmap(lambda r: selection.log_norm(r, prior, one.z, one.sigma))(relation)
    terms = GaussianTerm(terms.centre, terms.width, terms.log_norm + ln_weight)
    share = jax.nn.softmax(ln_weight + ln_evidence)
    centre = (share * terms.centre).sum()
    variance = (share * (terms.width**2 + (terms.centre - centre) ** 2)).sum()
    return terms, GaussianTerm.normalised(centre, jnp.sqrt(variance))


def mixture_log_likelihood(terms: GaussianTerm, ln_mass):
    """ln of the sum over draws (last axis of `terms`) of each draw's weighted likelihood, one mass for each object."""
    if terms.centre.shape[-1] == 1:
        return GaussianTerm(terms.centre[..., 0], terms.width[..., 0], terms.log_norm[..., 0])(ln_mass)
    return jax.nn.logsumexp(terms(jnp.asarray(ln_mass)[..., None]), axis=-1)


def check_relation(relation) -> None:
    """Refuse a relation whose likelihood is not Gaussian in ln M, or whose draws bring priors of their own."""
    if population_of(relation) is not None:
        raise MassmapError(
            "the models have one mass prior for all draws, and this relation was fitted jointly with a population,"
            " or paired with cosmologies: use mass_posterior"
        )
    refuse_several(relation, "a NumPyro model of the masses")
    if not hasattr(relation, "data_term"):
        raise MassmapError(
            f"the models need a relation with a data_term (Gaussian in ln M), and {type(relation).__name__} has none: "
            "use mass_posterior, or give the relation that method"
        )
