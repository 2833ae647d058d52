"""Sentences of the library in the words of the command line: options that exist, and do what the sentence says."""

import pytest

from massmap_jax.cli import OPTIONS, _as_options
from massmap_jax.run.options import JobOptions


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("alpha2 is off by 0.8 of its error: use method='nuts'", "use --fit-method nuts"),
        ("use method='analytic', which integrates each object", "use --method analytic"),
        ("give calib_unit='1e14 Msun'", "--calib-unit '1e14 Msun'"),
        ("pass calib_log='log10'", "pass --calib-log log10"),
    ],
)
def test_advice_names_options(sentence, words):
    """Only a fit is made by NUTS: the program's --method is that of the masses, which `fit` does not have."""
    assert words in _as_options(sentence)
    assert {"fit_method", "method"} <= OPTIONS and JobOptions().fit_method == "laplace"
