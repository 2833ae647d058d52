"""Masses under draws of the cosmology: the average over one posterior for each draw, from hmf and plain NumPy."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.halo.mass_function import hmf_table
from massmap_jax.prior.cosmology_draws import cosmology_with
from massmap_jax.prior.mass_function_draws import MassFunctionDraws

NODES = {"redshift": np.arange(0, 1.21, 0.1), "log10_mass_range": (12.0, 16.0)}
LAW = {"alpha1": 0.5, "alpha2": 1.6, "alpha4": 1.0, "scatter": 0.35}
DRAWS = {
    "omega_m": np.array([0.25, 0.3, 0.33, 0.28]),
    "sigma8": np.array([0.72, 0.8, 0.78, 0.92]),
    "h": np.array([0.7, 0.66, 0.73, 0.68]),
    "n_s": np.array([0.96, 1.0, 0.94, 0.97]),
    "omega_b": np.array([0.045, 0.05, 0.042, 0.048]),
}
WEIGHTS = np.array([1.0, 2.0, 1.0, 3.0])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def prior():
    with jax.enable_x64(True):
        return mm.MassPrior.from_cosmology("Planck18", **NODES)


@pytest.fixture(scope="module")
def paired(prior):
    relation = mm.MassLuminosityRelation(**LAW, alpha3=3e14)
    return mm.with_cosmology(relation, mm.CosmologyDraws.from_arrays(**DRAWS, log_weight=np.log(WEIGHTS)), prior)


Z = np.array([0.1, 0.3, 0.5, 0.7, 1.0])
LN_LUM, SIGMA = np.array([0.0, 1.0, 2.5, 0.5, 1.5]), np.array([0.1, 0.3, 0.05, 0.5, 0.1])


@pytest.fixture(scope="module")
def catalogue():
    ra, dec = np.linspace(10.0, 10.1, 5), np.zeros(5)
    return mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(LN_LUM), redshift=Z, sigma_ln_luminosity=SIGMA, ra=ra, dec=dec
    )


def plain_moments():
    """Mean and sd of ln M of each object and draw, with hmf's mass function and trapezoids."""
    means, variances = [], []
    for i in range(4):
        text = "H0={},Om0={},Ob0={},sigma8={},n_s={}".format(
            100 * DRAWS["h"][i], *(DRAWS[p][i] for p in ("omega_m", "omega_b", "sigma8", "n_s"))
        )
        nodes, mass, density, _ = hmf_table(
            "Tinker10", text, "200m", redshift=np.arange(0, 1.21, 0.05), log10_mass_range=(12.0, 16.0), dlog10_mass=0.01
        )
        x, at = np.log(mass), CubicSpline(nodes, np.log(density))(Z)
        mean = LAW["alpha1"] + LAW["alpha2"] * (x - np.log(3e14)) + LAW["alpha4"] * np.log1p(Z)[:, None]
        ln_p = at - 0.5 * ((LN_LUM[:, None] - mean) / np.hypot(LAW["scatter"], SIGMA)[:, None]) ** 2
        p = np.exp(ln_p - ln_p.max(axis=1, keepdims=True))
        p /= np.trapezoid(p, x, axis=1)[:, None]
        means.append(np.trapezoid(p * x, x, axis=1))
        variances.append(np.trapezoid(p * x**2, x, axis=1) - means[-1] ** 2)
    return np.array(means), np.array(variances)


def test_masses_are_the_average_over_one_posterior_for_each_cosmology(prior, paired, catalogue):
    found = mm.mass_posterior(catalogue, prior, paired, relation_from="fixed_draws")
    means, variances = plain_moments()
    share = WEIGHTS / WEIGHTS.sum()
    mean = share @ means
    sd = np.sqrt(share @ (variances + means**2) - mean**2)
    np.testing.assert_allclose(found.mean, mean, atol=2e-3 * sd.min())
    np.testing.assert_allclose(found.sd, sd, rtol=2e-3)
    # The twin: the mass prior alone is elsewhere.
    alone = mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation(**LAW, alpha3=3e14))
    assert np.abs((alone.mean - mean) / sd).max() > 0.01


def test_evidence_and_weights_are_those_of_separate_priors(prior, paired, catalogue):
    """Draws that each object may update: their weights are the evidences, which need normalised mass functions."""
    relation = mm.MassLuminosityRelation(**LAW, alpha3=3e14)
    found = mm.mass_posterior(catalogue, prior, paired, relation_from="other_data")
    ln_share = np.log(WEIGHTS / WEIGHTS.sum())
    apart = []
    for i in range(4):
        own = prior.at_cosmology(cosmology_with({name: v[i] for name, v in DRAWS.items()}))
        apart.append(mm.mass_posterior(catalogue, own, relation))
    ln_z = ln_share[:, None] + np.array([p.log_evidence for p in apart])
    total = np.logaddexp.reduce(ln_z, axis=0)
    np.testing.assert_allclose(found.log_evidence, total, atol=3e-4)
    mean = (np.exp(ln_z - total) * np.array([p.mean for p in apart])).sum(axis=0)
    np.testing.assert_allclose(found.mean, mean, atol=2e-4)


def test_maps_take_the_cosmology_of_each_realisation(prior, catalogue):
    """An extreme cosmology, whose masses are well apart from those of the mass prior."""
    relation = mm.MassLuminosityRelation(**LAW, alpha3=3e14)
    extreme = mm.CosmologyDraws.from_arrays(omega_m=0.3, sigma8=1.3, h=0.7, n_s=0.96, omega_b=0.05)
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec)
    totals = []
    for law in (mm.with_cosmology(relation, extreme, prior), relation):
        image = mm.mass_map(jax.random.key(0), catalogue, prior, law, grid, relation_from="fixed_draws", num_draws=300)
        totals.append(np.asarray(image.mean).sum())
        expected = mm.mass_posterior(catalogue, prior, law, relation_from="fixed_draws").mean_mass.sum()
        assert totals[-1] == pytest.approx(expected, rel=0.03)
    assert totals[0] / totals[1] > 1.05


def test_mass_function_of_a_draw_is_that_of_its_cosmology(prior):
    draws = MassFunctionDraws.of(prior, DRAWS)
    ln_mass, nodes = np.asarray(prior.ln_mass_nodes), np.asarray(prior.redshift_nodes)
    used = ln_mass < np.log(3e15)
    for i in range(4):
        one = jax.tree.map(lambda a, i=i: a[i], draws)
        own = prior.at_cosmology(cosmology_with({name: v[i] for name, v in DRAWS.items()}))
        for j in (0, 5, 12):
            found = np.asarray(one.ln_density(prior.ln_density[j], ln_mass, nodes[j]))
            np.testing.assert_allclose(found[used], np.asarray(own.ln_density)[j, used], atol=1e-5)


def test_batch_is_paired_draw_by_draw_and_keeps_together(prior):
    relation = mm.MassLuminosityRelation(**(LAW | {"alpha1": np.arange(8.0)}), alpha3=3e14)
    paired = mm.with_cosmology(relation, mm.CosmologyDraws.from_arrays(**DRAWS), prior)
    assert paired.num_draws == 8
    np.testing.assert_array_equal(np.sort(paired.parameter("sigma8")), np.repeat(np.sort(DRAWS["sigma8"]), 2))
    some = paired.draw([1, 6])
    np.testing.assert_array_equal(some.population.values["h"], paired.parameter("h")[[1, 6]])
    assert some.population.coefficients.shape[0] == 2


def test_what_does_not_fit_together_is_refused(prior, paired, catalogue):
    draws = mm.CosmologyDraws.from_arrays(**DRAWS)
    table = mm.MassPrior.from_table([0.0, 2.0], np.geomspace(1e13, 1e16, 30), np.ones((2, 30)))
    with pytest.raises(MassmapError, match="cannot follow the cosmology"):
        mm.with_cosmology(mm.MassLuminosityRelation(**LAW), draws, table)
    with pytest.raises(MassmapError, match="without snap"):
        mm.with_cosmology(mm.MassLuminosityRelation(**LAW), draws, replace(prior, snap="upper"))
    with pytest.raises(MassmapError, match="RelationAndCosmology, which brings more along"):
        mm.with_cosmology(paired, draws, prior)
    other = mm.MassPrior.from_cosmology("WMAP9", **NODES)
    with pytest.raises(MassmapError, match="under another mass prior"):
        mm.mass_posterior(catalogue, other, paired, relation_from="fixed_draws")
    with pytest.raises(MassmapError, match="paired with cosmologies"):
        mm.mass_posterior(catalogue, prior, paired, relation_from="fixed_draws", method="surface")
