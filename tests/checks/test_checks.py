"""prior_check and calibration_check: the PIT against adaptive quadrature from the raw table, and twins that must fail."""

import dataclasses
import warnings
from itertools import pairwise

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr
from legible import check_legible
from reference.tables import read_three_columns
from scipy.integrate import quad
from scipy.special import ndtr as scipy_ndtr
from statistical.universe import (
    NUM_KEYS,
    REFERENCE,
    SIGMA,
    TABLE,
    TRUTH,
    WRONG_KEYS,
    catalogue,
    package_prior,
    package_relation,
    posterior_of,
    report,
    simulate,
)

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.bins import bins_of_data
from massmap_jax.checks.calibration import calibration_check
from massmap_jax.checks.prior_check import _draws_for, prior_check
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, TabulatedSelection
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.law import MassLuminosityRelation

LEVEL = 0.01
# Float32, and Gauss-Legendre panels over kinks of the table.
PIT_ERROR = 3e-5
LN_LIMIT = 8.0


class SoftLimit(eqx.Module):
    """A user's own selection: p_det = Phi[(ln L_obs - limit) / 0.3], slowly but plainly normalised."""

    limit: float = LN_LIMIT

    def log_prob(self, ln_lum_obs, z):
        return jnp.log(ndtr((ln_lum_obs - self.limit) / 0.3))

    def log_norm(self, relation, prior, z, sigma):
        nodes = jnp.asarray(prior.ln_mass_nodes)
        density = jnp.exp(prior.ln_density_at(z))
        spread = jnp.sqrt(relation.scatter**2 + sigma**2 + 0.3**2)
        detected = ndtr((relation.mean_ln_lum(nodes, z) - self.limit) / spread)
        return jnp.log(jnp.trapezoid(density * detected, nodes))


class TwiceTooSmall(SoftLimit):
    def log_norm(self, relation, prior, z, sigma):
        return super().log_norm(relation, prior, z, sigma) - jnp.log(2.0)


def reference_cdf(ln_lum, sigma, z, relation=TRUTH):
    """P(ln L <= ln_lum | z) by adaptive quadrature over every cell of the raw table."""
    ln_mass, row = REFERENCE.ln_mass, REFERENCE.row(z)
    spread = np.hypot(relation.scatter, sigma)

    def integrand(m):
        return np.exp(np.interp(m, ln_mass, row)) * scipy_ndtr((ln_lum - relation.mean_ln_lum(m, z)) / spread)

    edges = ln_mass[::40]
    edges = np.append(edges, ln_mass[-1]) if edges[-1] < ln_mass[-1] else edges
    return sum(quad(integrand, a, b, epsabs=1e-9, epsrel=1e-7, limit=200)[0] for a, b in pairwise(edges))


def reference_detected(ln_lum, sigma, z, prob, from_=4.0):
    """The same within the detected: by parts, with the density of ln L as differences of the CDF on a fine grid."""
    grid = np.unique(np.concatenate([np.arange(from_, 13.0, 0.02), [ln_lum, LN_LIMIT - 1e-9, LN_LIMIT + 1e-9]]))
    weights = np.diff([reference_on_grid(x, sigma, z) for x in grid]) * prob(0.5 * (grid[1:] + grid[:-1]))
    return weights[grid[1:] <= ln_lum + 1e-12].sum() / weights.sum()


def reference_on_grid(ln_lum, sigma, z):
    fine = np.linspace(REFERENCE.ln_mass[0], REFERENCE.ln_mass[-1], 4091)
    density = np.exp(np.interp(fine, REFERENCE.ln_mass, REFERENCE.row(z)))
    spread = np.hypot(TRUTH.scatter, sigma)
    return np.trapezoid(density * scipy_ndtr((ln_lum - TRUTH.mean_ln_lum(fine, z)) / spread), fine)


OBJECTS = [(7.4, 0.05, 0.31), (8.3, 0.05, 1.38), (9.5, 0.3, 2.2), (10.9, 0.02, 0.9), (7.0, 0.6, 0.02)]


def check_of(objects, relation=None, **options):
    ln_lum, sigma, z = np.array(objects).T
    objects = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma)
    return prior_check(objects, package_prior(), relation or package_relation(), **options)


# -- the PIT ---------------------------------------------------------------------------------------------------


def test_pit_against_adaptive_quadrature():
    exact = [reference_cdf(*one) for one in OBJECTS]
    error = np.abs(check_of(OBJECTS).pit - exact)
    print("\nPIT", np.round(exact, 4), "largest error", error.max())
    assert error.max() < PIT_ERROR


def test_pit_is_averaged_over_draws_with_their_weights():
    alpha1, weights = TRUTH.alpha1 + np.array([-0.5, 0.0, 0.4]), np.array([0.2, 0.5, 0.3])
    relation = package_relation(alpha1=alpha1, log_weight=np.log(weights))
    exact = [sum(w * reference_cdf(x - a + TRUTH.alpha1, s, z) for a, w in zip(alpha1, weights)) for x, s, z in OBJECTS]
    np.testing.assert_allclose(check_of(OBJECTS, relation).pit, exact, atol=PIT_ERROR)


def test_many_draws_are_thinned_evenly_along_their_weights():
    alpha1 = np.linspace(-0.1, 0.1, 1000) + TRUTH.alpha1
    check = check_of(OBJECTS, package_relation(alpha1=alpha1))
    assert check.draws_used == 16
    np.testing.assert_allclose(check.pit, check_of(OBJECTS, package_relation(alpha1=alpha1[::67])).pit, atol=0.01)
    one = package_relation(alpha1=alpha1, log_weight=np.where(np.arange(1000) == 500, 0.0, -np.inf))
    exact = package_relation(alpha1=alpha1[500])
    np.testing.assert_allclose(check_of(OBJECTS, one).pit, check_of(OBJECTS, exact).pit, atol=1e-6)


def test_draws_of_a_selected_catalogue_are_as_many_as_are_cheap():
    """And the summary says where they are few."""
    assert [_draws_for(n) for n in (1, 1000, 1001, 2000, 2001, 10**6)] == [16, 16, 8, 8, 4, 4]
    alpha1 = np.linspace(-0.1, 0.1, 50) + TRUTH.alpha1
    check = check_of(BRIGHT, package_relation(alpha1=alpha1), selection=FluxLimit(np.exp(LN_LIMIT)))
    assert check.draws_used == 16 and "were compared" not in check.summary()
    few = dataclasses.replace(check, draws_used=4)
    assert "Only 4 draws of the relation were compared" in few.summary()


def test_pit_without_scatter_or_noise_is_the_prior_cdf():
    ln_mass, z = np.log([3e10, 2e11, 5e12, 4e13]), np.array([0.3, 1.1, 2.0, 0.7])
    objects = [(m, 0.0, one) for m, one in zip(ln_mass, z)]
    exact = [REFERENCE.cdf(m, one) for m, one in zip(ln_mass, z)]
    check = check_of(objects, MassLuminosityRelation.identity())
    np.testing.assert_allclose(check.pit, exact, atol=2e-3)


BRIGHT = [(8.01, 0.05, 0.31), (8.3, 0.05, 1.38), (9.5, 0.3, 2.2), (10.2, 0.1, 0.9)]


def test_pit_within_a_flux_limit_against_the_closed_form():
    exact = []
    for x, sigma, z in BRIGHT:
        below = reference_cdf(LN_LIMIT, sigma, z)
        exact.append((reference_cdf(x, sigma, z) - below) / (1 - below))
    error = np.abs(check_of(BRIGHT, selection=FluxLimit(np.exp(LN_LIMIT))).pit - exact)
    print("\nPIT", np.round(exact, 4), "largest error", error.max())
    assert error.max() < 3e-4


@pytest.mark.parametrize(("limit", "scatter", "sigma"), [(LN_LIMIT, 0.01, 0.02), (12.4, 0.157, 0.1)])
def test_pit_of_a_sharp_relation_and_of_a_limit_that_hardly_any_halo_passes(limit, scatter, sigma):
    """Nodes in ln L, beside an A that was integrated in another way, refused such a limit as a contradiction."""
    sharp = dataclasses.replace(TRUTH, scatter=scatter)
    objects = [(limit + x, sigma, 0.9) for x in (0.01, 0.06, 0.2)]
    fine = np.linspace(REFERENCE.ln_mass[0], REFERENCE.ln_mass[-1], 40_001)
    density, mean = np.exp(np.interp(fine, REFERENCE.ln_mass, REFERENCE.row(0.9))), sharp.mean_ln_lum(fine, 0.9)
    spread = np.hypot(scatter, sigma)
    lows = (limit, *(x for x, _, _ in objects))
    above = [np.trapezoid(density * scipy_ndtr((mean - low) / spread), fine) for low in lows]
    check = check_of(objects, package_relation(scatter=scatter), selection=FluxLimit(np.exp(limit)))
    np.testing.assert_allclose(check.pit, 1 - np.array(above[1:]) / above[0], atol=2e-3)


def test_pit_within_a_table_and_a_users_own_selection():
    ramp = TabulatedSelection([0.0], [7.5, 8.5], [[0.0, 1.0]])
    # A step among the objects, and one above all but the brightest, which nodes of a quadrature do not see.
    nodes, values = [7.0, 8.2, 8.201, 9.9, 9.901], [0.02, 0.05, 0.6, 0.4, 1.0]
    steps = TabulatedSelection([0.0], nodes, [values])
    for selection, prob in (
        (ramp, lambda x: np.clip(x - 7.5, 0, 1)),
        (steps, lambda x: np.interp(x, nodes, values)),
        (SoftLimit(), lambda x: scipy_ndtr((x - LN_LIMIT) / 0.3)),
    ):
        exact = [reference_detected(*one, prob) for one in BRIGHT]
        error = np.abs(check_of(BRIGHT, selection=selection).pit - exact)
        print(f"\n{type(selection).__name__}: PIT", np.round(exact, 4), "largest error", error.max())
        assert error.max() < 2e-3


def test_no_selection_is_none():
    np.testing.assert_array_equal(check_of(OBJECTS, selection=NoSelection()).pit, check_of(OBJECTS).pit)


# -- what it says ------------------------------------------------------------------------------------------------


CANNOT_SEE = "cannot see a wrong population or selection that the fit absorbed"


def test_a_fit_to_luminosities_alone_is_told_that_its_pass_is_no_proof():
    """Only there: not of a given relation, and not of one that was calibrated on measured masses."""
    rng = np.random.default_rng(4)
    ln_mass, z = rng.normal(32.5, 0.4, 60), rng.uniform(0.1, 0.5, 60)
    ln_lum = 1 + 0.8 * (ln_mass - np.log(3e14)) + 0.2 * rng.normal(size=60)
    objects = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.05)
    masses = CalibrationMasses.from_arrays(mass=np.exp(ln_mass + 0.2 * rng.normal(size=60)), sigma_ln_mass=0.2)
    beliefs = RelationPrior.parse("alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14")
    prior, normal = MassPrior.default(), Population.gaussian(drift=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = fit_relation(objects, prior, beliefs, num_draws=50)
        with_masses = fit_relation(objects, prior, beliefs, calibration=masses, population=normal, num_draws=50)
    for relation in (alone.draws, alone.maximum, alone.draws.draw(3)):
        check = prior_check(objects, prior, relation, level=1e-9)
        assert check.without_masses and check.fits and CANNOT_SEE in check.summary()
    given = MassLuminosityRelation.create(
        **{p: float(getattr(alone.maximum, p)) for p in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")},
        source="fitted to 60 lenses, by somebody",
    )
    for relation in (given, with_masses.draws, with_masses.maximum):
        check = prior_check(objects, prior, relation, level=1e-9)
        assert not check.without_masses and check.fits and "cannot see" not in check.summary()


def test_right_model_and_its_words():
    _, ln_lum, z = simulate(np.random.default_rng(1), 20_000)
    check = prior_check(catalogue(ln_lum, z), package_prior(), package_relation(), level=1e-5)
    print("\n" + check.summary())
    assert check.fits and "fits the observed luminosities" in check.summary()
    assert np.bincount(check.bin_index).tolist() == [5000] * 4
    assert abs(check.mean_pit - 0.5) < 5 / np.sqrt(12 * 20_000)


def test_a_brighter_catalogue_is_said_to_lie_higher():
    _, ln_lum, z = simulate(np.random.default_rng(2), 5000)
    for offset, word in ((0.1, "higher"), (-0.1, "lower")):
        check = prior_check(catalogue(ln_lum + offset, z), package_prior(), package_relation())
        assert not check.fits and f"luminosities lie {word} than predicted" in check.summary()
        assert (check.mean_pit > 0.5) == (offset > 0)
        assert "a selection that was left out" in check.summary()


def test_objects_that_the_selection_rules_out_are_counted():
    _, ln_lum, z = simulate(np.random.default_rng(3), 3000)
    check = prior_check(catalogue(ln_lum, z), package_prior(), package_relation(), selection=FluxLimit(np.exp(7.3)))
    assert check.impossible == (ln_lum < 7.3).sum() > 0
    assert not check.fits and "that the selection rules out" in check.summary()


@pytest.mark.slow
def test_prior_check_finds_mistakes_and_passes_the_right_model():
    number = 4000
    z_nodes, mass, density = TABLE
    cut = mass > 1.3 * mass[0]
    narrower = MassPrior.from_table(z_nodes, mass[cut], density[:, cut], per="mass")
    limit = 7.6

    def p_values(key):
        _, ln_lum, z = simulate(np.random.default_rng([key, 11]), number)
        bright = ln_lum > limit
        relation, prior = package_relation(), package_prior()
        field = catalogue(ln_lum[bright], z[bright])
        checks = {
            "right": prior_check(catalogue(ln_lum, z), prior, relation),
            "right, flux limit": prior_check(field, prior, relation, selection=FluxLimit(np.exp(limit))),
        }
        if key < WRONG_KEYS:
            _, ln_lum_wrong, z_wrong = simulate(np.random.default_rng([key, 12]), number, cell_width=False)
            checks |= {
                "masses without the cell width": prior_check(catalogue(ln_lum_wrong, z_wrong), prior, relation),
                "lowest mass 1.3 times too high": prior_check(catalogue(ln_lum, z), narrower, relation),
                "flux limit left out": prior_check(field, prior, relation),
                "alpha1 off by 0.03": prior_check(
                    catalogue(ln_lum, z), prior, package_relation(alpha1=TRUTH.alpha1 + 0.03)
                ),
            }
        return {name: check.p_value for name, check in checks.items()}

    p = [p_values(key) for key in range(NUM_KEYS)]
    right = [one[name] for one in p for name in ("right", "right, flux limit")]
    wrong = {name: [one[name] for one in p[:WRONG_KEYS]] for name in p[0] if not name.startswith("right")}
    false_alarms, power = report(f"prior_check of {number} objects, right: with and without limit", right, wrong, LEVEL)
    assert false_alarms <= 4  # of 40 at 0.01: p = 5e-5 for more
    assert min(power.values()) >= 0.99


# -- calibration -------------------------------------------------------------------------------------------------


def posteriors(rng, number, **mistake):
    ln_mass, ln_lum, z = simulate(rng, number, **mistake)
    return ln_mass, posterior_of(ln_lum, z, chunk_size=2000)  # a larger chunk would be mostly padding


@pytest.mark.slow
def test_calibration_check_finds_mistakes_and_passes_the_right_model():
    number = 8000

    def p_value(key, number=number, **mistake):
        ln_mass, posterior = posteriors(np.random.default_rng([key, 21]), number, **mistake)
        return calibration_check(posterior, ln_mass).p_value

    right = [p_value(key) for key in range(NUM_KEYS)]
    # the second is so large a mistake that fewer objects show it
    mistakes = {
        "scatter 10 % too small": {"scatter_factor": 0.9},
        "no cell width": {"cell_width": False, "number": 2000},
    }
    wrong = {name: [p_value(key, **mistake) for key in range(WRONG_KEYS)] for name, mistake in mistakes.items()}
    false_alarms, power = report(f"calibration_check of {number} objects", right, wrong, LEVEL)
    assert false_alarms <= 3  # of 20 at 0.01: p = 4e-5 for more
    assert min(power.values()) >= 0.99


def test_calibration_table_and_words():
    ln_mass, posterior = posteriors(np.random.default_rng(31), 9000)
    check = calibration_check(posterior, ln_mass, level=1e-5)
    print("\n" + check.summary())
    assert check.calibrated and "are calibrated" in check.summary()
    table = check.table()
    assert table["number"].tolist() == [9000] + [1000] * 9
    assert len({column.shape for column in table.values()}) == 1
    inside = (ln_mass > posterior.quantiles[:, 0]) & (ln_mass < posterior.quantiles[:, 4])
    assert table["coverage_95"][0] == pytest.approx(inside.mean(), abs=2e-4)
    assert table["coverage_68_error"][1] == pytest.approx(np.sqrt(0.68 * 0.32 / 1000))
    wrong = calibration_check(posterior, ln_mass + 0.2)
    assert not wrong.calibrated and "true masses lie higher" in wrong.summary()


def test_shared_relation_is_said():
    ln_mass, ln_lum, z = simulate(np.random.default_rng(32), 400)
    relation = package_relation(alpha1=TRUTH.alpha1 + np.array([-0.05, 0.05]))
    check = calibration_check(posterior_of(ln_lum, z, relation, relation_from="fixed_draws"), ln_mass)
    assert check.shared_relation and "common to all objects" in check.summary()


def test_truth_from_the_catalogue_and_rows_without_one():
    ln_mass, ln_lum, z = simulate(np.random.default_rng(33), 300)
    mass, lum = np.exp(ln_mass), np.exp(ln_lum)
    mass[5], lum[7] = np.nan, -99.0
    objects = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=SIGMA, truth_mass=mass)
    check = calibration_check(mass_posterior(objects, package_prior(), package_relation()))
    assert np.flatnonzero(np.isnan(check.pit)).tolist() == [5, 7]
    assert check.number[0] == 298 and check.number.size == 5
    again = prior_check(objects, package_prior(), package_relation())
    assert np.flatnonzero(np.isnan(again.pit)).tolist() == [7]
    assert again.bin_index[7] == -1


def test_bins_are_of_the_data():
    z, lum = np.array([0.1, 0.9, 0.2, 0.8]), np.array([5.0, 1.0, 3.0, 7.0])
    assert bins_of_data(z, lum, 2).tolist() == [1, 2, 0, 3]


# -- bad input ---------------------------------------------------------------------------------------------------


def test_one_halo():
    check = check_of(OBJECTS[:1])
    assert check.fits and check.p_bins.size == 1 and np.isfinite(check.pit).all()
    posterior = posterior_of(np.array([8.0]), np.array([0.5]))
    one = calibration_check(posterior, posterior.median)
    assert one.number.tolist() == [1, 1] and one.calibrated
    for figure in (check.figure(), one.figure()):
        check_legible(figure)


def test_no_usable_row():
    bad = HaloCatalogue.from_arrays(luminosity=[-99.0, np.nan], redshift=[0.5, 0.6], sigma_ln_luminosity=0.05)
    with pytest.raises(MassmapError, match="no usable row"):
        prior_check(bad, package_prior(), package_relation())
    limits = HaloCatalogue.from_arrays(
        luminosity=[10.0, 20.0], redshift=[0.5, 0.6], sigma_ln_luminosity=0.05, noise_kind="upper_limit"
    )
    with pytest.raises(MassmapError, match="none of 2 rows has a measured luminosity"):
        prior_check(limits, package_prior(), package_relation())


def test_no_truth():
    posterior = posterior_of(np.array([8.0, 8.1]), np.array([0.5, 0.6]))
    with pytest.raises(MassmapError, match="no true masses"):
        calibration_check(posterior)
    with pytest.raises(MassmapError, match="2 of 2 rows have a posterior and 0 a true mass"):
        calibration_check(posterior, [np.nan, np.nan])
    with pytest.raises(MassmapError, match="one value per row"):
        calibration_check(posterior, [28.0])
    with pytest.raises(MassmapError, match="number of bins"):
        calibration_check(posterior, posterior.median, bins=0)
    with pytest.raises(MassmapError, match="level is 2"):
        calibration_check(posterior, posterior.median, level=2)


def test_a_selection_that_contradicts_itself():
    with pytest.raises(MassmapError, match="log_norm is too small"):
        check_of([(7.0, 0.05, 0.5)], selection=TwiceTooSmall())


# -- figures -----------------------------------------------------------------------------------------------------


def test_figures(tmp_path):
    ln_mass, ln_lum, z = simulate(np.random.default_rng(41), 2000)
    check = calibration_check(posterior_of(ln_lum, z), ln_mass)
    figure = check.figure()
    figure.savefig(tmp_path / "calibration.png")
    assert len(figure.axes) == 2 + 9
    check_legible(figure)
    figure = prior_check(catalogue(ln_lum, z), package_prior(), package_relation()).figure()
    figure.savefig(tmp_path / "prior.png")
    assert len(figure.axes) == 1 + 4
    check_legible(figure)


# -- the public light cone -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light_cone(public_data):
    rows = np.loadtxt(public_data / "bigmali" / "mock_data.txt")
    objects = HaloCatalogue.from_arrays(luminosity=rows[:, 1], redshift=rows[:, 0], sigma_ln_luminosity=0.05)
    relation = MassLuminosityRelation.create(
        alpha1=10.7478, alpha2=0.3626, alpha3=2.35e14, alpha4=1.1587, scatter=0.157
    )
    return objects, relation, read_three_columns(public_data / "bigmali" / "massprior.txt")


def light_cone_check(light_cone, mass_factor, wrong_density):
    objects, relation, (z, mass, density) = light_cone
    density = density if wrong_density else density / mass
    prior = MassPrior.from_table(z, mass * mass_factor, density, per="mass", snap="upper", support="sharp")
    check = prior_check(objects, prior, relation)
    print("\n" + check.summary())
    return check


def test_the_light_cone_of_2017_fits_the_density_that_it_was_drawn_from(light_cone):
    """Its sampler inverted a cumulative sum of dn/dM: a cell has the density of its *upper* node divided by M, and
    the first node's share sits on the lowest mass. So masses are lower than p(M)/M says by one cell of the table."""
    mass = light_cone[2][1]
    check = light_cone_check(light_cone, mass[0] / mass[1], wrong_density=False)
    assert check.fits
    off_by_a_cell = light_cone_check(light_cone, 1.0, wrong_density=False)
    assert not off_by_a_cell.fits
    assert off_by_a_cell.mean_pit == pytest.approx(0.491, abs=0.002)
    assert abs(off_by_a_cell.largest_difference) < 0.02


def test_the_light_cone_of_2017_does_not_fit_the_nominal_density(light_cone):
    check = light_cone_check(light_cone, 1.0, wrong_density=True)
    assert not check.fits and check.p_value < 1e-12
    assert check.mean_pit == pytest.approx(0.354, abs=0.01)
    assert "p(M) against p(M)/M" in check.summary()
