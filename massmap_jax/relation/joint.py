"""ln P(luminosities, measured masses | relation, calibration, population), with the true masses marginalised.

    ln L | M ~ N(alpha1 + alpha2 ln(M / alpha3) + evolution(z), S^2 + sigma^2)
    ln M_obs | M ~ N(ln M + bias, S_m^2 + sigma_m^2),   covariance of the two: R S S_m + rho sigma sigma_m

A measured mass is one more observable, of slope 1, so every object is still a Gaussian in ln M times a constant
(`likelihood.observables`), and its evidence is the integral of that with the population (`prior.population`).
"""

from collections.abc import Mapping
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from massmap_jax.likelihood.objects import Observed
from massmap_jax.likelihood.observables import gaussian_term
from massmap_jax.likelihood.selection import NoSelection, Selection, TabulatedSelection
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws
from massmap_jax.prior.population_cosmology import PopulationUnderCosmology
from massmap_jax.relation.beliefs import Beliefs, RelationPrior, checked, pack
from massmap_jax.relation.calibrated import MEASURED, CalibratedRelation, covariance, rows_and_mass
from massmap_jax.relation.chances import Chances
from massmap_jax.relation.correlations import matrix_of, pairs
from massmap_jax.relation.cosmology_data import LikelihoodUnderCosmology
from massmap_jax.relation.data import HALF_LN_2PI, prior_rows
from massmap_jax.relation.joint_linear import LinearNoise
from massmap_jax.relation.law import LABELS, MassLuminosityRelation
from massmap_jax.relation.selected_on import THRESHOLD, SelectedOn, SelectedOnMass, ln_above_threshold, ln_share
from massmap_jax.relation.several import MultiObservableRelation

# Objects that are integrated at the same time, where there are many.
_BLOCK = 1024
# The same beside a completeness, which is integrated over luminosities at each mass.
_BLOCK_OF_TABLE = 64
# Panels over the posterior of one object, for the probability of a limit.
_PANELS = 12


class JointPrior(Beliefs):
    """Beliefs about the relation, the calibration of measured masses and the population, in one.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs by name; those about the population have the prefix "population_".
    relation_prior : RelationPrior
        Beliefs about the relation alone, with its pivot and labels.
    population : Population
        The form of the population.
    pivot_z : float
        Redshift that the population's centre belongs to.
    base : Lattice
        The mass prior.
    selected : dict of str to float
        What else `CalibratedRelation` holds of a selection on a measured mass; empty for none. Beliefs about the
        threshold are among those by name, with the prefix "selection_".
    laws : tuple of RelationPrior
        Beliefs about the relations of further observables.
    observables : tuple of str
        Their names.
    order : tuple of str
        All names, in order.
    """

    stored: dict
    relation_prior: RelationPrior
    laws: tuple[RelationPrior, ...]
    pivot_z: float
    base: Lattice
    selected: dict[str, float]
    population: Population = eqx.field(static=True)
    observables: tuple[str, ...] = eqx.field(static=True)
    order: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        relation_prior: RelationPrior,
        measured: Mapping,
        population: Population,
        pivot: tuple[float, float],
        prior: MassPrior,
        selected: Mapping | None = None,
        laws: Mapping[str, RelationPrior] | None = None,
        correlations: Mapping | None = None,
    ) -> "JointPrior":
        """Join beliefs.

        Parameters
        ----------
        relation_prior : RelationPrior
            Beliefs about the relation.
        measured : dict of str to object
            Beliefs about bias, scatter and correlation of measured masses.
        population : Population
            The form of the population, with beliefs.
        pivot : tuple of (float, float)
            Where the masses are, roughly [ln Msun], and the redshift that the population's centre belongs to.
        prior : MassPrior
            The mass prior.
        selected : dict of str to object, optional
            Of a selection on a measured mass: beliefs about the names of `selected_on.THRESHOLD`, and "sigma_mass".
        laws : dict of str to RelationPrior, optional
            Beliefs about the relations of further observables, by name.
        correlations : dict of str to object, optional
            Beliefs about the partial correlations of their scatters (`relation.correlations`).

        Returns
        -------
        JointPrior
            The beliefs.
        """
        laws = dict(laws or {})
        of_laws = {f"{p}_{name}": b for name, law in laws.items() for p, b in law.beliefs.items()}
        of_population = {f"population_{p}": b for p, b in population.beliefs(pivot[0]).items()}
        selected = dict(selected or {})
        of_threshold = {f"selection_{p}": selected.pop(p) for p in THRESHOLD if p in selected}
        others = {p: measured[p] for p in MEASURED} | of_laws | dict(correlations or {}) | of_population | of_threshold
        stored = dict(relation_prior.stored) | {p: pack(checked(p, b)) for p, b in others.items()}
        order = (*relation_prior.names, *others)
        # Beliefs are arrays of `stored`: the static form has none, so that they do not ask for another compilation.
        plain = replace(population, given=())
        known = tuple(laws.values()), float(pivot[1]), Lattice.of(prior), selected, plain, tuple(laws)
        return cls(stored, relation_prior, *known, order)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return self.order

    @property
    def alpha3(self) -> float:
        """Pivot mass of the relation [Msun]."""
        return self.relation_prior.alpha3

    @property
    def told(self) -> Beliefs:
        """The beliefs about the parameters that a fit reports."""
        return self

    def middle(self) -> dict[str, float]:
        """Give the middle of the belief about every parameter.

        Returns
        -------
        dict of str to float
            Values by name.
        """
        return super().central()

    def central(self) -> dict[str, float]:
        """Give a value in the middle of the belief about every parameter, where a search can start.

        Returns
        -------
        dict of str to float
            Values by name.
        """
        found = super().central()
        start = self.population.start(found.get("population_centre", 0.0))
        begun = {f"population_{p}": v for p, v in start.items() if f"population_{p}" in self.free}
        # In the middle of a belief about widths and skewness a search may stay where it is.
        return found | {p: v for p, v in begun.items() if p not in ("population_centre",)}

    def relation(self, values: Mapping, log_weight=0.0) -> CalibratedRelation:
        """Make the relation with its calibration and population, without a check of the values.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            All free parameters by name.
        log_weight : float or Float[Array, "*draw"], optional
            ln weight of each draw.

        Returns
        -------
        CalibratedRelation
            One relation, or a batch where the values are arrays.
        """
        relation = self.relation_prior.relation(values, log_weight)
        shape = jnp.shape(relation.alpha1)
        beliefs = self.beliefs
        full = {
            p: jnp.broadcast_to(jnp.asarray(values[p] if p in values else beliefs[p], dtype=float), shape)
            for p in self.order
            if p not in self.relation_prior.names
        }
        measured = {p: full[p] for p in (*MEASURED, *pairs(self.observables))}
        relation = self._with_observables(relation, full, shape)
        of_population = {p: full[f"population_{p}"] for p in self.population.parameters}
        population = self._populations(of_population, values, shape)
        of_threshold = {p: full[f"selection_{p}"] for p in THRESHOLD if f"selection_{p}" in full}
        return CalibratedRelation.joined(relation, measured, population, self.selected | of_threshold)

    def _populations(self, of_population: Mapping, values: Mapping, shape) -> PopulationDraws:
        """The populations of one relation or a batch, of their parameters; `values` holds all parameters."""

        def one(of_population, pivot_z):
            return PopulationDraws.of(self.population, of_population, pivot_z, self.base)

        pivot_z = jnp.broadcast_to(jnp.asarray(self.pivot_z, dtype=float), shape)
        return jax.vmap(one)(of_population, pivot_z) if shape else one(of_population, pivot_z)

    def _with_observables(self, relation: MassLuminosityRelation, full: Mapping, shape) -> MassLuminosityRelation:
        """The relation of the luminosity with those of further observables."""
        if not self.observables:
            return relation
        others = {}
        for name, law in zip(self.observables, self.laws, strict=True):
            others[name] = law.relation({p: full[f"{p}_{name}"] for p in law.names})
        labels = {p: getattr(relation, p) for p in LABELS}
        matrix = matrix_of({p: full[p] for p in pairs(self.observables)}, self.observables)
        return MultiObservableRelation._unchecked(
            relation.columns(), labels | {"others": others, "scatter_correlation": matrix}
        )


class JointLikelihood(eqx.Module):
    """ln P(data | relation, calibration, population) of objects with a luminosity, a measured mass, or both.

    Attributes
    ----------
    ln_lum_obs, sigma : Float[Array, "point"]
        ln of the observed luminosity and its error.
    ln_mass_obs, sigma_mass : Float[Array, "point"]
        ln of the measured mass [ln Msun] and its error; any numbers where there is none.
    error_correlation : Float[Array, "point"]
        Correlation of the two errors.
    has_mass : Bool[Array, "point"]
        Whether there is a measured mass.
    z : Float[Array, "point"]
        Redshift.
    weight : Float[Array, "point"]
        How many objects a point stands for.
    row : Int[Array, "point"]
        Which entry of `ln_prior` a point has.
    redshift : Float[Array, "row"]
        The distinct redshifts.
    ln_prior : Float[Array, "row mass"]
        ln of the mass prior's density at the mass nodes, for each distinct redshift.
    prior : MassPrior
        The mass prior.
    selection : Selection, SelectedOnMass or SelectedOn
        Which objects can be in the catalogue.
    constant : Float[Array, ""]
        Sum of ln p_det over the objects.
    observed : Observed or None
        Further observables of each point.
    noise : LinearNoise or None
        Noise of the luminosities, where that of any is linear or any is a limit.
    chances : Chances or None
        Where a table says which objects are in the catalogue: at which redshifts and errors A is evaluated for all of
        them. Without, it is evaluated at each point.
    moves : bool
        Whether relations bring a cosmology along, under which `ln_prior` and `prior` are made anew.
    """

    ln_lum_obs: Float[Array | np.ndarray, "point"]
    sigma: Float[Array | np.ndarray, "point"]
    ln_mass_obs: Float[Array | np.ndarray, "point"]
    sigma_mass: Float[Array | np.ndarray, "point"]
    error_correlation: Float[Array | np.ndarray, "point"]
    has_mass: Bool[Array | np.ndarray, "point"]
    z: Float[Array | np.ndarray, "point"]
    weight: Float[Array | np.ndarray, "point"]
    row: Int[Array | np.ndarray, "point"]
    ln_prior: Float[Array | np.ndarray, "row mass"]
    redshift: Float[Array | np.ndarray, "row"]
    prior: MassPrior
    selection: Selection | SelectedOnMass | SelectedOn
    constant: Float[Array | np.ndarray | np.float64, ""]
    observed: Observed | None = None
    noise: LinearNoise | None = None
    chances: Chances | None = None
    moves: bool = eqx.field(static=True, default=False)

    @property
    def difference(self) -> float | None:
        """Step of second derivatives by differences, where those of JAX would take a minute to compile."""
        if self.noise is not None:
            return 0.01
        return LikelihoodUnderCosmology.difference if self.moves else None

    @property
    def smooth(self) -> bool:
        """Whether it has no small steps of its own, such as those of single precision."""
        return self.noise is None

    def _under(self, relation: CalibratedRelation) -> "tuple[JointLikelihood, CalibratedRelation]":
        """The likelihood with the mass function of the relation's cosmology, and the relation without it."""
        population = relation.population
        if not isinstance(population, PopulationUnderCosmology):
            return self, relation
        prior = population.functions.prior_under(self.prior)
        rows = prior_rows(prior, self.redshift)
        moved = eqx.tree_at(lambda s: (s.prior, s.ln_prior), self, (prior, rows))
        return moved, eqx.tree_at(lambda r: r.population, relation, population.alone)

    def ln_z(self, relation: CalibratedRelation) -> Float[Array, "point"]:
        """Evaluate ln (Z / A) of each point, per unit ln L_obs and ln M_obs.

        Parameters
        ----------
        relation : CalibratedRelation
            One relation with its population.

        Returns
        -------
        Float[Array, "point"]
            ln of evidence over the probability to be in the catalogue.
        """
        under, alone = self._under(relation)
        return under._ln_z(alone)

    def _ln_z(self, relation, *, over_a: bool = True) -> Float[Array, "point"]:
        """ln (Z / A) of each point, or ln Z alone, under a relation without a cosmology."""
        points = self._points()

        def one(*point):
            ln_z = self._one(relation, *point)
            return ln_z - self._ln_a(relation, *point) if over_a else ln_z

        number, block = self.z.shape[0], _BLOCK_OF_TABLE if over_a and table_of(self.selection) is not None else _BLOCK
        if number <= 2 * block:
            return jax.vmap(one)(*points)
        size = -(-number // block) * block
        index = np.minimum(np.arange(size), number - 1).reshape(-1, block)
        blocks = jax.tree.map(lambda a: jnp.asarray(a)[index], points)
        # Checkpointed: the gradient does not keep the panels of every block in memory.
        return jax.lax.map(jax.checkpoint(lambda block: jax.vmap(one)(*block)), blocks).ravel()[:number]

    def ln_joint(self, relation: CalibratedRelation, e: Float[Array, "point"]):
        """Evaluate ln of population x likelihood / A of each point at one mass, and the mass.

        Parameters
        ----------
        relation : CalibratedRelation
            One relation with its population.
        e : Float[Array, "point"]
            Where: the mass is ln M = centre + width e, with the Gaussian that the point's data give.

        Returns
        -------
        ln_density : Float[Array, "point"]
            ln of the density in e; its integral over e is exp of `ln_z`.
        ln_mass : Float[Array, "point"]
            The masses [ln Msun].
        """

        def one(e, *point):
            ln_lum, sigma, ln_mass_obs, sigma_mass, _, has_mass, observed, z, row, noise = point
            rows, term = self._term(relation, *point[:-2])
            ln_mass, ln_prior = term.centre + term.width * e, jnp.asarray(self.ln_prior)[row]
            ln_p = relation.population.ln_density(self.prior.interpolate(ln_prior, ln_mass), ln_mass, z)
            inside = (ln_mass > self.prior.ln_mass_min) & (ln_mass < self.prior.ln_mass_max)
            ln_likelihood = term(ln_mass)
            if noise is not None:
                linear = noise.ln_joint(relation, ln_mass, z, ln_mass_obs, sigma_mass, has_mass, observed)
                ln_likelihood = jnp.where(noise.given, linear, ln_likelihood)
            ln_p = jnp.where(inside, ln_p, -jnp.inf) + ln_likelihood + jnp.log(term.width)
            if observed is not None and any(observed.limits):
                ln_p = ln_p + relation.ln_limits(ln_mass, ln_lum, sigma, z, observed, rows)
            return ln_p - self._ln_a(relation, *point), ln_mass

        return jax.vmap(one)(e, *self._points())

    def _points(self):
        """Arguments of `_one`, for all points."""
        measured = self.ln_mass_obs, self.sigma_mass, self.error_correlation, self.has_mass
        # JAX takes no NumPy array into a function with a derivative of its own, as that of linear noise has.
        noise = jax.tree.map(jnp.asarray, self.noise)
        return (self.ln_lum_obs, self.sigma, *measured, self.observed, self.z, self.row, noise)

    def _term(self, relation, ln_lum, sigma, ln_mass_obs, sigma_mass, rho, has_mass, observed, z):
        """All that was measured of one point: residuals, slopes and covariance, and the Gaussian that they are."""
        pivot = jnp.log(relation.alpha3)
        others, with_mass = rows_and_mass(relation, ln_lum, sigma, sigma_mass, rho, z, observed)
        residual, slope, matrix, there = others
        off = ln_mass_obs - relation.measured["bias"] - pivot
        rows = [*residual, off], [*slope, jnp.ones_like(pivot)], [*matrix, with_mass], [*there, has_mass]
        return rows, gaussian_term(*rows, pivot)

    def _one(self, relation, *point):
        """ln Z of one point."""
        ln_lum, sigma, ln_mass_obs, sigma_mass, _, has_mass, observed, z, row, noise = point
        ln_prior = jnp.asarray(self.ln_prior)[row]
        if noise is not None:
            linear = noise.ln_z(relation, self.prior, ln_prior, z, ln_mass_obs, sigma_mass, has_mass, observed)
            if noise.every:
                return linear
        rows, term = self._term(relation, *point[:-2])
        evidence = relation.population.log_evidence_of_row(self.prior, ln_prior, term.centre, z, term.width)
        ln_z = term.log_norm + jnp.log(term.width) + HALF_LN_2PI + evidence
        if observed is not None and any(observed.limits):
            ln_z = ln_z + self._ln_limits(relation, ln_prior, ln_lum, sigma, z, observed, rows, term)
        return ln_z if noise is None else jnp.where(noise.given, linear, ln_z)

    def _ln_a(self, relation, ln_lum, sigma, ln_mass_obs, sigma_mass, rho, has_mass, observed, z, row, noise):
        """ln of the probability that an object like this point is in the catalogue, over that of the point itself.

        What the point itself has depends on no parameter but a fitted threshold of the measured mass, and else is in
        `constant`, or left out.
        """
        if isinstance(self.selection, NoSelection):
            return jnp.zeros(())
        ln_prior = jnp.asarray(self.ln_prior)[row]
        if isinstance(self.selection, SelectedOnMass):
            _, _, c22 = covariance(relation, sigma, sigma_mass, rho)
            own = jnp.where(has_mass, ln_above_threshold(relation.selected, ln_mass_obs, z), 0.0)
            return self._ln_selected(relation, ln_prior, z, c22) - own
        if isinstance(self.selection, SelectedOn):
            return self.selection.log_norm_of_row(relation, self.prior, ln_prior, z, observed)
        if noise is None:
            return self.selection.log_norm(relation, self.prior, z, sigma)
        linear = noise.ln_chance(relation, self.prior, ln_prior, z)
        if noise.every_error:
            return linear
        return jnp.where(noise.has_error, linear, self.selection.log_norm(relation, self.prior, z, sigma))

    def _ln_limits(self, relation, ln_prior, ln_lum, sigma, z, observed, rows, term):
        """ln of the mean probability of a limit over the posterior of ln M that all else gives."""
        still, centre, width = jax.lax.stop_gradient((relation, term.centre, term.width))
        low, high, _ = still.population.posterior_range(self.prior, z, centre, width)
        ln_mass = panels.panel_nodes(low, high, _PANELS)
        density = relation.population.ln_density(self.prior.interpolate(ln_prior, ln_mass), ln_mass, z) + term(ln_mass)
        density = density + jnp.log(panels.panel_weights(low, high, _PANELS))
        ln_chance = relation.ln_limits(ln_mass, ln_lum, sigma, z, observed, rows)
        return jax.nn.logsumexp(density + ln_chance) - jax.nn.logsumexp(density)

    def _ln_selected(self, relation, ln_prior, z, c22):
        """ln of the probability that the measured mass of an object at z is above the threshold."""
        mean = jnp.asarray(self.prior.ln_mass_nodes) + relation.measured["bias"]
        chance = ln_above_threshold(relation.selected, mean, z, jnp.sqrt(c22))
        return ln_share(relation, self.prior, ln_prior, z, chance)

    def __call__(self, relation: CalibratedRelation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation with its calibration and population.

        Parameters
        ----------
        relation : CalibratedRelation
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the points.
        """
        under, alone = self._under(relation)
        total = (self.weight * under._ln_z(alone, over_a=self.chances is None)).sum() + self.constant
        return total if self.chances is None else total - self.chances(alone, under.prior, self.selection)


def table_of(selection) -> TabulatedSelection | None:
    """Give the completeness by which objects were selected, on the luminosity or on another observable, if any."""
    return selection if isinstance(selection, TabulatedSelection) else getattr(selection, "table", None)
