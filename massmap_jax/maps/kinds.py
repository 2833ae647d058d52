"""The same field mapped in four ways, and what sets two maps apart.

    truth      each object's true mass (simulations)
    point      each object's posterior median: a catalogue of best masses added up, without error bars
    marginal   draws in which every object comes from its own relation-averaged posterior, as if errors were independent
    coherent   draws in which all objects share one relation: `mass_map`, the one whose error bars hold

The sum of medians lies below the sum of means, posteriors being skewed to high masses; and the error that objects share
does not average out, so that the marginal map's total is too sure of itself.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.mass_map import mass_map, profile_layers
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.sums import MapSums
from massmap_jax.posterior.host_result import refuse_hosts
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.prior.mass_prior import MassPrior

Kind = Literal["truth", "point", "marginal", "coherent"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Masses of the marginal map drawn at once.
_AT_ONCE = 2**24


@dataclass(frozen=True)
class _Drawn:
    """What `MapSums` asks of its draws where the masses come from elsewhere."""

    prior: MassPrior
    num_draws: int


def map_of_kind(
    key: Array,
    kind: Kind,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    grid: SkyPixels,
    *,
    relation_from=None,
    num_draws: int = 100,
    keep_draws: bool = False,
    selection=None,
    posterior: MassPosterior | None = None,
    fwhm_arcmin: float | None = None,
    **form,
) -> MassMap:
    """Map a field in one of the four ways (see the module); all kinds hold the same objects, those with a posterior.

    "truth" and "point" have one draw and no error bars: sd is 0 and quantiles are the map. With "coherent" and
    "marginal" the mean is the sum of E[M_k], the same for both unless relation_from is "other_data", where the
    marginals are each object's own.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    kind : {"truth", "point", "marginal", "coherent"}
        Which way.
    catalogue : HaloCatalogue
        Objects with positions; for "truth" with true masses.
    prior : MassPrior
        Mass prior.
    relation : Relation
        One relation, or a batch of draws.
    grid : PixelGrid or HealpixGrid
        The pixels.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `mass_map`.
    num_draws : int
        Map draws.
    keep_draws : bool
        Keep the image of every draw.
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
        As in `mass_map`.
    posterior : MassPosterior, optional
        As in `mass_map`.
    fwhm_arcmin : float, optional
        As in `mass_map`.
    **form : object
        `redshift_edges`, `footprint`, `unit`, `cosmology`, `halo_profile` and `concentration_scatter` of `mass_map`.

    Returns
    -------
    MassMap
        The map.

    Raises
    ------
    MassmapError
        An unknown kind; for "truth", objects without a true mass; and as `mass_map`.
    """
    if kind not in KINDS:
        raise MassmapError(f"map kind {kind!r} is not known: give one of {', '.join(KINDS)}")
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    refuse_hosts(posterior, "map_of_kind")
    relation_from = check_relation_from(relation, relation_from)
    shared: dict[str, Any] = {"relation_from": relation_from, "selection": selection}
    if kind == "coherent":
        own: dict[str, Any] = {
            "num_draws": num_draws,
            "keep_draws": keep_draws,
            "posterior": posterior,
            "fwhm_arcmin": fwhm_arcmin,
        }
        return mass_map(key, catalogue, prior, relation, grid, **shared, **own, **form)
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    if posterior is None:
        posterior = mass_posterior(catalogue, prior, relation, **shared)
    drawn: Any = _Drawn(prior, num_draws if kind == "marginal" else 1)
    shape = MapForm(fwhm_arcmin=fwhm_arcmin, **form)
    sums = MapSums(grid, drawn, shape, profile_layers(key, posterior, grid, shape))
    if kind == "marginal":
        sums.add_masses(catalogue, posterior.usable, posterior.mean_mass, _marginal_draws(key, posterior, num_draws))
    else:
        ln_mass = posterior.median if kind == "point" else _true_ln_mass(catalogue, posterior)
        column = ln_mass[:, None]
        sums.add_masses(
            catalogue, posterior.usable, np.exp(ln_mass), lambda rows: [(np.arange(rows.size), column[rows])]
        )
    ess = relation.effective_draws
    return sums.finish(ess=ess, relation_from=relation_from, keep_draws=keep_draws)


def map_kinds(key: Array, catalogue: HaloCatalogue, prior, relation, grid, **options) -> dict[Kind, MassMap]:
    """Map one catalogue in all ways, the posterior computed once.

    Parameters
    ----------
    key : Key[Array, ""]
    catalogue : HaloCatalogue
    prior : MassPrior
    relation : Relation
    grid : PixelGrid or HealpixGrid
    **options : object
        As in `map_of_kind`.

    Returns
    -------
    dict of str to MassMap
        By kind; "truth" where true masses are known.
    """
    names = ("relation_from", "selection")
    if options.get("posterior") is None:
        known: dict[str, Any] = {n: options.get(n) for n in names}
        options["posterior"] = mass_posterior(catalogue, prior, relation, **known)
    kinds = KINDS if catalogue.truth_ln_mass is not None else KINDS[1:]
    return {kind: map_of_kind(key, kind, catalogue, prior, relation, grid, **options) for kind in kinds}


def _marginal_draws(key, posterior, num_draws):
    # Another key than the coherent map's, which may be drawn beside it.
    key = jax.random.fold_in(key, 1)

    def draw(rows):
        for part in np.array_split(np.arange(rows.size), -(-rows.size * num_draws // _AT_ONCE)):
            yield part, posterior.sample(key, num_draws, rows[part])

    return draw


def _true_ln_mass(catalogue, posterior) -> np.ndarray:
    if catalogue.truth_ln_mass is None:
        raise MassmapError("the catalogue has no true masses: the map of the truth is for simulations")
    lacking = posterior.usable & ~np.isfinite(catalogue.truth_ln_mass)
    if lacking.any():
        raise MassmapError(
            f"{lacking.sum()} of {posterior.usable.sum()} objects with a posterior have no true mass, the first in row "
            f"{np.argmax(lacking)}: leave them out, so that all kinds of map hold the same objects"
        )
    return catalogue.truth_ln_mass


# -- contrast -------------------------------------------------------------------------------------------------------


class MapContrast(eqx.Module):
    """Two maps of one field against each other: `one` less `other`, and `one` over `other`.

    Attributes
    ----------
    difference : Float[np.ndarray, "ny nx"]
        Of the means, in `unit`.
    ratio : Float[np.ndarray, "ny nx"]
        Of the means, NaN where `other` is 0.
    error : Float[np.ndarray, "ny nx"]
        What the difference is measured by, in `unit`.
    total_difference, total_error : float
        Of the total masses [Msun].
    total_ratio : float
        Of the total masses.
    unit : str
        Of the images.
    mass_definition : str
        Of both maps.
    error_of : {"one", "other", "both"}
        Whose the error is.
    """

    difference: Float[np.ndarray, "..."]
    ratio: Float[np.ndarray, "..."]
    error: Float[np.ndarray, "..."]
    total_difference: float
    total_error: float
    total_ratio: float
    unit: str = eqx.field(static=True)
    mass_definition: str = eqx.field(static=True)
    error_of: str = eqx.field(static=True)

    @property
    def pull(self) -> Float[np.ndarray, "..."]:
        """Difference over error, (ny, nx); NaN where there is no error."""
        return np.divide(self.difference, self.error, out=np.full(self.error.shape, np.nan), where=self.error > 0)

    @property
    def total_pull(self) -> float:
        """Difference of the totals over its error; NaN without an error."""
        return self.total_difference / self.total_error if self.total_error > 0 else float("nan")


def contrast(one: MassMap, other: MassMap, *, error: Literal["one", "other", "both"] = "both") -> MapContrast:
    """Compute difference and ratio of the means of two maps of the same pixels, objects and unit.

    Parameters
    ----------
    one : MassMap
        A map.
    other : MassMap
        Another map of the same field.
    error : {"one", "other", "both"}
        Whose standard deviation the difference is held against. "both": in quadrature, which is right where the errors
        of the two are independent, or one has none (the truth, a point estimate). Maps made from the same data have the
        same errors: give "one" or "other".

    Returns
    -------
    MapContrast
        Images and totals.

    Raises
    ------
    MassmapError
        Pixels, slices, unit, mass definition or number of objects differ; no such `error`.
    """
    if error not in ("one", "other", "both"):
        raise MassmapError(f"error {error!r} is not known: give one, other or both")
    if not bool(eqx.tree_equal(one.grid, other.grid)) or one.mean.shape != other.mean.shape:
        shapes = f"{one.mean.shape} and {other.mean.shape}"
        raise MassmapError(f"the maps have different pixels, {shapes}: map both on one grid")
    for name, what in (
        ("redshift_edges", "redshift slices"),
        ("unit", "units"),
        ("mass_definition", "mass definitions"),
        ("fwhm_arcmin", "smoothings"),
        ("halo_profile", "halo profiles"),
    ):
        first, second = getattr(one, name), getattr(other, name)
        if first != second:
            raise MassmapError(f"the maps have different {what}, {first} and {second}: make both alike")
    differ = one.nobj != other.nobj
    if differ.any():
        raise MassmapError(
            f"the maps hold different objects, {int(one.nobj.sum())} and {int(other.nobj.sum())}, and their numbers "
            f"differ in {differ.sum()} pixels: make both of one catalogue"
        )
    used = {"one": (1, 0), "other": (0, 1), "both": (1, 1)}[error]
    zero = np.zeros(one.mean.shape)
    return MapContrast(
        difference=one.mean - other.mean,
        ratio=np.divide(one.mean, other.mean, out=zero * np.nan, where=other.mean != 0),
        error=np.hypot(used[0] * one.sd, used[1] * other.sd),
        total_difference=one.total_mass - other.total_mass,
        total_error=float(np.hypot(used[0] * one.total_sd, used[1] * other.total_sd)),
        total_ratio=one.total_mass / other.total_mass if other.total_mass else float("nan"),
        unit=one.unit,
        mass_definition=one.mass_definition,
        error_of=error,
    )
