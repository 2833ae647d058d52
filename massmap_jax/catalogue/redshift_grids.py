"""Redshifts at which p(z) is given: a range, a column, a file, or what lies beside p(z) in its own file."""

import contextlib
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.column_checks import refuse_no_redshift
from massmap_jax.catalogue.columns import ColumnTable, as_float64, as_matrix
from massmap_jax.catalogue.hdf5 import nodes_of_qp
from massmap_jax.catalogue.redshift_shapes import check_nodes
from massmap_jax.catalogue.tables import open_table, sniff_format, split_extension
from massmap_jax.errors import MassmapError

# Of common redshifts for p(z) on grids of their own: half the step that 5 % are finer than, and no more than these.
_FINEST, _MOST = 5.0, 2000
# Beyond the last redshift of the rows that are known, for others of the same catalogue.
_BEYOND = 1.25


def common_grid(table: ColumnTable, given: str | None, density: np.ndarray, notes: list[str]):
    """Give p(z) of all objects at common redshifts.

    Parameters
    ----------
    table : ColumnTable
        The table.
    given : str or None
        "first:last:number", a column, a file, or the name of what holds redshifts in the table's own file; None for
        what a qp ensemble has.
    density : Float[np.ndarray, "halo node"]
        p(z) as the column has it.
    notes : list of str
        What was done is added.

    Returns
    -------
    nodes : Float[np.ndarray, "node"]
        The redshifts.
    density : Float[np.ndarray, "halo node"]
        p(z) there. Rows with redshifts of their own are interpolated, ln p linear, and are 0 beyond them.

    Raises
    ------
    MassmapError
        Where no redshifts are found, or they are none.
    """
    if given is not None and given in table.names:
        return _of_column(table, given, density, notes)
    file = split_extension(table.label)[0]
    if given is None or given in ("xvals", "bins"):
        nodes = nodes_of_qp(file) if Path(file).is_file() and sniff_format(file) == "hdf5" else None
        if nodes is not None:
            notes.append(f"the redshifts of p(z) are those of the qp ensemble {table.label}")
            if nodes.size == density.shape[1] + 1:  # edges of a histogram
                nodes = 0.5 * (nodes[1:] + nodes[:-1])
            return check_nodes(nodes), density
    if given is None:
        raise MassmapError(
            "z_pdf= is given without the redshifts that its columns are for: give z_grid=, a range such as"
            " '0:3:301' (first, last, number), a column that holds them in each row, or a file"
        )
    parts = given.split(":")
    if len(parts) == 3 and not Path(split_extension(given)[0]).exists():
        try:
            low, high, number = float(parts[0]), float(parts[1]), int(parts[2])
        except ValueError:
            raise MassmapError(f"z_grid={given!r} is no range: give first, last and number, as in '0:3:301'") from None
        if not (np.isfinite([low, high]).all() and 3 <= number <= 100_000):
            raise MassmapError(f"z_grid={given!r}: give two finite redshifts and from 3 to 100000 for their number")
        return check_nodes(np.linspace(low, high, number)), density
    if Path(split_extension(given)[0]).is_file():
        return check_nodes(_numbers_of_file(given)), density
    if Path(file).is_file() and sniff_format(file) in ("fits", "hdf5"):
        beside = f"{file}[{given}]"
        with contextlib.suppress(MassmapError):
            nodes = _numbers_of_file(beside)
            notes.append(f"the redshifts of p(z) are those of {beside}")
            return check_nodes(nodes), density
    raise MassmapError(
        f"z_grid={given!r} is neither a range such as '0:3:301', nor a column of {table.label}, nor a file, nor another"
        " table or array of its file"
    )


def _of_column(table: ColumnTable, given: str, density: np.ndarray, notes: list[str]):
    """Redshifts in each row, the same in all of them or not."""
    known = as_matrix((table.sample or table).column(given), f"z_grid column {given!r}")
    rows = as_matrix(table.column(given), f"z_grid column {given!r}", known.shape[1])
    there, whole = np.isfinite(rows).all(axis=1), np.isfinite(known).all(axis=1)
    if not there.any() and not whole.any():
        raise MassmapError(f"z_grid column {given!r} of {table.label} has no row without a missing number")
    first = known[np.argmax(whole)] if whole.any() else rows[np.argmax(there)]
    if rows.shape[1] != first.size:
        raise MassmapError(
            f"z_grid column {given!r} of {table.label} has {rows.shape[1]} redshifts in some rows and"
            f" {first.size} in others: evaluate p(z) of all objects at the same redshifts"
        )
    refuse_no_redshift(table, given, first)
    if rows.shape[1] != density.shape[1]:
        raise MassmapError(
            f"z_grid column {given!r} of {table.label} has {rows.shape[1]} redshifts in each row, and p(z) has"
            f" {density.shape[1]} numbers: give p(z) at these redshifts"
        )
    alike = not (known[whole] != first).any() if whole.any() else not (rows[there] != first).any()
    if alike and not (rows[there] != first).any():
        return check_nodes(first), density
    # The same in all parts of a catalogue, whatever the rows of this one.
    nodes = check_nodes(first) if alike else _shared(known[whole] if whole.any() else rows[there])
    notes.append(
        f"{given!r} has redshifts of its own in each row: p(z) is taken at {nodes.size} common ones from {nodes[0]:g}"
        f" to {nodes[-1]:g}, ln p linear between those of the row and 0 beyond them"
    )
    return nodes, _interpolated(nodes, rows, density)


def _shared(rows: np.ndarray) -> np.ndarray:
    """Common redshifts of p(z) on grids of their own."""
    steps = np.median(np.diff(rows, axis=1), axis=1)
    step = 0.5 * np.percentile(steps[steps > 0], _FINEST) if (steps > 0).any() else 0.0
    low, high = max(float(rows.min()), 0.0), _BEYOND * float(rows.max())
    if not (step > 0 and high > low):
        raise MassmapError("the redshifts of p(z) do not rise within a row: give them in increasing order")
    return check_nodes(np.linspace(low, high, int(np.clip(np.ceil((high - low) / step) + 1, 3, _MOST))))


def _interpolated(nodes: np.ndarray, rows: np.ndarray, density: np.ndarray) -> np.ndarray:
    """p(z) at common redshifts; NaN where a row's redshifts or p(z) cannot be used."""
    found = np.full((rows.shape[0], nodes.size), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_density = np.log(density)
    for i, (z, ln_p) in enumerate(zip(rows, ln_density, strict=True)):
        if np.isfinite(z).all() and (np.diff(z) >= 0).all() and np.isfinite(top := ln_p.max()):
            # Of ln 0 nothing is interpolated: exp(-700) is 0 in any sum.
            found[i] = np.exp(top + np.interp(nodes, z, np.maximum(ln_p - top, -700.0), left=-np.inf, right=-np.inf))
    return found


def _numbers_of_file(path: str) -> np.ndarray:
    """Numbers of a file: its only column, or the array in the only row of a table or in a data set."""
    file, extension = split_extension(path)
    if file.endswith(".npy"):
        try:
            return np.ravel(np.load(file, allow_pickle=False)).astype(np.float64)
        except (OSError, ValueError) as error:
            raise MassmapError(f"z_grid={path!r} holds no array of numbers: {error}") from None
    kind = sniff_format(file)
    if extension is not None and kind in ("fits", "hdf5"):
        array = _array_of(file, extension, kind)
        if array is not None:
            return np.ravel(array)
    table = open_table(path)
    named = [name for name in table.names if name.lower() in ("z", "z_grid", "zgrid", "redshift", "xvals", "z_mid")]
    chosen = table.names[0] if len(table.names) == 1 else named[0] if len(named) == 1 else None
    if chosen is None:
        raise MassmapError(f"z_grid={path!r} has {len(table.names)} columns: give a file with one, or name it z")
    values = table.column(chosen)
    found = np.ravel(values) if np.ndim(values) == 2 and len(values) == 1 else as_float64(values, "z_grid")
    refuse_no_redshift(table, chosen, found)
    return found


def _array_of(file: str, name: str, kind: str) -> np.ndarray | None:
    """A data set of HDF5 or an image of FITS; None where it is a table."""
    if kind == "hdf5":
        import h5py

        with h5py.File(file, "r") as opened:
            item = opened.get(name)
            return item[()] if isinstance(item, h5py.Dataset) and item.dtype.names is None else None
    from astropy.io import fits

    with fits.open(file) as hdus:
        key = int(name) if name.isdigit() else name
        hdu = hdus[key] if (isinstance(key, int) and key < len(hdus)) or key in hdus else None
        if not isinstance(hdu, fits.ImageHDU | fits.PrimaryHDU) or hdu.data is None:
            return None
        return np.array(hdu.data, dtype=np.float64)
