"""Fits of the relation to linear noise: where they end, with and without the limit, and what ln L costs and is off by.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/linear_fit.py [--surveys 3] [--objects 100000]

Mock surveys above a signal to noise of 5, of a mass function that ends at 2e13 Msun (those of
tests/relation/test_linear.py). Distances from the truth are in errors of the fit. The time is that of ln L, and of its
gradient in four parameters, over so many objects; the error is that of ten of them, against dense sums in NumPy.
"""

import argparse
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from reference.prior_reference import PriorReference
from relation.test_linear import BELIEFS, LAW, ln_chance, ln_z, survey, table

from massmap_jax import MassLuminosityRelation, MassPrior, SignalToNoiseLimit, fit_relation
from massmap_jax.relation.linear import LinearData


def distances(fit):
    """How far each parameter is from the truth, in its errors."""
    return "  ".join(f"{name} {(fit.mean[name] - LAW[name]) / fit.sd[name]:+.1f}" for name in fit.free)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    prior, limit = MassPrior.from_table(*table(), per="ln_mass", support="sharp"), SignalToNoiseLimit(5.0)
    for seed in range(given.surveys):
        objects = survey(100 + seed, 30_000)
        for words, selection in (("with the limit", limit), ("without", None)):
            begin = time.perf_counter()
            fit = fit_relation(objects, prior, BELIEFS, selection=selection)
            seconds = time.perf_counter() - begin
            print(f"{len(objects)} objects, {words}: {distances(fit)} errors from the truth; {seconds:.0f} s")
    part = survey(0, 30_000)
    objects = part.subset(np.resize(np.arange(len(part)), given.objects))
    names = ("alpha1", "alpha2", "alpha4", "scatter")
    with jax.enable_x64(True):
        data = LinearData(objects, prior, limit)
        likelihood = data.likelihood(0.5 * LAW["scatter"])

        def value(x, likelihood):
            return likelihood(MassLuminosityRelation.create(**dict(zip(names, x, strict=True)), alpha3=LAW["alpha3"]))

        x = jnp.array([LAW[name] for name in names])
        for words, function in (("ln L", jax.jit(value)), ("and gradient", jax.jit(jax.value_and_grad(value)))):
            jax.block_until_ready(function(x, likelihood))
            times = []
            for _ in range(4):
                begin = time.perf_counter()
                jax.block_until_ready(function(x, likelihood))
                times.append(time.perf_counter() - begin)
            each = min(times) / len(objects) * 1e6
            print(f"{words}: {1e3 * min(times):.0f} ms for {len(objects):,} objects, {each:.1f} microseconds each")
        reference, relation, worst = PriorReference(*table(), per="ln_mass"), MassLuminosityRelation.create(**LAW), 0.0
        for row in range(10):
            one = part.subset([row])
            lum, z = float(np.exp(one.ln_lum_obs[0])), float(one.redshift[0])
            error = lum * float(one.sigma_ln_lum[0])
            of_object = reference, lum, error, z, relation
            exact = ln_z(*of_object, "normal") - ln_chance(reference, 5 * error, *of_object[2:])
            found = float(LinearData(one, prior, limit).likelihood(0.5 * LAW["scatter"])(relation))
            worst = max(worst, abs(found - exact))
        print(f"largest error of ln (Z / A) of ten of them: {worst:.1e}")


if __name__ == "__main__":
    main()
