"""PixelGrid against astropy.wcs, and its fit on awkward fields."""

import warnings

import equinox as eqx
import jax
import numpy as np
import pytest
from astropy import units

from massmap_jax.errors import MassmapError
from massmap_jax.maps.pixels import MAX_PIXELS, PixelGrid, map_bytes

# name: ra0, dec0 (deg), half width and half height on the sky (deg)
FIELDS = {
    "equator": (150.0, 2.2, 0.33, 0.33),
    "ra_zero": (359.9, -1.0, 4.0, 1.5),
    "dec_minus_60": (80.0, -60.0, 2.0, 5.0),
    "near_pole": (200.0, 88.5, 3.0, 3.0),
    "north_pole": (0.0, 90.0, 2.0, 2.0),
    "south_pole": (123.4, -90.0, 5.0, 5.0),
    "narrow": (10.0, 40.0, 12.0, 0.05),
    "wide": (300.0, 20.0, 45.0, 40.0),
    "arcsec": (359.99999, 33.0, 0.002, 0.002),
}


def sky_field(name, num=1000, seed=0):
    """Random positions (deg) around a field's centre, by rotating unit vectors: no formula of pixels.py."""
    ra0, dec0, half_x, half_y = FIELDS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    east, north = (np.radians(rng.uniform(-half, half, num)) for half in (half_x, half_y))
    local = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    a, d = np.radians([ra0, dec0])
    tilt = np.array([[np.cos(d), 0, -np.sin(d)], [0, 1, 0], [np.sin(d), 0, np.cos(d)]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    x, y, z = turn @ tilt @ local
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def astropy_wcs(grid, drop=()):
    fits = pytest.importorskip("astropy.io.fits")
    from astropy.wcs import WCS

    header = fits.Header({"NAXIS": 2, "NAXIS1": grid.shape[1], "NAXIS2": grid.shape[0]})
    header.update({k: v for k, v in grid.wcs_cards().items() if k not in drop})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return WCS(header)


@pytest.mark.parametrize("name", FIELDS)
class TestSkyFields:
    def test_covers_all_with_half_a_pixel(self, name):
        ra, dec = sky_field(name)
        grid = PixelGrid.fit(ra, dec)
        x, y = grid.project(ra, dec)
        ny, nx = grid.shape
        assert x.min() >= -1e-5 and y.min() >= -1e-5 and x.max() <= nx - 1 + 1e-5 and y.max() <= ny - 1 + 1e-5
        assert np.all(grid.index(ra, dec) >= 0)
        # 64 pixels, rounded to 1-2-5, on the longer side; centred, so without spare pixels on the other
        assert 39 <= max(nx, ny) <= 105
        assert np.ptp(x) > 0.9 * (nx - 3) and np.ptp(y) > 0.9 * (ny - 3)

    def test_agrees_with_astropy(self, name):
        ra, dec = sky_field(name)
        grid = PixelGrid.fit(ra, dec)
        wcs = astropy_wcs(grid)
        there = np.array(wcs.wcs_world2pix(ra, dec, 0))
        x, y = grid.project(ra, dec)
        assert np.abs(np.array([x, y]) - there).max() < 1e-9
        back = np.array(wcs.wcs_pix2world(x, y, 0))
        ours = np.array(grid.sky_of(x, y))
        assert np.abs((back - ours + 180.0) % 360.0 - 180.0)[:, np.abs(dec) < 89.99].max() < 1e-9
        # index: the pixel whose centre is nearest, by astropy's coordinates, away from pixel boundaries
        nearest = np.rint(there).astype(int)
        clear = np.all(np.abs(there + 0.5 - np.rint(there + 0.5)) > 1e-8, axis=0)
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(grid.index(ra, dec)[clear], (nearest[1] * grid.shape[1] + nearest[0])[clear])

    def test_round_trip(self, name):
        ra, dec = sky_field(name)
        grid = PixelGrid.fit(ra, dec)
        x, y = grid.project(ra, dec)
        ra_back, dec_back = grid.sky_of(x, y)
        assert np.all((ra_back >= 0.0) & (ra_back < 360.0))
        shift = (ra_back - ra + 180.0) % 360.0 - 180.0
        assert np.abs(shift * np.cos(np.radians(dec))).max() < 1e-9  # deg on the sky: RA is loose at a pole
        assert np.abs(dec_back - dec).max() < 1e-9
        x_back, y_back = grid.project(ra_back, dec_back)
        assert max(np.abs(x_back - x).max(), np.abs(y_back - y).max()) < 1e-9

    def test_row_order_and_wrapped_ra_change_nothing(self, name):
        ra, dec = sky_field(name)
        grid = PixelGrid.fit(ra, dec)
        shuffle = np.random.default_rng(3).permutation(ra.size)
        assert PixelGrid.fit(ra[shuffle], dec[shuffle]) == grid
        np.testing.assert_array_equal(grid.index(ra[shuffle], dec[shuffle]), grid.index(ra, dec)[shuffle])
        wrapped = np.where(ra > 180.0, ra - 360.0, ra)
        assert PixelGrid.fit(wrapped, dec).shape == grid.shape
        np.testing.assert_allclose(grid.project(wrapped, dec), grid.project(ra, dec), rtol=0, atol=1e-8)


def test_longpole_must_be_written_at_the_pole():
    """The twin: without LONPOLE the same header turns the map by 180 deg at dec 90, and only there."""
    for centre, same in (((30.0, 89.9), True), ((30.0, 90.0), False)):
        grid = PixelGrid("tangent", (50, 50), 1.0, centre)
        ra, dec = np.array([40.0, 100.0]), np.array([89.8, 89.7])
        bare = np.array(astropy_wcs(grid, drop=("LONPOLE",)).wcs_world2pix(ra, dec, 0))
        assert bool(np.abs(bare - np.array(grid.project(ra, dec))).max() < 1e-9) is same


def test_orientation_is_that_of_a_fits_viewer():
    grid = PixelGrid("tangent", (21, 31), 2.0, (0.0, -30.0))
    ra, dec = grid.sky_of(np.array([14.0, 15.0, 16.0, 15.0]), np.array([10.0, 10.0, 10.0, 11.0]))
    signed = (ra + 180.0) % 360.0 - 180.0
    assert signed[0] > signed[1] == 0.0 > signed[2]  # RA falls as x grows: east is left
    assert dec[3] > dec[1]
    x_edges, y_edges = grid.axis_offsets()
    assert x_edges.shape == (32,) and y_edges.shape == (22,)
    assert x_edges[0] == 31.0 and x_edges[-1] == -31.0 and y_edges[0] == -21.0  # arcmin, east positive
    x, y = grid.project(*grid.sky_of(0.0, 0.0))
    assert abs(x) < 1e-9 and abs(y) < 1e-9


def test_flat_frame():
    rng = np.random.default_rng(1)
    x, y = (
        rng.uniform(-130.0, -90.5, 1000),
        rng.uniform(200.0, 210.0, 1000),
    )  # "dec" far beyond a pole is fine here
    grid = PixelGrid.fit(x, y, frame="flat")
    assert grid.projection == "flat" and grid.pixel_arcmin == 0.5
    assert grid.shape[1] > 3 * grid.shape[0] and np.all(grid.index(x, y) >= 0)
    px, py = grid.project(x, y)
    assert np.all(np.diff(px[np.argsort(x)]) >= 0)  # x grows to the right
    np.testing.assert_allclose(grid.sky_of(px, py), (x, y), rtol=0, atol=1e-9)
    np.testing.assert_allclose(astropy_wcs(grid).wcs_world2pix(x, y, 0), (px, py), rtol=0, atol=1e-9)
    x_edges, _ = grid.axis_offsets()
    assert x_edges[0] <= x.min() - 0.25 + 1e-6 and x_edges[-1] >= x.max() + 0.25 - 1e-6


def test_index_outside_nan_and_masked():
    grid = PixelGrid("tangent", (10, 20), 1.0, (10.0, 0.0))
    ra = np.ma.array([10.0, np.nan, 10.0, np.inf, 11.0, 190.0, 10.0, 10.0], mask=[0, 0, 0, 0, 0, 0, 0, 1])
    dec = np.array([0.0, 0.0, np.nan, 0.0, 0.0, 0.0, 95.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grid.index(ra, dec).tolist() == [5 * 20 + 10, -1, -1, -1, -1, -1, -1, -1]
    assert grid.index(ra, dec).dtype == np.int64
    x, y = grid.project(190.0, 0.0)  # the antipode has a tangent too
    assert np.isnan(x) and np.isnan(y)
    assert grid.index([], []).shape == (0,)


@pytest.mark.parametrize("frame", ["sky", "flat"])
def test_the_rim_is_inside(frame):
    """A given shape puts the outermost objects half a pixel from the rim, or on it if one pixel wide."""
    corners = np.array([[10.0, 10.0, 12.0, 12.0], [-1.0, 1.0, -1.0, 1.0]])
    for shape in ((1, 1), (1, 7), (9, 1), (2, 2), (30, 11)):
        grid = PixelGrid.fit(*corners, frame=frame, shape=shape)
        assert grid.shape == shape
        assert np.all(grid.index(*corners) >= 0), (shape, grid)
    grid = PixelGrid("tangent" if frame == "sky" else "flat", (4, 6), 2.0, (359.99, 45.0))
    rim = np.array([[-0.5, 5.5, -0.5, 5.5, 2.0, 5.5], [-0.5, -0.5, 3.5, 3.5, 3.5, 1.0]])
    assert grid.index(*grid.sky_of(*rim)).tolist() == [0, 5, 18, 23, 20, 11]
    just_out = rim + np.sign(rim - [[2.5], [1.5]]) * 1e-6
    assert np.all(grid.index(*grid.sky_of(*just_out)) == -1)


def test_one_object_one_place_one_line():
    for ra, dec in ((123.456789, -45.6), (0.0, 90.0), (359.9999999999, 0.0)):
        grid = PixelGrid.fit([ra], [dec])
        assert grid.shape == (1, 1) and grid.pixel_arcmin == 1.0 and grid.index([ra], [dec]).tolist() == [0]
    assert PixelGrid.fit([7.0, 7.0], [1.0, 1.0], pixel_arcmin=0.1).shape == (1, 1)
    assert PixelGrid.fit([7.0, np.nan], [1.0, np.nan], frame="flat").centre == (7.0, 1.0)
    line = PixelGrid.fit([0.0, 1.0], [0.0, 0.0])
    assert line.shape == (1, 62) and line.pixel_arcmin == 1.0


def test_quantities_are_angles_of_any_unit():
    ra, dec = np.array([10.0, 10.4, 10.2]), np.array([-5.0, -5.3, -5.1])
    plain = PixelGrid.fit(ra, dec, pixel_arcmin=0.5)
    rad, hours = np.radians(ra) * units.rad, ra / 15 * units.hourangle
    assert PixelGrid.fit(rad, np.radians(dec) * units.rad, pixel_arcmin=30 * units.arcsec) == plain
    assert plain.index(hours, dec * units.deg).tolist() == plain.index(ra, dec).tolist()
    centre = (10.2 * units.deg, -5.1 * units.deg)
    assert PixelGrid("tangent", (3, 3), 1 / 60 * units.deg, centre).pixel_arcmin == pytest.approx(1.0)
    with pytest.raises(MassmapError, match="ra is in 'Mpc'"):
        plain.index(ra * units.Mpc, dec)


def test_a_ring_around_a_pole_is_centred_on_it():
    """The mean RA is rounding noise there; it must not turn the map."""
    ra = np.arange(0.0, 360.0, 7.5)
    for dec in (89.0, -89.0):
        grid = PixelGrid.fit(ra, np.full(ra.shape, dec))
        assert grid.centre == (0.0, np.sign(dec) * 90.0) and grid.shape[0] == grid.shape[1]
        assert np.all(grid.index(ra, np.full(ra.shape, dec)) >= 0)


def test_a_crowd_off_the_middle():
    """The mean unit vector sits on the crowd; the grid must not be twice as wide for it."""
    rng = np.random.default_rng(5)
    ra = np.concatenate([rng.normal(40.0, 0.1, 10_000), rng.uniform(30.0, 41.0, 100), [30.0, 41.0]])
    dec = np.concatenate([rng.normal(-20.0, 0.1, 10_000), rng.uniform(-25.0, -18.0, 102)])
    grid = PixelGrid.fit(ra, dec)
    assert abs(grid.centre[0] - 35.5) < 0.3 and np.all(grid.index(ra, dec) >= 0)
    x, _ = grid.project(ra, dec)
    assert np.ptp(x) > grid.shape[1] - 3
    # a strip of 116 deg with its crowd at one end: over 60 deg from the mean, under 60 from the middle
    ra, dec = np.concatenate([np.full(99, 57.0), np.linspace(-58.0, 58.0, 30)]), np.linspace(-2.0, 2.0, 129)
    grid = PixelGrid.fit(ra, dec)
    assert grid == PixelGrid.fit(ra[::-1], dec[::-1]) and np.all(grid.index(ra, dec) >= 0)


def test_explicit_choices_are_honoured():
    ra, dec = sky_field("ra_zero")
    grid = PixelGrid.fit(ra, dec, pixel_arcmin=7.3, centre=(-0.5, -1.2))
    assert grid.pixel_arcmin == 7.3 and grid.centre == (359.5, -1.2) and np.all(grid.index(ra, dec) >= 0)
    grid = PixelGrid.fit(ra, dec, pixel_arcmin=1.0, shape=(20, 30), centre=(1.0, -1.0))
    assert (grid.shape, grid.pixel_arcmin, grid.centre) == ((20, 30), 1.0, (1.0, -1.0))
    inside = grid.index(ra, dec) >= 0
    assert 0 < inside.sum() < 100
    grid = PixelGrid.fit(ra, dec, pixel_arcmin=1.0, shape=np.array([20, 30]))
    assert grid.shape == (20, 30) and abs((grid.centre[0] - 359.9 + 180.0) % 360.0 - 180.0) < 0.1
    # an all-sky catalogue with a named patch is no error
    everywhere = np.array([10.0, 100.0, 190.0, 280.0]), np.array([0.0, 50.0, 0.0, -50.0])
    patch = PixelGrid.fit(*everywhere, pixel_arcmin=1.0, shape=(5, 5), centre=(10.0, 0.0))
    assert patch.index(*everywhere).tolist() == [12, -1, -1, -1]


def test_areas():
    grid = PixelGrid("tangent", (30, 40), 0.5, (1.0, 2.0))
    assert grid.pixel_area_arcmin2 == 0.25 and grid.area_arcmin2 == 300.0 and grid.num_pixels == 1200
    # cos^3 of the docstring, measured with the corners of a pixel 30 deg off
    far = PixelGrid("tangent", (1, 1), 1.0, (0.0, 0.0))
    y0 = np.degrees(np.tan(np.radians(30.0))) * 60.0
    ra, dec = np.radians(far.sky_of(np.array([-0.5, 0.5, 0.0, 0.0]), y0 + np.array([0.0, 0.0, -0.5, 0.5])))
    width = (ra[0] - ra[1] + np.pi) % (2 * np.pi) - np.pi
    solid_angle = np.degrees(width * np.cos(dec[0]) * 60) * np.degrees((dec[3] - dec[2]) * 60)
    assert abs(solid_angle / np.cos(np.radians(30.0)) ** 3 - 1.0) < 1e-3


def test_static_and_hashable():
    grid = PixelGrid("tangent", [3, 4], np.float32(0.5), np.array([361.0, 2.0]))
    assert grid == PixelGrid("tangent", (3, 4), 0.5, (1.0, 2.0)) and grid.shape == (3, 4)
    assert jax.tree_util.tree_leaves(grid) == []
    assert jax.jit(lambda g: g.num_pixels * 1.0)(grid) == 12.0
    assert eqx.tree_equal(grid, grid) and len({grid, PixelGrid("tangent", (3, 4), 0.5, (1.0, 2.0))}) == 1


def whole_sky(**kwargs):
    rng = np.random.default_rng(0)
    return PixelGrid.fit(rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500))), **kwargs)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: whole_sky(), ["of 500 positions", "60 deg", "nside="]),
        (lambda: whole_sky(centre=(0.0, 0.0)), ["of 500 positions", "(0.0000, 0.0000)"]),
        (lambda: PixelGrid.fit([0.0, 180.0], [0.0, 0.0]), ["positions lie more than 60 deg"]),
        (
            lambda: PixelGrid.fit([0.0, 1.0], [0.0, 1.0], pixel_arcmin=0.001),
            ["limit of 16777216", "GB", "3.6"],
        ),
        (lambda: PixelGrid.fit([0.0, 1.0], [0.0, 1.0], pixel_arcmin=1e-300), ["limit of 16777216"]),
        (lambda: PixelGrid.fit([0.0], [0.0], shape=(4097, 4096)), ["4097 x 4096", "16781312", "7.65 GB"]),
        (lambda: PixelGrid.fit([0.0, 1.0], [0.0, 1.0], shape=(11, 10), max_pixels=100), ["limit of 100"]),
        (lambda: PixelGrid.fit([0.0], [0.0], pixel_arcmin=0.0), ["pixel_arcmin is 0"]),
        (lambda: PixelGrid.fit([0.0], [0.0], pixel_arcmin=-2.0), ["pixel_arcmin is -2"]),
        (lambda: PixelGrid.fit([0.0], [0.0], pixel_arcmin=np.nan), ["pixel_arcmin is nan"]),
        (lambda: PixelGrid.fit([0.0], [0.0], pixel_arcmin="wide"), ["'wide'"]),
        (lambda: PixelGrid.fit([np.nan, np.inf, 3.0], [0.0, 0.0, 91.0]), ["none of the 3 objects"]),
        (lambda: PixelGrid.fit([], []), ["none of the 0 objects"]),
        (lambda: PixelGrid.fit([0.0, 1.0], [0.0]), ["(2,)", "(1,)"]),
        (lambda: PixelGrid.fit([0.0], [0.0], shape=(0, 5)), ["shape", "(0, 5)"]),
        (lambda: PixelGrid.fit([0.0], [0.0], shape=(2.5, 5)), ["(2.5, 5)"]),
        (lambda: PixelGrid.fit([0.0], [0.0], shape=7), ["shape", "7"]),
        (lambda: PixelGrid.fit([0.0], [0.0], centre=(0.0, 91.0)), ["dec 91"]),
        (lambda: PixelGrid.fit([0.0], [0.0], centre=(np.nan, 1.0)), ["finite"]),
        (lambda: PixelGrid.fit([0.0], [0.0], centre=5.0), ["two numbers"]),
        (lambda: PixelGrid.fit([0.0], [0.0], frame="galactic"), ["'galactic'"]),
        (lambda: PixelGrid("sin", (2, 2), 1.0, (0.0, 0.0)), ["'sin'"]),
    ],
)
def test_bad_input_is_told_in_one_sentence(call, words):
    with pytest.raises(MassmapError) as caught:
        call()
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text and ". " not in text


def test_limit_is_inclusive_and_counts_bytes():
    assert PixelGrid.fit([0.0], [0.0], shape=(4096, 4096)).num_pixels == MAX_PIXELS
    assert map_bytes(1, num_draws=0) == 56 and map_bytes(10, num_draws=100) == 4560


def test_act_dr3_field_crosses_ra_zero(public_data):
    fits = pytest.importorskip("astropy.io.fits")
    table = fits.getdata(public_data / "act_dr3" / "E-D56Clusters.fits")
    ra, dec = (np.asarray(table[name], dtype=float) for name in ("RADeg", "decDeg"))
    assert ra.min() < 10.0 and ra.max() > 350.0
    grid = PixelGrid.fit(ra, dec)
    assert np.all(grid.index(ra, dec) >= 0) and 39 <= max(grid.shape) <= 105
    there = np.array(astropy_wcs(grid).wcs_world2pix(ra, dec, 0))
    assert np.abs(np.array(grid.project(ra, dec)) - there).max() < 1e-9
