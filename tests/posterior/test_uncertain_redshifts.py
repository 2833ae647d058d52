"""Masses of objects whose redshifts are distributions: against NumPy, and their intervals hold the truth.

The wrong ways to use such redshifts are the twins: each of them fails by many standard errors.
"""

import functools

import jax
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import kstest, norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.halo.cosmology import comoving_volume, luminosity_distance

Z_NODES = np.linspace(0.1, 0.9, 17)
ERROR = 0.05
# Slope, scatter, error of ln L and pivot of clusters and of galaxies, and the least flux in the catalogue.
CLUSTERS = {"slope": 1.7, "scatter": 0.3, "sigma": 0.1, "pivot": 3e14, "least": -17.5, "lowest": 12.5}
GALAXIES = {"slope": 0.36, "scatter": 0.155, "sigma": 0.05, "pivot": 1e14, "least": -15.3, "lowest": 11.0}


def prior_of(kind):
    nodes = {"redshift": Z_NODES, "log10_mass_range": (kind["lowest"], 16.0), "dlog10_mass": 0.02}
    return mm.MassPrior.from_cosmology("Planck18", support="sharp", **nodes)


@functools.cache
def distances():
    """Redshifts and luminosity distances by astropy, which takes 60 ms."""
    nodes = np.linspace(0.01, 3.0, 4000)
    return nodes, luminosity_distance("Planck18", nodes)


def ln_distance2(z):
    return 2 * np.log(np.interp(z, *distances()))


def parent(prior):
    """Redshifts and the density of all halos, from the prior's table and astropy's volumes."""
    z = np.linspace(Z_NODES[0], Z_NODES[-1], 2000)
    number = np.interp(z, Z_NODES, np.asarray(prior.ln_number))
    return z, comoving_volume("Planck18", z) * np.exp(number)


def halos_of(prior, rng, seed):
    """True redshifts and ln M of one batch of halos after the other."""
    z_nodes, density = parent(prior)
    cdf = np.cumsum(density)
    key = jax.random.key(seed)
    while True:
        key, own = jax.random.split(key)
        z = np.interp(rng.uniform(cdf[0], cdf[-1], 40_000), cdf, z_nodes)
        yield z, np.asarray(prior.sample(own, z))


def universe(kind, prior, number, seed):
    """True redshifts and ln M, and the catalogue: luminosities computed with the measured redshifts."""
    rng, found = np.random.default_rng(seed), np.zeros((3, 0))
    halos = halos_of(prior, rng, seed)
    while found.shape[1] < number:
        z, ln_mass = next(halos)
        mean = kind["slope"] * (ln_mass - np.log(kind["pivot"]))
        flux = mean + np.hypot(kind["scatter"], kind["sigma"]) * rng.normal(size=z.size) - ln_distance2(z)
        found = np.concatenate([found, np.stack([z, ln_mass, flux])[:, flux > kind["least"]]], axis=1)
    z, ln_mass, flux = found[:, :number]
    z_phot = np.expm1(np.log1p(z) + ERROR * rng.normal(size=number))
    kept = (z_phot > Z_NODES[0]) & (z_phot < Z_NODES[-1])
    z, ln_mass, flux, z_phot = (a[kept] for a in (z, ln_mass, flux, z_phot))
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=flux + ln_distance2(z_phot), redshift=z_phot, sigma_ln_luminosity=kind["sigma"]
    )
    return z, ln_mass, catalogue


def relation_of(kind):
    values = {"alpha2": kind["slope"], "alpha3": kind["pivot"], "scatter": kind["scatter"]}
    return mm.MassLuminosityRelation(alpha1=0.0, alpha4=0.0, **values)


def with_errors(catalogue, **options):
    options = {"contains": "likelihood", "lum_moves": True} | options
    return catalogue.with_redshifts(
        mm.RedshiftDistributions.gaussian(catalogue.redshift, ERROR, variable="ln_1z", **options)
    )


def with_inflated_errors(catalogue):
    """The redshifts as exact, and what their errors do to ln L in quadrature with its own error: a wrong use of them."""
    u, step = np.log1p(catalogue.redshift), 1e-3
    moves = (ln_distance2(np.expm1(u + step)) - ln_distance2(np.expm1(u - step))) / (2 * step)
    return mm.HaloCatalogue.from_arrays(
        ln_luminosity=catalogue.ln_lum_obs, redshift=catalogue.redshift,
        sigma_ln_luminosity=np.hypot(catalogue.sigma_ln_lum, moves * ERROR),
    )  # fmt: skip


def with_jacobian(catalogue, prior):
    """Densities per L_obs, which is larger at larger z, in place of those per flux: a wrong use of them, too."""
    z, density = parent(prior)
    return with_errors(catalogue, parent=(z, density / np.exp(ln_distance2(z))))


@pytest.fixture(scope="module", params=[CLUSTERS, GALAXIES], ids=["clusters", "galaxies"])
def field(request):
    prior = prior_of(request.param)
    return request.param, prior, *universe(request.param, prior, 1200, 5)


@pytest.fixture(scope="module")
def clusters():
    """What is the same for galaxies is tested with clusters alone."""
    prior = prior_of(CLUSTERS)
    return CLUSTERS, prior, *universe(CLUSTERS, prior, 1200, 5)


def by_hand(kind, prior, catalogue, row, *, flux_seen=False):
    """Mean and standard deviation of ln M and of z of one object."""
    moments = []
    for x, share in shares_by_hand(kind, prior, catalogue, row, flux_seen=flux_seen):
        first, second = (share * x).sum(), (share * x**2).sum()
        moments.append((first, np.sqrt(second - first**2)))
    return moments


def shares_by_hand(kind, prior, catalogue, row, *, flux_seen=False, ln_factor=np.zeros_like):
    """Posterior of ln M and of z of one object on a fine grid, in NumPy: places, and their shares.

    ln_factor : ln of what else the likelihood has at each redshift.
    """
    z_phot, ln_lum = catalogue.redshift[row], catalogue.ln_lum_obs[row]
    u = np.linspace(max(np.log1p(z_phot) - 6 * ERROR, np.log1p(Z_NODES[0])), np.log1p(Z_NODES[-1]), 500)
    u = u[u < np.log1p(z_phot) + 6 * ERROR]
    z = np.expm1(u)
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 3001)
    rows = np.stack([np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), r) for r in np.asarray(prior.ln_density)])
    above = np.clip(np.searchsorted(Z_NODES, z) - 1, 0, Z_NODES.size - 2)
    t = ((z - Z_NODES[above]) / np.diff(Z_NODES)[above])[:, None]
    ln_prior = rows[above] * (1 - t) + rows[above + 1] * t
    ln_prior[:, [0, -1]] -= np.log(2)  # and some masses at its lowest mass
    ln_prior = ln_prior - logsumexp(ln_prior, axis=1, keepdims=True)
    ln_lum = ln_lum + ln_distance2(z) - ln_distance2(z_phot)
    mean = kind["slope"] * (ln_mass - np.log(kind["pivot"]))
    joint = ln_prior + norm(mean, np.hypot(kind["scatter"], kind["sigma"])).logpdf(ln_lum[:, None])
    of_z = norm(np.log1p(z_phot), ERROR).logpdf(u)
    if flux_seen:  # p(z) per unit z, times dz: each redshift keeps its share
        joint = joint - logsumexp(joint, axis=1, keepdims=True) + of_z[:, None]
    else:
        joint = joint + (of_z + u + np.log(np.interp(z, *parent(prior))) + ln_factor(z))[:, None]
    share = np.exp(joint - joint.max())
    share[[0, -1]] /= 2  # the rule of trapezoids: some p(z) end at the prior's lowest redshift
    share /= share.sum()
    return (ln_mass, share.sum(axis=0)), (z, share.sum(axis=1))


@pytest.mark.parametrize("flux_seen", [False, True])
def test_agrees_with_numpy(field, flux_seen):
    kind, prior, _, _, catalogue = field
    rows = np.arange(0, 60, 15)
    contains = "posterior_with_flux" if flux_seen else "likelihood"
    some = with_errors(catalogue.subset(rows), contains=contains)
    found = mm.mass_posterior(some, prior, relation_of(kind))
    for i, row in enumerate(rows):
        (mean, sd), (z_mean, z_sd) = by_hand(kind, prior, catalogue, row, flux_seen=flux_seen)
        assert abs(found.mean[i] - mean) < 2e-3 * sd
        assert abs(found.sd[i] / sd - 1) < 2e-3
        assert abs(found.redshift_mean[i] - z_mean) < 2e-3 * z_sd
        assert abs(found.redshift_sd[i] / z_sd - 1) < 2e-3
    grid = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 2001)
    density = np.exp(found.log_pdf(np.arange(rows.size), grid)[1])
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=1), 1.0, atol=2e-3)
    np.testing.assert_allclose(np.trapezoid(density * grid, grid, axis=1), found.mean, atol=2e-3)


def test_a_large_error_of_a_sharp_mass_leaves_no_comb(clusters):
    """An error of z that moves ln M by 9 widths of its likelihood: quantiles and CDF against NumPy."""
    _, prior, *_ = clusters
    kind = CLUSTERS | {"scatter": 0.05, "sigma": 0.05}
    levels = np.linspace(0.02, 0.98, 49)
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=[-0.5], redshift=[0.25], sigma_ln_luminosity=kind["sigma"], ids=["A"]
    )
    # The twin: as many nodes as the mean needs.
    found, few = (
        mm.mass_posterior(with_errors(catalogue, num_nodes=n), prior, relation_of(kind), quantile_levels=levels)
        for n in (None, 24)
    )
    (ln_mass, share), _ = shares_by_hand(kind, prior, catalogue, 0)
    cdf = np.cumsum(share) - 0.5 * share
    off, off_few = (np.abs(np.interp(p.quantiles[0], ln_mass, cdf) - levels).max() for p in (found, few))
    assert off < 5e-3 and off_few > 1e-2, (off, off_few)
    place = np.interp(0.37, cdf, ln_mass)
    assert abs(found.cdf(np.array([place]))[0] - 0.37) < 5e-3


def pits(field, catalogue):
    kind, prior, _, ln_mass, _ = field
    return mm.mass_posterior(catalogue, prior, relation_of(kind)).cdf(ln_mass)


def test_intervals_hold_the_truth(field):
    pit = pits(field, with_errors(field[-1]))
    assert kstest(pit, "uniform").pvalue > 1e-5


def test_redshifts_hold_the_truth(field):
    kind, prior, z, _, catalogue = field
    found = mm.mass_posterior(with_errors(catalogue), prior, relation_of(kind))
    inside = np.mean(np.abs(z - found.redshift_mean) < found.redshift_sd)
    assert abs(inside - 0.69) < 0.07


def test_wrong_uses_fail(field):
    catalogue = field[-1]
    flat = (np.array([0.0, 1.0]), np.ones(2))
    counts, edges = np.histogram(field[2], np.linspace(0.1, 0.9, 21))
    own = (0.5 * (edges[1:] + edges[:-1]), counts + 0.1)
    wrong = {
        "point": catalogue,
        "luminosity held": with_errors(catalogue, lum_moves=False),
        "no n(z)": with_errors(catalogue, parent=flat),
        "the catalogue's N(z)": with_errors(catalogue, parent=own),
        "error inflated": with_inflated_errors(catalogue),
        "Jacobian": with_jacobian(catalogue, field[1]),
    }
    for name, changed in wrong.items():
        assert kstest(pits(field, changed), "uniform").pvalue < 1e-8, name


def test_a_grid_is_its_gaussian(clusters):
    kind, prior, _, _, catalogue = clusters
    some = catalogue.subset(np.arange(40))
    nodes = np.linspace(0.0, 1.6, 641)
    density = norm(np.log1p(some.redshift)[:, None], ERROR).pdf(np.log1p(nodes))
    grid = mm.RedshiftDistributions.grid(nodes, density, contains="likelihood", lum_moves=True, num_nodes=64)
    a = mm.mass_posterior(with_errors(some), prior, relation_of(kind))
    b = mm.mass_posterior(some.with_redshifts(grid), prior, relation_of(kind))
    assert np.abs((a.mean - b.mean) / a.sd).max() < 5e-3
    # A posterior under a flat prior of redshifts is the likelihood.
    flat = (np.array([0.0, 2.0]), np.ones(2))
    options = {"contains": "posterior", "code_prior": flat, "lum_moves": True, "num_nodes": 64}
    c = mm.mass_posterior(
        some.with_redshifts(mm.RedshiftDistributions.grid(nodes, density, **options)), prior, relation_of(kind)
    )
    np.testing.assert_allclose(c.mean, b.mean, atol=1e-5)


def test_exact_redshifts_are_the_limit(clusters):
    kind, prior, _, _, catalogue = clusters
    some = catalogue.subset(np.arange(40))
    exact = mm.RedshiftDistributions.gaussian(
        some.redshift, np.zeros(40), zero="exact", contains="likelihood", lum_moves=True
    )
    a = mm.mass_posterior(some, prior, relation_of(kind))
    b = mm.mass_posterior(some.with_redshifts(exact), prior, relation_of(kind))
    assert np.abs((a.mean - b.mean) / a.sd).max() < 2e-3


def test_maps_and_rows_keep_them(clusters):
    import jax

    kind, prior, _, _, catalogue = clusters
    some = with_errors(catalogue.subset(np.arange(60)))
    found = mm.mass_posterior(some, prior, relation_of(kind))
    assert found[3:5].redshift_mean.tolist() == found.redshift_mean[3:5].tolist()
    assert {"z_mean", "z_sd"} <= set(found.to_table())
    draws = found.sample(jax.random.key(0), 400, rows=np.array([0]))
    assert abs(draws.mean() - found.mean[0]) < 5 * found.sd[0] / 20


BAD = {
    "negative p": (lambda: mm.RedshiftDistributions.grid([0.0, 0.5, 1.0], [[1, -1, 0.0]], **OPTIONS), "negative"),
    "no increase": (lambda: mm.RedshiftDistributions.grid([0.0, 0.5, 0.5], [[1, 1, 0.0]], **OPTIONS), "increase"),
    "all NaN": (lambda: mm.RedshiftDistributions.grid([0.0, 0.5, 1.0], [[np.nan] * 3], **OPTIONS), "none of the 1"),
    "zero error": (lambda: mm.RedshiftDistributions.gaussian([0.1, 0.2], [0.01, 0.0], **OPTIONS), "0 in 1 rows"),
    "no error": (lambda: mm.RedshiftDistributions.gaussian([0.1], [-1.0], **OPTIONS), "no row has"),
    "per cent": (lambda: mm.RedshiftDistributions.gaussian([0.1], [1.5], **OPTIONS), "say nothing"),
    "not said": (
        lambda: mm.RedshiftDistributions.gaussian([0.1], [0.1], contains="pdf", lum_moves=True),
        "what went into",
    ),
    "no code prior": (
        lambda: mm.RedshiftDistributions.gaussian([0.1], [0.1], contains="posterior", lum_moves=True),
        "code_prior",
    ),
}
OPTIONS = {"contains": "likelihood", "lum_moves": True}


@pytest.mark.parametrize("case", BAD)
def test_bad_distributions_are_refused(case):
    make, words = BAD[case]
    with pytest.raises(MassmapError, match=words):
        make()


def test_rows_without_an_error_are_flagged(clusters):
    kind, prior, _, _, catalogue = clusters
    error = np.full(10, 0.05)
    error[[2, 4]] = np.nan, 99.0
    some = catalogue.subset(np.arange(10))
    distributions = mm.RedshiftDistributions.gaussian(some.redshift, error, **OPTIONS)
    found = mm.mass_posterior(some.with_redshifts(distributions), prior, relation_of(kind))
    assert np.flatnonzero(found.flag).tolist() == [2, 4]
    assert found.flag[2] == int(mm.Flag.Z_ERROR_BAD)
    assert np.isnan(found.mean[[2, 4]]).all()


def test_what_has_no_answer_is_refused(clusters):
    kind, prior, _, _, catalogue = clusters
    some = with_errors(catalogue.subset(np.arange(10)))
    relation = relation_of(kind)
    with pytest.raises(MassmapError, match="one of flux"):
        mm.mass_posterior(some, prior, relation, selection=mm.FluxLimit(1e-3))
    bare = mm.MassPrior.from_table(Z_NODES, np.exp(prior.ln_mass_nodes), np.exp(prior.ln_density), per="ln_mass")
    with pytest.raises(MassmapError, match="how many halos"):
        mm.mass_posterior(some, bare, relation)
    with pytest.raises(MassmapError, match="exact"):
        mm.RelationLikelihood.build(some, prior)


def test_nodes_reach_into_the_lower_tail():
    """Quantiles within 1e-3 sd of those of 256 nodes; the 12 that the middle of p(z) asks for, the twin, miss it."""
    prior = prior_of(CLUSTERS)
    catalogue = universe(CLUSTERS, prior, 400, 3)[2]
    some = catalogue.subset(np.flatnonzero((catalogue.redshift > 0.3) & (catalogue.redshift < 0.5))[:40])
    with jax.enable_x64(True):
        asked = (None, 256, 12)
        plain, many, few = (
            mm.mass_posterior(with_errors(some, num_nodes=number), prior, relation_of(CLUSTERS)) for number in asked
        )

    def off(found):
        return np.abs(found.quantiles - many.quantiles).max(axis=1) / many.sd

    assert off(plain).max() < 1e-3 and off(few).max() > 3e-3
