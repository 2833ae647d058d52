"""Maps of halo mass with coherent errors: `mass_map(...) -> MassMap`.

A pixel is a sum over objects whose relation error is common. One map draw therefore fixes ONE relation draw and draws
every halo's mass from its posterior under that relation. (Adding up draws from each halo's relation-averaged marginal
would make the error of a sum of N halos too small, by 10 times for 10^5 of them.) The map holds catalogued mass only.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from massmap_jax import devices
from massmap_jax import halos as _halos
from massmap_jax.catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.flags import UNUSABLE
from massmap_jax.mass_draws import MassDraws
from massmap_jax.pixels import PixelGrid
from massmap_jax.posterior import (
    RelationFrom,
    check_relation_from,
    flag_outside_prior,
    mass_posterior,
)
from massmap_jax.prior import MassPrior
from massmap_jax.selection import NoSelection

# Fewer effective relation draws than this cannot carry a joint error bar.
LEAST_ESS = 100.0
_QUANTILES = (0.16, 0.5, 0.84)
# Masses to draw above which a table of quantiles takes less time to make (3 s) than it saves (1 us each).
TABLE_PAYS = 3_000_000
# Pixels whose draws are summarised at once.
_PIXELS = 512


class MassMap(eqx.Module):
    """Summed halo mass per pixel, Msun; images (ny, nx), row 0 at the bottom as in FITS.

    Attributes
    ----------
    mean : sum of E[M_k], the relation averaged under the map's weights (Rao-Blackwellised: no Monte Carlo noise).
    sampled_mean, sd, q16, q50, q84 : over the map draws.
    nobj : objects in each pixel.
    total_draws : (map draw,) mass of the whole map.
    draws : (map draw, ny, nx) where asked for, else None.
    n_outside, n_flagged : objects outside the grid (or without a position); objects without a mass.
    ess : effective number of relation draws behind the map.
    """

    grid: PixelGrid
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


def mass_map(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    grid: PixelGrid,
    *,
    relation_from: RelationFrom | None = None,
    num_draws: int = 100,
    keep_draws: bool = False,
    chunk_size: int | None = None,
    selection=None,
    posterior=None,
    draws: Literal["auto", "exact", "table"] = "auto",
) -> MassMap:
    """Draws of the mass field on a pixel grid, every object snapped to its pixel.

    Parameters
    ----------
    key : one relation draw per map draw, and per-object normals keyed by the object's id.
    grid : pixels; `PixelGrid.fit(catalogue.ra, catalogue.dec)` covers the field.
    relation_from : as in `mass_posterior`. With "other_data" the whole catalogue updates the relation draws, with
        weights proportional to the product of Z_k over all objects; refused where fewer than 100 draws survive.
    num_draws : map draws.
    keep_draws : keep the (num_draws, ny, nx) images.
    posterior : what `mass_posterior` returned for the same arguments, to spare computing it again.
    draws : "exact" integrates each object under each draw's relation; "table" looks its mass up in the prior's
        tabulated quantile function (within 0.002 of the posterior's sd, rms); "auto" takes the table above 3 million
        masses.

    Raises
    ------
    MassmapError : no positions, non-lognormal noise, collapsed weights.
    """
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    if posterior is not None and (posterior.method not in ("analytic", "surface") or posterior.extra is not None):
        raise MassmapError(
            f"the posterior given to mass_map (method {posterior.method!r}) is not the map's own: give one of method "
            "'analytic' without extra likelihoods, or none"
        )
    if posterior is not None and posterior.relation_from == "other_data":
        posterior = None  # its weights are each object's own
    if draws not in ("auto", "exact", "table"):
        raise MassmapError(f"map draws {draws!r} are not known: give auto, exact or table")
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    relation_from = check_relation_from(relation, relation_from)
    selection = NoSelection() if selection is None else selection
    relation = relation.as_batch()
    if relation_from == "other_data":
        relation = _updated_by_all(catalogue, prior, relation, selection, chunk_size)
        posterior = None
    ess = effective_draws(relation)
    if posterior is None:
        # The draws' weights are settled, so each draw's posterior is normalised.
        posterior = mass_posterior(
            catalogue, prior, relation, relation_from="fixed_draws", chunk_size=chunk_size, selection=selection
        )

    if draws == "auto":
        draws = "table" if len(catalogue) * num_draws > TABLE_PAYS else "exact"
    key_relation, key_mass = jax.random.split(key)
    sums = MapSums(grid, MassDraws(prior, pick(key_relation, relation, num_draws), key_mass, draws))
    sums.add(catalogue, posterior, chunk_size)
    return sums.finish(ess=ess, relation_from=relation_from, keep_draws=keep_draws)


class MapSums:
    """The sums that a map is made of; parts of a catalogue may be added one after the other, in any memory.

    Attributes
    ----------
    pixels : (occupied,) pixels that hold an object so far.
    sums : (occupied, map draw) mass under each map draw. mean, nobj : (ny * nx,).
    """

    def __init__(self, grid: PixelGrid, draws: MassDraws):
        self.grid, self.draws = grid, draws
        self.place = np.full(grid.num_pixels, -1)
        self.pixels = np.zeros(0, dtype=int)
        self.sums = np.zeros((0, draws.num_draws))
        self.mean, self.nobj = np.zeros(grid.num_pixels), np.zeros(grid.num_pixels)
        self.n_outside = self.n_flagged = 0

    def add(self, catalogue: HaloCatalogue, posterior, chunk_size: int | None = None) -> None:
        """Add objects; `posterior` is `mass_posterior`'s, of the same objects."""
        usable = posterior.usable
        pixel = self.grid.index(catalogue.ra, catalogue.dec)
        on_map = usable & (pixel >= 0)
        self.n_outside += int((usable & (pixel < 0)).sum())
        self.n_flagged += int((~usable).sum())
        # Only occupied pixels are stored for every draw: at most one per object, however fine the grid.
        self._make_room(np.unique(pixel[on_map]))
        np.add.at(self.mean, pixel[on_map], posterior.mean_mass[on_map])
        np.add.at(self.nobj, pixel[on_map], 1.0)
        rows = np.flatnonzero(on_map)
        if rows.size == 0:
            return
        from scipy.sparse import csr_array  # slow to import

        # In the order of their pixels, so that the sums of a chunk are neighbours.
        rows = rows[np.argsort(self.place[pixel[rows]], kind="stable")]
        for picked, ln_mass in self.draws(_halos.of_catalogue(catalogue, None, rows), chunk_size):
            # float64: sums over many objects.
            mass = np.exp(ln_mass, dtype=np.float64)
            place, column = np.unique(self.place[pixel[rows[picked]]], return_inverse=True)
            one = np.ones(picked.size)
            self.sums[place] += csr_array((one, (column, np.arange(picked.size)))) @ mass

    def finish(self, *, ess: float, relation_from, keep_draws: bool = False) -> MassMap:
        """The map of all objects added so far."""
        shape = self.grid.shape

        def spread(values):
            filled = np.zeros((*values.shape[:-1], self.grid.num_pixels))
            filled[..., self.pixels] = values
            return filled.reshape(*values.shape[:-1], *shape)

        sampled_mean, sd, q16, q50, q84 = spread(self._summaries())
        return MassMap(
            grid=self.grid,
            mean=self.mean.reshape(shape),
            sampled_mean=sampled_mean,
            sd=sd,
            q16=q16,
            q50=q50,
            q84=q84,
            nobj=self.nobj.reshape(shape),
            total_draws=self.sums.sum(axis=0),
            draws=spread(self.sums.T) if keep_draws else None,
            n_outside=self.n_outside,
            n_flagged=self.n_flagged,
            num_draws=self.draws.num_draws,
            ess=ess,
            relation_from=relation_from,
            mass_definition=self.draws.prior.mass_definition,
        )

    def _summaries(self) -> np.ndarray:
        """Mean, sd and quantiles over the draws, (5, occupied); a part at a time, since NumPy makes copies."""
        out = np.empty((2 + len(_QUANTILES), self.pixels.size))
        for start in range(0, self.pixels.size, _PIXELS):
            sums = self.sums[start : start + _PIXELS]
            found = (sums.mean(axis=1), sums.std(axis=1, ddof=1), *np.quantile(sums, _QUANTILES, axis=1))
            out[:, start : start + _PIXELS] = found
        return out

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to go on from here."""
        counts = np.array([self.n_outside, self.n_flagged])
        return {"pixels": self.pixels, "sums": self.sums, "mean": self.mean, "nobj": self.nobj, "counts": counts}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.pixels, self.sums, self.mean, self.nobj = (state[n] for n in ("pixels", "sums", "mean", "nobj"))
        self.n_outside, self.n_flagged = (int(n) for n in state["counts"])
        self.place = np.full(self.grid.num_pixels, -1)
        self.place[self.pixels] = np.arange(self.pixels.size)

    def merge(self, other: "MapSums") -> None:
        """Add the sums of other objects, made on the same grid with the same map draws."""
        self._make_room(other.pixels)
        self.sums[self.place[other.pixels]] += other.sums
        self.mean, self.nobj = self.mean + other.mean, self.nobj + other.nobj
        self.n_outside += other.n_outside
        self.n_flagged += other.n_flagged

    def _make_room(self, pixels: np.ndarray) -> None:
        new = pixels[self.place[pixels] < 0]
        if new.size:
            self.place[new] = self.pixels.size + np.arange(new.size)
            self.pixels = np.concatenate([self.pixels, new])
            self.sums = np.concatenate([self.sums, np.zeros((new.size, self.draws.num_draws))])


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
