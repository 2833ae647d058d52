"""Posterior density of ln M of one halo on panels, and the loop over chunks of a catalogue.

`mixture_panel` is the heart of the package. For one halo it lays panels over the range of the posterior, evaluates
prior times likelihood for every relation draw in streamed blocks, and mixes the draws with the requested weights.
`posterior.requests` reads summaries off the result, `mass_map` draws masses under single relation draws from it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax import devices
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS
from massmap_jax.catalogue.observables import UPPER_LIMIT
from massmap_jax.errors import MassmapError
from massmap_jax.keys import base_normals
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.integrals import SAMPLED_METHODS, log_likelihood, over_draws, over_masses
from massmap_jax.likelihood.linear_noise import HIGHEST_SCATTER, largest_scatter
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.observables import first_given_the_others
from massmap_jax.likelihood.redshifts import NODE_COUNTS, NODE_SHAPES
from massmap_jax.likelihood.selection import NoSelection, SignalToNoiseLimit
from massmap_jax.posterior.noise_range import AT_THE_EDGE, DEPTH, POINTS, noise_ranges
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import check_base, population_of
from massmap_jax.relation.several import names_of, term_of

DRAW_BLOCK = 16
# Least number of panels over the whole support, for a likelihood that is not Gaussian: the range of the posterior is
# then unknown beforehand.
_WIDE_PANELS = 128
# Panels beyond each end of the mass nodes, over 3 in ln M: for the edge mass where the likelihood is not Gaussian.
# Noise alone makes it smooth there: a quarter of them is enough.
_PAD_PANELS, _PAD = 8, 3.0
# In mass cells wider than this the kinks of ln p at the nodes matter; the error falls with the square of the number of
# panels.
_COARSE_CELL = 0.15
# Objects in a chunk on a CPU: the fastest number for 1, 10 and 100 draws and for every method, and small enough that
# padding a short catalogue to it costs little. Larger chunks do not stay in cache.
_CHUNK = 2048
# A chunk of linear noise has so many times fewer objects: the coefficients of every draw have to stay in cache, too.
_SMALL_CHUNK = 4
# Arrays that are alive at the same time, each holding one block of draws at the panel nodes of a chunk: 2 for
# "analytic", 10 for sampled methods, 67 for "quadrature" (measured on CPU), in each of two chunks that are in progress.
_ARRAYS_ALIVE = 2 * 64
# Draws from which the shares of redshift nodes are taken.
_DRAWS_FOR_NODES = 4
_LOGNORMAL = NOISE_KINDS.index("lognormal")


class Panel(NamedTuple):
    """Posterior density of ln M of one halo at the panel nodes, with evidences and prior.

    Attributes
    ----------
    low : Float[Array, ""]
        Lower end of the panels [ln Msun].
    high : Float[Array, ""]
        Upper end of the panels [ln Msun].
    density : Float[Array, "node"]
        Posterior density per ln M, mixed over the draws; its normalisation is arbitrary.
    ln_prior : Float[Array, "node"]
        ln of the normalised prior density per ln M, averaged over the redshift nodes.
    ln_evidence : Float[Array, "draw"]
        ln evidence of the object under each draw.
    ln_beyond : Float[Array, "draw"]
        ln of the evidence that lies outside the mass nodes, under each draw.
    of_node : Float[Array, "q"] or None
        Integral of the density over ln M at each redshift node, up to a factor; None where the redshift is exact.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]
    density: Float[Array, "node"]  # any normalisation
    ln_prior: Float[Array, "node"]  # normalised, averaged over the redshift nodes
    ln_evidence: Float[Array, "draw"]
    ln_beyond: Float[Array, "draw"]  # ln of the evidence that lies outside the mass nodes
    of_node: Float[Array, " q"] | None


def is_gaussian(halos: Objects, relation) -> Array | np.ndarray:
    """Tell which objects have a likelihood that is near a Gaussian in ln M; (halo,) bool."""
    linear = hasattr(relation, "data_term")
    plain = (halos.kind == _LOGNORMAL) & linear & (True if halos.extra is None else ~halos.extra.informs)
    return plain if halos.observed is None else plain & (halos.observed.kind < UPPER_LIMIT).all(axis=-1)


def is_alone(halos: Objects, relation) -> bool:
    """Tell whether the luminosity, the redshift and the mass prior alone decide on the masses."""
    others = halos.extra is not None or halos.observed is not None or population_of(relation) is not None
    return not others


@devices.over_halos("halos")
def ranges(halos: Objects, prior: MassPrior, relation):
    """Find the range of ln M that each posterior needs, over all draws.

    Parameters
    ----------
    halos : Objects
        Objects with a Gaussian likelihood.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.

    Returns
    -------
    low : Float[Array, "halo"]
        Lower end [ln Msun].
    high : Float[Array, "halo"]
        Upper end [ln Msun].
    narrowest : Float[Array, "halo"]
        Length of the shortest range of the extreme draws, in ln M.
    """

    def one(ln_lum_obs, sigma, z, ln_weight, ln_factor, observed):
        def of_draw(r, ln_lum_obs, z):
            return term_of(r, ln_lum_obs, sigma, z, observed)

        term = jax.vmap(jax.vmap(of_draw, (None, 0, 0)), (0, None, None))(relation, ln_lum_obs, z)

        def node(z, centre, width):
            own = population_of(relation)
            if own is not None:
                return own.range_of_draws(prior, z, centre, width)
            (centres,), (widths,) = panels.corners([[centre], [width]])
            return prior.posterior_range(z, centres, widths)

        low, high, narrowest = jax.vmap(node, (0, 1, 1))(z, term.centre, term.width)
        if z.shape[0] == 1:
            return low[0], high[0], narrowest[0]
        # Nodes that hardly count, such as those whose luminosity is below that of any halo, would ask for many panels.
        some = np.unique(np.linspace(0, term.centre.shape[0] - 1, _DRAWS_FOR_NODES).round().astype(int))
        few = term.centre[some], term.width[some], term.log_norm[some]
        evidence = 0.0 if halos.conditional else jax.vmap(partial(_rough_evidence, prior), (0, 1, 1, 1), 1)(z, *few)
        ln_share = ln_weight + evidence + (0.0 if halos.conditional else ln_factor)
        ln_share = jnp.atleast_2d(ln_share)
        ln_share = (ln_share - ln_share.max(axis=1, keepdims=True)).max(axis=0)
        counts, shapes = ln_share > -NODE_COUNTS, ln_share > -NODE_SHAPES
        return (
            jnp.where(counts, low, jnp.inf).min(),
            jnp.where(counts, high, -jnp.inf).max(),
            jnp.where(shapes, narrowest, jnp.inf).min(),
        )

    ln_factor = jnp.zeros_like(halos.z) if halos.ln_factor is None else halos.ln_factor
    return jax.vmap(one)(halos.ln_lum_obs, halos.sigma, halos.z, halos.ln_z_weight, ln_factor, halos.observed)


@devices.over_halos("halos", static=("kind",))
def ranges_by_looking(halos: Objects, prior: MassPrior, relation, *, kind: str):
    """Find the range of ln M that each posterior needs, by its density under every draw over the whole support.

    A posterior that is narrower than the distance of the points lies between the highest of them and its neighbours.

    Parameters
    ----------
    halos : Objects
        Objects of one noise kind, with one redshift node each.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    kind : str
        Noise kind.

    Returns
    -------
    low : Float[Array, "halo"]
        Lower end [ln Msun].
    high : Float[Array, "halo"]
        Upper end [ln Msun].
    at_the_edge : Bool[Array, "halo"]
        Whether part of the posterior may lie beyond the ends of the prior's table.
    """
    support = jnp.linspace(prior.ln_mass_nodes[0], prior.ln_mass_nodes[-1], POINTS)
    step = support[1] - support[0]
    rows_of_blocks = _in_blocks(relation.log_weight.shape[0])
    relations = jax.tree.map(lambda a: jnp.asarray(a)[rows_of_blocks], relation)
    normals = jnp.zeros((rows_of_blocks.shape[1], 1))

    def one(halo):
        ln_prior = ln_prior_at(halo, prior, prior_rows_of(halo, prior), support)

        def of_block(relation):
            own = ln_prior_of_draws(halo, relation, ln_prior, support)
            (joint,) = joint_of_draws(halo, relation, normals, own, support, "analytic", kind)
            below = joint.max(axis=1, keepdims=True) - joint
            return (below <= DEPTH).any(axis=0), (below[:, np.array([0, -1])] < AT_THE_EDGE).any()

        keep, edge = jax.lax.map(of_block, relations)
        keep = keep.any(axis=0)
        low = jnp.where(keep, support - step, jnp.inf).min()
        high = jnp.where(keep, support + step, -jnp.inf).max()
        return jnp.maximum(low, support[0]), jnp.minimum(high, support[-1]), edge.any()

    return jax.vmap(one, (halos.axes(),))(halos)


def _in_blocks(draws: int) -> np.ndarray:
    """Numbers of the draws in blocks, (block, draw); the last block is filled up with the last draw."""
    block = min(DRAW_BLOCK, draws)
    return np.minimum(np.arange(-(-draws // block) * block), draws - 1).reshape(-1, block)


def _rough_evidence(prior: MassPrior, z, centre, width, log_norm) -> Float[Array, "draw"]:
    """ln of the evidence at one redshift to within about 1, by the bounds of the prior in 32 blocks of ln M."""
    blocks = prior.blocks_at(z)
    distance = jnp.maximum(0.0, jnp.maximum(blocks.left - centre[:, None], centre[:, None] - blocks.right))
    # A Gaussian may be narrower than a block.
    reach = jnp.minimum(blocks.right - blocks.left, 2.5 * width[:, None])
    ln_p = 0.5 * (blocks.lowest + blocks.highest) - 0.5 * (distance / width[:, None]) ** 2
    peak = ln_p.max(axis=1)
    return log_norm + peak + jnp.log((reach * jnp.exp(ln_p - peak[:, None])).sum(axis=1))


def ln_prior_of_draws(halo: Objects, relation, ln_prior, ln_mass) -> Float[Array, "q draw node"]:
    """Give the ln prior density of one halo under each draw of a block, at each of its redshift nodes.

    Parameters
    ----------
    halo : Objects
        One object.
    relation : Relation
        A block of draws.
    ln_prior : Float[Array, "q node"]
        The mass prior there, times the weight of the redshift node, from `ln_prior_at`.
    ln_mass : Float[Array, "node"]
        The nodes [ln Msun].

    Returns
    -------
    Float[Array, "q draw node"]
        The mass prior itself (with an axis of one draw), or what the population of each draw makes of it, times the
        probability that the object was selected on its measured mass.
    """
    if population_of(relation) is None:
        return ln_prior[:, None, :]

    def one(ln_prior, z, ln_weight, ln_lum_obs):
        def of_draw(r):
            own = r.population.ln_density(ln_prior - ln_weight, ln_mass, z)
            return own + r.ln_selected(ln_mass, z, ln_lum_obs, halo.sigma, halo.observed)

        return jax.vmap(of_draw)(relation) + ln_weight

    own = jax.vmap(one)(ln_prior, halo.z, halo.ln_z_weight, halo.ln_lum_obs)
    # The barrier keeps XLA from evaluating the population again for every use.
    return jax.lax.optimization_barrier(own)


def number_of_panels(low, high, narrowest, doublings_at_once: int = 1) -> np.ndarray:
    """Choose the number of panels so that every draw is resolved equally well.

    `BASE_PANELS` serve a range up to 2.5 times that of its narrowest draw; beyond that the number is doubled as often
    as needed, seven times at most. At 2.5, quantiles are off by at most 5e-4 posterior standard deviations (measured
    with benchmarks/accuracy.py).

    Parameters
    ----------
    low, high : Float[np.ndarray, "halo"]
        Ends of the range [ln Msun].
    narrowest : Float[np.ndarray, "halo"]
        Length of the shortest range of an extreme draw, in ln M.
    doublings_at_once : int, optional
        2 for half as many different numbers, each large enough.

    Returns
    -------
    Int[np.ndarray, "halo"]
        Number of panels.
    """
    # A range too narrow for the floating-point precision (an absurd object) has width 0: it gets the least number.
    ratio = (high - low) / np.where(narrowest > 0, narrowest, np.inf)
    doublings = np.minimum(np.ceil(np.log2(np.maximum(ratio / 2.5, 1.0))), 7)
    return (panels.BASE_PANELS * 2 ** (doublings_at_once * np.ceil(doublings / doublings_at_once))).astype(int)


def prior_rows_of(halo: Objects, prior: MassPrior, norm=None) -> Float[Array, "q mass"]:
    """Give the ln prior density at the mass nodes, at each redshift node of one halo."""
    # The barrier keeps XLA from repeating the interpolation in z for every mass; the one below, that in mass for every
    # draw.
    return jax.lax.optimization_barrier(jax.vmap(prior.ln_density_at, (0, None))(halo.z, norm))


def ln_prior_at(halo: Objects, prior: MassPrior, rows, ln_mass) -> Float[Array, "q node"]:
    """Give the ln prior density of one halo at each of its redshift nodes, times the node's weight."""
    values = jax.vmap(prior.interpolate, (0, None))(rows, ln_mass) + halo.ln_z_weight[:, None]
    return jax.lax.optimization_barrier(values)


def joint_of_draws(halo: Objects, relation, normals, ln_prior, ln_mass, method: str, kind: str):
    """Compute ln(prior x likelihood) of one halo for a block of draws, at each of its redshift nodes.

    Parameters
    ----------
    halo : Objects
        One object.
    relation : Relation
        A block of draws.
    normals : Float[Array, "draw sample"]
        Standard normals of the sampled methods.
    ln_prior : Float[Array, "q draw node"]
        What `ln_prior_of_draws` gives.
    ln_mass : Float[Array, "node"]
        The nodes [ln Msun].
    method : str
        Integral over the luminosity.
    kind : str
        Noise kind of the object.

    Returns
    -------
    Float[Array, "q draw node"]
        ln of prior times likelihood, times the weight of the redshift node.
    """

    def at_node(ln_lum_obs, z, ln_prior):
        if halo.observed is not None and names_of(relation):
            of_all = _ln_of_all if kind == "lognormal" else partial(_ln_with_noise, kind)
            return ln_prior + jax.vmap(partial(of_all, halo, ln_lum_obs, z, ln_mass))(relation)
        args = (ln_mass, z, ln_lum_obs, halo.sigma, relation, normals)
        return ln_prior + over_draws(over_masses(log_likelihood(method, kind)))(*args)

    joint = jax.vmap(at_node)(halo.ln_lum_obs, halo.z, ln_prior)
    if halo.ln_factor is not None and kind != "upper_limit":
        # The likelihood is a density per luminosity; what was measured is a flux. That of a limit is a probability.
        joint = joint + halo.ln_factor[:, None, None]
    return joint if halo.extra is None else joint + halo.extra.under(relation, ln_mass)


def _ln_of_all(halo: Objects, ln_lum_obs, z, ln_mass, relation):
    """ln likelihood of everything that was measured of one object, under one draw."""
    assert halo.observed is not None
    term = relation.object_term(ln_lum_obs, halo.sigma, z, halo.observed)
    return term(ln_mass) + relation.ln_limits(ln_mass, ln_lum_obs, halo.sigma, z, halo.observed)


def _ln_with_noise(kind: str, halo: Objects, ln_lum_obs, z, ln_mass, relation):
    """ln likelihood of everything that was measured of one object with linear noise of L, or a limit, under one draw.

    At fixed mass and given the others, ln L is normal: K with that mean and that scatter.
    """
    ln_reference, place = linear_noise.reference(ln_lum_obs, halo.sigma)
    pivot, (residual, slope, covariance, there) = relation.rows_of(ln_reference, 0.0, z, halo.observed)
    others, offset, rise, spread = first_given_the_others(residual, slope, covariance, there, pivot)
    t = residual[0] - offset - rise * (ln_mass - pivot)
    term = linear_noise.term_at(kind, place, spread)
    return others(ln_mass) + linear_noise.per_lum(kind, term, t, ln_lum_obs, halo.sigma)


def ln_mass_of_nodes(joint: Float[Array, "q draw node"], weights) -> Float[Array, "q draw 1"]:
    """Integrate what `joint_of_draws` gives at the nodes of panels over ln M, for each redshift node; ln of it."""
    peak = jnp.maximum(joint.max(axis=2, keepdims=True), -1e30)
    return peak + jnp.log((jnp.exp(joint - peak) * weights).sum(axis=2, keepdims=True))


def settle(halo: Objects, joint: Float[Array, "q draw node"], ln_mass_of_nodes) -> Float[Array, "q draw node"]:
    """Hold the weights of the redshift nodes where p(z) has seen the flux: the posterior at each node is normalised."""
    # A node without support has no posterior, and is left out.
    settled = joint - jnp.maximum(ln_mass_of_nodes, -1e30) + halo.ln_z_weight[:, None, None]
    return jnp.where(ln_mass_of_nodes > -1e29, settled, -jnp.inf)


def over_redshifts(joint: Float[Array, "q draw node"]) -> Float[Array, "draw node"]:
    """Sum what `joint_of_draws` gives over the redshift nodes."""
    return joint[0] if joint.shape[0] == 1 else jax.nn.logsumexp(joint, axis=0)


def ln_chance(halo: Objects, relation, prior: MassPrior, selection) -> Float[Array, "draw"]:
    """Give ln of the probability that an object with this redshift, or p(z), is in the catalogue, for each draw."""
    at_nodes = jax.vmap(lambda z: jax.vmap(lambda r: selection.log_norm(r, prior, z, halo.sigma))(relation))(halo.z)
    return at_nodes[0] if halo.ln_factor is None else jax.nn.logsumexp(at_nodes + halo.ln_z_weight[:, None], axis=0)


def mixture_panel(
    halo: Objects,
    low,
    high,
    prior: MassPrior,
    norm,
    relation,
    selection,
    key,
    *,
    method,
    kind,
    normalise,
    wide,
    num_panels,
    num_lum,
) -> Panel:
    """Compute the posterior of one halo at its panel nodes, mixed over the relation draws.

    Parameters
    ----------
    halo : Objects
        One object.
    low, high : Float[Array, ""]
        Ends of the panels [ln Msun].
    prior : MassPrior
        The mass prior.
    norm : Float[Array, "..."]
        What `prior.norm_coefficients()` gives.
    relation : Relation
        A batch of draws.
    selection : Selection
        Which objects enter the catalogue.
    key : Key[Array, ""]
        Random key of the sampled methods.
    method : str
        Integral over the luminosity.
    kind : str
        Noise kind of the object.
    normalise : bool
        True: each draw's posterior is normalised and has the weight exp(log_weight), for draws that were inferred from
        these objects or may not be updated by them. False: a draw has the weight exp(log_weight) Z / A, so that the
        object itself updates external draws.
    wide : bool
        Whether the posterior may go on beyond the mass nodes in another way than a Gaussian does.
    num_panels : int
        Number of panels.
    num_lum : int
        Luminosity samples per draw (sampled methods).

    Returns
    -------
    Panel
        The density at the nodes, with evidences and prior.
    """
    draws = relation.log_weight.shape[0]
    # Padding counts with weight zero.
    rows_of_blocks = _in_blocks(draws)
    blocks, block = rows_of_blocks.shape
    is_padding = jnp.asarray((np.arange(blocks * block) >= draws).reshape(blocks, block))
    log_weight = jnp.where(is_padding, -jnp.inf, jax.nn.log_softmax(relation.log_weight)[rows_of_blocks])
    relations = jax.tree.map(lambda a: jnp.asarray(a)[rows_of_blocks], relation)

    prior_rows = prior_rows_of(halo, prior, norm)
    ln_mass = panels.panel_nodes(low, high, num_panels)
    weights = panels.panel_weights(low, high, num_panels)
    inside = ln_mass.shape[0]
    if wide and prior.support == "extend":
        for first in (prior.ln_mass_nodes[0] - _PAD, prior.ln_mass_nodes[-1]):
            number = _PAD_PANELS if kind == "lognormal" else _PAD_PANELS // 4
            ln_mass = jnp.concatenate([ln_mass, panels.panel_nodes(first, first + _PAD, number)])
            weights = jnp.concatenate([weights, panels.panel_weights(first, first + _PAD, number)])
    ln_prior = ln_prior_at(halo, prior, prior_rows, ln_mass)
    has_population = population_of(relation) is not None

    def draw_normals(first):
        if method not in SAMPLED_METHODS:
            return jnp.zeros((block, 1))
        return base_normals(jax.random.fold_in(key, first), halo.id_hash, (block, num_lum))

    def step(carry, inputs):
        density, of_node, reference, mean_prior = carry
        relation, log_weight, first = inputs
        own = ln_prior_of_draws(halo, relation, ln_prior, ln_mass)
        if has_population:
            highest, total = mean_prior
            new = jnp.maximum(highest, own.max())
            # A product of arrays, as a product of matrices would be over a transposed copy of all draws.
            total = total * jnp.exp(highest - new) + (jnp.exp(own - new) * jnp.exp(log_weight)[:, None]).sum(axis=1)
            mean_prior = new, total
        joint = joint_of_draws(halo, relation, draw_normals(first), own, ln_mass, method, kind)
        if halo.conditional:
            joint = settle(halo, joint, ln_mass_of_nodes(joint[:, :, :inside], weights[:inside]))
        peak = joint[:, :, :inside].max(axis=(0, 2))
        peak = jnp.where(jnp.isfinite(peak), peak, -1e30)  # no support at all: evidence 0 and no NaN
        at_nodes = jnp.exp(joint - peak[:, None])
        shape = at_nodes[0] if at_nodes.shape[0] == 1 else at_nodes.sum(axis=0)
        mass = shape[:, :inside] @ weights[:inside]
        ln_evidence = peak + jnp.log(mass)
        if wide:
            ln_beyond = peak + jnp.log((weights[inside:] * shape[:, inside:]).sum(axis=1))
        elif kind != "lognormal":  # the range is known to end inside the mass nodes
            ln_beyond = jnp.full_like(ln_evidence, -1e30)
        else:
            ln_beyond = _gaussian_beyond(halo, relation, prior_rows, prior)
        if normalise:
            scale = jnp.exp(log_weight) / jnp.where(mass > 0, mass, jnp.inf)
        else:
            ln_scale = log_weight + peak - ln_chance(halo, relation, prior, selection)
            new = jnp.maximum(reference, ln_scale.max())
            density, of_node = (None if a is None else a * jnp.exp(reference - new) for a in (density, of_node))
            reference, scale = new, jnp.exp(ln_scale - new)
        density = density + scale @ shape[:, :inside]
        if of_node is not None:
            of_node = of_node + (at_nodes[:, :, :inside] @ weights[:inside]) @ scale
        return (density, of_node, reference, mean_prior), (ln_evidence, ln_beyond)

    no_prior_yet = (jnp.full_like(low, -1e30), jnp.zeros_like(ln_prior)) if has_population else None
    no_nodes_yet = None if halo.ln_factor is None else jnp.zeros_like(halo.z)
    start = (jnp.zeros_like(ln_mass[:inside]), no_nodes_yet, jnp.full_like(low, -1e30), no_prior_yet)
    firsts = jnp.arange(blocks)
    (density, of_node, _, mean_prior), (ln_evidence, ln_beyond) = jax.lax.scan(
        step, start, (relations, log_weight, firsts)
    )
    if mean_prior is not None:
        ln_prior = mean_prior[0] + jnp.log(mean_prior[1])
    ln_prior = ln_prior[:, :inside]
    ln_prior = ln_prior[0] if ln_prior.shape[0] == 1 else jax.nn.logsumexp(ln_prior, axis=0)
    return Panel(low, high, density, ln_prior, ln_evidence.ravel()[:draws], ln_beyond.ravel()[:draws], of_node)


def _gaussian_beyond(halo: Objects, relation, prior_rows, prior: MassPrior):
    """Give the ln evidence outside the mass nodes, in closed form for a Gaussian likelihood; (draw,)."""
    nodes = _ends(jnp.asarray(prior.ln_mass_nodes))

    def one(relation, ln_lum_obs, z, ln_z_weight, row):
        # Only the end cells matter: ln p is continued from them. A copy of the whole row for each draw would cost more
        # than the panels.
        row = _ends(row)
        if population_of(relation) is not None:
            row = relation.population.ln_density(row, nodes, z)
        term = term_of(relation, ln_lum_obs, halo.sigma, z, halo.observed)
        # ln_beyond_edges integrates a unit Gaussian exp(-x^2/2) / (width sqrt(2 pi)).
        ln_scale = term.log_norm + jnp.log(term.width) + 0.5 * np.log(2 * np.pi)
        return ln_scale + ln_z_weight + prior.ln_beyond_edges(row, term.centre, term.width)

    over_nodes = jax.vmap(one, (None, 0, 0, 0, 0))
    ln_weight = halo.ln_z_weight if halo.ln_factor is None else halo.ln_z_weight + halo.ln_factor
    beyond = jax.vmap(over_nodes, (0, None, None, None, None))(relation, halo.ln_lum_obs, halo.z, ln_weight, prior_rows)
    return beyond[:, 0] if beyond.shape[1] == 1 else jax.nn.logsumexp(beyond, axis=1)


def _ends(row):
    """The first two and the last two of the values at the mass nodes."""
    return jnp.concatenate([row[:2], row[-2:]])


def auto_chunk(relation) -> int:
    """Choose the number of objects per chunk and device.

    On a CPU it is a number for which the arrays stay in cache; on a GPU, one for which all arrays that are alive at the
    same time fit in the free memory.

    Parameters
    ----------
    relation : Relation
        The batch of draws; its number of draws matters.

    Returns
    -------
    int
        Objects per chunk and device.
    """
    free = devices.free_bytes()
    if free is None:
        return _CHUNK
    budget = max(free, 1) / (_ARRAYS_ALIVE * jnp.zeros(()).dtype.itemsize)
    block = min(DRAW_BLOCK, relation.num_draws)
    per_halo = block * panels.BASE_PANELS * panels.NODES
    return int(2 ** np.clip(np.floor(np.log2(budget / per_halo)), 4, 16))


class Group(NamedTuple):
    """Rows that share a compiled kernel, and the static arguments of that kernel.

    Attributes
    ----------
    rows : Int[np.ndarray, "row"]
        Row numbers.
    num_panels : int
        Number of panels.
    wide : bool
        Whether the posterior may go on beyond the mass nodes in another way than a Gaussian does.
    kind : str
        Noise kind; "near" for linear noise without what is far fainter than it looks.
    """

    rows: np.ndarray
    num_panels: int
    wide: bool
    kind: str

    @property
    def static(self) -> dict:
        """Static arguments of the kernel."""
        return {"num_panels": self.num_panels, "wide": self.wide, "kind": self.kind}


def plan(halos: Objects, prior: MassPrior, relation, chunk_size: int, method: str):
    """Plan the computation: the range of ln M of each object, and the groups of objects that share a compiled kernel.

    The number of panels of a halo depends on that halo alone, so neither a subset nor the chunk size changes an answer.

    Parameters
    ----------
    halos : Objects
        The objects.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    chunk_size : int
        Objects per compiled call and device.
    method : str
        Integral over the luminosity.

    Returns
    -------
    low, high : Float[np.ndarray, "halo"]
        Ends of the range [ln Msun].
    groups : list of Group
        Together they hold every object once.
    """
    number = halos.sigma.shape[0]
    low = np.full(number, prior.ln_mass_min)
    high = np.full(number, prior.ln_mass_max)
    counts = _wide_panels(halos, relation, high[0] - low[0])
    gaussian = np.asarray(is_gaussian(halos, relation))
    wide_of, kinds = ~gaussian, np.array(NOISE_KINDS)[halos.kind]
    fine = refinement(prior)
    searches = [(np.flatnonzero(gaussian), ranges)]
    if method == "analytic" and is_alone(halos, relation):
        for number, kind in enumerate(NOISE_KINDS):
            if number != _LOGNORMAL:
                searches.append((np.flatnonzero(halos.kind == number), partial(noise_ranges, kind=kind)))
    if method == "analytic" and not is_alone(halos, relation) and halos.z.shape[1] == 1 and halos.extra is None:
        for code, kind in enumerate(NOISE_KINDS):
            rows = np.flatnonzero(halos.kind == code)
            if code == _LOGNORMAL or not rows.size:
                continue
            found = in_chunks(
                lambda i, kind=kind: ranges_by_looking(halos.take(i), prior, relation, kind=kind), rows, chunk_size
            )
            low[rows], high[rows], wide_of[rows] = (np.concatenate(part) for part in zip(*found, strict=True))
            # Panels as long as over the whole support.
            share = counts[rows] * (high[rows] - low[rows]) / (prior.ln_mass_max - prior.ln_mass_min)
            counts[rows] = panels.BASE_PANELS * 2 ** np.ceil(np.log2(np.maximum(share / panels.BASE_PANELS, 1)))
    for rows, search in searches:
        if rows.size:
            outputs = in_chunks(lambda i, search=search: search(halos.take(i), prior, relation), rows, chunk_size)
            low[rows], high[rows], narrowest, *noisy = (np.concatenate(part) for part in zip(*outputs, strict=True))
            # With several redshift nodes a kernel of linear noise takes long to compile: few of them serve all objects.
            few = bool(noisy) and halos.z.shape[1] > 1
            counts[rows] = fine * number_of_panels(low[rows], high[rows], narrowest, 2 if few else 1)
            wide_of[rows] = noisy[0] if noisy else False
            if noisy:
                kinds[rows[noisy[1]]] = "near"
            if few:
                wide_of[rows] = ~noisy[1]
    groups = []
    for wide, count, kind in sorted(set(zip(wide_of, counts, kinds, strict=True))):
        chosen = np.flatnonzero((wide_of == wide) & (counts == count) & (kinds == kind))
        groups.append(Group(chosen, int(count), bool(wide), str(kind)))
    return low, high, groups


def refinement(prior: MassPrior) -> int:
    """Give the factor by which the kinks of a coarse mass prior raise the number of panels."""
    return 8 if np.diff(prior.ln_mass_nodes).max() > _COARSE_CELL else 1


def _wide_panels(halos: Objects, relation, support: float) -> np.ndarray:
    """Choose the number of panels over the whole support: at least one per two widths of p3 x p4."""
    if not hasattr(relation, "data_term"):
        return np.full(halos.sigma.shape[0], _WIDE_PANELS)
    errors = [halos.sigma, *([] if halos.observed is None else np.moveaxis(np.asarray(halos.observed.sigma), -1, 0))]
    laws = (relation, *(getattr(relation, "laws", ())))
    precision = 0.0
    for law, error in zip(laws, errors, strict=False):
        scatter, slope = np.min(np.asarray(law.scatter)), np.max(np.abs(np.asarray(law.alpha2)))
        precision = precision + slope**2 / (scatter**2 + error**2)
    width = precision**-0.5
    doublings = np.ceil(np.log2(support / (2 * width * _WIDE_PANELS)))
    return (_WIDE_PANELS * 2 ** np.clip(doublings, 0, 5)).astype(int)


def merged(groups: list[Group]) -> list[Group]:
    """Put the groups of each kind of noise together, with what the most demanding of them needs.

    Parameters
    ----------
    groups : list of Group
        The groups of a plan.

    Returns
    -------
    list of Group
        One for each kind of noise: a few objects take longer to compile for than to compute.
    """
    found = []
    for kind in NOISE_KINDS:
        # "near" is a part of what the kernel of linear noise can do.
        same = [g for g in groups if g.kind == kind or (g.kind, kind) == ("near", "normal")]
        if same:
            rows = np.sort(np.concatenate([g.rows for g in same]))
            found.append(Group(rows, max(g.num_panels for g in same), any(g.wide for g in same), kind))
    return found


def run(kernel, halos: Objects, prior: MassPrior, relation, chunk_size: int, method: str = "analytic", together=False):
    """Call a kernel on every group of objects, chunk by chunk.

    Parameters
    ----------
    kernel : callable
        Called as `kernel(rows, low, high, **static)`; returns a tree of arrays with an axis of objects first.
    halos : Objects
        The objects.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    chunk_size : int
        Objects per call and device at the base number of panels and one redshift node.
    method : str, optional
        Integral over the luminosity.
    together : bool, optional
        Whether all objects of one kind of noise share a compiled kernel, `merged`.

    Yields
    ------
    rows : Int[np.ndarray, "row"]
        Row numbers of a chunk.
    outputs : tree of np.ndarray, (row, ...)
        What the kernel returned for them, on the host.
    """
    chunk_size = max(1, chunk_size // halos.z.shape[1])
    low, high, groups = plan(halos, prior, relation, chunk_size, method)
    on_cpu = devices.free_bytes() is None
    for group in merged(groups) if together else groups:
        # With more panels, fewer objects at a time need the same memory; and with the table of linear noise.
        share = _SMALL_CHUNK if on_cpu and group.kind != "lognormal" and method == "analytic" else 1
        size = max(1, chunk_size * panels.BASE_PANELS // (share * group.num_panels))
        start = 0
        for outputs in in_chunks(lambda i, g=group: kernel(i, low[i], high[i], **g.static), group.rows, size):
            count = jax.tree.leaves(outputs)[0].shape[0]
            yield group.rows[start : start + count], outputs
            start += count


def in_chunks(function, rows: np.ndarray, chunk_size: int):
    """Call a function on chunks of rows and yield its outputs on the host.

    There are `chunk_size` objects for each device; the last chunk is padded by repeating its last row. The next chunk
    is computed while one is copied to the host.

    Parameters
    ----------
    function : callable
        Takes row numbers; returns a tree of arrays with an axis of objects first.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    chunk_size : int
        Objects per call and device.

    Yields
    ------
    tree of np.ndarray, (row, ...)
        Outputs of one chunk, without the padding.
    """
    size = chunk_size * devices.count()
    starts = range(0, rows.size, size)

    def started():
        for start in starts:
            chunk = rows[start : start + size]
            yield function(np.concatenate([chunk, np.full(size - chunk.size, chunk[-1])]))

    for start, outputs in zip(starts, devices.fetched(started()), strict=True):
        number = min(size, rows.size - start)
        yield jax.tree.map(lambda a, n=number: a[:n], outputs)


def check_chance(halos: Objects, selection) -> None:
    """Refuse objects whose noise a selection cannot take, where the chance to be in the catalogue weighs the draws.

    Parameters
    ----------
    halos : Objects
        The objects.
    selection : Selection or None
        Which objects enter the catalogue.

    Raises
    ------
    MassmapError
        For linear noise or limits, or a limit in signal to noise: the chance is that of an object with lognormal noise.
    """
    if isinstance(selection, SignalToNoiseLimit):
        raise MassmapError(
            "a limit in signal to noise cannot weigh draws of a relation: fit the relation to this catalogue with it,"
            " or use draws that these objects do not update (relation_from='fixed_draws')"
        )
    other = halos.kind != _LOGNORMAL
    if selection is not None and not isinstance(selection, NoSelection) and other.any():
        first = int(np.argmax(other))
        raise MassmapError(
            f"a selection is for lognormal noise, and {other.sum()} objects have another kind, first row {first} "
            f"({NOISE_KINDS[halos.kind[first]]}): use draws that the objects do not update "
            "(relation_from='fixed_draws'), for which the selection does not matter"
        )


def check_noise(halos: Objects, relation, method: str, prior: MassPrior) -> None:
    """Refuse settings that cannot give an answer, before anything is computed.

    Parameters
    ----------
    halos : Objects
        The objects.
    relation : Relation
        A batch of draws.
    method : str
        Integral over the luminosity, or "surface".
    prior : MassPrior
        The mass prior.

    Raises
    ------
    MassmapError
        For noise that is not lognormal with a method or a relation that cannot take it, noise (or scatter) of 0 where
        the method needs more, or a population that was fitted under another mass prior.
    """
    check_base(relation, prior)
    closed_form = method in ("analytic", "surface")
    if names_of(relation) and (not closed_form or halos.z.shape[1] > 1):
        raise MassmapError(
            f"the relation is one of {', '.join(names_of(relation))} beside the luminosity: use method 'analytic', and"
            " exact redshifts"
        )
    other = halos.kind != _LOGNORMAL
    scatter = np.atleast_1d(np.asarray(getattr(relation, "scatter", 1.0)))
    if method != "quadrature" and other.any():
        first = int(np.argmax(other))
        objects = f"{other.sum()} objects have another kind, first row {first} ({NOISE_KINDS[halos.kind[first]]})"
        if method not in ("analytic", "surface"):
            raise MassmapError(
                f"method {method!r} is for lognormal noise, and {objects}: use 'analytic' or 'quadrature'"
            )
        redshift = float(halos.z[other].min()), float(halos.z[other].max())
        largest = largest_scatter(relation.as_batch(), redshift, (prior.ln_mass_min, prior.ln_mass_max))
        if largest is None or largest > HIGHEST_SCATTER:
            what = "depends on the mass" if largest is None else f"is {largest:.3g} in ln L"
            raise MassmapError(
                f"linear noise is tabulated for a scatter of up to {HIGHEST_SCATTER:g} that is the same at all masses, "
                f"that of the relation {what}, and {objects}: use method='quadrature'"
            )
    no_noise, no_scatter = halos.sigma == 0, scatter == 0
    if closed_form:
        bad = no_noise if no_scatter.any() else np.zeros_like(no_noise)
        what = "noise and scatter are both 0"
    elif method == "importance":
        bad = no_noise | no_scatter.any()
        what = "method 'importance' needs noise and scatter above 0"
    else:
        bad, what = no_noise, f"method {method!r} needs noise above 0"
    if bad.any():
        raise MassmapError(
            f"{what} for {bad.sum()} objects, first usable row {int(np.argmax(bad))}: give a sigma above 0"
            + ("" if closed_form else " or use method='analytic'")
        )
