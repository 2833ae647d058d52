"""Rows become docs/validation.md, its figures, and the same numbers in JSON."""

import json
import textwrap
from pathlib import Path

from validate.record import MET, REPORTED, Row, Section, Table

COMMAND = "make validate"
_FIGURE = "validation_{}.png"


def write(sections: list[Section], seconds: dict[str, float], made_by: dict, kept: str, output: Path) -> Path:
    """Write page and figures to `output`/docs and the JSON to `output`/benchmarks/results; return the page."""
    docs, results = output / "docs", output / "benchmarks" / "results"
    for folder in (docs, results):
        folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name, (draw, _) in section.figures.items():
            draw().savefig(docs / _FIGURE.format(name))
    record = {
        **made_by,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "sections": {section.name: [row.as_json() for row in section.rows] for section in sections},
    }
    (results / "validation.json").write_text(json.dumps(record, indent=1) + "\n")
    page = docs / "validation.md"
    page.write_text(text(sections, seconds, made_by, kept))
    return page


def text(sections: list[Section], seconds: dict[str, float], made_by: dict, kept: str) -> str:
    parts = ["# Do the error bars hold?", _introduction(sections, seconds, made_by)]
    parts += [_summary(sections)]
    for section in sections:
        parts += [f"## {section.title}", _wrapped(section.text), f"This section alone: `{again(section.name)}`"]
        if section.rows:
            parts.append(_claims(section.rows))
        parts += [_table(table) for table in section.tables]
        for name, (_, caption) in section.figures.items():
            parts += [f"![{caption}]({_FIGURE.format(name)})", _wrapped(caption)]
    parts.append(kept.strip())
    return "\n\n".join(parts) + "\n"


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def again(name: str) -> str:
    return f"PYTHONPATH=benchmarks:tests python -m validate --only {name} --output again"


def _introduction(sections, seconds, made_by) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made_by["versions"].items())
    quick = (
        " **This was a dry run (`--quick`): its numbers are of too few objects to rest on.**"
        if made_by["quick"]
        else ""
    )
    times = ", ".join(f"{section.name} {seconds[section.name]:.0f} s" for section in sections)
    paragraphs = (
        f"`{COMMAND}` writes this page, its figures and `benchmarks/results/validation.json` from scratch, and nobody "
        f"edits it.{quick} This one is of commit `{made_by['commit']}` on {made_by['processor']} "
        f"({made_by['cores']} cores), with {versions}. It took {sum(seconds.values()) / 60:.0f} minutes ({times}).",
        "Each claim stands with its number and one standard error, what is accepted, and a *twin*: the same check on a "
        "deliberate fault, which it has to find. A claim whose twin is not found is not met, because its check could "
        "not have failed. Numbers that nothing is demanded of are `reported`. What was not measured in this run names "
        "its commit and machine.",
    )
    return "\n\n".join(map(_wrapped, paragraphs))


def _summary(sections) -> str:
    rows = [row for section in sections for row in section.rows]
    judged = [row for row in rows if row.verdict != REPORTED and not row.not_run]
    failed = [row for row in judged if row.verdict != MET]
    absent = [row for row in rows if row.not_run]
    lines = [
        f"**{len(judged) - len(failed)} of {len(judged)} claims are met**, {len(failed)} are not; "
        f"{sum(row.verdict == REPORTED for row in rows)} numbers are reported without a demand, and {len(absent)} "
        f"parts "
        "were not run."
    ]
    if failed:
        lines += ["", "Not met:", "", *(f"- {row.claim}: {row.judged_text()}" for row in failed)]
    if absent:
        lines += ["", "Not run:", "", *(f"- {row.claim}: {row.not_run}" for row in absent)]
    return "\n".join(lines)


def _claims(rows: list[Row]) -> str:
    """Tables of rows that have the same numbers, in their order, with a column for each number."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.numbers), []).append(row)
    return "\n\n".join(_claims_of(names, group) for names, group in groups.items())


def _claims_of(names: tuple[str, ...], rows: list[Row]) -> str:
    """One table; columns that no row fills are left out."""
    columns = {"claim": lambda row: row.claim}
    columns |= {name: lambda row, name=name: row.numbers[name].text() for name in names}
    columns |= {
        "accepted": Row.limit_text,
        "verdict": lambda row: row.verdict,
        "twin that must be found": lambda row: row.twin.text() if row.twin else "",
        "data": lambda row: row.data,
        "from": lambda row: "" if row.source == "this run" else row.source,
        "remark": lambda row: row.remark,
    }
    columns = {head: cell for head, cell in columns.items() if any(cell(row) for row in rows)}
    return _table(Table(tuple(columns), [tuple(cell(row) for cell in columns.values()) for row in rows]))


def _table(table: Table) -> str:
    lines = [table.head, ("---",) * len(table.head), *table.lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
