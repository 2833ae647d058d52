"""Text tables whose columns stand at fixed positions, where a blank is a missing value."""

import re
from collections.abc import Sequence
from itertools import pairwise

Span = tuple[int, int]


def column_spans(header: str, rows: Sequence[str], rule: str | None = None) -> tuple[Span, ...]:
    """Find the positions of the columns, where they are certain.

    Parameters
    ----------
    header : str
        The line of the names, one word for each column.
    rows : sequence of str
        Rows of data.
    rule : str, optional
        A line of dashes below the header, one run of them for each column.

    Returns
    -------
    tuple of (int, int)
        First position and end of each column; empty where the lines do not tell them without doubt.

    Notes
    -----
    A rule tells the positions. Without one, a column takes those of its name and of its cells in all rows that have a
    cell in every column. Each of these cells must stand below its name, and no two columns may overlap.
    """
    names = _words(header)
    if any("\t" in line for line in (header, *rows)):
        return ()
    if rule is not None and len(_words(rule)) == len(names):
        return tuple(_words(rule))
    full = [words for words in map(_words, rows) if len(words) == len(names)]
    if not full or not all(_overlap(*pair) for words in full for pair in zip(names, words, strict=True)):
        return ()
    columns = list(zip(names, *full, strict=True))
    spans = tuple((min(start for start, _ in words), max(end for _, end in words)) for words in columns)
    apart = all(left[1] < right[0] for left, right in pairwise(spans))
    return spans if apart else ()


def cells_at(line: str, spans: Sequence[Span]) -> list[str] | None:
    """Cut a row into cells by the positions of the columns.

    Parameters
    ----------
    line : str
        The row.
    spans : sequence of (int, int)
        What `column_spans` gave.

    Returns
    -------
    list of str or None
        A cell for each column, "" where it is blank; None where a word does not belong to one column alone, or two
        words belong to the same.
    """
    cells = [""] * len(spans)
    for word in _words(line):
        over = [i for i, span in enumerate(spans) if _overlap(word, span)]
        if len(over) != 1 or cells[over[0]]:
            return None
        cells[over[0]] = line[slice(*word)]
    return None if "\t" in line else cells


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and one[1] > other[0]


def _words(line: str) -> list[Span]:
    return [match.span() for match in re.finditer(r"\S+", line)]
