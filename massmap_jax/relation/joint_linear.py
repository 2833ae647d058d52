"""Linear noise and upper limits of the luminosity in a fit with measured masses or several observables: their evidence.

What else is known of an object at fixed ln M, a measured mass and further observables y, is normal. At given y the mean
of ln L at fixed ln M is then still linear in ln M, with a smaller scatter
(`likelihood.observables.first_given_the_others`). The integral over L is K of `likelihood.linear_noise` at that mean
and scatter, and one integral over ln M is left,

    Z = integral of p(ln M | z) N(y; mean y(M), C) exp[K(ln L_ref - mean ln L(M, y); q, scatter)] d ln M.

It is cut into panels that follow what varies: K, the completeness or the components of the population, and the Gaussian
of y in ln M. The chance to be in a catalogue with a sharp limit is the same integral without y, with K of a measurement
above the limit.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.observables import UNKNOWN, first_given_the_others
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import GaussianTerm
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.calibrated import CalibratedRelation, rows_and_mass
from massmap_jax.relation.data import HALF_LN_2PI, filled
from massmap_jax.relation.linear import LinearData, number_of_panels

# Half the length of what is integrated about the mass that the rest says, and about a component of the population, in
# their widths.
_REACH, _OF_POPULATION = 9.0, 4.0
# Panels over the whole range, and over each component of the population.
_WHOLE, _EACH = 2, 3
# Length of a panel in units of the narrowest feature of K. With twice as many panels of each kind nothing changes by
# more than 1e-6: what ln Z is off by, up to 2e-4, is the table of K.
_PANEL_WIDTHS = 5.0
# Slopes of ln L at given measured mass nearer to 0 than this count as this, where panels are placed.
_FLATTEST = 1e-2


class LinearNoise(eqx.Module):
    """Noise of the luminosities of some objects, where it is normal in L or they are upper limits.

    Attributes
    ----------
    given : Bool[Array, "point"]
        Whether the integral over L is K. The others have lognormal noise, or linear noise so small that it is the same.
    has_error : Bool[Array, "point"]
        Whether the noise is linear, however small it is: the chance to be above the limit is then that of linear noise.
    is_limit : Bool[Array, "point"]
        Whether the luminosity is an upper limit.
    ln_reference, place : Float[Array, "point"]
        ln L_ref and asinh(q / 2), as in `likelihood.linear_noise.reference`.
    ln_unit : Float[Array, "point"]
        ln of what turns exp(K) into a density per L_obs; 0 for limits.
    table, table_of_limits : Float[Array, "point scatter coefficient"] or None
        What `likelihood.linear_noise.at_places` gives for measurements, and for limits where there are any: given what
        else was measured, each object has a scatter of its own.
    ln_reference_of_limit, place_of_limit : Float[Array, "point"]
        The same of the limit of the catalogue at the error of the object; any numbers without a selection.
    panels, panels_of_limit : int
        Panels over the interval where K changes.
    limits : bool
        Whether any luminosity is a limit.
    every, every_error : bool
        Whether `given` and `has_error` hold for all points.
    """

    given: Bool[Array | np.ndarray, "*point"]
    has_error: Bool[Array | np.ndarray, "*point"]
    is_limit: Bool[Array | np.ndarray, "*point"]
    ln_reference: Float[Array | np.ndarray, "*point"]
    place: Float[Array | np.ndarray, "*point"]
    ln_unit: Float[Array | np.ndarray, "*point"]
    table: Float[Array | np.ndarray, "*point scatter coefficient"]
    table_of_limits: Float[Array | np.ndarray, "*point scatter coefficient"] | None
    ln_reference_of_limit: Float[Array | np.ndarray, "*point"]
    place_of_limit: Float[Array | np.ndarray, "*point"]
    panels: int = eqx.field(static=True)
    panels_of_limit: int = eqx.field(static=True)
    limits: bool = eqx.field(static=True)
    every: bool = eqx.field(static=True)
    every_error: bool = eqx.field(static=True)

    @classmethod
    def of(cls, data: LinearData, index, scatter: float) -> "LinearNoise":
        """Collect the noise of some objects, filled up to a few sizes.

        Parameters
        ----------
        data : LinearData
            The objects.
        index : Int[np.ndarray, "point"]
            Which of its objects.
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].

        Returns
        -------
        LinearNoise
            In the order of `index`.
        """
        given, has_error = (data.noisy | data.limits)[index], (data.linear | data.limits)[index]
        is_limit = data.limits[index]
        ln_error, z = data.ln_error[index], data.catalogue.redshift[data.rows[index]]
        ln_reference, place = (np.asarray(a) for a in linear_noise.reference(data.ln_lum[index], data.sigma[index]))
        at_limit, place_of_limit = ln_reference, place
        selected = not isinstance(data.selection, NoSelection)
        if selected:
            ln_limit = np.asarray(data.selection.limit_of(z, ln_error))
            relative = np.exp(ln_error - ln_limit)
            at_limit, place_of_limit = (np.asarray(a) for a in linear_noise.reference(ln_limit, relative))
        table = linear_noise.at_places("normal", place)
        of_limits = linear_noise.at_places("upper_limit", place) if is_limit.any() else None
        measured, limits, chances = place[given & ~is_limit], place[is_limit], place_of_limit[has_error & selected]
        on = linear_noise.intervals(measured, scatter, np)
        numbers = [number_of_panels((on.least, on.greatest), measured, scatter, _PANEL_WIDTHS)]
        for where in (limits, chances):
            interval = linear_noise.limit_interval(where, scatter, np)
            numbers.append(number_of_panels(interval, where, scatter, _PANEL_WIDTHS))
        return cls(
            given=filled(given),
            has_error=filled(has_error),
            is_limit=filled(is_limit),
            ln_reference=filled(ln_reference),
            place=filled(place),
            ln_unit=filled(np.where(is_limit, 0.0, -ln_error - HALF_LN_2PI)),
            table=filled(table),
            table_of_limits=None if of_limits is None else filled(of_limits),
            ln_reference_of_limit=filled(at_limit),
            place_of_limit=filled(place_of_limit),
            panels=max(numbers[:2]),
            panels_of_limit=numbers[2],
            limits=bool(is_limit.any()),
            every=bool(given.all()),
            every_error=bool(has_error.all()),
        )

    def ln_z(
        self, relation: CalibratedRelation, prior: MassPrior, ln_prior, z, ln_mass_obs, sigma_mass, has_mass, observed
    ) -> Float[Array, ""]:
        """Evaluate ln Z of one object, per unit L_obs, ln M_obs and ln of each further observable.

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
        ln_mass_obs, sigma_mass : Float[Array, ""]
            ln of the measured mass [ln Msun] and its error, which is not correlated with that of the luminosity; any
            numbers where there is none.
        has_mass : Bool[Array, ""]
            Whether there is a measured mass.
        observed : Observed or None
            Further observables of the object, none of them a limit.

        Returns
        -------
        Float[Array, ""]
            ln of the evidence.
        """
        known = Known.of(relation, z, ln_mass_obs, sigma_mass, has_mass, observed)
        low, high = self._interval(known.spread)
        nodes = known.nodes(relation, prior, z, self.ln_reference, (low, high), self.panels)
        return self.ln_unit + nodes.ln_integral(relation, prior, ln_prior, z, known, self._ln_likelihood(known))

    def ln_joint(
        self, relation: CalibratedRelation, ln_mass, z, ln_mass_obs, sigma_mass, has_mass, observed
    ) -> Float[Array, ""]:
        """Evaluate ln of the likelihood of one object at one mass; arguments as in `ln_z`, and ln M [ln Msun]."""
        known = Known.of(relation, z, ln_mass_obs, sigma_mass, has_mass, observed)
        return self.ln_unit + known.others(ln_mass) + self._ln_likelihood(known)(ln_mass)

    def ln_chance(self, relation: CalibratedRelation, prior: MassPrior, ln_prior, z) -> Float[Array, ""]:
        """Evaluate ln of the probability that a halo at z, measured with this error, is above the catalogue's limit.

        Arguments as in `ln_z`.
        """
        known = Known.of(relation, z, 0.0, 1.0, jnp.asarray(False), None)
        ends = linear_noise.limit_interval(*(jnp.asarray(a, jnp.float32) for a in (self.place_of_limit, known.spread)))
        nodes = known.nodes(relation, prior, z, self.ln_reference_of_limit, ends, self.panels_of_limit)
        scatter, place = (jnp.asarray(a, jnp.float32) for a in (known.spread, self.place_of_limit))

        def above(ln_mass):
            t = known.t(self.ln_reference_of_limit, ln_mass)
            if relation.population.kind == "fixed":
                return linear_noise.ln_above(t, scatter, place)
            # Populations that are fitted have no halos so light that noise alone would lift them over the limit.
            return linear_noise.kernel("above", t, scatter, place)

        return nodes.ln_integral(relation, prior, ln_prior, z, known, above)

    def _interval(self, spread):
        """The interval of t where K changes."""
        place, spread = (jnp.asarray(a, jnp.float32) for a in (self.place, spread))
        on = linear_noise.intervals(place, spread)
        ends = on.least, on.greatest
        if not self.limits:
            return ends
        of_limit = linear_noise.limit_interval(place, spread)
        return tuple(jnp.where(self.is_limit, a, b) for a, b in zip(of_limit, ends, strict=True))

    def _ln_likelihood(self, known: "Known"):
        """K as a function of ln M."""
        scatter, place = (jnp.asarray(a, jnp.float32) for a in (known.spread, self.place))

        def ln_likelihood(ln_mass):
            t = known.t(self.ln_reference, ln_mass)
            measured = linear_noise.kernel("normal", t, scatter, place, self.table)
            if not self.limits:
                return measured
            return jnp.where(
                self.is_limit, linear_noise.kernel("upper_limit", t, scatter, place, self.table_of_limits), measured
            )

        return ln_likelihood


class Known(eqx.Module):
    """What is known of one object beside its luminosity, and ln L at fixed ln M given that.

    Attributes
    ----------
    ln_pivot : Float[Array, ""]
        The ln M that `mean` belongs to [ln Msun].
    mean, rise, spread : Float[Array, ""]
        Mean of ln L there, by how much it rises with ln M, and its standard deviation.
    others : GaussianTerm
        ln of the density of the measured mass and the further observables, as a function of ln M.
    """

    ln_pivot: Float[Array, ""]
    mean: Float[Array, ""]
    rise: Float[Array, ""]
    spread: Float[Array, ""]
    others: GaussianTerm

    @classmethod
    def of(cls, relation: CalibratedRelation, z, ln_mass_obs, sigma_mass, has_mass, observed) -> "Known":
        """Collect what is known of one object; arguments as of `LinearNoise.ln_z`."""
        ln_pivot = jnp.log(relation.alpha3)
        rows, with_mass = rows_and_mass(relation, 0.0, 0.0, sigma_mass, 0.0, z, observed)
        residual, slope, matrix, there = rows
        off = ln_mass_obs - relation.measured["bias"] - ln_pivot
        with_it = [*residual, off], [*slope, jnp.ones_like(ln_pivot)], [*matrix, with_mass], [*there, has_mass]
        others, offset, rise, spread = first_given_the_others(*with_it, pivot=ln_pivot)
        return cls(ln_pivot, relation.mean_ln_lum(ln_pivot, z) + offset, rise, spread, others)

    def mean_ln_lum(self, ln_mass):
        """Mean of ln L at some masses."""
        return self.mean + self.rise * (ln_mass - self.ln_pivot)

    def t(self, ln_reference, ln_mass):
        """ln L_ref - mean ln L(M), in single precision: only the sum over many objects needs more."""
        rest = (ln_reference - self.mean).astype(jnp.float32)
        return rest - jnp.asarray(self.rise, jnp.float32) * (ln_mass - self.ln_pivot).astype(jnp.float32)

    def nodes(self, relation, prior: MassPrior, z, ln_reference, of_kernel, number: int) -> "_Nodes":
        """Nodes of the integral over ln M, where K changes on an interval of t with this number of panels.

        They need no derivatives: the integral is the same wherever they are.
        """
        still, relation, of_kernel = jax.lax.stop_gradient((self, relation, of_kernel))
        ends = jnp.asarray(prior.ln_mass_nodes)[np.array([0, -1])]
        peaks = relation.population.scales(z)
        if relation.population.kind not in ("fixed", "hmf_completeness"):
            # Normals do not end with the table of the mass function.
            far = [centre + side * _REACH * width for centre, width in peaks for side in (-1, 1)]
            ends = jnp.stack([jnp.stack([ends[0], *far]).min(), jnp.stack([ends[1], *far]).max()])
        centre, width = still.others.centre, still.others.width
        reach = jnp.minimum(_REACH * width, ends[1] - ends[0])
        least = 0.01 * (ends[1] - ends[0])
        low = jnp.where(width < UNKNOWN, jnp.clip(centre - reach, ends[0], ends[1] - least), ends[0])
        high = jnp.where(width < UNKNOWN, jnp.clip(centre + reach, ends[0] + least, ends[1]), ends[1])
        flat = jnp.abs(still.rise) < _FLATTEST
        rise = jnp.where(flat, jnp.where(still.rise < 0, -_FLATTEST, _FLATTEST), still.rise)
        bright, faint = (still.ln_pivot + (ln_reference - still.mean - t) / rise for t in of_kernel)
        scales = [(low, high, _WHOLE), (jnp.minimum(bright, faint), jnp.maximum(bright, faint), number)]
        for middle, width in peaks:
            scales.append((middle - _OF_POPULATION * width, middle + _OF_POPULATION * width, _EACH))

        def panels_below(ln_mass):
            """How many panels are asked for below a mass."""
            return sum(n * jnp.clip((ln_mass - a) / (b - a), 0.0, 1.0) for a, b, n in scales)

        breaks = jnp.sort(jnp.clip(jnp.stack([end for a, b, _ in scales for end in (a, b)]), low, high))
        asked, total = panels_below(breaks), sum(n for _, _, n in scales)
        share = jnp.asarray(np.arange(total + 1) / total, dtype=breaks.dtype)
        edges = jnp.interp(asked[0] + share * (asked[-1] - asked[0]), asked, breaks)
        ln_mass, weight = jax.vmap(lambda a, b: (panels.panel_nodes(a, b, 1), panels.panel_weights(a, b, 1)))(
            edges[:-1], edges[1:]
        )
        return _Nodes(ln_mass.ravel(), weight.ravel())


class _Nodes(eqx.Module):
    """Nodes in ln M and their weights."""

    ln_mass: Array
    weight: Array

    def ln_integral(self, relation, prior: MassPrior, ln_prior, z, known: Known, ln_likelihood: Any):
        """ln of the integral of the population, what else was measured and a likelihood of ln M."""
        ln_density = relation.population.ln_density(prior.interpolate(ln_prior, self.ln_mass), self.ln_mass, z)
        ln_integrand = ln_density + known.others(self.ln_mass) + ln_likelihood(self.ln_mass)
        peak = jax.lax.stop_gradient(ln_integrand.max())
        return peak + jnp.log((self.weight * jnp.exp(ln_integrand - peak)).sum())
