"""Are masses from shear profiles calibrated over mock clusters, and are wrong models of the lensing noticed?

Masses, lensing masses, concentrations and shears are drawn in plain NumPy from what the likelihood assumes. With the
masses' own distribution as prior, the probability below the true mass is uniform; as normal scores, their sum has the
variance of their number, and the sum of their squares is chi-square distributed.
"""

import numpy as np
import pytest
from reference import shear_reference as slow
from scipy.stats import binom, chi2, norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.shear import ShearProfiles
from massmap_jax.prior.mass_prior import MassPrior

pytestmark = pytest.mark.slow
EACH, REDSHIFTS, SOURCES, LEVEL = 400, (0.2, 0.3, 0.4, 0.5), 1.0, 1e-5
RADIUS = np.geomspace(0.25, 2.5, 7)
# Of the lensing mass in ln M, and of ln c: as they are, and so small that the error is that of the shears.
USUAL = {"scatter": 0.2, "concentration_scatter": 0.345}
SMALL = {"scatter": 0.05, "concentration_scatter": 0.1}
CENTRE, WIDTH = 14.6 * np.log(10), 0.5
ERROR = 0.012 * RADIUS**-0.5


def mocks(scatter, concentration_scatter):
    """True ln M, redshifts and shears."""
    rng = np.random.default_rng(11)
    ln_mass = rng.normal(CENTRE, WIDTH, (len(REDSHIFTS), EACH))
    lensing = ln_mass + rng.normal(0, scatter, ln_mass.shape)
    shears = []
    for z, own in zip(REDSHIFTS, lensing, strict=True):
        ln_c = slow.mean_ln_c(own, z) + rng.normal(0, concentration_scatter, EACH)
        shears.append(slow.reduced_shear(RADIUS, own, ln_c, z, SOURCES))
    shear = np.concatenate(shears) + rng.normal(0, ERROR, (ln_mass.size, RADIUS.size))
    return ln_mass.ravel(), np.repeat(REDSHIFTS, EACH), shear


def scores(truth, **fault):
    """Pulls of the masses, and normal scores of the probability below the true ones; `fault` is wrong in the model."""
    ln_mass, z, shear = mocks(**truth)
    catalogue = HaloCatalogue.from_arrays(luminosity=np.ones(z.size), redshift=z, sigma_ln_luminosity=0.05)
    profiles = ShearProfiles.from_arrays(RADIUS, shear, error=ERROR, source_redshift=SOURCES)
    term = profiles.likelihoods(catalogue, MassPrior.default(), **truth | fault)
    grid = np.linspace(CENTRE - 6 * WIDTH, CENTRE + 6 * WIDTH, 1201)
    values = np.stack([np.interp(grid, term.ln_mass_nodes, one) for one in term.log_likelihood])
    ln_density = values - 0.5 * ((grid - CENTRE) / WIDTH) ** 2
    density = np.exp(ln_density - ln_density.max(axis=1, keepdims=True))
    below = np.cumsum(density, axis=1) - 0.5 * density
    share = np.array(
        [np.interp(t, grid, b) for t, b in zip(ln_mass, below / density.sum(axis=1)[:, None], strict=True)]
    )
    mean = (density @ grid) / density.sum(axis=1)
    sd = np.sqrt((density * (grid - mean[:, None]) ** 2).sum(axis=1) / density.sum(axis=1))
    return (ln_mass - mean) / sd, norm.ppf(np.clip(share, 1e-12, 1 - 1e-12))


def p_value(score):
    """The smaller of the p of the mean and of the squares, twice."""
    number = score.size
    squares = (score**2).sum()
    of_squares = 2 * min(chi2.sf(squares, number), chi2.cdf(squares, number))
    return 2 * min(2 * norm.sf(abs(score.sum()) / np.sqrt(number)), of_squares)


@pytest.mark.parametrize("truth", [USUAL, SMALL])
def test_right_model(truth):
    """Pulls within 3 / sqrt(mocks), and as many true masses inside 68 and 95 % intervals as there should be."""
    pull, score = scores(truth)
    p = p_value(score)
    assert p > LEVEL
    assert abs(pull.mean()) < 3 / np.sqrt(pull.size) and abs(pull.std() - 1) < 3 / np.sqrt(2 * pull.size)
    for level in (0.68, 0.95):
        inside = (np.abs(score) < norm.ppf(0.5 + level / 2)).sum()
        assert 2 * min(binom.cdf(inside, score.size, level), binom.sf(inside - 1, score.size, level)) > LEVEL


@pytest.mark.parametrize(
    ("truth", "fault"),
    [(USUAL, {"scatter": 0.0}), (USUAL, {"concentration_scatter": 0.0}), (SMALL, {"reduced": False})],
)
def test_a_wrong_model_of_the_lensing_is_noticed(truth, fault):
    _, score = scores(truth, **fault)
    p = p_value(score)
    assert p < LEVEL
