"""Magnitudes to luminosities: absolute ones by their zero point, apparent ones with distance modulus and K-correction.

ln L = -0.4 ln 10 (M - M_zero),   M = m - 5 log10(D_L / 10 pc) - 2.5 s log10(1 + z)
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from massmap_jax.catalogue.units import LN10
from massmap_jax.errors import MassmapError

MODES = ("absolute", "apparent")
LN_PER_MAG = -0.4 * LN10
"""What ln L changes by where an object is one magnitude fainter."""


@dataclass(frozen=True)
class Magnitudes:
    """How magnitudes become luminosities.

    Parameters
    ----------
    mode : {"absolute", "apparent"}
        What the column holds.
    zero : float
        Absolute magnitude of one unit of luminosity, such as 4.65 for the Sun in SDSS r (AB).
    luminosity_distance : callable, optional
        Gives the luminosity distance [Mpc] of redshifts; needed for apparent magnitudes.
    cosmology : object, optional
        What those distances are computed in, for a note.
    k_slope : float
        Slope s of the K-correction: L in the rest frame is 4 pi D_L^2 f (1 + z)^s.

    Raises
    ------
    MassmapError
        For an unknown mode, or a zero point that is not given.
    """

    mode: str
    zero: float | None
    luminosity_distance: Any = None
    cosmology: Any = None
    k_slope: float = 0.0

    def __post_init__(self):
        if self.mode not in MODES:
            raise MassmapError(f"magnitudes is {self.mode!r}: it must be 'absolute' or 'apparent'")
        if self.zero is None or not np.isfinite(self.zero):
            raise MassmapError(
                "magnitudes need a zero point: give mag_zero=, the absolute magnitude of one unit of luminosity (4.65"
                " for luminosities in solar ones in SDSS r; 0 for a unit of its own, where the relation is fitted)"
            )
        if self.mode == "absolute" and self.k_slope != 0.0:
            raise MassmapError(
                f"k_correction={self.k_slope:g} has no effect on absolute magnitudes, which are K-corrected: leave it"
                " out"
            )

    def ln_luminosity(self, where: str, mag: np.ndarray, redshift: np.ndarray, good: np.ndarray, notes) -> np.ndarray:
        """Convert magnitudes to ln L.

        Parameters
        ----------
        where : str
            What to call the column in an error.
        mag : Float[np.ndarray, "row"]
            Magnitudes.
        redshift : Float[np.ndarray, "row"]
            Redshifts.
        good : Bool[np.ndarray, "row"]
            Rows whose magnitudes are usable; what they look like is checked.
        notes : list of str
            What was done is added.

        Returns
        -------
        Float[np.ndarray, "row"]
            ln L; NaN where an apparent magnitude has no usable redshift.

        Raises
        ------
        MassmapError
            For apparent magnitudes called absolute, or the other way round.
        """
        middle = np.median(mag[good]) if good.any() else np.nan
        faint = middle > 5.0 if self.mode == "absolute" else middle < -5.0
        if faint:
            other = "apparent" if self.mode == "absolute" else "absolute"
            raise MassmapError(
                f"{where} has a median of {middle:.3g}, which no {self.mode} magnitude of a galaxy or cluster is: pass"
                f" magnitudes='{other}'"
            )
        if self.mode == "absolute":
            notes.append(f"luminosity: from absolute magnitudes, in units of an object of M = {self.zero:g}")
            return LN_PER_MAG * (mag - self.zero)
        distant = np.isfinite(redshift) & (redshift > 0)
        distance = np.full(mag.shape, np.nan)
        distance[distant] = self.luminosity_distance(redshift[distant])
        with np.errstate(all="ignore"):
            modulus = 5.0 * np.log10(distance * 1e5)
            k_correction = 2.5 * self.k_slope * np.log10(1.0 + redshift)
        notes.append(
            f"luminosity: from apparent magnitudes, in units of an object of M = {self.zero:g}, with distances of"
            f" {self.cosmology} and "
            + (f"the K-correction (1 + z)^{self.k_slope:g}" if self.k_slope else "no K-correction")
        )
        return LN_PER_MAG * (mag - modulus - k_correction - self.zero)


def looks_like_magnitudes(name: str, values: np.ndarray) -> bool:
    """Tell whether a column's name, such as "mag_i", "rmag", "MAG_AUTO" or "M_r", speaks of magnitudes.

    Parameters
    ----------
    name : str
        The name.
    values : Float[np.ndarray, "row"]
        Its values: a name that could be a mass, such as "M_b", counts where they are in the range of magnitudes.

    Returns
    -------
    bool
    """
    if re.search(
        r"(?<![a-z])[a-z]{0,8}\d?mags?(?![a-z])|(?<![a-z])mag(?:auto|iso|aper|best|psf|model|petro)|magnitude",
        name.lower(),
    ):
        return True
    good = values[np.isfinite(values)]
    in_range = good.size > 0 and (np.median(good) < -10.0 or (good.min() > 8.0 and good.max() < 30.0))
    return in_range and re.fullmatch(r"M_?(?:abs_?)?[ugrizyUBVRIJK]s?|[mM]_?abs|abs_?[mM]", name.strip()) is not None
