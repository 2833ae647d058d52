"""Objects whose redshifts are distributions, in the catalogue by a table of the completeness in (luminosity, redshift).

The chance of an object is another at each redshift that it may have: it counts in p(z), in the masses, in the fit and
in its check. References are integrals in NumPy; leaving the table out is the twin.
"""

import functools
import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.stats import kstest, norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.uncertain import UncertainData
from posterior.test_uncertain_redshifts import (
    CLUSTERS,
    ERROR,
    halos_of,
    ln_distance2,
    parent,
    prior_of,
    relation_of,
    shares_by_hand,
    with_errors,
)

BELIEFS = mm.RelationPrior.parse("alpha1=0:1,alpha2=1.7:0.3,alpha4=0:1,scatter=0.3:0.2,alpha3=3e14")
Z, LN_LUM = np.array([0.1, 0.3, 0.5, 0.7, 0.9]), np.linspace(-4.0, 2.0, 25)


def completeness(ln_lum, z):
    """Smooth and never 0: at higher redshifts only brighter objects are found, and fewer of them."""
    return np.exp(-6.0 * z) * (0.02 + 0.9 * norm.cdf((ln_lum - 4.0 * z + 3.5) / 0.5))


TABLE = mm.TabulatedSelection(Z, LN_LUM, completeness(LN_LUM, Z[:, None]))
# The twin: as no selection, but compiled with the table.
ALL = mm.TabulatedSelection(Z, LN_LUM, np.ones((Z.size, LN_LUM.size)))


def ln_density(prior, z, ln_mass):
    """ln of the mass prior at each redshift, linear between its nodes, in NumPy."""
    nodes = np.asarray(prior.redshift_nodes)
    rows = np.stack([np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), r) for r in np.asarray(prior.ln_density)])
    cell = np.clip(np.searchsorted(nodes, z) - 1, 0, nodes.size - 2)
    t = ((z - nodes[cell]) / np.diff(nodes)[cell])[:, None]
    return rows[cell] * (1 - t) + rows[cell + 1] * t


def ln_detected(ln_lum, z):
    """ln of the table, linear between its nodes, in NumPy."""
    prob = completeness(LN_LUM, Z[:, None])
    cell = np.clip(np.searchsorted(Z, z) - 1, 0, Z.size - 2)
    t = np.clip((z - Z[cell]) / np.diff(Z)[cell], 0, 1)
    at, index = np.stack([np.interp(ln_lum, LN_LUM, p) for p in prob]), np.arange(z.size)
    return np.log((1 - t) * at[cell, index] + t * at[cell + 1, index])


@functools.cache
def field():
    """The prior, true redshifts and ln M, and the catalogue, with luminosities at the measured redshifts."""
    prior, rng, found = prior_of(CLUSTERS), np.random.default_rng(2), np.zeros((3, 0))
    halos = halos_of(prior, rng, 7)
    while found.shape[1] < 1500:
        z, ln_mass = next(halos)
        mean = CLUSTERS["slope"] * (ln_mass - np.log(CLUSTERS["pivot"]))
        ln_lum = mean + np.hypot(CLUSTERS["scatter"], CLUSTERS["sigma"]) * rng.normal(size=z.size)
        kept = np.log(rng.uniform(size=z.size)) < ln_detected(ln_lum, z)
        found = np.concatenate([found, np.stack([z, ln_mass, ln_lum])[:, kept]], axis=1)
    z, ln_mass, ln_lum = found[:, :1500]
    z_phot = np.expm1(np.log1p(z) + ERROR * rng.normal(size=z.size))
    kept = (z_phot > Z[0]) & (z_phot < Z[-1])
    z, ln_mass, ln_lum, z_phot = (a[kept] for a in (z, ln_mass, ln_lum, z_phot))
    ln_lum = ln_lum + ln_distance2(z_phot) - ln_distance2(z)
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=ln_lum, redshift=z_phot, sigma_ln_luminosity=CLUSTERS["sigma"]
    )
    return prior, z, ln_mass, with_errors(catalogue)


def test_agrees_with_numpy():
    """Mean and spread of mass and redshift, and ln of (evidence over chance) of each object."""
    prior, _, _, catalogue = field()
    some = catalogue.subset(np.arange(0, 200, 50))
    found = mm.mass_posterior(some, prior, relation_of(CLUSTERS), selection=TABLE)
    for i in range(len(some)):

        def chance(z, at=i):
            moved = ln_distance2(z) - ln_distance2(some.redshift[at])
            return ln_detected(some.ln_lum_obs[at] + moved, z)

        (x, of_mass), (z, of_z) = shares_by_hand(CLUSTERS, prior, some, i, ln_factor=chance)
        for name, places, share in (("", x, of_mass), ("redshift_", z, of_z)):
            mean = (share * places).sum()
            sd = np.sqrt((share * (places - mean) ** 2).sum())
            assert abs(getattr(found, f"{name}mean")[i] - mean) < 2e-3 * sd
            assert abs(getattr(found, f"{name}sd")[i] / sd - 1) < 2e-3


def test_likelihood_is_the_integral():
    """What a fit prepares, what `log_likelihood` integrates, and the evidence over the chance in NumPy."""
    prior, _, _, catalogue = field()
    some = catalogue.subset(np.arange(8))
    relation = mm.MassLuminosityRelation(alpha1=0.3, alpha2=1.4, alpha3=CLUSTERS["pivot"], alpha4=0.0, scatter=0.2)
    with jax.enable_x64(True):
        lattice = float(jax.jit(lambda a, b: a(b))(UncertainData(some, prior, TABLE).likelihood(0.15), relation))
    direct = float(mm.log_likelihood(relation, some, prior, TABLE))
    ln_mass, spread = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 1201), np.hypot(0.2, CLUSTERS["sigma"])
    mean, total = 0.3 + 1.4 * (ln_mass - np.log(CLUSTERS["pivot"])), 0.0
    lum = np.linspace(-14.0, 14.0, 1401)
    of_lum = norm(mean, spread).pdf(lum[:, None]) * (lum[1] - lum[0])
    for z_phot, ln_lum in zip(some.redshift, some.ln_lum_obs, strict=True):
        u = np.linspace(*np.clip(np.log1p(z_phot) + np.array([-6, 6]) * ERROR, *np.log1p(Z[[0, -1]])), 161)
        z = np.expm1(u)
        of_mass = np.exp(ln_density(prior, z, ln_mass))
        of_mass /= np.trapezoid(of_mass, ln_mass, axis=1)[:, None]
        at = ln_lum + ln_distance2(z) - ln_distance2(z_phot)
        evidence = np.trapezoid(of_mass * norm(mean, spread).pdf(at[:, None]), ln_mass, axis=1)
        detected = np.stack([np.exp(ln_detected(lum, np.full(lum.size, one))) for one in z])
        chance = np.trapezoid(of_mass * (detected @ of_lum), ln_mass, axis=1)
        ln_share = norm(np.log1p(z_phot), ERROR).logpdf(u) + u + np.log(np.interp(z, *parent(prior)))
        share = np.exp(ln_share - ln_share.max())
        # The flux moves with L: per ln F the density is that per ln L, whatever the redshift.
        above = np.trapezoid(share * np.exp(ln_detected(at, z)) * evidence, u)
        total += np.log(above / np.trapezoid(share * chance, u)) - ln_lum
    assert lattice == pytest.approx(total, abs=0.05)
    assert direct == pytest.approx(total, abs=0.05)


def test_masses_and_redshifts_hold_the_truth():
    """And without the table they do not: the redshifts come out too large, and the masses with them."""
    prior, z, ln_mass, catalogue = field()
    found_of = []
    for selection in (TABLE, ALL):
        found = mm.mass_posterior(catalogue, prior, relation_of(CLUSTERS), selection=selection)
        pull = ((z - found.redshift_mean) / found.redshift_sd).mean() * np.sqrt(z.size)
        found_of.append((kstest(found.cdf(ln_mass), "uniform").pvalue, pull))
    (p_of_table, pull_of_table), (p_of_all, pull_of_all) = found_of
    assert p_of_table > 1e-5 and abs(pull_of_table) < 4.5
    assert p_of_all < 1e-8 and pull_of_all < -8


def test_fit_and_its_check():
    prior, _, _, catalogue = field()
    pulls, some, fitted = [], *(catalogue.subset(np.arange(n)) for n in (128, 512))
    for selection in (TABLE, ALL):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = mm.fit_relation(fitted, prior, BELIEFS, num_draws=100, selection=selection)
        pulls.append(max(abs(fit.mean[p] - relation_of(CLUSTERS).parameter(p)) / fit.sd[p] for p in fit.free))
    assert pulls[0] < 4.5 and pulls[1] > 10, pulls
    p_of_table, p_of_all = (
        mm.prior_check(some, prior, relation_of(CLUSTERS), selection=s).p_value for s in (TABLE, ALL)
    )
    assert p_of_table > 1e-5
    assert p_of_all < 1e-8


def test_maps_draw_from_these_posteriors():
    prior, _, _, catalogue = field()
    some = replace(catalogue.subset(np.arange(60)), ra=np.linspace(10, 11, 60), dec=np.linspace(0, 1, 60))
    found = mm.mass_map(
        jax.random.key(0), some, prior, relation_of(CLUSTERS), mm.PixelGrid.fit(some.ra, some.dec, shape=(2, 2)),
        selection=TABLE, num_draws=400,
    )  # fmt: skip
    with_table, without = (mm.mass_posterior(some, prior, relation_of(CLUSTERS), selection=s) for s in (TABLE, ALL))
    error = found.total_draws.std() / np.sqrt(400)
    assert abs(found.total_draws.mean() - with_table.mean_mass.sum()) < 5 * error
    assert abs(found.total_draws.mean() - without.mean_mass.sum()) > 8 * error
    with pytest.raises(MassmapError, match="another catalogue, prior, relation or selection made it"):
        mm.mass_map(
            jax.random.key(0), some, prior, relation_of(CLUSTERS), found.grid, selection=TABLE, posterior=without
        )


def test_what_has_no_answer_is_refused():
    prior, _, _, catalogue = field()
    some = catalogue.subset(np.arange(10))
    # Only at luminosities and redshifts that no object can have.
    never = mm.TabulatedSelection([0.0, 2.0], [30.0, 31.0], [[0.0, 1.0]] * 2)
    with pytest.raises(MassmapError, match="gives 10 catalogued objects no chance"):
        mm.log_likelihood(relation_of(CLUSTERS), some, prior, never)
    linear = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(some.ln_lum_obs), redshift=some.redshift, sigma_luminosity=0.3 * np.exp(some.ln_lum_obs),
        noise_kind="normal",
    )  # fmt: skip
    with pytest.raises(MassmapError, match="a table of the completeness is for lognormal noise, and 10 objects"):
        mm.mass_posterior(with_errors(linear), prior, relation_of(CLUSTERS), selection=TABLE)
