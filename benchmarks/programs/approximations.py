"""How well a normal in M, a normal in ln M (a lognormal in M) and two normals in ln M approximate a mass posterior.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/approximations.py [--figures FOLDER]

The halos have 3e11 to 2e15 Msun and redshifts of 0.1 to 2. Each is observed at the mean luminosity of its mass, under a
steep and a shallow relation, which is either known exactly or given by 100 relation draws. The prior is the default one
(Tinker et al. 2010, Planck18, 200m). The single normals have the mean and sd of the posterior; the two normals are
fitted to its density by expectation maximisation. Measured are the Kullback-Leibler divergence from the posterior to
the approximation in bits, the errors of four quantiles in posterior sd, and the errors of E[M] and of the sd of M,
which a map needs. Writes results/approximations.json and .png.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
from provenance import RESULTS, provenance
from scipy.stats import norm

import massmap_jax as mm

Z = np.array([0.1, 0.5, 1.0, 2.0])
LOG10_MASS = np.linspace(11.5, 15.3, 20)
LEVELS = np.array([0.001, 0.025, 0.975, 0.999])
GRID = np.linspace(np.log(1e9), np.log(1e17), 6001)
SIGMA = 0.05
RELATIONS = {
    # The widths of the likelihood in ln M are 0.45 and 0.31.
    "L ~ M^0.36, scatter 0.155": (10.709, 0.359, 2.35e14, 1.1, 0.155),
    "L ~ M^1.3, scatter 0.4": (0.0, 1.3, 3e14, 1.0, 0.4),
}
PARAMETERS = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")
UNCERTAIN = {"alpha1": 0.022, "alpha2": 0.009, "alpha4": 0.06}
KINDS = ("normal in M", "normal in ln M", "two normals in ln M")


def kl_bits(ln_p, ln_q, step):
    """Return the divergence of q from p in bits, for densities on an even grid; infinite where q is 0 and p is not."""
    some = np.isfinite(ln_p)
    return float((np.exp(ln_p[some]) * (ln_p[some] - ln_q[some])).sum() * step / np.log(2))


def two_normals(x, weight, steps=500):
    """Fit two normals to a weighted grid by expectation maximisation; returns their shares, means and sds."""
    mean = weight @ x
    sd = np.sqrt(weight @ (x - mean) ** 2)
    share, centre, width = np.array([0.7, 0.3]), mean + sd * np.array([-0.4, 0.8]), sd * np.array([0.8, 1.0])
    for _ in range(steps):
        each = share * norm.pdf(x[:, None], centre, width) + 1e-300
        part = weight[:, None] * each / each.sum(axis=1, keepdims=True)
        share = part.sum(axis=0)
        centre = part.T @ x / share
        width = np.sqrt((part * (x[:, None] - centre) ** 2).sum(axis=0) / share)
    return share, centre, width


def approximations(x, ln_p):
    """Return sd of ln M, E[M] and sd of M of a posterior on an even grid, and what each approximation makes of them.

    The approximations are a dictionary {kind: (ln density in ln M on the grid, CDF on the grid, E[M], sd of M)}.
    """
    weight = np.exp(ln_p) / np.exp(ln_p).sum()
    mean = weight @ x
    sd = np.sqrt(weight @ (x - mean) ** 2)
    mass = np.exp(x - mean)  # in units of exp(mean)
    first = weight @ mass
    spread = np.sqrt(weight @ (mass - first) ** 2)
    share, centre, width = two_normals(x, weight)

    def lognormal(centre, width):
        one = np.exp(centre - mean + width**2 / 2)
        return one, one**2 * np.exp(width**2)

    one, second = lognormal(mean, sd)
    each, squares = lognormal(centre, width)
    mixed = share @ each
    ln_two = np.logaddexp(*(np.log(s) + norm.logpdf(x, c, w) for s, c, w in zip(share, centre, width, strict=True)))
    found = {
        KINDS[0]: (norm.logpdf(mass, first, spread) + (x - mean), norm.cdf(mass, first, spread), first, spread),
        KINDS[1]: (norm.logpdf(x, mean, sd), norm.cdf(x, mean, sd), one, np.sqrt(second - one**2)),
        KINDS[2]: (ln_two, norm.cdf(x[:, None], centre, width) @ share, mixed, np.sqrt(share @ squares - mixed**2)),
    }
    return sd, first, spread, found


def rows_of(name, uncertain, prior):
    parameters = dict(zip(PARAMETERS, RELATIONS[name], strict=True))
    z, log10_mass = (a.ravel() for a in np.meshgrid(Z, LOG10_MASS, indexing="ij"))
    central = mm.MassLuminosityRelation.create(**parameters)
    ln_lum = np.asarray(central.mean_ln_lum(log10_mass * np.log(10), z))
    relation = central
    if uncertain:
        normals = np.random.default_rng(0).standard_normal((len(UNCERTAIN), 100))
        moved = {p: parameters[p] + UNCERTAIN[p] * n for p, n in zip(UNCERTAIN, normals, strict=True)}
        relation = mm.MassLuminosityRelation.create(**parameters | moved)
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=SIGMA)
    posterior = mm.mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")
    _, ln_p = posterior.log_pdf(slice(None), GRID)
    exact = posterior.quantile(LEVELS)
    step, rows = GRID[1] - GRID[0], []
    for k in range(z.size):
        sd, first, spread, found = approximations(GRID, ln_p[k])
        for kind, (ln_q, cdf, one, its_spread) in found.items():
            rising = np.concatenate([[True], np.diff(cdf) > 0])
            quantiles = np.interp(LEVELS, cdf[rising], GRID[rising])
            rows.append(
                {
                    "relation": name,
                    "uncertain": uncertain,
                    "z": float(z[k]),
                    "log10_mass": float(log10_mass[k]),
                    "edge_mass": float(posterior.edge_mass[k]),
                    "kind": kind,
                    "kl_bits": kl_bits(ln_p[k], ln_q, step),
                    "quantile_errors_sd": ((quantiles - exact[k]) / sd).round(4).tolist(),
                    "mean_mass_off": float(one / first - 1),
                    "sd_mass_off": float(its_spread / spread - 1),
                }
            )
    return rows


def figure(rows):
    from massmap_jax.figures.style import BLUE, COLUMN, GREEN, ORANGE, VERMILLION, new_figure, styled

    @styled
    def draw():
        canvas = new_figure(2 * COLUMN, 4.6)
        axes = canvas.subplots(2, 3, sharex=True, sharey="row")
        for column, kind in enumerate(KINDS):
            for z, colour in zip(Z, (BLUE, GREEN, ORANGE, VERMILLION), strict=True):
                for name, style in zip(RELATIONS, ("-", "--"), strict=True):
                    chosen = kind, z, name, False
                    of = [r for r in rows if (r["kind"], r["z"], r["relation"], r["uncertain"]) == chosen]
                    mass = [10 ** r["log10_mass"] for r in of]
                    label = f"$z={z:g}$" if style == "-" else None
                    axes[0, column].loglog(mass, [r["kl_bits"] for r in of], style, color=colour, label=label)
                    axes[1, column].semilogx(mass, [100 * r["mean_mass_off"] for r in of], style, color=colour)
            axes[0, column].set_title(kind)
        axes[1, 1].set_xlabel(r"mass $M_{200\mathrm{m}}$ that has the observed luminosity in the mean [M$_\odot$]")
        axes[0, 0].set(ylabel="divergence [bits]", ylim=(1e-5, 10))
        for name, style in zip(RELATIONS, ("-", "--"), strict=True):
            axes[0, 0].plot([], [], style, color="black", label=name.replace("~", "$\\propto$"))
        axes[0, 0].legend()
        axes[1, 0].set_ylabel("error of E[M] [%]")
        axes[0, 2].legend(ncols=2)
        return canvas

    return draw()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=RESULTS)
    given = parser.parse_args()
    with jax.enable_x64(True):
        prior = mm.MassPrior.default()
        rows = [row for name in RELATIONS for uncertain in (False, True) for row in rows_of(name, uncertain, prior)]
    whole = [r for r in rows if r["edge_mass"] < 1e-3]
    print("relation, uncertain, approximation; KL median and largest [bits]; largest errors of the quantiles [sd];")
    print("errors of E[M] and sd(M) [%], median and largest")
    summary = []
    for name in RELATIONS:
        for uncertain in (False, True):
            for kind in KINDS:
                of = [r for r in whole if (r["relation"], r["uncertain"], r["kind"]) == (name, uncertain, kind)]
                kl = np.array([r["kl_bits"] for r in of])
                errors = np.abs([r["quantile_errors_sd"] for r in of]).max(axis=0)
                off = 100 * np.abs([[r["mean_mass_off"], r["sd_mass_off"]] for r in of])
                summary.append(
                    {
                        "relation": name,
                        "uncertain": uncertain,
                        "kind": kind,
                        "halos": len(of),
                        "kl_bits_median": float(np.median(kl)),
                        "kl_bits_largest": float(kl.max()),
                        "largest_quantile_errors_sd": errors.round(3).tolist(),
                        "mean_mass_off_percent": [float(np.median(off[:, 0])), float(off[:, 0].max())],
                        "sd_mass_off_percent": [float(np.median(off[:, 1])), float(off[:, 1].max())],
                    }
                )
                shown = errors.round(2), np.median(off, axis=0).round(2), off.max(axis=0).round(2)
                print(f"{name:28s} {uncertain!s:6s} {kind:20s} {np.median(kl):8.4f} {kl.max():8.4f}", *shown)
    report = provenance() | {"levels": LEVELS.tolist(), "edge_mass_below": 1e-3, "summary": summary, "rows": rows}
    (given.figures / "approximations.json").write_text(json.dumps(report, indent=1) + "\n")
    figure(rows).savefig(given.figures / "approximations.png")


if __name__ == "__main__":
    main()
