"""The joint model of the relation and all masses of the benchmark's field, sampled by HMC: one latent for each halo.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/field_speed.py [--halos N] [--draws 800] [--chains 2]

Each chain is a process of its own on a core of its own. The relation starts at the maximum of the marginal likelihood,
with the Laplace covariance as the inverse mass matrix, and every mass starts at a random draw, so that only the step
size is adapted. The program prints R-hat and the number of effective draws of (alpha, S) over the chains, and how far
their mean and sd are from those of the marginal fit, which is computed independently of this model. Writes
results/field-<device>.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from fit_speed import PARAMETERS, drawn_density, fit_row
from inputs import SURVEY, make_field
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import HMC, MCMC, init_to_value
from provenance import RESULTS, provenance

from massmap_jax.models.field import field_model
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.models.relation import Pivot
from massmap_jax.relation.beliefs import RelationPrior

SITES = ("alpha1_offset", "alpha2", "alpha4", "scatter")
WARMUP = 30  # only the step size is adapted
SAVE_EVERY = 50


def sampled(fit, relation_prior, pivot) -> np.ndarray:
    """Return a fit's draws in the model's unconstrained coordinates (`models.relation.relation_sites`); (draw, 4)."""
    draws = {p: np.asarray(getattr(fit.draws, p), dtype=np.float64) for p in PARAMETERS}
    central, sd = relation_prior.central(), relation_prior.sd()
    moved = (draws["alpha2"] - central["alpha2"]) * (pivot.ln_mass - np.log(relation_prior.alpha3))
    moved = moved + (draws["alpha4"] - central["alpha4"]) * pivot.evolution
    offset = (draws["alpha1"] - central["alpha1"] + moved) / sd["alpha1"]
    return np.stack([offset, draws["alpha2"], draws["alpha4"], np.log(draws["scatter"])], axis=1)


def chain(number, given):
    """Run one chain; (alpha, S), the number of steps and the acceptance of every draw are saved while it runs."""
    field = drawn_density(make_field(given.halos))
    relation_prior = RelationPrior.preset("bigmali2017")
    fit, _ = fit_row(field, "laplace")
    places = sampled(fit, relation_prior, Pivot.of(PlacedObjects.of(field.catalogue, field.prior), relation_prior))
    begun = dict(zip(SITES, jnp.asarray(places[number], dtype=float), strict=True))
    begun["scatter"] = jnp.exp(begun["scatter"])
    scores = jax.random.normal(jax.random.key(10 + number), (given.halos,))
    kernel = HMC(
        field_model(field.catalogue, field.prior, relation_prior),
        init_strategy=init_to_value(values=begun | {"e": scores}),
        inverse_mass_matrix={SITES: jnp.asarray(np.cov(places.T), dtype=float), ("e",): jnp.ones(given.halos)},
        dense_mass=[SITES],
        adapt_mass_matrix=False,
        step_size=given.step,
        trajectory_length=given.length,
        target_accept_prob=0.75,
    )
    mcmc = MCMC(kernel, num_warmup=WARMUP, num_samples=SAVE_EVERY, progress_bar=False)
    start = time.perf_counter()
    mcmc.warmup(jax.random.key(2 + number))
    found = {name: [] for name in (*PARAMETERS, "num_steps", "accept_prob")}
    for _ in range(given.draws // SAVE_EVERY):
        mcmc.run(mcmc.post_warmup_state.rng_key, extra_fields=("num_steps", "accept_prob"))
        mcmc.post_warmup_state = mcmc.last_state
        values = mcmc.get_samples() | mcmc.get_extra_fields()
        for name in found:
            found[name].append(np.asarray(values[name], dtype=np.float64))
        kept = {name: np.concatenate(parts) for name, parts in found.items()}
        np.savez(given.folder / f"part-{number}.npz", seconds=time.perf_counter() - start, **kept)
        os.replace(given.folder / f"part-{number}.npz", given.folder / f"chain-{number}.npz")
        print(f"chain {number}: {kept['alpha1'].size} draws, {kept['num_steps'].mean():.0f} steps each", flush=True)


def summary(given):
    """Return the diagnostics of the chains from their files; all are cut to the length of the shortest."""
    chains = [dict(np.load(given.folder / f"chain-{i}.npz")) for i in range(given.chains)]
    number = min(c["alpha1"].size for c in chains)
    draws = {p: np.stack([c[p][:number] for c in chains]) for p in PARAMETERS}
    fit, _ = fit_row(drawn_density(make_field(given.halos)), "nuts")
    off = {p: (v.mean() - fit.mean[p]) / fit.sd[p] for p, v in draws.items()}
    return {
        "latents": given.halos,
        "chains": given.chains,
        "draws of a chain": number,
        "seconds of the longest chain": float(max(c["seconds"] for c in chains)),
        "steps of a draw": float(np.mean([c["num_steps"].mean() for c in chains])),
        "acceptance": float(np.mean([c["accept_prob"].mean() for c in chains])),
        "r_hat": {p: float(split_gelman_rubin(v)) for p, v in draws.items()},
        "ess": {p: float(effective_sample_size(v)) for p, v in draws.items()},
        "off the marginal fit's mean, in its sd": {p: float(off[p]) for p in PARAMETERS},
        "sd over the marginal fit's": {p: float(v.std() / fit.sd[p]) for p, v in draws.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=SURVEY)
    parser.add_argument("--draws", type=int, default=800)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--step", type=float, default=0.03, help="step size at which its adaptation starts")
    parser.add_argument("--length", type=float, default=1.5, help="length of a trajectory")
    parser.add_argument("--folder", type=Path, default=None, help="folder of the files of the chains")
    parser.add_argument("--chain", type=int, default=None, help="run this chain alone")
    parser.add_argument("--summary", action="store_true", help="summarise the chains that exist, even if unfinished")
    given = parser.parse_args()
    given.folder = given.folder or Path(tempfile.mkdtemp(prefix="field_"))
    given.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    if given.chain is not None:
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[given.chain % len(cores)]})
        chain(given.chain, given)
        return
    if not given.summary:
        shared = [f"--{name}={getattr(given, name)}" for name in ("halos", "draws", "step", "length", "folder")]
        begun = [subprocess.Popen([sys.executable, __file__, f"--chain={i}", *shared]) for i in range(given.chains)]
        if any(process.wait() for process in begun):
            sys.exit("a chain failed")
    found = summary(given) | provenance()
    print(json.dumps(found, indent=2))
    (RESULTS / f"field-{jax.default_backend()}.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
