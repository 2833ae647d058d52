"""The search for the maximum of a posterior over a few numbers, and how far it is from a normal: of every fit.

Masses are marginalised, so few numbers are left, in the coordinates of `relation.coordinates`. Newton's method finds
the maximum; the inverse Hessian there is the Laplace approximation, the proposal of the importance sampler and the mass
matrix of NUTS. Everything runs in float64, whatever JAX's default: ln L is near 1e6.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.integrals import effective_sample_size, pareto_k
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.marginal import RelationLikelihood

MAX_PARETO_K = 0.7
_MAX_STEPS = 100
# Half of g H^-1 g: the ln density still to be gained.
_CONVERGED = 1e-7
# The same where the likelihood has small steps of its own: within 0.005 standard deviations of the maximum.
_CONVERGED_BY_DIFFERENCES = 1e-5
# A maximum with less than this to be gained, 0.14 standard deviations, is good for a fit, which says how far it is off.
_ENOUGH_FOR_A_FIT = 1e-2
# Points whose densities are evaluated by one call of compiled code.
PART = 64


class Maximum(NamedTuple):
    """The maximum of a posterior in its unconstrained coordinates, and the Hessian there.

    Attributes
    ----------
    x : Float[Array, "dim"]
        Coordinates of the maximum.
    negative_log_density : Float[Array, ""]
        -ln density there.
    hessian : Float[Array, "dim dim"]
        Second derivatives of -ln density there.
    decrement : Float[Array, ""]
        Half of g H^-1 g: the ln density still to be gained.
    steps : Array, ()
        Newton steps taken.
    ended : Array, ()
        Whether the search ended before the limit of steps.
    """

    x: Float[Array, " dim"]
    negative_log_density: Float[Array, ""]
    hessian: Float[Array, "dim dim"]
    decrement: Float[Array, ""]
    steps: Array
    ended: Array


@jax.jit
def maximise(coordinates: Coordinates, likelihood: RelationLikelihood, start: Float[Array, " dim"]) -> Maximum:
    """Find the maximum of the ln density by Newton's method.

    The curvature is made positive, and steps are halved until the density rises. It is pure JAX and works under vmap.
    Second derivatives are those of JAX, or differences of the gradient, by the step `difference` that the likelihood
    asks for; it then says by `smooth` whether it has no small steps of its own.
    """

    def objective(x):
        return -coordinates.log_density(x, likelihood)

    step_of_differences = getattr(likelihood, "difference", None)
    smooth = getattr(likelihood, "smooth", step_of_differences is None)
    enough = _CONVERGED if smooth else _CONVERGED_BY_DIFFERENCES

    def derivatives(x):
        def gradient(x):
            value, gradient = jax.value_and_grad(objective)(x)
            return gradient, (value, gradient)

        if step_of_differences is None:
            hessian, (value, gradient) = jax.jacfwd(gradient, has_aux=True)(x)
            return value, gradient, hessian
        steps = step_of_differences * jnp.eye(x.size)
        gradients, (values, _) = jax.lax.map(gradient, x + jnp.concatenate([jnp.zeros((1, x.size)), steps, -steps]))
        rows = (gradients[1 : x.size + 1] - gradients[x.size + 1 :]) / (2 * step_of_differences)
        return values[0], gradients[0], 0.5 * (rows + rows.T)

    def expand(x):
        value, gradient, hessian = derivatives(x)
        curvature, vectors = jnp.linalg.eigh(hessian)
        curvature = jnp.maximum(jnp.abs(curvature), 1e-10 * jnp.abs(curvature).max())
        step = -vectors @ ((vectors.T @ gradient) / curvature)
        step = step / jnp.maximum(1.0, jnp.abs(step).max())
        return value, hessian, step, -0.5 * gradient @ step

    def body(state):
        # One evaluation of everything a turn, whether the point is then taken or not: the ln density alone beside it
        # would be compiled a second time, and of a Newton step's first tries nearly all are taken.
        best, step, size = state
        x = best.x + size * step
        value, hessian, new_step, decrement = expand(x)
        before, reached = best.negative_log_density, decrement < enough
        # 1e-13: the rounding of a ln likelihood of 1e6.
        lower = value <= before - 2e-4 * size * best.decrement + 1e-13 * jnp.abs(before)
        # Where so little is left to be gained, tables and their derivatives may disagree on where the density rises.
        # The search ends, at a point where the derivatives are zero if there is one as high.
        near = best.decrement < _CONVERGED_BY_DIFFERENCES
        level = near & reached & (value <= before + _CONVERGED_BY_DIFFERENCES)
        least = jnp.where(near, 1.0, jnp.where(best.decrement < _ENOUGH_FOR_A_FIT, 1e-3, 1e-8))
        last = size <= least
        taken = (best.steps == 0) | lower | ((size <= 1e-8) & (value <= before)) | level
        new = Maximum(x, value, hessian, decrement, best.steps + 1, reached)
        kept = best._replace(ended=last)
        best = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, kept)
        return best, jnp.where(taken, new_step, step), jnp.where(taken, 1.0, 0.5 * size)

    unknown = jnp.asarray(jnp.nan)
    first = Maximum(
        start, unknown, jnp.full((start.size, start.size), jnp.nan), unknown, jnp.asarray(0), start[0] > jnp.inf
    )
    best, _, _ = jax.lax.while_loop(
        lambda state: ~state[0].ended & (state[0].steps < _MAX_STEPS),
        body,
        (first, jnp.zeros_like(start), jnp.asarray(1.0)),
    )
    return best


@jax.jit
def at_alpha3(coordinates, chains, best, covariance):
    """Draws, maximum and covariance of the reported parameters at alpha3, from the sampling coordinates."""
    maximum = coordinates.reported(best)
    jacobian = jax.jacobian(lambda x: jnp.stack([coordinates.reported(x)[p] for p in maximum]))(best)
    return coordinates.reported(chains), maximum, jacobian @ covariance @ jacobian.T


@jax.jit
def relation_at(coordinates, x):
    """Make the relation at a point, or a batch at several points, in the sampling coordinates."""
    return coordinates.prior.relation(coordinates.values(x))


def covariance_of(best: Maximum, coordinates: Coordinates) -> np.ndarray:
    """Inverse Hessian at the maximum; an error that says why, where there is no maximum inside the prior."""
    x, hessian = np.asarray(best.x), np.asarray(best.hessian)
    values = {p: float(v) for p, v in coordinates.values(best.x).items()}
    at = ", ".join(f"{p} = {float(v):.4g}" for p, v in coordinates.reported(best.x).items())
    for name, value in values.items():
        support = coordinates.prior.beliefs[name].support
        ends = [float(getattr(support, end)) for end in ("lower_bound", "upper_bound") if hasattr(support, end)]
        near = [e for e in ends if abs(value - e) < 1e-4 * max(coordinates.prior.sd()[name], 1e-12)]
        if near:
            raise MassmapError(
                f"the prior of {name} excludes the data: the posterior is highest at its bound {near[0]:g} ({at}); "
                "widen it, or look for objects that the relation or the mass prior does not describe"
            )
    good = np.isfinite(x).all() and np.isfinite(hessian).all() and float(best.decrement) < _ENOUGH_FOR_A_FIT
    curvature, vectors = np.linalg.eigh(hessian) if np.isfinite(hessian).all() else (np.array([-1.0]), np.eye(1))
    if not good or curvature.min() <= 0:
        direction = coordinates.free[int(np.argmax(np.abs(vectors[:, 0])))] if vectors.shape[0] > 1 else "the relation"
        raise MassmapError(
            f"the relation has no maximum inside its prior after {int(best.steps)} steps ({at}): the data do not bound "
            f"{direction}; give it a normal prior or fix it, and check the unit of the luminosity and the mass prior"
        )
    return np.linalg.inv(hessian)


def negative_log_density(x, model):
    """Potential in whitened coordinates: x = centre + root u."""
    coordinates, likelihood, centre, root = model
    value = -coordinates.log_density(centre + root @ x, likelihood)
    # Outside the table of G, or outside the prior's support, the potential is infinite.
    return jnp.where(jnp.isfinite(value), value, jnp.inf)


def off_normal(coordinates, likelihood, best: Maximum, covariance, x) -> dict[str, Any]:
    """Measure how far the posterior is from the normal distribution about its maximum.

    Parameters
    ----------
    coordinates : Coordinates
        The coordinates.
    likelihood : callable
        ln likelihood of a relation.
    best : Maximum
        The maximum.
    covariance : Float[np.ndarray, "dim dim"]
        Covariance of the normal approximation.
    x : Float[np.ndarray, "draw dim"]
        Draws of the normal.

    Returns
    -------
    dict of str to object
        As of `off_by_weights`.
    """
    root, centre = np.linalg.cholesky(covariance), np.asarray(best.x)
    normals = np.linalg.solve(root, (x - centre).T).T
    return off_by_weights(coordinates, covariance, x, log_weights(normals, (coordinates, likelihood, centre, root)))


def off_by_weights(coordinates, covariance, x, ln_weight) -> dict[str, Any]:
    """Tell how far draws are from the posterior by the weights that would make them exact.

    Parameters
    ----------
    coordinates : Coordinates
        The coordinates.
    covariance : Float[np.ndarray, "dim dim"]
        Covariance about the maximum.
    x : Float[np.ndarray, "draw dim"]
        The draws.
    ln_weight : Float[np.ndarray, "draw"]
        ln of their weights.

    Returns
    -------
    dict of str to object
        "pareto_k" of the weights; "share", their effective number over the number of draws; and "shift", by how much
        the weights would move the mean of each parameter in the coordinates, in standard deviations. For the shift the
        weights are truncated (Ionides 2008).
    """
    weight = np.exp(ln_weight - ln_weight.max())
    weight = np.minimum(weight, weight.sum() / np.sqrt(weight.size))
    shift = (weight @ x / weight.sum() - x.mean(axis=0)) / np.sqrt(np.diag(covariance))
    named = dict(zip(coordinates.free, shift.tolist(), strict=True))
    share = float(effective_sample_size(jnp.asarray(ln_weight))) / ln_weight.size
    return {"pareto_k": float(pareto_k(jnp.asarray(ln_weight))), "share": share, "shift": named}


def log_weights(normals, model, at=None) -> np.ndarray:
    """ln of the weights that make draws (draw, dim) of the normal exact, up to a constant.

    Where a map of determinant 1 moves them, `at` is where to.
    """
    return 0.5 * (normals**2).sum(axis=1) - potentials_of(normals if at is None else at, model)


def potentials_of(points, model) -> np.ndarray:
    """-ln density at any number of points (draw, dim) in whitened coordinates."""
    # In parts of one size, of which the last is filled up: another number of draws compiles nothing new.
    filled = np.concatenate([points, np.repeat(points[-1:], -len(points) % PART, axis=0)])
    parts = [np.asarray(potentials(part, model)) for part in filled.reshape(-1, PART, filled.shape[1])]
    return np.concatenate(parts)[: len(points)]


@jax.jit
def potentials(normals, model):
    """Potential of each point (draw, dim) in whitened coordinates, one after the other."""
    return jax.lax.map(lambda u: negative_log_density(u, model), normals)
