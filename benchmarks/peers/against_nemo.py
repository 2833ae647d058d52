"""nemo-sz, the nearest public peer, on exactly our model: its `signals.calcPMass`, one cluster after the other.

    pip install 'massmap_jax[peers]'
    PYTHONPATH=benchmarks:tests python benchmarks/peers/against_nemo.py [--halos 1000]

The relation is fixed. With Ez_gamma = 0, no relativistic correction, Q = 1, tenToA0 = exp(alpha1), B0 = alpha2 - 1,
Mpivot = alpha3, onePlusRedshift_power = alpha4, and the prior of the benchmark's field at each redshift, both codes
compute the same posterior. nemo's own prior is the cumulative N(>M) of its mock survey; it is run with both. Errors are
against the exact posterior, and times are from the same run. Writes results/peers.json.
"""

import argparse
import json
import time
import warnings
from importlib import metadata

import accuracy
import jax
import numpy as np
from inputs import SURVEY, make_field, reference_draws
from nemo import signals
from provenance import RESULTS, provenance
from scipy.interpolate import splrep
from scipy.stats import kstest

from massmap_jax import MassLuminosityRelation, mass_posterior


class Survey:
    """The part of a mock survey that `calcPMass` uses: a mass grid, and the prior at a redshift."""

    delta, rhoType = 500, "critical"

    def __init__(self, prior, masses, cumulative):
        self.prior, self.cumulative = prior, cumulative
        ln_mass = np.linspace(prior.ln_mass[0], prior.ln_mass[-1], masses)
        self.ln_mass, self.log10M = ln_mass, ln_mass / np.log(10)
        self.z = np.array([0.0])
        one = splrep(self.log10M[[0, -1]], [1.0, 1.0], k=1)
        self.theta500Splines, self.fRelSplines, self.Ez = [one], [one], np.ones(1)

    def getPLog10M(self, z):
        density = np.exp(np.interp(self.ln_mass, self.prior.ln_mass, self.prior.row(z)))
        return np.cumsum(density[::-1])[::-1] if self.cumulative else density


class Unity:
    @staticmethod
    def getQ(theta, z, tileName=None):
        return np.ones_like(theta)


def summaries(ln_mass, density):
    weight = density / density.sum(axis=1, keepdims=True)
    mean = weight @ ln_mass
    return mean, np.sqrt(weight @ ln_mass**2 - mean**2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=1000)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    field = make_field(SURVEY)
    relation = MassLuminosityRelation.preset("bigmali2017")
    alpha1, alpha2, alpha3, alpha4, scatter = (
        float(getattr(relation, p)) for p in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")
    )
    part = field.take(np.arange(given.halos))
    exact = accuracy.exact_posteriors(field.prior_reference, part.objects, reference_draws(relation))
    lum = np.exp(part.objects.ln_lum_obs)

    rows = {}
    for name, masses, cumulative in (
        ("nemo-sz, dn/dlnM prior, 410 masses", 410, False),
        ("nemo-sz, dn/dlnM prior, 4,100 masses", 4100, False),
        ("nemo-sz, its N(>M) prior, 410 masses", 410, True),
    ):
        survey = Survey(field.prior_reference, masses, cumulative)
        begin = time.perf_counter()
        found = [
            signals.calcPMass(
                y0,
                y0 * sigma,
                z,
                0.0,
                Unity,
                survey,
                tenToA0=np.exp(alpha1),
                B0=alpha2 - 1,
                Mpivot=alpha3,
                sigma_int=scatter,
                Ez_gamma=0,
                onePlusRedshift_power=alpha4,
                applyRelativisticCorrection=False,
            )
            for y0, sigma, z in zip(lum, part.objects.sigma, part.objects.redshift, strict=True)
        ]
        seconds = time.perf_counter() - begin
        mean, sd = summaries(survey.ln_mass, np.array(found))
        rows[name] = _row(seconds / given.halos, mean, sd, exact)
    settings = {"relation_from": "fixed_draws"}
    mass_posterior(field.catalogue, field.prior, relation, **settings)
    begin = time.perf_counter()
    ours = mass_posterior(field.catalogue, field.prior, relation, **settings)
    seconds = time.perf_counter() - begin
    rows["massmap_jax, analytic"] = _row(seconds / SURVEY, ours.mean[: given.halos], ours.sd[: given.halos], exact)
    least = rows["massmap_jax, analytic"]["us_per_halo"]
    for row in rows.values():
        row["times as long"] = row["us_per_halo"] / least
    # The effect of each prior on calibration: PIT of the true masses of objects simulated from dn/dlnM.
    rows["calibration, 20,000 simulated objects"] = _calibration(field, relation)
    print(json.dumps(rows, indent=2))
    versions = {"nemo-sz": metadata.version("nemo-sz"), "jax": jax.__version__}
    (RESULTS / "peers.json").write_text(
        json.dumps({**provenance(), "peers": versions, "halos": given.halos, "rows": rows}, indent=2) + "\n"
    )


def _row(seconds, mean, sd, exact):
    off = (mean - exact.mean) / exact.sd
    return {
        "us_per_halo": 1e6 * seconds,
        "mean off, median of sizes [sd]": float(np.median(np.abs(off))),
        "mean off, mean [sd]": float(off.mean()),
        "mean off, largest [sd]": float(np.abs(off).max()),
        "mean off, mean [ln M]": float((mean - exact.mean).mean()),
        "sd ratio - 1, largest size": float(np.abs(sd / exact.sd - 1).max()),
    }


def _calibration(field, relation, number=20_000):
    """Return mean PIT and KS p-value of the true masses with dn/dlnM and N(>M) as prior, on a grid of 4,100 masses."""
    rng = np.random.default_rng(0)
    reference = field.prior_reference
    ln_mass = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 4100)
    z = rng.choice(field.objects.redshift, 200)
    pits = {"dn/dlnM": [], "N(>M)": []}
    width = np.hypot(float(relation.scatter), 0.05) / float(relation.alpha2)
    for one in z:
        density = np.exp(np.interp(ln_mass, reference.ln_mass, reference.row(one)))
        cumulative = np.cumsum(density)
        truth = np.interp(rng.uniform(size=number // 200), cumulative / cumulative[-1], ln_mass)
        x = truth + width * rng.normal(size=truth.size)
        for name, prior in (("dn/dlnM", density), ("N(>M)", np.cumsum(density[::-1])[::-1])):
            posterior = prior * np.exp(-0.5 * ((ln_mass - x[:, None]) / width) ** 2)
            cdf = np.cumsum(posterior, axis=1)
            at = np.searchsorted(ln_mass, truth)
            pits[name].extend(cdf[np.arange(truth.size), at] / cdf[:, -1])
    return {
        name: {"KS p": float(kstest(p, "uniform").pvalue), "mean PIT": float(np.mean(p))} for name, p in pits.items()
    }


if __name__ == "__main__":
    main()
