"""Relation and cosmology fitted together with measured masses: against plain NumPy with hmf's mass function."""

import warnings

import equinox as eqx
import jax
import numpy as np
import pytest
from reference.cosmology_reference import ln_likelihood_with_masses

import massmap_jax as mm
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.errors import MassmapError
from massmap_jax.halo.mass_function import hmf_table
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import cosmology_with
from massmap_jax.prior.population import Lattice, PopulationDraws
from massmap_jax.relation.calibrated import CalibratedRelation
from massmap_jax.relation.cosmology_told import note_of_h
from massmap_jax.relation.joint_cosmology import JointCosmologyPrior
from massmap_jax.relation.joint_fit import beliefs_asked, likelihood_of, prepare
from massmap_jax.relation.joint_posterior import JointPosterior

NODES = {"log10_mass_range": (13.5, 16.0), "dlog10_mass": 0.02}
Z, LIMIT, PIVOT, NUMBER = np.array([0.1, 0.3, 0.5, 0.8]), 0.2, 3e14, 160
BELIEFS = mm.RelationPrior.parse("alpha1=0.5:1,alpha2=1.6:0.1,alpha4=1,scatter=0.3:0.1,alpha3=3e14")
FIXED = {"omega_m": 0.3, "h": 0.68, "n_s": 0.97, "omega_b": 0.048}
SELECTION = mm.FluxLimit(np.exp(LIMIT))


def prior():
    """At the middle of the belief, with the neutrinos that every cosmology of a fit has."""
    middle = cosmology_with(FIXED | {"sigma8": 0.8})
    return mm.MassPrior.from_cosmology(middle, fit="Tinker08", mass_definition="500c", redshift=Z, **NODES)


def cosmology(width=0.1):
    """Draws of sigma8, whose mean and variance in ln are exact."""
    scores = np.random.default_rng(1).standard_normal(200)
    scores = (scores - scores.mean()) / scores.std()
    return mm.CosmologyDraws.from_arrays(**FIXED, sigma8=0.8 * np.exp(width * scores), source="made up")


def objects():
    """ln L, its error, z, ln M_obs of a half and its error: clusters above a limit at sigma8 = 0.75."""
    rng = np.random.default_rng(5)
    own = prior().at_cosmology(cosmology_with(FIXED | {"sigma8": 0.75}))
    z = rng.choice(Z, 40 * NUMBER)
    ln_mass = np.asarray(own.sample(jax.random.key(0), z))
    ln_lum = 0.5 + 1.6 * (ln_mass - np.log(PIVOT)) + np.log1p(z) + np.hypot(0.3, 0.1) * rng.standard_normal(z.size)
    seen = np.flatnonzero(ln_lum > LIMIT)[:NUMBER]
    measured = ln_mass[seen] + np.hypot(0.1, 0.2) * rng.standard_normal(NUMBER)
    measured[rng.permutation(NUMBER)[: NUMBER // 2]] = np.nan
    return ln_lum[seen], np.full(NUMBER, 0.1), z[seen], measured, np.full(NUMBER, 0.2)


@pytest.fixture(scope="module")
def columns():
    return objects()


def catalogue_of(columns):
    return mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(columns[0]), sigma_ln_luminosity=columns[1], redshift=columns[2]
    )


def masses_of(columns, **changes):
    given = {"bias": "0:0.05", "scatter": "0.1:0.03", "scatter_correlation": 0.3, "chosen_by": "luminosity"} | changes
    return mm.CalibrationMasses.from_arrays(mass=np.exp(columns[3]), sigma_ln_mass=columns[4], **given)


def asked(columns, population, selection, *, catalogue=None, base=None, observables=None):
    """Coordinates and likelihood of a fit, under `jax.enable_x64(True)`; with a mass prior `base`, under that alone."""
    catalogue, masses = catalogue_of(columns) if catalogue is None else catalogue, masses_of(columns)
    laws, correlations, population = beliefs_asked(masses, population, observables, 2.0, selection)
    about = population, laws, correlations, selection, "laplace"
    ready = prepare(catalogue, prior() if base is None else base, BELIEFS, masses, *about)
    coordinates, free = ready.coordinates, base is None
    if free:
        joint = JointCosmologyPrior.around(ready.joint_prior, CosmologyBelief.of(cosmology()), ready.data.prior)
        coordinates = eqx.tree_at(lambda c: c.prior, coordinates, joint)
    likelihood = likelihood_of(ready.data, masses, ready.has_mass, ready.chosen, selection, None, moves=free)
    return coordinates, likelihood


def fitted(columns, population="fixed", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"selection": SELECTION, "cosmology": cosmology(), "num_draws": 100} | options
        masses = given.pop("calibration", None) or masses_of(columns)
        return mm.fit_relation(
            catalogue_of(columns), prior(), BELIEFS, calibration=masses, population=population, **given
        )


@pytest.fixture(scope="module")
def fit(columns):
    return fitted(columns)


def plain(columns, values, sigma8, **options):
    text = f"H0=68,Om0=0.3,Ob0=0.048,sigma8={sigma8:.12g},n_s=0.97"
    redshift, mass, density = hmf_table("Tinker08", text, "500c", redshift=Z, **NODES)[:3]
    # The prior is linear in ln M between its nodes.
    x = np.linspace(np.log(mass[0]), np.log(mass[-1]), 4001)
    fine = np.exp([np.interp(x, np.log(mass), np.log(row)) for row in density])
    law = {"alpha4": 1.0, "correlation": 0.3} | values
    return ln_likelihood_with_masses(law, PIVOT, columns, redshift, np.exp(x), fine, **options)


LAW = {"alpha1": 0.4, "alpha2": 1.7, "scatter": 0.35, "bias": 0.05, "mass_scatter": 0.12}


@pytest.mark.parametrize(
    ("population", "selection"),
    [("fixed", SELECTION), ("hmf_completeness,drift=no", mm.SelectedOnMass(2e14, 0.1))],
)
def test_likelihood_is_that_of_plain_numpy(columns, population, selection):
    on_mass = selection is not SELECTION
    if on_mass:
        columns = tuple(c[np.isfinite(columns[3]) & (columns[3] > np.log(2e14))] for c in columns)
    with jax.enable_x64(True):
        coordinates, likelihood = asked(columns, population, selection)
        of_sum = jax.jit(lambda likelihood, values: likelihood(coordinates.prior.relation(values)))
        sums, expected = [], []
        for score in (0.0, 1.5):
            more = {"population_centre": 33.0, "population_width": 0.4} if on_mass else {}
            sums.append(float(of_sum(likelihood, LAW | more | {"cosmology_1": score})))
            known = (
                {"completeness": (33.0, 0.4), "threshold": (np.log(2e14), 0.1, 0.2)} if on_mass else {"limit": LIMIT}
            )
            expected.append(plain(columns, LAW, 0.8 * np.exp(0.1 * score), **known))
    # hmf's own table is good to 2e-4 an object at these steps in ln M.
    np.testing.assert_allclose(sums, expected, atol=0.06)
    np.testing.assert_allclose(np.diff(sums), np.diff(expected), atol=0.02)
    # A cosmology that is left as it was would be noticed.
    assert abs(expected[1] - expected[0]) > 0.3


def test_gradient_is_that_of_differences(columns):
    with jax.enable_x64(True):
        coordinates, likelihood = asked(tuple(c[:80] for c in columns), "hmf_completeness,drift=no", SELECTION)
        both = jax.jit(jax.value_and_grad(lambda x: coordinates.log_density(x, likelihood)))
        x = np.asarray(coordinates.place(coordinates.prior.central())) + 0.1
        gradient = both(x)[1]
        for i, step in enumerate(3e-2 * np.eye(x.size)):
            around = [float(both(x + j * step)[0]) for j in (-2, -1, 1, 2)]
            expected = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / 0.36
            assert float(gradient[i]) == pytest.approx(expected, rel=3e-3, abs=1e-2), coordinates.free[i]
        # A cosmology that cannot be has no density, and no gradient that is not a number.
        far = np.where(np.arange(x.size) == x.size - 1, 80.0, x)
        assert both(far)[0] == -np.inf and np.isfinite(both(far)[1]).all()


def with_richness(columns):
    """The same objects with linear noise of the luminosity, and a richness of most."""
    rng, lum = np.random.default_rng(7), np.exp(columns[0])
    richness = np.exp(3 + (columns[0] - 1) / 1.6 + 0.3 * rng.standard_normal(NUMBER))
    richness[:20] = np.nan
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=lum, sigma_luminosity=0.3 * lum, redshift=columns[2], noise_kind="normal"
    )
    law = mm.RelationPrior.parse("alpha1=3:1,alpha2=1:0.2,alpha4=0,scatter=0.3:0.1,alpha3=3e14")
    return catalogue.with_observables(mm.Observables.from_arrays({"richness": richness}, {"richness": 0.1})), law


def test_linear_noise_and_further_observables_have_the_cosmology_too(columns):
    catalogue, law = with_richness(columns)
    given = {"catalogue": catalogue, "observables": {"richness": law}}
    more = {"alpha1_richness": 3.1, "alpha2_richness": 0.9, "scatter_richness": 0.25, "correlation_richness": 0.2}
    more |= {"population_centre": 33.0, "population_width": 0.4, "cosmology_1": 1.5}
    of_sum = jax.jit(lambda beliefs, likelihood, values: likelihood(beliefs.relation(values)))
    with jax.enable_x64(True):
        found = []
        for sigma8 in (None, 0.8 * np.exp(0.15), 0.8):
            base = sigma8 and prior().at_cosmology(cosmology_with(FIXED | {"sigma8": sigma8}))
            coordinates, likelihood = asked(columns, "hmf_completeness,drift=no", None, base=base, **given)
            values = LAW | {p: v for p, v in more.items() if p in coordinates.free}
            found.append(float(of_sum(coordinates.prior, likelihood, values)))
    # Single precision of linear noise aside, it is the likelihood under a mass prior of that cosmology.
    assert found[0] == pytest.approx(found[1], abs=2e-3) and abs(found[0] - found[2]) > 0.3


def newton_step(gradient, x):
    """How far the maximum is from x, in the errors that the Hessian gives, by differences of the gradient."""
    hessian = [(gradient(x + h) - gradient(x - h)) / 2e-3 for h in 1e-3 * np.eye(x.size)]
    covariance = -np.linalg.inv(hessian)
    return covariance @ gradient(x) / np.sqrt(np.diag(covariance))


def test_a_cosmology_that_is_all_but_known_gives_the_fit_under_it(columns, fit):
    almost = fitted(columns, cosmology=cosmology(1e-6))
    with jax.enable_x64(True):
        coordinates, likelihood = asked(columns, "fixed", SELECTION, base=prior())
        gradient = jax.jit(jax.grad(lambda x: coordinates.log_density(x, likelihood)))
        off = {
            name: newton_step(
                gradient, np.asarray(coordinates.place({p: found.maximum.parameter(p) for p in coordinates.free}))
            )
            for name, found in (("almost", almost), ("free", fit))
        }
    assert np.abs(off["almost"]).max() < 1e-3, off
    # The twin: with sigma8 known to a tenth, it is another fit.
    assert np.abs(off["free"]).max() > 0.2


def test_what_a_fit_tells(columns, fit):
    assert fit.free == ("alpha1", "alpha2", "scatter", "bias", "mass_scatter", "sigma8")
    assert fit.of_cosmology == ("sigma8",) and set(fit.informed) == set(fit.mean) == set(fit.free)
    assert fit.prior_mean["sigma8"] == pytest.approx(0.8 * np.exp(0.1**2 / 2), rel=1e-6)
    # Of 160 clusters at sigma8 = 0.75; the bias is what was believed.
    assert fit.informed["sigma8"] > 0.4 and abs(fit.mean["sigma8"] - 0.75) < 3 * fit.sd["sigma8"]
    assert "of the cosmology, the catalogue informs sigma8" in " ".join(fit.notes)
    assert fit.with_sigma8["pivot_z"] == pytest.approx(np.median(columns[2]), abs=1e-6)
    table = fit.to_table()
    assert {"sigma8", "omega_m", "h", "bias", "population_pivot_z"} < set(table) and table["omega_m"].std() < 1e-12
    words = fit.summary()
    assert "sigma8" in words and "prior 0.8" in words
    # Without an error of h nothing is said of it.
    assert note_of_h(fit.prior_mean, fit.prior_sd) == []
    assert "h is known to 7%" in note_of_h({"h": 0.7}, {"h": 0.05})[0] and note_of_h({"h": 0.7}, {"h": 0.01}) == []


def test_draws_go_where_a_relation_goes(columns, fit):
    catalogue, base = catalogue_of(columns).subset(np.arange(5)), prior()
    each = []
    for i in (0, 60):
        one = fit.draws.draw(i)
        own = base.at_cosmology(cosmology_with({p: float(v) for p, v in one.population.cosmologies.items()}))
        with jax.enable_x64(True):
            plain = PopulationDraws.of(mm.Population.fixed(), {}, np.asarray(0.3), Lattice.of(own))
        alone = CalibratedRelation.joined(one, one.measured, plain)
        each.append(mm.mass_posterior(catalogue, own, alone).mean)
    two = mm.mass_posterior(catalogue, base, fit.draws.draw([0, 60]), relation_from="this_catalogue")
    np.testing.assert_allclose(two.mean, np.mean(each, axis=0), atol=1e-4)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    other = mm.MassPrior.from_cosmology("WMAP9", fit="Tinker08", mass_definition="500c", redshift=Z, **NODES)
    with pytest.raises(MassmapError, match="under another mass prior"):
        mm.mass_posterior(catalogue, other, fit.draws, relation_from="this_catalogue")


def test_a_fit_is_read_back_as_it_was(fit, tmp_path):
    fit.save(tmp_path / "fit.npz")
    assert JointPosterior.is_saved(tmp_path / "fit.npz")
    back = JointPosterior.load(tmp_path / "fit.npz")
    ours, theirs = jax.tree.flatten(fit), jax.tree.flatten(back)
    assert ours[1] == theirs[1]
    for one, other in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.summary() == fit.summary()
    fit.write_getdist(tmp_path / "chain")
    draws = mm.CosmologyDraws.read(tmp_path / "chain")
    np.testing.assert_allclose(draws.values["sigma8"], fit.draws.parameter("sigma8"))
    with pytest.raises(MassmapError, match=r"fitted jointly with a population.*give relation\.npz of the same fit"):
        read_relation(tmp_path / "chain")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"population": "gaussian"}, "the population 'gaussian' is no part of a mass function"),
        ({"cosmology": cosmology().draw(slice(0, 8))}, "8 effective draws are too few"),
        ({"cosmology": 0.8}, "CosmologyDraws"),
        (
            {"prior": mm.MassPrior.from_table([0.0, 2.0], [1e13, 1e15, 1e16], np.ones((2, 3)))},
            "cannot follow the cosmology",
        ),
    ],
)
def test_refused_in_one_sentence(columns, changes, words):
    given = {"catalogue": catalogue_of(columns), "prior": prior(), "relation_prior": BELIEFS}
    given |= {"calibration": masses_of(columns), "cosmology": cosmology()} | changes
    with pytest.raises(MassmapError, match=words):
        mm.fit_relation(**given)
