"""`MapSums`: the sums that a map is made of, part by part of a catalogue."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.labels import labels_of
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.extended_halos import HaloProfiles
from massmap_jax.maps.form import BEYOND, MASKED, OUTSIDE, MapCells, MapForm
from massmap_jax.maps.images import MassMap, statistics
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.smoothing import smoothed
from massmap_jax.maps.units import MASS
from massmap_jax.steps import Step


class MapSums:
    """The sums that a map is made of; parts of a catalogue may be added one after the other, in any memory.

    Cells are pixels, in every redshift slice where there are such, and all that in every layer of `HaloProfiles` where
    the halos have profiles.

    Parameters
    ----------
    grid : PixelGrid or HealpixGrid
    samples : MassSamples
        The masses of each object under each map realisation.
    form : MapForm, optional
    layers : HaloProfiles, optional
        Where halos have profiles.

    Attributes
    ----------
    pixels : Int[np.ndarray, "occupied"]
        Cells that hold mass so far.
    sums : Float[np.ndarray, "occupied draw"]
        Mass (or density) under each map realisation.
    mean : Float[np.ndarray, "cell"]
    nobj : Float[np.ndarray, "cell"]
        Objects, by cell of one layer.
    total : Float[np.ndarray, "slice draw"]
        Mass of the whole map [Msun].
    total_mean : Float[np.ndarray, "slice"]
        Its mean [Msun].
    """

    def __init__(
        self, grid: SkyPixels, samples: MassSamples, form: MapForm | None = None, layers: HaloProfiles | None = None
    ):
        self.grid, self.samples, self.layers = grid, samples, layers
        self.form = MapForm() if form is None else form
        self.cells = MapCells(grid, self.form)
        self.cells.check_memory(samples.num_draws, copies=0)
        cells, slices = self.cells.num_cells, self.form.num_slices
        self.num_cells = cells * (1 if layers is None else layers.num_layers)
        self.place = np.full(self.num_cells, -1)
        self.pixels = np.zeros(0, dtype=int)
        self.sums = self._room = np.zeros((0, samples.num_draws))
        self.mean, self.nobj = np.zeros(self.num_cells), np.zeros(cells)
        self.total, self.total_mean = np.zeros((slices, samples.num_draws)), np.zeros(slices)
        self.n_outside = self.n_flagged = self.n_masked = self.n_beyond = 0

    def add(
        self,
        catalogue: HaloCatalogue,
        posterior,
        chunk_size: int | None = None,
        watch: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Add objects.

        Parameters
        ----------
        catalogue : HaloCatalogue
        posterior : MassPosterior
            Of the same objects; its `extra` likelihoods and its selection are in the masses that are drawn.
        chunk_size : int, optional
        watch : callable, optional
            Called with a line of text after each piece.
        """

        in_slices = catalogue.redshift_distributions is not None and self.form.redshift_edges is not None

        def draw(rows):
            done = 0
            watch(Step("mass map", done, rows.size, "objects"))
            drawn = self.samples.with_redshifts if in_slices else self.samples
            relations = self.samples.relations
            given = posterior.prior, relations, posterior.extra
            for places, objects in Objects.in_parts(catalogue, rows, *given, selection=posterior.selection):
                for picked, *values in drawn(objects, chunk_size):
                    yield places[picked], *values
                    done += picked.size
                    watch(Step("mass map", done, rows.size, "objects"))

        add = self._add_drawn_redshifts if in_slices else self.add_masses
        add(catalogue, posterior.usable, posterior.mean_mass, draw)

    def add_masses(self, catalogue: HaloCatalogue, usable, mean_mass, draw) -> None:
        """Add objects whose masses come from elsewhere than `draws`.

        Parameters
        ----------
        catalogue : HaloCatalogue
        usable : Bool[np.ndarray, "halo"]
            Objects with a mass.
        mean_mass : Float[np.ndarray, "halo"]
            Mean mass [Msun].
        draw : callable
            Rows of the catalogue -> pieces (places among those rows, ln M (place, map draw)) until all have come.
        """
        cell = self.cells.of(catalogue)
        on_map = usable & (cell >= 0)
        self.n_flagged += int((~usable).sum())
        self.n_outside += int((usable & (cell == OUTSIDE)).sum())
        self.n_masked += int((usable & (cell == MASKED)).sum())
        self.n_beyond += int((usable & (cell == BEYOND)).sum())
        rows = np.flatnonzero(on_map)
        if rows.size == 0:
            return
        weight = 1.0 / self.cells.areas(cell[rows], catalogue.redshift[rows])
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

    def _add_drawn_redshifts(self, catalogue: HaloCatalogue, usable, mean_mass, draw) -> None:
        """Add objects each draw of which is in the slice of its own redshift; the mean mass by the share of its draws.

        `nobj` counts an object where most of its draws are, in one slice or beyond them all.
        """
        pixel = self.cells.pixels_of(catalogue)
        self.n_flagged += int((~usable).sum())
        self.n_outside += int((usable & (pixel == OUTSIDE)).sum())
        self.n_masked += int((usable & (pixel == MASKED)).sum())
        rows = np.flatnonzero(usable & (pixel >= 0))
        if rows.size == 0:
            return
        from scipy.sparse import csr_array

        rows = rows[np.argsort(pixel[rows], kind="stable")]
        for picked, ln_mass, redshift in draw(rows):
            here = rows[picked]
            mass, in_slice = np.exp(ln_mass, dtype=np.float64), self.cells.slices_of(redshift)
            weight = 1.0 / self.cells.areas(pixel[here], catalogue.redshift[here])
            shares = np.stack([(in_slice == number).sum(axis=1) for number in range(self.form.num_slices)])
            most, beyond = np.argmax(shares, axis=0), in_slice.shape[1] - shares.sum(axis=0)
            counted = shares.max(axis=0) >= beyond
            self.n_beyond += int((~counted).sum())
            np.add.at(self.nobj, (most * self.grid.num_pixels + pixel[here])[counted], 1.0)
            for number in range(self.form.num_slices):
                inside = in_slice == number
                touched = np.flatnonzero(inside.any(axis=1))
                if touched.size == 0:
                    continue
                part = np.where(inside[touched], mass[touched], 0.0)
                cell = number * self.grid.num_pixels + pixel[here[touched]]
                self._make_room(np.unique(cell))
                place, column = np.unique(self.place[cell], return_inverse=True)
                self.sums[place] += csr_array((weight[touched], (column, np.arange(touched.size)))) @ part
                self.total[number] += part.sum(axis=0)
                mean = mean_mass[here[touched]] * part.sum(axis=1) / mass[touched].sum(axis=1)
                self.total_mean[number] += mean.sum()
                np.add.at(self.mean, cell, mean * weight[touched])

    def _add_layers(self, cell, weight, mass, shares, mean_mass) -> None:
        """Mass (object, map draw) into every layer by its share; mean_mass by the share that its draws have in all."""
        from scipy.sparse import csr_array

        total = mass.sum(axis=1)
        touching = [np.flatnonzero(share.any(axis=1)) for share in shares]
        keys = [layer * self.cells.num_cells + cell[touched] for layer, touched in enumerate(touching)]
        self._make_room(np.unique(np.concatenate(keys)))
        for share, touched, key in zip(shares, touching, keys, strict=True):
            if touched.size == 0:
                continue
            part = mass[touched] * share[touched]
            place, column = np.unique(self.place[key], return_inverse=True)
            self.sums[place] += csr_array((weight[touched], (column, np.arange(touched.size)))) @ part
            mean = mean_mass[touched] * part.sum(axis=1) / total[touched]
            np.add.at(self.mean, key, mean * weight[touched])

    def finish(self, *, ess: float, relation_from, keep_draws: bool = False) -> MassMap:
        """Make the map of all objects added so far.

        Parameters
        ----------
        ess : float
            Effective number of relation draws.
        relation_from : str or None
        keep_draws : bool

        Returns
        -------
        MassMap

        Raises
        ------
        MassmapError
            More memory than the machine has.
        """
        form, cells = self.form, self.cells
        cells.check_memory(self.samples.num_draws, form.copies_of_images(keep_draws))
        with_draws = keep_draws or form.fwhm_arcmin is not None

        def shaped(values):
            if cells.footprint is not None:
                values.reshape(*values.shape[:-1], form.num_slices, -1)[..., ~cells.footprint] = np.nan
            return values.reshape(*values.shape[:-1], *cells.shape)

        def spread(values):
            filled = np.zeros((*values.shape[:-1], cells.num_cells))
            filled[..., self.pixels] = values
            return shaped(filled)

        if self.layers is None:
            images, mean = spread(statistics(self.sums)), self.mean.copy()
            draws = spread(self.sums.T) if with_draws else None
        else:
            draws, mean = self._convolved(self.sums.T), self._convolved(self.mean[self.pixels][None])[0]
            images = shaped(statistics(draws.T))
            draws = shaped(draws) if with_draws else None
        sampled_mean, sd, q16, q50, q84 = images
        sliced = form.redshift_edges is not None
        found = MassMap(
            grid=self.grid,
            mean=shaped(mean),
            sampled_mean=sampled_mean,
            sd=sd,
            q16=q16,
            q50=q50,
            q84=q84,
            nobj=self.nobj.reshape(cells.shape),
            total_draws=self.total.sum(axis=0),
            draws=draws,
            n_outside=self.n_outside,
            n_flagged=self.n_flagged,
            num_draws=self.samples.num_draws,
            ess=ess,
            relation_from=relation_from,
            mass_definition=self.samples.prior.mass_definition,
            total_mass=float(self.total_mean.sum()),
            form=replace(form, fwhm_arcmin=None),  # not smoothed yet
            slice_mass=self.total_mean if sliced else None,
            slice_draws=self.total if sliced else None,
            n_mapped=int(self.nobj.sum()),
            n_masked=self.n_masked,
            n_beyond=self.n_beyond,
            prior_cosmology=labels_of("the mass prior", self.samples.prior).cosmology,
        )
        return found if form.fwhm_arcmin is None else smoothed(found, form.fwhm_arcmin, keep_draws=keep_draws)

    def _convolved(self, values: np.ndarray) -> np.ndarray:
        """Values (draw, occupied cell) of all layers as images (draw, cell of one layer), the layers convolved.

        A density is spread as mass, then divided by the pixels' areas, as `map_smoothing` does.
        """
        form, cells = self.form, self.cells
        area: float | np.ndarray = 1.0
        if form.unit != MASS:
            area = self.grid.pixel_areas_arcmin2(np.arange(self.grid.num_pixels)).reshape(self.grid.shape)
        inside = None if cells.footprint is None else cells.footprint.reshape(self.grid.shape)
        plan = self.layers.plan(self.grid.shape, inside)
        out = np.empty((values.shape[0], cells.num_cells))
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
        """Add the sums of other objects, made on the same grid with the same map draws.

        Parameters
        ----------
        other : MapSums
        """
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
                self._room = np.zeros((2 * self.pixels.size, self.samples.num_draws))
                self._room[:held] = self.sums
            self.sums = self._room[: self.pixels.size]


_STATE = ("pixels", "sums", "mean", "nobj", "total", "total_mean")
