"""`relation_corner`: a fitted relation, with every pair of parameters beside prior and truth."""

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.figures.style import BLACK, BLUE, ORANGE, PAGE, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.relation.fitted import RelationPosterior
    from massmap_jax.relation.law import MassLuminosityRelation

LABELS = {
    "alpha1": r"$\alpha_1$ ($\ln L$ at pivot)",
    "alpha2": r"$\alpha_2$ (slope)",
    "alpha4": r"$\alpha_4$ (evolution)",
    "scatter": r"$S$ (scatter in $\ln L$)",
    "extra_bias": r"$b$ (bias of mass likelihoods)",
    "bias": r"$B_0$ (bias of $\ln M_\mathrm{obs}$)",
    "mass_scatter": r"$S_m$ (scatter of $\ln M_\mathrm{obs}$)",
    "population_centre": "population: centre",
    "population_width": "population: width",
}
_LEVELS = (0.95, 0.68)
_BINS = 40


@styled
def relation_corner(fitted: "RelationPosterior", truth: "MassLuminosityRelation | None" = None) -> "Figure":
    """Draw the marginals of the fitted parameters, and their 68 and 95 % regions in pairs.

    Of a fit with measured masses it shows the relation, bias and scatter of the masses, and the population's centre and
    width. The prior is dashed where it is not much wider than the posterior; elsewhere the panel's title says how wide
    it is.

    Parameters
    ----------
    fitted : RelationPosterior
        The fitted relation.
    truth : MassLuminosityRelation, optional
        A true relation, marked by black lines.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    names = tuple(p for p in fitted.free if p in LABELS)
    number = len(names)
    side = max(PAGE * number / 4, 3.5)
    figure = new_figure(side, side)
    axes = figure.subplots(number, number, squeeze=False)
    columns = {p: np.asarray(fitted.draws.parameter(p)) for p in names}
    mean, sd = fitted.mean, fitted.sd
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            ax = axes[i, j]
            if j > i:
                ax.set_visible(False)
                continue
            if i == j:
                _marginal(ax, columns[row], fitted, row)
            else:
                _pair(ax, columns[column], columns[row], fitted.weights)
                ax.set_ylim(mean[row] - 4 * sd[row], mean[row] + 4 * sd[row])
            ax.set_xlim(mean[column] - 4 * sd[column], mean[column] + 4 * sd[column])
            if hasattr(truth, column):
                ax.axvline(float(getattr(truth, column)), color=BLACK, linewidth=0.8)
            if hasattr(truth, row) and i != j:
                ax.axhline(float(getattr(truth, row)), color=BLACK, linewidth=0.8)
            ax.locator_params(nbins=3)
            ax.tick_params(axis="x", rotation=30)
            ax.set_xlabel(LABELS[column] if i == number - 1 else "")
            ax.set_ylabel(LABELS[row] if j == 0 and i > 0 else "")
            if i < number - 1:
                ax.tick_params(labelbottom=False)
            if j > 0 or i == 0:
                ax.tick_params(labelleft=False)
    figure.suptitle(
        f"Relation fitted to {fitted.num_halos:,} objects ({fitted.method}), "
        rf"pivot {float(fitted.maximum.alpha3):.3g} $M_\odot$" + ("; black: truth" if truth is not None else ""),
        fontsize="medium",
    )
    return figure


def _marginal(ax, values, fitted, name):
    """Draw the histogram of one parameter, and its prior."""
    mean, sd = fitted.mean[name], fitted.sd[name]
    grid = np.linspace(mean - 4 * sd, mean + 4 * sd, 200)
    ax.hist(values, bins=_BINS, range=(grid[0], grid[-1]), weights=fitted.weights, density=True, color=BLUE, alpha=0.5)
    wide = fitted.prior_sd[name]
    if name in fitted.prior_curve and wide < 20 * sd:
        ax.plot(*fitted.prior_curve[name], color=ORANGE, linestyle="--")
    title = f"{mean:.4g} $\\pm$ {sd:.2g}\nprior {fitted.prior_mean[name]:.4g} $\\pm$ {wide:.2g}"
    ax.set_title(title, fontsize="x-small")
    ax.set_yticks([])


def _pair(ax, x, y, weights):
    """Draw the 68 and 95 % regions of two parameters."""
    from scipy.ndimage import gaussian_filter

    count, x_edges, y_edges = np.histogram2d(x, y, bins=_BINS, weights=weights)
    smooth = gaussian_filter(np.pad(count, 3), 1.5)
    x_step, y_step = np.diff(x_edges)[0], np.diff(y_edges)[0]
    x_mid = x_edges[0] + x_step * (np.arange(_BINS + 6) - 2.5)
    y_mid = y_edges[0] + y_step * (np.arange(_BINS + 6) - 2.5)
    ordered = np.sort(smooth.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = [ordered[np.searchsorted(held, level)] for level in _LEVELS]
    if len(set(levels)) == 2:
        ax.contourf(x_mid, y_mid, smooth.T, levels=[*levels, smooth.max() * 1.01], colors=[BLUE, BLUE], alpha=0.35)
        ax.contour(x_mid, y_mid, smooth.T, levels=levels, colors=BLUE, linewidths=0.8)
    else:  # too few draws for regions
        ax.plot(x, y, ".", color=BLUE, markersize=2)
