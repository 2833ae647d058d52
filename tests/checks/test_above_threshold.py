"""What is predicted of objects above a threshold in measured mass, against sums over all that could be measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from massmap_jax.checks.above_threshold import AboveThreshold

MASS = np.linspace(30.0, 36.0, 241)
THRESHOLD, Z = 32.7, 0.4


@pytest.mark.parametrize("width", [1e-3, 0.1, 0.6])
@pytest.mark.parametrize("share", [0.1, 3.0])
def test_both_pits(width, share):
    """The density of (ln L_obs, ln M_obs) at each mass, times the chance to be in the catalogue.

    The population falls by `share` for each ln M: with 3, hardly any object is above the threshold.
    """
    selected = {"ln_threshold": THRESHOLD, "width": width, "evolution": 0.5}
    m50 = THRESHOLD + 0.5 * np.log1p(Z)
    spread, slope, mass_spread = 0.3, 0.4, 0.15
    ln_weight = norm(32.0, 0.5).logpdf(MASS) - share * (MASS - 32)
    mean, mass_mean = 0.9 * (MASS - 32.0), MASS + 0.1
    total = np.hypot(mass_spread, slope * spread)
    with jax.enable_x64(True):
        above = AboveThreshold({p: jnp.asarray(v) for p, v in selected.items()}, jnp.asarray(Z))
        for at in (m50 - 2 * width, m50 + 1e-6, m50 + 0.2, m50 + 1.0):
            # From `at` upwards and downwards, so that the steps end there.
            step = np.linspace(0.0, 4.0 + 8 * width, 12_001)
            high, low = (
                np.trapezoid(np.exp(ln_weight) @ norm(mass_mean[:, None], total).pdf(x) * ndtr((x - m50) / width), step)
                for x in (at + step, at - step)
            )
            found = float(above.pit_of_mass(at, ln_weight, mass_mean, total))
            assert abs(found - low / (high + low)) < 5e-5, (at, found, low / (high + low))
        chance = np.hypot(width, mass_spread)
        for at in (-1.0, 0.3, 1.5):
            step = np.linspace(0.0, 6.0, 2_001)
            high, low = (
                np.trapezoid(
                    (
                        np.exp(ln_weight[:, None])
                        * norm(mean[:, None], spread).pdf(y)
                        * ndtr((mass_mean[:, None] + slope * (y - mean[:, None]) - m50) / chance)
                    ).sum(axis=0),
                    step,
                )
                for y in (at + step, at - step)
            )
            found = float(above.pit_of_luminosity(at, ln_weight, mean, spread, mass_mean, slope, mass_spread))
            assert abs(found - low / (high + low)) < 5e-5, (at, found, low / (high + low))
