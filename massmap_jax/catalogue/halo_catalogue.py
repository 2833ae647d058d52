"""HaloCatalogue: ids, luminosity with its error, redshift and sky position, checked on entry."""

import hashlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt32

from massmap_jax.catalogue.columns import as_float64, as_ids, is_negative_sentinel, is_positive_sentinel, rows_text
from massmap_jax.catalogue.flags import LUM_BAD, SIGMA_BAD, UNUSABLE, Z_BAD, Flag
from massmap_jax.catalogue.positions import check_positions
from massmap_jax.errors import MassmapError

NOISE_KINDS = ("lognormal", "normal", "upper_limit")
"""Noise of the luminosity; the index is the code in `HaloCatalogue.noise_code`."""
_OF_ALL = ("noise_kind", "frame", "lum_unit", "notes")  # said once, not per object


@dataclass(frozen=True, eq=False)
class HaloCatalogue:
    """A catalogue in host memory: immutable NumPy arrays, one row per object, never passed through jit.

    Make one with `from_arrays` or `massmap_jax.read_catalogue`. Rows that cannot be used stay, with NaN in
    the column at fault and a `Flag` that says why.

    Attributes
    ----------
    ln_lum_obs : (n,) float64
        ln of the observed luminosity, in `lum_unit`; NaN where the luminosity is unusable.
    sigma_ln_lum : (n,) float64
        Its error [ln L]; NaN where unusable.
    redshift : (n,) float64
        NaN where unusable.
    ids : (n,) any dtype
        As given; the row number where none were.
    flag : (n,) int32
        `Flag` bits, 0 for a good row.
    ra, dec : (n,) float64 or None
        Degrees where `frame` is "sky"; x and y offsets in arcmin where it is "flat". NaN where unusable.
    truth_ln_mass : (n,) float64 or None
        ln of the true mass [ln Msun], for simulations.
    key_number : (n,) int64 or None
        The row number that stands in for the id in `hashes`, where ids were not unique.
    noise_code : (n,) int8 or None
        Noise kind per object, an index into `NOISE_KINDS`; None means `noise_kind` for all.
    noise_kind : str
        "lognormal", "normal" or "upper_limit".
    frame : str
        "sky" or "flat".
    lum_unit : str
        Unit of the luminosity, as text.
    notes : tuple of str
        Guesses and conversions made on the way in, to be shown to the user.
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
    noise_kind: str = "lognormal"
    frame: str = "sky"
    lum_unit: str = ""
    notes: tuple[str, ...] = ()

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
        luminosity,
        redshift,
        sigma_ln_luminosity=0.05,
        ra=None,
        dec=None,
        ids=None,
        truth_mass=None,
        lum_unit: str = "",
        position_unit: Literal["deg", "hourangle", "arcmin"] = "deg",
        field_centre: tuple[float, float] | None = None,
        duplicate_ids: Literal["error", "row_number"] = "error",
        noise_kind: str = "lognormal",
        flag=None,
        notes: tuple[str, ...] = (),
    ) -> "HaloCatalogue":
        """Check arrays and make a catalogue of them.

        Parameters
        ----------
        luminosity : array_like, (n,)
            Observed luminosity, linear, in `lum_unit`.
        redshift : array_like, (n,)
        sigma_ln_luminosity : float or array_like, (n,)
            Error in ln L, one for all or one per object; 0 is allowed.
        ra, dec : array_like, (n,), optional
            Both or neither. Degrees; hours and degrees for "hourangle"; for "arcmin", offsets from the field
            centre, x to the east and y to the north.
        ids : array_like, (n,), optional
            Any type. They key each object's random numbers, so a result belongs to the id and not to the row;
            without ids the row number serves, and then the order of rows matters.
        truth_mass : array_like, (n,), optional
            True mass [Msun], for simulations.
        lum_unit : str
            Unit of the luminosity, as text, written to every output.
        position_unit : {"deg", "hourangle", "arcmin"}
        field_centre : (float, float), optional
            (RA, Dec) in degrees of the origin of arcmin offsets: they become sky positions. Without it the
            frame stays flat.
        duplicate_ids : {"error", "row_number"}
            Repeated or missing ids are refused, or kept as they are and the row number used for random
            numbers.
        noise_kind : {"lognormal", "normal", "upper_limit"}
        flag : array_like of int, (n,), optional
            `Flag` bits that the caller already knows, added to those found here.
        notes : tuple of str

        Raises
        ------
        MassmapError
            No rows, lengths that differ, text where numbers are needed, repeated ids, or positions that
            cannot be what `position_unit` says. Single bad values are flagged, not raised.
        """
        lum = as_float64(luminosity, "luminosity")
        n = lum.size
        if n == 0:
            raise MassmapError("the catalogue has no rows: at least one object is needed")
        z = as_float64(redshift, "redshift", rows=n)
        sigma = as_float64(sigma_ln_luminosity, "sigma_ln_luminosity", rows=n, scalar=True)
        truth = None if truth_mass is None else as_float64(truth_mass, "truth_mass", rows=n)
        if (ra is None) != (dec is None):
            given, lacking = ("dec", "ra") if ra is None else ("ra", "dec")
            raise MassmapError(f"{given} is given without {lacking}: give both columns of the position, or neither")
        id_values, id_missing = (np.arange(n), np.zeros(n, bool)) if ids is None else as_ids(ids, rows=n)
        key_number = _row_numbers_if_repeated(id_values, id_missing, duplicate_ids)

        bits = np.zeros(n, np.int32) if flag is None else np.array(flag, dtype=np.int32)
        bits |= _lum_flags(lum, bits) | _sigma_flags(sigma, bits) | _redshift_flags(z, bits)
        frame, notes = "sky", tuple(notes)
        if ra is not None:
            ra, dec = as_float64(ra, "ra", rows=n), as_float64(dec, "dec", rows=n)
            ra, dec, bad, frame, more = check_positions(ra, dec, position_unit, field_centre)
            bits[bad] |= int(Flag.POSITION_BAD)
            notes += more

        with np.errstate(all="ignore"):
            return cls(
                ln_lum_obs=np.where(bits & int(LUM_BAD), np.nan, np.log(lum)),
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
                notes=notes,
            )

    def __len__(self) -> int:
        return len(self.flag)

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool: rows with all that a mass needs."""
        return (self.flag & int(UNUSABLE)) == 0

    @property
    def redshift_nodes(self) -> Float[np.ndarray, "halo node"]:
        """Redshifts at which each object's likelihood is evaluated, (n, 1): the measured one."""
        return self.redshift[:, None]

    @property
    def redshift_weights(self) -> Float[np.ndarray, "halo node"]:
        """Weight of each redshift node, (n, 1), summing to one over nodes."""
        return np.ones_like(self.redshift)[:, None]

    @property
    def noise_codes(self) -> Int[np.ndarray, " halo"]:
        """(n,) index into `NOISE_KINDS` of each object's noise."""
        if self.noise_code is None:
            return np.full(len(self), NOISE_KINDS.index(self.noise_kind), dtype=np.int32)
        return self.noise_code.astype(np.int32)

    @cached_property
    def hashes(self) -> UInt32[np.ndarray, "halo 2"]:
        """(n, 2) uint32 from the ids (row numbers where ids repeat), to key each object's random numbers."""
        return id_hash(self.ids if self.key_number is None else self.key_number)

    def subset(self, index) -> "HaloCatalogue":
        """The rows that `index`, a boolean mask, a slice or row numbers, picks; ids and hashes go along."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return replace(self, **{name: column[rows] for name, column in self._columns().items()})

    def _columns(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in told.items() if value is not None and name not in _OF_ALL}


def id_hash(ids) -> UInt32[np.ndarray, "halo 2"]:
    """High and low half of a 64-bit hash of each id.

    BLAKE2b of the id written as text (UTF-8), so 7, "7", b"7", int32 and int64 agree, and a catalogue keeps
    its random numbers when it goes through a text file. About a second for 1e6 ids.

    Returns
    -------
    np.ndarray, (n, 2), uint32
    """
    ids = np.asarray(ids)
    if ids.dtype.kind == "f" and np.all(ids == np.floor(ids)):
        ids = ids.astype(np.int64)
    texts = (x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in ids.tolist())
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=">u4").reshape(-1, 2).astype(np.uint32)


def _bit(rows: np.ndarray, flag: Flag) -> np.ndarray:
    return np.where(rows, np.int32(flag), np.int32(0))


def _lum_flags(lum: np.ndarray, known: np.ndarray) -> np.ndarray:
    told = (known & int(LUM_BAD)) != 0
    sentinel = is_negative_sentinel(lum)
    return (
        _bit(~np.isfinite(lum) & ~told, Flag.LUM_MISSING)
        | _bit(sentinel & ~told, Flag.LUM_SENTINEL)
        | _bit(np.isfinite(lum) & (lum <= 0) & ~sentinel & ~told, Flag.LUM_NOT_POSITIVE)
    )


def _sigma_flags(sigma: np.ndarray, known: np.ndarray) -> np.ndarray:
    told = (known & int(SIGMA_BAD)) != 0
    # An error of 99 in ln L is no error of anything.
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
    """None where every id is there and there once; else the row numbers, if the caller asked for them."""
    if duplicate_ids not in ("error", "row_number"):
        raise MassmapError(f"duplicate_ids is {duplicate_ids!r}: it must be 'error' or 'row_number'")
    # Integers in order, as most catalogues have them, need no table of those seen.
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
    first_row = {}
    repeated = np.array([first_row.setdefault(x, row) != row for row, x in enumerate(listed)])
    raise MassmapError(f"ids are not unique: an earlier id comes again in {rows_text(repeated, ids)}; {remedy}")
