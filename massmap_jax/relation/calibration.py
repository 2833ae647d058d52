"""Measured masses of some objects of a catalogue, which calibrate the relation: `CalibrationMasses`."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Literal, get_args

import equinox as eqx
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.choices import LARGEST_SCATTER, ChosenBy, MassNoise
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import ln_mass_in
from massmap_jax.likelihood.linear_noise import nearly_lognormal

# Fewer measured masses than this cannot say what the population is; below the second number only NUTS is allowed,
# because the posterior is far from normal.
LEAST_CALIBRATORS, FEW_CALIBRATORS = 10, 30
LEAST_MASS_RATIO = 1.5
"""Least M_obs / e of a mass with linear noise, of which the lognormal noise that is nearest is used."""
# Largest bias in ln M below and above the true masses: larger numbers are 1 - b, of 0.6 to 1, and not its ln.
_LARGEST_BIAS = 1.0, 0.5
_NAMES = {
    "bias": "calibration bias",
    "scatter": "calibration scatter",
    "correlation": "correlation of the scatters",
    "extra_bias": "bias of the mass likelihoods",
}


class CalibrationMasses(eqx.Module):
    """Measured masses of some objects: each is ln M_obs = ln M + bias + scatter + error.

    Make them with `from_arrays`.

    Attributes
    ----------
    ln_mass : Float[np.ndarray, "halo"]
        ln of the measured masses [ln Msun], NaN where there is none; one for each row of the catalogue.
    sigma : Float[np.ndarray, "halo"]
        Their errors in ln M.
    correlation : Float[np.ndarray, "halo"]
        Correlation between the errors of ln M_obs and ln L_obs of an object.
    beliefs : dict of str to object
        "bias", "mass_scatter" and "correlation": a numpyro distribution, or a fixed number.
    chosen_by : {"random", "luminosity", "mass"}
        How the objects with a measured mass were chosen.
    mass_definition : str
        Definition of the masses, compared with that of the mass prior.

    See Also
    --------
    fit_relation : Fit the relation with them.
    """

    ln_mass: Float[np.ndarray, "halo"]
    sigma: Float[np.ndarray, "halo"]
    correlation: Float[np.ndarray, "halo"]
    beliefs: dict[str, object]
    chosen_by: ChosenBy = eqx.field(static=True)
    mass_definition: str = eqx.field(static=True)

    @classmethod
    def from_arrays(
        cls,
        *,
        mass,
        sigma_ln_mass,
        correlation=0.0,
        bias=0.0,
        scatter=0.0,
        scatter_correlation=0.0,
        chosen_by: ChosenBy = "random",
        are: Literal["measurements", "posteriors"] = "measurements",
        noise: MassNoise = "lognormal",
        mass_definition: str = "unknown",
    ) -> "CalibrationMasses":
        """Make calibration masses from arrays.

        Parameters
        ----------
        mass : array_like, (halo,)
            Measured masses [Msun], without h; NaN where an object has none. One for each row of the catalogue.
        sigma_ln_mass : float or array_like, (halo,)
            Their errors in ln M, above 0.
        correlation : float or array_like, (halo,), optional
            Correlation between the errors of ln M_obs and of ln L_obs of the same object.
        bias : float, numpyro.distributions.Distribution or str, optional
            B0 in ln M_obs = ln M + B0 + ...: a number, a distribution, or "MEAN:SD".
        scatter : float, numpyro.distributions.Distribution or str, optional
            Intrinsic scatter of ln M_obs at fixed mass.
        scatter_correlation : float, numpyro.distributions.Distribution or str, optional
            Correlation of that scatter with the scatter of ln L.
        chosen_by : {"random", "luminosity", "mass"}, optional
            How the objects with a measured mass were chosen from the catalogue.
        are : {"measurements", "posteriors"}, optional
            "posteriors" are masses that a prior is already in, such as masses corrected for Eddington bias: they are
            refused.
        noise : {"lognormal", "linear"}, optional
            "linear" is for errors that are normal in the mass itself and as long whatever was measured, as those from
            the shapes of galaxies are; `sigma_ln_mass` is then the error as a fraction of the measured mass.
        mass_definition : str, optional
            Definition of these masses, such as "500c".

        Returns
        -------
        CalibrationMasses
            The masses.

        Raises
        ------
        MassmapError
            Values that are no masses, errors or correlations, no object with a mass, masses that are posteriors, or an
            unknown name.

        Notes
        -----
        The data hardly inform bias and scatter of the masses: what is believed of them goes into the result.

        A mass that came out high has a short error in ln M, and one that came out low a long one. Read as lognormal,
        linear noise of 20 % of a usual mass makes the mean ln M of a population of width 0.4 too large by 0.11. With
        ln M_obs - 1.5 sigma^2 in the place of ln M_obs it is right to 0.02.

        Examples
        --------
        Weak-lensing masses of two of three clusters, with a bias known to 5 % and a scatter of about 0.2:

        >>> import numpy as np
        >>> import massmap_jax as mm
        >>> masses = mm.CalibrationMasses.from_arrays(
        ...     mass=[3e14, np.nan, 6e14], sigma_ln_mass=0.3, bias="0:0.05", scatter="0.2:0.05"
        ... )
        >>> masses.number
        2
        """
        if are == "posteriors":
            raise MassmapError(
                "these calibration masses are posteriors: a prior is already in them, and as measurements they would"
                " be counted with it a second time; give the masses before that correction, with their errors"
            )
        if are != "measurements":
            raise MassmapError(f"calibration masses that are {are!r} are not known: give 'measurements'")
        if chosen_by not in get_args(ChosenBy):
            raise MassmapError(
                f"calibration masses chosen by {chosen_by!r} are not known: give {', '.join(get_args(ChosenBy))}"
            )
        if noise not in get_args(MassNoise):
            raise MassmapError(f"noise {noise!r} of the calibration masses is not known: give 'lognormal' or 'linear'")
        if noise == "linear" and chosen_by == "mass":
            raise MassmapError(
                "calibration masses with linear noise are brought to the nearest lognormal noise, and a selection on"
                " the measured mass is one of the masses as they were measured: give noise 'lognormal'"
            )
        arrays = []
        mass = in_unit(mass, "Msun", "calibration mass")
        sigma_ln_mass = in_unit(sigma_ln_mass, "", "error of the calibration mass", "it in ln M, without a unit")
        for name, values in (("mass", mass), ("sigma_ln_mass", sigma_ln_mass), ("correlation", correlation)):
            try:
                arrays.append(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan))
            except (TypeError, ValueError) as error:
                raise MassmapError(f"calibration {name} is not a column of numbers: {error}") from None
        if arrays[0].ndim != 1:
            raise MassmapError(f"calibration mass has shape {arrays[0].shape}: give one number for each object")
        try:
            mass, sigma, correlation = (np.array(np.broadcast_to(a, arrays[0].shape)) for a in arrays)
        except ValueError:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise MassmapError(
                f"calibration mass, error and correlation have shapes {shapes}: give equal ones"
            ) from None
        there = ~np.isnan(mass)
        if not there.any():
            raise MassmapError("no object has a calibration mass: all of them are missing")
        _refuse(there & ~((mass > 0) & np.isfinite(mass)), mass, "calibration mass", "masses are positive, in Msun")
        if np.median(mass[there]) < 1e5:
            raise MassmapError(
                f"calibration masses have a median of {np.median(mass[there]):g}: they have to be in Msun, not in logs"
                " and not in units of 1e14 Msun"
            )
        _refuse(there & ~((sigma > 0) & (sigma < 5)), sigma, "error of the calibration mass", "it is in ln M, above 0")
        _refuse(there & ~(np.abs(correlation) < 1), correlation, "correlation of the errors", "it is between -1 and 1")
        beliefs = {
            "bias": belief("bias", bias),
            "mass_scatter": belief("scatter", scatter),
            "correlation": belief("correlation", scatter_correlation),
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            ln_mass = np.log(mass)
            if noise == "linear":
                _refuse(
                    there & (sigma * LEAST_MASS_RATIO > 1),
                    sigma,
                    "error of the calibration mass",
                    "with linear noise a mass has to be 1.5 times as large; give all as likelihoods (extra=)",
                )
                ln_mass = nearly_lognormal(ln_mass, sigma)
            return cls(ln_mass, sigma, correlation, beliefs, chosen_by, mass_definition)

    @property
    def number(self) -> int:
        """Number of objects with a measured mass."""
        return int(np.isfinite(self.ln_mass).sum())

    def in_definition(self, mass_definition: str, redshift, cosmology="Planck18") -> "CalibrationMasses":
        """Convert the masses to another definition, as those of NFW halos.

        Parameters
        ----------
        mass_definition : str
            The definition wanted, such as "200m".
        redshift : array_like, (halo,)
            Redshifts of the catalogue.
        cosmology : str or astropy.cosmology.FLRW, optional
            Cosmology of the densities.

        Returns
        -------
        CalibrationMasses
            The masses in that definition. The scatter of concentrations at fixed mass is added to each error.

        Raises
        ------
        MassmapError
            If the definition of these masses is not known, or one has no radius.

        Notes
        -----
        Concentrations are those of Duffy et al. (2008), with a scatter of 0.15 dex. The mass of each halo gets its own
        scatter, by its mass and redshift, and nothing has to be learned about it: so it belongs to the errors, and not
        to the belief about the scatter, one number that the fit infers. It is independent of the luminosity's error, so
        that the correlation of the errors falls as the error grows.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> masses = mm.CalibrationMasses.from_arrays(mass=[5e14], sigma_ln_mass=0.1, mass_definition="500c")
        >>> masses = masses.in_definition("200m", [0.3])
        >>> print(masses.mass_definition, masses.ln_mass.round(2), masses.sigma.round(3))
        200m [34.53] [0.157]
        """
        if self.mass_definition == "unknown":
            raise MassmapError("the definition of the calibration masses is not known: give mass_definition=")
        ln_mass, scatter = ln_mass_in(
            self.ln_mass, np.asarray(redshift, np.float64), self.mass_definition, mass_definition, cosmology
        )
        sigma = np.hypot(self.sigma, scatter)
        return replace(
            self,
            ln_mass=ln_mass,
            sigma=sigma,
            correlation=self.correlation * self.sigma / sigma,
            mass_definition=mass_definition,
        )


def belief(name: Literal["bias", "scatter", "correlation", "extra_bias"], given):
    """Make a belief about the calibration from a number, a distribution or text.

    Parameters
    ----------
    name : {"bias", "scatter", "correlation", "extra_bias"}
        What it is about.
    given : float, numpyro.distributions.Distribution or str
        A number, a distribution, "NUMBER" or "MEAN:SD" for a normal distribution, cut off where values would be
        impossible.

    Returns
    -------
    float or numpyro.distributions.Distribution
        The belief.

    Raises
    ------
    MassmapError
        For anything else, a scatter below 0 or a correlation of 1; and for a scatter of per cents, or a bias that is
        1 - b itself, by their size.
    """
    told = _NAMES[name]
    if isinstance(given, dist.Distribution):
        return given
    numbers: list[float] = []
    with suppress(TypeError, ValueError):
        numbers = [float(part) for part in given.split(":")] if isinstance(given, str) else [float(given)]
    if len(numbers) not in (1, 2) or not np.isfinite(numbers).all():
        raise MassmapError(f"{told} {given!r} cannot be read: give a number, or MEAN:SD")
    if len(numbers) == 2 and not numbers[1] > 0:
        raise MassmapError(f"{told} {given!r} has no width: give one number to fix it")
    if name == "scatter" and numbers[0] < 0:
        raise MassmapError(f"{told} is {numbers[0]:g}: a standard deviation in ln M is at least 0")
    if name == "scatter" and numbers[0] > LARGEST_SCATTER:
        raise MassmapError(
            f"{told} is {numbers[0]:g} in ln M, a factor of {np.exp(min(numbers[0], 50.0)):.2g}: give it in ln M, such"
            " as 0.2 for 20 %"
        )
    if name in ("bias", "extra_bias") and not -_LARGEST_BIAS[0] <= numbers[0] <= _LARGEST_BIAS[1]:
        raise MassmapError(
            f"{told} is {numbers[0]:g} in ln M, as if these masses were {np.exp(np.clip(numbers[0], -50, 50)):.2g}"
            " times the true ones: it is the ln of that ratio, -0.22 where 1 - b is 0.8 and 0 where there is no bias;"
            " correct the masses themselves for a larger factor"
        )
    if name == "correlation" and not abs(numbers[0]) < 1:
        raise MassmapError(f"{told} is {numbers[0]:g}: it lies between -1 and 1, both excluded")
    if len(numbers) == 1:
        return numbers[0]
    mean, sd = numbers
    if name == "scatter":
        return dist.TruncatedNormal(mean, sd, low=0.0)
    return dist.TruncatedNormal(mean, sd, low=-1.0, high=1.0) if name == "correlation" else dist.Normal(mean, sd)


def _refuse(bad, values, what, rule):
    """Refuse bad entries in one sentence."""
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"{what} of {bad.sum()} objects cannot be used, first row {first}: {values[first]:g}; {rule}, and NaN where"
            " there is none"
        )


def beliefs_of(calibration: CalibrationMasses | None) -> Mapping[str, object]:
    """Give the beliefs about measured masses; without any, numbers that leave them out."""
    return {"bias": 0.0, "mass_scatter": 0.0, "correlation": 0.0} if calibration is None else calibration.beliefs
