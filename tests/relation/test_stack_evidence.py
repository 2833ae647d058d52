"""Stacked shear profiles in the fit of a relation, against plain NumPy on a fine grid of masses for each member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mass_likelihood_reference as slow
from reference import shear_reference
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.stats import multivariate_normal

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.extra import BiasedRelation
from massmap_jax.relation.fitted import fitted_without_masses
from massmap_jax.relation.stack_evidence import evidence_of

TABLE = schechter_table()
PRIOR, SLOW_PRIOR = mm.MassPrior.from_table(*TABLE, mass_definition="200m"), PriorReference(*TABLE, per="mass")
RADIUS, SOURCES, SCATTER, SCATTER_C = np.array([0.2, 0.5, 1.2]), 1.6, 0.2, 0.345
LN_LUM = np.log([900.0, 4300.0, 1.2e4, 2e4, 3e3])
Z, SIGMA = np.array([0.2, 0.7, 1.1, 0.41, 0.9]), np.array([0.05, 0.1, 0.3, 0.1, 0.2])
CATALOGUE = mm.HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA)
MEMBERS, WEIGHT = np.array([1, 0, 0, -1, 0]), np.array([1.0, 2.0, 1.0, 7.0, 0.5])
# The errors are of the size of the members' spread, and correlated.
COVARIANCE = 1e-8 * (np.eye(3) + 0.3)
SHEAR = np.array([[7e-4, 1e-4, 1e-4], [2.5e-4, np.nan, 3e-5]])
PARAMETERS = dict(alpha1=10.7, alpha2=0.36, scatter=0.15, alpha3=2.35e14, alpha4=1.1)
NORMAL = np.linspace(-5, 5, 41)
SHARE = np.exp(-0.5 * NORMAL**2) / np.exp(-0.5 * NORMAL**2).sum()


def stacked(**changed):
    arguments = {"covariance": COVARIANCE, "source_redshift": SOURCES, "weight": WEIGHT} | changed
    stacks = mm.StackedShear.from_arrays(MEMBERS, RADIUS, SHEAR, **arguments)
    return stacks.signals(CATALOGUE, PRIOR, scatter=SCATTER)


def of_member(i, parameters, bias):
    """Mean and covariance of the shear about one object, by sums over its mass, lensing mass and concentration."""
    grid = np.linspace(SLOW_PRIOR.ln_mass[0], SLOW_PRIOR.ln_mass[-1], 20_001)
    ln_p = slow.ln_joint(SLOW_PRIOR, Relation(**parameters), LN_LUM[i], SIGMA[i], Z[i], np.zeros_like, grid)
    p = np.exp(ln_p - ln_p.max())
    kept = p > 1e-9
    coarse = np.linspace(grid[kept][0], grid[kept][-1], 301)
    p = np.interp(coarse, grid, p)
    p /= p.sum()
    ln_mass = np.clip(coarse + bias, np.log(1e11), None)[:, None, None] + SCATTER * NORMAL[:, None]
    ln_c = shear_reference.mean_ln_c(ln_mass, Z[i]) + SCATTER_C * NORMAL
    g = shear_reference.reduced_shear(RADIUS, ln_mass * np.ones(41), ln_c, Z[i], SOURCES)
    weights = p[:, None, None] * SHARE[:, None] * SHARE
    mean = np.einsum("mtc,mtca->a", weights, g)
    return mean, np.einsum("mtc,mtca,mtcb->ab", weights, g, g) - np.outer(mean, mean)


def expected_of(parameters, bias):
    """Mean, covariance and ln density of both stacks."""
    found = []
    for stack, bins in ((0, [0, 1, 2]), (1, [0, 2])):
        rows = np.flatnonzero(stack == MEMBERS)
        share = WEIGHT[rows] / WEIGHT[rows].sum()
        members = [of_member(i, parameters, bias) for i in rows]
        mean = sum(w * m for w, (m, _) in zip(share, members, strict=True))[bins]
        spread = sum(w**2 * c for w, (_, c) in zip(share, members, strict=True))
        covariance = (COVARIANCE + spread)[np.ix_(bins, bins)]
        found.append((mean, covariance, multivariate_normal(mean, covariance).logpdf(SHEAR[stack, bins])))
    return found


@pytest.mark.parametrize("changes", [{}, {"alpha1": 10.2, "alpha2": 0.5, "scatter": 0.3, "extra_bias": -0.2}])
def test_mean_covariance_and_density(changes):
    parameters = PARAMETERS | {name: value for name, value in changes.items() if name != "extra_bias"}
    relation = BiasedRelation(**PARAMETERS | changes)
    expected = expected_of(parameters, changes.get("extra_bias", 0.0))
    with jax.enable_x64(True):
        data = CatalogueData(CATALOGUE, PRIOR)
        evidence = evidence_of(CATALOGUE, data.rows, data.prior, stacked())
        mean, covariance = (np.asarray(a) for a in evidence.predict(relation, data.prior))
        value = float(evidence(relation, data.prior))
    for stack, bins in ((0, [0, 1, 2]), (1, [0, 2])):
        sd = np.sqrt(np.diag(expected[stack][1]))
        # A parabola holds redshifts from 0.7 to 1.1: 2e-3 of the shear.
        np.testing.assert_allclose(mean[stack][bins], expected[stack][0], atol=0.01 * sd.min())
        np.testing.assert_allclose(covariance[stack][np.ix_(bins, bins)], expected[stack][1], rtol=3e-3, atol=1e-8)
    assert value == pytest.approx(sum(ln for *_, ln in expected), abs=0.02)
    assert expected[0][1][0, 0] > 1.1 * COVARIANCE[0, 0], "the spread of the members counts"


def test_gradient():
    with jax.enable_x64(True):
        evidence = evidence_of(CATALOGUE, np.arange(5), PRIOR, stacked())

        @jax.jit
        def value(x):
            relation = BiasedRelation(**PARAMETERS | {"alpha1": x[0], "scatter": x[1], "extra_bias": x[2]})
            return evidence(relation, PRIOR)

        x, step = jnp.array([10.6, 0.2, 0.05]), 1e-4
        gradient = jax.jit(jax.grad(value))(x)
        for i in range(3):
            at = [float(value(x.at[i].add(sign * step))) for sign in (1, -1)]
            assert float(gradient[i]) == pytest.approx((at[0] - at[1]) / (2 * step), rel=2e-3, abs=2e-3)


def test_linear_noise_of_the_members():
    """With errors of 2 % linear and lognormal noise are nearly the same."""
    plain = mm.HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=0.02)
    linear = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=0.02, noise_kind="normal"
    )
    relation = mm.MassLuminosityRelation(**PARAMETERS)
    with jax.enable_x64(True):
        found = []
        for catalogue in (plain, linear):
            evidence = evidence_of(catalogue, np.arange(5), PRIOR, stacked())
            found.append(float(evidence(relation, PRIOR)))
    assert found[0] == pytest.approx(found[1], abs=0.02)


def test_refused_in_one_sentence():
    rows = np.arange(1, 5)
    with pytest.raises(MassmapError, match="1 of 4 members of stacks are not fitted, the first is row 0"):
        evidence_of(CATALOGUE, rows, PRIOR, stacked())
    with pytest.raises(MassmapError, match="the stacks were made for 5 rows and the catalogue has 4"):
        evidence_of(CATALOGUE.subset(rows), np.arange(4), PRIOR, stacked())


def test_a_fit_tells_of_its_stacks():
    """Shears a hundred times too large are told: no relation within its prior makes them."""
    beliefs = mm.RelationPrior.parse("alpha1=10.7:0.1,alpha2=0.36,alpha4=1.1,scatter=0.15,alpha3=2.35e14")
    fit = mm.fit_relation(CATALOGUE, PRIOR, beliefs, extra=stacked(), num_draws=50)
    assert fit.diagnostics["stacks"] == 2 and fit.diagnostics["in_stacks"] == 4
    assert not fitted_without_masses(fit.maximum)  # so prior_check does not say that it was
    assert fit.diagnostics["stacks_p"] > 1e-3 and "4 of them in 2 stacks of shear" in fit.summary()
    wrong = mm.StackedShear.from_arrays(
        MEMBERS, RADIUS, 100 * SHEAR, covariance=COVARIANCE, source_redshift=SOURCES, weight=WEIGHT
    ).signals(CATALOGUE, PRIOR, scatter=SCATTER)
    told = mm.fit_relation(CATALOGUE, PRIOR, beliefs, extra=wrong, num_draws=50)
    assert any("the fitted shear of the stacks is far from the measured one" in note for note in told.notes)
