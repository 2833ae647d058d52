"""Catalogues that were selected on another quantity than the luminosity: a measured mass, or a further observable."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Observed
from massmap_jax.likelihood.selection import TabulatedSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.normal_cdf import log_ndtr

if TYPE_CHECKING:
    from massmap_jax.prior.population import PopulationDraws
    from massmap_jax.relation.calibrated import CalibratedRelation
    from massmap_jax.relation.law import MassLuminosityRelation

# How near to the least value objects count as being at an edge, in errors, and how many there are at least.
_NEAR, _MANY_NEAR = 0.3, 10
THRESHOLD = ("ln_threshold", "width", "evolution")
"""What describes a selection on a measured mass: ln m50 = ln threshold + evolution ln(1 + z), and its width in ln M."""


def number_at_edge(ln_value, sigma) -> int:
    """Count the objects at the least value of an observable, if it ends abruptly there.

    Parameters
    ----------
    ln_value, sigma : Float[np.ndarray, "object"]
        ln of the measured values, and their errors in ln.

    Returns
    -------
    int
        Objects within 0.3 of the typical error above the least value, where these are 10 or more and at least half as
        many as in the next such interval; else 0.

    Notes
    -----
    Where objects become rare, the density of what noise has blurred rises by a factor of some three over 0.3 of its
    error at most: 10 objects so near to the least one do not happen by chance, and a cut in the measured value makes
    them.

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.relation.selected_on import number_at_edge
    >>> ln_value = np.random.default_rng(0).normal(0.0, 0.5, 5000)
    >>> cut = ln_value[ln_value > 0.2]
    >>> number_at_edge(ln_value, np.full(ln_value.size, 0.1)), number_at_edge(cut, np.full(cut.size, 0.1))
    (0, 96)
    """
    if ln_value.size == 0:
        return 0
    away = (ln_value - ln_value.min()) / max(float(np.median(sigma)), 1e-6)
    near, beside = int((away <= _NEAR).sum()), int(((away > _NEAR) & (away <= 2 * _NEAR)).sum())
    return near if near >= _MANY_NEAR and 2 * near >= beside else 0


class SelectedOnMass(eqx.Module):
    """A catalogue that holds the objects with a measured mass above a threshold, whether or not that mass is given.

    An object is in the catalogue with probability Phi[(ln M_obs - ln m50(z)) / width], with m50(z) the threshold times
    (1 + z)^evolution. Clusters selected by their SZ signal, with SZ masses as calibration masses, are of this kind.

    Parameters
    ----------
    threshold : float
        The measured mass at which half of the objects at z = 0 are in the catalogue [Msun].
    width : float, optional
        Width of the threshold in ln M.
    evolution : float, optional
        Exponent of 1 + z by which the threshold changes with redshift.
    threshold_error, width_error, evolution_error : float, optional
        Standard deviation of the belief about the ln of the threshold, the ln of the width, and the exponent. What has
        one is fitted; by default all three are known.

    Attributes
    ----------
    ln_threshold : float
        ln of the threshold at z = 0 [ln Msun].
    width : float
        Width of the threshold, in ln M.
    evolution : float
        As above.
    errors : tuple of (float, float, float)
        The three standard deviations.

    Raises
    ------
    MassmapError
        For a threshold or width that is not a positive number, a threshold that is no mass in Msun, or an error that is
        below 0.

    Notes
    -----
    What the selection adds to the likelihood of an object is Phi[(ln M_obs - ln m50) / width] / A, with A the mean of
    Phi[(ln M + bias - ln m50) / sqrt(width^2 + C22)] over the population, C22 the variance of ln M_obs at fixed mass.

    Examples
    --------
    A threshold that is known to 20 %, and is fitted:

    >>> import massmap_jax as mm
    >>> mm.SelectedOnMass(3e14, 0.1, threshold_error=0.2).describe()
    'measured mass above 3e+14 Msun (fitted), width 0.1 in ln M'
    """

    ln_threshold: float
    width: float
    evolution: float
    errors: tuple[float, float, float]

    def __init__(
        self,
        threshold: float,
        width: float = 1e-3,
        evolution: float = 0.0,
        *,
        threshold_error: float = 0.0,
        width_error: float = 0.0,
        evolution_error: float = 0.0,
    ):
        threshold = in_unit(threshold, "Msun", "the mass threshold of the selection")
        if not (np.isfinite(threshold) and threshold > 1e5):
            raise MassmapError(f"the mass threshold of the selection is {threshold:g}: give it in Msun")
        if not (np.isfinite(width) and width > 0):
            raise MassmapError(f"the width of the mass threshold is {width:g}: give one in ln M, above 0")
        if not np.isfinite(evolution):
            raise MassmapError(f"the evolution of the mass threshold is {evolution:g}: give an exponent of 1 + z")
        errors = {"threshold": threshold_error, "width": width_error, "evolution": evolution_error}
        for name, error in errors.items():
            if not (np.isfinite(error) and error >= 0):
                raise MassmapError(f"the error of the {name} of the selection is {error:g}: give 0 or more")
        self.ln_threshold, self.width, self.evolution = float(np.log(threshold)), float(width), float(evolution)
        self.errors = float(threshold_error), float(width_error), float(evolution_error)

    @property
    def numbers(self) -> dict[str, float]:
        """The middle of the belief about each name of `THRESHOLD`."""
        return {name: getattr(self, name) for name in THRESHOLD}

    @property
    def beliefs(self) -> dict:
        """A number or a distribution for each name of `THRESHOLD`."""
        of_threshold, of_width, of_evolution = self.errors
        return {
            "ln_threshold": dist.Normal(self.ln_threshold, of_threshold) if of_threshold else self.ln_threshold,
            "width": dist.LogNormal(np.log(self.width), of_width) if of_width else self.width,
            "evolution": dist.Normal(self.evolution, of_evolution) if of_evolution else self.evolution,
        }

    def ln_chance(self, ln_mass_obs, z) -> Float[Array, "..."]:
        """Evaluate ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_mass_obs : Float[Array, "..."]
            ln of their measured masses [ln Msun].
        z : Float[Array, "..."]
            Their redshifts.

        Returns
        -------
        Float[Array, "..."]
            ln of the probability, with the middle of each belief.
        """
        return ln_above_threshold(self.numbers, ln_mass_obs, z)

    def describe(self) -> str:
        """Describe the selection in a few words.

        Returns
        -------
        str
            The description.
        """
        fitted = [" (fitted)" if error else "" for error in self.errors]
        text = f"measured mass above {np.exp(self.ln_threshold):.3g}"
        if self.evolution or self.errors[2]:
            text += f" (1 + z)^{self.evolution:g}{fitted[2]}"
        return f"{text} Msun{fitted[0]}, width {self.width:g} in ln M{fitted[1]}"


def ln_above_threshold(selected: Mapping, ln_mass_obs, z, spread=0.0) -> Float[Array, "..."]:
    """Evaluate ln of the probability that a normal measured mass is above the threshold of a catalogue.

    Parameters
    ----------
    selected : dict of str to Float[Array, ""]
        A number for each name of `THRESHOLD`; without "evolution" the threshold is the same at all redshifts.
    ln_mass_obs : Float[Array, "..."]
        ln of the measured mass, or its mean [ln Msun].
    z : Float[Array, "..."]
        Redshift.
    spread : Float[Array, "..."], optional
        Standard deviation of ln M_obs; 0 where it is known.

    Returns
    -------
    Float[Array, "..."]
        ln of the probability.
    """
    return log_ndtr((ln_mass_obs - ln_m50(selected, z)) / jnp.sqrt(selected["width"] ** 2 + spread**2))


def ln_m50(selected: Mapping, z) -> Float[Array, "..."]:
    """Evaluate ln of the measured mass of which half are in the catalogue.

    Parameters
    ----------
    selected : dict of str to Float[Array, ""]
        As in `ln_above_threshold`.
    z : Float[Array, "..."]
        Redshift.

    Returns
    -------
    Float[Array, "..."]
        The mass [ln Msun].
    """
    return selected["ln_threshold"] + selected.get("evolution", 0.0) * jnp.log1p(z)


class SelectedOn(eqx.Module):
    """A catalogue that holds the objects whose value of one observable lies above a threshold.

    An object is in the catalogue with probability Phi[(ln y_obs - ln threshold) / width], or with one that a table
    gives. Clusters that were selected by their richness, with luminosities measured afterwards, are of this kind.

    Parameters
    ----------
    observable : str
        Name of the observable, one of those that are fitted.
    threshold : float or TabulatedSelection
        The value at which half of the objects are in the catalogue, in the observable's unit; or the completeness, a
        table in redshift and ln of the observable in place of ln L.
    width : float, optional
        Width of the threshold in ln of the observable (and not in ln M).

    Attributes
    ----------
    observable : str
        As above.
    ln_threshold : float
        ln of the threshold; NaN of a table.
    width : float
        Width of the threshold in ln of the observable (and not in ln M).
    table : TabulatedSelection or None
        The completeness.

    Raises
    ------
    MassmapError
        For a threshold or width that is not a positive number.

    Notes
    -----
    The observable of every object that is in the catalogue is known, to be the value that was measured, or to lie above
    the threshold: give it as a lower limit where only this is known (`Observables.from_arrays(lower_limit=)`). What the
    selection adds to the likelihood is then 1 / A, with A the probability that an object at z is in the catalogue,

        A = integral of p(ln M | z) Phi[(mean ln y - ln threshold) / sqrt(width^2 + S_y^2 + s_y^2)] d ln M.

    A table c(ln y, z) takes the place of Phi by its mean over the scatter and the error of y; the observable of every
    object has to be measured then.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> mm.SelectedOn("richness", 20.0).describe()
    'richness above 20, width 0.001 in ln'

    Half of the objects with a richness of 20, and all from 30 on:

    >>> import numpy as np
    >>> completeness = mm.TabulatedSelection([0.0], np.log([10.0, 20.0, 30.0]), [[0.0, 0.5, 1.0]])
    >>> mm.SelectedOn("richness", completeness).describe()
    'richness by a table of 1 redshifts x 3 values'
    """

    observable: str = eqx.field(static=True)
    ln_threshold: float
    width: float
    table: TabulatedSelection | None

    def __init__(self, observable: str, threshold: float | TabulatedSelection, width: float = 1e-3):
        self.observable, self.table = observable, None
        if isinstance(threshold, TabulatedSelection):
            self.table, self.ln_threshold, self.width = threshold, np.nan, np.nan
            return
        if not (np.isfinite(threshold) and threshold > 0):
            raise MassmapError(f"the threshold of {observable} is {threshold:g}: give a positive number in its unit")
        if not (np.isfinite(width) and width > 0):
            raise MassmapError(f"the width of the threshold is {width:g}: give a positive number in ln")
        self.ln_threshold, self.width = float(np.log(threshold)), float(width)

    def describe(self) -> str:
        """Describe the selection in a few words.

        Returns
        -------
        str
            The description.
        """
        if self.table is not None:
            redshifts, values = self.table.prob.shape
            return f"{self.observable} by a table of {redshifts} redshifts x {values} values"
        return f"{self.observable} above {np.exp(self.ln_threshold):.3g}, width {self.width:g} in ln"

    def ln_chance(self, ln_value, z) -> Float[Array, "..."]:
        """Evaluate ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_value : Float[Array, "..."]
            ln of the observable of each, as observed.
        z : Float[Array, "..."]
            Their redshifts.

        Returns
        -------
        Float[Array, "..."]
            ln of the probability.
        """
        if self.table is not None:
            return self.table.log_prob(ln_value, z)
        return log_ndtr((ln_value - self.ln_threshold) / self.width)

    def log_norms(self, relation: "CalibratedRelation", prior: MassPrior, z, sigma) -> Float[Array, " m"]:
        """Compute ln A of a table for several objects, under one relation.

        Parameters
        ----------
        relation : CalibratedRelation
            One relation with its population.
        prior : MassPrior
            The mass prior.
        z, sigma : Float[Array, "m"]
            Redshifts, and the errors of ln of the observable.

        Returns
        -------
        Float[Array, "m"]
            ln of the probability that an object with such an error is in the catalogue.
        """
        assert self.table is not None
        law = relation.laws[relation.names.index(self.observable)]
        return self.table.log_norms(_OfOne(law, relation.population), prior, z, sigma)

    def log_norm_of_row(self, relation: "CalibratedRelation", prior: MassPrior, ln_prior, z, observed: Observed):
        """Compute ln A of one object, under one relation.

        Parameters
        ----------
        relation : CalibratedRelation
            One relation with its population.
        prior : MassPrior
            The mass prior.
        ln_prior : Float[Array, "mass"]
            ln of its density at the mass nodes at this redshift.
        z : Float[Array, ""]
            Redshift.
        observed : Observed
            The observables of the object, whose error counts.

        Returns
        -------
        Float[Array, ""]
            ln of the probability that such an object is in the catalogue.
        """
        index = relation.names.index(self.observable)
        if self.table is not None:
            return self.log_norms(relation, prior, z[None], observed.sigma[index][None])[0]
        law = relation.laws[index]
        mean = law.mean_ln_lum(jnp.asarray(prior.ln_mass_nodes), z)
        spread = jnp.sqrt(self.width**2 + law.scatter**2 + observed.sigma[index] ** 2)
        return ln_share(relation, prior, ln_prior, z, log_ndtr((mean - self.ln_threshold) / spread))


class _OfOne(NamedTuple):
    """The law of one observable with the population of all: what `TabulatedSelection.log_norm` asks of a relation."""

    law: "MassLuminosityRelation"
    population: "PopulationDraws"

    def mean_ln_lum(self, ln_mass, z):
        return self.law.mean_ln_lum(ln_mass, z)

    def scatter_ln_lum(self, ln_mass, z):
        return self.law.scatter_ln_lum(ln_mass, z)


def ln_share(relation: "CalibratedRelation", prior: MassPrior, ln_prior, z, ln_chance) -> Float[Array, ""]:
    """Compute ln of the share of a population that is selected.

    Parameters
    ----------
    relation : CalibratedRelation
        One relation with its population.
    prior : MassPrior
        The mass prior.
    ln_prior : Float[Array, "mass"]
        ln of its density at the mass nodes at this redshift.
    z : Float[Array, ""]
        Redshift.
    ln_chance : Float[Array, "mass"]
        ln of the probability to be selected at each mass node.

    Returns
    -------
    Float[Array, ""]
        ln of the share.
    """
    nodes = jnp.asarray(prior.ln_mass_nodes)
    ln_steps = jnp.log(jnp.asarray(jnp.gradient(nodes)))
    return jax.nn.logsumexp(relation.population.ln_density(ln_prior, nodes, z) + ln_steps + ln_chance)
