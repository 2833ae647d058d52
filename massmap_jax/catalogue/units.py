"""Conversions of units at the edge of the package: inside, mass is in Msun without h and logarithms are natural."""

import re

import numpy as np

from massmap_jax.errors import MassmapError

LN10 = float(np.log(10.0))


def mass_from_msun_h(mass_msun_h, h: float):
    """Convert a mass in Msun/h to Msun: M = m / h.

    Parameters
    ----------
    mass_msun_h : array_like, (...)
        Mass [Msun/h].
    h : float
        Hubble constant over 100 km/s/Mpc; there is no default.

    Returns
    -------
    np.ndarray, (...)
        Mass [Msun], float64.

    Raises
    ------
    MassmapError
        For an h that is not between 0.1 and 2 (70 instead of 0.7 is a common slip).
    """
    if not 0.1 < h < 2.0:
        raise MassmapError(f"h is {h!r}, but it is H0 / (100 km/s/Mpc), near 0.7: give h=0.7, not h=70")
    return np.asarray(mass_msun_h, dtype=np.float64) / h


def ln_from_dex(dex):
    """Convert a width or value in dex (factors of ten) to one in natural logarithms."""
    return np.asarray(dex, dtype=np.float64) * LN10


def dex_from_ln(ln):
    """Convert a width or value in natural logarithms to one in dex (factors of ten)."""
    return np.asarray(ln, dtype=np.float64) / LN10


def sigma_ln_from_bars(value, err_plus, err_minus):
    """Convert linear error bars to the sigma of a lognormal error in ln L: half of the log interval that they span.

    Parameters
    ----------
    value, err_plus, err_minus : array_like, (n,)
        L and the lengths of its upper and lower bar, all in one unit.

    Returns
    -------
    Float[np.ndarray, "n"]
        sigma [ln L]; NaN where L <= 0, a bar is negative, or the lower bar reaches zero luminosity.

    Notes
    -----
    sigma = [ln(1 + e+/L) - ln(1 - e-/L)] / 2; a symmetric bar has e+ = e-.
    """
    value, up, down = (np.asarray(x, dtype=np.float64) for x in (value, err_plus, err_minus))
    possible = (value > 0) & (up >= 0) & (down >= 0) & (down < value)
    with np.errstate(all="ignore"):
        sigma = 0.5 * (np.log1p(up / value) - np.log1p(-down / value))
    return np.where(possible, sigma, np.nan)


def plain_unit(unit: str) -> str:
    r"""Write a unit without the marks of typesetting: "10^14 Msun" for r"$10^{14}\,M_{\odot}$" or "10¹⁴ M☉".

    Parameters
    ----------
    unit : str
        The unit, with or without a scale and a logarithm.

    Returns
    -------
    str
        The same in plain letters, with powers as "^n" or "**n".
    """
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", lambda found: "^" + found[0].translate(_RAISED), unit.replace("\u2212", "-"))
    text = re.sub(r"\\(?:mathrm|textrm|text|rm)\b", "", re.sub(r"\$|\\[,;:! ]|~", " ", text))
    text = re.sub(r"\\times|\\cdot|[×·⋅]", "*", text)
    text = re.sub(r"_?\{?\\?(?:odot|sun)\}?_?|_?\{?[☉⊙]\}?", "sun", text, flags=re.IGNORECASE)
    text = re.sub(r"\^\s*\{([^{}]*)\}", r"^\1", text)
    text = re.sub(r"\^([+-]?\d+)\^", r"^\1 ", text)  # AAS tables write 10^14^Msun
    return " ".join(text.replace("{", "").replace("}", "").split())


def split_unit_scale(unit: str) -> tuple[float, str]:
    """Split a unit into its leading number and the rest.

    Parameters
    ----------
    unit : str
        Such as "1e14 Msun", "10**44 erg/s", "10+14Msun" (as CDS writes it), "10^{44} erg/s" or "10**-4".

    Returns
    -------
    scale : float
        The number, 1 where there is none.
    rest : str
        The unit without it; empty where the unit is a number alone.

    Raises
    ------
    MassmapError
        A number that can be read in two ways or stands elsewhere: nothing is better than a wrong power of ten.

    Examples
    --------
    >>> from massmap_jax.catalogue.units import split_unit_scale
    >>> split_unit_scale("10+44erg/s"), split_unit_scale("10^{-4}"), split_unit_scale("Msun")
    ((1e+44, 'erg/s'), (0.0001, ''), (1.0, 'Msun'))
    """
    text = plain_unit(unit)
    if text in ("%", "percent", "per cent", "pct"):
        return 0.01, ""
    if text in ("-", "--", "---"):  # what CDS writes for a number without a unit
        return 1.0, ""
    found = _SCALE.match(text)
    scale = 1.0
    rest = text
    if found is not None:
        factor, power, cds_power, number = found.groups()
        exponent = power or cds_power
        try:
            scale = float(re.sub("[dD]", "e", number or factor or "1")) * (
                1.0 if exponent is None else 10.0 ** int(exponent)
            )
        except OverflowError:
            scale = np.inf
        rest = re.sub(r"^\s*(?:[*.]|x(?=[\s\d]))?\s*", "", text[found.end() :])
    elsewhere = re.sub(r"(?:\^|\*\*)\s*\(?\s*[+-]?[\d./]+\)?", "", rest)
    lost = re.match(r"[+\-^*\d.]|[eEdD][+-]?\d", rest) or re.search(r"(?:^|[\s/*(\[])\d", elsewhere)
    alone = found[4] or "" if found is not None else ""
    reason = ""
    if re.match(r"10(?:\.0*)?[eEdD][+-]?\d", alone):
        reason = "'10e' can mean 1e or 10 times as much"
    elif rest and re.fullmatch(r"10(?!00)\d\d", alone):
        reason = f"{alone} can be 10^{alone[2:]} whose exponent is no longer raised"
    elif lost or not (np.isfinite(scale) and scale > 0):
        reason = "the number in it cannot be read as a scale"
    if reason:
        raise MassmapError(
            f"the unit {unit!r} is not clear, {reason}: give the unit without it as lum_unit= and the factor as"
            " lum_scale="
        )
    return scale, rest


_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?"
# A number times a power of ten (or either), in the three notations of a power: 10^14, 10**14 and 10+14.
_SCALE = re.compile(
    rf"(?:[*x]\s*)?(?:(?:({_NUMBER})\s*(?:[*x]|\s)\s*)?10(?:\s*(?:\*\*|\^)\s*\(?\s*([+-]?\d+)\s*\)?|([+-]\d+))"
    rf"|({_NUMBER}))"
)


def has_little_h(unit: str) -> bool:
    """Tell whether a unit such as "Msun/h", "solMass / h" or "h-1 Msun" contains the Hubble constant."""
    text = plain_unit(unit)
    alone = r"(?<![A-Za-z])h(?:_?(?:50|6\d|7\d|100|0?\.\d+))?(?:-?\d)?(?![A-Za-z0-9])|/\s*\(?\s*H0?(?![A-Za-z0-9])"
    joined = r"sun\s*_?h(?:70|-?1|inv)?(?![a-z])|(?<![A-Za-z])h(?=[ML]sun|sol)|h_?inv|little_?h"
    return re.search(alone, text) is not None or re.search(joined, text, re.IGNORECASE) is not None


def named_hubble(text: str) -> str:
    """Give the Hubble constant that an h with an index is relative to: "70" for "Msun/h70" and "h_{70}^-1 Msun".

    Parameters
    ----------
    text : str
        A unit, the name of a column, or a sentence.

    Returns
    -------
    str
        In km/s/Mpc; "" where there is none, and for h_100, which is h.

    Notes
    -----
    h_70 is H0 / (70 km/s/Mpc): 1 where H0 is 70, and not 0.7, by which a mass in Msun/h is divided.
    """
    plain = text.replace("{", "").replace("}", "")  # also h^{-1}_{70}
    found = re.search(r"(?:(?<![A-Za-z])|(?<=[Ss]un))_?h(?:\^?-?[\d./]+(?=_))?_?(50|6\d|7\d)(?!\d)", plain)
    return "" if found is None else found[1]


def refuse_unit_with_h(where: str, unit: str, argument: str) -> None:
    """Refuse measured masses in a unit with h.

    Parameters
    ----------
    where : str
        How the sentence calls the column.
    unit : str
        Its unit.
    argument : str
        The argument that states another.

    Raises
    ------
    MassmapError
        For "Msun/h", "h70^-1 Msun" and the like.
    """
    if not has_little_h(unit):
        return
    if hubble := named_hubble(unit):
        raise MassmapError(
            f"{where} is in {unit!r}, and {without_named_hubble(hubble)}: give {argument}= without it, such as"
            " '1e14 Msun'"
        )
    raise MassmapError(
        f"{where} is in {unit!r}: give {argument}= without h, as '1.4286e14 Msun' for 1e14 Msun/h and h = 0.7, or"
        " '1.4286 Msun' for the logarithm of masses in Msun/h"
    )


def without_named_hubble(hubble: str) -> str:
    """Say what to do with a unit that has an h with an index, which is no little h.

    Parameters
    ----------
    hubble : str
        What `named_hubble` found.

    Returns
    -------
    str
        The end of a sentence, without the option that takes the unit.
    """
    return (
        f"h_{hubble} is H0 / ({hubble} km/s/Mpc), which is 1 and not 0.{hubble.rstrip('0')} where H0 is {hubble}, as"
        " such a table assumes"
    )


def name_has_little_h(name: str) -> bool:
    """Tell whether a column name such as "mass_msun_h" or "Lx_h50" says that its unit contains the Hubble constant."""
    pattern = r"m(sun|sol)[_ ]*(/|per|over)?[_ ]*h(70|inv)?(?![a-z])|solmass[_ ]*(/|per)?[_ ]*h(inv)?(?![a-z])"
    slash = r"/\s*\(?\s*h(70)?\b|(?<![a-z])h_?\{?(70)?\}?\s*(\^|\*\*|_)?\s*[{(]?-\s*\d|h_?inv|little_?h"
    value = r"(?<![a-z])h_?(50|6\d|7\d|100)(?![\da-z])"
    # A capital H is an upper bound, as in eRASS1's M500_H, and m_h is a halo mass.
    of_mass = re.search(r"[Mm](?:ass)?_?(?:\d{3,4}|vir)[a-z]?_h$", name)
    return of_mass is not None or re.search(f"{pattern}|{slash}|{value}", name, re.IGNORECASE) is not None


def log_kind(unit: str) -> str:
    """Tell what kind of logarithm a unit is.

    Parameters
    ----------
    unit : str
        Such as "dex(solMass)", "log10(erg/s)", "[solMass]" (as VizieR writes it), "ln(Lsun)", "mag" or "ABmag".

    Returns
    -------
    str
        "log10", "ln", "mag", or "" for a unit that is none.
    """
    text = plain_unit(unit).lower()
    if re.search(r"(?<![a-z])(?:ab|st|vega|m)?[_ ]?mags?(?![a-z])|magnitude|^(?:ab|vega)$", text):
        return "mag"
    if re.search(r"\bln\b", text):
        return "ln"
    return "log10" if re.search(r"\bdex\b|\blog|\blg\b|^\[.*\]$", text) else ""


def is_log_unit(unit: str) -> bool:
    """Tell whether a unit such as "dex(solMass)", "log10(erg/s)", "[solMass]" or "mag" is a logarithm."""
    return log_kind(unit) != ""


def strip_log(unit: str) -> str:
    """Give the unit inside a logarithm: "solMass" for "dex(solMass)", "[solMass]" or "log(M/Msun)"."""
    match = re.fullmatch(
        r"\s*(?:dex|log_?10|log|lg|ln)?\s*[(\[](.*)[)\]]\s*|\s*(?:dex|log_?10|log|lg|ln)\b\s*(.*)", unit, re.IGNORECASE
    )
    if match is None:
        return unit
    inside = (match[1] or match[2] or "").strip()
    return re.sub(r"^[ML]\w{0,5}\s*/\s*(?=\(?\s*(?:[ML]_?\{?\\?(?:sun|odot)|sol|erg|W\b|10|1e))", "", inside)


def unit_in_name(name: str) -> str:
    """Give the unit that a column's name ends with, as "1e44 erg/s" in "L500 [1e44 erg/s]"; "" where there is none."""
    if name.rstrip()[-1:] not in (")", "]"):
        return ""
    # The first bracket that opens a unit: a name may have others, as "L500 E(z)^-1 (1e44 erg/s)" has.
    for opened in re.finditer(r"(?<=[^\s(\[])\s*[\[(]", name):
        inside = name[opened.end() :].rstrip()[:-1].strip()
        if inside and is_unit(inside):
            return inside
    return ""


def unit_at_end(name: str) -> str:
    """Give the unit of mass that a name ends with, as M_lens_1e14Msun and M200_Msun do; "" where there is none."""
    found = re.search(r"(?i)_(1e\d+)?_?(?:m_?sun|msol)$", name)
    return "" if found is None else f"{found[1] or ''} Msun".strip()


def power_at_end(name: str) -> str:
    """Give the unit that the name of a luminosity ends with, as L500_1e43 and Lx44 do; "" where there is none.

    Parameters
    ----------
    name : str
        The column's name.

    Returns
    -------
    str
        Such as "1e43 erg/s".
    """
    second = r"(?:_?ergs?(?:_?(?:/|p|per)?_?s(?:ec)?)?(?:\^?[_-]?1)?)?$"
    found = re.search(rf"(?i)^l\w*?_?(?:1e|10\^|e)(4[0-6]){second}|^l_?x?_?(4[2-5]){second}", name)
    return "" if found is None else f"1e{found[1] or found[2]} erg/s"


def is_unit(text: str) -> bool:
    """Tell whether a text is a unit, or a logarithm of one, in any of the notations that are read here."""
    try:
        return not isinstance(_parsed(strip_log(text))[1], str) or log_kind(text) != ""
    except MassmapError:
        return False


_SUN = {
    r"\b(?:M_?sun|M_?sol|solMass|solar ?mass(?:es)?)\b": "solMass",
    r"\b(?:L_?sun|L_?sol|solLum|solar ?luminosit(?:y|ies))\b": "solLum",
    r"\bergs?\b": "erg",
    r"\bsec\b": "s",
}


def _parsed(text: str):
    """Scale and astropy unit of a text; the text itself, in small letters without blanks, where it is none."""
    from astropy import units

    try:
        scale, rest = split_unit_scale(text)
    except MassmapError:
        scale, rest = 1.0, text
    plain = "".join(rest.lower().split())
    name = plain_unit(rest)
    for pattern, standard in _SUN.items():
        name = re.sub(pattern, standard, name, flags=re.IGNORECASE)
    for form in (None, "cds", "fits", "vounit", "ogip"):
        try:
            return scale, units.Unit(name, format=form)
        except (ValueError, TypeError):
            continue
    return scale, plain


def same_unit(first: str, second: str) -> bool:
    """Tell whether two units are the same thing, "erg/s" and "erg s-1", "Msun" and "solMass"; the scale counts.

    Parameters
    ----------
    first, second : str
        Units as text.

    Returns
    -------
    bool
        Texts that no unit can be read from are compared as they are, blanks and capitals aside.
    """
    if first.split() == second.split():
        return True
    (scale, unit), (other_scale, other) = _parsed(first), _parsed(second)
    if isinstance(unit, str) or isinstance(other, str):
        same = isinstance(unit, str) and isinstance(other, str) and unit == other
        return same and bool(np.isclose(scale, other_scale, rtol=1e-9))
    try:
        return bool(np.isclose(scale * unit.to(other), other_scale, rtol=1e-9))
    except ValueError:  # astropy's UnitConversionError
        return False


def unit_factor(first: str, second: str) -> float | None:
    """Give what a number in one unit is multiplied by to be in another.

    Parameters
    ----------
    first, second : str
        Units as text.

    Returns
    -------
    float or None
        None where the units measure different things, or one of them cannot be read.
    """
    if same_unit(first, second):
        return 1.0
    (scale, unit), (other_scale, other) = _parsed(first), _parsed(second)
    if isinstance(unit, str) or isinstance(other, str):
        same = isinstance(unit, str) and isinstance(other, str) and unit == other
        return scale / other_scale if same else None
    try:
        return float(scale * unit.to(other) / other_scale)
    except ValueError:  # astropy's UnitConversionError
        return None


# Which density a name speaks of, in this package's letter.
_DENSITIES = {"crit": "c", "mean": "m", "b": "m"}
# Names of group catalogues of simulations, "Group_M_Crit200" or "m_mean200"; a top hat is the virial density of Bryan &
# Norman (1998), whatever number is written (https://www.tng-project.org/data/docs/specifications/).
_OF_SIMULATIONS = r"(?i)(?:^|[^a-z]|log|lg|ln)m(?:ass)?_?(crit|mean|tophat)_?(\d{3,4})(?!\d)"


def mass_definition_in(name: str) -> str:
    """Give the definition of the mass that a column's name states: "500c" in "M500cUnc", "200m" in "logM200m".

    Parameters
    ----------
    name : str
        The column's name.

    Returns
    -------
    str
        Such as "500c" or "vir"; "" where the name says none, as "M500" does not say of which density.
    """
    overdensity = r"(?:^|[^A-Za-z]|log|lg|ln)[Mm](?:ass|ASS)?_?(\d{3,4})[_,]?(crit|c|m|b)(?=$|[^a-z]|unc|cal|upp)"
    found = re.search(overdensity, name) or re.search(overdensity, name.lower() if name.isupper() else name)
    if found is not None:
        return found[1] + _DENSITIES.get(found[2], found[2])
    if (found := re.search(_OF_SIMULATIONS, name)) is not None:
        density = found[1].lower()
        return "vir" if density == "tophat" else found[2] + _DENSITIES[density]
    return "vir" if re.search(r"(?i)(?:^|[^a-z]|log|lg|ln)m(?:ass)?_?vir(?![a-z])", name) else ""


def overdensity_in(name: str) -> str:
    """Give the overdensity of the mass that a column's name states, of whichever density: "500" in "M500", "log_m200".

    Parameters
    ----------
    name : str
        The column's name.

    Returns
    -------
    str
        The digits; "" where the name says none, as "M_lens", the mass within an aperture, "M500kpc", or "M500_gas".
    """
    if re.search(r"(?i)gas|star|stell|bcg|bary|icm|\bhi\b", name):  # in a halo, and not its mass: M500_gas
        return ""
    name = name.lower() if name.isupper() else name
    found = re.search(r"(?:^|[^A-Za-z]|log|lg|ln)[Mm](?:ass|ASS)?_?(180|200|500|1000|2500)(?![\d.]|_?[kM]?pc)", name)
    if found is None:
        found = re.search(_OF_SIMULATIONS.replace("tophat", "(?!)"), name)
        return "" if found is None else found[2]
    return found[1]


def contradicts_name(definition: str, name: str) -> bool:
    """Tell whether a definition of mass is another one than a column's name states, as "200m" is beside "M500".

    Parameters
    ----------
    definition : str
        The definition, such as "200m" or "vir".
    name : str
        The column's name.

    Returns
    -------
    bool
        True where the overdensities differ. A name that states none contradicts nothing.
    """
    stated = overdensity_in(name)
    return bool(stated) and re.match(r"\d*", definition)[0] != stated  # type: ignore[index]
