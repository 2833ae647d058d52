"""A relation of several observables with the mass, whose scatters are correlated: `MultiObservableRelation`.

    y_i | M ~ N(alpha1_i + alpha2_i ln(M / alpha3_i) + evolution_i(z), C_ii),   C = scatters + errors, both correlated

The luminosity is the first of them. Every object is still a Gaussian in ln M (`likelihood.observables`), whatever of
it is missing; a limit multiplies it by the probability of the limit at each mass.
"""

from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.observables import LOWER_LIMIT, MEASURED, UPPER_LIMIT, checked_correlation
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Observed
from massmap_jax.likelihood.observables import gaussian_term, given_the_others
from massmap_jax.likelihood.terms import GaussianTerm
from massmap_jax.prior.normal_cdf import log_ndtr
from massmap_jax.relation.law import PARAMETERS, MassLuminosityRelation


class MultiObservableRelation(MassLuminosityRelation):
    """Power-law relations of several observables with the mass, and the correlations of their scatters.

    One of them is the luminosity, whose parameters this relation has itself. `mass_posterior` and `mass_map` use the
    observables of the catalogue that it names (`HaloCatalogue.with_observables`).

    Parameters
    ----------
    others : dict of str to MassLuminosityRelation
        The relation of each further observable, by its name: "luminosity" stands for that observable there.
    scatter_correlation : array_like, (all, all) or (draw, all, all), optional
        Correlation of the scatters at fixed mass: the luminosity first, then the others in order. By default they are
        independent.
    **relation : object
        Arguments of `MassLuminosityRelation`, of the luminosity.

    Attributes
    ----------
    names : tuple of str
        Names of the further observables.
    laws : tuple of MassLuminosityRelation
        Their relations.
    scatter_correlation : Float[Array, "*draw all all"] or None
        As above; None where there are no further observables.

    Raises
    ------
    MassmapError
        Relations with different numbers of draws, or a correlation that is none.

    See Also
    --------
    Observables : The observables of a catalogue.
    fit_relation : Infer such a relation from a catalogue.

    Examples
    --------
    The mass of a cluster with a luminosity and a richness:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> richness = mm.MassLuminosityRelation(alpha1=3.4, alpha2=1.0, alpha3=1e14, scatter=0.25)
    >>> relation = mm.MultiObservableRelation(
    ...     alpha1=1.0, alpha2=1.3, alpha3=1e14, scatter=0.4,
    ...     others={"richness": richness}, scatter_correlation=[[1, 0.3], [0.3, 1]]
    ... )
    >>> observables = mm.Observables.from_arrays({"richness": [40.0]}, {"richness": 0.15})
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[3.0], redshift=[0.3], sigma_ln_luminosity=0.1)
    >>> prior = mm.MassPrior.default()
    >>> both = mm.mass_posterior(catalogue.with_observables(observables), prior, relation)
    >>> of_lum = mm.MassLuminosityRelation(alpha1=1.0, alpha2=1.3, alpha3=1e14, scatter=0.4)
    >>> alone = mm.mass_posterior(catalogue, prior, of_lum)
    >>> print(f"{alone.sd[0]:.2f} {both.sd[0]:.2f}")
    0.31 0.24
    """

    laws: tuple[MassLuminosityRelation, ...]
    scatter_correlation: Float[Array | np.ndarray, "*draw all all"] | None
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, *, others: Mapping[str, Any] | None = None, scatter_correlation: Any = None, **relation: Any):
        super().__init__(**relation)
        others = dict(others or {})
        self.names = tuple(others)
        shape = jnp.shape(self.alpha1)
        self.laws = tuple(_with_draws(name, law, shape) for name, law in others.items())
        size = 1 + len(others)
        if not others:
            self.scatter_correlation = None
            return
        matrix = np.eye(size) if scatter_correlation is None else scatter_correlation
        if isinstance(matrix, jax.core.Tracer):
            self.scatter_correlation = jnp.broadcast_to(matrix, (*shape, size, size))
        else:
            matrix = checked_correlation(np.asarray(matrix, np.float64), size, "the correlation of the scatters")
            self.scatter_correlation = np.broadcast_to(matrix, (*shape, size, size)).copy()

    @classmethod
    def _unchecked(cls, parameters: dict[str, Array | np.ndarray], labels: dict) -> Self:
        """Make a relation that holds these arrays as they are."""
        labels = dict(labels)
        others, matrix = labels.pop("others", {}), labels.pop("scatter_correlation", None)
        one = MassLuminosityRelation(alpha1=0.0, alpha2=1.0, alpha3=1e14, scatter=0.0)
        stand_in = super()._unchecked(parameters, labels | {"others": dict.fromkeys(others, one)})
        if not others:
            return stand_in
        return eqx.tree_at(lambda r: (r.laws, r.scatter_correlation), stand_in, (tuple(others.values()), matrix))

    def object_term(self, ln_lum_obs, sigma, z, observed: Observed) -> GaussianTerm:
        """Give the likelihood of ln M of one object from all that was measured of it, for one draw.

        Parameters
        ----------
        ln_lum_obs : Float[Array, ""]
            ln of the observed luminosity; any number where there is none.
        sigma : Float[Array, ""]
            Its error [ln L].
        z : Float[Array, ""]
            Redshift.
        observed : Observed
            The further observables of this object.

        Returns
        -------
        GaussianTerm
            ln of the likelihood, per unit L_obs and per unit ln of each of the others. Limits are not in it.
        """
        pivot, (residual, slope, covariance, there) = self.rows_of(ln_lum_obs, sigma, z, observed)
        term = gaussian_term(residual, slope, covariance, there, pivot)
        per_lum = jnp.where(observed.has_lum, ln_lum_obs, 0.0)
        return GaussianTerm(term.centre, term.width, term.log_norm - per_lum)

    def rows_of(self, ln_lum_obs, sigma, z, observed: Observed):
        """Give residuals, slopes and covariance of the observables of one object, for one draw.

        Parameters
        ----------
        ln_lum_obs : Float[Array, ""]
            ln of the observed luminosity; any number where there is none.
        sigma : Float[Array, ""]
            Its error [ln L].
        z : Float[Array, ""]
            Redshift.
        observed : Observed
            The further observables of this object.

        Returns
        -------
        pivot : Float[Array, ""]
            ln M that the residuals belong to [ln Msun].
        rows : tuple of list
            What `likelihood.observables.gaussian_term` takes: residuals, slopes, covariance, and what was measured.
        """
        laws, correlation = (self, *self.laws), self.scatter_correlation
        assert correlation is not None
        pivot = jnp.log(self.alpha3)
        values = [ln_lum_obs, *(observed.ln_value[i] for i in range(len(self.laws)))]
        errors = [sigma, *(observed.sigma[i] for i in range(len(self.laws)))]
        there = [observed.has_lum, *(observed.kind[i] == MEASURED for i in range(len(self.laws)))]
        residual = [value - law.mean_ln_lum(pivot, z) for value, law in zip(values, laws, strict=True)]
        covariance = []
        for i, law in enumerate(laws):
            row: list = [law.scatter**2 + errors[i] ** 2]
            for j in reversed(range(i)):
                of_scatter = correlation[i, j] * law.scatter * laws[j].scatter
                row.insert(0, of_scatter + observed.error_correlation[i, j] * errors[i] * errors[j])
            covariance.append(row)
        return pivot, (residual, [law.alpha2 for law in laws], covariance, there)

    def parameter(self, name: str) -> Float[Array | np.ndarray, "*draw"]:
        """Give a parameter by its name.

        Parameters
        ----------
        name : str
            A parameter of the luminosity's relation, or of another's: "alpha2_NAME", say.

        Returns
        -------
        Float[Array, "*draw"]
            Its values.
        """
        for other, law in zip(self.names, self.laws, strict=True):
            if name.endswith(f"_{other}") and name.removesuffix(f"_{other}") in PARAMETERS:
                return law.parameter(name.removesuffix(f"_{other}"))
        return super().parameter(name)

    def ln_limits(self, ln_mass, ln_lum_obs, sigma, z, observed: Observed, rows=None) -> Float[Array, "..."]:
        """Evaluate ln of the probability of the limits of one object at given masses, for one draw.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the mass [ln Msun].
        ln_lum_obs : Float[Array, ""]
            ln of the observed luminosity; any number where there is none.
        sigma : Float[Array, ""]
            Its error [ln L].
        z : Float[Array, ""]
            Redshift.
        observed : Observed
            The further observables of this object, of which one may be a limit.
        rows : tuple of list, optional
            What `rows_of` gives, where it is at hand, with a measured mass as a further row.

        Returns
        -------
        Float[Array, "..."]
            ln of the probability, given the mass and all that was measured; 0 without a limit.

        Notes
        -----
        Given what was measured, the observable is normal about a mean that is linear in ln M
        (`likelihood.observables.given_the_others`).
        """
        total = jnp.zeros_like(ln_mass)
        if not any(observed.limits):
            return total
        pivot, own_rows = self.rows_of(ln_lum_obs, sigma, z, observed)
        residual, slope, covariance, there = own_rows if rows is None else rows
        for i, any_limit in enumerate(observed.limits, start=1):
            if not any_limit:
                continue
            # Without its own row: of a measurement, nothing would be left, and a gradient that is no number.
            others = [known & (j != i) for j, known in enumerate(there)]
            own = [covariance[max(i, j)][min(i, j)] for j in range(len(residual))] + [covariance[i][i]]
            offset, rise, spread = given_the_others(residual, slope, covariance, others, slope[i], own)
            above = (residual[i] - offset - rise * (ln_mass - pivot)) / spread
            kind = observed.kind[i - 1]
            ln_chance = log_ndtr(jnp.where(kind == LOWER_LIMIT, -above, above))
            total = total + jnp.where((kind == UPPER_LIMIT) | (kind == LOWER_LIMIT), ln_chance, 0.0)
        return total


def _with_draws(name: str, law, shape: tuple[int, ...]) -> MassLuminosityRelation:
    """One of the relations, with as many draws as the luminosity's."""
    if not isinstance(law, MassLuminosityRelation):
        raise MassmapError(f"the relation of {name} is a {type(law).__name__}: give a MassLuminosityRelation")
    own = jnp.shape(law.alpha1)
    if own == shape:
        return law
    if own != ():
        raise MassmapError(
            f"the relation of {name} has {own[0]} draws, and that of the luminosity has {shape or 'one'}: draws belong"
            " together one by one, so give as many"
        )
    return jax.tree.map(lambda a: np.broadcast_to(np.asarray(a), shape).copy(), law)


def term_of(relation, ln_lum_obs, sigma, z, observed: Observed | None) -> GaussianTerm:
    """Give the likelihood of ln M of one object under one draw, from all the observables that the relation knows.

    Parameters
    ----------
    relation : Relation
        One draw of a relation with a `data_term`.
    ln_lum_obs : Float[Array, ""]
        ln of the observed luminosity.
    sigma : Float[Array, ""]
        Its error [ln L].
    z : Float[Array, ""]
        Redshift.
    observed : Observed or None
        The further observables of this object.

    Returns
    -------
    GaussianTerm
        ln of the likelihood, without limits.
    """
    if observed is None or not names_of(relation):
        return relation.data_term(ln_lum_obs, sigma, z)
    return relation.object_term(ln_lum_obs, sigma, z, observed)


def names_of(relation) -> tuple[str, ...]:
    """Give the names of the observables beside the luminosity that a relation knows.

    Parameters
    ----------
    relation : Relation
        Any relation.

    Returns
    -------
    tuple of str
        The names; none for a relation of the luminosity alone.
    """
    return getattr(relation, "names", ())


def refuse_several(relation, what: str) -> None:
    """Refuse a relation of several observables where only the luminosity would be used.

    Parameters
    ----------
    relation : Relation
        Any relation.
    what : str
        Who refuses, for the message.

    Raises
    ------
    MassmapError
        If the relation has further observables.
    """
    if names_of(relation):
        raise MassmapError(
            f"{what} takes the luminosity alone, and this relation is one of {', '.join(names_of(relation))} too: use"
            " mass_posterior or mass_map with method 'analytic', or the relation of the luminosity alone"
        )
