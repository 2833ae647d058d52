"""The fit of a relation to objects whose redshifts are distributions: its likelihood, and that it finds the truth."""

import warnings

import jax
import numpy as np
import pytest
from posterior.test_uncertain_redshifts import CLUSTERS, ln_distance2, prior_of, relation_of, universe, with_errors
from scipy.special import ndtr

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.uncertain import UncertainData

BELIEFS = mm.RelationPrior.parse("alpha1=0:1,alpha2=1.7:0.3,alpha4=0:1,scatter=0.3:0.2,alpha3=3e14")
# All halos above the lowest mass of the prior: that mass is then what sets the normalisation.
ALL = CLUSTERS | {"least": -99.0}
evaluate = jax.jit(lambda likelihood, relation: likelihood(relation))


@pytest.fixture(scope="module")
def field():
    prior = prior_of(ALL)
    return prior, *universe(ALL, prior, 4000, 3)


@pytest.mark.parametrize("selected", [False, True])
def test_likelihood_is_the_integral(field, selected):
    prior, _, _, catalogue = field
    z = np.linspace(0.05, 1.2, 400)
    limit = mm.RedshiftLimit.tabulated(z, np.exp(CLUSTERS["least"] + ln_distance2(z)))
    bright = catalogue.ln_lum_obs > CLUSTERS["least"] + ln_distance2(catalogue.redshift)
    some = catalogue.subset(np.flatnonzero(bright)[:120])
    sigma = np.random.default_rng(0).uniform(0.05, 0.25, len(some))
    some = mm.HaloCatalogue.from_arrays(
        ln_luminosity=some.ln_lum_obs, redshift=some.redshift, sigma_ln_luminosity=sigma
    )
    some, chosen = with_errors(some), limit if selected else None
    true = relation_of(ALL)
    other = mm.MassLuminosityRelation(alpha1=0.3, alpha2=1.4, alpha3=true.alpha3, alpha4=0.5, scatter=0.2)
    with jax.enable_x64(True):
        prepared = UncertainData(some, prior, chosen).likelihood(0.15)
        for relation in (true, other):
            expected = float(mm.log_likelihood(relation, some, prior, chosen))
            assert abs(float(evaluate(prepared, relation)) - expected) < 5e-3


def test_selection_over_all_redshifts(field):
    """A joint selection divides by one probability, the mean of A over the parent distribution, for each error."""
    prior, _, _, catalogue = field
    z = np.linspace(0.05, 1.2, 400)
    limit = mm.RedshiftLimit.tabulated(z, np.exp(CLUSTERS["least"] + ln_distance2(z)))
    bright = catalogue.ln_lum_obs > CLUSTERS["least"] + ln_distance2(catalogue.redshift)
    some = catalogue.subset(np.flatnonzero(bright)[:60])
    sigma = np.random.default_rng(0).choice([0.05, 0.2], len(some))
    some = mm.HaloCatalogue.from_arrays(
        ln_luminosity=some.ln_lum_obs, redshift=some.redshift, sigma_ln_luminosity=sigma
    )
    nodes = np.linspace(0.1, 0.9, 600)
    parent = nodes, nodes**2 * np.exp(-2 * nodes)
    relation = mm.MassLuminosityRelation(
        alpha1=0.3, alpha2=1.4, alpha3=relation_of(ALL).alpha3, alpha4=0.5, scatter=0.2
    )
    both = {s: with_errors(some, parent=parent, selection=s) for s in ("conditional", "joint")}
    with jax.enable_x64(True):
        found = float(evaluate(UncertainData(both["joint"], prior, limit).likelihood(0.15), relation))
        alone = float(evaluate(UncertainData(both["joint"], prior).likelihood(0.15), relation))
    # P(L > limit) of a halo at z: the prior's masses, then scatter and noise.
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 4001)
    chance = {s: np.zeros(nodes.size) for s in (0.05, 0.2)}
    rows = np.asarray(jax.jit(jax.vmap(prior.ln_density_at))(nodes))
    least = CLUSTERS["least"] + ln_distance2(nodes)
    for i, at in enumerate(nodes):
        ln_p = np.interp(ln_mass, np.asarray(prior.ln_mass_nodes), rows[i])
        mean = 0.3 + 1.4 * (ln_mass - np.log(float(relation.alpha3))) + 0.5 * np.log1p(at)
        for s in chance:
            above = ndtr((mean - least[i]) / np.hypot(0.2, s))
            chance[s][i] = np.trapezoid(np.exp(ln_p) * above, ln_mass)
    share = parent[1] / np.trapezoid(parent[1], nodes)
    expected = alone - sum(np.log(np.trapezoid(share * chance[s], nodes)) for s in sigma)
    assert found == pytest.approx(expected, abs=0.02 * len(some) ** 0.5)
    with jax.enable_x64(True):
        other = float(evaluate(UncertainData(both["conditional"], prior, limit).likelihood(0.15), relation))
    assert abs(other - expected) > 5
    with pytest.raises(MassmapError, match="this likelihood takes the selection over each object's own p"):
        mm.log_likelihood(relation, both["joint"], prior, limit)
    with pytest.raises(MassmapError, match="selection is 'all'"):
        with_errors(some, selection="all")


def pulls(catalogue, prior):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mm.fit_relation(catalogue, prior, BELIEFS, num_draws=100)
    true = relation_of(ALL)
    return {p: (fit.mean[p] - float(true.parameter(p))) / fit.sd[p] for p in fit.free}


def test_finds_the_truth_and_point_redshifts_do_not(field):
    prior, _, _, catalogue = field
    right = pulls(with_errors(catalogue), prior)
    assert max(map(abs, right.values())) < 4.5, right
    # Luminosities of redshifts taken as exact are off by their errors, which look like scatter.
    wrong = pulls(catalogue, prior)
    assert max(map(abs, wrong.values())) > 5.0, wrong


def test_check_of_the_prior_sees_the_right_relation(field):
    prior, _, _, catalogue = field
    some = with_errors(catalogue.subset(np.arange(400)))
    assert mm.prior_check(some, prior, relation_of(ALL)).p_value > 1e-5
    shifted = mm.MassLuminosityRelation(alpha1=0.5, alpha2=1.7, alpha3=3e14, alpha4=0.0, scatter=0.3)
    assert mm.prior_check(some, prior, shifted).p_value < 1e-6


def test_at_low_redshift_the_lattice_is_that_of_the_objects():
    """Where p(z) reaches the beginning of the prior a luminosity goes as z^2, which equal steps in ln(1 + z) do not resolve."""
    prior = mm.MassPrior.from_cosmology("Planck18", redshift=np.linspace(0.0, 0.6, 13), log10_mass_range=(13.5, 16.0))
    z = np.linspace(0.06, 0.3, 25)
    near = mm.HaloCatalogue.from_arrays(luminosity=np.geomspace(0.1, 2.0, 25), redshift=z, sigma_ln_luminosity=0.1)
    near = near.with_redshifts(
        mm.RedshiftDistributions.gaussian(z, 0.03, variable="ln_1z", contains="likelihood", lum_moves=True)
    )
    for alpha1 in (0.0, -2.0):
        relation = mm.MassLuminosityRelation(alpha1=alpha1, alpha2=1.7, alpha3=3e14, alpha4=0.0, scatter=0.3)
        with jax.enable_x64(True):
            found = float(UncertainData(near, prior).likelihood(0.3)(relation))
            exact = float(mm.log_likelihood(relation, near, prior))
        assert found == pytest.approx(exact, abs=0.01)


def test_a_part_of_many_objects_is_checked(field, monkeypatch):
    """The first and the last are among them."""
    from massmap_jax.checks import prior_check

    monkeypatch.setattr(prior_check, "_MOST_UNCERTAIN", 150)
    prior, _, _, catalogue = field
    check = mm.prior_check(with_errors(catalogue.subset(np.arange(400))), prior, relation_of(ALL))
    assert (check.not_compared, np.isfinite(check.pit).sum()) == (250, 150)
    assert np.isfinite(check.pit[[0, 399]]).all()
    assert check.p_value > 1e-5


def test_a_limit_in_luminosities_that_move_is_refused(field):
    """Those that do not move have one."""
    prior, _, _, catalogue = field
    some, limit = catalogue.subset(np.arange(20)), mm.FluxLimit(1e-9)
    for asked in (lambda c: mm.fit_relation(c, prior, BELIEFS, selection=limit),
                  lambda c: mm.log_likelihood(relation_of(ALL), c, prior, limit),
                  lambda c: mm.mass_posterior(c, prior, relation_of(ALL), selection=limit)):  # fmt: skip
        with pytest.raises(MassmapError, match="luminosities are not known either"):
            asked(with_errors(some))
    assert np.isfinite(mm.log_likelihood(relation_of(ALL), with_errors(some, lum_moves=False), prior, limit))


def test_a_flux_is_not_used_twice(field):
    prior, _, _, catalogue = field
    seen = with_errors(catalogue.subset(np.arange(20)), contains="posterior_with_flux")
    with pytest.raises(MassmapError, match="flux twice"):
        mm.fit_relation(seen, prior, BELIEFS)
