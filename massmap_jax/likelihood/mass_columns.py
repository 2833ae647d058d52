"""Which columns of a table of measured masses are the ids, the masses and their errors, where nobody says."""

import re

import numpy as np

from massmap_jax.catalogue.column_names import choose_column
from massmap_jax.catalogue.columns import ColumnTable, as_ids
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue, id_hash
from massmap_jax.catalogue.units import mass_definition_in, overdensity_in, unit_at_end, unit_in_name
from massmap_jax.errors import MassmapError

_USUAL_MASSES = (
    {"m", "mass", "m_wl", "mwl"},
    {"logm", "log_m", "log10m", "log10_m", "logmass", "log_mass", "log10_mass"},
)
_USUAL_ERRORS = ({"error", "sigma", "m_err", "mass_err", "e_m", "e_mass", "m_wl_err", "mwl_err", "e_m_wl", "e_mwl"},)
# Words of names that are no masses themselves, but their errors and ends of intervals.
_NO_MASS = (
    r"(?i)(?:^|[^a-z0-9])(?:d|e|err|error|errplus|errminus|errp|errm|uerr|lerr|unc|std|sig|sigma|stat|sys|syst|plus|minus|"
    r"lo|low|lower|hi|high|up|upper|min|max|l|h|u|p|m|ep|em|snr|flag|16|84|025|975|05|95)(?:[^a-z0-9]|$)"
)


def id_column(catalogue: HaloCatalogue, table: ColumnTable, given: str | None, notes: list[str]) -> str:
    """Find the column of ids: by a usual name, or else the one text column that holds ids of the catalogue alone.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue, with ids.
    table : ColumnTable
        The table.
    given : str or None
        The user's choice.
    notes : list of str
        What was guessed is added.

    Returns
    -------
    str
        The column.

    Raises
    ------
    MassmapError
        Where there is none.
    """
    name, guessed = choose_column(table, "id", given, "id")
    if name is None:
        known = {tuple(pair) for pair in catalogue.hashes.tolist()}

        def holds_ids(column: str) -> bool:
            cells = table.column(column)
            if np.ndim(cells) != 1 or cells.dtype.kind not in "OSU" or cells.size == 0:
                return False
            return all(tuple(pair) in known for pair in id_hash(as_ids(cells)[0]).tolist())

        fits = [column for column in table.names if holds_ids(column)]
        if len(fits) != 1:
            choose_column(table, "id", None, "id", required=True)
        name, guessed = fits[0], (f"id column: guessed {fits[0]!r}, which holds ids of the catalogue alone",)
    notes.extend(guessed)
    return name


def mass_column(table: ColumnTable, given: str | None, notes: list[str]) -> str:
    """Find the column of masses: by a usual name, or else the only one with an overdensity in its name, as M500.

    Parameters
    ----------
    table : ColumnTable
        The table.
    given : str or None
        The user's choice.
    notes : list of str
        What was guessed is added.

    Returns
    -------
    str
        The column.

    Raises
    ------
    MassmapError
        Where there is none, or several could be meant.
    """
    name, guessed = choose_column(table, "mass", given, "mass", usual=_USUAL_MASSES)
    if name is None:
        found = [n for n in table.names if (overdensity_in(n) or mass_definition_in(n)) and not re.search(_NO_MASS, n)]
        if len(found) > 1:
            raise MassmapError(
                f"{', '.join(map(repr, found))} of {table.label} could each be the mass: choose it with mass="
            )
        if not found:
            choose_column(table, "mass", None, "mass", usual=_USUAL_MASSES, required=True)
        name, guessed = found[0], (f"mass column: guessed {found[0]!r}",)
    notes.extend(guessed)
    return name


def error_column(table: ColumnTable, usual, notes: list[str]) -> str:
    """Find the column of the errors of masses.

    Parameters
    ----------
    table : ColumnTable
        The table.
    usual : sequence of set of str
        Names that errors of this column of masses have.
    notes : list of str
        What was guessed is added.

    Returns
    -------
    str
        The column.

    Raises
    ------
    MassmapError
        Where there is none, or several could be meant.
    """
    name, guessed = choose_column(table, "error", None, "error", usual=(*usual, *_USUAL_ERRORS), required=True)
    notes.extend(guessed)
    return name


def told_of_statistical(table: ColumnTable, name: str) -> list[str]:
    """Say where an error is the statistical one alone, by its name, and the systematic one stands beside it."""
    word = r"(?i)(?:^|[^a-z]){}(?:[^a-z]|$)"
    beside = [other for other in table.names if re.search(word.format("sys(?:t|tematic)?"), other)]
    if not beside or not re.search(word.format("stat(?:istical)?"), name):
        return []
    return [
        f"the errors {name!r} are statistical ones by their name, and {beside[0]!r} stands beside them: what all masses"
        " share of it goes into the belief about their bias, and the rest into the errors"
    ]


def unit_of_masses(table: ColumnTable, name: str) -> str:
    """Give the unit that the table states of a column of masses, or that its name ends with; "" where there is none."""
    return table.units.get(name, "") or unit_in_name(name) or unit_at_end(name)
