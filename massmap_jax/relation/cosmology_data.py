"""The likelihood of a fit of relation and cosmology together: `CosmologyLikelihood`, and mass likelihoods beside it.

Objects with linear noise have the lattices of `relation.lattice`, whose redshifts are where the mass function is made.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.stacks import StackedTerm
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import CosmologyDraws, cosmology_with
from massmap_jax.prior.mass_function_draws import refuse_snap
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points
from massmap_jax.relation.cosmology_likelihood import CosmologyLikelihood, prior_at
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.extra import ExtraEvidence
from massmap_jax.relation.lattice import SMOOTH_IN_REDSHIFT, Lattice, MadeFor, lattices_of
from massmap_jax.relation.linear import LinearData, is_linear
from massmap_jax.relation.stack_evidence import StackEvidence, evidence_of

# Redshifts between which the range of an integrand is interpolated.
_NODES = 12


class LikelihoodUnderCosmology(eqx.Module):
    """ln P(data | relation, cosmology) as a function of a relation that brings its cosmology along.

    Attributes
    ----------
    plain : CosmologyLikelihood
        The likelihood of the luminosities.
    extra : ExtraEvidence, StackEvidence or None
        What mass likelihoods of single objects add.
    """

    plain: CosmologyLikelihood
    extra: ExtraEvidence | StackEvidence | None
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
        return total if self.extra is None else total + _of_masses(self.extra, relation, self.plain.prior, cosmology)

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


def _of_masses(extra: ExtraEvidence | StackEvidence, relation, prior: MassPrior, cosmology) -> Float[Array, ""]:
    """What mass likelihoods add under a cosmology."""
    redshift = jnp.asarray(extra.redshift)
    rows = prior_at(prior, cosmology, redshift).ln_density
    # Where the integrands lie is looked up in intervals, and `redshift` may repeat itself.
    around = jnp.linspace(redshift.min(), redshift.max() + 1e-3, _NODES)
    return eqx.tree_at(lambda e: e.ln_prior, extra, rows)(relation, prior_at(prior, cosmology, around))


class LinearUnderCosmology(eqx.Module):
    """ln P(data | relation, cosmology) of objects with linear noise, upper limits or lognormal noise.

    Attributes
    ----------
    lattices : tuple of Lattice
        What stands for the objects with linear noise or limits.
    redshift : Float[Array, "row"]
        The redshifts of all of them, where the mass function is made.
    others : tuple of CosmologyLikelihood
        Objects with lognormal noise, or linear noise so small that it is the same.
    constant : Float[Array, ""]
        What does not depend on relation and cosmology.
    prior : MassPrior
        The mass function, at a cosmology of its own that is not used.
    made_for : MadeFor
        The relations that the lattices were made for.
    extra : ExtraEvidence, StackEvidence or None
        What mass likelihoods of single objects add.
    """

    lattices: tuple[Lattice, ...]
    redshift: Float[Array | np.ndarray, "row"]
    others: tuple[CosmologyLikelihood, ...]
    constant: Float[Array | np.ndarray, ""]
    prior: MassPrior
    made_for: MadeFor
    extra: ExtraEvidence | StackEvidence | None
    difference: ClassVar[float] = 0.01  # as LinearLikelihood: single precision needs a larger step

    def __call__(self, relation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation and its cosmology.

        Parameters
        ----------
        relation : RelationUnderCosmology
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the objects of ln (Z_k / A_k).
        """
        cosmology, total = cosmology_with(relation.cosmology), jnp.asarray(self.constant)
        if self.lattices:
            prior = prior_at(self.prior, cosmology, self.redshift)
            total = total + sum(lattice(relation, prior, None) for lattice in self.lattices)
        for others in self.others:
            total = total + others(relation, cosmology)
        return total if self.extra is None else total + _of_masses(self.extra, relation, self.prior, cosmology)

    def suits(self, relation) -> bool:
        """Tell whether the lattices were made for relations such as this one."""
        return self.made_for.suits(relation)

    def with_prior(self, prior: MassPrior) -> "LinearUnderCosmology":
        """Take the masses of another prior: its lowest and highest one.

        Parameters
        ----------
        prior : MassPrior
            A prior with as many mass nodes; its density is not used.

        Returns
        -------
        LinearUnderCosmology
            The same objects, under mass functions between these masses.
        """
        nodes = jnp.asarray(prior.ln_mass_nodes)
        others = tuple(eqx.tree_at(lambda s: s.prior.ln_mass_nodes, one, nodes) for one in self.others)
        return eqx.tree_at(lambda s: (s.prior.ln_mass_nodes, s.others), self, (nodes, others))


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
    extra : TabulatedTerm or StackedTerm, optional
        Likelihoods of single masses.

    Raises
    ------
    MassmapError
        What `CosmologyLikelihood.build`, `LinearData` and `CosmologyBelief.of` refuse, or a prior that snaps to its
        redshift nodes.
    """

    def __init__(
        self,
        catalogue: HaloCatalogue,
        prior: MassPrior,
        selection: Any,
        draws: CosmologyDraws,
        extra: TabulatedTerm | StackedTerm | None = None,
    ):
        refuse_snap(prior)
        noisy = is_linear(catalogue, prior)
        self.linear = LinearData(catalogue.seen_by(()), prior, selection) if noisy else None
        # With linear noise, `LinearData` has looked at the selection.
        CosmologyLikelihood.check(prior, selection if self.linear is None else None)
        self.belief = CosmologyBelief.of(draws)
        super().__init__(catalogue, prior, selection, rows=None if self.linear is None else self.linear.rows)
        self.told = {"source": draws.source, "not_normal": self.belief.shape_of(draws)}
        if extra is not None:
            self.extra = evidence_of(catalogue, self.rows, self.prior, extra)

    def _ln_detection(self) -> np.ndarray:
        return super()._ln_detection() if self.linear is None else self.linear.ln_detection

    def halos(self) -> Points:
        """Give the usable objects themselves, each with weight 1."""
        return super().halos() if self.linear is None else self.linear.halos()

    def likelihood(
        self, scatter: float, slope: float | None = None, greatest: float | None = None
    ) -> "LikelihoodUnderCosmology | LinearUnderCosmology":
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].
        slope : float, optional
            Slope alpha2 of about all of them; needed with linear noise.
        greatest : float, optional
            As `LinearData.likelihood`.

        Returns
        -------
        LikelihoodUnderCosmology or LinearUnderCosmology
            The likelihood; the latter with linear noise or upper limits.
        """
        if self.linear is None:
            plain = CosmologyLikelihood.build(self.catalogue, self.prior, self.selection, scatter=scatter)
            return LikelihoodUnderCosmology(plain, self.extra)
        assert slope is not None
        z = self.catalogue.redshift[self.rows]
        ends = np.array([z.min(), max(z.max(), z.min() + 1e-3)])
        made_for = MadeFor.relations(scatter, slope, greatest)
        lattices: list[Lattice] = []
        for kind, columns in self.linear.integrals().items():
            lattices += lattices_of(
                kind, *columns, made_for=made_for, prior=self.prior, redshift_nodes=ends, in_redshift=SMOOTH_IN_REDSHIFT
            )
        others = [
            CosmologyLikelihood.build(objects, self.prior, selection, scatter=scatter)
            for objects, selection in self.linear.lognormal_objects()
        ]
        return LinearUnderCosmology(
            tuple(lattices),
            np.unique(np.concatenate([lattice.z for lattice in lattices])) if lattices else np.array([0.0]),
            tuple(others),
            np.asarray(self.linear.density_of_noise),
            self.prior,
            made_for,
            self.extra,
        )
