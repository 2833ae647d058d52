"""Are measured stacks of shear distributed as the fit takes them, and are wrong models of the lensing noticed?

Masses, luminosities, lensing masses, concentrations and shears are drawn in plain NumPy. Under the relation that they
were drawn from, the squared distance of the stacks from their predicted mean, by the predicted covariance, is
chi-square distributed with one degree of freedom for each bin.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import shear_reference as slow
from reference.prior_reference import PriorReference
from scipy.stats import chi2

import massmap_jax as mm
from massmap_jax.relation.stack_evidence import StackEvidence, evidence_of

pytestmark = pytest.mark.slow
FIELDS, OBJECTS, STACKS, LEVEL = 12, 1200, 4, 1e-5
RADIUS, SOURCE = np.geomspace(0.3, 3.0, 5), 1.0
ERROR = np.array([6.0, 5.0, 4.0, 3.0, 2.0]) * 1e-4
LAW = {"alpha1": 3.0, "alpha2": 1.0, "scatter": 0.35, "alpha3": 6e14}
SETTINGS = {"scatter": 0.2, "concentration_scatter": 0.345}
MASS, REDSHIFTS = np.geomspace(3e14, 6e15, 80), np.array([0.15, 0.35, 0.55])
TABLE = (REDSHIFTS, MASS, np.stack([MASS**-0.9 * np.exp(-((MASS / (4e14 * (1 - 0.3 * z))) ** 0.8)) for z in REDSHIFTS]))


def field(seed):
    """Luminosities, redshifts, members of stacks by luminosity, their weights, and the stacks' shears."""
    rng = np.random.default_rng([11, seed])
    z = np.repeat(np.linspace(0.2, 0.5, 10), OBJECTS // 10)
    ln_mass = np.asarray(PriorReference(*TABLE, per="ln_mass").sample(rng, z))
    mean = LAW["alpha1"] + LAW["alpha2"] * (ln_mass - np.log(LAW["alpha3"]))
    ln_lum = mean + rng.normal(0.0, np.hypot(LAW["scatter"], 0.1), z.size)
    members = np.empty(z.size, dtype=int)
    members[np.argsort(-ln_lum)] = np.arange(z.size) * STACKS // z.size
    own = slow.drawn_shears(rng, RADIUS, ln_mass, z, SOURCE, *SETTINGS.values())
    weight = rng.uniform(0.5, 1.5, z.size)
    shear = [np.average(own[members == stack], axis=0, weights=weight[members == stack]) for stack in range(STACKS)]
    return ln_lum, z, members, weight, np.array(shear) + rng.normal(0.0, ERROR, (STACKS, RADIUS.size))


@jax.jit
def squares(evidence, relation, prior):
    mean, covariance = StackEvidence.predict(evidence, relation, prior)
    away = jnp.asarray(evidence.term.shear) - mean
    return jnp.einsum("sa,sa->", away, jnp.linalg.solve(covariance, away[..., None])[..., 0])


def p_value(error=1.0, law=None, **fault):
    """p of the squares of all fields; the arguments are what the analysis has wrong."""
    prior = mm.MassPrior.from_table(*TABLE, per="ln_mass", support="sharp", mass_definition="200m")
    total = 0.0
    with jax.enable_x64(True):
        relation = mm.MassLuminosityRelation(**LAW | (law or {}))
        for seed in range(FIELDS):
            ln_lum, z, members, weight, shear = field(seed)
            catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
            stacks = mm.StackedShear.from_arrays(
                members, RADIUS, shear, error=ERROR * error, source_redshift=SOURCE, weight=weight
            )
            term = stacks.signals(catalogue, prior, **SETTINGS | fault)
            total += float(squares(evidence_of(catalogue, np.arange(OBJECTS), prior, term), relation, prior))
    number = FIELDS * STACKS * RADIUS.size
    return 2 * min(chi2.sf(total, number), chi2.cdf(total, number))


def test_right_model():
    p = p_value()
    assert p > LEVEL


@pytest.mark.parametrize(
    "wrong",
    [
        {"scatter": 0.0, "concentration_scatter": 0.0},
        {"reduced": False},
        {"error": 0.5},
        {"law": {"scatter": 0.05}},
    ],
)
def test_a_wrong_model_is_noticed(wrong):
    """No scatter of the profiles, shear for reduced shear, errors half as large, masses as if luminosity told them."""
    p = p_value(**wrong)
    assert p < LEVEL
