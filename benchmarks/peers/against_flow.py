"""A normalising flow that learns the posterior from simulations (flowjax), on exactly our model.

    pip install flowjax         # into an environment of its own, with this package
    PYTHONPATH=.:benchmarks:tests python benchmarks/peers/against_flow.py [--halos 1000 --simulations 10000,100000]

This is neural posterior estimation, as simulation-based inference does it: pairs of (ln M; ln L_obs, z) are drawn from
the prior and the relation, and a flow is trained to the density of ln M given the data. It is amortised: one training
serves all objects of one relation and one error of the luminosities. The relation is fixed, so that the exact posterior
is known. The flow is told as much as possible: the data are (x - ln M) of the power law and z, its target is
standardised, and mean and sd are summed over its density on 200 masses, without noise of samples.

A flow needs nothing but a simulator. Where the likelihood is known, as here, that is no gain; its other price is that
it is right where it was trained, so the brightest of 100,000 objects are a row of their own.

Times are of the same run; compiled calls but for the training. Writes results/peers-flow.json.
"""

import argparse
import json
import time
from functools import partial
from importlib import metadata

import accuracy
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import masked_autoregressive_flow
from flowjax.train import fit_to_data
from inputs import reference_draws
from provenance import RESULTS, provenance
from reference.tables import schechter_table

import massmap_jax as mm

SIGMA, MASSES, BRIGHT = 0.05, 200, 100
EPOCHS, PATIENCE, BATCH = 100, 10, 500
RATE = 1e-3
LAYERS, WIDTH, DEPTH, KNOTS = 2, 64, 2, 8


def simulated(rng, reference, law, number: int) -> tuple[np.ndarray, accuracy.Objects]:
    """True ln M and what is observed; plain NumPy, as the flow's user would write it."""
    z = rng.uniform(reference.redshift[0], reference.redshift[-1], number)
    ln_mass = np.concatenate([reference.sample(rng, part) for part in np.array_split(z, max(number // 10_000, 1))])
    mean = law.alpha1 + law.alpha2 * (ln_mass - np.log(law.alpha3)) + law.alpha4 * np.log1p(z)
    ln_lum = mean + np.hypot(law.scatter, SIGMA) * rng.normal(size=number)
    return ln_mass, accuracy.Objects(ln_lum, np.full(number, SIGMA), z)


def features(law, objects: accuracy.Objects) -> np.ndarray:
    """ln M at which the relation has the observed luminosity, and z: what the posterior depends on."""
    offset = objects.ln_lum_obs - law.alpha1 - law.alpha4 * np.log1p(objects.redshift)
    return np.stack([np.log(law.alpha3) + offset / law.alpha2, objects.redshift], axis=1)


def trained(key, ln_mass, data):
    """The flow, the scales of its target and data, and the seconds and epochs of the training."""
    scales = [(a.mean(axis=0), a.std(axis=0)) for a in (ln_mass, data)]
    target, given = ((a - m) / s for a, (m, s) in zip((ln_mass[:, None], data), scales, strict=True))
    key_flow, key_fit = jax.random.split(key)
    flow = masked_autoregressive_flow(
        key_flow, base_dist=Normal(jnp.zeros(1)), transformer=RationalQuadraticSpline(knots=KNOTS, interval=5),
        cond_dim=2, flow_layers=LAYERS, nn_width=WIDTH, nn_depth=DEPTH,
    )  # fmt: skip
    begin = time.perf_counter()
    flow, losses = fit_to_data(
        key_fit, flow, (jnp.asarray(target, jnp.float32), jnp.asarray(given, jnp.float32)), learning_rate=RATE,
        max_epochs=EPOCHS, max_patience=PATIENCE, batch_size=BATCH, show_progress=False,
    )  # fmt: skip
    return flow, scales, time.perf_counter() - begin, len(losses["train"])


@eqx.filter_jit
def _summaries(flow, target, given):
    """Mean and sd of each density on the standardised masses `target` (object, mass); `given` (object, 2)."""
    ln_p = jax.vmap(lambda masses, one: flow.log_prob(masses[:, None], one))(target, given)
    weight = jax.nn.softmax(ln_p, axis=1)
    mean = (weight * target).sum(axis=1)
    return mean, jnp.sqrt((weight * (target - mean[:, None]) ** 2).sum(axis=1))


def summaries(flow, scales, data, half_width: float, middle):
    """Mean and sd of ln M for each object; the masses lie within `half_width` of `middle`."""
    (centre, scale), (data_mean, data_sd) = scales
    target = (middle[:, None] + np.linspace(-half_width, half_width, MASSES) - centre) / scale
    mean, sd = _summaries(
        flow, jnp.asarray(target, jnp.float32), jnp.asarray((data - data_mean) / data_sd, jnp.float32)
    )
    return np.asarray(mean) * scale + centre, np.asarray(sd) * scale


def clocked(function):
    """Seconds of the fastest of three calls after the first, and the answer."""
    function()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        answer = function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), answer


def row(seconds, number, found, exact, brightest) -> dict:
    """`brightest` holds rows that are counted apart."""
    off, ratio = (found[0] - exact.mean) / exact.sd, found[1] / exact.sd - 1
    usual = np.setdiff1d(np.arange(off.size), brightest)
    return {
        "us_per_halo": 1e6 * seconds / number,
        "mean off, rms [sd]": float(np.sqrt(np.mean(off[usual] ** 2))),
        "mean off, median of sizes [sd]": float(np.median(np.abs(off[usual]))),
        "sd ratio - 1, rms": float(np.sqrt(np.mean(ratio[usual] ** 2))),
        "brightest: mean off, largest [sd]": float(np.abs(off[brightest]).max()),
        "brightest: sd ratio - 1, largest size": float(np.abs(ratio[brightest]).max()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=1000)
    parser.add_argument("--simulations", default="10000,100000")
    given = parser.parse_args()
    table = schechter_table()
    prior, reference = (
        mm.MassPrior.from_table(*table, per="mass", support="sharp"),
        accuracy.PriorReference(*table, per="mass"),
    )
    relation = mm.MassLuminosityRelation.preset("bigmali2017")
    draws = reference_draws(relation)
    law = accuracy.Draws(*(column[0] for column in draws))
    # The first objects are usual ones, the last the brightest for their redshift of many.
    many, rng = 100_000, np.random.default_rng(0)
    _, pool = simulated(rng, reference, law, many)
    bright = np.argsort(-features(law, pool)[:, 0])[:BRIGHT]
    objects = pool.take(np.r_[np.setdiff1d(np.arange(given.halos + BRIGHT), bright)[: given.halos], bright])
    brightest = np.arange(given.halos, given.halos + BRIGHT)
    exact = accuracy.exact_posteriors(reference, objects, draws)
    data = features(law, objects)
    width = float(np.hypot(law.scatter, SIGMA) / law.alpha2)
    rows = {}
    for number in (int(n) for n in given.simulations.split(",")):
        begin = time.perf_counter()
        ln_mass, seen = simulated(np.random.default_rng(1), reference, law, number)
        made = time.perf_counter() - begin
        flow, scales, seconds, epochs = trained(jax.random.key(0), ln_mass, features(law, seen))
        # Exact means as the middle of the masses: the flow is not charged with finding its peak.
        fast, found = clocked(partial(summaries, flow, scales, data, 7 * width, exact.mean))
        rows[f"flowjax, {number:,} simulations"] = row(fast, len(data), found, exact, brightest) | {
            "s, simulating": made, "s, training": seconds, "epochs": epochs,
        }  # fmt: skip
        print(f"trained on {number:,} in {seconds:.0f} s, {epochs} epochs", flush=True)
    catalogue = mm.HaloCatalogue.from_arrays(
        ln_luminosity=objects.ln_lum_obs, redshift=objects.redshift, sigma_ln_luminosity=SIGMA
    )
    begin = time.perf_counter()
    mm.mass_posterior(catalogue, prior, relation).mean  # noqa: B018
    first = time.perf_counter() - begin

    def ours():
        posterior = mm.mass_posterior(catalogue, prior, relation)
        return posterior.mean, posterior.sd

    fast, found = clocked(ours)
    rows["massmap_jax, analytic"] = row(fast, len(data), found, exact, brightest) | {"s, first call": first}
    print(json.dumps(rows, indent=2))
    versions = {name: metadata.version(name) for name in ("flowjax", "jax", "equinox")}
    (RESULTS / "peers-flow.json").write_text(
        json.dumps({**provenance(), "peers": versions, "halos": given.halos, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
