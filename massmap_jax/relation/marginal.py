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

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import lognormal_rows
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.data import HALF_LN_2PI, SMOOTH, CatalogueData, RelationData, detection, ln_z_per_halo
from massmap_jax.relation.evidence_table import EvidenceTable

# Redshifts above which a table of G, with a row for each, costs more than it saves.
_MANY_REDSHIFTS = 1000


def log_likelihood(relation, catalogue: HaloCatalogue, prior: MassPrior, selection=None) -> Float[Array, ""]:
    """ln P(all L_obs | z, relation): sum over usable halos of ln Z_k / A_k, each halo integrated on its own.

    Parameters
    ----------
    relation : one relation with a `data_term` (lognormal). Differentiable in each of its parameters.
    prior : P(ln M | z). selection : which objects are in the catalogue; None: every object.

    Returns
    -------
    () float64, summed in float64 also where the integrals run in float32 (JAX's default precision decides that).

    Raises
    ------
    MassmapError : no usable row, noise that is not lognormal, an object that the selection excludes.
    """
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
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
    table : G, or None: integrated at each point. selection : which objects are in the catalogue.
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

        prior, selection : as in `log_likelihood`, errors too; objects with several redshift nodes are refused.
        """
        return cls.of(CatalogueData(catalogue, prior, selection), scatter=scatter)

    @classmethod
    def of(cls, data: RelationData, *, scatter: float = 0.05) -> "RelationLikelihood":
        """The same of `data`, whatever gives the points (`relation_data`), for scatters of at least `scatter`."""
        short = data.compressed(scatter)
        points = short if short.weight.size < data.num_halos else data.halos()
        # A does not depend on L_obs: the short sum serves it for any number of halos.
        whole = short if isinstance(data.selection, SMOOTH) else data.halos()
        sigma, group = np.unique(points.sigma, return_inverse=True)
        redshift, row = np.unique(points.z, return_inverse=True)
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
            ln_prior=_rows(data.prior, redshift),
            cell_sigma=cells[:, 1],
            cell_redshift=cells[:, 0],
            cell_weight=_filled(np.bincount(cell.ravel(), weights=whole.weight), 0.0, least=4),
            constant=np.float64(data.constant),
            least_scatter=np.float64(scatter),
            prior=data.prior,
            selection=data.selection,
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
        ln_z = term.log_norm + jnp.log(term.width) + HALF_LN_2PI + evidence
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
