"""The program `massmap-jax`: options in, the functions of `job` called, sentences out. No science here.

Bad input ends with exit code 2 and one line on stderr. JAX is imported once options and catalogue have passed,
so `--help` and refusals are prompt.
"""

import _thread
import inspect
import os
import re
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from massmap_jax.errors import MassmapError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Halo masses and mass maps with honest error bars, from a catalogue.",
)

EXAMPLES_RUN = """
Examples:

    massmap-jax run clusters.fits --out result --lum L500 --z z --relation my_draws.csv --relation-from other_data

    massmap-jax run mocks.txt --names z,lum_obs --sigma 0.05 --out result --no-map

    massmap-jax run clusters.fits --out result --lum M500cUnc --sigma-plus M500cUnc_errPlus
    --sigma-minus M500cUnc_errMinus --lum-scale 1e14 --relation identity --prior hmf --hmf-model Tinker08
    --mass-definition 500c
"""

Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed, written to every output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No summary on stdout.")]
Precision = Annotated[str, typer.Option("--precision", help="float32 or float64 on the device.")]
Device = Annotated[str, typer.Option("--device", help="cpu, gpu, or auto: what JAX finds. All of the kind are used.")]


@app.command(epilog=EXAMPLES_RUN)
def run(
    catalogue: Annotated[str, typer.Argument(help="CSV, ECSV, FITS (FILE[EXT]), Parquet or whitespace text.")],
    out: Out,
    overwrite: Overwrite = False,
    lum: Annotated[str | None, typer.Option(help="Column of the luminosity (or mass proxy).")] = None,
    z: Annotated[str | None, typer.Option(help="Column of the redshift.")] = None,
    sigma: Annotated[str | None, typer.Option(help="Column of the luminosity error, or one number.")] = None,
    sigma_kind: Annotated[str, typer.Option(help="The error is in ln, dex, or linear.")] = "ln",
    sigma_plus: Annotated[str | None, typer.Option(help="Column of the upper bar.")] = None,
    sigma_minus: Annotated[str | None, typer.Option(help="Column of the lower bar.")] = None,
    min_snr: Annotated[float, typer.Option(help="Linear bars below this signal to noise are flagged.")] = 3.0,
    ra: Annotated[str | None, typer.Option(help="Column of the right ascension, or x.")] = None,
    dec: Annotated[str | None, typer.Option(help="Column of the declination, or y.")] = None,
    position_unit: Annotated[str | None, typer.Option(help="deg, hourangle or arcmin.")] = None,
    field_centre: Annotated[str | None, typer.Option(help="RA,DEC in degrees, of arcmin offsets.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of the object id.")] = None,
    duplicate_ids: Annotated[str, typer.Option(help="error, or row_number.")] = "error",
    truth: Annotated[str | None, typer.Option(help="Column of the true mass in Msun, for simulations.")] = None,
    names: Annotated[str | None, typer.Option(help="Column names a,b,c of a text file without header.")] = None,
    lum_log: Annotated[str, typer.Option(help="The luminosity column is none, ln or log10.")] = "none",
    lum_scale: Annotated[float, typer.Option(help="Multiplies the luminosity (1e14 for 1e14 Msun).")] = 1.0,
    lum_unit: Annotated[str | None, typer.Option(help="Unit of the luminosity.")] = None,
    relation: Annotated[
        str, typer.Option(help="fit (to this catalogue), bigmali2017, identity, or a file of draws.")
    ] = "fit",
    num_relation_draws: Annotated[
        int, typer.Option(help="Draws that the masses use: of the fit (which keeps at least 1000), or of a preset.")
    ] = 100,
    relation_prior: Annotated[
        str, typer.Option(help="fit: a preset, or alpha1=MEAN:SD,alpha2=...,alpha4=0,scatter=...,alpha3=PIVOT.")
    ] = "bigmali2017",
    fit_method: Annotated[str, typer.Option(help="fit: laplace, importance or nuts.")] = "laplace",
    flux_limit: Annotated[
        float | None, typer.Option(help="Least luminosity in the catalogue, after --lum-scale and --lum-log.")
    ] = None,
    relation_from: Annotated[
        str | None, typer.Option(help="this_catalogue, other_data or fixed_draws (default, said in the output).")
    ] = None,
    pivot: Annotated[float, typer.Option(help="identity: Msun per unit of the observable.")] = 1.0,
    prior: Annotated[str, typer.Option(help="default, hmf, or a file (.npz; text z, M, density).")] = "default",
    prior_per: Annotated[str, typer.Option(help="Density of a text prior: mass, ln_mass, log10_mass.")] = "mass",
    prior_mass_unit: Annotated[str, typer.Option(help="Msun, or Msun/h with --h.")] = "Msun",
    h: Annotated[float | None, typer.Option("--h", help="Little h of a prior in Msun/h.")] = None,
    prior_snap: Annotated[str | None, typer.Option(help="upper: next redshift node up, as in 2017.")] = None,
    prior_support: Annotated[str, typer.Option(help="extend, or sharp (table ends are physical).")] = "extend",
    hmf_model: Annotated[str, typer.Option(help="hmf: mass function.")] = "Tinker10",
    cosmology: Annotated[
        str,
        typer.Option(
            help="Of --prior hmf, Msun/Mpc2, halo sizes, lensing: Planck18, WMAP9, ... or H0=70,Om0=0.3,Ob0=0.05,"
            "sigma8=0.8,n_s=0.95."
        ),
    ] = "Planck18",
    transfer_model: Annotated[str, typer.Option(help="hmf: transfer function.")] = "EH",
    mass_definition: Annotated[str | None, typer.Option(help="200m, 500c, vir, ...")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="auto (analytic, or surface where there are many), analytic, surface (interpolated, to 1 % of the "
            "error), monte_carlo, importance, quadrature or nuts."
        ),
    ] = "auto",
    num_lum_draws: Annotated[int, typer.Option(help="Luminosity draws of a sampled method.")] = 100,
    pixel_arcmin: Annotated[float | None, typer.Option(help="Pixel side; default about 1/64 of the field.")] = None,
    num_map_draws: Annotated[int, typer.Option(help="Coherent draws of the map.")] = 100,
    map_unit: Annotated[str, typer.Option(help="Msun in a pixel, or Msun/arcmin2, Msun/Mpc2 (proper).")] = "Msun",
    map_slices: Annotated[
        str | None, typer.Option(help="Edges of redshift slices, such as 0.1,0.3,0.5: the map is a cube.")
    ] = None,
    smooth_arcmin: Annotated[
        float | None, typer.Option("--smooth", help="FWHM in arcmin of a Gaussian that every map draw is smoothed by.")
    ] = None,
    nside: Annotated[int | None, typer.Option(help="A HEALPix map of this nside (extra healpix).")] = None,
    healpix_order: Annotated[str, typer.Option(help="RING or NESTED.")] = "RING",
    halo_profile: Annotated[
        str | None, typer.Option(help="nfw: haloes on the map at their own size, not points.")
    ] = None,
    source_redshift: Annotated[
        float | None, typer.Option(help="A map of the convergence and shear of sources there, convergence.fits.")
    ] = None,
    no_map: Annotated[bool, typer.Option("--no-map", help="No map.")] = False,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Tables and map, no pictures.")] = False,
    pdf_figures: Annotated[bool, typer.Option("--pdf-figures", help="Each figure as PDF, too.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="No report.html.")] = False,
    format: Annotated[str, typer.Option(help="Table: parquet, fits, csv or ecsv.")] = "parquet",
    seed: Seed = 0,
    precision: Precision = "float32",
    device: Device = "auto",
    quiet: Quiet = False,
):
    """Masses and mass map of a catalogue, into a new folder.

    Writes masses.FORMAT, mass_map.fits, figures/, report.html (all of it on one page) and run.json; where it fits the
    relation, relation.csv and relation.npz. Rows that cannot be used stay, with NaN and a flag.
    """
    given = dict(locals())
    start_jax(precision, device)
    from massmap_jax.run.outputs import check_output

    check_output(out, overwrite, catalogue)
    options = _options(given)
    _do(_reader(given), out, overwrite, options, quiet, _asked(given))


# How `run` alone shapes its map.
_MAP_FORM = ("map_unit", "map_slices", "smooth_arcmin", "nside", "healpix_order", "halo_profile", "source_redshift")

# What `fit` shares with `run`: the catalogue's columns, the prior, and how the relation is fitted.
_NOT_FOR_FIT = (
    "relation",
    "relation_from",
    "pivot",
    "method",
    "num_lum_draws",
    "pixel_arcmin",
    "num_map_draws",
    *_MAP_FORM,
    "no_map",
    "no_report",
    "format",
)


def fit(**given):
    """The mass-luminosity relation of a catalogue, its masses marginalised, into a new folder.

    Writes relation.csv (draws, for `run --relation relation.csv --relation-from this_catalogue`), relation.npz,
    figures/ and run.json. `run --relation fit`, the default of run, fits and goes on to the masses.

    Example:

        massmap-jax fit clusters.fits --out fit --lum L500 --z z --flux-limit 1.5
        --relation-prior alpha1=0:5,alpha2=1:0.5,alpha4=0,scatter=0.3:0.2,alpha3=1e14
    """
    start_jax(given["precision"], given["device"])
    from massmap_jax.catalogue.write import atomic_directory
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.outputs import check_output, write_fit_outputs

    out, overwrite = given["out"], given["overwrite"]
    check_output(out, overwrite, given["catalogue"])
    options = _options(given)
    with atomic_directory(out, overwrite) as directory, _progress() as watch:
        clock = Clock(watch)
        with clock.stage("reading"):
            catalogue = _reader(given)()
        from massmap_jax.run.job import compute_fit

        result = compute_fit(catalogue, options, clock)
        record = write_fit_outputs(directory, catalogue, result, options, clock, _asked(given))
    if not given["quiet"]:
        lines = [f"note: {_as_options(note)}" for note in catalogue.notes]
        lines += [_as_options(result.fitted.summary()), result.check.summary(), f"prior: {record['prior']}"]
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["seconds"].items())
        typer.echo("\n".join([*lines, f"seed {options.seed}; {seconds}", f"results in {out}"]))


def _with_options_of(function, other, without, own=None):
    """The signature of `other` less some parameters, and those of `own`, so that an option is declared once."""
    kept = [p for name, p in inspect.signature(other).parameters.items() if name not in without]
    kept += [] if own is None else inspect.signature(own).parameters.values()
    function.__signature__ = inspect.Signature(kept)
    function.__annotations__ = {p.name: p.annotation for p in kept}
    return function


app.command(name="fit")(_with_options_of(fit, run, _NOT_FOR_FIT))


_NOT_FOR_STREAM = (
    "overwrite",
    "relation_prior",
    "fit_method",
    "method",
    "num_lum_draws",
    "truth",
    *_MAP_FORM,
    "no_map",
    "no_figures",
    "pdf_figures",
    "no_report",
    "format",
)


def _own_of_stream(
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    chunk_rows: Annotated[int, typer.Option(help="Rows of a part; memory is in proportion.")] = 1_000_000,
    columns: Annotated[str | None, typer.Option(help="Columns to write, separated by commas.")] = None,
    float32: Annotated[bool, typer.Option("--float32", help="Write numbers in single precision.")] = False,
    method: Annotated[str, typer.Option(help="surface (interpolated, to 1 % of the error), or analytic.")] = "surface",
    format: Annotated[str, typer.Option(help="Kind of the parts: parquet or fits.")] = "parquet",
    map_centre: Annotated[str | None, typer.Option(help="RA,DEC in degrees of a mass map's middle.")] = None,
    map_arcmin: Annotated[float | None, typer.Option(help="Side of that map.")] = None,
):
    """Options that only `stream` has."""


def stream(**given):
    """Masses of a catalogue larger than memory, a chunk at a time, into a new folder.

    Reads a Parquet file or a folder of them, FITS, CSV or text. Writes masses/part-*.parquet, in order,
    manifest.jsonl and, with --map-centre and --map-arcmin, mass_map.fits. A run that was stopped, however it was, goes
    on with --resume and ends with the same bytes.

    Example:

        massmap-jax stream survey/ --out masses --lum L500 --z z --relation fit/relation.npz
        --relation-from this_catalogue --float32
    """
    start_jax(given["precision"], given["device"])
    from massmap_jax.run.options import JobOptions, PriorOptions
    from massmap_jax.scale.stream import DEFAULT_COLUMNS, StreamOptions
    from massmap_jax.scale.stream import stream as run_stream

    shared = {
        f.name: given[f.name] for f in fields(JobOptions) if f.name in given and f.name not in ("prior", "method")
    }
    shared.pop("format")
    keep = DEFAULT_COLUMNS if given["columns"] is None else tuple(c.strip() for c in given["columns"].split(","))
    asked = _asked({"truth": None, **given})
    options = StreamOptions(
        job=JobOptions(prior=_prior_options(given, PriorOptions), **shared),
        columns=asked["columns"],
        keep=keep,
        map_centre=_pair(given["map_centre"]),
        **{name: given[name] for name in ("method", "chunk_rows", "float32", "format", "precision", "map_arcmin")},
    )
    try:
        with _progress() as watch:
            total = run_stream(given["catalogue"], given["out"], options, resume=given["resume"], watch=watch)
    except KeyboardInterrupt:
        _stop(f"go on with --resume; what is done is in {given['out']}")
    if not given["quiet"]:
        flags = ", ".join(f"{name} {rows:,}" for name, rows in total["flags"].items()) or "none"
        typer.echo(f"{total['rows']:,} rows in {total['done']} parts; flags: {flags}")
        if options.method == "surface":
            typer.echo(f"{total['beside_surface']:,} rows beside the posterior surface, integrated one by one")
        typer.echo(f"results in {given['out']}")


app.command(name="stream")(_with_options_of(stream, run, _NOT_FOR_STREAM, _own_of_stream))


def _prior_options(given: dict, kind):
    option = {"source": "prior", "per": "prior_per", "mass_unit": "prior_mass_unit", "snap": "prior_snap"}
    option["support"] = "prior_support"
    return kind(**{f.name: given[option.get(f.name, f.name)] for f in fields(kind)})


def _options(given: dict):
    """JobOptions of the options given on the command line, checked."""
    from massmap_jax.run.options import JobOptions, PriorOptions, check_options

    others = {f.name: given[f.name] for f in fields(JobOptions) if f.name in given and f.name != "prior"}
    shown = {"make_map": not given.get("no_map", True), "make_figures": not given["no_figures"]}
    shown["make_report"] = not given.get("no_report", True)
    if others.get("map_slices") is not None:
        others["map_slices"] = _edges(others["map_slices"])
    options = JobOptions(prior=_prior_options(given, PriorOptions), **shown, **others)
    check_options(options)
    return options


_COLUMNS = (
    "lum",
    "z",
    "sigma",
    "sigma_kind",
    "sigma_plus",
    "sigma_minus",
    "min_snr",
    "ra",
    "dec",
    "position_unit",
    "field_centre",
    "id",
    "duplicate_ids",
    "truth",
    "names",
    "lum_log",
    "lum_scale",
    "lum_unit",
)


def _asked(given: dict) -> dict:
    """Catalogue and columns as `read_catalogue` takes them, for the record of the run."""
    columns = {name: given[name] for name in _COLUMNS}
    columns["sigma"] = _number_or_name(given["sigma"])
    columns["field_centre"] = _pair(given["field_centre"])
    columns["names"] = given["names"].split(",") if given["names"] else None
    return {"catalogue": str(given["catalogue"]), "columns": columns}


def _reader(given: dict):
    asked = _asked(given)

    def read():
        from massmap_jax.catalogue.read import read_catalogue

        return read_catalogue(asked["catalogue"], **asked["columns"])

    return read


@app.command()
def demo(
    out: Out = Path("massmap_demo"),
    num_halos: Annotated[int, typer.Option(help="Objects in the simulated field.")] = 20_000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    precision: Precision = "float32",
    device: Device = "auto",
    quiet: Quiet = False,
):
    """The main job on an embedded simulated field, truth beside it: relation fitted, masses, map, figures.

    Example:

        massmap-jax demo --out demo
    """
    start_jax(precision, device)
    from massmap_jax.run.options import JobOptions, PriorOptions, check_options
    from massmap_jax.run.outputs import check_output

    check_output(out, overwrite)
    # The field holds no halo below the table's lowest mass: its end is physical.
    options = JobOptions(prior=PriorOptions(support="sharp"), seed=seed)
    check_options(options)
    _check_positive("num_halos", num_halos)

    def read():
        import jax

        from massmap_jax.simulate import simulate_field

        return simulate_field(jax.random.key(seed), num_halos)

    field = {}

    def simulate_and_keep():
        field["made"] = read()
        return field["made"].catalogue

    record = {"catalogue": f"simulated field of {num_halos} halos"}
    result = _do(simulate_and_keep, out, overwrite, options, quiet, record, lambda: field["made"].relation)
    if not quiet:
        typer.echo(result.fitted.against(field["made"].relation))


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="File: .parquet, .fits, .csv or .ecsv.")],
    num_halos: Annotated[int, typer.Option(help="Objects drawn, before the flux limit.")] = 20_000,
    flux_limit: Annotated[float | None, typer.Option(help="Drop objects with observed luminosity below this.")] = None,
    side_arcmin: Annotated[float, typer.Option(help="Side of the square field.")] = 40.0,
    z_max: Annotated[float, typer.Option(help="Largest redshift.")] = 3.5,
    sigma: Annotated[float, typer.Option(help="Noise in ln L.")] = 0.05,
    seed: Seed = 0,
    overwrite: Overwrite = False,
):
    """A simulated light cone, true masses beside the data, as a catalogue file.

    Example:

        massmap-jax simulate --out field.fits --num-halos 5000 --flux-limit 8000
    """
    if out.exists() and not overwrite:
        raise MassmapError(f"{out} exists and is left as it was: choose another name or pass --overwrite")
    _check_positive("num_halos", num_halos)
    start_jax("float32")
    import jax
    import numpy as np

    from massmap_jax.catalogue.write import write_table
    from massmap_jax.run.options import JobOptions, check_options
    from massmap_jax.simulate import simulate_field

    check_options(JobOptions(seed=seed))
    field = simulate_field(
        jax.random.key(seed),
        num_halos,
        side_arcmin=side_arcmin,
        z_max=z_max,
        sigma_ln_lum=sigma,
        flux_limit=flux_limit,
    )
    cat = field.catalogue
    columns = {
        "id": cat.ids,
        "ra": cat.ra,
        "dec": cat.dec,
        "z": cat.redshift,
        "lum_obs": np.exp(cat.ln_lum_obs),
        "sigma_ln_lum": cat.sigma_ln_lum,
        "mass_true": np.exp(cat.truth_ln_mass),
    }
    meta = {
        "seed": seed,
        "mass_definition": field.prior.mass_definition,
        "prior": field.prior.description,
        "relation": field.relation.source,
        "flux_limit": flux_limit,
    }
    write_table(out, columns, meta, {"ra": "deg", "dec": "deg", "mass_true": "solMass"}, overwrite=overwrite)
    typer.echo(f"{out}: {len(cat)} of {num_halos} halos, z {cat.redshift.min():.3f} to {cat.redshift.max():.3f}")
    typer.echo("no halo is lighter than the prior's table, so run it with --prior-support sharp --truth mass_true")


@app.command()
def info(path: Annotated[Path, typer.Argument(help="Catalogue, prior .npz, masses, map or result folder.")]):
    """What a file or a result folder holds.

    Example:

        massmap-jax info result
    """
    from massmap_jax.run.info import describe_path

    typer.echo(describe_path(path))


def start_jax(precision: str, device: str = "auto") -> None:
    """Settings a program may make and a library may not: precision, device, compilation cache; no windows.

    JAX itself is left to whoever needs it first.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise MassmapError(f"device {device!r} is not known: give auto, cpu or gpu")
    if precision not in ("float32", "float64"):
        raise MassmapError(f"precision {precision!r} is not known: give float32 or float64")
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _set_jax("jax_enable_x64", precision == "float64")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        _set_jax("jax_compilation_cache_dir", str(caches / "massmap_jax" / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # The many small functions, too: together they are seconds of a start, and a few hundred kilobytes.
        _set_jax("jax_persistent_cache_min_compile_time_secs", 0.0)
    if device == "cpu":
        _set_jax("jax_platforms", "cpu")
    elif device == "gpu":
        from massmap_jax.devices import need_gpu

        need_gpu()


def _set_jax(name: str, value) -> None:
    """A setting of JAX: in the environment, where JAX looks when it is imported, unless it has been."""
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name, value)
    else:
        os.environ[name.upper()] = str(value)


def _do(read, out: Path, overwrite: bool, options, quiet: bool, record: dict, true_relation=lambda: None):
    """Read, compute and write behind a progress line; then a summary."""
    from massmap_jax.catalogue.write import atomic_directory
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.outputs import map_line, write_outputs

    with atomic_directory(out, overwrite) as directory, _progress() as watch:
        clock = Clock(watch)
        with clock.stage("reading"):
            catalogue = read()
        from massmap_jax.run.job import compute

        result = compute(catalogue, options, clock)
        record = write_outputs(directory, result, options, clock, record, true_relation())
    if quiet:
        return result
    lines = [f"note: {_as_options(note)}" for note in result.notes]
    lines += [result.posterior.summary()]
    lines += [f"prior: {record['prior']}; masses {record['mass_definition']}, Msun without h"]
    if result.fitted is not None:
        lines += [line for line in result.fitted.summary().splitlines() if not line.startswith("note")]
    lines += [f"relation: {record['relation_source']}; weights: {record['relation_from']}"]
    if result.mass_map is not None:
        lines.append(map_line(result.mass_map))
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["seconds"].items())
    lines += [f"seed {options.seed}; {seconds}", f"results in {out}"]
    typer.echo("\n".join(lines))
    return result


class _progress:
    """A spinner with the stage's name on a terminal; nothing anywhere else."""

    def __enter__(self):
        self._status = None
        if not sys.stderr.isatty():
            return lambda stage: None
        from rich.console import Console

        self._status = Console(stderr=True).status("starting")
        self._status.start()
        return lambda stage: self._status.update(stage)

    def __exit__(self, *_):
        if self._status is not None:
            self._status.stop()


def _number_or_name(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise MassmapError(f"field_centre is {text!r}: give RA,DEC in degrees, such as 150.1,2.2") from None
    return first, second


def _edges(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MassmapError(f"map_slices is {text!r}: give edges in redshift, such as 0.1,0.3,0.5") from None


def _check_positive(name: str, number: int) -> None:
    if number < 1:
        raise MassmapError(f"{name} is {number}: give at least 1")


def _as_options(sentence: str) -> str:
    """Arguments of the library, as `lum_log='log10'`, in the words of the command line, `--lum-log log10`."""
    known = set(run.__annotations__) | set(simulate.__annotations__)

    def option(match):
        name, value = match.group(1), match.group(2) or ""
        return match.group(0) if name not in known else f"--{name.replace('_', '-')} {value.strip(chr(39))}".rstrip()

    return re.sub(r"\b([a-z_]+)=('[^']*'|[\w.+-]+)?", option, sentence)


def _value_given(error) -> str:
    """The value that a usage error is about, which its own text may leave out."""
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in sys.argv[:-1]:
            return f" (given: {sys.argv[sys.argv.index(option) + 1]})"
    return ""


def _stop(what: str):
    """The end of an interrupted run, at once: to take the interpreter down beside a running compilation may crash."""
    sys.stdout.flush()
    print(f"stopped: {what}", file=sys.stderr, flush=True)
    os._exit(130)


def _interrupt_again(dropped) -> None:
    """Python drops an interrupt that falls into a callback, such as JAX's in the garbage collector: send it again."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.05, _thread.interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(dropped)


def main() -> None:
    """Entry point: every bad input is one line on stderr and exit code 2."""
    sys.unraisablehook = _interrupt_again
    # typer carries its own copy of click in newer versions: take the class from where typer has it.
    usage_error = typer.BadParameter.__bases__[0]
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # typer's own answer to an interrupt is silent
            _stop("nothing was written")
        sys.exit(code)
    except MassmapError as error:
        message = _as_options(str(error))
    except usage_error as error:
        message = error.format_message() + _value_given(error)
    except (typer.Abort, KeyboardInterrupt):
        _stop("nothing was written")
    except BrokenPipeError:
        sys.exit(1)
    except (OSError, MemoryError) as error:
        message = f"{error.strerror or error}: {error.filename}" if isinstance(error, OSError) else "out of memory"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
