"""The shape of a scatter: scores against plain NumPy, p values against their rate, and each fault in its own feature."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, norm

from massmap_jax.checks.shape import FEATURES, shape_scores, shape_text


def uniform(rng, n):
    """PITs, and the luminosities and redshifts that they stand beside."""
    return rng.random(n), rng.normal(size=n), rng.random(n)


def polynomials():
    """Coefficients, highest power first, of the polynomials orthogonal under a normal score cut at 3.5 (Gram-Schmidt)."""

    def mean(function):
        inside = quad(lambda s: function(s) * norm.pdf(s), -3.5, 3.5, epsabs=1e-12)[0]
        return inside + norm.sf(3.5) * (function(-3.5) + function(3.5))

    found = []
    for degree in range(5):
        new = np.poly1d([1.0, *[0.0] * degree])
        for old in found:
            new = new - mean(lambda s, new=new, old=old: new(s) * old(s)) * old
        found.append(new / np.sqrt(mean(lambda s, new=new: new(s) ** 2)))
    return found


def test_scores_are_those_of_plain_sums():
    pit, lum, z = uniform(np.random.default_rng(0), 60)
    pit[0], pit[1] = 0.0, 1e-9  # both at the cut
    h = [p(np.clip(norm.ppf(pit), -3.5, 3.5)) for p in polynomials()]
    rank = [np.sqrt(3) * np.array([2 * ((a < one).sum() + 0.5) / 60 - 1 for one in a]) for a in (lum, z)]
    plain = [h[2], h[3], h[4], h[2] * rank[0], h[2] * rank[1], h[1] * np.sqrt(5) * (rank[0] ** 2 - 1) / 2]
    scores, _ = shape_scores(pit, lum, z)
    np.testing.assert_allclose(scores, np.sum(plain, axis=1) / np.sqrt(60), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("n", [50, 500])
def test_p_values_of_uniform_pits_are_as_small_as_they_say(n):
    """Of 500 sets the share below 5 and below 0.5 %: outside these counts one time in 10^6 each."""
    rng = np.random.default_rng(n)
    found = np.array([shape_scores(*uniform(rng, n))[1] for _ in range(500)])
    for level in (0.05, 0.005):
        counts = (found < level).sum(axis=0)
        assert (counts <= binom.isf(1e-6, 500, 1.15 * level)).all(), (level, counts)
        assert (counts >= binom.ppf(1e-6, 500, 0.7 * level)).all(), (level, counts)


def faulty(fault, rng, n):
    _, lum, z = uniform(rng, n)
    noise, high = rng.normal(size=n), np.argsort(np.argsort(lum)) > n / 2
    scores = {
        "spread": 0.8 * noise,
        "skewness": (rng.gamma(4, size=n) - 4) / 2,
        "tails": rng.standard_t(4, n) / np.sqrt(2),
        "spread with luminosity": noise * np.where(high, 1.25, 0.7),
        "spread with redshift": noise * np.where(z > 0.5, 0.7, 1.25),
        "bend with luminosity": noise + 0.4 * lum**2,
    }[fault]
    return norm.cdf(scores), lum, z


@pytest.mark.parametrize("feature", FEATURES)
def test_each_fault_is_found_in_its_feature(feature):
    """The power is above 0.999; what a score of the other sign is called follows from it."""
    data = faulty(feature, np.random.default_rng(1), 1000)
    scores, p = shape_scores(*data)
    i = FEATURES.index(feature)
    assert p[i] < 1e-5 and p[i] * 10 >= p.min()
    said = shape_text(scores, p, 0.005)
    sign = {"spread": "smaller", "skewness": "above", "tails": "too long", "bend with luminosity": "bends up"}
    assert (sign.get(feature) or ("rises" if feature.endswith("luminosity") else "falls")) in said
    assert shape_text(-scores, p, 0.005) != said and shape_text(scores, np.ones(6), 0.005) == ""


def test_one_wrong_mass_is_no_shape():
    """One PIT of 0 among 200, a mass that is wrong by any factor, moves no score by more than 1.4."""
    data = uniform(np.random.default_rng(3), 200)
    moved = shape_scores(np.where(np.arange(200) == 7, 0.0, data[0]), *data[1:])[0] - shape_scores(*data)[0]
    assert np.abs(moved).max() < 1.4
