"""A relation whose draws have cosmologies of their own: `with_cosmology`."""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.errors import MassmapError
from massmap_jax.prior.cosmology_draws import CosmologyDraws
from massmap_jax.prior.mass_function_draws import MassFunctionDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.extra import BiasedRelation
from massmap_jax.relation.law import LABELS, MassLuminosityRelation


class RelationAndCosmology(MassLuminosityRelation):
    """A power-law relation, each draw of which has a cosmology and so a mass function of its own.

    `with_cosmology` makes batches of it. Wherever a relation goes, a draw of it brings its own p(ln M | z) along, which
    takes the place of the mass prior.

    Parameters
    ----------
    population : MassFunctionDraws
        The mass functions, draw by draw.
    extra_bias : float or array_like, (draw,), optional
        Bias of mass likelihoods that were fitted too, as in `BiasedRelation`; None where there were none.
    **relation : object
        Arguments of `MassLuminosityRelation`.

    Attributes
    ----------
    population : MassFunctionDraws
        As above.
    extra_bias : Float[Array, "*draw"] or None
        As above.

    See Also
    --------
    with_cosmology : Pair a relation with draws of the cosmology.
    fit_relation : Fit both together.
    """

    population: MassFunctionDraws
    extra_bias: Float[Array | np.ndarray, "*draw"] | None

    def __init__(self, *, population: MassFunctionDraws, extra_bias: Any = None, **relation: Any):
        super().__init__(**relation)
        self.population = population
        self.extra_bias = None if extra_bias is None else np.asarray(extra_bias, dtype=np.float64)

    def columns(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """Give the parameters of the relation and the ln weights by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            Those of `MassLuminosityRelation`, and extra_bias where there is one.
        """
        return super().columns() | ({} if self.extra_bias is None else {"extra_bias": self.extra_bias})

    def parameter(self, name: str):
        """Give a parameter by its name.

        Parameters
        ----------
        name : str
            A parameter of the relation or of the cosmology.

        Returns
        -------
        Float[Array, "*draw"]
            Its values.
        """
        return self.population.values[name] if name in self.population.values else super().parameter(name)

    def ln_selected(self, ln_mass, z, ln_lum_obs, sigma, observed=None):
        """Evaluate the ln of the probability that an object was selected on a measured mass: 0, as none was.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the true mass [ln Msun].
        z, ln_lum_obs, sigma : Float[Array, ""]
            Redshift, ln of the observed luminosity [ln of its unit], and its error [ln L].
        observed : Observed, optional
            Further observables.

        Returns
        -------
        Float[Array, "..."]
            Zeros.
        """
        return jnp.zeros_like(ln_mass)


def with_cosmology(
    relation: MassLuminosityRelation, cosmology: CosmologyDraws, prior: MassPrior, key: Array | None = None
) -> RelationAndCosmology:
    """Give each draw of a relation a cosmology, and so a mass function, of its own.

    The result goes wherever a relation goes, together with the same mass prior: `mass_posterior`, `mass_map`,
    `region_mass`. The masses then have the error of the cosmology too, which all objects share as they share that of
    the relation.

    Parameters
    ----------
    relation : MassLuminosityRelation
        One relation or a batch of draws.
    cosmology : CosmologyDraws
        Draws of the cosmology.
    prior : MassPrior
        The mass prior that will be used: a mass function of Tinker et al., from `MassPrior.default`, `from_hmf` or
        `from_cosmology`. Its fit, mass definition and mass nodes are kept; its cosmology is replaced.
    key : Key[Array, ""], optional
        Random key of the pairs; default `jax.random.key(0)`.

    Returns
    -------
    RelationAndCosmology
        One relation is repeated for every cosmology, with its weight. Of a batch, every draw gets one of the
        cosmologies, which are picked at random by their weights.

    Raises
    ------
    MassmapError
        Another kind of relation, or a prior that cannot follow the cosmology.

    See Also
    --------
    CosmologyDraws : Draws of the cosmology.

    Notes
    -----
    The posterior is the average, over the pairs, of the posteriors that each pair gives alone. Relation and cosmology
    are taken as independent here. A relation that was fitted to luminosities and redshifts under one mass function is
    not: with luminosities alone, a change of sigma8 is taken up by the normalisation of the relation, so that masses
    depend on sigma8 more than a relation held fixed says.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> prior = mm.MassPrior.from_cosmology("Planck18", redshift=[0.0, 1.0], dlog10_mass=0.1)
    >>> cosmology = mm.CosmologyDraws.from_arrays(omega_m=0.3, sigma8=[0.7, 0.9], h=0.7, n_s=0.96, omega_b=0.05)
    >>> relation = mm.MassLuminosityRelation(alpha1=0.0, alpha2=1.0, scatter=0.5, alpha3=1e14)
    >>> both = mm.with_cosmology(relation, cosmology, prior)
    >>> both.num_draws
    2
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[3.0], redshift=[0.3], sigma_ln_luminosity=0.1)
    >>> low, high = (mm.mass_posterior(catalogue, prior, both.draw(i)).mean[0] for i in (0, 1))
    >>> bool(high > low)
    True
    """
    check_kinds("with_cosmology", relation=relation, cosmology=cosmology, prior=prior)
    if relation.num_draws == 1:
        batch = relation.as_batch().draw(np.zeros(cosmology.num_draws, dtype=int))
        log_weight = cosmology.log_weight
    else:
        batch, log_weight = relation.as_batch(), np.asarray(relation.log_weight)
        cosmology = cosmology.pick(jax.random.key(0) if key is None else key, batch.num_draws)
    return joined(batch, MassFunctionDraws.of(prior, cosmology.values), log_weight)


def joined(relation: MassLuminosityRelation, population: MassFunctionDraws, log_weight) -> RelationAndCosmology:
    """Put draws of a relation and as many mass functions together."""
    if type(relation) not in (MassLuminosityRelation, BiasedRelation):
        raise MassmapError(
            f"draws of the cosmology are paired with a relation of luminosity and mass alone, and this one is a"
            f" {type(relation).__name__}, which brings more along: use its draws under one cosmology"
        )
    labels = {name: getattr(relation, name) for name in LABELS}
    return RelationAndCosmology(population=population, **(relation.columns() | {"log_weight": log_weight}), **labels)
