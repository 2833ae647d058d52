"""The halo mass function in JAX, differentiable in the cosmology: power spectrum, growth, Tinker et al. 2008 and 2010.

hmf (`mass_function.py`) has more fits and transfer functions, and is the reference of the tests of this one. Here are
the two fits that the package uses most, as functions of parameters: for gradients, for fits with a free cosmology, and
for many cosmologies in one compiled call. Lengths are in Mpc and masses in Msun, without h.
"""

import math
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline

from massmap_jax.errors import MassmapError
from massmap_jax.halo.cosmology import cosmology_of, virial_overdensity
from massmap_jax.halo.mass_function import check_calibrated

Fit = Literal["Tinker08", "Tinker10"]
FITS = ("Tinker08", "Tinker10")
DEFINITIONS = ("200m", "200c", "500c", "vir")

# Critical density today over h^2 [Msun Mpc^-3] and photon density for T = 1 K, over h^-2: 3 H^2 / 8 pi G and
# 4 sigma_SB T^4 / c^3 with the CODATA 2018 and IAU 2015 constants of astropy.
_RHO_CRITICAL = 2.775366274e11
_OMEGA_PHOTON = 4.481620e-07
# Temperature of one neutrino species over that of the photons, and 7/8 of its fourth power.
_NEUTRINO_SHARE = 7 / 8 * (4 / 11) ** (4 / 3)
# Boltzmann's constant [eV/K].
_BOLTZMANN = 8.617333262e-5
# Fit of the density of massive neutrinos, Komatsu et al. 2011, eqs. 25 and 26.
_NEUTRINO_POWER, _NEUTRINO_SLOPE = 1.83, 0.3173
# Collapse threshold of the fits.
_DELTA_C = 1.686
# The evolution of Tinker et al. 2010 is frozen above this redshift.
_Z_FROZEN = 3.0
# Wavenumbers [h/Mpc]. A step of 0.01 in ln k is exact to 1e-5 in ln n; see `mass_function.DLNK`.
_LN_K = np.arange(np.log(1e-5), np.log(2e4), 0.01)

# Chebyshev nodes in ln R between which sigma(R) and its slope are interpolated, where more masses are asked for: as
# near as a sum over k at every mass is for 1e10 to 1e16 Msun, and ln sigma within 2e-5 up to 1e17 Msun, where the
# acoustic oscillations are. They are the same for all cosmologies, and so are the windows at them: many cosmologies
# share these, and derivatives with respect to a cosmology go past them.
_SIGMA_NODES = 42
# The radius of a mass goes as (h / omega_m)^(1/3): how far the nodes reach.
H_OVER_OMEGA_M = (0.4, 10.0)

# Tinker et al. 2008, Table 2, with the digits of the authors' code, and 2010, Table 4: a column for each overdensity
# relative to the mean, and cubic splines between the columns, as hmf has.
_OVERDENSITY = np.array([200.0, 300, 400, 600, 800, 1200, 1600, 2400, 3200])
_TABLE_2008 = {
    "A": (0.1858659, 0.1995973, 0.2115659, 0.2184113, 0.2480968, 0.2546053, 0.26, 0.26, 0.26),
    "a": (1.466904, 1.521782, 1.559186, 1.614585, 1.869936, 2.128056, 2.301275, 2.529241, 2.661983),
    "b": (2.571104, 2.254217, 2.048674, 1.869559, 1.588649, 1.507134, 1.464374, 1.436827, 1.405210),
    "c": (1.193958, 1.270316, 1.335191, 1.446266, 1.581345, 1.795050, 1.965613, 2.237466, 2.439729),
}
_TABLE_2010 = {
    "beta": (0.589, 0.585, 0.544, 0.543, 0.564, 0.623, 0.637, 0.673, 0.702),
    "gamma": (0.864, 0.922, 0.987, 1.09, 1.2, 1.34, 1.5, 1.68, 1.81),
    "phi": (-0.729, -0.789, -0.910, -1.05, -1.2, -1.26, -1.45, -1.5, -1.49),
    "eta": (-0.243, -0.261, -0.261, -0.273, -0.278, -0.301, -0.301, -0.319, -0.336),
}


class CosmologyParameters(eqx.Module):
    """A flat LambdaCDM cosmology, every number of which can be an array of JAX and be differentiated.

    Attributes
    ----------
    h : Float[Array, ""]
        H0 / (100 km/s/Mpc).
    omega_m : Float[Array, ""]
        Density of matter today, without neutrinos, over the critical one.
    omega_b : Float[Array, ""]
        Density of baryons today, part of `omega_m`.
    sigma8 : Float[Array, ""]
        Standard deviation of the linear density in spheres of 8 Mpc/h today.
    n_s : Float[Array, ""]
        Slope of the primordial power spectrum.
    t_cmb : Float[Array, ""]
        Temperature of the cosmic microwave background [K]; 0 leaves out radiation.
    n_eff : Float[Array, ""]
        Effective number of neutrino species.
    m_nu : Float[Array, "species"]
        Masses of the neutrinos [eV].

    Examples
    --------
    >>> import jax
    >>> from massmap_jax.halo.abundance import CosmologyParameters
    >>> planck = CosmologyParameters.of("Planck18")
    >>> float(planck.sigma8)
    0.8102
    """

    h: Any
    omega_m: Any
    omega_b: Any
    sigma8: Any
    n_s: Any
    t_cmb: Any = 2.7255
    n_eff: Any = 3.046
    m_nu: Any = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, cosmology: Any = "Planck18", **changes) -> "CosmologyParameters":
        """Take the parameters of a cosmology that astropy knows, or of a text.

        Parameters
        ----------
        cosmology : str or astropy.cosmology.FLRW
            A name such as "Planck18", a text such as "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95", or a flat LambdaCDM
            cosmology of astropy (which needs `sigma8` and `n_s` among `changes`).
        **changes : float
            Parameters to take the place of those of the cosmology, by name.

        Returns
        -------
        CosmologyParameters
            The parameters.

        Raises
        ------
        MassmapError
            For an unknown name or an incomplete cosmology.
        """
        # What JAX traces has no value yet to check.
        given = {
            name: typical if isinstance(changes.get(name), jax.Array) else changes.get(name)
            for name, typical in (("sigma8", 0.8), ("n_s", 0.96))
        }
        flrw, _, sigma8, n_s = cosmology_of(cosmology, **given)
        masses = flrw.m_nu.to_value("eV") if flrw.has_massive_nu else np.zeros(3)
        found = {
            "h": float(flrw.h),
            "omega_m": float(flrw.Om0),
            "omega_b": float(flrw.Ob0),
            "sigma8": float(sigma8),
            "n_s": float(n_s),
            "t_cmb": float(flrw.Tcmb0.value),
            "n_eff": float(flrw.Neff),
            "m_nu": np.asarray(masses, dtype=float),
        }
        unknown = sorted(changes.keys() - found.keys())
        if unknown:
            raise MassmapError(f"cosmology parameter {unknown[0]!r} is not known: give one of {', '.join(found)}")
        return cls(**(found | changes))

    def efunc(self, z) -> Float[Array, "*z"]:
        """Evaluate E(z) = H(z) / H0, with photons and neutrinos.

        Parameters
        ----------
        z : Float[Array, "*z"]
            Redshifts.

        Returns
        -------
        Float[Array, "*z"]
            E at each redshift.

        Notes
        -----
        Komatsu et al. 2011, eqs. 25 and 26, for the neutrinos, as astropy has it.
        """
        one = 1 + jnp.asarray(z, dtype=float)
        photons = _OMEGA_PHOTON * self.t_cmb**4 / self.h**2

        def radiation(one):
            """Photons and neutrinos over the photons."""
            masses = jnp.asarray(self.m_nu, dtype=float)
            temperature = jnp.maximum(_BOLTZMANN * (4 / 11) ** (1 / 3) * self.t_cmb, 1e-30)
            y = _NEUTRINO_SLOPE * masses / temperature / one[..., None]
            relative = (1 + y**_NEUTRINO_POWER) ** (1 / _NEUTRINO_POWER)
            return 1 + _NEUTRINO_SHARE * self.n_eff * relative.mean(axis=-1)

        now = photons * radiation(jnp.ones(()))
        then = photons * radiation(one) * one**4
        return jnp.sqrt(self.omega_m * one**3 + then + 1 - self.omega_m - now)

    def growth(self, z) -> Float[Array, "*z"]:
        """Evaluate the linear growth factor D(z), 1 today.

        Parameters
        ----------
        z : Float[Array, "*z"]
            Redshifts.

        Returns
        -------
        Float[Array, "*z"]
            D(z) / D(0).

        Notes
        -----
        Lukic et al. 2007, eq. 8: D is E(z) times the integral of da / (a E)^3 from 0 to a. With a = a_z x^2, the
        integrand is smooth in x, and 96 Gauss-Legendre nodes are exact to 1e-9.
        """
        # As arrays of the precision at hand: JAX mixes up constants of NumPy where a program uses both precisions.
        x, weight = (jnp.asarray(a, dtype=float) for a in _GROWTH_NODES)

        def integral(z):
            end = 1 / (1 + jnp.asarray(z, dtype=float))
            a = end[..., None] * x**2
            return ((a * self.efunc(1 / a - 1)) ** -3 * 2 * end[..., None] * x * weight).sum(axis=-1) * self.efunc(z)

        return integral(z) / integral(0.0)

    def ln_transfer(self, k) -> Float[Array, "*k"]:
        """Evaluate ln of the transfer function of the cold matter and baryons.

        Parameters
        ----------
        k : Float[Array, "*k"]
            Wavenumbers [1/Mpc].

        Returns
        -------
        Float[Array, "*k"]
            ln T(k), 0 on the largest scales.

        Notes
        -----
        Eisenstein & Hu 1998, with baryon oscillations, equations 2 to 24. z_drag is a redshift, so the epoch has
        1 + z_drag; the equality epoch of eq. 2 is already 1 + z_eq.
        """
        m, b = self.omega_m * self.h**2, self.omega_b * self.h**2
        share, theta = self.omega_b / self.omega_m, self.t_cmb / 2.7
        equality, k_equality = 2.5e4 * m * theta**-4, 7.46e-2 * m * theta**-2
        b1, b2 = 0.313 * m**-0.419 * (1 + 0.607 * m**0.674), 0.238 * m**0.223
        drag = 1 + 1291 * m**0.251 / (1 + 0.659 * m**0.828) * (1 + b1 * b**b2)
        r_drag, r_equality = (31.5 * b * theta**-4 * 1000 / epoch for epoch in (drag, equality))
        sound = (2 / (3 * k_equality)) * jnp.sqrt(6 / r_equality)
        sound *= jnp.log((jnp.sqrt(1 + r_drag) + jnp.sqrt(r_drag + r_equality)) / (1 + jnp.sqrt(r_equality)))
        silk = 1.6 * b**0.52 * m**0.73 * (1 + (10.4 * m) ** -0.95)
        alpha_c = ((46.9 * m) ** 0.670 * (1 + (32.1 * m) ** -0.532)) ** -share
        alpha_c *= ((12 * m) ** 0.424 * (1 + (45 * m) ** -0.582)) ** -(share**3)
        beta_c = 1 / (1 + 0.944 / (1 + (458 * m) ** -0.708) * ((1 - share) ** ((0.395 * m) ** -0.0266) - 1))
        y = equality / drag
        root = jnp.sqrt(1 + y)
        g = y * (-6 * root + (2 + 3 * y) * jnp.log((root + 1) / (root - 1)))
        alpha_b = 2.07 * k_equality * sound * (1 + r_drag) ** -0.75 * g
        beta_node = 8.41 * m**0.435
        beta_b = 0.5 + share + (3 - 2 * share) * jnp.sqrt((17.2 * m) ** 2 + 1)

        q, ks = k / (13.41 * k_equality), k * sound

        def pressureless(alpha, beta):
            ln = jnp.log(jnp.e + 1.8 * beta * q)
            return ln / (ln + (14.2 / alpha + 386 / (1 + 69.9 * q**1.08)) * q**2)

        mix = 1 / (1 + (ks / 5.4) ** 4)
        cold = mix * pressureless(1.0, beta_c) + (1 - mix) * pressureless(alpha_c, beta_c)
        x = ks / (1 + (beta_node / ks) ** 3) ** (1 / 3)
        baryons = pressureless(1.0, 1.0) / (1 + (ks / 5.2) ** 2)
        baryons += alpha_b / (1 + (beta_b / ks) ** 3) * jnp.exp(-((k / silk) ** 1.4))
        return jnp.log(share * jnp.sinc(x / jnp.pi) * baryons + (1 - share) * cold)

    def ln_sigma(self, ln_mass) -> tuple[Float[Array, " mass"], Float[Array, " mass"]]:
        """Evaluate ln sigma(M) today and its slope in ln M.

        Parameters
        ----------
        ln_mass : Float[Array, "mass"]
            ln of the masses [ln Msun].

        Returns
        -------
        ln_sigma : Float[Array, "mass"]
            ln of the standard deviation of the linear density in spheres that hold the mass on average. Of more than
            42 masses it is NaN where h / omega_m is not between 0.4 and 10.
        slope : Float[Array, "mass"]
            d ln sigma / d ln M, negative.
        """
        ln_k = jnp.asarray(_LN_K, dtype=float)
        # Against underflow in single precision, relative to the largest value.
        ln_power = self._ln_relative_power(ln_k)
        power = jnp.exp(ln_power - jax.lax.stop_gradient(ln_power.max()))
        # Of the radius in Mpc/h, the unit of k: what is the same for all cosmologies, and what is not.
        ln_radius = (jnp.asarray(ln_mass, dtype=float) - math.log(4 * math.pi / 3 * _RHO_CRITICAL)) / 3
        own = (jnp.log(self.h) - jnp.log(self.omega_m)) / 3

        def variance(ln_radius):
            return (power * _top_hat(jnp.exp(ln_k + ln_radius)) ** 2).sum()

        def of_window(value, slope):
            return jnp.stack([0.5 * jnp.log(value), 0.5 * slope / value / 3])

        offset = jnp.log(self.sigma8) - 0.5 * jnp.log(variance(math.log(8.0)))
        if ln_radius.shape[0] <= _SIGMA_NODES:
            values, slopes = of_window(*jax.vmap(jax.value_and_grad(variance))(ln_radius + own))
            return values + offset, slopes
        least, most = (math.log(ratio) / 3 for ratio in H_OVER_OMEGA_M)
        # Not min() and max(): where a compiler rounds their argument anew, their derivative is 0 / 0.
        low, high = ln_radius[jnp.argmin(ln_radius)] + least, ln_radius[jnp.argmax(ln_radius)] + most
        place, matrix = chebyshev_nodes(_SIGMA_NODES)
        nodes = low + 0.5 * (high - low) * (jnp.asarray(place, dtype=float) + 1)
        x = jnp.exp(ln_k + nodes[:, None])
        window = _top_hat(x)
        # By default GPUs multiply matrices with ten bits of the numbers.
        times = partial(jnp.matmul, precision="highest")
        at_nodes = of_window(times(window**2, power), times(2 * window * _top_hat_slope(x) * x, power))
        there = 2 * (ln_radius + own - low) / (high - low) - 1
        coefficients = times(jnp.asarray(matrix, dtype=float), at_nodes.T)
        values, slopes = chebyshev_sum(coefficients[..., None], there)
        # No polynomial goes on beyond its nodes.
        values = jnp.where((own >= least) & (own <= most), values, jnp.nan)
        return values + offset, slopes

    def _ln_relative_power(self, ln_k):
        """Give ln of k^3 P(k) up to a constant, with k in h/Mpc."""
        return (self.n_s + 3) * ln_k + 2 * self.ln_transfer(jnp.exp(ln_k) * self.h)

    def ln_power(self, k) -> Float[Array, "*k"]:
        """Evaluate ln of the linear power spectrum today.

        Parameters
        ----------
        k : Float[Array, "*k"]
            Wavenumbers, above 0 [1/Mpc].

        Returns
        -------
        Float[Array, "*k"]
            ln of P(k) [ln Mpc^3], with `sigma8` in spheres of 8 Mpc/h.
        """
        nodes = jnp.asarray(_LN_K, dtype=float)
        in_spheres = self._ln_relative_power(nodes) + 2 * jnp.log(jnp.abs(_top_hat(8.0 * jnp.exp(nodes))))
        ln_variance = jax.nn.logsumexp(in_spheres) + jnp.log(_LN_K[1] - _LN_K[0])
        k = jnp.asarray(k, dtype=float)
        ln_relative = self._ln_relative_power(jnp.log(k / self.h))
        return ln_relative - ln_variance + 2 * jnp.log(self.sigma8) + jnp.log(2 * jnp.pi**2) - 3 * jnp.log(k)


def chebyshev_nodes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Give nodes on [-1, 1], and the matrix that makes Chebyshev coefficients of values there.

    Parameters
    ----------
    number : int
        How many nodes.

    Returns
    -------
    nodes : Float[np.ndarray, "node"]
        The nodes.
    to_coefficients : Float[np.ndarray, "degree node"]
        The matrix; `chebyshev_sum` evaluates what it makes.
    """
    nodes = np.cos(np.pi * (np.arange(number) + 0.5) / number)
    return nodes, np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, number - 1))


def chebyshev_sum(coefficients, x):
    """Sum coefficients[i] T_i(x) over i by Clenshaw's recurrence.

    Parameters
    ----------
    coefficients : Float[Array, "degree ..."]
        The coefficients.
    x : Float[Array, "..."]
        Where, from -1 to 1.

    Returns
    -------
    Float[Array, "..."]
        The sum, in the shape that a coefficient and `x` broadcast to.
    """
    b1 = b2 = jnp.zeros_like(x)
    for i in range(coefficients.shape[0] - 1, 0, -1):
        b1, b2 = coefficients[i] + 2 * x * b1 - b2, b1
    return coefficients[0] + x * b1 - b2


_GROWTH_NODES = tuple((1 + v) / 2 if i == 0 else v / 2 for i, v in enumerate(np.polynomial.legendre.leggauss(96)))


@jax.custom_jvp
def _top_hat(x):
    """Fourier transform of a sphere, 3 (sin x - x cos x) / x^3."""
    small = x < 0.05
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1 - x**2 / 10 + x**4 / 280, 3 * (jnp.sin(safe) - safe * jnp.cos(safe)) / safe**3)


@_top_hat.defjvp
def _top_hat_jvp(primals, tangents):
    # Written out: that of the quotient cancels for small x.
    (x,), (dx,) = primals, tangents
    return _top_hat(x), _top_hat_slope(x) * dx


def _top_hat_slope(x):
    small = x < 0.05
    safe = jnp.where(small, 1.0, x)
    exact = 3 * (3 * safe * jnp.cos(safe) + (safe**2 - 3) * jnp.sin(safe)) / safe**4
    return jnp.where(small, -x / 5 + x**3 / 70, exact)


def _splines(table: dict) -> dict:
    return {name: CubicSpline(_OVERDENSITY, values) for name, values in table.items()}


_SPLINES = {"Tinker08": _splines(_TABLE_2008), "Tinker10": _splines(_TABLE_2010)}


def _at_overdensity(fit: str, overdensity) -> dict:
    """The parameters of a fit at overdensities relative to the mean."""
    nodes = jnp.asarray(_OVERDENSITY, dtype=float)
    cell = jnp.clip(jnp.searchsorted(nodes, overdensity, side="right") - 1, 0, _OVERDENSITY.size - 2)
    step = overdensity - nodes[cell]
    splines = _SPLINES[fit].items()
    return {name: jnp.polyval(jnp.asarray(spline.c, dtype=float)[:, cell], step) for name, spline in splines}


def overdensity_to_mean(cosmology: CosmologyParameters, definition: str, z) -> Float[Array, "*z"]:
    """Give the overdensity of a mass definition, relative to the mean density of matter.

    Parameters
    ----------
    cosmology : CosmologyParameters
        The cosmology.
    definition : str
        One of `DEFINITIONS`.
    z : Float[Array, "*z"]
        Redshifts.

    Returns
    -------
    Float[Array, "*z"]
        Density within a halo over the mean density at its redshift.

    Raises
    ------
    MassmapError
        For another definition.

    Notes
    -----
    "vir" is that of `massmap_jax.halo.cosmology.virial_overdensity`.
    """
    z = jnp.asarray(z, dtype=float)
    if definition not in DEFINITIONS:
        raise MassmapError(
            f"mass_definition {definition!r} has no mass function here: give one of {', '.join(DEFINITIONS)}, or use "
            "MassPrior.from_hmf"
        )
    share = cosmology.omega_m * (1 + z) ** 3 / cosmology.efunc(z) ** 2
    if definition == "vir":
        return virial_overdensity(share) / share
    number = float(definition[:-1])
    return number + 0 * z if definition.endswith("m") else number / share


def check_within_reach(h, omega_m) -> None:
    """Refuse cosmologies for which sigma(M) is not interpolated.

    Parameters
    ----------
    h : float or Float[np.ndarray, "draw"]
        H0 / (100 km/s/Mpc).
    omega_m : float or Float[np.ndarray, "draw"]
        Density of matter today over the critical one.

    Raises
    ------
    MassmapError
        Where h / omega_m is outside `H_OVER_OMEGA_M`.
    """
    ratio = np.atleast_1d(np.asarray(h, dtype=float) / np.asarray(omega_m, dtype=float))
    low, high = H_OVER_OMEGA_M
    bad = np.flatnonzero(~((ratio >= low) & (ratio <= high)))
    if bad.size:
        raise MassmapError(
            f"the mass function is made for cosmologies whose h / omega_m is between {low:g} and {high:g}: "
            f"{bad.size} of {ratio.size} are others, the first in row {bad[0]} with {ratio[bad[0]]:.3g}; leave them out"
        )


def mass_function(
    cosmology: CosmologyParameters, z, ln_mass, *, fit: Fit = "Tinker10", mass_definition: str = "200m"
) -> Float[Array, "z mass"]:
    """Evaluate ln of the halo mass function dn/dlnM.

    Parameters
    ----------
    cosmology : CosmologyParameters
        The cosmology; gradients with respect to each of its numbers exist.
    z : Float[Array, "z"]
        Redshifts.
    ln_mass : Float[Array, "mass"]
        ln of the masses [ln Msun].
    fit : {"Tinker08", "Tinker10"}
        Tinker et al. 2008 or 2010.
    mass_definition : str
        "200m", "200c", "500c" or "vir". Both fits hold for overdensities of 200 to 3,200 times the mean; others are
        refused, unless they are traced by JAX.

    Returns
    -------
    Float[Array, "z mass"]
        ln dn/dlnM [ln comoving Mpc^-3].

    Raises
    ------
    MassmapError
        For another fit or definition, an overdensity that the fits were not made for, or, for more than 42 masses,
        h / omega_m that is not between 0.4 and 10; where JAX traces the cosmology, the function is NaN there.

    Notes
    -----
    Tinker et al. 2008, eqs. 2 to 8; Tinker et al. 2010, eqs. 8 to 12, normalised so that all matter is in halos at
    every redshift, with their evolution frozen above z = 3. The transfer function is that of Eisenstein & Hu 1998.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from massmap_jax.halo.abundance import CosmologyParameters, mass_function
    >>> cosmology = CosmologyParameters.of("Planck18")
    >>> ln_n = mass_function(cosmology, np.array([0.0, 1.0]), np.log([1e13, 1e15]), fit="Tinker08")
    >>> ln_n.shape
    (2, 2)

    Clusters are rarer where sigma8 is smaller:

    >>> def clusters(sigma8):
    ...     at = CosmologyParameters.of("Planck18", sigma8=sigma8)
    ...     return mass_function(at, np.array([0.3]), np.log([1e15]), fit="Tinker08")[0, 0]
    >>> bool(jax.grad(clusters)(0.8) > 5)
    True
    """
    if fit not in FITS:
        raise MassmapError(f"mass function {fit!r} is not here: give one of {', '.join(FITS)}, or use from_hmf")
    z, ln_mass = (jnp.atleast_1d(jnp.asarray(a, dtype=float)) for a in (z, ln_mass))
    overdensity = overdensity_to_mean(cosmology, mass_definition, z)
    if not isinstance(overdensity, jax.core.Tracer):  # what JAX traces has no value yet to check
        check_calibrated(fit, mass_definition, overdensity, z)
    known = not any(isinstance(a, jax.core.Tracer) for a in (cosmology.h, cosmology.omega_m))
    if known and ln_mass.shape[0] > _SIGMA_NODES:
        check_within_reach(cosmology.h, cosmology.omega_m)
    return _mass_function(cosmology, z, ln_mass, fit, mass_definition)


@partial(jax.jit, static_argnames=("fit", "mass_definition"))
def _mass_function(cosmology, z, ln_mass, fit, mass_definition):
    overdensity = overdensity_to_mean(cosmology, mass_definition, z)
    ln_sigma0, slope = cosmology.ln_sigma(ln_mass)
    ln_sigma = ln_sigma0 + jnp.log(cosmology.growth(z))[:, None]
    found = {name: value[:, None] for name, value in _at_overdensity(fit, overdensity).items()}
    ln_f = (_ln_f_2008 if fit == "Tinker08" else _ln_f_2010)(ln_sigma, z[:, None], overdensity[:, None], found)
    density = jnp.log(_RHO_CRITICAL * cosmology.h**2 * cosmology.omega_m)
    return ln_f + density - ln_mass + jnp.log(-slope)


def _ln_f_2008(ln_sigma, z, overdensity, p):
    """ln f(sigma), Tinker et al. 2008, eq. 3, with the evolution of eqs. 5 to 8."""
    ln_one = jnp.log1p(z)
    steepness = 10 ** -((0.75 / jnp.log10(overdensity / 75)) ** 1.2)
    power, scale = p["a"] * jnp.exp(-0.06 * ln_one), jnp.log(p["b"]) - steepness * ln_one
    return (
        jnp.log(p["A"]) - 0.14 * ln_one + jnp.logaddexp(0.0, -power * (ln_sigma - scale))
        - p["c"] * jnp.exp(-2 * ln_sigma)
    )  # fmt: skip


def _ln_f_2010(ln_sigma, z, overdensity, p):
    """ln of nu f(nu), Tinker et al. 2010, eq. 8, with the evolution of eqs. 9 to 12."""
    ln_one = jnp.log1p(jnp.minimum(z, _Z_FROZEN))
    ln_beta = jnp.log(p["beta"]) + 0.20 * ln_one
    phi, eta = p["phi"] * jnp.exp(-0.08 * ln_one), p["eta"] * jnp.exp(0.27 * ln_one)
    gamma = p["gamma"] * jnp.exp(-0.01 * ln_one)
    ln_nu = np.log(_DELTA_C) - ln_sigma
    # The normalisation in closed form: the integral of f over nu is 1.
    ln_gamma = jnp.log(gamma)
    norm = jnp.logaddexp(
        phi * jnp.log(2.0) + 2 * phi * ln_beta + gammaln(eta + 0.5), phi * ln_gamma + gammaln(0.5 + eta - phi)
    )
    norm += (eta - phi - 0.5) * jnp.log(2.0) - 2 * phi * ln_beta - (0.5 + eta) * ln_gamma
    shape = jnp.logaddexp(0.0, -2 * phi * (ln_beta + ln_nu)) + 2 * eta * ln_nu - 0.5 * gamma * jnp.exp(2 * ln_nu)
    return shape - norm + ln_nu
