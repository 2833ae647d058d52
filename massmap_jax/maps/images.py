"""The images of a mass map: `MassMap`, its statistics over the map draws, its units and its redshift slices."""

from dataclasses import replace

import equinox as eqx
import numpy as np
from jaxtyping import Float

from massmap_jax.choices import RelationFrom
from massmap_jax.errors import MassmapError
from massmap_jax.html_table import html_summary
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.units import FITS_UNITS

QUANTILES = (0.16, 0.5, 0.84)


# Images that the statistics fill, in the order of `statistics`.
NAMES = ("sampled_mean", "sd", "q16", "q50", "q84")


# Pixels whose draws are summarised at once.
_PIXELS = 512


def statistics(draws: Float[np.ndarray, "pixel draw"]) -> Float[np.ndarray, "5 pixel"]:
    """Compute mean, standard deviation and quantiles over draws, a part at a time, since NumPy makes copies.

    Parameters
    ----------
    draws : Float[np.ndarray, "pixel draw"]
        Values; of a single draw the standard deviation is 0.

    Returns
    -------
    Float[np.ndarray, "5 pixel"]
        In the order of `NAMES`.
    """
    pixels, num_draws = draws.shape
    out = np.empty((len(NAMES), pixels))
    for start in range(0, pixels, _PIXELS):
        part = draws[start : start + _PIXELS]
        sd = part.std(axis=1, ddof=1) if num_draws > 1 else np.zeros(part.shape[0])
        out[:, start : start + _PIXELS] = (part.mean(axis=1), sd, *np.quantile(part, QUANTILES, axis=1))
    return out


def images_of(draws: Float[np.ndarray, "draw ..."]) -> dict[str, np.ndarray]:
    """Compute the images that draws of a map make.

    Parameters
    ----------
    draws : Float[np.ndarray, "draw ..."]
        Images of the draws.

    Returns
    -------
    dict of str to np.ndarray
        By their names in `MassMap`.
    """
    found = statistics(draws.reshape(draws.shape[0], -1).T)
    return dict(zip(NAMES, found.reshape(len(NAMES), *draws.shape[1:]), strict=True))


# field of MassMap -> (extension, comment)
IMAGES = {
    "mean": ("MEAN", "posterior mean of the mass in a pixel"),
    "sampled_mean": ("MEAN_MC", "MEAN over the map draws, with their noise"),
    "sd": ("SD", "standard deviation over the map draws"),
    "q16": ("Q16", "16 % quantile over the map draws"),
    "q50": ("Q50", "50 % quantile over the map draws"),
    "q84": ("Q84", "84 % quantile over the map draws"),
    "nobj": ("NOBJ", "objects snapped to a pixel"),
}


def unit_of(mass_map, field: str) -> str:
    """Give the unit of an image as FITS writes it.

    Parameters
    ----------
    mass_map : MassMap
    field : str
        Its name in `MassMap`.

    Returns
    -------
    str
        Empty for counts of objects.
    """
    return "" if field == "nobj" else FITS_UNITS[mass_map.unit]


def image_of(mass_map, field) -> np.ndarray:
    """Give an image (or cube) of a map in the type that a file holds.

    Parameters
    ----------
    mass_map : MassMap
    field : str
        Its name in `MassMap`.

    Returns
    -------
    np.ndarray, (...,)

    Raises
    ------
    MassmapError
        An image of another shape than the grid's.
    """
    image, shape = np.asarray(getattr(mass_map, field)), tuple(mass_map.grid.shape)
    if image.shape != shape and image.shape[1:] != shape:
        raise MassmapError(f"image {field} has shape {image.shape}, but the grid has {shape}")
    if field == "nobj":
        return image.astype(np.int32)
    return image if image.dtype == np.float32 else image.astype(np.float64, copy=False)


class MassMap(eqx.Module):
    """Halo mass per pixel: images of its mean, its errors and its quantiles.

    Images are (ny, nx), row 0 at the bottom as in FITS. With redshift slices every image is a cube, (slice, ny, nx); on
    a HEALPix grid an image is (pixel,). Pixels outside the footprint hold NaN.

    Attributes
    ----------
    grid : PixelGrid or HealpixGrid
        The pixels.
    mean : Float[np.ndarray, "ny nx"]
        Sum of E[M_k], the relation averaged under the map's weights: free of Monte Carlo noise. In files MEAN.
    sampled_mean, sd, q16, q50, q84 : Float[np.ndarray, "ny nx"]
        Mean, standard deviation and quantiles over the map draws. `sampled_mean` is what sd and quantiles belong to,
        and differs from `mean` by the noise of the draws; in files MEAN_MC.
    nobj : Float[np.ndarray, "ny nx"]
        Objects in each pixel.
    total_draws : Float[np.ndarray, "draw"]
        Mass of the whole map [Msun], whatever the unit.
    draws : Float[np.ndarray, "draw ny nx"] or None
        Image of each map draw, where asked for.
    num_draws : int
        Map draws.
    relation_from : str or None
        Where the relation's draws come from, as in `mass_map`.
    mass_definition : str
        Of the masses.
    n_mapped, n_outside, n_flagged : int
        Objects on the map; outside the grid or without a position; without a mass.
    ess : float
        Effective number of relation draws behind the map.
    total_mass : float
        Sum of E[M_k] over the objects on the map [Msun], whatever the unit.
    form : MapForm
        What shaped the map; `unit`, `redshift_edges`, `footprint`, `fwhm_arcmin` and `halo_profile` are read from it.
    slice_mass : Float[np.ndarray, "slice"] or None
        `total_mass` of each redshift slice [Msun].
    slice_draws : Float[np.ndarray, "slice draw"] or None
        The same under each map draw.
    n_masked, n_beyond : int
        Objects in pixels outside the footprint; on the grid, but at redshifts beyond the slices.
    prior_cosmology : str or None
        Cosmology that the mass prior states.

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
    >>> bool((field.sd[field.nobj > 0] > 0).all()), field.total_sd > 0
    (True, True)
    >>> field.mass_definition, field.cosmology
    ('200m', 'Planck18')
    """

    grid: SkyPixels
    mean: np.ndarray
    sampled_mean: np.ndarray
    sd: np.ndarray
    q16: np.ndarray
    q50: np.ndarray
    q84: np.ndarray
    nobj: np.ndarray
    total_draws: np.ndarray
    draws: np.ndarray | None
    n_outside: int = eqx.field(static=True)
    n_flagged: int = eqx.field(static=True)
    num_draws: int = eqx.field(static=True)
    ess: float = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    mass_definition: str = eqx.field(static=True)
    total_mass: float = eqx.field(static=True)
    form: MapForm = MapForm()
    slice_mass: np.ndarray | None = None
    slice_draws: np.ndarray | None = None
    n_mapped: int = eqx.field(static=True, default=0)
    n_masked: int = eqx.field(static=True, default=0)
    n_beyond: int = eqx.field(static=True, default=0)
    prior_cosmology: str | None = eqx.field(static=True, default=None)

    def _repr_html_(self) -> str:
        """What a notebook shows: total mass, pixels and what shaped the map."""
        rows = [
            ("total mass", f"{self.total_mass:.4e} ± {self.total_sd:.2e} Msun"),
            ("masses", f"{self.mass_definition}, without h"),
            ("objects", f"{self.n_mapped:,} on the map, {self.n_outside:,} outside, {self.n_flagged:,} without a mass"),
            ("pixels", self.grid.describe()),
            ("unit of the images", self.unit),
            ("map draws", f"{self.num_draws:,}, of {self.ess:.0f} effective relation draws"),
        ]
        rows += [("smoothed to", f"{self.fwhm_arcmin:g} arcmin FWHM")] if self.fwhm_arcmin is not None else []
        rows += [("halos", f"projected {self.halo_profile.upper()} profiles")] if self.halo_profile is not None else []
        if self.redshift_edges is not None:
            rows.append(("redshift slices", ", ".join(f"{edge:g}" for edge in self.redshift_edges)))
        return html_summary("MassMap", None, rows)

    @property
    def unit(self) -> str:
        """Unit of the images: "Msun", "Msun/arcmin2" or "Msun/Mpc2" (proper)."""
        return self.form.unit

    @property
    def cosmology(self) -> str | None:
        """Cosmology of distances, halo radii and the mass prior, as text; None where neither states one."""
        return self.form.distances or self.prior_cosmology

    @property
    def redshift_edges(self) -> tuple[float, ...] | None:
        """Edges of the redshift slices, one more than there are slices, or None."""
        return self.form.redshift_edges

    @property
    def footprint(self) -> np.ndarray | None:
        """Pixels that were observed, (ny, nx) or (pixel,); None for all."""
        return self.form.footprint

    @property
    def fwhm_arcmin(self) -> float | None:
        """FWHM of the Gaussian that smoothed the images [arcmin], or None."""
        return self.form.fwhm_arcmin

    @property
    def halo_profile(self) -> str | None:
        """How halos are drawn: "nfw" at their own size, None as points."""
        return self.form.halo_profile

    @property
    def total_sd(self) -> float:
        """Standard deviation of the total mass over the map draws [Msun]; 0 for a map without error bars."""
        return float(np.std(self.total_draws, ddof=1)) if self.num_draws > 1 else 0.0


def one_slice(mass_map: "MassMap", number: int) -> "MassMap":
    """Take one redshift slice of a map as a map of its own.

    Parameters
    ----------
    mass_map : MassMap
        With redshift slices.
    number : int
        Of the slice, from 0.

    Returns
    -------
    MassMap
        Its `redshift_edges` are the slice's own two, and `n_beyond` counts the objects in other slices too.

    Raises
    ------
    MassmapError
        A map without slices, or without this one.
    """
    edges = _edges(mass_map)
    if not 0 <= number < len(edges) - 1:
        raise MassmapError(f"there is no slice {number}: this map has {len(edges) - 1}, from 0")
    return replace(
        mass_map,
        **{name: getattr(mass_map, name)[number] for name in IMAGES},
        draws=None if mass_map.draws is None else mass_map.draws[:, number],
        total_draws=mass_map.slice_draws[number],
        total_mass=float(mass_map.slice_mass[number]),
        n_mapped=(mapped := int(mass_map.nobj[number].sum())),
        n_beyond=mass_map.n_beyond + mass_map.n_mapped - mapped,
        form=replace(mass_map.form, redshift_edges=edges[number : number + 2]),
        slice_mass=None,
        slice_draws=None,
    )


def sum_of_slices(mass_map: "MassMap") -> "MassMap":
    """Add all redshift slices of a map, draw by draw, since errors of slices are common.

    Parameters
    ----------
    mass_map : MassMap
        With redshift slices and draws.

    Returns
    -------
    MassMap
        Of one slice, from the lowest to the highest edge.

    Raises
    ------
    MassmapError
        A map without slices or without draws.
    """
    edges = _edges(mass_map)
    if mass_map.draws is None:
        raise MassmapError("this map holds no draws, and slices are added draw by draw: make it with keep_draws=True")
    draws = mass_map.draws.sum(axis=1)
    return replace(
        mass_map,
        mean=mass_map.mean.sum(axis=0),
        nobj=mass_map.nobj.sum(axis=0),
        **images_of(draws),
        draws=draws,
        form=replace(mass_map.form, redshift_edges=(edges[0], edges[-1])),
        slice_mass=None,
        slice_draws=None,
    )


def _edges(mass_map) -> tuple[float, ...]:
    if mass_map.slice_draws is None:
        raise MassmapError("this map has no redshift slices: make it with redshift_edges")
    return mass_map.redshift_edges
