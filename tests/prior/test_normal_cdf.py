"""The fast ln of the normal CDF against SciPy, with its derivatives, in both precisions."""

import jax
import numpy as np
from scipy import special, stats

from massmap_jax.prior.normal_cdf import log_ndtr

# Both sides of 0, where two forms meet, and far tails.
SCORES = np.concatenate([np.linspace(-60.0, 40.0, 2001), [-1000.0, -1e-9, 1e-9, 300.0]])


def test_values_and_derivatives():
    with jax.enable_x64(True):
        expected = special.log_ndtr(SCORES)
        np.testing.assert_allclose(log_ndtr(SCORES), expected, rtol=2e-11, atol=2e-11)
        ratio = np.exp(stats.norm.logpdf(SCORES) - expected)
        np.testing.assert_allclose(jax.vmap(jax.grad(log_ndtr))(SCORES), ratio, rtol=1e-8, atol=1e-9)
        bend = jax.vmap(jax.grad(jax.grad(log_ndtr)))(SCORES[SCORES > -60])
        np.testing.assert_allclose(bend, (-ratio * (SCORES + ratio))[SCORES > -60], rtol=2e-6, atol=2e-8)


def test_float32_keeps_its_digits():
    found = np.asarray(log_ndtr(SCORES.astype(np.float32)))
    assert found.dtype == np.float32
    expected = special.log_ndtr(SCORES)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-7)
    near = np.abs(SCORES) <= 60
    ratio = np.exp(stats.norm.logpdf(SCORES) - expected)[near]
    # exp of a difference of two numbers up to 1800, of which each has seven digits.
    np.testing.assert_allclose(
        jax.vmap(jax.grad(log_ndtr))(SCORES[near].astype(np.float32)), ratio, rtol=5e-4, atol=1e-6
    )
