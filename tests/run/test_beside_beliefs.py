"""A wrong unit is refused before a fit, where the beliefs about the relation leave no doubt of it."""

import numpy as np
import pytest

from massmap_jax import MassPrior, RelationPrior
from massmap_jax.run.beside_beliefs import far_from_beliefs

TIGHT = "alpha1=0.6:0.5, alpha2=1.6:0.3, alpha4=1:0.5, scatter=0.3:0.1, alpha3=3e14"
LOOSE = "alpha1=0:10, alpha2=1.6:0.5, alpha4=1:0.5, scatter=0.3:0.1, alpha3=3e14"
Z = np.full(21, 0.2)
LN_MASS = np.linspace(np.log(1e14), np.log(6e14), 21)
LN_LUM = 0.6 + 1.6 * (LN_MASS - np.log(3e14)) + np.log1p(Z) + 0.3 * np.sin(np.arange(21.0))


@pytest.mark.parametrize(
    ("beliefs", "factor", "word"),
    [
        (TIGHT, 1.0, ""),
        (TIGHT, 10.0, ""),
        (TIGHT, 1e3, "1,000 times brighter"),
        (TIGHT, 1e-3, "1,000 times fainter"),
        (TIGHT, 1e44, "e+44 times brighter"),
        (TIGHT, 1e-44, "e+44 times fainter"),
        (LOOSE, 1e3, ""),
        (LOOSE, 1e44, "e+44 times brighter"),
    ],
)
def test_beside_measured_masses(beliefs, factor, word):
    """Twins: the right unit, a factor that beliefs leave open, and beliefs that leave any open."""
    believed = RelationPrior.parse(beliefs)
    told = far_from_beliefs(LN_LUM + np.log(factor), Z, believed, MassPrior.default(), LN_MASS)
    assert word in told and bool(word) == bool(told) and "\n" not in told
    # A few unusual objects among them change nothing, nor do rows without a measured mass.
    some = np.where(np.arange(21) % 2, np.nan, LN_MASS)
    odd = np.where(np.arange(21) < 4, 30.0, LN_LUM + np.log(factor))
    assert bool(far_from_beliefs(odd, Z, believed, MassPrior.default(), some)) == bool(word)


@pytest.mark.parametrize(
    ("beliefs", "factor", "word"),
    [
        (TIGHT, 1.0, ""),
        (TIGHT, 1e2, ""),
        (TIGHT, 1e-4, ""),  # of halos of 1e12 Msun, which there are
        (TIGHT, 1e6, "times brighter"),
        (TIGHT, 1e44, "times brighter"),
        (TIGHT, 1e-44, "times fainter"),
        (LOOSE, 1e6, ""),
        (TIGHT.replace("1.6:0.3", "-1.6:0.3"), 1e4, ""),
        (TIGHT.replace("1.6:0.3", "-1.6:0.3"), 1e44, "times brighter"),
    ],
)
def test_without_measured_masses_those_of_the_prior_count(beliefs, factor, word):
    told = far_from_beliefs(LN_LUM + np.log(factor), Z, RelationPrior.parse(beliefs), MassPrior.default())
    assert word in told and bool(word) == bool(told)


def test_the_distance_is_the_beliefs_own():
    """In standard deviations, against the sum of variances by hand."""
    far = far_from_beliefs(LN_LUM + 12.0, Z, RelationPrior.parse(TIGHT), MassPrior.default(), LN_MASS)
    x = np.median(np.abs(LN_MASS - np.log(3e14)))
    width = np.sqrt(0.5**2 + (0.3 * x) ** 2 + (0.5 * np.log(1.2)) ** 2 + 0.3**2)
    assert f" {12.0 / width:.0f} standard deviations" in far
    assert far_from_beliefs(np.array([]), np.array([]), RelationPrior.parse(TIGHT), MassPrior.default()) == ""
