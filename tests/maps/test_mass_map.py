"""Mass maps: conservation, coherent errors against plain NumPy, weights, bookkeeping, invariance."""

import equinox as eqx
import jax
import numpy as np
import pytest
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.special import logsumexp

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

REDSHIFT, MASS, DENSITY = schechter_table()
NUMBER, CHUNK, MAP_DRAWS = 300, 64, 200
ALPHA1 = 10.709 + 0.1 * np.linspace(-1.4, 1.4, 8)
# five objects at z = 1, masses between 25 and 27 in ln M, where the prior has most halos
Z1_LN_LUM = 10.709 + 0.359 * (np.linspace(25, 27, 5) - np.log(2.35e14)) + 1.1 * np.log(2.0)
LN_SHARE = np.log(np.linspace(1.0, 2.0, 8) / np.linspace(1.0, 2.0, 8).sum())


@pytest.fixture(scope="module")
def prior():
    return MassPrior.from_table(REDSHIFT, MASS, DENSITY)


@pytest.fixture(scope="module")
def relation():
    return MassLuminosityRelation.create(
        alpha1=ALPHA1, alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155, log_weight=LN_SHARE
    )


def field(seed=0, number=NUMBER, **changes):
    """Objects of the model, masses from the prior, in a square degree across RA 0."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 3.0, number)
    reference = PriorReference(REDSHIFT, MASS, DENSITY, per="mass")
    ln_mass = np.array([reference.quantile(rng.uniform(0.5, 1.0), one) for one in z])
    ln_lum = (
        10.709
        + 0.359 * (ln_mass - np.log(2.35e14))
        + 1.1 * np.log1p(z)
        + np.hypot(0.155, 0.05) * rng.normal(size=number)
    )
    columns = dict(
        luminosity=np.exp(ln_lum),
        redshift=z,
        sigma_ln_luminosity=0.05,
        ra=rng.uniform(359.5, 360.5, number) % 360,
        dec=rng.uniform(-0.5, 0.5, number),
        ids=np.arange(number) + 1000,
    )
    return columns | changes


@pytest.fixture(scope="module")
def catalogue():
    return HaloCatalogue.from_arrays(**field())


@pytest.fixture(scope="module")
def grid(catalogue):
    return PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=6.0)


@pytest.fixture(scope="module")
def result(catalogue, prior, relation, grid):
    return mass_map(
        jax.random.key(1),
        catalogue,
        prior,
        relation,
        grid,
        relation_from="fixed_draws",
        num_draws=MAP_DRAWS,
        keep_draws=True,
        chunk_size=CHUNK,
    )


def plain_moments(columns, alpha1):
    """E[M] and Var[M] of each object under each draw, (object, draw), and ln Z up to a constant: a fine trapezoid."""
    reference = PriorReference(REDSHIFT, MASS, DENSITY, per="mass")
    m = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 3001)
    first, second, ln_z = (np.empty((columns["redshift"].size, alpha1.size)) for _ in range(3))
    ends = np.where((m == m[0]) | (m == m[-1]), np.log(0.5), 0.0)  # of the trapezoid rule
    width2 = (0.155**2 + 0.05**2) / 0.359**2
    for i, (z, lum) in enumerate(zip(columns["redshift"], columns["luminosity"])):
        centre = np.log(2.35e14) + (np.log(lum) - alpha1 - 1.1 * np.log1p(z)) / 0.359
        joint = ends + reference.log_prob(m, z) - 0.5 * (m - centre[:, None]) ** 2 / width2
        ln_z[i] = logsumexp(joint, axis=1)
        density = np.exp(joint - ln_z[i][:, None])
        first[i], second[i] = density @ np.exp(m), density @ np.exp(2 * m)
    return first, second - first**2, ln_z


@pytest.fixture(scope="module")
def plain():
    return plain_moments(field(), ALPHA1)


def test_mean_conserves_the_catalogued_mass(result, catalogue, prior, relation, plain):
    posterior = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", chunk_size=CHUNK)
    assert result.mean.sum() == pytest.approx(posterior.mean_mass.sum(), rel=1e-13)
    assert result.mean.sum() == pytest.approx((plain[0] @ np.exp(LN_SHARE)).sum(), rel=1e-4)
    assert result.nobj.sum() == NUMBER and result.n_outside == result.n_flagged == 0
    assert result.mean.shape == result.sd.shape == result.q16.shape == result.nobj.shape == result.grid.shape


def test_images_are_the_statistics_of_the_draws(result):
    draws = result.draws
    assert draws.shape == (MAP_DRAWS, *result.grid.shape)
    np.testing.assert_allclose(draws.sum(axis=(1, 2)), result.total_draws, rtol=1e-12)
    np.testing.assert_allclose(draws.mean(axis=0), result.sampled_mean, rtol=1e-12)
    np.testing.assert_allclose(draws.std(axis=0, ddof=1), result.sd, rtol=1e-10)
    for image, level in ((result.q16, 0.16), (result.q50, 0.5), (result.q84, 0.84)):
        np.testing.assert_allclose(image, np.quantile(draws, level, axis=0), rtol=1e-12)
    empty = result.nobj == 0
    for image in (result.mean, result.sampled_mean, result.sd, result.q84):
        assert np.all(image[empty] == 0) and np.all(image[~empty] > 0)


def test_sampled_mean_agrees_within_its_error(result, catalogue, prior, relation, grid):
    """Pixels and total, three keys, in units of sd / sqrt(draws). (Relation draws are stratified: errors are smaller.)"""
    for key in (1, 2, 3):
        one = (
            result
            if key == 1
            else mass_map(
                jax.random.key(key),
                catalogue,
                prior,
                relation,
                grid,
                relation_from="fixed_draws",
                num_draws=MAP_DRAWS,
                chunk_size=CHUNK,
            )
        )
        full = one.nobj > 0
        score = ((one.sampled_mean - one.mean)[full]) / (one.sd[full] / np.sqrt(MAP_DRAWS))
        assert np.abs(score).max() < 6 and abs(score.mean()) < 1.0 and score.std() < 1.3, key
        total = (one.total_draws.mean() - one.mean.sum()) / (one.total_draws.std() / np.sqrt(MAP_DRAWS))
        assert abs(total) < 5, key


def test_sd_of_the_total_is_coherent_and_that_of_marginals_is_not(result, catalogue, prior, relation, plain):
    """Expected in plain NumPy: mean over draws of the summed variances, and the variance of the summed means."""
    share = np.exp(LN_SHARE)
    totals = plain[0].sum(axis=0)
    variance = share @ plain[1].sum(axis=0) + share @ (totals - share @ totals) ** 2
    error = 1 / np.sqrt(2 * MAP_DRAWS)  # of an sd; heavier tails than a Gaussian, hence the factor below
    assert result.total_draws.std() / np.sqrt(variance) == pytest.approx(1.0, abs=6 * error)
    # the twin: independent draws from each object's own relation-averaged posterior
    posterior = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", chunk_size=CHUNK)
    marginal = np.exp(posterior.sample(jax.random.key(0), MAP_DRAWS)).sum(axis=0)
    marginal_variance = (plain[1] @ share + (plain[0] - (plain[0] @ share)[:, None]) ** 2 @ share).sum()
    assert marginal.std() / np.sqrt(marginal_variance) == pytest.approx(1.0, abs=6 * error)
    assert np.sqrt(variance) > 1.5 * np.sqrt(marginal_variance)
    assert marginal.std() < 0.8 * result.total_draws.std()


def test_relation_draws_are_used_as_their_weights_say(prior, catalogue, grid):
    """One of two relations weighs nothing: the map is that of the other."""
    two = MassLuminosityRelation.create(
        alpha1=np.where(np.arange(8) == 3, 10.709, 12.0),
        alpha2=0.359,
        alpha3=2.35e14,
        alpha4=1.1,
        scatter=0.155,
        log_weight=np.where(np.arange(8) == 3, 0.0, -np.inf),
    )
    got = mass_map(
        jax.random.key(0),
        catalogue,
        prior,
        two,
        grid,
        relation_from="fixed_draws",
        num_draws=MAP_DRAWS,
        chunk_size=CHUNK,
    )
    first, variance, _ = plain_moments(field(), np.array([10.709]))
    assert got.ess == pytest.approx(1.0)
    assert got.mean.sum() == pytest.approx(first.sum(), rel=1e-4)
    assert abs(got.total_draws.mean() - first.sum()) < 5 * np.sqrt(variance.sum() / MAP_DRAWS)


def test_same_key_same_map_and_another_key_another(result, catalogue, prior, relation, grid):
    again, other = (
        mass_map(
            jax.random.key(k),
            catalogue,
            prior,
            relation,
            grid,
            relation_from="fixed_draws",
            num_draws=MAP_DRAWS,
            chunk_size=CHUNK,
        )
        for k in (1, 2)
    )
    for name in ("mean", "sampled_mean", "sd", "q16", "q50", "q84", "nobj", "total_draws"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name), err_msg=name)
    np.testing.assert_array_equal(other.mean, result.mean)
    assert not np.array_equal(other.sd, result.sd)
    assert again.draws is None


def test_row_order_does_not_matter(result, catalogue, prior, relation, grid):
    order = np.random.default_rng(0).permutation(NUMBER)
    got = mass_map(
        jax.random.key(1),
        catalogue.subset(order),
        prior,
        relation,
        grid,
        relation_from="fixed_draws",
        num_draws=MAP_DRAWS,
        chunk_size=CHUNK,
    )
    for name in ("mean", "sampled_mean", "sd", "q16", "q50", "q84", "nobj", "total_draws"):
        np.testing.assert_allclose(getattr(got, name), getattr(result, name), rtol=1e-12, err_msg=name)


def test_a_given_posterior_gives_the_same_map(result, catalogue, prior, relation, grid):
    posterior = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", chunk_size=CHUNK)
    got = mass_map(
        jax.random.key(1),
        catalogue,
        prior,
        relation,
        grid,
        relation_from="fixed_draws",
        num_draws=MAP_DRAWS,
        chunk_size=CHUNK,
        posterior=posterior,
    )
    np.testing.assert_array_equal(got.mean, result.mean)
    np.testing.assert_array_equal(got.total_draws, result.total_draws)


@pytest.mark.parametrize("other", ["relation", "rows", "catalogue"])
def test_a_posterior_of_other_arguments_is_refused(catalogue, prior, relation, grid, other):
    """Its means beside draws of another relation, or of other objects, would be a wrong map without a word."""
    given = {"relation_from": "fixed_draws", "chunk_size": CHUNK}
    few = catalogue.subset(slice(0, 20))
    of = {"relation": few, "rows": few.subset(np.arange(20)[::-1]), "catalogue": catalogue}[other]
    changed = eqx.tree_at(lambda r: r.alpha1, relation, relation.alpha1 + 0.1) if other == "relation" else relation
    posterior = mass_posterior(of, prior, changed, **given)
    with pytest.raises(MassmapError, match="not that of its other arguments"):
        mass_map(jax.random.key(1), few, prior, relation, grid, posterior=posterior, num_draws=8, **given)


def test_objects_outside_and_unusable_are_counted(prior, relation, result, grid):
    columns = field()
    columns["dec"] = columns["dec"].copy()
    columns["dec"][:7] += 5.0  # outside the grid
    columns["dec"][7] = np.nan  # no position
    columns["luminosity"] = columns["luminosity"].copy()
    columns["luminosity"][[8, 9]] = [-1.0, np.nan]
    columns["redshift"] = columns["redshift"].copy()
    columns["redshift"][10] = 7.0  # beyond the prior
    got = mass_map(
        jax.random.key(1),
        HaloCatalogue.from_arrays(**columns),
        prior,
        relation,
        grid,
        relation_from="fixed_draws",
        num_draws=MAP_DRAWS,
        chunk_size=CHUNK,
    )
    assert (got.n_outside, got.n_flagged, got.nobj.sum()) == (8, 3, NUMBER - 11)
    assert np.all(np.isfinite(got.mean)) and got.mean.sum() < result.mean.sum()


def test_field_across_ra_zero_is_in_one_piece(grid, result):
    assert grid.shape[0] < 15 and grid.shape[1] < 15
    moved = field()
    moved["ra"] = (moved["ra"] + 90.0) % 360
    other = PixelGrid.fit(moved["ra"], moved["dec"], pixel_arcmin=6.0)
    assert other.shape == grid.shape
    index, moved_index = grid.index(field()["ra"], field()["dec"]), other.index(moved["ra"], moved["dec"])
    np.testing.assert_array_equal(index, moved_index)


# -- external draws that the whole catalogue updates -----------------------------------------------------------------


def wide_draws(number):
    alpha1 = 10.709 + 0.3 * np.random.default_rng(5).normal(size=number)
    return alpha1, MassLuminosityRelation.create(alpha1=alpha1, alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155)


def test_other_data_collapse_is_refused_with_the_number(catalogue, prior, relation, grid):
    with pytest.raises(
        MassmapError, match=r"8 relation draws collapse to \d\.\d effective ones when all 300 objects"
    ) as e:
        mass_map(
            jax.random.key(0),
            catalogue,
            prior,
            relation,
            grid,
            relation_from="other_data",
            num_draws=MAP_DRAWS,
            chunk_size=CHUNK,
        )
    assert "this_catalogue" in str(e.value) and "fixed_draws" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.slow
def test_other_data_weighs_draws_by_the_product_of_evidences(prior):
    """5 objects, 2,000 wide draws: joint weights, against plain NumPy; per-object weights are another answer."""
    columns = field(seed=3, number=5) | dict(redshift=np.full(5, 1.0), luminosity=np.exp(Z1_LN_LUM))
    catalogue = HaloCatalogue.from_arrays(**columns)
    grid = PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=20.0)
    alpha1, relation = wide_draws(2000)
    got = mass_map(
        jax.random.key(0),
        catalogue,
        prior,
        relation,
        grid,
        relation_from="other_data",
        num_draws=MAP_DRAWS,
        chunk_size=8,
    )
    first, variance, ln_z = plain_moments(columns, alpha1)
    weight = np.exp(ln_z.sum(axis=0) - logsumexp(ln_z.sum(axis=0)))
    assert got.ess == pytest.approx(1 / (weight**2).sum(), rel=2e-3) and got.ess > 100
    assert got.mean.sum() == pytest.approx((first @ weight).sum(), rel=3e-4)
    totals = first.sum(axis=0)
    sd = np.sqrt(weight @ variance.sum(axis=0) + weight @ (totals - weight @ totals) ** 2)
    assert abs(got.total_draws.mean() - totals @ weight) < 5 * sd / np.sqrt(MAP_DRAWS)
    # the two wrong mixtures: each object with its own weights, and equal weights
    own = np.exp(ln_z - logsumexp(ln_z, axis=1, keepdims=True))
    for wrong in ((first * own).sum(), first.mean(axis=1).sum()):
        assert abs(wrong / got.mean.sum() - 1) > 0.01


# -- errors -------------------------------------------------------------------------------------------------------


def test_errors(catalogue, prior, relation, grid):
    columns = field()
    no_positions = HaloCatalogue.from_arrays(**{k: v for k, v in columns.items() if k not in ("ra", "dec")})
    with pytest.raises(MassmapError, match="no positions: a map needs ra and dec"):
        mass_map(jax.random.key(0), no_positions, prior, relation, grid, relation_from="fixed_draws")
    with pytest.raises(MassmapError, match="number of map draws is 1"):
        mass_map(jax.random.key(0), catalogue, prior, relation, grid, relation_from="fixed_draws", num_draws=1)
    with pytest.raises(MassmapError, match="8 draws, and relation_from is not given"):
        mass_map(jax.random.key(0), catalogue, prior, relation, grid)
    linear = HaloCatalogue.from_arrays(**(columns | dict(sigma_ln_luminosity=0.4)), noise_kind="normal")
    relation = eqx.tree_at(lambda r: r.scatter, relation, 3.0 + 0.0 * np.asarray(relation.scatter))
    with pytest.raises(MassmapError, match="linear noise is tabulated for a scatter of up to"):
        mass_map(
            jax.random.key(0),
            linear,
            prior,
            relation,
            grid,
            relation_from="fixed_draws",
            num_draws=MAP_DRAWS,
            chunk_size=CHUNK,
        )


def test_masses_with_linear_noise_are_drawn_from_their_posteriors(prior, relation, grid):
    """One object in 64 copies: mean and spread of the map's total over draws, the spread with a twin that must fail."""
    columns = dict(ra=1e-3 * np.arange(64), dec=np.zeros(64), luminosity=np.full(64, 3000.0), redshift=np.full(64, 0.8))
    one = jax.tree.map(lambda a: a[:1], relation)
    linear, lognormal = (
        HaloCatalogue.from_arrays(**columns, sigma_ln_luminosity=0.3, noise_kind=kind)
        for kind in ("normal", "lognormal")
    )
    found = mass_map(
        jax.random.key(0), linear, prior, one, grid, relation_from="fixed_draws", num_draws=200, chunk_size=CHUNK
    )
    total = found.total_draws
    for catalogue, right in ((linear, True), (lognormal, False)):
        posterior = mass_posterior(catalogue, prior, one, relation_from="fixed_draws", chunk_size=CHUNK)
        drawn = np.exp(posterior.sample(jax.random.key(1), 4000)[0])
        mean, error = 64 * posterior.mean_mass[0], drawn.std() * 8 / np.sqrt(200)
        assert (abs(total.mean() - mean) < 5 * error) == right


def test_a_posterior_that_is_not_the_maps_own_is_refused(catalogue, prior, relation, grid):
    """The map's draws are those of the analytic posterior."""
    few, options = catalogue.subset(np.arange(4)), {"relation_from": "fixed_draws", "chunk_size": CHUNK}
    posterior = mass_posterior(few, prior, relation, method="quadrature", **options)
    with pytest.raises(MassmapError, match=r"method 'quadrature'.* is not the map's own"):
        mass_map(jax.random.key(0), few, prior, relation, grid, num_draws=MAP_DRAWS, posterior=posterior, **options)
