"""Draws along a curved ridge, and chains that go on until they are good, against a posterior whose moments are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from massmap_jax.errors import MassmapError
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.draws import draw_by, ridge_draws
from massmap_jax.relation.nuts import run_nuts
from massmap_jax.relation.ridge import bend_of, bent, ordered_root, potential_along
from massmap_jax.relation.search import covariance_of, maximise, negative_log_density, off_normal

BELIEFS = RelationPrior.parse("alpha1=0:30,alpha2=1:0.3,alpha4=0:1,scatter=0.2,alpha3=1e14")
# The ridge alpha1 = CURVE (alpha2 - 1)^2 + MIXED (alpha2 - 1) alpha4: a belief about it, this narrow.
CURVE, MIXED, NARROW = 3.0, 0.7, 0.01


class _Ridge(eqx.Module):
    def __call__(self, relation):
        a, b = relation.alpha2 - 1, relation.alpha4
        return -0.5 * ((relation.alpha1 - CURVE * a**2 - MIXED * a * b) / NARROW) ** 2


@pytest.fixture(scope="module")
def prepared():
    with jax.enable_x64(True):
        # The pivot at alpha3: alpha1 is what is sampled.
        coordinates = Coordinates(BELIEFS, jnp.zeros(()), jnp.zeros(()))
        best = maximise(coordinates, _Ridge(), np.array([0.1, 1.05, 0.1]))
        return coordinates, _Ridge(), best, covariance_of(best, coordinates)


def test_the_ridge_is_straight(prepared):
    """In its coordinates the potential is |w|^2 / 2 to 0.02; without them, the twin, it is hundreds."""
    coordinates, likelihood, best, covariance = prepared
    w = np.random.default_rng(0).normal(size=(30, 3))
    with jax.enable_x64(True):
        model = (coordinates, likelihood, np.asarray(best.x), ordered_root(covariance))
        bend = bend_of(model)
        along = np.array([potential_along(x, (bend, *model)) for x in w]) - float(best.negative_log_density)
        straight = np.array([negative_log_density(x, model) for x in w]) - float(best.negative_log_density)
    expected = 0.5 * (w**2).sum(axis=1)
    assert np.abs(along - expected).max() < 0.02
    assert np.abs(straight - expected).max() > 100


def test_directions_are_moved_by_those_before_them(prepared):
    """So the determinant is 1."""
    with jax.enable_x64(True):
        coordinates, likelihood, best, covariance = prepared
        bend = bend_of((coordinates, likelihood, np.asarray(best.x), ordered_root(covariance)))
        rows = np.asarray(jax.jacobian(lambda w: bent(w, bend))(np.array([0.4, -1.2, 0.7])))
    np.testing.assert_array_equal(np.triu(rows), np.eye(3))
    assert np.abs(bend).max() > 1


def moments(x):
    """Three means and sds of draws (chain, draw, 3): of alpha1 off the ridge, alpha2 and alpha4."""
    a1, a2, a4 = np.moveaxis(np.asarray(x), -1, 0)
    off = a1 - CURVE * (a2 - 1) ** 2 - MIXED * (a2 - 1) * a4
    return np.array([[v.mean(), v.std()] for v in (off, a2, a4)])


def test_draws_along_the_ridge(prepared):
    """Means and sds within 5 errors of 2,000 draws, in short trees; the twin takes trees ten times as long."""
    key, asked = jax.random.key(3), {"num_draws": 2000, "num_chains": 4, "num_warmup": 200}
    with jax.enable_x64(True):
        common = ("nuts", key, *prepared, *asked.values(), lambda stage: None)
        x, _, found = draw_by(*common, along_ridge=True)
        *_, across = draw_by("nuts", key, *prepared, 20, 4, 60, lambda stage: None)
    assert found["steps_per_draw"] < 10 and across["steps_per_draw"] > 50
    assert max(found["r_hat"].values()) < 1.01 and min(found["ess_bulk"].values()) > 400
    truth = np.array([[0.0, NARROW], [1.0, 0.3], [0.0, 1.0]])
    error = truth[:, 1:] * np.array([1.0, np.sqrt(0.5)]) / np.sqrt(min(found["ess_bulk"].values()))
    assert (np.abs(moments(x) - truth) < 5 * error).all()


def standard_normal(x, model):
    return 0.5 * (x**2).sum()


def test_chains_go_on_until_they_are_enough():
    """They go on from where they are: the first draws are the same; and stop at 16 times the number."""
    asked = {"num_warmup": 60, "num_samples": 70}

    def run(enough):
        return run_nuts(jax.random.key(1), standard_normal, None, jnp.zeros((2, 1)), enough=enough, **asked).draws

    plain, seen = run(lambda draws: True), []
    twice = run(lambda draws: seen.append(draws.shape[1]) or draws.shape[1] > 100)
    assert plain.shape == (2, 70, 1) and twice.shape == (2, 140, 1) and seen == [70, 140]
    np.testing.assert_array_equal(twice[:, :70], plain)
    assert run(lambda draws: False).shape == (2, 16 * 70, 1)


def test_more_draws_are_thinned_to_those_asked_for(prepared, monkeypatch):
    monkeypatch.setattr("massmap_jax.relation.draws.ESS", 1500.0)
    with jax.enable_x64(True):
        x, ln_weight, found = draw_by(
            "nuts", jax.random.key(3), *prepared, 1600, 4, 100, lambda stage: None, along_ridge=True
        )
        few, _, told = draw_by("nuts", jax.random.key(3), *prepared, 400, 4, 100, lambda stage: None, along_ridge=True)
    assert x.shape == (4, 400, 3) and ln_weight.shape == (1600,)
    assert found["draws_made"] in (3200, 6400, 12800, 25600) and min(found["ess_bulk"].values()) > 1500
    # So few draws cannot be as good as that: they are what was asked for.
    assert few.shape == (4, 100, 3) and "draws_made" not in told


def test_draws_of_a_bent_normal(prepared):
    """As good as exact ones; those of the plain normal, the twin, all but miss the ridge."""
    coordinates, likelihood, best, covariance = prepared
    with jax.enable_x64(True):
        x, off = ridge_draws(jax.random.key(5), *prepared, 4000)
        normals = np.random.default_rng(5).normal(size=(200, 3)) @ np.linalg.cholesky(covariance).T
        plain = off_normal(coordinates, likelihood, best, covariance, np.asarray(best.x) + normals)
    assert off["share"] > 0.9 and plain["share"] < 0.3
    truth = np.array([[0.0, NARROW], [1.0, 0.3], [0.0, 1.0]])
    error = truth[:, 1:] * np.array([1.0, np.sqrt(0.5)]) / np.sqrt(4000)
    assert (np.abs(moments(x[None]) - truth) < 5 * error).all()


def test_weights_of_draws_along_the_ridge(prepared):
    """Nearly equal; across the ridge, the twin, they are refused."""
    common = ("importance", jax.random.key(5), *prepared, 1000, 1, 1, lambda stage: None)
    with jax.enable_x64(True):
        _, ln_weight, found = draw_by(*common, along_ridge=True)
        with pytest.raises(MassmapError, match="use method='nuts'"):
            draw_by(*common)
    assert ln_weight.shape == (1000,) and found["ess"] > 900 and found["pareto_k"] < 0.5
