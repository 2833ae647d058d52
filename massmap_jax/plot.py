"""Figures of posteriors and maps: results in, matplotlib Axes or Figure out; only `save_all` writes files.

Every function imports matplotlib when called and draws in one style (`STYLE`: Okabe & Ito's colour-blind safe
colours, at least 7 pt at column widths of 3.5 and 7 inches). Functions with an `ax` draw into it and return it;
without one they make a new Figure, reached as `ax.figure`, that pyplot does not know of: nothing pops up or leaks.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.catalogue import HaloCatalogue
    from massmap_jax.mass_map import MassMap
    from massmap_jax.posterior import MassPosterior

# Okabe & Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/
BLACK, ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
_GREY = "0.55"
_EMPTY = "#cfe6f5"

STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.prop_cycle": "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9', '000000'])",
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
    "image.interpolation": "nearest",
    "image.origin": "lower",
    "figure.dpi": 150,
    "savefig.dpi": 150,
}

_LN10 = np.log(10)
_LABEL_BOX = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1.5}
_COLUMN, _PAGE = 3.5, 7.0  # inches


def _styled(function):
    """Run a figure function in the package's style."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return run


def _new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _settle(figure: "Figure") -> None:
    """Lay out once now: with axes of fixed aspect the engine needs two rounds, and drawing gives the second."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def _axes(ax: "Axes | None", width: float = _COLUMN, height: float = 3.0) -> "Axes":
    return _new_figure(width, height).subplots() if ax is None else ax


# -- posteriors ----------------------------------------------------------------------------------------------


@_styled
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
    figure = _new_figure(_PAGE * num_columns / 3 + 0.3 * (num_columns < 3), 2.2 * num_rows + 0.4)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    _prior_axes(axes[0], posterior, rows)
    if rows.size:
        _row_axes(axes[1 : 1 + rows.size], posterior, rows)
    for ax in axes[1 + rows.size :]:
        ax.remove()
    figure.supxlabel(_mass_label(posterior.prior.mass_definition), fontsize=8)
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
    prior, catalogue = posterior.prior, posterior.catalogue
    most_massive = np.nanargmax(posterior.mean)
    low, high = _interval(posterior)
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
            ax.loglog(mass, prior_pdf / norm, color=_GREY, ls="--", lw=0.9, label="prior's shape")
        if catalogue.truth_ln_mass is not None and np.isfinite(catalogue.truth_ln_mass[row]):
            truth = np.exp(catalogue.truth_ln_mass[row])
            ax.axvline(truth, color=VERMILLION, lw=1.2, label="true mass")
            mass = np.append(mass, [truth / 1.1, truth * 1.1])
        # Head room for a label.
        ax.set_ylim(pdf.max() * 1e-5, pdf.max() * 10)
        ax.set_xlim(mass.min(), mass.max())
        _label_log_axis(ax.xaxis, mass.min(), mass.max(), 3)
        ax.set_title(
            f"{_short(posterior.ids[row])},  $z = {catalogue.redshift[row]:.2f}$\n"
            + _log10_text(posterior.median[row], low[row], high[row])
        )
        if row == most_massive and rows.size > 1:
            place = {"transform": ax.transAxes, "ha": "right", "va": "top"}
            ax.text(0.97, 0.96, "most massive", fontsize=7, bbox=_LABEL_BOX, **place)


def _log10_text(median, low, high) -> str:
    middle, up, down = median / _LN10, (high - median) / _LN10, (median - low) / _LN10
    return rf"$\log_{{10}} M = {middle:.2f}^{{+{up:.2f}}}_{{-{down:.2f}}}$"


def _label_log_axis(axis, low, high, most):
    """At most `most` labels between low and high: decades, or 1 and 3, or 1, 2, 5; linear steps on short ranges."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    exponents = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = np.outer(exponents, factors).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if ticks.size >= 2:
            break
    else:
        ticks = MaxNLocator(max(most - 1, 2), steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    ticks = ticks[:: -(-ticks.size // most)] if ticks.size else ticks
    axis.set_ticks(ticks, [_power_label(value) for value in ticks])
    axis.set_minor_formatter(NullFormatter())


def _power_label(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = value / 10.0**exponent
    if abs(factor - 1) < 1e-6:
        return rf"$10^{{{exponent}}}$"
    return rf"${factor:.6g}{{\times}}10^{{{exponent}}}$"


# -- sky -----------------------------------------------------------------------------------------------------


@_styled
def field_of_view(catalogue: "HaloCatalogue", posterior: "MassPosterior", ax: "Axes | None" = None) -> "Axes":
    """The field: a point for each object, its radius proportional to M^(1/3) at the posterior mean of ln M.

    The radius so follows the halo's own; the colour is the redshift. Objects without a mass are grey crosses,
    objects without a position are not shown.
    """
    x, y, aspect, draw_axes = _sky_frame(catalogue)
    width, height = _map_size(aspect)
    ax = _axes(ax, width, height + 0.45)
    draw_axes(ax)
    placed = np.isfinite(x) & np.isfinite(y)
    with_mass = placed & np.isfinite(posterior.mean)
    without = placed & ~with_mass
    ax.scatter(x[without], y[without], s=6, marker="x", c=_GREY, lw=0.5, rasterized=True)
    index = np.flatnonzero(with_mass)
    index = index[np.argsort(posterior.mean[index], kind="stable")]
    if index.size:
        log10_mass = posterior.mean[index] / _LN10
        largest = float(log10_mass[-1])
        # The 500 most massive objects cover a tenth of the axes, the largest 120 pt^2 at most.
        width, height = _axes_inches(ax, aspect)
        ink = width * height * 72**2 / 10
        area = min(120.0, ink / float(np.sum(_relative_area(log10_mass[-500:] - largest))))
        sizes = _marker_area(area, log10_mass - largest)
        points = ax.scatter(
            x[index], y[index], s=sizes, c=catalogue.redshift[index], cmap="viridis", lw=0.25 * (sizes > 8),
            ec="white", alpha=0.85, rasterized=True,
        )  # fmt: skip
        bar = _side_bar(ax, points, aspect)
        bar.set_label("redshift $z$")
        bar.solids.set_alpha(1)
        _size_legend(ax, area, log10_mass, without.any(), posterior.prior.mass_definition)
    ax.set_title(f"{_count(index.size)} with a mass" + (f", {without.sum():,} without" if without.any() else ""))
    _settle(ax.figure)
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
        Line2D([], [], ls="", marker="o", color=_GREY, mec="white", mew=0.15,
               ms=np.sqrt(_marker_area(area, step - largest)), label=rf"$10^{{{step:g}}}$")
        for step in steps
    ]  # fmt: skip
    if some_without:
        handles.append(Line2D([], [], ls="", marker="x", color=_GREY, ms=3, label="flagged, no mass"))
    below = offset_copy(ax.transAxes, ax.figure, y=-0.42, units="inches")
    ax.legend(
        handles=handles, title=_mass_label(mass_definition), title_fontsize=7, loc="upper center",
        bbox_to_anchor=(0.5, 0.0), bbox_transform=below, borderaxespad=0, ncols=len(handles), columnspacing=1.2,
        handletextpad=0.4,
    )  # fmt: skip


def _sky_frame(catalogue):
    """Plot coordinates x, y (n,) of the objects, height over width of the field, and what draws the axes.

    The tangent plane up to 25 degrees from the middle, where it stretches by a fifth; wider fields in RA and dec.
    """
    from massmap_jax.pixels import PixelGrid

    ra, dec = np.asarray(catalogue.ra, np.float64), np.asarray(catalogue.dec, np.float64)
    placed = np.isfinite(ra) & np.isfinite(dec)
    try:
        grid = PixelGrid.fit(ra, dec, frame=catalogue.frame)
    except MassmapError:
        # Wider than one tangent plane; without any position there is nothing to place.
        if not placed.any():
            raise
        grid = None
    if grid is not None and (grid.projection == "flat" or _radius(grid) < 25 or _is_polar(grid)):
        return *grid.project(ra, dec), grid.shape[0] / grid.shape[1], functools.partial(_grid_axes, grid=grid)
    angle = np.deg2rad(ra[placed])
    middle = np.round(np.rad2deg(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum())) % 360, -1)
    x = np.where(placed, (ra - middle + 180) % 360 - 180, np.nan)
    xlim = np.nanmax(x) + 2, np.nanmin(x) - 2
    ylim = max(np.nanmin(dec[placed]) - 2, -90), min(np.nanmax(dec[placed]) + 2, 90)
    draw_axes = functools.partial(_ra_dec_axes, middle=middle, xlim=xlim, ylim=ylim)
    return x, dec, (ylim[1] - ylim[0]) / (xlim[0] - xlim[1]), draw_axes


def _ra_dec_axes(ax, middle, xlim, ylim):
    """RA, increasing to the left and counted from `middle`, and dec as plain axes, degrees."""
    ax.set(xlim=xlim, ylim=ylim, aspect="equal", xlabel="right ascension [deg]", ylabel="declination [deg]")
    ax.tick_params(top=False, right=False, direction="out")
    num_x, num_y = _num_ticks(ax, (ylim[1] - ylim[0]) / (xlim[0] - xlim[1]))
    ticks = _ticks(middle + xlim[1], middle + xlim[0], num_x, angle=True)
    ax.set_xticks([t - middle for t, _ in ticks], [label for _, label in ticks])
    ticks = _ticks(*ylim, num_y, angle=True, wrap=False)
    ax.set_yticks([t for t, _ in ticks], [label for _, label in ticks])


def _sides_degrees(grid) -> tuple[float, float]:
    return grid.shape[1] * grid.pixel_arcmin / 60, grid.shape[0] * grid.pixel_arcmin / 60


def _radius(grid) -> float:
    """Half-diagonal of the field on the sphere, degrees: the tangent plane stretches r to tan r."""
    return float(np.rad2deg(np.arctan(np.deg2rad(np.hypot(*_sides_degrees(grid)) / 2))))


def _is_polar(grid) -> bool:
    return abs(grid.centre[1]) + _radius(grid) >= 89.0


def _grid_axes(ax, grid):
    """Limits, ticks and labels of axes in the pixel coordinates of a PixelGrid."""
    ny, nx = grid.shape
    ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
    ax.tick_params(top=False, right=False, direction="out")
    draw = _flat_ticks if grid.projection == "flat" else _polar_ticks if _is_polar(grid) else _sky_ticks
    draw(ax, grid)


def _axes_inches(ax, aspect) -> tuple[float, float]:
    """Width and height of the axes once their aspect is kept."""
    box = ax.get_position()
    width, height = ax.figure.get_size_inches() * (box.width, box.height)
    return min(width, height / aspect), min(height, width * aspect)


def _num_ticks(ax, aspect) -> tuple[int, int]:
    """How many labels fit along x and y."""
    width, height = _axes_inches(ax, aspect)
    return int(np.clip(width / 0.5, 2, 8)), int(np.clip(height / 0.35, 2, 8))


def _flat_ticks(ax, grid):
    ny, nx = grid.shape
    num_x, num_y = _num_ticks(ax, ny / nx)
    (x0, y0), half_x, half_y = grid.centre, nx * grid.pixel_arcmin / 2, ny * grid.pixel_arcmin / 2
    x_ticks, y_ticks = _ticks(x0 - half_x, x0 + half_x, num_x), _ticks(y0 - half_y, y0 + half_y, num_y)
    ax.set_xticks([grid.project(t, y0)[0] for t, _ in x_ticks], [label for _, label in x_ticks])
    ax.set_yticks([grid.project(x0, t)[1] for t, _ in y_ticks], [label for _, label in y_ticks])
    ax.set(xlabel="x [arcmin]", ylabel="y [arcmin]")


def _sky_ticks(ax, grid):
    """RA where meridians meet the lower side, dec where parallels meet the left; on wide fields the lines too."""
    ny, nx = grid.shape
    width, height = _sides_degrees(grid)
    radius = _radius(grid)
    ra0, dec0 = grid.centre
    num_x, num_y = _num_ticks(ax, ny / nx)
    # How far the field reaches: RA along the equator-ward corners, dec along the middle.
    reach = np.rad2deg(np.arcsin(min(1.0, np.sin(np.deg2rad(radius)) / np.cos(np.deg2rad(dec0)))))
    shown = np.rad2deg(np.arctan(np.deg2rad(width / 2) / np.cos(np.deg2rad(dec0))))
    ra_step = _tick_step(2 * shown, num_x, angle=True)
    dec_step = _tick_step(2 * np.rad2deg(np.arctan(np.deg2rad(height / 2))), num_y, angle=True)
    # RA is counted on from the centre's, so nothing happens at 0 = 360.
    meridians = _multiples(ra0 - reach, ra0 + reach, ra_step)
    parallels = _multiples(dec0 - radius, dec0 + radius, dec_step)
    along_dec = np.linspace(max(dec0 - radius, -90.0), min(dec0 + radius, 90.0), 400)
    along_ra = np.linspace(ra0 - reach, ra0 + reach, 800)

    x_ticks, y_ticks, lines = [], [], []
    for value in meridians:
        x, y = grid.project(np.full(along_dec.size, value), along_dec)
        x_ticks += [(p, _decimal(value % 360, ra_step)) for p in _crossings(y, x, -0.5, -0.5, nx - 0.5)]
        lines.append((x, y))
    for value in parallels:
        x, y = grid.project(along_ra, np.full(along_ra.size, value))
        y_ticks += [(p, _decimal(value, dec_step)) for p in _crossings(x, y, -0.5, -0.5, ny - 0.5)]
        lines.append((x, y))
    if radius > 2:
        _draw_lines(ax, lines)
    inches = _axes_inches(ax, ny / nx)
    for axis, ticks, least in ((ax.xaxis, x_ticks, 0.35 * nx / inches[0]), (ax.yaxis, y_ticks, 0.15 * ny / inches[1])):
        ticks = _thin_out(sorted(ticks), least)
        axis.set_ticks([place for place, _ in ticks], [label for _, label in ticks])
    ax.set(xlabel="right ascension [deg]", ylabel="declination [deg]")


def _polar_ticks(ax, grid):
    """Around a pole: meridians every 30 degrees, named at the rim, and rings of dec, named between two of them."""
    ny, nx = grid.shape
    ra0, dec0 = grid.centre
    radius = _radius(grid)
    low, high = max(dec0 - radius, -90.0), min(dec0 + radius, 90.0)
    dec_step = _tick_step(high - low, 5, angle=True)
    pole_dec = np.copysign(90.0, dec0)
    from_pole = np.linspace(pole_dec, low if dec0 > 0 else high, 400)
    lines = []
    small = _axes_inches(ax, ny / nx)[0] < 2.5

    def name(x, y, text):
        ax.text(x, y, text, fontsize=7, ha="center", va="center", zorder=5, bbox=_LABEL_BOX)

    for value in np.arange(0.0, 360.0, 30.0):
        x, y = grid.project(np.full(from_pole.size, value), from_pole)
        lines.append((x, y))
        inside = np.flatnonzero((np.abs(x - (nx - 1) / 2) < 0.44 * nx) & (np.abs(y - (ny - 1) / 2) < 0.46 * ny))
        if inside.size and not (small and value % 90):
            name(x[inside[-1]], y[inside[-1]], f"{value:g}°")
    ra_of_names = np.round((ra0 - 15) / 30) * 30 + 15
    for value in _multiples(low, high, dec_step):
        ring = np.linspace(0, 360, 721)
        lines.append(grid.project(ring, np.full(ring.size, value)))
        x, y = (float(v) for v in grid.project(ra_of_names, value))
        if abs(value) < 90 and abs(x - (nx - 1) / 2) < 0.44 * nx and abs(y - (ny - 1) / 2) < 0.46 * ny:
            name(x, y, f"dec {_decimal(value, dec_step)}")
    _draw_lines(ax, lines)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("right ascension at the rim, declination on the rings [deg]")


def _draw_lines(ax, lines):
    for x, y in lines:
        ax.plot(x, y, color=ORANGE, lw=0.5, alpha=0.6, zorder=2)


def _crossings(across, along, level, low, high) -> list[float]:
    """Where the polyline (across, along) meets across = level, with along inside [low, high]."""
    left, right = across[:-1] - level, across[1:] - level
    with np.errstate(invalid="ignore", divide="ignore"):
        meets = (left * right < 0) | ((left == 0) & (right != 0))
        place = along[:-1] + (along[1:] - along[:-1]) * left / (left - right)
        return [float(p) for p in place[meets] if low <= p <= high]


def _thin_out(ticks, least):
    """Drop ticks closer than `least` to the one before."""
    kept = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= least:
            kept.append(tick)
    return kept


def _tick_step(span: float, count: int, angle: bool = False) -> float:
    """A step that gives about `count` ticks over `span`, and two at least: 1, 2, 5; above 10 degrees divisors of 90."""
    steps = [f * 10.0**e for e in range(-6, 7) for f in (1, 2, 5)]
    if angle:
        steps = [s for s in steps if s < 11] + [15.0, 30.0, 45.0, 90.0]
    fitting = [s for s in steps if s <= span / 2] or steps[:1]
    return min((s for s in fitting if s >= 0.85 * span / count), default=fitting[-1])


def _multiples(low, high, step) -> np.ndarray:
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step


def _ticks(low, high, count, angle=False, wrap=True) -> list[tuple[float, str]]:
    step = _tick_step(high - low, count, angle)
    return [(v, _decimal(v % 360 if angle and wrap else v, step)) for v in _multiples(low, high, step)]


def _decimal(value: float, step: float) -> str:
    places = max(0, int(-np.floor(np.log10(step) + 1e-9)))
    value = round(value, places) + 0.0
    # 359.96 may have become the full turn.
    return f"{0.0 if value == 360.0 else value:.{places}f}".replace("-", "−")


# -- maps ----------------------------------------------------------------------------------------------------


@_styled
def mass_map_image(mass_map: "MassMap", ax: "Axes | None" = None, quantity: str = "mean") -> "Axes":
    """Greyscale map on sky axes with a colour bar; dark is massive, pixels without objects are tinted blue.

    Parameters
    ----------
    mass_map : MassMap
    ax : Axes, optional
    quantity : "mean", "sampled_mean", "sd", "q16", "q50", "q84" (Msun per pixel) or "nobj" (objects per pixel)
    """
    if quantity not in _MAP_LABELS:
        raise MassmapError(f"quantity is {quantity!r}; give one of {', '.join(_MAP_LABELS)}")
    ny, nx = mass_map.grid.shape
    width, height = _map_size(ny / nx)
    ax = _axes(ax, width, height)
    values = np.asarray(getattr(mass_map, quantity), np.float64)
    shown = values[_filled(mass_map)]
    image = _draw_map(ax, mass_map, values, _count_norm(shown) if quantity == "nobj" else _map_norm([shown]))
    bar = _side_bar(ax, image, ny / nx)
    label = _MAP_LABELS[quantity]
    if quantity != "nobj":
        label += f" ${_mass_symbol(mass_map.mass_definition)}$ [{_MSUN}]"
    title = _map_title(mass_map)
    if ny < 0.5 * nx:  # too low for a label along the bar
        title = f"{label}\n{title}"
    else:
        bar.set_label(label)
    ax.set_title(title)
    _empty_legend(ax, mass_map)
    _settle(ax.figure)
    return ax


_MSUN = r"$\mathrm{M}_\odot$"
_MAP_LABELS = {
    "mean": "mean halo mass in a pixel",
    "sampled_mean": "mean halo mass of the draws",
    "sd": "standard deviation of halo mass",
    "q16": "16 % quantile of halo mass",
    "q50": "median halo mass in a pixel",
    "q84": "84 % quantile of halo mass",
    "nobj": "objects in a pixel",
}


@_styled
def map_panels(mass_map: "MassMap") -> "Figure":
    """Six maps: mean, 16 % and 84 % quantile on one grey scale; standard deviation, relative error, counts."""
    ny, nx = mass_map.grid.shape
    num_columns = 1 if nx > 5 * ny else 2 if nx > 1.6 * ny else 3
    num_rows = 6 // num_columns
    panel_height = min((_PAGE / num_columns - 0.85) * ny / nx, 8.0 / num_rows)
    # No narrower than a title.
    width = num_columns * max(panel_height * nx / ny + 0.85, 1.75)
    figure = _new_figure(width, max(num_rows * (panel_height + 0.33) + 0.7, 3.0))
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True).ravel()
    filled = _filled(mass_map)
    mean, sd, q16, q84, nobj = (
        np.asarray(getattr(mass_map, name), np.float64) for name in ("mean", "sd", "q16", "q84", "nobj")
    )
    relative = np.divide(sd, mean, out=np.zeros_like(mean), where=mean > 0)
    shared = _map_norm([v[filled] for v in (mean, q16, q84)])
    panels = [
        ("mean", mean, shared, _MSUN),
        ("16 % quantile", q16, shared, _MSUN),
        ("84 % quantile", q84, shared, _MSUN),
        ("standard deviation", sd, _map_norm([sd[filled]]), _MSUN),
        ("relative error, sd / mean", relative, _linear_norm(relative[filled]), ""),
        ("objects in a pixel", nobj, _count_norm(nobj[filled]), ""),
    ]
    for ax, (title, values, norm, unit) in zip(axes, panels, strict=True):
        image = _draw_map(ax, mass_map, values, norm)
        _side_bar(ax, image, ny / nx)
        ax.set_title(title + (f" [{unit}]" if unit else ""))
        x_label, y_label = ax.get_xlabel(), ax.get_ylabel()
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    figure.supxlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    symbol = f"${_mass_symbol(mass_map.mass_definition)}$"
    figure.suptitle(f"halo mass {symbol} in a pixel: {_map_title(mass_map)}", fontsize=8)
    _settle(figure)
    return figure


def _filled(mass_map) -> np.ndarray:
    return np.asarray(mass_map.nobj) > 0


def _draw_map(ax, mass_map, values, norm):
    import matplotlib

    grey = matplotlib.colormaps["gray_r"](np.linspace(0.08, 1, 256))
    cmap = matplotlib.colors.ListedColormap(grey).with_extremes(under=_EMPTY, bad=_EMPTY)
    # Low but filled pixels take the lightest grey; only empty ones fall under the scale.
    shown = np.where(_filled(mass_map), np.clip(values, norm.vmin, None), 0.0 if norm.vmin > 0 else -1.0)
    image = ax.imshow(np.ma.masked_invalid(shown), norm=norm, cmap=cmap, origin="lower")
    _grid_axes(ax, mass_map.grid)
    return image


def _map_norm(values):
    """Log stretch from the 1 % to the 99.9 % quantile of the positive values."""
    from matplotlib.colors import LogNorm

    positive = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values])
    if positive.size == 0:
        return LogNorm(0.1, 1.0)
    low, high = np.quantile(positive, [0.01, 0.999])
    return LogNorm(low / 1.1, high * 1.1) if high < 1.2 * low else LogNorm(low, high)


def _linear_norm(values):
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    return Normalize(0.0, max(float(np.quantile(finite, 0.999)), 1e-6) if finite.size else 1.0)


def _count_norm(values):
    """Linear for small counts, whose decades hold few integers, and log above."""
    return _linear_norm(values) if values.size == 0 or values.max() <= 50 else _map_norm([values])


def _side_bar(ax, mappable, aspect):
    """Colour bar as tall as the axes, whatever their aspect (height over width), with as many labels as fit."""
    unit = max(1.0, aspect)
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes([1 + 0.03 * unit, 0.0, 0.045 * unit, 1.0]))
    height = _axes_inches(ax, aspect)[1]
    most = int(np.clip(height / 0.3, 2, 7))
    if type(mappable.norm).__name__ == "LogNorm":
        _label_log_axis(bar.ax.yaxis, mappable.norm.vmin, mappable.norm.vmax, most)
    else:
        from matplotlib.ticker import MaxNLocator

        bar.locator = MaxNLocator(most, steps=[1, 2, 5, 10])
        bar.update_ticks()
    return bar


def _map_size(aspect) -> tuple[float, float]:
    """Figure width and height in inches for one map of this height over width."""
    width = _PAGE if aspect < 0.5 else 0.7 * _PAGE if aspect < 1.6 else max(3.2, 5.7 / aspect + 1.5)
    return width, float(np.clip((width - 1.4) * aspect + 0.8, 1.6, 6.5))


def _map_title(mass_map) -> str:
    text = f"{_count(np.asarray(mass_map.nobj).sum())}, {mass_map.grid.pixel_arcmin:g} arcmin pixels"
    return f"{text}, {mass_map.num_draws} draws"


def _empty_legend(ax, mass_map):
    from matplotlib.patches import Patch

    if not _filled(mass_map).all():
        empty = Patch(fc=_EMPTY, ec=_GREY, lw=0.5, label="no objects")
        ax.legend(handles=[empty], loc="upper right", frameon=True)


# -- where the truth is known --------------------------------------------------------------------------------


@_styled
def predicted_vs_true(posterior: "MassPosterior", ax: "Axes | None" = None, max_bars: int = 200) -> "Axes":
    """Posterior median against true mass, with 68 % bars on at most `max_bars` objects.

    From 1,000 objects on, their density is shown as hexagons, and a band holds the central 68 % of the *true*
    masses in bins of the *predicted* one: calibrated posteriors make it straddle the diagonal. (Bins of true mass
    would not: there, a perfect posterior is biased towards the prior.)
    """
    ax = _axes(ax, _COLUMN, 3.4)
    index = _with_truth(posterior)
    if index.size == 0:
        ax.text(0.5, 0.5, "no object has both a posterior and a true mass", ha="center", transform=ax.transAxes)
        return ax
    low, high = (v[index] / _LN10 for v in _interval(posterior))
    median, truth = posterior.median[index] / _LN10, posterior.catalogue.truth_ln_mass[index] / _LN10
    # Spread over the masses, so that the rare massive objects are among them.
    shown = np.argsort(median, kind="stable")
    if shown.size > max_bars:
        level = np.linspace(median.min(), median.max(), max_bars)
        shown = np.unique(shown[np.minimum(np.searchsorted(median[shown], level), shown.size - 1)])
    drawn = np.concatenate([median, truth, low[shown], high[shown]])
    pad = 0.04 * max(np.ptp(drawn), 0.5)
    ends = np.array([drawn.min() - pad, drawn.max() + pad])
    if index.size >= 1000:
        ax.hexbin(truth, median, gridsize=60, bins="log", cmap="Greys", mincnt=1, lw=0.1, extent=(*ends, *ends),
                  rasterized=True)  # fmt: skip
        _truth_band(ax, median, truth)
    bars = np.abs(np.stack([low, high])[:, shown] - median[shown])
    label = "median, 68 % interval" + (f"\nof {shown.size} objects" if shown.size < index.size else "")
    ax.errorbar(
        truth[shown],
        median[shown],
        bars,
        fmt="o",
        ms=1.8,
        mec="none",
        lw=0.5,
        color=BLUE,
        alpha=0.8,
        label=label,
    )
    ax.plot(ends, ends, color=BLACK, lw=0.8, ls="--", zorder=3)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    symbol = _mass_symbol(posterior.prior.mass_definition)
    ax.set_xlabel(rf"true halo mass $\log_{{10}}({symbol}/\mathrm{{M}}_\odot)$")
    ax.set_ylabel(rf"predicted $\log_{{10}}({symbol}/\mathrm{{M}}_\odot)$")
    held = (truth >= low) & (truth <= high)
    share = f"{100 * held.mean():.1f} %" if held.size >= 100 else f"{held.sum()} of {held.size}"
    ax.set_title(f"{_count(index.size)}; the 68 % interval holds {share}")
    ax.legend(loc="upper left", fontsize=7)
    return ax


def _truth_band(ax, median, truth, num_bins=25):
    edges = np.linspace(median.min(), median.max(), num_bins + 1)
    which = np.clip(np.searchsorted(edges, median, side="right") - 1, 0, num_bins - 1)
    bands = [(median[which == b].mean(), *np.quantile(truth[which == b], [0.16, 0.5, 0.84]))
             for b in range(num_bins) if np.sum(which == b) >= 20]  # fmt: skip
    if len(bands) < 2:
        return
    middle, low, half, high = np.array(bands).T
    ax.fill_betweenx(middle, low, high, color=ORANGE, alpha=0.45, lw=0, zorder=2,
                     label="16-84 % of true masses at\na predicted mass")  # fmt: skip
    ax.plot(half, middle, color=ORANGE, lw=1.2, zorder=3)


@_styled
def pit_histograms(posterior: "MassPosterior", num_panels: int = 6) -> "Figure":
    """Histograms of the PIT (posterior CDF at the true mass) in bins of observed luminosity.

    Uniform if the posteriors are calibrated. The shaded band holds 95 % of counts under uniformity, bar by bar
    (binomial); each title has the p value of a Kolmogorov-Smirnov test (Stephens 1970, JRSS B 32, 115).
    Fewer panels and bars for small catalogues.
    """
    index = _with_truth(posterior)
    pit = np.asarray(posterior.cdf(posterior.catalogue.truth_ln_mass), np.float64)[index]
    index, pit = index[np.isfinite(pit)], pit[np.isfinite(pit)]
    num_panels = int(np.clip(index.size // 50, 1, num_panels))
    columns = min(num_panels, 3)
    rows = -(-num_panels // columns)
    figure = _new_figure(_PAGE if columns > 1 else _COLUMN, 1.9 * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    ln_lum = posterior.catalogue.ln_lum_obs[index]
    order = np.argsort(ln_lum, kind="stable")
    for ax, part in zip(axes, np.array_split(order, num_panels), strict=False):
        _pit_axes(ax, pit[part], np.exp(ln_lum[part]))
    low, high = axes[0].get_ylim()
    reach = 1.2 * max(high - 1, 1 - low, 0.1)
    axes[0].set_ylim(max(1 - reach, 0.0), 1 + reach)
    for ax in axes[num_panels:]:
        ax.remove()
    unit = posterior.catalogue.lum_unit
    figure.supxlabel("PIT: posterior probability below the true mass", fontsize=8)
    figure.supylabel("objects / expected", fontsize=8)
    figure.suptitle(
        r"in bins of observed luminosity $L_\mathrm{obs}$" + (f" [{unit}]" if unit else "") + "; band: 95 %",
        fontsize=8,
    )
    return figure


def _pit_axes(ax, pit, lum):
    num_bars = int(np.clip(pit.size // 25, 4, 20))
    counts, edges = np.histogram(pit, num_bars, (0.0, 1.0))
    expected = max(pit.size, 1) / num_bars
    low, high = _binomial_interval(pit.size, 1 / num_bars)
    ax.axhspan(low / expected, high / expected, color=SKY_BLUE, alpha=0.4, lw=0)
    ax.axhline(1.0, color=BLUE, lw=0.8)
    ax.stairs(counts / expected, edges, baseline=None, color=BLACK, lw=1.0)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    if pit.size:
        span = f"{_short_number(lum.min())} to {_short_number(lum.max())}"
        ax.set_title(f"{span}\n{_count(pit.size)}, KS p = {_ks_p(pit):.2g}")
    else:
        ax.set_title("no object has a true mass")


def _binomial_interval(num, probability) -> tuple[int, int]:
    """Central 95 % interval of a binomial count."""
    if num == 0:
        return 0, 1
    k = np.arange(1, num + 1)
    ln_ratio = np.log((num - k + 1) / k * (probability / (1 - probability)))
    ln_pmf = num * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(ln_ratio)])
    cdf = np.cumsum(np.exp(ln_pmf))
    return int(np.searchsorted(cdf, 0.025)), int(np.searchsorted(cdf, 0.975))


def _ks_p(values) -> float:
    """p of the one-sample Kolmogorov-Smirnov test of uniformity, Stephens' form of the asymptotic law."""
    n = values.size
    ordered, rank = np.sort(values), np.arange(n)
    distance = max(np.max((rank + 1) / n - ordered), np.max(ordered - rank / n))
    scaled = (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)) * distance
    if scaled < 0.2:
        return 1.0  # the series alternates without converging here, and p is 1 to 1e-12
    k = np.arange(1, 101)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2)), 0, 1))


# -- shared --------------------------------------------------------------------------------------------------


def _with_truth(posterior) -> np.ndarray:
    """Rows with both a posterior and a true mass."""
    truth = posterior.catalogue.truth_ln_mass
    if truth is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.isfinite(truth) & np.isfinite(posterior.median))


def _interval(posterior) -> tuple[np.ndarray, np.ndarray]:
    """16 % and 84 % quantiles of ln M, (n,) each: the stored ones if there."""
    levels = [round(float(v), 6) for v in posterior.quantile_levels]
    if 0.16 in levels and 0.84 in levels:
        stored = np.asarray(posterior.quantiles)
        return stored[:, levels.index(0.16)], stored[:, levels.index(0.84)]
    both = np.asarray(posterior.quantile((0.16, 0.84)))
    return both[:, 0], both[:, 1]


def _mass_symbol(mass_definition: str) -> str:
    """'200m' -> M_{200m} in mathtext; plain M where the definition is not known."""
    return "M" if mass_definition in ("", "unknown") else rf"M_{{\mathrm{{{mass_definition}}}}}"


def _mass_label(mass_definition: str) -> str:
    return f"halo mass ${_mass_symbol(mass_definition)}$ [{_MSUN}]"


def _count(number) -> str:
    return f"{int(number):,} object" + ("" if number == 1 else "s")


def _short(name, longest: int = 20) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    # A dollar sign would start mathtext.
    text = text.strip().replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _short_number(value: float) -> str:
    """Three digits, in powers of ten where the plain number would be long."""
    if 1e-3 <= abs(value) < 1e5:
        return np.format_float_positional(value, precision=3, fractional=False, trim="-")
    mantissa, exponent = f"{value:.2e}".split("e")
    return rf"${mantissa}{{\times}}10^{{{int(exponent)}}}$"


def standard_figures(
    posterior: "MassPosterior", mass_map: "MassMap | None" = None, catalogue: "HaloCatalogue | None" = None
) -> "dict[str, Figure]":
    """The figures that the data allow, by name.

    Always `posterior_panel`; with positions `field_of_view`; with a map `mass_map` and `map_panels`; with true
    masses `predicted_vs_true` and `pit_histograms`.
    """
    catalogue = posterior.catalogue if catalogue is None else catalogue
    figures = {"posterior_panel": posterior_panel(posterior)}
    if catalogue.ra is not None and np.any(np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec)):
        figures["field_of_view"] = field_of_view(catalogue, posterior).figure
    if mass_map is not None:
        figures["mass_map"] = mass_map_image(mass_map).figure
        figures["map_panels"] = map_panels(mass_map)
    if _with_truth(posterior).size:
        figures["predicted_vs_true"] = predicted_vs_true(posterior).figure
        figures["pit_histograms"] = pit_histograms(posterior)
    return figures


def save_all(figures: "dict[str, Figure]", directory, dpi: int = 150) -> list[Path]:
    """Write each figure as NAME.png into an existing or new directory; the paths, in order."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(directory / f"{name}.png")
        figure.savefig(paths[-1], dpi=dpi)
    return paths
