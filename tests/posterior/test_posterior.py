"""mass_posterior against exact cells and quadrature, and what must not change it: order, subset, chunks, bad rows."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from reference.moments import SharpMoments
from reference.posterior_reference import Mixture, Relation, SingleDraw, SingleDrawByQuadrature
from reference.prior_reference import PriorReference
from reference.tables import read_three_columns, schechter_table
from scipy import stats

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.maps.circle import mass_in_circle
from massmap_jax.maps.regions import Circle
from massmap_jax.posterior import kernel
from massmap_jax.posterior.kernel import Group, merged
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import PARAMETERS, MassLuminosityRelation
from massmap_jax.relation.law import Relation as RelationOfTheUser

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # older JAX
    from jax.experimental import enable_x64

TABLE = schechter_table()
REDSHIFT = TABLE[0]
LEVELS = (0.001, 0.16, 0.5, 0.84, 0.999)
ENDS = (0.001, 0.5, 0.999)
# float32 holds ln M = 32 to 2e-6 at best: what a posterior narrower than 0.002 can be held to
STEP = {False: 6e-6, True: 0.0}
CHUNK = 64
RELATION_FROM = ("this_catalogue", "other_data", "fixed_draws")


def single(**changes):
    """One relation as a batch of one, and the same for the reference."""
    values = dict(alpha1=10.709, alpha2=0.359, alpha3=2.35e14, alpha4=1.10, scatter=0.155) | changes
    return MassLuminosityRelation.create(**values), [Relation(**values)]


def draws():
    """8 draws, wider than those of 2017, with weights."""
    rng = np.random.default_rng(8)
    values = {
        "alpha1": 10.709 + 0.06 * rng.normal(size=8),
        "alpha2": 0.359 + 0.01 * rng.normal(size=8),
        "alpha3": np.full(8, 2.35e14),
        "alpha4": 1.1 + 0.06 * rng.normal(size=8),
        "scatter": rng.uniform(0.12, 0.19, 8),
    }
    ln_weight = rng.normal(size=8)
    relation = MassLuminosityRelation.from_draws(**values, log_weight=ln_weight)
    return relation, [Relation(*(float(values[n][j]) for n in PARAMETERS)) for j in range(8)], ln_weight


def objects(relation, seed=0, number=16):
    """(ln L_obs, sigma, z): random ones inside the table, z between and on nodes."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0, 3.5, number)
    z[:6] = [0.0, 3.5, REDSHIFT[1], REDSHIFT[9], REDSHIFT[18], 1e-9]
    sigma = 10 ** rng.uniform(-2, 0, number)
    ln_mass = rng.uniform(23.5, 32.5, number)
    ln_lum = relation.mean_ln_lum(ln_mass, z) + np.hypot(relation.scatter, sigma) * rng.normal(size=number)
    return ln_lum, sigma, z


def extremes(relation, reach=(15.0, 22.0, 23.25, 32.67, 34.0, 40.0), sigmas=(0.01, 0.05, 1.0)):
    """Far below, at both ends of, and far above the table."""
    grid = np.array([(m, s, z) for m in reach for s in sigmas for z in (0.0, 1.7)])
    return relation.mean_ln_lum(grid[:, 0], grid[:, 2]), grid[:, 1], grid[:, 2]


def make_catalogue(ln_lum, sigma, z, **more):
    return HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma, **more)


def worst_errors(posterior, references, x64):
    """Largest error of each summary in the units of the acceptance figures; `references` has one per row."""
    worst = dict.fromkeys(("mean", "sd", "tail", "mode", "log_evidence", "edge_mass", "bits", "ess"), 0.0)

    def keep(name, value):
        worst[name] = max(worst[name], float(value)) if np.isfinite(value) else np.inf

    for i, exact in enumerate(references):
        sharp = SharpMoments(exact)
        slack = STEP[x64]
        keep("mean", (abs(posterior.mean[i] - sharp.mean) - slack) / sharp.sd)
        keep("sd", (abs(posterior.sd[i] - sharp.sd) - slack) / sharp.sd)
        for level in (0, -1):
            keep("tail", (abs(posterior.quantiles[i, level] - sharp.quantile(LEVELS[level])) - slack) / sharp.sd)
        mode = np.clip(posterior.mode[i], exact.ln_mass[0], exact.ln_mass[-1])
        keep("mode", exact.log_pdf(exact.mode) - exact.log_pdf(mode))
        keep(
            "log_evidence",
            abs(posterior.log_evidence[i] - exact.log_evidence) / max(1.0, 0.01 * abs(exact.log_evidence)),
        )
        keep("edge_mass", abs(posterior.edge_mass[i] - exact.edge_mass))
        if sharp.sd > 0.01:  # the reference's own moments cancel for narrower ones
            keep("bits", abs(posterior.information_bits[i] - exact.information_bits))
        if hasattr(exact, "ess"):
            keep("ess", abs(posterior.ess[i] / exact.ess - 1))
    return worst


LIMITS = {
    "mean": 1e-3,
    "sd": 1e-3,
    "tail": 1e-2,
    "mode": 1e-3,
    "log_evidence": 1e-3,
    "edge_mass": 1e-4,
    "bits": 1e-3,
    "ess": 1e-3,
}


def check(posterior, references, x64, label, factor=1.0, limits=LIMITS):
    worst = worst_errors(posterior, references, x64)
    print(label, "float64" if x64 else "float32", {name: f"{value:.1e}" for name, value in worst.items()})
    over = {name: value for name, value in worst.items() if value > factor * limits[name]}
    assert not over, (label, over)


@pytest.fixture(scope="module")
def prior():
    return MassPrior.from_table(*TABLE)


@pytest.fixture(scope="module")
def reference():
    return PriorReference(*TABLE, per="mass")


@pytest.mark.parametrize(
    "name, changes, x64",
    [
        ("bigmali2017", {}, False),
        ("bigmali2017", {}, True),
        ("no scatter", {"scatter": 0.0}, False),
        ("no scatter", {"scatter": 0.0}, True),
        ("little scatter", {"scatter": 1e-4}, False),
        ("wide scatter", {"scatter": 1.5}, False),
        ("falling", {"alpha2": -0.5}, False),
        ("falling", {"alpha2": -0.5}, True),
        ("steep", {"alpha2": 1.7}, False),
    ],
)
def test_one_relation_on_random_and_extreme_objects(prior, reference, name, changes, x64):
    relation, relations = single(**changes)
    random, extreme = objects(relations[0]), extremes(relations[0])
    for label, (ln_lum, sigma, z), factor in (("random", random, 1.0), ("extreme", extreme, 1.0 if x64 else 10.0)):
        with enable_x64(x64):
            posterior = mass_posterior(
                make_catalogue(ln_lum, sigma, z), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK
            )
        references = [SingleDraw(reference, *one, relations[0]) for one in zip(ln_lum, sigma, z)]
        check(posterior, references, x64, f"{name}, {label}", factor)
        assert np.all(posterior.flag & ~int(Flag.EDGE) == 0)
        np.testing.assert_array_equal((posterior.flag & Flag.EDGE) != 0, posterior.edge_mass > 0.01)


def test_one_relation_against_adaptive_quadrature(prior, reference):
    """No formula in common with the exact cells; a few objects, since it is slow."""
    relation, relations = single()
    ln_lum, sigma, z = (column[:3] for column in objects(relations[0], seed=4))
    posterior = mass_posterior(
        make_catalogue(ln_lum, sigma, z), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK
    )
    check(
        posterior,
        [SingleDrawByQuadrature_(reference, *one, relations[0]) for one in zip(ln_lum, sigma, z)],
        False,
        "adaptive quadrature",
    )


class SingleDrawByQuadrature_(SingleDrawByQuadrature):
    def log_pdf(self, ln_mass):
        return np.vectorize(self._ln_joint)(ln_mass) - self.log_evidence


@pytest.mark.parametrize("relation_from, x64", [(name, False) for name in RELATION_FROM] + [("other_data", True)])
def test_draws_on_random_and_extreme_objects(prior, reference, relation_from, x64):
    relation, relations, ln_weight = draws()
    random = objects(relations[0], number=16)
    extreme = extremes(relations[0], reach=(19.0, 23.3, 33.0, 36.0), sigmas=(0.01, 1.0))
    for label, (ln_lum, sigma, z), factor in (("random", random, 1.0), ("extreme", extreme, 1.0 if x64 else 10.0)):
        with enable_x64(x64):
            posterior = mass_posterior(
                make_catalogue(ln_lum, sigma, z),
                prior,
                relation,
                quantile_levels=LEVELS,
                relation_from=relation_from,
                chunk_size=CHUNK,
            )
        references = [Mixture(reference, *one, relations, relation_from, ln_weight) for one in zip(ln_lum, sigma, z)]
        check(posterior, references, x64, f"{relation_from}, {label}", factor)


def coarse_table(uniform):
    """12 masses over five decades, as a person would type them."""
    rng = np.random.default_rng(12)
    mass = np.geomspace(1e10, 1e15, 12)
    if not uniform:
        mass[1:-1] *= np.exp(rng.uniform(-0.4, 0.4, 10))
    redshift = np.array([0.0, 0.9, 2.0, 3.5])
    ratio = mass / 10.0 ** (14.2 - 0.75 * redshift)[:, None]
    return redshift, mass, ratio ** (-0.88 + 0.03 * redshift[:, None]) * np.exp(-(ratio**0.6)) / mass


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("scatter", [0.155, 0.0])
def test_a_coarse_table_of_12_masses(uniform, scatter):
    table = coarse_table(uniform)
    prior, reference = MassPrior.from_table(*table), PriorReference(*table, per="mass")
    relation, relations = single(scatter=scatter)
    ln_lum, sigma, z = objects(relations[0], seed=2)
    posterior = mass_posterior(
        make_catalogue(ln_lum, sigma, z), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK
    )
    references = [SingleDraw(reference, *one, relations[0]) for one in zip(ln_lum, sigma, z)]
    # The mode may sit on a kink of the table, which a parabola through nodes rounds off.
    check(posterior, references, False, f"12 masses, uniform {uniform}, S {scatter}", limits=LIMITS | {"mode": 1e-2})


def test_the_public_table_of_2017(public_data):
    table = read_three_columns(public_data / "bigmali" / "massprior.txt")
    prior, reference = MassPrior.from_table(*table), PriorReference(*table, per="mass")
    relation, relations = single()
    rows = np.loadtxt(public_data / "bigmali" / "mock_data.txt")
    rows = rows[(rows[:, 0] > table[0][0]) & (rows[:, 0] < table[0][-1])]
    order = np.argsort(rows[:, 1])
    rows = rows[np.concatenate([order[:3], order[-3:], order[:: order.size // 12]])]
    ln_lum, sigma, z = np.log(rows[:, 1]), np.full(len(rows), 0.05), rows[:, 0]
    posterior = mass_posterior(
        make_catalogue(ln_lum, sigma, z), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK
    )
    check(posterior, [SingleDraw(reference, *one, relations[0]) for one in zip(ln_lum, sigma, z)], False, "2017 table")


def test_a_sharp_table_has_no_edge_mass(prior):
    sharp = MassPrior.from_table(*TABLE, support="sharp")
    relation, relations = single()
    ln_lum, sigma, z = extremes(relations[0])
    posterior = mass_posterior(
        make_catalogue(ln_lum, sigma, z), sharp, relation, quantile_levels=LEVELS, chunk_size=CHUNK
    )
    assert np.all(posterior.edge_mass == 0) and np.all(posterior.flag == 0)


def test_one_absurd_row_does_not_stop_the_others(prior):
    """A mass proxy in the wrong unit with a tiny error: flagged or finite, and the good rows as without it."""
    relation, relations = single(scatter=0.0, alpha2=1.0)
    ln_mass = np.array([30.0, 60.0, -50.0, 31.0, 100.0, 0.0])
    sigma, z = np.array([0.1, 1e-3, 1e-3, 0.2, 1e-3, 1e-3]), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.92])
    ln_lum = relations[0].mean_ln_lum(ln_mass, z)
    got = mass_posterior(make_catalogue(ln_lum, sigma, z), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK)
    good = [0, 3]
    alone = mass_posterior(
        make_catalogue(ln_lum[good], sigma[good], z[good]), prior, relation, quantile_levels=LEVELS, chunk_size=CHUNK
    )
    np.testing.assert_array_equal(got.mean[good], alone.mean)
    assert np.all(got.flag[[1, 2, 4, 5]] != 0)


# -- methods of the posterior ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(prior):
    """24 objects, 8 draws; every row three times, for the methods that take one number per row."""
    relation, relations, ln_weight = draws()
    ln_lum, sigma, z = (np.repeat(column, 3) for column in objects(relations[0], number=24))
    catalogue = make_catalogue(
        ln_lum,
        sigma,
        z,
        ids=[f"halo {i}" for i in range(72)],
        truth_mass=np.full(72, 1e12),
        ra=np.linspace(10, 11, 72),
        dec=np.zeros(72),
    )
    posterior = mass_posterior(
        catalogue, prior, relation, relation_from="other_data", quantile_levels=LEVELS, chunk_size=CHUNK
    )
    return posterior, relations, ln_weight, (ln_lum, sigma, z)


def test_cdf_follows_the_reference(mixed, reference):
    posterior, relations, ln_weight, columns = mixed
    offset = np.tile([-2.0, 0.3, 2.5], 24) * posterior.sd
    at = np.clip(posterior.mean + offset, reference.ln_mass[0], reference.ln_mass[-1])
    got = posterior.cdf(at)
    expected = [Mixture(reference, *one, relations, "other_data", ln_weight).cdf(m) for m, *one in zip(at, *columns)]
    print("max CDF difference", np.abs(got - expected).max())
    assert np.abs(got - expected).max() < 1e-3
    np.testing.assert_array_equal(posterior.cdf(np.full(72, 60.0)), 1.0)
    np.testing.assert_array_equal(posterior.cdf(np.zeros(72)), 0.0)
    with pytest.raises(MassmapError, match="one ln mass per row, 72"):
        posterior.cdf(np.zeros(3))


@pytest.mark.parametrize(
    ("what", "given"), [("masses", np.geomspace(1e12, 1e15, 72)), ("base 10", np.linspace(11, 15, 72))]
)
def test_masses_and_logarithms_to_base_10_are_not_taken_for_ln_m(mixed, what, given):
    """All of them would have a CDF of 1, or of 0; one that lies beyond the prior is as it was."""
    posterior = mixed[0]
    for call in (posterior.cdf, lambda grid: posterior.log_pdf([0], grid)):
        with pytest.raises(MassmapError, match=f"look like .*{what}"):
            call(given)
    with pytest.raises(MassmapError, match=r"rows are numbers of rows, from 0 to 71, .* which 32\.0 is not"):
        posterior.log_pdf(32.0)


def test_quantile_inverts_the_cdf(mixed):
    posterior = mixed[0]
    quantiles = posterior.quantile(LEVELS)
    np.testing.assert_allclose(quantiles, posterior.quantiles, rtol=1e-6)
    assert np.all(np.diff(quantiles, axis=1) > 0)
    for i, level in enumerate(LEVELS):
        np.testing.assert_allclose(posterior.cdf(quantiles[:, i]), level, atol=2e-5)
    np.testing.assert_array_equal(posterior.median, posterior.quantiles[:, 2])
    for bad in (0.0, 1.0, -0.1, np.nan):
        with pytest.raises(MassmapError, match="numbers between 0 and 1"):
            posterior.quantile((0.5, bad))


def test_samples_follow_the_cdf(mixed, reference):
    """KS of 4 x 400 draws per key against the exact CDF at p > 1e-5; a 30 % wider posterior is seen."""
    posterior, relations, ln_weight, columns = mixed
    rows = range(0, 72, 18)
    exact = [Mixture(reference, *(c[i] for c in columns), relations, "other_data", ln_weight) for i in rows]
    for seed in range(3):
        sample = posterior.sample(jax.random.key(seed), 400)
        assert sample.shape == (72, 400)
        pit = np.array([[e.cdf(m) for m in sample[i]] for i, e in zip(rows, exact)])
        assert stats.kstest(pit.ravel(), "uniform").pvalue > 1e-5, seed
    np.testing.assert_array_equal(posterior.sample(jax.random.key(2), 400, [0, 18]), sample[[0, 18]])
    with pytest.raises(MassmapError, match="at least 1"):
        posterior.sample(jax.random.key(2), 0)
    np.testing.assert_array_equal(posterior.sample(jax.random.key(2), 400), sample)
    wide = [[e.cdf(posterior.mean[i] + 1.3 * (m - posterior.mean[i])) for m in sample[i]] for i, e in zip(rows, exact)]
    assert stats.kstest(np.ravel(wide), "uniform").pvalue < 1e-5
    # rows with other ids are independent, though their posteriors are the same
    assert abs(np.corrcoef(sample[0], sample[1])[0, 1]) < 5 / np.sqrt(400)


def test_log_pdf_is_normalised_and_follows_the_reference(mixed, reference):
    posterior, relations, ln_weight, columns = mixed
    rows = np.array([0, 20, 40, 71])
    grid = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 4001)
    at, values = posterior.log_pdf(rows, grid)
    assert values.shape == (4, 4001)
    np.testing.assert_array_equal(at, grid)
    for i, row in enumerate(rows):
        expected = Mixture(reference, *(c[row] for c in columns), relations, "other_data", ln_weight).log_pdf(grid)
        assert np.trapezoid(np.exp(values[i]), grid) == pytest.approx(1.0, abs=2e-4)
        likely = (expected > expected.max() - 20)[1:-1]
        np.testing.assert_allclose(values[i][1:-1][likely], expected[1:-1][likely], atol=2e-3)
    # Grids of their own, and one kernel for all of these rows, give the same.
    own = posterior.mean[rows, None] + posterior.sd[rows, None] * np.array([-2.0, 0.0, 1.5])
    _, of_own = posterior.log_pdf(rows, own)
    alone = [posterior.log_pdf(row, grid)[1][0] for row, grid in zip(rows, own, strict=True)]
    np.testing.assert_allclose(of_own, alone, atol=2e-4)
    with pytest.raises(MassmapError, match=r"has shape \(2, 3\) for 4 rows"):
        posterior.log_pdf(rows, own[:2])
    default_grid, default_values = posterior.log_pdf(3)
    np.testing.assert_array_equal(default_grid, posterior.prior.ln_mass_nodes)
    assert default_values.shape == (1, 410)


def test_groups_of_one_kind_of_noise_share_a_kernel():
    groups = [
        Group(np.array([4]), 16, False, "lognormal"),
        Group(np.array([1, 5]), 32, True, "normal"),
        Group(np.array([0]), 64, False, "near"),
        Group(np.array([3, 2]), 8, False, "lognormal"),
    ]
    lognormal, linear = merged(groups)
    assert lognormal[1:] == (16, False, "lognormal") and lognormal.rows.tolist() == [2, 3, 4]
    assert linear[1:] == (64, True, "normal") and linear.rows.tolist() == [0, 1, 5]


def test_to_table_has_a_row_per_object(mixed):
    posterior = mixed[0]
    table = posterior.to_table()
    expected = [
        "id",
        "ra",
        "dec",
        "z",
        "ln_lum_obs",
        "sigma_ln_lum",
        "log10_mass_mean",
        "log10_mass_sd",
        "log10_mass_mode",
        "log10_mass_q001",
        "log10_mass_q16",
        "log10_mass_q50",
        "log10_mass_q84",
        "log10_mass_q999",
        "mass_mean",
        "log_evidence",
        "edge_mass",
        "information_bits",
        "ess",
        "log10_mass_true",
        "flag",
        "flag_reason",
    ]
    assert list(table) == expected and all(len(column) == 72 for column in table.values())
    np.testing.assert_allclose(table["log10_mass_q50"], posterior.median / np.log(10))
    np.testing.assert_allclose(table["log10_mass_true"], 12.0)
    assert table["id"][5] == "halo 5"
    assert len(posterior) == 72 and "72 rows" in posterior.summary()


def test_check_speaks_only_of_flagged_rows(prior):
    relation = single()[0]
    good = mass_posterior(
        make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 1.0)),
        prior,
        relation,
        quantile_levels=LEVELS,
        chunk_size=CHUNK,
    )
    assert good.check() is None
    bad = mass_posterior(
        make_catalogue(np.array([9.6, np.nan]), 0.05, np.full(2, 1.0)),
        prior,
        relation,
        quantile_levels=LEVELS,
        chunk_size=CHUNK,
    )
    with pytest.raises(MassmapError, match="1 of 2 rows are flagged, first row 1"):
        bad.check()


# -- what must not change it ----------------------------------------------------------------------------------------

STORED = ("mean", "sd", "mode", "mean_mass", "quantiles", "log_evidence", "edge_mass", "information_bits", "ess")


@pytest.mark.parametrize("method", ["analytic", "monte_carlo", "importance"])
def test_order_subset_and_chunk_size_do_not_matter(prior, method):
    """Order, subset and (on CPU) chunk size leave every bit alone: sampled methods are keyed by id."""
    relation, relations, _ = draws()
    ln_lum, sigma, z = objects(relations[0], number=16)
    if method != "analytic":
        sigma = np.maximum(sigma, 0.1)
    catalogue = make_catalogue(ln_lum, sigma, z, ids=np.arange(16) * 7 + 3)
    order = np.random.default_rng(1).permutation(16)
    some = np.array([2, 3, 11])

    def run(chosen, chunk_size=CHUNK, seed=0):
        return mass_posterior(
            catalogue.subset(chosen),
            prior,
            relation,
            relation_from="other_data",
            method=method,
            key=jax.random.key(seed),
            quantile_levels=LEVELS,
            chunk_size=chunk_size,
            num_lum_draws=100,
        )

    full, shuffled, part = run(np.arange(16)), run(order), run(some)
    for name in STORED:
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(full, name)[order], err_msg=name)
        np.testing.assert_array_equal(getattr(part, name), getattr(full, name)[some], err_msg=name)
    if method == "analytic":
        chunked = run(np.arange(16), chunk_size=4)
        for name in STORED:
            np.testing.assert_allclose(getattr(chunked, name), getattr(full, name), rtol=1e-6, atol=1e-6, err_msg=name)
    else:
        assert np.all(run(np.arange(16), seed=1).mean != full.mean)
        assert np.all(np.isfinite(full.pareto_k)) and np.all((full.ess > 1) & (full.ess <= 800))


def test_padding_of_draws_and_weights_at_zero(prior, reference):
    """17 draws do not fill blocks of 16; a draw of no weight is as if it were not there."""
    relation, relations, _ = draws()
    rows = np.concatenate([np.arange(8), np.arange(8), [0]])
    ln_weight = np.where(np.arange(17) < 8, 0.0, -np.inf)
    many = MassLuminosityRelation.from_draws(
        **{n: getattr(relation, n)[rows] for n in PARAMETERS}, log_weight=ln_weight
    )
    ln_lum, sigma, z = objects(relations[0], number=6)
    got = mass_posterior(
        make_catalogue(ln_lum, sigma, z),
        prior,
        many,
        relation_from="other_data",
        quantile_levels=LEVELS,
        chunk_size=CHUNK,
    )
    references = [Mixture(reference, *one, relations, "other_data") for one in zip(ln_lum, sigma, z)]
    check(got, references, False, "17 draws")


def test_bad_rows_are_nan_and_leave_the_others_alone(prior):
    relation, relations, _ = draws()
    ln_lum, sigma, z = objects(relations[0], number=16)
    clean = mass_posterior(
        make_catalogue(ln_lum, sigma, z),
        prior,
        relation,
        relation_from="fixed_draws",
        quantile_levels=LEVELS,
        chunk_size=CHUNK,
    )
    lum, sigma, z = np.exp(ln_lum), sigma.copy(), z.copy()
    lum[0], lum[1], lum[2], sigma[3], sigma[4], z[5], z[6], z[7] = np.nan, -1.0, 0.0, np.nan, -0.1, np.nan, -1.0, 3.6
    catalogue = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=sigma)
    got = mass_posterior(
        catalogue, prior, relation, relation_from="fixed_draws", quantile_levels=LEVELS, chunk_size=CHUNK
    )
    for name in STORED:
        value = getattr(got, name)
        assert np.all(np.isnan(value[:8])), name
        np.testing.assert_array_equal(value[8:], getattr(clean, name)[8:], err_msg=name)
    assert np.all(got.flag[:8] != 0) and got.flag[7] == Flag.Z_OUTSIDE_PRIOR
    np.testing.assert_array_equal(got.usable, np.arange(16) >= 8)
    np.testing.assert_array_equal(got.ids, np.arange(16))
    assert np.all(np.isnan(got.cdf(np.full(16, 30.0))[:8])) and np.all(np.isfinite(got.cdf(np.full(16, 30.0))[8:]))


@pytest.mark.parametrize("extreme", [False, True])
def test_float32_agrees_with_float64(prior, extreme):
    relation, relations, _ = draws()
    ln_lum, sigma, z = (
        extremes(relations[0], reach=(19.0, 23.3, 33.0, 36.0), sigmas=(0.01, 1.0))
        if extreme
        else objects(relations[0], number=16)
    )
    results = []
    for x64 in (False, True):
        with enable_x64(x64):
            results.append(
                mass_posterior(
                    make_catalogue(ln_lum, sigma, z),
                    prior,
                    relation,
                    relation_from="other_data",
                    quantile_levels=LEVELS,
                    chunk_size=CHUNK,
                )
            )
    single_precision, double = results
    limit = 1e-2 if extreme else 1e-3
    for name, unit in (("mean", double.sd), ("sd", double.sd), ("quantiles", double.sd[:, None])):
        difference = np.abs((getattr(single_precision, name) - getattr(double, name)) / unit).max()
        print(name, f"{difference:.1e}")
        assert difference < limit, name


def test_float32_at_the_edge_of_the_mass_table():
    """An object far beyond the table leans on its edge: its posterior is as narrow as the steps of ln M in float32.

    Quantiles are then off by tenths of a posterior sd, and by a few of these steps: nothing in a mass."""
    prior = MassPrior.default()
    relation = MassLuminosityRelation(alpha1=0.0, alpha2=1.0, alpha3=1e14, alpha4=0.0, scatter=0.02)
    ln_mass = np.concatenate([np.linspace(12.0, 23.0, 12), np.linspace(37.0, 48.0, 12)])
    results = []
    for x64 in (False, True):
        with enable_x64(x64):
            results.append(
                mass_posterior(
                    make_catalogue(ln_mass - np.log(1e14), 0.01, np.full(24, 0.3)),
                    prior,
                    relation,
                    quantile_levels=(0.001, 0.5, 0.999),
                    chunk_size=CHUNK,
                )
            )
    single_precision, double = results
    assert ((double.flag & int(Flag.EDGE)) != 0).all() and double.sd.min() < 1e-4
    difference = np.abs(single_precision.quantiles - double.quantiles)
    print(f"in ln M {difference.max():.1e}, in sd {(difference / double.sd[:, None]).max():.2f}")
    assert difference.max() < 3e-5


# -- methods and their errors -----------------------------------------------------------------------------------------


def test_all_methods_agree(prior):
    """Sampled ones within a few of their own errors: 8 x 100 luminosities."""
    relation, relations, _ = draws()
    ln_lum, _, z = objects(relations[0], number=16)
    catalogue = make_catalogue(ln_lum, 0.2, z)
    exact, *others = (
        mass_posterior(
            catalogue,
            prior,
            relation,
            relation_from="other_data",
            method=method,
            key=jax.random.key(3),
            quantile_levels=LEVELS,
            chunk_size=CHUNK,
            num_lum_draws=100,
        )
        for method in ("analytic", "quadrature", "monte_carlo", "importance")
    )
    for got, limit in zip(others, (1e-3, 0.25, 0.25)):
        assert np.abs((got.mean - exact.mean) / exact.sd).max() < limit, got.method
        assert np.abs(got.log_evidence - exact.log_evidence).max() < limit, got.method
    assert np.all(np.isnan(exact.pareto_k))


@pytest.fixture(scope="module")
def six_with_linear_noise(reference):
    """ln L and z of six objects with errors of 20 %, and mean and sd of each by a dense double sum, once for both tests."""
    _, relations, ln_weight = draws()
    ln_lum, _, z = objects(relations[0], number=6)
    return ln_lum, z, [with_linear_noise(reference, relations, ln_weight, *one, 0.2)[2:] for one in zip(ln_lum, z)]


@pytest.mark.parametrize("method", ["analytic", pytest.param("quadrature", marks=pytest.mark.slow)])
def test_linear_noise_against_plain_numpy(prior, six_with_linear_noise, method):
    relation, _, _ = draws()
    ln_lum, z, moments = six_with_linear_noise
    catalogue = make_catalogue(ln_lum, 0.2, z, noise_kind="normal")
    got = mass_posterior(
        catalogue,
        prior,
        relation,
        relation_from="other_data",
        method=method,
        quantile_levels=LEVELS,
        chunk_size=CHUNK,
    )
    for i, (mean, sd) in enumerate(moments):
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3


def with_linear_noise(reference, relations, ln_weight, ln_lum, z, sigma, ln_p4=None):
    """ln M, its density, mean and sd by a dense double sum."""
    ln_p4 = ln_p4 or (lambda ratio: stats.norm.logpdf(1.0, ratio, sigma))
    m, x = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 3001), np.linspace(-9, 9, 301)
    density = np.zeros(m.size)
    for one, ln_w in zip(relations, ln_weight, strict=True):
        ratio = np.exp(one.mean_ln_lum(m, z)[:, None] + one.scatter * x - ln_lum)
        f = np.trapezoid(stats.norm.pdf(x) * np.exp(ln_p4(ratio)), x, axis=1)
        density += np.exp(ln_w + reference.log_prob(m, z)) * f
    density /= np.trapezoid(density, m)
    mean = np.trapezoid(m * density, m)
    return m, density, mean, np.sqrt(np.trapezoid((m - mean) ** 2 * density, m))


@pytest.mark.parametrize("method", ["analytic", pytest.param("quadrature", marks=pytest.mark.slow)])
def test_linear_noise_leaves_room_for_light_masses_that_a_steep_prior_prefers(prior, reference, method):
    """As L goes to 0 the noise's density does not: at 5 sigma and less, a second mode far below the first."""
    known = {"alpha1": 9.0, "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.0, "scatter": 0.2}
    ln_lum, z, sigma = np.array([9.0, 9.0, 9.5]), np.array([0.3, 0.3, 1.0]), np.array([0.2, 0.15, 0.1])
    catalogue = make_catalogue(ln_lum, sigma, z, noise_kind="normal")
    got = mass_posterior(catalogue, prior, MassLuminosityRelation.create(**known), method=method, quantile_levels=ENDS)
    light = []
    for i in range(3):
        m, density, mean, sd = with_linear_noise(reference, [Relation(**known)], [0.0], ln_lum[i], z[i], sigma[i])
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 2e-3
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(m))])
        np.testing.assert_allclose(got.quantiles[i], np.interp(ENDS, cdf, m), atol=1e-2 * sd)
        light.append(np.trapezoid(np.where(m < np.log(1e13), density, 0.0), m))
    assert light[0] > 0.03 and light[2] < 1e-6


@pytest.mark.parametrize("scatter", [0.2, 0.6])
def test_where_the_faint_part_of_linear_noise_is_left_out(scatter):
    """About 8 sigma mean, sd and quantiles stay right, with a mass function that goes down to 1e10 Msun."""
    prior = MassPrior.default()
    nodes = (prior.redshift_nodes, np.exp(prior.ln_mass_nodes), np.exp(prior.ln_density))
    reference = PriorReference(*(np.asarray(a, dtype=float) for a in nodes), per="ln_mass")
    known = {"alpha1": 9.0, "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.0, "scatter": scatter}
    number = 10
    ln_lum, z, sigma = np.linspace(8.0, 11.0, number), np.full(number, 0.3), 1 / np.linspace(6.5, 11.0, number)
    catalogue = make_catalogue(ln_lum, sigma, z, noise_kind="normal")
    relation = MassLuminosityRelation.create(**known)
    got = mass_posterior(catalogue, prior, relation, quantile_levels=ENDS)
    objects = Objects.of(catalogue, np.arange(number), prior)
    _, _, groups = kernel.plan(objects, prior, relation.as_batch(), CHUNK, "analytic")
    assert {group.kind for group in groups} == {"normal", "near"}
    for i in range(number):
        m, density, mean, sd = with_linear_noise(reference, [Relation(**known)], [0.0], ln_lum[i], z[i], sigma[i])
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1.5e-3
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(m))])
        np.testing.assert_allclose(got.quantiles[i], np.interp(ENDS, cdf, m), atol=1e-2 * sd)


def test_upper_limits_against_plain_numpy(prior, reference):
    known = {"alpha1": 9.0, "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.0, "scatter": 0.4}
    ln_lum, z, sigma = np.array([9.0, 10.0, 9.5]), np.array([0.3, 0.3, 1.0]), np.array([0.4, 0.1, 0.0])
    catalogue = make_catalogue(ln_lum, sigma, z, noise_kind="upper_limit")
    got = mass_posterior(catalogue, prior, MassLuminosityRelation.create(**known))
    for i in range(3):

        def below(ratio, sigma=sigma[i]):
            return stats.norm.logcdf((1 - ratio) / max(sigma, 1e-9))

        _, _, mean, sd = with_linear_noise(reference, [Relation(**known)], [0.0], ln_lum[i], z[i], sigma[i], below)
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3


class Bent(RelationOfTheUser):
    """No power law, whose scatter may depend on the mass."""

    alpha1: jax.Array
    scatter: jax.Array
    growth: jax.Array
    log_weight: jax.Array

    def mean_ln_lum(self, ln_mass, z):
        x = ln_mass - np.log(1e14)
        return self.alpha1 + 1.2 * x - 0.05 * x**2

    def scatter_ln_lum(self, ln_mass, z):
        return self.scatter + self.growth * (ln_mass - np.log(1e14))


def test_linear_noise_with_a_relation_of_the_user(prior, reference):
    """The table knows no slope: what it needs is a scatter that is the same at all masses."""
    catalogue = make_catalogue([9.0, 9.5], [0.2, 0.3], [0.3, 0.8], noise_kind="normal")

    def bent(growth):
        return Bent(np.array([9.0]), np.array([0.3]), np.array([growth]), np.array([0.0]))

    got = mass_posterior(catalogue, prior, bent(0.0))
    for i in range(2):
        one = SimpleNamespace(mean_ln_lum=lambda m, z: 9.0 + 1.2 * (m - np.log(1e14)) - 0.05 * (m - np.log(1e14)) ** 2)
        one.scatter = 0.3
        _, _, mean, sd = with_linear_noise(reference, [one], [0.0], [9.0, 9.5][i], [0.3, 0.8][i], [0.2, 0.3][i])
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3
    with pytest.raises(
        MassmapError, match="the same at all masses, that of the relation depends on the mass, and 2 objects"
    ):
        mass_posterior(catalogue, prior, bent(0.02))
    places = {"ra": [0.0, 0.01], "dec": [0.0, 0.01]}
    placed = make_catalogue([9.0, 9.5], 0.2, [0.3, 0.8], noise_kind="normal", **places)
    with pytest.raises(MassmapError, match="depends on the mass, and 2 objects"):
        mass_in_circle(jax.random.key(0), placed, prior, bent(0.02), Circle(0.0, 0.0, 5.0), num_draws=8)


def test_errors(prior):
    relation = draws()[0]
    catalogue = make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 1.0))

    def refuse(message, *, catalogue=catalogue, relation=relation, **options):
        with pytest.raises(MassmapError, match=message) as caught:
            mass_posterior(catalogue, prior, relation, **({"relation_from": "fixed_draws"} | options))
        assert "\n" not in str(caught.value)

    refuse("8 draws, and relation_from is not given: say 'this_catalogue'", relation_from=None)
    refuse("relation_from 'mine' is not known", relation_from="mine")
    refuse("method 'exact' is not known: give one of analytic", method="exact")
    for method in ("monte_carlo", "importance"):
        refuse(f"method '{method}' draws luminosities: give key", method=method)
    refuse("luminosity draws is 0", num_lum_draws=0)
    refuse("chunk size is 0", chunk_size=0)
    refuse("quantile levels .* between 0 and 1", quantile_levels=(0.5, 1.0))
    refuse(
        "redshift of all 3 usable rows lies outside the prior's range 0 to 3.5, first row 0: z = 4",
        catalogue=make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 4.0)),
    )
    refuse("no usable row", catalogue=make_catalogue(np.full(3, np.nan), 0.05, np.full(3, 1.0)))
    refuse(
        "method 'importance' is for lognormal noise, and 3 objects have another kind, first row 0",
        catalogue=make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 1.0), noise_kind="normal"),
        method="importance",
        key=jax.random.key(0),
    )
    refuse(
        "a selection is for lognormal noise, and 3 objects have another kind, first row 0 .normal.: use draws",
        catalogue=make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 1.0), noise_kind="normal"),
        relation_from="other_data",
        selection=FluxLimit(100.0),
    )
    refuse(
        "tabulated for a scatter of up to 2.5 .* that of the relation is 3 in ln L",
        catalogue=make_catalogue(np.full(3, 9.6), 0.05, np.full(3, 1.0), noise_kind="normal"),
        relation=single(scatter=3.0)[0],
    )
    refuse(
        "noise and scatter are both 0 for 3 objects",
        catalogue=make_catalogue(np.full(3, 9.6), 0.0, np.full(3, 1.0)),
        relation=single(scatter=0.0)[0],
    )
    refuse(
        "'importance' needs noise and scatter above 0",
        relation=single(scatter=0.0)[0],
        method="importance",
        key=jax.random.key(0),
    )
    # S = 0 with sigma > 0, and sigma = 0 with S > 0, are answers
    for one, sigma in ((single(scatter=0.0)[0], 0.05), (single()[0], 0.0)):
        got = mass_posterior(
            make_catalogue(np.full(3, 9.6), sigma, np.full(3, 1.0)),
            prior,
            one,
            quantile_levels=LEVELS,
            chunk_size=CHUNK,
        )
        assert np.all(np.isfinite(got.mean))
