"""A catalogue under a published relation: in its unit, and flagged where it was not measured."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.units import split_unit_scale, unit_factor
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.presets import Preset, Value, find_preset
from massmap_jax.relation.published import published_relation

if TYPE_CHECKING:
    from massmap_jax.run.options import JobOptions

# An object is far outside a published relation if its mass is beyond the range by this factor.
_FAR_OUTSIDE = 3.0
# What X-ray catalogues give luminosities in: MCXC, XXL and eRASS1, and logarithms.
_POWERS = ("1e44 erg/s", "1e43 erg/s", "1e42 erg/s", "erg/s")
# Groups may be outside of the range by this factor, and are then no evidence for a unit that puts them within.
_LIKELY_OUTSIDE = 2.0
# Readings that put the median outside of this [Msun] are not worth a word.
_ANY_MASS = (1e9, 1e17)


def in_unit_of_relation(
    options: "JobOptions", catalogue: HaloCatalogue, relation, notes: list[str]
) -> "tuple[JobOptions, HaloCatalogue]":
    """Bring the catalogue, and the luminosity limit in the options, to the unit of a published relation.

    Parameters
    ----------
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The objects.
    relation : Relation
        The relation.
    notes : list of str
        A note is added if something changes.

    Returns
    -------
    tuple of (JobOptions, HaloCatalogue)
        Both in that unit.

    Raises
    ------
    MassmapError
        Where the catalogue states no unit, and not the relation's alone is likely.
    """
    before = catalogue.lum_unit
    if not before and options.is_published:
        _refuse_unclear_power(catalogue, find_preset(str(options.relation)))
    catalogue = in_unit_of(catalogue, relation, notes)
    factor = unit_factor(before, catalogue.lum_unit) if before and before != catalogue.lum_unit else None
    if factor not in (None, 1.0):
        limits = {name: getattr(options, name) for name in ("lum_limit", "flux_limit")}
        options = replace(options, **{name: v * factor for name, v in limits.items() if v is not None})
    return options, catalogue


def in_unit_of(catalogue: HaloCatalogue, relation, notes: list[str]) -> HaloCatalogue:
    """Bring the luminosities of a catalogue to the unit of a published relation, where both units are known.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    relation : Relation
        The relation.
    notes : list of str
        A note on what was done or assumed is added.

    Returns
    -------
    HaloCatalogue
        The same catalogue if its unit is the relation's, is not stated, or measures something else (which
        `check_labels` refuses).

    Raises
    ------
    MassmapError
        Where the catalogue states no unit and that of the relation has a power of ten that is not the usual one.
    """
    wanted = relation.lum_unit
    if not catalogue.lum_unit:
        # Masses of gas come in 1e12, 1e13 and 1e14 Msun, and of a sample read with the wrong one most objects may still
        # be within the relation's range.
        if wanted and split_unit_scale(wanted)[0] != 1 and unit_factor(wanted, "erg/s") is None:
            raise MassmapError(
                f"the catalogue states no unit of the luminosity, and the relation is for {wanted}, where others write"
                f" another power of ten: state it with lum_unit= ({wanted!r} if it is that)"
            )
        if wanted:
            notes.append(f"the catalogue states no unit of the luminosity: taken as the relation's, {wanted}")
        return catalogue
    factor = unit_factor(catalogue.lum_unit, wanted) if wanted else None
    if factor in (None, 1.0):
        return catalogue
    notes.append(
        f"luminosity: {catalogue.lum_unit} in the catalogue, multiplied by {factor:g} to be in the relation's {wanted}"
    )
    return catalogue.in_unit(factor, wanted)


def _refuse_unclear_power(catalogue: HaloCatalogue, preset: Preset) -> None:
    """Ask for the unit of X-ray luminosities, unless only the relation's own puts most objects in its range."""
    usable = catalogue.usable & np.isfinite(catalogue.ln_lum_obs)
    if unit_factor(preset.lum_unit or "1", "erg/s") is None or not usable.any():
        return
    relation = published_relation(preset.name, scatter=Value(1.0) if preset.needs_scatter else None)
    if not isinstance(relation, MassLuminosityRelation):
        return
    ln_lum, z = catalogue.ln_lum_obs[usable], catalogue.redshift[usable]
    least, most = preset.mass_range
    within, told = [], []
    for unit in _POWERS:
        ln_factor = np.log(unit_factor(unit, preset.lum_unit) or np.nan)
        mass = np.exp(np.asarray(relation.data_term(ln_lum + ln_factor, 0.0, z).centre, dtype=float))
        middle = float(np.median(mass))
        beyond = 1.0 if unit == preset.lum_unit else _LIKELY_OUTSIDE
        if np.mean((mass >= least / beyond) & (mass <= most * beyond)) >= 0.5:
            within.append(unit)
        if _ANY_MASS[0] < middle < _ANY_MASS[1]:
            told.append(f"{middle:.2g} Msun in {unit!r}")
    if within == [preset.lum_unit]:
        return
    raise MassmapError(
        "the catalogue states no unit of the luminosity, and catalogues differ in its power of ten: the median of"
        f" {np.exp(np.median(ln_lum)):.3g} would be {', '.join(told) or 'no mass in any of them'}, by the relation"
        f" {preset.name} without its scatter, which was measured for {least:.2g} to {most:.2g} Msun; state the unit"
        " with lum_unit="
    )


def at_other_redshifts(redshift: Float[np.ndarray, " object"], preset: Preset) -> str:
    """Tell that most objects are at redshifts that a published relation was not measured at.

    Parameters
    ----------
    redshift : Float[np.ndarray, "object"]
        Redshifts of the objects that can be used.
    preset : Preset
        The published relation.

    Returns
    -------
    str
        The sentence; empty where half of the objects or more are within.
    """
    near, far = preset.redshift_range
    outside = (redshift < near) | (redshift > far)
    if outside.sum() <= 0.5 * redshift.size:
        return ""
    return (
        f"{outside.sum()} of {redshift.size} objects are at redshifts that the relation {preset.name} was not measured"
        f" at, {near:g} to {far:g} (the first at {redshift[np.argmax(outside)]:.3g}; median {np.median(redshift):.3g}):"
        " its evolution beyond is an assumption, and so are their masses; choose a relation for these redshifts, or"
        " calibrate one on objects with measured masses"
    )


def flag_outside_range(posterior: MassPosterior, preset: Preset, notes: list[str]) -> MassPosterior:
    """Flag objects outside the masses or redshifts that a published relation was measured in, and count them.

    Parameters
    ----------
    posterior : MassPosterior
        The masses.
    preset : Preset
        The published relation.
    notes : list of str
        A note with the count is added.

    Returns
    -------
    MassPosterior
        The masses with the flag `OUTSIDE_RELATION`.

    Raises
    ------
    MassmapError
        If more than half of the objects lie far outside the range of masses, or, with luminosities that state no unit,
        outside of it at all.
    """
    (least, most), (near, far) = preset.mass_range, preset.redshift_range
    light, heavy, by_redshift = _sides(posterior, preset)
    mass, outside = np.exp(posterior.mean), (light | heavy | by_redshift) & posterior.usable
    if not outside.any():
        return posterior
    usable = posterior.usable
    notes.append(
        f"{outside.sum()} of {usable.sum()} objects lie outside the range of the relation {preset.name}, M {least:.2g} "
        f"to {most:.2g} Msun and z {near:g} to {far:g} ({(light & usable).sum()} lighter, {(heavy & usable).sum()} "
        f"heavier, {(by_redshift & usable).sum()} by redshift): flagged OUTSIDE_RELATION, masses reported"
    )
    # A unit that was only taken to be the relation's, and is a choice: a richness has one unit, a Y several.
    assumed = not posterior.catalogue.lum_unit and preset.lum_unit not in ("", "richness")
    margin = 1.0 if assumed else _FAR_OUTSIDE
    with np.errstate(invalid="ignore"):
        far_off = ((mass < least / margin) | (mass > most * margin)) & usable
    if assumed:  # a wrong unit moves all of them to one side
        far_off &= light if light[usable].sum() > heavy[usable].sum() else heavy
    if far_off.sum() > 0.5 * usable.sum():
        first = int(np.argmax(far_off))
        unit = (
            f"no unit of the luminosity is stated, and it was taken to be the relation's: state it (lum_unit="
            f"{preset.lum_unit!r} if it is that)"
            if assumed
            else f"check the unit of the luminosity ({preset.lum_unit or 'a ratio'})"
        )
        raise MassmapError(
            f"more than half of the objects, {far_off.sum()} of {usable.sum()}, lie {'' if assumed else 'far '}outside "
            f"the masses that the relation {preset.name} was measured for, {least:.2g} to {most:.2g} Msun (first row "
            f"{first}: {mass[first]:.2g} Msun): {unit}, or use another relation"
        )
    return _with_flag(posterior, outside)


def with_flags_of_part(posterior: MassPosterior, preset: Preset) -> MassPosterior:
    """Flag the objects of a part of a catalogue that are outside the masses or redshifts of a published relation.

    Parameters
    ----------
    posterior : MassPosterior
        The masses of the part; whether most of a catalogue lies outside is for its whole to say.
    preset : Preset
        The published relation.

    Returns
    -------
    MassPosterior
        The masses with the flag `OUTSIDE_RELATION`.
    """
    light, heavy, by_redshift = _sides(posterior, preset)
    return _with_flag(posterior, (light | heavy | by_redshift) & posterior.usable)


def _sides(posterior: MassPosterior, preset: Preset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which objects are lighter, heavier and at other redshifts than those that a relation was measured for."""
    mass, z = np.exp(posterior.mean), posterior.catalogue.redshift
    (least, most), (near, far) = preset.mass_range, preset.redshift_range
    with np.errstate(invalid="ignore"):
        return mass < least, mass > most, (z < near) | (z > far)


def _with_flag(posterior: MassPosterior, outside: np.ndarray) -> MassPosterior:
    """The masses with the flag of those outside."""
    flag = np.where(outside, posterior.flag | np.int32(Flag.OUTSIDE_RELATION), posterior.flag)
    return replace(posterior, flag=flag)
