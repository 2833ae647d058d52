"""Time and error of ln L(relation, cosmology) and its gradient, with the mass function made at every call.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/cosmology_speed.py [--clusters N] [--rounds N]

Clusters at z = 0.05 to 1.5 with masses of the 500c mass function of Tinker et al. 2008, a power-law relation and
lognormal noise of three surveys. The value is compared with a plain sum in NumPy over every cluster, with the mass
function of hmf at 65 redshifts and 1,201 masses; the gradient in four parameters of the relation and five of the
cosmology is compared with four-point differences of the compiled value itself, and with differences of the plain sum,
both in units of 1 / sd of the parameter with all others held: an error of 1 would move the maximum by 1 sd.
"""

import argparse
import os
import time

import jax
import numpy as np
from reference.cosmology_reference import ln_likelihood

from massmap_jax import CosmologyLikelihood, HaloCatalogue, MassLuminosityRelation, MassPrior
from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.halo.mass_function import hmf_table

RELATION = {"alpha1": 0.5, "alpha2": 1.6, "alpha4": 1.0, "scatter": 0.35}
PIVOT, RANGE, FIT = 3e14, (13.0, 16.0), {"fit": "Tinker08", "mass_definition": "500c"}
COSMOLOGY = {"omega_m": 0.3, "sigma8": 0.8, "h": 0.7, "n_s": 0.96, "omega_b": 0.048}
# Where the value is compared: at the cosmology of the clusters, and at two far from it.
PLACES = ({}, {"sigma8": 0.72, "omega_m": 0.34, "alpha1": 0.3}, {"sigma8": 0.9, "h": 0.65, "n_s": 1.0, "scatter": 0.25})
ASKED_MS = 50.0


def cosmology_of(values):
    """The cosmology, without massive neutrinos, as its text has none."""
    return CosmologyParameters(**{name: values[name] for name in COSMOLOGY}, t_cmb=2.725, n_eff=3.04)


def clusters(number, seed=0):
    """ln L, sigma and z of clusters that the relation and the mass function make."""
    rng = np.random.default_rng(seed)
    prior = MassPrior.from_cosmology(
        cosmology_of(COSMOLOGY), redshift=np.linspace(0, 1.6, 65), log10_mass_range=RANGE, **FIT
    )
    z = rng.uniform(0.05, 1.5, number)
    ln_mass = np.asarray(prior.sample(jax.random.key(seed), z))
    sigma = rng.choice([0.05, 0.1, 0.2], number) * np.exp(0.1 * rng.standard_normal(number))
    mean = RELATION["alpha1"] + RELATION["alpha2"] * (ln_mass - np.log(PIVOT)) + RELATION["alpha4"] * np.log1p(z)
    return mean + np.hypot(RELATION["scatter"], sigma) * rng.standard_normal(number), sigma, z


def plain_sum(values, ln_lum, sigma, z):
    """The same ln L in NumPy, cluster by cluster, with the mass function of hmf."""
    text = "H0={:.10g},Om0={:.10g},Ob0={:.10g},sigma8={:.10g},n_s={:.10g}".format(
        100 * values["h"], values["omega_m"], values["omega_b"], values["sigma8"], values["n_s"]
    )
    nodes, mass, density, _ = hmf_table(
        "Tinker08", text, "500c", redshift=np.linspace(0, 1.6, 65), log10_mass_range=RANGE, dlog10_mass=0.0025
    )
    return ln_likelihood(values, PIVOT, ln_lum, sigma, z, nodes, mass, density)


def differences(function, values, step=1e-3):
    """Four-point differences of a function of a dict, in each of its values."""
    found = {}
    for name, value in values.items():
        h = step * max(abs(value), 0.1)
        around = [function({**values, name: value + j * h}) for j in (-2, -1, 1, 2)]
        found[name] = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * h)
    return found


def main():
    """Print one row with the time and the errors, and what they are made of."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clusters", type=int, default=15_000)
    parser.add_argument("--step", type=float, default=0.02, help="of the mass nodes, in log10 M")
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    with jax.enable_x64(True):
        data = clusters(asked.clusters)
        catalogue = HaloCatalogue.from_arrays(luminosity=np.exp(data[0]), sigma_ln_luminosity=data[1], redshift=data[2])
        nodes = {"redshift": [0.0, 1.6], "log10_mass_range": RANGE, "dlog10_mass": asked.step}
        prior = MassPrior.from_cosmology("Planck18", **nodes, **FIT)
        begin = time.perf_counter()
        likelihood = CosmologyLikelihood.build(catalogue, prior, scatter=0.2)
        build = time.perf_counter() - begin

        def value(values):
            relation = MassLuminosityRelation(**{p: values[p] for p in RELATION}, alpha3=PIVOT)
            return likelihood(relation, cosmology_of(values))

        both, alone = jax.jit(jax.value_and_grad(value)), jax.jit(value)
        centre = RELATION | COSMOLOGY
        begin = time.perf_counter()
        gradient = jax.device_get(both(centre)[1])
        compiled = time.perf_counter() - begin
        times = []
        for _ in range(asked.rounds):
            begin = time.perf_counter()
            jax.block_until_ready(both(centre))
            times.append(1e3 * (time.perf_counter() - begin))
        off = [float(alone(centre | place)) - plain_sum(centre | place, *data) for place in PLACES]
        own, plain = differences(lambda v: float(alone(v)), centre), differences(lambda v: plain_sum(v, *data), centre)
        # In units of what the parameter's own error is, 1 / sqrt(second derivative): 1 would move it by 1 sd.
        curvature = np.diag(jax.device_get(_hessian(value, centre)))
        sd = dict(zip(centre, 1 / np.sqrt(np.abs(curvature)), strict=True))
    by_own = max(abs(gradient[p] - own[p]) * sd[p] for p in centre)
    by_plain = max(abs(gradient[p] - plain[p]) * sd[p] for p in centre)
    print(f"{os.cpu_count()} cores, {asked.clusters:,} clusters, {likelihood.weight.size:,} points at"
          f" {likelihood.redshift.size} redshifts; build {build:.2f} s, compile {compiled:.1f} s")  # fmt: skip
    print("| value and gradient, fastest | median | error of ln L at three places | gradient - own differences |"
          " gradient - differences of the plain sum |")  # fmt: skip
    print("|---|---|---|---|---|")
    print(f"| {min(times):.1f} ms | {np.median(times):.1f} ms | {', '.join(f'{v:+.4f}' for v in off)} |"
          f" {by_own:.1e} sd | {by_plain:.1e} sd |")  # fmt: skip
    print(f"asked for: {ASKED_MS:g} ms; {'met' if np.median(times) <= ASKED_MS else 'not met'}")


def _hessian(value, centre):
    names = list(centre)

    def of_vector(x):
        return value(dict(zip(names, x, strict=True)))

    return jax.jit(jax.jacfwd(jax.grad(of_vector)))(np.array(list(centre.values())))


if __name__ == "__main__":
    main()
