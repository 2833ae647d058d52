"""Beliefs about a relation, its calibration, the population and the cosmology, for a fit with measured masses.

The cosmology enters by standard scores, as in `relation.cosmology_prior`, and changes the mass function that the
population is made of. Everything else of the fit is that under one cosmology.
"""

from collections.abc import Mapping
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import PARAMETERS
from massmap_jax.prior.mass_function_draws import MassFunctionDraws, least_squares, refuse_snap
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import PopulationDraws
from massmap_jax.prior.population_cosmology import PopulationUnderCosmology
from massmap_jax.relation.beliefs import pack
from massmap_jax.relation.cosmology_prior import ParameterBeliefs, possible_or_middle
from massmap_jax.relation.joint import JointPrior


class JointCosmologyPrior(JointPrior):
    """Beliefs about the relation, the calibration of measured masses, the population and the cosmology, in one.

    Attributes
    ----------
    belief : CosmologyBelief
        Belief about the cosmology.
    mass_prior : MassPrior
        The mass prior, whose own cosmology is not used.
    to_coefficients : Float[Array, "mass degree"]
        The result of `mass_function_draws.least_squares` for it.
    """

    belief: CosmologyBelief
    mass_prior: MassPrior
    to_coefficients: Float[Array | np.ndarray, "mass degree"]

    @classmethod
    def around(cls, joint: JointPrior, belief: CosmologyBelief, prior: MassPrior) -> "JointCosmologyPrior":
        """Join beliefs, under `jax.enable_x64(True)`.

        Parameters
        ----------
        joint : JointPrior
            Beliefs about all else.
        belief : CosmologyBelief
            Belief about the cosmology.
        prior : MassPrior
            The mass prior, a mass function of Tinker et al.

        Returns
        -------
        JointCosmologyPrior
            The beliefs.

        Raises
        ------
        MassmapError
            A prior that cannot follow the cosmology, or a form of the population that no cosmology changes.
        """
        refuse_snap(prior)
        _ = prior.fit
        PopulationUnderCosmology.check(joint.population)
        own = {f.name: getattr(joint, f.name) for f in fields(joint)}
        own["stored"] = own["stored"] | {name: pack(dist.Normal(0.0, 1.0)) for name in belief.directions}
        prior = jax.tree.map(lambda a: np.array(a, dtype=np.float64), prior)
        return cls(**own, belief=belief, mass_prior=prior, to_coefficients=np.asarray(least_squares(prior)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return (*self.order, *self.belief.directions)

    @property
    def told(self) -> ParameterBeliefs:
        """The beliefs about the parameters that a fit reports: those of the cosmology in place of its scores."""
        own = {p: self.stored[p] for p in self.order}
        return ParameterBeliefs(own | ParameterBeliefs.of(self.belief).stored)

    def reported(self, values: Mapping) -> dict[str, Float[Array, "*draw"]]:
        """Give the parameters that a fit reports, those of the cosmology in place of its scores.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            All free parameters by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            The free ones of all else, and those of the cosmology that vary.
        """
        cosmology = self.belief.values(values)
        own = {p: values[p] for p in self.free if p not in self.belief.directions}
        return own | {p: cosmology[p] for p in self.belief.varying}

    def log_prob(self, values: Mapping) -> Float[Array, "*draw"]:
        """Evaluate the ln prior density of the free parameters.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            Free parameters by name.

        Returns
        -------
        Float[Array, "*draw"]
            Sum of the ln densities; -inf for a cosmology that cannot be.
        """
        possible = self.belief.possible(self.belief.values(values))
        return jnp.where(possible, super().log_prob(values), -jnp.inf)

    def _populations(self, of_population: Mapping, values: Mapping, shape) -> PopulationDraws:
        """The populations under the cosmologies of `values`: by the scores, or by the parameters that are reported."""
        if set(self.belief.directions) <= set(values):
            cosmology = possible_or_middle(self.belief, values)
        else:
            middle = dict(zip(PARAMETERS, jnp.exp(jnp.asarray(self.belief.mean, dtype=float)), strict=True))
            cosmology = {p: values[p] if p in values else middle[p] for p in PARAMETERS}

        def one(given):
            of_population, cosmology = given
            functions = MassFunctionDraws.of_one(
                self.mass_prior, cosmology, jnp.asarray(self.to_coefficients), self.base.fingerprint
            )
            pivot_z = jnp.asarray(self.pivot_z, dtype=float)
            return PopulationUnderCosmology.under(
                self.population, of_population, pivot_z, self.base, self.mass_prior, functions
            )

        given = jax.tree.map(
            lambda a: jnp.broadcast_to(jnp.asarray(a, dtype=float), shape), (dict(of_population), cosmology)
        )
        # One after the other: a table of the mass function is made for each.
        return jax.lax.map(one, given) if shape else one(given)
