"""Text tables with any delimiter, with or without a header, to columns."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from massmap_jax.catalogue.column_names import normal_name, split_angle_parts
from massmap_jax.catalogue.columns import BLANKS, number_in
from massmap_jax.catalogue.fixed_width import cells_at
from massmap_jax.catalogue.text_layout import FOOTERS, TextLayout, find_text_layout, split_line
from massmap_jax.errors import MassmapError

# More bytes than a footer has, so that not all lines of a long table become Python's.
_FOOTER = 4096
# Bytes in which a table's layout is looked for.
SAMPLE = 1 << 20


def parse_text(
    data: bytes,
    label: str,
    names: Sequence[str] | None,
    text_columns: Collection[str],
    delimiter: str | None = None,
    header: str | None = None,
):
    """Parse a text catalogue into an Arrow table.

    Parameters
    ----------
    data : bytes
        The whole file, UTF-8 (or else Latin-1).
    label : str
        What to call the file in an error.
    names : sequence of str or None
        Column names that replace the header, as in `massmap_jax.catalogue.tables.open_table`.
    text_columns : collection of str
        Columns (by `normal_name`) whose cells are kept as written.
    delimiter, header : str, optional
        As in `massmap_jax.catalogue.text_layout.find_text_layout`.

    Returns
    -------
    table : pyarrow.Table
        The columns.
    layout : TextLayout
        Delimiter, names, units and notes.

    Raises
    ------
    MassmapError
        For a file without rows, or rows with too many or too few cells.
    """
    data, encoding_notes = _utf8(data)
    layout = layout_of(data, label, names, delimiter, header, whole=True)
    for _ in range(layout.first_line):
        data = data[len(data.split(b"\n", 1)[0]) + 1 :]
    cut = data.find(b"\n", max(len(data) - _FOOTER, 0)) + 1 if len(data) > _FOOTER else 0
    rows, footer = split_footer(data[cut:].decode().split("\n"), layout)
    data = data[:cut] + "\n".join(rows).encode()
    layout = replace(layout, notes=layout.notes + encoding_notes + footer_notes(footer))
    return parse_rows(data, label, layout, text_columns), layout


def split_footer(lines: list[str], layout: TextLayout) -> tuple[list[str], list[str]]:
    """Part the lines of a text table from a footer below them, such as "(2 rows)" or "END".

    Parameters
    ----------
    lines : list of str
        The last lines of the table, or all of them.
    layout : TextLayout
        How they are laid out.

    Returns
    -------
    rows, footer : list of str
        The lines, and those from the footer on, if there is one.

    Notes
    -----
    A line of one cell in a table of several columns is a footer where it is no number and the first column holds
    numbers. Where that holds text, it may be a row that was cut short, and only the usual words of a footer count.
    """
    end, first = len(lines), len(lines)
    while end:
        line = lines[end - 1].strip()
        if line and not line.startswith(layout.comments):
            if not FOOTERS.fullmatch(line) and not (layout.first_is_number and _is_words(line, layout)):
                break
            first = end - 1
        end -= 1
    return lines[:first], lines[first:]


def _is_words(line: str, layout: TextLayout) -> bool:
    """Tell a line whose only cell is the first one, and no number, in a table of several columns."""
    first, *others = split_line(line, layout.delimiter)
    return len(layout.names) > 1 and not any(others) and first.lower() not in BLANKS and number_in(first) is None


def footer_notes(footer: list[str]) -> tuple[str, ...]:
    """Tell of a footer that is left out."""
    texts = [" ".join(line.split()) for line in footer if line.strip()]
    return (f"below the last row, left out: {', '.join(repr(text[:60]) for text in texts)}",) if texts else ()


def layout_of(
    data: bytes, label: str, names: Sequence[str] | None, delimiter: str | None, header: str | None, *, whole: bool
) -> TextLayout:
    """Find the layout of a text table from its first bytes; `whole` where they are all."""
    data, _ = _utf8(data)
    sample = data
    # A long list of comments may fill the sample: then all there is.
    if len(data) > SAMPLE:
        cut = data[:SAMPLE].rsplit(b"\n", 1)[0]
        sample = cut if len(re.findall(rb"^[^#\s%!]", cut, re.MULTILINE)) > 10 else data
    elif not whole:
        sample = data.rsplit(b"\n", 1)[0]
    return find_text_layout(sample.decode(), label, names, delimiter, header)


def parse_rows(data: bytes, label: str, layout: TextLayout, text_columns: Collection[str]):
    """Parse lines of a text table without its header into an Arrow table.

    Parameters
    ----------
    data : bytes
        The lines.
    label : str
        What to call the file in an error.
    layout : TextLayout
        How they are laid out.
    text_columns : collection of str
        Columns (by `normal_name`) whose cells are kept as written.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    MassmapError
        For rows with too many or too few cells.
    """
    import pyarrow as pa
    from pyarrow import csv

    data, _ = _utf8(data)
    columns = list(layout.names)
    for mark in layout.comments:
        if mark.encode() in data:
            data = re.sub(rb"^[ \t]*%s.*\n?" % re.escape(mark.encode()), b"", data, flags=re.MULTILINE)
    if layout.boxed:
        data = re.sub(rb"^[ \t]*[-=+|]*(?:---|===)[-=+|]*[ \t]*\n?", b"", data, flags=re.MULTILINE)
    if not data.strip():
        return pa.table([pa.array([], pa.float64())] * len(columns), names=columns)
    delimiter = layout.delimiter
    if delimiter == " ":
        single = _single_spaces(data)
        cut = _cut_by_positions(data, single, layout)
        delimiter, data = (" ", single) if cut is None else ("\t", cut)

    ragged = []
    # The sign of a declination that is split over columns is one of them, where "-" is no blank, or is before its
    # degrees, where -00 is not 0.
    parts = split_angle_parts(columns)
    signed = {parts.get("dec_sign"), parts.get("dec_degree")} if "dec_minute" in parts else set()
    kept = {name: pa.string() for name in columns if normal_name(name) in text_columns or name in signed}
    blanks = {form for b in BLANKS for form in (b, b.upper(), b.capitalize(), "NaN")}
    blanks -= {"-"} if signed - {None} else set()

    def skip(row) -> str:
        """Note a row with too few or too many cells, for the refusal below."""
        ragged.append(row)
        return "skip"

    table = csv.read_csv(
        pa.BufferReader(data),
        # One block, so that a column's type is inferred from all of its rows and not from the first megabyte.
        read_options=csv.ReadOptions(column_names=columns, block_size=min(len(data) + 1, 1 << 30), use_threads=False),
        parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(
            column_types=kept,
            null_values=sorted(blanks),
            strings_can_be_null=True,
            timestamp_parsers=[],
        ),
    )
    if ragged:
        row = ragged[0]
        raise MassmapError(
            f"{label} has {row.expected_columns} columns but another number of cells in {len(ragged)} rows, "
            f"first row {row.number - 1} with {row.actual_columns}: {row.text[:60]!r}; is a cell missing or "
            "the file cut short? (delimiter= names the mark between cells; write nan where a cell is blank, and # "
            "before a line that is no row)"
        )
    for position, name in enumerate(columns):
        if pa.types.is_string(table.column(position).type):
            table = table.set_column(position, name, _without_padding(table.column(position), name in kept))
    return table


def _utf8(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Give the bytes of a text as UTF-8 with line ends "\\n", and a note where they were Latin-1."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # The last character of a sample may be cut.
        if error.start > len(data) - 4 and error.reason == "unexpected end of data":
            return data[: error.start], ()
        return data.decode("latin-1").encode(), ("the file is not UTF-8: read as Latin-1",)
    return data, ()


def _single_spaces(data: bytes) -> bytes:
    """Reduce text to one space between cells and none at either end of a line."""
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")


def _cut_by_positions(data: bytes, single: bytes, layout: TextLayout) -> bytes | None:
    """Rows with tabs between their cells, where some are blank and the positions tell which; None for all others."""
    width = len(layout.names)
    if not layout.spans or all(line.count(b" ") == width - 1 for line in single.split(b"\n") if line.strip()):
        return None
    rows = [cells_at(line, layout.spans) for line in data.decode().split("\n") if line.strip()]
    if any(row is None or any('"' in cell for cell in row) for row in rows):
        return None
    return "\n".join("\t".join(row) for row in rows).encode() + b"\n"


def _without_padding(column, is_kept: bool):
    """Strip the cells of a text column; one kept as written becomes int64 where nothing is lost (zeros, overflow)."""
    import pyarrow as pa
    from pyarrow import compute

    column = compute.utf8_trim_whitespace(column)
    if not is_kept:
        # A blank that is padded to the width of its column makes text of all its numbers.
        blank = compute.equal(column, "")
        if not compute.any(blank).as_py() or compute.all(blank).as_py():
            return column
        try:
            return compute.if_else(blank, None, column).cast(pa.float64())
        except pa.ArrowInvalid:
            return column
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    return integers if integers.cast(pa.string()).equals(column) else column
