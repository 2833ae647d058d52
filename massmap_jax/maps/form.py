"""What shapes a map beside its pixels: unit, redshift slices, footprint, smoothing, halo profile."""

import numpy as np

from massmap_jax.choices import (
    check_map_unit,
    check_redshift_edges,
)
from massmap_jax.errors import MassmapError
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.units import MASS, object_areas
from massmap_jax.memory import check_memory


class MapForm:
    """Which cell of the map an object belongs to, cells being pixels in every slice, and the area it is divided by.

    Arguments as in `mass_map`. shape : of an image or cube. footprint : (pixel,) boolean or None.
    """

    def __init__(self, grid: SkyPixels, *, redshift_edges=None, footprint=None, unit=MASS, cosmology="Planck18"):
        check_map_unit(unit)
        self.grid, self.unit, self.cosmology = grid, unit, cosmology
        self.edges = None if redshift_edges is None else check_redshift_edges(redshift_edges)
        self.footprint = None if footprint is None else _checked_footprint(footprint, grid.shape)
        self.num_slices = 1 if self.edges is None else self.edges.size - 1
        self.shape = grid.shape if self.edges is None else (self.num_slices, *grid.shape)
        self.num_cells = self.num_slices * grid.num_pixels

    def check_memory(self, num_draws: int, copies: int) -> None:
        """Refuse a map that does not fit into the machine; copies : of the images of all draws."""
        what, remedy = f"a map of {self.num_cells:,} pixels", "give larger pixels or a smaller field"
        if copies:
            what, remedy = f"{what} with the images of {num_draws:,} draws", f"{remedy}, or fewer draws"
        check_memory(8.0 * self.num_cells * (_IMAGES + copies * num_draws), what, remedy)

    def cells(self, catalogue) -> np.ndarray:
        """(halo,) cell of each object; negative where it has none."""
        if (catalogue.frame == "flat") != (self.grid.projection == "flat"):
            raise MassmapError(
                f"the catalogue's positions are {catalogue.frame} and the grid is {self.grid.projection}: offsets in "
                "arcmin need a flat grid, or a field_centre when they are read"
            )
        pixel = self.grid.index(catalogue.ra, catalogue.dec)
        if self.footprint is not None:
            pixel = np.where((pixel >= 0) & ~self.footprint[pixel], MASKED, pixel)
        if self.edges is None:
            return pixel
        # Unusable redshifts are NaN, and no object with one is mapped.
        place = np.searchsorted(self.edges, catalogue.redshift, side="right") - 1
        place = np.where(catalogue.redshift == self.edges[-1], self.num_slices - 1, place)
        inside = (place >= 0) & (place < self.num_slices)
        return np.where(pixel < 0, pixel, np.where(inside, place * self.grid.num_pixels + pixel, BEYOND))

    def areas(self, cells, redshift) -> np.ndarray:
        return object_areas(self.unit, self.grid, cells % self.grid.num_pixels, redshift, self.cosmology)


def copies_of_draws(keep_draws: bool, fwhm_arcmin: float | None, halo_profile: str | None = None) -> int:
    """Of the images of all draws: the plain ones, the smoothed ones beside them, and layers of profiles."""
    plain = int(keep_draws) if fwhm_arcmin is None else 2
    return plain if halo_profile is None else max(plain, 1) + _LAYERS


def _checked_footprint(footprint, shape) -> np.ndarray:
    mask = np.asarray(footprint)
    if mask.shape != tuple(shape) or mask.dtype != bool:
        raise MassmapError(
            f"the footprint is boolean with the grid's shape {tuple(shape)}, and this has shape {mask.shape} and type "
            f"{mask.dtype}: give True for each pixel observed"
        )
    if not mask.any():
        raise MassmapError(f"the footprint holds none of the {mask.size} pixels: there is nothing to map")
    return mask.ravel()


# Images of float64 alive at once while a map is finished, counts and places among them.
_IMAGES = 15


# Layers of halo profiles that a pixel has mass in, for the memory of a map with such.
_LAYERS = 4


# Why an object is in no pixel: outside the grid (as `index` says), masked, or beyond the redshift slices.
OUTSIDE, MASKED, BEYOND = -1, -2, -3
