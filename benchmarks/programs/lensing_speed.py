"""The convergence of 5,000 halos on 256 x 256 pixels, compared with a NumPy loop over the halos in the same run.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/lensing_speed.py [--halos N] [--draws N] [--figures PATH]

Both are given the same masses and concentrations (one realisation) and add the same profile, BMO1; here it is cut at
`reach` halo radii, in the loop it is not cut. Pixels have the value at their centre, and of a halo that they hold the
mean over their area, which the loop adds after it is timed. The error is the difference between the timed image and the
image of the loop, in units of its peak. Then a whole `convergence_map` with many realisations is timed, masses
included, and the peak memory of the process is read. Writes results/lensing-<device>.json.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import jax
import numpy as np
from inputs import relation_draws
from provenance import RESULTS, provenance
from reference import lensing_loop

import massmap_jax as mm
from massmap_jax.halo.concentration import mean_ln_concentration
from massmap_jax.maps import convergence as lensing

SIDE, PIXEL, SOURCE, REACH = 256, 1.0, 1.2, 10.0


def loop(x, y, mass, c, z):
    """Run the loop of the reference; the cosmology is evaluated beforehand, so only NumPy's arithmetic is timed."""
    scales = [lensing_loop.scales(mass[k], c[k], z[k], SOURCE) for k in range(mass.size)]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total, per_pixel = np.zeros((SIDE, SIDE)), np.radians(PIXEL / 60)
    begin = time.perf_counter()
    for k, (theta, amplitude) in enumerate(scales):
        u = np.hypot(columns - x[k], rows - y[k]) * per_pixel / theta
        total += amplitude * lensing_loop.bmo_sigma(u, 2.6 * c[k])
    seconds = time.perf_counter() - begin
    # The pixel that holds a halo has the mean over its area.
    for k, (theta, amplitude) in enumerate(scales):
        row, column = int(np.floor(y[k] + 0.5)), int(np.floor(x[k] + 0.5))

        def sigma(r, scale=theta / per_pixel, tau=2.6 * c[k]):
            return lensing_loop.bmo_sigma(r / scale, tau)

        held = lensing_loop.mean_over_pixel(sigma, y[k] - row, x[k] - column)
        total[row, column] += amplitude * (held - sigma(np.hypot(column - x[k], row - y[k])))
    return total, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=5000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--figures", type=Path, default=RESULTS / f"lensing-{jax.default_backend()}.json")
    given = parser.parse_args()

    rng = np.random.default_rng(1)
    field = mm.simulate_field(jax.random.key(0), given.halos)
    z, mass = np.clip(field.catalogue.redshift, 0.05, 1.1), np.exp(field.catalogue.truth_ln_mass)
    x, y = rng.uniform(0, SIDE - 1, (2, given.halos))
    ln_c = mean_ln_concentration(np.log(mass), z, "200m")
    grid = mm.PixelGrid("tangent", (SIDE, SIDE), PIXEL, (30.0, 0.0))
    lenses = lensing.Lenses.of(z, x, y, grid, SOURCE, "200m", "Planck18", "bmo1", 2.6, REACH)
    shapes = lenses.shapes(np.log(mass), ln_c)

    times = []
    for _ in range(4):  # the first compiles
        image = np.zeros((1, SIDE, SIDE))
        begin = time.perf_counter()
        lensing.add_profiles(image, lenses, shapes, "bmo1")
        times.append(time.perf_counter() - begin)
    wanted, loop_s = loop(x, y, mass, np.exp(ln_c), z)
    off = np.abs(image[0] - wanted) / wanted.max()
    found = provenance() | {
        "halos": given.halos,
        "pixels": SIDE**2,
        "loop_s": loop_s,
        "seconds": min(times[1:]),
        "first_call_s": times[0],
        "times_faster": loop_s / min(times[1:]),
        "largest_error_of_peak": float(off.max()),
        "median_error_of_peak": float(np.median(off)),
        "bound_from_the_cut_of_peak": float(shapes.rim.sum() / wanted.max()),
    }
    ra, dec = grid.sky_of(x, y)
    lum = np.exp(field.catalogue.ln_lum_obs)
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=0.05, ra=ra, dec=dec)
    begin = time.perf_counter()
    many = lensing.convergence_map(
        jax.random.key(1),
        catalogue,
        mm.MassPrior.default(),
        relation_draws(10),
        grid,
        SOURCE,
        relation_from="fixed_draws",
        num_draws=given.draws,
    )
    found["draws"] = {
        "number": given.draws,
        "seconds_with_masses": time.perf_counter() - begin,
        "lenses": many.n_lenses,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    # The loop has no cut, and the peak is a mean over a pixel: a quarter of what the pixel's centre had.
    found["passed"] = found["largest_error_of_peak"] < 4e-4
    given.figures.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
