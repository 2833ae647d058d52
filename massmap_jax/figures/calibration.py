"""Figure of a fit with measured masses: the calibrators and the relation, their residuals, and the population."""

from typing import TYPE_CHECKING

import jax
import numpy as np

from massmap_jax.figures.style import (
    BLACK,
    BLUE,
    GREY,
    MSUN,
    PAGE,
    SKY_BLUE,
    VERMILLION,
    label_log_axis,
    new_figure,
    plain_text,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.calibration import CalibrationMasses
    from massmap_jax.relation.joint_posterior import JointPosterior

_DRAWS = 100


@styled
def calibration_figure(
    fit: "JointPosterior", catalogue: "HaloCatalogue", prior: "MassPrior", calibration: "CalibrationMasses"
) -> "Figure":
    """Draw the calibrators with the fitted relation, their residuals in redshift, and the fitted population.

    Parameters
    ----------
    fit : JointPosterior
        The fit.
    catalogue : HaloCatalogue
        Its objects.
    prior : MassPrior
        Its mass prior.
    calibration : CalibrationMasses
        The measured masses.

    Returns
    -------
    matplotlib.figure.Figure
        Left: observed luminosity, brought to the median redshift, against measured mass; the line is the relation, the
        dark band its 68 % uncertainty, the light band adds the scatter. Middle: residuals from the relation in units of
        their expected spread. Right: histogram of the measured masses, the fitted population at the median redshift,
        and what it becomes with the errors of the masses.
    """
    rows = np.flatnonzero(np.isfinite(calibration.ln_mass) & catalogue.usable)
    z, ln_lum, ln_mass = catalogue.redshift[rows], catalogue.ln_lum_obs[rows], calibration.ln_mass[rows]
    middle = float(np.median(z))
    draws, best = fit.draws.thinned(_DRAWS), fit.maximum
    at_middle = ln_lum + np.asarray(best.ln_evolution(middle)) - np.asarray(best.ln_evolution(z))
    figure = new_figure(PAGE, 2.7)
    left, centre, right = figure.subplots(1, 3)

    line = np.linspace(ln_mass.min() - 0.3, ln_mass.max() + 0.3, 60)
    lines = np.asarray(jax.vmap(lambda r: r.mean_ln_lum(line, middle))(draws))
    mean, spread = draws.shares @ lines, np.sqrt(draws.shares @ (lines - draws.shares @ lines) ** 2)
    scatter = float(draws.shares @ draws.scatter)
    for width, colour in ((np.hypot(spread, scatter), SKY_BLUE), (spread, BLUE)):
        left.fill_between(np.exp(line), np.exp(mean - width), np.exp(mean + width), color=colour, alpha=0.4, lw=0)
    left.plot(np.exp(line), np.exp(mean), color=BLUE)
    mass_bars = np.exp(ln_mass) * (np.exp(calibration.sigma[rows]) - 1)
    lum_bars = np.exp(at_middle) * (np.exp(catalogue.sigma_ln_lum[rows]) - 1)
    corrected = np.exp(ln_mass - fit.mean.get("bias", float(np.mean(draws.measured["bias"]))))
    left.errorbar(
        corrected, np.exp(at_middle), lum_bars, mass_bars, fmt=".", color=BLACK, ms=2, elinewidth=0.3, alpha=0.5
    )
    left.set(xscale="log", yscale="log", xlim=np.exp(line[[0, -1]]))
    for axis, (low, high), most in ((left.xaxis, left.get_xlim(), 3), (left.yaxis, left.get_ylim(), 5)):
        label_log_axis(axis, low, high, most)
    left.set_xlabel(f"measured mass, bias removed [{MSUN}]")
    unit = f" [{plain_text(catalogue.lum_unit)}]" if catalogue.lum_unit else ""
    left.set_ylabel(rf"$L_\mathrm{{obs}}$ at $z = {middle:.2f}${unit}")

    bias, slope = float(best.measured["bias"]), float(best.alpha2)
    residual = ln_lum - np.asarray(best.mean_ln_lum(ln_mass - bias, z))
    variance = float(best.scatter) ** 2 + catalogue.sigma_ln_lum[rows] ** 2
    variance = variance + slope**2 * (float(best.measured["mass_scatter"]) ** 2 + calibration.sigma[rows] ** 2)
    centre.plot(z, residual / np.sqrt(variance), ".", color=BLACK, ms=3)
    for level in (-2, 0, 2):
        centre.axhline(level, color=GREY, lw=0.7, ls="-" if level == 0 else ":")
    centre.set_xlabel("redshift")
    centre.set_ylabel(r"residual of $\ln L$ in standard deviations")

    right.hist(ln_mass / np.log(10), bins="auto", density=True, color=GREY, alpha=0.4)
    fine = np.linspace(ln_mass.min() - 1.5, ln_mass.max() + 1.0, 400)
    base = np.asarray(prior.log_prob(fine, middle))
    density = np.asarray(jax.vmap(lambda r: np.e ** r.population.ln_density(base, fine, middle))(draws))
    population = draws.shares @ density
    error = np.sqrt(np.mean(calibration.sigma[rows] ** 2) + float(best.measured["mass_scatter"]) ** 2)
    kernel = np.exp(-0.5 * ((fine[:, None] - bias - fine) / error) ** 2)
    blurred = (kernel / kernel.sum(axis=0)) @ population
    log10 = np.log(10)
    right.plot(fine / log10, population * log10, color=VERMILLION, label="population")
    right.plot(fine / log10, blurred * log10, color=BLUE, ls="--", label="with the errors of the masses")
    right.set_xlabel(rf"$\log_{{10}}(M/${MSUN}$)$")
    right.set_ylabel("density per dex")
    right.set_ylim(top=1.35 * max(population.max(), blurred.max()) * log10)
    right.legend(loc="upper right")
    figure.suptitle(f"Relation calibrated on {rows.size:,} measured masses ({fit.method})")
    return figure
