"""The references against each other: closed form against adaptive quadrature, and the 2017 loop against both."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from reference.posterior_reference import (
    Mixture,
    Relation,
    SingleDraw,
    SingleDrawByQuadrature,
    grid_estimator_2017,
    log_normal_interval,
)
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

REDSHIFT, MASS, DENSITY = schechter_table()
PRIOR = PriorReference(REDSHIFT, MASS, DENSITY, per="mass")

# (L_obs, sigma, z, relation): usual, bright, faint below the table, sharp, no scatter, ln E evolution, steep slope
OBJECTS = {
    "usual": (4300.0, 0.05, 1.38, Relation()),
    "bright": (49_800.0, 0.05, 0.41, Relation()),
    "brighter than the table": (2.0e5, 0.05, 2.9, Relation()),
    "faint": (890.0, 0.05, 0.2, Relation()),
    "fainter than the table": (400.0, 0.3, 3.1, Relation()),
    "on a node": (5000.0, 0.05, REDSHIFT[7], Relation()),
    "no scatter": (5000.0, 0.02, 1.0, Relation(scatter=0.0)),
    "narrower than a cell": (5000.0, 0.001, 1.0, Relation(scatter=0.0)),
    "wide": (5000.0, 0.8, 1.0, Relation()),
    "identity": (3e12, 0.2, 0.6, Relation(alpha1=0.0, alpha2=1.0, alpha3=1.0, alpha4=0.0, scatter=0.0)),
    "E(z)": (5000.0, 0.05, 1.0, Relation(alpha4=1.5, evolution="E", omega_m=0.25)),
}


def integral_of_prior(prior, z, upper=None):
    nodes = prior.ln_mass if upper is None else np.append(prior.ln_mass[prior.ln_mass < upper], upper)
    row = prior.row(z)
    return sum(
        quad(lambda m: np.exp(np.interp(m, prior.ln_mass, row)), a, b, epsrel=1e-12)[0] for a, b in pairwise(nodes)
    )


@pytest.mark.parametrize("z", [0.0, 1.7, 3.5])
def test_prior_is_normalised_and_its_cdf_is_its_integral(z):
    assert integral_of_prior(PRIOR, z) == pytest.approx(1.0, abs=1e-10)
    for m in (24.0, 27.01, 31.9):
        assert PRIOR.cdf(m, z) == pytest.approx(integral_of_prior(PRIOR, z, m), abs=1e-10)
    for level in (1e-6, 0.2, 0.999, 1 - 1e-9):
        assert PRIOR.cdf(PRIOR.quantile(level, z), z) == pytest.approx(level, abs=1e-14)


def test_prior_interpolates_in_log_and_ignores_the_normalisation_of_a_node():
    scaled = PriorReference(REDSHIFT, MASS, DENSITY * np.geomspace(1, 1e6, REDSHIFT.size)[:, None], per="mass")
    np.testing.assert_allclose(scaled.row(1.23), PRIOR.row(1.23), atol=1e-12)
    np.testing.assert_allclose(
        PRIOR.row(REDSHIFT[4]), np.log(DENSITY[4] * MASS) - PRIOR.ln_density[4] + PRIOR.row(REDSHIFT[4]), atol=1e-12
    )
    half = PRIOR.row(0.5 * (REDSHIFT[3] + REDSHIFT[4]))
    mean = 0.5 * (PRIOR.ln_density[3] + PRIOR.ln_density[4])
    assert np.ptp(half - mean) < 1e-12


@pytest.mark.parametrize("per, factor", [("ln_mass", 1.0), ("log10_mass", np.log(10.0))])
def test_prior_does_not_depend_on_the_unit_of_the_density(per, factor):
    other = PriorReference(REDSHIFT, MASS, DENSITY * MASS * factor, per=per)
    np.testing.assert_allclose(other.row(0.9), PRIOR.row(0.9), atol=1e-12)


def test_snap_takes_the_next_node_up():
    snapped = PriorReference(REDSHIFT, MASS, DENSITY, per="mass", snap="upper")
    np.testing.assert_array_equal(snapped.row(REDSHIFT[3] + 0.01), PRIOR.row(REDSHIFT[4]))
    np.testing.assert_array_equal(snapped.row(REDSHIFT[3]), PRIOR.row(REDSHIFT[3]))
    np.testing.assert_array_equal(snapped.row(0.0), PRIOR.row(0.0))


@pytest.mark.parametrize(
    "low, high", [(-1.0, 2.0), (-9.0, -8.99), (8.99, 9.0), (37.0, 37.1), (-0.01, 0.01), (0.0, 40.0)]
)
def test_log_normal_interval_against_high_precision(low, high):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(400):
        exact = float(mpmath.log(mpmath.ncdf(mpmath.mpf(high)) - mpmath.ncdf(mpmath.mpf(low))))
    assert log_normal_interval(low, high) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("name", OBJECTS)
def test_cells_agree_with_quadrature(name):
    lum_obs, sigma, z, relation = OBJECTS[name]
    cells = SingleDraw(PRIOR, np.log(lum_obs), sigma, z, relation)
    slow = SingleDrawByQuadrature(PRIOR, np.log(lum_obs), sigma, z, relation)
    assert cells.log_evidence == pytest.approx(slow.log_evidence, abs=1e-8)
    assert cells.mean == pytest.approx(slow.mean, abs=1e-8 * slow.sd)
    assert cells.sd == pytest.approx(slow.sd, rel=1e-8)
    assert cells.mode == pytest.approx(slow.mode, abs=1e-6)
    assert cells.information_bits == pytest.approx(slow.information_bits, abs=1e-8)
    assert cells.edge_mass == pytest.approx(slow.edge_mass, rel=1e-7, abs=1e-12)
    for level in (0.001, 0.16, 0.5, 0.84, 0.999):
        m = cells.quantile(level)
        assert cells.cdf(m) == pytest.approx(level, abs=1e-9)
        assert slow.cdf(m) == pytest.approx(level, abs=1e-8)
    m = np.linspace(slow.mode - 3 * slow.sd, slow.mode + 3 * slow.sd, 7)
    np.testing.assert_allclose(
        cells.log_pdf(m),
        slow._ln_joint(m) - slow.log_evidence + np.where((m < PRIOR.ln_mass[0]) | (m > PRIOR.ln_mass[-1]), -np.inf, 0),
        atol=1e-8,
    )


def test_mixture_of_one_draw_is_that_draw():
    one = SingleDraw(PRIOR, np.log(4300.0), 0.05, 1.38, Relation())
    for relation_from in ("this_catalogue", "other_data", "fixed_draws"):
        mixed = Mixture(PRIOR, np.log(4300.0), 0.05, 1.38, [Relation()], relation_from)
        for name in ("mean", "sd", "mode", "log_evidence", "edge_mass", "information_bits", "median"):
            assert getattr(mixed, name) == pytest.approx(getattr(one, name), abs=1e-8), name
        assert mixed.ess == pytest.approx(1.0)


def test_mixture_weights_against_their_definition():
    relations = [Relation(alpha1=a) for a in (10.2, 10.7, 11.3)]
    log_weight = np.log([0.5, 0.2, 0.3])
    ln_z = np.array([SingleDraw(PRIOR, np.log(4300.0), 0.05, 1.38, r).log_evidence for r in relations])
    for relation_from, weight in (
        ("this_catalogue", np.exp(log_weight)),
        ("fixed_draws", np.exp(log_weight)),
        ("other_data", np.exp(log_weight + ln_z) / np.exp(log_weight + ln_z).sum()),
    ):
        # 7 is an arbitrary constant: log weights are known up to one
        mixed = Mixture(PRIOR, np.log(4300.0), 0.05, 1.38, relations, relation_from, log_weight + 7)
        np.testing.assert_allclose(mixed.weight, weight, rtol=1e-10)
        assert mixed.log_evidence == pytest.approx(np.log(np.exp(log_weight) @ np.exp(ln_z)))

        def moment(power, mixed=mixed):
            return sum(
                quad(lambda m: m**power * np.exp(mixed.log_pdf(m)), a, b, epsrel=1e-10)[0]
                for a, b in zip(PRIOR.ln_mass[::4], np.append(PRIOR.ln_mass[4::4], PRIOR.ln_mass[-1]))
            )

        assert moment(0) == pytest.approx(1.0, abs=1e-8)
        assert moment(1) == pytest.approx(mixed.mean, abs=1e-7)
        assert np.sqrt(moment(2) - mixed.mean**2) == pytest.approx(mixed.sd, abs=1e-6)
        assert mixed.cdf(mixed.quantile(0.3)) == pytest.approx(0.3, abs=1e-9)


def test_the_2017_loop_converges_to_the_other_data_mixture():
    # S = 0.155 against sigma = 0.3: the average over drawn luminosities is then well behaved
    relations = [Relation(alpha1=a) for a in (10.65, 10.75)]
    exact = Mixture(PRIOR, np.log(4300.0), 0.3, 1.38, relations, "other_data")
    loop = grid_estimator_2017(np.random.default_rng(1), PRIOR, 4300.0, 0.3, 1.38, relations, num_lum=2000)
    mean = np.trapezoid(loop * PRIOR.ln_mass, PRIOR.ln_mass)
    sd = np.sqrt(np.trapezoid(loop * (PRIOR.ln_mass - mean) ** 2, PRIOR.ln_mass))
    assert mean == pytest.approx(exact.mean, abs=0.01 * exact.sd)
    assert sd == pytest.approx(exact.sd, rel=0.01)


def test_samples_follow_the_cdf_and_the_mistake_does_not():
    rng = np.random.default_rng(2)
    z = np.full(100_000, 1.1)
    right = np.sort(PRIOR.cdf(PRIOR.sample(rng, z), 1.1))
    wrong = np.sort(PRIOR.cdf(PRIOR.sample_without_cell_width(rng, z), 1.1))
    ladder = (np.arange(z.size) + 0.5) / z.size
    assert np.abs(right - ladder).max() < 2.47 / np.sqrt(z.size)  # KS: p = 1e-5
    assert np.abs(wrong - ladder).max() > 0.2
