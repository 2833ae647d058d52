"""The fit with measured masses: it finds the truth, its likelihood is that of NumPy, and it refuses what it cannot know.

Its calibration is tested in tests/statistical/test_joint_sbc.py.
"""

import warnings
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.calibrators import calibrators_check
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.compress import with_ratio
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.joint_fit import _spread, beliefs_asked, likelihood_of, prepare
from massmap_jax.relation.joint_posterior import JointPosterior
from massmap_jax.relation.selected_on import SelectedOnMass

TRUTH = {"alpha1": 1.0, "alpha2": 0.8, "alpha4": 1.0, "scatter": 0.3, "bias": 0.1, "population_width": 0.4}
ALPHA3, NUMBER, CALIBRATORS = 3e14, 600, 120
BELIEFS = RelationPrior.parse("alpha1=0:3,alpha2=1:0.5,alpha4=0:2,scatter=0.3:0.3,alpha3=3e14")
POPULATION = Population.gaussian()
ln_z_of = jax.jit(lambda likelihood, relation: likelihood.ln_z(relation))


def simulated(seed=0):
    """A catalogue with a normal population that drifts with redshift, and measured masses of some objects."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 0.8, NUMBER)
    ln_mass = 32.8 + 0.4 * np.log(z / 0.4) + TRUTH["population_width"] * rng.normal(size=NUMBER)
    ln_lum = TRUTH["alpha1"] + TRUTH["alpha2"] * (ln_mass - np.log(ALPHA3)) + np.log1p(z)
    ln_lum += np.hypot(TRUTH["scatter"], 0.1) * rng.normal(size=NUMBER)
    ln_obs = ln_mass + TRUTH["bias"] + np.hypot(0.1, 0.2) * rng.normal(size=NUMBER)
    ln_obs[rng.permutation(NUMBER)[CALIBRATORS:]] = np.nan
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
    return catalogue, np.exp(ln_obs), ln_mass


def masses_of(mass, **changes):
    given = {"sigma_ln_mass": 0.2, "bias": "0.1:0.05", "scatter": "0.1:0.03"} | changes
    return CalibrationMasses.from_arrays(mass=mass, **given)


def fitted(catalogue, masses, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior = options.pop("prior", None) or MassPrior.default()
        options = {"population": POPULATION, "num_draws": 400} | options
        return fit_relation(catalogue, prior, BELIEFS, calibration=masses, **options)


@pytest.fixture(scope="module")
def field():
    return simulated()


@pytest.fixture(scope="module")
def fit(field):
    return fitted(field[0], masses_of(field[1]))


def test_finds_the_truth(fit):
    mean, sd = fit.mean, fit.sd
    off = {p: (mean[p] - value) / sd[p] for p, value in TRUTH.items()}
    assert max(map(abs, off.values())) < 4.5, off
    assert fit.num_calibrators == CALIBRATORS == fit.num_halos  # random calibrators are fitted alone
    assert fit.informed["alpha2"] > 0.9 and abs(fit.informed["bias"]) < 0.3
    # The bias is known to 0.05, and the normalisation no better than that.
    assert 0.045 < fit.shared_error < 0.1


def test_check_of_the_calibrators(field, fit):
    catalogue, mass, _ = field
    check = calibrators_check(fit, catalogue, MassPrior.default(), masses_of(mass))
    assert check.p_value > 1e-4 and check.rows.size == CALIBRATORS
    assert check.pit.shape == (3, CALIBRATORS) and (check.pareto_k < 0.7).mean() > 0.95
    wrong = fitted(catalogue, masses_of(mass), population=Population.fixed())
    other = calibrators_check(wrong, catalogue, MassPrior.default(), masses_of(mass))
    assert other.p_value < 1e-6 and other.score < check.score and "does not predict" in other.summary()


def test_saved_and_loaded(fit, tmp_path):
    path = tmp_path / "fit.npz"
    fit.save(path)
    back = JointPosterior.load(path)
    assert back.summary() == fit.summary()
    for one, two in zip(jax.tree.leaves(fit.draws), jax.tree.leaves(back.draws), strict=True):
        np.testing.assert_array_equal(one, two)
    assert JointPosterior.is_saved(path) and back.draws.population.base == fit.draws.population.base


def test_a_posterior_that_is_not_normal_is_told(fit):
    off = fit.diagnostics["off_normal"]
    assert set(off["shift"]) == set(fit.free) and abs(off["shift"]["alpha2"]) < 0.3
    assert not any("far from the normal" in note for note in fit.notes)
    # As it is where better draws could not be had.
    normal = {p: value for p, value in fit.diagnostics.items() if p not in ("pareto_k", "ess")}
    wrong = normal | {"off_normal": {"pareto_k": 0.9, "shift": off["shift"] | {"alpha2": -0.8}}}
    told = replace(fit, diagnostics=wrong).notes
    assert any("alpha2 is off by about 0.8" in note and "method='nuts'" in note for note in told)
    # A normal that is far too wide need not be off: hardly a draw of it counts.
    wide = normal | {"off_normal": off | {"share": 0.1}}
    assert any("of 100 draws 10 count" in n for n in replace(fit, diagnostics=wide).notes)


def test_a_slope_that_may_be_0_is_told(fit):
    """With masses in the wrong unit and narrow beliefs a fit may flatten, and every mass is that of the population."""
    assert not any("hardly tells the mass" in note for note in fit.notes)
    flat = np.asarray(fit.draws.alpha2) - fit.mean["alpha2"] + fit.sd["alpha2"]
    told = eqx.tree_at(lambda f: f.draws.alpha2, fit, flat).notes
    assert any(note.startswith("the slope alpha2 = ") and "may be 0" in note for note in told)


def test_weights_find_a_wrong_normal():
    """A normal of half the width about a place half an sd away is told from the right one."""
    from massmap_jax.relation.coordinates import Coordinates
    from massmap_jax.relation.search import Maximum, off_normal

    beliefs = RelationPrior.parse("alpha1=0:1,alpha2=1:0.3,alpha4=0,scatter=0.2,alpha3=1e14")
    with jax.enable_x64(True):
        coordinates = Coordinates.at(beliefs, np.log(1e14), 0.0)
        normals = np.random.default_rng(0).normal(size=(400, 2))
        for place, width, limit in ((0.0, 1.0, 0.1), (0.5, 1.0, None)):
            centre, sd = np.array([place, 1.0]), width * np.array([1.0, 0.3])
            at = Maximum(centre, 0.0, np.diag(sd**-2), 0.0, 0, True)
            found = off_normal(coordinates, _Flat(), at, np.diag(sd**2), centre + sd * normals)["shift"]["alpha1"]
            assert abs(found) < limit if limit else -0.65 < found < -0.35


class _Flat(eqx.Module):
    """A likelihood that says nothing."""

    def __call__(self, relation):
        return 0.0 * relation.alpha1


def test_columns_and_pairs(fit):
    table = fit.to_table()
    assert {"bias", "mass_scatter", "correlation", "population_centre", "population_width"} <= set(table)
    one = fit.draws.draw(7)
    assert float(one.population.values["centre"]) == table["population_centre"][7]
    assert float(one.alpha1) == table["alpha1"][7]


@pytest.mark.slow
def test_nuts_agrees_with_laplace(field, fit):
    found = fitted(field[0], masses_of(field[1]), method="nuts", num_draws=1600, num_warmup=200)
    for p in fit.free:
        assert abs(found.mean[p] - fit.mean[p]) < 0.4 * fit.sd[p], p
        assert 0.7 < found.sd[p] / fit.sd[p] < 1.45, p
    assert max(found.diagnostics["r_hat"].values()) < 1.05


def test_likelihood_is_that_of_an_integral(field):
    """One object under one relation, against SciPy's quadrature of normal densities."""
    from massmap_jax.relation.data import CatalogueData
    from massmap_jax.relation.joint import JointPrior
    from massmap_jax.relation.joint_fit import likelihood_of

    catalogue, mass, _ = field
    calibration = masses_of(mass, correlation=0.4, scatter_correlation=0.3)
    values = TRUTH | {"mass_scatter": 0.12, "population_centre": 32.7, "population_drift_ln_z": 0.4,
                      "population_drift_ln_1z": -0.2}  # fmt: skip
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, MassPrior.default())
        has_mass = np.isfinite(calibration.ln_mass[data.rows])
        chosen = np.ones_like(has_mass)
        likelihood = likelihood_of(data, calibration, has_mass, chosen, None, 0.1)
        joint = JointPrior.of(BELIEFS, calibration.beliefs, POPULATION, (32.7, 0.4), data.prior)
        relation = joint.relation(values)
        found = np.asarray(ln_z_of(likelihood, relation))[: chosen.sum()]
    first = [int(np.argmax(has_mass)), int(np.argmax(~has_mass))]
    for row, place in zip(first, [0, int(has_mass.sum())], strict=True):
        z, y, m = catalogue.redshift[row], catalogue.ln_lum_obs[row], calibration.ln_mass[row]
        centre = 32.7 + 0.4 * np.log(z / 0.4) - 0.2 * np.log((1 + z) / 1.4)
        c12 = 0.3 * 0.3 * 0.12 + 0.4 * 0.1 * 0.2
        cov = [[0.3**2 + 0.1**2, c12], [c12, 0.12**2 + 0.2**2]]

        def density(t, z=z, y=y, m=m, centre=centre, cov=cov, row=row):
            mean_y = 1.0 + 0.8 * (t - np.log(ALPHA3)) + np.log1p(z)
            both = multivariate_normal([mean_y, t + 0.1], cov).pdf([y, m]) if has_mass[row] else norm(
                mean_y, np.sqrt(cov[0][0])).pdf(y)  # fmt: skip
            return norm(centre, 0.4).pdf(t) * both

        expected = np.log(quad(density, centre - 4, centre + 4, points=[centre], limit=200)[0])
        assert found[place] == pytest.approx(expected, abs=1e-3)


def test_points_stand_for_many_objects():
    """Changes of ln L with the relation are those of the 20,000 objects themselves, to 5e-4.

    With the ratio of redshifts in a box left free, the twin, drifts with ln z at low redshift are not followed.
    """
    rng, number = np.random.default_rng(4), 20_000
    z, sigma = np.exp(rng.uniform(np.log(0.01), np.log(0.8), number)), rng.uniform(0.05, 0.2, number)
    ln_mass = 32.3 + 0.8 * np.log(z / 0.4) + 0.4 * rng.normal(size=number)
    ln_lum = 1 + 0.8 * (ln_mass - np.log(ALPHA3)) + np.log1p(z) + np.hypot(0.3, sigma) * rng.normal(size=number)
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma)
    masses = masses_of(np.where(np.arange(number) < 50, np.exp(ln_mass), np.nan), chosen_by="luminosity")
    steps = rng.normal(size=(8, 5)) * np.array([0.002, 0.002, 0.002, 0.002, 0.005])
    with jax.enable_x64(True):
        asked = catalogue, MassPrior.default(), BELIEFS, masses, POPULATION, {}, {}, None, "laplace"
        data, has_mass, chosen, joint_prior, _ = prepare(*asked)
        true = joint_prior.central() | TRUTH | {"population_centre": 32.3, "population_width": 0.4}
        true |= {"population_drift_ln_z": 0.8}
        names = ("alpha1", "alpha2", "population_centre", "population_drift_ln_z", "population_drift_ln_1z")
        relations = [
            joint_prior.relation(true | {n: true[n] + v for n, v in zip(names, d, strict=True)}) for d in steps
        ]

        def spread(ratio):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("massmap_jax.relation.joint_fit._RATIO_IN_BOX", ratio)
                points = likelihood_of(data, masses, has_mass, chosen, None, 0.2)
            assert (points.weight != 0).sum() < 0.6 * number
            return np.ptp([float(total_of(points, r)) - float(total_of(every, r)) for r in relations])

        every = likelihood_of(data, masses, has_mass, chosen, None, None)
        total_of = jax.jit(lambda likelihood, relation: likelihood(relation))
        change = np.ptp([float(total_of(every, r)) for r in relations])
        assert spread(1.5) < 5e-4 * change and spread(1e9) > 5e-3 * change


def test_a_part_has_the_mean_and_width_of_all_luminosities_at_any_redshift():
    """To a third of the random error of a part of its size; a random part, the twin, has that error."""
    rng, number = np.random.default_rng(5), 50_000
    z, sigma = rng.uniform(0.1, 0.8, number), rng.uniform(0.05, 0.2, number)
    ln_lum = 2 * z + np.hypot(0.3, sigma) * rng.normal(size=number)
    part = _spread(ln_lum, sigma, z, 1000)
    assert 950 < part.size <= 1000 and np.unique(part).size == part.size

    def off(part):
        rest = ln_lum - 2 * z
        moments = np.stack([rest, rest**2, rest * (z - 0.45), rest * (sigma - 0.125)])
        off = (moments[:, part].mean(axis=1) - moments.mean(axis=1)) / moments.std(axis=1) * np.sqrt(part.size)
        return np.sqrt(np.mean(off**2))

    assert off(part) < 0.4
    random = np.array([off(rng.choice(number, part.size, replace=False)) for _ in range(100)])
    assert (random > 0.4).mean() > 0.8


@pytest.mark.parametrize("edges", [[0.0, 0.5], [0.0, 0.2, 0.4, 4.0], [0.3, 0.4]])
def test_ends_of_boxes_hold_every_redshift(edges):
    edges = np.array(edges)
    for lowest in (0.0, 1e-4, 0.01, edges[-1]):
        found = with_ratio(edges, lowest, 1.5)
        assert (np.diff(found) > 0).all() and set(edges[edges > lowest]) <= set(found)
        assert found[0] <= max(lowest, edges[0]) and found[-1] == edges[-1]
        assert lowest < 1e-3 or found[np.searchsorted(found, lowest) - 1] > 0.5 * lowest
        above = found[found >= max(lowest, 1e-3, edges[0])]
        assert (above[1:] / above[:-1] < 1.5 + 1e-9).all()


def test_with_luminosity_chosen_calibrators_all_objects_are_fitted(field):
    catalogue, mass, _ = field
    bright = np.where(catalogue.ln_lum_obs > np.median(catalogue.ln_lum_obs), mass, np.nan)
    found = fitted(catalogue, masses_of(bright, chosen_by="luminosity"))
    assert found.num_halos == NUMBER and found.num_calibrators < CALIBRATORS
    assert abs(found.mean["alpha1"] - 1.0) < 4.5 * found.sd["alpha1"]
    assert abs(found.mean["alpha2"] - 0.8) < 4.5 * found.sd["alpha2"]
    check = calibrators_check(found, catalogue, MassPrior.default(), masses_of(bright, chosen_by="luminosity"))
    assert check.p_value > 1e-4 and "chosen by their luminosity" in check.left_out


def test_a_luminosity_limit_goes_with_a_population(field):
    catalogue, mass, _ = field
    limit = float(np.exp(np.quantile(catalogue.ln_lum_obs, 0.4)))
    kept = np.exp(catalogue.ln_lum_obs) > limit
    part = HaloCatalogue.from_arrays(
        luminosity=np.exp(catalogue.ln_lum_obs[kept]), redshift=catalogue.redshift[kept], sigma_ln_luminosity=0.1
    )
    masses = masses_of(mass[kept], chosen_by="luminosity")
    found = fitted(part, masses, selection=FluxLimit(limit))
    for p in ("alpha1", "alpha2", "scatter"):
        assert abs(found.mean[p] - TRUTH[p]) < 4.5 * found.sd[p], p
    check = calibrators_check(found, part, MassPrior.default(), masses)
    assert check.p_value > 1e-4 and "and the catalogue was selected (luminosity limit" in check.left_out


def test_masses_measured_below_the_lowest_mass():
    """A complete sample of all halos above a mass: its lowest ones are measured below it as often as above."""
    from massmap_jax.relation.data import CatalogueData
    from massmap_jax.relation.joint import JointPrior
    from massmap_jax.relation.joint_fit import likelihood_of

    rng = np.random.default_rng(3)
    ln_mass, z = np.log(1e13) + rng.exponential(1.0, NUMBER), rng.uniform(0.1, 0.8, NUMBER)
    nodes = np.linspace(np.log(1e13), np.log(1e13) + 12, 601)
    table = np.broadcast_to(np.exp(nodes[0] - nodes), (2, 601))
    prior = MassPrior.from_table([0.0, 1.0], np.exp(nodes), table, per="ln_mass", support="sharp")
    ln_lum = 1.0 + 0.8 * (ln_mass - np.log(ALPHA3)) + np.log1p(z) + np.hypot(0.3, 0.1) * rng.normal(size=NUMBER)
    ln_obs = ln_mass + np.hypot(0.1, 0.2) * rng.normal(size=NUMBER)
    ln_obs[CALIBRATORS:] = np.nan
    assert (ln_obs < nodes[0]).sum() > 5
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
    masses = masses_of(np.exp(ln_obs), bias=0.0, scatter=0.1)
    found = fitted(catalogue, masses, prior=prior, population="hmf_completeness")
    for p in ("alpha1", "alpha2", "alpha4", "scatter"):
        assert abs(found.mean[p] - TRUTH[p]) < 4.5 * found.sd[p], p
    # The likelihood of the lowest of them is the integral over masses above the prior's lowest one.
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, prior)
        has_mass = np.isfinite(masses.ln_mass[data.rows])
        likelihood = likelihood_of(data, masses, has_mass, has_mass, None, 0.1)
        joint = JointPrior.of(BELIEFS, masses.beliefs, Population.fixed(), (32.7, 0.4), prior)
        relation = joint.relation(TRUTH | {"bias": 0.0, "mass_scatter": 0.1, "correlation": 0})
        ln_z = np.asarray(ln_z_of(likelihood, relation))
    row = int(np.nanargmin(ln_obs))
    t = np.linspace(nodes[0], nodes[0] + 6, 200_001)
    mean = 1.0 + 0.8 * (t - np.log(ALPHA3)) + np.log1p(z[row])
    density = np.exp(nodes[0] - t) * norm(mean, np.hypot(0.3, 0.1)).pdf(ln_lum[row])
    expected = np.log(np.trapezoid(density * norm(t, np.hypot(0.1, 0.2)).pdf(ln_obs[row]), t))
    assert ln_z[row] == pytest.approx(expected, abs=2e-3)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_free_population_needs_masses(field):
    with pytest.raises(MassmapError, match="only where some masses were measured"):
        fitted(field[0], None)


@pytest.mark.parametrize(("number", "match"), [(5, "needs at least 10"), (20, "use method='nuts'"), (0, "all of them")])
def test_too_few_calibrators(field, number, match):
    mass = np.array(field[1])
    mass[np.flatnonzero(np.isfinite(mass))[number:]] = np.nan
    with pytest.raises(MassmapError, match=match):
        fitted(field[0], masses_of(mass))


def test_chosen_by_mass_needs_its_selection(field):
    with pytest.raises(MassmapError, match="SelectedOnMass"):
        fitted(field[0], masses_of(field[1], chosen_by="mass"))


def test_another_definition_of_mass(field):
    with pytest.raises(MassmapError, match="500c"):
        fitted(field[0], masses_of(field[1], mass_definition="500c"))


def test_masses_outside_the_prior(field):
    with pytest.raises(MassmapError, match="outside the mass prior"):
        fitted(field[0], masses_of(field[1] * 1e6))


def test_a_column_of_another_length(field):
    with pytest.raises(MassmapError, match="given for 10 objects"):
        fitted(field[0], masses_of(field[1][np.isfinite(field[1])][:10]))


def test_calibrators_that_cannot_be_used(field):
    catalogue, mass, _ = field
    lum = np.where(np.isfinite(mass), np.nan, np.exp(catalogue.ln_lum_obs))
    blank = HaloCatalogue.from_arrays(luminosity=lum, redshift=catalogue.redshift, sigma_ln_luminosity=0.1)
    with pytest.raises(MassmapError, match="none of the 120 objects"):
        fitted(blank, masses_of(mass))


GOOD = np.full(30, 3e14)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"are": "posteriors"}, "a prior is already in them"),
        ({"are": "guesses"}, "not known"),
        ({"chosen_by": "hand"}, "chosen by 'hand'"),
        ({"mass": np.full(30, np.nan)}, "all of them are missing"),
        ({"mass": np.r_[GOOD[:29], -1.0]}, "of 1 objects cannot be used, first row 29"),
        ({"mass": np.full(30, 14.5)}, "they have to be in Msun"),
        ({"mass": ["a"] * 30}, "not a column of numbers"),
        ({"mass": 3e14}, "one number for each object"),
        ({"sigma_ln_mass": 0.0}, "error of the calibration mass of 30 objects"),
        ({"sigma_ln_mass": np.ones(7)}, "have shapes"),
        ({"sigma_ln_mass": 40.0}, "it is in ln M"),
        ({"correlation": 1.0}, "between -1 and 1"),
        ({"scatter": -0.1}, "at least 0"),
        ({"scatter": "0.1:0"}, "no width"),
        ({"scatter_correlation": 1.0}, "both excluded"),
        ({"bias": "about 0"}, "cannot be read"),
        ({"bias": "0:1:2"}, "cannot be read"),
    ],
)
def test_bad_calibration_masses(change, match):
    with pytest.raises(MassmapError, match=match):
        CalibrationMasses.from_arrays(**({"mass": GOOD, "sigma_ln_mass": 0.2} | change))


def test_masked_masses_are_missing():
    mass = np.ma.masked_array(GOOD, mask=np.arange(30) > 3)
    assert CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=0.2).number == 4


@pytest.mark.parametrize(
    "given",
    [
        {"threshold": 14.5, "width": 0.1},
        {"threshold": 3e14, "width": 0.0},
        {"threshold": np.nan, "width": 0.1},
        {"threshold": 3e14, "evolution": np.inf},
        {"threshold": 3e14, "threshold_error": -0.1},
    ],
)
def test_bad_selection_on_mass(given):
    with pytest.raises(MassmapError):
        SelectedOnMass(**given)


def test_masses_below_the_threshold_are_refused(field):
    """A sharp threshold that objects are below of is not that of the catalogue; one with an error may be."""
    masses = masses_of(field[1], chosen_by="mass")
    with pytest.raises(MassmapError, match="no chance to be in the catalogue, first row"):
        fitted(field[0], masses, selection=SelectedOnMass(np.nanmedian(field[1])))


def test_masses_brought_to_another_definition():
    """Objects without a mass stay without one, and each error grows by the scatter of its own concentration."""
    masses = CalibrationMasses.from_arrays(
        mass=[5e14, np.nan, 1e14], sigma_ln_mass=0.1, correlation=0.5, mass_definition="500c", bias="0:0.1"
    )
    done = masses.in_definition("200m", [0.3, 0.3, 0.05])
    assert done.mass_definition == "200m" and done.number == 2 and done.beliefs is masses.beliefs
    assert (np.exp(done.ln_mass - masses.ln_mass)[[0, 2]] > 1.7).all() and np.isnan(done.ln_mass[1])
    assert (done.sigma[[0, 2]] > 0.14).all() and done.sigma[0] != done.sigma[2]
    np.testing.assert_allclose((done.correlation * done.sigma)[[0, 2]], 0.05)
    with pytest.raises(MassmapError, match="mass_definition="):
        CalibrationMasses.from_arrays(mass=[5e14], sigma_ln_mass=0.1).in_definition("200m", [0.3])
    with pytest.raises(MassmapError, match="'fof'"):
        masses.in_definition("fof", [0.3, 0.3, 0.3])


def test_a_population_by_its_name():
    asked = beliefs_asked(None, "mixture:3,drift=no", None, None, None)[2]
    assert asked == Population.mixture(3, drift=False)
    for other, match in (("gauss", "population 'gauss' is not known"), (3, "population is a int: give a form such as")):
        with pytest.raises(MassmapError, match=match):
            beliefs_asked(None, other, None, None, None)
