"""Pulls of fits of relation and cosmology with measured masses, and of fits that hold the cosmology.

    python benchmarks/programs/calibrated_cosmology.py [--catalogues N] [--clusters N] [--measured N] [--known]

Relation, calibration, sigma8 and omega_m of each catalogue are drawn from the beliefs; masses are of the 500c mass
function of Tinker et al. 2008 at that cosmology, at eight redshifts; clusters are above a limit in luminosity. Some,
chosen at random, have a measured mass with an error of 0.2, a scatter of 0.15 and the bias. A pull is the mean of the
draws minus the truth, in standard deviations of the draws; those of a right fit have mean 0 and standard deviation 1.
`--known` holds the cosmology at the middle of the beliefs instead, as a fit under one cosmology does.
"""

import argparse
import time
import warnings

import jax
import numpy as np
import numpyro.distributions as dist

import massmap_jax as mm
from massmap_jax.prior.cosmology_draws import cosmology_with

PIVOT, LN_LIMIT, Z = 3e14, 0.2, np.linspace(0.1, 0.8, 8)
FIXED = {"h": 0.7, "n_s": 0.96, "omega_b": 0.048}
CENTRE, WIDTH = {"omega_m": 0.3, "sigma8": 0.8}, {"omega_m": 0.1, "sigma8": 0.125}
RELATION = {"alpha1": (0.5, 0.5), "alpha2": (1.6, 0.15), "alpha4": (1.0, 0.3)}
LN_SCATTER, BIAS, MASS_SCATTER, MASS_ERROR, NOISE = (np.log(0.35), 0.2), (0.0, 0.05), 0.15, 0.2, 0.1
SHOWN = ("alpha1", "alpha2", "alpha4", "scatter", "bias", "omega_m", "sigma8")


def catalogue(prior, seed, clusters, measured):
    """The truth and a catalogue with its measured masses."""
    rng = np.random.default_rng(seed)
    truth = {p: rng.normal(*belief) for p, belief in RELATION.items()}
    truth |= {"scatter": np.exp(rng.normal(*LN_SCATTER)), "bias": rng.normal(*BIAS)}
    truth |= {p: centre * np.exp(WIDTH[p] * rng.normal()) for p, centre in CENTRE.items()}
    own = prior.at_cosmology(cosmology_with(FIXED | {p: truth[p] for p in CENTRE}))
    found, number, i = [], 0, 0
    while number < clusters:
        z = rng.choice(Z, 40_000)
        ln_mass = np.asarray(own.sample(jax.random.key(1000 * seed + i), z))
        mean = truth["alpha1"] + truth["alpha2"] * (ln_mass - np.log(PIVOT)) + truth["alpha4"] * np.log1p(z)
        ln_lum = mean + np.hypot(truth["scatter"], NOISE) * rng.standard_normal(z.size)
        seen = ln_lum > LN_LIMIT
        found.append(np.stack([ln_lum, z, ln_mass])[:, seen])
        number, i = number + int(seen.sum()), i + 1
    ln_lum, z, ln_mass = np.concatenate(found, axis=1)[:, :clusters]
    ln_obs = ln_mass + truth["bias"] + np.hypot(MASS_SCATTER, MASS_ERROR) * rng.standard_normal(clusters)
    ln_obs[rng.permutation(clusters)[measured:]] = np.nan
    objects = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=NOISE)
    return truth, objects, np.exp(ln_obs)


def main():
    """Print mean and standard deviation of the pulls, and how much the data inform."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--catalogues", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="seed of the first catalogue")
    parser.add_argument("--clusters", type=int, default=400)
    parser.add_argument("--measured", type=int, default=100)
    parser.add_argument("--known", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    prior = mm.MassPrior.from_cosmology(
        cosmology_with(FIXED | CENTRE), fit="Tinker08", mass_definition="500c", redshift=Z,
        log10_mass_range=(13.0, 16.0), dlog10_mass=0.02,
    )  # fmt: skip
    scores = np.random.default_rng(0).standard_normal((2, 400))
    scores -= scores.mean(axis=1, keepdims=True)
    scores = np.linalg.solve(np.linalg.cholesky(np.cov(scores, bias=True)), scores)
    ln = {p: np.log(CENTRE[p]) + WIDTH[p] * scores[i] for i, p in enumerate(CENTRE)}
    cosmology = None if asked.known else mm.CosmologyDraws.from_arrays(**FIXED, **{p: np.exp(v) for p, v in ln.items()})
    beliefs = {p: dist.Normal(*belief) for p, belief in RELATION.items()} | {"scatter": dist.LogNormal(*LN_SCATTER)}
    pulls, informed, times = [], [], []
    for seed in range(asked.first, asked.first + asked.catalogues):
        truth, objects, mass = catalogue(prior, seed, asked.clusters, asked.measured)
        masses = mm.CalibrationMasses.from_arrays(
            mass=mass, sigma_ln_mass=MASS_ERROR, bias=dist.Normal(*BIAS), scatter=MASS_SCATTER, chosen_by="luminosity"
        )
        begin = time.perf_counter()
        fit = mm.fit_relation(
            objects, prior, beliefs | {"alpha3": PIVOT}, calibration=masses, population="fixed", cosmology=cosmology,
            selection=mm.FluxLimit(np.exp(LN_LIMIT)), num_draws=400,
        )  # fmt: skip
        times.append(time.perf_counter() - begin)
        mean, sd, names = fit.mean, fit.sd, [p for p in SHOWN if p in fit.free]
        pulls.append([(mean[p] - truth[p]) / sd[p] for p in names])
        print(f"{seed:3}", *(f"{pull:+6.2f}" for pull in pulls[-1]), f"{times[-1]:6.1f} s", flush=True)
        informed.append([fit.informed[p] for p in names])
    pulls, error = np.array(pulls), 1 / np.sqrt(asked.catalogues)
    held = "held" if asked.known else "free"
    print(f"{asked.catalogues} catalogues of {asked.clusters} clusters, {asked.measured} measured, cosmology {held}:")
    print(f"{np.median(times):.1f} s a fit, the first {times[0]:.0f} s")
    print(f"errors of the mean {error:.2f}, of the standard deviation {error / np.sqrt(2):.2f}")
    print("| parameter | mean pull | sd of pulls | variance reduced by |")
    print("|---|---|---|---|")
    for p, pull, known in zip(names, pulls.T, np.mean(informed, axis=0), strict=True):
        print(f"| {p} | {pull.mean():+.2f} | {pull.std():.2f} | {known:.0%} |")


if __name__ == "__main__":
    main()
