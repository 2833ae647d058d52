"""Linear noise and upper limits in the relation's likelihood, its fit and its check: against dense sums, and on truth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from reference.linear_noise_reference import LinearNoise
from reference.prior_reference import PriorReference
from scipy.special import logsumexp

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.relation.direct import data_of
from massmap_jax.relation.extra import BiasedRelation, ExtraEvidence
from massmap_jax.relation.presets import Value
from massmap_jax.relation.published import published_relation

LAW = {"alpha1": 1.6, "alpha2": 1.7, "alpha3": 3e14, "alpha4": 0.5, "scatter": 0.2}
LIGHTEST = 2e13


def table():
    """A steep mass function: redshift nodes, masses and densities per ln M."""
    redshift, mass = np.array([0.0, 0.4, 1.0]), np.geomspace(LIGHTEST, 6e15, 160)
    density = [mass**-1.1 * np.exp(-((mass / (6e14 / (1 + z))) ** 0.8)) for z in redshift]
    return redshift, mass, np.array(density)


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.from_table(*table(), per="ln_mass", support="sharp")


@pytest.fixture(scope="module")
def reference():
    return PriorReference(*table(), per="ln_mass")


def ln_z(reference, lum, error, z, relation, kind):
    """ln of the integral of prior times likelihood; of a measurement it is a density per luminosity.

    Computed once for each object under each relation: several tests have the same.
    """
    known = vars(reference).setdefault("known", {})
    asked = (float(lum), float(error), float(z), kind, *(float(getattr(relation, name)) for name in LAW))
    if asked not in known:
        known[asked] = integrated(reference, lum, error, z, relation, kind)
    return known[asked]


def integrated(reference, lum, error, z, relation, kind):
    """By steps of 0.003 in ln M: with four times as many, values change by less than 1e-5."""
    noise = LinearNoise(reference, lum, error, z, relation, kind)
    ln_mass = np.linspace(noise.ln_mass[0], noise.ln_mass[-1], 2001)
    total = ln_integral(noise.log_pdf(ln_mass) - logsumexp(noise._ln_weight), ln_mass)
    return total - (np.log(error) + 0.5 * np.log(2 * np.pi) if kind == "normal" else 0.0)


def ln_integral(values, ln_mass):
    """The prior ends sharply, where a sum without the halves of its ends would be off."""
    return np.log(np.trapezoid(np.exp(values - values.max()), ln_mass)) + values.max()


def ln_chance(reference, limit, error, z, relation):
    return ln_z(reference, limit, error, z, relation, "above")


def relation_of(**changes):
    return mm.MassLuminosityRelation.create(**(LAW | changes))


RATIO = np.array([5.3, 6.4, 8.0, 11.0, 17.0, 30.0, 90.0, 260.0])
Z = np.array([0.15, 0.7, 0.3, 0.95, 0.5, 0.2, 0.62, 0.4])
LUM = np.exp(relation_of().mean_ln_lum(np.log(4e14), Z)) * np.array([0.8, 1.1, 1.4, 0.7, 1.0, 1.9, 0.5, 1.2])
RELATIONS = [{}, {"alpha1": 1.4, "scatter": 0.35}, {"alpha2": 1.3, "alpha4": 1.1, "scatter": 0.12}]


def catalogue(lum=LUM, ratio=RATIO, z=Z, kind="normal"):
    return mm.HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=1 / ratio, noise_kind=kind)


@jax.jit
def evaluate(likelihood, relation):
    return likelihood(relation)


def value(objects, prior, selection, relation):
    return float(mm.log_likelihood(relation, objects, prior, selection))


@pytest.mark.parametrize("changes", RELATIONS)
def test_measurements_and_limits_against_dense_sums(prior, reference, changes):
    relation = relation_of(**changes)
    kinds = np.array([1, 1, 2, 1, 1, 2, 1, 1], dtype=np.int8)  # codes of NOISE_KINDS
    mixed = replace(catalogue(), noise_code=kinds)
    names = {1: "normal", 2: "upper_limit"}
    exact = [
        ln_z(reference, lum, lum / q, z, relation, names[k]) for lum, q, z, k in zip(LUM, RATIO, Z, kinds, strict=True)
    ]
    found = value(mixed, prior, None, relation)
    assert abs(found - sum(exact)) < 2e-3
    with jax.enable_x64(True):  # made for another scatter
        assert abs(float(evaluate(data_of(mixed, prior, None).likelihood(0.1), relation)) - found) < 1e-3
    # Lognormal objects in the same catalogue.
    plain = replace(catalogue(), noise_code=np.where(np.arange(8) < 3, 0, 1).astype(np.int8))
    own = value(catalogue(LUM[:3], RATIO[:3], Z[:3], "lognormal"), prior, None, relation)
    others = [
        ln_z(reference, lum, lum / q, z, relation, "normal") for lum, q, z in list(zip(LUM, RATIO, Z, strict=True))[3:]
    ]
    assert abs(value(plain, prior, None, relation) - own - sum(others)) < 2e-3


@pytest.mark.parametrize("changes", RELATIONS)
@pytest.mark.parametrize("kind", ["luminosity", "redshift", "signal to noise"])
def test_with_a_limit(prior, reference, changes, kind):
    relation, lum, error = relation_of(**changes), LUM, LUM / RATIO
    if kind == "luminosity":
        selection, limits = mm.FluxLimit(1.5), np.full(8, 1.5)
    elif kind == "redshift":
        selection = mm.RedshiftLimit.tabulated([0.1, 1.0], [0.4, 2.0])
        limits = np.exp(np.asarray(selection.ln_lum_min(Z), dtype=float))
    else:
        selection, limits = mm.SignalToNoiseLimit(5.0), 5 * error
    keep = lum >= limits
    assert keep.sum() >= 4
    rows = [(a, e, z, x) for a, e, z, x, k in zip(lum, error, Z, limits, keep, strict=True) if k]
    exact = sum(
        ln_z(reference, a, e, z, relation, "normal") - ln_chance(reference, x, e, z, relation) for a, e, z, x in rows
    )
    found = value(catalogue(lum[keep], RATIO[keep], Z[keep]), prior, selection, relation)
    assert abs(found - exact) < 3e-3
    without = value(catalogue(lum[keep], RATIO[keep], Z[keep]), prior, None, relation)
    assert abs(without - exact) > 1  # the twin


def test_false_detections_of_very_many_light_halos():
    """With halos from 1e10 Msun on, noise alone lifts more of them over 4 sigma than masses do: they count in A."""
    redshift, mass = np.array([0.0, 1.0]), np.geomspace(1e10, 6e15, 400)
    density = np.array([mass**-1.1 * np.exp(-((mass / 3e14) ** 0.8)) for _ in redshift])
    prior = mm.MassPrior.from_table(redshift, mass, density, per="ln_mass", support="sharp")
    relation, error, z = relation_of(), LUM[:6] / RATIO[:6], Z[:6]
    objects = catalogue(LUM[:6], RATIO[:6], z)
    found = value(objects, prior, None, relation) - value(objects, prior, mm.SignalToNoiseLimit(4.0), relation)

    def sum_of_chances(least):
        table = PriorReference(redshift, mass[mass >= least], density[:, mass >= least], per="ln_mass")
        return sum(ln_chance(table, 4 * e, e, z, relation) for e, z in zip(error, z, strict=True))

    massive = mass >= LIGHTEST
    share = np.trapezoid(density[0][massive], np.log(mass[massive])) / np.trapezoid(density[0], np.log(mass))
    assert abs(found - sum_of_chances(0)) < 0.02
    assert found - (6 * np.log(share) + sum_of_chances(LIGHTEST)) > 2  # the twin: without light halos


def test_the_gradient_is_that_of_the_value(prior):
    start = np.array([1.0, 1.5, 0.4, np.log(0.3)])
    with jax.enable_x64(True):
        likelihood = data_of(catalogue(LUM[:6], RATIO[:6], Z[:6]), prior, mm.SignalToNoiseLimit(5.0)).likelihood(0.1)

        @jax.jit
        @jax.value_and_grad
        def of(x):
            law = dict(zip(("alpha1", "alpha2", "alpha4"), x, strict=False)) | {"scatter": jnp.exp(x[3])}
            return likelihood(relation_of(**law))

        gradient = np.asarray(of(start)[1])
        # Nodes of the quadrature move past the kinks of the prior's table, and the gradient takes them as fixed: over
        # small steps, that error (and single precision) is all of the tolerance.
        step = 2e-2 * np.eye(4)
        differences = np.array([float(of(start + s)[0] - of(start - s)[0]) / 4e-2 for s in step])
    np.testing.assert_allclose(gradient, differences, atol=5e-3)
    assert np.abs(gradient).max() > 0.3


@pytest.mark.parametrize("kind", ["normal", "upper_limit"])
def test_what_mass_likelihoods_add(prior, reference, kind):
    """ln of the mean of each likelihood over the posterior without it, by dense sums; the twin is without the bias."""
    relation, bias = BiasedRelation(**LAW, extra_bias=0.15), 0.15
    nodes = np.linspace(np.log(1e13), np.log(1e16), 200)
    masses = {1: (33.2, 0.3), 2: (34.0, 0.25), 4: (33.5, 0.5)}
    table_ = np.zeros((8, nodes.size))
    exact, twin = 0.0, 0.0
    for row, (mean, sd) in masses.items():
        table_[row] = -0.5 * ((nodes - mean) / sd) ** 2
        own = LinearNoise(reference, LUM[row], LUM[row] / RATIO[row], Z[row], relation, kind)
        ln_mass = np.linspace(own.ln_mass[0], own.ln_mass[-1], 2001)
        density = own.log_pdf(ln_mass)
        for shift, sign in ((bias, 1), (None, -1)):
            added = 0.0 if shift is None else -0.5 * ((ln_mass + shift - mean) / sd) ** 2
            exact += sign * ln_integral(density + added, ln_mass)
            unbiased = 0.0 if shift is None else -0.5 * ((ln_mass - mean) / sd) ** 2
            twin += sign * ln_integral(density + unbiased, ln_mass)
    objects = catalogue(kind=kind)
    before = value(objects, prior, None, relation_of())
    with jax.enable_x64(True):
        data = data_of(objects, prior, None)
        data.extra = ExtraEvidence.of(objects, data.rows, prior, TabulatedTerm(nodes, table_))
        added = float(evaluate(data.likelihood(0.1), relation)) - before
    assert data.extra.number == 3
    assert abs(added - exact) < 3e-3 < 0.1 < abs(added - twin)
    mixed = replace(objects, noise_code=np.array([0, 0, 1, 1, 1, 1, 1, 1], dtype=np.int8))
    with pytest.raises(
        MassmapError, match="3 objects with a mass likelihood have several kinds of noise, lognormal and"
    ):
        ExtraEvidence.of(mixed, np.arange(8), prior, TabulatedTerm(nodes, table_))


def survey(seed, number=9_000, limit=5.0):
    """Objects of the table's mass function above a signal to noise; plain NumPy."""
    rng = np.random.default_rng(seed)
    reference = PriorReference(*table(), per="ln_mass")
    z = rng.uniform(0.1, 0.9, number)
    fine = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 2000)
    ln_mass = np.empty(number)
    for part in np.array_split(np.argsort(z), 60):
        density = np.exp(np.interp(fine, reference.ln_mass, reference.row(z[part].mean())))
        below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        ln_mass[part] = np.interp(rng.uniform(size=part.size), below / below[-1], fine)
    lum = np.exp(
        LAW["alpha1"]
        + LAW["alpha2"] * (ln_mass - np.log(LAW["alpha3"]))
        + LAW["alpha4"] * np.log1p(z)
        + LAW["scatter"] * rng.normal(size=number)
    )
    error = np.exp(rng.normal(np.log(0.3), 0.3, number))
    seen = lum + error * rng.normal(size=number)
    keep = seen > limit * error
    return catalogue(seen[keep], (seen / error)[keep], z[keep])


BELIEFS = {
    "alpha1": dist.Normal(1.6, 1.0), "alpha2": dist.Normal(1.7, 0.5), "alpha4": dist.Normal(0.5, 1.0),
    "scatter": dist.LogNormal(np.log(0.2), 0.5), "alpha3": 3e14,
}  # fmt: skip


def pulls(fit):
    return np.array([(fit.mean[name] - LAW[name]) / fit.sd[name] for name in fit.free])


@pytest.mark.filterwarnings("ignore")
def test_a_fit_finds_the_truth_and_one_with_another_limit_does_not(prior):
    """Each pull is about normal: 5 in any of four has a probability of 2e-6.

    With beliefs centred on the truth and three other keys: at most 0.9. Here they are centred on half of the scatter, from
    which a search takes as many panels for either limit: both run by the same compiled code.
    """
    objects, selection = survey(1), mm.SignalToNoiseLimit(5.0)
    beliefs = BELIEFS | {"scatter": dist.LogNormal(np.log(0.1), 0.7)}
    fit = mm.fit_relation(objects, prior, beliefs, selection=selection)
    assert np.abs(pulls(fit)).max() < 5
    assert fit.selection == "signal to noise of at least 5"
    wrong = mm.fit_relation(objects, prior, beliefs, selection=mm.SignalToNoiseLimit(3.0))
    assert np.abs(pulls(wrong)).max() > 8
    check = mm.prior_check(objects, prior, fit.draws, selection=selection, level=1e-4)
    assert check.fits and np.isfinite(check.pit).all()
    assert not mm.prior_check(objects, prior, fit.draws, level=1e-4).fits


def test_what_it_cannot_take(prior):
    good = catalogue(LUM[:6], RATIO[:6], Z[:6])
    with pytest.raises(MassmapError, match=r"1 objects have a signal to noise below the limit 6, first row 0 \(5.3\)"):
        mm.fit_relation(good, prior, BELIEFS, selection=mm.SignalToNoiseLimit(6.0))
    with pytest.raises(MassmapError, match="not of its ln"):
        mm.fit_relation(catalogue(kind="lognormal"), prior, BELIEFS, selection=mm.SignalToNoiseLimit(5.0))
    smooth = mm.TabulatedSelection([0.0, 1.0], [-2.0, 3.0], [[0.5, 1.0], [0.5, 1.0]])
    with pytest.raises(MassmapError, match="sharp limit, and it is a TabulatedSelection"):
        mm.fit_relation(good, prior, BELIEFS, selection=smooth)
    limits = catalogue(LUM[:6], RATIO[:6], Z[:6], "upper_limit")
    with pytest.raises(MassmapError, match="6 objects have upper limits, first row 0"):
        mm.fit_relation(limits, prior, BELIEFS, selection=mm.FluxLimit(0.1))
    with pytest.raises(MassmapError, match="needs a power law"):
        mm.prior_check(good, prior, published_relation("smhm_moster13", scatter=Value(0.35)))
    for bad in (0, -1, np.nan, [5.0, 6.0]):
        with pytest.raises(MassmapError, match="limit in signal to noise is"):
            mm.SignalToNoiseLimit(bad)
