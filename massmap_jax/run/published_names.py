"""The table of masses under the column names of a published catalogue (`--column-names`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from massmap_jax.catalogue.layouts import LAYOUTS
from massmap_jax.catalogue.units import unit_factor
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.columns import ColumnInfo, column_info

_OWN_NAMES = {"id": "id", "ra": "ra", "dec": "dec", "z": "z"}


@dataclass(frozen=True)
class _Style:
    """Names of a mass and its 68 % interval: M500c_errPlus and M500c_errMinus, or the bounds M500_H and M500_L."""

    unit: str
    plus: str
    minus: str
    are_bounds: bool


_ACT = _Style("1e14 solMass", "_errPlus", "_errMinus", are_bounds=False)
_STYLES = {"act": _ACT, "act_dr5": _ACT, "act_dr6": _ACT, "erass1": _Style("1e13 solMass", "_H", "_L", are_bounds=True)}
NAMES = tuple(_STYLES)


def mass_column(names: str, mass_definition: str) -> str:
    """Give the name of the mass column in a published catalogue.

    Parameters
    ----------
    names : str
        One of `NAMES`.
    mass_definition : str
        Definition of the masses, such as "500c".

    Returns
    -------
    str
        "M500c" or "M200m" as ACT has it, "M500" as eRASS1.

    Raises
    ------
    MassmapError
        For unknown names, and for a mass definition that the catalogue has no name for.
    """
    if names not in _STYLES:
        raise MassmapError(f"column_names {names!r} are not known: give one of {', '.join(NAMES)}")
    if names == "erass1" and mass_definition == "500c":
        return "M500"
    if names != "erass1" and re.fullmatch(r"\d+[cm]", mass_definition):
        return f"M{mass_definition}"
    need = "500c" if names == "erass1" else "a number and c or m, such as 500c"
    raise MassmapError(
        f"column_names={names!r} have no column for {mass_definition} masses: leave column_names out, or take a mass "
        f"prior whose masses are {need}"
    )


def published_names(
    columns: Mapping[str, np.ndarray], names: str, mass_definition: str, lum_unit: str
) -> tuple[dict[str, np.ndarray], ColumnInfo]:
    """Name the columns of a table of masses as a published catalogue does.

    Parameters
    ----------
    columns : dict of str to np.ndarray, (halo,)
        As in `MassPosterior.to_table`, with the quantiles 0.16, 0.5 and 0.84.
    names : str
        One of `NAMES`.
    mass_definition : str
        Definition of the masses.
    lum_unit : str
        Unit of the observed luminosity.

    Returns
    -------
    columns : dict of str to np.ndarray, (halo,)
        Id, position and redshift under the catalogue's names; the luminosity too, where its unit can be converted, so
        that `--columns NAME` reads the table; the mass with its 68 % interval; then all other columns as they were.
    info : dict of str to dict
        Units, descriptions and UCDs.

    Raises
    ------
    MassmapError
        As `mass_column`.
    """
    mass, style, layout = mass_column(names, mass_definition), _STYLES[names], LAYOUTS[names]
    renamed = {own: layout.columns[role][0] for own, role in _OWN_NAMES.items()}
    told = column_info(columns)

    def under_new_names(texts: dict[str, str]) -> dict[str, str]:
        return {renamed.get(name, name): text for name, text in texts.items()}

    info: ColumnInfo = {
        "units": under_new_names(told["units"]),
        "descriptions": under_new_names(told["descriptions"]),
        "ucds": under_new_names(told["ucds"]),
    }
    found = {renamed[name]: columns[name] for name in renamed if name in columns}

    def add(name, low, middle, high, unit, what, ucd):
        """A value with two bars or bounds."""
        ends = (high, low) if style.are_bounds else (high - middle, middle - low)
        kind = "bound" if style.are_bounds else "error"
        pieces = {"": (middle, what, ucd), style.plus: (ends[0], f"upper {kind} of {name}, 68 %", f"stat.error;{ucd}")}
        pieces[style.minus] = (ends[1], f"lower {kind} of {name}, 68 %", f"stat.error;{ucd}")
        for ending, (values, description, word) in pieces.items():
            found[name + ending] = values
            info["units"][name + ending], info["descriptions"][name + ending] = unit, description
            info["ucds"][name + ending] = word

    lum, unit = layout.columns["lum"][0], layout.settings["lum_unit"]
    if (factor := unit_factor(lum_unit, unit) if lum_unit else None) is not None:
        values, sigma = factor * np.exp(columns["ln_lum_obs"]), columns["sigma_ln_lum"]
        ends = values * np.exp(-sigma), values * np.exp(sigma)
        word = "phys.mass" if "Msun" in unit else "phys.luminosity"
        add(lum, ends[0], values, ends[1], unit.replace("Msun", "solMass"), "observed, before any prior", word)
    scale = float(style.unit.split()[0])
    low, middle, high = (10 ** columns[f"log10_mass_q{q}"] / scale for q in ("16", "50", "84"))
    what = f"posterior median of the {mass_definition} mass, without h"
    add(mass, low, middle, high, style.unit, what, "phys.mass")
    return found | {name: values for name, values in columns.items() if name not in renamed}, info
