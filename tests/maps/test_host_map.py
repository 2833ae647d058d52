"""Maps of the hosts of galaxies: each halo once, at its central; draws share the relation; what is refused."""

import jax
import numpy as np
import pytest
from reference import satellite_reference as slow

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.published import published_relation

SATELLITES = mm.SchechterSatellites.preset("cacciato2009")
CENTRALS = published_relation("lc_cacciato09")
KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def prior():
    density = slow.mass_function(slow.LN_MASS)[None, ::8]
    return mm.MassPrior.from_table(
        [0.1], np.exp(slow.LN_MASS[::8]), density, per="ln_mass", mass_definition="180m", support="sharp"
    )


@pytest.fixture(scope="module")
def galaxies():
    """Twelve galaxies in a row, one in each pixel but for two that share one."""
    rng = np.random.default_rng(0)
    place = {"ra": np.append(np.arange(11.0), 10.0), "dec": np.zeros(12), "position_unit": "arcmin"}
    given = {"redshift": np.full(12, 0.1), "sigma_ln_luminosity": 0.1, "lum_unit": "Lsun"} | place
    return mm.HaloCatalogue.from_arrays(ln_luminosity=rng.uniform(22.5, 25.0, 12), **given)


@pytest.fixture(scope="module")
def hosts(galaxies, prior):
    return mm.host_posterior(galaxies, prior, CENTRALS, SATELLITES)


@pytest.fixture(scope="module")
def grid(galaxies):
    return mm.PixelGrid.fit(galaxies.ra, galaxies.dec, pixel_arcmin=1.0, frame="flat")


def test_each_pixel_holds_indicator_times_mass(galaxies, hosts, grid):
    found = mm.host_map(KEY, hosts, grid, num_draws=100, keep_draws=True)
    cells = grid.index(galaxies.ra, galaxies.dec)
    expected = np.bincount(cells, weights=hosts.mean_central_mass, minlength=grid.num_pixels)
    np.testing.assert_allclose(found.mean.ravel(), expected, rtol=1e-12)
    assert found.total_mass == pytest.approx(hosts.mean_central_mass.sum(), rel=1e-12)
    assert found.total_mass < 0.7 * hosts.mean_mass.sum() and found.n_mapped == 12
    error = found.draws.std(axis=0) / np.sqrt(100)
    assert (np.abs(found.sampled_mean - found.mean) <= 5 * error + 1).all()
    # Where the galaxy is a satellite there is nothing.
    empty = (found.draws.reshape(100, -1)[:, cells[:10]] == 0).mean(axis=0)
    p = hosts.p_sat[:10]
    assert (np.abs(empty - p) < 5 * np.sqrt(p * (1 - p) / 100) + 1e-9).all()


def test_a_group_is_counted_once_at_its_central(galaxies, prior, grid):
    """Two groups of two: the first shares a pixel, the members of the second lie in two."""
    chosen = galaxies.subset([10, 11, 2, 5])
    known = mm.Membership.from_groups(["a", "a", "b", "b"], [1, 0, 0, 1])
    hosts = mm.host_posterior(chosen, prior, CENTRALS, SATELLITES, membership=known, selection=mm.FluxLimit(5e9))
    found = mm.host_map(KEY, hosts, grid, num_draws=20)
    cells = grid.index(chosen.ra, chosen.dec)
    assert found.n_mapped == 2 and found.n_flagged == 0 and found.nobj.ravel()[cells].tolist() == [1, 1, 0, 1]
    expected = hosts.mean_mass[[0, 0, 3, 3]] * [1, 1, 0, 1]
    np.testing.assert_allclose(found.mean.ravel()[cells], expected, rtol=1e-12)
    assert found.total_mass == pytest.approx(hosts.mean_mass[[0, 3]].sum(), rel=1e-12)
    assert hosts.mean_mass[2] == hosts.mean_mass[3]


def test_draws_share_the_relation(galaxies, prior, grid):
    """Two relations a factor of 4 in mass apart: each map draw has one of them, for every galaxy."""
    labels = {"lum_unit": "Lsun", "mass_definition": "180m"}
    two = mm.MassLuminosityRelation(
        alpha1=24.0 + np.array([-0.35, 0.35]), alpha2=0.5, alpha3=1e13, scatter=0.05, **labels
    )
    certain = mm.Membership.from_flags(np.ones(12), purity=1.0)
    hosts = mm.host_posterior(galaxies, prior, two, SATELLITES, membership=certain, relation_from="this_catalogue")
    total = np.sort(mm.host_map(KEY, hosts, grid, num_draws=40).total_draws)
    assert total[20:].min() > 1.3 * total[:20].max()
    # The twin: independent draws of each galaxy mix the relations, and no such gap is seen.
    rng = np.random.default_rng(1)
    masses = np.exp(hosts.sample(KEY, 40)[0])
    mixed = np.sort(sum(rng.permutation(row) for row in masses))
    assert mixed[20:].min() < 1.1 * mixed[:20].max()


def test_slices_footprint_and_units(hosts, grid):
    footprint = np.ones(grid.shape, dtype=bool)
    footprint[:, :3] = False
    found = mm.host_map(
        KEY, hosts, grid, num_draws=100, footprint=footprint, unit="Msun/arcmin2", redshift_edges=[0.0, 0.05, 0.2]
    )
    assert found.mean.shape == (2, *grid.shape) and np.isnan(found.mean[:, :, :3]).all() and found.n_masked == 3
    assert np.nansum(found.mean[0]) == 0 and np.nansum(found.mean[1]) == pytest.approx(
        hosts.mean_central_mass[3:].sum(), rel=1e-9
    )
    form = mm.MapForm(fwhm_arcmin=3.0)
    assert mm.host_map(KEY, hosts, grid, num_draws=100, form=form).fwhm_arcmin == 3.0


def test_what_would_count_hosts_several_times_is_refused(galaxies, hosts, prior, grid):
    with pytest.raises(MassmapError, match="count each halo once for every galaxy in it: use host_map"):
        mm.mass_map(KEY, galaxies, prior, CENTRALS, grid, posterior=hosts)
    with pytest.raises(MassmapError, match="given to map_of_kind is that of the hosts"):
        mm.map_of_kind(KEY, "marginal", galaxies, prior, CENTRALS, grid, posterior=hosts)
    posterior = mm.mass_posterior(galaxies, prior, CENTRALS)
    with pytest.raises(MassmapError, match="needs the result of host_posterior, and was given MassPosterior"):
        mm.host_map(KEY, posterior, grid)
    nowhere = mm.HaloCatalogue.from_arrays(
        ln_luminosity=[24.0], redshift=[0.1], sigma_ln_luminosity=0.05, lum_unit="Lsun"
    )
    with pytest.raises(MassmapError, match="no positions"):
        mm.host_map(KEY, mm.host_posterior(nowhere, prior, CENTRALS, SATELLITES), grid)
    for options, told in (
        ({"num_draws": 1}, "number of map draws is 1"),
        ({"form": mm.MapForm(halo_profile="nfw")}, "leave halo_profile out"),
        ({"form": mm.MapForm(), "unit": "Msun/arcmin2"}, "one or the other"),
        ({"unit": "kg"}, "kg"),
    ):
        with pytest.raises(MassmapError, match=told):
            mm.host_map(KEY, hosts, grid, **options)
