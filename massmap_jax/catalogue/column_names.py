"""Which column plays which role: the user's choice first, otherwise the usual names, and never a silent choice."""

import difflib
import re
from collections.abc import Collection, Sequence

from massmap_jax.catalogue.columns import ColumnTable, number_in
from massmap_jax.errors import MassmapError

# Usual names in lower case, in tiers: the first tier with a match wins, and two matches within one are
# refused.
USUAL_NAMES = {
    "luminosity": (
        {"lum", "luminosity", "lum_obs", "l_obs", "lobs", "luminosity_obs"},
        {"l", "lx", "l_x", "l500", "lx500", "lx_500", "l_500"},
        {"richness", "lambda", "lambda_chisq"},
    ),
    "redshift": (
        {"z", "redshift", "z_obs", "zobs"},
        {
            "z_spec",
            "zspec",
            "specz",
            "z_best",
            "zbest",
            "zcmb",
            "z_cmb",
            "zhel",
            "z_hel",
            "z_cl",
            "zcl",
            "z_clus",
            # In the same tier as z_spec: where a table has both, often most objects have only the photometric one.
            "z_phot",
            "zphot",
            "photoz",
            "photo_z",
            "z_lambda",
            "zlambda",
            "z_photo",
            "zphoto",
            "zph",
            "zsp",
            "spec_z",
            "phot_z",
            "z_phot_mean",
            "z_phot_median",
        },
        # Of groups: the mean of their members.
        {"z_avg", "z_mean", "z_group", "zgroup", "z_fof", "zfof"},
        # Photometric ones of KiDS, HSC, COSMOS and Euclid, which have several: their best.
        {"z_b"},
        {"photoz_best"},
        {"lp_zbest"},
        {"phz_median"},
        {"redshift_true", "z_true"},
    ),
    "ra": (
        {"radeg", "ra_deg"},  # beside them "ra" is sexagesimal, or the same
        {"ra", "right_ascension"},
        {"hms", "ra_hms", "rahms"},
        {"rah", "ra_h", "ra_hour", "ra_hours", "ra_hr", "ra_hh"},
        {"raj2000", "_raj2000", "ra_j2000", "ra_icrs", "alpha_j2000"},
        {"x_arcmin", "ra_arcmin", "x_offset", "ra_offset"},
    ),
    "dec": (
        {"decdeg", "dedeg", "dec_deg"},
        {"dec", "declination"},
        {"dms", "dec_dms", "decdms", "de_dms", "dedms"},
        {"dej2000", "_dej2000", "decj2000", "_decj2000", "dec_j2000", "de_icrs", "dec_icrs", "delta_j2000"},
        {"y_arcmin", "dec_arcmin", "y_offset", "dec_offset"},
        # Degrees of an angle that is split over several columns.
        {"ded", "dec_d", "decd", "de_d", "dec_dd"},
    ),
    "id": (
        {
            "id",
            "ids",
            "halo_id",
            "haloid",
            "object_id",
            "objid",
            "obj_id",
            "objectid",
            "source_id",
            "cluster_id",
        },
        {"name", "source_name", "object_name", "mem_match_id", "galaxy_id", "galaxyid"},
        # Each alone: tables have several of these beside each other, and any of them will do.
        {"cluster_name"},
        {"clustername"},
        {"cluster"},
        {"clname"},
        {"cl_name"},
        {"iau_name"},
        {"iauname"},
        {"objname"},
        {"obj_name"},
        {"designation"},
        {"detuid"},
        {"targetid"},
        {"specobjid"},
        {"sourceid"},
        {"src_id"},
        {"srcid"},
        {"srcname"},
        {"src_name"},
        {"clusterid"},
        {"cl_id"},
        {"group_id"},
        {"groupid"},
        {"galid"},
        {"gal_id"},
    ),
    "true mass": ({"truth_mass", "mass_true", "true_mass", "mass_truth", "m_true", "mtrue"},),
    "sigma": (
        {
            "sigma_ln_lum",
            "sigma_ln_luminosity",
            "sigma_lnl",
            "sigma_ln_l",
            "sigma_lnlum",
            "lum_err_ln",
            "err_ln_lum",
        },
        {"sigma"},
    ),
}

# An angle split over several columns, as CDS does: names by `normal_name`, each part's in the order of preference.
SPLIT_ANGLES = {
    "ra_hour": ("rah", "ra_h", "ra_hour", "ra_hours", "ra_hr", "ra_hh"),
    "ra_minute": ("ram", "ra_m", "ra_min", "ra_minute", "ra_minutes", "ra_mm"),
    "ra_second": ("ras", "ra_s", "ra_sec", "ra_second", "ra_seconds", "ra_ss"),
    "dec_sign": ("de_", "de_sign", "dec_sign", "decsign", "design", "dec_sgn", "dec_", "sign"),
    "dec_degree": ("ded", "decd", "dec_d", "de_d", "dec_deg", "dec_degree", "dec_degrees", "dec_dd"),
    "dec_minute": ("dem", "decm", "dec_m", "de_m", "dec_min", "dec_minute", "dec_minutes", "dec_arcmin", "dec_mm"),
    "dec_second": ("des", "decs", "dec_s", "de_s", "dec_sec", "dec_second", "dec_seconds", "dec_arcsec", "dec_ss"),
}


def split_angle_parts(names: Sequence[str]) -> dict[str, str]:
    """Find the columns of split angles: column by part, a key of `SPLIT_ANGLES`."""
    by_name = {normal_name(name): name for name in reversed(names)}
    found = {part: next((by_name[n] for n in usual if n in by_name), None) for part, usual in SPLIT_ANGLES.items()}
    return {part: name for part, name in found.items() if name is not None}


def normal_name(name: str) -> str:
    """Give a column's name as names are compared: in lower case, with "_" for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def bare_name(name: str) -> str:
    """Give a name as it is compared, without the unit in brackets that it may end with.

    Parameters
    ----------
    name : str
        The name of a column.

    Returns
    -------
    str
        "ra" for "RA (deg)", in the form of `normal_name`.
    """
    return normal_name(re.sub(r"(?<=\w)\s*(?:\([^()]*\)|\[[^\[\]]*\])\s*$", "", str(name)))


def id_columns(given: str | None = None) -> frozenset[str]:
    """Give the names (by `normal_name`) of columns that may hold ids: the usual ones and the one that is given."""
    return frozenset({normal_name(given)} if given else ()).union(*USUAL_NAMES["id"])


def choose_column(
    table: ColumnTable,
    role: str,
    given: str | None,
    option: str,
    *,
    usual=None,
    required: bool = False,
    never: Collection[str] = (),
):
    """Find the column that plays a role, with a note where it was guessed.

    Parameters
    ----------
    table : ColumnTable
        The table.
    role : str
        A key of `USUAL_NAMES`, or any word if `usual` is given.
    given : str or None
        The user's choice; letter case may differ where only one column then fits.
    option : str
        The argument that names this column, for the error.
    usual : sequence of set of str, optional
        Names to guess from, instead of `USUAL_NAMES[role]`.
    required : bool
        Refuse a table where no column is found.
    never : collection of str
        Columns that are not guessed, whatever their names.

    Returns
    -------
    name : str or None
        The column's name.
    notes : tuple of str
        What was guessed.

    Raises
    ------
    MassmapError
        For a column that does not exist, two that could both be meant, or none where one is required.
    """
    if given is not None:
        return named_column(table, str(given), option), ()
    for tier in usual if usual is not None else USUAL_NAMES[role]:
        found = [name for name in table.names if bare_name(name) in tier and name not in never]
        if len(set(found)) > 1:
            raise MassmapError(
                f"{' and '.join(map(repr, found))} in {table.label} could each be the {role} column: choose"
                f" one with {option}="
            )
        if found:
            return named_column(table, found[0], option), (f"{role} column: guessed {found[0]!r}",)
    if required:
        raise MassmapError(
            f"no column of {table.label} has a usual name for the {role}: choose it with {option}=; {_listed(table)}"
        )
    return None, ()


def named_column(table: ColumnTable, name: str, option: str) -> str:
    """Give the column of this name, ignoring case where that is unique; the error suggests a similar one.

    Parameters
    ----------
    table : ColumnTable
        The table.
    name : str
        The name.
    option : str
        The argument that names this column, for the error.

    Returns
    -------
    str
        The name as the table writes it.

    Raises
    ------
    MassmapError
        For a column that does not exist, or two of that name.
    """
    same = [other for other in table.names if other == name]
    same = same or [other for other in table.names if other.lower() == name.lower()]
    if len(same) > 1:
        raise MassmapError(
            f"{table.label} has {len(same)} columns called {name!r}, so {option}= is ambiguous: rename the repeated one"
        )
    if same:
        return same[0]
    by_lower = {other.lower(): other for other in table.names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else f": choose another with {option}=;"
    if number_in(name) is not None:
        hint = f": {option}= is the name of a column, so write one that holds the number;"
    raise MassmapError(f"no column {name!r} in {table.label}{hint} {_listed(table)}")


def _listed(table: ColumnTable) -> str:
    """List the columns of a table for an error message, 40 at most."""
    shown = ", ".join(table.names[:40])
    more = f" and {len(table.names) - 40} more" if len(table.names) > 40 else ""
    note = (
        ""
        if not any("no header" in note for note in table.notes)
        else "; the file has no header, so name its columns with names="
    )
    return f"columns: {shown}{more}{note}"
