"""NUTS against the analytic posterior and quadrature: 100 halos, one by one and as a field; the relation both ways.

A chain's path hangs on rounding, so on every machine it is another one: a key does not fix the result of these tests.
Each test asks for one p value (two_keys.py) and fails only if a second key fails as well.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_value
from reference.moments import SharpMoments
from reference.posterior_reference import Relation, SingleDraw

from massmap_jax.models.field import field_model
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.models.relation import Pivot, relation_model, start, start_metric
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.relation.beliefs import RelationPrior
from statistical.two_keys import LEVEL, check_with_two_keys, diagnostics, p_of_chains, smallest, two_sided
from statistical.universe import REFERENCE, SIGMA, catalogue, package_prior, package_relation, simulate

pytestmark = pytest.mark.slow

PRIOR = package_prior()
RELATION = package_relation()
NUMBER = 100
LEVELS = np.concatenate([[1e-6], np.linspace(0.0005, 0.9995, 1000), [1 - 1e-6]])
MASSES = {("e",): jnp.ones(NUMBER)}
WIDE = {"alpha1": 0.05, "alpha2": 0.02, "alpha4": 0.1}
# R-hat at most, and effective draws at least, of each halo: what is asked of chains whose moments are compared.
MOST_R_HAT, LEAST_ESS = 1.01, 400
# The relation's chains are short; their effective draws are in the errors.
MOST_R_HAT_RELATION = 1.03


@cache
def objects():
    _, ln_lum_obs, z = simulate(np.random.default_rng(11), NUMBER)
    return catalogue(ln_lum_obs, z)


@cache
def exact_posterior(scatter_factor=1.0):
    """The grid's posterior and its quantiles at LEVELS; a factor of the scatter other than 1 is the mistake to find."""
    relation = package_relation(scatter=scatter_factor * float(RELATION.scatter))
    posterior = mass_posterior(objects(), PRIOR, relation)
    return posterior, posterior.quantile(LEVELS)


def p_against_the_grid(draws, scatter_factor=1.0, found=None):
    """P value of draws (chain, sample, halo) against the grid; 0 if the chains have not mixed.

    found : a dictionary, to be filled with what the p value is made of.
    """
    r_hat, ess, tail = diagnostics(draws)
    _, quantiles = exact_posterior(scatter_factor)
    pit = np.stack([np.interp(draws[..., k], quantiles[k], LEVELS) for k in range(draws.shape[2])], axis=-1)
    p = p_of_chains(pit)
    if found is not None:
        found |= p | {"r_hat": r_hat.max(), "ess": ess.min(), "tail ess": tail.min()}
    mixed = r_hat.max() < MOST_R_HAT and min(ess.min(), tail.min()) > LEAST_ESS
    return smallest(list(p.values())) if mixed else 0.0


@cache
def chains_of_each_halo(key):
    return sample_halo_masses(
        jax.random.key(key), objects(), PRIOR, RELATION, num_warmup=400, num_samples=1000, num_chains=4, keep_draws=True
    )


def test_grid_agrees_with_exact_cells():
    """The yardstick first: `mass_posterior` is held against a reference that imports nothing of the package."""
    exact, data = exact_posterior()[0], objects()
    for k in range(0, NUMBER, 20):
        cells = SharpMoments(SingleDraw(REFERENCE, data.ln_lum_obs[k], SIGMA, data.redshift[k], Relation()))
        assert abs(exact.mean[k] - cells.mean) < 2e-3 * exact.sd[k]
        assert abs(exact.sd[k] / cells.sd - 1) < 2e-3


def p_of_each_halo(key, scatter_factor=1.0, found=None):
    """NUTS on every halo by itself."""
    chains = chains_of_each_halo(key)
    p = p_against_the_grid(chains.draws.transpose(1, 2, 0), scatter_factor, found)
    return p if chains.divergences.sum() == 0 else 0.0


def test_nuts_of_each_halo_agrees_with_the_grid():
    check_with_two_keys(p_of_each_halo)


@pytest.mark.parametrize("scatter_factor", [0.9, 1.1])
def test_a_wrong_scatter_is_noticed(scatter_factor):
    """The twin: 10 % less or more scatter in the grid's relation."""
    assert p_of_each_halo(0, scatter_factor) < LEVEL


def beliefs():
    """Wide enough for 100 objects to say something of every parameter."""
    free = {p: dist.Normal(float(getattr(RELATION, p)), sd) for p, sd in WIDE.items()}
    free["scatter"] = dist.LogNormal(np.log(float(RELATION.scatter)), 0.1)
    return RelationPrior(free, float(RELATION.alpha3))


def sampler(model, relation_prior, num_samples, keys_at_once, more=None):
    """Four chains of a model and their divergences, as a function of the key, compiled once.

    keys_at_once : so many keys have their chains in one run; they are independent, and cost less than one by one.
    more : the metric of other sites than the relation's.
    """
    data = PlacedObjects.of(objects(), PRIOR)
    metric = start_metric(data, relation_prior, Pivot.of(data, relation_prior))
    begun = init_to_value(values=start(relation_prior))
    kernel = NUTS(model, init_strategy=begun, dense_mass=list(metric), inverse_mass_matrix=metric | (more or {}))
    # A step of so small a model costs the same for four chains as for one.
    mcmc = MCMC(
        kernel,
        num_warmup=100,
        num_samples=num_samples,
        num_chains=4 * keys_at_once,
        chain_method="vectorized",
        progress_bar=False,
    )

    @cache
    def run(key):
        mcmc.run(jax.random.key(key))
        samples = mcmc.get_samples(group_by_chain=True)
        return jax.tree.map(np.asarray, (samples, mcmc.get_extra_fields(group_by_chain=True)["diverging"]))

    def sample(key):
        first = 4 * (key % keys_at_once)
        return jax.tree.map(lambda a: a[first : first + 4], run(key // keys_at_once))

    return sample


@cache
def field_with_a_known_relation(keys_at_once=1):
    """alpha1 free in a range so narrow that the posteriors of the masses are those of the fixed relation."""
    fixed = {p: float(getattr(RELATION, p)) for p in ("alpha2", "alpha4", "scatter")}
    relation_prior = RelationPrior(
        {"alpha1": dist.Normal(float(RELATION.alpha1), 1e-4)} | fixed, float(RELATION.alpha3)
    )
    return sampler(field_model(objects(), PRIOR, relation_prior), relation_prior, 400, keys_at_once, MASSES)


def p_of_the_field(key, scatter_factor=1.0, found=None, keys_at_once=1):
    """NUTS on the masses of the field together."""
    samples, diverging = field_with_a_known_relation(keys_at_once)(key)
    p = p_against_the_grid(samples["ln_mass"], scatter_factor, found)
    return p if not diverging.any() else 0.0


def test_field_with_a_known_relation_agrees_with_the_grid():
    check_with_two_keys(p_of_the_field)


@pytest.mark.parametrize("scatter_factor", [0.9, 1.1])
def test_a_wrong_scatter_of_the_field_is_noticed(scatter_factor):
    assert p_of_the_field(0, scatter_factor) < LEVEL


@cache
def field_and_marginal(keys_at_once=1):
    """Samplers of the relation with the masses sampled, and with the masses integrated out."""
    relation_prior = beliefs()
    data = PlacedObjects.of(objects(), PRIOR)
    pivot = Pivot.of(data, relation_prior)

    def likelihood(relation):
        term = relation.data_term(data.ln_lum_obs, data.sigma, data.z)
        return (term.log_norm + jnp.log(term.width) + PRIOR.log_evidence(term.centre, data.z, term.width)).sum()

    marginal = relation_model(likelihood, relation_prior, pivot=pivot)
    field = field_model(objects(), PRIOR, relation_prior)
    return (
        sampler(field, relation_prior, 300, keys_at_once, MASSES),
        sampler(marginal, relation_prior, 300, keys_at_once),
    )


def p_of_field_and_marginal(key, scatter_factor=1.0, found=None, keys_at_once=1):
    """Mean and spread of each parameter, of both models; 0 if the chains have not mixed.

    scatter_factor : the mistake to find, of the scatter in the draws of the field.
    """
    field, marginal = (sample(key)[0] for sample in field_and_marginal(keys_at_once))
    scores, r_hat = {}, 0.0
    for name in beliefs().free:
        one, other = (np.asarray(samples[name], dtype=np.float64) for samples in (field, marginal))
        one = scatter_factor * one if name == "scatter" else one
        r_hat = max(r_hat, split_gelman_rubin(one), split_gelman_rubin(other))
        for power in (1, 2):
            moments = [(draws - other.mean()) ** power for draws in (one, other)]
            error = np.hypot(*(m.std() / np.sqrt(effective_sample_size(m)) for m in moments))
            scores[name, power] = (moments[0].mean() - moments[1].mean()) / error
    if found is not None:
        found |= {f"{name} {power}": two_sided(z) for (name, power), z in scores.items()} | {"r_hat": r_hat}
    return smallest(two_sided(np.array(list(scores.values())))) if r_hat < MOST_R_HAT_RELATION else 0.0


def test_field_and_marginal_models_agree_on_the_relation():
    """The masses sampled or integrated out: one posterior of (alpha, S). (Poor coordinates: tests/models/test_models.py.)"""
    check_with_two_keys(p_of_field_and_marginal)
    assert p_of_field_and_marginal(0, scatter_factor=0.9) < LEVEL
