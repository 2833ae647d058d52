"""The position of each row from a table's columns, whatever way its angles are written in."""

import re

import numpy as np

from massmap_jax.catalogue.angles import combine_parts, is_sexagesimal, sexagesimal
from massmap_jax.catalogue.column_names import choose_column, split_angle_parts
from massmap_jax.catalogue.columns import ColumnTable, as_float64, rows_text
from massmap_jax.catalogue.positions import check_positions
from massmap_jax.catalogue.sky_frames import dotted_pair, from_galactic, galactic_role, other_frame
from massmap_jax.catalogue.units import unit_in_name
from massmap_jax.errors import MassmapError

_UNITS = {
    **dict.fromkeys(("deg", "degree", "degrees", "degr"), "deg"),
    **dict.fromkeys(("hourangle", "h", "hr", "hour", "hours"), "hourangle"),
    **dict.fromkeys(("arcmin", "arcminute", "arcminutes"), "arcmin"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
}
# Names of the other coordinate.
_SWAPPED = {
    "ra": re.compile(r"_?(?:decl?(?![a-z])|declination|de(?![a-z])|dej2000|de_?deg|dec_?deg)", re.IGNORECASE),
    "dec": re.compile(r"_?(?:ra(?![a-z])|right_?asc\w*|raj2000|ra_?deg)", re.IGNORECASE),
}
_RIGHT_ASCENSION = r"RA(?![a-z])|Ra(?![a-z])|(?<![a-zA-Z0-9])ra(?![a-z])"
# Errors of positions, and proper motions.
_NO_POSITION = re.compile(r"(?i)(?:^|_)(?:e|pm|sig|unc|std)_?(?=ra)|(?:^|[_ ])(?:e|pm|sig|unc|std)(?:$|[_ ])|err|sigma")
# VizieR's units of sexagesimal text, which its cells tell better.
_SEXAGESIMAL_UNITS = ("h:m:s", "d:m:s", "hms", "dms", "hh:mm:ss", "dd:mm:ss", '"h:m:s"', '"d:m:s"', "hourangle", "deg")


def find_positions(
    table: ColumnTable, ra: str | None, dec: str | None, unit: str | None, field_centre, notes: list[str]
) -> tuple[dict, dict[str, str]]:
    """Find and read the position columns.

    Columns that the user named must be usable. Guessed ones that are not cost the map, not the masses: a note says so.

    Parameters
    ----------
    table : ColumnTable
        The table.
    ra, dec : str or None
        The columns that the user named.
    unit : str or None
        The unit that the user gave.
    field_centre : tuple of (float, float) or None
        RA and Dec [deg] of the origin of offsets in arcmin.
    notes : list of str
        Guesses and conversions are added to it.

    Returns
    -------
    position : dict
        `ra`, `dec`, `position_unit` and `field_centre` as `HaloCatalogue.from_arrays` takes them; empty where there is
        no position.
    names : dict of str to str
        The columns "ra" and "dec" that they are from.

    Raises
    ------
    MassmapError
        For columns that the user named (or told the unit of) and that cannot be used.
    """
    if any(given is not None for given in (ra, dec, unit, field_centre)):
        return _read_positions(table, ra, dec, unit, field_centre, notes)
    more: list[str] = []
    try:
        found, names = _read_positions(table, ra, dec, unit, field_centre, more)
        if found:
            check_positions(**found)
    except MassmapError as error:
        notes.append(f"no positions, and so no map: {error} (ra= and dec= choose columns)")
        return {}, {}
    notes.extend(more)
    return found, names


def _read_positions(table, ra, dec, unit, field_centre, notes) -> tuple[dict, dict[str, str]]:
    for option, name in (("ra", ra), ("dec", dec)):
        if name is not None and galactic_role(name):
            raise MassmapError(
                f"{option} is {name!r} of {table.label}, by its name a galactic {galactic_role(name)}: leave ra and dec"
                " out, and galactic coordinates are converted where there are no others"
            )
        if name is not None and (frame := other_frame(name)):
            raise MassmapError(
                f"{option} is {name!r} of {table.label}, by its name a coordinate of the {frame} frame: convert"
                " positions to right ascension and declination (ICRS or J2000), or rename the column where it is one"
            )
        if name is not None and _SWAPPED[option].match(name):
            raise MassmapError(
                f"{option} is {name!r} of {table.label}, by its name the other coordinate: ra and dec look swapped"
            )
    parts = split_angle_parts(table.names)
    ra_name, ra_notes = choose_column(table, "ra", ra, "ra")
    dec_name, dec_notes = choose_column(table, "dec", dec, "dec")
    if (ra_name is None) != (dec_name is None):
        found, lacking = ("dec", "ra") if ra_name is None else ("ra", "dec")
        if ra is not None or dec is not None:
            raise MassmapError(
                f"{found} has a column but {lacking} has none in {table.label}: give both {found} and {lacking}"
            )
        notes.extend(ra_notes + dec_notes)
        notes.append(f"no positions: a column for {found} was found, but none for {lacking}")
        return {}, {}
    if ra_name is None:
        pair = dotted_pair(table, notes)
        converted = from_galactic(table, unit, notes) if pair is None else None
        if converted is not None:
            position = {"ra": converted[0], "dec": converted[1], "position_unit": "deg", "field_centre": field_centre}
            return position, dict(zip(("ra", "dec"), converted[2], strict=True))
        if pair is None:
            alike = _alike(table.names)
            if alike:
                shown = ", ".join(f"{a!r} and {b!r}" for a, b in alike[:4])
                notes.append(
                    f"no positions: no columns have their usual names; by their names {shown} may be some: choose"
                    " them with ra= and dec="
                )
            return {}, {}
        ra_name, dec_name = pair
        notes.append(f"positions: columns {ra_name!r} and {dec_name!r}")
    names = {"ra": ra_name, "dec": dec_name}
    notes.extend(ra_notes + dec_notes)
    angles, units = [], []
    for role, name in (("ra", ra_name), ("dec", dec_name)):
        values, found = _angle(table, parts, role, name, unit, notes)
        angles.append(values)
        units.append(found)
    _refuse_lost_sign(table, parts, dec_name, angles[1])
    if None not in units:  # both are degrees by now
        return {"ra": angles[0], "dec": angles[1], "position_unit": "deg", "field_centre": field_centre}, names
    if units == [None, None]:
        unit = _common_unit(table, ra_name, dec_name, unit, field_centre, notes)
    else:
        plain = ra_name if units[0] is None else dec_name
        told = _UNITS.get(table.units.get(plain, "").lower(), unit or "deg")
        if told == "hourangle" and plain == ra_name:
            angles[0] = angles[0] * 15.0
        elif told != "deg" and not (told == "hourangle" and unit == told):
            raise MassmapError(
                f"{plain!r} of {table.label} is in {told} and the other coordinate is sexagesimal: write both alike"
            )
        unit = "deg"
    return {"ra": angles[0], "dec": angles[1], "position_unit": unit, "field_centre": field_centre}, names


def _alike(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Find pairs of names that differ in RA and Dec alone, as "RA_avg" and "Dec_avg" do; none of errors."""
    found = []
    for name in names:
        if not _NO_POSITION.search(name):
            parts = ((name[: at.start()], name[at.end() :]) for at in re.finditer(_RIGHT_ASCENSION, name))
            others = (f"{first}{dec}{last}" for first, last in parts for dec in ("DEC", "Dec", "dec", "DE", "De"))
            found += [(name, other) for other in others if other in names]
    return found


def without_zeros(position: dict, like: dict, notes: list[str]) -> dict:
    """Take away positions of exactly 0, 0 on the sky, as tables write that none is known.

    Parameters
    ----------
    position : dict
        As `find_positions` gives it.
    like : dict
        The same of rows that tell what positions are like: those of the table, or of the catalogue it is a part of.
    notes : list of str
        What was taken for a placeholder is added; of one row alone it is told and nothing done.

    Returns
    -------
    dict
        With NaN in place of them, where there are several and other positions beside.
    """
    if not (position and like) or position["position_unit"] == "arcmin":
        return position
    zero = (position["ra"] == 0) & (position["dec"] == 0)
    known = (like["ra"] == 0) & (like["dec"] == 0)
    if not zero.any() or known.sum() == np.isfinite(like["ra"] + like["dec"]).sum():
        return position
    where = f"ra and dec are exactly 0 in {rows_text(zero, position['ra'])}"
    if known.sum() < 2:
        notes.append(f"{where}: taken as a position; where it means that none is known, leave it blank")
        return position
    notes.append(f"{where}: taken as not known (POSITION_BAD)")
    return position | {axis: np.where(zero, np.nan, position[axis]) for axis in ("ra", "dec")}


def _angle(table, parts, role: str, name: str, unit: str | None, notes: list[str]):
    """Read one coordinate: its values, and "deg" if they are degrees by now, None if their unit is still to be told."""
    first = parts.get("ra_hour" if role == "ra" else "dec_degree")
    beside = [parts[part] for part in (f"{role}_minute", f"{role}_second") if part in parts]
    if name == first and beside:
        return _from_parts(table, parts, role, notes), "deg"
    values = table.column(name)
    where = f"{role} column {name!r} of {table.label}"
    if not is_sexagesimal(values):
        numbers = as_float64(values, where)
        if values.dtype.kind in "OSU" and np.isfinite(numbers).any():
            notes.append(f"{role} column {name!r} holds text: its cells were read as numbers")
        return numbers, None
    angle, told, bad = sexagesimal(values, where)
    in_file = table.units.get(name, "")
    if unit in ("arcmin", "rad") or (in_file and in_file.lower() not in _SEXAGESIMAL_UNITS and in_file not in _UNITS):
        raise MassmapError(f"{where} is sexagesimal, and its unit is {unit or in_file!r}: hours or degrees are meant")
    if role == "dec":
        if told == "hourangle":
            raise MassmapError(f"{where} is in hours: ra and dec look swapped")
        scale, shown = 1.0, "degrees"
    else:
        degrees = unit == "deg" or (unit is None and in_file.strip('"').lower() in ("d:m:s", "dms", "dd:mm:ss"))
        in_degrees = told == "deg" or (told == "" and degrees)
        scale, shown = (1.0, "degrees") if in_degrees else (15.0, "hours")
        beyond = np.isfinite(angle) & (angle > 24.0)
        if not in_degrees and beyond.any():
            raise MassmapError(
                f"{where} is beyond 24 hours in {rows_text(beyond, values)}: if it is in degrees, minutes and seconds, "
                "give position_unit='deg'"
            )
    notes.append(f"{role} column {name!r} is sexagesimal: read as {shown}, minutes and seconds")
    if bad.any():
        notes.append(f"{where} is no angle in {rows_text(bad, np.ma.getdata(values))}: flagged")
    return angle * scale, "deg"


def _refuse_lost_sign(table, parts, name: str, dec: np.ndarray) -> None:
    """Refuse declinations that are never negative beside a column of signs that has minus signs."""
    if "dec_sign" not in parts or name in (parts.get("dec_degree"), parts["dec_sign"]) or np.any(dec < 0):
        return
    signs = np.ma.filled(np.ma.asarray(table.column(parts["dec_sign"])).astype(object), "").tolist()
    texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in signs]
    minus = np.array([text.strip() in ("-", "\u2212", "-1", "-1.0") for text in texts], dtype=bool)
    if minus.any():
        raise MassmapError(
            f"dec column {name!r} of {table.label} is never negative, and {parts['dec_sign']!r} beside it has a minus"
            f" sign in {rows_text(minus, texts)}: give the column its sign"
        )


def _from_parts(table, parts, role: str, notes: list[str]) -> np.ndarray:
    """Combine a coordinate that is split over columns to degrees."""
    keys = [f"{role}_{part}" for part in ("hour" if role == "ra" else "degree", "minute", "second")]
    signs = parts.get("dec_sign") if role == "dec" else None
    used = [parts[key] for key in keys if key in parts]
    listed = " ".join([*([signs] if signs else []), *used])
    where = f"{role} columns {listed} of {table.label}"
    if keys[1] not in parts:
        raise MassmapError(f"{where}: a column of minutes is missing, so they cannot be combined to an angle")
    first = table.column(parts[keys[0]])
    minutes, seconds = (
        as_float64(table.column(parts[key]), where) if key in parts else np.zeros(len(first)) for key in keys[1:]
    )
    angle = combine_parts(
        first,
        minutes,
        seconds,
        None if signs is None else table.column(signs),
        where=where,
        most=24.0 if role == "ra" else 90.0,
    )
    notes.append(f"{role}: combined from columns {listed}, {'hours' if role == 'ra' else 'degrees'} first")
    return angle * (15.0 if role == "ra" else 1.0)


def _unit_in_name(name: str) -> str:
    """Give the unit of an angle that its name states, as in "ra [rad]" or "dec_rad"; "" where there is none."""
    unit = unit_in_name(name)
    if not unit and name.lower().endswith(("_rad", "_radian", "_radians")):
        unit = "rad"
    return unit if unit.lower() in _UNITS else ""


def _common_unit(table, ra_name, dec_name, given: str | None, field_centre, notes: list[str]) -> str:
    """Give the unit of both coordinates: the one given, the one in the file, or a guess with a note."""
    told = {}
    for role, name in (("ra", ra_name), ("dec", dec_name)):
        unit = table.units.get(name, "").strip() or _unit_in_name(name)
        known = _UNITS.get(unit.lower())
        if known is None and unit and given is None:
            raise MassmapError(f"{role} column {name!r} of {table.label} is in {unit!r}: convert positions to degrees")
        told[role] = known
    if given is not None:
        # Declinations of positions in hours are in degrees.
        of_dec = "deg" if given == "hourangle" else given
        if told["ra"] not in (None, given) or told["dec"] not in (None, given, of_dec):
            in_file = table.units.get(ra_name, "") or table.units.get(dec_name, "")
            notes.append(f"position unit: {given} as given, in place of {in_file!r} in the file")
        return given
    ra_unit, dec_unit = told["ra"] or told["dec"], told["dec"] or told["ra"]
    if ra_unit is not None:
        if dec_unit not in ((ra_unit, "deg") if ra_unit == "hourangle" else (ra_unit,)) or told["dec"] == "hourangle":
            raise MassmapError(
                f"ra column {ra_name!r} of {table.label} is in {ra_unit} and dec column {dec_name!r} in {dec_unit}:"
                " convert both to degrees"
            )
        return ra_unit
    lower = ra_name.lower()
    if lower in ("rah", "ra_h", "ra_hour", "ra_hours", "ra_hr"):
        guess = "hourangle"
    else:
        guess = "arcmin" if "arcmin" in lower or field_centre is not None else "deg"
    notes.append(f"position unit: not stated, taken as {guess}")
    return guess
