"""Mass likelihoods of the objects of a catalogue from a file, matched by id: `read_mass_likelihoods`."""

import contextlib
import re
import warnings
from typing import Literal

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, id_columns, named_column
from massmap_jax.catalogue.columns import ColumnTable, as_float64, as_ids, rows_text
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import LEAST_SNR, HaloCatalogue, id_hash
from massmap_jax.catalogue.luminosity import Luminosity, named_log, read_luminosity
from massmap_jax.catalogue.luminosity_error import open_question, read_sigma
from massmap_jax.catalogue.match import compare_matched
from massmap_jax.catalogue.position_columns import find_positions
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import refuse_unit_with_h, unit_at_end
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.mass_columns import (
    error_column,
    id_column,
    mass_column,
    told_of_statistical,
    unit_of_masses,
)
from massmap_jax.likelihood.terms import TabulatedTerm, refuse_other_numbers

_NODE = re.compile(r"lnl_(\d+(?:\.\d+)?)", re.IGNORECASE)
# Fewer nodes do not tell the shape of a likelihood. Masses beyond these are none, or not in Msun.
_LEAST_NODES, _LOG10_MASSES = 5, (6.0, 18.0)
# No logarithm of a mass is below the first; errors of the others are of masses.
_NO_LOG, _OF_MASS = -100.0, ("linear", "percent", "fraction")
# Masses below this are in no unit that has no power of ten.
_BARE = 1e6
_DRAWS = (
    "draws or nodes of one likelihood, a row for each object with the mean and standard deviation of ln M, the prior"
    " divided out, or with columns lnl_<log10 M>"
)
# Errors of masses from many photons reach 1 to 2 %, before what is common to all; no lensing mass is near that.
_SMALLEST = 0.005
# log10 M of the nodes of a normal likelihood: a parabola is exact at any step, and they are all that can be asked for.
_NORMAL_NODES = np.linspace(4.0, 20.0, 81)
# One that is normal in M is no parabola: cubic interpolation of nodes 0.04 dex apart is right to 1e-4 in ln L. It falls
# as exp(2 ln M) above, where it is 0 long before this floor.
_LINEAR_NODES, _FLOOR, _HERMITE = np.linspace(4.0, 20.0, 401), -1e6, 48


def read_mass_likelihoods(
    path,
    catalogue: HaloCatalogue,
    *,
    id: str | None = None,
    mass: str | None = None,
    error: str | float | None = None,
    error_kind: Literal["ln", "dex", "linear", "percent", "fraction", "bounds"] | None = None,
    error_plus: str | None = None,
    error_minus: str | None = None,
    mass_unit: str | None = None,
    mass_log: Literal["none", "ln", "log10"] | None = None,
    scatter: float = 0.0,
) -> TabulatedTerm:
    """Read measured masses, or ln likelihoods of ln M, of some objects of a catalogue.

    Parameters
    ----------
    path : str or pathlib.Path
        A file in any format that `read_catalogue` reads. It has a column of ids and, in any unit of mass, a mass and
        its error; or columns ``lnl_<log10 M>`` (``lnl_13.0``, ``lnl_13.1``, ...), each with ln likelihood at one mass
        in Msun without h, in any normalisation and in increasing order.
    catalogue : HaloCatalogue
        The catalogue, with ids.
    id, mass : str, optional
        Columns of the ids and of the masses, by default those with a usual name; or the one text column that holds ids
        of the catalogue alone, and the only mass by its name, as M500.
    error : str or float, optional
        Column of the error, or one number in ln M.
    error_kind : {"ln", "dex", "linear", "percent", "fraction", "bounds"}, optional
        What the error is in; by default its unit or name decides, as in `read_catalogue`. "bounds" is for the upper and
        the lower end of the interval in place of bars.
    error_plus, error_minus : str, optional
        Columns of the upper and the lower bar, in place of `error`: the error in ln M is half of the distance between
        the two ends, as `read_catalogue` has it of luminosities.
    mass_unit : str, optional
        Unit of the masses, in place of the file's, such as "1e14 Msun".
    mass_log : {"none", "ln", "log10"}, optional
        Whether the masses are logarithms; asked for where they look like some.
    scatter : float, optional
        Intrinsic scatter of the measured masses about the true ones in ln M, which is added in quadrature to errors
        that do not hold it. Weak-lensing masses scatter by about 0.2.

    Returns
    -------
    TabulatedTerm
        A likelihood for each row of the catalogue; 0, no information, for the objects that are not in the file.

    Raises
    ------
    MassmapError
        No ids, ids that are not in the catalogue or occur twice, masses or values that cannot be used, fewer than 5
        nodes or nodes that do not increase.

    Warns
    -----
    UserWarning
        What was guessed or converted.

    See Also
    --------
    fit_relation : Takes them as `extra`.

    Notes
    -----
    Likelihoods are normal in ln M. Where masses are below zero or not larger than their bars, as in weak lensing of
    groups, all are normal in M itself, convolved with the scatter in ln M.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[3.0, 5.0], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ids=["A", "B"]
    ... )
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "lensing.csv"
    >>> _ = path.write_text("id,mass,error\\nB,4e14,0.3\\n")
    >>> term = mm.read_mass_likelihoods(path, catalogue, mass="mass", error="error", error_kind="ln", mass_unit="Msun")
    >>> term.informs.tolist()
    [False, True]
    """
    if not (np.isfinite(scatter) and scatter >= 0):
        raise MassmapError(f"scatter of the measured masses is {scatter:g}: give a number in ln M, at least 0")
    table = open_table(path, text_columns=id_columns(id))
    notes = list(table.notes)
    id_name = id_column(catalogue, table, id, notes)
    rows = _rows_in(catalogue, table, id_name, notes)
    columns = {name: float(name.strip()[4:]) for name in table.names if is_node(name)}
    given = (mass, error, error_plus, error_minus)
    if columns and (any(each is not None for each in given) or scatter):
        raise MassmapError(
            f"{table.label} has columns of ln likelihoods (lnl_...), which hold the whole error of a mass: leave "
            "mass=, error= (or error_plus= and error_minus=) and scatter= out"
        )
    if columns:
        nodes, values = _tabulated(table, columns, notes)
    else:
        if mass is None:
            _refuse_other_series(table)
        bars = (error, error_plus, error_minus)
        nodes, values = _normal(table, mass, bars, error_kind, mass_unit, mass_log, scatter, notes)
    for note in dict.fromkeys(notes):
        warnings.warn(f"mass likelihoods: {note}", stacklevel=2)
    whole = np.zeros((len(catalogue), nodes.size))
    whole[rows] = values
    return TabulatedTerm(nodes, whole)


def is_node(name: str) -> bool:
    """Tell whether a column holds ln likelihoods at one mass, by its name, lnl_<log10 M>."""
    return _NODE.fullmatch(name.strip()) is not None


def catalogue_rows(
    catalogue: HaloCatalogue, table: ColumnTable, name: str, notes: list[str], redshifts: tuple[str, ...] | None = None
) -> np.ndarray:
    """Find the row of the catalogue that each row of a table belongs to, by id.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue, with ids.
    table : ColumnTable
        The table.
    name : str
        Its column of ids.
    notes : list of str
        What positions and redshifts of the table say of the ids is added.
    redshifts : tuple of str, optional
        Names of a column of redshifts of the objects, those of catalogues where none are given.

    Returns
    -------
    Int[np.ndarray, "row"]
        Row numbers of the catalogue.

    Raises
    ------
    MassmapError
        For ids of the catalogue that are not unique, ids of the table that are not in it, or those of other objects by
        their positions or redshifts.
    """
    ids, missing = as_ids(table.column(name))
    if catalogue.key_number is not None:
        raise MassmapError("ids of the catalogue are not unique, so masses cannot be matched with it: give another id=")
    # Hashes, so that 7 and "7" agree, as they do for random numbers.
    place = {tuple(pair): row for row, pair in enumerate(catalogue.hashes.tolist())}
    rows = np.array([place.get(tuple(pair), -1) for pair in id_hash(ids).tolist()], dtype=int)
    lost = (rows < 0) | missing
    if lost.any():
        raise MassmapError(
            f"ids in column {name!r} of {table.label} are not in the catalogue: {rows_text(lost, ids)}; take these rows"
            " out, or name the column of the catalogue's ids with id="
        )
    _, first = np.unique(rows, return_index=True)  # a row for each bin of a profile
    notes.extend(
        compare_matched(
            catalogue,
            rows[first],
            ids=ids[first],
            **{key: np.asarray(values)[first] for key, values in _places(table, redshifts).items()},
        )
    )
    return rows


def _places(table: ColumnTable, redshifts: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    """Positions and redshifts of the objects of a table, where its columns have names that say so."""
    found: dict[str, np.ndarray] = {}
    with contextlib.suppress(MassmapError):
        position, _ = find_positions(table, None, None, None, None, [])
        if position.get("frame", "sky") == "sky" and "ra" in position:
            found = {"ra": position["ra"], "dec": position["dec"]}
    with contextlib.suppress(MassmapError):
        usual = None if redshifts is None else ({*redshifts},)
        name, _ = choose_column(table, "redshift", None, "redshift", usual=usual)
        if name is not None:
            found["redshift"] = as_float64(table.column(name), name)
    return found


def _rows_in(catalogue: HaloCatalogue, table: ColumnTable, name: str, notes: list[str]) -> np.ndarray:
    """The catalogue's row of each row of the table, each only once."""
    rows = catalogue_rows(catalogue, table, name, notes)
    again = np.ones(rows.size, dtype=bool)
    again[np.unique(rows, return_index=True)[1]] = False
    if again.any():
        raise MassmapError(
            f"an object has two mass likelihoods in {table.label}: its id is repeated in "
            f"{rows_text(again, as_ids(table.column(name))[0])}; combine them to one, and where its rows are {_DRAWS}"
        )
    return rows


def _tabulated(table: ColumnTable, columns: dict[str, float], notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [ln Msun] and ln likelihoods (row, node); NaN in all nodes of a blank row."""
    log10_mass = np.array(list(columns.values()))
    if log10_mass.size < _LEAST_NODES:
        raise MassmapError(
            f"{table.label} has ln likelihoods at {log10_mass.size} masses: give at least {_LEAST_NODES} columns "
            "lnl_<log10 M>, 0.1 dex apart or closer"
        )
    wrong = np.append(False, np.diff(log10_mass) <= 0)
    if wrong.any():
        raise MassmapError(
            f"masses of the columns lnl_<log10 M> of {table.label} do not increase: {wrong.sum()} do not, the first is "
            f"{list(columns)[int(np.argmax(wrong))]!r}; put the columns in order"
        )
    low, high = _LOG10_MASSES
    wrong = (log10_mass < low) | (log10_mass > high)
    if wrong.any():
        raise MassmapError(
            f"{wrong.sum()} masses of the columns lnl_<log10 M> of {table.label} are no log10 of masses in Msun, the "
            f"first is {list(columns)[int(np.argmax(wrong))]!r}: they lie between {low:g} and {high:g}"
        )
    values = np.stack([as_float64(table.column(name), f"column {name!r} of {table.label}") for name in columns], axis=1)
    bad = ~np.isfinite(values) & ~np.isnan(values).all(axis=1, keepdims=True)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise MassmapError(
            f"ln likelihoods of {bad.any(axis=1).sum()} rows of {table.label} are not finite, first row {row}, column "
            f"{list(columns)[column]!r}: {values[row, column]:g}; give a low finite number where the likelihood is 0, "
            "and leave all cells of a row blank where there is no measurement"
        )
    refuse_other_numbers(f"ln likelihoods of {table.label}", [f"column {name!r}" for name in columns], values)
    same = np.ptp(values, axis=1) == 0  # of any height, as of zeros
    if same.all():
        raise MassmapError(
            f"ln likelihoods of {table.label} are one number at all masses in every row, first row 0 with value"
            f" {values[0, 0]:g}: they say nothing of a mass"
        )
    if (flat := same & (values[:, 0] != 0)).any():
        notes.append(
            f"ln likelihoods are one number at all masses in {rows_text(flat, values[:, 0])}: these say nothing, and"
            " are taken as no measurement"
        )
    with np.errstate(invalid="ignore"):
        rising = values[:, -1] > values.max(axis=1) - 0.5
    known = ~np.isnan(values[:, 0]) & ~same
    rise, all_of_them = np.count_nonzero(rising & known), np.count_nonzero(known)
    if rise > 0.5 * all_of_them:
        notes.append(
            f"ln likelihoods are highest at the largest mass, {list(columns)[-1]!r}, in {rise} of {all_of_them} rows,"
            " as if masses had no upper end: see whether they are cumulative, or the nodes end too early"
        )
    return log10_mass * np.log(10.0), np.where(same[:, None], np.nan, values)


def _refuse_other_series(table: ColumnTable) -> None:
    """Name what columns of ln likelihoods are called, where many have another name that ends in a number."""
    numbered = [name for name in table.names if re.search(r"\d[._p]?\d*\D{0,2}$", name)]
    stems: dict[str, list[str]] = {}
    for name in numbered:
        stems.setdefault(re.sub(r"\d.*$", "", name), []).append(name)
    several = max(stems.values(), key=len, default=[])
    if len(several) >= _LEAST_NODES:
        raise MassmapError(
            f"{table.label} has {len(several)} columns such as {several[0]!r}: columns with ln likelihoods are called"
            " lnl_<log10 M>, as 'lnl_14.0' for 1e14 Msun (without h), so rename them, and give ln L where they hold"
            " another number; or choose the column of a mass with mass="
        )


def _of_masses(text: str) -> str:
    """A sentence of the reader of luminosities, said of masses and with the names of the arguments here."""
    renamed = re.sub(r"\bsigma(?=_(?:kind|plus|minus)\b|=| is given)", "error", text).replace("lum_", "mass_")
    return renamed.replace("luminosity", "mass")


def _normal(table, mass, bars, error_kind, mass_unit, mass_log, scatter, notes) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [ln Msun] and ln likelihoods (row, node) of masses with normal errors in ln M, or in M."""
    name = mass_column(table, mass, notes)
    if table.names and np.ndim(table.column(name)) > 1:
        raise MassmapError(
            f"mass column {name!r} of {table.label} holds an array of {np.shape(table.column(name))[1]} numbers in each"
            f" row: give one mass, and where they are {_DRAWS}"
        )
    unit = mass_unit or unit_of_masses(table, name)
    error, plus, minus = bars
    notes.extend(told_of_statistical(table, error) if isinstance(error, str) else ())

    def choose(role, given, option, **more):
        if given is not None:
            return named_column(table, given, option.replace("sigma", "error"))
        return error_column(table, more.get("usual", ()), notes)

    def errors(read: Luminosity, told: list[str], signed: bool):
        return read_sigma(
            table, read, told, sigma=error, kind=error_kind, plus=plus, minus=minus,
            min_snr=None if signed else 1.0001, choose=choose, whole=True,
        )  # fmt: skip

    raw = as_float64(table.column(name), f"mass column {name!r} of {table.label}")
    log = named_log(name)
    if mass_log is None and not log and ((raw < _NO_LOG).any() or ((raw < 0).any() and error_kind in _OF_MASS)):
        mass_log = "none"
    if not unit:
        typical = np.nanmedian(np.abs(raw)) if np.isfinite(raw).any() else 1.0
        said = "1e14 Msun" if typical < _BARE and mass_log in (None, "none") and not log else "Msun"
        asked = open_question(table, name, mass_log or log, lambda bare: errors(bare, [], False))
        also = f" and mass_log='{log}'" if log and mass_log is None else ""
        raise MassmapError(
            f"mass column {name!r} of {table.label} states no unit: give mass_unit='{said}'{also}, say"
            f"{_of_masses(asked)}"
        )
    refuse_unit_with_h(f"mass column {name!r} of {table.label}", unit, "mass_unit")

    def masses(signed: bool):
        """The masses and their errors in ln M, or signed ones with errors as fractions of them."""
        told: list[str] = []
        read = read_luminosity(
            table, name, told, lum_log=mass_log, lum_scale=None, lum_unit=mass_unit or unit_at_end(name) or None,
            lum_in="Msun", magnitudes=None, redshift=np.zeros(0), signed=signed,
        )  # fmt: skip
        sigma, bad = errors(read, told, signed)
        return read, np.broadcast_to(sigma, read.raw.shape), bad, told

    linear = False
    try:
        read, sigma, bad, found = masses(signed=False)
        if (faint := (bad & int(Flag.SIGMA_LOW_SNR) != 0) | _is_below(read)).any():
            # Errors of a logarithm cannot be meant then, and are refused.
            with contextlib.suppress(MassmapError):
                read, sigma, bad, found = masses(signed=True)
                linear = True
    except MassmapError as refused:
        raise MassmapError(_of_masses(str(refused))) from None
    notes.extend(_of_masses(note) for note in found)
    ln_mass, blank = read.ln_lum_obs, np.isnan(read.raw)
    good = (read.flag == 0) & np.isfinite(ln_mass) | linear & _is_below(read)
    good &= (read.raw > 0) | (sigma * -LEAST_SNR >= 1)  # noise does not reach farther below zero
    wrong = ~blank & (~good | (bad != 0) | ~np.isfinite(sigma) | ~(sigma + scatter > 0))
    if wrong.any():
        below = f"not more than {-LEAST_SNR:g} of its errors below zero"
        raise MassmapError(
            f"masses or errors in {table.label} cannot be used (mass column {name!r}): {rows_text(wrong, read.raw)}; a "
            f"mass is not 0, and {below if linear else 'larger than its error'}; leave it blank where there is none"
        )
    there = ln_mass[~blank & np.isfinite(ln_mass)]
    if there.size == 0:
        raise MassmapError(f"mass column {name!r} of {table.label} is blank in every row")
    typical = float(np.median(np.hypot(sigma[~blank], scatter)))
    if typical < _SMALLEST:
        notes.append(
            f"WARNING, tiny errors: they have a median of {100 * typical:.2g} %, and no halo's mass is measured to"
            f" {100 * _SMALLEST:g} %; see whether they are in the unit of the masses ({unit!r}) and of the kind that"
            " error_kind= says, and what scatter about the true masses comes on top (scatter=)"
        )
    low, high = _LOG10_MASSES
    if not low < np.median(there) / np.log(10.0) < high:
        raise MassmapError(
            f"masses in column {name!r} of {table.label} have a median of {np.exp(np.median(there)):g} Msun, if their "
            f"unit is {unit}: give the right one, as in mass_unit='1e14 Msun'"
        )
    if linear:
        notes.append(
            f"{faint.sum():,} masses are below zero or not larger than their errors, the first in row"
            f" {int(np.argmax(faint))}: all likelihoods are normal in the mass itself, and not in ln M"
        )
        nodes, scaled = _LINEAR_NODES * np.log(10.0), read.raw * np.exp(read.ln_scale)
        values = _normal_in_mass(nodes, scaled, sigma * np.abs(scaled), scatter)
    else:
        nodes, variance = _NORMAL_NODES * np.log(10.0), sigma**2 + scatter**2
        values = -0.5 * (nodes - ln_mass[:, None]) ** 2 / variance[:, None]
    return nodes, np.where(blank[:, None], np.nan, values)


def _is_below(read: Luminosity) -> np.ndarray:
    """Rows of masses below zero that were measured, and are no placeholders."""
    return (read.flag == int(Flag.LUM_NOT_POSITIVE)) & (read.raw < 0)


def _normal_in_mass(nodes, mass, bar, scatter: float) -> np.ndarray:
    """ln likelihoods (row, node) of ln M where M_obs is normal about a mass that scatters by so much about M in ln."""
    x, weight = np.polynomial.hermite_e.hermegauss(_HERMITE) if scatter else (np.zeros(1), np.ones(1))
    values = np.full((mass.size, nodes.size), -np.inf)
    for at, part in zip(np.exp(nodes + scatter * x[:, None]), weight / weight.sum(), strict=True):
        with np.errstate(invalid="ignore"):  # blank rows
            off = np.maximum(-0.5 * ((mass[:, None] - at) / bar[:, None]) ** 2, _FLOOR)
            values = np.logaddexp(values, np.log(part) + off)
    return values
