"""Are host masses of galaxies calibrated, and are the usual mistakes with satellites noticed?

Galaxies are made in plain NumPy from a mass function, centrals and Poisson satellites of Cacciato et al. 2009, noise and
a limit; 22 % are satellites. The unit is a galaxy that shares its halo with no other, a group, or a field.
"""

import jax
import numpy as np
import pytest
from reference import satellite_reference as slow
from scipy.stats import binom

import massmap_jax as mm
from massmap_jax.relation.published import published_relation

pytestmark = pytest.mark.slow
SIGMA, LN_LUM_MIN, LEVEL = 0.1, 9.6 * np.log(10), 3e-7  # 5 sigma
SATELLITES = mm.SchechterSatellites.preset("cacciato2009")
CENTRALS = published_relation("lc_cacciato09")


@pytest.fixture(scope="module")
def prior():
    nodes = slow.LN_MASS[::8]
    density = slow.mass_function(nodes)[None]
    labels = {"mass_definition": "180m", "support": "sharp"}
    return mm.MassPrior.from_table([0.1], np.exp(nodes), density, per="ln_mass", **labels)


def catalogue_of(galaxies, **more):
    number = galaxies.ln_mass.size
    given = {"redshift": np.full(number, 0.1), "sigma_ln_luminosity": SIGMA, "lum_unit": "Lsun"} | more
    return mm.HaloCatalogue.from_arrays(ln_luminosity=galaxies.ln_lum_obs, **given)


@pytest.fixture(scope="module")
def single(prior):
    """Galaxies, flags that are right for 85 % of them, and a function that gives their hosts and which are covered."""
    galaxies = slow.galaxies(1, 45_000, LN_LUM_MIN, SIGMA)
    right = np.random.default_rng(2).uniform(size=galaxies.ln_mass.size) < 0.85
    flags = np.where(right, galaxies.is_central, ~galaxies.is_central)
    catalogue = catalogue_of(galaxies)

    def hosts(membership=None):
        found = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=membership)
        return found, covered(found, galaxies.ln_mass)

    return galaxies, flags, hosts


def covered(found, ln_mass):
    """Which true masses lie in the 68 and 95 % intervals; (level, row)."""
    assert found.quantile_levels == (0.025, 0.16, 0.5, 0.84, 0.975)
    low, high = found.quantiles[:, [1, 0]].T, found.quantiles[:, [3, 4]].T
    return (low < ln_mass) & (ln_mass < high)


def thirds(galaxies):
    """The faint, middle and bright third of the catalogue."""
    rank = np.argsort(np.argsort(galaxies.ln_lum_obs))
    return [rank * 3 // rank.size == i for i in range(3)]


def p_of_coverage(inside, parts=(slice(None),)):
    """The smallest p of 68 and 95 % intervals in parts of the data, and the shares inside, in percent."""
    p, told = [], []
    for part in parts:
        for level, which in zip((0.68, 0.95), inside, strict=True):
            count, number = int(which[part].sum()), which[part].size
            p.append(2 * min(binom.cdf(count, number, level), binom.sf(count - 1, number, level)))
            told.append(round(100 * count / number, 1))
    return min(p), told


def test_mixture_is_calibrated_in_every_third_of_luminosity(single):
    galaxies, _, hosts = single
    found, inside = hosts()
    p, told = p_of_coverage(inside, thirds(galaxies))
    share = 1 - galaxies.is_central.mean()
    number = len(found)
    print(f"{number} galaxies, {100 * share:.1f} % satellites; mixture {told}, bias"
          f" {(found.mean - galaxies.ln_mass).mean():.3f}, sd {found.sd.mean():.2f}")  # fmt: skip
    assert number > 2e4 and 0.2 < share < 0.24 and p > LEVEL
    # p_sat is a probability too, in each third.
    for part in thirds(galaxies):
        error = np.sqrt((found.p_sat * (1 - found.p_sat))[part].sum())
        assert abs((found.p_sat - ~galaxies.is_central)[part].sum()) < 5 * error


def test_all_as_centrals_is_noticed(single):
    galaxies, _, hosts = single
    found, inside = hosts(mm.Membership.from_flags(np.ones(galaxies.ln_mass.size), purity=1.0))
    p, told = p_of_coverage(inside)
    bias = (found.mean - galaxies.ln_mass).mean()
    print(f"all as centrals {told}, bias {bias:.2f}, sd {found.sd.mean():.2f}; satellites"
          f" {p_of_coverage(inside, [~galaxies.is_central])[1]}")  # fmt: skip
    assert p < LEVEL and bias < -0.5 and told[0] < 58 and told[1] < 82


def test_one_share_of_satellites_for_all_is_noticed_in_the_faint_third(single):
    """The share of satellites at a luminosity is given by the luminosity functions, and is no constant."""
    galaxies, _, hosts = single
    found, _ = hosts()
    # Odds that make p_sat the same for all.
    odds = found.p_sat / (1 - found.p_sat)
    constant = (~galaxies.is_central).mean()
    odds = odds * (1 - constant) / constant
    same, inside = hosts(mm.Membership.from_probability(odds / (1 + odds)))
    np.testing.assert_allclose(same.p_sat, constant, rtol=1e-3)
    p, told = p_of_coverage(inside, thirds(galaxies)[:1])
    error = np.sqrt((same.p_sat * (1 - same.p_sat))[thirds(galaxies)[0]].sum())
    score = (same.p_sat - ~galaxies.is_central)[thirds(galaxies)[0]].sum() / error
    print(f"one share of satellites, faint third {told}, p {p:.1e}, satellites missed by {score:.1f} sigma")
    assert score < -5  # of the same draws, so no chance


def test_a_flag_enters_as_odds_and_is_not_believed(single):
    galaxies, flags, hosts = single
    found, inside = hosts(mm.Membership.from_flags(flags, purity=0.85))
    p, told = p_of_coverage(inside, thirds(galaxies))
    p_believed, told_believed = p_of_coverage(hosts(mm.Membership.from_flags(flags, purity=1.0))[1])
    print(f"flag as odds {told}, sd {found.sd.mean():.2f}; believed {told_believed}")
    assert p > LEVEL
    assert p_believed < LEVEL and told_believed[0] < 63 and told_believed[1] < 88


def test_groups_are_calibrated_and_sharper_and_the_poisson_term_counts(prior, monkeypatch):
    galaxies = slow.field(3, 8_000, LN_LUM_MIN, SIGMA)
    chosen = np.isin(galaxies.halo, galaxies.halo[galaxies.is_central])
    # A choice by the data does no harm; larger groups would be compiled apart.
    chosen &= np.bincount(galaxies.halo)[galaxies.halo] <= 5
    halo, centrals, truth = galaxies.halo[chosen], galaxies.is_central[chosen], galaxies.ln_mass[chosen]
    catalogue, limit = catalogue_of(galaxies).subset(chosen), mm.FluxLimit(np.exp(LN_LUM_MIN))
    known = mm.Membership.from_groups(halo, centrals)

    def groups(limit):
        found = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=known, selection=limit)
        return found, found.mean_central_mass.sum() / np.exp(truth[centrals]).sum()

    found, ratio = groups(limit)
    p, told = p_of_coverage(covered(found, truth)[:, centrals])
    certain = mm.Membership.from_flags(np.ones(centrals.sum()), purity=1.0)
    alone = mm.host_posterior(catalogue.subset(centrals), prior, CENTRALS, SATELLITES, membership=certain)
    # The mistake: above so high a limit no satellite is expected, which leaves the Poisson term out.
    monkeypatch.setattr("massmap_jax.posterior.hosts._check_groups", lambda *any: None)
    _, wrong_ratio = groups(mm.FluxLimit(1e30))
    rich = (np.bincount(halo) > 2)[halo][centrals]
    sd, sd_alone = found.sd[centrals], alone.sd
    print(f"{sd.size} groups: {told}, sd {sd_alone.mean():.2f} to {sd.mean():.2f}, {rich.sum()} of 3 to 5"
          f" {sd_alone[rich].mean():.2f} to {sd[rich].mean():.2f}; summed mass {ratio:.3f}, without the Poisson term"
          f" {wrong_ratio:.1f}")  # fmt: skip
    assert p > LEVEL
    assert sd.mean() < 0.95 * sd_alone.mean() and sd[rich].mean() < 0.7 * sd_alone[rich].mean()
    mass = np.exp(truth[centrals])
    error = np.sqrt(((mass * sd) ** 2).sum()) / mass.sum()
    assert abs(ratio - 1) < 5 * error and wrong_ratio > 3


def test_total_mass_of_maps_is_covered_and_other_sums_fail(prior):
    """Fields side by side, one in each pixel: total masses of centrals against the draws of the map."""
    side = 8
    pixel = np.arange(side**2)
    fields = [slow.field(100 + i, 400, LN_LUM_MIN, SIGMA) for i in pixel]
    number = np.array([f.ln_mass.size for f in fields])
    every = slow.Galaxies(*(np.concatenate([f[i] for f in fields]) for i in range(4)), fields[0].halo_ln_mass)
    truth = np.array([np.exp(f.ln_mass[f.is_central]).sum() for f in fields])
    x, y = np.repeat(pixel % side + 0.5, number), np.repeat(pixel // side + 0.5, number)
    apart = np.random.default_rng(0).uniform(-0.1, 0.1, (2, x.size))  # no two galaxies in the same place
    catalogue = catalogue_of(every, ra=x + apart[0], dec=y + apart[1], position_unit="arcmin")
    grid = mm.PixelGrid.fit([0.5, side - 0.5], [0.5, side - 0.5], pixel_arcmin=1.0, frame="flat")

    hosts = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES)
    found = mm.host_map(jax.random.key(5), hosts, grid, num_draws=25, keep_draws=True)
    cells = grid.index(pixel % side + 0.5, pixel // side + 0.5)
    assert (found.nobj.ravel()[cells] == number).all()
    below = (found.draws.reshape(25, -1)[:, cells] < truth).mean(axis=0)
    p, told = p_of_coverage(np.array([np.abs(below - 0.5) < level / 2 for level in (0.68, 0.95)]))
    certain = mm.Membership.from_flags(np.ones(x.size), purity=1.0)
    as_centrals = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=certain)
    total, error = truth.sum(), found.total_draws.std()
    ratio, ratio_centrals = found.total_mass / total, as_centrals.mean_mass.sum() / total
    pull, pull_centrals = (ratio - 1) * total / error, (ratio_centrals - 1) * total / error
    every_host = hosts.mean_mass.sum() / total
    print(f"{pixel.size} fields of {number.mean():.0f} galaxies: indicator {told}, total {ratio:.3f}, {pull:.1f} sigma;"
          f" every host {every_host:.1f}; all as centrals {ratio_centrals:.2f}, {pull_centrals:.1f} sigma")  # fmt: skip
    assert p > LEVEL and abs(pull) < 4
    assert every_host > 4 and pull_centrals > 4
