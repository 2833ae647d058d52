"""The house: imports point one way, between wings and between files; read from the source, nothing is imported."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "massmap_jax"
# From the foundation up: a wing may import from its own floor's left and from the floors below, never from above.
FLOORS = (
    ("errors",),
    ("argument_kinds", "choices", "memory", "devices", "keys", "steps", "stopping", "html_table"),
    ("halo",),
    ("catalogue",),
    ("labels",),
    ("prior",),
    ("likelihood",),
    ("relation",),
    ("simulate",),
    ("posterior",),
    ("maps", "models"),
    ("figures",),
    ("checks",),
    ("run",),
    ("scale",),
    ("cli", "plot", "lsdb"),
    ("__main__",),
)
FLOOR = {wing: i for i, wings in enumerate(FLOORS) for wing in wings}
# What may be imported before JAX is: a refused option has to stay a half-second answer.
WITHOUT_JAX = ("errors", "memory", "choices", "labels", "run.options", "catalogue.read", "catalogue.write", "cli")


def modules() -> dict[str, Path]:
    """Every module of the package by its name without the package's, the wings' own (docstring only) left out."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = path
    return found


def imports_of(path: Path, known) -> set[tuple[str, bool]]:
    """Modules of the package that a file imports, anywhere in it, and whether for type checkers alone."""
    tree = ast.parse(path.read_text())
    for_types = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types |= set(ast.walk(node))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "massmap_jax":
            base = node.module.removeprefix("massmap_jax").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {(name if name in known else base, node in for_types) for name in names}
        elif isinstance(node, ast.Import):
            found |= {
                (alias.name.removeprefix("massmap_jax").lstrip("."), node in for_types)
                for alias in node.names
                if alias.name.split(".")[0] == "massmap_jax"
            }
    return {(name, types) for name, types in found if name in known}


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: imports_of(path, known) for name, path in known.items()}


def test_every_module_has_a_floor(graph):
    assert {name.split(".")[0] for name in graph} <= FLOOR.keys()


def test_the_reader_of_imports_sees_them_all(graph):
    """The twin: imports inside functions, of modules and for types only are found where they are known to be."""
    assert ("halo.mass_function", False) in graph["prior.mass_prior"]  # inside a function
    assert ("posterior.kernel", False) in graph["posterior.surface"]  # `from wing import module`
    assert any(types for _, types in graph["run.outputs"])
    assert sum(len(found) for found in graph.values()) > 200


def test_imports_point_one_way_between_wings(graph):
    upwards = [
        f"{name} imports {other}"
        for name, found in graph.items()
        for other, _ in found
        if FLOOR[other.split(".")[0]] > FLOOR[name.split(".")[0]]
        or (FLOOR[other.split(".")[0]] == FLOOR[name.split(".")[0]] and other.split(".")[0] != name.split(".")[0])
    ]
    assert not upwards, "\n".join(sorted(upwards))


def test_no_circles_between_files(graph):
    """Imports for type checkers alone never run, and are left out here (not above)."""
    edges = {name: {other for other, types in found if not types} for name, found in graph.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(edges[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(edges):
        visit(name)


def test_wings_hold_a_docstring_only():
    for path in PACKAGE.glob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, f"{path} holds more than a docstring: importing a face would import the wing"
        assert isinstance(body[0].value.value, str)


def test_tests_mirror_the_wings():
    wings = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/__init__.py")}
    assert wings <= folders
