"""The mass prior as an object: ln p(ln M | z) linear in ln M in each cell, linear in z between nodes, renormalised.

Plain NumPy in float64, from a raw table. This object is the truth that every path of the package is tested against.
"""

import functools

import numpy as np
from scipy.special import logsumexp


def log_mean_exp_of_line(rise):
    """ln of the mean over [0, 1] of exp(rise * t), that is ln[(e^rise - 1) / rise], safe at rise = 0."""
    rise = np.asarray(rise, dtype=float)
    near = np.abs(rise) < 1e-4
    safe = np.where(near, 1.0, rise)
    # for a large positive rise take e^rise out, as expm1 overflows at 709
    far = np.maximum(safe, 0.0) + np.log(-np.expm1(-np.abs(safe)) / np.abs(safe))
    return np.where(near, rise / 2 + rise**2 / 24 - rise**4 / 2880, far)


def fraction_below(rise, t):
    """Share of the integral of exp(rise * t) over [0, 1] that lies below t."""
    rise, t = np.broadcast_arrays(np.asarray(rise, dtype=float), np.asarray(t, dtype=float))
    near = np.abs(rise) < 1e-9
    safe = np.where(near, 1.0, rise)
    return np.where(near, t + rise * t * (t - 1) / 2, np.expm1(safe * t) / np.expm1(safe))


def inverse_fraction_below(rise, share):
    """The t at which `fraction_below(rise, t)` is `share`."""
    rise, share = np.broadcast_arrays(np.asarray(rise, dtype=float), np.asarray(share, dtype=float))
    near = np.abs(rise) < 1e-9
    safe = np.where(near, 1.0, rise)
    return np.where(near, share - rise * share * (share - 1) / 2, np.log1p(share * np.expm1(safe)) / safe)


class PriorReference:
    """P(ln M | z) from a table.

    Parameters
    ----------
    redshift : (j,) nodes, increasing.
    mass : (k,) nodes [Msun], increasing.
    density : (j, k) positive; normalisation is of no account.
    per : "mass", "ln_mass" or "log10_mass", the unit that the density is per.
    snap : None to interpolate in z, "upper" to take the next node up (a z on a node keeps that node).
    """

    def __init__(self, redshift, mass, density, per, snap=None):
        self.redshift = np.asarray(redshift, dtype=float)
        self.mass = np.asarray(mass, dtype=float)
        self.ln_mass = np.log(self.mass)
        density = np.asarray(density, dtype=float)
        if np.any(density <= 0):
            raise ValueError("the reference needs a positive density at every node")
        # p(ln M) = p(M) dM/dlnM; the log10 factor is common to all nodes and goes with the normalisation
        jacobian = {"mass": self.ln_mass, "ln_mass": 0.0, "log10_mass": 0.0}[per]
        self.ln_density = np.log(density) + jacobian
        self.snap = snap
        self.width = np.diff(self.ln_mass)

    def rows(self, z):
        """Normalised ln p(ln M | z) at the mass nodes, (n, k), for z (n,)."""
        z = np.atleast_1d(np.asarray(z, dtype=float))
        if np.any(~np.isfinite(z)) or z.min() < self.redshift[0] or z.max() > self.redshift[-1]:
            raise ValueError("z beyond the table")
        if self.snap == "upper":
            row = self.ln_density[np.searchsorted(self.redshift, z, side="left")]
        else:
            low = np.clip(np.searchsorted(self.redshift, z, side="right") - 1, 0, self.redshift.size - 2)
            share = ((z - self.redshift[low]) / (self.redshift[low + 1] - self.redshift[low]))[:, None]
            row = (1 - share) * self.ln_density[low] + share * self.ln_density[low + 1]
        return row - logsumexp(self._log_cell_mass(row), axis=1)[:, None]

    def row(self, z):
        """Normalised ln p(ln M | z) at the mass nodes, (k,), for one z."""
        return self.rows(z)[0]

    def _log_cell_mass(self, row):
        return row[..., :-1] + np.log(self.width) + log_mean_exp_of_line(np.diff(row, axis=-1))

    def log_prob(self, ln_mass, z):
        """ln p(ln M | z) at ln_mass (any shape) for one z; -inf outside the table."""
        ln_mass = np.asarray(ln_mass, dtype=float)
        return np.interp(ln_mass, self.ln_mass, self.row(z), left=-np.inf, right=-np.inf)

    def cdf(self, ln_mass, z):
        """P(mass below exp(ln_mass) | z) at ln_mass (any shape) for one z."""
        row = self.row(z)
        cumulative = np.concatenate([[0.0], np.cumsum(np.exp(self._log_cell_mass(row)))])
        ln_mass = np.clip(np.asarray(ln_mass, dtype=float), self.ln_mass[0], self.ln_mass[-1])
        cell = np.clip(np.searchsorted(self.ln_mass, ln_mass, side="right") - 1, 0, self.width.size - 1)
        t = (ln_mass - self.ln_mass[cell]) / self.width[cell]
        return cumulative[cell] + np.diff(cumulative)[cell] * fraction_below(np.diff(row)[cell], t)

    def quantile(self, level, z):
        """ln M with `cdf` = level (any shape) for one z."""
        cumulative, rise = self._cumulative(float(z))
        return self._inverse(np.asarray(level, dtype=float), cumulative, rise)

    @functools.lru_cache(maxsize=1000)  # noqa: B019  there are a handful of references, and simulations ask again
    def _cumulative(self, z):
        """The distribution function at the mass nodes (k,), and the rise of ln p over each cell (k - 1,), at one z."""
        row = self.row(z)
        return np.concatenate([[0.0], np.cumsum(np.exp(self._log_cell_mass(row)))]), np.diff(row)

    def _inverse(self, level, cumulative, rise):
        cell = np.clip(np.searchsorted(cumulative, level, side="right") - 1, 0, self.width.size - 1)
        share = np.clip((level - cumulative[cell]) / (cumulative[cell + 1] - cumulative[cell]), 0.0, 1.0)
        return self.ln_mass[cell] + self.width[cell] * inverse_fraction_below(rise[cell], share)

    def sample(self, rng, z):
        """One ln M per z (n,), by inversion of the cdf at that z. Quick where values of z repeat."""
        z = np.asarray(z, dtype=float)
        ln_mass = np.empty(z.shape)
        for one, index in _groups(z):
            cumulative, rise = self._cumulative(float(one))
            ln_mass[index] = self._inverse(rng.random(index.size) * cumulative[-1], cumulative, rise)
        return ln_mass

    def sample_without_cell_width(self, rng, z):
        """The mistake of the ancestors' mocks: cumulative sum of the density per unit *mass*, no cell width.

        On a grid of equal steps in ln M this draws from p(M)/M. The draw is spread evenly in ln M over the cell
        below the node, so that only the weight is wrong.
        """
        z = np.asarray(z, dtype=float)
        ln_mass = np.empty(z.shape)
        for one, index in _groups(z):
            cumulative = np.cumsum(np.exp(self.row(one) - self.ln_mass)[1:])
            cell = np.searchsorted(cumulative, rng.random(index.size) * cumulative[-1])
            ln_mass[index] = self.ln_mass[cell] + self.width[cell] * rng.random(index.size)
        return ln_mass


def _groups(z):
    """Each distinct value of z with the places where it stands."""
    values, inverse, count = np.unique(z, return_inverse=True, return_counts=True)
    return zip(values, np.split(np.argsort(inverse, kind="stable"), np.cumsum(count)[:-1]))
