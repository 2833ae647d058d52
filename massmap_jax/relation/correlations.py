"""Correlations of the scatters of several observables, as independent numbers between -1 and 1 that a fit can vary.

A correlation matrix is made of partial correlations: those with the luminosity, then those of each pair with the
luminosity and all earlier observables held fixed. Whatever numbers between -1 and 1 they are, the matrix is positive
definite, and under an LKJ prior they are independent (Lewandowski, Kurowicka & Joe 2009, J. Multivar. Anal. 100, 1989).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random
from numpyro.distributions import constraints

from massmap_jax.errors import MassmapError

# Shape of the LKJ prior that is used where none is given: weakly in favour of small correlations.
LKJ_SHAPE = 2.0


class PartialCorrelation(dist.Distribution):
    """The distribution of one partial correlation r under an LKJ prior: (1 + r) / 2 follows Beta(shape, shape).

    Parameters
    ----------
    shape : float
        Shape of the beta distribution; 1 is uniform in r.
    """

    arg_constraints: ClassVar = {"shape_of_beta": constraints.positive}
    support = constraints.interval(-1.0, 1.0)
    pytree_data_fields = ("shape_of_beta",)

    def __init__(self, shape, *, validate_args=None):
        self.shape_of_beta = shape
        super().__init__(batch_shape=jnp.shape(shape), validate_args=validate_args)

    def log_prob(self, value):
        """ln of the density at r."""
        return dist.Beta(self.shape_of_beta, self.shape_of_beta).log_prob(0.5 * (1 + value)) - jnp.log(2.0)

    def sample(self, key, sample_shape=()):
        """Draws of r."""
        return 2 * random.beta(key, self.shape_of_beta, self.shape_of_beta, sample_shape + self.batch_shape) - 1

    @property
    def mean(self):
        """Mean of r: 0."""
        return jnp.zeros(self.batch_shape)

    @property
    def variance(self):
        """Variance of r."""
        return 1 / (2 * jnp.asarray(self.shape_of_beta) + 1)


def pairs(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Name the partial correlations of the luminosity and further observables.

    Parameters
    ----------
    names : sequence of str
        The further observables.

    Returns
    -------
    dict of str to (int, int)
        Which two observables each belongs to, the luminosity being number 0: "correlation_A" with the luminosity, and
        "partial_A_B" of A and B with the luminosity (and the observables before A) held fixed.
    """
    found = {f"correlation_{name}": (0, i) for i, name in enumerate(names, start=1)}
    return found | {
        f"partial_{a}_{b}": (i, j)
        for i, a in enumerate(names, start=1)
        for j, b in enumerate(names[i:], start=i + 1)
    }  # fmt: skip


def beliefs_about(names: Sequence[str], given) -> dict:
    """Give the belief about each partial correlation.

    Parameters
    ----------
    names : sequence of str
        The further observables.
    given : float or dict of str to object
        Shape of an LKJ prior for all of them; or beliefs by the names of `pairs`, numbers or distributions, where those
        that are left out have an LKJ prior of shape 2.

    Returns
    -------
    dict of str to (numpyro.distributions.Distribution or float)
        The beliefs.

    Raises
    ------
    MassmapError
        For a shape that is not positive, a name that there is not, or a number that is no correlation.
    """
    known = pairs(names)
    by_name = dict(given) if isinstance(given, Mapping) else {}
    shape = LKJ_SHAPE if isinstance(given, Mapping) else given
    if isinstance(shape, bool) or not isinstance(shape, int | float) or not 0 < shape < float("inf"):
        raise MassmapError(
            f"the belief about the correlations of scatters is {shape!r}: give the shape of an LKJ prior, above 0, or"
            " beliefs by name"
        )
    unknown = [name for name in by_name if name not in known]
    if unknown:
        raise MassmapError(f"there is no correlation {', '.join(unknown)}: there are {', '.join(known)}")
    found = {}
    for name, (i, _) in known.items():
        belief = by_name.get(name)
        if belief is None:
            # Beta shapes of the canonical partial correlations of an LKJ prior, of which i are held fixed.
            found[name] = PartialCorrelation(shape + 0.5 * (len(names) - 1 - i))
        elif isinstance(belief, dist.Distribution) or abs(float(belief)) < 1:
            found[name] = belief
        else:
            raise MassmapError(f"{name} is {belief!r}: a correlation lies between -1 and 1, both excluded")
    return found


def matrix_of(values: Mapping, names: Sequence[str]) -> Array:
    """Make the correlation matrix of partial correlations.

    Parameters
    ----------
    values : dict of str to Float[Array, "*draw"]
        The partial correlations, by the names of `pairs`.
    names : sequence of str
        The further observables.

    Returns
    -------
    Float[Array, "*draw all all"]
        The matrix, the luminosity first.

    Notes
    -----
    Row j of the Cholesky factor is r_0j, r_1j sqrt(1 - r_0j^2), ..., which is the row of a unit vector in spherical
    coordinates.
    """
    shape = jnp.shape(next(iter(values.values())))
    rows = [[jnp.ones(shape)]]
    partial = {pair: jnp.asarray(values[name]) for name, pair in pairs(names).items()}
    for j in range(1, 1 + len(names)):
        row, rest = [], jnp.ones(shape)
        for i in range(j):
            row.append(partial[i, j] * jnp.sqrt(rest))
            rest = rest * (1 - partial[i, j] ** 2)
        rows.append([*row, jnp.sqrt(rest)])
    size = len(rows)
    factor = jnp.stack([jnp.stack([*row, *[jnp.zeros(shape)] * (size - len(row))], axis=-1) for row in rows], axis=-2)
    return factor @ jnp.swapaxes(factor, -1, -2)
