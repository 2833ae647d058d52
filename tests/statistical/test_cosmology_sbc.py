"""Is a fit of relation and cosmology calibrated, and is a relation that was fitted under one cosmology found too sure?

Relation and sigma8 are drawn from their priors, masses from the mass function at that sigma8. Under the right model the
distance of the truth from the maximum, by the Hessian there, is chi-square distributed with one degree of freedom for
each free parameter. The twin is what pairing draws of the cosmology with a relation fitted under one of them does: its
normalisation has the error of that fit alone.
"""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import CosmologyDraws, cosmology_with
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.cosmology_data import LikelihoodUnderCosmology
from massmap_jax.relation.cosmology_likelihood import CosmologyLikelihood
from massmap_jax.relation.cosmology_prior import CosmologyPrior
from massmap_jax.relation.search import maximise

pytestmark = pytest.mark.slow
FIELDS, OBJECTS, LEVEL = 24, 240, 1e-5
PIVOT, MIDDLE, Z, LN_LIMIT = 3e14, np.log(2e14), np.array([0.1, 0.3, 0.6, 0.9]), 0.0
FIXED = {"omega_m": 0.3, "h": 0.7, "n_s": 0.96, "omega_b": 0.048}
SIGMA8, SD_LN, NOISE = 0.8, 0.125, 0.1
BELIEFS = {"alpha1": (0.5, 1.0), "alpha2": (1.6, 0.02), "ln_scatter": (np.log(0.4), 0.05)}


def prior_of():
    return MassPrior.from_cosmology(
        cosmology_with(FIXED | {"sigma8": SIGMA8}),
        fit="Tinker08",
        mass_definition="500c",
        redshift=Z,
        log10_mass_range=(13.0, 16.0),
        support="sharp",
    )


def field(prior, seed):
    """True parameters and the score of ln sigma8, ln L_obs, and which redshift each object has."""
    rng = np.random.default_rng([8, seed])
    truth = {name: rng.normal(*belief) for name, belief in BELIEFS.items()} | {"cosmology_1": rng.normal()}
    truth["scatter"] = np.exp(truth.pop("ln_scatter"))
    truth["alpha4"] = 0.0
    own = prior.at_cosmology(cosmology_with(FIXED | {"sigma8": SIGMA8 * np.exp(SD_LN * truth["cosmology_1"])}))
    row = np.repeat(np.arange(Z.size), OBJECTS // Z.size)
    x = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    mean, spread = truth["alpha1"] + truth["alpha2"] * (x - np.log(PIVOT)), np.hypot(truth["scatter"], NOISE)
    ln_mass = np.empty(OBJECTS)
    for i in range(Z.size):
        # Of the objects above the limit.
        density = np.exp(np.interp(x, np.asarray(prior.ln_mass_nodes), np.asarray(own.ln_density)[i]))
        density = density * ndtr((mean - LN_LIMIT) / spread)
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        ln_mass[row == i] = np.interp(rng.uniform(0, cdf[-1], (row == i).sum()), cdf, x)
    mean = np.interp(ln_mass, x, mean)
    above = rng.uniform(0, 1, OBJECTS) * ndtr((mean - LN_LIMIT) / spread)
    return truth, np.maximum(mean - spread * ndtri(above), LN_LIMIT), row


def likelihood_of(prior, ln_lum, row):
    """The likelihood of the objects themselves, in arrays of one size for all fields: compiled once."""
    cells = np.arange(Z.size)
    return CosmologyLikelihood(
        ln_lum, np.full(OBJECTS, NOISE), np.ones(OBJECTS), row, Z, cells, np.full(Z.size, NOISE),
        np.full(Z.size, OBJECTS / Z.size), 0.0, prior, FluxLimit(np.exp(LN_LIMIT)), OBJECTS,
    )  # fmt: skip


def beliefs(free):
    """Prior of the relation, and of sigma8; the twin's has next to no width, in the same form."""
    scores = np.random.default_rng(0).standard_normal(100)
    scores = (scores - scores.mean()) / scores.std()
    width = SD_LN if free else 1e-3
    draws = CosmologyDraws.from_arrays(sigma8=SIGMA8 * np.exp(width * scores), **FIXED)
    relation = RelationPrior(
        {
            "alpha1": dist.Normal(*BELIEFS["alpha1"]),
            "alpha2": dist.Normal(*BELIEFS["alpha2"]),
            "alpha4": 0.0,
            "scatter": dist.LogNormal(*BELIEFS["ln_scatter"]),
        },
        alpha3=PIVOT,
    )
    return CosmologyPrior.of(relation, CosmologyBelief.of(draws))


def p_value(free=True, key=0, fields=FIELDS):
    """p of the summed distances of all fields: of all parameters, or, for the twin, of the normalisation."""
    total, freedom = 0.0, 0
    with jax.enable_x64(True):
        prior, both = prior_of(), beliefs(free)
        # The draws' mean is that of ln: the belief is the one that the truths are drawn from.
        coordinates = Coordinates.at(both, MIDDLE, 0.0)
        for seed in range(key * FIELDS, key * FIELDS + fields):
            truth, ln_lum, row = field(prior, seed)
            likelihood = LikelihoodUnderCosmology(likelihood_of(prior, ln_lum, row), None)
            best = maximise(coordinates, likelihood, coordinates.place(both.central()))
            assert float(best.decrement) < 1e-2
            kept = [p == "alpha1" or free for p in coordinates.free]
            away = (np.asarray(coordinates.place(truth)) - np.asarray(best.x))[kept]
            covariance = np.linalg.inv(np.asarray(best.hessian))[np.ix_(kept, kept)]
            total += away @ np.linalg.solve(covariance, away)
            freedom += away.size
    return 2 * min(chi2.sf(total, freedom), chi2.cdf(total, freedom))


def test_right_model():
    p = p_value()
    assert p > LEVEL


def test_a_relation_fitted_under_one_cosmology_is_found_too_sure():
    p = p_value(free=False)
    assert p < LEVEL
