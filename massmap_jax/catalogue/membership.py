"""What is known of galaxies as centrals or satellites: probabilities, flags with a purity, or groups."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from massmap_jax.catalogue.columns import as_float64, as_ids, as_plain, number_in, rows_text
from massmap_jax.errors import MassmapError


@dataclass(frozen=True, eq=False)
class Membership:
    """What is known of each galaxy's type, central or satellite, beside its luminosity; one row per galaxy.

    Make one with `from_probability`, `from_flags` or `from_groups`, and give it to `massmap_jax.host_posterior`.

    Attributes
    ----------
    central : Float[np.ndarray, "galaxy"]
        Likelihood of what is known if the galaxy is a central, up to a factor; NaN where it is missing.
    satellite : Float[np.ndarray, "galaxy"]
        The same if it is a satellite.
    group : Int[np.ndarray, "galaxy"] or None
        Number of the group, from 0; None where galaxies are taken one by one.
    told : str
        What it is, in a few words.

    See Also
    --------
    massmap_jax.host_posterior : Host masses of galaxies that may be centrals or satellites.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> known = mm.Membership.from_flags([True, False], purity=0.85)
    >>> known.central.round(2).tolist(), known.satellite.round(2).tolist()
    ([0.85, 0.15], [0.15, 0.85])
    """

    central: Float[np.ndarray, " galaxy"]
    satellite: Float[np.ndarray, " galaxy"]
    group: Int[np.ndarray, " galaxy"] | None
    told: str

    @classmethod
    def from_probability(cls, central_probability, *, central_fraction: float = 0.5) -> "Membership":
        """Take the probability of each galaxy of being a central.

        Parameters
        ----------
        central_probability : array_like, (galaxy,)
            Probability of being a central. It has to be one that did not see the luminosity.
        central_fraction : float, optional
            The share of centrals that this probability took for granted, before it looked at the galaxy. The default
            0.5 is for a probability of even odds: 0.5 then says nothing.

        Returns
        -------
        Membership
            Odds for each row. Rows whose probability is missing or not between 0 and 1 are NaN.

        Raises
        ------
        MassmapError
            For values that are not numbers, a share that is not between 0 and 1, or no row with a probability.

        Notes
        -----
        The odds of the type are those of the luminosity functions times p / (1 - p) times (1 - f) / f, f the share
        taken for granted. A probability that holds the mean share of centrals, and is given as if it did not, would
        count it twice.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> known = mm.Membership.from_probability([0.9, 0.5, 1.2])
        >>> known.central.tolist()
        [0.9, 0.5, nan]
        """
        if not 0 < central_fraction < 1:
            raise MassmapError(f"central_fraction is {central_fraction}: give a share between 0 and 1, both excluded")
        given = as_float64(central_probability, "central_probability")
        good = (given >= 0) & (given <= 1)
        above = (given > 1) & (given <= 100)
        # A probability rounds to 1.000001 here and there; per cent are above 1 more often than not.
        if not good.any() or 2 * above.sum() > np.isfinite(given).sum():
            worst = rows_text(above if above.any() else ~good, given)
            raise MassmapError(f"central_probability is not between 0 and 1 in {worst}: give probabilities, no percent")
        chance = np.where(good, given, np.nan)
        told = "probabilities of being a central"
        return cls(chance / central_fraction * 0.5, (1 - chance) / (1 - central_fraction) * 0.5, None, told)

    @classmethod
    def from_flags(cls, is_central, *, purity: float) -> "Membership":
        """Take a flag, central or satellite, that is right for a given share of the galaxies of either type.

        Parameters
        ----------
        is_central : array_like, (galaxy,)
            True or 1 for a central, False or 0 for a satellite; words such as C and S, central and satellite, yes and
            no are read, too.
        purity : float
            How often the flag is right, from 0.5 to 1, of true centrals and of true satellites alike. There is no
            default: a flag that is believed gives masses that are wrong wherever it is wrong.

        Returns
        -------
        Membership
            Odds for each row. Rows without a flag are NaN.

        Raises
        ------
        MassmapError
            For flags that are neither 0 nor 1, or a purity outside its range.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> mm.Membership.from_flags([1, 0], purity=1.0).satellite.tolist()
        [0.0, 1.0]
        """
        if not 0.5 <= purity <= 1:
            raise MassmapError(
                f"purity is {purity}: give the share of galaxies whose flag is right, from 0.5 (it says nothing) to 1"
            )
        flags = _flags(is_central)
        right = np.where(np.isnan(flags), np.nan, purity)
        told = f"flags of centrals and satellites, right for {100 * purity:g} % of them"
        return cls(np.where(flags == 0, 1 - right, right), np.where(flags == 0, right, 1 - right), None, told)

    @classmethod
    def from_groups(cls, group_id, is_central) -> "Membership":
        """Take groups: each has one central, and the other galaxies are its satellites.

        Parameters
        ----------
        group_id : array_like, (galaxy,)
            Group of each galaxy, of any type. A galaxy alone is a group of its own; so is each row with the number 0
            or one below, by which catalogues say that a galaxy is in no group, unless the number has one central and
            satellites, as that of a group does.
        is_central : array_like, (galaxy,)
            True or 1 for the central of a group, False or 0 for a satellite; words as in `from_flags`.

        Returns
        -------
        Membership
            The groups, which are taken as true.

        Raises
        ------
        MassmapError
            For a group without a central or with several, a row without a group or without a flag, or columns that
            differ in length.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> mm.Membership.from_groups(["A", "B", "A"], [1, 1, 0]).group.tolist()
        [0, 1, 0]
        """
        flags = _flags(is_central)
        ids, missing = as_ids(group_id, rows=flags.size)
        if missing.any():
            raise MassmapError(
                f"the group id is missing in {rows_text(missing, ids)}: give each galaxy a group, one of its own where "
                "it is alone"
            )
        names = ids.astype(str) if ids.dtype.kind == "O" else ids
        distinct, group = np.unique(names, return_inverse=True)
        alone = _in_no_group(distinct, group, flags)
        if alone.any():
            flags = np.where(alone, 1.0, flags)
            group = np.where(alone, distinct.size + np.arange(alone.size), group)
            numbers, group = np.unique(group, return_inverse=True)
            distinct = np.array([distinct[i] if i < distinct.size else "" for i in numbers], dtype=object)
        if np.isnan(flags).any():
            raise MassmapError(
                f"is_central is missing in {rows_text(np.isnan(flags), ids)}: groups need to know their central"
            )
        centrals = np.bincount(group, weights=flags, minlength=distinct.size)
        for bad, what in ((centrals == 0, "no central"), (centrals > 1, "more than one central")):
            if bad.any():
                first = int(np.argmax(bad))
                raise MassmapError(
                    f"{bad.sum()} of {distinct.size} groups have {what}, first group {distinct.tolist()[first]!r} (row "
                    f"{int(np.argmax(group == first))}): each group has to have one row with is_central"
                )
        told = f"{distinct.size} groups of {flags.size} galaxies"
        if alone.any():
            told += f", {alone.sum()} of which are in no group by a group id of 0 or below: each is a central alone"
        return cls(flags, 1 - flags, group.astype(np.int64), told)

    def __len__(self) -> int:
        return self.central.size

    @property
    def known(self) -> Bool[np.ndarray, " galaxy"]:
        """Rows in which something is known.

        Returns
        -------
        Bool[np.ndarray, "galaxy"]
            False where the probability or the flag is missing.
        """
        return np.isfinite(self.central)

    def subset(self, rows) -> "Membership":
        """Take some rows, in groups all of a group or none.

        Parameters
        ----------
        rows : slice or array_like, (row,)
            A boolean mask, a slice or row numbers.

        Returns
        -------
        Membership
            The chosen rows.

        Raises
        ------
        MassmapError
            For a part of a group.
        """
        group = None
        if self.group is not None:
            kept = np.zeros(len(self), dtype=bool)
            kept[rows] = True
            torn = np.isin(self.group, self.group[kept]) & ~kept
            if torn.any():
                raise MassmapError(
                    f"{torn.sum()} galaxies would be left out of groups that the others are in, first row "
                    f"{int(np.argmax(torn))}: take whole groups, since their members share one host"
                )
            group = np.unique(self.group[rows], return_inverse=True)[1]
        return Membership(self.central[rows], self.satellite[rows], group, self.told)


def _in_no_group(distinct, group, flags) -> Bool[np.ndarray, " galaxy"]:
    """Rows whose group has a number of 0 or below, but for those that one central and satellites share."""
    numbers = np.array([np.nan if (n := number_in(name)) is None else n for name in distinct.tolist()])
    if not (numbers > 0).any():
        return np.zeros(group.size, dtype=bool)
    centrals = np.bincount(group, weights=np.nan_to_num(flags), minlength=distinct.size)
    one_group = (centrals == 1) & (np.bincount(group, minlength=distinct.size) > 1)
    with np.errstate(invalid="ignore"):
        return ((numbers <= 0) & ~one_group)[group]


# What tables write for a central and for a satellite, in small letters.
_CENTRAL = ("c", "cen", "cent", "central", "centrals", "bcg", "bgg", "brightest", "y", "yes", "t", "true")
_SATELLITE = ("s", "sat", "satellite", "satellites", "mem", "member", "n", "no", "f", "false")


def _flags(is_central) -> Float[np.ndarray, " galaxy"]:
    """1 for a central, 0 for a satellite, NaN where it is missing."""
    array = as_plain(is_central)
    if array.dtype.kind == "b":
        array = array.astype(np.int8)
    if array.dtype.kind in "OSU":
        array = _numbers_from_words(array)
    flags = as_float64(array, "is_central")
    bad = ~(np.isnan(flags) | (flags == 0) | (flags == 1))
    if bad.any():
        known = np.unique(flags[~np.isnan(flags)])
        ranks = (
            "; where 1 is a central and 2 a satellite, as in catalogues of groups, write 0 for 2"
            if np.array_equal(known, [1, 2])
            else ""
        )
        raise MassmapError(
            f"is_central is neither 0 nor 1 in {rows_text(bad, flags)}: give flags, or probabilities as "
            f"central_probability{ranks}"
        )
    return flags


def _numbers_from_words(array: np.ndarray) -> np.ndarray:
    """1 and 0 for words such as C and S, yes and no; all other cells as they are."""
    gone = np.ma.getmaskarray(array)

    def number(cell):
        cell = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        if isinstance(cell, bool | np.bool_):
            return int(cell)
        word = cell.strip().lower() if isinstance(cell, str) else ""
        return 1 if word in _CENTRAL else 0 if word in _SATELLITE else cell

    cells = [None if missing else number(cell) for cell, missing in zip(np.ma.getdata(array), gone, strict=True)]
    return np.array([*cells, None], dtype=object)[:-1]  # of objects, whatever they are
