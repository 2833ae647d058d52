"""The likelihood with the mass function made at every call: against a plain sum, gradients against differences."""

import jax
import numpy as np
import pytest
from reference.cosmology_reference import ln_likelihood

from massmap_jax import CosmologyLikelihood, FluxLimit, HaloCatalogue, MassLuminosityRelation, MassPrior, RedshiftLimit
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.halo.mass_function import hmf_table

RELATION = {"alpha1": 0.5, "alpha2": 1.6, "alpha4": 1.0, "scatter": 0.35}
COSMOLOGY = {"omega_m": 0.33, "sigma8": 0.77, "h": 0.68, "n_s": 0.98, "omega_b": 0.047}
TEXT = "H0=68,Om0=0.33,Ob0=0.047,sigma8=0.77,n_s=0.98"
# Narrow cells: ln p is linear within one, which rare clusters of the steep end see, and its kinks are noise in a
# difference.
PIVOT, NODES = 3e14, {"log10_mass_range": (13.0, 16.0), "dlog10_mass": 0.005}
LIMIT = 0.2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def prior():
    return MassPrior.from_cosmology("Planck18", fit="Tinker08", mass_definition="500c", redshift=[0.0, 1.6], **NODES)


def clusters(number):
    rng = np.random.default_rng(3)
    z, sigma = rng.uniform(0.05, 1.5, number), rng.uniform(0.05, 0.2, number)
    ln_lum = LIMIT + rng.exponential(0.45, number)
    catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), sigma_ln_luminosity=sigma, redshift=z)
    return catalogue, (ln_lum, sigma, z)


def value(likelihood, values):
    relation = MassLuminosityRelation(**{p: values[p] for p in RELATION}, alpha3=PIVOT)
    cosmology = CosmologyParameters(**{p: values[p] for p in COSMOLOGY}, t_cmb=2.725, n_eff=3.04)
    return likelihood(relation, cosmology)


@pytest.mark.parametrize(("number", "selection"), [(6000, None), (60, None), (6000, FluxLimit(np.exp(LIMIT)))])
def test_likelihood_is_the_plain_sum_over_clusters(number, selection):
    catalogue, columns = clusters(number)
    likelihood = CosmologyLikelihood.build(catalogue, prior(), selection, scatter=0.2)
    assert (likelihood.weight.size < number) == (number == 6000)
    nodes, mass, density, _ = hmf_table("Tinker08", TEXT, "500c", redshift=np.linspace(0, 1.6, 33), **NODES)
    limit = None if selection is None else LIMIT
    expected = ln_likelihood(RELATION, PIVOT, *columns, nodes, mass, density, limit)
    found = float(jax.jit(lambda v: value(likelihood, v))(RELATION | COSMOLOGY))
    # 1e-5 for each cluster is the difference of the two mass functions.
    assert abs(found - expected) < 1e-5 * number + 0.03


def test_gradient_is_that_of_differences():
    catalogue, _ = clusters(300)
    likelihood = CosmologyLikelihood.build(catalogue, prior(), scatter=0.2)
    centre = RELATION | COSMOLOGY
    both = jax.jit(jax.value_and_grad(lambda v: value(likelihood, v)))
    gradient = both(centre)[1]
    for name, at in centre.items():
        step = 2e-3 * at
        around = [float(both(centre | {name: at + j * step})[0]) for j in (-2, -1, 1, 2)]
        expected = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * step)
        assert float(gradient[name]) == pytest.approx(expected, rel=2e-3, abs=2e-2), name


def test_refusals():
    catalogue, _ = clusters(10)
    table = MassPrior.from_table([0.0, 2.0], np.geomspace(1e13, 1e16, 30), np.ones((2, 30)))
    with pytest.raises(MassmapError, match="cannot follow the cosmology"):
        CosmologyLikelihood.build(catalogue, table)
    with pytest.raises(MassmapError, match="no selection but a limit in luminosity"):
        CosmologyLikelihood.build(catalogue, prior(), RedshiftLimit.tabulated([0.01, 2.0], [1e-3, 1e-2]))
