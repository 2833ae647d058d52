"""Measured masses beside those that published relations give at the same luminosities: a wrong unit stands out."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.units import unit_factor
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.presets import PRESETS, Value
from massmap_jax.relation.published import published_relation
from massmap_jax.run.observable_names import is_observable_of

# The published relations of one observable differ by less than this in mass, and a unit is wrong by ten or more.
_FAR = 5.0
# Beyond, where the name says that the observable is that of the relation, nothing but a unit explains it.
_TOO_FAR = 8.0
# Masses outside a relation's range by more than this say nothing about it.
_OUTSIDE = 2.0


class Far(NamedTuple):
    """Measured masses that are far from every published relation.

    Attributes
    ----------
    told : str
        One sentence.
    certain : bool
        Whether it is so far that a unit must be wrong, and the observable is the relation's by its name.
    """

    told: str
    certain: bool


def far_from_published(
    ln_lum: Float[np.ndarray, " object"],
    lum_unit: str,
    redshift: Float[np.ndarray, " object"],
    ln_mass: Float[np.ndarray, " object"],
    column: str = "",
) -> Far | None:
    """Say where measured masses differ by far from what every published relation in their unit gives.

    Parameters
    ----------
    ln_lum : Float[np.ndarray, "object"]
        ln of the luminosities.
    lum_unit : str
        Their unit; where none is stated, nothing is compared.
    redshift : Float[np.ndarray, "object"]
        Redshifts.
    ln_mass : Float[np.ndarray, "object"]
        ln of the measured masses [ln Msun].
    column : str, optional
        Name of the column of the luminosities.

    Returns
    -------
    Far or None
        None where one relation agrees within a factor of 5, or none covers these luminosities.

    Examples
    --------
    >>> import numpy as np
    >>> from massmap_jax.run.beside_published import far_from_published
    >>> ln_lum, z, ln_mass = np.log([2.0, 4.0]), np.array([0.1, 0.1]), np.log([2.5e14, 4e14])
    >>> far_from_published(ln_lum, "1e44 erg/s", z, ln_mass) is None
    True
    >>> far = far_from_published(ln_lum, "1e44 erg/s", z, ln_mass - np.log(10), "L500")
    >>> "11 times" in far.told, far.certain
    (True, True)
    """
    found = {}
    for preset in PRESETS.values():
        factor = unit_factor(lum_unit, preset.lum_unit) if lum_unit and preset.lum_unit else None
        if factor is None or preset.law != "power":
            continue
        # The mass that a luminosity stands for does not depend on the scatter or the error.
        any_scatter = Value(1.0) if preset.needs_scatter else None
        relation = published_relation(preset.name, scatter=any_scatter)
        assert isinstance(relation, MassLuminosityRelation)
        by_law = np.asarray(relation.data_term(ln_lum + np.log(factor), 0.0, redshift).centre)
        low, high = np.log(preset.mass_range) + np.log(_OUTSIDE) * np.array([-1, 1])
        covered = (by_law > low) & (by_law < high)
        if covered.mean() >= 0.5:
            found[preset.name] = float(np.median((by_law - ln_mass)[covered]))
    if not found or min(map(abs, found.values())) < np.log(_FAR):
        return None
    nearest = min(found, key=lambda name: abs(found[name]))
    side = "lighter" if found[nearest] > 0 else "heavier"
    told = (
        f"the measured masses are {np.exp(abs(found[nearest])):.2g} times {side} than what the published relation"
        f" {nearest} gives at their luminosities, and no other in a unit like {lum_unit} is nearer: see whether their"
        " unit and that of the luminosity are right (--calib-unit, --lum-in, --lum-unit)"
    )
    certain = bool(abs(found[nearest]) > np.log(_TOO_FAR)) and is_observable_of(PRESETS[nearest], column)
    return Far(told, certain)
