"""The posterior of ln M of one object, slowly: exact cells, quadrature, mixtures over relation draws, the 2017 loop.

The model (all logs natural): ln L_obs | M ~ N(alpha1 + alpha2 ln(M / alpha3) + alpha4 g(z), S^2 + sigma^2) with
g = ln(1 + z) or ln E(z), and M from `PriorReference`. The evidence Z is a density per unit L_obs.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, logsumexp

LN_SQRT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class Relation:
    """One (alpha, S). alpha3 is the pivot [Msun]; evolution "power" is alpha4 ln(1 + z), "E" is alpha4 ln E(z)."""

    alpha1: float = 10.709
    alpha2: float = 0.359
    alpha3: float = 2.35e14
    alpha4: float = 1.10
    scatter: float = 0.155
    evolution: str = "power"
    omega_m: float = 0.3

    def log_evolution(self, z):
        if self.evolution == "power":
            return self.alpha4 * np.log1p(z)
        return self.alpha4 * 0.5 * np.log(self.omega_m * (1 + z) ** 3 + 1 - self.omega_m)

    def mean_ln_lum(self, ln_mass, z):
        return self.alpha1 + self.alpha2 * (ln_mass - np.log(self.alpha3)) + self.log_evolution(z)


def log_normal_interval(low, high):
    """ln[Phi(high) - Phi(low)] for low <= high, without cancellation in either tail."""
    low, high = np.broadcast_arrays(np.asarray(low, dtype=float), np.asarray(high, dtype=float))
    flip = low + high > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    upper, lower = log_ndtr(high), log_ndtr(low)
    with np.errstate(divide="ignore"):
        return upper + np.log(-np.expm1(np.minimum(lower - upper, 0.0)))


class _OneDimensional:
    """What follows from `cdf`, for the exact and the quadrature version alike."""

    def quantile(self, level):
        """ln M with cdf = level, by bracketing."""
        edge = self.ln_mass[0], self.ln_mass[-1]
        return brentq(lambda m: self.cdf(m) - level, *edge, xtol=1e-13, rtol=1e-14, maxiter=500)

    @property
    def median(self):
        return self.quantile(0.5)


class SingleDraw(_OneDimensional):
    """Posterior for one relation: each cell is exp(line) times a Gaussian, in closed form.

    Parameters
    ----------
    prior : PriorReference
    ln_lum_obs, sigma, z : the object (sigma in ln L)
    relation : Relation
    """

    def __init__(self, prior, ln_lum_obs, sigma, z, relation):
        self.prior, self.z, self.relation = prior, z, relation
        self.ln_lum_obs = ln_lum_obs
        self.ln_mass, self.ln_prior = prior.ln_mass, prior.row(z)
        self.total_scatter = np.hypot(relation.scatter, sigma)
        self.width = self.total_scatter / abs(relation.alpha2)
        offset = ln_lum_obs - relation.alpha1 - relation.log_evolution(z)
        self.centre = np.log(relation.alpha3) + offset / relation.alpha2

        self.slope = np.diff(self.ln_prior) / np.diff(self.ln_mass)
        self.shifted = self.centre + self.slope * self.width**2
        # Gaussian in ln L_obs against Gaussian in ln M: the factor 1/alpha2, and 1/L_obs for the unit
        self._ln_unit = -ln_lum_obs - np.log(abs(relation.alpha2))
        self._ln_height = (
            self.ln_prior[:-1] + self.slope * (self.centre - self.ln_mass[:-1]) + 0.5 * (self.slope * self.width) ** 2
        )
        low, high = self._scaled(self.ln_mass[:-1], self.ln_mass[1:], slice(None))
        self._ln_cell = self._ln_height + log_normal_interval(low, high)
        ln_total = logsumexp(self._ln_cell)
        self.log_evidence = ln_total + self._ln_unit
        self._share = np.exp(self._ln_cell - ln_total)
        self._below = np.concatenate([[0.0], np.cumsum(self._share)])
        self._above = np.concatenate([np.cumsum(self._share[::-1])[::-1], [0.0]])
        self._set_moments(low, high)
        self._set_edge()

    def _scaled(self, low, high, cell):
        return (low - self.shifted[cell]) / self.width, (high - self.shifted[cell]) / self.width

    def _set_moments(self, low, high):
        keep = self._share > 0
        low, high, share = low[keep], high[keep], self._share[keep]
        ln_probability = log_normal_interval(low, high)
        at_low = np.exp(-0.5 * low**2 - LN_SQRT_2PI - ln_probability)
        at_high = np.exp(-0.5 * high**2 - LN_SQRT_2PI - ln_probability)
        first = at_low - at_high
        second = 1 + low * at_low - high * at_high
        # moments of ln M about the Gaussian's centre, where neither is large
        lift = self.slope[keep] * self.width**2
        about_centre = lift + self.width * first
        square = lift**2 + 2 * lift * self.width * first + self.width**2 * second
        shift = share @ about_centre
        self.mean = self.centre + shift
        self.sd = np.sqrt(share @ square - shift**2)
        gaussian = -0.5 * (share @ square) / self.width**2 - LN_SQRT_2PI - np.log(self.total_scatter)
        self.information_bits = (gaussian - self.ln_lum_obs - self.log_evidence) / np.log(2)

    def _set_edge(self):
        below = self._ln_height[0] + log_ndtr((self.ln_mass[0] - self.shifted[0]) / self.width)
        above = self._ln_height[-1] + log_ndtr(-(self.ln_mass[-1] - self.shifted[-1]) / self.width)
        self.ln_outside = logsumexp([below, above]) + self._ln_unit
        self.edge_mass = np.exp(self.ln_outside - np.logaddexp(self.ln_outside, self.log_evidence))

    def log_likelihood(self, ln_mass):
        """ln P(L_obs | M), a density per unit L_obs."""
        t = (self.ln_lum_obs - self.relation.mean_ln_lum(ln_mass, self.z)) / self.total_scatter
        return -0.5 * t**2 - LN_SQRT_2PI - np.log(self.total_scatter) - self.ln_lum_obs

    def log_pdf(self, ln_mass):
        """ln of the posterior density per unit ln M."""
        ln_prior = np.interp(ln_mass, self.ln_mass, self.ln_prior, left=-np.inf, right=-np.inf)
        return ln_prior + self.log_likelihood(ln_mass) - self.log_evidence

    def cdf(self, ln_mass):
        if ln_mass <= self.ln_mass[0]:
            return 0.0
        if ln_mass >= self.ln_mass[-1]:
            return 1.0
        cell = int(np.searchsorted(self.ln_mass, ln_mass, side="right") - 1)
        low, high = self._scaled(self.ln_mass[cell], ln_mass, cell)
        ln_total = self.log_evidence - self._ln_unit
        if self._below[cell] < 0.5:
            return self._below[cell] + np.exp(self._ln_height[cell] + log_normal_interval(low, high) - ln_total)
        low, high = self._scaled(ln_mass, self.ln_mass[cell + 1], cell)
        return 1 - self._above[cell + 1] - np.exp(self._ln_height[cell] + log_normal_interval(low, high) - ln_total)

    @property
    def mode(self):
        """ln M at the highest density per ln M: the best of each cell's parabola, held inside its cell."""
        best = np.clip(self.shifted, self.ln_mass[:-1], self.ln_mass[1:])
        return best[np.argmax(self.log_pdf(best))]


def _one(m):
    return 1.0


class SingleDrawByQuadrature(_OneDimensional):
    """The same posterior by adaptive quadrature of prior times likelihood: no formula shared with `SingleDraw`."""

    def __init__(self, prior, ln_lum_obs, sigma, z, relation):
        self.ln_mass, self._row = prior.ln_mass, prior.row(z)
        self._relation = relation
        self._variance = float(relation.scatter**2 + sigma**2)
        self._offset = float(ln_lum_obs - relation.mean_ln_lum(0.0, z))
        self._ln_norm = float(0.5 * np.log(2 * np.pi * self._variance) + ln_lum_obs)
        self.mode = self._find_mode()
        self._ln_peak = self._ln_joint(self.mode)
        # breakpoints: every kink of the prior, and a ladder of posterior widths for posteriors narrower than a cell
        reach = 12 * np.sqrt(self._variance) / abs(relation.alpha2)
        ladder = self.mode + reach / 12 * np.arange(-12, 13)
        ladder = ladder[(ladder > self.ln_mass[0]) & (ladder < self.ln_mass[-1])]
        self._edges = np.unique(np.concatenate([self.ln_mass, ladder]))
        self._piece = np.array([self._integrate(_one, a, b) for a, b in pairwise(self._edges)])
        total = self._piece.sum()
        self.log_evidence = np.log(total) + self._ln_peak
        self._below = np.concatenate([[0.0], np.cumsum(self._piece)]) / total
        self._total = total
        self.mean = self.mode + self._expect(lambda m: m - self.mode)
        self.sd = np.sqrt(self._expect(lambda m: (m - self.mean) ** 2))
        bits = self._expect(lambda m: self._ln_likelihood(m) - self.log_evidence)
        self.information_bits = bits / np.log(2)
        self.edge_mass = self._find_edge(relation, reach)

    def _ln_likelihood(self, m):
        difference = self._offset - self._relation.alpha2 * m
        return -0.5 * difference**2 / self._variance - self._ln_norm

    def _ln_joint(self, m):
        return np.interp(m, self.ln_mass, self._row) + self._ln_likelihood(m)

    def _find_mode(self):
        grid = np.unique(np.concatenate([self.ln_mass, np.linspace(self.ln_mass[0], self.ln_mass[-1], 40_001)]))
        best = int(np.argmax(self._ln_joint(grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
        found = minimize_scalar(
            lambda m: -self._ln_joint(m), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
        )
        return found.x if self._ln_joint(found.x) > self._ln_joint(grid[best]) else grid[best]

    def _integrate(self, weight, low, high):
        """Integral over a stretch without a kink of weight(m) times the joint density over its peak."""
        low, high = float(low), float(high)
        # between kinks ln p is the line through its values at the two ends
        at_low, at_high = (float(np.interp(m, self.ln_mass, self._row)) for m in (low, high))
        slope = (at_high - at_low) / (high - low) if high > low else 0.0
        lift = at_low - self._ln_peak

        def integrand(m):
            return weight(m) * math.exp(lift + slope * (m - low) + self._ln_likelihood(m))

        return quad(integrand, low, high, epsabs=1e-14, epsrel=1e-11, limit=200)[0]

    def _expect(self, weight):
        return sum(self._integrate(weight, a, b) for a, b in pairwise(self._edges)) / self._total

    def _find_edge(self, relation, reach):
        outside = 0.0
        for edge, inner, sign in ((0, 1, -1), (-1, -2, 1)):
            start, value = self.ln_mass[edge], self._row[edge]
            slope = (self._row[edge] - self._row[inner]) / (self.ln_mass[edge] - self.ln_mass[inner])

            def ln_extended(m, start=start, value=value, slope=slope):
                return value + slope * (m - start) + self._ln_likelihood(m)

            width2 = self._variance / relation.alpha2**2
            centre = slope * width2 + self._offset / relation.alpha2
            far = start + sign * (abs(centre - start) + reach)
            ladder = centre + reach / 12 * np.arange(-12, 13)
            low, high = sorted((start, far))
            inner = (ladder > low + 0.01 * reach) & (ladder < high - 0.01 * reach)
            points = np.concatenate([[low], ladder[inner], [high]])
            outside += sum(
                quad(lambda m: math.exp(ln_extended(m) - self._ln_peak), a, b, epsabs=1e-14, epsrel=1e-11, limit=200)[0]
                for a, b in pairwise(points)
            )
        return outside / (outside + self._total)

    def cdf(self, ln_mass):
        if ln_mass <= self.ln_mass[0]:
            return 0.0
        if ln_mass >= self.ln_mass[-1]:
            return 1.0
        piece = int(np.searchsorted(self._edges, ln_mass, side="right") - 1)
        return self._below[piece] + self._integrate(_one, self._edges[piece], ln_mass) / self._total


class Mixture(_OneDimensional):
    """Posterior averaged over relation draws.

    `this_catalogue` and `fixed_draws`: each draw's posterior is normalised, then averaged with weights
    exp(log_weight). `other_data`: the weight of draw j is Z(j) exp(log_weight_j), Z(j) this object's evidence.

    `log_evidence` is the ln of the exp(log_weight)-weighted mean of Z(j) under all three, and `ess` is
    1 / sum(weight^2) of the weights that mix the posteriors.
    """

    def __init__(self, prior, ln_lum_obs, sigma, z, relations, relation_from, log_weight=None):
        self.parts = [SingleDraw(prior, ln_lum_obs, sigma, z, relation) for relation in relations]
        self.ln_mass, self.ln_prior = prior.ln_mass, self.parts[0].ln_prior
        log_weight = np.zeros(len(relations)) if log_weight is None else np.asarray(log_weight, dtype=float)
        log_weight = log_weight - logsumexp(log_weight)
        ln_z = np.array([part.log_evidence for part in self.parts])
        self.log_evidence = logsumexp(log_weight + ln_z)
        ln_outside = np.array([part.ln_outside for part in self.parts])
        if relation_from == "other_data":
            self.weight = np.exp(log_weight + ln_z - self.log_evidence)
            outside = logsumexp(log_weight + ln_outside)
            self.edge_mass = np.exp(outside - np.logaddexp(outside, self.log_evidence))
        elif relation_from in ("this_catalogue", "fixed_draws"):
            self.weight = np.exp(log_weight)
            self.edge_mass = self.weight @ np.array([part.edge_mass for part in self.parts])
        else:
            raise ValueError(relation_from)
        self.ess = 1 / np.sum(self.weight**2)
        mean = np.array([part.mean for part in self.parts])
        self.mean = self.weight @ mean
        spread = np.array([part.sd for part in self.parts]) ** 2 + (mean - self.mean) ** 2
        self.sd = np.sqrt(self.weight @ spread)
        self.mode = self._find_mode()
        self.information_bits = self._information()

    def log_pdf(self, ln_mass):
        with np.errstate(divide="ignore"):
            ln_weight = np.log(self.weight)
        shape = (-1,) + (1,) * np.ndim(ln_mass)
        return logsumexp(ln_weight.reshape(shape) + np.array([part.log_pdf(ln_mass) for part in self.parts]), axis=0)

    def cdf(self, ln_mass):
        return float(self.weight @ np.array([part.cdf(ln_mass) for part in self.parts]))

    def _find_mode(self):
        grid = np.unique(np.concatenate([self.ln_mass, np.linspace(self.ln_mass[0], self.ln_mass[-1], 4001)]))
        best = int(np.argmax(self.log_pdf(grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
        found = minimize_scalar(
            lambda m: -self.log_pdf(m), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
        )
        return found.x if self.log_pdf(found.x) > self.log_pdf(grid[best]) else grid[best]

    def _information(self):
        """Relative entropy of the posterior over the prior [bits], by Gauss-Legendre in sub-cells of w/4 or finer."""
        node, gauss = np.polynomial.legendre.leggauss(12)
        narrowest = min(part.width for part in self.parts)
        pieces = int(np.ceil(4 * np.diff(self.ln_mass).max() / narrowest))
        edges = np.unique(
            np.concatenate([a + (b - a) * np.arange(pieces + 1) / pieces for a, b in pairwise(self.ln_mass)])
        )
        half = np.diff(edges)[:, None] / 2
        m = (edges[:-1, None] + half) + half * node
        ln_post = self.log_pdf(m)
        ln_ratio = ln_post - np.interp(m, self.ln_mass, self.ln_prior)
        density = np.exp(ln_post)
        with np.errstate(invalid="ignore"):
            term = np.where(density > 0, density * ln_ratio, 0.0)
        return float(np.sum(half * gauss * term)) / np.log(2)


def grid_estimator_2017(rng, prior, lum_obs, sigma, z, relations, num_lum=100):
    """The 2017 estimator as a plain loop: P(M) proportional to p1(M) mean_j mean_i p4(L_obs | L_i), L_i from p3.

    Returns the density per unit ln M at the prior's mass nodes, normalised by the trapezoid rule in ln M. A draw's
    share is its own evidence: the weights are those of `other_data`.
    """
    ln_mass, row = prior.ln_mass, prior.row(z)
    likelihood = np.zeros(ln_mass.size)
    for relation in relations:
        for k, m in enumerate(ln_mass):
            ln_lum = rng.normal(relation.mean_ln_lum(m, z), relation.scatter, num_lum)
            density = np.exp(-0.5 * ((np.log(lum_obs) - ln_lum) / sigma) ** 2)
            likelihood[k] += np.mean(density) / (lum_obs * sigma * np.sqrt(2 * np.pi))
    product = np.exp(row) * likelihood / len(relations)
    return product / np.trapezoid(product, ln_mass)
