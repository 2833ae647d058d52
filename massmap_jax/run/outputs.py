"""The folder of a run: tables, map, figures, report and run.json; and whether an earlier folder may be replaced."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import massmap_jax
from massmap_jax.catalogue.flags import count
from massmap_jax.catalogue.result_folder import RECORD, check_replaceable, record_of
from massmap_jax.catalogue.write import ids_change_in_fits, write_table
from massmap_jax.errors import MassmapError, first_line
from massmap_jax.posterior.columns import PROGRAM, column_info, provenance
from massmap_jax.run.observable_columns import counts_of
from massmap_jax.run.options import JobOptions
from massmap_jax.run.published_names import published_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.maps.convergence import ConvergenceMap
    from massmap_jax.maps.images import MassMap
    from massmap_jax.maps.regions import RegionMass
    from massmap_jax.prior.cosmology_draws import CosmologyDraws
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.fitted import RelationPosterior
    from massmap_jax.relation.law import MassLuminosityRelation
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.job import FitResult, JobResult


def write_outputs(
    directory: Path,
    result: JobResult,
    options: JobOptions,
    clock: Clock,
    record: dict,
    true_relation=None,
    more_figures: Mapping[str, Callable[[], Figure]] | None = None,
) -> dict:
    """Write the results of a run: masses.*, mass_map.fits, figures/, report.html, run.json, and a fitted relation.

    Parameters
    ----------
    directory : Path
        The folder, which exists and is empty.
    result : JobResult
        The results.
    options : JobOptions
        The options of the run.
    clock : Clock
        Times the stages.
    record : dict
        What run.json says of the input.
    true_relation : MassLuminosityRelation, optional
        The relation of a simulated catalogue, shown in the figure of the fit.
    more_figures : Mapping of str to callable, optional
        By name, what draws figures beside the standard ones.

    Returns
    -------
    dict
        The content of run.json.
    """
    posterior, image, fitted = result.posterior, result.mass_map, result.fitted
    relation = posterior.relation
    meta = (
        _meta(posterior.prior, relation, posterior.catalogue, options, result.selection)
        | _warning(result.misfits)
        | {
            "relation": options.relation,
            "relation_from": result.relation_from or "one relation",
            "method": "nuts" if options.method == "nuts" else posterior.method,
        }
    )
    if meta["luminosity_unit"] == "unknown" and fitted is None:
        meta["luminosity_unit"] = relation.lum_unit or "unknown"
    cosmology = None if result.cosmology is None else _cosmology_record(result.cosmology)
    told = meta if cosmology is None else meta | {"cosmology_draws": cosmology["summary"]}
    with clock.stage("writing tables and map"):
        columns = result.table()
        if options.format == "fits" and ids_change_in_fits(columns["id"]):
            result.notes.append(
                "FITS holds ASCII only: ids with other letters are written as in 'B\\xf6hringer', and the column row, "
                "the row number from 0, joins masses.fits with the catalogue; format= another kind keeps the ids"
            )
        info = column_info(columns)
        if options.column_names is not None:
            # write_table adds the row number to a column "id" alone.
            rows = {"row": np.arange(len(posterior))} if ids_change_in_fits(columns["id"]) else {}
            columns, info = published_names(
                columns | rows, options.column_names, posterior.prior.mass_definition, posterior.catalogue.lum_unit
            )
            info["descriptions"] |= dict.fromkeys(rows, "row number from 0")
        write_table(directory / f"masses.{options.format}", columns, told, **info)
        if fitted is not None:
            _write_relation(directory, fitted, told)
        if image is not None:
            from massmap_jax.maps.files import write_map

            write_map(directory / "mass_map.fits", image, told)
        if result.convergence is not None:
            from massmap_jax.maps.convergence_files import write_convergence

            write_convergence(directory / "convergence.fits", result.convergence, told)
    pictures = []
    if options.make_figures:
        with clock.stage("figures"):
            from massmap_jax.figures.relation import relation_corner
            from massmap_jax.figures.standard import figure_makers

            makers = figure_makers(
                posterior, image, None, result.convergence, options.map_colours, picture=result.picture
            )
            makers |= more_figures or {}
            if fitted is not None:
                makers["relation"] = lambda: relation_corner(fitted, true_relation)
            makers |= _of_calibration(result, posterior.catalogue, posterior.prior)
            pictures = _write_figures(directory, makers, options, result.notes)
    found = {
        "rows": len(posterior),
        "rows_with_mass": int(posterior.usable.sum()),
        "flags": count(posterior.flag),
        "notes": result.notes,
        "map": None if image is None else map_record(image),
        "circle": None if result.circle is None else _circle_record(options.circle, result.circle),
        "convergence": None if result.convergence is None else _convergence_record(result.convergence),
        "fit": None if fitted is None else _fit_record(fitted),
        "cosmology_draws": cosmology,
        "observables": _observables_record(posterior.catalogue, relation),
        "prior_check": None if result.check is None else _check_record(result.check),
        "calibrators_check": _calibrators_record(result),
        "mass_likelihoods": _likelihoods_record(result),
        "misfits": result.misfits,
        "median_sd_log10_mass": _finite(np.nanmedian(posterior.sd[posterior.usable]) / np.log(10)),
    }
    record = full_record(record | meta | found, options, clock)
    if options.make_report:
        from massmap_jax.run.report import html_report

        shown = {path.stem: path.read_bytes() for path in pictures if path.suffix == ".png"}
        (directory / "report.html").write_text(html_report(record, result, shown), encoding="utf-8")
    return write_record(directory, record)


def write_fit_outputs(
    directory: Path, catalogue: HaloCatalogue, result: FitResult, options: JobOptions, clock: Clock, record: dict
) -> dict:
    """Write the results of a fit: relation.csv, relation.npz, populations.csv, figures/ and run.json.

    Parameters
    ----------
    directory : Path
        The folder, which exists and is empty.
    catalogue : HaloCatalogue
        The objects.
    result : FitResult
        The results.
    options : JobOptions
        The options of the run.
    clock : Clock
        Times the stages.
    record : dict
        What run.json says of the input.

    Returns
    -------
    dict
        The content of run.json.
    """
    from massmap_jax.figures.relation import relation_corner
    from massmap_jax.relation.several import names_of

    fitted = result.fitted
    seen = catalogue.seen_by(names_of(fitted.draws))
    meta = _meta(result.prior, fitted.draws, catalogue, options, result.selection) | _warning(result.misfits)
    meta |= {"relation_from": "this_catalogue"}
    cosmology = None if result.cosmology is None else _cosmology_record(result.cosmology)
    told = meta if cosmology is None else meta | {"cosmology_draws": cosmology["summary"]}
    notes = [*catalogue.notes, *result.notes, *fitted.notes]
    with clock.stage("writing tables and figures"):
        _write_relation(directory, fitted, told)
        if result.compared is not None:
            from massmap_jax.checks.populations import DESCRIPTIONS

            write_table(directory / "populations.csv", result.compared.to_table(), meta, {}, DESCRIPTIONS)
        if options.make_figures:
            makers = {"relation": lambda: relation_corner(fitted)}
            makers |= {} if result.check is None else {"prior_check": result.check.figure}
            makers |= _of_calibration(result, catalogue, result.prior)
            _write_figures(directory, makers, options, notes)
    found = {
        "rows": len(catalogue),
        "flags": count(seen.flag),
        "notes": notes,
        "fit": _fit_record(fitted),
        "observables": _observables_record(seen, fitted.draws),
        "prior_check": None if result.check is None else _check_record(result.check),
        "calibrators_check": _calibrators_record(result),
        "mass_likelihoods": _likelihoods_record(result),
        "cosmology_draws": cosmology,
        "misfits": result.misfits,
    }
    return write_record(directory, full_record(record | meta | found, options, clock))


def _of_calibration(result, catalogue: HaloCatalogue, prior: MassPrior) -> dict[str, Callable[[], Figure]]:
    """List the figures of a relation that was calibrated on measured masses, by name."""
    if result.calibrated is None:
        return {}
    from massmap_jax.figures.calibration import calibration_figure

    masses, check, _ = result.calibrated
    return {
        "calibration": lambda: calibration_figure(result.fitted, catalogue, prior, masses),
        "calibrators_check": check.figure,
    }


def _calibrators_record(result) -> dict | None:
    """Collect what run.json says of the check against measured masses."""
    if result.calibrated is None:
        return None
    check = result.calibrated.check
    return {
        "p_value": check.p_value,
        "p_place": check.p_place,
        "shape": {name: float(v) for name, v in zip(check.features, check.shape_scores, strict=True)},
        "p_shape": check.p_shape,
        "kinds": list(check.kinds),
        "left_out": check.left_out,
        "mean_pit": [float(v) for v in check.pit.mean(axis=1)],
        "mean_ln_density": check.score,
        "calibrators": int(check.rows.size),
        "shared_error_ln_mass": result.fitted.shared_error,
        "chosen_by": result.fitted.chosen_by,
        "mass_definition": result.calibrated.masses.mass_definition,
    }


def _likelihoods_record(result) -> dict | None:
    """Collect what run.json says of mass likelihoods of single objects."""
    found = result.likelihoods
    if found is None:
        return None
    about = {"objects": int(found.rows.size), "mass_definition": found.mass_definition}
    return about | {"from": found.kind, "file": found.file}


def _meta(
    prior: MassPrior, relation: MassLuminosityRelation, catalogue: HaloCatalogue, options: JobOptions, selection: str
) -> dict:
    """Collect the metadata of every file of a run."""
    return provenance(prior, relation) | {
        "selection": selection,
        "seed": options.seed,
        "luminosity_unit": catalogue.lum_unit or "unknown",
    }


def _warning(misfits: list[str]) -> dict:
    """Make the warning that every file of an accepted misfit carries."""
    return {"warning": "MISFIT ACCEPTED BY THE USER: " + "; ".join(misfits)} if misfits else {}


def write_record(directory: Path, record: dict) -> dict:
    """Write run.json, last of all: it lists the files of the folder, which alone may be overwritten.

    Parameters
    ----------
    directory : Path
        The folder.
    record : dict
        What to write.

    Returns
    -------
    dict
        The record with the files.
    """
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    record = record | {"files": [*files, RECORD]}
    (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def full_record(record: dict, options: Any, clock: Clock) -> dict:
    """Add the options and versions that made the results.

    Parameters
    ----------
    record : dict
        What is known.
    options : dataclass
        The options of the command.
    clock : Clock
        Times of the stages.

    Returns
    -------
    dict
        The record with them.
    """
    import jax

    from massmap_jax import devices

    return record | {
        "options": asdict(options),
        "seconds": clock.seconds,
        "versions": versions(),
        "device": devices.describe(),
        "float64": bool(jax.config.jax_enable_x64),
    }


def _write_figures(
    directory: Path, makers: Mapping[str, Callable[[], Figure]], options: JobOptions, notes: list[str]
) -> list[Path]:
    """Write the figures as PNG, and as PDF if asked for; return the paths. One that fails becomes a note."""
    from massmap_jax.figures.standard import save_all

    folder, formats = directory / "figures", ("png", "pdf") if options.pdf_figures else ("png",)
    paths = []
    for name, make in makers.items():
        try:
            paths += save_all({name: make()}, folder, formats=formats)
        except OSError:  # a full disk, of which the user is told
            raise
        except Exception as error:  # matplotlib's errors have no common type, and the tables are worth more
            for kind in formats:
                (folder / f"{name}.{kind}").unlink(missing_ok=True)
            notes.append(f"the figure {name} could not be drawn: {first_line(error)}")
    return paths


def _write_relation(directory: Path, fitted: RelationPosterior, meta: dict) -> None:
    """Write relation.csv, the draws that `run --relation` reads, and relation.npz, the whole posterior."""
    from massmap_jax.relation.fitted import DESCRIPTIONS

    write_table(directory / "relation.csv", fitted.to_table(), meta, {"alpha3": "solMass"}, DESCRIPTIONS)
    fitted.save(directory / "relation.npz")


def _fit_record(fitted: RelationPosterior) -> dict:
    """Collect what run.json says of a fit."""
    return {
        "method": fitted.method,
        "objects": fitted.num_halos,
        "selection": fitted.selection,
        "mean": fitted.mean,
        "sd": fitted.sd,
        "prior_mean": fitted.prior_mean,
        "prior_sd": {p: _finite(v) for p, v in fitted.prior_sd.items()},
        "alpha3": float(fitted.maximum.alpha3),
        "diagnostics": fitted.diagnostics,
        "shift_if_lowest_mass_doubles": fitted.shift_if_lowest_mass_doubles,
        "notes": list(fitted.notes),
        "problems": fitted.check(),
    }


def _cosmology_record(used: CosmologyDraws) -> dict:
    """Collect what run.json says of the cosmologies that the draws of the relation have."""
    mean, sd = used.mean, used.sd
    # A parameter that is the same in all draws has an sd of a rounding error.
    errors = {name: f" +- {sd[name]:.2g}" if sd[name] > 1e-9 * mean[name] else "" for name in mean}
    values = ", ".join(f"{name} {mean[name]:.4g}{errors[name]}" for name in mean)
    summary = f"{used.num_draws:,} draws of {used.source}: {values}"
    return {"source": used.source, "draws": used.num_draws, "mean": mean, "sd": sd, "summary": summary}


def _observables_record(catalogue: HaloCatalogue, relation) -> dict | None:
    """Collect what run.json says of the observables of a relation of several: counts, laws, correlated scatters."""
    observables = catalogue.observables
    if observables is None:
        return None
    shares = np.asarray(relation.shares)

    def told(values) -> dict[str, list]:
        values = np.broadcast_to(values, (shares.size, *np.shape(values)[1:]))
        mean = np.tensordot(shares, values, axes=1)
        return {"mean": mean.tolist(), "sd": np.sqrt(np.tensordot(shares, (values - mean) ** 2, axes=1)).tolist()}

    found = {}
    for name, law in zip(relation.names, relation.laws, strict=True):
        columns = law.columns()
        parameters = {p: told(columns[p]) for p in ("alpha1", "alpha2", "alpha4", "scatter")}
        found[name] = {
            **counts_of(observables)[name],
            "unit": observables.units.get(name, ""),
            "relation": parameters,
            "alpha3": float(np.ravel(columns["alpha3"])[0]),
        }
    names = ["luminosity", *relation.names]
    return {"by_name": found, "scatter_correlation": {"of": names} | told(np.asarray(relation.scatter_correlation))}


def _check_record(check) -> dict:
    """Collect what run.json says of the check."""
    return {
        "p_value": float(check.p_value),
        "mean_pit": float(check.mean_pit),
        "fits": bool(check.fits),
        "summary": check.summary(),
    }


def map_record(image: MassMap) -> dict:
    """Collect what run.json says of the mass map.

    Parameters
    ----------
    image : MassMap
        The map.

    Returns
    -------
    dict
        Its numbers.
    """
    record = {
        "shape": list(image.mean.shape),
        "pixel_arcmin": image.grid.pixel_arcmin,
        "projection": image.grid.projection,
        "unit": image.unit,
        "smoothed_arcmin": image.fwhm_arcmin,
        "halo_profile": image.halo_profile,
        "objects": image.n_mapped,
        "outside": image.n_outside,
        "total_mass_msun": image.total_mass,
        "total_sd_msun": image.total_sd,
        "relation_ess": round(image.ess, 1),
    }
    if image.slice_draws is not None:
        record |= {
            "redshift_edges": list(image.redshift_edges),
            "beyond_slices": image.n_beyond,
            "slice_mass_msun": image.slice_mass.tolist(),
            "slice_sd_msun": image.slice_draws.std(axis=1, ddof=1).tolist(),
        }
    return record


def _circle_record(circle: tuple[float, ...], found: RegionMass) -> dict:
    """Collect what run.json says of the mass in a circle."""
    low, high = found.quantile([0.16, 0.84])
    return dict(zip(("ra", "dec", "radius_arcmin"), circle, strict=True)) | {
        "mass_msun": found.mean,
        "sd_msun": found.sd,
        "q16_msun": float(low),
        "q84_msun": float(high),
        "draws": int(found.draws.size),
        "objects": int(found.nobj),
        "objects_without_mass": found.n_without_mass,
    }


def _convergence_record(kappa: ConvergenceMap) -> dict:
    """Collect what run.json says of the convergence map."""
    names = ("source_redshift", "profile", "truncation", "cosmology", "neglected")
    counts = ("n_lenses", "n_behind", "n_outside", "n_flagged")
    found = {name: getattr(kappa, name) for name in (*names, *counts)}
    return found | {"largest_mean": float(kappa.mean.max())}


def _finite(value: float) -> float | None:
    """Convert a number for JSON; None if it is not finite."""
    return float(value) if np.isfinite(value) else None


def versions() -> dict[str, str]:
    """List the versions of the packages that computed the numbers.

    Returns
    -------
    dict of str to str
        Version by package.
    """
    packages = ("jax", "jaxlib", "numpy", "equinox", "hmf", "astropy", "pyarrow", "matplotlib")
    found = {"massmap_jax": massmap_jax.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_output(directory: Path, overwrite: bool, *inputs: str | None) -> None:
    """Refuse an output folder before any work is done.

    Parameters
    ----------
    directory : Path
        The folder.
    overwrite : bool
        Whether an earlier result may be replaced.
    *inputs : str or None
        Paths of files that are read, which must not be inside a folder that is replaced.

    Raises
    ------
    MassmapError
        If the folder exists and may not be replaced.
    """
    if directory.is_dir() and overwrite:
        path = directory / RECORD
        record = (record_of(path.read_bytes()) if path.is_file() else None) or {}
        if record.get("command") == "stream" or (directory / "manifest.jsonl").exists():
            raise MassmapError(
                f"the folder {directory} is the result of a stream, which may have taken days, so overwrite does not "
                "replace it: remove it yourself, or choose another folder"
            )
        if record.get("program") != PROGRAM:
            raise MassmapError(
                f"the folder {directory} is not an earlier output of {PROGRAM} (no run.json of its own), so overwrite "
                "does not replace it: choose another folder"
            )
        inside = [one for one in inputs if one and Path(os.path.realpath(one)).is_relative_to(directory.resolve())]
        if inside:
            raise MassmapError(
                f"the input {inside[0]} lies inside the output folder {directory}, which overwrite would replace: "
                "choose another folder"
            )
        check_replaceable(directory)
    elif directory.exists() or directory.is_symlink():
        raise MassmapError(f"{directory} exists and is left as it was: choose another folder or pass --overwrite")


def map_line(mapped: MassMap) -> str:
    """Describe the map in one line.

    Parameters
    ----------
    mapped : MassMap
        The map.

    Returns
    -------
    str
        Pixels, number of objects and total mass.
    """
    pixels = mapped.grid.describe()
    if mapped.slice_draws is not None:
        pixels += f" in {len(mapped.slice_mass)} redshift slices ({mapped.n_beyond} objects beyond)"
    if mapped.halo_profile is not None:
        pixels += f", {mapped.halo_profile.upper()} halos"
    if mapped.fwhm_arcmin is not None:
        pixels += f", smoothed to {mapped.fwhm_arcmin:g} arcmin"
    return (
        f"map: {pixels}, {mapped.n_mapped} objects, {mapped.n_outside} outside; "
        f"total mass {mapped.total_mass:.3e} +- {mapped.total_sd:.1e} Msun"
    )


def circle_line(circle: tuple[float, ...], found: RegionMass) -> str:
    """Describe the mass in a circle in one line.

    Parameters
    ----------
    circle : tuple of (float, float, float)
        RA and Dec [deg] and radius [arcmin].
    found : RegionMass
        The mass.

    Returns
    -------
    str
        Circle, number of objects and mass.
    """
    lacking = f" ({found.n_without_mass} more without a mass)" if found.n_without_mass else ""
    return (
        f"circle: {circle[2]:g} arcmin about {circle[0]:g}, {circle[1]:g}, {found.nobj} objects{lacking}; "
        f"mass {found.mean:.3e} +- {found.sd:.1e} Msun"
    )
