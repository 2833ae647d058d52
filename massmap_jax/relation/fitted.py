"""The result of a fit of the relation: draws, maximum, covariance, diagnostics, and notes to be read with them."""

import json
import re
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.archives import members, read_npz, told_of_archive, write_npz
from massmap_jax.html_table import html_summary
from massmap_jax.relation import exports
from massmap_jax.relation.beliefs import FITTED, RelationPrior, prior_deviations
from massmap_jax.relation.extra import BiasedPrior, BiasedRelation
from massmap_jax.relation.law import LABELS, MassLuminosityRelation
from massmap_jax.relation.nuts import ESS, R_HAT

# For a table of the draws, `to_table`; a relation is one in natural logarithms.
DESCRIPTIONS = {
    "alpha1": "mean of ln L at the pivot mass alpha3 and redshift 0; natural logarithm",
    "alpha2": "slope d ln L / d ln M",
    "alpha3": "pivot mass, without h",
    "alpha4": "exponent of (1 + z), or of E(z)",
    "scatter": "standard deviation of ln L at fixed mass; natural logarithm",
    "log_weight": "ln of the weight of the draw, up to a constant",
    "gamma": "exponent of E(z)",
    "extra_bias": "bias b of mass likelihoods, which are taken at ln M + b; natural logarithm",
    "omega_m": "density of matter today, without neutrinos, over the critical one",
    "sigma8": "standard deviation of the linear density in spheres of 8 Mpc/h",
    "h": "H0 / (100 km/s/Mpc)",
    "n_s": "slope of the primordial power spectrum",
    "omega_b": "density of baryons today, part of omega_m",
    "bias": "mean of ln M_obs - ln M of the measured masses",
    "mass_scatter": "intrinsic scatter of the measured masses; natural logarithm",
    "correlation": "correlation of that scatter with the scatter of ln L",
    "population_centre": "ln M/Msun of the population's centre at the redshift population_pivot_z",
    "population_drift_ln_z": "drift of that centre with ln z",
    "population_drift_ln_1z": "drift of that centre with ln (1 + z)",
    "population_width": "width of the population in ln M",
    "population_skewness": "skewness of the population",
    "population_pivot_z": "redshift that population_centre belongs to",
}
# The data contradict the beliefs about a relation: 5 standard deviations in one of three parameters.
CONTRADICTION_LEVEL = 1.5e-5
# Label of the draws of a fit without measured masses, here or in `JointPosterior`.
_ALONE = re.compile(r"fitted to \d+ objects,( 0 with measured masses,)? \w+")
_FITTED = re.compile(r"fitted to (\d+) objects,")
# A posterior wider than this, in units of its prior, counts as not constrained by the data.
_UNCONSTRAINED = 0.9
# Probability below which the stacked profiles are not those of the fitted relation.
_STACKS_P = 1e-4
# A slope that is nearer to 0 than so many of its errors is told.
_FLAT_SD = 2.0
# Prior standard deviations between prior and posterior, above which they contradict each other.
CONFLICT_SD = 5.0
# Below this share inside the prior's support, the normal approximation is not to be trusted.
_INSIDE = 0.98
_DRAWS = "num_draws=, or --num-relation-draws on the command line"


class RelationPosterior(eqx.Module):
    """The posterior P(alpha, S | data) of a relation, as `fit_relation` returns it.

    Attributes
    ----------
    draws : MassLuminosityRelation
        A batch of relation draws with log weights, for `mass_posterior(..., relation_from="this_catalogue")`.
    maximum : MassLuminosityRelation
        The relation of highest density, in the sampling coordinates (normalisation at the catalogue's pivot, ln S).
    covariance : Float[np.ndarray, "dim dim"]
        Covariance of the free parameters, in the order of `free` and at alpha3, of the normal approximation about the
        maximum.
    prior_mean, prior_sd : dict of str to float
        Prior mean and standard deviation of each free parameter.
    prior_curve : dict of str to Float[np.ndarray, "2 point"]
        For figures: values within 4 standard deviations of the posterior mean, and the prior density there.
    diagnostics : dict of str to object
        "newton_steps" and "log_density" of the maximum, and by method: "inside_prior" (laplace: share of the normal
        approximation that lies inside the prior's support), "off_normal" (laplace, with measured masses or a cosmology:
        how far the draws are from the posterior), "pareto_k" and "ess" (importance), "r_hat", "ess_bulk" and "ess_tail"
        of each parameter, "divergences", "steps_per_draw" and, where it made more draws than were asked for,
        "draws_made" (nuts). With measured masses or likelihoods of masses also "against_beliefs": what the data say
        without the beliefs about the relation (`relation.contradiction`).
    shift_if_lowest_mass_doubles : dict of str to float, or None
        Change of the maximum in each free parameter when the lowest mass of the prior doubles; None with a selection.
    free : tuple of str
        Names of the fitted parameters, in the order alpha1, alpha2, alpha4, scatter.
    method : str
        Method of the fit.
    num_chains : int
        Number of chains; the draws are those of one chain after the other.
    num_halos : int
        Number of objects that were fitted.
    selection : str
        The selection, in words.
    mass_prior : str
        Description of the mass prior.

    See Also
    --------
    fit_relation : the fit.
    relation_corner : figure of the posterior.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> prior = mm.MassPrior.default()
    >>> fit = mm.fit_relation(catalogue, prior, "bigmali2017", key=jax.random.key(0), num_draws=200)
    >>> print(fit.summary().splitlines()[0])
    relation fitted to 5 objects (laplace; selection: none)
    >>> fit.unconstrained
    ('alpha1', 'alpha4', 'scatter')
    >>> print({name: f"{sd:.3f}" for name, sd in fit.prior_sd.items()})
    {'alpha1': '0.022', 'alpha2': '0.009', 'alpha4': '0.060', 'scatter': '0.001'}
    """

    draws: MassLuminosityRelation
    maximum: MassLuminosityRelation
    covariance: Float[np.ndarray, "dim dim"]
    prior_mean: dict[str, float]
    prior_sd: dict[str, float]
    prior_curve: dict[str, Float[np.ndarray, "2 point"]]
    diagnostics: dict
    shift_if_lowest_mass_doubles: dict[str, float] | None
    free: tuple[str, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True)
    num_chains: int = eqx.field(static=True)
    num_halos: int = eqx.field(static=True)
    selection: str = eqx.field(static=True)
    mass_prior: str = eqx.field(static=True)

    @classmethod
    def assemble(
        cls,
        relation_prior: RelationPrior | BiasedPrior,
        *,
        values,
        log_weight,
        maximum,
        covariance,
        mass_definition,
        lum_unit="",
        **made,
    ) -> "RelationPosterior":
        """Make the posterior from draws of the free parameters at alpha3.

        Parameters
        ----------
        relation_prior : RelationPrior or BiasedPrior
            Prior whose free parameters these are.
        values : dict of str to Float[np.ndarray, "draw"]
            Draws of each free parameter.
        log_weight : Float[np.ndarray, "draw"]
            ln weight of each draw.
        maximum : dict of str to float
            Free parameters at the maximum.
        covariance : Float[np.ndarray, "dim dim"]
            Covariance of the normal approximation.
        mass_definition : str
            Definition of the mass prior's masses.
        lum_unit : str
            Unit of the catalogue's luminosities, used where the relation prior states none.
        **made : object
            The other attributes.

        Returns
        -------
        RelationPosterior
            The posterior.
        """
        fixed = {p: float(relation_prior.beliefs[p]) for p in relation_prior.names if p not in relation_prior.free}
        kind = BiasedRelation if "extra_bias" in relation_prior.names else MassLuminosityRelation
        labels = dict(relation_prior.labels) | {"mass_definition": mass_definition}
        if lum_unit and not labels.get("lum_unit"):
            labels["lum_unit"] = lum_unit
        number, stacked = (made["diagnostics"].get(what, 0) for what in ("with_mass_likelihood", "in_stacks"))
        measured = f"{number} with a mass likelihood, " if number else ""
        measured += f"{stacked} in stacks of shear, " if stacked else ""
        labels["source"] = f"fitted to {made['num_halos']} objects, {measured}{made['method']}"
        common = {**fixed, "alpha3": float(relation_prior.alpha3), "gamma": relation_prior.gamma, **labels}
        draws = kind.create(**values, log_weight=log_weight, **common)
        places = {p: around(draws.parameter(p), _weights(draws)) for p in relation_prior.free}
        densities, middle = relation_prior.density(places), relation_prior.central()
        return cls(
            draws=draws,
            maximum=kind.create(**maximum, **common),
            covariance=np.asarray(covariance),
            prior_curve={p: np.stack([places[p], densities[p]]) for p in places},
            prior_mean={p: middle[p] for p in relation_prior.free},
            prior_sd=relation_prior.sd(),
            free=relation_prior.free,
            **made,
        )

    @property
    def weights(self) -> Float[np.ndarray, "draw"]:
        """Normalised weights of the draws, (draw,)."""
        return _weights(self.draws)

    @property
    def mean(self) -> dict[str, float]:
        """Posterior mean of each free parameter, by name."""
        return {p: float(self.weights @ self.draws.parameter(p)) for p in self.free}

    @property
    def sd(self) -> dict[str, float]:
        """Posterior standard deviation of each free parameter, by name."""
        return {p: float(np.sqrt(self.weights @ (self.draws.parameter(p) - self.mean[p]) ** 2)) for p in self.free}

    @property
    def unconstrained(self) -> tuple[str, ...]:
        """Names of the parameters that the catalogue does not constrain: their posterior is close to their prior."""
        mean, sd = self.mean, self.sd
        return tuple(
            p
            for p in self.free
            if sd[p] > _UNCONSTRAINED * self.prior_sd[p] and abs(mean[p] - self.prior_mean[p]) < 0.4 * self.prior_sd[p]
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, one sentence each."""
        found = []
        if self.shift_if_lowest_mass_doubles is not None:
            sd = self.sd
            moves = ", ".join(
                f"{p} {value:+.3g} ({value / sd[p]:+.1f} sd)" for p, value in self.shift_if_lowest_mass_doubles.items()
            )
            found.append(
                "no selection was given: every object is taken to be in the catalogue, and the fit rests on the mass "
                f"prior's lowest mass: if that doubles, the maximum moves by {moves}"
            )
        if self.unconstrained:
            found.append(
                f"the catalogue does not constrain {', '.join(self.unconstrained)}: the posterior is the prior"
            )
        if self.diagnostics.get("stacks_p", 1.0) < _STACKS_P:
            found.append(
                f"the fitted shear of the stacks is far from the measured one (p = {self.diagnostics['stacks_p']:.1g}):"
                " look at their radii, source redshifts, weights and covariance, and at the selection of their members"
            )
        mean = self.mean
        if "alpha2" in mean and abs(mean["alpha2"]) < _FLAT_SD * self.sd["alpha2"]:
            found.append(
                f"the slope alpha2 = {mean['alpha2']:.2g} +- {self.sd['alpha2']:.2g} may be 0, so that the luminosity"
                " hardly tells the mass: look at the unit of the luminosities and of measured masses, at their match,"
                " and at the relation's prior"
            )
        for p, away in prior_deviations(mean, self.prior_mean, self.prior_sd).items():
            if away > CONFLICT_SD:
                found.append(
                    f"{p} = {mean[p]:.4g} is {away:.0f} standard deviations of its prior from "
                    f"{self.prior_mean[p]:.4g}: prior and data contradict each other; look at prior_check"
                )
        against = self.diagnostics.get("against_beliefs")
        if against is not None and not against["p_value"] >= CONTRADICTION_LEVEL:
            p = against["name"]
            found.append(
                f"the data contradict the beliefs about the relation (p = {against['p_value']:.1e}): without them {p} ="
                f" {against['found']:.3g} +- {against['error']:.2g}, and believed was {self.prior_mean[p]:.3g} +-"
                f" {self.prior_sd[p]:.2g}; look at the units of luminosities and of measured masses"
            )
        return tuple(found)

    def check(self) -> list[str]:
        """List what is wrong with the sampling.

        Returns
        -------
        list of str
            One sentence for each problem; empty where there is none. Limits: R-hat below 1.01, effective draws above
            400, no divergent transitions, 98 % of the normal approximation inside the prior's support.
        """
        found = self.diagnostics
        problems = []
        for name, worst, bad in (("r_hat", max, lambda v: not v < R_HAT), ("ess_bulk", min, lambda v: not v > ESS),
                                 ("ess_tail", min, lambda v: not v > ESS)):  # fmt: skip
            if name in found:
                p, value = worst(found[name].items(), key=lambda item: item[1])
                if bad(value):
                    limit = f"below {R_HAT}" if name == "r_hat" else f"above {ESS:.0f}"
                    problems.append(f"{name} of {p} is {value:.4g}, and should be {limit}: draw more ({_DRAWS})")
        if found.get("divergences"):
            problems.append(f"{found['divergences']} divergent transitions: give narrower priors")
        if found.get("inside_prior", 1.0) < _INSIDE:
            problems.append(
                f"{1 - found['inside_prior']:.0%} of the normal approximation lies outside the prior's support, which "
                "cuts it off: use nuts"
            )
        if "ess" in found and not found["ess"] > ESS:
            problems.append(
                f"{found['ess']:.0f} effective draws, and should be above {ESS:.0f}: draw more ({_DRAWS}), or use nuts"
            )
        return problems

    def summary(self) -> str:
        """Describe the posterior in a few lines of text.

        Returns
        -------
        str
            Each parameter with its error and its prior, the notes, and what `check` finds.

        Examples
        --------
        >>> import jax
        >>> import massmap_jax as mm
        >>> catalogue = mm.HaloCatalogue.from_arrays(
        ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
        ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
        ...     sigma_ln_luminosity=0.05,
        ... )
        >>> prior = mm.MassPrior.default()
        >>> fit = mm.fit_relation(catalogue, prior, "bigmali2017", key=jax.random.key(0), num_draws=200)
        >>> print(fit.summary())  # doctest: +ELLIPSIS
        relation fitted to 5 objects (laplace; selection: none)
          alpha1   10.7... +- 0.02...   prior 10.709 +- 0.022
          alpha2   0.3... +- 0.0...   prior 0.359 +- 0.009
          alpha4   1.1... +- 0.0...   prior 1.1 +- 0.06
          scatter  0.15... +- 0.00...   prior 0.155 +- 0.0009
          at alpha3 = 2.35e+14 Msun; masses 200m
        note: no selection was given: ...
        note: the catalogue does not constrain alpha1, alpha4, scatter: the posterior is the prior
        """
        mean, sd = self.mean, self.sd
        objects, names = f"{self.num_halos} objects", FITTED
        if "with_mass_likelihood" in self.diagnostics:
            objects += f", {self.diagnostics['with_mass_likelihood']} of them with a mass likelihood"
            names = (*FITTED, "extra_bias")
        if "in_stacks" in self.diagnostics:
            objects += f", {self.diagnostics['in_stacks']} of them in {self.diagnostics['stacks']} stacks of shear"
            names = (*FITTED, "extra_bias")
        names = (*names, *(p for p in self.free if p not in names))
        width = max(8, *(len(p) for p in names))
        lines = [f"relation fitted to {objects} ({self.method}; selection: {self.selection})"]
        for p in names:
            if p in self.free:
                lines.append(f"  {p:{width}} {mean[p]:.5g} +- {sd[p]:.2g}   prior {self.prior_mean[p]:.5g} +- "
                             f"{self.prior_sd[p]:.2g}")  # fmt: skip
            else:
                lines.append(f"  {p:{width}} {float(self.maximum.parameter(p)):.5g} (fixed)")
        lines.append(f"  at alpha3 = {float(self.maximum.alpha3):.4g} Msun; masses {self.maximum.mass_definition}")
        return "\n".join(lines + [f"note: {note}" for note in self.notes] + [f"check: {c}" for c in self.check()])

    def against(self, truth: MassLuminosityRelation) -> str:
        """Compare the posterior with a known relation, such as the one a mock catalogue was made with.

        Parameters
        ----------
        truth : MassLuminosityRelation
            One relation with the same pivot alpha3.

        Returns
        -------
        str
            A table, one line for each free parameter: truth, posterior, and the difference in standard deviations.
        """
        mean, sd = self.mean, self.sd
        lines = ["parameter   truth      posterior           off by"]
        for p in (p for p in self.free if p in FITTED):
            value = float(truth.parameter(p))
            lines.append(f"{p:9} {value:9.5g}   {mean[p]:9.5g} +- {sd[p]:.2g}   {(mean[p] - value) / sd[p]:+.1f} sd")
        return "\n".join(lines)

    def to_arviz(self) -> Any:
        """Convert the draws to ArviZ.

        Draws with weights (method "importance") are resampled by them, so that `arviz.summary` and every other function
        is right at its defaults; their chain then holds draws that occur more than once, next to each other.

        Returns
        -------
        InferenceData or DataTree
            The group `posterior` with the free parameters, (chain, draw) each; a DataTree from ArviZ 1 on. Its
            attributes say what became of the weights, the pivot alpha3 [Msun] and the mass definition.

        Raises
        ------
        MassmapError
            ArviZ is not installed.
        """
        return exports.to_arviz(self)

    def to_getdist(self) -> Any:
        """Convert the draws to GetDist, with their weights and chains.

        Returns
        -------
        getdist.MCSamples
            The free parameters, for its plots and tables. A fit does not keep log likelihoods: they are 0 here.

        Raises
        ------
        MassmapError
            GetDist is not installed.
        """
        return exports.to_getdist(self)

    def write_getdist(self, root) -> None:
        """Write the draws as a text chain that GetDist, and `massmap-jax run --relation ROOT.txt`, read.

        Parameters
        ----------
        root : str or Path
            ROOT of the two files, ROOT.txt and ROOT.paramnames. All parameters are in it, the pivot alpha3 [Msun] and
            the fixed ones too; chains stand one after the other. The draws' log likelihoods are not kept by a fit, and
            their column is 0.

        Raises
        ------
        MassmapError
            A file exists already.
        """
        exports.write_getdist(self, root)

    def _repr_html_(self) -> str:
        """What a notebook shows: each free parameter, the notes, and what `check` finds."""
        mean, sd = self.mean, self.sd
        rows = [
            (p, f"{mean[p]:.5g} ± {sd[p]:.2g}", f"{self.prior_mean[p]:.5g} ± {self.prior_sd[p]:.2g}") for p in self.free
        ]
        title = f"RelationPosterior, {self.num_halos} objects ({self.method}; selection: {self.selection}), "
        title += f"at alpha3 = {float(self.maximum.alpha3):.4g} Msun; masses {self.maximum.mass_definition}"
        lines = [*(f"note: {note}" for note in self.notes), *(f"check: {problem}" for problem in self.check())]
        return html_summary(title, ("parameter", "posterior", "prior"), rows, lines)

    def to_table(self) -> dict[str, np.ndarray]:
        """Give the draws as columns.

        Returns
        -------
        dict of str to Float[np.ndarray, "draw"]
            alpha1, alpha2, alpha3 [Msun], alpha4, scatter and log_weight, and gamma where it is not 0, in the form that
            `read_relation` reads; and extra_bias where mass likelihoods were fitted.
        """
        return {p: np.asarray(v) for p, v in self.draws.columns().items()}

    def save(self, path) -> None:
        """Write the posterior to a .npz file that `load` reads back unchanged.

        Parameters
        ----------
        path : str or Path
            The file.

        Raises
        ------
        MassmapError
            The file exists already.
        """
        labels = {name: getattr(self.draws, name) for name in LABELS}
        meta = {name: getattr(self, name) for name in _META} | {"labels": labels}
        maximum = {f"maximum_{p}": v for p, v in self.maximum.columns().items() if p != "log_weight"}
        curves = {f"prior_curve_{p}": curve for p, curve in self.prior_curve.items()}
        told = {"covariance": self.covariance, "meta": json.dumps(meta)}
        write_npz(path, self.to_table() | maximum | curves | told)

    @staticmethod
    def is_saved(path) -> bool:
        """Tell whether a file looks like one that `save` wrote, and not like an archive of draws alone.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        bool
            True for a file of `save`.
        """
        return "meta.npy" in members(path)

    @classmethod
    def load(cls, path) -> "RelationPosterior":
        """Read a posterior that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        RelationPosterior
            The posterior as it was.

        Raises
        ------
        MassmapError
            The file does not exist, or `save` did not write it.
        """
        with told_of_archive(f"relation posterior {path}", "is not a file that save() wrote"):
            columns = read_npz(path)
            meta = json.loads(str(columns.pop("meta")))
            return cls._from_saved(columns, meta, meta.pop("labels"))

    @classmethod
    def _from_saved(cls, columns: dict, meta: dict, labels: dict) -> "RelationPosterior":
        kind = BiasedRelation if "extra_bias" in columns else MassLuminosityRelation
        maximum = {p.removeprefix("maximum_"): columns.pop(p) for p in list(columns) if p.startswith("maximum_")}
        covariance = columns.pop("covariance")
        meta["free"] = tuple(meta["free"])
        curves = {p: columns.pop(f"prior_curve_{p}") for p in meta["free"] if f"prior_curve_{p}" in columns}
        return cls(
            draws=kind.create(**columns, **labels),
            maximum=kind.create(**maximum, **labels),
            covariance=covariance,
            prior_curve=curves,
            **meta,
        )


def _weights(draws) -> Float[np.ndarray, "draw"]:
    weights = np.exp(draws.log_weight - draws.log_weight.max())
    return weights / weights.sum()


def around(values, weights, number: int = 200) -> np.ndarray:
    """`number` values within 4 standard deviations of the mean."""
    mean = weights @ values
    sd = np.sqrt(weights @ (values - mean) ** 2)
    return np.linspace(mean - 4 * sd, mean + 4 * sd, number)


_META = (
    "prior_mean",
    "prior_sd",
    "diagnostics",
    "shift_if_lowest_mass_doubles",
    "free",
    "method",
    "num_chains",
    "num_halos",
    "selection",
    "mass_prior",
)


def fitted_without_masses(relation) -> bool:
    """Tell whether a relation was fitted to luminosities and redshifts alone.

    Parameters
    ----------
    relation : Relation
        Any relation.

    Returns
    -------
    bool
        True for the draws and the maximum of such a fit; False for a relation that was given, or that was calibrated on
        measured masses, mass likelihoods or stacked shear.
    """
    return _ALONE.fullmatch(getattr(relation, "source", "")) is not None


def number_fitted_to(relation) -> int | None:
    """Tell to how many objects a relation was fitted.

    Parameters
    ----------
    relation : Relation
        Any relation.

    Returns
    -------
    int or None
        The number, for the draws and the maximum of a fit; None for a relation that was given.
    """
    found = _FITTED.match(getattr(relation, "source", ""))
    return None if found is None else int(found[1])
