"""The result of a fit with measured masses: relation, calibration and population, draw by draw."""

import json
from dataclasses import fields, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from massmap_jax.catalogue.archives import members, read_npz, told_of_archive, write_npz
from massmap_jax.likelihood.objects import Objects
from massmap_jax.prior import panels
from massmap_jax.prior.cosmology_draws import PARAMETERS
from massmap_jax.prior.mass_function_draws import MassFunctionDraws
from massmap_jax.prior.population import PopulationDraws
from massmap_jax.prior.population_cosmology import PopulationUnderCosmology
from massmap_jax.relation.calibrated import MEASURED, CalibratedRelation
from massmap_jax.relation.calibration import FEW_CALIBRATORS
from massmap_jax.relation.cosmology_told import cosmology_notes, note_of_h, with_sigma8
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.fitted import RelationPosterior, around
from massmap_jax.relation.joint import JointPrior
from massmap_jax.relation.law import LABELS, MassLuminosityRelation
from massmap_jax.relation.linear import LinearData
from massmap_jax.relation.several import MultiObservableRelation, term_of

# Above this standard deviation in ln M, that all masses share, a note says so.
_MUCH_SHARED = 0.1
# Where the normal approximation is off by more than this, in standard deviations of a parameter, a note says so.
_MUCH_OFF = 0.4
# Or where fewer of its draws count: it may be far too wide with hardly a shift. Of posteriors that it describes well,
# three quarters of the draws count; of one whose scatter of measured masses is bounded by 0, some 0.3.
_LEAST_SHARE = 0.2
# Objects and draws that the shared error is computed from.
_OBJECTS, _DRAWS = 128, 100
_PANELS = 12


class JointPosterior(RelationPosterior):
    """The posterior of a relation together with the population and the calibration of measured masses.

    It has everything that a `RelationPosterior` has; `free`, `mean`, `sd` and the other columns by name also hold
    "bias", "mass_scatter", "correlation" and the population's parameters, with the prefix ``population_``, and those of
    the cosmology that vary, where it was fitted too.

    Attributes
    ----------
    draws : CalibratedRelation
        A batch of draws of relation, calibration and population.
    maximum : CalibratedRelation
        Those of highest density.
    num_calibrators : int
        Number of objects with a measured mass.
    chosen_by : str
        How these were chosen.
    range_of_calibrators : dict of str to (float, float)
        Lowest and highest "ln_lum_obs" and "redshift" of the objects that inform the fit.
    shared_error : float
        Standard deviation in ln M of the error that all masses share, from the uncertainty of the fit.
    with_sigma8 : dict of str to float
        As of `CosmologyPosterior`; empty where the cosmology was not fitted, or sigma8 does not vary.
    belief : dict of str to object
        As of `CosmologyPosterior`; empty where the cosmology was not fitted.

    See Also
    --------
    fit_relation : The fit.
    """

    draws: CalibratedRelation
    maximum: CalibratedRelation
    range_of_calibrators: dict[str, tuple[float, float]]
    shared_error: float
    num_calibrators: int = eqx.field(static=True)
    chosen_by: str = eqx.field(static=True)
    with_sigma8: dict[str, float] = eqx.field(default_factory=dict)
    belief: dict[str, Any] = eqx.field(default_factory=dict)

    @classmethod
    def assemble_joint(cls, joint_prior: JointPrior, *, values, log_weight, maximum, **made) -> "JointPosterior":
        """Make the posterior from draws of the free parameters, under `jax.enable_x64(True)`.

        Parameters
        ----------
        joint_prior : JointPrior
            The beliefs.
        values : dict of str to Float[np.ndarray, "draw"]
            Draws of each free parameter.
        log_weight : Float[np.ndarray, "draw"]
            ln weight of each draw.
        maximum : dict of str to float
            Free parameters at the maximum.
        **made : object
            The other attributes.

        Returns
        -------
        JointPosterior
            The posterior.
        """
        draws, told = _relations(joint_prior, values, np.asarray(log_weight)), joint_prior.told
        places = {p: around(np.asarray(values[p]), draws.shares) for p in told.free}
        densities = told.density(places)
        # The label is given last: in the beliefs it would ask for another compilation for every catalogue.
        source = f"fitted to {made['num_halos']} objects, {made['num_calibrators']} with measured masses"
        source += f", {made['method']}"
        best = {p: np.asarray(v) for p, v in maximum.items()}
        middle = joint_prior.middle() if told is joint_prior else told.central()
        return cls(
            draws=draws.with_source(source),
            maximum=_relations(joint_prior, best, np.zeros(())).with_source(source),
            prior_curve={p: np.stack([places[p], densities[p]]) for p in places},
            prior_mean={p: middle[p] for p in told.free},
            prior_sd=told.sd(),
            free=told.free,
            shift_if_lowest_mass_doubles=None,
            **made,
        )

    def with_shared_error(self, value: float) -> "JointPosterior":
        """Give the same posterior with another `shared_error`.

        Parameters
        ----------
        value : float
            The error, in ln M.

        Returns
        -------
        JointPosterior
            The posterior.
        """
        return eqx.tree_at(lambda s: s.shared_error, self, float(value))

    def with_pivot(self, ln_mass: float, evolution: float) -> "JointPosterior":
        """Give the same posterior with `with_sigma8`, where sigma8 varies.

        Parameters
        ----------
        ln_mass, evolution : float
            ln(M / alpha3), M in units of alpha3 [Msun], and ln(1 + z) or ln E(z), where the normalisation is compared
            with sigma8.

        Returns
        -------
        JointPosterior
            The posterior.
        """
        if "sigma8" not in self.free:
            return self
        return replace(self, with_sigma8=with_sigma8(self.draws, (ln_mass, evolution)))

    @property
    def of_cosmology(self) -> tuple[str, ...]:
        """Names of the parameters of the cosmology that vary; none where it was not fitted."""
        return tuple(p for p in self.free if p in PARAMETERS)

    @property
    def informed(self) -> dict[str, float]:
        """By how much the data reduced the variance of each free parameter: 1 is all by data, 0 all by belief."""
        sd = self.sd
        return {p: float(1 - (sd[p] / self.prior_sd[p]) ** 2) for p in self.free}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, one sentence each."""
        found = list(super().notes)
        if self.shared_error > _MUCH_SHARED:
            found.append(
                f"all masses share an error of {self.shared_error:.2f} in ln M, which no number of objects averages"
                " out: more calibration masses, or narrower beliefs about their bias, would reduce it"
            )
        if self.belief:
            found += cosmology_notes(self.of_cosmology, self.sd, self.prior_sd, self.with_sigma8, self.belief, "")
            found += note_of_h(self.prior_mean, self.prior_sd)
        off = self.diagnostics.get("off_normal")
        if off is not None and "pareto_k" not in self.diagnostics and is_far_from_normal(off):
            p, shift = _farthest(off)
            found.append(
                f"the posterior is far from the normal distribution that the draws are from: {p} is off by about"
                f" {abs(shift):.1f} of its error, and of 100 draws {100 * _share(off):.0f} count (Pareto k ="
                f" {off['pareto_k']:.2f}): use method='nuts'"
            )
        if nearly := self.diagnostics.get("nearly_lognormal"):
            found.append(
                f"linear noise of {nearly:,} objects of the fit was taken as the lognormal noise that is nearest to it"
            )
        for name, edge in self.diagnostics.get("edges", {}).items():
            say = "lum_limit=" if name == "luminosity" else f"SelectedOn({name!r}, ...), --selected-on '{name}>...'"
            found.append(
                f"{name} ends abruptly: {edge['near']:,} of {edge['of']:,} objects lie within 0.3 of its error above"
                f" the least value, {edge['least']:.4g}; if the catalogue was selected on it, give that selection"
                f" ({say}), or scatters, correlations and masses come out wrong"
            )
        if 0 < self.num_calibrators < FEW_CALIBRATORS:
            found.append(f"only {self.num_calibrators} objects have a calibration mass: the beliefs weigh heavily")
        return tuple(found)

    def outside_calibrators(self, ln_lum_obs, redshift) -> np.ndarray:
        """Tell which objects lie outside the luminosities or redshifts that inform the fit.

        Parameters
        ----------
        ln_lum_obs, redshift : array_like, (halo,)
            ln of the observed luminosities, and redshifts.

        Returns
        -------
        Bool[np.ndarray, "halo"]
            True outside: their masses rest on the form of the relation and of the population.
        """
        (low, high), (near, far) = self.range_of_calibrators["ln_lum_obs"], self.range_of_calibrators["redshift"]
        ln_lum_obs, redshift = np.asarray(ln_lum_obs), np.asarray(redshift)
        with np.errstate(invalid="ignore"):
            return (ln_lum_obs < low) | (ln_lum_obs > high) | (redshift < near) | (redshift > far)

    def summary(self) -> str:
        """Describe the posterior in a few lines of text.

        Returns
        -------
        str
            Each parameter with its error and its prior, the population, the error that all masses share, the notes,
            and what `check` finds.
        """
        mean, sd, informed = self.mean, self.sd, self.informed
        width = max(len(p) for p in self.free)
        lines = [
            f"relation fitted to {self.num_halos} objects, {self.num_calibrators} with measured masses"
            f" ({self.method}; selection: {self.selection}; population: {self.draws.population.kind})"
        ]
        lines += [
            f"  {p:{width}} {mean[p]:.5g} +- {sd[p]:.2g}   prior {self.prior_mean[p]:.5g} +- {self.prior_sd[p]:.2g},"
            f" variance reduced by {max(informed[p], 0.0):.0%}"
            for p in self.free
        ]
        lines.append(f"  at alpha3 = {float(self.maximum.alpha3):.4g} Msun; masses {self.maximum.mass_definition}")
        lines.append(f"  error that all masses share: {self.shared_error:.3f} in ln M")
        return "\n".join(lines + [f"note: {note}" for note in self.notes] + [f"check: {c}" for c in self.check()])

    def to_table(self) -> dict[str, np.ndarray]:
        """Give the draws as columns.

        Returns
        -------
        dict of str to Float[np.ndarray, "draw"]
            The columns of `RelationPosterior.to_table`, the calibration, the parameters of further observables with
            their names behind, the population with the prefix ``population_``, the cosmology where draws have one, and
            what was fitted of a selection with the prefix ``selection_``.
        """
        table = super().to_table() | {p: np.asarray(v) for p, v in self.draws.measured.items()}
        for name, law in zip(self.draws.names, self.draws.laws, strict=True):
            table |= {f"{p}_{name}": np.asarray(v) for p, v in law.columns().items() if p != "log_weight"}
        table |= {f"population_{p}": np.asarray(v) for p, v in self.draws.population.values.items()}
        table |= {p: np.asarray(v) for p, v in self.draws.population.cosmologies.items()}
        return table | {p: np.asarray(self.draws.parameter(p)) for p in self.free if p.startswith("selection_")}

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
        arrays: dict[str, Any] = {"covariance": self.covariance}
        for name, relation in (("draws", self.draws), ("maximum", self.maximum)):
            arrays |= {f"{name}.{p}": v for p, v in _arrays_of(relation).items()}
        population = self.draws.population
        meta: dict[str, Any] = {"labels": _labels(self.draws)}
        meta |= {name: getattr(population, name) for name in ("kind", "components", "base")}
        meta["observables"] = {n: _labels(law) for n, law in zip(self.draws.names, self.draws.laws, strict=True)}
        own = [f.name for f in fields(self) if f.name not in ("draws", "maximum", "covariance", "prior_curve")]
        meta["own"] = {name: getattr(self, name) for name in own}
        arrays |= {f"prior_curve.{p}": curve for p, curve in self.prior_curve.items()}
        write_npz(path, arrays | {"joint": json.dumps(meta)})

    @staticmethod
    def is_saved(path) -> bool:
        """Tell whether a file looks like one that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        bool
            True for a file of `save`; False for one of `RelationPosterior.save`.
        """
        return "joint.npy" in members(path)

    @classmethod
    def load(cls, path) -> "JointPosterior":
        """Read a posterior that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        JointPosterior
            The posterior as it was.

        Raises
        ------
        MassmapError
            The file does not exist, or `save` did not write it.
        """
        with told_of_archive(f"joint posterior {path}", "is not a file that JointPosterior.save() wrote"):
            columns = read_npz(path)
            meta = json.loads(str(columns["joint"]))
            own = meta["own"] | {"free": tuple(meta["own"]["free"])}
            own["range_of_calibrators"] = {p: tuple(v) for p, v in own["range_of_calibrators"].items()}
            own["draws"], own["maximum"] = (_relation_of(columns, f"{name}.", meta) for name in ("draws", "maximum"))
            own["prior_curve"] = {p: columns[f"prior_curve.{p}"] for p in own["free"]}
            return cls(covariance=columns["covariance"], **own)


def is_far_from_normal(off: dict) -> bool:
    """Tell whether the normal distribution about the maximum is a poor one of the posterior.

    Parameters
    ----------
    off : dict of str to object
        What `search.off_normal` found.

    Returns
    -------
    bool
        True where a parameter of relation or population is off by more than 0.4 of its error, or fewer than 0.2 of the
        draws count.
    """
    return not (abs(_farthest(off)[1]) < _MUCH_OFF and _share(off) >= _LEAST_SHARE)


def _share(off: dict) -> float:
    """The share of the draws that count; 1 in a file of a version that did not write it."""
    return off.get("share", 1.0)


def _farthest(off: dict) -> tuple[str, float]:
    """The parameter that the normal approximation is farthest off in, and by how much."""
    # Bias, scatter and correlation of measured masses are mostly what was believed of them.
    moved = {p: shift for p, shift in off["shift"].items() if p not in MEASURED}
    return max(moved.items(), key=lambda item: abs(item[1]))


def _relations(joint_prior, values, log_weight) -> CalibratedRelation:
    """Relations with their populations, as host arrays."""
    return jax.tree.map(np.asarray, _made(joint_prior, values, log_weight))


@jax.jit
def _made(joint_prior, values, log_weight):
    return joint_prior.relation(values, log_weight)


def _labels(relation: MassLuminosityRelation) -> dict[str, Any]:
    """Labels of a relation."""
    return {p: getattr(relation, p) for p in LABELS}


def _arrays_of(relation: CalibratedRelation) -> dict[str, np.ndarray]:
    """Every array of a relation, by name."""
    arrays = {p: np.asarray(v) for p, v in relation.columns().items()}
    arrays |= {f"measured.{p}": np.asarray(v) for p, v in relation.measured.items()}
    arrays |= {f"selected.{p}": np.asarray(v) for p, v in relation.selected.items()}
    for name, law in zip(relation.names, relation.laws, strict=True):
        arrays |= {f"law.{name}.{p}": np.asarray(v) for p, v in law.columns().items()}
    if relation.scatter_correlation is not None:
        arrays["scatter_correlation"] = np.asarray(relation.scatter_correlation)
    population = relation.population
    arrays |= {f"population.{p}": np.asarray(v) for p, v in population.values.items()}
    arrays["lattice"] = np.asarray(population.lattice)
    if isinstance(population, PopulationUnderCosmology):
        arrays |= {f"functions.{p}": v for p, v in population.functions.arrays().items()}
    return arrays if population.ln_norm is None else arrays | {"ln_norm": np.asarray(population.ln_norm)}


def _relation_of(columns: dict, prefix: str, meta: dict) -> CalibratedRelation:
    """A relation from the arrays of `_arrays_of`."""
    own = {p.removeprefix(prefix): v for p, v in columns.items() if p.startswith(prefix)}

    def part(name):
        return {p.removeprefix(name): v for p, v in own.items() if p.startswith(name)}

    of_population = part("population."), own.get("ln_norm"), own["lattice"]
    labels = meta["kind"], meta["components"], meta["base"]
    population = PopulationDraws(*of_population, *labels)
    if functions := part("functions."):
        own_function = MassFunctionDraws.of_arrays(functions, meta["base"])
        population = PopulationUnderCosmology(*of_population, *labels, functions=own_function)
    several = {
        name: MassLuminosityRelation(**part(f"law.{name}."), **labels)
        for name, labels in meta.get("observables", {}).items()
    }
    others = ("lattice", "ln_norm", "scatter_correlation")
    plain = {p: v for p, v in own.items() if "." not in p and p not in others}
    relation = MultiObservableRelation(
        others=several, scatter_correlation=own.get("scatter_correlation"), **plain, **meta["labels"]
    )
    with jax.enable_x64(True):
        own_parts = part("measured."), population, part("selected.")
        return jax.tree.map(np.asarray, CalibratedRelation.joined(relation, *own_parts))


def shared_error(draws: CalibratedRelation, data: CatalogueData) -> float:
    """Estimate the standard deviation in ln M of the error that all masses of a catalogue share.

    Parameters
    ----------
    draws : CalibratedRelation
        A batch of draws.
    data : CatalogueData
        The objects, and the mass prior.

    Returns
    -------
    float
        Standard deviation, over the draws, of the mean over objects of their mean ln M under one draw. Up to 128
        objects and 100 draws are used.
    """
    index = np.linspace(0, data.rows.size - 1, min(data.rows.size, _OBJECTS)).astype(int)
    halos = Objects.of(data.catalogue, data.rows[index], data.prior, need_keys=False)
    if isinstance(data, LinearData):
        # About as bright, with about as much noise: enough for what all masses share.
        ln_lum, sigma = (a[index] for a in data.halos()[:2])
        sigma = np.minimum(sigma, 1.0)
        if halos.observed is not None:
            ln_lum, sigma = halos.observed.with_numbers(ln_lum, sigma)
        halos = replace(halos, ln_lum_obs=ln_lum[:, None], sigma=sigma)
    thin = draws.thinned(_DRAWS)
    means = np.asarray(_mean_ln_mass(thin, data.prior, halos)).mean(axis=1)
    shares = thin.shares
    return float(np.sqrt(shares @ (means - shares @ means) ** 2))


@jax.jit
def _mean_ln_mass(relations, prior, halos):
    """Mean ln M of each object under each draw; (draw, object). Limits are left out."""
    halos = jax.tree.map(jnp.asarray, halos)
    rows = jax.vmap(prior.ln_density_at)(halos.z[:, 0])

    def one(relation, halo, row):
        z = halo.z[0]
        term = term_of(relation, halo.ln_lum_obs[0], halo.sigma, z, halo.observed)
        low, high, _ = relation.population.posterior_range(prior, z, term.centre, term.width)
        ln_mass = panels.panel_nodes(low, high, _PANELS)
        ln_post = relation.population.ln_density(prior.interpolate(row, ln_mass), ln_mass, z) + term(ln_mass)
        weight = jax.nn.softmax(ln_post + jnp.log(panels.panel_weights(low, high, _PANELS)))
        return (weight * ln_mass).sum()

    over_objects = jax.vmap(one, (None, 0, 0))
    return jax.lax.map(lambda r: over_objects(r, halos, rows), jax.tree.map(jnp.asarray, relations))
