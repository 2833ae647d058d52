"""What the package exports is documented: each function and method names its parameters, each has a page."""

import inspect
import re
from pathlib import Path

import pytest

import massmap_jax

PAGES = Path(__file__).resolve().parent.parent / "docs" / "api"
NAMES = [name for name in massmap_jax.__all__ if name != "__version__"]


def functions_of(name):
    """(dotted name, function) of a function, or of a class's public methods and properties."""
    thing = getattr(massmap_jax, name)
    if not inspect.isclass(thing):
        yield name, thing
        return
    for attribute, value in vars(thing).items():
        if attribute.startswith("_"):
            continue
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        value = value.fget if isinstance(value, property) else value
        if inspect.isfunction(value := inspect.unwrap(value) if callable(value) else value):
            yield f"{name}.{attribute}", value


def undocumented(dotted, function) -> list[str]:
    """Parameters that the docstring does not name; the function itself where it has none."""
    text = inspect.getdoc(function)
    if not text:
        return [dotted]
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return [f"{dotted}: {name}" for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_named(name):
    assert inspect.getdoc(getattr(massmap_jax, name)), name
    assert [line for dotted, function in functions_of(name) for line in undocumented(dotted, function)] == []


def test_what_is_not_named_is_noticed():
    def function(shown, hidden):
        """Of what is shown."""

    assert undocumented("f", function) == ["f: hidden"]
    assert undocumented("f", lambda x: x) == ["f"]


def test_every_name_has_a_page():
    pages = "\n".join(path.read_text() for path in PAGES.glob("*.rst"))
    listed = set(re.findall(r"^\.\. auto(?:function|class):: massmap_jax\.[\w.]*?(\w+)$", pages, re.MULTILINE))
    assert set(NAMES) - listed == set()
