"""Linear noise taken as the nearest lognormal: how good it is, which objects and which fits it is for."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.nearest_lognormal import LEAST_RATIO, is_near, nearest_lognormal
from massmap_jax.likelihood.selection import FluxLimit

PRIOR = mm.MassPrior.default()
BELIEFS = "alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14"
SCATTER = 0.3


def catalogue_of(luminosity, error, redshift=None):
    redshift = np.full(np.size(luminosity), 0.2) if redshift is None else redshift
    return mm.HaloCatalogue.from_arrays(
        luminosity=luminosity, redshift=redshift, sigma_luminosity=error, noise_kind="normal"
    )


def fitted_mean_and_scatter(ln_lum, sigma):
    """Mean and scatter of ln L that are most likely with errors in ln L, for objects of one mass."""

    def cost(x):
        variance = np.exp(2 * x[1]) + sigma**2
        return (0.5 * (ln_lum - x[0]) ** 2 / variance + 0.5 * np.log(variance)).mean()

    found = minimize(cost, [0.0, np.log(SCATTER)], method="Nelder-Mead").x
    return found[0], np.exp(found[1])


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
def test_mean_and_scatter_come_out_right(error):
    """And the twin, bars read as errors of ln L, is wrong by far more. 400,000 objects: sd 0.0006 of both."""
    rng = np.random.default_rng(0)
    observed = np.exp(SCATTER * rng.normal(size=400_000)) + error * rng.normal(size=400_000)
    observed = observed[observed > 1.2 * error]
    near = nearest_lognormal(catalogue_of(observed, np.full(observed.size, error)), 1.1)
    mean, scatter = fitted_mean_and_scatter(near.ln_lum_obs, near.sigma_ln_lum)
    assert abs(mean) < 0.0065 and abs(scatter - SCATTER) < 0.0065, (mean, scatter)
    relative = error / observed
    mean, scatter = fitted_mean_and_scatter(np.log(observed), 0.5 * np.log((1 + relative) / (1 - relative)))
    assert mean > 2 * error**2 - 0.002 and scatter < SCATTER


def test_which_objects_are_near():
    """Those that can be used and have the signal to noise; with all of them the catalogue is an ordinary one."""
    catalogue = catalogue_of([3.0, 2.9, 50.0, -0.7, np.nan], np.ones(5))
    assert is_near(catalogue).tolist() == [True, False, True, False, False]
    near = nearest_lognormal(catalogue)
    assert near.noise_codes.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(near.ln_lum_obs[[0, 2]], np.log([3.0, 50.0]) - 1.5 / np.array([3.0, 50.0]) ** 2)
    assert near.ln_lum_obs[1] == catalogue.ln_lum_obs[1]
    every = nearest_lognormal(catalogue.subset(np.array([0, 2, 4])))
    assert every.noise_kind == "lognormal" and every.noise_code is None
    assert nearest_lognormal(every) is every


def universe(key, number, error=0.12):
    """Objects whose luminosities have linear noise, a third of them with a measured mass."""
    rng = np.random.default_rng(key)
    z, ln_mass = rng.uniform(0.1, 0.4, number), rng.normal(33.3, 0.45, number)
    luminosity = np.exp(1.0 + 0.9 * (ln_mass - np.log(3e14)) + SCATTER * rng.normal(size=number))
    bar = np.full(number, error)
    mass = np.where(np.arange(number) % 3 == 0, np.exp(ln_mass + 0.2 * rng.normal(size=number)), np.nan)
    return luminosity + bar * rng.normal(size=number), bar, z, mass, ln_mass


@pytest.fixture(scope="module")
def fit():
    observed, bar, z, mass, _ = universe(1, 180)
    # The calibrators are bright enough; some others are not, and need not be.
    observed[1], observed[4] = 0.2, -0.1
    catalogue = catalogue_of(observed, bar, z)
    # Errors that are correlated with those of the luminosity are for lognormal noise.
    masses = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=0.2, correlation=1e-3)
    with pytest.warns(UserWarning, match="60 objects of the fit was taken as the lognormal noise that is nearest"):
        found = mm.fit_relation(
            catalogue, PRIOR, BELIEFS, calibration=masses, population=mm.Population.gaussian(drift=False)
        )
    return found, catalogue, masses


def test_a_fit_with_measured_masses_takes_linear_noise(fit):
    """The relation is right within 5 of its errors, and the checks of the fit take the catalogue."""
    found, catalogue, masses = fit
    for name, true in (("alpha1", 1.0), ("alpha2", 0.9), ("scatter", SCATTER)):
        assert abs(found.mean[name] - true) < 5 * found.sd[name]
    assert mm.calibrators_check(found, catalogue, PRIOR, masses).p_value > 1e-4
    assert mm.prior_check(catalogue, PRIOR, found.draws.thinned(20)).p_value > 1e-5


@pytest.mark.parametrize("limit", [None, 0.15])
def test_predicted_luminosities_of_a_population_with_linear_noise(fit, limit):
    """Against sums over mass and luminosity, for objects near zero and below it, and above a limit where there is one.

    Such objects take no part in the fit, and their masses are as good as the others'.
    """
    found, catalogue, _ = fit
    # As if they were given: of a fit to a third of the objects as many would be compared.
    draws = found.draws.thinned(2).with_source("given")
    check = mm.prior_check(catalogue, PRIOR, draws, selection=None if limit is None else FluxLimit(limit))
    assert check.impossible == (
        0 if limit is None else (catalogue.is_below_zero() | (catalogue.ln_lum_obs < np.log(limit))).sum()
    )
    ln_mass, ln_lum = np.linspace(28, 37, 700), np.linspace(-9, 6, 2500)
    for row in (1, 4) if limit is None else (1,):
        observed, bar = (0.2, 0.12) if row == 1 else (-0.1, 0.12)
        expected = 0.0
        for number, share in enumerate(draws.shares):
            draw = draws.draw(number)
            v = {p: float(np.asarray(x)) for p, x in draw.population.values.items()}
            p_mass = norm.pdf(ln_mass, v["centre"], v["width"])
            mean = float(draw.alpha1) + float(draw.alpha2) * (ln_mass - np.log(3e14))
            p_lum = norm.pdf(ln_lum, mean[:, None], float(draw.scatter)).T @ p_mass
            chance = norm.cdf((observed - np.exp(ln_lum)) / bar)
            whole = p_lum.sum()
            if limit is not None:
                chance = chance - norm.cdf((limit - np.exp(ln_lum)) / bar)
                whole = p_lum @ norm.sf((limit - np.exp(ln_lum)) / bar)
            expected += share * (p_lum @ chance) / whole
        assert check.pit[row] == pytest.approx(expected, abs=2e-4)


def test_faint_objects_that_are_needed_are_refused():
    observed, bar, z, mass, _ = universe(2, 90)
    masses = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=0.2, correlation=0.3)
    observed[3] = 0.9 * LEAST_RATIO * bar[3]
    with pytest.raises(
        MassmapError, match=r"1 of 30 have less than 5, 1 less than 3, first row 3 \(2\.7\).*calib_correlation="
    ):
        mm.fit_relation(catalogue_of(observed, bar, z), PRIOR, BELIEFS, calibration=masses)
    observed[3], observed[4] = 3.0, 2.5 * bar[4]
    every = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=0.2, correlation=0.3, chosen_by="luminosity")
    with pytest.raises(MassmapError, match=r"1 less than 3, first row 4 \(2\.5\)"):
        mm.fit_relation(catalogue_of(observed, bar, z), PRIOR, BELIEFS, calibration=every)
    observed[:12:3] = 4.0 * bar[:12:3]
    with pytest.raises(MassmapError, match=r"4 of 30 have less than 5, 0 less than 3, first row 0 \(4\)"):
        mm.fit_relation(catalogue_of(observed, bar, z), PRIOR, BELIEFS, calibration=masses)
