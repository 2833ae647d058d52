"""Slices, units, footprint and smoothing of mass maps, against loops over objects and pixels."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from reference.map_loops import smoothed_image, tangent_pixel, tangent_pixel_area

from massmap_jax import memory
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.figures.maps import map_panels, mass_map_image, slice_panels
from massmap_jax.maps.files import read_map, write_map
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.images import NAMES, one_slice, sum_of_slices
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.regions import exceedance, region_mass
from massmap_jax.maps.smoothing import smoothed
from massmap_jax.maps.sums import MapSums

NUMBER, DRAWS = 150, 40
EDGES = (0.2, 0.5, 0.9, 1.3)
GRID = PixelGrid("tangent", (18, 23), 12.0, (0.05, 55.0))
SHAPE = GRID.shape


class FixedDraws:
    """Masses that depend on the object's luminosity alone, in place of `MassSamples`: nothing to compile."""

    prior, num_draws, relations = SimpleNamespace(mass_definition="200m"), DRAWS, None
    shift = np.random.default_rng(5).normal(0.0, 0.3, DRAWS)

    def ln_mass(self, ln_lum):
        own = np.sin(1e3 * ln_lum[:, None] * np.arange(1, DRAWS + 1))
        return 30.0 + ln_lum[:, None] + self.shift + 0.4 * own

    def __call__(self, halos, chunk_size):
        for part in np.array_split(np.arange(halos.sigma.size), min(3, halos.sigma.size)):
            yield part, self.ln_mass(halos.ln_lum_obs[part, 0])


def columns(number=NUMBER):
    rng = np.random.default_rng(2)
    return dict(
        luminosity=np.exp(rng.normal(0.0, 0.7, number)),
        redshift=rng.uniform(0.1, 1.5, number),
        ra=rng.uniform(-4, 4, number) % 360,
        dec=rng.uniform(53, 57, number),
        sigma_ln_luminosity=np.full(number, 0.05),
    )


def of_objects(changes=None, finish=None, grid=GRID, usable=None, **form):
    objects = HaloCatalogue.from_arrays(**(columns() | (changes or {})))
    usable = objects.usable if usable is None else usable
    finish = {"keep_draws": True} | (finish or {})
    sums = MapSums(grid, FixedDraws(), MapForm(fwhm_arcmin=finish.pop("fwhm_arcmin", None), **form))
    mean = np.exp(FixedDraws().ln_mass(objects.ln_lum_obs)).mean(axis=1)
    sums.add(objects, SimpleNamespace(prior=None, extra=None, selection=None, usable=usable, mean_mass=mean))
    return sums.finish(ess=1.0, relation_from="fixed_draws", **finish)


def by_loop(area=lambda row, column, z: 1.0, inside=None, edges=None):
    """(draw, slice, ny, nx) object by object, and what became of each."""
    table, fate = columns(), dict(mapped=0, outside=0, masked=0, beyond=0)
    edges = (-1.0, 99.0) if edges is None else edges
    out = np.zeros((DRAWS, len(edges) - 1, *SHAPE))
    masses = np.exp(FixedDraws().ln_mass(np.log(table["luminosity"])))
    for ra, dec, z, mass in zip(table["ra"], table["dec"], table["redshift"], masses, strict=True):
        place = tangent_pixel(ra, dec, GRID.centre, SHAPE, GRID.pixel_arcmin)
        slices = [i for i in range(len(edges) - 1) if edges[i] <= z < edges[i + 1]]
        if place is None:
            fate["outside"] += 1
        elif inside is not None and not inside[place]:
            fate["masked"] += 1
        elif not slices:
            fate["beyond"] += 1
        else:
            fate["mapped"] += 1
            out[:, slices[0], *place] += mass / area(*place, z)
    return out, fate


def mask():
    inside = np.ones(SHAPE, dtype=bool)
    inside[:5, 4:9] = inside[10:, -3:] = False
    return inside


# -- slices ---------------------------------------------------------------------------------------------------------


def test_slices_hold_the_objects_of_their_redshifts():
    found = of_objects(redshift_edges=EDGES)
    expected, fate = by_loop(edges=EDGES)
    np.testing.assert_allclose(found.draws, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.sd, expected.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found.q84, np.quantile(expected, 0.84, axis=0), rtol=1e-12)
    assert (found.nobj.sum(), found.n_outside, found.n_beyond) == (fate["mapped"], fate["outside"], fate["beyond"])
    assert min(fate["mapped"], fate["outside"], fate["beyond"]) >= 10
    np.testing.assert_allclose(found.slice_draws, expected.sum(axis=(2, 3)).T, rtol=1e-12)
    assert found.redshift_edges == EDGES and found.mean.shape == (3, *SHAPE)


def test_sum_of_slices_is_the_plain_map():
    """Same draws: to rounding. The sd of the sum is not to be had from the slices' own."""
    cube, plain = of_objects(redshift_edges=(0.0, 0.4, 0.8, 2.0)), of_objects()
    summed = sum_of_slices(cube)
    for name in ("mean", *NAMES, "nobj", "draws", "total_draws", "total_mass"):
        np.testing.assert_allclose(getattr(summed, name), getattr(plain, name), rtol=1e-12, err_msg=name)
    assert np.sqrt((cube.slice_draws.var(axis=1, ddof=1)).sum()) < 0.8 * plain.total_sd


def test_one_slice_is_the_map_of_its_objects():
    cube, z = of_objects(redshift_edges=EDGES), columns()["redshift"]
    alone = of_objects(usable=(z >= EDGES[1]) & (z < EDGES[2]))
    found = one_slice(cube, 1)
    for name in ("mean", *NAMES, "nobj", "draws", "total_draws", "total_mass", "total_sd"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-12, err_msg=name)
    assert found.redshift_edges == EDGES[1:3]
    assert found.nobj.sum() + found.n_beyond + found.n_outside == NUMBER


def test_edges_belong_to_the_slice_above_and_the_last_to_the_last():
    changes = dict(redshift=np.resize(EDGES, NUMBER), ra=np.full(NUMBER, 0.0), dec=np.full(NUMBER, 55.0))
    found = of_objects(changes, redshift_edges=EDGES)
    counts = np.bincount(np.resize(np.arange(4), NUMBER))
    np.testing.assert_array_equal(found.nobj.sum(axis=(1, 2)), [counts[0], counts[1], counts[2] + counts[3]])
    assert found.n_beyond == 0


def test_cube_file_opens_aligned(tmp_path):
    """Edges and celestial axes as astropy reads them; reproject puts a slice onto another grid where it belongs."""
    from astropy.io import fits
    from astropy.wcs import WCS

    cube = of_objects(redshift_edges=EDGES, unit="Msun/Mpc2", finish={"keep_draws": False})
    write_map(tmp_path / "cube.fits", cube, {"mass_definition": "200m", "seed": 3})
    back = read_map(tmp_path / "cube.fits")
    np.testing.assert_array_equal(back["sd"], cube.sd)
    assert back["grid"] == GRID and back["redshift_edges"] == EDGES
    assert back["meta"]["unit"] == "Msun/Mpc2" and back["meta"]["cosmology"] == "Planck18"
    assert back["meta"]["n_beyond"] == cube.n_beyond and back["meta"]["total_mass"] == pytest.approx(cube.total_mass)
    with fits.open(tmp_path / "cube.fits") as hdus:
        hdus.verify("exception")
        header, data = hdus["MEAN"].header, hdus["MEAN"].data
        assert header["BUNIT"] == "solMass / Mpc2" and hdus["NOBJ"].header["BUNIT"] == ""
    assert tuple(header[f"ZEDGE{i}"] for i in range(header["NSLICES"] + 1)) == EDGES
    wcs = WCS(header)
    assert wcs.naxis == 3 and wcs.celestial.axis_type_names == ["RA", "DEC"]
    ra, dec = GRID.centres()
    y, x = np.indices(SHAPE)
    np.testing.assert_allclose(wcs.celestial.wcs_world2pix(ra, dec, 0), (x, y), atol=1e-9)
    np.testing.assert_allclose(wcs.wcs_pix2world(0, 0, 2, 0)[2], 3.0)  # slices are numbered from 1

    reproject = pytest.importorskip("reproject")
    shifted = PixelGrid("tangent", (20, 25), GRID.pixel_arcmin, GRID.centre)
    target = WCS(fits.Header(shifted.wcs_cards()))
    image, covered = reproject.reproject_interp((data[1], wcs.celestial), target, shape_out=shifted.shape, order=0)
    np.testing.assert_array_equal(image[1:-1, 1:-1], data[1])
    assert covered.sum() == data[1].size


@pytest.mark.parametrize("edges", [(0.1, 0.3, 0.5, 0.7), (0.0, 0.05), EDGES])
def test_the_third_axis_says_its_redshifts(tmp_path, edges):
    """Slices of one width are a linear axis of redshift; others are numbered, and the table says what they are."""
    from astropy.io import fits
    from astropy.table import Table
    from astropy.wcs import WCS

    even = edges != EDGES
    path = tmp_path / "cube.fits"
    write_map(path, of_objects(redshift_edges=edges))
    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("error")
        hdus.verify("exception")
        for hdu in hdus[1:-1]:
            wcs = WCS(hdu.header)
            assert wcs.naxis == 3 and wcs.wcs.ctype[2] == ("REDSHIFT" if even else "SLICE")
            middle = np.arange(len(edges) - 1)
            third = wcs.pixel_to_world_values(0 * middle, 0 * middle, middle)[2]
            np.testing.assert_allclose(
                third, (np.array(edges)[1:] + edges[:-1]) / 2 if even else middle + 1, rtol=1e-12
            )
            assert wcs.celestial.axis_type_names == ["RA", "DEC"]
        assert hdus[-1].name == "ZEDGES"
        table = Table.read(hdus["ZEDGES"])
    np.testing.assert_array_equal(table["SLICE"], 1 + np.arange(len(edges) - 1))
    np.testing.assert_array_equal(table["Z_LOW"], edges[:-1])
    np.testing.assert_array_equal(table["Z_HIGH"], edges[1:])
    assert read_map(path)["redshift_edges"] == edges
    with fits.open(path, mode="update") as hdus:  # as earlier versions wrote it
        for hdu in hdus[1:-1]:
            hdu.header.update({"CTYPE3": "SLICE", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0})
            del hdu.header["CUNIT3"]
    assert read_map(path)["grid"] == GRID


# -- units ----------------------------------------------------------------------------------------------------------


def test_density_divides_each_object_by_its_own_pixel():
    from astropy.cosmology import Planck15

    def per_arcmin2(row, column, z):
        return tangent_pixel_area(row, column, SHAPE, GRID.pixel_arcmin)

    def per_mpc2(row, column, z):
        across = Planck15.kpc_proper_per_arcmin(z).to_value("Mpc / arcmin")
        return per_arcmin2(row, column, z) * across**2

    for unit, area in (("Msun/arcmin2", per_arcmin2), ("Msun/Mpc2", per_mpc2)):
        found = of_objects(unit=unit, cosmology="Planck15")
        expected = by_loop(area)[0][:, 0]
        np.testing.assert_allclose(found.draws, expected, rtol=1e-10)
        np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(found.sd, expected.std(axis=0, ddof=1), rtol=1e-8)
        for name, level in (("q16", 0.16), ("q50", 0.5), ("q84", 0.84)):
            np.testing.assert_allclose(getattr(found, name), np.quantile(expected, level, axis=0), rtol=1e-10)
        # the total stays a mass
        np.testing.assert_allclose(found.total_draws, by_loop()[0].sum(axis=(1, 2, 3)), rtol=1e-12)


def test_pixel_areas_off_the_centre():
    """Wide pixels on a wide field: spherical triangles; their sum is the solid angle of the whole rectangle."""
    grid = PixelGrid("tangent", (31, 41), 90.0, (10.0, -30.0))
    area = grid.pixel_areas_arcmin2(np.arange(grid.num_pixels)).reshape(grid.shape)
    for row, column in ((0, 0), (15, 20), (30, 7), (4, 33)):
        assert area[row, column] == pytest.approx(tangent_pixel_area(row, column, grid.shape, 90.0), rel=1e-9)
    assert area[15, 20] / grid.pixel_area_arcmin2 - 1 == pytest.approx(0.0, abs=2e-4)
    assert area[0, 0] / grid.pixel_area_arcmin2 < 0.65  # 33 degrees off
    x, y = np.radians(41 * 0.75), np.radians(31 * 0.75)
    whole = 4 * np.arcsin(x * y / np.sqrt((1 + x * x) * (1 + y * y)))
    assert area.sum() == pytest.approx(whole * np.degrees(60) ** 2, rel=1e-11)
    flat = PixelGrid("flat", (3, 4), 2.0, (0.0, 0.0))
    np.testing.assert_array_equal(flat.pixel_areas_arcmin2(np.array([0, 11])), 4.0)


def test_many_redshifts_go_by_a_spline():
    from astropy.cosmology import Planck18

    from massmap_jax.halo.cosmology import angular_diameter_distance

    z = np.random.default_rng(0).uniform(0.01, 6.0, 6000)
    np.testing.assert_allclose(
        angular_diameter_distance("Planck18", z), Planck18.angular_diameter_distance(z).value, rtol=2e-10
    )


# -- smoothing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("footprint", [None, mask()])
def test_smoothing_each_draw(footprint):
    plain = of_objects(footprint=footprint)
    fwhm = 27.0
    inside = np.ones(SHAPE, dtype=bool) if footprint is None else footprint
    sigma = fwhm / 12.0 / np.sqrt(8 * np.log(2))
    expected = np.array([smoothed_image(draw, inside, sigma) for draw in np.nan_to_num(plain.draws)])
    found = smoothed(plain, fwhm)
    np.testing.assert_allclose(found.draws, expected, rtol=1e-9, atol=1e-12 * np.nanmax(expected))
    for name, values in (
        ("mean", smoothed_image(np.nan_to_num(plain.mean), inside, sigma)),
        ("sampled_mean", expected.mean(axis=0)),
        ("sd", expected.std(axis=0, ddof=1)),
        ("q16", np.quantile(expected, 0.16, axis=0)),
        ("q84", np.quantile(expected, 0.84, axis=0)),
    ):
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-8, atol=1e-12 * np.nanmax(values))
    # conserved to rounding, draw by draw, at the rim and around holes too
    np.testing.assert_allclose(np.nansum(found.draws, axis=(1, 2)), plain.total_draws, rtol=1e-12)
    np.testing.assert_array_equal(found.total_draws, plain.total_draws)
    np.testing.assert_array_equal(np.isnan(found.mean), ~inside)
    # the twin: the smoothed sd is another thing
    wrong = smoothed_image(np.nan_to_num(plain.sd), inside, sigma)
    assert np.nanmedian(wrong / found.sd) > 1.15
    direct = of_objects(footprint=footprint, finish={"fwhm_arcmin": fwhm, "keep_draws": False})
    np.testing.assert_array_equal(direct.sd, found.sd)
    assert direct.draws is None and direct.fwhm_arcmin == fwhm


def test_width_of_the_kernel():
    """One object: the second moments of what it becomes are those of the Gaussian."""
    grid = PixelGrid("flat", (81, 81), 0.5, (0.0, 0.0))
    sums = MapSums(grid, FixedDraws())
    one = HaloCatalogue.from_arrays(
        luminosity=[1.0], redshift=[0.5], sigma_ln_luminosity=0.05, ra=[0.0], dec=[0.0], position_unit="arcmin"
    )
    sums.add(
        one, SimpleNamespace(prior=None, extra=None, selection=None, usable=one.usable, mean_mass=np.array([1e14]))
    )
    for fwhm in (1.0, 1.7, 6.0):
        image = smoothed(sums.finish(ess=1.0, relation_from=None, keep_draws=True), fwhm).mean / 1e14
        x, y = grid.centres()
        sigma = fwhm / np.sqrt(8 * np.log(2))
        for axis in (x, y):
            assert (image * axis**2).sum() == pytest.approx(sigma**2, rel=1e-4)
        assert image.sum() == pytest.approx(1.0, rel=1e-13)


def test_smoothed_cube_and_density():
    """Slices are smoothed one by one; a density is smoothed as mass."""
    cube = of_objects(redshift_edges=EDGES)
    found = smoothed(cube, 30.0)
    for number in range(3):
        np.testing.assert_allclose(found.sd[number], smoothed(one_slice(cube, number), 30.0).sd, rtol=1e-12)
    area = GRID.pixel_areas_arcmin2(np.arange(GRID.num_pixels)).reshape(SHAPE)
    density, mass = smoothed(of_objects(unit="Msun/arcmin2"), 30.0), smoothed(of_objects(), 30.0)
    np.testing.assert_allclose(density.q16, mass.q16 / area, rtol=1e-12)


# -- footprint ------------------------------------------------------------------------------------------------------


def test_footprint_flags_pixels_and_counts_objects(tmp_path):
    found = of_objects(footprint=mask(), redshift_edges=EDGES)
    expected, fate = by_loop(inside=mask(), edges=EDGES)
    expected[..., ~mask()] = np.nan
    np.testing.assert_allclose(found.draws, expected, rtol=1e-12)
    for name in ("mean", *NAMES):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)), np.broadcast_to(~mask(), found.mean.shape))
    assert (found.n_masked, found.n_outside, found.n_beyond) == (fate["masked"], fate["outside"], fate["beyond"])
    assert fate["masked"] > 5 and found.nobj.sum() == fate["mapped"]
    np.testing.assert_allclose(found.total_draws, np.nansum(expected, axis=(1, 2, 3)), rtol=1e-12)
    write_map(tmp_path / "map.fits", found, {})
    back = read_map(tmp_path / "map.fits")
    np.testing.assert_array_equal(back["mean"], found.mean)
    assert back["meta"]["n_masked"] == fate["masked"]
    assert back["meta"]["total_mass"] == pytest.approx(np.nansum(found.mean))


def test_regions_know_the_footprint():
    found = of_objects(footprint=mask())
    everywhere = region_mass(found, np.ones(SHAPE, dtype=bool))
    np.testing.assert_allclose(everywhere.draws, found.total_draws, rtol=1e-12)
    assert everywhere.cut and everywhere.num_pixels == mask().sum()
    assert not region_mass(found, mask()).cut
    np.testing.assert_array_equal(np.isnan(exceedance(found, 1e12)), ~mask())


def test_sums_of_parts_are_those_of_the_whole():
    """State, restore and merge carry slices, masks and totals along."""
    form = dict(redshift_edges=EDGES, footprint=mask(), unit="Msun/Mpc2")
    objects = HaloCatalogue.from_arrays(**columns())
    mean = np.exp(FixedDraws().ln_mass(objects.ln_lum_obs)).mean(axis=1)
    parts = []
    for rows in np.array_split(np.arange(NUMBER), 3):
        parts.append(MapSums(GRID, FixedDraws(), MapForm(**form)))
        parts[-1].add(
            objects.subset(rows),
            SimpleNamespace(prior=None, extra=None, selection=None, usable=objects.usable[rows], mean_mass=mean[rows]),
        )
    whole = MapSums(GRID, FixedDraws(), MapForm(**form))
    whole.restore(parts[0].state())
    for part in parts[1:]:
        whole.merge(part)
    found, expected = whole.finish(ess=1.0, relation_from=None), of_objects(**form)
    for name in (
        "mean",
        *NAMES,
        "nobj",
        "total_draws",
        "total_mass",
        "slice_draws",
        "n_masked",
        "n_beyond",
        "n_outside",
    ):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12, err_msg=name)


# -- figures --------------------------------------------------------------------------------------------------------


def test_figures_say_unit_slice_and_footprint():
    cube = of_objects(redshift_edges=EDGES, footprint=mask(), unit="Msun/arcmin2", finish={"fwhm_arcmin": 30.0})
    figure = slice_panels(cube)
    figure.canvas.draw()
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == [
        f"${low:g} < z < {high:g}$: {objects:.0f}"
        for low, high, objects in zip(EDGES, EDGES[1:], cube.nobj.sum(axis=(1, 2)))
    ]
    assert len({(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in shown}) == 1
    np.testing.assert_array_equal(np.ma.getmaskarray(shown[0].images[0].get_array()), ~mask())
    title = figure._suptitle.get_text()
    assert "surface density of halo mass $M_{\\mathrm{200m}}$" in title and "smoothed to 30 arcmin" in title
    ax = mass_map_image(one_slice(cube, 1))
    assert "z 0.5 to 0.9" in ax.get_title()
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"not observed"}
    (bar,) = [child for child in ax.child_axes if child.get_ylabel()]
    assert bar.get_ylabel().endswith("arcmin$^{-2}$]")
    for draw in (mass_map_image, map_panels):
        with pytest.raises(MassmapError, match="3 redshift slices and the figure shows one"):
            draw(cube)


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (dict(redshift_edges=[0.1]), r"redshift_edges has shape \(1,\): give at least two"),
        (dict(redshift_edges=[0.1, 0.1]), "must rise, and 1 do not, the first 0.1 after 0.1"),
        (dict(redshift_edges=[0.1, np.nan]), "1 values that are not finite and >= 0"),
        (dict(redshift_edges=["a", "b"]), "must be numbers"),
        (dict(footprint=np.ones((4, 4), dtype=bool)), r"grid's shape \(18, 23\), and this has shape \(4, 4\)"),
        (dict(footprint=np.ones(SHAPE)), "type float64"),
        (dict(footprint=np.zeros(SHAPE, dtype=bool)), "none of the 414 pixels"),
        (dict(unit="kg"), "map unit 'kg' is not known: give one of Msun, Msun/arcmin2, Msun/Mpc2"),
        (dict(unit="Msun/Mpc2", cosmology="Planck99"), "Planck99"),
    ],
)
def test_forms_that_are_none(form, says):
    with pytest.raises(MassmapError, match=says) as caught:
        of_objects(**form)
    assert "\n" not in str(caught.value)


def test_a_map_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2e7)
    with pytest.raises(MassmapError, match=r"8,279,586 pixels needs about .* GB and this"):
        of_objects(redshift_edges=np.linspace(0, 2, 2 * 10**4))


def test_other_refusals():
    here = dict(redshift=np.zeros(NUMBER), ra=np.zeros(NUMBER), dec=np.full(NUMBER, 55.0))
    with pytest.raises(MassmapError, match="150 objects on the map have redshift 0, the first"):
        of_objects(here, unit="Msun/Mpc2")
    plain = of_objects()
    for fwhm in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(MassmapError, match="give a finite width above 0"):
            smoothed(plain, fwhm)
    with pytest.raises(MassmapError, match="longer side 276"):
        smoothed(plain, 300.0)
    with pytest.raises(MassmapError, match="smoothed by 30 arcmin before"):
        smoothed(smoothed(plain, 30.0), 30.0)
    without = of_objects(finish={"keep_draws": False})
    with pytest.raises(MassmapError, match="keep_draws=True"):
        smoothed(without, 30.0)
    with pytest.raises(MassmapError, match="no redshift slices"):
        one_slice(plain, 0)
    cube = of_objects(redshift_edges=EDGES)
    with pytest.raises(MassmapError, match="no slice 3: this map has 3, from 0"):
        one_slice(cube, 3)
    with pytest.raises(MassmapError, match="keep_draws=True"):
        sum_of_slices(of_objects(redshift_edges=EDGES, finish={"keep_draws": False}))
    with pytest.raises(MassmapError, match="in Msun/arcmin2"):
        region_mass(of_objects(unit="Msun/arcmin2"), mask())
    with pytest.raises(MassmapError, match="3 redshift slices"):
        region_mass(cube, mask())


@pytest.mark.filterwarnings("error")
def test_empty_one_object_all_outside():
    """No object on the map: zeros, and the counts say why; a single object is a map like others."""
    nowhere = of_objects(dict(ra=np.full(NUMBER, 180.0)))
    assert nowhere.n_outside == NUMBER and nowhere.mean.sum() == nowhere.total_mass == nowhere.total_sd == 0
    assert not smoothed(nowhere, 30.0).sd.any()
    masses = of_objects(usable=np.zeros(NUMBER, dtype=bool))
    assert masses.n_flagged == NUMBER and masses.draws.shape == (DRAWS, *SHAPE) and not masses.draws.any()
    one = {name: values[:1] for name, values in columns(1).items()}
    objects = HaloCatalogue.from_arrays(**one | dict(ra=[0.0], dec=[55.0]))
    sums = MapSums(GRID, FixedDraws(), MapForm(footprint=mask(), unit="Msun/Mpc2"))
    sums.add(
        objects,
        SimpleNamespace(prior=None, extra=None, selection=None, usable=objects.usable, mean_mass=np.array([1e14])),
    )
    found = sums.finish(ess=1.0, relation_from=None)
    assert found.nobj.sum() == 1 and (found.sd > 0).sum() == 1
    with pytest.raises(MassmapError, match="no rows"):
        HaloCatalogue.from_arrays(luminosity=[], redshift=[], sigma_ln_luminosity=0.05)


def test_a_map_larger_than_the_machine_is_refused_with_the_number():
    grid = PixelGrid("tangent", (4_000_000, 4_000_000), 1e-4, (0.0, 0.0))
    with pytest.raises(MassmapError, match=r"16,000,000,000,000 pixels needs about 1\.92e\+06 GB and this machine has"):
        MapSums(grid, FixedDraws())
    with pytest.raises(MassmapError, match=r"needs about .* GB and this machine has .* GB: give a larger pixel_arcmin"):
        PixelGrid.fit([0.0, 1.0], [0.0, 1.0], pixel_arcmin=1e-5, max_pixels=10**18)
    for size in (0.0, -2.0, np.nan):
        with pytest.raises(MassmapError, match="finite pixel side above 0"):
            PixelGrid.fit([0.0, 1.0], [0.0, 1.0], pixel_arcmin=size)
