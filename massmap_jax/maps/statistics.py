"""Mean, standard deviation and quantiles of map draws."""

import numpy as np
from jaxtyping import Float

QUANTILES = (0.16, 0.5, 0.84)
# Images that the statistics fill, in the order of `statistics`.
NAMES = ("sampled_mean", "sd", "q16", "q50", "q84")
# Pixels whose draws are summarised at once.
_PIXELS = 512


def statistics(draws: Float[np.ndarray, "pixel draw"]) -> Float[np.ndarray, "5 pixel"]:
    """Mean, sd and quantiles over the draws; a part at a time, since NumPy makes copies. One draw has no sd: 0."""
    pixels, num_draws = draws.shape
    out = np.empty((len(NAMES), pixels))
    for start in range(0, pixels, _PIXELS):
        part = draws[start : start + _PIXELS]
        sd = part.std(axis=1, ddof=1) if num_draws > 1 else np.zeros(part.shape[0])
        out[:, start : start + _PIXELS] = (part.mean(axis=1), sd, *np.quantile(part, QUANTILES, axis=1))
    return out


def images_of(draws: Float[np.ndarray, "draw ..."]) -> dict[str, np.ndarray]:
    """The images that draws of a map make, by their names in `MassMap`."""
    found = statistics(draws.reshape(draws.shape[0], -1).T)
    return dict(zip(NAMES, found.reshape(len(NAMES), *draws.shape[1:]), strict=True))
