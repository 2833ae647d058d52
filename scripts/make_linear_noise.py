"""Make the table of linear noise, the file massmap_jax/data/linear_noise.npz.

Run it in the root of the repository: python scripts/make_linear_noise.py [FILE]. It takes about a minute.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.linear_noise import FAINT, NEAR, STEP_CENTRE, STEP_WIDTH

_X = np.cos(np.pi * (np.arange(80) + 0.5) / 80)
# Between signal to noise 9.4 and 20, in asinh(q / 2), the near part takes all: the faint one is below exp(-44) of it.
_TO_NEAR = 2.25, 3.0
# A prior that rises towards light masses lifts K by so much per unit t.
_LIFT = 1.5


def integrals(t, place: float, scatter: float, ln_functions) -> list[np.ndarray]:
    """ln of the integral over y of N(y; -t, S^2) times each function exp[f(y, q - L / e)], at some t.

    By the trapezoidal rule, on nodes that resolve the scatter and the noise.
    """
    q, relative = 2 * np.sinh(place), np.exp(-place)
    brightest = np.log(max(q, 0.0) + 12) - place
    t = t[:, None]
    if scatter <= 0.7 * relative:
        x = np.arange(-9, 9.01, 0.09)
        y, ln_weight = np.minimum(scatter * x - t, brightest + 5), -0.5 * x**2 + np.log(0.09)
    else:
        low, high = -(t.max() + 9 * scatter), max(brightest + 0.5, 9 * scatter - t.min())
        fine, narrow = np.linspace(low, high, 20_001), 0.7 * relative

        def count(y):
            return 10 * (y / scatter + np.arcsinh(y / narrow))

        def density(y):
            return 10 * (1 / scatter + 1 / np.hypot(narrow, y))

        number = np.linspace(count(low), count(high), int(count(high) - count(low)) + 2)
        y = np.interp(number, count(fine), fine)
        for _ in range(6):  # Newton
            y = np.clip(y - (count(y) - number) / density(y), low, high)
        step = number[1] - number[0]
        ln_weight = -0.5 * ((y + t) / scatter) ** 2 + np.log(step / (density(y) * scatter))
    ratio = q - np.exp(y + place)
    return [logsumexp(f(y, ratio) + ln_weight - 0.5 * np.log(2 * np.pi), axis=1) for f in ln_functions]


def near(y, ratio):
    """ln of the likelihood of a measurement, times the step."""
    return -0.5 * ratio**2 + log_ndtr((y - STEP_CENTRE) / STEP_WIDTH)


def faint(y, ratio):
    """ln of the likelihood of a measurement, times one less the step."""
    return -0.5 * ratio**2 + log_ndtr((STEP_CENTRE - y) / STEP_WIDTH)


def smooth_step(x: float) -> float:
    """From 0 at 0 to 1 at 1, with four continuous derivatives."""
    x = float(np.clip(x, 0.0, 1.0))
    return x**5 * (126 - 420 * x + 540 * x**2 - 315 * x**3 + 70 * x**4)


def measurement(place: float, scatter: float) -> np.ndarray:
    """Coefficients of both parts: the polynomials that are nearest where each part matters."""
    on, found = linear_noise.intervals(place, scatter, np), []
    for number, (low, high, degree) in enumerate(((*on[:2], NEAR), (*on[2:4], FAINT))):
        t = 0.5 * (low + high) + 0.5 * (high - low) * _X
        both = integrals(t, place, scatter, (near, faint))
        whole = np.logaddexp(*both)
        # Gradually, since the coefficients are interpolated between the nodes of the lattice.
        level = smooth_step((place - _TO_NEAR[0]) / (_TO_NEAR[1] - _TO_NEAR[0]))
        left = both[1] - level * (both[1] + 2 * np.sinh(place) ** 2)
        moved = both[1] + np.log(np.maximum(-np.expm1(np.minimum(left - both[1], 0.0)), 1e-300))
        both = np.logaddexp(both[0], moved), left
        lifted = whole + _LIFT * np.maximum(t, 0)
        share = both[number] - np.logaddexp(*both)
        found.append(
            polynomial(both[number], np.clip((lifted - lifted.max()) / 8, -7, 0) + np.clip(share / 2, -6, 0), degree)
        )
    return np.concatenate(found)


def limit(place: float, scatter: float) -> np.ndarray:
    """Coefficients of v, where the probability to stay below the limit is Phi(v)."""
    low, high = linear_noise.limit_interval(place, scatter, np)
    t = 0.5 * (low + high) + 0.5 * (high - low) * _X
    below, above = integrals(t, place, scatter, (lambda y, ratio: log_ndtr(ratio), lambda y, ratio: log_ndtr(-ratio)))
    v = np.where(below < above, ndtri_exp(np.minimum(below, -1e-300)), -ndtri_exp(np.minimum(above, -1e-300)))
    return polynomial(v, np.clip(below / 8, -7, 0) + np.clip((4 - v) / 2, -6, 0), NEAR)


def polynomial(values, ln_weight, degree: int) -> np.ndarray:
    """Coefficients of the polynomial on [-1, 1] that is nearest to values at the nodes, highest power first."""
    weight = np.exp(ln_weight)
    fit, *_ = np.linalg.lstsq(chebyshev.chebvander(_X, degree) * weight[:, None], values * weight, rcond=None)
    powers = chebyshev.cheb2poly(fit)  # which leaves out zeros at the end
    return np.append(powers, np.zeros(degree + 1 - powers.size))[::-1]


def make(path: Path) -> None:
    """Write the table."""
    scatters = np.exp(linear_noise.SCATTER_NODES) - linear_noise.SCATTER_ZERO
    tables = {
        kind: np.array([[at_node(place, s) for s in scatters] for place in linear_noise.RATIO_NODES])
        for kind, at_node in (("normal", measurement), ("upper_limit", limit))
    }
    np.savez_compressed(path, **{kind: table.astype(np.float32) for kind, table in tables.items()})


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else linear_noise.TABLE)
