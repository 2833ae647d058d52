"""`truth_maps_figure`: a map of a simulated field beside the truth, with what is known of each pixel.

matplotlib is imported only when the function is called.
"""

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.choices import check_map_colours
from massmap_jax.errors import MassmapError
from massmap_jax.figures.axes import grid_axes
from massmap_jax.figures.maps import map_norm, map_title, wrapped
from massmap_jax.figures.style import PAGE, UNIT_LABELS, label_log_axis, mass_symbol, new_figure, settle, styled
from massmap_jax.maps.pixels import PixelGrid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.maps.images import MassMap

# Of the width of the page: four maps side by side.
_WIDTH = 1.5 * PAGE
# Standard deviations at which the colours of the significance end.
_FARTHEST = 3.0
# Pixels with less than this share of the largest mass hold none: the convolution of profiles leaves rounding errors.
_EMPTY, _EMPTY_COLOUR = 1e-6, "#cfe6f5"
# Colours of mass, of the relative error and of the significance.
_CMAPS = {"magma": ("magma", "viridis", "RdBu_r"), "grey": ("gray_r", "gray_r", "gray_r")}


@styled
def truth_maps_figure(truth: "MassMap", mass_map: "MassMap", colours: str = "magma") -> "Figure":
    """Draw the truth, the posterior mean, its relative error and the significance of each pixel, side by side.

    The significance is the mean of a pixel, less the average over the field, over the pixel's standard deviation: how
    surely there is more mass (or less) than on average. It knows the errors of the masses alone.

    Parameters
    ----------
    truth : MassMap
        Map of the true masses, as `massmap_jax.map_of_kind` gives it; on a plane grid, without redshift slices.
    mass_map : MassMap
        The map of the same field, drawn in the same way.
    colours : {"magma", "grey"}
        Bright is massive, or dark is massive, as in 2017.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    MassmapError
        For unknown colours, HEALPix pixels, maps with slices, or maps of different pixels.
    """
    from matplotlib.colors import Normalize

    check_map_colours(colours)
    if not isinstance(mass_map.grid, PixelGrid) or mass_map.mean.ndim != 2:
        raise MassmapError("the figure shows a map on a plane grid and without slices: take one slice, or another grid")
    if truth.mean.shape != mass_map.mean.shape:
        raise MassmapError(
            f"the truth has {truth.mean.shape} pixels and the map {mass_map.mean.shape}: map both on one grid"
        )
    mean, sd = np.asarray(mass_map.mean, np.float64), np.asarray(mass_map.sd, np.float64)
    filled = mean > _EMPTY * np.nanmax(mean)
    relative = np.divide(sd, mean, out=np.full(mean.shape, np.nan), where=filled)
    excess = np.divide(mean - np.nanmean(mean), sd, out=np.full(mean.shape, np.nan), where=filled & (sd > 0))
    mass = map_norm([truth.mean, mean], smoothed=True)
    largest = float(np.nanquantile(relative, 0.99)) if np.isfinite(relative).any() else 1.0
    unit = f"${mass_symbol(mass_map.mass_definition)}$ [{UNIT_LABELS[mass_map.unit]}]"
    of_mass, of_error, of_excess = _CMAPS[colours]
    panels = [
        ("truth", truth.mean, mass, of_mass, unit),
        ("posterior mean", mean, mass, of_mass, unit),
        ("relative error", relative, Normalize(0.0, max(largest, 1e-6)), of_error, "sd / mean"),
        ("significance", excess, Normalize(-_FARTHEST, _FARTHEST), of_excess, "(mean - field average) / sd"),
    ]
    ny, nx = mean.shape
    figure = new_figure(_WIDTH, _WIDTH / 4 * min(ny / nx, 2.0) + 0.75)
    axes = figure.subplots(1, 4, sharex=True, sharey=True)
    for ax, (name, values, norm, cmap, label) in zip(axes, panels, strict=True):
        shown = np.clip(values, norm.vmin, None) if norm is mass else values
        image = ax.imshow(shown, norm=norm, cmap=cmap, origin="lower")
        grid_axes(ax, mass_map.grid)
        ax.set_facecolor(_EMPTY_COLOUR)
        ax.set_title(name, fontsize=10)
        extend = "both" if norm.vmin < 0 else "neither"
        bar = figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, aspect=25, extend=extend)
        if norm is mass:
            label_log_axis(bar.ax.xaxis, norm.vmin, norm.vmax, 4)
        bar.set_label(label)
        if ax is not axes[0]:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
    title = f"halo mass per pixel: {map_title(mass_map)}" + ("" if filled.all() else "; pale blue: no mass")
    figure.suptitle(wrapped(title, _WIDTH), fontsize=8)
    settle(figure)
    return figure
