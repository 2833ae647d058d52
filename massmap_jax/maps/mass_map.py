"""Maps of halo mass with coherent errors: `mass_map(...) -> MassMap`.

A pixel is a sum over objects whose relation error is common. One map draw therefore fixes ONE relation draw and draws
every halo's mass from its posterior under that relation. (Adding up draws from each halo's relation-averaged marginal
would make the error of a sum of N halos too small, by 10 times for 10^5 of them.) The map holds catalogued mass only.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from massmap_jax import devices
from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.columns import rows_text
from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import (
    RelationFrom,
    check_relation_from,
)
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, concentration_key
from massmap_jax.halo.cosmology import overdensity
from massmap_jax.labels import Labels, check_labels
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.redshifts import refuse_joint, refuse_uncertain
from massmap_jax.likelihood.selection import NoSelection, is_sharp
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.maps.extended_halos import HaloProfiles, halo_radii
from massmap_jax.maps.form import MapCells, MapForm
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.repeats import repeats
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.smoothing import check_smoothing
from massmap_jax.maps.sums import MapSums
from massmap_jax.maps.units import MASS
from massmap_jax.memory import check_memory
from massmap_jax.posterior import kernel
from massmap_jax.posterior.host_result import refuse_hosts
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.several import names_of

if TYPE_CHECKING:  # NumPyro, which this imports, is slow to load
    from massmap_jax.relation.calibration import CalibrationMasses

# Fewer effective relation draws than this cannot carry a joint error bar.
LEAST_ESS = 100.0
# Masses to draw above which a table of quantiles takes less time to make (3 s) than it saves (1 us each).
TABLE_PAYS = 3_000_000


def mass_map(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    grid: SkyPixels,
    *,
    relation_from: RelationFrom | None = None,
    num_draws: int = 100,
    keep_draws: bool = False,
    chunk_size: int | None = None,
    selection=None,
    extra: TabulatedTerm | None = None,
    calibration: "CalibrationMasses | None" = None,
    posterior=None,
    draws: Literal["auto", "exact", "table"] = "auto",
    redshift_edges=None,
    footprint=None,
    unit: str = MASS,
    cosmology="Planck18",
    fwhm_arcmin: float | None = None,
    halo_profile: Literal["nfw"] | None = None,
    concentration_scatter: float = SCATTER_LN,
    form: MapForm | None = None,
    watch: Callable[[str], None] = lambda stage: None,
) -> MassMap:
    """Sum halo masses per pixel, in coherent draws of the whole field.

    Every object is put into its pixel, or drawn about it at its own size.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key: one relation draw per map draw, and per-object normals keyed by the object's id.
    catalogue : HaloCatalogue
        Objects with positions. Those that are in it twice are counted twice, with a warning.
    prior : MassPrior
        Mass prior.
    relation : Relation
        One relation, or a batch of draws.
    grid : PixelGrid or HealpixGrid
        Pixels; `PixelGrid.fit(catalogue.ra, catalogue.dec)` or `HealpixGrid.fit` covers the field.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `mass_posterior`; needed with more than one relation draw. With "other_data" the whole catalogue updates
        the relation draws, with weights proportional to the product of Z_k over all objects; refused where fewer than
        100 effective draws survive.
    num_draws : int
        Map draws.
    keep_draws : bool
        Keep the image of every draw.
    chunk_size : int, optional
        As in `mass_posterior`.
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
        As in `mass_posterior`.
    extra : TabulatedTerm, optional
        As in `mass_posterior`: a likelihood of ln M for each row, under the bias of each map draw's relation.
    calibration : CalibrationMasses, optional
        As in `mass_posterior`: the measured masses of some objects, which count for these objects.
    posterior : MassPosterior, optional
        What `mass_posterior` returned for the same arguments, to spare computing it again.
    draws : {"auto", "exact", "table"}
        "exact" integrates each object under each draw's relation; "table" looks its mass up in the prior's tabulated
        quantile function (within 0.002 of the posterior's sd, rms); "auto" takes the table above 3 million masses.
    redshift_edges : array_like, (slice + 1,), optional
        Edges of slices [z_i, z_i+1), the last closed: the map is then a cube, all slices from the same draws. A
        redshift that is not exact is drawn with the mass, and each draw is in the slice of its own redshift; `nobj`
        counts an object where most of its draws are.
    footprint : Bool[np.ndarray, "ny nx"], optional
        Pixels observed, (pixel,) on HEALPix: the others are NaN, and objects there are counted, not mapped.
    unit : {"Msun", "Msun/arcmin2", "Msun/Mpc2"}
        Mass in a pixel, or surface density (proper Mpc at each object's redshift).
    cosmology : str or astropy.cosmology.FLRW
        For distances: a name or text as in `massmap_jax.halo.cosmology`, or a flat LambdaCDM.
    fwhm_arcmin : float, optional
        Smooth every draw by a Gaussian of this FWHM (`smoothed`), so that sd and quantiles are those of the smoothed
        map.
    halo_profile : {"nfw"}, optional
        Draw each object as the projected NFW profile of its drawn mass, cut at the radius of its mass definition, about
        the centre of its pixel. Its enclosed mass is right to 0.04 of the halo's mass for c >= 3. Mass beyond the map's
        rim is spread over the pixels inside, as with `fwhm_arcmin`.
    concentration_scatter : float
        Scatter of ln c about the mean of Duffy et al. 2008; the same draws as `convergence_map`'s.
    form : MapForm, optional
        The settings from `redshift_edges` on as one object, in place of them.
    watch : callable, optional
        Called with a line of text as the objects are added to the map.

    Returns
    -------
    MassMap
        Images of mean, error and quantiles.

    Raises
    ------
    MassmapError
        No positions, non-lognormal noise, collapsed weights; a footprint of another shape, edges that do not rise, an
        object at redshift 0 per Mpc^2; a map that needs more memory than the machine has.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> grid = mm.PixelGrid.fit(clusters.ra, clusters.dec)
    >>> field = mm.mass_map(jax.random.key(0), clusters, prior, relation, grid, num_draws=20)
    >>> field.mean.shape == grid.shape, field.n_mapped, field.unit
    (True, 2, 'Msun')
    >>> 5e14 < field.total_mass < 7e14
    True
    """
    check_kinds("mass_map", key=key, catalogue=catalogue, prior=prior, relation=relation, grid=grid)
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    refuse_hosts(posterior, "mass_map")
    if posterior is not None and (
        posterior.method not in ("analytic", "surface") or not eqx.tree_equal(posterior.extra, extra)
    ):
        raise MassmapError(
            f"the posterior given to mass_map (method {posterior.method!r}) is not the map's own: give one of method "
            "'analytic' with the same extra likelihoods, or none"
        )
    if extra is not None:
        extra.check_rows(len(catalogue))
    if posterior is not None and not (
        _is_of(posterior, catalogue, prior, relation if calibration is None else None)
        and _same_chances(posterior, catalogue, selection)
    ):
        raise MassmapError(
            "the posterior given to mass_map is not that of its other arguments: another catalogue, prior, relation or"
            " selection made it; give the one that mass_posterior returns for these, or none"
        )
    if posterior is not None and posterior.relation_from == "other_data":
        posterior = None  # its weights are each object's own
    given = MapForm(unit, redshift_edges, footprint, fwhm_arcmin, halo_profile, concentration_scatter, cosmology)
    if form is not None and not eqx.tree_equal(given, MapForm()):
        raise MassmapError("the map's form is given whole, as form=, and in parts beside it: give one or the other")
    form = given if form is None else form
    check_labels(map=Labels("the map", cosmology=form.distances and form.cosmology), mass_prior=prior)
    if form.halo_profile is not None:
        overdensity(prior.mass_definition, form.cosmology, np.zeros(1))  # refuses a mass without a radius
    if calibration is not None:
        from massmap_jax.relation.own_masses import with_measured_masses

        catalogue, relation = with_measured_masses(catalogue, relation, calibration)
    catalogue = catalogue.seen_by(names_of(relation))
    usable = (flag_outside_prior(catalogue, prior) & UNUSABLE) == 0
    check_map(catalogue, usable, grid, form, num_draws, keep_draws=keep_draws)
    if (twice := repeats(catalogue, usable & np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec))) is not None:
        warnings.warn(twice, stacklevel=2)
    chosen = chosen_samples(
        key,
        catalogue,
        prior,
        relation,
        relation_from=relation_from,
        num_draws=num_draws,
        draws=draws,
        selection=selection,
        extra=extra,
        chunk_size=chunk_size,
    )
    if posterior is None or chosen.relation_from == "other_data":
        # The draws' weights are settled, so each draw's posterior is normalised.
        posterior = mass_posterior(
            catalogue, prior, chosen.relation, relation_from="fixed_draws", chunk_size=chunk_size, selection=selection,
            extra=extra,
        )  # fmt: skip
    layers = profile_layers(key, posterior, grid, form)
    sums = MapSums(grid, chosen.masses, form, layers)
    sums.add(catalogue, posterior, chunk_size, watch)
    return sums.finish(ess=chosen.ess, relation_from=chosen.relation_from, keep_draws=keep_draws)


def _is_of(posterior, catalogue: HaloCatalogue, prior: MassPrior, relation) -> bool:
    """Tell whether a posterior is that of a catalogue, prior and relation; None for a relation that may be another."""
    known = posterior.catalogue
    columns = ("ln_lum_obs", "sigma_ln_lum", "redshift")
    if known is not catalogue and not (
        np.array_equal(known.ids, catalogue.ids)
        and all(np.array_equal(getattr(known, c), getattr(catalogue, c), equal_nan=True) for c in columns)
    ):
        return False
    pairs = [(posterior.prior, prior)] + ([] if relation is None else [(posterior.relation, relation.as_batch())])
    return all(_alike(first, second) for first, second in pairs)


def _same_chances(posterior, catalogue: HaloCatalogue, selection) -> bool:
    """Tell whether a posterior has the selection, where masses depend on it: on one that is no limit, under p(z)."""
    if catalogue.redshift_distributions is None or (is_sharp(posterior.selection) and is_sharp(selection)):
        return True
    return type(posterior.selection) is type(selection) and _alike(posterior.selection, selection)


def _alike(first, second) -> bool:
    """Tell whether two priors, relations or selections hold the same numbers, whatever kind of array holds them."""
    leaves, others = jax.tree.leaves(first), jax.tree.leaves(second)
    if first is second or len(leaves) != len(others):
        return first is second
    return all(np.size(a) == np.size(b) and np.allclose(np.ravel(a), np.ravel(b), rtol=1e-5, equal_nan=True)
               for a, b in zip(leaves, others, strict=True))  # fmt: skip


def profile_layers(key: Array, posterior, grid: SkyPixels, form: MapForm) -> HaloProfiles | None:
    """Prepare the layers that halos of their own size are drawn in; warns of halos wider than the map.

    Parameters
    ----------
    key : Key[Array, ""]
        Of the map.
    posterior : MassPosterior
        Of the halos.
    grid : PixelGrid
    form : MapForm

    Returns
    -------
    HaloProfiles or None
        None where halos are points.
    """
    if form.halo_profile is None:
        return None
    largest, wide = _sizes(posterior, grid, form.cosmology)
    if wide is not None:
        warnings.warn(wide, stacklevel=3)
    definition = posterior.prior.mass_definition
    return HaloProfiles(grid, largest, definition, form.cosmology, concentration_key(key), form.concentration_scatter)


def check_map(
    catalogue: HaloCatalogue,
    usable: Bool[np.ndarray, "halo"],
    grid: SkyPixels,
    form: MapForm,
    num_draws: int,
    *,
    keep_draws: bool = False,
) -> None:
    """Refuse a map that cannot be made, before any mass is computed for it.

    Parameters
    ----------
    catalogue : HaloCatalogue
        With positions.
    usable : Bool[np.ndarray, "halo"]
        Rows with a mass.
    grid : PixelGrid or HealpixGrid
    form : MapForm
    num_draws : int
    keep_draws : bool

    Raises
    ------
    MassmapError
        More memory than the machine has; a smoothing wider than the map; halos at redshift 0 that are to have a size,
        or an area in Mpc^2, or objects whose redshift is a distribution that are to have these; profiles on
        HEALPix; positions on the sky and a flat grid, or the other way about.
    """
    if form.distances:
        refuse_uncertain(catalogue, "a map with profiles of halos or areas in Mpc^2")
    cells = MapCells(grid, form)
    cells.check_memory(num_draws, form.copies_of_images(keep_draws))
    if form.fwhm_arcmin is not None:
        check_smoothing(grid, form.fwhm_arcmin, None if cells.footprint is None else int(cells.footprint.sum()))
    cell, copies = cells.of(catalogue), 1
    if catalogue.redshift_distributions is not None:
        # An object may be in any slice.
        cell, copies = cells.pixels_of(catalogue), form.num_slices
    occupied = copies * np.unique(cell[usable & (cell >= 0)]).size
    # Twice: sums grow by doubling.
    what = f"a map with objects in {occupied:,} pixels, under {num_draws:,} draws,"
    check_memory(2 * 8.0 * occupied * num_draws, what, "ask for fewer map draws")
    if form.distances is None:
        return
    near = usable & (cell >= 0) & (catalogue.redshift <= 0)
    if near.any():
        what = "has no size on the sky" if form.halo_profile is not None else "is in a pixel that has no area in Mpc^2"
        instead = "map the halos as points" if form.halo_profile is not None else "map in Msun/arcmin2"
        raise MassmapError(
            f"{near.sum()} objects on the map have redshift 0, {rows_text(near, catalogue.ids)}: a halo there {what}; "
            f"leave them out, or {instead}"
        )


class ChosenSamples(NamedTuple):
    """Draws of a map.

    Attributes
    ----------
    masses : MassSamples
        Draws every object under each map draw's relation.
    relation : Relation
        With the weights that the map draws were picked with.
    relation_from : str or None
    ess : float
        Effective number of relation draws.
    """

    masses: MassSamples
    relation: Any
    relation_from: RelationFrom | None
    ess: float


def chosen_samples(
    key, catalogue, prior, relation, *, relation_from, num_draws, draws, selection=None, extra=None, chunk_size=None
) -> ChosenSamples:
    """Pick one relation draw per map draw, and what draws the masses under each.

    The same arguments give the same masses, whatever is made of them.

    Parameters
    ----------
    key : Key[Array, ""]
        As in `mass_map`.
    catalogue : HaloCatalogue
    prior : MassPrior
    relation : Relation
    relation_from : {"this_catalogue", "other_data", "fixed_draws"} or None
    num_draws : int
    draws : {"auto", "exact", "table"}
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
    extra : TabulatedTerm, optional
        It updates the draws with "other_data"; elsewhere the objects bring it along.
    chunk_size : int, optional

    Returns
    -------
    ChosenSamples

    Raises
    ------
    MassmapError
        An unknown name, fewer than two draws, labels that contradict each other, or collapsed weights.
    """
    if draws not in ("auto", "exact", "table"):
        raise MassmapError(f"map draws {draws!r} are not known: give auto, exact or table")
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    relation_from = check_relation_from(relation, relation_from)
    relation = relation.as_batch()
    if relation_from == "other_data":
        selection = NoSelection() if selection is None else selection
        relation = _updated_by_all(catalogue, prior, relation, selection, extra, chunk_size)
    if draws == "auto":
        draws = "table" if len(catalogue) * num_draws > TABLE_PAYS else "exact"
    key_relation, key_mass = jax.random.split(key)
    masses = MassSamples(prior, relation.pick(key_relation, num_draws), key_mass, draws)
    return ChosenSamples(masses, relation, relation_from, relation.effective_draws)


def _sizes(posterior, grid, cosmology) -> tuple[float, str | None]:
    """Radius [pixels] that hardly a draw exceeds; and a sentence on halos that are wider than the map, if there are."""
    rows = np.flatnonzero(posterior.usable & (posterior.catalogue.redshift > 0))
    if rows.size == 0:
        return 0.0, None
    high = np.minimum(posterior.mean[rows] + 4 * posterior.sd[rows], posterior.prior.ln_mass_max)
    at = posterior.catalogue.redshift[rows], grid, posterior.prior.mass_definition, cosmology
    radius, largest = halo_radii(np.stack([posterior.mean[rows], high]), *at)
    wide = np.zeros(len(posterior.catalogue), dtype=bool)
    wide[rows] = 2 * radius > np.hypot(*grid.shape)
    told = None
    if wide.any():
        told = (
            f"halos are wider than the map ({rows_text(wide, posterior.catalogue.ids)}; the widest has a radius of "
            f"{radius.max() * grid.pixel_arcmin / 60:.3g} degrees): all of their mass is on the map, although most of "
            "it lies beyond; leave them out, or make a larger map"
        )
    return float(largest.max()), told


def _updated_by_all(catalogue, prior, relation, selection, extra, chunk_size):
    """The draws with weights W_j proportional to the product over objects of Z_k(j) / A; refused when they collapse."""
    rows = np.flatnonzero((flag_outside_prior(catalogue, prior) & UNUSABLE) == 0)
    halos = Objects.of(catalogue, rows, prior, extra, need_keys=False, selection=selection)
    kernel.check_noise(halos, relation, "analytic", prior)
    kernel.check_chance(halos, selection)
    refuse_joint(catalogue, selection, "a map that updates draws of other data")
    total = np.zeros(relation.num_draws)
    chunk_size = chunk_size or kernel.auto_chunk(relation)

    def evidence(i, low, high, **group):
        return _evidence_chunk(halos.take(i), low, high, prior, relation, selection, **group)

    for _, ln_evidence in kernel.run(evidence, halos, prior, relation, chunk_size):
        # float64: a float32 sum over 1e5 objects is off by 9.
        total += ln_evidence.astype(np.float64).sum(axis=0)
    updated = eqx.tree_at(lambda r: r.log_weight, relation, np.asarray(relation.log_weight, dtype=np.float64) + total)
    ess = updated.effective_draws
    if ess < LEAST_ESS:
        raise MassmapError(
            f"the {relation.num_draws} relation draws collapse to {ess:.1f} effective ones when all {rows.size} "
            f"objects update them jointly, and a map needs {LEAST_ESS:.0f}: fit the relation with these draws as prior "
            "and use relation_from='this_catalogue', or do not let the objects update it, relation_from='fixed_draws'"
        )
    return updated


@devices.over_halos("halos", "low", "high", static=("num_panels", "wide", "kind"))
def _evidence_chunk(halos, low, high, prior, relation, selection, **group):
    """ln Z / A of each object under each draw; (halo, draw)."""
    settings = {"method": "analytic", "normalise": True, "num_lum": 1, **group}
    norm, key = prior.norm_coefficients(), jax.random.key(0)

    def one(halo, low, high):
        panel = kernel.mixture_panel(halo, low, high, prior, norm, relation, selection, key, **settings)
        return panel.ln_evidence - kernel.ln_chance(halo, relation, prior, selection)

    return jax.vmap(one, (halos.axes(), 0, 0))(halos, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))
