"""Posteriors at the worst corners against slow NumPy references, in float32 and float64."""

from typing import NamedTuple

import jax
import numpy as np
from accuracy import LEVELS, TOLERANCE
from reference.linear_noise_reference import LinearNoise
from reference.moments import SharpMoments
from reference.posterior_reference import Mixture, Relation, SingleDraw
from reference.prior_reference import PriorReference
from reference.tables import schechter_table

from massmap_jax import HaloCatalogue, MassLuminosityRelation, MassPrior, mass_posterior
from massmap_jax.figures import style
from validate.record import Number, Row, Section, Twin, at_most

# The usual table ends at 1.5e14 Msun; the steep one covers clusters and falls by 190 decades to its upper end.
USUAL = schechter_table()
STEEP = schechter_table(mass_range=(1e13, 1e16), num_mass=301)
CLUSTERS = {"alpha1": 0.0, "alpha2": 1.3, "alpha3": 3e14, "alpha4": 1.0, "scatter": 0.3}


class Corner(NamedTuple):
    """Objects of one kind. `relations` are those of the reference; several are a batch of draws of equal weight."""

    name: str
    table: tuple
    relations: list[Relation]
    ln_lum: np.ndarray
    sigma: np.ndarray
    z: np.ndarray
    noise: str = "lognormal"
    relation_from: str = "fixed_draws"
    fault: float = 1.01  # of the twin: scatter and noise too large by this factor

    def answer(self, fault=1.0):
        """The package's posteriors; with `fault`, of a scatter and a noise that are wrong by this factor."""
        names = ("alpha1", "alpha2", "alpha3", "alpha4")
        values = {name: np.array([getattr(r, name) for r in self.relations]) for name in names}
        scatter = fault * np.array([r.scatter for r in self.relations])
        catalogue = HaloCatalogue.from_arrays(
            ln_luminosity=self.ln_lum, redshift=self.z, sigma_ln_luminosity=fault * self.sigma, noise_kind=self.noise
        )
        return mass_posterior(
            catalogue,
            MassPrior.from_table(*self.table, per="mass"),
            MassLuminosityRelation.from_draws(**values, scatter=scatter),
            relation_from=self.relation_from,
            quantile_levels=LEVELS,
            chunk_size=32,
        )

    def exact(self) -> list[SharpMoments]:
        prior = PriorReference(*self.table, per="mass")
        found = []
        for ln_lum, sigma, z in zip(self.ln_lum, self.sigma, self.z, strict=True):
            if self.noise != "lognormal":
                lum = np.exp(ln_lum)
                part = LinearNoise(prior, lum, sigma * lum, z, self.relations[0], self.noise)
            elif len(self.relations) == 1:
                part = SingleDraw(prior, ln_lum, sigma, z, self.relations[0])
            else:
                part = Mixture(prior, ln_lum, sigma, z, self.relations, self.relation_from)
            found.append(SharpMoments(part))
        return found


def corners(quick: bool) -> list[Corner]:
    rng = np.random.default_rng(2026)
    few = 4 if quick else 16
    usual, clusters = Relation(), Relation(**CLUSTERS)

    def observed(relation, ln_mass, sigma, z):
        spread = np.hypot(relation.scatter, sigma)
        return relation.mean_ln_lum(ln_mass, z) + spread * rng.normal(size=ln_mass.size)

    def inside(name, relation, sigma, number=few, table=USUAL, masses=(23.5, 32.5), **more):
        z = rng.uniform(0.01, 3.49, number)
        sigma = sigma * np.ones(number)
        ln_mass = rng.uniform(*masses, number)
        return Corner(
            name, table, more.pop("relations", [relation]), observed(relation, ln_mass, sigma, z), sigma, z, **more
        )

    sharp = Relation(scatter=0.0)
    ends = np.array(
        [(m, s, z) for m in (15.0, 22.0, 23.25, 32.67, 34.0, 40.0) for s in (0.01, 1.0) for z in (0.0, 1.7)]
    )
    draws = [
        Relation(10.709 + 0.06 * a, 0.359 + 0.01 * b, 2.35e14, 1.1 + 0.06 * c, 0.155 * np.exp(0.1 * d))
        for a, b, c, d in rng.normal(size=(20 if quick else 100, 4))
    ]
    q = np.array([3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 10.0])[:: 4 if quick else 1]
    at = np.full(q.size, 0.6)
    # L_obs of a mass with which the many light halos compete; and a limit that rules out most of the prior.
    bright, faint = (clusters.mean_ln_lum(np.log(mass), at) for mass in (3e14, 1.5e13))
    found = [
        inside("usual objects", usual, 10 ** rng.uniform(-2, 0, few)),
        inside("narrower than a cell of the prior", sharp, 0.003),
        inside("narrowest: 0.003 in ln M", sharp, 0.001),
        inside("wide: half of the prior", usual, 1.5),
        Corner(
            "beyond and at both ends of the prior",
            USUAL,
            [usual],
            usual.mean_ln_lum(ends[:, 0], ends[:, 2]),
            ends[:, 1],
            ends[:, 2],
        ),
        inside("steep prior", clusters, 0.4, table=STEEP, masses=(np.log(5e13), np.log(5e15))),
        inside(
            f"{len(draws)} draws, this_catalogue",
            usual,
            0.05,
            number=3,
            relations=draws,
            relation_from="this_catalogue",
        ),
        inside(f"{len(draws)} draws, other_data", usual, 0.05, number=3, relations=draws, relation_from="other_data"),
        Corner("linear noise, signal to noise 3 to 10", STEEP, [clusters], bright, 1 / q, at, "normal"),
        Corner("upper limits", STEEP, [clusters], faint, 1 / q, at, "upper_limit", fault=1.1),
    ]
    return [found[i] for i in (0, 2, 4, 8)] if quick else found


def differences(posterior, exact) -> dict[str, np.ndarray]:
    """Errors of each object in units of its exact standard deviation."""
    sd = np.array([one.sd for one in exact])
    quantiles = np.array([[one.quantile(level) for level in LEVELS] for one in exact])
    return {
        "mean": np.abs(posterior.mean - [one.mean for one in exact]) / sd,
        "sd": np.abs(posterior.sd - sd) / sd,
        "quantiles": np.abs(posterior.quantiles - quantiles).max(axis=1) / sd,
    }


def rows_of(corner: Corner) -> list[Row]:
    exact, rows = corner.exact(), []
    for wide in (False, True):
        with jax.enable_x64(wide):
            found = differences(corner.answer(), exact)
            wrong = differences(corner.answer(corner.fault), exact)
        seen = np.any([~(wrong[name] <= TOLERANCE[name]) for name in TOLERANCE], axis=0)
        rows.append(
            Row(
                f"Exact: {corner.name}, {'float64' if wide else 'float32'}",
                {name: Number(float(np.max(values))) for name, values in found.items()},
                f"{corner.z.size} objects against tests/reference",
                {name: at_most(limit) for name, limit in TOLERANCE.items()},
                Twin(f"scatter and noise {100 * corner.fault - 100:.0f} % too large", int(seen.sum()), seen.size, 1),
            )
        )
    return rows


def run(quick: bool) -> Section:
    rows = [row for corner in corners(quick) for row in rows_of(corner)]
    return Section(
        "exactness",
        "Exactness at the worst corners",
        "The largest error of any object, in units of its own posterior standard deviation: of the mean, of the "
        "standard "
        "deviation, and of the 0.1 and 99.9 % quantiles. The references are plain NumPy in float64 and import nothing "
        "from the package. A twin counts the objects whose error exceeds a limit. float32 holds ln M = 32 to 2e-6, "
        "which is 7e-4 of the narrowest posteriors here.",
        rows,
        figures={"exactness": (lambda: figure(rows), "Largest errors at each corner, and what is accepted (dashed).")},
    )


@style.styled
def figure(rows):
    names = list(dict.fromkeys(row.claim.removeprefix("Exact: ").rpartition(", ")[0] for row in rows))
    drawn = style.new_figure(style.PAGE, 0.9 + 0.22 * len(names))
    axes = drawn.subplots(1, 3, sharey=True)
    for ax, (quantity, limit) in zip(axes, TOLERANCE.items(), strict=True):
        for kind, marker, colour in (("float32", "o", style.BLUE), ("float64", "D", style.VERMILLION)):
            values = [row.numbers[quantity].value for row in rows if row.claim.endswith(kind)]
            ax.plot(np.maximum(values, 1e-16), range(len(values)), marker, ms=4, color=colour, label=kind)
        ax.axvline(limit, ls="--", lw=0.8, color=style.GREY)
        ax.set_xscale("log")
        ax.set_xlabel(f"error of the {quantity} [sd]")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return drawn
