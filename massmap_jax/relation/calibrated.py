"""A relation that was fitted jointly with a population and the calibration of measured masses: one type for all three.

Draws of the relation and of the population belong together, draw by draw: taken apart, the errors that all masses
share would come out too small. `draw`, `pick`, `thinned` and every function that takes a relation keep them together.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.prior.population import PopulationDraws
from massmap_jax.relation.law import MassLuminosityRelation

# Names of the numbers that describe measured masses: ln M_obs = ln M + bias, with a scatter, correlated with that of L.
MEASURED = ("bias", "mass_scatter", "correlation")


class CalibratedRelation(MassLuminosityRelation):
    """A power-law relation together with the population of the catalogue and the calibration of measured masses.

    `fit_relation` makes batches of it. Wherever a relation goes, a draw of it brings its own p(ln M | z) along, which
    takes the place of the mass prior.

    Parameters
    ----------
    measured : dict of str to Float[Array, "*draw"]
        "bias", "mass_scatter" and "correlation" of the measured masses.
    population : PopulationDraws
        The population, draw by draw.
    **relation : object
        Arguments of `MassLuminosityRelation`.

    Attributes
    ----------
    measured : dict of str to Float[Array, "*draw"]
        As above.
    population : PopulationDraws
        As above.

    See Also
    --------
    MassLuminosityRelation : The relation alone.
    """

    measured: dict[str, Float[Array | np.ndarray, "*draw"]]
    population: PopulationDraws

    def __init__(self, *, measured: Mapping, population: PopulationDraws, **relation: Any):
        super().__init__(**relation)
        self.measured = dict(measured)
        self.population = population

    @classmethod
    def joined(cls, relation: MassLuminosityRelation, measured: Mapping, population: PopulationDraws):
        """Put a relation, the calibration and the population together, draw by draw and without a check.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation or a batch.
        measured : dict of str to Float[Array, "*draw"]
            Calibration of the measured masses.
        population : PopulationDraws
            The population.

        Returns
        -------
        CalibratedRelation
            The three in one.
        """
        labels = {p: getattr(relation, p) for p in ("evolution", "omega_m", "lum_unit", "mass_definition", "source")}
        names: tuple[str, ...] = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter", "log_weight")
        names += () if relation.gamma is None else ("gamma",)
        shape = jnp.shape(relation.alpha1)
        measured = {p: jnp.broadcast_to(jnp.asarray(v, dtype=float), shape) for p, v in measured.items()}
        labels |= {"measured": measured, "population": population}
        return cls._unchecked({p: getattr(relation, p) for p in names}, labels)

    def parameter(self, name: str) -> Float[Array | np.ndarray, "*draw"]:
        """Give a parameter by its name.

        Parameters
        ----------
        name : str
            A parameter of the relation, of the calibration, or "population_" and one of the population.

        Returns
        -------
        Float[Array, "*draw"]
            Its values.
        """
        if name in self.measured:
            return self.measured[name]
        if name.startswith("population_"):
            return self.population.values[name.removeprefix("population_")]
        return super().parameter(name)
