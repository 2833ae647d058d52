"""Mass maps as FITS files: a primary header that says where the map comes from, and one image per statistic (on HEALPix
one table).

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
from massmap_jax.maps.images import IMAGES, image_of, unit_of
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.units import MASS

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
    "total_mass": ("TOTMASS", "[solMass] mean mass of all objects on the map"),
    "total_sd": ("TOTSD", "[solMass] sd of the total over the map draws"),
}
GRID_CARDS = {
    "projection": ("PROJECTN", "tangent or flat"),
    "pixel_arcmin": ("PIXARCM", "[arcmin] pixel side at the map centre"),
}
# what only some maps have, written where it is there
_FORM = {
    "unit": ("MAPUNIT", "unit of the images"),
    "cosmology": ("COSMOLGY", "for proper Mpc at each object's redshift"),
    "fwhm_arcmin": ("SMOOTHED", "[arcmin] FWHM of the Gaussian smoothed by"),
    "halo_profile": ("PROFILE", "of each halo about its pixel's centre"),
    "n_masked": ("NMASKED", "objects in pixels outside the footprint"),
    "n_beyond": ("NBEYOND", "objects at redshifts beyond the slices"),
}
_MOST_SLICES = 999  # ZEDGE999 has the eight letters of a keyword
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


def _edge_cards(edges) -> dict[str, tuple]:
    """Redshift edges as keywords: slice i, from 1, lies between ZEDGE(i-1) and ZEDGE(i)."""
    if edges is None:
        return {}
    if len(edges) - 1 > _MOST_SLICES:
        raise MassmapError(f"a FITS header holds the edges of {_MOST_SLICES} slices and this map has {len(edges) - 1}")
    cards = {"NSLICES": (len(edges) - 1, "redshift slices, edges in ZEDGE0 to ZEDGEn")}
    return cards | {f"ZEDGE{i}": (float(edge), "edge of a redshift slice") for i, edge in enumerate(edges)}


def provenance_cards(meta: Mapping[str, Any]) -> dict[str, tuple]:
    """What the caller tells of a map, as keyword -> (value, comment)."""
    given = {"version": massmap_jax.__version__} | {k: v for k, v in meta.items() if k in PROVENANCE}
    return {
        keyword: (_card_value(given.get(name, "unknown")), comment) for name, (keyword, comment) in PROVENANCE.items()
    }


def primary_header(mass_map, meta, grid_cards):
    """Where the map comes from; `grid_cards` : {name in `read_map`'s meta: value} of the pixels."""
    from astropy.io.fits import Header

    header = Header()
    header.update(provenance_cards(meta))
    known = {
        "relation_from": mass_map.relation_from or "one relation",
        "num_draws": int(mass_map.num_draws),
        "num_mapped": int(np.sum(np.asarray(mass_map.nobj), dtype=np.int64)),
        "n_outside": int(mass_map.n_outside),
        "n_flagged": int(mass_map.n_flagged),
        "total_mass": float(mass_map.total_mass),
        # errors are shared between pixels: this cannot be worked out from the SD image
        "total_sd": float(mass_map.total_sd),
    } | grid_cards
    for name, (keyword, comment) in (_COUNTS | GRID_CARDS).items():
        if name in known:
            header[keyword] = (_card_value(known[name]), comment)
    for name, (keyword, comment) in _FORM.items():
        value = getattr(mass_map, name)
        if value not in (None, 0, MASS):
            header[keyword] = (_card_value(value), comment)
    for keyword, card in _edge_cards(mass_map.redshift_edges).items():
        header[keyword] = card
    extra = {str(k): v for k, v in meta.items() if k not in PROVENANCE | _COUNTS | GRID_CARDS | _FORM}
    if extra:
        header[_EXTRA] = json.dumps(extra, sort_keys=True, default=_plain)  # json escapes what is not ASCII
    return header


def _wcs_cards(grid, num_axes: int) -> dict:
    cards = grid.wcs_cards()
    if num_axes == 3:
        cards |= {"WCSAXES": 3, "CTYPE3": "SLICE", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0}
    return cards


def _image_hdus(mass_map) -> list:
    """An image extension for each statistic; slices are the third axis of a cube, numbered from 1."""
    from astropy.io import fits

    hdus = []
    cards = _wcs_cards(mass_map.grid, np.ndim(mass_map.mean)) | _edge_cards(mass_map.redshift_edges)
    for field, (extension, comment) in IMAGES.items():
        hdu = fits.ImageHDU(image_of(mass_map, field), name=extension)
        hdu.header["BUNIT"] = (unit_of(mass_map, field), comment)
        hdu.header.update(cards)
        hdus.append(hdu)
    return hdus


def write_map(path, mass_map, meta: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a mass map; the file appears whole or not at all.

    Parameters
    ----------
    path : the file to make.
    mass_map : a `MassMap`, on any grid. On a HEALPix grid the file holds one table, one row per pixel
        (`healpix.table_hdu`); with redshift slices the images are cubes, the edges in the header as ZEDGE0, ZEDGE1, ...
    meta : provenance: `mass_definition`, `prior`, `relation`, `selection`, `seed`, `version` get keywords of
        their own; anything else goes as JSON into the keyword METADATA. The map's own `relation_from`,
        `num_draws`, `unit`, counts and the like are written in any case and not taken from here.
    overwrite : replace an existing file.

    Raises
    ------
    MassmapError : the file exists, or cannot be written.
    """
    from astropy.io import fits

    grid = mass_map.grid
    if isinstance(grid, PixelGrid):
        told = {"projection": grid.projection, "pixel_arcmin": grid.pixel_arcmin}
        images = _image_hdus(mass_map)
    else:
        from massmap_jax.maps.healpix_files import table_hdu

        told, images = {}, [table_hdu(mass_map)]
    write_whole(path, [fits.PrimaryHDU(header=primary_header(mass_map, meta, told)), *images], overwrite)


def write_whole(path, hdus: list, overwrite: bool) -> None:
    """Write the HDUs of a map as a FITS file that appears whole or not at all; `MassmapError` where it cannot be."""
    from astropy.io import fits

    path = Path(path)
    if path.exists() and not overwrite:
        raise MassmapError(f"{path} exists already; choose another name or ask to overwrite it")
    hdus = fits.HDUList(hdus)
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
    """Read `path`, a file made by `write_map`.

    Returns
    -------
    dict with the images `mean`, `sampled_mean`, `sd`, `q16`, `q50`, `q84` and `nobj`, (ny, nx), (slice, ny, nx) or
    (pixel,), NaN outside the footprint; `grid` (the `PixelGrid` or `HealpixGrid`); `redshift_edges` of the slices or
    None; `meta` (dict: the primary header under the names that `write_map` uses, with `num_mapped`, `unit` of the
    images, `total_mass` and `total_sd` in Msun).

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
                header = hdus[0].header
                meta = {name: header[keyword] for name, (keyword, _) in (PROVENANCE | _COUNTS).items()}
                known = dict.fromkeys(_FORM) | {"unit": MASS, "n_masked": 0, "n_beyond": 0}
                meta |= {name: header.get(keyword, known[name]) for name, (keyword, _) in _FORM.items()}
                meta |= json.loads(header.get(_EXTRA, "{}"))
                edges = tuple(header[f"ZEDGE{i}"] for i in range(header.get("NSLICES", -1) + 1)) or None
                if "HEALPIX" in hdus:
                    from massmap_jax.maps.healpix_files import read_table

                    return read_table(hdus["HEALPIX"]) | {"redshift_edges": edges, "meta": meta}
                meta |= {name: header[keyword] for name, (keyword, _) in GRID_CARDS.items()}
                stored = {field: hdus[extension].data for field, (extension, _) in IMAGES.items()}
                result = {field: image.astype(image.dtype.newbyteorder("=")) for field, image in stored.items()}
                cards = dict(hdus["MEAN"].header)
    except KeyError as error:
        raise MassmapError(f"{path} is not a mass map written by massmap_jax: {error.args[0]}") from error
    except (OSError, AstropyUserWarning, fits.VerifyError, ValueError, TypeError, AttributeError) as error:
        first_line = next(iter(str(error).splitlines()), "no reason given").rstrip(".")
        reason = getattr(error, "strerror", None) or f"it is not a whole FITS file ({first_line})"
        raise MassmapError(f"cannot read the map {path}: {reason}") from error
    shape = result["mean"].shape
    grid = PixelGrid(meta["projection"], shape[-2:], meta["pixel_arcmin"], (cards["CRVAL1"], cards["CRVAL2"]))
    # a card holds 20 characters, so the last digit may be lost
    for keyword, value in _wcs_cards(grid, len(shape)).items():
        found = cards.get(keyword)
        if isinstance(value, str) or not isinstance(found, int | float):
            same = found == value
        else:
            same = np.isclose(found, value, rtol=1e-12, atol=1e-12)
        if not same:
            raise MassmapError(f"{path} was changed since: {keyword} is {found}, and its pixels say {value}")
    return result | {"grid": grid, "redshift_edges": edges, "meta": meta}
