"""The posterior of ln M with linear noise, or with an upper limit, by a dense sum over the true luminosity."""

from functools import cached_property

import numpy as np
from scipy.stats import norm

LN_DENSITY = {"normal": lambda score: -0.5 * score**2, "upper_limit": norm.logcdf, "above": norm.logsf}


class LinearNoise:
    """Density of ln M for L_obs = L +- error (or L < L_obs +- error), to be summarised by `moments.SharpMoments`.

    Parameters
    ----------
    prior : PriorReference
    lum_obs, error, z : the object; error in the unit of the luminosity
    relation : Relation
    kind : "normal", "upper_limit", or "above" (a measurement above L_obs, whatever it is)
    """

    def __init__(self, prior, lum_obs, error, z, relation, kind):
        self.ln_mass, self._row = prior.ln_mass, prior.row(z)
        self._relation, self._z, self._lum, self._error = relation, z, lum_obs, error
        self._ln_density = LN_DENSITY[kind]
        self._score = np.linspace(-8, 8, 401)
        self._ln_weight = -0.5 * self._score**2

    @cached_property
    def mode(self):
        """The place of the maximum on a fine grid; not every test asks for it."""
        grid = np.linspace(self.ln_mass[0], self.ln_mass[-1], 4001)
        return grid[np.argmax(self.log_pdf(grid))]

    def log_pdf(self, ln_mass):
        """ln of the density per unit ln M, up to a constant."""
        ln_mass = np.asarray(ln_mass, dtype=float)
        mean = self._relation.mean_ln_lum(ln_mass, self._z)[..., None]
        lum = np.exp(mean + self._relation.scatter * self._score)
        terms = self._ln_weight + self._ln_density((self._lum - lum) / self._error)
        peak = terms.max(axis=-1, keepdims=True)
        ln_likelihood = peak[..., 0] + np.log(np.exp(terms - peak).sum(axis=-1))
        ln_prior = np.interp(ln_mass, self.ln_mass, self._row, left=-np.inf, right=-np.inf)
        return ln_prior + ln_likelihood
