"""Simulated fields against the raw table, the relation's formula and plain NumPy."""

from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import kstest

import massmap_jax
import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.published import published_relation
from massmap_jax.simulate import _places_in_lognormal, simulate_field

NUM = 20_000
TABLE = Path(massmap_jax.__file__).parent / "data" / "tinker10_planck18_200m.npz"


@pytest.fixture(scope="module")
def field():
    return simulate_field(jax.random.key(5), NUM, centre=None)


@pytest.fixture(scope="module")
def table():
    with np.load(TABLE) as file:
        return dict(file)


def pit_from_table(table, ln_mass, z, power=0.0):
    """CDF at ln_mass of density x M^power: trapezia on a fine grid, ln density linear in ln M and z; plain NumPy."""
    nodes, ln_m = table["redshift"], np.log(table["mass"])
    ln_density = np.log(table["density"])
    fine = np.linspace(ln_m[0], ln_m[-1], 3001)
    result = np.empty(z.size)
    for i in range(z.size):
        j = np.clip(np.searchsorted(nodes, z[i]) - 1, 0, nodes.size - 2)
        t = (z[i] - nodes[j]) / (nodes[j + 1] - nodes[j])
        row = np.interp(fine, ln_m, (1 - t) * ln_density[j] + t * ln_density[j + 1]) + power * fine
        p = np.exp(row - row.max())
        cdf = np.concatenate([[0], np.cumsum(p[1:] + p[:-1])])
        result[i] = np.interp(ln_mass[i], fine, cdf / cdf[-1])
    return result


def test_counts_ids_and_truth_beside_the_data(field):
    catalogue = field.catalogue
    assert len(catalogue) == field.num_halos == NUM
    assert catalogue.ids.dtype == np.int64 and np.array_equal(catalogue.ids, np.arange(NUM))
    assert np.all(catalogue.flag == 0) and catalogue.usable.all()
    assert catalogue.truth_ln_mass.shape == field.ln_lum_true.shape == (NUM,)
    assert catalogue.lum_unit == field.relation.lum_unit


def test_redshifts_follow_the_default_density(field, table):
    keep = table["dndz_z"] <= 3.5
    z, dndz = table["dndz_z"][keep], table["dndz"][keep]
    cdf = np.concatenate([[0], np.cumsum(np.diff(z) * (dndz[1:] + dndz[:-1]))])
    fine = np.linspace(0, 3.5, 5001)  # linear dN/dz makes the CDF a parabola between nodes
    fine_cdf = np.concatenate([[0], np.cumsum(np.diff(fine) * np.convolve(np.interp(fine, z, dndz), [1, 1], "valid"))])
    assert cdf[-1] == pytest.approx(fine_cdf[-1], rel=1e-6)
    observed = field.catalogue.redshift
    assert observed.min() > 0 and observed.max() <= 3.5
    assert kstest(observed, lambda x: np.interp(x, fine, fine_cdf / fine_cdf[-1])).pvalue > 1e-5
    assert kstest(observed * 1.03, lambda x: np.interp(x, fine, fine_cdf / fine_cdf[-1])).pvalue < 1e-5


def test_redshifts_follow_a_given_density():
    z = simulate_field(jax.random.key(2), NUM, redshift=([0.5, 1.5], [0.0, 7.0]), centre=None).catalogue.redshift
    assert kstest(z, lambda x: np.clip(x - 0.5, 0, 1) ** 2).pvalue > 1e-5


def test_masses_follow_the_table(field, table):
    rows = slice(0, 4000)
    ln_mass, z = field.catalogue.truth_ln_mass[rows], field.catalogue.redshift[rows]
    assert kstest(pit_from_table(table, ln_mass, z), "uniform").pvalue > 1e-5
    # The density without the cell width is p(M) / M on a log grid: it must be refused.
    assert kstest(pit_from_table(table, ln_mass, z, power=-1.0), "uniform").pvalue < 1e-10


def test_masses_are_uniform_in_the_prior_cdf(field):
    pit = np.asarray(field.prior.cdf(field.catalogue.truth_ln_mass, field.catalogue.redshift))
    assert kstest(pit, "uniform").pvalue > 1e-5


def test_scatter_about_the_relation(field):
    catalogue = field.catalogue
    mean = 10.709 + 0.359 * (catalogue.truth_ln_mass - np.log(2.35e14)) + 1.10 * np.log1p(catalogue.redshift)
    assert kstest((field.ln_lum_true - mean) / 0.155, "norm").pvalue > 1e-5
    assert kstest((field.ln_lum_true - mean) / (1.1 * 0.155), "norm").pvalue < 1e-5


def test_noise_width_scalar_and_per_object(field):
    noise = field.catalogue.ln_lum_obs - field.ln_lum_true
    assert kstest(noise / 0.05, "norm").pvalue > 1e-5
    assert np.all(field.catalogue.sigma_ln_lum == 0.05)
    sigma = np.linspace(0.0, 0.4, 5000)
    other = simulate_field(jax.random.key(8), 5000, sigma_ln_lum=sigma, centre=None)
    noise = other.catalogue.ln_lum_obs - other.ln_lum_true
    assert noise[0] == pytest.approx(0, abs=1e-12)
    assert kstest(noise[1:] / sigma[1:], "norm").pvalue > 1e-5


def num_pairs(field, radius=1.0):
    return cKDTree(np.column_stack([field.catalogue.ra, field.catalogue.dec])).count_neighbors(
        cKDTree(np.column_stack([field.catalogue.ra, field.catalogue.dec])), radius
    )


def test_positions_are_clustered_inside_the_field(field):
    x, y = field.catalogue.ra, field.catalogue.dec
    assert max(np.abs(x).max(), np.abs(y).max()) <= 20.0
    poisson = np.random.default_rng(0).uniform(-20, 20, (NUM, 2))
    expected = cKDTree(poisson).count_neighbors(cKDTree(poisson), 1.0)
    assert num_pairs(field) > 1.03 * expected
    unclustered = simulate_field(jax.random.key(5), NUM, centre=None, cluster_scale_mpc=1e4)
    assert num_pairs(unclustered) == pytest.approx(expected, rel=0.02)
    assert kstest(unclustered.catalogue.ra, "uniform", args=(-20, 40)).pvalue > 1e-5


def test_cluster_scale_is_comoving():
    from astropy.cosmology import Planck18

    field = simulate_field(
        jax.random.key(1), 4000, side_arcmin=300, redshift=([0.999, 1.001], [1, 1]), centre=None,
        cluster_scale_mpc=3.0, halos_per_cluster=4000,
    )  # fmt: skip
    arcmin = np.rad2deg(3.0 / Planck18.comoving_distance(1.0).value) * 60
    assert np.std(field.catalogue.ra) == pytest.approx(arcmin, rel=0.04)
    assert np.std(field.catalogue.dec) == pytest.approx(arcmin, rel=0.04)


def test_masses_are_independent_of_the_clustering(field):
    tree = cKDTree(np.column_stack([field.catalogue.ra, field.catalogue.dec]))
    neighbours = tree.query_ball_point(tree.data, 1.0, return_length=True)
    pit = np.asarray(field.prior.cdf(field.catalogue.truth_ln_mass, field.catalogue.redshift))
    assert abs(np.corrcoef(neighbours, pit)[0, 1]) < 5 / np.sqrt(NUM)


# -- large-scale structure ------------------------------------------------------------------------------------


def test_lognormal_positions_leave_all_else_as_it_is():
    plain, named, other = (
        simulate_field(jax.random.key(6), 300, z_max=0.5, **options)
        for options in ({}, {"clustering": "thomas"}, {"clustering": "lognormal"})
    )
    for name in ("redshift", "ln_lum_obs", "truth_ln_mass", "sigma_ln_lum", "ids"):
        for one in (named, other):
            assert np.array_equal(getattr(plain.catalogue, name), getattr(one.catalogue, name))
    assert np.array_equal(plain.catalogue.ra, named.catalogue.ra)
    assert not np.any(plain.catalogue.ra == other.catalogue.ra)
    again = simulate_field(jax.random.key(6), 300, z_max=0.5, clustering="lognormal")
    assert np.array_equal(other.catalogue.ra, again.catalogue.ra)
    # What a field of this key was before there was a choice.
    np.testing.assert_allclose(simulate_field(jax.random.key(6), 300).catalogue.ra[:3], FROZEN_RA, rtol=1e-7)


FROZEN_RA = [150.07550563785546, 149.70996972524435, 149.7471628823815]
SHELL, SIDE = (0.97, 1.03), 300.0
ARCMIN = np.array([8.0, 14.0, 22.0, 35.0])


def pairs_in_excess(tree, random):
    """DD / RR - 1 in bins of angle, of all pairs."""
    found, expected = (np.diff(one.count_neighbors(one, ARCMIN).astype(float)) for one in (tree, random))
    return found / expected * (random.n / tree.n) ** 2 - 1


def expected_excess():
    """The same from the power spectrum: xi averaged over the depths of pairs, less its mean over the field."""
    from astropy.cosmology import Planck18

    from massmap_jax.halo.abundance import CosmologyParameters

    ln_k = np.linspace(np.log(1e-5), np.log(60.0), 20_000)
    k = np.exp(ln_k)
    power = np.exp(np.asarray(jax.jit(lambda k: CosmologyParameters.of("Planck18").ln_power(k))(k), np.float64))
    near, far = Planck18.comoving_distance(SHELL).value
    apart = np.geomspace(0.3, 300.0, 300)
    weight = k**3 * power * np.exp(-((0.1 * k) ** 2)) / (2 * np.pi**2)
    xi = np.array([np.trapezoid(weight * np.sinc(k * r / np.pi), ln_k) for r in apart])
    depth = np.linspace(0, far - near, 400)

    def mean_xi(arcmin):
        """Depths apart are triangular, as redshifts are uniform in a thin shell."""
        across = np.deg2rad(np.asarray(arcmin) / 60) * (near + far) / 2
        values = np.interp(np.hypot(across[:, None], depth), apart, xi)
        return np.trapezoid(values * (1 - depth / (far - near)) * 2 / (far - near), depth, axis=1)

    x, y = np.random.default_rng(0).uniform(-SIDE / 2, SIDE / 2, (2, 20_000, 2)).transpose(0, 2, 1)
    field_mean = np.mean(mean_xi(np.maximum(np.hypot(x[0] - x[1], y[0] - y[1]), 0.3)))
    fine = [np.sqrt(np.linspace(low**2, high**2, 20)) for low, high in pairwise(ARCMIN)]  # as many pairs in each step
    return np.array([mean_xi(angles).mean() for angles in fine]) - field_mean


def test_lognormal_places_have_the_correlation_of_the_power_spectrum():
    """In a wide field: in a narrow one, that a redshift holds as many objects as without structure counts for more."""
    random = cKDTree(np.random.default_rng(1).uniform(-SIDE / 2, SIDE / 2, (20_000, 2)))

    def excess(x, y):
        return pairs_in_excess(cKDTree(np.column_stack([x, y])), random)

    z = np.random.default_rng(2).uniform(*SHELL, (6, 8000))
    found = np.array([excess(*_places_in_lognormal(jax.random.key(k), one, SIDE)) for k, one in enumerate(z)])
    expected, error = expected_excess(), found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * error + 0.1 * expected)
    assert found.mean(axis=0)[0] > 5 * error[0]
    # The twin: places without structure.
    uniform = excess(*np.random.default_rng(3).uniform(-SIDE / 2, SIDE / 2, (2, 8000)))
    assert uniform[0] < (0.9 * expected - 4 * error)[0]


def test_sky_positions_surround_the_centre():
    for ra, dec in [(0.0, 0.0), (150.0, 2.2), (30.0, 89.9)]:
        catalogue = simulate_field(jax.random.key(3), 2000, centre=(ra, dec)).catalogue
        assert catalogue.frame == "sky"
        assert np.all((catalogue.ra >= 0) & (catalogue.ra < 360))
        a, d, d0 = np.deg2rad(catalogue.ra - ra), np.deg2rad(catalogue.dec), np.deg2rad(dec)
        distance = np.arccos(np.clip(np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(a), -1, 1))
        assert np.rad2deg(distance).max() * 60 <= 20 * np.sqrt(2) + 0.01
        assert np.rad2deg(distance).max() * 60 > 20


def test_flux_limit_keeps_ids_and_objects():
    whole = simulate_field(jax.random.key(4), 3000)
    limit = float(np.exp(np.median(whole.catalogue.ln_lum_obs)))
    cut = simulate_field(jax.random.key(4), 3000, flux_limit=limit)
    assert cut.num_halos == 3000 and cut.flux_limit == limit
    assert 1499 <= len(cut.catalogue) <= 1501
    assert np.all(cut.catalogue.ln_lum_obs >= np.log(limit) - 1e-12)
    kept = cut.catalogue.ids
    assert np.array_equal(cut.catalogue.truth_ln_mass, whole.catalogue.truth_ln_mass[kept])
    assert np.array_equal(cut.ln_lum_true, whole.ln_lum_true[kept])
    assert np.array_equal(kept, np.flatnonzero(whole.catalogue.ln_lum_obs >= np.log(limit)))


def test_same_key_same_field():
    one, two, other = (simulate_field(jax.random.key(k), 500) for k in (9, 9, 10))
    for name in ("ra", "dec", "redshift", "ln_lum_obs", "truth_ln_mass"):
        assert np.array_equal(getattr(one.catalogue, name), getattr(two.catalogue, name))
        assert not np.any(getattr(one.catalogue, name) == getattr(other.catalogue, name))


def test_one_object():
    field = simulate_field(jax.random.key(0), 1)
    assert len(field.catalogue) == 1 and np.isfinite(field.catalogue.ln_lum_obs[0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_halos": 0}, "num_halos is 0"),
        ({"num_halos": 10.5}, "num_halos is 10.5"),
        ({"side_arcmin": -1.0}, "side_arcmin is -1"),
        ({"side_arcmin": np.nan}, "side_arcmin is nan"),
        ({"z_max": 0.0}, "z_max is 0"),
        ({"z_max": 40.0}, "the prior ends at z = 4"),
        ({"sigma_ln_lum": -0.1}, "sigma_ln_lum is -0.1 in row 0"),
        ({"sigma_ln_lum": np.full(7, 0.1)}, "sigma_ln_lum"),
        ({"flux_limit": 0.0}, "flux_limit is 0"),
        ({"flux_limit": 1e30}, "no object of 10 is brighter"),
        ({"redshift": ([0.0, 1.0], [1.0, -1.0])}, "nowhere negative"),
        ({"redshift": ([1.0, 0.0], [1.0, 1.0])}, "ascending"),
        ({"redshift": ([0.0, 1.0], [0.0, 0.0])}, "no objects"),
        ({"redshift": ([3.6, 3.9], [1.0, 1.0])}, "no objects"),
        ({"halos_per_cluster": 0.0}, "halos_per_cluster is 0"),
        ({"clustering": "web"}, "clustering is 'web', and it must be one of thomas, lognormal"),
        ({"relation": MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 3)}, "3 draws"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(MassmapError, match=text):
        simulate_field(jax.random.key(0), **{"num_halos": 10} | options)


# -- several observables and measured masses ---------------------------------------------------------------------------

SCATTERS = np.array([[1, 0.5, -0.4], [0.5, 1, 0.3], [-0.4, 0.3, 1]])


def of_several(**options):
    others = {
        "richness": mm.MassLuminosityRelation(alpha1=3.0, alpha2=1.0, alpha3=1e14, scatter=0.3),
        "y_sz": mm.MassLuminosityRelation(alpha1=0.0, alpha2=1.7, alpha3=1e14, alpha4=0.7, scatter=0.2),
    }
    relation = mm.MultiObservableRelation(
        alpha1=1.0, alpha2=0.8, alpha3=1e14, alpha4=1.0, scatter=0.4, others=others, scatter_correlation=SCATTERS
    )
    return mm.simulate_field(jax.random.key(3), 20_000, relation=relation, **options), relation


def test_scatters_are_correlated_as_the_relation_says():
    measured = mm.MassMeasurements(20_000, sigma_ln_mass=0.1, bias=-0.2, scatter=0.3, scatter_correlation=0.6)
    field, relation = of_several(sigma_observables={"richness": 1e-6, "y_sz": 1e-6}, measured=measured)
    t, z = field.catalogue.truth_ln_mass, field.catalogue.redshift
    laws = (relation, *relation.laws)
    values = [field.ln_lum_true, *field.catalogue.observables.ln_value.T]
    off = [v - np.asarray(law.mean_ln_lum(t, z)) for v, law in zip(values, laws, strict=True)]
    m = field.calibration.ln_mass - t
    assert abs(m.mean() + 0.2) < 0.02 and abs(m.std() - np.hypot(0.3, 0.1)) < 0.01
    found = np.corrcoef([*off, m])
    np.testing.assert_allclose(found[:3, :3], SCATTERS, atol=0.03)
    # The error dilutes the correlation of the measured mass; the others know it through the luminosity alone.
    diluted = 0.6 * 0.3 / np.hypot(0.3, 0.1)
    np.testing.assert_allclose(found[3, :3], diluted * SCATTERS[0], atol=0.03)
    np.testing.assert_allclose([np.std(o) for o in off], [0.4, 0.3, 0.2], rtol=0.02)


def test_selections_and_choices():
    plain, _ = of_several()
    kept, _ = of_several(selected_on=mm.SelectedOn("richness", 3.0))
    high = plain.catalogue.observables.ln_value[:, 0] > np.log(3.0)
    # A width of 0.001 in ln: hardly an object is so near the threshold.
    assert abs(len(kept.catalogue) - high.sum()) <= 3 and kept.catalogue.observables.ln_value[:, 0].min() > 1.09
    np.testing.assert_array_equal(plain.catalogue.ln_lum_obs[kept.catalogue.ids], kept.catalogue.ln_lum_obs)
    measured = mm.MassMeasurements(50, chosen_by="luminosity")
    threshold = float(np.exp(np.quantile(plain.catalogue.truth_ln_mass, 0.9)))
    massive, _ = of_several(measured=measured, selected_on=mm.SelectedOnMass(threshold, 0.05))
    masses = massive.calibration
    assert masses.number == 50 and (masses.ln_mass[np.isfinite(masses.ln_mass)] > np.log(threshold) - 0.3).all()
    has = np.isfinite(masses.ln_mass)
    assert massive.catalogue.ln_lum_obs[has].min() >= massive.catalogue.ln_lum_obs[~has].max()
    # What is asked for in addition changes nothing of the field itself.
    alone = mm.simulate_field(jax.random.key(3), 500, relation=mm.MassLuminosityRelation.preset("bigmali2017"))
    more = mm.simulate_field(jax.random.key(3), 500, measured=mm.MassMeasurements(10))
    np.testing.assert_array_equal(alone.catalogue.ln_lum_obs, more.catalogue.ln_lum_obs)


def test_a_completeness_keeps_each_object_with_its_probability():
    """Of 20,000 objects, in bins of luminosity and redshift: a chi-square test; the twin expects it one node fainter."""
    whole = mm.simulate_field(jax.random.key(8), 20_000).catalogue
    ln_lum, z = whole.ln_lum_obs, whole.redshift
    nodes, at = np.quantile(ln_lum, [0.1, 0.3, 0.6, 0.9]), np.array([0.5, 2.0])
    prob = np.array([[0.05, 0.2, 0.7, 0.95], [0.02, 0.05, 0.4, 0.8]])
    table = mm.TabulatedSelection(at, nodes, prob)
    kept = mm.simulate_field(jax.random.key(8), 20_000, selected_on=table).catalogue
    found = np.isin(whole.ids, kept.ids)
    np.testing.assert_array_equal(ln_lum[found], kept.ln_lum_obs)

    def score(shift):
        """Squared distances of the numbers that are kept in 8 x 3 bins from what the table gives by NumPy."""
        rows = [np.interp(ln_lum + shift, nodes, row) for row in prob]
        share = np.clip((z - at[0]) / (at[1] - at[0]), 0.0, 1.0)
        chance = (1 - share) * rows[0] + share * rows[1]
        bins = [np.searchsorted(np.quantile(v, np.arange(1, n) / n), v) for v, n in ((ln_lum, 8), (z, 3))]
        cell = 3 * bins[0] + bins[1]
        full = np.bincount(cell) > 50
        off, variance = (np.bincount(cell, v)[full] for v in (found - chance, chance * (1 - chance)))
        return (off**2 / variance).sum()

    # At most 24 bins: above 70 by chance in 2e-6.
    assert score(0.0) < 70 < score(nodes[1] - nodes[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"selected_on": mm.SignalToNoiseLimit(5.0)}, "signal to noise"),
        ({"sigma_observables": {"colour": 0.1}}, "colour"),
        ({"selected_on": mm.SelectedOn("colour", 3.0)}, "colour"),
        ({"selected_on": mm.SelectedOnMass(1e14)}, "needs measured="),
        ({"selected_on": mm.SelectedOn("richness", 1e30)}, "no object of 20000 is selected"),
        ({"measured": mm.MassMeasurements(30_000)}, "the field has 20000"),
        ({"measured": mm.MassMeasurements(10, scatter_correlation=1.0)}, "between -1 and 1"),
        ({"measured": mm.MassMeasurements(10, chosen_by="colour")}, "colour"),
    ],
)
def test_what_cannot_be_simulated(options, match):
    with pytest.raises(mm.MassmapError, match=match):
        of_several(**options)


def test_relations_of_other_laws():
    """A scatter that falls with mass: the scores of ln L about the law's mean, by its own formula, are normal."""
    law = published_relation("lambda_murata18")
    mass = np.geomspace(1e13, 3e15, 40)
    prior = mm.MassPrior.from_table([0.0, 1.0], mass, np.tile(1 / mass, (2, 1)), per="ln_mass")
    field = simulate_field(jax.random.key(2), 4_000, prior=prior, relation=law, z_max=0.9, sigma_ln_lum=0.0,
                           measured=mm.MassMeasurements(2_000, 0.1, scatter=0.3, scatter_correlation=0.8))  # fmt: skip
    x = field.catalogue.truth_ln_mass - np.log(3e14 / 0.7)
    scatter = 0.456 - 0.169 * np.maximum(x, np.log(1e13 / 3e14))
    scores = (field.ln_lum_true - 3.207 - 0.993 * x) / scatter
    assert kstest(scores, "norm").pvalue > 1e-5
    assert field.catalogue.lum_unit == "richness"
    # Those of the measured masses are correlated with them.
    rows = np.isfinite(field.calibration.ln_mass)
    off = (field.calibration.ln_mass - field.catalogue.truth_ln_mass)[rows]
    expected = 0.8 * 0.3 / np.hypot(0.3, 0.1)
    assert abs(np.corrcoef(off, scores[rows])[0, 1] - expected) < 5 * (1 - expected**2) / np.sqrt(2_000)
