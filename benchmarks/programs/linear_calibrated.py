"""Whether fits with measured masses end at the truth where luminosities have linear noise of a low signal to noise.

    PYTHONPATH=benchmarks python benchmarks/programs/linear_calibrated.py [--surveys 24] [--objects 300]

Simulated surveys detect by their noise: objects of 4 sigma and more are in the catalogue, half of them below 6. A third
has a measured mass. Relations are drawn from the beliefs. Each survey is fitted with its limit in signal to noise, and,
as twins, without the limit and with the bars read as errors of ln L. Then with a richness beside the luminosity, whose
scatters are correlated by 0.8, and, as a twin, with scatters that are taken as independent. Printed are the mean
distance of slope, normalisation and scatter from the truth in errors of the fit, the p value of all distances together
(chi-square, three degrees of freedom for each survey), and the median time of a fit and that of the first, which
compiles.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.stats import chi2

import massmap_jax as mm

PRIOR, PIVOT, LIMIT = mm.MassPrior.default(), 3e14, 4.0
BELIEFS = {"alpha1": (1.0, 0.3), "alpha2": (0.9, 0.1), "scatter": (0.3, 0.05)}
TEXT = ",".join(f"{name}={middle}:{sd}" for name, (middle, sd) in BELIEFS.items()) + f",alpha4=0,alpha3={PIVOT}"
NAMES = tuple(BELIEFS)
RICHNESS = mm.RelationPrior.parse(f"alpha1=3.4:0.3,alpha2=1:0.2,alpha4=0,scatter=0.3:0.1,alpha3={PIVOT}")
CORRELATION = 0.8
KINDS = (
    "as it is",
    "without the limit",
    "bars read as errors of ln L, without the limit",
    "with a richness",
    "with a richness, independent scatters",
)


def survey(seed, number):
    """True relation; luminosity, error, redshift, measured mass and richness of the objects that are detected."""
    rng = np.random.default_rng([5, seed])
    truth = {name: rng.normal(*belief) for name, belief in BELIEFS.items()}
    size = 12 * number
    z, ln_mass = rng.uniform(0.1, 0.4, size), rng.normal(33.0, 0.5, size)
    mean = truth["alpha1"] + truth["alpha2"] * (ln_mass - np.log(PIVOT))
    error = np.exp(rng.normal(np.log(0.4), 0.3, size))
    of_lum = rng.normal(size=size)
    observed = np.exp(mean + truth["scatter"] * of_lum) + error * rng.normal(size=size)
    mass = np.where(np.arange(size) % 3 == 0, np.exp(ln_mass + 0.2 * rng.normal(size=size)), np.nan)
    kept = np.flatnonzero(observed > LIMIT * error)[:number]
    scatter = CORRELATION * of_lum + np.sqrt(1 - CORRELATION**2) * rng.normal(size=size)
    richness = np.exp(3.4 + ln_mass - np.log(PIVOT) + 0.3 * scatter + 0.1 * rng.normal(size=size))
    return truth, observed[kept], error[kept], z[kept], mass[kept], richness[kept]


def distances(kind, seed, number):
    """Distances of the truth from the posterior mean in errors, the squared distance, and the time of the fit."""
    truth, observed, error, z, mass, richness = survey(seed, number)
    noise = {"sigma_luminosity": error, "noise_kind": "normal"}
    if kind == "bars read as errors of ln L, without the limit":
        noise = {"sigma_ln_luminosity": error / observed}
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=observed, redshift=z, **noise)
    several = {}
    if kind.startswith("with a richness"):
        catalogue = catalogue.with_observables(mm.Observables.from_arrays({"richness": richness}, {"richness": 0.1}))
        several = {"observables": {"richness": RICHNESS}}
        if kind != "with a richness":
            several["scatter_correlation"] = {"correlation_richness": 0.0}
    masses = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=0.2, chosen_by="luminosity")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mm.fit_relation(
            catalogue,
            PRIOR,
            TEXT,
            calibration=masses,
            population=mm.Population.gaussian(drift=False),
            selection=None if kind.endswith("without the limit") else mm.SignalToNoiseLimit(LIMIT),
            **several,
        )
    took = time.perf_counter() - start
    draws = np.stack([np.asarray(fit.draws.parameter(name)) for name in NAMES])
    off = np.array([truth[name] for name in NAMES]) - draws.mean(axis=1)
    return off / draws.std(axis=1), off @ np.linalg.solve(np.cov(draws), off), took


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=24)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the kind of fit to begin with")
    given = parser.parse_args()
    surveys = given.surveys
    for kind in KINDS[given.first :]:
        found = [distances(kind, seed, given.objects) for seed in range(surveys)]
        pulls, squares = np.array([f[0] for f in found]), np.array([f[1] for f in found])
        mean = ", ".join(f"{n} {m:+.2f}" for n, m in zip(NAMES, pulls.mean(axis=0), strict=True))
        p_value = chi2.sf(squares.sum(), pulls.size)
        first, middle = found[0][2], np.median([f[2] for f in found[1:]])
        times = f"{middle:.1f} s a fit, the first {first:.1f} s"
        print(f"{kind}: mean distance in errors: {mean} (+- {surveys**-0.5:.2f}); p = {p_value:.2g}; {times}")


if __name__ == "__main__":
    main()
