"""MassLuminosityRelation: presets, draws, evolution, errors; and a relation of the user's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy import stats

import massmap_jax as mm
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import PRESETS
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import prior_deviations
from massmap_jax.relation.law import PARAMETERS, MassLuminosityRelation

REDSHIFT, MASS, DENSITY = schechter_table()
GIVEN = dict(alpha1=10.7, alpha2=0.36, alpha3=2.35e14, alpha4=1.1, scatter=0.155)


def test_preset_is_the_2017_relation():
    relation = MassLuminosityRelation.preset("bigmali2017")
    values = [float(getattr(relation, name)) for name in PARAMETERS]
    assert values == [10.709, 0.359, 2.35e14, 1.10, 0.155]
    assert relation.num_draws == 1 and not relation.is_batch and relation.source


def test_preset_draws_are_the_normals_of_the_preset():
    preset = PRESETS["bigmali2017"]
    for seed in range(3):
        draws = MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(seed), 4000)
        assert draws.num_draws == 4000 and np.all(draws.log_weight == draws.log_weight[0])
        for name in PARAMETERS:
            values = getattr(draws, name)
            if preset.sd[name] == 0:
                np.testing.assert_array_equal(values, preset.mean[name])
            else:
                assert stats.kstest((values - preset.mean[name]) / preset.sd[name], "norm").pvalue > 1e-6, (seed, name)
        correlation = np.corrcoef([draws.alpha1, draws.alpha2, draws.alpha4, draws.scatter])
        assert np.abs(correlation - np.eye(4)).max() < 5.5 / np.sqrt(4000)


def test_same_key_same_draws():
    one, two, other = (MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(k), 5) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.alpha1, two.alpha1)
    assert not np.array_equal(one.alpha1, other.alpha1)


@pytest.mark.parametrize("evolution", ["power", "E"])
def test_mean_is_the_formula(evolution):
    relation = MassLuminosityRelation.create(**GIVEN, evolution=evolution, omega_m=0.25)
    reference = Relation(*GIVEN.values(), evolution=evolution, omega_m=0.25)
    ln_mass, z = np.linspace(24, 34, 7)[:, None], np.array([0.0, 0.7, 3.5])
    np.testing.assert_allclose(relation.mean_ln_lum(ln_mass, z), reference.mean_ln_lum(ln_mass, z), rtol=2e-6)
    np.testing.assert_array_equal(relation.scatter_ln_lum(ln_mass, z), 0.155)


def test_evolutions_differ():
    power, hubble = (MassLuminosityRelation.create(**GIVEN, evolution=name) for name in ("power", "E"))
    assert float(power.ln_evolution(0.0)) == float(hubble.ln_evolution(0.0)) == 0.0
    assert abs(float(power.ln_evolution(1.0)) - float(hubble.ln_evolution(1.0))) > 0.1


def test_identity_is_mass_over_pivot():
    relation = MassLuminosityRelation.identity(pivot=1e14)
    assert float(relation.mean_ln_lum(np.log(3e14), 2.0)) == pytest.approx(np.log(3.0), abs=5e-6)
    assert float(relation.scatter) == 0.0
    term = relation.data_term(np.log(3.0), 0.2, 1.0)
    assert float(term.centre) == pytest.approx(np.log(3e14), rel=1e-6) and float(term.width) == pytest.approx(0.2)


def test_sample_has_the_mean_and_the_scatter():
    relation = MassLuminosityRelation.create(**GIVEN)
    ln_mass, z = np.repeat([25.0, 31.0], 20_000), np.tile([0.3, 2.0], 20_000)
    for seed in range(3):
        score = (
            np.asarray(relation.sample(jax.random.key(seed), ln_mass, z))
            - Relation(*GIVEN.values()).mean_ln_lum(ln_mass, z)
        ) / 0.155
        assert stats.kstest(score, "norm").pvalue > 1e-5, seed
        for part in (score[:20_000], score[20_000:]):
            assert abs(part.mean()) < 5.5 / np.sqrt(20_000) and abs(part.std() - 1) < 5.5 / np.sqrt(40_000)
    wrong = score * 1.1  # the twin: a scatter 10 % off is seen
    assert stats.kstest(wrong, "norm").pvalue < 1e-6


def test_draw_and_as_batch():
    draws = MassLuminosityRelation.from_draws(**(GIVEN | dict(alpha1=[10.0, 11.0, 12.0], log_weight=[0.0, -1.0, -2.0])))
    assert draws.num_draws == 3 and draws.is_batch and draws.as_batch() is draws
    one = draws.draw(1)
    assert (float(one.alpha1), float(one.alpha2), float(one.log_weight)) == (11.0, 0.36, -1.0) and not one.is_batch
    np.testing.assert_array_equal(draws.draw(np.array([2, 0, 2])).alpha1, [12.0, 10.0, 12.0])
    assert one.as_batch().num_draws == 1 and one.as_batch().is_batch


ERRORS = {
    "negative scatter": (
        dict(scatter=[0.1, -0.2, -0.3]),
        "scatter must be finite and at least 0: 2 of 3 .* draw 1 = -0.2",
    ),
    "NaN scatter": (dict(scatter=[0.1, np.nan]), "scatter must be finite and at least 0: 1 of 2 .* draw 1 = nan"),
    "NaN alpha1": (dict(alpha1=np.nan), "alpha1 must be finite: 1 of 1 draws are not, first draw 0 = nan"),
    "infinite alpha4": (dict(alpha4=[1.0, np.inf]), "alpha4 must be finite"),
    "alpha2 of zero": (dict(alpha2=0.0), "alpha2 must be finite and not 0"),
    "pivot of zero": (dict(alpha3=0.0), "alpha3 must be a positive mass"),
    "NaN weight": (dict(log_weight=[0.0, np.nan]), "log_weight must not be NaN"),
    "no weight": (dict(log_weight=[-np.inf, -np.inf]), "log_weight is -inf for every draw"),
    "lengths": (dict(alpha1=[1.0, 2.0], alpha2=[1.0, 2.0, 3.0]), "not numbers of one length"),
    "text": (dict(alpha1="abc"), "not numbers of one length"),
    "two axes": (dict(alpha1=np.ones((2, 2))), r"shape \(2, 2\): give scalars or"),
    "no draws": (dict(alpha1=np.zeros(0)), r"shape \(0,\)"),
    "evolution": (dict(evolution="linear"), "evolution 'linear' is not known"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_relations_are_refused_with_the_reason(name):
    change, message = ERRORS[name]
    for make in (MassLuminosityRelation, MassLuminosityRelation.create, MassLuminosityRelation.from_draws):
        with pytest.raises(MassmapError, match=message) as caught:
            make(**(GIVEN | change))
        assert "\n" not in str(caught.value)


def test_constructor_create_and_from_draws_make_the_same():
    """The class itself is the constructor to try first; the classmethods are names of it."""
    given = dict(
        alpha1=[10.7, 10.8],
        alpha2=0.36,
        alpha3=1e14,
        scatter=np.float32(0.5),
        evolution="E",
        omega_m=0.25,
        lum_unit="L500",
    )
    makers = (MassLuminosityRelation, MassLuminosityRelation.create, MassLuminosityRelation.from_draws)
    one, *others = (make(**given) for make in makers)
    assert jax.tree.structure(one) == jax.tree.structure(others[0]) == jax.tree.structure(others[1])
    for name in (*PARAMETERS, "log_weight"):
        values = [getattr(relation, name) for relation in (one, *others)]
        assert all(type(v) is np.ndarray and v.dtype == np.float64 and v.shape == (2,) for v in values), name
        assert np.array_equal(values[0], values[1]) and np.array_equal(values[0], values[2]), name
    assert (one.alpha3[0], one.alpha4[0], one.log_weight[0], one.mass_definition) == (1e14, 0.0, 0.0, "unknown")
    with pytest.raises(TypeError, match="alpha5"):
        MassLuminosityRelation(**given, alpha5=1.0)


def test_a_pivot_that_is_not_given_is_told_of():
    for make in (MassLuminosityRelation, MassLuminosityRelation.create, MassLuminosityRelation.from_draws):
        with pytest.warns(UserWarning, match=r"alpha3, the pivot mass .* is not given: 1e\+14 Msun is taken"):
            assert make(alpha1=[1.0], alpha2=0.8, scatter=0.2).alpha3 == 1e14


def test_constructor_keeps_values_of_its_own():
    """A parameter changed in place by the caller changes no relation; scalars have no axis."""
    alpha1 = np.array([1.0, 2.0])
    relation = MassLuminosityRelation(alpha1=alpha1, alpha2=1.0, alpha3=1e14, scatter=0.1)
    alpha1[:] = 0.0
    np.testing.assert_array_equal(relation.alpha1, [1.0, 2.0])
    assert relation.alpha2.flags.writeable and relation.alpha2.flags.owndata
    one = MassLuminosityRelation(alpha1=jnp.asarray(1.0), alpha2=1, alpha3=1e14, scatter=0.1)
    assert one.alpha1.shape == () and isinstance(one.alpha1, np.ndarray) and not one.is_batch


@pytest.mark.parametrize("double", [False, True])
def test_constructor_under_jit_vmap_and_grad(double):
    """Traced values cannot be checked and pass through; the shape is common, the result that of the formula."""

    def mean(alpha1, alpha2):
        relation = MassLuminosityRelation(alpha1=alpha1, alpha2=alpha2, scatter=0.2, alpha3=2e14)
        assert all(getattr(relation, name).shape == relation.alpha1.shape for name in (*PARAMETERS, "log_weight"))
        return relation.mean_ln_lum(jnp.asarray(30.0), 0.5)

    with jax.enable_x64(double):
        tolerance = dict(rtol=1e-12 if double else 1e-5)
        alpha1, alpha2 = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.6, 0.7])
        x = 30.0 - np.log(2e14)
        expected = np.array([1.0, 2.0, 3.0]) + np.array([0.5, 0.6, 0.7]) * x
        np.testing.assert_allclose(jax.jit(mean)(alpha1, alpha2), expected, **tolerance)
        np.testing.assert_allclose(jax.vmap(mean)(alpha1, alpha2), expected, **tolerance)
        np.testing.assert_allclose(
            jax.vmap(mean, (0, None))(alpha1, 0.5), [1 + x / 2, 2 + x / 2, 3 + x / 2], **tolerance
        )
        for gradient in (jax.grad(mean, (0, 1)), jax.jit(jax.grad(mean, (0, 1)))):
            np.testing.assert_allclose(gradient(1.0, 0.5), (1.0, x), **tolerance)
        made = jax.jit(
            lambda a: MassLuminosityRelation(alpha1=a, alpha2=[1.0, 2.0], alpha3=1e14, scatter=0.1, source="a fit")
        )(0.5)
        assert made.num_draws == 2 and made.source == "a fit"
        assert made.alpha1.dtype == made.alpha2.dtype == jnp.zeros(()).dtype


def test_constructor_checks_what_is_not_traced():
    with pytest.raises(MassmapError, match=r"scatter must be finite and at least 0: 1 of 1 draws .* = -0\.2"):
        jax.jit(lambda a: MassLuminosityRelation(alpha1=a, alpha2=1.0, alpha3=1e14, scatter=-0.2))(1.0)
    with pytest.raises(MassmapError, match="not numbers of one length"):
        jax.jit(lambda a: MassLuminosityRelation(alpha1=a, alpha2=[1.0, 2.0], alpha3=1e14, scatter=0.1))(jnp.ones(3))
    with pytest.raises(MassmapError, match=r"shape \(2, 2\): give scalars or"):
        jax.jit(lambda a: MassLuminosityRelation(alpha1=a, alpha2=1.0, alpha3=1e14, scatter=0.1))(jnp.ones((2, 2)))


def test_constructor_and_its_names_say_what_each_is_for():
    documents = [f.__doc__ for f in (MassLuminosityRelation, MassLuminosityRelation.create.__func__)]
    documents.append(MassLuminosityRelation.from_draws.__func__.__doc__)
    assert len(set(documents)) == 3 and "batch" in documents[2].splitlines()[0]


def test_how_far_parameters_are_from_their_prior():
    prior = mm.RelationPrior.parse("alpha1=1:2,alpha2=1:0.5,alpha4=0,scatter=0.2,alpha3=1e14")
    away = prior_deviations({"alpha1": -4.0, "alpha2": 1.25, "alpha4": 7.0}, prior.central(), prior.sd())
    assert away == pytest.approx({"alpha1": 2.5, "alpha2": 0.5})  # alpha4 is fixed


def test_a_prior_may_be_given_as_text():
    text = "alpha1=1:2,alpha2=1:0.5,alpha4=0,scatter=0.2,alpha3=1e14"
    assert mm.RelationPrior.of(text).central() == mm.RelationPrior.parse(text).central()
    with pytest.raises(mm.MassmapError, match="unknown"):
        mm.RelationPrior.of("unknown")


def test_a_sampler_may_propose_what_the_constructor_refuses():
    prior = mm.RelationPrior.of("bigmali2017")
    values = prior.central() | {"scatter": jnp.asarray(-0.1), "alpha2": jnp.zeros(3)}
    proposed = prior.relation(values, log_weight=jnp.asarray(1.0))
    assert proposed.num_draws == 3 and proposed.lum_unit == "bigmali2017 luminosity unit"
    np.testing.assert_array_equal(proposed.alpha2, 0.0)
    np.testing.assert_array_equal(proposed.log_weight, 1.0)
    np.testing.assert_allclose(proposed.scatter, -0.1, rtol=1e-6)
    assert isinstance(proposed.scatter, jax.Array)


def test_relation_is_rebuilt_without_checks():
    """Transformations put what they need into the fields: axes, tangents, other types."""
    relation = MassLuminosityRelation(**GIVEN, lum_unit="L500")
    axes = jax.tree.map(lambda _: None, relation)
    assert axes.alpha2 is None and axes.lum_unit == "L500"
    single = jax.tree.map(lambda a: a.astype(np.float32), relation)
    assert single.scatter.dtype == np.float32
    moved = dataclasses.replace(relation, scatter=0.3)
    assert float(moved.scatter) == 0.3 and moved.lum_unit == "L500" and float(moved.alpha1) == 10.7


def test_unknown_presets_and_no_draws_are_refused():
    for call in (MassLuminosityRelation.preset, lambda n: MassLuminosityRelation.preset_draws(n, jax.random.key(0), 3)):
        with pytest.raises(MassmapError, match="preset 'reddick13' is not known: known presets are bigmali2017"):
            call("reddick13")
    with pytest.raises(MassmapError, match="number of relation draws is 0"):
        MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 0)
    with pytest.raises(MassmapError, match=r"batch of draws: take relation.draw\(i\) first"):
        MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 2).sample(jax.random.key(1), 30.0, 1.0)


def test_scatter_of_zero_is_allowed():
    assert float(MassLuminosityRelation.create(**(GIVEN | dict(scatter=0.0))).scatter) == 0.0


class BendingRelation(mm.Relation):
    """A relation of the user's own: a slope that bends and a scatter that falls with mass. No `data_term`."""

    alpha1: np.ndarray
    bend: np.ndarray
    log_weight: np.ndarray

    def mean_ln_lum(self, ln_mass, z):
        return self.alpha1 + 0.36 * (ln_mass - 33.0) + self.bend * (ln_mass - 30.0) ** 2 + 1.1 * jnp.log1p(z)

    def scatter_ln_lum(self, ln_mass, z):
        return 0.12 + 0.02 * (33.0 - ln_mass) ** 2 / 10 + 0 * z


@pytest.mark.parametrize("relation_from", ["fixed_draws", "other_data"])
def test_a_relation_of_the_users_own_goes_through(relation_from):
    ln_weight = np.log([0.6, 0.4])
    relation = BendingRelation(np.array([10.7, 10.9]), np.array([0.0, -0.01]), ln_weight)
    rng = np.random.default_rng(3)
    z = rng.uniform(0.1, 3.3, 12)
    ln_lum = np.asarray(relation.draw(0).mean_ln_lum(rng.uniform(24, 32, 12), z), dtype=float)
    sigma = rng.uniform(0.02, 0.5, 12)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma, ra=np.full(12, 10.0), dec=np.zeros(12)
    )
    prior = MassPrior.from_table(REDSHIFT, MASS, DENSITY)
    got = mass_posterior(catalogue, prior, relation, relation_from=relation_from, chunk_size=64)
    reference = PriorReference(REDSHIFT, MASS, DENSITY, per="mass")
    grid = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 40_001)
    for i in range(12):
        ln_prior = reference.log_prob(grid, z[i])
        posteriors, evidences = [], []
        for alpha1, bend in zip(relation.alpha1, relation.bend):
            mean = alpha1 + 0.36 * (grid - 33) + bend * (grid - 30) ** 2 + 1.1 * np.log1p(z[i])
            total = np.hypot(0.12 + 0.02 * (33 - grid) ** 2 / 10, sigma[i])
            joint = np.exp(ln_prior - 0.5 * ((ln_lum[i] - mean) / total) ** 2) / (total * np.sqrt(2 * np.pi))
            evidences.append(np.trapezoid(joint, grid))
            posteriors.append(joint / evidences[-1])
        weight = np.exp(ln_weight) * (np.array(evidences) if relation_from == "other_data" else 1.0)
        weight /= weight.sum()
        density = weight @ np.array(posteriors)
        mean = np.trapezoid(density * grid, grid)
        sd = np.sqrt(np.trapezoid(density * (grid - mean) ** 2, grid))
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3
        assert got.log_evidence[i] == pytest.approx(np.log(np.exp(ln_weight) @ evidences) - ln_lum[i], abs=1e-3)
        assert got.ess[i] == pytest.approx(1 / (weight**2).sum(), rel=1e-3)
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
        expected = np.interp(got.quantile_levels, cumulative, grid)
        assert np.abs(got.quantiles[i] - expected).max() < 1e-2 * sd


def test_maps_of_a_relation_of_the_users_own():
    """One relation, no draws: the base class makes a batch of it. No table holds its masses: they are integrated."""
    relation = BendingRelation(np.float64(10.8), np.float64(-0.01), np.float64(0.0))
    assert relation.num_draws == 1 and relation.as_batch().draw(0).alpha1 == 10.8
    rng = np.random.default_rng(4)
    z, ln_mass = rng.uniform(0.1, 2.0, 6), rng.uniform(29, 32, 6)
    luminosity = np.exp(np.asarray(relation.mean_ln_lum(ln_mass, z), dtype=float))
    catalogue = HaloCatalogue.from_arrays(
        luminosity=luminosity, redshift=z, sigma_ln_luminosity=np.full(6, 0.1), ra=np.full(6, 10.0), dec=np.zeros(6)
    )
    prior = MassPrior.from_table(REDSHIFT, MASS, DENSITY)
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=1.0)
    image = mm.mass_map(jax.random.key(0), catalogue, prior, relation, grid, num_draws=400, draws="table")
    assert image.total_mass == pytest.approx(mass_posterior(catalogue, prior, relation).mean_mass.sum(), rel=1e-6)
    assert abs(image.total_draws.mean() - image.total_mass) < 4 * image.total_sd / 20
