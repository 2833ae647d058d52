"""Regression codes of astronomers in one form: linmix (Kelly 2007), BCES (Akritas & Bershady 1996), least squares.

Each fits a line, or predicts measured masses from luminosities; `scores` says how well. Imports nothing from
massmap_jax, and the codes themselves only where they are called.
"""

import contextlib
import io
import time
from importlib import import_module
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr
from scipy.stats import norm
from scipy.stats import t as student

HOW_TO_INSTALL = {
    "linmix": "pip install git+https://github.com/jmeyers314/linmix",
    "bces": "pip install bces",
}
PARAMETERS = ("slope", "intercept", "scatter")
_CHAINS, _KEPT, _RESAMPLED = 4, 100, 200
# CRPS = the integral of F^2 below the measured mass and of (1 - F)^2 above it, each over so many units of ln M. With 12
# nodes it is right to 1e-4 for predictions of width 0.1 to 0.4.
_REACH, _NODES = 2.0, 12
_x, _w = np.polynomial.legendre.leggauss(_NODES)
OFFSETS = np.concatenate([-0.5 * _REACH * (1 + _x), 0.5 * _REACH * (1 + _x)])
_WEIGHTS = 0.5 * _REACH * _w


class Data(NamedTuple):
    """Objects as a regression takes them, each column (object,): ln L without its evolution, ln M_obs, errors, z."""

    ln_lum: np.ndarray
    ln_mass: np.ndarray
    sigma: np.ndarray
    sigma_mass: np.ndarray
    z: np.ndarray

    def take(self, rows) -> "Data":
        return Data(*(column[rows] for column in self))


class Line(NamedTuple):
    """Estimates and errors of PARAMETERS, and the seconds that they took, by the clock and of processor time."""

    value: np.ndarray
    error: np.ndarray
    seconds: float
    cpu_seconds: float


def missing() -> list[str]:
    """Names of the codes that are not installed."""
    found = []
    for name in HOW_TO_INSTALL:
        try:
            import_module(name)
        except ImportError:
            found.append(name)
    return found


def chain_of(x, y, x_error, y_error, seed: int, iterations: int):
    """Run linmix for y on x, with three components and four chains as is its default, and give its draws."""
    model = import_module("linmix").LinMix(x, y, x_error, y_error, nchains=_CHAINS, parallelize=False)
    for number, chain in enumerate(model._chains):
        # linmix takes a seed only where it starts a process for each chain.
        chain.rng = np.random.RandomState(_CHAINS * seed + number)
        chain.initial_guess()
    # Told to be silent, linmix does not count the iterations it adds until R-hat is below 1.1.
    with contextlib.redirect_stdout(io.StringIO()):
        model.run_mcmc(miniter=iterations, maxiter=20 * iterations)
    return model.chain


def by_linmix(data: Data, seed: int, iterations: int) -> Line:
    """Regress ln L on ln M."""
    begin = time.perf_counter(), time.process_time()
    chain = chain_of(data.ln_mass, data.ln_lum, data.sigma_mass, data.sigma, seed, iterations)
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    draws = np.stack([chain["beta"], chain["alpha"], np.sqrt(chain["sigsqr"])])
    return Line(draws.mean(axis=1), draws.std(axis=1), *seconds)


def bces_line(data: Data):
    """BCES(Y|X) of ln L on ln M: slope, intercept, their errors, and the scatter from the moments of the residuals."""
    none = np.zeros_like(data.z)
    found = import_module("bces.bces").bces(data.ln_mass, data.sigma_mass, data.ln_lum, data.sigma, none)
    slope, intercept, slope_error, intercept_error = (a[0] for a in found[:4])
    noise = np.mean(data.sigma**2) + slope**2 * np.mean(data.sigma_mass**2)
    variance = np.var(data.ln_lum - slope * data.ln_mass, ddof=2) - noise
    return (slope, intercept, np.sqrt(max(variance, 0.0))), (slope_error, intercept_error)


def by_bces(data: Data, seed: int) -> Line:
    """Regress ln L on ln M; BCES gives no error of the scatter, so this one is from bootstrap samples."""
    rng = np.random.default_rng(seed)
    begin = time.perf_counter(), time.process_time()
    value, errors = bces_line(data)
    number = data.z.size
    again = [bces_line(data.take(rng.integers(0, number, number)))[0][2] for _ in range(_RESAMPLED)]
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return Line(np.array(value), np.array([*errors, np.std(again)]), *seconds)


def predicted_by_linmix(known: Data, asked: Data, seed: int, iterations: int) -> dict:
    """Regress ln M on ln L, and predict with its mixture: each draw makes p(ln M_obs | ln L) a sum of normals."""
    chain = chain_of(known.ln_lum, known.ln_mass, known.sigma, known.sigma_mass, seed, iterations)
    chain = chain[np.linspace(0, chain.size - 1, _KEPT).astype(int)]
    x, variance = asked.ln_lum[:, None, None], asked.sigma[:, None, None] ** 2
    total = chain["tausqr"] + variance
    ln_share = np.log(chain["pi"]) + norm.logpdf(x, chain["mu"], np.sqrt(total))
    ln_share -= logsumexp(ln_share, axis=2, keepdims=True) + np.log(_KEPT)
    latent = (chain["tausqr"] * x + variance * chain["mu"]) / total
    mean = chain["alpha"][:, None] + chain["beta"][:, None] * latent
    spread = chain["beta"][:, None] ** 2 * chain["tausqr"] * variance / total + chain["sigsqr"][:, None]
    spread = np.sqrt(spread + asked.sigma_mass[:, None, None] ** 2)
    flat = [a.reshape(a.shape[0], 1, -1) for a in (ln_share, mean, spread)]

    def cdf(ln_mass):
        return (np.exp(flat[0]) * ndtr((ln_mass[..., None] - flat[1]) / flat[2])).sum(axis=2)

    at = asked.ln_mass[:, None, None]
    return scores(cdf, logsumexp(flat[0] + norm.logpdf(at, *flat[1:]), axis=2)[:, 0], asked.ln_mass)


def predicted_by_bces(known: Data, asked: Data) -> dict:
    """Turn the line of ln L on ln M round: ln M = (ln L - intercept) / slope, with the widths of both."""
    (slope, intercept, scatter), _ = bces_line(known)
    mean = (asked.ln_lum - intercept) / slope
    spread = np.sqrt((scatter**2 + asked.sigma**2) / slope**2 + asked.sigma_mass**2)
    density = norm.logpdf(asked.ln_mass, mean, spread)
    return scores(lambda m: ndtr((m - mean[:, None]) / spread[:, None]), density, asked.ln_mass)


def predicted_by_least_squares(known: Data, asked: Data) -> dict:
    """Least squares of ln M_obs on ln L and ln(1 + z), without errors, and its Student-t prediction."""
    design, at = (np.stack([np.ones_like(d.z), d.ln_lum, np.log1p(d.z)], axis=1) for d in (known, asked))
    found = np.linalg.lstsq(design, known.ln_mass, rcond=None)[0]
    freedom = known.z.size - design.shape[1]
    variance = ((known.ln_mass - design @ found) ** 2).sum() / freedom
    inverse = np.linalg.inv(design.T @ design)
    mean, spread = at @ found, np.sqrt(variance * (1 + ((at @ inverse) * at).sum(axis=1)))
    density = student.logpdf(asked.ln_mass, freedom, mean, spread)
    return scores(lambda m: student.cdf(m, freedom, mean[:, None], spread[:, None]), density, asked.ln_mass)


def scores(cdf, ln_density, ln_mass) -> dict:
    """Score predictions: `cdf` gives P(ln M_obs < m) of m (object, value), `ln_density` its ln density at `ln_mass`.

    Means over the objects of ln p and of the CRPS [ln M], coverage of the central 68.3 and 95.4 % intervals, mean PIT.
    """
    below, above = np.split(cdf(ln_mass[:, None] + OFFSETS), 2, axis=1)
    pit = cdf(ln_mass[:, None])[:, 0]
    return {
        "ln p": float(np.mean(ln_density)),
        "CRPS": float(np.mean(below**2 @ _WEIGHTS + (1 - above) ** 2 @ _WEIGHTS)),
        "within 68 %": float(np.mean(np.abs(pit - 0.5) < 0.3413)),
        "within 95 %": float(np.mean(np.abs(pit - 0.5) < 0.4772)),
        "mean PIT": float(np.mean(pit)),
    }
