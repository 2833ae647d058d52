"""Error against time on the same objects: each method of the package, a plain grid in NumPy, and recorded peers."""

import json
import time
from collections.abc import Callable
from typing import NamedTuple

import accuracy
import jax
import numpy as np
from inputs import reference_draws
from provenance import RESULTS
from reference.tables import schechter_table

import massmap_jax as mm
from massmap_jax.figures import style
from validate.record import Number, Row, Section, Table, Twin, at_most, source_of

ROUNDS = 3


class Point(NamedTuple):
    """A method with a setting: rms error of the mean [sd], and microseconds per object once compiled."""

    family: str
    setting: str
    error: float
    micros: float


def objects(number: int):
    """The same objects for the package and for the reference."""
    table = schechter_table()
    prior = mm.MassPrior.from_table(*table, per="mass", support="sharp")
    relation = mm.MassLuminosityRelation.preset("bigmali2017")
    field = mm.simulate_field(jax.random.key(3), number, prior=prior)
    plain = accuracy.Objects(field.catalogue.ln_lum_obs, np.full(number, 0.05), field.catalogue.redshift)
    return field.catalogue, prior, relation, plain, accuracy.PriorReference(*table, per="mass")


def plain_grid(reference, plain: accuracy.Objects, law, masses: int, widths: float | None = None):
    """Means by the trapezoidal rule in float64: what a careful user writes in ten lines of NumPy.

    The grid covers the whole prior, or `widths` of the data term to both sides of its centre, inside the prior.
    """
    width = np.hypot(law.scatter, plain.sigma) / law.alpha2
    offset = plain.ln_lum_obs - law.alpha1 - law.alpha4 * np.log1p(plain.redshift)
    centre = np.log(law.alpha3) + offset / law.alpha2
    low, high = (np.full(centre.size, end) for end in (reference.ln_mass[0], reference.ln_mass[-1]))
    if widths is not None:
        low, high = np.clip(centre - widths * width, low, high - 1), np.clip(centre + widths * width, low + 1, high)
    ln_mass = np.linspace(low, high, masses, axis=1)
    rows = reference.rows(plain.redshift)
    ln_prior = np.stack([np.interp(m, reference.ln_mass, row) for m, row in zip(ln_mass, rows, strict=True)])
    ln_p = ln_prior - 0.5 * ((ln_mass - centre[:, None]) / width[:, None]) ** 2
    weight = np.exp(ln_p - ln_p.max(axis=1, keepdims=True))
    weight[:, [0, -1]] *= 0.5
    return (weight * ln_mass).sum(axis=1) / weight.sum(axis=1)


def clocked(function: Callable) -> tuple[float, float, np.ndarray]:
    """Seconds of the first call and of the fastest of the later ones, and the answer."""
    times = []
    for _ in range(1 + ROUNDS):
        begin = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - begin)
    return times[0], min(times[1:]), answer


def measured(quick: bool) -> tuple[list[Point], dict[str, float]]:
    """Every method on the same objects; and seconds from nothing of a catalogue of ten objects."""
    catalogue, prior, relation, plain, reference = objects(100 if quick else 1000)
    law = accuracy.Draws(*(column[0] for column in reference_draws(relation)))
    exact = accuracy.exact_posteriors(reference, plain, reference_draws(relation))
    key = jax.random.key(0)

    def posterior(method, **more):
        return lambda: mm.mass_posterior(catalogue, prior, relation, method=method, key=key, **more).mean

    def nuts(number):
        return lambda: mm.sample_halo_masses(key, catalogue, prior, relation, num_samples=number).mean

    ten = catalogue.subset(np.arange(10))
    jax.clear_caches()
    first, *_ = clocked(lambda: mm.mass_posterior(ten, prior, relation).mean)
    _, from_nothing, _ = clocked(  # nothing is compiled, so a first call is only noisier
        lambda: plain_grid(reference, plain.take(slice(0, 10)), law, 400, 7.0)
    )
    sampled = (10,) if quick else (10, 100, 1000)
    tried = {("massmap_jax, analytic", ""): posterior("analytic")}
    for family, widths in (("NumPy grid over the prior", None), ("NumPy grid about the data", 7.0)):
        for n in (32, 100, 400, 4000):
            tried[family, f"{n} masses"] = lambda n=n, widths=widths: plain_grid(reference, plain, law, n, widths)
    tried |= {
        ("massmap_jax, monte_carlo", f"{n} luminosities"): posterior("monte_carlo", num_lum_draws=n) for n in sampled
    }
    if not quick:
        tried |= {
            ("massmap_jax, importance", f"{n} luminosities"): posterior("importance", num_lum_draws=n) for n in sampled
        }
        tried |= {("massmap_jax, quadrature", ""): posterior("quadrature")}
        tried |= {("massmap_jax, surface, built anew", ""): posterior("surface")}
        tried |= {("massmap_jax, NUTS", f"{n} draws"): nuts(n) for n in (100, 300, 1000)}
    points = []
    for (family, setting), function in tried.items():
        _, seconds, mean = clocked(function)
        error = float(np.sqrt(np.mean(((mean - exact.mean) / exact.sd) ** 2)))
        points.append(Point(family, setting, error, 1e6 * seconds / len(catalogue)))
    return points, {"massmap_jax, compilation included": first, "NumPy grid about the data, 400 masses": from_nothing}


def recorded() -> list[tuple[Point, str]]:
    """Peers on their own objects: typical (median) error of the mean, and whose run it is."""
    found = []
    for name, unit, whose in (
        ("peers", "us_per_halo", "nemo"),
        ("peers-cosmocnc", "us_per_cluster", "cosmocnc"),
        ("peers-flow", "us_per_halo", "the flow"),
    ):
        record = json.loads((RESULTS / f"{name}.json").read_text())
        for row, values in record["rows"].items():
            if isinstance(values, dict) and unit in values:
                family, _, setting = row.partition(", ")
                label = f"{family} ({whose}'s objects)" if "massmap" in family else family
                found.append(
                    (Point(label, setting, values["mean off, median of sizes [sd]"], values[unit]), source_of(record))
                )
    return found


def fits() -> tuple[Table, list[str], str]:
    """Regressions: seconds and errors of the slope, and where ours was not the best, as their program recorded it."""
    record = json.loads((RESULTS / "peers-regressions.json").read_text())
    lines = [
        (where, code, f"{values['slope']['rms off']:.3f}", f"{values['seconds']:.2f}")
        for where, codes in record["fits"].items()
        for code, values in codes.items()
        if isinstance(values, dict) and "slope" in values
    ]
    return (
        Table(("catalogues", "code", "slope off, rms", "s per fit"), lines),
        record["where ours is not the best"],
        source_of(record),
    )


def from_nothing_row(points: list[Point], cold: dict[str, float]) -> Row:
    """What compiling costs, and how many objects a plain grid of about our exactness finishes in that time."""
    ours = next(p for p in points if p.family == "massmap_jax, analytic")
    grid = next(p for p in points if p.family == "NumPy grid about the data" and p.setting == "400 masses")
    first, plain = cold["massmap_jax, compilation included"], cold["NumPy grid about the data, 400 masses"]
    gain = grid.micros - ours.micros
    return Row(
        "From nothing, a plain grid has the masses of a small catalogue first: we compile for seconds",
        {
            "times as long, ten objects": Number(first / plain),
            "s, ten objects": Number(first),
            "s, ten objects, NumPy grid": Number(plain),
            "objects from which ours is first": Number(round(1e6 * first / gain, -3) if gain > 0 else np.inf),
        },
        "empty caches",
        remark="a case we lose. The time is XLA's and JAX's for two functions, whatever the number of objects; with "
        "JAX_COMPILATION_CACHE_DIR set, a second process finds what XLA made",
    )


def flow_row() -> Row:
    """A flow that learned the posterior from simulations, as its program recorded it."""
    record = json.loads((RESULTS / "peers-flow.json").read_text())
    flows = {name: row for name, row in record["rows"].items() if "s, training" in row}
    ours = record["rows"]["massmap_jax, analytic"]
    off, micros, bright = "mean off, rms [sd]", "us_per_halo", "brightest: mean off, largest [sd]"
    best = min(flows.values(), key=lambda row: row[off])
    near = sum(row[off] <= ours[off] or row[micros] <= ours[micros] for row in flows.values())
    return Row(
        "No normalising flow that was trained on simulations is as exact, or as fast for an object, as the default",
        {
            "flows that are": Number(near),
            "rms error of the mean, best flow [sd]": Number(best[off]),
            "ours [sd]": Number(ours[off]),
            "largest among the brightest of 100,000, flow [sd]": Number(best[bright]),
            "s, training": Number(best["s, training"]),
            "s, our first call": Number(ours["s, first call"]),
        },
        f"{record['halos']:,} simulated objects, {len(flows)} flows by flowjax (`benchmarks/peers/against_flow.py`)",
        {"flows that are": at_most(0)},
        source=source_of(record),
        remark="a flow needs no likelihood, which is what it is for; here there is one",
    )


def run(quick: bool) -> Section:
    points, cold = measured(quick)
    ours = points[0]
    dominated = [p for p in points[1:] if p.error <= ours.error and p.micros <= ours.micros]
    faster = [p for p in points[1:] if p.micros < ours.micros]
    number = 100 if quick else 1000
    peers = recorded()
    regressions, lost, source = fits()
    wrong = [p for p in points if p.family == "NumPy grid over the prior" and p.setting == "32 masses"]
    rows = [
        Row(
            "The default method is exact",
            {"rms error of the mean [sd]": Number(ours.error)},
            f"{number:,} simulated objects, one relation",
            {"rms error of the mean [sd]": at_most(accuracy.TOLERANCE["mean"])},
            Twin("a grid of 32 masses over the prior", int(wrong[0].error > accuracy.TOLERANCE["mean"]), 1, 1),
        ),
        Row(
            "No other method that was run here is both as fast and as exact as the default",
            {"methods as fast and as exact": Number(len(dominated)), "methods that are faster": Number(len(faster))},
            f"the same {number:,} objects, {len(points)} methods and settings, compiled",
            {"methods as fast and as exact": at_most(0)},
            remark="; ".join(f"{p.family} {p.setting}".strip() + f": {p.micros:.1f} us" for p in faster),
        ),
        from_nothing_row(points, cold),
        Row(
            "Fits of a relation: ours is the best in every number",
            {"numbers in which it is not": Number(len(lost))},
            "`benchmarks/peers/against_regressions.py`",
            {"numbers in which it is not": at_most(0)},
            source=source,
            remark="a case we lose; listed below",
        ),
        flow_row(),
    ]
    table = Table(
        ("method", "setting", "error of the mean [sd]", "us per object", "from"),
        [(p.family, p.setting, f"{p.error:.1e}", f"{p.micros:,.1f}", "this run, rms") for p in points]
        + [(p.family, p.setting, f"{p.error:.1e}", f"{p.micros:,.1f}", f"{whose}, median") for p, whose in peers],
    )
    losses = Table(
        ("where ours was not the best (`benchmarks/results/peers-regressions.json`)",), [(text,) for text in lost]
    )
    return Section(
        "head_to_head",
        "Error against time, and the cases we lose",
        "The same simulated objects under one relation, by every method of the package and by the sum over a grid "
        "that a careful user writes in ten lines of NumPy. Times are of compiled calls on the machine above. Peers "
        "have run on their own objects, at another time: their error is the median and their numbers are recorded "
        "ones. The time of a flow is of its density on 200 masses, once trained. roxy is on "
        "no package index and has not been run.",
        rows,
        [table, regressions, losses],
        {
            "error_time": (
                lambda: figure(points, [p for p, _ in peers]),
                "Error of the posterior mean against time per object; lower left is better. Open: recorded, on other "
                "objects.",
            )
        },
    )


@style.styled
def figure(points: list[Point], peers: list[Point]):
    drawn = style.new_figure(style.PAGE, 3.6)
    ax = drawn.subplots()
    colours = (
        style.BLUE,
        style.BLACK,
        style.VERMILLION,
        style.GREEN,
        style.PURPLE,
        style.ORANGE,
        style.SKY_BLUE,
        style.YELLOW,
    )
    families = list(dict.fromkeys(p.family for p in points))
    for family, colour in zip(families, colours, strict=False):
        own = [p for p in points if p.family == family]
        ax.plot(
            [p.micros for p in own], [max(p.error, 1e-8) for p in own], "o-", ms=4, lw=0.8, color=colour, label=family
        )
    for family, marker in zip(dict.fromkeys(p.family for p in peers), "s^Dv<>P", strict=False):
        own = [p for p in peers if p.family == family]
        ax.plot(
            [p.micros for p in own], [p.error for p in own], marker, ms=5, color=style.GREY, mfc="white", label=family
        )
    ax.axhline(accuracy.TOLERANCE["mean"], ls="--", lw=0.8, color=style.GREY)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("time per object [microseconds]")
    ax.set_ylabel("error of the posterior mean [sd]")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return drawn
