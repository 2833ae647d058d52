"""Text tables with any delimiter, with or without a header, to columns."""

import re
from collections.abc import Collection, Sequence

from massmap_jax.catalogue.columns import BLANKS
from massmap_jax.errors import MassmapError


def parse_text(
    data: bytes,
    label: str,
    names: Sequence[str] | None,
    text_columns: Collection[str],
    delimiter: str | None = None,
):
    """Parse a text catalogue into an Arrow table.

    The delimiter is a comma, tab, semicolon or "|" if the first line has one, otherwise spaces. Lines that begin with
    "#" are comments. Where there is no header line, the last comment with as many words as there are columns names
    them.

    Parameters
    ----------
    data : bytes
        The whole file, UTF-8.
    label : str
        What to call the file in an error.
    names : sequence of str or None
        Column names that replace the header, as in `massmap_jax.catalogue.tables.open_table`.
    text_columns : collection of str
        Columns (in lower case) whose cells are kept as written.
    delimiter : str, optional
        The delimiter of earlier rows, where `data` continues them: its first row is then not a header, whatever it
        holds.

    Returns
    -------
    table : pyarrow.Table
        The columns.
    notes : tuple of str
        What was guessed.
    delimiter : str
        The delimiter.

    Raises
    ------
    MassmapError
        For a file without rows, or rows with too many or too few cells.
    """
    import pyarrow as pa
    from pyarrow import csv

    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        data.decode()
        encoding_notes: tuple[str, ...] = ()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
        encoding_notes = ("the file is not UTF-8: read as Latin-1",)
    comments, data = _split_comments(data)
    first = data[: (data + b"\n").index(b"\n")].decode("utf-8", "replace")
    if not first:
        raise MassmapError(f"{label} holds no rows, only comments or blank lines")
    goes_on = delimiter is not None
    if not goes_on:
        delimiter = next((mark for mark in (",", "\t", ";", "|") if mark in first), " ")
    if delimiter == " ":
        data = _single_spaces(data)
    if goes_on:
        columns, has_header, notes = list(names), False, ()
    else:
        columns, has_header, notes = _header(label, _cells(first, delimiter), comments, names)
    notes += encoding_notes

    if has_header:
        data = data[len(data.split(b"\n", 1)[0]) + 1 :]
    if not data.strip():
        return pa.table([pa.array([], pa.float64())] * len(columns), names=columns), notes, delimiter

    ragged = []

    def skip(row) -> str:
        """Note a row with too few or too many cells, for the refusal below."""
        ragged.append(row)
        return "skip"

    kept = {name: pa.string() for name in columns if name.lower() in text_columns}
    table = csv.read_csv(
        pa.BufferReader(data),
        # One block, so that a column's type is inferred from all of its rows and not from the first megabyte.
        read_options=csv.ReadOptions(column_names=columns, block_size=min(len(data) + 1, 1 << 30), use_threads=False),
        parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(
            column_types=kept,
            null_values=sorted({form for b in BLANKS for form in (b, b.upper(), b.capitalize(), "NaN")}),
            strings_can_be_null=True,
            timestamp_parsers=[],
        ),
    )
    if ragged:
        row = ragged[0]
        raise MassmapError(
            f"{label} has {row.expected_columns} columns but another number of cells in {len(ragged)} rows, "
            f"first row {row.number - 1} with {row.actual_columns}: {row.text[:60]!r}; is a cell missing or "
            "the file cut short?"
        )
    for position, name in enumerate(columns):
        if name in kept:
            table = table.set_column(position, name, _integers_if_same_text(table.column(position)))
    return table, notes, delimiter


def _split_comments(data: bytes) -> tuple[list[str], bytes]:
    """Split off the lines that begin with "#": their text, and the other lines without leading blank ones."""
    comments = []
    if b"#" in data:
        pattern = re.compile(rb"^[ \t]*#(.*)\n?", re.MULTILINE)
        comments = [text.decode("utf-8", "replace").strip() for text in pattern.findall(data)]
        data = pattern.sub(b"", data)
    return comments, re.sub(rb"\A(?:[ \t]*\n)+", b"", data)


def _single_spaces(data: bytes) -> bytes:
    """Reduce text to one space between cells and none at either end of a line."""
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")


def _cells(line: str, delimiter: str) -> list[str]:
    """Split a line into cells, without the spaces around them."""
    import csv

    return [cell.strip() for cell in next(csv.reader([line.strip(" ")], delimiter=delimiter, skipinitialspace=True))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _header(label: str, first: list[str], comments: list[str], names: Sequence[str] | None):
    """Find the column names; whether the first line is a header; and notes on what was guessed."""
    # A header has no number in it; a first row of text and blanks alone is taken for a header too.
    has_header = not any(_is_number(cell) for cell in first)
    if names is not None:
        if len(names) != len(first):
            raise MassmapError(
                f"{len(names)} names are given, but {label} has {len(first)} columns: {', '.join(first)}"
            )
        return (
            list(names),
            has_header,
            (f"names given replace the header: {', '.join(first)}",) if has_header else (),
        )
    if has_header:
        return first, True, ()
    # SExtractor lists its columns one to a comment line: "1 NUMBER  Running object number".
    numbered = [words[:2] for words in map(str.split, comments) if len(words) > 1]
    if [number for number, _ in numbered] == [str(i + 1) for i in range(len(first))]:
        return [name for _, name in numbered], False, ("column names: taken from the numbered comment lines",)
    for comment in reversed(comments):
        for delimiter in (",", "\t", ";", "|", " "):
            cells = _cells(comment, delimiter) if comment else []
            if len(cells) == len(first) and not any(_is_number(cell) for cell in cells):
                return cells, False, (f"column names: taken from the comment line '# {comment}'",)
    columns = [f"col{i}" for i in range(1, len(first) + 1)]
    return columns, False, (f"the file has no header: its columns are called {', '.join(columns)}",)


def _integers_if_same_text(column):
    """Convert a text column to int64 where that loses nothing (leading zeros, overflow); otherwise keep it."""
    import pyarrow as pa

    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    return integers if integers.cast(pa.string()).equals(column) else column
