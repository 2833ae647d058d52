"""Predictive distribution of the observed luminosity under prior x relation x selection, at each object's z and sigma.

P(ln L <= x | z, sigma) is the integral over ln M of p(ln M|z) Phi[(x - mean ln L) / sqrt(S^2 + sigma^2)]. Within the
detected objects, P(ln L <= x) = 1 - (integral from x up of p_det p(ln L) d ln L) / A, with A from the selection. The
part above x is used because it is smooth, whereas the part below may contain the edge of a flux limit. Above a sharp
limit both are integrals over ln M alone, as without a selection. Of objects that
were selected on a measured mass, it is the probability below x and above the threshold (`AboveThreshold`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.above_threshold import AboveThreshold
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.redshifts import place
from massmap_jax.likelihood.selection import TabulatedSelection
from massmap_jax.prior.population import population_of
from massmap_jax.relation.calibrated import covariance
from massmap_jax.relation.linear import Part

_CHUNK = 2048
# Gauss-Legendre nodes per panel in ln M, and least and largest number of panels (the latter for tiny scatter).
_ORDER = 4
_PANELS, _MOST_PANELS = 64, 512
# Nodes in ln L above the observed one, and how far past the brightest mean they reach, in standard deviations.
_LUM_NODES, _LUM_REACH = 48, 6.0
# A detected part cannot exceed A: a larger relative excess means that the selection's two methods disagree.
_TOLERANCE = 0.01


class Predicted(NamedTuple):
    """Predicted probabilities of a luminosity below the observed one.

    Attributes
    ----------
    pit : Float[np.ndarray, "row"]
        PIT of each row, averaged over the relation draws.
    of_draws : Float[np.ndarray, "draw row"]
        The same under each draw.
    impossible : int
        Number of rows that the selection rules out.
    """

    pit: np.ndarray
    of_draws: np.ndarray
    impossible: int


def predictive_pit(catalogue: HaloCatalogue, rows, prior, relation, selection) -> Predicted:
    """Compute the predicted probability of a luminosity below the observed one (PIT) for some rows.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    rows : Int[np.ndarray, "row"]
        Row numbers, with finite ln L_obs, sigma and z.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of relation draws, which are averaged over by their weights.
    selection : Selection or None
        The selection; None if every object is in the catalogue.

    Returns
    -------
    Predicted
        PITs.

    Raises
    ------
    MassmapError
        If the selection's `log_norm` is too small for its `log_prob`.
    """
    sigma = catalogue.sigma_ln_lum[rows]
    mass_nodes = _mass_nodes(prior, relation, sigma, catalogue.redshift[rows])
    placed = place(catalogue, rows, prior, selection=selection)
    q = placed.z.shape[1]
    of_nodes = (catalogue.ln_lum_obs[rows, None] + placed.ln_moved, placed.z, np.repeat(sigma[:, None], q, axis=1))
    data = np.stack([a.ravel() for a in of_nodes])
    found = np.ones((2, data.shape[1]))
    each, chance = np.ones((2, relation.num_draws, data.shape[1]))
    for start in range(0, data.shape[1], _CHUNK):
        part = data[:, start : start + _CHUNK]
        padded = np.pad(part, ((0, 0), (0, _CHUNK - part.shape[1])), mode="edge")
        outputs = _pit_chunk(tuple(padded), mass_nodes, prior, relation, selection)
        chosen, kept = slice(start, start + part.shape[1]), slice(part.shape[1])
        found[:, chosen] = [np.asarray(a)[kept] for a in outputs[:2]]
        each[:, chosen], chance[:, chosen] = (np.asarray(a)[kept].T for a in outputs[2:])
    detected, can_be = found.reshape(2, rows.size, q)
    each, chance = (a.reshape(-1, rows.size, q) for a in (each, chance))
    # The flux of an object whose redshift is a distribution: the nodes count by their weight among detected objects,
    # and one at which no halo can be detected has no PIT and no share.
    share = np.exp(placed.ln_weight) * chance
    each = np.where(share > 0, each, 0.0 if q > 1 else np.nan)
    each = (share * each).sum(axis=2) / share.sum(axis=2)
    pit, detected = relation.shares @ each, detected.max(axis=1)
    possible = (can_be > 0).any(axis=1)
    bad = possible & (detected > 1 + _TOLERANCE)
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"the selection's log_norm is too small for its log_prob in {bad.sum()} of {rows.size} rows, first row "
            f"{rows[first]}: above its luminosity log_prob finds {detected[first]:.3g} times the probability that "
            "log_norm gives for all luminosities; correct log_norm"
        )
    return Predicted(np.clip(pit, 0.0, 1.0), np.clip(each, 0.0, 1.0), int((~possible).sum()))


def linear_pit(catalogue: HaloCatalogue, rows, prior, relation, selection) -> Predicted:
    """Compute the predicted probability of a luminosity below the observed one for rows with linear noise.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    prior : MassPrior
        The mass prior.
    relation : MassLuminosityRelation
        A batch of relation draws, which are averaged over by their weights.
    selection : Selection or None
        A sharp limit; None if every object is in the catalogue.

    Returns
    -------
    Predicted
        PITs: one minus the probability of a measurement above the observed luminosity, over that of one above the
        limit.
    """
    z = catalogue.redshift[rows]
    ln_lum, relative = catalogue.signed_measurements(rows)
    ln_error = ln_lum + np.log(np.abs(relative))
    at_limit, below = None, np.zeros(rows.size, bool)
    if selection is not None:
        ln_limit = np.asarray(selection.limit_of(z, ln_error))
        at_limit = ln_limit, np.exp(ln_error - ln_limit)
        below = (ln_lum < ln_limit - 1e-5) | (relative < 0)
    if population_of(relation) is not None:
        each = _linear_pit_of_population(ln_lum, relative, z, prior, relation, at_limit)
        return Predicted(relation.shares @ each, each, int(below.sum()))
    scatter, ones = float(np.min(relation.scatter)), np.ones(rows.size)
    own = Part.above(z, ln_lum, relative, ones, scatter)
    limit = None if at_limit is None else Part.above(z, *at_limit, ones, scatter)
    each = np.zeros((relation.num_draws, rows.size))
    for number in range(relation.num_draws):
        one = relation.draw(number)
        ln_chance = np.asarray(own.each(one, prior))
        if limit is not None:
            ln_chance = ln_chance - np.asarray(limit.each(one, prior))
        each[number] = -np.expm1(np.minimum(ln_chance[: rows.size], 0.0))
    return Predicted(relation.shares @ each, each, int(below.sum()))


def _linear_pit_of_population(ln_lum, relative, z, prior, relation, at_limit) -> np.ndarray:
    """PITs (draw, row) where each draw has its own population: the chance at each mass, averaged over the masses.

    Above the observed luminosity, over that above the limit, whose ln and relative error are `at_limit`.
    """
    mass_nodes = _mass_nodes(prior, relation, np.minimum(np.abs(relative), 0.5), z)
    places = [linear_noise.reference(*at) for at in ((ln_lum, relative), at_limit) if at is not None]
    data = np.stack([z, *(np.asarray(a) for pair in places for a in pair)])
    each = np.zeros((relation.num_draws, z.size))
    for start in range(0, z.size, _CHUNK):
        part = data[:, start : start + _CHUNK]
        padded = np.pad(part, ((0, 0), (0, _CHUNK - part.shape[1])), mode="edge")
        found = np.asarray(_linear_pit_chunk(tuple(padded), mass_nodes, prior, relation))
        each[:, start : start + _CHUNK] = found[: part.shape[1]].T
    return np.clip(each, 0.0, 1.0)


@jax.jit
def _linear_pit_chunk(data, mass_nodes, prior, relation):
    """PITs of one chunk; (object, draw)."""
    ln_mass, weight, _ = (jnp.asarray(a, dtype=float) for a in mass_nodes)

    def one(z, *places):
        ln_prior = prior.interpolate(prior.ln_density_at(z), ln_mass)

        def of_draw(draw):
            probability = weight * jnp.exp(population_of(draw).ln_density(ln_prior, ln_mass, z))
            scatter, mean = draw.scatter_ln_lum(ln_mass[0], z), draw.mean_ln_lum(ln_mass, z)

            def above(ln_reference, place):
                return (probability * jnp.exp(linear_noise.ln_above(ln_reference - mean, scatter, place))).sum()

            whole = above(*places[2:]) if len(places) > 2 else probability.sum()
            # Below the smallest number there is no object at all; the ratio is NaN, which the caller refuses.
            return 1 - above(*places[:2]) / whole

        return jax.lax.map(of_draw, relation)

    return jax.vmap(one)(*(jnp.asarray(a, dtype=float) for a in data))


def _mass_nodes(prior, relation, sigma, z) -> tuple[np.ndarray, np.ndarray, float]:
    """Nodes and weights in ln M, with panel edges on the kinks of ln p, and the spacing of the nodes in ln L."""
    nodes = np.asarray(prior.ln_mass_nodes, dtype=np.float64)
    ends = [
        np.asarray(jax.vmap(lambda r, m=m: r.mean_ln_lum(m, float(np.median(z))))(relation)) for m in nodes[[0, -1]]
    ]
    slope = np.abs(ends[1] - ends[0]).max() / (nodes[-1] - nodes[0])
    scatter = float(np.min(jax.vmap(lambda r: r.scatter_ln_lum(nodes[0], float(np.median(z))))(relation)))
    narrowest = np.hypot(scatter, sigma.min()) / slope
    length, cells = nodes[-1] - nodes[0], nodes.size - 1
    # A panel spans three of the narrowest standard deviations.
    panels = int(np.clip(np.ceil(length / max(3 * narrowest, 1e-6)), _PANELS, _MOST_PANELS))
    if cells > panels:
        edges = np.append(nodes[: -1 : -(-cells // panels)], nodes[-1])
    else:
        pieces = -(-panels // cells)
        edges = np.append((nodes[:-1, None] + np.diff(nodes)[:, None] * np.arange(pieces) / pieces).ravel(), nodes[-1])
    x, w = np.polynomial.legendre.leggauss(_ORDER)
    half = 0.5 * np.diff(edges)[:, None]
    # A step in mass that is sharper than the spacing of the nodes is smoothed over one spacing.
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel(), slope * length / (_ORDER * half.size)


@jax.jit
def _pit_chunk(data, mass_nodes, prior, relation, selection):
    """The detected part above L_obs over A (largest draw), whether each is possible, and PITs and A by draw."""
    ln_mass, weight, spacing = (jnp.asarray(a, dtype=float) for a in mass_nodes)

    def one(ln_lum, z, sigma):
        ln_prior = prior.interpolate(prior.ln_density_at(z), ln_mass)

        def of_draw(draw):
            population = population_of(draw)
            own = ln_prior if population is None else population.ln_density(ln_prior, ln_mass, z)
            probability = weight * jnp.exp(own)
            probability = probability / probability.sum()
            mean = draw.mean_ln_lum(ln_mass, z)
            spread = jnp.sqrt(draw.scatter_ln_lum(ln_mass, z) ** 2 + sigma**2 + 0 * mean)
            spread = jnp.maximum(spread, spacing)
            above = AboveThreshold.of(draw, z)
            if above is not None:
                c11, c12, c22 = covariance(draw, sigma, draw.selected["sigma_mass"], 0.0)
                slope, middle = c12 / c11, ln_mass + draw.measured["bias"]
                of_mass = middle, slope, jnp.sqrt(c22 - slope * c12)
                pit = above.pit_of_luminosity(ln_lum, jnp.log(probability), mean, spread, *of_mass)
                return pit, jnp.ones_like(z), jnp.ones_like(z)
            if hasattr(selection, "limit_of"):
                # Both integrals over the same nodes: where nearly nothing is above the limit they still agree.
                limit = selection.limit_of(z, ln_lum + jnp.log(sigma))
                whole, above = (
                    (probability * ndtr((mean - low) / spread)).sum() for low in (limit, jnp.maximum(ln_lum, limit))
                )
                return 1 - above / whole, jnp.ones_like(z), whole
            if selection is None:
                return (probability * ndtr((ln_lum - mean) / spread)).sum(), jnp.ones_like(z), jnp.ones_like(z)
            chance = jnp.exp(selection.log_norm(draw, prior, z, sigma))
            above = _detected_above(ln_lum, z, mean, spread, probability, selection) / chance
            return 1 - above, above, chance

        pit, detected, chance = jax.lax.map(of_draw, relation)
        possible = jnp.asarray(True) if selection is None else selection.log_prob(ln_lum, z) > -jnp.inf
        return detected.max(), possible, pit, chance

    return jax.vmap(one)(*(jnp.asarray(a, dtype=float) for a in data))


def _detected_above(ln_lum, z, mean, spread, probability, selection):
    """Integral from ln_lum up of p_det p(ln L) d ln L."""
    if isinstance(selection, TabulatedSelection):  # in closed form: nodes do not see its kinks and steps
        return (probability * selection.chance_above(ln_lum, z, mean, spread)).sum()
    top = jnp.maximum((mean + _LUM_REACH * spread).max(), ln_lum + 1e-3)
    x, w = (jnp.asarray(a, dtype=float) for a in np.polynomial.legendre.leggauss(_LUM_NODES))
    nodes = ln_lum + 0.5 * (top - ln_lum) * (1 + x)
    t = (nodes[:, None] - mean) / spread
    density = (probability / spread * jnp.exp(-0.5 * t**2)).sum(axis=1) / np.sqrt(2 * np.pi)
    detection = jnp.exp(selection.log_prob(nodes, jnp.full_like(nodes, z)))
    return 0.5 * (top - ln_lum) * (w * detection * density).sum()
