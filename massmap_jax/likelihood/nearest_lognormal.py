"""Linear noise of a good signal to noise as the lognormal noise that is nearest to it, for fits that take no other.

A fit with measured masses integrates over the luminosity in closed form, for which noise has to be normal in ln L.
Noise that is normal in L is nearly so where the signal to noise q = L_obs / e is good: with ln L_obs - 1.5 / q^2 in the
place of ln L_obs (`linear_noise.nearly_lognormal`) mean and scatter of ln L at given mass come out right to 0.006 for
errors of 20 % of the luminosity, where reading the bars as errors of ln L moves them by 0.09 and 0.06
(`tests/likelihood/test_nearest_lognormal.py`).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.likelihood.linear_noise import nearly_lognormal

LEAST_RATIO, USUAL_RATIO = 3.0, 5.0
"""Signal to noise L_obs / e that every object of a fit needs for this, and that all but a tenth of them need."""
OF_SELECTED = 5.0, 10.0
"""The same in a catalogue with a limit in luminosity, which is then off by 1.5 / q^2 in ln L, mostly below 0.015."""
_LOGNORMAL, _NORMAL = NOISE_KINDS.index("lognormal"), NOISE_KINDS.index("normal")


def nearest_lognormal(catalogue: HaloCatalogue, least_ratio: float = LEAST_RATIO) -> HaloCatalogue:
    """Take linear noise as the lognormal noise that is nearest to it, where the signal to noise is good.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects, with noise of any kind.
    least_ratio : float, optional
        Least signal to noise L_obs / e of the objects that are changed.

    Returns
    -------
    HaloCatalogue
        The same catalogue where no usable object has linear noise; else one in which the noise of these objects is
        lognormal. All others keep theirs.
    """
    near = is_near(catalogue, least_ratio)
    if not near.any():
        return catalogue
    ln_lum = np.where(near, nearly_lognormal(catalogue.ln_lum_obs, catalogue.sigma_ln_lum), catalogue.ln_lum_obs)
    # Rows that cannot be used have no noise, of whatever kind.
    code = np.where(near | ~catalogue.usable, _LOGNORMAL, catalogue.noise_codes).astype(np.int32)
    if (code == _LOGNORMAL).all():
        return replace(catalogue, ln_lum_obs=ln_lum, noise_kind="lognormal", noise_code=None)
    return replace(catalogue, ln_lum_obs=ln_lum, noise_code=code)


def is_near(catalogue: HaloCatalogue, least_ratio: float = LEAST_RATIO) -> Bool[np.ndarray, " halo"]:
    """Tell which usable objects have linear noise that is nearly lognormal.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    least_ratio : float, optional
        Least signal to noise L_obs / e.

    Returns
    -------
    Bool[np.ndarray, "halo"]
        True for linear noise of at least this signal to noise.
    """
    with np.errstate(invalid="ignore"):
        short = (catalogue.sigma_ln_lum > 0) & (catalogue.sigma_ln_lum <= (1 + 1e-6) / least_ratio)
    return (catalogue.noise_codes == _NORMAL) & short & catalogue.usable
