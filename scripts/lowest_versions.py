"""Print the lowest versions that pyproject.toml declares, as constraints for pip: the core's and those of an extra.

    python scripts/lowest_versions.py test > lowest.txt
    pip install --constraint lowest.txt '.[test]'

Fails on a requirement without a lower bound, whose lowest version would be anything.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w,-]+)\])?(?:>=([\w.]+))?")


def lowest(project: dict, *extras: str) -> dict[str, str]:
    """Name and lowest version of what the core and the extras require, those that they take in included."""
    found = {}
    for requirement in [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise SystemExit(f"{requirement!r} has another form than name>=version")
        name, inner, version = match.groups()
        if name == project["name"]:
            found |= lowest(project, *inner.split(","))
        elif version is None:
            raise SystemExit(f"{requirement!r} has no lower bound")
        else:
            found[name] = version
    return found


def main():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    print("".join(f"{name}=={version}\n" for name, version in lowest(project, *sys.argv[1:]).items()), end="")


if __name__ == "__main__":
    main()
