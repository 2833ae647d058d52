"""Measured masses of a run: columns of the catalogue or of a second file, by the rules of a catalogue's columns."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, id_columns, named_column
from massmap_jax.catalogue.columns import ColumnTable, rows_text
from massmap_jax.catalogue.flags import Flag, count
from massmap_jax.catalogue.limit_flags import limits_among, note_limits_of_any, note_other_flags
from massmap_jax.catalogue.luminosity import Luminosity, numbers, read_luminosity
from massmap_jax.catalogue.luminosity_error import open_question, read_sigma
from massmap_jax.catalogue.match import Matches, match_to_catalogue
from massmap_jax.catalogue.position_columns import find_positions
from massmap_jax.catalogue.positions import check_positions
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import (
    contradicts_name,
    mass_definition_in,
    overdensity_in,
    refuse_unit_with_h,
    unit_at_end,
    unit_in_name,
)
from massmap_jax.errors import MassmapError
from massmap_jax.labels import UNSTATED, prior_of
from massmap_jax.run.observable_names import refuse_no_halo_mass
from massmap_jax.run.options import number_or_name

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.calibration import CalibrationMasses
    from massmap_jax.run.options import JobOptions

# M200m / M200c is 1.2 to 1.4 for clusters, the more the less concentrated they are.
_ONE_OF_200 = " (M200 of lensing, X-rays and dynamics is mostly 200c, about 0.1 dex lower than the prior's 200m)"
# Errors of masses from many photons reach 1 to 2 %, before what is common to all.
_SMALLEST = 0.005
# A bias in ln M that is told of, and so many masses tell whether bars grow with them.
_LEAST_SHIFT, _SEVERAL = 0.02, 5
# What the readers of a catalogue call an argument, and the option that it is of the measured masses.
_OPTIONS = {
    "ids": "calib_id",
    "redshift": "calib_z",
    "separation_arcmin": "calib_separation",
    "redshift_window": "calib_dz",
    "lum_unit": "calib_unit",
    "lum_log": "calib_log",
    **{
        name: f"calib_{name}"
        for name in ("ra", "dec", "position_unit", "z", "sigma", "sigma_kind", "sigma_plus", "sigma_minus")
    },
}
# What they advise of a luminosity, and what of masses: lum_scale= and lum_in= are of the luminosity alone.
_REMEDIES = {
    r" and lum_scale=1(?!\d)": "",
    r": convert with lum_in='[^']*', or pass lum_scale=1 too if the file is wrong": (
        ": leave lum_unit= out, or correct the unit in the file if that is wrong"
    ),
    r"divide by h with lum_scale=.* or keep the unit with lum_unit='Msun/h'": (
        "give lum_unit= without h, as '1.4286e14 Msun' for 1e14 Msun/h and h = 0.7"
    ),
}


def read_calibration(
    source: str, columns: dict, options: JobOptions, catalogue: HaloCatalogue, notes: list[str]
) -> CalibrationMasses | None:
    """Read the measured masses that the options name.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was read with.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue, whose rows they belong to.
    notes : list of str
        What was taken for granted or converted is added.

    Returns
    -------
    CalibrationMasses or None
        None if the options name none.

    Raises
    ------
    MassmapError
        For columns that do not exist, masses that are not in a unit of mass, an error whose kind is not clear, or
        objects of a second file that cannot be told to be those of the catalogue.
    """
    if options.calib_mass is None:
        return None
    from massmap_jax.relation.calibration import CalibrationMasses

    found: list[str] = []
    try:
        table = catalogue_table(source, columns) if options.calib_file is None else _open_second(options)
        if options.calib_file is None:
            _refuse_observable(table, options, catalogue)
        ln_mass, sigma = _masses(table, options, found)
        correlation = _correlation(table, options, found)
        if options.calib_file is not None:
            matches = _match(source, columns, table, options, catalogue, np.isfinite(ln_mass), found)
            ln_mass, sigma, correlation = map(matches.spread, (ln_mass, sigma, correlation), (np.nan, np.nan, 0.0))
    except MassmapError as error:
        raise MassmapError(_of_calibration(str(error))) from None
    notes.extend(f"calibration masses: {_of_calibration(note)}" for note in found)
    there = np.isfinite(ln_mass)
    notes.append(
        f"{there.sum():,} of {len(catalogue):,} objects have a calibration mass ({options.calib_mass!r}), taken as a"
        " measurement into which no prior went"
        + (
            ", of objects chosen at random (calib_chosen_by= says another way)"
            if options.calib_chosen_by == "random" and there[catalogue.usable].sum() < catalogue.usable.sum()
            else ""
        )
    )
    if (out := there & ~catalogue.usable).any():
        why = ", ".join(f"{flag} {number}" for flag, number in count(catalogue.flag[out]).items())
        notes.append(
            f"{out.sum():,} of these are rows of the catalogue that cannot be used, and inform nothing ({why})"
        )
    calibration = CalibrationMasses.from_arrays(
        mass=np.exp(ln_mass),
        sigma_ln_mass=sigma,
        correlation=correlation,
        bias=options.calib_bias,
        scatter=options.calib_scatter,
        scatter_correlation=options.calib_scatter_correlation,
        chosen_by=options.calib_chosen_by,  # type: ignore[arg-type]
        noise=options.calib_noise,  # type: ignore[arg-type]
        mass_definition=_definition(table, options),
    )
    if all(isinstance(known := calibration.beliefs[p], float) and known == 0 for p in ("bias", "mass_scatter")):
        notes.append(
            "the measured masses are taken to have no bias and no scatter about the true ones, and neither is in an"
            " error bar: calib_bias= and calib_scatter= say what is believed of them (of weak lensing about 0:0.05 and"
            " 0.2:0.05)"
        )
    return calibration


def in_definition_of(
    prior: MassPrior,
    calibration: CalibrationMasses | None,
    options: JobOptions,
    catalogue: HaloCatalogue,
    notes: list[str],
) -> CalibrationMasses | None:
    """Bring measured masses to the mass prior's definition where that is asked for, and refuse another one.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    calibration : CalibrationMasses or None
        The masses.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue, for its redshifts.
    notes : list of str
        What was converted, or cannot be compared, is added.

    Returns
    -------
    CalibrationMasses or None
        The masses, None if there are none.

    Raises
    ------
    MassmapError
        For definitions that differ, or cannot be converted.
    """
    if calibration is None:
        return None
    given, wanted = calibration.mass_definition, prior.mass_definition
    if given in UNSTATED or wanted in UNSTATED:
        if wanted not in UNSTATED and contradicts_name(wanted, str(options.calib_mass)):
            stated = overdensity_in(str(options.calib_mass))
            raise MassmapError(
                f"the calibration masses are M{stated} by the name of their column {options.calib_mass!r}, and those of"
                f" the mass prior {wanted}: state their definition (calib_definition='{stated}c') and give a prior of"
                f" it ({prior_of(f'{stated}c')}), or calib_convert= to convert them as NFW halos"
            )
        told, option = ("mass prior", "mass") if wanted in UNSTATED else ("calibration masses", "calib")
        if options.calib_convert:
            raise MassmapError(f"calib_convert= needs the definition of the {told}: give {option}_definition=")
        notes.append(
            f"the definition of the {told} is not stated, so that calibration and mass prior are not compared:"
            f" {option}_definition= states it"
            + (_ONE_OF_200 if wanted == "200m" and overdensity_in(str(options.calib_mass)) == "200" else "")
        )
        return calibration
    if given == wanted:
        return calibration
    if not options.calib_convert:
        raise MassmapError(
            f"the calibration masses are {given} and those of the mass prior {wanted}: give a prior of their definition"
            f" ({prior_of(given)}), or calib_convert= to convert them as NFW halos"
        )
    converted = calibration.in_definition(wanted, catalogue.redshift, options.prior.cosmology)
    with np.errstate(invalid="ignore"):
        added = np.sqrt(converted.sigma**2 - calibration.sigma**2)
    notes.append(
        f"calibration masses: converted from {given} to {wanted} as NFW halos of the concentrations of Duffy et al."
        f" 2008, by factors of {np.exp(np.nanmedian(converted.ln_mass - calibration.ln_mass)):.3g} (the median); their"
        f" scatter adds {np.nanmedian(added):.2g} in ln M to each error"
    )
    return converted


def catalogue_table(source: str, columns: dict, ids: str | None = None) -> ColumnTable:
    """Open the table of the catalogue as it was read.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was read with.
    ids : str, optional
        One more column of ids.

    Returns
    -------
    ColumnTable
        The table.
    """
    return open_table(
        source, names=columns.get("names"), delimiter=columns.get("delimiter"), header=columns.get("header"),
        text_columns=id_columns(ids),
    )  # fmt: skip


def _open_second(options: JobOptions) -> ColumnTable:
    """The table of the second file."""
    table = open_table(options.calib_file, text_columns=id_columns(options.calib_id))
    if table.column(table.names[0]).size == 0:
        raise MassmapError(f"{table.label} has no rows, and calibration masses are needed")
    return table


def _masses(table: ColumnTable, options: JobOptions, found: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """ln of the masses and their errors in ln M, both NaN where one cannot be used."""
    name = named_column(table, str(options.calib_mass), "calib_mass")
    refuse_no_halo_mass(name)
    given = options.calib_unit
    unit = given or table.units.get(name) or unit_in_name(name)
    if not unit and (unit := unit_at_end(name)):
        given = unit
        found.append(f"mass unit: {unit!r}, from the name of the column")
    if not unit:
        raise MassmapError(
            f"calibration mass column {name!r} of {table.label} states no unit: give calib_unit='1e14 Msun', or"
            " whatever it is" + _asked_of_errors(table, name, options)
        )
    refuse_unit_with_h(f"calibration mass column {name!r} of {table.label}", unit, "calib_unit")
    mass = read_luminosity(
        table, name, found, lum_log=options.calib_log, lum_scale=None, lum_unit=given, lum_in="Msun",
        magnitudes=None, redshift=np.zeros(0),
    )  # fmt: skip
    sigma, bad = _errors(table, mass, options, found)
    if options.calib_file is not None:  # of the catalogue's own table it is told of the luminosity
        note_limits_of_any(table, name, found)
        note_other_flags(table, name, found)
    if (limits := limits_among(table, name, found)).any():  # no masses, as blanks are none
        mass = mass._replace(ln_lum_obs=np.where(limits, np.nan, mass.ln_lum_obs))
    from massmap_jax.relation.calibration import LEAST_MASS_RATIO

    linear = options.calib_noise == "linear"
    least = LEAST_MASS_RATIO if linear else 1.0
    short = linear & (mass.flag == 0) & (bad == 0) & (sigma * least > 1)
    usable = (mass.flag == 0) & (bad == 0) & np.isfinite(mass.ln_lum_obs) & np.isfinite(sigma) & ~short
    if not usable.any():
        raise MassmapError(
            f"none of the {usable.size} rows of {table.label} has a calibration mass that can be used: is {name!r} the"
            f" right column, and {options.calib_sigma or options.calib_sigma_plus!r} its error?"
        )
    below = (mass.flag == int(Flag.LUM_NOT_POSITIVE)) & (mass.raw < 0)
    faint = below | short | (mass.flag == 0) & ((bad & int(Flag.SIGMA_LOW_SNR)) != 0)
    faint &= ~limits if limits.size else True
    if faint.any():
        _tell_faint(name, faint, mass.raw, int(usable.sum()), least, options, found)
    if options.calib_noise == "lognormal":
        _tell_of_bars(table, mass, usable, options, found)
    if left_out := int((np.isfinite(mass.ln_lum_obs) & ~usable & ~faint).sum()):
        found.append(f"{left_out:,} are left out, because their errors cannot be used")
    if (typical := float(np.median(np.broadcast_to(sigma, usable.shape)[usable]))) < _SMALLEST:
        found.append(
            f"WARNING, tiny errors: they have a median of {100 * typical:.2g} %, and no halo's mass is measured to"
            f" {100 * _SMALLEST:g} %; see whether they are in the unit of the masses ({unit!r}) and of the kind that"
            " calib_sigma_kind says, and what scatter about the true masses comes on top (calib_scatter=)"
        )
    return np.where(usable, mass.ln_lum_obs, np.nan), np.where(usable, sigma, np.nan)


def _tell_faint(
    name: str, faint: np.ndarray, raw: np.ndarray, used: int, least: float, options: JobOptions, found: list[str]
) -> None:
    """Refuse to leave measurements out that are not larger than their errors, but a few: the light halos have these."""
    from massmap_jax.relation.data import are_few

    told = (
        f"of {faint.sum() + used:,} calibration masses ({name!r}) {rows_text(faint, raw)} are below zero or not larger"
        f" than {'' if least == 1 else f'{least:g} of '}their errors, and have no logarithm with a normal error"
    )
    if are_few(int(faint.sum()), int(faint.sum()) + used):
        found.append(f"{told}: they are left out")
        return
    why = "without them, which are the light ones, all masses come out too large"
    if not options.accept_misfit:
        raise MassmapError(
            f"{told}; {why}: give the masses as likelihoods that are normal in the mass itself, with mass_likelihood="
            " and its options in place of calib_mass= and these, or with accept_misfit= leave them out"
        )
    found.append(f"WARNING, masses left out: {told}; {why}")


def _tell_of_bars(table: ColumnTable, mass: Luminosity, usable, options: JobOptions, found: list[str]) -> None:
    """Say by how much masses come out too large where bars are those of linear noise, and look like it."""
    try:
        part, _ = _errors(table, mass, replace(options, calib_noise="linear"), [])
    except MassmapError:  # errors of a logarithm
        return
    part = np.broadcast_to(part, usable.shape)[usable]
    shift = 1.5 * float(np.median(part**2))
    # Noise that is lognormal has bars that grow with the mass, and fractions that do not.
    if part.size < _SEVERAL or shift < _LEAST_SHIFT:
        return
    if np.std(np.log(part * mass.raw[usable])) > 1.2 * np.std(np.log(part)):
        return
    found.append(
        f"their bars, with a median of {100 * np.median(part):.0f} %, are taken as errors of ln M: where the noise is"
        " normal in the mass, and as long whatever was measured, as that of the shapes of galaxies is, masses come out"
        f" too large by {100 * shift:.0f} % or more, and calib_noise='linear' puts that right"
    )


def _errors(table: ColumnTable, mass: Luminosity, options: JobOptions, found: list[str]):
    """Errors of the masses in ln M (of linear noise, as fractions of them), and flags of those that cannot be used."""
    least = None if options.calib_noise == "linear" else 1.0001
    return read_sigma(
        table, mass, found, sigma=number_or_name(options.calib_sigma), kind=options.calib_sigma_kind,
        plus=options.calib_sigma_plus, minus=options.calib_sigma_minus, min_snr=least,
        choose=lambda role, given, option, **more: _chosen(table, role, given, option), whole=True,
    )  # fmt: skip


def _asked_of_errors(table: ColumnTable, name: str, options: JobOptions) -> str:
    """What the errors of masses without a unit do not say either, to be asked at once; "" where they are clear."""
    return open_question(table, name, options.calib_log, lambda bare: _errors(table, bare, options, []))


def asked_of_masses(source: str, columns: dict, options: JobOptions) -> str:
    """Say what the columns of the measured masses leave open, beside a catalogue that leaves something open itself.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was to be read with.
    options : JobOptions
        The options of the run.

    Returns
    -------
    str
        The end of a sentence; empty where nothing is open, or the table cannot be read at all.
    """
    if options.calib_mass is None:
        return ""
    try:
        table = catalogue_table(source, columns) if options.calib_file is None else _open_second(options)
    except (MassmapError, OSError):
        return ""
    try:
        _masses(table, options, [])
    except MassmapError as error:
        return f"; and of the measured masses: {_of_calibration(str(error))}"
    return ""


def _refuse_observable(table: ColumnTable, options: JobOptions, catalogue: HaloCatalogue) -> None:
    """Refuse the column that is the observable: its scatter about itself would be taken for that of a relation."""
    name = named_column(table, str(options.calib_mass), "calib_mass")
    if name == catalogue.columns_read.get("lum"):
        raise MassmapError(
            f"column {name!r} is the observable and the calibration mass, too: name that of a mass which was measured"
            " in another way, or take the observable for the mass, relation='identity'"
        )


def _correlation(table: ColumnTable, options: JobOptions, found: list[str]) -> float | np.ndarray:
    """Correlation of the errors of mass and luminosity, a column or one number."""
    correlation = number_or_name(options.calib_correlation)
    if isinstance(correlation, str):
        return numbers(table, named_column(table, correlation, "calib_correlation"), "correlation", found)
    return 0.0 if correlation is None else correlation


def _chosen(table, role, given, option):
    """The column of the error, which has to be named: that of the luminosity would be guessed else."""
    if given is None:
        raise MassmapError("the calibration masses need an error: give calib_sigma=, a column or one number in ln M")
    return choose_column(table, role, given, _OPTIONS[option])[0]


def _definition(table: ColumnTable, options: JobOptions) -> str:
    """The definition of the masses, by the option or the column's name, which may not contradict each other."""
    name = named_column(table, str(options.calib_mass), "calib_mass")
    named, given = mass_definition_in(name), options.calib_definition
    if given is not None and (given != named if named else contradicts_name(given, name)):
        raise MassmapError(
            f"the column {options.calib_mass!r} holds {named or f'M{overdensity_in(name)}'} masses by its name, and"
            f" calib_definition is {given!r}: leave calib_definition= out, or rename the column"
        )
    return options.calib_definition or named or "unknown"


# -- rows of a second file --


def _match(
    source: str, columns: dict, table: ColumnTable, options: JobOptions, catalogue, use, found: list[str]
) -> Matches:
    """Find the rows of the catalogue that those of the second file are."""
    found.extend(table.notes)
    redshift = _redshift(table, options, found)
    more: list[str] = []
    position, _ = find_positions(table, options.calib_ra, options.calib_dec, options.calib_position_unit, None, more)
    ra = dec = None
    hints: tuple[str, ...] = ()
    if position:
        ra, dec, _, frame, hints = check_positions(**position)
        if frame != "sky":
            ra = dec = None
            more = [f"no positions: those of {table.label} are offsets from a centre that is not known"]
    more = [note.replace("no positions, and so no map", "no positions") for note in more]
    found.extend((*more, *hints))
    given = {"ra": ra, "dec": dec, "redshift": redshift, "use": use}
    given |= {"separation_arcmin": options.calib_separation, "redshift_window": options.calib_dz}
    if options.calib_id is not None:
        ids = table.column(named_column(table, options.calib_id, "calib_id"))
        catalogue = _with_ids(source, columns, options.calib_id, catalogue, found)
        matches = match_to_catalogue(catalogue, ids=ids, **given)
    else:
        if ra is None:
            raise MassmapError(
                f"the rows of {table.label} have to be matched with those of the catalogue: name the column of their"
                " ids with calib_id=, or of their positions with calib_ra= and calib_dec="
                + "".join(f" ({note})" for note in more)
            )
        try:
            matches = match_to_catalogue(catalogue, **given, names=_names(table))
        except MassmapError as error:
            raise MassmapError("; ".join([str(error), *hints])) from None
    found.extend(matches.notes)
    return matches


def _redshift(table: ColumnTable, options: JobOptions, found: list[str]) -> np.ndarray | None:
    """Redshifts of the second file, None where it has none."""
    try:
        name, more = choose_column(table, "redshift", options.calib_z, "calib_z")
    except MassmapError as error:
        if options.calib_id is None or options.calib_z is not None or options.calib_dz is not None:
            raise
        name, more = None, (f"redshifts are not compared: {error}",)  # ids do without
    found.extend(more)
    if name is None:
        if options.calib_dz is not None:
            raise MassmapError(f"calib_dz needs redshifts, and {table.label} has none: name their column with calib_z=")
        return None
    return numbers(table, name, "redshift", found)


def _with_ids(source: str, columns: dict, name: str, catalogue: HaloCatalogue, found: list[str]) -> HaloCatalogue:
    """The catalogue with the ids to match: those that were chosen, else its column of the name that the file has."""
    own, read = catalogue_table(source, columns, name), catalogue.columns_read.get("id")
    same = [other for other in own.names if other.lower() == name.lower()]
    if columns.get("id") is None and same:
        column = named_column(own, name, "id")
        found.append(f"matched with column {column!r} of the catalogue, which has that name, too")
        return catalogue if column == read else replace(catalogue, ids=own.column(column))
    if read is None:
        raise MassmapError(f"the catalogue {own.label} has no column of ids to match {name!r} with: choose it with id=")
    found.append(f"{name!r} is matched with the catalogue's ids, column {read!r}")
    return catalogue


def _names(table: ColumnTable) -> np.ndarray | None:
    """What messages call the rows of the second file; None for their numbers."""
    try:
        name, _ = choose_column(table, "id", None, "calib_id")
    except MassmapError:
        return None
    return None if name is None else table.column(name)


def _of_calibration(text: str) -> str:
    """A sentence of the readers of a catalogue, with the options of the measured masses in place of a catalogue's."""
    # Not in the names of files and columns.
    text = re.sub(r"(?<![\w'/.])luminosity(?=[ :,'.]|$)(?!\.\w)", "mass", text)
    text = text.replace(" in ln L, ", " in ln M, ")
    text = re.sub(r"(?<!calibration )\bmass column\b", "calibration mass column", text)
    for of_luminosity, of_masses in _REMEDIES.items():
        text = re.sub(of_luminosity, of_masses, text)
    # A catalogue has an option for this, and the second file has a first line.
    text = text.replace("so name its columns with names=", "so write their names into its first line")
    names = "|".join(_OPTIONS)
    return re.sub(
        rf"\b(?:(?:{names})(?==)|(?:sigma_kind|sigma_plus|sigma_minus|lum_log)\b|sigma(?= is ))",
        lambda found: _OPTIONS[found[0]],
        text,
    )
