"""What shapes a map beside its pixels and its masses: unit, redshift slices, footprint, smoothing, halo profile."""

from typing import Any, Literal

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import (
    check_concentration_scatter,
    check_fwhm,
    check_halo_profile,
    check_map_unit,
    check_redshift_edges,
)
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN
from massmap_jax.maps.pixels import PixelGrid, SkyPixels
from massmap_jax.maps.units import MASS, PER_MPC2, object_areas
from massmap_jax.memory import check_memory

# Images of float64 alive at once while a map is finished, counts and places among them.
_IMAGES = 15
# Layers of halo profiles that a pixel has mass in, for the memory of a map with such.
_LAYERS = 4
# Why an object is in no pixel: outside the grid (as `index` says), masked, or beyond the redshift slices.
OUTSIDE, MASKED, BEYOND = -1, -2, -3


class MapForm(eqx.Module):
    """Say what shapes a map beside its pixels and its masses; checked when it is made.

    Parameters
    ----------
    unit : {"Msun", "Msun/arcmin2", "Msun/Mpc2"}
        Mass in a pixel, or surface density (proper Mpc at each object's own redshift; `maps.units`).
    redshift_edges : array_like, (slice + 1,), optional
        Edges of redshift slices [z_i, z_i+1), the last one closed; the map is then a cube.
    footprint : Bool[np.ndarray, "ny nx"], optional
        Pixels that were observed; on a HEALPix grid (pixel,). The others are NaN in the map.
    fwhm_arcmin : float, optional
        FWHM of the Gaussian that smooths every map realisation [arcmin].
    halo_profile : {"nfw"}, optional
        Draw each halo at its own size instead of as a point.
    concentration_scatter : float
        Scatter of ln c about the mean of Duffy et al. 2008, for halo profiles.
    cosmology : str or astropy.cosmology.FLRW
        For distances and halo radii: a name or text as in `massmap_jax.halo.cosmology`, or a flat LambdaCDM.

    Raises
    ------
    MassmapError
        An unknown unit or profile, edges that do not rise, a width that is not positive.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> form = mm.MapForm(unit="Msun/Mpc2", redshift_edges=(0.1, 0.3, 0.5))
    >>> form.num_slices, form.distances
    (2, 'Planck18')
    >>> mm.MapForm().distances is None
    True
    """

    unit: str = eqx.field(static=True, default=MASS)
    redshift_edges: tuple[float, ...] | None = eqx.field(static=True, default=None)
    footprint: Bool[np.ndarray, "..."] | None = None
    fwhm_arcmin: float | None = eqx.field(static=True, default=None)
    halo_profile: Literal["nfw"] | None = eqx.field(static=True, default=None)
    concentration_scatter: float = eqx.field(static=True, default=SCATTER_LN)
    cosmology: Any = eqx.field(static=True, default="Planck18")

    def __init__(
        self,
        unit: str = MASS,
        redshift_edges: ArrayLike | None = None,
        footprint: ArrayLike | None = None,
        fwhm_arcmin: float | None = None,
        halo_profile: Literal["nfw"] | None = None,
        concentration_scatter: float = SCATTER_LN,
        cosmology: Any = "Planck18",
    ) -> None:
        check_map_unit(unit)
        if redshift_edges is not None:
            redshift_edges = tuple(check_redshift_edges(redshift_edges).tolist())
        if fwhm_arcmin is not None:
            check_fwhm(fwhm_arcmin)
            fwhm_arcmin = float(fwhm_arcmin)
        if halo_profile is not None:
            check_halo_profile(halo_profile)
            check_concentration_scatter(concentration_scatter)
        self.unit, self.redshift_edges = unit, redshift_edges
        self.footprint = None if footprint is None else np.asarray(footprint)
        self.fwhm_arcmin, self.halo_profile = fwhm_arcmin, halo_profile
        self.concentration_scatter, self.cosmology = concentration_scatter, cosmology

    @property
    def num_slices(self) -> int:
        """Number of redshift slices; 1 where there are none."""
        return 1 if self.redshift_edges is None else len(self.redshift_edges) - 1

    @property
    def distances(self) -> str | None:
        """Cosmology as text where the map depends on it, else None."""
        return str(self.cosmology) if self.unit == PER_MPC2 or self.halo_profile is not None else None

    def copies_of_images(self, keep_draws: bool) -> int:
        """Count the images of all map realisations in memory: plain, smoothed beside them, layers of profiles.

        Parameters
        ----------
        keep_draws : bool
            Whether the map keeps its draws.

        Returns
        -------
        int
            Images for each realisation.
        """
        plain = int(keep_draws) if self.fwhm_arcmin is None else 2
        return plain if self.halo_profile is None else max(plain, 1) + _LAYERS


class MapCells:
    """The cells of a map, which are the pixels of a grid in every redshift slice, and the area of each object's cell.

    Parameters
    ----------
    grid : PixelGrid or HealpixGrid
    form : MapForm

    Attributes
    ----------
    shape : tuple of int
        Of an image, or of a cube of slices.
    footprint : Bool[np.ndarray, "pixel"] or None
        Pixels that were observed.
    num_cells : int
        Pixels times slices.
    """

    def __init__(self, grid: SkyPixels, form: MapForm):
        if form.halo_profile is not None and not isinstance(grid, PixelGrid):
            raise MassmapError(
                "halo profiles are drawn on a plane, and the pixels are HEALPix: give a tangent plane (pixel_arcmin), "
                "or map the halos as points"
            )
        self.grid, self.form = grid, form
        self.footprint = None if form.footprint is None else _checked_footprint(form.footprint, grid.shape)
        self.shape = grid.shape if form.redshift_edges is None else (form.num_slices, *grid.shape)
        self.num_cells = form.num_slices * grid.num_pixels

    def check_memory(self, num_draws: int, copies: int) -> None:
        """Refuse a map that does not fit into the machine.

        Parameters
        ----------
        num_draws : int
            Map realisations.
        copies : int
            Of the images of all realisations that are alive at once.
        """
        what, remedy = f"a map of {self.num_cells:,} pixels", "give larger pixels or a smaller field"
        if copies:
            what, remedy = f"{what} with the images of {num_draws:,} draws", f"{remedy}, or fewer draws"
        check_memory(8.0 * self.num_cells * (_IMAGES + copies * num_draws), what, remedy)

    def of(self, catalogue: HaloCatalogue) -> Int[np.ndarray, "halo"]:
        """Find the cell of each object.

        Parameters
        ----------
        catalogue : HaloCatalogue

        Returns
        -------
        Int[np.ndarray, "halo"]
            OUTSIDE, MASKED or BEYOND where an object has none.

        Raises
        ------
        MassmapError
            Positions on the sky and a flat grid, or the other way about.
        """
        pixel = self.pixels_of(catalogue)
        if self.form.redshift_edges is None:
            return pixel
        # Unusable redshifts are NaN, and no object with one is mapped.
        place = self.slices_of(catalogue.redshift)
        return np.where(pixel < 0, pixel, np.where(place >= 0, place * self.grid.num_pixels + pixel, BEYOND))

    def pixels_of(self, catalogue: HaloCatalogue) -> Int[np.ndarray, "halo"]:
        """Find the pixel of each object, whatever its redshift.

        Parameters
        ----------
        catalogue : HaloCatalogue

        Returns
        -------
        Int[np.ndarray, "halo"]
            OUTSIDE or MASKED where an object has none.

        Raises
        ------
        MassmapError
            Positions on the sky and a flat grid, or the other way about.
        """
        if (catalogue.frame == "flat") != (self.grid.projection == "flat"):
            raise MassmapError(
                f"the catalogue's positions are {catalogue.frame} and the grid is {self.grid.projection}: offsets in "
                "arcmin need a flat grid, or a field_centre when they are read"
            )
        pixel = self.grid.index(catalogue.ra, catalogue.dec)
        if self.footprint is not None:
            pixel = np.where((pixel >= 0) & ~self.footprint[pixel], MASKED, pixel)
        return pixel

    def slices_of(self, redshift: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Find the slice of each redshift.

        Parameters
        ----------
        redshift : Float[np.ndarray, "..."]

        Returns
        -------
        Int[np.ndarray, "..."]
            BEYOND where it is in none.
        """
        edges, num_slices = np.array(self.form.redshift_edges), self.form.num_slices
        place = np.searchsorted(edges, redshift, side="right") - 1
        place = np.where(redshift == edges[-1], num_slices - 1, place)
        return np.where((place >= 0) & (place < num_slices), place, BEYOND)

    def areas(self, cells: Int[np.ndarray, "halo"], redshift: Float[np.ndarray, "halo"]) -> Float[np.ndarray, "halo"]:
        """Give the area that each object's mass is divided by, in the unit of the map.

        Parameters
        ----------
        cells : Int[np.ndarray, "halo"]
        redshift : Float[np.ndarray, "halo"]

        Returns
        -------
        Float[np.ndarray, "halo"]
        """
        return object_areas(self.form.unit, self.grid, cells % self.grid.num_pixels, redshift, self.form.cosmology)


def _checked_footprint(footprint, shape) -> Bool[np.ndarray, "pixel"]:
    mask = np.asarray(footprint)
    if mask.shape != tuple(shape) or mask.dtype != bool:
        raise MassmapError(
            f"the footprint is boolean with the grid's shape {tuple(shape)}, and this has shape {mask.shape} and type "
            f"{mask.dtype}: give True for each pixel observed"
        )
    if not mask.any():
        raise MassmapError(f"the footprint holds none of the {mask.size} pixels: there is nothing to map")
    return mask.ravel()
