"""What the forms of a mass map cost beside the plain map: slices, densities, footprint, smoothing, profiles, HEALPix.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/map_forms_speed.py [--draws 100] [--side 256]

Every row prints the error of the timed call itself: the relative difference between sums over the map and the same
sums over the plain map, for the realisation where it is largest. For halos with profiles, one realisation is also
compared with a loop over the halos: the row gives the fraction of the mass that the two put into different pixels. The
forms are timed in turns, and the fastest round counts; the posterior is passed in. `--halos` sets the number of halos
(115,919). Writes results/map-forms-<device>.json.
"""

import argparse
import json
import time
from dataclasses import replace

import jax
import numpy as np
from inputs import SURVEY, make_field, relation_draws
from provenance import RESULTS, provenance
from reference.halo_profile_loop import one_halo

from massmap_jax import mass_map, mass_posterior
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.halo.concentration import concentration_key, drawn_ln_concentration
from massmap_jax.halo.cosmology import angular_diameter_distance, overdensity
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.healpix import HealpixGrid
from massmap_jax.maps.images import sum_of_slices
from massmap_jax.maps.mass_map import chosen_samples
from massmap_jax.maps.pixels import PixelGrid

EDGES = (0.0, 0.8, 1.2, 1.7, 4.0)
KEY = jax.random.key(2)


def on_the_sky(field, side_deg):
    """Return the objects of the field at random places of a square around (150, 2) deg."""
    cat, rng = field.catalogue, np.random.default_rng(5)
    return HaloCatalogue.from_arrays(
        luminosity=np.exp(cat.ln_lum_obs),
        redshift=cat.redshift,
        sigma_ln_luminosity=cat.sigma_ln_lum,
        ra=150 + rng.uniform(-side_deg / 2, side_deg / 2, len(cat)),
        dec=2 + rng.uniform(-side_deg / 2, side_deg / 2, len(cat)),
        ids=cat.ids,
    )


def one_draw_by_a_loop(catalogue, prior, relation, grid, num_draws):
    """Return the first map realisation, computed one halo after the other with the same masses and concentrations."""
    given = {"relation_from": "fixed_draws", "num_draws": num_draws, "draws": "table"}
    chosen = chosen_samples(KEY, catalogue, prior, relation, **given)
    ln_mass, ln_c = np.zeros(len(catalogue)), np.zeros(len(catalogue))
    for rows, values in chosen.masses(Objects.of(catalogue, np.arange(len(catalogue)), prior)):
        drawn = drawn_ln_concentration(
            concentration_key(KEY), catalogue.hashes[rows], values, catalogue.redshift[rows], "200m", "Planck18"
        )
        ln_mass[rows], ln_c[rows] = values[:, 0], drawn[:, 0]
    density = overdensity("200m", "Planck18", catalogue.redshift)
    per_pixel = angular_diameter_distance("Planck18", catalogue.redshift) * np.radians(grid.pixel_arcmin / 60)
    radius = np.cbrt(np.exp(ln_mass) / (4 * np.pi / 3 * density)) / per_pixel
    pixel = grid.index(catalogue.ra, catalogue.dec)
    image, pad = np.zeros(grid.shape), int(radius.max()) + 2
    image = np.pad(image, pad)
    for k in range(len(catalogue)):
        width = int(radius[k]) + 1
        share = one_halo((2 * width + 1,) * 2, width, width, radius[k] / np.exp(ln_c[k]), np.exp(ln_c[k]), points=8)
        row, column = pixel[k] // grid.shape[1] + pad, pixel[k] % grid.shape[1] + pad
        here = slice(row - width, row + width + 1), slice(column - width, column + width + 1)
        image[here] += np.exp(ln_mass[k]) * share
    return image[pad:-pad, pad:-pad]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=SURVEY)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    field, relation = make_field(given.halos), relation_draws(100)
    field = field._replace(prior=replace(field.prior, mass_definition="200m"))  # sets the radii of the halos
    # A little smaller than the grid, because the tangent plane stretches angles: every object falls on the grid.
    catalogue = on_the_sky(field, 0.98 * given.side / 60)
    grid = PixelGrid("tangent", (given.side, given.side), 1.0, (150.0, 2.0))
    inside = np.hypot(*(axis - given.side / 2 for axis in np.indices(grid.shape))) < 0.4 * given.side
    posterior = mass_posterior(catalogue, field.prior, relation, relation_from="fixed_draws")

    def run(grid=grid, **form):
        begin = time.perf_counter()
        made = mass_map(
            KEY,
            catalogue,
            field.prior,
            relation,
            grid,
            relation_from="fixed_draws",
            num_draws=given.draws,
            draws="table",
            posterior=posterior,
            keep_draws=True,
            **form,
        )
        return made, time.perf_counter() - begin

    def off(draws, expected):
        return float(np.abs(draws / expected - 1).max())

    forms = {
        "plain": {},
        "4 redshift slices": {"redshift_edges": EDGES},
        "Msun/arcmin2": {"unit": "Msun/arcmin2"},
        "Msun/Mpc2": {"unit": "Msun/Mpc2"},
        "footprint": {"footprint": inside},
        "smoothed, FWHM 5 pixels": {"fwhm_arcmin": 5.0},
        "NFW halos": {"halo_profile": "nfw"},
        "HEALPix, nside 2048": {"grid": HealpixGrid.fit(catalogue.ra, catalogue.dec, 2048)},
    }
    run()
    rows = {}
    for _ in range(given.rounds):
        plain, _ = run()
        for name, form in forms.items():
            made, seconds = run(**form)
            if name == "4 redshift slices":
                full = plain.mean > 0
                error = off(sum_of_slices(made).draws[:, full], plain.draws[:, full])
            elif name == "footprint":
                error = off(made.total_draws, np.where(inside, plain.draws, 0.0).sum(axis=(1, 2)))
            elif name == "smoothed, FWHM 5 pixels":
                error = off(made.draws.sum(axis=(1, 2)), plain.total_draws)
            else:
                error = off(made.total_draws, plain.total_draws)
            rows.setdefault(name, []).append((seconds, error))
            if name == "NFW halos":
                smeared = made.draws[0]
    best = {name: min(row) for name, row in rows.items()}
    rows = {
        name: {
            "seconds": seconds,
            "times the plain map": seconds / best["plain"][0],
            "error: largest of any draw, that call": error,
        }
        for name, (seconds, error) in best.items()
    }
    exact = one_draw_by_a_loop(catalogue, field.prior, relation, grid, given.draws)
    other = float(np.abs(smeared - exact).sum() / exact.sum() / 2)
    rows["NFW halos"]["fraction of the mass in other pixels than in the loop"] = other
    for name, row in rows.items():
        print(name, json.dumps(row))
    figures = {"halos": given.halos, "draws": given.draws, "pixels": given.side**2, **provenance(), "rows": rows}
    (RESULTS / f"map-forms-{jax.default_backend()}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
