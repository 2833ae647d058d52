"""Time and error of masses with linear noise, beside lognormal noise of the same size, in one run.

    PYTHONPATH=benchmarks python benchmarks/programs/linear_noise.py [--objects 20000] [--draws 100]

Signal to noise 4 to 15, a power law of slope 1.3 with scatter 0.3. Errors are of the same call, of 10 objects against a
dense sum in NumPy.
"""

import argparse
import time

import numpy as np

from massmap_jax import HaloCatalogue, MassLuminosityRelation, MassPrior, mass_posterior


def exact(prior, relation, lum, z, relative):
    """Mean and sd of ln M by 1,501 masses times 241 luminosities, averaged over the draws."""
    ln_mass = np.linspace(prior.ln_mass_nodes[0], prior.ln_mass_nodes[-1], 1501)
    x = np.linspace(-8, 8, 241)
    ln_prior = np.asarray(prior.log_prob(ln_mass, z), dtype=float)
    density = np.zeros(ln_mass.size)
    for j in range(relation.num_draws):
        names = ("alpha1", "alpha2", "alpha4", "scatter")
        alpha1, alpha2, alpha4, scatter = (np.asarray(getattr(relation, name))[j] for name in names)
        mean = alpha1 + alpha2 * (ln_mass - np.log(1e14)) + alpha4 * np.log1p(z)
        ratio = np.exp(mean[:, None] + scatter * x) / lum
        own = np.exp(ln_prior - ln_prior.max()) * (np.exp(-0.5 * ((1 - ratio) / relative) ** 2) @ np.exp(-0.5 * x**2))
        own[[0, -1]] *= 0.5  # the trapezoidal rule: posteriors may end at the prior's lowest mass
        density += own / own.sum()
    density /= density.sum()
    mean = density @ ln_mass
    return mean, np.sqrt(density @ (ln_mass - mean) ** 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    rng, prior = np.random.default_rng(0), MassPrior.default()
    lum, z = np.exp(rng.normal(0, 1, given.objects)), rng.uniform(0.2, 1, given.objects)
    relative = 1 / rng.uniform(4, 15, given.objects)
    normal = rng.normal(size=(4, given.draws))
    relation = MassLuminosityRelation.from_draws(
        alpha1=0.05 * normal[0],
        alpha2=1.3 + 0.01 * normal[1],
        alpha3=1e14,
        alpha4=0.1 * normal[2],
        scatter=0.3 * np.exp(0.1 * normal[3]),
    )
    rows, found = rng.choice(given.objects, 10, replace=False), {}
    for kind in ("lognormal", "normal"):
        catalogue = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=relative, noise_kind=kind)
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            posterior = mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")
            times.append(time.perf_counter() - begin)
        found[kind] = min(times) / given.objects * 1e6
        print(f"{kind}: {found[kind]:.1f} us per object, {found[kind] / given.draws:.2f} us per object and draw")
    best = np.array([exact(prior, relation, lum[i], z[i], relative[i]) for i in rows])
    mean, sd = posterior.mean[rows], posterior.sd[rows]
    print(
        f"linear noise takes {found['normal'] / found['lognormal']:.1f} times as long; largest error of 10 objects: "
        f"mean {np.abs((mean - best[:, 0]) / best[:, 1]).max():.1e} sd, sd {np.abs(sd / best[:, 1] - 1).max():.1e}"
    )


if __name__ == "__main__":
    main()
