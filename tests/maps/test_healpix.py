"""HEALPix maps against healpy (another implementation) and loops, and their files as healpy and astropy read them."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from massmap_jax import choices
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.figures.maps import mass_map_image
from massmap_jax.maps.files import read_map, write_map
from massmap_jax.maps.images import IMAGES, NAMES, sum_of_slices
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.regions import Circle, Polygon, region_mask, region_mass
from massmap_jax.maps.smoothing import smoothed
from massmap_jax.maps.sums import MapSums
from massmap_jax.run.info import describe_path
from massmap_jax.run.outputs import map_line

pytest.importorskip("astropy_healpix")
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.healpix import HealpixGrid, plane_of, seen_on

NUMBER, DRAWS, NSIDE = 400, 30, 128
LN_MASS = np.random.default_rng(1).normal(31.0, 1.0, (NUMBER, DRAWS))


def positions():
    """A field across RA 0, and one place on the border between two base pixels."""
    rng = np.random.default_rng(0)
    return rng.uniform(-5, 5, NUMBER) % 360, rng.uniform(-4, 4, NUMBER)


def ring_number(nside, ra, dec):
    """RING number of one position by the equations of Gorski et al. 2005, section 4.1 (equatorial belt only)."""
    z, t = np.sin(np.radians(dec)), (ra % 360) / 90
    assert abs(z) <= 2 / 3
    up, down = int(nside * (0.5 + t - 0.75 * z)), int(nside * (0.5 + t + 0.75 * z))
    ring = nside + 1 + up - down
    shift = 1 - ring % 2
    column = (up + down - nside + shift + 1) // 2 % (4 * nside)
    return 2 * nside * (nside - 1) + (ring - 1) * 4 * nside + column


class FixedDraws:
    prior, num_draws = SimpleNamespace(mass_definition="200m"), DRAWS


def of_objects(grid, finish=None, **form):
    ra, dec = positions()
    objects = HaloCatalogue.from_arrays(
        luminosity=np.ones(NUMBER), redshift=np.linspace(0.1, 1, NUMBER), sigma_ln_luminosity=0.05, ra=ra, dec=dec
    )
    finish = {"keep_draws": True} | (finish or {})
    sums = MapSums(grid, FixedDraws(), MapForm(fwhm_arcmin=finish.pop("fwhm_arcmin", None), **form))
    usable = np.ones(NUMBER, dtype=bool)
    sums.add_masses(objects, usable, np.exp(LN_MASS).mean(axis=1), lambda rows: [(np.arange(rows.size), LN_MASS[rows])])
    return sums.finish(ess=1.0, relation_from="fixed_draws", **finish)


def test_pixels_are_the_fields():
    ra, dec = positions()
    whole = HealpixGrid(NSIDE)
    np.testing.assert_array_equal(whole.index(ra, dec), [ring_number(NSIDE, *one) for one in zip(ra, dec, strict=True)])
    assert whole.num_pixels == 12 * NSIDE**2
    assert (whole.index([np.nan, 0.0], [0.0, 95.0]) == -1).all()
    hp = pytest.importorskip("healpy")
    rng = np.random.default_rng(3)
    anywhere = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    for order in ("RING", "NESTED"):
        grid, nest = HealpixGrid(NSIDE, order), order == "NESTED"
        np.testing.assert_array_equal(grid.index(*anywhere), hp.ang2pix(NSIDE, *anywhere, lonlat=True, nest=nest))
        np.testing.assert_allclose(grid.centres(), hp.pix2ang(NSIDE, grid.numbers, lonlat=True, nest=nest), atol=1e-10)
        assert grid.pixel_areas_arcmin2(np.arange(2))[1] == pytest.approx(hp.nside2pixarea(NSIDE, degrees=True) * 3600)


def test_a_fitted_part_holds_every_object_and_its_gaps():
    ra, dec = positions()
    for order in ("RING", "NESTED"):
        grid = HealpixGrid.fit(np.append(ra, np.nan), np.append(dec, 0.0), NSIDE, order)
        place = grid.index(ra, dec)
        np.testing.assert_array_equal(grid.pixels[place], HealpixGrid(NSIDE, order).index(ra, dec))
        assert 0.002 < grid.num_pixels / (12 * NSIDE**2) < 0.01  # a circle of 6.4 degrees: 0.0031 of the sky
        assert np.unique(place).size < grid.num_pixels
        assert grid.index([180.0], [80.0])[0] == -1
    everywhere = np.random.default_rng(3).uniform((0, -90), (360, 90), (300, 2)).T
    sky = HealpixGrid.fit(*everywhere, 8)
    assert sky.pixels is None and sky.num_pixels == 768 and (sky.index(*everywhere) >= 0).all()
    one = HealpixGrid.fit([33.0], [-70.0], NSIDE)
    assert one.num_pixels == 1 and one.index([33.0], [-70.0])[0] == 0


@pytest.mark.parametrize("order", ["RING", "NESTED"])
def test_map_and_its_file(tmp_path, order):
    """Sums by a loop; the file by astropy, healpy and read_map."""
    ra, dec = positions()
    grid = HealpixGrid.fit(ra, dec, NSIDE, order)
    found = of_objects(grid)
    draws = {}
    for number, masses in zip(HealpixGrid(NSIDE, order).index(ra, dec).tolist(), np.exp(LN_MASS), strict=True):
        draws[number] = draws.get(number, 0.0) + masses
    expected = np.array([draws.get(number, np.zeros(DRAWS)) for number in grid.pixels.tolist()]).T
    np.testing.assert_allclose(found.draws, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sd, expected.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found.total_draws, np.exp(LN_MASS).sum(axis=0), rtol=1e-12)
    assert found.mean.shape == (grid.num_pixels,) and found.nobj.sum() == NUMBER and found.n_outside == 0

    path = tmp_path / "map.fits"
    write_map(path, found, {"mass_definition": "200m", "seed": 7})
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", *(name for name, _ in IMAGES.values())]
        for hdu in hdus[1:]:
            keywords = ("PIXTYPE", "ORDERING", "NSIDE", "INDXSCHM", "OBJECT", "COORDSYS")
            assert [hdu.header[k] for k in keywords] == ["HEALPIX", order, NSIDE, "EXPLICIT", "PARTIAL", "C"]
            np.testing.assert_array_equal(hdu.data["PIXEL"], grid.pixels)
            assert hdu.columns.names == ["PIXEL", hdu.name]
        np.testing.assert_array_equal(hdus["Q84"].data["Q84"], found.q84)
        assert hdus["SD"].columns["SD"].unit == "solMass" and hdus[0].header["MASSDEF"] == "200m"
    back = read_map(path)
    assert (back["grid"].nside, back["grid"].order) == (NSIDE, order) and back["meta"]["seed"] == 7
    np.testing.assert_array_equal(back["grid"].pixels, grid.pixels)
    for field in IMAGES:
        np.testing.assert_array_equal(back[field], getattr(found, field))
    assert "400 objects" in map_line(found) and "HEALPix pixels" in describe_path(path)


def fullsky(order, nside=8, **form):
    """A map of the whole sky."""
    return of_objects(HealpixGrid(nside, order), **form)


@pytest.mark.parametrize("order", ["RING", "NESTED"])
@pytest.mark.parametrize("sliced", [False, True], ids=["one", "slices"])
@pytest.mark.parametrize("whole", [False, True], ids=["part", "sky"])
def test_healpy_reads_every_file(tmp_path, order, sliced, whole):
    """At its defaults, and each table by its number or name; values and places as in the map."""
    hp = pytest.importorskip("healpy")
    form = {"redshift_edges": (0.0, 0.4, 1.0)} if sliced else {}
    inside = None
    if not whole:
        inside = np.arange(HealpixGrid.fit(*positions(), 32).num_pixels) % 6 > 0
    grid = HealpixGrid(8, order) if whole else HealpixGrid.fit(*positions(), 32, order)
    found, path = of_objects(grid, footprint=inside, **form), tmp_path / "map.fits"
    write_map(path, found)
    numbers = HealpixGrid(grid.nside, "RING").index(*grid.centres())
    names = [f"{name}{end}" for name, _ in IMAGES.values() for end in (("_1", "_2") if sliced else ("",))]
    images = [one for field in IMAGES for one in np.atleast_2d(getattr(found, field))]
    for place, (name, image) in enumerate(zip(names, images, strict=True)):
        image = np.where(np.isnan(image), hp.UNSEEN, image) if image.dtype.kind == "f" else image
        for hdu in (place + 1, name):
            read = hp.read_map(path, hdu=hdu)
            np.testing.assert_array_equal(read[numbers], image)
            assert (read != hp.UNSEEN).sum() == (image != hp.UNSEEN).sum()
        nested = hp.read_map(path, hdu=place + 1, nest=True)
        np.testing.assert_array_equal(hp.reorder(nested, n2r=True), read)
    default = hp.read_map(path, partial=not whole)
    np.testing.assert_array_equal(default, hp.read_map(path, hdu=1))
    header = dict(hp.read_map(path, h=True)[1])
    assert (header["OBJECT"], header["INDXSCHM"]) == (("FULLSKY", "IMPLICIT") if whole else ("PARTIAL", "EXPLICIT"))
    back = read_map(path)
    assert (back["grid"].pixels is None) == whole and back["redshift_edges"] == form.get("redshift_edges")
    for field in IMAGES:
        np.testing.assert_array_equal(back[field], getattr(found, field))


@pytest.mark.parametrize("order", ["RING", "NESTED"])
@pytest.mark.parametrize("whole", [False, True], ids=["part", "sky"])
def test_healsparse_reads_every_file(tmp_path, order, whole):
    """The first table, which is the mean; each of the others as a file of its own."""
    healsparse = pytest.importorskip("healsparse")
    grid = HealpixGrid(8, order) if whole else HealpixGrid.fit(*positions(), 32, order)
    inside = np.arange(grid.num_pixels) % 6 > 0
    found, path = of_objects(grid, footprint=inside), tmp_path / "map.fits"
    write_map(path, found)
    nested = HealpixGrid(grid.nside, "NESTED").index(*grid.centres())
    for field, (name, _) in IMAGES.items():
        if field == "nobj":
            continue
        with fits.open(path) as hdus:
            fits.HDUList([hdus[0], hdus[name]]).writeto(tmp_path / f"{name}.fits")
        read = healsparse.HealSparseMap.read(
            str(path if name == "MEAN" else tmp_path / f"{name}.fits"), nside_coverage=4
        )
        assert read.nside_sparse == grid.nside
        np.testing.assert_array_equal(read[nested[inside]], getattr(found, field)[inside])
        np.testing.assert_array_equal(np.sort(read.valid_pixels), np.sort(nested[inside]))


def test_files_of_earlier_versions(tmp_path):
    """One table HEALPIX, EXPLICIT for the whole sky too, with a column for each statistic (and slice)."""
    for name, form in (("plain", {}), ("cube", {"redshift_edges": (0.0, 0.4, 1.0)})):
        found = fullsky("NESTED", **form)
        write_map(tmp_path / f"{name}.fits", found)
        columns = [fits.Column("PIXEL", "K", array=found.grid.numbers)]
        for field, (label, _) in IMAGES.items():
            image = getattr(found, field)
            named = [(label, image)] if image.ndim == 1 else [(f"{label}_{i + 1}", one) for i, one in enumerate(image)]
            columns += [fits.Column(own, "J" if field == "nobj" else "D", array=values) for own, values in named]
        table = fits.BinTableHDU.from_columns(columns, name="HEALPIX")
        table.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NESTED", "NSIDE": 8, "INDXSCHM": "EXPLICIT"})
        table.header["OBJECT"] = "FULLSKY"
        with fits.open(tmp_path / f"{name}.fits") as hdus:
            del hdus[0].header["PROGRAM"]
            fits.HDUList([hdus[0], table]).writeto(tmp_path / f"old_{name}.fits")
        back = read_map(tmp_path / f"old_{name}.fits")
        assert back["grid"].pixels is None and back["meta"]["program"] == "unknown"
        for field in IMAGES:
            np.testing.assert_array_equal(back[field], getattr(found, field))
        assert "nside 8" in describe_path(tmp_path / f"old_{name}.fits")


LIES = [
    ("NSIDE", "eight"), ("NSIDE", 7), ("NSIDE", 4), ("NSIDE", -8), ("NSIDE", 2.0), ("NSIDE", True), ("ORDERING", 1),
    ("ORDERING", "NUNIQ"), ("INDXSCHM", 3), ("OBJECT", 0.5), ("TFORM1", "7A"), ("PIXTYPE", 4), ("NAXIS2", 767),
]  # fmt: skip
# True of a part of the sky.
LIES_OF_THE_SKY = [("INDXSCHM", "EXPLICIT"), ("OBJECT", "PARTIAL"), ("TTYPE1", "PIXEL")]


@pytest.mark.parametrize(
    ("whole", "keyword", "value"), [(True, *lie) for lie in LIES + LIES_OF_THE_SKY] + [(False, *lie) for lie in LIES]
)
def test_cards_that_lie(tmp_path, whole, keyword, value):
    found = fullsky("RING") if whole else of_objects(HealpixGrid.fit(*positions(), 8))
    write_map(tmp_path / "map.fits", found)
    with fits.open(tmp_path / "map.fits", mode="update", output_verify="ignore") as hdus:
        hdus["SD"].header[keyword] = value
        if keyword == "PIXTYPE":
            hdus[1].header[keyword] = value
    for read in (read_map, describe_path):
        with pytest.raises(MassmapError, match=r"map\.fits") as caught:
            read(tmp_path / "map.fits")
        assert "\n" not in str(caught.value)


def test_ring_and_nested_are_one_map():
    maps = [of_objects(HealpixGrid.fit(*positions(), NSIDE, order)) for order in ("RING", "NESTED")]
    places = [one.grid.index(*positions()) for one in maps]
    for name in ("mean", *NAMES, "nobj"):
        np.testing.assert_array_equal(*(getattr(one, name)[place] for one, place in zip(maps, places, strict=True)))


def test_slices_units_footprint_and_file(tmp_path):
    grid = HealpixGrid.fit(*positions(), 64)
    edges = (0.0, 0.4, 1.0)
    inside = np.arange(grid.num_pixels) % 5 > 0
    cube = of_objects(grid, redshift_edges=edges, footprint=inside, unit="Msun/arcmin2")
    plain = of_objects(grid, footprint=inside)
    area = 4 * np.pi * np.degrees(60) ** 2 / (12 * 64**2)
    np.testing.assert_allclose(sum_of_slices(cube).draws * area, plain.draws, rtol=1e-12)
    assert np.isnan(cube.mean[:, ~inside]).all() and cube.n_masked == plain.n_masked > 10
    write_map(tmp_path / "cube.fits", cube, {})
    back = read_map(tmp_path / "cube.fits")
    np.testing.assert_array_equal(back["sd"], cube.sd)
    assert back["redshift_edges"] == edges and back["meta"]["unit"] == "Msun/arcmin2"


def test_smoothing_on_the_sphere():
    """Every pixel's mass over all pixels within reach, by great-circle distances; conserved within the footprint."""
    grid = HealpixGrid.fit(*positions(), 64)
    inside = np.arange(grid.num_pixels) % 7 > 0
    plain, fwhm = of_objects(grid, footprint=inside), 120.0
    ra, dec = np.radians(grid.centres())
    sigma = np.radians(fwhm / 60) / np.sqrt(8 * np.log(2))
    expected = np.zeros(plain.draws.shape)
    for i in np.flatnonzero(inside):
        cos = np.sin(dec[i]) * np.sin(dec) + np.cos(dec[i]) * np.cos(dec) * np.cos(ra - ra[i])
        apart = np.arccos(np.minimum(cos, 1.0))
        weight = np.where((apart <= 5 * sigma) & inside, np.exp(-0.5 * (apart / sigma) ** 2), 0.0)
        expected += plain.draws[:, i, None] * weight / weight.sum()
    found = smoothed(plain, fwhm)
    np.testing.assert_allclose(found.draws[:, inside], expected[:, inside], rtol=1e-6, atol=1e-9 * expected.max())
    np.testing.assert_allclose(np.nansum(found.draws, axis=1), plain.total_draws, rtol=1e-12)
    np.testing.assert_allclose(found.sd[inside], expected[:, inside].std(axis=0, ddof=1), rtol=1e-6)


def test_regions_on_healpix():
    found = of_objects(HealpixGrid.fit(*positions(), NSIDE))
    circle = Circle(359.5, 1.0, 80.0)
    mask = region_mask(found.grid, circle)
    ra, dec = found.grid.centres()
    # 28: 80 arcmin hold 5.6 deg^2, 27 pixels of 0.21
    near = np.hypot((ra + 180.5) % 360 - 180, dec - 1.0) * 60  # flat, near the equator: to 1e-3
    assert (mask[near < 79.5]).all() and not mask[near > 80.5].any() and mask.sum() == 28
    mass = region_mass(found, circle)
    np.testing.assert_allclose(mass.draws, found.draws[:, mask].sum(axis=1))
    assert not mass.cut and region_mass(found, Circle(0.0, 5.0, 200.0)).cut
    with pytest.raises(MassmapError, match="on HEALPix give a Circle or a mask"):
        region_mask(found.grid, Polygon([[0, 0], [1, 0], [1, 1]]))


def test_figure_on_a_plane():
    """Each plane pixel shows the HEALPix pixel that its centre lies in; the title counts objects, not plane pixels."""
    found = of_objects(HealpixGrid.fit(*positions(), NSIDE), redshift_edges=(0.0, 2.0))
    found = sum_of_slices(found)
    ax = mass_map_image(found)
    seen = seen_on(found, plane_of(found))
    ra, dec = seen.grid.centres()
    for row, column in np.argwhere(seen.footprint)[::97]:
        number = ring_number(NSIDE, ra[row, column], dec[row, column])
        assert seen.sd[row, column] == found.sd[found.grid.pixels == number]
    assert np.isnan(seen.mean[~seen.footprint]).all() and 0 < (~seen.footprint).sum() < seen.mean.size / 2
    assert seen.nobj.max() > 0 and (seen.nobj[:, 0] == 0).all() and (seen.nobj[0] == 0).all()
    assert ax.get_title() == "400 objects, HEALPix nside 128, z 0 to 2, 30 draws"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"no objects", "not observed"}
    with pytest.raises(MassmapError, match="2 redshift slices"):
        mass_map_image(of_objects(HealpixGrid.fit(*positions(), 64), redshift_edges=(0.0, 0.5, 2.0)))


def test_a_strip_is_drawn_without_the_circle_around_it():
    """The circle on the sky that holds a strip is as high as wide; the plane about its objects is not, in any slice."""
    ra = np.linspace(-20, 20, NUMBER) % 360
    objects = HaloCatalogue.from_arrays(
        luminosity=np.ones(NUMBER),
        redshift=np.linspace(0.1, 1, NUMBER),
        sigma_ln_luminosity=0.05,
        ra=ra,
        dec=np.linspace(-1, 1, NUMBER),
    )
    grid = HealpixGrid.fit(objects.ra, objects.dec, 64)
    sums = MapSums(grid, FixedDraws(), MapForm(redshift_edges=(0.0, 0.5, 2.0)))
    mass = np.exp(LN_MASS)
    sums.add_masses(
        objects, np.ones(NUMBER, dtype=bool), mass.mean(axis=1), lambda rows: [(np.arange(rows.size), LN_MASS[rows])]
    )
    cube = sums.finish(ess=1.0, relation_from="fixed_draws", keep_draws=True)
    whole = PixelGrid.fit(*grid.centres(), pixel_arcmin=plane_of(cube).pixel_arcmin)
    plane = plane_of(cube)
    assert plane.shape[0] < 0.15 * whole.shape[0] and plane.shape[1] > 0.9 * whole.shape[1]
    assert (plane.index(objects.ra, objects.dec) >= 0).all()
    wide = plane_of(dataclasses.replace(cube, form=dataclasses.replace(cube.form, fwhm_arcmin=120.0)))
    assert wide.shape[0] == plane.shape[0] + 2 * int(np.ceil(120.0 / plane.pixel_arcmin)) - 2 * int(
        np.ceil(grid.pixel_arcmin / plane.pixel_arcmin)
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: HealpixGrid(100), "nside is 100: give a power of two"),
        (lambda: HealpixGrid(0), "nside is 0: give a power of two"),
        (lambda: HealpixGrid(-4), "nside is -4"),
        (lambda: HealpixGrid(64.0), r"nside is 64\.0"),
        (lambda: HealpixGrid(2**30), "nside is 1073741824"),
        (lambda: HealpixGrid(4, "nest"), "order 'nest' is not known: give RING or NESTED"),
        (
            lambda: HealpixGrid(4, "RING", [1, 192]),
            "1 pixels are none of nside 4, the first 192: numbers go from 0 to 191",
        ),
        (lambda: HealpixGrid(4, "RING", [3, 3, 5]), "1 pixels are given twice, the first 3"),
        (lambda: HealpixGrid(4, "RING", [0.5]), "one array of whole numbers"),
        (lambda: HealpixGrid.fit([np.nan], [0.0], 4), "none of the 1 objects has a usable position"),
        (
            lambda: HealpixGrid.fit([0.0, 180.0], [0.0, 0.0], 2**20),
            r"nside 1048576\) needs about .* GB and this machine",
        ),
        (lambda: MapSums(HealpixGrid(2**20), FixedDraws()), r"13,194,139,533,312 pixels needs about 1\.58e\+06 GB and"),
    ],
)
def test_pixels_that_are_none(make, says):
    with pytest.raises(MassmapError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(choices, "find_spec", lambda name: None)
    with pytest.raises(MassmapError, match=r"HEALPix maps need astropy-healpix: pip install astropy-healpix"):
        HealpixGrid(4).centres()


def test_flat_positions_are_refused():
    objects = HaloCatalogue.from_arrays(
        luminosity=[1.0], redshift=[0.5], sigma_ln_luminosity=0.05, ra=[0.0], dec=[0.0], position_unit="arcmin"
    )
    for grid, kind in ((HealpixGrid(4), "healpix"), (PixelGrid("tangent", (4, 4), 1.0, (0.0, 0.0)), "tangent")):
        with pytest.raises(MassmapError, match=f"positions are flat and the grid is {re.escape(kind)}"):
            MapSums(grid, FixedDraws()).add_masses(objects, np.array([True]), np.array([1e14]), None)
