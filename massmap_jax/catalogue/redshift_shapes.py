"""Shapes of p(z), one per object: normal, a mixture of normals, values on a grid, quantiles.

Each gives ln of its density at any redshift, and the points between which that density is smooth.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, Self, get_args

import numpy as np
from jaxtyping import Bool, Float

from massmap_jax.catalogue.columns import as_float64, as_matrix
from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.errors import MassmapError

Variable = Literal["z", "ln_1z"]
REACH = 5.0
"""Standard deviations to each side of the middle at which a normal density ends."""
DEPTH = 12.0
"""A density ends where it is exp(-DEPTH) of its peak: more than a normal one at `REACH`, so that gaps begin there."""
FEWEST_LEVELS = 9
"""Fewest quantiles that make a density (docs/uncertain_redshifts.md says how that was measured)."""
# ln of the density of a grid where it is 0, less that of the peak: so that it can be interpolated.
_ZERO = -60.0
# A density below 0 by less than this of its peak is the rounding of the code that made it.
_ROUNDING = 1e-6
# Of so many p(z) or more, the share that cannot rise to the last redshift by chance.
_SEVERAL, _NEARLY_ALL = 10, 0.9
# Points per quantile interval, per component of a mixture, and fewest on a grid.
_PER_INTERVAL, _PER_COMPONENT, _ON_GRID = 8, 31, 128


class RedshiftShape(Protocol):
    """Densities of the redshifts of some objects.

    Attributes
    ----------
    variable : {"z", "ln_1z"}
        What it is a density of.
    smooth : bool
        Whether it is smooth everywhere, with one scale.
    """

    smooth: ClassVar[bool]

    @property
    def variable(self) -> Variable:
        """What it is a density of."""

    def __len__(self) -> int: ...

    @property
    def usable(self) -> Bool[np.ndarray, " halo"]:
        """Which rows can be used."""

    def take(self, rows) -> Self:
        """Take some rows."""

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each density lies, from 0 on."""

    def points(self) -> Float[np.ndarray, "halo point"] | None:
        """Give redshifts in rising order between which the density is smooth; None where it is smooth everywhere."""

    def ln_density(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of the density of `variable`, in any normalisation."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal densities.

    Attributes
    ----------
    mean, sd : Float[np.ndarray, "halo"]
        Mean and standard deviation, in `variable`; NaN where unusable.
    variable : {"z", "ln_1z"}
        What is normal: z, or ln(1 + z).
    """

    mean: Float[np.ndarray, " halo"]
    sd: Float[np.ndarray, " halo"]
    variable: Variable = "z"
    smooth: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.mean.size

    @property
    def usable(self) -> Bool[np.ndarray, " halo"]:
        """Which rows can be used."""
        return np.isfinite(self.sd)

    def take(self, rows) -> "Normal":
        """Take some rows."""
        return replace(self, mean=self.mean[rows], sd=self.sd[rows])

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each density lies, from 0 on."""
        ends = self.mean - REACH * self.sd, self.mean + REACH * self.sd
        low, high = ends if self.variable == "z" else (np.expm1(ends[0]), np.expm1(ends[1]))
        return np.maximum(low, 0.0), high

    def points(self) -> None:
        """A normal density is smooth everywhere."""
        return None

    def ln_density(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of the density of `variable`, in any normalisation."""
        x = z if self.variable == "z" else np.log1p(z)
        return -0.5 * ((x - self.mean[:, None]) / self.sd[:, None]) ** 2


@dataclass(frozen=True, eq=False)
class Mixture:
    """Mixtures of normal densities.

    Attributes
    ----------
    ln_weight, mean, sd : Float[np.ndarray, "halo component"]
        ln of the weight, mean and standard deviation of each, in `variable`. Components that an object lacks have the
        weight 0; unusable rows are NaN.
    variable : {"z", "ln_1z"}
        What is a sum of normals.
    """

    ln_weight: Float[np.ndarray, "halo component"]
    mean: Float[np.ndarray, "halo component"]
    sd: Float[np.ndarray, "halo component"]
    variable: Variable = "z"
    smooth: ClassVar[bool] = False

    @classmethod
    def of(cls, weights, means, sds, variable: Variable) -> "Mixture":
        """Check weights, means and standard deviations; see `RedshiftDistributions.mixture`."""
        given = {"means": as_matrix(means, "the means of the mixtures")}
        shape = given["means"].shape
        for name, values in (("weights", weights), ("sds", sds)):
            array = np.asarray(values, dtype=np.float64) if np.ndim(values) < 2 else as_matrix(values, name)
            if (
                array.ndim > 2
                or (array.ndim and array.shape[-1] != shape[1])
                or array.shape not in ((), shape[1:], shape)
            ):
                raise MassmapError(
                    f"the mixtures have means of shape {shape} and {name} of shape {array.shape}: give one row per"
                    " object and one column per component, with weight 0 where an object has fewer"
                )
            given[name] = np.broadcast_to(array, shape)
        weight, mean, sd = given["weights"], given["means"], given["sds"]
        there = weight > 0
        with np.errstate(invalid="ignore"):
            good = np.isfinite(weight) & (weight >= 0) & (~there | (np.isfinite(mean) & (sd > 0) & np.isfinite(sd)))
        good = good.all(axis=1) & there.any(axis=1)
        if not good.any():
            raise MassmapError(
                f"none of the {good.size} mixtures can be used: weights are 0 or more with one above, and the means and"
                f" standard deviations of their components finite, the latter above 0; row 0 has weights"
                f" {_shown(weight)}, means {_shown(mean)} and sds {_shown(sd)}"
            )
        relative = sd / (1 + mean) if variable == "z" else sd
        typical = float(np.median(relative[good[:, None] & there]))
        if typical > 0.5:
            raise MassmapError(
                f"half of the standard deviations of the mixtures are above {typical:.2g} (1 + z): these say nothing of"
                " the redshift; are they percentages, or variances?"
            )
        with np.errstate(divide="ignore"):
            ln_weight = np.log(np.where(there, weight, 0.0))
        ln_weight[~good] = np.nan
        return cls(
            ln_weight, np.where(there, mean, _first(mean, there)), np.where(there, sd, _first(sd, there)), variable
        )

    def __len__(self) -> int:
        return self.mean.shape[0]

    @property
    def usable(self) -> Bool[np.ndarray, " halo"]:
        """Which rows can be used."""
        return ~np.isnan(self.ln_weight[:, 0])

    def take(self, rows) -> "Mixture":
        """Take some rows."""
        return replace(self, ln_weight=self.ln_weight[rows], mean=self.mean[rows], sd=self.sd[rows])

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each density lies, from 0 on."""
        low, high = (self.mean - REACH * self.sd).min(axis=1), (self.mean + REACH * self.sd).max(axis=1)
        if self.variable == "ln_1z":
            low, high = np.expm1(low), np.expm1(high)
        return np.maximum(low, 0.0), high

    def points(self) -> Float[np.ndarray, "halo point"]:
        """Give redshifts in rising order between which the density is smooth."""
        steps = np.linspace(-REACH, REACH, _PER_COMPONENT)
        x = (self.mean[:, :, None] + self.sd[:, :, None] * steps).reshape(len(self), -1)
        return np.sort(np.maximum(x if self.variable == "z" else np.expm1(x), 0.0), axis=1)

    def ln_density(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of the density of `variable`, in any normalisation."""
        x = z if self.variable == "z" else np.log1p(z)
        total = np.full(x.shape, -np.inf)
        for ln_weight, mean, sd in zip(self.ln_weight.T, self.mean.T, self.sd.T, strict=True):
            one = (ln_weight - np.log(sd))[:, None] - 0.5 * ((x - mean[:, None]) / sd[:, None]) ** 2
            total = np.logaddexp(total, one)
        return total


@dataclass(frozen=True, eq=False)
class OnGrid:
    """Densities on a grid that all objects share.

    Attributes
    ----------
    nodes : Float[np.ndarray, "node"]
        Redshifts.
    ln_values : Float[np.ndarray, "halo node"]
        ln of the density there less that of its peak, in single precision, linear between the nodes; NaN where
        unusable.
    integral : Float[np.ndarray, "halo"]
        Integral of the density as it was given.
    variable : {"z"}
        It is a density of z.
    """

    nodes: Float[np.ndarray, " node"]
    ln_values: Float[np.ndarray, "halo node"]
    integral: Float[np.ndarray, " halo"]
    variable: Variable = "z"
    smooth: ClassVar[bool] = False

    @classmethod
    def of(cls, nodes, density, need_usable: bool = True) -> "OnGrid":
        """Check redshifts and densities; see `RedshiftDistributions.grid`."""
        z = check_nodes(nodes)
        p = as_matrix(density, "p(z)")
        if p.shape[1] != z.size:
            raise MassmapError(
                f"p(z) has shape {p.shape} and {z.size} redshifts: give one row per object and one column per redshift"
            )
        ln_p = np.empty(p.shape, dtype=np.float32)
        integral, below, last = np.empty(p.shape[0]), np.zeros(p.shape[0], dtype=bool), np.full(p.shape[0], np.nan)
        # Pieces: copies in double precision of a large catalogue would not fit into the memory.
        for start in range(0, p.shape[0], size := max(1, 2**22 // z.size)):
            rows = slice(start, start + size)
            part = np.array(p[rows], dtype=np.float64)
            top = part.max(axis=1, keepdims=True)
            with np.errstate(all="ignore"):
                below[rows] = (part < -_ROUNDING * np.abs(top)).any(axis=1)
                bad = ~(np.isfinite(part).all(axis=1) & (top[:, 0] > 0)) | below[rows]
                integral[rows] = np.where(bad, np.nan, np.trapezoid(part, z, axis=1))
                ln_p[rows] = np.maximum(np.log(np.maximum(part / top, 0.0)), _ZERO)
                rises = (np.diff(part, axis=1) >= -_ROUNDING * top).all(axis=1) & (part[:, 0] < 0.5 * top[:, 0]) & ~bad
                last[rows] = np.where(rises, part[:, -1], np.nan)
            ln_p[rows][bad] = np.nan
        if not need_usable:
            return cls(z, ln_p, integral)
        if np.isnan(integral).all():
            if below.any():
                row = int(np.argmax(below))
                column = int(np.argmin(p[row]))
                raise MassmapError(
                    f"none of the {below.size} p(z) can be used, and {np.count_nonzero(below)} are negative somewhere,"
                    f" first row {row} at z = {z[column]:g}: {p[row, column]:g}; a density is not (are these"
                    " logarithms?)"
                )
            raise MassmapError(f"none of the {below.size} p(z) can be used: each is NaN somewhere, or 0 everywhere")
        rise, usable = np.count_nonzero(~np.isnan(last)), np.count_nonzero(~np.isnan(integral))
        if (rise == usable and np.nanmax(last) < 1.02 * np.nanmin(last)) or (
            usable >= _SEVERAL and rise > _NEARLY_ALL * usable
        ):
            which = f"all {rise}" if rise == usable else f"{rise} of {usable}"
            raise MassmapError(
                f"{which} p(z) that can be used rise to {np.nanmax(last):.3g} at the last redshift, {z[-1]:g}, as"
                " cumulative distributions do: give densities, such as their differences over those of z (and where"
                " they are densities, give them beyond their peak)"
            )
        return cls(z, ln_p, integral)

    def __len__(self) -> int:
        return self.integral.size

    @property
    def usable(self) -> Bool[np.ndarray, " halo"]:
        """Which rows can be used."""
        return np.isfinite(self.integral)

    def take(self, rows) -> "OnGrid":
        """Take some rows."""
        return replace(self, ln_values=self.ln_values[rows], integral=self.integral[rows])

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each density lies, from 0 on."""
        there = self.ln_values > -DEPTH
        last = there.shape[1] - 1
        first = np.argmax(there, axis=1)
        final = last - np.argmax(there[:, ::-1], axis=1)
        return self.nodes[np.maximum(first - 1, 0)], self.nodes[np.minimum(final + 1, last)]

    def points(self) -> Float[np.ndarray, "halo point"]:
        """Give redshifts in rising order between which the density is smooth."""
        parts = -(-_ON_GRID // self.nodes.size)
        place = np.arange((self.nodes.size - 1) * parts + 1) / parts
        return np.broadcast_to(np.interp(place, np.arange(self.nodes.size), self.nodes), (len(self), place.size))

    def ln_density(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of the density of `variable`, in any normalisation."""
        cell = np.clip(np.searchsorted(self.nodes, z, side="right") - 1, 0, self.nodes.size - 2)
        fraction = (z - self.nodes[cell]) / (self.nodes[cell + 1] - self.nodes[cell])
        left = np.take_along_axis(self.ln_values, cell, axis=1).astype(np.float64)
        right = np.take_along_axis(self.ln_values, cell + 1, axis=1).astype(np.float64)
        inside = (z >= self.nodes[0]) & (z <= self.nodes[-1])
        return np.where(inside, left + fraction * (right - left), -np.inf)


@dataclass(frozen=True, eq=False)
class FromQuantiles:
    """Densities of which quantiles are known: the normal score of the CDF is a monotone cubic of z between them.

    Beyond the outer quantiles that score goes on as a straight line, and the density as that of a normal. A normal
    density is exact from any number of quantiles.

    Attributes
    ----------
    scores : Float[np.ndarray, "level"]
        Normal scores of the levels.
    values : Float[np.ndarray, "halo level"]
        Quantiles; NaN where unusable.
    slopes : Float[np.ndarray, "halo level"]
        Derivative of the score by z there.
    variable : {"z"}
        It is a density of z.
    """

    scores: Float[np.ndarray, " level"]
    values: Float[np.ndarray, "halo level"]
    slopes: Float[np.ndarray, "halo level"]
    variable: Variable = "z"
    smooth: ClassVar[bool] = False

    @classmethod
    def of(cls, levels, values, need_usable: bool = True) -> "FromQuantiles":
        """Check levels and quantiles; see `RedshiftDistributions.quantiles`."""
        level = plain_numbers(levels, "levels of quantiles")
        if level.ndim != 1 or not ((level > 0) & (level < 1)).all() or not (np.diff(level) > 0).all():
            raise MassmapError(f"levels of quantiles increase and lie between 0 and 1, and these are {_shown(level)}")
        if level.size < FEWEST_LEVELS or level[0] > 0.02 or level[-1] < 0.98:
            raise MassmapError(
                f"{level.size} quantiles from {level[0]:g} to {level[-1]:g} do not say what p(z) is: give"
                f" {FEWEST_LEVELS} or more, from 0.02 or less to 0.98 or more; or an error of the redshift, where p(z)"
                " is near a normal one"
            )
        z = np.array(as_matrix(in_unit(values, "", "quantiles of p(z)"), "the quantiles of p(z)"), dtype=np.float64)
        if z.shape[1] != level.size:
            raise MassmapError(
                f"the quantiles of p(z) have shape {z.shape} and there are {level.size} levels: give one row per object"
                " and one column per level"
            )
        with np.errstate(invalid="ignore"):
            good = np.isfinite(z).all(axis=1) & (np.diff(z, axis=1) > 0).all(axis=1) & (z[:, -1] > 0)
        if need_usable and not good.any():
            raise MassmapError(
                f"none of the {good.size} rows of quantiles can be used: each has to be finite and to increase with the"
                f" level; row 0 is {_shown(z)}"
            )
        z[~good] = np.arange(level.size)
        from scipy.special import ndtri  # slow to import

        scores = ndtri(level)
        slopes = _monotone_slopes(z, scores)
        z[~good] = np.nan
        return cls(scores, z, slopes)

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def usable(self) -> Bool[np.ndarray, " halo"]:
        """Which rows can be used."""
        return np.isfinite(self.values[:, 0])

    def take(self, rows) -> "FromQuantiles":
        """Take some rows."""
        return replace(self, values=self.values[rows], slopes=self.slopes[rows])

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each density lies, from 0 on."""
        low = self.values[:, 0] - (REACH + self.scores[0]) / self.slopes[:, 0]
        high = self.values[:, -1] + (REACH - self.scores[-1]) / self.slopes[:, -1]
        return np.maximum(low, 0.0), high

    def points(self) -> Float[np.ndarray, "halo point"]:
        """Give redshifts in rising order between which the density is smooth."""
        low, high = self.bounds()
        known = np.concatenate([np.minimum(low, self.values[:, 0])[:, None], self.values, high[:, None]], axis=1)
        part = np.arange(_PER_INTERVAL) / _PER_INTERVAL
        inner = known[:, :-1, None] + np.diff(known, axis=1)[:, :, None] * part
        return np.maximum(np.concatenate([inner.reshape(len(self), -1), known[:, -1:]], axis=1), 0.0)

    def ln_density(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of the density of `variable`, in any normalisation."""
        last = self.scores.size - 1
        # How many quantiles lie below: the interval, -1 and `last` outside of all.
        place = np.full(z.shape, -1)
        for value in self.values.T:
            place += value[:, None] <= z
        cell = np.clip(place, 0, last - 1)

        def at(array, index):
            return np.take_along_axis(array, index, axis=1)

        left, right = at(self.values, cell), at(self.values, cell + 1)
        step, rise = right - left, self.scores[cell + 1] - self.scores[cell]
        x = (z - left) / step
        m0, m1 = at(self.slopes, cell) * step, at(self.slopes, cell + 1) * step
        score = self.scores[cell] + x * (m0 + x * (3 * rise - 2 * m0 - m1 + x * (m0 + m1 - 2 * rise)))
        slope = (m0 + x * (2 * (3 * rise - 2 * m0 - m1) + x * 3 * (m0 + m1 - 2 * rise))) / step
        beyond = (place < 0) | (place >= last)
        end = np.where(place < 0, 0, last)
        score = np.where(beyond, self.scores[end] + at(self.slopes, end) * (z - at(self.values, end)), score)
        # A monotone cubic may be flat at a point, but no p(z) is 0 there.
        slope = np.where(beyond, at(self.slopes, end), np.maximum(slope, 1e-3 * rise / step))
        return np.log(slope) - 0.5 * score**2


def check_nodes(nodes) -> Float[np.ndarray, " node"]:
    """Refuse redshifts of a grid that are not at least 3 numbers from 0 on that increase.

    Parameters
    ----------
    nodes : array_like, (node,)
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "node"]
        The redshifts.

    Raises
    ------
    MassmapError
        With the first that does not increase.
    """
    z = as_float64(in_unit(nodes, "", "the grid of redshifts"), "the grid of redshifts")
    wanted = "the redshifts of a p(z) grid have to be at least 3 numbers from 0 on that increase"
    if z.size < 3:
        raise MassmapError(f"{wanted}, and there are {z.size}")
    if not np.isfinite(z).all() or z[0] < 0:
        first = int(np.argmax(~np.isfinite(z) | (z < 0)))
        raise MassmapError(f"{wanted}, and number {first} is {z[first]:g}")
    falls = np.diff(z) <= 0
    if falls.any():
        first = int(np.argmax(falls))
        raise MassmapError(f"{wanted}, and after {z[first]:g} (number {first}) comes {z[first + 1]:g}")
    return z


def _monotone_slopes(x, y) -> np.ndarray:
    """Slopes of a monotone cubic through rising points: the harmonic means of Fritsch and Butland (1984)."""
    step = np.diff(x, axis=1)
    secant = np.diff(y) / step
    before, after = 2 * step[:, 1:] + step[:, :-1], step[:, 1:] + 2 * step[:, :-1]
    inner = (before + after) / (before / secant[:, :-1] + after / secant[:, 1:])
    ends = []
    for near, next_, own, beside in (
        (step[:, 0], step[:, 1], secant[:, 0], secant[:, 1]),
        (step[:, -1], step[:, -2], secant[:, -1], secant[:, -2]),
    ):
        # Of the parabola through the three outer points, where that rises; the tail goes on with it.
        slope = ((2 * near + next_) * own - near * beside) / (near + next_)
        ends.append(np.clip(slope, 0.7 * own, 1.5 * own)[:, None])
    return np.concatenate([ends[0], inner, ends[1]], axis=1)


def _first(values, there) -> np.ndarray:
    """The value of the first component that an object has, as a column."""
    return np.take_along_axis(values, np.argmax(there, axis=1)[:, None], axis=1)


def _shown(values) -> str:
    """The first row of some numbers, for messages."""
    row = np.atleast_2d(values)[0]
    return ", ".join(f"{x:g}" for x in row[:6]) + (", ..." if row.size > 6 else "")


def check_variable(variable) -> None:
    """Refuse an unknown variable."""
    if variable not in get_args(Variable):
        raise MassmapError(f"variable {variable!r} is not known: give 'z' or 'ln_1z' (the error over 1 + z)")
