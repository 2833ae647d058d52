"""Time against the number of halos, masses and relation draws: the 2017 loop, NumPy, and the methods of the package.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/scaling.py [--small]

Each point is one call without its compilation, with the error of that same call against the exact posterior on 100 of
its rows. Prints a table, writes results/scaling-<device>.json and draws results/scaling-<device>.png, where a dotted
line shows the time of one vectorised exp for each (halo, mass, relation draw).
"""

import argparse
import json
import time

import accuracy
import jax
import jax.numpy as jnp
import numpy as np
from inputs import GRID_MASSES, SURVEY, make_field, reference_draws, relation_draws
from peers.notebook_2017 import posterior_of_one_halo
from provenance import RESULTS, provenance

from massmap_jax import HaloCatalogue, mass_posterior, sample_halo_masses
from massmap_jax.likelihood.objects import Range
from massmap_jax.posterior.surface import PosteriorSurface

CHECKED = 100
LEVELS = (accuracy.LEVELS[0], 0.16, 0.5, 0.84, accuracy.LEVELS[1])


def numpy_grid(field, objects, relation, masses):
    """Return mean and sd of ln M from vectorised NumPy: prior x mean Gaussian likelihood on a mass grid, per halo."""
    ln_mass = np.linspace(field.prior_reference.ln_mass[0], field.prior_reference.ln_mass[-1], masses)
    draws = reference_draws(relation)
    out = np.empty((objects.redshift.size, 2))
    for i, (lum, sigma, z) in enumerate(zip(*objects, strict=True)):
        width = np.hypot(draws.scatter, sigma) / draws.alpha2
        x = np.log(draws.alpha3) + (lum - draws.alpha1 - draws.alpha4 * np.log1p(z)) / draws.alpha2
        ln_prior = np.interp(ln_mass, field.prior_reference.ln_mass, field.prior_reference.row(z))
        joint = ln_prior - 0.5 * ((ln_mass - x[:, None]) / width[:, None]) ** 2
        joint = np.exp(joint - joint.max(axis=1, keepdims=True))
        density = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        mean = density @ ln_mass
        out[i] = mean, np.sqrt(density @ (ln_mass - mean) ** 2)
    return out


class Bench:
    def __init__(self, field):
        self.field, self.rows = field, []
        x = jnp.linspace(-3.0, 3.0, 2**22, dtype=jnp.float32)
        exps = jax.jit(lambda x: jnp.exp(-0.5 * x * x).sum())
        self.exp_rate = x.size / min(self._timed(lambda: exps(x).block_until_ready())[1] for _ in range(20))

    @staticmethod
    def _timed(function):
        begin = time.perf_counter()
        found = function()
        return found, time.perf_counter() - begin

    def objects(self, number):
        """Return `number` rows of the field, repeated if it has fewer; the first 100 are checked."""
        rows = np.resize(np.arange(SURVEY), number)
        return accuracy.Objects(*(a[rows] for a in self.field.objects))

    def point(self, method, halos, draws, masses=GRID_MASSES):
        relation, objects = relation_draws(draws), self.objects(halos)
        build = 0.0
        if method == "2017 loop":
            lum, sigma, z = (float(a[0]) for a in objects)
            reference = self.field.prior_reference
            mass = np.geomspace(reference.mass[0], reference.mass[-1], masses)
            row = np.exp(np.interp(np.log(mass), reference.ln_mass, reference.row(z))) / mass
            rng = np.random.default_rng(0)
            n_l = 100
            found, seconds = self._timed(
                lambda: posterior_of_one_halo(np.exp(lum), z, sigma, mass, row, rng, n_s=draws, n_l=n_l)
            )
            weight = np.gradient(mass) * found
            mean = weight @ np.log(mass) / weight.sum()
            values, seconds = np.array([[mean, np.sqrt(weight @ (np.log(mass) - mean) ** 2 / weight.sum())]]), seconds
        elif method == "NumPy":
            values, seconds = self._timed(lambda: numpy_grid(self.field, objects, relation, masses))
        else:
            catalogue = HaloCatalogue.from_arrays(
                luminosity=np.exp(objects.ln_lum_obs),
                redshift=objects.redshift,
                sigma_ln_luminosity=objects.sigma,
            )
            settings = {"relation_from": "fixed_draws"}
            if method == "surface":
                where = Range.of(objects.ln_lum_obs, objects.redshift, objects.sigma)
                surface, build = self._timed(
                    lambda: PosteriorSurface.build(
                        self.field.prior, relation, where, quantile_levels=LEVELS, **settings
                    ).only(("mean", "sd"))
                )

                def call():
                    return surface(objects.ln_lum_obs, objects.redshift, objects.sigma)
            elif method == "NUTS":

                def call():
                    made = sample_halo_masses(
                        jax.random.key(0),
                        catalogue,
                        self.field.prior,
                        relation,
                        num_warmup=150,
                        num_samples=300,
                        **settings,
                    )
                    return np.stack([made.mean, made.sd], axis=1)
            else:

                def call():
                    made = mass_posterior(
                        catalogue,
                        self.field.prior,
                        relation,
                        method=method,
                        key=jax.random.key(0),
                        num_lum_draws=100,
                        **settings,
                    )
                    return np.stack([made.mean, made.sd], axis=1)

            call()
            values, seconds = self._timed(call)
        checked = accuracy.Objects(*(a[: min(CHECKED, len(values))] for a in objects))
        exact = accuracy.exact_posteriors(self.field.prior_reference, checked, reference_draws(relation))
        off = np.abs(values[: exact.mean.size, 0] - exact.mean) / exact.sd
        done = len(values)
        row = {
            "method": method,
            "halos": halos,
            "draws": draws,
            "masses": masses,
            "seconds": seconds * halos / done,
            "us_per_halo": 1e6 * seconds / done,
            "build_s": build,
            "floor_us": 1e6 * masses * draws / self.exp_rate,
            # The surface has no value for objects outside its range (mass_posterior integrates them).
            "error_of_mean_in_sd": {"median": float(np.nanmedian(off)), "largest": float(np.nanmax(off))},
            "checked_beside_the_surface": int(np.isnan(off).sum()),
        }
        self.rows.append(row)
        print(
            f"{method:12s} {halos:>10,} halos {draws:>5} draws {masses:>4} masses {row['us_per_halo']:>12,.3f} us"
            f" a halo (floor {row['floor_us']:,.2f}), mean off by {np.nanmedian(off):.1e} sd, "
            f"at most {np.nanmax(off):.1e}",
            flush=True,
        )


def draw_figure(found, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    colours = {"2017 loop": "#000000", "NumPy": "#E69F00", "monte_carlo": "#D55E00", "NUTS": "#CC79A7",
               "analytic": "#0072B2", "surface": "#009E73"}  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    panels = (("halos", "halos", "seconds", "time [s]"), ("draws", "relation draws", "us_per_halo", "time a halo [µs]"),
              ("masses", "masses on the grid", "us_per_halo", "time a halo [µs]"))  # fmt: skip
    for axis, (key, x_label, value, unit) in zip(axes, panels, strict=True):
        chosen = [row for row in found["rows"] if row["series"] == key]
        for method in colours:
            rows = sorted((r for r in chosen if r["method"] == method), key=lambda r: r[key])
            if rows:
                y = [r[value] for r in rows]
                label = "surface, once built" if method == "surface" else method
                axis.loglog([r[key] for r in rows], y, "o-", ms=4, color=colours[method], label=label)
        rows = sorted({(r[key], r["floor_us"] * (r["halos"] / 1e6 if key == "halos" else 1)) for r in chosen})
        axis.loglog(*zip(*rows), ":", color="0.5", label="one exp for each (halo, mass, draw)")
        axis.set(xlabel=x_label, ylabel=unit)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7, frameon=False)
    axes[0].set_title("10 relation draws, 410 masses", fontsize=9)
    axes[1].set_title("410 masses", fontsize=9)
    axes[2].set_title("10 relation draws", fontsize=9)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer points, to see that it runs")
    given = parser.parse_args()
    bench = Bench(make_field(SURVEY))
    points = []
    most = {"2017 loop": 1, "NumPy": 1000, "monte_carlo": 10**4, "NUTS": 10**4, "analytic": 10**6, "surface": 10**7}
    for method, limit in most.items():
        for halos in (1, 1000, 10**4, 10**5, 10**6, 10**7):
            if halos <= limit and (method in ("2017 loop", "NumPy") or halos >= 1000):
                points.append(("halos", method, halos, 10, GRID_MASSES))
    for draws in (1, 10, 100, 1000):
        for method, halos in (("NumPy", 100), ("monte_carlo", 1000), ("analytic", 10**4), ("surface", 10**6)):
            if not (method in ("monte_carlo", "surface") and draws > 100):
                points.append(("draws", method, halos, draws, GRID_MASSES))
    for masses in (50, 100, 200, 410, 820):
        points += [("masses", "2017 loop", 1, 10, masses), ("masses", "NumPy", 100, 10, masses)]
    points += [("masses", m, 10**4, 10, k) for m in ("analytic", "surface") for k in (50, 820)]
    if given.small:
        points = [p for p in points if p[2] <= 1000 and p[3] <= 10]
    for series, *point in points:
        bench.point(*point)
        bench.rows[-1]["series"] = series
    found = {**provenance(), "gaussian_exps_per_s": bench.exp_rate, "rows": bench.rows}
    path = RESULTS / f"scaling-{jax.default_backend()}.json"
    if not given.small:
        path.write_text(json.dumps(found, indent=1) + "\n")
    draw_figure(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
