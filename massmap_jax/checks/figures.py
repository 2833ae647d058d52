"""Figures of `checks`: the ECDF of PITs minus the diagonal with simultaneous bands, and coverages by bin.

matplotlib is imported when a function is called, and figures are not registered with pyplot.
"""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.checks.bins import NOMINAL, p_text
from massmap_jax.checks.ecdf_bands import ecdf_at, ecdf_bands
from massmap_jax.figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREY,
    PAGE,
    SKY_BLUE,
    VERMILLION,
    count_text,
    new_figure,
    plain_text,
    short_number,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from massmap_jax.checks.calibration import CalibrationCheck
    from massmap_jax.checks.calibrators import CalibratorsCheck
    from massmap_jax.checks.prior_check import PriorCheck

_FINE = np.linspace(0, 1, 401)
_LABEL = 7  # points; 115 letters fit across the page
_HOW_TO_READ = (
    "How to read this: inside the band, as predicted; above 0, {what} lower than predicted, below, higher; "
    "first above, then below: errors too small"
)


def _label(pit: str, what: str, width: int = 115) -> str:
    """Label of the axis of PITs, and how to read the curves."""
    return f"{pit}\n" + textwrap.fill(_HOW_TO_READ.format(what=what), width)


def _of_shape(check) -> str:
    """The p value of the shape where it decides, which no panel shows."""
    return f"; shape of the scatter: {p_text(check.p_shape)}" if check.p_shape < check.p_place else ""


@styled
def prior_check_figure(check: "PriorCheck") -> "Figure":
    """Draw the result of `prior_check`: all objects, then bins of redshift.

    Parameters
    ----------
    check : PriorCheck
        The result.

    Returns
    -------
    matplotlib.figure.Figure
        ECDF of the PITs minus the diagonal: a curve that leaves its band is the alarm.
    """
    groups = [("all redshifts", check.pit[np.isfinite(check.pit)], check.p_all)]
    if check.p_bins.size > 1:
        groups += [
            (f"$z$ from {low:.2f} to {high:.2f}", check.pit[check.bin_index == b], check.p_bins[b])
            for b, (low, high) in enumerate(check.redshift_range)
        ]
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(PAGE if columns > 1 else COLUMN, 1.9 * rows + (0.85 if columns > 1 else 1.1))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, pit, p) in zip(axes, groups, strict=False):
        ecdf_axes(ax, pit, check.level / len(groups))
        ax.set_title(f"{title}\n{count_text(pit.size)}, {p_text(p)}")
    for ax in axes[len(groups) :]:
        ax.remove()
    pit_text = r"PIT: predicted probability of a luminosity below $L_\mathrm{obs}$"
    figure.supxlabel(_label(pit_text, "luminosities", 115 if columns > 1 else 55), fontsize=_LABEL)
    figure.supylabel("ECDF of PIT minus uniform", fontsize=8)
    title = _title("the model fits" if check.fits else "the model does not fit", check, columns, _of_shape(check))
    figure.suptitle(title)
    return figure


@styled
def calibrators_check_figure(check: "CalibratorsCheck") -> "Figure":
    """Draw the result of `calibrators_check`: one panel for each kind of prediction.

    Parameters
    ----------
    check : CalibratorsCheck
        The result.

    Returns
    -------
    matplotlib.figure.Figure
        ECDF of the PITs minus the diagonal: a curve that leaves its band is the alarm.
    """
    mass, lum = r"$M_\mathrm{obs}$", r"$L_\mathrm{obs}$"
    titles = (f"{mass} given {lum}, $z$", f"{lum} given $z$", f"{mass} given $z$")[: len(check.kinds)]
    figure = new_figure(PAGE if len(titles) > 1 else COLUMN, 2.75)
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for ax, title, pit, p in zip(axes, titles, check.pit, check.p_values, strict=True):
        ecdf_axes(ax, pit, check.level / len(titles))
        ax.set_title(f"{title}\n{count_text(pit.size)}, {p_text(p)}")
    pit_text = "PIT: probability of a lower value, as the other objects predict it"
    figure.supxlabel(_label(pit_text, "values", 115 if len(titles) > 1 else 55), fontsize=_LABEL)
    figure.supylabel("ECDF of PIT minus uniform", fontsize=8)
    title = f"{check.verdict} the measured masses ({p_text(check.p_value)}{_of_shape(check)})"
    figure.suptitle(textwrap.fill(title, 200 if len(titles) > 1 else 45))
    return figure


@styled
def calibration_check_figure(check: "CalibrationCheck") -> "Figure":
    """Draw the result of `calibration_check`: all objects and the coverages on top, bins below.

    Parameters
    ----------
    check : CalibrationCheck
        The result.

    Returns
    -------
    matplotlib.figure.Figure
        Bins of redshift are rows, and the bins of L_obs within them columns.
    """
    side = round(np.sqrt(check.number.size - 1))
    side = side if side > 1 else 0
    groups = side**2 + 1
    columns = 6 if side == 0 else 2 * side
    figure = new_figure(PAGE, 2.3 + 1.8 * side + 0.65)
    grid = figure.add_gridspec(1 + side, columns)
    ax = figure.add_subplot(grid[0, : columns // 2])
    ecdf_axes(ax, check.pit[np.isfinite(check.pit)], check.level / groups)
    ax.set_title(f"all: {count_text(check.number[0])}, {p_text(check.p_values[0])}")
    _coverage_axes(figure.add_subplot(grid[0, columns // 2 :]), check)
    for b in range(side**2):
        ax = figure.add_subplot(grid[1 + b // side, 2 * (b % side) : 2 * (b % side) + 2])
        ecdf_axes(ax, check.pit[check.bin_index == b], check.level / groups)
        (z_low, z_high), lum = check.redshift_range[1 + b], check.lum_range[1 + b]
        ax.set_title(
            f"{b + 1}: $z$ {z_low:.2f} to {z_high:.2f}, {p_text(check.p_values[1 + b])}\n"
            rf"$L_\mathrm{{obs}}$ {short_number(lum[0])} to {short_number(lum[1])}"
        )
    figure.supxlabel(_label("PIT: posterior probability below the true mass", "masses"), fontsize=_LABEL)
    figure.supylabel("ECDF of PIT minus uniform", fontsize=8)
    verdict = "posteriors are calibrated" if check.calibrated else "posteriors are not calibrated"
    if check.shared_relation:
        verdict = "all objects share the relation's error: p values do not hold\n"
    title = _title(verdict, check, 3)
    if side and check.lum_unit:
        title += rf"; $L_\mathrm{{obs}}$ in {plain_text(check.lum_unit)}"
    figure.suptitle(title)
    return figure


def ecdf_axes(ax: "Axes", pit: np.ndarray, level: float) -> None:
    """Draw the ECDF of some values minus the diagonal, with the band that holds it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    pit : Float[np.ndarray, "n"]
        Values that should be uniform on [0, 1].
    level : float
        The band holds the whole ECDF with probability 1 - level.
    """
    bands = ecdf_bands(pit.size, level)
    ends = np.concatenate([[0.0], bands.points, [1.0]])
    low, high = (np.concatenate([[0.0], side - bands.points, [0.0]]) for side in (bands.low, bands.high))
    ax.fill_between(ends, low, high, color=SKY_BLUE, alpha=0.4, lw=0)
    ax.axhline(0.0, color=BLUE, lw=0.8)
    difference = ecdf_at(pit, _FINE) - _FINE
    ax.plot(_FINE, difference, color=BLACK, lw=1.0)
    at_points = ecdf_at(pit, bands.points)
    outside = (at_points < bands.low) | (at_points > bands.high)
    ax.plot(bands.points[outside], (at_points - bands.points)[outside], "o", ms=2.2, mec="none", color=VERMILLION)
    reach = 1.2 * max(np.abs(difference).max(), high.max(), -low.min(), 1e-3)
    ax.set(xlim=(0, 1), ylim=(-reach, reach))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    ax.locator_params(axis="y", nbins=5)


def _coverage_axes(ax, check) -> None:
    """Draw coverages minus their nominal values, with one standard deviation, for all objects and by bin."""
    place = np.arange(check.number.size) if check.number.size > 2 else np.zeros(1)
    for i, (nominal, colour, marker) in enumerate(zip(NOMINAL, (BLUE, VERMILLION), "os", strict=True)):
        excess = 100 * (check.coverage[: place.size, i] - nominal)
        error = 100 * check.coverage_error[: place.size, i]
        ax.errorbar(
            place + 0.2 * i - 0.1, excess, error, fmt=marker, ms=3, lw=0.9, color=colour, label=f"{nominal:.0%}"
        )
    ax.axhline(0.0, color=GREY, lw=0.8)
    ax.set_xticks(place, ["all", *(str(b) for b in range(1, place.size))])
    ax.tick_params(axis="x", which="both", length=0)
    ax.set_xlim(-0.6, place[-1] + 0.6)
    ax.margins(y=0.25)
    ax.set_title("coverage by bin; bars: 1 s.d.")
    ax.set_ylabel("minus nominal [% points]")
    ax.legend(loc="best", ncols=2)


def _title(verdict, check, columns, of_shape="") -> str:
    """Title of a figure: verdict, p value and what the bands are."""
    text = textwrap.fill(f"{verdict} ({p_text(check.p_value)} in all{of_shape})", 110 if columns > 1 else 45)
    return text + ("; " if columns > 1 and not of_shape else "\n") + f"bands: {100 * (1 - check.level):g} % together"
