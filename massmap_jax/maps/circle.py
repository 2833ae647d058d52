"""`mass_in_circle`: the mass in a circle straight from a catalogue, without a map."""

import warnings

import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE, Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.maps.mass_map import chosen_samples
from massmap_jax.maps.regions import Circle, RegionMass, checked_circle, in_circle
from massmap_jax.maps.repeats import repeats
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.several import names_of


def mass_in_circle(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    circle: Circle,
    *,
    relation_from: RelationFrom | None = None,
    num_draws: int = 1000,
    selection=None,
    extra: TabulatedTerm | None = None,
    chunk_size: int | None = None,
) -> RegionMass:
    """Compute the posterior of the total mass of the objects in a circle.

    The error that the objects share through the relation is in it: each draw is the sum of all masses under one draw of
    the relation, and with the same key it is that of `mass_map`.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    catalogue : HaloCatalogue
        The whole catalogue, with positions. Objects outside the circle count with relation_from="other_data" only.
    prior : MassPrior
        Mass prior.
    relation : Relation
        One relation, or a batch of draws.
    circle : Circle
        The circle; whether an object lies in it is told by its position, not by a pixel.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `mass_map`.
    num_draws : int
        Draws of the sum.
    selection : FluxLimit or TabulatedSelection or NoSelection, optional
        As in `mass_posterior`.
    extra : TabulatedTerm, optional
        As in `mass_map`.
    chunk_size : int, optional
        As in `mass_posterior`.

    Returns
    -------
    RegionMass
        Mean, draws and counts; 0 where no object with a mass is in the circle.

    Raises
    ------
    MassmapError
        No positions, or a circle that is none; and as `mass_map`.

    See Also
    --------
    region_mass : The mass of any region, from a map that holds its draws.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> clusters = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> prior, relation = mm.MassPrior.default(), mm.MassLuminosityRelation.identity()
    >>> found = mm.mass_in_circle(jax.random.key(0), clusters, prior, relation, mm.Circle(150.0, 2.0, 3.0))
    >>> found.nobj, found.mass_definition, bool(1e14 < found.mean < 3e14)
    (1, '200m', True)
    """
    check_kinds("mass_in_circle", key=key, catalogue=catalogue, prior=prior, relation=relation)
    if catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: the mass in a circle needs ra and dec")
    circle = checked_circle(circle, is_flat=catalogue.frame == "flat")
    if extra is not None:
        extra.check_rows(len(catalogue))
    inside = in_circle(catalogue.ra, catalogue.dec, circle, is_flat=catalogue.frame == "flat")
    inside &= (catalogue.flag & int(Flag.POSITION_BAD)) == 0
    catalogue = catalogue.seen_by(names_of(relation))
    usable = (flag_outside_prior(catalogue, prior) & UNUSABLE) == 0
    chosen = chosen_samples(
        key,
        catalogue,
        prior,
        relation,
        relation_from=relation_from,
        num_draws=num_draws,
        draws="auto",
        selection=selection,
        extra=extra,
        chunk_size=chunk_size,
    )
    if (twice := repeats(catalogue, usable & inside, "in the circle")) is not None:
        warnings.warn(twice, stacklevel=2)
    rows = np.flatnonzero(usable & inside)
    draws, mean = np.zeros(num_draws), 0.0
    if rows.size:
        for _, objects in Objects.in_parts(catalogue, rows, prior, chosen.relation, extra, selection=selection):
            for _, ln_mass in chosen.masses(objects, chunk_size):
                draws += np.exp(ln_mass, dtype=np.float64).sum(axis=0)
        # The draws' weights are settled, so each draw's posterior is normalised.
        settled = {"relation_from": "fixed_draws", "selection": selection, "chunk_size": chunk_size}
        settled["extra"] = None if extra is None else extra.take(rows)
        mean = float(mass_posterior(catalogue.subset(rows), prior, chosen.relation, **settled).mean_mass.sum())
    return RegionMass(
        mean=mean,
        draws=draws,
        nobj=rows.size,
        num_pixels=None,
        cut=None,
        mass_definition=prior.mass_definition,
        n_without_mass=int((inside & ~usable).sum()),
    )
