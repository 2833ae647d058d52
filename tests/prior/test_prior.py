"""MassPrior: the table, its normalisation, sampling, G and Q, gradients, errors, files."""

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.posterior_reference import Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import read_three_columns, schechter_table
from scipy import stats

from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import MassPrior

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # older JAX
    from jax.experimental import enable_x64

REDSHIFT, MASS, DENSITY = schechter_table()
# A mass proxy without scatter: the Gaussian in ln M is then the noise itself.
IDENTITY = Relation(alpha1=0.0, alpha2=1.0, alpha3=1.0, alpha4=0.0, scatter=0.0)


# (centre of the Gaussian in ln M, z, width): inside, at the edges, far below and above, S -> 0 (0.002), wide
CASES = [
    (c, z, w)
    for c in (18.0, 22.0, 23.3, 26.0, 29.0, 32.0, 33.0, 36.0, 45.0)
    for z in (0.4, 2.9)
    for w in (0.02, 0.3, 2.5)
] + [(c, 1.1, 0.002) for c in (23.3, 26.0, 29.0, 32.5)]
CENTRE, Z, WIDTH = (np.array(column) for column in zip(*CASES))

rows_at = jax.jit(jax.vmap(MassPrior.ln_density_at, (None, 0)))
draw = jax.jit(MassPrior.sample)


def log_evidence_reference(reference, centre, z, width):
    return SingleDraw(reference, centre, width, z, IDENTITY).log_evidence + centre


@pytest.fixture(scope="module")
def prior():
    return MassPrior.from_table(REDSHIFT, MASS, DENSITY)


@pytest.fixture(scope="module")
def reference():
    return PriorReference(REDSHIFT, MASS, DENSITY, per="mass")


# -- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per, factor", [("ln_mass", 1.0), ("log10_mass", np.log(10.0))])
def test_density_per_mass_ln_mass_and_log10_mass_are_one_prior(prior, per, factor):
    other = MassPrior.from_table(REDSHIFT, MASS, DENSITY * MASS * factor, per=per)
    np.testing.assert_allclose(other.ln_density, prior.ln_density, atol=1e-12)
    np.testing.assert_array_equal(other.ln_mass_nodes, prior.ln_mass_nodes)


def test_reading_a_density_per_mass_as_per_ln_mass_is_another_prior(prior):
    wrong = MassPrior.from_table(REDSHIFT, MASS, DENSITY, per="ln_mass")
    assert np.abs(wrong.ln_density - prior.ln_density).max() > 1


def test_msun_over_h_divides_by_h(prior):
    h = 0.7
    other = MassPrior.from_table(REDSHIFT, MASS * h, DENSITY, mass_unit="Msun/h", h=h)
    np.testing.assert_allclose(other.ln_mass_nodes, prior.ln_mass_nodes, atol=1e-12)
    np.testing.assert_allclose(other.ln_density, prior.ln_density, atol=1e-12)


def test_three_columns_are_a_grid(prior):
    z, m = np.repeat(REDSHIFT, MASS.size), np.tile(MASS, REDSHIFT.size)
    other = MassPrior.from_table(z, m, DENSITY.ravel())
    np.testing.assert_array_equal(other.ln_density, prior.ln_density)


def test_nodes_are_normalised_and_follow_the_reference(prior, reference):
    for j in (0, 7, 19):
        np.testing.assert_allclose(prior.ln_density[j], reference.row(REDSHIFT[j]), atol=1e-9)


@pytest.mark.parametrize("x64, atol", [(False, 3e-5), (True, 1e-9)])
def test_log_prob_and_cdf_follow_the_reference(prior, reference, x64, atol):
    rng = np.random.default_rng(0)
    z = np.concatenate([[0.0, 3.5, REDSHIFT[5], REDSHIFT[12]], rng.uniform(0, 3.5, 20)])
    ln_mass = np.concatenate([[23.3, 32.6], rng.uniform(prior.ln_mass_min, prior.ln_mass_max, 30)])
    with enable_x64(x64):
        ln_p = np.asarray(prior.log_prob(ln_mass[None, :], z[:, None]))
        cdf = np.asarray(prior.cdf(ln_mass[None, :], z[:, None]))
    expected = np.array([reference.log_prob(ln_mass, one) for one in z])
    # float32: ln M to 2e-6, times slopes of up to 40
    np.testing.assert_allclose(ln_p, expected, atol=atol, rtol=4e-6 if not x64 else 1e-9)
    np.testing.assert_allclose(cdf, np.array([reference.cdf(ln_mass, one) for one in z]), atol=atol / 10)


def test_outside_the_nodes(prior):
    outside = np.array([prior.ln_mass_min - 0.01, prior.ln_mass_max + 0.01])
    assert np.all(np.isneginf(prior.log_prob(outside, 1.0)))
    np.testing.assert_allclose(prior.cdf(outside, 1.0), [0.0, 1.0], atol=1e-6)
    assert np.all(np.isnan(prior.log_prob(28.0, np.array([-0.1, 3.6]))))
    assert (prior.z_min, prior.z_max) == (0.0, 3.5)


def test_snap_takes_the_next_node_up(prior):
    snapped = MassPrior.from_table(REDSHIFT, MASS, DENSITY, snap="upper")
    ln_mass = np.linspace(24, 32, 9)
    z = np.array([REDSHIFT[3] + 0.01, REDSHIFT[4] - 1e-3, 0.01])[:, None]
    expected = prior.log_prob(ln_mass, REDSHIFT[[4, 4, 1]][:, None])
    np.testing.assert_allclose(snapped.log_prob(ln_mass, z), expected, atol=2e-5)
    for x64 in (False, True):
        with enable_x64(x64):
            rows, kept = (np.asarray(rows_at(p, jnp.asarray(REDSHIFT))) for p in (snapped, prior))
            np.testing.assert_allclose(rows, kept, atol=2e-5, err_msg="a redshift on a node keeps that node")


def test_one_redshift_holds_at_every_redshift(prior):
    single = MassPrior.from_table([1.0], MASS, DENSITY[5])
    assert (single.z_min, single.z_max) == (0.0, np.inf)
    ln_mass = np.linspace(24, 32, 5)
    values = np.asarray(single.log_prob(ln_mass[:, None], np.array([0.0, 1.0, 6.0])))
    np.testing.assert_array_equal(values, values[:, [0, 0, 0]])
    np.testing.assert_allclose(values[:, 0], prior.log_prob(ln_mass, REDSHIFT[5]), atol=3e-5)
    assert np.all(np.isfinite(single.sample(jax.random.key(0), np.array([0.0, 9.0]))))


def test_norm_coefficients_are_the_closed_form(prior, reference):
    """Chebyshev in z of the ln of the normalising integral, within cells and at their ends."""
    worst = 0.0
    for x64 in (False, True):
        with enable_x64(x64):
            rows = jax.jit(jax.vmap(prior.ln_density_at, (0, None)))
            z = np.sort(np.concatenate([REDSHIFT, np.random.default_rng(1).uniform(0, 3.5, 200)]))
            fast = np.asarray(rows(jnp.asarray(z), prior.norm_coefficients()))
            error = np.abs(fast - reference.rows(z))[:, :200].max()  # the massive end has float32's own rounding
            worst = max(worst, error if x64 else error / 3)
    assert worst < 1e-5


def test_zero_densities_at_the_massive_end_continue_the_slope():
    density = DENSITY.copy()
    density[:, -30:] = 0.0
    density[3, -40:] = 0.0
    prior = MassPrior.from_table(REDSHIFT, MASS, density)
    assert np.all(np.isfinite(prior.ln_density))
    steps = np.diff(prior.ln_density[3, -42:])
    np.testing.assert_allclose(steps[2:], steps[1], rtol=1e-9)


def test_sharp_edges_have_nothing_beyond_them(prior):
    sharp = MassPrior.from_table(REDSHIFT, MASS, DENSITY, support="sharp")
    row = prior.ln_density_at(jnp.asarray(1.0))
    centre, width = jnp.asarray(prior.ln_mass_max), jnp.asarray(0.5)
    assert np.isneginf(sharp.ln_beyond_edges(row, centre, width))
    assert np.isfinite(prior.ln_beyond_edges(row, centre, width))


@pytest.mark.parametrize("x64, rtol", [(False, 2e-4), (True, 1e-9)])
def test_ln_beyond_edges_follows_the_reference(prior, reference, x64, rtol):
    function = jax.jit(
        jax.vmap(lambda prior, c, z, w: prior.ln_beyond_edges(prior.ln_density_at(z), c, w), (None, 0, 0, 0))
    )
    with enable_x64(x64):
        got = np.asarray(function(prior, *(jnp.asarray(a, dtype=float) for a in (CENTRE, Z, WIDTH))))
    expected = [SingleDraw(reference, c, w, z, IDENTITY).ln_outside + c for c, z, w in CASES]
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=200 * rtol)


# -- errors -------------------------------------------------------------------------------------------------------


def with_value(index, value):
    density = DENSITY.copy()
    density[index] = value
    return density


ERRORS = {
    "per": (dict(per="dex"), "per 'dex' is not known: give per='mass'"),
    "snap": (dict(snap="lower"), "snap 'lower' is not known"),
    "support": (dict(support="open"), "support 'open' is not known"),
    "mass unit": (dict(mass_unit="kg"), "mass unit 'kg' is not known"),
    "no h": (dict(mass_unit="Msun/h"), "need h, and h is None"),
    "h of 70": (dict(mass_unit="Msun/h", h=70.0), "need h, and h is 70"),
    "shape": (dict(density=DENSITY[:, :-1]), r"shape \(20, 409\),.* 20.* 410"),
    "redshift order": (dict(redshift=REDSHIFT[::-1]), "prior redshift has 19 bad nodes, first node 1"),
    "negative redshift": (dict(redshift=REDSHIFT - 0.1), "prior redshift has 1 bad nodes, first node 0 = -0.1"),
    "NaN redshift": (dict(redshift=np.where(np.arange(20) == 4, np.nan, REDSHIFT)), "first node 4 = nan"),
    "mass order": (dict(mass=MASS[::-1]), "prior mass has 409 bad nodes, first node 1"),
    "zero mass": (dict(mass=np.concatenate([[0.0], MASS[1:]])), "prior mass has 1 bad nodes, first node 0"),
    "two masses": (dict(mass=MASS[:2], density=DENSITY[:, :2]), "needs at least 3 masses, and this table has 2"),
    "log10 masses": (dict(mass=np.log10(MASS)), r"look like log10 M; give masses in Msun"),
    "negative density": (dict(density=with_value((2, 5), -1.0)), "1 negative or non-finite values, first at z = 0.368"),
    "NaN density": (dict(density=with_value((0, 7), np.nan)), "1 negative or non-finite values.* nan"),
    "infinite density": (dict(density=with_value((0, 7), np.inf)), "1 negative or non-finite values.* inf"),
    "zero inside": (dict(density=with_value((1, 7), 0.0)), "zero at z = 0.184.*only the massive end"),
    "all zero": (dict(density=with_value((1, slice(None)), 0.0)), "zero at z = 0.184"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_tables_are_refused_with_the_reason(name):
    change, message = ERRORS[name]
    table = dict(redshift=REDSHIFT, mass=MASS, density=DENSITY) | change
    with pytest.raises(MassmapError, match=message) as caught:
        MassPrior.from_table(table.pop("redshift"), table.pop("mass"), table.pop("density"), **table)
    assert "\n" not in str(caught.value)


def test_bad_columns_are_refused():
    z, m, p = np.repeat(REDSHIFT, MASS.size), np.tile(MASS, REDSHIFT.size), DENSITY.ravel()
    with pytest.raises(MassmapError, match="not a grid: 20 redshifts with 409 to 410 masses"):
        MassPrior.from_table(z[1:], m[1:], p[1:])
    order = np.random.default_rng(0).permutation(z.size)
    with pytest.raises(MassmapError, match="not a grid"):
        MassPrior.from_table(z[order], m[order], p[order])
    with pytest.raises(MassmapError, match="masses differ between redshifts"):
        MassPrior.from_table(z, m * (1 + 0.1 * z), p)


def test_wrong_leaf_shapes_are_refused(prior):
    with pytest.raises(MassmapError, match=r"ln_density has shape \(19, 410\)"):
        MassPrior(prior.redshift_nodes, prior.ln_mass_nodes, prior.ln_density[1:])


# -- files --------------------------------------------------------------------------------------------------------


def test_save_and_load_is_bitwise(tmp_path):
    original = MassPrior.from_table(
        REDSHIFT, MASS, DENSITY, snap="upper", support="sharp", mass_definition="500c", description="test table"
    )
    original.save(tmp_path / "prior.npz")
    loaded = MassPrior.load(tmp_path / "prior.npz")
    assert eqx.tree_equal(
        eqx.tree_at(lambda p: (p.redshift_nodes, p.ln_mass_nodes, p.ln_density), loaded, (0, 0, 0)),
        eqx.tree_at(lambda p: (p.redshift_nodes, p.ln_mass_nodes, p.ln_density), original, (0, 0, 0)),
    )
    for name in ("redshift_nodes", "ln_mass_nodes", "ln_density"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(original, name), err_msg=name)


def test_load_keeps_densities_that_underflow(tmp_path):
    ln_density = np.linspace(0, -900, 40)[None].repeat(2, axis=0)
    np.savez(tmp_path / "deep.npz", redshift=[0.0, 1.0], mass=np.geomspace(1e10, 1e16, 40), ln_density=ln_density)
    prior = MassPrior.load(tmp_path / "deep.npz")
    np.testing.assert_allclose(np.diff(prior.ln_density[0]), np.diff(ln_density[0]), rtol=1e-10)


@pytest.mark.parametrize(
    "keys, message",
    [
        (None, "does not exist"),
        ("text", "cannot be read as .npz"),
        (("redshift", "mass"), "it needs redshift, mass and"),
    ],
)
def test_bad_files_are_refused(tmp_path, keys, message):
    path = tmp_path / "prior.npz"
    if keys == "text":
        path.write_text("z M p\n")
    elif keys is not None:
        np.savez(path, **{name: np.ones(3) for name in keys})
    with pytest.raises(MassmapError, match=message):
        MassPrior.load(path)


def test_default_table_loads_and_is_normalised():
    default = MassPrior.default()
    assert default.mass_definition == "200m" and default.z_min == 0.0 and default.z_max >= 3.5
    assert default.ln_mass_min < np.log(1e11) and default.ln_mass_max > np.log(1e15)
    steps = np.diff(default.ln_mass_nodes)
    rise = np.diff(default.ln_density[3])
    mass = steps * np.exp(default.ln_density[3][:-1]) * np.expm1(rise) / rise
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)


def test_public_table_of_2017(public_data):
    z, mass, density = read_three_columns(public_data / "bigmali" / "massprior.txt")
    prior, reference = MassPrior.from_table(z, mass, density), PriorReference(z, mass, density, per="mass")
    np.testing.assert_allclose(prior.ln_density[4], reference.row(z[4]), atol=1e-8)


# -- sampling -----------------------------------------------------------------------------------------------------


def pit(reference, ln_mass, z):
    return np.concatenate([reference.cdf(ln_mass[z == one], one) for one in np.unique(z)])


@pytest.mark.slow
def test_samples_follow_the_density_and_the_2017_mistake_does_not(prior, reference):
    """KS p > 1e-5 with 1e6 draws; the draws without the cell width must fail it."""
    z = np.tile([0.0, 0.41, REDSHIFT[9], 2.9], 250_000)
    for seed in range(2):
        ln_mass = np.asarray(draw(prior, jax.random.key(seed), z), dtype=np.float64)
        assert stats.kstest(pit(reference, ln_mass, z), "uniform").pvalue > 1e-5, seed
    wrong = reference.sample_without_cell_width(np.random.default_rng(0), z)
    assert stats.kstest(pit(reference, wrong, z), "uniform").pvalue < 1e-9


def test_sampling_power(prior, reference):
    """The twin over 20 keys at 2,000 draws: the right sampler passes, the mistake is always seen."""
    z = np.tile([0.41, 2.9], 1000)
    right = [
        stats.kstest(pit(reference, np.asarray(draw(prior, jax.random.key(s), z), np.float64), z), "uniform").pvalue
        for s in range(20)
    ]
    wrong = [
        stats.kstest(
            pit(reference, reference.sample_without_cell_width(np.random.default_rng(s), z), z), "uniform"
        ).pvalue
        for s in range(20)
    ]
    power, alarms = np.mean(np.array(wrong) < 1e-5), np.mean(np.array(right) < 1e-5)
    print(f"power {power:.2f}, false alarms {alarms:.2f}")
    assert power >= 0.99 and alarms == 0
    assert stats.kstest(right, "uniform").pvalue > 1e-5


def test_massive_tail_is_resolved_in_float32(prior, reference):
    """Upper tail probabilities of 1e-7 and less come out right: a float32 CDF could not tell them from 1."""
    with enable_x64(False):
        upper = np.array([1e-3, 1e-6, 1e-9])
        got = np.asarray(jax.jit(jax.vmap(prior._inverse_survival, (0, None)))(jnp.asarray(upper), jnp.asarray(0.7)))
    expected = [reference.quantile(1 - u, 0.7) for u in upper]
    np.testing.assert_allclose(got, expected, atol=2e-4)


# -- G and Q ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def derivatives():
    """Value and gradients of G for every case, per precision."""
    function = jax.vmap(jax.value_and_grad(MassPrior._log_evidence, (0, 1, 2, 3)), (None, 0, 0, 0))

    def compute(prior, x64):
        with enable_x64(x64):
            value, grads = jax.jit(function)(prior, *(jnp.asarray(a, dtype=float) for a in (CENTRE, Z, WIDTH)))
            return np.asarray(value), np.asarray(grads[0].ln_density), *(np.asarray(g) for g in grads[1:])

    prior = MassPrior.from_table(REDSHIFT, MASS, DENSITY)
    return {x64: compute(prior, x64) for x64 in (False, True)}


@pytest.mark.parametrize("x64, tolerance", [(False, 1e-3), (True, 2e-5)])
def test_log_evidence_follows_the_exact_cells(derivatives, reference, x64, tolerance):
    expected = np.array([log_evidence_reference(reference, *case) for case in CASES])
    np.testing.assert_allclose(derivatives[x64][0], expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("x64, tolerance", [(False, 3e-3), (True, 5e-4)])
def test_gradients_of_log_evidence(derivatives, reference, x64, tolerance):
    """d/d centre and d/d width in units of 1/width (a shift by one width), d/dz as it is."""
    _, leaves, d_centre, d_z, d_width = derivatives[x64]
    assert all(np.all(np.isfinite(g)) for g in (leaves, d_centre, d_z, d_width))
    for i, (c, z, w) in enumerate(CASES):
        for name, got, step, unit in (
            ("centre", d_centre[i], (1e-4 * w, 0, 0), w),
            ("z", d_z[i], (0, 1e-4, 0), 1.0),
            ("width", d_width[i], (0, 0, 1e-4 * w), w),
        ):
            high, low = (
                log_evidence_reference(reference, c + s * step[0], z + s * step[1], w + s * step[2]) for s in (1, -1)
            )
            expected = (high - low) / (2 * max(step))
            assert got * unit == pytest.approx(expected * unit, rel=tolerance, abs=tolerance), (name, c, z, w)


def shifted(reference, direction, step):
    other = copy.copy(reference)
    other.ln_density = reference.ln_density + step * direction
    return other


@pytest.mark.parametrize("x64", [False, True])
def test_gradients_of_log_evidence_in_the_node_densities(derivatives, reference, x64):
    """Smooth changes of the mass function, as a population or a cosmology would make them; and one redshift node."""
    leaves = derivatives[x64][1]
    tilt = (reference.ln_mass - 28) / 4
    one_node = np.zeros((REDSHIFT.size, 1))
    one_node[2] = 1.0
    for direction in (
        tilt + 0 * leaves[0],
        tilt**2 + 0 * leaves[0],
        tilt**3 * (1 + REDSHIFT[:, None]),
        one_node * tilt,
    ):
        got = (leaves * direction).sum(axis=(1, 2))
        for i, case in enumerate(CASES):
            high, low = (log_evidence_reference(shifted(reference, direction, s * 1e-4), *case) for s in (1, -1))
            assert got[i] == pytest.approx((high - low) / 2e-4, rel=2e-3, abs=2e-3), case


def test_gradient_in_the_normalisation_of_a_node_is_zero(derivatives):
    """p is renormalised, so a constant added to ln p at a node changes nothing."""
    for x64, atol in ((False, 1e-4), (True, 1e-5)):
        np.testing.assert_allclose(derivatives[x64][1].sum(axis=2), 0.0, atol=atol)


def test_gradients_of_log_prob_and_cdf_in_the_node_densities(prior, reference):
    direction = ((reference.ln_mass - 28) / 4) ** 2 + 0 * prior.ln_density
    with enable_x64(True):
        for name, function in (("log_prob", MassPrior._log_prob), ("cdf", MassPrior._cdf)):
            grad = jax.jit(jax.grad(function))(prior, jnp.asarray(27.3), jnp.asarray(1.03)).ln_density
            high, low = (getattr(shifted(reference, direction, s * 1e-4), name)(27.3, 1.03) for s in (1, -1))
            assert float((grad * direction).sum()) == pytest.approx((high - low) / 2e-4, rel=1e-5)


@pytest.mark.parametrize("x64, tolerance", [(False, 1e-3), (True, 5e-4)])
def test_conditional_quantile_follows_the_exact_cells(prior, reference, x64, tolerance):
    scores = np.array([-3.0902, -1.0, 0.0, 1.0, 3.0902])
    with enable_x64(x64):
        got = np.asarray(prior.conditional_quantile(scores[None], CENTRE[:, None], Z[:, None], WIDTH[:, None]))
    for i, (c, z, w) in enumerate(CASES):
        part = SingleDraw(reference, c, w, z, IDENTITY)
        sd = (part.quantile(0.84) - part.quantile(0.16)) / 2
        expected = np.array([part.quantile(level) for level in stats.norm.cdf(scores)])
        # float32 holds ln M = 32 to 4e-6
        np.testing.assert_allclose(
            got[i], expected, atol=10 * tolerance * sd + (4e-6 if not x64 else 0), err_msg=f"{c, z, w}"
        )
        assert abs(got[i][2] - expected[2]) < tolerance * sd + (4e-6 if not x64 else 0)


@pytest.mark.slow
def test_conditional_quantile_has_a_finite_gradient(prior):
    def quantile(e, c, z, w):
        return prior._conditional_quantile(e, c, z, w)

    grads = jax.jit(jax.vmap(jax.grad(quantile, (0, 1, 2, 3)), (None, 0, 0, 0)))(0.3, CENTRE, Z, WIDTH)
    assert all(np.all(np.isfinite(g)) for g in grads)
