"""`prior_check` of a fit that rests on a part of the objects: wide draws are no misfit, and a misfit is still seen."""

import jax
import numpy as np
import pytest
from scipy.special import ndtr

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.bins import equal_parts, p_values
from massmap_jax.checks.prior_check import _of_every_draw, prior_check
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws
from massmap_jax.relation.calibrated import CalibratedRelation
from massmap_jax.relation.law import MassLuminosityRelation

OBJECTS, CALIBRATORS, DRAWS, UNIVERSES = 400, 40, 16, 60


def p_of_universe(key, spread=1.0):
    """The p value of the check, and that of PITs averaged over the draws, for objects about a mean that few tell."""
    rng = np.random.default_rng(key)
    observed = spread * rng.normal(size=OBJECTS)
    error = 1 / np.sqrt(CALIBRATORS)
    draws = rng.normal(observed[:CALIBRATORS].mean(), error, DRAWS)
    pit = ndtr(observed - draws[:, None])
    which, shares = equal_parts(rng.uniform(size=OBJECTS), 4), np.full(DRAWS, 1 / DRAWS)
    return _of_every_draw(pit, which, 4, shares).p_value, p_values(shares @ pit, which, 4)[2]


def test_wide_draws_are_no_false_alarm():
    """A valid p value is below 0.01 in one of 100: 6 of 60 have a probability of 4e-5. The twin averages first."""
    found = np.array([p_of_universe(key) for key in range(UNIVERSES)])
    assert (found[:, 0] < 0.01).sum() < 6
    assert (found[:, 1] < 0.01).sum() > 10


@pytest.mark.parametrize("spread", [0.6, 1.6])
def test_a_misfit_is_seen(spread):
    """Luminosities that are spread less or more widely than predicted."""
    assert max(p_of_universe(key, spread)[0] for key in range(10)) < 1e-4


def fits_to(calibrators, prior, rng, draws):
    """A relation whose slope and population are known, and whose normalisation and scatter some calibrators tell."""
    errors = 1 / np.sqrt(calibrators) * np.array([0.45, 0.3])
    about = errors * rng.normal(size=2)
    alpha1, scatter = (about + errors * rng.normal(size=(draws, 2))).T
    relation = MassLuminosityRelation(alpha1=alpha1, alpha2=1.0, alpha4=0.0, scatter=0.3 + scatter, alpha3=1e14)
    values = {"centre": np.full(draws, np.log(1e14)), "width": np.full(draws, 0.3)}
    base = Lattice.of(prior)
    population = jax.vmap(lambda v: PopulationDraws.of(Population.gaussian(drift=False), v, 0.4, base))(values)
    measured = {"bias": 0.0, "mass_scatter": 0.1, "correlation": 0.0}
    return CalibratedRelation.joined(relation, measured, population)


def test_a_fit_to_few_objects_is_compared_with_few():
    """A right fit to 60 of 3,000 objects is no misfit, and one whose objects are half as bright is.

    The twin is the same fit, said to be one of all objects: its error is a misfit to them.
    """
    prior, found = MassPrior.default(), []
    for key in range(6):
        rng = np.random.default_rng(key)
        ln_lum = rng.normal(0.0, np.sqrt(0.3**2 + 0.3**2 + 0.1**2), 3000)
        objects = HaloCatalogue.from_arrays(
            luminosity=np.exp(ln_lum), redshift=rng.uniform(0.2, 0.6, 3000), sigma_ln_luminosity=0.1
        )
        relation = fits_to(60, prior, rng, 4)
        by_few = relation.with_source("fitted to 60 objects, 60 with measured masses, laplace")
        by_all = relation.with_source("fitted to 3000 objects, 60 with measured masses, laplace")
        found.append([prior_check(objects, prior, r).p_value for r in (by_few, by_all)])
    faint = HaloCatalogue.from_arrays(
        luminosity=0.5 * np.exp(ln_lum), redshift=objects.redshift, sigma_ln_luminosity=0.1
    )
    check = prior_check(faint, prior, by_few)
    assert check.p_value < 1e-4
    assert check.not_compared == 2940
    assert "2,940 other objects" in check.summary()
    found = np.array(found)
    assert found[:, 0].min() > 1e-3
    assert (found[:, 1] < 1e-4).sum() >= 3
