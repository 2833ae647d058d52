"""A relation that was fitted jointly with a population and the calibration of measured masses: one type for all three.

Draws of the relation and of the population belong together, draw by draw: taken apart, the errors that all masses
share would come out too small. `draw`, `pick`, `thinned` and every function that takes a relation keep them together.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.likelihood.observables import given_the_others
from massmap_jax.prior.population import PopulationDraws
from massmap_jax.relation.law import LABELS, MassLuminosityRelation
from massmap_jax.relation.selected_on import ln_above_threshold
from massmap_jax.relation.several import MultiObservableRelation

# Names of the numbers that describe measured masses: ln M_obs = ln M + bias, with a scatter, correlated with that of L.
MEASURED = ("bias", "mass_scatter", "correlation")
# The name that an object's own measured mass has among its observables.
OWN_MASS = "mass"


class CalibratedRelation(MultiObservableRelation):
    """A power-law relation together with the population of the catalogue and the calibration of measured masses.

    `fit_relation` makes batches of it. Wherever a relation goes, a draw of it brings its own p(ln M | z) along, which
    takes the place of the mass prior.

    Parameters
    ----------
    measured : dict of str to Float[Array, "*draw"]
        "bias", "mass_scatter" and "correlation" of the measured masses; with further observables, "partial_NAME_mass"
        too.
    population : PopulationDraws
        The population, draw by draw.
    selected : dict of str to Float[Array, "*draw"], optional
        Of objects that were selected on a measured mass: "ln_threshold" at z = 0 [ln Msun], "width" of the threshold in
        ln M, "evolution", its exponent of 1 + z (0 where it is not given), and "sigma_mass", the typical error of the
        measured masses in ln M. Empty for no such selection.
    **relation : object
        Arguments of `MultiObservableRelation`.

    Attributes
    ----------
    measured : dict of str to Float[Array, "*draw"]
        As above.
    population : PopulationDraws
        As above.
    selected : dict of str to Float[Array, "*draw"]
        As above.

    See Also
    --------
    MassLuminosityRelation : The relation alone.
    """

    measured: dict[str, Float[Array | np.ndarray, "*draw"]]
    population: PopulationDraws
    selected: dict[str, Float[Array | np.ndarray, "*draw"]]

    def __init__(
        self, *, measured: Mapping, population: PopulationDraws, selected: Mapping | None = None, **relation: Any
    ):
        super().__init__(**relation)
        self.measured = dict(measured)
        self.population = population
        self.selected = dict(selected or {})

    @classmethod
    def joined(
        cls,
        relation: MassLuminosityRelation,
        measured: Mapping,
        population: PopulationDraws,
        selected: Mapping | None = None,
    ):
        """Put a relation, the calibration and the population together, draw by draw and without a check.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation or a batch.
        measured : dict of str to Float[Array, "*draw"]
            Calibration of the measured masses.
        population : PopulationDraws
            The population.
        selected : dict of str to Float[Array, "*draw"], optional
            Selection on a measured mass.

        Returns
        -------
        CalibratedRelation
            The three in one.
        """
        labels = {p: getattr(relation, p) for p in LABELS}
        shape = jnp.shape(relation.alpha1)
        own = (
            {p: jnp.broadcast_to(jnp.asarray(v, dtype=float), shape) for p, v in values.items()}
            for values in (measured, selected or {})
        )
        labels |= {"measured": next(own), "selected": next(own), "population": population}
        labels |= _several(relation)
        return cls._unchecked(relation.columns(), labels)

    def parameter(self, name: str) -> Float[Array | np.ndarray, "*draw"]:
        """Give a parameter by its name.

        Parameters
        ----------
        name : str
            A parameter of the relation, of the calibration, ``population_`` and one of the population,
            ``selection_`` and one of a selection on the measured mass, or one of the cosmology, where draws have one.

        Returns
        -------
        Float[Array, "*draw"]
            Its values.
        """
        if name in self.measured:
            return self.measured[name]
        if name.startswith("selection_"):
            return self.selected[name.removeprefix("selection_")]
        if name in self.population.cosmologies:
            return self.population.cosmologies[name]
        if name.startswith("population_"):
            return self.population.values[name.removeprefix("population_")]
        return super().parameter(name)

    def with_source(self, source: str) -> "CalibratedRelation":
        """Give the same relation with another label that says where it is from.

        Parameters
        ----------
        source : str
            The label.

        Returns
        -------
        CalibratedRelation
            The relation, with host arrays.
        """
        labels = {p: getattr(self, p) for p in LABELS} | {"source": source}
        labels |= _several(self)
        return CalibratedRelation(
            measured=self.measured, population=self.population, selected=self.selected, **self.columns(), **labels
        )

    def ln_selected(self, ln_mass, z, ln_lum_obs, sigma, observed=None) -> Float[Array, "..."]:
        """Evaluate the ln of the probability that an object was selected on its measured mass, for one draw.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the true mass [ln Msun].
        z : Float[Array, ""]
            Redshift.
        ln_lum_obs : Float[Array, ""]
            ln of the observed luminosity, whose scatter is correlated with that of the measured mass.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].
        observed : Observed, optional
            Further observables of the object.

        Returns
        -------
        Float[Array, "..."]
            ln of the probability, given the true mass and what was measured; 0 without such a selection.

        Notes
        -----
        Given what was measured, the measured mass is normal about a mean that is linear in ln M: with luminosities
        alone, ln M + B0 + c12 / c11 (y - mean y) with the variance c22 - c12^2 / c11; c11, c12 and c22 of `covariance`.
        The measured mass itself is not known here: its error is the typical one.
        """
        if not self.selected:
            return jnp.zeros_like(ln_mass)
        rows, with_mass = rows_and_mass(self, ln_lum_obs, sigma, self.selected["sigma_mass"], 0.0, z, observed)
        residual, slope, matrix, there = rows
        offset, rise, spread = given_the_others(residual, slope, matrix, there, 1.0, with_mass)
        mean = jnp.log(self.alpha3) + self.measured["bias"] + offset + rise * (ln_mass - jnp.log(self.alpha3))
        ln_chance = ln_above_threshold(self.selected, mean, z, spread)
        if observed is not None and OWN_MASS in self.names:
            # Where the mass that decided is known, nothing more is to be learned from it.
            ln_chance = jnp.where(observed.kind[self.names.index(OWN_MASS)] > 0, 0.0, ln_chance)
        return ln_chance


def _several(relation: MassLuminosityRelation) -> dict[str, Any]:
    """What a relation says of further observables, as arguments."""
    if not isinstance(relation, MultiObservableRelation) or not relation.names:
        return {}
    others = dict(zip(relation.names, relation.laws, strict=True))
    return {"others": others, "scatter_correlation": relation.scatter_correlation}


def rows_and_mass(relation: CalibratedRelation, ln_lum_obs, sigma, sigma_mass, error_correlation, z, observed):
    """Give residuals, slopes and covariance of an object's observables, and their covariances with a measured mass.

    Parameters
    ----------
    relation : CalibratedRelation
        One relation with the calibration.
    ln_lum_obs, sigma : Float[Array, ""]
        ln of the observed luminosity, and its error.
    sigma_mass : Float[Array, ""]
        Error of ln M_obs.
    error_correlation : Float[Array, ""]
        Correlation of the two errors.
    z : Float[Array, ""]
        Redshift.
    observed : Observed or None
        Further observables of the object.

    Returns
    -------
    rows : tuple of list
        What `likelihood.observables.gaussian_term` takes, at the pivot ln alpha3.
    with_mass : list of Float[Array, ""]
        Covariance of a measured mass with each of the observables, and its variance as the last.

    Notes
    -----
    At fixed mass and luminosity, a measured mass is independent of the other observables.
    """
    c11, c12, c22 = covariance(relation, sigma, sigma_mass, error_correlation)
    if observed is None or not relation.names:
        residual = ln_lum_obs - relation.mean_ln_lum(jnp.log(relation.alpha3), z)
        return ([residual], [relation.alpha2], [[c11]], [jnp.ones_like(residual, dtype=bool)]), [c12, c22]
    _, rows = relation.rows_of(ln_lum_obs, sigma, z, observed)
    correlation = relation.scatter_correlation
    assert correlation is not None
    of_scatter = relation.measured["correlation"] * relation.measured["mass_scatter"]
    with_mass = [c12]
    for i, law in enumerate(relation.laws, start=1):
        scatters = of_scatter * correlation[0, i] * law.scatter
        errors = error_correlation * sigma_mass * observed.error_correlation[0, i] * observed.sigma[i - 1]
        with_mass.append(scatters + errors)
    return rows, [*with_mass, c22]


def covariance(relation: CalibratedRelation, sigma, sigma_mass, error_correlation):
    """Give the covariance of ln L_obs and ln M_obs at fixed mass.

    Parameters
    ----------
    relation : CalibratedRelation
        One relation with the calibration.
    sigma, sigma_mass : Float[Array, "..."]
        Errors of ln L_obs and ln M_obs.
    error_correlation : Float[Array, "..."]
        Their correlation.

    Returns
    -------
    tuple of Float[Array, "..."]
        Variance of ln L_obs, covariance, variance of ln M_obs.
    """
    scatter, mass_scatter = relation.scatter, relation.measured["mass_scatter"]
    c12 = relation.measured["correlation"] * scatter * mass_scatter + error_correlation * sigma * sigma_mass
    return scatter**2 + sigma**2, c12, mass_scatter**2 + sigma_mass**2
