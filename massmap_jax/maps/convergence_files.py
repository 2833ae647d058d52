"""Maps of convergence and shear as FITS files, one image extension each, with the WCS of mass maps.

astropy is imported when called. The same map and meta give the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.maps.files import GRID_CARDS, provenance_cards, write_whole
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


def write_convergence(path, kappa: "ConvergenceMap", meta: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write `kappa`, a map of convergence (and shear, where it has it); the file appears whole or not at all.

    Parameters
    ----------
    path : the file to make.
    meta : provenance, as in `map_io.write_map`: `prior`, `relation`, `selection`, `seed`, `version`.
    overwrite : replace an existing file.

    Raises
    ------
    MassmapError : the file exists, or cannot be written.
    """
    from astropy.io import fits

    header = fits.Header()
    header.update(provenance_cards(meta))
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
    """Read `path`, made by `write_convergence`: images by the names of `ConvergenceMap`, `grid`, and `meta` (dict).

    Raises
    ------
    MassmapError : no such file, not a FITS file, or not a map of convergence.
    """
    from astropy.io import fits

    try:
        with fits.open(Path(path), memmap=False) as hdus:
            header = hdus[0].header
            images = {
                field: np.asarray(hdus[name].data, dtype=np.float64)
                for field, (name, _) in IMAGES.items()
                if name in hdus
            }
            meta = {name: header.get(keyword) for name, (keyword, _) in _CARDS.items()}
            meta |= {"prior": header["PRIOR"], "relation": header["RELATION"], "version": header["VERSION"]}
            centre = hdus["KAPPA"].header["CRVAL1"], hdus["KAPPA"].header["CRVAL2"]
            projection, pixel = (header[GRID_CARDS[name][0]] for name in ("projection", "pixel_arcmin"))
    except KeyError as error:
        raise MassmapError(f"{path} is not a map of convergence: {error.args[0]}") from error
    except OSError as error:
        reason = getattr(error, "strerror", None) or "it is not a whole FITS file"
        raise MassmapError(f"cannot read the map {path}: {reason}") from error
    return images | {"grid": PixelGrid(projection, images["mean"].shape, pixel, centre), "meta": meta}
