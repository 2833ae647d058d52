"""Halos on a map at their own size: each the projected NFW profile of its drawn mass, cut at the halo's radius.

The profile is a sum of Gaussians of a few fixed widths (as the multi-Gaussian expansions of Cappellari 2002, MNRAS 333,
400), whose shares depend on the halo's size and concentration. A map of any number of halos is then a handful of
layers: mass deposited in pixels, each layer convolved by one Gaussian. Shares add up to one, and so does every kernel:
no mass is lost.

The cost is bounded by the map and not by the largest halo: a Gaussian reaches no further than the map does, and all
those that are wider than it are one layer, spread evenly over its pixels.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from massmap_jax.devices import padded_size
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, drawn_ln_concentration
from massmap_jax.halo.cosmology import overdensity
from massmap_jax.halo.profiles import cut_nfw_enclosed

# Standard deviations of the Gaussians: the first is a point, and then from the smallest [pixels] by this ratio.
_SMALLEST, _RATIO = 0.35, 1.6
# The widest Gaussian, over the largest halo's radius; and over the map's diagonal, where one as wide is even to 12 %
# from corner to corner. What is wider is the even layer.
_WIDEST, _WIDEST_ON_MAP = 0.6, 2.0
# Over the map's diagonal: a halo of this radius has less than 0.003 of its mass on the map beside the even layer, for
# any concentration in the table, and larger halos are drawn as such.
_LARGEST_ON_MAP = 1000.0
# Where the shares are tabulated, bilinear between: ln of the radius in pixels, and ln of the concentration.
_STEP_RADIUS, _STEP_C = 0.15, 0.3
_LN_C = np.log((0.5, 60.0))
# The enclosed mass is fitted from this distance [pixels] on: what is inside is one pixel's.
_INNERMOST = 0.4
_REACH = 5.0  # standard deviations at which a Gaussian ends
_DRAWS = 8  # convolved at once


class HaloProfiles:
    """The layers of a map: their Gaussians, and the share that each has in a halo.

    Parameters
    ----------
    grid : PixelGrid
    largest : float
        Radius of the largest halo [pixels]; larger ones are drawn at that size.
    mass_definition : str
    cosmology : str or astropy.cosmology.FLRW
    key : Key[Array, ""]
        For the concentrations, lognormal about Duffy et al. 2008, keyed by object and draw.
    scatter : float
        Of ln c.

    Attributes
    ----------
    sigma : Float[np.ndarray, "layer"]
        Standard deviations [pixels]: 0 for the point, inf for the layer that is even over the map.
    shares : Float[np.ndarray, "layer radius c"]
        On a grid in ln of the radius in pixels and ln c; they add up to 1 over the layers.
    """

    def __init__(self, grid, largest: float, mass_definition: str, cosmology: Any, key: Array, scatter=SCATTER_LN):
        self.pixel_arcmin, self.mass_definition, self.cosmology = grid.pixel_arcmin, mass_definition, cosmology
        self.key, self.scatter = key, scatter
        diagonal = float(np.hypot(*grid.shape))
        largest = min(largest, _LARGEST_ON_MAP * diagonal)
        self.sigma = _widths(largest, diagonal)
        end = np.log(max(largest, 2 * _INNERMOST)) + _STEP_RADIUS
        self._ln_radius = np.arange(np.log(_INNERMOST), end, _STEP_RADIUS)
        self._ln_c = np.arange(_LN_C[0], _LN_C[1] + _STEP_C, _STEP_C)
        # Beyond the map nothing is seen: there the even layer has all the mass that the others cannot hold.
        farthest = diagonal if np.isinf(self.sigma[-1]) else 2.5 * np.exp(self._ln_radius[-1])
        self.shares = _fitted_shares(self.sigma, np.exp(self._ln_radius), np.exp(self._ln_c), farthest)

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return self.sigma.size

    def of(self, redshift: Float[np.ndarray, "halo"], hashes: np.ndarray):
        """Prepare the shares of some objects.

        Parameters
        ----------
        redshift : Float[np.ndarray, "halo"]
        hashes : UInt32[np.ndarray, "halo 2"]
            Of their ids.

        Returns
        -------
        callable
            Places among these objects, and ln M (place, draw) -> shares (place, draw) of each layer, adding up to 1.

        Raises
        ------
        MassmapError
            An object at redshift 0.
        """
        near = redshift <= 0
        if near.any():
            raise MassmapError(
                f"{near.sum()} objects on the map have redshift 0, the first at place {np.argmax(near)} of those on "
                "it: a halo there has no size on the sky; leave them out, or map the halos as points"
            )
        ln_mass_of_pixel = _ln_mass_of_pixel(redshift, self.pixel_arcmin, self.mass_definition, self.cosmology)
        table = jnp.asarray(self.shares)

        def shares(places, ln_mass):
            ln_mass = np.asarray(ln_mass, dtype=np.float64)
            ln_radius = (ln_mass - ln_mass_of_pixel[places, None]) / 3
            ln_c = drawn_ln_concentration(
                self.key, hashes[places], ln_mass, redshift[places], self.mass_definition, self.cosmology, self.scatter
            )
            at = np.zeros((2, padded_size(places.size), ln_mass.shape[1]), dtype=np.float32)
            at[0, : places.size] = (ln_radius - self._ln_radius[0]) / _STEP_RADIUS
            at[1, : places.size] = (ln_c - self._ln_c[0]) / _STEP_C
            # The point has the rest, so that rounding loses no mass.
            found = np.asarray(_between(table[1:], *at))[:, : places.size]
            return [np.maximum(1 - found.sum(axis=0, dtype=np.float64), 0.0), *found]

        return shares

    def plan(self, shape: tuple[int, int], inside: Bool[np.ndarray, "ny nx"] | None = None) -> "Plan":
        """Prepare the convolutions of images of one shape.

        Parameters
        ----------
        shape : tuple of (int, int)
            Of an image.
        inside : Bool[np.ndarray, "ny nx"], optional
            The footprint.

        Returns
        -------
        Plan
        """
        from scipy.fft import irfft2, next_fast_len, rfft2

        widths = self.sigma[1:][np.isfinite(self.sigma[1:])]
        # What is farther from a pixel than the map's other side is off the map: no kernel reaches beyond it.
        size = tuple(next_fast_len(n + _half(widths[-1], n), real=True) for n in shape)
        kernels = [_transform(sigma, shape, size) for sigma in widths]
        if inside is None:
            return Plan(size, np.ones(shape), kernels, [_reached_from_all(kernel, shape, size) for kernel in kernels])
        inside = inside.astype(float)
        mask = rfft2(inside, size)
        reached = [irfft2(mask * up[:, None] * along, size)[: shape[0], : shape[1]] for up, along in kernels]
        return Plan(size, inside, kernels, [np.where(inside > 0, share, 1.0) for share in reached])

    def convolved(self, layers: Float[np.ndarray, "draw layer ny nx"], plan: "Plan") -> Float[np.ndarray, "draw ny nx"]:
        """Convolve every layer by its Gaussian and add them up.

        As in `maps.smoothing`, what would leave the map (or its footprint) is spread over the pixels in it.

        Parameters
        ----------
        layers : Float[np.ndarray, "draw layer ny nx"]
            Mass deposited in each layer.
        plan : Plan
            For images of this shape.

        Returns
        -------
        Float[np.ndarray, "draw ny nx"]
        """
        from scipy.fft import irfft2, rfft2

        ny, nx = layers.shape[-2:]
        out, cores = layers[:, 0].copy(), os.cpu_count() or 1
        filled = [i for i in range(1, self.num_layers) if np.isfinite(self.sigma[i]) and layers[:, i].any()]
        for start in range(0, layers.shape[0] if filled else 0, _DRAWS):
            part, spectrum = layers[start : start + _DRAWS], 0
            for i in filled:
                up, along = plan.kernels[i - 1]
                given = rfft2(part[:, i] / plan.reached[i - 1], plan.size, workers=cores)
                spectrum = spectrum + given * up[:, None] * along
            spread = irfft2(spectrum, plan.size, workers=cores)[:, :ny, :nx]
            out[start : start + _DRAWS] += np.maximum(spread, 0.0) * plan.inside
        if np.isinf(self.sigma[-1]):
            out += layers[:, -1].sum(axis=(1, 2))[:, None, None] * (plan.inside / plan.inside.sum())
        return out


class Plan(NamedTuple):
    """What convolutions need.

    Attributes
    ----------
    size : tuple of (int, int)
        Of the padded images.
    inside : Float[np.ndarray, "ny nx"]
        1 in the footprint, 0 elsewhere.
    kernels : list of tuple
        Of each Gaussian, the transforms along y and along x.
    reached : list of np.ndarray
        For each Gaussian, the share of it that falls inside from each pixel, (ny, nx).
    """

    size: tuple[int, int]
    inside: np.ndarray
    kernels: list[tuple[np.ndarray, np.ndarray]]
    reached: list[np.ndarray]


@jax.jit
def _between(table, at_row, at_column):
    """Bilinear interpolation in the last two axes of a table, at places in units of its steps, clipped to it."""
    rows, columns = table.shape[1:]
    at_row, at_column = jnp.clip(at_row, 0.0, rows - 1.0), jnp.clip(at_column, 0.0, columns - 1.0)
    row = jnp.minimum(at_row.astype(int), rows - 2)
    column = jnp.minimum(at_column.astype(int), columns - 2)
    u, v = at_row - row, at_column - column
    flat, first = table.reshape(table.shape[0], -1), row * columns + column

    def one(layer):
        low = layer[first] * (1 - v) + layer[first + 1] * v
        high = layer[first + columns] * (1 - v) + layer[first + columns + 1] * v
        return low * (1 - u) + high * u

    return jax.vmap(one)(flat)


def _widths(largest: float, diagonal: float) -> np.ndarray:
    """(layer,) standard deviations [pixels]: 0 for the point, inf for the even layer, where there is one."""
    widest = min(_WIDEST * largest, _WIDEST_ON_MAP * diagonal)
    steps = max(0, int(np.ceil(np.log(widest / _SMALLEST) / np.log(_RATIO)))) if widest > 0 else 0
    even = [np.inf] if _WIDEST * largest > widest else []
    return np.concatenate([[0.0], _SMALLEST * _RATIO ** np.arange(steps + 1), even])


def _fitted_shares(sigma, radius, c, farthest: float) -> np.ndarray:
    """(layer, radius, c): shares of at least 0, summing to 1, with enclosed mass nearest to the profile's up to
    `farthest` [pixels]."""
    from scipy.optimize import nnls

    distance = np.geomspace(_INNERMOST, max(farthest, 4 * _INNERMOST), 80)
    held = np.ones((distance.size, sigma.size))
    held[:, 1:] = -np.expm1(-0.5 * (distance[:, None] / sigma[1:]) ** 2)
    # A heavy last equation: the shares add up to 1.
    left = np.vstack([held, np.full(sigma.size, 100.0)])
    shares = np.empty((sigma.size, radius.size, c.size))
    for i, r in enumerate(radius):
        x = np.minimum(distance / r, 1.0)
        for j, one in enumerate(c):
            # SciPy's own limit, three times the number of layers, is too few now and then.
            found, _ = nnls(left, np.append(cut_nfw_enclosed(x * one, one), 100.0), maxiter=100 * sigma.size)
            found[found < 1e-9] = 0.0
            shares[:, i, j] = found / found.sum()
    return shares


def _half(sigma: float, n: int) -> int:
    """Pixels that a Gaussian reaches to either side on a map of n."""
    return min(int(np.ceil(_REACH * sigma)), n - 1)


def _transform(sigma, shape, size) -> tuple[np.ndarray, np.ndarray]:
    """Transforms along y and along x of a Gaussian integrated over pixels and centred on one."""
    from scipy.special import ndtr

    def along(n, padded, transform):
        half = _half(sigma, n)
        kernel = np.diff(ndtr((np.arange(-half - 1, half + 1) + 0.5) / sigma))
        row = np.zeros(padded)
        row[np.arange(-half, half + 1) % padded] = kernel / kernel.sum()
        return transform(row)

    return along(shape[0], size[0], np.fft.fft), along(shape[1], size[1], np.fft.rfft)


def _reached_from_all(kernel, shape, size) -> Float[np.ndarray, "ny nx"]:
    """Share of a kernel that falls on the map from each of its pixels."""
    up = np.fft.ifft(np.fft.fft(np.ones(shape[0]), size[0]) * kernel[0]).real[: shape[0]]
    along = np.fft.irfft(np.fft.rfft(np.ones(shape[1]), size[1]) * kernel[1], size[1])[: shape[1]]
    return up[:, None] * along


def halo_radii(ln_mass, redshift, grid, mass_definition: str, cosmology: Any) -> Float[np.ndarray, "*more halo"]:
    """Compute the radii of some halos.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "*more halo"]
        ln of the mass [ln Msun], or of several masses of each halo.
    redshift : Float[np.ndarray, "halo"]
    grid : PixelGrid
    mass_definition : str
    cosmology : str or astropy.cosmology.FLRW

    Returns
    -------
    Float[np.ndarray, "*more halo"]
        In pixels.
    """
    return np.exp((ln_mass - _ln_mass_of_pixel(redshift, grid.pixel_arcmin, mass_definition, cosmology)) / 3)


def _ln_mass_of_pixel(redshift, pixel_arcmin, mass_definition, cosmology) -> np.ndarray:
    """ln mass of a halo at each redshift whose radius is one pixel."""
    from massmap_jax.halo.cosmology import angular_diameter_distance

    per_pixel = angular_diameter_distance(cosmology, redshift) * np.radians(pixel_arcmin / 60)  # Mpc
    return np.log(4 * np.pi / 3 * overdensity(mass_definition, cosmology, redshift) * per_pixel**3)
