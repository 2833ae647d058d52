"""Mass likelihoods beside the masses that a given relation has at the same luminosities: a wrong unit stands out."""

from typing import NamedTuple

import jax
import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.run.beside_beliefs import unrelated

# A unit is wrong by ten or more, and no bias of a measurement is so large.
_FAR = 5.0
# The mean mass at a luminosity is lower than the relation's inverse by the slope of the mass function, at most 4 for
# clusters, times the variance of ln M (Eddington).
_STEEPEST = 4.0
# One object whose errors are too small does not outvote the others: 5 standard deviations are as good as any more.
_WORST = -12.5
# The ln likelihood of a common factor that says anything of it, 3 standard deviations.
_INFORMS = 4.5
_SHIFTS = np.linspace(-7.0, 7.0, 281)
_MOST = 500


class Beside(NamedTuple):
    """How far mass likelihoods are from a relation.

    Attributes
    ----------
    told : str
        One sentence.
    certain : bool
        Whether it is so far that a unit must be wrong, or the likelihoods are no likelihoods of masses.
    """

    told: str
    certain: bool


def beside_relation(
    term: TabulatedTerm, catalogue: HaloCatalogue, relation: MassLuminosityRelation, name: str
) -> Beside | None:
    """Say by which factor mass likelihoods differ as a whole from the masses that a relation gives.

    Parameters
    ----------
    term : TabulatedTerm
        One likelihood for each row of the catalogue.
    catalogue : HaloCatalogue
        The catalogue.
    relation : MassLuminosityRelation
        The relation, or a batch of draws, of which medians count.
    name : str
        Where the likelihoods are from.

    Returns
    -------
    Beside or None
        None where the likelihoods say too little.

    Notes
    -----
    With t the mass at which the relation has the object's luminosity as its median, the factor is the exp(b) at which
    the sum of ln L(t + b) over the objects is highest, L no smaller than at 5 standard deviations. It is certain beyond
    a factor of 5 and what the scatter of the relation moves the mean mass by.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.run.beside_relation import beside_relation
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[1.0, 2.0, 4.0], redshift=[0.2] * 3, sigma_ln_luminosity=0.05
    ... )
    >>> relation = mm.MassLuminosityRelation.create(alpha1=0.0, alpha2=1.0, scatter=0.3, alpha3=1e14)
    >>> nodes = np.linspace(25.0, 40.0, 151)
    >>> centre = np.log([1e15, 2e15, 4e15])
    >>> term = mm.TabulatedTerm(nodes, -0.5 * ((nodes - centre[:, None]) / 0.2) ** 2)
    >>> far = beside_relation(term, catalogue, relation, "wl.csv")
    >>> far.told.partition(" at which")[0], far.certain
    ('the mass likelihoods of wl.csv are as a whole at 10 times the masses', True)
    """
    rows = np.flatnonzero(np.asarray(term.informs) & catalogue.usable & np.isfinite(catalogue.ln_lum_obs))
    rows = rows[np.linspace(0, rows.size - 1, min(rows.size, _MOST)).astype(int)] if rows.size else rows
    if rows.size == 0:
        return None
    ln_lum, z = catalogue.ln_lum_obs[rows], catalogue.redshift[rows]
    found = jax.vmap(lambda one: one.data_term(ln_lum, 0.0, z))(relation.as_batch())
    centre, width = (np.median(np.asarray(a, dtype=float), axis=0) for a in (found.centre, found.width))
    nodes = np.asarray(term.ln_mass_nodes, dtype=float)
    values = np.asarray(term.log_likelihood, dtype=float)[rows]
    values = np.maximum(values - values.max(axis=1, keepdims=True), _WORST)
    total = sum(np.interp(at + _SHIFTS, nodes, one) for at, one in zip(centre, values, strict=True))
    if np.ptp(total) < _INFORMS:
        return None
    shift = float(_SHIFTS[np.argmax(total)])
    told = (
        f"the mass likelihoods of {name} are as a whole at {np.exp(shift):.2g} times the masses at which the relation"
        " has these luminosities"
    )
    far = abs(shift) > np.log(_FAR) + _STEEPEST * float(np.median(np.broadcast_to(width, centre.shape))) ** 2
    # Likelihoods that peak within their nodes, as those of a measured mass do.
    peak = np.argmax(values, axis=1)
    inside = (peak > 0) & (peak < nodes.size - 1)
    slope = float(np.median(np.asarray(relation.alpha2)))
    if other := unrelated(centre[inside], nodes[peak[inside]], abs(slope), hence=""):
        told += f"; {other}"
    return Beside(told, bool(far))
