"""`PosteriorSurface`: posterior summaries tabulated as smooth functions of (ln L_obs, z, sigma), and of an error of z.

For one prior and one relation (or its draws), P(M | L_obs, z, sigma) depends on only three numbers of the object, and
so do its mean, standard deviation, quantiles, evidence and the other summaries. They are computed exactly (as
`mass_posterior` does) at the nodes of a lattice, once. Between the nodes they are interpolated linearly in the simplex
of nodes around an object (Kuhn's simplex has four corners of the cell instead of its eight). An object then costs one
lookup instead of one integral per relation draw.

The coordinates of the lattice are

    t = (ln L_obs - middle(z)) / (half + 4 width)    where middle(z) follows the relation's evolution; t runs from -1
                                                     to 1, four widths beyond the luminosities of the prior's masses
    z                                                at the prior's own nodes, where its density has kinks, and between
    ln width = ln sqrt(S^2 + sigma^2)

Steps in t and in ln width are equal. Where the posterior leans on an end of the mass range, it changes with the
distance from that end in units of the width. These coordinates therefore keep every column smooth along every axis.

With linear noise, sigma is the error as a fraction of the luminosity. Below a signal to noise of 12 the posterior may
have a second part, of halos far too light that noise alone explains, and its share changes with exp(-q^2 / 2): such
objects are left to be integrated one by one. Objects far brighter than any halo of the mass function have it at every
signal to noise: a table whose range holds such objects, too, is refused for its number of nodes.

Where redshifts have a normal error, z is the measured redshift, and a fourth axis is

    ln sqrt(s0^2 + s^2)       s the error of ln(1 + z), and s0 one that hardly changes a posterior

The width in t is then that with the motion of the luminosity over s. An integral over z as well takes long, and makes
the posterior smoother: few nodes are integrated, and the table is of splines through them (`surface_splines`).

Steps are refined until the error, measured against the exact posterior of objects between the nodes, is below the
tolerance in the whole range, its corners included. The measured error is kept with the table.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import ndtr, ndtri

from massmap_jax import devices
from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.archives import read_npz, told_of_archive, write_npz
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.catalogue.photo_z import RedshiftDistributions
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.linear_noise import NO_FAINT, is_nearly_lognormal
from massmap_jax.likelihood.objects import Objects, Range, usable_rows
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, RedshiftLimit, Selection, TabulatedSelection
from massmap_jax.posterior import kernel
from massmap_jax.posterior.requests import REDSHIFT_COLUMNS, exact_summaries, settings_of
from massmap_jax.posterior.surface_redshifts import LEAST_Z, RedshiftUse, errors_of, range_of_errors
from massmap_jax.posterior.surface_splines import (
    LEFT_OUT,
    cells_at,
    divided,
    neighbours_of,
    nodes_of,
    parts_needed,
    refined,
    spline,
)
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.law import MassLuminosityRelation, Relation
from massmap_jax.relation.several import refuse_several

# Allowed errors; see `PosteriorSurface.tolerance` for the units. The mode jumps between kinks of the prior's table: its
# error is measured, but the steps are not refined for it.
TOLERANCE = {
    "mean": 0.01,
    "sd": 0.01,
    "mode": np.inf,
    "ln_mean_mass": 0.01,
    "log_evidence": 0.01,
    "information_bits": 0.01,
    "edge_mass": 1e-3,
    "ess": 0.01,
    "quantiles": 0.01,
}
# Quantile levels for a surface from which masses are drawn: steps of 0.25 in the normal score, from -4 to 4.
DRAW_LEVELS = tuple(float(v) for v in ndtr(np.linspace(-4.0, 4.0, 33)))
SUMMARIES = ("mean", "sd", "mode", "ln_mean_mass", "log_evidence", "information_bits", "edge_mass", "ess")
_IN_SD = ("mean", "sd", "mode", "ln_mean_mass", "quantiles")
# Further columns of redshifts with an error, behind the quantiles: mean less the measured redshift, and standard
# deviation, both over the error of the redshift.
REDSHIFT_TOLERANCE = {"redshift_mean": 0.01, "redshift_sd": 0.01}
# How far the table extends beyond the luminosities of the lowest and the highest mass [widths].
_REACH = 4.0
# First steps: in ln L_obs in units of the least width, in ln(1 + z), in ln width.
_FIRST_STEPS = (0.5, 0.1, 0.25)
# The same of nodes that splines go through, and in ln of the error of ln(1 + z).
_FIRST_OF_SPLINES = (0.7, 0.06, 0.25, 0.4)
# There, steps in u = ln(1 + z) are in proportion to u + _NEAR: distances go as u where that is small.
_NEAR = 0.05
# Errors of ln(1 + z) below this one hardly change a posterior.
_LEAST_ERROR = 0.002
# A table begins so many of the largest errors above redshift 0, where luminosities move with it.
_ERRORS_FROM_ZERO = 3.0
# A node of the least error of all: one of 0 has no p(z).
_TINY_ERROR = 1e-5
# A table of more nodes than this costs more time than it can save.
_MOST_NODES = 4_000_000
# Nodes that splines go through: each is integrated over redshift, too.
_MOST_OF_SPLINES = 300_000
# The share of the tolerance for straight lines between the nodes of the table.
_OF_LINES = 1.0
# How often cells that fail are left out.
_TRIES = 6
# Objects on which the error is measured: first half way between nodes along each axis alone, at the end anywhere.
_AXIS_PROBES, _PROBES = 1024, 4096
# The largest errors along the axes may add up to this many tolerances before the whole table is measured. It is more
# than 1 because these errors do not all occur at the same place.
_TARGET = 1.3
_ROUNDS = 6
_ROUNDS_OF_SPLINES = 8
_MOST_BUCKETS = 16_384
# Objects per call and device. A GPU waits for transfers, and large transfers are faster per object.
_CHUNK, _CHUNK_GPU = 2**17, 2**20
# An object on the border of the range may be rounded to just outside.
_ROUNDING = 1e-3
# Objects with linear noise of a lower signal to noise are not in a table.
_LEAST_RATIO = NO_FAINT


class Lattice(eqx.Module):
    """Nodes along t, z and ln width, and what turns an object into a place among them.

    Attributes
    ----------
    t : Float[Array, "t"]
        Nodes of the scaled luminosity, in equal steps (see the module).
    z : Float[Array, "z"]
        Nodes in redshift, increasing.
    ln_width : Float[Array, "w"]
        Nodes of ln sqrt(S^2 + sigma^2), in equal steps; a single node where all objects have one sigma.
    middle : Float[Array, "z"]
        Middle of the range of ln L_obs at each redshift node, linear between them.
    half : Float[Array, ""]
        Half of the range of ln L_obs that the prior's masses span.
    bucket : Int[Array, "bucket"]
        The redshift node at or below the start of each of many equal steps in z, at most one node to a step: it finds
        an object's node without a search.
    scatter : Float[Array, ""]
        The scatter S in the width.
    backwards : Int[Array, "2"]
        For z and t: 1 where the diagonal of the simplices falls along that axis as ln width rises, else 0. For z, t and
        ln width where there is a fourth axis, along which all diagonals rise.
    ln_error : Float[Array, "e"] or None
        Nodes of ln sqrt(s0^2 + s^2), in equal steps, s the error of ln(1 + z); None where redshifts are exact.
    motion : Float[Array, "2"] or None
        How luminosities move with z, see `surface_redshifts.RedshiftUse.motion`.
    parts : Int[Array, "axis"] or None
        In how many parts the cells of integrated nodes are divided along each of `axes`.
    cells : Bool[Array, "cell"] or None
        Which of those cells the table holds, in one row; objects in the others have no place.
    """

    t: Float[Array, " t"]
    z: Float[Array, " z"]
    ln_width: Float[Array, " w"]
    middle: Float[Array, " z"]
    half: Float[Array, ""]
    bucket: Int[Array, " bucket"]
    scatter: Float[Array, ""]
    backwards: Int[Array, " turned"]
    ln_error: Float[Array, " e"] | None = None
    motion: Float[Array, "2"] | None = None
    parts: Int[Array, " axis"] | None = None
    cells: Bool[Array, " cell"] | None = None

    @classmethod
    def of(cls, prior: MassPrior, relation, where: Range, steps, use: RedshiftUse | None = None, kinks=()) -> "Lattice":
        """Lay out a lattice over a range of objects.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        relation : Relation
            A batch of draws.
        where : Range
            The objects' ln L_obs, z and sigma, and the error of their redshift.
        steps : Float[np.ndarray, "3"] or Float[np.ndarray, "4"]
            Steps in ln L_obs (in units of the least width), in ln(1 + z) and in ln width; and in ln error.
        use : RedshiftUse, optional
            How redshifts with an error are used.
        kinks : Float[np.ndarray, "kink"], optional
            Redshifts that are to be nodes as the prior's own are.

        Returns
        -------
        Lattice
            The nodes; all diagonals forwards.

        Raises
        ------
        MassmapError
            For redshifts or luminosities that the prior's masses do not cover, or no noise and no scatter.
        """
        ends_and_step = where.redshift, steps[1]
        z = _redshift_nodes(prior, *ends_and_step, kinks) if use is None else _smooth_nodes(prior, *ends_and_step)
        shares = np.asarray(jax.nn.softmax(np.asarray(relation.log_weight, dtype=float)), dtype=np.float64)

        def ends_at(z):
            return np.stack([_mean_ln_lum(relation, m, z) for m in (prior.ln_mass_min, prior.ln_mass_max)])

        ends = ends_at(z)
        middle = shares @ ends.mean(axis=0)
        half = float(np.abs(ends - middle).max())
        scatter = float(shares @ _scatter(relation, 0.5 * (prior.ln_mass_min + prior.ln_mass_max), np.median(z)))
        with np.errstate(divide="ignore"):
            widths = 0.5 * np.log(scatter**2 + np.square(where.sigma))
        if not np.isfinite(widths).all():
            raise MassmapError("noise and scatter are both 0: a posterior surface needs a sigma above 0")
        number = 1 if np.ptp(widths) < 1e-6 else int(np.ceil(np.ptp(widths) / steps[2])) + 1
        ln_width = np.linspace(*widths, number)
        ln_error = motion = None
        total = np.exp(widths)
        if use is not None:
            assert where.redshift_error is not None
            motion = np.array(use.motion(prior, lambda z: shares @ ends_at(z).mean(axis=0), z))
            errors = 0.5 * np.log(_LEAST_ERROR**2 + np.square(where.redshift_error))
            ln_error = np.linspace(*errors, 1 if np.ptp(errors) < 1e-6 else int(np.ceil(np.ptp(errors) / steps[3])) + 1)
            every = itertools.product(where.redshift_error, np.exp(widths))
            total = np.concatenate([np.hypot(w, _spread(motion, z, s)) for s, w in every])
        # Only the range of t that the objects' own luminosities need.
        reach = half + _REACH * total
        low = max(-1.0, min((where.ln_lum[0] - middle.max()) / reach))
        high = min(1.0, max((where.ln_lum[1] - middle.min()) / reach))
        if not low <= high:
            raise MassmapError(
                f"the luminosities, ln L from {where.ln_lum[0]:.4g} to {where.ln_lum[1]:.4g}, lie outside those of the "
                f"prior's masses by more than {_REACH:g} widths: check the unit of the luminosity and the relation"
            )
        step = steps[0] * total.min() / reach.min()
        t = np.linspace(low - 1e-4, high + 1e-4, int(np.ceil((high - low) / step)) + 2)
        forwards = np.zeros(2 if use is None else 3, dtype=np.int32)
        numbers = np.float64(half), _buckets(z), np.float64(scatter), forwards
        return cls(t, z, ln_width, middle, *numbers, ln_error, motion)

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """Nodes along (ln width, z, t), with ln error before them where redshifts have one."""
        every = self.ln_error, self.ln_width, self.z, self.t
        return tuple(np.asarray(nodes) for nodes in every if nodes is not None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of nodes along each of `axes`."""
        return tuple(nodes.size for nodes in self.axes)

    def places(self) -> Float[np.ndarray, "axis node"]:
        """List the place of every node, in units of nodes along each of `axes`."""
        each = np.meshgrid(*map(np.arange, self.shape), indexing="ij")
        return np.stack(each).reshape(len(each), -1).astype(float)

    def objects(self, place: Float[np.ndarray, "axis n"]) -> tuple[np.ndarray, ...]:
        """Give ln L_obs, z, sigma (and the error of ln(1 + z)) of objects at some places, in nodes along `axes`."""
        *error, ln_width, z, t = (np.interp(p, np.arange(n.size), n) for p, n in zip(place, self.axes, strict=True))
        sigma = np.sqrt(np.maximum(np.exp(2 * ln_width) - self.scatter**2, 0.0))
        error = [np.sqrt(np.maximum(np.exp(2 * e) - _LEAST_ERROR**2, _TINY_ERROR**2)) for e in error]
        total = np.exp(ln_width)
        if error:
            total = np.hypot(total, _spread(self.motion, z, error[0]))
        return np.interp(z, self.z, self.middle) + t * (self.half + _REACH * total), z, sigma, *error

    def cells_of(self, objects: tuple[np.ndarray, ...]) -> Bool[np.ndarray, "..."]:
        """Tell which cells between nodes along each of `axes` hold some of these objects, or are beside one that does.

        The objects are given as those of `objects`; those outside of the lattice are in no cell.
        """
        ln_lum, z, sigma, *error = (np.asarray(a, dtype=np.float64) for a in objects)
        ln_width = 0.5 * np.log(self.scatter**2 + sigma**2)
        total = np.exp(ln_width)
        if error:
            total = np.hypot(total, _spread(self.motion, z, error[0]))
            error = [0.5 * np.log(_LEAST_ERROR**2 + error[0] ** 2)]
        t = (ln_lum - np.interp(z, self.z, self.middle)) / (self.half + _REACH * total)
        shape = tuple(max(n - 1, 1) for n in self.shape)
        inside, cell = np.isfinite(t), []
        for nodes, value, cells in zip(self.axes, (*error, ln_width, z, t), shape, strict=True):
            inside &= (value >= nodes[0] - 1e-6) & (value <= nodes[-1] + 1e-6)
            cell.append(np.clip(np.searchsorted(nodes, value, side="right") - 1, 0, cells - 1))
        held = np.zeros(shape, dtype=bool)
        held[tuple(c[inside] for c in cell)] = True
        return neighbours_of(held)

    def divided(self, parts: list[int], cells: Bool[np.ndarray, "..."]) -> "Lattice":
        """Divide the cells along each of `axes` into equal parts, of which only those of some cells are held."""
        *error, ln_width, z, t = (divided(n, number) for n, number in zip(self.axes, parts, strict=True))
        middle = spline(self.z, self.middle, 0)(z)
        ln_error = error[0] if error else None
        new = {"t": t, "z": z, "ln_width": ln_width, "middle": middle, "bucket": _buckets(z), "ln_error": ln_error}
        return dataclasses.replace(self, **new, parts=np.array(parts, dtype=np.int32), cells=cells.ravel())


class PosteriorSurface(eqx.Module):
    """Tabulated summaries of P(ln M | L_obs, z, sigma) for one prior and one relation (or its draws).

    Make one with `build` and pass it to `massmap_jax.mass_posterior(..., method="surface", surface=...)`. It pays where
    many objects share a prior and a relation: from about 10^5 objects on.

    Attributes
    ----------
    lattice : Lattice
        The nodes.
    values : Float[np.ndarray, "... column"]
        The columns at the nodes along each of `Lattice.axes`, float32. The edge mass is stored as its logit; of
        redshifts, the mean less the measured one and the standard deviation, both over their error.
    prior : MassPrior
        The mass prior that the table was made for.
    relation : Relation
        The batch of relation draws that the table was made for.
    selection : Selection
        The selection that the table was made for.
    error : dict of str to float
        Largest error measured on objects between the nodes, with the names and units of `tolerance`.
    tolerance : dict of str to float
        Largest error allowed: in posterior standard deviations for "mean", "sd", "mode", "ln_mean_mass" and
        "quantiles", in nat for "log_evidence", in bit for "information_bits", as a fraction for "edge_mass", relative
        for "ess".
    quantile_levels : tuple of float
        CDF levels of the quantiles.
    relation_from : str or None
        How the relation draws are weighted, as in `massmap_jax.mass_posterior`.
    noise_kind : {"lognormal", "normal"}
        Noise of the objects; with normal noise, sigma is their linear error as a fraction of the luminosity.
    names : tuple of str
        Names of the columns: the summaries, then the quantiles by number, then those of redshifts with an error.
    redshifts : RedshiftUse or None
        How redshifts with a normal error are used; None where they are exact.

    See Also
    --------
    massmap_jax.mass_posterior : Reads a surface, and integrates the rows outside its range one by one.

    Notes
    -----
    The range of a table is cut to the prior's redshifts, and to luminosities up to 4 widths beyond those of the prior's
    masses. Objects must have a redshift that is exact or has a normal error, and no extra likelihood. The mode jumps
    between kinks of the prior's table: its error is measured but the steps are not refined for it.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.likelihood.objects import Range
    >>> prior = mm.MassPrior.default()
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> where = Range(ln_lum=(10.6, 11.0), redshift=(0.2, 0.25), sigma=(0.05, 0.05))
    >>> surface = mm.PosteriorSurface.build(prior, relation, where)
    >>> surface.error["mean"] < surface.tolerance["mean"]
    True
    >>> ln_lum, z, sigma = np.log([4e4, 5e4]), np.array([0.2, 0.22]), np.array([0.05, 0.05])
    >>> summaries, quantiles = surface.summaries(ln_lum, z, sigma)
    >>> (summaries["mean"] / np.log(10)).round(2).tolist()
    [13.88, 14.12]
    """

    lattice: Lattice
    values: Float[np.ndarray, "... column"]
    prior: MassPrior
    relation: Relation
    selection: Selection
    error: dict[str, float]
    tolerance: dict[str, float]
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    noise_kind: str = eqx.field(static=True, default="lognormal")
    redshifts: RedshiftUse | None = None

    @classmethod
    def build(
        cls,
        prior: MassPrior,
        relation,
        where: Range,
        *,
        relation_from: RelationFrom | None = None,
        selection=None,
        quantile_levels=(0.025, 0.16, 0.5, 0.84, 0.975),
        tolerance: dict[str, float] | None = None,
        noise_kind: Literal["lognormal", "normal"] = "lognormal",
        redshifts: RedshiftDistributions | None = None,
        objects: tuple | None = None,
        watch: Callable[[str], None] = lambda stage: None,
    ) -> "PosteriorSurface":
        """Make a table over a range of objects, refined until its measured error is below the tolerance.

        Parameters
        ----------
        prior : MassPrior
            The mass prior; it must be continuous in redshift (made without `snap`).
        relation : Relation
            One relation or a batch of draws.
        where : Range
            Ends of the objects' ln L_obs, z and sigma. It is cut to the prior's redshifts, and to luminosities up to 4
            widths beyond those of the prior's masses.
        relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
            How the relation draws are weighted, as in `massmap_jax.mass_posterior`.
        selection : Selection, optional
            Which objects enter the catalogue, `massmap_jax.NoSelection()` by default.
        quantile_levels : sequence of float
            CDF levels, between 0 and 1, whose quantiles are tabulated. To draw masses from the table, use
            `massmap_jax.posterior.surface.DRAW_LEVELS`.
        tolerance : dict of str to float, optional
            Changes to the default tolerances, `massmap_jax.posterior.surface.TOLERANCE`.
        noise_kind : {"lognormal", "normal"}, optional
            Noise of the objects. For "normal", sigma is the linear error as a fraction of the luminosity, and the range
            is cut to a signal to noise of 12 and more.
        redshifts : RedshiftDistributions, optional
            Redshifts with a normal error, of any objects: they say how such redshifts are used. The errors that the
            table is for are those of `where.redshift_error`.
        objects : tuple of array_like, (n,), optional
            With `redshifts`: ln L_obs, z, sigma and the error of ln(1 + z) of some of the objects. The table then holds
            the cells of integrated nodes that these are in, and those beside them; its error is measured there. By
            default it holds the whole range.
        watch : callable
            Called with a line of text at every stage, to report progress.

        Returns
        -------
        PosteriorSurface
            The table, with its measured error.

        Raises
        ------
        MassmapError
            For a prior that jumps in redshift (`snap`), a range that the prior does not cover, no scatter and no noise,
            linear noise below a signal to noise of 12 throughout, or a tolerance that would take more than 4 million
            nodes; for redshifts with p(z) of another shape than a normal one, or with linear noise or a selection.
        """
        check_kinds("PosteriorSurface.build", prior=prior, relation=relation)
        relation_from = check_relation_from(relation, relation_from)
        check_labels(relation=relation, mass_prior=prior)
        relation = relation.as_batch()
        selection = NoSelection() if selection is None else selection
        use = None if redshifts is None else RedshiftUse.of(redshifts)
        tolerance = TOLERANCE | ({} if use is None else REDSHIFT_TOLERANCE) | (tolerance or {})
        if prior.snap is not None:
            raise MassmapError("a posterior surface needs a prior that is continuous in redshift: make it without snap")
        refuse_several(relation, "a posterior surface")
        if noise_kind == "normal":
            if not where.sigma[0] <= 1 / _LEAST_RATIO:
                raise MassmapError(
                    "a posterior surface takes linear noise of a signal to noise of 12 and more, and the highest of"
                    f" these objects is {1 / where.sigma[0]:.3g}: use method='analytic', which integrates each object"
                )
            where = where._replace(sigma=(where.sigma[0], min(where.sigma[1], 1 / _LEAST_RATIO)))
        if population_of(relation) is not None:
            raise MassmapError(
                "a posterior surface is not made for a relation that was fitted jointly with a population, or paired"
                " with cosmologies: use method='analytic', which integrates each object"
            )
        if use is not None:
            _check_uncertain(where, noise_kind, selection)
            where = _far_from_zero(where, use)
        levels = tuple(float(v) for v in quantile_levels)
        names = (*SUMMARIES, *(f"quantile{i}" for i in range(len(levels))))
        names = names if use is None else (*names, *REDSHIFT_COLUMNS)
        weighs = relation_from == "other_data" and isinstance(selection, TabulatedSelection)
        kinks = selection.redshift_nodes if weighs else ()
        steps = np.array(_FIRST_STEPS if use is None else _FIRST_OF_SPLINES)
        for _ in range(_ROUNDS if use is None else _ROUNDS_OF_SPLINES):
            lattice = Lattice.of(prior, relation, where, steps, use, kinks)
            number = int(np.prod(lattice.shape))
            if number > (_MOST_NODES if use is None else _MOST_OF_SPLINES):
                break
            watch(f"tabulating the posterior: {number:,} nodes")
            empty = np.zeros((0,), dtype=np.float32)
            known = tolerance, levels, relation_from, names, noise_kind, use
            made = cls(lattice, empty, prior, relation, selection, {}, *known)
            nodes = lattice.objects(lattice.places())
            exact = made.exact(*nodes)
            values = made._stored(exact, nodes).reshape(*lattice.shape, -1)
            if use is None:
                made = dataclasses.replace(made, values=values.astype(np.float32))
                probes = [lattice.objects(place) for place in _between_nodes(lattice)]
            else:
                if not np.isfinite(exact).all():
                    raise MassmapError(
                        "some objects in this range of luminosities, redshifts and errors have no posterior under the"
                        " mass prior: narrow the range, or use method='analytic'"
                    )
                cells = np.ones([max(n - 1, 1) for n in lattice.shape], bool)
                cells = cells if objects is None else lattice.cells_of(objects)
                allowed = made._allowed(exact, nodes).reshape(values.shape)
                parts, far = parts_needed(lattice.axes, values, allowed, nodes_of(cells, lattice.shape), _OF_LINES)
                cells = cells & ~cells_at(far)
                fine = lattice.divided(parts, cells)
                if (number := int(np.prod(fine.shape))) > _MOST_NODES:
                    if max(parts) <= 4:
                        break
                    # Where there are few nodes, the bend of a spline is not known.
                    steps = steps * np.clip(4 / np.array(parts[::-1]), 0.4, 1.0)
                    continue
                made = dataclasses.replace(made, lattice=fine, values=refined(lattice.axes, values, parts))
                probes = [lattice.objects(place) for place in _half_way(cells, lattice.shape)]
            each = [made._off((p, made.exact(*p))) for p in probes]
            # A few cells with a large error are left out of a table that integrates objects in others, too.
            by_axis = np.array([off.max() if use is None else np.quantile(off, 1 - LEFT_OUT) for off in each])
            if by_axis.sum() <= _TARGET:
                if use is None:
                    made = made._best_directions(made._exact_at(_anywhere(lattice)))
                else:
                    made = made._without_failures(cells, parts)
                worst = made._worst(made.error)
                if worst <= 1:
                    return made
                by_axis = by_axis * 1.5 * worst / by_axis.sum()
            # An error is proportional to the square of the step, that of a spline to its fourth power (the third, where
            # the prior has kinks); equal errors along the axes need the fewest nodes.
            asked, power = _TARGET / by_axis.size, 1 / 2 if use is None else 1 / 3
            steps = steps * np.clip(0.95 * (asked / np.maximum(by_axis[::-1], 1e-9)) ** power, 0.1, 1.5)
        raise MassmapError(
            f"the posterior surface would need more than {number:,} nodes for its tolerance: use method='analytic', or "
            "narrow the range of luminosities, redshifts and sigma"
        )

    def only(self, names) -> "PosteriorSurface":
        """Keep only some columns, which are then read faster.

        Parameters
        ----------
        names : sequence of str
            Names of the columns to keep, out of `names`.

        Returns
        -------
        PosteriorSurface
            The same table with these columns.
        """
        columns = [self.names.index(name) for name in names]
        return dataclasses.replace(self, values=np.ascontiguousarray(self.values[..., columns]), names=tuple(names))

    def _stored(self, columns, objects):
        """Columns of some objects as the table holds them; `_given` turns them back."""
        stored = np.array(columns)
        edge = SUMMARIES.index("edge_mass")
        share = np.clip(stored[:, edge], 1e-9, 1 - 1e-9)
        stored[:, edge] = np.log(share / (1 - share))
        if self.redshifts is not None:
            mean, sd = (self.names.index(name) for name in REDSHIFT_COLUMNS)
            _, z, _, error = objects
            stored[:, mean] = (stored[:, mean] - z) / (error * (1 + z))
            stored[:, sd] = stored[:, sd] / (error * (1 + z))
        return stored

    def _allowed(self, columns, objects):
        """Errors of the columns, as the table holds them, that the tolerance allows for some objects."""
        out = np.ones_like(columns)
        for i, name in enumerate(self.names):
            allowed = self.tolerance[name if name in self.tolerance else "quantiles"]
            unit = self._unit(i, columns)
            if name in REDSHIFT_COLUMNS:
                unit = self._stored(columns, objects)[:, self.names.index("redshift_sd")]
            out[:, i] = allowed * unit
            if name == "edge_mass":
                share = np.clip(columns[:, i], 1e-9, 1 - 1e-9)
                out[:, i] = np.log1p(allowed / (share * (1 - share)))  # of its logit
        return out

    def _unit(self, i: int, columns):
        """The unit of the tolerance of a column, for some objects."""
        name = self.names[i]
        if name in REDSHIFT_COLUMNS:
            return columns[:, self.names.index("redshift_sd")]
        if name in _IN_SD or name not in SUMMARIES:
            return columns[:, SUMMARIES.index("sd")]
        return columns[:, i] if name == "ess" else np.ones(len(columns))

    def exact(self, ln_lum_obs, z, sigma, redshift_error=None) -> Float[np.ndarray, "n column"]:
        """Compute the columns of some objects exactly, without the table.

        The evidence is that of objects that are in the catalogue, without the probability that they are.

        Parameters
        ----------
        ln_lum_obs : Float[np.ndarray, "n"]
            ln of the observed luminosity, in the relation's unit.
        z : Float[np.ndarray, "n"]
            Redshift.
        sigma : Float[np.ndarray, "n"]
            Error in ln L, or linear error as a fraction of the luminosity.
        redshift_error : Float[np.ndarray, "n"], optional
            Error of ln(1 + z), where redshifts have one.

        Returns
        -------
        Float[np.ndarray, "n column"]
            The columns; NaN for objects that cannot be used.
        """
        lum = np.exp(ln_lum_obs)
        linear = {"sigma_luminosity": sigma * lum, "noise_kind": "normal"}
        noise = linear if self.noise_kind == "normal" else {"sigma_ln_luminosity": sigma}
        objects = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, **noise)
        if self.redshifts is not None:
            objects = objects.with_redshifts(self.redshifts.distributions(z, redshift_error), compare=False)
        rows = usable_rows(objects, self.prior)
        levels = np.array(self.quantile_levels)
        settings = settings_of("analytic", self.relation_from, 1)
        columns = np.full((len(objects), len(self.names)), np.nan)
        for places, halos in Objects.in_parts(objects, rows, self.prior, self.relation, need_keys=False):
            kernel.check_noise(halos, self.relation, "surface", self.prior)
            summaries, quantiles = exact_summaries(
                halos,
                self.prior,
                self.relation,
                _Anything(self.selection),
                None,
                kernel.auto_chunk(self.relation),
                levels,
                settings,
            )
            summaries["ln_mean_mass"] = np.log(summaries["mean_mass"])
            more = [summaries[name] for name in REDSHIFT_COLUMNS if name in self.names]
            columns[rows[places]] = np.column_stack([*(summaries[name] for name in SUMMARIES), quantiles, *more])
        return columns

    def __call__(self, ln_lum_obs, z, sigma, redshift_error=None) -> Float[np.ndarray, "n column"]:
        """Interpolate the columns of some objects: float32, (n, column); NaN outside the table's range."""
        given = (ln_lum_obs, z, sigma) if self.redshifts is None else (ln_lum_obs, z, sigma, redshift_error)
        objects = [np.asarray(a) for a in given]
        number = objects[0].size
        out = np.empty((number, self.values.shape[-1]), dtype=np.float32)
        if number == 0:
            return out
        lattice = jax.tree.map(lambda a: a if a.dtype == np.int32 else np.float32(a), self.lattice)
        values = jnp.asarray(self.values.reshape(-1, self.values.shape[-1]))
        lattice, values = devices.everywhere((lattice, values))
        most = _CHUNK if devices.platform() == "cpu" else _CHUNK_GPU
        # Only a few different sizes, so that parts of a catalogue share compiled code.
        share = min(most, 1024 << ((number - 1) // (1024 * devices.count())).bit_length())
        size = share * devices.count()
        logit = tuple(name == "edge_mass" for name in self.names)

        def work(start):
            part = [a[start : start + size].astype(np.float32, copy=False) for a in objects]
            short = size - part[0].size
            if short:
                part = [np.pad(a, (0, short), mode="edge") for a in part]
            found = _interpolate(lattice, values, *part, logit=logit)
            out[start : start + size] = np.asarray(found)[: size - short]

        devices.in_threads(work, range(0, number, size))
        self._add_detection(out, objects)
        if self.redshifts is not None:
            scale = objects[3] * (1 + objects[1])
            for name in REDSHIFT_COLUMNS:
                if name in self.names:
                    column = out[:, self.names.index(name)] * scale
                    out[:, self.names.index(name)] = column + (objects[1] if name == "redshift_mean" else 0.0)
        return out

    def _add_detection(self, columns, objects) -> None:
        """Add ln of the probability that objects were found to their evidence, which the table holds without it."""
        if "log_evidence" in self.names and not isinstance(self.selection, NoSelection):
            columns[:, self.names.index("log_evidence")] += np.asarray(self.selection.log_prob(*objects[:2]))

    def summaries(self, ln_lum_obs, z, sigma, redshift_error=None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Interpolate the summaries and quantiles of some objects.

        Parameters
        ----------
        ln_lum_obs : Float[np.ndarray, "n"]
            ln of the observed luminosity, in the relation's unit.
        z : Float[np.ndarray, "n"]
            Redshift.
        sigma : Float[np.ndarray, "n"]
            Error in ln L.
        redshift_error : Float[np.ndarray, "n"], optional
            Error of ln(1 + z), where redshifts have one.

        Returns
        -------
        summaries : dict of str to Float[np.ndarray, "n"]
            Summaries by the names that `MassPosterior` gives them, float64; NaN outside the table's range.
        quantiles : Float[np.ndarray, "n level"]
            Quantiles of ln M [ln Msun], float64; NaN outside the table's range.
        """
        columns = self(ln_lum_obs, z, sigma, redshift_error).astype(np.float64)
        number = len(SUMMARIES) + len(self.quantile_levels)
        single = (*SUMMARIES, *self.names[number:])
        found = {name: columns[:, self.names.index(name)] for name in single}
        found["mean_mass"] = np.exp(found.pop("ln_mean_mass"))
        return found, columns[:, len(SUMMARIES) : number]

    def ln_mass_at(self, score, ln_lum_obs, z, sigma, redshift_error=None) -> Float[np.ndarray, "n k"]:
        """Interpolate the quantile function: ln M of some objects at normal scores.

        A score drawn from N(0, 1) gives a sample of the object's posterior. These samples are each object's own: for
        sums over objects, which share the relation's error, use `massmap_jax.mass_map`.

        Parameters
        ----------
        score : Float[np.ndarray, "n k"] or Float[np.ndarray, "k"]
            Normal scores, of each object or common to all.
        ln_lum_obs : Float[np.ndarray, "n"]
            ln of the observed luminosity, in the relation's unit.
        z : Float[np.ndarray, "n"]
            Redshift.
        sigma : Float[np.ndarray, "n"]
            Error in ln L.
        redshift_error : Float[np.ndarray, "n"], optional
            Error of ln(1 + z), where redshifts have one.

        Returns
        -------
        Float[np.ndarray, "n k"]
            ln M [ln Msun]; NaN outside the table's range.

        Raises
        ------
        MassmapError
            For a table with one quantile level only.

        Notes
        -----
        ln M is linear in the score between the table's quantile levels, and beyond the last ones. Build the table with
        `quantile_levels=DRAW_LEVELS`: then a sample is within 0.02 of the posterior's standard deviation.
        """
        levels = ndtri(np.array(self.quantile_levels))
        if levels.size < 2:
            raise MassmapError("draws need a surface with several quantile levels: build it with DRAW_LEVELS")
        few = self.only([name for name in self.names if name.startswith("quantile")])
        quantiles = few(ln_lum_obs, z, sigma, redshift_error).astype(np.float64)
        score = np.broadcast_to(score, (quantiles.shape[0], np.shape(score)[-1]))
        lower = np.clip(np.searchsorted(levels, score, side="right") - 1, 0, levels.size - 2)
        place = (score - levels[lower]) / (levels[lower + 1] - levels[lower])
        left, right = (np.take_along_axis(quantiles, lower + d, axis=1) for d in (0, 1))
        return np.clip(left + place * (right - left), self.prior.ln_mass_min, self.prior.ln_mass_max)

    def _exact_at(self, place):
        """Give the objects at some places of the lattice, and their exact columns."""
        objects = self.lattice.objects(place)
        return objects, self.exact(*objects)

    def _without_failures(self, cells: Bool[np.ndarray, "..."], parts: list[int]) -> "PosteriorSurface":
        """Leave out cells in which objects are off by more than the tolerance, and measure the error on others."""
        shape = tuple((n - 1) // number + 1 for n, number in zip(self.lattice.shape, parts, strict=True))
        made = self
        for turn in range(_TRIES):
            places = _within(cells, shape, parts, turn)
            probes = made._exact_at(places)
            # The directions stay: another choice is another table, whose failures are elsewhere.
            made = (
                made._best_directions(probes) if turn == 0 else dataclasses.replace(made, error=made._measure(probes))
            )
            fails = made._off(probes) > 1
            if not fails.any() or fails.mean() > LEFT_OUT:
                break
            cell = np.floor(places[:, fails] / np.array(parts)[:, None]).astype(int)
            failed = np.zeros_like(cells)
            failed[tuple(np.minimum(c, n - 1) for c, n in zip(cell, cells.shape, strict=True))] = True
            cells = cells & ~neighbours_of(failed)
            if not cells.any():
                break
            lattice = dataclasses.replace(made.lattice, cells=cells.ravel())
            made = dataclasses.replace(made, lattice=lattice)
        return made

    def _best_directions(self, probes) -> "PosteriorSurface":
        """Choose the diagonals with the smallest error, and keep that error: it may be half that of another choice."""
        turned = []
        for directions in itertools.product((0, 1), repeat=len(self.lattice.shape) - 1):
            lattice = dataclasses.replace(self.lattice, backwards=np.array(directions, dtype=np.int32))
            other = dataclasses.replace(self, lattice=lattice)
            turned.append(dataclasses.replace(other, error=other._measure(probes)))
        return min(turned, key=lambda surface: surface._worst(surface.error))

    def _measure(self, probes) -> dict[str, float]:
        """Measure the largest error, by name, on objects whose exact columns are known."""
        error: dict[str, float] = {}
        for name, off in self._each_off(probes):
            error[name] = max(float(off.max(initial=0.0)), error.get(name, 0.0))
        return error

    def _each_off(self, probes):
        """Yield the error of each column, by the name of its tolerance, on objects that are in the table."""
        objects, best = probes[0], probes[1].copy()
        self._add_detection(best, objects)
        found = self(*objects).astype(np.float64)
        known = np.isfinite(best).all(axis=1) & np.isfinite(found).all(axis=1)
        for i, name in enumerate(self.names):
            off = np.zeros(len(best))
            off[known] = np.abs(found[known, i] - best[known, i]) / self._unit(i, best)[known]
            yield "quantiles" if name.startswith("quantile") else name, off

    def _off(self, probes) -> Float[np.ndarray, " n"]:
        """Give the largest error of each object in units of the tolerance; 0 where it is not in the table."""
        return np.max([off / self.tolerance[name] for name, off in self._each_off(probes)], axis=0)

    def _worst(self, error: dict[str, float]) -> float:
        """Give the largest error in units of the tolerance."""
        return max(error[name] / self.tolerance[name] for name in error)

    def save(self, path) -> None:
        """Write the table, its prior and relation to a .npz file that `load` reads back unchanged.

        Parameters
        ----------
        path : str or os.PathLike
            File to write; an existing one is replaced.

        Raises
        ------
        MassmapError
            For a relation other than a `MassLuminosityRelation`, a selection other than `NoSelection`, `FluxLimit`,
            `RedshiftLimit` and `TabulatedSelection`, or redshifts with a cosmology that is no text.
        """
        if not isinstance(self.relation, MassLuminosityRelation) or not isinstance(
            self.selection, NoSelection | FluxLimit | RedshiftLimit | TabulatedSelection
        ):
            raise MassmapError(
                "a posterior surface can be saved with a MassLuminosityRelation and no selection, a sharp limit or a"
                f" table, but this one has {type(self.relation).__name__} and {type(self.selection).__name__}"
            )
        if self.redshifts is not None and not isinstance(self.redshifts.cosmology, str):
            raise MassmapError(
                f"the cosmology of the redshifts is a {type(self.redshifts.cosmology).__name__}: to save the posterior"
                " surface, name it, as in cosmology='Planck18'"
            )
        parts = {"lattice": self.lattice, "prior": self.prior, "relation": self.relation, "selection": self.selection}
        parts |= {} if self.redshifts is None else {"redshifts": self.redshifts}
        arrays = {"values": self.values}
        labels: dict[str, dict] = {}
        for part, module in parts.items():
            for field in dataclasses.fields(module):
                value = getattr(module, field.name)
                if value is None:
                    continue
                if field.metadata.get("static"):
                    labels.setdefault(part, {})[field.name] = value
                else:
                    arrays[f"{part}.{field.name}"] = np.asarray(value)
        meta = {
            "labels": labels,
            "selection": type(self.selection).__name__,
            "error": self.error,
            "tolerance": self.tolerance,
            "quantile_levels": self.quantile_levels,
            "relation_from": self.relation_from,
            "names": self.names,
            "noise_kind": self.noise_kind,
        }
        write_npz(path, arrays | {"meta": json.dumps(meta)}, overwrite=True)

    @classmethod
    def load(cls, path) -> "PosteriorSurface":
        """Read a table that `save` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            File to read.

        Returns
        -------
        PosteriorSurface
            The table as it was saved.

        Raises
        ------
        MassmapError
            Where there is no such file, or `save` did not write it.
        """
        with told_of_archive(f"posterior surface {path}", "is not a file that save() wrote"):
            arrays = read_npz(path)
            meta = json.loads(str(arrays.pop("meta")))
            return cls._from_saved(arrays, meta, meta["labels"])

    @classmethod
    def _from_saved(cls, arrays: dict, meta: dict, labels: dict) -> "PosteriorSurface":
        parts = {}
        kinds = {"lattice": Lattice, "prior": MassPrior, "relation": MassLuminosityRelation}
        if "redshifts" in labels:
            told = {"code_prior": None, "parent": None} | labels["redshifts"]
            told |= {n: tuple(arrays[f"redshifts.{n}"]) for n in ("code_prior", "parent") if f"redshifts.{n}" in arrays}
            parts["redshifts"] = RedshiftUse(**({"num_nodes": None} | told))
        for part, kind in kinds.items():
            leaves = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith(f"{part}.")}
            parts[part] = kind(**leaves, **labels.get(part, {}))
        parts["selection"] = NoSelection()
        leaves = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("selection.")}
        if meta["selection"] == "RedshiftLimit":
            parts["selection"] = RedshiftLimit(**leaves, **labels["selection"])
        if meta["selection"] == "TabulatedSelection":
            parts["selection"] = TabulatedSelection(**leaves)
        if meta["selection"] == "FluxLimit":  # its logarithm as it was, to the last bit
            limit = arrays["selection.ln_lum_min"]
            parts["selection"] = eqx.tree_at(lambda s: s.ln_lum_min, FluxLimit(1.0), limit)
        return cls(
            values=arrays["values"],
            error=meta["error"],
            tolerance=meta["tolerance"],
            quantile_levels=tuple(meta["quantile_levels"]),
            relation_from=meta["relation_from"],
            names=tuple(meta["names"]),
            noise_kind=meta.get("noise_kind", "lognormal"),
            **parts,
        )

    def summary(self) -> str:
        """Summarise the table in a line of text: its size and measured error.

        Returns
        -------
        str
            A line to print.
        """
        size = " x ".join(map(str, self.lattice.shape))
        axes = "sigma, z and ln L" if self.redshifts is None else "the error of z, sigma, z and ln L"
        errors = ", ".join(f"{name} {value:.1g}" for name, value in self.error.items())
        return f"posterior surface: {size} nodes in {axes}; largest errors (sd, nat, bit, fractions): {errors}"


def read(surface: PosteriorSurface, halos: Objects, errors=None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Interpolate as `PosteriorSurface.summaries` does, for objects with their measured redshift, and the error of it.

    NaN for objects of another noise than the table's, too.
    """
    own = halos.kind == NOISE_KINDS.index(surface.noise_kind)
    if surface.noise_kind == "normal":
        # `Objects` takes very small linear noise as lognormal: it is the same.
        lognormal = halos.kind == NOISE_KINDS.index("lognormal")
        own = (own & (halos.sigma > 0)) | (lognormal & is_nearly_lognormal(halos.sigma))
    # A luminosity below zero has a negative sigma, and no place in a table.
    return surface.summaries(halos.ln_lum_obs[:, 0], halos.z[:, 0], np.where(own, halos.sigma, np.nan), errors)


def _in_table(catalogue: HaloCatalogue, rows) -> tuple[Literal["lognormal", "normal"], np.ndarray]:
    """The noise that most of these rows have, and which of them a table can be made for."""
    codes, sigma = catalogue.noise_codes[rows], catalogue.signed_measurements(rows)[1]
    lognormal = codes == NOISE_KINDS.index("lognormal")
    linear = (codes == NOISE_KINDS.index("normal")) & (sigma >= 0) & (sigma <= 1 / _LEAST_RATIO)
    return ("normal", linear) if linear.sum() > lognormal.sum() else ("lognormal", lognormal)


def for_posterior(catalogue, rows, prior, relation, relation_from, selection, levels, extra, surface):
    """Give the surface that `mass_posterior` reads for these rows: the given one (checked) or a new one."""
    if extra is not None:
        raise MassmapError(
            "a posterior surface depends on luminosity, redshift and sigma only, and these objects have an extra "
            "likelihood: use method='analytic'"
        )
    known = catalogue.redshift_distributions
    use = None if known is None else RedshiftUse.of(known)
    levels = tuple(float(v) for v in levels)
    if surface is None:
        kind, which = _in_table(catalogue, rows)
        if not which.any():
            raise MassmapError(
                "a posterior surface takes lognormal noise, and linear noise of a signal to noise of 12 and more, and"
                f" none of the {rows.size} objects has it: use method='analytic'"
            )
        columns = catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum
        where = Range.of(*(a[rows[which]] for a in columns))
        asked = {"relation_from": relation_from, "selection": selection, "quantile_levels": levels}
        if known is not None:
            errors = errors_of(catalogue)[rows[which]]
            where = where._replace(redshift_error=range_of_errors(errors))
            asked["objects"] = (*(a[rows[which]] for a in columns), errors)
        return PosteriorSurface.build(prior, relation, where, noise_kind=kind, redshifts=known, **asked)
    mine = (surface.prior, surface.relation, surface.selection, surface.redshifts)
    same = bool(eqx.tree_equal(mine, (prior, relation.as_batch(), selection, use)))
    same &= surface.names[: len(SUMMARIES)] == SUMMARIES
    if not same or (surface.relation_from, surface.quantile_levels) != (relation_from, levels):
        raise MassmapError(
            "the posterior surface was made for another prior, relation, relation_from, selection, other redshifts or "
            "other quantile levels: make one for these arguments, or leave out surface="
        )
    return surface


class _Anything(eqx.Module):
    """A selection that weights draws and excludes no luminosity, because a flux limit would cut the table off."""

    selection: Selection

    def log_prob(self, ln_lum_obs, z):
        return jnp.zeros_like(ln_lum_obs)

    def log_norm(self, relation, prior, z, sigma):
        return self.selection.log_norm(relation, prior, z, sigma)


def _check_uncertain(where: Range, noise_kind: str, selection) -> None:
    """Refuse what a table with an axis for the error of the redshift cannot hold."""
    if where.redshift_error is None:
        raise MassmapError("redshifts have an error: give its range, where.redshift_error, in ln(1 + z)")
    if noise_kind != "lognormal" or not isinstance(selection, NoSelection):
        what = "linear noise" if noise_kind != "lognormal" else "a selection"
        raise MassmapError(
            f"a posterior surface of redshifts that are not exact is not made with {what}: use method='analytic', which"
            " integrates each object"
        )


def _far_from_zero(where: Range, use: RedshiftUse) -> Range:
    """Leave out measured redshifts within a few errors of 0, where luminosities move by any factor."""
    assert where.redshift_error is not None
    low = np.expm1(_ERRORS_FROM_ZERO * where.redshift_error[1])
    if not use.lum_moves or low >= where.redshift[1]:
        return where
    return where._replace(redshift=(max(where.redshift[0], float(low)), where.redshift[1]))


def _spread(motion, z, error, xp=np):
    """How far the luminosity moves over the error of the redshift, beside the relation; in ln L."""
    u = xp.log1p(xp.maximum(z, LEAST_Z))
    return motion[0] * xp.log1p(error / u) + motion[1] * error


def _buckets(z) -> np.ndarray:
    """The redshift node at or below the start of each of equal steps in z, at most one node to a step."""
    gap = np.diff(z).min()
    starts = np.linspace(z[0], z[-1], int(np.ceil((z[-1] - z[0]) / gap)) + 1)[:-1]
    return np.clip(np.searchsorted(z, starts, side="right") - 1, 0, z.size - 2).astype(np.int32)


def _redshift_nodes(prior: MassPrior, ends, step, kinks) -> np.ndarray:
    """Lay out at least two redshift nodes from end to end: the prior's own and those given, thinned or with steps
    between them."""
    low, high = max(ends[0], prior.z_min), min(ends[1], prior.z_max)
    if not low <= high:
        raise MassmapError(_outside(prior, ends))
    if high - low < 1e-3:
        low, high = (max(high - 1e-3, prior.z_min), high) if high + 1e-3 > prior.z_max else (low, low + 1e-3)
    own = np.union1d(prior.redshift_nodes, np.asarray(kinks, dtype=np.float64))
    own = own[(own > low) & (own < high)]
    least = (high - low) / _MOST_BUCKETS
    kept = [low]
    for node in [*own, high]:
        distance = np.log1p(node) - np.log1p(kept[-1])
        # Nodes closer than the step are left out; the kink of the prior there is then part of the measured error.
        if node < high and (distance < 0.7 * step or node - kept[-1] < least or high - node < least):
            continue
        kept.extend(np.linspace(kept[-1], node, max(int(np.ceil(distance / step)), 1) + 1)[1:])
    return np.array(kept)


def _smooth_nodes(prior: MassPrior, ends, step) -> np.ndarray:
    """Lay out redshift nodes for splines, with steps in u = ln(1 + z) in proportion to u + _NEAR, `step` at u = 0.3."""
    low, high = max(ends[0], prior.z_min), min(ends[1], prior.z_max)
    if not low <= high:
        raise MassmapError(_outside(prior, ends))
    if high - low < 1e-3:
        low, high = (max(high - 1e-3, prior.z_min), high) if high + 1e-3 > prior.z_max else (low, low + 1e-3)
    v = np.log(np.log1p([low, high]) + _NEAR)
    number = max(int(np.ceil((v[1] - v[0]) * (0.3 + _NEAR) / step)), 1)
    z = np.expm1(np.exp(np.linspace(*v, number + 1)) - _NEAR)
    z[[0, -1]] = low, high  # not off by rounding
    return z


def _outside(prior: MassPrior, ends) -> str:
    return f"the redshifts {ends[0]:g} to {ends[1]:g} lie outside the prior's {prior.z_min:g} to {prior.z_max:g}"


def _mean_ln_lum(relation, ln_mass, z) -> Float[np.ndarray, "draw z"]:
    """Give the mean ln L of every draw at one mass and several redshifts."""
    return np.asarray(jax.vmap(lambda r: r.mean_ln_lum(ln_mass, jnp.asarray(z)))(relation), dtype=np.float64)


def _scatter(relation, ln_mass, z) -> Float[np.ndarray, " draw"]:
    """Give the scatter in ln L of every draw at one mass and redshift."""
    return np.asarray(jax.vmap(lambda r: r.scatter_ln_lum(ln_mass, z))(relation), dtype=np.float64)


def _between_nodes(lattice: Lattice):
    """Yield, for each axis (w, z, t), places half way between nodes along it and on nodes along the others."""
    rng = np.random.default_rng(0)
    for axis, size in enumerate(lattice.shape):
        place = np.stack([rng.integers(0, n, _AXIS_PROBES) for n in lattice.shape]).astype(float)
        if size > 1:
            place[axis] = rng.integers(0, size - 1, _AXIS_PROBES) + 0.5
        yield place


def _half_way(cells: Bool[np.ndarray, "..."], shape):
    """Yield, for each axis, places half way between nodes along it and on nodes along the others, in some cells."""
    rng = np.random.default_rng(0)
    for axis, size in enumerate(shape):
        place = np.stack(np.unravel_index(rng.choice(np.flatnonzero(cells), _AXIS_PROBES), cells.shape)).astype(float)
        place += rng.integers(0, 2, place.shape) * (np.array(shape) > 1)[:, None]
        if size > 1:
            place[axis] = np.floor(place[axis] - 0.25).clip(0, size - 2) + 0.5
        yield place


def _within(cells: Bool[np.ndarray, "..."], shape, parts, seed: int) -> Float[np.ndarray, "axis n"]:
    """Give random places in some cells, in units of the nodes of divided axes; half may lie on faces or corners."""
    rng = np.random.default_rng(1 + seed)
    cell = np.stack(np.unravel_index(rng.choice(np.flatnonzero(cells), _PROBES), cells.shape)).astype(float)
    share = rng.uniform(size=cell.shape)
    extreme = rng.uniform(size=share.shape) < np.where(np.arange(_PROBES) % 2, 0.5, 0.0)
    share = np.where(extreme, np.round(share), share)
    return (cell + share * (np.array(shape) > 1)[:, None]) * np.array(parts)[:, None]


def _anywhere(lattice: Lattice) -> Float[np.ndarray, "3 n"]:
    """Give random places, half of which may lie on a face, an edge or a corner of the range."""
    rng = np.random.default_rng(1)
    ends = np.array([n - 1.0 for n in lattice.shape])[:, None]
    share = rng.uniform(size=(ends.size, _PROBES))
    extreme = rng.uniform(size=share.shape) < np.where(np.arange(_PROBES) % 2, 0.5, 0.0)
    return ends * np.where(extreme, np.round(share), share)


@devices.over_halos("ln_lum", "z", "sigma", "error", static=("logit",))
def _interpolate(lattice: Lattice, values, ln_lum, z, sigma, error=None, *, logit):
    """Interpolate linearly between nodes; (n, column). `logit` says which columns are stored as a logit."""
    z_nodes, t_nodes, w_nodes = lattice.z, lattice.t, lattice.ln_width
    buckets = lattice.bucket.shape[0]
    at = ((z - z_nodes[0]) * (buckets / (z_nodes[-1] - z_nodes[0]))).astype(jnp.int32)
    iz = _take(lattice.bucket, jnp.clip(at, 0, buckets - 1))
    iz = jnp.clip(iz + (z >= _take(z_nodes, iz + 1)), 0, z_nodes.shape[0] - 2)
    z_low = _take(z_nodes, iz)
    tz = (z - z_low) / (_take(z_nodes, iz + 1) - z_low)
    middle = _take(lattice.middle, iz)
    middle = middle + tz * (_take(lattice.middle, iz + 1) - middle)
    variance = lattice.scatter**2 + sigma**2
    ln_width = 0.5 * jnp.log(variance)
    total = variance if error is None else variance + _spread(lattice.motion, z, error, jnp) ** 2
    it, tt = _equal_steps((ln_lum - middle) / (lattice.half + _REACH * jnp.sqrt(total)), t_nodes)
    num_z, num_t = z_nodes.shape[0], t_nodes.shape[0]
    iw, tw = _equal_steps(ln_width, w_nodes) if w_nodes.shape[0] > 1 else _only_node(ln_width, w_nodes)
    # Of each axis, the last one first: the place in the cell, the rows to the next node, and the direction.
    cells = [(tz, num_t, lattice.backwards[0]), (tt, 1, lattice.backwards[1])]
    last = [(tw, num_z * num_t)] if w_nodes.shape[0] > 1 else []
    row_error = 0
    if error is not None:
        assert lattice.ln_error is not None
        e_nodes, rows_error = lattice.ln_error, num_z * num_t * w_nodes.shape[0]
        ln_error = 0.5 * jnp.log(_LEAST_ERROR**2 + error**2)
        ie, te = _equal_steps(ln_error, e_nodes) if e_nodes.shape[0] > 1 else _only_node(ln_error, e_nodes)
        cells += [(*axis, lattice.backwards[2]) for axis in last]
        last = [(te, rows_error)] if e_nodes.shape[0] > 1 else []
        row_error = ie * rows_error
    # Row of the simplex's first corner, and for each axis the place in the cell and the rows to the next node.
    row, along = row_error, []
    for place, step, turned in cells:
        along.append((jnp.where(turned, 1 - place, place), step * (1 - 2 * turned)))
        row = row + step * turned
    along += last
    inside = (tw >= -_ROUNDING) & (tw <= 1 + _ROUNDING) & (tz >= -_ROUNDING) & (tz <= 1 + _ROUNDING)
    inside &= (tt >= 0) & (tt <= 1)
    if error is not None:
        inside &= (te >= -_ROUNDING) & (te <= 1 + _ROUNDING)
    # Kuhn's simplex: from the cell's first corner to its last, along the axis with the greatest place first.
    for end in range(len(along) - 1, 0, -1):
        for i in range(end):
            along[i : i + 2] = _greater_first(*along[i : i + 2])
    if lattice.cells is not None:
        assert lattice.ln_error is not None and lattice.parts is not None
        held, number = 0, 1
        for axis, (node, size) in enumerate(
            [(it, num_t), (iz, num_z), (iw, w_nodes.shape[0]), (ie, lattice.ln_error.shape[0])]
        ):
            own = lattice.parts[-1 - axis]
            held, number = held + node // own * number, number * jnp.maximum((size - 1) // own, 1)
        inside &= _take(lattice.cells, held) > 0
    row = row + (iw * num_z + iz) * num_t + it
    total = jnp.where(inside, 1 - along[0][0], jnp.nan)[:, None] * _take(values, row)
    for (place, step), (after, _) in itertools.pairwise([*along, (0.0, 0)]):
        row = row + step
        total = total + (place - after)[:, None] * _take(values, row)
    return jnp.where(np.array(logit), jax.nn.sigmoid(total), total) if any(logit) else total


def _only_node(value, nodes):
    """Give the only node of an axis, and a place below it where the value is another."""
    return jnp.zeros(value.shape, dtype=jnp.int32), jnp.where(jnp.abs(value - nodes[0]) < 1e-4, 0.0, -1.0)


def _greater_first(a, b):
    """Order two pairs of arrays so that, in each row, the one with the greater first number comes first."""
    swap = a[0] < b[0]
    return [tuple(jnp.where(swap, v, u) for u, v in zip(*pair, strict=True)) for pair in ((a, b), (b, a))]


def _equal_steps(value, nodes):
    """Give the lower node and the place from 0 to 1 beyond it; outside the nodes the place is below 0 or above 1."""
    t = (value - nodes[0]) * ((nodes.shape[0] - 1) / (nodes[-1] - nodes[0]))
    i = jnp.clip(t.astype(jnp.int32), 0, nodes.shape[0] - 2)
    return i, t - i


def _take(array, index):
    """Index an array without a check of the bounds, which is slower."""
    return array.at[index].get(mode="promise_in_bounds")
