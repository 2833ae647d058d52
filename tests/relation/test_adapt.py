"""Draws of posteriors that are not normal, against grids; and posteriors for which there are none."""

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.special import log_ndtr as log_ndtr_of_scipy

from massmap_jax.prior.normal_cdf import log_ndtr
from massmap_jax.relation.adapt import adapted_draws
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.joint_posterior import is_far_from_normal
from massmap_jax.relation.search import covariance_of, maximise, off_normal

BELIEFS = RelationPrior.parse("alpha1=0:1,alpha2=1:0.3,alpha4=0,scatter=0.2,alpha3=1e14")


class _Below(eqx.Module):
    """A wall: alpha1 lies below 0, within 0.1; like a completeness that lies below all masses."""

    wall: float

    def __call__(self, relation):
        return log_ndtr((self.wall - relation.alpha1) / 0.1)


def prepared(likelihood, at=(0.0, 1.0)):
    coordinates = Coordinates.at(BELIEFS, np.log(1e14), 0.0)
    best = maximise(coordinates, likelihood, np.array(at))
    return coordinates, likelihood, best, covariance_of(best, coordinates)


def test_a_wall_on_one_side():
    """Mean and sd within 5 of their errors; the normal about the maximum, the twin, is told to be far off."""
    grid = np.linspace(-6, 3, 20001)
    weight = np.exp(-0.5 * grid**2 + log_ndtr_of_scipy((-1.5 - grid) / 0.1))
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    with jax.enable_x64(True):
        model = prepared(_Below(-1.5))
        coordinates, likelihood, best, covariance = model
        normals = np.random.default_rng(0).normal(size=(200, 2))
        x = np.asarray(best.x) + normals @ np.linalg.cholesky(covariance).T
        assert is_far_from_normal(off_normal(coordinates, likelihood, best, covariance, x))
        found = adapted_draws(jax.random.key(0), *model, 4000)
    draws = found.x[:, 0]
    assert found.x.shape == (4000, 2) and found.found["pareto_k"] < 0.5 and found.found["ess"] > 1500
    assert abs(draws.mean() - mean) < 5 * sd / np.sqrt(found.found["ess"])
    assert draws.std() == pytest.approx(sd, rel=0.15)
    assert abs(found.x[:, 1].mean() - 1.0) < 5 * 0.3 / np.sqrt(found.found["ess"])
    of_normal = np.asarray(best.x)[0]
    assert abs(of_normal - mean) > 10 * sd / np.sqrt(found.found["ess"])


def test_draws_that_cannot_be_had(monkeypatch):
    """Weights that are not to be trusted give none; the limit is moved here, to where all are beyond it."""
    monkeypatch.setattr("massmap_jax.relation.adapt.MAX_PARETO_K", -9.0)
    with jax.enable_x64(True):
        assert adapted_draws(jax.random.key(0), *prepared(_Below(-1.5)), 500) is None


def test_a_key_gives_the_same_draws():
    with jax.enable_x64(True):
        one, two, other = (adapted_draws(jax.random.key(key), *prepared(_Below(-1.5)), 100).x for key in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
