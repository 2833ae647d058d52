"""Predictions for objects that are in the catalogue because their measured mass is above a threshold.

An object with the measured mass m is in it with probability Phi[(m - threshold) / width], all in ln M. What a fit
predicts of those that are in it is what it predicts of all, times that probability, over its mean.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.likelihood.integrals import ln_normal
from massmap_jax.relation.selected_on import ln_above_threshold

# Nodes of an integral over a tail, and how far beyond the mean it goes, in standard deviations of what is predicted.
_NODES, _REACH = 96, 8.0
_x, _w = np.polynomial.legendre.leggauss(_NODES)


class AboveThreshold(eqx.Module):
    """The selection of one draw, at one redshift.

    Attributes
    ----------
    selected : dict of str to Float[Array, ""]
        The selection, as `CalibratedRelation` holds it.
    z : Float[Array, ""]
        Redshift.
    """

    selected: dict[str, Float[Array, ""]]
    z: Float[Array, ""]

    @classmethod
    def of(cls, draw, z) -> "AboveThreshold | None":
        """Give that of one draw of a fit; None where it knows no such selection."""
        return cls(draw.selected, z) if draw.selected else None

    def ln_chance(self, mean, spread=0.0) -> Float[Array, "..."]:
        """Evaluate ln of the probability to be in the catalogue of a normal measured mass.

        Parameters
        ----------
        mean, spread : Float[Array, "..."]
            Its mean [ln Msun] and standard deviation.

        Returns
        -------
        Float[Array, "..."]
            ln of the probability.
        """
        return ln_above_threshold(self.selected, mean, self.z, spread)

    def of_one(self, pit_of_lum, ln_mass_obs, ln_of_lum, given, spread, ln_p, middle, total):
        """Give what `calibrators_check` wants of one object, as it is predicted of objects in the catalogue.

        Parameters
        ----------
        pit_of_lum : Float[Array, ""]
            PIT of its luminosity.
        ln_mass_obs : Float[Array, ""]
            Its measured mass [ln Msun].
        ln_of_lum, given, spread : Float[Array, "node"]
            At each mass ln of its weight times the likelihood of the luminosity; mean [ln Msun] and standard deviation
            of ln M_obs given the luminosity.
        ln_p, middle, total : Float[Array, "node"]
            The same without the luminosity.

        Returns
        -------
        tuple of Float[Array, "..."]
            The three PITs, ln p(L | z) and ln p(L, ln M_obs | z).
        """
        pits = [
            self.pit_of_mass(ln_mass_obs, ln_of_lum, given, spread),
            pit_of_lum,
            self.pit_of_mass(ln_mass_obs, ln_p, middle, total),
        ]
        ln_a = jax.nn.logsumexp(ln_p + self.ln_chance(middle, total))
        of_lum = jax.nn.logsumexp(ln_of_lum + self.ln_chance(given, spread))
        both = jax.nn.logsumexp(ln_of_lum + ln_normal(ln_mass_obs, given, spread)) + self.ln_chance(ln_mass_obs)
        return jnp.stack(pits), of_lum - ln_a, both - ln_a

    def pit_of_mass(self, ln_mass_obs, ln_weight, mean, spread) -> Float[Array, ""]:
        """Compute the probability that the measured mass of an object in the catalogue is below the one it has.

        Parameters
        ----------
        ln_mass_obs : Float[Array, ""]
            The one it has [ln Msun].
        ln_weight, mean, spread : Float[Array, "node"]
            ln of the weights of normal distributions of ln M_obs, their means [ln Msun] and standard deviations.

        Returns
        -------
        Float[Array, ""]
            The probability.
        """
        inside = ln_weight + self.ln_chance(mean, spread)
        far = _beyond(ln_mass_obs, inside, mean, spread)
        x, ln_step = ln_mass_obs + far * _half(_x), jnp.log(0.5 * far) + jnp.log(jnp.asarray(_w, dtype=float))
        density = jax.nn.logsumexp(ln_weight + ln_normal(x[:, None], mean, spread), axis=1)
        above = jax.nn.logsumexp(density + self.ln_chance(x) + ln_step)
        return 1 - jnp.exp(jnp.minimum(above - jax.nn.logsumexp(inside), 0.0))

    def pit_of_luminosity(self, ln_lum, ln_weight, mean, spread, mass_mean, slope, mass_spread) -> Float[Array, ""]:
        """Compute the probability that the luminosity of an object in the catalogue is below the one it has.

        Parameters
        ----------
        ln_lum : Float[Array, ""]
            ln of the luminosity that it has.
        ln_weight, mean, spread : Float[Array, "node"]
            ln of the weights of normal distributions of ln L_obs, their means and standard deviations.
        mass_mean : Float[Array, "node"]
            Mean of ln M_obs where ln L_obs has its mean [ln Msun].
        slope : Float[Array, ""]
            By how much that rises with ln L_obs.
        mass_spread : Float[Array, ""]
            Standard deviation of ln M_obs at given mass and luminosity.

        Returns
        -------
        Float[Array, ""]
            The probability.
        """
        inside = ln_weight + self.ln_chance(mass_mean, jnp.sqrt(mass_spread**2 + (slope * spread) ** 2))
        far = _beyond(-ln_lum, inside, -mean, spread)
        y, ln_step = ln_lum - far * _half(_x), jnp.log(0.5 * far) + jnp.log(jnp.asarray(_w, dtype=float))
        chance = self.ln_chance(mass_mean + slope * (y[:, None] - mean), mass_spread)
        below = jax.nn.logsumexp(ln_weight + ln_normal(y[:, None], mean, spread) + chance + ln_step[:, None])
        return jnp.exp(jnp.minimum(below - jax.nn.logsumexp(inside), 0.0))


def _half(x):
    """Nodes of -1 to 1 as nodes of 0 to 1."""
    return 0.5 * (1 + jnp.asarray(x, dtype=float))


def _beyond(value, ln_weight, mean, spread):
    """How far above a value the sum of normal distributions reaches."""
    share = jax.nn.softmax(ln_weight)
    middle = share @ mean
    sd = jnp.sqrt(share @ ((mean - middle) ** 2 + spread**2))
    return jnp.maximum(middle - value, 0.0) + _REACH * sd
