"""fit_relation: the maximum against the reference, the three methods against each other, and inputs that are odd."""

import dataclasses
import os
import subprocess
import sys
import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from reference.tables import read_three_columns
from scipy.stats import truncnorm
from statistical.two_keys import LEVEL, check_with_two_keys, smallest, two_sided

from massmap_jax import choices
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation import fit as relation_fit
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.direct import log_likelihood
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.fitted import RelationPosterior
from relation.test_relation_likelihood import PARAMETERS, PRIOR, TRUTH, reference_ln_likelihood, simulate

PIVOT = TRUTH.alpha3
WIDE = {"alpha1": (10.709, 0.1), "alpha2": (0.359, 0.03), "alpha4": (1.1, 0.2), "scatter": (0.155, 0.03)}
KEY = jax.random.key(3)


def wide_prior(**changes):
    return RelationPrior({p: dist.Normal(*v) for p, v in WIDE.items()} | changes, alpha3=PIVOT)


def quiet_fit(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_relation(*args, **options)


@pytest.fixture(scope="module")
def field():
    return simulate(2500, seed=5, distinct=40)


@cache
def fits_of(key):
    """By method. R-hat and ESS are those of NUTS with draws enough: with 1200 R-hat may miss 1.01 by chance."""
    field, draws = simulate(2500, seed=5, distinct=40), {"laplace": 4000, "nuts": 2400, "importance": 4000}
    options = {"key": jax.random.key(key)}
    return {m: quiet_fit(field, PRIOR, wide_prior(), method=m, num_draws=n, **options) for m, n in draws.items()}


@pytest.fixture(scope="module")
def fits():
    return fits_of(3)


def test_maximum_is_where_the_reference_is_flat():
    """Reference ln L from plain cells, plus the normal priors: its slope at the maximum found is far below 1 sd."""
    catalogue = simulate(80, seed=2)
    fit = quiet_fit(catalogue, PRIOR, wide_prior(scatter=0.155), key=KEY)
    assert fit.free == ("alpha1", "alpha2", "alpha4")
    best = {p: float(getattr(fit.maximum, p)) for p in fit.free}
    sd = np.sqrt(np.diag(fit.covariance))

    def ln_posterior(**values):
        prior = sum(-0.5 * ((values[p] - WIDE[p][0]) / WIDE[p][1]) ** 2 for p in fit.free)
        return reference_ln_likelihood(catalogue, **values) + prior

    for i, name in enumerate(fit.free):
        step = 1e-2 * sd[i]
        up, down = (ln_posterior(**best | {name: best[name] + s * step}) for s in (1, -1))
        slope = (up - down) / (2 * step) * sd[i]
        print(name, "slope of the reference per sd:", slope)
        assert abs(slope) < 1e-2
    # and the curvature along alpha2 is that of the covariance's inverse
    step = 0.1 * sd[1]
    values = [ln_posterior(**best | {"alpha2": best["alpha2"] + s * step}) for s in (-1, 0, 1)]
    curvature = -(values[0] - 2 * values[1] + values[2]) / step**2
    assert curvature == pytest.approx(np.linalg.inv(fit.covariance)[1, 1], rel=0.02)


def p_of_methods(key, scatter_factor=1.0, found=None):
    """P value that importance and NUTS agree on means and sds, and Laplace on means; 0 where NUTS has not mixed.

    scatter_factor : the mistake to find, of the scatter that NUTS draws.
    """
    fits = fits_of(key)
    reference, exact, laplace = (fits[m] for m in ("nuts", "importance", "laplace"))
    ess, scores = exact.diagnostics["ess"], {}
    for p in PARAMETERS:
        factor = scatter_factor if p == "scatter" else 1.0
        mean, sd = factor * reference.mean[p], factor * reference.sd[p]
        bulk, tail = (reference.diagnostics[name][p] for name in ("ess_bulk", "ess_tail"))
        scores["mean", p] = (exact.mean[p] - mean) / sd / np.hypot(1 / np.sqrt(bulk), 1 / np.sqrt(ess))
        # An sd is known to 1 / sqrt(2 n), of the draws that count for the spread.
        scores["sd", p] = np.log(exact.sd[p] / sd) / np.hypot(1 / np.sqrt(2 * min(bulk, tail)), 1 / np.sqrt(2 * ess))
        # Laplace is an approximation: within a tenth of a standard deviation here
        off = max(0.0, abs(laplace.mean[p] - mean) / sd - 0.1)
        scores["Laplace", p] = off / np.hypot(1 / np.sqrt(bulk), 1 / np.sqrt(4000))
    if found is not None:
        of_chains = {name: dict(reference.diagnostics[name]) for name in ("r_hat", "ess_bulk", "ess_tail")}
        found |= {f"{kind} {p}": two_sided(z) for (kind, p), z in scores.items()}
        found |= {"r_hat": max(of_chains["r_hat"].values())}
        found |= {name.replace("_", " "): min(of_chains[name].values()) for name in ("ess_bulk", "ess_tail")}
    mixed = reference.check() == [] and exact.diagnostics["pareto_k"] < 0.7
    return smallest(two_sided(np.array(list(scores.values())))) if mixed else 0.0


def test_methods_agree_and_find_the_truth(fits):
    """A second key if the first one fails: the chains take another path on every machine."""
    reference = fits["nuts"]
    print(reference.summary())
    for p in PARAMETERS:
        assert abs(reference.mean[p] - getattr(TRUTH, p)) < 4 * reference.sd[p]
    check_with_two_keys(p_of_methods, keys=(3, 4))
    assert p_of_methods(3, scatter_factor=0.9) < LEVEL


def test_draws_are_a_relation_for_the_masses(fits, field):
    draws = fits["laplace"].draws.draw(np.arange(20))
    posterior = mass_posterior(field, PRIOR, draws, relation_from="this_catalogue")
    assert np.isfinite(posterior.mean).all()
    assert fits["laplace"].draws.num_draws == 4000
    assert fits["laplace"].covariance.shape == (4, 4)
    sd = np.sqrt(np.diag(fits["laplace"].covariance))
    np.testing.assert_allclose(sd, [fits["laplace"].sd[p] for p in PARAMETERS], rtol=0.05)


def test_same_key_same_answer(field, fits):
    few = {"method": "nuts", "key": KEY, "num_draws": 40, "num_warmup": 20}
    once, again = (quiet_fit(simulate(60), PRIOR, wide_prior(), **few) for _ in range(2))
    np.testing.assert_array_equal(once.draws.alpha1, again.draws.alpha1)
    other = quiet_fit(field, PRIOR, wide_prior(), key=jax.random.key(4), num_draws=4000)
    assert (other.draws.alpha1 != fits["laplace"].draws.alpha1).all()
    np.testing.assert_array_equal(other.maximum.alpha1, fits["laplace"].maximum.alpha1)


def test_a_prior_that_a_float32_function_was_traced_with_can_be_fitted_with():
    """As after a NumPyro model: JAX 0.10 remembers such an array in float32, and the fit is in float64."""
    prior = jax.tree.map(np.array, PRIOR)
    traced = jax.jit(lambda z: prior.log_prob(jnp.full(4, 27.0), z * jnp.ones(4)).sum())
    assert np.isfinite(traced(1.0))
    few = {"key": KEY, "num_draws": 50}
    found, same = (quiet_fit(simulate(60), p, wide_prior(), **few) for p in (prior, PRIOR))
    np.testing.assert_array_equal(found.draws.alpha1, same.draws.alpha1)


def test_save_and_load(fits, tmp_path):
    for name, fit in fits.items():
        path = tmp_path / f"{name}.npz"
        fit.save(path)
        back = RelationPosterior.load(path)
        assert dataclasses.asdict(back).keys() == dataclasses.asdict(fit).keys()
        np.testing.assert_array_equal(back.draws.scatter, fit.draws.scatter)
        np.testing.assert_array_equal(back.covariance, fit.covariance)
        assert back.notes == fit.notes
        assert back.draws.mass_definition == fit.draws.mass_definition
    (tmp_path / "other.npz").write_text("no zip")
    with pytest.raises(MassmapError, match="not a file that save"):
        RelationPosterior.load(tmp_path / "other.npz")
    with pytest.raises(MassmapError, match="does not exist"):
        RelationPosterior.load(tmp_path / "none.npz")


def test_to_arviz(fits):
    arviz = pytest.importorskip("arviz", reason="ArviZ is an extra")
    data = fits["nuts"].to_arviz()
    assert data["posterior"]["alpha2"].shape == (4, 600)
    assert float(arviz.rhat(data["posterior"])["alpha2"]) < 1.02


def test_without_a_selection_it_warns_of_the_lowest_mass(field):
    with pytest.warns(UserWarning, match=r"no selection .* doubles, the maximum moves by alpha1 [+-]"):
        fit = fit_relation(field, PRIOR, wide_prior())
    assert abs(fit.shift_if_lowest_mass_doubles["alpha2"]) > fit.sd["alpha2"]
    bright = FluxLimit(float(np.exp(field.ln_lum_obs.min()) * 0.999))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limited = fit_relation(field, PRIOR, wide_prior(), selection=bright)
    assert limited.shift_if_lowest_mass_doubles is None
    assert "luminosity limit" in limited.selection


def test_moving_the_lowest_mass_compiles_nothing(monkeypatch):
    """Priors of `from_cosmology` are in single precision."""
    single = {name: np.float32(getattr(PRIOR, name)) for name in ("ln_mass_nodes", "ln_density")}
    given, maximise = [], relation_fit.maximise

    def noted(*args):
        given.append(jax.tree.map(lambda leaf: (np.shape(leaf), np.asarray(leaf).dtype), args))
        return maximise(*args)

    monkeypatch.setattr(relation_fit, "maximise", noted)
    quiet_fit(simulate(100, seed=5), dataclasses.replace(PRIOR, **single), wide_prior(), num_draws=2)
    assert len(given) >= 2 and given[-1] == given[-2]


def test_a_flux_limit_recovers_the_truth_and_leaving_it_out_does_not():
    whole = simulate(20_000, seed=7, distinct=60)
    limit = 9.2
    keep = whole.ln_lum_obs > limit
    bright = HaloCatalogue.from_arrays(
        luminosity=np.exp(whole.ln_lum_obs[keep]), redshift=whole.redshift[keep], sigma_ln_luminosity=0.05
    )
    right = quiet_fit(bright, PRIOR, wide_prior(), selection=FluxLimit(np.exp(limit)))
    wrong = quiet_fit(bright, PRIOR, wide_prior())
    for p in PARAMETERS:
        assert abs(right.mean[p] - getattr(TRUTH, p)) < 4 * right.sd[p]
    assert max(abs(wrong.mean[p] - getattr(TRUTH, p)) / wrong.sd[p] for p in PARAMETERS) > 10
    assert any("contradict" in note for note in wrong.notes)


# -- odd and bad input -----------------------------------------------------------------------------------------------


def objects(luminosity, redshift, sigma=0.05):
    return HaloCatalogue.from_arrays(luminosity=luminosity, redshift=redshift, sigma_ln_luminosity=sigma)


@pytest.mark.parametrize("method", ["laplace", "nuts"])
def test_one_halo_gives_the_prior_back(method):
    fit = quiet_fit(objects([9000.0], [0.5]), PRIOR, wide_prior(), method=method, num_draws=1000)
    # one luminosity says a little about the slope: steep ones need fewer rare masses
    for p in ("alpha2", "alpha4", "scatter"):
        assert fit.sd[p] == pytest.approx(WIDE[p][1], rel=0.15)
    assert {"alpha4", "scatter"} <= set(fit.unconstrained)
    assert any("does not constrain" in note for note in fit.notes)
    assert np.isfinite(fit.draws.alpha1).all()
    assert (fit.draws.scatter > 0).all()


def test_ten_halos_at_one_redshift_leave_the_evolution_to_its_prior():
    catalogue = simulate(10, seed=1)
    at_one = objects(np.exp(catalogue.ln_lum_obs), np.full(10, 0.6))
    fit = quiet_fit(at_one, PRIOR, wide_prior())
    # alpha1 is free to take up the shift, so alpha4 keeps its prior, and the result says so
    assert fit.sd["alpha4"] == pytest.approx(0.2, rel=0.1)
    assert "alpha4" in fit.unconstrained
    assert "alpha4" in " ".join(fit.notes)


def test_the_table_reaches_as_far_as_the_sampler():
    """The likelihood that NUTS samples, with its table or without where a wide slope rules it out, is the integrated
    one at the maximum and 4 sd from it, in each direction: a table that ends earlier is a wall to the sampler."""
    few = simulate(300, seed=8, distinct=5)
    limit = float(np.quantile(few.ln_lum_obs, 0.2))
    keep = few.ln_lum_obs >= limit
    bright = objects(np.exp(few.ln_lum_obs[keep]), few.redshift[keep])
    prior = wide_prior(alpha1=dist.Normal(10.7, 1.0), alpha2=dist.Normal(0.4, 0.2), alpha4=1.1)
    with jax.enable_x64(True):
        data = CatalogueData(bright, PRIOR, FluxLimit(float(np.exp(limit))))
        coordinates, likelihood, best = relation_fit.find_maximum(data, prior)
        covariance = relation_fit.covariance_of(best, coordinates)
        prepared = relation_fit.prepare(data, coordinates, likelihood, best, covariance)
        root = np.linalg.cholesky(covariance)
        places = np.asarray(best.x) + 4 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) @ root.T
        relations = jax.vmap(lambda x: coordinates.prior.relation(coordinates.values(x)))(places)
        # Its table as an argument: as a constant of the program it takes 7 s.
        found = np.asarray(jax.jit(lambda likelihood, r: jax.lax.map(likelihood, r))(prepared, relations))
        exact = np.array([log_likelihood(relations.draw(i), bright, PRIOR, data.selection) for i in range(7)])
    slope = np.asarray(relations.alpha2)
    print(f"slopes {slope.min():.3f} to {slope.max():.3f}, table {prepared.table is not None}, off by "
          f"{np.abs(found - exact).max():.1e}")  # fmt: skip
    assert np.abs(found - exact).max() < 1e-2
    assert np.ptp(slope) > 4 * float(np.sqrt(covariance[1, 1]))


def test_draws_stay_inside_a_bounded_prior(field, fits):
    """A prior that cuts the posterior of the slope one sd below its maximum: the normal is cut there too, and says so."""
    free = fits["laplace"]
    low = float(free.maximum.alpha2) - free.sd["alpha2"]
    cut = wide_prior(alpha2=dist.TruncatedNormal(*WIDE["alpha2"], low=low))
    fit = quiet_fit(field, PRIOR, cut)
    np.testing.assert_allclose(fit.maximum.alpha2, free.maximum.alpha2, rtol=1e-4)
    assert fit.draws.alpha2.min() >= low
    assert 0.79 < fit.diagnostics["inside_prior"] < 0.89  # Phi(1) = 0.841
    assert any("cuts it off: use nuts" in problem for problem in fit.check())
    assert free.diagnostics["inside_prior"] == 1.0
    # and the figure's prior is the cut one, not a normal of its mean and width
    alpha2, density = fit.prior_curve["alpha2"]
    mean, sd = WIDE["alpha2"]
    np.testing.assert_allclose(density, truncnorm((low - mean) / sd, np.inf, mean, sd).pdf(alpha2), rtol=1e-6)
    assert (density == 0).any() and (density > 0).any()


def test_scatter_fixed_at_zero_on_many_objects():
    rng = np.random.default_rng(4)
    z, sigma = rng.uniform(0.5, 0.55, 8000), rng.uniform(0.10, 0.12, 8000)
    catalogue = simulate(8000, seed=3)
    many = objects(np.exp(catalogue.ln_lum_obs), z, sigma)
    fit = quiet_fit(many, PRIOR, wide_prior(scatter=0.0, alpha4=1.1), num_draws=50)
    assert np.isfinite(fit.draws.alpha1).all()


def test_objects_of_one_luminosity():
    fit = quiet_fit(objects(np.full(60, 9000.0), np.linspace(0.1, 3, 60)), PRIOR, wide_prior())
    assert np.isfinite(fit.covariance).all()
    assert fit.mean["scatter"] < 0.155


def test_fixed_parameters_stay_and_are_left_out(field):
    fit = quiet_fit(field, PRIOR, wide_prior(alpha4=1.1, scatter=0.155), num_draws=100)
    assert fit.free == ("alpha1", "alpha2")
    assert fit.covariance.shape == (2, 2)
    np.testing.assert_array_equal(fit.draws.alpha4, 1.1)
    with pytest.raises(MassmapError, match="nothing to fit"):
        fit_relation(field, PRIOR, RelationPrior({p: v[0] for p, v in WIDE.items()}, alpha3=PIVOT))


@pytest.mark.parametrize(
    ("beliefs", "words"),
    [
        ({"alpha2": dist.Normal(0.359, 0.009)}, "it needs alpha1, alpha2, alpha4, scatter"),
        ({p: dist.Normal(*v) for p, v in WIDE.items()} | {"alpha4": "1.1"}, "the prior of alpha4 is '1.1'"),
        ({p: dist.Normal(*v) for p, v in WIDE.items()} | {"alpha2": dist.Delta(0.3)}, "alpha2 has no width"),
        ({p: dist.Normal(*v) for p, v in WIDE.items()} | {"alpha2": 0.0}, "alpha2 must be finite and not 0"),
        ("reddick13", "preset 'reddick13' is not known"),
    ],
)
def test_bad_relation_priors(beliefs, words, field):
    with pytest.raises(MassmapError, match=words):
        fit_relation(field, PRIOR, beliefs)


def test_a_prior_that_excludes_the_data_is_named(field):
    with pytest.raises(MassmapError, match=r"the prior of alpha2 excludes the data: .* bound 0\.6"):
        fit_relation(field, PRIOR, wide_prior(alpha2=dist.Uniform(0.6, 0.9)))


def test_a_selection_that_excludes_objects_is_refused(field):
    with pytest.raises(MassmapError, match="no chance to be in the catalogue, first row"):
        fit_relation(field, PRIOR, wide_prior(), selection=FluxLimit(float(np.exp(np.median(field.ln_lum_obs)))))


def test_a_likelihood_that_is_not_finite_names_the_objects():
    exact = objects([9000.0, 8000.0, 7000.0], [0.5, 0.6, 0.7], sigma=[0.0, 0.05, 0.0])
    with pytest.raises(MassmapError, match=r"not finite .* for 2 of 3 objects, first row 0"):
        fit_relation(exact, PRIOR, wide_prior(scatter=0.0))


def test_the_methods_offered_are_those_there_are():
    assert choices.FIT_METHODS == relation_fit.METHODS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "vi"}, "method 'vi' is not known"),
        ({"num_draws": 1}, "at least 2 draws"),
        ({"method": "nuts", "num_draws": 8}, "too few"),
        ({"num_chains": 0}, "at least 2 draws, 1 chain"),
    ],
)
def test_bad_options(options, words, field):
    with pytest.raises(MassmapError, match=words):
        fit_relation(field, PRIOR, wide_prior(), **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alpha1=1:0,alpha2=1:1,alpha4=0,scatter=0.1", "no width"),
        ("alpha1=1:1,alpha2=1:1,alpha4=0,scatter=-0.3:0.3,alpha3=1e14", r"'scatter=-0.3:0.3', is -0.3: .* at least 0"),
        ("alpha1=x", "give NAME=MEAN:SD"),
        ("bigmali2017,beta=3", "names beta"),
        ("reddick13", "not known"),
        ("alpha1=1:1", "has no pivot"),
        ("alpha1=1:1,alpha3=1e14", "it needs alpha1, alpha2, alpha4, scatter"),
        ("bigmali2017,alpha3=1e14", "moves the pivot"),
        ("alpha1=0:5,alpha2=1:0.5,alpha4=0,scatter=0.3:0.2,alpha3=1e14:1e13", "the pivot is one mass"),
    ],
)
def test_bad_relation_prior_texts(text, words):
    with pytest.raises(MassmapError, match=words):
        RelationPrior.parse(text)


def test_relation_prior_text():
    prior = RelationPrior.parse("alpha1=10:0.5, alpha2=0.4:0.1,alpha4=0,scatter=0.2:0.1,alpha3=2e14")
    assert prior.free == ("alpha1", "alpha2", "scatter")
    assert prior.alpha3 == 2e14
    assert prior.sd()["alpha1"] == pytest.approx(0.5)
    assert RelationPrior.parse("bigmali2017,alpha4=0").free == ("alpha1", "alpha2", "scatter")


# -- the public light cone -------------------------------------------------------------------------------------------

BEHIND_THE_MOCKS = {"alpha1": 10.7478, "alpha2": 0.3626, "alpha4": 1.1587, "scatter": 0.1570}


@pytest.fixture(scope="module")
def light_cone(public_data):
    z, lum = np.loadtxt(public_data / "bigmali" / "mock_data.txt").T
    return objects(lum, z), read_three_columns(public_data / "bigmali" / "massprior.txt")


@pytest.mark.slow
def test_light_cone_finds_out_how_its_masses_were_drawn(light_cone):
    """The mocks' masses follow p(M)/M: a sampler that leaves the cell width out. With the nominal density the slope is
    over 100 standard deviations off; with p(M)/M all four parameters are found."""
    catalogue, (redshift, mass, density) = light_cone
    settings = {"per": "mass", "snap": "upper", "support": "sharp"}
    nominal = quiet_fit(catalogue, MassPrior.from_table(redshift, mass, density, **settings))
    divided = quiet_fit(catalogue, MassPrior.from_table(redshift, mass, density / mass, **settings))
    for name, fit in (("nominal", nominal), ("p(M)/M", divided)):
        off = {p: (fit.mean[p] - v) / fit.sd[p] for p, v in BEHIND_THE_MOCKS.items()}
        print(name, {p: f"{fit.mean[p]:.4f} +- {fit.sd[p]:.4f} ({off[p]:+.1f} sd)" for p in off})
        if name == "nominal":
            assert off["alpha2"] < -100
        else:
            assert max(abs(v) for v in off.values()) < 3


def test_a_fit_is_the_same_program_in_every_start_of_python():
    """Compiled code is found again on disk only if it does not depend on Python's hash of strings."""
    script = (
        "import hashlib, jax, jax.numpy as jnp; from massmap_jax.relation.beliefs import RelationPrior\n"
        "density = lambda prior, x: prior.log_prob({p: x for p in prior.free})\n"
        "text = jax.jit(density).lower(RelationPrior.preset('bigmali2017'), jnp.float32(0.2)).as_text()\n"
        "print(hashlib.md5(text.encode()).hexdigest())"
    )
    starts = [
        subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        for seed in ("1", "3", "4")
    ]
    assert len({ran.stdout for ran in starts}) == 1 and len(starts[0].stdout) > 30, starts[0].stderr
