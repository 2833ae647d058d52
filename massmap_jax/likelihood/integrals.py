"""P(L_obs | M, alpha, S, z): the integral over the true luminosity L, four ways.

Every function here is for one halo, one mass and one relation draw; the posterior batches them with named vmaps
(`over_masses`, `over_draws`, `over_halos`). Densities are per unit L_obs.

    f(M) = integral of p4(L_obs | L) p3(L | M, alpha, S, z) dL

- `analytic`: exact where noise and scatter are lognormal: ln L_obs | M ~ N(ln mu_L, S^2 + sigma^2).
- `monte_carlo`: the mean of p4 over draws of p3, the estimator of 2017. The base normals are shared over masses
  within an object, so its error is correlated along the mass axis: a smooth curve is no sign of a small error.
- `importance`: L drawn from p4 reversed about L_obs, weighted by p3.
- `quadrature`: nodes in ln L, for noise known only as a log density (linear flux noise, upper limits).
"""

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float


class AnyRelation(Protocol):
    """What the integrals ask of a relation: `relation.law.Relation`, or anything with the same two methods."""

    def mean_ln_lum(self, ln_mass, z):
        """Mean of ln L at ln M [ln Msun] and z, for one draw."""

    def scatter_ln_lum(self, ln_mass, z):
        """Standard deviation of ln L at ln M [ln Msun] and z, for one draw."""


SAMPLED_METHODS = ("monte_carlo", "importance")
_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)
_QUADRATURE_NODES = 64
_QUADRATURE_REACH = 8.0

over_masses = partial(jax.vmap, in_axes=(0, None, None, None, None, None))
over_draws = partial(jax.vmap, in_axes=(None, None, None, None, 0, 0))
over_halos = partial(jax.vmap, in_axes=(None, 0, 0, 0, None, 0))


def ln_normal(x, mean, sd):
    """ln of the normal density."""
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - _HALF_LN_2PI


def log_noise(ln_lum_obs, ln_lum, sigma_ln_lum, kind: str = "lognormal"):
    """ln p4(L_obs | L) for one of `catalogue.NOISE_KINDS`.

    `lognormal`: ln L_obs ~ N(ln L, sigma). `normal`: L_obs ~ N(L, sigma L_obs), the linear error as a fraction of
    L_obs. `upper_limit`: L_obs is the limit; the probability that a measurement with that error stays below it.
    """
    if kind == "lognormal":
        return ln_normal(ln_lum_obs, ln_lum, sigma_ln_lum) - ln_lum_obs
    ratio = jnp.exp(jnp.minimum(ln_lum - ln_lum_obs, 40.0))  # beyond exp(40) both are zero anyway
    if kind == "normal":
        return ln_normal(1.0, ratio, sigma_ln_lum) - ln_lum_obs
    return log_ndtr((1.0 - ratio) / sigma_ln_lum)


def _analytic(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    if hasattr(relation, "data_term"):
        return relation.data_term(ln_lum_obs, sigma, z)(ln_mass)
    total = jnp.sqrt(relation.scatter_ln_lum(ln_mass, z) ** 2 + sigma**2)
    return ln_normal(ln_lum_obs, relation.mean_ln_lum(ln_mass, z), total) - ln_lum_obs


def _monte_carlo(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    return _ln_mean(monte_carlo_log_weights(ln_mass, z, ln_lum_obs, sigma, relation, normals))


def monte_carlo_log_weights(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln p4 at luminosities drawn from p3: ln mu_L + S normals; (lum,)."""
    ln_lum = relation.mean_ln_lum(ln_mass, z) + relation.scatter_ln_lum(ln_mass, z) * normals
    return -0.5 * ((ln_lum_obs - ln_lum) / sigma) ** 2 - (jnp.log(sigma) + _HALF_LN_2PI + ln_lum_obs)


def _importance(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    return _ln_mean(importance_log_weights(ln_mass, z, ln_lum_obs, sigma, relation, normals))


def importance_log_weights(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln of p3 p4 / q at luminosities drawn from q = p4 reversed, ln L = ln L_obs + sigma normals; (lum,)."""
    scatter = relation.scatter_ln_lum(ln_mass, z)
    offset = ln_lum_obs + sigma * normals - relation.mean_ln_lum(ln_mass, z)
    return -0.5 * (offset / scatter) ** 2 - (jnp.log(scatter) + _HALF_LN_2PI + ln_lum_obs)


def _quadrature(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals, kind="lognormal"):
    """Gauss-Legendre in x, ln L = ln mu_L + S x: the scatter is N(0, 1) in x, also when S is 0."""
    mean, scatter = relation.mean_ln_lum(ln_mass, z), relation.scatter_ln_lum(ln_mass, z)
    offset = ln_lum_obs - mean
    reach = jnp.full_like(mean, _QUADRATURE_REACH)
    if kind == "upper_limit":
        # p3 alone spans +-8 in x; the limit is a step of width sigma / S in it, with nodes of its own.
        safe = jnp.maximum(scatter, 1e-10)
        step, width = offset / safe, 6 * sigma / safe
        edges = jnp.clip(jnp.stack([-reach, step - width, step + width, reach]), -reach, reach)
    else:
        # A measurement narrows p3 to about the product of the two lognormals; the window is widened for the
        # skewness that linear noise has in ln L.
        variance = 1 / (1 + (scatter / sigma) ** 2)
        centre, window = variance * scatter * offset / sigma**2, 1.5 * reach * jnp.sqrt(variance)
        edges = jnp.stack([centre - window, centre + window])
        if kind == "normal":
            # Linear noise falls no further than exp(-1 / 2 sigma^2) as L goes to 0: of masses far too light for L_obs
            # the whole of p3 counts, and a steep prior may make them the greater part.
            edges = jnp.sort(jnp.stack([-reach, *edges, reach]))
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    half = 0.5 * jnp.diff(edges)[:, None]
    x = edges[:-1, None] + half * (1 + jnp.asarray(nodes, dtype=half.dtype))
    ln_integrand = ln_normal(x, 0.0, 1.0) + log_noise(ln_lum_obs, mean + scatter * x, sigma, kind)
    ln_weight = jnp.log(jnp.asarray(weights, dtype=half.dtype)) + jnp.log(jnp.maximum(half, 1e-30))
    return jax.nn.logsumexp(ln_integrand + ln_weight)


def _ln_mean(log_weights):
    """ln of the mean weight, -inf where every weight underflows (no NaN)."""
    peak = jax.lax.stop_gradient(jnp.maximum(log_weights.max(), -1e30))
    return peak + jnp.log(jnp.exp(log_weights - peak).mean())


_INTEGRATORS = {
    "analytic": _analytic,
    "monte_carlo": _monte_carlo,
    "importance": _importance,
    "quadrature": _quadrature,
}


def log_likelihood(method: str, kind: str = "lognormal"):
    """The scalar function ln f(ln_mass, z, ln_lum_obs, sigma, relation, normals) of an integrator and a noise kind.

    Every integrator but `quadrature` is for lognormal noise.
    """
    return partial(_quadrature, kind=kind) if method == "quadrature" else _INTEGRATORS[method]


@partial(jax.jit, static_argnames=("method", "kind"))
def log_likelihood_grid(
    ln_mass: Float[Array, "mass"],
    z: Float[Array, "halo"],
    ln_lum_obs: Float[Array, "halo"],
    sigma_ln_lum: Float[Array, "halo"],
    relation: AnyRelation,
    normals: Float[Array, "halo draw lum"],
    *,
    method: str = "analytic",
    kind: str = "lognormal",
) -> Float[Array, "halo draw mass"]:
    """ln f on halos x relation draws (a batch) x a mass grid; the luminosity samples are reduced inside.

    `normals` are the base normals of the sampled methods (any array with these leading axes for the others).
    """
    function = over_halos(over_draws(over_masses(log_likelihood(method, kind))))
    return function(ln_mass, z, ln_lum_obs, sigma_ln_lum, relation, normals)


def log_weights_at(method: str, ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln weights (draw, lum) of a sampled method at one mass, for its diagnostics; `relation` is a batch."""
    function = {"monte_carlo": monte_carlo_log_weights, "importance": importance_log_weights}[method]
    return over_draws(function)(ln_mass, z, ln_lum_obs, sigma, relation, normals)


def effective_sample_size(log_weights: Float[Array, "sample"]):
    """(sum w)^2 / sum w^2. From few draws it runs high: read it beside Pareto k."""
    w = jnp.exp(log_weights - jnp.maximum(log_weights.max(), -1e30))
    return w.sum() ** 2 / jnp.maximum((w**2).sum(), 1e-30)


def pareto_k(log_weights: Float[Array, "sample"]):
    """Shape k of a generalised Pareto fitted to the largest weights; above 0.7 the mean is not to be trusted.

    Vehtari, Simpson, Gelman, Yao & Gabry 2024 (PSIS), with the fit of Zhang & Stephens 2009 and PSIS's weak prior.
    """
    number = log_weights.shape[0]
    tail = int(min(0.2 * number, 3 * np.sqrt(number)))
    if tail < 5:
        return jnp.full((), jnp.nan, dtype=log_weights.dtype)
    ordered = jnp.sort(log_weights - jnp.maximum(log_weights.max(), -1e30))[-tail - 1 :]
    x = jnp.exp(ordered[1:]) - jnp.exp(ordered[0])
    x = jnp.where(x > 0, x, jnp.finfo(x.dtype).tiny)
    count = 30 + int(np.sqrt(tail))
    grid = 1 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))
    theta = jnp.asarray(grid, dtype=x.dtype) / (3 * x[int(tail / 4 + 0.5) - 1]) + 1 / x[-1]
    k = jnp.log1p(-theta[:, None] * x).mean(axis=1)
    profile = tail * (jnp.log(-theta / k) - k - 1)
    theta = (jax.nn.softmax(profile) * theta).sum()
    k = jnp.log1p(-theta * x).mean()
    return (tail * k + 10 * 0.5) / (tail + 10)


def joint_importance_evidence(key: Array, z, ln_lum_obs, sigma, relation, prior, num_samples: int):
    """ln Z_k of one object and one relation by the 2017 joint scheme, with its effective sample size and Pareto k.

    L from p4 reversed, M from the relation inverted with scatter 2 S / alpha2, weights p1 p3 p4 / (q1 q2). A reference
    for ln Z_k: weighted masses, not a density on a grid. Needs S > 0 and sigma > 0.
    """
    key_lum, key_mass = jax.random.split(key)
    ln_lum = ln_lum_obs + sigma * jax.random.normal(key_lum, (num_samples,))
    inverted = jnp.log(relation.alpha3) + (ln_lum - relation.alpha1 - relation.ln_evolution(z)) / relation.alpha2
    spread = 2 * relation.scatter / jnp.abs(relation.alpha2)
    ln_mass = inverted + spread * jax.random.normal(key_mass, (num_samples,))
    ln_p3 = ln_normal(ln_lum, relation.mean_ln_lum(ln_mass, z), relation.scatter)
    # p4 / q1 = 1 / L_obs exactly.
    log_weights = prior.log_prob(ln_mass, z) + ln_p3 - ln_lum_obs - ln_normal(ln_mass, inverted, spread)
    return _ln_mean(log_weights), effective_sample_size(log_weights), pareto_k(log_weights)
