"""Rows become docs/validation.md, its figures, and the same numbers in JSON."""

import json
import re
import shutil
import textwrap
from pathlib import Path

from validate.record import MET, REPORTED, Kept, Row, Section, Table, row_of_json

COMMAND = "make validate"
_FIGURE = "validation_{}.png"


def write(sections: list[Section | Kept], seconds: dict[str, float], runs: dict[str, dict], kept: str, output: Path):
    """Write page and figures to `output`/docs and the JSON to `output`/benchmarks/results; return the page.

    `runs` says of each section, by its name, which code on which machine made it.
    """
    docs, results = output / "docs", output / "benchmarks" / "results"
    for folder in (docs, results):
        folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if isinstance(section, Kept):
            for figure in section.figures:
                if not (docs / figure.name).exists() or not (docs / figure.name).samefile(figure):
                    shutil.copy(figure, docs)
            continue
        for name, (draw, _) in section.figures.items():
            draw().savefig(docs / _FIGURE.format(name))
    record = {
        "runs": runs,
        "seconds": {section.name: round(seconds[section.name], 1) for section in sections},
        "sections": {section.name: [row.as_json() for row in section.rows] for section in sections},
    }
    (results / "validation.json").write_text(json.dumps(record, indent=1) + "\n")
    page = docs / "validation.md"
    page.write_text(text(sections, seconds, runs, kept))
    return page


def read(folder: Path) -> tuple[dict[str, Kept], dict[str, float], dict[str, dict]]:
    """Sections of the page that `write` made in a folder, the seconds they took, and their runs; by name."""
    record = json.loads((folder / "benchmarks" / "results" / "validation.json").read_text())
    found = {}
    for block in re.split(r"\n(?=## )", (folder / "docs" / "validation.md").read_text()):
        if named := re.search(r"^This section alone: `.* --only (\w+) ", block, re.MULTILINE):
            figures = [
                folder / "docs" / name for name in re.findall(r"^!\[.*\]\((validation_\w+\.png)\)$", block, re.M)
            ]
            rows = [row_of_json(row) for row in record["sections"][named.group(1)]]
            found[named.group(1)] = Kept(named.group(1), block.strip(), rows, figures)
    whole = {key: value for key, value in record.items() if key not in ("seconds", "sections")}
    runs = record.get("runs") or {name: whole for name in found}  # noqa: C420  one run made all of them
    return found, record["seconds"], runs


def text(sections: list[Section | Kept], seconds: dict[str, float], runs: dict[str, dict], kept: str) -> str:
    parts = ["# Do the error bars hold?", _introduction(sections, seconds, runs)]
    parts += [_summary(sections)]
    for section in sections:
        if isinstance(section, Kept):
            parts.append(section.block)
            continue
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


def _introduction(sections, seconds, runs) -> str:
    quick = (
        " **This was a dry run (`--quick`): its numbers are of too few objects to rest on.**"
        if any(run["quick"] for run in runs.values())
        else ""
    )
    times = ", ".join(f"{section.name} {seconds[section.name]:.0f} s" for section in sections)
    total = sum(seconds[section.name] for section in sections)
    paragraphs = (
        f"`{COMMAND}` writes this page, its figures and `benchmarks/results/validation.json` from scratch, and nobody "
        f"edits it.{quick} {_runs_text(sections, runs)} It took {total / 60:.0f} minutes ({times}).",
        "Each claim stands with its number and one standard error, what is accepted, and a *twin*: the same check on a "
        "deliberate fault, which it has to find. A claim whose twin is not found is not met, because its check could "
        "not have failed. Numbers that nothing is demanded of are `reported`. What was not measured in this run names "
        "its commit and machine.",
    )
    return "\n\n".join(map(_wrapped, paragraphs))


def _runs_text(sections, runs) -> str:
    """Of which commit, on which machine and with which packages the page is, or each group of its sections."""
    groups: dict[str, list[str]] = {}
    for section in sections:
        run = runs[section.name]
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        whose = f"of commit `{run['commit']}` on {run['processor']} ({run['cores']} cores), with {versions}"
        # Times of a busy machine are not those of a quiet one, and the page should not pass them off as such.
        if run.get("load", 0) > run["cores"]:
            whose += " (other programs kept the machine busy)"
        groups.setdefault(whose, []).append(section.name)
    if len(groups) == 1:
        return f"This one is {next(iter(groups))}."
    said = [f"{', '.join(names)} {whose}" for whose, names in groups.items()]
    return f"Its sections are of several runs (`--join`): {'; '.join(said)}."


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
