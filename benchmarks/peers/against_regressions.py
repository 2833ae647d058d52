"""Our fit with measured masses and the regressions astronomers use, linmix and BCES, on the same objects.

    pip install 'massmap_jax[peers]'
    pip install git+https://github.com/jmeyers314/linmix
    PYTHONPATH=benchmarks:tests python benchmarks/peers/against_regressions.py [--seeds 20 --splits 20] [--quick]

1. The model of linmix: masses lognormal, ln L linear in ln M with scatter, errors of both, nothing else. Ours (Gaussian
   population) and linmix have the same likelihood there, and should agree.
2. A catalogue as surveys make it: masses from a mass function, evolution with redshift, a limit in the observed
   luminosity, and measured masses with a scatter of their own that is correlated with that of L. Ours is told the
   limit, and has beliefs about scatter and correlation. The regressions have no place for these; they are given what
   they can use: luminosities freed of their true evolution, and the true scatter of the masses as part of their errors.
3. Half of the measured masses predicted from luminosities and redshifts, by fits to the other half: on the catalogues
   of 2 and, where $MASSMAP_TEST_DATA has them, on the X-ray observables and SZ masses of SPT-SZ clusters. linmix
   regresses ln M on ln L there, which is its best way to predict. ln p, CRPS and PIT are of the *measured* mass, with
   its error.

Writes results/peers-regressions.json, .md and .png. --quick is a dry run of fewer and smaller catalogues that does
without the codes that are not installed, and writes only with --output.
"""

import argparse
import json
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import equinox as eqx
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from astropy.cosmology import FlatLambdaCDM
from astropy.table import Table
from peers import regressions
from peers.regressions import HOW_TO_INSTALL, PARAMETERS, Data, Line, scores
from provenance import RESULTS, provenance

import massmap_jax as mm
from massmap_jax.checks.calibrators import predicted_masses
from massmap_jax.figures import style

PIVOT, MIDDLE_Z = 3e14, 0.5
TRUTH = {"slope": 1.3, "intercept": 1.0, "scatter": 0.3}  # the intercept is ln L at PIVOT and MIDDLE_Z
EVOLUTION, MASS_SCATTER, CORRELATION = 1.0, 0.1, 0.4
SIGMA, SIGMA_MASS = 0.1, 0.2  # the middle of the errors, which spread by a factor of 1.5 to both sides
LN_LUM_MIN = 0.6
BELIEFS = "alpha1=0:3,alpha2=1.3:0.7,alpha4={},scatter=0.3:0.3,alpha3=3e14"
DRAWS = 25  # of a fit that predicts: the masses it predicts are far less certain than the fit is
OURS, OURS_NORMAL = "massmap_jax, hmf_completeness", "massmap_jax, gaussian"
OURS_FIXED = "massmap_jax, mass function as it is"
LINMIX, BCES, LEAST_SQUARES = "linmix", "BCES", "least squares of ln M on ln L, ln(1+z)"
_CLOCKS = ("seconds", "cpu seconds")
SIMULATED = "simulated, with a limit in L"
# Observables of SPT-SZ clusters, and the exponent of E(z) in their self-similar evolution.
SPT = {"Yx": 2 / 3, "Mg": 0.0}


def mass_prior():
    return mm.MassPrior.from_cosmology(
        "Planck18", fit="Tinker08", mass_definition="500c", redshift=np.arange(0.0, 1.81, 0.1),
        log10_mass_range=(13.5, 16.0), support="sharp",
    )  # fmt: skip


def errors(rng, number):
    """Errors of ln L and ln M_obs; they differ between objects."""
    return (typical * rng.uniform(1 / 1.5, 1.5, number) for typical in (SIGMA, SIGMA_MASS))


def agreeing(number: int, seed: int) -> Data:
    """A catalogue of linmix's model: ln M is normal, and its errors are all that ln M_obs has."""
    rng = np.random.default_rng((1, number, seed))
    x = rng.normal(0.0, 0.5, number)
    sigma, sigma_mass = errors(rng, number)
    y = TRUTH["intercept"] + TRUTH["slope"] * x + np.hypot(TRUTH["scatter"], sigma) * rng.normal(size=number)
    return Data(y, x + sigma_mass * rng.normal(size=number), sigma, sigma_mass, rng.uniform(0.1, 0.9, number))


def surveyed(prior, number: int, seed: int) -> Data:
    """A catalogue of halos from the mass function with L_obs above the limit; ln L is freed of its evolution."""
    rng = np.random.default_rng((2, number, seed))
    nodes, z_nodes = np.asarray(prior.ln_mass_nodes), np.asarray(prior.redshift_nodes)
    t = np.linspace(nodes[0], nodes[-1], 2001)
    grid = np.arange(0.1, 0.9, 0.01) + 0.005
    table = np.array([[np.interp(z, z_nodes, column) for column in np.asarray(prior.ln_density).T] for z in grid])
    cdf = np.cumsum([np.exp(np.interp(t, nodes, row)) for row in table], axis=1)
    parts, found = [], 0
    while found < number:
        drawn = 20_000
        row = rng.integers(0, grid.size, drawn)
        u = rng.random(drawn) * cdf[row, -1]
        x = np.array([t[np.searchsorted(cdf[i], v)] for i, v in zip(row, u, strict=True)]) - np.log(PIVOT)
        sigma, sigma_mass = errors(rng, drawn)
        first, second = rng.normal(size=(2, drawn))
        y = TRUTH["intercept"] + TRUTH["slope"] * x + TRUTH["scatter"] * first + sigma * rng.normal(size=drawn)
        m = x + MASS_SCATTER * (CORRELATION * first + np.sqrt(1 - CORRELATION**2) * second)
        m = m + sigma_mass * rng.normal(size=drawn)
        kept = y + evolution(grid[row]) > LN_LUM_MIN
        parts.append(np.stack([y, m, sigma, sigma_mass, grid[row]])[:, kept])
        found += int(kept.sum())
    return Data(*np.concatenate(parts, axis=1)[:, :number])


def evolution(z):
    return EVOLUTION * np.log((1 + z) / (1 + MIDDLE_Z))


def with_scatter(data: Data) -> Data:
    """The same with the scatter of the masses as part of their errors, for codes that know no other."""
    return data._replace(sigma_mass=np.hypot(data.sigma_mass, MASS_SCATTER))


def catalogue_of(data: Data, ln_evolution) -> mm.HaloCatalogue:
    return mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(data.ln_lum + ln_evolution), redshift=data.z, sigma_ln_luminosity=data.sigma
    )


def masses_of(data: Data, rows=None, **beliefs) -> mm.CalibrationMasses:
    """The measured masses, or those of some rows only."""
    ln_mass = np.full(data.z.size, np.nan)
    rows = np.arange(data.z.size) if rows is None else rows
    ln_mass[rows] = data.ln_mass[rows] + np.log(PIVOT)
    return mm.CalibrationMasses.from_arrays(mass=np.exp(ln_mass), sigma_ln_mass=data.sigma_mass, **beliefs)


def beliefs_about(evolves: str) -> mm.RelationPrior:
    return mm.RelationPrior.parse(BELIEFS.format(evolves))


SURVEY_BELIEFS = {"scatter": "0.1:0.03", "scatter_correlation": "0.3:0.3"}


def our_line(catalogue, prior, masses, evolves, **options) -> Line:
    begin = time.perf_counter(), time.process_time()
    fit = mm.fit_relation(catalogue, prior, beliefs_about(evolves), calibration=masses, **options)
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    draws = fit.draws
    intercept = np.asarray(draws.alpha1) + np.asarray(draws.alpha4) * np.log(1 + MIDDLE_Z)
    columns = np.stack([np.asarray(draws.alpha2), intercept, np.asarray(draws.scatter)])
    return Line(columns.mean(axis=1), columns.std(axis=1), *seconds)


def our_prediction(catalogue, prior, data: Data, known, asked, evolves, population, selection=None, **beliefs) -> dict:
    masses = masses_of(data, known, **beliefs)
    fit = mm.fit_relation(
        catalogue, prior, beliefs_about(evolves), calibration=masses, population=population, selection=selection,
        num_draws=DRAWS,
    )  # fmt: skip
    everyone = masses_of(data, **beliefs)

    def cdf(ln_mass):
        columns = []
        for column in ln_mass.T:
            moved = np.array(everyone.ln_mass)
            moved[asked] = column + np.log(PIVOT)
            moved = eqx.tree_at(lambda c: c.ln_mass, everyone, moved)
            columns.append(predicted_masses(fit, catalogue, prior, moved, asked, "nothing")[0][:, 0])
        return np.stack(columns, axis=1)

    ln_density = predicted_masses(fit, catalogue, prior, everyone, asked, "nothing")[1]
    return scores(cdf, ln_density, data.ln_mass[asked])


def halves(seed: int, number: int):
    order = np.random.default_rng((3, seed)).permutation(number)
    return order[: number // 2], order[number // 2 :]


def spt(column: str):
    """Clusters of SPT-SZ with an X-ray observable: Data and ln of its self-similar evolution; None without the file.

    Their masses are posteriors, and the fits would refuse them as such. They are called measurements here because this
    compares codes on equal terms, in how they predict these numbers; it calibrates nothing.
    """
    path = Path(os.environ.get("MASSMAP_TEST_DATA", "")) / "spt" / "SPT2500d.fits"
    if "MASSMAP_TEST_DATA" not in os.environ or not path.is_file():
        return None
    table = Table.read(path)
    value, error = (np.asarray(table[f"{column}_{kind}"], dtype=float) for kind in ("fid", "err"))
    mass, upper, lower = (np.asarray(table[f"M500{kind}"], dtype=float) for kind in ("", "_uerr", "_lerr"))
    z = np.asarray(table["redshift"], dtype=float)
    good = (value > 0) & (mass > 0) & (error > 0)
    ln_evolution = SPT[column] * np.log(FlatLambdaCDM(70, 0.3).efunc(z[good]))
    ln_lum = np.log(value[good] / np.median(value[good]))
    sigma_mass = 0.5 * (upper + lower)[good] / mass[good]
    ln_mass = np.log(1e14 * mass[good] / PIVOT)
    return Data(ln_lum - ln_evolution, ln_mass, error[good] / value[good], sigma_mass, z[good]), ln_evolution


def lines(prior, given, codes, pool) -> dict:
    """Fits of all codes to the simulations: lists of Line, by simulation and code."""
    cases = [(f"linmix's model, {number}", number, agreeing) for number in given.halos]
    cases += [(SIMULATED + f", {given.survey}", given.survey, lambda n, s: surveyed(prior, n, s))]
    found = {}
    for name, number, make in cases:
        catalogues = [make(number, seed) for seed in range(given.seeds)]
        for_peers = catalogues if make is agreeing else [with_scatter(data) for data in catalogues]
        found[name] = {}
        if make is agreeing:
            normal = mm.Population.gaussian(drift=False)
            found[name][OURS_NORMAL] = [
                our_line(catalogue_of(d, 0.0), prior, masses_of(d), "0", population=normal) for d in catalogues
            ]
        else:
            for code, population in ((OURS, mm.Population.hmf_completeness()), (OURS_FIXED, mm.Population.fixed())):
                found[name][code] = [
                    our_line(
                        catalogue_of(d, evolution(d.z)), prior, masses_of(d, **SURVEY_BELIEFS), "1:2",
                        population=population, selection=LIMIT,
                    )
                    for d in catalogues
                ]  # fmt: skip
        if "linmix" in codes:
            jobs = [pool.submit(regressions.by_linmix, d, seed, given.iterations) for seed, d in enumerate(for_peers)]
            found[name][LINMIX] = [job.result() for job in jobs]
        if "bces" in codes:
            found[name][BCES] = [regressions.by_bces(d, seed) for seed, d in enumerate(for_peers)]
        print(f"fitted: {name}", flush=True)
    return found


LIMIT = mm.FluxLimit(float(np.exp(LN_LUM_MIN)))


def predictions(prior, given, codes, pool) -> dict:
    """Scores of all codes: lists of dicts, one for each split, by data set and code."""
    cases = {SIMULATED: [surveyed(prior, given.survey, seed) for seed in range(given.splits)]}
    options = {SIMULATED: {"selection": LIMIT, **SURVEY_BELIEFS}}
    evolutions = {SIMULATED: evolution}
    for column in SPT:
        found = spt(column)
        if found is None:
            print(f"no spt/SPT2500d.fits in the folder that MASSMAP_TEST_DATA names: {column} of SPT-SZ is left out")
            continue
        name = f"SPT-SZ, {column}"
        cases[name], options[name] = [found[0]] * given.splits, {}
        evolutions[name] = lambda z, values=found[1]: values
    result = {}
    for name, catalogues in cases.items():
        simulated = name == SIMULATED
        parts = [halves(seed, data.z.size) for seed, data in enumerate(catalogues)]
        result[name] = {}
        for code, population in (
            (OURS, mm.Population.hmf_completeness()),
            (OURS_NORMAL, mm.Population.gaussian()),
        ):
            result[name][code] = [
                our_prediction(
                    catalogue_of(data, evolutions[name](data.z)), prior, data, *part, "1:2", population, **options[name]
                )
                for data, part in zip(catalogues, parts, strict=True)
            ]
        for_peers = [with_scatter(data) if simulated else data for data in catalogues]
        pairs = [tuple(data.take(rows) for rows in part) for data, part in zip(for_peers, parts, strict=True)]
        if "linmix" in codes:
            jobs = [
                pool.submit(regressions.predicted_by_linmix, *pair, seed, given.iterations)
                for seed, pair in enumerate(pairs)
            ]
            result[name][LINMIX] = [job.result() for job in jobs]
        if "bces" in codes:
            result[name][BCES] = [regressions.predicted_by_bces(*pair) for pair in pairs]
        # Least squares finds the evolution itself.
        full = [data._replace(ln_lum=data.ln_lum + evolutions[name](data.z)) for data in catalogues]
        pairs = [tuple(data.take(rows) for rows in part) for data, part in zip(full, parts, strict=True)]
        result[name][LEAST_SQUARES] = [regressions.predicted_by_least_squares(*pair) for pair in pairs]
        print(f"predicted: {name}", flush=True)
    return result


def summary_of_lines(found: dict) -> dict:
    """Of each code: errors, biases, intervals and times; and how far it is from ours on the same catalogues."""
    table = {}
    for case, codes in found.items():
        ours = next(iter(codes.values()))
        table[case] = {}
        for code, each in codes.items():
            value, error = (np.array([getattr(line, what) for line in each]) for what in ("value", "error"))
            pull = (value - np.array([TRUTH[p] for p in PARAMETERS])) / error
            seconds, cpu = (np.array([getattr(line, what) for line in each]) for what in ("seconds", "cpu_seconds"))
            row = {
                p: {
                    "truth": TRUTH[p],
                    "mean": float(value[:, i].mean()),
                    "mean error": float(error[:, i].mean()),
                    "rms off": float(np.sqrt(np.mean((value[:, i] - TRUTH[p]) ** 2))),
                    "bias [error]": [float(pull[:, i].mean()), float(pull[:, i].std(ddof=1) / len(each) ** 0.5)],
                    "within 68 %": float((np.abs(pull[:, i]) < 1).mean()),
                    "rms difference to ours [error]": float(
                        np.sqrt(np.mean([((a.value[i] - b.value[i]) / a.error[i]) ** 2 for a, b in zip(ours, each)]))
                    ),
                }
                for i, p in enumerate(PARAMETERS)
            }
            row |= {"seconds": float(np.median(seconds[1:])), "cpu seconds": float(np.median(cpu[1:]))}
            if code in (OURS, OURS_NORMAL, OURS_FIXED):
                row |= {"seconds, first": float(seconds[0]), "cpu seconds, first": float(cpu[0])}
            table[case][code] = row
    return table


def summary_of_predictions(found: dict) -> dict:
    """Means over the splits, and differences of each code to ours with their errors.

    Splits of one catalogue share its objects: the variance over the splits counts 1 / splits + 1 times (Nadeau & Bengio
    2003, as in `compare_populations`). Simulated catalogues are independent.
    """
    table = {}
    for case, codes in found.items():
        ours = codes[OURS]
        table[case] = {}
        for code, each in codes.items():
            columns = {name: np.array([split[name] for split in each]) for name in each[0]}
            row = {name: float(column.mean()) for name, column in columns.items()}
            row |= {f"{name}, sd over splits": float(column.std(ddof=1)) for name, column in columns.items()}
            shared = 0.0 if case == SIMULATED else 1.0
            for name in ("ln p", "CRPS"):
                less = columns[name] - np.array([split[name] for split in ours])
                error = less.std(ddof=1) * np.sqrt(1 / less.size + shared)
                row[f"{name}, minus ours"] = [float(less.mean()), float(error)]
            table[case][code] = row
    return table


def markdown(fitted: dict, predicted: dict) -> str:
    text = []
    for case, codes in fitted.items():
        text += [f"**Fits: {case} objects.** Bias and difference to ours in units of the error.", ""]
        text += ["| code | parameter | truth | mean | error | rms off | bias | within 68 % | rms difference to ours |"]
        text += ["|---|---|---|---|---|---|---|---|---|"]
        for code, row in codes.items():
            for p in PARAMETERS:
                r = row[p]
                bias = "{:+.2f} +- {:.2f}".format(*r["bias [error]"])
                text += [
                    f"| {code} | {p} | {r['truth']} | {r['mean']:.3f} | {r['mean error']:.3f} | {r['rms off']:.3f} |"
                    f" {bias} | {r['within 68 %']:.0%} | {r['rms difference to ours [error]']:.2f} |"
                ]
        text += ["", "| code | s per fit | CPU s | s of the first, with compilation | CPU s |", "|---|---|---|---|---|"]
        for code, row in codes.items():
            first = [f"{row[f'{kind}, first']:.3g}" if f"{kind}, first" in row else "" for kind in _CLOCKS]
            text += [f"| {code} | {row['seconds']:.3g} | {row['cpu seconds']:.3g} | {first[0]} | {first[1]} |"]
        text += [""]
    for case, codes in predicted.items():
        text += [f"**Held-out masses: {case}.** Larger ln p and smaller CRPS are better.", ""]
        text += ["| code | ln p | minus ours | CRPS | within 68 % | within 95 % | mean PIT |"]
        text += ["|---|---|---|---|---|---|---|"]
        for code, r in codes.items():
            less = "" if code == OURS else "{:+.3f} +- {:.3f}".format(*r["ln p, minus ours"])
            text += [
                f"| {code} | {r['ln p']:.3f} | {less} | {r['CRPS']:.4f} | {r['within 68 %']:.1%} |"
                f" {r['within 95 %']:.1%} | {r['mean PIT']:.3f} |"
            ]
        text += [""]
    return "\n".join(text)


def verdicts(fitted: dict, predicted: dict) -> list[str]:
    """Where ours is not the best: where another code is nearer to the truth in the rms, or predicts better."""
    told = []
    for case, codes in fitted.items():
        ours = next(iter(codes))
        for p in PARAMETERS:
            for code, row in codes.items():
                theirs, own = (r[p]["rms off"] for r in (row, codes[ours]))
                if theirs < own:
                    told.append(f"{case} objects, {p}: {code} is off by {theirs:.4f} in the rms, {ours} by {own:.4f}")
    for case, codes in predicted.items():
        for code, row in codes.items():
            less, error = row["ln p, minus ours"]
            if code != OURS and less > 0:
                told.append(f"{case}: {code} predicts better, ln p higher by {less:.3f} +- {error:.3f} for one object")
    return told


def draw(fitted: dict, predicted: dict, path):
    with mpl.rc_context(style.STYLE):
        figure, axes = plt.subplots(1, 2 + len(predicted), figsize=(7.0, 2.8), layout="constrained")
        short = {OURS: "ours", OURS_NORMAL: "ours, gaussian", OURS_FIXED: "ours, fixed"}
        short |= {LINMIX: "linmix", BCES: "BCES", LEAST_SQUARES: "OLS"}
        palette = (style.BLUE, style.SKY_BLUE, style.PURPLE, style.VERMILLION, style.GREEN, style.ORANGE)
        colours = dict(zip(short, palette, strict=True))
        rows = [(case, code) for case, codes in fitted.items() for code in codes]
        at = -np.arange(len(rows))
        for ax, p in zip(axes, ("slope", "scatter"), strict=False):
            for y, (case, code) in zip(at, rows, strict=True):
                r = fitted[case][code][p]
                ax.errorbar(r["mean"], y, xerr=r["mean error"], fmt="o", ms=3, color=colours[code])
            ax.axvline(TRUTH[p], color=style.GREY, lw=0.8, ls="--")
            ax.set(xlabel=p, ylim=(at[-1] - 0.6, 0.6))
            ax.set_yticks([])
        labels = [f"{short[code]}\n{case.split(',')[0]} {case.split(',')[-1]}" for case, code in rows]
        axes[0].set_yticks(at, labels, fontsize=5)
        for ax, (case, codes) in zip(axes[2:], predicted.items(), strict=True):
            for y, (code, r) in enumerate(codes.items()):
                less, error = r["ln p, minus ours"]
                ax.errorbar(less, -y, xerr=error, fmt="o", ms=3, color=colours[code])
            ax.axvline(0, color=style.GREY, lw=0.8, ls="--")
            ax.set_yticks(-np.arange(len(codes)), [short[code] for code in codes], fontsize=5)
            ax.set(xlabel="held-out ln p,\nminus ours", title=case.replace(", ", ",\n"))
        figure.savefig(path)
        plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="catalogues of each simulation, at least 2")
    parser.add_argument("--splits", type=int, default=20, help="random halves of each data set, at least 2")
    parser.add_argument("--halos", type=int, nargs="+", default=[200, 1000], help="objects of the first simulations")
    parser.add_argument("--survey", type=int, default=500, help="objects of the catalogue with a limit")
    parser.add_argument("--iterations", type=int, default=1000, help="least iterations of a linmix chain; it has 4")
    parser.add_argument("--quick", action="store_true", help="a dry run: 2 seeds, 2 splits, 64 objects")
    parser.add_argument("--output", type=Path, default=None, help="path of the .json; .md and .png are beside it")
    given = parser.parse_args()
    if min(given.seeds, given.splits) < 2:
        parser.error("at least 2 seeds and 2 splits: the tables give their scatter")
    if given.quick:
        given.seeds, given.splits, given.halos, given.survey, given.iterations = 2, 2, [64], 64, 200
    missing = regressions.missing()
    for name in missing:
        print(f"{name} is not installed: {HOW_TO_INSTALL[name]}")
    if missing and not given.quick:
        raise SystemExit("the comparison needs these codes; --quick does without them")
    warnings.filterwarnings("ignore")
    codes = [name for name in HOW_TO_INSTALL if name not in missing]
    prior = mass_prior()
    begin = time.perf_counter()
    # linmix takes one core; as many of its fits run at a time as there are cores, while ours are not running.
    with ProcessPoolExecutor(provenance()["cores"], mp_context=multiprocessing.get_context("spawn")) as pool:
        fitted = summary_of_lines(lines(prior, given, codes, pool))
        predicted = summary_of_predictions(predictions(prior, given, codes, pool))
    text = markdown(fitted, predicted)
    worse = verdicts(fitted, predicted)
    text += "\n".join(["**Where ours is not the best:**", "", *(f"- {line}" for line in worse or ["nowhere"]), ""])
    print(text)
    output = given.output or (None if given.quick else RESULTS / "peers-regressions.json")
    if output is None:
        return
    found = {
        **provenance(),
        "peers": {name: version(name) for name in codes},
        "settings": {name: getattr(given, name) for name in ("seeds", "splits", "halos", "survey", "iterations")},
        "seconds in all": time.perf_counter() - begin,
        "fits": fitted,
        "held-out masses": predicted,
        "where ours is not the best": worse,
    }
    output.write_text(json.dumps(found, indent=2) + "\n")
    output.with_suffix(".md").write_text(text)
    draw(fitted, predicted, output.with_suffix(".png"))


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    main()
