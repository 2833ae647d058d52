"""The program `massmap-jax`: options in, the functions of `job` called, sentences out. No science here.

Bad input ends with exit code 2 and one line on stderr. JAX is imported once options and catalogue have passed,
so `--help` and refusals are prompt.
"""

import contextlib
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, get_args

import typer

from massmap_jax import __version__
from massmap_jax.errors import MassmapError, MisfitError
from massmap_jax.run.config import COMMAND_LINE_ONLY, Config, Setting, read_config, template
from massmap_jax.run.hosts import HostOptions, check_host_options
from massmap_jax.run.inputs import check_unchanged, inputs_of
from massmap_jax.run.observable_options import named
from massmap_jax.run.options import (
    CATALOGUE,
    MACHINE,
    MAP,
    MASSES,
    OUTPUT,
    CatalogueOptions,
    JobOptions,
    PriorOptions,
    check_options,
    numbers,
    pair,
)
from massmap_jax.run.progress import Progress
from massmap_jax.stopping import undo_all

PROGRAM = "massmap-jax"
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Halo masses and mass maps with honest error bars, from a catalogue.",
)

EXAMPLES_RUN = """
Examples:

    massmap-jax run clusters.fits --out result --lum L500 --z z --relation my_draws.csv --relation-from other_data

    massmap-jax run mocks.txt --names z,lum_obs --sigma 0.05 --out result --no-map --relation-prior bigmali2017

    massmap-jax run clusters.fits --out result --lum M500cUnc --sigma-plus M500cUnc_errPlus
    --sigma-minus M500cUnc_errMinus --sigma-kind linear --lum-unit "1e14 Msun"
    --relation identity --prior hmf --hmf-model Tinker08 --mass-definition 500c
"""


def _option(*flags: str, help: str, group: str | None = None, **more):
    """An option of typer under a heading of `--help`."""
    return typer.Option(*flags, help=help, rich_help_panel=group, **more)


Out = Annotated[Path, _option("--out", help="Folder for the results.", group=OUTPUT)]
Overwrite = Annotated[bool, _option("--overwrite", help="Replace an earlier result.", group=OUTPUT)]
Seed = Annotated[int, _option("--seed", help="Random seed, written to every output.", group=MACHINE)]
Quiet = Annotated[bool, _option("--quiet/--no-quiet", help="No summary on stdout, and no progress.", group=OUTPUT)]
Precision = Annotated[str, _option("--precision", help="float32 or float64 on the device.", group=MACHINE)]
Device = Annotated[
    str, _option("--device", help="cpu, gpu, or auto: what JAX finds. All of the kind are used.", group=MACHINE)
]


def _read_config(ctx: typer.Context, path: str | None) -> str | None:
    """Take the options that a file gives as defaults of those that follow; read first of all."""
    if path is not None and not ctx.resilient_parsing:
        ctx.obj = read_config(path, ctx.info_name, SETTINGS[ctx.info_name])
        ctx.default_map = {name: [v] if name in REPEATABLE else v for name, v in ctx.obj.values.items()}
    return path


ConfigFile = Annotated[
    str | None,
    _option(
        "--config",
        help="File with options: YAML (massmap-jax config writes one), TOML, or the run.json of an earlier run, which "
        "it repeats. The command line goes before it; paths are relative to the folder you are in.",
        callback=_read_config,
        is_eager=True,
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool, _option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
):
    """Options before the command's name."""


def command(name: str, *kinds, own: tuple = (), epilog: str | None = None, like: str | None = None):
    """Decorator: a command with the options that dataclasses declare for it (`run.options.option`).

    Parameters
    ----------
    name : str
        Of the command.
    *kinds : type
        Dataclasses; the function is called with one instance of each, by the names that `own` and they have. Its
        keyword `record` is what run.json says of the call; `config`, where it has that one, is the file of options, if
        one was given.
    own : tuple of inspect.Parameter
        Options and arguments that this command alone has, passed on as they are given.
    epilog : str, optional
        Shown below the options.
    like : str, optional
        Another command, whose options of these classes this one has as well.
    """

    def decorate(function):
        declared = {shown: (kind, f) for kind in kinds for shown, f in _options_of(kind, {name, like}).items()}
        wants_config = "config" in inspect.signature(function).parameters
        REPEATABLE.update(shown for shown, (_, f) in declared.items() if f.metadata["many"])

        def call(ctx: typer.Context, **given):
            _Command.name = name
            given = {name: _in_one(value) if name in REPEATABLE else value for name, value in given.items()}
            config = _config_of(ctx, given)
            record = _record(name) | {"config": _as_given(given)}
            groups: dict = {kind: {} for kind in kinds}
            for shown, (kind, f) in declared.items():
                value = given.pop(shown)
                groups[kind][f.name] = not value if shown.startswith("no_") else value
            given |= {"record": record} | ({"config": config} if wants_config else {})
            return function(*(kind(**values) for kind, values in groups.items()), **given)

        parameters = [*own, *(_parameter(shown, f) for shown, (_, f) in declared.items())]
        OPTIONS.update(p.name for p in parameters)
        SETTINGS[name] = [_setting(p) for p in parameters]
        parameters = [_CONTEXT, *parameters, _CONFIG]
        call.__signature__ = inspect.Signature(parameters)
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__doc__ = function.__doc__
        app.command(name=name, epilog=epilog)(call)
        return function

    return decorate


OPTIONS: set[str] = set()
"""Every option's name, as a message may write it: `lum_log=` for `--lum-log`."""

REPEATABLE: set[str] = set()
"""Options that may be given several times."""

SETTINGS: dict[str, list[Setting]] = {}
"""What a file of options may hold, by command."""
_CONTEXT = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
_CONFIG = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile)


def _setting(parameter: inspect.Parameter) -> Setting:
    """An option of typer as a file has it."""
    annotated, told = get_args(parameter.annotation)
    kind = next(k for k in (get_args(annotated) or (annotated,)) if k is not type(None))
    kind = str if kind in (Path, list[str]) else kind
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    group = told.rich_help_panel or CATALOGUE  # the argument `catalogue` has no heading
    return Setting(parameter.name, kind, default, told.help, group)


def _in_one(values: list[str] | None) -> str | None:
    """The values of an option that was given several times, as if they had been given at once; None for none."""
    return ",".join(values) if values else None


def _config_of(ctx: typer.Context, given: dict) -> Config | None:
    """The file of options, once its input is known to be what it was; says what the command line replaces."""
    if given.pop("config") is None:
        return None
    config = ctx.obj
    anew = [name for name in config.values if ctx.get_parameter_source(name).name == "COMMANDLINE"]
    check_unchanged(config.inputs, given, anew, config.path)
    notes = list(config.notes)
    if anew:
        flags = ", ".join(_flag(parameter, given) for parameter in ctx.command.params if parameter.name in anew)
        notes.append(f"{flags}: taken from the command line, not from {config.path}")
    if not given["quiet"]:
        typer.echo("".join(f"note: {note}\n" for note in notes), nl=False)
    inputs = {name: found for name, found in config.inputs.items() if name not in anew}
    return replace(config, inputs=inputs)


def _flag(parameter, given: dict) -> str:
    """What the command line has for a parameter of click: `--no-x` where a switch is turned off."""
    off = given[parameter.name] is False and parameter.secondary_opts
    return (parameter.secondary_opts if off else parameter.opts)[0]


def _record(command_name: str) -> dict:
    """What run.json says of the call itself."""
    return {
        "command": command_name,
        "command_line": shlex.join([PROGRAM, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _as_given(given: dict) -> dict:
    """The options of a call, as `--config` reads them again."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if name not in COMMAND_LINE_ONLY
    }


def _options_of(kind, command_names: set) -> dict:
    """The fields of a dataclass that one of some commands has as options, by the names that users write."""
    found = {f.metadata.get("name") or f.name: f for f in fields(kind) if "help" in f.metadata}
    return {shown: f for shown, f in found.items() if command_names.intersection(f.metadata["commands"])}


def _parameter(shown: str, f) -> inspect.Parameter:
    """An option of typer for a field. Slices come as text."""
    kind = {"str": str, "float": float, "int": int, "bool": bool}.get(f.type.removesuffix(" | None"), str)
    kind = list[str] if f.metadata["many"] else kind
    default = False if kind is bool else f.default
    flag = f"--{shown.replace('_', '-')}"
    if kind is bool:  # both ways, so that the command line can take back what a file of options says
        flag += f"/--no{flag[1:]}" if not flag.startswith("--no-") else f"/--{flag.removeprefix('--no-')}"
    told = _option(flag, help=f.metadata["help"], group=f.metadata["group"])
    annotation = Annotated[kind | None if f.default is None else kind, told]  # type: ignore[valid-type]
    return inspect.Parameter(shown, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _own(function) -> tuple:
    """The parameters of a function, as a command's own options."""
    return tuple(inspect.signature(function).parameters.values())


def _common(
    catalogue: Annotated[str, typer.Argument(help="CSV, ECSV, FITS (FILE[EXT]), Parquet or whitespace text.")],
    out: Out,
    precision: Precision = "float32",
    device: Device = "auto",
    quiet: Quiet = False,
):
    """What run, fit and stream share beside their dataclasses."""


def _replaceable(overwrite: Overwrite = False):
    """What run and fit share."""


@command("run", CatalogueOptions, PriorOptions, JobOptions, own=_own(_common) + _own(_replaceable), epilog=EXAMPLES_RUN)
def run(
    columns,
    prior,
    job,
    *,
    catalogue: str,
    out: Path,
    overwrite: bool,
    precision: str,
    device: str,
    quiet: bool,
    record: dict,
):
    """Masses and mass map of a catalogue, into a new folder.

    Writes masses.FORMAT, mass_map.fits, figures/, report.html (all of it on one page) and run.json; where it fits the
    relation, relation.csv and relation.npz. Rows that cannot be used stay, with NaN and a flag.
    """
    start_jax(precision, device)
    from massmap_jax.run.outputs import check_output

    check_output(out, overwrite, catalogue, *_files_of(job))
    options = _checked(prior, job, columns)
    asked = record | _asked(catalogue, columns, options)
    _do(_reader(asked, options.make_map or options.circle is not None, options), out, overwrite, options, quiet, asked)


@command("fit", CatalogueOptions, PriorOptions, JobOptions, own=_own(_common) + _own(_replaceable))
def fit(
    columns,
    prior,
    job,
    *,
    catalogue: str,
    out: Path,
    overwrite: bool,
    precision: str,
    device: str,
    quiet: bool,
    record: dict,
):
    """The mass-luminosity relation of a catalogue, its masses marginalised, into a new folder.

    Writes relation.csv (draws, for `run --relation relation.csv --relation-from this_catalogue`), relation.npz,
    figures/ and run.json; with --compare-populations, populations.csv. `run --relation-prior ...` fits and goes on to
    the masses.

    Example:

        massmap-jax fit clusters.fits --out fit --lum L500 --z z --sigma L500_err --lum-limit 1.5
        --relation-prior alpha1=0:5,alpha2=1.6:0.1,alpha4=1,scatter=0.35:0.05,alpha3=3e14
    """
    start_jax(precision, device)
    from massmap_jax.catalogue.result_folder import atomic_directory
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.outputs import check_output, write_fit_outputs

    check_output(out, overwrite, catalogue, *_files_of(job))
    options = _checked(prior, replace(job, relation="fit", make_map=False, make_report=False), columns)
    asked = record | _asked(catalogue, columns, options)
    with atomic_directory(out, overwrite) as directory, Progress(quiet) as watch:
        clock = Clock(watch)
        with clock.stage("reading"):
            objects, *beside = _with_files(asked, options, _reader(asked, options.make_map, options)())
        from massmap_jax.run.job import compute_fit

        result = compute_fit(objects, options, clock, *beside)
        record = write_fit_outputs(directory, objects, result, options, clock, asked)
    if not quiet:
        notes = [note for note in record["notes"] if note not in result.fitted.notes]  # its summary has its own
        lines = _warning(record) + [f"note: {_as_options(note)}" for note in notes]
        lines += [_as_options(result.fitted.summary())]
        lines += [] if result.check is None else [result.check.summary()]
        lines += [] if result.compared is None else [_as_options(result.compared.summary())]
        lines += [f"prior: {record['prior']}"]
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["seconds"].items())
        typer.echo("\n".join([*lines, f"seed {options.seed}; {seconds}", f"results in {out}"]))


@command(
    "hosts", CatalogueOptions, PriorOptions, HostOptions, own=_own(_common) + _own(_replaceable), like="fit"
)  # fmt: skip
def hosts(
    columns,
    prior,
    options,
    *,
    catalogue: str,
    out: Path,
    overwrite: bool,
    precision: str,
    device: str,
    quiet: bool,
    record: dict,
):
    """Host masses of galaxies that may be satellites, and a map that counts each halo once, into a new folder.

    Writes hosts.FORMAT, host_map.fits, figures/ and run.json. A galaxy has the probability of being a satellite, the
    mass of its host, and the mass if it is a central and if it is a satellite.

    Example:

        massmap-jax hosts galaxies.fits --out hosts --lum L_r --z z --sigma 0.1 --sigma-kind ln
        --relation lc_cacciato09 --satellites cacciato2009 --prior prior_180m.npz --is-central FLAG --purity 0.85
    """
    options = replace(options, prior=prior)
    check_host_options(options)
    start_jax(precision, device)
    from massmap_jax.catalogue.flags import summary_lines
    from massmap_jax.catalogue.result_folder import atomic_directory
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.hosts import compute_hosts, write_hosts
    from massmap_jax.run.membership_columns import read_membership
    from massmap_jax.run.outputs import check_output, map_line

    check_output(out, overwrite, catalogue)
    # Apparent magnitudes need the cosmology, as in a run.
    asked = record | _asked(catalogue, columns, _with_columns(prior, options.job, columns))
    with atomic_directory(out, overwrite) as directory, Progress(quiet) as watch:
        clock = Clock(watch)
        with clock.stage("reading"):
            galaxies = _reader(asked, need_positions=False)()
            membership = read_membership(catalogue, asked["columns"], options)
        result = compute_hosts(galaxies, membership, options, clock)
        record = write_hosts(directory, result, options, clock, asked)
    if quiet:
        return
    lines = [f"note: {_as_options(note)}" for note in result.notes]
    lines += summary_lines(result.posterior.flag)
    lines += [
        f"satellites expected among them: {record['expected_satellites']:,.1f}",
        f"prior: {record['prior']}; masses {record['mass_definition']}, Msun without h",
        f"relation: {record['relation_source']}; satellites: {record['satellites_source']}",
    ]
    if result.mass_map is not None:
        lines.append(map_line(result.mass_map))
    typer.echo("\n".join([*lines, f"seed {options.seed}", f"results in {out}"]))


def _own_of_stream(
    resume: Annotated[bool, _option("--resume", help="Go on with a run that was stopped.", group=OUTPUT)] = False,
    chunk_rows: Annotated[int, _option(help="Rows of a part; memory is in proportion.", group=MACHINE)] = 1_000_000,
    columns: Annotated[str | None, _option(help="Columns to write, separated by commas.", group=OUTPUT)] = None,
    float32: Annotated[
        bool, _option("--float32/--no-float32", help="Write numbers in single precision.", group=OUTPUT)
    ] = False,
    method: Annotated[
        str, _option(help="surface (interpolated, to 1 % of the error), or analytic.", group=MASSES)
    ] = "surface",
    format: Annotated[str, _option(help="Kind of the parts: parquet or fits.", group=OUTPUT)] = "parquet",
    map_centre: Annotated[str | None, _option(help="RA,DEC in degrees of a mass map's middle.", group=MAP)] = None,
    map_arcmin: Annotated[float | None, _option(help="Side of that map.", group=MAP)] = None,
):
    """Options that only `stream` has."""


@command("stream", CatalogueOptions, PriorOptions, JobOptions, own=_own(_common) + _own(_own_of_stream))
def stream(
    columns_read,
    prior,
    job,
    *,
    catalogue: str,
    out: Path,
    resume: bool,
    chunk_rows: int,
    columns: str | None,
    float32: bool,
    method: str,
    format: str,
    map_centre: str | None,
    map_arcmin: float | None,
    precision: str,
    device: str,
    quiet: bool,
    record: dict,
    config: Config | None,
):
    """Masses of a catalogue larger than memory, a chunk at a time, into a new folder.

    Reads a Parquet file or a folder of them, FITS, CSV or text. Writes masses/part-*.parquet, in order,
    manifest.jsonl, run.json and, with --map-centre and --map-arcmin, mass_map.fits. A run that was stopped, however
    it was, goes on with --resume and ends with the same bytes.

    Example:

        massmap-jax stream survey/ --out masses --lum L500 --z z --relation fit/relation.npz
        --relation-from this_catalogue --float32
    """
    start_jax(precision, device)
    from massmap_jax.scale.stream import StreamOptions, write_record
    from massmap_jax.scale.stream import stream as run_stream

    job = _with_columns(prior, job, columns_read)
    options = StreamOptions(
        job=job,
        columns=_keywords(columns_read, job),
        keep=None if columns is None else tuple(c.strip() for c in columns.split(",")),
        map_centre=pair("map_centre", map_centre),
        map_arcmin=map_arcmin,
        method=method,
        chunk_rows=chunk_rows,
        float32=float32,
        format=format,
        precision=precision,
    )
    before = config.inputs.get("catalogue", {}).get("files") if config else None
    _Stop.outcome = f"go on with --resume; what is done is in {out}"
    with Progress(quiet) as watch:
        total = run_stream(catalogue, out, options, resume=resume, before=before, watch=watch)
    write_record(out, record, total)
    if not quiet:
        typer.echo("".join(f"note: {_as_options(note)}\n" for note in total["notes"]), nl=False)
        flags = ", ".join(f"{name} {rows:,}" for name, rows in total["flags"].items()) or "none"
        typer.echo(f"{total['rows']:,} rows in {total['done']} parts; flags: {flags}")
        if options.method == "surface":
            typer.echo(f"{total['beside_surface']:,} rows beside the posterior surface, integrated one by one")
        typer.echo(f"results in {out}")


def _with_columns(prior: PriorOptions, job: JobOptions, columns: CatalogueOptions) -> JobOptions:
    """The options of a job, with what they need to know of the catalogue's."""
    return replace(
        job,
        prior=prior,
        apparent_magnitudes=columns.magnitudes == "apparent",
        moving_luminosity=columns.lum_moves == "yes",
        uncertain_redshifts=(columns.z_err, columns.z_pdf, columns.z_quantiles) != (None, None, None),
    )


def _keywords(columns: CatalogueOptions, options: JobOptions) -> dict:
    """The keywords of `read_catalogue`; apparent magnitudes need the job's cosmology and K-correction."""
    distances = {"cosmology": options.prior.cosmology, "k_correction": options.k_correction}
    moving = {"z_k_slope": options.k_correction} if options.moving_luminosity else {}
    return columns.keywords | (distances if options.apparent_magnitudes else {}) | moving


def _checked(prior: PriorOptions, job: JobOptions, columns: CatalogueOptions) -> JobOptions:
    """The options of a run, refused where no catalogue could mend them. A prior of the relation asks for a fit."""
    if job.relation is None and job.relation_prior is not None:
        job = replace(job, relation="fit")
    examples = {"map_slices": "edges in redshift, such as 0.1,0.3,0.5", "circle": "RA,DEC,RADIUS, such as 150.1,2.2,5"}
    texts = {name: text for name in examples if isinstance(text := getattr(job, name), str)}
    read = {name: numbers(name, text, examples[name]) for name, text in texts.items()}
    options = replace(_with_columns(prior, job, columns), **read)
    check_options(options)
    return options


def _asked(catalogue: str, columns: CatalogueOptions, options: JobOptions) -> dict:
    """Catalogue and columns as `read_catalogue` takes them, for the record of the run."""
    return {"catalogue": str(catalogue), "columns": _keywords(columns, options)}


def _reader(asked: dict, need_positions: bool, options: JobOptions | None = None) -> Callable:
    """A function that reads the catalogue, and adds to the record which columns and files were read."""

    def read():
        from massmap_jax.catalogue.read import read_catalogue

        try:
            catalogue = read_catalogue(asked["catalogue"], **asked["columns"], need_positions=need_positions)
        except MassmapError as error:
            if options is None:
                raise
            from massmap_jax.run.calibration_columns import asked_of_masses

            more = asked_of_masses(asked["catalogue"], asked["columns"], options)
            raise MassmapError(f"{error}{more}") from None
        asked["columns_read"] = catalogue.columns_read
        asked["inputs"] = inputs_of(asked["config"])
        return catalogue

    return read


def _files_of(job: JobOptions) -> tuple[str | None, ...]:
    """The files that are read beside the catalogue."""
    return job.calib_file, job.mass_likelihood, job.shear, job.cosmology_draws, job.completeness


def _with_files(asked: dict, options: JobOptions, catalogue):
    """The catalogue with its further observables and all notes; measured masses, mass likelihoods and completeness, or
    None."""
    notes: list[str] = []
    if options.observable is not None:
        from massmap_jax.run.observable_columns import read_observables

        catalogue = read_observables(asked["catalogue"], asked["columns"], options, catalogue, notes)
    calibration = None
    if options.calib_mass is not None:
        from massmap_jax.run.calibration_columns import read_calibration

        # An object without a luminosity can be used where another observable was measured.
        seen = catalogue.seen_by(tuple(named(options, "observable")))
        calibration = read_calibration(asked["catalogue"], asked["columns"], options, seen, notes)
    likelihoods = None
    if options.has_likelihoods:
        from massmap_jax.run.mass_likelihood_columns import read_likelihoods

        likelihoods = read_likelihoods(asked["catalogue"], asked["columns"], options, catalogue, notes)
    completeness = None
    if options.completeness is not None:
        from massmap_jax.run.completeness import read_completeness

        completeness = read_completeness(asked["columns"], options, catalogue, notes)
    return replace(catalogue, notes=(*catalogue.notes, *notes)), calibration, likelihoods, completeness


@app.command()
def demo(
    out: Out = Path("massmap_demo"),
    num_halos: Annotated[int, typer.Option(help="Objects in the simulated field.")] = 20_000,
    map_colours: Annotated[
        str, typer.Option(help="Colours of maps: magma (bright is massive) or grey (dark is massive).")
    ] = "magma",
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
    from massmap_jax.run.outputs import check_output

    check_output(out, overwrite)
    # The field holds no halo below the table's lowest mass: its end is physical.
    options = JobOptions(
        prior=PriorOptions(support="sharp"),
        relation="fit",
        relation_prior="bigmali2017",
        map_colours=map_colours,
        seed=seed,
    )
    check_options(options)
    _check_positive("num_halos", num_halos)

    def read():
        import jax

        from massmap_jax.simulate import simulate_field

        return simulate_field(jax.random.key(seed), num_halos, clustering="lognormal")

    field = {}

    def simulate_and_keep():
        field["made"] = read()
        return field["made"].catalogue

    record = _record("demo") | {"catalogue": f"simulated field of {num_halos} halos"}
    result = _do(simulate_and_keep, out, overwrite, options, quiet, record, lambda: field["made"])
    if not quiet:
        typer.echo(result.fitted.against(field["made"].relation))


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="File: .parquet, .fits, .csv, .ecsv or .vot.")],
    num_halos: Annotated[int, typer.Option(help="Objects drawn, before the luminosity limit.")] = 20_000,
    flux_limit: Annotated[
        float | None,
        typer.Option("--lum-limit", "--flux-limit", help="Drop objects with observed luminosity below this."),
    ] = None,
    side_arcmin: Annotated[float, typer.Option(help="Side of the square field.")] = 40.0,
    z_max: Annotated[float, typer.Option(help="Largest redshift.")] = 3.5,
    sigma: Annotated[float, typer.Option(help="Noise in ln L.")] = 0.05,
    clustering: Annotated[
        str, typer.Option(help="Positions: thomas (clusters of one size) or lognormal (large-scale structure).")
    ] = "thomas",
    seed: Seed = 0,
    overwrite: Overwrite = False,
):
    """A simulated light cone, true masses beside the data, as a catalogue file.

    Example:

        massmap-jax simulate --out field.fits --num-halos 5000 --lum-limit 8000
    """
    if out.exists() and not overwrite:
        raise MassmapError(f"{out} exists and is left as it was: choose another name or pass --overwrite")
    _check_positive("num_halos", num_halos)
    start_jax("float32")
    import jax
    import numpy as np

    from massmap_jax.catalogue.write import write_table
    from massmap_jax.posterior.columns import LOGARITHMS
    from massmap_jax.simulate import simulate_field

    check_options(JobOptions(relation="identity", seed=seed))
    field = simulate_field(
        jax.random.key(seed),
        num_halos,
        side_arcmin=side_arcmin,
        z_max=z_max,
        sigma_ln_lum=sigma,
        flux_limit=flux_limit,
        clustering=clustering,
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
        "logarithms": LOGARITHMS,
        "prior": field.prior.description,
        "relation": field.relation.source,
        "flux_limit": flux_limit,
    }
    write_table(out, columns, meta, {"ra": "deg", "dec": "deg", "mass_true": "solMass"}, overwrite=overwrite)
    typer.echo(f"{out}: {len(cat)} of {num_halos} halos, z {cat.redshift.min():.3f} to {cat.redshift.max():.3f}")
    typer.echo("no halo is lighter than the prior's table, so run it with --prior-support sharp --truth mass_true")


@app.command()
def relations(
    name: Annotated[str | None, typer.Argument(help="A published relation; without one all are listed.")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Write a picture of the relation there.")] = None,
):
    """The published relations of mass and observable that --relation knows, or one of them with source and range.

    Example:

        massmap-jax relations lx_mcxc11 --figure lx_mcxc11.png
    """
    from massmap_jax.run.relations import list_relations, show_relation

    if name is None:
        typer.echo(list_relations())
        return
    start_jax("float32", "cpu")
    typer.echo(show_relation(name, figure))


@app.command()
def columns(name: Annotated[str | None, typer.Argument(help="A layout; without one all are listed.")] = None):
    """The layouts of published catalogues that --columns knows, or one of them column by column.

    Example:

        massmap-jax columns act
    """
    from massmap_jax.catalogue.layouts import list_layouts, show_layout

    typer.echo(list_layouts() if name is None else show_layout(name))


@app.command()
def config(
    command: Annotated[str, typer.Argument(help="The command that it is for: run, fit, hosts or stream.")] = "run",
):
    """A file with all options of a command at their defaults, for its --config.

    Example:

        massmap-jax config > run.yaml
    """
    if command not in SETTINGS:
        raise MassmapError(f"{command!r} has no file of options: give one of {', '.join(SETTINGS)}")
    typer.echo(template(command, SETTINGS[command]), nl=False)


@app.command()
def info(path: Annotated[str, typer.Argument(help="Catalogue (FILE[EXT]), prior .npz, masses, map, result folder.")]):
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
    os.environ["MPLBACKEND"] = "Agg"  # files only: whatever is set for windows is of no use here
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


def _do(read, out: Path, overwrite: bool, options, quiet: bool, record: dict, simulated=lambda: None):
    """Read, compute and write behind a progress line; then a summary. A simulated field is known once it was read."""
    from massmap_jax.catalogue.result_folder import atomic_directory
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.outputs import circle_line, map_line, write_outputs

    with atomic_directory(out, overwrite) as directory, Progress(quiet) as watch:
        clock = Clock(watch)
        with clock.stage("reading"):
            catalogue, *beside = _with_files(record, options, read())
        from massmap_jax.run.job import compute

        result = compute(catalogue, options, clock, *beside)
        known: tuple = ()
        if (made := simulated()) is not None:
            from massmap_jax.run.pictures import truth_maps

            known = made.relation, truth_maps(result, options)
        record = write_outputs(directory, result, options, clock, record, *known)
    if quiet:
        return result
    lines = _warning(record) + [f"note: {_as_options(note)}" for note in result.notes]
    lines += [result.posterior.summary()]
    lines += [f"prior: {record['prior']}; masses {record['mass_definition']}, Msun without h"]
    if result.fitted is not None:
        lines += [line for line in result.fitted.summary().splitlines() if not line.startswith("note")]
        lines += [] if result.check is None else [result.check.summary()]
    lines += [f"relation: {record['relation_source']}; weights: {record['relation_from']}"]
    if record["cosmology_draws"] is not None:
        lines.append(f"cosmology: {record['cosmology_draws']['summary']}")
    if result.mass_map is not None:
        lines.append(map_line(result.mass_map))
    if result.circle is not None:
        lines.append(circle_line(options.circle, result.circle))
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record["seconds"].items())
    lines += [f"seed {options.seed}; {seconds}", f"results in {out}"]
    typer.echo("\n".join(lines))
    return result


def _warning(record: dict) -> list[str]:
    """The line on top of a summary where a misfit was accepted."""
    return [f"warning: {record['warning']}"] if "warning" in record else []


def _check_positive(name: str, number: int) -> None:
    if number < 1:
        raise MassmapError(f"{name} is {number}: give at least 1")


class _Command:
    """The command that runs, whose options its sentences name; None for those that have none of a catalogue."""

    name: str | None = None


def _as_options(sentence: str, running: str | None = None) -> str:
    """Arguments of the library, as `lum_log='log10'`, in the words of the command line, `--lum-log log10`.

    An option that the running command lacks is said to be that of another one.
    """
    known = OPTIONS | set(simulate.__annotations__)
    running = running or _Command.name
    have = {s.name for s in SETTINGS.get(running or "", [])} | set(COMMAND_LINE_ONLY)
    if running == "stream":
        have.discard("columns")  # it is that of the columns to write, and in sentences a layout

    def option(match):
        name, value = match.group(1), match.group(2) or ""
        if name not in known:
            return match.group(0)
        value = "" if value == "True" else value  # a switch of the command line has no value
        # Quoted, so that a line of the shell can hold what the sentence says: --lum-in '1e44 erg/s'.
        told = f"--{name.replace('_', '-')} {shlex.quote(value.strip(chr(39))) if value else ''}".rstrip()
        others = [other for other, settings in SETTINGS.items() if name in {s.name for s in settings}]
        elsewhere = running in SETTINGS and name not in have and others and others != [running]
        return f"{told} of {PROGRAM} {next(o for o in others if o != running)}" if elsewhere else told

    # Only fits advise NUTS, and the program's `method` is that of the masses.
    sentence = re.sub(r"\bmethod='nuts'", "fit_method='nuts'", sentence)
    # A quote before it begins what the user gave, such as 'h=0.7,Om0=0.3'.
    return re.sub(r"(?<!['\"])\b([a-z_]+)=('[^']*'|[\w.+-]+)?", option, sentence)


def _value_given(error) -> str:
    """The value that a usage error is about, which its own text may leave out."""
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in sys.argv[:-1]:
            return f" (given: {sys.argv[sys.argv.index(option) + 1]})"
    return ""


def _of_other_commands(error) -> str:
    """A sentence on an option that this command does not have, and others have; empty for other errors."""
    flag = getattr(error, "option_name", "")
    flags = {name: {f"--{s.name.replace('_', '-')}" for s in settings} for name, settings in SETTINGS.items()}
    have = [name for name, known in flags.items() if flag in known]
    if not have:
        return ""
    return f"{flag} is an option of {PROGRAM} {' and '.join(have)}, not of {error.ctx.info_name}: leave it out"


class _Stop:
    """What ends the program when it is told to, at once: to unwind or leave a running JAX may crash.

    The signal is that of Ctrl-C, unless a batch system or a closed terminal has sent another.
    """

    outcome = "nothing was written"
    signals = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    @classmethod
    def listen(cls) -> None:
        """Hear the signals that ask a program to end; not those that were ignored already (nohup)."""
        for number in cls.signals:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, cls.now)

    @classmethod
    def now(cls, number: int, frame) -> NoReturn:
        """Put in order what is half done, say so, and end."""
        for heard in cls.signals:
            signal.signal(heard, signal.SIG_IGN)
        undo_all()
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        with contextlib.suppress(OSError):  # of a terminal that is gone
            os.write(2, f"stopped{by}: {cls.outcome}\n".encode())  # `print` may be where the signal came
        os._exit(128 + number)


def _jax_cannot_start() -> bool:
    """Whether JAX finds no device of the platforms that the environment names; it says so in several ways."""
    if "JAX_PLATFORMS" not in os.environ or "jax" not in sys.modules:
        return False
    try:
        sys.modules["jax"].devices()
    except Exception:
        return True
    return False


def main() -> None:
    """Entry point: every bad input is one line on stderr and exit code 2."""
    _Stop.listen()
    # typer carries its own copy of click in newer versions: take the class from where typer has it.
    usage_error = typer.BadParameter.__bases__[0]
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except MisfitError as error:
        print(f"error: {' '.join(_as_options(str(error)).split())}", file=sys.stderr)
        sys.exit(3)
    except MassmapError as error:
        message = _as_options(str(error))
    except usage_error as error:
        message = _of_other_commands(error) or error.format_message() + _value_given(error)
    except BrokenPipeError:
        sys.exit(1)
    except (RuntimeError, AssertionError):
        if not _jax_cannot_start():
            raise
        message = (
            f"JAX cannot start on JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}, as the environment asks: unset it, or "
            "give --device cpu"
        )
    except (OSError, MemoryError) as error:
        message = f"{error.strerror or error}: {error.filename}" if isinstance(error, OSError) else "out of memory"
    if message.strip():  # without arguments help is shown, and the usage error says nothing more
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
