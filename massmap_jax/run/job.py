"""The main job: from a catalogue to masses, their map, and the fit of the relation."""

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.catalogue.redshift_shapes import Normal
from massmap_jax.checks.prior_check import PriorCheck, prior_check
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import flag_outside_prior
from massmap_jax.likelihood.selection import NoSelection, described
from massmap_jax.maps.circle import mass_in_circle
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.regions import Circle, RegionMass
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.posterior.surface_redshifts import errors_of
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.presets import find_preset
from massmap_jax.run.beside_beliefs import (
    computed_from_luminosity,
    far_from_beliefs,
    in_numbers,
    slips,
    unrelated,
)
from massmap_jax.run.beside_limit import check_limit
from massmap_jax.run.beside_published import Far, far_from_published
from massmap_jax.run.beside_relation import beside_relation
from massmap_jax.run.calibration_columns import in_definition_of
from massmap_jax.run.clock import Clock
from massmap_jax.run.cosmology import brings_cosmologies, cosmologies_of, fitted_from, paired, read_cosmology
from massmap_jax.run.map_plan import plan_map
from massmap_jax.run.mass_likelihood_columns import under_prior
from massmap_jax.run.misfit import (
    CHECK_LEVEL,
    Finding,
    giants,
    impossible_masses,
    is_of_the_brightest,
    large_part_of_sky,
    misfits,
    refuse,
    refuse_unit,
    wrong_unit,
)
from massmap_jax.run.observable_columns import check_units
from massmap_jax.run.observable_names import check_observable, check_own_mass, refuse_falling
from massmap_jax.run.observable_options import beliefs_about_scatters, is_on_mass, laws_of, named
from massmap_jax.run.options import (
    JobOptions,
    check_circle,
    check_options,
    draws_of_uncertain,
    load_prior,
    load_relation,
    selection_of,
    selection_of_fit,
    with_definition_of_relation,
)
from massmap_jax.run.pictures import fwhm_of_picture, with_picture
from massmap_jax.run.published_names import mass_column
from massmap_jax.run.under_published import at_other_redshifts, flag_outside_range, in_unit_of_relation

if TYPE_CHECKING:
    from massmap_jax.checks.calibrators import CalibratorsCheck
    from massmap_jax.checks.populations import PopulationComparison
    from massmap_jax.maps.convergence import ConvergenceMap
    from massmap_jax.models.runner import HaloMassSamples
    from massmap_jax.prior.cosmology_draws import CosmologyDraws
    from massmap_jax.relation.calibration import CalibrationMasses
    from massmap_jax.relation.fitted import RelationPosterior
    from massmap_jax.run.completeness import Completeness
    from massmap_jax.run.mass_likelihood_columns import MassLikelihoods

_FIT_DRAWS = 1000
# Number of objects above which making a posterior surface takes less time than integrating each (100 relation draws).
SURFACE_PAYS = 400_000
# The same where each is an integral over its redshift, too: a table takes some 20,000 of these integrals, and half of
# the objects may be beside it (benchmarks/programs/photo_z.py --table).
SURFACE_OF_UNCERTAIN_PAYS = 100_000
# An object has lost its posterior if more than this fraction is beyond the table; if most have, the table is wrong.
# Below this signal to noise, linear noise alone may be more likely than a halo: exp(-q^2 / 2) times the number of light
# halos for each massive one.
_NOISE_ALONE = 5.0
_EDGE_TOO_FAR = 0.5


class Calibrated(NamedTuple):
    """Measured masses that a relation was calibrated on, and whether the fit predicts them.

    Attributes
    ----------
    masses : CalibrationMasses
        The measured masses.
    check : CalibratorsCheck
        The check of the fit against them.
    far : Far or None
        That they are far from what published relations give, where they are.
    """

    masses: "CalibrationMasses"
    check: "CalibratorsCheck"
    far: Far | None = None


@dataclass
class JobResult:
    """Results of a run.

    Attributes
    ----------
    posterior : MassPosterior
        The masses.
    mass_map : MassMap or None
        The map, None if there is none.
    relation_from : str or None
        How the relation draws are weighted.
    notes : list of str
        Notes for the user.
    fitted : RelationPosterior or None
        The fitted relation, None if the relation was given.
    samples : HaloMassSamples or None
        Samples of method "nuts".
    convergence : ConvergenceMap or None
        The convergence map, if one was asked for.
    check : PriorCheck or None
        The check of prior and relation against the luminosities.
    misfits : list of str
        Signs of a misfit that was accepted.
    circle : RegionMass or None
        The mass in a circle, if one was asked for.
    calibrated : Calibrated or None
        Measured masses, if the relation was calibrated on some.
    likelihoods : MassLikelihoods or None
        Mass likelihoods of some objects, if there are any.
    picture : MassMap or None
        What is drawn in place of the map: the same, smoothed, where its pixels hold few objects.
    cosmology : CosmologyDraws or None
        The cosmologies of the relation's draws, None where they have that of the mass prior.
    selection : str
        Which objects are in the catalogue, in words.
    """

    posterior: MassPosterior
    mass_map: MassMap | None
    relation_from: str | None
    notes: list[str]
    fitted: "RelationPosterior | None" = None
    samples: "HaloMassSamples | None" = None
    convergence: "ConvergenceMap | None" = None
    check: PriorCheck | None = None
    misfits: list[str] = field(default_factory=list)
    circle: RegionMass | None = None
    calibrated: Calibrated | None = None
    likelihoods: "MassLikelihoods | None" = None
    picture: MassMap | None = None
    cosmology: "CosmologyDraws | None" = None
    selection: str = "none"

    def table(self) -> dict[str, np.ndarray]:
        """List the columns of the masses.

        Returns
        -------
        dict of str to np.ndarray, (halo,)
            The columns of `MassPosterior.to_table`; with method "nuts", means, errors and quantiles of the samples and
            their diagnostics.
        """
        columns = self.posterior.to_table()
        if self.samples is None:
            return columns
        drawn, ln10 = self.samples, np.log(10)
        columns |= {
            "log10_mass_mean": drawn.mean / ln10,
            "log10_mass_sd": drawn.sd / ln10,
            "mass_mean": drawn.mean_mass,
            **dict(zip(self.posterior.quantile_columns, drawn.quantiles.T / ln10, strict=True)),
        }
        after = {"r_hat": drawn.r_hat, "ess": drawn.ess, "divergences": drawn.divergences}
        last = {name: columns.pop(name) for name in ("flag", "flag_reason")}
        return columns | after | last


def compute(
    catalogue: HaloCatalogue,
    options: JobOptions,
    clock: Clock,
    calibration: "CalibrationMasses | None" = None,
    likelihoods: "MassLikelihoods | None" = None,
    completeness: "Completeness | None" = None,
) -> JobResult:
    """Compute the prior, relation, mass posteriors and map of a catalogue.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    options : JobOptions
        The options of the run.
    clock : Clock
        Times the stages and reports them.
    calibration : CalibrationMasses, optional
        Measured masses, for the fit of the relation.
    likelihoods : MassLikelihoods, optional
        Mass likelihoods of some objects, for the fit, the masses and the map.
    completeness : Completeness, optional
        The completeness of the catalogue, where the options name its file.

    Returns
    -------
    JobResult
        The results.

    Raises
    ------
    MassmapError
        For options or a catalogue that cannot be used. `MisfitError` if the fitted relation does not describe the
        catalogue.
    """
    check_options(options)
    if options.source_redshift is not None and catalogue.ra is not None:
        from massmap_jax.maps.convergence import check_lensing

        check_lensing(catalogue, options.source_redshift)
    if options.circle is not None and catalogue.ra is None:
        raise MassmapError("a circle is asked for, and the catalogue has no positions: give ra= and dec=")
    if options.circle is not None:
        check_circle(options.circle, is_flat=catalogue.frame == "flat")
    notes = list(catalogue.notes)
    if options.flux_limit is not None:
        notes.append(f"flux_limit={options.flux_limit:g} is a limit of the luminosity: its name is lum_limit= now")
    key_relation, key_lum, key_map = jax.random.split(jax.random.key(options.seed), 3)
    key_cosmology = jax.random.fold_in(jax.random.key(options.seed), 3)
    fitted, check, findings, relation_from = None, None, [], options.relation_from
    calibrated, of_masses = None, None
    if options.relation == "fit" and relation_from not in (None, "this_catalogue"):
        raise MassmapError(
            f"relation_from is {relation_from!r}, and the relation is fitted to these objects: leave it out"
        )
    options = with_definition_of_relation(options, notes)
    with clock.stage("prior"):
        prior = load_prior(options.prior, notes)
        cosmology = read_cosmology(options, prior, notes)
    calibration = in_definition_of(prior, calibration, options, catalogue, notes)
    likelihoods = under_prior(prior, likelihoods, options, catalogue, notes)
    extra = None if likelihoods is None else likelihoods.term
    if options.make_map and (options.halo_profile or options.source_redshift):
        from massmap_jax.halo.cosmology import overdensity

        overdensity(prior.mass_definition, options.prior.cosmology, np.zeros(1))  # refuses a mass without a radius
    if options.column_names is not None:
        mass_column(options.column_names, prior.mass_definition)  # refuses a definition without a name
    # A map that cannot be made is refused before the relation is fitted and the masses are computed.
    seen = catalogue.seen_by(tuple(named(options, "observable")))
    usable = (flag_outside_prior(seen, prior) & UNUSABLE) == 0
    grid, of_map = plan_map(catalogue, usable, options)
    if options.relation == "fit":
        _refuse_units(catalogue, prior, calibration, options, notes)
        check_limit(selection_of(options, catalogue.lum_unit, completeness), catalogue, notes)
        with clock.stage("fitting the relation"):
            catalogue = as_proxy(catalogue, prior, notes)
            in_fit = None if likelihoods is None else likelihoods.in_fit
            given = calibration, in_fit, cosmology, completeness
            fitted = fit(catalogue, prior, options, key_relation, clock.say, *given)
        notes.extend(fitted.notes)
        relation, relation_from = fitted.draws.thinned(options.num_relation_draws), "this_catalogue"
        with clock.stage("checking prior and relation"):
            check = _check_fitted(catalogue, prior, relation, options, notes, completeness)
            calibrated = _check_calibrators(fitted, catalogue, prior, calibration, options, notes)
        of_masses = None if calibrated is None else calibrated.check
        findings = [*_units_of(calibrated), *misfits(prior, fitted, check, calibrators=of_masses)]
        if not options.accept_misfit:
            refuse(findings, notes)
    else:
        with clock.stage("relation"):
            relation = load_relation(options, key_relation, prior, notes)
        check_units(catalogue, relation)
    if options.cosmology_draws is not None and fitted is not None:
        cosmology = cosmologies_of(relation, fitted_from(cosmology))
    elif brings_cosmologies(relation):
        # Of a fit that kept its cosmologies.
        if options.cosmology_draws is not None:
            raise MassmapError(
                f"cosmology_draws= is given, and the relation {options.relation} brings the cosmologies along that it"
                " was fitted with: leave cosmology_draws= out"
            )
        cosmology = cosmologies_of(relation, str(options.relation))
    elif options.cosmology_draws is not None:
        with clock.stage("a mass function for each draw"):
            relation, cosmology = paired(relation, cosmology, prior, options, key_cosmology, notes)
    if relation_from is None and relation.num_draws > 1:
        relation_from = "fixed_draws"
        notes.append(
            "relation weights: fixed_draws, as relation_from was not given: the draws are external and these objects "
            "may not update them"
        )
    preset = find_preset(str(options.relation)) if options.is_published else None
    if preset is not None:
        check_observable(preset, catalogue.columns_read.get("lum", ""), notes)
        if told := at_other_redshifts(catalogue.redshift[usable], preset):
            notes.append(told)
        options, catalogue = in_unit_of_relation(options, catalogue, relation, notes)
    elif options.relation == "identity":
        check_own_mass(prior.mass_definition, catalogue.columns_read.get("lum", ""), catalogue.mass_definition)
    of_file = options.relation != "fit" and options.is_file and isinstance(relation, MassLuminosityRelation)
    if of_file and (told := in_numbers(str(options.relation), *_measured(catalogue), relation)):
        notes.append(told)
    if of_file:
        refuse_falling(catalogue.columns_read.get("lum", ""), relation, notes)
    if fitted is None and likelihoods is not None and likelihoods.term is not None:
        _compare_likelihoods(likelihoods, catalogue, relation, notes)
    if completeness is not None and fitted is None:
        completeness = completeness.in_unit(catalogue.lum_unit or relation.lum_unit)
    selection = selection_of(options, catalogue.lum_unit, completeness)
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    if catalogue.redshift_distributions is not None:
        relation = draws_of_uncertain(relation, notes)
    if fitted is None:
        check = _check_given(catalogue, prior, relation, selection, notes, clock)
    with clock.stage("mass posteriors"):
        method = _method(options, catalogue, prior, relation, extra, selection)
        settings = {
            "relation_from": relation_from,
            "key": key_lum,
            "num_lum_draws": options.num_lum_draws,
            "selection": selection,
            "extra": extra,
            "watch": clock.say,
        }
        try:
            posterior = mass_posterior(catalogue, prior, relation, method=method, **settings)
        except MassmapError:
            # Whether a table can be made is known when it is made; nobody has asked for it.
            if (options.method, method) != ("auto", "surface"):
                raise
            posterior = mass_posterior(catalogue, prior, relation, method="analytic", **settings)
    if options.method == "auto" and posterior.surface is not None:
        notes.append(_read_off(posterior))
    if preset is not None:
        posterior = flag_outside_range(posterior, preset, notes)
    if fitted is None:
        _refuse_wrong_masses(posterior, options)
        if told := large_part_of_sky(posterior, options.prior.cosmology):
            notes.append(told)
    else:
        findings = misfits(prior, fitted, check, posterior, of_masses, options.prior.cosmology)
        findings = [*_units_of(calibrated), *findings]
        if not options.accept_misfit:
            refuse(findings, notes)
    if told := giants(posterior):
        notes.append(told)
    samples = None
    if options.method == "nuts":
        from massmap_jax.models.runner import sample_halo_masses

        with clock.stage("NUTS for each object"):
            samples = sample_halo_masses(
                key_lum,
                catalogue,
                prior,
                relation,
                relation_from=relation_from,
                quantile_levels=posterior.quantile_levels,
                selection=selection,
                watch=clock.say,
            )
        notes.append(samples.summary().splitlines()[-1])
    if grid is not None and not np.array_equal(posterior.usable, usable):
        grid, of_map = plan_map(catalogue, posterior.usable, options)
    notes.extend(of_map)
    image, picture, convergence = _maps(key_map, posterior, grid, options, clock, notes)
    circle = None
    if options.circle is not None:
        with clock.stage("mass in the circle"):
            circle = mass_in_circle(
                key_map,
                *(posterior.catalogue, prior, relation, Circle(*options.circle)),
                relation_from=relation_from,
                num_draws=options.num_map_draws,
                selection=selection,
                extra=extra,
            )
    accepted = [f.what for f in findings]
    return JobResult(
        posterior,
        image,
        relation_from,
        notes,
        fitted,
        samples,
        convergence,
        check,
        accepted,
        circle,
        calibrated,
        likelihoods,
        picture,
        cosmology,
        _in_words(options, catalogue, completeness),
    )


def _maps(key, posterior: MassPosterior, grid, options: JobOptions, clock: Clock, notes: list[str]):
    """Make the mass map, its picture and the convergence map, None where there is none.

    `plan_map` has refused what can be refused beforehand. A map that fails now becomes a note, so that the masses are
    kept."""
    if grid is None:
        return None, None, None
    of = posterior.catalogue, posterior.prior, posterior.relation, grid
    shared: dict[str, Any] = {"relation_from": posterior.relation_from, "num_draws": options.num_map_draws}
    shared |= {"selection": posterior.selection, "extra": posterior.extra}
    reuse = posterior if posterior.method in ("analytic", "surface") else None
    image = picture = convergence = None
    fwhm = fwhm_of_picture(int(posterior.usable.sum()), grid, options)
    try:
        with clock.stage("mass map"):
            keep = fwhm is not None
            image = mass_map(key, *of, posterior=reuse, form=options.form, watch=clock.say, keep_draws=keep, **shared)
            image, picture = with_picture(image, fwhm)
        if reuse is None:
            notes.append(f"the map uses the analytic integral; method {options.method} is for the table of masses")
        if options.source_redshift is not None:
            from massmap_jax.maps.convergence import convergence_map

            with clock.stage("convergence map"):
                convergence = convergence_map(
                    key, *of, options.source_redshift, shear=True, cosmology=options.prior.cosmology, **shared
                )
            behind = posterior.usable & (posterior.catalogue.redshift >= options.source_redshift)
            if behind.any():
                notes.append(
                    f"{behind.sum()} of {posterior.usable.sum()} objects lie at or behind the sources"
                    f" (source_redshift={options.source_redshift:g}): the convergence does not hold them"
                )
    except MassmapError as error:
        notes.append(f"no {'mass' if image is None else 'convergence'} map: {error}")
    return image, picture, convergence


@dataclass
class FitResult:
    """Results of `massmap-jax fit`.

    Attributes
    ----------
    prior : MassPrior
        The mass prior.
    fitted : RelationPosterior
        The fitted relation.
    check : PriorCheck or None
        The check of prior and relation against the luminosities.
    misfits : list of str
        Signs of a misfit that was accepted.
    calibrated : Calibrated or None
        Measured masses, if the relation was calibrated on some.
    notes : list of str
        Notes on the measured masses and the check.
    compared : PopulationComparison or None
        Several populations, if that was asked for.
    likelihoods : MassLikelihoods or None
        Mass likelihoods of some objects, if there are any.
    cosmology : CosmologyDraws or None
        The cosmologies of the relation's draws, None where they have that of the mass prior.
    selection : str
        Which objects are in the catalogue, in words.
    """

    prior: MassPrior
    fitted: "RelationPosterior"
    check: PriorCheck | None
    misfits: list[str] = field(default_factory=list)
    calibrated: Calibrated | None = None
    notes: list[str] = field(default_factory=list)
    compared: "PopulationComparison | None" = None
    likelihoods: "MassLikelihoods | None" = None
    cosmology: "CosmologyDraws | None" = None
    selection: str = "none"


def compute_fit(
    catalogue: HaloCatalogue,
    options: JobOptions,
    clock: Clock,
    calibration: "CalibrationMasses | None" = None,
    likelihoods: "MassLikelihoods | None" = None,
    completeness: "Completeness | None" = None,
) -> FitResult:
    """Fit the relation, and check whether prior and relation describe the catalogue.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    options : JobOptions
        The options of the run.
    clock : Clock
        Times the stages and reports them.
    calibration : CalibrationMasses, optional
        Measured masses.
    likelihoods : MassLikelihoods, optional
        Mass likelihoods of some objects.
    completeness : Completeness, optional
        The completeness of the catalogue, where the options name its file.

    Returns
    -------
    FitResult
        The results.

    Raises
    ------
    MassmapError
        For options or a catalogue that cannot be used. `MisfitError` if the fitted relation does not describe the
        catalogue.
    """
    key, _, _ = jax.random.split(jax.random.key(options.seed), 3)
    notes: list[str] = []
    with clock.stage("prior"):
        prior = load_prior(options.prior, notes)
        cosmology = read_cosmology(options, prior, notes)
    calibration = in_definition_of(prior, calibration, options, catalogue, notes)
    likelihoods = under_prior(prior, likelihoods, options, catalogue, notes)
    in_fit = None if likelihoods is None else likelihoods.in_fit
    _refuse_units(catalogue, prior, calibration, options, [*catalogue.notes, *notes])
    check_limit(selection_of(options, catalogue.lum_unit, completeness), catalogue, notes)
    with clock.stage("fitting the relation"):
        catalogue = as_proxy(catalogue, prior, [])
        fitted = fit(catalogue, prior, options, key, clock.say, calibration, in_fit, cosmology, completeness)
    with clock.stage("checking prior and relation"):
        draws = fitted.draws.thinned(options.num_relation_draws)
        check = _check_fitted(catalogue, prior, draws, options, notes, completeness)
        told: list[str] = []
        calibrated = _check_calibrators(fitted, catalogue, prior, calibration, options, told)
        if calibrated is None:
            notes.extend(told)
        else:
            notes.extend([*_told_by(calibrated.check), *([] if calibrated.far is None else [calibrated.far.told])])
            notes.extend(_unrelated(catalogue, fitted, calibration, calibrated.check))
    findings = _units_of(calibrated)
    findings += misfits(prior, fitted, check, calibrators=None if calibrated is None else calibrated.check)
    if not options.accept_misfit:
        refuse(findings, (*catalogue.notes, *notes))
    compared = None
    if options.compare_populations and calibration is not None:
        with clock.stage("comparing populations"):
            compared = _compare(catalogue, prior, options, key, clock.say, calibration, completeness)
    if cosmology is not None:
        cosmology = cosmologies_of(fitted.draws, fitted_from(cosmology))
    what = [f.what for f in findings]
    words = _in_words(options, catalogue, completeness)
    return FitResult(prior, fitted, check, what, calibrated, notes, compared, likelihoods, cosmology, words)


def _in_words(options: JobOptions, catalogue: HaloCatalogue, completeness: "Completeness | None") -> str:
    """Which objects are in the catalogue, with the file of a completeness."""
    told = described(selection_of_fit(options, catalogue.lum_unit, completeness))
    return told if completeness is None else f"{told}, {completeness.file}"


def _compare(catalogue, prior, options: JobOptions, key, watch, calibration, completeness) -> "PopulationComparison":
    """Compare every form of the population, and the one that was asked for, under the options of the fit."""
    from massmap_jax.checks.populations import FORMS, compare_populations
    from massmap_jax.prior.population import Population
    from massmap_jax.relation.beliefs import RelationPrior

    own = () if options.population is None else (Population.parse(options.population).name,)
    units = None if catalogue.observables is None else catalogue.observables.units
    return compare_populations(
        catalogue,
        prior,
        RelationPrior.parse(options.relation_prior),
        calibration,
        list(dict.fromkeys([*FORMS, *own])),
        selection=selection_of_fit(options, catalogue.lum_unit, completeness),
        observables=laws_of(options, units),
        scatter_correlation=beliefs_about_scatters(options),
        method=options.fit_method,
        num_draws=max(_FIT_DRAWS, options.num_relation_draws),
        key=key,
        watch=watch,
    )


def _told_by(check: "CalibratorsCheck") -> list[str]:
    """What a check against the measured masses says in the notes."""
    more = (check.shape_text, check.left_out, check.far_text)
    return [check.summary().splitlines()[0], *(text for text in more if text)]


def _units_of(calibrated: Calibrated | None) -> list[Finding]:
    """The sign of a misfit that measured masses in a wrong unit are; they fit themselves, whatever their unit."""
    if calibrated is None or calibrated.far is None or not calibrated.far.certain:
        return []
    return [wrong_unit(calibrated.far.told)]


def _unrelated(catalogue: HaloCatalogue, fitted, calibration, check) -> list[str]:
    """Say where measured masses and luminosities have nothing to do with each other."""
    of = catalogue.ln_lum_obs[check.rows], calibration.ln_mass[check.rows]
    told = unrelated(*of, fitted.prior_mean.get("alpha2", 1.0))
    return [told] if told else []


def _refuse_units(catalogue: HaloCatalogue, prior: MassPrior, calibration, options: JobOptions, notes) -> None:
    """Refuse luminosities that no unit but a wrong one explains before they are fitted, which takes minutes."""
    if options.accept_misfit or options.relation_prior is None:
        return
    from massmap_jax.relation.beliefs import RelationPrior

    usable = catalogue.usable
    of = catalogue.ln_lum_obs[usable], catalogue.redshift[usable]
    ln_mass = None if calibration is None else calibration.ln_mass[usable]
    if calibration is not None and (same := computed_from_luminosity(*of, calibration.ln_mass[usable])):
        raise MassmapError(same)
    told = far_from_beliefs(*of, RelationPrior.parse(options.relation_prior), prior, ln_mass)
    far = None if calibration is None else _far_of(catalogue, calibration, np.flatnonzero(usable))
    if not told and far is not None and far.certain:
        told = far.told
    if told:
        refuse_unit(told, notes)


def _far_of(catalogue: HaloCatalogue, calibration: "CalibrationMasses", rows: np.ndarray) -> Far | None:
    """How far the measured masses of some rows are from published relations."""
    rows = rows[np.isfinite(calibration.ln_mass[rows]) & np.isfinite(catalogue.ln_lum_obs[rows])]
    if rows.size == 0:
        return None
    return far_from_published(
        *(catalogue.ln_lum_obs[rows], catalogue.lum_unit, catalogue.redshift[rows], calibration.ln_mass[rows]),
        catalogue.columns_read.get("lum", ""),
    )


def _check_calibrators(fitted, catalogue, prior, calibration, options: JobOptions, notes) -> Calibrated | None:
    """Check a fit against the measured masses, and count the objects beyond them; None where there are none."""
    if calibration is None:
        return None
    from massmap_jax.checks.calibrators import calibrators_check

    check = calibrators_check(fitted, catalogue, prior, calibration, level=CHECK_LEVEL)
    notes.extend(_told_by(check))
    far = _far_of(catalogue, calibration, check.rows)
    notes.extend([] if far is None else [far.told])
    notes.extend(_unrelated(catalogue, fitted, calibration, check))
    notes.append(
        "the mass of an object that has a measured mass rests on its luminosity, as all masses do: its own measurement"
        " is in the relation, and not in its mass"
    )
    outside = fitted.outside_calibrators(catalogue.ln_lum_obs, catalogue.redshift) & catalogue.usable
    if outside.any():
        notes.append(
            f"{outside.sum():,} objects, first row {int(np.argmax(outside))}, lie outside the luminosities or redshifts"
            " of those with a measured mass: their masses rest on the form of the relation and of the population"
        )
    return Calibrated(calibration, check, far)


def fit(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    options: JobOptions,
    key,
    watch=lambda stage: None,
    calibration=None,
    extra=None,
    cosmology=None,
    completeness: "Completeness | None" = None,
):
    """Fit the relation as the options ask for it; the notes come with the result.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior.
    options : JobOptions
        The options of the run.
    key : Key[Array, ""]
        Random key.
    watch : callable
        Called with a line of text at every stage.
    calibration : CalibrationMasses, optional
        Measured masses.
    extra : TabulatedTerm, optional
        Mass likelihoods of some objects.
    cosmology : CosmologyDraws, optional
        What is known of the cosmology, which is fitted too.
    completeness : Completeness, optional
        The completeness of the catalogue, where the options name its file.

    Returns
    -------
    RelationPosterior
        The fit.
    """
    from massmap_jax.prior.population import Population
    from massmap_jax.relation.beliefs import RelationPrior
    from massmap_jax.relation.fit import fit_relation

    units = None if catalogue.observables is None else catalogue.observables.units
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_relation(
            catalogue,
            prior,
            RelationPrior.parse(options.relation_prior),
            calibration=calibration,
            population=None if options.population is None else Population.parse(options.population),
            observables=laws_of(options, units),
            extra=extra,
            extra_bias=options.mass_likelihood_bias,
            scatter_correlation=beliefs_about_scatters(options),
            cosmology=cosmology,
            method=options.fit_method,
            selection=selection_of_fit(options, catalogue.lum_unit, completeness),
            key=key,
            num_draws=max(_FIT_DRAWS, options.num_relation_draws),
            watch=watch,
        )


def _method(options: JobOptions, catalogue: HaloCatalogue, prior: MassPrior, relation, extra, selection) -> str:
    """Choose the method of the masses; "auto" takes the surface for large catalogues."""
    if options.method == "nuts":
        return "analytic"  # it still serves the map, the flags and the comparison
    if options.method != "auto":
        return options.method
    rows = np.flatnonzero(catalogue.usable)
    plain = prior.snap is None and (catalogue.noise_codes[rows] == NOISE_KINDS.index("lognormal")).all()
    fewest = SURFACE_PAYS
    if catalogue.redshift_distributions is not None:
        fewest = SURFACE_OF_UNCERTAIN_PAYS
        plain = plain and rows.size >= fewest and _has_one_error(catalogue, rows)
        plain = plain and (selection is None or isinstance(selection, NoSelection))
    if extra is not None or rows.size < fewest or not plain or population_of(relation) is not None:
        return "analytic"
    return "surface"


def _has_one_error(catalogue: HaloCatalogue, rows) -> bool:
    """Whether all have one error of ln L and one normal error of ln(1 + z): a table of others may be too large."""
    assert catalogue.redshift_distributions is not None
    if not isinstance(catalogue.redshift_distributions.shape, Normal):
        return False
    return all(np.ptp(a[rows]) <= 1e-6 * np.max(a[rows]) for a in (catalogue.sigma_ln_lum, errors_of(catalogue)))


def _read_off(posterior: MassPosterior) -> str:
    """The note on masses that are read off a table unasked."""
    assert posterior.surface is not None
    told = ""
    if posterior.surface.redshifts is not None:
        error = posterior.surface.error
        told = (
            f" (measured: mean {error['mean']:.1g}, quantiles {error['quantiles']:.1g} standard deviations at most;"
            f" {posterior.num_beside_surface:,} objects beside the table are integrated)"
        )
    return (
        f"masses of {posterior.usable.sum():,} objects are read off a posterior surface, to 1 % of their error bars"
        f"{told}: method 'analytic' integrates each"
    )


def _check_fitted(
    catalogue, prior, relation, options: JobOptions, notes: list[str], completeness: "Completeness | None"
) -> PriorCheck | None:
    """Check a fitted relation against the luminosities; a note where another observable selected the catalogue."""
    on_mass = is_on_mass(options.selected_on)
    noisy = (catalogue.noise_codes[catalogue.usable] == NOISE_KINDS.index("normal")).any()
    unknown = options.selected_on is not None and (noisy or not on_mass)
    if unknown or (completeness is not None and (noisy or completeness.observable)):
        known = "limits of the luminosity, and selections on the measured mass where noise is lognormal"
        if completeness is not None:
            known = "limits of the luminosity, and a completeness in it where noise is lognormal"
        notes.append(
            f"whether prior and relation predict the observed luminosities was not checked: the check knows {known},"
            f" and this catalogue was selected by {options.selected_on or _in_words(options, catalogue, completeness)}"
        )
        return None
    # The draws bring a selection on the measured mass along.
    selection = None if on_mass else selection_of(options, catalogue.lum_unit, completeness)
    check = prior_check(catalogue, prior, relation, selection=selection)
    if check.p_value < CHECK_LEVEL <= check.p_place:
        notes.append(
            "the luminosities lie where they are predicted, with tails or a shape of their distribution other than"
            f" predicted (prior_check: p = {check.p_value:.1e}): a scatter that is not lognormal, or errors of the"
            " luminosity that are not what is said, make the error bars of masses too wide or too narrow"
        )
    return check


def _check_given(catalogue, prior, relation, selection, notes, clock) -> PriorCheck | None:
    """Check a given relation against the luminosities; selected objects fail, and then the check tells nothing."""
    try:
        with clock.stage("checking prior and relation"):
            check = prior_check(catalogue, prior, relation, selection=selection)
    except MassmapError as error:
        notes.append(f"whether prior and relation predict the observed luminosities was not checked: {error}")
        return None
    if check.p_value >= CHECK_LEVEL:
        return check
    if is_of_the_brightest(check.mean_pit):
        notes.append(
            f"whether the relation describes these objects was not tested: they are brighter than most of the prior's"
            f" halos (mean PIT {check.mean_pit:.3f}), as those of a selected catalogue are, whatever the relation;"
            " measured masses of some of them would test it"
        )
    else:
        notes.append(
            f"prior and relation do not predict the observed luminosities (p = {check.p_value:.1e}, mean PIT "
            f"{check.mean_pit:.3f} where 0.5 is right): they are fainter than those of the prior's halos, and a"
            " selection of bright objects would make them brighter: look at the unit of the luminosity, the relation"
            " and the mass prior"
        )
    return check


def as_proxy(catalogue: HaloCatalogue, prior: MassPrior, notes: list[str]) -> HaloCatalogue:
    """Treat a catalogued mass of another definition than the prior's as an ordinary observable of the fit.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior.
    notes : list of str
        A note is added if the catalogue changes.

    Returns
    -------
    HaloCatalogue
        The catalogue, without its mass definition if that is not the prior's.
    """
    definition = catalogue.mass_definition
    if definition in ("", prior.mass_definition):
        return catalogue
    notes.append(
        f"the observable is a mass of definition {definition}, fitted as a proxy of {prior.mass_definition} masses: the"
        " relation found says what one is at the other"
    )
    return replace(catalogue, mass_definition="")


def _measured(catalogue: HaloCatalogue) -> tuple[np.ndarray, np.ndarray]:
    """ln L and redshift of the rows that can be used."""
    return catalogue.ln_lum_obs[catalogue.usable], catalogue.redshift[catalogue.usable]


def _compare_likelihoods(likelihoods: "MassLikelihoods", catalogue: HaloCatalogue, relation, notes: list[str]) -> None:
    """Say how mass likelihoods and a given relation agree; refused where a unit must be wrong."""
    if not isinstance(relation, MassLuminosityRelation) or likelihoods.term is None:
        return
    beside = beside_relation(likelihoods.term, catalogue, relation, likelihoods.file)
    if beside is None:
        return
    if beside.certain:
        units = "mass_likelihood_unit=" if likelihoods.profiles is None else "shear_radius_unit="
        raise MassmapError(
            f"{beside.told}, which no bias explains: see whether they are likelihoods of these objects' masses and"
            f" their unit ({units}) and that of the luminosity (lum_unit=) are right, or whether the relation is of"
            " another observable"
        )
    notes.append(beside.told)


def _refuse_wrong_masses(posterior: MassPosterior, options: JobOptions) -> None:
    """Refuse masses of which more than half lie beyond the prior's mass range, or that the sky does not hold."""
    if too := impossible_masses(posterior, options.prior.cosmology):
        raise MassmapError(
            f"{too}: check the unit of the luminosity or mass, the relation and the redshifts"
            f"{_slip(posterior, options)}"
        )
    edge = posterior.edge_mass[posterior.usable]
    lost = edge > _EDGE_TOO_FAR
    if edge.size == 0 or lost.mean() > 0.5:
        prior = posterior.prior
        row = int(np.flatnonzero(posterior.usable)[np.argmax(lost)]) if edge.size else 0
        low, high = prior.ln_mass_min / np.log(10), prior.ln_mass_max / np.log(10)
        raise MassmapError(
            f"the prior's mass range, log10(M/Msun) {low:.2f} to {high:.2f}, does not hold the catalogue: {lost.sum()} "
            f"of {edge.size} objects have more than half of their posterior beyond its edge, first row {row}; check "
            f"the unit of the luminosity and the relation, or give a prior with a wider mass table{_faint(posterior)}"
            f"{_slip(posterior, options)}"
        )


def _slip(posterior: MassPosterior, options: JobOptions) -> str:
    """What a unit of mass, or a relation of the user's own, has to do with it."""
    relation, of = posterior.relation, _measured(posterior.catalogue)
    if options.relation == "identity" and options.pivot == 1 and not posterior.catalogue.lum_unit:
        median = np.exp(np.median(of[0]))
        return (
            f"; the masses, of which the median is {median:.3g}, are taken in Msun, and lum_unit='1e14 Msun' says more"
        )
    return slips(str(options.relation), *of, relation, posterior.prior) if options.is_file else ""


def _faint(posterior: MassPosterior) -> str:
    """What linear noise may have to do with masses below the prior's."""
    catalogue = posterior.catalogue
    linear = posterior.usable & (catalogue.noise_codes == NOISE_KINDS.index("normal"))
    few = (linear & ((catalogue.sigma_ln_lum > 1 / _NOISE_ALONE) | catalogue.is_below_zero())).sum()
    if not few:
        return ""
    return (
        f"; noise is linear, and {few} objects have a signal to noise below {_NOISE_ALONE:g}, which noise alone gives "
        "to halos of no mass, of which the prior has most: such objects have no mass of their own"
    )
