"""`HaloCatalogue`: ids, luminosities with their errors, redshifts and sky positions, checked on entry."""

import hashlib
import warnings
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from massmap_jax.catalogue.columns import as_float64, as_ids, is_negative_sentinel, is_positive_sentinel, rows_text
from massmap_jax.catalogue.flags import LUM_BAD, SIGMA_BAD, UNUSABLE, Z_BAD, Flag
from massmap_jax.catalogue.observables import MEASURED, Observables
from massmap_jax.catalogue.photo_z import RedshiftDistributions
from massmap_jax.catalogue.positions import check_positions
from massmap_jax.catalogue.quantities import in_unit, luminosity_in
from massmap_jax.errors import MassmapError

NOISE_KINDS = ("lognormal", "normal", "upper_limit")
"""Noise of the luminosity; the index is the code in `HaloCatalogue.noise_code`."""
LEAST_SNR = -4.0
"""A measurement with linear noise that is further below zero, in its errors, is no noise: it is flagged."""
# No luminosity is e^230 of anything, no error a factor of e^7, and no halo has less than 100 Msun.
_LARGEST_LN, _WIDEST_LN, _LIGHTEST = 230.0, 7.0, 100.0
_ERROR_IF_NOT_GIVEN = 0.05
_NO_ERROR_GIVEN = (
    f"no error of the luminosity is given: {_ERROR_IF_NOT_GIVEN:g} in ln L is taken for every object, and the error"
    " bars of the masses are as good as that; give sigma_ln_luminosity= (0.1 is 10 %, 0 is none), or sigma_luminosity="
    " for linear noise"
)
HIGHEST_REDSHIFT = 20.0
"""No halo has been seen beyond, and none is expected: percentages and distances are."""
# One value for the whole catalogue.
_OF_ALL = (
    "noise_kind",
    "frame",
    "lum_unit",
    "mass_definition",
    "notes",
    "columns_read",
    "redshift_distributions",
    "observables",
)


@dataclass(frozen=True, eq=False)
class HaloCatalogue:
    """A catalogue of halos in host memory: immutable NumPy arrays, one row per object.

    Make one with `from_arrays` or `massmap_jax.read_catalogue`. Rows that cannot be used stay in it, with NaN in the
    column at fault and a `Flag` that says why. A catalogue is never passed through `jax.jit`.

    Attributes
    ----------
    ln_lum_obs : Float[np.ndarray, "halo"]
        ln of the observed luminosity, in the unit `lum_unit`; NaN where the luminosity is unusable.
    sigma_ln_lum : Float[np.ndarray, "halo"]
        Standard deviation of the error in ln L; NaN where unusable.
    redshift : Float[np.ndarray, "halo"]
        Redshift; NaN where unusable.
    ids : np.ndarray, (halo,)
        The ids as they were given, of any type; row numbers where none were given.
    flag : Int[np.ndarray, "halo"]
        `Flag` bits, 0 for a good row.
    ra, dec : Float[np.ndarray, "halo"] or None
        Position in degrees (deg) where `frame` is "sky", x and y offsets in arcmin where it is "flat"; NaN where
        unusable.
    truth_ln_mass : Float[np.ndarray, "halo"] or None
        ln of the true mass [ln Msun], for simulations.
    key_number : Int[np.ndarray, "halo"] or None
        The row number that replaces the id in `hashes`, where ids were not unique.
    noise_code : Int[np.ndarray, "halo"] or None
        Kind of noise of each object, an index into `NOISE_KINDS`; None means `noise_kind` for all.
    snr_below_zero, ln_error_below_zero : Float[np.ndarray, "halo"] or None
        Signal to noise L_obs / e, and ln e, of measurements of zero or less with linear noise, and NaN for all others.
        These have no logarithm: `ln_lum_obs` and `sigma_ln_lum` are NaN for them.
    noise_kind : {"lognormal", "normal", "upper_limit"}
        Kind of noise of the luminosity, for all objects.
    frame : {"sky", "flat"}
        Whether positions are on the sky or offsets in a flat field.
    lum_unit : str
        Unit of the luminosity, as text.
    mass_definition : str
        Where the observable is itself a mass, its definition, such as "500c"; empty where it is none or not stated.
    notes : tuple of str
        Guesses and conversions that were made when the catalogue was read, to be shown to the user.
    columns_read : dict of str to str
        Where it was read from a table: the column of each of lum, z, sigma (or sigma_plus, sigma_minus), ra, dec, id
        and truth.
    redshift_distributions : RedshiftDistributions or None
        What is known of redshifts that are not exact; `redshift` is then that of the catalogue, z_phot.
    observables : Observables or None
        Further observables beside the luminosity.

    See Also
    --------
    massmap_jax.read_catalogue : Read a catalogue from a file or a table.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, 6e4, -99.0],
    ...     redshift=[0.2, 0.4, 0.3],
    ...     sigma_ln_luminosity=0.1,
    ...     ids=["A", "B", "C"],
    ... )
    >>> len(catalogue)
    3
    >>> catalogue.usable.tolist()
    [True, True, False]
    >>> catalogue.subset(catalogue.usable).ids.tolist()
    ['A', 'B']
    """

    ln_lum_obs: Float[np.ndarray, " halo"]
    sigma_ln_lum: Float[np.ndarray, " halo"]
    redshift: Float[np.ndarray, " halo"]
    ids: np.ndarray
    flag: Int[np.ndarray, " halo"]
    ra: Float[np.ndarray, " halo"] | None = None
    dec: Float[np.ndarray, " halo"] | None = None
    truth_ln_mass: Float[np.ndarray, " halo"] | None = None
    key_number: Int[np.ndarray, " halo"] | None = None
    noise_code: Int[np.ndarray, " halo"] | None = None
    snr_below_zero: Float[np.ndarray, " halo"] | None = None
    ln_error_below_zero: Float[np.ndarray, " halo"] | None = None
    noise_kind: str = "lognormal"
    frame: str = "sky"
    lum_unit: str = ""
    mass_definition: str = ""
    notes: tuple[str, ...] = ()
    columns_read: dict[str, str] = field(default_factory=dict)
    redshift_distributions: RedshiftDistributions | None = None
    observables: Observables | None = None

    def __post_init__(self):
        shapes = {np.shape(column) for column in self._columns().values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise MassmapError(
                f"every column of a HaloCatalogue must be one array of n rows, but the shapes are {shapes}"
            )
        if self.noise_kind not in NOISE_KINDS or self.frame not in ("sky", "flat"):
            raise MassmapError(
                f"noise_kind is {self.noise_kind!r} (one of {', '.join(NOISE_KINDS)}) and frame is"
                f" {self.frame!r} (sky or flat); one of them is not known"
            )

    @classmethod
    def from_arrays(
        cls,
        *,
        redshift,
        luminosity=None,
        ln_luminosity=None,
        sigma_ln_luminosity=None,
        sigma_luminosity=None,
        ra=None,
        dec=None,
        ids=None,
        truth_mass=None,
        lum_unit: str = "",
        mass_definition: str = "",
        position_unit: Literal["deg", "hourangle", "arcmin", "rad"] = "deg",
        field_centre: tuple[float, float] | None = None,
        duplicate_ids: Literal["error", "row_number"] = "error",
        noise_kind: str = "lognormal",
        flag=None,
        notes: tuple[str, ...] = (),
    ) -> "HaloCatalogue":
        """Make a catalogue from arrays, and check them.

        Quantities of astropy are converted: angles to `position_unit`, luminosities to `lum_unit` (or, where that is
        not given, they keep their own), true masses to Msun.

        Parameters
        ----------
        redshift : array_like, (halo,)
            Redshift.
        luminosity : array_like, (halo,), optional
            Observed luminosity, linear, in the unit `lum_unit`. Another observable of the mass, such as the richness,
            can take its place.
        ln_luminosity : array_like, (halo,), optional
            ln of the observed luminosity, instead of it: exactly one of the two is given.
        sigma_ln_luminosity : float or array_like, (halo,)
            Standard deviation of the error in ln L, one for all or one per object; 0 is allowed. For another
            `noise_kind` than lognormal the error as a fraction of L. Where neither this nor `sigma_luminosity` is
            given, 0.05 is taken for every object, and a warning and a note say so.
        sigma_luminosity : float or array_like, (halo,), optional
            The error in the unit of `luminosity` instead, where the noise is not lognormal. With it, measurements of
            zero and less are kept, down to `LEAST_SNR` errors.
        ra, dec : array_like, (halo,), optional
            Position, both or neither, in the unit that `position_unit` says: degrees; hours and degrees for
            "hourangle"; offsets from the field centre for "arcmin", x to the east and y to the north.
        ids : array_like, (halo,), optional
            Ids of any type, the row number by default. They key each object's random numbers, so that a result belongs
            to the id. Without ids it belongs to the row, and the order of rows matters.
        truth_mass : array_like, (halo,), optional
            True mass [Msun], for simulations.
        lum_unit : str
            Unit of the luminosity, as text; it is written to every output.
        mass_definition : str
            Definition of the mass, such as "500c", where the observable is itself a mass.
        position_unit : {"deg", "hourangle", "arcmin", "rad"}
            Unit of the positions.
        field_centre : tuple of (float, float), optional
            RA and Dec [deg] of the origin of offsets in arcmin, which then become sky positions. Without it they stay
            offsets in a flat frame.
        duplicate_ids : {"error", "row_number"}
            What to do with repeated or missing ids: refuse them, or keep them and use the row number for random
            numbers.
        noise_kind : {"lognormal", "normal", "upper_limit"}
            Kind of noise of the luminosity, for all objects.
        flag : array_like, (halo,), optional
            `Flag` bits that the caller already knows; they are added to those found here.
        notes : tuple of str
            Guesses and conversions already made, to be shown to the user.

        Returns
        -------
        HaloCatalogue
            The catalogue, in the order given. Single bad values are flagged and do not raise an error.

        Raises
        ------
        MassmapError
            For no rows, arrays that differ in length, text where numbers are needed, repeated ids, or positions that
            cannot be in `position_unit`.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> catalogue = mm.HaloCatalogue.from_arrays(
        ...     luminosity=[4e4, 6e4], redshift=[0.2, 0.4], sigma_ln_luminosity=0.05, ra=[10.0, 10.2], dec=[-5.0, 95.0]
        ... )
        >>> catalogue.flag.tolist()
        [0, 1024]
        >>> mm.Flag(1024).name
        'POSITION_BAD'
        """
        if (luminosity is None) == (ln_luminosity is None):
            raise MassmapError("give exactly one of luminosity= (linear) and ln_luminosity=")
        if sigma_luminosity is not None and (luminosity is None or noise_kind == "lognormal"):
            raise MassmapError(
                "sigma_luminosity is the error of luminosity= in its own unit, for noise_kind='normal' or"
                " 'upper_limit': give the error of lognormal noise as sigma_ln_luminosity="
            )
        without_error = sigma_ln_luminosity is None and sigma_luminosity is None
        if sigma_ln_luminosity is None:
            sigma_ln_luminosity = _ERROR_IF_NOT_GIVEN
        linear = ln_luminosity is None
        luminosity, lum_unit = luminosity_in(luminosity, lum_unit)
        ln_luminosity = in_unit(ln_luminosity, "", "ln_luminosity", "ln L as numbers without a unit")
        redshift = in_unit(redshift, "", "redshift", "redshifts, which have no unit")
        sigma_ln_luminosity = in_unit(
            sigma_ln_luminosity, "", "sigma_ln_luminosity", "the error in ln L, without a unit (0.1 dex is 0.23)"
        )
        sigma_luminosity = in_unit(sigma_luminosity, lum_unit, "sigma_luminosity", "it in the unit of the luminosity")
        truth_mass = in_unit(truth_mass, "Msun", "truth_mass")
        ra = in_unit(ra, position_unit, "ra")
        dec = in_unit(dec, "deg" if position_unit == "hourangle" else position_unit, "dec")
        lum = as_float64(luminosity, "luminosity") if linear else as_float64(ln_luminosity, "ln_luminosity")
        n = lum.size
        if n == 0:
            raise MassmapError("the catalogue has no rows: at least one object is needed")
        z = as_float64(redshift, "redshift", rows=n)
        sigma = as_float64(sigma_ln_luminosity, "sigma_ln_luminosity", rows=n, scalar=True)
        error = None
        if sigma_luminosity is not None:
            error = as_float64(sigma_luminosity, "sigma_luminosity", rows=n, scalar=True)
            with np.errstate(all="ignore"):
                sigma = error / np.where(lum > 0, lum, 1.0)
        truth = None if truth_mass is None else as_float64(truth_mass, "truth_mass", rows=n)
        if flag is None:  # else the caller has looked at the values, which may be those of a few rows
            _refuse_other_numbers(None if linear else lum, z, sigma if noise_kind == "lognormal" else None, truth)
        if (ra is None) != (dec is None):
            given, lacking = ("dec", "ra") if ra is None else ("ra", "dec")
            raise MassmapError(f"{given} is given without {lacking}: give both columns of the position, or neither")
        id_values, id_missing = (np.arange(n), np.zeros(n, bool)) if ids is None else as_ids(ids, rows=n)
        key_number = _row_numbers_if_repeated(id_values, id_missing, duplicate_ids)

        bits = np.zeros(n, np.int32) if flag is None else np.array(flag, dtype=np.int32)
        bits |= _lum_flags(lum, bits, linear) | _sigma_flags(sigma, bits) | _redshift_flags(z, bits)
        frame, notes = "sky", tuple(notes)
        if ra is not None:
            ra, dec = as_float64(ra, "ra", rows=n), as_float64(dec, "dec", rows=n)
            ra, dec, bad, frame, more = check_positions(ra, dec, position_unit, field_centre)
            bits[bad] |= int(Flag.POSITION_BAD)
            notes += more
        if without_error:
            warnings.warn(_NO_ERROR_GIVEN, stacklevel=2)
            notes += (_NO_ERROR_GIVEN,)

        with np.errstate(all="ignore"):
            catalogue = cls(
                ln_lum_obs=np.where(bits & int(LUM_BAD), np.nan, np.log(lum) if linear else lum),
                sigma_ln_lum=np.where(bits & int(SIGMA_BAD), np.nan, sigma),
                redshift=np.where(bits & int(Z_BAD), np.nan, z),
                ids=id_values,
                flag=bits,
                ra=ra,
                dec=dec,
                truth_ln_mass=None if truth is None else np.log(np.where(truth > 0, truth, np.nan)),
                key_number=key_number,
                noise_kind=noise_kind,
                frame=frame,
                lum_unit=lum_unit,
                mass_definition=mass_definition,
                notes=notes,
            )
            if error is None or noise_kind != "normal":
                return catalogue
            return catalogue.with_below_zero(lum / error, np.log(error))

    def __len__(self) -> int:
        return len(self.flag)

    @property
    def usable(self) -> np.ndarray:
        """Rows that have everything a mass needs.

        Returns
        -------
        Bool[np.ndarray, "halo"]
            True where the row can be used.
        """
        return (self.flag & int(UNUSABLE)) == 0

    def with_below_zero(self, snr, ln_error) -> "HaloCatalogue":
        """Keep measurements of zero and less, which linear noise makes of faint objects.

        Parameters
        ----------
        snr : Float[np.ndarray, "halo"]
            Signal to noise L_obs / e of every row; NaN where it is not known.
        ln_error : Float[np.ndarray, "halo"]
            ln e [ln of the catalogue's unit].

        Returns
        -------
        HaloCatalogue
            The same objects. Rows that are flagged LUM_NOT_POSITIVE can be used where `snr` is at least `LEAST_SNR`:
            what is further below zero is no noise.
        """
        with np.errstate(invalid="ignore"):
            below = ((self.flag & int(Flag.LUM_NOT_POSITIVE)) != 0) & (snr <= 0) & (snr >= LEAST_SNR)
        below &= np.isfinite(ln_error) & ((self.flag & int(Flag.SIGMA_NEGATIVE)) == 0)
        if not below.any():
            return self
        away = int(Flag.LUM_NOT_POSITIVE | Flag.SIGMA_MISSING)
        return replace(
            self,
            flag=np.where(below, self.flag & ~away, self.flag).astype(self.flag.dtype),
            sigma_ln_lum=np.where(below, np.nan, self.sigma_ln_lum),
            snr_below_zero=np.where(below, snr, np.nan),
            ln_error_below_zero=np.where(below, ln_error, np.nan),
        )

    def in_unit(self, factor: float, lum_unit: str) -> "HaloCatalogue":
        """Convert the luminosities to another unit.

        Parameters
        ----------
        factor : float
            What multiplies them.
        lum_unit : str
            The unit that they have then.

        Returns
        -------
        HaloCatalogue
            The same objects.
        """
        below = self.ln_error_below_zero
        return replace(
            self,
            ln_lum_obs=self.ln_lum_obs + np.log(factor),
            ln_error_below_zero=None if below is None else below + np.log(factor),
            lum_unit=lum_unit,
        )

    def is_below_zero(self, rows=slice(None)) -> Bool[np.ndarray, " row"]:
        """Tell which rows are measurements of zero or less.

        Parameters
        ----------
        rows : slice or array_like, (row,), optional
            Row numbers; all by default.

        Returns
        -------
        Bool[np.ndarray, "row"]
            True for such rows.
        """
        if self.snr_below_zero is None:
            return np.zeros(len(self), dtype=bool)[rows]
        return np.isfinite(self.snr_below_zero[rows])

    def signed_measurements(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """Give luminosities and errors of any sign, as the integrals over linear noise take them.

        Parameters
        ----------
        rows : array_like, (row,)
            Row numbers.

        Returns
        -------
        ln_lum : Float[np.ndarray, "row"]
            ln of the absolute value of the luminosity.
        relative_error : Float[np.ndarray, "row"]
            Error over luminosity: negative where that is below zero.
        """
        ln_lum, error = self.ln_lum_obs[rows], self.sigma_ln_lum[rows]
        below = self.is_below_zero(rows)
        if not below.any():
            return ln_lum, error
        assert self.snr_below_zero is not None and self.ln_error_below_zero is not None
        # So near zero that the likelihood is that of zero, whose logarithm there is not.
        snr = np.where(below, np.minimum(self.snr_below_zero[rows], -1e-6), -1.0)
        ln_lum = np.where(below, self.ln_error_below_zero[rows] + np.log(-snr), ln_lum)
        return ln_lum, np.where(below, 1 / snr, error)

    def with_redshifts(self, distributions: RedshiftDistributions, *, compare: bool = True) -> "HaloCatalogue":
        """Give the objects redshifts that are not exact.

        Parameters
        ----------
        distributions : RedshiftDistributions
            One for each row.
        compare : bool, optional
            Refuse those that most redshifts have nothing to do with. Pass False for a part of a catalogue, which says
            too little of the whole.

        Returns
        -------
        HaloCatalogue
            The same objects; those whose distribution cannot be used are flagged Z_ERROR_BAD.

        Raises
        ------
        MassmapError
            For another number of rows, or where most redshifts lie outside of their own distributions, as those of
            rows in another order do.
        """
        if len(distributions) != len(self):
            raise MassmapError(
                f"redshift distributions are given for {len(distributions)} objects, and the catalogue has {len(self)}"
            )
        if compare:
            distributions.refuse_others(self.redshift, "the catalogue")
        flag = self.flag | _bit(~distributions.usable & ((self.flag & int(Z_BAD)) == 0), Flag.Z_ERROR_BAD)
        return replace(self, flag=flag, redshift_distributions=distributions)

    def with_observables(self, observables: Observables) -> "HaloCatalogue":
        """Give the objects further observables beside the luminosity.

        Parameters
        ----------
        observables : Observables
            One row for each object.

        Returns
        -------
        HaloCatalogue
            The same objects. Only a fit or a relation that names these observables makes use of them.

        Raises
        ------
        MassmapError
            For another number of rows.
        """
        if len(observables) != len(self):
            raise MassmapError(
                f"observables are given for {len(observables)} objects, and the catalogue has {len(self)}"
            )
        return replace(self, observables=observables, notes=(*self.notes, *observables.notes))

    def seen_by(self, names) -> "HaloCatalogue":
        """Keep the observables that a relation knows; what lacks a luminosity and has one of them can be used.

        Parameters
        ----------
        names : sequence of str
            Observables that the relation knows; none for a relation of the luminosity alone.

        Returns
        -------
        HaloCatalogue
            The same objects. Where only the luminosity is missing, and one of these observables was measured,
            LUM_MISSING gives way to NO_LUMINOSITY, and the luminosity stays NaN.

        Raises
        ------
        MassmapError
            For an observable that the catalogue does not have.
        """
        if not names:
            return self if self.observables is None else replace(self, observables=None)
        if self.observables is None:
            raise MassmapError(
                f"the relation is one of {', '.join(names)} beside the luminosity, and the catalogue has no such"
                " observables: give them with with_observables()"
            )
        chosen = self.observables.select(names)
        away = int(Flag.LUM_MISSING | Flag.LUM_SENTINEL | Flag.SIGMA_MISSING)
        lacks = (self.flag & int(LUM_BAD | SIGMA_BAD)) != 0
        lacks &= (self.flag & int((LUM_BAD | SIGMA_BAD) & ~away)) == 0
        lacks &= (chosen.kind == MEASURED).any(axis=1)
        flag = np.where(lacks, self.flag & ~away | int(Flag.NO_LUMINOSITY), self.flag)
        code = self.noise_code
        if self.noise_kind != "lognormal" and lacks.any():
            # Without a luminosity there is no noise of it, of whatever kind.
            code = np.where(lacks, NOISE_KINDS.index("lognormal"), self.noise_codes).astype(np.int32)
        return replace(self, observables=chosen, flag=flag.astype(self.flag.dtype), noise_code=code)

    @property
    def noise_codes(self) -> Int[np.ndarray, " halo"]:
        """Kind of noise of each object.

        Returns
        -------
        Int[np.ndarray, "halo"]
            Indices into `NOISE_KINDS`.
        """
        if self.noise_code is None:
            return np.full(len(self), NOISE_KINDS.index(self.noise_kind), dtype=np.int32)
        return self.noise_code.astype(np.int32)

    @cached_property
    def hashes(self) -> UInt32[np.ndarray, "halo 2"]:
        """Hash of each id (of the row number where ids repeat), which keys the object's random numbers.

        Returns
        -------
        UInt32[np.ndarray, "halo 2"]
            High and low half of a 64-bit hash; see `id_hash`.
        """
        return id_hash(self.ids if self.key_number is None else self.key_number)

    def subset(self, index) -> "HaloCatalogue":
        """Take some rows; their ids, and so their random numbers, stay the same.

        Parameters
        ----------
        index : slice or array_like, (row,)
            A boolean mask, a slice or row numbers.

        Returns
        -------
        HaloCatalogue
            The chosen rows.
        """
        rows = np.atleast_1d(np.arange(len(self))[index])
        own: dict[str, Any] = {name: column[rows] for name, column in self._columns().items()}
        if self.redshift_distributions is not None:
            own["redshift_distributions"] = self.redshift_distributions.take(rows)
        if self.observables is not None:
            own["observables"] = self.observables.take(rows)
        return replace(self, **own)

    def _columns(self) -> dict[str, np.ndarray]:
        """Give the arrays with one value per object that are there, by name."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in told.items() if value is not None and name not in _OF_ALL}


def _refuse_other_numbers(ln_lum, redshift, sigma, truth) -> None:
    """Refuse luminosities given as their logarithms, velocities and per cent given as redshifts, bars given as errors
    in ln L, and true masses not in Msun."""

    def middle(values):
        values = np.zeros(0) if values is None else values[np.isfinite(values) & ~is_positive_sentinel(np.abs(values))]
        return float(np.median(np.abs(values))) if values.size else np.nan

    if middle(ln_lum) > _LARGEST_LN:
        raise MassmapError(
            f"ln_luminosity has a median of {middle(ln_lum):.3g}, which is no logarithm: give luminosities as"
            " luminosity="
        )
    if middle(redshift) > HIGHEST_REDSHIFT:
        raise MassmapError(
            f"redshift has a median of {middle(redshift):.3g}, which no halo has: give redshifts, velocities in km/s"
            " over 299792.458, and per cent over 100"
        )
    if middle(sigma) > _WIDEST_LN:
        raise MassmapError(
            f"sigma_ln_luminosity has a median of {middle(sigma):.3g} in ln L, which no error has: give the error in"
            " ln L (0.1 is 10 %), a bar over the luminosity"
        )
    if truth is not None and np.any(truth > 0) and np.nanmax(truth) < _LIGHTEST:
        raise MassmapError(
            f"truth_mass ends at {np.nanmax(truth):g}, and true masses are in Msun: give 10**x for log10 M, or"
            " multiply by their unit"
        )


def id_hash(ids) -> UInt32[np.ndarray, "halo 2"]:
    """Hash each id to 64 bits, in two halves.

    The id is written as text (UTF-8) and hashed with BLAKE2b. So 7, "7", b"7", int32 and int64 agree, and a catalogue
    keeps its random numbers when it is written to a text file and read again. About a second for 1e6 ids.

    Parameters
    ----------
    ids : array_like, (halo,)
        Ids of any type.

    Returns
    -------
    UInt32[np.ndarray, "halo 2"]
        High and low half of each hash.
    """
    ids = np.asarray(ids)
    if ids.dtype.kind == "f" and np.all(ids == np.floor(ids)):
        ids = ids.astype(np.int64)
    texts = (x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in ids.tolist())
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=">u4").reshape(-1, 2).astype(np.uint32)


def _bit(rows: np.ndarray, flag: Flag) -> np.ndarray:
    return np.where(rows, np.int32(flag), np.int32(0))


def _lum_flags(lum: np.ndarray, known: np.ndarray, linear: bool) -> np.ndarray:
    told = (known & int(LUM_BAD)) != 0
    if not linear:  # ln 0 is -inf; -1 and -99 are logarithms like any other
        zero = lum == -np.inf
        return _bit(~np.isfinite(lum) & ~zero & ~told, Flag.LUM_MISSING) | _bit(zero & ~told, Flag.LUM_NOT_POSITIVE)
    sentinel = is_negative_sentinel(lum)
    return (
        _bit(~np.isfinite(lum) & ~told, Flag.LUM_MISSING)
        | _bit(sentinel & ~told, Flag.LUM_SENTINEL)
        | _bit(np.isfinite(lum) & (lum <= 0) & ~sentinel & ~told, Flag.LUM_NOT_POSITIVE)
    )


def _sigma_flags(sigma: np.ndarray, known: np.ndarray) -> np.ndarray:
    told = (known & int(SIGMA_BAD)) != 0
    # An error of 99 in ln L cannot be real: it is a placeholder.
    missing = ~np.isfinite(sigma) | is_positive_sentinel(sigma)
    return _bit(missing & ~told, Flag.SIGMA_MISSING) | _bit((sigma < 0) & np.isfinite(sigma), Flag.SIGMA_NEGATIVE)


def _redshift_flags(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    told = (known & int(Z_BAD)) != 0
    sentinel = is_negative_sentinel(z) | is_positive_sentinel(z)
    return (
        _bit(~np.isfinite(z) & ~told, Flag.Z_MISSING)
        | _bit(sentinel & ~told, Flag.Z_SENTINEL)
        | _bit((z < 0) & np.isfinite(z) & ~sentinel & ~told, Flag.Z_NEGATIVE)
    )


def _row_numbers_if_repeated(ids: np.ndarray, missing: np.ndarray, duplicate_ids: str) -> np.ndarray | None:
    """Give None where every id is present and unique, otherwise the row numbers if the caller asked for them."""
    if duplicate_ids not in ("error", "row_number"):
        raise MassmapError(f"duplicate_ids is {duplicate_ids!r}: it must be 'error' or 'row_number'")
    # Increasing integers, which most catalogues have, are unique without a look at each.
    in_order = ids.dtype.kind in "iu" and bool((ids[1:] > ids[:-1]).all())
    listed = [] if in_order else ids.tolist()
    if len(set(listed)) == len(listed) and not missing.any():
        return None
    listed = ids.tolist()
    if duplicate_ids == "row_number":
        return np.arange(len(listed))
    remedy = "give another id column, or duplicate_ids='row_number' to key random numbers by row"
    if missing.any():
        raise MassmapError(
            f"the id is missing in {np.count_nonzero(missing)} rows, first row {np.argmax(missing)}: {remedy}"
        )
    first_row: dict[object, int] = {}
    repeated = np.array([first_row.setdefault(x, row) != row for row, x in enumerate(listed)])
    raise MassmapError(f"ids are not unique: an earlier id is repeated in {rows_text(repeated, ids)}; {remedy}")
