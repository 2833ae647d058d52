"""Whether the data contradict what was believed of a relation: the fit once more, with these beliefs much wider.

A fit may stay within its beliefs and contradict them all the same. Measured masses in a wrong unit ask for another
normalisation; where the belief about it is narrow, slope and scatter give way instead, each by a few of its standard
deviations. So the beliefs are compared with what the data say without them.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
import numpyro.distributions as dist
from scipy.stats import chi2

from massmap_jax.errors import MassmapError
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.linear import LinearLikelihood
from massmap_jax.relation.search import at_alpha3, covariance_of, maximise, relation_at

# Beliefs that are made wider, by so much: what is left of them moves nothing by more than 0.1 % of their distance.
_WIDENED, _WIDER = ("alpha1", "alpha2", "alpha4"), 30.0


class Contradiction(NamedTuple):
    """How far what the data say of a relation lies from what was believed.

    Attributes
    ----------
    p_value : float
        Chance that data of a relation drawn from the beliefs are as far from these.
    name : str
        The parameter that is farthest.
    found, error : float
        Its value and error without the beliefs.
    """

    p_value: float
    name: str
    found: float
    error: float

    def as_dict(self) -> dict:
        """Give the same by name, for `RelationPosterior.diagnostics`."""
        return self._asdict()


def contradiction(coordinates: Coordinates, likelihood, best, chains) -> Contradiction | None:
    """Compare the beliefs about a relation with what the data say without them.

    Parameters
    ----------
    coordinates : Coordinates
        The coordinates of the fit, with its beliefs.
    likelihood : callable
        ln likelihood of a relation.
    best : Maximum
        The maximum of the posterior.
    chains : Float[np.ndarray, "chain draw dim"]
        The draws of the fit, of which the shape alone is used: nothing is compiled for it again.

    Returns
    -------
    Contradiction or None
        None where no parameter of a relation has a normal belief, or the data do not determine it without one, or it
        lies where a lattice of linear noise does not hold.

    Notes
    -----
    With normal beliefs of mean m and covariance B, and a likelihood of maximum x and covariance C, x - m has the
    covariance B + C where the relation is one of those believed in. So (x - m)' (B + C)^-1 (x - m) is chi2 of as many
    degrees as there are beliefs (Evans & Moshonov 2006, on conflicts of prior and data). x and C are those of a fit
    whose normal beliefs about normalisation, slope and evolution are 30 times as wide.
    """
    prior = coordinates.prior
    names = [p for p in prior.free if p.startswith(_WIDENED) and isinstance(prior.beliefs[p], dist.Normal)]
    if not names:
        return None

    def widths(prior):
        return [prior.stored[p].data["scale"] for p in names]

    # Numbers and arrays stay what they are, so that nothing is compiled again.
    wider = [v * _WIDER for v in widths(prior)]
    wide = eqx.tree_at(lambda c: c.prior, coordinates, eqx.tree_at(widths, prior, wider))
    again = maximise(wide, likelihood, best.x)
    if isinstance(likelihood, LinearLikelihood) and not likelihood.suits(relation_at(wide, again.x)):
        return None
    try:
        covariance = covariance_of(again, wide)
    except MassmapError:
        return None
    _, maximum, at_pivot = at_alpha3(wide, chains, again.x, covariance)
    # In the order of `free`, and not of `maximum`, whose names come sorted out of compiled code.
    where = [wide.free.index(p) for p in names]
    mean, sd = prior.central(), prior.sd()
    error = np.asarray(at_pivot)[np.ix_(where, where)]
    away = np.array([float(maximum[p]) - mean[p] for p in names])
    expected = error + np.diag([sd[p] ** 2 for p in names])
    p_value = float(chi2.sf(away @ np.linalg.solve(expected, away), len(names)))
    if not np.isfinite(p_value):
        return None
    i = int(np.argmax(np.abs(away) / np.sqrt(np.diag(expected))))
    return Contradiction(p_value, names[i], float(maximum[names[i]]), float(np.sqrt(error[i, i])))
