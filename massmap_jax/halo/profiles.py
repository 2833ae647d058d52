"""Projected density of a halo: NFW, and NFW truncated smoothly (BMO1), in units of 2 rho_s r_s at x = R / r_s.

    Sigma(R) = 2 rho_s r_s * sigma(x),      mean Sigma within R = 2 rho_s r_s * mean_sigma(x)

NFW: rho = rho_s / [x (1 + x)^2] (Wright & Brainerd 2000, ApJ 534, 34, eqs. 11 and 13). BMO1: the same times
tau^2 / (tau^2 + x^2), tau = r_t / r_s, of finite mass (Baltz, Marshall & Oguri 2009, JCAP 01, 015, eqs. A.7 and A.10 to
A.12 with n = 1, put so that no digits are lost towards the centre). Smooth and differentiable through x = 1.
"""

from math import comb

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# |y| below which `_h` and `_f` are summed as series, y^16 of them left out (1e-16 of the sum).
_NEAR_ONE, _TERMS = 0.1, 16
# x below which the enclosed NFW mass, a difference of logarithms, is a series.
_SMALL, _SMALL_TERMS = 0.3, 14


def nfw_sigma(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Surface density of an NFW halo over 2 rho_s r_s; x > 0, elementwise."""
    return _f(x)


def nfw_mean_sigma(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mean surface density within x of an NFW halo over 2 rho_s r_s; x > 0, elementwise."""
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
    """Surface density of a BMO1 halo over 2 rho_s r_s; x > 0, tau > 0, which broadcast."""
    root = jnp.sqrt(tau**2 + x**2)
    ln = jnp.log(x / (root + tau))
    terms = (tau**2 + 1) * _f(x) + 2 * _h(x) - jnp.pi / root + (tau**2 - 1) / (tau * root) * ln
    return tau**2 / (tau**2 + 1) ** 2 * terms


def bmo_mean_sigma(x: Float[Array, "..."], tau: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mean surface density within x of a BMO1 halo over 2 rho_s r_s; x > 0, tau > 0, which broadcast."""
    # The mean of each term of `bmo_sigma`: of h it is 2 h - (mean of f), of 1 / root 2 / (root + tau), of ln / root
    # 2 ln / (root + tau) - (2 tau / x^2) ln[(root + tau) / (2 tau)].
    root = jnp.sqrt(tau**2 + x**2)
    both = root + tau
    ln_part = 2 * jnp.log(x / both) / both - 2 * tau / x**2 * jnp.log1p(x**2 / (2 * tau * both))
    terms = (tau**2 - 1) * nfw_mean_sigma(x) + 4 * _h(x) - 2 * jnp.pi / both + (tau**2 - 1) / tau * ln_part
    return tau**2 / (tau**2 + 1) ** 2 * terms


def nfw_mass(c: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mass within r = c r_s of an NFW halo over 4 pi rho_s r_s^3: ln(1 + c) - c / (1 + c), elementwise."""
    return jnp.log1p(c) - c / (1 + c)


def cut_nfw_enclosed(x: Float[np.ndarray, "..."], c: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Projected mass within x of an NFW halo that ends at r = c r_s, over its mass; NumPy, 1e-10; x, c > 0 broadcast.

    The sphere less what is outside the cylinder: 1 - int_x^c sqrt(r^2 - x^2) / (1 + r)^2 dr / m(c), by Gauss-Legendre
    quadrature in t where r = x cosh t. Takada & Jain 2003 (MNRAS 340, 580, eq. 27) have its derivative in closed form.
    """
    x, c = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(c, dtype=float))
    x = np.minimum(x, c)
    node, weight = _LEGENDRE
    end = np.arccosh(np.maximum(c / x, 1.0))
    t = (node + 1) / 2 * end[..., None]
    outside = (x[..., None] * np.sinh(t) / (1 + x[..., None] * np.cosh(t))) ** 2 @ weight * end / 2
    return 1 - outside / (np.log1p(c) - c / (1 + c))


def bmo_total_mass(tau: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mass of a whole BMO1 halo, truncated at tau scale radii, over 4 pi rho_s r_s^3 (BMO eq. A.4), elementwise."""
    return tau**2 / (tau**2 + 1) ** 2 * ((tau**2 - 1) * jnp.log(tau) + tau * jnp.pi - (tau**2 + 1))


def _y(x):
    """x = (1 - y) / (1 + y): y runs from 1 (centre) through 0 (x = 1) to -1, and all below is analytic in it."""
    return (1 - x) / (1 + x)


def _artanh(x):
    """artanh(sqrt y) / sqrt y, for y < 0 arctan(sqrt -y) / sqrt -y: one analytic function, 1 + y/3 + y^2/5 + ..."""
    y = _y(x)
    near = jnp.abs(y) < _NEAR_ONE
    series = _polynomial(jnp.where(near, y, 0.0), 1 / (2 * np.arange(_TERMS) + 1))
    inside, outside = y > _NEAR_ONE, y < -_NEAR_ONE
    root = jnp.sqrt(jnp.where(inside, y, 0.5))
    # (1 + root)^2 / (1 - y) and not (1 + root) / (1 - root), whose digits are gone near the centre.
    hyperbolic = 0.5 * jnp.log((1 + root) ** 2 * (1 + x) / (2 * x)) / root
    root = jnp.sqrt(jnp.where(outside, -y, 0.5))
    return jnp.where(near, series, jnp.where(inside, hyperbolic, jnp.arctan(root) / root))


def _h(x):
    """arccosh(1/x) / sqrt(1 - x^2), for x > 1 arccos(1/x) / sqrt(x^2 - 1)."""
    return (1 + _y(x)) * _artanh(x)


def _f(x):
    """(1 - h) / (x^2 - 1)."""
    y = _y(x)
    near = jnp.abs(y) < _NEAR_ONE
    n = np.arange(_TERMS)
    series = _polynomial(jnp.where(near, y, 0.0), 1 / (2 * n + 1) + 1 / (2 * n + 3))
    return (1 + y) ** 2 / 4 * jnp.where(near, series, (_h(x) - 1) / jnp.where(near, 0.5, y))


def _polynomial(x, coefficients):
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


_LEGENDRE = np.polynomial.legendre.leggauss(64)


def _enclosed_coefficients() -> list[tuple[float, float]]:
    """ln(x/2) + h(x) = sum over n >= 1 of x^2n (log_part_n ln(2/x) - plain_n).

    From arccosh(1/x) = ln(2/x) - sum b_k x^2k / 2k and (1 - x^2)^(-1/2) = sum b_n x^2n, b_n = C(2n, n) / 4^n.
    """
    b = [comb(2 * n, n) / 4**n for n in range(_SMALL_TERMS + 1)]
    plain = [sum(b[k] / (2 * k) * b[n - k] for k in range(1, n + 1)) for n in range(_SMALL_TERMS + 1)]
    return list(zip(b[1:], plain[1:], strict=True))


_ENCLOSED = _enclosed_coefficients()
