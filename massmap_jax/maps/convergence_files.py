"""Maps of convergence and shear as FITS files, one image extension each, with the WCS of mass maps.

astropy is imported when called. The same map and meta give the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.maps.files import GRID_CARDS, cosmology_cards, provenance_cards, write_whole
from massmap_jax.maps.fits_structure import number, opened
from massmap_jax.maps.pixels import PixelGrid

if TYPE_CHECKING:
    from massmap_jax.maps.convergence import ConvergenceMap

# field of ConvergenceMap -> (extension, comment)
IMAGES = {
    "mean": ("KAPPA", "mean convergence over the map draws"),
    "sd": ("SD", "standard deviation over the map draws"),
    "q16": ("Q16", "16 % quantile over the map draws"),
    "q50": ("Q50", "50 % quantile over the map draws"),
    "q84": ("Q84", "84 % quantile over the map draws"),
    "gamma1_mean": ("GAMMA1", "mean shear along the image's x"),
    "gamma1_sd": ("GAMMA1SD", "standard deviation of GAMMA1"),
    "gamma2_mean": ("GAMMA2", "mean shear along the diagonal of x and y"),
    "gamma2_sd": ("GAMMA2SD", "standard deviation of GAMMA2"),
}
_OWN = frozenset(extension for extension, _ in IMAGES.values())
_CARDS = {
    "source_redshift": ("ZSOURCE", "redshift of the lensed sources"),
    "mass_definition": ("MASSDEF", "mass definition"),
    "cosmology": ("COSMOLGY", "of distances and densities"),
    "profile": ("PROFILE", "of each halo"),
    "truncation": ("TRUNC", "truncation radius over the halo's radius"),
    "reach": ("REACH", "halo radii out to which a halo is drawn"),
    "neglected": ("NEGLECT", "bound on the convergence left out by REACH"),
    "num_draws": ("NDRAWS", "map draws, one relation draw each"),
    "n_lenses": ("NLENSES", "objects in the map"),
    "n_behind": ("NBEHIND", "objects at or behind the source"),
    "n_outside": ("NOUTSIDE", "objects that do not reach into the map"),
    "n_flagged": ("NFLAGGED", "objects without a mass"),
    "mean_subtracted": ("MEANSUB", "each draw's mean over the map taken off"),
}


def write_convergence(
    path, kappa: "ConvergenceMap", meta: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Write a map of convergence (and shear, where it has it) as FITS; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        The file to make.
    kappa : ConvergenceMap
        The map.
    meta : mapping of str to object, optional
        Provenance, as in `write_map`: `prior`, `relation`, `selection`, `seed`.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    MassmapError
        The file exists, or cannot be written.
    """
    from astropy.io import fits

    header = fits.Header()
    header.update(provenance_cards(meta or {}))
    header.update(cosmology_cards(kappa.cosmology))
    for cards, holder in ((GRID_CARDS, kappa.grid), (_CARDS, kappa)):
        for name, (keyword, comment) in cards.items():
            if (value := getattr(holder, name)) is not None:
                header[keyword] = (value, comment)
    hdus = [fits.PrimaryHDU(header=header)]
    for field, (extension, comment) in IMAGES.items():
        if getattr(kappa, field) is None:
            continue
        hdu = fits.ImageHDU(np.asarray(getattr(kappa, field), dtype=np.float64), name=extension)
        hdu.header["BUNIT"] = ("", comment)
        hdu.header.update(kappa.grid.wcs_cards())
        hdus.append(hdu)
    write_whole(path, hdus, overwrite)


def read_convergence(path) -> dict[str, Any]:
    """Read a file made by `write_convergence`.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict of str to object
        Images by the names of `ConvergenceMap`, `grid`, and `meta`, a dict.

    Raises
    ------
    MassmapError
        No such file, not a FITS file, a header that lies, or not a map of convergence.
    """
    with opened(Path(path), "a map of convergence", _OWN) as hdus:
        header = hdus[0].header
        images = {
            field: np.asarray(hdus[name].data, dtype=np.float64) for field, (name, _) in IMAGES.items() if name in hdus
        }
        first = hdus["KAPPA"].header
        if {image.shape for image in images.values()} != {images["mean"].shape}:
            raise MassmapError("its images have different shapes: they were changed")
        meta = {name: header.get(keyword) for name, (keyword, _) in _CARDS.items()}
        number(header, _CARDS["source_redshift"][0])
        meta |= {"prior": header["PRIOR"], "relation": header["RELATION"], "version": header["VERSION"]}
        projection, pixel = (header[GRID_CARDS[name][0]] for name in ("projection", "pixel_arcmin"))
        grid = PixelGrid(projection, images["mean"].shape, pixel, (first["CRVAL1"], first["CRVAL2"]))
    return images | {"grid": grid, "meta": meta}
