"""Named layouts: which column of a published catalogue is what, as keywords of `read_catalogue`."""

from dataclasses import dataclass

from massmap_jax.catalogue.columns import ColumnTable
from massmap_jax.errors import MassmapError

ON_THE_FILE = "verified on the file"
PUBLISHED = "from the published description, not verified here"
_COLUMNS = ("lum", "z", "sigma", "sigma_plus", "sigma_minus", "ra", "dec", "id")


@dataclass(frozen=True)
class Layout:
    """The layout of one published catalogue.

    Attributes
    ----------
    name : str
        What users call it.
    catalogue : str
        What it is, with the file.
    observable : str
        What the luminosity column holds, with its unit and error.
    source : str
        Paper.
    columns : dict of str to tuple of str
        Names of the columns in each role (`_COLUMNS`), the first that is there counts.
    settings : dict
        The other keywords of `read_catalogue`.
    verified : str
        `ON_THE_FILE` or `PUBLISHED`.
    names : tuple of str
        Column names of a text file without a header.
    notes : tuple of str
        What its users should know.
    """

    name: str
    catalogue: str
    observable: str
    source: str
    columns: dict[str, tuple[str, ...]]
    settings: dict[str, str]
    verified: str = PUBLISHED
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_BARS = {"sigma_kind": "linear"}
_SZ_MASS = {"lum_unit": "1e14 Msun", **_BARS}
_ACT = {"ra": ("RADeg",), "dec": ("decDeg",), "id": ("name",), "z": ("redshift",)}
_UNCORRECTED = (
    "the masses without correction for the mass function: the corrected ones have a prior in them, and would count it "
    "twice",
)
_NO_ERROR = ("the catalogue has no error of it: give sigma=",)


def _pair(name: str, plus: str, minus: str) -> dict[str, tuple[str, ...]]:
    return {"lum": (name,), "sigma_plus": (name + plus,), "sigma_minus": (name + minus,)}


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "act",
            "ACT DR3 (ACTPol E-D56) SZ clusters, E-D56Clusters.fits",
            "M500cUnc, SZ mass [1e14 Msun], two bars in its unit",
            "Hilton et al. 2018, ApJS 235, 20",
            {**_ACT, "z": ("z",), **_pair("M500cUnc", "_errPlus", "_errMinus")},
            _SZ_MASS,
            ON_THE_FILE,
            notes=_UNCORRECTED,
        ),
        Layout(
            "act_dr5",
            "ACT DR5 SZ clusters, DR5_cluster-catalog_v1.1.fits",
            "M500cUncorr, SZ mass [1e14 Msun], two bars in its unit",
            "Hilton et al. 2021, ApJS 253, 3",
            {**_ACT, **_pair("M500cUncorr", "_errPlus", "_errMinus")},
            _SZ_MASS,
            notes=_UNCORRECTED,
        ),
        Layout(
            "act_dr6",
            "ACT DR6 SZ clusters, DR6_cluster-catalog_v1.0.fits",
            "M500cUncorr, SZ mass [1e14 Msun], two bars in its unit",
            "ACT DR6 cluster catalogue, 2025",
            {**_ACT, **_pair("M500cUncorr", "_errPlus", "_errMinus")},
            _SZ_MASS,
            notes=_UNCORRECTED,
        ),
        Layout(
            "spt",
            "SPT-SZ 2500 deg2 clusters, SPT2500d.fits",
            "M500, SZ mass [1e14 Msun, 500c], two bars in its unit",
            "Bleem et al. 2015, ApJS 216, 27; Bocquet et al. 2019, ApJ 878, 55",
            {
                "ra": ("RA",),
                "dec": ("DEC",),
                "id": ("SPT_ID",),
                "z": ("redshift", "REDSHIFT"),
                **_pair("M500", "_uerr", "_lerr"),
            },
            {**_SZ_MASS, "mass_definition": "500c", "duplicate_ids": "row_number"},
            ON_THE_FILE,
            notes=(
                "these masses are posteriors, a mass function is already in them: with relation=identity"
                " it counts twice",
                "eight ids are listed twice: random numbers are keyed by row",
                "masses and redshifts of 0 are those of candidates that are not confirmed: flagged",
            ),
        ),
        Layout(
            "erass1",
            "eRASS1 clusters, erass1cl_primary_v3.2.fits",
            "L500, X-ray luminosity in 0.2-2.3 keV [1e42 erg/s], lower and upper bound",
            "Bulbul et al. 2024, A&A 685, A106",
            {
                # As the FITS file of the archive, and as VizieR (J/A+A/685/A106), calls them.
                "ra": ("RA", "RAJ2000"),
                "dec": ("DEC", "DEJ2000"),
                "id": ("NAME", "DETUID"),
                "z": ("BEST_Z", "zBest"),
                "lum": ("L500",),
                "sigma_plus": ("L500_H",),
                "sigma_minus": ("L500_L",),
            },
            {"sigma_kind": "bounds", "lum_unit": "1e42 erg/s"},
            notes=("VizieR writes the unit of L500 as 10+35J: 1e35 J/s, that is 1e42 erg/s, is meant",),
        ),
        Layout(
            "redmapper",
            "redMaPPer clusters of SDSS DR8 or DES",
            "richness, error in its unit",
            "Rykoff et al. 2014, ApJ 785, 104; Rykoff et al. 2016, ApJS 224, 1",
            {
                "ra": ("RA", "RAJ2000"),
                "dec": ("DEC", "DEJ2000"),
                "id": ("MEM_MATCH_ID", "ID"),
                "z": ("Z_LAMBDA", "zlambda"),
                "lum": ("LAMBDA_CHISQ", "LAMBDA"),
                "sigma": ("LAMBDA_CHISQ_E", "LAMBDA_ERR", "LAMBDA_E", "e_lambda"),
            },
            {**_BARS, "lum_unit": "richness"},
        ),
        Layout(
            "psz2",
            "Planck PSZ2 union clusters, HFI_PCCS_SZ-union_R2.08.fits",
            "MSZ, SZ mass [1e14 Msun, 500c], two bars in its unit",
            "Planck Collaboration XXVII 2016, A&A 594, A27",
            {
                "ra": ("RA", "RAdeg", "RAJ2000", "_RAJ2000"),
                "dec": ("DEC", "DEdeg", "DEJ2000", "_DEJ2000"),
                "id": ("NAME", "PSZ2"),
                "z": ("REDSHIFT", "z"),
                # As the FITS file of the archive, as VizieR, and as HEASARC calls them.
                "lum": ("MSZ", "mass_sz"),
                "sigma_plus": ("MSZ_ERR_UP", "E_MSZ", "mass_sz_pos_err"),
                "sigma_minus": ("MSZ_ERR_LOW", "e_MSZ", "mass_sz_neg_err"),
            },
            {**_SZ_MASS, "mass_definition": "500c"},
            notes=("masses of an SZ proxy that is not calibrated: mass_bias= is 1 - b",),
        ),
        Layout(
            "mcxc",
            "MCXC, X-ray clusters of ROSAT, VizieR J/A+A/534/A109",
            "L500, X-ray luminosity in 0.1-2.4 keV [1e37 W = 1e44 erg/s]",
            "Piffaretti et al. 2011, A&A 534, A109",
            {
                "ra": ("RAdeg", "_RAJ2000", "RAJ2000", "RA"),
                "dec": ("DEdeg", "_DEJ2000", "DEJ2000", "DEC"),
                "id": ("MCXC", "Name"),
                "z": ("z", "redshift"),
                "lum": ("L500",),
            },
            {"lum_unit": "1e37 W", "lum_in": "1e44 erg/s"},
            notes=_NO_ERROR,
        ),
        Layout(
            "camira",
            "CAMIRA clusters of HSC, camira_s20a_wide_sm.tbl and its like",
            "N_mem, richness",
            "Oguri et al. 2018, PASJ 70, S20",
            {
                "ra": ("RA", "RAJ2000"),
                "dec": ("DEC", "Dec", "DEJ2000"),
                "id": ("ID", "Name"),
                "z": ("z_cl", "zcl", "z"),
                "lum": ("N_mem", "Nmem"),
            },
            {"lum_unit": "richness"},
            ON_THE_FILE,
            notes=(*_NO_ERROR, "the file describes its columns in numbered comments, of which the names are taken"),
        ),
        Layout(
            "gama",
            "groups of GAMA, G3CFoFGroup (G3Cv10)",
            "VelDisp, velocity dispersion of the members [km/s]",
            "Robotham et al. 2011, MNRAS 416, 2640",
            {
                "ra": ("IterCenRA",),
                "dec": ("IterCenDec",),
                "id": ("GroupID",),
                "z": ("Zfof",),
                "lum": ("VelDisp",),
            },
            {"lum_unit": "km/s"},
            ON_THE_FILE,
            notes=(
                *_NO_ERROR,
                "VelErr is no error of VelDisp but that of the members' velocities, which was taken out of VelDispRaw:"
                " the dispersion of Nfof members is uncertain by about 1/sqrt(2 Nfof - 2) of itself",
            ),
        ),
        Layout(
            "desi_groups",
            "groups of the DESI Legacy Surveys, DESIDR9_NGC_group (text without header)",
            "group luminosity [1e10 Lsun/h2]",
            "Yang et al. 2021, ApJ 909, 143",
            {
                "ra": ("ra",),
                "dec": ("dec",),
                "id": ("group_id",),
                "z": ("z",),
                "lum": ("group_luminosity",),
            },
            {"lum_unit": "1e10 Lsun/h2"},
            names=("group_id", "richness", "ra", "dec", "z", "log_mass_msun_h", "group_luminosity"),
            notes=(*_NO_ERROR, "its halo masses come from ranks in luminosity: they are no measurement of their own"),
        ),
    )
}


def find_layout(name: str) -> Layout:
    """Find a layout by its name.

    Parameters
    ----------
    name : str
        The name, in any case.

    Returns
    -------
    Layout
        The layout.

    Raises
    ------
    MassmapError
        For an unknown name.
    """
    layout = LAYOUTS.get(name.lower())
    if layout is None:
        raise MassmapError(
            f"columns={name!r} is no layout of a catalogue that is known: give one of {', '.join(LAYOUTS)}, or name the"
            " columns with lum=, z=, sigma= ..."
        )
    return layout


def keywords_of(layout: Layout, table: ColumnTable, given: dict) -> dict:
    """Give the keywords of `read_catalogue` that a layout stands for in a table.

    Parameters
    ----------
    layout : Layout
        The layout.
    table : ColumnTable
        The table.
    given : dict
        Keywords that the user gave, not None: they take the place of the layout's. Another luminosity column drops its
        unit and error, too.

    Returns
    -------
    dict
        All keywords, the user's among them.

    Raises
    ------
    MassmapError
        For a table that lacks a column of the layout.
    """
    by_lower = {name.lower(): name for name in reversed(table.names)}
    told, settings = dict(layout.columns), dict(layout.settings)
    if "lum" in given:
        own = {n.lower() for n in told["lum"]}
        if str(given["lum"]).lower() not in own:
            told = {role: names for role, names in told.items() if not role.startswith("sigma")}
            settings = {k: v for k, v in settings.items() if k == "duplicate_ids"}
    if "sigma" in given or "sigma_plus" in given:
        told = {role: names for role, names in told.items() if not role.startswith("sigma")}
        settings.pop("sigma_kind", None)
    found = {}
    for role, names in told.items():
        if role in given:
            continue
        # As it is written where that is there: E_MSZ is the upper and e_MSZ the lower bar, in VizieR's notation.
        column = next((n for n in names if n in table.names), None)
        column = column or next((by_lower[n.lower()] for n in names if n.lower() in by_lower), None)
        if column is None and role not in ("ra", "dec", "id"):
            shown = ", ".join(table.names[:20])
            raise MassmapError(
                f"columns={layout.name!r} needs a column {' or '.join(map(repr, names))} for {role}, and"
                f" {table.label} has"
                f" none: is it {layout.catalogue}? Its columns: {shown}"
                + ("; the file has no header: give names=" if any("no header" in n for n in table.notes) else "")
            )
        if column is not None:
            found[role] = column
    return settings | found | given


def recognised(table: ColumnTable) -> Layout | None:
    """Give the layout that a table's columns are those of, by all of its columns being there; None for no such layout.

    Parameters
    ----------
    table : ColumnTable
        The table.

    Returns
    -------
    Layout or None
        The one with most columns, where there are several.
    """
    names = {name.lower() for name in table.names}
    # "z", "ra" and "name" are in many a table; a layout is known by its observable, which must be a name of its own.
    telling = {"m500cunc", "m500cuncorr", "l500_h", "lambda_chisq", "lambda_err", "msz", "mass_sz", "mcxc", "n_mem"}
    telling |= {"m500_uerr", "itercenra"}
    fits = []
    for layout in LAYOUTS.values():
        has = {role: {n.lower() for n in columns} & names for role, columns in layout.columns.items()}
        if all(has.values()) and set().union(*has.values()) & telling and not layout.names:
            fits.append(layout)
    return max(fits, key=lambda layout: len(layout.columns), default=None)


def list_layouts() -> str:
    """List the layouts, one on each line.

    Returns
    -------
    str
        The text of `massmap-jax columns`.
    """
    width = max(map(len, LAYOUTS))
    lines = [f"{layout.name:{width}}  {layout.catalogue}: {layout.observable}" for layout in LAYOUTS.values()]
    return "\n".join(
        [
            "Layouts of published catalogues, for --columns:",
            "",
            *lines,
            "",
            "massmap-jax columns NAME shows one; options such as --lum or --sigma take the place of what it says.",
        ]
    )


def show_layout(name: str) -> str:
    """Show one layout: the columns by their role, and the source of the layout.

    Parameters
    ----------
    name : str
        The name, in any case.

    Returns
    -------
    str
        The text of `massmap-jax columns NAME`.

    Raises
    ------
    MassmapError
        For an unknown name.
    """
    layout = find_layout(name)
    lines = [f"{layout.name}: {layout.catalogue}", f"  observable     {layout.observable}"]
    lines += [f"  {role:14} {' or '.join(names)}" for role, names in layout.columns.items()]
    lines += [f"  {key:14} {value}" for key, value in layout.settings.items()]
    lines += [f"  names          {','.join(layout.names)}"] if layout.names else []
    lines += [f"  source         {layout.source}", f"  layout         {layout.verified}"]
    lines += [f"  note           {note}" for note in layout.notes]
    return "\n".join(lines)
