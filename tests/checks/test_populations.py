"""compare_populations: the true form wins where it differs, equal forms are not told apart, and the numbers are NumPy's.

Over six seeds, the difference of the true form to the wrong one was 3.3 to 6.6 of its errors.
"""

import equinox as eqx
import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm, skewnorm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.calibrators import calibrators_check, predicted_masses
from massmap_jax.checks.populations import PopulationComparison, compare_populations
from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.selected_on import SelectedOnMass

BELIEFS = RelationPrior.parse("alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14")
NUMBER, SIGMA, ALPHA3 = 500, 0.05, 3e14
SKEWED, NORMAL = "skew_normal,drift=no", "gaussian,drift=no"


def simulated(ln_mass, rng):
    """A catalogue of these masses, all of them measured; luminosities that say little about the mass."""
    ln_lum = 1 + 0.8 * (ln_mass - np.log(ALPHA3)) + 0.5 * rng.normal(size=NUMBER)
    measured = ln_mass + np.hypot(0.1, 0.1) * rng.normal(size=NUMBER)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum), redshift=rng.uniform(0.1, 0.6, NUMBER), sigma_ln_luminosity=SIGMA
    )
    return catalogue, CalibrationMasses.from_arrays(mass=np.exp(measured), sigma_ln_mass=0.1, scatter=0.1)


def compared(field, populations, **options):
    return compare_populations(field[0], MassPrior.default(), BELIEFS, field[1], populations, **options)


@pytest.fixture(scope="module")
def skewed():
    rng = np.random.default_rng(1)
    return simulated(32.2 + 0.8 * skewnorm.rvs(8, size=NUMBER, random_state=rng), rng)


@pytest.fixture(scope="module")
def found(skewed):
    return compared(skewed, [NORMAL, Population.skew_normal(drift=False)])


@pytest.fixture(scope="module")
def normals():
    """Three that differ by the belief about the width alone, so that one compilation serves them; the last is wrong."""
    rng = np.random.default_rng(0)
    field = simulated(32.2 + 0.6 * rng.normal(size=NUMBER), rng)
    # 500 objects outweigh the second belief, and not the third.
    of_width = {"other": dist.LogNormal(np.log(0.6), 0.5), "narrow": dist.LogNormal(np.log(0.3), 0.02)}
    others = {name: Population.gaussian(drift=False, beliefs={"width": belief}) for name, belief in of_width.items()}
    return compared(field, {"one": NORMAL} | others, splits=2)


def test_the_true_form_wins(found):
    assert found.populations == (SKEWED, NORMAL)
    assert -found.difference[1] > 3 * found.error[1] > 0 and list(found.worse) == [False, True]
    assert list(found.parameters) == [6, 5] and found.bad_k.max() < 10
    assert found.split_scores.shape == (2, 0) and "split_error" not in found.to_table()


def test_the_scores_are_those_of_the_check(skewed, found):
    check = calibrators_check(found.fits[1], skewed[0], MassPrior.default(), skewed[1])
    np.testing.assert_array_equal(check.log_density, found.log_density[1])
    np.testing.assert_array_equal(check.pareto_k, found.pareto_k[1])
    assert check.score == pytest.approx(found.elpd[1] / NUMBER)


def test_equal_populations_are_not_told_apart(normals):
    assert normals.populations[2] == "narrow" and list(normals.worse) == [False, False, True]
    assert abs(normals.difference[1]) < 1
    assert "not told from the best" in normals.summary()


def test_halves(normals):
    """Each half is predicted by a fit that has not seen it; the difference of one object is the same within errors."""
    assert normals.split_scores.shape == (3, 2) and normals.split_difference[2] < 0
    off = normals.split_difference - normals.difference / NUMBER
    assert (np.abs(off) < 4 * normals.split_error + 2 * normals.error / NUMBER)[1:].all()


def test_a_selection_on_the_measured_mass_is_known():
    """Of a normal population above a threshold: with the selection it is as good as a skewed one, without it far worse.

    Over six seeds, the difference was 0.1 to 1 with it, and 3.7 to 5.2 of its errors without, here 4.8.
    """
    rng, threshold, number = np.random.default_rng(1), 32.9, 250
    ln_mass = 32.6 + 0.6 * rng.normal(size=4 * number)
    ln_lum = 1 + 0.8 * (ln_mass - np.log(ALPHA3)) + 0.5 * rng.normal(size=ln_mass.size)
    measured = ln_mass + np.hypot(0.1, 0.1) * rng.normal(size=ln_mass.size)
    kept = np.flatnonzero(measured > threshold + 0.1 * rng.normal(size=ln_mass.size))[:number]
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum[kept]), redshift=rng.uniform(0.1, 0.6, number), sigma_ln_luminosity=SIGMA
    )
    masses, ignored = (
        CalibrationMasses.from_arrays(mass=np.exp(measured[kept]), sigma_ln_mass=0.1, scatter=0.1, chosen_by=by)
        for by in ("mass", "random")
    )
    right = compared((catalogue, masses), [NORMAL, SKEWED], selection=SelectedOnMass(np.exp(threshold), 0.1))
    assert not right.worse.any() and right.bad_k.max() < 10
    wrong = compared((catalogue, ignored), [NORMAL, SKEWED])
    assert wrong.populations == (SKEWED, NORMAL) and wrong.difference[1] < -3 * wrong.error[1]


def test_prediction_of_an_object_that_was_not_fitted(skewed, found):
    """Against the bivariate normal density of ln L and ln M_obs under each draw."""
    (catalogue, masses), fit = skewed, found.fits[1]
    rows = np.array([0, 7, 100])
    told = {
        w: predicted_masses(fit, catalogue, MassPrior.default(), masses, rows, w)[1] for w in ("nothing", "luminosity")
    }
    draws = fit.draws.thinned(200)
    joint, alone = np.empty((2, draws.num_draws, rows.size))
    for i in range(draws.num_draws):
        one, of = draws.draw(i), draws.population.values
        centre, var = float(of["centre"][i]), float(of["width"][i]) ** 2
        slope, bias = float(one.alpha2), float(one.measured["bias"])
        mean = [float(one.alpha1) + slope * (centre - np.log(ALPHA3)), centre + bias]
        cov = np.array([[slope**2 * var + float(one.scatter) ** 2 + SIGMA**2, slope * var], [0, var + 0.02]])
        cov[1, 0] = cov[0, 1]
        x = np.stack([catalogue.ln_lum_obs[rows], masses.ln_mass[rows]], axis=1)
        joint[i] = multivariate_normal(mean, cov).logpdf(x)
        alone[i] = norm(mean[0], np.sqrt(cov[0, 0])).logpdf(x[:, 0])
    np.testing.assert_allclose(told["nothing"], logsumexp(joint, axis=0) - logsumexp(alone, axis=0), atol=2e-3)
    expected = logsumexp(joint - alone, axis=0) - np.log(draws.num_draws)
    np.testing.assert_allclose(told["luminosity"], expected, atol=5e-3)


def by_hand(ln_density, splits=0):
    ln_density = np.asarray(ln_density, dtype=float)
    names = tuple("abcdefgh"[: len(ln_density)])
    scores = np.tile(np.arange(splits, dtype=float), (len(names), 1)) * np.arange(len(names))[:, None]
    return PopulationComparison(
        names, ln_density, np.zeros_like(ln_density), np.arange(ln_density.shape[1]), (), scores
    )


def test_errors_are_paired():
    noise = 30 * np.random.default_rng(2).normal(size=200)
    each = np.where(np.arange(200) % 2, 0.3, 0.1)
    result = by_hand([noise, noise - each], splits=4)
    assert result.difference[1] == pytest.approx(-40)
    assert result.error[1] == pytest.approx(np.sqrt(200) * each.std(ddof=1)) and result.worse[1]
    assert result.split_difference[1] == pytest.approx(1.5)
    assert result.split_error[1] == pytest.approx(np.std(range(4), ddof=1) * np.sqrt(1.25))


def test_a_small_difference_is_none_however_small_its_error():
    assert not by_hand([np.zeros(100), np.full(100, -0.03)]).worse[1]
    assert by_hand([np.zeros(100), np.full(100, -0.05)]).worse[1]


def test_table_of_text(normals):
    lines = str(normals).splitlines()
    assert "500 measured masses" in lines[0] and lines[4].split()[0] == "narrow"
    assert {lines[2].split()[0], lines[3].split()[0]} == {"one", "other"}
    assert "halves" in lines[1] and len(lines[1]) < 120
    bad = eqx.tree_at(lambda f: f.pareto_k, normals, np.stack([*normals.pareto_k[:2], np.ones(NUMBER)]))
    assert "not to be trusted (k > 0.7 for more than 2% of the objects): narrow" in bad.summary()
    assert set(normals.to_table()) >= {
        "population", "elpd", "difference", "error", "bad_k", "parameters", "split_error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("populations", "options", "match"),
    [
        ([NORMAL], {}, "at least two"),
        ([NORMAL, Population.gaussian(drift=False)], {}, "given twice"),
        ([NORMAL, "gauss"], {}, "is not known"),
        ([NORMAL, SKEWED], {"splits": 1}, "at least 2"),
        ([NORMAL, SKEWED], {"method": "guess"}, "population gaussian,drift=no: fit method 'guess'"),
    ],
)
def test_refused(skewed, populations, options, match):
    with pytest.raises(MassmapError, match=match):
        compared(skewed, populations, **options)


def test_too_few_calibrators_for_halves(skewed):
    catalogue, masses = skewed
    few = eqx.tree_at(lambda m: m.ln_mass, masses, np.where(np.arange(NUMBER) < 50, masses.ln_mass, np.nan))
    with pytest.raises(MassmapError, match=r"50 objects have a calibration mass.*at least 60"):
        compared((catalogue, few), [NORMAL, SKEWED], splits=2, key=jax.random.key(3))
