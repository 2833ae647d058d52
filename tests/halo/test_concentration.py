"""Concentrations in any mass definition: the NFW conversion against a root found anew, and there and back."""

import numpy as np
import pytest
from astropy.cosmology import Planck18
from scipy.integrate import quad
from scipy.optimize import brentq

from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import DUFFY08, SCATTER_LN, ln_concentration_at, ln_mass_in, mean_ln_concentration
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


@pytest.mark.parametrize(
    ("mass", "z", "given", "wanted"),
    [
        (5e14, 0.3, "200c", "500c"),
        (1e14, 0.1, "200m", "200c"),
        (1e15, 0.8, "vir", "2500c"),
        (3e14, 0.5, "200c", "200m"),
    ],
)
def test_a_mass_in_another_definition(mass, z, given, wanted):
    """The profile integrated by SciPy, its radius found as a root, and the scatter at one standard deviation of c."""
    norm, slope, evolution = DUFFY08[given]
    c = norm * (mass * Planck18.h / 2e12) ** slope * (1 + z) ** evolution
    at = np.array([z])
    ratio = float(overdensity(wanted, "Planck18", at)[0] / overdensity(given, "Planck18", at)[0])
    changes = [np.log(enclosed(root(x, ratio)) / enclosed(x)) for x in c * np.exp([0, SCATTER_LN, -SCATTER_LN])]
    ln_mass, scatter = ln_mass_in(np.log([mass]), at, given, wanted)
    assert ln_mass[0] - np.log(mass) == pytest.approx(changes[0], abs=1e-5)
    assert scatter[0] == pytest.approx(abs(changes[1] - changes[2]) / 2, abs=1e-5)


def test_a_mass_there_and_back():
    """500c to 200m and back: the mean relations of two definitions are one."""
    ln_mass, z = np.log(np.geomspace(3e13, 2e15, 7)), np.linspace(0.05, 1.2, 7)
    there, scatter = ln_mass_in(ln_mass, z, "500c", "200c")
    back, _ = ln_mass_in(there, z, "200c", "500c")
    np.testing.assert_allclose(back, ln_mass, atol=2e-3)
    assert (there > ln_mass).all() and (scatter > 0.03).all()


def test_masses_against_colossus():
    pytest.importorskip("colossus", reason="Colossus is an extra (peers)")
    from colossus.cosmology import cosmology
    from colossus.halo import concentration, mass_defs

    h = cosmology.setCosmology("planck18").h
    for mass, z, given, wanted in (
        (1e14, 0.1, "200c", "500c"),
        (1e15, 0.8, "200m", "500c"),
        (3e14, 0.5, "vir", "200c"),
    ):
        c = concentration.concentration(mass * h, given, z, model="duffy08")
        ends = [
            mass_defs.changeMassDefinition(mass * h, x, z, given, wanted)[0] / h
            for x in c * 10.0 ** np.array([0, 0.15, -0.15])
        ]
        ln_mass, scatter = ln_mass_in(np.log([mass]), np.array([z]), given, wanted)
        # Its cosmology has no neutrino masses: 0.2 % in the densities by the mean one.
        assert ln_mass[0] == pytest.approx(np.log(ends[0]), abs=4e-3)
        assert scatter[0] == pytest.approx(abs(np.log(ends[1] / ends[2])) / 2, rel=0.01)
