"""The NumPyro models: their densities against closed forms, their coordinates, and what a run must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC, SA
from numpyro.infer.util import log_density, potential_energy
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy import stats

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import GaussianTerm
from massmap_jax.models.coordinates import TruncatedGaussian, truncated_quantile
from massmap_jax.models.field import field_model
from massmap_jax.models.halo_mass import halo_mass_model
from massmap_jax.models.mixture import draw_terms, mixture_log_likelihood
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.models.predictive import posterior_predictive, prior_predictive
from massmap_jax.models.relation import Pivot, relation_model, start, start_metric
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.law import MassLuminosityRelation
from models.walk import Walk

TABLE = schechter_table()
PRIOR = MassPrior.from_table(*TABLE, per="mass", support="sharp")
REFERENCE = PriorReference(*TABLE, per="mass")
RELATION = MassLuminosityRelation.preset("bigmali2017")
DRAWS = MassLuminosityRelation.from_draws(
    alpha1=[10.6, 10.7, 10.85], alpha2=[0.35, 0.36, 0.37], alpha4=1.1, alpha3=2.35e14, scatter=[0.12, 0.15, 0.2],
    log_weight=[0.0, 0.5, -1.0],
)  # fmt: skip
BELIEFS = RelationPrior.preset("bigmali2017")
ENDS = np.log(TABLE[1][[0, -1]])


def make_catalogue(number=12, seed=0, **more):
    """Objects all over the table, those at its low-mass end included."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 3.4, number)
    ln_mass = rng.uniform(ENDS[0], ENDS[1] - 1, number)
    ln_mass[: number // 3] = ENDS[0] + 0.05
    ln_lum = np.asarray(RELATION.mean_ln_lum(ln_mass, z), float) + 0.16 * rng.normal(size=number)
    return HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.05, **more)


def ln_joint(catalogue, ln_mass, alpha1, alpha2, alpha4, scatter):
    """ln p1 p3 p4 (per ln L_obs) of every object, in plain NumPy from the raw table."""
    z = catalogue.redshift
    mean = alpha1 + alpha2 * (ln_mass - np.log(2.35e14)) + alpha4 * np.log1p(z)
    ln_prior = [float(np.interp(m, np.log(TABLE[1]), REFERENCE.row(x))) for m, x in zip(ln_mass, z)]
    return np.array(ln_prior) + stats.norm.logpdf(catalogue.ln_lum_obs, mean, np.hypot(scatter, catalogue.sigma_ln_lum))


def poor_map(e, term):
    """A logistic curve over the whole table, whatever the data say."""
    share = jax.nn.sigmoid(0.4 * e - 1.0)
    slope = 0.4 * (ENDS[1] - ENDS[0]) * share * (1 - share)
    return ENDS[0] + (ENDS[1] - ENDS[0]) * share, jnp.log(slope)


# -- coordinates -----------------------------------------------------------------------------------------------


quantile_of = jax.jit(truncated_quantile)
slope_of = jax.jit(jax.vmap(jax.grad(lambda e, low, high: truncated_quantile(e, low, high)[0]), (0, None, None)))


@pytest.mark.parametrize(
    "low, high", [(-3.0, 4.0), (-40.0, 30.0), (0.5, 20.0), (8.0, 25.0), (-20.0, -8.0), (-0.1, 0.1)]
)
def test_truncated_quantile_is_that_of_the_truncated_gaussian(low, high):
    e = np.linspace(-5, 5, 41)
    with jax.enable_x64(True):
        u, ln_slope = quantile_of(jnp.asarray(e), jnp.full(41, low), jnp.full(41, high))
        slope = slope_of(jnp.asarray(e), low, high)
        left, right = (quantile_of(e + h, jnp.full(41, low), jnp.full(41, high))[0] for h in (-1e-4, 1e-4))
    assert np.all(np.diff(u) > 0) and np.all((u >= low) & (u <= high))
    np.testing.assert_allclose(np.exp(ln_slope), slope, rtol=1e-8)
    np.testing.assert_allclose((right - left) / 2e-4, slope, rtol=1e-4)
    np.testing.assert_allclose(u, stats.truncnorm.ppf(stats.norm.cdf(e), low, high), rtol=1e-5, atol=1e-6)


def test_coordinates_stay_inside_the_table_with_finite_gradients():
    """Far below and above the table, far out in e, in float32."""
    objects = PlacedObjects.of(make_catalogue(), PRIOR).on_device()
    one = jax.tree.map(lambda a: a[0], objects)

    @jax.jit
    @jax.vmap
    def at(centre, width):
        term = GaussianTerm.normalised(centre, width)
        coordinates = TruncatedGaussian.fit(one, PRIOR, term)
        e = jnp.linspace(-9.0, 9.0, 37)
        return *jax.vmap(lambda e: coordinates(e, term))(e), jax.vmap(jax.grad(lambda e: sum(coordinates(e, term))))(e)

    centre, width = np.meshgrid([10.0, 20.0, 23.0, 28.0, 33.0, 45.0], [0.01, 0.4, 3.0])
    ln_mass, ln_slope, gradients = at(centre.ravel(), width.ravel())
    assert np.all((ln_mass >= np.float32(ENDS[0])) & (ln_mass <= np.float32(ENDS[1])))
    assert np.all(np.diff(ln_mass) >= 0)
    assert np.isfinite(ln_slope).all() and np.isfinite(gradients).all()


def test_prior_density_is_that_of_the_prior():
    objects = PlacedObjects.of(make_catalogue(), PRIOR).on_device()
    for ln_mass in (23.6, 27.03, 32.2):
        found = objects.ln_prior(PRIOR, jnp.full(len(objects), ln_mass))
        np.testing.assert_allclose(found, PRIOR.log_prob(ln_mass, objects.z), atol=3e-5)


# -- densities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coordinates", [None, poor_map], ids=["fitted", "poor"])
def test_field_density_is_prior_times_likelihood_times_jacobian(coordinates):
    """At arbitrary values: the joint density of relation and masses, not the marginal in other clothes."""
    catalogue = make_catalogue()
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        model = field_model(catalogue, PRIOR, BELIEFS, coordinates=coordinates)

        @jax.jit
        def evaluated(values):
            def masses(e):
                with numpyro.handlers.substitute(data=values | {"e": e}), numpyro.handlers.trace() as trace:
                    model()
                return trace["ln_mass"]["value"], trace["alpha1"]["value"]

            slopes, _ = jax.jacfwd(masses)(values["e"])
            return *masses(values["e"]), slopes, log_density(model, (), {}, values)[0]

        differences = []
        for _ in range(3):
            values = {"alpha2": 0.36 + 0.01 * rng.normal(), "alpha4": 1.1 + 0.05 * rng.normal(), "scatter": 0.155}
            values |= {"alpha1_offset": rng.normal(), "e": rng.normal(size=len(catalogue))}
            ln_mass, alpha1, slopes, found = evaluated(values)
            relation = {"alpha1": float(alpha1)} | {p: values[p] for p in ("alpha2", "alpha4", "scatter")}
            expected = ln_joint(catalogue, np.asarray(ln_mass), **relation).sum() + np.linalg.slogdet(slopes)[1]
            expected += float(BELIEFS.log_prob(relation))
            differences.append(float(found) - expected)
    # Up to constants: L_obs of a density per unit L_obs, and the scale of alpha1_offset.
    np.testing.assert_allclose(differences, differences[0], atol=2e-4)


def test_alpha1_at_the_pivot_leaves_its_prior_alone():
    """A likelihood that is constant: the prior comes back, and the change of variables has a constant Jacobian."""
    model = relation_model(lambda relation: 0.0, BELIEFS, pivot=Pivot(27.0, 0.9))
    with jax.enable_x64(True):
        values = [{"alpha1_offset": a, "alpha2": b, "alpha4": c, "scatter": 0.154}
                  for a, b, c in [(0.0, 0.359, 1.1), (0.5, 0.35, 1.15), (-40.0, 0.37, 1.0)]]  # fmt: skip
        found, reported = [], []
        for v in values:
            density, trace = log_density(model, (), {}, v)
            found.append(float(density))
            reported.append(v | {"alpha1": trace["alpha1"]["value"]})
        expected = [float(BELIEFS.log_prob(v)) for v in reported]
    np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=1e-8)
    lever = 27.0 - np.log(2.35e14)
    for v in reported:  # ln L at the pivot depends on the offset alone
        at_pivot = v["alpha1"] + v["alpha2"] * lever + v["alpha4"] * 0.9
        np.testing.assert_allclose(at_pivot - 10.709 - 0.359 * lever - 1.1 * 0.9, 0.022 * v["alpha1_offset"], atol=1e-8)


@pytest.mark.parametrize("beliefs", [BELIEFS, RelationPrior.preset("bigmali2017", alpha2=0.4)], ids=["all", "three"])
@pytest.mark.parametrize("pivot", [None, Pivot(31.0, 0.7)], ids=["at alpha3", "at the data"])
def test_first_metric_is_the_curvature_where_masses_are_known(beliefs, pivot):
    """Each object's mass as the central relation gives it, its ln L one width above that and one below."""
    objects = PlacedObjects.of(make_catalogue(), PRIOR)
    central = beliefs.central()
    evolution, width = np.log1p(objects.z), np.hypot(central["scatter"], objects.sigma)
    # Above the pivot alpha3, in ln.
    ln_mass = (objects.ln_lum_obs - central["alpha1"] - central["alpha4"] * evolution) / central["alpha2"]

    def masses_known(relation):
        mean = relation.alpha1 + relation.alpha2 * ln_mass + relation.alpha4 * evolution
        total = jnp.hypot(relation.scatter, objects.sigma)
        ends = [-0.5 * ((objects.ln_lum_obs + d - mean) / total) ** 2 - jnp.log(total) for d in (width, -width)]
        return 0.5 * sum(end.sum() for end in ends)

    ((sites, metric),) = start_metric(objects, beliefs, pivot).items()
    assert set(sites) == {"alpha1_offset" if pivot and p == "alpha1" else p for p in beliefs.free}
    with jax.enable_x64(True):
        model = relation_model(masses_known, beliefs, pivot=pivot)
        begun = {p: v for p, v in start(beliefs).items() if p in sites}
        at = [jnp.log(begun[p]) if p == "scatter" else begun[p] for p in sites]

        def energy(u):
            return potential_energy(model, (), {}, dict(zip(sites, u, strict=True)))

        curvature = jax.jit(jax.hessian(energy))(jnp.asarray(at, dtype=float))
    scale = np.sqrt(np.diag(metric))
    np.testing.assert_allclose(
        metric / np.outer(scale, scale), np.linalg.inv(curvature) / np.outer(scale, scale), atol=1e-5
    )


@pytest.mark.parametrize("relation_from", ["this_catalogue", "other_data"])
def test_mixture_has_the_weights_of_mass_posterior(relation_from):
    catalogue = make_catalogue()
    exact = mass_posterior(catalogue, PRIOR, DRAWS, relation_from=relation_from)
    with jax.enable_x64(True):
        objects = PlacedObjects.of(catalogue, PRIOR).on_device()
        grid = jnp.linspace(*ENDS, 4001)

        def moments(one):
            normalise = relation_from != "other_data"
            terms, _ = draw_terms(one, PRIOR, PRIOR.norm_coefficients(), DRAWS, NoSelection(), normalise=normalise)
            density = jax.vmap(lambda m: jnp.exp(one.ln_prior(PRIOR, m) + mixture_log_likelihood(terms, m)))(grid)
            density = density.at[jnp.array([0, -1])].multiply(0.5)
            mean = (density * grid).sum() / density.sum()
            return mean, jnp.sqrt((density * (grid - mean) ** 2).sum() / density.sum())

        mean, sd = jax.jit(jax.vmap(moments))(objects)
    np.testing.assert_allclose((mean - exact.mean) / exact.sd, 0, atol=2e-3)
    np.testing.assert_allclose(sd / exact.sd, 1, atol=2e-3)


@pytest.mark.parametrize("luminosity", ["marginal", "latent"])
def test_halo_mass_density(luminosity):
    catalogue = make_catalogue()
    rng = np.random.default_rng(2)
    ln_mass = rng.uniform(*ENDS, len(catalogue))
    values = {"ln_mass": ln_mass}
    expected = ln_joint(catalogue, ln_mass, 10.709, 0.359, 1.1, 0.155)
    if luminosity == "latent":
        ln_lum = catalogue.ln_lum_obs + 0.1 * rng.normal(size=len(catalogue))
        values["ln_lum"] = ln_lum
        mean = RELATION.mean_ln_lum(ln_mass, catalogue.redshift)
        expected = expected - stats.norm.logpdf(catalogue.ln_lum_obs, mean, np.hypot(0.155, 0.05))
        expected = (
            expected + stats.norm.logpdf(ln_lum, mean, 0.155) + stats.norm.logpdf(catalogue.ln_lum_obs, ln_lum, 0.05)
        )
    with jax.enable_x64(True):
        model = halo_mass_model(catalogue, PRIOR, RELATION, luminosity=luminosity)
        found, _ = log_density(model, (), {}, values)
    np.testing.assert_allclose(found, expected.sum(), atol=1e-3)


# -- runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """One run on 20 rows, of which one is not usable, in chunks of 16."""
    catalogue = make_catalogue(20, seed=3, ids=np.arange(20) + 100)
    redshift = np.array(catalogue.redshift)
    redshift[4] = -9.0
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(catalogue.ln_lum_obs), redshift=redshift, sigma_ln_luminosity=0.05, ids=catalogue.ids
    )
    options = {"num_warmup": 40, "num_samples": 60, "chunk_size": 16, "keep_draws": True}

    def sample(seed=0, rows=slice(None), **more):
        return sample_halo_masses(jax.random.key(seed), catalogue.subset(rows), PRIOR, RELATION, **(options | more))

    return sample, sample()


def test_unusable_rows_are_flagged_and_nan(run):
    _, samples = run
    assert samples.flag[4] & Flag.Z_SENTINEL and not samples.usable[4]
    for column in (
        samples.mean,
        samples.sd,
        samples.mean_mass,
        samples.r_hat,
        samples.ess,
        samples.quantiles,
        samples.draws,
    ):
        assert np.isnan(column[4]).all() and np.isfinite(np.delete(column, 4, axis=0)).all()
    assert samples.draws.dtype == np.float32 and samples.draws.shape == (20, 1, 60)
    assert "19 with a mass" in samples.summary() and "ESS" in samples.summary()


def test_same_key_same_answer_another_key_another(run):
    sample, samples = run
    np.testing.assert_array_equal(samples.draws, sample().draws)
    assert not np.any(samples.draws[0] == sample(seed=1).draws[0])


def test_order_subset_and_chunk_leave_the_answer_alone(run):
    sample, samples = run
    rows = np.array([17, 2, 9, 11, 0])
    np.testing.assert_array_equal(samples.draws[rows], sample(rows=rows).draws)
    # Another size is compiled to other sums, and rounding may send a chain another way: one or two of the 19 may go. By
    # a kernel that compiles soon: the numbers are the same under each.
    one, other = (sample(kernel=Walk, chunk_size=size).draws for size in (16, 32))
    off = np.abs(one - other).max(axis=(1, 2))
    assert np.nansum(off < 2e-5) >= 17


def simulated_annealing(potential_fn):
    return SA(potential_fn=potential_fn)


def stuck_kernel(potential):
    """A step so long that every transition diverges."""
    return HMC(potential_fn=potential, step_size=1e12, adapt_step_size=False, num_steps=1, trajectory_length=None)


def test_chains_that_do_not_move_are_flagged_and_counted(run):
    sample, good = run
    stuck = sample(kernel=stuck_kernel)
    usable = stuck.usable
    assert ((stuck.flag & Flag.NOT_CONVERGED) != 0)[usable].all() and usable.sum() == 19
    assert "undefined in 100 %" in stuck.summary() and "19" in stuck.summary()
    assert not (good.flag[good.r_hat < 1.1] & Flag.NOT_CONVERGED).any()


def test_the_runner_takes_any_kernel(run):
    samples = run[0](kernel=simulated_annealing, num_chains=2, rows=slice(0, 3))
    assert samples.draws.shape == (3, 2, 60) and np.isfinite(samples.draws).all() and not samples.divergences.any()


def ln_evidence(catalogue):
    def likelihood(relation):
        z = jnp.asarray(catalogue.redshift, dtype=float)
        term = relation.data_term(catalogue.ln_lum_obs, catalogue.sigma_ln_lum, z)
        return (term.log_norm + jnp.log(term.width) + PRIOR.log_evidence(term.centre, z, term.width)).sum()

    return likelihood


def fixed_hmc(model):
    return HMC(model, num_steps=4, step_size=0.1, trajectory_length=None)


@pytest.mark.parametrize("which, kernel", [("relation", SA), ("halo_mass", fixed_hmc)])
def test_models_run_under_other_kernels(which, kernel):
    catalogue = make_catalogue(4)
    model = {
        "field": lambda: field_model(catalogue, PRIOR, BELIEFS),
        "relation": lambda: relation_model(ln_evidence(catalogue), BELIEFS),
        "halo_mass": lambda: halo_mass_model(catalogue, PRIOR, BELIEFS),
    }[which]()
    mcmc = MCMC(kernel(model), num_warmup=3, num_samples=5, progress_bar=False)
    mcmc.run(jax.random.key(0))
    samples = mcmc.get_samples()
    assert all(np.isfinite(v).all() for v in samples.values())
    assert {"field": "ln_mass", "relation": "alpha1", "halo_mass": "alpha1"}[which] in samples


# -- predictive ------------------------------------------------------------------------------------------------


def test_predictive_luminosities():
    catalogue = make_catalogue(3)
    ln_mass = np.full((4000, 3), 28.0)
    found = np.asarray(posterior_predictive(jax.random.key(0), catalogue, PRIOR, RELATION, ln_mass))
    expected = stats.norm(RELATION.mean_ln_lum(28.0, catalogue.redshift), np.hypot(0.155, 0.05))
    assert stats.kstest(expected.cdf(found).ravel(), "uniform").pvalue > 1e-5
    mean = np.asarray(prior_predictive(jax.random.key(1), catalogue, PRIOR, DRAWS, 4000)).mean(axis=0)
    share = np.exp(DRAWS.log_weight) / np.exp(DRAWS.log_weight).sum()
    grid = np.linspace(*ENDS, 2001)
    weight = np.exp([np.interp(grid, np.log(TABLE[1]), REFERENCE.row(z)) for z in catalogue.redshift]).T
    expected = sum(
        w
        * (weight * np.asarray(DRAWS.draw(i).mean_ln_lum(grid[:, None], catalogue.redshift))).sum(axis=0)
        / weight.sum(axis=0)
        for i, w in enumerate(share)
    )
    np.testing.assert_allclose(mean, expected, atol=0.06)


# -- refusals --------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    catalogue = make_catalogue()
    key = jax.random.key(0)
    with pytest.raises(MassmapError, match="relation_from is not given"):
        sample_halo_masses(key, catalogue, PRIOR, DRAWS)
    with pytest.raises(MassmapError, match="num_samples is 0"):
        sample_halo_masses(key, catalogue, PRIOR, RELATION, num_samples=0)
    with pytest.raises(MassmapError, match="latent luminosity needs one relation"):
        halo_mass_model(catalogue, PRIOR, DRAWS, relation_from="fixed_draws", luminosity="latent")
    with pytest.raises(MassmapError, match="'joint' is not known"):
        halo_mass_model(catalogue, PRIOR, RELATION, luminosity="joint")
    with pytest.raises(MassmapError, match="12 objects have another kind, first row 0"):
        sample_halo_masses(key, make_catalogue(noise_kind="normal"), PRIOR, RELATION)
    with pytest.raises(MassmapError, match="paired draws need one relation for each of the 7"):
        posterior_predictive(key, catalogue, PRIOR, DRAWS, np.full((7, 12), 28.0), paired=True)
    fixed = {"alpha1": dist.Normal(10.7, 0.02), "alpha2": 0.36, "alpha4": 1.1, "scatter": 0.15}
    values, _ = log_density(relation_model(lambda r: r.alpha2, RelationPrior.of(fixed)), (), {}, {"alpha1": 10.7})
    assert np.isfinite(values)
