"""Draws of a posterior over a few numbers that is not normal: a proposal that learns where it is, and weights.

Adaptive multiple importance sampling (Cornuet, Marin, Mira & Robert 2012): draws of a Student t distribution are
weighted by the posterior over the mixture of all proposals so far; their mean and covariance make the next proposal.
It starts from the normal distribution about the maximum, and takes a few thousand evaluations, where NUTS takes a
hundred times as many gradients. Where it finds no good proposal it says so, and gives none.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from scipy.special import gammaln, logsumexp

from massmap_jax.likelihood.integrals import effective_sample_size, pareto_k
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.search import MAX_PARETO_K, Maximum, potentials_of

# Proposals, draws of each, and degrees of freedom: tails that are heavier than those of most posteriors.
_ROUNDS, _EACH, _DEGREES = 6, 256, 5.0
# Weighted draws from which each draw that is given is picked.
_PICKED_FROM = 2


class Adapted(NamedTuple):
    """Draws of equal weight, and how good they are.

    Attributes
    ----------
    x : Float[np.ndarray, "draw dim"]
        The draws, in the sampling coordinates.
    found : dict of str to float
        "pareto_k" and "ess" of the weights that they were picked by.
    """

    x: np.ndarray
    found: dict[str, float]


def adapted_draws(
    key, coordinates: Coordinates, likelihood, best: Maximum, covariance, num_draws: int
) -> Adapted | None:
    """Draw from a posterior that the normal distribution about its maximum does not describe.

    Parameters
    ----------
    key : key
        Random key.
    coordinates : Coordinates
        The coordinates.
    likelihood : callable
        ln likelihood of a relation.
    best : Maximum
        The maximum.
    covariance : Float[np.ndarray, "dim dim"]
        Covariance of the normal approximation.
    num_draws : int
        Number of draws.

    Returns
    -------
    Adapted or None
        The draws; None where the weights are not to be trusted (Pareto k of 0.7 or more).
    """
    centre, root = np.asarray(best.x), np.linalg.cholesky(covariance)
    model = (coordinates, likelihood, centre, root)
    dim = centre.size
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    proposals = [(np.zeros(dim), np.eye(dim))]
    points, values = np.zeros((0, dim)), np.zeros(0)
    for _ in range(_ROUNDS):
        fresh = _student(rng, *proposals[-1], _EACH)
        points, values = np.concatenate([points, fresh]), np.concatenate([values, potentials_of(fresh, model)])
        mixture = logsumexp([_ln_student(points, *p) for p in proposals], axis=0) - np.log(len(proposals))
        weight = _truncated(-values - mixture)
        number = 1 / (weight**2).sum()
        mean = weight @ points
        spread = (weight * (points - mean).T) @ (points - mean)
        # A few draws do not tell a covariance: the last one counts as two for each number.
        last = proposals[-1][1] @ proposals[-1][1].T
        spread = (number * spread + 2 * dim * last) / (number + 2 * dim)
        proposals.append((mean, np.linalg.cholesky(spread)))
    points = _student(rng, *proposals[-1], _PICKED_FROM * num_draws)
    ln_weight = -potentials_of(points, model) - _ln_student(points, *proposals[-1])
    k = float(pareto_k(jnp.asarray(ln_weight)))
    if not k < MAX_PARETO_K:
        return None
    # Systematic resampling: each draw is picked as often as its weight says, to within one.
    summed = np.cumsum(np.exp(ln_weight - logsumexp(ln_weight)))
    chosen = np.searchsorted(summed, summed[-1] * (np.arange(num_draws) + rng.uniform()) / num_draws)
    ess = min(float(effective_sample_size(jnp.asarray(ln_weight))), float(np.unique(chosen).size))
    # In the order of the proposal, draws that were picked twice would follow one another.
    picked = rng.permutation(np.minimum(chosen, points.shape[0] - 1))
    return Adapted(centre + points[picked] @ root.T, {"pareto_k": k, "ess": ess})


def _truncated(ln_weight) -> np.ndarray:
    """Weights whose sum is 1, none above the mean times the root of their number (Ionides 2008)."""
    ln_weight = np.minimum(ln_weight, logsumexp(ln_weight) - 0.5 * np.log(ln_weight.size))
    return np.exp(ln_weight - logsumexp(ln_weight))


def _student(rng, mean, root, number: int) -> np.ndarray:
    """Draws (draw, dim) of a Student t distribution."""
    normals = rng.normal(size=(number, mean.size))
    return mean + normals @ root.T / np.sqrt(rng.chisquare(_DEGREES, number) / _DEGREES)[:, None]


def _ln_student(points, mean, root) -> np.ndarray:
    """ln of the density of a Student t distribution at some points."""
    dim = mean.size
    away = np.linalg.solve(root, (points - mean).T)
    ln_norm = gammaln((_DEGREES + dim) / 2) - gammaln(_DEGREES / 2) - 0.5 * dim * np.log(_DEGREES * np.pi)
    ln_norm = ln_norm - np.log(np.abs(np.diag(root))).sum()
    return ln_norm - 0.5 * (_DEGREES + dim) * np.log1p((away**2).sum(axis=0) / _DEGREES)
