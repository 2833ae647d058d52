"""`relation_corner`: a fitted relation, with every pair of parameters beside prior and truth."""

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.figures.style import BLACK, BLUE, COLUMN, MSUN, ORANGE, PAGE, new_figure, short_number, styled

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
    "omega_m": r"$\Omega_m$",
    "sigma8": r"$\sigma_8$",
    "h": r"$h$",
    "n_s": r"$n_s$",
    "omega_b": r"$\Omega_b$",
    "bias": r"$B_0$ (bias of $\ln M_\mathrm{obs}$)",
    "mass_scatter": r"$S_m$ (scatter of $\ln M_\mathrm{obs}$)",
    "population_centre": "population: centre",
    "population_width": "population: width",
    "selection_ln_threshold": r"selection: $\ln$ of the threshold [$M_\odot$]",
    "selection_width": "selection: width of the threshold",
    "selection_evolution": "selection: exponent of $1 + z$",
}
_LEVELS = (0.95, 0.68)
_BINS = 30
# Nodes of the regions along each parameter, and the effective number of draws below which none are drawn.
_NODES, _FEWEST = 60, 30


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
    # Not wider than a page. Of many parameters the panels are narrow, and the legend says what a symbol means.
    side = max(PAGE * min(number, 4) / 4, COLUMN)
    labels = {p: LABELS[p].split(" (")[0].replace(": ", "\n") if number > 4 else LABELS[p] for p in names}
    told = [LABELS[p][:-1].replace(" (", ": ", 1) for p in names if number > 4 and " (" in LABELS[p]]
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
                # That of the last, narrow panel would stand out of the figure.
                _marginal(ax, columns[row], fitted, row, "right" if number > 4 and i == number - 1 else "center")
            else:
                _pair(ax, columns[column], columns[row], fitted.weights)
                ax.set_ylim(mean[row] - 4 * sd[row], mean[row] + 4 * sd[row])
            ax.set_xlim(mean[column] - 4 * sd[column], mean[column] + 4 * sd[column])
            if hasattr(truth, column):
                ax.axvline(float(getattr(truth, column)), color=BLACK, linewidth=0.8)
            if hasattr(truth, row) and i != j:
                ax.axhline(float(getattr(truth, row)), color=BLACK, linewidth=0.8)
            ax.locator_params(nbins=3 if number <= 4 else 2)
            ax.tick_params(axis="x", rotation=30 if number <= 4 else 45)
            ax.set_xlabel(labels[column] if i == number - 1 else "")
            ax.set_ylabel(labels[row] if j == 0 and i > 0 else "")
            if i < number - 1:
                ax.tick_params(labelbottom=False)
            if j > 0 or i == 0:
                ax.tick_params(labelleft=False)
    pivot = short_number(float(fitted.maximum.alpha3))
    title = rf"Relation fitted to {fitted.num_halos:,} objects ({fitted.method}), pivot {pivot} {MSUN}"
    figure.suptitle(title if number > 2 else title.replace("), ", "),\n"), fontsize="medium")
    _legend(figure, axes, truth is not None, told)
    figure.align_labels()
    return figure


def _legend(figure, axes, with_truth, told) -> None:
    """Explain colours, lines and symbols: in the empty corner, or below where there is none."""
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list = [Patch(color=BLUE, alpha=0.5, lw=0, label="posterior")]
    handles += [Patch(fc=to_rgba(BLUE, 0.35), ec=BLUE, label="68 and 95 % of the posterior")] if axes.size > 1 else []
    handles.append(Line2D([], [], color=ORANGE, ls="--", label="prior, where it is in the panel"))
    handles += [Line2D([], [], color=BLACK, lw=0.8, label="truth")] if with_truth else []
    handles += [Line2D([], [], lw=0, label=text) for text in told]
    if axes.shape[0] > 2:
        corner = axes[0, -1].get_subplotspec().get_position(figure)
        figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.99, corner.y1), fontsize=8)
    else:
        figure.legend(handles=handles, loc="outside lower center")


def _marginal(ax, values, fitted, name, side):
    """Draw the histogram of one parameter, and its prior."""
    mean, sd = fitted.mean[name], fitted.sd[name]
    grid = np.linspace(mean - 4 * sd, mean + 4 * sd, 200)
    ax.hist(values, bins=_BINS, range=(grid[0], grid[-1]), weights=fitted.weights, density=True, color=BLUE, alpha=0.5)
    wide = fitted.prior_sd[name]
    if name in fitted.prior_curve and wide < 20 * sd:
        ax.plot(*fitted.prior_curve[name], color=ORANGE, linestyle="--")
    title = f"{mean:.4g} $\\pm$ {sd:.2g}\nprior {fitted.prior_mean[name]:.4g} $\\pm$ {wide:.2g}"
    ax.set_title(title, fontsize=7, loc=side)
    ax.set_yticks([])


def _pair(ax, x, y, weights):
    """Draw the 68 and 95 % regions of two parameters."""
    found = _smooth_density(x, y, weights)
    if found is None:  # too few draws for regions
        ax.plot(x, y, ".", color=BLUE, markersize=2)
        return
    x_grid, y_grid, density = found
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = [ordered[np.searchsorted(held, level)] for level in _LEVELS]
    ax.contourf(x_grid, y_grid, density, levels=[*levels, density.max() * 1.01], colors=[BLUE, BLUE], alpha=0.35)
    ax.contour(x_grid, y_grid, density, levels=levels, colors=BLUE, linewidths=0.8)


def _smooth_density(x, y, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Give nodes of both parameters and the density there, (y, x); None where the draws are too few or on a line.

    Gaussian kernels about draws that are first shrunk to their mean, so that mean and covariance stay those of the
    draws however wide the kernels are (West 1993, JRSS B 55, 409).
    """
    share = np.full(x.size, 1 / x.size) if weights is None else np.asarray(weights, np.float64) / np.sum(weights)
    draws = np.stack([x, y]).astype(np.float64)
    mean = draws @ share
    covariance = (draws - mean[:, None]) * share @ (draws - mean[:, None]).T
    effective = 1 / np.sum(share**2)
    spread = np.sqrt(np.diag(covariance))
    if effective < _FEWEST or not np.linalg.det(covariance) > 1e-6 * np.prod(spread) ** 2:
        return None
    # A little wider than Scott's rule, n^(-1/6), so that contours show the shape and not single draws.
    width = min(1.3 * effective ** (-1 / 6), 0.9)
    centres = mean[:, None] + np.sqrt(1 - width**2) * (draws - mean[:, None])
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)) / width
    grids = [m + s * np.linspace(-4.5, 4.5, _NODES) for m, s in zip(mean, spread, strict=True)]
    nodes = whiten @ np.stack([grid.ravel() for grid in np.meshgrid(*grids)])
    at = whiten @ centres
    squared = (nodes**2).sum(axis=0)[:, None] + (at**2).sum(axis=0) - 2 * nodes.T @ at
    return *grids, (np.exp(-0.5 * squared) @ share).reshape(_NODES, _NODES)
