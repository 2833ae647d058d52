"""NUTS on a density over a few numbers: chains advance together, in blocks that can be watched and interrupted."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS
from numpyro.infer.util import ParamInfo

from massmap_jax.steps import Step

# Sampling is good with a smaller R-hat and more effective draws than these.
R_HAT, ESS = 1.01, 400.0
_BLOCK = 50
# Chains that are not long enough go on to at most so many times the draws that were asked for.
_LONGEST = 16


class Chains(NamedTuple):
    """The draws of some chains after their warm-up.

    Attributes
    ----------
    draws : np.ndarray, (chain, draw, dim)
        The draws.
    divergences : np.ndarray, (chain,)
        Number of divergent transitions of each chain.
    steps_per_draw : float
        Mean number of leapfrog steps for a draw.
    """

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
    enough: Callable[[np.ndarray], bool] = lambda draws: True,
    watch: Callable[[str], None] = lambda stage: None,
) -> Chains:
    """Sample exp(-potential(x, model)) by NUTS.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    potential : callable
        (x, model) -> -ln density. `x` is whitened: the mass matrix stays at 1, and only the step size is adapted.
    model : object
        A pytree of the data; one compilation serves all of its values.
    start : Float[Array, "chain dim"]
        Where the chains start.
    num_warmup, num_samples : int
        Transitions of each chain before the draws are kept, and draws kept.
    max_tree_depth : int, optional
        Limit of the trees of NUTS.
    model_axes : object, optional
        As `in_axes` of `jax.vmap`, for chains that have data of their own.
    enough : callable, optional
        Draws (chain, draw, dim) -> whether they suffice. Where they do not, the chains go on to twice as many, and
        again, up to 16 times `num_samples`.
    watch : callable, optional
        Called with a line of text after each block.

    Returns
    -------
    Chains
        All draws that were made, divergences and steps.
    """
    what, number = "sampling the relation", num_warmup + num_samples
    watch(Step(what, 0, number))
    keys = jax.random.split(key, start.shape[0])
    state = _start(keys, start, model, potential, num_warmup, max_tree_depth, model_axes)
    draws, divergences, steps, done, kept = [], 0, 0, 0, 0
    while done < number:
        state, block = _advance(state, model, potential, num_warmup, max_tree_depth, model_axes)
        watch(Step(what, min(done + _BLOCK, number), number))
        part = slice(max(num_warmup - done, 0), max(min(_BLOCK, number - done), 0))
        x, diverging, num_steps = (np.asarray(a)[:, part] for a in block)
        draws.append(x)
        divergences, steps = divergences + diverging.sum(axis=1), steps + num_steps.sum()
        done, kept = done + _BLOCK, kept + x.shape[1]
        if done >= number and 2 * kept <= _LONGEST * num_samples and not enough(np.concatenate(draws, axis=1)):
            number = done + kept
    joined = np.concatenate(draws, axis=1)
    return Chains(joined, divergences, float(steps) / max(joined.shape[0] * joined.shape[1], 1))


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
        # NumPyro's kernel defines its transition in `init`; the state that `init` returns is not used. It is given the
        # gradient, or it would trace and compile another one.
        known = ParamInfo(state.z, state.potential_energy, state.z_grad)
        kernel.init(jax.random.key(0), num_warmup, known, (), {})

        def step(state, _):
            state = kernel.sample(state, (), {})
            return state, (state.z, state.diverging, state.num_steps)

        return jax.lax.scan(step, state, None, length=_BLOCK)

    return jax.vmap(chain, (0, model_axes))(state, model)


def diagnostics(draws: Float[Array, "chain draw"]) -> dict[str, float]:
    """Evaluate split R-hat and the effective sample sizes of one number's chains.

    Parameters
    ----------
    draws : Float[Array, "chain draw"]
        The draws.

    Returns
    -------
    dict of str to float
        "r_hat", "ess_bulk" and "ess_tail"; the tail's is the lesser one of the 5 and 95 % quantiles.

    Notes
    -----
    Rank-normalised, as in Vehtari et al. 2021, Bayesian Analysis 16, 667.
    """
    from scipy.stats import norm, rankdata  # slow to import, and used only here

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
