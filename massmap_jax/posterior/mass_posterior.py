"""`mass_posterior`: the halo mass posteriors of a catalogue, integrated exactly or read from a `PosteriorSurface`."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE, Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import METHODS, RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.integrals import SAMPLED_METHODS
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.redshifts import refuse_joint, refuse_luminosity_limit
from massmap_jax.likelihood.selection import NoSelection, SignalToNoiseLimit
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior import kernel
from massmap_jax.posterior.requests import (
    REDSHIFT_COLUMNS,
    SUMMARY_COLUMNS,
    columns_of,
    exact_summaries,
    settings_of,
)
from massmap_jax.posterior.result import EDGE_LIMIT, MassPosterior, check_levels
from massmap_jax.posterior.surface import for_posterior, read
from massmap_jax.posterior.surface_redshifts import errors_of
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.several import names_of

if TYPE_CHECKING:  # NumPyro, which this imports, is slow to load
    from massmap_jax.relation.calibration import CalibrationMasses


def mass_posterior(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    *,
    relation_from: RelationFrom | None = None,
    method: str = "analytic",
    key: Array | None = None,
    chunk_size: int | None = None,
    quantile_levels=(0.025, 0.16, 0.5, 0.84, 0.975),
    num_lum_draws: int = 100,
    selection=None,
    extra: TabulatedTerm | None = None,
    calibration: "CalibrationMasses | None" = None,
    surface=None,
    watch: Callable[[str], None] = lambda stage: None,
) -> MassPosterior:
    """Compute the posterior of each object's halo mass, marginalised over the draws of the relation.

    Parameters
    ----------
    catalogue : HaloCatalogue
        One row per object. Rows that cannot be used (their `Flag` says why) get NaN, and every row keeps its place.
    prior : MassPrior
        The mass prior P(ln M | z): the halo mass function of centrals. `host_posterior` is for galaxies that may be
        satellites.
    relation : Relation
        One mass-luminosity relation or a batch of draws: a `MassLuminosityRelation`, or your own subclass of
        `massmap_jax.Relation`.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        Where the draws of the relation come from, which decides how they are weighted. Required for more than one draw.

        - "this_catalogue": the draws were inferred with these objects. Each draw's posterior is normalised, then they
          are averaged.
        - "other_data": the draws come from other data, and each object may update them. Draw j has the weight Z_k(j),
          its evidence for object k (the formula of 2017).
        - "fixed_draws": the draws come from other data, and the objects may not update them. The weights are those of
          "this_catalogue".
    method : {"analytic", "monte_carlo", "importance", "quadrature", "surface"}
        How to integrate over the true luminosity. "analytic" (exact for lognormal noise and scatter, tabulated for
        linear noise and limits), "monte_carlo" and "importance" (both sampled), and "quadrature" (for any noise and
        relation; slow) integrate each object. "surface" interpolates the summaries of the analytic integral in a
        `PosteriorSurface`, to 1 % of the posterior's standard deviation; it is faster from about 10^5 objects on. CDFs,
        densities and samples of the result are integrated all the same.
    key : Key[Array, ""], optional
        Random key, needed by "monte_carlo" and "importance". Random numbers belong to the object's id, not to its row.
    chunk_size : int, optional
        Objects per compiled call and device; the answer does not depend on it. By default it is chosen to fit the
        memory.
    quantile_levels : sequence of float
        CDF levels, between 0 and 1 (both excluded), whose quantiles are kept.
    num_lum_draws : int
        Luminosity samples per relation draw, for "monte_carlo" and "importance".
    selection : Selection, optional
        Which objects enter the catalogue, `massmap_jax.NoSelection()` by default. It changes only the weights Z_k and
        the evidence: a selection on the observed luminosity cancels from the posterior of one mass under one relation.
        Where redshifts are distributions, one that is no sharp limit counts at each redshift, and in the masses.
    extra : TabulatedTerm, optional
        A further, independent likelihood of ln M for each row, with `log_likelihood` of shape (halo, g). Where the
        draws have an `extra_bias` b, as those of `fit_relation(..., extra=)`, it is taken at ln M + b.
    calibration : CalibrationMasses, optional
        Measured masses, one entry for each row: the mass of an object that has one is that of all that was measured of
        it. The draws have to be those of `fit_relation(..., calibration=)`, whose bias and scatter they are taken with.
        By default the masses are those of the other observables, for these objects too.
    surface : PosteriorSurface, optional
        For method "surface": a table that was made earlier with the same arguments. By default one is made.
    watch : callable, optional
        Called with a line of text after each chunk of objects.

    Returns
    -------
    MassPosterior
        One row per row of the catalogue, in its order: summaries, quantiles, and methods for CDFs, samples and
        densities.

    Raises
    ------
    MassmapError
        For an unknown name, a sampled method without a key, a batch of draws without `relation_from`, noise that the
        method cannot treat, an `extra` or `surface` that does not fit the other arguments, or no usable row.

    See Also
    --------
    massmap_jax.fit_relation : Infer the relation from the catalogue, to get draws for "this_catalogue".
    massmap_jax.mass_map : Sum the masses of objects: their relation errors are shared, which this result cannot show.
    massmap_jax.PosteriorSurface : The table behind method "surface".
    massmap_jax.host_posterior : Host masses of galaxies that may be satellites.

    Notes
    -----
    For an object with observed luminosity L_obs, redshift z and noise sigma, and for draw j of the relation (alpha, S),
    the likelihood of the mass is

        f_j(M) = integral P(L_obs | L, sigma) P(L | M, alpha_j, S_j, z) dL

    and its evidence is Z(j) = integral P(M | z) f_j(M) dM. The posterior averages the draws:

        P(M | L_obs, z, sigma) = sum_j w_j P(M | z) f_j(M) / Z(j)

    where w_j is the draw's own weight for "this_catalogue" and "fixed_draws", and that weight times Z(j) over the
    selection's normalisation A(j), divided by their sum, for "other_data". Using Z(j) with draws that were inferred
    from the same objects would count their luminosities twice.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, 6e4, -99.0], redshift=[0.2, 0.4, 0.3], sigma_ln_luminosity=0.05
    ... )
    >>> prior = mm.MassPrior.default()
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> posterior = mm.mass_posterior(catalogue, prior, relation)
    >>> posterior.to_table()["log10_mass_mean"].round(2).tolist()
    [13.88, 14.14, nan]

    The third luminosity is a placeholder for a missing value, so this row has no mass:

    >>> posterior.to_table()["flag_reason"].tolist()
    ['', '', 'LUM_SENTINEL']
    """
    check_kinds("mass_posterior", catalogue=catalogue, prior=prior, relation=relation)
    if key is not None:
        check_kinds("mass_posterior", key=key)
    if method not in (*METHODS, "surface"):
        raise MassmapError(f"method {method!r} is not known: give one of {', '.join(METHODS)}, surface")
    relation_from = check_relation_from(relation, relation_from)
    if method in SAMPLED_METHODS and key is None:
        raise MassmapError(f"method {method!r} draws luminosities: give key=jax.random.key(seed)")
    if num_lum_draws < 1:
        raise MassmapError(f"number of luminosity draws is {num_lum_draws}: give at least 1")
    if chunk_size is not None and chunk_size < 1:
        raise MassmapError(f"chunk size is {chunk_size}: give at least 1")
    if extra is not None:
        extra.check_rows(len(catalogue))
    if calibration is not None:
        from massmap_jax.relation.own_masses import with_measured_masses

        catalogue, relation = with_measured_masses(catalogue, relation, calibration)
    catalogue = catalogue.seen_by(names_of(relation))
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    levels = check_levels(quantile_levels)
    flag = flag_outside_prior(catalogue, prior)
    usable = (flag & UNUSABLE) == 0
    rows = np.flatnonzero(usable)
    check_redshifts(catalogue, relation, relation_from, method, selection)
    needed = {"need_keys": method in SAMPLED_METHODS, "selection": selection}
    if relation_from == "other_data":
        refuse_joint(catalogue, selection, "a posterior that updates draws of other data")
    # A surface is read with the measured redshifts.
    read_off = method == "surface" and catalogue.redshift_distributions is not None
    seen = replace(catalogue, redshift_distributions=None) if read_off else catalogue
    parts = Objects.in_parts(seen, rows, prior, relation.as_batch(), extra, **needed)
    for _, halos in parts:
        kernel.check_noise(halos, relation, method, prior)
        if relation_from == "other_data":
            kernel.check_chance(halos, selection)
    chunk_size = chunk_size or kernel.auto_chunk(relation)
    # A limit in signal to noise has no evidence, and masses do not depend on it where draws are not weighed.
    if selection is None or isinstance(selection, SignalToNoiseLimit):
        selection = NoSelection()

    number = len(catalogue)
    names = (*SUMMARY_COLUMNS, *REDSHIFT_COLUMNS) if read_off else columns_of(parts[0][1])
    columns = {name: np.full(number, np.nan) for name in names}
    quantiles = np.full((number, levels.size), np.nan)
    beside = 0
    if method == "surface":
        surface = for_posterior(catalogue, rows, prior, relation, relation_from, selection, levels, extra, surface)
        ((_, halos),) = parts
        found, read_quantiles = read(surface, halos, errors_of(catalogue)[rows] if read_off else None)
        for name, values in found.items():
            columns[name][rows] = values
        quantiles[rows] = read_quantiles
        outside = np.flatnonzero(~np.isfinite(found["mean"]))
        beside = outside.size
        parts = [(outside, halos.take(outside))]
        if read_off:
            beyond = Objects.in_parts(catalogue, rows[outside], prior, relation.as_batch(), extra, **needed)
            parts = [(outside[places], some) for places, some in beyond]
    settings = settings_of(method, relation_from, num_lum_draws)
    for places, halos in parts:
        exact, exact_quantiles = exact_summaries(
            halos, prior, relation.as_batch(), selection, key, chunk_size, levels, settings, watch
        )
        for name, values in exact.items():
            columns[name][rows[places]] = values
        quantiles[rows[places]] = exact_quantiles
    flag[usable & ~np.isfinite(columns["log_evidence"])] |= Flag.NO_SUPPORT
    with np.errstate(invalid="ignore"):
        flag[columns["edge_mass"] > EDGE_LIMIT] |= Flag.EDGE
    return MassPosterior(
        ids=catalogue.ids,
        flag=flag,
        quantiles=quantiles,
        catalogue=catalogue,
        prior=prior,
        relation=relation,
        selection=selection,
        extra=extra,
        key=key,
        quantile_levels=tuple(float(v) for v in levels),
        relation_from=relation_from,
        method=method,
        num_lum_draws=num_lum_draws,
        chunk_size=chunk_size,
        surface=surface if method == "surface" else None,
        num_beside_surface=beside,
        **columns,
    )


def check_redshifts(catalogue: HaloCatalogue, relation, relation_from, method: str, selection) -> None:
    """Refuse what has no answer for redshifts that are not exact.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    relation : Relation
        One relation or a batch of draws.
    relation_from : str or None
        How the draws are weighted.
    method : str
        Integral over the luminosity.
    selection : Selection or None
        Which objects enter the catalogue.

    Raises
    ------
    MassmapError
        For a sampled method, a relation with a population, draws that p(z) which has seen the flux would update, or a
        limit of a luminosity that moves.
    """
    known = catalogue.redshift_distributions
    if known is None:
        return
    if method in SAMPLED_METHODS:
        raise MassmapError(f"method {method!r} takes redshifts as exact, and these are distributions: use 'analytic'")
    if population_of(relation) is not None:
        raise MassmapError(
            "a relation that was fitted with a population of its own, or paired with cosmologies, says nothing of how"
            " many objects there are at each redshift, which redshifts that are not exact need: use a relation alone,"
            " or exact redshifts"
        )
    if known.contains == "posterior_with_flux" and relation_from == "other_data":
        raise MassmapError(
            "p(z) that has seen the flux gives no evidence that could update external draws of the relation: use"
            " relation_from='fixed_draws'"
        )
    refuse_luminosity_limit(catalogue, selection)
