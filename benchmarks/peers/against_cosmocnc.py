"""cosmocnc's cluster masses and ours, on the simulated SZ catalogue in cosmocnc's PyPI package, which has true masses.

    pip install 'massmap_jax[peers]'
    PYTHONPATH=benchmarks:tests python benchmarks/peers/against_cosmocnc.py [--clusters 15798]

The model is cosmocnc's for a survey like the Simons Observatory (Zubeldia & Bolliet 2024, JCAP 11, 018). q | M is
lognormal about a filtered SZ signal, which is no power law of the mass; q_obs is q plus a unit normal, and q_obs > 5;
the masses are 500c with the mass function of Tinker et al. 2008. Both codes are given the same table of the mass
function and the same relation, at the true parameters of the catalogue. For our code this is a relation written by the
user (`SZRelation`) with linear noise, which is tabulated. Errors are against a dense quadrature in NumPy. Times are
from the same run, ours the median of five: cosmocnc on one core (it can use more, as processes), ours on all that the
process may use (`taskset -c 0` compares core for core). Writes results/peers-cosmocnc.json.
"""

import argparse
import json
import os
import time
import warnings
from importlib import metadata

import cosmocnc
import jax
import jax.numpy as jnp
import numpy as np
from accuracy import PriorReference
from astropy.cosmology import FlatLambdaCDM
from cosmocnc import cnc as cosmocnc_cnc
from provenance import RESULTS, provenance
from scipy.stats import kstest

from massmap_jax import HaloCatalogue, MassPrior, Relation, mass_posterior

# The true parameters of the catalogue, from params.py of cosmocnc; BIAS is 1 - b.
ALPHA, LOG10_A, SCATTER, BIAS = 1.1233, -4.3054, 0.173, 0.8
COSMOLOGY = {"H0": 67.4, "Om0": 0.315, "Ob0": 0.04897, "sigma8": 0.811, "n_s": 0.96}
LN_UNIT = np.log(1e14)
POINTS = 128  # masses per cluster, cosmocnc's default
LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)


class SZRelation(Relation):
    """The mean of ln q at a mass: ALPHA ln M + a(z) - ln(noise of the filter at the angular size of the cluster)."""

    redshift: jnp.ndarray
    ln_signal: jnp.ndarray  # ln y0 of 1e14 Msun at those redshifts
    ln_angle: jnp.ndarray  # ln theta_500 [arcmin] of 1e14 Msun there
    noise: jnp.ndarray  # coefficients of ln noise in ln theta_500, highest first
    log_weight: jnp.ndarray

    @classmethod
    def of_survey(cls):
        flat = FlatLambdaCDM(COSMOLOGY["H0"], COSMOLOGY["Om0"], Ob0=COSMOLOGY["Ob0"], Tcmb0=2.7255, Neff=3.046)
        z, h70 = np.linspace(0.005, 2.5, 2000), COSMOLOGY["H0"] / 70
        e, distance = flat.efunc(z), flat.angular_diameter_distance(z).value
        ln_signal = np.log(10**LOG10_A * e**2 * (BIAS / 3 * h70) ** ALPHA / np.sqrt(h70))
        ln_angle = np.log(6.997 * h70 ** (-2 / 3) * (BIAS / 3) ** (1 / 3) * e ** (-2 / 3) * 500 / distance)
        theta, noise = np.load(cosmocnc.root_path + "data/so_sim_sz_mf_noise.npy")
        fitted = np.polyfit(np.log(np.degrees(theta) * 60), np.log(noise), 3)
        return cls(z, ln_signal, ln_angle, fitted, np.float64(0.0))

    def mean_ln_lum(self, ln_mass, z):
        scaled = ln_mass - LN_UNIT
        angle = jnp.interp(z, self.redshift, self.ln_angle) + scaled / 3
        return ALPHA * scaled + jnp.interp(z, self.redshift, self.ln_signal) - jnp.polyval(self.noise, angle)

    def scatter_ln_lum(self, ln_mass, z):
        return SCATTER + 0.0 * ln_mass


def tables() -> tuple[MassPrior, PriorReference]:
    """Return the mass function of the catalogue as the prior of the package and of the reference."""
    mass_function = {"hmf_model": "Tinker08", "mass_definition": "500c", "log10_mass_range": (12.5, 16.0)}
    cosmology = ",".join(f"{name}={value}" for name, value in COSMOLOGY.items())
    prior = MassPrior.from_hmf(cosmology=cosmology, redshift=np.arange(0.0, 2.55, 0.05), **mass_function)
    nodes = (prior.redshift_nodes, np.exp(prior.ln_mass_nodes), np.exp(prior.ln_density))
    return prior, PriorReference(*nodes, per="ln_mass")


def simulated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return signal to noise, redshift and true ln M of cosmocnc's simulated survey."""
    path = cosmocnc.root_path + "data/catalogues_sim/catalogue_so_simulated_0.npy"
    found = np.load(path, allow_pickle=True)[0]
    q, z, mass = (np.asarray(found[name], dtype=float) for name in ("q_so_sim", "z", "M"))
    return q, z, np.log(mass) + LN_UNIT


def peer(prior: PriorReference, number):
    """Return mean and sd of ln M from cosmocnc, and its seconds; its mass function is replaced by the prior's table."""

    class MassFunction:
        def __init__(self, **_):
            self.ln_mass = np.linspace(prior.ln_mass[0], prior.ln_mass[-1], 4096)

        def eval_hmf(self, z, **_):
            return self.ln_mass - LN_UNIT, np.exp(np.interp(self.ln_mass, prior.ln_mass, prior.row(z)))

    cosmocnc_cnc.halo_mass_function = MassFunction
    cosmo = {"Om0": 0.315, "Ob0": 0.04897, "h": 0.674, "sigma_8": 0.811, "n_s": 0.96, "m_nu": 0.0}
    counts = cosmocnc.cluster_number_counts(
        cosmocnc.cnc_params_default
        | {
            "number_cores_data": 1,
            "observables": [["q_so_sim"]],
            "data_lik_from_abundance": False,
            "obs_select_min": 5.0,
            "z_max": 2.5,
            "n_z": 250,
            "cosmology_tool": "astropy",
            "power_spectrum_type": "given",
            "get_masses": True,
            "M_min": prior.mass[0],
            "M_max": prior.mass[-1],
            "n_points_data_lik": POINTS,
        }
    )
    counts.cosmo_params = counts.cosmo_params | cosmo
    counts.scal_rel_params = counts.scal_rel_params | {"bias_sz": BIAS, "dof": 0.0}
    counts.initialise()
    counts.catalogue.indices_obs_select = np.arange(number)
    counts.get_hmf()
    counts.scal_rel_selection = counts.scaling_relations["q_so_sim"]
    begin = time.perf_counter()
    counts.get_log_lik_data()
    seconds = time.perf_counter() - begin
    counts.get_masses()
    return counts.cluster_lnM + LN_UNIT, counts.cluster_lnM_std, seconds


def exact(prior: PriorReference, relation, q, z):
    """Return mean and sd of ln M by a dense double sum over 6,000 masses with 400 luminosities each."""
    ln_mass = np.linspace(prior.ln_mass[0], prior.ln_mass[-1], 6001)
    score = np.linspace(-8, 8, 401)
    found = []
    for one, at in zip(q, z, strict=True):
        angle = np.interp(at, relation.redshift, relation.ln_angle) + (ln_mass - LN_UNIT) / 3
        mean = ALPHA * (ln_mass - LN_UNIT) + np.interp(at, relation.redshift, relation.ln_signal)
        mean -= np.polyval(relation.noise, angle)
        likelihood = np.exp(-0.5 * (one - np.exp(mean[:, None] + SCATTER * score)) ** 2) @ np.exp(-0.5 * score**2)
        weight = np.exp(np.interp(ln_mass, prior.ln_mass, prior.row(at))) * likelihood
        weight /= weight.sum()
        found.append((weight @ ln_mass, np.sqrt(weight @ (ln_mass - weight @ ln_mass) ** 2)))
    return np.array(found).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, default=15_798)
    parser.add_argument("--checked", type=int, default=200)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    # Importing cosmocnc turns double precision on; ours is timed and checked in single precision, as users have it.
    jax.config.update("jax_enable_x64", False)
    prior, reference = tables()
    relation = SZRelation.of_survey()
    q, z, truth = (column[: given.clusters] for column in simulated())
    rows = np.random.default_rng(0).choice(q.size, min(given.checked, q.size), replace=False)
    best = exact(reference, relation, q[rows], z[rows])

    catalogue = HaloCatalogue.from_arrays(luminosity=q, redshift=z, sigma_ln_luminosity=1 / q, noise_kind="normal")
    settings = {"relation_from": "fixed_draws", "quantile_levels": LEVELS}
    mass_posterior(catalogue, prior, relation, **settings)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        ours = mass_posterior(catalogue, prior, relation, **settings)
        times.append(time.perf_counter() - begin)
    seconds = float(np.median(times))
    their_mean, their_sd, their_seconds = peer(reference, q.size)
    table = {
        "massmap_jax, table of linear noise": _row(seconds, ours.mean, ours.sd, best, rows, truth),
        "cosmocnc, backward convolution": _row(their_seconds, their_mean, their_sd, best, rows, truth),
    }
    held = [((truth >= ours.quantiles[:, i]) & (truth <= ours.quantiles[:, -1 - i])).mean() for i in (0, 1)]
    table["massmap_jax, table of linear noise"]["95 and 68 % intervals hold the truth"] = [float(h) for h in held]
    table["times as long"] = their_seconds / seconds
    print(json.dumps(table, indent=2))
    found = {
        **provenance(),
        "peer": f"cosmocnc {metadata.version('cosmocnc')}",
        "cores of ours": len(os.sched_getaffinity(0)),
        "clusters": q.size,
        "checked": rows.size,
        "rows": table,
    }
    (RESULTS / "peers-cosmocnc.json").write_text(json.dumps(found, indent=2) + "\n")


def _row(seconds, mean, sd, best, rows, truth):
    off, score = (mean[rows] - best[0]) / best[1], (truth - mean) / sd
    return {
        "us_per_cluster": 1e6 * seconds / mean.size,
        "mean off, median of sizes [sd]": float(np.median(np.abs(off))),
        "mean off, largest [sd]": float(np.abs(off).max()),
        "sd ratio - 1, largest size": float(np.abs(sd[rows] / best[1] - 1).max()),
        "truth - mean, average [sd]": [float(score.mean()), float(score.std() / np.sqrt(score.size))],
        "truth - mean, scatter [sd]": float(score.std()),
        "KS p of (truth - mean) / sd against a normal": float(kstest(score, "norm").pvalue),
    }


if __name__ == "__main__":
    main()
