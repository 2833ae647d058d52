"""Peak resident memory of one job in a process of its own.

    python benchmarks/programs/peak_memory.py analytic 1000000

Prints one line of JSON. The jobs are analytic (mass_posterior with 10 relation draws), monte_carlo (10 x 100 draws) and
map (100 map realisations).
"""

import json
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the peak resident memory of this process.

    The `ru_maxrss` of a child process starts at the peak of its parent; the kernel's VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    what, rows = sys.argv[1], int(sys.argv[2])
    import jax
    import numpy as np

    from massmap_jax import HaloCatalogue, MassLuminosityRelation, MassPrior, mass_map, mass_posterior
    from massmap_jax.maps.pixels import PixelGrid

    rng = np.random.default_rng(1)
    redshift = rng.uniform(0.1, 3.2, rows)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(7.2 + 1.1 * np.log1p(redshift) + rng.gamma(2.0, 0.25, rows)),
        redshift=redshift,
        sigma_ln_luminosity=0.05,
        ra=rng.uniform(149.7, 150.3, rows),
        dec=rng.uniform(1.9, 2.5, rows),
    )
    prior, key = MassPrior.default(), jax.random.key(1)
    before = peak_bytes()
    if what == "map":
        relation = MassLuminosityRelation.preset_draws("bigmali2017", key, 100)
        grid = PixelGrid.fit(catalogue.ra, catalogue.dec)
        mass_map(key, catalogue, prior, relation, grid, relation_from="fixed_draws", num_draws=100)
    else:
        relation = MassLuminosityRelation.preset_draws("bigmali2017", key, 10)
        mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", method=what, key=key)
    print(json.dumps({"peak_gib": peak_bytes() / 2**30, "before_gib": before / 2**30}))


if __name__ == "__main__":
    main()
