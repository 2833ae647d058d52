"""Whether the column of the observable can be, by its name, what a published relation is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.units import contradicts_name, overdensity_in
from massmap_jax.errors import MassmapError
from massmap_jax.labels import prior_of
from massmap_jax.relation.presets import Preset

if TYPE_CHECKING:
    from massmap_jax.relation.law import MassLuminosityRelation

# Before a name: that of an instrument or aperture, and of a logarithm.
_IN_LOGS = r"(?:.*_)?(?:log(?:10)?_?|ln_?|lg_?)?"
# A temperature with what it is of: "kT", "Tx500ce", "x_Tx_500", "kTexc", "T_eRO_full".
_TEMPERATURE = (
    r"(?:(?:x|log|ln|xmm|chandra|cxo)_?)*"
    r"(?:k_?t|t_?x|t_?(?=_?\d)|temp\w*|t_(?:ero\w*|cxo|xmm|chandra|spec|ew|mg|gas|x?ray|in|ex|ce|cin|cex)(?![a-z]))"
    r"(?:_?\d{3,4})?(?:_?(?:kpc|kev|ce|cin|cex|exc|excised|core|in|ex|out))*(?:_.*)?"
)
# What a name says of an observable, and what that of a relation for it speaks of. "lum" and "luminosity" say nothing:
# it is what any observable is called here.
_KINDS = (
    # Planck's catalogues: in arcmin2, which with D_A^2 / 1.79 is the signal within R500.
    (
        "the SZ signal within 5 R500, as an angle, D_A^2 / 1.79 times which is that within R500,",
        r"y_?5_?r_?500(?:_.*)?",
        r"5 ?r500",
    ),
    (
        "a luminosity without the core",
        r"(?:.*_)?l(?:um|x|_x|b|bol)?_?\d*_?(?:cex|ce|exc|coreex\w*|core_?ex\w*|no_?core|excised)(?:_.*)?",
        r"excis",
    ),
    (
        "a luminosity of 0.5 to 2 keV",
        r"(?:.*_)?l(?:um|x|_x)?(?:_?500)?_?0_?[.p]?5_?(?:to)?_?2(?:[.p]?0)?(?:_?kev)?(?:_.*)?",
        r"0\.5[^0-9]{1,3}2",
    ),
    (
        "something that a power of E(z) was divided out of, which the relation brings itself,",
        r".*[eh]\(z\).*|(?:.*_)?ez(?:[_^].*)?",
        r"(?!)",
    ),
    (
        "a mass of gas",
        rf"{_IN_LOGS}(?:m(?:ass)?_?(?:\d{{3,4}}[a-z]?_?)?(?:\dd_?)?(?:gas|icm)|m_?g(?=_|\d|$)|(?:tot(?:al)?_?)?gas_?mass)(?:_?\d+)?(?:_.*)?",
        r"gas mass",
    ),
    (
        "a stellar mass",
        rf"{_IN_LOGS}(?:m(?:ass)?_?(?:\d{{3,4}}[a-z]?_?)?(?:\dd_?)?(?:star|stellar|bcg)|(?:tot(?:al)?_?)?(?:stellar|star|bcg)_?mass|m_?\*)"
        r"(?:_?\d+)?(?:_.*)?",
        r"stellar mass",
    ),
    (
        "a mass of baryons, of dust or of a black hole",
        rf"{_IN_LOGS}(?:m(?:ass)?_?(?:\d{{3,4}}[a-z]?_?)?(?:bar(?:yon\w*)?|dust|bh|smbh|mol(?:ecular)?)"
        r"|m(?:ass)?_?(?:h_?i|h_?2|b)"
        r"|baryon(?:ic)?_mass|(?:dust|bh|black_hole)_mass)(?:_?\d{3,4})?(?:_.*)?",
        r"baryon",
    ),
    (
        "a mass within a fixed radius",
        rf"{_IN_LOGS}m(?:ass)?_?(?:(?:tot(?:al)?|wl|lens(?:ing)?|hse?|x)_?)?\(?(?:(?:<|lt|in|within|r)_?)?\d+(?:[.p]\d+)?_?"
        r"[mk]pc\)?(?:_.*)?",
        r"(?!)",
    ),
    (
        "a mass that its descendant has at another redshift",
        rf"{_IN_LOGS}m(?:ass)?_?(?:\d{{3,4}}[a-z]?_?)?(?:\(?z_?=?_?0(?:[.p]0)?\)?|desc(?:endant)?)(?:_.*)?|descendant_?m(?:ass)?",
        r"(?!)",
    ),
    (
        "a mass of all that lies along the line of sight",
        rf"{_IN_LOGS}(?:m(?:ass)?_?(?:\d{{3,4}}[a-z]?_?)?(?:2_?d|cyl(?:ind\w*)?|proj(?:ect\w*)?|ap(?:er\w*)?|ein(?:stein)?)"
        r"|(?:aperture|cylindrical|projected|einstein)_?m(?:ass)?)(?:_?\d{3,4}[a-z]?)?(?:_.*)?",
        r"(?!)",
    ),
    (
        "a signal-to-noise ratio or a likelihood of detection",
        r"(?:.*_)?(?:snr|s_?/?_?n|signif(?:icance)?|det_?like\w*|ext_?like\w*|detection_likelihood)(?:_.*)?",
        r"(?!)",
    ),
    ("a number or rate of photons", r"(?:.*_)?(?:cts|ct_?s|counts?|count_?rate|ml_(?:rate|cts))(?:_.*)?", r"(?!)"),
    ("a flux", r"(?:.*_)?(?:flux|fx|f_x|fluxes)(?:_.*)?|f(?:500|x500|lux.*)", r"\bflux"),
    ("a bolometric luminosity", r"(?:.*_)?l(?:x|um)?_?(?:500)?_?bol(?:o|ometric)?(?:_.*)?|bol_?lum.*", r"bolometric"),
    ("an X-ray luminosity", r"(?:log_?|ln_?)?(?:l_?x|l_?x?_?500|xray_?lum\w*)(?:_.*)?", r"luminosity"),
    (
        "a count of galaxies by another finder or above another brightness than redMaPPer's lambda, the same cluster's"
        " values of which differ by factors,",
        rf"{_IN_LOGS}(?:n_?(?:200|500|fof|gals?\w*|mem\w*|cor\w*|0?[.p]?0?[.p_]?5|rich)|ngals?|b_?gg|r_?l_?(?:\*|star)"
        r"|multiplicity|lambda_?(?:\*|star|gama|camira|amico|wazp|madcows|cal|fof|whl)|(?:abell|bautz|maxbcg|gmbcg|whl?|wh\d+"
        r"|camira|amico|wazp|madcows|gama|yang|cfhtls|3d_?mf)_?(?:richness|rich|lambda))(?:_\d+)?",
        r"(?!)",
    ),
    ("a richness", r"(?:log_?|ln_?)?(?:richness|lambda|lambda_chisq|n_?200|n_?gal\w*|n_?mem|ngals?)", r"richness"),
    ("a temperature", _TEMPERATURE, r"temperature"),
    (
        "a velocity dispersion in three dimensions, the root of 3 times that in one,",
        r"(?:.*_)?(?:sig(?:ma)?|v(?:el)?_?disp|s_?v|dispersion)_?(?:v_?)?3_?d(?:_.*)?",
        r"three dim",
    ),
    ("a full width of a distribution of velocities, and no dispersion,", r"(?:.*_)?(?:fwhm|w_?[25]0)(?:_.*)?", r"(?!)"),
    ("a circular velocity", r"v_?(?:max|circ\w*|c|peak)(?:_.*)?", r"circular"),
    (
        "a velocity dispersion",
        r"(?:sig(?:ma)?_?v|v(?:el)?_?disp|velocity_dispersion)(?:_.*)?",
        r"velocity",
    ),
)

_NOT_OF_A_HALO = tuple(kind for kind, _, _ in _KINDS if kind.startswith(("a mass ", "a stellar mass")))


def check_observable(preset: Preset, column: str, notes: list[str]) -> None:
    """Say what a published relation is for, and refuse an observable that is another by the name of its column.

    Parameters
    ----------
    preset : Preset
        The relation.
    column : str
        The column of the observable; "" where it has no name.
    notes : list of str
        A note is added.

    Raises
    ------
    MassmapError
        For a flux, a mass or a richness where the relation is for a luminosity, and the like.
    """
    if not column:
        return
    kind, words = _kind_of(column)
    if overdensity_in(column):
        kind, words = f"a halo mass, M{overdensity_in(column)},", r"(?!)"
    if kind and not re.search(words, preset.observable.lower()):
        raise MassmapError(
            f"the relation {preset.name} is for the {preset.observable}, and column {column!r} is {kind} by its name:"
            " choose the column that the relation is for with lum=, or another relation, or rename the column"
        )
    notes.append(f"the relation {preset.name} is for the {preset.observable}: column {column!r} is taken to be that")


def check_own_mass(prior_definition: str, column: str, stated: str | None = None) -> None:
    """Refuse an observable that is taken to be the mass where its name says another thing, or another overdensity.

    Parameters
    ----------
    prior_definition : str
        Definition of the mass prior's masses, such as "200m".
    column : str
        The column of the observable; "" where it has no name.
    stated : str or None, optional
        The definition that the catalogue states, which is compared with the prior's elsewhere.

    Raises
    ------
    MassmapError
        For masses of gas and of stars, of all that lies along the line of sight or within a fixed radius, and for
        "M500" beside 200m, whose ratio is about a factor of two; of which density 500 is does not matter then.
    """
    kind, _ = _kind_of(column)
    if kind in _NOT_OF_A_HALO:
        raise MassmapError(
            f"the observable {column!r} is {kind} by its name, and relation='identity' would give it"
            " out as the mass of a halo: choose a column of halo masses with lum=, or a relation for this one, or"
            " rename the column"
        )
    if not stated and contradicts_name(prior_definition, column):
        named = overdensity_in(column)
        raise MassmapError(
            f"the observable {column!r} is the mass M{named} by its name, and relation='identity' would give it out as"
            f" one of the mass prior's definition, {prior_definition}: give a prior of its definition"
            f" ({prior_of(f'{named}c')}, if it is that), or rename the column"
        )


def refuse_falling(column: str, relation: MassLuminosityRelation, notes: list[str]) -> None:
    """Say that a relation of the user's falls with mass; refused for an observable that rises, by its column's name.

    Parameters
    ----------
    column : str
        The column of the observable; "" where it has no name.
    relation : MassLuminosityRelation
        The relation, or a batch of draws, of which the median counts.
    notes : list of str
        A note is added where the slope is negative, as those of magnitudes and concentrations are.

    Raises
    ------
    MassmapError
        For a luminosity, richness, temperature, mass and the like, all of which rise with mass.
    """
    slope = float(np.median(np.asarray(relation.alpha2)))
    if slope >= 0:
        return
    kind, _ = _kind_of(column)
    if kind or overdensity_in(column):
        what = kind.partition(",")[0] or "a halo mass"
        raise MassmapError(
            f"the relation falls with mass, its slope alpha2 is {slope:.3g}, and column {column!r} is {what} by its"
            " name, which rises: give the slope with its right sign, or that of the observable at given mass where this"
            " one is another, or rename the column"
        )
    notes.append(
        f"the relation falls with mass, its slope alpha2 is {slope:.3g}: the largest values are those of the lightest"
        " halos, as magnitudes and concentrations are; see whether the sign is right"
    )


def refuse_no_halo_mass(column: str, option: str = "calib_mass") -> None:
    """Refuse a column of measured masses that is by its name no mass of a halo, but another observable.

    Parameters
    ----------
    column : str
        The column.
    option : str
        The option that it was given as.

    Raises
    ------
    MassmapError
        For a luminosity, a temperature, a richness and the like, and for gas and stellar masses.
    """
    kind, _ = _kind_of(column)
    if kind:
        raise MassmapError(
            f"column {column!r} is {kind.partition(',')[0]} by its name, and no mass of a halo: {option}= names"
            " masses of the halos that were measured; this one may be the observable, lum=, or a further one; rename it"
            " if it is a halo's mass"
        )


def is_observable_of(preset: Preset, column: str) -> bool:
    """Tell whether a column is, by its name, what a published relation is for.

    Parameters
    ----------
    preset : Preset
        The relation.
    column : str
        The column.

    Returns
    -------
    bool
        False, too, for a name that says nothing.
    """
    kind, words = _kind_of(column)
    return bool(kind) and re.search(words, preset.observable.lower()) is not None


def _kind_of(column: str) -> tuple[str, str]:
    """What a name says of an observable, and the words that a relation for it has; both empty where it says nothing."""
    plain = normal_name(column)
    return next(((named, words) for named, names, words in _KINDS if re.fullmatch(names, plain)), ("", ""))
