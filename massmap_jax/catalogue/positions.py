"""Sky positions in degrees, hours, radians or offsets from a field centre, converted to degrees and checked."""

import numpy as np

from massmap_jax.catalogue.columns import is_negative_sentinel, is_positive_sentinel, rows_text
from massmap_jax.errors import MassmapError

# Of so many objects or more, a field so many times higher than wide: one of right ascensions in hours is 15 times.
_SEVERAL, _NARROW = 5, 7.0
# Extent of a field [deg] that is one of some degrees if it is in radians.
_TINY = 0.1
POSITION_UNITS = ("deg", "hourangle", "arcmin", "rad")


def check_positions(ra, dec, position_unit: str = "deg", field_centre=None):
    """Convert positions to degrees (or flat arcmin), and tell which rows have none.

    Parameters
    ----------
    ra, dec : Float[np.ndarray, "row"]
        In `position_unit` (deg by default); for "arcmin", offsets x (east) and y (north) on the tangent plane of the
        field centre.
    position_unit : {"deg", "hourangle", "arcmin", "rad"}
        Unit of the positions; RA in hours and Dec in degrees for "hourangle".
    field_centre : tuple of (float, float), optional
        RA and Dec [deg] of the origin of offsets in arcmin.

    Returns
    -------
    ra, dec : Float[np.ndarray, "row"]
        Degrees (deg) with ra in [0, 360), or arcmin in the flat frame; NaN where bad.
    bad : Bool[np.ndarray, "row"]
        True where there is no possible position.
    frame : str
        "sky", or "flat" for offsets without a centre.
    notes : tuple of str
        A hint where ra may be in hours or radians.

    Raises
    ------
    MassmapError
        For declinations most of which are impossible, or a unit that cannot be right.
    """
    if position_unit not in POSITION_UNITS:
        raise MassmapError(f"position_unit is {position_unit!r}: it must be one of {', '.join(POSITION_UNITS)}")
    if field_centre is not None and position_unit != "arcmin":
        raise MassmapError(
            f"field_centre is given but position_unit is {position_unit!r}: a centre belongs to offsets in"
            " arcmin (position_unit='arcmin'), so drop one or change the other"
        )
    finite = np.isfinite(ra) & np.isfinite(dec)
    if position_unit == "arcmin":
        if field_centre is not None:
            ra, dec = sky_from_offsets(ra, dec, field_centre)
        frame, notes, bad = "sky" if field_centre is not None else "flat", (), ~finite
    else:
        if position_unit == "rad":
            ra, dec = _degrees_from_radians(ra, dec)
        _refuse_impossible(ra, dec, finite, position_unit)
        bad = ~finite | (np.abs(dec) > 90.0)
        # A placeholder such as 9999 would wrap onto the sky like any other number.
        bad |= (np.abs(ra) > 360.0) & (is_negative_sentinel(ra) | is_positive_sentinel(ra))
        notes = _unit_notes(ra[~bad], dec[~bad]) if position_unit == "deg" else ()
        ra = ra * 15.0 if position_unit == "hourangle" else ra
        frame = "sky"
    if frame == "sky":
        ra = np.mod(ra, 360.0, where=finite, out=np.full_like(ra, np.nan))
        ra[ra == 360.0] = 0.0  # np.mod of a tiny negative angle rounds up to 360
    return np.where(bad, np.nan, ra), np.where(bad, np.nan, dec), bad, frame, notes


def sky_from_offsets(x_arcmin, y_arcmin, field_centre) -> tuple[np.ndarray, np.ndarray]:
    """Convert tangent-plane offsets from a field centre to RA and Dec.

    Parameters
    ----------
    x_arcmin, y_arcmin : array_like, (n,)
        Offsets to the east and north [arcmin].
    field_centre : tuple of (float, float)
        RA and Dec [deg] of the origin.

    Returns
    -------
    ra, dec : Float[np.ndarray, "n"]
        Position [deg]; ra is not yet wrapped to [0, 360).

    Raises
    ------
    MassmapError
        For a centre that is not a position.

    Notes
    -----
    The inverse gnomonic (TAN) projection: Calabretta & Greisen 2002, section 5.1.3.
    """
    try:
        ra0, dec0 = (float(angle) for angle in field_centre)
    except (TypeError, ValueError):
        raise MassmapError(f"field_centre is {field_centre!r}: it must be two numbers, RA and Dec in degrees") from None
    if not (np.isfinite(ra0) and abs(dec0) <= 90.0):
        raise MassmapError(f"field_centre is ({ra0:g}, {dec0:g}): RA must be finite and Dec within -90 to 90 degrees")
    xi, eta = (np.deg2rad(np.asarray(angle, np.float64) / 60.0) for angle in (x_arcmin, y_arcmin))
    sin0, cos0 = np.sin(np.deg2rad(dec0)), np.cos(np.deg2rad(dec0))
    north = cos0 - eta * sin0
    ra = ra0 + np.rad2deg(np.arctan2(xi, north))
    dec = np.rad2deg(np.arctan2(sin0 + eta * cos0, np.hypot(xi, north)))
    return ra, dec


def unit_vectors(ra, dec) -> np.ndarray:
    """Give the directions of positions on the sky, whose distances are the chords between them.

    Parameters
    ----------
    ra, dec : Float[np.ndarray, "*row"]
        Positions [deg].

    Returns
    -------
    Float[np.ndarray, "*row 3"]
        Vectors of length 1.
    """
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _degrees_from_radians(ra, dec):
    """Convert radians to degrees, but for placeholders such as -99, which are known by their value."""

    def degrees(angle):
        placeholder = (is_negative_sentinel(angle) & (angle < -1.0)) | is_positive_sentinel(angle)
        return np.where(placeholder, angle, np.rad2deg(angle))

    return degrees(ra), degrees(dec)


def _refuse_impossible(ra, dec, finite, position_unit):
    """Refuse positions many of which are impossible: swapped columns, another unit, or polar distances."""
    outside = finite & (np.abs(dec) > 90.0)
    # Single ones are placeholders and slips; a tenth of angles that are no placeholders is another coordinate.
    angles = outside & ~is_negative_sentinel(dec) & ~is_positive_sentinel(dec)
    if 2 * outside.sum() > finite.sum() or (angles.sum() > 2 and 10 * angles.sum() > finite.sum()):
        causes = "ra and dec look swapped, they are offsets in arcmin (position_unit='arcmin'), or others than angles"
        if position_unit == "rad":
            causes = "they look like degrees (position_unit='deg')"
        raise MassmapError(f"dec is outside -90 to 90 degrees in {rows_text(outside, dec)}, of {dec.size}: {causes}")
    if position_unit == "hourangle" and np.any(beyond := finite & (np.abs(ra) > 24.0) & ~outside):
        raise MassmapError(
            f"ra is beyond 24 hours in {rows_text(beyond, ra)}: it looks like degrees (position_unit='deg')"
        )


def _unit_notes(ra, dec) -> tuple[str, ...]:
    """Give a note where degrees look like hours or radians, or go round more than once."""
    if np.any(around := np.abs(ra) > 360.0):
        return (
            f"ra is beyond 360 degrees in {rows_text(around, ra)}: it was wrapped to 0 to 360; if it is no angle in"
            " degrees, give position_unit= or choose ra= and dec=",
        )
    if ra.size > 1 and ra.min() >= 0.0 and ra.max() <= 24.0 and np.ptp(dec) > 30.0:
        return (
            f"every ra lies between {ra.min():.3g} and {ra.max():.3g} while dec spans {np.ptp(dec):.3g}"
            " degrees: if ra is in hours, give position_unit='hourangle'",
        )
    # A field that is as wide as it is high looks 15 times too narrow.
    if ra.size >= _SEVERAL and ra.min() >= 0.0 and ra.max() <= 24.0:
        width = np.std(ra) * np.cos(np.radians(np.median(dec)))
        if 0 < width < np.std(dec) / _NARROW and np.ptp(dec) > 0.1:
            return (
                f"every ra lies between {ra.min():.4g} and {ra.max():.4g}, and the field is"
                f" {np.std(dec) / width:.2g} times higher than wide: if ra is in hours, give position_unit='hourangle'",
            )
    # Degrees of a field so small that its objects lie next to each other, and radians of one of ordinary size.
    if (
        ra.size >= _SEVERAL
        and np.abs(ra).max() <= 2 * np.pi
        and np.abs(dec).max() <= np.pi / 2
        and 0 < max(np.ptp(ra) * np.cos(np.median(dec)), np.ptp(dec)) < _TINY
    ):
        return (
            f"all {ra.size} positions lie within {60 * max(np.ptp(ra), np.ptp(dec)):.2g} arcmin of ra"
            f" {np.median(ra):.3g}, dec {np.median(dec):.3g}: if they are in radians, give position_unit='rad'",
        )
    # A square of a few degrees at the origin of the coordinates is rare, and the sky in radians looks just like it.
    if ra.size > 2 and np.abs(ra).max() <= 2 * np.pi and np.abs(dec).max() <= np.pi / 2 and np.ptp(ra) > 0.5:
        return (
            f"ra lies between {ra.min():.3g} and {ra.max():.3g} and dec between {dec.min():.3g} and {dec.max():.3g}:"
            " if they are in radians, give position_unit='rad'",
        )
    return ()
