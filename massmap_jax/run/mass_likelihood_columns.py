"""Mass likelihoods of a run, from a second file that is matched with the catalogue by id."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.units import mass_definition_in
from massmap_jax.errors import MassmapError
from massmap_jax.labels import UNSTATED
from massmap_jax.run.options import number_or_name

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.likelihood.terms import TabulatedTerm
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.run.options import JobOptions

# Arguments of the reader, and the options that they are here.
_OPTIONS = {
    "mass_unit": "mass_likelihood_unit",
    "mass_log": "mass_likelihood_log",
    **{name: f"mass_likelihood_{name}" for name in ("id", "mass", "error", "error_kind", "scatter")},
}
# An argument in a sentence; the id= that follows these words is the catalogue's.
_ARGUMENT = re.compile(rf"(?<!ids with )(?<!give another )\b(?:({'|'.join(_OPTIONS)})(?==)|error_kind\b)")


@dataclass(frozen=True)
class MassLikelihoods:
    """Likelihoods of the masses of some objects of a catalogue.

    Attributes
    ----------
    term : TabulatedTerm
        One for each row of the catalogue.
    mass_definition : str
        The definition of the masses, "unknown" where nothing states it.
    """

    term: TabulatedTerm
    mass_definition: str

    @property
    def number(self) -> int:
        """Number of objects that have one."""
        return int(np.asarray(self.term.informs).sum())


def read_likelihoods(options: JobOptions, catalogue: HaloCatalogue, notes: list[str]) -> MassLikelihoods | None:
    """Read the mass likelihoods that the options name.

    Parameters
    ----------
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
        For a file that cannot be matched with the catalogue, masses or tables that cannot be used, or a definition that
        contradicts the column's name.
    """
    if options.mass_likelihood is None:
        return None
    from massmap_jax.likelihood.mass_likelihoods import read_mass_likelihoods

    if catalogue.columns_read.get("id") is None:
        raise MassmapError(
            f"mass likelihoods are matched by id, and no column of ids of the catalogue was read for those of "
            f"{options.mass_likelihood}: name it with id="
        )
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            term = read_mass_likelihoods(
                options.mass_likelihood,
                catalogue,
                id=options.mass_likelihood_id,
                mass=options.mass_likelihood_mass,
                error=number_or_name(options.mass_likelihood_error),  # type: ignore[arg-type]
                error_kind=options.mass_likelihood_error_kind,  # type: ignore[arg-type]
                mass_unit=options.mass_likelihood_unit,
                mass_log=options.mass_likelihood_log,  # type: ignore[arg-type]
                scatter=options.mass_likelihood_scatter,
            )
    except MassmapError as error:
        raise MassmapError(_ARGUMENT.sub(lambda found: _OPTIONS[found[0]], str(error))) from None
    notes.extend(_ARGUMENT.sub(lambda found: _OPTIONS[found[0]], str(one.message)) for one in told)
    found = MassLikelihoods(term, _definition(options))
    notes.append(
        f"{found.number:,} of {len(catalogue):,} objects have a mass likelihood (from {options.mass_likelihood}), taken"
        " as a measurement into which no prior went"
    )
    if out := int((np.asarray(term.informs) & ~catalogue.usable).sum()):
        notes.append(f"{out:,} of these are rows of the catalogue that cannot be used, and inform nothing")
    return found


def _definition(options: JobOptions) -> str:
    """The definition of the masses, by the option or the column's name, which may not contradict each other."""
    name = options.mass_likelihood_mass
    named = None if name is None else mass_definition_in(name)
    given = options.mass_likelihood_definition
    if named and given not in (None, named):
        raise MassmapError(
            f"the column {name!r} holds {named} masses by its name, and mass_likelihood_definition is {given!r}: leave "
            "mass_likelihood_definition= out, or rename the column"
        )
    return given or named or "unknown"


def check_definition(prior: MassPrior, found: MassLikelihoods | None, notes: list[str]) -> None:
    """Refuse likelihoods of masses of another definition than the mass prior's.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    found : MassLikelihoods or None
        The likelihoods, None if there are none.
    notes : list of str
        A definition that is not stated is added.

    Raises
    ------
    MassmapError
        For definitions that differ.
    """
    if found is None:
        return
    given, wanted = found.mass_definition, prior.mass_definition
    if given in UNSTATED or wanted in UNSTATED:
        told, option = ("mass prior", "") if wanted in UNSTATED else ("mass likelihoods", "likelihood_")
        notes.append(
            f"the definition of the {told} is not stated, so that mass likelihoods and mass prior are not compared:"
            f" mass_{option}definition= states it"
        )
    elif given != wanted:
        raise MassmapError(
            f"the mass likelihoods are of {given} masses and the mass prior of {wanted}: give a prior of their"
            f" definition (prior='hmf' with mass_definition={given!r}), or likelihoods of {wanted} masses"
        )
