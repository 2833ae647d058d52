"""Draws of a posterior over a few numbers: from the normal about its maximum, with or without weights, or by NUTS."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.integrals import effective_sample_size, pareto_k
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.nuts import ESS, R_HAT, diagnostics, run_nuts
from massmap_jax.relation.ridge import bend_of, bent, ordered_root, potential_along
from massmap_jax.relation.search import (
    MAX_PARETO_K,
    PART,
    Maximum,
    log_weights,
    negative_log_density,
    off_by_weights,
)

_DIAGNOSED = ("r_hat", "ess_bulk", "ess_tail")


def draw_by(
    method: str,
    key,
    coordinates: Coordinates,
    likelihood,
    best: Maximum,
    covariance,
    num_draws: int,
    num_chains: int,
    num_warmup: int,
    watch: Callable[[str], None],
    *,
    along_ridge: bool = False,
):
    """Draw by the method that was chosen.

    Parameters
    ----------
    method : {"laplace", "importance", "nuts"}
        How.
    key : key
        Random key.
    coordinates : Coordinates
        The coordinates.
    likelihood : callable
        ln likelihood of a relation.
    best : Maximum
        The maximum.
    covariance : Float[np.ndarray, "dim dim"]
        Inverse Hessian there.
    num_draws, num_chains, num_warmup : int
        As in `fit_relation`.
    watch : callable
        Called with a line of text at each stage.
    along_ridge : bool, optional
        Whether NUTS and the draws of "importance" follow the posterior as it is bent.

    Returns
    -------
    x : Float[np.ndarray, "chain draw dim"]
        The draws, in the sampling coordinates.
    log_weight : Float[np.ndarray, "chain*draw"]
        ln of their weights.
    found : dict of str to object
        Diagnostics.

    Raises
    ------
    MassmapError
        Draws of "importance" with a Pareto k of 0.7 or more.
    """
    if method == "nuts":
        return _by_nuts(
            key, coordinates, likelihood, best, covariance, num_draws, num_chains, num_warmup, watch, along_ridge
        )
    # The straight normal of "laplace" is compared with the posterior first.
    along_ridge = along_ridge and method == "importance"
    if along_ridge:
        watch("measuring how the posterior is bent")
    normal = _Normal(coordinates, likelihood, best, covariance, along_ridge)
    key_again, key_draw = jax.random.split(key)
    normals, u, x = normal.draws(key_draw, num_draws)
    if method == "laplace":
        x, inside = _within_prior(key_again, coordinates, x, normal.placed)
        return x[None], np.zeros(num_draws), {"inside_prior": inside}
    watch("weighing the draws")
    ln_weight = log_weights(normals, normal.model, u) + float(best.negative_log_density)
    k = float(pareto_k(jnp.asarray(ln_weight)))
    if not k < MAX_PARETO_K:
        raise MassmapError(
            f"the normal approximation is too far from the posterior to be reweighted (Pareto k = {k:.2f}, at most "
            f"{MAX_PARETO_K}): use method='nuts'"
        )
    return x[None], ln_weight, {"pareto_k": k, "ess": float(effective_sample_size(jnp.asarray(ln_weight)))}


def _by_nuts(key, coordinates, likelihood, best, covariance, num_draws, num_chains, num_warmup, watch, along_ridge):
    """Draws of NUTS, which goes on until they are good, where as many were asked for as good ones need."""
    if along_ridge:
        watch("measuring how the posterior is bent")
    normal = _Normal(coordinates, likelihood, best, covariance, along_ridge)
    potential, model = negative_log_density, normal.model
    if along_ridge:
        potential, model = potential_along, (normal.bend, *normal.model)

    def diagnosed(draws):
        values = {p: np.asarray(v) for p, v in coordinates.reported(normal.placed(draws)).items()}
        found = {p: diagnostics(v) for p, v in values.items()}
        return {name: {p: one[name] for p, one in found.items()} for name in _DIAGNOSED}

    def enough(draws):
        found = diagnosed(draws)
        least = min(min(found[name].values()) for name in ("ess_bulk", "ess_tail"))
        return num_draws < ESS or (max(found["r_hat"].values()) < R_HAT and least > ESS)

    key_start, key_draw = jax.random.split(key)
    start = np.asarray(jax.random.normal(key_start, (num_chains, best.x.size))) * 0.5
    each = -(-num_draws // num_chains)
    settings = {"num_warmup": num_warmup, "num_samples": each, "enough": enough, "watch": watch}
    chains = run_nuts(key_draw, potential, model, start, **settings)
    found = diagnosed(chains.draws)
    made = chains.draws.shape[1]
    found |= {"divergences": int(chains.divergences.sum()), "steps_per_draw": round(chains.steps_per_draw, 2)}
    found |= {"draws_made": num_chains * made} if made > each else {}
    x = normal.placed(chains.draws[:, made // each - 1 :: made // each])
    return x, np.zeros(x.shape[0] * x.shape[1]), found


def ridge_draws(key, coordinates: Coordinates, likelihood, best: Maximum, covariance, num_draws: int):
    """Draw from a normal that is bent as the posterior is (`relation.ridge`).

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
        Inverse Hessian there.
    num_draws : int
        Number of draws.

    Returns
    -------
    x : Float[np.ndarray, "draw dim"]
        The draws, in the sampling coordinates.
    off : dict of str to object
        How far they are from the posterior, by weights of a part of them, as `search.off_normal` gives it.
    """
    normal = _Normal(coordinates, likelihood, best, covariance, along_ridge=True)
    key_again, key_draw = jax.random.split(key)
    normals, u, x = normal.draws(key_draw, num_draws)
    off = off_by_weights(coordinates, covariance, x[:PART], log_weights(normals[:PART], normal.model, u[:PART]))
    return _within_prior(key_again, coordinates, x, normal.placed)[0], off


class _Normal:
    """The normal about a maximum, straight or bent as the posterior is there."""

    def __init__(self, coordinates, likelihood, best: Maximum, covariance, along_ridge: bool):
        self.centre = np.asarray(best.x)
        self.root = ordered_root(covariance) if along_ridge else np.linalg.cholesky(covariance)
        self.model = (coordinates, likelihood, self.centre, self.root)
        self.bend = bend_of(self.model) if along_ridge else None

    def whitened(self, normals):
        """Whitened coordinates of standard normals."""
        return normals if self.bend is None else np.asarray(bent(normals, self.bend))

    def placed(self, normals):
        """Sampling coordinates of standard normals."""
        return self.centre + self.whitened(normals) @ self.root.T

    def draws(self, key, number: int):
        """Standard normals (draw, dim), and where they are in whitened and in sampling coordinates."""
        normals = np.asarray(jax.random.normal(key, (number, self.centre.size)))
        u = self.whitened(normals)
        return normals, u, self.centre + u @ self.root.T


def _within_prior(key, coordinates, x, placed):
    """Draw again what lies outside the prior's support; give the draws, and the share that was inside at first."""
    outside = ~np.asarray(_supported(coordinates, x))
    inside = 1 - float(outside.mean())
    while outside.any():
        # No endless loop: the maximum lies inside, and the normal has its highest density there.
        key, own = jax.random.split(key)
        x = np.where(outside[:, None], placed(np.asarray(jax.random.normal(own, x.shape))), x)
        outside = ~np.asarray(_supported(coordinates, x))
    return x, inside


@jax.jit
def _supported(coordinates, x):
    """Whether each point (draw, dim) is inside the prior's support."""
    return jax.vmap(lambda x: coordinates.prior.log_prob(coordinates.values(x)) > -jnp.inf)(x)
