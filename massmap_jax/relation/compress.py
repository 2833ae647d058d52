"""A catalogue's relation likelihood as a short weighted sum: interpolation, transposed.

ln L(relation) is a sum over halos of F(ln L_obs, z, sigma), where F = ln Z / A is a smooth function that depends on
the relation. F is interpolated from nodes, F(halo) = sum_i l_i(halo) F(node_i). Exchanging the sums gives

    ln L = sum_i W_i F(node_i),    W_i = sum over halos of l_i(halo),

with weights that depend on the data only: 115,919 halos become some thousands of nodes, 10^8 halos hardly more, and
the weights of parts of a catalogue add up (`Points.__add__`). Nothing is approximated but the interpolation of F, a
polynomial in each box of (z, ln L_obs, sigma); boxes are small against the width sqrt(S^2 + sigma^2) of F and end at
the prior's redshift nodes, where F has kinks.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

_CHUNK = 65_536


class Boxes(NamedTuple):
    """Sizes of the boxes, and how many nodes each has along an axis.

    Attributes
    ----------
    lum_nodes, z_nodes, sigma_nodes : int
        Interpolation nodes in a box along ln L_obs, z and sigma.
    lum_box : float
        Size in ln L_obs, in units of the least sqrt(S^2 + sigma^2).
    z_box : float
        Size in ln(1 + z).
    sigma_box : float
        Size in ln sqrt(1 + sigma^2 / S^2).
    """

    lum_nodes: int = 12
    z_nodes: int = 4
    sigma_nodes: int = 6
    lum_box: float = 2.6
    z_box: float = 0.1
    sigma_box: float = 0.4


BETWEEN_NODES = Boxes()
"""For a prior with redshift nodes, at which the boxes end."""

LARGE = Boxes(lum_nodes=8, z_nodes=2, sigma_nodes=4, lum_box=5.2, sigma_box=0.8)
"""Where a point is dear: a twentieth of the points.

The parameters of a fit to 100,000 objects are off by up to 0.05 of their errors. Two nodes in redshift are those of
Gauss's rule: of objects that are spread evenly over a box, the mean is that of a cubic.
"""


class Points(NamedTuple):
    """Objects with weights: the halos themselves (weight 1), or the nodes that stand for them.

    Attributes
    ----------
    ln_lum_obs : np.ndarray, (point,)
        ln of the observed luminosity.
    sigma : np.ndarray, (point,)
        Standard deviation of the noise [ln L].
    z : np.ndarray, (point,)
        Redshift.
    weight : np.ndarray, (point,)
        How many halos a point stands for; nodes of an interpolation may have negative weights.
    """

    ln_lum_obs: np.ndarray
    sigma: np.ndarray
    z: np.ndarray
    weight: np.ndarray

    def __add__(self, other: "Points") -> "Points":
        """Add the points of two parts of a catalogue, which were made with the same boxes."""
        return _summed(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def redshift_edges(redshift_nodes: np.ndarray, z_max: float, z_box: float = BETWEEN_NODES.z_box) -> np.ndarray:
    """Ends of the boxes in redshift: the prior's nodes, and more where they are further apart than `z_box` in ln(1+z).

    A prior with one redshift node holds at every redshift: boxes from 0 to `z_max`.
    """
    nodes = redshift_nodes if redshift_nodes.size > 1 else np.array([0.0, max(z_max, 1e-3)])
    pieces = []
    for low, high in pairwise(nodes):
        number = int(np.ceil(np.log((1 + high) / (1 + low)) / z_box))
        pieces.append(np.linspace(low, high, max(number, 1), endpoint=False))
    return np.concatenate([*pieces, nodes[-1:]])


def with_ratio(edges: np.ndarray, lowest: float, ratio: float) -> np.ndarray:
    """Add ends of boxes where redshifts in one would differ by more than a factor, as F may go with ln z.

    Parameters
    ----------
    edges : np.ndarray, (edge,)
        Ends of boxes, increasing.
    lowest : float
        Lowest redshift of the objects: one box holds all below it, and all below 0.001.
    ratio : float
        Greatest factor.

    Returns
    -------
    np.ndarray, (edge,)
        The ends.
    """
    # A redshift on an edge belongs to the box below it, and the lowest one to a box of its neighbours.
    lowest = float(np.clip((1 - 1e-9) * lowest, 1e-3, 0.5 * edges[-1]))
    pieces = [edges[:1]] if edges[0] < lowest else []
    for low, high in pairwise(edges):
        low = max(low, lowest)
        if high > low:
            number = int(np.ceil(np.log(high / low) / np.log(ratio)))
            pieces.append(np.geomspace(low, high, number, endpoint=False))
    return np.concatenate([*pieces, edges[-1:]])


def compress(ln_lum_obs, sigma, z, *, redshift_nodes, scatter: float, sigma_range=None, boxes=BETWEEN_NODES) -> Points:
    """Make the points that stand for some halos in every sum of a smooth F(ln L_obs, z, sigma).

    Parameters
    ----------
    ln_lum_obs, sigma, z : np.ndarray, (halo,)
        ln of the observed luminosity, standard deviation of its noise [ln L] and redshift, in float64.
    redshift_nodes : np.ndarray, (node,)
        Redshift nodes of the prior, where F has kinks.
    scatter : float
        Least scatter S of the relations to be evaluated [ln L]: it sets the size of the boxes.
    sigma_range : tuple of (float, float), optional
        Least and greatest sigma of the whole catalogue, where this is a part of one.
    boxes : Boxes, optional
        Their sizes and nodes.

    Returns
    -------
    Points
        Nodes of all occupied boxes, each place once.
    """
    edges = redshift_edges(np.asarray(redshift_nodes, dtype=np.float64), float(z.max()), boxes.z_box)
    least, greatest = (sigma.min(), sigma.max()) if sigma_range is None else sigma_range
    width = boxes.lum_box * np.sqrt(scatter**2 + least**2)
    one_sigma = greatest == least
    parts = []
    for start in range(0, z.size, _CHUNK):
        rows = slice(start, start + _CHUNK)
        axes = [in_edges(z[rows], edges, boxes.z_nodes), _on_lattice(ln_lum_obs[rows], width, boxes.lum_nodes)]
        if not one_sigma:
            # From ln 1 up: no node stands for a sigma below 0.
            place = 0.5 * np.log1p((sigma[rows] / scatter) ** 2)
            axes.append(_on_lattice(place, boxes.sigma_box, boxes.sigma_nodes))
        place, basis = _sum_boxes(axes)
        spread = np.full(basis.size, sigma[0]) if one_sigma else scatter * np.sqrt(np.expm1(2 * place[2]))
        parts.append(Points(place[1], spread, place[0], basis))
    return parts[0] if len(parts) == 1 else _summed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class _Axis(NamedTuple):
    box: np.ndarray  # (halo,) integer
    basis: np.ndarray  # (halo, node) value of each node's Lagrange polynomial at the halo
    nodes: np.ndarray  # (halo, node) place of the nodes of the halo's box


def _lagrange(t: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes on [-1, 1] and the values at t of their Lagrange polynomials."""
    nodes, _ = np.polynomial.legendre.leggauss(number)
    to_basis = np.linalg.inv(np.polynomial.legendre.legvander(nodes, number - 1))
    return nodes, np.polynomial.legendre.legvander(t, number - 1) @ to_basis


def in_edges(values, edges, number) -> _Axis:
    """Place values in boxes between given edges. One on an edge belongs to the box below it, as in `MassPrior`."""
    box = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, edges.size - 2)
    low, high = edges[box], edges[box + 1]
    nodes, basis = _lagrange(2 * (values - low) / (high - low) - 1, number)
    return _Axis(box, basis, low[:, None] + 0.5 * (high - low)[:, None] * (nodes + 1))


def _on_lattice(values, width, number) -> _Axis:
    """Boxes [i, i + 1] * width: the same for every part of a catalogue."""
    box = np.floor(values / width).astype(int)
    nodes, basis = _lagrange(2 * (values / width - box) - 1, number)
    return _Axis(box, basis, width * (box[:, None] + 0.5 * (nodes + 1)))


def _sum_boxes(axes: list[_Axis]):
    """Node places (one array per axis) and summed weights of all occupied boxes."""
    _, first, group = np.unique(np.stack([a.box for a in axes]), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    starts = np.searchsorted(group.ravel()[order], np.arange(first.size))
    product = axes[0].basis
    for axis in axes[1:]:
        product = (product[:, :, None] * axis.basis[:, None, :]).reshape(product.shape[0], -1)
    weight = np.add.reduceat(product[order], starts, axis=0)
    shape = (first.size, *(a.basis.shape[1] for a in axes))
    place = []
    for i, axis in enumerate(axes):
        own = [first.size] + [1] * len(axes)
        own[i + 1] = axis.basis.shape[1]
        place.append(np.broadcast_to(axis.nodes[first].reshape(own), shape).ravel())
    return place, weight.ravel()


def _summed(ln_lum_obs, sigma, z, weight) -> Points:
    """Merge equal points and add their weights."""
    places, group = np.unique(np.stack([z, ln_lum_obs, sigma]), axis=1, return_inverse=True)
    return Points(places[1], places[2], places[0], np.bincount(group.ravel(), weights=weight))
