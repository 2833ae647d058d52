"""Redshift slices of a mass map: one of them, or their sum, as a map of its own."""

from dataclasses import replace
from typing import TYPE_CHECKING

from massmap_jax.errors import MassmapError
from massmap_jax.maps.files import IMAGES
from massmap_jax.maps.statistics import images_of

if TYPE_CHECKING:
    from massmap_jax.maps.mass_map import MassMap


def one_slice(mass_map: "MassMap", number: int) -> "MassMap":
    """Slice `number`, from 0, of a `mass_map` with redshift slices; `redshift_edges` are then its own two.

    `n_beyond` then counts the objects in the other slices too.

    `MassmapError` where there is no such slice.
    """
    edges = _edges(mass_map)
    if not 0 <= number < len(edges) - 1:
        raise MassmapError(f"there is no slice {number}: this map has {len(edges) - 1}, from 0")
    return replace(
        mass_map,
        **{name: getattr(mass_map, name)[number] for name in IMAGES},
        draws=None if mass_map.draws is None else mass_map.draws[:, number],
        total_draws=mass_map.slice_draws[number],
        total_mass=float(mass_map.slice_mass[number]),
        n_mapped=(mapped := int(mass_map.nobj[number].sum())),
        n_beyond=mass_map.n_beyond + mass_map.n_mapped - mapped,
        redshift_edges=edges[number : number + 2],
        slice_mass=None,
        slice_draws=None,
    )


def sum_of_slices(mass_map: "MassMap") -> "MassMap":
    """All slices of `mass_map` together, draw by draw; it needs the draws, since errors of slices are common.

    `MassmapError` for a map without draws.
    """
    edges = _edges(mass_map)
    if mass_map.draws is None:
        raise MassmapError("this map holds no draws, and slices are added draw by draw: make it with keep_draws=True")
    draws = mass_map.draws.sum(axis=1)
    return replace(
        mass_map,
        mean=mass_map.mean.sum(axis=0),
        nobj=mass_map.nobj.sum(axis=0),
        **images_of(draws),
        draws=draws,
        redshift_edges=(edges[0], edges[-1]),
        slice_mass=None,
        slice_draws=None,
    )


def _edges(mass_map) -> tuple[float, ...]:
    if mass_map.slice_draws is None:
        raise MassmapError("this map has no redshift slices: make it with redshift_edges")
    return mass_map.redshift_edges
