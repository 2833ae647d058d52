"""ln P(data | relation): the sum over halos of ln Z_k / A, with the masses marginalised.

    ln Z = -ln L_obs - ln |alpha2| + G(x, z, w),   x, w the centre and width of the object's data term in ln M

`relation.direct` sums over the halos themselves. `RelationLikelihood` is the same function prepared once for many
relations: halos compressed to weighted points (`compress`), G from a table (`evidence_table`), always in float64.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.selection import NoSelection, Selection, TabulatedSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.chances import Chances
from massmap_jax.relation.data import (
    HALF_LN_2PI,
    SMOOTH,
    CatalogueData,
    RelationData,
    filled,
    prior_rows,
)
from massmap_jax.relation.evidence_table import EvidenceTable

# Redshifts above which a table of G, with a row for each, costs more than it saves.
_MANY_REDSHIFTS = 1000


class RelationLikelihood(eqx.Module):
    """The function `log_likelihood` of one catalogue, prepared once to be evaluated for many relations.

    Make one with `build`, and call it with a relation. Build and call it under `jax.enable_x64(True)`: a sum of ln L
    over 1e5 objects in float32 is off by about 9. Where there are many halos, they are compressed to weighted points,
    which are good for relations with a scatter of at least `least_scatter`.

    Attributes
    ----------
    ln_lum_obs, z, weight : Float[Array, "point"]
        ln of the observed luminosity, redshift and weight of the points: the halos themselves (weight 1), or nodes of
        an interpolation that stand for them.
    sigma : Float[Array, "group"]
        The distinct standard deviations of the noise [ln L].
    group : Int[Array, "point"]
        Which entry of `sigma` a point has.
    redshift : Float[Array, "row"]
        The distinct redshifts.
    row : Int[Array, "point"]
        Which entry of `redshift` a point has.
    ln_prior : Float[Array, "row mass"]
        ln p(ln M | z) at these redshifts and the mass nodes of the prior.
    cell_sigma, cell_redshift, cell_weight : Float[Array, "cell"]
        The same objects by noise and redshift alone; the probability A of being in the catalogue is evaluated there.
    constant : Float[Array, ""]
        Sum of ln p_det over the objects, which does not depend on the relation.
    least_scatter : Float[Array, ""]
        Least scatter S of the relations that the points are good for.
    prior : MassPrior
        Prior density of the masses.
    selection : Selection
        Which objects can be in the catalogue.
    compressed : bool
        Whether the points stand for halos, and are not the halos themselves.
    table : EvidenceTable or None
        Table of G; None where G is integrated at every point.
    extra : ExtraEvidence or None
        What mass likelihoods of single objects add; None where there are none.

    See Also
    --------
    log_likelihood : the same sum over the halos themselves.
    relation_model : NumPyro model of the relation with this likelihood.

    Notes
    -----
    The compression approximates nothing but the smooth function ln (Z / A) of ln L_obs, z and sigma, by polynomials in
    small boxes.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> with jax.enable_x64(True):
    ...     likelihood = mm.RelationLikelihood.build(catalogue, mm.MassPrior.default())
    ...     print(f"{likelihood(relation):.1f}")
    -44.1
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
    selection: Selection
    compressed: bool = eqx.field(static=True)
    table: EvidenceTable | None = None
    extra: Any = None

    @classmethod
    def build(
        cls, catalogue: HaloCatalogue, prior: MassPrior, selection=None, *, scatter: float = 0.05
    ) -> "RelationLikelihood":
        """Prepare the likelihood of a catalogue in memory.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The objects, with one redshift each; unusable rows are left out.
        prior : MassPrior
            Prior density p(ln M | z) of the masses.
        selection : Selection, optional
            Which objects can be in the catalogue; None for every object.
        scatter : float, optional
            Least scatter S of the relations to be evaluated [ln L]; a smaller one needs more points.

        Returns
        -------
        RelationLikelihood
            The likelihood, without a table.

        Raises
        ------
        MassmapError
            No usable row, noise that is not lognormal, several redshift nodes, or an object that the selection
            excludes.
        """
        return cls.of(CatalogueData(catalogue, prior, selection), scatter=scatter)

    @classmethod
    def of(cls, data: RelationData, *, scatter: float = 0.05) -> "RelationLikelihood":
        """Prepare the likelihood of objects that may be in memory or not.

        Parameters
        ----------
        data : RelationData
            Whatever gives the objects as points: `CatalogueData`, or partitions of a catalogue.
        scatter : float, optional
            Least scatter S of the relations to be evaluated [ln L].

        Returns
        -------
        RelationLikelihood
            The likelihood, without a table.
        """
        short = data.compressed(scatter)
        points = short if short.weight.size < data.num_halos else data.halos()
        # A does not depend on L_obs: the compressed points serve it for any number of halos.
        whole = short if isinstance(data.selection, SMOOTH) else data.halos()
        sigma, group = np.unique(points.sigma, return_inverse=True)
        redshift, row = np.unique(points.z, return_inverse=True)
        # Copies of weight 0 fill up to a few sizes, so that catalogues share compiled code.
        redshift = filled(redshift)
        if isinstance(data.selection, TabulatedSelection) and isinstance(data, CatalogueData):
            whole = data.halos()
            nodes = data.kinks(float(whole.z.max()))
            chances = Chances.of(whole.z, whole.sigma, whole.weight, nodes, scatter)
            cells, cell_weight = np.stack([chances.z, chances.sigma], axis=1), chances.weight
        else:
            cells, cell = np.unique(np.stack([whole.z, whole.sigma], axis=1), axis=0, return_inverse=True)
            cells = np.stack([filled(column, least=4) for column in cells.T], axis=1)
            cell_weight = filled(np.bincount(cell.ravel(), weights=whole.weight), 0.0, least=4)
        return cls(
            ln_lum_obs=filled(points.ln_lum_obs),
            z=filled(points.z),
            weight=filled(points.weight, 0.0),
            sigma=filled(sigma) if sigma.size > 1 else sigma,
            group=filled(group.ravel()),
            redshift=redshift,
            row=filled(row.ravel()),
            ln_prior=prior_rows(data.prior, redshift),
            cell_sigma=cells[:, 1],
            cell_redshift=cells[:, 0],
            cell_weight=cell_weight,
            constant=np.float64(data.constant),
            least_scatter=np.float64(scatter),
            prior=data.prior,
            selection=data.selection,
            compressed=points is short,
            extra=data.extra,
        )

    def with_table(self, relations) -> "RelationLikelihood":
        """Tabulate G over the range that some relations ask for, so that each evaluation is faster.

        Parameters
        ----------
        relations : MassLuminosityRelation
            A batch that spans the range of the relations to be evaluated.

        Returns
        -------
        RelationLikelihood
            The likelihood with a table, which gives NaN for a relation outside this range. With more than 1000 distinct
            redshifts a table would cost more than it saves, and the likelihood stays as it is.
        """
        if self.redshift.size > _MANY_REDSHIFTS:
            return self
        centre, width = _asked_for(relations, self.ln_lum_obs, self.z, self.sigma)
        redshift = self.redshift if self.prior.redshift_nodes.shape[0] > 1 else self.redshift[:1]
        table = EvidenceTable.build(self.prior, redshift, np.asarray(width), np.asarray(centre))
        row = self.row if self.prior.redshift_nodes.shape[0] > 1 else np.zeros_like(self.row)
        return eqx.tree_at(lambda s: (s.row, s.table), self, (row, table), is_leaf=lambda x: x is None)

    def __call__(self, relation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the halos of ln (Z_k / A_k); NaN where the relation leaves the range of the table.
        """
        term = relation.data_term(self.ln_lum_obs, self.sigma[self.group], self.z)
        if self.table is None:
            evidence = self._integrated(term)
        else:
            # The width of a data term depends on sigma alone: one for each group of points.
            widths = relation.data_term(0.0, self.sigma, 0.0).width
            evidence = self.table(self.row, self.group, term.centre, widths)
        ln_z = term.log_norm + jnp.log(term.width) + HALF_LN_2PI + evidence
        total = (self.weight * ln_z).sum() + self.constant
        if self.extra is not None:
            total = total + self.extra(relation, self.prior)
        if isinstance(self.selection, NoSelection):
            return total
        columns = jnp.asarray(self.cell_redshift), jnp.asarray(self.cell_sigma)
        if isinstance(self.selection, TabulatedSelection):
            ln_a = self.selection.log_norms(relation, self.prior, *columns)
        else:
            ln_a = jax.vmap(lambda z, s: self.selection.log_norm(relation, self.prior, z, s))(*columns)
        return total - (self.cell_weight * ln_a).sum()

    def _integrated(self, term):
        """G at each point, integrated there."""
        at = jax.vmap(lambda i, *point: self.prior.log_evidence_of_row(jnp.asarray(self.ln_prior)[i], *point))
        return at(jnp.asarray(self.row), term.centre, jnp.asarray(self.z), term.width)

    def with_prior(self, prior: MassPrior) -> "RelationLikelihood":
        """Replace the mass prior.

        Parameters
        ----------
        prior : MassPrior
            Another prior with the same redshift nodes and as many mass nodes.

        Returns
        -------
        RelationLikelihood
            The same objects under that prior, without a table.
        """
        extra = None if self.extra is None else self.extra.with_prior(prior)
        changed = (prior, prior_rows(prior, self.redshift), None, extra)
        return eqx.tree_at(
            lambda s: (s.prior, s.ln_prior, s.table, s.extra), self, changed, is_leaf=lambda x: x is None
        )


@jax.jit
def _asked_for(relations, ln_lum_obs, z, sigma):
    """Least and greatest centre and width, in ln M, of the objects' data terms over a batch of relations."""
    centre = jax.vmap(lambda r: r.data_term(ln_lum_obs, 0.0, z).centre)(relations)
    width = jax.vmap(lambda r: r.data_term(0.0, sigma, 0.0).width)(relations)
    return jnp.stack([centre.min(), centre.max()]), jnp.stack([width.min(), width.max()])
