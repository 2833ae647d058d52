"""Coherent realisations of a mass map, compared with one `numpy.bincount` pass per realisation over the same objects.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/map_speed.py [--draws 1000] [--side 256]

The first 1,000 objects have pixels of their own, so the mass samples in the map can be compared with the exact
posterior; every row gives that error. The posterior, which gives the mean map, is passed in, as in `massmap-jax run`.
Writes results/map-<device>.json.
"""

import argparse
import dataclasses
import json
import time

import accuracy
import jax
import numpy as np
from inputs import SURVEY, make_field, reference_draws, relation_draws
from provenance import RESULTS, provenance

from massmap_jax import mass_map, mass_posterior
from massmap_jax.maps.pixels import PixelGrid

CHECKED, RELATION_DRAWS = 1000, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    field, relation = make_field(SURVEY), relation_draws(RELATION_DRAWS)
    grid = PixelGrid("flat", (given.side, given.side), 40 / given.side, (0.0, 0.0))
    rng = np.random.default_rng(5)
    pixel = rng.integers(CHECKED, given.side**2, SURVEY)
    pixel[:CHECKED] = np.arange(CHECKED)
    x, y = ((i - (given.side - 1) / 2) * 40 / given.side for i in (pixel % given.side, pixel // given.side))
    catalogue = dataclasses.replace(field.catalogue, ra=x, dec=y)
    place = grid.index(x, y)
    posterior = mass_posterior(catalogue, field.prior, relation, relation_from="fixed_draws")
    weights = posterior.mean_mass
    checked = accuracy.Objects(*(a[:CHECKED] for a in field.objects))
    exact = accuracy.exact_mean_mass(field.prior_reference, checked, reference_draws(relation))

    def bincount():
        begin = time.perf_counter()
        for _ in range(20):
            np.bincount(place, weights=weights, minlength=grid.num_pixels)
        return (time.perf_counter() - begin) / 20

    rows = {}
    for draws, method in ((given.draws, "table"), (100, "table"), (100, "exact")):
        seconds, passes, first = [], [], None
        for _ in range(given.rounds + 1):
            passes.append(bincount())
            begin = time.perf_counter()
            made = mass_map(
                jax.random.key(2),
                catalogue,
                field.prior,
                relation,
                grid,
                relation_from="fixed_draws",
                num_draws=draws,
                posterior=posterior,
                draws=method,
            )
            spent = time.perf_counter() - begin
            first = first or spent
            seconds.append(spent)
        mean, sd = (a.ravel()[place[:CHECKED]] for a in (made.sampled_mean, made.sd))
        off = (mean - exact) / (sd / np.sqrt(draws))  # in units of the Monte Carlo error
        rows[f"{draws} draws, {method}"] = row = {
            "seconds": min(seconds[1:]),
            "first call, compilation included": first,
            "bincount passes": min(seconds[1:]) / draws / min(passes),
            "ns per object and draw": 1e9 * min(seconds[1:]) / draws / SURVEY,
            "error: rms of the mean mass, in its Monte Carlo error": float(np.sqrt(np.mean(off**2))),
            "error: mean of it": float(off.mean()),
            "error: largest": float(np.abs(off).max()),
        }
        print(f"{draws} draws, {method}", json.dumps(row, indent=2))
    figures = {"halos": SURVEY, "pixels": given.side**2, "bincount_s": min(passes), **provenance(), "rows": rows}
    (RESULTS / f"map-{jax.default_backend()}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
