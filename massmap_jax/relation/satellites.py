"""How many satellites of each luminosity a halo has: the satellites' part of a conditional luminosity function (CLF).

    Phi_s(L | M) = number of satellites per ln L in a halo of mass M
                 = phi* (L / Ls)^(alpha + 1) exp[-(L / Ls)^2],   Ls = ratio x Lc(M)

The centrals' part is a relation: Lc(M) = exp of its `mean_ln_lum`. A catalogue holds measured luminosities; for these
Phi_s is convolved with the lognormal noise.
"""

from abc import abstractmethod
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.relation.laws import LN10

# Gauss-Hermite nodes in ln L. Where a halo has a thousandth of a satellite or more, Phi_s with noise is right to 3e-4
# for errors up to 0.3 (tests/relation/test_satellites.py).
NOISE_NODES = 11
_x, _w = np.polynomial.hermite.hermgauss(NOISE_NODES)
_STEPS, _LN_WEIGHTS = np.sqrt(2.0) * _x, np.log(_w / np.sqrt(np.pi))
# Phi_s per ln L is below exp(-50) of phi* from ln (L / Ls) = 2 on.
_BRIGHTEST = 2.0
# ln (L / Ls) above which Phi_s is 0 in any precision.
_ABSURD = 40.0
# Gauss-Legendre nodes of the integral above a limit: in the step that the noise makes of it, and above that.
_STEP_NODES, _ABOVE_NODES, _STEP_REACH = 16, 24, 5.0
# h of the preset's masses, as of the relation lc_cacciato09 in `relation.presets`.
_H = 0.7


class SatelliteLuminosityFunction(eqx.Module):
    """The interface of a satellites' luminosity function: subclass it to use forms of your own.

    A subclass defines `ln_norm`, `slope` and `ln_ratio`, written with `jax.numpy` for masses of any shape. Its
    parameters are fields, arrays or numbers; they are the same for all draws of the centrals' relation. The labels are
    given by name when it is made. `SchechterSatellites` is the one that the package brings along.

    Attributes
    ----------
    mass_definition : str
        Definition of the halo's mass, such as "200m", a label: nothing is converted.
    lum_unit : str
        Unit of the luminosity, a label.

    See Also
    --------
    SchechterSatellites : Parameters for these three functions, and a published set of them.
    massmap_jax.host_posterior : Host masses of galaxies that may be centrals or satellites.

    Examples
    --------
    Satellites in numbers proportional to the mass, one for each 1e12 Msun, with a slope of -1.1:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> class Proportional(mm.SatelliteLuminosityFunction):
    ...     one_per: float
    ...
    ...     def ln_norm(self, ln_mass, z):
    ...         return ln_mass - jnp.log(self.one_per)
    ...
    ...     def slope(self, ln_mass, z):
    ...         return jnp.full_like(ln_mass, -1.1)
    ...
    ...     def ln_ratio(self, ln_mass, z):
    ...         return jnp.full_like(ln_mass, -0.5)
    >>> relation = mm.MassLuminosityRelation(alpha1=1.0, alpha2=0.4, alpha3=1e14, scatter=0.3)
    >>> satellites = Proportional(1e12, mass_definition="200m")
    >>> number = satellites.mean_number(relation, np.log([1e13, 1e14]), 0.1, ln_lum_min=0.0)
    >>> print([f"{one:.2f}" for one in number])
    ['0.15', '38.49']
    """

    mass_definition: str = eqx.field(static=True, kw_only=True, default="unknown")
    lum_unit: str = eqx.field(static=True, kw_only=True, default="")

    @abstractmethod
    def ln_norm(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln phi*, the normalisation.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            ln phi*, where phi* is a number of satellites per ln L.
        """

    @abstractmethod
    def slope(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate alpha, the slope at the faint end.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            alpha: the number per L goes as L^alpha, that per ln L as L^(alpha + 1).
        """

    @abstractmethod
    def ln_ratio(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln (Ls / Lc), the luminosity at which the satellites are cut off over that of the central.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            ln (Ls / Lc).
        """

    def ln_number(self, relation, ln_mass, z, ln_lum_obs, sigma) -> Float[Array, "..."]:
        """Compute ln of the number of satellites per ln L_obs, with the noise of the measurement.

        Parameters
        ----------
        relation : Relation
            The centrals' relation, one draw of it.
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift.
        ln_lum_obs : Float[Array, ""]
            ln of the observed luminosity [ln of the relation's unit].
        sigma : Float[Array, ""]
            Standard deviation of its lognormal error [ln L].

        Returns
        -------
        Float[Array, "..."]
            ln of the integral of Phi_s(L | M) N(ln L_obs; ln L, sigma^2) d ln L, in the shape of `ln_mass`.

        Notes
        -----
        Gauss-Hermite quadrature with 11 nodes in ln L.
        """
        ln_mass = jnp.asarray(ln_mass, dtype=float)
        above_cut = ln_lum_obs - relation.mean_ln_lum(ln_mass, z) - self.ln_ratio(ln_mass, z)
        # Bounded: an infinite one times 0 would be NaN.
        rise, cut = self.slope(ln_mass, z) + 1, jnp.exp(2 * jnp.minimum(above_cut, _ABSURD))
        steps = sigma * jnp.asarray(_STEPS, dtype=ln_mass.dtype)
        # exp(2 step), less its least: that factor would underflow where L is far above Ls. One exp for each node.
        least = jnp.exp(2 * steps[0])
        exponents = rise[..., None] * steps - cut[..., None] * (jnp.exp(2 * steps) - least)
        exponents = exponents + jnp.asarray(_LN_WEIGHTS, dtype=ln_mass.dtype)
        return self.ln_norm(ln_mass, z) + rise * above_cut - cut * least + jnp.log(jnp.exp(exponents).sum(axis=-1))

    def mean_number(self, relation, ln_mass, z, ln_lum_min, sigma=0.0) -> Float[Array, "..."]:
        """Compute the mean number of satellites whose observed luminosity is above a limit.

        Parameters
        ----------
        relation : Relation
            The centrals' relation, one draw of it.
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift.
        ln_lum_min : Float[Array, ""]
            ln of the lowest luminosity that is in the catalogue [ln of the relation's unit].
        sigma : Float[Array, ""], optional
            Standard deviation of the lognormal error of luminosities near the limit [ln L].

        Returns
        -------
        Float[Array, "..."]
            N_s(M), in the shape of `ln_mass`.

        Notes
        -----
        The integral of Phi_s(L | M) Phi[(ln L - ln L_min) / sigma] d ln L, by 40 Gauss-Legendre nodes: 16 in the step
        that the noise makes of the limit, 24 above it.
        """
        ln_mass = jnp.asarray(ln_mass, dtype=float)
        # In units of Ls, at which the integrand ends whatever the mass.
        limit = ln_lum_min - relation.mean_ln_lum(ln_mass, z) - self.ln_ratio(ln_mass, z)
        low, middle = (jnp.minimum(limit + side * _STEP_REACH * sigma, _BRIGHTEST) for side in (-1.0, 1.0))
        rise = self.slope(ln_mass, z) + 1

        def integral(start, end, number, detected):
            x, w = (jnp.asarray(a, dtype=ln_mass.dtype) for a in np.polynomial.legendre.leggauss(number))
            half = 0.5 * (end - start)[..., None]
            place = start[..., None] + half * (1 + x)
            value = jnp.exp(rise[..., None] * place - jnp.exp(2 * place)) * detected(place)
            return (half * w * value).sum(axis=-1)

        def step(place):
            # Not 0: of a sharp limit the step has no width, and nothing in it.
            return ndtr((place - limit[..., None]) / jnp.maximum(sigma, 1e-6))

        number = integral(low, middle, _STEP_NODES, step)
        number = number + integral(middle, jnp.full_like(middle, _BRIGHTEST), _ABOVE_NODES, jnp.ones_like)
        return jnp.exp(self.ln_norm(ln_mass, z)) * number


class SchechterSatellites(SatelliteLuminosityFunction):
    """Satellites with a modified Schechter function whose parameters change with the mass of the halo.

    Parameters
    ----------
    norm : sequence of float
        Coefficients of ln phi* in x = ln(M / norm_pivot), lowest first: phi* is the number of satellites per ln L at Ls
        times e.
    slope_low, slope_high : float
        alpha of halos far below and far above `slope_pivot`.
    ratio : float
        Ls / Lc; Lc is the median luminosity of the central by its relation.
    norm_pivot, slope_pivot : float
        Masses [Msun], without h.
    slope_rate : float
        How fast alpha goes from one to the other, per ln M.
    mass_definition : str
        Definition of the mass, a label: nothing is converted.
    lum_unit : str
        Unit of the luminosity, a label.
    source : str
        Where the numbers are from, a label for outputs.

    Raises
    ------
    MassmapError
        Numbers that are not finite, or a ratio or pivot that is not positive.

    See Also
    --------
    SatelliteLuminosityFunction : Other forms of these functions.

    Notes
    -----
    With x = ln(M / norm_pivot),

        ln phi* = norm[0] + norm[1] x + norm[2] x^2 + ...
        alpha = slope_low + (slope_high - slope_low) {1/2 + atan[slope_rate ln(M / slope_pivot)] / pi}

    as in Cacciato et al. 2009, eqs. 36 to 39, in natural logarithms.

    Examples
    --------
    The published set, in Msun and Lsun without h, and the satellites above 1e10 Lsun that it gives:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.relation.published import published_relation
    >>> satellites = mm.SchechterSatellites.preset("cacciato2009")
    >>> satellites.mass_definition, satellites.lum_unit
    ('180m', 'Lsun')
    >>> centrals = published_relation("lc_cacciato09")
    >>> number = satellites.mean_number(centrals, np.log([1e12, 1e13, 1e14, 1e15]), 0.1, np.log(1e10))
    >>> print([f"{one:.2f}" for one in number])
    ['0.01', '0.83', '9.97', '116.29']
    """

    norm: tuple[float, ...] = eqx.field(static=True)
    slope_low: float = eqx.field(static=True)
    slope_high: float = eqx.field(static=True)
    ratio: float = eqx.field(static=True)
    norm_pivot: float = eqx.field(static=True)
    slope_pivot: float = eqx.field(static=True)
    slope_rate: float = eqx.field(static=True)
    source: str = eqx.field(static=True)

    def __init__(
        self,
        *,
        norm,
        slope_low: float,
        slope_high: float | None = None,
        ratio: float,
        norm_pivot: float = 1e12,
        slope_pivot: float = 1e14,
        slope_rate: float = 1.0,
        mass_definition: str = "unknown",
        lum_unit: str = "",
        source: str = "given by the user",
    ):
        self.norm = tuple(float(c) for c in np.atleast_1d(np.asarray(norm, dtype=np.float64)))
        self.slope_low, self.ratio = float(slope_low), float(ratio)
        self.slope_high = self.slope_low if slope_high is None else float(slope_high)
        self.norm_pivot, self.slope_pivot = float(norm_pivot), float(slope_pivot)
        self.slope_rate = float(slope_rate)
        self.mass_definition, self.lum_unit, self.source = mass_definition, lum_unit, source
        for name in ("norm", "slope_low", "slope_high", "ratio", "norm_pivot", "slope_pivot", "slope_rate"):
            value = getattr(self, name)
            if not np.isfinite(value).all() or np.size(value) == 0:
                raise MassmapError(f"satellites' {name} is {value}: give finite numbers")
            if name in ("ratio", "norm_pivot", "slope_pivot") and value <= 0:
                raise MassmapError(f"satellites' {name} is {value:g}, and has to be above 0")
        if min(self.norm_pivot, self.slope_pivot) < 1e3:
            raise MassmapError(
                f"satellites' pivots are {self.norm_pivot:g} and {self.slope_pivot:g} Msun: these look like log10 M; "
                "give masses in Msun"
            )

    @classmethod
    def preset(cls, name: Literal["cacciato2009"]) -> "SchechterSatellites":
        """Make a published set.

        Parameters
        ----------
        name : {"cacciato2009"}
            "cacciato2009" belongs to the centrals of the published relation "lc_cacciato09".

        Returns
        -------
        SchechterSatellites
            The satellites, for masses in Msun without h.

        Raises
        ------
        MassmapError
            For an unknown name.

        Notes
        -----
        Cacciato et al. 2009 (arXiv:0807.4932), eqs. 36 to 39 and table 3, figures as in halotools
        (occupation_models/cacciato09_components.py), without errors, converted with h = 0.7: Ls = 0.562 Lc; alpha =
        -2 + 0.501 {1 - (2/pi) atan[2.106 (log10 M - 14.28)]}; log10 phi* = -0.766 + 1.008 m - 0.094 m^2, m = log10 M -
        12, M in Msun/h. Masses are of 180 times the mean density (180m).
        """
        if name != "cacciato2009":
            raise MassmapError(f"satellites preset {name!r} is not known: give 'cacciato2009'")
        return cls(
            norm=(-0.766 * LN10, 1.008, -0.094 / LN10),
            norm_pivot=1e12 / _H,
            slope_low=-2 + 2 * 0.501,
            slope_high=-2.0,
            slope_pivot=10**14.28 / _H,
            slope_rate=2.106 / LN10,
            ratio=0.562,
            mass_definition="180m",
            lum_unit="Lsun",
            source="Cacciato et al. 2009 (arXiv:0807.4932, table 3), figures as in halotools",
        )

    def ln_norm(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln phi* as the class says.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift; not used.

        Returns
        -------
        Float[Array, "..."]
            ln phi*, where phi* is a number of satellites per ln L.
        """
        x = ln_mass - float(np.log(self.norm_pivot))
        value = jnp.full_like(x, self.norm[-1])
        for coefficient in self.norm[-2::-1]:
            value = value * x + coefficient
        return value

    def slope(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate alpha as the class says.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift; not used.

        Returns
        -------
        Float[Array, "..."]
            alpha.
        """
        turn = jnp.arctan(self.slope_rate * (ln_mass - float(np.log(self.slope_pivot)))) / np.pi
        return self.slope_low + (self.slope_high - self.slope_low) * (0.5 + turn)

    def ln_ratio(self, ln_mass, z) -> Float[Array, "..."]:
        """Give ln (Ls / Lc), the same at all masses.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the halo's mass [ln Msun].
        z : Float[Array, ""]
            Redshift; not used.

        Returns
        -------
        Float[Array, "..."]
            ln (Ls / Lc).
        """
        return jnp.full_like(ln_mass, float(np.log(self.ratio)))
