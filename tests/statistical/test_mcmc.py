"""NUTS against the analytic posterior and quadrature: 100 halos, one by one and as a field; the relation both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_value
from reference.moments import SharpMoments
from reference.posterior_reference import Relation, SingleDraw
from scipy.stats import kstest

from massmap_jax.models.field import field_model
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.models.relation import Pivot, relation_model, start, start_metric
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.relation.beliefs import RelationPrior
from statistical.universe import REFERENCE, SIGMA, catalogue, package_prior, package_relation, simulate

pytestmark = pytest.mark.slow

PRIOR = package_prior()
RELATION = package_relation()
NUMBER = 100
LEVELS = np.concatenate([[1e-6], np.linspace(0.0005, 0.9995, 1000), [1 - 1e-6]])
MASSES = {("e",): jnp.ones(NUMBER)}
WIDE = {"alpha1": 0.05, "alpha2": 0.02, "alpha4": 0.1}


@pytest.fixture(scope="module")
def objects():
    _, ln_lum_obs, z = simulate(np.random.default_rng(11), NUMBER)
    return catalogue(ln_lum_obs, z)


@pytest.fixture(scope="module")
def exact(objects):
    return mass_posterior(objects, PRIOR, RELATION)


def diagnostics(draws):
    """(R-hat, bulk ESS, tail ESS) of draws (chain, sample, ...), in double precision."""
    draws = np.asarray(draws, dtype=np.float64)
    low, high = np.quantile(draws, [0.05, 0.95], axis=(0, 1))
    tails = [effective_sample_size((draws <= end).astype(float)) for end in (low, high)]
    return split_gelman_rubin(draws), effective_sample_size(draws), np.minimum(*tails)


def check_against(exact, draws):
    """draws (chain, sample, halo) against the posterior in units of their own Monte Carlo error, and by shape."""
    r_hat, ess, tail = diagnostics(draws)
    assert r_hat.max() < 1.01 and ess.min() > 400 and tail.min() > 400
    draws = np.asarray(draws, dtype=np.float64)
    z_mean = (draws.mean(axis=(0, 1)) - exact.mean) / (exact.sd / np.sqrt(ess))
    square = (draws - exact.mean) ** 2
    z_sd = (square.mean(axis=(0, 1)) - exact.sd**2) / (square.std(axis=(0, 1)) / np.sqrt(effective_sample_size(square)))
    assert np.abs(z_mean).max() < 4 and np.abs(z_sd).max() < 4
    assert 0.7 < z_mean.std() < 1.3 and 0.7 < z_sd.std() < 1.3
    thinned = draws[:, :: int(np.ceil(draws.shape[0] * draws.shape[1] / ess.min()))]
    quantiles = exact.quantile(LEVELS)
    for k in range(draws.shape[2]):
        pit = np.interp(thinned[..., k].ravel(), quantiles[k], LEVELS)
        assert kstest(pit, "uniform").pvalue > 0.01 / draws.shape[2]


@pytest.fixture(scope="module")
def chains(objects):
    return sample_halo_masses(
        jax.random.key(5), objects, PRIOR, RELATION, num_warmup=400, num_samples=1000, num_chains=4, keep_draws=True
    )


def test_grid_agrees_with_exact_cells(exact, objects):
    """The yardstick first: `mass_posterior` is held against a reference that imports nothing of the package."""
    for k in range(0, NUMBER, 20):
        cells = SharpMoments(SingleDraw(REFERENCE, objects.ln_lum_obs[k], SIGMA, objects.redshift[k], Relation()))
        assert abs(exact.mean[k] - cells.mean) < 2e-3 * exact.sd[k]
        assert abs(exact.sd[k] / cells.sd - 1) < 2e-3


def test_nuts_of_each_halo_agrees_with_the_grid(exact, chains):
    check_against(exact, chains.draws.transpose(1, 2, 0))
    assert chains.divergences.sum() == 0


def test_a_wrong_scatter_is_noticed(objects, chains):
    """The twin: 10 % more scatter in the grid's relation."""
    wrong = mass_posterior(objects, PRIOR, package_relation(scatter=1.1 * float(RELATION.scatter)))
    with pytest.raises(AssertionError):
        check_against(wrong, chains.draws.transpose(1, 2, 0))


def beliefs():
    """Wide enough for 100 objects to say something of every parameter."""
    free = {p: dist.Normal(float(getattr(RELATION, p)), sd) for p, sd in WIDE.items()}
    free["scatter"] = dist.LogNormal(np.log(float(RELATION.scatter)), 0.1)
    return RelationPrior(free, float(RELATION.alpha3))


def run(model, objects, relation_prior, num_samples, more=None):
    """more : the metric of other sites than the relation's."""
    data = PlacedObjects.of(objects, PRIOR)
    metric = start_metric(data, relation_prior, Pivot.of(data, relation_prior))
    begun = init_to_value(values=start(relation_prior))
    kernel = NUTS(model, init_strategy=begun, dense_mass=list(metric), inverse_mass_matrix=metric | (more or {}))
    # A step of so small a model costs the same for four chains as for one.
    mcmc = MCMC(
        kernel, num_warmup=100, num_samples=num_samples, num_chains=4, chain_method="vectorized", progress_bar=False
    )
    mcmc.run(jax.random.key(8))
    return mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields(group_by_chain=True)


def test_field_with_a_known_relation_agrees_with_the_grid(exact, objects):
    """alpha1 free in a range so narrow that the posteriors of the masses are those of the fixed relation."""
    fixed = {p: float(getattr(RELATION, p)) for p in ("alpha2", "alpha4", "scatter")}
    relation_prior = RelationPrior(
        {"alpha1": dist.Normal(float(RELATION.alpha1), 1e-4)} | fixed, float(RELATION.alpha3)
    )
    samples, extra = run(field_model(objects, PRIOR, relation_prior), objects, relation_prior, 400, MASSES)
    check_against(exact, samples["ln_mass"])
    assert not extra["diverging"].any()


def test_field_and_marginal_models_agree_on_the_relation(objects):
    """The masses sampled or integrated out: one posterior of (alpha, S). (Poor coordinates: tests/test_models.py.)"""
    relation_prior = beliefs()
    data = PlacedObjects.of(objects, PRIOR)
    pivot = Pivot.of(data, relation_prior)

    def likelihood(relation):
        term = relation.data_term(data.ln_lum_obs, data.sigma, data.z)
        return (term.log_norm + jnp.log(term.width) + PRIOR.log_evidence(term.centre, data.z, term.width)).sum()

    marginal, _ = run(relation_model(likelihood, relation_prior, pivot=pivot), objects, relation_prior, 300)
    field, _ = run(field_model(objects, PRIOR, relation_prior), objects, relation_prior, 300, MASSES)
    for name in relation_prior.free:
        one, other = (np.asarray(samples[name], dtype=np.float64) for samples in (field, marginal))
        assert max(split_gelman_rubin(one), split_gelman_rubin(other)) < 1.03
        for power in (1, 2):
            moments = [(draws - other.mean()) ** power for draws in (one, other)]
            error = np.hypot(*(m.std() / np.sqrt(effective_sample_size(m)) for m in moments))
            assert abs(moments[0].mean() - moments[1].mean()) < 4 * error, (name, power)
