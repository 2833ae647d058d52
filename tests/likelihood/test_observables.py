"""Several observables as one Gaussian term: against NumPy's linear algebra, and against an integral."""

import jax
import numpy as np
import pytest

from massmap_jax.likelihood.observables import gaussian_term


def made(number, seed, size=40):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, number, number))
    covariance = root @ root.transpose(0, 2, 1) * 0.05 + 0.01 * np.eye(number)
    residual, slope = rng.normal(size=(size, number)), rng.normal(1.0, 0.4, size=(size, number))
    observed = rng.random((size, number)) > 0.3
    observed[np.arange(size), rng.integers(number, size=size)] = True
    return residual, slope, covariance, observed


def straight(residual, slope, covariance, observed, pivot):
    """Centre, width and ln norm of each object, with what is missing cut out of the arrays."""
    out = []
    for r, b, c, o in zip(residual, slope, covariance, observed, strict=True):
        r, b, c = r[o], b[o], c[np.ix_(o, o)]
        inverse = np.linalg.inv(c)
        width = (b @ inverse @ b) ** -0.5
        centre = width**2 * (b @ inverse @ r)
        off = r - b * centre
        ln_norm = -0.5 * (o.sum() * np.log(2 * np.pi) + np.linalg.slogdet(c)[1] + off @ inverse @ off)
        out.append((pivot + centre, width, ln_norm))
    return np.array(out).T


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6])
def test_against_linear_algebra(number):
    residual, slope, covariance, observed = made(number, seed=number)
    expected = straight(residual, slope, covariance, observed, 32.0)
    lower = [[covariance[:, i, j] for j in range(i + 1)] for i in range(number)]
    with jax.enable_x64(True):
        term = gaussian_term(list(residual.T), list(slope.T), lower, list(observed.T), 32.0)
        found = np.array([term.centre, term.width, term.log_norm])
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_density_of_two_observables_is_that_of_scipy():
    from scipy.stats import multivariate_normal

    cov = np.array([[0.09, 0.03], [0.03, 0.04]])
    with jax.enable_x64(True):
        term = gaussian_term([0.4, 0.2], [0.7, 1.0], [[0.09], [0.03, 0.04]], [True, True], 30.0)
        for ln_mass in (29.6, 30.0, 30.7):
            mean = np.array([0.7, 1.0]) * (ln_mass - 30.0)
            expected = multivariate_normal(mean, cov).logpdf([0.4, 0.2])
            assert float(term(ln_mass)) == pytest.approx(expected, abs=1e-12)
