"""P(L_obs | M, alpha, S, z): the integral over the true luminosity L, by four methods.

Every function here is for one halo, one mass and one relation draw; the posterior batches them with named vmaps
(`over_masses`, `over_draws`, `over_halos`). Densities are per unit L_obs.

    f(M) = integral of p4(L_obs | L) p3(L | M, alpha, S, z) dL

p3 is the relation with its intrinsic scatter S, p4 the measurement with its error sigma.

- `analytic`: exact where noise and scatter are lognormal: ln L_obs | M ~ N(ln mu_L, S^2 + sigma^2). For linear noise
  and upper limits it is a table, good to 1e-3 standard deviations of ln M (`likelihood.linear_noise`).
- `monte_carlo`: the mean of p4 over draws of p3, the estimator of 2017. The base normals are shared over masses
  within an object, so its errors are correlated along the mass axis: a smooth curve does not mean a small error.
- `importance`: L drawn from p4 reversed about L_obs, weighted by p3.
- `quadrature`: nodes in ln L, for any noise and any relation; slow.
"""

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from massmap_jax.likelihood import linear_noise


class AnyRelation(Protocol):
    """A relation as the integrals need it: `relation.law.Relation`, or any class with the same two methods.

    Both methods are written for one draw of the relation and broadcast their arguments.
    """

    def mean_ln_lum(self, ln_mass, z):
        """Return the mean of ln L at a mass and redshift.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the mass [ln Msun].
        z : Float[Array, "..."]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            Mean of ln L [ln of the relation's unit].
        """

    def scatter_ln_lum(self, ln_mass, z):
        """Return the intrinsic scatter of ln L at a mass and redshift.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the mass [ln Msun].
        z : Float[Array, "..."]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            Standard deviation of ln L.
        """


SAMPLED_METHODS = ("monte_carlo", "importance")
_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)
_QUADRATURE_NODES = 64
_QUADRATURE_REACH = 8.0

over_masses = partial(jax.vmap, in_axes=(0, None, None, None, None, None))
over_draws = partial(jax.vmap, in_axes=(None, None, None, None, 0, 0))
over_halos = partial(jax.vmap, in_axes=(None, 0, 0, 0, None, 0))


def ln_normal(x, mean, sd):
    """Compute the ln of a normal density.

    Parameters
    ----------
    x : Float[Array, "..."]
        Where to evaluate it.
    mean : Float[Array, "..."]
        Mean.
    sd : Float[Array, "..."]
        Standard deviation.

    Returns
    -------
    Float[Array, "..."]
        ln of the density, in the broadcast shape.
    """
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - _HALF_LN_2PI


def log_noise(ln_lum_obs, ln_lum, sigma_ln_lum, kind: str = "lognormal"):
    """Compute ln p4(L_obs | L) for a kind of noise.

    Parameters
    ----------
    ln_lum_obs : Float[Array, "..."]
        ln of the observed luminosity or of the limit [ln of the catalogue's unit].
    ln_lum : Float[Array, "..."]
        ln of the true luminosity, in the same unit.
    sigma_ln_lum : Float[Array, "..."]
        Error of the luminosity: in ln L, or for the other kinds as a fraction of L_obs, which is negative where a
        measurement is below zero; `ln_lum_obs` is then ln of its absolute value.
    kind : {"lognormal", "normal", "upper_limit"}
        One of `catalogue.halo_catalogue.NOISE_KINDS`, see Notes.

    Returns
    -------
    Float[Array, "..."]
        ln of the density per unit L_obs, or for an upper limit ln of the probability.

    Notes
    -----
    "lognormal": ln L_obs ~ N(ln L, sigma). "normal": L_obs ~ N(L, sigma L_obs), so sigma is the linear error as a
    fraction of L_obs. "upper_limit": L_obs is the limit, and the value is the probability that a measurement with that
    error stays below it.
    """
    if kind == "lognormal":
        return ln_normal(ln_lum_obs, ln_lum, sigma_ln_lum) - ln_lum_obs
    ratio = jnp.exp(jnp.minimum(ln_lum - ln_lum_obs, 40.0))  # beyond exp(40) both densities are zero
    if kind == "normal":
        return ln_normal(jnp.sign(sigma_ln_lum), ratio, jnp.abs(sigma_ln_lum)) - ln_lum_obs
    return log_ndtr((1.0 - ratio) / sigma_ln_lum)


def _analytic(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln f in closed form: both scatter and noise are lognormal (or the relation's own data term)."""
    if hasattr(relation, "data_term"):
        return relation.data_term(ln_lum_obs, sigma, z)(ln_mass)
    total = jnp.sqrt(relation.scatter_ln_lum(ln_mass, z) ** 2 + sigma**2)
    return ln_normal(ln_lum_obs, relation.mean_ln_lum(ln_mass, z), total) - ln_lum_obs


def _monte_carlo(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln f as the mean of p4 over luminosities drawn from p3."""
    return _ln_mean(monte_carlo_log_weights(ln_mass, z, ln_lum_obs, sigma, relation, normals))


def monte_carlo_log_weights(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """Compute ln p4 at luminosities drawn from p3, ln L = ln mu_L + S normals.

    Parameters
    ----------
    ln_mass : Float[Array, ""]
        ln of the mass [ln Msun].
    z : Float[Array, ""]
        Redshift.
    ln_lum_obs : Float[Array, ""]
        ln of the observed luminosity [ln of the catalogue's unit].
    sigma : Float[Array, ""]
        Error of the luminosity [ln L].
    relation : AnyRelation
        One draw of the relation.
    normals : Float[Array, "lum"]
        Standard normals, one per luminosity sample.

    Returns
    -------
    Float[Array, "lum"]
        ln p4 of each sample.
    """
    ln_lum = relation.mean_ln_lum(ln_mass, z) + relation.scatter_ln_lum(ln_mass, z) * normals
    return -0.5 * ((ln_lum_obs - ln_lum) / sigma) ** 2 - (jnp.log(sigma) + _HALF_LN_2PI + ln_lum_obs)


def _importance(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """ln f as the mean weight of luminosities drawn from p4 reversed."""
    return _ln_mean(importance_log_weights(ln_mass, z, ln_lum_obs, sigma, relation, normals))


def importance_log_weights(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """Compute ln of p3 p4 / q at luminosities drawn from q, p4 reversed: ln L = ln L_obs + sigma normals.

    Parameters
    ----------
    ln_mass : Float[Array, ""]
        ln of the mass [ln Msun].
    z : Float[Array, ""]
        Redshift.
    ln_lum_obs : Float[Array, ""]
        ln of the observed luminosity [ln of the catalogue's unit].
    sigma : Float[Array, ""]
        Error of the luminosity [ln L].
    relation : AnyRelation
        One draw of the relation.
    normals : Float[Array, "lum"]
        Standard normals, one per luminosity sample.

    Returns
    -------
    Float[Array, "lum"]
        ln weight of each sample.
    """
    scatter = relation.scatter_ln_lum(ln_mass, z)
    offset = ln_lum_obs + sigma * normals - relation.mean_ln_lum(ln_mass, z)
    return -0.5 * (offset / scatter) ** 2 - (jnp.log(scatter) + _HALF_LN_2PI + ln_lum_obs)


def _quadrature(ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals, kind="lognormal"):
    """Gauss-Legendre in x, where ln L = ln mu_L + S x: the scatter is N(0, 1) in x, also when S is 0."""
    mean, scatter = relation.mean_ln_lum(ln_mass, z), relation.scatter_ln_lum(ln_mass, z)
    offset = ln_lum_obs - mean
    reach = jnp.full_like(mean, _QUADRATURE_REACH)
    if kind == "upper_limit":
        # p3 spans +-8 in x; in it the limit is a step of width sigma / S, which gets nodes of its own.
        safe = jnp.maximum(scatter, 1e-10)
        step, width = offset / safe, 6 * sigma / safe
        edges = jnp.clip(jnp.stack([-reach, step - width, step + width, reach]), -reach, reach)
    else:
        # A measurement narrows p3 to about the product of the two lognormals; the window is widened for the
        # skewness that linear noise has in ln L.
        variance = 1 / (1 + (scatter / sigma) ** 2)  # sigma may be negative
        centre, window = variance * scatter * offset / sigma**2, 1.5 * reach * jnp.sqrt(variance)
        edges = jnp.stack([centre - window, centre + window])
        if kind == "normal":
            # As L goes to 0 linear noise only falls to exp(-1 / 2 sigma^2): for masses far too light for L_obs all of
            # p3 contributes, and a steep prior may make such masses the greater part of the posterior.
            edges = jnp.sort(jnp.stack([-reach, *edges, reach]))
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    half = 0.5 * jnp.diff(edges)[:, None]
    x = edges[:-1, None] + half * (1 + jnp.asarray(nodes, dtype=half.dtype))
    ln_integrand = ln_normal(x, 0.0, 1.0) + log_noise(ln_lum_obs, mean + scatter * x, sigma, kind)
    ln_weight = jnp.log(jnp.asarray(weights, dtype=half.dtype)) + jnp.log(jnp.maximum(half, 1e-30))
    return jax.nn.logsumexp(ln_integrand + ln_weight)


def _ln_mean(log_weights):
    """ln of the mean weight; -inf, and not NaN, where every weight underflows."""
    peak = jax.lax.stop_gradient(jnp.maximum(log_weights.max(), -1e30))
    return peak + jnp.log(jnp.exp(log_weights - peak).mean())


_INTEGRATORS = {
    "analytic": _analytic,
    "monte_carlo": _monte_carlo,
    "importance": _importance,
    "quadrature": _quadrature,
}


def log_likelihood(method: str, kind: str = "lognormal"):
    """Return the function ln f of an integration method and a noise kind.

    Parameters
    ----------
    method : {"analytic", "monte_carlo", "importance", "quadrature"}
        Integration method, see the module. The sampled ones are for lognormal noise.
    kind : {"lognormal", "normal", "near", "upper_limit"}
        Noise kind; "near" as in `likelihood.linear_noise.kernel`.

    Returns
    -------
    Callable
        ln f(ln_mass, z, ln_lum_obs, sigma, relation, normals) of scalars, per unit L_obs.
    """
    if method == "analytic" and kind != "lognormal":
        return partial(linear_noise.ln_likelihood, kind=kind)
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
    """Compute ln f on halos x relation draws x a grid of masses.

    Parameters
    ----------
    ln_mass : Float[Array, "mass"]
        Mass grid [ln Msun].
    z : Float[Array, "halo"]
        Redshifts.
    ln_lum_obs : Float[Array, "halo"]
        ln of the observed luminosities [ln of the catalogue's unit].
    sigma_ln_lum : Float[Array, "halo"]
        Errors of the luminosities [ln L].
    relation : AnyRelation
        A batch of relation draws.
    normals : Float[Array, "halo draw lum"]
        Base normals of the sampled methods; for the other methods any array with these leading axes.
    method : {"analytic", "monte_carlo", "importance", "quadrature"}
        Integration method, see the module.
    kind : {"lognormal", "normal", "upper_limit"}
        Noise kind, for "analytic" and "quadrature".

    Returns
    -------
    Float[Array, "halo draw mass"]
        ln f per unit L_obs. The luminosity samples are averaged over.
    """
    function = over_halos(over_draws(over_masses(log_likelihood(method, kind))))
    return function(ln_mass, z, ln_lum_obs, sigma_ln_lum, relation, normals)


def log_weights_at(method: str, ln_mass, z, ln_lum_obs, sigma, relation: AnyRelation, normals):
    """Compute the ln weights of a sampled method at one mass, for its diagnostics.

    Parameters
    ----------
    method : {"monte_carlo", "importance"}
        Sampled method.
    ln_mass : Float[Array, ""]
        ln of the mass [ln Msun].
    z : Float[Array, ""]
        Redshift.
    ln_lum_obs : Float[Array, ""]
        ln of the observed luminosity [ln of the catalogue's unit].
    sigma : Float[Array, ""]
        Error of the luminosity [ln L].
    relation : AnyRelation
        A batch of relation draws.
    normals : Float[Array, "draw lum"]
        Base normals.

    Returns
    -------
    Float[Array, "draw lum"]
        ln weights.
    """
    function = {"monte_carlo": monte_carlo_log_weights, "importance": importance_log_weights}[method]
    return over_draws(function)(ln_mass, z, ln_lum_obs, sigma, relation, normals)


@partial(jax.jit, inline=True)
def effective_sample_size(log_weights: Float[Array, "sample"]):
    """Compute the effective number of samples, (sum w)^2 / sum w^2.

    Parameters
    ----------
    log_weights : Float[Array, "sample"]
        ln weights, in any normalisation.

    Returns
    -------
    Float[Array, ""]
        Effective sample size. With few samples it comes out too high: look at `pareto_k` as well.
    """
    w = jnp.exp(log_weights - jnp.maximum(log_weights.max(), -1e30))
    return w.sum() ** 2 / jnp.maximum((w**2).sum(), 1e-30)


@partial(jax.jit, inline=True)
def pareto_k(log_weights: Float[Array, "sample"]):
    """Estimate the shape k of a generalised Pareto distribution of the largest weights.

    Parameters
    ----------
    log_weights : Float[Array, "sample"]
        ln weights, in any normalisation.

    Returns
    -------
    Float[Array, ""]
        k; above 0.7 the weighted mean cannot be trusted. NaN where the tail has fewer than 5 samples.

    Notes
    -----
    Vehtari, Simpson, Gelman, Yao & Gabry (2024; PSIS), with the fit of Zhang & Stephens (2009) and PSIS's weak prior.
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
    """Estimate ln Z of one object under one relation by the joint importance scheme of 2017.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    z : Float[Array, ""]
        Redshift.
    ln_lum_obs : Float[Array, ""]
        ln of the observed luminosity [ln of the relation's unit].
    sigma : Float[Array, ""]
        Error of the luminosity [ln L], above 0.
    relation : MassLuminosityRelation
        One draw of the relation, with scatter above 0.
    prior : MassPrior
        The mass prior.
    num_samples : int
        Number of samples.

    Returns
    -------
    ln_evidence : Float[Array, ""]
        ln Z, the evidence per unit L_obs.
    effective_samples : Float[Array, ""]
        Effective sample size of the weights.
    k : Float[Array, ""]
        Pareto k of the weights.

    Notes
    -----
    L is drawn from p4 reversed and M from the relation inverted with scatter 2 S / alpha2; the weights are p1 p3 p4 /
    (q1 q2), with p1 the mass prior. This is a reference for ln Z: it gives weighted masses, not a density on a grid.
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
