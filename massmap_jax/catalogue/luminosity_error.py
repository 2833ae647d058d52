"""sigma of ln L from a table's error columns: what they are in is told by unit, name or user, and never guessed.

An error in ln L, in dex or in magnitudes is a logarithm's; a bar, a per cent, a fraction or a bound is linear, and
becomes half of the logarithmic interval that it spans.
"""

import re

import numpy as np

from massmap_jax.catalogue.column_names import USUAL_NAMES, bare_name, normal_name
from massmap_jax.catalogue.columns import ColumnTable, is_positive_sentinel, rows_text
from massmap_jax.catalogue.error_levels import check_levels
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.luminosity import Luminosity, named_log, numbers, typical
from massmap_jax.catalogue.magnitudes import LN_PER_MAG, looks_like_magnitudes
from massmap_jax.catalogue.units import LN10, log_kind, sigma_ln_from_bars, strip_log, unit_factor, unit_in_name
from massmap_jax.errors import MassmapError

KINDS = ("ln", "dex", "linear", "percent", "fraction", "mag", "bounds")
# Factors that make an error one in ln L.
_TO_LN = {"ln": 1.0, "dex": LN10, "mag": -LN_PER_MAG}
_OF_LOG = {"ln": "ln", "log10": "dex", "mag": "mag"}
# Median of an error in ln L above which it cannot be one: a factor of 7.
_TOO_WIDE = 2.0
# Bars shorter than this part of the luminosity are no bars: nothing is measured that well.
_TOO_SHORT = 1e-4
# So many luminosities, which differ by so much in ln, do not have one and the same bar by chance.
_SEVERAL, _DIFFER = 5, 1.0
# Such an error is a placeholder where it is less than this part of the others.
_FAR_SHORTER = 1e-3
# So is an error of a factor of 1000, or longer than the luminosity, that is this many times longer than the others.
_NO_ERROR_LN, _FAR_LONGER = 7.0, 20.0
# No logarithm, fraction or percentage of an error is so large.
_NO_SHARE = 1000.0


def read_sigma(
    table: ColumnTable,
    lum: Luminosity,
    notes: list[str],
    *,
    sigma: str | float | None,
    kind: str | None,
    plus: str | None,
    minus: str | None,
    min_snr: float | None,
    choose,
    whole: bool,
) -> tuple[float | np.ndarray, np.ndarray]:
    """Read the error of the luminosity.

    Parameters
    ----------
    table : ColumnTable
        The table.
    lum : Luminosity
        The luminosity column.
    notes : list of str
        What was taken for granted or converted is added to it.
    sigma : str or float or None
        Column of the error, or one number.
    kind : str or None
        One of `KINDS`; None where unit or name are to say.
    plus, minus : str or None
        Columns of the upper and lower bar (or bound).
    min_snr : float or None
        Least signal-to-noise ratio of linear bars; None where the noise is linear, which every bar describes.
    choose : callable
        Finds a column; see `choose_column`.
    whole : bool
        Whether the table is a whole catalogue, whose error column cannot be zero everywhere.

    Returns
    -------
    sigma : Float[np.ndarray, "row"]
        Standard deviation of the error in ln L, or for linear noise as a fraction of the absolute value of L; NaN in
        flagged rows.
    flag : Int[np.ndarray, "row"]
        `Flag` bits of rows whose error cannot be used.

    Raises
    ------
    MassmapError
        For no error at all, arguments that contradict each other, an error that can be read in several ways, or one
        that cannot be what it is called.
    """
    if kind is not None and kind not in KINDS:
        raise MassmapError(f"sigma_kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    if min_snr is not None and not min_snr > 1.0:
        raise MassmapError(f"min_snr is {min_snr!r}: it must be above 1, where a bar reaches zero luminosity")
    if (plus is None) != (minus is None):
        raise MassmapError("sigma_plus and sigma_minus go together: give both bars, or sigma for a symmetric one")
    if plus is not None and sigma is not None:
        raise MassmapError("sigma is given together with sigma_plus and sigma_minus: give one error or two bars")
    if kind == "bounds" and plus is None:
        raise MassmapError(
            "sigma_kind='bounds' needs both bounds: sigma_plus= the upper and sigma_minus= the lower one"
        )
    value = _as_number(sigma, table)
    if value is not None:
        return _constant(lum, value, kind, min_snr, notes)
    if plus is None and sigma is None and (pair := _pair_by_name(table, lum)):
        by = "as CDS calls the two bars" if pair[0].startswith("E_") else "by their names"
        notes.append(f"sigma columns: guessed {pair[0]!r} (upper) and {pair[1]!r} (lower), {by}")
        names = (choose("error", pair[0], "sigma_plus"), choose("error", pair[1], "sigma_minus"))
    elif plus is None:
        names = (_error_column(table, lum, sigma, choose),)
    else:
        names = (choose("error", plus, "sigma_plus"), choose("error", minus, "sigma_minus"))
    return _from_columns(table, lum, names, kind, min_snr, notes, whole)


def open_question(table: ColumnTable, name: str, log: str | None, read) -> str:
    """Say what errors leave open beside a column whose unit nobody states, so that all is asked at once.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The column that they are errors of.
    log : str or None
        Whether it is a logarithm.
    read : callable
        Reads the errors of a `Luminosity`.

    Returns
    -------
    str
        The end of a sentence; empty where they are clear.
    """
    raw = numbers(table, name, "mass", [])
    bare = Luminosity(name, raw, log or "none", "", raw, "", np.zeros(raw.size, np.int32), few=table.few)
    try:
        read(bare)
    except MassmapError as error:
        return f"; and {error}"
    return ""


def _as_number(sigma, table: ColumnTable) -> float | None:
    """Give the number that sigma is or spells, or None where it names a column."""
    if sigma is None or sigma in table.names:
        return None
    try:
        return float(sigma)
    except (TypeError, ValueError):
        return None


def _constant(lum: Luminosity, value: float, kind: str | None, min_snr: float | None, notes: list[str]):
    """One error for all rows, in the unit of the logarithm (ln L for a linear luminosity) unless `kind` says more."""
    if not (np.isfinite(value) and value >= 0):
        raise MassmapError(f"sigma is {value!r}: it must be a finite number, 0 or more")
    if kind is None:
        kind = _OF_LOG.get(lum.log, "ln")
        if value > 0:
            notes.append(f"luminosity error: {value:g} for all, taken to be in {kind} (sigma_kind)")
    return _sigma_ln(lum, np.full(lum.raw.size, value), None, kind, min_snr, "sigma")


# What follows the name of a column in those of its upper and lower bar.
_BARS = (
    ("errplus", "errminus"), ("err_plus", "err_minus"), ("errp", "errm"), ("err_p", "err_m"), ("err_up", "err_low"),
    ("err_upper", "err_lower"), ("err_hi", "err_lo"), ("err_high", "err_low"), ("uerr", "lerr"),
)  # fmt: skip


def _pair_by_name(table: ColumnTable, lum: Luminosity) -> tuple[str, ...]:
    """Give the columns of the upper and the lower bar: E_NAME and e_NAME of CDS, NAME_errPlus and NAME_errMinus."""
    pair = (f"E_{lum.name}", f"e_{lum.name}")
    if all(name in table.names for name in pair):
        return pair
    by_name = {normal_name(name): name for name in table.names}
    stem = normal_name(lum.name)
    for upper, lower in _BARS:
        if f"{stem}_{upper}" in by_name and f"{stem}_{lower}" in by_name:
            return by_name[f"{stem}_{upper}"], by_name[f"{stem}_{lower}"]
    return ()


def _error_column(table: ColumnTable, lum: Luminosity, given: str | None, choose) -> str:
    """Find the column of the error: the one given, or one of the usual name."""
    if given is not None:
        return choose("sigma", given, "sigma")
    lower = lum.name.lower()
    bars: set[str] = set()
    for stem in {lower, bare_name(lum.name)}:  # also without the unit in brackets that it may end with
        bars |= {f"{stem}_err", f"{stem}_error", f"e_{stem}", f"err_{stem}", f"{stem}err"}
        bars |= {f"sigma_{stem}", f"d{stem}", f"{stem}_sigma", f"{stem}_e", f"{stem}_unc", f"{stem}_std"}
    # A column called sigma is a velocity dispersion or a significance in many a table.
    first, *others = USUAL_NAMES["sigma"]
    name = choose("sigma", None, "sigma", usual=(first, bars, *others))
    if name is not None:
        return name
    before = r"[+-]?(?:(?:e|err|error|d|delta|sig|sigma|unc)_?)?"
    near = [c for c in table.names if c.lower() != lower and re.match(before + re.escape(lower), c.lower())]
    seen = f" ({', '.join(near[:6])} may be it)" if near else ""
    raise MassmapError(
        f"{table.label} has no column with a usual name for the error of {lum.name!r}{seen}: give sigma= a"
        " column, or one"
        " number for all rows (0.05 is 5 % in ln L), or sigma_plus= and sigma_minus="
    )


def _from_columns(table, lum, names, kind, min_snr, notes, whole):
    """Read one error column, or the upper and the lower one."""
    check_levels(table, tuple(names), "luminosity error", notes)
    if kind != "bounds" and len(names) == 2 and _side(names[0]) == "lower" and _side(names[1]) == "upper":
        raise MassmapError(
            f"sigma_plus is {names[0]!r} of {table.label} and sigma_minus {names[1]!r}, by their names the lower and"
            " the upper one: interchange them"
        )
    own, *units = (table.units.get(name, "") or unit_in_name(name) for name in (lum.name, *names))
    # The luminosity's unit in the file is the luminosity's, whatever the user says that it is.
    units = [lum.column_unit if own and lum.column_unit and unit == own else unit for unit in units]
    columns = [numbers(table, name, "error", notes) for name in names]
    like = [typical(table, name, values) for name, values in zip(names, columns, strict=True)]
    pair = len(names) == 2
    if pair:
        if kind in (None, "linear") and not table.few and _are_bounds(lum, *columns):
            raise MassmapError(
                f"{names[1]!r} < {lum.name!r} < {names[0]!r} in every row of {table.label}: they are bounds and not"
                " lengths of bars, so pass sigma_kind='bounds'"
            )
        down = like[1]
        if kind != "bounds" and np.any(down < 0) and not np.any(down > 0):
            columns[1], like[1] = np.abs(columns[1]), np.abs(down)
            notes.append(f"lower bars in {names[1]!r} are written as negative numbers: their size was taken")
    kind, said = _decide(table, lum, names, units, columns, kind)
    if said:
        notes.append(f"luminosity error: {' and '.join(map(repr, names))} taken to be {_WORDS[kind]}, {said}")
    if kind in ("linear", "bounds"):
        columns = [_in_unit_of(table, lum, *one, notes) for one in zip(names, units, columns, strict=True)]
        like = [_in_unit_of(table, lum, *one, []) for one in zip(names, units, like, strict=True)]
    if kind == "bounds":
        result, bits = _from_bounds(table, lum, names, *columns, min_snr)
        half = "linear" if lum.log == "none" else _OF_LOG[lum.log]
        short = _placeholders(
            lum, half, [0.5 * np.abs(np.subtract(*columns))], [0.5 * np.abs(np.subtract(*like))], notes
        )
        bits = np.where(short & (bits == 0), np.int32(Flag.SIGMA_MISSING), bits)
        return np.where(bits == 0, result, np.nan), bits
    none = _none_known(columns)
    if none.any():
        if whole and not any((c[np.isfinite(c)] != 0).any() for c in columns):
            raise MassmapError(
                f"error column {names[0]!r} of {table.label} is 0 in all {none.sum()} rows: choose another, or pass"
                " sigma=0 for luminosities without noise"
            )
        notes.append(
            f"luminosity error: 0 in {rows_text(none, columns[0])}, where others are positive: taken as not known"
            " (SIGMA_MISSING)"
        )
    none |= _placeholders(lum, kind, columns, like, notes, min_snr is None)
    if kind == "linear" and not table.few and (told := _all_alike(lum, names[0], columns[0])):
        notes.append(told)
    up, *lower = columns
    result, bits = _sigma_ln(lum, up, lower[0] if lower else None, kind, min_snr, f"error column {names[0]!r}")
    bits = np.where(none, np.int32(Flag.SIGMA_MISSING), bits)
    return np.where(bits == 0, result, np.nan), bits


_WORDS = {
    "ln": "in ln L",
    "dex": "in dex",
    "linear": "bars in the luminosity's unit",
    "percent": "per cent of the luminosity",
    "fraction": "fractions of the luminosity",
    "mag": "in magnitudes",
    "bounds": "bounds",
}


def _side(name: str) -> str:
    """Which bar a column is by its name, "upper" or "lower"; "" where it says neither."""
    found = re.search(
        r"(?<![a-z])(?:(?P<lower>lo|low|lower|minus|down|neg|negative)|(?:hi|high|up|upper|plus|pos|positive))(?![a-z])",
        _words(name),
    )
    if found is None and re.match(r"[eE]_", name):  # as CDS calls them
        return "upper" if name[0] == "E" else "lower"
    return "" if found is None else "upper" if found["lower"] is None else "lower"


def _all_alike(lum: Luminosity, name: str, bar: np.ndarray) -> str:
    """Say where all bars have one length while the luminosities differ, as fractions do that are called bars."""
    good = (lum.flag == 0) & np.isfinite(bar) & (bar > 0)
    if good.sum() < _SEVERAL or np.ptp(bar[good]) > 0 or np.ptp(np.log(lum.raw[good])) < _DIFFER:
        return ""
    kind = "fraction" if bar[good][0] < 1.0 else "percent"
    what = "a fraction" if kind == "fraction" else "per cent"
    return (
        f"luminosity error: {name!r} is {bar[good][0]:g} in all rows, of luminosities from {lum.raw[good].min():.3g} to"
        f" {lum.raw[good].max():.3g}, and is taken as a bar in their unit: where it is {what} of them, pass"
        f" sigma_kind={kind!r}"
    )


def _none_known(columns) -> np.ndarray:
    """Rows where an error is exactly zero: among others that are positive, 0 is how tables write "not known"."""
    zero = columns[0] == 0
    for column in columns[1:]:
        zero |= column == 0
    return zero


def _placeholders(lum: Luminosity, kind: str, columns, like, notes: list[str], linear: bool = False) -> np.ndarray:
    """Rows with an error that nobody measures, and others far longer or shorter: 1e-30, or 9.99 dex.

    `like` are values of each column that tell which errors are ordinary. A bar that is too long has too low a signal to
    noise, but where the noise is `linear`.
    """
    short, long = (np.zeros(columns[0].size, dtype=bool) for _ in range(2))
    if kind == "linear" and lum.log != "none":
        return short  # of which `_sigma_ln` says that it cannot be
    for column, ordinary in zip(columns, like, strict=True):
        usual = ordinary[(ordinary > 0) & ~is_positive_sentinel(ordinary)]
        middle = np.median(usual) if usual.size else 0.0
        with np.errstate(all="ignore"):
            size = (
                column / lum.raw if kind == "linear" else column * _TO_LN.get(kind, 0.01 if kind == "percent" else 1.0)
            )
            short |= (column > 0) & (size > 0) & (size < _TOO_SHORT) & (column < _FAR_SHORTER * middle)
            if kind in _TO_LN:
                long |= (size > _NO_ERROR_LN) & (column > _FAR_LONGER * middle) & (middle > 0)
            elif linear:
                long |= np.isfinite(column) & (column > middle / _FAR_SHORTER) & (middle > 0)
    for found, words, least in ((short, f"more than {1 / _FAR_SHORTER:,.0f} times shorter", np.inf),
                                (long, f"more than {_FAR_LONGER:g} times longer", -np.inf)):  # fmt: skip
        if found.any():
            pick = np.min if least > 0 else np.max
            shown = pick([np.where(column > 0, column, least) for column in columns], axis=0)
            notes.append(
                f"luminosity error: {words} than the others in {rows_text(found, shown)}: taken as not known"
                " (SIGMA_MISSING)"
            )
    return short | long


def _are_bounds(lum: Luminosity, upper: np.ndarray, lower: np.ndarray) -> bool:
    """Whether lower < L < upper wherever all three are there, which bars never are."""
    good = (lum.flag == 0) & np.isfinite(upper) & np.isfinite(lower)
    if lum.log == "none":
        good &= (lower > 0) & ~is_positive_sentinel(upper)
    if not good.any():
        return False
    return bool(np.mean((lower[good] < lum.raw[good]) & (lum.raw[good] < upper[good])) > 0.9)


def _decide(table, lum, names, units, columns, kind) -> tuple[str, str]:
    """Tell what the errors are in, and how that is known ("" where the user said so)."""
    told = {_kind_of_unit(unit, lum) for unit in units} - {""}
    if len(told) > 1 or (told and len(set(units)) > 1):
        raise MassmapError(f"error columns {' and '.join(map(repr, names))} are in {' and '.join(map(repr, units))}:"
                           " convert them to one unit")  # fmt: skip
    by_unit = next(iter(told), "")
    if by_unit == "other":
        raise MassmapError(
            f"error column {names[0]!r} of {table.label} is in {units[0]!r} but {lum.name!r} is in"
            f" {lum.column_unit!r}: convert them to one unit, or say with lum_unit= what the luminosity is in"
        )
    if kind is not None:
        if by_unit and by_unit != kind and not (kind == "bounds" and by_unit in ("linear", _OF_LOG.get(lum.log))):
            raise MassmapError(
                f"error column {names[0]!r} of {table.label} is in {units[0]!r}, so {_WORDS[by_unit]}, but"
                " sigma_kind is"
                f" {kind!r}: leave sigma_kind out"
            )
        return kind, _against_name(names, table, kind)
    if by_unit:
        return by_unit, "as their unit says"
    by_name = {_kind_of_name(name, table) for name in names}
    by_name = by_name.pop() if len(by_name) == 1 else ""
    of_log = _OF_LOG.get(lum.log, "")
    if of_log and by_name in ("", of_log):
        return of_log, f"as {lum.name!r} is"
    if by_name and not (of_log and by_name in ("ln", "dex", "mag")):
        return by_name, "as the name says"
    if not by_name and (middle := _only_bars(table, lum, names)):
        return "linear", f"as errors with a median of {middle:.3g} can be nothing else"
    raise MassmapError(_question(table, lum, names, columns))


def _only_bars(table, lum: Luminosity, names) -> float:
    """The median error where nothing but bars in the luminosity's unit can be so large and so small; 0 elsewhere."""
    if lum.log != "none" or table.few:
        return 0.0
    error, raw = (typical(table, name, numbers(table, name, "error", [])) for name in (names[0], lum.name))
    good = np.isfinite(error) & (error > 0) & ~is_positive_sentinel(error) & np.isfinite(raw) & (raw > 0)
    if not good.any():
        return 0.0
    middle = float(np.median(error[good]))
    return middle if middle > _NO_SHARE and np.median(error[good] / raw[good]) < 1 else 0.0


def _kind_of_unit(unit: str, lum: Luminosity) -> str:
    """What an error's unit says it is; "other" for another unit than the luminosity's."""
    if not unit:
        return ""
    text = unit.strip().lower()
    # As FITS and astropy write it, 10**-2; a richness may be in hundredths itself.
    hundredth = re.fullmatch(r"0?\.01|1e-0?2|10(?:\^|\*\*)?\(?-2\)?", text) and lum.column_unit.strip() != unit.strip()
    if text in ("%", "percent", "per cent", "pct") or hundredth:
        return "percent"
    if text in ("fraction", "frac"):
        return "fraction"
    log = log_kind(unit)
    if log:
        return {"log10": "dex"}.get(log, log)
    if text == "ln":
        return "ln"
    if text in ("-", "--", "---", "1", "dimensionless"):
        # Where the luminosity has no unit either it is in the same one: a richness, an integrated Compton y.
        return "linear" if lum.column_unit.strip() == unit.strip() and lum.log == "none" else ""
    if lum.log != "none" and unit == lum.column_unit:
        return _OF_LOG[lum.log]
    return "linear" if lum.column_unit and unit_factor(unit, lum.column_unit) is not None else "other"


def is_no_error(name: str) -> bool:
    """Tell whether a column is no error by its name, but a signal-to-noise ratio or a variance.

    Parameters
    ----------
    name : str
        The column's name.

    Returns
    -------
    bool
        True for "snr", "S2N", "flux_ivar", "zvar" and the like.
    """
    ratio, variance = r"(?:snr|s_?2_?n|s_n|signal)", r"(?:i(?:nv)?_?var|z?_?var(?:iance)?)"
    return re.search(rf"(?<![a-z])(?:{ratio}|{variance})(?![a-z])", _words(name)) is not None


def _words(name: str) -> str:
    """A column's name in lower case, its words apart."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _against_name(names, table: ColumnTable, kind: str) -> str:
    """What the names say of errors whose kind the user gave, where that is another; "" where they agree."""
    for name in names:
        if is_no_error(name):
            return f"although by its name {name!r} is a signal-to-noise ratio or a variance"
        said = "" if normal_name(name) in USUAL_NAMES["sigma"][0] else _kind_of_name(name, table)
        if said and said != kind and kind != "bounds":
            return f"although the name of {name!r} says {_WORDS.get(said, said)}"
    return ""


def _kind_of_name(name: str, table: ColumnTable) -> str:
    """What an error's name says it is; refused where it is no error at all."""
    words = _words(name)
    if is_no_error(name):
        raise MassmapError(
            f"column {name!r} of {table.label} is by its name no error, but a signal-to-noise ratio or a variance:"
            " compute the error of the luminosity from it and give that, or pass sigma_kind="
        )
    if re.search(r"(?<![a-z])(?:pct|perc|percent)(?![a-z])|percent|per_?cent|(?<!\d)%", words):
        return "percent"
    if re.search(
        r"(?<![a-z])(?:frac|fractional|fraction|rel|relative)(?![a-z])|(?<![a-z])(?:frac|rel)(?:_?err|_?lum|_?unc)",
        words,
    ):
        return "fraction"
    if name.lower() in USUAL_NAMES["sigma"][0]:
        return "ln"
    log = named_log(name)
    if log:
        return "ln" if log == "ln" else "dex"
    return "mag" if looks_like_magnitudes(name, np.empty(0)) else ""


def _question(table, lum: Luminosity, names, columns) -> str:
    """The error that cannot be read in one way: what each way makes of it."""
    error = columns[0]
    good = np.isfinite(error) & (error > 0) & (lum.flag == 0)
    middle = np.median(error[good]) if good.any() else np.nan
    ways = [f"'ln' ({_size(middle)})", f"'dex' ({_size(LN10 * middle)})"]
    if lum.log == "none":
        relative = np.median(error[good] / lum.raw[good]) if good.any() else np.nan
        ways.append(f"'linear', a bar in the luminosity's own unit ({100 * relative:.2g} %)")
    return (
        f"{' and '.join(map(repr, names))} of {table.label} {'do' if len(names) > 1 else 'does'} not say"
        " what the error is"
        f" in; its median of {middle:.3g} would be, by sigma_kind=: {', '.join(ways)}; choose one (or 'percent',"
        " 'fraction', 'mag')"
    )


def _size(width: float) -> str:
    """A width in ln L in words."""
    if not width > 0.3:
        return f"{100 * width:.2g} %"
    return f"a factor of {np.exp(width):.2g}" if width < 20 else "an impossible factor"


def _in_unit_of(table, lum, name, unit, values, notes):
    """Bring bars to the unit of the luminosity column; refuse one that measures another thing."""
    if not (unit and lum.column_unit) or unit == lum.column_unit:
        return values
    factor = unit_factor(strip_log(unit), strip_log(lum.column_unit))
    if factor is None:
        raise MassmapError(
            f"error column {name!r} of {table.label} is in {unit!r} but {lum.name!r} is in {lum.column_unit!r}:"
            " convert them to one unit"
        )
    if factor != 1.0:
        notes.append(f"luminosity error: {name!r} multiplied by {factor:g}, from {unit} to {lum.column_unit}")
    return values * factor


def _sigma_ln(lum: Luminosity, up: np.ndarray, down: np.ndarray | None, kind: str, min_snr: float | None, where: str):
    """sigma [ln L] and flags of errors of a kind; `down` is None for a symmetric error."""
    none = np.zeros(up.size, np.int32)
    if kind in _TO_LN:
        _refuse_logs(min_snr, where, kind)
        if down is not None:
            up = np.where((up >= 0) & (down >= 0), 0.5 * (up + down), np.fmin(up, down))
        placeholder = is_positive_sentinel(up)  # nothing has an error of 99 dex
        error = np.where(placeholder, np.nan, up * _TO_LN[kind])
        good = error[np.isfinite(error) & (error >= 0)]
        if good.size and np.median(good) > _TOO_WIDE and not lum.few:
            raise MassmapError(
                f"{where} has a median of {np.median(good):.3g} in ln L, {_size(np.median(good))}: it"
                " looks like a bar in"
                " the luminosity's own unit (sigma_kind='linear') or per cent (sigma_kind='percent')"
            )
        return error, none
    down = up if down is None else down
    if kind in ("percent", "fraction"):
        up, down = (_fraction(bar, kind, where, lum.few) for bar in (up, down))
        return _linear_bars(np.ones(up.size), up, down, min_snr)
    if lum.log != "none":
        raise MassmapError(
            f"{lum.name!r} is a logarithm or a magnitude ({lum.log}) but sigma_kind is 'linear': the error of a"
            " logarithm is 'dex' or 'ln', that of a magnitude 'mag'"
        )
    if not lum.few:
        _refuse_no_bars(lum, up, where)
    return _linear_bars(lum.raw, up, down, min_snr)


def _fraction(bar: np.ndarray, kind: str, where: str, few_rows: bool) -> np.ndarray:
    """Fractions of the luminosity; refused where per cent are called fractions, or the other way round."""
    good = bar[np.isfinite(bar) & (bar > 0)]
    other = "percent" if kind == "fraction" else "fraction"
    few = where != "sigma" and good.size > 0 and good.max() < 1.0  # one number of 0.5 per cent may well be meant
    if good.size and not few_rows and (np.median(good) > 1.0 if kind == "fraction" else few):
        raise MassmapError(
            f"{where} has a median of {np.median(good):.3g} and a largest value of {good.max():.3g}: this looks like"
            f" sigma_kind={other!r} and not {kind!r}"
        )
    return bar / 100.0 if kind == "percent" else bar


def _refuse_no_bars(lum: Luminosity, bar: np.ndarray, where: str):
    """Refuse bars that are far too short, or fractions by the look of them, or longer than the luminosity."""
    good = np.isfinite(bar) & (bar > 0) & (lum.flag == 0)
    if not good.any():
        return
    relative = bar[good] / lum.raw[good]
    middle = np.median(relative)
    if np.mean(relative > 1.0) > 0.9:
        percent = "is it in per cent (sigma_kind='percent'), " if np.quantile(bar[good], 0.9) < 100.0 else "is it "
        raise MassmapError(
            f"{where} is longer than the luminosity itself in {np.mean(relative > 1.0):.0%} of the rows: {percent}an"
            " upper bound (sigma_kind='bounds', with sigma_plus= and sigma_minus=), or in another unit?"
        )
    small = good.sum() >= 5 and bar[good].max() < 1.0 and bar[good].min() >= 5e-3 and middle < 5e-3
    # Bars grow with the luminosity, fractions do not.
    if small and np.std(np.log(relative)) <= 1.2 * np.std(np.log(bar[good])):
        small = False
    if middle < _TOO_SHORT or small:
        raise MassmapError(
            f"{where} is {middle:.2g} of the luminosity in the middle, too short for a bar: are they fractions"
            f" (sigma_kind='fraction', {100 * np.median(bar[good]):.2g} %), per cent (sigma_kind='percent',"
            f" {np.median(bar[good]):.2g} %), or in 'ln' or 'dex'? Real bars as short can be given as fractions"
        )


def _refuse_logs(min_snr: float | None, where: str, kind: str) -> None:
    """Refuse errors of a logarithm where the noise is said to be linear."""
    if min_snr is None:
        raise MassmapError(
            f"noise is 'linear', and {where} is taken to be in {kind}: give bars in the luminosity's unit or fractions"
            " of it (sigma_kind='linear', 'percent', 'fraction' or 'bounds'), or leave noise out"
        )


def _linear_bars(raw, up, down, min_snr):
    """Convert linear bars to sigma in ln L, and flag negative bars and those with too low a signal-to-noise ratio.

    For linear noise (`min_snr` is None) they become fractions of L, and none is too long.
    """
    if min_snr is None:
        with np.errstate(all="ignore"):
            sigma, low = 0.5 * (up + down) / np.abs(raw), np.zeros(raw.size, dtype=bool)
    else:
        sigma = sigma_ln_from_bars(raw, up, down)
        with np.errstate(all="ignore"):
            low = (raw / (0.5 * (up + down)) < min_snr) | (raw <= down)
    negative = (up < 0) | (down < 0)
    bits = np.where(negative, np.int32(Flag.SIGMA_NEGATIVE), np.int32(0))
    bits |= np.where(low & ~negative, np.int32(Flag.SIGMA_LOW_SNR), np.int32(0))
    return np.where(bits == 0, sigma, np.nan), bits


def _from_bounds(table, lum, names, upper, lower, min_snr):
    """sigma [ln L] of upper and lower bounds; rows whose luminosity lies outside of them are flagged."""
    known = (lum.flag == 0) & np.isfinite(upper) & np.isfinite(lower)
    if lum.log == "mag":
        upper, lower = np.fmax(upper, lower), np.fmin(upper, lower)
    inside = known & (lower <= lum.raw) & (lum.raw <= upper) & (lower < upper)
    if known.any() and inside.sum() < 0.5 * known.sum() and not lum.few:
        row = int(np.flatnonzero(known & ~inside)[0])
        raise MassmapError(
            f"{names[1]!r} <= {lum.name!r} <= {names[0]!r} fails in {(known & ~inside).sum()} of {known.sum()} rows of"
            f" {table.label}, first row {row} ({lower[row]:g}, {lum.raw[row]:g}, {upper[row]:g}): these"
            " are no bounds, or"
            " sigma_plus= (the upper one) and sigma_minus= are interchanged"
        )
    missing = np.where(known, np.int32(0), np.int32(Flag.SIGMA_MISSING))
    if lum.log != "none":
        _refuse_logs(min_snr, f"{names[0]!r}", _OF_LOG[lum.log])
        sigma = 0.5 * (upper - lower) * _TO_LN[_OF_LOG[lum.log]]
        bits = missing | np.where(known & ~inside, np.int32(Flag.SIGMA_NEGATIVE), np.int32(0))
        return np.where(bits == 0, sigma, np.nan), bits
    sigma, bits = _linear_bars(lum.raw, upper - lum.raw, lum.raw - lower, min_snr)
    bits = np.where(known, bits, missing)
    return np.where(bits == 0, sigma, np.nan), bits
