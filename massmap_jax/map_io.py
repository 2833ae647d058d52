"""Mass maps as FITS files: a primary header that says where the map comes from, and one image per statistic.

astropy is imported when called. The same map and meta give the same bytes: no dates are written, and no
checksums, whose comments carry the time.
"""

import json
import os
import secrets
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import massmap_jax
from massmap_jax.errors import MassmapError
from massmap_jax.pixels import PixelGrid

# field of MassMap -> (extension, unit, comment)
IMAGES = {
    "mean": ("MEAN", "solMass", "posterior mean of the mass in a pixel"),
    "sampled_mean": ("MEAN_MC", "solMass", "mean over the map draws"),
    "sd": ("SD", "solMass", "standard deviation over the map draws"),
    "q16": ("Q16", "solMass", "16 % quantile over the map draws"),
    "q50": ("Q50", "solMass", "50 % quantile over the map draws"),
    "q84": ("Q84", "solMass", "84 % quantile over the map draws"),
    "nobj": ("NOBJ", "", "objects snapped to a pixel"),
}
# what the caller tells -> (keyword, comment); absent ones are written as "unknown"
PROVENANCE = {
    "mass_definition": ("MASSDEF", "mass definition"),
    "prior": ("PRIOR", "mass prior"),
    "relation": ("RELATION", "mass-luminosity relation"),
    "selection": ("SELECTN", "selection modelled"),
    "seed": ("SEED", "random seed"),
    "version": ("VERSION", "massmap_jax version"),
}
# what the map itself knows
_COUNTS = {
    "relation_from": ("RELFROM", "weights of the relation draws"),
    "num_draws": ("NDRAWS", "map draws, one relation draw each"),
    "num_mapped": ("NMAPPED", "objects on the map"),
    "n_outside": ("NOUTSIDE", "objects outside the map or without position"),
    "n_flagged": ("NFLAGGED", "objects without a mass"),
    "total_mass": ("TOTMASS", "[solMass] sum of MEAN"),
    "total_sd": ("TOTSD", "[solMass] sd of the total over the map draws"),
    "projection": ("PROJECTN", "tangent or flat"),
    "pixel_arcmin": ("PIXARCM", "[arcmin] pixel side at the map centre"),
}
_EXTRA = "METADATA"


def _plain(value: Any) -> Any:
    """A NumPy or JAX scalar or array as Python numbers."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _card_value(value: Any) -> str | int | float | bool:
    """What a FITS card can hold: ASCII text in one line, or a finite number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, int) or (isinstance(value, float) and np.isfinite(value)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())


def _primary_header(mass_map, meta):
    from astropy.io.fits import Header

    header = Header()
    given = {"version": massmap_jax.__version__} | {k: v for k, v in meta.items() if k in PROVENANCE}
    for name, (keyword, comment) in PROVENANCE.items():
        header[keyword] = (_card_value(given.get(name, "unknown")), comment)
    known = {
        "relation_from": mass_map.relation_from or "one relation",
        "num_draws": int(mass_map.num_draws),
        "num_mapped": int(np.sum(np.asarray(mass_map.nobj), dtype=np.int64)),
        "n_outside": int(mass_map.n_outside),
        "n_flagged": int(mass_map.n_flagged),
        "total_mass": float(np.sum(np.asarray(mass_map.mean), dtype=np.float64)),
        # errors are shared between pixels: this cannot be worked out from the SD image
        "total_sd": float(np.std(np.asarray(mass_map.total_draws, dtype=np.float64), ddof=1)),
        "projection": mass_map.grid.projection,
        "pixel_arcmin": mass_map.grid.pixel_arcmin,
    }
    for name, (keyword, comment) in _COUNTS.items():
        header[keyword] = (_card_value(known[name]), comment)
    extra = {str(k): v for k, v in meta.items() if k not in PROVENANCE and k not in _COUNTS}
    if extra:
        header[_EXTRA] = json.dumps(extra, sort_keys=True, default=_plain)  # json escapes what is not ASCII
    return header


def _image(mass_map, field):
    image = np.asarray(getattr(mass_map, field))
    if image.shape != mass_map.grid.shape:
        raise MassmapError(f"image {field} has shape {image.shape}, but the grid has {mass_map.grid.shape}")
    if field == "nobj":
        return image.astype(np.int32)
    return image if image.dtype == np.float32 else image.astype(np.float64, copy=False)


def write_map(path, mass_map, meta: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a mass map; the file appears whole or not at all.

    Parameters
    ----------
    path : the file to make.
    mass_map : a `MassMap`; masses in Msun.
    meta : provenance: `mass_definition`, `prior`, `relation`, `selection`, `seed`, `version` get keywords of
        their own; anything else goes as JSON into the keyword METADATA. The map's own `relation_from`,
        `num_draws` and counts are written in any case and not taken from here.
    overwrite : replace an existing file.

    Raises
    ------
    MassmapError : the file exists, or cannot be written.
    """
    from astropy.io import fits

    path = Path(path)
    if path.exists() and not overwrite:
        raise MassmapError(f"{path} exists already; choose another name or ask to overwrite it")
    hdus = fits.HDUList([fits.PrimaryHDU(header=_primary_header(mass_map, meta))])
    cards = mass_map.grid.wcs_cards()
    for field, (extension, unit, comment) in IMAGES.items():
        hdu = fits.ImageHDU(_image(mass_map, field), name=extension)
        hdu.header["BUNIT"] = (unit, comment)
        hdu.header.update(cards)
        hdus.append(hdu)
    hdus.verify("exception")

    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as handle:
            hdus.writeto(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise MassmapError(f"cannot write the map {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_map(path) -> dict[str, Any]:
    """Read a file made by `write_map`.

    Returns
    -------
    dict with the images `mean`, `sampled_mean`, `sd`, `q16`, `q50`, `q84` (ny, nx; Msun) and `nobj` (ny, nx),
    `grid` (the `PixelGrid`) and `meta` (dict: the primary header under the names that `write_map` uses, with
    `num_mapped`, `total_mass` and `total_sd` in Msun).

    Raises
    ------
    MassmapError : no such file, not a FITS file, cut short, or not a mass map.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)  # how astropy says that a file is cut short
            with fits.open(path, memmap=False) as hdus:
                stored = {field: hdus[extension].data for field, (extension, _, _) in IMAGES.items()}
                result = {field: image.astype(image.dtype.newbyteorder("=")) for field, image in stored.items()}
                header, cards = hdus[0].header, dict(hdus["MEAN"].header)
                meta = {name: header[keyword] for name, (keyword, _) in (PROVENANCE | _COUNTS).items()}
                meta |= json.loads(header.get(_EXTRA, "{}"))
    except KeyError as error:
        raise MassmapError(f"{path} is not a mass map written by massmap_jax: {error.args[0]}") from error
    except (OSError, AstropyUserWarning, fits.VerifyError, ValueError, TypeError, AttributeError) as error:
        first_line = next(iter(str(error).splitlines()), "no reason given").rstrip(".")
        reason = getattr(error, "strerror", None) or f"it is not a whole FITS file ({first_line})"
        raise MassmapError(f"cannot read the map {path}: {reason}") from error
    shape = result["mean"].shape
    grid = PixelGrid(meta["projection"], shape, meta["pixel_arcmin"], (cards["CRVAL1"], cards["CRVAL2"]))
    for (
        keyword,
        value,
    ) in grid.wcs_cards().items():  # a card holds 20 characters, so the last digit may be lost
        found = cards.get(keyword)
        if isinstance(value, str) or not isinstance(found, int | float):
            same = found == value
        else:
            same = np.isclose(found, value, rtol=1e-12, atol=1e-12)
        if not same:
            raise MassmapError(f"{path} was changed since: {keyword} is {found}, and its pixels say {value}")
    return result | {"grid": grid, "meta": meta}
