"""Posteriors of ln M and of z with linear noise, or a limit, and a redshift that is a distribution: dense sums.

A flux F +- e and a p(z): at each redshift the luminosity is F times 4 pi D_L(z)^2, and its error is in proportion. The sum
is over redshift, over ln M, and over the true ln L, which given ln M and z is normal about the mean of the relation.
"""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

LN_DENSITY = {"normal": lambda score: -0.5 * score**2, "upper_limit": norm.logcdf, "above": norm.logsf}


class Field:
    """The mass function, numbers of halos and distances that objects share.

    Parameters
    ----------
    z_nodes, ln_mass_nodes, ln_density : the table of ln p(ln M | z), (z, ln M)
    ln_number : ln of the number of all halos per unit redshift at redshifts, as a function
    ln_distance2 : ln D_L^2 at redshifts, as a function
    mean_ln_lum : mean ln L at (ln M, z), as a function
    scatter : of ln L
    """

    def __init__(self, z_nodes, ln_mass_nodes, ln_density, ln_number, ln_distance2, mean_ln_lum, scatter, masses=1201):
        self.z_nodes, self.ln_number, self.ln_distance2 = z_nodes, ln_number, ln_distance2
        self.mean_ln_lum, self.scatter = mean_ln_lum, scatter
        self.ln_mass = np.linspace(ln_mass_nodes[0], ln_mass_nodes[-1], masses)
        self._rows = np.stack([np.interp(self.ln_mass, ln_mass_nodes, row) for row in ln_density])

    def ln_prior(self, z):
        """ln p(ln M | z), linear in z between the nodes of the table; (z, ln M)."""
        cell = np.clip(np.searchsorted(self.z_nodes, z) - 1, 0, self.z_nodes.size - 2)
        part = ((z - self.z_nodes[cell]) / np.diff(self.z_nodes)[cell])[:, None]
        rows = self._rows[cell] * (1 - part) + self._rows[cell + 1] * part
        step = self.ln_mass[1] - self.ln_mass[0]
        edges = np.ones(self.ln_mass.size)
        edges[[0, -1]] = 0.5
        return rows - logsumexp(rows, b=edges * step, axis=1, keepdims=True)

    def ln_likelihood(self, offset, ratio, kind):
        """ln of the mean of p(F | L) over the scatter; `offset` is ln mu_L of the halo less ln of the flux's error."""
        grid = np.linspace(offset.min(), offset.max(), max(2, int(np.ptp(offset) / 2e-3) + 2))
        score = np.linspace(-7.5, 7.5, 401)
        weight = norm.logpdf(score) + np.log(score[1] - score[0])
        values = np.empty(grid.size)
        for block in np.array_split(np.arange(grid.size), max(1, grid.size // 2000)):
            lum = np.exp(np.minimum(grid[block, None] + self.scatter * score, 40.0))
            values[block] = logsumexp(weight + LN_DENSITY[kind](ratio - lum), axis=1)
        return np.interp(offset, grid, values)

    def joint(self, flux, error, u, ln_p_of_u, kind="normal", lum_moves=True, seen_z=False):
        """Posterior of z and ln M on the grids: (z, ln M).

        `flux` and `error` are per D_L^2, or those of the luminosity itself where it does not move; `u` a fine even grid
        of ln(1 + z), `ln_p_of_u` the likelihood of the redshift there. With `seen_z`, p(z) has seen the flux.
        """
        joint, ln_weight = self._ln_joint(flux, error, u, kind, lum_moves), ln_p_of_u
        if seen_z:
            joint = joint - logsumexp(joint, axis=1, keepdims=True)
        else:
            ln_weight = ln_p_of_u + u + self.ln_number(np.expm1(u))
        joint = joint + ln_weight[:, None]
        joint[[0, -1]] -= np.log(2)
        share = np.exp(joint - joint.max())
        return share / share.sum()

    def ln_evidence(self, flux, error, u, ln_p_of_u, kind="normal"):
        """ln of the mean likelihood of a flux, over ln M and over n(z) times that of the redshift."""
        step = self.ln_mass[1] - self.ln_mass[0]
        of_z = logsumexp(self._ln_joint(flux, error, u, kind, True), axis=1) + np.log(step)
        ln_weight = ln_p_of_u + u + self.ln_number(np.expm1(u))
        ln_weight[[0, -1]] -= np.log(2)
        return logsumexp(of_z + ln_weight) - logsumexp(ln_weight)

    def _ln_joint(self, flux, error, u, kind, lum_moves):
        """ln of prior times likelihood, ends of the masses by half."""
        z = np.expm1(u)
        ln_error = np.log(error) + (self.ln_distance2(z) if lum_moves else 0.0 * z)
        offset = self.mean_ln_lum(self.ln_mass, z[:, None]) - ln_error[:, None]
        joint = self.ln_prior(z) + self.ln_likelihood(offset, flux / error, kind)
        joint[:, [0, -1]] -= np.log(2)
        return joint

    def shares(self, flux, error, u, *args, **options):
        """Those of ln M and of z alone: ((ln M, share), (z, share)); arguments as in `joint`."""
        share, z = self.joint(flux, error, u, *args, **options), np.expm1(u)
        return (self.ln_mass, share.sum(axis=0)), (z, share.sum(axis=1))


def summary(place, share, levels=(1e-3, 0.999)):
    """Mean, standard deviation, and quantiles of a density given at even places."""
    mean = (share * place).sum()
    cdf = np.cumsum(share) - 0.5 * share
    return mean, np.sqrt((share * (place - mean) ** 2).sum()), np.interp(levels, cdf, place)
