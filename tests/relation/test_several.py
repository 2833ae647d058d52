"""The fit of several observables: its likelihood is that of NumPy, it finds the truth, and it refuses what cannot be.

Its calibration is tested in tests/statistical/test_several.py.
"""

import math
import warnings
from dataclasses import replace

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from reference import several_reference as reference
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.correlations import PartialCorrelation, beliefs_about, matrix_of, pairs
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.joint import _BLOCK_OF_TABLE, JointPrior
from massmap_jax.relation.joint_fit import _edges, likelihood_of
from massmap_jax.relation.selected_on import number_at_edge

NUMBER, CALIBRATORS, ALPHA3 = 500, 150, 3e14
SCATTERS = np.array([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
TRUTH = {
    "alpha1": 1.0, "alpha2": 1.3, "alpha4": 2.0, "scatter": 0.4,
    "alpha1_richness": 3.4, "alpha2_richness": 0.9, "alpha4_richness": 0.3, "scatter_richness": 0.3,
    "alpha1_y_sz": 0.5, "alpha2_y_sz": 1.7, "alpha4_y_sz": 0.7, "scatter_y_sz": 0.2,
    "correlation_richness": 0.5, "correlation_y_sz": 0.2, "partial_richness_y_sz": -0.4 / np.sqrt(0.75 * 0.96),
}  # fmt: skip
LUMINOSITY = mm.RelationPrior.parse("alpha1=1:2,alpha2=1.3:0.4,alpha4=1:2,scatter=0.3:0.2,alpha3=3e14")
OBSERVABLES = {
    "richness": mm.RelationPrior.parse("alpha1=3:2,alpha2=1:0.3,alpha4=0:1,scatter=0.3:0.2,alpha3=3e14"),
    "y_sz": mm.RelationPrior.parse("alpha1=0:2,alpha2=1.5:0.4,alpha4=0:2,scatter=0.3:0.2,alpha3=3e14"),
}
POPULATION = mm.Population.gaussian(drift=False)
COMPLETENESS = mm.TabulatedSelection([0.0], np.log([20.0, 40.0]), [[0.0, 1.0]])


def law(name=""):
    end = f"_{name}" if name else ""
    return {p: TRUTH[p + end] for p in ("alpha1", "alpha2", "alpha4", "scatter")} | {"alpha3": ALPHA3}


def simulated(seed=0):
    """Clusters of a normal population with three observables, some missing, and measured masses of some of them."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 0.8, NUMBER)
    ln_mass = 33.0 + 0.4 * rng.normal(size=NUMBER)
    scatter = np.array([law(n)["scatter"] for n in ("", "richness", "y_sz")])
    sigma = rng.uniform(0.1, 0.3, (NUMBER, 3))
    y = np.stack([law(n)["alpha1"] + law(n)["alpha2"] * (ln_mass - np.log(ALPHA3)) + law(n)["alpha4"] * np.log1p(z)
                  for n in ("", "richness", "y_sz")], axis=1)  # fmt: skip
    y += rng.multivariate_normal(np.zeros(3), SCATTERS * np.outer(scatter, scatter), NUMBER)
    y += sigma * rng.normal(size=y.shape)
    shown = np.where(rng.random(y.shape) < 0.2, np.nan, np.exp(y))
    observables = mm.Observables.from_arrays(
        {"richness": shown[:, 1], "y_sz": shown[:, 2]}, {"richness": sigma[:, 1], "y_sz": sigma[:, 2]}
    )
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=shown[:, 0], redshift=z, sigma_ln_luminosity=sigma[:, 0], ra=10 + rng.random(NUMBER),
        dec=rng.random(NUMBER),
    )  # fmt: skip
    measured = np.exp(ln_mass + np.hypot(0.1, 0.2) * rng.normal(size=NUMBER))
    measured[rng.permutation(NUMBER)[CALIBRATORS:]] = np.nan
    masses = mm.CalibrationMasses.from_arrays(mass=measured, sigma_ln_mass=0.2, scatter=0.1)
    return catalogue.with_observables(observables), masses, ln_mass


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.default()


@pytest.fixture(scope="module")
def field():
    return simulated()


def fitted(catalogue, prior, masses, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"observables": OBSERVABLES, "population": POPULATION, "num_draws": 400} | options
        return mm.fit_relation(catalogue, prior, LUMINOSITY, calibration=masses, **options)


@pytest.fixture(scope="module")
def fit(field, prior):
    return fitted(field[0], prior, field[1])


def test_finds_the_truth(fit):
    mean, sd = fit.mean, fit.sd
    off = {p: (mean[p] - value) / sd[p] for p, value in TRUTH.items()}
    assert max(map(abs, off.values())) < 4.5, off
    assert fit.num_halos == fit.num_calibrators and 130 < fit.num_halos <= CALIBRATORS


def test_beliefs_are_compared_with_the_error_of_their_own_parameter(field, prior, monkeypatch):
    """Each parameter is given an error of its own, which comes back beside its name.

    Names that came sorted out of compiled code gave the slope of one observable the error of another parameter.
    """
    from massmap_jax.relation import contradiction

    def by_place(best, coordinates):
        return np.diag((0.01 * np.arange(1, len(coordinates.free) + 1)) ** 2)

    monkeypatch.setattr(contradiction, "covariance_of", by_place)
    fit = fitted(field[0], prior, field[1])
    against = fit.diagnostics["against_beliefs"]
    assert against["name"] in ("alpha2", "alpha2_richness", "alpha2_y_sz")
    assert against["error"] == pytest.approx(0.01 * (1 + fit.free.index(against["name"])))


def test_an_observable_that_ends_abruptly_is_told(field, fit, prior):
    """A cut that nobody states; without one, or where it is stated, nothing is told."""
    assert "edges" not in fit.diagnostics
    catalogue, names = field[0], tuple(OBSERVABLES)
    richness = catalogue.observables.ln_value[:, 0]
    least = np.median(richness[np.isfinite(richness)])
    cut = CatalogueData(catalogue.subset(np.flatnonzero(~(richness < least))), prior)
    edges = _edges(cut, names, None)
    assert set(edges) == {"richness"} and edges["richness"]["least"] == pytest.approx(np.exp(least), rel=0.02)
    assert _edges(cut, names, mm.SelectedOn("richness", np.exp(least))) == {}
    note = replace(fit, diagnostics=fit.diagnostics | {"edges": edges}).notes[-1]
    assert "richness ends abruptly" in note and "--selected-on 'richness>...'" in note


def test_what_is_no_edge():
    """Of smooth distributions blurred by noise none of 600 is told to end; a cut at the median of many always is."""
    rng, told, cut = np.random.default_rng(1), 0, []
    for number in (50, 500, 20_000):
        for spread in (0.3, 1.0):
            for _ in range(100):
                true = rng.exponential(spread, number) if spread > 0.5 else rng.normal(0, spread, number)
                sigma = rng.uniform(0.1, 0.3, number)
                value = true + sigma * rng.normal(size=number)
                told += number_at_edge(value, sigma) > 0
                above = value > np.median(value)
                cut.append(number < 20_000 or number_at_edge(value[above], sigma[above]) > 0)
    assert told == 0 and all(cut)


def test_masses_are_better_than_by_luminosity(fit, field, prior):
    catalogue, _, ln_mass = field
    draws = fit.draws.thinned(20)
    found = mm.mass_posterior(catalogue, prior, draws, relation_from="this_catalogue")
    has_lum = np.isfinite(catalogue.ln_lum_obs)
    by_lum = mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation(**law()))
    assert np.isfinite(found.mean).sum() > np.isfinite(by_lum.mean).sum() == has_lum.sum()
    assert np.median(found.sd[has_lum]) < 0.75 * np.median(by_lum.sd[has_lum])
    pull = (found.mean - ln_mass) / found.sd
    used = np.isfinite(pull)
    # The mean of 490 pulls has an error of 0.045, and about as much again that all share.
    assert abs(pull[used].mean()) < 0.4 and 0.8 < pull[used].std() < 1.2


def test_a_measured_mass_counts_for_its_own_object(fit, field, prior):
    """Under one draw, against NumPy: luminosity, observables and measured mass in one normal population."""
    catalogue, masses, _ = field
    draw = fit.draws.draw(3)
    found = mm.mass_posterior(catalogue, prior, draw, calibration=masses)
    without = mm.mass_posterior(catalogue, prior, draw)
    has_mass = np.isfinite(masses.ln_mass)
    np.testing.assert_allclose(found.mean[~has_mass], without.mean[~has_mass], atol=1e-4)
    both = has_mass & np.isfinite(without.sd)
    assert (found.sd[both] < without.sd[both]).all()
    given, t = catalogue.observables, np.linspace(30.0, 36.0, 6001)
    values = draw.population.values
    ln_population = norm(float(values["centre"]), float(values["width"])).logpdf(t)
    laws = (draw, *draw.laws)
    scatter = np.array([float(r.scatter) for r in laws] + [float(draw.measured["mass_scatter"])])
    matrix = np.eye(4)
    matrix[:3, :3] = draw.scatter_correlation
    for row in np.flatnonzero(has_mass)[:40]:
        sigma = np.nan_to_num([catalogue.sigma_ln_lum[row], *given.sigma[row], masses.sigma[row]], nan=1.0)
        kinds = np.array([np.isfinite(catalogue.ln_lum_obs[row]), *given.kind[row], 1], int)
        y = np.array([catalogue.ln_lum_obs[row], *given.ln_value[row], masses.ln_mass[row]])
        at_pivot = [float(r.mean_ln_lum(33.0, catalogue.redshift[row])) for r in laws] + [33.0]
        covariance = matrix * np.outer(scatter, scatter) + np.diag(sigma**2)
        slope = [float(r.alpha2) for r in laws] + [1.0]
        ln_like = reference.ln_density(t, y, kinds, at_pivot, slope, covariance, 33.0)
        mean, sd, _ = reference.moments(t, ln_population, ln_like)
        assert abs(found.mean[row] - mean) < 2e-3 * sd and abs(found.sd[row] / sd - 1) < 2e-3, row
    lost = has_mass & ~np.isfinite(catalogue.ln_lum_obs) & (given.kind == 0).all(axis=1)
    assert np.isfinite(found.mean[has_mass]).all() and not np.isfinite(without.mean[lost]).any()
    with pytest.raises(MassmapError, match="calibration="):
        mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation(**law()), calibration=masses)
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=20.0)
    image = mm.mass_map(jax.random.key(0), catalogue, prior, draw, grid, num_draws=200, calibration=masses)
    error = image.total_draws.std() / np.sqrt(200)
    assert abs(image.total_draws.mean() - np.nansum(found.mean_mass)) < 5 * error


def test_saved_loaded_and_taken_apart(fit, tmp_path, field, prior):
    path = tmp_path / "fit.npz"
    fit.save(path)
    back = mm.JointPosterior.load(path)
    assert back.summary() == fit.summary() and "alpha2_richness" in fit.summary()
    for one, two in zip(jax.tree.leaves(fit.draws), jax.tree.leaves(back.draws), strict=True):
        np.testing.assert_array_equal(one, two)
    table = fit.to_table()
    assert {"alpha1_y_sz", "scatter_richness", "correlation_y_sz", "partial_richness_y_sz"} <= set(table)
    one = fit.draws.draw(7)
    assert float(one.laws[1].alpha2) == table["alpha2_y_sz"][7]
    assert one.scatter_correlation[0, 2] == pytest.approx(table["correlation_y_sz"][7], abs=1e-12)
    with pytest.raises(MassmapError, match="no such observables"):
        mm.mass_posterior(
            mm.HaloCatalogue.from_arrays(luminosity=[1.0], redshift=[0.2], sigma_ln_luminosity=0.05), prior, fit.draws,
            relation_from="fixed_draws",
        )  # fmt: skip


# -- the likelihood ----------------------------------------------------------------------------------------------------


def test_likelihood_is_that_of_an_integral(field, prior):
    """Objects with every kind of entry, with and without a measured mass and a selection, against NumPy."""
    catalogue, masses, _ = field
    given = catalogue.observables
    kind, ln_value = given.kind.copy(), given.ln_value.copy()
    both = np.flatnonzero((kind == 1).all(axis=1))
    kind[both[:40], 0], kind[both[40:80], 1] = 2, 3
    from dataclasses import replace

    catalogue = replace(catalogue, observables=replace(given, kind=kind)).seen_by(given.names)
    selection = mm.SelectedOn("richness", 15.0, 0.2)
    # Linear in ln richness between three values, and in z: from 0.8 of it at z = 0 to all of it at z = 1.
    at, share = np.log([8.0, 15.0, 40.0]), np.array([0.1, 0.4, 1.0])
    table = mm.SelectedOn("richness", mm.TabulatedSelection([0.0, 1.0], at, np.outer([0.8, 1.0], share)))
    values = TRUTH | {"population_centre": 33.0, "population_width": 0.4, "bias": 0.05, "mass_scatter": 0.12}
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, prior)
        has_mass = np.isfinite(masses.ln_mass[data.rows])
        measured = masses.beliefs | {"correlation": 0.3}
        joint = JointPrior.of(LUMINOSITY, measured, POPULATION, (33.0, 0.4), data.prior, None, OBSERVABLES,
                              beliefs_about(tuple(OBSERVABLES), 2.0))  # fmt: skip
        relation = joint.relation(values | {"correlation": 0.3})
        found = {
            name: np.asarray(likelihood_of(data, masses, has_mass, np.ones_like(has_mass), s, 0.1).ln_z(relation))
            for name, s in {"none": None, "threshold": selection, "table": table}.items()
        }
    order = np.concatenate([np.flatnonzero(has_mass), np.flatnonzero(~has_mass)])
    t = np.linspace(31.0, 35.0, 4001)
    ln_population = norm(33.0, 0.4).logpdf(t)
    scatter = np.array([law(n)["scatter"] for n in ("", "richness", "y_sz")] + [0.12])
    slope = np.array([law(n)["alpha2"] for n in ("", "richness", "y_sz")] + [1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = SCATTERS
    matrix[3, :3] = matrix[:3, 3] = 0.3 * SCATTERS[0]  # independent of the others at fixed luminosity
    for place in range(0, order.size, 7):
        row = data.rows[order[place]]
        z = catalogue.redshift[row]
        sigma = np.array([catalogue.sigma_ln_lum[row], *given.sigma[row], masses.sigma[row]])
        with_mass = has_mass[order[place]]
        kinds = np.array([np.isfinite(catalogue.ln_lum_obs[row]), *kind[row], with_mass], int)
        y = np.array([catalogue.ln_lum_obs[row], *ln_value[row], masses.ln_mass[row]])
        sigma = np.where(kinds > 0, sigma, 1.0)
        at_pivot = [law(n)["alpha1"] + law(n)["alpha4"] * np.log1p(z) for n in ("", "richness", "y_sz")]
        covariance = matrix * np.outer(scatter, scatter) + np.diag(sigma**2)
        ln_like = reference.ln_density(t, y, kinds, [*at_pivot, np.log(ALPHA3) + 0.05], slope, covariance,
                                       np.log(ALPHA3))  # fmt: skip
        expected = reference.moments(t, ln_population, ln_like)[2]
        assert found["none"][place] == pytest.approx(expected, abs=1e-3), (row, kinds)
        spread = np.sqrt(0.2**2 + 0.3**2 + sigma[1] ** 2)
        mean = at_pivot[1] + slope[1] * (t - np.log(ALPHA3))
        ln_a = np.log(np.trapezoid(np.exp(ln_population) * norm.cdf((mean - np.log(15.0)) / spread), t))
        assert found["threshold"][place] == pytest.approx(expected - ln_a, abs=2e-3), (row, kinds)
        u, w = np.polynomial.hermite_e.hermegauss(80)
        own = mean[:, None] + np.hypot(0.3, sigma[1]) * u
        complete = (0.8 + 0.2 * z) * np.interp(own, at, share) @ (w / w.sum())
        ln_a = np.log(np.trapezoid(np.exp(ln_population) * complete, t))
        assert found["table"][place] == pytest.approx(expected - ln_a, abs=2e-3), (row, kinds)


def largest_array(jaxpr):
    """Number of entries of the largest array that a computation holds, in its parts too."""
    sizes = [math.prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars]
    inner = [
        p for e in jaxpr.eqns for value in e.params.values() for p in (value if isinstance(value, tuple) else [value])
    ]
    return max(
        sizes + [largest_array(getattr(p, "jaxpr", p)) for p in inner if hasattr(getattr(p, "jaxpr", p), "eqns")]
    )


def test_a_completeness_is_integrated_for_few_objects_at_a_time(field, prior, monkeypatch):
    """2,000 objects beside a table of 33 x 111 took 29 GB; the twin takes all of them at the same time."""
    catalogue, masses, _ = field
    ln_lum = np.linspace(-5.0, 6.0, 111)
    table = mm.TabulatedSelection([0.0, 1.0], ln_lum, np.tile(np.linspace(0.01, 1.0, 111), (2, 1)))
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, prior)
        has_mass = np.isfinite(masses.ln_mass[data.rows])
        joint = JointPrior.of(LUMINOSITY, masses.beliefs, POPULATION, (33.0, 0.4), data.prior, None, OBSERVABLES,
                              beliefs_about(tuple(OBSERVABLES), 2.0))  # fmt: skip
        relation = joint.relation(TRUTH | {"population_centre": 33.0, "population_width": 0.4, "mass_scatter": 0.1})
        likelihood = likelihood_of(data, masses, has_mass, np.ones_like(has_mass), table, 0.1)
        few, all_of_them = [], []
        for block, found in ((_BLOCK_OF_TABLE, few), (NUMBER, all_of_them)):
            monkeypatch.setattr("massmap_jax.relation.joint._BLOCK_OF_TABLE", block)
            found.append(largest_array(jax.make_jaxpr(lambda r: type(likelihood).ln_z(likelihood, r))(relation).jaxpr))
    assert few[0] < all_of_them[0] / 4


@pytest.mark.parametrize("on", ["luminosity", "richness"])
def test_the_sum_of_ln_a_rests_on_few_redshifts_and_errors(field, prior, on):
    """Beside A of each object: 500 of them, of which those without a mass stand for 2.5."""
    catalogue, masses, _ = field
    ln_value = np.linspace(-1.0, 5.0, 13)
    chance = 0.02 + 0.98 * norm.cdf((ln_value[None] - np.array([[0.5], [2.5], [3.0]])) / 0.5)
    selection = table = mm.TabulatedSelection([0.1, 0.5, 0.9], ln_value, chance)
    if on == "richness":
        selection = mm.SelectedOn("richness", table)
    with jax.enable_x64(True):
        data = CatalogueData(catalogue.seen_by(tuple(OBSERVABLES)), prior)
        has_mass = np.isfinite(masses.ln_mass[data.rows])
        joint = JointPrior.of(LUMINOSITY, masses.beliefs, POPULATION, (33.0, 0.4), data.prior, None, OBSERVABLES,
                              beliefs_about(tuple(OBSERVABLES), 2.0))  # fmt: skip
        there = np.isfinite(catalogue.ln_lum_obs[data.rows]) | (on == "richness")
        likelihood = likelihood_of(data, masses, has_mass, there, selection, 0.2, 2.5)
        has_mass = has_mass[there]
        assert np.sum(likelihood.chances.weight != 0) < 0.6 * has_mass.size
        assert likelihood.chances.weight.sum() == pytest.approx(has_mass.sum() + 2.5 * (~has_mass).sum())
        each = type(likelihood).ln_z
        off, ln_l = [], []
        for key in range(4):
            rng = np.random.default_rng(key)
            values = {p: v + 0.05 * rng.normal() for p, v in TRUTH.items()}
            values |= {"population_centre": 33.0 + 0.1 * rng.normal(), "population_width": 0.4, "mass_scatter": 0.1}
            relation = joint.relation(values)
            exact = float((likelihood.weight * np.asarray(each(likelihood, relation))).sum() + likelihood.constant)
            off.append(float(likelihood(relation)) - exact)
            ln_l.append(exact)
    print(on, off, np.ptp(ln_l))
    assert np.abs(off).max() < 0.1 and np.ptp(off) < 1e-3 * np.ptp(ln_l)


def test_correlations():
    """Whatever the partial correlations are, the matrix is a correlation; and back."""
    names = ("a", "b", "c")
    known = pairs(names)
    assert set(known) == {
        "correlation_a", "correlation_b", "correlation_c", "partial_a_b", "partial_a_c", "partial_b_c",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(-0.95, 0.95, 200) for name in known}
    with jax.enable_x64(True):
        matrix = np.asarray(matrix_of(values, names))
    assert (np.linalg.eigvalsh(matrix) > 0).all()
    np.testing.assert_allclose(matrix[:, 0, 1:], np.stack([values[f"correlation_{n}"] for n in names], axis=1))
    # A partial correlation from the inverse of the part of the matrix that holds the pair and what is held fixed.
    for name, index in {"partial_a_b": [0, 1, 2], "partial_b_c": [0, 1, 2, 3]}.items():
        inverse = np.linalg.inv(matrix[:, index][:, :, index])
        found = -inverse[:, -1, -2] / np.sqrt(inverse[:, -1, -1] * inverse[:, -2, -2])
        np.testing.assert_allclose(found, values[name], atol=1e-9)


def test_belief_about_correlations_is_lkj():
    """The density of the matrix goes as det^(shape - 1), as of numpyro's LKJ."""
    names, shape = ("a", "b"), 2.5
    beliefs = beliefs_about(names, shape)
    rng = np.random.default_rng(1)
    values = {name: rng.uniform(-0.9, 0.9, 30) for name in pairs(names)}
    with jax.enable_x64(True):
        ours = sum(np.asarray(beliefs[p].log_prob(v)) for p, v in values.items())
        matrix = np.asarray(matrix_of(values, names))
        theirs = np.array([float(dist.LKJ(3, shape).log_prob(m)) for m in matrix])
    # Of (r01, r02, r12|0) to (r01, r02, r12): the Jacobian is sqrt((1 - r01^2)(1 - r02^2)).
    jacobian = 0.5 * np.log((1 - values["correlation_a"] ** 2) * (1 - values["correlation_b"] ** 2))
    np.testing.assert_allclose(ours, theirs + jacobian, atol=1e-6)
    belief = PartialCorrelation(2.0)
    draws = np.asarray(belief.sample(jax.random.key(0), (20_000,)))
    assert abs(draws.var() / float(belief.variance) - 1) < 0.06 and abs(draws.mean()) < 0.02


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"observables": {"colour": LUMINOSITY}}, "no observable colour"),
        ({"observables": {"richness": "unknown"}}, "preset"),
        ({"scatter_correlation": 0.0}, "LKJ"),
        ({"scatter_correlation": {"correlation_colour": 0.3}}, "no correlation correlation_colour"),
        ({"scatter_correlation": {"correlation_richness": 1.0}}, "between -1 and 1"),
        ({"selection": mm.SelectedOn("colour", 3.0)}, "colour, which is not fitted"),
        ({"selection": mm.SelectedOn("richness", 15.0)}, "objects have none"),
        ({"observables": None, "selection": mm.SelectedOn("richness", 15.0)}, "give its relation"),
    ],
)
def test_refused(field, prior, options, match):
    with pytest.raises(MassmapError, match=match):
        fitted(field[0], prior, field[1], **options)


@pytest.mark.parametrize(("threshold", "width"), [(0.0, 0.1), (np.nan, 0.1), (3.0, 0.0)])
def test_selections_that_are_none(threshold, width):
    with pytest.raises(MassmapError, match="positive number"):
        mm.SelectedOn("richness", threshold, width)


@pytest.mark.parametrize("given", [(30.0, 0.01), (COMPLETENESS,)])
def test_objects_that_the_selection_excludes(field, prior, given):
    catalogue, masses, _ = field
    kept = np.flatnonzero(catalogue.observables.kind[:, 0] == 1)
    measured = mm.CalibrationMasses.from_arrays(mass=np.exp(masses.ln_mass[kept]), sigma_ln_mass=0.2)
    with pytest.raises(MassmapError, match="no chance to be in the catalogue, first row"):
        fitted(catalogue.subset(kept), prior, measured, selection=mm.SelectedOn("richness", *given))


def test_a_catalogue_without_observables(field, prior):
    plain = mm.HaloCatalogue.from_arrays(luminosity=[1.0, 2.0], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05)
    with pytest.raises(MassmapError, match="with_observables"):
        mm.fit_relation(plain, prior, LUMINOSITY, observables=OBSERVABLES)
