"""Which columns of a chain hold the cosmology: names of CosmoMC, Cobaya, CLASS, MontePython, CosmoSIS, CCL or LaTeX.

Densities may be physical ones, omega h^2: CLASS calls these omega_b and omega_cdm, in small letters, and MontePython
writes the former a hundred times larger. Densities of matter hold the neutrinos, which those of the mass function lack.
"""

import re
from collections.abc import Mapping

import numpy as np

from massmap_jax.catalogue.columns import ColumnTable, as_float64
from massmap_jax.errors import MassmapError

OPTION = "cosmology_columns"
"""The option of a run that says which column is which."""
# Names by `plain_name`. S8 is no sigma8.
COLUMNS = {
    "omega_m": (
        "omega_m",
        "omegam",
        "om0",
        "om",
        "omega_m0",
        "omega_m_0",
        "omegam0",
        "om_0",
        "om_m",
        "omm",
        "omega0_m",
    ),
    "sigma8": ("sigma8", "sigma_8"),
    "h": ("h", "h0", "h_0", "hubble", "little_h"),
    "n_s": ("n_s", "ns"),
    "omega_b": ("omega_b", "omegab", "ob0", "ob", "omega_b0", "omega_b_0", "omegab0", "ob_0", "omb", "omega0_b"),
}
_BARYONS = ("omegabh2", "ombh2", "omega_b_h2", "omega_bh2", "omega_bh^2", "omega_b_h^2", "obh2")
_COLD = ("omegach2", "omch2", "omega_cdm_h2", "omegacdmh2", "omega_ch2", "omega_ch^2", "omega_cdmh^2", "och2")
_MATTER = ("omegamh2", "ommh2", "omega_m_h2", "omega_mh2", "omega_mh^2", "omh2")
_COLD_SHARE = ("omega_c", "omegac", "oc", "omega_cdm")
_LIGHT, _LIGHT_SHARE = ("omnuh2", "omeganuh2", "omega_nu_h2", "omega_nuh2"), ("omega_nu", "omeganu")
_MASSES = ("mnu", "m_nu", "sum_mnu", "summnu", "mnu_total")
# That of one kind of neutrinos is no sum.
_ANY_MASS = (*_MASSES, "m_ncdm")
# Sum of the masses of neutrinos in eV over their omega h^2 (Planck 2018 VI, sect. 2.1, for three of a temperature).
_EV = 93.14
# The physical density of cold dark matter is 0.12 in all measurements, and its share 0.26.
_PHYSICAL = (0.05, 0.18)
# A column that is multiplied by a hundred, by its name.
_TIMES_100 = re.compile(r"100[*_]*(.+)")
# A hundred times the physical density of baryons, 0.0224.
_HUNDREDFOLD = (1.0, 5.0)


def plain_name(column: str) -> str:
    """Give a column's name as those of chains are compared.

    Parameters
    ----------
    column : str
        The name.

    Returns
    -------
    str
        In small letters, without the section of CosmoSIS, the * of derived parameters, and LaTeX.

    Examples
    --------
    >>> from massmap_jax.prior.chain_columns import plain_name
    >>> [plain_name(name) for name in ("cosmological_parameters--omega_m", "H0*", r"$\\Omega_{\\rm m}$")]
    ['omega_m', 'h0', 'omega_m']
    """
    name = column.strip().rpartition("--")[2].rstrip("*")
    return re.sub(r"[\\${}\s~]", "", re.sub(r"\\(?:rm|mathrm|text|it)(?![a-z])", "", name)).lower()


def find_column(table: ColumnTable, names: tuple[str, ...], what: str, path: str) -> str | None:
    """Find the column with one of these names.

    Parameters
    ----------
    table : ColumnTable
        The draws.
    names : tuple of str
        The names, by `plain_name`.
    what : str
        What the column is for.
    path : str
        Where they are from.

    Returns
    -------
    str or None
        The column, None where there is none.

    Raises
    ------
    MassmapError
        For two such columns that differ.
    """
    same = [c for c in table.names if plain_name(c) in names]
    if len(same) > 1 and all(_is_the_same(*(read_column(table, c, path) for c in (same[0], c))) for c in same[1:]):
        return same[0]
    if len(same) > 1:
        raise MassmapError(
            f"{' and '.join(map(repr, same))} of {path} could each be {what}: choose one with"
            f" {OPTION}='{what}={same[0]}' (columns in Python)"
        )
    return same[0] if same else None


def _is_the_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns are one quantity, as h and H0 are."""
    return any(np.allclose(one, factor * other, rtol=1e-5) for factor in (1.0, 100.0, 0.01))


def read_column(table: ColumnTable, column: str, path: str) -> np.ndarray:
    """Read the numbers of a column, (draw,)."""
    return np.atleast_1d(as_float64(np.atleast_1d(table.column(column)), f"cosmology column {column!r} of {path}"))


def densities(
    table: ColumnTable, found: Mapping[str, np.ndarray | float], given: Mapping, path: str, notes: list[str]
) -> dict[str, np.ndarray]:
    """Give omega_m and omega_b as shares of the critical density, of matter without neutrinos.

    Parameters
    ----------
    table : ColumnTable
        The draws.
    found : mapping of str to Float[np.ndarray, "draw"]
        The parameters that have a column of their own, h in units of 100 km/s/Mpc.
    given : mapping
        The parameters whose columns the user named, which are taken as they are.
    path : str
        Where they are from.
    notes : list of str
        What was computed is added.

    Returns
    -------
    dict of str to Float[np.ndarray, "draw"]
        Those that are not as `found` has them.

    Raises
    ------
    MassmapError
        For two columns that could be the same.
    """

    def column(names: tuple[str, ...]) -> str | None:
        return find_column(table, names, names[0], path)

    made: dict[str, np.ndarray] = {}
    if "h" not in found:
        return made
    h2, baryons, cold = np.square(found["h"]), column(_BARYONS), column(_COLD)
    scaled = [c for c in table.names if (m := _TIMES_100.fullmatch(plain_name(c))) and m[1] in (*_BARYONS, "omega_b")]
    if baryons is None and len(scaled) == 1:
        baryons = scaled[0]
    if cold is None and "omega_cdm" in table.names:  # CLASS, in small letters
        low, high = _PHYSICAL
        if low < np.median(read_column(table, "omega_cdm", path)) < high:
            cold = "omega_cdm"
            baryons = "omega_b" if "omega_b" in table.names else baryons
    if baryons is not None and "omega_b" not in given:
        values = read_column(table, baryons, path)
        low, high = _HUNDREDFOLD
        if low < np.median(values) < high:
            values = values / 100
            notes.append(f"cosmology: {baryons!r} of {path} is a hundred times omega_b h^2 by its size")
        made["omega_b"] = values / h2
        if plain_name(baryons) == "omega_b":
            notes.append(f"cosmology: {baryons!r} of {path} is omega_b h^2, as CLASS calls it beside {cold!r}")
    if "omega_m" in given:
        return made
    share = made.get("omega_b", found.get("omega_b"))
    light = _neutrinos(table, path, h2)
    if cold is not None and share is not None:
        made["omega_m"] = share + read_column(table, cold, path) / h2
        by = repr(cold) if baryons is None else f"{baryons} + {cold}"
        notes.append(f"cosmology: omega_m is ({by}) / h^2 of {path}, without neutrinos")
        return made
    matter, dark = column(_MATTER), column(_COLD_SHARE)
    if "omega_m" not in found and matter is None and dark is not None and share is not None:
        made["omega_m"] = share + read_column(table, dark, path)
        notes.append(f"cosmology: omega_m is {dark!r} of {path} and the baryons, without neutrinos")
    elif "omega_m" in found or matter is not None:
        total = found["omega_m"] if "omega_m" in found else read_column(table, str(matter), path) / h2
        if "omega_m" not in found:
            notes.append(f"cosmology: omega_m is {matter!r} / h^2 of {path}")
        if light is not None:
            notes.append(
                f"cosmology: omega_m of {path} is taken to hold its neutrinos ({light[0]!r}), a median of"
                f" {np.median(light[1] / total):.2g} of it, which are subtracted"
            )
            total = total - light[1]
        made["omega_m"] = np.asarray(total)
    return made


def _neutrinos(table: ColumnTable, path: str, h2) -> tuple[str, np.ndarray] | None:
    """The column of the neutrinos and their density over the critical one; None where the draws have none."""
    for names, factor in ((_LIGHT, 1 / h2), (_LIGHT_SHARE, 1.0), (_MASSES, 1 / _EV / h2)):
        name = find_column(table, names, names[0], path)
        if name is not None:
            return name, read_column(table, name, path) * factor
    return None


def mass_of_neutrinos(table: ColumnTable, path: str) -> tuple[str, np.ndarray] | None:
    """Give the column that tells the masses of neutrinos, and their sum.

    Parameters
    ----------
    table : ColumnTable
        The draws.
    path : str
        Where they are from.

    Returns
    -------
    tuple of str and Float[np.ndarray, "draw"], or None
        The column and the sum [eV]; None where the draws do not tell it.
    """
    for names, factor in ((_ANY_MASS, 1.0), (_LIGHT, _EV)):
        name = find_column(table, names, "the neutrinos", path)
        if name is not None:
            return name, read_column(table, name, path) * factor
    return None
