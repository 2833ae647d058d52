"""Figures of mass maps and convergence maps: one image, or panels of mean, error and number of objects."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.choices import check_map_colours
from massmap_jax.errors import MassmapError
from massmap_jax.figures.all_sky import MollweidePlane
from massmap_jax.figures.axes import grid_axes
from massmap_jax.figures.style import (
    GREY,
    PAGE,
    UNIT_LABELS,
    axes_inches,
    count_text,
    given_or_new_axes,
    label_log_axis,
    mass_symbol,
    new_figure,
    settle,
    styled,
)
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.smoothing import smoothed_counts
from massmap_jax.maps.units import MASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.maps.convergence import ConvergenceMap
    from massmap_jax.maps.images import MassMap

# Of pixels without objects and of those outside the footprint, by the colours of the map.
_EMPTY = {"magma": "#0d1b2a", "grey": "#cfe6f5"}
_MASKED = {"magma": "#d8d4c6", "grey": "#f7e9c8"}
# Of a smoothed map's largest value: less is empty.
_TAIL = 1e-3


@styled
def mass_map_image(
    mass_map: "MassMap", ax: "Axes | None" = None, quantity: str = "mean", colours: str = "magma", remark: str = ""
) -> "Axes":
    """Draw a map on sky axes, with a colour bar.

    Pixels without objects are tinted blue, and pixels outside the footprint have the colour of sand.

    Parameters
    ----------
    mass_map : MassMap
        A map without redshift slices; a HEALPix map is shown on a tangent plane about its objects, or in Mollweide's
        projection of the whole sky where it is too wide for one.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a new figure.
    quantity : {"mean", "sampled_mean", "sd", "q16", "q50", "q84", "nobj"}
        Which image of the map to show. "nobj" is the number of objects per pixel; the others are in the map's unit.
    colours : {"magma", "grey"}
        Bright is massive, or dark is massive.
    remark : str
        What the title says in addition.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; the figure is `ax.figure`.

    Raises
    ------
    MassmapError
        For an unknown quantity or unknown colours, or a map with slices.
    """
    check_map_colours(colours)
    if quantity not in _MAP_LABELS:
        raise MassmapError(f"quantity is {quantity!r}; give one of {', '.join(_MAP_LABELS)}")
    title, mass_map = map_title(mass_map) + remark, _on_plane(mass_map)
    ny, nx = mass_map.grid.shape
    width, height = map_size(ny / nx)
    ax = given_or_new_axes(ax, width, height)
    values = np.asarray(getattr(mass_map, quantity), np.float64)
    shown = values[_filled(mass_map)]
    norm = _count_norm(shown) if quantity == "nobj" else map_norm([shown], _is_smoothed(mass_map))
    image = draw_map(ax, mass_map, values, norm, colours)
    bar = side_bar(ax, image, ny / nx, counts=quantity == "nobj")
    label = _MAP_LABELS[quantity]
    if quantity != "nobj":
        if mass_map.unit != MASS:
            label = label.replace(" in a pixel", "").replace("halo mass", "surface density")
        label += f" ${mass_symbol(mass_map.mass_definition)}$ [{UNIT_LABELS[mass_map.unit]}]"
    if ny < 0.5 * nx:  # too low for a label along the bar
        title = f"{label}\n{title}"
    else:
        bar.set_label(label)
    ax.set_title(wrapped(title, width - 1.0))
    _empty_legend(ax, mass_map, colours)
    settle(ax.figure)
    return ax


_MAP_LABELS = {
    "mean": "mean halo mass in a pixel",
    "sampled_mean": "mean halo mass of the draws",
    "sd": "standard deviation of halo mass",
    "q16": "16 % quantile of halo mass",
    "q50": "median halo mass in a pixel",
    "q84": "84 % quantile of halo mass",
    "nobj": "objects in a pixel",
}


@styled
def map_panels(
    mass_map: "MassMap",
    quantities: "Sequence[str]" = ("mean", "relative", "nobj"),
    colours: str = "magma",
    remark: str = "",
) -> "Figure":
    """Draw panels of a map: by default its mean, its relative error and the number of objects.

    Parameters
    ----------
    mass_map : MassMap
        A map without redshift slices; a HEALPix map is shown on a tangent plane about its objects, or in Mollweide's
        projection of the whole sky where it is too wide for one.
    quantities : sequence of {"mean", "q16", "q50", "q84", "sd", "relative", "nobj"}
        What the panels show. The mean and the quantiles have one colour scale; "relative" is sd / mean; "nobj" is
        smoothed as the map is, where its pixels lie on a plane.
    colours : {"magma", "grey"}
        Bright is massive, or dark is massive.
    remark : str
        What the title says in addition.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    MassmapError
        For an unknown quantity or unknown colours.
    """
    check_map_colours(colours)
    unknown = [name for name in quantities if name not in _PANEL_TITLES]
    if unknown or not quantities:
        raise MassmapError(f"panels are of {', '.join(unknown) or 'nothing'}: give some of {', '.join(_PANEL_TITLES)}")
    title, titles = map_title(mass_map) + remark, dict(_PANEL_TITLES)
    # Beside smoothed masses, counts in single pixels would look like noise.
    counts = None
    if mass_map.fwhm_arcmin is not None and "nobj" in quantities:
        counts = smoothed_counts(mass_map) if isinstance(mass_map.grid, PixelGrid) else None
        titles["nobj"] = "objects in a pixel, " + ("not smoothed" if counts is None else "smoothed")
    mass_map = _on_plane(mass_map)
    ny, nx = mass_map.grid.shape
    num_columns = min(len(quantities), 1 if nx > 5 * ny else 2 if nx > 1.6 * ny and len(quantities) > 3 else 3)
    num_columns = 1 if nx > 1.6 * ny and len(quantities) <= 3 else num_columns
    num_rows = -(-len(quantities) // num_columns)
    panel_height = min((PAGE / num_columns - 0.85) * ny / nx, 8.0 / num_rows)
    # At least as wide as a title.
    width = num_columns * max(panel_height * nx / ny + 0.85, 1.85)
    title = wrapped(f"{_quantity_text(mass_map)}: {title}", width)
    head = 0.58 + 0.13 * title.count("\n")
    figure = new_figure(width, max(num_rows * (panel_height + 0.33) + head, 2.2))
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    filled = _filled(mass_map)
    values = {name: np.asarray(getattr(mass_map, name), np.float64) for name in _PANEL_TITLES if name != "relative"}
    values["relative"] = np.divide(
        values["sd"], values["mean"], out=np.zeros(mass_map.grid.shape), where=values["mean"] > 0
    )
    if counts is not None:
        values["nobj"] = counts
    smooth = _is_smoothed(mass_map)
    shared = map_norm([values[name][filled] for name in quantities if name in _MASSES] or [np.zeros(0)], smooth)
    norms = {
        "sd": map_norm([values["sd"][filled]], smooth),
        "relative": _linear_norm(values["relative"][filled]),
        "nobj": _count_norm(values["nobj"][filled]),
    }
    for ax, name in zip(axes, quantities, strict=False):
        image = draw_map(ax, mass_map, values[name], norms.get(name, shared), colours)
        side_bar(ax, image, ny / nx, counts=name == "nobj" and counts is None)
        with_unit = f" [{UNIT_LABELS[mass_map.unit]}]" if name in (*_MASSES, "sd") else ""
        ax.set_title(titles[name] + with_unit)
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    for ax in axes[len(quantities) :]:
        ax.remove()
    _empty_legend(axes[0], mass_map, colours)
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    figure.suptitle(title, fontsize=8)
    settle(figure)
    return figure


_MASSES = ("mean", "q16", "q50", "q84")
_PANEL_TITLES = {
    "mean": "mean",
    "q16": "16 % quantile",
    "q50": "median",
    "q84": "84 % quantile",
    "sd": "standard deviation",
    "relative": "relative error, sd / mean",
    "nobj": "objects in a pixel",
}


@styled
def convergence_panels(kappa: "ConvergenceMap") -> "Figure":
    """Draw the mean and standard deviation of a convergence map.

    The colour scales are logarithmic; that of the mean is linear below a hundredth of its top. They end at the 99.9 %
    quantile: the few pixels that hold the centre of a massive halo stand far above the rest.

    Parameters
    ----------
    kappa : ConvergenceMap
        The convergence map.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.colors import SymLogNorm

    ny, nx = kappa.grid.shape
    stacked = nx > 1.6 * ny
    width = PAGE if stacked or ny < 1.6 * nx else 0.7 * PAGE
    height = (width / (1 if stacked else 2) - 0.95) * ny / nx
    figure = new_figure(width, height * (2 if stacked else 1) + (1.3 if stacked else 0.9))
    axes = figure.subplots(*((2, 1) if stacked else (1, 2)), sharex=True, sharey=True)
    peak = max(float(np.quantile(kappa.mean, 0.999)), 1e-12)
    of_mean = SymLogNorm(peak / 100, vmin=min(float(kappa.mean.min()), 0.0), vmax=peak)
    norms = of_mean, map_norm([np.asarray(kappa.sd)], smoothed=True)
    symbol = rf"$\kappa$ ($z_\mathrm{{s}} = {kappa.source_redshift:g}$)"
    for ax, image, norm, name in zip(axes, (kappa.mean, kappa.sd), norms, ("mean", "standard deviation"), strict=True):
        shown = ax.imshow(np.maximum(image, norm.vmin), norm=norm, cmap="viridis", origin="lower")
        grid_axes(ax, kappa.grid)
        bar = ax.figure.colorbar(shown, cax=ax.inset_axes([1.03, 0.0, 0.045, 1.0]), extend="max")
        if name == "mean":
            ticks = peak / 100 * np.array([-10, -1, 0, 1, 10, 100])
            bar.set_ticks(ticks[ticks >= norm.vmin], labels=[f"{tick:.2g}" for tick in ticks[ticks >= norm.vmin]])
            bar.ax.minorticks_off()
        else:
            label_log_axis(bar.ax.yaxis, norm.vmin, norm.vmax, 6)
        ax.set_title(f"{name} of {symbol}")
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    title = f"{kappa.n_lenses:,} lenses, ${mass_symbol(kappa.mass_definition)}$, {kappa.profile.upper()}, "
    title += f"{kappa.num_draws} draws" + (", mean subtracted" if kappa.mean_subtracted else "")
    figure.suptitle(wrapped(title, width), fontsize=8)
    settle(figure)
    return figure


@styled
def slice_panels(mass_map: "MassMap", colours: str = "magma", remark: str = "") -> "Figure":
    """Draw the mean of each redshift slice of a map, all on one colour scale.

    Parameters
    ----------
    mass_map : MassMap
        A map with slices; of more than 12, the first 12 are shown.
    colours : {"magma", "grey"}
        Bright is massive, or dark is massive.
    remark : str
        What the title says in addition.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    MassmapError
        For a map without slices, or unknown colours.
    """
    check_map_colours(colours)
    from massmap_jax.maps.images import one_slice

    number = 0 if mass_map.slice_draws is None else len(mass_map.slice_mass)
    slices = [one_slice(mass_map, i) for i in range(max(1, min(number, 12)))]
    edges, title = [one.redshift_edges for one in slices], map_title(mass_map) + remark
    plane = _plane_of(mass_map)
    slices = [_on_plane(one, plane) for one in slices]
    ny, nx = slices[0].grid.shape
    num_columns = min(len(slices), 4 if ny < 1.6 * nx else 6)
    num_rows = -(-len(slices) // num_columns)
    height = min((PAGE - 0.9) / num_columns * ny / nx, 8.0 / num_rows)
    figure = new_figure(PAGE, num_rows * (height + 0.3) + 0.75)
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    norm = map_norm([np.asarray(one.mean)[_filled(one)] for one in slices], _is_smoothed(mass_map))
    for ax, one, (low, high) in zip(axes, slices, edges, strict=False):
        image = draw_map(ax, one, np.asarray(one.mean, np.float64), norm, colours)
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="", title=f"${low:g} < z < {high:g}$: {one.n_mapped:,}")
        ax.label_outer()
    for ax in axes[len(slices) :]:
        ax.remove()
    side_bar(axes[num_columns - 1], image, ny / nx)
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    what = f"mean {_quantity_text(mass_map)} [{UNIT_LABELS[mass_map.unit]}]"
    shown = f", first {len(slices)} of {number} slices" if number > len(slices) else ""
    figure.suptitle(wrapped(f"{what}\n{title}{shown}", PAGE), fontsize=8)
    settle(figure)
    return figure


def _plane_of(mass_map):
    """Give what a HEALPix map is drawn on: the plane of its objects, or the whole sky; None for a map on a plane."""
    if isinstance(mass_map.grid, PixelGrid):
        return None
    from massmap_jax.maps.healpix import plane_of

    return plane_of(mass_map) if mass_map.grid.on_a_plane() else MollweidePlane()


def _on_plane(mass_map, plane=None):
    """Give a map on a plane unchanged, and a HEALPix map as seen on this plane, by default its own."""
    if np.ndim(mass_map.mean) != np.size(mass_map.grid.shape):
        raise MassmapError(
            f"this map has {len(mass_map.slice_mass)} redshift slices and the figure shows one: take one with "
            "massmap_jax.one_slice, or all together with massmap_jax.sum_of_slices"
        )
    if isinstance(mass_map.grid, PixelGrid):
        return mass_map
    from massmap_jax.maps.healpix import seen_on

    return seen_on(mass_map, _plane_of(mass_map) if plane is None else plane)


def _is_smoothed(mass_map) -> bool:
    """Tell whether a map has been smoothed or shows halos at their own size."""
    return mass_map.fwhm_arcmin is not None or mass_map.halo_profile is not None


def _quantity_text(mass_map) -> str:
    """Say in words what the map shows."""
    symbol = f"${mass_symbol(mass_map.mass_definition)}$"
    return f"halo mass {symbol} in a pixel" if mass_map.unit == MASS else f"surface density of halo mass {symbol}"


def _filled(mass_map) -> np.ndarray:
    """Tell which pixels have mass: those with objects, and those into which smoothing has spread some.

    The far tails of the Gaussian are left out: they would colour empty sky, and their relative errors mean nothing.
    """
    mean = np.asarray(mass_map.mean)
    if not _is_smoothed(mass_map):
        return mean > 0
    return (mean > _TAIL * np.nanmax(mean, initial=0.0)) | ((mean > 0) & (np.asarray(mass_map.nobj) > 0))


def draw_map(ax, mass_map, values, norm, colours="magma"):
    """Draw an image of a map on its sky axes: empty pixels bluish, those outside the footprint sand-coloured."""
    import matplotlib

    shades = {"magma": ("magma", 0.15), "grey": ("gray_r", 0.08)}
    name, lowest = shades[colours]
    colour = matplotlib.colormaps[name](np.linspace(lowest, 1, 256))
    cmap = matplotlib.colors.ListedColormap(colour).with_extremes(under=_EMPTY[colours], bad=_MASKED[colours])
    # Low but filled pixels take the lowest colour; only empty ones fall under the scale.
    shown = np.where(_filled(mass_map), np.clip(values, norm.vmin, None), norm.vmin / 2 if norm.vmin > 0 else -1.0)
    if mass_map.footprint is not None:
        shown = np.where(mass_map.footprint, shown, np.nan)
    image = ax.imshow(np.ma.masked_invalid(shown), norm=norm, cmap=cmap, origin="lower")
    grid_axes(ax, mass_map.grid)
    return image


def map_norm(values, smoothed=False):
    """Make a logarithmic colour scale from the 1 % to the 99.9 % quantile of the positive values.

    For smoothed maps it covers three decades at most, so as to leave out the tails of the Gaussian.

    Parameters
    ----------
    values : sequence of np.ndarray, (pixel,)
        Images that share the scale.
    smoothed : bool
        Whether the map is smoothed.

    Returns
    -------
    matplotlib.colors.LogNorm
        The scale.
    """
    from matplotlib.colors import LogNorm

    positive = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values])
    if positive.size == 0:
        return LogNorm(0.1, 1.0)
    low, high = np.quantile(positive, [0.01, 0.999])
    if smoothed:
        low = max(low, _TAIL * high)
    return LogNorm(low / 1.1, high * 1.1) if high < 1.2 * low else LogNorm(low, high)


def _linear_norm(values):
    """Make a linear colour scale from 0 to the 99.9 % quantile."""
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    return Normalize(0.0, max(float(np.quantile(finite, 0.999)), 1e-6) if finite.size else 1.0)


def _count_norm(values):
    """Make a colour scale for counts: linear for small ones, whose decades hold few integers, and logarithmic above."""
    return _linear_norm(values) if values.size == 0 or values.max() <= 50 else map_norm([values])


def side_bar(ax, mappable, aspect, counts=False):
    """Add a colour bar as tall as the axes, whatever their aspect (height over width), with as many labels as fit.

    Those of counts are whole numbers.
    """
    unit = max(1.0, aspect)
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes([1 + 0.03 * unit, 0.0, 0.045 * unit, 1.0]))
    height = axes_inches(ax, aspect)[1]
    most = int(np.clip(height / 0.3, 2, 7))
    if type(mappable.norm).__name__ == "LogNorm":
        label_log_axis(bar.ax.yaxis, mappable.norm.vmin, mappable.norm.vmax, most)
    else:
        from matplotlib.ticker import MaxNLocator

        bar.locator = MaxNLocator(most, steps=[1, 2, 5, 10], integer=counts)
        bar.update_ticks()
    return bar


def map_size(aspect) -> tuple[float, float]:
    """Give the figure's width and height [inches] for one map with this ratio of height to width."""
    width = PAGE if aspect < 0.5 else 0.7 * PAGE if aspect < 1.6 else max(3.2, 5.7 / aspect + 1.5)
    return width, float(np.clip((width - 1.4) * aspect + 0.8, 1.6, 6.5))


def map_title(mass_map) -> str:
    """Describe a map in a line: number of objects, pixels, and what was done."""
    grid = mass_map.grid
    pixels = f"{grid.pixel_arcmin:g} arcmin pixels" if isinstance(grid, PixelGrid) else f"HEALPix nside {grid.nside}"
    text = f"{count_text(mass_map.n_mapped)}, {pixels}"
    if mass_map.redshift_edges is not None and mass_map.slice_draws is None:
        text += ", z {:g} to {:g}".format(*mass_map.redshift_edges)
    if mass_map.halo_profile is not None:
        text += f", {mass_map.halo_profile.upper()} halos"
    if mass_map.fwhm_arcmin is not None:
        text += f", smoothed to {mass_map.fwhm_arcmin:g} arcmin"
    return f"{text}, {mass_map.num_draws} draws"


def wrapped(title: str, inches: float) -> str:
    """Break a title into lines that fit into a width; mathematics, which has no spaces to break at, stays whole."""
    lines = [textwrap.fill(line, max(int(inches * 15), 20), break_long_words=False) for line in title.splitlines()]
    return "\n".join(lines)


def _empty_legend(ax, mass_map, colours):
    """Explain the colours of empty and masked pixels, where there are any."""
    from matplotlib.patches import Patch

    inside = np.ones(mass_map.grid.shape, dtype=bool) if mass_map.footprint is None else mass_map.footprint
    filled = _filled(mass_map)
    empty = "no objects near" if _is_smoothed(mass_map) else "no objects"
    shown = [(_EMPTY[colours], empty, inside & ~filled), (_MASKED[colours], "not observed", ~inside)]
    patches = [Patch(fc=colour, ec=GREY, lw=0.5, label=label) for colour, label, where in shown if where.any()]
    if patches:
        ax.legend(handles=patches, loc=_emptiest_corner(filled), frameon=True)


def _emptiest_corner(filled) -> str:
    """Name the corner of an image with the fewest filled pixels; the upper right one if it is as empty as any."""
    ny, nx = (-(-side // 3) for side in filled.shape)
    corners = {
        "upper right": filled[-ny:, -nx:],
        "upper left": filled[-ny:, :nx],
        "lower right": filled[:ny, -nx:],
        "lower left": filled[:ny, :nx],
    }
    return min(corners, key=lambda name: corners[name].sum())
