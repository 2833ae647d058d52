"""Is the fit with mass likelihoods of 200 objects calibrated, and is a wrong error of these masses noticed?

Relation and bias are drawn from their priors, masses from the raw table in plain NumPy. Under the right model the
distance of the truth from the maximum, by the Hessian there, is chi-square distributed with one degree of freedom for
each free parameter.
"""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.stats import chi2

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.extra import BiasedPrior, ExtraEvidence
from massmap_jax.relation.fit import find_maximum

pytestmark = pytest.mark.slow
TABLE = schechter_table()
REFERENCE, PIVOT = PriorReference(*TABLE, per="mass"), np.exp(29.0)
FIELDS, OBJECTS, LENSED, LEVEL = 20, 2000, 200, 1e-5
BELIEFS = {"alpha1": (1.0, 0.5), "alpha2": (0.8, 0.15), "scatter": (0.4, 0.05)}
BIAS_SD, ERROR, MASS_SCATTER = 0.3, 0.2, 0.4
NODES = np.linspace(10.0, 48.0, 77)


def field(seed):
    """True parameters, ln L_obs, z, and ln M_WL of the lensed objects (NaN elsewhere)."""
    rng = np.random.default_rng([7, seed])
    truth = {name: rng.normal(*belief) for name, belief in BELIEFS.items()} | {"extra_bias": rng.normal(0.0, BIAS_SD)}
    z = np.repeat(np.linspace(0.2, 1.2, 10), OBJECTS // 10)
    ln_mass = np.asarray(REFERENCE.sample(rng, z))
    mean = truth["alpha1"] + truth["alpha2"] * (ln_mass - np.log(PIVOT))
    ln_lum = mean + rng.normal(0.0, np.hypot(truth["scatter"], 0.1), z.size)
    measured = np.full(z.size, np.nan)
    chosen = rng.choice(z.size, LENSED, replace=False)
    noise = rng.normal(0.0, np.hypot(ERROR, MASS_SCATTER), LENSED)
    measured[chosen] = ln_mass[chosen] + truth["extra_bias"] + noise
    return truth, ln_lum, z, measured


def p_value(fault=None, fields=FIELDS):
    """p of the summed distances of the fields; `fault` is what the analysis leaves out."""
    relation_prior = RelationPrior(
        {"alpha4": 0.0} | {name: dist.Normal(*belief) for name, belief in BELIEFS.items()}, alpha3=PIVOT
    )
    prior = MassPrior.from_table(*TABLE)
    width = ERROR if fault == "scatter" else np.hypot(ERROR, MASS_SCATTER)
    # A fixed bias is a belief without width, with one number for all fields.
    bias = dist.Normal(0.0, 1e-3 if fault == "bias" else BIAS_SD)
    total, freedom = 0.0, 0
    with jax.enable_x64(True):
        for seed in range(fields):
            truth, ln_lum, z, measured = field(seed)
            catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
            extra = TabulatedTerm(NODES, -0.5 * ((NODES - measured[:, None]) / width) ** 2)
            data = CatalogueData(catalogue, prior)
            data.extra = ExtraEvidence.of(catalogue, data.rows, data.prior, extra)
            coordinates, _, best = find_maximum(data, BiasedPrior.of(relation_prior, bias))
            # Along the bias the twin has no freedom: the other parameters are compared, marginalised.
            kept = [p != "extra_bias" for p in coordinates.free]
            away = (np.asarray(coordinates.place(truth)) - np.asarray(best.x))[kept]
            covariance = np.linalg.inv(np.asarray(best.hessian))[np.ix_(kept, kept)]
            total += away @ np.linalg.solve(covariance, away)
            freedom += away.size
    return 2 * min(chi2.sf(total, freedom), chi2.cdf(total, freedom))


def test_right_model():
    p = p_value()
    assert p > LEVEL


@pytest.mark.parametrize("fault", ["scatter", "bias"])
def test_a_scatter_or_a_bias_that_is_left_out_is_noticed(fault):
    p = p_value(fault, FIELDS if fault == "bias" else FIELDS // 2)
    assert p < LEVEL
