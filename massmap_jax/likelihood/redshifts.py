"""Redshift nodes of objects whose redshift is a distribution: place, weight and luminosity of each.

The flux F is what was measured, so that the luminosity moves with z: ln L(z) = ln F + 2 ln D_L(z) + k ln(1 + z). Per
ln F the evidence of an object is a sum over nodes z_q,

    p(M, F, d) = sum_q w_q n(z_q) p(d | z_q) p(M | z_q) p(ln L(z_q) | M, z_q)

with n(z) the density of all halos above the lowest mass of the prior: a catalogue's own N(z) has seen the flux already.
"""

from functools import cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.catalogue.photo_z import RedshiftDistributions, ln_density_at
from massmap_jax.catalogue.redshift_shapes import DEPTH, Normal
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit, is_sharp
from massmap_jax.memory import check_memory
from massmap_jax.prior.mass_prior import MassPrior

# Below this redshift distances are not those of the Hubble flow, and ln D_L diverges.
_LEAST_Z = 1e-3
# Over all redshifts of the parent distribution: a selection is smooth on a scale of the scatter of the relation.
_PARENT_NODES = 128
# Nodes per panel of a p(z) that is not normal.
_PER_PANEL = 8
# Nodes of a normal p(z), and of one of another shape, where the relation is not asked how many are needed.
_NORMAL, _OTHER = 32, 48
# The same where the chance to be in the catalogue counts at each node: a table of it has kinks. With one that falls by
# a factor of 3 between nodes 3 widths of p(z) apart, means are off by 4e-4 standard deviations (20 nodes: 4e-3).
_WITH_TABLE = 64
NODE_COUNTS, NODE_SHAPES = 20.0, 7.0
"""Nodes of less than exp(-20) of a posterior do not widen its panels, and those of less than exp(-7) do not ask for
narrow ones."""
# Numbers of nodes to choose from where it is asked: few, since each is compiled by itself.
_CHOICES = (12, 20, 32, 64, 128)
# The same with linear noise or a limit, where a kernel takes twice as long to compile.
_FEW_CHOICES = (16, 48, 128)
# Width in ln L over which linear noise at the lowest signal to noise falls towards bright luminosities.
_WIDEST = 0.7
# Where the tail of p(z) is looked at, in standard deviations.
_TAIL = -3.0
# Draws of a relation that are asked.
_DRAWS_ASKED = 4
# Numbers in an array of the objects whose nodes are placed at a time; and arrays of all nodes that are alive while
# objects are collected.
_NUMBERS, _ARRAYS = 2**20, 8
# Objects whose probability to be in the catalogue is looked up at the same time.
_BLOCK = 2048


class RedshiftNodes(NamedTuple):
    """Redshift nodes of some objects.

    Attributes
    ----------
    z : Float[np.ndarray, "halo q"]
        Redshifts.
    ln_weight : Float[np.ndarray, "halo q"]
        ln of the weights, which sum to 1; minus infinity where the prior has no halos.
    ln_moved : Float[np.ndarray, "halo q"]
        ln of the luminosity there over that of the catalogue.
    """

    z: Float[np.ndarray, "halo q"]
    ln_weight: Float[np.ndarray, "halo q"]
    ln_moved: Float[np.ndarray, "halo q"]


def place(catalogue: HaloCatalogue, rows, prior: MassPrior, number: int | None = None, selection=None) -> RedshiftNodes:
    """Place the redshift nodes of some objects.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue; objects without redshift distributions have one node.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    prior : MassPrior
        The mass prior, which says how many halos there are at each redshift.
    number : int, optional
        Nodes per object; by default what the distributions say, or else 32 for normal ones and 48 for others, and 64
        with a table of the completeness.
    selection : Selection, optional
        Which objects can be in the catalogue.

    Returns
    -------
    RedshiftNodes
        The nodes: those of Gauss and Legendre in ln(1 + z), over 5 standard deviations to both sides, or on panels
        where a p(z) of another shape is not 0; cut to the redshifts of the prior.

    Raises
    ------
    MassmapError
        Where the mass prior cannot say how many halos there are, or its cosmology is not known.
    """
    known = catalogue.redshift[rows][:, None]
    if catalogue.redshift_distributions is None:
        return RedshiftNodes(known, np.zeros_like(known), np.zeros_like(known))
    given = catalogue.redshift_distributions
    if number is None:
        number = _usual_number(given, selection)
    shape = (rows.size, number)
    check_memory(
        _ARRAYS * 8.0 * rows.size * number,
        f"{rows.size:,} objects with {number} redshift nodes each",
        "compute the catalogue in parts, or ask for fewer nodes",
    )
    z, ln_weight = np.empty(shape), np.empty(shape)
    points = None if rows.size == 0 else given.take(rows[:1]).shape.points()
    size = max(1, _NUMBERS // max(number, 0 if points is None else points.shape[1]))
    for start in range(0, rows.size, size):
        block = slice(start, start + size)
        z[block], ln_weight[block] = _nodes_of(given.take(rows[block]), prior, number)
    at_known = flux_of_luminosity(given, prior, np.maximum(known, _LEAST_Z))
    return RedshiftNodes(z, ln_weight, flux_of_luminosity(given, prior, z) - at_known)


def ln_detected(catalogue: HaloCatalogue, rows, nodes: RedshiftNodes, selection) -> Float[np.ndarray, "row q"]:
    """Give ln of the probability that objects are in the catalogue, if each redshift node is the redshift.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    nodes : RedshiftNodes
        What `place` gives for these rows.
    selection : Selection or None
        Which objects can be in the catalogue.

    Returns
    -------
    Float[np.ndarray, "row q"]
        ln p_det, -1e30 where there is none. A sharp limit is one of what was measured, whatever the redshift: 0.
    """
    if is_sharp(selection):
        return np.zeros(nodes.z.shape)
    found = np.empty(nodes.z.shape)
    data = np.stack([catalogue.ln_lum_obs[rows, None] + nodes.ln_moved, nodes.z])
    size = min(_BLOCK, rows.size)
    for start in range(0, rows.size, size):
        part = data[:, start : start + size]
        # Of one size: what is compiled serves all blocks.
        padded = np.pad(part, ((0, 0), (0, size - part.shape[1]), (0, 0)), mode="edge")
        with jax.ensure_compile_time_eval():  # data only, also where the relation is being traced
            found[start : start + size] = np.asarray(selection.log_prob(*padded))[: part.shape[1]]
    return np.maximum(found, -1e30)


def _usual_number(given: RedshiftDistributions, selection) -> int:
    """Redshift nodes of each object where the relation is not asked how many are needed."""
    fewest = 0 if is_sharp(selection) else _WITH_TABLE
    return given.num_nodes or max(_NORMAL if given.shape.smooth else _OTHER, fewest)


def nodes_needed(catalogue: HaloCatalogue, rows, prior: MassPrior, relation, selection=None) -> Int[np.ndarray, " row"]:
    """Choose how many redshift nodes each object needs for its mass to be right to 1e-3 of its standard deviation.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue, with redshift distributions.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    selection : Selection, optional
        Which objects can be in the catalogue.

    Returns
    -------
    Int[np.ndarray, "row"]
        10 + 1.6 r or 4.5 r, whichever is more, or the next larger choice (128 at most), where r is the standard
        deviation of ln M that a normal error of the redshift alone makes, over the width of the likelihood of ln M at
        one redshift, in the middle of p(z) or in its lower tail, where it is larger; for p(z) of another shape, and
        where it was said, the same number for all. At least 64 with a table of the completeness.

    Notes
    -----
    The first is what the mean and standard deviation need. With it alone, the posterior of a large r would be a comb:
    nodes in the middle are 5 pi r / number widths of the likelihood apart; for r = 9 the CDF was off by 0.024. Towards
    low redshifts distances change faster: with r of the middle alone the 0.1 % quantile was off by up to 0.03 standard
    deviations, and the mean by 2e-3 where the prior prefers the lowest redshifts.
    `benchmarks/programs/photo_z.py` measures the error of the mean.
    """
    given = catalogue.redshift_distributions
    assert given is not None
    _need_number(given, prior)
    if given.num_nodes is not None or not isinstance(given.shape, Normal) or not hasattr(relation, "data_term"):
        return np.full(rows.size, _usual_number(given, selection))
    shape, known = given.shape.take(rows), np.maximum(catalogue.redshift[rows], _LEAST_Z)
    sd = shape.sd if shape.variable == "ln_1z" else shape.sd / (1 + np.maximum(shape.mean, 0.0))
    middle = shape.mean if shape.variable == "ln_1z" else np.log1p(np.maximum(shape.mean, 0.0))
    least, most = np.log1p(max(prior.z_min, _LEAST_Z)), np.log1p(min(prior.z_max, 1e3))
    ln_lum, sigma = catalogue.signed_measurements(rows)
    plain = catalogue.noise_codes[rows] == NOISE_KINDS.index("lognormal")
    sigma = np.where(plain, sigma, np.minimum(np.abs(sigma), _WIDEST))
    draws = np.unique(np.linspace(0, relation.num_draws - 1, _DRAWS_ASKED).round().astype(int))
    some = jax.tree.map(lambda a: np.asarray(a)[draws], relation.as_batch())
    # On the host: a handful of numbers per object is not worth a compilation.
    spread = np.zeros(rows.size)
    for centre in (0.0, _TAIL):
        ends = np.expm1(np.clip(np.stack([middle + (centre - 1) * sd, middle + (centre + 1) * sd]), least, most))
        at_ends = ln_lum + flux_of_luminosity(given, prior, ends) - flux_of_luminosity(given, prior, known)
        for number in range(draws.size):
            one = jax.tree.map(lambda a, n=number: a[n], some)
            low, high = (one.data_term(at, sigma, z) for at, z in zip(at_ends, ends, strict=True))
            width = np.minimum(np.asarray(low.width), np.asarray(high.width))
            moved = 0.5 * np.abs(np.asarray(high.centre) - np.asarray(low.centre))
            spread = np.maximum(spread, moved / np.maximum(width, 1e-3))
    wanted = np.maximum(10 + 1.6 * spread, 4.5 * spread)
    wanted = wanted if is_sharp(selection) else np.maximum(wanted, _WITH_TABLE)
    return np.where(plain, _next_larger(_CHOICES, wanted), _next_larger(_FEW_CHOICES, wanted))


def _next_larger(choices: tuple[int, ...], wanted) -> Int[np.ndarray, " row"]:
    """The first of some numbers that is not below what is wanted; the last where all are, or that is not finite."""
    wanted = np.nan_to_num(wanted, nan=choices[-1], posinf=choices[-1])
    return np.array(choices)[np.minimum(np.searchsorted(choices, wanted), len(choices) - 1)]


def _nodes_of(given: RedshiftDistributions, prior: MassPrior, number: int):
    """Redshift nodes of some objects, and ln of their weights, which sum to 1."""
    least, most = max(prior.z_min, _LEAST_Z), min(prior.z_max, 1e3)
    points = given.shape.points()
    if points is None:
        low, high = (np.log1p(np.clip(end, least, most))[:, None] for end in given.bounds())
        nodes, weights = np.polynomial.legendre.leggauss(number)
        u = low + 0.5 * (high - low) * (nodes + 1)
        length = 0.5 * (high - low) * weights
    else:
        points = np.clip(points, least, most)
        u, length = _on_panels(np.log1p(points), given.shape.ln_density(points), number)
    z = np.clip(np.expm1(u), least, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        # dz = (1 + z) du.
        ln_weight = np.log(length) + u + given.ln_likelihood(z)
        if given.contains != "posterior_with_flux":
            ln_weight = ln_weight + _ln_parent(given, prior, z)
        top = ln_weight.max(axis=1, keepdims=True)
        total = np.exp(ln_weight - np.where(np.isfinite(top), top, 0.0)).sum(axis=1, keepdims=True)
        return z, np.where(total > 0, ln_weight - top - np.log(total), -np.inf)


def _on_panels(u, ln_density, number: int):
    """Nodes of Gauss and Legendre on panels where a density is, and their weights.

    Parameters
    ----------
    u : Float[np.ndarray, "halo point"]
        ln(1 + z), in rising order, of points between which the density is smooth.
    ln_density : Float[np.ndarray, "halo point"]
        ln of the density there.
    number : int
        Nodes.

    Returns
    -------
    nodes, weights : Float[np.ndarray, "halo number"]
        In ln(1 + z). Gaps without density are left out, and each panel holds the same share of the cube root of the
        density, so that narrow humps have panels of their own and tails are not forgotten.
    """
    each = min(_PER_PANEL, number)
    sizes = [len(part) for part in np.array_split(np.arange(number), -(-number // each))]
    with np.errstate(invalid="ignore", divide="ignore"):
        ln_p = ln_density - ln_density.max(axis=1, keepdims=True)
        there = np.maximum(ln_p[:, 1:], ln_p[:, :-1]) > -DEPTH
        root = np.exp(ln_p / 3)
        width = np.where(there, np.diff(u, axis=1), 0.0)
        share = width * 0.5 * (root[:, 1:] + root[:, :-1])
    # Without the gaps, all that is left is one interval of v.
    v, mass = (np.pad(np.cumsum(a, axis=1), ((0, 0), (1, 0))) for a in (width, share))
    edges = np.arange(len(sizes) + 1) / len(sizes) * mass[:, -1:]
    cell, fraction = _cells_of(mass, edges)
    ends = _take(v, cell) + fraction * _take(width, cell)
    nodes, weights = [], []
    for k, size in enumerate(sizes):
        x, w = np.polynomial.legendre.leggauss(size)
        half = 0.5 * np.diff(ends[:, k : k + 2], axis=1)
        nodes.append(ends[:, k : k + 1] + half * (x + 1))
        weights.append(half * w)
    place = np.concatenate(nodes, axis=1)
    cell, fraction = _cells_of(v, place)
    return _take(u, cell) + fraction * _take(width, cell), np.concatenate(weights, axis=1)


def _cells_of(sums, values):
    """Cell of running sums that each value lies in, and where in it, from 0 to 1; row by row."""
    rows, number = np.arange(sums.shape[0])[:, None], sums.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # All rows in one search, each on its own stretch; empty rows have no cells.
        scale = np.where(sums[:, -1:] > 0, sums[:, -1:], 1.0)
        flat = (sums / scale + 2 * rows).ravel()
        found = np.searchsorted(flat, (values / scale + 2 * rows).ravel(), side="right").reshape(values.shape)
        cell = np.clip(found - 1 - rows * number, 0, number - 2)
        left, right = _take(sums, cell), _take(sums, cell + 1)
        return cell, np.where(right > left, np.clip((values - left) / (right - left), 0.0, 1.0), 0.0)


def _take(values, cell):
    return np.take_along_axis(values, cell, axis=1)


def _cosmology(given: RedshiftDistributions, prior: MassPrior) -> str:
    """The cosmology of volumes and distances."""
    found = given.cosmology or prior.cosmology
    if found in ("", "unknown"):
        raise MassmapError(
            "uncertain redshifts need a cosmology, for volumes and distances, and the mass prior does not say its own:"
            " give cosmology='Planck18', say, with the redshift distributions"
        )
    return found


def _need_number(given: RedshiftDistributions, prior: MassPrior) -> None:
    """Refuse a mass prior that does not say how many halos there are, where that is needed."""
    if given.parent is None and given.contains != "posterior_with_flux" and prior.ln_number is None:
        raise MassmapError(
            "the mass prior does not say how many halos there are at each redshift, which uncertain redshifts need:"
            " make it with from_hmf, from_cosmology or from_table(..., number_density=True), or give parent=(z, dN/dz)"
        )


def _of_cosmology(table, given: RedshiftDistributions, prior: MassPrior):
    """A table of a cosmology up to the largest redshift, so that no object's depends on what else there is."""
    cosmology, farthest = _cosmology(given, prior), float(np.log1p(min(prior.z_max, 1e3)))
    # An object of astropy is no key of a cache.
    return table(cosmology, farthest) if isinstance(cosmology, str) else table.__wrapped__(cosmology, farthest)


@cache
def _volumes(cosmology: str, farthest: float) -> tuple[np.ndarray, np.ndarray]:
    """ln(1 + z), and ln of dV/dz / z^2 there."""
    from massmap_jax.halo.cosmology import comoving_volume

    u = np.linspace(0.0, farthest, 2001)[1:]
    return u, np.log(comoving_volume(cosmology, np.expm1(u))) - 2 * np.log(np.expm1(u))


@cache
def _distances(cosmology: str, farthest: float) -> tuple[np.ndarray, np.ndarray]:
    """ln(1 + z), and ln of D_L / z there."""
    from massmap_jax.halo.cosmology import luminosity_distance

    u = np.linspace(np.log1p(_LEAST_Z), max(farthest, 0.01), 2000)
    return u, np.log(luminosity_distance(cosmology, np.expm1(u))) - np.log(np.expm1(u))


def _ln_parent(given: RedshiftDistributions, prior: MassPrior, z):
    """ln of the number of halos per unit redshift."""
    if given.parent is not None:
        return ln_density_at(given.parent, z)
    _need_number(given, prior)
    u, smooth_volume = _of_cosmology(_volumes, given, prior)
    # Less its own shape at small z, dV/dz ~ z^2, so that a straight line serves between the nodes.
    smooth = np.interp(np.log1p(z), u, smooth_volume)
    assert prior.ln_number is not None
    number = np.asarray(prior.ln_number, dtype=np.float64)
    redshift = np.asarray(prior.redshift_nodes, dtype=np.float64)
    return smooth + 2 * np.log(z) + (np.interp(z, redshift, number) if redshift.size > 1 else number[0])


def parent_nodes(given: RedshiftDistributions, prior: MassPrior) -> tuple[np.ndarray, np.ndarray]:
    """Give nodes over all redshifts of the parent distribution, and ln of their shares of it.

    Parameters
    ----------
    given : RedshiftDistributions
        The distributions, with `parent` or without.
    prior : MassPrior
        The mass prior, whose redshifts they are where `parent` is None.

    Returns
    -------
    redshift, ln_share : Float[np.ndarray, "node"]
        Nodes of Gauss and Legendre in ln(1 + z), and ln of weights that sum to 1.
    """
    ends = (prior.z_min, prior.z_max)
    if given.parent is not None:
        ends = max(ends[0], given.parent[0][0]), min(ends[1], given.parent[0][-1])
    low, high = np.log1p(np.maximum(ends, _LEAST_Z))
    node, weight = np.polynomial.legendre.leggauss(_PARENT_NODES)
    u = 0.5 * (low + high) + 0.5 * (high - low) * node
    # dz = (1 + z) du.
    ln_share = np.log(weight) + u + _ln_parent(given, prior, np.expm1(u))
    return np.expm1(u), ln_share - np.logaddexp.reduce(ln_share)


def flux_of_luminosity(given: RedshiftDistributions, prior: MassPrior, z) -> np.ndarray:
    """Give ln of the luminosity of an object of given flux at each redshift, up to a constant.

    Parameters
    ----------
    given : RedshiftDistributions
        It says whether and how luminosities move with redshift.
    prior : MassPrior
        The mass prior, for its cosmology.
    z : Float[np.ndarray, "..."]
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "..."]
        2 ln D_L + k ln(1 + z); 0 for luminosities that do not move.
    """
    if not given.lum_moves:
        return np.zeros_like(z)
    u = np.log1p(z)
    nodes, smooth_distance = _of_cosmology(_distances, given, prior)
    # Less its own shape at small z, as above.
    smooth = np.interp(u, nodes, smooth_distance)
    return 2 * (smooth + np.log(z)) + given.k_slope * u


def refuse_joint(catalogue: HaloCatalogue, selection, what: str) -> None:
    """Refuse a selection over all redshifts, which only a fit knows.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    selection : Selection or None
        Which objects can be in it.
    what : str
        Who refuses, for the message.

    Raises
    ------
    MassmapError
        For redshift distributions with selection="joint" and a selection.
    """
    given = catalogue.redshift_distributions
    if selection is not None and given is not None and given.selection == "joint":
        raise MassmapError(
            f"{what} takes the selection over each object's own p(z), and selection='joint' asks for one over all"
            " redshifts: fit the relation with it, or give selection='conditional' with the redshift distributions"
        )


def refuse_luminosity_limit(catalogue: HaloCatalogue, selection) -> None:
    """Refuse a limit in what redshifts that are not exact leave unknown.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    selection : Selection or None
        Which objects can be in the catalogue.

    Raises
    ------
    MassmapError
        For a `FluxLimit` and luminosities that move; for a selection that is no sharp limit where the noise of some
        objects is not lognormal.
    """
    known = catalogue.redshift_distributions
    if known is None:
        return
    if isinstance(selection, FluxLimit) and known.lum_moves:
        raise MassmapError(
            "with redshifts that are not exact, luminosities are not known either: a limit has to be one of flux, or"
            " with linear noise one of signal to noise (RedshiftLimit.from_flux, SignalToNoiseLimit, --flux-limit),"
            " which was measured"
        )
    linear = (catalogue.noise_codes != NOISE_KINDS.index("lognormal")) & catalogue.usable
    if linear.any() and not is_sharp(selection):
        raise MassmapError(
            f"with redshifts that are not exact a table of the completeness is for lognormal noise, and {linear.sum()}"
            f" objects have linear noise or a limit, first row {int(np.argmax(linear))}: give a limit in flux or in"
            " signal to noise, or the errors in ln L (sigma_kind='ln')"
        )


def refuse_uncertain(catalogue: HaloCatalogue, what: str) -> None:
    """Refuse a catalogue whose redshifts are not exact, where they would be taken as such.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    what : str
        Who refuses, for the message.

    Raises
    ------
    MassmapError
        For a catalogue with redshift distributions.
    """
    if catalogue.redshift_distributions is not None:
        raise MassmapError(
            f"{what} takes redshifts as exact, and those of this catalogue are distributions: choose the objects with"
            " spectroscopic redshifts, or leave the redshift errors out and say so in what you publish"
        )
