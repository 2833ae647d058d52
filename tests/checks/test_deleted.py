"""Each point against the line through the others: as by leaving each out in a loop; false alarms, and what it finds."""

import numpy as np
import pytest
from scipy.stats import t as student

from massmap_jax.checks.calibrators import _far
from massmap_jax.checks.deleted import deleted_p_values


def points(number, rng, wrong=0.0):
    x, z = rng.normal(0, 0.5, number), rng.uniform(0.1, 0.5, number)
    y = 0.6 + 1.6 * x + 0.4 * rng.normal(size=number)
    y[0] += wrong
    return y, x + 0.2 * rng.normal(size=number), z, np.exp(rng.uniform(-1, 1, number))


@pytest.mark.parametrize("number", [6, 11, 12, 23, 60])
def test_as_by_a_loop(number):
    y, x, z, variance = points(number, np.random.default_rng(number))
    expected = []
    for i in range(number):
        columns = [np.ones(number), x] + ([np.log1p(z)] if number >= 12 else [])
        design, keep, w = np.stack(columns, axis=1), np.arange(number) != i, 1 / variance
        inverse = np.linalg.inv(design[keep].T @ (w[keep, None] * design[keep]))
        line = inverse @ design[keep].T @ (w[keep] * y[keep])
        free = keep.sum() - design.shape[1]
        factor = np.sum(w[keep] * (y[keep] - design[keep] @ line) ** 2) / free
        sd = np.sqrt(factor * (variance[i] + design[i] @ inverse @ design[i]))
        expected.append(2 * student.sf(abs(y[i] - design[i] @ line) / sd, free))
    np.testing.assert_allclose(deleted_p_values(y, x, z, variance), expected, rtol=1e-8)


def test_too_few_points_say_nothing():
    np.testing.assert_array_equal(deleted_p_values(*(a[:5] for a in points(6, np.random.default_rng(0)))), 1.0)
    y, x, _, variance = points(8, np.random.default_rng(0))
    assert np.isfinite(deleted_p_values(y, x, np.full(8, 0.3), variance)).all()


def test_how_often_it_names_one_object():
    """Of 23 points at random in 1 % of samples (5 sigma of 2,000: 0.011); a tenfold L in most, and then that one."""
    false, found, right = 0, 0, 0
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        for wrong in (0.0, np.log(10.0) * 1.3):
            y, x, z, _ = points(23, rng, wrong)
            p = deleted_p_values(y, x, z, np.ones(23))
            far = _far(np.full(23, 0.5), p)
            if wrong:
                found, right = found + bool(far.size), right + bool(far.size and far[0] == 0)
            else:
                false += bool(far.size)
    assert abs(false / 2000 - 0.01) < 0.011
    assert found > 1300 and right > 0.98 * found
