"""Catalogues that are more massive than the sky: found where a unit is wrong by a factor of ten, and nowhere else."""

import numpy as np
import pytest
from scipy.stats import poisson

from massmap_jax.halo.most_massive import large_share, too_many


@pytest.fixture(scope="module")
def on_the_sky():
    """The number of halos above a mass, by hmf and astropy."""
    import astropy.units as u
    from astropy.cosmology import Planck18
    from hmf import MassFunction

    def of_redshift(z, log10_mass):
        # hmf has masses in Msun/h and densities in h^3 Mpc^-3.
        h = Planck18.h
        found = MassFunction(
            z=z, Mmin=log10_mass + np.log10(h), Mmax=17, dlog10m=0.02, hmf_model="Tinker08", transfer_model="EH",
            cosmo_model=Planck18, sigma_8=0.8102, n=0.9665, mdef_model="SOCritical",
            mdef_params={"overdensity": 500}, disable_mass_conversion=True,
        )  # fmt: skip
        volume = 4 * np.pi * u.sr * Planck18.differential_comoving_volume(z)
        return found.ngtm[0] * h**3 * volume.to_value(u.Mpc**3)

    z = np.linspace(0.01, 0.5, 8)
    return lambda log10_mass: np.trapezoid([of_redshift(one, log10_mass) for one in z], z)


def sampled(log10_masses, numbers, rng, factor=1.0):
    """The most massive halos of a sky: their numbers fall as a power of the mass between these."""
    total = rng.poisson(numbers[0])
    share = np.log(rng.random(total))
    ln_masses = np.interp(-share, -np.log(numbers / numbers[0]), np.log(10) * np.asarray(log10_masses))
    return ln_masses + np.log(factor)


def test_a_sky_is_never_too_many_and_its_masses_times_ten_are(on_the_sky):
    """The whole sky above 5e14 Msun is the most that a catalogue can hold; a part of it is told, too, when wrong."""
    log10_masses = np.linspace(14.7, 15.6, 7)
    numbers = np.array([on_the_sky(one) for one in log10_masses])
    assert 500 < numbers[0] < 20_000
    rng = np.random.default_rng(0)
    for _ in range(10):
        ln_mass = sampled(log10_masses, numbers, rng)
        assert too_many(ln_mass, 0.5, "Planck18", "500c") is None
        part = rng.choice(ln_mass, 30, replace=False)
        wrong = too_many(part + np.log(10), 0.5, "Planck18", "500c")
        assert wrong is not None and wrong.number >= 3 and wrong.number > wrong.expected


def test_the_expected_number_is_that_of_hmf(on_the_sky):
    """Of 40 objects at one mass, the text says how many the sky has above it."""
    found = too_many(np.full(40, np.log(4e15)), 0.5, "Planck18", "500c")
    assert found is not None and found.number == 40
    expected = on_the_sky(np.log10(found.mass))
    assert found.expected == pytest.approx(expected, rel=0.15)
    assert poisson.sf(39, expected) < 1e-6


def test_one_or_two_wrong_masses_are_not_many():
    lone = np.log([5e16, 4e16, 1e15, 9e14, 8e14])
    assert too_many(lone, 0.3, "Planck18", "500c") is None
    assert too_many(np.append(lone, np.nan), 0.3, "Planck18", "500c") is None
    assert too_many(np.full(3, np.log(2e16)), 0.3, "Planck18", "500c") is not None
    assert too_many(np.array([]), 0.3, "Planck18", "500c") is None


def test_a_small_catalogue_that_would_hold_much_of_the_sky_is_told(on_the_sky):
    """The same masses times ten are, where too few objects prove that there are too many; a tenth of the sky is not."""
    log10_masses = np.linspace(14.7, 15.6, 7)
    numbers = np.array([on_the_sky(one) for one in log10_masses])
    rng = np.random.default_rng(3)
    few = np.log(10) * np.linspace(14.2, 14.6, 20)
    assert large_share(few, 0.5, "Planck18", "500c") is None and too_many(few, 0.5, "Planck18", "500c") is None
    found = large_share(few + np.log(10), 0.5, "Planck18", "500c")
    assert found is not None and found.number >= 5 and found.number > 0.2 * found.expected
    assert found.expected == pytest.approx(on_the_sky(np.log10(found.mass)), rel=0.3)
    for _ in range(10):
        tenth = rng.choice(sampled(log10_masses, numbers, rng), int(0.1 * numbers[0]), replace=False)
        assert large_share(tenth, 0.5, "Planck18", "500c") is None
