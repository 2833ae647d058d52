"""Which weights mix the relation draws: each choice is right in its own setting, and wrong in the other.

Fields of 5 objects share one relation, whose alpha1 is known only to +-0.4 (18 times the 2017 width). What is known is
NUM_DRAWS equally likely values, and each field's truth is one of them, so that the mixture has no Monte Carlo error
and the right answer is exactly calibrated.

External draws (`other_data`): one object's posterior weighs a draw by that object's evidence Z_k. With equal weights
(`fixed_draws`) the object does not update the draws, and the PIT over objects fails.

Draws inferred with the field's own objects (`this_catalogue`): the draws weigh exp(log_weight), here the product of
the field's 5 evidences from the reference. Weighing them by Z_k again counts the luminosity of object k twice.

The objects of a field share an error: the field is the unit, and a statistic is a sum over the field's objects,
divided by its own scatter over fields.
"""

import numpy as np
import pytest
from reference.posterior_reference import Relation, SingleDraw
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp, ndtri
from scipy.stats import norm

from massmap_jax.posterior.mass_posterior import mass_posterior
from statistical.universe import (
    NUM_KEYS,
    REFERENCE,
    SIGMA,
    TRUTH,
    catalogue,
    package_prior,
    package_relation,
    posterior_of,
    report,
)

NUM_DRAWS, NUM_HALOS = 8, 5
ALPHA1 = TRUTH.alpha1 + 0.4 * ndtri((np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS)
REDSHIFTS = (0.45, 1.3, 2.2)
LEVEL = 0.01


@pytest.fixture(scope="module")
def ln_evidence():
    """ln Z(ln L_obs, z) for every draw, (..., draw): the exact cells on nodes, splined in what they depend on."""
    offset = np.linspace(-9.0, 9.0, 600)  # ln L_obs less alpha1
    splines = {
        z: CubicSpline(
            offset, [SingleDraw(REFERENCE, x, SIGMA, z, Relation(alpha1=0.0)).log_evidence + x for x in offset]
        )
        for z in REDSHIFTS
    }

    def evaluate(ln_lum_obs, z):
        return splines[z](ln_lum_obs[..., None] - ALPHA1) - ln_lum_obs[..., None]

    exact = SingleDraw(REFERENCE, 8.123, SIGMA, 1.3, Relation(alpha1=ALPHA1[3])).log_evidence
    assert evaluate(np.array(8.123), 1.3)[3] == pytest.approx(exact, abs=1e-4)
    return evaluate


def simulate_fields(rng, number):
    """(ln M, ln L_obs, z): (field, halo) twice, (field,). One redshift and one draw of alpha1 for a field."""
    z = rng.choice(REDSHIFTS, number)
    alpha1 = rng.choice(ALPHA1, number)
    ln_mass = REFERENCE.sample(rng, np.repeat(z, NUM_HALOS)).reshape(number, NUM_HALOS)
    mean = alpha1[:, None] + TRUTH.alpha2 * (ln_mass - np.log(TRUTH.alpha3)) + TRUTH.alpha4 * np.log1p(z)[:, None]
    noise = np.hypot(TRUTH.scatter, SIGMA) * rng.standard_normal(ln_mass.shape)
    return ln_mass, mean + noise, z


def t_of_fields(per_field):
    """Mean over fields in its own standard errors: N(0, 1) where the expectation of each field is 0."""
    return per_field.sum() / np.sqrt((per_field**2).sum())


def of_each_draw(ln_mass, ln_lum_obs, z):
    """CDF at the true mass and ln Z, (object, draw): the package's answer to each draw by itself."""
    fewest = {"quantile_levels": (0.5,)}  # none is used
    parts = [posterior_of(ln_lum_obs, z, package_relation(alpha1=alpha1), **fewest) for alpha1 in ALPHA1]
    return np.stack([p.cdf(ln_mass) for p in parts], axis=-1), np.stack([p.log_evidence for p in parts], axis=-1)


def pit_of_mixture(cdf, ln_z, ln_weight, relation_from):
    """PIT of the mixture: what the package's own mixture is held against below, and then stands for."""
    ln_share = ln_weight + ln_z if relation_from == "other_data" else ln_weight + 0 * ln_z
    return (cdf * np.exp(ln_share - logsumexp(ln_share, axis=-1, keepdims=True))).sum(axis=-1)


@pytest.mark.slow
def test_external_draws_are_weighed_by_each_object():
    number = 200
    fields = [simulate_fields(np.random.default_rng([key, 1]), number) for key in range(NUM_KEYS)]
    ln_mass, ln_lum_obs, z = (np.concatenate([f[i] for f in fields]) for i in range(3))
    z = np.repeat(z, NUM_HALOS)
    cdf, ln_z = of_each_draw(ln_mass.ravel(), ln_lum_obs.ravel(), z)
    pits = {which: pit_of_mixture(cdf, ln_z, 0.0, which) for which in ("other_data", "fixed_draws")}
    some = np.arange(0, z.size, 97)
    for which, pit in pits.items():
        posterior = posterior_of(
            ln_lum_obs.ravel()[some], z[some], package_relation(alpha1=ALPHA1), relation_from=which
        )
        np.testing.assert_allclose(posterior.cdf(ln_mass.ravel()[some]), pit[some], atol=2e-4)

    def p_value(key, relation_from):
        of_key = slice(key * number, (key + 1) * number)
        luminosity = ln_lum_obs[of_key]
        pit = pits[relation_from].reshape(ln_mass.shape)[of_key] - 0.5
        # mean and spread of the PIT in thirds of L_obs
        third = np.argsort(np.argsort(luminosity.ravel())).reshape(luminosity.shape) * 3 // luminosity.size
        t = [
            t_of_fields(np.where(third == i, moment, 0.0).sum(axis=1))
            for i in range(3)
            for moment in (pit, pit**2 - 1 / 12)
        ]
        return min(1.0, len(t) * 2 * norm.sf(np.abs(t).max()))

    right = [p_value(key, "other_data") for key in range(NUM_KEYS)]
    wrong = {"equal weights (fixed_draws)": [p_value(key, "fixed_draws") for key in range(NUM_KEYS)]}
    false_alarms, power = report(f"external draws, {number} fields of {NUM_HALOS}", right, wrong, LEVEL)
    assert false_alarms <= 3  # of 20 at 0.01: p = 4e-5 for more
    assert min(power.values()) >= 0.99


@pytest.mark.slow
def test_draws_inferred_with_the_objects_are_not_weighed_again(ln_evidence):
    number = 300
    prior = package_prior()
    fields = [simulate_fields(np.random.default_rng([key, 2]), number) for key in range(NUM_KEYS)]
    ln_mass, ln_lum_obs, z = (np.concatenate([f[i] for f in fields]) for i in range(3))
    # The draws' weights: the product of the field's evidences, from the reference.
    exact = np.stack([ln_evidence(one, at) for one, at in zip(ln_lum_obs, z, strict=True)])  # (field, halo, draw)
    log_weight = exact.sum(axis=1)
    log_weight = log_weight - logsumexp(log_weight, axis=1, keepdims=True)
    # Counting Z_k twice moves alpha1 by its covariance with ln Z_k, and ln M_k the other way: the PIT is weighed by
    # that, which depends on the data alone, so a calibrated answer has expectation 0.
    weight = np.exp(log_weight)[:, None]
    pull = (exact * ALPHA1 * weight).sum(-1) - (exact * weight).sum(-1) * (ALPHA1 * weight).sum(-1)
    cdf, ln_z = of_each_draw(ln_mass.ravel(), ln_lum_obs.ravel(), np.repeat(z, NUM_HALOS))
    shape = (*ln_mass.shape, NUM_DRAWS)
    pits = {
        which: pit_of_mixture(cdf.reshape(shape), ln_z.reshape(shape), log_weight[:, None], which)
        for which in ("this_catalogue", "other_data")
    }
    for field in range(0, len(z), 300):
        relation = package_relation(alpha1=ALPHA1, log_weight=log_weight[field])
        objects = catalogue(ln_lum_obs[field], np.full(NUM_HALOS, z[field]))
        for which, pit in pits.items():
            found = mass_posterior(objects, prior, relation, relation_from=which, chunk_size=10).cdf(ln_mass[field])
            np.testing.assert_allclose(found, pit[field], atol=2e-4)

    def p_value(key, which):
        of_key = slice(key * number, (key + 1) * number)
        return 2 * norm.sf(abs(t_of_fields((pull * (pits[which] - 0.5)).sum(axis=1)[of_key])))

    right = [p_value(key, "this_catalogue") for key in range(NUM_KEYS)]
    wrong = {"Z_k weights again (other_data)": [p_value(key, "other_data") for key in range(NUM_KEYS)]}
    false_alarms, power = report(f"draws of the field itself, {number} fields of {NUM_HALOS}", right, wrong, LEVEL)
    assert false_alarms <= 3  # of 20 at 0.01: p = 4e-5 for more
    assert min(power.values()) >= 0.99
