"""Halo mass posteriors of a catalogue: `mass_posterior(...) -> MassPosterior`, exact or read off a surface."""

import numpy as np
from jaxtyping import Array

from massmap_jax.catalogue.flags import UNUSABLE, Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import METHODS, RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.integrals import SAMPLED_METHODS
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior import kernel
from massmap_jax.posterior.requests import SUMMARY_COLUMNS, exact_summaries, settings_of
from massmap_jax.posterior.result import EDGE_LIMIT, MassPosterior, check_levels
from massmap_jax.posterior.surface import for_posterior
from massmap_jax.prior.mass_prior import MassPrior


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
    surface=None,
) -> MassPosterior:
    """Posterior of each object's halo mass, the relation marginalised over its draws.

    P(M | L_obs, z, sigma) is proportional to P(M|z) times the average over draws of P(L_obs | M, alpha, S, z).

    Parameters
    ----------
    catalogue : one row per object.
    prior : P(ln M | z), centrals only.
    relation : one relation or a batch of draws (`MassLuminosityRelation`, or any `relation.Relation`).
    relation_from : how the draws are weighted; required with more than one draw.
        "this_catalogue": inferred with these objects: each draw's posterior is normalised, then averaged.
        "other_data": external draws, which the object itself updates: a draw weighs Z_k (the 2017 formula).
        "fixed_draws": external draws, which the objects may not update: as "this_catalogue".
    method : "analytic", "monte_carlo", "importance" or "quadrature" (`likelihood`); "surface": the summaries of the
        analytic integral, interpolated (`surface.PosteriorSurface`, to 1 % of the posterior sd), which pays from some
        10^5 objects on. CDFs, densities and draws of the result are integrated.
    key : for the sampled methods; randomness is keyed per object id.
    chunk_size : objects per compiled call and device; the answer does not depend on it. None: from a memory budget.
    quantile_levels : CDF levels in (0, 1) to keep.
    num_lum_draws : luminosity samples per relation draw (sampled methods).
    selection : which objects are in the catalogue (`selection.NoSelection()`); it enters the Z_k weights only.
    extra : a further, independent likelihood per object, log_likelihood (halo, g).
    surface : for method "surface", a `PosteriorSurface` made earlier with the same arguments; None: one is made.

    Raises
    ------
    MassmapError : unknown names, no key for a sampled method, no `relation_from` for a batch, no usable row.
    """
    if method not in (*METHODS, "surface"):
        raise MassmapError(f"method {method!r} is not known: give one of {', '.join(METHODS)}, surface")
    relation_from = check_relation_from(relation, relation_from)
    if method in SAMPLED_METHODS and key is None:
        raise MassmapError(f"method {method!r} draws luminosities: give key=jax.random.key(seed)")
    if num_lum_draws < 1:
        raise MassmapError(f"number of luminosity draws is {num_lum_draws}: give at least 1")
    if chunk_size is not None and chunk_size < 1:
        raise MassmapError(f"chunk size is {chunk_size}: give at least 1")
    if extra is not None and extra.log_likelihood.shape != (len(catalogue), extra.ln_mass_nodes.shape[0]):
        raise MassmapError(
            f"extra likelihood has shape {extra.log_likelihood.shape}: give one row per catalogue row and one column "
            f"per ln mass node, ({len(catalogue)}, {extra.ln_mass_nodes.shape[0]})"
        )
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    levels = check_levels(quantile_levels)
    flag = flag_outside_prior(catalogue, prior)
    usable = (flag & UNUSABLE) == 0
    rows = np.flatnonzero(usable)
    halos = Objects.of(catalogue, rows, extra, need_keys=method in SAMPLED_METHODS)
    kernel.check_noise(halos, relation, "analytic" if method == "surface" else method, prior)
    chunk_size = chunk_size or kernel.auto_chunk(relation)
    selection = NoSelection() if selection is None else selection

    number = len(catalogue)
    columns = {name: np.full(number, np.nan) for name in SUMMARY_COLUMNS}
    quantiles = np.full((number, levels.size), np.nan)
    beside = 0
    if method == "surface":
        surface = for_posterior(catalogue, rows, prior, relation, relation_from, selection, levels, extra, surface)
        found, read_quantiles = surface.summaries(halos.ln_lum_obs[:, 0], halos.z[:, 0], halos.sigma)
        for name, values in found.items():
            columns[name][rows] = values
        quantiles[rows] = read_quantiles
        outside = ~np.isfinite(found["mean"])
        beside = int(outside.sum())
        halos, rows = halos.take(outside), rows[outside]
    settings = settings_of(method, relation_from, num_lum_draws)
    exact, exact_quantiles = exact_summaries(
        halos, prior, relation.as_batch(), selection, key, chunk_size, levels, settings
    )
    for name, values in exact.items():
        columns[name][rows] = values
    quantiles[rows] = exact_quantiles
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
