"""Masses with linear noise and uncertain redshifts: errors, time beside lognormal noise, calibration, and fits.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/linear_photo_z.py [--checked N] [--objects N] [--truth N]
        [--fits N]

Clusters with fluxes of any signal to noise and redshifts with errors of 4 % of 1 + z, as simulated in
tests/posterior/test_linear_redshifts.py. Four parts, each of which is left out with 0:

--checked  errors of so many masses for each of three relations and three errors of the redshift, with a signal to noise
           from -1 to 30, and of as many limits, against dense sums in NumPy;
--objects  time of masses under 10 draws of the relation, beside that with lognormal noise of the same size;
--truth    coverage of so many true masses, and where the noise is taken as lognormal or the redshifts as exact;
--fits     fits to so many surveys of 300 objects above 5 sigma, with that limit.
"""

import argparse
import time
import warnings
from dataclasses import replace

import jax
import numpy as np
from posterior.test_linear_redshifts import CLUSTERS, LEVELS, catalogue_of, survey
from posterior.test_uncertain_redshifts import Z_NODES, ln_distance2, prior_of, relation_of
from reference.uncertain_linear_reference import summary
from relation.test_uncertain_linear import BELIEFS, reference_of
from scipy.stats import kstest

import massmap_jax as mm

ERROR = 0.04
RELATIONS = {
    "clusters": {"slope": 1.7, "scatter": 0.3, "pivot": 3e14, "lowest": 12.5},
    "sharp": {"slope": 1.7, "scatter": 0.08, "pivot": 3e14, "lowest": 12.5},
    "galaxies": {"slope": 0.36, "scatter": 0.155, "pivot": 1e14, "lowest": 11.0},
}


def checked(number):
    rng = np.random.default_rng(2)
    for (name, kind), noise in ((item, noise) for item in RELATIONS.items() for noise in ("normal", "upper_limit")):
        prior, relation, errors = prior_of(kind), relation_of(kind), []
        field = reference_of(prior, relation)
        for error in (0.005, 0.03, 0.1):
            snr = np.concatenate([[-1.0], np.exp(rng.uniform(np.log(0.3), np.log(30.0), number - 1))])
            z_phot = rng.uniform(0.25, 0.7, number)
            flux = np.exp(kind["slope"] * np.log(2e14 / kind["pivot"]) - ln_distance2(z_phot))
            noise_of = flux / np.maximum(np.abs(snr), 1.0)
            catalogue = catalogue_of(np.abs(snr) * noise_of if noise != "normal" else snr * noise_of, noise_of, z_phot,
                                     error, kind=noise)  # fmt: skip
            found = mm.mass_posterior(catalogue, prior, relation, quantile_levels=LEVELS)
            for i in range(number):
                ends = np.clip(np.log1p(z_phot[i]) + np.array([-7, 7]) * error, *np.log1p(Z_NODES[[0, -1]]))
                u = np.linspace(*ends, 1201)
                at = (abs(snr[i]) if noise != "normal" else snr[i]) * noise_of[i], noise_of[i], u
                of_mass, _ = field.shares(*at, -0.5 * ((u - np.log1p(z_phot[i])) / error) ** 2, noise)
                mean, sd, quantiles = summary(*of_mass, LEVELS)
                off = np.abs(found.quantiles[i] - quantiles)[[0, -1]].max() / sd
                errors.append((abs(found.mean[i] - mean) / sd, abs(found.sd[i] / sd - 1), off))
        worst = np.max(errors, axis=0)
        print(
            f"{name}, {noise}: {len(errors)} objects, largest errors in sd: mean {worst[0]:.1e}, sd {worst[1]:.1e},"
            f" 0.1 and 99.9 % quantiles {worst[2]:.1e}",
            flush=True,
        )


def speed(number):
    prior, rng, draws = prior_of(CLUSTERS), np.random.default_rng(0), 10
    normal = rng.normal(size=(3, draws))
    relation = mm.MassLuminosityRelation(
        alpha1=0.02 * normal[0], alpha2=1.7 * (1 + 0.02 * normal[1]), alpha3=3e14, alpha4=0.0,
        scatter=0.3 * (1 + 0.02 * normal[2]),
    )  # fmt: skip
    for least in (2.0, 6.0):
        _, _, *measured = survey(CLUSTERS, prior, number, 1, ERROR, least)
        seconds = {}
        for lognormal in (True, False):
            catalogue = catalogue_of(*measured, ERROR, lognormal=lognormal)
            for call in ("first", "second"):
                start = time.process_time()
                mm.mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")
                seconds[lognormal, call] = time.process_time() - start
        print(
            f"{number:,} objects above {least:g} sigma, {draws} draws, CPU seconds: lognormal"
            f" {seconds[True, 'second']:.2f} (first call {seconds[True, 'first']:.0f}), linear"
            f" {seconds[False, 'second']:.2f} ({seconds[False, 'first']:.0f}):"
            f" {seconds[False, 'second'] / seconds[True, 'second']:.1f} times",
            flush=True,
        )


def truth(number):
    prior, relation = prior_of(CLUSTERS), relation_of(CLUSTERS)
    _, ln_mass, *measured = survey(CLUSTERS, prior, number, 7, ERROR)
    right = catalogue_of(*measured, ERROR)
    ways = {
        "right": right,
        "lognormal": catalogue_of(*measured, ERROR, lognormal=True),
        "exact redshifts": replace(right, redshift_distributions=None),
    }
    for name, catalogue in ways.items():
        found = mm.mass_posterior(catalogue, prior, relation)
        low, q16, _, q84, high = found.quantiles.T
        inside = [100 * np.mean((ln_mass > a) & (ln_mass < b)) for a, b in ((q16, q84), (low, high))]
        p = kstest(found.cdf(ln_mass), "uniform").pvalue
        print(
            f"{name}: {number:,} objects, ln M off by {np.mean(found.mean - ln_mass):+.3f}, intervals hold"
            f" {inside[0]:.2f} and {inside[1]:.2f} %, PIT uniform p = {p:.1e}",
            flush=True,
        )


def fits(number):
    prior, true, pulls, seconds = prior_of(CLUSTERS), relation_of(CLUSTERS), [], []
    for i in range(number):
        _, _, *measured = survey(CLUSTERS, prior, 300, 100 + i, ERROR, 5.0)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = mm.fit_relation(
                catalogue_of(*measured, ERROR), prior, BELIEFS, selection=mm.SignalToNoiseLimit(5.0), num_draws=100
            )
        seconds.append(time.process_time() - start)
        pulls.append([(fit.mean[p] - float(true.parameter(p))) / fit.sd[p] for p in fit.free])
    mean, sd = np.mean(pulls, axis=0), np.std(pulls, axis=0)
    said = ", ".join(f"{p} {m:+.2f} (sd {s:.2f})" for p, m, s in zip(fit.free, mean, sd, strict=True))
    print(
        f"{number} fits to 300 objects: pulls {said}; CPU seconds {np.median(seconds):.0f}, the first {seconds[0]:.0f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checked", type=int, default=12)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--truth", type=int, default=20_000)
    parser.add_argument("--fits", type=int, default=12)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for part, number in ((checked, given.checked), (speed, given.objects), (truth, given.truth), (fits, given.fits)):
        if number:
            part(number)


if __name__ == "__main__":
    main()
