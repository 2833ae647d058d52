"""The tabulated quantile function against the exact one of a plain NumPy reference, and what map draws make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.posterior_reference import Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.special import ndtr
from scipy.stats import kstest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.quantile_table import QuantileTable
from massmap_jax.maps.samples import MassSamples
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

REDSHIFT, MASS, DENSITY = schechter_table()
REFERENCE = PriorReference(REDSHIFT, MASS, DENSITY, per="mass")
ENDS = np.log(MASS[[0, -1]])
WIDTH, Z = (0.3, 0.6), (0.6, 1.6)
DIRECT = dict(alpha1=0.0, alpha2=1.0, alpha3=1.0, alpha4=0.0, scatter=0.0)


@pytest.fixture(scope="module")
def prior():
    return MassPrior.from_table(REDSHIFT, MASS, DENSITY)


@pytest.fixture(scope="module")
def table(prior):
    return QuantileTable.build(prior, Z, WIDTH)


def look_up(table, *numbers):
    return np.asarray(jax.jit(jax.vmap(table))(*(jnp.asarray(a, dtype=jnp.float32) for a in numbers)))


def some_objects(number, seed=0):
    """Scores and objects, a third of them within 6 widths of an end of the masses."""
    rng = np.random.default_rng(seed)
    width, z = np.exp(rng.uniform(*np.log(WIDTH), number)), rng.uniform(*Z, number)
    x = rng.uniform(*ENDS, number)
    at_end = np.arange(number) % 6
    x[at_end == 0] = ENDS[0] + (width * rng.uniform(-6, 6, number))[at_end == 0]
    x[at_end == 1] = ENDS[1] + (width * rng.uniform(-6, 6, number))[at_end == 1]
    return np.clip(rng.normal(size=number), -4.5, 4.5), x, z, width


def test_against_exact_cells(table):
    score, x, z, width = some_objects(1200)
    one = [SingleDraw(REFERENCE, x[i], width[i], z[i], Relation(**DIRECT)) for i in range(x.size)]
    exact = np.array([o.quantile(ndtr(e)) if e < 0 else upper_quantile(o, ndtr(-e)) for o, e in zip(one, score)])
    sd = np.array([o.sd for o in one])
    off = (look_up(table, score, x, z, width) - exact) / sd
    print(f"table: error rms {off.std():.4f} sd, mean {off.mean():.5f}, largest {np.abs(off).max():.4f}")
    assert np.isfinite(off).all()
    assert off.std() < 0.003 and abs(off.mean()) < 1e-3 and np.abs(off).max() < 0.04


def upper_quantile(one, upper):
    """`quantile` from the upper tail, which 1 - p rounds away."""
    from scipy.optimize import brentq

    return brentq(lambda m: upper - (1 - one.cdf(m)), *ENDS, xtol=1e-12)


def test_numbers_do_not_depend_on_the_range(prior, table):
    """An object's mass must not change with the rest of its catalogue."""
    wider = QuantileTable.build(prior, (Z[0], 2.0), (0.8 * WIDTH[0], 1.2 * WIDTH[1]))
    assert wider.values.shape[0] > table.values.shape[0] and wider.values.shape[2] > table.values.shape[2]
    objects = some_objects(2000, seed=1)
    np.testing.assert_allclose(look_up(wider, *objects), look_up(table, *objects), rtol=1e-6)
    assert wider.holds(prior, Z, WIDTH) and not table.holds(prior, Z, (WIDTH[0], 2 * WIDTH[1]))
    assert not table.holds(prior, (Z[0], REDSHIFT[-1]), WIDTH)
    z, width = table.united((0.05, 1.0), (0.2, 0.7))
    assert z[0] == 0.05 and z[1] >= Z[1] and width[0] == 0.2 and width[1] == 0.7
    assert wider.holds(prior, *wider.united(Z, WIDTH))


def test_outside_is_nan(table):
    x = np.array([ENDS[0] - 8 * 0.7, 30.0, 30.0, 30.0])
    width = np.array([0.5, 0.05, 2.0, 0.4])
    found = look_up(table, np.zeros(4), x, np.full(4, 1.0), width)
    assert np.isnan(found[:3]).all() and np.isfinite(found[3])


# -- draws for a map -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relations():
    rng = np.random.default_rng(2)
    return MassLuminosityRelation.create(
        alpha1=10.709 + 0.02 * rng.normal(size=64),
        alpha2=0.359 + 0.005 * rng.normal(size=64),
        alpha3=2.35e14,
        alpha4=1.1,
        scatter=0.155,
    )


def halos_of(lum, z, sigma):
    catalogue = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=sigma)
    return Objects.of(catalogue, np.arange(len(catalogue)), MassPrior.default())


def drawn(draws, halos):
    out = np.full((halos.sigma.size, draws.num_draws), np.nan)
    for rows, ln_mass in draws(halos):
        assert np.isnan(out[rows]).all(), "an object came twice"
        out[rows] = ln_mass
    return out


def test_table_and_integrals_draw_the_same_masses(prior, relations):
    """Draw by draw, the same scores; objects beyond the table are integrated."""
    rng = np.random.default_rng(3)
    z, sigma = rng.uniform(0.6, 1.6, 400), rng.uniform(0.03, 0.1, 400)
    ln_mass = rng.uniform(26, 34, 400)
    lum = np.exp(10.709 + 0.359 * (ln_mass - np.log(2.35e14)) + 1.1 * np.log1p(z) + 0.16 * rng.normal(size=400))
    lum[7] *= 1e-6  # 40 in ln M below the lightest
    halos = halos_of(lum, z, sigma)
    exact, table = (drawn(MassSamples(prior, relations, jax.random.key(0), m), halos) for m in ("exact", "table"))
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[7], exact[7], rtol=1e-5)
    off = (table - exact) / exact.std(axis=1, keepdims=True)
    off = np.delete(off, 7, axis=0)
    print(f"draws: error rms {off.std():.4f} sd, mean {off.mean():.5f}, largest {np.abs(off).max():.4f}")
    assert off.std() < 0.002 and abs(off.mean()) < 7e-4
    # In parts, and in another order, the same masses to the last bit.
    order = rng.permutation(400)
    parts = MassSamples(prior, relations, jax.random.key(0), "table")
    for rows in np.split(order, [50, 51, 300]):
        np.testing.assert_allclose(drawn(parts, halos.take(rows)), table[rows], rtol=1e-6)


def test_draws_follow_the_density(prior):
    """10^6 draws of one object's mass; a table that neglects the curvature of the quantiles is found out."""
    number = 2**20
    relation = MassLuminosityRelation.create(**(DIRECT | dict(alpha1=np.zeros(256), scatter=0.0)))
    x, z, width = ENDS[0] + 0.6, 1.3, 0.35
    halos = halos_of(np.full(number // 256, np.exp(x)), np.full(number // 256, z), width)
    exact = SingleDraw(REFERENCE, x, width, z, Relation(**DIRECT))
    nodes = np.linspace(ENDS[0], ENDS[0] + 5, 4001)
    cdf = np.array([exact.cdf(m) for m in nodes])
    ln_mass = drawn(MassSamples(prior, relation, jax.random.key(1), "table"), halos).ravel()
    p = kstest(np.interp(ln_mass, nodes, cdf), "uniform").pvalue
    normal = exact.mean + exact.sd * np.random.default_rng(0).normal(size=number)
    p_normal = kstest(np.interp(normal, nodes, cdf), "uniform").pvalue
    print(f"KS p of 2^20 draws {p:.3f}; of a normal of the same mean and sd {p_normal:.1g}")
    assert p > 1e-5 and p_normal < 1e-6


def test_no_noise_and_no_scatter_are_integrated(prior):
    """w = 0 has no logarithm; absurd errors of single objects leave the others, and the table's size, alone."""
    relation = MassLuminosityRelation.create(**(DIRECT | dict(alpha1=np.zeros(64))))
    sigma = np.full(400, 0.45)
    sigma[[3, 5]] = 1e-6, 40.0
    halos = halos_of(np.full(400, np.exp(30.0)), np.full(400, 1.2), sigma)
    draws = MassSamples(prior, relation, jax.random.key(0), "table")
    found = drawn(draws, halos)
    assert np.isfinite(found).all() and np.abs(found[3] - 30.0).max() < 1e-3
    assert draws.table.values.shape[0] < 40 and found[5].std() > found[0].std()
