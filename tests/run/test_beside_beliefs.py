"""A wrong unit is refused before a fit, where the beliefs about the relation leave no doubt of it."""

import numpy as np
import pytest

from massmap_jax import MassLuminosityRelation, MassPrior, RelationPrior
from massmap_jax.run.beside_beliefs import (
    beyond_all_masses,
    computed_from_luminosity,
    far_from_beliefs,
    in_numbers,
    slip_in_zero_point,
    unrelated,
)

TIGHT = "alpha1=0.6:0.5, alpha2=1.6:0.3, alpha4=1:0.5, scatter=0.3:0.1, alpha3=3e14"
LOOSE = "alpha1=0:10, alpha2=1.6:0.5, alpha4=1:0.5, scatter=0.3:0.1, alpha3=3e14"
Z = np.full(21, 0.2)
LN_MASS = np.linspace(np.log(1e14), np.log(6e14), 21)
LN_LUM = 0.6 + 1.6 * (LN_MASS - np.log(3e14)) + np.log1p(Z) + 0.3 * np.sin(np.arange(21.0))


@pytest.mark.parametrize(
    ("beliefs", "factor", "word"),
    [
        (TIGHT, 1.0, ""),
        (TIGHT, 10.0, ""),
        (TIGHT, 1e3, "1,000 times brighter"),
        (TIGHT, 1e-3, "1,000 times fainter"),
        (TIGHT, 1e44, "e+44 times brighter"),
        (TIGHT, 1e-44, "e+44 times fainter"),
        (LOOSE, 1e3, ""),
        (LOOSE, 1e44, "e+44 times brighter"),
    ],
)
def test_beside_measured_masses(beliefs, factor, word):
    """Twins: the right unit, a factor that beliefs leave open, and beliefs that leave any open."""
    believed = RelationPrior.parse(beliefs)
    told = far_from_beliefs(LN_LUM + np.log(factor), Z, believed, MassPrior.default(), LN_MASS)
    assert word in told and bool(word) == bool(told) and "\n" not in told
    # A few unusual objects among them change nothing, nor do rows without a measured mass.
    some = np.where(np.arange(21) % 2, np.nan, LN_MASS)
    odd = np.where(np.arange(21) < 4, 30.0, LN_LUM + np.log(factor))
    assert bool(far_from_beliefs(odd, Z, believed, MassPrior.default(), some)) == bool(word)


@pytest.mark.parametrize(
    ("beliefs", "factor", "word"),
    [
        (TIGHT, 1.0, ""),
        (TIGHT, 1e2, ""),
        (TIGHT, 1e-4, ""),  # of halos of 1e12 Msun, which there are
        (TIGHT, 1e6, "times brighter"),
        (TIGHT, 1e44, "times brighter"),
        (TIGHT, 1e-44, "times fainter"),
        (LOOSE, 1e6, ""),
        (TIGHT.replace("1.6:0.3", "-1.6:0.3"), 1e4, ""),
        (TIGHT.replace("1.6:0.3", "-1.6:0.3"), 1e44, "times brighter"),
    ],
)
def test_without_measured_masses_those_of_the_prior_count(beliefs, factor, word):
    told = far_from_beliefs(LN_LUM + np.log(factor), Z, RelationPrior.parse(beliefs), MassPrior.default())
    assert word in told and bool(word) == bool(told)


def test_the_distance_is_the_beliefs_own():
    """In standard deviations, against the sum of variances by hand."""
    far = far_from_beliefs(LN_LUM + 12.0, Z, RelationPrior.parse(TIGHT), MassPrior.default(), LN_MASS)
    x = np.median(np.abs(LN_MASS - np.log(3e14)))
    width = np.sqrt(0.5**2 + (0.3 * x) ** 2 + (0.5 * np.log(1.2)) ** 2 + 0.3**2)
    assert f" {12.0 / width:.0f} standard deviations" in far
    assert far_from_beliefs(np.array([]), np.array([]), RelationPrior.parse(TIGHT), MassPrior.default()) == ""


def test_masses_that_were_computed_from_the_luminosity():
    """By L500 = C E(z)^(7/3) M^1.64, rounded to three digits, and not with a scatter of 2 % or for 9 objects."""
    rng = np.random.default_rng(0)
    ln_lum, z = rng.normal(0.5, 0.8, 60), rng.uniform(0.02, 0.9, 60)
    ln_e = 0.5 * np.log(0.3 * (1 + z) ** 3 + 0.7)
    mass = 3e14 * np.exp((ln_lum - 0.63 - 7 / 3 * ln_e) / 1.64)
    rounded = np.log([float(f"{m:.3g}") for m in mass])
    told = computed_from_luminosity(ln_lum, z, rounded)
    assert told.startswith("the 60 calibration masses follow from luminosity and redshift") and "\n" not in told
    assert computed_from_luminosity(ln_lum, z, np.where(np.arange(60) < 9, rounded, np.nan)) == ""
    assert computed_from_luminosity(ln_lum, z, rounded + 0.02 * rng.normal(size=60)) == ""
    assert computed_from_luminosity(ln_lum, z, np.full(60, 33.0)) == ""


def test_masses_that_have_nothing_to_do_with_the_luminosity():
    rng = np.random.default_rng(1)
    ln_lum = rng.normal(0, 0.8, 40)
    mass = 33 + ln_lum / 1.6 + 0.3 * rng.normal(size=40)
    assert unrelated(ln_lum, mass, 1.6) == "" and "do not fall" in unrelated(ln_lum, mass, -1.6)
    assert "do not rise with the luminosities" in unrelated(ln_lum, mass[::-1], 1.6)
    assert unrelated(ln_lum[:9], mass[::-1][:9], 1.6) == ""
    false = [bool(unrelated(x, x + rng.normal(size=30), 1.0)) for x in rng.normal(size=(200, 30))]
    assert sum(false) < 10  # a correlation of 0.7 has p > 0.05 in 1e-4 of samples


@pytest.mark.parametrize(
    ("offset", "z", "word"),
    [(0.0, 0.2, ""), (5.0, 0.2, ""), (100.0, 0.2, "times brighter than"), (-40.0, 0.2, "times fainter than")],
)
def test_a_relation_that_is_given(offset, z, word):
    """With draws of the relation as with one."""
    one = MassLuminosityRelation.create(alpha1=0.6, alpha2=1.6, scatter=0.3, alpha3=3e14)
    many = MassLuminosityRelation.from_draws(alpha1=[0.5, 0.6, 0.7], alpha2=1.6, scatter=0.3, alpha3=3e14)
    for relation in (one, many):
        told = beyond_all_masses(LN_LUM + offset, np.full(21, z), relation, MassPrior.default())
        assert word in told and bool(word) == bool(told)


def test_a_relation_in_numbers():
    """exp(0.6) at the pivot at z = 0, (1 + z)^alpha4 of it beyond, in a batch as alone."""
    for alpha1 in (0.6, [0.5, 0.6, 0.8]):
        relation = MassLuminosityRelation.create(alpha1=alpha1, alpha2=1.6, alpha4=2.0, scatter=0.3, alpha3=3e14)
        told = in_numbers("own.csv", np.log([1.0, 2.0, 4.0]), np.full(3, 0.2), relation)
        assert told == (
            f"the relation own.csv gives a median observable of {np.exp(0.6) * 1.2**2:.3g} at 3e+14 Msun and z = 0.2, as"
            " its alpha1 is a natural logarithm, with a scatter of 0.3 in ln; that of the catalogue is 2"
        )
    relation = MassLuminosityRelation.create(alpha1=2000.0, alpha2=1.6, scatter=0.3, alpha3=3e14)
    assert f"observable of 10^{2000 / np.log(10):.1f} at" in in_numbers("own.csv", LN_LUM, Z, relation)
    assert in_numbers("own.csv", np.full(3, np.nan), np.full(3, 0.2), relation) == ""


@pytest.mark.parametrize(
    ("slip", "own", "power", "word"),
    [
        (lambda a: a / np.log(10), 44, 44, "its alpha1 is a logarithm to base 10"),
        (lambda a: a, 44, 88, "it is in erg/s and the luminosities in 1e44 erg/s"),
        (lambda a: a, 44, 0, "it is in erg/s and the luminosities in 1e44 erg/s"),
        (lambda a: a / np.log(10), 44, 0, "base 10, and has to be multiplied by 2.302585, and it is in erg/s"),
        (np.exp, 3, 3, "its alpha1 is the observable itself"),
        (lambda a: a + 400, 44, 44, ""),
    ],
)
def test_a_slip_in_the_zero_point_is_named(slip, own, power, word):
    """Of a relation in a unit that is 10^own of another, beside luminosities in 10^power of it."""
    alpha1 = slip(0.6 + own * np.log(10))
    relation = MassLuminosityRelation.create(alpha1=alpha1, alpha2=1.6, alpha4=1.0, scatter=0.3, alpha3=3e14)
    told = slip_in_zero_point(LN_LUM + power * np.log(10), Z, relation, MassPrior.default())
    assert word in told and bool(word) == bool(told)
