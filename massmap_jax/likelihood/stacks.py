"""Stacked shear profiles: the mean tangential shear about the objects of a bin, as a function of their masses.

A stack is the weighted mean of the shears about its members. The member k, of true mass M, lenses as an NFW halo of
mass M_WL and concentration c, which scatter about M and about a published mean. So its shear has at given ln M

    mean         m(ln M)  = E[g(M_WL, c) | M]
    second moment Q(ln M) = E[g(M_WL, c) g(M_WL, c)^T | M]

and both are tabulated in ln M, at three redshifts for each stack, between which each member is interpolated. What a
relation says of the members' masses makes mean and covariance of the stack of them: `relation.stack_evidence`.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, mean_ln_concentration
from massmap_jax.halo.cosmology import ln_halo_radius
from massmap_jax.labels import Labels, check_labels
from massmap_jax.likelihood import shear_model
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.likelihood.shear import ShearProfiles, check_model, refuse_other_sign, whitened
from massmap_jax.prior.mass_prior import MassPrior

# Gauss-Hermite nodes of the lensing mass and of the concentration: with twice as many the moments change by 1e-6.
_HERMITE = 9
# Redshifts of a stack at which the shear is computed: a parabola in z holds the members between.
_REDSHIFTS = 3


class StackedTerm(eqx.Module):
    """Stacked shear profiles, as functions of the masses of the objects in each stack.

    Made by `StackedShear.signals`, and given to `fit_relation` as `extra=`.

    Attributes
    ----------
    members : Int[np.ndarray, "row"]
        The stack that each row of the catalogue is in; -1 for none.
    weight : Float[np.ndarray, "row"]
        Its weight there.
    shear : Float[np.ndarray, "stack bin"]
        Measured mean shear; 0 in bins without one.
    covariance : Float[np.ndarray, "stack bin bin"]
        Covariance of its errors; that of a bin without a shear is 1.
    there : Float[np.ndarray, "stack bin"]
        1 in bins with a shear, else 0.
    redshift : Float[np.ndarray, "stack node"]
        Redshifts of the tables.
    ln_mass_nodes : Float[np.ndarray, "mass"]
        Masses of the tables [ln Msun].
    mean : Float[np.ndarray, "stack mass node bin"]
        Mean shear about an object of that mass.
    second : Float[np.ndarray, "stack mass node bin bin"]
        Its second moment.
    """

    members: Int[Array | np.ndarray, "row"]
    weight: Float[Array | np.ndarray, "row"]
    shear: Float[Array | np.ndarray, "stack bin"]
    covariance: Float[Array | np.ndarray, "stack bin bin"]
    there: Float[Array | np.ndarray, "stack bin"]
    redshift: Float[Array | np.ndarray, "stack node"]
    ln_mass_nodes: Float[Array | np.ndarray, "mass"]
    mean: Float[Array | np.ndarray, "stack mass node bin"]
    second: Float[Array | np.ndarray, "stack mass node bin bin"]

    def check_rows(self, number: int) -> None:
        """Refuse to be the likelihood of single masses.

        Parameters
        ----------
        number : int
            Number of rows of the catalogue.

        Raises
        ------
        MassmapError
            Always.
        """
        raise MassmapError(
            "stacked profiles say nothing of a single mass but what the relation says that was fitted with them: fit"
            " with extra=, and leave it out of posteriors and maps"
        )


@dataclass(frozen=True)
class StackedShear:
    """Mean tangential shear profiles about the objects of some bins, such as bins of richness and redshift.

    Make one with `StackedShear.from_arrays`.

    Attributes
    ----------
    profiles : ShearProfiles
        The profile of each stack.
    members : Int[np.ndarray, "row"]
        The stack that each row of the catalogue is in; -1 for none.
    weight : Float[np.ndarray, "row"]
        Weight of each row in the mean of its stack.

    See Also
    --------
    ShearProfiles : Profiles of single objects, which tell the scatter of the relation as well.

    Examples
    --------
    Two stacks of two clusters each:

    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[3.0, 5.0, 7.0, 9.0], redshift=[0.3, 0.32, 0.3, 0.35], sigma_ln_luminosity=0.05
    ... )
    >>> stacks = mm.StackedShear.from_arrays(
    ...     [0, 0, 1, 1], [0.5, 0.9, 1.6], [[0.06, 0.03, 0.015], [0.08, 0.045, 0.02]], error=0.004, source_redshift=1.0
    ... )
    >>> term = stacks.signals(catalogue, mm.MassPrior.default(), scatter=0.2)
    >>> term.mean.shape
    (2, 141, 3, 3)
    """

    profiles: ShearProfiles
    members: Int[np.ndarray, "row"]
    weight: Float[np.ndarray, "row"]

    @classmethod
    def from_arrays(
        cls,
        members,
        radius,
        shear,
        *,
        error=None,
        covariance=None,
        source_redshift=None,
        sigma_crit=None,
        weight=None,
        radius_unit: Literal["Mpc", "arcmin"] = "Mpc",
    ) -> "StackedShear":
        """Make stacks from arrays, and check them.

        Parameters
        ----------
        members : Int[array_like, "row"]
            The stack that each row of the catalogue is in, from 0; -1 for rows in none.
        radius : array_like, (bin,) or (stack, bin)
            Projected radii of the bins, above 0.
        shear : array_like, (stack, bin)
            Weighted mean of the tangential shears of the sources' images about the members; NaN where a bin has none.
        error : float or array_like, (bin,) or (stack, bin), optional
            Standard deviation of each mean. Give this or `covariance`. The scatter of the members' own profiles, which
            comes from their masses, is computed and must not be in it.
        covariance : array_like, (bin, bin) or (stack, bin, bin), optional
            Covariance of the bins.
        source_redshift : float or array_like, (stack, 1) or (stack, bin), optional
            Redshift of the sources. Give this or `sigma_crit`.
        sigma_crit : float or array_like, (stack, 1) or (stack, bin), optional
            Critical surface density of the sources [Msun / Mpc^2, proper]. For stacks of Delta Sigma, give
            Delta Sigma / sigma_crit as the shear, and ``reduced=False`` to `signals`.
        weight : array_like, (row,), optional
            Weight of each row in the mean of its stack; by default all count the same.
        radius_unit : {"Mpc", "arcmin"}
            Proper Mpc at the lens, or angles.

        Returns
        -------
        StackedShear
            The stacks.

        Raises
        ------
        MassmapError
            Members of stacks that have no profile, a stack without members, weights that are not above 0; and as
            `ShearProfiles.from_arrays`, where a profile is that of a stack.
        """
        members = np.asarray(members)
        if members.ndim != 1 or members.dtype.kind not in "iu" or (members < -1).any():
            raise MassmapError("members= says which stack each row of the catalogue is in: give a whole number for each"
                               " row, from 0, and -1 for rows in none")  # fmt: skip
        number = np.shape(shear)[0] if np.ndim(shear) == 2 else 0
        with _of_stacks():
            profiles = ShearProfiles.from_arrays(
                radius, shear, error=error, covariance=covariance, source_redshift=source_redshift,
                sigma_crit=sigma_crit, radius_unit=radius_unit,
            )  # fmt: skip
        if (beyond := members >= number).any():
            raise MassmapError(
                f"{beyond.sum()} of {members.size} rows are in a stack without a profile, the first is row"
                f" {int(np.argmax(beyond))} in stack {members[beyond][0]}: shears of {number} stacks are given, count"
                " them from 0"
            )
        # A profile that is blank in all bins is no stack; the others are counted anew.
        place = np.full(number + 1, -1)
        place[profiles.rows] = np.arange(profiles.rows.size)
        return cls.of(profiles, place[members], weight)

    @classmethod
    def of(cls, profiles: ShearProfiles, members: Int[np.ndarray, "row"], weight=None) -> "StackedShear":
        """Give profiles that were read their members.

        Parameters
        ----------
        profiles : ShearProfiles
            The profile of each stack.
        members : Int[np.ndarray, "row"]
            The stack that each row of the catalogue is in, by its place among the profiles; -1 for none.
        weight : array_like, (row,), optional
            Weight of each row in the mean of its stack; by default all count the same.

        Returns
        -------
        StackedShear
            The stacks.

        Raises
        ------
        MassmapError
            Weights of another number, or not above 0.
        """
        weight = np.ones(members.size) if weight is None else np.asarray(weight, dtype=np.float64)
        if weight.shape != members.shape:
            raise MassmapError(f"weight= has the shape {weight.shape}, and members= {members.shape}: one for each row")
        bad = (members >= 0) & ~((weight > 0) & np.isfinite(weight))
        if bad.any():
            raise MassmapError(
                f"{bad.sum()} of {(members >= 0).sum()} weights of members are not above 0, the first is"
                f" {weight[bad][0]:g} in row {int(np.argmax(bad))}: leave such rows out of their stack"
            )
        return cls(profiles, members, weight)

    def signals(
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
    ) -> StackedTerm:
        """Compute the shear of each stack as a function of its members' masses.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The lenses, with exact redshifts: one row for each of `members`.
        prior : MassPrior
            The mass prior that the fit uses: masses are of its definition.
        scatter : float, optional
            Intrinsic scatter of lensing masses about the true ones in ln M; 0, or 0.01 and more.
        concentration_scatter : float, optional
            Of ln c about the mean of Duffy et al. 2008; 0 for none.
        profile : {"nfw", "bmo1"}
            Density profile, as in `ShearProfiles.likelihoods`, as are the next three.
        truncation : float
            Truncation radius of "bmo1" over the halo's radius.
        reduced : bool
            Whether the shears are reduced, gamma / (1 - kappa).
        cosmology : str or astropy.cosmology.FLRW
            Of distances and densities.

        Returns
        -------
        StackedTerm
            The tables.

        Raises
        ------
        MassmapError
            Another number of rows than members, a stack none of whose members can be used, and as
            `ShearProfiles.likelihoods`.
        """
        check_labels(shear=Labels("the lensing", cosmology=cosmology), mass_prior=prior)
        refuse_uncertain(catalogue, "a stack of shears")
        check_model(scatter, concentration_scatter, profile, truncation)
        if len(catalogue) != self.members.size:
            raise MassmapError(
                f"members= has {self.members.size} rows and the catalogue {len(catalogue)}: say for each row of this"
                " catalogue which stack it is in, -1 for none"
            )
        used = (self.members >= 0) & catalogue.usable & (catalogue.redshift > 0)
        members = np.where(used, self.members, -1)
        counts = np.bincount(members[used], minlength=self.profiles.rows.size)
        if (empty := counts == 0).any():
            raise MassmapError(
                f"{empty.sum()} of {counts.size} stacks have no member that can be used, the first is stack"
                f" {self.profiles.rows[empty][0]}: leave its profile out, or correct members="
            )
        whitening, _ = whitened(self.profiles.covariance, self.profiles.shear)
        refuse_other_sign(whitening, np.nan_to_num(self.profiles.shear))
        ends = [(z.min(), z.max()) for z in (catalogue.redshift[members == stack] for stack in range(counts.size))]
        # Nodes apart, also where all members have one redshift.
        redshift = np.stack([np.linspace(low, max(high, low * 1.001), _REDSHIFTS) for low, high in ends])
        settings = scatter, concentration_scatter, truncation if profile == "bmo1" else None, reduced
        moments = [self._moments(redshift[:, node], prior.mass_definition, cosmology, *settings)
                   for node in range(_REDSHIFTS)]  # fmt: skip
        there = ~np.isnan(self.profiles.shear)
        both = there[:, :, None] & there[:, None, :]
        return StackedTerm(
            members,
            self.weight,
            np.where(there, self.profiles.shear, 0.0),
            np.where(both, self.profiles.covariance, np.eye(there.shape[1])),
            there.astype(float),
            redshift,
            shear_model.LN_MASS_NODES.copy(),
            np.stack([mean for mean, _ in moments], axis=2),
            np.stack([second for _, second in moments], axis=2),
        )

    def _moments(self, z, mass_definition, cosmology, scatter, concentration_scatter, truncation, reduced):
        """Mean (stack, mass, bin) and second moment (..., bin) of the shear about objects at z (stack,)."""
        with _of_stacks():
            radius, sigma_crit = self.profiles.at_lens(np.arange(z.size), z, cosmology)
        there = ~np.isnan(self.profiles.shear)
        x, weight = np.polynomial.hermite_e.hermegauss(_HERMITE)
        share = np.outer(weight, weight).ravel() / weight.sum() ** 2
        ln_mass = shear_model.LN_MASS_NODES[:, None, None] + scatter * x[:, None]  # (mass, lensing mass, 1)
        means, seconds = [], []
        for stack in range(z.size):
            ln_c = mean_ln_concentration(ln_mass, z[stack], mass_definition, cosmology) + concentration_scatter * x
            ln_radius = ln_halo_radius(ln_mass, mass_definition, cosmology, z[stack])
            c, scale = np.exp(ln_c), np.exp(ln_radius - ln_c)
            bins = (slice(None), None, None, None)
            at, behind = (
                np.where(there[stack], a[stack], fill)[bins] for a, fill in ((radius, 1.0), (sigma_crit, 1e20))
            )
            g = shear_model.tangential_shear(at, behind, np.exp(ln_mass), c, scale, truncation, reduced)
            g = np.asarray(g) * there[stack][bins]
            g = np.moveaxis(g, 0, 1).reshape(ln_mass.shape[0], there.shape[1], -1)
            means.append((g * share).sum(axis=-1))
            seconds.append((g * share) @ np.swapaxes(g, 1, 2))
        return np.stack(means), np.stack(seconds)


@contextmanager
def _of_stacks():
    """Say the errors of profiles of objects as those of stacks."""
    try:
        yield
    except MassmapError as error:
        raise MassmapError(re.sub(r"of row (\d+) of the catalogue", r"stack \1", str(error))) from None
