"""Populations: their normalisation and evidence against SciPy's integrals, and the bounds that panels rest on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import CubicSpline
from scipy.special import log_ndtr, logsumexp

from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws, _without_kinks, check_base

VALUES = {
    "centre": 32.4,
    "drift_ln_z": 0.6,
    "drift_ln_1z": -0.8,
    "width": 0.35,
    "skewness": 2.5,
    "offset_2": 0.7,
    "width_2": 0.2,
    "logit_2": -0.4,
}
FORMS = [
    Population.hmf_completeness(),
    Population.gaussian(),
    Population.skew_normal(drift=False),
    Population.mixture(2),
    Population.fixed(),
]
PIVOT_Z = 0.4


@pytest.fixture(scope="module")
def prior():
    with jax.enable_x64(True):
        return jax.tree.map(np.array, MassPrior.default())


def made(population, prior, **changes):
    return PopulationDraws.of(population, VALUES | changes, PIVOT_Z, Lattice.of(prior))


def centre_at(population, z, values=VALUES):
    drift = values["drift_ln_z"] * np.log(z / PIVOT_Z) + values["drift_ln_1z"] * np.log((1 + z) / (1 + PIVOT_Z))
    return values["centre"] + (drift if population.drift else 0.0)


def density(population, prior, ln_mass, z, values=VALUES):
    """p(ln M | z) by NumPy alone, from the prior's table at one redshift."""
    row = np.asarray(prior.ln_density_at(z))
    base = np.exp(np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), row))
    middle, w = centre_at(population, z, values), values["width"]
    if population.kind == "fixed":
        return base
    if population.kind == "gaussian":
        return stats.norm(middle, w).pdf(ln_mass)
    if population.kind == "skew_normal":
        return stats.skewnorm(values["skewness"], middle, w).pdf(ln_mass)
    if population.kind == "mixture":
        share = np.exp(np.array([0.0, values["logit_2"]]) - logsumexp([0.0, values["logit_2"]]))
        second = stats.norm(middle + values["offset_2"], values["width_2"]).pdf(ln_mass)
        return share[0] * stats.norm(middle, w).pdf(ln_mass) + share[1] * second
    value = base * np.exp(log_ndtr((ln_mass - middle) / w))
    fine = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 60_001)
    whole = np.exp(np.interp(fine, np.asarray(prior.ln_mass_nodes), row) + log_ndtr((fine - middle) / w))
    return value / np.trapezoid(whole, fine)


@pytest.mark.parametrize("population", FORMS, ids=lambda p: p.kind)
def test_density_evidence_and_bounds(population, prior):
    with jax.enable_x64(True):
        draws = made(population, prior)

        @jax.jit
        def of(centre, z, width):
            evidence = draws.log_evidence_of_row(prior, prior.ln_density_at(z), centre, z, width)
            return evidence, *draws.posterior_range(prior, z, centre, width)

        fine = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 40_001)
        for z in (0.05, 0.4, 1.3):
            row = prior.ln_density_at(z)
            ln_mass = np.linspace(31.0, 34.5, 40)
            base = np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), np.asarray(row))
            alone = density(population, prior, fine, z)
            found = np.asarray(draws.ln_density(base, ln_mass, z))
            np.testing.assert_allclose(found, np.log(density(population, prior, ln_mass, z)), atol=1e-3)
            for centre, width in ((32.0, 0.15), (33.2, 0.5), (33.0, 1.0)):
                product = alone * stats.norm(centre, width).pdf(fine)
                expected = np.log(np.trapezoid(product, fine))
                evidence, low, high, narrowest = of(centre, z, width)
                assert float(evidence) == pytest.approx(expected, abs=1.5e-3)
                inside = (fine >= float(low)) & (fine <= float(high))
                # Nothing that counts lies outside of the range.
                assert np.trapezoid(np.where(inside, 0.0, product), fine) < 1e-8 * np.trapezoid(product, fine)
                assert 0 < float(narrowest) <= float(high - low)


def test_the_gradient_of_the_evidence_is_that_of_its_values(prior):
    """To 1e-5, as a sum over 100,000 objects needs; with the kinks of the table, the twin, it is not."""
    draws = made(Population.hmf_completeness(), prior)
    centre, step = np.linspace(31.0, 33.0, 400), 1e-4

    def mismatch(interpolate):
        with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
            patch.setattr("massmap_jax.prior.population._without_kinks", interpolate)
            row = prior.ln_density_at(0.4)
            both = jax.jit(jax.vmap(jax.value_and_grad(lambda c: draws.log_evidence_of_row(prior, row, c, 0.4, 0.35))))
            found = (both(centre + step)[0] - both(centre - step)[0]) / (2 * step) - both(centre)[1]
            return np.sqrt(np.mean(np.asarray(found) ** 2))

    assert (
        mismatch(_without_kinks) < 1e-5 < 3e-5 < mismatch(lambda prior, row, ln_mass: prior.interpolate(row, ln_mass))
    )


@pytest.mark.parametrize("own_width", [0.05, 0.2, 1.0])
def test_evidence_is_accurate_and_does_not_jump(own_width, prior):
    """A search over the sum of many objects fails where a single one jumps by as little as 1e-5."""
    with jax.enable_x64(True):
        draws = made(Population.hmf_completeness(), prior, width=own_width)
        nodes = np.asarray(prior.ln_mass_nodes)
        fine = np.linspace(nodes[0], nodes[-1], 200_001)
        z = jnp.asarray(0.4)
        row = prior.ln_density_at(z)
        middle = float(draws.centre_at(z))
        # Without the kinks of the table: its nodes, and a smooth curve through them.
        ln_base = CubicSpline(nodes, np.asarray(row))(fine) + log_ndtr((fine - middle) / own_width)
        evidence = jax.jit(
            lambda centre, width: jax.vmap(lambda c: draws.log_evidence_of_row(prior, row, c, z, width))(centre)
        )
        for width in (0.05, 0.3, 1.0):
            centres = np.linspace(middle - 4.0, middle + 3.0, 8)
            expected = [
                logsumexp(ln_base - 0.5 * ((fine - c) / width) ** 2) + np.log((fine[1] - fine[0]) / width)
                for c in centres
            ]
            expected = np.array(expected) - 0.5 * np.log(2 * np.pi) - float(draws.ln_norm_at(z))
            np.testing.assert_allclose(evidence(centres, width), expected, atol=1e-3 if own_width < width / 4 else 3e-4)
            steps = np.asarray(evidence(middle - 1.0 + 1e-4 * np.arange(1000), width))
            assert np.abs(np.diff(steps, 2)).max() < 1e-6 + 3 * (1e-4 / min(width, own_width)) ** 2


@pytest.mark.parametrize("population", FORMS, ids=lambda p: p.kind)
def test_one_range_serves_all_draws(population, prior):
    """Nothing that counts of any draw lies outside, and the range is not much longer than that of all of them."""
    rng, number = np.random.default_rng(2), 12
    sd = {"centre": 0.2, "width": 0.1, "skewness": 1.0, "width_2": 0.05}
    fine = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    with jax.enable_x64(True):
        base = Lattice.of(prior)
        values = {p: VALUES[p] + sd.get(p, 0.2) * rng.uniform(-1, 1, number) for p in population.parameters}
        batch = jax.vmap(lambda v, z_p: PopulationDraws.of(population, v, z_p, base))(values, np.full(number, 0.4))
        find = jax.jit(lambda c, z, w: (batch.range_of_draws(prior, z, c, w), jax.vmap(
            lambda p, c, w: p.posterior_range(prior, z, c, w))(batch, c, w)))  # fmt: skip
        for middle, z in ((30.0, 0.1), (32.5, 0.5), (35.5, 1.5)):
            centre, width = middle + 0.3 * rng.normal(size=number), rng.uniform(0.1, 0.8, number)
            (low, high, narrowest), each = find(centre, jnp.asarray(z), width)
            outside = (fine < float(low)) | (fine > float(high))
            for j in range(number):
                own = VALUES | {p: v[j] for p, v in values.items()}
                product = density(population, prior, fine, z, own) * stats.norm(centre[j], width[j]).pdf(fine)
                assert product[outside].sum() < 1e-8 * product.sum()
            longest = float(each[1].max() - each[0].min())
            assert longest * 0.8 < float(high - low) < longest + 2.0
            assert 0.3 * float(each[2].min()) < float(narrowest) <= 1.2 * float(each[2].min())


def test_a_batch_is_its_draws(prior):
    population = Population.hmf_completeness()
    with jax.enable_x64(True):
        base = Lattice.of(prior)
        values = {p: np.array([VALUES[p], VALUES[p] + 0.1]) for p in population.parameters}
        batch = jax.vmap(lambda v: PopulationDraws.of(population, v, PIVOT_Z, base))(values)
        one = made(population, prior, **{p: v[1] for p, v in values.items()})
        np.testing.assert_allclose(batch.ln_norm[1], one.ln_norm, rtol=1e-12)


def test_another_mass_prior_is_refused(prior):
    class Relation:
        population = made(Population.hmf_completeness(), prior)

    check_base(Relation, prior)
    check_base(object(), prior)
    check_base(Relation, MassPrior.default())  # the same table in float32
    other = MassPrior.from_table([0.0, 1.0], np.geomspace(1e12, 1e15, 31), np.ones((2, 31)), per="ln_mass")
    with pytest.raises(MassmapError, match="another mass prior"):
        check_base(Relation, other)


@pytest.mark.parametrize(
    ("text", "kind", "parameters"),
    [("gaussian", "gaussian", 4), ("mixture:3", "mixture", 10), ("hmf_completeness,drift=no", "hmf_completeness", 2)],
)
def test_parse(text, kind, parameters):
    population = Population.parse(text)
    assert population.kind == kind and len(population.parameters) == parameters


@pytest.mark.parametrize("text", ["gauss", "mixture:x", "gaussian,drift=maybe", "gaussian:3", ""])
def test_parse_refuses(text):
    with pytest.raises(MassmapError):
        Population.parse(text)


def test_unknown_parameters_are_refused():
    with pytest.raises(MassmapError, match="no parameter 'middle'"):
        Population.gaussian(beliefs={"middle": 3.0})
