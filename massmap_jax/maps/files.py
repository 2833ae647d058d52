"""Mass maps as FITS files: a primary header that says where the map comes from, and an extension for each statistic.

On a plane an extension is an image, or a cube of redshift slices; on HEALPix it is a table (`maps.healpix_files`).
astropy is imported when called. The same map and meta give the same bytes: no dates are written, and no
checksums, whose comments carry the time.
"""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import massmap_jax
from massmap_jax.argument_kinds import check_kinds
from massmap_jax.choices import check_redshift_edges
from massmap_jax.errors import MassmapError
from massmap_jax.labels import Labels, check_labels
from massmap_jax.maps.fits_structure import number, opened
from massmap_jax.maps.images import IMAGES, image_of, unit_of
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.units import MASS
from massmap_jax.stopping import undone_if_stopped

# what the caller tells, or the map knows -> (keyword, comment); absent ones are written as "unknown"
PROVENANCE = {
    "program": ("PROGRAM", "that made the masses"),
    "version": ("VERSION", "massmap_jax version"),
    "mass_definition": ("MASSDEF", "mass definition"),
    "prior": ("PRIOR", "mass prior"),
    "relation": ("RELATION", "mass-luminosity relation"),
    "selection": ("SELECTN", "selection modelled"),
    "seed": ("SEED", "random seed"),
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
    "cosmology": ("COSMOLGY", "of distances, halo radii and the mass prior"),
    "fwhm_arcmin": ("SMOOTHED", "[arcmin] FWHM of the Gaussian smoothed by"),
    "halo_profile": ("PROFILE", "of each halo about its pixel's centre"),
    "n_masked": ("NMASKED", "objects in pixels outside the footprint"),
    "n_beyond": ("NBEYOND", "objects at redshifts beyond the slices"),
}
_MOST_SLICES = 999  # ZEDGE999 has the eight letters of a keyword
_EXTRA = "METADATA"
_WHAT = "a mass map written by massmap_jax"
_OWN = frozenset({extension for extension, _ in IMAGES.values()} | {"HEALPIX", "ZEDGES"})


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
    """Say where masses come from, as FITS cards.

    Parameters
    ----------
    meta : mapping of str to object
        By the names of `PROVENANCE`.

    Returns
    -------
    dict of str to tuple
        Value and comment by keyword; the program and its version say themselves, and what is not told is "unknown".
    """
    own = {"program": "massmap-jax", "version": massmap_jax.__version__}
    given = own | {name: value for name, value in meta.items() if name in PROVENANCE}
    return {
        keyword: (_card_value(given.get(name, "unknown")), comment) for name, (keyword, comment) in PROVENANCE.items()
    }


def cosmology_cards(cosmology: Any) -> dict[str, tuple]:
    """Write the numbers of a cosmology as FITS cards.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW or None
        A name, parameters as text, or itself.

    Returns
    -------
    dict of str to tuple
        H0 and OMEGA_M; nothing where none is known by that name.
    """
    from massmap_jax.halo.cosmology import flrw_of

    try:
        flrw = flrw_of(cosmology)
    except MassmapError:
        return {}
    return {
        "H0": (float(flrw.H0.to_value("km / (s Mpc)")), "[km/s/Mpc] Hubble constant"),
        "OMEGA_M": (float(flrw.Om0), "matter density over critical at z = 0"),
    }


def _primary_header(mass_map, meta, grid_cards):
    """Where the map comes from; `grid_cards` : {name in `read_map`'s meta: value} of the pixels."""
    from astropy.io.fits import Header

    told = Labels("meta", mass_definition=meta.get("mass_definition"))
    check_labels(map=mass_map, meta=told if meta.get("mass_definition") != "unknown" else None)
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
    header = Header()
    header.update(provenance_cards({"mass_definition": mass_map.mass_definition} | dict(meta)))
    for name, (keyword, comment) in (_COUNTS | GRID_CARDS).items():
        if name in known:
            header[keyword] = (_card_value(known[name]), comment)
    for name, (keyword, comment) in _FORM.items():
        value = getattr(mass_map, name)
        if value not in (None, 0, MASS):
            header[keyword] = (_card_value(value), comment)
    # An astropy cosmology is in the map's form itself; its text cannot be read back.
    of_form = mass_map.form.cosmology if mass_map.form.distances else mass_map.cosmology
    header.update(cosmology_cards(of_form))
    header.update(_edge_cards(mass_map.redshift_edges))
    written = PROVENANCE | _COUNTS | GRID_CARDS | _FORM
    extra = {str(name): value for name, value in meta.items() if name not in written}
    if extra:
        header[_EXTRA] = json.dumps(extra, sort_keys=True, default=_plain)  # json escapes what is not ASCII
    return header


def _wcs_cards(grid, edges, num_axes: int) -> dict:
    """Celestial axes; slices of one width are a linear axis of redshift, others are numbered from 1 (`ZEDGES`)."""
    cards = grid.wcs_cards()
    if num_axes == 3 and edges is not None and np.allclose(np.diff(edges), edges[1] - edges[0], rtol=1e-9, atol=0):
        width = (edges[-1] - edges[0]) / (len(edges) - 1)
        # The first edge lies half a pixel before the centre of the first, which FITS counts as 1.
        third = {"CTYPE3": "REDSHIFT", "CRPIX3": 0.5, "CRVAL3": float(edges[0]), "CDELT3": float(width)}
    else:
        third = {"CTYPE3": "SLICE", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0}
    return cards | ({"WCSAXES": 3, "CUNIT3": "", **third} if num_axes == 3 else {})


def _image_hdus(mass_map) -> list:
    """An image extension for each statistic; slices are the third axis of a cube."""
    from astropy.io import fits

    hdus, edges = [], mass_map.redshift_edges
    cards = _wcs_cards(mass_map.grid, edges, np.ndim(mass_map.mean)) | _edge_cards(edges)
    for field, (extension, comment) in IMAGES.items():
        hdu = fits.ImageHDU(image_of(mass_map, field), name=extension)
        hdu.header["BUNIT"] = (unit_of(mass_map, field), comment)
        hdu.header.update(cards)
        hdus.append(hdu)
    return hdus


def _edges_hdu(edges):
    """The slices as a table: number, lower and upper edge."""
    from astropy.io import fits

    edges = np.asarray(edges, dtype=np.float64)
    columns = [
        fits.Column("SLICE", "J", array=np.arange(1, edges.size)),
        fits.Column("Z_LOW", "D", array=edges[:-1]),
        fits.Column("Z_HIGH", "D", array=edges[1:]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="ZEDGES")
    for i, comment in enumerate(("plane of the cubes, from 1", "lower edge, redshift", "upper edge, redshift")):
        hdu.header.comments[f"TTYPE{i + 1}"] = comment
    for i in (2, 3):
        hdu.header[f"TUNIT{i}"] = ("", "a redshift has no unit")
        hdu.header[f"TUCD{i}"] = "src.redshift"
    return hdu


def write_map(path, mass_map, meta: Mapping[str, Any] | None = None, *, overwrite: bool = False) -> None:
    """Write a mass map as FITS; the file appears whole or not at all.

    Extensions MEAN, MEAN_MC (the mean over the map draws: MEAN with Monte Carlo noise, the image that SD and the
    quantiles belong to), SD, Q16, Q50, Q84 and NOBJ hold the images; on a HEALPix grid each is a table
    (`maps.healpix_files`). Redshift slices are cubes whose edges stand in the table ZEDGES and as ZEDGE0, ZEDGE1, ...
    in every header.

    Parameters
    ----------
    path : path
        The file to make.
    mass_map : MassMap
        On any grid. Mass definition, cosmology (with H0 and OMEGA_M), unit, counts and where the relation's draws come
        from are written as the map knows them.
    meta : mapping of str to object, optional
        What the map does not know: `prior`, `relation`, `selection` and `seed` get keywords of their own, "unknown"
        where they are not given; anything else goes as JSON into the keyword METADATA.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    MassmapError
        The file exists, or cannot be written; `meta` contradicts the map's mass definition.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> grid = mm.PixelGrid.fit(clusters.ra, clusters.dec)
    >>> field = mm.mass_map(jax.random.key(0), clusters, prior, relation, grid, num_draws=20)
    >>> mm.write_map("map.fits", field, {"prior": prior.description, "seed": 0})
    >>> found = mm.read_map("map.fits")
    >>> found["meta"]["num_mapped"], found["meta"]["seed"], found["meta"]["selection"]
    (2, 0, 'unknown')
    """
    check_kinds("write_map", mass_map=mass_map)
    from astropy.io import fits

    meta, grid, edges = meta or {}, mass_map.grid, mass_map.redshift_edges
    if isinstance(grid, PixelGrid):
        told = {"projection": grid.projection, "pixel_arcmin": grid.pixel_arcmin}
        images = _image_hdus(mass_map)
    else:
        from massmap_jax.maps.healpix_files import table_hdus

        told, images = {}, table_hdus(mass_map)
    slices = [] if edges is None else [_edges_hdu(edges)]
    write_whole(path, [fits.PrimaryHDU(header=_primary_header(mass_map, meta, told)), *images, *slices], overwrite)


def write_whole(path, hdus: list, overwrite: bool) -> None:
    """Write the HDUs of a map as a FITS file that appears whole or not at all.

    Parameters
    ----------
    path : path
        The file to make.
    hdus : list
        Of astropy, the primary first.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    MassmapError
        The file exists, or cannot be written.
    """
    from astropy.io import fits

    path = Path(path)
    if path.exists() and not overwrite:
        raise MassmapError(f"{path} exists already; choose another name or ask to overwrite it")
    hdus = fits.HDUList(hdus)
    hdus.verify("exception")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    remove = partial(temporary.unlink, missing_ok=True)
    try:
        with undone_if_stopped(remove), open(temporary, "wb") as handle:
            hdus.writeto(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise MassmapError(f"cannot write the map {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            remove()


def read_map(path) -> dict[str, Any]:
    """Read a file made by `write_map`, of this version or an earlier one.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict of str to object
        The images `mean`, `sampled_mean`, `sd`, `q16`, `q50`, `q84` and `nobj`, (ny, nx), (slice, ny, nx) or (pixel,),
        NaN outside the footprint; `grid`, a `PixelGrid` or `HealpixGrid`; `redshift_edges` of the slices or None;
        `meta`, a dict of the primary header under the names that `write_map` uses, with `num_mapped`, `unit` of the
        images, `total_mass` and `total_sd` [Msun].

    Raises
    ------
    MassmapError
        No such file, not a FITS file, cut short, a header that contradicts itself or the data, or not a mass map.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> grid = mm.PixelGrid.fit(clusters.ra, clusters.dec)
    >>> field = mm.mass_map(jax.random.key(0), clusters, prior, relation, grid, num_draws=20)
    >>> mm.write_map("map.fits", field)
    >>> found = mm.read_map("map.fits")
    >>> found["grid"] == grid, found["mean"].shape == grid.shape, int(found["nobj"].sum())
    (True, True, 2)
    >>> found["meta"]["unit"], found["meta"]["mass_definition"], found["meta"]["prior"]
    ('Msun', '200m', 'unknown')
    """
    path = Path(path)
    with opened(path, _WHAT, _OWN) as hdus:
        header = hdus[0].header
        meta = _read_meta(header)
        edges = _read_edges(header)
        if "HEALPIX" in hdus or hdus[1].header.get("PIXTYPE") == "HEALPIX":
            from massmap_jax.maps.healpix_files import read_tables

            found = read_tables(hdus, 0 if edges is None else len(edges) - 1)
        else:
            meta |= {name: header[keyword] for name, (keyword, _) in GRID_CARDS.items()}
            found = _read_images(hdus, meta, edges)
    return found | {"redshift_edges": edges, "meta": meta}


def _read_meta(header) -> dict[str, Any]:
    """The primary header under the names that `write_map` uses."""
    meta = {name: header.get(keyword, "unknown") for name, (keyword, _) in PROVENANCE.items()}
    for name, (keyword, _) in _COUNTS.items():
        counted = name.startswith(("n_", "num_"))
        meta[name] = header[keyword] if name == "relation_from" else number(header, keyword, whole=counted)
    known = dict.fromkeys(_FORM) | {"unit": MASS, "n_masked": 0, "n_beyond": 0}
    meta |= {name: header.get(keyword, known[name]) for name, (keyword, _) in _FORM.items()}
    extra = json.loads(header.get(_EXTRA, "{}"))
    if not isinstance(extra, dict):
        raise MassmapError(f"{_EXTRA} is no JSON object: the header was changed")
    return meta | extra


def _read_edges(header) -> tuple[float, ...] | None:
    """Edges of the slices, None where there are none."""
    if "NSLICES" not in header:
        return None
    slices = number(header, "NSLICES", whole=True)
    if not 1 <= slices <= _MOST_SLICES:
        raise MassmapError(f"NSLICES is {slices}, and a header holds 1 to {_MOST_SLICES}: it was changed")
    return tuple(check_redshift_edges([number(header, f"ZEDGE{i}") for i in range(slices + 1)]).tolist())


def _read_images(hdus, meta, edges) -> dict[str, Any]:
    """Images and grid of a map on a plane, the one against the other."""
    stored = {field: hdus[extension].data for field, (extension, _) in IMAGES.items()}
    images = {field: image.astype(image.dtype.newbyteorder("=")) for field, image in stored.items()}
    shapes = {image.shape for image in images.values()}
    shape = images["mean"].shape
    if len(shapes) > 1 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != len(edges or ()) - 1):
        raise MassmapError(f"its images have the shapes {', '.join(map(str, sorted(shapes)))}: they were changed")
    cards = dict(hdus["MEAN"].header)
    grid = PixelGrid(meta["projection"], shape[-2:], meta["pixel_arcmin"], (cards["CRVAL1"], cards["CRVAL2"]))
    # Earlier versions numbered all slices.
    numbered = cards.get("CTYPE3") == "SLICE"
    for keyword, value in _wcs_cards(grid, None if numbered else edges, len(shape)).items():
        found = cards.get(keyword, "" if keyword == "CUNIT3" else None)
        if isinstance(value, str) or not isinstance(found, int | float):
            same = found == value
        else:
            # a card holds 20 characters, so the last digit may be lost
            same = np.isclose(found, value, rtol=1e-12, atol=1e-12)
        if not same:
            raise MassmapError(f"it was changed since: {keyword} is {found}, and its pixels say {value}")
    return images | {"grid": grid}
