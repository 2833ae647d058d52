"""Data terms in ln M, and the seams: terms that add, redshift nodes, selection."""

import equinox as eqx
import numpy as np
import pytest
from reference.posterior_reference import Mixture, Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import GaussianTerm, TabulatedTerm
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

REDSHIFT, MASS, DENSITY = schechter_table()
ALPHA1, SCATTER = 10.709 + 0.05 * np.linspace(-1.4, 1.4, 8), np.linspace(0.14, 0.17, 8)
CHUNK = 64
LOG_WEIGHT = np.log(np.linspace(1.0, 2.0, 8))
RELATIONS = [Relation(alpha1=a, scatter=s) for a, s in zip(ALPHA1, SCATTER)]
DRAWS = dict(alpha1=ALPHA1, alpha2=0.359, alpha3=2.35e14, alpha4=1.10, scatter=SCATTER, log_weight=LOG_WEIGHT)
LN_LUM = np.log([900.0, 4300.0, 1.2e4, 4.9e4])
Z, SIGMA = np.array([0.2, 1.38, 2.0, 0.41]), np.array([0.05, 0.05, 0.3, 0.1])


@pytest.fixture(scope="module")
def prior():
    return MassPrior.from_table(REDSHIFT, MASS, DENSITY)


@pytest.fixture(scope="module")
def reference():
    return PriorReference(REDSHIFT, MASS, DENSITY, per="mass")


@pytest.fixture(scope="module")
def relation():
    return MassLuminosityRelation.create(**DRAWS)


@pytest.fixture(scope="module")
def catalogue():
    return HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA)


def test_a_normalised_term_is_a_density():
    grid = np.linspace(20, 40, 20_001)
    term = GaussianTerm.normalised(30.0, 0.4, ln_scale=-2.0)
    # float32 values of a density at 20,001 points
    assert np.trapezoid(np.exp(np.asarray(term(grid), dtype=float)), grid) == pytest.approx(np.exp(-2.0), rel=1e-4)


@pytest.mark.parametrize("other", [(31.0, 0.2, -3.0), (30.0, 5.0, 0.0), (24.0, 0.5, 1.0)])
def test_gaussian_terms_add_exactly(other):
    one, two = GaussianTerm.normalised(30.0, 0.4, -2.0), GaussianTerm.normalised(*other)
    grid = np.linspace(25, 35, 11)
    np.testing.assert_allclose((one + two)(grid), one(grid) + two(grid), rtol=2e-5, atol=1e-4)
    np.testing.assert_allclose((one + two)(grid), (two + one)(grid), rtol=2e-5)


def test_tabulated_term_is_linear_and_constant_outside():
    term = TabulatedTerm(np.array([28.0, 30.0, 31.0]), np.array([-4.0, 0.0, -1.0]))
    np.testing.assert_allclose(term(np.array([20.0, 28.0, 29.0, 30.5, 40.0])), [-4, -4, -2, -0.5, -1], atol=1e-6)


def fine_grid(reference):
    return np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 40_001)


def moments(density, grid):
    density = density / np.trapezoid(density, grid)
    mean = np.trapezoid(density * grid, grid)
    return mean, np.sqrt(np.trapezoid(density * (grid - mean) ** 2, grid))


@pytest.mark.parametrize("relation_from", ["fixed_draws", "other_data"])
def test_an_extra_term_is_an_independent_datum(prior, reference, relation, catalogue, relation_from):
    """A Gaussian of weak-lensing quality on a fine table, against the product on a grid."""
    centre, width = np.array([27.0, 29.0, 31.5, 32.0]), np.array([0.5, 0.3, 1.0, 0.4])
    nodes = np.linspace(22, 35, 1301)
    table = -0.5 * ((nodes - centre[:, None]) / width[:, None]) ** 2
    got = mass_posterior(
        catalogue, prior, relation, relation_from=relation_from, chunk_size=CHUNK, extra=TabulatedTerm(nodes, table)
    )
    grid = fine_grid(reference)
    for i in range(4):
        extra = np.exp(-0.5 * ((grid - centre[i]) / width[i]) ** 2)
        joint = np.array(
            [
                np.exp(
                    SingleDraw(reference, LN_LUM[i], SIGMA[i], Z[i], r).log_likelihood(grid)
                    + reference.log_prob(grid, Z[i])
                )
                * extra
                for r in RELATIONS
            ]
        )
        evidence = np.trapezoid(joint, grid, axis=1)
        weight = np.exp(LOG_WEIGHT) / np.exp(LOG_WEIGHT).sum()
        assert got.log_evidence[i] == pytest.approx(np.log(weight @ evidence), abs=2e-3)
        if relation_from == "fixed_draws":
            weight = weight / evidence
        mean, sd = moments(weight @ joint, grid)
        # the table's own chords are 1e-4 of a width
        assert abs(got.mean[i] - mean) < 2e-3 * sd and abs(got.sd[i] / sd - 1) < 2e-3


def test_a_sharp_likelihood_with_an_extra_term(prior, catalogue):
    """A flat extra term says nothing, also beside a likelihood much narrower than the prior's range."""
    sharp = MassLuminosityRelation.create(
        alpha1=np.zeros(8), alpha2=1.0, alpha3=1.0, alpha4=0.0, scatter=0.0, log_weight=np.zeros(8)
    )
    ln_mass = np.array([26.0, 28.0, 30.0, 32.0])
    flat = TabulatedTerm(np.linspace(22, 35, 1301), np.zeros((4, 1301)))
    for sigma in (0.3, 0.05, 0.02, 0.005):
        proxies = HaloCatalogue.from_arrays(luminosity=np.exp(ln_mass), redshift=Z, sigma_ln_luminosity=sigma)
        plain = mass_posterior(proxies, prior, sharp, relation_from="fixed_draws", chunk_size=CHUNK)
        with_flat = mass_posterior(proxies, prior, sharp, relation_from="fixed_draws", chunk_size=CHUNK, extra=flat)
        np.testing.assert_allclose((with_flat.mean - plain.mean) / plain.sd, 0.0, atol=2e-3, err_msg=f"sigma {sigma}")
        np.testing.assert_allclose(with_flat.sd / plain.sd, 1.0, atol=2e-3, err_msg=f"sigma {sigma}")


# -- redshift nodes -----------------------------------------------------------------------------------------------


class TwoRedshifts(HaloCatalogue):
    """A stand-in for photometric redshifts: z and z + 0.3, weighing 0.7 and 0.3."""

    @property
    def redshift_nodes(self):
        return np.stack([self.redshift, self.redshift + 0.3], axis=1)

    @property
    def redshift_weights(self):
        return np.tile([0.7, 0.3], (len(self), 1))


@pytest.mark.parametrize("relation_from", ["fixed_draws", "other_data"])
def test_redshift_nodes_are_mixed_by_their_weights(prior, reference, relation, relation_from):
    catalogue = TwoRedshifts.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA)
    got = mass_posterior(catalogue, prior, relation, relation_from=relation_from, chunk_size=CHUNK)
    grid = fine_grid(reference)
    for i in range(4):
        joint = np.zeros((8, grid.size))
        for z, share in ((Z[i], 0.7), (Z[i] + 0.3, 0.3)):
            joint += share * np.array(
                [
                    np.exp(
                        SingleDraw(reference, LN_LUM[i], SIGMA[i], z, r).log_likelihood(grid)
                        + reference.log_prob(grid, z)
                    )
                    for r in RELATIONS
                ]
            )
        evidence = np.trapezoid(joint, grid, axis=1)
        weight = np.exp(LOG_WEIGHT) / np.exp(LOG_WEIGHT).sum()
        assert got.log_evidence[i] == pytest.approx(np.log(weight @ evidence), abs=1e-3)
        if relation_from == "fixed_draws":
            weight = weight / evidence
        mean, sd = moments(weight @ joint, grid)
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3


# -- selection ----------------------------------------------------------------------------------------------------


class ToySelection(eqx.Module):
    """A known ln A: bright relations put more objects in the catalogue."""

    slope: float

    def log_prob(self, ln_lum_obs, z):
        return 0.0 * ln_lum_obs - 0.25

    def log_norm(self, relation, prior, z, sigma):
        return self.slope * (relation.alpha1 - 10.0) + 0.1 * z


def test_selection_changes_the_weights_of_other_data_as_the_formula_says(prior, reference, relation, catalogue):
    got = mass_posterior(
        catalogue, prior, relation, relation_from="other_data", chunk_size=CHUNK, selection=ToySelection(3.0)
    )
    plain = mass_posterior(
        catalogue, prior, relation, relation_from="other_data", chunk_size=CHUNK, selection=NoSelection()
    )
    for i in range(4):
        # weights Z_k / A: the same as draws that come with weights 1 / A
        expected = Mixture(reference, LN_LUM[i], SIGMA[i], Z[i], RELATIONS, "other_data", LOG_WEIGHT - 3.0 * ALPHA1)
        assert abs(got.mean[i] - expected.mean) < 1e-3 * expected.sd
        assert abs(got.sd[i] / expected.sd - 1) < 1e-3
        assert got.ess[i] == pytest.approx(expected.ess, rel=1e-3)
    assert np.all(np.abs(got.mean - plain.mean) > 0.005 * plain.sd)
    np.testing.assert_allclose(got.log_evidence, plain.log_evidence - 0.25, rtol=1e-5)


def test_selection_leaves_fixed_draws_alone(prior, relation, catalogue):
    got, plain = (
        mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", chunk_size=CHUNK, selection=s)
        for s in (ToySelection(3.0), NoSelection())
    )
    for name in ("mean", "sd", "mode", "quantiles", "ess", "edge_mass"):
        np.testing.assert_allclose(getattr(got, name), getattr(plain, name), rtol=1e-6, err_msg=name)
