"""Concentrations in any mass definition: the NFW conversion against a root found anew, and there and back."""

import numpy as np
import pytest
from astropy.cosmology import Planck18
from scipy.integrate import quad
from scipy.optimize import brentq

from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import DUFFY08, ln_concentration_at, mean_ln_concentration
from massmap_jax.halo.cosmology import overdensity


def enclosed(r):
    """Mass of an NFW halo of unit scale radius and density within r, integrated."""
    return quad(lambda x: x / (1 + x) ** 2, 0, r)[0]


def root(c, ratio):
    """Concentration at `ratio` times the mean density."""
    return brentq(lambda x: enclosed(x) / x**3 - ratio * enclosed(c) / c**3, 1e-2, 1e3, xtol=1e-12)


@pytest.mark.parametrize("c", [0.5, 3.0, 8.0, 25.0])
@pytest.mark.parametrize("ratio", [0.2, 1.0, 2.5, 12.5])
def test_radius_of_another_density(c, ratio):
    assert np.exp(ln_concentration_at(np.log(c), ratio)) == pytest.approx(root(c, ratio), rel=1e-5)


@pytest.mark.parametrize("definition", ["500c", "2500c", "180m", "1600m"])
def test_the_converted_halo_is_the_one_of_200c(definition):
    """Its mass and concentration, taken back to 200c, lie on the published relation."""
    ln_mass, z = np.log(np.geomspace(1e11, 3e15, 9)), np.linspace(0.05, 1.9, 9)
    ln_c = mean_ln_concentration(ln_mass, z, definition)
    ratio = overdensity("200c", "Planck18", z) / overdensity(definition, "Planck18", z)
    for one_ln_mass, one_z, c, step in zip(ln_mass, z, np.exp(ln_c), ratio, strict=True):
        c200 = root(c, step)
        mass = np.exp(one_ln_mass) * enclosed(c200) / enclosed(c)
        norm, slope, evolution = DUFFY08["200c"]
        wanted = norm * (mass * Planck18.h / 2e12) ** slope * (1 + one_z) ** evolution
        assert c200 == pytest.approx(wanted, rel=1e-3)


def test_what_has_no_radius_is_refused():
    with pytest.raises(MassmapError, match="radius does not follow from the mass definition 'fof'"):
        mean_ln_concentration(np.log([1e14]), np.array([0.2]), "fof")
