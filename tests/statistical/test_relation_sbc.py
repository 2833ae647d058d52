"""Is the fitted relation calibrated? Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788).

A relation is drawn from its prior, a field from the relation, the relation is fitted, and the rank of the truth among
the posterior's draws is uniform if all is right. MASSMAP_TEST_FIELDS=500 runs more fields than the suite does.
Redshifts are the same in every field (the fit conditions on them); masses and luminosities come from the raw table in
plain NumPy. The twins simulate with a mistake.
"""

import os
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from reference.posterior_reference import Relation
from scipy.stats import kstest

from massmap_jax.likelihood.selection import FluxLimit
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.marginal import RelationLikelihood
from massmap_jax.relation.nuts import run_nuts
from massmap_jax.relation.search import maximise, negative_log_density

from . import universe
from .two_keys import LEVEL, check_with_two_keys, smallest

pytestmark = pytest.mark.slow
PIVOT = 2.35e14
BELIEFS = {"alpha1": (10.709, 0.022), "alpha2": (0.359, 0.009), "alpha4": (1.10, 0.06), "scatter": (0.155, 0.01)}
NAMES = tuple(BELIEFS)
LN_LIMIT = 9.3  # about the brightest quarter of the objects
NUM_FIELDS, BATCHES = int(os.environ.get("MASSMAP_TEST_FIELDS", "200")), 10  # fields in hundreds
NUM_LIMITED = 100 if NUM_FIELDS == 200 else NUM_FIELDS  # with NUTS and a limit each field costs the most
DRAWS, NUTS_DRAWS = 63, 31
AT_ONCE = 50  # fields of one compiled call, and of a twin: all of its batches of ten are found, by far


def relation_prior():
    return RelationPrior({name: dist.Normal(*belief) for name, belief in BELIEFS.items()}, alpha3=PIVOT)


def redshifts(number, distinct):
    return np.tile(np.linspace(0.05, 3.4, distinct) if distinct > 1 else [0.7], number // distinct)


def draw_fields(rng, z, number, *, limit=None, scatter_factor=1.0, cell_width=True):
    """True relations (field, 4) and ln L_obs (field, halo); with a limit, each object is drawn until it passes."""
    truths = np.array([[rng.normal(*BELIEFS[name]) for name in NAMES] for _ in range(number)])
    draw_mass = universe.REFERENCE.sample if cell_width else universe.REFERENCE.sample_without_cell_width
    ln_lum = np.full((number, z.size), -np.inf)
    field, halo = (index.ravel() for index in np.indices(ln_lum.shape))  # those still to be drawn
    while field.size:
        alpha1, alpha2, alpha4, scatter = truths[field].T
        mean = alpha1 + alpha2 * (draw_mass(rng, z[halo]) - np.log(PIVOT)) + alpha4 * np.log1p(z[halo])
        spread = np.hypot(scatter_factor * scatter, universe.SIGMA)
        drawn = mean + spread * rng.standard_normal(mean.size)
        ln_lum[field, halo] = drawn
        again = drawn < (-np.inf if limit is None else limit)
        field, halo = field[again], halo[again]
    return truths, ln_lum


def prepared(z, ln_lum, selection=None):
    """Coordinates and likelihood (G tabulated) that serve every one of these fields; only ln L_obs differs."""
    prior = universe.package_prior()
    beliefs = relation_prior()
    likelihood = RelationLikelihood.build(universe.catalogue(ln_lum[0], z), prior, selection, scatter=0.1)
    assert not likelihood.compressed
    coordinates = Coordinates.at(beliefs, np.array([np.log(1e12)]), z)
    offsets = np.array([[s * k for k in belief] for s in (-7, 7) for belief in [[v[1] for v in BELIEFS.values()]]])
    mean = np.array([belief[0] for belief in BELIEFS.values()])
    corners = [mean] + [mean + np.where(np.arange(4) == i, o, 0) for o in offsets for i in range(4)]
    ends = np.resize([ln_lum.min(), ln_lum.max()], likelihood.z.size)
    wide = eqx.tree_at(lambda s: s.ln_lum_obs, likelihood, ends)
    table = wide.with_table(beliefs.relation(dict(zip(NAMES, np.array(corners).T, strict=True))))
    return coordinates, eqx.tree_at(lambda s: s.ln_lum_obs, table, likelihood.ln_lum_obs)


def with_data(likelihood, ln_lum):
    """The likelihood of other luminosities (..., halo); it is filled up with halos of weight 0."""
    missing = likelihood.z.size - ln_lum.shape[-1]
    filled = jnp.concatenate([ln_lum, jnp.repeat(ln_lum[..., -1:], missing, axis=-1)], axis=-1)
    return eqx.tree_at(lambda s: s.ln_lum_obs, likelihood, filled)


@jax.jit
def laplace(coordinates, likelihood, fields):
    """Maximum (field, 4) and root of the covariance (field, 4, 4)."""
    start = coordinates.place(coordinates.prior.beliefs | {n: jnp.asarray(b[0]) for n, b in BELIEFS.items()})

    def one(ln_lum):
        best = maximise(coordinates, with_data(likelihood, ln_lum), start)
        return best.x, jnp.linalg.cholesky(jnp.linalg.inv(best.hessian)), best.ended

    return jax.lax.map(one, fields)


def ranks_of(draws, truths):
    """Rank of each truth, made continuous, in (0, 1); draws (field, draw, 4)."""
    rng = np.random.default_rng(1)
    below = (draws < truths[:, None, :]).sum(axis=1)
    return (below + rng.uniform(size=below.shape)) / (draws.shape[1] + 1)


def at_alpha3(coordinates, x):
    values = jax.jit(Coordinates.values)(coordinates, x)
    return np.stack([np.asarray(values[name]) for name in NAMES], axis=-1)


def laplace_ranks(rng, z, number, *, fit_limit=None, **mistake):
    truths, ln_lum = draw_fields(rng, z, number, **mistake)
    selection = None if fit_limit is None else FluxLimit(float(np.exp(fit_limit)))
    with jax.enable_x64(True):
        coordinates, likelihood = prepared(z, ln_lum, selection)
        parts = [laplace(coordinates, likelihood, part) for part in np.split(ln_lum, number // AT_ONCE)]
        best, root, ended = (np.concatenate(a) for a in zip(*parts, strict=True))
        assert ended.all()
        normals = rng.standard_normal((number, DRAWS, 4))
        draws = at_alpha3(coordinates, best[:, None] + np.einsum("fij,fdj->fdi", root, normals))
    return ranks_of(draws, truths)


def p_values(ranks):
    return {name: kstest(ranks[:, i], "uniform").pvalue for i, name in enumerate(NAMES)}


def batch_p(ranks, batches=BATCHES):
    """Bonferroni p value of each of the batches of fields."""
    return [min(1.0, 4 * min(p_values(part).values())) for part in np.array_split(ranks, batches)]


def p_of_ranks(name, ranks):
    """One p value of the ranks of all parameters, by KS."""
    p = p_values(ranks)
    print(f"\n{name}: {ranks.shape[0]} fields, rank KS p " + ", ".join(f"{k} {v:.3f}" for k, v in p.items()))
    return smallest(list(p.values()))


@cache
def ranks_of_laplace(key):
    return laplace_ranks(np.random.default_rng([20, key]), redshifts(2000, 50), NUM_FIELDS)


def p_of_laplace(key):
    return p_of_ranks("Laplace", ranks_of_laplace(key))


@cache
def ranks_of_laplace_with_a_flux_limit(key):
    rng = np.random.default_rng([21, key])
    return laplace_ranks(rng, redshifts(2000, 10), NUM_FIELDS, limit=LN_LIMIT, fit_limit=LN_LIMIT)


def p_of_laplace_with_a_flux_limit(key):
    return p_of_ranks("Laplace, flux limit", ranks_of_laplace_with_a_flux_limit(key))


def test_laplace_at_2000_halos():
    check_with_two_keys(p_of_laplace)
    z = redshifts(2000, 50)
    rng = np.random.default_rng(20)
    wrong = {
        "scatter 10 % too small": batch_p(laplace_ranks(rng, z, 2 * AT_ONCE, scatter_factor=0.9), AT_ONCE // 10),
        "masses drawn without the cell width": batch_p(laplace_ranks(rng, z, AT_ONCE, cell_width=False), AT_ONCE // 10),
    }
    false_alarms, power = universe.report("Laplace at 2,000 halos", batch_p(ranks_of_laplace(0)), wrong, LEVEL)
    assert false_alarms <= 1  # of 10 at 0.001: p = 4e-5 for more
    assert min(power.values()) >= 0.99


def test_laplace_at_2000_halos_with_a_flux_limit():
    check_with_two_keys(p_of_laplace_with_a_flux_limit)
    z = redshifts(2000, 10)
    rng = np.random.default_rng(21)
    # Searches without the selection walk far, and cost most of this test.
    without = laplace_ranks(rng, z, AT_ONCE, limit=LN_LIMIT)
    wrong = {"fitted without its selection": batch_p(without, AT_ONCE // 10)}
    false_alarms, power = universe.report("Flux-limited", batch_p(ranks_of_laplace_with_a_flux_limit(0)), wrong, LEVEL)
    assert false_alarms <= 1
    assert min(power.values()) >= 0.99


def p_of_nuts(key, limit, distinct, number):
    """Rank KS of a field's NUTS fit. Each key has fields of its own, and chains."""
    # A is integrated at each redshift, at every step of every field: with a limit, one redshift.
    z = redshifts(50, distinct)
    rng = np.random.default_rng([22, key])
    truths, ln_lum = draw_fields(rng, z, number, limit=limit)
    selection = None if limit is None else FluxLimit(float(np.exp(limit)))
    with jax.enable_x64(True):
        coordinates, likelihood = prepared(z, ln_lum, selection)
        best, root, _ = laplace(coordinates, likelihood, ln_lum)
        model = (coordinates, with_data(likelihood, ln_lum), np.asarray(best), np.asarray(root))
        shared = jax.tree.map(lambda _: None, likelihood)
        axes = (None, eqx.tree_at(lambda s: s.ln_lum_obs, shared, 0, is_leaf=lambda x: x is None), 0, 0)
        start = 0.5 * rng.standard_normal((number, 4))
        chain_key = jax.random.key(int(rng.integers(2**31)))
        # Fields advance in step: short trees, so that none keeps the others waiting.
        settings = {"num_warmup": 100, "num_samples": 3 * NUTS_DRAWS, "max_tree_depth": 3, "model_axes": axes}
        chains = run_nuts(chain_key, negative_log_density, model, start, **settings)
        x = model[2][:, None] + np.einsum("fij,fdj->fdi", model[3], chains.draws[:, ::3])
        ranks = ranks_of(at_alpha3(coordinates, x), truths)
    print(f"\ndivergences {chains.divergences.sum()}, {chains.steps_per_draw:.1f} steps a draw")
    return p_of_ranks(f"NUTS at 50 halos, limit {limit}", ranks)


@pytest.mark.parametrize(("limit", "distinct", "number"), [(None, 5, NUM_FIELDS), (LN_LIMIT, 1, NUM_LIMITED)])
def test_nuts_at_50_halos(limit, distinct, number):
    check_with_two_keys(lambda key: p_of_nuts(key, limit, distinct, number))


def test_masses_are_calibrated_with_the_fitted_relation():
    """PIT of 5e4 true masses, 25 fields, each with a relation of its own, fitted: uniform in bins of (z, L_obs)."""
    rng = np.random.default_rng(23)
    z = rng.choice(universe.REDSHIFTS, 2000)
    pits, ln_lums, number = [], [], 25
    for _ in range(number):
        truth = {name: rng.normal(*belief) for name, belief in BELIEFS.items()}
        relation = Relation(**truth, alpha3=PIVOT)
        ln_mass = universe.REFERENCE.sample(rng, z)
        spread = np.hypot(relation.scatter, universe.SIGMA)
        ln_lum = relation.mean_ln_lum(ln_mass, z) + spread * rng.standard_normal(z.size)
        with pytest.warns(UserWarning, match="no selection"):
            fit = fit_relation(
                universe.catalogue(ln_lum, z),
                universe.package_prior(),
                relation_prior(),
                num_draws=32,
                key=jax.random.key(int(rng.integers(2**31))),
            )
        posterior = universe.posterior_of(ln_lum, z, fit.draws, relation_from="this_catalogue")
        pits.append(posterior.cdf(ln_mass))
        ln_lums.append(ln_lum)
    pit, ln_lum = np.concatenate(pits), np.concatenate(ln_lums)
    p = universe.smallest_p_value(pit, ln_lum, np.tile(z, number))
    print(f"\n{pit.size} objects, smallest p {p:.3g}")
    assert p > 1e-5
    # The relation's error is common to a field: the unit of the error bar is the field.
    for tail, level in ((0.16, 0.68), (0.025, 0.95)):
        inside = ((pit > tail) & (pit < 1 - tail)).reshape(number, -1).mean(axis=1)
        error = inside.std(ddof=1) / np.sqrt(number)
        print(f"coverage {100 * inside.mean():.2f} +- {100 * error:.2f} %")
        # Student's t of 25 fields: 2e-5 for more
        assert abs(inside.mean() - level) < 5.2 * error
