"""What the draws of a mass map say: the mass of a region, P(mass > threshold), covariances, signal to noise.

Pixels share the error of the relation, so the error of a sum of pixels is not the root of their summed variances: it
is read off the sum of each map draw. All functions need a map made with `keep_draws=True`.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.errors import MassmapError
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.pixels import PixelGrid, SkyPixels
from massmap_jax.maps.units import MASS

_RIM = np.linspace(0.0, 2.0 * np.pi, 361)
# Draws in one piece of a comparison: the copy stays small beside the draws themselves.
_ROWS = 64


class Circle(NamedTuple):
    """A circle on the sky; on a flat grid in the plane.

    Parameters
    ----------
    ra : float
        Centre [deg]; x on a flat grid [arcmin].
    dec : float
        Centre [deg]; y on a flat grid [arcmin].
    radius_arcmin : float
        Radius.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> from massmap_jax.maps.regions import region_mask
    >>> grid = mm.PixelGrid("tangent", (11, 11), pixel_arcmin=1.0, centre=(150.0, 2.0))
    >>> int(region_mask(grid, mm.Circle(150.0, 2.0, radius_arcmin=1.5)).sum())
    9
    """

    ra: float
    dec: float
    radius_arcmin: float


class Polygon(NamedTuple):
    """A polygon on the sky, whose sides are great circles; on a flat grid in the plane.

    Parameters
    ----------
    corners : array_like, (corner, 2)
        RA and Dec of the corners, in order [deg]; x and y on a flat grid [arcmin].
    """

    corners: ArrayLike


class RegionMass(eqx.Module):
    """Total catalogued mass of a region.

    Attributes
    ----------
    mean : float
        Sum of the map's mean over the region [Msun]; free of Monte Carlo noise.
    draws : Float[np.ndarray, "draw"]
        The sum under each map draw [Msun].
    nobj : int
        Objects in it.
    num_pixels : int or None
        Pixels whose centre lies in it; None where the objects themselves were added up (`mass_in_circle`).
    cut : bool or None
        Whether the region reaches beyond the map, so that part of it was not counted; None without a map.
    mass_definition : str
        Of the masses.
    n_without_mass : int or None
        Objects in it that have no mass, and are not counted; None where a map was added up, which does not know.
    """

    mean: float
    draws: Float[np.ndarray, "draw"]
    nobj: int
    num_pixels: int | None
    cut: bool | None
    mass_definition: str
    n_without_mass: int | None = None

    @property
    def sd(self) -> float:
        """Standard deviation over the map draws [Msun]."""
        return float(self.draws.std(ddof=1))

    @property
    def signal_to_noise(self) -> float:
        """Mean over sd; NaN where the region holds no object."""
        return self.mean / self.sd if self.sd > 0 else np.nan

    def quantile(self, levels: ArrayLike) -> Float[np.ndarray, "..."]:
        """Compute quantiles of the mass.

        Parameters
        ----------
        levels : array_like, (...,)
            In [0, 1].

        Returns
        -------
        Float[np.ndarray, "..."]
            Quantiles [Msun], in the shape of `levels`.
        """
        return np.quantile(self.draws, levels)


def region_mask(grid: SkyPixels, region) -> Bool[np.ndarray, "..."]:
    """Find the pixels of a grid whose centre lies in a region.

    Parameters
    ----------
    grid : PixelGrid or HealpixGrid
        The pixels.
    region : Circle or Polygon or Bool[np.ndarray, "ny nx"]
        The region; a mask is checked and given back.

    Returns
    -------
    Bool[np.ndarray, "ny nx"]
        True for each pixel in the region; (pixel,) on HEALPix.

    Raises
    ------
    MassmapError
        A mask of another shape, a radius or corners that make no region, a region without a pixel.
    """
    if isinstance(region, Circle):
        is_flat = grid.projection == "flat"
        mask = in_circle(*grid.centres(), checked_circle(region, is_flat=is_flat), is_flat=is_flat)
    elif isinstance(region, Polygon):
        mask = _in_polygon(grid, _corners(grid, region))
    else:
        mask = np.asarray(region)
        if mask.shape != grid.shape or mask.dtype != bool:
            raise MassmapError(
                f"a region's mask is boolean with the map's shape {grid.shape}, and this has shape {mask.shape} and "
                f"type {mask.dtype}: give a Circle, a Polygon or such a mask"
            )
    if not mask.any():
        where = f"whose centre is {grid.centre} with" if isinstance(grid, PixelGrid) else "with"
        raise MassmapError(
            f"the region holds no pixel centre of the map, {where} {grid.shape} pixels of {grid.pixel_arcmin:g} "
            "arcmin: it lies outside, or is smaller than a pixel"
        )
    return mask


def region_mass(mass_map: MassMap, region) -> RegionMass:
    """Compute the posterior of the total mass of a region.

    Parameters
    ----------
    mass_map : MassMap
        Of mass, not of surface density, without redshift slices, and with draws. Pixels outside its footprint are left
        out, and `cut` says so.
    region : Circle or Polygon or Bool[np.ndarray, "ny nx"]
        The region.

    Returns
    -------
    RegionMass
        Mean, draws and counts.

    Raises
    ------
    MassmapError
        Another unit than Msun, a map with slices or without draws; and as `region_mask`.

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
    >>> found = mm.region_mass(field, mm.Circle(150.0, 2.0, radius_arcmin=3.0))
    >>> found.nobj, found.cut, bool(1e14 < found.mean < 3e14)
    (1, True, True)
    """
    check_kinds("region_mass", mass_map=mass_map)
    if mass_map.unit != MASS:
        raise MassmapError(f"this map is in {mass_map.unit}, and a region adds up masses: make one with unit='Msun'")
    _check_one_slice(mass_map)
    mask = region_mask(mass_map.grid, region)
    cut = _reaches_beyond(mass_map.grid, region)
    if mass_map.footprint is not None:
        cut = cut or bool((mask & ~mass_map.footprint).any())
        mask = mask & mass_map.footprint
    return RegionMass(
        mean=float(mass_map.mean[mask].sum()),
        draws=_draws(mass_map)[:, mask].sum(axis=1, dtype=np.float64),
        nobj=int(mass_map.nobj[mask].sum()),
        num_pixels=int(mask.sum()),
        cut=cut,
        mass_definition=mass_map.mass_definition,
    )


def exceedance(mass_map: MassMap, threshold: float) -> Float[np.ndarray, "..."]:
    """Compute P(mass of a pixel > threshold), the share of the map draws above it.

    Parameters
    ----------
    mass_map : MassMap
        With draws.
    threshold : float
        In the map's unit: Msun, or that of a surface density.

    Returns
    -------
    Float[np.ndarray, "..."]
        Of the shape of the map's images; NaN outside the footprint.

    Raises
    ------
    MassmapError
        A map without draws, or a threshold that is not finite and at least 0.
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise MassmapError(f"the threshold is {threshold:g} {mass_map.unit}: give a finite mass of at least 0")
    draws = _draws(mass_map)
    above = np.zeros(draws.shape[1:])
    for start in range(0, draws.shape[0], _ROWS):
        above += (draws[start : start + _ROWS] > threshold).sum(axis=0)
    return (
        above / draws.shape[0]
        if mass_map.footprint is None
        else np.where(mass_map.footprint, above / draws.shape[0], np.nan)
    )


def signal_to_noise(mass_map: MassMap) -> Float[np.ndarray, "..."]:
    """Compute mean over standard deviation of each pixel.

    Parameters
    ----------
    mass_map : MassMap
        The map.

    Returns
    -------
    Float[np.ndarray, "..."]
        Of the shape of the map's images; NaN where a pixel is empty.
    """
    sd = np.where(mass_map.sd > 0, mass_map.sd, np.nan)
    return mass_map.mean / sd


def covariance(mass_map: MassMap, pixels: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n n"]:
    """Compute the covariance of chosen pixels over the map draws.

    Parameters
    ----------
    mass_map : MassMap
        With draws, without redshift slices.
    pixels : Int[np.ndarray, "n 2"]
        Row and column of each.

    Returns
    -------
    Float[np.ndarray, "n n"]
        In the map's unit squared.

    Raises
    ------
    MassmapError
        A map without draws or with slices, and pixels outside it.
    """
    _check_one_slice(mass_map)
    pixels = np.asarray(pixels)
    ny, nx = mass_map.grid.shape
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.shape[0] < 1 or pixels.dtype.kind not in "iu":
        raise MassmapError(f"pixels are (row, column) pairs of whole numbers, not shape {pixels.shape}, {pixels.dtype}")
    outside = ((pixels < 0) | (pixels >= (ny, nx))).any(axis=1)
    if outside.any():
        row, column = pixels[np.argmax(outside)]
        raise MassmapError(f"{outside.sum()} pixels lie outside the {ny} x {nx} map, the first at ({row}, {column})")
    return np.atleast_2d(np.cov(_draws(mass_map)[:, pixels[:, 0], pixels[:, 1]], rowvar=False))


def _draws(mass_map: MassMap) -> np.ndarray:
    if mass_map.draws is None:
        raise MassmapError("this map holds no draws: make it with mass_map(..., keep_draws=True)")
    return mass_map.draws


def _check_one_slice(mass_map: MassMap) -> None:
    if mass_map.slice_draws is not None:
        raise MassmapError(
            f"this map has {len(mass_map.slice_mass)} redshift slices: take one with map_slices.one_slice, or all with "
            "sum_of_slices"
        )


def checked_circle(circle: Circle, *, is_flat: bool) -> Circle:
    """Give the circle as plain numbers; refuse one without a finite centre, on the sky too, and a positive radius."""
    units = ("arcmin" if is_flat else "deg", "arcmin" if is_flat else "deg", "arcmin")
    values = np.array([in_unit(v, unit, "the circle") for v, unit in zip(circle, units, strict=True)], dtype=float)
    if not np.isfinite(values).all() or values[2] <= 0:
        raise MassmapError(f"{circle} is no circle: give a finite centre and a radius above 0 in arcmin")
    if not is_flat and abs(values[1]) > 90:
        raise MassmapError(f"{circle} is no circle on the sky: give RA and Dec of its centre in degrees")
    if not is_flat and values[2] > 60 * 180:
        raise MassmapError(f"{circle} is no circle on the sky: its radius is in arcmin, and 10800 are the whole sky")
    return Circle(*values.tolist())


def in_circle(first, second, circle: Circle, *, is_flat: bool) -> Bool[np.ndarray, "..."]:
    """Tell which places, RA and Dec [deg] or x and y [arcmin], lie in a circle."""
    if is_flat:
        return np.hypot(first - circle.ra, second - circle.dec) <= circle.radius_arcmin
    # haversine: exact for small and large separations
    ra, dec, ra0, dec0 = map(np.radians, (first, second, circle.ra, circle.dec))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(np.minimum(half, 1.0))) <= np.radians(circle.radius_arcmin / 60)


def _corners(grid: PixelGrid, polygon: Polygon) -> np.ndarray:
    """Corners in pixel coordinates, (corner, 2): great circles are straight there."""
    if not isinstance(grid, PixelGrid):
        raise MassmapError("a polygon is drawn in the plane of a PixelGrid: on HEALPix give a Circle or a mask")
    corners = plain_numbers(polygon.corners, "the corners of the polygon", "deg")
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.shape[0] < 3:
        raise MassmapError(f"a polygon has at least 3 corners (ra, dec), and these have shape {corners.shape}")
    places = np.stack(grid.project(corners[:, 0], corners[:, 1]), axis=1)
    bad = ~np.isfinite(places).all(axis=1)
    if bad.any():
        raise MassmapError(
            f"{bad.sum()} corners of the polygon are no positions within 90 deg of the map's centre, the first "
            f"{tuple(corners[np.argmax(bad)])}"
        )
    return places


def _in_polygon(grid: PixelGrid, corners: np.ndarray):
    from matplotlib.path import Path

    places = np.stack(np.indices(grid.shape)[::-1], axis=-1).reshape(-1, 2)
    return Path(corners).contains_points(places).reshape(grid.shape)


def _reaches_beyond(grid: SkyPixels, region) -> bool:
    if isinstance(region, Polygon):
        places = plain_numbers(
            region.corners, "the corners of the polygon", "deg"
        ).T  # the map is convex: corners inside, all inside
    elif isinstance(region, Circle):
        places = _rim(grid, checked_circle(region, is_flat=grid.projection == "flat"))
    else:
        return False
    return bool((grid.index(*places) < 0).any())


def _rim(grid: SkyPixels, circle: Circle):
    """Points of a circle's rim."""
    if grid.projection == "flat":
        return circle.ra + circle.radius_arcmin * np.cos(_RIM), circle.dec + circle.radius_arcmin * np.sin(_RIM)
    radius, dec0 = np.radians(circle.radius_arcmin / 60), np.radians(circle.dec)
    sin_dec = np.sin(dec0) * np.cos(radius) + np.cos(dec0) * np.sin(radius) * np.cos(_RIM)
    east = np.sin(_RIM) * np.sin(radius) * np.cos(dec0)
    shift = np.arctan2(east, np.cos(radius) - np.sin(dec0) * sin_dec)
    return circle.ra + np.degrees(shift), np.degrees(np.arcsin(np.clip(sin_dec, -1, 1)))
