"""Predictions for objects that are in the catalogue because their measured mass is above a threshold.

An object with the measured mass m is in it with probability Phi[(m - threshold) / width], all in ln M. What a fit
predicts of those that are in it is what it predicts of all, times that probability, over its mean.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from massmap_jax.likelihood.integrals import ln_normal
from massmap_jax.prior.normal_cdf import both_below, log_ndtr
from massmap_jax.relation.selected_on import ln_above_threshold, ln_m50

# Nodes of an integral over masses near the threshold, and how many widths above it all objects are in the catalogue.
_NODES, _REACH = 40, 6.0
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
        selected = getattr(draw, "selected", None)
        return cls(selected, z) if selected else None

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
        ln_inside = jax.nn.logsumexp(ln_weight + self.ln_chance(mean, spread))
        above = jax.nn.logsumexp(ln_weight + log_ndtr((mean - ln_mass_obs) / spread))
        # Those above the measured mass that are not in the catalogue have masses up to some widths above the threshold.
        threshold, width = ln_m50(self.selected, self.z), self.selected["width"]
        far = jnp.maximum(threshold + _REACH * width - ln_mass_obs, 0.0)
        x, w = (0.5 * far * jnp.asarray(a, dtype=float) for a in (1 + _x, _w))
        x = ln_mass_obs + x
        density = jnp.exp(jax.nn.logsumexp(ln_weight + ln_normal(x[:, None], mean, spread), axis=1) - ln_inside)
        missing = (w * density * ndtr((threshold - x) / width)).sum()
        return jnp.clip(1 - (jnp.exp(above - ln_inside) - missing), 0.0, 1.0)

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
        own = slope * spread
        total = jnp.sqrt(self.selected["width"] ** 2 + mass_spread**2 + own**2)
        score = (mass_mean - ln_m50(self.selected, self.z)) / total
        below = jax.nn.logsumexp(ln_weight + jnp.log(both_below((ln_lum - mean) / spread, score, -own / total)))
        return jnp.exp(jnp.minimum(below - jax.nn.logsumexp(ln_weight + log_ndtr(score)), 0.0))
