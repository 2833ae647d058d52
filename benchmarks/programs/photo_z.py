"""Masses, maps and fits with uncertain redshifts: time, accuracy, and whether their error bars hold the truth.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/photo_z.py [--objects N] [--table N] [--truth N] [--shapes N]
        [--skies N] [--fits N]

Clusters and galaxies above a limit of flux whose redshifts have errors of 5 % of 1 + z, as simulated in
tests/posterior/test_uncertain_redshifts.py. Six parts, each of which is left out with 0:

--objects  time of masses under 10 draws of the relation beside that of the same masses with the redshifts taken as
           exact, second calls both, and the errors of 500 of these masses against 128 redshift nodes;
--table    time of so many masses read off a posterior surface, its making included, beside that of integrated ones;
--truth    coverage of so many true masses by 68 and 95 % intervals, and by the wrong ways to use such redshifts;
--shapes   errors of so many masses whose p(z) of other shapes are told by quantiles or on a grid;
--skies    coverage of the true mass in redshift slices of so many skies of 60 clusters;
--fits     fits to so many catalogues, whose ranks of the true parameters are to be uniform.

Writes results/photo-z-<device>.json.
"""

import argparse
import itertools
import json
import time
import warnings

import jax
import numpy as np
from likelihood.test_redshift_nodes import SHAPES
from maps.test_uncertain_slices import EDGES, drawn
from posterior.test_uncertain_redshifts import (
    CLUSTERS,
    GALAXIES,
    prior_of,
    relation_of,
    universe,
    with_errors,
    with_inflated_errors,
    with_jacobian,
)
from provenance import RESULTS, provenance
from relation.test_uncertain import ALL
from scipy.special import ndtri
from scipy.stats import kstest, norm

import massmap_jax as mm
from massmap_jax.catalogue.redshift_shapes import FromQuantiles, _monotone_slopes

KINDS = {"clusters": CLUSTERS, "galaxies": GALAXIES}
SBC = "alpha1=0:0.3,alpha2=1.7:0.15,alpha4=0:0.5,scatter=0.3:0.05,alpha3=3e14"
DRAWS, CHECKED, MANY, PER_SKY, PER_FIT = 10, 500, 128, 60, 400
# Some objects are lost at the ends of the redshifts, and are made in excess.
EXCESS = 1.4
# Per cent of the quantiles that tell p(z), and steps of grids over the sd of the narrowest hump.
QUANTILES = {
    "3": (16, 50, 84),
    "5": (2.5, 16, 50, 84, 97.5),
    "7": (2, 10, 30, 50, 70, 90, 98),
    "9": (1, 5, 16, 30, 50, 70, 84, 95, 99),
    "25": tuple(np.linspace(2, 98, 25)),
}
STEPS = (0.25, 0.5, 0.7)
# Those of which docs/uncertain_redshifts.md has columns.
TOLD = ("normal", "tail", "skew", "two", "narrow on wide")


def relations(kind, number=DRAWS):
    """Draws of the relation, as a fit gives them."""
    rng = np.random.default_rng(0)
    return mm.MassLuminosityRelation(
        alpha1=0.02 * rng.normal(size=number), alpha2=kind["slope"] * (1 + 0.02 * rng.normal(size=number)),
        alpha3=kind["pivot"], alpha4=0.0, scatter=kind["scatter"] * (1 + 0.02 * rng.normal(size=number)),
    )  # fmt: skip


def seconds_of(function):
    """Seconds of the second call, and what it returned."""
    function()
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def speed(name, number):
    kind = KINDS[name]
    prior = prior_of(kind)
    *_, catalogue = universe(kind, prior, int(EXCESS * number), 1)
    catalogue = catalogue.subset(np.arange(min(number, len(catalogue))))
    uncertain, relation = with_errors(catalogue), relations(kind)

    def masses(catalogue):
        return mm.mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")

    exact, _ = seconds_of(lambda: masses(catalogue))
    photo, found = seconds_of(lambda: masses(uncertain))
    rows = np.linspace(0, len(catalogue) - 1, CHECKED).round().astype(int)
    truth = masses(with_errors(catalogue.subset(rows), num_nodes=MANY))
    error = np.abs(found.mean[rows] - truth.mean) / truth.sd, np.abs(found.sd[rows] / truth.sd - 1)
    row = {
        "objects": len(catalogue), "draws": DRAWS, "seconds_exact": exact, "seconds": photo, "ratio": photo / exact,
        "mean_rms": float(np.sqrt(np.mean(error[0] ** 2))), "mean_largest": float(error[0].max()),
        "sd_largest": float(error[1].max()),
    }  # fmt: skip
    print(
        f"{name}: {len(catalogue):,} objects, {DRAWS} draws: {photo:.1f} s, {photo / exact:.1f} times the {exact:.2f} s"
        f" with exact redshifts; mean of ln M off by {row['mean_rms']:.1e} sd (rms), {row['mean_largest']:.1e} at most;"
        f" sd by {row['sd_largest']:.1e} at most",
        flush=True,
    )
    return row


def table(name, number):
    """Whether a posterior surface pays: what `run --method auto` takes for so many objects of one error each."""
    kind = KINDS[name]
    prior, relation = prior_of(kind), relations(kind)
    *_, catalogue = universe(kind, prior, int(EXCESS * number), 1)
    catalogue = with_errors(catalogue.subset(np.arange(min(number, len(catalogue)))))

    def masses(method):
        return mm.mass_posterior(catalogue, prior, relation, relation_from="fixed_draws", method=method)

    integrated, exact = seconds_of(lambda: masses("analytic"))
    read, found = seconds_of(lambda: masses("surface"))
    row = {
        "objects": len(catalogue), "draws": DRAWS, "seconds_integrated": integrated, "seconds": read,
        "beside": found.num_beside_surface / len(catalogue),
        "mean_largest": float(np.max(np.abs(found.mean - exact.mean) / exact.sd)),
        "quantiles_largest": float(np.max(np.abs(found.quantiles - exact.quantiles) / exact.sd[:, None])),
    }  # fmt: skip
    print(
        f"{name}: {len(catalogue):,} objects, {DRAWS} draws: {read:.1f} s with a table, {integrated:.1f} s without;"
        f" {100 * row['beside']:.0f} % beside it; mean of ln M off by {row['mean_largest']:.1e} sd at most, quantiles"
        f" by {row['quantiles_largest']:.1e}",
        flush=True,
    )
    return row


def truth(name, number):
    kind = KINDS[name]
    prior, relation = prior_of(kind), relation_of(kind)
    z, ln_mass, catalogue = universe(kind, prior, int(EXCESS * number), 7)
    some = np.arange(min(number, len(catalogue)))
    z, ln_mass, catalogue = z[some], ln_mass[some], catalogue.subset(some)
    counts, edges = np.histogram(z, np.linspace(0.1, 0.9, 41))
    ways = {
        "right": with_errors(catalogue),
        "point z": catalogue,
        "luminosity held": with_errors(catalogue, lum_moves=False),
        "without n(z)": with_errors(catalogue, parent=(np.array([0.0, 1.0]), np.ones(2))),
        "N(z) of the catalogue": with_errors(catalogue, parent=(0.5 * (edges[1:] + edges[:-1]), counts + 0.1)),
        "flux seen": with_errors(catalogue, contains="posterior_with_flux"),
        "error inflated": with_inflated_errors(catalogue),
        "Jacobian": with_jacobian(catalogue, prior),
    }
    found = {"objects": some.size}
    for way, changed in ways.items():
        posterior = mm.mass_posterior(changed, prior, relation)
        low, q16, _, q84, high = posterior.quantiles.T
        bias = float(np.mean(posterior.mean - ln_mass))
        inside = [float(np.mean((ln_mass > a) & (ln_mass < b))) for a, b in ((q16, q84), (low, high))]
        summed = float(posterior.mean_mass.sum() / np.exp(ln_mass).sum())
        found[way] = {"bias": bias, "covered_68": inside[0], "covered_95": inside[1], "summed": summed}
        print(
            f"{name}, {way}: {some.size:,} objects, ln M off by {bias:+.3f}, intervals hold {100 * inside[0]:.2f} and"
            f" {100 * inside[1]:.2f} %, summed mass {summed:.3f}",
            flush=True,
        )
    return found


def shapes(name, number):
    """Largest error of the mean of ln M where p(z) of some shapes are told by quantiles or on a grid."""
    kind = KINDS[name]
    prior, relation = prior_of(kind), relation_of(kind)
    *_, catalogue = universe(kind, prior, int(2 * number), 3)
    catalogue = catalogue.subset(np.arange(number))
    middle = np.log1p(catalogue.redshift)[:, None]
    u = np.linspace(0.0, np.log1p(3.0), 40_001)
    # Densities of z, as codes give them.
    options = {"contains": "likelihood", "lum_moves": True, "num_nodes": MANY}
    rows = {}
    for shape in TOLD:
        weights, means, sds = (np.array(a) for a in SHAPES[shape])

        def density(u, parts=(weights, means, sds)):
            return np.sum([w * norm(middle + m, s).pdf(u) for w, m, s in zip(*parts, strict=True)], axis=0)

        def mean_and_sd(distributions):
            posterior = mm.mass_posterior(catalogue.with_redshifts(distributions), prior, relation)
            return posterior.mean, posterior.sd

        fine = np.expm1(np.arange(0.0, np.log1p(2.0), sds.min() / 12))
        exact, sd = mean_and_sd(
            mm.RedshiftDistributions.grid(fine, density(np.log1p(fine)) / (1 + fine), **options | {"num_nodes": 256})
        )
        cdf = np.cumsum(density(u), axis=1)
        errors = {}
        for levels in QUANTILES.values():
            level = np.array(levels) / 100
            values = np.expm1([np.interp(level, row / row[-1], u) for row in cdf])
            # Fewer than nine are refused, and this table says why.
            told = FromQuantiles(ndtri(level), values, _monotone_slopes(values, ndtri(level)))
            found, _ = mean_and_sd(mm.RedshiftDistributions(told, **options))
            errors[f"{level.size} quantiles"] = float(np.max(np.abs(found - exact) / sd))
        for step in STEPS:
            grid = np.expm1(np.arange(0.0, np.log1p(2.0), step * sds.min()))
            given = mm.RedshiftDistributions.grid(grid, density(np.log1p(grid)) / (1 + grid), **options)
            errors[f"grid, step {step:g} sd"] = float(np.max(np.abs(mean_and_sd(given)[0] - exact) / sd))
        rows[shape] = errors
        said = ", ".join(f"{way} {error:.1e}" for way, error in errors.items())
        print(f"{name}, p(z) {shape}: {number} masses, mean of ln M off by at most, in sd: {said}", flush=True)
    return rows


def skies(number):
    prior = prior_of(CLUSTERS)
    z, ln_mass, catalogue = universe(CLUSTERS, prior, int(1.35 * number * PER_SKY), 23)
    some = number * PER_SKY
    ln_m, together = drawn(prior, catalogue, np.arange(some), 200)
    ways = {
        "together": together,
        "apart": np.random.default_rng(4).permuted(together, axis=1),
        "point z": np.broadcast_to(catalogue.redshift[:some, None], together.shape),
    }
    found = {}
    for way, redshift in ways.items():
        pit = []
        for low, high in itertools.pairwise(EDGES):
            inside = (z[:some] >= low) & (z[:some] < high)
            true = np.where(inside, np.exp(ln_mass[:some]), 0.0).reshape(number, PER_SKY).sum(axis=1)
            mass = np.where((redshift >= low) & (redshift < high), np.exp(ln_m), 0.0)
            mass = mass.reshape(number, PER_SKY, -1).sum(axis=1)
            pit.append((mass < true[:, None]).mean(axis=1))
        pit = np.array(pit)
        covered = [float(np.mean((pit > a) & (pit < 1 - a))) for a in (0.16, 0.025)]
        found[way] = {"covered_68": covered[0], "covered_95": covered[1], "pit_of_first_slice": float(pit[0].mean())}
        print(
            f"slices of {number} skies, {way}: hold {100 * covered[0]:.1f} and {100 * covered[1]:.1f} %, mean PIT of"
            f" the first {pit[0].mean():.3f}",
            flush=True,
        )
    return found


def fits(number, seed=100):
    """Ranks of parameters that are drawn from their prior among the draws of fits, with redshift errors and without."""
    prior = prior_of(ALL)
    beliefs = mm.RelationPrior.parse(SBC)
    drawn_from = {name: np.asarray(v, float) for name, v in beliefs.sample(jax.random.key(seed), (number,)).items()}
    found, seconds = {"right": {}, "point z": {}}, []
    for i in range(number):
        true = {name: float(values[i]) for name, values in drawn_from.items()}
        kind = ALL | {"slope": true["alpha2"], "scatter": true["scatter"]}
        z, _, catalogue = universe(kind, prior, int(1.3 * PER_FIT), seed + i)
        catalogue = mm.HaloCatalogue.from_arrays(
            ln_luminosity=(catalogue.ln_lum_obs + true["alpha1"] + true["alpha4"] * np.log1p(z))[:PER_FIT],
            redshift=catalogue.redshift[:PER_FIT], sigma_ln_luminosity=ALL["sigma"],
        )  # fmt: skip
        ways = {"right": with_errors(catalogue)}
        if i % 3 == 0:  # the twin fails with fewer
            ways["point z"] = catalogue
        for way, some in ways.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = mm.fit_relation(some, prior, beliefs, num_draws=500, key=jax.random.key(i))
            seconds.append((way, time.perf_counter() - start))
            for name in fit.free:
                rank = float(np.mean(np.asarray(fit.draws.parameter(name)) < true[name]))
                found[way].setdefault(name, []).append(((fit.mean[name] - true[name]) / fit.sd[name], rank))
    rows = {}
    for way, parameters in found.items():
        for name, values in parameters.items():
            pull, rank = np.array(values).T
            p = float(kstest(rank, "uniform").pvalue)
            rows[f"{way}, {name}"] = {"pull": float(pull.mean()), "sd": float(pull.std()), "p_of_ranks": p}
            said = f"pull {pull.mean():+.2f}, its sd {pull.std():.2f}, ranks uniform p = {p:.1e}"
            print(f"{pull.size} fits, {way}, {name}: {said}", flush=True)
    median = float(np.median([s for way, s in seconds if way == "right"]))
    print(f"a fit to {PER_FIT} objects takes {median:.1f} s (median, compiled anew for each catalogue)", flush=True)
    return rows | {"seconds_median": median, "objects": PER_FIT, "fits": number, "beliefs": SBC}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--table", type=int, default=100_000)
    parser.add_argument("--truth", type=int, default=100_000)
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--skies", type=int, default=300)
    parser.add_argument("--fits", type=int, default=80)
    given = parser.parse_args()
    path = RESULTS / f"photo-z-{jax.default_backend()}.json"
    results: dict = {}
    for name in KINDS:
        if given.objects:
            results.setdefault("speed", {})[name] = speed(name, given.objects)
        if given.table:
            results.setdefault("table", {})[name] = table(name, given.table)
        if given.truth:
            results.setdefault("truth", {})[name] = truth(name, given.truth)
        if given.shapes:
            results.setdefault("shapes", {})[name] = shapes(name, given.shapes)
    if given.skies:
        results["skies"] = skies(given.skies)
    if given.fits:
        results["fits"] = fits(given.fits)
    # What was left out stays as an earlier run found it.
    results = (json.loads(path.read_text()) if path.exists() else {}) | results
    path.write_text(json.dumps(results | {"provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
