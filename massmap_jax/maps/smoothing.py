"""Smoothing of a mass map by a Gaussian, draw by draw, so that its error bars are those of the smoothed map.

Boundary: the mass of a pixel is spread over the pixels of the map (of its footprint, where it has one) alone, with
weights that add up to one. So no mass is lost at the rim, and the total of every draw is unchanged; objects beyond
the rim, which are not in the map, do not leak into it either.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.positions import unit_vectors
from massmap_jax.choices import check_fwhm
from massmap_jax.errors import MassmapError
from massmap_jax.maps.images import images_of
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.units import MASS
from massmap_jax.memory import check_memory

if TYPE_CHECKING:
    from massmap_jax.maps.images import MassMap
    from massmap_jax.maps.pixels import SkyPixels

_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# The kernel ends at so many sigma, beyond which a plane Gaussian has 4e-6 of its volume.
_REACH = 5.0
_BYTES_PER_PAIR = 40  # of two pixels within reach: two indices, distance, weight, and a copy


def smoothed(mass_map: "MassMap", fwhm_arcmin: float, *, keep_draws: bool = True) -> "MassMap":
    """Smooth a map by a Gaussian: every draw is smoothed, and statistics are taken after.

    Parameters
    ----------
    mass_map : MassMap
        With draws.
    fwhm_arcmin : float
        FWHM of the kernel.
    keep_draws : bool
        Keep the smoothed draws.

    Returns
    -------
    MassMap
        Statistics of the smoothed draws. `nobj` stays as it was: objects whose position is in a pixel.

    Raises
    ------
    MassmapError
        No draws, a width that is not positive or exceeds the map, a map smoothed before.

    Notes
    -----
    The kernel is sampled at pixel centres: its variance is right to 1e-4 from a FWHM of 2 pixels on, and below
    one pixel the map hardly changes. On a tangent plane it is round in the plane: at a distance t from the centre the
    FWHM on the sky is less by the factors cos(t) along the tangential and cos^2(t) along the radial direction (0.4 and
    0.8 % at 5 degrees). On HEALPix distances are on the sphere. A surface density is smoothed as mass, then divided by
    the pixels' areas.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> grid = mm.PixelGrid.fit(clusters.ra, clusters.dec)
    >>> field = mm.mass_map(jax.random.key(0), clusters, prior, relation, grid, num_draws=20, keep_draws=True)
    >>> wide = mm.smoothed(field, fwhm_arcmin=2.0)
    >>> wide.fwhm_arcmin, bool((wide.mean > 0).sum() > (field.mean > 0).sum())
    (2.0, True)
    >>> bool(abs(wide.mean.sum() / field.mean.sum() - 1) < 1e-9)
    True
    """
    check_kinds("smoothed", mass_map=mass_map)
    observed = None if mass_map.footprint is None else int(mass_map.footprint.sum())
    check_smoothing(mass_map.grid, fwhm_arcmin, observed)
    if mass_map.draws is None:
        raise MassmapError("this map holds no draws, and smoothing is done to each: make it with keep_draws=True")
    if mass_map.fwhm_arcmin is not None:
        raise MassmapError(
            f"this map was smoothed by {mass_map.fwhm_arcmin:g} arcmin before: smooth the plain map by the FWHM wanted"
        )
    grid = mass_map.grid
    kernel = _plane_kernel if isinstance(grid, PixelGrid) else _sphere_kernel
    spread = kernel(mass_map, fwhm_arcmin)
    area = 1.0
    if mass_map.unit != MASS:
        area = grid.pixel_areas_arcmin2(np.arange(grid.num_pixels)).reshape(grid.shape)
    outside = False if mass_map.footprint is None else ~mass_map.footprint

    def one(image):
        return np.where(outside, np.nan, spread(np.where(outside, 0.0, image) * area) / area)

    draws = np.empty(mass_map.draws.shape)
    # An image at a time, slices of a cube one after the other.
    flat_in, flat_out = (a.reshape(-1, *grid.shape) for a in (mass_map.draws, draws))
    for i, image in enumerate(flat_in):
        flat_out[i] = one(image)
    mean = np.stack([one(image) for image in mass_map.mean.reshape(-1, *grid.shape)]).reshape(mass_map.mean.shape)
    return replace(
        mass_map,
        mean=mean,
        **images_of(draws),
        draws=draws if keep_draws else None,
        form=replace(mass_map.form, fwhm_arcmin=float(fwhm_arcmin)),
    )


def smoothed_counts(mass_map: "MassMap") -> Float[np.ndarray, "ny nx"]:
    """Smooth the numbers of objects as the map itself was, for a picture beside it.

    Parameters
    ----------
    mass_map : MassMap
        A smoothed map in pixels on a plane.

    Returns
    -------
    Float[np.ndarray, "ny nx"]
        Objects per pixel, whose sum is that of `nobj`.
    """
    return _plane_kernel(mass_map, mass_map.fwhm_arcmin)(np.asarray(mass_map.nobj, np.float64))


def check_smoothing(grid: "SkyPixels", fwhm_arcmin: float, num_observed: int | None = None) -> None:
    """Refuse a width that these pixels cannot be smoothed by, before there is a map.

    Parameters
    ----------
    grid : PixelGrid or HealpixGrid
        The pixels.
    fwhm_arcmin : float
        FWHM of the kernel.
    num_observed : int, optional
        Pixels in the footprint, where there is one.

    Raises
    ------
    MassmapError
        A width that is not positive or exceeds the map, or needs more memory than the machine has.
    """
    check_fwhm(fwhm_arcmin)
    if isinstance(grid, PixelGrid):
        if fwhm_arcmin > (widest := max(grid.shape) * grid.pixel_arcmin):
            raise MassmapError(
                f"the FWHM to smooth by is {fwhm_arcmin:g} arcmin and the map's longer side {widest:g}: give a smaller "
                "one"
            )
        return
    sigma = np.radians(fwhm_arcmin / 60) * _SIGMA_PER_FWHM
    if _REACH * sigma > 1.0:
        raise MassmapError(f"the FWHM to smooth by is {fwhm_arcmin:g} arcmin: on the sphere give at most 1,600")
    pixels = grid.num_pixels if num_observed is None else num_observed
    within = 2 * np.pi * (1 - np.cos(_REACH * sigma)) / np.radians(grid.pixel_arcmin / 60) ** 2
    check_memory(
        _BYTES_PER_PAIR * pixels * min(within + 1, pixels),
        f"smoothing {pixels:,} pixels, each over about {within:,.0f} others,",
        "give a smaller FWHM, or larger pixels",
    )


def _plane_kernel(mass_map, fwhm_arcmin):
    """Image -> image: a separable Gaussian in the plane, each pixel's weights adding up to one within the footprint."""
    from scipy.ndimage import gaussian_filter

    grid = mass_map.grid
    sigma = fwhm_arcmin * _SIGMA_PER_FWHM / grid.pixel_arcmin

    def blur(image):
        return gaussian_filter(image, sigma, mode="constant", truncate=_REACH)

    inside = np.ones(grid.shape) if mass_map.footprint is None else mass_map.footprint.astype(float)
    reached = np.where(inside > 0, blur(inside), 1.0)
    return lambda image: blur(image / reached) * inside


def _sphere_kernel(mass_map, fwhm_arcmin):
    """As `_plane_kernel`, on any pixels of equal area, by distances on the sphere."""
    from scipy.sparse import csr_array
    from scipy.spatial import cKDTree

    grid = mass_map.grid
    sigma = np.radians(fwhm_arcmin / 60) * _SIGMA_PER_FWHM
    inside = np.ones(grid.num_pixels, dtype=bool) if mass_map.footprint is None else mass_map.footprint
    pixels = np.flatnonzero(inside)
    # Mass comes from pixels that have some: often a small part of them.
    images = [a.reshape(-1, grid.num_pixels) for a in (mass_map.draws, mass_map.mean)]
    sources = np.flatnonzero(inside & np.any([(image != 0).any(axis=0) for image in images], axis=0))
    place = unit_vectors(*(angle.ravel() for angle in grid.centres()))
    tree, of_sources = cKDTree(place[pixels]), cKDTree(place[sources])
    pairs = tree.sparse_distance_matrix(of_sources, 2 * np.sin(_REACH * sigma / 2), output_type="ndarray")
    weight = np.exp(-0.5 * (2 * np.arcsin(pairs["v"] / 2) / sigma) ** 2)
    weight /= np.bincount(pairs["j"], weight, minlength=sources.size)[pairs["j"]]
    kernel = csr_array((weight, (pairs["i"], pairs["j"])), shape=(pixels.size, sources.size))

    def spread(image):
        out = np.zeros(image.shape)
        out[pixels] = kernel @ image[sources]
        return out

    return spread
