"""Time of a fit to very many objects, some with a measured mass, and how well the points stand for them.

    PYTHONPATH=. python benchmarks/programs/calibrated_speed.py [OPTIONS]

Clusters whose ln M follows the mass function times a completeness, or a normal distribution, with a drift in redshift;
those of the highest luminosity have a measured mass, so that all objects are in the fit. Fits by the normal
approximation, twice: the second time is without compilation. The error is that of the same call: by how much the points
that stand for the objects move each parameter in whitened coordinates, in standard deviations, from the gradient of the
difference of ln L to that of the objects themselves. `--nuts` samples by NUTS, too, with R-hat and effective sizes.
With `--completeness` objects were kept by a table of 33 redshifts x 111 luminosities, which the fit is told.
"""

import argparse
import json
import time
import warnings
from dataclasses import replace

import jax
import numpy as np
from scipy.special import ndtr

import massmap_jax as mm
from massmap_jax.prior.population import Population
from massmap_jax.relation import joint_fit
from massmap_jax.relation.search import covariance_of, potentials_of

CALIBRATORS, PIVOT, ERROR = 500, 3e14, 0.15
BELIEFS = "alpha1=0:3,alpha2=1:0.5,alpha4=1:1,scatter=0.3:0.3,alpha3=3e14"


def completeness():
    """A table of 33 redshifts x 111 luminosities: from 0.05 to 1, at a luminosity that rises with redshift."""
    z, ln_lum = np.linspace(0.05, 0.85, 33), np.linspace(-5.0, 6.0, 111)
    prob = 0.05 + 0.95 * ndtr((ln_lum - 0.5 - 1.5 * np.log(z[:, None] / 0.3)) / 0.4)
    return mm.TabulatedSelection(z, ln_lum, prob)


def simulated(rng, number, prior, form, table):
    """A catalogue and its calibration masses."""
    wanted, number = number, number if table is None else 20 * number
    z, sigma = rng.uniform(0.1, 0.8, number), rng.uniform(0.05, 0.2, number)
    if form == "gaussian":
        ln_mass = rng.normal(32.3, 0.4, number)
    else:
        grid, ln_mass = np.linspace(29.0, 36.0, 3001), np.empty(number)
        steps = np.linspace(0.1, 0.8, 141)
        which = np.abs(z[:, None] - steps).argmin(axis=1)
        for i, at in enumerate(steps):
            row = np.interp(grid, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density_at(at)))
            summed = np.cumsum(np.exp(row) * ndtr((grid - 32.2 - 0.5 * np.log(at / 0.4)) / 0.3))
            own = which == i
            ln_mass[own] = np.interp(rng.uniform(size=own.sum()), summed / summed[-1], grid)
    ln_lum = 1 + 0.8 * (ln_mass - np.log(PIVOT)) + np.log1p(z) + np.hypot(0.3, sigma) * rng.normal(size=number)
    if table is not None:
        with jax.enable_x64(True):
            kept = np.flatnonzero(rng.random(number) < np.exp(np.asarray(table.log_prob(ln_lum, z))))[:wanted]
        assert kept.size == wanted
        z, sigma, ln_mass, ln_lum, number = z[kept], sigma[kept], ln_mass[kept], ln_lum[kept], wanted
    measured = np.full(number, np.nan)
    brightest = np.argsort(-ln_lum)[:CALIBRATORS]
    measured[brightest] = np.exp(ln_mass[brightest] + np.hypot(0.1, ERROR) * rng.normal(size=CALIBRATORS))
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=z, sigma_ln_luminosity=sigma)
    masses = mm.CalibrationMasses.from_arrays(
        mass=measured, sigma_ln_mass=ERROR, scatter="0.1:0.05", bias="0:0.05", chosen_by="luminosity"
    )
    return catalogue, masses


def error_of_points(catalogue, prior, masses, form, table, draws=16):
    """Number of points, and the largest move of a parameter [standard deviations]."""
    beliefs = mm.RelationPrior.parse(BELIEFS)
    with jax.enable_x64(True):
        asked = catalogue, prior, beliefs, masses, Population.parse(form), {}, {}, table, "laplace"
        data, has_mass, chosen, joint_prior, coordinates = joint_fit.prepare(*asked)
        points, best = joint_fit._search(data, masses, has_mass, chosen, table, joint_prior, coordinates)
        every = joint_fit.likelihood_of(data, masses, has_mass, chosen, table, None)
        every = replace(every, chances=None)
        root, centre = np.linalg.cholesky(covariance_of(best, coordinates)), np.asarray(best.x)
        x = np.random.default_rng(1).normal(size=(draws, centre.size))
        off = [np.asarray(potentials_of(x, (coordinates, one, centre, root))) for one in (points, every)]
    slopes = np.linalg.lstsq(np.column_stack([np.ones(draws), x]), off[0] - off[1], rcond=None)[0][1:]
    return int((np.asarray(points.weight) != 0).sum()), float(np.abs(slopes).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--population", default="gaussian,hmf_completeness", help="with commas")
    parser.add_argument("--nuts", action="store_true")
    parser.add_argument("--completeness", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior, table = mm.MassPrior.default(), completeness() if given.completeness else None
    for form in given.population.split(","):
        catalogue, masses = simulated(np.random.default_rng(0), given.objects, prior, form, table)
        row = {"population": form, "objects": given.objects, "measured masses": CALIBRATORS}
        row["selection"] = "none" if table is None else table.describe()

        def fit(method, number, catalogue=catalogue, masses=masses, form=form):
            begin = time.perf_counter()
            found = mm.fit_relation(
                catalogue, prior, mm.RelationPrior.parse(BELIEFS), calibration=masses, population=form, selection=table,
                method=method, key=jax.random.key(number),
            )  # fmt: skip
            return found, time.perf_counter() - begin

        _, row["with compilation [s]"] = fit("laplace", 0)
        found, row["seconds"] = fit("laplace", 1)
        row["steps"] = found.diagnostics["newton_steps"]
        row["points"], row["largest move [sd]"] = error_of_points(catalogue, prior, masses, form, table)
        if given.nuts:
            found, row["NUTS [s]"] = fit("nuts", 2)
            row["R-hat"] = max(found.diagnostics["r_hat"].values())
            row["ESS"] = min(found.diagnostics["ess_bulk"].values())
        print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
