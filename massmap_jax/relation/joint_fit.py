"""P(relation, calibration, population | luminosities, measured masses): the fit where some masses were measured.

The same search, samplers and coordinates as in `relation.fit`, with the likelihood of `relation.joint`. What cannot be
known is refused: a free population without measured masses, or with too few of them to say what it is.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.catalogue.observables import LOWER_LIMIT, MEASURED, MISSING, UPPER_LIMIT
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.nearest_lognormal import (
    LEAST_RATIO,
    OF_SELECTED,
    USUAL_RATIO,
    is_near,
    nearest_lognormal,
)
from massmap_jax.likelihood.objects import Observed, usable_rows
from massmap_jax.likelihood.selection import NoSelection, described, is_sharp
from massmap_jax.prior.cosmology_belief import CosmologyBelief
from massmap_jax.prior.cosmology_draws import CosmologyDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.adapt import adapted_draws
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import FEW_CALIBRATORS, LEAST_CALIBRATORS, CalibrationMasses, beliefs_of
from massmap_jax.relation.chances import Chances
from massmap_jax.relation.compress import LARGE, Points, compress, with_ratio
from massmap_jax.relation.contradiction import contradiction
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.correlations import beliefs_about
from massmap_jax.relation.data import CatalogueData, detection, filled, prior_rows
from massmap_jax.relation.draws import draw_by, ridge_draws
from massmap_jax.relation.joint import JointLikelihood, JointPrior, table_of
from massmap_jax.relation.joint_cosmology import JointCosmologyPrior
from massmap_jax.relation.joint_linear import LinearNoise
from massmap_jax.relation.joint_posterior import JointPosterior, is_far_from_normal, shared_error
from massmap_jax.relation.linear import LinearData, is_linear
from massmap_jax.relation.search import (
    PART,
    at_alpha3,
    covariance_of,
    maximise,
    off_normal,
    relation_at,
)
from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass, ln_m50, number_at_edge

# Share of objects whose linear noise may be a poor lognormal one.
_FEW_POOR = 0.1
# Beliefs about the relation carry the masses where they fix ln M at given L better than this.
_CARRIED = 0.3
# Above this many objects without a measured mass, points stand for them.
_MANY = 3000
# The same of objects with linear noise, whose likelihood takes longer: the search begins with those with a mass.
_MANY_LINEAR = 300
# Draws that tell whether the posterior is near enough to a normal.
_DRAWS_OF_CHECK = 200
# Measured masses further outside the mass prior, in their errors, are refused. A halo of the lowest mass is measured
# below it as often as above.
_FURTHEST = 5
# Points are not made for a smaller scatter S: their number would grow without bound.
_LEAST_SCATTER = 1e-3
# More of them would need more memory, 10 kB each, and time than a fit is worth.
_MOST_LINEAR = 200_000
# Objects without a measured mass that the first search is in, of more than `_MANY`; and from which number on the
# distribution of their luminosities is known far better than its parts.
_SOME = 1000
# Redshifts in one box of points that stand for many objects: a population may drift with ln z.
_RATIO_IN_BOX = 1.5
# Scatter that panels over linear noise are made for where none is known.
_USUAL_SCATTER = 0.1


def fit_joint(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior,
    calibration: CalibrationMasses | None,
    population: Population,
    laws: Mapping[str, RelationPrior],
    correlations: Mapping,
    selection,
    cosmology: CosmologyDraws | None,
    method,
    key,
    num_draws,
    num_chains,
    num_warmup,
    watch,
) -> JointPosterior:
    """Fit relation, calibration, population and cosmology; arguments as in `fit_relation`, after `check_fit`.

    Returns
    -------
    JointPosterior
        Draws of all parameters, paired, with maximum, covariance, diagnostics and notes.

    Raises
    ------
    MassmapError
        What `fit_relation` refuses; a free population without measured masses or with fewer than 10; measured masses
        chosen by mass without their selection; another definition of mass.
    """
    key = jax.random.key(0) if key is None else key
    with jax.enable_x64(True):
        asked = catalogue, prior, relation_prior, calibration, population, laws, correlations, selection, method
        data, has_mass, chosen, joint_prior, coordinates = prepare(*asked)
        belief: dict[str, Any] = {}
        if cosmology is not None:
            joint_prior = JointCosmologyPrior.around(joint_prior, CosmologyBelief.of(cosmology), data.prior)
            coordinates = eqx.tree_at(lambda c: c.prior, coordinates, joint_prior)
            belief = {"source": cosmology.source, "not_normal": joint_prior.belief.shape_of(cosmology)}
        watch("finding the best relation and population")
        by_lognormal = isinstance(data, _NearlyLognormal)
        nearly = int(is_near(catalogue)[data.rows[chosen]].sum()) if by_lognormal else 0
        likelihood, best = _search(data, calibration, has_mass, chosen, selection, joint_prior, coordinates)
        covariance = covariance_of(best, coordinates)
        chains, log_weight, found = draw_by(
            method, key, coordinates, likelihood, best, covariance, num_draws, num_chains, num_warmup, watch,
            along_ridge=coordinates.of_many,
        )  # fmt: skip
        if method == "laplace":
            watch("comparing the posterior with a normal distribution")
            few = likelihood.weight.size <= _MANY
            number = _DRAWS_OF_CHECK if few else PART
            thin = np.asarray(chains[0, :: max(1, chains.shape[1] // number)])[:number]
            off = off_normal(coordinates, likelihood, best, covariance, thin)
            found |= {"off_normal": off}
            if is_far_from_normal(off) and not few:
                watch("drawing from a posterior that is bent")
                x, again = ridge_draws(key, coordinates, likelihood, best, covariance, chains.shape[1])
                if again["share"] > off["share"]:
                    chains, found = x[None], found | {"off_normal": again}
            # A threshold that is fitted makes the posterior skewed: a draw that is above an object all but excludes it.
            elif few and (is_far_from_normal(off) or any(p.startswith("selection_") for p in joint_prior.free)):
                watch("drawing from a posterior that is not normal")
                better = adapted_draws(key, coordinates, likelihood, best, covariance, chains.shape[1])
                if better is not None:
                    chains, found = better.x[None], found | better.found
        values, maximum, at_pivot = at_alpha3(coordinates, chains, best.x, covariance)
        watch("comparing the data with the beliefs")
        against = contradiction(coordinates, likelihood, best, chains)
        result = JointPosterior.assemble_joint(
            joint_prior,
            values={p: np.asarray(v).ravel() for p, v in values.items()},
            log_weight=log_weight,
            maximum=maximum,
            covariance=np.asarray(at_pivot),
            num_chains=chains.shape[0],
            method=method,
            diagnostics={"newton_steps": int(best.steps), "log_density": -float(best.negative_log_density)}
            | found
            | ({"nearly_lognormal": nearly} if nearly else {})
            | ({"edges": edges} if (edges := _edges(data, tuple(laws), selection)) else {})
            | ({} if against is None else {"against_beliefs": against.as_dict()}),
            num_halos=int(chosen.sum()),
            num_calibrators=int(has_mass.sum()),
            chosen_by="" if calibration is None else calibration.chosen_by,
            selection=described(selection),
            mass_prior=prior.description,
            range_of_calibrators=_range(data, has_mass if has_mass.any() else chosen),
            shared_error=0.0,
            belief=belief,
        )
        if cosmology is not None:
            result = result.with_pivot(float(coordinates.pivot_ln_mass), float(coordinates.pivot_evolution))
        result = result.with_shared_error(shared_error(result.draws, data))
    for note in result.notes:
        warnings.warn(note, stacklevel=3)
    return result


class Prepared(NamedTuple):
    """What a fit is made of, after all refusals.

    Attributes
    ----------
    data : CatalogueData
        The objects that can be used.
    has_mass, chosen : Bool[np.ndarray, "used"]
        Which of them have a measured mass, and which are fitted.
    joint_prior : JointPrior
        Beliefs about everything.
    coordinates : Coordinates
        The coordinates of the search.
    """

    data: CatalogueData
    has_mass: Bool[np.ndarray, " used"]
    chosen: Bool[np.ndarray, " used"]
    joint_prior: JointPrior
    coordinates: Coordinates


def beliefs_asked(calibration, population, observables, scatter_correlation, selection):
    """Give the beliefs that a user's arguments stand for.

    Returns
    -------
    laws : dict of str to RelationPrior
        About the relations of further observables.
    correlations : dict of str to object
        About the correlations of their scatters.
    population : Population
        Form of the population; where none was given, the mass prior as it is without measured masses, and the mass
        function times a completeness with them.
    """
    laws = {name: RelationPrior.of(given) for name, given in (observables or {}).items()}
    correlations = beliefs_about(tuple(laws), scatter_correlation) if laws else {}
    if population is None:
        without = calibration is None and not isinstance(selection, SelectedOnMass)
        population = Population.fixed() if without else Population.hmf_completeness()
    elif isinstance(population, str):
        population = Population.parse(population)
    elif not isinstance(population, Population):
        raise MassmapError(
            f"population is a {type(population).__name__}: give a form such as Population.gaussian(), or its name"
        )
    return laws, correlations, population


def prepare(
    catalogue, prior, relation_prior, calibration, population, laws, correlations, selection, method
) -> Prepared:
    """Collect the objects and the beliefs of a fit, and refuse what cannot be known; arguments as of `fit_joint`."""
    on_mass = isinstance(selection, SelectedOnMass)
    on_lum = None if on_mass or isinstance(selection, SelectedOn) else selection
    data = _data_of(catalogue, prior, on_lum, calibration, tuple(laws))
    catalogue = data.catalogue
    has_mass = _measured(calibration, data)
    _check(calibration, population, relation_prior, has_mass, selection, method, data)
    if laws:
        _check_observables(catalogue, laws, prior, selection, data)
    chosen = np.ones_like(has_mass)
    if calibration is not None and (calibration.chosen_by != "luminosity" or on_mass):
        # Random calibrators say all that there is to know without the others: these add hardly more than the risk
        # of a wrong form of the population.
        chosen = has_mass
    if isinstance(data, LinearData) and chosen.sum() > _MOST_LINEAR:
        raise MassmapError(
            f"beside measured masses no points stand for objects with linear noise, and {chosen.sum():,} are more than"
            f" the {_MOST_LINEAR:,} that are fitted one by one: fit a random part of the catalogue, or those with a"
            " measured mass alone, where they were chosen at random (calib_chosen_by='random')"
        )
    relation_prior = _labelled(relation_prior, prior, data.lum_unit)
    masses = np.zeros(0) if calibration is None else calibration.ln_mass[data.rows][has_mass]
    ln_mass = float(np.median(masses)) if masses.size else 32.0
    z = float(np.median(catalogue.redshift[data.rows][chosen]))
    selected = {}
    if isinstance(selection, SelectedOnMass) and calibration is not None:
        typical = float(np.median(calibration.sigma[data.rows][has_mass]))
        selected = selection.beliefs | {"sigma_mass": typical}
    measured, pivot = beliefs_of(calibration), (ln_mass, z)
    joint_prior = JointPrior.of(relation_prior, measured, population, pivot, data.prior, selected, laws, correlations)
    if calibration is not None:
        _check_range(calibration, data, has_mass, joint_prior)
        if isinstance(selection, SelectedOnMass):
            _check_threshold(calibration, data, has_mass, selection)
    if isinstance(selection, SelectedOn):
        _check_above(data, selection)
    # A slope that is believed to be about 0 leaves no width of the masses.
    of_many = int((chosen & ~has_mass).sum()) > _SOME and relation_prior.central()["alpha2"] != 0
    return Prepared(data, has_mass, chosen, joint_prior, Coordinates.at(joint_prior, ln_mass, z, of_many))


class _NearlyLognormal(CatalogueData):
    """Objects some of which have linear noise, taken as lognormal; a limit is one of the luminosity as observed."""

    def __init__(self, as_observed: HaloCatalogue, catalogue: HaloCatalogue, prior: MassPrior, selection, rows):
        self.as_observed = as_observed
        super().__init__(catalogue, prior, selection, rows=rows)

    def _ln_detection(self) -> np.ndarray:
        return detection(self.as_observed, self.prior, self.selection, self.rows)


def _data_of(catalogue: HaloCatalogue, prior, selection, calibration, laws) -> CatalogueData:
    """The objects of a fit, with noise of any kind where that can be."""
    catalogue = catalogue.seen_by(laws)
    if not is_linear(catalogue, prior):
        return CatalogueData(catalogue, prior, selection)
    if is_sharp(selection) and (calibration is None or not _errors_correlate(calibration)):
        return LinearData(catalogue, prior, selection)
    return _lognormal_data(catalogue, prior, selection, calibration)


def _errors_correlate(calibration: CalibrationMasses) -> bool:
    """Whether errors of measured masses are correlated with those of luminosities."""
    return bool((calibration.correlation[np.isfinite(calibration.ln_mass)] != 0).any())


def _lognormal_data(catalogue: HaloCatalogue, prior, selection, calibration) -> CatalogueData:
    """Linear noise as lognormal where that is near enough, refused where it is not.

    For errors that are correlated with those of the masses, and selections that are no sharp limit. Objects without a
    measured mass take no part where those with one are fitted alone, and may have any noise.
    """
    selected = selection is not None and not isinstance(selection, NoSelection)
    least, usual = OF_SELECTED if selected else (LEAST_RATIO, USUAL_RATIO)
    near = nearest_lognormal(catalogue, least)
    rows = usable_rows(near, prior)
    noisy = near.noise_codes[rows] == NOISE_KINDS.index("normal")
    fitted = np.ones_like(noisy)
    alone = calibration is not None and calibration.chosen_by != "luminosity"
    if alone and calibration.ln_mass.shape[0] == len(catalogue):
        fitted = np.isfinite(calibration.ln_mass[rows])
    poor = fitted & (noisy | (is_near(catalogue, least) & ~is_near(catalogue, usual))[rows])
    if (noisy & fitted).any() or poor.sum() > _FEW_POOR * fitted.sum():
        worst = rows[fitted & noisy] if (fitted & noisy).any() else rows[poor]
        snr = 1 / float(catalogue.signed_measurements(worst[:1])[1][0])
        raise MassmapError(
            "a fit with measured masses whose errors are correlated with those of the luminosity, or with a selection"
            " that is no sharp limit, takes linear noise where each object that it needs has a signal to noise of"
            f" {least:g}, and nine tenths of them one of {usual:g}, and {poor.sum()} of {fitted.sum()} have less than"
            f" {usual:g}, {(noisy & fitted).sum()} less than {least:g}, first row {worst[0]} ({snr:.2g}): leave the"
            " correlation of the errors out (calib_correlation=), give a limit in luminosity, flux or signal to noise,"
            " or take their errors as those of ln L, noise='lognormal'"
        )
    return _NearlyLognormal(catalogue, near, prior, selection, rows[~noisy])


def _measured(calibration, data: CatalogueData) -> np.ndarray:
    """Which of the usable rows have a measured mass."""
    if calibration is None:
        return np.zeros(data.rows.size, dtype=bool)
    if calibration.ln_mass.shape[0] != len(data.catalogue):
        raise MassmapError(
            f"calibration masses are given for {calibration.ln_mass.shape[0]} objects, and the catalogue has"
            f" {len(data.catalogue)}: give one for each row, NaN where there is none"
        )
    found = np.isfinite(calibration.ln_mass[data.rows])
    if not found.any():
        raise MassmapError(
            f"none of the {calibration.number} objects with a calibration mass can be used: their luminosity or"
            " redshift is flagged, or lies outside the mass prior"
        )
    return found


def _check_range(calibration, data: CatalogueData, has_mass, joint_prior: JointPrior) -> None:
    """Refuse measured masses so far outside the mass prior that no halo of it can have them: a wrong unit, mostly."""
    central, spread = joint_prior.central(), joint_prior.sd()
    rows = data.rows[has_mass]
    ln_mass = calibration.ln_mass[rows] - central["bias"]
    error = np.hypot(calibration.sigma[rows], np.hypot(spread.get("bias", 0.0), central["mass_scatter"]))
    low, high = data.prior.ln_mass_min, data.prior.ln_mass_max
    outside = np.maximum(low - ln_mass, ln_mass - high) > _FURTHEST * error
    if outside.any():
        first = int(np.argmax(outside))
        raise MassmapError(
            f"calibration masses of {outside.sum()} objects lie outside the mass prior's {np.exp(low):.3g} to"
            f" {np.exp(high):.3g} Msun by more than {_FURTHEST} of their errors, first row {rows[first]}:"
            f" {np.exp(calibration.ln_mass[rows[first]]):.3g} Msun; check their unit, or give a prior that covers them"
        )


def _check_threshold(calibration, data: CatalogueData, has_mass, selection: SelectedOnMass) -> None:
    """Refuse objects whose measured mass is so far below the threshold that they could not be in the catalogue."""
    rows = data.rows[has_mass]
    ln_mass, z = calibration.ln_mass[rows], data.catalogue.redshift[rows]
    of_threshold, of_width, of_evolution = selection.errors
    believed, width = np.hypot(of_threshold, of_evolution * np.log1p(z)), selection.width * np.exp(2 * of_width)
    threshold = np.asarray(ln_m50(selection.numbers, z))
    _refuse_below("measured mass", rows, ln_mass, threshold, width, believed, selection.describe())


def _check_above(data: CatalogueData, selection: SelectedOn) -> None:
    """The same of a catalogue that was selected on an observable."""
    observables = data.catalogue.observables
    assert observables is not None
    i = observables.names.index(selection.observable)
    measured = observables.kind[data.rows, i] == MEASURED
    rows, value = data.rows[measured], observables.ln_value[data.rows[measured], i]
    if selection.table is not None:
        if not measured.all():
            first = int(data.rows[np.argmin(measured)])
            raise MassmapError(
                f"the catalogue was selected on {selection.observable} by a table, and {(~measured).sum()} objects have"
                f" no measured value of it, first row {first}: give a threshold in place of the table, and theirs as a"
                " lower limit"
            )
        lost = ~np.isfinite(np.asarray(selection.ln_chance(value, data.catalogue.redshift[rows])))
        _refuse_lost(selection.observable, rows, value, lost, selection.describe())
        return
    _refuse_below(selection.observable, rows, value, selection.ln_threshold, selection.width, 0.0, selection.describe())


def _refuse_below(what: str, rows, ln_value, ln_threshold, width, believed, described: str) -> None:
    """Refuse values that are far below a threshold, in its widths and in the errors of the belief about it."""
    # A thousandth for the last digit of what was printed.
    lost = ln_threshold - ln_value - 1e-3 > _FURTHEST * np.hypot(width, believed)
    _refuse_lost(what, rows, ln_value, lost, described)


def _refuse_lost(what: str, rows, ln_value, lost, described: str) -> None:
    """Refuse objects that the selection would not let into the catalogue."""
    if lost.any():
        first = int(np.argmax(lost))
        raise MassmapError(
            f"the selection ({described}) gives {lost.sum()} catalogued objects no chance to be in the catalogue, first"
            f" row {rows[first]} ({what} {np.exp(ln_value[first]):.4g}): give the threshold of this catalogue, a width"
            " in ln where it is not sharp, or leave these objects out"
        )


def _check(calibration, population, relation_prior, has_mass, selection, method, data) -> None:
    """Refuse what cannot be known from these data."""
    number, free = int(has_mass.sum()), population.kind != "fixed"
    if calibration is not None:
        check_labels(calibration=calibration, mass_prior=data.prior)
    if calibration is None and free:
        raise MassmapError(
            "a population is fitted only where some masses were measured: with luminosities and redshifts alone, the"
            " error that all masses share would be about 1 in ln M; give calibration masses, or leave population out"
        )
    if calibration is not None and calibration.chosen_by == "mass" and not isinstance(selection, SelectedOnMass):
        raise MassmapError(
            "the calibration masses are of objects that were chosen by their measured mass: give that selection,"
            " selection=SelectedOnMass(threshold, width), or the relation comes out wrong"
        )
    if isinstance(selection, SelectedOnMass) and calibration is None:
        raise MassmapError("a selection on the measured mass needs calibration masses")
    if calibration is not None and number < FEW_CALIBRATORS:
        slope = abs(relation_prior.central()["alpha2"])
        carried = relation_prior.sd().get("alpha1", 0.0) / max(slope, 1e-9)
        if number < LEAST_CALIBRATORS and free and carried > _CARRIED:
            nuts = "" if method == "nuts" else ", each with method='nuts'"
            raise MassmapError(
                f"{number} objects have a calibration mass, and a population needs at least {LEAST_CALIBRATORS} of"
                " them: give more, give a relation prior that knows the normalisation"
                f" (sd of alpha1 below {_CARRIED * slope:.2g}), or, where the catalogue is a fair sample of the mass"
                f" function above a limit that is given, keep the mass prior (population fixed){nuts}"
            )
        if method != "nuts":
            raise MassmapError(
                f"{number} objects have a calibration mass: with fewer than {FEW_CALIBRATORS} the posterior is far from"
                " normal; use method='nuts'"
            )


def _labelled(relation_prior: RelationPrior, prior: MassPrior, lum_unit: str) -> RelationPrior:
    """The prior of the relation, with the labels that its draws will carry."""
    labels = dict(relation_prior.labels) | {"mass_definition": prior.mass_definition}
    if lum_unit and not labels.get("lum_unit"):
        labels["lum_unit"] = lum_unit
    return RelationPrior(relation_prior.beliefs, relation_prior.alpha3, labels, relation_prior.gamma)


def _check_observables(catalogue, laws, prior, selection, data) -> None:
    """Refuse a fit of several observables that cannot be."""
    for law in laws.values():
        check_labels(relation_prior=law, mass_prior=prior)
    kind = catalogue.observables.kind[data.rows]
    for i, name in enumerate(laws):
        if (kind[:, i] == MEASURED).sum() < 2 and (kind[:, i] == LOWER_LIMIT).sum() == 0:
            raise MassmapError(f"{name} was measured for fewer than two of the objects that can be used: leave it out")
    if isinstance(selection, SelectedOn):
        if selection.observable not in laws:
            raise MassmapError(
                f"the catalogue was selected on {selection.observable}, which is not fitted: fitted beside the"
                f" luminosity are {', '.join(laws)}"
            )
        lost = kind[:, list(laws).index(selection.observable)] == MISSING
        if lost.any():
            raise MassmapError(
                f"the catalogue was selected on {selection.observable}, and {lost.sum()} objects have none, first row"
                f" {int(data.rows[np.argmax(lost)])}: where only the selection is known, give the threshold as a lower"
                " limit, Observables.from_arrays(lower_limit=)"
            )


def _edges(data: CatalogueData, names: tuple[str, ...], selection) -> dict[str, dict[str, float]]:
    """Observables that end abruptly, as by a cut, beside which no limit or selection is known: how many are there."""
    catalogue, rows, given = data.catalogue, data.rows, data.catalogue.observables
    found = {}
    if selection is None or isinstance(selection, NoSelection | SelectedOn):
        plain = catalogue.noise_codes[rows] == NOISE_KINDS.index("lognormal")
        measured = rows[plain & np.isfinite(catalogue.ln_lum_obs[rows])]
        found["luminosity"] = catalogue.ln_lum_obs[measured], catalogue.sigma_ln_lum[measured]
    for i, name in enumerate(names):
        assert given is not None  # `_check_observables` has looked
        kind = given.kind[rows, i]
        if getattr(selection, "observable", None) != name and not (kind == UPPER_LIMIT).any():
            measured = rows[kind == MEASURED]
            found[name] = given.ln_value[measured, i], given.sigma[measured, i]
    ends = {name: number_at_edge(*values) for name, values in found.items()}
    return {
        name: {"near": ends[name], "of": values[0].size, "least": float(np.exp(values[0].min()))}
        for name, values in found.items()
        if ends[name]
    }


def _range(data: CatalogueData, chosen) -> dict[str, tuple[float, float]]:
    """Luminosities and redshifts of the chosen objects, lowest and highest."""
    rows = data.rows[chosen]
    pairs = {"ln_lum_obs": data.catalogue.ln_lum_obs[rows], "redshift": data.catalogue.redshift[rows]}
    return {name: (float(np.nanmin(values)), float(np.nanmax(values))) for name, values in pairs.items()}


def likelihood_of(
    data: CatalogueData,
    calibration,
    has_mass,
    chosen,
    selection,
    scatter: float | None,
    stand_for: float = 1.0,
    *,
    moves: bool = False,
) -> JointLikelihood:
    """Prepare the likelihood of the chosen objects.

    Parameters
    ----------
    data : CatalogueData
        The objects.
    calibration : CalibrationMasses or None
        Measured masses, one for each row of the catalogue.
    has_mass, chosen : Bool[np.ndarray, "used"]
        Which of the usable rows have a measured mass, and which of them are fitted.
    selection : Selection, SelectedOnMass or None
        Which objects can be in the catalogue.
    scatter : float or None
        Least scatter of the relations to be evaluated, for points that stand for many objects; None for one point for
        each object.
    stand_for : float, optional
        How many objects each of the chosen ones without a measured mass stands for.
    moves : bool, optional
        Whether relations bring a cosmology along.

    Returns
    -------
    JointLikelihood
        The likelihood.
    """
    objects, rows = data.halos(), data.rows
    with_mass, without = np.flatnonzero(has_mass & chosen), np.flatnonzero(~has_mass & chosen)
    alone = Points(*(a[without] for a in objects))
    alone = alone._replace(weight=stand_for * alone.weight)
    observed = noise = None
    if isinstance(data, LinearData):
        noise = LinearNoise.of(data, np.concatenate([with_mass, without]), scatter or _USUAL_SCATTER)
    if data.catalogue.observables is not None:
        observed = Observed.of(data.catalogue, rows[np.concatenate([with_mass, without])])
    elif noise is None and without.size > _MANY and scatter is not None:
        z = alone.z
        nodes = with_ratio(data.kinks(float(z.max())), float(z.min()), _RATIO_IN_BOX)
        short = compress(*alone[:3], redshift_nodes=nodes, scatter=scatter, boxes=LARGE)
        alone = short if short.z.size < z.size else alone
    points = Points(*(np.concatenate([a[with_mass], b]) for a, b in zip(objects, alone, strict=True)))
    if noise is not None:
        # Where noise is linear, sigma only sets the scale that masses are sampled on.
        linear = noise.given[: points.sigma.size]
        points = points._replace(sigma=np.where(linear, np.minimum(points.sigma, 1.0), points.sigma))
    if observed is not None:
        ln_lum_obs, sigma = observed.with_numbers(points.ln_lum_obs, points.sigma)
        points = points._replace(ln_lum_obs=ln_lum_obs, sigma=sigma)
        observed = jax.tree.map(filled, observed)
    own, rest = rows[with_mass], np.zeros(alone.z.size)
    masses = np.zeros((3, 0))
    if calibration is not None:
        masses = np.stack([calibration.ln_mass[own], calibration.sigma[own], calibration.correlation[own]])
    # Copies of weight 0 fill up to a few sizes, so that catalogues share compiled code.
    redshift, row = np.unique(points.z, return_inverse=True)
    selection = NoSelection() if selection is None else selection
    index = np.concatenate([with_mass, without])
    weight = np.concatenate([np.ones(with_mass.size), np.full(without.size, stand_for)])
    chances = _chances(data, selection, index, weight, scatter or _USUAL_SCATTER)
    return JointLikelihood(
        ln_lum_obs=filled(points.ln_lum_obs),
        sigma=filled(points.sigma),
        ln_mass_obs=filled(np.concatenate([masses[0], rest + 30.0])),
        sigma_mass=filled(np.concatenate([masses[1], rest + 1.0])),
        error_correlation=filled(np.concatenate([masses[2], rest])),
        has_mass=filled(np.concatenate([np.ones(own.size, dtype=bool), rest.astype(bool)])),
        observed=observed,
        noise=noise,
        z=filled(points.z),
        weight=filled(points.weight, 0.0),
        row=filled(row.ravel()),
        redshift=filled(redshift),
        ln_prior=prior_rows(data.prior, filled(redshift)),
        prior=data.prior,
        selection=selection,
        constant=np.float64(data.constant),
        chances=chances,
        moves=moves,
    )


def _chances(data: CatalogueData, selection, index, weight, scatter: float) -> Chances | None:
    """Where A is evaluated for some objects, if a table says which are in the catalogue."""
    table = table_of(selection)
    if table is None:
        return None
    _, sigma, z, _ = (a[index] for a in data.halos())
    if isinstance(selection, SelectedOn):
        observables = data.catalogue.observables
        assert observables is not None  # the one that they were selected on is among them
        sigma = Observed.of(data.catalogue, data.rows[index]).sigma[:, observables.names.index(selection.observable)]
    nodes = np.union1d(data.kinks(float(z.max())), np.asarray(table.redshift_nodes))
    return Chances.of(z, sigma, weight, with_ratio(nodes, float(z.min()), _RATIO_IN_BOX), scatter)


def _search(data, calibration, has_mass, chosen, selection, joint_prior, coordinates):
    """Likelihood and maximum: from the middle of the beliefs and from a regression of L on the measured masses."""
    central = joint_prior.central()
    central |= _laws_at(data, calibration, has_mass, joint_prior, central)
    starts = [np.asarray(coordinates.place(central))]
    if has_mass.sum() > 4:
        guess = central | _regression(data, calibration, has_mass, joint_prior, central)
        place = np.asarray(coordinates.place(guess))
        if np.isfinite(float(_ln_belief(joint_prior, {p: guess[p] for p in joint_prior.free}))):
            starts.insert(0, place)
    scatter, moves = 0.5 * central["scatter"], isinstance(joint_prior, JointCosmologyPrior)
    many = _MANY_LINEAR if isinstance(data, LinearData) else _MANY
    if (chosen & ~has_mass).sum() > many and has_mass.sum() >= FEW_CALIBRATORS:
        # A part that stands for all others finds the way at little cost. Those with a measured mass alone would lead
        # astray where they were chosen by their luminosity.
        without = np.flatnonzero(chosen & ~has_mass)
        some = without[_spread(*(a[without] for a in data.halos()[:3]), min(many, _SOME))]
        part = has_mass.copy()
        part[some] = True
        few = likelihood_of(data, calibration, has_mass, part, selection, None, without.size / some.size, moves=moves)
        found = _best_from(starts, coordinates, few)
        if found is not None:
            starts = [np.asarray(found.x)]
            scatter = max(0.5 * float(relation_at(coordinates, found.x).scatter), _LEAST_SCATTER)
    likelihood = likelihood_of(data, calibration, has_mass, chosen, selection, scatter, moves=moves)
    best = _best_from(starts, coordinates, likelihood)
    if best is None:
        data.refuse(joint_prior.relation_prior.relation(central))
    # Compressed points are fewer than the objects; with further observables nothing is compressed.
    while (likelihood.weight.size < chosen.sum() or likelihood.noise is not None) and scatter > _LEAST_SCATTER:
        found = float(relation_at(coordinates, best.x).scatter)
        if found > 1.1 * scatter:
            break
        # Points that stand for many objects, and panels over linear noise, are good for scatters from a least one on.
        scatter = max(0.5 * found, _LEAST_SCATTER)
        likelihood = likelihood_of(data, calibration, has_mass, chosen, selection, scatter, moves=moves)
        best = maximise(coordinates, likelihood, best.x)
    return likelihood, best


@jax.jit
def _ln_belief(joint_prior, values) -> Float[Array, ""]:
    """ln of the density of the beliefs, in one compiled call."""
    return joint_prior.log_prob(values)


def _spread(ln_lum, sigma, z, number: int) -> np.ndarray:
    """Indices of about `number` objects, evenly spread over redshift, noise and luminosity.

    A random part of so few would have another mean and width of the luminosities than all objects, by far more than the
    errors of these: its maximum lies many errors away, at a scatter for which all objects make many more points.
    """

    def bins(values, number):
        return np.argsort(np.argsort(values, kind="stable"), kind="stable") * number // values.size

    cell = 4 * bins(z, 10) + bins(sigma, 4)
    # From faint to bright and back, so that no cell begins where its neighbour does.
    order = np.lexsort((np.where(cell % 2, -ln_lum, ln_lum), cell))
    step = -(-order.size // number)
    return order[step // 2 :: step]


def _best_from(starts, coordinates, likelihood):
    """The highest maximum found from some starts; None where there is none."""
    best = None
    for start in starts:
        found = maximise(coordinates, likelihood, start)
        if np.isfinite(found.negative_log_density) and (
            best is None or found.negative_log_density < best.negative_log_density - 1e-6
        ):
            best = found
    return best


def _laws_at(data, calibration, has_mass, joint_prior, central) -> dict[str, float]:
    """Values of the further relations to start from: a regression on rough masses, of calibrators or by luminosity."""
    found: dict[str, float] = {}
    if not joint_prior.observables:
        return found
    rows, observables = data.rows, data.catalogue.observables
    relation = joint_prior.relation_prior.relation(central)
    ln_lum, z = data.catalogue.ln_lum_obs[rows], data.catalogue.redshift[rows]
    ln_mass = np.asarray(relation.data_term(ln_lum, 0.0, z).centre)
    if calibration is not None and has_mass.sum() > 4:
        ln_mass = np.where(has_mass, calibration.ln_mass[rows], np.nan)
    for i, (name, beliefs) in enumerate(zip(joint_prior.observables, joint_prior.laws, strict=True)):
        law = beliefs.relation(beliefs.central())
        use = (observables.kind[rows, i] == MEASURED) & np.isfinite(ln_mass)
        if use.sum() < 5:
            continue
        x = ln_mass[use] - np.log(float(law.alpha3))
        y = observables.ln_value[rows[use], i] - np.asarray(law.ln_evolution(z[use]))
        slope = float(law.alpha2)
        rest = np.var(y - slope * x) - np.mean(observables.sigma[rows[use], i] ** 2)
        guess = {"alpha1": float(np.mean(y - slope * x)), "scatter": float(np.sqrt(max(rest, 0.1**2)))}
        for p, value in guess.items():
            belief = joint_prior.beliefs[f"{p}_{name}"]
            if f"{p}_{name}" in joint_prior.free and np.isfinite(float(belief.log_prob(value))):
                found[f"{p}_{name}"] = value
    return found


def _regression(data, calibration, has_mass, joint_prior, central) -> dict[str, float]:
    """Values to start from: ln L of the calibrators regressed on their ln M_obs, freed of the errors of the masses."""
    rows = data.rows[has_mass]
    relation = joint_prior.relation_prior.relation(central)
    x = calibration.ln_mass[rows] - np.log(float(relation.alpha3))
    ln_lum, sigma, *_ = (a[has_mass] for a in data.halos())
    y = ln_lum - np.asarray(relation.ln_evolution(data.catalogue.redshift[rows]))
    noise = float(np.mean(calibration.sigma[rows] ** 2))
    slope = np.cov(x, y)[0, 1] / max(np.var(x) - noise, 0.3 * np.var(x))
    rest = np.var(y - slope * x) - slope**2 * noise - np.mean(np.minimum(sigma, 1.0) ** 2)
    found = {"alpha2": slope, "alpha1": float(np.mean(y - slope * x)), "scatter": np.sqrt(max(rest, 0.1**2))}
    width = np.sqrt(max(np.var(x) - noise, 0.05))
    found |= {"population_width": float(width), "population_centre": float(np.mean(calibration.ln_mass[rows]))}
    return {p: float(v) for p, v in found.items() if p in joint_prior.free}
