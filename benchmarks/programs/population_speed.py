"""Time of masses under draws that bring a population along, beside masses under one mass prior.

    PYTHONPATH=. taskset -c 0 python benchmarks/programs/population_speed.py [--objects N] [--draws N]

Clusters with errors of 0.1 in ln L, and draws of a relation with each form of `massmap_jax.Population`. The forms take
turns, and the least of five processor times counts, so that other work on the machine counts little. The error is that
of the same call: mean and sd of some objects beside sums over a fine grid, in NumPy and float64.
"""

import argparse
import time

import jax
import numpy as np
from scipy.special import log_ndtr

import massmap_jax as mm
from massmap_jax.prior.population import Lattice, PopulationDraws
from massmap_jax.relation.calibrated import CalibratedRelation

ALPHA3, PIVOT_Z, CHECKED = 3e14, 0.4, 20
FORMS = {name: mm.Population.parse(name) for name in ("hmf_completeness", "gaussian", "skew_normal", "mixture:2")}


def draws_of(rng, number, prior):
    """Draws of a relation alone, and with each form of the population; and the parameters of the populations."""

    def normal(mean, sd):
        return mean + sd * rng.normal(size=number)

    law = mm.MassLuminosityRelation(
        alpha1=normal(1.0, 0.05), alpha2=normal(0.8, 0.03), alpha4=normal(1.0, 0.1),
        scatter=np.abs(normal(0.3, 0.02)), alpha3=ALPHA3, mass_definition=prior.mass_definition,
    )  # fmt: skip
    values = {
        "centre": normal(32.3, 0.05), "drift_ln_z": normal(0.5, 0.1), "drift_ln_1z": normal(0.0, 0.3),
        "width": np.abs(normal(0.4, 0.03)), "skewness": normal(3.0, 0.5), "offset_2": normal(0.5, 0.1),
        "width_2": np.abs(normal(0.5, 0.03)), "logit_2": normal(0.0, 0.2),
    }  # fmt: skip
    base, relations = Lattice.of(prior), {"one mass prior": law}
    measured = {"bias": 0.0, "mass_scatter": 0.1, "correlation": 0.0}
    for name, form in FORMS.items():
        own = {p: values[p] for p in form.parameters}
        draws = jax.vmap(lambda v, form=form: PopulationDraws.of(form, v, PIVOT_Z, base))(own)
        relations[name] = jax.tree.map(np.asarray, CalibratedRelation.joined(law, measured, draws))
    return relations, values


def ln_population(name, v, j, t, row, z):
    """ln p(ln M | z) of draw j at the masses t, up to a constant."""
    middle = v["centre"][j] + v["drift_ln_z"][j] * np.log(z / PIVOT_Z)
    middle += v["drift_ln_1z"][j] * np.log((1 + z) / (1 + PIVOT_Z))
    d = (t - middle) / v["width"][j]
    if name == "hmf_completeness":
        return row + log_ndtr(d)
    if name == "mixture:2":
        second = (t - middle - v["offset_2"][j]) / v["width_2"][j]
        other = v["logit_2"][j] - 0.5 * second**2 - np.log(v["width_2"][j])
        return np.logaddexp(-0.5 * d**2 - np.log(v["width"][j]), other)
    return row if name == "one mass prior" else -0.5 * d**2 + (log_ndtr(v["skewness"][j] * d) if "skew" in name else 0)


def on_grid(name, law, v, prior, ln_lum, z):
    """Mean and sd of ln M of one object, by sums over a fine grid."""
    t = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    row = np.interp(t, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density_at(z)))
    total = np.zeros_like(t)
    for j in range(law.num_draws):
        mean = law.alpha1[j] + law.alpha2[j] * (t - np.log(ALPHA3)) + law.alpha4[j] * np.log1p(z)
        ln_post = ln_population(name, v, j, t, row, z) - 0.5 * (ln_lum - mean) ** 2 / (law.scatter[j] ** 2 + 0.1**2)
        density = np.exp(ln_post - ln_post.max())
        total += density / density.sum()
    total /= total.sum()
    mean = total @ t
    return mean, np.sqrt(total @ (t - mean) ** 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=100)
    options = parser.parse_args()
    rng, prior = np.random.default_rng(0), mm.MassPrior.default()
    z = rng.uniform(0.1, 1.0, options.objects)
    ln_mass = 32.3 + 0.4 * np.log(z / PIVOT_Z) + 0.5 * rng.normal(size=options.objects)
    ln_lum = 1.0 + 0.8 * (ln_mass - np.log(ALPHA3)) + np.log1p(z) + np.hypot(0.3, 0.1) * rng.normal(size=z.size)
    clusters = mm.HaloCatalogue.from_arrays(ln_luminosity=ln_lum, redshift=z, sigma_ln_luminosity=0.1)
    relations, values = draws_of(rng, options.draws, prior)
    times: dict[str, list] = {name: [] for name in relations}
    for _ in range(6):
        for name, relation in relations.items():
            start = time.process_time()
            found = mm.mass_posterior(clusters, prior, relation, relation_from="fixed_draws")
            times[name].append(time.process_time() - start)
            if len(times[name]) == 6:
                law = relations["one mass prior"]
                exact = np.array([on_grid(name, law, values, prior, ln_lum[i], z[i]) for i in range(CHECKED)])
                off = np.abs(np.stack([found.mean, found.sd], axis=1)[:CHECKED] - exact) / exact[:, 1:]
                # The first call compiles.
                each = 1e6 * min(times[name][1:]) / options.objects
                ratio = min(times[name][1:]) / min(times["one mass prior"][1:])
                print(
                    f"{name:17s} {each:6.1f} microseconds an object with {options.draws} draws, {ratio:4.1f} times one"
                    f" mass prior; off by at most {off[:, 0].max():.1e} sd in the mean and {off[:, 1].max():.1e} in the"
                    " sd"
                )


if __name__ == "__main__":
    main()
