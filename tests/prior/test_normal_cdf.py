"""The fast ln of the normal CDF against SciPy, with its derivatives, in both precisions."""

import jax
import numpy as np
from scipy import special, stats

from massmap_jax.prior.normal_cdf import both_below, log_ndtr, tail_and_density

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


def test_tail_and_density():
    scores = np.linspace(0.0, 37.0, 1001)
    with jax.enable_x64(True):
        tail, density = tail_and_density(scores)
    np.testing.assert_allclose(tail, stats.norm.sf(scores), rtol=4e-11)
    np.testing.assert_allclose(density, stats.norm.pdf(scores), rtol=1e-12)


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


def test_two_correlated_numbers():
    """P(x < a, y < b) is the mean over x < a of Phi[(b - r x) / sqrt(1 - r^2)], summed in small steps."""
    x = np.linspace(-12.0, 0.0, 20_001)
    for r in (-0.95, -0.6, 0.0, 0.3, 0.95):
        for a in (-5.0, -1.0, 0.4, 3.0):
            # From far below a up to a, so that the end is a node.
            at = x + a
            b = np.array([-4.0, -0.5, 0.0, 2.5])
            inside = stats.norm.pdf(at) * special.ndtr((b[:, None] - r * at) / np.sqrt(1 - r * r))
            expected = np.trapezoid(inside, at)
            with jax.enable_x64(True):
                np.testing.assert_allclose(both_below(a, b, r), expected, rtol=1e-5, atol=3e-7)
    assert both_below(-60.0, -60.0, 0.5) > 0
