"""The examples of the docstrings run, and the names that a user meets first have one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import massmap_jax

FIRST = {
    "Circle",
    "Flag",
    "FluxLimit",
    "GaussianTerm",
    "HaloCatalogue",
    "HealpixGrid",
    "MapForm",
    "MassLuminosityRelation",
    "MassMap",
    "MassPosterior",
    "MassPrior",
    "NoSelection",
    "PixelGrid",
    "PosteriorSurface",
    "Relation",
    "RelationPosterior",
    "RelationPrior",
    "TabulatedSelection",
    "TabulatedTerm",
    "calibration_check",
    "convergence_map",
    "field_model",
    "fit_relation",
    "halo_mass_model",
    "mass_in_circle",
    "mass_map",
    "mass_posterior",
    "prior_check",
    "read_catalogue",
    "read_map",
    "read_mass_likelihoods",
    "region_mass",
    "relation_model",
    "sample_halo_masses",
    "simulate_field",
    "smoothed",
    "write_map",
    "write_table",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples():
    """Every docstring of the package with an example, by module, so that a failure names its place."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(massmap_jax.__path__, "massmap_jax."):
        if found.ispkg:
            continue
        module = importlib.import_module(found.name)
        for test in finder.find(module, found.name):
            if test.examples:
                yield test


TESTS = list(examples())


@pytest.mark.parametrize("test", TESTS, ids=[test.name.removeprefix("massmap_jax.") for test in TESTS])
def test_example_runs(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    told = []
    runner.run(test, out=told.append, clear_globs=False)
    assert runner.failures == 0, "".join(told)


def test_names_met_first_have_an_example():
    """In the docstring of the class, or of one of its methods."""
    shown = {test.name for test in TESTS}
    lacking = []
    for name in sorted(FIRST):
        thing = inspect.unwrap(getattr(massmap_jax, name))
        where = f"{thing.__module__}.{thing.__qualname__}"
        if not any(test == where or test.startswith(f"{where}.") for test in shown):
            lacking.append(name)
    assert not lacking, f"no example in the docstrings of {', '.join(lacking)}"
