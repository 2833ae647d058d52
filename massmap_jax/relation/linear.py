"""ln P(data | relation) of objects with linear noise or upper limits, with the masses marginalised.

    ln Z = ln integral of p(ln M | z) exp[K(ln L_ref - mu(M, z); q, S)] d ln M

with K from the table of `likelihood.linear_noise`. K need not fall towards light masses, so the integral runs over the
whole support of the prior: in panels over the interval where K changes, and in others over what is lighter, where only
noise explains a measurement.

An object is in the catalogue if its measurement is above a limit. At its error the probability of that is one minus
that of staying below, so ln A is an integral of the same kind, with K = ln of that probability; very many light halos,
each with a small chance to be lifted over the limit by noise alone, count in it.
"""

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.objects import counts_as_lognormal, usable_rows
from massmap_jax.likelihood.selection import NoSelection, SignalToNoiseLimit, is_sharp
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points, compress
from massmap_jax.relation.data import HALF_LN_2PI, CatalogueData, filled
from massmap_jax.relation.lattice import Lattice, LatticeTooLarge, MadeFor, lattices_of
from massmap_jax.relation.marginal import RelationLikelihood

_LOGNORMAL, _NORMAL, _UPPER_LIMIT = (NOISE_KINDS.index(kind) for kind in ("lognormal", "normal", "upper_limit"))
_MEASURED = ("normal", "near")
# Panels over what is lighter or heavier than the interval where K changes: there the integrand is smooth.
_OUTER_PANELS = 3
# Length of a panel in units of the narrowest feature of K. ln Z is right to 1e-4 then.
_PANEL_WIDTHS = 3.5
# From this number of objects on, those of a high signal to noise are integrated apart, with fewer nodes: to compile
# that takes as long as it saves.
_MANY = 20_000
# From this number of objects on, lattices stand for them where they are quicker: to compile them takes longer.
_FOR_LATTICE = 1_000
# Products of numbers in a lattice that take as long as one object by itself.
_PRODUCTS = 10_000
# Objects that are integrated at the same time: their nodes stay in cache.
_BLOCK = 128


class Part(eqx.Module):
    """Integrals of one kind, whose sum counts with a sign.

    Attributes
    ----------
    ln_reference : Float[Array, "*block point"]
        ln L_ref of each measurement or limit.
    z : Float[Array, "*block point"]
        Redshift.
    place : Float[Array, "*block point"]
        asinh(q / 2), with q the signal to noise.
    weight : Float[Array, "*block point"]
        How often an integral counts; 0 for copies that fill up a block.
    kind : {"normal", "near", "upper_limit", "above"}
        What K is, see `likelihood.linear_noise.kernel`.
    inner, outer : int
        Number of panels over the interval where K changes, and beside it.
    """

    ln_reference: Float[Array | np.ndarray, "*block point"]
    z: Float[Array | np.ndarray, "*block point"]
    place: Float[Array | np.ndarray, "*block point"]
    weight: Float[Array | np.ndarray, "*block point"]
    kind: str = eqx.field(static=True)
    inner: int = eqx.field(static=True)
    outer: int = eqx.field(static=True)

    @classmethod
    def of(cls, kind: str, ln_reference, z, place, weight, scatter: float, outer: int = _OUTER_PANELS) -> "Part":
        """Collect integrals in blocks.

        Parameters
        ----------
        kind : {"normal", "near", "upper_limit", "above"}
            What K is.
        ln_reference, z, place, weight : Float[np.ndarray, "point"]
            As the attributes.
        scatter : float
            Least scatter S of the relations [ln L].
        outer : int, optional
            Number of panels beside the interval where K changes.

        Returns
        -------
        Part
            The integrals.
        """
        on = linear_noise.intervals(place, scatter, np)
        ends = (on.least, on.greatest) if kind in _MEASURED else linear_noise.limit_interval(place, scatter, np)
        inner = number_of_panels(ends, place, scatter, _PANEL_WIDTHS)
        number = filled(np.zeros(-(-z.size // _BLOCK)), least=2).size
        missing = number * _BLOCK - z.size
        columns = [np.pad(a, (0, missing), mode="edge") for a in (ln_reference, z, place)]
        weights = np.pad(weight, (0, missing))
        ln_reference, z, place, weight = (a.reshape(-1, _BLOCK) for a in (*columns, weights))
        return cls(ln_reference, z, place, weight, kind=kind, inner=inner, outer=outer)

    @classmethod
    def above(cls, z, ln_limit, relative_error, weight, scatter: float) -> "Part":
        """Collect probabilities that a measurement is above a limit, whatever the luminosity.

        Parameters
        ----------
        z, ln_limit, relative_error, weight : Float[np.ndarray, "point"]
            Redshift, ln of the limit [ln of the catalogue's unit], error as a fraction of the limit, and weight of
            each. A limit below zero has a negative fraction, and ln of its absolute value.
        scatter : float
            Least scatter S of the relations [ln L].

        Returns
        -------
        Part
            Integrals, whose ln is that of the probability.
        """
        ln_reference, place = (np.asarray(a) for a in linear_noise.reference(ln_limit, relative_error))
        return cls.of("above", ln_reference, z, place, weight, scatter)

    def __call__(self, relation, prior: MassPrior, norm) -> Float[Array, ""]:
        """Sum the ln integrals under one relation; `norm` is `prior.norm_coefficients()`."""
        # Checkpointed: the gradient does not keep the nodes of all objects in memory.
        sums = jax.checkpoint(lambda block: (block.weight * block._each(relation, prior, norm)).sum())
        return jax.lax.map(sums, jax.tree.map(jnp.asarray, self)).sum()

    def values(self, relation, prior: MassPrior, norm) -> Float[Array, "point"]:
        """Evaluate the ln integrals under one relation, those of the copies at the end included.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.
        prior : MassPrior
            Prior density of the masses.
        norm : Float[Array, "..."]
            What `prior.norm_coefficients()` gives.

        Returns
        -------
        Float[Array, "point"]
            ln of each integral.
        """
        of_block = jax.checkpoint(lambda block: block._each(relation, prior, norm))
        return jax.lax.map(of_block, jax.tree.map(jnp.asarray, self)).ravel()

    @jax.jit
    def each(self, relation, prior: MassPrior) -> Float[Array, "point"]:
        """Evaluate `values`, compiled by itself."""
        return self.values(relation, prior, prior.norm_coefficients())

    def _each(self, relation, prior: MassPrior, norm) -> Float[Array, "point"]:
        """The ln integrals of one block."""
        ln_pivot = jnp.log(relation.alpha3)
        slope, scatter = (jnp.asarray(a, dtype=jnp.float32) for a in (relation.alpha2, relation.scatter))
        ends = jnp.asarray(prior.ln_mass_nodes)[np.array([0, -1])]

        def one(ln_reference, z, place):
            # Single precision from here on, three times as fast: only the sum over many objects needs more.
            at_pivot = (ln_reference - relation.mean_ln_lum(ln_pivot, z)).astype(jnp.float32)
            place = jnp.asarray(place, dtype=jnp.float32)
            if self.kind in _MEASURED:
                on = linear_noise.intervals(place, scatter)
                interval = jnp.stack([on.least, on.greatest])
            else:
                interval = jnp.stack(linear_noise.limit_interval(place, scatter))
            # The nodes need no derivatives: the integral is the same wherever they are.
            found = jax.lax.stop_gradient(jnp.sort(ln_pivot + (at_pivot - interval) / slope))
            low, high = jnp.clip(found, ends[0], ends[1])
            lighter, heavier = (ends[0], low), (high, ends[1])
            rising = jax.lax.stop_gradient(slope) > 0
            faint, bright = (
                jnp.where(rising, jnp.stack(a), jnp.stack(b)) for a, b in ((lighter, heavier), (heavier, lighter))
            )
            row = prior.ln_density_at(z, norm)

            def piece(ends, number, ln_likelihood):
                ln_mass = panels.panel_nodes(*ends, number)
                t = at_pivot - slope * (ln_mass - ln_pivot).astype(jnp.float32)
                ln_integrand = prior.interpolate(row, ln_mass).astype(jnp.float32) + ln_likelihood(t)
                return ln_integrand, panels.panel_weights(*ends, number).astype(jnp.float32)

            own = partial(linear_noise.kernel, self.kind, scatter=scatter, place=place)
            pieces = [piece((low, high), self.inner, own)]
            if self.outer:
                # On the other side of a measurement or an upper limit the likelihood is negligible.
                pieces.append(piece(bright if self.kind == "above" else faint, self.outer, own))
            if self.kind == "above":
                pieces.append(piece(faint, self.outer, partial(linear_noise.lifted, scatter=scatter, place=place)))
            ln_integrand, weights = (jnp.concatenate(of_all) for of_all in zip(*pieces, strict=True))
            peak = jax.lax.stop_gradient(ln_integrand.max())
            return peak + jnp.log((weights * jnp.exp(ln_integrand - peak)).sum())

        return jax.vmap(one)(self.ln_reference, self.z, self.place)


def number_of_panels(interval, place, scatter: float, widths: float) -> int:
    """Give the number of panels that resolve K in the interval where it changes, for all of some objects.

    Parameters
    ----------
    interval : tuple of Float[np.ndarray, "point"]
        Ends of the interval of t.
    place : Float[np.ndarray, "point"]
        asinh(q / 2), with q the signal to noise.
    scatter : float
        Least scatter S of the relations [ln L].
    widths : float
        Length of a panel in units of the narrowest feature of K.

    Returns
    -------
    int
        At least 3: one of few numbers, so that catalogues share compiled code.
    """
    longest = np.max((interval[1] - interval[0]) / (widths * linear_noise.narrowest(place, scatter, np)), initial=1.0)
    return int(np.ceil(max(2 ** (0.5 * np.ceil(2 * np.log2(longest))), 3)))


class LinearData(CatalogueData):
    """The objects of a catalogue some of which have linear noise or upper limits, for a fit of the relation.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects, with one redshift each; unusable rows are left out.
    prior : MassPrior
        Prior density of the masses.
    selection : Selection, optional
        Which objects can be in the catalogue: `FluxLimit`, `RedshiftLimit` or `SignalToNoiseLimit`.
    exact : bool, optional
        Whether redshifts that are not exact are refused.

    Raises
    ------
    MassmapError
        As `CatalogueData`; for another selection, or one of a catalogue with upper limits.
    """

    def __init__(self, catalogue: HaloCatalogue, prior: MassPrior, selection=None, *, exact: bool = True):
        rows = usable_rows(catalogue, prior)
        _check_selection(catalogue, selection, rows)
        super().__init__(catalogue, prior, selection, rows=rows, exact=exact)
        codes = catalogue.noise_codes[rows]
        self.ln_lum, self.sigma = catalogue.signed_measurements(rows)
        self.ln_error = self.ln_lum + np.log(np.abs(self.sigma))
        self.linear, self.limits = codes == _NORMAL, codes == _UPPER_LIMIT
        self.nearly = counts_as_lognormal(catalogue, rows)
        self.noisy = self.linear & ~self.nearly
        # ln of the normal densities of the measurements; their ln p_det is not in those of the lognormal objects.
        self.density_of_noise = (
            self.ln_detection[self.linear | self.limits].sum() - (self.ln_error[self.noisy] + HALF_LN_2PI).sum()
        )

    def _ln_detection(self) -> np.ndarray:
        if isinstance(self.selection, SignalToNoiseLimit):  # `_check_selection` has looked
            return np.zeros(self.rows.size)
        return super()._ln_detection()

    def halos(self) -> Points:
        """Give the usable objects.

        One that is not above zero has the luminosity that its likelihood counts from, and one with very small linear
        noise that of the nearest lognormal noise.
        """
        ln_lum, sigma = self.catalogue.signed_measurements(self.rows)
        below = self.catalogue.is_below_zero(self.rows)
        ln_lum = np.where(below, np.asarray(linear_noise.reference(ln_lum, sigma)[0]), ln_lum)
        ln_lum = np.where(self.nearly, linear_noise.nearly_lognormal(ln_lum, sigma), ln_lum)
        return Points(ln_lum, np.abs(sigma), self.catalogue.redshift[self.rows], np.ones(self.rows.size))

    def likelihood(
        self, scatter: float, slope: float | None = None, greatest: float | None = None
    ) -> "LinearLikelihood":
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].
        slope : float, optional
            Slope alpha2 of about all relations to be evaluated. With it, a lattice stands for the objects where they
            are many and it is quicker; without, each is integrated.
        greatest : float, optional
            Greatest scatter of the relations; default 4 times the least one. Integrals of single objects need none.

        Returns
        -------
        LinearLikelihood
            The likelihood.
        """
        prior = self.prior
        parts: list[Part | Lattice] = []
        made_for = None
        if slope is not None and (self.noisy | self.limits).sum() >= _FOR_LATTICE:
            made_for = MadeFor.relations(scatter, slope, greatest)
        nodes = self.kinks(float(self.catalogue.redshift[self.rows].max()))
        for kind, columns in self.integrals().items():
            lattices = [] if made_for is None else _if_quicker(kind, columns, made_for, prior, nodes)
            if lattices:
                parts += lattices
            elif kind == "above":
                parts.append(self._chance(scatter))
            else:
                parts += _of_objects(kind, columns, scatter)
        if not any(isinstance(part, Lattice) for part in parts):
            made_for = None
        lognormal = [
            RelationLikelihood.of(CatalogueData(objects, prior, selection), scatter=scatter)
            for objects, selection in self.lognormal_objects()
        ]
        return LinearLikelihood(
            tuple(parts),
            tuple(lognormal),
            np.asarray(self.density_of_noise),
            np.asarray(prior.norm_coefficients()),
            prior,
            made_for=made_for,
            extra=self.extra,
        )

    def integrals(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Give ln L_ref, redshift, asinh(q / 2) and weight of each integral, by what K is.

        They are of the measurements, of the upper limits, and of the chances to be in the catalogue.
        """
        ln_reference, place = (np.asarray(a) for a in linear_noise.reference(self.ln_lum, self.sigma))
        columns = ln_reference, self.catalogue.redshift[self.rows], place, np.ones(self.rows.size)
        kinds = {"normal": self.noisy, "upper_limit": self.limits}
        integrals = {kind: tuple(a[own] for a in columns) for kind, own in kinds.items() if own.any()}
        if self.linear.any() and not isinstance(self.selection, NoSelection):
            z, ln_error = self.catalogue.redshift[self.rows[self.linear]], self.ln_error[self.linear]
            ln_limit = np.asarray(self.selection.limit_of(z, ln_error))
            ln_reference, place = (np.asarray(a) for a in linear_noise.reference(ln_limit, np.exp(ln_error - ln_limit)))
            integrals["above"] = ln_reference, z, place, -np.ones(z.size)
        return integrals

    def lognormal_objects(self) -> list[tuple[HaloCatalogue, Any]]:
        """Give the objects whose noise is lognormal, or linear and nearly so, each with its selection.

        The selection of those with linear noise is among the integrals.
        """
        found = []
        if self.nearly.any():
            objects = self.catalogue.subset(self.rows[self.nearly])
            ln_lum = linear_noise.nearly_lognormal(objects.ln_lum_obs, objects.sigma_ln_lum)
            found.append((replace(objects, ln_lum_obs=ln_lum, noise_kind="lognormal", noise_code=None), None))
        plain = ~(self.linear | self.limits)
        if plain.any():
            objects = self.catalogue.subset(self.rows[plain])
            found.append((replace(objects, noise_kind="lognormal", noise_code=None), self.selection))
        return found

    def _chance(self, scatter: float) -> Part:
        """The integrals of A, counted with a minus sign: at the objects, or at fewer points that stand for them."""
        z, ln_error = self.catalogue.redshift[self.rows[self.linear]], self.ln_error[self.linear]
        nodes = self.kinks(float(z.max()))
        short = compress(ln_error, np.zeros(z.size), z, redshift_nodes=nodes, scatter=scatter)
        if short.weight.size < z.size:
            ln_error, _, z, weight = short
        else:
            weight = np.ones(z.size)
        ln_limit = np.asarray(self.selection.limit_of(z, ln_error))
        return Part.above(z, ln_limit, np.exp(ln_error - ln_limit), -weight, scatter)


def _if_quicker(kind: str, columns, made_for: MadeFor, prior: MassPrior, redshift_nodes) -> list[Lattice]:
    """The lattices of all objects of a kind, or none where the objects by themselves are quicker."""
    try:
        lattices = lattices_of(kind, *columns, made_for=made_for, prior=prior, redshift_nodes=redshift_nodes)
    except LatticeTooLarge:
        return []
    return lattices if sum(one.products for one in lattices) < _PRODUCTS * columns[0].size else []


def _of_objects(kind: str, columns, scatter: float) -> list[Part]:
    """The integrals of all objects of a kind; those of a high signal to noise apart, where they are many."""
    made = []
    for chosen, name, outer in groups_of(kind, columns[2]):
        ln_reference, z, place, weight = (a[chosen] for a in columns)
        made.append(Part.of(name, ln_reference, z, place, weight, scatter, outer))
    return made


def groups_of(kind: str, place, nodes: int = 1) -> list[tuple[np.ndarray, str, int]]:
    """Part integrals of one kind by what they need: where they are many, those of a high signal to noise apart.

    Parameters
    ----------
    kind : {"normal", "upper_limit", "above"}
        What K is.
    place : Float[np.ndarray, "object"]
        asinh(q / 2), with q the signal to noise.
    nodes : int, optional
        Integrals of each object.

    Returns
    -------
    list of tuple of (Bool[np.ndarray, "object"], str, int)
        Objects, at least one, what K is for `Part`, and the number of panels beside the interval where it changes.
    """
    ratio = 2 * np.sinh(place)
    groups = [(np.full(ratio.size, True), kind, _OUTER_PANELS)]
    if kind == "normal" and nodes * ratio.size > _MANY:
        near, faint = ratio >= linear_noise.ALL_NEAR, ratio < linear_noise.NO_FAINT
        groups = [(faint, kind, _OUTER_PANELS), (near, "near", 0), (~(near | faint), kind, 0)]
    return [group for group in groups if group[0].any()]


class LinearLikelihood(eqx.Module):
    """The sum over objects of ln (Z_k / A_k), prepared for many relations.

    Attributes
    ----------
    parts : tuple of Part or Lattice or OverRedshifts
        Objects with linear noise, upper limits, and the integrals of A.
    lognormal : tuple of RelationLikelihood or UncertainLikelihood
        Objects with lognormal noise, or with linear noise so small that it is the same.
    constant : Float[Array, ""]
        What does not depend on the relation.
    norm : Float[Array, "..."]
        `MassPrior.norm_coefficients` of the prior.
    prior : MassPrior
        Prior density of the masses.
    made_for : MadeFor or None
        The relations that lattices were made for; None where each object is integrated.
    extra : ExtraEvidence or None
        What mass likelihoods of single objects add.
    """

    parts: tuple[Any, ...]
    lognormal: tuple[Any, ...]
    constant: Float[Array | np.ndarray, ""]
    norm: Float[Array | np.ndarray, "..."]
    prior: MassPrior
    made_for: MadeFor | None = None
    extra: Any = None
    difference: ClassVar[float] = 0.01  # step of second derivatives by differences: to compile them takes a minute

    def __call__(self, relation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the halos of ln (Z_k / A_k).
        """
        # Not as NumPy arrays, which JAX would keep in float64 as constants: see CatalogueData.
        relation = jax.tree.map(jnp.asarray, relation)
        total = jnp.asarray(self.constant)
        for part in self.parts:
            total = total + part(relation, self.prior, jnp.asarray(self.norm))
        for likelihood in self.lognormal:
            total = total + likelihood(relation)
        if self.extra is not None:
            total = total + self.extra(relation, self.prior)
        return total

    def suits(self, relation) -> bool:
        """Tell whether the likelihood was prepared for relations such as this one.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.

        Returns
        -------
        bool
            False where lattices would have to be made anew, for another scatter or a steeper slope.
        """
        return self.made_for is None or self.made_for.suits(relation)

    def with_prior(self, prior: MassPrior) -> "LinearLikelihood":
        """Replace the mass prior.

        Parameters
        ----------
        prior : MassPrior
            Another prior with the same redshift nodes and as many mass nodes.

        Returns
        -------
        LinearLikelihood
            The same objects under that prior.
        """
        others = tuple(likelihood.with_prior(prior) for likelihood in self.lognormal)
        extra = None if self.extra is None else self.extra.with_prior(prior)
        return replace(self, lognormal=others, norm=prior.norm_coefficients(), prior=prior, extra=extra)


def is_linear(catalogue: HaloCatalogue, prior: MassPrior) -> bool:
    """Tell whether any usable object has linear noise or an upper limit.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    bool
        Whether `LinearData` is what a fit needs.
    """
    return bool((catalogue.noise_codes[usable_rows(catalogue, prior)] != _LOGNORMAL).any())


def _check_selection(catalogue: HaloCatalogue, selection, rows) -> None:
    """Refuse a selection that the noise of the objects cannot take, or that excludes one of them."""
    if selection is None or isinstance(selection, NoSelection):
        return
    codes = catalogue.noise_codes[rows]
    limits = codes == _UPPER_LIMIT
    if limits.any():
        raise MassmapError(
            f"{limits.sum()} objects have upper limits, first row {rows[np.argmax(limits)]}, and the selection asks for"
            " a measured luminosity: such objects are in the catalogue for another reason; leave them out, or leave the"
            " selection out"
        )
    below = catalogue.is_below_zero(rows)
    if below.any():
        raise MassmapError(
            f"{below.sum()} objects have a luminosity of zero or less, first row {rows[np.argmax(below)]}, and the"
            " selection is a limit above it: such objects are in the catalogue for another reason; leave them out, or"
            " leave the selection out"
        )
    if not is_sharp(selection):
        raise MassmapError(
            f"with linear noise a selection has to be a sharp limit, and it is a {type(selection).__name__}: give a"
            " limit in luminosity, in flux or in signal to noise"
        )
    if isinstance(selection, SignalToNoiseLimit):
        plain = codes == _LOGNORMAL
        if plain.any():
            raise MassmapError(
                f"a limit in signal to noise is for linear noise, and {plain.sum()} objects have lognormal noise, first"
                f" row {rows[np.argmax(plain)]}: give one kind of noise, or a limit in luminosity"
            )
        with np.errstate(divide="ignore"):
            ratio = 1 / catalogue.sigma_ln_lum[rows]
        lost = ratio < float(selection.snr_min) * (1 - 1e-6)
        if lost.any():
            first = int(np.argmax(lost))
            raise MassmapError(
                f"{lost.sum()} objects have a signal to noise below the limit {float(selection.snr_min):g}, first row"
                f" {rows[first]} ({ratio[first]:.4g}): leave them out, or give the limit of this catalogue"
            )
