"""Public docstrings are NumPy style proper: tools read every parameter, type, return value and error from them.

numpydoc's own validation runs on every name that has a page in docs/api, methods included. Beside it: a type is a type
and not prose, arrays say their axes, masses, angles, widths and luminosities their unit, and errors are listed.
"""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

import massmap_jax
from massmap_jax.errors import MassmapError

numpydoc = pytest.importorskip("numpydoc", reason="numpydoc is not installed (pip install '.[ci]')")
from numpydoc.docscrape import ClassDoc, FunctionDoc  # noqa: E402
from numpydoc.validate import validate  # noqa: E402

PAGES = Path(__file__).resolve().parent.parent / "docs" / "api"
EXPORTS = {name for name in massmap_jax.__all__ if name != "__version__"}
NAMES = [
    name
    for page in sorted(PAGES.glob("*.rst"))
    for name in re.findall(r"^\.\. auto(?:function|class):: massmap_jax\.([\w.]+)$", page.read_text(), re.MULTILINE)
]
# numpydoc's codes: a docstring is there (GL08), sections known and in order (GL06, GL07), a one-line summary that begins
# with a capital, ends with a full stop and is imperative (SS), parameters complete, in order, with type and description
# (PR), and what is returned (RT).
CODES = {"GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS05", "SS06"}
CODES |= {"PR01", "PR02", "PR03", "PR04", "PR06", "PR07", "PR10", "RT01", "RT03", "YD01"}
# A type as numpydoc expects one: a name, a jaxtyping shape, a set of choices; alternatives after "or" and ",".
TYPE = re.compile(
    r"""(?:(?:\w+\ of\ )*(?:[A-Za-z_][\w.]*(?:\[[^\]]*(?:\[[^\]]*\])?[^\]]*\])?|\{[^}]*\}|\([^)]*\)|"[^"]*"))"""
    r"""(?:(?:,|\ or|,\ or|\ of|\ to|,\ default|\ ->)\ ?"""
    r"""(?:[A-Za-z_][\w.]*(?:\[[^\]]*(?:\[[^\]]*\])?[^\]]*\])?|\{[^}]*\}|\([^)]*\)|"[^"]*"|-?[\d.e+]+))*""",
    re.VERBOSE,
)
# What a type says of a shape: Float[Array, "halo node"], or the axes in brackets, array_like, (halo,).
SHAPE = re.compile(r"""\[[\w.]+,\ *["'][^"']*["']\]|\((?:\*?[\w+. -]+,(?:\ ?\*?[\w+. -]+,?)*|\.\.\.)\)""", re.VERBOSE)
ARRAY = re.compile(r"array|Array|Float\[|Int\[|Bool\[")
# The unit of what has such a name; one that holds its unit (`pixel_arcmin`, `sigma_dex`) needs no other.
UNITS = {
    r"(ln_|log10_|true_|mean_|total_|slice_|lowest_)?mass(_nodes|_min|_max)?": r"Msun",
    r"ra|dec|(ra|dec)_centre|radius|side": r"deg|arcmin|hour|Mpc|radii",
    r"width|centre": r"deg|arcmin|ln M",
    r"luminosity|lum|ln_lum\w*|flux": r"unit|any|ln",
}


def thing_of(name):
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(f"massmap_jax.{module}"), own)


def members_of(name):
    """(dotted name, function or property) of a class's public members; nothing for a function."""
    thing = thing_of(name)
    if not inspect.isclass(thing):
        return
    for attribute, value in vars(thing).items():
        method = isinstance(value, classmethod | staticmethod | property)
        method = method or (callable(value) and inspect.isfunction(inspect.unwrap(value)))
        if attribute.startswith("_") or not method:
            continue
        yield f"{name}.{attribute}", value


def function_of(value):
    """The plain function behind a classmethod, staticmethod, property or wrapper."""
    value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    value = value.fget if isinstance(value, property) else value
    return inspect.unwrap(value)


def faults(dotted: str, codes=frozenset(CODES)) -> list[str]:
    """What numpydoc finds wrong with the docstring of a dotted name."""
    found = validate(f"massmap_jax.{dotted}")
    return [f"{dotted}: {code} {text}" for code, text in found["errors"] if code in codes]


def entries(dotted: str, document, sections) -> list[str]:
    """What is wrong with the entries of some sections: types that are prose, arrays without axes, missing units."""
    wrong = []
    for section in sections:
        for entry in document[section]:
            names = [name.strip("* ") for name in entry.name.split(",")] if entry.name else [""]
            kind, text = entry.type or entry.name, " ".join(entry.desc)
            if not TYPE.fullmatch(kind.replace(", optional", "").strip()):
                wrong.append(f"{dotted}: {entry.name} has the type {kind!r}, which reads as prose")
            if ARRAY.search(kind) and not SHAPE.search(kind) and kind.replace(", optional", "") != "jax.Array":
                wrong.append(f"{dotted}: {entry.name} is an array and its type {kind!r} does not say its axes")
            wrong += without_unit(dotted, names if entry.type else [], kind, text)
    return wrong


def without_unit(dotted, names, kind, text) -> list[str]:
    return [
        f"{dotted}: unit of {name}"
        for name in names
        for pattern, unit in UNITS.items()
        if re.fullmatch(pattern, name) and not kind.startswith(("str", "bool", "{")) and not re.search(unit, text)
    ]


def silent_about_errors(dotted, function) -> list[str]:
    """The function where it raises MassmapError itself and has no Raises section that says so."""
    raises = "raise MassmapError" in inspect.getsource(function)
    listed = raises and any("MassmapError" in (entry.type + entry.name) for entry in FunctionDoc(function)["Raises"])
    return [f"{dotted}: no Raises section"] if raises and not listed else []


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_numpy_style(name):
    thing = thing_of(name)
    if inspect.isclass(thing):
        fields = [field for field in vars(thing).get("__annotations__", {}) if not field.startswith("_")]
        document = ClassDoc(thing, config={"show_class_members": False})
        listed = {n.strip() for part in ("Parameters", "Attributes") for e in document[part] for n in e.name.split(",")}
        wrong = [f"{name}: {field} is not documented" for field in fields if field not in listed]
        # Fields may stand under Attributes: the list above is the check of them.
        wrong += faults(name, CODES - {"PR01", "PR02", "PR03"})
        wrong += entries(name, document, ("Parameters", "Attributes"))
    else:
        wrong = faults(name) + entries(name, FunctionDoc(inspect.unwrap(thing)), ("Parameters", "Returns", "Yields"))
        wrong += silent_about_errors(name, inspect.unwrap(thing))
    for dotted, value in members_of(name):
        function = function_of(value)
        document = FunctionDoc(function)
        # A property is read like an attribute: its summary is a noun, and says what it returns.
        wrong += faults(dotted, CODES - {"RT01", "SS05"} if isinstance(value, property) else CODES)
        wrong += entries(dotted, document, ("Parameters", "Returns", "Yields"))
        wrong += silent_about_errors(dotted, function)
    assert not wrong, "\n".join(wrong)


def test_bad_docstrings_are_noticed():
    """The twin: each fault that the test looks for, in a docstring that has it."""

    def prose(catalogue, ra):
        """Do it.

        Parameters
        ----------
        catalogue : one row per object, with positions.
            Of what.
        ra : array_like
            The position.
        """
        raise MassmapError

    found = entries("f", FunctionDoc(prose), ("Parameters",))
    assert [line.partition(" ")[2].split()[0] for line in found] == ["catalogue", "ra", "unit"]
    assert silent_about_errors("f", prose) == ["f: no Raises section"]
    for kind in (
        "float",
        "int or None",
        'Float[Array, "halo node"]',
        '{"a", "b"}',
        "dict of str to float",
        "tuple of (float, float)",
    ):
        assert TYPE.fullmatch(kind), kind
    for kind in ("one row per object.", "of these; or those", "(halo,) where they are"):
        assert not TYPE.fullmatch(kind), kind
    assert Float[np.ndarray, "halo"] is not None


def test_every_name_has_a_page():
    assert EXPORTS - {name.rpartition(".")[2] for name in NAMES} == set()
