"""The mean of a halo's convergence over the pixel that holds its centre, where the profile itself has no finite value.

Sigma is the divergence of R mean_sigma(R) / 2, the mass within a circle over its circumference, so its mean over the
pixel is what flows out through the four sides. From the halo's place, a side at distance d is seen under angles theta
out to its ends, and each direction has what lies within r = d / cos(theta) of the halo:

    mean = sum over sides of  int dtheta E(r) / 2,     E(r) = r^2 mean_sigma(r)     (lengths in pixels)

With r = d cosh(u), dtheta = du / cosh(u), the integrand is smooth however near the side is.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Gauss-Legendre nodes on each half of a side: an error of 1e-6 in the median, of 4e-4 at most, where a halo
# far smaller than the pixel all but lies on a side.
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(4)
# Pixels: a halo is taken to be at least so far inside.
_NEAREST = 1e-4


def mean_over_pixel(
    dy: Float[Array, ""], dx: Float[Array, ""], radius: Float[Array, ""], mean_sigma: Callable[[Array], Array]
) -> Float[Array, ""]:
    """Average one halo's profile over the pixel that holds its centre.

    Parameters
    ----------
    dy, dx : Float[Array, ""]
        The halo's place less the pixel's centre [pixels], at most half a pixel each.
    radius : Float[Array, ""]
        Where the profile ends [pixels], above 0.
    mean_sigma : callable
        Mean surface density within a projected radius [pixels], of arrays.

    Returns
    -------
    Float[Array, ""]
        Mean over the pixel's area, in the unit of `mean_sigma`.
    """
    low_x, high_x, low_y, high_y = (jnp.clip(0.5 + s, _NEAREST, 1.0) for s in (dx, -dx, dy, -dy))
    # Each side from its foot to either end: distance, and how far the end is.
    distance = jnp.stack([low_x, low_x, high_x, high_x, low_y, low_y, high_y, high_y])[:, None]
    end = jnp.stack([low_y, high_y, low_y, high_y, low_x, high_x, low_x, high_x])[:, None]
    node, weight = (jnp.asarray(a, dtype=distance.dtype) for a in (_NODE, _WEIGHT))
    span = jnp.arcsinh(end / distance) / 2
    cosh = jnp.cosh(span * (node + 1))
    within = jnp.minimum(distance * cosh, radius)
    return jnp.sum(weight * span / (2 * cosh) * within**2 * mean_sigma(within))
