"""calibrators_check: silent where the model is right, however the calibrators were chosen; mistakes raise the alarm.

How often it is wrong over fresh keys is in tests/statistical/FALSE_ALARMS.md.
"""

import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest
from statistical.two_keys import LEVEL, check_with_two_keys

from massmap_jax.checks.calibrators import KINDS, calibrators_check, predicted_masses
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.simulate import simulate_field

LAW = {"alpha1": 1.0, "alpha2": 0.8, "alpha3": 1e11, "alpha4": 1.0}
# The scatter is known: a free one would take up most mistakes of the measured masses.
BELIEFS = "alpha1=1:3,alpha2=0.8:0.5,alpha4=1,scatter=0.3,alpha3=1e11"
PRIOR, RELATION = MassPrior.default(), MassLuminosityRelation.create(**LAW, scatter=0.3)
NUMBER, CALIBRATORS, SIGMA_MASS = 2000, 200, 0.3
LN_LIMIT = 1.2  # about one object in ten lies above it


def simulated(key, chosen_by, limit, errors=1.0, slope=1.0):
    """Catalogue and measured masses, whose errors are `errors` times what is stated, and ln M_obs ~ slope ln M."""
    number = 12 * NUMBER if np.isfinite(limit) else NUMBER
    field = simulate_field(jax.random.key(key), number, z_max=1.0, prior=PRIOR, relation=RELATION)
    kept = np.flatnonzero(field.catalogue.ln_lum_obs >= limit)[:NUMBER]
    ln_mass, ln_lum = field.catalogue.truth_ln_mass[kept], field.catalogue.ln_lum_obs[kept]
    rng = np.random.default_rng((23, key))
    chosen = (np.argsort(-ln_lum) if chosen_by == "luminosity" else rng.permutation(NUMBER))[:CALIBRATORS]
    mass, middle = np.full(NUMBER, np.nan), ln_mass[chosen].mean()
    noise = SIGMA_MASS * rng.normal(size=CALIBRATORS)
    mass[chosen] = np.exp(middle + slope * (ln_mass[chosen] - middle) + noise)
    masses = CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=SIGMA_MASS / errors, chosen_by=chosen_by)
    return field.catalogue.subset(kept), masses


def checked(key, chosen_by="luminosity", limit=-np.inf, **mistake):
    """The check of a fit to a simulated field, with the fit, the catalogue and the measured masses."""
    catalogue, masses = simulated(key, chosen_by, limit, **mistake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_relation(
            catalogue, PRIOR, BELIEFS, calibration=masses, population=Population.fixed(),
            selection=FluxLimit(np.exp(limit)) if np.isfinite(limit) else None, num_draws=400, key=jax.random.key(key),
        )  # fmt: skip
    return calibrators_check(fit, catalogue, PRIOR, masses), fit, catalogue, masses


def p_of_brightest(key, found=None, **mistake):
    return checked(key, **mistake)[0].p_value


def p_above_a_limit(key, found=None, **mistake):
    return checked(key, "random", LN_LIMIT, **mistake)[0].p_value


@pytest.fixture(scope="module")
def brightest():
    return checked(0)


@pytest.mark.parametrize("p_value", [p_of_brightest, p_above_a_limit])
def test_a_choice_by_luminosity_is_no_false_alarm(p_value):
    """The p values of luminosities and of masses alone, which are left out, are below 1e-5 in these fields."""
    check_with_two_keys(p_value)


@pytest.mark.parametrize("mistake", [{"slope": 1.5}, {"slope": 0.5}])
def test_mistakes_of_the_masses_are_found(mistake):
    assert p_of_brightest(0, **mistake) < LEVEL


def test_what_was_left_out_is_said(brightest):
    check, fit, catalogue, masses = brightest
    assert check.kinds == KINDS[:1] and check.pit.shape == (1, CALIBRATORS) and check.p_value == check.p_values[0]
    pit, ln_density, _ = predicted_masses(fit, catalogue, PRIOR, masses, check.rows)
    np.testing.assert_array_equal(check.pit[0], pit[:, 0])
    np.testing.assert_array_equal(check.log_density, ln_density)
    # The population predicts fainter and less massive objects than the brightest: this is no misfit.
    assert pit[:, 1].mean() > 0.9 and pit[:, 2].mean() > 0.7
    first, second = check.summary().splitlines()[:2]
    assert "predicts the 200 measured masses at their luminosities" in first
    assert "only masses at given luminosity were checked" in second and "chosen by their luminosity" in second
    assert len(check.figure().axes) == 1


def test_a_selection_of_the_fit_is_said(brightest):
    """Whatever limits the luminosity, and also where the brightest of what is left were chosen."""
    _, fit, catalogue, masses = brightest
    told = calibrators_check(replace(fit, selection="luminosity limit 2"), catalogue, PRIOR, masses).left_out
    assert "chosen by their luminosity and the catalogue was selected (luminosity limit 2)" in told


def test_random_calibrators_are_checked_in_full(brightest):
    _, fit, catalogue, masses = brightest
    check = calibrators_check(replace(fit, chosen_by="random"), catalogue, PRIOR, replace(masses, chosen_by="random"))
    # That they were drawn at random is not true of these, and is seen.
    assert check.kinds == KINDS and not check.left_out and check.p_values[1] < 1e-9
    assert "and their luminosities" in check.summary() and len(check.figure().axes) == 3


def test_another_choice_than_that_of_the_fit_is_refused(brightest):
    _, fit, catalogue, masses = brightest
    with pytest.raises(MassmapError, match="chosen by 'luminosity', and these were chosen by 'random'"):
        calibrators_check(fit, catalogue, PRIOR, replace(masses, chosen_by="random"))
