"""`read_catalogue` and `read_relation`: catalogues and relation draws from files or tables in memory."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from massmap_jax.catalogue.column_checks import (
    coordinates_in_a_box,
    near_objects,
    note_errors_of_others,
    note_masses_of_this_program,
    note_redshift_errors,
    note_redshift_quality,
    note_redshifts_of_zero,
    refuse_errors,
    refuse_no_redshift,
    refuse_other_redshifts,
    refuse_summary_rows,
    repeated_objects,
)
from massmap_jax.catalogue.column_names import choose_column, id_columns, normal_name
from massmap_jax.catalogue.columns import ColumnTable
from massmap_jax.catalogue.flags import SIGMA_BAD, Flag, count
from massmap_jax.catalogue.halo_catalogue import LEAST_SNR, HaloCatalogue
from massmap_jax.catalogue.layouts import find_layout, keywords_of, recognised
from massmap_jax.catalogue.limit_flags import limits_among, note_limits_of_any, note_other_flags
from massmap_jax.catalogue.luminosity import named_log, numbers, read_luminosity, typical
from massmap_jax.catalogue.luminosity_error import read_sigma
from massmap_jax.catalogue.magnitudes import Magnitudes
from massmap_jax.catalogue.photo_z import Contains
from massmap_jax.catalogue.placeholders import is_log_sentinel
from massmap_jax.catalogue.position_columns import find_positions, without_zeros
from massmap_jax.catalogue.positions import check_positions
from massmap_jax.catalogue.redshift_columns import RedshiftColumns, one_redshift
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.catalogue.repeated_values import repeated_values
from massmap_jax.catalogue.sky_frames import angle_columns
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import (
    LN10,
    has_little_h,
    is_log_unit,
    log_kind,
    mass_definition_in,
    name_has_little_h,
    overdensity_in,
    split_unit_scale,
    strip_log,
    unit_factor,
    unit_in_name,
)
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError

__all__ = ["read_catalogue", "read_relation", "write_table"]


def read_catalogue(
    source,
    *,
    columns: str | None = None,
    lum: str | None = None,
    z: str | float | None = None,
    sigma: str | float | None = None,
    sigma_kind: Literal["ln", "dex", "linear", "percent", "fraction", "mag", "bounds"] | None = None,
    sigma_plus: str | None = None,
    sigma_minus: str | None = None,
    min_snr: float = 3.0,
    noise: Literal["lognormal", "linear"] = "lognormal",
    ra: str | None = None,
    dec: str | None = None,
    id: str | None = None,
    truth: str | None = None,
    names: Sequence[str] | None = None,
    lum_log: Literal["none", "ln", "log10"] | None = None,
    lum_scale: float | None = None,
    lum_unit: str | None = None,
    lum_in: str | None = None,
    magnitudes: Literal["absolute", "apparent"] | None = None,
    mag_zero: float | None = None,
    k_correction: float = 0.0,
    cosmology="Planck18",
    delimiter: str | None = None,
    header: Literal["yes", "no"] | None = None,
    position_unit: Literal["deg", "hourangle", "arcmin", "rad"] | None = None,
    field_centre: tuple[float, float] | None = None,
    duplicate_ids: Literal["error", "row_number"] = "error",
    z_err: str | float | None = None,
    z_err_kind: Literal["z", "relative"] | None = None,
    z_err_zero: Literal["refuse", "exact"] = "refuse",
    z_pdf: str | None = None,
    z_grid: str | None = None,
    z_quantiles: str | None = None,
    z_contains: Contains | None = None,
    z_code_prior: str | None = None,
    lum_moves: Literal["yes", "no"] | None = None,
    z_k_slope: float = 0.0,
    format: str | None = None,
    need_usable: bool = True,
    need_positions: bool = True,
) -> HaloCatalogue:
    r"""Read a catalogue from a file or a table in memory.

    Columns that are not named are guessed from their usual names. Every guess and conversion is listed in the
    catalogue's `notes`: print them.

    Parameters
    ----------
    source : str, os.PathLike, dict, astropy.table.Table, pandas.DataFrame, pyarrow.Table or np.ndarray, (row,)
        Path of a file, or a table in memory: a dict of arrays, a table of one of these packages, or a structured array.
        See `massmap_jax.catalogue.tables.open_table` for the kinds of file.
    columns : str, optional
        Layout of a published catalogue, such as "act" or "redmapper" (`massmap-jax columns` lists them): it names the
        columns, and what is given beside it takes its place.
    lum : str, optional
        Column of the luminosity, or of another observable of the mass. It must be named or found.
    z : str or float, optional
        Column of the redshift. It must be named or found. Or one number, the redshift of all objects, as those of a
        snapshot have; text that is a number is a column where there is one of that name.
    sigma : str or float, optional
        Column of the luminosity error, or one number for all rows. It must be given or found.
    sigma_kind : {"ln", "dex", "linear", "percent", "fraction", "mag", "bounds"}, optional
        Whether that error is in ln L, in dex, a bar in the luminosity's own unit, per cent or a fraction of the
        luminosity, in magnitudes, or (with `sigma_plus` and `sigma_minus`) bounds. By default the unit of the column
        decides, then its name; a number is in ln L, or in dex for a log10 column. Where nothing says, it is asked for.
    sigma_plus, sigma_minus : str, optional
        Columns of the upper and lower bar, or bound.
    min_snr : float
        Linear bars are refused, and the row flagged SIGMA_LOW_SNR, where L over the mean of its bars is below this
        number or the lower bar reaches zero: lognormal noise cannot describe such bars.
    noise : {"lognormal", "linear"}
        How the luminosity scatters about the true one: lognormal, or with a normal error of the luminosity itself, as
        counts, fluxes and significances do. Linear noise needs linear bars, and keeps rows of any signal to noise,
        those of zero and less down to four errors below it.
    ra, dec : str, optional
        Columns of the position, in the unit that `position_unit` says. Where there are none, galactic coordinates (GLON
        and GLAT, or l and b with the unit deg) and a SkyCoord column of astropy are converted.
    id : str, optional
        Column of the ids.
    truth : str, optional
        Column of the true mass [Msun], for simulations.
    names : sequence of str, optional
        Column names of a text file without a header.
    lum_log : {"none", "ln", "log10"}, optional
        Whether the luminosity column is a logarithm. By default it is linear, and refused where name, unit or values
        look like a logarithm.
    lum_scale : float, optional
        Factor that multiplies the (linear) luminosity: 1e14 for masses listed in 1e14 Msun. By default the scale in its
        unit; 1 leaves the numbers as they are.
    lum_unit : str, optional
        Unit of the luminosity, which replaces the one in the file. A leading number, as in "1e14 Msun", is a scale.
    lum_in : str, optional
        Unit to convert the luminosity to, such as "1e44 erg/s".
    magnitudes : {"absolute", "apparent"}, optional
        The luminosity column holds magnitudes.
    mag_zero : float, optional
        Absolute magnitude of one unit of luminosity; it must be given for magnitudes.
    k_correction : float
        Of apparent magnitudes: slope s of the K-correction (1 + z)^s of the luminosity.
    cosmology : str or astropy.cosmology.FLRW
        Of apparent magnitudes: where distances come from.
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
    z_err : str or float, optional
        Column of the error of the redshift, or one number for all rows: redshifts are then distributions
        (`RedshiftDistributions`). Two columns "low,high" are the ends of an interval of 68 %, or the bars to either
        side, of which the error is half the length. Without it each redshift is taken as exact.
    z_err_kind : {"z", "relative"}, optional
        Whether that error is one of z, or is over 1 + z. A column is one of z by default; for a number it is asked.
    z_err_zero : {"refuse", "exact"}
        What an error of 0 means: it is refused, or the redshift is exact.
    z_pdf : str, optional
        Column of p(z), an array of numbers in each row: a vector column of FITS or VOTable, a column of lists in
        Parquet, a data set of two dimensions in HDF5. It takes the place of `z_err`; `z` stays the redshift that the
        luminosity was computed with.
    z_grid : str, optional
        The redshifts that p(z) is for: a range "0:3:301" (first, last, number), a column that holds them in each row,
        the name of another table or array in the catalogue's file, or a file: a column of text, .npy, or path[NAME] of
        an image or table of FITS, or of a data set of HDF5. A file of qp has its own.
    z_quantiles : str, optional
        Columns of quantiles of p(z), per cent and column: "1:z01,5:z05,16:z16,...". Nine or more, from 2 or less to 98
        or more; it takes the place of `z_err`.
    z_contains : {"likelihood", "posterior", "posterior_with_flux"}, optional
        What went into the redshifts; it has to be said with `z_err`, `z_pdf` or `z_quantiles`. "likelihood": they
        scatter about the true ones by the error, or p(z) is what was measured alone. "posterior": also a distribution
        of redshifts, `z_code_prior`. "posterior_with_flux": p(z) has seen the flux of the object.
    z_code_prior : str, optional
        File with that distribution, redshifts and density in its first two columns; it is divided out.
    lum_moves : {"yes", "no"}, optional
        Whether the luminosity was computed from a flux with this redshift, so that it changes with z; it has to be
        said, too.
    z_k_slope : float
        Slope s of the K-correction (1 + z)^s of such a luminosity.
    format : {"cds", "csv", "ecsv", "fits", "hdf5", "ipac", "mrt", "parquet", "text", "votable"}, optional
        Kind of file, where its content does not tell.
    need_usable : bool
        Refuse a catalogue without a usable row. Pass False for a part of a larger catalogue, which may have none.
    need_positions : bool
        Refuse positions that cannot be read. Pass False where masses alone are wanted: a note then says so instead.

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
    position unit: not stated, taken as deg
    id column: guessed 'name'
    luminosity: multiplied by 1e+44, the scale in its unit, to erg/s; lum_in='1e44 erg/s' keeps the numbers as they are
    >>> catalogue.sigma_ln_lum.round(3).tolist()
    [0.098, 0.084]
    """
    layout = None if columns is None else find_layout(columns)
    if layout is not None and layout.names and names is None:
        names = layout.names
    text_columns = id_columns(id)
    if layout is not None:
        text_columns = text_columns.union(map(normal_name, layout.columns.get("id", ())))
    table = open_table(
        source, format=format, names=names, text_columns=text_columns, delimiter=delimiter, header=header
    )
    notes = list(table.notes)
    mass_definition, hint = None, ""
    if layout is not None:
        told = {"lum": lum, "z": z, "sigma": sigma, "sigma_kind": sigma_kind, "sigma_plus": sigma_plus}
        told |= {"sigma_minus": sigma_minus, "ra": ra, "dec": dec, "id": id, "lum_unit": lum_unit, "lum_in": lum_in}
        told = keywords_of(layout, table, {name: value for name, value in told.items() if value is not None})
        lum, z, sigma, sigma_kind = (told.get(name) for name in ("lum", "z", "sigma", "sigma_kind"))
        sigma_plus, sigma_minus, ra, dec = (told.get(name) for name in ("sigma_plus", "sigma_minus", "ra", "dec"))
        id, lum_unit, lum_in = (told.get(name) for name in ("id", "lum_unit", "lum_in"))
        mass_definition = told.get("mass_definition")
        duplicate_ids = told.get("duplicate_ids", duplicate_ids) if duplicate_ids == "error" else duplicate_ids
        notes.append(f"layout {layout.name}: {layout.catalogue} ({layout.verified}); observable {layout.observable}")
        notes.extend(f"layout {layout.name}: {note}" for note in layout.notes)
    elif (known := recognised(table)) is not None:
        hint = f"the columns look like those of {known.catalogue}: columns={known.name!r} reads them"
        notes.append(hint)

    columns_read: dict[str, str] = {}

    def choose(role, given, option, hint=hint, **keywords):
        try:
            name, more = choose_column(table, role, given, option, **keywords)
        except MassmapError as error:
            raise MassmapError(f"{error}; {hint}" if hint else str(error)) from None
        notes.extend(more)
        if name is not None:
            columns_read[option] = name
        return name

    lum_name = choose("luminosity", lum, "lum", required=True, never=angle_columns(table))
    box = frozenset() if layout is not None else coordinates_in_a_box(table)
    in_box = "".join(f"{name!r} beside x and y looks like a place in a box and no redshift" for name in box)
    one_for_all = one_redshift(table, z, {"z_err": z_err, "z_pdf": z_pdf, "z_quantiles": z_quantiles})
    if one_for_all is None:
        hint_in_box = in_box and f"{in_box}: of a snapshot, give the one of all, as z=0.3"
        z_name = choose("redshift", z, "z", required=True, never=box, hint=hint_in_box or hint)
    else:
        z_name = f"z={one_for_all:g}"
        columns_read["z"] = f"{one_for_all:g} for all"
        notes.append(f"redshift: {one_for_all:g} for all objects, as z= is a number and no column has that name")
    if z_name in box:
        notes.append(f"{in_box}: taken as one, as z= says")
    if lum_name == z_name:
        raise MassmapError(f"lum and z are both column {lum_name!r} of {table.label}: choose two columns")
    refuse_errors(table, lum_name, z_name, sigma)
    note_errors_of_others(table, (lum_name, z_name), (sigma, z_err), notes)
    note_masses_of_this_program(table, lum_name, notes)
    try:
        position, placed = find_positions(table, ra, dec, position_unit, field_centre, notes)
        if position:
            check_positions(**position)
            like = position
            if table.sample is not None:
                with contextlib.suppress(MassmapError):  # the part that holds what cannot be read says so
                    like, _ = find_positions(table.sample, ra, dec, position_unit, field_centre, [])
            position = without_zeros(position, like, notes)
    except MassmapError as error:
        if need_positions:
            raise
        position, placed = {}, {}
        notes.append(f"no positions, which are not needed here: {error}")
    columns_read |= placed
    id_name = choose("id", id, "id")
    truth_name = choose("true mass", truth, "truth")

    if one_for_all is None:
        redshift = numbers(table, z_name, "redshift", notes)
        refuse_no_redshift(table, z_name, redshift)
    else:
        redshift = np.full(len(table.column(lum_name)), one_for_all)
    # Not in a few rows of a larger catalogue, which may differ.
    if z is None and layout is None and (need_usable or table.sample is not None):
        whole = table if table.sample is None else table.sample
        refuse_other_redshifts(whole, z_name, typical(table, z_name, redshift), box)
    if one_for_all is None:
        note_redshifts_of_zero(z_name, redshift, notes)
    if noise not in ("lognormal", "linear"):
        raise MassmapError(f"noise is {noise!r}: it must be lognormal or linear")
    if noise == "linear" and min_snr != 3.0:
        raise MassmapError("min_snr has no effect with noise='linear', which keeps rows of any signal to noise")
    how = _magnitudes(magnitudes, mag_zero, k_correction, cosmology)
    luminosity = read_luminosity(
        table,
        lum_name,
        notes,
        lum_log=lum_log,
        lum_scale=lum_scale,
        lum_unit=lum_unit,
        lum_in=lum_in,
        magnitudes=how,
        redshift=redshift,
        signed=noise == "linear",
    )
    note_limits_of_any(table, lum_name, notes)
    note_other_flags(table, lum_name, notes)
    if (limits := limits_among(table, lum_name, notes)).any():
        bits = np.where(limits, np.int32(Flag.LUM_MISSING), luminosity.flag)
        luminosity = luminosity._replace(flag=bits, ln_lum_obs=np.where(limits, np.nan, luminosity.ln_lum_obs))
    if one_for_all is None and (limits := limits_among(table, z_name, notes)).any():
        redshift = np.where(limits, np.nan, redshift)
    if noise == "linear" and luminosity.log == "none":
        luminosity = luminosity._replace(raw=_without_zeros(luminosity.raw))
    sigma_ln, more_bits = read_sigma(
        table,
        luminosity,
        notes,
        sigma=sigma,
        kind=sigma_kind,
        plus=sigma_plus,
        minus=sigma_minus,
        min_snr=None if noise == "linear" else min_snr,
        choose=choose,
        whole=need_usable,
    )
    if noise == "linear":
        notes.append("luminosity noise: normal in L itself; sigma_ln_lum is the error as a fraction of the observed L")
    not_exact = RedshiftColumns(
        z_err, z_err_kind, z_err_zero, z_pdf, z_grid, z_quantiles, z_contains, z_code_prior, lum_moves, z_k_slope
    )
    uncertain = None
    if not_exact.check():
        refuse_errors(table, lum_name, z_name, sigma, z_err)
        uncertain = not_exact.read(table, redshift, notes, z=z_name, need_usable=need_usable)
    else:
        note_redshift_errors(table, z_name, notes)
    note_redshift_quality(table, notes)
    truth_mass = None if truth_name is None else _truth_mass(table, truth_name, notes)
    ids = None if id_name is None else table.column(id_name)
    refuse_summary_rows(table.label, ids)
    catalogue = HaloCatalogue.from_arrays(
        ln_luminosity=luminosity.ln_lum_obs,
        redshift=redshift,
        sigma_ln_luminosity=sigma_ln,
        ids=ids,
        truth_mass=truth_mass,
        lum_unit=luminosity.unit,
        mass_definition=mass_definition or _mass_definition(luminosity, notes),
        duplicate_ids=duplicate_ids,
        noise_kind="normal" if noise == "linear" else "lognormal",
        flag=luminosity.flag | more_bits,
        notes=tuple(notes),
        **position,
    )
    catalogue = replace(catalogue, columns_read=columns_read)
    if noise == "linear" and luminosity.log == "none":
        with np.errstate(all="ignore"):
            ln_error = np.log(np.abs(luminosity.raw) * sigma_ln) + luminosity.ln_scale
            catalogue = catalogue.with_below_zero(np.sign(luminosity.raw) / sigma_ln, ln_error)
        if number := int(catalogue.is_below_zero().sum()):
            told = (
                f"{number} luminosities of zero or less, down to {-LEAST_SNR:g} errors below it, are kept:"
                " ln_lum_obs is NaN for them"
            )
            catalogue = replace(catalogue, notes=(*catalogue.notes, told))
    if uncertain is not None:
        catalogue = catalogue.with_redshifts(uncertain, compare=False)  # done where they were read
    if need_usable and (told := repeated_objects(catalogue) or near_objects(catalogue)):
        catalogue = replace(catalogue, notes=(*catalogue.notes, told))
    if need_usable and (several := repeated_values(catalogue)):
        catalogue = replace(catalogue, notes=(*catalogue.notes, *several))
    if need_usable and not catalogue.usable.any():
        reasons = ", ".join(f"{name} {rows}" for name, rows in count(catalogue.flag).items())
        snr = f"; the signal-to-noise limit is min_snr={min_snr:g}" if "SIGMA_LOW_SNR" in reasons else ""
        log = f", with lum_log={lum_log!r}," if lum_log not in (None, "none") else ""
        ask = f"are{log} {lum_name!r} (luminosity) and {z_name!r} (redshift) the right columns, in the right units?"
        if not (catalogue.flag & ~int(SIGMA_BAD | Flag.POSITION_BAD)).any():
            ask = "is the error of the luminosity the right column (sigma), in the right unit (sigma_kind)?"
        raise MassmapError(f"none of the {len(catalogue)} rows of {table.label} can be used ({reasons}{snr}): {ask}")
    return catalogue


# Logarithms of masses of halos in Msun lie within.
_LOG10_MASSES, _LN_MASSES = (9.0, 17.0), (20.7, 39.2)


def _without_zeros(raw: np.ndarray) -> np.ndarray:
    """Replace luminosities of exactly zero, of which an error is no fraction, by others that no error tells from it."""
    some = np.abs(raw[np.isfinite(raw) & (raw != 0)])
    return np.where(raw == 0, -1e-9 * (np.median(some) if some.size else 1.0), raw)


def _magnitudes(mode, zero, k_slope, cosmology) -> Magnitudes | None:
    """How magnitudes become luminosities; None where the column holds none."""
    if mode is None:
        if zero is not None or k_slope:
            given = f"mag_zero={zero:g}" if zero is not None else f"k_correction={k_slope:g}"
            raise MassmapError(f"{given} has no effect on a column that holds no magnitudes: leave it out")
        return None

    def distance(redshift):
        from massmap_jax.halo.cosmology import luminosity_distance

        return luminosity_distance(cosmology, redshift)

    return Magnitudes(mode, zero, distance, cosmology, k_slope)


def _mass_definition(luminosity, notes: list[str]) -> str:
    """The definition of the mass that the observable is, by its name; "" where it is no mass or says none."""
    is_mass = not luminosity.unit or unit_factor(luminosity.unit, "Msun") is not None
    found = mass_definition_in(luminosity.name) if is_mass and luminosity.log != "mag" else ""
    density = overdensity_in(luminosity.name)
    if found:
        notes.append(f"mass definition: {found}, from the name of {luminosity.name!r}")
    elif is_mass and density and luminosity.log != "mag":
        notes.append(
            f"mass definition: {luminosity.name!r} does not say whether {density}c or {density}m is meant, so"
            " nothing compares it with that of the mass prior: choose the prior's to be the same"
            + (" (M200 of clusters is mostly 200c, about 0.1 dex lower than 200m)" if density == "200" else "")
        )
    return found


def _truth_mass(table: ColumnTable, name: str, notes: list[str]) -> np.ndarray:
    """Give the true masses in Msun; refuse a column in units with h, or a logarithm that nothing calls one."""
    mass, unit = numbers(table, name, "true mass", notes), table.units.get(name, "") or unit_in_name(name)
    like = typical(table, name, mass)  # that of all parts of a catalogue
    good = like[np.isfinite(like) & (like > 0)]
    log = log_kind(unit) or named_log(name)
    inside = strip_log(unit)
    likely = _LN_MASSES if log == "ln" else _LOG10_MASSES
    if log in ("log10", "ln") and not (has_little_h(unit) or name_has_little_h(name)) and (
        good.size and split_unit_scale(inside)[0] == 1 and likely[0] < np.median(good) < likely[1]
    ):  # fmt: skip
        notes.append(
            f"true masses: {name!r} holds {log} of masses in Msun, by its {'unit' if log_kind(unit) else 'name'}"
        )
        known = np.isfinite(mass) & ~is_log_sentinel(mass)
        return np.exp(np.where(known, mass, np.nan) * (1.0 if log == "ln" else LN10))
    if has_little_h(unit) or name_has_little_h(name) or is_log_unit(unit) or (good.size and good.max() < 100.0):
        raise MassmapError(
            f"true mass column {name!r} of {table.label} (unit {unit!r}, largest {good.max(initial=0.0):g})"
            " is not in Msun: convert it to linear Msun without h (logarithms of that say so by the column's name)"
        )
    return mass * split_unit_scale(unit)[0]
