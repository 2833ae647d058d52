"""Moments of the shear about objects of given masses, against NumPy; what cannot be a stack."""

import numpy as np
import pytest
from astropy.cosmology import Planck18
from reference import shear_reference as slow

import massmap_jax as mm
from massmap_jax.errors import MassmapError

RADIUS = np.array([0.4, 0.8, 1.6])
PRIOR = mm.MassPrior.default()
Z = np.array([0.2, 0.25, 0.3, 0.5, 0.5, 0.9])
MEMBERS = np.array([0, 0, 0, 1, -1, 1])
CATALOGUE = mm.HaloCatalogue.from_arrays(luminosity=np.ones(6), redshift=Z, sigma_ln_luminosity=0.05)
SHEAR = np.array([[0.05, 0.03, 0.01], [0.06, np.nan, 0.02]])


def stacks(members=MEMBERS, shear=SHEAR, **changed):
    return mm.StackedShear.from_arrays(
        members, RADIUS, shear, **{"error": 0.003, "source_redshift": [[1.0], [1.5]]} | changed
    )


@pytest.mark.parametrize("settings", [{}, {"reduced": False, "scatter": 0.1}, {"concentration_scatter": 0.0}])
def test_moments_are_those_of_many_halos(settings):
    """Mean and second moment of the shear about halos of one mass, by sums over fine grids; at all three redshifts."""
    settings = {"scatter": 0.2, "concentration_scatter": 0.345, "reduced": True} | settings
    term = stacks().signals(CATALOGUE, PRIOR, **settings)
    np.testing.assert_allclose(term.redshift, [[0.2, 0.25, 0.3], [0.5, 0.7, 0.9]])
    np.testing.assert_array_equal(term.there, [[1, 1, 1], [1, 0, 1]])
    normal = np.linspace(-6, 6, 301)
    weight = np.exp(-0.5 * normal**2) / np.exp(-0.5 * normal**2).sum()
    for stack, source in ((0, 1.0), (1, 1.5)):
        for node in (0, 2):
            z = term.redshift[stack, node]
            for mass in (50, 90):
                ln_mass = term.ln_mass_nodes[mass] + settings["scatter"] * normal[:, None]
                ln_c = slow.mean_ln_c(ln_mass, z) + settings["concentration_scatter"] * normal
                g = slow.reduced_shear(RADIUS, ln_mass * np.ones(301), ln_c, z, source, settings["reduced"])
                g = g * term.there[stack]
                weights = weight[:, None] * weight
                mean, second = np.einsum("tc,tca->a", weights, g), np.einsum("tc,tca,tcb->ab", weights, g, g)
                np.testing.assert_allclose(term.mean[stack, mass, node], mean, rtol=3e-4)
                np.testing.assert_allclose(term.second[stack, mass, node], second, rtol=1e-3)


def test_angles_are_radii_at_the_members():
    """An angle is another radius at each redshift."""
    by_angle = mm.StackedShear.from_arrays(
        MEMBERS, [2.0, 4.0, 8.0], SHEAR, error=0.003, source_redshift=[[1.0], [1.5]], radius_unit="arcmin"
    ).signals(CATALOGUE, PRIOR)
    for node, z in ((0, 0.2), (2, 0.3)):
        radius = [float((Planck18.kpc_proper_per_arcmin(z) * a).to_value("Mpc / arcmin")) for a in (2.0, 4.0, 8.0)]
        there = mm.StackedShear.from_arrays(
            np.where(z == Z, 0, -1), radius, SHEAR[:1], error=0.003, source_redshift=1.0
        )
        np.testing.assert_allclose(by_angle.mean[0, :, node], there.signals(CATALOGUE, PRIOR).mean[0, :, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"members": [0, 1, 2, 1, 1, 1]}, r"1 of 6 rows are in a stack without a profile, the first is row 2 in stack"),
        ({"members": [0.5, 1, 0, 1, 1, 1]}, "give a whole number for each row"),
        ({"members": [-2, 1, 0, 1, 1, 1]}, "give a whole number for each row"),
        ({"weight": [1.0, 1, 0, 1, 1, 1]}, r"1 of 5 weights of members are not above 0, the first is 0 in row 2"),
        ({"weight": [1.0, 1.0]}, "one for each row"),
        ({"error": None}, "give error= or covariance="),
        ({"error": 0.0}, "errors of shears are not above 0"),
        ({"shear": [[0.05, np.nan, np.nan], [0.06, 0.03, 0.01]]}, "fewer bins"),
    ],
)
def test_refused_in_one_sentence(changed, message):
    with pytest.raises(MassmapError, match=message):
        stacks(**changed)


def test_refused_with_a_catalogue():
    with pytest.raises(MassmapError, match="1 of 2 stacks have no member that can be used, the first is stack 1"):
        stacks(members=[0, 0, 0, 0, -1, -1]).signals(CATALOGUE, PRIOR)
    with pytest.raises(MassmapError, match="members= has 6 rows and the catalogue 3"):
        stacks().signals(CATALOGUE.subset(np.arange(3)), PRIOR)
    with pytest.raises(MassmapError, match="a source in front of the lens"):
        stacks(source_redshift=0.85).signals(CATALOGUE, PRIOR)
    with pytest.raises(MassmapError, match="of their errors below 0 on the whole"):
        stacks(shear=-SHEAR).signals(CATALOGUE, PRIOR)
    with pytest.raises(MassmapError, match="scatter of the lensing masses is -1"):
        stacks().signals(CATALOGUE, PRIOR, scatter=-1.0)
    relation = mm.MassLuminosityRelation(alpha1=0.0, alpha2=1.0, alpha3=1e14, scatter=0.3)
    with pytest.raises(MassmapError, match="stacked profiles say nothing of a single mass"):
        mm.mass_posterior(CATALOGUE, PRIOR, relation, extra=stacks().signals(CATALOGUE, PRIOR))


def test_a_blank_profile_is_no_stack():
    """Its members are in none; the others are counted anew."""
    blank = stacks(shear=np.array([[np.nan] * 3, [0.06, 0.03, 0.02]]))
    np.testing.assert_array_equal(blank.members, [-1, -1, -1, 0, -1, 0])
    assert blank.signals(CATALOGUE, PRIOR).shear.shape == (1, 3)
