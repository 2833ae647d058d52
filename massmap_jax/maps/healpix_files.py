"""The tables in which a FITS file holds a HEALPix map, as healpy and healsparse read them.

A table for each statistic (and redshift slice), with one column of values: healsparse reads no partial map of several
columns. A map of the whole sky is IMPLICIT and FULLSKY, in the order of the pixel numbers; a part of it is EXPLICIT and
PARTIAL, with a column PIXEL; healpy refuses any other pairing. The first table is the mean.
"""

from typing import Any

import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.maps.fits_structure import number
from massmap_jax.maps.healpix import HealpixGrid
from massmap_jax.maps.images import IMAGES, image_of, unit_of

# The field's number for a pixel without a value, in the card BAD_DATA.
UNSEEN = -1.6375e30
# What readers of whole skies look for: the name that healpy gives to a single map.
_WHOLE_SKY = "TEMPERATURE"


def table_hdus(mass_map) -> list:
    """Make the tables of a HEALPix map.

    Parameters
    ----------
    mass_map : MassMap
        On a `HealpixGrid`. Pixels outside its footprint, NaN in the map, are written as UNSEEN.

    Returns
    -------
    list of astropy.io.fits.BinTableHDU
        MEAN, MEAN_MC, SD, ...; with redshift slices MEAN_1, MEAN_2, ..., MEAN_MC_1, ...
    """
    hdus = []
    for field, (name, comment) in IMAGES.items():
        image, unit = image_of(mass_map, field), unit_of(mass_map, field)
        slices = [(name, image)] if image.ndim == 1 else [(f"{name}_{i + 1}", one) for i, one in enumerate(image)]
        hdus += [_table(mass_map.grid, label, values, unit, comment) for label, values in slices]
    return hdus


def _table(grid: HealpixGrid, label: str, values, unit: str, comment: str):
    from astropy.io import fits

    whole, counts = grid.pixels is None, values.dtype.kind == "i"
    if not counts:
        values = np.where(np.isnan(values), values.dtype.type(UNSEEN), values)
    code = "J" if counts else {4: "E", 8: "D"}[values.dtype.itemsize]
    columns = [] if whole else [fits.Column("PIXEL", "K", array=grid.numbers)]
    columns.append(fits.Column(_WHOLE_SKY if whole else label, code, unit=unit or None, array=values))
    hdu = fits.BinTableHDU.from_columns(columns, name=label)
    hdu.header.comments[f"TTYPE{len(columns)}"] = comment
    hdu.header["PIXTYPE"] = ("HEALPIX", "HEALPIX pixelisation")
    hdu.header["ORDERING"] = (grid.order, "pixel ordering scheme, RING or NESTED")
    hdu.header["NSIDE"] = (grid.nside, "resolution parameter of HEALPIX")
    hdu.header["INDXSCHM"] = ("IMPLICIT" if whole else "EXPLICIT", "indexing: IMPLICIT or EXPLICIT")
    hdu.header["OBJECT"] = ("FULLSKY" if whole else "PARTIAL", "sky coverage, FULLSKY or PARTIAL")
    if whole:
        hdu.header["FIRSTPIX"] = (0, "first pixel, numbered from 0")
        hdu.header["LASTPIX"] = (grid.num_pixels - 1, "last pixel")
    if not counts:
        hdu.header["BAD_DATA"] = (UNSEEN, "outside the footprint")
    hdu.header["COORDSYS"] = ("C", "equatorial, ICRS")
    return hdu


def read_tables(hdus, slices: int) -> dict[str, Any]:
    """Read grid and images of a HEALPix map.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
    slices : int
        Redshift slices; 0 for none.

    Returns
    -------
    dict of str to object
        `grid` and the images by their names in `MassMap`.

    Raises
    ------
    MassmapError
        Cards that contradict the data; and as `HealpixGrid`.
    """
    if "HEALPIX" in hdus:
        return _read_one_table(hdus["HEALPIX"])
    images, grids = {}, []
    for field, (name, _) in IMAGES.items():
        labels = [f"{name}_{i + 1}" for i in range(slices)] or [name]
        parts = [_values(hdus[label]) for label in labels]
        grids += [grid for grid, _ in parts]
        images[field] = np.stack([values for _, values in parts]) if slices else parts[0][1]
    first = grids[0]
    for grid in grids[1:]:
        if (grid.nside, grid.order) != (first.nside, first.order) or not np.array_equal(grid.numbers, first.numbers):
            raise MassmapError("its tables have different pixels: they were changed")
    return images | {"grid": first}


def _values(hdu) -> tuple[HealpixGrid, np.ndarray]:
    """Pixels and values of one table."""
    native = _native(hdu)
    pixels = native.pop("PIXEL", None)
    if len(native) != 1:
        raise MassmapError(f"table {hdu.name} has {len(native)} columns of values, not one: it was changed")
    (values,) = native.values()
    whole = pixels is None
    if values.dtype.kind not in "if" or not (whole or pixels.dtype.kind == "i"):
        raise MassmapError(f"table {hdu.name} has values of type {values.dtype}: it was changed")
    if not whole and (np.diff(pixels) <= 0).any():
        raise MassmapError(f"the pixel numbers of table {hdu.name} do not rise: it was changed")
    scheme = ("IMPLICIT", "FULLSKY") if whole else ("EXPLICIT", "PARTIAL")
    if (hdu.header["INDXSCHM"], hdu.header["OBJECT"]) != scheme:
        raise MassmapError(
            f"INDXSCHM is {hdu.header['INDXSCHM']!r} and OBJECT {hdu.header['OBJECT']!r} in table {hdu.name}, "
            f"{'without' if whole else 'with'} a column PIXEL: the header was changed"
        )
    if values.dtype.kind == "f":
        values = np.where(values == values.dtype.type(UNSEEN), values.dtype.type(np.nan), values)
    return _grid(hdu.header, pixels, values), values


def _native(hdu) -> dict[str, np.ndarray]:
    """Columns of a table by name, in this machine's byte order."""
    return {name: hdu.data[name].astype(hdu.data[name].dtype.newbyteorder("=")) for name in hdu.data.names}


def _grid(header, pixels, values) -> HealpixGrid:
    grid = HealpixGrid(number(header, "NSIDE", whole=True), header["ORDERING"], pixels)
    if values.shape != grid.shape:
        raise MassmapError(f"NSIDE is {grid.nside} and a table has values of shape {values.shape}: it was changed")
    return grid


def _read_one_table(hdu) -> dict[str, Any]:
    """Grid and images of the single table HEALPIX that earlier versions wrote, EXPLICIT for the whole sky too."""
    native = _native(hdu)
    images = {}
    for field, (name, _) in IMAGES.items():
        slices = sum(label.rpartition("_")[0] == name and label.rpartition("_")[2].isdigit() for label in native)
        images[field] = np.stack([native[f"{name}_{i + 1}"] for i in range(slices)]) if slices else native[name]
    pixels = None if hdu.header["OBJECT"] == "FULLSKY" else native["PIXEL"]
    return images | {"grid": _grid(hdu.header, pixels, np.atleast_2d(images["mean"])[0])}
