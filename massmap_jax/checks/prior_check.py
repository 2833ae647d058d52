"""A check of the model against the catalogue's luminosities: `prior_check(...) -> PriorCheck`.

Like `calibration_check` it looks at probability integral transforms (PIT): a distribution function at what was
observed is uniform on [0, 1] if the distribution is right. Uniformity is judged with simultaneous bands
(`ecdf_bands`), over all objects and in bins of the *data*: bins of the true mass would fail a perfect posterior
(regression to the prior).
"""

from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import numpy as np

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.checks.bins import LEAST_IN_BIN, check_level, equal_parts, p_text, p_values
from massmap_jax.checks.ecdf_bands import MAX_POINTS, ecdf_at
from massmap_jax.checks.predicted import linear_pit, predictive_pit
from massmap_jax.checks.shape import LEAST, histogram_p_value
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import flag_outside_prior
from massmap_jax.likelihood.selection import NoSelection, is_sharp
from massmap_jax.prior.population import check_base, population_of
from massmap_jax.relation.fitted import fitted_without_masses, number_fitted_to
from massmap_jax.relation.law import MassLuminosityRelation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REDSHIFT_BINS = 4
# Draws of the relation that are averaged over, and the fewest where a selection makes each of them slow.
_DRAWS, _FEWEST_DRAWS = 16, 4
# Objects times draws that a selection is integrated for: some seconds.
_WITH_SELECTION = 16_000
# Objects whose redshift is a distribution, of those that are checked; and how much slower a table makes each.
_MOST_UNCERTAIN, _SLOWER = 3000, 4
_CANNOT_SEE = (
    "The relation was fitted to luminosities and redshifts alone, so this check cannot see a wrong population or"
    " selection that the fit absorbed, and with it wrong masses: measured masses of some objects can (calibration= of"
    " fit_relation, or --calib-mass)."
)


class PriorCheck(eqx.Module):
    """Result of `prior_check`: whether prior, relation and selection predict the observed luminosities.

    Attributes
    ----------
    pit : Float[np.ndarray, "halo"]
        P(ln L <= ln L_obs | z, sigma), within the detected objects; NaN for rows that could not be used.
    bin_index : Int[np.ndarray, "halo"]
        Bin of redshift, equally full; -1 for rows not used.
    redshift_range : Float[np.ndarray, "bin 2"]
        Lowest and highest redshift of each bin.
    p_all : float
        p value over all objects that the PITs are uniform.
    p_bins : Float[np.ndarray, "bin"]
        p value in each bin.
    p_place : float
        The smallest of these, times their number (Bonferroni).
    p_shape : float
        p value over all objects that the histogram of the PITs is flat, tails included; NaN for fewer than 100.
    p_value : float
        p value of the whole check: twice the smaller of `p_place` and `p_shape`; `p_place` for fewer than 100.
    mean_pit : float
        Mean PIT; 0.5 if the model is right, above where observed luminosities are higher than predicted.
    mean_pit_bins : Float[np.ndarray, "bin"]
        Mean PIT in each bin.
    largest_difference : float
        Largest difference of the ECDF of all PITs from the diagonal, with its sign.
    largest_at : float
        The PIT where that difference is.
    impossible : int
        Number of rows that the selection says cannot be in the catalogue.
    draws_used : int
        Number of relation draws averaged over.
    level : float
        False-alarm probability of the whole check.
    selection_given : bool
        Whether a selection was given.
    without_masses : bool
        Whether the relation was fitted to luminosities and redshifts alone: then `fits` is no proof of right masses.
    not_compared : int
        Number of usable rows that were left out: no more objects are compared than such a fit rests on, since its error
        would be a misfit to all, and no more than 3,000 whose redshifts are distributions (750 with a table of the
        completeness).

    See Also
    --------
    prior_check : The function that makes it, with an example.
    """

    pit: np.ndarray
    bin_index: np.ndarray
    redshift_range: np.ndarray
    p_all: float
    p_bins: np.ndarray
    p_place: float
    p_shape: float
    p_value: float
    mean_pit: float
    mean_pit_bins: np.ndarray
    largest_difference: float
    largest_at: float
    impossible: int
    draws_used: int
    level: float = eqx.field(static=True)
    selection_given: bool = eqx.field(static=True)
    without_masses: bool = eqx.field(static=True)
    not_compared: int = 0

    @property
    def fits(self) -> bool:
        """Whether no misfit was found at `level`; a larger catalogue may still find one."""
        return bool(self.p_value >= self.level)

    def summary(self) -> str:
        """Say what was found, and what may be the cause of a misfit.

        Returns
        -------
        str
            One or more sentences.
        """
        number = int(np.isfinite(self.pit).sum())
        head = f"{p_text(self.p_value)} over {number:,} objects, mean PIT {self.mean_pit:.3f}"
        if self.fits:
            text = f"The model fits the observed luminosities at level {self.level:g}: {head}.{self._draws_text}"
            return f"{text} {_CANNOT_SEE}" if self.without_masses else text
        causes = [
            "a prior density of the wrong kind (p(M) against p(M)/M: see `per` in MassPrior.from_table)",
            "a wrong range of masses",
            "a wrong relation or a scatter that is not lognormal",
        ]
        causes.append("a wrong selection" if self.selection_given else "a selection that was left out")
        text = (
            f"The model does not fit the observed luminosities: {head}; {self._direction(number)}, by "
            f"{abs(self.largest_difference):.3f} in cumulative probability at PIT = {self.largest_at:.2f}. "
            f"Possible causes: {', '.join(causes[:-1])}, or {causes[-1]}."
        )
        if self.impossible:
            text += f" {self.impossible:,} objects have a luminosity that the selection rules out."
        return text + self._draws_text

    @property
    def _draws_text(self) -> str:
        """How many objects and draws stand for all, where not all are compared."""
        few = 1 < self.draws_used < _DRAWS
        text = f" Only {self.draws_used} draws of the relation were compared." if few else ""
        if self.not_compared:
            text += f" {self.not_compared:,} other objects were not compared."
        return text

    def _direction(self, number: int) -> str:
        """How observed luminosities differ from predicted ones: higher, lower, in one bin, or in spread."""
        offset = self.mean_pit - 0.5
        if abs(offset) > 3 / np.sqrt(12 * number):
            return f"observed luminosities lie {'higher' if offset > 0 else 'lower'} than predicted"
        if self.p_shape < self.p_place:
            return "observed luminosities have tails, or a shape of their distribution, other than predicted"
        if self.p_all >= self.p_bins.min():
            worst = int(np.argmin(self.p_bins))
            side = "higher" if self.mean_pit_bins[worst] > 0.5 else "lower"
            low, high = self.redshift_range[worst]
            return f"at redshifts {low:.3g} to {high:.3g} observed luminosities lie {side} than predicted"
        wider = np.nanvar(self.pit) > 1 / 12
        return f"observed luminosities are spread {'more' if wider else 'less'} widely than predicted"

    def figure(self) -> "Figure":
        """Draw the distribution of the PITs, over all objects and by redshift.

        Returns
        -------
        matplotlib.figure.Figure
            ECDF of the PIT minus the diagonal, with simultaneous bands: a curve that leaves its band is the alarm.
        """
        from massmap_jax.checks.figures import prior_check_figure

        return prior_check_figure(self)


def prior_check(catalogue: HaloCatalogue, prior, relation, *, selection=None, level: float = 0.01) -> PriorCheck:
    """Compare each observed luminosity with what prior x relation x selection predict at its z and sigma.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue; rows with a measured luminosity are used, of lognormal or linear noise.
    prior : MassPrior
        The mass prior.
    relation : Relation
        One relation or a batch of draws. At most 16 draws are averaged over, taken evenly along their weights. A
        selection that is no sharp limit costs fifty times more: with one they are 8 of more than 1,000 objects, and 4
        of more than 2,000.
    selection : Selection, optional
        The selection, a pytree (`equinox.Module`). By default every object is in the catalogue.
    level : float
        False-alarm probability of the whole check, under one relation that is exactly known.

    Returns
    -------
    PriorCheck
        What was found: PITs, p values, a summary and a figure.

    Raises
    ------
    MassmapError
        If no row is usable, predictions are not finite, the selection's `log_norm` contradicts its `log_prob`, or
        `level` is not valid.

    See Also
    --------
    calibration_check : A check of the posteriors where true masses are known.
    calibrators_check : A check against measured masses of some objects.
    massmap_jax.prior.mass_prior.MassPrior.from_table : The `per` of a table, the most frequent cause of a misfit.

    Notes
    -----
    The PIT is P(ln L <= ln L_obs | z), the integral of p(ln M|z) Phi[(ln L_obs - mean ln L(M, z)) / sqrt(S^2 +
    sigma^2)] d ln M; with a selection, that of the detected objects alone. Relation draws that are wide compared with
    what the catalogue itself can tell give all objects a common error, and alarms are then to be expected. Draws that
    bring a population along, from a fit with measured masses of some objects, are compared one by one, and the p value
    is twice the mean of theirs: valid although the draws are wide, but for the error of a mean of so few draws. Where
    such a fit rests on a part of the objects, as on random calibrators, no more than it rests on are compared, evenly
    taken: of many more, none of the few draws would be near enough to the truth (`not_compared`). Of a
    relation that was fitted to objects selected on their measured mass, the luminosities of such objects are predicted,
    with the typical error of the measured masses for all.

    Half of the false-alarm probability goes to simultaneous bands of the PITs, over all objects and in bins of
    redshift, and half to their histogram, whose bins reach into the tails (`histogram_p_value`): bands are nearly blind
    for a scatter of another shape.

    A relation that was fitted to luminosities and redshifts alone follows them even where the population or the
    selection is wrong, and its masses with them: the summary then says that a pass is no proof.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> field = mm.simulate_field(jax.random.key(0), 200)
    >>> check = mm.prior_check(field.catalogue, field.prior, field.relation)
    >>> check.fits
    True

    A prior whose density was read as the wrong kind (here dn/dlnM as dn/dM) is noticed:

    >>> import numpy as np
    >>> table = field.prior
    >>> density, mass = np.exp(table.ln_density), np.exp(table.ln_mass_nodes)
    >>> wrong = mm.MassPrior.from_table(table.redshift_nodes, mass, density, per="mass")
    >>> mm.prior_check(field.catalogue, wrong, field.relation).fits
    False
    """
    check_kinds("prior_check", catalogue=catalogue, prior=prior, relation=relation)
    check_level(level)
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    check_base(relation, prior)
    given = selection is not None and not isinstance(selection, NoSelection)
    on_mass = bool(getattr(relation, "selected", None))
    if on_mass and given:
        raise MassmapError(
            "the relation was fitted to a catalogue that was selected on the measured mass, and selection= gives"
            " another selection: leave it out"
        )
    flag = flag_outside_prior(catalogue, prior)
    usable, codes = (flag & UNUSABLE) == 0, catalogue.noise_codes
    rows = np.flatnonzero(usable & (codes != NOISE_KINDS.index("upper_limit")))
    if rows.size == 0:
        raise MassmapError(
            f"none of {len(catalogue)} rows has a measured luminosity, and the check knows no limits: give measurements"
        )
    noisy = rows[codes[rows] == NOISE_KINDS.index("normal")]
    if noisy.size:
        if on_mass:
            raise MassmapError(
                "what luminosities to expect of linear noise in a catalogue that was selected on the measured mass is"
                f" not known, and {noisy.size} rows have it, first row {noisy[0]}: use calibrators_check,"
                " which checks their masses at given luminosity"
            )
        _check_linear(catalogue, noisy, relation, selection if given else None)
    usable_rows = rows.size
    # Each redshift that is a distribution has dozens of nodes, with a table twice as many, and each of them slower.
    slower = 1 if catalogue.redshift_distributions is None or is_sharp(selection) else _SLOWER
    rows = _compared(rows, catalogue, relation, _MOST_UNCERTAIN // slower)
    linear = codes[rows] == NOISE_KINDS.index("normal")
    draws = relation.thinned(_DRAWS if is_sharp(selection) else _draws_for(slower * rows.size))
    pit, impossible = np.full(len(catalogue), np.nan), 0
    of_draws = np.full((draws.num_draws, len(catalogue)), np.nan)
    for chosen, function in ((rows[~linear], predictive_pit), (rows[linear], linear_pit)):
        if chosen.size:
            found = function(catalogue, chosen, prior, draws, selection if given else None)
            pit[chosen], of_draws[:, chosen] = found.pit, found.of_draws
            impossible += found.impossible
    lost = rows[~np.isfinite(pit[rows])]
    if lost.size:
        raise MassmapError(
            f"the predicted luminosities cannot be computed for {lost.size} rows, first row {lost[0]}: z = "
            f"{catalogue.redshift[lost[0]]:g}, ln L = {catalogue.ln_lum_obs[lost[0]]:g}; remove these rows"
        )
    z = catalogue.redshift[rows]
    number = int(np.clip(rows.size // LEAST_IN_BIN, 1, _REDSHIFT_BINS))
    which = equal_parts(z, number)
    bin_index = np.full(len(catalogue), -1)
    bin_index[rows] = which
    if population_of(relation) is not None and draws.num_draws > 1:
        p_all, p_bins, p_place, p_shape, p_value = _of_every_draw(of_draws[:, rows], which, number, draws.shares)
    else:
        p_all, p_bins, p_place, p_shape, p_value = _judged(pit[rows], which, number)
    points = np.arange(1, MAX_POINTS) / MAX_POINTS
    difference = ecdf_at(pit[rows], points) - points
    largest = int(np.argmax(np.abs(difference)))
    return PriorCheck(
        pit=pit,
        bin_index=bin_index,
        redshift_range=np.array([(z[which == b].min(), z[which == b].max()) for b in range(number)]),
        p_all=p_all,
        p_bins=p_bins,
        p_place=p_place,
        p_shape=p_shape,
        p_value=p_value,
        mean_pit=float(pit[rows].mean()),
        mean_pit_bins=np.array([pit[rows][which == b].mean() for b in range(number)]),
        largest_difference=float(difference[largest]),
        largest_at=float(points[largest]),
        impossible=impossible,
        draws_used=draws.num_draws,
        level=level,
        selection_given=given or on_mass,
        without_masses=fitted_without_masses(relation),
        not_compared=usable_rows - rows.size,
    )


def _compared(rows, catalogue: HaloCatalogue, relation, most_uncertain: int) -> np.ndarray:
    """Give the rows that are compared: evenly taken ones where all would cost too much, or tell too much."""
    # Of redshifts that are distributions a part of a large catalogue shows a misfit as well.
    most = rows.size if catalogue.redshift_distributions is None else most_uncertain
    of_fit = number_fitted_to(relation)
    if population_of(relation) is not None and of_fit is not None:
        # To ten times as many objects the error of the fit is a misfit that none of a few draws is free of.
        most = min(most, of_fit)
    return rows if most >= rows.size else rows[np.linspace(0, rows.size - 1, most).round().astype(int)]


def _draws_for(number: int) -> int:
    """How many draws are compared of a catalogue with a selection: one of few numbers, each of which is compiled."""
    draws = _DRAWS
    while draws > _FEWEST_DRAWS and draws * number > _WITH_SELECTION:
        draws //= 2
    return draws


class _Judged(NamedTuple):
    p_all: float
    p_bins: np.ndarray
    p_place: float
    p_shape: float
    p_value: float


def _judged(pit, which, number: int) -> _Judged:
    """P values over all objects, in each bin, of both, of the shape, and of the whole check."""
    p_all, p_bins, p_place = p_values(pit, which, number)
    if pit.size < LEAST:
        return _Judged(p_all, p_bins, p_place, np.nan, p_place)
    p_shape = histogram_p_value(pit)
    return _Judged(p_all, p_bins, p_place, p_shape, min(1.0, 2.0 * min(p_place, p_shape)))


def _of_every_draw(pit, which, number: int, shares) -> _Judged:
    """P values where the draws are not informed by most of the objects: twice the mean over the draws.

    Objects without a measured mass are often no part of the fit. Averaged first, their PITs would have the error of the
    relation in common, and many objects would call that a misfit. The mean of valid p values is valid up to a factor of
    2 (Meng 1994; Rueschendorf 1982).
    """
    each = [_judged(one, which, number) for one in pit]
    p_all, p_bins, *others = (np.minimum(1.0, 2.0 * (shares @ np.array(p))) for p in zip(*each, strict=True))
    return _Judged(float(p_all), p_bins, *map(float, others))


def _check_linear(catalogue: HaloCatalogue, rows, relation, selection) -> None:
    """Refuse what linear noise cannot be checked with."""
    first = f"{rows.size} objects have linear noise, first row {rows[0]}"
    if catalogue.redshift_distributions is not None:
        raise MassmapError(f"the check of objects whose redshifts are distributions needs lognormal noise, and {first}")
    if not isinstance(relation, MassLuminosityRelation):
        raise MassmapError(
            f"with linear noise the check needs a power law, and the relation is a {type(relation).__name__}; {first}"
        )
    if not is_sharp(selection):
        raise MassmapError(
            f"with linear noise a selection has to be a sharp limit, and it is a {type(selection).__name__}; {first}"
        )
