r"""Cells that hold a value with its errors, as papers print them: "5.6 +/- 0.3", "5.60^{+0.70}_{-0.60}"."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from massmap_jax.catalogue.columns import BLANKS
from massmap_jax.catalogue.units import unit_in_name

if TYPE_CHECKING:
    from massmap_jax.catalogue.text_layout import TextLayout

_SIZE = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_VALUE = rf"[+-]?{_SIZE}"
# Both bars in either order; without "^" and "_" the upper one comes first, "1.36+0.77-0.48" or "1.36+0.77/-0.48".
_FORMS = (
    re.compile(rf"(?P<value>{_VALUE})±(?P<error>{_SIZE})"),
    re.compile(rf"(?P<value>{_VALUE})\^?\+(?P<plus>{_SIZE})[_,/]?-(?P<minus>{_SIZE})"),
    re.compile(rf"(?P<value>{_VALUE})_-(?P<minus>{_SIZE})\^\+(?P<plus>{_SIZE})"),
)


class ValueWithError(NamedTuple):
    """What one cell holds.

    Attributes
    ----------
    value, plus, minus : float
        The value, and the lengths of its bars.
    one_error : bool
        Whether the cell has one error for both, "5.6 +/- 0.3".
    in_brackets : bool
        Whether it stands in brackets.
    """

    value: float
    plus: float
    minus: float
    one_error: bool
    in_brackets: bool


def value_with_error(cell: str) -> ValueWithError | None:
    r"""Read a value and its errors from one cell.

    Parameters
    ----------
    cell : str
        Such as "5.6 ± 0.3", "1.06 +or- 0.02*", "5.60^{+0.70}_{-0.60}" or "$^d\rm 3.01^{+ 0.07}_{- 0.07 }$". Marks of
        footnotes are left out.

    Returns
    -------
    ValueWithError or None
        None for a cell without an error, and for one that can be read in no such way.

    Examples
    --------
    >>> from massmap_jax.catalogue.value_and_error import value_with_error
    >>> value_with_error("5.60^{+0.70}_{-0.60}")
    ValueWithError(value=5.6, plus=0.7, minus=0.6, one_error=False, in_brackets=False)
    """
    text = re.sub(r"\\(?:mathrm|textrm|rm)(?![a-z])|\\[,;:! ]|[$~{}\s]", "", cell.replace("\u2212", "-"))
    text = re.sub(r"\\pm|\+(?:/|or)?-", "±", text)
    text = re.sub(r"^\^[a-z](?![a-z])|[*†‡]+$", "", text)
    in_brackets = text.startswith("(") and text.endswith(")")
    text = text[1:-1] if in_brackets else text
    for form in _FORMS:
        if found := form.fullmatch(text):
            parts = found.groupdict()
            plus, minus = (float(parts.get("error") or parts.get(name, "nan")) for name in ("plus", "minus"))
            return ValueWithError(float(parts["value"]), plus, minus, "error" in parts, in_brackets)
    return None


def split_values(table, layout: TextLayout):
    """Part the columns whose cells hold values with their errors.

    Parameters
    ----------
    table : pyarrow.Table
        The columns.
    layout : TextLayout
        Their names and units.

    Returns
    -------
    table : pyarrow.Table
        Such a column holds the values alone, and "_plus" and "_minus" behind its name are the columns of its bars, or
        "_err" where each cell has one error for both. Blanks are NaN in all.
    layout : TextLayout
        With their names and units, and a note for each.

    Notes
    -----
    Only where all cells of a column that are not blank have an error: a name, a limit ("<3.2") or a bare number among
    them leaves the column as it is. Brackets mean that a value was estimated from another quantity: it is left blank.
    """
    import pyarrow as pa

    told: list[str] = []
    example, bracketed = "", 0
    for name in layout.names:
        position = table.column_names.index(name)
        if table.column_names.count(name) != 1 or not pa.types.is_string(table.column(position).type):
            continue
        # The first cell that is filled tells most columns of text apart, without a look at a million rows.
        first = next((cell for cell in map(str, table.column(position).drop_null()) if _is_filled(cell)), "")
        if value_with_error(first) is None:
            continue
        cells = table.column(position).to_pylist()
        read = [value_with_error(cell) if _is_filled(cell) else None for cell in cells]
        if any(found is None and _is_filled(cell) for found, cell in zip(read, cells, strict=True)):
            continue
        one = all(found.one_error for found in read if found is not None)
        parts = {"_err": "plus"} if one else {"_plus": "plus", "_minus": "minus"}
        bars = {_with_suffix(name, suffix): part for suffix, part in parts.items()}
        if set(bars) & set(table.column_names):
            continue
        columns = {name: "value"} | bars
        table = table.remove_column(position)
        for i, (new, part) in enumerate(columns.items()):
            values = [None if found is None or found.in_brackets else getattr(found, part) for found in read]
            table = table.add_column(position + i, new, pa.array(values, pa.float64()))
        told.append(f"{name} ({', '.join(bars)})")
        example = example or first
        bracketed += sum(found is not None and found.in_brackets for found in read)
        units = {new: layout.units[name] for new in bars if name in layout.units}
        layout = replace(layout, units=layout.units | units)
    if not told:
        return table, layout
    note = f"values with their errors in one cell ('{example}') are parted into columns: {'; '.join(told)}"
    if bracketed:
        note += f"; {bracketed} in brackets, which mark what was not measured, are left blank (take the brackets away"
        note += " where they do not)"
    return table, replace(layout, names=tuple(table.column_names), notes=(*layout.notes, note))


def _is_filled(cell: str | None) -> bool:
    return cell is not None and cell.strip().lower() not in BLANKS


def _with_suffix(name: str, suffix: str) -> str:
    """Put a suffix behind a column's name, before the unit that it may end with: "T_err (keV)" for "T (keV)"."""
    start = re.search(r"\s*[\[(][^()\[\]]*[\])]\s*$", name) if unit_in_name(name) else None
    return name + suffix if start is None else name[: start.start()] + suffix + name[start.start() :]
