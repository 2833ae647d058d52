"""The pixels of a mass map: a gnomonic (TAN) patch of the sky, or a flat field in arcmin.

Formulas: Calabretta & Greisen 2002, A&A 395, 1077 ("C&G"). Pixel coordinates here are NumPy's: 0 at the
centre of the first pixel; FITS counts that centre as 1.
"""

import math
from typing import Literal, Protocol

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from massmap_jax.catalogue.positions import unit_vectors
from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.errors import MassmapError
from massmap_jax.memory import check_memory

MAX_PIXELS = 4096 * 4096
MAX_ANGLE_DEG = 60.0  # tan(60 deg) = 1.7: a pixel there already holds 1/8 of the central solid angle
_DEFAULT_DRAWS = 100
_EDGE = 1e-9  # pixels: what rounding may do to an object on the rim of the grid, which is to stay inside
_ARCMIN = math.degrees(1.0) * 60.0


def map_bytes(num_pixels: float, num_draws: int = _DEFAULT_DRAWS) -> float:
    """Estimate the memory of a map run: seven 8-byte images, and all draws in float32 for the quantiles.

    Parameters
    ----------
    num_pixels : float
    num_draws : int

    Returns
    -------
    float
        Bytes.
    """
    return num_pixels * (7 * 8 + 4 * num_draws)


def _coordinates(ra, dec, unit):
    """Two float64 arrays of one shape, masked entries as NaN; Quantities in the unit."""
    ra, dec = in_unit(ra, unit, "ra"), in_unit(dec, unit, "dec")
    ra, dec = (np.ma.filled(np.ma.asarray(value, dtype=np.float64), np.nan) for value in (ra, dec))
    if ra.shape != dec.shape:
        raise MassmapError(f"ra has shape {ra.shape} and dec {dec.shape}; give both for every object")
    return ra, dec


def sky_coordinates(ra, dec):
    """Read positions as float64 arrays of one shape, masked entries as NaN.

    Parameters
    ----------
    ra : array_like, (...,)
        Right ascension [deg].
    dec : array_like, (...,)
        Declination [deg].

    Returns
    -------
    ra, dec : Float[np.ndarray, "..."]
        Degrees, ra in [0, 360]; NaN for both where the two are not a position on the sphere.

    Raises
    ------
    MassmapError
        Shapes that differ.
    """
    ra, dec = _coordinates(ra, dec, "deg")
    good = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    return np.where(good, ra, np.nan) % 360.0, np.where(good, dec, np.nan)


def _gnomonic(ra, dec, centre):
    """Tangent-plane offsets (xi east, eta north) in arcmin and the cosine of the distance from the centre.

    C&G eqs. 5 (native coordinates with phi_p = 180 deg), 12, 13 and 54 put together; NaN from 90 deg on.
    All angles come in degrees: differences are taken there, where they are exact for nearby points, and eta
    is written with them, since sin(dec) cos(dec_0) - cos(dec) sin(dec_0) cos(shift) cancels near the centre.
    """
    sin0, cos0 = math.sin(math.radians(centre[1])), math.cos(math.radians(centre[1]))
    shift, rise = np.radians(ra - centre[0]), np.radians(dec - centre[1])
    sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
    cos_distance = sin_dec * sin0 + cos_dec * cos0 * np.cos(shift)
    front = np.where(cos_distance > 0.0, cos_distance, np.nan)
    xi = cos_dec * np.sin(shift) / front
    eta = (np.sin(rise) + 2.0 * cos_dec * sin0 * np.sin(shift / 2.0) ** 2) / front
    return xi * _ARCMIN, eta * _ARCMIN, cos_distance


def _inverse_gnomonic(xi, eta, centre):
    """RA in [0, 360) and Dec in degrees of tangent-plane offsets in arcmin; C&G eqs. 2, 14, 15 and 55."""
    xi, eta = xi / _ARCMIN, eta / _ARCMIN
    sin0, cos0 = math.sin(math.radians(centre[1])), math.cos(math.radians(centre[1]))
    toward_equinox = cos0 - eta * sin0
    ra = np.mod(centre[0] + np.degrees(np.arctan2(xi, toward_equinox)), 360.0)
    dec = np.degrees(np.arctan2(sin0 + eta * cos0, np.hypot(xi, toward_equinox)))
    return np.where(ra == 360.0, 0.0, ra)[()], dec  # mod(-1e-17, 360) is 360.0


def _mean_direction(ra, dec):
    """(ra, dec) in degrees of the mean unit vector; `fsum` makes it independent of the order of the rows."""
    return _direction(*(math.fsum(component.tolist()) for component in unit_vectors(ra, dec).T))


def _cap_centre(ra, dec):
    """(ra, dec) in degrees whose farthest position is as near as can be.

    Farthest-point steps to the smallest enclosing ball (Badoiu & Clarkson 2003, SODA, p. 801); for positions
    within a hemisphere its centre points to that of the smallest cap. Sorted, so as not to follow the rows.
    """
    points = np.unique(unit_vectors(ra, dec), axis=0)
    centre = points.mean(axis=0)
    for step in range(2, 200):
        farthest = points[np.argmax(np.sum((points - centre) ** 2, axis=1))]
        centre = centre + (farthest - centre) / step
    return _direction(*centre)


def cap_of(ra, dec):
    """Find a small circle on the sky that holds all positions.

    Parameters
    ----------
    ra : array_like, (halo,)
        Right ascension [deg].
    dec : array_like, (halo,)
        Declination [deg].

    Returns
    -------
    centre : tuple of (float, float)
        RA and Dec [deg].
    radius : float
        Its radius [rad] (not deg).
    """
    centre = _cap_centre(ra, dec)
    apart = unit_vectors(ra, dec) - unit_vectors(*centre)
    return centre, float(2 * np.arcsin(np.minimum(np.sqrt((apart**2).sum(axis=-1)).max() / 2, 1.0)))


def _direction(x, y, z):
    return _tidy(math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))


def _tidy(ra, dec):
    """A centre rounded to 1e-10 deg, which survives a FITS header unchanged; at a pole RA is 0, not noise."""
    ra, dec = round(ra % 360.0, 10) % 360.0, round(dec, 10)
    return (0.0, math.copysign(90.0, dec)) if abs(dec) > 90.0 - 1e-9 else (ra, dec)


def _fit_tangent(ra, dec, centre, must_cover):
    """Centre in degrees; half width and half height in arcmin of the box around it that holds them all."""

    def box(candidate):
        xi, eta, cos_distance = _gnomonic(ra, dec, candidate)
        return xi, eta, np.degrees(np.arccos(np.clip(cos_distance, -1.0, 1.0)))

    fixed = centre is not None
    best = centre if fixed else _mean_direction(ra, dec)
    xi, eta, distance = box(best)
    if not fixed and distance.max() > MAX_ANGLE_DEG:
        best = _cap_centre(ra, dec)
        xi, eta, distance = box(best)
    far = distance > MAX_ANGLE_DEG
    if far.any() and not must_cover:
        return best, math.nan, math.nan
    if far.any():
        raise MassmapError(
            f"{far.sum()} of {far.size} positions lie more than {MAX_ANGLE_DEG:.0f} deg from the map centre "
            f"({best[0]:.4f}, {best[1]:.4f}), the farthest at {distance.max():.1f} deg: more than a tangent "
            "plane can show; map a part of the catalogue, or all of it on HEALPix (nside=)"
        )
    half = np.abs(xi).max(), np.abs(eta).max()
    if fixed:
        return best, *half
    # The mean follows the crowd, not the outline: move it to the middle of the box while that helps.
    for _ in range(8):
        middle = ((xi.max() + xi.min()) / 2.0, (eta.max() + eta.min()) / 2.0)
        candidate = _tidy(*(float(v) for v in _inverse_gnomonic(*np.array(middle), best)))
        xi, eta, distance = box(candidate)
        trial = np.abs(xi).max(), np.abs(eta).max()
        if distance.max() > MAX_ANGLE_DEG or sum(trial) >= sum(half) * (1.0 - 1e-6):
            break
        best, half = candidate, trial
    return best, *half


def _round_pixel(pixel):
    """The nearest (in ratio) of 1, 2, 5 times a power of ten."""
    decade = 10.0 ** math.floor(math.log10(pixel))
    nearest = min((1.0, 2.0, 5.0, 10.0), key=lambda step: abs(math.log(pixel / (step * decade))))
    return float(f"{nearest * decade:.3g}")


def _checked_pixel(pixel):
    try:
        pixel = float(in_unit(pixel, "arcmin", "pixel_arcmin"))
    except (TypeError, ValueError):
        raise MassmapError(f"pixel_arcmin must be a number of arcmin, not {pixel!r}") from None
    if not (math.isfinite(pixel) and pixel > 0.0):
        raise MassmapError(f"pixel_arcmin is {pixel:g}; give a finite pixel side above 0, in arcmin")
    return pixel


def _checked_shape(shape):
    try:
        sides = tuple(int(side) for side in shape)
        good = len(sides) == 2 and min(sides) >= 1 and all(a == b for a, b in zip(sides, shape, strict=True))
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise MassmapError(f"shape must be (rows, columns), two whole numbers of at least 1, not {shape!r}")
    return sides


def _checked_centre(centre, projection):
    try:
        unit = "arcmin" if projection == "flat" else "deg"
        first, second = (float(in_unit(value, unit, "centre")) for value in centre)
    except (TypeError, ValueError):
        raise MassmapError(f"centre must be two numbers, not {centre!r}") from None
    if not (math.isfinite(first) and math.isfinite(second)):
        raise MassmapError(f"centre is ({first:g}, {second:g}); give two finite numbers")
    if projection == "flat":
        return first, second
    if abs(second) > 90.0:
        raise MassmapError(f"centre has dec {second:g} deg, outside -90 to 90; give (ra, dec) in degrees")
    return first % 360.0 % 360.0, second  # twice: -1e-17 % 360 is 360.0


def _check_count(num_rows, num_columns, max_pixels):
    count = float(num_rows) * float(num_columns)
    if count > max_pixels:
        raise MassmapError(
            f"a map of {num_rows:.6g} x {num_columns:.6g} pixels has {count:.8g}, more than the limit of "
            f"{max_pixels}, and would need about {map_bytes(count) / 1e9:.3g} GB for {_DEFAULT_DRAWS} draws; "
            "give larger pixels, pixel_arcmin=, or a smaller field"
        )
    what = f"a map of {num_rows:.6g} x {num_columns:.6g} pixels"
    check_memory(map_bytes(count), what, "give a larger pixel_arcmin or a smaller field")


class SkyPixels(Protocol):
    """What a map asks of its pixels: `PixelGrid`, or `healpix.HealpixGrid`.

    Attributes
    ----------
    shape : tuple of int
        Of one image.
    num_pixels : int
        Their number; they are numbered in the images' flat order.
    projection : str
        "flat" where positions are offsets in arcmin.
    pixel_arcmin : float
        Side of a (typical) pixel.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""

    @property
    def num_pixels(self) -> int:
        """Number of pixels."""

    @property
    def projection(self) -> str:
        """Projection, "flat" where positions are offsets in arcmin."""

    @property
    def pixel_arcmin(self) -> float:
        """Side of a (typical) pixel [arcmin]."""

    def index(self, ra: ArrayLike, dec: ArrayLike) -> Int[np.ndarray, "halo"]:
        """Find the flat pixel of each position [deg]; -1 outside, or without a position."""

    def centres(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """Give RA and Dec [deg] of all pixel centres, each of `shape`."""

    def pixel_areas_arcmin2(self, pixel: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Give the solid angle of some pixels, by flat number."""

    def describe(self) -> str:
        """Describe the pixels and their size, for a person."""


class PixelGrid(eqx.Module):
    """Square pixels over a field: a gnomonic (TAN) patch of the sky, or a flat field in arcmin.

    On the sky x grows to the west (RA decreases with x) and y to the north, as FITS viewers show it; on a flat field x
    grows to the right. Arrays are indexed [y, x]. All fields are static: a grid may pass through `jit` and be compared
    with ==.

    Parameters
    ----------
    projection : {"tangent", "flat"}
        Gnomonic, with RA and Dec in degrees (ICRS in file headers); or x and y in arcmin.
    shape : tuple of (int, int)
        Rows and columns, (ny, nx).
    pixel_arcmin : float
        Side of a pixel, at the tangent point.
    centre : tuple of (float, float)
        The point in the middle of the grid: the tangent point, RA and Dec [deg], or x and y [arcmin].

    Raises
    ------
    MassmapError
        An unknown projection, sides that are no whole numbers, a pixel that is not positive, a centre that is no place.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> grid = mm.PixelGrid("tangent", shape=(3, 5), pixel_arcmin=2.0, centre=(150.0, 2.0))
    >>> grid.index([150.0, 150.1, 151.0], [2.0, 2.0, 2.0])
    array([ 7, -1, -1])
    >>> mm.PixelGrid.fit([149.9, 150.4], [2.0, 2.2]).describe()
    '61 x 26 pixels of 0.5 arcmin'
    """

    projection: Literal["tangent", "flat"] = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)
    pixel_arcmin: float = eqx.field(static=True)
    centre: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        projection: Literal["tangent", "flat"],
        shape: tuple[int, int],
        pixel_arcmin: float,
        centre: tuple[float, float],
    ) -> None:
        if projection not in ("tangent", "flat"):
            raise MassmapError(f"projection must be 'tangent' or 'flat', not {projection!r}")
        self.projection = projection
        self.shape = _checked_shape(shape)
        self.pixel_arcmin = _checked_pixel(pixel_arcmin)
        self.centre = _checked_centre(centre, projection)

    @classmethod
    def fit(
        cls,
        ra: ArrayLike,
        dec: ArrayLike,
        *,
        frame: Literal["sky", "flat"] = "sky",
        pixel_arcmin: float | None = None,
        shape: tuple[int, int] | None = None,
        centre: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> "PixelGrid":
        """Make the grid that holds every finite position with half a pixel to spare.

        Parameters
        ----------
        ra : array_like, (halo,)
            Right ascension [deg]; x for frame "flat" [arcmin]. Entries that are NaN, masked, infinite, or beyond a pole
            are left out.
        dec : array_like, (halo,)
            Declination [deg]; y for frame "flat" [arcmin].
        frame : {"sky", "flat"}
            What positions are.
        pixel_arcmin : float, optional
            Side of a pixel. By default 1/64 of the longer side, rounded to 1, 2 or 5 times a power of ten; with
            `shape`, the smallest side that covers all; 1 where all positions coincide.
        shape : tuple of (int, int), optional
            Rows and columns; by default as many as it takes. With both `shape` and `pixel_arcmin` the grid may be
            smaller than the field: `index` then says which objects are outside.
        centre : tuple of (float, float), optional
            Middle of the grid [deg] (arcmin when flat); by default the mean unit vector, moved to the middle of the
            outline.
        max_pixels : int
            Refuse a grid of more.

        Returns
        -------
        PixelGrid
            The grid.

        Raises
        ------
        MassmapError
            No usable position; more than `max_pixels` pixels; positions over 60 deg from the centre; a pixel side that
            is not positive.
        """
        if frame not in ("sky", "flat"):
            raise MassmapError(f"frame must be 'sky' or 'flat', not {frame!r}")
        projection = "tangent" if frame == "sky" else "flat"
        shape = None if shape is None else _checked_shape(shape)
        pixel = None if pixel_arcmin is None else _checked_pixel(pixel_arcmin)
        centre = None if centre is None else _checked_centre(centre, projection)
        if shape is not None:
            _check_count(*shape, max_pixels)
            if pixel is not None and centre is not None:
                return cls(projection, shape, pixel, centre)
        x, y = (v.ravel() for v in (sky_coordinates(ra, dec) if frame == "sky" else _coordinates(ra, dec, "arcmin")))
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.any():
            raise MassmapError(f"none of the {x.size} objects has a usable position, so there is nothing to map")
        x, y = x[finite], y[finite]

        if projection == "flat":
            if centre is None:
                centre = tuple(round(float(v.min() + np.ptp(v) / 2.0), 10) for v in (x, y))
            half_x, half_y = np.abs(x - centre[0]).max(), np.abs(y - centre[1]).max()
        else:
            centre, half_x, half_y = _fit_tangent(x, y, centre, must_cover=shape is None or pixel is None)

        if pixel is None:
            pixel = cls._default_pixel(2.0 * half_x, 2.0 * half_y, shape)
        if shape is None:
            with np.errstate(over="ignore"):
                # the 1e-6 keeps rounding of the centre from adding a pixel to a field of one object
                rows, columns = (max(np.ceil(2.0 * h / pixel - 1e-6), 0.0) + 1.0 for h in (half_y, half_x))
            _check_count(rows, columns, max_pixels)
            shape = (int(rows), int(columns))
        return cls(projection, shape, pixel, centre)

    @staticmethod
    def _default_pixel(width, height, shape):
        longest = max(width, height)
        if longest < 1e-3:  # 0.06 arcsec: one place, for any catalogue of halos
            return 1.0
        if shape is None:
            return _round_pixel(longest / 64.0)
        # n pixels less the half-pixel margins; a single one has to hold the whole width
        pixel = max(side / max(n - 1, 1) for side, n in zip((height, width), shape, strict=True))
        return float(f"{pixel * (1.0 + 1e-12):.13g}")

    @property
    def num_pixels(self) -> int:
        """Pixels of the grid."""
        return self.shape[0] * self.shape[1]

    @property
    def pixel_area_arcmin2(self) -> float:
        """Nominal area of a pixel: true at the tangent point, elsewhere cos^3 of the distance from it as large.

        `pixel_areas_arcmin2` has each pixel's own.
        """
        return self.pixel_arcmin**2

    @property
    def area_arcmin2(self) -> float:
        """Nominal area of the grid."""
        return self.num_pixels * self.pixel_area_arcmin2

    def describe(self) -> str:
        """Describe the pixels and their size, for a person.

        Returns
        -------
        str
            A few words.
        """
        return f"{self.shape[1]} x {self.shape[0]} pixels of {self.pixel_arcmin:g} arcmin"

    def project(self, ra: ArrayLike, dec: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Find the pixel coordinates of positions.

        Parameters
        ----------
        ra : array_like, (halo,)
            Right ascension [deg]; x on a flat grid [arcmin].
        dec : array_like, (halo,)
            Declination [deg]; y on a flat grid [arcmin].

        Returns
        -------
        x, y : Float[np.ndarray, "halo"]
            0 at the centre of the first pixel. NaN where a position is not finite, lies beyond a pole, or is 90 deg or
            more from the tangent point.
        """
        ny, nx = self.shape
        if self.projection == "flat":
            x, y = _coordinates(ra, dec, "arcmin")
            good = np.isfinite(x) & np.isfinite(y)
            x, y = (np.where(good, v, np.nan)[()] for v in (x, y))
            return (
                (x - self.centre[0]) / self.pixel_arcmin + (nx - 1) / 2.0,
                (y - self.centre[1]) / self.pixel_arcmin + (ny - 1) / 2.0,
            )
        xi, eta, _ = _gnomonic(*sky_coordinates(ra, dec), self.centre)
        return (nx - 1) / 2.0 - xi / self.pixel_arcmin, (ny - 1) / 2.0 + eta / self.pixel_arcmin

    def sky_of(self, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Find the positions of pixel coordinates, the inverse of `project`.

        Parameters
        ----------
        x : array_like, (...,)
            0 at the centre of the first pixel.
        y : array_like, (...,)
            The same.

        Returns
        -------
        ra, dec : Float[np.ndarray, "..."]
            Degrees, RA in [0, 360); x and y in arcmin when flat.
        """
        ny, nx = self.shape
        right = (np.asarray(x, dtype=np.float64) - (nx - 1) / 2.0) * self.pixel_arcmin
        up = (np.asarray(y, dtype=np.float64) - (ny - 1) / 2.0) * self.pixel_arcmin
        if self.projection == "flat":
            return right + self.centre[0], up + self.centre[1]
        return _inverse_gnomonic(-right, up, self.centre)

    def index(self, ra: ArrayLike, dec: ArrayLike) -> Int[np.ndarray, "halo"]:
        """Find the flat pixel number, iy * nx + ix, of positions.

        A pixel holds its lower edges; the outermost upper edges belong to the last row and column, with 1e-9 pixel of
        tolerance all round, so that an object on the rim of the grid is inside.

        Parameters
        ----------
        ra : array_like, (halo,)
            Right ascension [deg]; x on a flat grid [arcmin].
        dec : array_like, (halo,)
            Declination [deg]; y on a flat grid [arcmin].

        Returns
        -------
        Int[np.ndarray, "halo"]
            -1 outside the grid or without a position.
        """
        ny, nx = self.shape
        x, y = (np.atleast_1d(v) + 0.5 for v in self.project(ra, dec))
        inside = (x >= -_EDGE) & (x <= nx + _EDGE) & (y >= -_EDGE) & (y <= ny + _EDGE)
        x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        column = np.clip(np.floor(x), 0, nx - 1).astype(np.int64)
        row = np.clip(np.floor(y), 0, ny - 1).astype(np.int64)
        return np.where(inside, row * nx + column, -1)

    def centres(self) -> tuple[Float[np.ndarray, "ny nx"], Float[np.ndarray, "ny nx"]]:
        """Give the position of every pixel centre.

        Returns
        -------
        ra, dec : Float[np.ndarray, "ny nx"]
            Positions [deg]; x and y when flat [arcmin].
        """
        ny, nx = self.shape
        return self.sky_of(*np.meshgrid(np.arange(nx, dtype=float), np.arange(ny, dtype=float)))

    def pixel_areas_arcmin2(self, pixel: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Compute the solid angle on the sphere of some pixels; when flat, all are alike.

        Parameters
        ----------
        pixel : Int[np.ndarray, "n"]
            Flat numbers.

        Returns
        -------
        Float[np.ndarray, "n"]
            Areas [arcmin^2].

        Notes
        ----- The gnomonic plane's element of solid angle is (1 + xi^2 + eta^2)^(-3/2) dxi deta (the Jacobian of C&G eq.
        54), here integrated over the pixel with 3 x 3 Gauss-Legendre nodes: exact to 1e-12 for pixels up to a degree.
        """
        nominal = np.full(np.shape(pixel), self.pixel_area_arcmin2)
        if self.projection == "flat":
            return nominal
        ny, nx = self.shape
        row, column = np.divmod(np.asarray(pixel), nx)
        nodes, weights = np.polynomial.legendre.leggauss(3)
        side = self.pixel_arcmin / _ARCMIN
        xi = (column[:, None] - (nx - 1) / 2.0 + nodes / 2.0) * side
        eta = (row[:, None] - (ny - 1) / 2.0 + nodes / 2.0) * side
        element = (1.0 + xi[:, :, None] ** 2 + eta[:, None, :] ** 2) ** -1.5
        return nominal * np.einsum("nij,i,j->n", element, weights / 2.0, weights / 2.0)

    def axis_offsets(self) -> tuple[Float[np.ndarray, "x_edge"], Float[np.ndarray, "y_edge"]]:
        """Give the pixel edges along x and along y.

        `imshow(image, origin="lower", extent=(x[0], x[-1], y[0], y[-1]))` is then labelled rightly in both projections.

        Returns
        -------
        x : Float[np.ndarray, "x_edge"]
            Offsets from the tangent point to the east, which fall with x [arcmin]; the coordinate when flat.
        y : Float[np.ndarray, "y_edge"]
            Offsets to the north [arcmin]; the coordinate when flat.
        """
        ny, nx = self.shape
        x = (np.arange(nx + 1) - nx / 2.0) * self.pixel_arcmin
        y = (np.arange(ny + 1) - ny / 2.0) * self.pixel_arcmin
        return (x + self.centre[0], y + self.centre[1]) if self.projection == "flat" else (-x, y)

    def wcs_cards(self) -> dict[str, str | float | int]:
        """Make the FITS keywords of the world coordinates: TAN in degrees, or two linear offset axes in arcmin.

        Returns
        -------
        dict of str to object
            Values by keyword.
        """
        ny, nx = self.shape
        pixel = self.pixel_arcmin
        cards: dict[str, str | float | int] = {"WCSAXES": 2, "CRPIX1": (nx + 1) / 2.0, "CRPIX2": (ny + 1) / 2.0}
        if self.projection == "flat":
            cards |= {"CTYPE1": "XOFFSET", "CTYPE2": "YOFFSET", "CUNIT1": "arcmin", "CUNIT2": "arcmin"}
            cards |= {"CDELT1": pixel, "CDELT2": pixel}
        else:
            cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
            # LONPOLE must be said: its default is 180, but 0 at dec 90 exactly (C&G section 2.2)
            cards |= {"CDELT1": -pixel / 60.0, "CDELT2": pixel / 60.0, "LONPOLE": 180.0, "RADESYS": "ICRS"}
        return cards | {"CRVAL1": self.centre[0], "CRVAL2": self.centre[1]}
