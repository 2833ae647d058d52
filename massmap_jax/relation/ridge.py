"""Curved ridges of a posterior, made straight for NUTS.

Very many luminosities fix some combinations of the parameters to a part in a thousand, and a few hundred measured
masses fix the others to a tenth. The combinations are not linear, so the posterior lies along a ridge that is curved by
many times its width: steps of NUTS that fit the width hardly move along it.

In coordinates u in which the normal approximation is a standard normal, widest direction first, the potential is
|u|^2 / 2 + T_ijk u_i u_j u_k / 6 to third order. At given wide directions it is lowest, in direction i, at
-T_ijk u_j u_k / 2 (j, k < i). So draws are made in w, with

    u_i = w_i - 1/2 sum over j, k < i of T_ijk w_j w_k:

each direction is moved by a function of those before it, and the determinant is 1. The wider half of the directions is
enough for j and k.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.relation.search import negative_log_density

# Third derivatives are differences of the gradient over so many standard deviations: what matters is the ridge as far
# as the posterior reaches.
_STEP = 0.3


def ordered_root(covariance) -> Float[np.ndarray, "dim dim"]:
    """Give the root of a covariance whose columns are its axes, the widest first.

    Parameters
    ----------
    covariance : Float[np.ndarray, "dim dim"]
        The covariance.

    Returns
    -------
    Float[np.ndarray, "dim dim"]
        R with R R^T the covariance.
    """
    variance, axes = np.linalg.eigh(covariance)
    return axes[:, ::-1] * np.sqrt(variance[::-1])


def bend_of(model) -> Float[np.ndarray, "dim dim dim"]:
    """Measure how the ridge of a posterior is bent at its maximum.

    Parameters
    ----------
    model : tuple
        As `search.negative_log_density` takes it, with a root by `ordered_root`.

    Returns
    -------
    Float[np.ndarray, "dim dim dim"]
        -T_ijk / 2 for j, k < i in the wider half, and 0 elsewhere.
    """
    dim = np.size(model[2])
    wide = -(-dim // 2)
    ends = _STEP * np.eye(dim)[:wide]
    first, second = np.triu_indices(wide, 1)
    both = ends[first] + ends[second]
    gradients = np.asarray(_gradients(np.concatenate([np.zeros((1, dim)), ends, -ends, both, -both]), model))
    # Twice the even part, without the value at the maximum: f(p) + f(-p) - 2 f(0).
    at_ends = gradients[1 : wide + 1] + gradients[wide + 1 : 2 * wide + 1] - 2 * gradients[0]
    at_both = gradients[2 * wide + 1 :].reshape(2, first.size, dim).sum(axis=0) - 2 * gradients[0]
    third = np.zeros((dim, dim, dim))
    third[:, np.arange(wide), np.arange(wide)] = at_ends.T
    mixed = (at_both - at_ends[first] - at_ends[second]).T / 2
    third[:, first, second] = third[:, second, first] = mixed
    # Beyond the support of a belief there is no gradient, and no bend.
    third = np.nan_to_num(third / _STEP**2, nan=0.0, posinf=0.0, neginf=0.0)
    before = np.arange(dim)[None, :] < np.arange(dim)[:, None]
    return -0.5 * third * (before[:, :, None] & before[:, None, :])


def bent(w: Float[Array | np.ndarray, "*draw dim"], bend: Float[Array | np.ndarray, "dim dim dim"]) -> Array:
    """Give the whitened coordinates of points in those that follow the ridge.

    Parameters
    ----------
    w : Float[Array, "*draw dim"]
        The points.
    bend : Float[Array, "dim dim dim"]
        What `bend_of` found.

    Returns
    -------
    Float[Array, "*draw dim"]
        The points u.
    """
    return jnp.asarray(w) + jnp.einsum("ijk,...j,...k->...i", bend, w, w)


def potential_along(w: Float[Array, " dim"], model) -> Float[Array, ""]:
    """Evaluate -ln density in the coordinates that follow the ridge.

    Parameters
    ----------
    w : Float[Array, "dim"]
        The point.
    model : tuple
        The bend, and what `search.negative_log_density` takes.

    Returns
    -------
    Float[Array, ""]
        The potential.
    """
    bend, *straight = model
    return negative_log_density(bent(w, bend), tuple(straight))


@jax.jit
def _gradients(points, model):
    """Gradient of the potential at each point (point, dim), one after the other."""
    return jax.lax.map(lambda u: jax.grad(negative_log_density)(u, model), points)
