"""Bands of the ECDF: simulated coverage, the recursion by plain loops, and p values under the null."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from massmap_jax.checks.ecdf_bands import MAX_POINTS, ecdf_at, ecdf_bands, uniformity_p_value
from massmap_jax.errors import MassmapError

LEVEL = 0.05


def coverage_by_loops(num, points, low, high):
    """Algorithm of Säilynoja et al. (2022), section 2.2: the count at each point given the count at the last one."""
    probability, last = {0: 1.0}, 0.0
    for point, first, final in zip(points, np.rint(low * num).astype(int), np.rint(high * num).astype(int)):
        share = (point - last) / (1 - last)
        new = {}
        for count in range(first, final + 1):
            new[count] = sum(p * binom.pmf(count - k, num - k, share) for k, p in probability.items() if k <= count)
        probability, last = new, point
    return sum(probability.values())


def simulated_counts(rng, num, num_points, size):
    """Counts at or below each inner point, of `size` samples of `num` uniform values."""
    return np.cumsum(rng.multinomial(num, np.full(num_points, 1 / num_points), size), axis=1)[:, :-1]


@pytest.mark.parametrize("num", [2, 10, 30])
def test_coverage_agrees_with_plain_loops(num):
    bands = ecdf_bands(num, LEVEL)
    assert bands.points.size == num - 1
    assert coverage_by_loops(num, bands.points, bands.low, bands.high) == pytest.approx(bands.coverage, abs=1e-10)


def test_one_count_less_would_not_do():
    """The bands are the tightest of their kind: at the next gamma, the coverage is below 1 - level."""
    bands = ecdf_bands(20, LEVEL)
    next_low = binom.ppf(0.5 * bands.gamma * 1.3, 20, bands.points) / 20
    next_high = binom.isf(0.5 * bands.gamma * 1.3, 20, bands.points) / 20
    assert coverage_by_loops(20, bands.points, next_low, next_high) < 1 - LEVEL <= bands.coverage


@pytest.mark.parametrize("num", [10, 50, 1000, 20_000, 1_000_000])
def test_simulated_coverage(num):
    bands = ecdf_bands(num, LEVEL)
    size = 20_000
    counts = simulated_counts(np.random.default_rng(num), num, bands.points.size + 1, size)
    inside = (counts >= np.rint(bands.low * num)) & (counts <= np.rint(bands.high * num))
    share = inside.all(axis=1).mean()
    print(f"\nN = {num}: simulated coverage {share:.4f}, computed {bands.coverage:.4f}")
    assert abs(share - bands.coverage) < 5 * np.sqrt(LEVEL * (1 - LEVEL) / size)
    assert 1 - LEVEL <= bands.coverage < (0.97 if num < 50 else 0.953)


def test_work_does_not_grow_with_the_number_of_values():
    """The cost goes with the points at which the ECDF is judged: 0.15 s for any number of values."""
    assert ecdf_bands(123_457, 0.031).points.size < MAX_POINTS


@pytest.mark.parametrize("num", [1000, 100_000])
def test_p_values_are_uniform_under_the_null(num):
    rng = np.random.default_rng(3)
    p = np.array([uniformity_p_value(rng.random(num)) for _ in range(200)])
    print(f"\nN = {num}: KS p of 200 p values {kstest(p, 'uniform').pvalue:.3f}; {np.sum(p < 0.05)} below 0.05")
    assert kstest(p, "uniform").pvalue > 1e-5


def test_p_values_of_few_values_are_never_too_small():
    rng = np.random.default_rng(4)
    p = np.array([uniformity_p_value(rng.random(10)) for _ in range(4000)])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() < level + 5 * np.sqrt(level / p.size)


def test_p_value_and_bands_agree():
    rng = np.random.default_rng(5)
    bands = ecdf_bands(200, LEVEL)
    for _ in range(200):
        values = rng.beta(1, 1.15, 200)
        at = ecdf_at(values, bands.points)
        left = ((at < bands.low - 1e-9) | (at > bands.high + 1e-9)).any()
        p = uniformity_p_value(values)
        assert left == (p <= 1 - bands.coverage + 1e-12) or abs(p - LEVEL) < 1e-3


@pytest.mark.parametrize("num", [100, 5000])
def test_values_that_are_not_uniform(num):
    rng = np.random.default_rng(6)
    assert uniformity_p_value(0.3 * rng.random(num)) < 1e-12
    assert uniformity_p_value(np.full(num, 0.5)) < 1e-12
    assert uniformity_p_value(0.5 + 0.8 * (rng.random(num) - 0.5)) < 1e-3


@pytest.mark.parametrize(
    "values, message",
    [([], "at least one value"), ([0.2, np.nan], "1 of 2 values"), ([0.2, 1.5, 2.0], "first value 1 = 1.5")],
)
def test_bad_values(values, message):
    with pytest.raises(MassmapError, match=message):
        uniformity_p_value(np.array(values))


def test_bad_level():
    with pytest.raises(MassmapError, match="between 0 and 1"):
        ecdf_bands(10, 1.0)


def test_one_value():
    assert uniformity_p_value(np.array([0.9])) == 1.0
