"""Mass likelihoods or shear profiles of a run, from a second file that is matched with the catalogue by id."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from massmap_jax.catalogue.column_names import named_column
from massmap_jax.catalogue.columns import as_float64, as_ids
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import contradicts_name, mass_definition_in, overdensity_in
from massmap_jax.errors import MassmapError
from massmap_jax.labels import UNSTATED, prior_of
from massmap_jax.run.calibration_columns import catalogue_table
from massmap_jax.run.observable_names import refuse_no_halo_mass
from massmap_jax.run.options import number_or_name

if TYPE_CHECKING:
    from massmap_jax.likelihood.shear import ShearProfiles
    from massmap_jax.likelihood.stacks import StackedShear, StackedTerm
    from massmap_jax.likelihood.terms import TabulatedTerm
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.run.options import JobOptions

# Arguments of the readers, and the options that they are here.
_OF_MASSES = {
    "mass_unit": "mass_likelihood_unit",
    "mass_log": "mass_likelihood_log",
    **{name: f"mass_likelihood_{name}" for name in ("id", "mass", "error", "error_kind", "scatter")},
    **{name: f"mass_likelihood_{name}" for name in ("error_plus", "error_minus")},
}
_OF_SHEARS = {
    "shear": "shear_gt",
    "source_redshift": "shear_z",
    **{name: f"shear_{name}" for name in ("id", "radius", "error", "covariance", "sigma_crit", "scatter", "profile")},
    **{name: f"shear_{name}" for name in ("radius_unit", "sigma_crit_unit")},
}


@dataclass(frozen=True)
class MassLikelihoods:
    """Likelihoods of the masses of some objects of a catalogue.

    Attributes
    ----------
    file : str
        Where they are from.
    term : TabulatedTerm or None
        One for each row of the catalogue; None for shear profiles that have not met the mass prior.
    mass_definition : str
        The definition of the masses, "unknown" where nothing states it.
    profiles : ShearProfiles or None
        The shear profiles that they are made from.
    stacks : StackedShear or None
        Stacked profiles, which say something of the relation only.
    stacked : StackedTerm or None
        What they are in the fit; None before they have met the mass prior.
    column : str
        The column of the masses, "" where there is none.
    """

    file: str
    term: TabulatedTerm | None = None
    mass_definition: str = "unknown"
    profiles: ShearProfiles | None = None
    stacks: StackedShear | None = None
    stacked: StackedTerm | None = None
    column: str = ""

    @property
    def in_fit(self) -> TabulatedTerm | StackedTerm | None:
        """What the fit of the relation takes."""
        return self.term if self.stacks is None else self.stacked

    @property
    def kind(self) -> str:
        """What they are made from."""
        if self.stacks is not None:
            return "stacked shear profiles"
        return "masses" if self.profiles is None else "shear profiles"

    @property
    def rows(self) -> np.ndarray:
        """Rows of the catalogue that have one, or are in a stack."""
        if self.stacks is not None:
            return np.flatnonzero(self.stacks.members >= 0)
        if self.profiles is not None:
            return self.profiles.rows
        assert self.term is not None
        return np.flatnonzero(self.term.informs)


def read_likelihoods(
    source: str, columns: dict, options: JobOptions, catalogue: HaloCatalogue, notes: list[str]
) -> MassLikelihoods | None:
    """Read the mass likelihoods or shear profiles that the options name.

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
        What was guessed or converted is added.

    Returns
    -------
    MassLikelihoods or None
        None if the options name none.

    Raises
    ------
    MassmapError
        For a file that cannot be matched with the catalogue, masses, tables or shears that cannot be used, or a
        definition that contradicts the column's name.
    """
    file = options.mass_likelihood or options.shear
    if file is None:
        return None
    if options.shear_stack is not None:
        with _as_options(_OF_SHEARS, notes):
            return _stacks(source, columns, file, options, catalogue, notes)
    if catalogue.columns_read.get("id") is None:
        raise MassmapError(
            f"mass likelihoods are matched by id, and no column of ids of the catalogue was read for those of {file}:"
            " name it with id="
        )
    of_masses = options.mass_likelihood is not None
    with _as_options(_OF_MASSES if of_masses else _OF_SHEARS, notes):
        found = _masses(file, options, catalogue) if of_masses else _shears(file, options, catalogue)
    what = "mass likelihood" if of_masses else "shear profile"
    notes.append(
        f"{found.rows.size:,} of {len(catalogue):,} objects have a {what} (from {file}), taken as a measurement into"
        " which no prior went"
    )
    if out := int((~catalogue.usable[found.rows]).sum()):
        notes.append(f"{out:,} of these are rows of the catalogue that cannot be used, and inform nothing")
    return found


def _masses(file: str, options: JobOptions, catalogue: HaloCatalogue) -> MassLikelihoods:
    from massmap_jax.likelihood.mass_columns import mass_column
    from massmap_jax.likelihood.mass_likelihoods import is_node, read_mass_likelihoods

    table = open_table(file)
    column = options.mass_likelihood_mass
    if column is None and not any(is_node(name) for name in table.names):
        with suppress(MassmapError):  # told by the reader
            column = mass_column(table, None, [])
    if column is not None:
        refuse_no_halo_mass(column, "mass_likelihood_mass")
    term = read_mass_likelihoods(
        file,
        catalogue,
        id=options.mass_likelihood_id,
        mass=options.mass_likelihood_mass,
        error=number_or_name(options.mass_likelihood_error),  # type: ignore[arg-type]
        error_kind=options.mass_likelihood_error_kind,  # type: ignore[arg-type]
        error_plus=options.mass_likelihood_error_plus,
        error_minus=options.mass_likelihood_error_minus,
        mass_unit=options.mass_likelihood_unit,
        mass_log=options.mass_likelihood_log,  # type: ignore[arg-type]
        scatter=options.mass_likelihood_scatter,
    )
    return MassLikelihoods(file, term, _definition(options, column or ""), column=column or "")


def _stacks(source, columns, file: str, options: JobOptions, catalogue: HaloCatalogue, notes) -> MassLikelihoods:
    """Stacked profiles, with the members that a column of the catalogue names."""
    from massmap_jax.likelihood.stacks import StackedShear

    assert options.shear_stack is not None
    table = catalogue_table(source, columns, options.shear_stack)
    column = named_column(table, options.shear_stack, "shear_stack")
    names, missing = as_ids(table.column(column))
    weight = None
    if options.shear_stack_weight is not None:
        of_weight = named_column(table, options.shear_stack_weight, "shear_stack_weight")
        weight = as_float64(table.column(of_weight), of_weight)
    stacks, place = np.unique(names[~missing], return_inverse=True)
    if stacks.size == 0:
        raise MassmapError(f"no object is in a stack: column {column!r} of the catalogue is blank")
    # A catalogue of the stacks, which the reader matches by name; a stack has no redshift.
    named = HaloCatalogue.from_arrays(
        luminosity=np.ones(stacks.size),
        redshift=np.full(stacks.size, np.nan),
        sigma_ln_luminosity=0.05,
        ids=stacks.astype(str),
    )
    try:
        profiles = _profiles(file, options, named)
    except MassmapError as error:
        told = str(error).replace("are not in the catalogue", f"name no stack of the catalogue's column {column!r}")
        told = told.replace("name the column of the catalogue's ids with id=", "the column of stacks with shear_stack=")
        raise MassmapError(told) from None
    of_stack = np.full(stacks.size, -1)
    of_stack[profiles.rows] = np.arange(profiles.rows.size)
    members = np.full(names.size, -1)
    members[~missing] = of_stack[place]
    found = StackedShear.of(replace(profiles, rows=np.arange(profiles.rows.size)), members, weight)
    notes.append(
        f"{(members >= 0).sum():,} of {len(catalogue):,} objects are in {profiles.rows.size} stacks with a shear"
        f" profile (from {file}, by column {column!r}); stacks inform the relation, and no mass beyond it"
    )
    if (without := int((~missing).sum() - (members >= 0).sum())) > 0:
        notes.append(f"{without:,} objects are in stacks without a profile, which inform nothing")
    return MassLikelihoods(file, stacks=found)


def _shears(file: str, options: JobOptions, catalogue: HaloCatalogue) -> MassLikelihoods:
    return MassLikelihoods(file, profiles=_profiles(file, options, catalogue))


def _profiles(file: str, options: JobOptions, catalogue: HaloCatalogue) -> ShearProfiles:
    from massmap_jax.likelihood.shear_file import read_shear_profiles

    return read_shear_profiles(
        file,
        catalogue,
        id=options.shear_id,
        radius=options.shear_radius,
        shear=options.shear_gt,
        error=options.shear_error,
        source_redshift=number_or_name(options.shear_z),  # type: ignore[arg-type]
        sigma_crit=options.shear_sigma_crit,
        covariance=options.shear_covariance,
        radius_unit=options.shear_radius_unit,
        sigma_crit_unit=options.shear_sigma_crit_unit,
    )


@contextmanager
def _as_options(names: dict[str, str], notes: list[str]):
    """Say the warnings and errors of a reader as notes and errors of the program, with its options for arguments."""
    # The id= after these words is the catalogue's.
    argument = re.compile(
        rf"(?<!ids with )(?<!give another )\b(?:({'|'.join(names)})(?==)|error_(?:kind|plus|minus)\b)"
    )

    def said(text) -> str:
        return argument.sub(lambda found: names.get(found[0], found[0]), str(text))

    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield
    except MassmapError as error:
        raise MassmapError(said(error)) from None
    notes.extend(said(one.message) for one in told if one.category is UserWarning)


def _definition(options: JobOptions, name: str) -> str:
    """The definition of the masses, by the option or the column's name, which may not contradict each other."""
    given = options.mass_likelihood_definition
    named = mass_definition_in(name)
    if given is not None and (given != named if named else contradicts_name(given, name)):
        raise MassmapError(
            f"the column {name!r} holds {named or f'M{overdensity_in(name)}'} masses by its name, and"
            f" mass_likelihood_definition is {given!r}: leave mass_likelihood_definition= out, or rename the column"
        )
    return given or named or "unknown"


def under_prior(
    prior: MassPrior,
    found: MassLikelihoods | None,
    options: JobOptions,
    catalogue: HaloCatalogue,
    notes: list[str],
) -> MassLikelihoods | None:
    """Make likelihoods of shear profiles, whose masses are the mass prior's; refuse those of another definition.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    found : MassLikelihoods or None
        The likelihoods, None if there are none.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue, for its redshifts.
    notes : list of str
        A definition that is not stated is added.

    Returns
    -------
    MassLikelihoods or None
        The likelihoods with their `term`.

    Raises
    ------
    MassmapError
        For definitions that differ, or shears that no lens of the catalogue can have.
    """
    if found is None:
        return None
    given, wanted = found.mass_definition, prior.mass_definition
    if found.profiles is not None or found.stacks is not None:
        about: dict[str, Any] = {"scatter": options.shear_scatter, "cosmology": options.prior.cosmology}
        about["profile"] = options.shear_profile
        with _as_options(_OF_SHEARS, notes):
            if found.stacks is not None:
                found = replace(found, stacked=found.stacks.signals(catalogue, prior, **about))
            elif found.profiles is not None:
                found = replace(found, term=found.profiles.likelihoods(catalogue, prior, **about))
        halos = {"nfw": "NFW", "bmo1": "truncated NFW (bmo1)"}[options.shear_profile]
        what = "mass likelihoods" if found.stacks is None else "stacks"
        notes.append(
            f"{what} of {found.file}: reduced shear of {halos} halos ({wanted}), their concentrations those of Duffy et"
            f" al. 2008 with scatter, and a scatter of {options.shear_scatter:g} in ln of lensing masses"
        )
        return replace(found, mass_definition=wanted)
    if given in UNSTATED or wanted in UNSTATED:
        name = found.column
        if wanted not in UNSTATED and contradicts_name(wanted, name):
            stated = overdensity_in(name)
            raise MassmapError(
                f"the mass likelihoods are of M{stated} masses by the name of their column {name!r}, and the mass prior"
                f" of {wanted}: state their definition (mass_likelihood_definition='{stated}c') and give a prior of it"
                f" ({prior_of(f'{stated}c')}), or likelihoods of {wanted} masses"
            )
        told, option = ("mass prior", "") if wanted in UNSTATED else ("mass likelihoods", "likelihood_")
        notes.append(
            f"the definition of the {told} is not stated, so that mass likelihoods and mass prior are not compared:"
            f" mass_{option}definition= states it"
        )
    elif given != wanted:
        raise MassmapError(
            f"the mass likelihoods are of {given} masses and the mass prior of {wanted}: give a prior of their"
            f" definition ({prior_of(given)}), or likelihoods of {wanted} masses"
        )
    return found
