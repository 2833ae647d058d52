"""Which row of a catalogue each row of a second table is: by identifier, or by position on the sky."""

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from massmap_jax.catalogue.columns import BLANKS, as_float64, as_ids, is_positive_sentinel
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.errors import MassmapError

SEPARATION_ARCMIN, REDSHIFT_WINDOW = 1.0, 0.05
"""Largest separation of two positions, and largest ``|dz| / (1 + z)``, of one object, where none are given."""
# Centres of one cluster in two catalogues differ by less, but for the nearest clusters: a check of ids.
_SAME_ID_ARCMIN = 10.0
_SHOWN = 3
# Catalogues that go by several names: Abell, Corwin & Olowin, and their southern supplement.
_LISTS = {"abell": "a", "aco": "a", "abells": "as", "acos": "as"}
# Matches by chance are counted with positions moved by this many radii. True ones are more by so many of their errors.
_MOVED, _SIGMAS = 4.0, 3.0
_TOLD_BY_CHANCE = 0.1


class Matches(NamedTuple):
    """Rows of a catalogue that the rows of a second table were found to be.

    Attributes
    ----------
    rows : Int[np.ndarray, "row"]
        Row of the catalogue for each row of the table, -1 where it matches none.
    separation : Float[np.ndarray, "row"]
        Separation on the sky [arcmin], NaN where there is no match or no position.
    catalogue_rows : int
        Number of rows of the catalogue.
    notes : tuple of str
        How many matched, how, and what was taken for granted.
    """

    rows: np.ndarray
    separation: np.ndarray
    catalogue_rows: int
    notes: tuple[str, ...]

    def spread(self, values, missing: float = np.nan) -> np.ndarray:
        """Give each value to the row of the catalogue that it belongs to.

        Parameters
        ----------
        values : float or array_like, (row,)
            One value for each row of the table, or one for all.
        missing : float, optional
            Value of the objects without a match.

        Returns
        -------
        Float[np.ndarray, "halo"]
            One value for each row of the catalogue.

        Raises
        ------
        MassmapError
            For another number of values.
        """
        found = self.rows >= 0
        values = as_float64(values, "the values to spread", rows=found.size, scalar=True)
        spread = np.full(self.catalogue_rows, missing)
        spread[self.rows[found]] = values[found]
        return spread


def match_to_catalogue(
    catalogue: HaloCatalogue,
    *,
    ids=None,
    ra=None,
    dec=None,
    redshift=None,
    separation_arcmin: float | None = None,
    redshift_window: float | None = None,
    names=None,
    use=None,
) -> Matches:
    r"""Find the rows of a catalogue that the rows of a second table are, such as clusters with a measured mass.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    ids : array_like, (row,), optional
        Ids of the table, which are matched with those of the catalogue (its row numbers, where it has none). "12", 12
        and 12.0 are one id; letter case, blanks and how a name is written ("A68" for "Abell 0068") do not count,
        unless ids differ in nothing else. Without ids the positions are matched.
    ra, dec : array_like, (row,), optional
        Positions of the table [deg]. Beside ids they are a check of these.
    redshift : array_like, (row,), optional
        Redshifts of the table, NaN where one has none: a match by position has to agree in redshift.
    separation_arcmin : float, optional
        Largest separation [arcmin]; by default 1 for positions, and 10 for the check of ids.
    redshift_window : float, optional
        Largest ``|dz| / (1 + z)``, 0.05 by default; rows without a redshift are matched by position alone.
    names : array_like, (row,), optional
        What messages call the rows; by default their ids, or their numbers.
    use : array_like of bool, (row,), optional
        Rows that have something to match for, such as a mass; the others match nothing and are not counted.

    Returns
    -------
    Matches
        The rows. `spread` brings a column of the table into the order of the catalogue.

    Raises
    ------
    MassmapError
        Where nothing matches, one row of the table could be several objects or several rows one object, or objects of
        the same id are far apart.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[1, 2, 3], redshift=[0.1, 0.2, 0.3], sigma_ln_luminosity=0.05, ids=["A1", "A2", "A3"]
    ... )
    >>> matches = mm.match_to_catalogue(catalogue, ids=["a 3", "A1", "B7"])
    >>> matches.rows.tolist()
    [2, 0, -1]
    >>> print(*matches.notes, sep="\n")
    2 of 3 measured objects are in the catalogue, by id; 1 matches nothing: 'B7'
    1 id agrees but for how it is written (letter case, blanks, zeros, A for Abell): taken as the same
    >>> matches.spread([5e14, 2e14, 3e14]).tolist()
    [200000000000000.0, nan, 500000000000000.0]
    """
    if (ra is None) != (dec is None):
        raise MassmapError("ra and dec of the measured objects go together: give both or neither")
    for name, value in (("separation_arcmin", separation_arcmin), ("redshift_window", redshift_window)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise MassmapError(f"{name} is {value:g}: give a number above 0")
    if ids is None and ra is None:
        raise MassmapError("measured objects are matched by ids= or by ra= and dec=: give one of them")
    table = _table(ids, ra, dec, redshift, names, use)
    if not table.use.any():
        raise MassmapError("there are no measured objects to match: the table has no rows")
    here = _Sky(_of_sky(catalogue, catalogue.ra), _of_sky(catalogue, catalogue.dec), catalogue.redshift)
    window = REDSHIFT_WINDOW if redshift_window is None else redshift_window
    if ids is None:
        largest = SEPARATION_ARCMIN if separation_arcmin is None else separation_arcmin
        return _by_position(here, table, largest, window)
    return _by_id(catalogue, here, table, separation_arcmin or _SAME_ID_ARCMIN, window)


def compare_matched(catalogue: HaloCatalogue, rows, *, ids, ra=None, dec=None, redshift=None) -> list[str]:
    """Compare positions and redshifts of rows that were matched by id with those of the catalogue.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    rows : Int[np.ndarray, "row"]
        Its row for each row of the table.
    ids : array_like, (row,)
        Ids of the table.
    ra, dec, redshift : array_like, (row,), optional
        Positions [deg] and redshifts of the table.

    Returns
    -------
    list of str
        What was found: distances, and that running numbers say little where neither is known.

    Raises
    ------
    MassmapError
        Where most rows are far from their object.
    """
    rows = np.asarray(rows)
    table = _table(ids, ra, dec, redshift, None, None)
    here = _Sky(_of_sky(catalogue, catalogue.ra), _of_sky(catalogue, catalogue.dec), catalogue.redshift)
    separation = _separations(here, table.sky, rows)
    return _same_objects(
        here, as_ids(catalogue.ids)[0], table, rows, separation, _SAME_ID_ARCMIN, REDSHIFT_WINDOW,
        tells="columns of both in this file would", instead=", or rename a column that is no such",
    )  # fmt: skip


class _Sky(NamedTuple):
    """Positions [deg] and redshifts, NaN where there are none."""

    ra: np.ndarray
    dec: np.ndarray
    redshift: np.ndarray

    @property
    def placed(self) -> np.ndarray:
        return np.isfinite(self.ra) & np.isfinite(self.dec) & (np.abs(self.dec) <= 90)

    def coordinates(self, rows):
        """Positions of some rows, for astropy."""
        from astropy.coordinates import SkyCoord

        return SkyCoord(self.ra[rows], self.dec[rows], unit="deg")


class _Table(NamedTuple):
    """The measured objects: those to match, what messages call them, ids (or row numbers), and places."""

    use: np.ndarray
    named: np.ndarray
    ids: np.ndarray
    no_id: np.ndarray
    sky: _Sky

    @property
    def told(self) -> str:
        return _count(np.count_nonzero(self.use), "measured object")


def _table(ids, ra, dec, redshift, names, use) -> _Table:
    """Bring the columns of the table to one length."""
    ra, dec = in_unit(ra, "deg", "ra"), in_unit(dec, "deg", "dec")
    redshift = in_unit(redshift, "", "redshift", "redshifts, which have no unit")
    known, missing = as_ids(np.arange(as_float64(ra, "ra").size) if ids is None else ids)
    ra, dec, z = (
        np.full(known.size, np.nan) if values is None else as_float64(values, name, rows=known.size)
        for name, values in (("ra", ra), ("dec", dec), ("redshift", redshift))
    )
    z[(z < 0) | is_positive_sentinel(z)] = np.nan
    use = np.ones(known.size, bool) if use is None else np.asarray(use, bool)
    if use.shape != known.shape:
        raise MassmapError(f"use has shape {use.shape}: give one value for each of the {known.size} measured objects")
    nameless = ids is None and names is None
    names, unnamed = as_ids(known if names is None else names, rows=known.size)
    shown = zip(names.tolist(), unnamed | missing | nameless, strict=True)
    named = np.array([f"row {row}" if plain else repr(str(name)) for row, (name, plain) in enumerate(shown)], object)
    return _Table(use, named, known, missing | ~use, _Sky(np.where(use, ra, np.nan), dec, z))


def _of_sky(catalogue: HaloCatalogue, angle) -> np.ndarray:
    """A coordinate of the catalogue, NaN where it is none on the sky."""
    return np.full(len(catalogue), np.nan) if angle is None or catalogue.frame != "sky" else np.asarray(angle)


# -- by id --


def _by_id(catalogue: HaloCatalogue, here: _Sky, table: _Table, largest: float, window: float) -> Matches:
    """Match ids, and compare the positions and redshifts of what matches."""
    own, no_own = as_ids(catalogue.ids)
    *closer, loose = _keys(own, no_own, table.ids, table.no_id)
    exact = closer[0]
    in_catalogue, in_table = (_rows_of(side) for side in loose)
    rows, twice = np.full(table.named.size, -1), []
    for key in (key for key in in_table if key in in_catalogue):
        ours, theirs = in_catalogue[key], in_table[key]
        # "a1" beside "A1": letter case and blanks tell them apart, if anything.
        apart = [(ours, theirs)] if len(ours) == len(theirs) == 1 else [_told_apart(ours, theirs, *k) for k in closer]
        pairs = next(filter(None, apart), None)
        if pairs is None:
            twice.append((theirs, ours))
            continue
        rows[pairs[1]] = pairs[0]
    if twice:
        told = "; ".join(
            f"{table.named[theirs[0]]} is in {_rows(theirs)} of the measured objects and {_rows(ours)} of the catalogue"
            for theirs, ours in twice[:_SHOWN]
        )
        raise MassmapError(
            f"{_count(len(twice), 'id')} of measured objects cannot be matched, because of repetitions: {told};"
            " leave one row of each, name another id column, or match by position"
        )
    found = rows >= 0
    if not found.any():
        raise MassmapError(
            f"no id of {table.told} is in the catalogue: they are like {_listed(table.named[table.use])}, and like"
            f" {_listed([repr(str(one)) for one in own[: _SHOWN + 1]])} there; name the columns that hold the same ids"
            " (ids=, and id= of the catalogue), or match by position"
        )
    notes = [_summary(rows, table, "by id")]
    other = sum(exact[0][row] != exact[1][i] for i, row in enumerate(rows) if row >= 0)
    if other:
        told = "1 id agrees but for how it is" if other == 1 else f"{other:,} ids agree but for how they are"
        notes.append(f"{told} written (letter case, blanks, zeros, A for Abell): taken as the same")
    if blank := np.count_nonzero(table.use & [key is None for key in loose[1]]):
        notes.append(f"{_count(blank, 'measured object has', 'measured objects have')} no id")
    separation = _separations(here, table.sky, rows)
    notes += _same_objects(here, own, table, rows, separation, largest, window)
    return Matches(rows, separation, len(catalogue), tuple(notes))


def _same_objects(
    here: _Sky,
    own,
    table: _Table,
    rows,
    separation,
    largest: float,
    window: float,
    tells: str = "ra= and dec=, or redshift=, of the measured objects do",
    instead: str = ", or match by position",
) -> list[str]:
    """Compare the places and redshifts of rows of the same id; refused where most are those of other objects."""
    notes = []
    found = rows >= 0
    off = np.abs(here.redshift[rows] - table.sky.redshift) / (1 + here.redshift[rows])
    for what, values, most, unit in (
        ("apart on the sky", separation, largest, " arcmin"),
        ("apart in redshift, |dz| / (1 + z),", np.where(found, off, np.nan), window, ""),
    ):
        known = np.isfinite(values)
        far = known & (values > most)
        if not far.any():
            continue
        first = int(np.argmax(far))
        told = (
            f"objects of the same id are more than {most:g}{unit} {what} in {far.sum():,} of {known.sum():,} cases, the"
            f" first {table.named[first]} by {values[first]:.3g}{unit}"
        )
        if 2 * far.sum() > known.sum():
            raise MassmapError(
                f"{told}: the ids are those of other objects, or a position or redshift column is not what it seems;"
                f" name another id column{instead}"
            )
        notes.append(f"{told}: are they the same objects?")
    if np.isfinite(separation).any():
        notes.append(f"objects of the same id are {np.nanmedian(separation):.2g} arcmin apart, the median")
    elif not np.isfinite(off[found]).any() and _is_running(table.ids[table.use]) and _is_running(own):
        notes.append(
            "WARNING, ids that say little: they are running numbers in both tables, and no position or redshift tells"
            f" whether one number is one object ({tells})"
        )
    return notes


def _told_apart(ours: list[int], theirs: list[int], own: list, other: list) -> tuple[list[int], list[int]] | None:
    """Rows of the catalogue for all of these rows of the table by keys of both; None where one has none or several."""
    pairs = [[row for row in ours if own[row] == other[i]] for i in theirs]
    if any(len(same) != 1 for same in pairs) or len({other[i] for i in theirs}) < len(theirs):
        return None
    return [row for (row,) in pairs], theirs


def _keys(own, no_own, other, no_other):
    """Texts by which two columns of ids are compared: as written, regardless of case and blanks, and as names."""
    # 007 is another id than 7 in text, and the same where the other side has numbers.
    as_numbers = own.dtype.kind in "iuf" or other.dtype.kind in "iuf"
    exact = tuple(
        [None if gone else _plain(one, False) for one, gone in zip(ids.tolist(), missing, strict=True)]
        for ids, missing in ((own, no_own), (other, no_other))
    )
    loose = tuple(
        [None if key is None else re.sub(r"\s+", "", _plain(key, as_numbers)).casefold() for key in side]
        for side in exact
    )
    return exact, loose, tuple([None if key is None else _name(key) for key in side] for side in loose)


def _name(key: str) -> str:
    """A name in one way of writing: Abell0068, ABELL_68 and ACO 68 are A68, and RXC-J1504 is RXCJ1504."""
    key = re.sub(r"(?<=[a-z])[-_]+(?=[a-z0-9])", "", key)
    # Zeros fill the number of a list. In a name that is a position, J0142.0+2131, they are digits of it.
    numbered = re.fullmatch(r"([a-z]+)0*(\d+[a-z]*)", key)
    return key if numbered is None else _LISTS.get(numbered[1], numbered[1]) + numbered[2]


def _plain(one, as_number: bool) -> str | None:
    """An id as text, whole numbers without a decimal point; None for a blank."""
    if isinstance(one, float) and one.is_integer():
        if abs(one) >= 2**53:
            raise MassmapError(
                f"the id {one:g} is a floating-point number too large to be exact: write ids as integers or text"
            )
        one = int(one)
    text = str(one).strip()
    if text.lower() in BLANKS:
        return None
    whole = re.fullmatch(r"([+-]?\d+)\.0*", text)
    text = whole[1] if whole else text
    return str(int(text)) if as_number and re.fullmatch(r"[+-]?\d+", text) else text


def _is_running(ids: np.ndarray) -> bool:
    """Tell whether ids are 0, 1, 2, ... or 1, 2, 3, ..., in any order: the rows of any table have these."""
    if ids.dtype.kind not in "iu" or ids.size < 2:
        return False
    return bool(ids.min() in (0, 1) and np.array_equal(np.sort(ids), np.arange(ids.min(), ids.min() + ids.size)))


def _rows_of(keys) -> dict[str, list[int]]:
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None:
            rows[key].append(row)
    return dict(rows)


# -- by position --


def _by_position(here: _Sky, table: _Table, largest: float, window: float) -> Matches:
    """Match positions, and redshifts where both have one; two candidates are never decided by the nearer one."""
    from astropy import units as u
    from astropy.coordinates import search_around_sky

    ours, theirs = np.flatnonzero(here.placed), np.flatnonzero(table.sky.placed)
    if ours.size == 0:
        raise MassmapError("the catalogue has no positions on the sky to match by: match by ids=, or name its columns")
    if theirs.size == 0:
        raise MassmapError("the measured objects have no positions on the sky: give others as ra= and dec=, or ids=")
    limit = largest * u.arcmin
    a, b, apart, _ = search_around_sky(table.sky.coordinates(theirs), here.coordinates(ours), limit)
    row, i, apart = ours[b], theirs[a], apart.to_value("arcmin")
    off = np.abs(here.redshift[row] - table.sky.redshift[i]) / (1 + here.redshift[row])
    agree = ~(off > window)  # a redshift that is not known excludes nothing
    if not agree.any():
        raise MassmapError(_nothing_near(here, table, largest, window, i, row, off))
    row, i, apart, off = row[agree], i[agree], apart[agree], off[agree]
    _refuse_ambiguous(table.named, row, i, apart, largest, np.isfinite(off).all())
    rows, separation = np.full(table.named.size, -1), np.full(table.named.size, np.nan)
    rows[i], separation[i] = row, apart
    chance = _by_chance(here, table, largest, window)
    if row.size <= chance + _SIGMAS * np.sqrt(chance):
        raise MassmapError(
            f"{_count(row.size, 'measured object lies', 'measured objects lie')} within {largest:g} arcmin of an object"
            f" of the catalogue, and {chance:.2g} do so by chance, when all are moved by a few of these radii: check"
            " ra= and dec= and their unit, give a smaller separation_arcmin=, redshift=, or ids="
        )
    by = f"by position, within {largest:g} arcmin (median {np.median(apart):.2g}, largest {apart.max():.2g})"
    if np.isfinite(off).any():
        by += f" and |dz| / (1 + z) of {window:g}"
    notes = [_summary(rows, table, by)]
    alone = np.count_nonzero(~np.isfinite(off))
    if alone:
        told = _count(alone, "measured object was", "measured objects were")
        notes.append(f"{told} matched by position alone, without a redshift to compare")
    if chance > _TOLD_BY_CHANCE * row.size:
        notes.append(f"about {chance:.2g} of {row.size} matches are expected by chance: a smaller separation_arcmin=?")
    if out := np.count_nonzero(table.use) - theirs.size:
        notes.append(f"{_count(out, 'measured object has', 'measured objects have')} no position")
    return Matches(rows, separation, here.ra.size, tuple(notes))


def _by_chance(here: _Sky, table: _Table, largest: float, window: float) -> float:
    """Mean number of objects of the table that match something when all are moved by a few radii to four sides."""
    from astropy import units as u
    from astropy.coordinates import search_around_sky

    ours, theirs = np.flatnonzero(here.placed), np.flatnonzero(table.sky.placed)
    found = 0
    for side in (45, 135, 225, 315):
        moved = table.sky.coordinates(theirs).directional_offset_by(side * u.deg, _MOVED * largest * u.arcmin)
        a, b, _, _ = search_around_sky(moved, here.coordinates(ours), largest * u.arcmin)
        off = np.abs(here.redshift[ours[b]] - table.sky.redshift[theirs[a]]) / (1 + here.redshift[ours[b]])
        found += np.unique(a[~(off > window)]).size
    return found / 4


def _refuse_ambiguous(named, row, i, apart, largest: float, with_redshift: bool) -> None:
    """Refuse a measured object with two candidates, and an object of the catalogue with two measurements."""
    told: list[str] = []
    for one, other, this, those in (
        (i, row, lambda k: f"measured object {named[k]} could be", lambda k: f"row {k} of the catalogue"),
        (row, i, lambda k: f"row {k} of the catalogue could be", lambda k: f"measured object {named[k]}"),
    ):
        keys, counts = np.unique(one, return_counts=True)
        for key in keys[counts > 1]:
            each = np.flatnonzero(one == key)
            each = each[np.argsort(apart[each])]
            told.append(
                f"{this(key)} " + " or ".join(f"{those(other[k])} at {apart[k]:.2g} arcmin" for k in each[:_SHOWN])
            )
    if told:
        narrower = "a smaller redshift_window=" if with_redshift else "redshift="
        raise MassmapError(
            f"{_count(len(told), 'ambiguous match', 'ambiguous matches')} within {largest:g} arcmin: "
            f"{'; '.join(told[:_SHOWN])}{'; ...' if len(told) > _SHOWN else ''}; give a smaller"
            f" separation_arcmin=, {narrower}, or ids="
        )


def _nothing_near(here: _Sky, table: _Table, largest: float, window: float, i, row, off) -> str:
    """Say how near the nearest of no matches were."""
    if i.size:
        k = int(np.argmin(off))
        return (
            f"no object of {table.told} agrees with one of the catalogue in position and redshift:"
            f" {_count(np.unique(i).size, 'lies', 'lie')} within {largest:g} arcmin of one, but with |dz| / (1 + z)"
            f" above {window:g}, the least {off[k]:.3g} ({table.named[i[k]]}, row {row[k]} of the catalogue); check"
            " redshift=, or give a wider redshift_window="
        )
    ours, theirs = np.flatnonzero(here.placed), np.flatnonzero(table.sky.placed)
    nearest, apart, _ = table.sky.coordinates(theirs).match_to_catalog_sky(here.coordinates(ours))
    apart = apart.to_value("arcmin")
    k = int(np.argmin(apart))
    return (
        f"no object of {table.told} lies within {largest:g} arcmin of one of the catalogue: the nearest pair,"
        f" {table.named[theirs[k]]} and row {ours[nearest[k]]}, is {apart[k]:.3g} arcmin apart (the median is"
        f" {np.median(apart):.3g}); check ra= and dec= and their unit, or give a larger"
        " separation_arcmin="
    )


def _separations(here: _Sky, there: _Sky, rows) -> np.ndarray:
    """Separations of matched rows [arcmin], NaN where there is no match or no position."""
    separation = np.full(rows.size, np.nan)
    both = np.flatnonzero((rows >= 0) & there.placed & here.placed[rows])
    if both.size:
        apart = there.coordinates(both).separation(here.coordinates(rows[both]))
        separation[both] = apart.to_value("arcmin")
    return separation


# -- sentences --


def _summary(rows, table: _Table, by: str) -> str:
    """How many matched, loudly where they are few."""
    found, lost = np.count_nonzero(rows >= 0), np.flatnonzero((rows < 0) & table.use)
    text = f"{found:,} of {table.told} {'is' if lost.size + found == 1 else 'are'} in the catalogue, {by}"
    if lost.size:
        text += f"; {_count(lost.size, 'matches', 'match')} nothing: {_listed(table.named[lost])}"
    return f"WARNING, few matches: only {text}" if found < lost.size else text


def _count(number, what: str, plural: str = "") -> str:
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def _listed(named) -> str:
    return ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")


def _rows(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}"
