"""The integrators of P(L_obs | M): closed forms, plain NumPy loops, and errors in units of their own Monte Carlo error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.posterior_reference import Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy import stats
from scipy.special import log_ndtr, logsumexp

from massmap_jax.choices import METHODS
from massmap_jax.likelihood import integrals as likelihood
from massmap_jax.likelihood.integrals import log_likelihood, log_likelihood_grid
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # older JAX
    from jax.experimental import enable_x64

RELATION = Relation()
ONE = MassLuminosityRelation.preset("bigmali2017")


def exact(ln_mass, ln_lum_obs, sigma, z, relation=RELATION):
    total = np.hypot(sigma, relation.scatter)
    return stats.norm.logpdf(ln_lum_obs, relation.mean_ln_lum(ln_mass, z), total) - ln_lum_obs


@pytest.fixture(scope="module")
def batch():
    """Three halos, two draws, five masses, seven luminosities."""
    rng = np.random.default_rng(0)
    relation = MassLuminosityRelation.create(
        alpha1=[10.7, 10.9], alpha2=[0.36, 0.40], alpha3=2.35e14, alpha4=[1.1, 0.8], scatter=[0.155, 0.2]
    )
    z, sigma = np.array([0.2, 1.0, 2.5]), np.array([0.05, 0.2, 0.4])
    return np.linspace(27, 33, 5), z, np.array([8.5, 9.0, 9.7]), sigma, relation, rng.normal(size=(3, 2, 7))


def plain_loop(method, ln_mass, z, ln_lum_obs, sigma, relation, normals):
    result = np.empty((z.size, relation.num_draws, ln_mass.size))
    for i, j, k in np.ndindex(result.shape):
        one = Relation(*(float(getattr(relation, n)[j]) for n in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")))
        mean = one.mean_ln_lum(ln_mass[k], z[i])
        if method in ("analytic", "quadrature"):
            result[i, j, k] = exact(ln_mass[k], ln_lum_obs[i], sigma[i], z[i], one)
        elif method == "monte_carlo":
            ln_p4 = stats.norm.logpdf(ln_lum_obs[i], mean + one.scatter * normals[i, j], sigma[i]) - ln_lum_obs[i]
            result[i, j, k] = logsumexp(ln_p4) - np.log(ln_p4.size)
        else:
            drawn = ln_lum_obs[i] + sigma[i] * normals[i, j]
            ln_p3 = stats.norm.logpdf(drawn, mean, one.scatter) - ln_lum_obs[i]
            result[i, j, k] = logsumexp(ln_p3) - np.log(ln_p3.size)
    return result


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x64, rtol", [(False, 1e-4), (True, 1e-9)])
def test_grid_is_the_plain_loop(batch, method, x64, rtol):
    with enable_x64(x64):
        got = np.asarray(log_likelihood_grid(*batch, method=method))
    assert got.shape == (3, 2, 5)
    np.testing.assert_allclose(got, plain_loop(method, *batch), rtol=rtol)


@pytest.mark.parametrize(
    "method, sigma", [("monte_carlo", 0.05), ("monte_carlo", 0.3), ("importance", 0.05), ("importance", 0.1)]
)
def test_sampled_methods_converge_to_the_exact_integral(method, sigma):
    """z-scores of f in units of the estimate's own Monte Carlo error, over 40 keys, at and off the likely mass."""
    ln_lum, z, number = np.log(4300.0), 1.38, 4000
    centre = np.log(RELATION.alpha3) + (ln_lum - RELATION.alpha1 - RELATION.log_evolution(z)) / RELATION.alpha2
    ln_mass = centre + np.linspace(-2, 2, 5) * np.hypot(sigma, RELATION.scatter) / RELATION.alpha2
    normals = np.asarray(jax.random.normal(jax.random.key(0), (40, number)))
    weights = {"monte_carlo": likelihood.monte_carlo_log_weights, "importance": likelihood.importance_log_weights}[
        method
    ]
    function = jax.jit(
        jax.vmap(jax.vmap(weights, (0, None, None, None, None, None)), (None, None, None, None, None, 0))
    )
    w = np.exp(np.asarray(function(ln_mass, z, ln_lum, sigma, ONE, normals), dtype=float))  # (key, mass, lum)
    score = (w.mean(axis=-1) - np.exp(exact(ln_mass, ln_lum, sigma, z))) / (w.std(axis=-1, ddof=1) / np.sqrt(number))
    assert np.abs(score.mean(axis=0)).max() < 5 / np.sqrt(40) and np.abs(score).max() < 6
    assert score.std(axis=0).min() > 0.6 and score.std(axis=0).max() < 1.5
    # the twin: a scatter 10 % off is far outside those errors
    wrong = (w.mean(axis=-1) - np.exp(exact(ln_mass, ln_lum, sigma, z, Relation(scatter=0.17)))) / (
        w.std(axis=-1, ddof=1) / np.sqrt(number)
    )
    assert np.abs(wrong.mean(axis=0)).max() > 5 / np.sqrt(40)


def test_log_likelihood_is_the_ln_mean_of_its_weights():
    normals = np.asarray(jax.random.normal(jax.random.key(1), (50,)))
    args = (30.0, 1.38, np.log(4300.0), 0.05, ONE, normals)
    for method in likelihood.SAMPLED_METHODS:
        w = np.asarray(likelihood.log_weights_at(method, *args[:4], ONE.as_batch(), normals[None]), dtype=float)
        assert float(jax.jit(log_likelihood(method))(*args)) == pytest.approx(np.log(np.exp(w).mean()), rel=1e-5)


def test_error_at_the_true_mass_with_100_luminosities_is_about_9_percent():
    """sigma 0.05, S 0.155: the figure of section 2, over 2,000 objects and five keys."""
    function = jax.jit(jax.vmap(log_likelihood("monte_carlo"), (0, 0, 0, None, None, 0)))
    rng = np.random.default_rng(0)
    ln_mass, z = rng.uniform(25, 32, 2000), rng.uniform(0, 3.5, 2000)
    ln_lum = RELATION.mean_ln_lum(ln_mass, z) + np.hypot(0.05, 0.155) * rng.normal(size=2000)
    medians = []
    for seed in range(5):
        normals = np.asarray(jax.random.normal(jax.random.key(seed), (2000, 100)))
        got = np.asarray(function(ln_mass, z, ln_lum, 0.05, ONE, normals))
        medians.append(np.median(np.abs(np.expm1(got - exact(ln_mass, ln_lum, 0.05, z)))))
    print("median relative errors", np.round(medians, 4))
    assert min(medians) > 0.05 and max(medians) < 0.14


def test_no_support_is_minus_infinity_and_has_no_nan_gradient():
    """All weights underflow: ln of nothing, not NaN."""
    normals = np.zeros(20)
    for method in likelihood.SAMPLED_METHODS:
        value, grad = jax.jit(jax.value_and_grad(log_likelihood(method)))(300.0, 1.0, 8.0, 1e-3, ONE, normals)
        assert value < -1e5 or np.isneginf(value)
        assert not np.isnan(value) and not np.isnan(grad)


# -- other noise --------------------------------------------------------------------------------------------------


def by_trapezoid(ln_mass, ln_lum_obs, sigma, z, relation, ln_p4):
    """ln f by a fine trapezoid in x, ln L = ln mu + S x (S > 0)."""
    x = np.linspace(-12, 12, 200_001)
    ln_lum = relation.mean_ln_lum(ln_mass, z) + relation.scatter * x
    ln_f = stats.norm.logpdf(x) + ln_p4(ln_lum_obs, ln_lum, sigma)
    peak = ln_f.max()
    return peak + np.log(np.trapezoid(np.exp(ln_f - peak), x))


@partial(jax.jit, static_argnums=0)
def by_quadrature(kind, ln_mass, z, ln_lum_obs, sigma, relation):
    function = jax.vmap(log_likelihood("quadrature", kind), (0, None, None, None, None, None))
    return function(ln_mass, z, ln_lum_obs, sigma, relation, jnp.zeros(1))


def ln_normal_noise(ln_lum_obs, ln_lum, sigma):
    lum_obs = np.exp(ln_lum_obs)
    return stats.norm.logpdf(lum_obs, np.exp(ln_lum), sigma * lum_obs)


def ln_upper_limit(ln_lum_obs, ln_lum, sigma):
    return log_ndtr((1 - np.exp(ln_lum - ln_lum_obs)) / sigma)


@pytest.mark.parametrize("kind, ln_p4", [("normal", ln_normal_noise), ("upper_limit", ln_upper_limit)])
@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3, 0.5])
@pytest.mark.parametrize("scatter", [0.02, 0.155, 0.6])
def test_other_noise_by_quadrature(kind, ln_p4, sigma, scatter):
    """Within four total widths of the data, beyond which nothing is left of the posterior."""
    relation = Relation(scatter=scatter)
    mine = MassLuminosityRelation.create(
        **{n: getattr(relation, n) for n in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")}
    )
    ln_lum, z = np.log(4300.0), 1.38
    centre = np.log(relation.alpha3) + (ln_lum - relation.alpha1 - relation.log_evolution(z)) / relation.alpha2
    ln_mass = centre + np.linspace(-4, 4, 9) * np.hypot(sigma, scatter) / relation.alpha2
    with enable_x64(True):
        got = np.asarray(by_quadrature(kind, jnp.asarray(ln_mass), z, ln_lum, sigma, mine))
    expected = np.array([by_trapezoid(m, ln_lum, sigma, z, relation, ln_p4) for m in ln_mass])
    likely = expected > expected.max() - 8
    # linear noise beside a wide scatter is skewed: 2 % of f where f is e^-4 of its peak
    atol = 0.02 if kind == "normal" and scatter == 0.6 else 1e-3
    np.testing.assert_allclose(got[likely], expected[likely], atol=atol)


def test_quadrature_without_scatter_is_the_noise_itself():
    sharp = MassLuminosityRelation.create(alpha1=0.0, alpha2=1.0, alpha3=1.0, scatter=0.0)
    ln_mass = np.linspace(29.7, 30.3, 7)
    for kind, ln_p4 in (
        ("normal", ln_normal_noise),
        ("upper_limit", ln_upper_limit),
        ("lognormal", lambda o, t, s: stats.norm.logpdf(o, t, s) - o),
    ):
        with enable_x64(True):
            got = np.asarray(by_quadrature(kind, jnp.asarray(ln_mass), 1.0, 30.0, 0.1, sharp))
        np.testing.assert_allclose(got, ln_p4(30.0, ln_mass, 0.1), atol=1e-6, err_msg=kind)


# -- diagnostics --------------------------------------------------------------------------------------------------


def pareto_k_reference(log_weights):
    """Zhang & Stephens 2009 with the prior of PSIS, from the papers, in float64."""
    w = np.sort(np.exp(log_weights - log_weights.max()))
    tail = int(min(0.2 * w.size, 3 * np.sqrt(w.size)))
    x = w[-tail:] - w[-tail - 1]
    m = 30 + int(np.sqrt(tail))
    b = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * x[int(tail / 4 + 0.5) - 1])
    k = np.array([np.mean(np.log1p(-one * x)) for one in b])
    length = tail * (np.log(-b / k) - k - 1)
    weight = np.array([1 / np.sum(np.exp(length - one)) for one in length])
    fitted = np.mean(np.log1p(-np.sum(b * weight) * x))
    return (tail * fitted + 5) / (tail + 10)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.8, 1.2])
def test_pareto_k_of_generalised_pareto_weights(k):
    function = jax.jit(likelihood.pareto_k)
    found, expected = [], []
    for seed in range(20):
        log_weights = np.log(stats.genpareto.rvs(k, loc=1e-3, size=4000, random_state=seed))
        found.append(float(function(jnp.asarray(log_weights, dtype=jnp.float32))))
        expected.append(pareto_k_reference(log_weights.astype(np.float32).astype(float)))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    # the prior of PSIS pulls towards 0.5 by 10 / (tail + 10)
    tail = 3 * np.sqrt(4000)
    assert abs(np.mean(found) - (tail * k + 5) / (tail + 10)) < 5 * np.std(found) / np.sqrt(20) + 0.05
    assert (np.mean(found) > 0.7) == (k > 0.7)


def test_pareto_k_of_odd_weights():
    fit = jax.jit(likelihood.pareto_k)
    assert np.isnan(fit(jnp.zeros(20)))  # a tail of four
    assert np.isfinite(fit(jnp.zeros(1000)))  # all equal
    assert np.isfinite(fit(jnp.where(jnp.arange(1000) < 5, 0.0, -jnp.inf)))


def test_effective_sample_size():
    rng = np.random.default_rng(0)
    log_weights = rng.normal(size=500) * 2 - 900  # float32 cannot hold exp(-900)
    w = np.exp(log_weights - log_weights.max())
    assert float(likelihood.effective_sample_size(jnp.asarray(log_weights))) == pytest.approx(
        w.sum() ** 2 / (w**2).sum(), rel=1e-3
    )
    assert float(likelihood.effective_sample_size(jnp.zeros(64))) == pytest.approx(64)
    assert float(likelihood.effective_sample_size(jnp.where(jnp.arange(9) == 3, 0.0, -jnp.inf))) == pytest.approx(1)
    assert float(likelihood.effective_sample_size(jnp.full(9, -jnp.inf))) == 0


@jax.jit
def joint_evidences(keys, z, ln_lum_obs, sigma, relation, prior):
    return jax.vmap(lambda key: likelihood.joint_importance_evidence(key, z, ln_lum_obs, sigma, relation, prior, 2000))(
        keys
    )


@pytest.mark.parametrize("lum_obs, sigma, z", [(4300.0, 0.05, 1.38), (1.2e4, 0.2, 0.3), (3e4, 0.3, 2.0)])
def test_joint_importance_evidence_against_the_exact_one(lum_obs, sigma, z):
    """z-scores over 20 keys in units of sqrt(1/ess - 1/n), the scheme's own error."""
    table = schechter_table()
    prior, reference = MassPrior.from_table(*table), PriorReference(*table, per="mass")
    expected = SingleDraw(reference, np.log(lum_obs), sigma, z, RELATION).log_evidence
    keys = jax.random.split(jax.random.key(5), 20)
    ln_z, ess, k = (np.asarray(a) for a in joint_evidences(keys, z, np.log(lum_obs), sigma, ONE, prior))
    error = np.sqrt(1 / ess - 1 / 2000)
    score = (ln_z - expected + 0.5 * error**2) / error  # the ln of a mean is biased by half its variance
    assert np.all((ess > 50) & (ess < 2000)) and np.all(k < 0.7)
    assert abs(score.mean()) < 5 / np.sqrt(20) and np.abs(score).max() < 6 and 0.5 < score.std() < 1.7
    print(f"scores {score.mean():.2f} +- {score.std():.2f}, ess {ess.mean():.0f}, k {k.max():.2f}")
