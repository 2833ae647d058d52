"""The maps that are drawn: smoothed, where the pixels of the map in the file hold few objects; and the demo's own."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.maps.images import MassMap, one_slice
from massmap_jax.maps.kinds import map_of_kind
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid, SkyPixels
from massmap_jax.maps.smoothing import check_smoothing, smoothed
from massmap_jax.run.options import JobOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.run.job import JobResult

# Objects that are too few for a pixel, and how many a Gaussian that smooths the picture holds instead, within these
# bounds of its FWHM [pixels]. A Gaussian has the area pi / (4 ln 2) FWHM^2.
_FEW, _FWHM_BOUNDS = 10.0, (3.0, 6.0)
_AREA = np.pi / (4 * np.log(2))
# Images of all draws are kept for a picture up to this size [bytes], and HEALPix pixels smoothed up to this number of
# pairs, of a pixel with objects and one that it spreads to: about 2 s.
_LARGEST, _MOST_PAIRS = 2e8, 1e7
# The demo's figure: redshifts below this, where halos are large enough to be seen; pixels and smoothing [arcmin].
_Z_MAX, _PIXEL, _FWHM = 1.0, 0.25, 1.5


def fwhm_of_picture(number: int, grid: SkyPixels, options: JobOptions) -> float | None:
    """Choose how to smooth the picture of a map, whose file is not smoothed.

    Parameters
    ----------
    number : int
        Objects on the map.
    grid : PixelGrid or HealpixGrid
        Its pixels.
    options : JobOptions
        The options of the run.

    Returns
    -------
    float or None
        FWHM [arcmin]; None where pixels hold enough objects, no figures are drawn, the user has chosen how halos are
        drawn, or the images of all draws, or the pixels that a Gaussian spreads over, are too many.
    """
    form = options.form
    per_pixel = number / (grid.num_pixels * form.num_slices)
    size = 8.0 * grid.num_pixels * form.num_slices * options.num_map_draws
    chosen = form.fwhm_arcmin is not None or form.halo_profile is not None
    if not options.make_figures or chosen or not 0 < per_pixel < _FEW or size >= _LARGEST:
        return None
    pixels = float(np.clip(np.sqrt(_FEW / (_AREA * per_pixel)), *_FWHM_BOUNDS))
    fwhm = float(f"{pixels * grid.pixel_arcmin:.2g}")
    # Within 5 standard deviations there are 14 pixels for each in a square whose side is the FWHM.
    if not isinstance(grid, PixelGrid) and 14 * pixels**2 * min(number, grid.num_pixels) > _MOST_PAIRS:
        return None
    try:
        check_smoothing(grid, fwhm)
    except MassmapError:  # wider than the field, or too much for the memory: a picture must not cost the map
        return None
    return fwhm


def with_picture(image: MassMap, fwhm: float | None) -> tuple[MassMap, MassMap | None]:
    """Smooth a map for a picture.

    Parameters
    ----------
    image : MassMap
        The map, with draws if it is to be smoothed.
    fwhm : float or None
        FWHM [arcmin], or None.

    Returns
    -------
    image : MassMap
        The map without draws.
    picture : MassMap or None
        The smoothed one.
    """
    return replace(image, draws=None), None if fwhm is None else smoothed(image, fwhm, keep_draws=False)


def truth_maps(result: "JobResult", options: JobOptions) -> "dict[str, Callable[[], Figure]]":
    """List what draws the demo's figure: truth and map of the nearer halos, each halo at its own size.

    Parameters
    ----------
    result : JobResult
        Of a catalogue with true masses and positions.
    options : JobOptions
        The options of the run.

    Returns
    -------
    dict of str to callable
        Empty where no halo is near enough.
    """
    posterior = result.posterior
    catalogue = posterior.catalogue
    if not np.any(catalogue.redshift[posterior.usable] < _Z_MAX):
        return {}

    def draw():
        from massmap_jax.figures.truth_maps import truth_maps_figure

        grid = PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=_PIXEL)
        key = jax.random.fold_in(jax.random.key(options.seed), 5)  # of its own
        of = catalogue, posterior.prior, posterior.relation, grid
        form = {"halo_profile": "nfw", "fwhm_arcmin": _FWHM, "redshift_edges": (0.0, _Z_MAX)}
        shared = {"relation_from": posterior.relation_from, "posterior": posterior, **form}
        mapped = mass_map(key, *of, num_draws=options.num_map_draws, **shared)
        truth = map_of_kind(key, "truth", *of, **shared)
        return truth_maps_figure(one_slice(truth, 0), one_slice(mapped, 0), options.map_colours)

    return {"truth_maps": draw}
