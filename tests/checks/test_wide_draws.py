"""`prior_check` of a fit that rests on a part of the objects: wide draws are no misfit, and a misfit is still seen."""

import numpy as np
import pytest
from scipy.special import ndtr

from massmap_jax.checks.bins import equal_parts, p_values
from massmap_jax.checks.prior_check import _of_every_draw

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
