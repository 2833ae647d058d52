"""Figure of a published relation: the observable against mass, with the range that it was measured in."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from massmap_jax.figures.style import BLUE, COLUMN, GREY, MSUN, SKY_BLUE, mass_symbol, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.relation.presets import Preset


@styled
def published_relation_figure(
    preset: "Preset", ln_mass: Float[np.ndarray, "mass"], ln_value: Float[np.ndarray, "mass"]
) -> "Figure":
    """Draw the median of a published relation and its scatter, the range of masses it was measured in shaded.

    Parameters
    ----------
    preset : Preset
        The relation.
    ln_mass : Float[np.ndarray, "mass"]
        ln of the mass [ln Msun].
    ln_value : Float[np.ndarray, "mass"]
        ln of the observable, in the preset's unit.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, unknown to pyplot.
    """
    figure = new_figure(COLUMN, 2.9)
    ax = figure.subplots()
    mass, value = np.exp(ln_mass), np.exp(ln_value)
    ax.axvspan(*preset.mass_range, color=GREY, alpha=0.15, linewidth=0, label="measured here")
    scatter = preset.parameters.get("scatter")
    if scatter is not None and preset.law != "scatter_slope":
        band = np.exp(ln_value - scatter.value), np.exp(ln_value + scatter.value)
        ax.fill_between(mass, *band, color=SKY_BLUE, alpha=0.5, linewidth=0, label="scatter (68 %)")
    ax.plot(mass, value, color=BLUE, label=f"z = {np.mean(preset.redshift_range):.2g}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(mass[0], mass[-1])
    ax.set_xlabel(f"halo mass ${mass_symbol(preset.mass_definition)}$ [{MSUN}]")
    ax.set_ylabel(f"observable [{preset.lum_unit}]" if preset.lum_unit else "observable (a ratio)")
    ax.set_title(f"{preset.name}\n{preset.observable}", fontsize=7, wrap=True)
    ax.legend(loc="upper left", fontsize=6.5)
    return figure
