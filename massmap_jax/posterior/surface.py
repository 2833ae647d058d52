"""`PosteriorSurface`: posterior summaries tabulated as smooth functions of (ln L_obs, z, sigma).

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
from jaxtyping import Array, Float, Int
from scipy.special import ndtr, ndtri

from massmap_jax import devices
from massmap_jax.catalogue.archives import read_npz, told_of_archive, write_npz
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.linear_noise import NO_FAINT, is_nearly_lognormal
from massmap_jax.likelihood.objects import Objects, Range, usable_rows
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, RedshiftLimit, Selection
from massmap_jax.posterior import kernel
from massmap_jax.posterior.requests import exact_summaries, settings_of
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
# How far the table extends beyond the luminosities of the lowest and the highest mass [widths].
_REACH = 4.0
# First steps: in ln L_obs in units of the least width, in ln(1 + z), in ln width.
_FIRST_STEPS = (0.5, 0.1, 0.25)
# A table of more nodes than this costs more time than it can save.
_MOST_NODES = 4_000_000
# Objects on which the error is measured: first half way between nodes along each axis alone, at the end anywhere.
_AXIS_PROBES, _PROBES = 1024, 4096
# The largest errors along the axes may add up to this many tolerances before the whole table is measured. It is more
# than 1 because these errors do not all occur at the same place.
_TARGET = 1.3
_ROUNDS = 6
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
        For z and t: 1 where the diagonal of the simplices falls along that axis as ln width rises, else 0.
    """

    t: Float[Array, " t"]
    z: Float[Array, " z"]
    ln_width: Float[Array, " w"]
    middle: Float[Array, " z"]
    half: Float[Array, ""]
    bucket: Int[Array, " bucket"]
    scatter: Float[Array, ""]
    backwards: Int[Array, "2"]

    @classmethod
    def of(cls, prior: MassPrior, relation, where: Range, steps) -> "Lattice":
        """Lay out a lattice over a range of objects.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        relation : Relation
            A batch of draws.
        where : Range
            The objects' ln L_obs, z and sigma.
        steps : Float[np.ndarray, "3"]
            Steps in ln L_obs (in units of the least width), in ln(1 + z) and in ln width.

        Returns
        -------
        Lattice
            The nodes; all diagonals forwards.

        Raises
        ------
        MassmapError
            For redshifts or luminosities that the prior's masses do not cover, or no noise and no scatter.
        """
        z = _redshift_nodes(prior, where.redshift, steps[1])
        shares = np.asarray(jax.nn.softmax(np.asarray(relation.log_weight, dtype=float)), dtype=np.float64)
        ends = np.stack([_mean_ln_lum(relation, m, z) for m in (prior.ln_mass_min, prior.ln_mass_max)])
        middle = shares @ ends.mean(axis=0)
        half = float(np.abs(ends - middle).max())
        scatter = float(shares @ _scatter(relation, 0.5 * (prior.ln_mass_min + prior.ln_mass_max), np.median(z)))
        with np.errstate(divide="ignore"):
            widths = 0.5 * np.log(scatter**2 + np.square(where.sigma))
        if not np.isfinite(widths).all():
            raise MassmapError("noise and scatter are both 0: a posterior surface needs a sigma above 0")
        number = 1 if np.ptp(widths) < 1e-6 else int(np.ceil(np.ptp(widths) / steps[2])) + 1
        ln_width = np.linspace(*widths, number)
        # Only the range of t that the objects' own luminosities need.
        reach = half + _REACH * np.exp(widths)
        low = max(-1.0, min((where.ln_lum[0] - middle.max()) / reach))
        high = min(1.0, max((where.ln_lum[1] - middle.min()) / reach))
        if not low <= high:
            raise MassmapError(
                f"the luminosities, ln L from {where.ln_lum[0]:.4g} to {where.ln_lum[1]:.4g}, lie outside those of the "
                f"prior's masses by more than {_REACH:g} widths: check the unit of the luminosity and the relation"
            )
        step = steps[0] * np.exp(widths[0]) / reach[0]
        t = np.linspace(low - 1e-4, high + 1e-4, int(np.ceil((high - low) / step)) + 2)
        gap = np.diff(z).min()
        starts = np.linspace(z[0], z[-1], int(np.ceil((z[-1] - z[0]) / gap)) + 1)[:-1]
        bucket = np.clip(np.searchsorted(z, starts, side="right") - 1, 0, z.size - 2)
        forwards = np.zeros(2, dtype=np.int32)
        return cls(t, z, ln_width, middle, np.float64(half), bucket.astype(np.int32), np.float64(scatter), forwards)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of nodes along (ln width, z, t)."""
        return self.ln_width.size, self.z.size, self.t.size

    def places(self) -> Float[np.ndarray, "3 node"]:
        """List the place of every node, in units of nodes along (ln width, z, t)."""
        return np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij")).reshape(3, -1).astype(float)

    def objects(self, place: Float[np.ndarray, "3 n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give ln L_obs, z and sigma of objects at some places, in units of nodes along (ln width, z, t)."""
        nodes = (self.ln_width, self.z, self.t)
        ln_width, z, t = (np.interp(p, np.arange(n.size), n) for p, n in zip(place, nodes, strict=True))
        sigma = np.sqrt(np.maximum(np.exp(2 * ln_width) - self.scatter**2, 0.0))
        return np.interp(z, self.z, self.middle) + t * (self.half + _REACH * np.exp(ln_width)), z, sigma


class PosteriorSurface(eqx.Module):
    """Tabulated summaries of P(ln M | L_obs, z, sigma) for one prior and one relation (or its draws).

    Make one with `build` and pass it to `massmap_jax.mass_posterior(..., method="surface", surface=...)`. It pays where
    many objects share a prior and a relation: from about 10^5 objects on.

    Attributes
    ----------
    lattice : Lattice
        The nodes.
    values : Float[np.ndarray, "w z t column"]
        The columns at the nodes, float32. The edge mass is stored as its logit.
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
        Names of the columns: the summaries, then the quantiles by number.

    See Also
    --------
    massmap_jax.mass_posterior : Reads a surface, and integrates the rows outside its range one by one.

    Notes
    -----
    The range of a table is cut to the prior's redshifts, and to luminosities up to 4 widths beyond those of the prior's
    masses. Objects must have one known redshift and no extra likelihood. The mode jumps between kinks of the prior's
    table: its error is measured but the steps are not refined for it.

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
    values: Float[np.ndarray, "w z t column"]
    prior: MassPrior
    relation: Relation
    selection: Selection
    error: dict[str, float]
    tolerance: dict[str, float]
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    noise_kind: str = eqx.field(static=True, default="lognormal")

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
            nodes.
        """
        relation_from = check_relation_from(relation, relation_from)
        check_labels(relation=relation, mass_prior=prior)
        relation = relation.as_batch()
        selection = NoSelection() if selection is None else selection
        tolerance = TOLERANCE | (tolerance or {})
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
        levels = tuple(float(v) for v in quantile_levels)
        steps = np.array(_FIRST_STEPS)
        for _ in range(_ROUNDS):
            lattice = Lattice.of(prior, relation, where, steps)
            number = int(np.prod(lattice.shape))
            if number > _MOST_NODES:
                break
            watch(f"tabulating the posterior: {number:,} nodes")
            empty = np.zeros((0, 0, 0, 0), dtype=np.float32)
            names = (*SUMMARIES, *(f"quantile{i}" for i in range(len(levels))))
            known = tolerance, levels, relation_from, names, noise_kind
            made = cls(lattice, empty, prior, relation, selection, {}, *known)
            values = made.exact(*lattice.objects(lattice.places()))
            edge = np.clip(values[:, SUMMARIES.index("edge_mass")], 1e-9, 1 - 1e-9)
            values[:, SUMMARIES.index("edge_mass")] = np.log(edge / (1 - edge))
            made = dataclasses.replace(made, values=values.reshape(*lattice.shape, -1).astype(np.float32))
            by_axis = np.array([made._worst(made._measure(made._exact_at(p))) for p in _between_nodes(lattice)])
            if by_axis.sum() <= _TARGET:
                made = made._best_directions(made._exact_at(_anywhere(lattice)))
                worst = made._worst(made.error)
                if worst <= 1:
                    return made
                by_axis = by_axis * 1.5 * worst / by_axis.sum()
            # An error is proportional to the square of the step; equal errors along the axes need the fewest nodes.
            asked = _TARGET / by_axis.size
            steps = steps * np.clip(0.95 * np.sqrt(asked / np.maximum(by_axis[::-1], 1e-9)), 0.1, 1.5)
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

    def exact(self, ln_lum_obs, z, sigma) -> Float[np.ndarray, "n column"]:
        """Compute the columns of some objects exactly, without the table.

        Parameters
        ----------
        ln_lum_obs : Float[np.ndarray, "n"]
            ln of the observed luminosity, in the relation's unit.
        z : Float[np.ndarray, "n"]
            Redshift.
        sigma : Float[np.ndarray, "n"]
            Error in ln L, or linear error as a fraction of the luminosity.

        Returns
        -------
        Float[np.ndarray, "n column"]
            The columns; NaN for objects that cannot be used.
        """
        lum = np.exp(ln_lum_obs)
        linear = {"sigma_luminosity": sigma * lum, "noise_kind": "normal"}
        noise = linear if self.noise_kind == "normal" else {"sigma_ln_luminosity": sigma}
        objects = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, **noise)
        rows = usable_rows(objects, self.prior)
        halos = Objects.of(objects, rows, self.prior, need_keys=False)
        kernel.check_noise(halos, self.relation, "surface", self.prior)
        levels = np.array(self.quantile_levels)
        settings = settings_of("analytic", self.relation_from, 1)
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
        columns = np.full((len(objects), len(SUMMARIES) + levels.size), np.nan)
        columns[rows] = np.column_stack([*(summaries[name] for name in SUMMARIES), quantiles])
        return columns

    def __call__(self, ln_lum_obs, z, sigma) -> Float[np.ndarray, "n column"]:
        """Interpolate the columns of some objects: float32, (n, column); NaN outside the table's range."""
        objects = [np.asarray(a) for a in (ln_lum_obs, z, sigma)]
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
        if "log_evidence" in self.names and not isinstance(self.selection, NoSelection):
            out[:, self.names.index("log_evidence")] += np.asarray(self.selection.log_prob(*objects[:2]))
        return out

    def summaries(self, ln_lum_obs, z, sigma) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Interpolate the summaries and quantiles of some objects.

        Parameters
        ----------
        ln_lum_obs : Float[np.ndarray, "n"]
            ln of the observed luminosity, in the relation's unit.
        z : Float[np.ndarray, "n"]
            Redshift.
        sigma : Float[np.ndarray, "n"]
            Error in ln L.

        Returns
        -------
        summaries : dict of str to Float[np.ndarray, "n"]
            Summaries by the names that `MassPosterior` gives them, float64; NaN outside the table's range.
        quantiles : Float[np.ndarray, "n level"]
            Quantiles of ln M [ln Msun], float64; NaN outside the table's range.
        """
        columns = self(ln_lum_obs, z, sigma)
        found = {name: columns[:, i].astype(np.float64) for i, name in enumerate(SUMMARIES)}
        found["mean_mass"] = np.exp(found.pop("ln_mean_mass"))
        return found, columns[:, len(SUMMARIES) :].astype(np.float64)

    def ln_mass_at(self, score, ln_lum_obs, z, sigma) -> Float[np.ndarray, "n k"]:
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
        few = self.only(self.names[-levels.size :])
        quantiles = few(ln_lum_obs, z, sigma).astype(np.float64)
        score = np.broadcast_to(score, (quantiles.shape[0], np.shape(score)[-1]))
        lower = np.clip(np.searchsorted(levels, score, side="right") - 1, 0, levels.size - 2)
        place = (score - levels[lower]) / (levels[lower + 1] - levels[lower])
        left, right = (np.take_along_axis(quantiles, lower + d, axis=1) for d in (0, 1))
        return np.clip(left + place * (right - left), self.prior.ln_mass_min, self.prior.ln_mass_max)

    def _exact_at(self, place):
        """Give the objects at some places of the lattice, and their exact columns."""
        objects = self.lattice.objects(place)
        return objects, self.exact(*objects)

    def _best_directions(self, probes) -> "PosteriorSurface":
        """Choose the diagonals with the smallest error, and keep that error: it may be half that of another choice."""
        turned = []
        for directions in itertools.product((0, 1), repeat=2):
            lattice = dataclasses.replace(self.lattice, backwards=np.array(directions, dtype=np.int32))
            other = dataclasses.replace(self, lattice=lattice)
            turned.append(dataclasses.replace(other, error=other._measure(probes)))
        return min(turned, key=lambda surface: surface._worst(surface.error))

    def _measure(self, probes) -> dict[str, float]:
        """Measure the largest error, by name, on objects whose exact columns are known."""
        objects, best = probes
        found = self(*objects).astype(np.float64)
        sd = best[:, SUMMARIES.index("sd")]
        known = np.isfinite(best).all(axis=1) & np.isfinite(found).all(axis=1)
        error: dict[str, float] = {}
        for i, name in enumerate(self.names):
            unit = sd if name in _IN_SD or name not in SUMMARIES else best[:, i] if name == "ess" else 1.0
            off = float(np.max(np.abs(found[:, i] - best[:, i])[known] / np.broadcast_to(unit, sd.shape)[known]))
            name = name if name in SUMMARIES else "quantiles"
            error[name] = max(off, error.get(name, 0.0))
        return error

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
            For a relation other than a `MassLuminosityRelation`, or a selection other than `NoSelection`,
            `FluxLimit` and `RedshiftLimit`.
        """
        if not isinstance(self.relation, MassLuminosityRelation) or not isinstance(
            self.selection, NoSelection | FluxLimit | RedshiftLimit
        ):
            raise MassmapError(
                "a posterior surface can be saved with a MassLuminosityRelation and no selection or a sharp limit, but "
                f"this one has {type(self.relation).__name__} and {type(self.selection).__name__}"
            )
        parts = {"lattice": self.lattice, "prior": self.prior, "relation": self.relation, "selection": self.selection}
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
        for part, kind in {"lattice": Lattice, "prior": MassPrior, "relation": MassLuminosityRelation}.items():
            leaves = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith(f"{part}.")}
            parts[part] = kind(**leaves, **labels.get(part, {}))
        parts["selection"] = NoSelection()
        if meta["selection"] == "RedshiftLimit":
            leaves = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("selection.")}
            parts["selection"] = RedshiftLimit(**leaves, **labels["selection"])
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
        errors = ", ".join(f"{name} {value:.1g}" for name, value in self.error.items())
        return (
            f"posterior surface: {size} nodes in sigma, z and ln L; largest errors (sd, nat, bit, fractions): {errors}"
        )


def read(surface: PosteriorSurface, halos: Objects) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Interpolate as `PosteriorSurface.summaries` does; NaN for objects of another noise than the table's, too."""
    own = halos.kind == NOISE_KINDS.index(surface.noise_kind)
    if surface.noise_kind == "normal":
        # `Objects` takes very small linear noise as lognormal: it is the same.
        lognormal = halos.kind == NOISE_KINDS.index("lognormal")
        own = (own & (halos.sigma > 0)) | (lognormal & is_nearly_lognormal(halos.sigma))
    # A luminosity below zero has a negative sigma, and no place in a table.
    return surface.summaries(halos.ln_lum_obs[:, 0], halos.z[:, 0], np.where(own, halos.sigma, np.nan))


def _in_table(catalogue: HaloCatalogue, rows) -> tuple[Literal["lognormal", "normal"], np.ndarray]:
    """The noise that most of these rows have, and which of them a table can be made for."""
    codes, sigma = catalogue.noise_codes[rows], catalogue.signed_measurements(rows)[1]
    lognormal = codes == NOISE_KINDS.index("lognormal")
    linear = (codes == NOISE_KINDS.index("normal")) & (sigma >= 0) & (sigma <= 1 / _LEAST_RATIO)
    return ("normal", linear) if linear.sum() > lognormal.sum() else ("lognormal", lognormal)


def for_posterior(catalogue, rows, prior, relation, relation_from, selection, levels, extra, surface):
    """Give the surface that `mass_posterior` reads for these rows: the given one (checked) or a new one."""
    if extra is not None or catalogue.redshift_distributions is not None:
        raise MassmapError(
            "a posterior surface depends on luminosity, redshift and sigma only, and these objects have an extra "
            "likelihood or redshifts that are not exact: use method='analytic'"
        )
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
        return PosteriorSurface.build(prior, relation, where, noise_kind=kind, **asked)
    mine = (surface.prior, surface.relation, surface.selection)
    same = bool(eqx.tree_equal(mine, (prior, relation.as_batch(), selection)))
    same &= surface.names[: len(SUMMARIES)] == SUMMARIES
    if not same or (surface.relation_from, surface.quantile_levels) != (relation_from, levels):
        raise MassmapError(
            "the posterior surface was made for another prior, relation, relation_from, selection or other quantile "
            "levels: make one for these arguments, or leave out surface="
        )
    return surface


class _Anything(eqx.Module):
    """A selection that weights draws and excludes no luminosity, because a flux limit would cut the table off."""

    selection: Selection

    def log_prob(self, ln_lum_obs, z):
        return jnp.zeros_like(ln_lum_obs)

    def log_norm(self, relation, prior, z, sigma):
        return self.selection.log_norm(relation, prior, z, sigma)


def _redshift_nodes(prior: MassPrior, ends, step) -> np.ndarray:
    """Lay out at least two redshift nodes from end to end: the prior's own, thinned or with steps between them."""
    low, high = max(ends[0], prior.z_min), min(ends[1], prior.z_max)
    if not low <= high:
        raise MassmapError(
            f"the redshifts {ends[0]:g} to {ends[1]:g} lie outside the prior's {prior.z_min:g} to {prior.z_max:g}"
        )
    if high - low < 1e-3:
        low, high = (max(high - 1e-3, prior.z_min), high) if high + 1e-3 > prior.z_max else (low, low + 1e-3)
    own = prior.redshift_nodes[(prior.redshift_nodes > low) & (prior.redshift_nodes < high)]
    least = (high - low) / _MOST_BUCKETS
    kept = [low]
    for node in [*own, high]:
        distance = np.log1p(node) - np.log1p(kept[-1])
        # Nodes closer than the step are left out; the kink of the prior there is then part of the measured error.
        if node < high and (distance < 0.7 * step or node - kept[-1] < least or high - node < least):
            continue
        kept.extend(np.linspace(kept[-1], node, max(int(np.ceil(distance / step)), 1) + 1)[1:])
    return np.array(kept)


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


def _anywhere(lattice: Lattice) -> Float[np.ndarray, "3 n"]:
    """Give random places, half of which may lie on a face, an edge or a corner of the range."""
    rng = np.random.default_rng(1)
    ends = np.array([n - 1.0 for n in lattice.shape])[:, None]
    share = rng.uniform(size=(3, _PROBES))
    extreme = rng.uniform(size=share.shape) < np.where(np.arange(_PROBES) % 2, 0.5, 0.0)
    return ends * np.where(extreme, np.round(share), share)


@devices.over_halos("ln_lum", "z", "sigma", static=("logit",))
def _interpolate(lattice: Lattice, values, ln_lum, z, sigma, *, logit):
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
    it, tt = _equal_steps((ln_lum - middle) / (lattice.half + _REACH * jnp.sqrt(variance)), t_nodes)
    num_z, num_t = z_nodes.shape[0], t_nodes.shape[0]
    # Row of the simplex's first corner, and for each axis the place in the cell and the rows to the next node.
    row, along = 0, []
    for place, step, turned in ((tz, num_t, lattice.backwards[0]), (tt, 1, lattice.backwards[1])):
        along.append((jnp.where(turned, 1 - place, place), step * (1 - 2 * turned)))
        row = row + step * turned
    if w_nodes.shape[0] > 1:
        iw, tw = _equal_steps(ln_width, w_nodes)
        along.append((tw, num_z * num_t))
    else:
        iw, tw = jnp.zeros_like(iz), jnp.where(jnp.abs(ln_width - w_nodes[0]) < 1e-4, 0.0, -1.0)
    inside = (tw >= -_ROUNDING) & (tw <= 1 + _ROUNDING) & (tz >= -_ROUNDING) & (tz <= 1 + _ROUNDING)
    inside &= (tt >= 0) & (tt <= 1)
    # Kuhn's simplex: from the cell's first corner to its last, along the axis with the greatest place first.
    for last in range(len(along) - 1, 0, -1):
        for i in range(last):
            along[i : i + 2] = _greater_first(*along[i : i + 2])
    row = row + (iw * num_z + iz) * num_t + it
    total = jnp.where(inside, 1 - along[0][0], jnp.nan)[:, None] * _take(values, row)
    for (place, step), (after, _) in itertools.pairwise([*along, (0.0, 0)]):
        row = row + step
        total = total + (place - after)[:, None] * _take(values, row)
    return jnp.where(np.array(logit), jax.nn.sigmoid(total), total) if any(logit) else total


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
