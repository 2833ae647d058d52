"""Pictures of maps: smoothed where pixels hold few objects, and the map in the file as it is."""

import jax
import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.figures.standard import figure_makers
from massmap_jax.run.options import JobOptions
from massmap_jax.run.pictures import fwhm_of_picture, with_picture

GRID = mm.PixelGrid("tangent", (64, 64), 0.5, (150.0, 2.0))


def fwhm(number, grid=GRID, **options):
    return fwhm_of_picture(number, grid, JobOptions(relation="identity", **options))


def test_width_follows_the_number_of_objects():
    assert fwhm(10 * 64**2) is None and fwhm(0) is None  # enough in every pixel; nothing to smooth
    assert fwhm(9 * 64**2) == 1.5  # three pixels at least
    assert fwhm(64**2 // 2) == pytest.approx(0.5 * np.sqrt(20 / (np.pi / (4 * np.log(2)))), abs=0.05)
    assert fwhm(30) == 3.0  # six pixels at most


@pytest.mark.parametrize(
    "options", [{"make_figures": False}, {"smooth_arcmin": 1.0}, {"halo_profile": "nfw"}, {"num_map_draws": 10**6}]
)
def test_what_is_drawn_as_it_is(options):
    assert fwhm(64**2) is not None and fwhm(64**2, **options) is None


def test_width_on_healpix():
    pytest.importorskip("astropy_healpix")
    grid = mm.HealpixGrid(32)
    assert fwhm(3000, grid) == pytest.approx(6 * grid.pixel_arcmin, rel=0.01)
    assert fwhm(100, mm.HealpixGrid(2)) is None  # wider than can be smoothed on the sphere
    assert fwhm(10**6, mm.HealpixGrid(256)) is None  # too many pixels for a picture


def test_the_map_itself_is_not_smoothed():
    generator = np.random.default_rng(0)
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=1e13 * np.exp(generator.normal(size=30)), sigma_ln_luminosity=0.3, redshift=np.full(30, 0.3),
        ra=150 + generator.uniform(-0.2, 0.2, 30), dec=2 + generator.uniform(-0.2, 0.2, 30),
    )  # fmt: skip
    prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    posterior = mm.mass_posterior(catalogue, prior, relation)
    of = jax.random.key(1), catalogue, prior, relation, mm.PixelGrid.fit(catalogue.ra, catalogue.dec)
    plain = mm.mass_map(*of, num_draws=8, posterior=posterior)
    image, picture = with_picture(mm.mass_map(*of, num_draws=8, posterior=posterior, keep_draws=True), 2.0)
    for name in ("mean", "sampled_mean", "sd", "q16", "q50", "q84", "nobj", "total_draws"):
        assert np.array_equal(getattr(plain, name), getattr(image, name))
    assert image.draws is None and image.fwhm_arcmin is None and picture.fwhm_arcmin == 2.0
    assert picture.mean.sum() == pytest.approx(plain.mean.sum()) and picture.mean.max() < plain.mean.max()
    for name, title in (("mass_map", lambda f: f.axes[0].get_title()), ("map_panels", lambda f: f.get_suptitle())):
        smoothed, as_it_is = (
            title(figure_makers(posterior, image, picture=one)[name]()).replace("\n", " ") for one in (picture, None)
        )
        assert "smoothed to 2 arcmin" in smoothed and "the map in the file is not smoothed" in smoothed
        assert "smoothed" not in as_it_is
