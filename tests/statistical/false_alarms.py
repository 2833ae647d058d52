"""Measure how often each statistical check fails by chance, and how surely it finds the mistakes it is for.

    PYTHONPATH=tests python tests/statistical/false_alarms.py [--keys 200] [--only NAME] [--minutes 30]
    PYTHONPATH=tests python tests/statistical/false_alarms.py --rounding NAME [--files FILE ...]
    PYTHONPATH=tests python tests/statistical/false_alarms.py --table

The first runs the checks on fresh keys, the same functions that the tests call, and appends to FALSE_ALARMS.json: keys
that are there are not run again, so it may be stopped and gone on with. The second runs the tests of fixed draws under
the XLA_FLAGS of the environment and keeps under NAME the values of what they assert; two such runs show how far
rounding moves them. The third writes FALSE_ALARMS.md of what there is; the first writes it as well.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, gumbel_l, gumbel_r, kstest, kstwobign, norm

from statistical import test_joint_sbc, test_mcmc, test_relation_sbc
from statistical.two_keys import LEVEL

HERE = Path(__file__).resolve().parent
RECORD, TABLE = HERE / "FALSE_ALARMS.json", HERE / "FALSE_ALARMS.md"
# Keys of the tests are small numbers: these are others.
FIRST_KEY = 1000
POWER_KEYS = 20


class Check(NamedTuple):
    """A check of chains, whose result is another one on every machine.

    test : where it is called. statistic : in words. p_value : of (key, found=dict). wrong : names of mistakes and their
    p values, of a key. limits : {name in found: (limit, "above" or "below" is bad)}. keys : that a full run measures.
    """

    test: str
    statistic: str
    p_value: Callable
    wrong: dict
    limits: dict
    keys: int
    two_keys: bool = True


def methods(key, **options):
    from relation import test_relation_fit

    return test_relation_fit.p_of_methods(key, **options)


def calibrators(key, found=None, **mistake):
    from checks import test_calibrators

    return test_calibrators.p_of_brightest(key, **mistake)


def job(key, found, scatter_factor=1.0):
    """As `test_job.py` compares the program's masses by NUTS with the grid's: as many halos, draws and chains."""
    import jax
    from run import test_job

    from massmap_jax.models.runner import sample_halo_masses
    from massmap_jax.posterior.mass_posterior import mass_posterior
    from statistical import universe

    _, ln_lum, z = universe.simulate(np.random.default_rng(12), test_job.NUM_HALOS)
    objects, prior = universe.catalogue(ln_lum, z), universe.package_prior()
    drawn = sample_halo_masses(jax.random.key(key), objects, prior, universe.package_relation())
    scatter = scatter_factor * universe.TRUTH.scatter
    grid = mass_posterior(objects, prior, universe.package_relation(scatter=scatter))
    found |= {
        "worst score": np.max(np.abs(drawn.mean - grid.mean) / drawn.sd * np.sqrt(drawn.ess)),
        "median ess": np.median(drawn.ess),
        "r_hat of 98 %": np.quantile(drawn.r_hat, 0.98),
    }
    return 1.0


def scatter_mistakes(p_value, factors=(0.9, 1.1)):
    return {f"scatter x {f}": lambda key, f=f: p_value(key, scatter_factor=f) for f in factors}


FIELD = partial(test_mcmc.p_of_the_field, keys_at_once=20)
FIELD_AND_MARGINAL = partial(test_mcmc.p_of_field_and_marginal, keys_at_once=20)
MIXED = {"r_hat": (1.01, "above"), "ess": (400, "below"), "tail ess": (400, "below")}
joint_model = cache(test_joint_sbc.Model)
CHECKS = {
    "each halo": Check(
        "test_mcmc.py::test_nuts_of_each_halo_agrees_with_the_grid",
        "mean, spread and KS of PITs, 100 halos",
        test_mcmc.p_of_each_halo,
        scatter_mistakes(test_mcmc.p_of_each_halo),
        MIXED,
        200,
    ),
    "field": Check(
        "test_mcmc.py::test_field_with_a_known_relation_agrees_with_the_grid",
        "mean, spread and KS of PITs, 100 halos",
        FIELD,
        scatter_mistakes(FIELD),
        MIXED,
        200,
    ),
    "field and marginal": Check(
        "test_mcmc.py::test_field_and_marginal_models_agree_on_the_relation",
        "two moments of four parameters",
        FIELD_AND_MARGINAL,
        scatter_mistakes(FIELD_AND_MARGINAL, (0.9,)),
        {"r_hat": (test_mcmc.MOST_R_HAT_RELATION, "above")},
        200,
    ),
    "methods of the fit": Check(
        "test_relation_fit.py::test_methods_agree_and_find_the_truth",
        "means and sds of four parameters",
        methods,
        scatter_mistakes(methods, (0.9,)),
        {"r_hat": (1.01, "above"), "ess bulk": (400, "below"), "ess tail": (400, "below")},
        200,
    ),
    "masses of a job": Check(
        "test_job.py::test_nuts_agrees_with_the_grid",
        "largest score of 400 means; R-hat and ESS",
        job,
        {},
        {"worst score": (8.0, "above"), "median ess": (150, "below"), "r_hat of 98 %": (1.05, "above")},
        200,
        two_keys=False,
    ),
    "joint SBC": Check(
        "test_joint_sbc.py::test_right_model",
        "KS of ranks of 11 parameters, 60 universes",
        lambda key, found: test_joint_sbc.p_of_right_model(key, joint_model(), number=60),
        {
            "errors of the masses x 0.6": lambda key: test_joint_sbc.p_of_right_model(
                key, joint_model(), number=60, change=test_joint_sbc.understated
            ),
        },
        {},
        200,
    ),
    "calibrators, the brightest": Check(
        "test_calibrators.py::test_a_choice_by_luminosity_is_no_false_alarm",
        "calibrators_check, masses of the 200 brightest of 2,000",
        calibrators,
        {
            "errors of the masses / 3": partial(calibrators, errors=3.0),
            "masses as M^0.5": partial(calibrators, slope=0.5),
        },
        {},
        200,
    ),
    "SBC by NUTS": Check(
        "test_relation_sbc.py::test_nuts_at_50_halos[None]",
        "KS of ranks of four parameters, 200 fields",
        lambda key, found: test_relation_sbc.p_of_nuts(key, None, 5, 200),
        {},
        {},
        4,
    ),
    "SBC by NUTS, flux limit": Check(
        "test_relation_sbc.py::test_nuts_at_50_halos[9.3]",
        "KS of ranks of four parameters, 100 fields",
        lambda key, found: test_relation_sbc.p_of_nuts(key, test_relation_sbc.LN_LIMIT, 1, 100),
        {},
        {},
        2,
    ),
}


def read():
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def keep(change):
    """Change what is recorded. It is read anew: another run of this script may have added to it."""
    record = read()
    change(record)
    written = RECORD.with_suffix(f".{os.getpid()}")
    written.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(written, RECORD)


def measure(name, check, keys, until):
    """Run what keys are missing, and keep each as it comes."""
    rows = read().get("checks", {}).get(name, {})
    for key in range(FIRST_KEY, FIRST_KEY + keys):
        if str(key) in rows:
            continue
        if time.monotonic() > until:
            return
        found = {}
        row = {"p": check.p_value(key, found=found)}
        row |= {"found": {k: float(v) for k, v in found.items()}}
        # The mistakes give p values of 1e-50 and less: fewer keys show the power.
        if key < FIRST_KEY + POWER_KEYS:
            row["wrong"] = {mistake: p_value(key) for mistake, p_value in check.wrong.items()}
        keep(
            lambda record, key=str(key), row=row: (
                record.setdefault("checks", {}).setdefault(name, {}).update({key: row})
            )
        )
        print(f"{name}, key {key}: p {row['p']:.3g}, wrong {row.get('wrong')}", flush=True)


def tail_beyond(values, limit, side):
    """Probability that the worst of many is beyond its limit, by a Gumbel fit.

    R-hat - 1 and squared scores are near multiples of a chi-square, whose largest of many is Gumbel's. Effective
    numbers of draws are positive and skew: the logarithm of the smallest is fitted.
    """
    if side == "above":
        return float(gumbel_r.sf(limit, *gumbel_r.fit(values)))
    return float(gumbel_l.cdf(np.log(limit), *gumbel_l.fit(np.log(values))))


def one_key(check, rows):
    """Of one key: alarms seen, probability of p < LEVEL (nominal, or fitted where larger), probability of bad mixing."""
    p = np.array([row["p"] for row in rows.values()])
    # -ln p is exponential beyond p = 0.2 if the model is right; a heavier tail has a longer scale.
    beyond = -np.log(np.maximum(p[p < 0.2], 1e-300) / 0.2)
    fitted = beyond.size / p.size * np.exp(-np.log(0.2 / LEVEL) / beyond.mean()) if beyond.size > 5 else 0.0
    mixing = sum(
        tail_beyond([row["found"][name] for row in rows.values()], *limit) for name, limit in check.limits.items()
    ) if p.size > 5 else 0.0  # fmt: skip
    return int((p < LEVEL).sum()), max(LEVEL, float(fitted)), mixing


def uniformity(p):
    """KS that p values are uniform. Bonferroni's are 1 too often, so those above 0.5 are left out."""
    low = p[p < 0.5]
    return kstest(2 * low, "uniform").pvalue if low.size > 5 else np.nan


# -- draws that are fixed --------------------------------------------------------------------------------------------

# Files whose statistical assertions are of draws fixed by a key: JAX's and NumPy's generators give the same bits on
# every machine, and what follows is smooth, so only rounding can move a value.
FILES = (
    "checks/test_calibrators.py", "checks/test_checks.py", "checks/test_ecdf_bands.py", "checks/test_shape.py",
    "checks/test_wide_draws.py",
    "halo/test_lognormal.py", "likelihood/test_likelihood.py",
    "maps/test_host_map.py", "maps/test_lensing.py", "maps/test_map_kinds.py", "maps/test_mass_likelihoods.py",
    "maps/test_mass_map.py", "maps/test_quantile_table.py", "maps/test_regions.py", "maps/test_uncertain_slices.py",
    "models/test_models.py", "posterior/test_hosts.py", "posterior/test_linear_redshifts.py",
    "posterior/test_posterior.py", "posterior/test_several_observables.py",
    "posterior/test_surface.py", "posterior/test_uncertain_completeness.py", "posterior/test_uncertain_redshifts.py", "prior/test_prior.py",
    "reference/test_reference_agrees.py", "relation/test_adapt.py", "relation/test_cosmology_fit.py",
    "relation/test_joint_fit.py", "relation/test_linear.py", "relation/test_presets.py", "relation/test_relation.py",
    "relation/test_relation_fit.py", "relation/test_ridge.py", "relation/test_several.py",
    "run/test_job.py", "run/test_mass_likelihood_runs.py", "scale/test_lsdb.py",
    "statistical/test_cosmology_sbc.py", "statistical/test_coverage.py", "statistical/test_joint_sbc.py",
    "statistical/test_map_calibration.py", "statistical/test_mass_likelihoods.py", "statistical/test_mcmc.py",
    "statistical/test_mixtures.py",
    "statistical/test_relation_sbc.py", "statistical/test_samplers.py", "statistical/test_satellites.py",
    "statistical/test_several.py", "statistical/test_shear.py", "statistical/test_stacks.py", "test_simulate.py",
)  # fmt: skip
# Others with such words compare numbers that no chance is in, or a formula with SciPy's.
EXACT = {
    "checks/test_populations.py", "figures/test_plot.py", "maps/test_map_io.py", "prior/test_cosmology_draws.py",
    "prior/test_panels.py", "run/test_pictures.py",
}  # fmt: skip
# What marks an assertion as statistical, and not as one of a numerical error or of a kind.
MARKS = re.compile(
    r"pvalue|\bp(_of\w*|_believed)?\b(\(.*\))? ?[<>] (1e-|RARE|LEVEL)|p\.min\(\)|max\(p\)|p\[0\]|min\(p\[1:\]\)|check_with_two_keys|np\.sqrt\((NUM|size|share|40|20|"
    r"p\.size|MAP_DRAWS|DRAWS|pairs|2 \* |400|4000|20_000|40_000|z\.size|variance)|[456] \* error|4\.8 \* error|5 \* sd|"
    r"false_alarms|smallest_p|alarms|\btotal\) <|\berror\b.*< 5|4 \* reference\.sd|corrcoef|means\[0\]|is_calibrated|"
    r"\b(check|far|off_by_a_cell|draws, level=1e-4\))\.fits\b|calibrated\b|num_pairs|std\(\) / np\.sqrt|score\.std|0\.7 <"
)


def assertions_of(files, folder):
    """Run the tests with statistical assertions: {test | assertion: values} of these; and pytest's last line."""
    tests = dict.fromkeys(str(HERE.parent / test) for test, _ in assertions_in(files))
    out = Path(folder) / "assertions.jsonl"
    out.touch()
    environment = os.environ | {"MASSMAP_TEST_ASSERTIONS": str(out)}
    plugin = ["-p", "statistical.assertions", "-o", "enable_assertion_pass_hook=true", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, *tests],
        cwd=HERE.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = {}
    for line in map(json.loads, out.read_text().splitlines()):
        if MARKS.search(line["assert"]):
            found.setdefault(f"{line['test']} | {in_one_line(line['assert'])}", []).append(line["values"])
    return found, [line for line in ran.stdout.strip().splitlines() if re.search(r"\bpassed\b|\bfailed\b", line)][-1:]


def in_one_line(text):
    """The words of an assertion as they are recorded: its line moves with every change above it."""
    return " ".join(text.split())


NUMBER = r"(?:np\.float(?:64|32)\()?(-?\d+\.?\d*(?:e[+-]?\d+)?)\)?"
COMPARISON = re.compile(rf"^\(?{NUMBER} (<=?|>=?) \(?{NUMBER}(?: ([*/]) {NUMBER}\))?")


def margins(values):
    """[(value, sign, limit)] of the assertions whose first comparison is of two numbers."""
    found = []
    for text in values:
        if seen := COMPARISON.match(text):
            limit, other = float(seen[3]), float(seen[5] or 1)
            found.append((float(seen[1]), seen[2], limit / other if seen[4] == "/" else limit * other))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, help="of each check (default: as many as the list says)")
    parser.add_argument("--only", choices=CHECKS)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no key after so long")
    parser.add_argument("--rounding", metavar="NAME")
    parser.add_argument("--files", nargs="+", default=FILES)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    if given.rounding:
        with tempfile.TemporaryDirectory() as folder:
            found, last = assertions_of(given.files, folder)

        def add(record):
            run = record.setdefault("rounding", {}).setdefault(given.rounding, {"assertions": {}, "pytest": []})
            run["assertions"] |= found
            run["pytest"] += last

        keep(add)
        print(len(found), "assertions;", *last)
    elif not given.table:
        for name, check in CHECKS.items():
            if given.only in (None, name):
                measure(name, check, given.keys or check.keys, until)
    TABLE.write_text(write_table(read()))


TEXT = """# False alarms of the statistical tests

Written by `false_alarms.py` from `FALSE_ALARMS.json`; do not edit. "Per run" is the probability that a right package
fails the test in one run of the suite.

There are two kinds of tests. Chains (MCMC) take another path wherever rounding differs: another machine, number of
threads or version of XLA. Their result is a new draw each time, so they are measured over fresh keys, and they fail
only if two independent keys fail (`two_keys.py`). All other tests have draws that a key fixes: the generators of JAX
and NumPy give the same bits everywhere, and what is computed from them is smooth. There only rounding can move a
value, and the second table shows by how much it does.

## Chains

"Alarms" are single keys with p < {level:g} or badly mixed chains. "p of one key" is the larger of the nominal {level:g} and of
an exponential fit to the smallest fifth of the p values. "Mixing" is the probability, of one key, that R-hat or an
effective number of draws misses its limit, by Gumbel fits to the worst of all halos or parameters. The probability per
run is the square of their sum, but for the one test without a second key. "Uniform" is the KS p value that the p values are uniform. The power is the share of
keys at which the mistake is noticed, with the largest p value seen.

| test | statistic | keys | alarms | uniform | p of one key | mixing | per run | power against mistakes |
|---|---|---|---|---|---|---|---|---|
"""

FIXED_TEXT = """
## Fixed draws

"At" is the value nearest to its limit of those that one assertion compares, "moved" by how much a value moves between
the settings {settings}. "Fresh key" is the nominal
probability that the assertion would fail if its key were changed: a risk that is taken once, when the test is edited,
and not at each run. Their sum is {fresh:.1e}. Per run the probability is 0 where rounding moves a value by less than a
tenth of its distance from the limit. Cells are empty where no value was recorded.

| test | assertion | compared | at | limit | moved | fresh key |
|---|---|---|---|---|---|---|
"""


def write_table(record):
    lines = [TEXT.format(level=LEVEL)]
    total = 0.0
    for name, check in CHECKS.items():
        rows = record.get("checks", {}).get(name, {})
        if not rows:
            # Ranks of fields that are independent are uniform if the package is right: the level is the probability.
            total += LEVEL**2
            lines.append(f"| `{check.test}` | {check.statistic} | 0 | - | - | nominal | - | {LEVEL**2:.0e} | none |\n")
            continue
        alarms, chance, mixing = one_key(check, rows)
        p = np.array([row["p"] for row in rows.values()])
        per_run = mixing if not check.two_keys else (chance + mixing) ** 2
        total += per_run
        power = []
        for mistake in check.wrong:
            seen = np.array([row["wrong"][mistake] for row in rows.values() if mistake in row.get("wrong", {})])
            power.append(f"{mistake}: {np.mean(seen < LEVEL):.2f} of {seen.size} keys, p {seen.max():.0e}")
        uniform = f"{uniformity(p):.2f}" if check.two_keys else "-"
        chance = f"{chance:.1e}" if check.two_keys else "-"
        lines.append(
            f"| `{check.test}` | {check.statistic} | {p.size} | {alarms} | {uniform} | {chance} | {mixing:.1e} | "
            f"{per_run:.1e} | {'; '.join(power) or 'none'} |\n"
        )
    fixed, fresh, doubtful = fixed_rows(record.get("rounding", {}))
    settings = ", ".join(f'"{name}"' for name in record.get("rounding", {}))
    lines += [FIXED_TEXT.format(settings=settings, fresh=fresh), *fixed]
    lines.append(
        f"\n## Sum\n\nChains: {total:.1e} per run. Fixed draws: {doubtful} assertions are so near their limit that "
        f"rounding could matter.\nThe whole suite: **{total:.1e}** per run; the aim is below 1e-3.\n"
    )
    few = [name for name, check in CHECKS.items() if len(record.get("checks", {}).get(name, {})) < check.keys]
    if few:
        lines.append(f"\nStill to be measured on more keys: {', '.join(few)}.\n")
    if runs := record.get("runs"):
        lines.append("\n## Runs\n\n| setting | tests | result |\n|---|---|---|\n")
        lines += [f"| {run['setting']} | {run['tests']} | {run['result']} |\n" for run in runs]
    return "".join(lines)


def fixed_rows(rounding):
    """Rows of the table, the sum of the nominal probabilities, and how many assertions rounding could decide."""
    rows, total, doubtful = [], 0.0, 0
    seen = [by_assertion(run["assertions"]) for run in rounding.values()]
    for place, text in assertions_in(FILES).items():
        runs = [run[place] for run in seen if place in run]
        number, at, limit, moved = 1, "", "", ""
        if runs and (first := [m for one in runs[0].values() for m in one]):
            number = len(first)
            nearest = min(first, key=lambda m: abs(m[0] - m[2]))
            at, limit = f"{nearest[0]:.3g}", f"{nearest[2]:.3g}"
            pairs = [(m, o) for other in runs[1:] for test, one in runs[0].items() if len(other.get(test, [])) == len(one)
                     for m, o in zip(one, other[test])]  # fmt: skip
            if pairs:
                # A comparison's own distance from its limit is what rounding would have to overcome.
                doubtful += any(abs(m[0] - o[0]) > 0.1 * abs(m[0] - m[2]) for m, o in pairs)
                moved = f"{max(abs(m[0] - o[0]) for m, o in pairs):.1g}"
        chance = nominal(place[0], text)
        total += (chance or 0.0) * number
        short = in_one_line(text).replace("|", "\\|")
        chance = "" if chance is None else f"{chance * number:.0e}"
        rows.append(f"| `{place[0]}` | `{short[:110]}` | {number} | {at} | {limit} | {moved} | {chance} |\n")
    return rows, total, doubtful


def assertions_in(files):
    """{(file::test, assertion in one line): text} of the statistical assertions, from the source."""
    found = {}
    for name in files:
        source = (HERE.parent / name).read_bytes()
        lines = source.splitlines(keepends=True)
        for function in ast.walk(ast.parse(source)):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for node in ast.walk(function):
                    if isinstance(node, ast.Assert):
                        text = words_of(node.test, lines)
                        if MARKS.search(text):
                            found[f"{name}::{function.name}", in_one_line(text)] = text
                    # Draws of NumPy, and a fit that converges: a second key, but no chains, which `CHECKS` has.
                    called = isinstance(node, ast.Call) and getattr(node.func, "id", "")
                    chains = any(function.name == check.test.split("::")[1].split("[")[0] for check in CHECKS.values())
                    if called == "check_with_two_keys" and not chains:
                        found[f"{name}::{function.name}", "two keys"] = "two keys"
    return found


def words_of(node, lines):
    """As `ast.get_source_segment`, which would split the whole source into lines for every assertion."""
    first, *more = lines[node.lineno - 1 : node.end_lineno]
    last = more.pop() if more else b""
    if not last:
        return first[node.col_offset : node.end_col_offset].decode()
    return b"".join([first[node.col_offset :], *more, last[: node.end_col_offset]]).decode()


def by_assertion(assertions):
    """{(file::test, assertion in one line): {test with its parameters: margins}} of one run."""
    found = {}
    for place, values in assertions.items():
        test, text = place.split(" | ", 1)
        name = test.split("[")[0].removeprefix("tests/")
        found.setdefault((name, text), {})[test] = margins(values)
    return found


# Number of keys, level and alarms allowed of those that count alarms.
COUNTS = {
    "statistical/test_coverage.py": (20, 1e-3, 1),
    "statistical/test_mixtures.py": (20, 0.01, 3),
    "statistical/test_relation_sbc.py": (10, 1e-3, 1),
    "checks/test_checks.py::test_prior_check_finds_mistakes_and_passes_the_right_model": (40, 0.01, 4),
    "checks/test_checks.py::test_calibration_check_finds_mistakes_and_passes_the_right_model": (20, 0.01, 3),
}


def nominal(test, text):
    """Probability that one comparison of an assertion fails by chance, from its words; None where they do not say."""
    if text == "two keys":
        return LEVEL**2
    if "false_alarms <=" in text:
        for name, (number, level, allowed) in COUNTS.items():
            if test.startswith(name):
                return float(binom.sf(allowed, number, level))
        return None
    if re.match(r"check\.(fits|calibrated) and ", text):
        return 1e-5  # the level given to the check
    if "ladder" in text:
        return float(kstwobign.sf(2.47))
    if "smallest_p(" in text:
        return 1e-3
    if re.search(r"< 1e-|wrong|power", text):
        return None
    if seen := re.search(r"> (1e-\d+|RARE|LEVEL)", text):
        return {"RARE": 1e-5, "LEVEL": 1e-5}.get(seen[1]) or float(seen[1])
    if seen := re.search(r"< ([4-6]\.?\d*) [*/]", text):
        return float(2 * norm.sf(float(seen[1])))
    return None


if __name__ == "__main__":
    main()
