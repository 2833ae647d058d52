"""Fits of relation and cosmology together: what they find, and the time they take.

    PYTHONPATH=benchmarks python benchmarks/programs/cosmology_fit.py [--clusters N] [--lensed N] [--method METHOD]

Clusters above a limit in luminosity at z = 0.05 to 1.5, with masses of the 500c mass function of Tinker et al. 2008 at
sigma8 = 0.8, a power-law relation and lognormal noise; slope and scatter are known to 0.1 and 15 %. Each row is a fit
under another belief about the cosmology: it is known; Planck 2018; sigma8 = 0.8 +- 0.1 with all else known; the same
with a mass likelihood of 0.3 in ln M for some of the clusters. `a` is the normalisation at the median mass and redshift
of the clusters, ln L there. The first fit of a kind compiles: its time is in brackets.
"""

import argparse
import os
import time
import warnings

import jax
import numpy as np
import numpyro.distributions as dist

import massmap_jax as mm

RELATION = {"alpha1": 0.5, "alpha2": 1.6, "alpha4": 1.0, "scatter": 0.35}
PIVOT, LN_LIMIT = 3e14, 0.0
FIT = {"fit": "Tinker08", "mass_definition": "500c", "log10_mass_range": (13.0, 16.0)}
COSMOLOGY = {"omega_m": 0.3, "sigma8": 0.8, "h": 0.7, "n_s": 0.96, "omega_b": 0.048}
TEXT = "H0=70,Om0=0.3,Ob0=0.048,sigma8=0.8,n_s=0.96"
BELIEFS = {
    "alpha1": dist.Normal(0.5, 3.0),
    "alpha2": dist.Normal(1.6, 0.1),
    "alpha4": dist.Normal(1.0, 0.5),
    "scatter": dist.LogNormal(np.log(0.35), 0.15),
    "alpha3": PIVOT,
}


def clusters(number, prior, seed=0):
    """ln L, sigma, z and ln M of as many clusters above the limit."""
    rng = np.random.default_rng(seed)
    kept, left, i = [], number, 0
    while left > 0:
        z = rng.uniform(0.05, 1.5, 20 * number)
        ln_mass = np.asarray(prior.sample(jax.random.key(100 * seed + i), z))
        sigma = rng.choice([0.05, 0.1, 0.2], z.size)
        mean = RELATION["alpha1"] + RELATION["alpha2"] * (ln_mass - np.log(PIVOT)) + RELATION["alpha4"] * np.log1p(z)
        ln_lum = mean + np.hypot(RELATION["scatter"], sigma) * rng.standard_normal(z.size)
        seen = ln_lum >= LN_LIMIT
        kept.append(np.stack([ln_lum, sigma, z, ln_mass])[:, seen][:, :left])
        left, i = left - kept[-1].shape[1], i + 1
    return np.concatenate(kept, axis=1)


def mass_likelihoods(ln_mass, lensed, seed=1, error=0.3):
    """Normal mass likelihoods of some clusters, 0 for the others."""
    rng = np.random.default_rng(seed)
    nodes = np.linspace(np.log(1e12), np.log(1e17), 200)
    table = np.zeros((ln_mass.size, nodes.size))
    chosen = rng.choice(ln_mass.size, lensed, replace=False)
    measured = ln_mass[chosen] + rng.normal(0.0, error, lensed)
    table[chosen] = -0.5 * ((nodes - measured[:, None]) / error) ** 2
    return mm.TabulatedTerm(nodes, table)


def main():
    """Print one row for each belief."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clusters", type=int, default=15_000)
    parser.add_argument("--lensed", type=int, default=200)
    parser.add_argument("--method", default="laplace")
    parser.add_argument("--only", type=int, default=None, help="number of the row, from 0")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    fine = mm.MassPrior.from_cosmology(TEXT, redshift=np.linspace(0, 1.6, 65), dlog10_mass=0.01, **FIT)
    prior = mm.MassPrior.from_cosmology(TEXT, redshift=np.linspace(0, 1.6, 33), **FIT)
    ln_lum, sigma, z, ln_mass = clusters(asked.clusters, fine)
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma)
    scores = np.random.default_rng(2).standard_normal(1000)
    scores = (scores - scores.mean()) / scores.std()
    wide = mm.CosmologyDraws.from_arrays(**COSMOLOGY | {"sigma8": 0.8 * np.exp(0.125 * scores)})
    planck = mm.CosmologyDraws.planck18(jax.random.key(0), 1000)
    extra = mass_likelihoods(ln_mass, asked.lensed)
    rows = [
        ("known", {}),
        ("Planck 2018", {"cosmology": planck}),
        ("sigma8 +- 0.1", {"cosmology": wide}),
        (f"known, {asked.lensed} mass likelihoods", {"extra": extra}),
        (f"sigma8 +- 0.1, {asked.lensed} mass likelihoods", {"cosmology": wide, "extra": extra}),
    ]
    x, u = np.median(ln_mass) - np.log(PIVOT), np.median(np.log1p(z))
    truth = RELATION["alpha1"] + RELATION["alpha2"] * x + RELATION["alpha4"] * u
    middle = np.exp(np.median(ln_mass))
    print(f"{os.cpu_count()} cores, {asked.clusters:,} clusters, {asked.method}; median mass {middle:.2g} Msun")
    print("| cosmology | a - truth | slope | scatter | sigma8 | correlation of a and sigma8 | d a / d sigma8 | time |")
    print("|---|---|---|---|---|---|---|---|")
    for name, more in rows if asked.only is None else [rows[asked.only]]:
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            fit = mm.fit_relation(
                catalogue, prior, BELIEFS, selection=mm.FluxLimit(np.exp(LN_LIMIT)), method=asked.method, **more
            )
            times.append(time.perf_counter() - begin)
        draws, w, mean, sd = fit.draws, fit.weights, fit.mean, fit.sd
        a = draws.alpha1 + draws.alpha2 * x + draws.alpha4 * u
        of_a, sd_a = w @ a, np.sqrt(w @ (a - w @ a) ** 2)
        told = ["-"] * 3
        if "cosmology" in more:
            sigma8 = draws.parameter("sigma8")
            both = w @ ((a - of_a) * (sigma8 - mean["sigma8"]))
            told = [f"{mean['sigma8']:.3f} +- {sd['sigma8']:.3f}", f"{both / sd_a / sd['sigma8']:+.2f}"]
            told.append(f"{both / sd['sigma8'] ** 2:+.2f}")
        found = [name, f"{of_a - truth:+.3f} +- {sd_a:.3f}"]
        found += [f"{mean[p]:.3f} +- {sd[p]:.3f}" for p in ("alpha2", "scatter")]
        print(f"| {' | '.join(found + told)} | {times[1]:.1f} s ({times[0]:.0f} s) |", flush=True)
        if asked.method == "nuts":
            found = fit.diagnostics
            print(f"  R-hat {max(found['r_hat'].values()):.3f}, bulk {min(found['ess_bulk'].values()):.0f}")


if __name__ == "__main__":
    main()
