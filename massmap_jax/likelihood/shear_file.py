"""Tangential shear profiles from a file with a row for each bin, or one of arrays: `read_shear_profiles`."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, id_columns
from massmap_jax.catalogue.columns import ColumnTable, as_float64, as_matrix, rows_text
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import unit_factor, unit_in_name
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.mass_columns import id_column
from massmap_jax.likelihood.mass_likelihoods import catalogue_rows
from massmap_jax.likelihood.shear import ShearProfiles
from massmap_jax.likelihood.shear_names import check_name, is_excess

# Names to guess from; "z" of a profile made by CLMM is the mean redshift of a bin's sources.
_USUAL: dict[str, tuple[set[str], ...]] = {
    "radius": ({"radius"}, {"r", "theta", "rmean", "r_mean", "radius_mean", "meanr"}),
    "shear": ({"gt", "g_t"}, {"shear", "g_tan", "gamma_t", "tangential_shear", "gamt"}),
    "error": (
        {"gt_err", "g_t_err", "e_gt"},
        {"shear_err", "shear_error", "error", "sigma", "sigma_g", "sigma_gt", "g_err"},
    ),
    "source_redshift": ({"z_source", "source_redshift", "z_s", "zs"}, {"z"}),
}

# Redshifts of the lenses; "z" alone is that of the sources.
OF_LENSES = ("z_lens", "z_l", "zl", "z_cl", "zcl", "z_cluster", "redshift_lens", "lens_redshift", "cluster_redshift")
# Columns whose names are compared with what they are for; radii are, with their unit.
_CHECKED = ("shear", "error", "source_redshift", "sigma_crit", "covariance")


def read_shear_profiles(
    source,
    catalogue: HaloCatalogue,
    *,
    id: str | None = None,
    radius: str | None = None,
    shear: str | None = None,
    error: str | None = None,
    source_redshift: str | float | None = None,
    sigma_crit: str | None = None,
    covariance: str | None = None,
    radius_unit: str | None = None,
    sigma_crit_unit: str | None = None,
) -> ShearProfiles:
    """Read tangential shear profiles of some objects of a catalogue.

    Parameters
    ----------
    source : str or pathlib.Path or table or Mapping
        A table with one row for each object and bin, or with one row for each object and an array of bins in each
        column: a file in any format that `read_catalogue` reads, or a table in memory. Or one table of bins for each
        object, by the object's id, as CLMM makes them: {"A1689": table, ...}.
    catalogue : HaloCatalogue
        The catalogue, with ids.
    id, radius, shear, error : str, optional
        Columns of the id, the radius of the bin, its tangential (reduced) shear and the error of that; by default
        those with a usual name, CLMM's among them (radius, gt, gt_err).
    source_redshift : str or float, optional
        Column of the sources' redshift, or one number for all; by default z_source, or z, as CLMM calls it.
    sigma_crit : str, optional
        Column of the critical surface density of a bin's sources (proper, without h), in place of their redshift.
    covariance : str, optional
        Column of the covariance of the bins, in place of `error`: a matrix in each row, or its rows one after the
        other. For tables with one row for each object.
    radius_unit : str, optional
        Unit of the radii, in place of the table's: a length (without h) or an angle, such as "kpc" or "arcmin". Lengths
        are proper ones at the lens, and comoving ones are "ckpc" or "cMpc"; a note says so where the table alone gives
        a length.
    sigma_crit_unit : str, optional
        Unit of `sigma_crit`, in place of the table's, such as "Msun/pc2".

    Returns
    -------
    ShearProfiles
        The profiles; bins whose shear is blank are left out.

    Raises
    ------
    MassmapError
        No ids, ids that are not in the catalogue, radii without a unit or with one that is no length or angle, a bin
        that occurs twice; and as `ShearProfiles.from_arrays`.

    Warns
    -----
    UserWarning
        What was guessed.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[3.0, 5.0], redshift=[0.2, 0.3], sigma_ln_luminosity=0.05, ids=["A", "B"]
    ... )
    >>> table = {"radius": [0.5, 1.0, 2.0], "gt": [0.08, 0.04, 0.02], "gt_err": [0.01] * 3, "z": [0.9, 0.9, 1.0]}
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     profiles = mm.read_shear_profiles({"B": table}, catalogue, radius_unit="Mpc")
    >>> profiles.rows.tolist(), profiles.shear.shape
    ([1], (1, 3))
    """
    notes: list[str] = []
    if sigma_crit is not None and source_redshift is not None:
        raise MassmapError("source_redshift= and sigma_crit= are given: a lens needs one of them, leave the other out")
    columns = {"radius": radius, "shear": shear, "error": error, "source_redshift": source_redshift}
    of_sources = "source_redshift"
    if sigma_crit is not None:
        columns["sigma_crit"], of_sources = sigma_crit, "sigma_crit"
    units_given = radius_unit, sigma_crit_unit
    if covariance is not None and error is not None:
        raise MassmapError("error= and covariance= are given: the bins have one of them, leave the other out")
    tables = source if _is_by_id(source) else {None: source}
    opened = {name: open_table(one, text_columns=id_columns(id)) for name, one in tables.items()}
    if None in opened and opened[None].names:
        table = opened[None]
        found, _ = choose_column(table, "radius", radius, "radius", usual=_USUAL["radius"], required=True)
        cells = table.column(str(found))
        if cells.size and (np.ndim(cells) > 1 or np.ndim(cells[0]) > 0):
            return _of_arrays(
                source, table, catalogue, id, columns | {"covariance": covariance}, of_sources, units_given
            )
    if covariance is not None:
        raise MassmapError(
            "covariance= is for a table with one row for each object and arrays of bins in its columns, and this one"
            " has a row for each bin: give their errors, error=, or ShearProfiles.from_arrays(covariance=)"
        )
    if not tables:
        raise MassmapError("no shear profiles are given: the tables by id are none")
    parts = [
        _rows_of(one, opened[name], name, catalogue, id, columns, of_sources, units_given, notes)
        for name, one in tables.items()
    ]
    for note in dict.fromkeys(notes):
        warnings.warn(f"shear profiles: {note}", stacklevel=2)
    units = sorted({unit for unit, _ in parts})
    if len(units) > 1:
        raise MassmapError("some shear profiles have radii that are lengths and some angles: convert them to one kind")
    rows, at, shears, errors, behind = (np.concatenate(found) for found in zip(*(p for _, p in parts), strict=True))
    objects, of_row = np.unique(rows, return_inverse=True)
    order = np.lexsort((at, of_row))
    # The place of each row among those of its object.
    bins = np.empty(rows.size, dtype=int)
    bins[order] = np.arange(rows.size) - np.searchsorted(of_row[order], of_row[order])
    twice = np.zeros(rows.size, dtype=bool)
    twice[order[1:]] = (np.diff(of_row[order]) == 0) & (np.diff(at[order]) == 0)
    if twice.any():
        raise MassmapError(
            f"an object has two bins of one radius in its shear profile: {rows_text(twice, at)}; give one profile each"
        )
    whole = np.full((4, objects.size, bins.max() + 1), np.nan)
    whole[:, of_row, bins] = at, shears, errors, behind
    return ShearProfiles.from_arrays(
        whole[0], whole[1], error=whole[2], rows=objects, radius_unit=units[0], **{of_sources: whole[3]}  # type: ignore[arg-type]
    )  # fmt: skip


def _of_arrays(source, table, catalogue, id, columns, of_sources, units) -> ShearProfiles:
    """Profiles of a table with one row for each object, whose columns hold an array of bins in each row."""
    notes = list(table.notes)

    def chosen(role: str) -> str:
        return _chosen(table, role, columns[role], notes)

    def bins(name: str) -> np.ndarray:
        return as_matrix(table.column(name), f"column {name!r} of {table.label}")

    rows = catalogue_rows(catalogue, table, id_column(catalogue, table, id, notes), notes, OF_LENSES)
    twice = np.isin(rows, rows[np.setdiff1d(np.arange(rows.size), np.unique(rows, return_index=True)[1])])
    if twice.any():
        raise MassmapError(
            f"{table.label} has arrays of bins and more than one row of an object: {rows_text(twice, rows)} (its row in"
            " the catalogue); give one profile each"
        )
    column = chosen("radius")
    kind, factor, is_comoving = _kind_of_radius(source, table, column, units[0], notes)
    radius, shear = bins(column) * factor, bins(chosen("shear"))
    if is_comoving:
        radius = _proper(radius, catalogue, rows, f"{column!r} of {table.label}")
    given: dict[str, Any] = {}
    if columns["covariance"] is None:
        given["error"] = bins(chosen("error"))
    else:
        name, number = chosen("covariance"), shear.shape[1]
        matrix = np.asarray(table.column(name))
        matrix = matrix if matrix.ndim == 3 else bins(name)
        if matrix[0].size != number**2:
            raise MassmapError(
                f"covariance column {name!r} of {table.label} holds {matrix[0].size} numbers in each row, and"
                f" {number} bins need {number} x {number}"
            )
        given["covariance"] = matrix.reshape(-1, number, number)
    if isinstance(columns[of_sources], int | float):
        behind = np.full((rows.size, 1), float(columns[of_sources]))
    else:
        name = chosen(of_sources)
        cells = table.column(name)
        single = np.ndim(cells) == 1 and np.ndim(cells[0]) == 0
        behind = as_float64(cells, f"column {name!r} of {table.label}")[:, None] if single else bins(name)
        if of_sources == "sigma_crit":
            behind = behind * _unit_of_density(table, name, units[1])
    for note in dict.fromkeys(notes):
        warnings.warn(f"shear profiles: {note}", stacklevel=3)
    return ShearProfiles.from_arrays(radius, shear, rows=rows, radius_unit=kind, **given, **{of_sources: behind})  # type: ignore[arg-type]


def _chosen(table: ColumnTable, role: str, given: str | None, notes: list[str]) -> str:
    """The column for a role, whose name is compared with it."""
    name, guessed = choose_column(table, role, given, role, usual=_USUAL.get(role), required=role != "shear")
    if name is None:
        for other in table.names:
            if is_excess(other):
                check_name(role, other, table.label)
        choose_column(table, role, None, role, usual=_USUAL[role], required=True)
    notes.extend(guessed)
    if role in _CHECKED:
        check_name(role, str(name), table.label)
    return str(name)


def _is_by_id(source) -> bool:
    """Whether it holds tables, and is not one whose columns are arrays."""
    return isinstance(source, Mapping) and all(
        isinstance(one, Mapping | str) or hasattr(one, "columns") or hasattr(one, "open") for one in source.values()
    )


def _rows_of(
    source, table, name, catalogue, id, columns, of_sources, units, notes
) -> tuple[str, tuple[np.ndarray, ...]]:
    """Kind of the radii; row, radius, shear, error and redshift or density of the sources, of each row with a shear."""
    notes.extend(table.notes)

    def values(role: str) -> tuple[str | None, np.ndarray]:
        given = columns[role]
        if isinstance(given, int | float):
            return None, np.full(number, float(given))
        column = _chosen(table, role, given, notes)
        return column, as_float64(table.column(column), f"column {column!r} of {table.label}")

    number = table.column(table.names[0]).size
    if number == 0:
        raise MassmapError(f"{table.label} has no rows, and shear profiles are needed")
    if name is None:
        rows = catalogue_rows(catalogue, table, id_column(catalogue, table, id, notes), notes, OF_LENSES)
    else:
        one = ColumnTable("the tables by id", ("id",), lambda _: np.array([name]))
        rows = np.full(number, catalogue_rows(catalogue, one, "id", [], OF_LENSES)[0])
    column, radius = values("radius")
    shear = values("shear")[1]
    kind, factor, is_comoving = _kind_of_radius(source, table, str(column), units[0], notes)
    radius = radius * factor
    if is_comoving:
        radius = _proper(radius, catalogue, rows, f"{column!r} of {table.label}")
    column, behind = values(of_sources)
    if of_sources == "sigma_crit":
        behind = behind * _unit_of_density(table, str(column), units[1])
    found = radius, shear, values("error")[1], behind
    there = ~np.isnan(found[1])
    return kind, (rows[there], *(a[there] for a in found))


def _kind_of_radius(
    source: Any, table: ColumnTable, column: str, given: str | None, notes: list[str]
) -> tuple[str, float, bool]:
    """Mpc or arcmin, what the radii are multiplied by to be in it, and whether they are comoving."""
    of_clmm = str(getattr(source, "meta", {}).get("bin_units", ""))
    unit = given or table.units.get(column) or of_clmm or unit_in_name(column)
    if not unit:
        raise MassmapError(
            f"radius column {column!r} of {table.label} states no unit: give radius_unit='Mpc' (proper), 'cMpc'"
            " (comoving), 'arcmin', ..."
        )
    plain, frame = _frame_of(unit)
    check_name("radius", column, table.label, plain, is_comoving=frame == "comoving")
    for kind in ("Mpc", "arcmin"):
        factor = unit_factor("rad" if plain.lower() == "radians" else plain, kind)
        if factor is None:
            continue
        # CLMM's are proper, and so are those whose unit the user gives.
        is_told = frame or given or of_clmm or re.search("(?i)proper|phys", table.descriptions.get(column, "") + column)
        if kind == "Mpc" and not is_told:
            notes.append(
                f"radii in column {column!r} are in {unit!r}, and are taken as proper lengths at the lens: give"
                f" radius_unit='c{plain}' where they are comoving"
            )
        return kind, factor, frame == "comoving"
    raise MassmapError(
        f"radii in column {column!r} of {table.label} are in {unit!r}, which is no length without h and no angle:"
        " convert them to Mpc or arcmin, or give the right radius_unit="
    )


def _frame_of(unit: str) -> tuple[str, str]:
    """A unit without the word for its frame, and that: "Mpc" and "comoving" for "cMpc" and "Mpc (comoving)"."""
    word = r"[(\[]?\s*(co-?moving|com|proper|physical|phys)\.?\s*[)\]]?"
    found = re.fullmatch(rf"(?i)\s*{word}\s*([kM]?pc)\s*|\s*([kM]?pc)\s*{word}\s*", unit)
    if found is None:
        short = re.fullmatch(r"\s*([cp])([kM]pc)\s*", unit)
        return (unit, "") if short is None else (short[2], {"c": "comoving", "p": "proper"}[short[1]])
    said = (found[1] or found[4]).lower()
    return found[2] or found[3], "comoving" if said.startswith("co") else "proper"


def _proper(radius: np.ndarray, catalogue: HaloCatalogue, rows: np.ndarray, where: str) -> np.ndarray:
    """Proper radii of comoving ones."""
    z = catalogue.redshift[rows]
    unknown = ~(np.isfinite(z) & (z > 0))
    if unknown.any():
        raise MassmapError(
            f"radii in column {where} are comoving, and the lens has no redshift in {rows_text(unknown, z)}: divide"
            " them by 1 + z of the lens"
        )
    return radius / (1.0 + (z if radius.ndim == 1 else z[:, None]))


def _unit_of_density(table: ColumnTable, column: str, given: str | None) -> float:
    """What critical surface densities are multiplied by to be in Msun / Mpc^2."""
    unit = given or table.units.get(column) or unit_in_name(column)
    if not unit:
        raise MassmapError(
            f"critical surface densities in column {column!r} of {table.label} state no unit: give"
            " sigma_crit_unit='Msun/Mpc2', 'Msun/pc2', ..."
        )
    factor = unit_factor(unit, "Msun / Mpc2")
    if factor is None:
        raise MassmapError(
            f"critical surface densities in column {column!r} of {table.label} are in {unit!r}, which is no mass per"
            " area without h: convert them to Msun/Mpc2, or give the right sigma_crit_unit="
        )
    return factor
