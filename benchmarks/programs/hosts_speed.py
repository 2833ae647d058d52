"""Time of host masses of galaxies that may be satellites, one by one and in groups, and of the draws of a map.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/hosts_speed.py [--galaxies N] [--draws N]

Galaxies of `tests/reference/satellite_reference.py`: centrals and satellites of Cacciato et al. 2009 at z = 0.1 with
errors of 0.1 in ln L. Every time is that of the second call, so nothing is compiled in it.
"""

import argparse
import resource
import time

import jax
import numpy as np
from reference import satellite_reference as mock

import massmap_jax as mm

SIGMA, LN_LUM_MIN = 0.1, 9.6 * np.log(10)


def timed(function):
    """Seconds of the second call, and what it returned."""
    function()
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    nodes = mock.LN_MASS[::8]
    labels = {"mass_definition": "180m", "support": "sharp"}
    prior = mm.MassPrior.from_table([0.1], np.exp(nodes), mock.mass_function(nodes)[None], per="ln_mass", **labels)
    centrals = mm.MassLuminosityRelation(
        alpha1=24.3 + 0.02 * np.linspace(-1, 1, options.draws), alpha2=0.35, alpha3=1e13, scatter=0.33,
        mass_definition="180m", lum_unit="Lsun",
    )  # fmt: skip
    satellites = mm.SchechterSatellites.preset("cacciato2009")
    galaxies = mock.field(0, int(options.galaxies / 0.58), LN_LUM_MIN, SIGMA)
    number = galaxies.ln_mass.size
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=galaxies.ln_lum_obs, redshift=np.full(number, 0.1), sigma_ln_luminosity=SIGMA, lum_unit="Lsun"
    )

    def report(what, seconds, hosts, draws):
        each = 1e6 * seconds / hosts / draws
        print(f"{what}: {hosts:,} with {draws} draws in {seconds:.1f} s, {each:.0f} microseconds each and draw")

    def run(catalogue, **more):
        return mm.host_posterior(catalogue, prior, centrals, satellites, relation_from="fixed_draws", **more)

    seconds, found = timed(lambda: run(catalogue))
    report("galaxies one by one", seconds, number, options.draws)
    seconds, _ = timed(lambda: found.sample(jax.random.key(0), options.draws))
    report("types and masses of a map", seconds, number, options.draws)
    kept = np.isin(galaxies.halo, galaxies.halo[galaxies.is_central])
    groups = mm.Membership.from_groups(galaxies.halo[kept], galaxies.is_central[kept])
    limit = mm.FluxLimit(np.exp(LN_LUM_MIN))
    seconds, found = timed(lambda: run(catalogue.subset(kept), membership=groups, selection=limit))
    report("groups", seconds, len(found.hosts), options.draws)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
