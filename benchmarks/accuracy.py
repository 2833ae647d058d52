"""Reference values that the output of every benchmark is compared with. Imports nothing from massmap_jax.

`exact_posteriors` evaluates the closed form of tests/reference: within each cell of the prior's table, ln p is linear
and the data term is a Gaussian. It treats all relation draws in one array, because the reference itself takes 50 ms a
halo; `check_against_reference` compares the two. `sampled_posteriors` is a plain version of the integrators that sample
the luminosity: its scatter about the exact answer is the Monte Carlo error that such a method is allowed.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reference.posterior_reference import LN_SQRT_2PI, Mixture, Relation, log_normal_interval
from reference.prior_reference import PriorReference

LEVELS = (0.001, 0.999)
# Largest allowed errors, in units of the posterior sd; the quantiles are those at LEVELS.
TOLERANCE = {"mean": 1e-3, "sd": 1e-3, "quantiles": 1e-2}
# Allowed ratio of the rms error to the expected Monte Carlo error. Errors have heavy tails, so 1,000 objects determine
# the ratio to several per cent only.
SAMPLED_RATIO = (0.8, 1.25)
_REFINEMENTS, _POINTS = 3, 33


class Objects(NamedTuple):
    """ln L_obs, its error in ln L, and the redshift; each has the shape (halo,)."""

    ln_lum_obs: np.ndarray
    sigma: np.ndarray
    redshift: np.ndarray

    def take(self, rows) -> "Objects":
        return Objects(*(a[rows] for a in self))


class Draws(NamedTuple):
    """Relation draws of equal weight, with the evolution (1 + z)^alpha4; each has the shape (draw,)."""

    alpha1: np.ndarray
    alpha2: np.ndarray
    alpha3: np.ndarray
    alpha4: np.ndarray
    scatter: np.ndarray


class Posteriors(NamedTuple):
    """Summaries of ln M [ln Msun], each of shape (halo,); the quantiles at LEVELS have the shape (halo, 2)."""

    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray


class _Cells(NamedTuple):
    """One object under every relation draw: the cells of the prior times a Gaussian; (draw, cell) unless noted."""

    nodes: np.ndarray  # (cell + 1,)
    centre: np.ndarray  # (draw, 1)
    width: np.ndarray  # (draw, 1)
    lift: np.ndarray  # (cell,) slope of ln p, times width^2: (draw, cell)
    ln_height: np.ndarray
    ln_total: np.ndarray  # (draw, 1)
    low: np.ndarray
    high: np.ndarray
    ln_interval: np.ndarray

    @classmethod
    def of(cls, nodes, row, ln_lum_obs, sigma, z, draws: Draws) -> "_Cells":
        alpha1, alpha2, alpha3, alpha4, scatter = (a[:, None] for a in draws)
        width = np.hypot(scatter, sigma) / np.abs(alpha2)
        centre = np.log(alpha3) + (ln_lum_obs - alpha1 - alpha4 * np.log1p(z)) / alpha2
        slope = np.diff(row) / np.diff(nodes)
        lift = slope * width**2
        ln_height = row[:-1] + slope * (centre - nodes[:-1]) + 0.5 * (slope * width) ** 2
        low, high = ((end - centre - lift) / width for end in (nodes[:-1], nodes[1:]))
        ln_interval = log_normal_interval(low, high)
        ln_total = logsumexp(ln_height + ln_interval, axis=1, keepdims=True)
        return cls(nodes, centre, width, lift, ln_height, ln_total, low, high, ln_interval)

    @property
    def share(self):
        return np.exp(self.ln_height + self.ln_interval - self.ln_total)

    def moments(self):
        """Return the mean and the variance of ln M under each relation draw; each has the shape (draw,)."""
        share = self.share
        with np.errstate(all="ignore"):
            at_low, at_high = (np.exp(-0.5 * x**2 - LN_SQRT_2PI - self.ln_interval) for x in (self.low, self.high))
            first = self.width * (at_low - at_high)
            second = self.width**2 * (1 + self.low * at_low - self.high * at_high)
            about = np.where(share > 0, share * (self.lift + first), 0.0).sum(axis=1)
            square = np.where(share > 0, share * (self.lift**2 + 2 * self.lift * first + second), 0.0).sum(axis=1)
        return self.centre[:, 0] + about, square - about**2

    def inside(self, cell, start, end):
        """Return the posterior probability between two masses of one cell under each draw; (draw, ...)."""
        shape = (-1,) + (1,) * np.ndim(end)
        at = [a[:, cell].reshape(shape) for a in (self.lift, self.ln_height)]
        centre, width, ln_total = (a.reshape(shape) for a in (self.centre, self.width, self.ln_total))
        low, high = ((m - centre - at[0]) / width for m in (start, end))
        return np.exp(at[1] + log_normal_interval(low, high) - ln_total)

    def quantile_of_mixture(self, level):
        """Return the ln M at which the CDF of the equal mixture of the draws is `level`; summed from the nearer end."""
        mass = self.share.mean(axis=0)
        upper = level > 0.5
        if upper:
            mass = mass[::-1]
        beyond, target = np.cumsum(mass), min(level, 1 - level)
        k = min(int(np.searchsorted(beyond, target)), mass.size - 1)
        target = target - (beyond[k] - mass[k])
        cell = mass.size - 1 - k if upper else k
        low, high = self.nodes[cell], self.nodes[cell + 1]
        for _ in range(_REFINEMENTS):
            m = np.linspace(low, high, _POINTS)
            if upper:
                ends = np.broadcast_to(self.nodes[cell + 1], m.shape)
                held = self.inside(cell, m, ends).mean(axis=0)[::-1]
                m = m[::-1]
            else:
                held = self.inside(cell, np.broadcast_to(self.nodes[cell], m.shape), m).mean(axis=0)
            i = int(np.clip(np.searchsorted(held, target), 1, _POINTS - 1))
            low, high = sorted((m[i - 1], m[i]))
        return float(np.interp(target, held[i - 1 : i + 1], m[i - 1 : i + 1]))


def _each_object(prior: PriorReference, objects: Objects, draws: Draws):
    for ln_lum_obs, sigma, z in zip(*objects):
        yield _Cells.of(prior.ln_mass, prior.row(z), ln_lum_obs, sigma, z, draws)


def exact_posteriors(prior: PriorReference, objects: Objects, draws: Draws) -> Posteriors:
    """Return summaries of the equal mixture of the draws' normalised posteriors (`this_catalogue`, `fixed_draws`)."""
    mean, sd, quantiles = [], [], []
    for cells in _each_object(prior, objects, draws):
        means, variances = cells.moments()
        mean.append(means.mean())
        sd.append(np.sqrt((variances + (means - mean[-1]) ** 2).mean()))
        quantiles.append([cells.quantile_of_mixture(level) for level in LEVELS])
    return Posteriors(np.array(mean), np.array(sd), np.array(quantiles))


def exact_mean_mass(prior: PriorReference, objects: Objects, draws: Draws) -> np.ndarray:
    """Return E[M] [Msun] under the equal mixture, (halo,).

    The factor exp(ln M) changes the slope of ln p in each cell, which stays linear, so the closed form still applies.
    """
    nodes, result = prior.ln_mass, []
    for ln_lum_obs, sigma, z in zip(*objects):
        row = prior.row(z)
        plain, tilted = (_Cells.of(nodes, r, ln_lum_obs, sigma, z, draws).ln_total for r in (row, row + nodes))
        result.append(np.exp(tilted - plain).mean())
    return np.array(result)


def exact_log_evidence(prior: PriorReference, objects: Objects, draws: Draws) -> np.ndarray:
    """Return G, the ln of the integral of prior x Gaussian over ln M, under the first draw; (halo,)."""
    return np.array([cells.ln_total[0, 0] for cells in _each_object(prior, objects, draws)])


def pit_of_draws(prior: PriorReference, objects: Objects, draws: Draws, ln_mass) -> np.ndarray:
    """Return the CDF of each ln_mass (halo, draw) under its own relation draw alone.

    The values are uniform if the masses were drawn from these posteriors.
    """
    result = np.empty(ln_mass.shape)
    for k, cells in enumerate(_each_object(prior, objects, draws)):
        m = np.clip(ln_mass[k], cells.nodes[0], cells.nodes[-1])
        cell = np.clip(np.searchsorted(cells.nodes, m, side="right") - 1, 0, cells.nodes.size - 2)
        share, which = cells.share, np.arange(m.size)
        below = np.cumsum(share, axis=1) - share
        shift = cells.centre[:, 0] + cells.lift[which, cell]
        low, high = ((end - shift) / cells.width[:, 0] for end in (cells.nodes[cell], m))
        part = np.exp(cells.ln_height[which, cell] + log_normal_interval(low, high) - cells.ln_total[:, 0])
        result[k] = below[which, cell] + part
    return result


def prior_pit(prior: PriorReference, redshift, ln_mass) -> np.ndarray:
    """Return the prior CDF of each ln_mass at its own redshift; (halo,)."""
    return np.array([prior.cdf(m, z) for m, z in zip(ln_mass, redshift)])


def uniform_distance(values) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance of the values from the uniform distribution on [0, 1], and its p-value."""
    from scipy.stats import kstest

    result = kstest(np.ravel(values), "uniform")
    return float(result.statistic), float(result.pvalue)


def check_against_reference(prior: PriorReference, objects: Objects, draws: Draws) -> float:
    """Return the largest difference between `exact_posteriors` and the reference, in posterior sd."""
    fast, worst = exact_posteriors(prior, objects, draws), 0.0
    relations = [Relation(*values) for values in zip(*draws)]
    for k, (ln_lum_obs, sigma, z) in enumerate(zip(*objects)):
        slow = Mixture(prior, ln_lum_obs, sigma, z, relations, "fixed_draws")
        difference = [fast.mean[k] - slow.mean, fast.sd[k] - slow.sd]
        difference += [fast.quantiles[k, i] - slow.quantile(level) for i, level in enumerate(LEVELS)]
        worst = max(worst, float(np.abs(difference).max() / slow.sd))
    return worst


def sampled_posteriors(rng, method, prior, objects, draws, exact: Posteriors, num_lum, num_points=256) -> Posteriors:
    """Return one realisation of a sampled integrator, by the trapezoid rule.

    `monte_carlo` takes the mean of p4 over draws of p3. `importance` draws L from p4 reversed and weights it by p3. The
    base normals are shared over the masses. The grid reaches nine sd of the exact posterior to either side. The normals
    are float32, which is precise enough for an error bar.
    """
    mean, sd, quantiles = [], [], []
    for k, (ln_lum_obs, sigma, z) in enumerate(zip(*objects)):
        reach = 9 * exact.sd[k]
        low, high = max(exact.mean[k] - reach, prior.ln_mass[0]), min(exact.mean[k] + reach, prior.ln_mass[-1])
        m = np.linspace(low, high, num_points)
        mean_ln_lum = (
            draws.alpha1[:, None]
            + draws.alpha2[:, None] * (m - np.log(draws.alpha3[:, None]))
            + draws.alpha4[:, None] * np.log1p(z)
        )
        normals = rng.standard_normal((draws.alpha1.size, num_lum, 1), dtype=np.float32)
        spread, kernel = draws.scatter[:, None, None], np.full((draws.alpha1.size, 1, 1), sigma)
        if method == "importance":
            spread, kernel = kernel, spread
        offset = ((ln_lum_obs - mean_ln_lum)[:, None, :] / kernel).astype(np.float32)
        offset = offset + (spread / kernel).astype(np.float32) * normals
        offset *= offset
        offset *= -0.5
        likelihood = np.exp(offset, out=offset).sum(axis=1, dtype=np.float64)
        density = np.exp(np.interp(m, prior.ln_mass, prior.row(z)) - prior.row(z).max()) * likelihood
        trapezoid = np.ones(num_points)
        trapezoid[[0, -1]] = 0.5
        density = (density / np.maximum(density @ trapezoid, 1e-300)[:, None]).mean(axis=0)
        cumulative = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        weight = density * trapezoid / (density @ trapezoid)
        mean.append(weight @ m)
        sd.append(np.sqrt(weight @ (m - mean[-1]) ** 2))
        quantiles.append(np.interp(LEVELS, cumulative / cumulative[-1], m))
    return Posteriors(np.array(mean), np.array(sd), np.array(quantiles))


def expected_error(rng, method, prior, objects, draws, exact, num_lum, replicates=4) -> Posteriors:
    """Return the rms deviation of a sampled integrator from the exact answer, in posterior sd; (halo,) each."""
    parts = [
        errors(sampled_posteriors(rng, method, prior, objects, draws, exact, num_lum), exact) for _ in range(replicates)
    ]
    return Posteriors(*(np.sqrt(np.mean(np.square(np.stack(a)), axis=0)) for a in zip(*parts)))


def errors(found: Posteriors, exact: Posteriors) -> Posteriors:
    """Return the differences in units of the exact sd."""
    return Posteriors(
        (found.mean - exact.mean) / exact.sd,
        (found.sd - exact.sd) / exact.sd,
        (found.quantiles - exact.quantiles) / exact.sd[:, None],
    )


def judge(found: Posteriors, exact: Posteriors) -> dict:
    """Return the largest errors over all objects, and whether they are below TOLERANCE."""
    size = {name: float(np.abs(a).max()) for name, a in errors(found, exact)._asdict().items()}
    return {"error": size, "passed": all(size[name] < TOLERANCE[name] for name in TOLERANCE)}  # NaN fails


def judge_sampled(found: Posteriors, exact: Posteriors, expected: Posteriors) -> dict:
    """Return the rms errors over all objects, also in units of the expected Monte Carlo error."""
    found = errors(found, exact)._asdict()
    size = {name: float(np.sqrt(np.mean(a**2))) for name, a in found.items()}
    ratio = {name: size[name] / float(np.sqrt(np.mean(a**2))) for name, a in expected._asdict().items()}
    low, high = SAMPLED_RATIO
    return {"error": size, "ratio_to_expected": ratio, "passed": all(low < r < high for r in ratio.values())}


def choose_rows(rng, offset, number=1000, extreme=10) -> np.ndarray:
    """Return `number` random rows, among them the `extreme` rows with the lowest and highest `offset` (half each)."""
    order = np.argsort(offset)
    ends = np.concatenate([order[: extreme // 2], order[order.size - (extreme - extreme // 2) :]])
    rest = np.setdiff1d(np.arange(order.size), ends)
    return np.concatenate([ends, rng.choice(rest, min(number - ends.size, rest.size), replace=False)])
