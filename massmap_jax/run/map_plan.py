"""Choice of the pixels of a run's map before anything is computed, so that a failing map never costs the masses."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.positions import unit_vectors
from massmap_jax.errors import MassmapError
from massmap_jax.maps.mass_map import check_map
from massmap_jax.maps.pixels import MAX_ANGLE_DEG, PixelGrid, SkyPixels, cap_of
from massmap_jax.maps.repeats import repeats
from massmap_jax.run.options import JobOptions

if TYPE_CHECKING:
    from massmap_jax.maps.healpix import HealpixGrid

# Extent of a field [deg] up to which a tangent plane is used; at its rim, pixels are 4 % smaller than in the middle.
WIDE_DEG = 20.0
# Radius [deg] of a field beyond which its map covers the whole sky, since more than half of the sky is needed.
_WHOLE_SKY_DEG = 90.0
# Of so many objects or more: at most this part, so many times as far from the middle as the others, and so far [deg].
_ENOUGH, _FEW, _TIMES, _LEAST_DEG = 10, 0.05, 5.0, 2.0
# Number of pixels of a HEALPix map that the run chooses: four for each object, within these bounds.
_PER_OBJECT, _FEWEST, _MOST = 4, 12_288, 196_608
# Positions are rounded to this [deg] to find the extent of a field, which leaves few places of a large catalogue.
_COARSE_DEG = 0.1


def plan_map(
    catalogue: HaloCatalogue, usable: Bool[np.ndarray, "halo"], options: JobOptions
) -> tuple[SkyPixels | None, list[str]]:
    """Choose the pixels of the map, and refuse a map that could not be made after the masses.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    usable : Bool[np.ndarray, "halo"]
        Rows with a mass.
    options : JobOptions
        The options of the run.

    Returns
    -------
    pixels : PixelGrid or HealpixGrid or None
        None if no map is asked for, or none can be made of these positions.
    notes : list of str
        The choice where the user made none, why there is no map, and which objects the map counts twice.

    Raises
    ------
    MassmapError
        If the map that is asked for cannot be made.
    """
    if not options.make_map or not usable.any():
        return None, []
    if catalogue.ra is None:
        return None, ["no map: the catalogue has no positions"]
    placed = usable & np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec)
    if not placed.any():
        return None, [f"no map: none of the {usable.sum()} objects with a mass has a usable position"]
    try:
        grid, notes = _pixels(catalogue, placed, options)
        if grid is not None:
            check_map(catalogue, usable, grid, options.form, options.num_map_draws)
            _check_slices(catalogue, placed, options.map_slices)
    except MassmapError as error:
        raise MassmapError(f"{error} (--no-map leaves the map out)") from None
    twice = None if grid is None else repeats(catalogue, placed)
    alone = "" if grid is None else far_from_the_rest(catalogue, placed)
    return grid, [*notes, *([alone] if alone else []), *([] if twice is None else [twice])]


def far_from_the_rest(catalogue: HaloCatalogue, placed: Bool[np.ndarray, "halo"]) -> str:
    """Say which few objects lie far outside the field of the others, as with a slip in a position they do.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    placed : Bool[np.ndarray, "halo"]
        Rows that are in the map.

    Returns
    -------
    str
        The note; empty where there are none.
    """
    rows = np.flatnonzero(placed)
    if catalogue.frame != "sky" or rows.size < _ENOUGH or catalogue.ra is None or catalogue.dec is None:
        return ""
    place = unit_vectors(catalogue.ra[rows], catalogue.dec[rows])
    # The middle of the others, whatever a few of them do.
    middle = np.median(place, axis=0)
    if not np.linalg.norm(middle) > 0.5:
        return ""
    away = np.degrees(np.arccos(np.clip(place @ middle / np.linalg.norm(middle), -1, 1)))
    field = np.quantile(away, 1 - _FEW)
    far = (away > _TIMES * field) & (away > _LEAST_DEG)
    if not far.any() or far.mean() > _FEW:
        return ""
    row = rows[np.argmax(away)]
    return (
        f"{far.sum()} of {rows.size} objects {'lies' if far.sum() == 1 else 'lie'} far outside the field of the others,"
        f" {field:.2g} degrees, the farthest row {row} at {away.max():.3g} degrees from its middle: see whether"
        f" {'its position is' if far.sum() == 1 else 'their positions are'} right, for the map reaches to them"
    )


def _check_slices(catalogue: HaloCatalogue, placed: Bool[np.ndarray, "halo"], edges) -> None:
    """Refuse redshift slices that no object lies in; one that is not exact may lie anywhere."""
    if edges is None or catalogue.redshift_distributions is not None:
        return
    z = catalogue.redshift[placed]
    if not ((z >= edges[0]) & (z <= edges[-1])).any():
        raise MassmapError(
            f"map_slices from {edges[0]:g} to {edges[-1]:g} hold none of the {z.size} objects, whose redshifts are"
            f" {z.min():.3g} to {z.max():.3g}: give edges among these"
        )


def _pixels(catalogue, placed, options) -> tuple[SkyPixels | None, list[str]]:
    """Choose pixels that cover the objects with a mass and a position, and notes about them."""
    ra, dec = catalogue.ra[placed], catalogue.dec[placed]
    if options.nside is not None and catalogue.frame == "flat":
        raise MassmapError(
            "positions are offsets in arcmin, and HEALPix pixels are on the sky: give --field-centre, RA,DEC of the "
            "offsets' origin, or leave --nside out"
        )
    if catalogue.frame == "flat":
        return PixelGrid.fit(ra, dec, frame="flat", pixel_arcmin=options.pixel_arcmin), []
    radius = _radius_deg(ra, dec)
    if options.nside is not None:
        return _healpix(ra, dec, radius, options.nside, options.healpix_order), []
    asked = [
        name
        for name, given in (
            ("--pixel-arcmin", options.pixel_arcmin),
            ("--halo-profile", options.halo_profile),
            ("--source-redshift", options.source_redshift),
        )
        if given is not None
    ]
    extent = f"the objects span {2 * radius:.0f} degrees"
    if radius > _WHOLE_SKY_DEG:
        extent = "the objects lie all over the sky"
    if asked and radius > MAX_ANGLE_DEG:
        raise MassmapError(
            f"{extent}, more than the {2 * MAX_ANGLE_DEG:.0f} that a tangent plane can show, and {' and '.join(asked)} "
            f"{'needs' if len(asked) == 1 else 'need'} one: leave {'it' if len(asked) == 1 else 'them'} out, which "
            "gives a HEALPix map (--nside for its pixels), or map a part of the catalogue"
        )
    if asked or 2 * radius <= WIDE_DEG:
        return PixelGrid.fit(ra, dec, pixel_arcmin=options.pixel_arcmin), []
    if find_spec("astropy_healpix") is not None:
        nside = nside_for(radius, ra.size)
        grid = _healpix(ra, dec, radius, nside, options.healpix_order)
        other = "" if radius > MAX_ANGLE_DEG else ", a tangent plane by --pixel-arcmin"
        return grid, [
            f"{extent}, so the map is on HEALPix, nside {nside} (pixels of {grid.pixel_arcmin:.3g} arcmin): another "
            f"size is chosen by --nside{other}"
        ]
    if radius <= MAX_ANGLE_DEG:
        return PixelGrid.fit(ra, dec), [
            f"{extent}, and the map is on a tangent plane, as astropy-healpix is not installed: pixels at its rim "
            "cover less sky; pip install astropy-healpix for pixels of one area"
        ]
    return None, [
        f"no map: {extent}, more than a tangent plane can show, and astropy-healpix is not installed: pip install "
        "astropy-healpix, then run again"
    ]


def _healpix(ra, dec, radius: float, nside: int, order: str) -> "HealpixGrid":
    """Make a HEALPix grid of the part of the sky with objects, or of the whole sky for a wide field."""
    from massmap_jax.maps.healpix import HealpixGrid

    return HealpixGrid(nside, order) if radius > _WHOLE_SKY_DEG else HealpixGrid.fit(ra, dec, nside, order)


def _radius_deg(ra, dec) -> float:
    """Find the radius of a small circle that contains all positions, to 0.1 degree."""
    places = np.unique(np.stack([np.round(ra / _COARSE_DEG), np.round(dec / _COARSE_DEG)], axis=1), axis=0)
    return float(np.degrees(cap_of(*(places * _COARSE_DEG).T)[1]))


def nside_for(radius_deg: float, number: int) -> int:
    """Choose the nside of a map: the finest whose number of pixels suits the number of objects.

    Parameters
    ----------
    radius_deg : float
        Radius of the circle that contains the objects.
    number : int
        Number of objects.

    Returns
    -------
    int
        A power of two, at least 8.
    """
    share = (1 - np.cos(np.radians(min(radius_deg, 180.0)))) / 2
    pixels = np.clip(_PER_OBJECT * number, _FEWEST, _MOST)
    return max(8, 2 ** int(np.floor(np.log2(pixels / (12 * share)) / 2)))
