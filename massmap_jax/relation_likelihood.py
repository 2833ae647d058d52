"""ln P(data | relation): the sum over halos of ln Z_k / A, with the masses marginalised.

    ln Z = -ln L_obs - ln |alpha2| + G(x, z, w),   x, w the centre and width of the object's data term in ln M

`log_likelihood` sums over the halos themselves. `RelationLikelihood` is the same function prepared once for many
relations: halos compressed to weighted points (`compress`), G from a table (`evidence_table`), always in float64.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax import halos as _halos
from massmap_jax.catalogue import HaloCatalogue
from massmap_jax.compress import Points, compress
from massmap_jax.errors import MassmapError
from massmap_jax.evidence_table import EvidenceTable
from massmap_jax.posterior import lognormal_rows
from massmap_jax.prior import MassPrior
from massmap_jax.selection import FluxLimit, NoSelection, TabulatedSelection

# Halos per block of the direct sum.
_BLOCK = 2048
# Redshifts above which a table of G, with a row for each, costs more than it saves.
_MANY_REDSHIFTS = 1000
# Selections whose kinks in redshift are known; A of another is taken at every object.
_SMOOTH = (NoSelection, FluxLimit, TabulatedSelection)
_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)


def log_likelihood(relation, catalogue: HaloCatalogue, prior: MassPrior, selection=None) -> Float[Array, ""]:
    """ln P(all L_obs | z, relation): sum over usable halos of ln Z_k / A_k, each halo integrated on its own.

    Parameters
    ----------
    relation : one relation with a `data_term` (lognormal). Differentiable in each of its parameters.
    selection : which objects are in the catalogue; None: every object.

    Returns
    -------
    () float64, summed in float64 also where the integrals run in float32 (JAX's default precision decides that).

    Raises
    ------
    MassmapError : no usable row, noise that is not lognormal, an object that the selection excludes.
    """
    selection = NoSelection() if selection is None else selection
    rows = lognormal_rows(catalogue, prior)
    total = detection(catalogue, selection, rows).sum()
    # float64: a float32 sum over 1e5 objects is off by 9.
    with jax.enable_x64(True):
        precise = jnp.asarray(total, dtype=jnp.float64)
    for values in ln_z_per_halo(relation, catalogue, prior, selection, rows):
        with jax.enable_x64(True):
            precise = precise + values.astype(jnp.float64).sum()
    return precise


def ln_z_per_halo(relation, catalogue, prior, selection, rows):
    """ln Z / A of some rows, in parts of up to 131,072."""
    halos = _halos.of_catalogue(catalogue, None, rows, need_keys=False)
    for start in range(0, rows.size, 64 * _BLOCK):
        part = np.arange(start, min(start + 64 * _BLOCK, rows.size))
        padded = np.concatenate([part, np.repeat(part[-1:], -part.size % _BLOCK)])
        yield _ln_z_of_halos(relation, halos.take(padded), prior, selection)[: part.size]


@jax.jit
def _ln_z_of_halos(relation, halos, prior, selection):
    def one(halo):
        def node(ln_lum, z, ln_weight):
            term = relation.data_term(ln_lum, halo.sigma, z)
            ln_norm = term.log_norm + jnp.log(term.width) + _HALF_LN_2PI
            ln_a = selection.log_norm(relation, prior, z, halo.sigma)
            return ln_weight + ln_norm + prior.log_evidence_of_row(
                prior.ln_density_at(z), term.centre, z, term.width
            ), ln_a

        ln_z, ln_a = jax.vmap(node)(halo.ln_lum_obs, halo.z, halo.ln_z_weight)
        if ln_z.shape[0] == 1:
            return ln_z[0] - ln_a[0]
        return jax.nn.logsumexp(ln_z) - jax.nn.logsumexp(ln_a + halo.ln_z_weight)

    blocks = jax.tree.map(lambda a: a.reshape(-1, _BLOCK, *a.shape[1:]), halos)
    # Checkpointed: the gradient keeps no block's panels.
    return jax.lax.map(jax.checkpoint(jax.vmap(one)), blocks).ravel()


def detection(catalogue: HaloCatalogue, selection, rows) -> np.ndarray:
    """ln p_det of each used row (a constant of the fit); an error where the selection excludes a catalogued object."""
    with jax.ensure_compile_time_eval():  # data only, also where the relation is being traced
        values = selection.log_prob(catalogue.ln_lum_obs[rows], catalogue.redshift[rows])
    values = np.asarray(values, dtype=np.float64)
    lost = ~np.isfinite(values)
    if lost.any():
        row = int(rows[np.argmax(lost)])
        raise MassmapError(
            f"the selection gives {lost.sum()} catalogued objects no chance to be in the catalogue, first row {row} "
            f"(L_obs = {np.exp(catalogue.ln_lum_obs[row]):g}, z = {catalogue.redshift[row]:g}): correct the selection "
            "or leave these objects out"
        )
    return values


class RelationLikelihood(eqx.Module):
    """`log_likelihood` of one catalogue, prepared for many relations; call it with a relation under float64.

    Attributes
    ----------
    ln_lum_obs, z, weight : (point,) the halos (weight 1), or the points that stand for them.
    sigma, group : (group,) distinct noise widths, and (point,) which of them a point has.
    redshift, row : (row,) distinct redshifts, (point,) which of them a point has.
    ln_prior : (row, mass) ln prior density at the mass nodes at those redshifts.
    cell_sigma, cell_redshift, cell_weight : (cell,) the same objects by redshift and sigma alone, for A.
    constant : () sum of ln p_det.
    table : G, or None: integrated at each point.
    least_scatter : () S that the points are good for, and above. compressed : whether they stand for halos.
    """

    ln_lum_obs: Float[Array, "point"]
    z: Float[Array, "point"]
    weight: Float[Array, "point"]
    sigma: Float[Array, " group"]
    group: Int[Array, "point"]
    redshift: Float[Array, "row"]
    row: Int[Array, "point"]
    ln_prior: Float[Array, "row mass"]
    cell_sigma: Float[Array, " cell"]
    cell_redshift: Float[Array, " cell"]
    cell_weight: Float[Array, " cell"]
    constant: Float[Array, ""]
    least_scatter: Float[Array, ""]
    prior: MassPrior
    selection: eqx.Module
    compressed: bool = eqx.field(static=True)
    table: EvidenceTable | None = None

    @classmethod
    def build(
        cls, catalogue: HaloCatalogue, prior: MassPrior, selection=None, *, scatter: float = 0.05
    ) -> "RelationLikelihood":
        """Points of a catalogue, good for relations with at least the scatter S given.

        Errors as `log_likelihood`; objects with several redshift nodes are refused.
        """
        selection = NoSelection() if selection is None else selection
        rows = lognormal_rows(catalogue, prior)
        if catalogue.redshift_nodes.shape[1] > 1:
            raise MassmapError(
                "the relation is fitted to objects with one redshift each, and these have "
                f"{catalogue.redshift_nodes.shape[1]} redshift nodes: fit a subset with known redshifts"
            )
        constant = detection(catalogue, selection, rows).sum()
        columns = (catalogue.ln_lum_obs[rows], catalogue.sigma_ln_lum[rows], catalogue.redshift[rows])
        # F has kinks where the prior has its redshift nodes, and where the selection has.
        of_selection = np.asarray(getattr(selection, "redshift_nodes", ()), dtype=np.float64)
        inside = of_selection[(of_selection > prior.z_min) & (of_selection < min(prior.z_max, 1e3))]
        nodes = np.union1d(prior.redshift_nodes, inside)
        if prior.redshift_nodes.shape[0] == 1:
            nodes = np.union1d([0.0, columns[2].max()], inside)
        short = compress(*columns, redshift_nodes=nodes, scatter=scatter)
        points = short if short.weight.size < rows.size else Points(*columns, np.ones(rows.size))
        sigma, group = np.unique(points.sigma, return_inverse=True)
        redshift, row = np.unique(points.z, return_inverse=True)
        # A does not depend on L_obs: the short sum serves it for any number of halos.
        whole = short if isinstance(selection, _SMOOTH) else Points(*columns, np.ones(rows.size))
        cells, cell = np.unique(np.stack([whole.z, whole.sigma], axis=1), axis=0, return_inverse=True)
        # Copies of weight 0 fill up to a few sizes, so that catalogues share compiled code.
        redshift = _filled(redshift)
        cells = np.stack([_filled(column, least=4) for column in cells.T], axis=1)
        return cls(
            ln_lum_obs=_filled(points.ln_lum_obs),
            z=_filled(points.z),
            weight=_filled(points.weight, 0.0),
            sigma=_filled(sigma) if sigma.size > 1 else sigma,
            group=_filled(group.ravel()),
            redshift=redshift,
            row=_filled(row.ravel()),
            ln_prior=_rows(prior, redshift),
            cell_sigma=cells[:, 1],
            cell_redshift=cells[:, 0],
            cell_weight=_filled(np.bincount(cell.ravel(), weights=whole.weight), 0.0, least=4),
            constant=np.float64(constant),
            least_scatter=np.float64(scatter),
            prior=prior,
            selection=selection,
            compressed=points is short,
        )

    def with_table(self, relations) -> "RelationLikelihood":
        """The same with G tabulated over the range that these relations (a batch) ask for.

        Without a table where it would not pay: many objects with a redshift of their own each.
        """
        if self.redshift.size > _MANY_REDSHIFTS:
            return self
        centre, width = _asked_for(relations, self.ln_lum_obs, self.z, self.sigma)
        redshift = self.redshift if self.prior.redshift_nodes.shape[0] > 1 else self.redshift[:1]
        table = EvidenceTable.build(self.prior, redshift, np.asarray(width), np.asarray(centre))
        row = self.row if self.prior.redshift_nodes.shape[0] > 1 else np.zeros_like(self.row)
        return eqx.tree_at(lambda s: (s.row, s.table), self, (row, table), is_leaf=lambda x: x is None)

    def __call__(self, relation) -> Float[Array, ""]:
        """ln likelihood of one relation; NaN where the table's range is left."""
        term = relation.data_term(self.ln_lum_obs, self.sigma[self.group], self.z)
        if self.table is None:
            evidence = self._integrated(term)
        else:
            # The width of a data term depends on sigma alone: one for each group of points.
            widths = relation.data_term(0.0, self.sigma, 0.0).width
            evidence = self.table(self.row, self.group, term.centre, widths)
        ln_z = term.log_norm + jnp.log(term.width) + _HALF_LN_2PI + evidence
        total = (self.weight * ln_z).sum() + self.constant
        if isinstance(self.selection, NoSelection):
            return total
        norm = jax.vmap(lambda z, s: self.selection.log_norm(relation, self.prior, z, s))
        return total - (self.cell_weight * norm(self.cell_redshift, self.cell_sigma)).sum()

    def _integrated(self, term):
        at = jax.vmap(lambda i, *point: self.prior.log_evidence_of_row(jnp.asarray(self.ln_prior)[i], *point))
        return at(jnp.asarray(self.row), term.centre, jnp.asarray(self.z), term.width)

    def with_prior(self, prior: MassPrior) -> "RelationLikelihood":
        """The same objects under another prior with the same redshift nodes; without a table."""
        changed = (prior, _rows(prior, self.redshift), None)
        return eqx.tree_at(lambda s: (s.prior, s.ln_prior, s.table), self, changed, is_leaf=lambda x: x is None)


def _filled(values: np.ndarray, with_value=None, least: int = 64) -> np.ndarray:
    """Padded with its last value, or the one given, to the next of the sizes 64, 96, 128, 192, 256, ..."""
    size = least
    while size < values.size:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    filler = values[-1] if with_value is None else with_value
    return np.concatenate([values, np.full(size - values.size, filler, dtype=values.dtype)])


@jax.jit
def _rows(prior, redshift):
    return jax.lax.map(prior.ln_density_at, jnp.asarray(redshift), batch_size=256)


@jax.jit
def _asked_for(relations, ln_lum_obs, z, sigma):
    """Least and greatest centre and width, in ln M, of the objects' data terms over a batch of relations."""
    centre = jax.vmap(lambda r: r.data_term(ln_lum_obs, 0.0, z).centre)(relations)
    width = jax.vmap(lambda r: r.data_term(0.0, sigma, 0.0).width)(relations)
    return jnp.stack([centre.min(), centre.max()]), jnp.stack([width.min(), width.max()])
