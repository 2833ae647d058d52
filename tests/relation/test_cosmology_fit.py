"""Relation and cosmology fitted together: maximum and covariance against plain NumPy with hmf's mass function."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from reference import mass_likelihood_reference as slow
from reference.cosmology_reference import ln_likelihood
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference

import massmap_jax as mm
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.errors import MassmapError
from massmap_jax.halo.mass_function import hmf_table
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import cosmology_with
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.cosmology_data import CosmologyData
from massmap_jax.relation.cosmology_posterior import CosmologyPosterior
from massmap_jax.relation.cosmology_prior import CosmologyPrior

NODES = {"log10_mass_range": (13.5, 16.0), "dlog10_mass": 0.01}
LIMIT, PIVOT = 0.2, 3e14
FIXED = {"alpha2": 1.6, "alpha4": 1.0}
# Means and errors of the ln of the parameters, which are correlated by 0.5.
CENTRE, WIDTH = {"sigma8": 0.8, "omega_m": 0.3}, {"sigma8": 0.12, "omega_m": 0.08}
COVARIANCE = np.outer([0.12, 0.08], [0.12, 0.08]) * np.array([[1.0, 0.5], [0.5, 1.0]])
NUMBER = 200


def prior():
    return mm.MassPrior.from_cosmology("Planck18", fit="Tinker08", mass_definition="500c", redshift=[0.0, 1.0], **NODES)


def cosmology():
    """Draws whose mean and covariance in ln are exact."""
    scores = np.random.default_rng(1).standard_normal((400, 2))
    scores = np.linalg.solve(np.linalg.cholesky(np.cov(scores.T, bias=True)), (scores - scores.mean(axis=0)).T)
    ln = np.linalg.cholesky(COVARIANCE) @ scores
    values = {name: centre * np.exp(ln[i]) for i, (name, centre) in enumerate(CENTRE.items())}
    return mm.CosmologyDraws.from_arrays(**values, h=0.68, n_s=0.97, omega_b=0.048, source="made up")


def clusters():
    rng = np.random.default_rng(3)
    z, sigma = rng.choice([0.1, 0.3, 0.5, 0.8], NUMBER), rng.choice([0.1, 0.2], NUMBER)
    ln_lum = LIMIT + rng.exponential(0.5, NUMBER)
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), sigma_ln_luminosity=sigma, redshift=z)
    return catalogue, (ln_lum, sigma, z)


BELIEFS = {"alpha1": dist.Normal(0.5, 0.5), "scatter": dist.LogNormal(-1.0, 0.3)} | FIXED | {"alpha3": PIVOT}
SELECTION = mm.FluxLimit(np.exp(LIMIT))


@pytest.fixture(scope="module")
def fit():
    with pytest.warns(UserWarning, match="of the cosmology, the catalogue informs"):
        return mm.fit_relation(
            clusters()[0], prior(), BELIEFS, cosmology=cosmology(), selection=SELECTION, num_draws=100
        )


def plain_table(ln8, ln_m, redshift):
    text = f"H0=68,Om0={np.exp(ln_m):.12g},Ob0=0.048,sigma8={np.exp(ln8):.12g},n_s=0.97"
    return hmf_table("Tinker08", text, "500c", redshift=redshift, **NODES)[:3]


def plain_posterior():
    """The ln posterior density in (alpha1, ln S, ln sigma8, ln omega_m), with one table for each cosmology."""
    _, columns = clusters()
    tables = {}
    centre, precision = np.log(list(CENTRE.values())), np.linalg.inv(COVARIANCE)

    def value(x):
        key = (round(x[2], 9), round(x[3], 9))
        if key not in tables:
            tables[key] = plain_table(*key, np.linspace(0.05, 0.85, 9))
        law = {"alpha1": x[0], "scatter": np.exp(x[1])} | FIXED
        off = x[2:] - centre
        believed = -0.5 * ((x[0] - 0.5) / 0.5) ** 2 - 0.5 * ((x[1] + 1.0) / 0.3) ** 2 - 0.5 * off @ precision @ off
        return ln_likelihood(law, PIVOT, *columns, *tables[key], LIMIT) + believed

    return value


def gradient_and_hessian(value, at, steps):
    """Central differences of a function of a vector."""
    size = at.size
    unit = np.diag(steps)
    sides = np.array([[value(at + sign * unit[i]) for sign in (-1, 1)] for i in range(size)])
    gradient = (sides[:, 1] - sides[:, 0]) / (2 * steps)
    hessian = np.diag((sides.sum(axis=1) - 2 * value(at)) / steps**2)
    for i in range(size):
        for j in range(i):
            corners = [s * t * value(at + s * unit[i] + t * unit[j]) for s in (-1, 1) for t in (-1, 1)]
            hessian[i, j] = hessian[j, i] = sum(corners) / (4 * steps[i] * steps[j])
    return gradient, hessian


def test_maximum_and_covariance_are_those_of_plain_numpy(fit):
    assert fit.free == ("alpha1", "scatter", "omega_m", "sigma8")
    best = {p: float(fit.maximum.parameter(p)) for p in fit.free}
    at = np.array([best["alpha1"], *np.log([best["scatter"], best["sigma8"], best["omega_m"]])])
    gradient, hessian = gradient_and_hessian(plain_posterior(), at, np.array([0.05, 0.05, 0.02, 0.02]))
    covariance = -np.linalg.inv(hessian)
    sd = np.sqrt(np.diag(covariance))
    # How far the plain maximum is, in standard deviations.
    assert np.abs(covariance @ gradient / sd).max() < 0.05
    own = fit.covariance / np.outer(*2 * [[best[p] if p != "alpha1" else 1.0 for p in fit.free]])
    own = own[np.ix_([0, 1, 3, 2], [0, 1, 3, 2])]
    np.testing.assert_allclose(own / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.03)
    # The twins: a belief without correlation, and a cosmology that is not free.
    assert abs(covariance[2, 3] / sd[2] / sd[3]) > 0.2 and abs(covariance[0, 2] / sd[0] / sd[2]) > 0.3
    assert -1 / hessian[0, 0] < 0.8 * covariance[0, 0]


def test_gradient_is_that_of_differences():
    catalogue, _ = clusters()
    with jax.enable_x64(True):
        data = CosmologyData(catalogue.subset(np.arange(40)), prior(), SELECTION, cosmology())
        beliefs = CosmologyPrior.of(RelationPrior.of(BELIEFS), data.belief)
        coordinates, likelihood = Coordinates.at(beliefs, np.log(PIVOT), 0.4), data.likelihood(0.2)
        both = jax.jit(jax.value_and_grad(lambda x: coordinates.log_density(x, likelihood)))
        x = np.array([0.3, -1.1, 0.4, -0.7])
        gradient = both(x)[1]
        for i, step in enumerate(3e-2 * np.eye(4)):
            around = [float(both(x + j * step)[0]) for j in (-2, -1, 1, 2)]
            expected = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / 0.36
            assert float(gradient[i]) == pytest.approx(expected, rel=3e-3, abs=5e-3)
        # A cosmology that cannot be has no density, and no gradient that is not a number.
        far = np.array([0.3, -1.1, 80.0, -0.7])
        assert both(far)[0] == -np.inf and np.isfinite(both(far)[1]).all()


def test_mass_likelihoods_add_what_they_add_under_each_cosmology():
    catalogue, (ln_lum, sigma, z) = clusters()
    nodes = np.linspace(np.log(1e13), np.log(1e17), 150)
    table = np.zeros((NUMBER, nodes.size))
    of_masses = {int(np.argmin(z)): (33.6, 0.3), 10: (34.5, 0.2), int(np.argmax(z)): (33.0, 0.4)}
    for row, (mean, sd) in of_masses.items():
        table[row] = -0.5 * ((nodes - mean) / sd) ** 2
    law = {"alpha1": 0.4, "scatter": 0.35} | FIXED
    with jax.enable_x64(True):
        data = CosmologyData(catalogue, prior(), SELECTION, cosmology(), TabulatedTerm(nodes, table))
        both = CosmologyPrior.of(RelationPrior.of(BELIEFS), data.belief)
        values = law | {"cosmology_1": np.array(1.2), "cosmology_2": np.array(-0.5)}
        relation, likelihood = both.relation(values), data.likelihood(0.2)
        added = jax.jit(lambda r: likelihood(r) - likelihood.plain(r, cosmology_with(r.cosmology)))(relation)
    density = plain_table(*np.log([relation.cosmology["sigma8"], relation.cosmology["omega_m"]]), sorted(set(z)))
    apart = PriorReference(*density, per="ln_mass")
    expected = sum(
        slow.ln_added(
            apart,
            Relation(**law, alpha3=PIVOT),
            ln_lum[i],
            sigma[i],
            z[i],
            lambda x, m=m, s=s: -0.5 * ((x - m) / s) ** 2,
        )
        for i, (m, s) in of_masses.items()
    )
    assert float(added) == pytest.approx(expected, abs=2e-3) and abs(expected) > 0.5


def test_what_a_fit_tells(fit):
    assert "of the cosmology, the catalogue informs omega_m" in " ".join(fit.notes)
    assert set(fit.informed) == set(fit.mean) == set(fit.free)
    assert fit.prior_mean["sigma8"] == pytest.approx(0.8 * np.exp(0.12**2 / 2), rel=1e-6)
    assert fit.with_sigma8["correlation"] < -0.3 and fit.with_sigma8["slope"] < 0
    assert fit.with_sigma8["pivot_z"] == pytest.approx(np.median(clusters()[1][2]), abs=1e-6)
    words = fit.summary()
    assert "sigma8" in words and "omega_m" in words and "prior 0.3" in words
    # The mean of the draws is that of the maximum, about: they are of the normal distribution there.
    for p in fit.free:
        assert abs(fit.mean[p] - float(fit.maximum.parameter(p))) < 0.6 * fit.sd[p], p


def test_draws_go_where_a_relation_goes(fit):
    catalogue, _ = clusters()
    some, base = catalogue.subset(np.arange(5)), prior()
    each = []
    for i in (0, 60):
        values = {p: float(v[i]) for p, v in fit.draws.population.values.items()}
        own = base.at_cosmology(cosmology_with(values))
        law = mm.MassLuminosityRelation(**{p: v[i] for p, v in fit.draws.columns().items() if p != "log_weight"})
        each.append(mm.mass_posterior(some, own, law).mean)
    two = mm.mass_posterior(some, base, fit.draws.draw([0, 60]), relation_from="this_catalogue")
    np.testing.assert_allclose(two.mean, np.mean(each, axis=0), atol=2e-3)
    other = mm.MassPrior.from_cosmology("WMAP9", fit="Tinker08", mass_definition="500c", redshift=[0.0, 1.0])
    with pytest.raises(MassmapError, match="under another mass prior"):
        mm.mass_posterior(some, other, fit.draws, relation_from="this_catalogue")
    with pytest.raises(MassmapError, match="have a population or a cosmology of their own"):
        mm.log_likelihood(fit.draws.draw(0), some, base)


def test_a_map_has_the_error_of_the_cosmology(fit):
    """Totals of maps scatter as the masses under each draw do, with relation and cosmology in pairs."""
    (_, (ln_lum, sigma, z)), few, rng = clusters(), np.arange(30), np.random.default_rng(0)
    sky = {"ra": 150 + 0.2 * rng.random(few.size), "dec": 2 + 0.2 * rng.random(few.size)}
    some = mm.HaloCatalogue.from_arrays(
        ln_luminosity=ln_lum[few], sigma_ln_luminosity=sigma[few], redshift=z[few], **sky
    )
    draws, known = fit.draws.draw(np.arange(12)), {"relation_from": "fixed_draws"}
    mean, variance = np.zeros((2, 12))
    for j in range(12):
        own = mm.mass_posterior(some, prior(), draws.draw([j]), **known)
        # Of the mass itself, as that of a lognormal distribution.
        mean[j] = np.exp(own.mean + own.sd**2 / 2).sum()
        variance[j] = (np.exp(2 * own.mean + own.sd**2) * np.expm1(own.sd**2)).sum()
    grid = mm.PixelGrid.fit(some.ra, some.dec)
    totals = mm.mass_map(jax.random.key(1), some, prior(), draws, grid, num_draws=300, **known).total_draws
    sd = np.sqrt(mean.var() + variance.mean())
    assert totals.mean() == pytest.approx(mean.mean(), abs=5 * sd / np.sqrt(300))
    assert totals.std() == pytest.approx(sd, rel=0.2)
    # All masses share most of that error: without it the map would be far too sure.
    assert sd > 3 * np.sqrt(variance.mean())


def test_nuts_agrees_with_laplace(fit):
    chains = {"method": "nuts", "num_chains": 1, "num_warmup": 60, "num_draws": 120}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"cosmology": cosmology(), "selection": SELECTION} | chains
        nuts = mm.fit_relation(clusters()[0], prior(), BELIEFS, **given)
    for p, rhat in nuts.diagnostics["r_hat"].items():
        assert rhat < 1.2 and abs(nuts.mean[p] - fit.mean[p]) < 0.7 * fit.sd[p], p
        assert 0.6 < nuts.sd[p] / fit.sd[p] < 1.7, p
    assert set(nuts.draws.population.values) == {"omega_m", "sigma8", "h", "n_s", "omega_b"}


def test_a_fit_is_read_back_as_it_was(fit, tmp_path):
    fit.save(tmp_path / "fit.npz")
    assert CosmologyPosterior.is_saved(tmp_path / "fit.npz") and not mm.RelationPosterior.is_saved(tmp_path / "fit.npz")
    back = CosmologyPosterior.load(tmp_path / "fit.npz")
    ours, theirs = jax.tree.flatten(fit), jax.tree.flatten(back)
    assert ours[1] == theirs[1]
    for one, other in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.summary() == fit.summary() and back.diagnostics == fit.diagnostics


def test_tables_and_chains_hold_the_cosmology(fit, tmp_path):
    table = fit.to_table()
    assert {"omega_m", "sigma8", "h", "n_s", "omega_b"} < set(table) and table["h"].std() < 1e-12
    fit.write_getdist(tmp_path / "chain")
    draws = mm.CosmologyDraws.read(tmp_path / "chain")
    np.testing.assert_allclose(draws.values["sigma8"], fit.draws.parameter("sigma8"))
    # A relation without its cosmology is another result.
    with pytest.raises(MassmapError, match=r"fitted together with a cosmology.*give relation\.npz of the same fit"):
        read_relation(tmp_path / "chain")


def test_exports(fit):
    pytest.importorskip("getdist")
    samples = fit.to_getdist()
    assert samples.getMeans()[[n.name for n in samples.paramNames.names].index("sigma8")] == pytest.approx(
        fit.mean["sigma8"]
    )


def test_a_belief_has_mean_and_covariance_of_the_draws():
    belief = CosmologyBelief.of(cosmology())
    assert belief.varying == ("omega_m", "sigma8") and belief.directions == ("cosmology_1", "cosmology_2")
    np.testing.assert_allclose(belief.root @ belief.root.T, covariance_in_order(), atol=1e-12)
    np.testing.assert_allclose(np.exp(belief.mean), [0.3, 0.8, 0.68, 0.97, 0.048], rtol=1e-12)
    # Planck's baryons are tied to h, and h nearly to omega_m: as many directions as there are free numbers.
    assert len(CosmologyBelief.of(mm.CosmologyDraws.planck18(jax.random.key(0), 100)).directions) == 5
    scores = np.random.default_rng(0).standard_normal(50)
    tied = mm.CosmologyDraws.from_arrays(
        omega_m=0.3 * np.exp(0.05 * scores), sigma8=0.8, h=0.7 * np.exp(-0.02 * scores), n_s=0.96, omega_b=0.05
    )
    one = CosmologyBelief.of(tied)
    assert one.directions == ("cosmology_1",) and one.varying == ("omega_m", "h")
    assert one.values({"cosmology_1": 0.0})["h"] == pytest.approx(np.exp(np.log(tied.values["h"]).mean()))


def covariance_in_order():
    full = np.zeros((5, 5))
    full[np.ix_([1, 0], [1, 0])] = COVARIANCE
    return full


def test_draws_that_are_not_normal_are_told():
    rng = np.random.default_rng(0)
    normal, skewed = rng.standard_normal(2000), rng.exponential(1.0, 2000) - 1
    draws = mm.CosmologyDraws.from_arrays(
        omega_m=0.3 * np.exp(0.05 * skewed), sigma8=0.8 * np.exp(0.05 * normal), h=0.7, n_s=0.96, omega_b=0.05
    )
    found = CosmologyBelief.of(draws).shape_of(draws)
    assert set(found) == {"omega_m"} and found["omega_m"]["skewness"] == pytest.approx(2.0, abs=0.5)
    flat = mm.CosmologyDraws.from_arrays(
        omega_m=0.3, sigma8=np.exp(rng.uniform(-0.5, 0.0, 2000)), h=0.7, n_s=0.96, omega_b=0.05
    )
    assert CosmologyBelief.of(flat).shape_of(flat)["sigma8"]["kurtosis"] == pytest.approx(-1.2, abs=0.2)


def belief_of(**changes):
    scores = np.random.default_rng(0).standard_normal(60)
    given = {"omega_m": 0.3, "sigma8": 0.8 * np.exp(0.1 * scores), "h": 0.7, "n_s": 0.96, "omega_b": 0.05} | changes
    return mm.CosmologyDraws.from_arrays(**given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cosmology": belief_of().draw(slice(0, 8))}, "8 effective draws are too few"),
        ({"cosmology": belief_of(log_weight=[0.0, 0.0] + [-50.0] * 58)}, "2 effective draws are too few"),
        ({"cosmology": belief_of(sigma8=np.full(60, 0.8))}, "all draws are one cosmology"),
        ({"cosmology": belief_of(sigma8=np.geomspace(0.15, 2.9, 60))}, "leave sigma8 as good as free"),
        ({"selection": mm.RedshiftLimit.tabulated([0.01, 2.0], [1e-3, 1e-2])}, "no selection but a limit"),
        (
            {"prior": mm.MassPrior.from_table([0.0, 2.0], [1e13, 1e15, 1e16], np.ones((2, 3)))},
            "cannot follow the cosmology",
        ),
        ({"cosmology": 0.8}, "CosmologyDraws"),
    ],
)
def test_refused_in_one_sentence(changes, words):
    given = {"catalogue": clusters()[0].subset(np.arange(30)), "prior": prior(), "relation_prior": BELIEFS}
    given |= {"cosmology": belief_of()} | changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MassmapError, match=words):
            mm.fit_relation(**given)
