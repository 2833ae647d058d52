"""`map_kinds_figure`: the kinds of map side by side, with the error bars of their totals.

matplotlib is imported only when the function is called.
"""

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.choices import check_map_colours
from massmap_jax.errors import MassmapError
from massmap_jax.figures.maps import draw_map, map_norm, map_title, side_bar
from massmap_jax.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    MSUN,
    PAGE,
    UNIT_LABELS,
    VERMILLION,
    mass_symbol,
    new_figure,
    settle,
    styled,
)
from massmap_jax.maps.kinds import KINDS
from massmap_jax.maps.pixels import PixelGrid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.maps.images import MassMap

_NAMES = {
    "truth": "truth",
    "point": "point estimate",
    "marginal": "indep. marginals",
    "coherent": "coherent draws",
}
_COLOURS = {"truth": BLACK, "point": GREEN, "marginal": VERMILLION, "coherent": BLUE}


@styled
def map_kinds_figure(maps: "dict[str, MassMap]", colours: str = "magma") -> "Figure":
    """Draw maps of each kind on one colour scale and, below, the total mass of each with its 68 and 95 % intervals.

    Parameters
    ----------
    maps : dict of str to MassMap
        Maps by kind ("truth", "point", "marginal", "coherent"), as `massmap_jax.maps.kinds.map_kinds` gives them; on a
        plane grid, without redshift slices.
    colours : {"magma", "grey"}
        Bright is massive, or dark is massive.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    MassmapError
        For an unknown kind, unknown colours, no maps, HEALPix pixels, or maps with slices.
    """
    check_map_colours(colours)
    if not maps or set(maps) - set(KINDS):
        raise MassmapError(f"maps are of the kinds {', '.join(maps) or 'none'}: give some of {', '.join(KINDS)}")
    first = next(iter(maps.values()))
    if any(not isinstance(m.grid, PixelGrid) or m.mean.ndim != 2 for m in maps.values()):
        raise MassmapError(
            "the figure shows maps on a plane grid and without slices: take one slice (massmap_jax.one_slice), or "
            "another grid"
        )
    ny, nx = first.grid.shape
    width = PAGE / len(maps) - 0.5
    heights = [float(np.clip(width * ny / nx, 0.8, 4.0)) + 0.8, 0.55 + 0.2 * len(maps)]
    figure = new_figure(PAGE, sum(heights))
    cells = figure.add_gridspec(2, len(maps), height_ratios=heights)
    axes = [figure.add_subplot(cells[0, i]) for i in range(len(maps))]
    norm = map_norm([m.mean[m.mean > 0] for m in maps.values()], first.fwhm_arcmin is not None)
    for ax, (kind, one) in zip(axes, maps.items(), strict=True):
        image = draw_map(ax, one, np.asarray(one.mean, np.float64), norm, colours)
        ax.set_title(_NAMES[kind])
        if ax is not axes[0]:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
    bar = side_bar(axes[-1], image, ny / nx)
    symbol = f"${mass_symbol(first.mass_definition)}$"
    bar.set_label(f"mean {symbol} [{UNIT_LABELS[first.unit]}]")
    figure.suptitle(f"halo mass {symbol}: {map_title(first).rsplit(',', 1)[0]}", fontsize=8)
    _totals(figure.add_subplot(cells[1, :]), maps, symbol)
    settle(figure)
    return figure


def _totals(ax, maps, symbol):
    """Draw the total mass of each kind of map with its intervals."""
    for row, (kind, one) in enumerate(maps.items()):
        ax.plot(one.total_mass, row, "o", ms=4, color=_COLOURS[kind])
        if one.num_draws > 1:
            for (low, high), line in (((0.025, 0.975), 1.0), ((0.16, 0.84), 3.0)):
                ax.plot(np.quantile(one.total_draws, (low, high)), [row, row], lw=line, color=_COLOURS[kind])
    if "truth" in maps:
        ax.axvline(maps["truth"].total_mass, color=BLACK, lw=0.8, ls="--", zorder=0)
    ax.set_yticks(range(len(maps)), [_NAMES[kind] for kind in maps])
    ax.tick_params(axis="y", length=0, right=False)
    ax.set_ylim(len(maps) - 0.4, -0.6)
    ax.set_xlabel(f"total halo mass {symbol} [{MSUN}], 68 % (thick) and 95 % of the draws")
