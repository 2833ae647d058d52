"""What has a page is documented: functions and methods name their parameters, classes their fields; all exports have one."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import massmap_jax
from massmap_jax.errors import MassmapError

PAGES = Path(__file__).resolve().parent.parent / "docs" / "api"
EXPORTS = {name for name in massmap_jax.__all__ if name != "__version__"}
NAMES = [
    name
    for page in sorted(PAGES.glob("*.rst"))
    for name in re.findall(r"^\.\. auto(?:function|class):: massmap_jax\.([\w.]+)$", page.read_text(), re.MULTILINE)
]


def thing_of(name):
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(f"massmap_jax.{module}"), own)


def functions_of(name):
    """(dotted name, function) of a function, or of a class's public methods and properties."""
    thing = thing_of(name)
    if not inspect.isclass(thing):
        yield name, inspect.unwrap(thing)
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
    return not_named(dotted, names, text)


def silent_about_errors(dotted, function) -> list[str]:
    """The function where it raises MassmapError itself and its docstring does not say so."""
    raises = "raise MassmapError" in inspect.getsource(function)
    return [dotted] if raises and "MassmapError" not in (inspect.getdoc(function) or "") else []


def not_named(dotted, names, text) -> list[str]:
    return [f"{dotted}: {name}" for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_named(name):
    thing = thing_of(name)
    fields = [field for field in vars(thing).get("__annotations__", {}) if not field.startswith("_")]
    text = inspect.getdoc(thing)
    assert text, name
    assert inspect.isfunction(thing) or not_named(name, fields, text) == []
    functions = [(dotted, function) for dotted, function in functions_of(name) if inspect.isfunction(function)]
    assert [line for pair in functions for line in undocumented(*pair)] == []
    assert [line for pair in functions for line in silent_about_errors(*pair)] == []


def test_what_is_not_named_is_noticed():
    def function(shown, hidden):
        """Of what is shown."""

        raise MassmapError

    assert undocumented("f", function) == ["f: hidden"]
    assert silent_about_errors("f", function) == ["f"]
    assert undocumented("f", lambda x: x) == ["f"]


def test_every_name_has_a_page():
    assert EXPORTS - {name.rpartition(".")[2] for name in NAMES} == set()
