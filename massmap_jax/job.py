"""The main job: a catalogue in, a folder of masses, map, figures and a record of the run out."""

import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

import massmap_jax
from massmap_jax.catalogue import HaloCatalogue
from massmap_jax.checks import PriorCheck, prior_check
from massmap_jax.errors import MassmapError
from massmap_jax.flags import count
from massmap_jax.likelihood import METHODS
from massmap_jax.maps import MassMap, mass_map
from massmap_jax.pixels import PixelGrid
from massmap_jax.posterior import MassPosterior, mass_posterior
from massmap_jax.prior import MassPrior
from massmap_jax.relation import PRESETS, MassLuminosityRelation
from massmap_jax.relation_fit import METHODS as FIT_METHODS
from massmap_jax.relation_fit import fit_relation
from massmap_jax.relation_posterior import RelationPosterior
from massmap_jax.relation_prior import RelationPrior
from massmap_jax.selection import FluxLimit
from massmap_jax.writers import SUFFIXES, write_table

if TYPE_CHECKING:
    from massmap_jax.models.runner import HaloMassSamples

PROGRAM = "massmap-jax"
FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)
_FIT_DRAWS = 1000
# More than half of the objects lose more than half of their posterior beyond the table: the wrong table.
_EDGE_TOO_FAR = 0.5

UNITS = {"ra": "deg", "dec": "deg", "x": "arcmin", "y": "arcmin", "mass_mean": "solMass", "information_bits": "bit"}
DESCRIPTIONS = {
    "id": "object, as in the catalogue",
    "ra": "right ascension",
    "dec": "declination",
    "x": "offset from the field centre",
    "y": "offset from the field centre",
    "z": "redshift",
    "pareto_k": "shape of the tail of the luminosity weights; above 0.7 they are not to be trusted",
    "log10_mass_true": "true log10(M/Msun), from the catalogue",
    "ln_lum_obs": "ln of the observed luminosity",
    "sigma_ln_lum": "its standard deviation",
    "log10_mass_mean": "posterior mean of log10(M/Msun), M without h",
    "log10_mass_sd": "posterior standard deviation of log10(M/Msun)",
    "log10_mass_mode": "peak of the posterior of log10 M",
    "mass_mean": "posterior mean of M",
    "log_evidence": "ln P(L_obs | z, relation), density per unit L_obs",
    "edge_mass": "posterior fraction beyond the prior's mass table",
    "information_bits": "divergence of the posterior from the prior",
    "ess": "effective number of relation draws (luminosity samples with a sampled method, mass draws with nuts)",
    "r_hat": "split R-hat of the object's chain (nuts)",
    "divergences": "divergent transitions of the object's chain (nuts)",
    "flag": "bits; 0 is good",
    "flag_reason": "names of the bits",
}


@dataclass(frozen=True)
class PriorOptions:
    """Which mass prior: "default", "hmf", or a file (.npz, or text with columns z, M, density)."""

    source: str = "default"
    per: str = "mass"
    mass_unit: str = "Msun"
    h: float | None = None
    snap: str | None = None
    support: str = "extend"
    hmf_model: str = "Tinker10"
    cosmology: str = "Planck18"
    transfer_model: str = "EH"
    mass_definition: str | None = None


@dataclass(frozen=True)
class JobOptions:
    """Everything that decides the answer, beside the catalogue."""

    prior: PriorOptions = field(default_factory=PriorOptions)
    relation: str = "fit"
    num_relation_draws: int = 100
    relation_from: str | None = None
    relation_prior: str = "bigmali2017"
    fit_method: str = "laplace"
    flux_limit: float | None = None
    pivot: float = 1.0
    method: str = "analytic"
    num_lum_draws: int = 100
    make_map: bool = True
    pixel_arcmin: float | None = None
    num_map_draws: int = 100
    format: str = "parquet"
    seed: int = 0


def load_prior(options: PriorOptions) -> MassPrior:
    """The prior that the options name; mass definitions are kept as they are told."""
    if options.source == "default":
        prior = replace(MassPrior.default(), support=options.support)
    elif options.source == "hmf":
        prior = MassPrior.from_hmf(
            hmf_model=options.hmf_model,
            cosmology=options.cosmology,
            transfer_model=options.transfer_model,
            mass_definition=options.mass_definition or "200m",
            support=options.support,
        )
    else:
        prior = _prior_from_file(options)
    if options.mass_definition not in (None, prior.mass_definition):
        raise MassmapError(
            f"the prior {options.source!r} is for {prior.mass_definition} masses and mass_definition is "
            f"{options.mass_definition!r}: nothing is converted, so choose a prior of that definition, "
            "such as prior='hmf'"
        )
    return prior


def _prior_from_file(options: PriorOptions) -> MassPrior:
    path = Path(options.source)
    if not path.exists():
        raise MassmapError(
            f"prior {options.source!r} is no file and no known name: give 'default', 'hmf' or a file that exists "
            "(.npz, or text with columns z, M, density)"
        )
    if path.suffix == ".npz":
        return MassPrior.load(path)
    try:
        columns = np.loadtxt(path, unpack=True, ndmin=2)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise MassmapError(f"prior file {path} is not a table of three columns of numbers: {error}") from None
    if columns.shape[0] != 3:
        raise MassmapError(f"prior file {path} has {columns.shape[0]} columns: it needs three, z, M and density")
    return MassPrior.from_table(
        *columns,
        per=options.per,
        mass_unit=options.mass_unit,
        h=options.h,
        snap=options.snap,
        support=options.support,
        mass_definition=options.mass_definition or "unknown",
        description=path.name,
    )


def fit(catalogue: HaloCatalogue, prior: MassPrior, options: JobOptions, key, watch=lambda stage: None):
    """Posterior of the relation, as the options ask for it; the notes come with the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_relation(
            catalogue,
            prior,
            RelationPrior.parse(options.relation_prior),
            method=options.fit_method,
            selection=_selection(options),
            key=key,
            num_draws=max(_FIT_DRAWS, options.num_relation_draws),
            watch=watch,
        )


def _selection(options: JobOptions):
    return None if options.flux_limit is None else FluxLimit(options.flux_limit)


def load_relation(options: JobOptions, key, prior: MassPrior) -> MassLuminosityRelation:
    """The relation that the options name: a preset (draws), "identity", or a file of draws."""
    name = options.relation
    if name == "identity":
        if not (np.isfinite(options.pivot) and options.pivot > 0):
            raise MassmapError(f"pivot is {options.pivot:g}: it must be a positive mass in Msun")
        return MassLuminosityRelation.identity(pivot=options.pivot, mass_definition=prior.mass_definition)
    if name in PRESETS:
        if options.num_relation_draws < 1:
            raise MassmapError(f"num_relation_draws is {options.num_relation_draws}: give at least 1")
        return MassLuminosityRelation.preset_draws(name, key, options.num_relation_draws)
    if not Path(name).exists():
        raise MassmapError(
            f"relation {name!r} is not found: give a file that exists, or one of fit, {', '.join(PRESETS)}, identity"
        )
    from massmap_jax.io import read_relation

    return MassLuminosityRelation.create(**read_relation(name), source=Path(name).name)


class Clock:
    """Seconds spent in each stage, and a word to whoever watches."""

    def __init__(self, watch: Callable[[str], None] = lambda stage: None):
        self.seconds: dict[str, float] = {}
        self.say = watch

    @contextmanager
    def stage(self, name: str):
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


@dataclass
class JobResult:
    posterior: MassPosterior
    mass_map: MassMap | None
    relation_from: str | None
    notes: list[str]
    fitted: RelationPosterior | None = None
    samples: "HaloMassSamples | None" = None

    def table(self) -> dict[str, np.ndarray]:
        """Columns of the masses: the grid's, or NUTS's means, errors and quantiles with their diagnostics."""
        columns = self.posterior.to_table()
        if self.samples is None:
            return columns
        drawn, ln10 = self.samples, np.log(10)
        columns |= {
            "log10_mass_mean": drawn.mean / ln10,
            "log10_mass_sd": drawn.sd / ln10,
            "mass_mean": drawn.mean_mass,
            **dict(zip(self.posterior.quantile_columns, drawn.quantiles.T / ln10, strict=True)),
        }
        after = {"r_hat": drawn.r_hat, "ess": drawn.ess, "divergences": drawn.divergences}
        last = {name: columns.pop(name) for name in ("flag", "flag_reason")}
        return columns | after | last


def compute(catalogue: HaloCatalogue, options: JobOptions, clock: Clock) -> JobResult:
    """Prior, relation, posteriors and map of a catalogue."""
    check_options(options)
    notes = list(catalogue.notes)
    key_relation, key_lum, key_map = jax.random.split(jax.random.key(options.seed), 3)
    fitted, relation_from = None, options.relation_from
    if options.relation == "fit":
        if relation_from not in (None, "this_catalogue"):
            raise MassmapError(
                f"relation_from is {relation_from!r}, and the relation is fitted to these objects: leave it out"
            )
        with clock.stage("prior"):
            prior = load_prior(options.prior)
        with clock.stage("fitting the relation"):
            fitted = fit(catalogue, prior, options, key_relation, clock.say)
        notes.extend(fitted.notes)
        relation, relation_from = _thinned(fitted.draws, options.num_relation_draws), "this_catalogue"
    else:
        with clock.stage("prior and relation"):
            prior = load_prior(options.prior)
            relation = load_relation(options, key_relation, prior)
    if relation_from is None and relation.num_draws > 1:
        relation_from = "fixed_draws"
        notes.append(
            "relation weights: fixed_draws, as relation_from was not given: the draws are external and these objects "
            "may not update them"
        )
    definitions = {relation.mass_definition, prior.mass_definition} - {"unknown"}
    if len(definitions) > 1:
        raise MassmapError(
            f"the relation is for {relation.mass_definition} masses and the prior for {prior.mass_definition}: "
            "nothing is converted, so choose a prior of the relation's mass definition"
        )
    with clock.stage("mass posteriors"):
        posterior = mass_posterior(
            catalogue,
            prior,
            relation,
            relation_from=relation_from,
            # With NUTS, the grid's answer still serves the map, the flags and the comparison.
            method="analytic" if options.method == "nuts" else options.method,
            key=key_lum,
            num_lum_draws=options.num_lum_draws,
            selection=_selection(options),
        )
    _refuse_wrong_masses(posterior)
    samples = None
    if options.method == "nuts":
        from massmap_jax.models.runner import sample_halo_masses

        with clock.stage("NUTS for each object"):
            samples = sample_halo_masses(
                key_lum,
                catalogue,
                prior,
                relation,
                relation_from=relation_from,
                quantile_levels=posterior.quantile_levels,
                selection=_selection(options),
                watch=clock.say,
            )
        notes.append(samples.summary().splitlines()[-1])
    image = None
    if options.make_map and catalogue.ra is None:
        notes.append("no map: the catalogue has no positions")
    elif options.make_map:
        with clock.stage("mass map"):
            grid = PixelGrid.fit(
                catalogue.ra[posterior.usable],
                catalogue.dec[posterior.usable],
                frame=catalogue.frame,
                pixel_arcmin=options.pixel_arcmin,
            )
            reuse = posterior if posterior.method == "analytic" else None
            image = mass_map(
                key_map,
                catalogue,
                prior,
                relation,
                grid,
                relation_from=relation_from,
                num_draws=options.num_map_draws,
                posterior=reuse,
                selection=_selection(options),
            )
        if posterior.method != "analytic":
            notes.append(f"the map uses the analytic integral; method {options.method} is for the table of masses")
    return JobResult(posterior, image, relation_from, notes, fitted, samples)


def _thinned(draws: MassLuminosityRelation, number: int) -> MassLuminosityRelation:
    """So many draws, evenly spread over the chains."""
    return draws.draw(np.linspace(0, draws.num_draws - 1, min(number, draws.num_draws)).astype(int))


@dataclass
class FitResult:
    prior: MassPrior
    fitted: RelationPosterior
    check: PriorCheck


def compute_fit(catalogue: HaloCatalogue, options: JobOptions, clock: Clock) -> FitResult:
    """The relation's posterior, and whether prior and relation describe the catalogue."""
    key, _, _ = jax.random.split(jax.random.key(options.seed), 3)
    with clock.stage("prior"):
        prior = load_prior(options.prior)
    with clock.stage("fitting the relation"):
        fitted = fit(catalogue, prior, options, key, clock.say)
    with clock.stage("checking prior and relation"):
        draws = _thinned(fitted.draws, options.num_relation_draws)
        check = prior_check(catalogue, prior, draws, selection=_selection(options))
    return FitResult(prior, fitted, check)


def write_fit_outputs(
    directory: Path, catalogue: HaloCatalogue, result: FitResult, options: JobOptions, clock: Clock, record: dict
) -> dict:
    """Fill a folder with relation.csv, relation.npz, figures/ and run.json; the record as written."""
    from massmap_jax.plot import save_all
    from massmap_jax.relation_plots import relation_corner

    fitted, prior = result.fitted, result.prior
    meta = {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "mass_definition": prior.mass_definition,
        "mass_unit": "Msun without h",
        "prior": prior.description,
        "relation_source": fitted.draws.source,
        "relation_from": "this_catalogue",
        "selection": fitted.selection,
        "seed": options.seed,
        "luminosity_unit": catalogue.lum_unit or "unknown",
    }
    with clock.stage("writing tables and figures"):
        write_fit(directory, fitted, meta)
        save_all({"relation": relation_corner(fitted), "prior_check": result.check.figure()}, directory / "figures")
    record = record | meta | {
        "options": asdict(options),
        "rows": len(catalogue),
        "flags": count(catalogue.flag),
        "notes": [*catalogue.notes, *fitted.notes],
        "fit": fit_record(fitted),
        "prior_check": {"p_value": float(result.check.p_value), "fits": bool(result.check.fits)},
        "seconds": clock.seconds,
        "versions": versions(),
        "device": str(jax.devices()[0]),
    }  # fmt: skip
    (directory / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def check_options(options: JobOptions) -> None:
    """Refuse what no catalogue can mend, before anything is read."""
    if options.method not in (*METHODS, "nuts"):
        raise MassmapError(f"method {options.method!r} is not known: give one of {', '.join(METHODS)}, nuts")
    if options.fit_method not in FIT_METHODS:
        raise MassmapError(f"fit_method {options.fit_method!r} is not known: give one of {', '.join(FIT_METHODS)}")
    if options.relation == "fit":
        RelationPrior.parse(options.relation_prior)
    if options.num_relation_draws < 1:
        raise MassmapError(f"num_relation_draws is {options.num_relation_draws}: give at least 1")
    _selection(options)
    if options.format not in FORMATS:
        raise MassmapError(f"format {options.format!r} is not known: give one of {', '.join(FORMATS)}")
    if not 0 <= options.seed < 2**63:
        raise MassmapError(f"seed is {options.seed}: give an integer from 0 to 2**63 - 1")
    if options.num_map_draws < 2:
        raise MassmapError(f"num_map_draws is {options.num_map_draws}: give at least 2")
    size = options.pixel_arcmin
    if size is not None and not (np.isfinite(size) and size > 0):
        raise MassmapError(f"pixel_arcmin is {size:g}: give a positive size in arcmin")


def _refuse_wrong_masses(posterior: MassPosterior) -> None:
    edge = posterior.edge_mass[posterior.usable]
    lost = edge > _EDGE_TOO_FAR
    if edge.size == 0 or lost.mean() > 0.5:
        prior = posterior.prior
        row = int(np.flatnonzero(posterior.usable)[np.argmax(lost)]) if edge.size else 0
        low, high = prior.ln_mass_min / np.log(10), prior.ln_mass_max / np.log(10)
        raise MassmapError(
            f"the prior's mass range, log10(M/Msun) {low:.2f} to {high:.2f}, does not hold the catalogue: {lost.sum()} "
            f"of {edge.size} objects have more than half of their posterior beyond its edge, first row {row}; check "
            "the unit of the luminosity and the relation, or give a prior with a wider mass table"
        )


def write_outputs(
    directory: Path, result: JobResult, options: JobOptions, clock: Clock, record: dict, true_relation=None
) -> dict:
    """Fill a folder with masses.*, mass_map.fits, figures/, run.json and a fitted relation; the record as written."""
    posterior, image = result.posterior, result.mass_map
    prior, relation = posterior.prior, posterior.relation
    meta = {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "mass_definition": prior.mass_definition,
        "mass_unit": "Msun without h",
        "prior": prior.description,
        "relation": options.relation,
        "relation_source": relation.source,
        "relation_from": result.relation_from or "one relation",
        "selection": "none" if options.flux_limit is None else f"flux limit {options.flux_limit:g}",
        "method": options.method,
        "seed": options.seed,
        "luminosity_unit": posterior.catalogue.lum_unit or ("" if result.fitted else relation.lum_unit) or "unknown",
    }
    with clock.stage("writing tables and map"):
        quantiles = {
            name: f"posterior quantile {level:g} of log10(M/Msun)"
            for name, level in zip(posterior.quantile_columns, posterior.quantile_levels, strict=True)
        }
        write_table(directory / f"masses.{options.format}", result.table(), meta, UNITS, {**DESCRIPTIONS, **quantiles})
        if result.fitted is not None:
            write_fit(directory, result.fitted, meta)
        if image is not None:
            from massmap_jax.map_io import write_map

            write_map(directory / "mass_map.fits", image, meta)
    with clock.stage("figures"):
        import matplotlib.pyplot as plt

        from massmap_jax.plot import save_all, standard_figures

        figures = standard_figures(posterior, image)
        if result.fitted is not None:
            from massmap_jax.relation_plots import relation_corner

            figures["relation"] = relation_corner(result.fitted, true_relation)
        save_all(figures, directory / "figures")
        for figure in figures.values():
            plt.close(figure)
    record = (
        record
        | meta
        | {
            "options": asdict(options),
            "rows": len(posterior),
            "rows_with_mass": int(posterior.usable.sum()),
            "flags": count(posterior.flag),
            "notes": result.notes,
            "map": None if image is None else _map_record(image),
            "fit": None if result.fitted is None else fit_record(result.fitted),
            "median_sd_log10_mass": _finite(np.nanmedian(posterior.sd[posterior.usable]) / np.log(10)),
            "seconds": clock.seconds,
            "versions": versions(),
            "device": str(jax.devices()[0]),
            "float64": bool(jax.config.jax_enable_x64),
        }
    )
    (directory / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def write_fit(directory: Path, fitted: RelationPosterior, meta: dict) -> None:
    """relation.csv, the draws as `run --relation` reads them, and relation.npz, the whole of the posterior."""
    write_table(directory / "relation.csv", fitted.to_table(), meta, {"alpha3": "solMass"})
    fitted.save(directory / "relation.npz")


def fit_record(fitted: RelationPosterior) -> dict:
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


def _map_record(image: MassMap) -> dict:
    return {
        "shape": list(image.grid.shape),
        "pixel_arcmin": image.grid.pixel_arcmin,
        "objects": int(image.nobj.sum()),
        "outside": image.n_outside,
        "total_mass_msun": float(image.mean.sum()),
        "total_sd_msun": float(image.total_draws.std(ddof=1)),
        "relation_ess": round(image.ess, 1),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def versions() -> dict[str, str]:
    """Versions of what made the numbers."""
    packages = ("jax", "jaxlib", "numpy", "equinox", "hmf", "astropy", "pyarrow", "matplotlib")
    found = {"massmap_jax": massmap_jax.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def is_own_output(directory: Path) -> bool:
    """Whether a folder was written by this program, so that it may be replaced."""
    try:
        return json.loads((directory / "run.json").read_text()).get("program") == PROGRAM
    except (OSError, ValueError, AttributeError):
        return False


def check_output(directory: Path, overwrite: bool, catalogue: str | None = None) -> None:
    """Refuse an output folder before any work is done for it."""
    if directory.is_dir() and overwrite:
        if not is_own_output(directory):
            raise MassmapError(
                f"the folder {directory} is not an earlier output of {PROGRAM} (no run.json of its own), so overwrite "
                "does not replace it: choose another folder"
            )
        if catalogue and Path(os.path.realpath(catalogue)).is_relative_to(os.path.realpath(directory)):
            raise MassmapError(
                f"the catalogue {catalogue} lies inside the output folder {directory}, which overwrite would replace: "
                "choose another folder"
            )
    elif directory.exists() or directory.is_symlink():
        raise MassmapError(f"{directory} exists and is left as it was: choose another folder or pass --overwrite")


def map_line(mapped: MassMap) -> str:
    """The map in one line, for a person."""
    total, sd = mapped.mean.sum(), mapped.total_draws.std(ddof=1)
    return (
        f"map: {mapped.grid.shape[1]} x {mapped.grid.shape[0]} pixels of {mapped.grid.pixel_arcmin:g} arcmin, "
        f"{int(mapped.nobj.sum())} objects, {mapped.n_outside} outside; total mass {total:.3e} +- {sd:.1e} Msun"
    )
