"""Measured masses and luminosities with linear noise as one draw of a fit predicts them: a part of `calibrators`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.checks.above_threshold import AboveThreshold
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.integrals import ln_normal
from massmap_jax.likelihood.objects import Observed, counts_as_lognormal
from massmap_jax.likelihood.selection import mass_nodes
from massmap_jax.relation.calibrated import covariance
from massmap_jax.relation.joint_linear import Known

# Least variance of ln L given its measurement, as a share of that without: rounding must not make it negative.
_LEAST_SHARE = 1e-4


def is_noisy(catalogue: HaloCatalogue, rows) -> np.ndarray:
    """Tell which rows have linear noise that is not taken as lognormal."""
    normal = catalogue.noise_codes[rows] == NOISE_KINDS.index("normal")
    return normal & ~counts_as_lognormal(catalogue, rows)


def noise_columns(catalogue: HaloCatalogue, rows) -> tuple:
    """Give further observables, ln L_ref, asinh(q / 2) and tables of K of some rows, as `under_linear` takes them."""
    ln_reference, place = (np.asarray(a) for a in linear_noise.reference(*catalogue.signed_measurements(rows)))
    return (
        None if catalogue.observables is None else Observed.of(catalogue, rows),
        ln_reference,
        place,
        linear_noise.at_places("normal", place),
        linear_noise.at_places("upper_limit", place),
    )


def under_linear(draw, prior, observed, ln_reference, place, table, table_of_limits, ln_mass_obs, sigma_mass, z):
    """Compute the three PITs of one object under one draw, ln p(L | z) and ln p(L, ln M_obs | z), in units of L_obs.

    Further observables stand beside the luminosity, but for its own PIT. With a selection on the measured mass all is
    of objects in the catalogue, and the PIT of the luminosity NaN: it has no closed form.

    Parameters
    ----------
    draw : CalibratedRelation
        One draw.
    prior : MassPrior
        The mass prior.
    observed, ln_reference, place, table, table_of_limits : Observed or None, Float[Array, "..."]
        What `noise_columns` gives of the object.
    ln_mass_obs, sigma_mass : Float[Array, ""]
        ln of the measured mass [ln Msun], and its error.
    z : Float[Array, ""]
        Redshift.

    Returns
    -------
    tuple of Float[Array, "..."]
        The three PITs, and the two ln densities.

    Notes
    -----
    With K(t) the ln of the mean likelihood of a normal y = ln L with mean -t and variance S^2, mean and variance of y
    given the measurement are -t - S^2 K' and S^2 + S^4 K'' (Tweedie's formula, Efron 2011). ln M_obs is linear in y
    and depends on no other observable at given y, so its mean and variance follow; it is taken as normal, which it is
    where scatters are not correlated.
    """
    ln_mass, ln_p = mass_nodes(prior, z, draw)
    variance, c12, c22 = covariance(draw, 0.0, sigma_mass, 0.0)
    middle, plain_mean = ln_mass + draw.measured["bias"], draw.mean_ln_lum(ln_mass, z)
    known = Known.of(draw, z, ln_mass_obs, sigma_mass, jnp.asarray(False), observed)
    mean, own = known.mean_ln_lum(ln_mass), known.spread**2

    def k(t):
        return linear_noise.kernel("normal", t, known.spread, place, table)

    def slope(t):
        return jax.jvp(k, (t,), (jnp.ones_like(t),))

    t = ln_reference - mean
    (value, first), (_, second) = jax.jvp(slope, (t,), (jnp.ones_like(t),))
    share = jnp.maximum(1 + own * second, _LEAST_SHARE)
    given = middle + c12 / variance * (mean - own * first - plain_mean)
    spread = jnp.sqrt(c22 - c12**2 / variance * (1 - own / variance * share))
    ln_of_lum = ln_p + known.others(ln_mass) + value
    above = AboveThreshold.of(draw, z)
    if above is not None:
        no_pit = jnp.full_like(ln_mass_obs, jnp.nan)
        return above.of_one(no_pit, ln_mass_obs, ln_of_lum, given, spread, ln_p, middle, jnp.sqrt(c22))
    of_lum, plain = jax.nn.softmax(ln_of_lum), jax.nn.softmax(ln_p)
    below = linear_noise.kernel("upper_limit", ln_reference - plain_mean, draw.scatter, place, table_of_limits)
    pit = jnp.stack(
        [
            of_lum @ ndtr((ln_mass_obs - given) / spread),
            plain @ jnp.exp(below),
            plain @ ndtr((ln_mass_obs - middle) / jnp.sqrt(c22)),
        ]
    )
    both = jax.nn.logsumexp(ln_of_lum + ln_normal(ln_mass_obs, given, spread))
    return pit, jax.nn.logsumexp(ln_of_lum), both
