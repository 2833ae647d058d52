"""Figures for catalogues whose true masses are known: predicted against true mass, and the PIT.

matplotlib is imported only when a function is called. A function with an argument `ax` draws into these axes and
returns them.
"""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    LN10,
    ORANGE,
    PAGE,
    SKY_BLUE,
    count_text,
    given_or_new_axes,
    interval_68,
    mass_symbol,
    new_figure,
    plain_text,
    short_number,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.posterior.result import MassPosterior

_SHARED_ERROR = "The relation's error is shared by all objects, so the histograms need not be flat."

_HOW_TO_READ = (
    "How to read this: flat within the band is right; a valley, error bars too small; a hump, too large; "
    "a slope, masses biased."
)


@styled
def predicted_vs_true(posterior: "MassPosterior", ax: "Axes | None" = None, max_bars: int = 200) -> "Axes":
    """Draw the posterior median against the true mass, with 68 % bars on some of the objects.

    Parameters
    ----------
    posterior : MassPosterior
        Posteriors of a catalogue with true masses.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a new figure.
    max_bars : int
        Number of objects with bars, at most; they are spread over the masses.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; the figure is `ax.figure`.

    Notes
    -----
    For 1,000 objects or more, their density is shown as hexagons, and a band holds the central 68 % of the *true*
    masses in bins of the *predicted* mass. For calibrated posteriors this band lies on the diagonal. Bins of the true
    mass would not show this: at a given true mass, even a perfect posterior is biased towards the prior.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> from massmap_jax import plot
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, 6e4, 5e4], redshift=[0.2, 0.4, 0.3],
    ...     sigma_ln_luminosity=0.05, truth_mass=[8e13, 1.2e14, 2e14]
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> posterior = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation)
    >>> ax = plot.predicted_vs_true(posterior)
    >>> ax.get_title()
    '3 objects; the 68 % interval holds 2 of 3'
    """
    ax = given_or_new_axes(ax, COLUMN, 3.4)
    index = rows_with_truth(posterior)
    if index.size == 0:
        ax.text(0.5, 0.5, "no object has both a posterior and a true mass", ha="center", transform=ax.transAxes)
        return ax
    low, high = (v[index] / LN10 for v in interval_68(posterior))
    median, truth = posterior.median[index] / LN10, posterior.catalogue.truth_ln_mass[index] / LN10
    # The objects with bars are spread over the masses, so that the rare massive ones are among them.
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
    symbol = mass_symbol(posterior.prior.mass_definition)
    ax.set_xlabel(rf"true halo mass $\log_{{10}}({symbol}/\mathrm{{M}}_\odot)$")
    ax.set_ylabel(rf"predicted $\log_{{10}}({symbol}/\mathrm{{M}}_\odot)$")
    held = (truth >= low) & (truth <= high)
    share = f"{100 * held.mean():.1f} %" if held.size >= 100 else f"{held.sum()} of {held.size}"
    ax.set_title(f"{count_text(index.size)}; the 68 % interval holds {share}")
    ax.legend(loc="upper left", fontsize=7)
    return ax


def _truth_band(ax, median, truth, num_bins=25):
    """Draw the central 68 % of the true masses in bins of the predicted mass."""
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


@styled
def pit_histograms(posterior: "MassPosterior", num_panels: int = 6) -> "Figure":
    """Draw histograms of the PIT (posterior CDF at the true mass) in bins of observed luminosity.

    They are flat if the posteriors are calibrated.

    Parameters
    ----------
    posterior : MassPosterior
        Posteriors of a catalogue with true masses.
    num_panels : int
        Number of panels, at most; small catalogues have fewer panels and bars.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Notes
    -----
    The shaded band holds 95 % of the counts of a uniform PIT, for each bar on its own (binomial). Each title has the p
    value of a Kolmogorov-Smirnov test (Stephens 1970, JRSS B 32, 115). Both treat objects as independent. With more
    than one relation draw they are not: all objects share the true relation, and its offset from the draws tilts every
    histogram in the same way. The figure then says so.
    """
    index = rows_with_truth(posterior)
    pit = np.asarray(posterior.cdf(posterior.catalogue.truth_ln_mass), np.float64)[index]
    # Bins are of the luminosity, which a relation of several observables does without.
    known = np.isfinite(pit) & np.isfinite(posterior.catalogue.ln_lum_obs[index])
    index, pit = index[known], pit[known]
    num_panels = int(np.clip(index.size // 50, 1, num_panels))
    columns = min(num_panels, 3)
    rows = -(-num_panels // columns)
    shared = posterior.relation.num_draws > 1
    figure = new_figure(PAGE if columns > 1 else COLUMN, 1.9 * rows + (0.95 if shared else 0.75) + 0.3 * (columns == 1))
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
    how = textwrap.fill(_HOW_TO_READ, 55 if columns == 1 else 130)
    figure.supxlabel(f"PIT: posterior probability below the true mass\n{how}", fontsize=8)
    figure.supylabel("objects / expected", fontsize=8)
    title = r"$L_\mathrm{obs}$" + (f" [{plain_text(unit)}]" if unit else "") + "; band: 95 %"
    if columns > 1:
        title = "in bins of observed luminosity " + title
    if shared:
        title += "\n" + textwrap.fill(_SHARED_ERROR, 50 if columns == 1 else 100)
    figure.suptitle(title, fontsize=8)
    return figure


def _pit_axes(ax, pit, lum):
    """Draw one histogram of the PIT, with its band and p value."""
    num_bars = int(np.clip(pit.size // 25, 4, 20))
    counts, edges = np.histogram(pit, num_bars, (0.0, 1.0))
    expected = max(pit.size, 1) / num_bars
    low, high = binomial_interval(pit.size, 1 / num_bars)
    ax.axhspan(low / expected, high / expected, color=SKY_BLUE, alpha=0.4, lw=0)
    ax.axhline(1.0, color=BLUE, lw=0.8)
    ax.stairs(counts / expected, edges, baseline=None, color=BLACK, lw=1.0)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    if pit.size:
        span = f"{short_number(lum.min())} to {short_number(lum.max())}"
        ax.set_title(f"{span}\n{count_text(pit.size)}, KS p = {ks_p(pit):.2g}")
    else:
        ax.set_title("no object has a true mass")


def rows_with_truth(posterior) -> np.ndarray:
    """Give the numbers of the rows that have both a posterior and a true mass."""
    truth = posterior.catalogue.truth_ln_mass
    if truth is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.isfinite(truth) & np.isfinite(posterior.median))


def binomial_interval(num, probability) -> tuple[int, int]:
    """Give the central 95 % interval of a binomial count."""
    if num == 0:
        return 0, 1
    k = np.arange(1, num + 1)
    ln_ratio = np.log((num - k + 1) / k * (probability / (1 - probability)))
    ln_pmf = num * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(ln_ratio)])
    cdf = np.cumsum(np.exp(ln_pmf))
    return int(np.searchsorted(cdf, 0.025)), int(np.searchsorted(cdf, 0.975))


def ks_p(values) -> float:
    """Give the p value of the one-sample Kolmogorov-Smirnov test of uniformity.

    Stephens' form of the asymptotic law (Stephens 1970, JRSS B 32, 115).

    Parameters
    ----------
    values : Float[np.ndarray, "n"]
        Values between 0 and 1.

    Returns
    -------
    float
        The p value.
    """
    n = values.size
    ordered, rank = np.sort(values), np.arange(n)
    distance = max(np.max((rank + 1) / n - ordered), np.max(ordered - rank / n))
    scaled = (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)) * distance
    if scaled < 0.2:
        return 1.0  # the series alternates without converging here, and p is 1 to 1e-12
    k = np.arange(1, 101)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2)), 0, 1))
