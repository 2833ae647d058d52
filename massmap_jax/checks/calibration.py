"""Two checks of an analysis: does the model fit the catalogue, and, where true masses are known, are posteriors right?

Both look at probability integral transforms (PIT): a distribution function at what was observed, uniform on [0, 1]
if the distribution is right. Uniformity is judged with simultaneous bands (`ecdf_bands`), over all objects and in bins
of the *data*: bins of the true mass would fail a perfect posterior (regression to the prior).
"""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.checks.ecdf_bands import MAX_POINTS, ecdf_at, uniformity_p_value
from massmap_jax.checks.predicted import predictive_pit, thinned_draws
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.posterior.result import flag_outside_prior

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fewer objects than this in a bin say nothing about a distribution.
_LEAST_IN_BIN = 50
_REDSHIFT_BINS = 4
NOMINAL = (0.68, 0.95)


class PriorCheck(eqx.Module):
    """Do the prior, the relation and the selection predict the observed luminosities?

    Attributes
    ----------
    pit : (halo,) P(ln L <= ln L_obs | z, sigma), within the detected objects; NaN for rows that could not be used.
    bin_index : (halo,) bin of redshift, equally full; -1 for rows not used. redshift_range : (bin, 2).
    p_all : p value over all objects. p_bins : (bin,). p_value : the smallest, times their number (Bonferroni).
    mean_pit, mean_pit_bins : of all, (bin,); 0.5 if right; above, observed luminosities lie higher than predicted.
    largest_difference : of the ECDF of all PITs from the diagonal, signed; at PIT = `largest_at`.
    impossible : rows that the selection says cannot be in the catalogue.
    draws_used : relation draws averaged over. level : of the test. selection_given : whether there was one.
    """

    pit: np.ndarray
    bin_index: np.ndarray
    redshift_range: np.ndarray
    p_all: float
    p_bins: np.ndarray
    p_value: float
    mean_pit: float
    mean_pit_bins: np.ndarray
    largest_difference: float
    largest_at: float
    impossible: int
    draws_used: int
    level: float = eqx.field(static=True)
    selection_given: bool = eqx.field(static=True)

    @property
    def fits(self) -> bool:
        """No misfit at `level`: a larger catalogue may still find one."""
        return bool(self.p_value >= self.level)

    def summary(self) -> str:
        """What was found, and what may be behind it, for a person."""
        number = int(np.isfinite(self.pit).sum())
        head = f"{p_text(self.p_value)} over {number:,} objects, mean PIT {self.mean_pit:.3f}"
        if self.fits:
            return f"The model fits the observed luminosities at level {self.level:g}: {head}."
        causes = [
            "a prior density of the wrong kind (p(M) against p(M)/M: see `per` in MassPrior.from_table)",
            "a wrong range of masses",
            "a wrong relation",
        ]
        causes.append("a wrong selection" if self.selection_given else "a selection that was left out")
        text = (
            f"The model does not fit the observed luminosities: {head}; {self._direction(number)}, by "
            f"{abs(self.largest_difference):.3f} in cumulative probability at PIT = {self.largest_at:.2f}. "
            f"Possible causes: {', '.join(causes[:-1])}, or {causes[-1]}."
        )
        if self.impossible:
            text += f" {self.impossible:,} objects have a luminosity that the selection rules out."
        return text

    def _direction(self, number: int) -> str:
        offset = self.mean_pit - 0.5
        if abs(offset) > 3 / np.sqrt(12 * number):
            return f"observed luminosities lie {'higher' if offset > 0 else 'lower'} than predicted"
        if self.p_all >= self.p_bins.min():
            worst = int(np.argmin(self.p_bins))
            side = "higher" if self.mean_pit_bins[worst] > 0.5 else "lower"
            low, high = self.redshift_range[worst]
            return f"at redshifts {low:.3g} to {high:.3g} observed luminosities lie {side} than predicted"
        wider = np.nanvar(self.pit) > 1 / 12
        return f"observed luminosities are spread {'more' if wider else 'less'} widely than predicted"

    def figure(self) -> "Figure":
        """ECDF of the PIT less the diagonal, with simultaneous bands, over all objects and by redshift."""
        from massmap_jax.checks.figures import prior_check_figure

        return prior_check_figure(self)


def prior_check(catalogue: HaloCatalogue, prior, relation, *, selection=None, level: float = 0.01) -> PriorCheck:
    """Compare each observed luminosity with what prior x relation x selection predict at its z and sigma.

    The PIT is P(ln L <= ln L_obs | z), the integral of p(ln M|z) Phi[(ln L_obs - mean ln L(M, z)) / sqrt(S^2 +
    sigma^2)] d ln M; with a selection, of the detected objects alone. A batch of relation draws is averaged over, by
    at most 16 of them (4 with a selection, which costs fifty times more), taken evenly along their weights.

    Parameters
    ----------
    catalogue : rows with lognormal noise are used.
    prior : MassPrior. relation : one relation or a batch of draws.
    selection : `selection.Selection`, a pytree (equinox.Module); None: every object is in the catalogue.
    level : false-alarm probability of the whole check, under one relation known beyond doubt. Draws that are wide
        against the catalogue's own precision make objects agree on one error, and alarms are then to be expected.

    Raises
    ------
    MassmapError : no usable row, or a `log_norm` of the selection that its `log_prob` contradicts.
    """
    _check_level(level)
    flag = flag_outside_prior(catalogue, prior)
    rows = np.flatnonzero(((flag & UNUSABLE) == 0) & (catalogue.noise_codes == NOISE_KINDS.index("lognormal")))
    if rows.size == 0:
        raise MassmapError(
            f"none of {len(catalogue)} rows has lognormal noise, and the check knows no other: give "
            "noise_kind='lognormal' with the error in ln L"
        )
    given = selection is not None and not isinstance(selection, NoSelection)
    draws = thinned_draws(relation, 4 if given else 16)
    pit = np.full(len(catalogue), np.nan)
    pit[rows], impossible = predictive_pit(catalogue, rows, prior, draws, selection if given else None)
    lost = rows[~np.isfinite(pit[rows])]
    if lost.size:
        raise MassmapError(
            f"the predicted luminosities cannot be computed for {lost.size} rows, first row {lost[0]}: z = "
            f"{catalogue.redshift[lost[0]]:g}, ln L = {catalogue.ln_lum_obs[lost[0]]:g}; remove these rows"
        )
    z = catalogue.redshift[rows]
    number = int(np.clip(rows.size // _LEAST_IN_BIN, 1, _REDSHIFT_BINS))
    which = equal_parts(z, number)
    bin_index = np.full(len(catalogue), -1)
    bin_index[rows] = which
    p_all, p_bins, p_value = _p_values(pit[rows], which, number)
    points = np.arange(1, MAX_POINTS) / MAX_POINTS
    difference = ecdf_at(pit[rows], points) - points
    largest = int(np.argmax(np.abs(difference)))
    return PriorCheck(
        pit=pit,
        bin_index=bin_index,
        redshift_range=np.array([(z[which == b].min(), z[which == b].max()) for b in range(number)]),
        p_all=p_all,
        p_bins=p_bins,
        p_value=p_value,
        mean_pit=float(pit[rows].mean()),
        mean_pit_bins=np.array([pit[rows][which == b].mean() for b in range(number)]),
        largest_difference=float(difference[largest]),
        largest_at=float(points[largest]),
        impossible=impossible,
        draws_used=draws.num_draws,
        level=level,
        selection_given=given,
    )


class CalibrationCheck(eqx.Module):
    """Do the posteriors hold the true masses as often as they say?

    Attributes
    ----------
    pit : (halo,) posterior CDF at the true mass; NaN for rows without a posterior or a true mass.
    bin_index : (halo,) bin of (z, L_obs), equally full: in z, and in L_obs within each bin of z; -1 where unused.
    number, mean_pit, p_values : (1 + bin,) all objects first, then the bins.
    coverage : (1 + bin, 2) fraction of objects within the central 68 and 95 % intervals. coverage_error : (1 + bin,
        2) one binomial standard deviation of it, if the intervals are right.
    redshift_range, lum_range : (1 + bin, 2) of the objects; L_obs in the catalogue's unit.
    p_value : the smallest of `p_values`, times their number (Bonferroni). level : of the test.
    lum_unit : of the luminosities.
    shared_relation : the relation has several draws, so that all objects share its error and p values do not hold.
    """

    pit: np.ndarray
    bin_index: np.ndarray
    number: np.ndarray
    mean_pit: np.ndarray
    p_values: np.ndarray
    coverage: np.ndarray
    coverage_error: np.ndarray
    redshift_range: np.ndarray
    lum_range: np.ndarray
    p_value: float
    level: float = eqx.field(static=True)
    shared_relation: bool = eqx.field(static=True)
    lum_unit: str = eqx.field(static=True, default="")

    @property
    def calibrated(self) -> bool:
        """No miscalibration at `level`. Means nothing where `shared_relation` is true."""
        return bool(self.p_value >= self.level)

    def summary(self) -> str:
        """What was found, for a person."""
        covered = ", ".join(
            f"the {nominal:.0%} intervals hold {100 * share:.1f} +- {100 * error:.1f} %"
            for nominal, share, error in zip(NOMINAL, self.coverage[0], self.coverage_error[0], strict=True)
        )
        figures = f"{covered} of {self.number[0]:,} true masses, mean PIT {self.mean_pit[0]:.3f}"
        if self.shared_relation:
            return (
                f"Of posteriors that share an uncertain relation {figures}; its error is common to all objects, so "
                f"the errors are too small and the p value ({p_text(self.p_value)}) does not hold: judge many fields, "
                "each with its own true relation."
            )
        if self.calibrated:
            return f"The posteriors are calibrated at level {self.level:g} ({p_text(self.p_value)}): {figures}."
        return f"The posteriors are not calibrated ({p_text(self.p_value)}): {figures}; {self._direction()}."

    def _direction(self) -> str:
        offset = self.mean_pit[0] - 0.5
        if abs(offset) > 3 / np.sqrt(12 * self.number[0]):
            return f"true masses lie {'higher' if offset > 0 else 'lower'} than the posteriors say"
        excess = (self.coverage[0] - NOMINAL) / self.coverage_error[0]
        if np.abs(excess).max() > 2:
            wide = excess[np.argmax(np.abs(excess))] > 0
            return f"the posteriors are too {'wide' if wide else 'narrow'}"
        worst = int(np.argmin(self.p_values))
        return (
            f"the worst bin has z from {self.redshift_range[worst, 0]:.3g} to {self.redshift_range[worst, 1]:.3g}, "
            f"L_obs from {self.lum_range[worst, 0]:.3g} to {self.lum_range[worst, 1]:.3g}, mean PIT "
            f"{self.mean_pit[worst]:.3f}"
        )

    def table(self) -> dict[str, np.ndarray]:
        """Columns, (1 + bin,) each: all objects first, and then the bins."""
        return {
            "z_min": self.redshift_range[:, 0],
            "z_max": self.redshift_range[:, 1],
            "lum_min": self.lum_range[:, 0],
            "lum_max": self.lum_range[:, 1],
            "number": self.number,
            "mean_pit": self.mean_pit,
            "coverage_68": self.coverage[:, 0],
            "coverage_68_error": self.coverage_error[:, 0],
            "coverage_95": self.coverage[:, 1],
            "coverage_95_error": self.coverage_error[:, 1],
            "p_value": self.p_values,
        }

    def figure(self) -> "Figure":
        """ECDF of the PIT less the diagonal with simultaneous bands, over all and by bin, and the coverages."""
        from massmap_jax.checks.figures import calibration_check_figure

        return calibration_check_figure(self)


def calibration_check(posterior, truth_ln_mass=None, *, bins: int = 3, level: float = 0.01) -> CalibrationCheck:
    """Compare posteriors with known true masses.

    Parameters
    ----------
    posterior : MassPosterior.
    truth_ln_mass : (halo,) ln of the true mass [ln Msun], NaN where unknown; None: the catalogue's own.
    bins : bins x bins of (z, L_obs), equally full; fewer where they would hold less than 50 objects.
    level : false-alarm probability of the whole check.

    `MassmapError` without true masses, for another shape of them, or fewer than 1 bin.
    """
    _check_level(level)
    if not (isinstance(bins, int | np.integer) and bins >= 1):
        raise MassmapError(f"number of bins is {bins!r}: give a whole number, at least 1")
    catalogue = posterior.catalogue
    truth = catalogue.truth_ln_mass if truth_ln_mass is None else np.asarray(truth_ln_mass, dtype=np.float64)
    if truth is None:
        raise MassmapError("the catalogue has no true masses: give truth_ln_mass, or use prior_check, which needs none")
    if truth.shape != (len(posterior),):
        raise MassmapError(f"truth_ln_mass has shape {truth.shape}: give one value per row, ({len(posterior)},)")
    known = posterior.usable & np.isfinite(truth)
    if not known.any():
        raise MassmapError(
            f"no row has both a posterior and a true mass: {int(posterior.usable.sum())} of {len(posterior)} rows "
            f"have a posterior and {int(np.isfinite(truth).sum())} a true mass"
        )
    pit = posterior.cdf(np.where(known, truth, np.nan))
    pit[~known] = np.nan
    rows = np.flatnonzero(known)
    pit_used, z, lum = pit[rows], catalogue.redshift[rows], np.exp(catalogue.ln_lum_obs[rows])
    bins = int(np.clip(np.sqrt(rows.size / _LEAST_IN_BIN), 1, bins))
    which = bins_of_data(z, lum, bins)
    bin_index = np.full(len(posterior), -1)
    bin_index[rows] = which
    p_all, p_bins, p_value = _p_values(pit_used, which, bins**2)
    parts = [np.arange(rows.size)] + [np.flatnonzero(which == b) for b in range(bins**2)]
    number, nominal = np.array([part.size for part in parts]), np.array(NOMINAL)
    return CalibrationCheck(
        pit=pit,
        bin_index=bin_index,
        number=number,
        mean_pit=np.array([pit_used[part].mean() for part in parts]),
        p_values=np.append(p_all, p_bins),
        coverage=np.array([(np.abs(pit_used[part] - 0.5)[:, None] <= nominal / 2).mean(axis=0) for part in parts]),
        coverage_error=np.sqrt(nominal * (1 - nominal) / number[:, None]),
        redshift_range=np.array([(z[part].min(), z[part].max()) for part in parts]),
        lum_range=np.array([(lum[part].min(), lum[part].max()) for part in parts]),
        p_value=p_value,
        level=level,
        shared_relation=posterior.relation.num_draws > 1,
        lum_unit=catalogue.lum_unit,
    )


def equal_parts(values: np.ndarray, number: int) -> np.ndarray:
    """Bin of each value, 0 to number - 1, the bins equally full; ties go by order."""
    return np.argsort(np.argsort(values, kind="stable")) * number // max(values.size, 1)


def bins_of_data(z: np.ndarray, lum: np.ndarray, number: int) -> np.ndarray:
    """number x number bins: in z, and in L_obs within each bin of z."""
    in_z = equal_parts(z, number)
    index = np.empty(z.size, dtype=int)
    for b in range(number):
        index[in_z == b] = b * number + equal_parts(lum[in_z == b], number)
    return index


def p_text(p: float) -> str:
    """'p = 0.02'; a very small p value is a bound and no figure to quote."""
    return "p < 1e-9" if p < 1e-9 else f"p = {p:.2g}"


def _p_values(pit, which, number) -> tuple[float, np.ndarray, float]:
    """p value over all objects, in each bin, and of both together."""
    p_all = uniformity_p_value(pit)
    # One bin holds all: it is not a second test.
    p_bins = np.array([p_all] if number == 1 else [uniformity_p_value(pit[which == b]) for b in range(number)])
    tests = 1 if number == 1 else 1 + number
    return p_all, p_bins, float(min(1.0, tests * min(p_all, p_bins.min())))


def _check_level(level) -> None:
    if not (np.isscalar(level) and 0 < level < 1):
        raise MassmapError(f"level is {level!r}: give a probability between 0 and 1, say 0.01")
