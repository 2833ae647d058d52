"""What stacked shear profiles tell of a relation, beside those of single objects, and whether fits end at the truth.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/stacks.py [--fields 6]

Mock surveys of clusters above a limit in luminosity, of a mass function without a scale, so that luminosities alone
hardly tell the normalisation. Relations are drawn from the beliefs. The shears are those of tests/statistical: drawn in
NumPy, with scatter of lensing mass and concentration. Each survey is fitted without shears, with the mean shears of
four stacks by luminosity, and with as many single profiles as give the same total signal to noise: those of all
objects, with errors as much larger. Printed are the mean errors of the fits and the distances from the truth, which
are chi-square distributed with three degrees of freedom for each survey.
"""

import argparse
import time

import jax
import numpy as np
import numpyro.distributions as dist
from reference import shear_reference as slow
from reference.prior_reference import PriorReference
from scipy.stats import chi2

import massmap_jax as mm
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.extra import BiasedPrior
from massmap_jax.relation.fit import find_maximum
from massmap_jax.relation.stack_evidence import evidence_of

BELIEFS = {"alpha1": (3.0, 0.5), "alpha2": (1.0, 0.2), "scatter": (0.35, 0.06)}
HALOS, LIMIT, STACKS, SOURCE, PIVOT = 4_000, 2.0, 4, 1.0, 3e14
RADIUS, SCATTERS = np.geomspace(0.3, 3.0, 5), {"scatter": 0.2, "concentration_scatter": 0.345}
ERROR = np.array([75.0, 54.0, 36.0, 24.0, 18.0]) * 1e-5  # of each stack
MASS, REDSHIFTS = np.geomspace(3e13, 6e15, 120), np.array([0.15, 0.35, 0.55])
TABLE = (REDSHIFTS, MASS, np.ones((3, 1)) * MASS**-1.6)


def survey(seed):
    """The true relation, the catalogue, the stack of each object, and the shear of each without noise."""
    rng = np.random.default_rng([11, seed])
    truth = {name: rng.normal(*belief) for name, belief in BELIEFS.items()}
    z = np.repeat(np.linspace(0.2, 0.5, 10), HALOS // 10)
    ln_mass = np.asarray(PriorReference(*TABLE, per="ln_mass").sample(rng, z))
    mean = truth["alpha1"] + truth["alpha2"] * (ln_mass - np.log(PIVOT))
    ln_lum = mean + rng.normal(0.0, np.hypot(truth["scatter"], 0.1), z.size)
    seen = ln_lum > LIMIT
    ln_mass, ln_lum, z = ln_mass[seen], ln_lum[seen], z[seen]
    members = np.empty(z.size, dtype=int)
    members[np.argsort(-ln_lum)] = np.arange(z.size) * STACKS // z.size
    own = slow.drawn_shears(rng, RADIUS, ln_mass, z, SOURCE, *SCATTERS.values())
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=0.1)
    return truth, catalogue, members, own, rng


def distance(kind, seed, prior):
    """Squared distance of the truth from the maximum, and the errors of the fit."""
    truth, catalogue, members, own, rng = survey(seed)
    beliefs = mm.RelationPrior(
        {"alpha4": 0.0} | {name: dist.Normal(*belief) for name, belief in BELIEFS.items()}, alpha3=PIVOT
    )
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, prior, mm.FluxLimit(float(np.exp(LIMIT))))
        counts = np.bincount(members)
        noise = rng.normal(size=own.shape) * ERROR * np.sqrt(counts)[members, None]
        if kind == "stacks":
            shear = np.stack([(own + noise)[members == stack].mean(axis=0) for stack in range(STACKS)])
            stacks = mm.StackedShear.from_arrays(members, RADIUS, shear, error=ERROR, source_redshift=SOURCE)
            data.extra = evidence_of(catalogue, data.rows, prior, stacks.signals(catalogue, prior, **SCATTERS))
        if kind == "profiles":
            errors = ERROR * np.sqrt(counts)[members, None]
            profiles = mm.ShearProfiles.from_arrays(RADIUS, own + noise, error=errors, source_redshift=SOURCE)
            data.extra = evidence_of(catalogue, data.rows, prior, profiles.likelihoods(catalogue, prior, **SCATTERS))
        coordinates, _, best = find_maximum(data, BiasedPrior.of(beliefs, 0.0))
        away = np.asarray(coordinates.place(truth)) - np.asarray(best.x)
        hessian = np.asarray(best.hessian)
    return away @ hessian @ away, np.sqrt(np.diag(np.linalg.inv(hessian))), len(catalogue)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=6)
    given = parser.parse_args()
    prior = mm.MassPrior.from_table(*TABLE, per="ln_mass", support="sharp", mass_definition="200m")
    for kind in ("no shear", "stacks", "profiles"):
        begin = time.perf_counter()
        found = [distance(kind, seed, prior) for seed in range(given.fields)]
        squares, errors = sum(one[0] for one in found), np.mean([one[1] for one in found], axis=0)
        objects = sorted(one[2] for one in found)
        told = "  ".join(f"{name} {e:.3f}" for name, e in zip(("alpha1", "alpha2", "ln scatter"), errors, strict=True))
        print(
            f"{kind}: {objects[0]} to {objects[-1]} objects, mean errors {told}; squared distances from the truth"
            f" {squares:.1f} of {3 * given.fields} degrees, p = {chi2.sf(squares, 3 * given.fields):.2g};"
            f" {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
