"""How much of a fault the data show at all: the power of the best test that could be made, whoever makes it.

By the lemma of Neyman and Pearson no test of a model against a given fault is more powerful than the ratio of the two
likelihoods. Over N objects the ln of that ratio has the mean K = N x (the Kullback-Leibler divergence of one object)
where the fault is there, and, while the two are near, the variance 2 K under both. At a false-alarm rate a its power is
Phi[sqrt(2 K) - z_a]: with a = 0.01, a power of 0.8 needs K = 5. A fit is given first what it can absorb: K is that of
the model at the parameters that fit the faulty data best. A check does not know the fault, so it finds less.

The divergence is that of the histogram of PITs over simulated objects, in bins of the data; that a PIT is uniform in
each bin says all there is to say of a continuous distribution. Bins are equal in the normal score, so that they hold
the tails too. Plain NumPy, and nothing of the package but the table of the mass function.
"""

from typing import NamedTuple

import numpy as np
from reference.prior_reference import PriorReference
from scipy.optimize import minimize
from scipy.special import ndtr
from scipy.stats import norm

LEVEL = 0.01  # false alarms
_LN_MASS, _LN_LUM = 140, 140  # points of the grids
_PIT_BINS, _MASS_PIT_BINS = 28, 14
_FARTHEST = 3.25  # of the edges of these bins, in standard deviations
_IN_Z, _IN_LUM = 6, 4  # bins of the data
_CALIBRATORS = 8_000  # at most, of those simulated


class Simulated(NamedTuple):
    """Objects, with the fault in them: ln L_obs, its error, redshift, and ln M_obs where measured (else NaN)."""

    ln_lum: np.ndarray
    sigma: float
    z: np.ndarray
    ln_mass: np.ndarray
    sigma_mass: float


class _Model:
    """The right model at given parameters (alpha1, alpha2, alpha4, ln scatter)."""

    def __init__(self, reference: PriorReference, pivot: float, seen: Simulated):
        self.seen, self.ln_pivot = seen, np.log(pivot)
        self.z, self.which = np.unique(seen.z, return_inverse=True)
        ends = reference.ln_mass[[0, -1]]
        edges = np.linspace(*ends, _LN_MASS + 1)
        self.ln_mass = 0.5 * (edges[1:] + edges[:-1])
        ln_p = np.array([np.interp(self.ln_mass, reference.ln_mass, row) for row in reference.rows(self.z)])
        self.p = np.exp(ln_p)
        self.p /= self.p.sum(axis=1, keepdims=True)
        self.ln_lum = np.linspace(seen.ln_lum.min() - 0.5, seen.ln_lum.max() + 0.5, _LN_LUM)
        self.measured = np.flatnonzero(np.isfinite(seen.ln_mass))[:_CALIBRATORS]

    def _mean(self, at, which):
        """Mean ln L at each mass of the grid, for redshifts (n,): (n, mass)."""
        alpha1, alpha2, alpha4, _ = at
        return alpha1 + alpha2 * (self.ln_mass - self.ln_pivot) + alpha4 * np.log1p(self.z[which])[:, None]

    def luminosities(self, at):
        """CDF at, and ln density of, each luminosity given its redshift."""
        width = np.hypot(np.exp(at[3]), self.seen.sigma)
        cdf, density = np.empty(self.seen.z.size), np.empty(self.seen.z.size)
        for k in range(self.z.size):
            score = (self.ln_lum[:, None] - self._mean(at, np.array([k]))) / width
            rows = self.which == k
            cdf[rows] = np.interp(self.seen.ln_lum[rows], self.ln_lum, ndtr(score) @ self.p[k])
            values = np.exp(-0.5 * score**2) @ self.p[k] / (width * np.sqrt(2 * np.pi))
            density[rows] = np.interp(self.seen.ln_lum[rows], self.ln_lum, np.log(values + 1e-300))
        return cdf, density

    def masses(self, at):
        """CDF at, and ln density of, each measured mass given its luminosity and redshift."""
        rows, error = self.measured, self.seen.sigma_mass
        width = np.hypot(np.exp(at[3]), self.seen.sigma)
        ln_like = -0.5 * ((self.seen.ln_lum[rows, None] - self._mean(at, self.which[rows])) / width) ** 2
        weight = np.exp(ln_like - ln_like.max(axis=1, keepdims=True)) * self.p[self.which[rows]]
        weight /= weight.sum(axis=1, keepdims=True)
        score = (self.seen.ln_mass[rows, None] - self.ln_mass) / error
        density = (weight * np.exp(-0.5 * score**2)).sum(axis=1) / (error * np.sqrt(2 * np.pi))
        return (weight * ndtr(score)).sum(axis=1), np.log(density + 1e-300)


def _divergence(pit, which, bins: int) -> float:
    """Kullback-Leibler divergence of one object from uniform PITs within each part, free of the noise of counts."""
    edges = np.concatenate([[0.0], ndtr(np.linspace(-_FARTHEST, _FARTHEST, bins - 1)), [1.0]])
    number = which.max() + 1
    counts, *_ = np.histogram2d(which, np.clip(pit, 0.0, 1.0), [np.arange(number + 1) - 0.5, edges])
    expected = counts.sum(axis=1, keepdims=True) * np.diff(edges)
    terms = counts * np.log(np.where(counts > 0, counts, 1.0) / expected)
    return max(0.0, float(terms.sum() - 0.5 * number * (bins - 1)) / pit.size)


def _parts(values, number):
    return np.argsort(np.argsort(values, kind="stable")) * number // values.size


def best_power(
    seen: Simulated, reference: PriorReference, law: dict, beliefs: dict, objects: int, measured=0, fitted=True
):
    """Power of the best possible test of `objects` objects, of which `measured` have a measured mass.

    Parameters
    ----------
    seen : Simulated
        Many more objects, with the fault.
    reference : PriorReference
        The mass function of the model.
    law : dict
        The relation, where it is known, and where its fit begins.
    beliefs : dict of (float, float)
        Mean and sd of normal beliefs about alpha1, alpha2 and alpha4.
    objects, measured : int
        How many there are.
    fitted : bool
        Whether the relation is fitted.

    Returns
    -------
    float
        The power at a false-alarm rate of `LEVEL`.
    """
    model = _Model(reference, law["alpha3"], seen)
    at = np.array([law["alpha1"], law["alpha2"], law["alpha4"], np.log(law["scatter"])])
    if fitted:
        middle, sd = np.array([beliefs[name] for name in ("alpha1", "alpha2", "alpha4")]).T

        def loss(at):
            total = -objects * model.luminosities(at)[1].mean() + 0.5 * (((at[:3] - middle) / sd) ** 2).sum()
            return total - (measured * model.masses(at)[1].mean() if measured else 0.0)

        at = minimize(loss, at, method="Nelder-Mead", options={"xatol": 2e-3, "fatol": 0.05, "maxfev": 300}).x
    found = objects * _divergence(model.luminosities(at)[0], _parts(seen.z, _IN_Z), _PIT_BINS)
    if measured:
        parts = _parts(seen.ln_lum[model.measured], _IN_LUM)
        found += measured * _divergence(model.masses(at)[0], parts, _MASS_PIT_BINS)
    return float(norm.cdf(np.sqrt(2 * found) - norm.isf(LEVEL)))
