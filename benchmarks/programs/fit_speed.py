"""The fit of the relation on the benchmark's field: the time of its likelihood, and the time of a whole fit.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/fit_speed.py [--halos N] [--figures PATH]

For value and gradient of ln L, the prepared likelihood (compressed catalogue and table of G) is compared with the
direct sum over halos; both are compiled, in float64, in the same run. Whole fits start with JAX's caches empty, so
their times include the compilation.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import jax
import numpy as np
from inputs import SURVEY, make_field
from provenance import RESULTS

from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.direct import log_likelihood
from massmap_jax.relation.fit import find_maximum, fit_relation, prepare
from massmap_jax.relation.search import at_alpha3, covariance_of
from massmap_jax.run.outputs import versions

PARAMETERS = ("alpha1", "alpha2", "alpha4", "scatter")


def seconds(function, rounds):
    """Return the time of the fastest call, after one call that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return min(times)


def likelihood_rows(field):
    """Time value and gradient at the maximum, direct and prepared, and compare them at places of the posterior."""
    prior = RelationPrior.preset("bigmali2017")
    with jax.enable_x64(True):
        data = CatalogueData(field.catalogue, field.prior)
        coordinates, likelihood, best = find_maximum(data, prior)
        covariance = covariance_of(best, coordinates)
        begin = time.perf_counter()
        fast = prepare(data, coordinates, likelihood, best, covariance)
        prepared = time.perf_counter() - begin
        root = np.linalg.cholesky(covariance)
        places = np.asarray(best.x) + 2 * np.random.default_rng(0).standard_normal((4, 4)) @ root.T
        at = jax.jit(lambda x: coordinates.prior.relation(coordinates.values(x)))
        direct = jax.jit(jax.value_and_grad(lambda r: log_likelihood(r, field.catalogue, field.prior)))
        quick = jax.jit(jax.value_and_grad(lambda model, r: model(r), argnums=1))
        centre = at(best.x)
        slow_s = seconds(lambda: direct(centre)[1].alpha2, 3)
        fast_s = seconds(lambda: quick(fast, centre)[1].alpha2, 50)
        off, slopes = [], []
        sd = np.sqrt(np.diag(at_alpha3(coordinates, places, best.x, covariance)[2]))
        for x in [np.asarray(best.x), *places]:
            (slow_value, slow_gradient), (value, gradient) = direct(at(x)), quick(fast, at(x))
            off.append(float(value - slow_value))
            slopes += [
                abs(float(getattr(gradient, p) - getattr(slow_gradient, p))) * s
                for p, s in zip(PARAMETERS, sd, strict=True)
            ]
    return {
        "halos": len(field.catalogue),
        "points": int(np.count_nonzero(fast.weight)),
        "direct_s": slow_s,
        "prepared_ms": 1e3 * fast_s,
        "times_faster": slow_s / fast_s,
        "prepare_s": prepared,
        "largest_error_ln_l": max(abs(v) for v in off),
        "largest_gradient_error_per_sd": max(slopes),
        "passed": max(abs(v) for v in off) < 1e-2,
    }


def fit_row(field, method, **options):
    """Return one whole fit, started with empty caches, and a row with its time and diagnostics."""
    jax.clear_caches()
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_relation(field.catalogue, field.prior, method=method, key=jax.random.key(1), **options)
    return fit, {"method": method, "seconds": time.perf_counter() - begin, "diagnostics": fit.diagnostics}


def drawn_density(field):
    """Return the field with the density its masses were drawn from: p(M)/M for the public mocks (docs/fitting.md)."""
    if "bigmali" not in field.name:
        return field
    nodes = np.asarray(field.prior.ln_mass_nodes)
    density = np.exp(np.asarray(field.prior.ln_density) - nodes)
    settings = {"per": "ln_mass", "support": "sharp", "snap": "upper"}
    return field._replace(prior=MassPrior.from_table(field.prior.redshift_nodes, np.exp(nodes), density, **settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--halos", type=int, default=SURVEY)
    parser.add_argument("--figures", type=Path, default=RESULTS / f"fit-{jax.default_backend()}.json")
    given = parser.parse_args()
    field = drawn_density(make_field(given.halos))
    laplace, laplace_row = fit_row(field, "laplace")
    nuts, nuts_row = fit_row(field, "nuts")
    nuts_row["laplace_off_in_sd"] = {p: (laplace.mean[p] - nuts.mean[p]) / nuts.sd[p] for p in PARAMETERS}
    nuts_row["problems"] = nuts.check()
    found = {"field": field.name, "versions": versions(), "device": str(jax.devices()[0])}
    found |= {"likelihood": likelihood_rows(field), "laplace": laplace_row, "nuts": nuts_row}
    given.figures.parent.mkdir(exist_ok=True)
    given.figures.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
