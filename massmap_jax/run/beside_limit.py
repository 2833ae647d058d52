"""The limit of a catalogue beside its luminosities: one in another unit, or a logarithm, is far below all of them."""

import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError

# Luminosity functions rise towards the limit, so that the faintest of several objects are within a factor of a few.
_SEVERAL, _FAR, _ELSEWHERE = 20, 10.0, 1e3


def check_limit(selection, catalogue: HaloCatalogue, notes: list[str]) -> None:
    """Say where all luminosities are far above the limit of their catalogue, which is then as good as none.

    Parameters
    ----------
    selection : Selection or None
        A limit in luminosity, flux or signal to noise; others are not compared.
    catalogue : HaloCatalogue
        The catalogue.
    notes : list of str
        A note is added beyond a factor of 10, for 20 objects or more.

    Raises
    ------
    MassmapError
        Beyond a factor of 1000: a limit in another unit, or its logarithm.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> from massmap_jax.run.beside_limit import check_limit
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[1e10 + 1e8 * i for i in range(20)], redshift=[0.1] * 20, sigma_ln_luminosity=0.05
    ... )
    >>> notes = []
    >>> check_limit(mm.FluxLimit(9e9), catalogue, notes)
    >>> notes
    []
    >>> check_limit(mm.FluxLimit(10.0), catalogue, notes)
    Traceback (most recent call last):
        ...
    massmap_jax.errors.MassmapError: the faintest of 20 objects, ...
    """
    limit_of = getattr(selection, "limit_of", None)
    rows = np.flatnonzero(catalogue.usable & np.isfinite(catalogue.ln_lum_obs))
    if limit_of is None or rows.size < _SEVERAL:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_error = catalogue.ln_lum_obs[rows] + np.log(catalogue.sigma_ln_lum[rows])
        above = catalogue.ln_lum_obs[rows] - np.asarray(limit_of(catalogue.redshift[rows], ln_error), dtype=float)
    if not np.isfinite(above).all() or not (least := float(above.min())) > np.log(_FAR):
        return
    told = (
        f"the faintest of {rows.size:,} objects, row {rows[np.argmin(above)]}, is {np.exp(min(least, 700.0)):.2g} times"
        f" above the limit of the catalogue ({selection.describe()}), which is then as good as none: see whether the"
        " limit is in the unit of the luminosities and no logarithm"
    )
    if least > np.log(_ELSEWHERE):
        raise MassmapError(told)
    notes.append(told)
