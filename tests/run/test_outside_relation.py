"""Masses outside the range of a published relation: flagged, or refused where the unit explains them."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from massmap_jax.catalogue.flags import Flag
from massmap_jax.errors import MassmapError
from massmap_jax.relation.presets import find_preset
from massmap_jax.run.under_published import flag_outside_range, in_unit_of


@dataclass
class Masses:
    """What `flag_outside_range` looks at."""

    mean: np.ndarray
    catalogue: SimpleNamespace
    usable: np.ndarray
    flag: np.ndarray


def masses(values, unit):
    """Made-up masses [Msun] of a catalogue that states `unit`."""
    number = len(values)
    catalogue = SimpleNamespace(redshift=np.full(number, 0.2), lum_unit=unit)
    return Masses(np.log(values), catalogue, np.ones(number, dtype=bool), np.zeros(number, dtype=np.int32))


# Three of four are lighter than 1e14 Msun, none by a factor of 3: as Y in arcmin2, read as Mpc2 / 1e4, has it.
LIGHT = np.array([6e13, 7e13, 8e13, 3e14])


def test_a_unit_that_was_assumed_has_to_fit():
    preset = find_preset("ysz_planck15")
    with pytest.raises(MassmapError, match=r"3 of 4.*no unit of the luminosity is stated.*lum_unit='1e-4 Mpc2'"):
        flag_outside_range(masses(LIGHT, ""), preset, [])
    # Half of them may lie outside, and a unit that is stated is believed unless they are far off.
    half = np.array([6e13, 7e13, 2e14, 3e14])
    both = np.array([6e13, 7e13, 1e14 * 1.01, 2e15])  # a wrong unit moves all to one side
    flag_outside_range(masses(both, ""), preset, [])
    for given in (masses(half, ""), masses(LIGHT, "1e-4 Mpc2")):
        notes: list[str] = []
        light = given.mean < np.log(1e14)
        np.testing.assert_array_equal(
            flag_outside_range(given, preset, notes).flag, np.where(light, Flag.OUTSIDE_RELATION, 0)
        )
        assert len(notes) == 1 and f"{light.sum()} of 4 objects" in notes[0]
    with pytest.raises(MassmapError, match=r"far outside.*check the unit"):
        flag_outside_range(masses(LIGHT / 3, "1e-4 Mpc2"), preset, [])


def test_a_richness_has_one_unit():
    notes: list[str] = []
    flag_outside_range(masses(LIGHT[:3], ""), find_preset("lambda_murata18"), notes)
    assert notes


@pytest.mark.parametrize("preset", ["mgas_akino22", "mstar_akino22", "ysz_planck15"])
def test_a_unit_is_asked_for_where_papers_differ_in_its_power_of_ten(preset):
    """Gas masses in 1e13 Msun, read as 1e12, gave halos 0.75 dex too light, most of them within the relation's range."""
    wanted = find_preset(preset).lum_unit
    with pytest.raises(MassmapError, match=rf"states no unit.*lum_unit= \('{wanted}' if it is that\)"):
        in_unit_of(SimpleNamespace(lum_unit=""), SimpleNamespace(lum_unit=wanted), [])


@pytest.mark.parametrize("preset", ["lx_mcxc11", "lambda_murata18", "smhm_moster13", "y0_act_a10"])
def test_a_unit_that_all_papers_have_is_taken(preset):
    notes: list[str] = []
    wanted = find_preset(preset).lum_unit
    in_unit_of(SimpleNamespace(lum_unit=""), SimpleNamespace(lum_unit=wanted), notes)
    assert bool(notes) == bool(wanted)
