"""The lognormal density against integrals over the power spectrum in plain NumPy."""

import jax
import numpy as np
import pytest

from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.halo.lognormal import LightCone, lognormal_density, places_in_density

LN_K = np.linspace(np.log(1e-5), np.log(60.0), 60_000)


@pytest.fixture(scope="module")
def power():
    ln_power = jax.jit(lambda k: CosmologyParameters.of("Planck18").ln_power(k))
    return np.exp(np.asarray(ln_power(np.exp(LN_K)), np.float64))


def correlation(power, distance):
    """xi(r) of a power spectrum [Mpc^3]: the integral of k^3 P sin(kr) / (kr) / (2 pi^2) over ln k, at Mpc apart."""
    k = np.exp(LN_K)
    weight = k**3 * power * np.exp(-((0.1 * k) ** 2)) / (2 * np.pi**2)
    return np.array([np.trapezoid(weight * np.sinc(k * r / np.pi), LN_K) for r in np.atleast_1d(distance)])


def test_power_has_sigma8_and_the_primordial_slope(power):
    x = 8 / 0.6766 * np.exp(LN_K)
    sphere = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    variance = np.trapezoid(np.exp(3 * LN_K) * power * sphere**2 / (2 * np.pi**2), LN_K)
    assert np.sqrt(variance) == pytest.approx(0.8102, rel=1e-3)
    slope = np.diff(np.log(power[:3000:100])) / np.diff(LN_K[:3000:100])
    assert slope[0] == pytest.approx(0.9665, abs=0.01)


def along_x(density, lags):
    return np.array([np.mean(density * np.roll(density, lag, axis=2)) / np.mean(density) ** 2 - 1 for lag in lags])


def test_density_has_the_correlation_function_of_the_power_spectrum(power):
    cone, lags = LightCone((128, 128, 128), (2.0, 2.0, 2.0), 0.0), np.array([3, 5, 8])
    drawn = [lognormal_density(np.random.default_rng(seed), cone) for seed in range(6)]
    assert all(one.min() >= 0 and one.mean() == pytest.approx(1, abs=1e-3) for one in drawn)
    found = np.array([along_x(one, lags) for one in drawn])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    expected = correlation(power, 2.0 * lags)
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * error + 0.03 * expected)
    # Twins: a density without structure, and one of half the bias.
    shuffled = np.random.default_rng(1).permutation(drawn[0].ravel()).reshape(cone.shape)
    assert np.all(np.abs(along_x(shuffled, lags)) < 0.1 * expected)
    half = np.array([along_x(np.sqrt(one), lags) for one in drawn]).mean(axis=0)
    assert np.all(np.abs(half - expected) > 4 * error + 0.03 * expected)


def test_places_are_in_proportion_to_the_density():
    """One plane of cells with a step: an object is nine times as often on the dense side."""
    cone = LightCone((4, 64, 64), (4.0, 1.0, 1.0), 100.0)
    density = np.ones((4, 64, 64), np.float32)
    density[:, :, 32:] = 9.0
    distance = np.full(20_000, 106.0)
    x, y = places_in_density(np.random.default_rng(0), density, cone, distance, 600.0)
    assert np.abs([x, y]).max() <= 300.0
    # Between the last thin and the first dense cell, left of the middle, the density is 5 on average.
    cells = np.radians(300 / 60) * 106
    assert np.mean(x > 0) == pytest.approx(9 * cells / (9 * cells + 5 + cells - 1), abs=0.01)
    assert np.mean(y > 0) == pytest.approx(0.5, abs=0.02)


def test_cells_cover_the_field_with_room_to_spare():
    cone = LightCone.around(40.0, 300.0, 7000.0)
    width = np.radians(40 / 60) * 7000
    assert cone.shape[1] * cone.cell[1] >= 1.2 * width and cone.shape[0] * cone.cell[0] >= 6700
    narrow = LightCone.around(1.0, 300.0, 300.0)
    assert narrow.shape[1] * narrow.cell[1] >= 64 and narrow.cell[1] >= 1
