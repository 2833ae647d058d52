"""Maps of halo mass with coherent errors: `mass_map(...) -> MassMap`.

A pixel is a sum over objects whose relation error is common. One map draw therefore fixes ONE relation draw and draws
every halo's mass from its posterior under that relation. (Adding up draws from each halo's relation-averaged marginal
would make the error of a sum of N halos too small, by 10 times for 10^5 of them.) The map holds catalogued mass only.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from massmap_jax import devices
from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import (
    check_concentration_scatter,
    check_fwhm,
    check_halo_profile,
    check_map_unit,
    check_redshift_edges,
)
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, concentration_key, overdensity
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.maps.draws import MassDraws
from massmap_jax.maps.extended_halos import HaloProfiles, largest_radius
from massmap_jax.maps.pixels import PixelGrid, SkyPixels
from massmap_jax.maps.smoothing import smoothed
from massmap_jax.maps.statistics import statistics
from massmap_jax.maps.units import MASS, PER_MPC2, object_areas
from massmap_jax.memory import check_memory
from massmap_jax.posterior import kernel as _halos
from massmap_jax.posterior.result import (
    RelationFrom,
    check_relation_from,
    flag_outside_prior,
    mass_posterior,
)
from massmap_jax.prior.mass_prior import MassPrior

# Fewer effective relation draws than this cannot carry a joint error bar.
LEAST_ESS = 100.0
# Masses to draw above which a table of quantiles takes less time to make (3 s) than it saves (1 us each).
TABLE_PAYS = 3_000_000
# Images of float64 alive at once while a map is finished, counts and places among them.
_IMAGES = 15
# Layers of halo profiles that a pixel has mass in, for the memory of a map with such.
_LAYERS = 4
# Why an object is in no pixel: outside the grid (as `index` says), masked, or beyond the redshift slices.
_OUTSIDE, _MASKED, _BEYOND = -1, -2, -3


class MassMap(eqx.Module):
    """Summed halo mass per pixel; images (ny, nx), row 0 at the bottom as in FITS.

    With redshift slices every image is a cube, (slice, ny, nx); on a HEALPix grid an image is (pixel,). Pixels outside
    the footprint hold NaN.

    Attributes
    ----------
    mean : sum of E[M_k], the relation averaged under the map's weights (Rao-Blackwellised: no Monte Carlo noise).
    sampled_mean, sd, q16, q50, q84 : over the map draws.
    nobj : objects in each pixel.
    total_draws : (map draw,) mass of the whole map, Msun whatever the unit.
    draws : (map draw, ny, nx) where asked for, else None.
    num_draws, relation_from : of the draws. mass_definition : of the masses.
    n_mapped, n_outside, n_flagged : objects on the map; outside the grid (or without a position); without a mass.
    ess : effective number of relation draws behind the map.
    total_mass : sum of E[M_k] over the objects on the map, Msun whatever the unit.
    unit : of the images, "Msun", "Msun/arcmin2" or "Msun/Mpc2" (proper; `map_units`). cosmology : of the latter.
    redshift_edges : of the slices, one more than there are, or None. slice_mass : (slice,) `total_mass` of each, Msun;
        slice_draws : (slice, map draw) the same under each map draw.
    footprint : (ny, nx) pixels that were observed, or None for all.
    n_masked, n_beyond : objects in pixels outside the footprint; on the grid, but at redshifts beyond the slices.
    fwhm_arcmin : of the Gaussian that smoothed the images, or None.
    halo_profile : "nfw" where objects are drawn at their own size, None where they are points.
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
    unit: str = eqx.field(static=True, default=MASS)
    cosmology: str | None = eqx.field(static=True, default=None)
    redshift_edges: tuple[float, ...] | None = eqx.field(static=True, default=None)
    slice_mass: np.ndarray | None = None
    slice_draws: np.ndarray | None = None
    footprint: np.ndarray | None = None
    n_mapped: int = eqx.field(static=True, default=0)
    n_masked: int = eqx.field(static=True, default=0)
    n_beyond: int = eqx.field(static=True, default=0)
    fwhm_arcmin: float | None = eqx.field(static=True, default=None)
    halo_profile: str | None = eqx.field(static=True, default=None)

    @property
    def total_sd(self) -> float:
        """Standard deviation of the total mass over the map draws, Msun; 0 for a map without error bars."""
        return float(np.std(self.total_draws, ddof=1)) if self.num_draws > 1 else 0.0


def mass_map(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    grid: SkyPixels,
    *,
    relation_from: RelationFrom | None = None,
    num_draws: int = 100,
    keep_draws: bool = False,
    chunk_size: int | None = None,
    selection=None,
    posterior=None,
    draws: Literal["auto", "exact", "table"] = "auto",
    redshift_edges=None,
    footprint=None,
    unit: str = MASS,
    cosmology="Planck18",
    fwhm_arcmin: float | None = None,
    halo_profile: Literal["nfw"] | None = None,
    concentration_scatter: float = SCATTER_LN,
) -> MassMap:
    """Draws of the mass field on a pixel grid, every object snapped to its pixel or drawn about it at its own size.

    Parameters
    ----------
    key : one relation draw per map draw, and per-object normals keyed by the object's id.
    catalogue, prior, relation : as in `mass_posterior`; the catalogue with positions.
    grid : pixels; `PixelGrid.fit(catalogue.ra, catalogue.dec)` or `HealpixGrid.fit` covers the field.
    relation_from : as in `mass_posterior`. With "other_data" the whole catalogue updates the relation draws, with
        weights proportional to the product of Z_k over all objects; refused where fewer than 100 draws survive.
    num_draws : map draws.
    keep_draws : keep the (num_draws, ny, nx) images.
    chunk_size, selection : as in `mass_posterior`.
    posterior : what `mass_posterior` returned for the same arguments, to spare computing it again.
    draws : "exact" integrates each object under each draw's relation; "table" looks its mass up in the prior's
        tabulated quantile function (within 0.002 of the posterior's sd, rms); "auto" takes the table above 3 million
        masses.
    redshift_edges : of slices [z_i, z_i+1), the last closed: the map is then a cube, all slices from the same draws.
    footprint : (ny, nx) boolean, the pixels observed: the others are NaN, and objects there are counted, not mapped.
    unit : "Msun" in a pixel, "Msun/arcmin2", or "Msun/Mpc2" (proper, at each object's redshift; `map_units`).
    cosmology : for distances, a name or text as in `prior_hmf`, or a flat astropy LambdaCDM.
    fwhm_arcmin : smooth every draw by a Gaussian of this FWHM (`map_smoothing.smoothed`), so that sd and quantiles
        are those of the smoothed map.
    halo_profile : "nfw": each object is the projected NFW profile of its drawn mass, cut at the radius of its mass
        definition, about the centre of its pixel (`halo_profiles`; its enclosed mass is right to 0.04 of the halo's
        mass for c >= 3). Mass beyond the rim is spread over the pixels inside, as with `fwhm_arcmin`.
    concentration_scatter : of ln c about the mean of Duffy et al. 2008; the same draws as `convergence_map`'s.

    Raises
    ------
    MassmapError : no positions, non-lognormal noise, collapsed weights; a footprint of another shape, edges that do
        not rise, an object at redshift 0 per Mpc^2; a map that needs more memory than the machine has.
    """
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    form = {"redshift_edges": redshift_edges, "footprint": footprint, "unit": unit, "cosmology": cosmology}
    if posterior is not None and (posterior.method not in ("analytic", "surface") or posterior.extra is not None):
        raise MassmapError(
            f"the posterior given to mass_map (method {posterior.method!r}) is not the map's own: give one of method "
            "'analytic' without extra likelihoods, or none"
        )
    if posterior is not None and posterior.relation_from == "other_data":
        posterior = None  # its weights are each object's own
    if fwhm_arcmin is not None:
        check_fwhm(fwhm_arcmin)
    if halo_profile is not None:
        check_halo_profile(halo_profile, on_a_plane=isinstance(grid, PixelGrid))
        check_concentration_scatter(concentration_scatter)
        overdensity(prior.mass_definition, cosmology, np.zeros(1))  # refuses a mass without a radius
    _MapForm(grid, **form).check_memory(num_draws, _copies(keep_draws, fwhm_arcmin, halo_profile))
    chosen = chosen_draws(
        key,
        catalogue,
        prior,
        relation,
        relation_from=relation_from,
        num_draws=num_draws,
        draws=draws,
        selection=selection,
        chunk_size=chunk_size,
    )
    if posterior is None or chosen.relation_from == "other_data":
        # The draws' weights are settled, so each draw's posterior is normalised.
        posterior = mass_posterior(
            catalogue, prior, chosen.relation, relation_from="fixed_draws", chunk_size=chunk_size, selection=selection
        )
    layers = None
    if halo_profile is not None:
        settings = (prior.mass_definition, cosmology, concentration_key(key), concentration_scatter)
        layers = HaloProfiles(grid, _largest(posterior, grid, cosmology), *settings)
    sums = MapSums(grid, chosen.masses, layers, **form)
    sums.add(catalogue, posterior, chunk_size)
    return sums.finish(
        ess=chosen.ess, relation_from=chosen.relation_from, keep_draws=keep_draws, fwhm_arcmin=fwhm_arcmin
    )


class ChosenDraws(NamedTuple):
    """The draws of a map: `masses` draws every object under each map draw's relation; `relation` has the weights that
    the map draws were picked with, `ess` effective draws of them."""

    masses: MassDraws
    relation: Any
    relation_from: RelationFrom | None
    ess: float


def chosen_draws(
    key, catalogue, prior, relation, *, relation_from, num_draws, draws, selection=None, chunk_size=None
) -> ChosenDraws:
    """One relation draw per map draw, and the masses under each; arguments and errors as in `mass_map`.

    The same arguments give the same masses, whatever is made of them.
    """
    if draws not in ("auto", "exact", "table"):
        raise MassmapError(f"map draws {draws!r} are not known: give auto, exact or table")
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    relation_from = check_relation_from(relation, relation_from)
    relation = relation.as_batch()
    if relation_from == "other_data":
        selection = NoSelection() if selection is None else selection
        relation = _updated_by_all(catalogue, prior, relation, selection, chunk_size)
    if draws == "auto":
        draws = "table" if len(catalogue) * num_draws > TABLE_PAYS else "exact"
    key_relation, key_mass = jax.random.split(key)
    masses = MassDraws(prior, pick(key_relation, relation, num_draws), key_mass, draws)
    return ChosenDraws(masses, relation, relation_from, effective_draws(relation))


class _MapForm:
    """Which cell of the map an object belongs to, cells being pixels in every slice, and the area it is divided by.

    Arguments as in `mass_map`. shape : of an image or cube. footprint : (pixel,) boolean or None.
    """

    def __init__(self, grid: SkyPixels, *, redshift_edges=None, footprint=None, unit=MASS, cosmology="Planck18"):
        check_map_unit(unit)
        self.grid, self.unit, self.cosmology = grid, unit, cosmology
        self.edges = None if redshift_edges is None else check_redshift_edges(redshift_edges)
        self.footprint = None if footprint is None else _checked_footprint(footprint, grid.shape)
        self.num_slices = 1 if self.edges is None else self.edges.size - 1
        self.shape = grid.shape if self.edges is None else (self.num_slices, *grid.shape)
        self.num_cells = self.num_slices * grid.num_pixels

    def check_memory(self, num_draws: int, copies: int) -> None:
        """Refuse a map that does not fit into the machine; copies : of the images of all draws."""
        what, remedy = f"a map of {self.num_cells:,} pixels", "give larger pixels or a smaller field"
        if copies:
            what, remedy = f"{what} with the images of {num_draws:,} draws", f"{remedy}, or fewer draws"
        check_memory(8.0 * self.num_cells * (_IMAGES + copies * num_draws), what, remedy)

    def cells(self, catalogue) -> np.ndarray:
        """(halo,) cell of each object; negative where it has none."""
        if (catalogue.frame == "flat") != (self.grid.projection == "flat"):
            raise MassmapError(
                f"the catalogue's positions are {catalogue.frame} and the grid is {self.grid.projection}: offsets in "
                "arcmin need a flat grid, or a field_centre when they are read"
            )
        pixel = self.grid.index(catalogue.ra, catalogue.dec)
        if self.footprint is not None:
            pixel = np.where((pixel >= 0) & ~self.footprint[pixel], _MASKED, pixel)
        if self.edges is None:
            return pixel
        # Unusable redshifts are NaN, and no object with one is mapped.
        place = np.searchsorted(self.edges, catalogue.redshift, side="right") - 1
        place = np.where(catalogue.redshift == self.edges[-1], self.num_slices - 1, place)
        inside = (place >= 0) & (place < self.num_slices)
        return np.where(pixel < 0, pixel, np.where(inside, place * self.grid.num_pixels + pixel, _BEYOND))

    def areas(self, cells, redshift) -> np.ndarray:
        return object_areas(self.unit, self.grid, cells % self.grid.num_pixels, redshift, self.cosmology)


def _copies(keep_draws: bool, fwhm_arcmin: float | None, halo_profile: str | None = None) -> int:
    """Of the images of all draws: the plain ones, the smoothed ones beside them, and layers of profiles."""
    plain = int(keep_draws) if fwhm_arcmin is None else 2
    return plain if halo_profile is None else max(plain, 1) + _LAYERS


def _largest(posterior, grid, cosmology) -> float:
    """Radius [pixels] that hardly a draw exceeds."""
    rows = np.flatnonzero(posterior.usable & (posterior.catalogue.redshift > 0))
    ln_mass = np.minimum(posterior.mean[rows] + 4 * posterior.sd[rows], posterior.prior.ln_mass_max)
    redshift = posterior.catalogue.redshift[rows]
    return largest_radius(ln_mass, redshift, grid, posterior.prior.mass_definition, cosmology)


def _checked_footprint(footprint, shape) -> np.ndarray:
    mask = np.asarray(footprint)
    if mask.shape != tuple(shape) or mask.dtype != bool:
        raise MassmapError(
            f"the footprint is boolean with the grid's shape {tuple(shape)}, and this has shape {mask.shape} and type "
            f"{mask.dtype}: give True for each pixel observed"
        )
    if not mask.any():
        raise MassmapError(f"the footprint holds none of the {mask.size} pixels: there is nothing to map")
    return mask.ravel()


class MapSums:
    """The sums that a map is made of; parts of a catalogue may be added one after the other, in any memory.

    Further arguments as in `mass_map`. Cells are pixels, in every redshift slice where there are such, and all that in
    every layer of `halo_profiles.HaloProfiles` where the haloes have profiles.

    Attributes
    ----------
    pixels : (occupied,) cells that hold mass so far.
    sums : (occupied, map draw) mass (or density) under each map draw. mean : (cell,). nobj : (cell of one layer,).
    total, total_mean : (slice, map draw), (slice,) mass of the whole map, Msun.
    """

    def __init__(self, grid: SkyPixels, draws: MassDraws, layers: HaloProfiles | None = None, **form):
        self.grid, self.draws, self.layers, self.form = grid, draws, layers, _MapForm(grid, **form)
        self.form.check_memory(draws.num_draws, copies=0)
        cells, slices = self.form.num_cells, self.form.num_slices
        self.num_cells = cells * (1 if layers is None else layers.num_layers)
        self.place = np.full(self.num_cells, -1)
        self.pixels = np.zeros(0, dtype=int)
        self.sums = self._room = np.zeros((0, draws.num_draws))
        self.mean, self.nobj = np.zeros(self.num_cells), np.zeros(cells)
        self.total, self.total_mean = np.zeros((slices, draws.num_draws)), np.zeros(slices)
        self.n_outside = self.n_flagged = self.n_masked = self.n_beyond = 0

    def add(self, catalogue: HaloCatalogue, posterior, chunk_size: int | None = None) -> None:
        """Add objects; `posterior` is `mass_posterior`'s, of the same objects."""

        def draw(rows):
            return self.draws(_halos.of_catalogue(catalogue, None, rows), chunk_size)

        self.add_masses(catalogue, posterior.usable, posterior.mean_mass, draw)

    def add_masses(self, catalogue: HaloCatalogue, usable, mean_mass, draw) -> None:
        """Add objects whose masses come from elsewhere than `draws`.

        usable : (halo,) objects with a mass. mean_mass : (halo,) Msun. draw : rows (m,) of the catalogue -> pieces
        (places among those rows, ln M (place, map draw)) until all have come.
        """
        cell = self.form.cells(catalogue)
        on_map = usable & (cell >= 0)
        self.n_flagged += int((~usable).sum())
        self.n_outside += int((usable & (cell == _OUTSIDE)).sum())
        self.n_masked += int((usable & (cell == _MASKED)).sum())
        self.n_beyond += int((usable & (cell == _BEYOND)).sum())
        rows = np.flatnonzero(on_map)
        if rows.size == 0:
            return
        weight = 1.0 / self.form.areas(cell[rows], catalogue.redshift[rows])
        # Only occupied cells are stored for every draw: at most one per object (and layer), however fine the grid.
        self._make_room(np.unique(cell[rows]))
        np.add.at(self.nobj, cell[rows], 1.0)
        in_slice = cell // self.grid.num_pixels
        np.add.at(self.total_mean, in_slice[rows], mean_mass[rows])
        from scipy.sparse import csr_array  # slow to import

        # In the order of their cells, so that the sums of a chunk are neighbours.
        order = np.argsort(self.place[cell[rows]], kind="stable")
        rows, weight = rows[order], weight[order]
        if self.layers is None:
            np.add.at(self.mean, cell[rows], mean_mass[rows] * weight)
        else:
            shares = self.layers.of(catalogue.redshift[rows], catalogue.hashes[rows])
        for picked, ln_mass in draw(rows):
            # float64: sums over many objects.
            mass = np.exp(ln_mass, dtype=np.float64)
            number = np.arange(picked.size)
            shape = (self.form.num_slices, picked.size)
            self.total += csr_array((np.ones(picked.size), (in_slice[rows[picked]], number)), shape=shape) @ mass
            if self.layers is None:
                place, column = np.unique(self.place[cell[rows[picked]]], return_inverse=True)
                self.sums[place] += csr_array((weight[picked], (column, number))) @ mass
            else:
                shared = shares(picked, ln_mass)
                self._add_layers(cell[rows[picked]], weight[picked], mass, shared, mean_mass[rows[picked]])

    def _add_layers(self, cell, weight, mass, shares, mean_mass) -> None:
        """Mass (object, map draw) into every layer by its share; mean_mass by the share that its draws have in all."""
        from scipy.sparse import csr_array

        total = mass.sum(axis=1)
        touching = [np.flatnonzero(share.any(axis=1)) for share in shares]
        keys = [layer * self.form.num_cells + cell[touched] for layer, touched in enumerate(touching)]
        self._make_room(np.unique(np.concatenate(keys)))
        for share, touched, key in zip(shares, touching, keys, strict=True):
            if touched.size == 0:
                continue
            part = mass[touched] * share[touched]
            place, column = np.unique(self.place[key], return_inverse=True)
            self.sums[place] += csr_array((weight[touched], (column, np.arange(touched.size)))) @ part
            mean = mean_mass[touched] * part.sum(axis=1) / total[touched]
            np.add.at(self.mean, key, mean * weight[touched])

    def finish(
        self, *, ess: float, relation_from, keep_draws: bool = False, fwhm_arcmin: float | None = None
    ) -> MassMap:
        """The map of all objects added so far."""
        form, halo_profile = self.form, None if self.layers is None else "nfw"
        form.check_memory(self.draws.num_draws, _copies(keep_draws, fwhm_arcmin, halo_profile))

        def shaped(values):
            if form.footprint is not None:
                values.reshape(*values.shape[:-1], form.num_slices, -1)[..., ~form.footprint] = np.nan
            return values.reshape(*values.shape[:-1], *form.shape)

        def spread(values):
            filled = np.zeros((*values.shape[:-1], form.num_cells))
            filled[..., self.pixels] = values
            return shaped(filled)

        if self.layers is None:
            images, mean = spread(statistics(self.sums)), self.mean.copy()
            draws = spread(self.sums.T) if _copies(keep_draws, fwhm_arcmin) else None
        else:
            draws, mean = self._convolved(self.sums.T), self._convolved(self.mean[self.pixels][None])[0]
            images = shaped(statistics(draws.T))
            draws = shaped(draws) if _copies(keep_draws, fwhm_arcmin) else None
        sampled_mean, sd, q16, q50, q84 = images
        found = MassMap(
            grid=self.grid,
            mean=shaped(mean),
            sampled_mean=sampled_mean,
            sd=sd,
            q16=q16,
            q50=q50,
            q84=q84,
            nobj=self.nobj.reshape(form.shape),
            total_draws=self.total.sum(axis=0),
            draws=draws,
            n_outside=self.n_outside,
            n_flagged=self.n_flagged,
            num_draws=self.draws.num_draws,
            ess=ess,
            relation_from=relation_from,
            mass_definition=self.draws.prior.mass_definition,
            total_mass=float(self.total_mean.sum()),
            unit=form.unit,
            cosmology=str(form.cosmology) if form.unit == PER_MPC2 or self.layers is not None else None,
            redshift_edges=None if form.edges is None else tuple(form.edges.tolist()),
            slice_mass=None if form.edges is None else self.total_mean,
            slice_draws=None if form.edges is None else self.total,
            footprint=None if form.footprint is None else form.footprint.reshape(self.grid.shape),
            n_mapped=int(self.nobj.sum()),
            n_masked=self.n_masked,
            n_beyond=self.n_beyond,
            halo_profile=halo_profile,
        )
        return found if fwhm_arcmin is None else smoothed(found, fwhm_arcmin, keep_draws=keep_draws)

    def _convolved(self, values: np.ndarray) -> np.ndarray:
        """Values (draw, occupied cell) of all layers as images (draw, cell of one layer), the layers convolved.

        A density is spread as mass, then divided by the pixels' areas, as `map_smoothing` does.
        """
        form, area = self.form, 1.0
        if form.unit != MASS:
            area = self.grid.pixel_areas_arcmin2(np.arange(self.grid.num_pixels)).reshape(self.grid.shape)
        inside = None if form.footprint is None else form.footprint.reshape(self.grid.shape)
        plan = self.layers.plan(self.grid.shape, inside)
        out = np.empty((values.shape[0], form.num_cells))
        # Draws whose layers take as much memory as one image of each of all draws would.
        block = max(1, values.shape[0] // (2 * self.layers.num_layers))
        for start in range(0, values.shape[0], block):
            part = values[start : start + block]
            filled = np.zeros((part.shape[0], self.num_cells))
            filled[:, self.pixels] = part
            filled = filled.reshape(part.shape[0], self.layers.num_layers, form.num_slices, *self.grid.shape)
            for i in range(form.num_slices):
                image = self.layers.convolved(filled[:, :, i] * area, plan) / area
                here = slice(i * self.grid.num_pixels, (i + 1) * self.grid.num_pixels)
                out[start : start + block, here] = image.reshape(part.shape[0], -1)
        return out

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to go on from here."""
        counts = np.array([self.n_outside, self.n_flagged, self.n_masked, self.n_beyond])
        return {name: getattr(self, name) for name in _STATE} | {"counts": counts}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        for name in _STATE:
            setattr(self, name, state[name])
        self._room = self.sums
        self.n_outside, self.n_flagged, self.n_masked, self.n_beyond = (int(n) for n in state["counts"])
        self.place = np.full(self.num_cells, -1)
        self.place[self.pixels] = np.arange(self.pixels.size)

    def merge(self, other: "MapSums") -> None:
        """Add the sums of other objects, made on the same grid with the same map draws."""
        self._make_room(other.pixels)
        self.sums[self.place[other.pixels]] += other.sums
        for name in ("mean", "nobj", "total", "total_mean", "n_outside", "n_flagged", "n_masked", "n_beyond"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def _make_room(self, pixels: np.ndarray) -> None:
        new = pixels[self.place[pixels] < 0]
        if new.size:
            self.place[new] = self.pixels.size + np.arange(new.size)
            held, self.pixels = self.pixels.size, np.concatenate([self.pixels, new])
            if self.pixels.size > self._room.shape[0]:
                # Twice as much as is needed, so that a map that grows bit by bit is copied a few times only.
                self._room = np.zeros((2 * self.pixels.size, self.draws.num_draws))
                self._room[:held] = self.sums
            self.sums = self._room[: self.pixels.size]


_STATE = ("pixels", "sums", "mean", "nobj", "total", "total_mean")


def _ln_shares(relation) -> np.ndarray:
    log_weight = np.asarray(relation.log_weight, dtype=np.float64)
    peak = log_weight.max()
    return log_weight - (peak + np.log(np.exp(log_weight - peak).sum()))


def _updated_by_all(catalogue, prior, relation, selection, chunk_size):
    """The draws with weights W_j proportional to the product over objects of Z_k(j) / A; refused when they collapse."""
    rows = np.flatnonzero((flag_outside_prior(catalogue, prior) & UNUSABLE) == 0)
    halos = _halos.of_catalogue(catalogue, None, rows, need_keys=False)
    total = np.zeros(relation.num_draws)
    chunk_size = chunk_size or _halos.auto_chunk(relation)

    def kernel(i, low, high, **group):
        return _evidence_chunk(halos.take(i), low, high, prior, relation, selection, **group)

    for _, ln_evidence in _halos.run(kernel, halos, prior, relation, chunk_size):
        # float64: a float32 sum over 1e5 objects is off by 9.
        total += ln_evidence.astype(np.float64).sum(axis=0)
    updated = eqx.tree_at(lambda r: r.log_weight, relation, np.asarray(relation.log_weight, dtype=np.float64) + total)
    ess = effective_draws(updated)
    if ess < LEAST_ESS:
        raise MassmapError(
            f"the {relation.num_draws} relation draws collapse to {ess:.1f} effective ones when all {rows.size} "
            f"objects update them jointly, and a map needs {LEAST_ESS:.0f}: fit the relation with these draws as prior "
            "and use relation_from='this_catalogue', or do not let the objects update it, relation_from='fixed_draws'"
        )
    return updated


def effective_draws(relation) -> float:
    """Effective number of draws under the weights."""
    return float(1 / np.exp(2 * _ln_shares(relation)).sum())


def pick(key, relation, num_draws):
    """The relation of each map draw, stratified: every draw is used as evenly as its weight allows."""
    cumulative = np.cumsum(np.exp(_ln_shares(relation)))
    places = (np.arange(num_draws) + np.asarray(jax.random.uniform(key, (num_draws,)), dtype=np.float64)) / num_draws
    index = np.searchsorted(cumulative, places * cumulative[-1], side="right")
    return relation.draw(np.minimum(index, cumulative.size - 1))


@devices.over_halos("halos", "low", "high", static=("num_panels", "wide", "kind"))
def _evidence_chunk(halos, low, high, prior, relation, selection, **group):
    """ln Z / A of each object under each draw; (halo, draw)."""
    settings = {"method": "analytic", "normalise": True, "num_lum": 1, **group}
    norm, key = prior.norm_coefficients(), jax.random.key(0)

    def one(halo, low, high):
        panel = _halos.mixture_panel(halo, low, high, prior, norm, relation, selection, key, **settings)
        return panel.ln_evidence - jax.vmap(lambda r: selection.log_norm(r, prior, halo.z[0], halo.sigma))(relation)

    return jax.vmap(one, (halos.axes(), 0, 0))(halos, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))
