"""Mass likelihoods of single objects in the fit of a relation, against plain NumPy on a fine grid."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from reference import mass_likelihood_reference as slow
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.figures.relation import relation_corner
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.direct import log_likelihood
from massmap_jax.relation.extra import BiasedRelation, ExtraEvidence
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.fitted import RelationPosterior, fitted_without_masses
from massmap_jax.relation.marginal import RelationLikelihood

TABLE = schechter_table()
PRIOR, SLOW_PRIOR = MassPrior.from_table(*TABLE), PriorReference(*TABLE, per="mass")
NODES = np.linspace(22.0, 36.0, 141)
LN_LUM, Z, SIGMA = np.log([900.0, 4300.0, 1.2e4, 2e4]), np.array([0.2, 0.7, 1.1, 0.41]), np.array([0.05, 0.1, 0.3, 0.1])
CATALOGUE = HaloCatalogue.from_arrays(luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA)
PIVOT = 2.35e14


def gumbel(x):
    """Skewed: a likelihood that no Gaussian describes."""
    return (x - 31.0) / 0.5 - np.exp((x - 31.0) / 0.5)


# Two normal masses, one of them 7 standard deviations from what its luminosity says; no mass; a skewed one.
LN_LIKELIHOODS = (
    lambda x: -0.5 * ((x - 29.0) / 0.3) ** 2,
    lambda x: -0.5 * ((x - 34.5) / 0.2) ** 2,
    np.zeros_like,
    gumbel,
)
EXTRA = TabulatedTerm(NODES, np.stack([f(NODES) for f in LN_LIKELIHOODS]))
POINTS = [(10.7, 0.36, 0.15, 0.0), (10.2, 0.5, 0.3, 0.1), (11.0, 0.3, 0.05, -0.2)]


def test_the_likelihood_of_a_relation_takes_them():
    parameters = dict(alpha1=10.7, alpha2=0.36, scatter=0.15, alpha3=PIVOT, alpha4=1.1)
    relation = BiasedRelation(extra_bias=0.1, **parameters)
    added = log_likelihood(relation, CATALOGUE, PRIOR, extra=EXTRA) - log_likelihood(relation, CATALOGUE, PRIOR)
    expected = sum(
        slow.ln_added(SLOW_PRIOR, Relation(**parameters), LN_LUM[i], SIGMA[i], Z[i], lambda x, f=f: f(x + 0.1))
        for i, f in enumerate(LN_LIKELIHOODS)
    )
    assert float(added) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("point", POINTS)
def test_what_mass_likelihoods_add_to_the_fit(point):
    alpha1, alpha2, scatter, bias = point
    parameters = dict(alpha1=alpha1, alpha2=alpha2, scatter=scatter, alpha3=PIVOT, alpha4=1.1)
    expected = sum(
        slow.ln_added(SLOW_PRIOR, Relation(**parameters), LN_LUM[i], SIGMA[i], Z[i], lambda x, f=f: f(x + bias))
        for i, f in enumerate(LN_LIKELIHOODS)
    )
    relation = BiasedRelation(extra_bias=bias, **parameters)
    with jax.enable_x64(True):
        data = CatalogueData(CATALOGUE, PRIOR)
        plain = RelationLikelihood.of(data)
        data.extra = ExtraEvidence.of(CATALOGUE, data.rows, data.prior, EXTRA)
        added = float(RelationLikelihood.of(data)(relation) - plain(relation))
    assert data.extra.number == 3
    assert added == pytest.approx(expected, abs=1e-3)
    assert abs(added) > 1.0


def test_the_bias_has_a_second_derivative():
    with jax.enable_x64(True):
        data = CatalogueData(CATALOGUE, PRIOR)
        evidence = ExtraEvidence.of(CATALOGUE, data.rows, data.prior, EXTRA)

        def value(bias):
            relation = BiasedRelation(alpha1=10.7, alpha2=0.36, scatter=0.15, alpha3=PIVOT, extra_bias=bias)
            return evidence(relation, data.prior)

        curvature, step = float(jax.jit(jax.grad(jax.grad(value)))(0.1)), 1e-3
        values = [float(value(0.1 + i * step)) for i in (-1, 0, 1)]
    assert curvature == pytest.approx((values[0] - 2 * values[1] + values[2]) / step**2, rel=1e-3)


def test_posteriors_shift_the_likelihood_by_the_bias_of_each_draw():
    """Two draws of one relation with their own bias: the mixture of two posteriors; the twin has no bias."""
    parameters = dict(alpha1=10.7, alpha2=0.36, scatter=0.15, alpha3=PIVOT, alpha4=1.1)
    biases = (-0.6, 0.6)
    draws = BiasedRelation(**parameters | dict(alpha1=[10.7, 10.7]), extra_bias=biases)
    got = mass_posterior(CATALOGUE, PRIOR, draws, relation_from="this_catalogue", extra=EXTRA, chunk_size=4)
    twin = mass_posterior(
        CATALOGUE, PRIOR, draws.draw([0, 0]), relation_from="this_catalogue", extra=EXTRA, chunk_size=4
    )
    for i, f in enumerate(LN_LIKELIHOODS):
        each = [
            slow.moments(SLOW_PRIOR, Relation(**parameters), LN_LUM[i], SIGMA[i], Z[i], lambda x, f=f, b=b: f(x + b))
            for b in biases
        ]
        mean = np.mean([m for m, _ in each])
        sd = np.sqrt(np.mean([s**2 + m**2 for m, s in each]) - mean**2)
        assert abs(got.mean[i] - mean) < 1e-3 * sd and abs(got.sd[i] / sd - 1) < 1e-3
    assert np.abs(twin.mean - got.mean)[[0, 1, 3]].min() > 0.05
    plain = mass_posterior(CATALOGUE, PRIOR, draws, relation_from="this_catalogue", chunk_size=4)
    assert got.mean[2] == plain.mean[2]  # no likelihood: the posterior to the last bit


def lensed_field(seed, number=400, lensed=60, bias=0.0, scatter=0.3):
    """Objects of a power law, and masses of some of them; the whole error of these is their stated one, 0.3."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.2, 1.2, number)
    prior = MassPrior.from_table(*TABLE, support="sharp")
    ln_mass = np.asarray(prior.sample(jax.random.key(seed), z), dtype=float)
    ln_lum = 1.0 + 0.8 * (ln_mass - 29.0) + rng.normal(0.0, np.hypot(0.3, 0.1), number)
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
    measured = np.full(number, np.nan)
    chosen = rng.choice(number, lensed, replace=False)
    measured[chosen] = ln_mass[chosen] + bias + rng.normal(0.0, scatter, lensed)
    nodes = np.linspace(18.0, 40.0, 111)
    return catalogue, prior, TabulatedTerm(nodes, -0.5 * ((nodes - measured[:, None]) / 0.3) ** 2)


BELIEFS = {
    "alpha1": dist.Normal(1.0, 1.0),
    "alpha2": dist.Normal(0.8, 0.4),
    "alpha4": 0.0,
    "scatter": dist.LogNormal(-1.0, 0.7),
    "alpha3": np.exp(29.0),
}


def fitted(field, **more):
    catalogue, prior, extra = field
    with pytest.warns(UserWarning, match="no selection was given"):
        return fit_relation(catalogue, prior, BELIEFS, extra=extra, num_draws=300, **more)


def test_a_fit_reports_the_bias_and_is_read_back(tmp_path):
    fit = fitted(lensed_field(1), extra_bias="0:0.05")
    assert fit.free == ("alpha1", "alpha2", "scatter", "extra_bias")
    assert fit.diagnostics["with_mass_likelihood"] == 60 and "60 of them with a mass likelihood" in fit.summary()
    # Not one that was fitted to luminosities alone, of which `prior_check` warns.
    assert "60 with a mass likelihood" in fit.draws.source and not fitted_without_masses(fit.maximum)
    assert fit.sd["extra_bias"] < 0.06 and fit.draws.extra_bias.shape == (300,)
    fit.save(tmp_path / "fit.npz")
    again = RelationPosterior.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.draws.extra_bias, fit.draws.extra_bias)
    assert again.summary() == fit.summary()
    assert again.draws.thinned(10).extra_bias.shape == (10,)
    fit.write_getdist(tmp_path / "chain")
    assert "extra_bias b" in (tmp_path / "chain.paramnames").read_text()
    assert len(relation_corner(fit).axes) == 16


def test_a_fixed_bias_moves_the_normalisation():
    """M_WL too high by 0.2 and corrected for it is M_WL that is right: the same fit, with another bias in its draws."""
    right, biased = fitted(lensed_field(2)), fitted(lensed_field(2, bias=0.2), extra_bias=0.2)
    twin = fitted(lensed_field(2, bias=0.2))
    for p in right.free:
        assert abs(right.mean[p] - biased.mean[p]) < 1e-3 * right.sd[p]
    assert abs(twin.mean["alpha1"] - right.mean["alpha1"]) > 1.0 * right.sd["alpha1"]
    assert float(biased.maximum.extra_bias) == 0.2 and "extra_bias 0.2 (fixed)" in biased.summary()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (dict(extra=EXTRA, calibration="mass"), "cannot be fitted together with calibration="),
        (dict(extra=EXTRA.take([0])), r"shape \(1, 141\): give one row per catalogue row .* \(4, 141\)"),
        (dict(extra=EXTRA.take([2, 2, 2, 2])), "none of the 4 objects that are fitted has a mass likelihood"),
        (dict(extra_bias=0.1), "without the mass likelihoods"),
        (dict(extra=EXTRA, extra_bias="0:x"), "bias of the mass likelihoods '0:x' cannot be read"),
    ],
)
def test_what_a_fit_refuses(more, told):
    if "calibration" in more:
        more = more | {"calibration": CalibrationMasses.from_arrays(mass=np.full(4, 1e14), sigma_ln_mass=0.3)}
    with pytest.raises(MassmapError, match=told):
        fit_relation(CATALOGUE, PRIOR, "bigmali2017", **more)
