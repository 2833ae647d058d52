"""Signs that a fitted relation does not describe the catalogue; a run that finds one writes no masses.

A fit always gives numbers. They are wrong if the relation's prior is for another observable, if the catalogue was
selected and no selection was given, or if the mass prior does not cover the objects. `misfits` looks for the signs of
each of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from massmap_jax.catalogue.flags import Flag
from massmap_jax.errors import MassmapError, MisfitError
from massmap_jax.labels import UNSTATED
from massmap_jax.relation.beliefs import prior_deviations
from massmap_jax.relation.fitted import CONFLICT_SD, CONTRADICTION_LEVEL

if TYPE_CHECKING:
    from massmap_jax.checks.calibrators import CalibratorsCheck
    from massmap_jax.checks.prior_check import PriorCheck
    from massmap_jax.halo.most_massive import TooMany
    from massmap_jax.posterior.result import MassPosterior
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.fitted import RelationPosterior

SHIFT_SD = 3.0
"""Move of the maximum, in its own errors, when the prior's lowest mass doubles, beyond which the fit rests on it."""
EDGE_SHARE = 0.10
"""Share of objects that may lean on the edge of the mass table."""
# The most massive clusters known have 3e15 Msun within 200m, and the mass function leaves none above this.
_GIANT = float(np.log(6e15))
CHECK_LEVEL = 1e-4
"""p value of `prior_check` below which a run refuses: a right model fails that often, and 0.01 is only reported."""


# Beginnings of the notes that tell how the unit of the luminosity was read.
_OF_UNITS = ("luminosity: multiplied", "luminosity: converted", "luminosity: no unit", "luminosity unit:")


class Finding(NamedTuple):
    """One sign of a misfit, with its likely causes.

    Attributes
    ----------
    what : str
        What was found.
    causes : tuple of str
        Likely causes, the most likely first.
    """

    what: str
    causes: tuple[str, ...]


_OBSERVABLE = (
    "the relation's prior is for another observable or another unit (--relation-prior, --relation, --lum-scale, "
    "--lum-unit, --lum-in)"
)
_SELECTION = "the catalogue was selected and nothing says how (--lum-limit, or a relation known from elsewhere)"
_MASSES = (
    "the objects are not a fair sample of all halos above the prior's lowest mass (--prior hmf --prior-mass-range, "
    "--prior-support sharp where the table's ends are physical)"
)
# In the place of _MASSES where some masses were measured, which then decide on them.
_CALIBRATED = (
    "the measured masses are other ones, in another unit or of another definition than was said (--calib-mass, "
    "--calib-unit, --calib-definition)"
)
_MEASURED = (
    "the measured masses are not what is said of them: their errors, bias and scatter (--calib-sigma, --calib-bias, "
    "--calib-scatter), or another form of the population would describe them (--population)"
)
_ENDS = (
    "the mass prior begins or ends among the masses of the objects (--prior hmf --prior-mass-range for a wider one, "
    "--prior-support sharp where there are no halos beyond its ends)"
)
_LOOSE = (
    "slope and scatter are hardly believed in and hardly measured, so that draws of the relation reach a slope of 0,"
    " where a luminosity tells no mass: say what is known of them (--relation-prior alpha2=1.6:0.1,scatter=0.35:0.05"
    " and so on)"
)
# A wrong unit or another observable moves normalisation and slope, and a limit in flux lets only bright objects in at
# high redshift.
_EVOLUTION = (
    "the luminosities at one mass change with redshift by the selection of the catalogue, such as a limit in flux"
    " (--flux-min, --lum-limit), or by a power of E(z) that was divided out of them; where redshifts span too little to"
    " know the evolution, state it (--relation-prior alpha4=0)"
)
# Errors within which a slope that is 0 is told of as a cause.
_LOOSE_SD = 3.0
_ERRORS = "the errors of the luminosity are of another kind than was said (--sigma-kind)"


def misfits(
    prior: MassPrior,
    fitted: RelationPosterior,
    check: PriorCheck | None = None,
    posterior: MassPosterior | None = None,
    calibrators: CalibratorsCheck | None = None,
    cosmology: Any = None,
) -> list[Finding]:
    """Look for signs that a fitted relation does not describe the catalogue.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    fitted : RelationPosterior
        The fitted relation.
    check : PriorCheck, optional
        The check of this fit against the luminosities.
    posterior : MassPosterior, optional
        The masses under this fit.
    calibrators : CalibratorsCheck, optional
        The check of this fit against measured masses.
    cosmology : str or astropy.cosmology.FLRW, optional
        With it the most massive objects are compared with the number of halos in the sky.

    Returns
    -------
    list of Finding
        The signs, empty if there is none.
    """
    found = []
    mean, sd = fitted.mean, fitted.sd
    masses = _CALIBRATED if getattr(fitted, "num_calibrators", 0) else _MASSES
    loose = (_LOOSE,) if "alpha2" in fitted.prior_sd and abs(mean["alpha2"]) < _LOOSE_SD * sd["alpha2"] else ()
    # First, since a missing selection brings the contradictions below with it.
    shift = fitted.shift_if_lowest_mass_doubles
    if shift is not None and prior.support != "sharp":
        moves = {p: value / sd[p] for p, value in shift.items()}
        worst = max(moves, key=lambda p: abs(moves[p]))
        if not abs(moves[worst]) <= SHIFT_SD:
            found.append(
                Finding(
                    f"no selection was given, and {worst} moves by {moves[worst]:+.1f} of its errors when the mass "
                    "prior's lowest mass doubles: the answer rests on that mass and not on the data",
                    (_SELECTION, masses),
                )
            )
    for name, away in prior_deviations(mean, fitted.prior_mean, fitted.prior_sd).items():
        if away > CONFLICT_SD:
            found.append(
                Finding(
                    f"{name} = {mean[name]:.4g} is {away:.0f} standard deviations of its prior from "
                    f"{fitted.prior_mean[name]:.4g}",
                    (_OBSERVABLE, _SELECTION, masses),
                )
            )
    against = fitted.diagnostics.get("against_beliefs")
    if against is not None and not against["p_value"] >= CONTRADICTION_LEVEL:
        p = against["name"]
        evolves = (_EVOLUTION,) if p.startswith("alpha4") else ()
        found.append(
            Finding(
                f"without the beliefs about it the data ask for {p} = {against['found']:.3g} +- {against['error']:.2g},"
                f" where {fitted.prior_mean[p]:.3g} +- {fitted.prior_sd[p]:.2g} was believed (p ="
                f" {against['p_value']:.1e})",
                evolves + ((masses, _OBSERVABLE) if masses is _CALIBRATED else (_OBSERVABLE, _SELECTION, masses)),
            )
        )
    slope = fitted.prior_mean.get("alpha2")
    if slope is not None and mean["alpha2"] * slope < 0:
        found.append(
            Finding(
                f"the slope alpha2 = {mean['alpha2']:.3g} has the other sign than its prior ({slope:.3g})",
                (_OBSERVABLE, _SELECTION, masses),
            )
        )
    # The shape of a scatter alone makes error bars too wide or too narrow, and moves no mass: the notes tell it.
    if check is not None and check.p_place < CHECK_LEVEL:
        found.append(
            Finding(
                f"prior and relation do not predict the observed luminosities (prior_check: p = {check.p_place:.1e}, "
                f"mean PIT {check.mean_pit:.3f} where 0.5 is right)",
                (*loose, _SELECTION, _OBSERVABLE, _ERRORS, masses),
            )
        )
    if calibrators is not None and not calibrators.in_place:
        found.append(Finding("; ".join(calibrators.summary().splitlines()).replace(";   ", "; "), (_MEASURED, _ERRORS)))
    if posterior is not None:
        usable = posterior.usable
        edge = ((posterior.flag & int(Flag.EDGE)) != 0) & usable
        share = edge.sum() / max(1, usable.sum())
        if share > EDGE_SHARE:
            low, high = prior.ln_mass_min / np.log(10), prior.ln_mass_max / np.log(10)
            found.append(
                Finding(
                    f"{edge.sum()} of {usable.sum()} objects lean on the edge of the prior's mass range, log10(M/Msun) "
                    f"{low:.2f} to {high:.2f}, first row {int(np.argmax(edge))}",
                    (*loose, _OBSERVABLE, _ENDS, _SELECTION, masses),
                )
            )
        if cosmology is not None and (too := impossible_masses(posterior, cosmology)):
            found.append(Finding(too, (masses, _OBSERVABLE) if masses is _CALIBRATED else (_OBSERVABLE, masses)))
    return found


def is_of_the_brightest(mean_pit: float) -> bool:
    """Tell whether objects are brighter than a given relation and the mass prior predict for all halos.

    Parameters
    ----------
    mean_pit : float
        Mean PIT of `prior_check`.

    Returns
    -------
    bool
        True for what any selection of bright objects does: a given relation holds no selection, and masses under it do
        not depend on one. Nothing selects faint objects alone.
    """
    return mean_pit > 0.5


def wrong_unit(told: str) -> Finding:
    """Give the finding that measured masses are far from what published relations give at their luminosities.

    Parameters
    ----------
    told : str
        How far.

    Returns
    -------
    Finding
        With its causes.
    """
    return Finding(told, (_CALIBRATED, _OBSERVABLE))


def impossible_masses(posterior: MassPosterior, cosmology: Any) -> str:
    """Say where more objects are so massive than halos in the whole sky.

    Parameters
    ----------
    posterior : MassPosterior
        The masses.
    cosmology : str or astropy.cosmology.FLRW
        The cosmology.

    Returns
    -------
    str
        What was found; empty where the masses are possible, or their number cannot be compared: another definition than
        those that the mass function is made for, or a cosmology without a power spectrum.
    """
    from massmap_jax.halo.most_massive import too_many

    found = _compared(too_many, posterior, cosmology)
    if found is None:
        return ""
    return (
        f"{found.number} objects are more massive than {found.mass:.2g} Msun, and the whole sky has"
        f" {found.expected:.2g} halos that are, out to the largest redshift"
    )


def giants(posterior: MassPosterior) -> str:
    """Name objects that are more massive than any halo of the observable universe; one or two run through other checks.

    Parameters
    ----------
    posterior : MassPosterior
        The masses.

    Returns
    -------
    str
        The note; empty where there are none.
    """
    with np.errstate(invalid="ignore"):
        found = posterior.usable & (posterior.mean > _GIANT)
    if not found.any():
        return ""
    row = int(np.argmax(np.where(found, posterior.mean, -np.inf)))
    number = "1 object is" if found.sum() == 1 else f"{found.sum()} objects are"
    name = posterior.catalogue.ids[row]
    return (
        f"{number} more massive than any halo that there is, the largest that of row {row} ({name}) with"
        f" {np.exp(posterior.mean[row]):.2g} Msun: see whether its luminosity is right"
    )


def large_part_of_sky(posterior: MassPosterior, cosmology: Any) -> str:
    """Say where the objects would be a large part of all halos in the sky that are as massive.

    Parameters
    ----------
    posterior : MassPosterior
        The masses.
    cosmology : str or astropy.cosmology.FLRW
        The cosmology.

    Returns
    -------
    str
        The note; empty where there is nothing to say, or where it cannot be compared.
    """
    from massmap_jax.halo.most_massive import large_share

    found = _compared(large_share, posterior, cosmology)
    if found is None:
        return ""
    return (
        f"{found.number} objects are more massive than {found.mass:.2g} Msun, and the whole sky has about"
        f" {found.expected:.2g} halos that are, out to the largest redshift: a catalogue of a small part of the sky is"
        " unlikely to hold so many of them; see whether the unit of the luminosity or mass is right"
    )


def _compared(count: Callable[..., TooMany | None], posterior: MassPosterior, cosmology: Any) -> TooMany | None:
    """Count the most massive objects against the sky; None where that cannot be done."""
    usable = posterior.usable & np.isfinite(posterior.mean)
    if not usable.any():
        return None
    definition = posterior.prior.mass_definition
    # That of the largest masses, where none is stated.
    definition = "200m" if definition in UNSTATED else definition
    try:
        return count(posterior.mean[usable], posterior.catalogue.redshift[usable].max(), cosmology, definition)
    except (MassmapError, ImportError):
        return None


def paragraph(findings: list[Finding], notes: Iterable[str] = ()) -> str:
    """Describe findings in one paragraph: what was found, the likely causes in order, what to try.

    Parameters
    ----------
    findings : list of Finding
        At least one finding.
    notes : iterable of str, optional
        Notes of the run; how the unit of the luminosity was read is told beside a cause that it may be behind.

    Returns
    -------
    str
        The text of the error.
    """
    causes = list(dict.fromkeys(cause for finding in findings for cause in finding.causes))
    # With an error the notes of the run are not shown, and what was done to the unit may be all that is wrong.
    read = "; ".join(note for note in notes if note.startswith(_OF_UNITS))
    causes = [f"{cause}; {read}" if read and cause == _OBSERVABLE else cause for cause in causes]
    numbered = "; ".join(f"({i}) {cause}" for i, cause in enumerate(causes, 1))
    calibrate = "" if _CALIBRATED in causes else ", or calibrate it on objects with measured masses"
    return (
        f"the fitted relation does not describe this catalogue: {'; '.join(f.what for f in findings)}. "
        f"Likely causes, the likeliest first: {numbered}. Nothing was written. Give a relation known from elsewhere "
        f"(massmap-jax relations lists the published ones){calibrate}; with "
        "--accept-misfit the results are written all the same, with a warning on top of each"
    )


def refuse_unit(told: str, notes: Iterable[str] = ()) -> None:
    """Stop the run before the fit, where a unit must be wrong.

    Parameters
    ----------
    told : str
        What was found.
    notes : iterable of str, optional
        Notes of the run; how the unit of the luminosity was read is told.

    Raises
    ------
    MisfitError
        With both.
    """
    read = "".join(f"; {note}" for note in notes if note.startswith(_OF_UNITS))
    raise MisfitError(
        f"{told}{read}. Nothing was fitted and nothing was written; with --accept-misfit it is fitted all the same"
    )


def refuse(findings: list[Finding], notes: Iterable[str] = ()) -> None:
    """Stop the run if there are findings.

    Parameters
    ----------
    findings : list of Finding
        What `misfits` found.
    notes : iterable of str, optional
        Notes of the run.

    Raises
    ------
    MisfitError
        With the paragraph of the findings.
    """
    if findings:
        raise MisfitError(paragraph(findings, notes))
