"""The per-halo loop of the 2017 mass-map notebook, ported plainly: every speed ratio is relative to it.

It works as the notebook did. For each of the n_S draws of (alpha, S) and for each mass, a frozen SciPy lognormal draws
n_L luminosities (p3), and p4 is evaluated for one luminosity after the other. Nothing is slowed down on purpose. A
second form evaluates p4 for all n_L luminosities in one array call and does not freeze the SciPy distribution; it shows
how much of the time comes from the way the notebook is written rather than from the algorithm.

Imports nothing from massmap_jax. To see the time per halo: ``python benchmarks/peers/notebook_2017.py``.
"""

import argparse
import time

import numpy as np
from scipy.stats import lognorm

# The 2017 values (natural logs; luminosity in their own unit): mean and width of alpha1, alpha2, alpha4 and S.
PIVOT = 2.35e14
MEAN = (10.709, 0.359, 1.10, 0.155)
WIDTH = (0.022, 0.009, 0.06, 0.0009)


def fast_lognormal(mu, sigma, x):
    """Return the density at x of a lognormal whose logarithm has mean ln(mu) and width sigma."""
    return 1 / (x * sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (np.log(x) - np.log(mu)) ** 2 / sigma**2)


def draw_relations(rng, n_s):
    """Return n_s draws of (alpha1, alpha2, alpha4, S), that is of p2."""
    return [tuple(rng.normal(MEAN, WIDTH)) for _ in range(n_s)]


def mean_luminosity(mass, z, alpha1, alpha2, alpha4):
    return np.exp(alpha1) * (mass / PIVOT) ** alpha2 * (1 + z) ** alpha4


def posterior_of_one_halo(lum_obs, z, sigma, mass_nodes, prior_row, rng, n_s=10, n_l=100):
    """Return P(M) of one halo at the mass nodes, per unit mass, normalised by the trapezoid rule.

    Parameters
    ----------
    lum_obs, z, sigma : float
        Observed luminosity, redshift, and lognormal error in ln L.
    mass_nodes : array, (k,)
        Masses [Msun].
    prior_row : array, (k,)
        Prior density per unit mass at the redshift of the halo.
    rng : numpy.random.Generator
        Source of the random numbers.
    n_s, n_l : int
        Number of relation draws, and of luminosities for each mass and relation draw.

    Returns
    -------
    array, (k,)
        The posterior density per unit mass [1/Msun].
    """
    total = np.zeros(len(mass_nodes))
    for alpha1, alpha2, alpha4, scatter in draw_relations(rng, n_s):
        likelihood = []
        for mass in mass_nodes:
            mu_lum = mean_luminosity(mass, z, alpha1, alpha2, alpha4)
            p4_sum = 0
            for lum in lognorm(scatter, scale=mu_lum).rvs(n_l, random_state=rng):
                p4_sum += fast_lognormal(lum, sigma, lum_obs)
            likelihood.append(p4_sum / n_l)
        total += likelihood
    product = prior_row * total / n_s
    return product / np.trapezoid(product, mass_nodes)


def posterior_of_one_halo_arrays(lum_obs, z, sigma, mass_nodes, prior_row, rng, n_s=10, n_l=100):
    """Return the same estimator with p4 in one array call per (mass, draw) and without a frozen distribution."""
    total = np.zeros(len(mass_nodes))
    for alpha1, alpha2, alpha4, scatter in draw_relations(rng, n_s):
        for k, mass in enumerate(mass_nodes):
            mu_lum = mean_luminosity(mass, z, alpha1, alpha2, alpha4)
            lum = lognorm.rvs(scatter, scale=mu_lum, size=n_l, random_state=rng)
            total[k] += fast_lognormal(lum, sigma, lum_obs).mean()
    product = prior_row * total / n_s
    return product / np.trapezoid(product, mass_nodes)


def example_prior(num_mass=410):
    """Return mass nodes [Msun] and a Schechter-like density per unit mass; the time does not depend on its values."""
    mass = np.geomspace(1.2566e10, 1.5459e14, num_mass)
    density = mass**-1.9 * np.exp(-((mass / 2e13) ** 0.6))
    return mass, density / np.trapezoid(density, mass)


def time_per_halo(function=posterior_of_one_halo, num_halos=3, seed=1):
    """Return the seconds per halo, as median and fastest of `num_halos` halos."""
    mass, density = example_prior()
    rng = np.random.default_rng(seed)
    seconds = []
    for lum_obs in np.exp(rng.normal(8.4, 0.4, num_halos)):
        start = time.perf_counter()
        function(lum_obs, 1.4, 0.05, mass, density, rng)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), min(seconds)


def main():
    parser = argparse.ArgumentParser(description="Time the 2017 notebook's loop.")
    parser.add_argument("--num-halos", type=int, default=3)
    num_halos = parser.parse_args().num_halos
    for label, function in (("notebook", posterior_of_one_halo), ("arrays", posterior_of_one_halo_arrays)):
        median, fastest = time_per_halo(function, num_halos)
        print(f"{label:9s} 410 masses x 10 draws x 100 luminosities: {median:.2f} s a halo (fastest {fastest:.2f})")


if __name__ == "__main__":
    main()
