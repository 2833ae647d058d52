"""Masses under draws that bring a population along: against a fine grid in NumPy; and what refuses them."""

import jax
import numpy as np
import pytest
from scipy.special import log_ndtr

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws
from massmap_jax.relation.calibrated import CalibratedRelation
from massmap_jax.relation.law import MassLuminosityRelation

NUMBER = 3
VALUES = {
    "centre": np.array([32.3, 32.5, 32.1]),
    "drift_ln_z": np.array([0.5, 0.4, 0.7]),
    "drift_ln_1z": np.array([0.0, 0.3, -0.2]),
    "width": np.array([0.3, 0.2, 0.5]),
}
PIVOT_Z = 0.4


def relation_of(population, prior):
    relation = MassLuminosityRelation(
        alpha1=[1.0, 1.1, 0.9], alpha2=[0.8, 0.75, 0.85], alpha4=1.0, scatter=[0.3, 0.25, 0.35], alpha3=3e14,
        log_weight=np.log([0.5, 0.3, 0.2]), mass_definition=prior.mass_definition,
    )  # fmt: skip
    base = Lattice.of(prior)
    values = {p: VALUES[p] for p in population.parameters}
    draws = jax.vmap(lambda v: PopulationDraws.of(population, v, PIVOT_Z, base))(values)
    measured = {"bias": 0.0, "mass_scatter": 0.1, "correlation": 0.0}
    return jax.tree.map(np.asarray, CalibratedRelation.joined(relation, measured, draws))


def on_grid(relation, prior, ln_lum, sigma, z, kind):
    """Nodes in ln M, and the posterior density mixed over the draws, by NumPy."""
    t = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    row = np.interp(t, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density_at(z)))
    total = np.zeros_like(t)
    for j in range(NUMBER):
        centre = VALUES["centre"][j] + VALUES["drift_ln_z"][j] * np.log(z / PIVOT_Z)
        centre += VALUES["drift_ln_1z"][j] * np.log((1 + z) / (1 + PIVOT_Z))
        d = (t - centre) / VALUES["width"][j]
        ln_prior = row + log_ndtr(d) if kind == "hmf_completeness" else -0.5 * d**2
        mean = relation.alpha1[j] + relation.alpha2[j] * (t - np.log(3e14)) + np.log1p(z)
        ln_post = ln_prior - 0.5 * (ln_lum - mean) ** 2 / (relation.scatter[j] ** 2 + sigma**2)
        density = np.exp(ln_post - ln_post.max())
        total += relation.shares[j] * density / np.trapezoid(density, t)
    return t, total


@pytest.fixture(scope="module")
def prior():
    return MassPrior.default()


@pytest.fixture(scope="module")
def catalogue():
    return HaloCatalogue.from_arrays(
        luminosity=[1.5, 3.0, 0.3, 20.0], redshift=[0.1, 0.4, 0.8, 1.2], sigma_ln_luminosity=[0.1, 0.3, 0.05, 0.2],
        ra=[10.0, 10.01, 10.02, 10.03], dec=[0.0, 0.01, 0.0, 0.01],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["hmf_completeness", "gaussian"])
def test_summaries_and_quantiles(kind, prior, catalogue):
    population = {"hmf_completeness": Population.hmf_completeness(), "gaussian": Population.gaussian()}[kind]
    relation = relation_of(population, prior)
    found = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", quantile_levels=(0.16, 0.5, 0.84))
    for i in range(len(catalogue)):
        where = (catalogue.ln_lum_obs[i], catalogue.sigma_ln_lum[i], catalogue.redshift[i])
        t, density = on_grid(relation, prior, *where, kind)
        mean = np.trapezoid(t * density, t)
        sd = np.sqrt(np.trapezoid((t - mean) ** 2 * density, t))
        cdf = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(t))])
        quantiles = np.interp([0.16, 0.5, 0.84], cdf, t)
        assert found.mean[i] == pytest.approx(mean, abs=3e-3 * sd)
        assert found.sd[i] == pytest.approx(sd, rel=3e-3)
        np.testing.assert_allclose(found.quantiles[i], quantiles, atol=5e-3 * sd)


def test_a_map_of_many_draws_has_the_mean_mass(prior, catalogue):
    """The mean of many map draws is the mean mass; a map with its draws shuffled against the populations differs."""
    relation = relation_of(Population.hmf_completeness(), prior)
    grid = PixelGrid("tangent", (1, 1), 30.0, (10.0, 0.0))
    field = mass_map(
        jax.random.key(1), catalogue, prior, relation, grid, relation_from="fixed_draws", num_draws=400, draws="table"
    )
    expected = 0.0
    for i in range(len(catalogue)):
        where = (catalogue.ln_lum_obs[i], catalogue.sigma_ln_lum[i], catalogue.redshift[i])
        t, density = on_grid(relation, prior, *where, "hmf_completeness")
        expected += np.trapezoid(np.exp(t) * density, t)
    # The standard error of 400 draws of the sum is 4 %: with the mass prior alone the sum would be 40 % off.
    assert float(np.asarray(field.mean).sum()) == pytest.approx(expected, rel=0.2)


def test_one_draw_is_picked_with_its_population(prior):
    relation = relation_of(Population.hmf_completeness(), prior)
    one = relation.draw(1)
    assert float(one.population.values["centre"]) == VALUES["centre"][1]
    assert float(one.alpha2) == 0.75
    picked = relation.pick(jax.random.key(0), 50)
    index = np.searchsorted([0.75, 0.8, 0.85], picked.alpha2)
    np.testing.assert_array_equal(picked.population.values["width"], np.array([0.2, 0.3, 0.5])[index])


def test_what_knows_one_prior_only_refuses(prior, catalogue):
    relation = relation_of(Population.hmf_completeness(), prior)
    with pytest.raises(MassmapError, match="fitted jointly with a population"):
        mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", method="surface")
    with pytest.raises(MassmapError, match="fitted jointly with a population"):
        sample_halo_masses(jax.random.key(0), catalogue, prior, relation, relation_from="fixed_draws")
    other = MassPrior.from_table([0.0, 2.0], np.geomspace(1e12, 1e16, 50), np.ones((2, 50)), per="ln_mass",
                                 mass_definition=prior.mass_definition)  # fmt: skip
    with pytest.raises(MassmapError, match="another mass prior"):
        mass_posterior(catalogue, other, relation, relation_from="fixed_draws")


def test_check_of_the_luminosities_uses_the_population(prior):
    """Objects drawn from a population under the relation: the check is content with it, and not with the mass prior."""
    from massmap_jax.checks.prior_check import prior_check

    rng = np.random.default_rng(5)
    relation = relation_of(Population.gaussian(), prior).draw(0)
    z = rng.uniform(0.2, 0.6, 2000)
    ln_mass = VALUES["centre"][0] + VALUES["drift_ln_z"][0] * np.log(z / PIVOT_Z) + 0.3 * rng.normal(size=z.size)
    ln_lum = 1.0 + 0.8 * (ln_mass - np.log(3e14)) + np.log1p(z) + np.hypot(0.3, 0.1) * rng.normal(size=z.size)
    objects = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
    assert prior_check(objects, prior, relation).p_value > 1e-4
    plain = MassLuminosityRelation(alpha1=1.0, alpha2=0.8, alpha4=1.0, scatter=0.3, alpha3=3e14)
    assert prior_check(objects, prior, plain).p_value < 1e-12


@pytest.mark.parametrize("kind", ["gaussian", "hmf_completeness"])
def test_the_figure_draws_the_population(prior, catalogue, kind):
    """The dashed prior, and the prior's own panel, are the mean over the draws and not the mass function."""
    from massmap_jax import plot

    relation = relation_of(getattr(Population, kind)(), prior)
    posterior = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")
    figure = plot.posterior_panel(posterior, rows=[1])
    first, panel = figure.axes
    assert first.get_title().startswith("fitted population")
    t = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    row = np.interp(t, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density_at(0.4)))
    total = np.zeros_like(t)
    for j in range(NUMBER):
        d = (t - VALUES["centre"][j]) / VALUES["width"][j]
        density = np.exp(row + log_ndtr(d) if kind == "hmf_completeness" else -0.5 * d**2)
        total += relation.shares[j] * density / np.trapezoid(density, t)
    log10_mass, drawn = first.lines[0].get_data()
    expected = np.interp(log10_mass, t / np.log(10), total)
    np.testing.assert_allclose(drawn, expected, rtol=0.02, atol=1e-3 * total.max())
    dashed = next(line for line in panel.lines if line.get_label() == "prior's shape")
    x, y = dashed.get_data()
    shape = np.interp(x, t / np.log(10), total)
    shape /= np.trapezoid(shape, x * np.log(10))
    np.testing.assert_allclose(y, shape, atol=0.01 * shape.max())
    alone = np.exp(np.interp(x, t / np.log(10), row))
    assert np.abs(alone / np.trapezoid(alone, x * np.log(10)) - shape).max() > 0.2 * shape.max()
