"""Run the sections and write the page; see the docstring of the package."""

import argparse
import importlib
import os
import sys
import time
import warnings
from pathlib import Path

from provenance import REPOSITORY, processor, provenance

from validate import page

SECTIONS = ("exactness", "misspecification", "public_mocks", "head_to_head", "recorded")
KEPT = Path(__file__).with_name("kept.md")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="validate", description="Write the validation page from scratch.")
    parser.add_argument("--quick", action="store_true", help="a dry run of about a minute; asks for --output")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas; asks for --output")
    parser.add_argument("--output", type=Path, help="a folder for the page and its files, instead of the repository")
    parser.add_argument("--join", nargs="+", type=Path, metavar="FOLDER", help="put what --only wrote into the page")
    given = parser.parse_args(arguments)
    if given.join:
        print(joined(given.join, given.output or REPOSITORY))
        return 0
    chosen = given.only.split(",")
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"no section is called {', '.join(unknown)}: give some of {', '.join(SECTIONS)}")
    if given.output is None and (given.quick or len(chosen) < len(SECTIONS)):
        parser.error("a dry run or a part would replace the full page in the repository: give --output FOLDER")
    warnings.filterwarnings("ignore", category=UserWarning)  # notes of deliberately wrong fits
    made_by = {**provenance(), "processor": processor(), "quick": given.quick, "load": os.getloadavg()[0]}
    sections, seconds = [], {}
    for name in chosen:
        begin = time.perf_counter()
        sections.append(importlib.import_module(f"validate.{name}").run(given.quick))
        seconds[name] = time.perf_counter() - begin
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        for row in sections[-1].rows:
            print(f"  {row.verdict.replace('*', ''):10} {row.claim}: {row.number_text()}", flush=True)
    runs = dict.fromkeys(chosen, made_by)
    print(page.write(sections, seconds, runs, KEPT.read_text(), given.output or REPOSITORY))
    return 0


def joined(folders: list[Path], output: Path) -> Path:
    """The page of the repository with the sections that are in these folders in the place of its own."""
    sections, seconds, runs = page.read(REPOSITORY)
    for folder in folders:
        newer = page.read(folder)
        for old, new in zip((sections, seconds, runs), newer, strict=True):
            old |= new
    return page.write([sections[name] for name in SECTIONS], seconds, runs, KEPT.read_text(), output)


if __name__ == "__main__":
    sys.exit(main())
