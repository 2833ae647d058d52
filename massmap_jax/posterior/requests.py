"""What is requested of each posterior (summaries, quantiles, a CDF, samples or densities), in one compiled kernel."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from massmap_jax import devices
from massmap_jax.keys import base_normals
from massmap_jax.likelihood.integrals import SAMPLED_METHODS, effective_sample_size, log_weights_at, pareto_k
from massmap_jax.likelihood.selection import is_sharp
from massmap_jax.posterior import kernel
from massmap_jax.prior import panels
from massmap_jax.steps import Step

SUMMARY_COLUMNS = (
    "mean",
    "sd",
    "mode",
    "mean_mass",
    "log_evidence",
    "edge_mass",
    "information_bits",
    "ess",
    "pareto_k",
)
"""Numbers that summarise one posterior, by their names in `MassPosterior`."""
REDSHIFT_COLUMNS = ("redshift_mean", "redshift_sd")
"""Those of a redshift that is not exact."""


def columns_of(objects) -> tuple[str, ...]:
    """Give the names of the numbers that summarise the posteriors of some `Objects`."""
    return SUMMARY_COLUMNS if objects.ln_factor is None else (*SUMMARY_COLUMNS, *REDSHIFT_COLUMNS)


def exact_summaries(objects, prior, relation, selection, key, chunk_size, levels, settings, watch=lambda stage: None):
    """Integrate the posterior of each object and summarise it.

    Parameters
    ----------
    objects : Objects
        The objects.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    selection : Selection
        Which objects enter the catalogue.
    key : Key[Array, ""] or None
        Random key of the sampled methods.
    chunk_size : int
        Objects per compiled call and device.
    levels : Float[np.ndarray, "level"]
        CDF levels of the quantiles.
    settings : dict
        What `settings_of` gives.
    watch : callable, optional
        Called with a line of text after each chunk.

    Returns
    -------
    columns : dict of str to Float[np.ndarray, "halo"]
        The `SUMMARY_COLUMNS`, and the `REDSHIFT_COLUMNS` where redshifts are not exact; NaN where the prior has no
        mass under the likelihood.
    quantiles : Float[np.ndarray, "halo level"]
        Quantiles of ln M [ln Msun].
    """
    number = objects.sigma.shape[0]
    names = columns_of(objects)
    columns = {name: np.full(number, np.nan) for name in names}
    quantiles = np.full((number, levels.size), np.nan)
    integrated = evaluate(
        objects,
        prior,
        relation,
        selection,
        key,
        chunk_size,
        request="summaries",
        shared=(levels, 1 - levels),
        **settings,
    )
    done = 0
    for chosen, outputs in integrated if number else ():
        for name in names:
            columns[name][chosen] = outputs[name]
        quantiles[chosen] = outputs["quantiles"]
        done += len(chosen)
        watch(Step("mass posteriors", done, number, "objects"))
    lost = ~np.isfinite(columns["log_evidence"])
    for values in (*columns.values(), quantiles):
        values[lost] = np.nan
    return columns, quantiles


def settings_of(method, relation_from, num_lum_draws) -> dict:
    """Give the static settings of the kernel for a method and the origin of the relation draws."""
    method = "analytic" if method == "surface" else method
    num_lum = num_lum_draws if method in SAMPLED_METHODS else 1
    return {"method": method, "normalise": relation_from != "other_data", "num_lum": num_lum}


def evaluate(
    halos, prior, relation, selection, key, chunk_size, *, request, arguments=(), shared=(), together=False, **static
):
    """Run the posterior kernel over all rows, yielding (rows, outputs on the host) chunk by chunk."""
    key = jax.random.key(0) if key is None else key  # unused by the methods that need none
    key_sample = static.pop("key_sample", None)
    keys = (key, key if key_sample is None else key_sample)
    common = devices.everywhere((shared, prior, relation, selection, keys))

    def chunk(i, low, high, **group):
        own = tuple(a[i] for a in arguments)
        return _posterior_chunk(halos.take(i), low, high, own, *common, request=request, **group, **static)

    return kernel.run(chunk, halos, prior, relation, chunk_size, static["method"], together)


@devices.over_halos(
    *("halos", "low", "high", "arguments"),
    static=("request", "method", "kind", "normalise", "wide", "num_panels", "num_lum", "size"),
)
def _posterior_chunk(
    halos,
    low,
    high,
    arguments,
    shared,
    prior,
    relation,
    selection,
    keys,
    *,
    request,
    method,
    kind,
    normalise,
    wide,
    num_panels,
    num_lum,
    size=0,
):
    """Compute the panel of each object of a chunk, then what `request` asks of it (the only posterior kernel)."""
    settings = {"method": method, "kind": kind, "normalise": normalise, "wide": wide}
    settings |= {"num_panels": num_panels, "num_lum": num_lum}
    low, high = jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float)
    norm = prior.norm_coefficients()

    def one(halo, low, high, arguments):
        panel = kernel.mixture_panel(halo, low, high, prior, norm, relation, selection, keys[0], **settings)
        quantile = partial(panels.panel_quantile, panel.density, panel.low, panel.high, num_panels)
        if request == "cdf":
            return panels.panel_cdf(panel.density, panel.low, panel.high, num_panels, arguments[0])
        if request == "quantile":
            return quantile(*shared)
        if request == "sample":
            scores = base_normals(keys[1], halo.id_hash, (size,))
            return quantile(ndtr(scores), ndtr(-scores))
        if request == "log_pdf":
            return _log_pdf(halo, panel, (*arguments, *shared)[0], prior, relation, selection, keys[0], settings)
        return _summaries(halo, panel, quantile(*shared), prior, relation, selection, keys[0], settings)

    return jax.vmap(one, (halos.axes(), 0, 0, 0))(halos, low, high, arguments)


def _draw_weights(halo, panel, prior, relation, selection, normalise):
    """Give ln of the share of each draw in the object's posterior; (draw,)."""
    log_weight = jax.nn.log_softmax(relation.log_weight)
    if normalise:
        return log_weight
    shares = log_weight + panel.ln_evidence - kernel.ln_chance(halo, relation, prior, selection)
    return shares - jnp.maximum(jax.nn.logsumexp(jnp.maximum(shares, -1e30)), -1e30)


def _summaries(halo, panel, quantiles, prior, relation, selection, key, settings):
    """Summarise the posterior of one object: a dict of `SUMMARY_COLUMNS` and "quantiles"."""
    ln_mass = panels.panel_nodes(panel.low, panel.high, settings["num_panels"])
    weights = panels.panel_weights(panel.low, panel.high, settings["num_panels"])
    total = (weights * panel.density).sum()
    density = panel.density / jnp.where(total > 0, total, 1.0)
    fraction = weights * density
    offset = ln_mass - panel.low
    mean = (fraction * offset).sum()
    sd = jnp.sqrt((fraction * (offset - mean) ** 2).sum())
    ln_density = jnp.log(jnp.where(density > 0, density, 1.0))
    information = (fraction * jnp.where(density > 0, ln_density - panel.ln_prior, 0.0)).sum() / np.log(2)

    ln_shares = _draw_weights(halo, panel, prior, relation, selection, settings["normalise"])
    shares = jnp.exp(ln_shares)
    ln_evidence = jax.nn.log_softmax(relation.log_weight) + jnp.maximum(panel.ln_evidence, -1e30)
    ln_odds = panel.ln_beyond - jnp.maximum(panel.ln_evidence, -1e30)
    if settings["normalise"]:
        edge_mass = (shares * jax.nn.sigmoid(ln_odds)).sum()
    else:  # the weight of a draw is then its evidence with the part beyond the table
        edge_mass = jax.nn.sigmoid(jax.nn.logsumexp(ln_shares + ln_odds))
    log_evidence = jax.nn.logsumexp(ln_evidence) + _ln_detected(halo, selection)
    mean = panel.low + mean
    if settings["method"] in SAMPLED_METHODS:
        normals = _all_normals(halo, relation, key, settings["num_lum"])
        log_weights = log_weights_at(
            settings["method"], mean, halo.z[0], halo.ln_lum_obs[0], halo.sigma, relation, normals
        )
        log_weights = (log_weights + ln_shares[:, None]).ravel()
        ess, k = effective_sample_size(log_weights), pareto_k(log_weights)
    else:
        ess, k = effective_sample_size(ln_shares), jnp.nan * total
    return {
        "mean": mean,
        "sd": sd,
        "mode": _mode(ln_mass, panel.density, panel.low, panel.high),
        "mean_mass": (fraction * jnp.exp(ln_mass)).sum(),
        "log_evidence": jnp.where((total > 0) & (log_evidence > -1e29), log_evidence, -jnp.inf),
        "edge_mass": edge_mass,
        "information_bits": information,
        "ess": ess,
        "pareto_k": k,
        "quantiles": quantiles,
    } | _redshift(halo, panel)


def _redshift(halo, panel):
    """Mean and standard deviation of the redshift, given the luminosity too."""
    if panel.of_node is None:
        return {}
    share = panel.of_node / jnp.where(panel.of_node.sum() > 0, panel.of_node.sum(), 1.0)
    mean = (share * halo.z).sum()
    return {"redshift_mean": mean, "redshift_sd": jnp.sqrt((share * (halo.z - mean) ** 2).sum())}


def _ln_detected(halo, selection):
    """ln of the probability that an object of this flux, or luminosity, is in the catalogue."""
    if halo.ln_factor is not None and not is_sharp(selection):  # it is in the evidence, at each redshift node
        return jnp.zeros(())
    at_nodes = jax.vmap(selection.log_prob)(halo.ln_lum_obs, halo.z)
    return at_nodes[0] if halo.ln_factor is None else jax.nn.logsumexp(at_nodes + halo.ln_z_weight)


def _mode(ln_mass, density, low, high):
    """Give the ln M of highest density.

    It is the highest of three points: the vertex of the parabola in ln density through the highest node and its
    neighbours (exact for a Gaussian), and the two ends of the interval, where the end of a table may cut the posterior
    off.
    """
    # The first index of the maximum (argmax is a slow reduction on CPU).
    index = jnp.arange(density.shape[0])
    top = jnp.clip(jnp.where(density == density.max(), index, density.shape[0]).min(), 1, density.shape[0] - 2)
    three = jnp.stack([top - 1, top, top + 1])
    x = ln_mass[three] - ln_mass[top]
    tiny = jnp.finfo(density.dtype).tiny
    y = jnp.log(jnp.maximum(density[three], tiny))
    left, right = (y[1] - y[0]) / -x[0], (y[2] - y[1]) / x[2]
    curvature = jnp.minimum((right - left) / (x[2] - x[0]), -tiny)
    slope = left + curvature * -x[0]  # at the highest node
    offset = jnp.clip(-slope / (2 * curvature), low - ln_mass[top], high - ln_mass[top])
    candidates = jnp.stack([ln_mass[top] + offset, low, high])
    ends = jnp.log(jnp.maximum(jnp.stack(panels.end_densities(density)), tiny))
    values = jnp.concatenate([(y[1] + slope * offset + curvature * offset**2)[None], ends])
    return candidates[jnp.argmax(values)]


def _all_normals(halo, relation, key, num_lum):
    """Draw the base normals of every draw, as the streamed blocks use them; (draw, lum)."""
    draws = relation.log_weight.shape[0]
    block = min(kernel.DRAW_BLOCK, draws)
    blocks = [
        base_normals(jax.random.fold_in(key, i), halo.id_hash, (block, num_lum)) for i in range(-(-draws // block))
    ]
    return jnp.concatenate(blocks)[:draws]


def _log_pdf(halo, panel, ln_mass, prior, relation, selection, key, settings):
    """Compute the ln posterior density of one object at some masses; minus infinity outside the prior's mass nodes."""
    normals = _all_normals(halo, relation, key, settings["num_lum"])

    def joint_at(ln_mass):
        ln_prior = kernel.ln_prior_at(halo, prior, kernel.prior_rows_of(halo, prior), ln_mass)
        own = kernel.ln_prior_of_draws(halo, relation, ln_prior, ln_mass)
        return kernel.joint_of_draws(halo, relation, normals, own, ln_mass, settings["method"], settings["kind"])

    joint = joint_at(ln_mass)
    if halo.conditional:
        ends = panel.low, panel.high, settings["num_panels"]
        of_nodes = kernel.ln_mass_of_nodes(joint_at(panels.panel_nodes(*ends)), panels.panel_weights(*ends))
        joint = kernel.settle(halo, joint, of_nodes)
    shares = _draw_weights(halo, panel, prior, relation, selection, settings["normalise"])
    values = jax.nn.logsumexp(kernel.over_redshifts(joint) + (shares - panel.ln_evidence)[:, None], axis=0)
    inside = (ln_mass >= prior.ln_mass_nodes[0]) & (ln_mass <= prior.ln_mass_nodes[-1])
    return jnp.where(inside, values, -jnp.inf)
