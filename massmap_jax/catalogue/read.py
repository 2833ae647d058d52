"""`read_catalogue` and `read_relation`: catalogues and relation draws from files or tables in memory."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, id_columns
from massmap_jax.catalogue.columns import ColumnTable, as_float64, rows_text
from massmap_jax.catalogue.flags import count
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.luminosity import linear_luminosity, numbers, sigma_ln_errors
from massmap_jax.catalogue.position_columns import find_positions
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import has_little_h, is_log_unit, name_has_little_h, split_unit_scale
from massmap_jax.catalogue.write import atomic_directory, write_table
from massmap_jax.errors import MassmapError

__all__ = ["atomic_directory", "read_catalogue", "read_relation", "write_table"]


def read_catalogue(
    source,
    *,
    lum: str | None = None,
    z: str | None = None,
    sigma: str | float | None = None,
    sigma_kind: Literal["ln", "dex", "linear"] = "ln",
    sigma_plus: str | None = None,
    sigma_minus: str | None = None,
    min_snr: float = 3.0,
    ra: str | None = None,
    dec: str | None = None,
    id: str | None = None,
    truth: str | None = None,
    names: Sequence[str] | None = None,
    lum_log: Literal["none", "ln", "log10"] = "none",
    lum_scale: float = 1.0,
    lum_unit: str | None = None,
    delimiter: str | None = None,
    header: Literal["yes", "no"] | None = None,
    position_unit: Literal["deg", "hourangle", "arcmin", "rad"] | None = None,
    field_centre: tuple[float, float] | None = None,
    duplicate_ids: Literal["error", "row_number"] = "error",
    format: str | None = None,
    need_usable: bool = True,
) -> HaloCatalogue:
    r"""Read a catalogue from a file or a table in memory.

    Columns that are not named are guessed from their usual names. Every guess and conversion is listed in the
    catalogue's `notes`: print them.

    Parameters
    ----------
    source : str, os.PathLike, dict, astropy.table.Table, pandas.DataFrame, pyarrow.Table or np.ndarray, (row,)
        Path of a file, or a table in memory: a dict of arrays, a table of one of these packages, or a structured array.
        See `massmap_jax.catalogue.tables.open_table` for the kinds of file.
    lum : str, optional
        Column of the luminosity, or of another observable of the mass. It must be named or found.
    z : str, optional
        Column of the redshift. It must be named or found.
    sigma : str or float, optional
        Column of the luminosity error, or one number for all rows; 0.05 in ln L where there is neither.
    sigma_kind : {"ln", "dex", "linear"}
        Whether that error is in ln L, in dex, or a bar in the luminosity's own unit.
    sigma_plus, sigma_minus : str, optional
        Columns of the upper and lower bar, in the unit of the luminosity column (or of its logarithm, with `lum_log`).
    min_snr : float
        Linear bars are refused, and the row flagged SIGMA_LOW_SNR, where L over the mean of its bars is below this
        number or the lower bar reaches zero: lognormal noise cannot describe such bars.
    ra, dec : str, optional
        Columns of the position, in the unit that `position_unit` says.
    id : str, optional
        Column of the ids.
    truth : str, optional
        Column of the true mass [Msun], for simulations.
    names : sequence of str, optional
        Column names of a text file without a header.
    lum_log : {"none", "ln", "log10"}
        Whether the luminosity column is a logarithm.
    lum_scale : float
        Factor that multiplies the (linear) luminosity: 1e14 for masses listed in 1e14 Msun.
    lum_unit : str, optional
        Unit of the luminosity, which replaces the one in the file. A leading number, as in "1e14 Msun", is a scale.
    delimiter : str, optional
        What stands between the cells of a text file: "comma", "semicolon", "tab", "pipe", "space" or the character
        itself; by default what gives every line the same number of cells.
    header : {"yes", "no"}, optional
        Whether the first line of a text file names its columns; by default that is found from the lines.
    position_unit : {"deg", "hourangle", "arcmin", "rad"}, optional
        Unit of the positions; by default the one in the file, or else degrees. Sexagesimal text, and angles split over
        columns (RAh RAm RAs DE- DEd DEm DEs), are read as such.
    field_centre : tuple of (float, float), optional
        RA and Dec [deg] of the origin of offsets in arcmin.
    duplicate_ids : {"error", "row_number"}
        What to do with repeated or missing ids; see `HaloCatalogue.from_arrays`.
    format : {"cds", "csv", "ecsv", "fits", "hdf5", "ipac", "mrt", "parquet", "text", "votable"}, optional
        Kind of file, where its content does not tell.
    need_usable : bool
        Refuse a catalogue without a usable row. Pass False for a part of a larger catalogue, which may have none.

    Returns
    -------
    HaloCatalogue
        Rows in the order of the file. Unusable ones are among them, with NaN and a flag.

    Raises
    ------
    MassmapError
        For whatever cannot be read, or could be read in two ways. The message says which column and rows, and what to
        do.

    See Also
    --------
    massmap_jax.HaloCatalogue.from_arrays : Make a catalogue from arrays.

    Notes
    -----
    Upper and lower bars e+ and e- become half of the logarithmic interval that they span,

        sigma = [ln(1 + e+/L) - ln(1 - e-/L)] / 2

    and a linear error e is a bar with e+ = e- = e. For a luminosity column that is a logarithm, sigma is the mean of
    the two bars (converted to natural logarithms).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import massmap_jax as mm
    >>> text = "name,ra,dec,z,L500,e_L500\nA,150.1,2.2,0.21,4.1,0.4\nB,150.3,2.4,0.35,6.0,0.5\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "clusters.csv"
    ...     length = path.write_text(text)
    ...     catalogue = mm.read_catalogue(path, sigma="e_L500", sigma_kind="linear", lum_unit="1e44 erg/s")
    >>> for note in catalogue.notes:
    ...     print(note)
    luminosity column: guessed 'L500'
    redshift column: guessed 'z'
    ra column: guessed 'ra'
    dec column: guessed 'dec'
    id column: guessed 'name'
    luminosity: multiplied by 1e+44, the scale in its unit
    position unit: not stated, taken as deg
    >>> catalogue.sigma_ln_lum.round(3).tolist()
    [0.098, 0.084]
    """
    table = open_table(
        source, format=format, names=names, text_columns=id_columns(id), delimiter=delimiter, header=header
    )
    notes = list(table.notes)

    def choose(role, given, option, **keywords):
        name, more = choose_column(table, role, given, option, **keywords)
        notes.extend(more)
        return name

    lum_name = choose("luminosity", lum, "lum", required=True)
    z_name = choose("redshift", z, "z", required=True)
    if lum_name == z_name:
        raise MassmapError(f"lum and z are both column {lum_name!r} of {table.label}: choose two columns")
    position = find_positions(table, ra, dec, position_unit, field_centre, notes)
    id_name = choose("id", id, "id")
    truth_name = choose("true mass", truth, "truth")

    redshift = numbers(table, z_name, "redshift", notes)
    _refuse_velocity(table, z_name, redshift)
    raw = numbers(table, lum_name, "luminosity", notes)
    if raw.size == 0:
        raise MassmapError(f"{table.label} has no rows: at least one object is needed")
    luminosity, bits, unit = linear_luminosity(table, lum_name, raw, lum_log, lum_scale, lum_unit, notes)
    sigma_ln, more_bits = sigma_ln_errors(
        table, lum_name, raw, lum_log, sigma, sigma_kind, sigma_plus, sigma_minus, min_snr, choose, notes
    )
    truth_mass = None if truth_name is None else _truth_mass(table, truth_name, notes)
    ids = None if id_name is None else table.column(id_name)
    catalogue = HaloCatalogue.from_arrays(
        luminosity=luminosity,
        redshift=redshift,
        sigma_ln_luminosity=sigma_ln,
        ids=ids,
        truth_mass=truth_mass,
        lum_unit=unit,
        duplicate_ids=duplicate_ids,
        flag=bits | more_bits,
        notes=tuple(notes),
        **position,
    )
    if need_usable and not catalogue.usable.any():
        reasons = ", ".join(f"{name} {rows}" for name, rows in count(catalogue.flag).items())
        snr = f"; the signal-to-noise limit is min_snr={min_snr:g}" if "SIGMA_LOW_SNR" in reasons else ""
        log = f", with lum_log={lum_log!r}," if lum_log != "none" else ""
        raise MassmapError(
            f"none of the {len(catalogue)} rows of {table.label} can be used ({reasons}{snr}): are{log}"
            f" {lum_name!r} (luminosity) and {z_name!r} (redshift) the right columns, in the right units?"
        )
    return catalogue


def _refuse_velocity(table: ColumnTable, name: str, z: np.ndarray):
    """Refuse a redshift column that holds velocities, by its unit or its values."""
    unit = table.units.get(name, "")
    good = z[np.isfinite(z) & (z > 0)]
    if "km" in unit or "m / s" in unit or (good.size and np.median(good) > 200.0):
        raise MassmapError(
            f"redshift column {name!r} of {table.label} looks like a velocity (unit {unit!r}, first row 0"
            f" with value {float(z[0])!r}): divide it by the speed of light, 299792.458 km/s"
        )


def _truth_mass(table: ColumnTable, name: str, notes: list[str]) -> np.ndarray:
    """Give the true masses in Msun; refuse a column that is a logarithm or in units with h."""
    mass, unit = numbers(table, name, "true mass", notes), table.units.get(name, "")
    good = mass[np.isfinite(mass) & (mass > 0)]
    if has_little_h(unit) or name_has_little_h(name) or is_log_unit(unit) or (good.size and good.max() < 100.0):
        raise MassmapError(
            f"true mass column {name!r} of {table.label} (unit {unit!r}, largest {good.max(initial=0.0):g})"
            " is not in Msun: convert it to linear Msun without h"
        )
    return mass * split_unit_scale(unit)[0]


def read_relation(path) -> dict[str, np.ndarray]:
    """Read draws of the mass-luminosity relation from a file.

    Parameters
    ----------
    path : str or os.PathLike
        An .npz archive, or a table of any kind that `open_table` reads, with one row per draw.

    Returns
    -------
    dict of str to Float[np.ndarray, "draw"]
        alpha1, alpha2, alpha4 and scatter (also read from a column S), and alpha3 [Msun] and log_weight where the file
        has them.

    Raises
    ------
    MassmapError
        For a parameter that is missing, values that are not finite, or a negative scatter.
    """
    path = str(path)
    table = _open_npz(path) if _is_zip(path) else open_table(path)
    draws = {}
    for name in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter", "log_weight"):
        usual = ({name}, {"s"}) if name == "scatter" else ({name},)
        column, _ = choose_column(table, name, None, name, usual=usual)
        if column is not None:
            draws[name] = np.atleast_1d(as_float64(table.column(column), f"relation parameter {name!r} of {path}"))
    missing = [name for name in ("alpha1", "alpha2", "alpha4", "scatter") if name not in draws]
    if missing:
        raise MassmapError(
            f"{path} has no {', '.join(missing)}: a relation needs alpha1, alpha2, alpha4 and scatter, one draw per row"
        )
    rows = max(values.size for values in draws.values())
    if rows == 0:
        raise MassmapError(f"{path} has no rows: a relation needs at least one draw")
    for name, values in draws.items():
        if values.size not in (1, rows):
            raise MassmapError(
                f"relation parameter {name!r} of {path} has {values.size} draws where another has {rows}:"
                " give one per draw"
            )
        values = draws[name] = np.broadcast_to(values, (rows,)).copy()
        # A weight of zero is a log weight of -inf, which is allowed.
        bad = np.isnan(values) | (values == np.inf) if name == "log_weight" else ~np.isfinite(values)
        if name == "scatter":
            bad |= values < 0
        if bad.any():
            need = "finite and not negative" if name == "scatter" else "finite"
            raise MassmapError(
                f"relation parameter {name!r} of {path} must be {need}, but is not in"
                f" {rows_text(bad, values)}: remove those draws"
            )
    return draws


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _open_npz(path: str) -> ColumnTable:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.atleast_1d(archive[name]) for name in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise MassmapError(f"{path} cannot be read as npz: {error}") from error
    return ColumnTable(path, tuple(arrays), arrays.__getitem__)
