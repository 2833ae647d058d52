"""Haloes on a map at their own size: against a loop over projected NFW profiles, and no mass lost."""

import dataclasses
import time
import warnings

import jax
import numpy as np
import pytest
from astropy.cosmology import Planck18
from reference import halo_profile_loop
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.halo import concentration
from massmap_jax.halo.cosmology import overdensity
from massmap_jax.halo.profiles import cut_nfw_enclosed
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.extended_halos import HaloProfiles, halo_radii
from massmap_jax.maps.kinds import map_of_kind
from massmap_jax.maps.mass_map import chosen_samples, mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

NUMBER, DRAWS, KEY = 60, 20, jax.random.key(0)
RELATION = MassLuminosityRelation.create(
    alpha1=10.709 + 0.1 * np.linspace(-1, 1, 5), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
)
PRIOR = dataclasses.replace(MassPrior.from_table(*schechter_table()), mass_definition="200m")
GRID = PixelGrid("tangent", (40, 48), 1.0, (0.0, 59.0))


def catalogue(ra_deg=0.12, dec_deg=0.12, **changes):
    rng = np.random.default_rng(4)
    columns = {
        "redshift": np.geomspace(0.03, 1.0, NUMBER),
        "luminosity": np.exp(rng.normal(9.5, 0.4, NUMBER)),
        "sigma_ln_luminosity": 0.05,
        "ra": rng.uniform(-ra_deg, ra_deg, NUMBER) / np.cos(np.radians(59)) % 360,
        "dec": 59 + rng.uniform(-dec_deg, dec_deg, NUMBER),
    }
    return HaloCatalogue.from_arrays(**columns | changes)


OBJECTS = catalogue()


def made(objects=OBJECTS, halo_profile="nfw", grid=GRID, **settings):
    settings = {"concentration_scatter": 0.0, "keep_draws": True} | settings
    return mass_map(
        KEY, objects, PRIOR, RELATION, grid, relation_from="fixed_draws", num_draws=DRAWS, draws="exact",
        halo_profile=halo_profile, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def smeared():
    return made()


def test_projected_mass_is_the_integral_of_the_surface_density():
    """Of Takada & Jain's closed form, by trapezoids in ln x."""
    for c in (0.8, 4.0, 15.0):
        x = np.geomspace(1e-6, 1, 200_001) * c
        dm = halo_profile_loop.cut_nfw(x, c) * x**2
        within = np.concatenate([[0.0], np.cumsum((dm[1:] + dm[:-1]) / 2 * np.diff(np.log(x)))])
        some = x > 1e-2
        np.testing.assert_allclose(cut_nfw_enclosed(x[some][::500], c), (within / within[-1])[some][::500], atol=2e-6)
    assert cut_nfw_enclosed(2.0, 2.0) == 1.0


@pytest.fixture(scope="module")
def profiles():
    return HaloProfiles(GRID, 20.0, "200m", "Planck18", KEY, 0.0)


@pytest.mark.parametrize("radius", [0.1, 0.6, 1.5, 4.0, 9.0, 18.0])
@pytest.mark.parametrize("c", [3.0, 9.0])
def test_enclosed_mass_of_one_halo(profiles, monkeypatch, radius, c):
    """Within any circle about its pixel, to 0.04 of its mass; a point with the same mass is no such halo."""
    density = overdensity("200m", "Planck18", np.array([0.2]))[0]
    per_pixel = Planck18.angular_diameter_distance(0.2).value * np.radians(1 / 60)
    ln_mass = np.log(4 * np.pi / 3 * density * (radius * per_pixel) ** 3)
    monkeypatch.setattr(concentration, "mean_ln_concentration", lambda *_: np.full((1, 1), np.log(c)))
    image = np.zeros((1, profiles.num_layers, 81, 81))
    shares = profiles.of(np.array([0.2]), np.zeros((1, 2), dtype=np.uint32))
    image[0, :, 40, 40] = [share[0, 0] for share in shares(np.array([0]), np.full((1, 1), ln_mass))]
    found = profiles.convolved(image, profiles.plan((81, 81)))[0]
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-12)
    wanted = halo_profile_loop.one_halo((81, 81), 40, 40, radius / c, c)
    y, x = np.mgrid[-40:41, -40:41]
    inside = np.hypot(y, x).ravel() <= np.arange(0.5, 30)[:, None]
    off = inside @ (found - wanted).ravel()
    assert np.abs(off).max() < 0.04
    if radius > 4:
        assert np.abs(1 - inside @ wanted.ravel()).max() > 0.3


def test_map_is_that_of_a_loop_over_halos(smeared):
    """The masses that `mass_map` draws with this key, two of the draws; most of the mass is spread over many pixels."""
    chosen = chosen_samples(KEY, OBJECTS, PRIOR, RELATION, relation_from="fixed_draws", num_draws=DRAWS, draws="exact")
    ln_mass = np.zeros((NUMBER, DRAWS))
    for rows, values in chosen.masses(Objects.of(OBJECTS, np.arange(NUMBER), PRIOR)):
        ln_mass[rows] = values
    pixel, z = GRID.index(OBJECTS.ra, OBJECTS.dec), OBJECTS.redshift
    place = pixel // GRID.shape[1], pixel % GRID.shape[1]
    points = made(halo_profile=None)
    np.testing.assert_array_equal(smeared.total_draws, points.total_draws)
    for draw in (0, 13):
        mass = np.exp(ln_mass[:, draw])
        c = 10.14 * (mass * 0.6766 / 2e12) ** -0.081 * (1 + z) ** -1.01  # Duffy et al. 2008, 200m
        wanted = halo_profile_loop.mass_map(GRID.shape, 1.0, *place, mass, c, z)
        off = np.abs(smeared.draws[draw] - wanted).sum() / mass.sum()
        as_points = np.abs(points.draws[draw] - wanted).sum() / mass.sum()
        print(f"mass in wrong pixels: {off / 2:.4f}, as points {as_points / 2:.4f}")
        assert off < 0.06 and as_points > 0.6


def test_truth_is_drawn_as_a_loop_over_halos():
    ln_mass = np.linspace(np.log(1e13), np.log(5e14), NUMBER)
    objects = dataclasses.replace(OBJECTS, truth_ln_mass=ln_mass)
    form = {"halo_profile": "nfw", "concentration_scatter": 0.0}
    truth = map_of_kind(KEY, "truth", objects, PRIOR, RELATION, GRID, relation_from="fixed_draws", **form)
    pixel, z, mass = GRID.index(OBJECTS.ra, OBJECTS.dec), OBJECTS.redshift, np.exp(ln_mass)
    c = 10.14 * (mass * 0.6766 / 2e12) ** -0.081 * (1 + z) ** -1.01  # Duffy et al. 2008, 200m
    wanted = halo_profile_loop.mass_map(GRID.shape, 1.0, pixel // GRID.shape[1], pixel % GRID.shape[1], mass, c, z)
    as_points = np.bincount(pixel, mass, GRID.num_pixels).reshape(GRID.shape)
    off, of_points = (np.abs(one - wanted).sum() / mass.sum() for one in (truth.mean, as_points))
    assert off < 0.06 and of_points > 0.5
    assert truth.mean.sum() == pytest.approx(mass.sum()) and truth.sd.max() == 0


def test_no_mass_is_lost(smeared):
    """Every draw and the mean, at the rim too; under a footprint, in slices and as a density."""
    wide = catalogue(0.4, 0.33)  # up to the rim
    footprint = np.ones(GRID.shape, dtype=bool)
    footprint[:, :17] = False
    at_rim, masked = made(wide), made(wide, footprint=footprint, concentration_scatter=0.3)
    for one in (smeared, at_rim, masked):
        np.testing.assert_allclose(np.nansum(one.draws, axis=(1, 2)), one.total_draws, rtol=1e-9)
        np.testing.assert_allclose(np.nansum(one.mean), one.total_mass, rtol=1e-9)
    assert np.isnan(masked.draws[:, ~footprint]).all() and np.nanmin(masked.draws) >= 0
    np.testing.assert_array_equal(masked.nobj[footprint], at_rim.nobj[footprint])
    sliced = made(redshift_edges=(0.0, 0.1, 0.3, 2.0), unit="Msun/arcmin2")
    area = GRID.pixel_areas_arcmin2(np.arange(GRID.num_pixels)).reshape(GRID.shape)
    np.testing.assert_allclose(
        sliced.draws.sum(axis=1) * area, smeared.draws, rtol=1e-6, atol=1e-9 * smeared.mean.max()
    )
    np.testing.assert_allclose((sliced.draws * area).sum(axis=(2, 3)).T, sliced.slice_draws, rtol=1e-9)


def test_small_halos_are_points_and_scatter_matters():
    far = catalogue(redshift=np.full(NUMBER, 1.0), luminosity=np.exp(np.full(NUMBER, 8.0)))
    coarse = PixelGrid("tangent", (20, 20), 20.0, (0.0, 59.0))
    np.testing.assert_allclose(made(far, grid=coarse).mean, made(far, None, grid=coarse).mean, rtol=1e-6)
    drawn = made(concentration_scatter=0.35).draws
    assert 0.001 < np.abs(drawn - made().draws).sum() / drawn.sum() < 0.5


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(MassmapError, match="halo profile 'king' is not known"):
        made(halo_profile="king")
    near = np.array(OBJECTS.redshift)
    near[7] = 0.0
    with pytest.raises(MassmapError, match="1 objects on the map have redshift 0"):
        made(catalogue(redshift=near))
    with pytest.raises(MassmapError, match="radius does not follow from the mass definition 'unknown'"):
        mass_map(KEY, OBJECTS, MassPrior.from_table(*schechter_table()), RELATION, GRID, relation_from="fixed_draws",
                 halo_profile="nfw", num_draws=2)  # fmt: skip
    with pytest.raises(MassmapError, match="concentration_scatter is -1"):
        made(concentration_scatter=-1.0)
    with pytest.raises(MassmapError, match=r"needs about .* this machine has"):
        made(grid=PixelGrid("tangent", (60_000, 60_000), 0.001, (0.0, 59.0)))
    pytest.importorskip("astropy_healpix", reason="astropy-healpix is not installed")
    from massmap_jax.maps.healpix import HealpixGrid

    with pytest.raises(MassmapError, match="drawn on a plane"):
        made(grid=HealpixGrid.fit(OBJECTS.ra, OBJECTS.dec, 64))


def test_a_halo_wider_than_the_map_is_told():
    """All of its mass is on the map, and most of it belongs beyond."""
    near = catalogue(redshift=np.r_[np.full(3, 0.001), np.geomspace(0.03, 1.0, NUMBER - 3)])
    with pytest.warns(UserWarning, match="halos are wider than the map \\(3 rows, first row 0 .* larger map"):
        made(near)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made()


def test_radii_are_in_pixels():
    """Of 1e15 Msun at z = 0.1, 200 times the mean density."""
    theta = halo_radii(np.log([1e13, 1e15]), np.array([0.1, 0.1]), GRID, "200m", "Planck18")[1]
    r_s, _ = halo_profile_loop.scales(1e15, 5.0, 0.1, 1.0)
    assert theta == pytest.approx(5 * r_s / np.radians(1 / 60), rel=1e-6)


@pytest.mark.parametrize("largest", [30.0, 80.0, 200.0, 3_000.0, 70_000.0, 1e9])
def test_cost_is_bounded_by_the_map(largest):
    """However near the largest halo: as many layers and as large transforms as the map asks for, in a second."""
    began = time.process_time()
    near = HaloProfiles(GRID, largest, "200m", "Planck18", KEY, 0.0)
    plan = near.plan(GRID.shape)
    assert near.num_layers <= 16 and all(size <= 2.2 * n for size, n in zip(plan.size, GRID.shape, strict=True))
    assert near.shares.shape[1] < 90 and time.process_time() - began < 10


@pytest.mark.parametrize("largest", [10.0, 62.0, 100.0, 500.0, 20_000.0, 62_000.0])
def test_shares_of_halos_larger_than_the_map(largest):
    """Mass within any distance up to the map's diagonal, to 0.04 of the halo's for c >= 3; what is beyond it is in the
    even layer, or in Gaussians that are wider than the map."""
    diagonal = np.hypot(*GRID.shape)
    profiles = HaloProfiles(GRID, largest, "200m", "Planck18", KEY, 0.0)
    distance = np.geomspace(1.0, diagonal, 60)
    with np.errstate(divide="ignore"):
        held = -np.expm1(-0.5 * (distance[:, None] / profiles.sigma) ** 2)
    radius, c = np.exp(profiles._ln_radius), np.exp(profiles._ln_c)
    worst = 0.0
    for j in np.flatnonzero(c >= 3):
        for i in np.flatnonzero((radius >= 1) & (radius <= 1.2 * largest)):
            wanted = cut_nfw_enclosed(np.minimum(distance / radius[i], 1.0) * c[j], c[j])
            worst = max(worst, np.abs(held @ profiles.shares[:, i, j] - wanted).max())
    print(f"largest {largest:g} pixels: enclosed mass off by {worst:.4f}")
    assert worst < 0.04


@pytest.mark.parametrize("radius", [90.0, 400.0, 9_000.0])
def test_a_halo_larger_than_the_map(monkeypatch, radius):
    """Its peak as it is, the mass beyond the rim spread over the pixels, none lost; with a footprint too."""
    ny, nx = GRID.shape
    profiles = HaloProfiles(GRID, radius, "200m", "Planck18", KEY, 0.0)
    density = overdensity("200m", "Planck18", np.array([0.2]))[0]
    per_pixel = Planck18.angular_diameter_distance(0.2).value * np.radians(1 / 60)
    ln_mass = np.log(4 * np.pi / 3 * density * (radius * per_pixel) ** 3)
    monkeypatch.setattr(concentration, "mean_ln_concentration", lambda *_: np.full((1, 1), np.log(5.0)))
    image = np.zeros((1, profiles.num_layers, ny, nx))
    shares = profiles.of(np.array([0.2]), np.zeros((1, 2), dtype=np.uint32))(np.array([0]), np.full((1, 1), ln_mass))
    image[0, :, 20, 24] = [share[0, 0] for share in shares]
    y, x = np.mgrid[-20 : ny - 20, -24 : nx - 24]
    circles = np.arange(0.5, 20)
    inside = np.hypot(y, x).ravel() <= circles[:, None]
    # On the map: as in a circle as large as it is.
    on_map, *within = (
        float(cut_nfw_enclosed(5 * d / radius, 5.0))
        for d in (np.sqrt(nx * ny / np.pi), *np.sqrt(inside.sum(1) / np.pi))
    )
    wanted = np.array(within) + (1 - on_map) * inside.sum(axis=1) / inside.shape[1]
    found = profiles.convolved(image, profiles.plan(GRID.shape))[0]
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-12)
    assert np.abs(inside @ found.ravel() - wanted).max() < 0.04
    footprint = np.ones(GRID.shape, dtype=bool)
    footprint[:, 30:] = False
    found = profiles.convolved(image, profiles.plan(GRID.shape, footprint))[0]
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-9)
    assert (found[~footprint] == 0).all()
