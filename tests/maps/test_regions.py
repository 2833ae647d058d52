"""Regions, exceedance and covariance of a mass map, against plain loops over its draws and astropy's separations."""

import dataclasses

import jax
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.regions import (
    Circle,
    Polygon,
    covariance,
    exceedance,
    region_mask,
    region_mass,
    signal_to_noise,
)
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

NUMBER, DRAWS = 200, 130


def catalogue(frame="sky"):
    rng = np.random.default_rng(4)
    z, ln_lum = rng.uniform(0.2, 1.0, NUMBER), rng.normal(9.5, 0.4, NUMBER)
    ra, dec = rng.uniform(-1.5, 1.5, NUMBER) % 360, rng.uniform(58, 60, NUMBER)
    if frame == "flat":
        ra, dec = rng.uniform(-30, 30, NUMBER), rng.uniform(-20, 20, NUMBER)
    return HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum),
        redshift=z,
        sigma_ln_luminosity=0.05,
        ra=ra,
        dec=dec,
        position_unit="deg" if frame == "sky" else "arcmin",
    )


@pytest.fixture(scope="module", params=["sky", "flat"])
def one_map(request):
    objects = catalogue(request.param)
    relation = MassLuminosityRelation.create(
        alpha1=10.709 + 0.1 * np.linspace(-1, 1, 5), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
    )
    grid = PixelGrid.fit(objects.ra, objects.dec, frame=request.param, pixel_arcmin=3.0)
    return mass_map(
        jax.random.key(0),
        objects,
        MassPrior.from_table(*schechter_table()),
        relation,
        grid,
        relation_from="fixed_draws",
        num_draws=DRAWS,
        keep_draws=True,
    )


def somewhere(grid):
    """A circle that holds a part of the map's objects, half of it outside."""
    return Circle(*grid.sky_of(3.0, 8.0), 25.0)


def inside_circle(grid, circle):
    """Pixel by pixel; on the sky with astropy's separation."""
    mask = np.zeros(grid.shape, dtype=bool)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            place = grid.sky_of(column, row)
            if grid.projection == "flat":
                apart = np.hypot(place[0] - circle.ra, place[1] - circle.dec)
            else:
                here, there = SkyCoord(*place, unit="deg"), SkyCoord(circle.ra, circle.dec, unit="deg")
                apart = here.separation(there).to_value(units.arcmin)
            mask[row, column] = apart <= circle.radius_arcmin
    return mask


def test_circle_holds_the_pixels_within_its_radius(one_map):
    circle = somewhere(one_map.grid)
    mask = region_mask(one_map.grid, circle)
    np.testing.assert_array_equal(mask, inside_circle(one_map.grid, circle))
    assert 20 < mask.sum() < mask.size / 2


def test_polygon_has_great_circles_for_sides(one_map):
    """A convex polygon is where every side's great circle has the point on the same side (triple products)."""
    grid = one_map.grid
    ny, nx = grid.shape
    x, y = np.array([0.12, 0.9, 0.7]) * nx, np.array([0.1, 0.35, 0.93]) * ny
    corners = np.stack(grid.sky_of(x, y), axis=1)
    mask = region_mask(grid, Polygon(corners))

    def vector(first, second):
        if grid.projection == "flat":
            return np.stack([first, second, np.ones_like(first)], axis=-1)
        first, second = np.radians(first), np.radians(second)
        return np.stack([np.cos(second) * np.cos(first), np.cos(second) * np.sin(first), np.sin(second)], axis=-1)

    points = vector(*grid.sky_of(*np.meshgrid(np.arange(nx, dtype=float), np.arange(ny, dtype=float))))
    ends = vector(*corners.T)
    sides = np.array([points @ np.cross(ends[i], ends[(i + 1) % 3]) for i in range(3)])
    np.testing.assert_array_equal(mask, (sides > 0).all(axis=0) | (sides < 0).all(axis=0))
    assert mask.sum() > 50


def test_mass_of_a_region_is_the_sum_of_each_draw(one_map):
    circle = somewhere(one_map.grid)
    mask = inside_circle(one_map.grid, circle)
    found = region_mass(one_map, circle)
    by_hand = [sum(float(draw[place]) for place in zip(*np.nonzero(mask), strict=True)) for draw in one_map.draws]
    np.testing.assert_allclose(found.draws, by_hand, rtol=1e-12)
    assert found.mean == pytest.approx(one_map.mean[mask].sum(), rel=1e-12)
    assert found.sd == pytest.approx(np.std(by_hand, ddof=1), rel=1e-9)
    assert found.signal_to_noise == pytest.approx(found.mean / np.std(by_hand, ddof=1))
    assert found.nobj == one_map.nobj[mask].sum() and found.num_pixels == mask.sum()
    assert found.quantile(0.5) == pytest.approx(np.median(by_hand))
    # the relation's error is common: pixels as if independent would understate it
    independent = np.sqrt((one_map.draws[:, mask].std(axis=0) ** 2).sum())
    assert found.sd > 1.3 * independent
    same = region_mass(one_map, mask)
    np.testing.assert_array_equal(same.draws, found.draws)


def test_whole_map_is_the_total(one_map):
    found = region_mass(one_map, np.ones(one_map.grid.shape, dtype=bool))
    np.testing.assert_allclose(found.draws, one_map.total_draws, rtol=1e-6)
    assert found.nobj == NUMBER and not found.cut


@pytest.mark.parametrize(("dec", "radius"), [(120.0, 5.0), (2.0, 1e5)])
def test_no_declination_beyond_a_pole_and_no_radius_beyond_the_sky(one_map, dec, radius):
    if one_map.grid.projection == "flat":
        return
    with pytest.raises(MassmapError, match="no circle on the sky"):
        region_mass(one_map, Circle(one_map.grid.centre[0], dec, radius))


def test_a_region_that_reaches_beyond_the_map_says_so(one_map):
    grid = one_map.grid
    middle = (grid.shape[1] / 2, grid.shape[0] / 2)
    for place, radius, cut in ((middle, 12.0, False), (middle, 400.0, True), ((1.0, 1.0), 12.0, True)):
        assert region_mass(one_map, Circle(*grid.sky_of(*place), radius)).cut is cut
    x, y = np.array([2.0, 9.0, 9.0]), np.array([2.0, 2.0, 9.0])
    assert not region_mass(one_map, Polygon(np.stack(grid.sky_of(x, y), axis=1))).cut
    assert region_mass(one_map, Polygon(np.stack(grid.sky_of(x - 8, y), axis=1))).cut


def test_exceedance_and_signal_to_noise_of_each_pixel(one_map):
    threshold = float(np.quantile(one_map.mean[one_map.nobj > 0], 0.4))
    share = exceedance(one_map, threshold)
    for row, column in np.argwhere(one_map.nobj > 0)[:40]:
        above = [float(draw[row, column]) > threshold for draw in one_map.draws]
        assert share[row, column] == pytest.approx(np.mean(above), abs=1e-12)
    assert ((share > 0.02) & (share < 0.98)).sum() > 10
    assert (share[one_map.nobj == 0] == 0).all()
    ratio = signal_to_noise(one_map)
    assert np.isnan(ratio[one_map.nobj == 0]).all()
    row, column = np.argwhere(one_map.nobj > 0)[5]
    assert ratio[row, column] == pytest.approx(one_map.mean[row, column] / one_map.sd[row, column])


def test_covariance_of_pixels(one_map):
    pixels = np.argwhere(one_map.nobj > 0)[:7]
    found = covariance(one_map, pixels)
    values = np.array([[float(draw[row, column]) for row, column in pixels] for draw in one_map.draws])
    centred = values - values.mean(axis=0)
    for i in range(7):
        for j in range(7):
            assert found[i, j] == pytest.approx((centred[:, i] * centred[:, j]).sum() / (DRAWS - 1), rel=1e-6)
    assert covariance(one_map, pixels[:1]).shape == (1, 1)
    # common errors: pixels go up and down together
    assert np.corrcoef(values.T)[np.triu_indices(7, 1)].mean() > 0.05


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (Circle(180.0, -10.0, 5.0), "holds no pixel centre"),
        (Circle(0.0, 59.0, 0.0), "no circle"),
        (Circle(0.0, 59.0, -3.0), "no circle"),
        (Circle(np.nan, 59.0, 3.0), "no circle"),
        (Polygon([[0.0, 59.0], [1.0, 59.0]]), "at least 3 corners"),
        (Polygon([[0.0, 59.0], [1.0, 59.0], [180.0, -59.0]]), "1 corners"),
        (Polygon([[0.0, 59.0], [1.0, 59.0], [np.nan, 59.5]]), "1 corners"),
        (np.ones((3, 4), dtype=bool), r"shape \(3, 4\)"),
        (np.ones((3, 4)), "float64"),
    ],
)
def test_regions_that_are_none(region, says):
    grid = PixelGrid("tangent", (40, 40), 3.0, (0.0, 59.0))
    with pytest.raises(MassmapError, match=says):
        region_mask(grid, region)


def test_other_refusals(one_map):
    without = dataclasses.replace(one_map, draws=None)
    with pytest.raises(MassmapError, match="keep_draws=True"):
        region_mass(without, np.ones(one_map.grid.shape, dtype=bool))
    with pytest.raises(MassmapError, match="finite mass"):
        exceedance(one_map, np.nan)
    with pytest.raises(MassmapError, match="1 pixels lie outside"):
        covariance(one_map, np.array([[0, 0], [0, 10_000]]))
    with pytest.raises(MassmapError, match=r"\(row, column\) pairs"):
        covariance(one_map, np.array([0.0, 1.0]))
