"""The likelihood of a relation: direct sum, compressed catalogue and table of G, against per-object references."""

from contextlib import nullcontext
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.posterior_reference import Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.integrate import quad
from scipy.stats import norm

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, TabulatedSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import compress
from massmap_jax.relation.data import refuse_selection_by_noise
from massmap_jax.relation.direct import log_likelihood
from massmap_jax.relation.evidence_table import EvidenceTable
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.marginal import RelationLikelihood

TABLE = schechter_table()
REFERENCE = PriorReference(*TABLE, per="mass")
PRIOR = MassPrior.from_table(*TABLE, per="mass")
TRUTH = Relation()
PARAMETERS = ("alpha1", "alpha2", "alpha4", "scatter")
STEPS = {"alpha1": 1e-5, "alpha2": 1e-6, "alpha4": 1e-5, "scatter": 1e-6}


def package_relation(**changes):
    values = {name: getattr(TRUTH, name) for name in (*PARAMETERS, "alpha3")} | changes
    return MassLuminosityRelation.create(**values)


def simulate(number, seed=0, sigma=0.05, distinct=None):
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.01, 3.49, number) if distinct is None else rng.choice(np.linspace(0.01, 3.4, distinct), number)
    if distinct is None:
        z = np.round(z, 2)
    ln_mass = REFERENCE.sample(rng, z)
    sigma = np.broadcast_to(sigma, number) if np.ndim(sigma) == 0 else rng.uniform(*sigma, number)
    spread = np.hypot(TRUTH.scatter, sigma)
    ln_lum = TRUTH.mean_ln_lum(ln_mass, z) + spread * rng.standard_normal(number)
    return HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma)


def reference_ln_likelihood(catalogue, **changes):
    relation = Relation(**({name: getattr(TRUTH, name) for name in PARAMETERS} | changes))
    columns = zip(catalogue.ln_lum_obs, catalogue.sigma_ln_lum, catalogue.redshift, strict=True)
    return sum(SingleDraw(REFERENCE, *one, relation).log_evidence for one in columns)


def leaves(relation):
    return jax.tree.map(jnp.asarray, relation)


def test_direct_sum_and_gradient_follow_the_reference():
    catalogue = simulate(60, sigma=(0.02, 0.3))
    with jax.enable_x64(True):
        direct = jax.jit(jax.value_and_grad(lambda r: log_likelihood(r, catalogue, PRIOR)))
        value, gradient = direct(leaves(package_relation()))
    expected = reference_ln_likelihood(catalogue)
    print("ln L", float(value), "reference", expected)
    assert float(value) == pytest.approx(expected, abs=60 * 1e-5)
    for name, step in STEPS.items():
        centre = getattr(TRUTH, name)
        up, down = (reference_ln_likelihood(catalogue, **{name: centre + s * step}) for s in (1, -1))
        slope = (up - down) / (2 * step)
        print(name, float(getattr(gradient, name)), slope)
        assert float(getattr(gradient, name)) == pytest.approx(slope, rel=1e-3, abs=0.05)


def test_sum_is_float64_where_the_integrals_are_float32():
    catalogue = simulate(20_000, distinct=50)
    single = log_likelihood(package_relation(), catalogue, PRIOR)
    with jax.enable_x64(True):
        double = log_likelihood(package_relation(), catalogue, PRIOR)
    assert single.dtype == double.dtype == jnp.float64
    print("float32 - float64:", float(single - double))
    # 2e-6 of rounding in each of 2e4 terms of size 10, nearly independent
    assert abs(float(single - double)) < 0.05


@pytest.mark.parametrize("sigma", [0.05, (0.02, 0.3)])
def test_compressed_catalogue_and_table_agree_with_the_direct_sum(sigma):
    catalogue = simulate(30_000, sigma=sigma)
    with jax.enable_x64(True):
        relations = [package_relation(), package_relation(alpha1=10.8, alpha2=0.37, alpha4=1.2, scatter=0.17)]
        batch = MassLuminosityRelation.create(
            **{name: [getattr(r, name) for r in relations] for name in (*PARAMETERS, "alpha3")}
        )
        points = RelationLikelihood.build(catalogue, PRIOR, scatter=0.12)
        table = points.with_table(batch)
        print(np.count_nonzero(points.weight), "points for", len(catalogue), "halos; table:", table.table is not None)
        direct = jax.jit(jax.value_and_grad(lambda r: log_likelihood(r, catalogue, PRIOR)))
        call = jax.jit(jax.value_and_grad(lambda likelihood, r: likelihood(r), argnums=1))
        for relation in relations:
            slow, slow_gradient = direct(leaves(relation))
            for name, fast_likelihood in (("points", points), ("table", table)):
                fast, gradient = call(fast_likelihood, leaves(relation))
                error = {p: float(getattr(gradient, p) - getattr(slow_gradient, p)) for p in PARAMETERS}
                print(name, "ln L off by", float(fast - slow), "gradient by", error)
                assert abs(float(fast - slow)) < 1e-2
                # a posterior of 3e4 objects has widths of 2e-2, 2e-3, 4e-3, 1e-3
                assert abs(error["alpha1"]) < 1
                assert abs(error["alpha2"]) < 10
                assert abs(error["scatter"]) < 10


def test_table_is_nan_beyond_its_range():
    with jax.enable_x64(True):
        table = EvidenceTable.build(PRIOR, [0.5], (0.4, 0.5), (28.0, 30.0))
        at = table(np.zeros(3, int), np.zeros(3, int), jnp.array([29.0, 31.0, 26.0]), jnp.array([0.45]))
        wide = table(np.zeros(1, int), np.zeros(1, int), jnp.array([29.0]), jnp.array([0.7]))
    assert np.isfinite(at[0])
    assert np.isnan(at[1:]).all()
    assert np.isnan(wide).all()


def test_points_stand_for_halos_in_any_smooth_sum_and_add_up():
    rng = np.random.default_rng(3)
    ln_lum, sigma, z = rng.normal(9, 0.7, 20_000), rng.uniform(0.02, 0.4, 20_000), rng.uniform(0, 3.4, 20_000)
    settings = {"redshift_nodes": TABLE[0], "scatter": 0.15}
    # The boxes are made for functions of width sqrt(S^2 + sigma^2), and for kinks at the redshift nodes.
    part = lambda rows: compress(ln_lum[rows], np.maximum(sigma[rows], 0.02), z[rows], **settings)  # noqa: E731
    sigma[::10_000] = 0.02  # the box size goes with the least sigma: the same in both halves

    def smooth(ln_lum, sigma, z):
        kink = np.interp(z, TABLE[0], np.sin(3 * TABLE[0]))
        return norm.logcdf((ln_lum - 9 - 0.5 * np.log1p(z)) / np.sqrt(0.15**2 + sigma**2)) + kink * ln_lum

    whole = part(slice(None))
    halves = part(slice(0, 10_000)) + part(slice(10_000, None))
    expected = smooth(ln_lum, sigma, z).sum()
    for points in (whole, halves):
        got = (points.weight * smooth(points.ln_lum_obs, points.sigma, points.z)).sum()
        print(points.weight.size, "points; sum off by", got - expected)
        assert points.weight.sum() == pytest.approx(20_000, rel=1e-12)
        assert got == pytest.approx(expected, abs=1e-2)


# -- selections ------------------------------------------------------------------------------------------------------


def detected_reference(z, sigma, prob):
    """A by two nested scipy integrals from the raw table."""
    spread = np.hypot(TRUTH.scatter, sigma)

    def given_mass(m):
        mean = TRUTH.mean_ln_lum(m, z)
        grid = np.linspace(mean - 8 * spread, mean + 8 * spread, 4001)
        return np.trapezoid(prob(grid) * norm.pdf(grid, mean, spread), grid)

    inside = np.linspace(REFERENCE.ln_mass[0], REFERENCE.ln_mass[-1], 2001)
    values = np.array([given_mass(m) for m in inside]) * np.exp(REFERENCE.log_prob(inside, z))
    return np.trapezoid(values, inside)


def test_log_norm_of_a_flux_limit_and_of_a_table():
    z, sigma, limit = 0.73, 0.1, 9.5
    relation = package_relation()
    exact = quad(
        lambda m: np.exp(REFERENCE.log_prob(m, z))
        * norm.sf((limit - TRUTH.mean_ln_lum(m, z)) / np.hypot(TRUTH.scatter, sigma)),
        *REFERENCE.ln_mass[[0, -1]], limit=500,
    )[0]  # fmt: skip
    with jax.enable_x64(True):
        got = float(FluxLimit(np.exp(limit)).log_norm(relation, PRIOR, z, sigma))
        nodes = np.array([8.5, 9.0, 9.7, 10.5])
        table = np.array([[0.0, 0.1, 0.8, 1.0], [0.0, 0.3, 0.9, 1.0]])
        ramp = float(TabulatedSelection([0.0, 2.0], nodes, table).log_norm(relation, PRIOR, z, sigma))
        # The same table with more nodes, which are summed in blocks.
        more = np.union1d(nodes, np.linspace(8.5, 10.5, 150))
        finer = TabulatedSelection([0.0, 2.0], more, [np.interp(more, nodes, row) for row in table])
        assert float(finer.log_norm(relation, PRIOR, z, sigma)) == pytest.approx(ramp, abs=1e-9)
    row = table[0] + (table[1] - table[0]) * z / 2
    expected = detected_reference(z, sigma, lambda ln_lum: np.interp(ln_lum, nodes, row))
    print("flux limit", got, np.log(exact), "table", ramp, np.log(expected))
    assert got == pytest.approx(np.log(exact), abs=1e-5)
    assert ramp == pytest.approx(np.log(expected), abs=1e-4)


@pytest.mark.parametrize("number", [4, 150])
def test_derivatives_of_a_tables_log_norm(number):
    """They are sums of their own: those of the relation, of the redshift, and both together, against differences."""
    nodes = np.linspace(8.5, 10.5, number)
    table = np.interp(nodes, [8.5, 9.0, 9.7, 10.5], [0.0, 0.1, 0.8, 1.0])
    selection = TabulatedSelection([0.0, 2.0], nodes, [table, table**2])

    def ln_a(x):
        relation = eqx.tree_at(lambda r: (r.alpha1, r.alpha2, r.scatter), package_relation(), tuple(x[:3]))
        return selection.log_norm(relation, PRIOR, x[3], 0.1)

    with jax.enable_x64(True):
        start = package_relation()
        x = jnp.asarray([start.alpha1, start.alpha2, start.scatter, 0.73])
        steps = 1e-5 * np.eye(4)
        gradient, hessian = jax.jit(jax.grad(ln_a)), jax.jit(jax.hessian(ln_a))
        slopes = [(ln_a(x + d) - ln_a(x - d)) / 2e-5 for d in steps]
        np.testing.assert_allclose(gradient(x), slopes, rtol=1e-6, atol=1e-7)
        bends = [(gradient(x + d) - gradient(x - d)) / 2e-5 for d in steps]
        np.testing.assert_allclose(hessian(x), bends, rtol=1e-6, atol=1e-6)


def test_several_objects_at_once_and_one_by_one(monkeypatch):
    """What a CPU takes one after the other, and a GPU at once, is the ln A of each."""
    nodes = np.linspace(8.5, 10.5, 150)
    table = np.interp(nodes, [8.5, 9.0, 9.7, 10.5], [0.0, 0.1, 0.8, 1.0])
    selection, relation = TabulatedSelection([0.0, 2.0], nodes, [table, table**2]), package_relation()
    z, sigma = np.array([0.2, 0.7, 1.3]), np.array([0.05, 0.1, 0.3])
    with jax.enable_x64(True):
        each = [float(selection.log_norm(relation, PRIOR, *of)) for of in zip(z, sigma, strict=True)]
        for where in ("cpu", "gpu"):
            monkeypatch.setattr(jax, "default_backend", lambda where=where: where)
            np.testing.assert_allclose(selection.log_norms(relation, PRIOR, z, sigma), each, rtol=1e-9)


def test_selection_enters_the_likelihood_and_the_fast_path_follows():
    catalogue = simulate(20_000, distinct=200)
    keep = catalogue.ln_lum_obs > 9.2
    bright = HaloCatalogue.from_arrays(
        luminosity=np.exp(catalogue.ln_lum_obs[keep]), redshift=catalogue.redshift[keep], sigma_ln_luminosity=0.05
    )
    selection = FluxLimit(np.exp(9.2))
    relation = package_relation()
    with jax.enable_x64(True):
        direct = float(log_likelihood(relation, bright, PRIOR, selection))
        plain = float(log_likelihood(relation, bright, PRIOR))
        points = RelationLikelihood.build(bright, PRIOR, selection, scatter=0.12)
        fast = float(jax.jit(lambda p, r: p(r))(points, relation))
    print("A matters by", plain - direct, "fast off by", fast - direct)
    assert plain - direct < -1000
    assert abs(fast - direct) < 1e-2


def test_fast_path_follows_a_selection_with_redshift_nodes_of_its_own():
    """A limit that moves within a redshift cell of the prior: boxes have to end at its nodes."""
    catalogue = simulate(3000, distinct=30)
    table = TabulatedSelection(
        [0.0, 0.50, 0.53, 3.5], [8.0, 9.0, 10.0], [[0.9, 1, 1], [0.9, 1, 1], [0.1, 0.2, 1], [0.1, 0.2, 1]]
    )
    relation = package_relation()
    with jax.enable_x64(True):
        direct = float(log_likelihood(relation, catalogue, PRIOR, table))
        fast = float(jax.jit(lambda p, r: p(r))(RelationLikelihood.build(catalogue, PRIOR, table), relation))
    print("fast off by", fast - direct)
    assert abs(fast - direct) < 1e-2


@pytest.mark.parametrize(("number", "left", "refused"), [(21, 2, True), (21, 1, False), (60, 2, False), (60, 4, True)])
def test_faint_objects_left_out_of_a_few(number, left, refused):
    """Of 21 clusters with an SZ signal, two at less than 3 sigma were left out, and the slope rose by an error."""
    rows, z = np.arange(left, number), np.full(number, 0.3)
    flag = np.where(np.arange(number) < left, int(Flag.SIGMA_LOW_SNR), 0)
    given = SimpleNamespace(flag=flag, ln_lum_obs=np.linspace(0.0, 2.0, number), redshift=z)
    with pytest.raises(MassmapError, match="noise='linear'") if refused else nullcontext():
        refuse_selection_by_noise(given, NoSelection(), rows)


def test_a_selection_that_excludes_a_catalogued_object_is_refused():
    catalogue = simulate(50)
    faintest = int(np.argmin(catalogue.ln_lum_obs))
    limit = float(np.exp(np.sort(catalogue.ln_lum_obs)[1] - 1e-3))
    with pytest.raises(MassmapError, match=f"1 catalogued objects no chance .* first row {faintest} "):
        log_likelihood(package_relation(), catalogue, PRIOR, FluxLimit(limit))
    np.testing.assert_array_equal(NoSelection().log_prob(np.zeros(3), np.zeros(3)), 0.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FluxLimit(-1.0), "luminosity limit is -1"),
        (lambda: FluxLimit(np.nan), "luminosity limit is nan"),
        (lambda: TabulatedSelection([0, 1], [8, 9], [[0, 1]]), "shape"),
        (lambda: TabulatedSelection([0, 1], [9, 8], np.ones((2, 2))), "increasing"),
        (lambda: TabulatedSelection([0, 1], [8, 9], [[0, 1], [0, 1.5]]), "between 0 and 1"),
        (lambda: TabulatedSelection([0, 1], [8, 9], [[0, 1], [0, 0]]), "above 0 at each redshift"),
    ],
)
def test_bad_selections(make, words):
    with pytest.raises(MassmapError, match=words):
        make()
