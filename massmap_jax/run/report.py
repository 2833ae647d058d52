"""The report of a run on one HTML page that needs no other file: the results first, what was asked for last.

It is made of what the run wrote: its record (run.json), the table of masses and the figures. It does not contain times,
so the same run gives the same bytes; times are in run.json.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.flags import REASONS, UNUSABLE, Flag
from massmap_jax.figures.style import LN10
from massmap_jax.html_table import html_table
from massmap_jax.relation.fitted import DESCRIPTIONS
from massmap_jax.run.citations import citations
from massmap_jax.run.misfit import CHECK_LEVEL, is_of_the_brightest
from massmap_jax.run.options import JobOptions

if TYPE_CHECKING:
    from massmap_jax.run.job import JobResult

_MOST_MASSIVE = 10
_PARAMETERS = {
    "alpha1": "ln L at the pivot mass, z = 0",
    "alpha2": "slope d ln L / d ln M",
    "alpha4": "exponent of (1 + z)",
    "scatter": "standard deviation of ln L at fixed mass",
}
# Figure -> the section it stands in, and what it shows.
_FIGURES = {
    "relation": ("relation", "Posterior of the relation: 68 and 95 % regions; prior dashed where it is narrow enough."),
    "calibration": (
        "relation",
        "Measured masses and the relation with its 68 % band and scatter; residuals; the fitted population.",
    ),
    "calibrators_check": (
        "relation",
        "Each measured mass as the others predict it: a curve outside of its band is a misfit.",
    ),
    "posterior_panel": ("masses", "The prior, and posteriors of objects from faint to bright; 68 % intervals shaded."),
    "field_of_view": ("masses", "The field: radius as the cube root of the posterior mass, colour the redshift."),
    "truth_maps": (
        "map",
        "Truth and posterior mean of the halos at z < 1, drawn at their own size; the error of each pixel, and how "
        "surely it differs from the average of the field.",
    ),
    "mass_map": ("map", "Mean of the map's coherent draws, each pixel's mass with what all objects share."),
    "map_panels": ("map", "Mean, relative error, and objects in the pixels."),
    "map_slices": ("map", "Mean in each redshift slice."),
    "convergence": ("map", "Convergence of the catalogued halos, from the same mass draws."),
    "predicted_vs_true": ("truth", "Posterior median against true mass."),
    "pit_histograms": ("truth", "Posterior probability below the true mass by luminosity: flat if calibrated."),
}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --warn: #d55e0022; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem 1.2rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin-bottom: .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; margin-top: 2.2rem; }
.key { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none; }
.key li { background: var(--soft); border-radius: .4rem; padding: .5rem .9rem; }
.key b { display: block; font-size: 1.25rem; }
.problems { background: var(--warn); border-left: 4px solid #d55e00; padding: .5rem 1rem; }
.misfit { background: #d0000022; border: 3px solid #d00000; border-radius: .4rem; padding: .7rem 1rem; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { font-weight: 600; white-space: nowrap; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: .3rem; }
figcaption, .note { font-size: .9rem; opacity: .85; }
nav a { margin-right: 1rem; }
@media print { nav { display: none; } body { max-width: none; font-size: 11px; } }
"""


def html_report(record: Mapping, result: JobResult, figures: Mapping[str, bytes]) -> str:
    """Write the page.

    Parameters
    ----------
    record : Mapping
        The content of run.json.
    result : JobResult
        Masses, map and fit of the run.
    figures : Mapping of str to bytes
        PNG files by the names of `massmap_jax.plot.standard_figures`. Missing figures are left out.

    Returns
    -------
    str
        The HTML text.
    """
    columns = result.table()
    sections = {
        "map": ("Mass map", _map(record)),
        "masses": ("Masses", _masses(record, columns)),
        "data": ("Rows, flags and notes", _data(record)),
        "truth": ("Against the true masses", _truth(columns, result.posterior.catalogue.truth_ln_mass)),
        "relation": ("Relation of mass and luminosity", _relation(record, result)),
        "cite": ("How to cite", _cite(record)),
        "run": ("What was run", _run(record)),
    }
    body = {}
    for name, (title, text) in sections.items():
        shown = [_figure(figures[f], f, caption) for f, (s, caption) in _FIGURES.items() if s == name and f in figures]
        if text or shown:
            body[name] = f'<section id="{name}"><h2>{title}</h2>\n{text}\n{"".join(shown)}</section>'
    links = "".join(f'<a href="#{name}">{sections[name][0]}</a>' for name in body)
    title = f"Halo masses: {record.get('catalogue', 'catalogue')}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{_key_figures(record)}{_problems(record)}\n"
        f"<nav>{links}</nav>\n" + "\n".join(body.values()) + "\n</body></html>\n"
    )


# -- sections ------------------------------------------------------------------------------------------------


def _key_figures(record) -> str:
    """List the key numbers at the top of the page."""
    found = [(f"{record['rows_with_mass']:,}", f"of {record['rows']:,} rows with a mass")]
    if record["median_sd_log10_mass"] is not None:
        found.append((f"{record['median_sd_log10_mass']:.3f} dex", "median error bar of log10 M"))
    if mapped := record["map"]:
        total, sd = mapped["total_mass_msun"], mapped["total_sd_msun"]
        found.append((f"{total:.3e} ± {sd:.1e}", "total mass on the map [Msun]"))
    items = "".join(f"<li><b>{escape(value)}</b>{escape(text)}</li>" for value, text in found)
    return f'<ul class="key">{items}</ul>'


def _problems(record) -> str:
    """Put a red box at the top if a misfit was accepted; below it problems of the sampling, or of a given relation, and
    an extrapolation of a published one."""
    misfits = record.get("misfits") or []
    problems = list(record["fit"]["problems"]) if record["fit"] else []
    check = record.get("prior_check")
    # Of a given relation the notes say so where selected objects are brighter, which is no problem.
    selected = record["fit"] is None and bool(check) and is_of_the_brightest(check["mean_pit"])
    if check and not misfits and not selected and check["p_value"] < CHECK_LEVEL:
        problems.append(
            f"prior and relation do not predict the observed luminosities (p = {check['p_value']:.1e}): the notes say "
            "what to look at"
        )
    outside = record.get("flags", {}).get("OUTSIDE_RELATION", 0)
    if outside > 0.5 * record["rows"]:
        problems.append(
            f"{outside:,} of {record['rows']:,} objects lie outside the masses or redshifts that the published relation"
            " was measured for (OUTSIDE_RELATION): their masses are an extrapolation of it"
        )
    box = ""
    if misfits:
        box = (
            '<div class="misfit"><b>The fitted relation does not describe this catalogue. These masses were written '
            f"because --accept-misfit was given: do not use them as measurements.</b>{_list(misfits)}</div>"
        )
    return box + (f'<div class="problems">{_list(problems)}</div>' if problems else "")


def _run(record) -> str:
    """Tabulate what was run: program, options and columns."""
    rows = [
        ("program", f"{record['program']} {record['version']}"),
        ("mass", f"{record['mass_definition']}, {record['mass_unit']}"),
        ("prior", record["prior"]),
        ("relation", f"{record['relation']}: {record['relation_source']}"),
        ("weights of its draws", record["relation_from"]),
        ("selection", record["selection"]),
        ("method", record["method"]),
        ("seed", record["seed"]),
        ("computed on", _device(record["device"]) + (", float64" if record["float64"] else ", float32")),
        ("versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())),
    ]
    usual, given = _flat(asdict(JobOptions())), _flat(record["options"])
    rows += [(f"option {name}", value) for name, value in given.items() if value != usual.get(name)]
    rows += [(f"column {name}", value) for name, value in record.get("columns", {}).items() if value is not None]
    if read := record.get("columns_read"):
        rows.append(("columns read", ", ".join(f"{name}: {column}" for name, column in read.items())))
    rows += [(f"sha256 of {name}", found["sha256"]) for name, found in record.get("inputs", {}).items()]
    return html_table(None, rows)


def _data(record) -> str:
    """Describe the rows and their flags, and list the notes."""
    flags = [
        (name, f"{rows:,}", REASONS[Flag[name]], "no mass" if Flag[name] & UNUSABLE else "mass reported")
        for name, rows in record["flags"].items()
    ]
    text = f"<p>{record['rows']:,} rows, {record['rows_with_mass']:,} with a mass; luminosity unit: "
    text += f"{escape(str(record['luminosity_unit']))}.</p>"
    if found := record.get("mass_likelihoods"):
        have = "are in" if found["from"].startswith("stacked") else "have a mass likelihood, of"
        text += f"<p>{found['objects']:,} objects {have} {found['from']} in "
        text += f"{escape(found['file'])}.</p>"
    text += html_table(("flag", "rows", "meaning", ""), flags) if flags else "<p>No row is flagged.</p>"
    return text + (f'<div class="note">Notes of the run:{_list(record["notes"])}</div>' if record["notes"] else "")


def _relation(record, result) -> str:
    """Tabulate the parameters of the relation."""
    if fit := record["fit"]:
        rows = []
        for name, mean in fit["mean"].items():
            prior_sd = fit["prior_sd"][name]
            prior = f"{fit['prior_mean'][name]:.4g}" + ("" if prior_sd is None else f" ± {prior_sd:.2g}")
            what = _PARAMETERS.get(name) or DESCRIPTIONS.get(name) or _of_another(name, record)
            rows.append((name, what, f"{mean:.5g} ± {fit['sd'][name]:.2g}", prior))
        text = f"<p>Fitted to {fit['objects']:,} objects ({escape(fit['method'])}), every mass marginalised; "
        text += f"pivot mass {fit['alpha3']:.4g} Msun; selection: {escape(fit['selection'])}.</p>"
        if calibrated := record.get("calibrators_check"):
            text += f"<p>Calibrated on {calibrated['calibrators']:,} measured masses, chosen "
            chosen = calibrated["chosen_by"]
            text += f"{'at random' if chosen == 'random' else 'by ' + escape(chosen)}; all masses share an error of "
            text += f"{calibrated['shared_error_ln_mass']:.3f} in ln M. Check of the calibrators: p = "
            text += f"{calibrated['p_value']:.2g}"
            text += f" ({escape(calibrated['left_out'])})" if calibrated["left_out"] else ""
            text += f". The masses ({escape(calibrated['mass_definition'])}) are from "
            text += f"{escape(record['options']['calib_file'] or 'the catalogue')}.</p>"
        if check := record["prior_check"]:
            text += f"<p>{escape(check['summary'])}</p>"
        text += html_table(("parameter", "", "posterior", "prior"), rows)
        return text + _observables(record) + _cosmology(record)
    relation = result.posterior.relation
    held = {name: np.asarray(getattr(relation, name)) for name in _PARAMETERS if hasattr(relation, name)}
    lines = [
        (name, _PARAMETERS[name], f"{v.mean():.5g}" + (f" ± {v.std():.2g}" if v.size > 1 else ""))
        for name, v in held.items()
    ]
    text = f"<p>{escape(str(record['relation_source']))}; draws: {relation.num_draws}.</p>"
    text += html_table(("parameter", "", "mean ± sd of the draws"), lines) if lines else ""
    return text + _observables(record) + _cosmology(record)


def _cosmology(record) -> str:
    """Describe the cosmologies that the draws of the relation were paired with."""
    if not (cosmology := record.get("cosmology_draws")):
        return ""
    told = escape(cosmology["summary"]).replace("+-", "±")
    return f"<p>Each draw has a mass function of its own, from draws of the cosmology: {told}.</p>"


def _of_another(name: str, record) -> str:
    """Describe a parameter of the relation of a further observable; nothing for other parameters."""
    for other in (record.get("observables") or {}).get("by_name", {}):
        if (own := name.removesuffix(f"_{other}")) != name and own in _PARAMETERS:
            return re.sub(r"\bln L\b", f"ln {other}", _PARAMETERS[own])
    return ""


def _observables(record) -> str:
    """Tabulate the further observables: how many objects have each, its relation, and the correlated scatters."""
    told = record.get("observables")
    if told is None:
        return ""
    head = ("observable", "unit", "measured", "upper limits", "lower limits", "missing")
    counts, laws = [], []
    for name, found in told["by_name"].items():
        numbers = (f"{found[kind.replace(' ', '_')]:,}" for kind in head[2:])
        counts.append((name, found["unit"] or "not stated", *numbers))
        values = (f"{one['mean']:.4g} ± {one['sd']:.2g}" for one in found["relation"].values())
        laws.append((name, *values, f"{found['alpha3']:.4g} Msun"))
    text = "<p>Further observables, each with a relation ln y = alpha1 + alpha2 ln(M / alpha3) + evolution, and a "
    text += f"scatter at fixed mass:</p>{html_table(head, counts)}"
    text += html_table(("observable", *next(iter(told["by_name"].values()))["relation"], "alpha3"), laws)
    scatters = told["scatter_correlation"]
    rows = [
        (name, *(f"{mean:.2f} ± {sd:.2f}" if sd else f"{mean:.3g}" for mean, sd in zip(means, sds, strict=True)))
        for name, means, sds in zip(scatters["of"], scatters["mean"], scatters["sd"], strict=True)
    ]
    return text + "<p>Correlation of their scatters:</p>" + html_table(("", *scatters["of"]), rows)


def _masses(record, columns) -> str:
    """Describe the masses, and tabulate the most massive objects."""
    log10_mass = columns["log10_mass_mean"]
    usable = np.flatnonzero(np.isfinite(log10_mass))
    if usable.size == 0:
        return "<p>No object has a mass.</p>"
    definition = escape(record["mass_definition"])
    levels = np.quantile(log10_mass[usable], [0, 0.16, 0.5, 0.84, 1])
    text = f"<p>Posterior means of log10(M/Msun), {definition} masses without h: from {levels[0]:.2f} to "
    text += f"{levels[4]:.2f}, the middle 68 % of objects from {levels[1]:.2f} to {levels[3]:.2f}.</p>"
    top = usable[np.argsort(-log10_mass[usable], kind="stable")][:_MOST_MASSIVE]
    shown = [name for name in ("id", "ra", "dec", "x", "y", "z") if name in columns]
    low, high = "log10_mass_q16", "log10_mass_q84"
    rows = [
        tuple(_cell(columns[name][row], name) for name in shown)
        + (f"{log10_mass[row]:.3f} ± {columns['log10_mass_sd'][row]:.3f}",)
        + ((f"{columns[low][row]:.3f} to {columns[high][row]:.3f}",) if low in columns and high in columns else ())
        for row in top
    ]
    head = (*shown, "log10(M/Msun)", "68 % interval")[: len(rows[0])]
    if circle := record.get("circle"):
        text += f"<p>In the circle of {circle['radius_arcmin']:g} arcmin about ({circle['ra']:g}, {circle['dec']:g}): "
        text += f"{circle['objects']:,} objects, {circle['mass_msun']:.4e} ± {circle['sd_msun']:.2e} Msun.</p>"
    return text + f"<p>The most massive:</p>{html_table(head, rows)}"


def _map(record) -> str:
    """Tabulate the map's total, pixels and slices."""
    mapped = record["map"]
    if mapped is None:
        return ""
    rows = [
        ("total mass", f"{mapped['total_mass_msun']:.4e} ± {mapped['total_sd_msun']:.2e} Msun"),
        ("objects", f"{mapped['objects']:,} on the map, {mapped['outside']:,} outside"),
        ("pixels", f"{' x '.join(map(str, mapped['shape']))}, {mapped['pixel_arcmin']:.4g} arcmin, "
                   f"{mapped['projection']}"),
        ("unit", mapped["unit"]),
        ("effective relation draws", mapped["relation_ess"]),
    ]  # fmt: skip
    if mapped["smoothed_arcmin"] is not None:
        rows.append(("smoothed to", f"{mapped['smoothed_arcmin']:g} arcmin FWHM"))
    if mapped["halo_profile"] is not None:
        rows.append(("halos", f"projected {mapped['halo_profile'].upper()} profiles of their drawn masses"))
    if lensed := record["convergence"]:
        kappa = f"sources at z = {lensed['source_redshift']:g}, {lensed['n_lenses']:,} lenses, largest mean "
        rows.append(("convergence", f"{kappa}{lensed['largest_mean']:.3g}; {lensed['profile'].upper()} profiles"))
    text = html_table(None, rows)
    if "slice_mass_msun" in mapped:
        edges, total = mapped["redshift_edges"], zip(mapped["slice_mass_msun"], mapped["slice_sd_msun"], strict=True)
        slices = [
            (f"{low:g} to {high:g}", f"{mass:.4e} ± {sd:.2e}")
            for low, high, (mass, sd) in zip(edges[:-1], edges[1:], total, strict=True)
        ]
        text += html_table(("redshift", "mass [Msun]"), slices)
    return text


def _truth(columns, truth) -> str:
    """Compare the masses with the true ones, if these are known."""
    if truth is None:
        return ""
    log10_true = truth / LN10
    known = np.isfinite(log10_true) & np.isfinite(columns["log10_mass_mean"])
    if not known.any():
        return ""
    rows = []
    for share, low, high in ((68, "q16", "q84"), (95, "q025", "q975")):
        names = (f"log10_mass_{low}", f"log10_mass_{high}")
        if set(names) <= set(columns):
            held = ((log10_true >= columns[names[0]]) & (log10_true <= columns[names[1]]))[known]
            error = 100 * np.sqrt(share / 100 * (1 - share / 100) / held.size)
            rows.append((f"{share} %", f"{100 * held.mean():.2f} %", f"± {error:.2f} % if objects were independent"))
    score = (columns["log10_mass_mean"] - log10_true)[known]
    text = f"<p>{known.sum():,} objects with a true mass: posterior mean less truth {score.mean():+.4f} dex on "
    text += f"average, {score.std():.3f} dex scatter.</p>"
    return text + html_table(("interval", "holds the truth", "expected scatter"), rows)


def _cite(record) -> str:
    """List the references."""
    return _list(citations(record))


# -- pieces --------------------------------------------------------------------------------------------------


def _list(lines: Iterable[str]) -> str:
    """Make a list of escaped lines."""
    return "<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in lines) + "</ul>"


def _figure(png: bytes, name: str, caption: str) -> str:
    """Embed a figure with its caption."""
    data = base64.b64encode(png).decode()
    alt = escape(f"{name.replace('_', ' ')}: {caption}")
    image = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _cell(value, name) -> str:
    """Format a value of a table."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if not isinstance(value, (float, np.floating)):
        return str(value)
    return f"{value:.5f}" if name in ("ra", "dec") else f"{value:.4g}"


def _device(device: Mapping) -> str:
    """Name the devices: 'cpu', or '2 x gpu (NVIDIA H100)'."""
    kind, platform, number = (device[name] for name in ("kind", "platform", "count"))
    text = platform if kind == platform else f"{platform} ({kind})"
    return text if number == 1 else f"{number} x {text}"


def _flat(options: Mapping) -> dict:
    """Options by name, those of the prior as prior.NAME; tuples as JSON gives them back."""
    flat: dict = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat
