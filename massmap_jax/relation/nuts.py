"""NUTS on a density over a few numbers, several chains in step, in blocks that can be watched and interrupted."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS

_BLOCK = 50


class Chains(NamedTuple):
    """Draws (chain, draw, dim) after warm-up, divergences (chain,) and mean leapfrog steps a draw."""

    draws: np.ndarray
    divergences: np.ndarray
    steps_per_draw: float


def run_nuts(
    key: Array,
    potential: Callable,
    model,
    start: Float[Array, "chain dim"],
    *,
    num_warmup: int,
    num_samples: int,
    max_tree_depth: int = 8,
    model_axes=None,
    watch: Callable[[str], None] = lambda stage: None,
) -> Chains:
    """Sample exp(-potential(x, model)); `x` whitened (unit metric, which is kept; the step size is adapted).

    `model` is a pytree of the data: one compilation serves all of its values. `model_axes`: as in `jax.vmap`, where
    chains have data of their own.
    """
    keys = jax.random.split(key, start.shape[0])
    state = _start(keys, start, model, potential, num_warmup, max_tree_depth, model_axes)
    draws, divergences, steps = [], 0, 0
    for done in range(0, num_warmup + num_samples, _BLOCK):
        state, block = _advance(state, model, potential, num_warmup, max_tree_depth, model_axes)
        watch(f"sampling the relation: {done + _BLOCK} of {num_warmup + num_samples}")
        kept = slice(max(num_warmup - done, 0), max(min(_BLOCK, num_warmup + num_samples - done), 0))
        x, diverging, num_steps = (np.asarray(a)[:, kept] for a in block)
        draws.append(x)
        divergences, steps = divergences + diverging.sum(axis=1), steps + num_steps.sum()
    draws = np.concatenate(draws, axis=1)
    return Chains(draws, divergences, float(steps) / max(draws.shape[0] * draws.shape[1], 1))


def _kernel(potential, model, max_tree_depth):
    return NUTS(potential_fn=lambda x: potential(x, model), adapt_mass_matrix=False, max_tree_depth=max_tree_depth)


@eqx.filter_jit
def _start(keys, start, model, potential, num_warmup, max_tree_depth, model_axes):
    def chain(key, x, model):
        return _kernel(potential, model, max_tree_depth).init(key, num_warmup, x, (), {})

    return jax.vmap(chain, (0, 0, model_axes))(keys, start, model)


@eqx.filter_jit
def _advance(state, model, potential, num_warmup, max_tree_depth, model_axes):
    def chain(state, model):
        kernel = _kernel(potential, model, max_tree_depth)
        # A kernel makes its transition when it is started; that start is not used.
        kernel.init(jax.random.key(0), num_warmup, jax.tree.map(jnp.zeros_like, state.z), (), {})

        def step(state, _):
            state = kernel.sample(state, (), {})
            return state, (state.z, state.diverging, state.num_steps)

        return jax.lax.scan(step, state, None, length=_BLOCK)

    return jax.vmap(chain, (0, model_axes))(state, model)


def diagnostics(draws: Float[Array, "chain draw"]) -> dict[str, float]:
    """Split R-hat, bulk and tail effective sample size of one number's chains (Vehtari et al. 2021, Bayesian Analysis
    16, 667: rank-normalised; the tail's is the lesser of the 5 and 95 % quantiles')."""
    from scipy.stats import norm, rankdata  # slow to import, and only here of use

    flat = np.asarray(draws, dtype=np.float64)
    scores = norm.ppf((rankdata(flat).reshape(flat.shape) - 0.375) / (flat.size + 0.25))
    folded = np.abs(flat - np.median(flat))
    folded = norm.ppf((rankdata(folded).reshape(flat.shape) - 0.375) / (flat.size + 0.25))
    tails = [effective_sample_size((flat <= np.quantile(flat, level)).astype(float)) for level in (0.05, 0.95)]
    return {
        "r_hat": float(max(split_gelman_rubin(scores), split_gelman_rubin(folded))),
        "ess_bulk": float(effective_sample_size(scores)),
        "ess_tail": float(min(tails)),
    }
