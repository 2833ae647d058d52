"""HEALPix pixels for mass maps, the whole sky or a part, and the table that the field keeps them in.

Gorski et al. 2005, ApJ 622, 759. Pixel numbers and positions come from astropy-healpix (extra `healpix`), imported
when called.
"""

from dataclasses import replace
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from massmap_jax.choices import check_healpix_order, check_nside, need_healpix
from massmap_jax.errors import MassmapError
from massmap_jax.maps.images import IMAGES
from massmap_jax.maps.pixels import MAX_ANGLE_DEG, PixelGrid, cap_of, map_bytes, sky_coordinates
from massmap_jax.memory import check_memory

_SKY_ARCMIN2 = 4 * np.pi * np.degrees(60.0) ** 2
_MARGIN = 1e-9  # rad: rounding may not put the farthest object outside the cap


class HealpixGrid(eqx.Module):
    """HEALPix pixels, all of them or some, with RA and Dec in degrees (ICRS; COORDSYS C in files).

    Parameters
    ----------
    nside : int
        A power of two.
    order : {"RING", "NESTED"}
        Of `pixels` and of the images.
    pixels : Int[np.ndarray, "pixel"], optional
        HEALPix numbers of the pixels that there are, kept ascending; by default the whole sky.

    Raises
    ------
    MassmapError
        An nside that is no power of two, an unknown order, numbers that no pixel has or that come twice.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> sky = mm.HealpixGrid(nside=4)
    >>> sky.num_pixels, sky.index([0.0, 180.0], [0.0, 90.0])
    (192, array([72,  2]))
    >>> part = mm.HealpixGrid.fit([10.0, 14.0], [0.0, 2.0], nside=64)
    >>> part.num_pixels < 30, bool((part.index([10.0, 14.0], [0.0, 2.0]) >= 0).all())
    (True, True)
    """

    nside: int = eqx.field(static=True)
    order: Literal["RING", "NESTED"] = eqx.field(static=True)
    pixels: np.ndarray | None

    def __init__(self, nside: int, order: Literal["RING", "NESTED"] = "RING", pixels: ArrayLike | None = None) -> None:
        self.nside = check_nside(nside)
        self.order = check_healpix_order(order)
        self.pixels = None if pixels is None else _checked_pixels(pixels, self.nside)

    @classmethod
    def fit(cls, ra: ArrayLike, dec: ArrayLike, nside: int, order: Literal["RING", "NESTED"] = "RING") -> "HealpixGrid":
        """Take all pixels in the smallest circle on the sky that holds every position, empty ones among them.

        Parameters
        ----------
        ra : array_like, (halo,)
            Right ascension [deg]; entries without a position are left out.
        dec : array_like, (halo,)
            Declination [deg].
        nside : int
            A power of two.
        order : {"RING", "NESTED"}
            Of the pixels' numbers.

        Returns
        -------
        HealpixGrid
            The grid.

        Raises
        ------
        MassmapError
            No usable position, an nside that is no power of two, more pixels than memory.
        """
        nside, order = check_nside(nside), check_healpix_order(order)
        lon, lat = (v.ravel() for v in sky_coordinates(ra, dec))
        finite = np.isfinite(lon) & np.isfinite(lat)
        if not finite.any():
            raise MassmapError(f"none of the {lon.size} objects has a usable position, so there is nothing to map")
        centre, radius = cap_of(lon[finite], lat[finite])
        number = 12 * nside**2 * (1 - np.cos(min(radius + 2 / nside, np.pi))) / 2
        _check_room(number, nside)
        healpix, units = _healpix(nside, order), _units()
        inside = healpix.cone_search_lonlat(*(c * units.deg for c in centre), (radius + _MARGIN) * units.rad)
        own = healpix.lonlat_to_healpix(lon[finite] * units.deg, lat[finite] * units.deg)
        pixels = np.union1d(inside, own)
        return cls(nside, order, None if pixels.size == 12 * nside**2 else pixels)

    projection = "healpix"

    @property
    def num_pixels(self) -> int:
        """Number of pixels of the grid."""
        return 12 * self.nside**2 if self.pixels is None else self.pixels.size

    @property
    def shape(self) -> tuple[int]:
        """Shape of an image, (pixel,)."""
        return (self.num_pixels,)

    def describe(self) -> str:
        """Describe the pixels and their size, for a person.

        Returns
        -------
        str
            A few words.
        """
        kind = f"nside {self.nside}, {self.order}, {self.pixel_arcmin:.3g} arcmin"
        return f"{self.num_pixels:,} HEALPix pixels ({kind})"

    def on_a_plane(self) -> bool:
        """Tell whether a tangent plane can show all pixels: within 60 degrees of their middle.

        Returns
        -------
        bool
            False for the whole sky.
        """
        return self.pixels is not None and cap_of(*self.centres())[1] < np.radians(MAX_ANGLE_DEG)

    @property
    def pixel_arcmin(self) -> float:
        """Root of the pixels' area."""
        return float(np.sqrt(_SKY_ARCMIN2 / (12 * self.nside**2)))

    def index(self, ra: ArrayLike, dec: ArrayLike) -> Int[np.ndarray, "halo"]:
        """Find the place in `pixels` of positions; on the whole sky it is the HEALPix number.

        Parameters
        ----------
        ra : array_like, (halo,)
            Right ascension [deg].
        dec : array_like, (halo,)
            Declination [deg].

        Returns
        -------
        Int[np.ndarray, "halo"]
            -1 outside, or without a position.
        """
        ra, dec = (np.atleast_1d(v) for v in sky_coordinates(ra, dec))
        good = np.isfinite(ra) & np.isfinite(dec)
        units = _units()
        found = np.full(ra.shape, -1, dtype=np.int64)
        number = _healpix(self.nside, self.order).lonlat_to_healpix(ra[good] * units.deg, dec[good] * units.deg)
        if self.pixels is not None:
            place = np.minimum(np.searchsorted(self.pixels, number), self.pixels.size - 1)
            number = np.where(self.pixels[place] == number, place, -1)
        found[good] = number
        return found

    @property
    def numbers(self) -> Int[np.ndarray, "pixel"]:
        """HEALPix number of each pixel."""
        return np.arange(self.num_pixels) if self.pixels is None else self.pixels

    def centres(self) -> tuple[Float[np.ndarray, "pixel"], Float[np.ndarray, "pixel"]]:
        """Give the position of every pixel centre.

        Returns
        -------
        ra, dec : Float[np.ndarray, "pixel"]
            Positions [deg].
        """
        ra, dec = _healpix(self.nside, self.order).healpix_to_lonlat(self.numbers)
        return ra.to_value("deg"), dec.to_value("deg")

    def pixel_areas_arcmin2(self, pixel: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Give the solid angle of some pixels: all have the same.

        Parameters
        ----------
        pixel : Int[np.ndarray, "n"]
            Places in `pixels`.

        Returns
        -------
        Float[np.ndarray, "n"]
            Areas [arcmin^2].
        """
        return np.full(np.shape(pixel), _SKY_ARCMIN2 / (12 * self.nside**2))


def _checked_pixels(pixels, nside) -> np.ndarray:
    found = np.asarray(pixels)
    if found.ndim != 1 or found.size == 0 or found.dtype.kind not in "iu":
        raise MassmapError(
            f"pixels are HEALPix numbers, one array of whole numbers, not shape {found.shape} of type {found.dtype}"
        )
    outside = (found < 0) | (found >= 12 * nside**2)
    if outside.any():
        raise MassmapError(
            f"{outside.sum()} pixels are none of nside {nside}, the first {found[np.argmax(outside)]}: numbers go from "
            f"0 to {12 * nside**2 - 1}"
        )
    found = np.sort(found.astype(np.int64))
    twice = found[1:] == found[:-1]
    if twice.any():
        raise MassmapError(f"{twice.sum()} pixels are given twice, the first {found[np.argmax(twice)]}: give each once")
    return found


def _check_room(number: float, nside: int) -> None:
    what = f"a HEALPix map of about {number:,.0f} pixels (nside {nside})"
    check_memory(map_bytes(number), what, "give a smaller nside, or a smaller field")


def _healpix(nside, order):
    need_healpix()
    from astropy.coordinates import ICRS
    from astropy_healpix import HEALPix

    return HEALPix(nside=nside, order=order.lower(), frame=ICRS())


def _units():
    from astropy import units

    return units


def plane_of(mass_map, pixel_arcmin: float | None = None) -> PixelGrid:
    """Choose a tangent plane on which to show a HEALPix map: its objects, in all redshift slices, and a rim.

    The pixels of a map fill a circle on the sky, of which a field in the form of a strip takes up little.

    Parameters
    ----------
    mass_map : MassMap
        On a `HealpixGrid`.
    pixel_arcmin : float, optional
        Of the plane; by default a quarter of the HEALPix pixel's side, or coarser where the field is wide.

    Returns
    -------
    PixelGrid

    Raises
    ------
    MassmapError
        Pixels over more than 60 degrees from the middle: no plane shows them.
    """
    grid = mass_map.grid
    if pixel_arcmin is None:
        pixel_arcmin = grid.pixel_arcmin * max(0.25, np.sqrt(grid.num_pixels) / 1000)
    ra, dec = grid.centres()
    whole = PixelGrid.fit(ra, dec, pixel_arcmin=pixel_arcmin)
    filled = np.reshape(mass_map.nobj, (-1, grid.num_pixels)).sum(axis=0) > 0
    if not filled.any():
        return whole
    held = PixelGrid.fit(ra[filled], dec[filled], pixel_arcmin=pixel_arcmin)
    rim = 2 * int(np.ceil(max(grid.pixel_arcmin, mass_map.fwhm_arcmin or 0.0) / pixel_arcmin))
    shape = min(held.shape[0] + rim, whole.shape[0]), min(held.shape[1] + rim, whole.shape[1])
    return whole if shape == whole.shape else PixelGrid("tangent", shape, pixel_arcmin, held.centre)


def seen_on(mass_map, plane):
    """Show a HEALPix map on another grid: each of its pixels shows the HEALPix pixel that its centre lies in.

    Nothing is divided, so values stay those of whole HEALPix pixels; what lies outside is not in the footprint.

    Parameters
    ----------
    mass_map : MassMap
        On a `HealpixGrid`.
    plane : PixelGrid or MollweidePlane
        Anything with a `shape` and the `centres` of its pixels.

    Returns
    -------
    MassMap
        Without draws.
    """
    grid = mass_map.grid
    place = grid.index(*(angle.ravel() for angle in plane.centres())).reshape(plane.shape)
    inside = (place >= 0) if mass_map.footprint is None else (place >= 0) & mass_map.footprint[place]

    def seen(name):
        values = np.asarray(getattr(mass_map, name), dtype=np.float64)[..., place]
        return np.where(inside, values, 0.0 if name == "nobj" else np.nan)

    images = {name: seen(name) for name in IMAGES}
    return replace(mass_map, grid=plane, draws=None, form=replace(mass_map.form, footprint=inside), **images)
