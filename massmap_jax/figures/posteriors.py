"""Figures of posteriors and maps: results in, matplotlib Axes or Figure out; only `save_all` writes files.

Every function imports matplotlib when called and draws in one style (`figure_style.STYLE`: Okabe & Ito's
colour-blind safe colours, at least 7 pt at column widths of 3.5 and 7 inches). Functions with an `ax` draw into it
and return it; without one they make a new Figure, reached as `ax.figure`, that pyplot does not know of: nothing pops
up or leaks. The figures that need true masses are in `truth_plots` and can be had from here too.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.figures.axes import grid_axes, sky_frame
from massmap_jax.figures.style import (
    BLUE,
    GREY,
    LABEL_BOX,
    LN10,
    ORANGE,
    PAGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    axes_inches,
    count_text,
    given_or_new_axes,
    interval_68,
    label_log_axis,
    mass_label,
    mass_symbol,
    new_figure,
    settle,
    styled,
)
from massmap_jax.figures.truth import pit_histograms, predicted_vs_true, rows_with_truth
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.units import MASS, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.maps.convergence import ConvergenceMap
    from massmap_jax.maps.mass_map import MassMap
    from massmap_jax.posterior.result import MassPosterior

_EMPTY, _MASKED = "#cfe6f5", "#f7e9c8"


# -- posteriors ----------------------------------------------------------------------------------------------


@styled
def posterior_panel(posterior: "MassPosterior", rows=None) -> "Figure":
    """Nine panels: the prior, seven haloes from faint to bright, and the most massive one.

    Parameters
    ----------
    posterior : MassPosterior
    rows : sequence of int, optional
        Rows to show instead, at most eight; rows without a mass are left out.

    Returns
    -------
    Figure
        Log-log, dP/dlnM against M in Msun, with the 68 % interval shaded, the prior's shape (normalised within the
        panel) dashed, and the true mass, where known, as a line.
    """
    rows = _show_rows(posterior) if rows is None else _given_rows(posterior, rows)
    num_columns = min(3, 1 + rows.size)
    num_rows = -(-(1 + rows.size) // num_columns)
    figure = new_figure(PAGE * num_columns / 3 + 0.3 * (num_columns < 3), 2.2 * num_rows + 0.4)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    _prior_axes(axes[0], posterior, rows)
    if rows.size:
        _row_axes(axes[1 : 1 + rows.size], posterior, rows)
    for ax in axes[1 + rows.size :]:
        ax.remove()
    figure.supxlabel(mass_label(posterior.prior.mass_definition), fontsize=8)
    figure.supylabel(r"$\mathrm{d}P/\mathrm{d}\ln M$", fontsize=8)
    if rows.size:
        labelled = [ax.get_legend_handles_labels() for ax in axes[1 : 1 + rows.size]]
        legend = {label: handle for pair in labelled for handle, label in zip(*pair, strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=len(legend))
    return figure


def _show_rows(posterior) -> np.ndarray:
    """Seven rows spread over the ranks of observed luminosity, and the most massive."""
    index = np.flatnonzero(np.isfinite(posterior.mean))
    if index.size < 2:
        return index
    most_massive = index[np.argmax(posterior.mean[index])]
    others = index[index != most_massive]
    others = others[np.argsort(posterior.catalogue.ln_lum_obs[others], kind="stable")]
    # Massive objects are rare: even ranks would show seven faint ones.
    share = 1 - np.geomspace(1, 1e-3, 7) if others.size > 7 else np.linspace(0, 1, 7)
    rank = np.round((others.size - 1) * share).astype(int)
    return np.append(others[np.unique(rank)], most_massive)


def _given_rows(posterior, rows) -> np.ndarray:
    rows = np.atleast_1d(np.asarray(rows))
    num = posterior.mean.size
    if rows.dtype.kind not in "iu" or np.any((rows < 0) | (rows >= num)):
        raise MassmapError(f"rows are {rows.tolist()}; give row numbers from 0 to {num - 1}")
    return rows[np.isfinite(posterior.mean[rows])][:8]


@jax.jit
def _log_prob(prior, ln_mass, z):
    return prior.log_prob(ln_mass, z)


def _prior_axes(ax, posterior, rows):
    prior = posterior.prior
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 300)
    z = posterior.catalogue.redshift[rows] if rows.size else np.array([prior.z_min])
    shown = np.unique(np.quantile(z, [0, 0.5, 1], method="nearest"))
    density = np.exp(np.asarray(_log_prob(prior, ln_mass, shown[:, None]), np.float64))
    for value, curve, colour, dash in zip(shown, density, (BLUE, ORANGE, PURPLE), ("-", "--", "-."), strict=False):
        ax.loglog(np.exp(ln_mass), curve, color=colour, ls=dash, label=f"$z = {value:.2f}$")
    top = 3 * density.max()
    ax.set_ylim(top * 1e-9, top)
    ax.set_xlim(np.exp(ln_mass[[0, -1]]))
    ax.set_title("prior  $p(\\ln M\\,|\\,z)$")
    ax.legend(loc="lower left")


def _row_axes(axes, posterior, rows):
    """One posterior in each of the axes."""
    from matplotlib.ticker import NullLocator

    prior, catalogue = posterior.prior, posterior.catalogue
    most_massive = np.nanargmax(posterior.mean)
    low, high = interval_68(posterior)
    # A grid each, at one shape: the curves are as fine for a narrow posterior as for a wide one.
    offset = np.linspace(-5, 5, 401)
    grids = posterior.mean[rows, None] + np.maximum(posterior.sd[rows, None], 1e-4) * offset
    grids = np.clip(grids, prior.ln_mass_min, prior.ln_mass_max)
    prior_pdfs = np.exp(np.asarray(_log_prob(prior, grids, catalogue.redshift[rows, None]), np.float64))
    for ax, row, grid, prior_pdf in zip(axes, rows, grids, prior_pdfs, strict=True):
        grid, log_pdf = (np.asarray(a, np.float64) for a in posterior.log_pdf(np.array([row]), grid))
        pdf = np.exp(log_pdf[0])
        mass = np.exp(grid)
        ax.loglog(mass, pdf, color=BLUE, label="posterior")
        inside = (grid >= low[row]) & (grid <= high[row])
        ax.fill_between(mass, pdf, 1e-30, where=inside, color=SKY_BLUE, alpha=0.45, lw=0, label="68 %")
        norm = np.trapezoid(prior_pdf, grid)
        if norm > 0:
            ax.loglog(mass, prior_pdf / norm, color=GREY, ls="--", lw=0.9, label="prior's shape")
        if catalogue.truth_ln_mass is not None and np.isfinite(catalogue.truth_ln_mass[row]):
            truth = np.exp(catalogue.truth_ln_mass[row])
            ax.axvline(truth, color=VERMILLION, lw=1.2, label="true mass")
            mass = np.append(mass, [truth / 1.1, truth * 1.1])
        # Head room for a label.
        ax.set_ylim(pdf.max() * 1e-5, pdf.max() * 10)
        ax.yaxis.set_minor_locator(NullLocator())  # of six decades; laying their ticks out takes most of the time
        ax.set_xlim(mass.min(), mass.max())
        label_log_axis(ax.xaxis, mass.min(), mass.max(), 3)
        ax.set_title(
            f"{_short(posterior.ids[row])},  $z = {catalogue.redshift[row]:.2f}$\n"
            + _log10_text(posterior.median[row], low[row], high[row])
        )
        if row == most_massive and rows.size > 1:
            place = {"transform": ax.transAxes, "ha": "right", "va": "top"}
            ax.text(0.97, 0.96, "most massive", fontsize=7, bbox=LABEL_BOX, **place)


def _log10_text(median, low, high) -> str:
    middle, up, down = median / LN10, (high - median) / LN10, (median - low) / LN10
    return rf"$\log_{{10}} M = {middle:.2f}^{{+{up:.2f}}}_{{-{down:.2f}}}$"


def _short(name, longest: int = 20) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    # A dollar sign would start mathtext.
    text = text.strip().replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"


# -- sky -----------------------------------------------------------------------------------------------------


@styled
def field_of_view(catalogue: "HaloCatalogue", posterior: "MassPosterior", ax: "Axes | None" = None) -> "Axes":
    """The field: a point for each object, its radius proportional to M^(1/3) at the posterior mean of ln M.

    The radius so follows the halo's own; the colour is the redshift. Objects without a mass are grey crosses, objects
    without a position are not shown. catalogue : of positions and redshifts. ax : to draw into; None: a new figure's.
    """
    x, y, aspect, draw_axes = sky_frame(catalogue)
    width, height = _map_size(aspect)
    ax = given_or_new_axes(ax, width, height + 0.45)
    draw_axes(ax)
    placed = np.isfinite(x) & np.isfinite(y)
    with_mass = placed & np.isfinite(posterior.mean)
    without = placed & ~with_mass
    ax.scatter(x[without], y[without], s=6, marker="x", c=GREY, lw=0.5, rasterized=True)
    index = np.flatnonzero(with_mass)
    index = index[np.argsort(posterior.mean[index], kind="stable")]
    if index.size:
        log10_mass = posterior.mean[index] / LN10
        largest = float(log10_mass[-1])
        # The 500 most massive objects cover a tenth of the axes, the largest 120 pt^2 at most.
        width, height = axes_inches(ax, aspect)
        ink = width * height * 72**2 / 10
        area = min(120.0, ink / float(np.sum(_relative_area(log10_mass[-500:] - largest))))
        sizes = _marker_area(area, log10_mass - largest)
        points = ax.scatter(
            x[index], y[index], s=sizes, c=catalogue.redshift[index], cmap="viridis", lw=0.25 * (sizes > 8),
            ec="white", alpha=0.85, rasterized=True,
        )  # fmt: skip
        bar = side_bar(ax, points, aspect)
        bar.set_label("redshift $z$")
        bar.solids.set_alpha(1)
        _size_legend(ax, area, log10_mass, without.any(), posterior.prior.mass_definition)
    ax.set_title(f"{count_text(index.size)} with a mass" + (f", {without.sum():,} without" if without.any() else ""))
    settle(ax.figure)
    return ax


def _relative_area(log10_ratio):
    return 10 ** (2 / 3 * log10_ratio)


def _marker_area(area, log10_ratio):
    """pt^2; radius as M^(1/3), floored so that no point vanishes."""
    return np.maximum(area * _relative_area(log10_ratio), 0.2)


def _size_legend(ax, area, log10_mass, some_without, mass_definition):
    """Points for half decades of mass between the median object and the most massive one."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import offset_copy

    largest = log10_mass[-1]
    steps = np.unique(np.round(2 * np.linspace(np.median(log10_mass), largest, 4)) / 2)
    handles = [
        Line2D([], [], ls="", marker="o", color=GREY, mec="white", mew=0.15,
               ms=np.sqrt(_marker_area(area, step - largest)), label=rf"$10^{{{step:g}}}$")
        for step in steps
    ]  # fmt: skip
    if some_without:
        handles.append(Line2D([], [], ls="", marker="x", color=GREY, ms=3, label="flagged, no mass"))
    below = offset_copy(ax.transAxes, ax.figure, y=-0.42, units="inches")
    ax.legend(
        handles=handles, title=mass_label(mass_definition), title_fontsize=7, loc="upper center",
        bbox_to_anchor=(0.5, 0.0), bbox_transform=below, borderaxespad=0, ncols=len(handles), columnspacing=1.2,
        handletextpad=0.4,
    )  # fmt: skip


# -- maps ----------------------------------------------------------------------------------------------------


@styled
def mass_map_image(mass_map: "MassMap", ax: "Axes | None" = None, quantity: str = "mean") -> "Axes":
    """Greyscale map on sky axes with a colour bar; dark is massive, pixels without objects are tinted blue.

    Parameters
    ----------
    mass_map : MassMap, of one slice; a HEALPix map is shown on a tangent plane
    ax : Axes, optional
    quantity : "mean", "sampled_mean", "sd", "q16", "q50", "q84" (in the map's unit) or "nobj" (objects per pixel)

    `MassmapError` for another quantity.
    """
    if quantity not in _MAP_LABELS:
        raise MassmapError(f"quantity is {quantity!r}; give one of {', '.join(_MAP_LABELS)}")
    title, mass_map = map_title(mass_map), _on_plane(mass_map)
    ny, nx = mass_map.grid.shape
    width, height = _map_size(ny / nx)
    ax = given_or_new_axes(ax, width, height)
    values = np.asarray(getattr(mass_map, quantity), np.float64)
    shown = values[_filled(mass_map)]
    norm = _count_norm(shown) if quantity == "nobj" else map_norm([shown], _is_smoothed(mass_map))
    image = draw_map(ax, mass_map, values, norm)
    bar = side_bar(ax, image, ny / nx)
    label = _MAP_LABELS[quantity]
    if quantity != "nobj":
        if mass_map.unit != MASS:
            label = label.replace(" in a pixel", "").replace("halo mass", "surface density")
        label += f" ${mass_symbol(mass_map.mass_definition)}$ [{UNITS[mass_map.unit][1]}]"
    if ny < 0.5 * nx:  # too low for a label along the bar
        title = f"{label}\n{title}"
    else:
        bar.set_label(label)
    ax.set_title(title)
    _empty_legend(ax, mass_map)
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
def map_panels(mass_map: "MassMap") -> "Figure":
    """Six panels of a mass_map: mean, 16 % and 84 % quantile on one grey scale; sd, relative error, counts."""
    title, mass_map = map_title(mass_map), _on_plane(mass_map)
    ny, nx = mass_map.grid.shape
    num_columns = 1 if nx > 5 * ny else 2 if nx > 1.6 * ny else 3
    num_rows = 6 // num_columns
    panel_height = min((PAGE / num_columns - 0.85) * ny / nx, 8.0 / num_rows)
    # No narrower than a title.
    width = num_columns * max(panel_height * nx / ny + 0.85, 1.75)
    figure = new_figure(width, max(num_rows * (panel_height + 0.33) + 0.7, 3.0))
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True).ravel()
    filled = _filled(mass_map)
    mean, sd, q16, q84, nobj = (
        np.asarray(getattr(mass_map, name), np.float64) for name in ("mean", "sd", "q16", "q84", "nobj")
    )
    relative = np.divide(sd, mean, out=np.zeros_like(mean), where=mean > 0)
    smooth = _is_smoothed(mass_map)
    shared = map_norm([v[filled] for v in (mean, q16, q84)], smooth)
    unit = UNITS[mass_map.unit][1]
    panels = [
        ("mean", mean, shared, unit),
        ("16 % quantile", q16, shared, unit),
        ("84 % quantile", q84, shared, unit),
        ("standard deviation", sd, map_norm([sd[filled]], smooth), unit),
        ("relative error, sd / mean", relative, _linear_norm(relative[filled]), ""),
        ("objects in a pixel", nobj, _count_norm(nobj[filled]), ""),
    ]
    for ax, (name, values, norm, unit) in zip(axes, panels, strict=True):
        image = draw_map(ax, mass_map, values, norm)
        side_bar(ax, image, ny / nx)
        ax.set_title(name + (f" [{unit}]" if unit else ""))
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    figure.suptitle(f"{_quantity_text(mass_map)}: {title}", fontsize=8)
    settle(figure)
    return figure


@styled
def convergence_panels(kappa: "ConvergenceMap") -> "Figure":
    """Mean and sd of the convergence of `kappa`; the scale of the mean is linear below a hundredth of its peak."""
    from matplotlib.colors import Normalize, SymLogNorm

    ny, nx = kappa.grid.shape
    stacked = nx > 1.6 * ny
    width = PAGE if stacked or ny < 1.6 * nx else 0.7 * PAGE
    height = (width / (1 if stacked else 2) - 0.95) * ny / nx
    figure = new_figure(width, height * (2 if stacked else 1) + (1.3 if stacked else 0.9))
    axes = figure.subplots(*((2, 1) if stacked else (1, 2)), sharex=True, sharey=True)
    peak = max(float(np.max(kappa.mean)), 1e-12)
    norms = SymLogNorm(peak / 100, vmin=min(float(kappa.mean.min()), 0.0), vmax=peak), Normalize(0, kappa.sd.max())
    symbol = rf"$\kappa$ ($z_\mathrm{{s}} = {kappa.source_redshift:g}$)"
    for ax, image, norm, name in zip(axes, (kappa.mean, kappa.sd), norms, ("mean", "standard deviation"), strict=True):
        shown = ax.imshow(image, norm=norm, cmap="viridis", origin="lower")
        grid_axes(ax, kappa.grid)
        bar = ax.figure.colorbar(shown, cax=ax.inset_axes([1.03, 0.0, 0.045, 1.0]))
        if name == "mean":
            ticks = peak / 100 * np.array([-10, -1, 0, 1, 10, 100])
            bar.set_ticks(ticks[ticks >= norm.vmin], labels=[f"{tick:.2g}" for tick in ticks[ticks >= norm.vmin]])
            bar.ax.minorticks_off()
        ax.set_title(f"{name} of {symbol}")
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    figure.suptitle(
        f"{kappa.n_lenses:,} lenses, ${mass_symbol(kappa.mass_definition)}$, {kappa.profile.upper()}, "
        f"{kappa.num_draws} draws" + (", mean subtracted" if kappa.mean_subtracted else ""),
        fontsize=8,
    )
    settle(figure)
    return figure


@styled
def slice_panels(mass_map: "MassMap") -> "Figure":
    """The mean of each slice of a mass_map, all on one grey scale; of more than 12 slices the first 12.

    Raises
    ------
    MassmapError : a map without slices; a HEALPix map too wide for a plane.
    """
    from massmap_jax.maps.slices import one_slice

    number = 0 if mass_map.slice_draws is None else len(mass_map.slice_mass)
    slices = [one_slice(mass_map, i) for i in range(max(1, min(number, 12)))]
    edges, title = [one.redshift_edges for one in slices], map_title(mass_map)
    slices = [_on_plane(one) for one in slices]
    ny, nx = slices[0].grid.shape
    num_columns = min(len(slices), 4 if ny < 1.6 * nx else 6)
    num_rows = -(-len(slices) // num_columns)
    height = min((PAGE - 0.9) / num_columns * ny / nx, 8.0 / num_rows)
    figure = new_figure(PAGE, num_rows * (height + 0.3) + 0.75)
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    norm = map_norm([np.asarray(one.mean)[_filled(one)] for one in slices], _is_smoothed(mass_map))
    for ax, one, (low, high) in zip(axes, slices, edges, strict=False):
        image = draw_map(ax, one, np.asarray(one.mean, np.float64), norm)
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="", title=f"${low:g} < z < {high:g}$: {one.n_mapped:,}")
        ax.label_outer()
    for ax in axes[len(slices) :]:
        ax.remove()
    side_bar(axes[num_columns - 1], image, ny / nx)
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    what = f"mean {_quantity_text(mass_map)} [{UNITS[mass_map.unit][1]}]"
    shown = f", first {len(slices)} of {number} slices" if number > len(slices) else ""
    figure.suptitle(f"{what}\n{title}{shown}", fontsize=8)
    settle(figure)
    return figure


def _on_plane(mass_map):
    """The map if it is an image on a plane; a HEALPix map as seen on one."""
    if np.ndim(mass_map.mean) != np.size(mass_map.grid.shape):
        raise MassmapError(
            f"this map has {len(mass_map.slice_mass)} redshift slices and a figure shows one: take it with "
            "map_slices.one_slice, or all with sum_of_slices"
        )
    if isinstance(mass_map.grid, PixelGrid):
        return mass_map
    from massmap_jax.maps.healpix import on_plane

    return on_plane(mass_map)


def _is_smoothed(mass_map) -> bool:
    return mass_map.fwhm_arcmin is not None or mass_map.halo_profile is not None


def _quantity_text(mass_map) -> str:
    symbol = f"${mass_symbol(mass_map.mass_definition)}$"
    return f"halo mass {symbol} in a pixel" if mass_map.unit == MASS else f"surface density of halo mass {symbol}"


def _filled(mass_map) -> np.ndarray:
    """Pixels with mass: those with objects, and where a smoothed map has spread it."""
    return np.asarray(mass_map.mean) > 0


def draw_map(ax, mass_map, values, norm):
    """An image of a map on its sky axes: empty pixels light blue, those outside the footprint sand."""
    import matplotlib

    grey = matplotlib.colormaps["gray_r"](np.linspace(0.08, 1, 256))
    cmap = matplotlib.colors.ListedColormap(grey).with_extremes(under=_EMPTY, bad=_MASKED)
    # Low but filled pixels take the lightest grey; only empty ones fall under the scale.
    shown = np.where(_filled(mass_map), np.clip(values, norm.vmin, None), norm.vmin / 2 if norm.vmin > 0 else -1.0)
    if mass_map.footprint is not None:
        shown = np.where(mass_map.footprint, shown, np.nan)
    image = ax.imshow(np.ma.masked_invalid(shown), norm=norm, cmap=cmap, origin="lower")
    grid_axes(ax, mass_map.grid)
    return image


def map_norm(values, smoothed=False):
    """Log stretch from the 1 % to the 99.9 % quantile of the positive values; smoothed, over three decades at most,
    so as to leave out the tails of the Gaussian."""
    from matplotlib.colors import LogNorm

    positive = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values])
    if positive.size == 0:
        return LogNorm(0.1, 1.0)
    low, high = np.quantile(positive, [0.01, 0.999])
    if smoothed:
        low = max(low, high / 1000)
    return LogNorm(low / 1.1, high * 1.1) if high < 1.2 * low else LogNorm(low, high)


def _linear_norm(values):
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    return Normalize(0.0, max(float(np.quantile(finite, 0.999)), 1e-6) if finite.size else 1.0)


def _count_norm(values):
    """Linear for small counts, whose decades hold few integers, and log above."""
    return _linear_norm(values) if values.size == 0 or values.max() <= 50 else map_norm([values])


def side_bar(ax, mappable, aspect):
    """Colour bar as tall as the axes, whatever their aspect (height over width), with as many labels as fit."""
    unit = max(1.0, aspect)
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes([1 + 0.03 * unit, 0.0, 0.045 * unit, 1.0]))
    height = axes_inches(ax, aspect)[1]
    most = int(np.clip(height / 0.3, 2, 7))
    if type(mappable.norm).__name__ == "LogNorm":
        label_log_axis(bar.ax.yaxis, mappable.norm.vmin, mappable.norm.vmax, most)
    else:
        from matplotlib.ticker import MaxNLocator

        bar.locator = MaxNLocator(most, steps=[1, 2, 5, 10])
        bar.update_ticks()
    return bar


def _map_size(aspect) -> tuple[float, float]:
    """Figure width and height in inches for one map of this height over width."""
    width = PAGE if aspect < 0.5 else 0.7 * PAGE if aspect < 1.6 else max(3.2, 5.7 / aspect + 1.5)
    return width, float(np.clip((width - 1.4) * aspect + 0.8, 1.6, 6.5))


def map_title(mass_map) -> str:
    """What a map is of, in a line."""
    grid = mass_map.grid
    pixels = f"{grid.pixel_arcmin:g} arcmin pixels" if isinstance(grid, PixelGrid) else f"HEALPix nside {grid.nside}"
    text = f"{count_text(mass_map.n_mapped)}, {pixels}"
    if mass_map.redshift_edges is not None and mass_map.slice_draws is None:
        text += ", z {:g} to {:g}".format(*mass_map.redshift_edges)
    if mass_map.halo_profile is not None:
        text += f", {mass_map.halo_profile.upper()} haloes"
    if mass_map.fwhm_arcmin is not None:
        text += f", smoothed to {mass_map.fwhm_arcmin:g} arcmin"
    return f"{text}, {mass_map.num_draws} draws"


def _empty_legend(ax, mass_map):
    from matplotlib.patches import Patch

    inside = np.ones(mass_map.grid.shape, dtype=bool) if mass_map.footprint is None else mass_map.footprint
    shown = [(_EMPTY, "no objects", inside & ~_filled(mass_map)), (_MASKED, "not observed", ~inside)]
    patches = [Patch(fc=colour, ec=GREY, lw=0.5, label=label) for colour, label, where in shown if where.any()]
    if patches:
        ax.legend(handles=patches, loc="upper right", frameon=True)


# -- all of them ---------------------------------------------------------------------------------------------


def standard_figures(
    posterior: "MassPosterior",
    mass_map: "MassMap | None" = None,
    catalogue: "HaloCatalogue | None" = None,
    convergence: "ConvergenceMap | None" = None,
) -> "dict[str, Figure]":
    """The figures of a posterior (and its maps) that the data allow, by name; catalogue : None: the posterior's.

    Always `posterior_panel`; with positions `field_of_view`; with a map `mass_map` and `map_panels`, or
    `map_slices` of a cube (none of a HEALPix map too wide for a plane); with a map of it `convergence`; with true
    masses `predicted_vs_true` and `pit_histograms`.
    """
    catalogue = posterior.catalogue if catalogue is None else catalogue
    figures = {"posterior_panel": posterior_panel(posterior)}
    if catalogue.ra is not None and np.any(np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec)):
        figures["field_of_view"] = field_of_view(catalogue, posterior).figure
    shown = mass_map is not None and (isinstance(mass_map.grid, PixelGrid) or mass_map.grid.on_a_plane())
    if shown and mass_map.slice_draws is not None:
        figures["map_slices"] = slice_panels(mass_map)
    elif shown:
        figures["mass_map"] = mass_map_image(mass_map).figure
        figures["map_panels"] = map_panels(mass_map)
    if convergence is not None:
        figures["convergence"] = convergence_panels(convergence)
    if rows_with_truth(posterior).size:
        figures["predicted_vs_true"] = predicted_vs_true(posterior).figure
        figures["pit_histograms"] = pit_histograms(posterior)
    return figures


@styled
def save_all(figures: "dict[str, Figure]", directory, dpi: int = 150, formats=("png",)) -> list[Path]:
    """Write figures {NAME: figure} as NAME.FORMAT into an existing or new directory; the paths, in order.

    formats : of matplotlib, such as "png", and "pdf" with lines and text as such and scattered points at `dpi`.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        # The layout once, and not in a drawing of its own: half of the time.
        engine = figure.get_layout_engine()
        settle(figure)
        figure.set_layout_engine(None)
        for kind in formats:
            paths.append(directory / f"{name}.{kind}")
            # A PDF says when it was made: the same figure is to give the same bytes.
            figure.savefig(paths[-1], dpi=dpi, metadata={"CreationDate": None} if kind == "pdf" else None)
        figure.set_layout_engine(engine)
    return paths
