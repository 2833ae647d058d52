"""What a posterior surface costs to build and to read, compared with the integrals it replaces, and its error.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/surface_speed.py [--halos 1000000] [--draws 100]

The error is that of the timed call itself. Prints a table and writes results/surface-<device>.json.
"""

import argparse
import json
import time

import accuracy
import jax
import numpy as np
from inputs import SURVEY, make_field, reference_draws, relation_draws
from provenance import RESULTS

from massmap_jax import HaloCatalogue, mass_posterior
from massmap_jax.likelihood.objects import Range
from massmap_jax.posterior.surface import PosteriorSurface
from massmap_jax.run.outputs import versions

LEVELS = (accuracy.LEVELS[0], 0.16, 0.5, 0.84, accuracy.LEVELS[1])
COLUMNS = ("mean", "sd", *(f"quantile{i}" for i in range(len(LEVELS))))


def fastest(function, rounds=5):
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    field, relation = make_field(SURVEY), relation_draws(given.draws)
    rng = np.random.default_rng(1)
    rows = np.concatenate([np.arange(1000), rng.integers(0, SURVEY, given.halos - 1000)])
    ln_lum, z = (a[rows] for a in (field.catalogue.ln_lum_obs, field.catalogue.redshift))
    figures = {"device": str(jax.devices()[0]), "halos": given.halos, "draws": given.draws, "versions": versions()}
    options = {"relation_from": "fixed_draws", "quantile_levels": LEVELS}
    for axis, sigma in (("one sigma", np.full(rows.size, 0.05)), ("sigma axis", rng.uniform(0.02, 0.3, rows.size))):
        jax.clear_caches()
        start = time.perf_counter()
        surface = PosteriorSurface.build(field.prior, relation, Range.of(ln_lum, z, sigma), **options)
        build = time.perf_counter() - start
        few, objects = surface.only(COLUMNS), [a.astype(np.float32) for a in (ln_lum, z, sigma)]
        found = few(*objects)
        read, read_all = fastest(lambda f=few, o=objects: f(*o)), fastest(lambda s=surface, o=objects: s(*o))
        part = slice(0, SURVEY)
        catalogue = HaloCatalogue.from_arrays(
            luminosity=np.exp(ln_lum[part]), redshift=z[part], sigma_ln_luminosity=sigma[part]
        )
        exact = fastest(lambda c=catalogue: mass_posterior(c, field.prior, relation, **options), 2) / SURVEY
        # The first 1,000 rows, the 10 most extreme objects among them, against the reference of the other benchmarks.
        checked = accuracy.Objects(ln_lum[:1000], sigma[:1000], z[:1000])
        draws = reference_draws(relation)
        best = accuracy.exact_posteriors(field.prior_reference, checked, draws)
        values = accuracy.Posteriors(found[:1000, 0], found[:1000, 1], found[:1000, [2, -1]])
        error = accuracy.judge(values, best)["error"]
        figures[axis] = {
            "nodes (sigma, z, ln L)": list(surface.lattice.shape),
            "build s": round(build, 2),
            "us per halo, mean, sd, 5 quantiles": read / rows.size * 1e6,
            "us per halo, all columns": read_all / rows.size * 1e6,
            "us per halo, analytic": exact * 1e6,
            "times faster": exact / (read / rows.size),
            "error of this call on 1,000 rows": error,
            "measured when built": surface.error,
        }
        print(axis, json.dumps(figures[axis], indent=2, default=float))
    out = RESULTS / f"surface-{jax.devices()[0].platform}.json"
    out.write_text(json.dumps(figures, indent=2, default=float) + "\n")


if __name__ == "__main__":
    main()
