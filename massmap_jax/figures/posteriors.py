"""Figures of posteriors: some of them in panels, and all of them on the sky.

matplotlib is imported only when a function is called. All figures share one style (`massmap_jax.figures.style.STYLE`):
the colour-blind safe colours of Okabe & Ito, and letters of at least 7 pt at widths of 3.5 and 7 inches. A function
with an argument `ax` draws into these axes and returns them. Without them it makes a new Figure, reached as
`ax.figure`, which pyplot does not know of, so no window opens and no memory leaks.
"""

from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.figures.axes import sky_frame
from massmap_jax.figures.maps import map_size, side_bar
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
    plain_text,
    settle,
    styled,
)
from massmap_jax.prior.population import population_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.posterior.result import MassPosterior


# -- posteriors ----------------------------------------------------------------------------------------------


@styled
def posterior_panel(posterior: "MassPosterior", rows=None, scale: Literal["linear", "log"] = "linear") -> "Figure":
    """Draw nine panels: the prior, seven halos from faint to bright, and the most massive one.

    Parameters
    ----------
    posterior : MassPosterior
        The posteriors.
    rows : sequence of int, optional
        Rows to show instead, at most eight; rows without a mass are left out.
    scale : {"linear", "log"}
        Of the densities: "linear" shows where the probability is; "log", as in 2017, the far tails, too.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of dP/dlnM against log10 M, or against M [Msun] on "log" axes, with the 68 % interval shaded. The shape
        of the prior (normalised within the panel) is dashed, and the true mass, where it is known, is a line. The
        prior is the population where one was fitted with the relation. Its own panel always has logarithmic axes.

    Raises
    ------
    MassmapError
        For row numbers that do not exist, or an unknown scale.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> from massmap_jax import plot
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, 6e4, -99.0], redshift=[0.2, 0.4, 0.3], sigma_ln_luminosity=0.05
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> posterior = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation)
    >>> figure = plot.posterior_panel(posterior)
    >>> len(figure.axes)
    3

    Write it with `figure.savefig("posteriors.png")`, or several figures with `plot.save_all`.
    """
    if scale not in ("linear", "log"):
        raise MassmapError(f"scale is {scale!r}; give linear or log")
    rows = _show_rows(posterior) if rows is None else _given_rows(posterior, rows)
    num_columns = min(3, 1 + rows.size)
    num_rows = -(-(1 + rows.size) // num_columns)
    figure = new_figure(PAGE * num_columns / 3 + 0.3 * (num_columns < 3), 2.2 * num_rows + 0.4)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    _prior_axes(axes[0], posterior, rows, linear=scale == "linear")
    if rows.size:
        _row_axes(axes[1 : 1 + rows.size], posterior, rows, linear=scale == "linear")
    for ax in axes[1 + rows.size :]:
        ax.remove()
    symbol = mass_symbol(posterior.prior.mass_definition)
    of_log = rf"halo mass $\log_{{10}}({symbol}/\mathrm{{M}}_\odot)$"
    figure.supxlabel(of_log if scale == "linear" else mass_label(posterior.prior.mass_definition), fontsize=8)
    figure.supylabel(r"$\mathrm{d}P/\mathrm{d}\ln M$", fontsize=8)
    if rows.size:
        labelled = [ax.get_legend_handles_labels() for ax in axes[1 : 1 + rows.size]]
        legend = {label: handle for pair in labelled for handle, label in zip(*pair, strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=len(legend))
    return figure


def _show_rows(posterior) -> np.ndarray:
    """Choose seven rows spread over the ranks of observed luminosity, and the most massive one."""
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
    """Check the rows given; keep the first eight that have a mass."""
    rows = np.atleast_1d(np.asarray(rows))
    num = posterior.mean.size
    if rows.dtype.kind not in "iu" or np.any((rows < 0) | (rows >= num)):
        raise MassmapError(f"rows are {rows.tolist()}; give row numbers from 0 to {num - 1}")
    return rows[np.isfinite(posterior.mean[rows])][:8]


@jax.jit
def _log_prob(prior, relation, ln_mass, z):
    """ln of the prior density at masses (row, mass) and redshifts (row,): that of the population where one was fitted.

    A population is a part of each draw of the relation: the density is the mean over the draws.
    """

    def of_row(ln_mass, z):
        base = prior.log_prob(ln_mass, z)
        if population_of(relation) is None:
            return base
        each = jax.vmap(lambda draw: population_of(draw).ln_density(base, ln_mass, z))(relation)
        return jax.nn.logsumexp(each + jax.nn.log_softmax(relation.log_weight)[:, None], axis=0)

    return jax.vmap(of_row)(ln_mass, z)


def _prior_density(posterior, ln_mass, z) -> np.ndarray:
    """Density of the prior that the masses have, per ln M; (row, mass)."""
    prior, relation = posterior.prior, posterior.relation.as_batch()
    ln_mass = np.broadcast_to(ln_mass, (len(z), np.shape(ln_mass)[-1]))
    inside = (ln_mass >= prior.ln_mass_min) & (ln_mass <= prior.ln_mass_max)
    density = np.exp(np.asarray(_log_prob(prior, relation, ln_mass, np.asarray(z)), np.float64))
    return np.where(inside, density, 0.0)


def _prior_axes(ax, posterior, rows, linear):
    """Draw the prior at the lowest, middle and highest redshift of some rows."""
    prior = posterior.prior
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 300)
    z = posterior.catalogue.redshift[rows] if rows.size else np.array([prior.z_min])
    shown = np.unique(np.quantile(z, [0, 0.5, 1], method="nearest"))
    density = _prior_density(posterior, ln_mass, shown)
    mass = ln_mass / LN10 if linear else np.exp(ln_mass)
    for value, curve, colour, dash in zip(shown, density, (BLUE, ORANGE, PURPLE), ("-", "--", "-."), strict=False):
        ax.plot(mass, curve, color=colour, ls=dash, label=f"$z = {value:.2f}$")
    top = 3 * density.max()
    ax.set(xscale="linear" if linear else "log", yscale="log", ylim=(top * 1e-9, top), xlim=mass[[0, -1]])
    # Draws with a cosmology of their own have a mass function in its place.
    kind = getattr(population_of(posterior.relation), "kind", "fixed")
    what = "prior" if kind == "fixed" else "fitted population"
    ax.set_title(f"{what}  $p(\\ln M\\,|\\,z)$")
    ax.legend(loc="lower left")


def _row_axes(axes, posterior, rows, linear):
    """Draw one posterior into each of the axes."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    prior, catalogue = posterior.prior, posterior.catalogue
    most_massive = np.nanargmax(posterior.mean)
    low, high = interval_68(posterior)
    # Each posterior has its own grid, of one size: the curves are as fine for a narrow posterior as for a wide one.
    offset = np.linspace(-4, 4, 401) if linear else np.linspace(-5, 5, 401)
    grids = posterior.mean[rows, None] + np.maximum(posterior.sd[rows, None], 1e-4) * offset
    grids = np.clip(grids, prior.ln_mass_min, prior.ln_mass_max)
    prior_pdfs = _prior_density(posterior, grids, catalogue.redshift[rows])
    # All at once, as each number of panels would be compiled for by itself.
    pdfs = np.exp(posterior.log_pdf(rows, grids)[1])
    for ax, row, grid, prior_pdf, pdf in zip(axes, rows, grids, prior_pdfs, pdfs, strict=True):
        mass = grid / LN10 if linear else np.exp(grid)
        ax.plot(mass, pdf, color=BLUE, label="posterior")
        inside = (grid >= low[row]) & (grid <= high[row])
        floor = 0.0 if linear else 1e-30
        ax.fill_between(mass, pdf, floor, where=inside, color=SKY_BLUE, alpha=0.45, lw=0, label="68 %")
        norm = np.trapezoid(prior_pdf, grid)
        if norm > 0:
            ax.plot(mass, prior_pdf / norm, color=GREY, ls="--", lw=0.9, label="prior's shape")
        ends = mass.min(), mass.max()
        if catalogue.truth_ln_mass is not None and np.isfinite(catalogue.truth_ln_mass[row]):
            low_end, truth, high_end = catalogue.truth_ln_mass[row] + np.array([-0.1, 0.0, 0.1])
            if linear:
                low_end, truth, high_end = low_end / LN10, truth / LN10, high_end / LN10
            else:
                low_end, truth, high_end = np.exp([low_end, truth, high_end])
            ax.axvline(truth, color=VERMILLION, lw=1.2, label="true mass")
            ends = min(ends[0], low_end), max(ends[1], high_end)
        ax.set_xlim(ends)
        # Room for a label above the curve.
        if linear:
            ax.set_ylim(0.0, 1.3 * pdf.max())
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_locator(MaxNLocator(5))
        else:
            ax.set(xscale="log", yscale="log", ylim=(pdf.max() * 1e-5, pdf.max() * 10))
            ax.yaxis.set_minor_locator(NullLocator())  # minor ticks of six decades would take most of the time
            label_log_axis(ax.xaxis, *ends, 3 if ends[1] > 10 * ends[0] else 2)
        ax.set_title(
            f"{_short(posterior.ids[row])},  $z = {catalogue.redshift[row]:.2f}$\n"
            + _log10_text(posterior.median[row], low[row], high[row])
        )
        if row == most_massive and rows.size > 1:
            place = {"transform": ax.transAxes, "ha": "right", "va": "top"}
            ax.text(0.97, 0.96, "most massive", fontsize=7, bbox=LABEL_BOX, **place)


def _log10_text(median, low, high) -> str:
    """Write median and 68 % interval as log10 M."""
    middle, up, down = median / LN10, (high - median) / LN10, (median - low) / LN10
    return rf"$\log_{{10}} M = {middle:.2f}^{{+{up:.2f}}}_{{-{down:.2f}}}$"


def _short(name, longest: int = 20) -> str:
    """Shorten an id for a title."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    text = text.strip()
    return plain_text(text if len(text) <= longest else text[: longest - 1] + "…")


# -- sky -----------------------------------------------------------------------------------------------------


@styled
def field_of_view(catalogue: "HaloCatalogue", posterior: "MassPosterior", ax: "Axes | None" = None) -> "Axes":
    """Draw the field: a point for each object, with a radius proportional to M^(1/3) and the redshift as its colour.

    The radius is thus proportional to the halo's own radius. M is taken at the posterior mean of ln M. Objects without
    a mass are grey crosses; objects without a position are not shown.

    Parameters
    ----------
    catalogue : HaloCatalogue
        Positions and redshifts.
    posterior : MassPosterior
        Masses of the same rows.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; the figure is `ax.figure`.
    """
    x, y, aspect, draw_axes = sky_frame(catalogue)
    width, height = map_size(aspect)
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
    """Give the area of a point relative to that of another, from the log10 of the ratio of masses."""
    return 10 ** (2 / 3 * log10_ratio)


def _marker_area(area, log10_ratio):
    """Give areas of points [pt^2]: the radius is proportional to M^(1/3), with a floor so that no point vanishes."""
    return np.maximum(area * _relative_area(log10_ratio), 0.2)


def _size_legend(ax, area, log10_mass, some_without, mass_definition):
    """Add a legend of points for half decades of mass, from the median object to the most massive one."""
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
