"""Are host masses of galaxies calibrated, and are the usual mistakes with satellites noticed?

Galaxies are made in plain NumPy from a mass function, centrals and Poisson satellites of Cacciato et al. 2009, noise and
a limit; 22 % are satellites. The unit is a galaxy that shares its halo with no other, a group, or a field.
"""

import jax
import numpy as np
import pytest
from reference import satellite_reference as slow
from scipy.stats import binom, kstest

import massmap_jax as mm
from massmap_jax.relation.published import published_relation

pytestmark = pytest.mark.slow
SIGMA, LN_LUM_MIN, LEVEL = 0.1, 9.6 * np.log(10), 3e-7  # 5 sigma
SATELLITES = mm.SchechterSatellites.preset("cacciato2009")
CENTRALS = published_relation("lc_cacciato09")
NOMINAL = {0.68: (0.16, 0.84), 0.95: (0.025, 0.975)}


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
    """Galaxies, flags that are right for 85 % of them, and a function that gives their CDFs at the true mass."""
    galaxies = slow.galaxies(1, 45_000, LN_LUM_MIN, SIGMA)
    right = np.random.default_rng(2).uniform(size=galaxies.ln_mass.size) < 0.85
    flags = np.where(right, galaxies.is_central, ~galaxies.is_central)
    catalogue = catalogue_of(galaxies)

    def cdf(membership=None):
        found = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=membership)
        return found, found.cdf(galaxies.ln_mass)

    return galaxies, flags, cdf


def thirds(galaxies):
    """The faint, middle and bright third of the catalogue."""
    rank = np.argsort(np.argsort(galaxies.ln_lum_obs))
    return [rank * 3 // rank.size == i for i in range(3)]


def p_of_coverage(cdf, parts):
    """The smallest p of 68 and 95 % intervals in parts of the data, and the shares inside, in percent."""
    p, told = [], []
    for part in parts:
        for level, (low, high) in NOMINAL.items():
            inside, number = int(((cdf > low) & (cdf < high))[part].sum()), int(part.sum())
            p.append(2 * min(binom.cdf(inside, number, level), binom.sf(inside - 1, number, level)))
            told.append(round(100 * inside / number, 1))
    return min(p), told


def test_mixture_is_calibrated_in_every_third_of_luminosity(single):
    galaxies, _, cdf = single
    found, below = cdf()
    p, told = p_of_coverage(below, thirds(galaxies))
    share = 1 - galaxies.is_central.mean()
    number = below.size
    print(f"{number} galaxies, {100 * share:.1f} % satellites; mixture {told}, bias"
          f" {(found.mean - galaxies.ln_mass).mean():.3f}, sd {found.sd.mean():.2f}")  # fmt: skip
    assert number > 2e4 and 0.2 < share < 0.24 and p > LEVEL
    # p_sat is a probability too, in each third.
    for part in thirds(galaxies):
        error = np.sqrt((found.p_sat * (1 - found.p_sat))[part].sum())
        assert abs((found.p_sat - ~galaxies.is_central)[part].sum()) < 5 * error


def test_all_as_centrals_is_noticed(single):
    galaxies, _, cdf = single
    found, below = cdf(mm.Membership.from_flags(np.ones(galaxies.ln_mass.size), purity=1.0))
    p, told = p_of_coverage(below, [np.ones(below.size, dtype=bool)])
    bias = (found.mean - galaxies.ln_mass).mean()
    print(f"all as centrals {told}, bias {bias:.2f}; satellites"
          f" {p_of_coverage(below, [~galaxies.is_central])[1]}")  # fmt: skip
    assert p < LEVEL and bias < -0.5 and told[0] < 58 and told[1] < 82


def test_one_share_of_satellites_for_all_is_noticed_in_the_faint_third(single):
    """The share of satellites at a luminosity is given by the luminosity functions, and is no constant."""
    galaxies, _, cdf = single
    found, _ = cdf()
    # Odds that make p_sat the same for all.
    odds = found.p_sat / (1 - found.p_sat)
    constant = (~galaxies.is_central).mean()
    odds = odds * (1 - constant) / constant
    same, below = cdf(mm.Membership.from_probability(odds / (1 + odds)))
    np.testing.assert_allclose(same.p_sat, constant, rtol=1e-3)
    p, told = p_of_coverage(below, thirds(galaxies)[:1])
    error = np.sqrt((same.p_sat * (1 - same.p_sat))[thirds(galaxies)[0]].sum())
    score = (same.p_sat - ~galaxies.is_central)[thirds(galaxies)[0]].sum() / error
    print(f"one share of satellites, faint third {told}, p {p:.1e}, satellites missed by {score:.1f} sigma")
    assert score < -5


def test_a_flag_enters_as_odds_and_is_not_believed(single):
    galaxies, flags, cdf = single
    parts = thirds(galaxies)
    found, below = cdf(mm.Membership.from_flags(flags, purity=0.85))
    p, told = p_of_coverage(below, parts)
    _, believed = cdf(mm.Membership.from_flags(flags, purity=1.0))
    p_believed, told_believed = p_of_coverage(believed, [np.ones(below.size, dtype=bool)])
    print(f"flag as odds {told}, sd {found.sd.mean():.2f}; believed {told_believed}")
    assert p > LEVEL
    assert p_believed < LEVEL and told_believed[0] < 63 and told_believed[1] < 88


class WithoutPoisson(mm.SatelliteLuminosityFunction):
    """The mistake: the number of satellites that were expected is left out."""

    right: mm.SchechterSatellites
    mass_definition: str = "180m"
    lum_unit: str = "Lsun"

    def ln_norm(self, ln_mass, z):
        return self.right.ln_norm(ln_mass, z)

    def slope(self, ln_mass, z):
        return self.right.slope(ln_mass, z)

    def ln_ratio(self, ln_mass, z):
        return self.right.ln_ratio(ln_mass, z)

    def mean_number(self, relation, ln_mass, z, ln_lum_min, sigma=0.0):
        return 0 * ln_mass


def test_groups_are_calibrated_and_sharper_and_the_poisson_term_counts(prior):
    galaxies = slow.field(3, 12_000, LN_LUM_MIN, SIGMA)
    has_central = np.isin(galaxies.halo, galaxies.halo[galaxies.is_central])
    chosen = slow.Galaxies(*(a[has_central] for a in galaxies[:4]), galaxies.halo_ln_mass)
    centrals, truth = chosen.is_central, chosen.ln_mass
    catalogue, limit = catalogue_of(chosen), mm.FluxLimit(np.exp(LN_LUM_MIN))
    known = mm.Membership.from_groups(chosen.halo, centrals)
    given = catalogue, prior, CENTRALS
    found = mm.host_posterior(*given, SATELLITES, membership=known, selection=limit)
    below = found.cdf(truth)[centrals]
    p, told = p_of_coverage(below, [np.ones(below.size, dtype=bool)])
    alone = mm.host_posterior(catalogue.subset(centrals), prior, CENTRALS, SATELLITES,
                              membership=mm.Membership.from_flags(np.ones(below.size), purity=1.0))  # fmt: skip
    rich = np.isin(chosen.halo, np.flatnonzero(np.bincount(chosen.halo) > 2))[centrals]
    sd, sd_alone = found.sd[centrals], alone.sd
    ratio = found.mean_central_mass.sum() / np.exp(truth[centrals]).sum()
    wrong = mm.host_posterior(*given, WithoutPoisson(SATELLITES), membership=known, selection=limit)
    wrong_ratio = wrong.mean_central_mass.sum() / np.exp(truth[centrals]).sum()
    print(f"{below.size} groups: {told}, sd {sd_alone.mean():.2f} to {sd.mean():.2f}, of 3 and more"
          f" {sd_alone[rich].mean():.2f} to {sd[rich].mean():.2f}; summed mass {ratio:.3f}, without the Poisson term"
          f" {wrong_ratio:.1f}")  # fmt: skip
    assert p > LEVEL and kstest(below, "uniform").pvalue > LEVEL
    assert sd.mean() < 0.95 * sd_alone.mean() and sd[rich].mean() < 0.7 * sd_alone[rich].mean()
    mass = np.exp(truth[centrals])
    spread = np.sqrt(((mass * np.minimum(sd, 1)) ** 2).sum()) / mass.sum()
    assert abs(ratio - 1) < 5 * spread and wrong_ratio > 4


def test_total_mass_of_maps_is_covered_and_other_sums_fail(prior):
    """Fields side by side, one in each pixel: total masses of centrals against the draws of the map."""
    side, num_draws = 8, 40
    pixel = np.arange(side**2)
    fields = [slow.field(100 + i, 400, LN_LUM_MIN, SIGMA) for i in pixel]
    x, y = (np.concatenate([np.full(f.ln_mass.size, c) for f, c in zip(fields, centres, strict=True)]) + 0.5
            for centres in (pixel % side, pixel // side))  # fmt: skip
    every = slow.Galaxies(*(np.concatenate([f[i] for f in fields]) for i in range(4)), fields[0].halo_ln_mass)
    truth = np.array([np.exp(f.ln_mass[f.is_central]).sum() for f in fields])
    rng = np.random.default_rng(0)  # no two galaxies in the same place
    place = {"ra": x + rng.uniform(-0.1, 0.1, x.size), "dec": y + rng.uniform(-0.1, 0.1, x.size)}
    catalogue = catalogue_of(every, position_unit="arcmin", **place)
    grid = mm.PixelGrid.fit([0.01, side - 0.01], [0.01, side - 0.01], pixel_arcmin=1.0, frame="flat")

    def levels(membership=None):
        """Share of the map's draws below the true mass of each field, and the ratio of sums."""
        hosts = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=membership)
        found = mm.host_map(jax.random.key(5), hosts, grid, num_draws=num_draws, keep_draws=True)
        cells = grid.index(pixel % side + 0.5, pixel // side + 0.5)
        draws = found.draws.reshape(num_draws, -1)[:, cells]
        assert found.n_mapped == x.size and (found.nobj.ravel()[cells] == [f.ln_mass.size for f in fields]).all()
        return hosts, (draws < truth).mean(axis=0), found.total_mass / truth.sum()

    hosts, below, ratio = levels()
    p, told = p_of_coverage(below, [np.ones(pixel.size, dtype=bool)])
    every_host = hosts.mean_mass.sum() / truth.sum()
    _, as_centrals, ratio_centrals = levels(mm.Membership.from_flags(np.ones(x.size), purity=1.0))
    p_centrals, told_centrals = p_of_coverage(as_centrals, [np.ones(pixel.size, dtype=bool)])
    print(f"{pixel.size} fields of {x.size / pixel.size:.0f} galaxies: indicator {told}, total {ratio:.3f}; every host"
          f" {every_host:.1f}; all as centrals {told_centrals}, total {ratio_centrals:.2f}")  # fmt: skip
    assert p > LEVEL and kstest(below, "uniform").pvalue > LEVEL
    assert every_host > 4 and kstest(as_centrals, "uniform").pvalue < LEVEL
