"""Host masses of galaxies and of groups: against sums on a grid in plain NumPy, and what is refused."""

import jax
import numpy as np
import pytest
from reference import satellite_reference as slow

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.published import published_relation

SATELLITES = mm.SchechterSatellites.preset("cacciato2009")
CENTRALS = published_relation("lc_cacciato09")
LN_LUM = np.log([2e9, 1e10, 3e10, 1e11, 3e11])
LIMIT = mm.FluxLimit(1e9)


class Named(mm.SatelliteLuminosityFunction):
    """One with a field that JAX cannot take."""

    name: str

    def ln_norm(self, ln_mass, z):
        return ln_mass

    slope = ln_ratio = ln_norm


@pytest.fixture(scope="module")
def prior():
    return prior_of()


def prior_of(**labels):
    density = slow.mass_function(slow.LN_MASS)[None, ::5]
    labels = {"mass_definition": "180m", "support": "sharp"} | labels
    return mm.MassPrior.from_table([0.1], np.exp(slow.LN_MASS[::5]), density, per="ln_mass", **labels)


def galaxies(ln_lum=LN_LUM, sigma=0.2, **more):
    number = np.size(ln_lum)
    given = {"redshift": np.full(number, 0.1), "sigma_ln_luminosity": sigma, "lum_unit": "Lsun"} | more
    return mm.HaloCatalogue.from_arrays(ln_luminosity=ln_lum, **given)


def moments(density):
    mean = np.trapezoid(density * slow.LN_MASS, slow.LN_MASS) / np.trapezoid(density, slow.LN_MASS)
    square = np.trapezoid(density * (slow.LN_MASS - mean) ** 2, slow.LN_MASS)
    return mean, np.sqrt(square / np.trapezoid(density, slow.LN_MASS))


def check(found, row, central, satellite, tolerance):
    """One row against its densities on the grid."""
    both = central + satellite
    of_type = np.trapezoid([central, satellite], slow.LN_MASS)
    mean, sd = moments(both)
    assert abs(found.p_sat[row] - of_type[1] / of_type.sum()) < tolerance
    assert abs(found.mean[row] - mean) < tolerance * sd and abs(found.sd[row] / sd - 1) < tolerance
    humps = (("central", central), ("satellite", satellite))
    for name, density in humps:
        if np.trapezoid(density, slow.LN_MASS) < 1e-4 * of_type.sum():
            continue
        mean, sd = moments(density)
        assert abs(getattr(found, f"mean_{name}")[row] - mean) < 2 * tolerance * sd
        assert abs(getattr(found, f"sd_{name}")[row] / sd - 1) < 2 * tolerance
    mass = np.exp(slow.LN_MASS)
    total = np.trapezoid(both, slow.LN_MASS)
    assert abs(found.mean_mass[row] / (np.trapezoid(both * mass, slow.LN_MASS) / total) - 1) < 3 * tolerance
    counted = np.trapezoid(central * mass, slow.LN_MASS) / total
    assert abs(found.mean_central_mass[row] - counted) <= 3 * tolerance * counted
    below = np.concatenate([[0], np.cumsum(0.5 * (both[1:] + both[:-1]) * np.diff(slow.LN_MASS))])
    np.testing.assert_allclose(
        np.interp(found.quantiles[row], slow.LN_MASS, below / below[-1]), found.quantile_levels, atol=tolerance
    )


@pytest.mark.parametrize(("x64", "sigma"), [(False, 0.2), (True, 0.05), (True, 0.55)])
def test_galaxies_agree_with_a_grid(prior, x64, sigma):
    with jax.enable_x64(x64):
        found = mm.host_posterior(galaxies(sigma=sigma), prior, CENTRALS, SATELLITES)
        below = found.cdf(found.quantiles[:, 2])
    np.testing.assert_allclose(below, 0.5, atol=1e-4)
    for row, ln_lum in enumerate(LN_LUM):
        check(found, row, *slow.densities(ln_lum, sigma), 1e-3)


@pytest.mark.parametrize("chance", [0.0, 0.15, 0.5, 0.9, 1.0])
def test_probabilities_multiply_the_odds(prior, chance):
    known = mm.Membership.from_probability(np.full(LN_LUM.size, chance))
    found = mm.host_posterior(galaxies(), prior, CENTRALS, SATELLITES, membership=known)
    for row, ln_lum in enumerate(LN_LUM):
        check(found, row, *slow.densities(ln_lum, 0.2, chance, 1 - chance), 1e-3)
    if chance in (0, 1):
        ruled_out = found.mean_central if chance == 0 else found.mean_satellite
        assert np.abs(found.p_sat - 1 + chance).max() < 1e-6 and np.isnan(ruled_out).all()


@pytest.fixture(scope="module")
def groups(prior):
    """A galaxy alone, and two with many satellites."""
    rng = np.random.default_rng(1)
    members = [np.zeros(0), *(np.log(rng.uniform(1.5e9, 2e10, number)) for number in (17, 20))]
    ln_lum = np.concatenate([[one, *of_one] for one, of_one in zip(LN_LUM[1:4], members, strict=True)])
    group = np.repeat(["a", "b", "c"], [1 + of_one.size for of_one in members])
    is_central = np.append(True, group[1:] != group[:-1])
    order = rng.permutation(ln_lum.size)
    known = mm.Membership.from_groups(group[order], is_central[order])
    catalogue = galaxies(ln_lum[order], ids=order)
    found = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=known, selection=LIMIT)
    return found, members, is_central[order], group[order]


def test_groups_agree_with_a_grid(groups):
    found, members, is_central, group = groups
    ln_lum_min = float(LIMIT.ln_lum_min)
    for name, one, of_one in zip("abc", LN_LUM[1:4], members, strict=True):
        row = int(np.flatnonzero(is_central & (group == name))[0])
        with np.errstate(divide="ignore"):
            density = slow.group_density(one, of_one, 0.2, ln_lum_min)
            without = slow.group_density(one, of_one, 0.2, ln_lum_min, poisson=False)
        check(found, row, density, 0 * density, 1e-3)
        # The twin: without the number that was expected the mass of a rich group is far too large.
        if of_one.size:
            assert moments(without)[0] > moments(density)[0] + moments(density)[1]
        for column in ("mean", "sd", "quantiles", "mean_mass"):
            rows = getattr(found, column)[group == name]
            assert (rows == rows[0]).all()
    assert (found.p_sat == ~is_central).all()
    np.testing.assert_array_equal(found.mean_central[is_central], found.mean[is_central])
    np.testing.assert_array_equal(found.mean_satellite[~is_central], found.mean[~is_central])
    assert (found.mean_central_mass[~is_central] == 0).all()


def test_certain_centrals_have_the_masses_of_mass_posterior():
    """At several redshifts and errors, with evolution and a table of draws: the other path of the package agrees."""
    rng = np.random.default_rng(2)
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=rng.uniform(1.0, 5.0, 12), redshift=rng.uniform(0.1, 1.0, 12),
        sigma_ln_luminosity=rng.uniform(0.05, 0.4, 12),
    )  # fmt: skip
    relation = mm.MassLuminosityRelation(alpha1=[1.0, 1.2], alpha2=0.8, alpha4=1.5, scatter=[0.2, 0.3], alpha3=1e13)
    satellites = mm.SchechterSatellites(norm=[0.0, 1.0], ratio=0.5, slope_low=-1.1)
    prior = mm.MassPrior.default()
    certain = mm.Membership.from_flags(np.ones(12), purity=1.0)
    found = mm.host_posterior(
        catalogue, prior, relation, satellites, membership=certain, relation_from="this_catalogue"
    )
    expected = mm.mass_posterior(catalogue, prior, relation, relation_from="this_catalogue")
    assert np.abs((found.mean - expected.mean) / expected.sd).max() < 1e-3
    np.testing.assert_allclose(found.sd, expected.sd, rtol=1e-3)
    np.testing.assert_allclose(found.mean_mass, expected.mean_mass, rtol=2e-3)
    np.testing.assert_allclose(found.quantiles, expected.quantiles, atol=2e-3)
    # The limit of a group is that at its own redshift: fainter ones are refused there.
    limit = mm.RedshiftLimit.tabulated([0.1, 1.0], [np.exp(0.5), np.exp(2.0)])
    groups = mm.Membership.from_groups(range(12), np.ones(12))
    below = catalogue.ln_lum_obs < np.asarray(limit.ln_lum_min(catalogue.redshift))
    assert 0 < below.sum() < 12
    with pytest.raises(MassmapError, match=f"below the limit .* in {below.sum()} row"):
        mm.host_posterior(catalogue, prior, relation.draw(0), satellites, membership=groups, selection=limit)


def test_members_of_a_group_share_a_draw(groups):
    found, _, is_central, group = groups
    ln_mass, central = found.sample(jax.random.key(0), 20)
    for name in "abc":
        rows = ln_mass[group == name]
        assert (rows == rows[0]).all()
    assert (central == is_central[:, None]).all()
    assert np.abs((ln_mass.mean(axis=1) - found.mean) / found.sd).max() < 5 / np.sqrt(20)


def test_draws_of_one_galaxy_follow_its_posterior(prior):
    """Types and masses: their shares and means within 5 standard errors."""
    found = mm.host_posterior(galaxies(), prior, CENTRALS, SATELLITES)
    ln_mass, central = found.sample(jax.random.key(3), 1000)
    error = np.sqrt(found.p_sat * (1 - found.p_sat) / 1000)
    assert (np.abs(1 - central.mean(axis=1) - found.p_sat) < 5 * error + 1e-4).all()
    assert np.abs((ln_mass.mean(axis=1) - found.mean) / found.sd).max() < 5 / np.sqrt(1000)
    counted = np.where(central, np.exp(ln_mass), 0)
    np.testing.assert_array_less(
        np.abs(counted.mean(axis=1) - found.mean_central_mass), 5 * counted.std(axis=1) / np.sqrt(1000)
    )


def test_draws_of_the_relation_are_averaged(prior):
    """Each draw's posterior is normalised, and the draws are averaged by their weights."""
    slopes, weight = np.array([0.36, 0.4, 0.5]), np.array([0.2, 0.5, 0.3])
    labels = {"lum_unit": "Lsun", "mass_definition": "180m"}
    batch = mm.MassLuminosityRelation(
        alpha1=24.3, alpha2=slopes, alpha3=1e13, scatter=0.35, log_weight=np.log(weight), **labels
    )
    every = mm.host_posterior(galaxies(), prior, batch, SATELLITES, relation_from="fixed_draws")
    single = [mm.host_posterior(galaxies(), prior, batch.draw(i), SATELLITES) for i in range(3)]
    np.testing.assert_allclose(every.p_sat, sum(w * s.p_sat for w, s in zip(weight, single, strict=True)), rtol=1e-4)
    np.testing.assert_allclose(every.mean, sum(w * s.mean for w, s in zip(weight, single, strict=True)), rtol=1e-5)
    assert np.ptp([s.mean for s in single], axis=0).min() > 0.05


def test_neither_order_nor_chunks_matter(prior):
    ln_lum = np.linspace(21.5, 26.0, 12)
    found = mm.host_posterior(galaxies(ln_lum, ids=np.arange(12)), prior, CENTRALS, SATELLITES)
    reverse = galaxies(ln_lum[::-1], ids=np.arange(12)[::-1])
    turned = mm.host_posterior(reverse, prior, CENTRALS, SATELLITES)
    np.testing.assert_array_equal(found.mean, turned.mean[::-1])
    in_fours = mm.host_posterior(reverse, prior, CENTRALS, SATELLITES, chunk_size=4)
    np.testing.assert_allclose(found.mean, in_fours.mean[::-1], rtol=2e-6)
    draws = found.sample(jax.random.key(1), 3)[0]
    np.testing.assert_array_equal(draws, turned.sample(jax.random.key(1), 3)[0][::-1])


def test_rows_that_cannot_be_used_keep_their_place(prior):
    ln_lum = np.append(LN_LUM, np.nan)
    known = mm.Membership.from_probability([0.9, np.nan, 1.5, 0.5, 0.5, 0.5])
    found = mm.host_posterior(galaxies(ln_lum), prior, CENTRALS, SATELLITES, membership=known)
    bad, missing = int(mm.Flag.MEMBERSHIP_BAD), int(mm.Flag.LUM_MISSING)
    assert found.flag.tolist() == [0, bad, bad, 0, 0, missing]
    assert np.isfinite(found.mean).tolist() == [True, False, False, True, True, False]
    table = found.to_table()
    assert table["flag_reason"].tolist()[1] == "MEMBERSHIP_BAD" and np.isnan(table["p_sat"][1])
    described = found.to_astropy()
    assert all(described[name].description for name in described.colnames)
    assert str(described["host_mass_mean"].unit) == "solMass" and described.meta["mass_definition"] == "180m"
    assert "Cacciato" in found.to_pandas().attrs["satellites_source"]
    assert "3 rows: " not in found.summary() and "satellites expected among 3 galaxies" in found.summary()


def test_a_group_with_a_bad_row_has_no_host(prior):
    known = mm.Membership.from_groups([1, 1, 2], [1, 0, 1])
    catalogue = galaxies(np.array([25.0, np.nan, 25.0]))
    found = mm.host_posterior(catalogue, prior, CENTRALS, SATELLITES, membership=known, selection=LIMIT)
    assert found.flag.tolist() == [int(mm.Flag.GROUP_BAD), int(mm.Flag.LUM_MISSING), 0]
    assert np.isfinite(found.mean).tolist() == [False, False, True]


def test_masses_at_the_end_of_the_table_are_flagged():
    """A table that ends below the hosts of bright galaxies, and goes on in truth."""
    nodes = slow.LN_MASS[:800:5]
    prior = mm.MassPrior.from_table(
        [0.1], np.exp(nodes), slow.mass_function(nodes)[None], per="ln_mass", mass_definition="180m"
    )
    found = mm.host_posterior(galaxies(), prior, CENTRALS, SATELLITES)
    assert found.flag[-1] == int(mm.Flag.EDGE) and found.edge_mass[-1] > 0.1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prior": {"mass_definition": "200m"}}, "180m"),
        ({"satellites": mm.SchechterSatellites(norm=1.0, ratio=0.5, slope_low=-1, mass_definition="vir")}, "vir"),
        ({"satellites": mm.SchechterSatellites(norm=1.0, ratio=0.5, slope_low=-1, lum_unit="1e10 Lsun")}, "1e10 Lsun"),
        ({"satellites": Named(name="mine")}, "a parameter of the satellites is 'mine'"),
        ({"satellites": "cacciato2009"}, "satellites is str: give SchechterSatellites"),
        ({"catalogue": {"sigma": [0.1, 0.7, 0.1, 0.1, 0.1]}}, "above 0.6 in ln L in 1 row, first row 1 with value 0.7"),
        ({"catalogue": {"noise_kind": "normal"}}, "noise has to be lognormal"),
        ({"relation_from": "other_data"}, "do not update draws"),
        ({"relation": CENTRALS.as_batch().draw([0, 0])}, "relation_from is not given"),
        ({"membership": mm.Membership.from_probability([0.5])}, "membership has 1 rows, and the catalogue has 5"),
        ({"membership": mm.Membership.from_groups(range(5), [1] * 5)}, "groups need the limit"),
        (
            {"membership": mm.Membership.from_groups(range(5), [1] * 5), "selection": mm.FluxLimit(1e10)},
            "below the limit of the catalogue .luminosity limit 1e.10. in 1 row, first row 0",
        ),
        (
            {
                "membership": mm.Membership.from_groups([1, 1, 2, 3, 4], [1, 0, 1, 1, 1]),
                "selection": LIMIT,
                "catalogue": {"redshift": [0.1, 0.2, 0.1, 0.1, 0.1]},
            },
            "redshifts differ by more than 0.05 .* 1 row, first row 1 with value 0.2 .its central has 0.1",
        ),
        ({"chunk_size": 0}, "chunk size is 0"),
        ({"quantile_levels": [2.0]}, "quantile levels"),
    ],
)
def test_what_has_no_answer_is_refused(changes, told):
    given = {"relation": CENTRALS, "satellites": SATELLITES} | changes
    catalogue = galaxies(**given.pop("catalogue", {}))
    prior = prior_of(**given.pop("prior", {}))
    if "redshift" in changes.get("catalogue", {}):
        prior = mm.MassPrior.from_table(
            [0.0, 0.5], np.exp(slow.LN_MASS), np.tile(slow.mass_function(slow.LN_MASS), (2, 1)), per="ln_mass",
            mass_definition="180m",
        )  # fmt: skip
    with pytest.raises(MassmapError, match=told):
        mm.host_posterior(catalogue, prior, **given)


def test_relations_with_more_than_the_luminosity_are_refused(prior):
    others = {"richness": mm.MassLuminosityRelation(alpha1=3.0, alpha2=1.0, alpha3=1e14, scatter=0.3)}
    several = mm.MultiObservableRelation(
        alpha1=24.0, alpha2=0.4, scatter=0.3, alpha3=1e13, others=others, scatter_correlation=np.eye(2)
    )
    with pytest.raises(MassmapError, match="richness beside the luminosity"):
        mm.host_posterior(galaxies(), prior, several, SATELLITES)
    photo_z = mm.RedshiftDistributions.gaussian(np.full(5, 0.1), 0.02, contains="likelihood", lum_moves=True)
    with pytest.raises(MassmapError, match="takes redshifts as exact"):
        mm.host_posterior(galaxies().with_redshifts(photo_z), prior, CENTRALS, SATELLITES)
