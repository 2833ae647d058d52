"""Mass likelihoods of single objects in maps: each map draw sees them under the bias of its own relation draw."""

import jax
import numpy as np
import pytest
from reference import mass_likelihood_reference as slow
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.maps.circle import mass_in_circle
from massmap_jax.maps.convergence import convergence_map
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.regions import Circle
from massmap_jax.maps.samples import MassSamples
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.extra import BiasedRelation
from massmap_jax.relation.law import MassLuminosityRelation

TABLE = schechter_table()
PRIOR, SLOW_PRIOR = MassPrior.from_table(*TABLE), PriorReference(*TABLE, per="mass")
PARAMETERS = dict(alpha1=10.7, alpha2=0.36, scatter=0.15, alpha3=2.35e14, alpha4=1.1)
LN_LUM, Z, SIGMA = np.log([900.0, 4300.0, 1.2e4]), np.array([0.2, 0.7, 1.1]), np.array([0.05, 0.1, 0.3])
CATALOGUE = HaloCatalogue.from_arrays(
    luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA, ra=[150.0, 150.01, 150.02], dec=[2.0, 2.0, 2.0]
)
NODES = np.linspace(22.0, 36.0, 141)
LN_LIKELIHOODS = (lambda x: -0.5 * ((x - 29.0) / 0.3) ** 2, np.zeros_like, lambda x: -0.5 * ((x - 32.0) / 0.4) ** 2)
EXTRA = TabulatedTerm(NODES, np.stack([f(NODES) for f in LN_LIKELIHOODS]))
KEY, BIASES, NUMBER = jax.random.key(3), (-0.5, 0.5), 600
CHUNK = 4  # of three objects, which a chunk is filled up from


def drawn(relations, extra, method="exact"):
    """ln M (object, draw)."""
    ln_mass = np.full((3, relations.num_draws), np.nan)
    objects = Objects.of(CATALOGUE, np.arange(3), PRIOR, extra)
    for rows, values in MassSamples(PRIOR, relations, KEY, method)(objects, CHUNK):
        ln_mass[rows] = values
    return ln_mass


def test_each_draw_has_the_posterior_under_its_own_bias():
    """Means and spreads of 300 draws of each bias; the twin without the biases is far off."""
    bias = np.resize(BIASES, NUMBER)
    relations = BiasedRelation(**PARAMETERS, extra_bias=0.0).draw(np.zeros(NUMBER, dtype=int))
    found = drawn(BiasedRelation(**relations.columns() | dict(extra_bias=bias)), EXTRA)
    twin = drawn(relations, EXTRA)
    for i, f in enumerate(LN_LIKELIHOODS):
        for b in BIASES:
            here = found[i, bias == b]
            mean, sd = slow.moments(
                SLOW_PRIOR, Relation(**PARAMETERS), LN_LUM[i], SIGMA[i], Z[i], lambda x, f=f, b=b: f(x + b)
            )
            error = sd / np.sqrt(here.size)
            assert abs(here.mean() - mean) < 5 * error and abs(here.std() / sd - 1) < 5 / np.sqrt(2 * here.size)
            if i != 1:
                assert abs(twin[i, bias == b].mean() - mean) > 5 * error


def test_a_table_serves_the_objects_without_a_likelihood():
    relations = BiasedRelation(**PARAMETERS, extra_bias=0.1).draw(np.zeros(200, dtype=int))
    exact, table = drawn(relations, EXTRA), drawn(relations, EXTRA, "table")
    np.testing.assert_array_equal(table[[0, 2]], exact[[0, 2]])
    assert 0 < np.abs(table[1] - exact[1]).max() < 0.02 * exact[1].std()


def test_map_and_circle_have_the_same_masses():
    relation = BiasedRelation(**PARAMETERS, extra_bias=0.1)
    grid = PixelGrid.fit(CATALOGUE.ra, CATALOGUE.dec)
    image = mass_map(KEY, CATALOGUE, PRIOR, relation, grid, num_draws=20, chunk_size=CHUNK, extra=EXTRA)
    circle = mass_in_circle(
        KEY, CATALOGUE, PRIOR, relation, Circle(150.01, 2.0, 5.0), num_draws=20, chunk_size=CHUNK, extra=EXTRA
    )
    plain = mass_map(KEY, CATALOGUE, PRIOR, relation, grid, num_draws=20, chunk_size=CHUNK)
    np.testing.assert_allclose(image.total_draws, circle.draws, rtol=1e-6)
    assert image.total_mass == pytest.approx(circle.mean, rel=1e-6)
    assert abs(image.total_mass / plain.total_mass - 1) > 0.1
    posterior = mass_posterior(CATALOGUE, PRIOR, relation, extra=EXTRA, chunk_size=CHUNK)
    again = mass_map(
        KEY, CATALOGUE, PRIOR, relation, grid, num_draws=20, chunk_size=CHUNK, extra=EXTRA, posterior=posterior
    )
    np.testing.assert_array_equal(again.total_draws, image.total_draws)
    with pytest.raises(MassmapError, match="the same extra likelihoods"):
        mass_map(KEY, CATALOGUE, PRIOR, relation, grid, num_draws=20, chunk_size=CHUNK, posterior=posterior)
    with pytest.raises(MassmapError, match="one row per catalogue row"):
        mass_map(KEY, CATALOGUE, PRIOR, relation, grid, num_draws=20, chunk_size=CHUNK, extra=EXTRA.take([0]))


def test_convergence_is_that_of_the_masses_that_were_measured():
    """Likelihoods that leave no freedom: the map of halos of these very masses, in every draw."""
    prior = MassPrior.default()
    ln_mass = np.log([1e15, 5e14, 3e14])
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_mass), redshift=Z / 4, sigma_ln_luminosity=0.5,
                                          ra=CATALOGUE.ra, dec=CATALOGUE.dec)  # fmt: skip
    grid = PixelGrid.fit(CATALOGUE.ra, CATALOGUE.dec)
    nodes = np.linspace(25.0, 38.0, 131)
    sure = TabulatedTerm(nodes, -0.5 * ((nodes - ln_mass[:, None]) / 1e-3) ** 2)
    settings = dict(num_draws=4, chunk_size=CHUNK, concentration_scatter=0.0)
    asked = KEY, catalogue, prior, MassLuminosityRelation.identity(), grid, 1.0
    kappa = convergence_map(*asked, extra=sure, **settings)
    exact = HaloCatalogue.from_arrays(luminosity=np.exp(ln_mass), redshift=Z / 4, sigma_ln_luminosity=1e-3,
                                      ra=CATALOGUE.ra, dec=CATALOGUE.dec)  # fmt: skip
    asked = KEY, exact, prior, MassLuminosityRelation.identity(), grid, 1.0
    wanted = convergence_map(*asked, **settings)
    np.testing.assert_allclose(kappa.mean, wanted.mean, rtol=5e-3, atol=1e-4)
    with pytest.raises(MassmapError, match="extra likelihood has shape"):
        convergence_map(*asked, extra=sure.take([0]), **settings)
