"""Measured masses in a wrong unit stand out beside the published relations of their observable."""

import numpy as np
import pytest

from massmap_jax.run.beside_published import far_from_published

Z = np.full(20, 0.1)
# Pratt et al. 2009 as MCXC has it: E^(-7/3) L / 1e44 = 10^0.274 (M / 3e14)^1.64.
MASS = np.geomspace(1e14, 8e14, 20)
E = np.sqrt(0.3 * 1.1**3 + 0.7)
LUM = E ** (7 / 3) * 10**0.274 * (MASS / 3e14) ** 1.64


@pytest.mark.parametrize(
    ("factor", "unit", "scale", "words"),
    [
        (1.0, "1e44 erg/s", 1.0, ""),
        (0.7, "1e44 erg/s", 1.0, ""),
        (4.0, "1e44 erg/s", 1.0, ""),
        (0.1, "1e44 erg/s", 1.0, "times lighter than"),
        (10.0, "1e44 erg/s", 1.0, "times heavier than"),
        (0.1, "erg/s", 1e44, "times lighter than"),
        (0.1, "W", 1e37, "times lighter than"),
        (0.1, "", 1.0, ""),
        (0.1, "keV", 1.0, ""),
        (0.1, "1e44 erg/s", 1e-6, ""),
    ],
)
def test_a_unit_that_is_wrong_is_told(factor, unit, scale, words):
    """In any unit of a luminosity; nothing where no relation is of that observable, or covers such luminosities."""
    found = far_from_published(np.log(LUM * scale), unit, Z, np.log(MASS * factor))
    assert found is None if not words else words in found.told and not found.certain, found


@pytest.mark.parametrize(
    ("column", "factor", "certain"),
    [
        ("L500", 0.1, True),
        ("LX", 0.1, True),
        ("log_Lx_500", 0.1, True),
        ("L500", 0.17, False),
        ("Lbol", 0.1, False),
        ("L_Halpha", 0.1, False),
        ("obs", 0.1, False),
    ],
)
def test_a_unit_is_certainly_wrong_where_the_name_says_what_the_observable_is(column, factor, certain):
    found = far_from_published(np.log(LUM), "1e44 erg/s", Z, np.log(MASS * factor), column)
    assert found is not None and found.certain is certain


@pytest.mark.parametrize(("certain", "findings"), [(True, 1), (False, 0), (None, 0)])
def test_only_what_is_certain_stops_a_run(certain, findings):
    from massmap_jax.run.beside_published import Far
    from massmap_jax.run.job import Calibrated, _units_of

    far = None if certain is None else Far("the measured masses are 10 times lighter", certain)
    found = _units_of(Calibrated(None, None, far))  # type: ignore[arg-type]
    assert len(found) == findings and all("10 times lighter" in one.what and one.causes for one in found)
    assert _units_of(None) == []
