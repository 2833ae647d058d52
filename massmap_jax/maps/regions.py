"""What the draws of a mass map say: the mass of a region, P(mass > threshold), covariances, signal to noise.

Pixels share the error of the relation, so the error of a sum of pixels is not the root of their summed variances: it
is read off the sum of each map draw. All functions need a map made with `keep_draws=True`.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from massmap_jax.errors import MassmapError
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.pixels import PixelGrid, SkyPixels
from massmap_jax.maps.units import MASS

_RIM = np.linspace(0.0, 2.0 * np.pi, 361)
# Draws in one piece of a comparison: the copy stays small beside the draws themselves.
_ROWS = 64


class Circle(NamedTuple):
    """A centre (ra, dec) in degrees and radius_arcmin; on a flat grid all in arcmin."""

    ra: float
    dec: float
    radius_arcmin: float


class Polygon(NamedTuple):
    """`corners` (ra, dec) in degrees, in order, (corner, 2); sides are great circles. On a flat grid: arcmin, lines."""

    corners: ArrayLike


class RegionMass(eqx.Module):
    """Total catalogued mass of a region, Msun.

    Attributes
    ----------
    mean : sum of the map's mean over the region (no Monte Carlo noise).
    draws : (map draw,) the sum under each map draw. sd, quantile : of these.
    nobj : objects in it. num_pixels : pixels whose centre lies in it.
    mass_definition : of the masses.
    cut : whether the region reaches beyond the map, so that part of it was not counted.
    """

    mean: float
    draws: Float[np.ndarray, "draw"]
    nobj: int
    num_pixels: int
    cut: bool
    mass_definition: str

    @property
    def sd(self) -> float:
        """Standard deviation over the map draws, Msun."""
        return float(self.draws.std(ddof=1))

    @property
    def signal_to_noise(self) -> float:
        """Mean over sd; NaN where the region holds no object."""
        return self.mean / self.sd if self.sd > 0 else np.nan

    def quantile(self, levels: ArrayLike) -> Float[np.ndarray, "..."]:
        """Quantiles of the mass at `levels` in [0, 1], of their shape, Msun."""
        return np.quantile(self.draws, levels)


def region_mask(grid: SkyPixels, region) -> Bool[np.ndarray, "..."]:
    """Pixels of a grid whose centre lies in the region: a `Circle`, a `Polygon`, or a mask (ny, nx) of its own.

    Raises
    ------
    MassmapError : a mask of another shape, a radius or corners that make no region, a region without a pixel.
    """
    if isinstance(region, Circle):
        mask = _in_circle(grid, _checked_circle(region))
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
    """Posterior of the total mass of a region of `mass_map`; regions and errors as in `region_mask`.

    Pixels outside the map's footprint are left out, and `cut` says so. The map has to be one of mass, not of surface
    density, and of one slice (`map_slices`).

    `MassmapError` for another unit than Msun.
    """
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
    """P(mass of a pixel of `mass_map` > threshold), the share of the map draws above it; NaN outside the footprint.

    (ny, nx), or a cube (slice, ny, nx) of a map with slices. The threshold is in the map's unit: Msun, or that of a
    surface density.
    `MassmapError` for a map without draws, or a threshold that is not finite and at least 0.
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
    """Mean over sd of each pixel of `mass_map`, (ny, nx) as its images; NaN where it is empty."""
    sd = np.where(mass_map.sd > 0, mass_map.sd, np.nan)
    return mass_map.mean / sd


def covariance(mass_map: MassMap, pixels: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n n"]:
    """Covariance of chosen pixels of `mass_map`, in its unit squared; `pixels` are (row, column) pairs.

    `MassmapError` for a map without draws or with slices, and for pixels outside it.
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


def _checked_circle(circle: Circle) -> Circle:
    values = np.array(circle, dtype=float)
    if not np.isfinite(values).all() or values[2] <= 0:
        raise MassmapError(f"{circle} is no circle: give a finite centre and a radius above 0 in arcmin")
    return circle


def _in_circle(grid: SkyPixels, circle: Circle):
    first, second = grid.centres()
    if grid.projection == "flat":
        return np.hypot(first - circle.ra, second - circle.dec) <= circle.radius_arcmin
    # haversine: exact for small and large separations
    ra, dec, ra0, dec0 = map(np.radians, (first, second, circle.ra, circle.dec))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(np.minimum(half, 1.0))) <= np.radians(circle.radius_arcmin / 60)


def _corners(grid: PixelGrid, polygon: Polygon) -> np.ndarray:
    """Corners in pixel coordinates, (corner, 2): great circles are straight there."""
    if not isinstance(grid, PixelGrid):
        raise MassmapError("a polygon is drawn in the plane of a PixelGrid: on HEALPix give a Circle or a mask")
    corners = np.asarray(polygon.corners, dtype=float)
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
        places = np.asarray(region.corners, dtype=float).T  # the map is convex: corners inside, all inside
    elif isinstance(region, Circle):
        places = _rim(grid, region)
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
