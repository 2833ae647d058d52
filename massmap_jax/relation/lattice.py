"""A sum of ln integrals over very many objects with linear noise, at the price of a few hundred.

Each integral is that of `relation.linear`, a function of the luminosity L_ref that the noise counts from, of the
redshift and of the signal to noise alone. The sum over objects is therefore one of fixed weights over the nodes of a
lattice in (asinh(q / 2), ln L_ref, z): the interpolation of the integrals, transposed, as in `relation.compress`. On
the lattice the integral over masses is a convolution. In l = ln mu_L(M, z), the mean ln luminosity of a mass, it is

    Z(q, ln L_ref, z) = integral of p(l | z) exp[K(ln L_ref - l; q, S)] dl,

so that K is needed at the differences of a grid in ln L only: at some hundred points for each node in q, whatever the
number of objects, redshifts and masses. p(l | z) is the mass function, moved and stretched by the relation; its masses
are spread over the grid in l by B-splines, which are also what exp(K) is interpolated with. What is left is one product
of matrices for each node in q.
"""

from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import in_edges, redshift_edges

# Steps of the grid in ln L for each width of the narrowest feature of K, and masses for each step of the grid.
_STEPS, _MASSES = 2.0, 2.0
# Boxes in asinh(q / 2), over the whole table, and nodes in each. They are narrow from 5 to 8 sigma, where light halos
# and those of the measured luminosity change places.
_RATIO_EDGES, _RATIO_NODES = np.array([-1.5, -0.64, 0.22, 1.08, 1.64, 2.0, 2.4, 2.8, 4.1, 5.4]), 8
# Size of the boxes in ln(1 + z), and nodes in each: of a prior with redshift nodes, where its density has kinks, and of
# a mass function that is made at the nodes of the lattice and is smooth.
_BETWEEN_NODES, SMOOTH_IN_REDSHIFT = (0.1, 3), (1.0, 10)
# Nodes of the grid that an object in ln L is interpolated from.
_TAPS = 8
# A lattice is made for scatters up to this much larger than the least unless told otherwise, and for slopes up to this
# much steeper than one.
SCATTER_RANGE, SLOPE_RANGE = 4.0, 1.6
# Boxes share a grid in ln L unless another one could have steps this much longer.
_NARROWER = 1.5
# Numbers in the matrices of a lattice: more take longer than the objects themselves, and 200 MB.
_LARGEST = 50_000_000
# Objects whose weights are added at one time.
_CHUNK = 65_536
# ln of integrals below this, that of the smallest numbers of single precision, are not told apart.
_LEAST = 1e-37


class LatticeTooLarge(MassmapError):
    """A scatter so small, against the range of the luminosities, that no lattice is of use."""


class MadeFor(NamedTuple):
    """The relations that lattices are made for.

    Attributes
    ----------
    least, greatest : np.ndarray, ()
        Scatters S [ln L].
    slope : np.ndarray, ()
        Typical slope alpha2.
    """

    least: np.ndarray
    greatest: np.ndarray
    slope: np.ndarray

    @classmethod
    def relations(cls, scatter: float, slope: float, greatest: float | None = None) -> "MadeFor":
        """Take numbers; the greatest scatter is `SCATTER_RANGE` times the least one where it is not given."""
        greatest = SCATTER_RANGE * scatter if greatest is None else greatest
        return cls(*(np.asarray(a, dtype=float) for a in (scatter, greatest, slope)))

    def suits(self, relation) -> bool:
        """Tell whether lattices need not be made anew for a relation."""
        steeper = abs(float(relation.alpha2 / self.slope))
        return bool(self.least <= relation.scatter <= self.greatest and steeper <= SLOPE_RANGE)


class Lattice(eqx.Module):
    """Integrals of one kind over objects of a range of signals to noise.

    Attributes
    ----------
    place : Float[Array, " ratio"]
        Nodes in asinh(q / 2), with q the signal to noise.
    z : Float[Array, "redshift"]
        Nodes in redshift.
    weight : Float[Array, "ratio step redshift"]
        How often the integral at a node counts.
    step : Float[Array, ""]
        Step of the grid in ln L.
    first : Float[Array, ""]
        ln L of the first step of the grid of mean luminosities, in steps.
    kind : {"normal", "upper_limit", "above"}
        What K is, see `likelihood.linear_noise.kernel`.
    offset : int
        Steps from the first mean luminosity to the first L_ref.
    length : int
        Steps of the grid of mean luminosities.
    num_masses : int
        Masses, equally spaced in ln M over the support of the prior.
    """

    place: Float[Array | np.ndarray, " ratio"]
    z: Float[Array | np.ndarray, " redshift"]
    weight: Float[Array | np.ndarray, "ratio step redshift"]
    step: Float[Array | np.ndarray, ""]
    first: Float[Array | np.ndarray, ""]
    kind: str = eqx.field(static=True)
    offset: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    num_masses: int = eqx.field(static=True)

    @property
    def products(self) -> int:
        """Products of numbers in one evaluation, of which it takes most of the time."""
        return self.weight.size * self.length

    def __call__(self, relation, prior: MassPrior, norm) -> Float[Array, ""]:
        """Sum the ln integrals under one relation; `norm` is `prior.norm_coefficients()`."""
        weight = jnp.asarray(self.weight)
        ln_pivot, scatter = jnp.log(relation.alpha3), jnp.asarray(relation.scatter, dtype=jnp.float32)
        spread = self._spread_masses(relation, ln_pivot, prior, norm)
        # Row n holds exp(K) at t = (n + offset - length + 1) steps: row of an L_ref, column of a mean luminosity.
        number = self.length + weight.shape[1] - 1
        t = (jnp.arange(number) + (self.offset - self.length + 1)) * jnp.asarray(self.step)
        at = jax.vmap(lambda place: self._spline_of_kernel(t.astype(jnp.float32), scatter, place))
        kernel = _shifted_rows(at(jnp.asarray(self.place, dtype=jnp.float32)), weight.shape[1], self.length)
        # Single precision: only the sum over many objects needs more.
        integrals = jnp.einsum("qlm,mz->qlz", kernel, spread, precision="highest")
        return (weight * jnp.log(jnp.maximum(integrals, _LEAST))).sum()

    def _spread_masses(self, relation, ln_pivot, prior: MassPrior, norm) -> Float[Array, "length redshift"]:
        """Weights of the B-splines of a grid in ln L that stand for the masses, at each redshift."""
        ends = jnp.asarray(prior.ln_mass_nodes)[np.array([0, -1])]
        ln_mass = jnp.linspace(ends[0], ends[1], self.num_masses)
        redshift = jnp.asarray(self.z)
        rows = jax.vmap(lambda z: prior.interpolate(prior.ln_density_at(z, norm), ln_mass))(redshift).T
        share = jnp.exp(rows) * jnp.asarray(_end_weights(self.num_masses))[:, None]
        share = (share / share.sum(axis=0)).astype(jnp.float32)
        step = jnp.asarray(self.step)
        at_pivot = (relation.mean_ln_lum(ln_pivot, redshift) / step - jnp.asarray(self.first)).astype(jnp.float32)
        place = at_pivot + (relation.alpha2 / step * (ln_mass - ln_pivot)).astype(jnp.float32)[:, None]
        # Beyond the grid K changes no more: brighter objects are excluded, fainter ones as if they had no luminosity.
        place = jnp.clip(place, 2.0, self.length - 4.001)
        cell = jnp.floor(jax.lax.stop_gradient(place))
        taps = jnp.arange(-2, 4)[:, None, None]
        parts = _b_spline(place - cell - taps) * share
        to = (cell.astype(jnp.int32) + taps) * redshift.size + jnp.arange(redshift.size)
        empty = jnp.zeros(self.length * redshift.size, dtype=jnp.float32)
        return empty.at[to.ravel()].add(parts.ravel(), mode="promise_in_bounds").reshape(self.length, -1)

    def _spline_of_kernel(self, t, scatter, place) -> Float[Array, "node"]:
        """Coefficients of the B-splines that interpolate exp(K) at one signal to noise."""
        if self.kind == "above":
            k = linear_noise.ln_above(t, scatter, place)
        else:
            k = linear_noise.kernel(self.kind, t, scatter, place)
        filter_ = _spline_filter()
        half = filter_.size // 2
        padded = jnp.pad(jnp.exp(k), half, mode="edge")
        parts = [float(share) * padded[i : i + t.size] for i, share in enumerate(filter_)]
        return jnp.stack(parts).sum(axis=0)


def lattices_of(
    kind: str,
    ln_reference,
    z,
    place,
    weight,
    *,
    made_for: MadeFor,
    prior: MassPrior,
    redshift_nodes,
    in_redshift: tuple[float, int] = _BETWEEN_NODES,
) -> list[Lattice]:
    """Make the lattices that stand for some integrals.

    Parameters
    ----------
    kind : {"normal", "upper_limit", "above"}
        What K is.
    ln_reference, z, place, weight : Float[np.ndarray, "point"]
        ln L_ref, redshift, asinh(q / 2), and weight of each integral.
    made_for : MadeFor
        Range of the relations to be evaluated.
    prior : MassPrior
        Prior density of the masses; only the width of its support is used.
    redshift_nodes : Float[np.ndarray, "node"]
        Redshifts where the integrals have kinks.
    in_redshift : tuple of (float, int), optional
        Size of the boxes in ln(1 + z), and nodes in each.

    Returns
    -------
    list of Lattice
        One for each group of signals to noise.

    Raises
    ------
    LatticeTooLarge
        A grid in ln L with too many steps.
    """
    z_box, z_nodes = in_redshift
    z_edges = redshift_edges(np.asarray(redshift_nodes), float(z.max()), z_box)
    width = abs(made_for.slope) * (prior.ln_mass_max - prior.ln_mass_min)
    columns = np.stack([ln_reference, z, place, weight])
    if np.ptp(place) == 0:
        return [_lattice(kind, columns, place[:1], z_edges, z_nodes, made_for, width)]
    group = _groups(float(made_for.least))
    box = np.clip(np.searchsorted(_RATIO_EDGES, place, side="left") - 1, 0, group.size - 1)
    made = []
    for number in np.unique(group[box]):
        edges = _RATIO_EDGES[np.flatnonzero(group == number)[0] :][: (group == number).sum() + 1]
        made.append(_lattice(kind, columns[:, group[box] == number], edges, z_edges, z_nodes, made_for, width))
    return made


def _groups(scatter: float) -> np.ndarray:
    """Number of the group of each box in signal to noise: a group has one grid in ln L, and light masses or none."""
    narrow = linear_noise.narrowest(_RATIO_EDGES[1:], scatter, np)
    faint = 2 * np.sinh(_RATIO_EDGES[:-1]) < linear_noise.NO_FAINT
    group = [0]
    start = 0
    for i in range(1, narrow.size):
        if faint[i] != faint[start] or narrow[i] < narrow[start] / _NARROWER:
            start = i
        group.append(group[-1] + (start == i))
    return np.array(group)


class _OnAxis(NamedTuple):
    nodes: np.ndarray  # (node,) of all boxes that are occupied
    first: np.ndarray  # (point,) number of the first node of the box
    basis: np.ndarray  # (point, node of the box)

    @classmethod
    def of(cls, values, edges, number) -> "_OnAxis":
        axis = in_edges(values, edges, number)
        boxes, of_box = np.unique(axis.box, return_inverse=True)
        nodes = np.zeros((boxes.size, number))
        nodes[of_box] = axis.nodes
        return cls(nodes.ravel(), of_box * number, axis.basis)


def _lattice(kind, columns, q_edges, z_edges, z_nodes, made_for: MadeFor, width) -> Lattice:
    """The lattice of a group of boxes in signal to noise, or of one signal to noise; `width` is that of ln mu_L."""
    ln_reference, z, place, weight = columns
    step = float(linear_noise.narrowest(q_edges[-1], float(made_for.least), np)) / _STEPS
    in_z = _OnAxis.of(z, z_edges, z_nodes)
    if q_edges.size == 1:
        in_q = _OnAxis(q_edges, np.zeros(z.size, dtype=int), np.ones((z.size, 1)))
    else:
        in_q = _OnAxis.of(place, q_edges, _RATIO_NODES)
    lowest = np.floor(ln_reference / step).astype(int) - (_TAPS // 2 - 1)
    first, steps = lowest.min(), int(np.ptp(lowest)) + _TAPS
    brightest, faintest = _range_of_t(kind, in_q.nodes, made_for)
    offset = int(np.ceil(faintest / step)) + 4
    length = steps - 1 + offset + int(np.ceil(-brightest / step)) + 4
    shape = in_q.nodes.size, steps, in_z.nodes.size
    if max(shape[0] * length, shape[0] * shape[2], shape[2] * length) * steps > _LARGEST:
        raise LatticeTooLarge(
            f"luminosities with linear noise from {np.exp(ln_reference.min()):.3g} to {np.exp(ln_reference.max()):.3g}"
            f" would need {steps:,} steps of {step:.2g} in ln L for a scatter of {made_for.least:.2g}: leave out"
            " luminosities that are far from all others, or believe in a larger scatter"
        )
    total = np.zeros(np.prod(shape))
    for start in range(0, z.size, _CHUNK):
        rows = slice(start, start + _CHUNK)
        to_q, to_step, to_z = np.ix_(np.arange(_CHUNK)[: z[rows].size], np.arange(_TAPS), np.arange(z_nodes))
        to = (in_q.first[rows][to_q] * steps + lowest[rows][to_q] - first + to_step) * shape[2]
        to = to + in_z.first[rows][to_q] + to_z
        share = _lagrange_on_grid(ln_reference[rows] / step - lowest[rows])[:, :, None] * in_z.basis[rows, None, :]
        for node in range(in_q.basis.shape[1]):
            of_node = share * (weight[rows] * in_q.basis[rows, node])[:, None, None]
            total += np.bincount((to + node * steps * shape[2]).ravel(), of_node.ravel(), minlength=total.size)
    return Lattice(
        in_q.nodes,
        in_z.nodes,
        total.reshape(shape),
        np.asarray(step),
        np.asarray(float(first - offset)),
        kind=kind,
        offset=offset,
        length=length,
        num_masses=int(np.ceil(_MASSES * width / step)) + 16,
    )


def _range_of_t(kind: str, place, made_for: MadeFor) -> tuple[float, float]:
    """Least and greatest t = ln L_ref - ln mu_L(M) at which K changes."""
    greatest = float(made_for.greatest)
    largest = min(greatest, linear_noise.HIGHEST_SCATTER)
    if kind != "normal":
        low, high = linear_noise.limit_interval(place, largest, np)
        # `lifted` goes on beyond: exp(-2) of the luminosity at the end changes its exponent by less than a tenth.
        return float(low.min()), float(high.max()) + (2.0 if kind == "above" else 0.0)
    on = linear_noise.intervals(place, largest, np)
    # How far a steep prior may prefer other halos, at a scatter in the middle: all are about the fitted one.
    usual = linear_noise.intervals(place, min(np.sqrt(float(made_for.least) * greatest), largest), np)
    faint = 2 * np.sinh(place.min()) < linear_noise.NO_FAINT
    highest = max(on.near_high.max(), usual.greatest.max(), on.faint_high.max() if faint else 0.0)
    return float(min(on.near_low.min(), usual.least.min())), float(highest)


def _shifted_rows(rows: Float[Array, "ratio node"], number: int, length: int) -> Float[Array, "ratio number length"]:
    """Element [q, j, b] is element j - b + length - 1 of row q: the matrix of a convolution.

    The reversed row and one zero, repeated, is the same matrix in memory, each row one element further: no gather, and
    no scatter in the gradient.
    """
    size = rows.shape[1]
    repeated = jnp.tile(jnp.pad(rows[:, ::-1], ((0, 0), (0, 1))), (1, number))
    return repeated[:, : number * size].reshape(rows.shape[0], number, size)[:, :, number - 1 : number - 1 + length]


def _b_spline(x):
    """The quintic B-spline of unit step."""
    x = jnp.abs(x)
    total = 0.0
    for end, share in ((3.0, 1.0), (2.0, -6.0), (1.0, 15.0)):
        inside = jnp.maximum(end - x, 0.0)
        square = inside * inside
        total = total + share * (square * square * inside)
    return total / 120


@cache
def _spline_filter() -> np.ndarray:
    """Coefficients of the quintic B-splines that interpolate one 1 among zeros, as far as they are above 1e-5.

    They alternate, so that what is cut off shows in their sum alone, which is made 1 again.
    """
    size, half = 81, 14
    at_nodes = np.array([1.0, 26.0, 66.0, 26.0, 1.0]) / 120
    matrix = sum(share * np.eye(size, k=k) for k, share in enumerate(at_nodes, start=-2))
    middle = size // 2
    kept = np.linalg.inv(matrix)[middle, middle - half : middle + half + 1]
    return kept / kept.sum()


@cache
def _end_weights(number: int) -> np.ndarray:
    """Weights of equally spaced nodes that integrate: 1, but near the ends, where the Euler-Maclaurin sum is made good.

    Exact for polynomials of the fifth degree there (Gregory's rule).
    """
    taps = np.arange(6)
    # Sum less integral: f / 2 - f' / 12 + f''' / 720 - f''''' / 30240, of x^k at 0.
    excess = np.array([1 / 2, -1 / 12, 0.0, 6 / 720, 0.0, -120 / 30240])
    correction = np.linalg.solve(np.vander(taps, increasing=True).T.astype(float), excess)
    weights = np.ones(number)
    weights[:6] -= correction
    weights[-6:] -= correction[::-1]
    return weights


def _lagrange_on_grid(place: np.ndarray) -> np.ndarray:
    """Values (point, tap) of the polynomials that are 1 at one of `_TAPS` equally spaced nodes, from 0 on."""
    taps = np.arange(_TAPS)
    return np.stack(
        [np.prod([(place - other) / (tap - other) for other in taps if other != tap], axis=0) for tap in taps], axis=1
    )
