"""Maps in redshift slices of objects whose redshifts are distributions: mass and redshift are drawn together.

A reference in NumPy makes the draws by themselves, on a fine grid of z and ln M; and mock skies tell how often slices
hold the true mass, drawn together and (the twin, which fails) apart.
"""

import itertools

import jax
import numpy as np
import pytest
from posterior.test_uncertain_redshifts import (
    CLUSTERS,
    ERROR,
    Z_NODES,
    by_hand,
    parent,
    prior_of,
    relation_of,
    universe,
    with_errors,
)
from scipy.special import logsumexp
from scipy.stats import kstest, norm

import massmap_jax as mm
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.samples import MassSamples

EDGES = (0.1, 0.35, 0.5, 0.65, 0.9)


@pytest.fixture(scope="module")
def field():
    prior = prior_of(CLUSTERS)
    z, ln_mass, catalogue = universe(CLUSTERS, prior, 150, 11)
    rng = np.random.default_rng(2)
    placed = mm.HaloCatalogue.from_arrays(
        ln_luminosity=catalogue.ln_lum_obs, redshift=catalogue.redshift, sigma_ln_luminosity=CLUSTERS["sigma"],
        ra=150 + rng.uniform(0, 0.3, len(catalogue)), dec=2 + rng.uniform(0, 0.3, len(catalogue)),
    )  # fmt: skip
    return prior, z, ln_mass, placed


def drawn(prior, catalogue, rows, number, contains="likelihood"):
    some = with_errors(catalogue.subset(np.asarray(rows)), contains=contains, num_nodes=16)
    relations = jax.tree.map(
        lambda a: np.repeat(np.atleast_1d(np.asarray(a)), number), relation_of(CLUSTERS).as_batch()
    )
    samples = MassSamples(prior, relations, jax.random.key(3), "exact")
    objects = Objects.of(some, np.arange(len(rows)), prior)
    ln_mass, z, alone = np.empty((3, len(rows), number))
    for picked, *found in samples.with_redshifts(objects):
        ln_mass[picked], z[picked] = found
    for picked, found in samples(objects):
        alone[picked] = found
    np.testing.assert_allclose(ln_mass, alone, rtol=1e-5)  # the redshift is drawn given the mass
    return ln_mass, z


def joint_by_hand(prior, catalogue, row):
    """p(z, ln M) of one object on a fine grid, in NumPy."""
    z = np.expm1(np.linspace(np.log1p(0.1), np.log1p(0.9), 1201))
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 801)
    rows = np.stack([np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), r) for r in np.asarray(prior.ln_density)])
    above = np.clip(np.searchsorted(Z_NODES, z) - 1, 0, Z_NODES.size - 2)
    t = ((z - Z_NODES[above]) / np.diff(Z_NODES)[above])[:, None]
    ln_prior = rows[above] * (1 - t) + rows[above + 1] * t
    ln_prior -= logsumexp(ln_prior, axis=1, keepdims=True)
    from posterior.test_uncertain_redshifts import ln_distance2

    z_phot = catalogue.redshift[row]
    ln_lum = catalogue.ln_lum_obs[row] + ln_distance2(z) - ln_distance2(z_phot)
    mean = CLUSTERS["slope"] * (ln_mass - np.log(CLUSTERS["pivot"]))
    joint = ln_prior + norm(mean, np.hypot(CLUSTERS["scatter"], CLUSTERS["sigma"])).logpdf(ln_lum[:, None])
    u = np.log1p(z)
    joint += (norm(np.log1p(z_phot), ERROR).logpdf(u) + u + np.log(np.interp(z, *parent(prior))))[:, None]
    share = np.exp(joint - joint.max())
    return z, ln_mass, share / share.sum()


def test_draws_of_mass_and_redshift_are_those_of_their_joint_density(field):
    prior, _, _, catalogue = field
    number = 1000
    ln_mass, z = drawn(prior, catalogue, [0, 7], number)
    for i, row in enumerate((0, 7)):
        nodes, masses, share = joint_by_hand(prior, catalogue, row)
        cdf = np.cumsum(share.sum(axis=1))
        assert kstest(np.interp(z[i], nodes, cdf), "uniform").pvalue > 1e-6
        mean_z, mean_m = share.sum(axis=1) @ nodes, share.sum(axis=0) @ masses
        var_z = share.sum(axis=1) @ (nodes - mean_z) ** 2
        var_m = share.sum(axis=0) @ (masses - mean_m) ** 2
        expected = (share * np.outer(nodes - mean_z, masses - mean_m)).sum() / np.sqrt(var_z * var_m)
        found = np.corrcoef(z[i], ln_mass[i])[0, 1]
        assert abs(found - expected) < 5 / np.sqrt(number)
        # The twin: drawn apart, there is no correlation.
        assert abs(np.corrcoef(np.random.default_rng(0).permutation(z[i]), ln_mass[i])[0, 1] - expected) > 0.2


def test_p_of_z_that_has_seen_the_flux_keeps_its_redshifts(field):
    prior, _, _, catalogue = field
    ln_mass, z = drawn(prior, catalogue, [5], 1000, contains="posterior_with_flux")
    (mean, sd), (z_mean, z_sd) = by_hand(CLUSTERS, prior, catalogue, 5, flux_seen=True)
    assert abs(ln_mass[0].mean() - mean) < 5 * sd / np.sqrt(1000)
    assert abs(z[0].mean() - z_mean) < 5 * z_sd / np.sqrt(1000)
    assert abs(z[0].std() / z_sd - 1) < 5 / np.sqrt(2 * 1000)


def cube(prior, catalogue, edges=EDGES, **options):
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=5.0)
    return mm.mass_map(
        jax.random.key(1), catalogue, prior, relation_of(CLUSTERS), grid, num_draws=32, redshift_edges=edges, **options
    )


def test_slices_add_up_to_the_map(field):
    prior, _, _, catalogue = field
    some = with_errors(catalogue, num_nodes=16)
    posterior = mm.mass_posterior(some, prior, relation_of(CLUSTERS))
    sliced = cube(prior, some, keep_draws=True, posterior=posterior)
    whole = cube(prior, some, edges=None, posterior=posterior)
    assert sliced.mean.shape == (4, *whole.mean.shape)
    np.testing.assert_allclose(sliced.slice_draws.sum(axis=0), whole.total_draws, rtol=1e-5)
    np.testing.assert_allclose(sliced.mean.sum(axis=0), whole.mean, rtol=1e-5)
    np.testing.assert_allclose(sliced.slice_mass.sum(), whole.total_mass, rtol=1e-5)
    np.testing.assert_allclose(sliced.draws.sum(axis=(2, 3)).T, sliced.slice_draws, rtol=1e-5)
    assert int(sliced.nobj.sum()) + sliced.n_beyond == int(whole.nobj.sum()) and sliced.n_beyond == 0
    # What is drawn beyond the slices is in none of them, whatever its redshift in the catalogue.
    part = cube(prior, some, edges=(0.35, 0.5), posterior=posterior)
    np.testing.assert_allclose(part.total_draws, sliced.slice_draws[1], rtol=1e-5)
    assert part.n_beyond + part.n_mapped == len(catalogue)


SKIES, OBJECTS = 45, 60


@pytest.fixture(scope="module")
def skies():
    """(true mass, PIT drawn together, apart, with z_phot) of the slices of mock skies."""
    prior = prior_of(CLUSTERS)
    z, ln_mass, catalogue = universe(CLUSTERS, prior, 3600, 23)
    number = SKIES * OBJECTS
    ln_m, drawn_z = drawn(prior, catalogue, np.arange(number), 96)
    rng = np.random.default_rng(4)
    apart = rng.permuted(drawn_z, axis=1)
    at_phot = np.broadcast_to(catalogue.redshift[:number, None], drawn_z.shape)
    found = {}
    for name, redshift in (("together", drawn_z), ("apart", apart), ("point", at_phot)):
        pit = []
        for low, high in itertools.pairwise(EDGES):
            inside = (z[:number] >= low) & (z[:number] < high)
            true = np.where(inside, np.exp(ln_mass[:number]), 0).reshape(SKIES, OBJECTS).sum(axis=1)
            mass = np.where((redshift >= low) & (redshift < high), np.exp(ln_m), 0.0)
            mass = mass.reshape(SKIES, OBJECTS, -1).sum(axis=1)
            pit.append((mass < true[:, None]).mean(axis=1))
        found[name] = np.array(pit)
    return found


def test_slices_hold_the_truth(skies):
    assert kstest(skies["together"].ravel(), "uniform").pvalue > 1e-5


def test_redshifts_drawn_apart_do_not(skies):
    # The first slice is too heavy, since faint and near are drawn as if they had nothing to do with each other.
    assert kstest(skies["apart"][0], "uniform").pvalue < 1e-3 or kstest(skies["apart"].ravel(), "uniform").pvalue < 1e-3


def test_slices_by_the_measured_redshift_do_not(skies):
    inside = np.mean((skies["point"] > 0.16) & (skies["point"] < 0.84))
    assert inside < 0.55
