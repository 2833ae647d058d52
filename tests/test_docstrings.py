"""What has a page is documented: functions and methods name their parameters, classes their fields; all exports have one.

Arrays say their shape, masses, angles, widths and luminosities their unit.
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

PAGES = Path(__file__).resolve().parent.parent / "docs" / "api"
EXPORTS = {name for name in massmap_jax.__all__ if name != "__version__"}
NAMES = [
    name
    for page in sorted(PAGES.glob("*.rst"))
    for name in re.findall(r"^\.\. auto(?:function|class):: massmap_jax\.([\w.]+)$", page.read_text(), re.MULTILINE)
]
# What a docstring says of a shape: axes in brackets, "(halo,)", "(ny, nx)", "(...)"; or in words.
SHAPE = re.compile(
    r"\((?:\*?[\w+. -]+,(?: ?\*?[\w+. -]+,?)*|\.\.\.)\)|scalar|elementwise|broadcast|least, greatest|of (?:its|their|one) shape"
)
# Arguments that take arrays, also where they have no annotation.
ARRAYS = ("ln_mass", "z", "redshift", "ra", "dec", "luminosity", "mass", "density", "centre", "width")
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


def takes_array(annotation, name="") -> bool:
    if annotation in (inspect.Parameter.empty, None):
        return name in ARRAYS
    return any(kind in str(annotation) for kind in ("ndarray", "_array_like", "ArrayLike", "jaxtyping"))


def says_shape(annotation) -> bool:
    """An annotation that names the axes, Float[Array, "halo node"]; "..." says nothing."""
    axes = re.search(r"jaxtyping\.\w+\[[^']*'([^']*)'\]", str(annotation))
    return axes is not None and "..." not in axes[1]


def without_shape(dotted, values, text) -> list[str]:
    """Arrays among (name, annotation) pairs whose shape neither the annotation nor the text says."""
    arrays = [name for name, annotation in values if takes_array(annotation, name) and not says_shape(annotation)]
    return [f"{dotted}: shape of {name}" for name in arrays if not SHAPE.search(entry_of(name, text))]


def without_unit(dotted, names, text) -> list[str]:
    return [
        f"{dotted}: unit of {name}"
        for name in names
        for pattern, unit in UNITS.items()
        if re.fullmatch(pattern, name) and not re.search(unit, entry_of(name, text))
    ]


def entry_of(name, text) -> str:
    """What a docstring says before its list of entries, "a, b : of these. c : of that", and in the entry of a name."""
    head, *entries = re.split(r"^(?=[\w, ]+ : )", text, flags=re.MULTILINE)
    return head + "".join(entry for entry in entries if re.search(rf"\b{name}\b", entry))


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


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_units_are_said(name):
    thing = thing_of(name)
    about = inspect.getdoc(thing)
    fields = {k: a for k, a in vars(thing).get("__annotations__", {}).items() if not k.startswith("_")}
    missing = []
    if inspect.isclass(thing):
        missing += without_shape(name, fields.items(), about) + without_unit(name, fields, about)
    for dotted, function in functions_of(name):
        if not inspect.isfunction(function):
            continue
        text, signature = inspect.getdoc(function), inspect.signature(function)
        values = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        result = signature.return_annotation
        missing += without_shape(dotted, values.items(), text)
        missing += (
            [] if not takes_array(result) or says_shape(result) or SHAPE.search(text) else [f"{dotted}: its shape"]
        )
        missing += without_unit(dotted, [name for name, kind in values.items() if "str" not in str(kind)], text)
    assert missing == []


def test_what_is_not_named_is_noticed():
    def function(shown, hidden):
        """Of what is shown."""

        raise MassmapError

    assert undocumented("f", function) == ["f: hidden"]
    assert silent_about_errors("f", function) == ["f"]
    assert undocumented("f", lambda x: x) == ["f"]


def test_missing_shapes_and_units_are_noticed():
    values = [("ra", inspect.Parameter.empty), ("fwhm", float), ("image", np.ndarray), ("z", Float[np.ndarray, "halo"])]
    assert without_shape("f", values, "Of ra and image.") == ["f: shape of ra", "f: shape of image"]
    text = "Of these.\n\nra : (halo,)\nimage : any"
    assert without_shape("f", values, text) == ["f: shape of image"]
    assert without_shape("f", [("x", Float[np.ndarray, "..."])], "Of x.") == ["f: shape of x"]
    assert without_unit("f", ["ra", "mass", "pixel_arcmin"], text) == ["f: unit of ra", "f: unit of mass"]
    assert without_unit("f", ["ra", "mass"], "Msun.\n\nra : [deg]\nmass : (halo,)") == []


def test_every_name_has_a_page():
    assert EXPORTS - {name.rpartition(".")[2] for name in NAMES} == set()
