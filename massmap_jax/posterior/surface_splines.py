"""Cubic splines through the nodes of a table, which make a fine one of few that are integrated.

An object whose redshift is a distribution takes ten times and more as long to integrate as one with an exact redshift,
and its posterior is smoother. Few nodes are therefore integrated, cubic splines along each axis go through them, and
their values at many more nodes make the table, between whose nodes a straight line is near enough.
"""

import numpy as np
from jaxtyping import Bool, Float

# The number of parts is even, so that the middle between integrated nodes is a node of the table.
_MOST_PARTS = 16
LEFT_OUT = 0.03
"""The share of nodes about which a table may be too coarse, for each axis: objects there are not read off it."""


def spline(nodes: Float[np.ndarray, " n"], values, axis: int):
    """Make the cubic spline through some values along one axis; of fewer than 4 nodes, the polynomial through them."""
    from scipy.interpolate import CubicSpline  # slow to import

    return CubicSpline(nodes, values, axis=axis)


def divided(nodes: Float[np.ndarray, " n"], parts: int) -> Float[np.ndarray, " m"]:
    """Divide each cell between nodes into equal parts.

    Parameters
    ----------
    nodes : Float[np.ndarray, "n"]
        Nodes, increasing.
    parts : int
        Parts of a cell.

    Returns
    -------
    Float[np.ndarray, "m"]
        The nodes, and those between them.
    """
    place = np.arange((nodes.size - 1) * parts + 1) / parts
    return np.interp(place, np.arange(nodes.size), nodes)


def parts_needed(
    axes,
    values: Float[np.ndarray, "..."],
    unit: Float[np.ndarray, "..."],
    where: Bool[np.ndarray, "..."],
    allowed: float,
) -> tuple[list[int], Bool[np.ndarray, "..."]]:
    """Choose in how many parts the cells along each axis are divided, so that straight lines are near the splines.

    A few nodes about which the values bend most would ask for many parts everywhere. They are left out, and named.

    Parameters
    ----------
    axes : sequence of Float[np.ndarray, "n"]
        Nodes along each axis.
    values : Float[np.ndarray, "... column"]
        Values at the nodes.
    unit : Float[np.ndarray, "... column"]
        Errors that are allowed, infinite for columns that do not matter.
    where : Bool[np.ndarray, "..."]
        Nodes that matter.
    allowed : float
        Sum of the errors along all axes, in these units.

    Returns
    -------
    parts : list of int
        An even number for each axis, 1 for an axis of one node.
    far : Bool[np.ndarray, "..."]
        Nodes about which straight lines are off by more.
    """
    errors, bends = [], []
    for axis, nodes in enumerate(axes):
        if nodes.size == 1:
            errors.append(0.0)
            bends.append(np.zeros(where.shape))
            continue
        cell = np.diff(nodes)
        widest = np.maximum(np.append(cell, 0.0), np.insert(cell, 0, 0.0))
        shape = [1] * values.ndim
        shape[axis] = nodes.size
        # The error of a straight line over a cell is at most its square times the second derivative over 8.
        bend = np.abs(spline(nodes, values, axis)(nodes, 2)) * widest.reshape(shape) ** 2 / 8
        bends.append(np.max(bend / unit, axis=-1))
        errors.append(float(np.quantile(bends[-1][where], 1 - LEFT_OUT)))
    share = allowed / max(sum(error > 0 for error in errors), 1)
    wanted = [2 * int(np.ceil(0.5 * np.sqrt(error / share))) for error in errors]
    parts = [
        1 if nodes.size == 1 else int(np.clip(number, 2, _MOST_PARTS))
        for nodes, number in zip(axes, wanted, strict=True)
    ]
    total = np.sum([bend / number**2 for bend, number in zip(bends, parts, strict=True)], axis=0)
    return parts, where & (total > allowed)


def refined(axes, values: Float[np.ndarray, "..."], parts: list[int]) -> Float[np.ndarray, "..."]:
    """Evaluate the splines at the nodes of divided axes.

    Parameters
    ----------
    axes : sequence of Float[np.ndarray, "n"]
        Nodes along each axis.
    values : Float[np.ndarray, "... column"]
        Values at the nodes.
    parts : list of int
        Parts of the cells along each axis.

    Returns
    -------
    Float[np.ndarray, "... column"]
        float32.
    """
    shape = tuple((nodes.size - 1) * number + 1 for nodes, number in zip(axes, parts, strict=True))
    out = np.empty((*shape, values.shape[-1]), dtype=np.float32)
    # Column by column: all of them in double precision may not fit into the memory.
    for column in range(values.shape[-1]):
        part = values[..., column]
        for axis, (nodes, number) in enumerate(zip(axes, parts, strict=True)):
            if number > 1:
                part = spline(nodes, part, axis)(divided(nodes, number))
        out[..., column] = part
    return out


def neighbours_of(cells: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Add the cells beside those that are marked, across faces, edges and corners.

    Parameters
    ----------
    cells : Bool[np.ndarray, "..."]
        The cells.

    Returns
    -------
    Bool[np.ndarray, "..."]
        These and their neighbours.
    """
    for axis in range(cells.ndim):
        both = np.moveaxis(cells.copy(), axis, 0)
        own = np.moveaxis(cells, axis, 0)
        both[1:] |= own[:-1]
        both[:-1] |= own[1:]
        cells = np.moveaxis(both, 0, axis)
    return cells


def nodes_of(cells: Bool[np.ndarray, "..."], shape: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    """Give the nodes at the corners of the cells that are marked.

    Parameters
    ----------
    cells : Bool[np.ndarray, "..."]
        The cells; one along an axis of one node.
    shape : tuple of int
        Nodes along each axis.

    Returns
    -------
    Bool[np.ndarray, "..."]
        The nodes.
    """
    for axis, size in enumerate(shape):
        if size > 1:
            empty = np.zeros_like(np.take(cells, [0], axis))
            cells = np.concatenate([cells, empty], axis) | np.concatenate([empty, cells], axis)
    return cells


def cells_at(nodes: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Give the cells that have a marked node for a corner.

    Parameters
    ----------
    nodes : Bool[np.ndarray, "..."]
        The nodes.

    Returns
    -------
    Bool[np.ndarray, "..."]
        The cells; one along an axis of one node.
    """
    for axis, size in enumerate(nodes.shape):
        if size > 1:
            nodes = np.take(nodes, np.arange(size - 1), axis) | np.take(nodes, np.arange(1, size), axis)
    return nodes
