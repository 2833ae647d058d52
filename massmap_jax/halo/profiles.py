"""Projected densities and masses of NFW halos, plain and smoothly truncated (BMO1).

Lengths are in scale radii, x = R / r_s, and surface densities in units of 2 rho_s r_s:

    Sigma(R) = 2 rho_s r_s * sigma(x),      mean Sigma within R = 2 rho_s r_s * mean_sigma(x)

NFW: rho = rho_s / [x (1 + x)^2] (Wright & Brainerd 2000, ApJ 534, 34, eqs. 11 and 13). BMO1: the NFW density times
tau^2 / (tau^2 + x^2), tau = r_t / r_s, which has a finite total mass (Baltz, Marshall & Oguri 2009, JCAP 01, 015,
eqs. A.7 and A.10 to A.12 with n = 1, rearranged so that no digits are lost towards the centre). All functions but
`cut_nfw_enclosed` are smooth and differentiable through x = 1.
"""

from math import comb

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# |y| below which `_h` and `_f` are summed as series; the terms left out, from y^16 on, are 1e-16 of the sum.
_NEAR_ONE, _TERMS = 0.1, 16
# x below which the enclosed NFW mass, there a small difference of logarithms, is summed as a series.
_SMALL, _SMALL_TERMS = 0.3, 14


def nfw_sigma(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the surface density of an NFW halo.

    Parameters
    ----------
    x : Float[Array, "..."]
        Projected radius in scale radii, R / r_s, above 0.

    Returns
    -------
    Float[Array, "..."]
        Surface density over 2 rho_s r_s, in the shape of `x`.

    See Also
    --------
    nfw_mean_sigma : Its mean within a radius.
    bmo_sigma : The same for a halo that is truncated smoothly.

    Notes
    -----
    Wright & Brainerd (2000, ApJ 534, 34), eq. 11, written as one function that is smooth through x = 1.
    """
    return _f(x)


def nfw_mean_sigma(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the mean surface density of an NFW halo within a projected radius.

    Parameters
    ----------
    x : Float[Array, "..."]
        Projected radius in scale radii, R / r_s, above 0.

    Returns
    -------
    Float[Array, "..."]
        Mean surface density within x over 2 rho_s r_s, in the shape of `x`.

    See Also
    --------
    nfw_sigma : The surface density at a radius.

    Notes
    -----
    Wright & Brainerd (2000, ApJ 534, 34), eq. 13: 2 [ln(x/2) + h(x)] / x^2 with h = arccosh(1/x) / sqrt(1 - x^2).
    Below x = 0.3 the bracket is a small difference of logarithms, so a series is summed there instead.
    """
    small = x < _SMALL
    series_x = jnp.where(small, x, _SMALL)
    ln = -jnp.log(series_x / 2)
    square, power, series = series_x**2, 1.0, 0.0
    for log_part, plain in _ENCLOSED:
        series, power = series + power * (log_part * ln - plain), power * square
    far_x = jnp.where(small, 1.0, x)
    far = (jnp.log(far_x / 2) + _h(far_x)) / far_x**2
    return 2 * jnp.where(small, series, far)


def bmo_sigma(x: Float[Array, "..."], tau: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the surface density of a smoothly truncated NFW halo (BMO1).

    Parameters
    ----------
    x : Float[Array, "..."]
        Projected radius in scale radii, R / r_s, above 0.
    tau : Float[Array, "..."]
        Truncation radius in scale radii, r_t / r_s, above 0. It broadcasts with `x`.

    Returns
    -------
    Float[Array, "..."]
        Surface density over 2 rho_s r_s, in the broadcast shape.

    See Also
    --------
    bmo_mean_sigma : Its mean within a radius.
    nfw_sigma : The same without truncation.

    Notes
    -----
    Baltz, Marshall & Oguri (2009, JCAP 01, 015), appendix A with n = 1, rearranged so that no digits are lost towards
    the centre.
    """
    root = jnp.sqrt(tau**2 + x**2)
    ln = jnp.log(x / (root + tau))
    terms = (tau**2 + 1) * _f(x) + 2 * _h(x) - jnp.pi / root + (tau**2 - 1) / (tau * root) * ln
    return tau**2 / (tau**2 + 1) ** 2 * terms


def bmo_mean_sigma(x: Float[Array, "..."], tau: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the mean surface density of a smoothly truncated NFW halo (BMO1) within a projected radius.

    Parameters
    ----------
    x : Float[Array, "..."]
        Projected radius in scale radii, R / r_s, above 0.
    tau : Float[Array, "..."]
        Truncation radius in scale radii, r_t / r_s, above 0. It broadcasts with `x`.

    Returns
    -------
    Float[Array, "..."]
        Mean surface density within x over 2 rho_s r_s, in the broadcast shape.

    See Also
    --------
    bmo_sigma : The surface density at a radius.

    Notes
    -----
    Baltz, Marshall & Oguri (2009, JCAP 01, 015), appendix A with n = 1, rearranged so that no digits are lost towards
    the centre.
    """
    # The mean within x of each term of `bmo_sigma`. h: 2 h - (mean of f). 1 / root: 2 / (root + tau). ln / root:
    # 2 ln / (root + tau) - (2 tau / x^2) ln[(root + tau) / (2 tau)].
    root = jnp.sqrt(tau**2 + x**2)
    both = root + tau
    ln_part = 2 * jnp.log(x / both) / both - 2 * tau / x**2 * jnp.log1p(x**2 / (2 * tau * both))
    terms = (tau**2 - 1) * nfw_mean_sigma(x) + 4 * _h(x) - 2 * jnp.pi / both + (tau**2 - 1) / tau * ln_part
    return tau**2 / (tau**2 + 1) ** 2 * terms


def nfw_mass(c: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the mass of an NFW halo within a sphere, ln(1 + c) - c / (1 + c).

    Parameters
    ----------
    c : Float[Array, "..."]
        Radius of the sphere in scale radii, r / r_s; the concentration where the sphere is the halo's own radius.

    Returns
    -------
    Float[Array, "..."]
        Mass over 4 pi rho_s r_s^3, in the shape of `c`.
    """
    return jnp.log1p(c) - c / (1 + c)


def cut_nfw_enclosed(x: Float[np.ndarray, "..."], c: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Compute the projected mass within a radius of an NFW halo that ends sharply at r = c r_s.

    Parameters
    ----------
    x : Float[np.ndarray, "..."]
        Projected radius in scale radii, R / r_s, above 0; from x = c outwards the result is 1.
    c : Float[np.ndarray, "..."]
        Concentration: the radius where the halo ends, in scale radii, above 0. It broadcasts with `x`.

    Returns
    -------
    Float[np.ndarray, "..."]
        Fraction of the halo's mass that projects to within x, in the broadcast shape, to 1e-10.

    Notes
    -----
    The sphere less what lies outside the cylinder: 1 - int_x^c sqrt(r^2 - x^2) / (1 + r)^2 dr / m(c), with m(c) of
    `nfw_mass`, by Gauss-Legendre quadrature in t where r = x cosh t. It runs in NumPy, not JAX. Takada & Jain (2003,
    MNRAS 340, 580), eq. 27, have its derivative in closed form.
    """
    x, c = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(c, dtype=float))
    x = np.minimum(x, c)
    node, weight = _LEGENDRE
    end = np.arccosh(np.maximum(c / x, 1.0))
    t = (node + 1) / 2 * end[..., None]
    outside = (x[..., None] * np.sinh(t) / (1 + x[..., None] * np.cosh(t))) ** 2 @ weight * end / 2
    return 1 - outside / (np.log1p(c) - c / (1 + c))


def bmo_total_mass(tau: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the total mass of a smoothly truncated NFW halo (BMO1).

    Parameters
    ----------
    tau : Float[Array, "..."]
        Truncation radius in scale radii, r_t / r_s, above 0.

    Returns
    -------
    Float[Array, "..."]
        Mass over 4 pi rho_s r_s^3, in the shape of `tau`.

    Notes
    -----
    Baltz, Marshall & Oguri (2009, JCAP 01, 015), eq. A.4 with n = 1.
    """
    return tau**2 / (tau**2 + 1) ** 2 * ((tau**2 - 1) * jnp.log(tau) + tau * jnp.pi - (tau**2 + 1))


def _y(x):
    """The y of x = (1 - y) / (1 + y): 1 at the centre, 0 at x = 1, down to -1; what follows is analytic in it."""
    return (1 - x) / (1 + x)


def _artanh(x):
    """artanh(sqrt y) / sqrt y, or arctan(sqrt -y) / sqrt -y for y < 0: one analytic function, 1 + y/3 + y^2/5 + ..."""
    y = _y(x)
    near = jnp.abs(y) < _NEAR_ONE
    series = _polynomial(jnp.where(near, y, 0.0), 1 / (2 * np.arange(_TERMS) + 1))
    inside, outside = y > _NEAR_ONE, y < -_NEAR_ONE
    root = jnp.sqrt(jnp.where(inside, y, 0.5))
    # (1 + root)^2 / (1 - y) and not (1 + root) / (1 - root), which loses its digits near the centre.
    hyperbolic = 0.5 * jnp.log((1 + root) ** 2 * (1 + x) / (2 * x)) / root
    root = jnp.sqrt(jnp.where(outside, -y, 0.5))
    return jnp.where(near, series, jnp.where(inside, hyperbolic, jnp.arctan(root) / root))


def _h(x):
    """arccosh(1/x) / sqrt(1 - x^2), or arccos(1/x) / sqrt(x^2 - 1) for x > 1."""
    return (1 + _y(x)) * _artanh(x)


def _f(x):
    """(1 - h) / (x^2 - 1)."""
    y = _y(x)
    near = jnp.abs(y) < _NEAR_ONE
    n = np.arange(_TERMS)
    series = _polynomial(jnp.where(near, y, 0.0), 1 / (2 * n + 1) + 1 / (2 * n + 3))
    return (1 + y) ** 2 / 4 * jnp.where(near, series, (_h(x) - 1) / jnp.where(near, 0.5, y))


def _polynomial(x, coefficients):
    """Sum of coefficients[i] x^i, by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


_LEGENDRE = np.polynomial.legendre.leggauss(64)


def _enclosed_coefficients() -> list[tuple[float, float]]:
    """Coefficients (log_part_n, plain_n) of the series of ln(x/2) + h(x) at small x.

    ln(x/2) + h(x) = sum over n >= 1 of x^2n (log_part_n ln(2/x) - plain_n), from arccosh(1/x) = ln(2/x) - sum b_k x^2k
    / 2k and (1 - x^2)^(-1/2) = sum b_n x^2n, with b_n = C(2n, n) / 4^n.
    """
    b = [comb(2 * n, n) / 4**n for n in range(_SMALL_TERMS + 1)]
    plain = [sum(b[k] / (2 * k) * b[n - k] for k in range(1, n + 1)) for n in range(_SMALL_TERMS + 1)]
    return list(zip(b[1:], plain[1:], strict=True))


_ENCLOSED = _enclosed_coefficients()
