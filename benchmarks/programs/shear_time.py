"""Time of a mass likelihood from a tangential shear profile of ten bins, for 2048 simulated profiles.

python benchmarks/programs/shear_time.py
"""

import time

import numpy as np

from massmap_jax import HaloCatalogue, MassPrior, ShearProfiles

NUMBER, Z = 2048, 0.3
RADIUS = np.geomspace(0.3, 3.0, 10)


def main():
    """Print wall and processor time per profile, for NFW and BMO1, after a first call that compiles."""
    rng = np.random.default_rng(1)
    error = 0.06 * RADIUS**-0.5
    shear = 0.05 / RADIUS * np.exp(rng.normal(0, 0.4, NUMBER))[:, None] + rng.normal(0, error, (NUMBER, 10))
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.ones(NUMBER), redshift=np.full(NUMBER, Z), sigma_ln_luminosity=0.05
    )
    profiles = ShearProfiles.from_arrays(RADIUS, shear, error=error, source_redshift=1.0)
    print(f"median signal to noise {np.median(np.sqrt(((shear / error) ** 2).sum(axis=1))):.1f}")
    for kind in ("nfw", "bmo1"):
        for call in ("first", "second", "third"):
            wall, processor = time.perf_counter(), time.process_time()
            profiles.likelihoods(catalogue, MassPrior.default(), profile=kind)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            print(f"{kind}, {call}: {wall / NUMBER * 1e3:.2f} ms, processor {processor / NUMBER * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
