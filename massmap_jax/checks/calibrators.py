"""Whether a joint fit predicts the measured masses: each object's mass as the others would predict it."""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Float, Int

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.checks.above_threshold import AboveThreshold
from massmap_jax.checks.bins import LEAST_IN_BIN, check_level, equal_parts, p_text, p_values
from massmap_jax.checks.deleted import deleted_p_values
from massmap_jax.checks.linear_calibrators import is_noisy, noise_columns, under_linear
from massmap_jax.checks.shape import FEATURES, shape_scores, shape_text
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.integrals import ln_normal, pareto_k
from massmap_jax.likelihood.nearest_lognormal import nearest_lognormal
from massmap_jax.likelihood.objects import Observed
from massmap_jax.likelihood.observables import given_the_others
from massmap_jax.likelihood.selection import mass_nodes
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import check_base
from massmap_jax.relation.calibrated import covariance, rows_and_mass
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.joint_posterior import JointPosterior
from massmap_jax.relation.several import names_of, term_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("mass given luminosity", "luminosity", "mass")
# Draws of the fit that are used, at most, and the k above which leaving one object out by weights is not to be trusted.
_DRAWS, MAX_K = 200, 0.7
_REDSHIFT_BINS = 4
# Where more objects than this share cannot be left out by weights, the draws are not near enough to the posterior for
# it, as those of a normal approximation: weights then raised the alarm at a right model (p = 1e-5, k above 0.7 for two
# thirds of 400 objects). An object that is kept in is predicted a little too well.
_FEW_HEAVY = 0.1
# The farthest measured mass is named where one of all of them would be as far by chance this seldom.
_FAR = 1e-3
# The same of the distance from the line through all others, which knows no draws and no weights.
_FAR_FROM_LINE = 1e-2
# Errors of ln L above which linear noise is not normal in ln L.
_LONGEST = 0.34
# p value of the shape of the scatter below which it is told, half of the default level of the whole check.
_TOLD = 0.005


class CalibratorsCheck(eqx.Module):
    """Result of `calibrators_check`: whether the fit predicts the measured masses.

    Attributes
    ----------
    rows : Int[np.ndarray, "calibrator"]
        Rows of the catalogue that have a measured mass.
    pit : Float[np.ndarray, "kind calibrator"]
        PITs of ln M_obs given ln L_obs (and all else that was measured) and z, of ln L_obs given z, and of ln M_obs
        given z; each predicted by the other objects. The first alone where `left_out` says so.
    p_values : Float[np.ndarray, "kind"]
        p value of the uniformity of each, over all objects and in bins of redshift.
    log_density : Float[np.ndarray, "calibrator"]
        ln p(ln M_obs | ln L_obs, z), predicted by the other objects.
    pareto_k : Float[np.ndarray, "calibrator"]
        Reliability of leaving the object out by weights; above 0.7 its row is not to be trusted. Where more than a
        tenth of the objects are above it, these are predicted with themselves in the fit.
    p_place : float
        p value of all kinds together: whether the masses lie where they are predicted.
    shape_scores : Float[np.ndarray, "feature"]
        How far the spread, skewness and tails of the measured masses at given luminosity are from those predicted, and
        how the spread and the mean change with luminosity and redshift, in standard deviations (`features`). Empty for
        fewer than 50 measured masses.
    shape_p_values : Float[np.ndarray, "feature"]
        p value of each.
    p_value : float
        p value of the whole check.
    level : float
        False-alarm probability that it is compared with.
    left_out : str
        Why luminosities and masses are not checked each by itself; empty where they are.
    line_p : Float[np.ndarray, "calibrator"]
        p value of each luminosity's distance from the line in ln M_obs through all others (`deleted_p_values`).
    names : tuple of str
        What the objects in `far` are called, in their order; their rows, where they have no ids.
    """

    rows: Int[np.ndarray, "calibrator"]
    pit: Float[np.ndarray, "kind calibrator"]
    p_values: Float[np.ndarray, " kind"]
    log_density: Float[np.ndarray, "calibrator"]
    pareto_k: Float[np.ndarray, "calibrator"]
    p_place: float
    shape_scores: Float[np.ndarray, " feature"]
    shape_p_values: Float[np.ndarray, " feature"]
    p_value: float
    line_p: Float[np.ndarray, "calibrator"]
    level: float = eqx.field(static=True)
    left_out: str = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is predicted in each row of `pit`: "mass given luminosity", and if valid "luminosity" and "mass"."""
        return KINDS[: self.p_values.size]

    @property
    def fits(self) -> bool:
        """Whether the p value is at least the level."""
        return self.p_value >= self.level

    @property
    def in_place(self) -> bool:
        """Whether the masses lie where they are predicted, whatever the shape of their scatter."""
        return self.p_place >= self.level

    @property
    def features(self) -> tuple[str, ...]:
        """What each of `shape_scores` is of."""
        return FEATURES[: self.shape_scores.size]

    @property
    def p_shape(self) -> float:
        """The p value of all features of the shape together; 1 where none was tested."""
        return float(min([1.0, *(self.shape_p_values.size * self.shape_p_values)]))

    @property
    def verdict(self) -> str:
        """Whether the fit predicts the masses, as the beginning of a sentence."""
        if self.fits:
            return "the fit predicts"
        return (
            "the fit does not predict" if self.p_place <= self.p_shape else "the fit predicts, but for their scatter,"
        )

    @property
    def shape_text(self) -> str:
        """What is wrong with the shape of the scatter, as one sentence; empty where nothing was found."""
        said = shape_text(self.shape_scores, self.shape_p_values, _TOLD)
        if not said:
            return ""
        return (
            f"the measured masses at given luminosity have {said} ({p_text(self.p_shape)}): a scatter that is lognormal"
            " and the same for all does not describe them, and the error bars of masses are too wide or too narrow for"
            " many objects"
        )

    @property
    def score(self) -> float:
        """Mean of `log_density`: the larger, the better the masses are predicted."""
        return float(self.log_density.mean())

    @property
    def far(self) -> Int[np.ndarray, " far"]:
        """Rows whose measured mass is farther from what the others predict than chance has it, the farthest first.

        One in so many objects hardly changes the distribution of the PITs, and can bend the relation.
        """
        return self.rows[_far(self.pit[0], self.line_p)]

    @property
    def far_text(self) -> str:
        """What `far` says, as one sentence; empty where no measured mass is far."""
        if not self.far.size:
            return ""
        first = int(self.far[0])
        side = "below" if self.pit[0][self.rows == first][0] < 0.5 else "above"
        each = "1 measured mass is" if self.far.size == 1 else f"{self.far.size} measured masses are"
        name = f" ({self.names[0]!r})" if self.names else ""
        return (
            f"{each} farther from what the other objects predict than chance has it, farthest that of row"
            f" {first}{name}, far {side}: see whether its luminosity, match, unit and error are right, and leave it"
            " blank if not, for it bends the relation"
        )

    def summary(self) -> str:
        """Describe the result in plain sentences.

        Returns
        -------
        str
            The verdict, what is worst where the fit does not predict the masses, and what was left out.
        """
        means = self.pit.mean(axis=1)
        what = "at their luminosities" if self.left_out else "and their luminosities"
        lines = [
            f"calibrators check: {self.verdict} the {self.rows.size} measured masses {what}"
            f" ({p_text(self.p_value)}); mean ln p(M_obs | L, z) = {self.score:.3f}"
        ]
        if not self.fits and self.p_place <= self.p_shape:
            worst = int(np.argmin(self.p_values))
            side = "above" if means[worst] > 0.5 else "below"
            what = ("the measured masses at given luminosity", "the luminosities", "the measured masses")[worst]
            lines.append(
                f"  worst: {what} lie {side} what is predicted (mean PIT {means[worst]:.3f} where 0.5 is right)"
            )
        if self.shape_text:
            lines.append(f"  {self.shape_text}")
        if self.left_out:
            lines.append(f"  {self.left_out}")
        if self.far.size:
            lines.append(f"  {self.far_text}")
        bad = int((self.pareto_k > MAX_K).sum())
        if bad:
            lines.append(
                f"  {bad} objects weigh so much in the fit that leaving them out by weights is unreliable (Pareto k >"
                f" {MAX_K}), first row {int(self.rows[np.argmax(self.pareto_k > MAX_K)])}"
                + (": so many are predicted with themselves in the fit" if bad > _FEW_HEAVY * self.rows.size else "")
            )
        return "\n".join(lines)

    def figure(self) -> "Figure":
        """Draw the distribution of each kind of PIT.

        Returns
        -------
        matplotlib.figure.Figure
            ECDF of each minus the diagonal, with simultaneous bands: a curve that leaves its band is the alarm.
        """
        from massmap_jax.checks.figures import calibrators_check_figure

        return calibrators_check_figure(self)


def calibrators_check(
    fit: JointPosterior,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    calibration: CalibrationMasses,
    *,
    level: float = 0.01,
) -> CalibratorsCheck:
    """Check whether a joint fit predicts each measured mass and its luminosity from the other objects.

    Parameters
    ----------
    fit : JointPosterior
        The fit, to these objects.
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior of the fit.
    calibration : CalibrationMasses
        The measured masses of the fit.
    level : float, optional
        False-alarm probability of the whole check.

    Returns
    -------
    CalibratorsCheck
        PITs, predictive densities, p values, a summary and a figure.

    Raises
    ------
    MassmapError
        If the fit is of another mass prior, was made without calibration masses, or with ones that were chosen in
        another way, or `level` is not valid.

    See Also
    --------
    massmap_jax.prior_check : The check of luminosities alone, which a fitted relation absorbs misfit from.

    Notes
    -----
    A fit follows its own data, so each object is predicted by draws with the weights 1 / p(object | draw), which leave
    it out (Gelfand, Dey & Chang 1992; Vehtari, Gelman & Gabry 2017, truncated as in Ionides 2008). The mass given the
    luminosity is what masses of other objects rest on. With L and z alone, a wrong population cannot be seen; with
    measured masses it can.

    Half of the false-alarm probability goes to where the masses lie, by simultaneous bands of their PITs, and half to
    the shape of their scatter at given luminosity (`shape_scores`): a scatter with long tails or one that changes with
    mass leaves the masses in their place and makes their error bars wrong. Single masses that are far off are named by
    `far` and hardly count for the shape.

    Objects that were chosen by their luminosity or another observable, or are in a catalogue with a limit in one, are
    no fair sample of the population: their luminosities, and their masses, lie above what is predicted for it although
    nothing is wrong. Such a choice cancels from the mass given all that was measured, which alone is checked then. A
    selection on the measured mass does not cancel: p(ln M_obs | ...) Phi[(ln M_obs - ln threshold) / width] over its
    integral is what is predicted of objects above the threshold, and all three are checked (the mass given the
    luminosity alone, where the noise of luminosities is linear).

    Examples
    --------
    >>> import jax, warnings
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> rng = np.random.default_rng(2)
    >>> ln_mass = rng.normal(32.5, 0.4, 60)
    >>> ln_lum = 1 + 0.8 * (ln_mass - np.log(3e14)) + 0.2 * rng.normal(size=60)
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=np.exp(ln_lum), redshift=rng.uniform(0.1, 0.5, 60), sigma_ln_luminosity=0.05
    ... )
    >>> masses = mm.CalibrationMasses.from_arrays(
    ...     mass=np.exp(ln_mass + 0.2 * rng.normal(size=60)), sigma_ln_mass=0.2
    ... )
    >>> beliefs = mm.RelationPrior.parse("alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14")
    >>> prior = mm.MassPrior.default()
    >>> fit = mm.fit_relation(
    ...     catalogue, prior, beliefs, calibration=masses, population=mm.Population.gaussian(drift=False)
    ... )
    >>> check = mm.calibrators_check(fit, catalogue, prior, masses)
    >>> check.fits
    True
    """
    check_level(level)
    check_kinds("calibrators_check", fit=fit, catalogue=catalogue, prior=prior, calibration=calibration)
    check_base(fit.draws, prior)
    if fit.num_calibrators == 0:
        raise MassmapError("the fit was made without calibration masses: use prior_check")
    if calibration.chosen_by != fit.chosen_by:
        raise MassmapError(
            f"the fit was made with calibration masses chosen by {fit.chosen_by!r}, and these were chosen by"
            f" {calibration.chosen_by!r}: give those of the fit"
        )
    rows = calibrator_rows(catalogue, prior, calibration)
    left_out = _left_out(fit, bool(is_noisy(catalogue.seen_by(names_of(fit.draws)), rows).any()))
    kinds = KINDS[:1] if left_out else KINDS
    pit, ln_density, k = predicted_masses(fit, catalogue, prior, calibration, rows)
    heavy = k > MAX_K
    if heavy.mean() > _FEW_HEAVY:
        kept_in = predicted_masses(fit, catalogue, prior, calibration, rows[heavy], fitted="nothing")
        pit[heavy], ln_density[heavy] = kept_in[:2]
    number = int(np.clip(rows.size // LEAST_IN_BIN, 1, _REDSHIFT_BINS))
    which = equal_parts(catalogue.redshift[rows], number)
    pit = pit.T[: len(kinds)]
    pit = np.clip(pit, 0.0, 1.0)
    each = np.array([p_values(values, which, number)[2] for values in pit])
    place = float(min(1.0, each.size * each.min()))
    shape, p_shape = np.zeros(0), np.zeros(0)
    if rows.size >= LEAST_IN_BIN:
        shape, p_shape = shape_scores(pit[0], catalogue.ln_lum_obs[rows], catalogue.redshift[rows])
    whole = min(1.0, 2 * min(place, *(p_shape.size * p_shape))) if p_shape.size else place
    line_p = _from_the_line(fit, catalogue, calibration, rows)
    far = rows[_far(pit[0], line_p)]
    names = () if np.array_equal(catalogue.ids, np.arange(len(catalogue))) else tuple(map(str, catalogue.ids[far]))
    return CalibratorsCheck(
        rows, pit, each, ln_density, k, place, shape, p_shape, float(whole), line_p, level, left_out, names
    )


def _far(pit: np.ndarray, line_p: np.ndarray) -> np.ndarray:
    """Which calibrators are far from the others by either measure, the farthest first."""
    found = pit.size * np.minimum(2.0 * np.minimum(pit, 1.0 - pit) / _FAR, line_p / _FAR_FROM_LINE)
    order = np.argsort(found)
    return order[found[order] < 1.0]


def _from_the_line(fit: JointPosterior, catalogue: HaloCatalogue, calibration: CalibrationMasses, rows) -> np.ndarray:
    """How far each luminosity is from the line through the others, with the variances that the fit has about it.

    One wrong object of few makes the fitted scatter so large that the fit predicts it; the line through the others
    has their scatter. Masses are the x of the line, for their range is less than that of luminosities.
    """
    y, sigma, x = catalogue.ln_lum_obs[rows], catalogue.sigma_ln_lum[rows], calibration.ln_mass[rows]
    slope, scatter = (float(np.mean(np.asarray(fit.draws.parameter(name)))) for name in ("alpha2", "scatter"))
    mass_scatter = float(np.mean(fit.draws.measured["mass_scatter"])) if "mass_scatter" in fit.draws.measured else 0.0
    variance = scatter**2 + sigma**2 + slope**2 * (calibration.sigma[rows] ** 2 + mass_scatter**2)
    known = np.isfinite(y) & np.isfinite(variance) & (variance > 0) & (sigma < _LONGEST)
    found = np.ones(rows.size)
    if known.any():
        columns = (a[known].astype(np.float64) for a in (y, x, catalogue.redshift[rows], variance))
        found[known] = deleted_p_values(*columns)
    return found


def _left_out(fit: JointPosterior, noisy: bool) -> str:
    """Why luminosities and masses are not checked by themselves, as one sentence; empty if they are."""
    if fit.draws.selected and fit.chosen_by != "luminosity":
        if not noisy:
            return ""
        return (
            "only masses at given luminosity were checked: of linear noise in a catalogue that was selected on the"
            " measured mass, what luminosities to expect is not known"
        )
    whys = ["the objects with a measured mass were chosen by their luminosity"] if fit.chosen_by == "luminosity" else []
    whys += [f"the catalogue was selected ({fit.selection})"] if fit.selection != "none" else []
    if not whys:
        return ""
    return (
        f"only masses at given luminosity were checked: {' and '.join(whys)}, so that their luminosities, and their"
        " masses by themselves, are no fair sample of the population"
    )


def calibrator_rows(catalogue: HaloCatalogue, prior: MassPrior, calibration: CalibrationMasses) -> np.ndarray:
    """Give the rows of the catalogue that have a measured mass and a measured luminosity, and can be used.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior, whose redshifts they have to be in.
    calibration : CalibrationMasses
        The measured masses.

    Returns
    -------
    Int[np.ndarray, "calibrator"]
        The rows.
    """
    measured = catalogue.noise_codes != NOISE_KINDS.index("upper_limit")
    rows = np.flatnonzero(np.isfinite(calibration.ln_mass) & catalogue.usable & measured)
    return rows[(catalogue.redshift[rows] >= prior.z_min) & (catalogue.redshift[rows] <= prior.z_max)]


def predicted_masses(
    fit: JointPosterior,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    calibration: CalibrationMasses,
    rows,
    fitted: Literal["both", "luminosity", "nothing"] = "both",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare measured masses, and luminosities, with what a fit to the other objects predicts.

    Parameters
    ----------
    fit : JointPosterior
        The fit.
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior of the fit.
    calibration : CalibrationMasses
        The measured masses.
    rows : Int[np.ndarray, "calibrator"]
        Rows to predict.
    fitted : {"both", "luminosity", "nothing"}, optional
        What of each of these rows is in the fit, and is left out by weights.

    Returns
    -------
    pit : Float[np.ndarray, "calibrator 3"]
        The PITs of `CalibratorsCheck`, all three kinds.
    log_density : Float[np.ndarray, "calibrator"]
        ln p(ln M_obs | ln L_obs, z).
    pareto_k : Float[np.ndarray, "calibrator"]
        Reliability of leaving the object out.
    """
    draws, rows = fit.draws.thinned(_DRAWS), np.asarray(rows)
    catalogue = catalogue.seen_by(names_of(draws))
    columns = calibration.ln_mass, calibration.sigma, catalogue.redshift, calibration.correlation
    # As the fit took them: linear noise as it is, but for errors that are correlated with those of the masses.
    noisy = is_noisy(catalogue, rows) & (calibration.correlation[rows] == 0)
    found = np.zeros((rows.size, 5))
    with jax.enable_x64(True):
        if noisy.any():
            own = rows[noisy]
            data = *noise_columns(catalogue, own), *(a[own] for a in columns[:3])
            found[noisy] = np.column_stack(_predicted(data, prior, draws, fitted, True))
        if not noisy.all():
            own = rows[~noisy]
            data = (
                *_lum_columns(nearest_lognormal(catalogue), own),
                *(a[own] for a in columns),
            )
            found[~noisy] = np.column_stack(_predicted(data, prior, draws, fitted, False))
    return found[:, :3], found[:, 3], found[:, 4]


def _lum_columns(catalogue: HaloCatalogue, rows) -> tuple:
    """Observables other than the luminosity, ln L_obs and its error, of some rows."""
    observed = None if catalogue.observables is None else Observed.of(catalogue, rows)
    lum = catalogue.ln_lum_obs[rows], catalogue.sigma_ln_lum[rows]
    return observed, *(lum if observed is None else observed.with_numbers(*lum))


@partial(jax.jit, static_argnames=("fitted", "linear"))
def _predicted(data, prior, draws, fitted, linear):
    """PITs (object, 3), ln density of the mass given the luminosity, and Pareto k, with each object left out."""
    under = under_linear if linear else _under

    def one(point):
        def of_draw(draw):
            return under(draw, prior, *point)

        pit, ln_of_lum, ln_of_both = jax.vmap(of_draw)(draws)
        ln_left_out = draws.log_weight - {"both": ln_of_both, "luminosity": ln_of_lum, "nothing": 0.0}[fitted]
        k = pareto_k(ln_left_out)
        number = ln_left_out.shape[0]
        # Truncated importance sampling: no weight above the mean times the root of their number.
        ln_left_out = jnp.minimum(ln_left_out, jax.nn.logsumexp(ln_left_out) - 0.5 * jnp.log(number))
        with_lum = jax.nn.log_softmax(ln_left_out + ln_of_lum)
        ln_weight = jax.nn.log_softmax(ln_left_out)
        ln_density = jax.nn.logsumexp(ln_weight + ln_of_both) - jax.nn.logsumexp(ln_weight + ln_of_lum)
        given_lum, alone = jnp.exp(with_lum) @ pit[:, 0], jnp.exp(ln_weight) @ pit[:, 1:]
        return jnp.concatenate([given_lum[None], alone]), ln_density, k

    return jax.lax.map(one, jax.tree.map(jnp.asarray, data))


def _under(draw, prior, observed, ln_lum, sigma, ln_mass_obs, sigma_mass, z, rho) -> Any:
    """The three PITs of one object under one draw, ln p(ln L | z) and ln p(ln L, ln M_obs | z).

    Further observables stand beside the luminosity. A selection on one of them, which is then known, or known to be
    above a limit, cancels as one on the luminosity does. One on the measured mass does not: all is of objects in the
    catalogue then.
    """
    ln_mass, ln_p = mass_nodes(prior, z, draw)
    c11, c12, c22 = covariance(draw, sigma, sigma_mass, rho)
    mean = draw.mean_ln_lum(ln_mass, z)
    middle = ln_mass + draw.measured["bias"]
    (residual, slope, matrix, there), with_mass = rows_and_mass(draw, ln_lum, sigma, sigma_mass, rho, z, observed)
    offset, rise, spread = given_the_others(residual, slope, matrix, there, 1.0, with_mass)
    ln_pivot = jnp.log(draw.alpha3)
    given = ln_pivot + draw.measured["bias"] + offset + rise * (ln_mass - ln_pivot)
    ln_lum_density = ln_p + term_of(draw, ln_lum, sigma, z, observed)(ln_mass)
    if observed is not None and names_of(draw):
        # At fixed mass and luminosity the measured mass says nothing of another observable.
        ln_lum_density = ln_lum_density + draw.ln_limits(ln_mass, ln_lum, sigma, z, observed)
    above = AboveThreshold.of(draw, z)
    if above is not None:
        slope = c12 / c11
        lum_alone = ln_lum, ln_p, mean, jnp.sqrt(c11), middle, slope, jnp.sqrt(c22 - slope * c12)
        by_lum = ln_mass_obs, ln_lum_density, given, spread
        return above.of_one(above.pit_of_luminosity(*lum_alone), *by_lum, ln_p, middle, jnp.sqrt(c22))
    of_lum, plain = jax.nn.softmax(ln_lum_density), jax.nn.softmax(ln_p)
    pit = jnp.stack(
        [
            of_lum @ ndtr((ln_mass_obs - given) / spread),
            plain @ ndtr((ln_lum - mean) / jnp.sqrt(c11)),
            plain @ ndtr((ln_mass_obs - middle) / jnp.sqrt(c22)),
        ]
    )
    both = jax.nn.logsumexp(ln_lum_density + ln_normal(ln_mass_obs, given, spread))
    return pit, jax.nn.logsumexp(ln_lum_density), both
