"""Observables beside the luminosity: what counts as missing, what is refused, and what a selection of them keeps."""

import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError


def test_bad_entries_are_missing_and_told():
    values = [20.0, np.nan, -99.0, 0.0, -3.0, 25.0, 30.0]
    observables = mm.Observables.from_arrays(
        {"richness": values}, {"richness": [0.1, 0.1, 0.1, 0.1, 0.1, -1.0, np.nan]}
    )
    assert observables.kind[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert np.isfinite(observables.ln_value[:, 0]).tolist() == [True] + [False] * 6
    told = " ".join(observables.notes)
    assert "2 objects is not positive, first row 3" in told and "2 objects has an error that cannot be one" in told
    masked = mm.Observables.from_arrays({"y": np.ma.masked_greater([1.0, 2.0, 9.0], 5)}, {"y": 0.1})
    assert masked.kind[:, 0].tolist() == [1, 1, 0]


def test_rows_and_names_stay_together():
    given = {"a": [1.0, 2.0, 3.0], "b": [4.0, np.nan, 6.0]}
    correlation = np.array([[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]])
    observables = mm.Observables.from_arrays(given, {"a": 0.1, "b": 0.2}, error_correlation=correlation)
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=[1.0, 2.0, 3.0], redshift=[0.1, 0.2, 0.3], sigma_ln_luminosity=0.05
    )
    part = catalogue.with_observables(observables).subset([2, 0])
    np.testing.assert_allclose(np.exp(part.observables.ln_value), [[3, 6], [1, 4]])
    swapped = observables.select(("b", "a"))
    np.testing.assert_array_equal(swapped.error_correlation, [[1, 0.2, 0.1], [0.2, 1, 0.3], [0.1, 0.3, 1]])
    np.testing.assert_array_equal(swapped.ln_value[:, 0], observables.ln_value[:, 1])
    assert catalogue.with_observables(observables).seen_by(()).observables is None


@pytest.mark.parametrize(
    ("values", "sigma", "options", "match"),
    [
        ({}, {}, {}, "no observable"),
        ({"a b": [1.0]}, {"a b": 0.1}, {}, "cannot be used"),
        ({"mass": [1.0]}, {"mass": 0.1}, {}, "cannot be used"),
        ({"a": [1.0]}, {}, {}, "give both"),
        ({"a": [1.0]}, {"a": 0.1, "b": 0.1}, {}, "give both"),
        ({"a": [1.0, 2.0], "b": [1.0]}, {"a": 0.1, "b": 0.1}, {}, "b"),
        ({"a": [np.nan, -1.0]}, {"a": 0.1}, {}, "no usable entry"),
        ({"a": [1.0, 2.0]}, {"a": 20.0}, {}, "no usable entry"),
        ({"a": ["x", "y"]}, {"a": 0.1}, {}, "a"),
        ({"a": [1.0]}, {"a": 0.1}, {"upper_limit": {"b": [True]}}, "no observable b"),
        ({"a": [1.0]}, {"a": 0.1}, {"upper_limit": {"a": [True, False]}}, "limits of a"),
        (
            {"a": [1.0], "b": [1.0]},
            {"a": 0.1, "b": 0.1},
            {"upper_limit": {"a": [True], "b": [True]}},
            "more than one limit",
        ),
        ({"a": [1.0]}, {"a": 0.1}, {"error_correlation": [[1.0, 1.0], [1.0, 1.0]]}, "positive definite"),
        ({"a": [1.0]}, {"a": 0.1}, {"error_correlation": np.eye(3)}, "2 rows"),
        ({f"a{i}": [1.0] for i in range(9)}, dict.fromkeys((f"a{i}" for i in range(9)), 0.1), {}, "at most 8"),
    ],
)
def test_refused(values, sigma, options, match):
    with pytest.raises(MassmapError, match=match):
        mm.Observables.from_arrays(values, sigma, **options)


def test_another_number_of_rows():
    observables = mm.Observables.from_arrays({"a": [1.0, 2.0]}, {"a": 0.1})
    with pytest.raises(MassmapError, match="2 objects, and the catalogue has 1"):
        mm.HaloCatalogue.from_arrays(luminosity=[1.0], redshift=[0.1], sigma_ln_luminosity=0.05).with_observables(
            observables
        )
