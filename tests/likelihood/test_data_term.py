"""Data terms in ln M, and the seams: terms that add, redshift nodes, selection."""

import equinox as eqx
import jax
import numpy as np
import pytest
from reference.posterior_reference import Mixture, Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.redshifts import RedshiftNodes
from massmap_jax.likelihood.selection import NoSelection, described
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


NODES = np.linspace(28.0, 34.0, 13)


def gumbel(x):
    """ln of a skewed density, 0.38 wide."""
    return (x - 31.0) / 0.3 - np.exp((x - 31.0) / 0.3)


def test_a_tabulated_parabola_is_exact_between_its_nodes():
    """It was linear until fits needed the second derivative in a shift of ln M: then 0.03 off at the middle here."""
    term = TabulatedTerm(NODES, -0.5 * ((NODES - 31.1) / 0.7) ** 2)
    grid = np.linspace(28.0, 34.0, 301)
    np.testing.assert_allclose(term(grid), -0.5 * ((grid - 31.1) / 0.7) ** 2, atol=1e-5)


def test_a_tabulated_term_falls_with_its_last_slope_and_never_rises_beyond_its_nodes():
    nodes = np.array([28.0, 29.0, 30.0, 31.0])
    falling, rising = TabulatedTerm(nodes, -((nodes - 30.0) ** 2)), TabulatedTerm(nodes, 2.0 * nodes)
    np.testing.assert_allclose(falling(np.array([27.0, 33.0])), [-8.0, -5.0], atol=1e-5)
    np.testing.assert_allclose(rising(np.array([27.0, 28.5, 33.0])), [54.0, 57.0, 62.0], atol=1e-5)


@pytest.mark.parametrize(("step_dex", "error"), [(0.04, 2e-5), (0.1, 5e-4)])
def test_error_of_the_spline_in_standard_deviations(step_dex, error):
    """A skewed likelihood, 0.3 wide in ln M, times a flat prior: mean and sd against a fine grid of the function."""

    nodes = np.arange(27.0, 33.5, step_dex * np.log(10))
    grid = np.linspace(27.5, 33.0, 20_001)
    with jax.enable_x64(True):
        spline = np.asarray(TabulatedTerm(nodes, gumbel(nodes))(grid))
    (mean, sd), (true_mean, true_sd) = (moments(np.exp(f), grid) for f in (spline, gumbel(grid)))
    assert abs(mean - true_mean) < error * true_sd and abs(sd / true_sd - 1) < error
    linear_mean, linear_sd = moments(np.exp(np.interp(grid, nodes, gumbel(nodes))), grid)
    found = max(abs(mean - true_mean) / true_sd, abs(sd / true_sd - 1))
    assert max(abs(linear_mean - true_mean) / true_sd, abs(linear_sd / true_sd - 1)) > 3 * found


def test_second_derivative_in_a_common_shift():
    term = TabulatedTerm(NODES, -0.5 * ((NODES - 31.1) / 0.7) ** 2)
    with jax.enable_x64(True):
        curvature = jax.vmap(jax.grad(jax.grad(lambda x, b: term(x + b), 1), 1), (0, None))(
            np.linspace(28.0, 34.0, 50)[1:-1], 0.0
        )
    np.testing.assert_allclose(curvature, -1 / 0.49, rtol=1e-6)


def test_rows_without_a_measurement_say_nothing():
    term = TabulatedTerm(NODES, np.stack([np.full(13, np.nan), np.zeros(13), -((NODES - 31) ** 2)]))
    assert term.informs.tolist() == [False, False, True]
    assert float(term.take([0]).log_likelihood.max()) == 0.0


@pytest.mark.parametrize(
    ("nodes", "values", "told"),
    [
        ([30.0], [0.0], "two or more"),
        ([30.0, 31.0, 31.0], np.zeros(3), "1 of 3 mass nodes .* first node 2: 31"),
        ([30.0, np.nan, 31.0], np.zeros(3), "do not increase, first node 1: nan"),
        ([30.0, 31.0], np.zeros((4, 3)), r"2 mass nodes and values of shape \(4, 3\)"),
        (
            NODES,
            np.where(NODES < 31.2, 0.0, -50.0),
            "1 of 1 objects changes too fast .* first row 0, near ln M = 30.25",
        ),
        (NODES, gumbel(NODES), "too fast for its mass nodes"),
        ([12.0, 13.0, 14.0], np.zeros(3), "go from 12 to 14, .* neither log10 M nor M"),
        ([1e12, 1e13, 1e14], np.zeros(3), "neither log10 M nor M"),
        ([30.0, 31.0, 32.0, 33.0], [9.0, 0.0, 4.0, 16.0], "lowest at ln M = 31: 0; these are -ln L or chi.2"),
        ([30.0, 31.0, 32.0, 33.0], [0.0, 0.9, 0.1, 0.0], "these are likelihoods, so give their natural logarithms"),
        ([30.0, 31.0], [[0.0, 0.0], [0.0, -np.inf], [0.0, np.nan]], "2 of 3 objects .* first row 1"),
    ],
)
def test_tables_that_are_none_are_refused(nodes, values, told):
    with pytest.raises(MassmapError, match=told):
        TabulatedTerm(np.array(nodes), np.array(values))


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


def two_redshifts(catalogue, rows, prior, number=None, selection=None):
    """Stand-in for the nodes of an uncertain redshift: z and z + 0.3, weighing 0.7 and 0.3."""
    z = np.stack([catalogue.redshift[rows], catalogue.redshift[rows] + 0.3], axis=1)
    return RedshiftNodes(z, np.log(np.tile([0.7, 0.3], (z.shape[0], 1))), np.zeros_like(z))


@pytest.mark.parametrize("relation_from", ["fixed_draws", "other_data"])
def test_redshift_nodes_are_mixed_by_their_weights(prior, reference, relation, relation_from, monkeypatch):
    monkeypatch.setattr("massmap_jax.likelihood.objects.place", two_redshifts)
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA)
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


def test_a_selection_that_does_not_describe_itself_is_named_by_its_class():
    assert [described(s) for s in (ToySelection(3.0), NoSelection(), None)] == ["ToySelection", "none", "none"]


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
