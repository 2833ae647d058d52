"""Whether the columns that were chosen can be what they are taken for: no redshifts, errors, repeated rows."""

import contextlib
import re
from collections.abc import Collection

import numpy as np

from massmap_jax.catalogue.column_names import USUAL_NAMES, normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_float64, is_positive_sentinel, rows_text
from massmap_jax.catalogue.halo_catalogue import HIGHEST_REDSHIFT, HaloCatalogue
from massmap_jax.catalogue.luminosity import named_log
from massmap_jax.catalogue.positions import unit_vectors
from massmap_jax.catalogue.units import is_log_unit, unit_factor
from massmap_jax.errors import MassmapError

# Magnitudes in the z band are above, as no redshift is of a table with the other bands beside.
_FAINTEST_BAND, _BANDS = 10.0, ("g", "r", "i")
# Objects closer than 10 arcsec [rad] and this in dz/(1+z) may be one; among more of them that is not looked for.
_NEAR, _SAME_Z, _MANY = np.deg2rad(10 / 3600), 0.005, 50_000
# Units of a number without one, and what tables write for a redshift.
_NO_UNIT = ("", "-", "--", "---", "1", "none", "null", "nan", "na", "n/a", "dimensionless", "unitless", "redshift", "z")
_DISTANCES = (
    r"d_?[aclm](?:_.*)?|d_?(?:ang|lum|com|mod)\w*|dist(?:ance|mod)?(?:_.*)?|\w+_dist(?:ance)?(?:_\w*pc)?|chi|comoving.*"
    r"|lookback.*|t_?(?:lb|lookback)(?:_.*)?|age(?:_.*)?"
)
_VELOCITIES = (
    r"cz(?:_.*)?|v_?(?:rad(?:ial)?|hel(?:io)?|r|rec(?:ession)?|los|cmb|lsr)?|(?:\w+_)?vel(?:ocity)?(?:_.*)?|rv"
)
# What a description says that a column is in place of redshifts, and what is to be given.
_REDSHIFT_OF = {
    "log": "give the redshift itself",
    "plus": "subtract 1",
    "velocity": "give it over the speed of light, 299792.458 km/s",
    "scale": "give 1/a - 1",
}
_NO_REDSHIFT = re.compile(
    r"(?i)(?P<log>\b(?:log_?(?:10)?|lg|ln)\s*\(?\s*(?:1\s*\+\s*z|z\s*\+\s*1)\b)|^(?:\w+ ){0,2}(?P<velocity>velocity)\b"
    r"|^\(?(?P<plus>1\s*\+\s*z)\b|^(?:the )?(?P<scale>(?:scale|expansion) factor)\b"
)
USED_BY_MASSES = "; z_err= takes them into account"
"""How the note on errors of redshifts ends; not where nothing takes them."""
_AXES = ("x", "y", "z")
_ON_THE_SKY = ("deg", "degree", "degrees", "arcmin", "arcsec", "rad", "pix", "pixel", "pixels")
# The sides of a box that objects fill differ by less.
_ALIKE = 1.5
# Fewer redshifts may be within any range.
_SEVERAL = 5
# Two redshifts of an object differ by less, |dz| / (1 + z), but for some that went wrong.
_SAME, _WRONG = 0.1, 0.3


def refuse_errors(
    table: ColumnTable, lum: str, z: str, sigma: str | float | None, z_err: str | float | None = None
) -> None:
    """Refuse a luminosity or redshift whose name is that of the error of another column.

    Parameters
    ----------
    table : ColumnTable
        The table.
    lum, z : str
        The columns that were chosen.
    sigma, z_err : str or float or None
        The errors of the luminosity and of the redshift, where they were given.

    Raises
    ------
    MassmapError
        For "e_L500" beside "L500", or "zerr" beside "z", and for one column in two roles.
    """
    names = {normal_name(name): name for name in table.names}
    for option, name in (("lum", lum), ("z", z)):
        found = re.fullmatch(r"(?:e_|err_)(.+)|(.+?)_?(?:err|error)", normal_name(name))
        of = None if found is None else names.get(found[1] or found[2])
        if of is not None and of != name:
            raise MassmapError(
                f"{option} is {name!r} of {table.label}, by its name the error of {of!r}: choose {option}={of!r}, or"
                " rename the column where it is none"
            )
    roles = {"sigma": sigma, "z_err": z_err, "z": z, "lum": lum}
    for first, second in (("sigma", "z"), ("z_err", "z"), ("z_err", "lum"), ("z_err", "sigma")):
        given = roles[first]
        if isinstance(given, str) and given == roles[second] and given in table.names:
            raise MassmapError(
                f"{first} and {second} are both column {given!r} of {table.label}: choose the error of the"
                f" {'luminosity' if first == 'sigma' else 'redshift'}"
            )


def note_errors_of_others(
    table: ColumnTable, values: tuple[str, str], errors: tuple[str | float | None, str | float | None], notes: list[str]
) -> None:
    """Say where the error that was chosen is, by its name, that of another column than the value.

    Parameters
    ----------
    table : ColumnTable
        The table.
    values : tuple of str
        The columns of the luminosity and of the redshift.
    errors : tuple of (str or float or None)
        Those of their errors, where they are columns.
    notes : list of str
        A note is added for "e_zphot" beside "zspec" where there is a column "zphot".
    """
    names = {normal_name(name): name for name in table.names}
    for value, error in zip(values, errors, strict=True):
        if not isinstance(error, str):
            continue
        words = r"err(?:or)?|unc|sigma|sig|std"
        found = re.fullmatch(rf"(?:e|d|{words})_?(.+)|(.+?)_?(?:{words})", normal_name(error))
        of = None if found is None else names.get(found[1] or found[2])
        if of is not None and normal_name(of) not in (normal_name(value), normal_name(error)):
            notes.append(
                f"the error {error!r} is by its name that of {of!r}, and the value is {value!r}: see whether they"
                " belong together"
            )


def refuse_unit_of_redshift_error(table: ColumnTable, name: str) -> None:
    """Refuse an error of redshifts in a unit, which redshifts have none of.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column of the errors.

    Raises
    ------
    MassmapError
        For velocities, per cent, magnitudes, and any other unit.
    """
    unit = table.units.get(name, "").strip()
    where = f"z_err column {name!r} of {table.label} is in {unit!r}"
    if re.search(r"m\s*/\s*s(?![a-z])|m\s*s\s*\^?\**-?1", unit):
        raise MassmapError(f"{where}, a velocity: divide it by the speed of light, 299792.458 km/s")
    if unit in ("%", "percent", "per cent"):
        raise MassmapError(
            f"{where}: give the error of z as a number, or the error over 1 + z as one, with z_err_kind='relative'"
        )
    if unit.lower() not in _NO_UNIT and (_is_dimensional(unit) or unit.lower() in ("mag", "dex")):
        raise MassmapError(f"{where}, and a redshift has no unit: choose z_err=, or take the unit away")


def refuse_no_redshift(table: ColumnTable, name: str, z: np.ndarray) -> None:
    """Refuse a redshift column that holds something else, by its unit, its name or its values.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column.
    z : Float[np.ndarray, "row"]
        Its values.

    Raises
    ------
    MassmapError
        For velocities, distances, scale factors, logarithms, magnitudes, and any unit.
    """
    unit = table.units.get(name, "")
    good = z[np.isfinite(z) & (z > 0) & ~is_positive_sentinel(z)][: 0 if table.few else None]
    shown = f"(unit {unit!r}, first row 0 with value {float(z[0])!r})" if z.size else f"(unit {unit!r})"
    where = f"redshift column {name!r} of {table.label}"
    if "km" in unit or "m / s" in unit or (good.size and np.median(good) > 200.0):
        raise MassmapError(f"{where} looks like a velocity {shown}: divide it by the speed of light, 299792.458 km/s")
    if re.fullmatch(_VELOCITIES, normal_name(name)):
        raise MassmapError(
            f"{where} is a velocity by its name {shown}: give it over the speed of light, 299792.458 km/s"
        )
    described = " ".join(table.descriptions.get(name, "").split())
    if found := re.search(_NO_REDSHIFT, described):
        raise MassmapError(
            f"{where} is described as {described!r} {shown}: {_REDSHIFT_OF[found.lastgroup or '']}, or correct the"
            " description"
        )
    plain = re.sub(r"[\s_()]", "", name.lower())
    if plain in ("1+z", "z+1", "zp1", "onepz", "oneplusz", "zplus1", "zplusone", "1pz", "1plusz", "opz"):
        raise MassmapError(f"{where} is 1 + z by its name {shown}: subtract 1")
    if plain in ("a", "aexp", "expfac", "expansionfactor", "scalefactor", "scalefac", "scale", "ascale", "snapa"):
        raise MassmapError(f"{where} is a scale factor by its name {shown}: give z = 1/a - 1")
    if re.fullmatch(_DISTANCES, normal_name(name)):
        raise MassmapError(f"{where} is a distance or a time by its name {shown}: give the redshift")
    if re.fullmatch(r"(?:e|err|sigma|sig|d|delta)_?z|z_?(?:e|err|error|unc|sigma|sig|std|width)", normal_name(name)):
        raise MassmapError(f"{where} is an error of redshifts by its name {shown}: give the redshift")
    if named_log(name) or is_log_unit(unit):
        raise MassmapError(f"{where} is a logarithm by its name or unit {shown}: give the redshift itself")
    if re.search(r"(?<![A-Za-z])[kMG]?(?:pc|yr)(?![A-Za-z])", unit):
        raise MassmapError(f"{where} is a distance or a time by its unit {shown}: give the redshift")
    if unit.strip().lower() not in _NO_UNIT and (_is_dimensional(unit) or re.search(r"(?i)solar|z_?sun", unit)):
        raise MassmapError(f"{where} is no redshift by its unit {shown}: choose z=, or take the unit away")
    bands = sum(normal_name(other) in _BANDS for other in table.names)
    if good.size and np.median(good) > _FAINTEST_BAND and bands == len(_BANDS):
        raise MassmapError(f"{where} holds magnitudes in the z band, beside g, r and i {shown}: choose z=")
    if good.size and np.median(good) > HIGHEST_REDSHIFT:
        raise MassmapError(
            f"{where} holds no redshifts, half of them are above {HIGHEST_REDSHIFT:g} {shown}: choose z="
        )


def _is_dimensional(unit: str) -> bool:
    """Tell whether a text is a unit of something that has one; words that are none say nothing."""
    from massmap_jax.catalogue.units import is_unit

    return is_unit(unit) and unit_factor(unit, "1") is None and unit_factor(unit, "%") is None


def coordinates_in_a_box(table: ColumnTable) -> frozenset[str]:
    """Tell whether a column called z is the third coordinate of a simulation, beside x and y.

    Parameters
    ----------
    table : ColumnTable
        The table.

    Returns
    -------
    frozenset of str
        Its name, where x, y and z come with velocities vx, vy and vz, are lengths by their units or reach equally far;
        empty for x and y that are angles or pixels, beside which z is a redshift.
    """
    by_name = {normal_name(name): name for name in table.names}
    if not all(axis in by_name for axis in _AXES):
        return frozenset()
    names = [by_name[axis] for axis in _AXES]
    units = [table.units.get(name, "") for name in names]
    if any(unit.strip().lower() in _ON_THE_SKY for unit in units[:2]):
        return frozenset()
    moving = all(f"v{axis}" in by_name for axis in _AXES)
    if moving or any(re.search(r"(?<![A-Za-z])[kMG]?pc(?![A-Za-z])", unit) for unit in units):
        return frozenset(names[2:])
    whole = table if table.sample is None else table.sample
    with contextlib.suppress(MassmapError):  # a column of text is no coordinate
        reach = [np.nanmax(np.abs(as_float64(whole.column(name), name)), initial=0.0) for name in names]
        if 0.0 < max(reach) < _ALIKE * min(reach):
            return frozenset(names[2:])
    return frozenset()


def note_masses_of_this_program(table: ColumnTable, lum: str, notes: list[str]) -> None:
    """Say where the luminosity is a mass that this program inferred: a mass function is in it already.

    Parameters
    ----------
    table : ColumnTable
        The table.
    lum : str
        The column that was chosen.
    notes : list of str
        The note is added.
    """
    ours = {"log10_mass_sd", "log10_host_mass_sd"} & set(table.names)
    inferred = r"log10_(?:host_)?mass_(?!true)\w+|(?:host_|central_)?mass_mean"
    if ours and re.fullmatch(inferred, lum):
        notes.append(
            f"{lum!r} is a mass that was inferred with a mass function: as an observable, this function counts twice;"
            " what was observed is in 'ln_lum_obs' (lum_log='ln')"
        )


def refuse_other_redshifts(table: ColumnTable, name: str, z: np.ndarray, never: Collection[str] = frozenset()) -> None:
    """Refuse a guessed redshift where another column of redshifts has other values: "Z" may be a metallicity.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column that was guessed.
    z : Float[np.ndarray, "row"]
        Its values.
    never : collection of str, optional
        Columns that are known to hold something else.

    Raises
    ------
    MassmapError
        Where more than 30 % of the values differ by more than 0.1 (1 + z).
    """
    usual = set().union(*USUAL_NAMES["redshift"][:2])
    for other in table.names:
        if other == name or other in never or normal_name(other) not in usual:
            continue
        with contextlib.suppress(MassmapError):  # a column of text is no second opinion
            values = as_float64(table.column(other), other)
            both = (z > 0) & (values > 0) & ~is_positive_sentinel(values) & ~is_positive_sentinel(z)
            differ = both & (np.abs(values - z) > _SAME * (1 + np.minimum(z, values)))
            if differ.sum() <= _WRONG * both.sum():
                continue
            row = int(np.argmax(differ))
            told = (
                f"{name!r} of {table.label} would be guessed for the redshift, and {other!r} has other values in"
                f" {differ.sum()} of {both.sum()} rows, first row {row} ({z[row]:g} and {values[row]:g}): choose one"
                " with z="
            )
            break
    else:
        return
    raise MassmapError(told)


def note_redshifts_of_zero(name: str, z: np.ndarray, notes: list[str]) -> None:
    """Say where redshifts are all those that 1 + z or a scale factor is, or 0 among others, as where none is known.

    Parameters
    ----------
    name : str
        The column.
    z : Float[np.ndarray, "row"]
        Its values.
    notes : list of str
        The note is added.
    """
    known = z[np.isfinite(z) & (z > 0) & ~is_positive_sentinel(z)]
    if known.size > 2 and known.min() >= 1.0 and known.max() < 2.0:
        notes.append(
            f"every redshift in {name!r} is between {known.min():g} and {known.max():g}: if these are 1 + z, subtract 1"
        )
    elif known.size >= _SEVERAL and known.min() > 0.5 and known.max() <= 1.0:
        notes.append(
            f"every redshift in {name!r} is between {known.min():g} and {known.max():g}: if these are scale factors,"
            " a = 1 / (1 + z), give 1 / a - 1"
        )
    zero = z == 0
    if zero.any() and (z > 0).any():
        notes.append(
            f"redshift column {name!r} is 0 in {rows_text(zero, z)}: taken as it is; where 0 means that none is known,"
            " leave these rows out or blank"
        )


def note_redshift_errors(table: ColumnTable, z_name: str, notes: list[str]) -> None:
    """Say that errors of the redshift, or its bounds, which a catalogue may have, are not used.

    Parameters
    ----------
    table : ColumnTable
        The table.
    z_name : str
        The column of the redshift.
    notes : list of str
        The note is added.
    """
    roots = {re.escape(root) for root in (z_name.lower(), "z", "redshift", "zphot", "z_phot", "photoz", "z_best")}
    error = rf"(?:e_|err_|d|sigma_|sig_)(?:{'|'.join(roots)})|(?:{'|'.join(roots)})_?(?:err(?:or)?|unc|sigma|e|std)"
    error = rf"(?:{error})(?:_?(?:lo|low|lower|hi|high|up|upper|minus|plus))?"
    bound = rf"(?:{'|'.join(roots)})_?(?:lo|low|lower|hi|high|upper|min|max|l|u)_?\d*"
    photometric = (
        r"(?:lp_)?(?:photo_?z|z_?photo?|zpdf|z_b)_(?:\w*_)?(?:err|std|sigma|unc|min|max|[luh]68|[luh]95)\w*(?<!mag)"
    )
    found = [name for name in table.names if re.fullmatch(rf"{error}|{bound}|{photometric}", name.strip().lower())]
    if found:
        notes.append(
            f"redshift errors are given ({', '.join(map(repr, found))}) and not used: each redshift is taken as exact"
            + USED_BY_MASSES
        )


# More different values than flags have.
_FEW_FLAGS = 20
# Flags of how sure a spectroscopic redshift is: of GAMA, VIPERS, zCOSMOS, 2dFGRS, 6dFGS, DEEP2, SDSS and DESI.
_QUALITY = (
    r"n_?q|z_?q(?:ual(?:ity)?)?|q_?z|zflg|z_?flag|qop|q_?op|z_?conf(?:idence)?|z_?class|quality_?z|z_?warn(?:ing)?"
)


def note_redshift_quality(table: ColumnTable, notes: list[str]) -> None:
    """Say that flags of how sure redshifts are, which surveys of spectra have, are not used.

    Parameters
    ----------
    table : ColumnTable
        The table.
    notes : list of str
        The note is added, with the values that occur; of a warning that is never raised nothing is said.
    """
    for name in table.names:
        if re.fullmatch(_QUALITY, normal_name(name)) is None:
            continue
        cells = (table.sample or table).column(name)
        if np.ndim(cells) != 1 or cells.dtype.kind not in "iuf" or cells.size == 0:
            continue
        values, number = np.unique(np.asarray(cells)[np.isfinite(np.asarray(cells, dtype=float))], return_counts=True)
        if values.size > 1 and values.size <= _FEW_FLAGS:
            listed = ", ".join(f"{value:g} in {count}" for value, count in zip(values, number, strict=True))
            notes.append(
                f"{name!r} is by its name a flag of how sure redshifts are, and is not used ({listed} rows): leave rows"
                " whose redshift is a guess out of the file"
            )


def refuse_summary_rows(label: str, ids: np.ndarray | None) -> None:
    """Refuse rows that summarise the others, as spreadsheets have them at the end: their ids are "Mean" or "Total".

    Parameters
    ----------
    label : str
        What to call the table.
    ids : np.ndarray, (row,) or None
        The ids.

    Raises
    ------
    MassmapError
        For ids that are such words.
    """
    if ids is None or ids.dtype.kind not in "OSU":
        return
    words = ("mean", "median", "average", "avg", "total", "sum", "std", "stdev", "min", "max", "minimum", "maximum")
    texts = np.ma.filled(np.ma.asarray(ids).astype(object), "").tolist()
    found = np.array([str(text).strip().rstrip(":").lower() in words for text in texts], dtype=bool)
    if found.any():
        raise MassmapError(
            f"{label} has rows that are no objects but summaries by their id: {rows_text(found, texts)}; leave them out"
        )


def repeated_objects(catalogue: HaloCatalogue) -> str:
    """Say which objects are there twice: another row has the same position, redshift and luminosity to the last digit.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.

    Returns
    -------
    str
        The note; empty where there are none, or no positions.
    """
    placed = _rows_with_position(catalogue)
    if placed.size == 0:
        return ""
    ra = np.asarray(catalogue.ra)[placed]
    _, group, size = np.unique(ra, return_inverse=True, return_counts=True)
    placed = placed[size[group] > 1]
    if placed.size == 0:
        return ""
    columns = (catalogue.ra, catalogue.dec, catalogue.redshift, catalogue.ln_lum_obs)
    rows = np.stack([np.asarray(column)[placed] for column in columns], axis=1)
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.ravel()] != np.arange(placed.size))
    if again.size == 0:
        return ""
    row, earlier = placed[again[0]], placed[first[group.ravel()[again[0]]]]
    return (
        f"{again.size} object{'s have' if again.size > 1 else ' has'} the position, redshift and luminosity of another"
        f" row, first row {row} those of row {earlier}: if they are the same objects, each is in the map more than"
        " once; leave the repeated rows out"
    )


def _rows_with_position(catalogue: HaloCatalogue) -> np.ndarray:
    """Rows of the usable objects that have a position; none where there are no columns of positions."""
    if catalogue.ra is None or catalogue.dec is None:
        return np.zeros(0, dtype=int)
    return np.flatnonzero(catalogue.usable & np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec))


def near_objects(catalogue: HaloCatalogue) -> str:
    """Say which objects have another within 10 arcsec at their redshift, where chance has none.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.

    Returns
    -------
    str
        The note; empty where there are none, or no positions, or more than 50,000 objects.

    Notes
    -----
    Lists that were compiled from several surveys hold one cluster under two names and at two centres. What chance and
    clustering do is told by the pairs at 10 to 30 arcsec, an area 8 times as large.
    """
    placed = _rows_with_position(catalogue)
    if catalogue.frame != "sky" or not 1 < placed.size <= _MANY:
        return ""
    from scipy.spatial import cKDTree

    columns = (catalogue.ra, catalogue.dec, catalogue.redshift)
    ra, dec, z = (np.asarray(column, dtype=np.float64)[placed] for column in columns)
    place = unit_vectors(ra, dec)
    pairs = cKDTree(place).query_pairs(3 * _NEAR, output_type="ndarray")
    pairs = pairs[np.abs(np.diff(z[pairs], axis=1)[:, 0]) < _SAME_Z * (1 + z[pairs[:, 0]])]
    separation = np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1)
    near = pairs[separation < _NEAR]
    chance = (separation >= _NEAR).sum() / 8
    if near.shape[0] <= 5 * chance + 3 * np.sqrt(chance):
        return ""
    first = placed[near[np.argmin(near[:, 1])]]
    return (
        f"{near.shape[0]} pair{'s' if len(near) > 1 else ''} of objects lie within 10 arcsec and {_SAME_Z:g} in"
        f" dz/(1+z), rows {first.min()} and {first.max()} for one: if it is one object under two names, its mass is"
        " counted twice; leave one of them out"
    )
