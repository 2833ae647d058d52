"""The table in which a FITS file holds a HEALPix map."""

import numpy as np

from massmap_jax.maps.healpix import HealpixGrid
from massmap_jax.maps.images import IMAGES, image_of, unit_of


def table_hdu(mass_map):
    """The map as the field's partial-sky table: PIXEL and a column per statistic, a row for each pixel.

    Keywords PIXTYPE, ORDERING, NSIDE, INDXSCHM = EXPLICIT and OBJECT as healpy writes and reads them. With redshift
    slices there is a column for each slice, MEAN_1, MEAN_2, ...
    """
    from astropy.io import fits

    grid = mass_map.grid
    columns = [fits.Column("PIXEL", "K", array=grid.numbers)]
    for field, (name, _) in IMAGES.items():
        image, unit = image_of(mass_map, field), unit_of(mass_map, field)
        code = {"i": "J", "f": "E" if image.dtype.itemsize == 4 else "D"}[image.dtype.kind]
        named = [(name, image)] if image.ndim == 1 else [(f"{name}_{i + 1}", one) for i, one in enumerate(image)]
        columns += [fits.Column(label, code, unit=unit or None, array=values) for label, values in named]
    hdu = fits.BinTableHDU.from_columns(columns, name="HEALPIX")
    whole = grid.pixels is None
    hdu.header["PIXTYPE"] = ("HEALPIX", "HEALPIX pixelisation")
    hdu.header["ORDERING"] = (grid.order, "pixel ordering scheme, RING or NESTED")
    hdu.header["NSIDE"] = (grid.nside, "resolution parameter of HEALPIX")
    hdu.header["INDXSCHM"] = ("EXPLICIT", "indexing: IMPLICIT or EXPLICIT")
    hdu.header["OBJECT"] = ("FULLSKY" if whole else "PARTIAL", "sky coverage, FULLSKY or PARTIAL")
    hdu.header["COORDSYS"] = ("C", "equatorial, ICRS")
    return hdu


def read_table(hdu) -> dict:
    """`grid` and images of a table made by `table_hdu`."""
    header, data = hdu.header, hdu.data
    native = {name: data[name].astype(data[name].dtype.newbyteorder("=")) for name in data.names}
    pixels = None if header["OBJECT"] == "FULLSKY" else native["PIXEL"]
    images = {}
    for field, (name, _) in IMAGES.items():
        slices = sum(label.rpartition("_")[0] == name and label.rpartition("_")[2].isdigit() for label in native)
        images[field] = np.stack([native[f"{name}_{i + 1}"] for i in range(slices)]) if slices else native[name]
    return images | {"grid": HealpixGrid(header["NSIDE"], header["ORDERING"], pixels)}
