"""The likelihood of a fit of relation and cosmology together: `CosmologyLikelihood`, and mass likelihoods beside it."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import CosmologyDraws, cosmology_with
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.cosmology_likelihood import CosmologyLikelihood
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.extra import ExtraEvidence

# Redshifts between which the range of an integrand is interpolated.
_NODES = 12


class LikelihoodUnderCosmology(eqx.Module):
    """ln P(data | relation, cosmology) as a function of a relation that brings its cosmology along.

    Attributes
    ----------
    plain : CosmologyLikelihood
        The likelihood of the luminosities.
    extra : ExtraEvidence or None
        What mass likelihoods of single objects add.
    """

    plain: CosmologyLikelihood
    extra: ExtraEvidence | None
    # Step of second derivatives by differences of the gradient: those of JAX take 18 s to compile and no less to run.
    difference: ClassVar[float] = 3e-3

    def __call__(self, relation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation and its cosmology.

        Parameters
        ----------
        relation : RelationUnderCosmology
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the objects of ln (Z_k / A_k), and of what mass likelihoods add.
        """
        cosmology = cosmology_with(relation.cosmology)
        total = self.plain(relation, cosmology)
        if self.extra is None:
            return total
        redshift = jnp.asarray(self.extra.redshift)
        rows = self.plain.prior_at(cosmology, redshift).ln_density
        # Where the integrands lie is looked up in intervals, and `redshift` may repeat itself.
        around = jnp.linspace(redshift.min(), redshift.max() + 1e-3, _NODES)
        prior = self.plain.prior_at(cosmology, around)
        return total + eqx.tree_at(lambda e: e.ln_prior, self.extra, rows)(relation, prior)

    def with_prior(self, prior: MassPrior) -> "LikelihoodUnderCosmology":
        """Take the masses of another prior: its lowest and highest one.

        Parameters
        ----------
        prior : MassPrior
            A prior with as many mass nodes; its density is not used.

        Returns
        -------
        LikelihoodUnderCosmology
            The same objects, under mass functions between these masses.
        """
        return eqx.tree_at(lambda s: s.plain.prior.ln_mass_nodes, self, jnp.asarray(prior.ln_mass_nodes))


class CosmologyData(CatalogueData):
    """The `RelationData` of a catalogue whose relation is fitted together with the cosmology.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects; unusable rows are left out.
    prior : MassPrior
        Which mass function, mass definition and masses; its cosmology is not used.
    selection : Selection or None
        Which objects can be in the catalogue.
    draws : CosmologyDraws
        What is known of the cosmology.
    extra : TabulatedTerm, optional
        Likelihoods of single masses.

    Raises
    ------
    MassmapError
        What `CosmologyLikelihood.build` and `CosmologyBelief.of` refuse, or a prior that snaps to its redshift nodes.
    """

    def __init__(
        self,
        catalogue: HaloCatalogue,
        prior: MassPrior,
        selection: Any,
        draws: CosmologyDraws,
        extra: TabulatedTerm | None = None,
    ):
        if prior.snap is not None:
            raise MassmapError("cosmologies need a prior that is continuous in redshift: make it without snap")
        CosmologyLikelihood.check(prior, selection)
        self.belief = CosmologyBelief.of(draws)
        super().__init__(catalogue, prior, selection)
        self.told = {"source": draws.source, "not_normal": self.belief.shape_of(draws)}
        if extra is not None:
            self.extra = ExtraEvidence.of(catalogue, self.rows, self.prior, extra)

    def likelihood(self, scatter: float) -> LikelihoodUnderCosmology:
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].

        Returns
        -------
        LikelihoodUnderCosmology
            The likelihood.
        """
        selection = self.selection
        plain = CosmologyLikelihood.build(self.catalogue, self.prior, selection, scatter=scatter)
        return LikelihoodUnderCosmology(plain, self.extra)
