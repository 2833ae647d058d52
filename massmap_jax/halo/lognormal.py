"""Large-scale structure of simulated fields: a lognormal density, and places on the sky that follow it.

Coles & Jones 1991, MNRAS 248, 1: the density is exp(G) over its mean, with G a Gaussian field whose correlation
function is ln(1 + xi). The density then has the correlation function xi and is nowhere negative. It has clumps and
voids, but not the filaments of the real web.

xi is that of the linear power spectrum today, at every redshift: objects whose bias is 1 / D(z), with D the growth
factor, keep it. Galaxies as bright as the Milky Way are near that; halos of 1e11 Msun have about 0.6 of this bias, and
clusters more than twice as much.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from massmap_jax.halo.abundance import CosmologyParameters

# Cells across the sky, at most, and their least side [comoving Mpc]. Along the line of sight, where a map adds
# everything up, they are longer.
_CELLS, _LEAST_SIDE, _ELONGATION = 80, 1.0, 6.0
# The box repeats itself: it is wider than the field by this factor, and at least this wide [comoving Mpc], so that what
# is at one side of the field has nothing to do with the other.
_PADDING, _LEAST_WIDTH = 1.25, 64.0


class LightCone(NamedTuple):
    """Geometry of a box of cells around a light cone.

    Attributes
    ----------
    shape : tuple of (int, int, int)
        Number of cells along the line of sight, and in both directions across it.
    cell : tuple of (float, float, float)
        Their sides [comoving Mpc].
    nearest : float
        Comoving distance at which the box begins [Mpc].
    """

    shape: tuple[int, int, int]
    cell: tuple[float, float, float]
    nearest: float

    @classmethod
    def around(cls, side_arcmin: float, nearest: float, farthest: float) -> "LightCone":
        """Choose the cells for a square field.

        Parameters
        ----------
        side_arcmin : float
            Side of the field [arcmin].
        nearest, farthest : float
            Its comoving distances [Mpc].

        Returns
        -------
        LightCone
            The cells.
        """
        from scipy.fft import next_fast_len

        width = max(_PADDING * np.radians(side_arcmin / 60) * farthest, _LEAST_WIDTH)
        across = max(float(width) / _CELLS, _LEAST_SIDE)
        number = next_fast_len(int(np.ceil(width / across)), real=True)
        depth, along = farthest - nearest + _LEAST_WIDTH, _ELONGATION * across
        return cls((next_fast_len(int(np.ceil(depth / along))), number, number), (along, across, across), nearest)


def lognormal_density(
    generator: np.random.Generator, cone: LightCone, cosmology: str = "Planck18"
) -> Float[np.ndarray, "z y x"]:
    """Draw a lognormal density with the correlation function of the linear power spectrum today.

    Parameters
    ----------
    generator : np.random.Generator
        Source of random numbers.
    cone : LightCone
        The cells.
    cosmology : str
        Of the power spectrum, a name as in `massmap_jax.halo.cosmology`.

    Returns
    -------
    Float[np.ndarray, "z y x"]
        Density over its mean.
    """
    from scipy.fft import irfftn, rfftn

    shape, cell = cone.shape, cone.cell
    power = _power_in_cells(cone, cosmology)
    correlation = irfftn(power, shape, workers=-1) / math.prod(cell)
    # The transform of ln(1 + xi) is negative here and there by rounding, and where the box cuts the largest scales off.
    gaussian = np.maximum(rfftn(np.log1p(np.maximum(correlation, -0.99)), workers=-1).real, 0.0)
    white = rfftn(generator.standard_normal(shape, dtype=np.float32), workers=-1)
    field = irfftn(white * np.sqrt(gaussian), shape, workers=-1)
    density = np.exp(field)
    return density / density.mean()


def _power_in_cells(cone: LightCone, cosmology: str) -> Float[np.ndarray, "z y x"]:
    """Give the power spectrum [Mpc^3] at the wavenumbers of the cells' transform, 0 at k = 0."""
    (nz, ny, nx), (dz, dy, dx) = cone.shape, cone.cell
    waves = (np.fft.fftfreq(nz, dz), np.fft.fftfreq(ny, dy), np.fft.rfftfreq(nx, dx))
    kz, ky, kx = ((2 * np.pi * wave).astype(np.float32) for wave in waves)
    k = np.sqrt(kz[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2)
    k[0, 0, 0] = 1.0
    ln_k = np.linspace(np.log(k.min()), np.log(k.max()), 512)
    ln_power = jax.jit(lambda k: CosmologyParameters.of(cosmology).ln_power(k))(np.exp(ln_k))
    power = np.exp(np.interp(np.log(k), ln_k, np.asarray(ln_power)).astype(np.float32))
    power[0, 0, 0] = 0.0
    return power


def places_in_density(
    generator: np.random.Generator,
    density: Float[np.ndarray, "z y x"],
    cone: LightCone,
    distance: Float[np.ndarray, "halo"],
    side_arcmin: float,
) -> tuple[Float[np.ndarray, "halo"], Float[np.ndarray, "halo"]]:
    """Draw the place on the sky of objects at given distances, with a probability in proportion to the density there.

    Parameters
    ----------
    generator : np.random.Generator
        Source of random numbers.
    density : Float[np.ndarray, "z y x"]
        Density over its mean, interpolated between cells.
    cone : LightCone
        The cells.
    distance : Float[np.ndarray, "halo"]
        Comoving distances [Mpc].
    side_arcmin : float
        Side of the square field [arcmin].

    Returns
    -------
    x, y : Float[np.ndarray, "halo"]
        Offsets from the middle of the field [arcmin].
    """
    from scipy.ndimage import map_coordinates

    along = (distance - cone.nearest) / cone.cell[0]
    largest = density.max(axis=(1, 2))
    first = np.floor(along).astype(int) % density.shape[0]
    bound = np.maximum(largest[first], largest[(first + 1) % density.shape[0]])
    cells_per_arcmin = np.radians(1 / 60) * distance / cone.cell[1]
    place = np.empty((2, distance.size))
    waiting = np.arange(distance.size)
    while waiting.size:  # each object tries places until one is taken
        tried = side_arcmin * (generator.uniform(size=(2, waiting.size)) - 0.5)
        across = tried * cells_per_arcmin[waiting] + np.array(density.shape[1:])[:, None] / 2
        found = map_coordinates(density, np.vstack([along[waiting], across]), order=1, mode="grid-wrap")
        taken = generator.uniform(size=waiting.size) * bound[waiting] < found
        place[:, waiting[taken]] = tried[:, taken]
        waiting = waiting[~taken]
    return place[1], place[0]
