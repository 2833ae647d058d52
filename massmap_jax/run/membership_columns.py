"""What the catalogue of `massmap-jax hosts` says of the types of its galaxies: flags, probabilities, groups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import named_column, normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_float64, as_plain, number_in
from massmap_jax.catalogue.membership import Membership
from massmap_jax.errors import MassmapError
from massmap_jax.run.calibration_columns import catalogue_table

if TYPE_CHECKING:
    from massmap_jax.run.hosts import HostOptions

_SATELLITES = r"(?i)(?<![a-z])(?:p_?|is_?|f_?|n_?|flag_?)?sat(?:ellites?)?(?:_?(?:flag|prob(?:ability)?))?(?![a-z])"
_MEMBERS = r"(?i)(?<![a-z])(?:p_?|prob_?)?mem(?:ber(?:ship)?)?(?![a-z])"
# redMaPPer calls its probabilities of being a member P and PFREE.
_OF_REDMAPPER, _BESIDE = r"(?i)p|p_?free|p_?mem", {"mem_match_id", "pfree", "p_free"}
_TYPES = r"(?i)(?:gal(?:axy)?_?)?type"


def read_membership(source: str, columns: dict, options: HostOptions) -> Membership | None:
    """Read what the catalogue says of its galaxies' types.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was read with.
    options : HostOptions
        The options: columns, is_central also as COLUMN=VALUE, true where the column has the value, and
        central_probability also as 1-COLUMN.

    Returns
    -------
    Membership or None
        None where no column is named.

    Raises
    ------
    MassmapError
        For columns that are by their names something else, values that no row has, and as `Membership`.
    """
    if options.central_probability is None and options.is_central is None:
        return None
    table = catalogue_table(source, columns, options.group)
    if options.central_probability is not None:
        fraction = 0.5 if options.central_fraction is None else options.central_fraction
        return Membership.from_probability(_probability(table, options.central_probability), central_fraction=fraction)
    assert options.is_central is not None
    flags = _flags(table, options.is_central)
    try:
        if options.group is not None:
            return Membership.from_groups(table.column(named_column(table, options.group, "group")), flags)
        assert options.purity is not None
        return Membership.from_flags(flags, purity=options.purity)
    except MassmapError as error:
        told = str(error)
        if "neither 0 nor 1" in told and "=" not in options.is_central:
            told += (
                f"; is_central='{options.is_central}=1' takes those with a 1 for centrals and all others for satellites"
            )
        raise MassmapError(told) from None


def _probability(table: ColumnTable, given: str) -> np.ndarray:
    """Probabilities of being a central, or 1 minus those of being a satellite."""
    other = None if given in table.names else re.fullmatch(r"1\s*-\s*(.+)", given)
    name = named_column(table, other[1] if other else given, "central_probability")
    if other:
        return 1.0 - as_float64(table.column(name), f"column {name!r} of {table.label}")
    if re.search(_SATELLITES, _words(name)):
        raise MassmapError(
            f"central_probability is {name!r} of {table.label}, by its name of satellites: give"
            f" central_probability='1-{name}', or rename the column where it is of centrals"
        )
    _refuse_members("central_probability", name, table)
    return table.column(name)


def _flags(table: ColumnTable, given: str) -> np.ndarray:
    """Flags of centrals, or which rows have the value of COLUMN=VALUE; NaN where it is missing."""
    column, equals, value = ("", "", "") if given in table.names else given.rpartition("=")
    if equals:
        return _with_value(table, named_column(table, column.strip(), "is_central"), value.strip())
    name = named_column(table, given, "is_central")
    cells = table.column(name)
    if re.search(_SATELLITES, _words(name)):
        raise MassmapError(
            f"is_central is {name!r} of {table.label}, by its name of satellites: give is_central='{name}=0', or rename"
            " the column where it is 1 for centrals"
        )
    _refuse_members("is_central", name, table)
    if cells.dtype.kind in "iufb" and re.fullmatch(_TYPES, name):
        raise MassmapError(
            f"is_central is {name!r} of {table.label}, numbers of a type by its name, of which simulations write 0"
            f" for centrals: give is_central='{name}=0', or the number that centrals have"
        )
    return cells


def _with_value(table: ColumnTable, name: str, value: str) -> np.ndarray:
    cells = np.ma.asarray(as_plain(table.column(name)))
    gone, number = np.ma.getmaskarray(cells), number_in(value)
    if cells.dtype.kind in "iuf" and number is not None:
        plain = np.ma.getdata(cells)
        same, gone = plain == number, gone | (np.isnan(plain) if plain.dtype.kind == "f" else False)
    else:
        words = {"true": "1", "false": "0"}
        texts = [str(c.decode() if isinstance(c, bytes) else c).strip().lower() for c in np.ma.getdata(cells).tolist()]
        plain = np.array([words.get(text, text) for text in texts])
        same, gone = plain == words.get(value.lower(), value.lower()), gone | np.isin(plain, ["", "none", "nan"])
    if not same.any():
        seen = ", ".join(map(str, np.unique(np.ma.getdata(cells)[~gone].astype(str))[:5]))
        raise MassmapError(
            f"is_central={name}={value}: no row of {table.label} has that value; among others there are {seen}"
        )
    return np.where(gone, np.nan, same.astype(float))


def _refuse_members(option: str, name: str, table: ColumnTable) -> None:
    by_redmapper = re.fullmatch(_OF_REDMAPPER, name) and _BESIDE & {normal_name(other) for other in table.names}
    beside = " beside others" if by_redmapper else ""
    if by_redmapper or re.search(_MEMBERS, name):
        raise MassmapError(
            f"{option} is {name!r} of {table.label}, by its name{beside} of members of a group or cluster, which"
            " centrals and satellites both are: give a column that tells centrals, or rename it where it does"
        )


def _words(name: str) -> str:
    """A name with its words apart, as is_Satellite of isSatellite."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
