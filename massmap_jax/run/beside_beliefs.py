"""Luminosities beside those that a relation, or beliefs about one, give, before any fit: a wrong unit costs no time."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float
from scipy.stats import norm, spearmanr

from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.fitted import CONTRADICTION_LEVEL
from massmap_jax.relation.law import MassLuminosityRelation, Relation

# So many standard deviations of the beliefs, of which a fit would be refused afterwards; a factor above any scatter.
_SURE_SD, _SURE = float(norm.isf(0.5 * CONTRADICTION_LEVEL)), np.log(30.0)
# Calibration masses of so many objects, and their scatter in ln M that no measurement has.
_FEWEST, _SAME = 10, 0.01
# The most massive halo of the observable universe is lighter, and half of a catalogue certainly is.
_HEAVIEST = np.log(4e15)
# Between the usual units of X-ray luminosities.
_ERG = 44 * np.log(10)
# Galaxies have halos above.
_LIGHTEST = np.log(1e11)


def far_from_beliefs(
    ln_lum: Float[np.ndarray, " object"],
    redshift: Float[np.ndarray, " object"],
    relation_prior: RelationPrior,
    prior: MassPrior,
    ln_mass: Float[np.ndarray, " object"] | None = None,
) -> str:
    """Say where luminosities are far from what is believed of a relation, as in a wrong unit they are.

    Parameters
    ----------
    ln_lum : Float[np.ndarray, "object"]
        ln of the luminosities.
    redshift : Float[np.ndarray, "object"]
        Redshifts.
    relation_prior : RelationPrior
        The beliefs.
    prior : MassPrior
        The mass prior, for the masses that there are.
    ln_mass : Float[np.ndarray, "object"], optional
        ln of measured masses [ln Msun], NaN where there is none.

    Returns
    -------
    str
        One sentence; empty where the median luminosity is not beyond a factor of 30, and 4.3 standard deviations of the
        beliefs, of what is expected at the measured masses, or without these at any mass of the prior below 4e15 Msun.

    Notes
    -----
    The variance of ln L at a mass is that of alpha1, that of alpha2 times ln(M / alpha3)^2, that of alpha4 times
    ln(1 + z)^2, and the scatter's square, as that of one object.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.run.beside_beliefs import far_from_beliefs
    >>> believed = mm.RelationPrior.parse("alpha1=0.6:0.5, alpha2=1.6:0.3, alpha4=1:0.5, scatter=0.3:0.1, alpha3=3e14")
    >>> ln_lum, z, ln_mass = np.log([1.0, 2.0, 4.0]), np.full(3, 0.2), np.log([2e14, 3e14, 4e14])
    >>> far_from_beliefs(ln_lum, z, believed, mm.MassPrior.default(), ln_mass)
    ''
    >>> told = far_from_beliefs(ln_lum - np.log(1e4), z, believed, mm.MassPrior.default(), ln_mass)
    >>> print(told.partition(" than")[0])
    the median of the observed luminosities is 10,000 times fainter
    """
    rows = np.isfinite(ln_lum) & np.isfinite(redshift)
    if measured := ln_mass is not None and bool(np.any(rows & np.isfinite(ln_mass))):
        assert ln_mass is not None
        rows = rows & np.isfinite(ln_mass)
    if not rows.any():
        return ""
    ln_lum, z = np.asarray(ln_lum, dtype=float)[rows], np.asarray(redshift, dtype=float)[rows]
    central, sd = relation_prior.central(), relation_prior.sd()
    relation = MassLuminosityRelation.create(
        **central, alpha3=relation_prior.alpha3, gamma=relation_prior.gamma, **dict(relation_prior.labels)
    )

    def away(at) -> tuple[float, float]:
        """The median of ln L above what is expected at these masses, and the standard deviation of the latter."""
        x, u = np.median(np.abs(at - np.log(relation_prior.alpha3))), np.median(np.log1p(z))
        parts = {"alpha1": 1.0, "alpha2": x, "alpha4": u}
        width = np.sqrt(sum((sd.get(p, 0.0) * w) ** 2 for p, w in parts.items()) + central["scatter"] ** 2)
        return float(np.median(ln_lum - np.asarray(relation.mean_ln_lum(at, z), dtype=float))), float(width)

    if measured:
        found, width = away(np.asarray(ln_mass, dtype=float)[rows])
        where, units = f"at the {rows.sum()} measured masses", "--calib-unit, --lum-unit, --lum-scale, --lum-in"
    else:
        ends = np.array([prior.ln_mass_min, min(prior.ln_mass_max, _HEAVIEST)])
        by_end = [away(np.full(z.shape, end)) for end in ends]
        # Between what is expected at both ends, whichever slope is believed, nothing is far.
        nearest = min(by_end, key=lambda one: abs(one[0]))
        inside = min(one[0] for one in by_end) < 0 < max(one[0] for one in by_end)
        found, width = (0.0, 1.0) if inside else nearest
        where, units = f"at {np.exp(ends[by_end.index(nearest)]):.2g} Msun", "--lum-unit, --lum-scale, --lum-in"
    if not abs(found) > max(_SURE, _SURE_SD * width):
        return ""
    side = "fainter" if found < 0 else "brighter"
    times = np.exp(min(abs(found), 700.0))
    shown = f"{float(f'{times:.1g}'):,.0f}" if times < 1e6 else f"{times:.0e}"
    return (
        f"the median of the observed luminosities is {shown} times {side} than what is believed of the relation"
        f" (--relation-prior) gives {where}, {abs(found) / width:.0f} standard deviations of these beliefs: see whether"
        f" the units are right ({units}), and whether the beliefs are about this observable"
    )


def computed_from_luminosity(
    ln_lum: Float[np.ndarray, " object"], redshift: Float[np.ndarray, " object"], ln_mass: Float[np.ndarray, " object"]
) -> str:
    """Say where measured masses were computed from the luminosities, as those of many a catalogue are.

    Parameters
    ----------
    ln_lum, redshift : Float[np.ndarray, "object"]
        ln of the luminosities, and redshifts.
    ln_mass : Float[np.ndarray, "object"]
        ln of measured masses [ln Msun], NaN where there is none.

    Returns
    -------
    str
        One sentence; empty for fewer than 10 masses, or masses that scatter by more than 1 % about a power law of L and
        a parabola in ln(1 + z).
    """
    known = np.isfinite(ln_lum) & np.isfinite(ln_mass) & np.isfinite(redshift)
    if known.sum() < _FEWEST or np.ptp(ln_lum[known]) == 0 or np.std(ln_mass[known]) < _SAME:
        return ""
    u = np.log1p(np.asarray(redshift, dtype=float)[known])
    design = np.stack([np.ones_like(u), ln_lum[known], u, u**2], axis=1)
    off = ln_mass[known] - design @ np.linalg.lstsq(design, ln_mass[known], rcond=None)[0]
    if np.sqrt(np.sum(off**2) / (known.sum() - 4)) > _SAME:
        return ""
    return (
        f"the {known.sum()} calibration masses follow from luminosity and redshift to within"
        f" {100 * max(np.std(off), 1e-4):.2g} %: they were computed from these, by somebody's relation, and"
        " measure nothing; give masses that were measured in another way, or take that relation"
    )


def unrelated(
    ln_lum: Float[np.ndarray, " object"],
    ln_mass: Float[np.ndarray, " object"],
    slope: float,
    hence: str = "the slope may be that of the beliefs; ",
) -> str:
    """Say where measured masses do not rise with the luminosities, as if the rows belonged to different objects.

    Parameters
    ----------
    ln_lum, ln_mass : Float[np.ndarray, "object"]
        ln of both.
    slope : float
        The slope that is believed in, whose sign counts.
    hence : str, optional
        What it means for the result.

    Returns
    -------
    str
        One sentence; empty for fewer than 10 objects, or where ranks are correlated (one-sided p below 5 %).
    """
    if ln_lum.size < _FEWEST or not np.isfinite(ln_lum).all() or np.ptp(ln_lum) == 0 or np.ptp(ln_mass) == 0:
        return ""
    found = spearmanr(ln_lum, ln_mass, alternative="greater" if slope >= 0 else "less")
    if found.pvalue < 0.05:
        return ""
    return (
        f"the {ln_lum.size} measured masses do not {'rise' if slope >= 0 else 'fall'} with the luminosities (rank"
        f" correlation {found.statistic:.2f}, which chance gives in {100 * found.pvalue:.2g} % of cases): {hence}see"
        " whether masses and luminosities are of the same objects"
    )


def beyond_all_masses(
    ln_lum: Float[np.ndarray, " object"],
    redshift: Float[np.ndarray, " object"],
    relation: Relation,
    prior: MassPrior,
    what: str = "the median luminosity in the first rows",
) -> str:
    """Say where most luminosities are those of no halo of the mass prior under a relation that is given.

    Parameters
    ----------
    ln_lum : Float[np.ndarray, "object"]
        ln of the luminosities.
    redshift : Float[np.ndarray, "object"]
        Redshifts.
    relation : Relation
        The relation, or a batch of draws, of which the median counts.
    prior : MassPrior
        The mass prior.
    what : str
        How the sentence calls the median.

    Returns
    -------
    str
        One sentence; empty where the median luminosity is not beyond those at both ends of the prior's masses by five
        times the scatter there.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.run.beside_beliefs import beyond_all_masses
    >>> relation = mm.MassLuminosityRelation.create(alpha1=0.6, alpha2=1.6, scatter=0.3, alpha3=3e14)
    >>> beyond_all_masses(np.zeros(3), np.full(3, 0.2), relation, mm.MassPrior.default())
    ''
    >>> told = beyond_all_masses(np.full(3, 101.0), np.full(3, 0.2), relation, mm.MassPrior.default())
    >>> print(told.partition(" than")[0])
    the median luminosity in the first rows is 1e+41 times brighter
    """
    rows = np.isfinite(ln_lum) & np.isfinite(redshift)
    if not rows.any():
        return ""
    middle, z = float(np.median(ln_lum[rows])), float(np.median(redshift[rows]))
    batch = relation.as_batch()
    found = []
    for end in (prior.ln_mass_min, prior.ln_mass_max):
        mean, scatter = (
            np.median(np.asarray(jax.vmap(lambda one, f=f, end=end: f(one, end, z))(batch), dtype=float))
            for f in (lambda one, m, u: one.mean_ln_lum(m, u), lambda one, m, u: one.scatter_ln_lum(m, u))
        )
        found.append((middle - mean, 5.0 * scatter, np.exp(end)))
    away, width, mass = min(found, key=lambda one: abs(one[0]))
    if min(one[0] for one in found) < 0 < max(one[0] for one in found) or not abs(away) > max(width, _SURE):
        return ""
    times, side = np.exp(min(abs(away), 700.0)), "fainter" if away < 0 else "brighter"
    return (
        f"{what} is {times:.1g} times {side} than that of a halo of {mass:.2g} Msun"
        " under this relation, an end of the mass prior: check the unit of the luminosity and the relation, or give a"
        " prior with a wider mass table"
    )


def in_numbers(
    name: str,
    ln_lum: Float[np.ndarray, " object"],
    redshift: Float[np.ndarray, " object"],
    relation: MassLuminosityRelation,
) -> str:
    """Say what a relation gives at its pivot, as a number beside the catalogue's, which shows a logarithm to base 10.

    Parameters
    ----------
    name : str
        The name of the relation.
    ln_lum : Float[np.ndarray, "object"]
        ln of the luminosities.
    redshift : Float[np.ndarray, "object"]
        Redshifts.
    relation : MassLuminosityRelation
        The relation, or a batch of draws, of which medians count.

    Returns
    -------
    str
        One sentence; empty without objects.
    """
    rows = np.isfinite(ln_lum) & np.isfinite(redshift)
    if not rows.any():
        return ""
    z, pivot = float(np.median(redshift[rows])), float(np.median(np.asarray(relation.alpha3)))
    given = _at_pivot(relation, pivot, z)
    scatter = float(np.median(np.asarray(relation.scatter)))
    seen = float(np.median(ln_lum[rows]))
    return (
        f"the relation {name} gives a median observable of {_power(given)} at {pivot:.3g} Msun and z = {z:.2g}, as its"
        f" alpha1 is a natural logarithm, with a scatter of {scatter:.2g} in ln; that of the catalogue is"
        f" {_power(seen)}"
    )


def slips(name: str, ln_lum, redshift, relation: Relation, prior: MassPrior) -> str:
    """Say what a relation of the user's own gives, and which slip in it would explain luminosities of no halo.

    Parameters
    ----------
    name, ln_lum, redshift, relation
        As for `in_numbers`; other relations than power laws have no such slip.
    prior : MassPrior
        The mass prior.

    Returns
    -------
    str
        To go behind a sentence, beginning with "; "; empty where there is nothing to say.
    """
    if not isinstance(relation, MassLuminosityRelation):
        return ""
    told = in_numbers(name, ln_lum, redshift, relation), slip_in_zero_point(ln_lum, redshift, relation, prior)
    return "".join(f"; {text}" for text in told if text)


def slip_in_zero_point(
    ln_lum: Float[np.ndarray, " object"],
    redshift: Float[np.ndarray, " object"],
    relation: MassLuminosityRelation,
    prior: MassPrior,
) -> str:
    """Name the slip in alpha1 or the unit that would make luminosities those of halos, where they are those of none.

    Parameters
    ----------
    ln_lum : Float[np.ndarray, "object"]
        ln of the luminosities.
    redshift : Float[np.ndarray, "object"]
        Redshifts.
    relation : MassLuminosityRelation
        The relation, or a batch of draws, of which medians count.
    prior : MassPrior
        The mass prior, whose masses the halos may have.

    Returns
    -------
    str
        Empty where none does.
    """
    rows = np.isfinite(ln_lum) & np.isfinite(redshift)
    if not rows.any():
        return ""
    z, middle = float(np.median(redshift[rows])), float(np.median(ln_lum[rows]))
    alpha1, slope, pivot = (float(np.median(np.asarray(getattr(relation, p)))) for p in ("alpha1", "alpha2", "alpha3"))
    # Without alpha1, which may be so large that nothing else is seen beside it.
    evolution = _at_pivot(eqx.tree_at(lambda one: one.alpha1, relation, np.zeros_like(relation.alpha1)), pivot, z)
    log10 = "a logarithm to base 10, and has to be multiplied by 2.302585"
    unit = "in erg/s and the luminosities in 1e44 erg/s, or the other way round (lum_unit=, lum_in=)"
    # The likelier first: a number that is large enough is the observable itself for any relation.
    tried = [(f"it is {unit}", alpha1 + sign * _ERG) for sign in (-1.0, 1.0)]
    tried += [(f"its alpha1 is {log10}", alpha1 * np.log(10.0))]
    tried += [(f"its alpha1 is {log10}, and it is {unit}", alpha1 * np.log(10.0) + sign * _ERG) for sign in (-1.0, 1.0)]
    if alpha1 > 0:
        tried += [("its alpha1 is the observable itself, and has to be its natural logarithm", np.log(alpha1))]
    for what, right in tried:
        ln_mass = np.log(pivot) + (middle - right - evolution) / slope
        if max(prior.ln_mass_min, _LIGHTEST) < ln_mass < min(prior.ln_mass_max, _HEAVIEST):
            return f"the luminosities would be those of halos of {np.exp(ln_mass):.1g} Msun if {what}"
    return ""


def _at_pivot(relation: MassLuminosityRelation, pivot: float, z: float) -> float:
    """The median of ln L at one mass and redshift over the draws."""
    at = jax.vmap(lambda one: one.mean_ln_lum(np.log(pivot), z))(relation.as_batch())
    return float(np.median(np.asarray(at, dtype=float)))


def _power(ln_value: float) -> str:
    """A number that may be beyond those of the machine."""
    if abs(ln_value) < 700:
        return f"{np.exp(ln_value):.3g}"
    return f"10^{ln_value / np.log(10):.1f}"
