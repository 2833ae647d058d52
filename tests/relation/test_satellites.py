"""How many satellites a halo has: against the paper's formulae in plain NumPy, with noise and above a limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import satellite_reference as slow

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.published import published_relation

SATELLITES = mm.SchechterSatellites.preset("cacciato2009")
CENTRALS = published_relation("lc_cacciato09")
LN_MASS = np.log(10) * np.linspace(11.3, 15.5, 22)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 0.5])
def test_number_with_noise_is_that_of_the_paper(sigma):
    """The preset's h, logs and definition, and 11 nodes for the noise, from faint to bright."""
    # Where a halo has fewer satellites than this, its galaxies of that luminosity are centrals.
    tolerance, least = (1e-10, 1e-12) if sigma == 0 else (3e-4, 1e-3) if sigma < 0.5 else (3e-3, 1e-1)
    with jax.enable_x64(True):
        for ln_lum in np.log([1e8, 1e9, 1e10, 5e10, 2e11]):
            found = np.exp(SATELLITES.ln_number(CENTRALS, LN_MASS, 0.1, ln_lum, sigma))
            if sigma == 0:
                expected = slow.satellites_per_ln_lum(ln_lum, LN_MASS)
            else:
                expected = slow.noisy_satellites(ln_lum, LN_MASS, sigma, number=2001)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * least)


def test_a_wrong_h_or_too_few_nodes_would_be_seen():
    """The twin: masses in Msun/h are off by a third of a dex in what they give, and noise changes the bright end."""
    expected = slow.satellites_per_ln_lum(np.log(1e10), LN_MASS)
    wrong = slow.satellites_per_ln_lum(np.log(1e10), LN_MASS + np.log(slow.H))
    assert np.abs(wrong / expected - 1).max() > 0.2
    bright = np.log(5e11)
    assert slow.noisy_satellites(bright, LN_MASS[-1], 0.3) > 2 * slow.satellites_per_ln_lum(bright, LN_MASS[-1])


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1, 0.5])
def test_number_above_a_limit(sigma):
    with jax.enable_x64(True):
        for ln_lum_min in np.log([1e9, 1e10, 5e10]):
            found = np.asarray(SATELLITES.mean_number(CENTRALS, LN_MASS, 0.1, ln_lum_min, sigma))
            expected = slow.number_above(ln_lum_min, LN_MASS, sigma)
            np.testing.assert_allclose(found, expected, rtol=2e-3 if sigma == 0 else 1e-4, atol=1e-5)


def test_any_transformation_and_precision():
    """Under jit, vmap and grad; float32 agrees; where L is far above the cut, ln Phi_s is finite and has a gradient."""
    ln_lum = np.log([1e9, 1e10, 1e11, 1e13])

    def number(ln_lum, ln_mass, centrals):
        return SATELLITES.ln_number(centrals, ln_mass, 0.1, ln_lum, 0.1)

    grid = jax.jit(jax.vmap(jax.vmap(number, (None, 0, None)), (0, None, None)))
    single = np.asarray(grid(jnp.asarray(ln_lum, jnp.float32), jnp.asarray(LN_MASS, jnp.float32), CENTRALS))
    with jax.enable_x64(True):
        double = np.asarray(grid(jnp.asarray(ln_lum), jnp.asarray(LN_MASS), CENTRALS))
        assert np.isfinite(jax.grad(number)(jnp.asarray(np.log(1e13)), np.log(1e11), CENTRALS))
    assert single.dtype == np.float32 and np.isfinite(single).all()
    np.testing.assert_allclose(single, double, rtol=2e-4, atol=2e-4)


def test_parameters_of_ones_own():
    """A constant slope, and ln phi* as a polynomial about its pivot."""
    own = mm.SchechterSatellites(norm=[0.5, 1.0, -0.1], ratio=0.5, slope_low=-1.2, norm_pivot=1e13)
    x = LN_MASS - np.log(1e13)
    np.testing.assert_allclose(own.ln_norm(LN_MASS, 0.1), 0.5 + x - 0.1 * x**2, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(own.slope(LN_MASS, 0.1), -1.2, rtol=1e-6)
    turning = mm.SchechterSatellites(norm=1.0, ratio=0.5, slope_low=-1.0, slope_high=-2.0, slope_rate=3.0)
    slopes = np.asarray(turning.slope(np.log([1e8, 1e14, 1e20]), 0.1))
    np.testing.assert_allclose(slopes, [-1, -1.5, -2], atol=0.02)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ratio": 0.0}, "ratio is 0, and has to be above 0"),
        ({"norm": [np.nan]}, "norm is .*: give finite numbers"),
        ({"norm": []}, "norm is .*: give finite numbers"),
        ({"norm_pivot": 12.0}, "look like log10 M"),
        ({"slope_low": np.inf}, "slope_low is inf"),
    ],
)
def test_bad_parameters_are_refused(changes, told):
    with pytest.raises(MassmapError, match=told):
        mm.SchechterSatellites(**{"norm": [0.0, 1.0], "ratio": 0.5, "slope_low": -1.1} | changes)
    with pytest.raises(MassmapError, match="preset 'yang08' is not known"):
        mm.SchechterSatellites.preset("yang08")
