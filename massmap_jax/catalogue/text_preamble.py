"""Lines above a text table that are no header of one line: a count of rows, prose, names over several comments."""

import re
from collections.abc import Collection, Sequence

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.columns import number_in

# A line of so many words is a sentence and no name of an object.
_WORDS = 4
# Longest name of a column where a comment names one alone.
_LONG = 60
# No name of a column is one of these.
_PROSE = re.compile(r"(?i)an|and|are|as|at|by|for|from|in|is|it|not|of|on|only|or|that|the|their|these|this|to|we|with")


def is_prose(line: str) -> bool:
    """Tell whether a line is a sentence, of four words or more and few of them numbers, and no row."""
    words = line.split()
    return len(words) >= _WORDS and 4 * sum(number_in(word) is not None for word in words) < len(words)


def is_count(first: str, rows_below: int) -> bool:
    """Tell whether a first line is the number of rows below it, as programs in C and Fortran read it."""
    return re.fullmatch(r"\d+", first.strip()) is not None and int(first) == rows_below > 1


def paragraphs(numbered: Sequence[tuple[int, str]]) -> list[list[str]]:
    """Part comments into paragraphs, at lines that are empty or are none.

    Parameters
    ----------
    numbered : sequence of (int, str)
        Number and text of each comment, without its mark.

    Returns
    -------
    list of list of str
        The texts of each paragraph.
    """
    found: list[list[str]] = []
    last = -1
    for number, text in numbered:
        if text.strip():
            if number == last + 1 and found:
                found[-1].append(text.strip())
            else:
                found.append([text.strip()])
            last = number
    return found


def names_over_lines(
    numbered: Sequence[tuple[int, str]], width: int, usual: Collection[str]
) -> tuple[list[str], list[str]] | None:
    """Find a paragraph of comments that names the columns: one in each line, or several and all of them together.

    Parameters
    ----------
    numbered : sequence of (int, str)
        Number and text of each comment above the table, without its mark.
    width : int
        Columns of the table.
    usual : collection of str
        Usual names of columns, as `normal_name` writes them.

    Returns
    -------
    names, units : list of str
        For each column, "" for a unit that is not told; None where no paragraph fits.

    Notes
    -----
    Prose may have as many lines, or words, as the table has columns. So one of the names has to be a usual one, or a
    line above them, such as "Columns:", has to say what they are; and in lines of several names none may be a word of
    prose, and none may come twice.
    """
    for lines in paragraphs(numbered):
        said = lines[0].endswith(":") and "column" in lines[0].lower()
        lines = lines[1:] if lines[0].endswith(":") else lines
        if width < 3 or not lines:
            continue
        alone = [(line, "") for line in lines]
        words = [
            (found[1], found[2] or "") for line in lines for found in re.finditer(r"(\S+)(?:\s+\[([^\]]*)\])?", line)
        ]
        for pairs, several in ((words, True), (alone, False)):
            names = [name for name, _ in pairs]
            plain = [normal_name(name) for name in names]
            if len(names) != width or len(set(plain)) != width or any(number_in(name) is not None for name in names):
                continue
            if several and (any(map(_PROSE.fullmatch, names)) or len(lines) < 2):
                continue
            if not several and any(len(name) > _LONG or name.endswith((".", ",")) for name in names):
                continue
            if said or set(plain) & set(usual):
                return names, [unit for _, unit in pairs]
    return None


def names_described(described: Sequence[str], usual: Collection[str]) -> list[str]:
    """Give the names of columns that numbered comments describe, one in each.

    Parameters
    ----------
    described : sequence of str
        What follows the number: a name and what it means, or what it means and perhaps its symbol at the end.
    usual : collection of str
        Usual names of columns, as `normal_name` writes them.

    Returns
    -------
    list of str
        The names.

    Notes
    -----
    SExtractor begins with the name. Where several begin with the same word, or two that begin with a word end with a
    symbol, as "richness N_mem" does, the first words are no names: then it is the symbol, else a first word that is a
    usual name, and else all that is said, but for its unit and what stands in brackets behind it. A symbol of several
    columns, as of a mass and its limits, is the name of none.
    """
    bare = [re.sub(r"(?<=\S)(?:\s*(?:\[[^\]]*\]|\([^()]*\)))+\s*$", "", text.strip()) for text in described]
    first = [text.split()[0].rstrip(":,") for text in bare]
    symbols = [_symbol_at_the_end(text) for text in bare]
    words = sum(symbol != "" and re.fullmatch(r"[a-z][a-z-]{3,}", name) is not None
                for symbol, name in zip(symbols, first, strict=True))  # fmt: skip
    if len(set(map(str.lower, first))) == len(first) and words < 2:
        return first
    single = [symbol if symbols.count(symbol) == 1 else "" for symbol in symbols]
    beginnings = [name if normal_name(name) in usual and first.count(name) == 1 else "" for name in first]
    return [symbol or name or text for symbol, name, text in zip(single, beginnings, bare, strict=True)]


def _symbol_at_the_end(text: str) -> str:
    """Give the last of several words where it alone is a symbol, such as "z_cl"; "" where it is not."""
    *before, last = text.split()
    is_symbol = re.fullmatch(r"[A-Za-z]+_[A-Za-z0-9]+", last) is not None
    return last if is_symbol and before and not any(re.search(r"[_:,]", word) for word in before) else ""


def without_counts(names: Sequence[str]) -> list[str]:
    """Give the names of columns without their number in brackets behind each, as programs for trees of halos write it.

    Parameters
    ----------
    names : sequence of str
        "scale(0)", "id(1)", ...

    Returns
    -------
    list of str
        "scale", "id", ..., where each has its own number, from 0 or 1 on, and no two would be the same.
    """
    parted = [re.fullmatch(r"(.*\S)\((\d+)\)", name) for name in names]
    numbers = [int(found[2]) for found in parted if found]
    if len(names) < 3 or numbers not in (list(range(len(names))), list(range(1, len(names) + 1))):
        return list(names)
    bare = [found[1] for found in parted if found]
    return bare if len(set(bare)) == len(bare) else list(names)


def units_said(text: str) -> str | None:
    """Give what a comment "Units: ..." lists; None for another comment."""
    found = re.fullmatch(r"units?\s*[:=]\s*(.*)", text.strip(), re.IGNORECASE)
    return None if found is None else found[1]
