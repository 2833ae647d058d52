"""Whether the scatter has the assumed shape: tails, skewness, and a spread that changes with luminosity or redshift.

The simultaneous bands of a test of uniform PITs look at the whole distribution, and see a shift first. A fit takes
shifts up, and makes the scatter as wide as the data are. What it leaves are the features here, each tested by itself.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

FEATURES = ("spread", "skewness", "tails", "spread with luminosity", "spread with redshift", "bend with luminosity")
"""What is tested, in the order of the scores."""
# Each with a negative score, and with a positive one.
_SAID = (
    ("a spread that is smaller than fitted", "a spread that is larger than fitted"),
    ("a long tail below", "a long tail above"),
    ("tails that are too short", "tails that are too long"),
    ("a spread that falls with luminosity", "a spread that rises with luminosity"),
    ("a spread that falls with redshift", "a spread that rises with redshift"),
    ("a relation that bends down", "a relation that bends up"),
)
# Beyond this many standard deviations a score counts as this large, so that a few wrong masses do not make the shape.
_MOST = 3.5
_GRID = 4_000
# Bins of the histogram, and the least number of values that is expected in one; fewer values than LEAST have no shape.
_BINS, _LEAST_EXPECTED = 15, 5
LEAST = 100
"""Least number of PITs that `histogram_p_value` judges."""


def shape_scores(pit: np.ndarray, ln_lum: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute how far each feature of the shape is from that of uniform PITs.

    Parameters
    ----------
    pit : Float[np.ndarray, "n"]
        Probability integral transforms of the measured masses.
    ln_lum : Float[np.ndarray, "n"]
        ln of the observed luminosities; only their order counts.
    z : Float[np.ndarray, "n"]
        Redshifts; only their order counts.

    Returns
    -------
    scores : Float[np.ndarray, "feature"]
        One number for each of `FEATURES`, with mean 0 and standard deviation 1 if the PITs are uniform.
    p_values : Float[np.ndarray, "feature"]
        Two-sided p values of them.

    Notes
    -----
    Components of a smooth test (Neyman 1937; Rayner, Thas & Best 2009, *Smooth Tests of Goodness of Fit*) for a normal
    distribution. With s the normal score of a PIT, cut at +-3.5, h_j(s) the polynomial of degree j that is orthogonal
    to those of lower degree, and P_k Legendre polynomials of the rank of another quantity, they are

        spread sum h_2 / sqrt(n),  skewness sum h_3 / sqrt(n),  tails sum h_4 / sqrt(n),
        spread with luminosity or redshift sum h_2 P_1 / sqrt(n),  bend sum h_1 P_2 / sqrt(n).

    A fit to the same objects brings the first nearer to 0, so its p value is on the safe side. The first three sums are
    skewed and have a long tail; their p values are those of the saddlepoint approximation (Lugannani & Rice 1980).
    """
    n = pit.size
    h = _vander(pit) @ _bases()
    in_lum, in_z = (np.sqrt(3) * (2 * (np.argsort(np.argsort(a, kind="stable")) + 0.5) / n - 1) for a in (ln_lum, z))
    bend = np.sqrt(5) * (in_lum**2 - 1) / 2
    columns = np.stack([*h.T[2:], h[:, 2] * in_lum, h[:, 2] * in_z, h[:, 1] * bend])
    scores = columns.sum(axis=1) / np.sqrt(n)
    tail = norm.sf(np.abs(scores))
    under_uniform = _on_grid() @ _bases()
    tail[:3] = [_beyond(under_uniform[:, 2 + i], score / np.sqrt(n), n) for i, score in enumerate(scores[:3])]
    return scores, np.minimum(1.0, 2 * tail)


def histogram_p_value(pit: np.ndarray) -> float:
    """Compute the p value that the histogram of PITs is flat, with bins that reach into the tails.

    Parameters
    ----------
    pit : Float[np.ndarray, "n"]
        Probability integral transforms, at least `LEAST`.

    Returns
    -------
    float
        p value.

    Notes
    -----
    Pearson's chi-squared with 15 bins, which are equal in the normal score as far as 5 values are expected in the
    outermost. A wrong shape makes many small differences of changing sign, up and down again, to which bands of the
    ECDF are nearly blind; and it shows in the tails, where bands have little power (Anderson & Darling 1954).
    """
    ends = norm.isf(_LEAST_EXPECTED / pit.size)
    edges = np.concatenate([[0.0], norm.cdf(np.linspace(-ends, ends, _BINS - 1)), [1.0]])
    expected = pit.size * np.diff(edges)
    counts = np.histogram(np.clip(pit, 0.0, 1.0), edges)[0]
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), _BINS - 1))


def shape_text(scores: np.ndarray, p_values: np.ndarray, level: float) -> str:
    """Say in words which features of the shape are off.

    Parameters
    ----------
    scores : Float[np.ndarray, "feature"]
        The scores.
    p_values : Float[np.ndarray, "feature"]
        Their p values.
    level : float
        A feature is off if its p value, times the number of features, is below.

    Returns
    -------
    str
        Parts of a sentence, joined, the worst first; empty where nothing is off.
    """
    off = [i for i in np.argsort(p_values) if p_values[i] * p_values.size < level]
    return ", ".join(_SAID[i][int(scores[i] > 0)] for i in off)


def _vander(pit):
    """Powers 0 to 4 of the normal scores, (n, 5)."""
    with np.errstate(divide="ignore"):
        return np.vander(np.clip(norm.ppf(pit), -_MOST, _MOST), 5, increasing=True)


@lru_cache(maxsize=1)
def _bases() -> np.ndarray:
    """Coefficients of the orthonormal polynomials h_0 to h_4, in columns."""
    r = np.linalg.qr(_on_grid() / np.sqrt(_GRID))[1]
    return np.linalg.inv(r * np.sign(np.diag(r))[:, None])


def _beyond(values: np.ndarray, mean: float, n: int) -> float:
    """Probability that the mean of n draws from equally likely values, of mean 0, is as far out on this side of it."""

    def tilted(t):
        """ln of the mean of exp(t x), and mean and variance of x with the weights exp(t x)."""
        top = max(t * values.min(), t * values.max())
        weight = np.exp(t * values - top)
        first = weight @ values / weight.sum()
        return top + np.log(weight.mean()), first, weight @ (values - first) ** 2 / weight.sum()

    if not values.min() < mean < values.max():
        return 0.0
    if abs(mean) * np.sqrt(n) < 0.1:
        return float(norm.sf(abs(mean) * np.sqrt(n)))  # where both terms of the formula are infinite
    end = np.sign(mean)
    while abs(tilted(end)[1]) < abs(mean) and abs(end) < 1e6:
        end *= 2
    t = brentq(lambda t: tilted(t)[1] - mean, 0.0, end, xtol=1e-8, rtol=1e-6)
    ln_mean, _, variance = tilted(t)
    w, u = np.sqrt(2 * n * max(t * mean - ln_mean, 0.0)), abs(t) * np.sqrt(n * variance)
    return float(np.clip(norm.sf(w) + norm.pdf(w) * (1 / u - 1 / w), 0.0, 1.0))


@lru_cache(maxsize=1)
def _on_grid():
    return _vander((np.arange(_GRID) + 0.5) / _GRID)
