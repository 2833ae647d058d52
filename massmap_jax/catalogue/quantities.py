"""Quantities of astropy as plain numbers in the unit that is asked for; values without a unit are taken as they are."""

from typing import Any

import numpy as np

from massmap_jax.catalogue.columns import as_plain
from massmap_jax.catalogue.units import is_log_unit, split_unit_scale, unit_factor
from massmap_jax.errors import MassmapError


def unit_text(values: Any) -> str | None:
    """Give the unit of a Quantity, or of a column that has one.

    Parameters
    ----------
    values : Any
        A Quantity, a column of astropy, or anything else.

    Returns
    -------
    str or None
        The unit as text, "" where it is dimensionless; None where there is none.
    """
    unit: Any = getattr(values, "unit", None)
    # A Series of pandas gives its row of that name.
    return unit.to_string() if hasattr(unit, "to_string") and hasattr(unit, "physical_type") else None


def _as_quantity(values: Any) -> Any:
    """Give a list of Quantities as one; anything else as it is."""
    if isinstance(values, list | tuple) and values and unit_text(values[0]) is not None:
        from astropy.units import Quantity

        return Quantity(values)
    return values


def in_unit(values: Any, unit: str, name: str, told: str = "") -> Any:
    """Convert a Quantity to numbers in a unit.

    Parameters
    ----------
    values : Any
        A Quantity, a list of Quantities, or values without a unit, which are given back as they are.
    unit : str
        The unit wanted; "" for numbers without one.
    name : str
        What to call the values in an error.
    told : str, optional
        How to call that unit in an error, where its name alone does not say enough.

    Returns
    -------
    Any
        Numbers, or what was given.

    Raises
    ------
    MassmapError
        For a unit that measures another thing, and for a logarithm.

    Examples
    --------
    >>> from astropy import units as u
    >>> from massmap_jax.catalogue.quantities import in_unit
    >>> in_unit([1.0, 2.0] * u.hourangle, "deg", "ra").round(9).tolist()
    [15.0, 30.0]
    """
    values = _as_quantity(values)
    own = unit_text(values)
    if own is None:
        return values
    # `astropy.cosmology.units` has a unit of redshifts.
    is_redshift = own == "redshift" and not unit
    factor = None if is_log_unit(own) else 1.0 if is_redshift else unit_factor(own or "1", unit or "1")
    if factor is None:
        wanted = told or (f"it in {unit}" if unit else "numbers without a unit")
        raise MassmapError(f"{name} is in {own!r}: give {wanted}")
    return as_plain(values) * factor


def plain_numbers(values: Any, name: str, unit: str = "", told: str = "") -> np.ndarray:
    """Give numbers that a table, a draw or a limit is made of: all known, and in the unit wanted.

    Parameters
    ----------
    values : Any
        Numbers, or a Quantity.
    name : str
        What to call them in an error.
    unit : str
        The unit wanted; "" for numbers without one.
    told : str, optional
        How to call that unit in an error.

    Returns
    -------
    Float[np.ndarray, "..."]
        The numbers in float64.

    Raises
    ------
    MassmapError
        For another unit, for masked entries, whose numbers mean nothing, and for what is no number.

    Examples
    --------
    >>> from astropy import units as u
    >>> from massmap_jax.catalogue.quantities import plain_numbers
    >>> plain_numbers([200.0, 500.0] * u.kpc, "radii", "Mpc").tolist()
    [0.2, 0.5]
    """
    values = as_plain(in_unit(values, unit, name, told))
    if np.ma.isMaskedArray(values) and (mask := np.ma.getmaskarray(values)).any():
        first = ", ".join(str(i) for i in np.argwhere(mask)[0])
        raise MassmapError(
            f"{name}: {mask.sum()} of {mask.size} entries are masked, the first at {first}: leave these out, or write"
            " what is meant"
        )
    try:
        return np.asarray(np.ma.getdata(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise MassmapError(f"{name} has to be numbers, and is an array of {values.dtype}") from None


def luminosity_in(values: Any, lum_unit: str) -> tuple[Any, str]:
    """Convert luminosities that are a Quantity to numbers, in the unit that is given or in their own.

    Parameters
    ----------
    values : Any
        The luminosities.
    lum_unit : str
        Unit that the numbers shall be in; "" for that of the Quantity, whose scale (1e14 of 1e14 Msun) is multiplied.

    Returns
    -------
    values : Any
        Numbers, or what was given.
    lum_unit : str
        Their unit.

    Raises
    ------
    MassmapError
        As `in_unit`.
    """
    values = _as_quantity(values)
    own = unit_text(values)
    if own is None:
        return values, lum_unit
    if is_log_unit(own):
        raise MassmapError(
            f"luminosity is in {own!r}, a logarithm: give linear luminosities, or ln L as ln_luminosity="
        )
    if lum_unit:
        wanted = f"it in {lum_unit}, as lum_unit says, or another lum_unit="
        return in_unit(values, lum_unit, "luminosity", wanted), lum_unit
    scale, unit = split_unit_scale(own)
    return as_plain(values) * scale, unit
