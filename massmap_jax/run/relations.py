"""Lists and descriptions of the published relations (`massmap-jax relations`)."""

from pathlib import Path

import numpy as np

from massmap_jax.choices import PRESETS as OWN
from massmap_jax.relation.presets import AT_FIXED_OBSERVABLE, PRESETS, Preset, find_preset

_WIDTH, _HEIGHT = 61, 13
_LN10 = float(np.log(10.0))


def list_relations() -> str:
    """List the published relations, one on each line, with the mass definition and the scatter.

    Returns
    -------
    str
        The text of `massmap-jax relations`.
    """
    rows = [("name", "masses", "observable [unit]", "scatter")]
    for preset in PRESETS.values():
        scatter = preset.parameters.get("scatter")
        told = "to be given" if scatter is None else f"{scatter.value:.3g}"
        unit = f" [{preset.lum_unit}]" if preset.lum_unit else ""
        rows.append((preset.name, preset.mass_definition, preset.observable + unit, told))
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines = [f"{name:{widths[0]}}  {masses:{widths[1]}}  {told:13}  {what}" for name, masses, what, told in rows]
    return "\n".join(
        [
            "Published relations: the observable at fixed mass, scatter in ln of the observable.",
            "",
            *lines,
            "",
            "massmap-jax relations NAME shows one with its source; run --relation NAME uses it. Other choices of "
            f"--relation: fit, identity, a file of draws, {', '.join(OWN)} (the mocks of 2017).",
            f"Published as the mass at fixed observable, and so not usable here: {', '.join(AT_FIXED_OBSERVABLE)}.",
        ]
    )


def show_relation(name: str, figure: Path | None = None) -> str:
    """Show one published relation: form, parameters, range, source, and a plot of the observable against mass.

    Parameters
    ----------
    name : str
        Name of the relation.
    figure : Path, optional
        File to write a picture of the plot to.

    Returns
    -------
    str
        The text of `massmap-jax relations NAME`.

    Raises
    ------
    MassmapError
        For an unknown name.
    """
    preset = find_preset(name)
    (least, most), (near, far) = preset.mass_range, preset.redshift_range
    lines = [
        f"{preset.name}: {preset.observable}",
        f"  published      {preset.published}",
        f"  unit           {preset.lum_unit or 'none (a ratio)'}",
        f"  masses         {preset.mass_definition}, Msun without h, {least:.3g} to {most:.3g}",
        f"  redshifts      {near:g} to {far:g}",
        f"  cosmology      {preset.cosmology}",
        f"  selection      {preset.selection}",
        f"  source         {preset.source}",
        "  in natural logarithms, ln O at fixed mass:",
        f"    alpha3       {preset.alpha3:.5g} Msun (pivot)",
    ]
    for parameter, value in preset.parameters.items():
        if value is None:
            lines.append(f"    {parameter:12} not published: give --relation-scatter MEAN:SD")
        else:
            error = f" +- {value.sd:.3g}" if value.sd else " (no error published)"
            lines.append(f"    {parameter:12} {value.value:.5g}{error}")
    lines += [f"  note           {note}" for note in preset.notes]
    ln_mass, ln_value = curve(preset)
    lines += ["", *_text_plot(preset, ln_mass, ln_value)]
    if figure is not None:
        from massmap_jax.figures.published import published_relation_figure

        drawn = published_relation_figure(preset, ln_mass, ln_value)
        drawn.savefig(figure, dpi=150)
        lines.append(f"figure in {figure}")
    return "\n".join(lines)


def curve(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate a published relation in the middle of its redshifts, from half a decade below its masses to half a
    decade above.

    Parameters
    ----------
    preset : Preset
        The relation.

    Returns
    -------
    ln_mass : Float[np.ndarray, "mass"]
        ln of the mass [ln Msun].
    ln_value : Float[np.ndarray, "mass"]
        ln of the observable, in its unit.
    """
    from massmap_jax.relation.presets import Value
    from massmap_jax.relation.published import published_relation

    relation = published_relation(preset.name, scatter=Value(0.2) if preset.needs_scatter else None)
    low, high = np.log(preset.mass_range)
    ln_mass = np.linspace(low - 0.5 * _LN10, high + 0.5 * _LN10, _WIDTH)
    return ln_mass, np.asarray(relation.mean_ln_lum(ln_mass, np.mean(preset.redshift_range)), dtype=np.float64)


def _text_plot(preset: Preset, ln_mass: np.ndarray, ln_value: np.ndarray) -> list[str]:
    """Plot the curve in characters: # within the range of masses, . outside of it."""
    low, high = np.log(preset.mass_range)
    rows = np.round((ln_value - ln_value.min()) / np.ptp(ln_value) * (_HEIGHT - 1)).astype(int)
    inside = (ln_mass >= low) & (ln_mass <= high)
    canvas = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for column, row in enumerate(rows):
        canvas[_HEIGHT - 1 - row][column] = "#" if inside[column] else "."
    labels = [f"{value:8.2f} |" for value in np.linspace(ln_value.max(), ln_value.min(), _HEIGHT) / _LN10]
    plot = [label + "".join(line).rstrip() for label, line in zip(labels, canvas, strict=True)]
    ends = f"{ln_mass[0] / _LN10:.2f}", f"{ln_mass[-1] / _LN10:.2f}"
    unit = f" [{preset.lum_unit}]" if preset.lum_unit else ""
    return [
        f"  log10 of the observable{unit} at z = {np.mean(preset.redshift_range):.2g} (# within the range of masses)",
        *plot,
        " " * 9 + "+" + "-" * _WIDTH,
        " " * 10 + ends[0] + "log10 (M / Msun)".center(_WIDTH - len(ends[0]) - len(ends[1])) + ends[1],
    ]
