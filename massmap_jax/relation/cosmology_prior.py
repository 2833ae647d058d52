"""Beliefs about a relation and the cosmology, for a fit of both: `CosmologyPrior`.

The cosmology enters by standard scores, N(0, 1) each, of the normal distribution in the ln of its parameters
(`prior.cosmology_belief`); they are coordinates of the fit beside those of the relation.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import PARAMETERS
from massmap_jax.relation.beliefs import AroundRelation, Beliefs, RelationPrior, pack
from massmap_jax.relation.extra import BiasedPrior
from massmap_jax.relation.law import LABELS, MassLuminosityRelation


class RelationUnderCosmology(MassLuminosityRelation):
    """A relation and the cosmology it is evaluated under, as a fit proposes them.

    Parameters
    ----------
    cosmology : dict of str to Float[Array, "*draw"]
        omega_m, sigma8, h, n_s and omega_b.
    extra_bias : Float[Array, "*draw"], optional
        Bias of mass likelihoods that are fitted too.
    **relation : object
        Arguments of `MassLuminosityRelation`.

    Attributes
    ----------
    cosmology : dict of str to Float[Array, "*draw"]
        As above.
    extra_bias : Float[Array, "*draw"] or None
        As above.

    See Also
    --------
    massmap_jax.relation.with_cosmology.RelationAndCosmology : What the result of a fit holds.
    """

    cosmology: dict[str, Any]
    extra_bias: Any

    def __init__(self, *, cosmology: Mapping, extra_bias: Any = None, **relation: Any):
        super().__init__(**relation)
        self.cosmology = dict(cosmology)
        self.extra_bias = extra_bias


class CosmologyPrior(AroundRelation):
    """Beliefs about a relation, perhaps with the bias of mass likelihoods, and about the cosmology.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs by name, the standard scores "cosmology_1" and so on among them.
    relation_prior : RelationPrior or BiasedPrior
        Beliefs about the relation alone.
    belief : CosmologyBelief
        Belief about the cosmology.
    """

    stored: dict
    relation_prior: Any
    belief: CosmologyBelief

    @classmethod
    def of(cls, relation_prior: RelationPrior | BiasedPrior, belief: CosmologyBelief) -> "CosmologyPrior":
        """Join beliefs.

        Parameters
        ----------
        relation_prior : RelationPrior or BiasedPrior
            Beliefs about the relation.
        belief : CosmologyBelief
            Belief about the cosmology.

        Returns
        -------
        CosmologyPrior
            The beliefs.
        """
        scores = {name: pack(dist.Normal(0.0, 1.0)) for name in belief.directions}
        return cls(dict(relation_prior.stored) | scores, relation_prior, belief)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return (*self.relation_prior.names, *self.belief.directions)

    @property
    def of_cosmology(self) -> "ParameterBeliefs":
        """The belief about each parameter of the cosmology that varies, on its own."""
        return ParameterBeliefs.of(self.belief)

    def reported(self, values: Mapping) -> dict[str, Float[Array, "*draw"]]:
        """Give the parameters that a fit reports: of the relation, and of the cosmology in place of its scores.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            All free parameters by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            The relation's free ones, and those of the cosmology that vary.
        """
        cosmology = self.belief.values(values)
        return {p: values[p] for p in self.relation_prior.free} | {p: cosmology[p] for p in self.belief.varying}

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

    def relation(self, values: Mapping, log_weight=0.0) -> RelationUnderCosmology:
        """Make the relation under its cosmology, without a check of the values.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            All free parameters by name.
        log_weight : float or Float[Array, "*draw"], optional
            ln weight of each draw.

        Returns
        -------
        RelationUnderCosmology
            One relation, or a batch where the values are arrays. In place of a cosmology that cannot be stands the mean
            of the belief, so that no gradient is NaN; `log_prob` is -inf there.
        """
        plain = self.relation_prior.relation(values, log_weight)
        columns = plain.columns()
        bias = columns.pop("extra_bias", None)
        cosmology = possible_or_middle(self.belief, values)
        labels = {name: getattr(plain, name) for name in LABELS}
        return RelationUnderCosmology._unchecked(columns, labels | {"cosmology": cosmology, "extra_bias": bias})


class ParameterBeliefs(Beliefs):
    """The belief about each parameter of the cosmology on its own, which figures and summaries show.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs by name.
    """

    stored: dict

    @classmethod
    def of(cls, belief: CosmologyBelief) -> "ParameterBeliefs":
        """Take the belief about each parameter that varies on its own.

        Parameters
        ----------
        belief : CosmologyBelief
            Belief about the cosmology.

        Returns
        -------
        ParameterBeliefs
            Lognormal beliefs.
        """
        mean = dict(zip(PARAMETERS, belief.mean, strict=True))
        return cls({name: pack(dist.LogNormal(float(mean[name]), sd)) for name, sd in belief.sd.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(self.stored)


def possible_or_middle(belief: CosmologyBelief, scores: Mapping) -> dict[str, Array]:
    """Give the cosmology of standard scores; in place of one that cannot be, the mean of the belief.

    Parameters
    ----------
    belief : CosmologyBelief
        Belief about the cosmology.
    scores : dict of str to Float[Array, "*draw"]
        Scores by name.

    Returns
    -------
    dict of str to Float[Array, "*draw"]
        omega_m, sigma8, h, n_s and omega_b, with gradients that are not NaN.
    """
    cosmology = belief.values(scores)
    possible = belief.possible(cosmology)
    middle = dict(zip(PARAMETERS, jnp.exp(jnp.asarray(belief.mean, dtype=float)), strict=True))
    return {name: jnp.where(possible, v, middle[name]) for name, v in cosmology.items()}
