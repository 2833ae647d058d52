"""Calibration with several observables: masses, and the fit of relations and correlations, with twins that must fail.

Objects are drawn by NumPy alone; PITs of their true masses, and ranks of true parameters, must be uniform.
MASSMAP_TEST_SBC=400 runs more simulations.
"""

import os

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import kstest, norm

import massmap_jax as mm
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.correlations import beliefs_about
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.joint import JointPrior
from massmap_jax.relation.joint_fit import likelihood_of
from massmap_jax.relation.search import covariance_of, maximise, potentials
from statistical.two_keys import check_with_two_keys, smallest

ALPHA3, Z = 2e14, 0.4
# Luminosity and richness; the third is an SZ signal.
LAWS = [
    {"alpha1": 1.0, "alpha2": 1.3, "scatter": 0.4},
    {"alpha1": 3.4, "alpha2": 1.0, "scatter": 0.3},
    {"alpha1": 0.0, "alpha2": 1.7, "scatter": 0.25},
]
ERRORS = (0.1, 0.15, 0.2)
NAMES = ("richness", "y_sz")
OBJECTS = 4000


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.default()


def drawn(prior, rng, correlation, number, keep=lambda y: np.ones(y.shape[1], bool)):
    """ln M and ln of each observable, with errors, of objects that are kept; mass function above 1e13.4 Msun."""
    grid = np.linspace(30.85, 36.0, 4001)
    ln_p = np.asarray(prior.log_prob(grid, np.full(grid.size, Z)))
    cdf = np.cumsum(np.exp(ln_p - ln_p.max()))
    scatter = np.array([law["scatter"] for law in LAWS[: len(correlation)]])
    found: list = []
    while sum(part.shape[1] for part in found) < number:
        many = 100 * number
        t = np.interp(rng.random(many) * cdf[-1], cdf, grid)
        noise = rng.multivariate_normal(np.zeros(scatter.size), correlation * np.outer(scatter, scatter), many)
        y = np.stack([law["alpha1"] + law["alpha2"] * (t - np.log(ALPHA3)) for law in LAWS[: scatter.size]])
        y += noise.T + np.array(ERRORS[: scatter.size])[:, None] * rng.normal(size=y.shape)
        found.append(np.vstack([t, y])[:, keep(y)])
    return np.concatenate(found, axis=1)[:, :number]


def relation_of(correlation):
    laws = [mm.MassLuminosityRelation(**law, alpha3=ALPHA3) for law in LAWS[1 : len(correlation)]]
    others = dict(zip(NAMES, laws, strict=False))
    return mm.MultiObservableRelation(**LAWS[0], alpha3=ALPHA3, others=others, scatter_correlation=correlation)


def p_of_masses(prior, catalogue, ln_mass, correlation):
    posterior = mm.mass_posterior(catalogue, prior, relation_of(correlation))
    return kstest(np.asarray(posterior.cdf(ln_mass)), "uniform").pvalue


def matrix(*above):
    size = 2 if len(above) == 1 else 3
    found = np.eye(size)
    found[np.triu_indices(size, 1)] = above
    return found + found.T - np.eye(size)


def test_selection_on_an_observable_that_is_not_at_hand(prior):
    """Of objects that were selected on richness, only the luminosity is known, and that the richness is above 25."""
    threshold = 25.0

    def p(key, told, correlation=0.5):
        rng = np.random.default_rng(key)
        kept = drawn(prior, rng, matrix(correlation), OBJECTS, lambda y: y[1] > np.log(threshold))
        catalogue = mm.HaloCatalogue.from_arrays(
            luminosity=np.exp(kept[1]), redshift=np.full(OBJECTS, Z), sigma_ln_luminosity=ERRORS[0]
        )
        above = mm.Observables.from_arrays(
            {"richness": np.full(OBJECTS, threshold)}, {"richness": ERRORS[1]},
            lower_limit={"richness": np.ones(OBJECTS, bool)},
        )  # fmt: skip
        return p_of_masses(prior, catalogue.with_observables(above), kept[0], matrix(told))

    check_with_two_keys(lambda key: p(key, told=0.5))
    # The probability of selection at a mass alone, without what the luminosity says of the richness.
    assert p(2, told=0.0) < 1e-8


def seen(kept, names=NAMES, faintest=None, *, told=True):
    """The catalogue of objects that were drawn; a richness below `faintest` is a limit, or missing if not told."""
    number = kept.shape[1]
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(kept[1]), redshift=np.full(number, Z), sigma_ln_luminosity=ERRORS[0]
    )
    values, options = dict(zip(names, np.exp(kept[2:]), strict=True)), {}
    if faintest is not None:
        faint = values["richness"] < faintest
        values["richness"] = np.where(faint, faintest if told else np.nan, values["richness"])
        options["upper_limit"] = {"richness": faint}
    sigma = dict(zip(names, ERRORS[1:], strict=False))
    return catalogue.with_observables(mm.Observables.from_arrays(values, sigma, **options))


def test_correlated_scatters(prior):
    """Three observables; with the correlations of their scatters left out, the masses are overconfident."""
    truth = matrix(0.8, 0.6, 0.5)

    def p(key, correlation=truth):
        kept = drawn(prior, np.random.default_rng(key), truth, OBJECTS, lambda y: y[0] > 0.5)
        return p_of_masses(prior, seen(kept), kept[0], correlation)

    check_with_two_keys(p)
    assert p(2, np.eye(3)) < 1e-20  # five keys: 1e-50 and below


def test_limits(prior):
    """A richness that is too low to be measured is an upper limit; as a missing entry it biases the masses."""

    def p(key, told=True):
        kept = drawn(prior, np.random.default_rng(key), np.eye(2), OBJECTS, lambda y: y[0] > 0.0)
        return p_of_masses(prior, seen(kept, NAMES[:1], 30.0, told=told), kept[0], np.eye(2))

    check_with_two_keys(p)
    assert p(2, told=False) < 1e-6  # four keys: 5e-13 and below


# -- the fit -----------------------------------------------------------------------------------------------------------

SIMULATIONS = int(os.environ.get("MASSMAP_TEST_SBC", "60"))
FITTED, DRAWS = 120, 99
BELIEFS = {"alpha1": dist.Normal(1.0, 0.4), "alpha2": dist.Normal(1.3, 0.1), "alpha4": 0.0,
           "scatter": dist.LogNormal(np.log(0.35), 0.2)}  # fmt: skip
OF_RICHNESS = {"alpha1": dist.Normal(3.4, 0.4), "alpha2": dist.Normal(1.0, 0.1), "alpha4": 0.0,
               "scatter": dist.LogNormal(np.log(0.3), 0.2)}  # fmt: skip
MEASURED = {"bias": dist.Normal(0.0, 0.05), "mass_scatter": dist.LogNormal(np.log(0.15), 0.2),
            "correlation": dist.TruncatedNormal(0.3, 0.2, low=-1.0, high=1.0)}  # fmt: skip
POPULATION = mm.Population.gaussian(
    drift=False, beliefs={"centre": dist.Normal(32.9, 0.3), "width": dist.LogNormal(np.log(0.4), 0.2)}
)


# For a catalogue that was selected on richness: its population is what remains of the mass function.
CUT = 15.0
COMPLETE = mm.Population.hmf_completeness(
    drift=False, beliefs={"centre": dist.Normal(np.log(5e13), 0.4), "width": dist.LogNormal(np.log(0.5), 0.3)}
)


def joint_of(prior, correlation=2.0, population=POPULATION):
    laws = {"richness": mm.RelationPrior(OF_RICHNESS, ALPHA3)}
    with jax.enable_x64(True):
        return JointPrior.of(
            mm.RelationPrior(BELIEFS, ALPHA3), MEASURED, population, (32.9, Z), prior, None, laws,
            beliefs_about(("richness",), correlation),
        )  # fmt: skip


def ranks(prior, key, number=SIMULATIONS, *, joint, error=1.0, cut=None, told=True):
    """Rank of each true parameter among weighted posterior draws, in [0, 1]; (simulation, parameter).

    With a cut, objects of a population of `COMPLETE` are selected on richness; the fit is told so, or not.
    """
    rng = np.random.default_rng(key)
    truth_of = joint_of(prior) if cut is None else joint
    selection = mm.SelectedOn("richness", cut) if cut is not None and told else None
    with jax.enable_x64(True):
        coordinates = Coordinates.at(joint, 32.9, Z)
        start = np.asarray(coordinates.place(joint.central()))
    out = []
    for i in range(number):
        with jax.enable_x64(True):
            truth = {p: float(v) for p, v in truth_of.sample(jax.random.fold_in(jax.random.key(key), i)).items()}
        catalogue, masses = universe(rng, truth, error) if cut is None else cut_universe(prior, rng, truth, cut)
        with jax.enable_x64(True):
            data = CatalogueData(catalogue.seen_by(("richness",)), prior)
            has_mass = np.isfinite(masses.ln_mass[data.rows])
            likelihood = likelihood_of(data, masses, has_mass, np.ones_like(has_mass), selection, 0.1)
            best = maximise(coordinates, likelihood, start)
            root = np.linalg.cholesky(covariance_of(best, coordinates))
            normals = rng.normal(size=(DRAWS, start.size))
            centre = np.asarray(best.x)
            ln_density = -np.asarray(potentials(normals, (coordinates, likelihood, centre, root)))
            values = coordinates.values(centre + normals @ root.T)
        ln_weight = ln_density + 0.5 * (normals**2).sum(axis=1)
        weight = np.exp(ln_weight - ln_weight.max())
        weight = np.minimum(weight, weight.sum() / np.sqrt(DRAWS))  # truncated importance sampling
        out.append([weight / weight.sum() @ (np.asarray(values[p]) < truth[p]) for p in coordinates.free])
    return np.array(out)


def universe(rng, truth, error):
    """Luminosity, richness (a fifth missing) and measured mass of objects from one universe."""
    t = truth["population_centre"] + truth["population_width"] * rng.normal(size=FITTED)
    y, x, m = measured(rng, truth, t)
    lost = rng.random(FITTED) < 0.2
    return found(y, np.where(lost, np.nan, x), m, error)


def cut_universe(prior, rng, truth, cut):
    """The same of a mass function times a completeness, above a richness; a fifth has no luminosity."""
    grid = np.linspace(float(prior.ln_mass_min), float(prior.ln_mass_max), 6001)
    ln_p = np.asarray(prior.log_prob(grid, np.full(grid.size, Z)), dtype=float)
    ln_p += norm.logcdf((grid - truth["population_centre"]) / truth["population_width"])
    cdf, parts = np.cumsum(np.exp(ln_p - ln_p.max())), []
    while sum(part.shape[1] for part in parts) < FITTED:
        y, x, m = measured(rng, truth, np.interp(rng.random(4 * FITTED) * cdf[-1], cdf, grid))
        parts.append(np.stack([y, x, m])[:, x > np.log(cut)])
    y, x, m = np.concatenate(parts, axis=1)[:, :FITTED]
    return found(np.where(rng.random(FITTED) < 0.2, np.nan, y), x, m)


def measured(rng, truth, t):
    """ln of luminosity, richness and measured mass of objects with these ln M."""
    e = rng.normal(size=(3, t.size))
    e[1] = truth["correlation_richness"] * e[0] + np.sqrt(1 - truth["correlation_richness"] ** 2) * e[1]
    e[2] = truth["correlation"] * e[0] + np.sqrt(1 - truth["correlation"] ** 2) * e[2]
    y = truth["alpha1"] + truth["alpha2"] * (t - np.log(ALPHA3)) + truth["scatter"] * e[0]
    x = truth["alpha1_richness"] + truth["alpha2_richness"] * (t - np.log(ALPHA3)) + truth["scatter_richness"] * e[1]
    m = t + truth["bias"] + truth["mass_scatter"] * e[2] + 0.2 * rng.normal(size=t.size)
    return y + ERRORS[0] * rng.normal(size=t.size), x + ERRORS[1] * rng.normal(size=t.size), m


def found(y, x, m, error=1.0):
    """The catalogue of these, and its measured masses."""
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(y), redshift=np.full(FITTED, Z), sigma_ln_luminosity=ERRORS[0]
    )
    observables = mm.Observables.from_arrays({"richness": np.exp(x)}, {"richness": error * ERRORS[1]})
    masses = mm.CalibrationMasses.from_arrays(mass=np.exp(m), sigma_ln_mass=0.2)
    return catalogue.with_observables(observables), masses


def p_of_fit(prior, key, **options):
    joint = options.pop("joint", None) or joint_of(prior)
    return smallest([kstest(column, "uniform").pvalue for column in ranks(prior, key, joint=joint, **options).T])


def test_fit_is_calibrated(prior):
    check_with_two_keys(lambda key: p_of_fit(prior, key))
    # Errors of the richness that are three times too small; three keys: 5e-6 and below.
    assert p_of_fit(prior, 2, number=100, error=0.3) < 1e-3


def test_fit_to_what_was_selected_on_richness_is_calibrated(prior):
    """Truths of the population are drawn from the beliefs, too; the twin is not told of the selection."""
    joint = joint_of(prior, population=COMPLETE)
    number = SIMULATIONS if SIMULATIONS > 60 else 40
    check_with_two_keys(lambda key: p_of_fit(prior, key, number=number, joint=joint, cut=CUT))
    assert p_of_fit(prior, 2, number=12, joint=joint, cut=CUT, told=False) < 1e-3
