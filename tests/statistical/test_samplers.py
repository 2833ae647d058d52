"""Every sampler against its density: Kolmogorov-Smirnov with 1e6 draws and the reference's distribution function."""

import jax
import numpy as np
import pytest
from reference.posterior_reference import Mixture, Relation
from scipy.stats import kstest

from statistical.universe import REFERENCE, SIGMA, TABLE, TRUTH, package_prior, package_relation, posterior_of

NUMBER = 1_000_000
# The draws are so many that every mistake we know of gives a p value far below.
LEVEL = 1e-5


def dense_cdf(cdf, points=20_001):
    """A slow distribution function, tabulated and interpolated: good to 1e-7 on this spacing."""
    grid = np.linspace(REFERENCE.ln_mass[0], REFERENCE.ln_mass[-1], points)
    values = np.array([cdf(m) for m in grid])
    return lambda m: np.interp(m, grid, values)


@pytest.mark.slow
def test_prior_samples():
    """At a node of the table, between nodes and near its end, together and apart; then the 1e-4 most massive."""
    redshift = np.array([TABLE[0][6], 0.31, 3.4])
    place = np.arange(NUMBER) % redshift.size
    draws = np.asarray(package_prior().sample(jax.random.key(8), redshift[place]), dtype=float)
    assert draws.shape == (NUMBER,)
    uniform = np.empty(NUMBER)
    for i, z in enumerate(redshift):
        uniform[place == i] = REFERENCE.cdf(draws[place == i], z)
    p = [kstest(uniform, "uniform").pvalue] + [kstest(uniform[place == i], "uniform").pvalue for i in range(3)]
    print("\nprior: KS p of all", round(p[0], 3), "and at each redshift", np.round(p[1:], 3))
    assert p[0] > LEVEL
    assert min(p[1:]) > LEVEL / 3
    # float32 levels near 1 must not run out
    share = 1e-4
    tail = (uniform - 1 + share)[uniform > 1 - share] / share
    print(f"{tail.size} draws in the last {share:g}: KS p = {kstest(tail, 'uniform').pvalue:.3f}")
    assert abs(tail.size - share * NUMBER) < 5 * np.sqrt(share * NUMBER)
    assert kstest(tail, "uniform").pvalue > LEVEL


@pytest.mark.slow
@pytest.mark.parametrize("relation_from", ["this_catalogue", "other_data"])
def test_posterior_samples(relation_from):
    ln_lum_obs, z = np.log([1500.0, 4300.0, 3.0e4]), np.array([0.31, 1.38, 2.2])
    alpha1 = TRUTH.alpha1 + np.array([-0.6, 0.0, 0.5])
    log_weight = np.log([0.3, 0.5, 0.2])
    relation = package_relation(alpha1=alpha1, log_weight=log_weight)
    posterior = posterior_of(ln_lum_obs, z, relation, relation_from=relation_from, chunk_size=1)
    draws = posterior.sample(jax.random.key(3), NUMBER)
    assert draws.shape == (3, NUMBER)
    for row in range(3):
        exact = Mixture(
            REFERENCE, ln_lum_obs[row], SIGMA, z[row], [Relation(alpha1=a) for a in alpha1], relation_from, log_weight
        )
        p = kstest(dense_cdf(exact.cdf, 2001)(draws[row]), "uniform").pvalue
        print(f"\n{relation_from}, object {row}: KS p = {p:.3f}")
        assert p > LEVEL


def test_a_sampler_without_the_cell_width_would_be_found():
    rng = np.random.default_rng(5)
    z = np.full(10_000, 1.1)
    p = [kstest(REFERENCE.cdf(REFERENCE.sample_without_cell_width(rng, z), 1.1), "uniform").pvalue for _ in range(20)]
    right = [kstest(REFERENCE.cdf(REFERENCE.sample(rng, z), 1.1), "uniform").pvalue for _ in range(20)]
    print(f"\nno cell width: largest p {max(p):.2g} in 20; right: {sum(q < LEVEL for q in right)} false alarms in 20")
    assert max(p) < LEVEL
    assert sum(q < LEVEL for q in right) <= 1
