"""How a text table is laid out: its delimiter, names and units of its columns, and where its rows begin."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from massmap_jax.catalogue.column_names import USUAL_NAMES, normal_name
from massmap_jax.catalogue.columns import BLANKS, number_in
from massmap_jax.catalogue.error_levels import level_in
from massmap_jax.catalogue.fixed_width import Span, column_spans
from massmap_jax.catalogue.text_preamble import (
    is_count,
    is_prose,
    names_described,
    names_over_lines,
    units_said,
    without_counts,
)
from massmap_jax.catalogue.units import is_unit, named_hubble, without_named_hubble
from massmap_jax.catalogue.value_and_error import value_with_error
from massmap_jax.errors import MassmapError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
# Where two fit equally well, the one that is found less often within a cell.
_MARKS = ("\t", ";", "|", ",", " ")
# A space is found in names of objects, and behind commas: it has to fit better than a mark does.
_TRUST_IN_SPACES = 0.75
# Lines of a file that are looked at.
_LINES = 1000
# Characters of a line of names that a note shows.
_SHOWN = 300
# "#" begins a comment anywhere; the others (MATLAB, IDL, C) only where one stands above the data.
_COMMENTS = ("#", "%", "!", "//")
# "---- ----", "|----|----|", "+----+----+", "=====": no data, whatever the delimiter.
_RULE = re.compile(r"[-=+|:;,_\s]*(?:---|===)[-=+|:;,_\s]*")
# Rules, and what databases and programs write below a table: "(2 rows)", "2 rows in set (0.00 sec)", "END", "-- end of
# file --".
FOOTERS = re.compile(
    r"[-=+|*_#\s]*(?:---|===)[-=+|*_#\s]*"
    r"|[\[(]?\d+ (?:rows?|records?|objects?|lines?|entries)(?: (?:in set|selected|affected|returned|retrieved|found))?"
    r"(?: x \d+ columns)?[\])]?[.;]?(?: \([^()]*\))?"
    r"|time: [\d.,]+ ?m?s\b.*"
    r"|[-=*\s]*(?:end|eof|(?:end|bottom)[ _-]of[ _-](?:the[ _-])?(?:file|table|data|catalogu?e?))[-=*.\s]*",
    re.IGNORECASE,
)
_WITH_H = (
    r"(?i)(?:m_?sun|m_?sol|solar mass(?:es)?|pc)\s*/\s*h(?![a-z])|(?<![a-z])h\^?\{?-1\}?\s*(?:m_?sun|m_?sol|[kM]?pc)"
)
_NUMBERED = re.compile(r"(?:col(?:umn)?\.?\s*)?[\[(]?(\d+)[\])]?\s*[:.=)-]?\s+(\S+)(.*)", re.IGNORECASE)
_USUAL = set().union(*(tier for tiers in USUAL_NAMES.values() for tier in tiers))


@dataclass(frozen=True)
class TextLayout:
    """How a text table is laid out.

    Attributes
    ----------
    delimiter : str
        One character.
    names : tuple of str
        Names of the columns.
    first_line : int
        Lines of the file before the first row: comments, blank lines, header, units.
    units : dict of str to str
        Units by column, where a line tells them.
    comments : tuple of str
        What a line that is a comment begins with.
    boxed : bool
        Whether lines such as "+----+----+" stand between rows.
    first_is_number : bool
        Whether the first column holds numbers.
    spans : tuple of (int, int)
        Positions of the columns, where the lines of a table with spaces between its cells tell them.
    notes : tuple of str
        What was guessed.
    """

    delimiter: str
    names: tuple[str, ...]
    first_line: int
    units: dict[str, str] = field(default_factory=dict)
    comments: tuple[str, ...] = ("#",)
    boxed: bool = False
    first_is_number: bool = False
    spans: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Line:
    number: int
    text: str
    cells: list[str] = field(default_factory=list)


def find_text_layout(
    text: str, label: str, names: Sequence[str] | None, delimiter: str | None = None, header: str | None = None
) -> TextLayout:
    """Find out how a text table is laid out, from its first lines.

    Parameters
    ----------
    text : str
        The table, or its first lines, with line ends "\\n".
    label : str
        What to call the file in an error.
    names : sequence of str or None
        Column names that replace the header.
    delimiter : str, optional
        A key or value of `DELIMITERS`; by default the one that gives all lines the same number of cells.
    header : {"yes", "no"}, optional
        Whether the first line names the columns; by default that is found from the lines.

    Returns
    -------
    TextLayout

    Raises
    ------
    MassmapError
        For a file without rows, names that are not one per column, or a first line that may be a header or a row.
    """
    if header not in (None, "yes", "no"):
        raise MassmapError(f"header is {header!r}: it must be 'yes' or 'no'")
    lines = [_Line(number, line) for number, line in enumerate(text.split("\n"))]
    comments = _comment_marks(lines)
    remarks = [line for line in lines if line.text.lstrip().startswith(comments)]
    content = [line for line in lines if line.text.strip() and not line.text.lstrip().startswith(comments)]
    boxed = any("+" in line.text and _RULE.fullmatch(line.text) for line in content)
    content = [line for line in content if not (boxed and _RULE.fullmatch(line.text))]
    while len(content) > 1 and FOOTERS.fullmatch(content[-1].text.strip()):
        content.pop()
    if not content:
        raise MassmapError(f"{label} holds no rows, only comments or blank lines")
    counted: tuple[str, ...] = ()
    if len(content) > 2 and is_count(content[0].text, len(content) - 1) and len(content[1].text.split()) > 1:
        counted = (f"the first line, {content[0].text.strip()}, is the number of rows: left out",)
        content = content[1:]
    content = content[:_LINES]
    mark = _find_delimiter(content) if delimiter is None else _given_delimiter(delimiter)
    if delimiter is None and mark == " " and _is_by_tabs(content, remarks):
        mark = "\t"
    rows = [_Line(line.number, line.text, split_line(line.text, mark)) for line in content]
    rows, notes = _without_title([row for row in rows if any(row.cells)] or rows[:1])
    first, width = rows[0], _usual_width(rows)
    body = [row for row in rows[1:] if len(row.cells) == width] or rows[1:]
    body = body[min(2, max(len(body) - 1, 0)) :]
    numeric = [_is_numeric([row.cells[i] for row in body if i < len(row.cells)]) for i in range(width)]
    above = [line for line in remarks if line.number < first.number]
    notes += counted + _units_with_h(above) + _levels_of_errors(above)
    notes += _left_out([line for line in remarks if line.number > first.number], mark, width, numeric)
    commented = _names_in_comments(above, width, mark, numeric)
    has_header, more = _has_header(label, rows, numeric, header, commented is not None)
    notes += more
    units, start = [""] * width, 1 if has_header else 0
    if has_header:
        found = first.cells
        # Names, units and a rule below them (VizieR), in any order; a row of data ends it.
        while start < len(rows):
            after = rows[start + 1 : start + 2]
            if _is_rule(rows[start].cells):
                start += 1
            elif not any(units) and _is_units(
                rows[start].cells, numeric, bool(after) and _is_rule(after[0].cells), len(rows) - start > 1
            ):
                units = rows[start].cells
                start += 1
                notes += (f"units: taken from the line {' '.join(rows[start - 1].text.split())!r} below the header",)
            else:
                break
        if not any(units) and (said := _units_in_comments(above, width, mark)):
            units = said
            notes += ("units: taken from the comment line that lists them",)
    elif commented is not None:
        found, units, more = commented
        notes += more
    else:
        found = [f"col{i}" for i in range(1, len(first.cells) + 1)]
        if names is None:
            notes += (f"the file has no header: its columns are called {', '.join(found)}{_other_names(above, mark)}",)
    found = without_counts(found)
    if names is not None:
        if len(names) != len(first.cells):
            raise MassmapError(
                f"{len(names)} names are given, but {label} has {len(first.cells)} columns: {', '.join(first.cells)}"
            )
        if has_header:
            notes += (f"names given replace the header: {', '.join(first.cells)}",)
        elif commented is not None:
            notes = tuple(note for note in notes if not note.startswith("column names:"))
        found = list(names)
    elif mark == " " and (torn := [name for name in found if _is_torn(name)]):
        raise MassmapError(
            f"the names of the columns of {label} have blanks within brackets, as {torn[0]!r} shows, and cannot be"
            " told apart by blanks: name all columns with names="
        )
    if len(units) < len(found):
        units = [*units, *[""] * (len(found) - len(units))]
    told = {name: _plain_unit(unit, units) for name, unit in zip(found, units, strict=False) if not _is_blank(unit)}
    told = {name: unit for name, unit in told.items() if not _is_blank(unit)}
    # All lines before this are no rows, comments and blank lines among them.
    first_line = rows[start].number if start < len(rows) else len(lines)
    spans: tuple[Span, ...] = ()
    if mark == " " and (has_header or commented is not None):
        rules = [row.text for row in rows[1:start] if _is_rule(row.cells)]
        spans = column_spans(
            first.text if has_header else _line_of_names(above, found),
            [row.text for row in rows[start:]],
            rules[0] if rules else None,
        )
    return TextLayout(mark, tuple(found), first_line, told, comments, boxed, numeric[0], spans, notes)


def _is_torn(name: str) -> bool:
    """Whether a bracket opens in a name, or closes, that has its other half in another."""
    return any(name.count(first) != name.count(last) for first, last in ("()", "[]", "{}"))


def split_line(line: str, delimiter: str) -> list[str]:
    """Split a line into cells, without the spaces around them."""
    if delimiter == " ":
        line = " ".join(line.split())
    return [cell.strip() for cell in next(csv.reader([line.strip(" ")], delimiter=delimiter, skipinitialspace=True))]


def _given_delimiter(given: str) -> str:
    mark = DELIMITERS.get(given.lower(), {"\\t": "\t"}.get(given, given))
    if len(mark) != 1 or mark in "\"'\n\r" or mark.isalnum() or mark in "+-.":
        raise MassmapError(
            f"delimiter is {given!r}: give one of {', '.join(DELIMITERS)}, or the character that stands between cells"
        )
    return mark


def _comment_marks(lines: list[_Line]) -> tuple[str, ...]:
    """Give what begins a comment in this file: "#", and what the lines above the data begin with."""
    marks = {"#"}
    for line in lines:
        text = line.text.lstrip()
        if not text:
            continue
        mark = next((m for m in _COMMENTS if text.startswith(m)), None)
        if mark is None:
            break
        marks.add(mark)
    return tuple(sorted(marks))


def _find_delimiter(content: list[_Line]) -> str:
    """Find the mark that gives all lines the same number of cells, most of them numbers below the first line."""
    best, best_score = None, (False, -1.0, -1.0)
    lines = [line for line in content if not _RULE.fullmatch(line.text)] or content
    below = next((i for i, line in enumerate(lines) if not is_prose(line.text)), 0)
    lines = lines[below:] if len(lines) - below > 2 else lines  # sentences above the table have other marks
    for mark in _MARKS:
        if not any(mark in line.text or mark == " " for line in lines):
            continue
        rows = [split_line(line.text, mark) for line in lines]
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if width < 2:
            continue
        cells = [cell for row in rows[1:] or rows if len(row) == width for cell in row if not _is_blank(cell)]
        numbers = sum(
            number_in(c) is not None or _is_decimal_comma(c) or value_with_error(c) is not None for c in cells
        )
        share = count / len(rows) * (_TRUST_IN_SPACES if mark == " " else 1.0)
        # Spaces cut at tabs, too; where tabs cut all lines alike, 06 49 15.0 is one angle and not three numbers.
        whole = mark == "\t" and count == len(rows) > 2
        score = (whole, share * numbers / max(len(cells), 1), share)
        if score > best_score:
            best, best_score = mark, score
    if best is not None:
        return best
    return next((mark for mark in _MARKS if mark in content[0].text), " ")


def _is_by_tabs(content: list[_Line], remarks: list[_Line]) -> bool:
    """Tell a table with tabs whose names stand in a comment, and whose last cells are left out in some rows."""
    widths = [line.text.count("\t") for line in content]
    names = max((line.text.strip().count("\t") for line in remarks), default=0)
    return names > 1 and min(widths) > 0 and max(widths) <= names and 2 * widths.count(names) >= len(widths)


def _is_decimal_comma(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d+,\d+", cell) is not None


def _usual_width(rows: list[_Line]) -> int:
    counts = Counter(len(row.cells) for row in rows[1:] or rows)
    return max(counts, key=lambda width: (counts[width], width))  # where cells are blank, the rows are too narrow


def _without_title(rows: list[_Line]) -> tuple[list[_Line], tuple[str, ...]]:
    """Leave out lines above the header with one cell alone, as spreadsheets have them."""
    titles = 0
    while titles < len(rows) and sum(map(bool, rows[titles].cells)) == 1:
        titles += 1
    if titles == 0 or len(rows) < titles + 2:
        return rows, ()
    header = rows[titles].cells
    between_bars = not any(row.cells[0] for row in rows[titles:])  # as HEASARC writes a table
    inner = header[1 if between_bars else 0 : -1]
    named = len(inner) > 0 and all(inner) and not any(number_in(cell) is not None for cell in header)
    # Without a header below, sentences alone, so that no row that was cut short is taken for one.
    alike = len(header) > 2 and all(len(row.cells) == len(header) for row in rows[titles:])
    if not named and not (alike and all(is_prose(row.text) for row in rows[:titles])):
        return rows, ()
    if any(number_in(next(cell for cell in row.cells if cell)) is not None for row in rows[:titles]):
        return rows, ()
    if titles > 6:
        first = " ".join(rows[0].text.split())[:60]
        return rows[titles:], (f"{titles} lines above the table are no rows, the first of them {first!r}: left out",)
    told = [f"the line {' '.join(row.text.split())[:60]!r} above the header: left out" for row in rows[:titles]]
    return rows[titles:], tuple(told)


def _is_blank(cell: str) -> bool:
    return cell.strip().lower() in BLANKS or not cell.strip(" -")


def _is_numeric(cells: list[str]) -> bool:
    """Tell whether a column's cells are numbers, or most of them."""
    filled = [cell for cell in cells if not _is_blank(cell)]
    return bool(filled) and 2 * sum(number_in(cell) is not None for cell in filled) > len(filled)


def _is_rule(cells: list[str]) -> bool:
    """Tell a line of dashes below the header from a row of missing values, "--"."""
    joined = "".join(cells)
    return any(len(cell) > 2 for cell in cells) and bool(joined) and not joined.strip("-=+_:|")


def _is_units(cells: list[str], numeric: list[bool], above_rule: bool, has_rows_below: bool) -> bool:
    """Tell a line of units below the header: text that is a unit where the rows below hold numbers."""
    told = [cell for cell, number in zip(cells, numeric, strict=False) if number and not _is_blank(cell)]
    texts = [cell for cell in told if number_in(cell) is None]
    if above_rule:
        return True
    return has_rows_below and bool(texts) and all(map(_is_unit, texts)) and len(texts) >= len(told) - len(texts)


def _is_unit(cell: str) -> bool:
    """Tell whether a cell is a unit; VizieR's of sexagesimal angles are not known as such elsewhere."""
    bare = cell.strip().strip("(){}\"'").strip()
    if re.search(r"\d", bare) and not re.search(r"[A-Za-z%^]|\*\*", bare):  # "0.2~" is a number in doubt
        return False
    return bare == "%" or re.fullmatch(r"(?i)[hd]{1,2}:?m{1,2}:?s{1,2}", bare) is not None or is_unit(bare)


def _plain_unit(unit: str, units: list[str]) -> str:
    """Give a unit without brackets that all units of a table have; alone, CDS writes a logarithm in square ones."""
    unit = unit.strip().strip('"')
    told = [other.strip() for other in units if not _is_blank(other)]
    if unit.startswith("(") and unit.endswith(")"):
        return unit[1:-1].strip()
    if len(told) > 1 and all(other.startswith("[") and other.endswith("]") for other in told):
        return unit[1:-1].strip()
    return unit


def _units_with_h(above: list[_Line]) -> tuple[str, ...]:
    """Tell of a comment that says that quantities are in units with h, as those of halo finders do."""
    told = [line.text.strip(" #%!/") for line in above if re.search(_WITH_H, line.text) or named_hubble(line.text)]
    if not told:
        return ()
    hubble = named_hubble(told[0])
    more = f" ({without_named_hubble(hubble)})" if hubble else ""
    return (f"a comment above the table speaks of units with h: {told[0][:80]!r}; nothing was converted{more}",)


def _levels_of_errors(above: list[_Line]) -> tuple[str, ...]:
    """Tell of a comment that says that errors are no standard deviations."""
    for line in above:
        text = line.text.strip(" #%!/")
        found = level_in(text, is_name=False) if re.search(r"(?i)err|uncertain|bars?\b|confiden|limits", text) else None
        if found is not None:
            return (
                f"a comment above the table speaks of errors {found.what}: {text[:80]!r}; they are taken as they are:"
                f" where these are meant, divide them by {found.sigmas:g}",
            )
    return ()


def _left_out(below: list[_Line], mark: str, width: int, numeric: list[bool]) -> tuple[str, ...]:
    """Tell of comments among the rows that look like rows themselves: one may be an object whose id begins so."""

    def is_row(line: _Line) -> bool:
        cells = split_line(line.text, mark)[1:]
        numbers = [number_in(cell) is not None for cell, number in zip(cells, numeric[1:], strict=False) if number]
        return len(cells) == width - 1 and bool(numbers) and all(numbers)

    rows = [line for line in below if is_row(line)]
    if not rows:
        return ()
    return (
        f"lines that begin with a comment mark are left out, {len(rows)} of them among the rows with the cells of a row"
        f" (first line {rows[0].number + 1}: {' '.join(rows[0].text.split())[:40]!r}): take the mark away where one is"
        " an object",
    )


def _has_header(label: str, rows: list[_Line], numeric: list[bool], header: str | None, named: bool):
    """Tell whether the first line names the columns, with a note where that is a guess."""
    first = rows[0].cells
    if header is not None:
        return header == "yes", ()
    numbers = [cell for cell in first if number_in(cell) is not None and cell.lower() not in BLANKS]
    if not numbers:
        # A first row of text alone is taken for a header too; one of missing values is a row.
        return not all(cell.lower() in BLANKS for cell in first) or len(rows) == 1, ()
    shown = ", ".join(first)[:60]
    texts = sum(
        number and not _is_blank(cell) and number_in(cell) is None for cell, number in zip(first, numeric, strict=False)
    )
    whole = all(re.fullmatch(r"\d+", cell) for cell in numbers)
    if texts > len(numbers) or (texts == len(numbers) and whole):
        return True, (f"the first line, {shown}, is taken for the header: it has text where the rows have numbers",)
    ask = MassmapError(
        f"the first line of {label} is {shown!r}: it can be a header or a row; say which with header='yes' or 'no'"
        " (names= gives the columns names)"
    )
    if texts and whole:
        raise ask
    if texts or named or any(number_in(cell) is None and cell for cell in first):
        return False, ()
    values = [float(cell) for cell in numbers]
    counts_columns = len(values) > 1 and values in (list(range(len(values))), list(range(1, len(values) + 1)))
    columns = [[r.cells[i] for r in rows[1:] if i < len(r.cells) and r.cells[i]] for i in range(len(first))]
    # Programs write all numbers of a column alike: 1000 above 2000.0 is not of that column.
    unlike = [bool(column) and not any(re.fullmatch(r"[+-]?\d+", cell) for cell in column) for column in columns]
    if counts_columns and whole and any(unlike):
        return True, (f"the first line, {shown}, counts the columns: it is taken for the header, not for a row",)
    if (counts_columns and (whole or len(values) > 2)) or (whole and len(rows) > 2 and len(values) > 1 and all(unlike)):
        raise ask
    return False, ()


def _names_in_comments(above: list[_Line], width: int, mark: str, numeric: list[bool]):
    """Find the comment above the data that names the columns: names, units and notes, or None."""
    texts = [re.sub(r"^\s*(?:#+|%+|!+|//+)", "", line.text) for line in above]
    # SExtractor lists its columns one to a comment line: "1 NUMBER  Running object number  [unit]".
    numbered = [match.groups() for match in map(_NUMBERED.match, (text.strip() for text in texts)) if match]
    for start in range(len(numbered) - width + 1):
        block = numbered[start : start + width]
        if [int(number) for number, _, _ in block] in (list(range(width)), list(range(1, width + 1))):
            units = [match[1] if (match := re.search(r"\[([^\]]*)\]\s*$", rest)) else "" for _, _, rest in block]
            names = names_described([name + rest for _, name, rest in block], _USUAL)
            return names, units, ("column names: taken from the numbered comment lines",)
    fitting = {i: cells for i, text in enumerate(texts) if (cells := _fitting(text, width, mark, numeric))}
    fitting = {i: cells for i, cells in fitting.items() if not _is_rule(cells)}
    if not fitting:
        over = names_over_lines([(line.number, text) for line, text in zip(above, texts, strict=True)], width, _USUAL)
        if over is None:
            return None
        return *over, (f"column names: taken from several comment lines, {', '.join(over[0])}",)

    def hits(cells):
        return sum(normal_name(cell) in _USUAL for cell in cells)

    units_lines = [i for i, c in fitting.items() if (i - 1 in fitting or i + 1 in fitting) and _is_units_comment(c)]
    names_lines = {i: cells for i, cells in fitting.items() if i not in units_lines}
    if not names_lines:
        names_lines, units_lines = fitting, []
    chosen = max(names_lines, key=lambda i: (hits(names_lines[i]), i))
    line = texts[chosen].strip()
    notes: tuple[str, ...] = (
        f"column names: taken from the comment line '# {line if len(line) <= _SHOWN else line[:_SHOWN] + ' ...'}'",
    )
    beside = next((i for i in (chosen + 1, chosen - 1) if i in units_lines), None)
    if beside is None:
        said = _units_in_comments(above, width, mark)
        if said:
            notes += ("units: taken from the comment line that lists them",)
        return names_lines[chosen], said or [""] * width, notes
    notes += (f"units: taken from the comment line '# {texts[beside].strip()}'",)
    return names_lines[chosen], fitting[beside], notes


def _units_in_comments(above: list[_Line], width: int, mark: str) -> list[str]:
    """Units of a comment "# Units: 1, deg, deg, 1e14 Msun", one for each column; none where one of them is no unit."""
    for line in above:
        said = units_said(re.sub(r"^\s*(?:#+|%+|!+|//+)", "", line.text))
        for delimiter in dict.fromkeys((mark, ",", "\t", ";", "|")):
            cells = [] if said is None else split_line(said, delimiter)
            if len(cells) == width:
                units = ["" if cell in ("1", "none") or _is_blank(cell) else cell for cell in cells]
                return units if any(units) and all(not unit or _is_unit(unit) for unit in units) else []
    return []


def _other_names(above: list[_Line], mark: str) -> str:
    """Tell of the last comment above the table where it names columns, but not as many as there are."""
    text = next((line.text.strip(" #%!/\t") for line in reversed(above) if line.text.strip(" #%!/\t")), "")
    names = split_line(text, mark) if text else []
    if len(names) < 3 or not any(normal_name(name) in _USUAL for name in names):
        return ""
    return f"; the comment {' '.join(text.split())[:60]!r} has {len(names)} words and cannot name them"


def _line_of_names(above: list[_Line], names: list[str]) -> str:
    """Give the comment that holds these names alone, its mark blank so that all stand where they stood."""
    texts = (re.sub(r"^\s*(?:#+|%+|!+|//+)", lambda mark: " " * len(mark[0]), line.text) for line in above)
    return next((text for text in texts if text.split() == names), "")


def _fitting(text: str, width: int, mark: str, numeric: list[bool]) -> list[str] | None:
    """Split a comment into as many cells as there are columns, unless it is a row that was commented out."""
    for delimiter in dict.fromkeys((mark, ",", "\t", ";", "|", " ")):
        cells = split_line(text, delimiter) if text.strip() else []
        inner = split_line(text.strip().strip("|"), "|") if delimiter == "|" and text.strip() else []
        if len(inner) == width - 2 and not numeric[0] and not numeric[-1]:
            cells = ["", *inner, ""]  # rows have bars at both ends, and the comment may lack one
        if len(cells) != width:
            continue
        numbers = [number_in(cell) is not None for cell in cells]
        of_text = sum(n and not _is_blank(c) and number_in(c) is None for c, n in zip(cells, numeric, strict=True))
        if not any(numbers) or of_text >= sum(numbers):
            return cells
    return None


def _is_units_comment(cells: list[str]) -> bool:
    """Tell a comment of units from one of names: blanks and units, and at least one that no name would be."""
    told = [cell for cell in cells if not _is_blank(cell)]
    return bool(told) and all(map(_is_unit, told)) and any(normal_name(cell) not in _USUAL for cell in told)
