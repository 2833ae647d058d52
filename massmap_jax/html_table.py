"""Tables in HTML, for the report of a run and for what notebooks show of results."""

from collections.abc import Iterable
from html import escape


def html_table(head: Iterable | None, rows: Iterable) -> str:
    """Make a table of escaped cells.

    Parameters
    ----------
    head : iterable of object or None
        Names of the columns; without them the first column names the row.
    rows : iterable of tuple
        The cells of each row, of any type.

    Returns
    -------
    str
        HTML; a wide table scrolls in itself.
    """
    first = "th" if head is None else "td"
    lines = [] if head is None else ["<tr>" + "".join(f"<th>{escape(str(cell))}</th>" for cell in head) + "</tr>"]
    for name, *cells in rows:
        rest = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        lines.append(f"<tr><{first}>{escape(str(name))}</{first}>{rest}</tr>")
    return f'<div style="overflow-x: auto"><table>{"".join(lines)}</table></div>'


def html_summary(title: str, head: Iterable | None, rows: Iterable, lines: Iterable[str] = ()) -> str:
    """Make what a notebook shows of a result: a title, a table, and lines of text below it.

    Parameters
    ----------
    title : str
        The title.
    head, rows : iterable
        As in `html_table`.
    lines : iterable of str
        Text below the table.

    Returns
    -------
    str
        HTML, with all text escaped.
    """
    text = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return f"<div><b>{escape(title)}</b>{html_table(head, rows)}{text}</div>"
