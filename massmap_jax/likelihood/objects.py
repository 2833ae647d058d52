"""The usable rows of a catalogue as arrays for the device, and the rules for which rows are usable."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from massmap_jax.catalogue.flags import UNUSABLE, Flag, summary_lines
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.catalogue.observables import MEASURED, MISSING, UPPER_LIMIT
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.redshifts import ln_detected, nodes_needed, place
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.mass_prior import MassPrior


class Observed(eqx.Module):
    """Observables of some objects beside the luminosity, with numbers in place of what is missing.

    Attributes
    ----------
    ln_value, sigma : Float[Array, "halo observable"]
        ln of each value or limit, and its error in ln.
    kind : Int[Array, "halo observable"]
        What an entry is, see `catalogue.observables`.
    has_lum : Bool[Array, "halo"]
        Whether the luminosity was measured.
    error_correlation : Float[Array, "halo all all"]
        Correlation of the errors, the luminosity first.
    limits : tuple of bool
        For each observable, whether any object has a limit of it.
    """

    ln_value: Float[Array, "*halo observable"]
    sigma: Float[Array, "*halo observable"]
    kind: Int[Array, "*halo observable"]
    has_lum: Bool[Array, "*halo"]
    error_correlation: Float[Array, "*halo all all"]
    limits: tuple[bool, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, catalogue: HaloCatalogue, rows) -> "Observed":
        """Collect those of some rows of a catalogue, as host arrays.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The catalogue, which has observables.
        rows : Int[np.ndarray, "m"]
            Row numbers.

        Returns
        -------
        Observed
            The rows, in the order given.
        """
        assert catalogue.observables is not None
        given = catalogue.observables.take(rows)
        kind, correlation = given.kind, given.error_correlation
        there = kind != MISSING
        has_lum = np.isfinite(catalogue.signed_measurements(rows)).all(axis=0)
        return cls(
            np.where(there, given.ln_value, 0.0),
            np.where(there, given.sigma, 1.0),
            kind.astype(np.int32),
            has_lum,
            np.broadcast_to(correlation, (kind.shape[0], *correlation.shape[-2:])),
            # Of the whole catalogue: parts of it share compiled code.
            tuple((catalogue.observables.kind >= UPPER_LIMIT).any(axis=0).tolist()),
        )

    def with_numbers(self, ln_lum_obs, sigma) -> tuple[np.ndarray, np.ndarray]:
        """Put numbers in place of luminosities that are missing, as in the fields of this class.

        Parameters
        ----------
        ln_lum_obs : Float[np.ndarray, "halo"]
            ln of the observed luminosities [ln of the catalogue's unit].
        sigma : Float[np.ndarray, "halo"]
            Their errors [ln L].

        Returns
        -------
        tuple of Float[np.ndarray, "halo"]
            Both, with 0 and 1 where there is no luminosity.
        """
        return np.where(self.has_lum, ln_lum_obs, 0.0), np.where(self.has_lum, sigma, 1.0)

    def take(self, rows) -> "Observed":
        """Select some of these objects.

        Parameters
        ----------
        rows : Int[np.ndarray, "m"]
            Numbers of the objects, or a slice of them.

        Returns
        -------
        Observed
            The selected objects.
        """
        return Observed(
            self.ln_value[rows],
            self.sigma[rows],
            self.kind[rows],
            self.has_lum[rows],
            self.error_correlation[rows],
            self.limits,
        )

    def axes(self) -> "Observed":
        """Return the `jax.vmap` axes that map over objects.

        Returns
        -------
        Observed
            The same structure with 0 for every array.
        """
        return Observed(0, 0, 0, 0, 0, self.limits)


class Objects(eqx.Module):
    """Usable rows of a catalogue as arrays for the device, with q redshift nodes per object.

    Objects whose redshift is known have q = 1. All fields are host arrays until a kernel takes them.

    Attributes
    ----------
    ln_lum_obs : Float[Array, "halo q"]
        ln of the observed luminosity [ln of the catalogue's unit], at each redshift node.
    sigma : Float[Array, "halo"]
        Error of the luminosity [ln L].
    z : Float[Array, "halo q"]
        Redshift nodes.
    ln_z_weight : Float[Array, "halo q"]
        ln of the weight of each redshift node.
    kind : Int[Array, "halo"]
        Noise kind, an index into `catalogue.halo_catalogue.NOISE_KINDS`.
    id_hash : UInt[Array, "halo 2"]
        Hash of each object's id, which keys its random numbers.
    extra : TabulatedTerm or None
        A further, independent likelihood of ln M for each object.
    ln_factor : Float[Array, "halo q"] or None
        ln of what the likelihood has at each redshift node beside the density of the luminosity: the luminosity there
        over that of the catalogue, which makes it a density per ln flux, and the probability that the object is in the
        catalogue if that is its redshift, where this differs. None where all redshifts are exact.
    observed : Observed or None
        Further observables beside the luminosity, where the catalogue was told which of them count.
    conditional : bool
        Whether the weights of the nodes are what is known of z, with the flux, so that this object's luminosity does
        not change them.
    """

    ln_lum_obs: Float[Array, "*halo q"]
    sigma: Float[Array, "*halo"]
    z: Float[Array, "*halo q"]
    ln_z_weight: Float[Array, "*halo q"]
    kind: Int[Array, "*halo"]
    id_hash: UInt[Array, "*halo 2"]
    extra: TabulatedTerm | None = None
    ln_factor: Float[Array, "*halo q"] | None = None
    observed: Observed | None = None
    conditional: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(
        cls,
        catalogue: HaloCatalogue,
        rows,
        prior: MassPrior,
        extra: TabulatedTerm | None = None,
        *,
        need_keys: bool = True,
        num_nodes: int | None = None,
        selection=None,
    ) -> "Objects":
        """Collect some usable rows of a catalogue as host arrays, in the layout that the kernels expect.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The catalogue.
        rows : Int[np.ndarray, "m"]
            Row numbers.
        prior : MassPrior
            The mass prior, which redshifts that are not exact need.
        extra : TabulatedTerm, optional
            A further likelihood of ln M, for every row of the catalogue.
        need_keys : bool, optional
            Whether random numbers will be drawn. If False, the ids are not hashed and the hashes are 0.
        num_nodes : int, optional
            Redshift nodes of each object whose redshift is a distribution; see `likelihood.redshifts.place`.
        selection : Selection, optional
            Which objects can be in the catalogue.

        Returns
        -------
        Objects
            The rows, in the order given.
        """
        nodes = place(catalogue, rows, prior, num_nodes, selection)
        kind = catalogue.noise_codes[rows]
        table = None if extra is None else extra.take(rows)
        ln_lum, sigma = catalogue.signed_measurements(rows)
        small = counts_as_lognormal(catalogue, rows)
        if small.any():
            ln_lum = np.where(small, linear_noise.nearly_lognormal(ln_lum, sigma), ln_lum)
            kind = np.where(small, NOISE_KINDS.index("lognormal"), kind)
        known = catalogue.redshift_distributions
        hashes = catalogue.hashes[rows] if need_keys else np.zeros((rows.size, 2), dtype=np.uint32)
        factor = None if known is None else nodes.ln_moved + ln_detected(catalogue, rows, nodes, selection)
        observed = None if catalogue.observables is None else Observed.of(catalogue, rows)
        if observed is not None:
            ln_lum, sigma = observed.with_numbers(ln_lum, sigma)
        return cls(
            ln_lum[:, None] + nodes.ln_moved,
            sigma,
            nodes.z,
            nodes.ln_weight,
            kind,
            hashes,
            extra=table,
            ln_factor=factor,
            observed=observed,
            conditional=known is not None and known.contains == "posterior_with_flux",
        )

    @classmethod
    def in_parts(
        cls, catalogue: HaloCatalogue, rows, prior: MassPrior, relation, extra: TabulatedTerm | None = None, **options
    ) -> "list[tuple[Int[np.ndarray, ' part'], Objects]]":
        """Collect some usable rows in parts that have as many redshift nodes as their objects need.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The catalogue.
        rows : Int[np.ndarray, "m"]
            Row numbers.
        prior : MassPrior
            The mass prior.
        relation : Relation
            A batch of draws.
        extra : TabulatedTerm, optional
            A further likelihood of ln M, for every row of the catalogue.
        **options : object
            As in `of`.

        Returns
        -------
        list of tuple of (Int[np.ndarray, "part"], Objects)
            Places in `rows`, and these objects; one part with all where redshifts are exact.
        """
        if catalogue.redshift_distributions is None or rows.size == 0:
            return [(np.arange(rows.size), cls.of(catalogue, rows, prior, extra, **options))]
        needed = nodes_needed(catalogue, rows, prior, relation, options.get("selection"))
        places = [(np.flatnonzero(needed == number), int(number)) for number in np.unique(needed)]
        return [
            (own, cls.of(catalogue, rows[own], prior, extra, num_nodes=number, **options)) for own, number in places
        ]

    def take(self, rows) -> "Objects":
        """Select some of these objects, as host arrays.

        Parameters
        ----------
        rows : Int[np.ndarray, "m"]
            Numbers of the objects, or a slice of them.

        Returns
        -------
        Objects
            The selected objects.
        """
        extra = None if self.extra is None else self.extra.take(rows)
        fields = (self.ln_lum_obs, self.sigma, self.z, self.ln_z_weight, self.kind, self.id_hash)
        factor = None if self.ln_factor is None else self.ln_factor[rows]
        observed = None if self.observed is None else self.observed.take(rows)
        return Objects(
            *(a[rows] for a in fields), extra=extra, ln_factor=factor, observed=observed, conditional=self.conditional
        )

    def axes(self) -> "Objects":
        """Return the `jax.vmap` axes that map over objects.

        Returns
        -------
        Objects
            The same structure with 0 where an array has a halo axis and None where it has not.
        """
        extra = None if self.extra is None else self.extra.axes()
        factor = None if self.ln_factor is None else 0
        observed = None if self.observed is None else self.observed.axes()
        return Objects(0, 0, 0, 0, 0, 0, extra=extra, ln_factor=factor, observed=observed, conditional=self.conditional)


def counts_as_lognormal(catalogue: HaloCatalogue, rows) -> Bool[np.ndarray, " row"]:
    """Tell which rows have linear noise that is taken as the lognormal noise nearest to it.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    rows : Int[np.ndarray, "row"]
        Row numbers.

    Returns
    -------
    Bool[np.ndarray, "row"]
        True where the noise is so small that it makes no difference. Beside a limit of another observable, or errors of
        others that are correlated with that of the luminosity, there is no integral over linear noise: there True, if
        the signal to noise allows it.

    Raises
    ------
    MassmapError
        Where it does not.
    """
    kind, (_, sigma) = catalogue.noise_codes[rows], catalogue.signed_measurements(rows)
    linear = kind == NOISE_KINDS.index("normal")
    small = linear & linear_noise.is_nearly_lognormal(sigma)
    if catalogue.observables is None or (kind == NOISE_KINDS.index("lognormal")).all():
        return small
    others = catalogue.observables.take(rows)
    of_errors = (others.error_correlation[..., 0, 1:] != 0) & (others.kind == MEASURED)
    joint = ((others.kind >= UPPER_LIMIT) | of_errors).any(axis=1) & (kind != NOISE_KINDS.index("lognormal"))
    good = linear & (sigma > 0) & (sigma <= 1 / linear_noise.NO_FAINT)
    poor = joint & ~good
    if poor.any():
        first = int(np.argmax(poor))
        raise MassmapError(
            f"{poor.sum()} objects have linear noise of the luminosity, or an upper limit of it, beside a limit of"
            " another observable or an error that is correlated with that of the luminosity, first row"
            f" {rows[first]}: both together need a signal to noise of {linear_noise.NO_FAINT:g}; leave that limit or"
            " correlation of the errors out, or take the errors of the luminosity as those of ln L, noise='lognormal'"
        )
    return small | (joint & good)


class Range(NamedTuple):
    """The ranges that some objects cover.

    Attributes
    ----------
    ln_lum : tuple of (float, float)
        Lowest and highest ln L_obs [ln of the catalogue's unit].
    redshift : tuple of (float, float)
        Lowest and highest redshift.
    sigma : tuple of (float, float)
        Smallest and largest error [ln L].
    redshift_error : tuple of (float, float) or None
        Smallest and largest error of ln(1 + z); None where redshifts are exact.
    """

    ln_lum: tuple[float, float]
    redshift: tuple[float, float]
    sigma: tuple[float, float]
    redshift_error: tuple[float, float] | None = None

    @classmethod
    def of(cls, ln_lum, redshift, sigma) -> "Range":
        """Measure the ranges of some objects.

        Parameters
        ----------
        ln_lum : array_like, (...)
            ln of the observed luminosities [ln of the catalogue's unit].
        redshift : array_like, (...)
            Redshifts.
        sigma : array_like, (...)
            Errors [ln L].

        Returns
        -------
        Range
            The lowest and highest value of each.
        """
        return cls(*((float(np.min(a)), float(np.max(a))) for a in (ln_lum, redshift, sigma)))


def flag_outside_prior(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """Return the catalogue's flags, with rows outside the prior's redshifts flagged.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    Int[np.ndarray, "halo"]
        Bits of `catalogue.flags.Flag` for each row.

    Raises
    ------
    MassmapError
        If no usable row is left.
    """
    flag = flag_of_part(catalogue, prior)
    if not ((flag & UNUSABLE) == 0).any():
        outside = (flag & Flag.Z_OUTSIDE_PRIOR) != 0
        if outside.any():
            first = int(np.argmax(outside))
            raise MassmapError(
                f"redshift of all {outside.sum()} usable rows lies outside the prior's range {prior.z_min:g} to "
                f"{prior.z_max:g}, first row {first}: z = {catalogue.redshift[first]:g}; give a prior that covers the "
                "catalogue"
            )
        raise MassmapError("no usable row: " + "; ".join(summary_lines(flag)))
    return flag


def flag_of_part(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """Return the flags as `flag_outside_prior` does, for a part of a catalogue that may have no usable row.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    Int[np.ndarray, "halo"]
        Bits of `catalogue.flags.Flag` for each row.
    """
    flag = np.array(catalogue.flag, dtype=np.int32)
    with np.errstate(invalid="ignore"):
        outside = (catalogue.redshift < prior.z_min) | (catalogue.redshift > prior.z_max)
        if catalogue.redshift_distributions is not None:
            low, high = catalogue.redshift_distributions.bounds()
            outside |= (high <= prior.z_min) | (low >= prior.z_max)
    flag[outside & ((flag & UNUSABLE) == 0)] |= Flag.Z_OUTSIDE_PRIOR
    return flag


def usable_rows(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """Return the numbers of the rows that can have a mass under this prior.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    Int[np.ndarray, "m"]
        Row numbers, increasing.

    Raises
    ------
    MassmapError
        If there is no such row.
    """
    return np.flatnonzero((flag_outside_prior(catalogue, prior) & UNUSABLE) == 0)


def lognormal_rows(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """Return the numbers of the usable rows, all of which must have lognormal noise.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    Int[np.ndarray, "m"]
        Row numbers, increasing.

    Raises
    ------
    MassmapError
        If there is no usable row, or one with another kind of noise.
    """
    rows = usable_rows(catalogue, prior)
    kinds = catalogue.noise_codes[rows]
    other = kinds != NOISE_KINDS.index("lognormal")
    if other.any():
        first = int(np.argmax(other))
        raise MassmapError(
            f"the noise has to be lognormal here, and {other.sum()} objects have another kind, first row {rows[first]} "
            f"({NOISE_KINDS[kinds[first]]}): leave them out, or take their errors as those of"
            " ln L, noise='lognormal'; masses, maps and the fit of a relation to luminosities alone take any noise"
        )
    return rows
