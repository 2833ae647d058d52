"""A check of posteriors where true masses are known: `calibration_check(...) -> CalibrationCheck`."""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.checks.bins import LEAST_IN_BIN, NOMINAL, bins_of_data, check_level, p_text, p_values
from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CalibrationCheck(eqx.Module):
    """Result of `calibration_check`: whether posteriors hold the true masses as often as they say.

    Arrays with 1 + bin rows hold all objects first, and then the bins.

    Attributes
    ----------
    pit : Float[np.ndarray, "halo"]
        Posterior CDF at the true mass (probability integral transform); NaN for rows without a posterior or a true
        mass.
    bin_index : Int[np.ndarray, "halo"]
        Bin of (z, L_obs), equally full: bins of z, and bins of L_obs within each bin of z; -1 for rows not used.
    number : Int[np.ndarray, "1+bin"]
        Number of objects.
    mean_pit : Float[np.ndarray, "1+bin"]
        Mean PIT; 0.5 if the posteriors are right, above where true masses are higher than the posteriors say.
    p_values : Float[np.ndarray, "1+bin"]
        p value that the PITs are uniform.
    coverage : Float[np.ndarray, "1+bin 2"]
        Fraction of objects whose true mass lies within the central 68 and 95 % intervals.
    coverage_error : Float[np.ndarray, "1+bin 2"]
        One binomial standard deviation of `coverage`, if the intervals are right.
    redshift_range : Float[np.ndarray, "1+bin 2"]
        Lowest and highest redshift.
    lum_range : Float[np.ndarray, "1+bin 2"]
        Lowest and highest L_obs [the catalogue's unit].
    p_value : float
        The smallest of `p_values`, times their number (Bonferroni).
    level : float
        False-alarm probability of the whole check.
    shared_relation : bool
        Whether the relation has several draws. All objects then share the relation's error, and p values do not hold.
    lum_unit : str
        Unit of the luminosities.

    See Also
    --------
    calibration_check : The function that makes it, with an example.
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
        """Whether no miscalibration was found at `level`; meaningless where `shared_relation` is true."""
        return bool(self.p_value >= self.level)

    def summary(self) -> str:
        """Say in one sentence what was found.

        Returns
        -------
        str
            The sentence, with coverages, mean PIT and p value.
        """
        covered = ", ".join(
            f"the {nominal:.0%} intervals hold {100 * share:.1f} +- {100 * error:.1f} %"
            for nominal, share, error in zip(NOMINAL, self.coverage[0], self.coverage_error[0], strict=True)
        )
        figures = f"{covered} of {self.number[0]:,} true masses, mean PIT {self.mean_pit[0]:.3f}"
        if self.shared_relation:
            return (
                f"The posteriors share an uncertain relation: {figures}. The relation's error is common to all "
                f"objects, so these errors are too small and the p value ({p_text(self.p_value)}) does not hold: judge "
                "many fields, each with its own true relation."
            )
        if self.calibrated:
            return f"The posteriors are calibrated at level {self.level:g} ({p_text(self.p_value)}): {figures}."
        return f"The posteriors are not calibrated ({p_text(self.p_value)}): {figures}; {self._direction()}."

    def _direction(self) -> str:
        """What is wrong with the posteriors: too low or high, too wide or narrow, or the worst bin."""
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
        """Return the figures of all objects and of each bin as columns.

        Returns
        -------
        dict of str to np.ndarray, (1 + bin,)
            Columns: ranges of z and L_obs, number, mean PIT, coverages with their errors, p value. All objects come
            first.
        """
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
        """Draw the distribution of the PITs and the coverages, over all objects and by bin.

        Returns
        -------
        matplotlib.figure.Figure
            ECDF of the PIT minus the diagonal, with simultaneous bands: a curve that leaves its band is the alarm.
        """
        from massmap_jax.checks.figures import calibration_check_figure

        return calibration_check_figure(self)


def calibration_check(posterior, truth_ln_mass=None, *, bins: int = 3, level: float = 0.01) -> CalibrationCheck:
    """Compare posteriors with known true masses.

    Parameters
    ----------
    posterior : MassPosterior
        The posteriors to check.
    truth_ln_mass : array_like, (halo,), optional
        ln of the true masses [ln Msun], NaN where unknown. By default the catalogue's own.
    bins : int
        The check also looks at bins x bins bins of (z, L_obs), equally full; fewer where they would hold less than
        50 objects.
    level : float
        False-alarm probability of the whole check.

    Returns
    -------
    CalibrationCheck
        What was found: PITs, coverages, p values, a summary and a figure.

    Raises
    ------
    MassmapError
        If there are no true masses, they have another shape, no row has both a posterior and a true mass, or `bins` or
        `level` is not valid.

    See Also
    --------
    prior_check : A check that needs no true masses.

    Notes
    -----
    The PIT of an object is its posterior CDF at the true mass. If posteriors are right it is uniform on [0, 1], in any
    bin of the *data*: bins of the true mass would fail a perfect posterior (regression to the prior). Uniformity is
    judged by simultaneous bands of the ECDF (Säilynoja, Bürkner & Vehtari 2022, Statistics and Computing 32, 32).
    Where the relation has several draws, its error is common to all objects: judge many fields then, each with its own
    true relation.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> field = mm.simulate_field(jax.random.key(0), 200)
    >>> posterior = mm.mass_posterior(field.catalogue, field.prior, field.relation)
    >>> check = mm.calibration_check(posterior)
    >>> check.calibrated
    True
    >>> check.number.tolist()  # all objects, then 2 x 2 bins of (z, L_obs)
    [200, 50, 50, 50, 50]
    >>> check.summary().startswith("The posteriors are calibrated at level 0.01")
    True
    """
    check_level(level)
    check_kinds("calibration_check", posterior=posterior)
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
    bins = int(np.clip(np.sqrt(rows.size / LEAST_IN_BIN), 1, bins))
    which = bins_of_data(z, lum, bins)
    bin_index = np.full(len(posterior), -1)
    bin_index[rows] = which
    p_all, p_bins, p_value = p_values(pit_used, which, bins**2)
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
