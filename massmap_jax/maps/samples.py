"""One ln M per object and map draw, each from the posterior under that map draw's relation.

Exactly, by integrating every object under every relation; or, where there are many, by looking the masses up in the
prior's quantile function (`quantile_table`), which depends on three numbers of an object whatever the relation is.
Both use the same random numbers: normal scores keyed by the object's id.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from massmap_jax import devices
from massmap_jax.keys import base_normals
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.quantile_table import QuantileTable, width_range
from massmap_jax.posterior import kernel
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.several import names_of

# Masses in a chunk of the lookup.
_LOOKUPS = 2**19


class MassSamples:
    """Draws for parts of one catalogue, one after the other; the table grows with the range that they ask for.

    Parameters
    ----------
    relations : the relation of each map draw (a batch). key : for the normal scores.
    method : "exact"; or "table", for every object whose likelihood is Gaussian in ln M and inside the table, under a
        prior that is continuous in redshift and the same for all draws: the others are integrated.
    """

    def __init__(self, prior: MassPrior, relations, key: Array, method: Literal["exact", "table"]):
        self.prior, self.relations, self.key, self.method = prior, relations, key, method
        self.table: QuantileTable | None = None

    @property
    def num_draws(self) -> int:
        return self.relations.num_draws

    def __call__(self, halos: Objects, chunk_size: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, ln M (row, draw)), chunk by chunk, until every object of `halos` has come."""
        number = halos.sigma.shape[0]
        rest = np.ones(number, dtype=bool)
        one_prior = self.prior.snap is None and population_of(self.relations) is None
        # A table entry is found by the luminosity alone.
        one_prior = one_prior and not names_of(self.relations)
        if self.method == "table" and one_prior and halos.z.shape[1] == 1:
            rows = np.flatnonzero(kernel.is_gaussian(halos, self.relations))
            plain = replace(halos, extra=None, observed=None)  # which say nothing about these rows
            table = self._table_for(plain.take(rows)) if rows.size else None
            if table is not None:
                for found, ln_mass in self._look_up(table, plain, rows):
                    inside = ~np.isnan(ln_mass).any(axis=1)
                    rest[found[inside]] = False
                    yield (found, ln_mass) if inside.all() else (found[inside], ln_mass[inside])
        rows = np.flatnonzero(rest)
        if rows.size:
            yield from self._integrate(halos, rows, chunk_size)

    def with_redshifts(self, halos: Objects, chunk_size: int | None = None) -> Iterator[tuple]:
        """(rows, ln M (row, draw), z (row, draw)): redshifts that are not exact, drawn together with the masses.

        The masses are those of `__call__`, since each redshift is drawn given its mass.
        """
        yield from self._integrate(halos, np.arange(halos.sigma.shape[0]), chunk_size, redshifts=True)

    def _table_for(self, halos: Objects) -> QuantileTable | None:
        """A table that holds these objects, kept for the next part; None where noise and scatter are both 0."""
        width = width_range(self.relations, halos.sigma, halos.z)
        if not 0 < width[0] <= width[1] < np.inf:
            return None
        z, table = (float(halos.z.min()), float(halos.z.max())), self.table
        if table is None or not table.holds(self.prior, z, width):
            if table is not None:
                z, width = table.united(z, width)
            self.table = table = QuantileTable.build(self.prior, z, width)
        return table

    def _look_up(self, table, halos, rows):
        size = int(2 ** np.clip(np.floor(np.log2(_LOOKUPS / self.num_draws)), 4, 16)) * devices.count()
        # On the device once, not with every chunk.
        table = eqx.tree_at(lambda t: t.values, table, jnp.asarray(table.values))
        common = devices.everywhere((table, self.relations, self.key))

        def work(start):
            chunk = rows[start : start + size]
            padded = np.concatenate([chunk, np.full(size - chunk.size, chunk[-1])])
            return chunk, np.asarray(_looked_up(halos.take(padded), *common))[: chunk.size]

        yield from _ahead(work, range(0, rows.size, size))

    def _integrate(self, halos, rows, chunk_size, redshifts=False):
        chosen = halos.take(rows)
        kernel.check_noise(chosen, self.relations, "analytic", self.prior)

        def chunk(i, low, high, **group):
            given = self.prior, self.relations, self.key
            return _draw_chunk(chosen.take(i), low, high, *given, redshifts=redshifts, **group)

        size = chunk_size or kernel.auto_chunk(self.relations)
        for found, drawn in kernel.run(chunk, chosen, self.prior, self.relations, size):
            if redshifts:
                # An outer node may be spread beyond the mass prior.
                ln_mass, z = drawn
                yield rows[found], ln_mass, np.clip(z, self.prior.z_min, self.prior.z_max)
            else:
                yield rows[found], drawn


def _ahead(work, starts):
    """Outputs of `work` in order, a chunk for each core under way: one compiled chunk keeps about one core busy."""
    cores = os.cpu_count() or 1 if (devices.platform(), devices.count()) == ("cpu", 1) else 2
    with ThreadPoolExecutor(cores) as pool:
        pending = deque()
        try:
            for start in starts:
                pending.append(pool.submit(work, start))
                if len(pending) > cores:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@devices.over_halos("halos")
def _looked_up(halos, table: QuantileTable, relations, key) -> Float[Array, "halo draw"]:
    def one(halo):
        scores = base_normals(key, halo.id_hash, relations.log_weight.shape)
        term = jax.vmap(lambda r: r.data_term(halo.ln_lum_obs[0], halo.sigma, halo.z[0]))(relations)
        return table(scores, term.centre, halo.z[0], term.width)

    return jax.vmap(one)(jax.tree.map(jnp.asarray, halos))


@devices.over_halos("halos", "low", "high", static=("num_panels", "wide", "kind", "redshifts"))
def _draw_chunk(halos, low, high, prior, relation, key, *, num_panels, wide, kind, redshifts):
    """One ln M per halo and map draw, each from the posterior under that map draw's relation; (halo, map draw).

    With `redshifts`, a tuple of these and of redshifts, each from the posterior of z given that mass.
    """
    norm = prior.norm_coefficients()

    # Whole blocks of draws: a rest would be compiled a second time.
    draws = relation.log_weight.shape[0]
    block = min(kernel.DRAW_BLOCK, draws)
    index = np.minimum(np.arange(-(-draws // block) * block), draws - 1).reshape(-1, block)
    relations = jax.tree.map(lambda a: jnp.asarray(a)[index], relation)

    def one(halo, low, high):
        ln_mass = panels.panel_nodes(low, high, num_panels)
        weights = panels.panel_weights(low, high, num_panels)
        rows = kernel.prior_rows_of(halo, prior, norm)
        ln_prior = kernel.ln_prior_at(halo, prior, rows, ln_mass)
        scores = base_normals(key, halo.id_hash, (draws,))[index]
        of_redshifts = base_normals(jax.random.fold_in(key, 1), halo.id_hash, (draws,))[index] if redshifts else scores

        def joint_at(relation, ln_prior, ln_mass):
            own = kernel.ln_prior_of_draws(halo, relation, ln_prior, ln_mass)
            normals = jnp.zeros((relation.log_weight.shape[0], 1))
            return kernel.joint_of_draws(halo, relation, normals, own, ln_mass, "analytic", kind)

        def draw(inputs):
            relation, score, of_redshift = inputs
            joint = joint_at(relation, ln_prior, ln_mass)
            of_nodes = None
            if halo.conditional:
                of_nodes = kernel.ln_mass_of_nodes(joint, weights)
                joint = kernel.settle(halo, joint, of_nodes)
            joint = kernel.over_redshifts(joint)
            density = jnp.exp(joint - joint.max(axis=1, keepdims=True))
            quantile = jax.vmap(panels.panel_quantile, (0, None, None, None, 0, 0))
            drawn = quantile(density, low, high, num_panels, ndtr(score), ndtr(-score))
            if not redshifts:
                return drawn

            def redshift(relation, ln_mass, score, of_nodes):
                relation, ln_mass = jax.tree.map(lambda a: a[None], relation), ln_mass[None]
                joint = joint_at(relation, kernel.ln_prior_at(halo, prior, rows, ln_mass), ln_mass)
                if halo.conditional:
                    joint = kernel.settle(halo, joint, of_nodes[:, None])
                return _redshift_of(halo.z, joint[:, 0, 0], ndtr(score))

            axes = (0, 0, 0, 1 if halo.conditional else None)
            return drawn, jax.vmap(redshift, axes)(relation, drawn, of_redshift, of_nodes)

        drawn = jax.lax.map(draw, (relations, scores, of_redshifts))
        return jax.tree.map(lambda a: a.ravel()[:draws], drawn)

    return jax.vmap(one, (halos.axes(), 0, 0))(halos, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))


def _redshift_of(z: Float[Array, " q"], ln_share: Float[Array, " q"], level) -> Float[Array, ""]:
    """Redshift at a level of the CDF of nodes, each spread about its place up to half way to the nearer neighbour."""
    share = jnp.exp(ln_share - jnp.maximum(ln_share.max(), -1e30))
    cdf = jnp.cumsum(share)
    wanted = level * cdf[-1]
    chosen = jnp.minimum((cdf <= wanted).sum(), z.shape[0] - 1)
    within = (wanted - (cdf[chosen] - share[chosen])) / jnp.where(share[chosen] > 0, share[chosen], 1.0)
    u = jnp.log1p(z)
    step = jnp.diff(u)
    # The nearer neighbour, since a gap between two humps may lie on the other side.
    reach = jnp.minimum(jnp.append(step, step[-1]), jnp.append(step[0], step))
    return jnp.expm1(u[chosen] + (jnp.clip(within, 0.0, 1.0) - 0.5) * reach[chosen])
