"""Mass likelihoods beside the relation that is given, and the sign of its slope: wrong units and signs stand out."""

import numpy as np
import pytest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.run.beside_relation import beside_relation
from massmap_jax.run.observable_names import refuse_falling, refuse_no_halo_mass

N = 30
RNG = np.random.default_rng(4)
Z, LN_MASS = RNG.uniform(0.1, 0.6, N), np.log(3e14) + RNG.normal(size=N)
LN_LUM = 1.0 + 1.35 * (LN_MASS - np.log(3e14)) + 0.25 * RNG.normal(size=N)
CATALOGUE = HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=0.05)
NODES = np.linspace(25.0, 42.0, 171)


def relation(slope=1.35, scatter=0.25, draws=3):
    alpha1 = 1.0 + 0.02 * np.arange(draws)
    return MassLuminosityRelation.create(alpha1=alpha1, alpha2=slope, scatter=scatter, alpha3=3e14)


def likelihoods(factor, error, known=slice(None)):
    centre = LN_MASS + np.log(factor) + error * RNG.normal(size=N)
    values = np.full((N, NODES.size), np.nan)
    values[known] = (-0.5 * ((NODES - centre[:, None]) / error) ** 2)[known]
    return TabulatedTerm(NODES, values)


@pytest.mark.parametrize(
    ("factor", "error", "scatter", "certain"),
    [
        (1.0, 0.2, 0.25, False),
        (1.5, 0.2, 0.25, False),
        (0.1, 0.2, 0.25, True),
        (30.0, 0.2, 0.25, True),
        (0.05, 0.9, 0.25, True),
        (0.1, 0.2, 1.0, False),
    ],
)
def test_the_factor_of_mass_likelihoods_to_a_given_relation(factor, error, scatter, certain):
    """Told always; certain where the scatter of the relation does not explain it by the mass function (Eddington)."""
    found = beside_relation(likelihoods(factor, error), CATALOGUE, relation(scatter=scatter), "wl.csv")
    told = float(found.told.partition("as a whole at ")[2].partition(" times")[0])
    assert told == pytest.approx(factor, rel=0.5) and found.certain is certain, found


def test_likelihoods_that_say_nothing_of_a_factor():
    assert beside_relation(likelihoods(1.0, 30.0, slice(2)), CATALOGUE, relation(), "wl.csv") is None
    assert beside_relation(likelihoods(1.0, 0.2, slice(0)), CATALOGUE, relation(), "wl.csv") is None


@pytest.mark.parametrize(
    ("column", "words"), [("L500", "an X-ray luminosity"), ("richness", "a richness"), ("M500", "")]
)
def test_relations_that_fall_with_mass(column, words):
    """Refused for what rises by its name; told for what may fall, such as a concentration."""
    with pytest.raises(MassmapError, match=f"alpha2 is -1.35, and column '{column}' is {words}"):
        refuse_falling(column, relation(-1.35), [])
    notes = []
    refuse_falling(column, relation(1.35), notes)
    assert not notes
    refuse_falling("concentration", relation(-0.1), notes)
    assert "falls with mass, its slope alpha2 is -0.1" in notes[0]


def test_a_mass_likelihood_of_no_halo_mass_by_its_name():
    with pytest.raises(MassmapError, match=r"'Mgas' is a mass of gas .*mass_likelihood_mass= names"):
        refuse_no_halo_mass("Mgas", "mass_likelihood_mass")
