"""Masses outside the range of a published relation: flagged, or refused where the unit explains them."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.relation.presets import find_preset
from massmap_jax.run.clock import Clock
from massmap_jax.run.job import compute
from massmap_jax.run.options import JobOptions, PriorOptions, with_definition_of_relation
from massmap_jax.run.under_published import (
    at_other_redshifts,
    flag_outside_range,
    in_unit_of,
    in_unit_of_relation,
)


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


def xray(luminosity, unit=""):
    """A catalogue of X-ray luminosities at z = 0.1, and what `in_unit_of_relation` makes of it."""
    number = len(luminosity)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=luminosity, redshift=np.full(number, 0.1), sigma_ln_luminosity=0.1, lum_unit=unit
    )
    options = JobOptions(relation="lx_mcxc11", relation_scatter="0.4:0.05")
    notes: list[str] = []
    return in_unit_of_relation(options, catalogue, SimpleNamespace(lum_unit="1e44 erg/s"), notes)[1], notes


# L500 of 1.5e14 Msun at z = 0.1 [1e44 erg/s], by Pratt et al. (2009): 10^0.274 0.5^1.64 E(z)^(7/3).
MIDDLE = 10**0.274 * 0.5**1.64 * (0.3 * 1.1**3 + 0.7) ** (7 / 6)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (10, r"6.1e\+14 Msun in '1e44 erg/s', 1.5e\+14 Msun in '1e43 erg/s'"),  # XXL
        (100, r"1.5e\+14 Msun in '1e42 erg/s'"),  # eRASS1
        (1e44, r"1.5e\+14 Msun in 'erg/s'"),
        (3, r"2.9e\+14 Msun in '1e44 erg/s', 7.2e\+13 Msun in '1e43 erg/s'"),  # groups below the range, in 1e43
        (0.1, r"3.7e\+13 Msun in '1e44 erg/s'"),
    ],
)
def test_the_power_of_ten_of_a_luminosity_is_asked_for(factor, said):
    """Luminosities in 1e43 erg/s without a unit gave masses 4 times too large, with a note alone."""
    values = MIDDLE * factor * np.array([0.8, 1.0, 1.25])
    with pytest.raises(MassmapError, match=rf"states no unit of the luminosity.*{said}.*lum_unit="):
        xray(values)
    given, _ = xray(values, "erg/s")
    np.testing.assert_allclose(np.exp(given.ln_lum_obs), values / 1e44, rtol=1e-5)


def test_a_luminosity_that_only_the_unit_of_the_relation_explains_is_taken():
    values = MIDDLE * np.array([0.8, 1.0, 1.25])
    given, notes = xray(values)
    assert "taken as the relation's, 1e44 erg/s" in notes[0]
    np.testing.assert_allclose(np.exp(given.ln_lum_obs), values, rtol=1e-6)


def test_a_relation_for_other_redshifts_is_told_where_most_objects_are_there():
    """Murata et al. (2018) at z = 0.9 was flagged row by row."""
    preset = find_preset("lambda_murata18")
    for z, expected in (([0.2, 0.3, 0.5, 0.9], False), ([0.2, 0.5, 0.9, 0.9], True), ([0.9, 0.5, 0.9, 0.9], True)):
        assert bool(at_other_redshifts(np.array(z), preset)) == expected
    assert "4 of 4 objects" in at_other_redshifts(np.full(4, 0.9), preset)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=[30.0, 40.0, 50.0], redshift=[0.9, 0.3, 0.8], sigma_ln_luminosity=0.1, lum_unit="richness"
    )
    # It is of 200m masses, which the table that comes with the package has.
    options = JobOptions(relation="lambda_murata18", num_relation_draws=2, make_map=False)
    found = compute(catalogue, options, Clock())
    assert any("2 of 3 objects are at redshifts" in note for note in found.notes) and found.posterior.usable.all()


def test_a_mass_function_that_is_made_has_the_definition_of_a_published_relation():
    notes: list[str] = []
    made = with_definition_of_relation(JobOptions(PriorOptions("hmf"), relation="lx_mcxc11"), notes)
    assert made.prior.mass_definition == "500c" and "500c, that of the relation lx_mcxc11" in notes[0]
    for given in (
        JobOptions(PriorOptions("hmf", mass_definition="200m"), relation="lx_mcxc11"),
        JobOptions(relation="lx_mcxc11"),
        JobOptions(PriorOptions("hmf"), relation="identity"),
    ):
        assert with_definition_of_relation(given, notes) == given
