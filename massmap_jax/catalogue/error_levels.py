"""Errors that are no standard deviations by what their columns are called: of 90 % confidence, 2 sigma, or an FWHM."""

import re
from typing import NamedTuple

from massmap_jax.catalogue.columns import ColumnTable
from massmap_jax.errors import MassmapError

SEVENTY = 1.0364
"""Standard deviations that half of a central interval of 70 % is, for a normal distribution."""
_SIGMAS = {"70": SEVENTY, "80": 1.2816, "90": 1.6449, "95": 1.9600, "95.4": 2.0, "99": 2.5758, "99.7": 3.0}
# Percentiles that are ends of an interval, as names write them.
_ENDS = {"25": 0.6745, "75": 0.6745, "10": 1.2816, "90": 1.2816, "05": 1.6449, "5": 1.6449, "95": 1.6449}
_ENDS |= {"025": 1.96, "2_5": 1.96, "2.5": 1.96, "975": 1.96, "97_5": 1.96, "97.5": 1.96}
_LEVEL = r"(?<![\d.])(?P<level>70|80|90|95(?:\.4)?|99(?:\.7)?)"
_PERCENT = rf"{_LEVEL}[\s_-]*(?:%|pct|pc|percent|per[\s_-]?cent|c\.?\s?l(?![a-z])|conf|int(?:erval)?(?![a-z]))"
# A name may end with that of h_70.
_NAMED = rf"(?:_|err|error|cl|ci|conf|sig|sigma)(?!70){_LEVEL}$"
# Ends of an interval of redshifts, Z_PHOT_L95; e_L90 may be the error of a luminosity within a radius.
_ENDS_OF_Z = rf"(?:^|_)z[a-z_]*_(?:[luh]|lo|hi|low|high|lower|upper|min|max)_?{_LEVEL}$"
# Not "0.5_2_sigma", the error in a band of 0.5 to 2 keV.
_SIGMA = r"(?<![\d.])(?<!\d[_-])(?P<number>[2345])[\s_-]?sig(?:ma)?(?![a-z])"
_WIDTH = r"(?<![a-z])(?P<width>fwhm|hwhm)(?![a-z])"
_PERCENTILE = rf"(?:^|_)(?:q|p|z|pc|pct|perc|percentile|quantile)_?(?P<end>{'|'.join(map(re.escape, _ENDS))})$"


class Level(NamedTuple):
    """What an error is, where it is no standard deviation.

    Attributes
    ----------
    what : str
        In words.
    sigmas : float
        How many standard deviations it is long.
    """

    what: str
    sigmas: float


def level_in(text: str, *, is_name: bool) -> Level | None:
    """Tell which confidence a name or a description of an error speaks of.

    Parameters
    ----------
    text : str
        The name, or the description.
    is_name : bool
        Whether it is a name, in which "_90" at the end says as much.

    Returns
    -------
    Level or None
        None where it speaks of none, or of 68 per cent or one sigma.

    Examples
    --------
    >>> from massmap_jax.catalogue.error_levels import level_in
    >>> level_in("e_L_90", is_name=True).sigmas
    1.6449
    >>> level_in("Upper error on the luminosity (90% confidence)", is_name=False).what
    'of 90 % confidence'
    >>> level_in("e_L500", is_name=True) is None
    True
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower() if is_name else text.lower()
    for pattern in (_PERCENT, _NAMED, _ENDS_OF_Z) if is_name else (_PERCENT,):
        if found := re.search(pattern, words):
            return Level(f"of {found['level']} % confidence", _SIGMAS[found["level"]])
    if found := re.search(_SIGMA, words):
        return Level(f"of {found['number']} standard deviations", float(found["number"]))
    if found := re.search(_WIDTH, words):
        return Level("a full width at half maximum", 2.3548) if found["width"] == "fwhm" else Level(
            "half of a width at half maximum", 1.1774
        )  # fmt: skip
    if is_name and (found := re.search(_PERCENTILE, words)):
        return Level("at a percentile that is no end of a 68 % interval", _ENDS[found["end"]])
    return None


def check_levels(table: ColumnTable, names: tuple[str, ...], what: str, notes: list[str]) -> None:
    """Refuse errors that are no standard deviations by the names of their columns; tell of those that are described so.

    Parameters
    ----------
    table : ColumnTable
        The table.
    names : tuple of str
        One column of errors, or the upper and the lower one.
    what : str
        What the columns are for, such as "luminosity error".
    notes : list of str
        A note is added for a description.

    Raises
    ------
    MassmapError
        For such a name, with what to divide the errors by.
    """
    for name in names:
        found = level_in(name, is_name=True)
        if found is not None:
            raise MassmapError(
                f"{what} column {name!r} of {table.label} is by its name {found.what}, {found.sigmas:g} standard"
                f" deviations: divide the lengths of its bars by {found.sigmas:g} and give these, or rename the column"
                " where it holds one standard deviation"
            )
    for name in names:
        told = table.descriptions.get(name, "")
        if found := level_in(told, is_name=False):
            notes.append(
                f"{what}: {name!r} is described as {' '.join(told.split())!r}, which is {found.what} and no standard"
                f" deviation, and is taken as it is: where that is so, divide it by {found.sigmas:g}"
            )
            return
