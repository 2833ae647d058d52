"""The search for a maximum, on densities of two numbers whose maxima SciPy and NumPy know."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from massmap_jax.relation.search import maximise

START = np.array([-1.2, 1.0])


class Bent(eqx.Module):
    """A bent ridge, whose curvature is not positive everywhere; coordinates and likelihood in one."""

    size: float

    def log_density(self, x, likelihood):
        return -self.size * ((1 - x[0]) ** 2 + 20 * (x[1] - x[0] ** 2) ** 2)


class Bounded(eqx.Module):
    """ln x - x: no density below zero, and Newton's first step from 3 would end there."""

    size: float

    def log_density(self, x, likelihood):
        return self.size * jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)) - x, -jnp.inf).sum()


@jax.custom_jvp
def tilted(x, tilt):
    return -0.5 * (x @ x)


@tilted.defjvp
def _tilted_jvp(primals, tangents):
    """The derivatives are those of a parabola about `tilt`, as those of an interpolated table are about another place."""
    (x, tilt), (dx, _) = primals, tangents
    return tilted(x, tilt), -(x - tilt) @ dx


class Tilted(eqx.Module):
    """A density whose derivatives are zero beside the maximum of its values."""

    size: float

    def log_density(self, x, likelihood):
        return tilted(x, self.size)


class Lost(eqx.Module):
    """A density that is not finite anywhere."""

    size: float

    def log_density(self, x, likelihood):
        return self.size * jnp.nan * x.sum()


def searched(density, start=START):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, maximise(density, None, jnp.asarray(start, dtype=float)))


def test_maximum_and_curvature_are_those_of_others():
    found = searched(Bent(50.0))
    other = minimize(lambda x: 50 * ((1 - x[0]) ** 2 + 20 * (x[1] - x[0] ** 2) ** 2), START, tol=1e-12)
    np.testing.assert_allclose(found.x, other.x, atol=1e-4)
    np.testing.assert_allclose(found.hessian, 50 * np.array([[162.0, -80.0], [-80.0, 40.0]]), rtol=1e-3)
    assert found.ended and found.decrement < 1e-7 and found.steps < 40
    assert found.negative_log_density < 1e-7


def test_steps_that_leave_the_support_are_halved():
    found = searched(Bounded(10.0), np.array([3.0, 0.2]))
    np.testing.assert_allclose(found.x, 1.0, atol=1e-3)
    assert found.ended and found.decrement < 1e-7


@pytest.mark.parametrize(("tilt", "reached"), [(2e-3, True), (4e-3, False), (0.05, False)])
def test_it_ends_where_values_and_derivatives_disagree(tilt, reached):
    """From the highest value it goes where the derivatives are zero, if the density there is within 1e-5; else it stays."""
    found = searched(Tilted(tilt), np.zeros(2))
    # A step that is taken anew and anew, by 1e-8 of what it should be, would make a hundred.
    assert found.ended and found.steps <= 2
    np.testing.assert_allclose(found.x, tilt * reached, atol=1e-4 * tilt)


def test_a_density_that_is_nowhere_finite_ends_where_it_began():
    found = searched(Lost(1.0))
    assert found.ended and not np.isfinite(found.negative_log_density)
    np.testing.assert_array_equal(found.x, START)


def test_a_batch_of_searches_is_each_of_them():
    starts = np.array([START, [0.5, 2.0], [2.0, -1.0]])
    with jax.enable_x64(True):
        together = jax.vmap(maximise, in_axes=(None, None, 0))(Bent(50.0), None, jnp.asarray(starts))
    for i, start in enumerate(starts):
        alone = searched(Bent(50.0), start)
        np.testing.assert_allclose(together.x[i], alone.x, atol=1e-6)
        assert int(together.steps[i]) == int(alone.steps)
