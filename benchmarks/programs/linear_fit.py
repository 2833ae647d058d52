"""Fits of the relation to linear noise: where they end, with and without the limit, and what ln L costs and is off by.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/linear_fit.py [--surveys 3] [--objects 100000] [--nuts]

Mock surveys above a signal to noise of 5, of a mass function that ends at 2e13 Msun (those of
tests/relation/test_linear.py). Distances from the truth are in errors of the fit. The time is that of ln L, and of its
gradient in four parameters, over so many objects: by the lattice that stands for them, and of each object by itself,
both prepared for scatters from 5 % below the truth on, as a fit of so many objects does. The error of the lattice is
that of the gradient, as a distance in errors of a fit to so many objects, and that of the objects themselves is ln (Z /
A) of ten of them against dense sums in NumPy.
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

NAMES = ("alpha1", "alpha2", "alpha4", "scatter")
# 1 / variance of the beliefs; the data alone hardly bound one direction.
BELIEVED = (1.0, 4.0, 1.0, 100.0)
# The least scatter that likelihoods are made for: a fit to so many objects knows it to 1 %, and goes 6 errors below.
LEAST = 0.95 * LAW["scatter"]


def distances(fit):
    """How far each parameter is from the truth, in its errors."""
    return "  ".join(f"{name} {(fit.mean[name] - LAW[name]) / fit.sd[name]:+.1f}" for name in fit.free)


def milliseconds(function, *arguments, rounds):
    """The shortest of some calls of compiled code."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def ln_likelihood(x, likelihood):
    """ln L in the four parameters."""
    return likelihood(MassLuminosityRelation.create(**dict(zip(NAMES, x, strict=True)), alpha3=LAW["alpha3"]))


def by_sampling(objects, prior, limit):
    """Time importance sampling and NUTS of one survey, and compare their means and errors."""
    for method in ("importance", "nuts"):
        begin = time.perf_counter()
        fit = fit_relation(
            objects, prior, BELIEFS, selection=limit, method=method, num_draws=800, num_chains=2, num_warmup=100
        )
        told = "  ".join(f"{name} {fit.mean[name]:.2f} +- {fit.sd[name]:.2f}" for name in fit.free)
        print(f"{len(objects)} objects, {method}: {told}; {time.perf_counter() - begin:.0f} s", flush=True)
        print("  ", {name: value for name, value in fit.diagnostics.items() if name != "newton_steps"}, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--nuts", action="store_true", help="a fit of the first survey by importance and by NUTS alone")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    prior, limit = MassPrior.from_table(*table(), per="ln_mass", support="sharp"), SignalToNoiseLimit(5.0)
    if given.nuts:
        by_sampling(survey(100, 30_000), prior, limit)
        return
    for seed in range(given.surveys):
        objects = survey(100 + seed, 30_000)
        for words, selection in (("with the limit", limit), ("without", None)):
            begin = time.perf_counter()
            fit = fit_relation(objects, prior, BELIEFS, selection=selection)
            seconds = time.perf_counter() - begin
            print(
                f"{len(objects)} objects, {words}: {distances(fit)} errors from the truth; {seconds:.0f} s", flush=True
            )
    # Each object of its own: the survey's are 8 % of the halos.
    objects = survey(0, 14 * given.objects)
    objects = objects.subset(np.arange(min(given.objects, len(objects))))
    with jax.enable_x64(True):
        data = LinearData(objects, prior, limit)
        begin = time.perf_counter()
        lattice = data.likelihood(LEAST, LAW["alpha2"])
        seconds = time.perf_counter() - begin
        each = data.likelihood(LEAST)
        x = jnp.array([LAW[name] for name in NAMES])
        value, both = jax.jit(ln_likelihood), jax.jit(jax.value_and_grad(ln_likelihood))
        print(f"{len(objects):,} objects; the lattice was made in {seconds:.1f} s")
        for words, likelihood, rounds in (("by the lattice", lattice, 30), ("of each object", each, 3)):
            times = [milliseconds(f, x, likelihood, rounds=rounds) for f in (value, both)]
            print(f"ln L {words}: {times[0]:.1f} ms, with its gradient {times[1]:.1f} ms", flush=True)
        gradient = jax.jit(jax.grad(ln_likelihood))
        off = np.asarray(both(x, lattice)[1] - both(x, each)[1])
        step = 0.02 * jnp.eye(4)
        curvature = np.stack([np.asarray(gradient(x + s, lattice) - gradient(x - s, lattice)) / 0.04 for s in step])
        covariance = np.linalg.inv(np.diag(BELIEVED) - 0.5 * (curvature + curvature.T))
        moved = np.abs(covariance @ off) / np.sqrt(np.diag(covariance))
        print(f"the lattice moves the maximum by {moved.max():.1e} of its error")
        reference, relation, worst = PriorReference(*table(), per="ln_mass"), MassLuminosityRelation.create(**LAW), 0.0
        for row in range(10):
            one = objects.subset([row])
            lum, z = float(np.exp(one.ln_lum_obs[0])), float(one.redshift[0])
            error = lum * float(one.sigma_ln_lum[0])
            of_object = reference, lum, error, z, relation
            exact = ln_z(*of_object, "normal") - ln_chance(reference, 5 * error, *of_object[2:])
            found = float(LinearData(one, prior, limit).likelihood(0.5 * LAW["scatter"])(relation))
            worst = max(worst, abs(found - exact))
        print(f"largest error of ln (Z / A) of ten of the objects: {worst:.1e}")


if __name__ == "__main__":
    main()
