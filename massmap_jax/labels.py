"""Comparison of labels: mass definition, luminosity unit, cosmology.

A catalogue, a relation, a relation's prior, a mass prior, a fit and a map carry labels. Nothing is converted unasked,
so wherever two of them are combined, labels that contradict each other are refused. A label that is not stated
contradicts nothing.
"""

from typing import Any, NamedTuple

from massmap_jax.catalogue.units import same_unit, unit_factor
from massmap_jax.errors import MassmapError
from massmap_jax.halo.mass_function import MASS_DEFINITIONS

__all__ = ["Labels", "check_labels", "labels_of", "prior_of", "same_cosmology", "same_unit", "unit_factor"]

# Values that mean "not stated".
UNSTATED = ("", "unknown", "none", None)
# Relative difference of H0 and Om0 below which two cosmologies are the same: papers round to three digits.
_SAME_COSMOLOGY = 2e-3
# How a mass prior is called in a sentence; its definition is the one that is easily chosen.
_PRIOR = "the mass prior"


class Labels(NamedTuple):
    """Labels of one thing; a field is None where nothing is stated.

    Attributes
    ----------
    what : str
        The name of the thing in a sentence, such as "the relation".
    mass_definition : str or None
        "200m", "500c", "vir", ...
    lum_unit : str or None
        Unit of the luminosity, as text.
    cosmology : str or astropy.cosmology.FLRW or None
        A name, parameters as text, or an astropy cosmology.
    """

    what: str
    mass_definition: str | None = None
    lum_unit: str | None = None
    cosmology: Any = None


def labels_of(what: str, thing) -> Labels:
    """Read the labels of a catalogue, relation, relation's prior, mass prior, fit or map.

    Parameters
    ----------
    what : str
        The name of the thing in a sentence.
    thing : object
        Its labels are its attributes, or pairs in its attribute `labels` (a `RelationPrior`).

    Returns
    -------
    Labels
        The labels; those that say "unknown" or the like are None.
    """
    pairs = dict(getattr(thing, "labels", ()))
    found = {name: pairs.get(name, getattr(thing, name, None)) for name in Labels._fields[1:]}
    stated = {name: value for name, value in found.items() if not (isinstance(value, str | None) and value in UNSTATED)}
    return Labels(what, **stated)


def check_labels(**things) -> None:
    """Refuse things whose labels contradict each other; every pair of them is compared.

    Parameters
    ----------
    **things : object
        The things by their names in a sentence, with "_" for a blank: `catalogue=`, `relation=`, `mass_prior=`. A
        `Labels` brings its own name, and None is left out.

    Raises
    ------
    MassmapError
        If mass definitions, luminosity units or cosmologies differ.
    """
    known = [
        thing if isinstance(thing, Labels) else labels_of("the " + what.replace("_", " "), thing)
        for what, thing in things.items()
        if thing is not None
    ]
    for i, first in enumerate(known):
        for second in known[i + 1 :]:
            _compare(first, second)


def prior_of(definition: str) -> str:
    """Say how a mass prior of a definition is made.

    Parameters
    ----------
    definition : str
        The definition, such as "500c".

    Returns
    -------
    str
        The options, where a mass function of the package has it, and else that a table of one's own is needed.
    """
    if definition in MASS_DEFINITIONS:
        return f"prior='hmf' and mass_definition={definition!r}"
    return (
        f"a table of your own (MassPrior.from_table): prior='hmf' makes none of {definition} masses, only of"
        f" {', '.join(MASS_DEFINITIONS)}"
    )


def _compare(first: Labels, second: Labels) -> None:
    """Refuse two things whose labels contradict each other."""
    masses = first.mass_definition, second.mass_definition
    if None not in masses and masses[0] != masses[1]:
        others = [labels.mass_definition for labels in (first, second) if labels.what != _PRIOR]
        way = f", a prior with {prior_of(others[0])}" if len(others) == 1 else ""
        raise MassmapError(
            f"{first.what} is for {masses[0]} masses and {second.what} for {masses[1]}: masses of one definition are "
            f"never converted to another unasked, so choose both for the same definition{way} (or correct the label)"
        )
    units = first.lum_unit, second.lum_unit
    if None not in units and not same_unit(*units):
        way = "lum_scale= and lum_unit= when the catalogue is read"
        if _are_angle_and_area(*units) or _are_angle_and_area(*units[::-1]):
            way = "a solid angle in rad2 times D_A(z)^2 is an area: write a column of that"
        raise MassmapError(
            f"{first.what} has luminosities in {units[0]!r} and {second.what} in {units[1]!r}: nothing is converted, "
            f"so bring both to one unit ({way}), or correct the label"
        )
    cosmologies = first.cosmology, second.cosmology
    if None not in cosmologies and not same_cosmology(*cosmologies):
        raise MassmapError(
            f"{first.what} assumes the cosmology {cosmologies[0]} and {second.what} {cosmologies[1]}: give both the "
            "same one"
        )


def _are_angle_and_area(first: str, second: str) -> bool:
    """Tell whether two units are those of an SZ signal in the sky and in Mpc^2."""
    return unit_factor(first, "deg2") is not None and unit_factor(second, "Mpc2") is not None


def same_cosmology(first, second) -> bool:
    """Whether two cosmologies agree in H0 and Om0 to 0.2 %; cosmologies that cannot be read are compared as text.

    Parameters
    ----------
    first, second : str or astropy.cosmology.FLRW
        A name, parameters as text, or the cosmology itself.

    Returns
    -------
    bool
        True if they agree.
    """
    if first is second or str(first) == str(second):
        return True
    from massmap_jax.halo.cosmology import flrw_of

    try:
        one, other = flrw_of(first), flrw_of(second)
    except (MassmapError, ImportError):
        return False
    pairs = ((one.H0.value, other.H0.value), (one.Om0, other.Om0))
    return all(abs(a - b) <= _SAME_COSMOLOGY * abs(b) for a, b in pairs)
