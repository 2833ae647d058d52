"""Units of a map: mass, or surface density per arcmin^2 of sky or per Mpc^2 at each object's own redshift.

A density is a sum over objects of mass over area. The area is that of the object's own pixel: its solid angle Omega,
exact off the centre of a tangent plane too; and for Mpc^2, Omega D_A(z)^2 with the angular diameter distance to the
object's redshift: physical (proper) Mpc, not comoving. Objects of one pixel at different redshifts are so divided
each by an area of its own, and no redshift has to be chosen for the pixel.
"""

import numpy as np
from jaxtyping import Float, Int

from massmap_jax.choices import MAP_UNITS, check_map_unit
from massmap_jax.errors import MassmapError

MASS, PER_ARCMIN2, PER_MPC2 = MAP_UNITS
FITS_UNITS = {MASS: "solMass", PER_ARCMIN2: "solMass / arcmin2", PER_MPC2: "solMass / Mpc2"}
"""The unit of a map as FITS writes it."""


def object_areas(
    unit: str, grid, pixel: Int[np.ndarray, "halo"], redshift: Float[np.ndarray, "halo"], cosmology
) -> Float[np.ndarray, "halo"]:
    """Give the area that each object's mass is divided by: 1, or that of its pixel, for Mpc^2 at its redshift.

    Parameters
    ----------
    unit : {"Msun", "Msun/arcmin2", "Msun/Mpc2"}
    grid : PixelGrid or HealpixGrid
    pixel : Int[np.ndarray, "halo"]
        Flat pixel of each object.
    redshift : Float[np.ndarray, "halo"]
    cosmology : str or astropy.cosmology.FLRW
        A name or text as in `massmap_jax.halo.cosmology`, or a flat LambdaCDM.

    Returns
    -------
    Float[np.ndarray, "halo"]
        1, arcmin^2 or Mpc^2.

    Raises
    ------
    MassmapError
        An unknown unit or cosmology; per Mpc^2, an object at redshift 0, where a pixel has no area.
    """
    check_map_unit(unit)
    if unit == MASS:
        return np.ones(pixel.shape)
    area = grid.pixel_areas_arcmin2(pixel)
    if unit == PER_ARCMIN2:
        return area
    near = redshift <= 0
    if near.any():
        raise MassmapError(
            f"{near.sum()} objects on the map have redshift 0, the first at place {np.argmax(near)} of those on it: a "
            "pixel has no area in Mpc^2 there; leave them out, or map in Msun/arcmin2"
        )
    from massmap_jax.halo.cosmology import angular_diameter_distance

    return area * _ARCMIN2 * angular_diameter_distance(cosmology, redshift) ** 2


_ARCMIN2 = np.radians(1.0 / 60.0) ** 2  # sr
