"""Weak lensing by the catalogued halos: `convergence_map(...) -> ConvergenceMap`, from the draws of a mass map.

kappa = Sigma / Sigma_crit, every halo an NFW or truncated NFW profile of its drawn mass, its concentration drawn about
a published relation. A map draw has the masses that `mass_map` draws with the same key, so the two agree draw by draw.
Only catalogued halos lens here: kappa is that of the objects, not of all matter along the line of sight. A pixel has
the value at its centre, but of a halo that lies in the pixel kappa's mean over the pixel's area (`cusp`).
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom, check_concentration_scatter, check_source_redshift
from massmap_jax.errors import MassmapError
from massmap_jax.halo import profiles
from massmap_jax.halo.concentration import SCATTER_LN, concentration_key, drawn_ln_concentration
from massmap_jax.halo.cosmology import angular_diameter_distance, critical_surface_density, overdensity
from massmap_jax.labels import Labels, check_labels
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.maps.cusp import mean_over_pixel
from massmap_jax.maps.images import images_of
from massmap_jax.maps.mass_map import chosen_samples
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.memory import check_memory
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.several import names_of

# Halo windows are squares of 2^k pixels, so that a handful of shapes is compiled.
_SMALLEST = 8
# Haloes in a compiled call: whole blocks of the larger, the rest in the smaller.
_BLOCKS = (2048, 64)
_COMPONENTS = ("kappa", "gamma1", "gamma2")


class ConvergenceMap(eqx.Module):
    """Convergence (and shear) of catalogued halos; images (ny, nx), row 0 at the bottom, values at pixel centres.

    Only the kappa of a halo whose centre lies in the pixel is the mean over the pixel's area, as the value at a halo's
    centre is not finite, and near it depends on where in the pixel the halo happens to lie.

    gamma1 > 0 stretches along the image's x, gamma2 > 0 along the diagonal of x and y. (On a tangent plane x grows to
    the west: measured from an x axis to the east, gamma2 has the other sign.)

    Attributes
    ----------
    grid : PixelGrid
        The pixels.
    mean, sd, q16, q50, q84 : Float[np.ndarray, "ny nx"]
        Of kappa over the map draws.
    draws : Float[np.ndarray, "draw ny nx"] or None
        Kappa of each map draw, where asked for.
    gamma1_mean, gamma1_sd, gamma2_mean, gamma2_sd : Float[np.ndarray, "ny nx"] or None
        Of the shear over the map draws, where asked for.
    source_redshift : float
        As in `convergence_map`.
    mass_definition : str
        Of the masses.
    cosmology : str
        Of distances and densities.
    profile : str
        As in `convergence_map`.
    truncation : float or None
        As in `convergence_map`.
    reach : float
        As in `convergence_map`.
    neglected : float
        Largest sum, over draws, of what every halo's kappa is at the rim where it is cut: the bound on what the cut
        leaves out of a pixel.
    n_lenses, n_behind, n_outside, n_flagged : int
        Objects in the map's draws; at or behind the source; too far off the map to touch it, or without a position;
        without a mass.
    num_draws : int
        Map draws.
    mean_subtracted : bool
        Whether each draw's mean over the map was taken off.
    """

    grid: PixelGrid
    mean: np.ndarray
    sd: np.ndarray
    q16: np.ndarray
    q50: np.ndarray
    q84: np.ndarray
    draws: np.ndarray | None
    gamma1_mean: np.ndarray | None
    gamma1_sd: np.ndarray | None
    gamma2_mean: np.ndarray | None
    gamma2_sd: np.ndarray | None
    source_redshift: float = eqx.field(static=True)
    mass_definition: str = eqx.field(static=True)
    cosmology: str = eqx.field(static=True)
    profile: str = eqx.field(static=True)
    truncation: float | None = eqx.field(static=True)
    reach: float = eqx.field(static=True)
    neglected: float = eqx.field(static=True)
    n_lenses: int = eqx.field(static=True)
    n_behind: int = eqx.field(static=True)
    n_outside: int = eqx.field(static=True)
    n_flagged: int = eqx.field(static=True)
    num_draws: int = eqx.field(static=True)
    mean_subtracted: bool = eqx.field(static=True)


def convergence_map(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    grid: PixelGrid,
    source_redshift: float,
    *,
    relation_from: RelationFrom | None = None,
    num_draws: int = 100,
    profile: Literal["bmo1", "nfw"] = "bmo1",
    truncation: float = 2.6,
    reach: float = 10.0,
    concentration_scatter: float = SCATTER_LN,
    cosmology: Any = "Planck18",
    shear: bool = False,
    subtract_mean: bool = False,
    keep_draws: bool = False,
    selection=None,
    extra: TabulatedTerm | None = None,
    draws: Literal["auto", "exact", "table"] = "auto",
    chunk_size: int | None = None,
) -> ConvergenceMap:
    """Draw the convergence of the catalogued halos for sources at one redshift.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key; the same as `mass_map`'s gives the same masses.
    catalogue : HaloCatalogue
        Objects with positions on the sky.
    prior : MassPrior
        Mass prior; its `mass_definition` says what its masses are.
    relation : Relation
        One relation, or a batch of draws.
    grid : PixelGrid
        Pixels on the sky. Separations are those in its tangent plane: too long by the square of the distance from the
        centre, 0.03 % at 1 deg and 3 % at 10 deg.
    source_redshift : float
        Of the sources; halos at or behind it do not lens.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `mass_map`.
    num_draws : int
        Map draws.
    profile : {"bmo1", "nfw"}
        "bmo1" is truncated smoothly, "nfw" not at all.
    truncation : float
        Truncation radius of "bmo1" over the halo's radius (2.6 is the mean of Oguri & Hamana 2011, MNRAS 414, 1851, for
        virial radii).
    reach : float
        A halo is drawn out to this many halo radii (of its mass definition) and not beyond; `neglected` bounds what is
        left out.
    concentration_scatter : float
        Of ln c about the mean of Duffy et al. 2008, keyed by object and map draw; 0 for none.
    cosmology : str or astropy.cosmology.FLRW
        Of distances and densities: a name or text as in `massmap_jax.halo.cosmology`, or a flat LambdaCDM.
    shear : bool
        Make gamma1 and gamma2 too.
    subtract_mean : bool
        Take each draw's mean over the map off, as maps made from shears lack it.
    keep_draws : bool
        Keep kappa of every draw.
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
        As in `mass_map`.
    extra : TabulatedTerm, optional
        As in `mass_map`.
    draws : {"auto", "exact", "table"}
        As in `mass_map`.
    chunk_size : int, optional
        As in `mass_map`.

    Returns
    -------
    ConvergenceMap
        Images of kappa, and of the shear where asked for.

    Raises
    ------
    MassmapError
        No positions, a flat or HEALPix grid, a source in front of every halo, a prior whose mass definition has no
        radius, images that need more memory than the machine has; and as in `mass_map`.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> grid = mm.PixelGrid.fit(clusters.ra, clusters.dec)
    >>> kappa = mm.convergence_map(jax.random.key(0), clusters, prior, relation, grid, 1.0, num_draws=4)
    >>> kappa.mean.shape == grid.shape, kappa.n_lenses, bool(kappa.mean.max() > 0.01)
    (True, 2, True)
    """
    check_kinds("convergence_map", key=key, catalogue=catalogue, prior=prior, relation=relation, grid=grid)
    check_labels(map=Labels("the convergence map", cosmology=cosmology), mass_prior=prior)
    _check(catalogue, grid, source_redshift, profile, truncation, reach, concentration_scatter)
    refuse_uncertain(catalogue, "a convergence map")
    if extra is not None:
        extra.check_rows(len(catalogue))
    catalogue = catalogue.seen_by(names_of(relation))
    parts = len(_COMPONENTS) if shear else 1
    check_memory(
        8.0 * grid.num_pixels * (2 * parts * num_draws + 15),
        f"a map of {grid.num_pixels:,} pixels with the images of {num_draws:,} draws",
        "give larger pixels, a smaller field or fewer draws",
    )
    usable = (flag_outside_prior(catalogue, prior) & UNUSABLE) == 0
    in_front = _in_front(catalogue, usable, source_redshift)
    rows, x, y = _near_map(catalogue, grid, in_front)
    chosen = chosen_samples(
        key,
        catalogue,
        prior,
        relation,
        relation_from=relation_from,
        num_draws=num_draws,
        draws=draws,
        selection=selection,
        extra=extra,
        chunk_size=chunk_size,
    )
    redshift, shape = catalogue.redshift[rows], (profile, truncation, reach)
    lenses = Lenses.of(redshift, x, y, grid, source_redshift, prior.mass_definition, cosmology, *shape)
    key_concentration = concentration_key(key)
    images = np.zeros((num_draws, parts, *grid.shape))
    neglected, touching = np.zeros(num_draws), np.zeros(rows.size, dtype=bool)
    for picked, ln_mass in chosen.masses(Objects.of(catalogue, rows, prior, extra), chunk_size):
        part, ln_mass = lenses.take(picked), np.asarray(ln_mass, dtype=np.float64)
        hashes = catalogue.hashes[rows[picked]]
        ln_c = drawn_ln_concentration(
            key_concentration, hashes, ln_mass, part.redshift, prior.mass_definition, cosmology, concentration_scatter
        )
        shapes = part.shapes(ln_mass, ln_c)
        for draw in range(num_draws):
            touching[picked] |= add_profiles(images[draw], part, shapes.of_draw(draw), profile)
        neglected += shapes.rim.sum(axis=0)
    if subtract_mean:
        images[:, 0] -= images[:, 0].mean(axis=(1, 2), keepdims=True)
    found = images_of(images[:, 0])
    spread = [(images[:, i].mean(axis=0), images[:, i].std(axis=0, ddof=1)) for i in range(1, parts)]
    (gamma1, gamma2) = spread if shear else ((None, None), (None, None))
    return ConvergenceMap(
        grid=grid,
        mean=found["sampled_mean"],
        **{name: found[name] for name in ("sd", "q16", "q50", "q84")},
        draws=images[:, 0].copy() if keep_draws else None,
        gamma1_mean=gamma1[0],
        gamma1_sd=gamma1[1],
        gamma2_mean=gamma2[0],
        gamma2_sd=gamma2[1],
        source_redshift=float(source_redshift),
        mass_definition=prior.mass_definition,
        cosmology=str(cosmology),
        profile=profile,
        truncation=float(truncation) if profile == "bmo1" else None,
        reach=float(reach),
        neglected=float(neglected.max()),
        n_lenses=int(touching.sum()),
        n_behind=int((usable & ~in_front).sum()),
        n_outside=int(in_front.sum() - touching.sum()),
        n_flagged=int((~usable).sum()),
        num_draws=num_draws,
        mean_subtracted=subtract_mean,
    )


class Shapes(NamedTuple):
    """Profiles of some halos, (halo,) or (halo, draw) each: kappa = amplitude * sigma(R / scale; tau) out to `radius`,
    pixels; `rim` is its value there."""

    amplitude: np.ndarray
    scale: np.ndarray
    tau: np.ndarray
    radius: np.ndarray
    rim: np.ndarray

    def of_draw(self, draw: int) -> "Shapes":
        return Shapes(*(a[:, draw] for a in self))


class Lenses(NamedTuple):
    """What the halos' places fix, (halo,) each, whatever their masses.

    x, y : pixel coordinates. per_pixel : Mpc (proper) in a pixel at the halo. sigma_crit : Msun / Mpc^2.
    density : mean density inside a halo's radius, Msun / Mpc^3.
    """

    redshift: np.ndarray
    x: np.ndarray
    y: np.ndarray
    per_pixel: np.ndarray
    sigma_crit: np.ndarray
    density: np.ndarray
    profile: str
    truncation: float
    reach: float

    @classmethod
    def of(cls, redshift, x, y, grid, source_redshift, mass_definition, cosmology, profile, truncation, reach):
        return cls(
            redshift,
            x,
            y,
            angular_diameter_distance(cosmology, redshift) * np.radians(grid.pixel_arcmin / 60),
            critical_surface_density(cosmology, redshift, source_redshift),
            overdensity(mass_definition, cosmology, redshift),
            profile,
            truncation,
            reach,
        )

    def take(self, rows) -> "Lenses":
        return Lenses(*(a[rows] for a in self[:6]), *self[6:])

    def shapes(self, ln_mass, ln_c) -> Shapes:
        """Compute the profiles of halos.

        Parameters
        ----------
        ln_mass : Float[np.ndarray, "halo draw"]
            ln of the mass [ln Msun]; (halo,) for one draw.
        ln_c : Float[np.ndarray, "halo draw"]
            ln of the concentration.

        Returns
        -------
        Shapes
        """
        density, sigma_crit, per_pixel = (
            a.reshape(-1, *(1,) * (ln_mass.ndim - 1)) for a in (self.density, self.sigma_crit, self.per_pixel)
        )
        mass, c = np.exp(ln_mass), np.exp(ln_c)
        radius = np.cbrt(3 * mass / (4 * np.pi * density))  # Mpc
        scale = radius / c
        with jax.enable_x64(True):
            within, rim = (np.asarray(a) for a in _of_concentration(c, self.truncation, self.reach, self.profile))
        # M = 4 pi rho_s r_s^3 m(c), so 2 rho_s r_s = M / [2 pi r_s^2 m(c)].
        amplitude = mass / (2 * np.pi * scale**2 * within) / sigma_crit
        return Shapes(
            amplitude, scale / per_pixel, self.truncation * c, self.reach * radius / per_pixel, amplitude * rim
        )


def add_profiles(images: Float[np.ndarray, "part ny nx"], lenses: Lenses, shapes: Shapes, profile: str) -> np.ndarray:
    """Add every halo's kappa, and its shear where there are images for it, to images in place.

    Parameters
    ----------
    images : Float[np.ndarray, "part ny nx"]
        Kappa, or kappa, gamma1 and gamma2.
    lenses : Lenses
    shapes : Shapes
        Of one draw.
    profile : {"bmo1", "nfw"}

    Returns
    -------
    Bool[np.ndarray, "halo"]
        Which halos touch the map.
    """
    parts, ny, nx = images.shape
    reach, x, y = shapes.radius, lenses.x, lenses.y
    touching = (x + reach > 0) & (x - reach < nx - 1) & (y + reach > 0) & (y - reach < ny - 1)
    # However small, a halo on the map is in the pixel that holds it.
    touching |= (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    # The window that holds the circle about the pixel nearest to the halo.
    side = np.maximum(2 ** np.ceil(np.log2(2 * reach + 3)), _SMALLEST).astype(int)
    whole = int(2 ** np.ceil(np.log2(2 * max(ny, nx))))
    for width in np.unique(np.minimum(side[touching], whole)):
        # Where the window would be larger than twice the map, it is the map.
        picked = np.flatnonzero(touching & (np.minimum(side, whole) == width))
        if width == whole:
            corner = np.zeros((picked.size, 2), dtype=int)
            shape, padding = (ny, nx), 0
        else:
            padding = int(width)
            middle = np.floor(np.stack([y[picked], x[picked]], axis=1) + 0.5).astype(int)
            corner = middle - width // 2 + padding
            shape = (int(width), int(width))
        place = np.stack([y[picked], x[picked]], axis=1) + padding - corner  # in the window
        values = np.column_stack([place, *(a[picked] for a in shapes[:4])])
        # A last row that adds nothing, for `_blocks` to fill up with.
        values = np.concatenate([values, [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]])
        corner = np.concatenate([corner, np.zeros((1, 2), dtype=int)])
        padded = tuple(jnp.zeros((parts, ny + 2 * padding, nx + 2 * padding)))
        for block in _blocks(picked.size):
            columns = tuple(values[block].astype(padded[0].dtype).T)
            padded = _add_windows(padded, corner[block], (*columns, _cusps(*columns, profile)), shape, profile)
        inner = slice(padding, padding + ny), slice(padding, padding + nx)
        for image, one in zip(images, padded, strict=True):
            image += np.asarray(one)[inner]
    return touching


def _blocks(number: int):
    """Index arrays of two lengths that cover 0 .. number - 1; -1 fills the last."""
    start, large = 0, _BLOCKS[0]
    while start < number:
        size = large if number - start >= large else _BLOCKS[1]
        block = np.arange(start, start + size)
        yield np.where(block < number, block, -1) if size == _BLOCKS[1] else block
        start += size


@partial(jax.jit, static_argnames="profile")
def _cusps(y, x, amplitude, scale, tau, radius, profile):
    """Mean of sigma over the pixel that holds each halo, (halo,); its `amplitude` is not in it."""

    def one(y, x, scale, tau, radius):
        off = y - jnp.floor(y + 0.5), x - jnp.floor(x + 0.5)
        return mean_over_pixel(*off, radius, lambda r: _mean_sigma(r / scale, tau, profile))

    return jax.vmap(one)(y, x, scale, tau, radius)


def _mean_sigma(x, tau, profile):
    return profiles.bmo_mean_sigma(x, tau) if profile == "bmo1" else profiles.nfw_mean_sigma(x)


@partial(jax.jit, static_argnames=("shape", "profile"), donate_argnums=0)
def _add_windows(images, corners, values, shape, profile):
    """Profiles in windows of one shape added to padded images one after the other, in place."""
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])[None, :]

    def add(images, halo):
        corner, (y, x, amplitude, scale, tau, radius, cusp) = halo
        dy, dx = rows - y, columns - x
        square = dy**2 + dx**2
        # The shear in a pixel whose centre is the halo's place is that 1e-3 of a pixel off, and so is not infinite.
        distance = jnp.sqrt(jnp.maximum(square, 1e-6))
        inside = jnp.where(distance < radius, amplitude, 0.0)
        u = distance / scale
        sigma = profiles.bmo_sigma(u, tau) if profile == "bmo1" else profiles.nfw_sigma(u)
        holds = (rows == jnp.floor(y + 0.5)) & (columns == jnp.floor(x + 0.5))
        found = [jnp.where(holds, amplitude * cusp, sigma * inside)]
        if len(images) > 1:
            mean = _mean_sigma(u, tau, profile)
            # The barrier keeps XLA from repeating all of it for each part.
            sigma, mean = jax.lax.optimization_barrier((sigma, mean))
            tangential = inside * (mean - sigma) / jnp.maximum(square, 1e-6)
            found += [-tangential * (dx**2 - dy**2), -tangential * 2 * dx * dy]
        windows = [jax.lax.dynamic_slice(image, corner, shape) + one for image, one in zip(images, found, strict=True)]
        return tuple(map(jax.lax.dynamic_update_slice, images, windows, (corner,) * len(windows))), None

    return jax.lax.scan(add, images, (corners, values))[0]


@partial(jax.jit, static_argnums=3)
def _of_concentration(c, truncation, reach, profile):
    """Mass within the halo's radius over 4 pi rho_s r_s^3, and sigma at the rim."""
    edge = reach * c
    rim = profiles.bmo_sigma(edge, truncation * c) if profile == "bmo1" else profiles.nfw_sigma(edge)
    return profiles.nfw_mass(c), rim


def check_lensing(catalogue: HaloCatalogue, source_redshift: float) -> None:
    """Refuse what no masses can mend, before they are inferred: flat positions, every halo behind the source.

    Parameters
    ----------
    catalogue : HaloCatalogue
    source_redshift : float

    Raises
    ------
    MassmapError
    """
    _check_plane(catalogue)
    _in_front(catalogue, catalogue.usable, source_redshift)


def _in_front(catalogue, usable, source_redshift) -> np.ndarray:
    in_front = usable & (catalogue.redshift < source_redshift) & (catalogue.redshift > 0)
    if usable.any() and not in_front.any():
        raise MassmapError(
            f"the source redshift {source_redshift:g} is in front of all {usable.sum()} halos, the nearest of which "
            f"has z = {catalogue.redshift[usable].min():g}: nothing is lensed; give a larger source redshift"
        )
    return in_front


def _near_map(catalogue, grid, chosen):
    """Rows within 90 degrees of the tangent point, and their pixel coordinates; those off the map may reach into it."""
    rows = np.flatnonzero(chosen)
    x, y = grid.project(catalogue.ra[rows], catalogue.dec[rows])
    known = np.isfinite(x) & np.isfinite(y)
    return rows[known], x[known], y[known]


def _check_plane(catalogue, grid=None):
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    on_plane = grid is None or (isinstance(grid, PixelGrid) and grid.projection != "flat")
    if catalogue.frame == "flat" or not on_plane:
        raise MassmapError(
            "a convergence map needs positions on the sky and a tangent-plane grid, PixelGrid.fit(ra, dec): read "
            "offsets in arcmin with a field_centre"
        )


def _check(catalogue, grid, source_redshift, profile, truncation, reach, scatter):
    _check_plane(catalogue, grid)
    if profile not in ("bmo1", "nfw"):
        raise MassmapError(f"profile {profile!r} is not known: give bmo1 or nfw")
    check_source_redshift(source_redshift)
    for name, value in (("truncation", truncation), ("reach", reach)):
        if not (np.isfinite(value) and value > 0):
            raise MassmapError(f"{name} is {value:g}: give a finite number above 0")
    check_concentration_scatter(scatter)
