"""Further observables of a run: columns of the catalogue, by the rules of its luminosity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, named_column
from massmap_jax.catalogue.columns import BLANKS, ColumnTable, as_plain, rows_text
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.luminosity import read_luminosity
from massmap_jax.catalogue.luminosity_error import read_sigma
from massmap_jax.catalogue.observables import LOWER_LIMIT, MEASURED, MISSING, UPPER_LIMIT, Observables
from massmap_jax.catalogue.units import split_unit_scale, strip_log
from massmap_jax.errors import MassmapError
from massmap_jax.labels import Labels, check_labels
from massmap_jax.run.calibration_columns import catalogue_table
from massmap_jax.run.observable_options import named
from massmap_jax.run.options import number_or_name

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.relation.law import Relation
    from massmap_jax.run.options import JobOptions

# What the readers of a luminosity call an argument, and the option that it is of an observable.
_OPTIONS = {
    "lum_log": "observable_log",
    "lum_unit": "observable_unit",
    "sigma": "observable_sigma",
    "sigma_kind": "observable_sigma_kind",
}
# Arguments of a luminosity that observables do not have.
_ONLY_LUMINOSITY = r"\b(?:lum_scale|lum_in|magnitudes|mag_zero|sigma_plus|sigma_minus)\b"
_UPPER = ("true", "t", "yes", "y", "1", "1.0", "<")
_LOWER = (">",)
_NO_LIMIT = ("false", "f", "no", "n", "0", "0.0", "=", *BLANKS)
# Names of the columns that the catalogue has already, in a sentence.
_ROLES = {"lum": "the luminosity itself", "z": "the redshift", "sigma": "the error of the luminosity"}


def read_observables(
    source: str, columns: dict, options: JobOptions, catalogue: HaloCatalogue, notes: list[str]
) -> HaloCatalogue:
    """Read the further observables that the options name.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was read with.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue.
    notes : list of str
        What was taken for granted or converted is added, and how many objects have each observable.

    Returns
    -------
    HaloCatalogue
        The catalogue with them.

    Raises
    ------
    MassmapError
        For columns that do not exist, that the catalogue has already, or that cannot be read in one way, an error whose
        kind is not clear, limits without an error, or an observable that no object has.
    """
    table = catalogue_table(source, columns)
    values, sigma, upper, lower, units = {}, {}, {}, {}, {}
    names: dict[str, str] = {}
    for name, asked in named(options, "observable").items():
        found: list[str] = []
        column = named_column(table, asked, "observable")
        _refuse_taken(column, name, catalogue, options, names)
        try:
            value, error, unit = _values(table, column, name, options, found)
            upper[name], lower[name] = _limits(table, named(options, "observable_limit").get(name))
            _check_limits(name, upper[name] | lower[name], value, error, found)
        except MassmapError as refused:
            raise MassmapError(_of_observable(name, _without_remedies(str(refused)))) from None
        values[name], sigma[name], units[name], names[name] = value, error, unit, column
        notes.extend(f"{name}: {_of_observable(name, note)}" for note in found)
    observables = Observables.from_arrays(values, sigma, upper_limit=upper, lower_limit=lower, units=units)
    catalogue = catalogue.with_observables(observables)
    notes.extend(_counts(observables, names))
    alone = int(np.count_nonzero(catalogue.seen_by(observables.names).flag & int(Flag.NO_LUMINOSITY)))
    if alone:
        notes.append(f"{alone:,} objects have no luminosity: their masses rest on what else was measured")
    return catalogue


def check_units(catalogue: HaloCatalogue, relation: Relation) -> None:
    """Refuse observables whose unit is not that of a given relation.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    relation : Relation
        The relation, of any kind.

    Raises
    ------
    MassmapError
        For units that are stated and differ.
    """
    if catalogue.observables is None:
        return
    for name, law in zip(getattr(relation, "names", ()), getattr(relation, "laws", ()), strict=True):
        unit = catalogue.observables.units.get(name) or None
        try:
            check_labels(one=Labels(f"{name} of the catalogue", lum_unit=unit), other=law)
        except MassmapError:
            raise MassmapError(
                f"{name} is in {unit!r} in the catalogue and in {law.lum_unit!r} in the relation: bring the column to"
                f" that unit, or correct its unit with observable_unit='{name}=UNIT'"
            ) from None


def _refuse_taken(column: str, name: str, catalogue: HaloCatalogue, options: JobOptions, names: dict) -> None:
    """Refuse a column that counts already."""
    roles = {read: role for role, read in catalogue.columns_read.items()}
    own = {read: other for other, read in names.items()}
    if column in roles:
        what = _ROLES.get(roles[column], f"the catalogue's {roles[column]}")
    elif column in own:
        what = f"the observable {own[column]}"
    elif options.calib_file is None and column == options.calib_mass:
        what = "the measured mass"
    else:
        return
    raise MassmapError(
        f"the column {column!r} is given as observable {name}, and it is {what}: what counts twice makes error bars"
        " too short; leave it out, or choose another column"
    )


def _values(table: ColumnTable, column: str, name: str, options: JobOptions, found: list[str]):
    """Values (linear) and errors in ln, both NaN where they cannot be used, and the unit."""
    given_unit = named(options, "observable_unit").get(name)
    unit = strip_log(given_unit or table.units.get(column, ""))
    # Priors and limits are in the numbers of the column: those of "1e44 erg/s" are kept.
    keep = unit if split_unit_scale(unit)[0] != 1 else None
    read = read_luminosity(
        table, column, found, lum_log=named(options, "observable_log").get(name), lum_scale=None,
        lum_unit=given_unit, lum_in=keep, magnitudes=None, redshift=np.zeros(0),
    )  # fmt: skip
    if not np.isfinite(read.ln_lum_obs).any():
        raise MassmapError(
            f"none of the {read.raw.size} values in column {column!r} of {table.label} can be used as the observable"
            f" {name}: values have to be positive; choose another column with observable='{name}=COLUMN'"
        )
    given = number_or_name(named(options, "observable_sigma")[name])
    # Each bar that is shorter than its value can be used: of a limit, it may be nearly as long.
    sigma, _ = read_sigma(
        table, read, found, sigma=given, kind=named(options, "observable_sigma_kind").get(name), plus=None, minus=None,
        min_snr=1.0001, choose=lambda role, given, option, **more: choose_column(table, role, given, option)[0],
        whole=True,
    )  # fmt: skip
    return np.exp(read.ln_lum_obs), np.broadcast_to(sigma, read.raw.shape), read.unit


def _limits(table: ColumnTable, asked: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are upper limits, and which lower ones."""
    rows = table.column(table.names[0]).shape[0]
    if asked is None:
        return np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    column = named_column(table, asked, "observable_limit")
    cells = as_plain(table.column(column))
    blank, plain = np.ma.getmaskarray(cells), np.ma.getdata(cells)
    distinct, index = np.unique([_word(cell) for cell in plain.tolist()], return_inverse=True)
    upper, lower, no = (np.isin(distinct, words)[index] for words in (_UPPER, _LOWER, _NO_LIMIT))
    bad = ~(upper | lower | no | blank)
    if bad.any():
        raise MassmapError(
            f"column {column!r} of {table.label} does not say which values are limits: {rows_text(bad, plain)}; write"
            " true, yes, 1 or < for an upper limit, > for a lower one, and false, no, 0 or nothing for a measurement"
        )
    return upper & ~blank, lower & ~blank


def _word(cell) -> str:
    """A cell as a word in lower case."""
    text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
    return text.strip().lower()


def _check_limits(name: str, limit, value, sigma, found: list[str]) -> None:
    """Refuse limits that would be lost for want of an error; count those without a value."""
    there = limit & np.isfinite(value)
    lost = there & ~np.isfinite(sigma)
    if lost.any():
        raise MassmapError(
            f"limits of {name} have no error that can be used: {rows_text(lost, value)}; without them the faint objects"
            f" would be missing, so write the error that a measurement there would have, or give one number for all,"
            f" observable_sigma='{name}=0.3'"
        )
    if empty := int(np.count_nonzero(limit & ~there)):
        found.append(f"{empty:,} limits have no value, and say nothing")


def _counts(observables: Observables, names: dict[str, str]) -> list[str]:
    """How many objects have each observable, one sentence each."""
    found = []
    for name, number in counts_of(observables).items():
        kinds = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in number.items() if n or kind == "measured")
        text = f"observable {name} ({names[name]!r}): {kinds}, of {len(observables):,} objects"
        if number["missing"]:
            text += "; those that are missing are taken to be so by chance, not because they are faint"
        found.append(text)
    return found


def counts_of(observables: Observables) -> dict[str, dict[str, int]]:
    """Count the objects that have each observable.

    Parameters
    ----------
    observables : Observables
        The observables.

    Returns
    -------
    dict of str to dict of str to int
        "measured", "upper_limits", "lower_limits" and "missing", by the name of the observable.
    """
    kinds = {"measured": MEASURED, "upper_limits": UPPER_LIMIT, "lower_limits": LOWER_LIMIT, "missing": MISSING}
    return {
        name: {told: int(np.count_nonzero(observables.kind[:, i] == kind)) for told, kind in kinds.items()}
        for i, name in enumerate(observables.names)
    }


def _of_observable(name: str, text: str) -> str:
    """A sentence of the readers of a luminosity, with the options of an observable in place of a luminosity's."""
    text = text.replace("luminosity", "observable")
    known = "|".join(_OPTIONS)
    text = re.sub(rf"\b({known})='", lambda found: f"{_OPTIONS[found[1]]}='{name}=", text)
    words = rf"\b(?:(?:{known})(?==)|(?:lum_log|lum_unit|sigma_kind)\b|sigma(?= is ))"
    return re.sub(words, lambda found: _OPTIONS[found[0]], text)


def _without_remedies(text: str) -> str:
    """A refusal of the readers of a luminosity, with another remedy where theirs is an option of luminosities alone."""
    if not re.search(_ONLY_LUMINOSITY, text):
        return text
    return f"{text.partition(': ')[0]}: write a linear column in one unit, or name its unit with lum_unit='UNIT'"
