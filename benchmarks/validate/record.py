"""What every section returns: claims with their numbers, limits and twins, and what is drawn and told beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MET, NOT_MET, REPORTED = "met", "**NOT MET**", "reported"
TWIN_MISSED = "**NOT MET**: the twin was not found"


class Number(NamedTuple):
    """A measured value with its standard error, where it has one."""

    value: float
    error: float | None = None

    def text(self) -> str:
        if self.error is None or not np.isfinite(self.error):
            return _digits(self.value)
        if self.error == 0:
            return _digits(self.value) + " +- 0"
        places = max(0, 1 - int(np.floor(np.log10(self.error))))
        return f"{self.value:.{places}f} +- {self.error:.{places}f}"


def _digits(value: float) -> str:
    if not np.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}" if 1e-2 <= abs(value) < 1e4 else f"{value:.1e}"


class Twin(NamedTuple):
    """A deliberate fault that the same check has to find: in how many of how many trials it did, and had to."""

    what: str
    found: int
    of: int
    least: int

    def text(self) -> str:
        return f"{self.what}: found in {self.found} of {self.of}"


class Row(NamedTuple):
    """One claim.

    `limits` are the accepted ranges (low, high) of the numbers; a row without limits is reported and not judged.
    `source` is the commit and the machine of numbers that were not measured in this run.
    """

    claim: str
    numbers: dict[str, Number]
    data: str
    limits: dict[str, tuple[float, float]] = {}  # noqa: RUF012  a NamedTuple's default, never changed
    twin: Twin | None = None
    source: str = "this run"
    not_run: str = ""
    remark: str = ""

    @property
    def within(self) -> bool:
        """Whether each number is in its range; NaN is not."""
        return all(low <= self.numbers[name].value <= high for name, (low, high) in self.limits.items())

    @property
    def verdict(self) -> str:
        if self.not_run:
            return f"not run: {self.not_run}"
        if not self.limits:
            return REPORTED
        if not self.within:
            return NOT_MET
        if self.twin is not None and self.twin.found < self.twin.least:
            return TWIN_MISSED
        return MET

    def number_text(self) -> str:
        return "; ".join(f"{name} {number.text()}" for name, number in self.numbers.items())

    def judged_text(self) -> str:
        """What was found of the numbers that have a limit, and the limits; and the twin, where it was missed."""
        found = "; ".join(f"{name} {self.numbers[name].text()}" for name in self.limits)
        missed = f". The twin was not found ({self.twin.text()})" if self.verdict == TWIN_MISSED and self.twin else ""
        return f"{found} (accepted: {self.limit_text()}){missed}"

    def limit_text(self) -> str:
        return "; ".join(_range_text(name, *limit) for name, limit in self.limits.items())

    def as_json(self) -> dict[str, Any]:
        return {
            "claim": self.claim,
            "numbers": {name: number._asdict() for name, number in self.numbers.items()},
            "accepted": {name: [None if np.isinf(end) else end for end in ends] for name, ends in self.limits.items()},
            "verdict": self.verdict.replace("*", ""),
            "data": self.data,
            "twin": None if self.twin is None else self.twin._asdict(),
            "source": self.source,
            "remark": self.remark,
        }


def row_of_json(kept: dict[str, Any]) -> Row:
    """The row that `as_json` wrote."""
    verdict = kept["verdict"]
    ends = {name: [sign if end is None else end for sign, end in zip((-np.inf, np.inf), pair, strict=True)]
            for name, pair in kept["accepted"].items()}  # fmt: skip
    return Row(
        claim=kept["claim"],
        numbers={name: Number(**number) for name, number in kept["numbers"].items()},
        data=kept["data"],
        limits={name: (low, high) for name, (low, high) in ends.items()},
        twin=None if kept["twin"] is None else Twin(**kept["twin"]),
        source=kept["source"],
        not_run=verdict.removeprefix("not run: ") if verdict.startswith("not run: ") else "",
        remark=kept["remark"],
    )


def _range_text(name: str, low: float, high: float) -> str:
    if np.isinf(low):
        return f"{name} at most {high:g}"
    if np.isinf(high):
        return f"{name} at least {low:g}"
    return f"{name} {low:g} to {high:g}"


def at_most(limit: float) -> tuple[float, float]:
    return -np.inf, limit


def at_least(limit: float) -> tuple[float, float]:
    return limit, np.inf


def share(hits) -> Number:
    """The fraction of true entries, with its binomial standard error."""
    hits = np.asarray(hits)
    p = float(hits.mean())
    return Number(p, float(np.sqrt(max(p * (1 - p), 0.25 / hits.size) / hits.size)))


def average(values) -> Number:
    """The mean, with its standard error."""
    values = np.asarray(values, dtype=float)
    return Number(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def source_of(recorded: dict[str, Any]) -> str:
    """The commit and the machine that a file of benchmarks/results names."""
    if "commit" not in recorded:
        return "recorded; the file names neither commit nor machine"
    return f"recorded: commit {recorded['commit']}, {recorded['cores']} CPU cores"


class Table(NamedTuple):
    """A table of the page that is no claim."""

    head: tuple[str, ...]
    lines: list[tuple[str, ...]]


class Section(NamedTuple):
    """One section of the page. `figures` are drawn when they are saved; keys are parts of their file names."""

    name: str
    title: str
    text: str
    rows: list[Row]
    tables: list[Table] = []  # noqa: RUF012  a NamedTuple's default, never changed
    figures: dict[str, tuple[Callable, str]] = {}  # noqa: RUF012  (function that draws it, caption)


class Kept(NamedTuple):
    """A section of the page as an earlier run wrote it: its Markdown, and the rows that the summary counts."""

    name: str
    block: str
    rows: list[Row]
    figures: list[Path] = []  # noqa: RUF012  a NamedTuple's default, never changed
