"""Mass likelihoods of single objects, in plain NumPy on a fine grid of ln M: what they add to a fit, and posteriors."""

import numpy as np

from reference.posterior_reference import SingleDraw


def grid_of(prior, number=60_001):
    """A grid over all masses of a `PriorReference`."""
    return np.linspace(prior.ln_mass[0], prior.ln_mass[-1], number)


def ln_joint(prior, relation, ln_lum, sigma, z, ln_likelihood, grid):
    """ln of prior x likelihood of the luminosity x likelihood of the mass, which is a function of ln M."""
    of_luminosity = SingleDraw(prior, ln_lum, sigma, z, relation).log_likelihood(grid)
    return prior.log_prob(grid, z) + of_luminosity + ln_likelihood(grid)


def ln_integral(ln_values, grid):
    peak = ln_values.max()
    return peak + np.log(np.trapezoid(np.exp(ln_values - peak), grid))


def ln_added(prior, relation, ln_lum, sigma, z, ln_likelihood):
    """What one object's mass likelihood adds to ln P(data | relation)."""
    grid = grid_of(prior)
    with_it = ln_joint(prior, relation, ln_lum, sigma, z, ln_likelihood, grid)
    without = ln_joint(prior, relation, ln_lum, sigma, z, np.zeros_like, grid)
    return ln_integral(with_it, grid) - ln_integral(without, grid)


def moments(prior, relation, ln_lum, sigma, z, ln_likelihood):
    """Mean and standard deviation of one object's ln M."""
    grid = grid_of(prior)
    ln_values = ln_joint(prior, relation, ln_lum, sigma, z, ln_likelihood, grid)
    density = np.exp(ln_values - ln_values.max())
    density = density / np.trapezoid(density, grid)
    mean = np.trapezoid(density * grid, grid)
    return mean, np.sqrt(np.trapezoid(density * (grid - mean) ** 2, grid))
