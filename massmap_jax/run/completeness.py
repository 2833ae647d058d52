"""The completeness of a survey from a file: a table in the luminosity, or another observable, and the redshift."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import USUAL_NAMES, bare_name, choose_column, named_column
from massmap_jax.catalogue.columns import ColumnTable
from massmap_jax.catalogue.luminosity import named_log, numbers, read_luminosity
from massmap_jax.catalogue.observables import MEASURED
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import LN10, log_kind, split_unit_scale, strip_log, unit_factor, unit_in_name
from massmap_jax.errors import MassmapError
from massmap_jax.run.observable_options import named
from massmap_jax.run.options import completeness_columns

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.likelihood.selection import TabulatedSelection
    from massmap_jax.relation.selected_on import SelectedOn
    from massmap_jax.run.options import JobOptions

# Names to guess the column of the completeness from.
_USUAL = (
    {"completeness", "compl", "comp"},
    {"p_det", "pdet", "detection_probability", "p_detection", "p_detect", "detection"},
    {"selection", "selection_function", "selfunc", "efficiency", "frac", "fraction", "detected_fraction"},
    {"probability", "prob", "p"},
)
# By so much may a completeness of 1 be above it, or fall: the last digit of a printed number.
_LAST_DIGIT = 1e-6
# Above this the largest completeness is one in per cent and no slip of a fraction; no catalogue whose objects are all
# beyond the table has its middle farther off than this, unless its unit is another.
_PER_CENT, _FARTHEST = 1.5, np.log(100.0)
# A logarithm in a column's name, before or behind what it is of.
_LOG = r"^(?:log_?10|log|lg|ln)(?:_|(?=[a-z]))|_?(?:log_?10|log|lg|ln|dex)$"


@dataclass(frozen=True)
class Completeness:
    """The completeness of a catalogue, as a file has it.

    Attributes
    ----------
    file : str
        The file.
    observable : str
        Name of the observable that it is a function of; "" for the luminosity.
    redshift : Float[np.ndarray, "j"]
        Redshift nodes; one where it is the same at all redshifts.
    ln_value : Float[np.ndarray, "v"]
        ln of the luminosity or observable at the nodes.
    prob : Float[np.ndarray, "j v"]
        Probability that an object is in the catalogue.
    unit : str
        Unit of the luminosity or observable, "" where nothing states it.
    """

    file: str
    observable: str
    redshift: np.ndarray
    ln_value: np.ndarray
    prob: np.ndarray
    unit: str

    def in_unit(self, unit: str) -> Completeness:
        """Bring a completeness in the luminosity to another unit, where both are known."""
        factor = unit_factor(self.unit, unit) if unit and self.unit and not self.observable else None
        return self if factor is None else replace(self, ln_value=self.ln_value + np.log(factor), unit=unit)

    def selection(self) -> TabulatedSelection | SelectedOn:
        """Make the selection that a fit takes."""
        from massmap_jax.likelihood.selection import TabulatedSelection
        from massmap_jax.relation.selected_on import SelectedOn

        table = TabulatedSelection(self.redshift, self.ln_value, self.prob)
        return SelectedOn(self.observable, table) if self.observable else table


def read_completeness(
    columns: Mapping, options: JobOptions, catalogue: HaloCatalogue, notes: list[str]
) -> Completeness | None:
    """Read the completeness that the options name, and compare it with the objects of the catalogue.

    Parameters
    ----------
    columns : Mapping
        Keywords that the catalogue was read with.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue, with its further observables.
    notes : list of str
        What was read and converted is added, and how many objects lie beyond the table.

    Returns
    -------
    Completeness or None
        None if the options name none.

    Raises
    ------
    MassmapError
        For a table that is none of a completeness, or is one of other objects than the catalogue's.
    """
    if options.completeness is None:
        return None
    file, column, lum_unit = options.completeness, catalogue.columns_read.get("lum"), catalogue.lum_unit
    units = {} if catalogue.observables is None else catalogue.observables.units
    table = open_table(file)
    if any("no header" in note for note in table.notes):
        raise MassmapError(
            f"the completeness {file} does not name its columns: begin it with a line such as z,"
            f"{column or 'lum'},completeness"
        )
    if table.column(table.names[0]).shape[0] == 0:
        raise MassmapError(f"the completeness {file} has no rows: write one for each node of its grid")
    given = completeness_columns(options)
    of, axis = _axis(table, given, None if columns.get("magnitudes") else column, named(options, "observable"))
    z_name, _ = choose_column(table, "redshift", given.get("z"), "completeness_columns", never=(axis,))
    name, _ = choose_column(
        table, "completeness", given.get("completeness"), "completeness_columns", usual=_USUAL, required=True,
        never=(axis, z_name or ""),
    )  # fmt: skip
    value, ln_value, unit, told = _values(table, axis, of, units.get(of, "") if of else lum_unit)
    _refuse_bad(table, axis, value, ~np.isfinite(ln_value), "is no value above 0")
    prob = _probabilities(table, name)
    z = np.zeros_like(prob)
    if z_name is not None:
        z = numbers(table, z_name, "redshift", [])
        _refuse_bad(table, z_name, z, ~(np.isfinite(z) & (z >= 0)), "is no redshift")
    redshift, nodes, of_nodes = _grid(table, (axis, value, ln_value), (z_name, z), prob, name)
    found = Completeness(file, of, redshift, nodes, of_nodes, unit)
    by_z = f"{redshift.size} redshifts x " if z_name is not None else ""
    notes.append(
        f"completeness of {file}: {by_z}{nodes.size} values of {of or 'the luminosity'} ({axis!r}{told}), linear in its"
        f" ln{' and in z' if redshift.size > 1 else ''} between them, and constant beyond"
        f"{'' if z_name is not None else '; the same at all redshifts'}"
    )
    if unit and not (lum_unit or of):
        notes.append(f"the catalogue states no unit of the luminosity: taken to be that of {file}, {unit}")
    _tell_falls(found, notes)
    _compare(found, catalogue, notes)
    return found


def _plain(name: str) -> str:
    """A column's name as names are compared, without a logarithm in it."""
    return re.sub(_LOG, "", bare_name(name)) or bare_name(name)


def _axis(table: ColumnTable, given: dict[str, str], lum: str | None, observables: dict[str, str]) -> tuple[str, str]:
    """The observable that the completeness is a function of, "" for the luminosity, and its column."""
    for name, column in given.items():
        if name not in ("z", "completeness"):
            return "" if name == "lum" else name, named_column(table, column, "completeness_columns")
    tiers = USUAL_NAMES["luminosity"]
    wanted = {"": {_plain(lum)} if lum else set()}
    # What the usual names of another tier are of, a richness and no luminosity, say, is another quantity.
    same = [tier for tier in tiers if lum and (bare_name(lum) in tier or _plain(lum) in tier)]
    wanted[""] |= set().union(tiers[0], *same)
    wanted |= {name: {_plain(name), _plain(column)} for name, column in observables.items()}
    found = [(of, name) for name in table.names for of, usual in wanted.items() if _plain(name) in usual]
    if len(found) == 1:
        return found[0]
    known = " or ".join(["lum", *observables])
    if not found:
        what = ", ".join(map(repr, [lum or "lum", *observables.values()]))
        raise MassmapError(
            f"no column of the completeness {table.label} has the name of an observable of the catalogue ({what}), or"
            f" of its logarithm, log10_NAME or ln_NAME: choose it with completeness_columns='{known}=COLUMN'; columns:"
            f" {', '.join(table.names[:40])}"
        )
    names = " and ".join(repr(name) for _, name in found)
    raise MassmapError(
        f"{names} in the completeness {table.label} could each be what it is a function of: choose one with"
        f" completeness_columns='{known}=COLUMN'"
    )


def _values(table: ColumnTable, name: str, of: str, unit: str) -> tuple[np.ndarray, np.ndarray, str, str]:
    """The values of an axis as they stand there, their ln in the catalogue's unit, that unit, and words on both."""
    stated = table.units.get(name, "") or unit_in_name(name)
    log = log_kind(stated) or named_log(name)
    own = strip_log(stated)
    # Numbers of a catalogue that states no unit are taken to be as those of the file: "1e44 erg/s" keeps its scale.
    wanted = unit or (own if split_unit_scale(own)[0] != 1 else None)
    said: list[str] = []
    try:
        read = read_luminosity(
            table, name, said, lum_log=log if log in ("ln", "log10") else None, lum_scale=None, lum_unit=None,
            lum_in=wanted or None, magnitudes=None, redshift=np.zeros(0),
        )  # fmt: skip
    except MassmapError as error:
        reason = str(error).replace("lum_in=", "the catalogue's unit ").replace("luminosity column", "column")
        raise MassmapError(
            f"the completeness cannot be used: {reason.partition(': ')[0]}: write it in the unit of the catalogue"
            f"{f', {unit}' if unit else ''}, or in one that it states and that converts to it, and call logarithms"
            " log10_NAME or ln_NAME"
        ) from None
    # The luminosities of a catalogue have placeholders, which the nodes of a grid, each in many rows, resemble.
    with np.errstate(all="ignore"):
        ln_raw = {"none": np.log(read.raw), "ln": read.raw, "log10": read.raw * LN10}[read.log]
    there = np.isfinite(read.ln_lum_obs)
    ln_value = ln_raw + (read.ln_lum_obs - ln_raw)[there][0] if there.any() else read.ln_lum_obs
    told = f", {log}" if log else ""
    if own and unit and unit_factor(own, unit) != 1:
        told += f", converted from {own} to {unit}"
    elif unit and not read.column_unit:
        told += f", which states no unit: taken to be in {unit}"
    return read.raw, ln_value, read.unit, told


def _probabilities(table: ColumnTable, name: str) -> np.ndarray:
    """The completeness of each row, refused where it is no fraction."""
    prob = numbers(table, name, "completeness", [])
    _refuse_bad(table, name, prob, ~np.isfinite(prob), "is no number")
    if strip_log(table.units.get(name, "")) in ("%", "percent") or _PER_CENT < prob.max(initial=0.0) <= 100:
        raise MassmapError(
            f"the completeness {name!r} of {table.label} is in per cent (the largest is {prob.max():g}): divide it by"
            " 100, as it has to be between 0 and 1"
        )
    _refuse_bad(table, name, prob, (prob < 0) | (prob > 1 + _LAST_DIGIT), "is not between 0 and 1")
    return np.minimum(prob, 1.0)


def _refuse_bad(table: ColumnTable, name: str, values: np.ndarray, bad: np.ndarray, what: str) -> None:
    """Refuse rows whose value cannot be used, with their number and the first of them."""
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"the completeness {table.label} has {bad.sum()} of {bad.size} rows where {name!r} {what}, first row"
            f" {first} ({values[first]:g}): correct them, or leave this luminosity or redshift out of the whole grid"
        )


def _grid(table: ColumnTable, value: tuple, redshift: tuple, prob: np.ndarray, name: str):
    """The nodes and the completeness at them, from the rows of a whole grid in any order."""
    (axis, raw, ln_value), (z_name, z) = value, redshift
    nodes, first, place = np.unique(raw, return_index=True, return_inverse=True)
    at, row = np.unique(z, return_inverse=True)
    if nodes.size < 2:
        raise MassmapError(
            f"the completeness {table.label} has {nodes.size} value of {axis!r}, and needs two or more to be a function"
            " of it: write one row for each"
        )
    count = np.zeros((at.size, nodes.size), dtype=int)
    np.add.at(count, (row, place), 1)

    def node(j: int, i: int) -> str:
        return f"{axis} = {nodes[i]:g}" + ("" if z_name is None else f", {z_name} = {at[j]:g}")

    if (count > 1).any():
        others = [other for other in table.names if other not in (axis, z_name, name)]
        more = f" (a function of {', '.join(others)}, too, cannot be used)" if others else ""
        raise MassmapError(
            f"the completeness {table.label} has {(count > 1).sum()} nodes in more than one row, the first"
            f" {node(*np.argwhere(count > 1)[0])}: leave one row for each{more}"
        )
    if (count == 0).any():
        raise MassmapError(
            f"the completeness {table.label} is no whole grid: {(count == 0).sum()} of {count.size} nodes have no row,"
            f" the first {node(*np.argwhere(count == 0)[0])}: write one row for each {axis} at each {z_name}"
        )
    table_of = np.zeros(count.shape)
    table_of[row, place] = prob
    if (empty := ~table_of.any(axis=1)).any():
        where = "" if z_name is None else f" at {empty.sum()} redshifts, first {z_name} = {at[np.argmax(empty)]:g}"
        raise MassmapError(
            f"the completeness {table.label} is 0 everywhere{where}, where no object can be in the catalogue: leave"
            " these rows out, which changes nothing between the others"
        )
    return at, ln_value[first], table_of


def _tell_falls(found: Completeness, notes: list[str]) -> None:
    """Say where a completeness falls as objects become brighter, which few do."""
    step = np.diff(found.prob, axis=1)
    if (falls := step < -_LAST_DIGIT).any():
        j, i = np.unravel_index(np.argmin(step), step.shape)
        low, high = np.exp(found.ln_value[i : i + 2])
        at = f" at z = {found.redshift[j]:g}" if found.redshift.size > 1 else ""
        notes.append(
            f"the completeness of {found.file} falls with {found.observable or 'luminosity'} in {falls.sum()} steps,"
            f" the most from {found.prob[j, i]:g} to {found.prob[j, i + 1]:g} between {low:g} and {high:g}{at}: it is"
            " used as it is"
        )


def _compare(found: Completeness, catalogue: HaloCatalogue, notes: list[str]) -> None:
    """Count the objects beyond the table, and refuse one that none of them is in."""
    if found.observable:
        observables = catalogue.observables
        assert observables is not None
        i = observables.names.index(found.observable)
        rows = np.flatnonzero(catalogue.seen_by(observables.names).usable & (observables.kind[:, i] == MEASURED))
        ln_value = observables.ln_value[rows, i]
    else:
        rows = np.flatnonzero(catalogue.usable)
        ln_value = catalogue.ln_lum_obs[rows]
    if rows.size == 0:
        return
    low, high = found.ln_value[0], found.ln_value[-1]
    faint, bright = ln_value < low, ln_value > high
    what = found.observable or "luminosity"
    # A table may well end where the survey is complete, and all of its objects may be brighter, but not by orders.
    if faint.all() or (bright.all() and np.median(ln_value) - high > _FARTHEST):
        span = f"{np.exp(low):.4g} to {np.exp(high):.4g} {found.unit}".rstrip()
        raise MassmapError(
            f"the completeness {found.file} is one of a {what} of {span}, and all {rows.size:,} objects are"
            f" {'below' if faint.all() else 'far above'} that, first row {rows[0]} ({np.exp(ln_value[0]):.4g}): bring"
            " both to one unit"
        )
    for number, side, edge in ((faint.sum(), "below", low), (bright.sum(), "above", high)):
        if number:
            notes.append(
                f"{number:,} of {rows.size:,} objects have a {what} {side} those of {found.file}, first row"
                f" {rows[np.argmax(faint if side == 'below' else bright)]}: the completeness at its"
                f" {'lowest' if side == 'below' else 'highest'} one, {np.exp(edge):.4g}, is taken"
            )
    z = catalogue.redshift[rows]
    beyond = (z < found.redshift[0]) | (z > found.redshift[-1])
    if found.redshift.size > 1 and beyond.any():
        notes.append(
            f"{beyond.sum():,} of {rows.size:,} objects have a redshift beyond those of {found.file},"
            f" {found.redshift[0]:g} to {found.redshift[-1]:g}, first row {rows[np.argmax(beyond)]}: the completeness"
            " at the nearest one is taken"
        )
