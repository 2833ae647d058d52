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
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.objects import usable_rows
from massmap_jax.likelihood.selection import NoSelection, SignalToNoiseLimit
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points, compress
from massmap_jax.relation.data import HALF_LN_2PI, CatalogueData, filled
from massmap_jax.relation.lattice import SCATTER_RANGE, SLOPE_RANGE, Lattice, lattices_of
from massmap_jax.relation.marginal import RelationLikelihood

_LOGNORMAL, _NORMAL, _UPPER_LIMIT = (NOISE_KINDS.index(kind) for kind in ("lognormal", "normal", "upper_limit"))
_MEASURED = ("normal", "near")
# Panels over what is lighter or heavier than the interval where K changes: there the integrand is smooth.
_OUTER_PANELS = 3
# Length of a panel in units of the narrowest feature of K, which is that of the scatter and of half the relative error
# (towards bright luminosities linear noise falls faster in ln L). ln Z is right to 1e-4 then.
_PANEL_WIDTHS, _SHARE = 3.5, 0.5
# From this number of objects on, those of a high signal to noise are integrated apart, with fewer nodes: to compile
# that takes as long as it saves.
_MANY = 20_000
# From this number of objects on, a lattice stands for them.
_FOR_LATTICE = 1_000
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
        ends = (on.near_low, on.near_high) if kind in _MEASURED else linear_noise.limit_interval(place, scatter, np)
        narrow = np.hypot(scatter, _SHARE * np.minimum(np.exp(-place), 1.0))
        # Powers of two of the square root: few sizes, so that catalogues share compiled code.
        inner = 2 ** (0.5 * np.ceil(2 * np.log2(np.max((ends[1] - ends[0]) / (_PANEL_WIDTHS * narrow)))))
        number = filled(np.zeros(-(-z.size // _BLOCK)), least=2).size
        missing = number * _BLOCK - z.size
        columns = [np.pad(a, (0, missing), mode="edge") for a in (ln_reference, z, place)]
        weights = np.pad(weight, (0, missing))
        ln_reference, z, place, weight = (a.reshape(-1, _BLOCK) for a in (*columns, weights))
        return cls(ln_reference, z, place, weight, kind=kind, inner=int(np.ceil(max(inner, 3))), outer=outer)

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

    @jax.jit
    def each(self, relation, prior: MassPrior) -> Float[Array, "point"]:
        """Evaluate the ln integrals under one relation, those of the copies at the end included."""
        norm = prior.norm_coefficients()
        return jax.lax.map(lambda block: block._each(relation, prior, norm), jax.tree.map(jnp.asarray, self)).ravel()

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
                interval = jnp.stack([on.near_low, on.near_high])
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

    Raises
    ------
    MassmapError
        As `CatalogueData`; for another selection, or one of a catalogue with upper limits.
    """

    def __init__(self, catalogue: HaloCatalogue, prior: MassPrior, selection=None):
        rows = usable_rows(catalogue, prior)
        _check_selection(catalogue, selection, rows)
        super().__init__(catalogue, prior, selection, rows=rows)

    def _ln_detection(self) -> np.ndarray:
        if isinstance(self.selection, SignalToNoiseLimit):  # `_check_selection` has looked
            return np.zeros(self.rows.size)
        return super()._ln_detection()

    def halos(self) -> Points:
        """Give the usable objects; one that is not above zero has the luminosity that its likelihood counts from."""
        ln_lum, sigma = self.catalogue.signed_measurements(self.rows)
        below = self.catalogue.is_below_zero(self.rows)
        ln_lum = np.where(below, np.asarray(linear_noise.reference(ln_lum, sigma)[0]), ln_lum)
        return Points(ln_lum, np.abs(sigma), self.catalogue.redshift[self.rows], np.ones(self.rows.size))

    def likelihood(self, scatter: float, slope: float | None = None) -> "LinearLikelihood":
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].
        slope : float, optional
            Slope alpha2 of about all relations to be evaluated. With it, a lattice stands for the objects where they
            are many; without, each is integrated.

        Returns
        -------
        LinearLikelihood
            The likelihood.
        """
        catalogue, prior, selection = self.catalogue, self.prior, self.selection
        codes, z = catalogue.noise_codes[self.rows], catalogue.redshift[self.rows]
        ln_lum, sigma = catalogue.signed_measurements(self.rows)
        linear = codes == _NORMAL
        nearly = linear & (sigma > 0) & (sigma < 1 / linear_noise.HIGHEST_RATIO)
        ln_reference, place = (np.asarray(a) for a in linear_noise.reference(ln_lum, sigma))
        noisy = linear & ~nearly
        limit = codes == _UPPER_LIMIT
        if slope is not None and (noisy | limit).sum() < _FOR_LATTICE:
            slope = None
        ratio = 2 * np.sinh(place)
        groups = [(noisy, "normal", _OUTER_PANELS), (limit, "upper_limit", _OUTER_PANELS)]
        if noisy.sum() > _MANY and slope is None:
            near = ratio >= linear_noise.ALL_NEAR
            groups += [(noisy & near, "near", 0), (noisy & (ratio >= linear_noise.NO_FAINT) & ~near, "normal", 0)]
            groups[0] = (noisy & (ratio < linear_noise.NO_FAINT), "normal", _OUTER_PANELS)
        about = None if slope is None else {"scatter": scatter, "slope": slope, "prior": prior}
        parts: list[Part | Lattice] = []
        for chosen, kind, outer in groups:
            if chosen.any():
                own = ln_reference[chosen], z[chosen], place[chosen], np.ones(chosen.sum())
                if about is None:
                    parts.append(Part.of(kind, *own, scatter, outer))
                else:
                    parts += lattices_of(kind, *own, redshift_nodes=self.kinks(float(z.max())), **about)
        # The density per luminosity of a measurement; ln e.
        ln_error = ln_lum + np.log(np.abs(sigma))
        constant = self.constant - (ln_error[noisy] + HALF_LN_2PI).sum()
        if linear.any() and not isinstance(selection, NoSelection):
            parts += self._chance(z[linear], ln_error[linear], scatter, about)
        lognormal = []
        if nearly.any():
            lognormal.append(_of_lognormal(catalogue.subset(self.rows[nearly]), prior, None, scatter, nearly=True))
        if (codes == _LOGNORMAL).any():
            others = catalogue.subset(self.rows[codes == _LOGNORMAL])
            lognormal.append(_of_lognormal(others, prior, selection, scatter, nearly=False))
            constant = constant - float(lognormal[-1].constant)
        return LinearLikelihood(
            tuple(parts),
            tuple(lognormal),
            np.asarray(constant),
            np.asarray(prior.norm_coefficients()),
            prior,
            made_for=None if about is None else np.array([scatter, slope]),
        )

    def _chance(self, z, ln_error, scatter: float, about: dict | None) -> list[Part] | list[Lattice]:
        """The integrals of A, counted with a minus sign: at the objects, or at fewer points that stand for them."""
        nodes = self.kinks(float(z.max()))
        if about is not None:
            ln_limit = np.asarray(self.selection.limit_of(z, ln_error))
            places = (np.asarray(a) for a in linear_noise.reference(ln_limit, np.exp(ln_error - ln_limit)))
            return lattices_of("above", next(places), z, next(places), -np.ones(z.size), redshift_nodes=nodes, **about)
        short = compress(ln_error, np.zeros(z.size), z, redshift_nodes=nodes, scatter=scatter)
        if short.weight.size < z.size:
            ln_error, _, z, weight = short
        else:
            weight = np.ones(z.size)
        ln_limit = np.asarray(self.selection.limit_of(z, ln_error))
        return [Part.above(z, ln_limit, np.exp(ln_error - ln_limit), -weight, scatter)]


class LinearLikelihood(eqx.Module):
    """The sum over objects of ln (Z_k / A_k), prepared for many relations.

    Attributes
    ----------
    parts : tuple of Part or Lattice
        Objects with linear noise, upper limits, and the integrals of A.
    lognormal : tuple of RelationLikelihood
        Objects with lognormal noise, or with linear noise so small that it is the same.
    constant : Float[Array, ""]
        What does not depend on the relation.
    norm : Float[Array, "..."]
        `MassPrior.norm_coefficients` of the prior.
    prior : MassPrior
        Prior density of the masses.
    made_for : Float[np.ndarray, "2"] or None
        The least scatter and the typical slope that lattices were made for; None where each object is integrated.
    """

    parts: tuple[Part | Lattice, ...]
    lognormal: tuple[RelationLikelihood, ...]
    constant: Float[Array | np.ndarray, ""]
    norm: Float[Array | np.ndarray, "..."]
    prior: MassPrior
    made_for: Float[Array | np.ndarray, "2"] | None = None
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
        if self.made_for is None:
            return True
        scatter, slope = float(relation.scatter) / self.made_for[0], abs(float(relation.alpha2) / self.made_for[1])
        return 1.0 <= scatter <= SCATTER_RANGE and slope <= SLOPE_RANGE

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
        return replace(self, lognormal=others, norm=prior.norm_coefficients(), prior=prior)


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


def _of_lognormal(catalogue: HaloCatalogue, prior, selection, scatter: float, *, nearly: bool) -> RelationLikelihood:
    """The likelihood of objects with lognormal noise, or with linear noise that is nearly so."""
    ln_lum = catalogue.ln_lum_obs
    if nearly:
        ln_lum = linear_noise.nearly_lognormal(ln_lum, catalogue.sigma_ln_lum)
    plain = replace(catalogue, ln_lum_obs=ln_lum, noise_kind="lognormal", noise_code=None)
    return RelationLikelihood.of(CatalogueData(plain, prior, selection), scatter=scatter)


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
    if not hasattr(selection, "limit_of"):
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
