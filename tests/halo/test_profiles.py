"""Projected profiles against quadrature of the density along the line of sight, in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from massmap_jax.halo import profiles

X = np.concatenate([[1e-4, 1e-3, 0.01, 0.0999, 0.1001, 0.3, 0.8181, 0.8182, 0.9, 0.999999], [1 - 1e-9, 1.0, 1 + 1e-9],
                    [1.000001, 1.1, 1.2222, 1.2223, 2.0, 7.0, 30.0, 100.0]])  # fmt: skip
TAUS = (2.0, 1.0, 9.5, 40.0)


def density(r, tau):
    return 1 / (r * (1 + r) ** 2) * (tau**2 / (tau**2 + r**2) if tau else 1.0)


def projected(x, tau):
    """Integral over the line of sight over 2, in l = x sinh t, where the integrand is smooth."""

    def integrand(t):
        return density(x * np.cosh(t), tau) * x * np.cosh(t)

    end = np.arcsinh(1e9 / x)
    places = np.log([2 / min(x, 1.0) + 1e-9, 2 * (tau or 1.0) / min(x, 1.0) + 2])
    parts = np.unique(np.clip([0.0, *places, end], 0, end))
    return sum(quad(integrand, a, b, epsabs=0, epsrel=1e-11, limit=400)[0] for a, b in itertools.pairwise(parts))


def enclosed(x, tau):
    """Mean within x over 2 rho_s r_s: the mass of the cylinder, from spheres: shells inside, and caps of those outside."""

    def cap(
        r,
    ):  # share of a shell of radius r that lies within the cylinder: 1 - sqrt(1 - x^2/r^2), without its digits lost
        ratio = (x / r) ** 2
        return ratio / (1 + np.sqrt(1 - ratio))

    inner = quad(
        lambda u, tau=tau: density(np.exp(u), tau) * np.exp(3 * u), np.log(x) - 40, np.log(x), epsrel=1e-11, limit=400
    )[0]

    def outer(t):  # r = x cosh t
        r = x * np.cosh(t)
        return density(r, tau) * r**2 * cap(r) * x * np.sinh(t)

    end = np.arccosh(1e8 / x)
    places = np.log([2 / min(x, 1.0), 2 * (tau or 1.0) / min(x, 1.0) + 2])
    parts = np.unique(np.clip([0.0, *places, end], 0, end))
    beyond = sum(quad(outer, a, b, epsabs=0, epsrel=1e-11, limit=400)[0] for a, b in itertools.pairwise(parts))
    return 4 * np.pi * (inner + beyond) / (np.pi * x**2) / 2


@pytest.mark.parametrize("tau", [None, *TAUS])
def test_surface_density_against_quadrature(tau):
    with jax.enable_x64(True):
        found = profiles.nfw_sigma(jnp.asarray(X)) if tau is None else profiles.bmo_sigma(jnp.asarray(X), tau)
        np.testing.assert_allclose(found, [projected(x, tau) for x in X], rtol=1e-8)


@pytest.mark.parametrize("tau", [None, *TAUS])
def test_mean_within_against_quadrature(tau):
    with jax.enable_x64(True):
        at = jnp.asarray(X)
        found = profiles.nfw_mean_sigma(at) if tau is None else profiles.bmo_mean_sigma(at, tau)
        np.testing.assert_allclose(found, [enclosed(x, tau) for x in X], rtol=1e-8)


def test_masses():
    for c in (0.5, 5.0):
        sphere = quad(lambda r: density(r, None) * r**2, 0, c)[0]
        assert float(profiles.nfw_mass(c)) == pytest.approx(sphere, rel=1e-6)
    for tau in TAUS:
        whole = quad(lambda u, tau=tau: density(np.exp(u), tau) * np.exp(3 * u), -40, 40, limit=400)[0]
        assert float(profiles.bmo_total_mass(tau)) == pytest.approx(whole, rel=1e-5)


def test_slopes_are_finite_and_right_through_one():
    """Automatic derivatives against differences of the function, on both sides of x = 1 and at it."""
    with jax.enable_x64(True):
        at = jnp.asarray([0.3, 0.8, 0.8182, 1 - 1e-9, 1.0, 1 + 1e-9, 1.2222, 3.0])
        truncated = [lambda x, f=f: f(x, 5.0) for f in (profiles.bmo_sigma, profiles.bmo_mean_sigma)]
        for function in (profiles.nfw_sigma, profiles.nfw_mean_sigma, *truncated):
            slope = jax.vmap(jax.grad(function))(at)
            step = 1e-5
            np.testing.assert_allclose(slope, (function(at + step) - function(at - step)) / (2 * step), rtol=1e-6)


def test_float32_keeps_its_digits():
    x = np.geomspace(1e-4, 50, 400)
    for function in (
        profiles.nfw_sigma,
        profiles.nfw_mean_sigma,
        lambda x: profiles.bmo_sigma(x, 6.0),
        lambda x: profiles.bmo_mean_sigma(x, 6.0),
    ):
        with jax.enable_x64(True):
            exact = np.asarray(function(jnp.asarray(x)))
        found = function(jnp.asarray(x, dtype=jnp.float32))
        assert found.dtype == jnp.float32
        # far out a truncated profile is a difference of larger terms: 1e-6 of the value at r_s is left of it
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=3e-7)


def test_against_colossus():
    colossus = pytest.importorskip("colossus.halo.profile_nfw", reason="Colossus is an extra (peers)")
    halo = colossus.NFWProfile(rhos=3.0, rs=7.0)
    x = np.geomspace(1e-2, 1e2, 30)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            2 * 3.0 * 7.0 * profiles.nfw_sigma(jnp.asarray(x)), halo.surfaceDensity(7.0 * x), rtol=1e-5
        )
