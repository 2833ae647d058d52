"""Tangential shear profiles of some objects of a catalogue, and the likelihoods of their masses: `ShearProfiles`."""

import warnings
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from massmap_jax.catalogue.columns import as_plain, is_positive_sentinel
from massmap_jax.catalogue.halo_catalogue import HIGHEST_REDSHIFT, HaloCatalogue
from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.choices import check_concentration_scatter
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, mean_ln_concentration
from massmap_jax.halo.cosmology import angular_diameter_distance, critical_surface_density, ln_halo_radius
from massmap_jax.labels import Labels, check_labels
from massmap_jax.likelihood import shear_model
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.mass_prior import MassPrior

# Mass and concentration: with fewer bins the belief about the one alone tells the other.
_PARAMETERS = 2
# Smallest eigenvalue of the correlations of a covariance that can be inverted without losing all digits.
_SINGULAR = 1e-10
# Standard deviations below 0 of all shears together that mean another sign.
_BELOW_ZERO = 5.0
# No profile of one halo reaches this far [Mpc], nor is the scatter of lensing masses known better than this in ln M.
_TOO_FAR, _LEAST_SCATTER = 50.0, 0.01
# Standard deviations of all shears together below which little is seen of halos, and bins of which that is told.
_SEEN, _SEVERAL_BINS = 3.0, 20
# The least of any lens is 1e15 [Msun / Mpc^2], and sources next to their lens are of no use.
_DENSITIES = 1e14, 1e21
# All of such a profile lies in the brightest galaxy [Mpc].
_TOO_NEAR = 0.02

# Profiles are computed in whole multiples, so that few sizes are compiled.
_PARTS = 32
# A radius of nines alone, or so large, that is so many times the next one of its profile is none.
_NO_RADIUS, _NEXT = 1e6, 10.0
# Shears that tell how many decimals all have.
_ENOUGH = 500


@dataclass(frozen=True)
class ShearProfiles:
    """Tangential shear profiles of some objects of a catalogue, with their errors.

    Make one with `ShearProfiles.from_arrays` or `read_shear_profiles`.

    Attributes
    ----------
    rows : Int[np.ndarray, "n"]
        The row of the catalogue that each profile is of.
    radius : Float[np.ndarray, "n bin"]
        Projected radii; NaN in bins without a shear, as in the next three.
    shear : Float[np.ndarray, "n bin"]
        Tangential shear.
    covariance : Float[np.ndarray, "n bin bin"]
        Covariance of its errors.
    source_redshift, sigma_crit : Float[np.ndarray, "n bin"] or None
        Redshift of the sources, or their critical surface density [Msun / Mpc^2, proper]: one of them.
    radius_unit : {"Mpc", "arcmin"}
        Unit of the radii: proper Mpc at the lens, or angles.

    See Also
    --------
    read_shear_profiles : Profiles from a file.
    read_mass_likelihoods : Likelihoods of masses that were made elsewhere.

    Examples
    --------
    Four bins about the second of two clusters, and the mass at which the likelihood is highest:

    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[3.0, 5.0], redshift=[0.3, 0.4], sigma_ln_luminosity=0.05)
    >>> profiles = mm.ShearProfiles.from_arrays(
    ...     [0.5, 0.9, 1.6, 2.8], [[0.075, 0.044, 0.023, 0.011]], error=0.01, source_redshift=1.0, rows=[1]
    ... )
    >>> term = profiles.likelihoods(catalogue, mm.MassPrior.default(), scatter=0.2)
    >>> term.informs.tolist()
    [False, True]
    >>> most = term.log_likelihood[1].argmax()
    >>> print(f"{10 ** (term.ln_mass_nodes[most] / 2.302585):.1e}")
    7.6e+14
    """

    rows: Int[np.ndarray, "n"]
    radius: Float[np.ndarray, "n bin"]
    shear: Float[np.ndarray, "n bin"]
    covariance: Float[np.ndarray, "n bin bin"]
    source_redshift: Float[np.ndarray, "n bin"] | None
    sigma_crit: Float[np.ndarray, "n bin"] | None
    radius_unit: Literal["Mpc", "arcmin"]

    @classmethod
    def from_arrays(
        cls,
        radius,
        shear,
        *,
        error=None,
        covariance=None,
        source_redshift=None,
        sigma_crit=None,
        rows=None,
        radius_unit: Literal["Mpc", "arcmin"] = "Mpc",
    ) -> "ShearProfiles":
        """Make profiles from arrays, and check them.

        Parameters
        ----------
        radius : array_like, (bin,) or (profile, bin)
            Projected radii of the bins, above 0.
        shear : array_like, (profile, bin)
            Tangential shear of the sources' images, which is the reduced shear; NaN where a bin has none. A profile
            that is NaN in all bins is left out.
        error : float or array_like, (bin,) or (profile, bin), optional
            Standard deviation of each shear. Give this or `covariance`.
        covariance : array_like, (bin, bin) or (profile, bin, bin), optional
            Covariance of the bins.
        source_redshift : float or array_like, (profile, 1) or (profile, bin), optional
            Redshift of the sources. Give this or `sigma_crit`.
        sigma_crit : float or array_like, (profile, 1) or (profile, bin), optional
            Critical surface density of the sources [Msun / Mpc^2, proper].
        rows : Int[array_like, "n"], optional
            The catalogue's row of each profile; by default there is one for each row, in order.
        radius_unit : {"Mpc", "arcmin"}
            Proper Mpc at the lens, or angles.

        Returns
        -------
        ShearProfiles
            The profiles.

        Raises
        ------
        MassmapError
            Arrays that do not fit together, bins that cannot be used, fewer bins than parameters (2), or a covariance
            that is singular.
        """
        shear = _two_axes("shears", in_unit(shear, "", "shears"))
        number = shear.shape[0]
        rows = np.arange(number) if rows is None else np.asarray(rows)
        if rows.shape != (number,) or rows.dtype.kind not in "iu" or np.unique(rows).size < number or (rows < 0).any():
            raise MassmapError(f"rows= says which row of the catalogue each of the {number} profiles is of: give as "
                               "many different row numbers, from 0")  # fmt: skip
        if radius_unit not in ("Mpc", "arcmin"):
            raise MassmapError(f"radius_unit is {radius_unit!r}: give Mpc (proper) or arcmin")
        if (error is None) == (covariance is None):
            raise MassmapError("a shear has an error or a covariance: give error= or covariance=, one of them")
        if (source_redshift is None) == (sigma_crit is None):
            raise MassmapError("give the redshift of the sources or their sigma_crit=, one of them: source_redshift=")
        radius = in_unit(radius, radius_unit, "radii", f"them in {radius_unit}, as radius_unit says")
        radius = _broadcast("radii", radius, shear.shape)
        there = ~np.isnan(shear)
        if covariance is None:
            error = _broadcast("errors", in_unit(error, "", "errors of the shear"), shear.shape)
            covariance = (error * np.abs(error))[:, :, None] * np.eye(shear.shape[1])  # refused where below 0
        else:
            covariance = _broadcast("covariances", covariance, (*shear.shape, shear.shape[1]))
        of_sources = "source redshifts" if sigma_crit is None else "critical surface densities"
        source = (
            in_unit(sigma_crit, "Msun/Mpc2", of_sources)
            if source_redshift is None
            else in_unit(source_redshift, "", of_sources)
        )
        source = _broadcast(of_sources, source, shear.shape)
        _refuse(there & ~(np.abs(shear) < 1), rows, "shears are not between -1 and 1", "give them as numbers, not %")
        _refuse(there & ~((radius > 0) & np.isfinite(radius)), rows, "radii of bins are not above 0",
                "give NaN for the shear of a bin that is not there")  # fmt: skip
        _refuse(there & _no_radii(np.where(there, radius, np.nan)), rows,
                "radii of bins are placeholders, as 99 or 1e20",
                "leave the shear of a bin blank that is not there")  # fmt: skip
        _refuse(there & (shear == 0) & _are_placeholders(shear, covariance), rows,
                "shears are exactly 0, as no measured one is",
                "leave the shear of a bin blank that is not there")  # fmt: skip
        _refuse(there & ~((source > 0) & np.isfinite(source)), rows, f"{of_sources} are not above 0",
                "give NaN for the shear of a bin that is not there")  # fmt: skip
        if sigma_crit is None:
            _refuse(there & (source > HIGHEST_REDSHIFT), rows, f"{of_sources} are above {HIGHEST_REDSHIFT:g}",
                    "give NaN for the shear of a bin whose sources have none, or sigma_crit=")  # fmt: skip
        else:
            low, high = _DENSITIES
            _refuse(there & ((source < low) | (source > high)), rows,
                    f"{of_sources} are not from {low:g} to {high:g} Msun/Mpc2, as those of lenses are",
                    "correct their unit, sigma_crit_unit=")  # fmt: skip
        bins = there.sum(axis=1)
        _refuse(
            (bins > 0) & (bins < _PARAMETERS), rows,
            f"profiles have fewer bins with a shear ({_PARAMETERS - 1}) than parameters, mass and concentration",
            "give at least 2 bins, or a mass with its error (read_mass_likelihoods)",
        )  # fmt: skip
        _check_covariance(covariance, there, rows)
        kept, used = bins > 0, there[bins > 0]
        if not kept.any():
            raise MassmapError(f"none of the {number} profiles has a shear: every bin is blank")
        radius, shear, source = (np.where(used, a[kept], np.nan) for a in (radius, shear, source))
        covariance = np.where(used[:, :, None] & used[:, None, :], covariance[kept], np.nan)
        by_redshift = source_redshift is not None
        return cls(
            rows[kept], radius, shear, covariance, source if by_redshift else None, None if by_redshift else source,
            radius_unit,
        )  # fmt: skip

    def likelihoods(
        self,
        catalogue: HaloCatalogue,
        prior: MassPrior,
        *,
        scatter: float = 0.2,
        concentration_scatter: float = SCATTER_LN,
        profile: Literal["nfw", "bmo1"] = "nfw",
        truncation: float = 2.6,
        reduced: bool = True,
        cosmology: Any = "Planck18",
    ) -> TabulatedTerm:
        """Compute the likelihood of the mass of each object that has a profile.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The lenses, with exact redshifts.
        prior : MassPrior
            The mass prior that the likelihoods will meet: masses are of its definition.
        scatter : float, optional
            Intrinsic scatter of lensing masses about the true ones in ln M (projection, triaxiality); 0, or 0.01 and
            more.
        concentration_scatter : float, optional
            Of ln c about the mean of Duffy et al. 2008, which is marginalised; 0 for none.
        profile : {"nfw", "bmo1"}
            Density profile: NFW, or the same with a smooth truncation.
        truncation : float
            Truncation radius of "bmo1" over the halo's radius, as in `convergence_map`.
        reduced : bool
            Whether the shears are reduced, gamma / (1 - kappa), as those of images are; False for those that were
            corrected for that.
        cosmology : str or astropy.cosmology.FLRW
            Of distances and densities: a name or text as in `massmap_jax.halo.cosmology`, or a flat LambdaCDM.

        Returns
        -------
        TabulatedTerm
            A likelihood for each row of the catalogue, in steps of 0.04 dex; 0 for the rows without a profile.

        Raises
        ------
        MassmapError
            Sources in front of a lens, profiles of rows that the catalogue does not have, a prior whose mass definition
            has no radius, redshifts that are distributions.
        """
        check_labels(shear=Labels("the lensing", cosmology=cosmology), mass_prior=prior)
        refuse_uncertain(catalogue, "a likelihood of shears")
        check_model(scatter, concentration_scatter, profile, truncation)
        if (outside := self.rows >= len(catalogue)).any():
            raise MassmapError(
                f"{outside.sum()} of {self.rows.size} profiles are of rows beyond the catalogue's {len(catalogue)}, "
                f"the first of row {self.rows[outside][0]}: give its row of each with rows="
            )
        # Rows that cannot be used have no mass either, and often no redshift.
        usable = catalogue.usable[self.rows] & (catalogue.redshift[self.rows] > 0)
        values = np.full((len(catalogue), shear_model.LN_MASS_NODES.size), np.nan)
        if usable.any():
            rows, z = self.rows[usable], catalogue.redshift[self.rows[usable]]
            radius, sigma_crit = self.at_lens(usable, z, cosmology)
            whitening, signal = whitened(self.covariance[usable], self.shear[usable])
            refuse_other_sign(whitening, np.nan_to_num(self.shear[usable]))
            ln_c = mean_ln_concentration(shear_model.LN_MASS_NODES, z[:, None], prior.mass_definition, cosmology)
            ln_radius = ln_halo_radius(shear_model.LN_MASS_NODES, prior.mass_definition, cosmology, z[:, None])
            arrays = (
                np.nan_to_num(radius, nan=1.0), np.nan_to_num(self.shear[usable]), whitening,
                np.nan_to_num(sigma_crit, nan=1e20), ln_radius, ln_c,
            )  # fmt: skip
            settings: dict[str, Any] = {"truncation": truncation if profile == "bmo1" else None, "reduced": reduced}
            settings |= {"concentration_scatter": concentration_scatter, "scatter": scatter}
            numbers = shear_model.number_of_concentrations(signal, concentration_scatter)
            _refuse(numbers == 0, rows, "profiles have a signal to noise that is too high for steps of 0.04 dex",
                    "correct the errors of their shears")  # fmt: skip
            for number in np.unique(numbers):
                chosen = np.flatnonzero(numbers == number)
                padded = np.resize(chosen, _PARTS * -(-chosen.size // _PARTS))
                found = shear_model.ln_likelihoods(*(a[padded] for a in arrays), number=int(number), **settings)
                values[rows[chosen]] = found[: chosen.size]
            for told in told_of_fit(-2.0 * values[rows].max(axis=1), whitening, np.nan_to_num(self.shear[usable])):
                warnings.warn(told, stacklevel=2)
        # A copy: JAX knows the array that was traced in float64 again by its address.
        return TabulatedTerm(shear_model.LN_MASS_NODES.copy(), values)

    def at_lens(self, chosen, z, cosmology) -> tuple[np.ndarray, np.ndarray]:
        """Compute the radii and critical surface densities of some profiles.

        Parameters
        ----------
        chosen : Bool[np.ndarray, "n"] or Int[np.ndarray, "m"]
            Which profiles.
        z : Float[np.ndarray, "m"]
            Redshift of the lens of each.
        cosmology : str or astropy.cosmology.FLRW
            Of the distances.

        Returns
        -------
        radius, sigma_crit : Float[np.ndarray, "m bin"]
            [Mpc] and [Msun / Mpc^2], proper.

        Raises
        ------
        MassmapError
            Radii far beyond a halo or within its galaxy, or sources in front of their lens.
        """
        radius = self.radius[chosen]
        if self.radius_unit == "arcmin":
            radius = radius * np.radians(angular_diameter_distance(cosmology, z) / 60)[:, None]
        far = np.nanmedian(radius, axis=1) > _TOO_FAR
        _refuse(far, self.rows[chosen], f"profiles have a median radius beyond {_TOO_FAR:g} Mpc",
                "correct the unit of the radii, radius_unit=")  # fmt: skip
        near = np.nanmax(radius, axis=1) < _TOO_NEAR
        _refuse(near, self.rows[chosen], f"profiles have no radius beyond {_TOO_NEAR:g} Mpc",
                "correct the unit of the radii, radius_unit=")  # fmt: skip
        if self.source_redshift is None:
            return radius, self.sigma_crit[chosen]  # type: ignore[index]
        source = self.source_redshift[chosen]
        _refuse(source <= z[:, None], self.rows[chosen], "profiles have a source in front of the lens",
                "leave bins with such sources out, or correct source_redshift=")  # fmt: skip
        behind = np.where(np.isnan(source), z[:, None] + 1, source)  # in bins without a shear, any
        return radius, critical_surface_density(cosmology, z[:, None], behind)


def _two_axes(what: str, values) -> np.ndarray:
    values = _with_nan(values)
    if values.ndim != 2 or 0 in values.shape:
        raise MassmapError(f"{what} have the shape {values.shape}: give one row for each profile, (profile, bin)")
    return values


def _broadcast(what: str, values, shape: tuple[int, ...]) -> np.ndarray:
    """Values as an array of a shape, where a (bin,) is never taken for a (profile,)."""
    values = _with_nan(values)
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise MassmapError(f"{what} have the shape {values.shape}, and the shears {shape[:2]}: one is needed "
                           f"for every shear, in the shape {shape}") from None  # fmt: skip


def _with_nan(values) -> np.ndarray:
    """Values with NaN where they are masked, as bins without a shear are."""
    return np.ma.filled(np.ma.asarray(as_plain(values)).astype(np.float64), np.nan)


def _refuse(bad: Any, rows: np.ndarray, what: str, todo: str) -> None:
    """Refuse profiles of which some are bad, or some of their bins."""
    profiles = bad if bad.ndim == 1 else bad.any(axis=1)
    if profiles.any():
        first = int(np.argmax(profiles))
        of_bin = "" if bad.ndim == 1 else f", bin {int(np.argmax(bad[first]))}"
        raise MassmapError(
            f"{what}: {profiles.sum()} of {rows.size} profiles, the first of row {rows[first]} of the catalogue{of_bin}"
            f"; {todo}"
        )


def _no_radii(radius) -> np.ndarray:
    """Which radii are numbers that mean "none", by the others of their profile."""
    high = is_positive_sentinel(radius.ravel()).reshape(radius.shape) | (radius > _NO_RADIUS)
    others = np.where(high | np.isnan(radius), 0.0, radius).max(axis=1, keepdims=True)
    return high & (radius > _NEXT * others) & (others > 0)


def _are_placeholders(shear, covariance) -> bool:
    """Whether so many shears are 0 that these are not rounded values."""
    zeros = int((shear == 0).sum())
    known = shear[np.isfinite(shear) & (shear != 0)]
    if zeros < 2 or known.size == 0:
        return False
    # The last decimal that any of them has: a value within half of it is 0. Near 0 a shear with an error s has the
    # density 0.4 / s.
    decimals = max(-int(Decimal(repr(float(one))).as_tuple().exponent) for one in known[:_ENOUGH])
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.einsum("ijj->ij", covariance))
        chance = np.nansum(np.where(error > 0, np.minimum(1.0, 0.4 * 10.0**-decimals / error), 0.0))
    return zeros > chance + 3 * np.sqrt(chance) + 1


def _check_covariance(covariance: np.ndarray, there: np.ndarray, rows: np.ndarray) -> None:
    """Refuse errors that are not above 0, and covariances that cannot be inverted."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    _refuse(there & ~((variance > 0) & np.isfinite(variance)), rows, "errors of shears are not above 0",
            "give NaN for the shear of a bin that is not there")  # fmt: skip
    used = there[:, :, None] & there[:, None, :]
    scale = np.sqrt(np.where(there, variance, 1.0))
    correlation = np.where(used, covariance / (scale[:, :, None] * scale[:, None, :]), np.eye(there.shape[1]))
    lost = ~np.isfinite(correlation).all(axis=(1, 2))
    _refuse(lost | ~np.isclose(correlation, np.swapaxes(correlation, 1, 2), atol=1e-6).all(axis=(1, 2)), rows,
            "covariances are not finite or not symmetric", "give the whole matrix of each profile")  # fmt: skip
    _refuse(np.linalg.eigvalsh(correlation)[:, 0] < _SINGULAR, rows, "covariances are singular, or no covariances",
            "give one that can be inverted, estimated from more realisations than bins")  # fmt: skip


def whitened(covariance: np.ndarray, shear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute what makes errors independent and of unit size.

    Parameters
    ----------
    covariance : Float[np.ndarray, "n bin bin"]
        Covariance of the shears.
    shear : Float[np.ndarray, "n bin"]
        The shears; NaN in bins without one.

    Returns
    -------
    whitening : Float[np.ndarray, "n bin bin"]
        The matrix of each profile; 0 in bins without a shear.
    signal : Float[np.ndarray, "n"]
        Signal to noise of each profile.
    """
    there = ~np.isnan(shear)
    used = there[:, :, None] & there[:, None, :]
    lower = np.linalg.cholesky(np.where(used, covariance, np.eye(shear.shape[1])))
    whitening = np.where(used, np.linalg.inv(lower), 0.0)
    white = np.einsum("nab,nb->na", whitening, np.where(there, shear, 0.0))
    return whitening, np.sqrt((white**2).sum(axis=1))


def refuse_other_sign(whitening: np.ndarray, shear: np.ndarray) -> None:
    """Refuse profiles that are below 0 on the whole, which noise alone makes once in 3e6 times.

    Parameters
    ----------
    whitening : Float[np.ndarray, "n bin bin"]
        As `whitened` gives it.
    shear : Float[np.ndarray, "n bin"]
        The shears; 0 in bins without one.

    Raises
    ------
    MassmapError
        Shears whose sign is the wrong one.
    """
    errors = np.einsum("nab,nb->na", whitening, np.ones_like(shear))
    # The mean shear of all bins by generalised least squares, over its error.
    mean = (errors * np.einsum("nab,nb->na", whitening, shear)).sum() / np.sqrt((errors**2).sum())
    if mean < -_BELOW_ZERO:
        raise MassmapError(
            f"the shears of the {len(shear)} profiles are {-mean:.0f} of their errors below 0 on the whole, and halos"
            " make tangential shears above 0: change their sign, or name the column of the tangential ones, not that of"
            " the cross shear"
        )


def told_of_fit(
    chi2: Float[np.ndarray, "n"], whitening: Float[np.ndarray, "n bin bin"], shear: Float[np.ndarray, "n bin"]
) -> list[str]:
    """Say where profiles are not those of halos, by the chi^2 of their best mass, or hold no shear.

    Parameters
    ----------
    chi2 : Float[np.ndarray, "n"]
        chi^2 of each profile at its most likely mass.
    whitening : Float[np.ndarray, "n bin bin"]
        As `whitened` gives it.
    shear : Float[np.ndarray, "n bin"]
        The shears; 0 in bins without one.

    Returns
    -------
    list of str
        Empty where chi^2 is not below the number of bins less the parameters, nor above the number of bins and what the
        marginalised concentration and scatter add, by five standard deviations, and shear is seen.
    """
    bins, number = int((np.diagonal(whitening, axis1=1, axis2=2) > 0).sum()), chi2.size
    found, told = float(chi2.sum()), []
    text = (
        f"the shears of {number} profiles have chi^2 = {found:.3g} about the halos that fit them best, in {bins} bins"
    )
    white = np.einsum("nab,nb->na", whitening, shear)
    # A likelihood that is narrower than the scatters of mass and concentration is lowered by the ratio, which is less
    # than the signal to noise.
    lowered = 2.0 * np.log1p(np.sqrt((white**2).sum(axis=1))).sum()
    if found > bins + lowered + _BELOW_ZERO * np.sqrt(2 * bins):
        told.append(
            f"{text}: see whether these are tangential shears, their errors hold all that scatters them, and radii and"
            " their unit are right"
        )
    least = bins - _PARAMETERS * number
    if found < least - _BELOW_ZERO * np.sqrt(2 * max(least, 1)):
        told.append(f"{text}, fewer than chance gives: see whether their errors are in the unit of the shears")
    errors = np.einsum("nab,nb->na", whitening, np.ones_like(shear))
    mean = (errors * white).sum() / np.sqrt((errors**2).sum())
    if mean < _SEEN and bins >= _SEVERAL_BINS:
        told.append(
            f"the shears of {number} profiles are {mean:.2g} of their errors above 0 on the whole, so that they hold"
            " hardly more than upper limits of the masses: see whether these are the tangential ones, and their errors"
        )
    return told


def check_model(scatter, concentration_scatter, profile, truncation) -> None:
    """Refuse settings that are no numbers or names of this model.

    Parameters
    ----------
    scatter, concentration_scatter, profile, truncation
        As `ShearProfiles.likelihoods`.

    Raises
    ------
    MassmapError
        The first that cannot be used.
    """
    if not (scatter == 0 or (np.isfinite(scatter) and scatter >= _LEAST_SCATTER)):
        raise MassmapError(
            f"scatter of the lensing masses is {scatter:g}: give 0, or {_LEAST_SCATTER:g} and more in ln M"
        )
    check_concentration_scatter(concentration_scatter)
    if profile not in ("nfw", "bmo1"):
        raise MassmapError(f"profile {profile!r} is not known: give nfw or bmo1")
    if not (np.isfinite(truncation) and truncation > 0):
        raise MassmapError(f"truncation is {truncation:g}: give a finite number above 0")
