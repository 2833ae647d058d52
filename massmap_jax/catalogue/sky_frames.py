"""Positions in another form than right ascension and declination: galactic coordinates, and SkyCoord columns."""

import re
from typing import Any

import numpy as np

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_float64

# Longitude and latitude, by `normal_name`; l and b alone mean many things, and count where their unit is an angle's.
GALACTIC = (
    ("glon", "glat"),
    ("gal_lon", "gal_lat"),
    ("galactic_longitude", "galactic_latitude"),
    ("gal_l", "gal_b"),
    ("lii", "bii"),
)
_SHORT = ("l", "b")
_ROLES = ("longitude", "latitude")
# Coordinates whose names are those of luminosities and richnesses where they stand alone.
_PAIRS = (_SHORT, ("lambda", "beta"), ("lam", "bet"))
_OTHER_FRAMES = {
    "galactic": r"g_?l(?:on|at)|gal(?:actic)?_?(?:lon|lat|l|b|longitude|latitude)|[lb]|lii|bii",
    "supergalactic": r"sg_?[lb]|sg_?l(?:on|at)|supergal\w*",
    "ecliptic": r"e_?l(?:on|at)|ecl(?:iptic)?_?(?:lon|lat|l|b|longitude|latitude)|(?:e(?:cl)?_?)?(?:lambda|beta)",
    "B1950 (FK4)": r"\w*(?:b_?1950|1950|fk4)\w*",
}
_ANGLES = {"deg": "deg", "degree": "deg", "degrees": "deg", "rad": "rad", "radian": "rad", "radians": "rad"}


def galactic_role(name: str) -> str:
    """Tell whether a column is a galactic coordinate by its name.

    Parameters
    ----------
    name : str
        Name of the column.

    Returns
    -------
    str
        "longitude", "latitude", or "" for any other name, "l" and "b" among them.
    """
    plain = normal_name(name)
    return next((role for pair in GALACTIC for role, known in zip(_ROLES, pair, strict=True) if plain == known), "")


def other_frame(name: str) -> str:
    """Tell which other coordinates than right ascension and declination a column holds by its name.

    Parameters
    ----------
    name : str
        Name of a column that is given as a position.

    Returns
    -------
    str
        "galactic", "supergalactic", "ecliptic", "B1950 (FK4)", or "" for any other name.
    """
    plain = normal_name(name).strip("_")
    return next((frame for frame, names in _OTHER_FRAMES.items() if re.fullmatch(names, plain)), "")


def angle_columns(table: ColumnTable) -> frozenset[str]:
    """Give the columns that are angles: by their unit, or as one of a pair such as l and b, lambda and beta.

    Parameters
    ----------
    table : ColumnTable
        The table.

    Returns
    -------
    frozenset of str
        Their names, which may be those of luminosities where they stand alone.
    """
    by_name = {normal_name(name): name for name in table.names}
    pairs = [pair for pair in _PAIRS if all(one in by_name for one in pair)]
    by_unit = [name for name, unit in table.units.items() if unit.strip().lower() in _ANGLES]
    return frozenset(by_unit).union(by_name[one] for pair in pairs for one in pair)


def dotted_pair(table: ColumnTable, notes: list[str]) -> tuple[str, str] | None:
    """Find the columns "NAME.ra" and "NAME.dec" that astropy writes for a SkyCoord.

    Parameters
    ----------
    table : ColumnTable
        The table.
    notes : list of str
        A note says which were taken, or that there are several.

    Returns
    -------
    tuple of (str, str) or None
        Their names, if there is one such pair.
    """
    stems = [name.removesuffix(".ra") for name in table.names if name.endswith(".ra")]
    return _only([(f"{stem}.ra", f"{stem}.dec") for stem in stems if f"{stem}.dec" in table.names], notes)


def from_galactic(
    table: ColumnTable, unit: str | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, str]] | None:
    """Find galactic coordinates, and convert them to right ascension and declination.

    Parameters
    ----------
    table : ColumnTable
        The table.
    unit : str or None
        The unit that the user gave, for columns that state none.
    notes : list of str
        What was used and converted, or why nothing was, is added to it.

    Returns
    -------
    ra, dec : Float[np.ndarray, "row"]
        ICRS [deg]; NaN where the coordinates are no angles.
    names : tuple of (str, str)
        The columns that they are from.

    None where there are none, or no certain ones.
    """
    from astropy.coordinates import SkyCoord

    by_name = {normal_name(name): name for name in table.names}
    pairs = [(by_name[lon], by_name[lat]) for lon, lat in GALACTIC if lon in by_name and lat in by_name]
    if not pairs and all(short in by_name for short in _SHORT):
        short = (by_name[_SHORT[0]], by_name[_SHORT[1]])
        if all(table.units.get(name, "").lower() in _ANGLES for name in short):
            pairs = [short]
        else:
            notes.append(
                f"columns {short[0]!r} and {short[1]!r} are not used: where they are galactic coordinates, call them"
                " GLON and GLAT, or state their unit (deg)"
            )
    names = _only(pairs, notes)
    if names is None:
        return None
    told = {(table.units.get(name) or unit or "deg").lower() for name in names}
    known = {_ANGLES.get(one) for one in told}
    if len(known) > 1 or None in known:
        notes.append(f"no positions: {names[0]!r} and {names[1]!r} are in {' and '.join(sorted(told))}: convert to deg")
        return None
    lon, lat = (as_float64(table.column(name), f"column {name!r} of {table.label}") for name in names)
    lon, lat = (np.rad2deg(angle) if known == {"rad"} else angle for angle in (lon, lat))
    with np.errstate(invalid="ignore"):
        good = (np.abs(lon) <= 360.0) & (np.abs(lat) <= 90.0)
    icrs = SkyCoord(l=np.where(good, lon, 0.0), b=np.where(good, lat, 0.0), unit="deg", frame="galactic").icrs
    taken = "" if unit or table.units.get(names[0]) else ", taken to be in degrees,"
    notes.append(
        f"positions: the galactic coordinates {names[0]!r} and {names[1]!r}{taken} converted to right ascension and"
        " declination (ICRS)"
    )
    return np.where(good, icrs.ra.deg, np.nan), np.where(good, icrs.dec.deg, np.nan), names


def _only(pairs: list[tuple[str, str]], notes: list[str]) -> tuple[str, str] | None:
    """The only pair of columns; a note where there are several."""
    if len(pairs) > 1:
        notes.append(f"no positions: {', '.join(' with '.join(pair) for pair in pairs)} may be it, and only one can be")
    return pairs[0] if len(pairs) == 1 else None


def sky_columns(name: str, column: Any) -> tuple[dict[str, np.ndarray], str]:
    """Give a SkyCoord column as two columns of numbers, as astropy writes them into files.

    Parameters
    ----------
    name : str
        Name of the column.
    column : astropy.coordinates.SkyCoord
        The column.

    Returns
    -------
    columns : dict of str to Float[np.ndarray, "row"]
        "NAME.ra" and "NAME.dec", ICRS [deg]; empty where astropy cannot convert its frame.
    note : str
        What was done.
    """
    try:
        icrs = column.icrs
    except Exception:  # of many types, where a frame lacks a time or a place
        return (
            {},
            f"column {name!r} is a SkyCoord ({column.frame.name}) and not used: astropy cannot convert it to ICRS",
        )
    frame = "" if column.frame.name == "icrs" else ", converted to ICRS"
    return (
        {f"{name}.ra": np.asarray(icrs.ra.deg), f"{name}.dec": np.asarray(icrs.dec.deg)},
        f"column {name!r} is a SkyCoord ({column.frame.name}): read as {name}.ra and {name}.dec{frame}",
    )
