"""Redshift nodes of p(z) of many shapes: integrals over them against fine sums in NumPy."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.halo.cosmology import comoving_volume, luminosity_distance
from massmap_jax.likelihood.redshifts import nodes_needed, place

U = np.log1p(np.array([0.25, 0.4, 0.55, 0.7]))
# Weights, means less the middle, and sds, in ln(1 + z).
SHAPES = {
    "normal": ([1.0], [0.0], [0.05]),
    "tail": ([0.85, 0.15], [0.0, 0.0], [0.04, 0.12]),
    "skew": ([0.6, 0.4], [-0.02, 0.04], [0.03, 0.06]),
    "two": ([0.8, 0.2], [0.0, 0.25], [0.03, 0.04]),
    "apart": ([0.7, 0.3], [-0.1, 0.5], [0.01, 0.02]),
    "narrow on wide": ([0.5, 0.5], [0.0, 0.1], [0.005, 0.08]),
}
OPTIONS = {"contains": "likelihood", "lum_moves": True}
FINE = np.linspace(np.log1p(0.05), np.log1p(2.0), 40_001)


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.from_cosmology("Planck18", redshift=np.linspace(0.05, 2.0, 20))


def density(shape, u):
    """p per ln(1 + z) of each object, (halo, u)."""
    terms = [w * norm(U[:, None] + m, s).pdf(u) for w, m, s in zip(*SHAPES[shape], strict=True)]
    return np.sum(terms, axis=0)


def integrals(shape, prior):
    """Mean and sd of z and of an ln M of slope 2.8 in ln F, and ln of a sum of likelihoods of luminosities."""
    z = np.expm1(FINE)
    number = np.interp(z, np.asarray(prior.redshift_nodes), np.asarray(prior.ln_number))
    weight = density(shape, FINE) * comoving_volume("Planck18", z) * np.exp(number) * (1 + z)
    weight /= weight.sum(axis=1, keepdims=True)
    nodes = np.linspace(0.01, 2.5, 4000)
    distance = 2 * np.log(np.interp(z, nodes, luminosity_distance("Planck18", nodes)))
    at_known = 2 * np.log(np.interp(np.expm1(U), nodes, luminosity_distance("Planck18", nodes)))
    moved = distance - at_known[:, None]
    return weight, z, moved


def moments(weight, values):
    mean = (weight * values).sum(axis=1)
    return mean, np.sqrt((weight * (values - mean[:, None]) ** 2).sum(axis=1))


def catalogue_with(distributions):
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.ones(U.size), redshift=np.expm1(U), sigma_ln_luminosity=0.05)
    return catalogue.with_redshifts(distributions)


def mixture(shape, **options):
    weight, mean, sd = (np.array(a) for a in SHAPES[shape])
    return mm.RedshiftDistributions.mixture(
        weight, U[:, None] + mean, np.tile(sd, (U.size, 1)), variable="ln_1z", **OPTIONS | options
    )


def largest_error(shape, prior, distributions, width=0.3):
    """Largest error of z and of likelihoods exp(-(ln L - c)^2 / 2 width^2), in sds and relative."""
    weight, z, moved = integrals(shape, prior)
    nodes = place(catalogue_with(distributions), np.arange(U.size), prior)
    share = np.exp(nodes.ln_weight)
    (mean, sd), (found, found_sd) = moments(weight, z), moments(share, nodes.z)
    errors = [np.abs(found - mean) / sd, np.abs(found_sd / sd - 1)]
    for centre in (-0.6, 0.0, 0.6):
        expected = (weight * np.exp(-0.5 * ((moved - centre) / width) ** 2)).sum(axis=1)
        value = (share * np.exp(-0.5 * ((nodes.ln_moved - centre) / width) ** 2)).sum(axis=1)
        errors.append(np.abs(value / expected - 1))
    return np.max(errors)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixtures(shape, prior):
    assert largest_error(shape, prior, mixture(shape)) < 4e-3


@pytest.mark.parametrize("shape", ["apart", "narrow on wide"])
def test_nodes_in_one_piece_do_not_resolve_humps(shape, prior, monkeypatch):
    monkeypatch.setattr("massmap_jax.catalogue.redshift_shapes.Mixture.points", lambda self: None)
    assert largest_error(shape, prior, mixture(shape, num_nodes=32)) > 0.02


def test_normal_errors(prior):
    normal = mm.RedshiftDistributions.gaussian(np.expm1(U), 0.05, variable="ln_1z", **OPTIONS)
    assert largest_error("normal", prior, normal) < 1e-3


@pytest.mark.parametrize("shape", ["normal", "tail", "skew", "two"])
def test_grids(shape, prior):
    z = np.linspace(0.0, 2.5, 501)
    grid = mm.RedshiftDistributions.grid(z, density(shape, np.log1p(z)), **OPTIONS)
    assert largest_error(shape, prior, grid) < 5e-3


@pytest.mark.parametrize(("shape", "most"), [("normal", 0.01), ("tail", 0.05), ("skew", 0.05), ("two", 0.1)])
def test_nine_quantiles(shape, most, prior):
    levels = np.array([0.01, 0.05, 0.16, 0.3, 0.5, 0.7, 0.84, 0.95, 0.99])
    u = np.linspace(0.0, 1.5, 30_001)
    cdf = np.cumsum(density(shape, u), axis=1)
    values = np.expm1([np.interp(levels, row / row[-1], u) for row in cdf])
    quantiles = mm.RedshiftDistributions.quantiles(levels, values, **OPTIONS)
    # A density per z: the Jacobian of ln(1 + z) has been put into the values, and is taken out here.
    weight, z, _ = integrals(shape, prior)
    weight = weight / (1 + z)
    weight /= weight.sum(axis=1, keepdims=True)
    nodes = place(catalogue_with(quantiles), np.arange(U.size), prior)
    (mean, sd), (found, _) = moments(weight, z), moments(np.exp(nodes.ln_weight), nodes.z)
    assert np.max(np.abs(found - mean) / sd) < most


def test_three_quantiles_do_not_suffice(prior):
    """Why they are refused: made into a density all the same, they miss the mean of two humps by 0.3 of its sd."""
    from massmap_jax.catalogue.redshift_shapes import FromQuantiles, _monotone_slopes

    levels = np.array([0.16, 0.5, 0.84])
    u = np.linspace(0.0, 1.5, 30_001)
    cdf = np.cumsum(density("two", u), axis=1)
    values = np.expm1([np.interp(levels, row / row[-1], u) for row in cdf])
    shape = FromQuantiles(ndtri(levels), values, _monotone_slopes(values, ndtri(levels)))
    weight, z, _ = integrals("two", prior)
    weight = weight / (1 + z)
    nodes = place(catalogue_with(mm.RedshiftDistributions(shape, **OPTIONS)), np.arange(U.size), prior)
    (mean, sd), (found, _) = (
        moments(weight / weight.sum(axis=1, keepdims=True), z),
        moments(np.exp(nodes.ln_weight), nodes.z),
    )
    assert np.max(np.abs(found - mean) / sd) > 0.1
    with pytest.raises(mm.errors.MassmapError, match="3 quantiles"):
        mm.RedshiftDistributions.quantiles(levels, values, **OPTIONS)


def test_components_of_no_weight_and_bad_rows(prior):
    weight, mean, sd = np.tile([1.0, 0.0], (4, 1)), np.stack([U, np.full(4, np.nan)], 1), np.tile([0.05, 0.0], (4, 1))
    padded = mm.RedshiftDistributions.mixture(weight, mean, sd, variable="ln_1z", **OPTIONS)
    assert padded.usable.all() and largest_error("normal", prior, padded) < 4e-3
    weight[1], sd[2, 0] = [-0.5, 1.5], -1.0
    assert mm.RedshiftDistributions.mixture(weight, mean, sd, **OPTIONS).usable.tolist() == [True, False, False, True]
    for bad, words in (((0 * weight, mean, sd), "none of the 4 mixtures"), ((weight, mean, sd[:, :1]), "sds of shape")):
        with pytest.raises(mm.errors.MassmapError, match=words):
            mm.RedshiftDistributions.mixture(*bad, **OPTIONS)
    with pytest.raises(mm.errors.MassmapError, match="percentages, or variances"):
        mm.RedshiftDistributions.mixture(np.ones(1), U[:, None], [1.5], variable="ln_1z", **OPTIONS)


def test_p_of_z_outside_the_prior_is_flagged():
    narrow = mm.MassPrior.from_cosmology("Planck18", redshift=np.linspace(0.1, 0.3, 3))
    z = np.linspace(0.0, 1.2, 241)
    density = norm(np.expm1(U)[:, None], 0.02).pdf(z)
    density[0] = norm(0.9, 0.02).pdf(z)
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.ones(4), redshift=[0.25, 0.2, 0.22, 0.24], sigma_ln_luminosity=0.05
    )
    grid = mm.RedshiftDistributions.grid(z, density[[0, 0, 0, 0]], **OPTIONS)
    far = mm.HaloCatalogue.from_arrays(luminosity=np.ones(4), redshift=np.full(4, 0.9), sigma_ln_luminosity=0.05)
    with pytest.raises(mm.errors.MassmapError, match="outside the prior"):
        mm.mass_posterior(far.with_redshifts(grid), narrow, mm.MassLuminosityRelation.preset("bigmali2017"))
    from massmap_jax.likelihood.objects import flag_of_part

    density[1:] = norm(0.25, 0.02).pdf(z)
    some = catalogue.with_redshifts(mm.RedshiftDistributions.grid(z, density, **OPTIONS))
    assert flag_of_part(some, narrow).tolist() == [int(mm.Flag.Z_OUTSIDE_PRIOR), 0, 0, 0]


def test_a_large_catalogue_is_refused_where_memory_ends(monkeypatch):
    monkeypatch.setattr("massmap_jax.memory.machine_bytes", lambda: 1e3)
    prior = mm.MassPrior.from_cosmology("Planck18", redshift=np.linspace(0.1, 1.0, 4))
    with pytest.raises(mm.errors.MassmapError, match="redshift nodes each needs about"):
        place(catalogue_with(mixture("two")), np.arange(U.size), prior)


def test_nodes_do_not_depend_on_how_many_are_placed_at_a_time(prior, monkeypatch):
    some = catalogue_with(mixture("two"))
    together = place(some, np.arange(U.size), prior)
    monkeypatch.setattr("massmap_jax.likelihood.redshifts._NUMBERS", 1)
    for a, b in zip(together, place(some, np.arange(U.size), prior), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_as_many_nodes_as_are_needed(prior):
    """More where a redshift moves the mass more: by its error, its distance, and the slope of the relation."""
    z = np.array([0.15, 0.5, 0.5, 1.0])
    steep, flat = (mm.MassLuminosityRelation(alpha1=0, alpha2=a, alpha3=3e14, scatter=0.2) for a in (1.7, 0.36))
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.ones(4), redshift=z, sigma_ln_luminosity=0.05)
    found = {}
    for name, error in (("small", 0.003), ("large", 0.1)):
        normal = mm.RedshiftDistributions.gaussian(z, error, variable="ln_1z", **OPTIONS)
        some = catalogue.with_redshifts(normal)
        for law, relation in (("steep", steep), ("flat", flat)):
            found[name, law] = nodes_needed(some, np.arange(4), prior, relation.as_batch())
    assert set(found["small", "steep"]) == {12} and (found["large", "steep"] >= 20).all()
    assert found["large", "steep"][0] >= found["large", "steep"][3]  # nearer
    # Slope and width of the likelihood of ln M go together.
    np.testing.assert_array_equal(found["large", "flat"], found["large", "steep"])
    said = catalogue.with_redshifts(mm.RedshiftDistributions.gaussian(z, 0.1, num_nodes=40, **OPTIONS))
    assert set(nodes_needed(said, np.arange(4), prior, steep.as_batch())) == {40}
    still = mm.RedshiftDistributions.gaussian(z, 0.1, contains="likelihood", lum_moves=False)
    assert set(nodes_needed(catalogue.with_redshifts(still), np.arange(4), prior, steep.as_batch())) == {12}
