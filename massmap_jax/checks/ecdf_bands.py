"""Simultaneous confidence bands for the empirical distribution of values that should be uniform on [0, 1].

The method is that of Säilynoja, Bürkner & Vehtari (2022, Statistics and Computing 32, 32) for one sample. At the
points i/K the number of values at or below is binomial, so each point has an interval between the binomial quantiles
at gamma/2 and 1 - gamma/2; gamma is chosen such that all intervals hold together with probability 1 - level. That
probability is exact here for every N: it is their recursion over points, with the count at each point as the state. In
the recursion the counts are those of a Poisson process given its total, so each step is a convolution with one and the
same Poisson distribution (an FFT where it is long).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from massmap_jax.errors import MassmapError

MAX_POINTS = 100
# Counts more than this many standard deviations from their mean are left out: a binomial tail of 1e-20.
_REACH = 10.0
_LEAST = 1e-20
_BISECTIONS = 10
# Product of the lengths above which an FFT is faster than the direct convolution.
_DIRECT = 150_000
# Below this, 1 - coverage is rounding error; Bonferroni's bound is used instead, which is close there.
_ROUNDING = 1e-9


class EcdfBands(NamedTuple):
    """Bands within which the ECDF of `num` uniform values lies at given points, ends included.

    Attributes
    ----------
    num : int
        Number of values.
    points : Float[np.ndarray, "point"]
        Points in (0, 1).
    low : Float[np.ndarray, "point"]
        Lower end of the band, as a fraction of the values.
    high : Float[np.ndarray, "point"]
        Upper end of the band, as a fraction of the values.
    gamma : float
        Level of one point by itself.
    coverage : float
        Simultaneous probability, at least 1 - level. Counts are whole numbers, so it is larger for few values.
    """

    num: int
    points: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gamma: float
    coverage: float


class _Counts(NamedTuple):
    """Two-sided binomial tail probability of every count that is considered, at each point."""

    num: int
    start: np.ndarray  # (point,) the count of the first column
    two_sided: np.ndarray  # (point, count) 2 min[P(X <= count), P(X >= count)]
    poisson: np.ndarray  # distribution of the number of values in one interval, from `first` up
    first: int


def ecdf_bands(num: int, level: float = 0.05, num_points: int | None = None) -> EcdfBands:
    """Compute bands that hold the whole ECDF of uniform values with a given probability.

    Parameters
    ----------
    num : int
        Number of values.
    level : float, optional
        The bands hold with probability 1 - level.
    num_points : int, optional
        K, the number of intervals of equal length. By default `num`, at most 100.

    Returns
    -------
    EcdfBands
        The bands.

    Raises
    ------
    MassmapError
        If the level is not between 0 and 1, or there are no values or fewer than 2 points.
    """
    if not 0 < level < 1:
        raise MassmapError(f"level of the bands is {level!r}: give a probability between 0 and 1, say 0.05")
    num_points = _check_number(num, num_points)
    counts = _counts(num, num_points)
    gamma, coverage = _gamma(num, num_points, float(level))
    first, last = _limits(counts, gamma)
    points = np.arange(1, num_points) / num_points
    return EcdfBands(num, points, first / num, last / num, gamma, coverage)


def ecdf_at(values, points) -> np.ndarray:
    """Compute the fraction of values at or below each point.

    Parameters
    ----------
    values : array_like, (n,)
        The values.
    points : array_like, (point,)
        The points.

    Returns
    -------
    Float[np.ndarray, "point"]
        The ECDF at the points.
    """
    return np.searchsorted(np.sort(values), points, side="right") / np.size(values)


def uniformity_p_value(values, num_points: int | None = None) -> float:
    """Compute the p value that values are independent and uniform on [0, 1].

    Parameters
    ----------
    values : array_like, (n,)
        The values; NaN is refused.
    num_points : int, optional
        Number of intervals as in `ecdf_bands`.

    Returns
    -------
    float
        The level at which the simultaneous bands would just touch the ECDF.

    Raises
    ------
    MassmapError
        If a value is not between 0 and 1, or there are no values or fewer than 2 points.

    Notes
    -----
    Below 1e-9 the result is an upper bound and not a value to quote, and it is never below 1e-20. For few values the p
    value is discrete; under uniformity it is never too small.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"{bad.sum()} of {values.size} values are not between 0 and 1, first value {first} = {values[first]:g}: "
            "leave out rows without a PIT"
        )
    num_points = _check_number(values.size, num_points)
    counts = _counts(values.size, num_points)
    points = np.arange(1, num_points) / num_points
    place = np.searchsorted(np.sort(values), points, side="right") - counts.start
    place = np.clip(place, 0, counts.two_sided.shape[1] - 1)
    gamma = float(counts.two_sided[np.arange(points.size), place].min())
    p = 1 - _coverage(counts, gamma)
    return p if p > _ROUNDING else min(max(gamma, _LEAST) * points.size, _ROUNDING)


def _check_number(num, num_points) -> int:
    """The number of points for `num` values, after a check."""
    if num < 1:
        raise MassmapError(f"an ECDF of {num} values has no bands: give at least one value")
    num_points = min(max(num, 2), MAX_POINTS) if num_points is None else num_points
    if num_points < 2:
        raise MassmapError(f"number of points is {num_points}: give at least 2")
    return num_points


@lru_cache(maxsize=8)
def _counts(num: int, num_points: int) -> _Counts:
    """Binomial tail probabilities at each point, and the Poisson distribution of one step."""
    points = (np.arange(1, num_points) / num_points)[:, None]
    mean, sd = num * points, np.sqrt(num * points * (1 - points))
    start = np.floor(np.maximum(mean - _REACH * sd - 20, 0)).astype(np.int64)
    count = start + np.arange(int(np.ceil(2 * _REACH * sd.max())) + 42)
    inside = count <= num
    count = np.minimum(count, num)
    ln_choose = _ln_factorial(np.array(num)) - _ln_factorial(count) - _ln_factorial(num - count)
    pmf = np.where(inside, np.exp(ln_choose + count * np.log(points) + (num - count) * np.log1p(-points)), 0.0)
    two_sided = 2 * np.minimum(np.cumsum(pmf, axis=1), np.cumsum(pmf[:, ::-1], axis=1)[:, ::-1])
    step = num / num_points
    first = int(max(step - _REACH * np.sqrt(step) - 20, 0))
    steps = np.arange(first, int(min(step + _REACH * np.sqrt(step) + 20, num)) + 1)
    poisson = np.exp(steps * np.log(step) - step - _ln_factorial(steps))
    return _Counts(num, start[:, 0], np.where(inside, two_sided, -1.0), poisson, first)


@lru_cache(maxsize=64)
def _gamma(num: int, num_points: int, level: float) -> tuple[float, float]:
    """The largest gamma (to 0.5 %) whose coverage is at least 1 - level, and that coverage."""
    counts = _counts(num, num_points)
    # By Bonferroni the lower end is always wide enough; a single point at the upper end is already too narrow.
    low, high = level / num_points, min(2 * level, 1.0)
    coverage = _coverage(counts, low)
    for _ in range(_BISECTIONS):
        middle = np.sqrt(low * high)
        tried = _coverage(counts, middle)
        if tried >= 1 - level:
            low, coverage = middle, tried
        else:
            high = middle
    return float(low), coverage


def _limits(counts: _Counts, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last count at each point whose two-sided tail probability exceeds gamma."""
    kept = counts.two_sided > gamma
    last = kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)
    return counts.start + np.argmax(kept, axis=1), counts.start + last


def _coverage(counts: _Counts, gamma: float) -> float:
    """Probability that every count lies within its limits at `gamma`."""
    if not (counts.two_sided > gamma).any(axis=1).all():
        return 0.0  # no count is allowed at some point, as happens for the largest gamma
    low, high = _limits(counts, gamma)
    widest = int((high - low).max()) + 1
    direct = widest * counts.poisson.size <= _DIRECT
    size = 512 * -(-(widest + counts.poisson.size) // 512)
    spectrum = None if direct else np.fft.rfft(counts.poisson, size)
    state, before = np.ones(1), 0  # P(count), from `before` up; at the start no value lies at or below 0
    for first, last in zip(low, high, strict=True):
        if direct:
            moved = np.convolve(state, counts.poisson)
        else:
            moved = np.fft.irfft(np.fft.rfft(state, size) * spectrum, size)[: state.size + counts.poisson.size - 1]
        new, origin = np.zeros(last - first + 1), before + counts.first
        left, right = max(first, origin), min(last + 1, origin + moved.size)
        if left < right:
            new[left - first : right - first] = moved[left - origin : right - origin]
        state, before = np.maximum(new, 0.0), first
    place = counts.num - before - np.arange(state.size) - counts.first
    inside = (place >= 0) & (place < counts.poisson.size)
    end = (state[inside] * counts.poisson[place[inside]]).sum()
    # Poisson probability of the total `num`, on which the counts are conditioned.
    ln_total = counts.num * np.log(counts.num) - counts.num - float(_ln_factorial(np.array(counts.num)))
    return float(min(end / np.exp(ln_total), 1.0))


def _ln_factorial(n: np.ndarray) -> np.ndarray:
    """ln n! of whole numbers: exact below 16, Stirling's series from there (error < 1e-12)."""
    small = np.cumsum(np.log(np.maximum(np.arange(16), 1)))
    x = np.maximum(n, 16).astype(np.float64)
    series = 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)
    return np.where(n < 16, small[np.minimum(n, 15)], x * np.log(x) - x + 0.5 * np.log(2 * np.pi * x) + series)
