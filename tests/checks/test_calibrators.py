"""calibrators_check: silent where the model is right, however the calibrators were chosen; mistakes raise the alarm.

How often it is wrong over fresh keys is in tests/statistical/FALSE_ALARMS.md.
"""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from legible import check_legible
from scipy.special import ndtr
from scipy.stats import kstest
from statistical.two_keys import LEVEL, check_with_two_keys

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.calibrators import KINDS, calibrators_check, predicted_masses
from massmap_jax.checks.prior_check import prior_check
from massmap_jax.checks.shape import FEATURES
from massmap_jax.errors import MassmapError
from massmap_jax.figures.calibration import calibration_figure
from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws
from massmap_jax.relation.calibrated import CalibratedRelation
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.selected_on import SelectedOn
from massmap_jax.relation.several import MultiObservableRelation
from massmap_jax.simulate import MassMeasurements, simulate_field

LAW = {"alpha1": 1.0, "alpha2": 0.8, "alpha3": 1e11, "alpha4": 1.0}
# The scatter is known: a free one would take up most mistakes of the measured masses.
BELIEFS = "alpha1=1:3,alpha2=0.8:0.5,alpha4=1,scatter=0.3,alpha3=1e11"
PRIOR, RELATION = MassPrior.default(), MassLuminosityRelation.create(**LAW, scatter=0.3)
NUMBER, CALIBRATORS, SIGMA_MASS = 2000, 200, 0.3


def simulated(key, errors=1.0, slope=1.0):
    """Catalogue and masses of its brightest objects: errors `errors` times what is stated, ln M_obs ~ slope ln M."""
    field = simulate_field(jax.random.key(key), NUMBER, z_max=1.0, prior=PRIOR, relation=RELATION)
    brightest = np.argsort(-field.catalogue.ln_lum_obs)[:CALIBRATORS]
    ln_mass, mass = field.catalogue.truth_ln_mass[brightest], np.full(NUMBER, np.nan)
    noise = SIGMA_MASS * np.random.default_rng((23, key)).normal(size=CALIBRATORS)
    mass[brightest] = np.exp(ln_mass.mean() + slope * (ln_mass - ln_mass.mean()) + noise)
    masses = CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=SIGMA_MASS / errors, chosen_by="luminosity")
    return field.catalogue, masses


def checked(key, **mistake):
    """The check of a fit to a simulated field, with the fit, the catalogue and the measured masses."""
    catalogue, masses = simulated(key, **mistake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_relation(
            catalogue, PRIOR, BELIEFS, calibration=masses, population=Population.fixed(), num_draws=400,
            key=jax.random.key(key),
        )  # fmt: skip
    return calibrators_check(fit, catalogue, PRIOR, masses), fit, catalogue, masses


def p_of_brightest(key, found=None, **mistake):
    return checked(key, **mistake)[0].p_value


@pytest.fixture(scope="module")
def brightest():
    return checked(0)


def test_a_choice_by_luminosity_is_no_false_alarm(brightest):
    """The p values of luminosities and of masses alone, which are left out, would be below 1e-5."""
    check_with_two_keys(lambda key: p_of_brightest(key) if key else brightest[0].p_value)


def test_a_wrong_slope_of_the_masses_is_found():
    assert p_of_brightest(0, slope=0.5) < LEVEL


def test_what_was_left_out_is_said(brightest):
    check, fit, catalogue, masses = brightest
    assert check.kinds == KINDS[:1] and check.pit.shape == (1, CALIBRATORS) and check.p_place == check.p_values[0]
    pit, ln_density, _ = predicted_masses(fit, catalogue, PRIOR, masses, check.rows)
    np.testing.assert_array_equal(check.pit[0], pit[:, 0])
    np.testing.assert_array_equal(check.log_density, ln_density)
    # The population predicts fainter and less massive objects than the brightest: this is no misfit.
    assert pit[:, 1].mean() > 0.9 and pit[:, 2].mean() > 0.7
    first, second = check.summary().splitlines()[:2]
    assert "predicts the 200 measured masses at their luminosities" in first
    assert "only masses at given luminosity were checked" in second and "chosen by their luminosity" in second
    assert len(check.figure().axes) == 1
    for figure in (check.figure(), calibration_figure(fit, catalogue, PRIOR, masses)):
        check_legible(figure)


def test_understated_errors_are_seen_in_the_spread():
    """Three times the errors that are stated: luminosities tell the scatter, so the spread is wider than fitted.

    Its score is 6 or 7, its place has p values of 1e-3 to 0.01.
    """
    check = checked(1, errors=3.0)[0]
    spread = dict(zip(check.features, check.shape_scores, strict=True))["spread"]
    assert not check.fits and check.p_shape < 1e-5 < check.p_place and spread > 4
    assert "a spread that is larger than fitted" in check.shape_text and check.shape_text in check.summary()
    assert "the fit predicts, but for their scatter, the 200 measured masses" in check.summary()
    check_legible(check.figure())


def test_the_right_scatter_has_no_shape(brightest):
    check = brightest[0]
    assert check.features == FEATURES and check.p_shape > LEVEL and check.shape_text == "" and check.in_place
    assert check.p_value == pytest.approx(min(1.0, 2 * min(check.p_place, check.p_shape)))


def test_a_limit_of_the_catalogue_counts_as_a_choice(brightest):
    _, fit, catalogue, masses = brightest
    fit = replace(fit, chosen_by="random", selection="luminosity limit 2")
    check = calibrators_check(fit, catalogue, PRIOR, replace(masses, chosen_by="random"))
    assert check.kinds == KINDS[:1] and "the catalogue was selected (luminosity limit 2), so" in check.left_out


def test_random_calibrators_are_checked_in_full(brightest):
    _, fit, catalogue, masses = brightest
    check = calibrators_check(replace(fit, chosen_by="random"), catalogue, PRIOR, replace(masses, chosen_by="random"))
    # That they were drawn at random is not true of these, and is seen.
    assert check.kinds == KINDS and not check.left_out and check.p_values[1] < 1e-9
    assert "and their luminosities" in check.summary() and len(check.figure().axes) == 3
    check_legible(check.figure())


def test_many_that_cannot_be_left_out_are_kept_in(brightest, monkeypatch):
    monkeypatch.setattr("massmap_jax.checks.calibrators.MAX_K", -10.0)
    _, fit, catalogue, masses = brightest
    check = calibrators_check(fit, catalogue, PRIOR, masses)
    kept_in = predicted_masses(fit, catalogue, PRIOR, masses, check.rows, fitted="nothing")
    np.testing.assert_array_equal(check.pit[0], kept_in[0][:, 0])
    np.testing.assert_array_equal(check.log_density, kept_in[1])
    assert "200 objects weigh so much" in check.summary() and "predicted with themselves in the fit" in check.summary()


def test_another_choice_than_that_of_the_fit_is_refused(brightest):
    _, fit, catalogue, masses = brightest
    with pytest.raises(MassmapError, match="chosen by 'luminosity', and these were chosen by 'random'"):
        calibrators_check(fit, catalogue, PRIOR, replace(masses, chosen_by="random"))


def test_one_mass_far_below_the_rest_is_named(brightest):
    """The distribution of the PITs hardly sees one wrong mass of many; an ordinary sample has none that is far."""
    check, fit, catalogue, masses = brightest
    assert check.far.size == 0 and check.far_text == "" and "farther" not in check.summary()
    row = int(check.rows[7])
    wrong = replace(masses, ln_mass=np.where(np.arange(NUMBER) == row, masses.ln_mass - np.log(100), masses.ln_mass))
    far = calibrators_check(fit, catalogue, PRIOR, wrong)
    assert far.fits and far.far.tolist() == [row]
    assert "1 measured mass is farther from what the other objects predict" in far.summary()
    assert f"that of row {row}, far below" in far.far_text


def test_a_selection_on_another_observable_cancels():
    """At the truth the PITs of the mass given all that was measured are uniform, and given the luminosity alone not."""
    richness = MassLuminosityRelation(alpha1=3.0, alpha2=1.0, alpha3=1e11, scatter=0.5)
    law = {"others": {"richness": richness}, "scatter_correlation": [[1, -0.5], [-0.5, 1]]}
    relation = MultiObservableRelation(**LAW, scatter=0.3, **law)
    field = simulate_field(
        jax.random.key(5), 60_000, z_max=1.0, prior=PRIOR, relation=relation, sigma_observables={"richness": 0.1},
        measured=MassMeasurements(4000, sigma_ln_mass=0.2, scatter=0.1, scatter_correlation=0.4),
        selected_on=SelectedOn("richness", 20.0),
    )  # fmt: skip
    measured = {"bias": np.zeros(1), "mass_scatter": np.array([0.1]), "correlation": np.array([0.4])}
    population = jax.vmap(lambda _: PopulationDraws.of(Population.fixed(), {}, 0.5, Lattice.of(PRIOR)))(np.zeros(1))
    law = {"others": {"richness": richness.as_batch()}, "scatter_correlation": relation.scatter_correlation}
    plain = relation.columns() | {"log_weight": np.zeros(1)}
    of_both, of_lum = (
        CalibratedRelation(measured=measured, population=population, **jax.tree.map(np.atleast_1d, plain), **more)
        for more in (law, {})
    )
    rows = np.flatnonzero(np.isfinite(field.calibration.ln_mass))
    p_values = []
    for draws in (of_both, of_lum):
        told = SimpleNamespace(draws=draws)
        pit, _, _ = predicted_masses(told, field.catalogue, PRIOR, field.calibration, rows, fitted="nothing")
        p_values.append(kstest(pit[:, 0], "uniform").pvalue)
    assert rows.size > 500 and p_values[0] > 1e-5 and p_values[1] < 1e-9


def test_a_selection_on_the_measured_mass():
    """Of objects above a threshold, all that is predicted is of such objects; without the selection, nothing is right.

    The true parameters, and objects simulated by NumPy; the luminosities with lognormal and with linear noise.
    """
    rng, size, threshold, width, correlation = np.random.default_rng(7), 8000, 32.7, 0.1, 0.5
    ln_mass, errors, z = rng.normal(32.5, 0.5, size), rng.uniform(0.1, 0.3, size), rng.uniform(0.1, 0.8, size)
    together = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size)
    ln_lum = LAW["alpha1"] + LAW["alpha2"] * (ln_mass - np.log(LAW["alpha3"])) + 0.3 * together[:, 0]
    ln_lum_obs = ln_lum + 0.2 * rng.normal(size=size)
    lum_obs = np.exp(ln_lum) + 250 * rng.normal(size=size)
    ln_mass_obs = ln_mass + 0.2 * together[:, 1] + errors * rng.normal(size=size)
    kept = np.flatnonzero(rng.random(size) < ndtr((ln_mass_obs - threshold - 0.5 * np.log1p(z)) / width))
    calibration = CalibrationMasses.from_arrays(mass=np.exp(ln_mass_obs[kept]), sigma_ln_mass=errors[kept])
    plain, linear = (
        HaloCatalogue.from_arrays(redshift=z[kept], **given)
        for given in (
            {"luminosity": np.exp(ln_lum_obs[kept]), "sigma_ln_luminosity": 0.2},
            {"luminosity": lum_obs[kept], "sigma_luminosity": np.full(kept.size, 250.0), "noise_kind": "normal"},
        )
    )
    values = {"centre": np.array([32.5]), "width": np.array([0.5])}
    population = jax.vmap(lambda v: PopulationDraws.of(Population.gaussian(drift=False), v, 0.3, Lattice.of(PRIOR)))(
        values
    )
    measured = {"bias": np.zeros(1), "mass_scatter": np.array([0.2]), "correlation": np.array([correlation])}
    numbers = {"ln_threshold": threshold, "width": width, "evolution": 0.5, "sigma_mass": 0.2}
    selected = {name: np.array([value]) for name, value in numbers.items()}
    columns = MassLuminosityRelation(**LAW | {"alpha4": 0.0}, scatter=0.3).columns() | {"log_weight": np.zeros(1)}

    def p_of(catalogue, selected):
        made = {"measured": measured, "population": population, "selected": selected}
        told = SimpleNamespace(draws=CalibratedRelation(**made, **jax.tree.map(np.atleast_1d, columns)))
        rows = np.arange(kept.size)
        pit, _, _ = predicted_masses(told, catalogue, PRIOR, calibration, rows, fitted="nothing")
        return np.array([kstest(one, "uniform").pvalue for one in pit.T])

    def p_of_luminosities(selected, catalogue=plain, selection=None):
        made = {"measured": measured, "population": population, "selected": selected}
        relation = CalibratedRelation(**made, **jax.tree.map(np.atleast_1d, columns))
        return prior_check(catalogue, PRIOR, relation, selection=selection).p_value

    assert kept.size > 1000
    # The errors of the masses are 0.1 to 0.3, and the check takes the typical one for all.
    assert p_of_luminosities(selected) > 1e-5 and p_of_luminosities({}) < 1e-9
    with pytest.raises(MassmapError, match=r"linear noise .* rows have it, first row 0: use calibrators_check"):
        p_of_luminosities(selected, linear)
    with pytest.raises(MassmapError, match="gives another selection: leave it out"):
        p_of_luminosities(selected, selection=FluxLimit(2.0))
    right, noisy = p_of(plain, selected), p_of(linear, selected)[[0, 2]]
    assert right.min() > 1e-5 and noisy.min() > 1e-5, (right, noisy)
    wrong = np.concatenate([p_of(plain, {}), p_of(linear, {})[[0, 2]]])
    assert wrong.max() < 1e-9, wrong
