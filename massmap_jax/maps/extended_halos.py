"""Haloes on a map at their own size: each the projected NFW profile of its drawn mass, cut at the halo's radius.

The profile is a sum of Gaussians of a few fixed widths (as the multi-Gaussian expansions of Cappellari 2002, MNRAS 333,
400), whose shares depend on the halo's size and concentration. A map of any number of haloes is then a handful of
layers: mass deposited in pixels, each layer convolved by one Gaussian. The cost does not grow with the haloes' sizes,
shares add up to one, and so does every kernel: no mass is lost.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.devices import padded_size
from massmap_jax.errors import MassmapError
from massmap_jax.halo.concentration import SCATTER_LN, drawn_ln_concentration
from massmap_jax.halo.cosmology import overdensity
from massmap_jax.halo.profiles import cut_nfw_enclosed

# Standard deviations of the Gaussians: the first is a point, and then from the smallest [pixels] by this ratio.
_SMALLEST, _RATIO = 0.35, 1.6
# The widest Gaussian, over the largest halo's radius.
_WIDEST = 0.6
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
    grid : a `PixelGrid`. largest : radius [pixels] of the largest halo; larger ones are drawn at that size.
    key : for the concentrations, lognormal with `scatter` (in ln c) about Duffy et al. 2008, keyed by object and draw.

    Attributes
    ----------
    sigma : (layer,) pixels. shares : (layer, ln radius, ln c), on a grid; they add up to 1 over the layers.
    """

    def __init__(self, grid, largest: float, mass_definition: str, cosmology: Any, key: Array, scatter=SCATTER_LN):
        self.pixel_arcmin, self.mass_definition, self.cosmology = grid.pixel_arcmin, mass_definition, cosmology
        self.key, self.scatter = key, scatter
        steps = max(0, int(np.ceil(np.log(_WIDEST * largest / _SMALLEST) / np.log(_RATIO)))) if largest > 0 else 0
        self.sigma = np.append(0.0, _SMALLEST * _RATIO ** np.arange(steps + 1))
        end = np.log(max(largest, 2 * _INNERMOST)) + _STEP_RADIUS
        self._ln_radius = np.arange(np.log(_INNERMOST), end, _STEP_RADIUS)
        self._ln_c = np.arange(_LN_C[0], _LN_C[1] + _STEP_C, _STEP_C)
        self.shares = _fitted_shares(self.sigma, np.exp(self._ln_radius), np.exp(self._ln_c))

    @property
    def num_layers(self) -> int:
        return self.sigma.size

    def of(self, redshift: Float[np.ndarray, "halo"], hashes: np.ndarray):
        """(places, ln M (place, draw)) -> shares (place, draw) of each layer in these objects, adding up to 1."""
        near = redshift <= 0
        if near.any():
            raise MassmapError(
                f"{near.sum()} objects on the map have redshift 0, the first at place {np.argmax(near)} of those on "
                "it: a halo there has no size on the sky; leave them out, or map the haloes as points"
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

    def plan(self, shape: tuple[int, int], inside: np.ndarray | None = None) -> "Plan":
        """What `convolved` needs for images of this shape, of which `inside` (None: all) is the footprint."""
        from scipy.fft import irfft2, next_fast_len, rfft2

        size = tuple(next_fast_len(n + int(_REACH * self.sigma[-1]) + 1, real=True) for n in shape)
        inside = np.ones(shape) if inside is None else inside.astype(float)
        kernels = [_transform(sigma, size) for sigma in self.sigma[1:]]
        mask = rfft2(inside, size)
        reached = [np.where(inside > 0, irfft2(mask * k, size)[: shape[0], : shape[1]], 1.0) for k in kernels]
        return Plan(size, inside, kernels, reached)

    def convolved(self, layers: Float[np.ndarray, "draw layer ny nx"], plan: "Plan") -> np.ndarray:
        """(draw, ny, nx): every layer convolved by its Gaussian, and added up.

        As in `map_smoothing`, what would leave the map (or its footprint) is spread over the pixels in it.
        """
        from scipy.fft import irfft2, rfft2

        ny, nx = layers.shape[-2:]
        out, cores = layers[:, 0].copy(), os.cpu_count() or 1
        filled = [i for i in range(1, self.num_layers) if layers[:, i].any()]
        for start in range(0, layers.shape[0] if filled else 0, _DRAWS):
            part, spectrum = layers[start : start + _DRAWS], 0
            for i in filled:
                given = rfft2(part[:, i] / plan.reached[i - 1], plan.size, workers=cores)
                spectrum = spectrum + given * plan.kernels[i - 1]
            spread = irfft2(spectrum, plan.size, workers=cores)[:, :ny, :nx]
            out[start : start + _DRAWS] += np.maximum(spread, 0.0) * plan.inside
        return out


class Plan(NamedTuple):
    """Of convolutions: size of the padded images, the footprint, and for each layer but the first the transform of its
    Gaussian, and the share of it that falls inside from each pixel."""

    size: tuple[int, int]
    inside: np.ndarray
    kernels: list[np.ndarray]
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


def _fitted_shares(sigma, radius, c) -> np.ndarray:
    """(layer, radius, c): non-negative shares, summing to 1, whose enclosed mass is nearest to the profile's."""
    from scipy.optimize import nnls

    distance = np.geomspace(_INNERMOST, max(2.5 * radius[-1], 4 * _INNERMOST), 80)
    held = np.ones((distance.size, sigma.size))
    held[:, 1:] = -np.expm1(-0.5 * (distance[:, None] / sigma[1:]) ** 2)
    # A heavy last equation: the shares add up to 1.
    left = np.vstack([held, np.full(sigma.size, 100.0)])
    shares = np.empty((sigma.size, radius.size, c.size))
    for i, r in enumerate(radius):
        x = np.minimum(distance / r, 1.0)
        for j, one in enumerate(c):
            found, _ = nnls(left, np.append(cut_nfw_enclosed(x * one, one), 100.0))
            found[found < 1e-9] = 0.0
            shares[:, i, j] = found / found.sum()
    return shares


def _transform(sigma, size) -> np.ndarray:
    """Of a Gaussian integrated over pixels, centred on one; separable."""
    from scipy.special import ndtr

    half = int(np.ceil(_REACH * sigma))
    edges = np.arange(-half - 1, half + 1) + 0.5
    kernel = np.diff(ndtr(edges / sigma))
    kernel /= kernel.sum()

    def along(n, transform):
        row = np.zeros(n)
        np.add.at(row, np.arange(-half, half + 1) % n, kernel)
        return transform(row)

    return along(size[0], np.fft.fft)[:, None] * along(size[1], np.fft.rfft)[None, :]


def largest_radius(ln_mass, redshift, grid, mass_definition: str, cosmology: Any) -> float:
    """Radius [pixels] of the largest of some haloes; 0 for none."""
    if ln_mass.size == 0:
        return 0.0
    ln_volume = ln_mass - _ln_mass_of_pixel(redshift, grid.pixel_arcmin, mass_definition, cosmology)
    return float(np.exp(ln_volume.max() / 3))


def _ln_mass_of_pixel(redshift, pixel_arcmin, mass_definition, cosmology) -> np.ndarray:
    """ln mass of a halo at each redshift whose radius is one pixel."""
    from massmap_jax.halo.cosmology import angular_diameter_distance

    per_pixel = angular_diameter_distance(cosmology, redshift) * np.radians(pixel_arcmin / 60)  # Mpc
    return np.log(4 * np.pi / 3 * overdensity(mass_definition, cosmology, redshift) * per_pixel**3)
