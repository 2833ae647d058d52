"""Which values of a column are limits, by a column of flags beside it: "l_L500" of CDS, "L500_limit", "UL"."""

import re
from collections import Counter

import numpy as np
from jaxtyping import Bool

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.columns import ColumnTable, rows_text

_MARKS = ("<", ">", "≤", "≥", "⩽", "⩾")
# What a flag's name has beside that of its column: "l_" of CDS, "f_", "n_" (notes) and "q_", "_flag", "_type", and ...
_ANY_FLAG = ("l", "f", "n", "q", "flag", "flags", "type", "note", "sign", "qual", "quality", "mark")
# ... what speaks of limits, whose cells may be 1, true or yes, too.
_LIMIT = r"(?:is_?|has_?)?(?:(?:upper|lower|up|low|u|l)_?)?lim(?:its?)?(?:_?flag)?|u_?l(?:_?flag)?"
# The other way round: no, false and 0 beside yes, true and 1 mark what was not detected.
_DETECTED = r"(?:is_?|has_?)?(?:detected|detection|det)(?:_?flag)?"
_WORDS = r"u[_ ]?l|upper|lower|(?:upper|lower|up|u|l)?[ _]?lim(?:it)?s?"
# One letter, which says the limit only beside others that say what a detection is: "U" and "L" beside "D" or blank.
_LETTERS, _MEASURED = ("u", "l"), ("d", "n", "=", "-", "")
# Flags that say how good a value is, or a row; and how many values a flag has at most.
_QUALITY = (
    r"q?_?flags?\d*|flg|qual(?:ity)?(?:_?(?:flag|class))?|qf|good|bad|use(?:d)?|valid|reliab(?:le|ility)|clean"
    r"|warn(?:ing)?"
)
_ROWS = (
    r"contam(?:inated|ination)?(?:_?flag)?|agn(?:_?(?:flag|contam\w*))?|mask(?:ed)?(?:_?flag)?|spurious|false|art[ei]fact"
    r"|confirmed|blend(?:ed)?|point_?source|merger|star_?flag|exclude(?:d)?|reject(?:ed)?|duplicate|in_?sample"
)
_FEW = 12
_YES, _NO = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "false", "f", "no", "n", "")


def limits_among(table: ColumnTable, name: str, notes: list[str]) -> Bool[np.ndarray, " row"]:
    """Tell which values of a column are limits, by a column of flags that goes with it.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column of the values.
    notes : list of str
        A note says how many there are.

    Returns
    -------
    Bool[np.ndarray, "row"]
        True for a limit; of size 0 where the table has no such flags.

    Notes
    -----
    Flags are "<" and ">", "UL", "upper limit" and the like, in a column whose name is that of the values with "l_",
    "_flag" and others before or behind it, also "U" and "L" beside "D" or blanks; where it speaks of limits,
    "L500_ul", also 1, true and yes beside 0, false and no; and where it speaks of detections, "L500_detected", 0, false
    and no beside 1, true and yes.
    """
    own, marked = normal_name(name), []
    for other in table.names:
        plain = normal_name(other)
        beside = next((b for b in (plain.removeprefix(f"{own}_"), plain.removesuffix(f"_{own}")) if b != plain), "")
        beside = beside or ("flag" if plain == f"{own}flag" else "")
        of_limits = re.fullmatch(_LIMIT, beside) is not None
        if re.fullmatch(_DETECTED, beside):
            limits, texts = _undetected(table, other)
        elif of_limits or beside in _ANY_FLAG:
            limits, texts = _flagged(table, other, of_limits)
        else:
            continue
        if limits.any():
            marked.append(limits)
            notes.append(
                f"{name!r} is a limit and no measurement in {rows_text(limits, texts)} of {other!r}: taken as missing"
            )
    return np.logical_or.reduce(marked) if marked else np.zeros(0, dtype=bool)


def note_limits_of_any(table: ColumnTable, name: str, notes: list[str]) -> None:
    """Tell of flags in a column called "limit", "UL" or "detected" alone, which does not say of which column it speaks.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column that is read as measured.
    notes : list of str
        A note is added where there are such flags.
    """
    for other in table.names:
        plain = normal_name(other)
        if re.fullmatch(_LIMIT, plain):
            (limits, texts), marks, what = _flagged(table, other, True), "marks limits", "limits"
        elif re.fullmatch(_DETECTED, plain):
            (limits, texts), marks, what = _undetected(table, other), "says that there is no detection", "values there"
        else:
            continue
        if limits.any():
            notes.append(
                f"column {other!r} {marks} in {rows_text(limits, texts)}, and does not say whether of"
                f" {name!r}, which is read as measured in all rows: leave its {what} blank"
            )


def note_other_flags(table: ColumnTable, name: str, notes: list[str]) -> None:
    """Say that flags beside a column, or of whole rows, which are neither limits nor blank, are not used.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column that is read as measured.
    notes : list of str
        A note is added for each such column, with its values; none where all cells are alike.
    """
    own = re.escape(normal_name(name))
    beside = rf"(?:{_QUALITY})_?{own}|{own}_?(?:{_QUALITY})|(?:f|q|n|w)_{own}|(?:is_|has_)?(?:{_QUALITY}|{_ROWS})"
    for other in table.names:
        if re.fullmatch(beside, normal_name(other)) is None or other == name:
            continue
        whole = table if table.sample is None else table.sample
        cells = whole.column(other)
        if getattr(cells, "dtype", None) is not None and cells.dtype.kind in "biuf":
            values, numbers = np.unique(np.ma.compressed(cells), return_counts=True)
            counted = dict(zip(map(str, values.tolist()), numbers.tolist(), strict=True))
        elif _flagged(whole, other, False)[0].any():  # used as limits
            continue
        else:
            counted = dict(Counter(_words(whole, other)[0]))
        if not 1 < len(counted) <= _FEW:
            continue
        listed = ", ".join(f"{text or 'blank'} in {counted[text]}" for text in sorted(counted))
        notes.append(
            f"{other!r} is by its name a flag, and is not used ({listed} rows): leave rows out of the file that it says"
            " are bad, contaminated or no clusters"
        )


def _words(table: ColumnTable, flags: str) -> tuple[list[str], list[str]]:
    """The cells of a column as text, and in lower case."""
    cells = np.ma.filled(np.ma.asarray(table.column(flags)).astype(object), "").tolist()
    texts = [(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)).strip() for cell in cells]
    return texts, [text.lower() for text in texts]


def _undetected(table: ColumnTable, flags: str) -> tuple[Bool[np.ndarray, " row"], list[str]]:
    """Which rows say no, and the cells as text; none where the cells say anything but yes and no."""
    texts, words = _words(table, flags)
    only = {*words} <= {*_YES, *_NO}
    return np.array([only and text in _NO and text != "" for text in words], dtype=bool), texts


def _flagged(table: ColumnTable, flags: str, of_limits: bool) -> tuple[Bool[np.ndarray, " row"], list[str]]:
    """Which rows are marked, and the cells as text; none where the cells are no flags, as numbers are none."""
    texts, words = _words(table, flags)
    limits = [text[:1] in _MARKS or re.fullmatch(_WORDS, text) is not None for text in words]
    if of_limits:
        yes = _YES if {*words} <= {*_YES, *_NO} else ("u", "l")
        limits = [one or text in yes for one, text in zip(limits, words, strict=True)]
    elif {*words} <= {*_LETTERS, *_MEASURED} and not {*words} <= {*_LETTERS}:
        limits = [text in _LETTERS for text in words]
    return np.array(limits, dtype=bool), texts
