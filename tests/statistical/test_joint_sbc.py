"""Simulation-based calibration of the joint fit of relation, calibration and population, with twins that must fail.

Universes are drawn from the beliefs, catalogues from the universes by NumPy alone, and the rank of each true parameter
among posterior draws must be uniform. MASSMAP_TEST_SBC=400 runs more simulations.
"""

import os

import equinox as eqx
import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import log_ndtr, ndtr
from scipy.stats import kstest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.contradiction import contradiction
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.fitted import CONTRADICTION_LEVEL
from massmap_jax.relation.joint import JointLikelihood, JointPrior
from massmap_jax.relation.search import covariance_of, maximise, potentials
from massmap_jax.relation.selected_on import SelectedOnMass
from statistical.two_keys import check_with_two_keys, smallest

SIMULATIONS = int(os.environ.get("MASSMAP_TEST_SBC", "60"))
OBJECTS, DRAWS = 150, 49
PIVOT_Z, ALPHA3, ERROR_CORRELATION = 0.4, 3e14, 0.4
RELATION = {
    "alpha1": dist.Normal(1.0, 0.4),
    "alpha2": dist.Normal(0.8, 0.1),
    "alpha4": dist.Normal(1.0, 0.5),
    "scatter": dist.LogNormal(np.log(0.3), 0.2),
}
MEASURED = {
    "bias": dist.Normal(0.1, 0.05),
    "mass_scatter": dist.LogNormal(np.log(0.15), 0.2),
    "correlation": dist.TruncatedNormal(0.3, 0.2, low=-1.0, high=1.0),
}
POPULATION = Population.hmf_completeness(
    beliefs={
        "centre": dist.Normal(32.6, 0.3),
        "drift_ln_z": dist.Normal(0.4, 0.3),
        "drift_ln_1z": dist.Normal(0.0, 0.5),
        "width": dist.LogNormal(np.log(0.35), 0.2),
    }
)


class Model:
    """The prior, the beliefs and the compiled search, made once."""

    def __init__(self):
        with jax.enable_x64(True):
            self.prior = jax.tree.map(np.array, MassPrior.default())
            relation_prior = RelationPrior(RELATION, ALPHA3)
            self.joint = JointPrior.of(relation_prior, MEASURED, POPULATION, (32.9, PIVOT_Z), self.prior)
            self.coordinates = Coordinates.at(self.joint, 32.9, PIVOT_Z)
            self.start = np.asarray(self.coordinates.place(self.joint.central()))
            self.rows = jax.jit(jax.vmap(self.prior.ln_density_at))


@pytest.fixture(scope="module")
def model():
    return Model()


def universe(joint, key):
    """One set of parameters from the beliefs."""
    with jax.enable_x64(True):
        return {p: float(v) for p, v in joint.sample(key).items()}


def catalogue(model, rng, truth, number):
    """ln L_obs, ln M_obs, sigma, sigma_mass and z of objects from one universe, by NumPy."""
    prior = model.prior
    nodes, z_nodes = np.asarray(prior.ln_mass_nodes), np.asarray(prior.redshift_nodes)
    t = np.linspace(31.0, 35.5, 2001)
    # The prior's table is linear in z and in ln M.
    table = np.stack([np.interp(t, nodes, row) for row in np.asarray(prior.ln_density)])
    found = []
    while sum(f.shape[1] for f in found) < number:
        z = rng.uniform(0.1, 0.9, number)
        upper = np.clip(np.searchsorted(z_nodes, z), 1, z_nodes.size - 1)
        share = (z - z_nodes[upper - 1]) / (z_nodes[upper] - z_nodes[upper - 1])
        ln_base = (1 - share)[:, None] * table[upper - 1] + share[:, None] * table[upper]
        centre = truth["population_centre"] + truth["population_drift_ln_z"] * np.log(z / PIVOT_Z)
        centre += truth["population_drift_ln_1z"] * np.log((1 + z) / (1 + PIVOT_Z))
        ln_p = ln_base + log_ndtr((t - centre[:, None]) / truth["population_width"])
        cdf = np.cumsum(np.exp(ln_p - ln_p.max(axis=1, keepdims=True)), axis=1)
        u = rng.random(number) * cdf[:, -1]
        ln_mass = np.array([np.interp(x, c, t) for x, c in zip(u, cdf, strict=True)])
        sigma, sigma_mass = rng.uniform(0.05, 0.2, number), rng.uniform(0.15, 0.35, number)
        first, second = rng.normal(size=(2, 2, number))
        second[0] = truth["correlation"] * first[0] + np.sqrt(1 - truth["correlation"] ** 2) * second[0]
        second[1] = ERROR_CORRELATION * first[1] + np.sqrt(1 - ERROR_CORRELATION**2) * second[1]
        y = truth["alpha1"] + truth["alpha2"] * (ln_mass - np.log(ALPHA3)) + truth["alpha4"] * np.log1p(z)
        y += truth["scatter"] * first[0] + sigma * first[1]
        m = ln_mass + truth["bias"] + truth["mass_scatter"] * second[0] + sigma_mass * second[1]
        keep = np.ones(number, bool)
        if "selection_width" in truth:
            ln_m50 = truth["selection_ln_threshold"] + truth["selection_evolution"] * np.log1p(z)
            keep = rng.random(number) < ndtr((m - ln_m50) / truth["selection_width"])
        found.append(np.stack([y, m, sigma, sigma_mass, z, ln_mass])[:, keep])
    return np.concatenate(found, axis=1)[:, :number]


def likelihood_of(model, columns, *, rho=ERROR_CORRELATION, selection=None, has_mass=None):
    y, m, sigma, sigma_mass, z, _ = columns
    number = y.size
    return JointLikelihood(
        ln_lum_obs=y, sigma=sigma, ln_mass_obs=m, sigma_mass=sigma_mass, error_correlation=np.full(number, rho),
        has_mass=np.ones(number, bool) if has_mass is None else has_mass, z=z, weight=np.ones(number),
        row=np.arange(number), ln_prior=np.asarray(model.rows(z)), redshift=z, prior=model.prior,
        selection=NoSelection() if selection is None else selection, constant=np.float64(0),
    )  # fmt: skip


def ranks(model, key, number=SIMULATIONS, *, change=lambda columns: columns, joint=None, universes=None, **options):
    """Rank of each true parameter among weighted posterior draws, in [0, 1]; (simulation, parameter).

    The draws are those of the normal approximation, weighted to the exact posterior. Objects are of universes from the
    beliefs `universes`, and are fitted with the beliefs `joint`.
    """
    rng = np.random.default_rng(key)
    coordinates = model.coordinates if joint is None else eqx.tree_at(lambda c: c.prior, model.coordinates, joint)
    out = []
    with jax.enable_x64(True):
        start = model.start if joint is None else np.asarray(coordinates.place(joint.central()))
    for i in range(number):
        truth = universe(model.joint if universes is None else universes, jax.random.fold_in(jax.random.key(key), i))
        columns = change(catalogue(model, rng, truth, OBJECTS))
        with jax.enable_x64(True):
            likelihood = likelihood_of(model, columns, **options)
            best = maximise(coordinates, likelihood, start)
            root = np.linalg.cholesky(covariance_of(best, coordinates))
            normals = rng.normal(size=(DRAWS, start.size))
            centre = np.asarray(best.x)
            ln_density = -np.asarray(potentials(normals, (coordinates, likelihood, centre, root)))
            values = coordinates.values(centre + normals @ root.T)
        ln_weight = ln_density + 0.5 * (normals**2).sum(axis=1)
        weight = np.exp(ln_weight - ln_weight.max())
        weight = np.minimum(weight, weight.sum() / np.sqrt(DRAWS))  # truncated importance sampling
        weight /= weight.sum()
        out.append([weight @ (np.asarray(values[p]) < truth[p]) for p in coordinates.free])
    return np.array(out)


def p_of(found):
    """P value of the ranks of all parameters."""
    return smallest([kstest(column, "uniform").pvalue for column in found.T])


def understated(columns, factor=0.6):
    """Errors of the masses 40 % too small."""
    return np.concatenate([columns[:3], factor * columns[3:4], columns[4:]])


def p_of_right_model(key, model, **options):
    return p_of(ranks(model, key, **options))


def test_right_model(model):
    check_with_two_keys(lambda key: p_of_right_model(key, model))


def test_selection_on_the_measured_mass(model):
    """Told of the selection, whose threshold and width are fitted, ranks are uniform; without it they are not."""
    selection = SelectedOnMass(float(np.exp(32.8)), 0.1, 0.3, threshold_error=0.2, width_error=0.3, evolution_error=0.2)
    with jax.enable_x64(True):
        relation_prior, pivot = RelationPrior(RELATION, ALPHA3), (32.9, PIVOT_Z)
        joint = JointPrior.of(relation_prior, MEASURED, POPULATION, pivot, model.prior, selection.beliefs)
    number = min(SIMULATIONS, 30)
    options = {"number": number, "universes": joint}
    check_with_two_keys(lambda key: p_of_right_model(key, model, selection=selection, joint=joint, **options))
    p = p_of(ranks(model, 2, **options | {"number": 12}))
    assert p < 1e-6


def test_wrong_models_are_found(model):
    """The mistakes are found in every repetition: p values of ten keys each lie far below the limit."""
    number = max(SIMULATIONS, 60)
    assert p_of(ranks(model, 4, number, change=understated)) < 1e-3
    with jax.enable_x64(True):
        without = JointPrior.of(
            RelationPrior(RELATION, ALPHA3), MEASURED | {"bias": dist.Normal(0.0, 0.05)}, POPULATION, (32.9, PIVOT_Z),
            model.prior,
        )  # fmt: skip
    assert p_of(ranks(model, 5, 20, joint=without)) < 1e-3


def against_beliefs(model, key, number, *, factor=1.0, joint=None):
    """P values of the data against the beliefs about the relation; measured masses too large by a factor."""
    rng = np.random.default_rng(key)
    prior = model.joint if joint is None else joint
    coordinates = eqx.tree_at(lambda c: c.prior, model.coordinates, prior)
    found = []
    for i in range(number):
        with jax.enable_x64(True):
            truth = {p: float(v) for p, v in prior.sample(jax.random.fold_in(jax.random.key(key), i)).items()}
            columns = catalogue(model, rng, truth, OBJECTS)
            columns[1] += np.log(factor)
            likelihood = likelihood_of(model, columns)
            best = maximise(coordinates, likelihood, model.start)
            found.append(contradiction(coordinates, likelihood, best, np.asarray(best.x)[None, None]))
    return found


def test_data_are_compared_with_the_beliefs(model):
    """Universes from the beliefs have p values that are uniform; masses ten times too large or small are far below.

    The beliefs about the relation at redshift 0 are 0.1 wide in ln L, and a factor of ten is 1.8.
    """
    check_with_two_keys(lambda key: kstest([f.p_value for f in against_beliefs(model, key, 24)], "uniform").pvalue)
    narrow = RELATION | {"alpha1": dist.Normal(1.0, 0.1), "alpha4": dist.Normal(1.0, 0.1)}
    with jax.enable_x64(True):
        joint = JointPrior.of(RelationPrior(narrow, ALPHA3), MEASURED, POPULATION, (32.9, PIVOT_Z), model.prior)
    compiled = maximise._cache_size()
    assert all(f.p_value > CONTRADICTION_LEVEL for f in against_beliefs(model, 6, 4, joint=joint))
    assert maximise._cache_size() == compiled, "the search without the beliefs is compiled by itself"
    for factor in (0.1, 10.0):
        found = against_beliefs(model, 7, 5, factor=factor, joint=joint)
        assert all(f.p_value < CONTRADICTION_LEVEL and f.name == "alpha1" for f in found), found
        # The other masses ask for another normalisation, by the slope times ln 10.
        away = np.mean([f.found for f in found]) - 1.0
        assert abs(away + 0.8 * np.log(factor)) < 0.8


def test_masses_of_objects_selected_on_a_measured_mass(model):
    """Masses from luminosities alone, of objects that are in the catalogue for their measured mass, one key each.

    With the selection the PITs of the true masses are uniform; without it most true masses lie above.
    """
    truth = {
        "alpha1": 1.0, "alpha2": 0.8, "alpha4": 1.0, "scatter": 0.4, "bias": 0.1, "mass_scatter": 0.15,
        "correlation": 0.5, "population_centre": 32.6, "population_drift_ln_z": 0.4, "population_drift_ln_1z": 0.0,
        "population_width": 0.35,
    }  # fmt: skip
    threshold, width, error = 33.2, 0.1, 0.25

    def pit(key, told):
        rng = np.random.default_rng(key)
        y, _, sigma, _, z, ln_mass = selected(model, rng, truth, 400, threshold, width, error)
        catalogue_ = HaloCatalogue.from_arrays(luminosity=np.exp(y), redshift=z, sigma_ln_luminosity=sigma)
        selection = {"ln_threshold": threshold, "width": width, "sigma_mass": error} if told else {}
        with jax.enable_x64(True):
            relation = eqx.tree_at(lambda j: j.selected, model.joint, selection).relation(truth)
        relation = jax.tree.map(np.asarray, relation)
        posterior = mass_posterior(catalogue_, MassPrior.default(), relation)
        return np.asarray(posterior.cdf(ln_mass))

    check_with_two_keys(lambda key: kstest(pit(key, told=True), "uniform").pvalue)
    assert kstest(pit(3, told=False), "uniform").pvalue < 1e-6


def selected(model, rng, truth, number, threshold, width, error):
    """Objects that were kept for their measured mass, all measured with the same error, by `catalogue`."""
    kept = []
    while sum(part.shape[1] for part in kept) < number:
        columns = catalogue(model, rng, truth, 2000)
        # The measured mass anew, with this error and without a correlation of the errors.
        mean = columns[5] + truth["bias"]
        along = truth["correlation"] * truth["mass_scatter"] / truth["scatter"]
        intrinsic = truth["alpha1"] + truth["alpha2"] * (columns[5] - np.log(ALPHA3))
        intrinsic = intrinsic + truth["alpha4"] * np.log1p(columns[4])
        first = truth["scatter"] * rng.normal(size=2000)
        columns[0] = intrinsic + first + columns[2] * rng.normal(size=2000)
        own = truth["mass_scatter"] * np.sqrt(1 - truth["correlation"] ** 2)
        columns[1] = mean + along * first + np.hypot(own, error) * rng.normal(size=2000)
        kept.append(columns[:, rng.random(2000) < ndtr((columns[1] - threshold) / width)])
    return np.concatenate(kept, axis=1)[:, :number]
