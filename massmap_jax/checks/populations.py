"""Which form of the population predicts the measured masses best: `compare_populations(...) -> PopulationComparison`.

Every form is fitted, and each measured mass is predicted from its luminosity by the other objects, as in
`calibrators_check`. The sum of the ln densities of these predictions ranks the forms. The differences are taken object
by object: what all forms find hard to predict cancels.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, Key

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.calibrators import MAX_K, calibrator_rows, predicted_masses
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import Selection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import FEW_CALIBRATORS, LEAST_CALIBRATORS, CalibrationMasses
from massmap_jax.relation.correlations import LKJ_SHAPE
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.joint_posterior import JointPosterior
from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass

FORMS = ("hmf_completeness", "gaussian", "skew_normal", "mixture:2", "fixed")
"""The forms that are compared by default."""
DESCRIPTIONS = {
    "population": "form of the distribution of masses",
    "elpd": "sum of ln p(measured mass given luminosity), each predicted by the other objects; larger is better",
    "difference": "elpd minus that of the best population",
    "error": "standard error of the difference, paired by object",
    "bad_k": "objects with a Pareto k above 0.7, whose prediction is not to be trusted",
    "parameters": "free parameters of the fit",
    "split_difference": "difference to the best for one object, where half of the objects predict the other half",
    "split_error": "standard error of split_difference",
}
"""What the columns of the table mean."""
# A difference is told from none above so many of its errors, and above this: the error is too small where two
# populations predict nearly the same (Sivula, Magnusson, Matamoros & Vehtari 2020).
_CLEAR, _LEAST = 3.0, 4.0
# Above this share of objects with a bad k, the draws of a fit do not follow its posterior.
_MANY_BAD = 0.02


class PopulationComparison(eqx.Module):
    """Result of `compare_populations`, the best population first.

    Attributes
    ----------
    populations : tuple of str
        Names of the populations.
    log_density : Float[np.ndarray, "population calibrator"]
        ln p(ln M_obs | ln L_obs, z) of each measured mass, predicted by the other objects.
    pareto_k : Float[np.ndarray, "population calibrator"]
        Reliability of leaving each object out, as in `CalibratorsCheck`.
    rows : Int[np.ndarray, "calibrator"]
        Rows of the catalogue that have a measured mass.
    fits : tuple of JointPosterior
        The fit of each population.
    split_scores : Float[np.ndarray, "population split"]
        Mean ln density of the measured masses of one half, under the fit to the other; no column without splits.

    See Also
    --------
    compare_populations : The function that makes it, with an example.
    """

    populations: tuple[str, ...] = eqx.field(static=True)
    log_density: Float[np.ndarray, "population calibrator"]
    pareto_k: Float[np.ndarray, "population calibrator"]
    rows: Int[np.ndarray, "calibrator"]
    fits: tuple[JointPosterior, ...]
    split_scores: Float[np.ndarray, "population split"]

    @property
    def elpd(self) -> np.ndarray:
        """Sum of `log_density` of each population: the larger, the better."""
        return self.log_density.sum(axis=1)

    @property
    def difference(self) -> np.ndarray:
        """`elpd` minus that of the best population; 0 or below."""
        return self.elpd - self.elpd[0]

    @property
    def error(self) -> np.ndarray:
        """Standard error of `difference`, from the differences of the objects one by one."""
        each = self.log_density - self.log_density[0]
        return np.sqrt(each.shape[1]) * each.std(axis=1, ddof=1)

    @property
    def worse(self) -> np.ndarray:
        """Whether `difference` exceeds 3 of its errors, and 4, below which the error is too small."""
        return -self.difference > np.maximum(_CLEAR * self.error, _LEAST)

    @property
    def bad_k(self) -> np.ndarray:
        """Number of objects with a Pareto k above 0.7, whose prediction is not to be trusted."""
        return (self.pareto_k > MAX_K).sum(axis=1)

    @property
    def parameters(self) -> np.ndarray:
        """Number of free parameters of each fit."""
        return np.array([len(fit.free) for fit in self.fits])

    @property
    def split_difference(self) -> np.ndarray:
        """Mean over the splits of the score minus that of the best population, for one object."""
        return (self.split_scores - self.split_scores[0]).mean(axis=1)

    @property
    def split_error(self) -> np.ndarray:
        """Standard error of `split_difference`.

        All splits are of the same objects, so their number alone does not reduce it: the variance over the splits
        counts 1 / splits + 1 times, where 1 is the size of the half that is predicted over that of the half that is
        fitted (Nadeau & Bengio 2003).
        """
        each = self.split_scores - self.split_scores[0]
        return each.std(axis=1, ddof=1) * np.sqrt(1 / each.shape[1] + 1)

    def to_table(self) -> dict[str, np.ndarray]:
        """Give the comparison as columns.

        Returns
        -------
        dict of str to np.ndarray, (population,)
            `population`, `elpd`, `difference`, `error`, `bad_k`, `parameters`, and with splits `split_difference` and
            `split_error`.
        """
        table: dict[str, np.ndarray] = {"population": np.array(self.populations)}
        names = ["elpd", "difference", "error", "bad_k", "parameters"]
        names += ["split_difference", "split_error"] if self.split_scores.shape[1] else []
        return table | {name: getattr(self, name) for name in names}

    def summary(self) -> str:
        """Describe the comparison as a table of text.

        Returns
        -------
        str
            One line for each population, the best first, and what the differences are worth.
        """
        splits = self.split_scores.shape[1]
        width = max(len("population"), *(len(name) for name in self.populations))
        head = f"  {'population':{width}}  {'elpd':>9}  {'difference':>18}  {'k > 0.7':>7}  {'parameters':>10}"
        lines = [
            f"populations compared by {self.rows.size} measured masses, each predicted from its luminosity by the"
            " other objects",
            head + (f"  {'difference in halves':>22}" if splits else ""),
        ]
        for i, name in enumerate(self.populations):
            line = f"  {name:{width}}  {self.elpd[i]:9.2f}  {self.difference[i]:9.2f} +- {self.error[i]:5.2f}"
            line += f"  {self.bad_k[i]:7d}  {self.parameters[i]:10d}"
            if splits:
                line += f"  {self.split_difference[i]:12.4f} +- {self.split_error[i]:6.4f}"
            lines.append(line)
        if near := [self.populations[i] for i in np.flatnonzero(~self.worse)[1:]]:
            lines.append(
                f"  not told from the best (difference below {_CLEAR:g} errors or {_LEAST:g}): {', '.join(near)}"
            )
        if poor := [self.populations[i] for i in np.flatnonzero(self.bad_k > _MANY_BAD * self.rows.size)]:
            lines.append(
                f"  not to be trusted (k > {MAX_K} for more than {_MANY_BAD:.0%} of the objects): {', '.join(poor)};"
                " fit with method='nuts', or give splits"
            )
        lines.append("  the best of these may still be wrong: calibrators_check says whether it describes the masses")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def compare_populations(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior | str,
    calibration: CalibrationMasses,
    populations: Sequence[str | Population] | Mapping[str, str | Population] = FORMS,
    *,
    selection: Selection | SelectedOnMass | SelectedOn | None = None,
    observables: Mapping[str, Any] | None = None,
    scatter_correlation: Any = LKJ_SHAPE,
    method: str = "laplace",
    num_draws: int = 1000,
    splits: int = 0,
    key: Key[jax.Array, ""] | None = None,
    watch: Callable[[str], object] = lambda line: None,
) -> PopulationComparison:
    """Fit several populations, and compare how well each predicts the measured masses.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior.
    relation_prior : RelationPrior or str
        The prior of the relation, as in `fit_relation`.
    calibration : CalibrationMasses
        The measured masses.
    populations : sequence or dict of str or Population, optional
        The populations, as `Population.parse` reads them or as objects. A dict gives them names, which two of the same
        form need.
    selection : Selection, SelectedOnMass or SelectedOn, optional
        Which objects can be in the catalogue. Under `SelectedOnMass` each mass is predicted as one above the threshold.
    observables, scatter_correlation : object, optional
        Further observables and the correlations of their scatters, as in `fit_relation`. The masses are then predicted
        from all of them.
    method : str, optional
        How the fits draw, as in `fit_relation`.
    num_draws : int, optional
        Draws of each fit.
    splits : int, optional
        Number of random halves of the calibrators: each population is fitted to one half and predicts the other. It
        costs as many fits for each population, and no weights are needed.
    key : Key[Array, ""], optional
        Random key of the draws and of the halves; default `jax.random.key(0)`.
    watch : callable, optional
        Called with a line of text at each fit.

    Returns
    -------
    PopulationComparison
        The table, and the fits.

    Raises
    ------
    MassmapError
        Fewer than two populations, the same name twice, too few calibrators for halves, or a population that cannot be
        fitted, with its name.

    See Also
    --------
    calibrators_check : Whether one fit predicts the measured masses.

    Notes
    -----
    The score is the ln density of the measured mass *given* the luminosity, because this is what the masses of all
    other objects rest on. It also holds where the calibrators were chosen by their luminosity. Its differences are
    paired, with the error of Vehtari, Gelman & Gabry (2017). It is too small where two populations predict nearly the
    same, so a difference below 4 says nothing (Sivula et al. 2020). The warnings of the fits are in `fits[i].notes`.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> rng = np.random.default_rng(1)
    >>> ln_mass = rng.normal(32.5, 0.4, 60)
    >>> ln_lum = 1 + 0.8 * (ln_mass - np.log(3e14)) + 0.2 * rng.normal(size=60)
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=np.exp(ln_lum), redshift=rng.uniform(0.1, 0.5, 60), sigma_ln_luminosity=0.05
    ... )
    >>> masses = mm.CalibrationMasses.from_arrays(
    ...     mass=np.exp(ln_mass + 0.2 * rng.normal(size=60)), sigma_ln_mass=0.2
    ... )
    >>> beliefs = mm.RelationPrior.parse("alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14")
    >>> found = mm.compare_populations(
    ...     catalogue, mm.MassPrior.default(), beliefs, masses, ["gaussian,drift=no", "fixed"]
    ... )
    >>> found.populations
    ('gaussian,drift=no', 'fixed')
    >>> bool(found.difference[1] < -3 * found.error[1])
    True
    """
    check_kinds("compare_populations", catalogue=catalogue, prior=prior)
    forms = _named(populations)
    rows = calibrator_rows(catalogue, prior, calibration)
    least = LEAST_CALIBRATORS if method == "nuts" else FEW_CALIBRATORS
    if splits < 0 or splits == 1:
        raise MassmapError(f"splits is {splits}: give 0 for none, or at least 2, which have a scatter")
    if splits and rows.size < 2 * least:
        raise MassmapError(
            f"{rows.size} objects have a calibration mass, and half of them are too few for a fit by {method!r}: give"
            f" at least {2 * least}, or leave splits out"
        )
    key_fit, key_halves = jax.random.split(jax.random.key(0) if key is None else key)

    def fitted(name, masses):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = fit_relation(
                    catalogue, prior, relation_prior, calibration=masses, population=forms[name], method=method,
                    selection=selection, observables=observables, scatter_correlation=scatter_correlation, key=key_fit,
                    num_draws=num_draws,
                )  # fmt: skip
            except MassmapError as error:
                raise MassmapError(f"population {name}: {error}") from error
        assert isinstance(found, JointPosterior)
        return found

    fits, of_all = {}, {}
    for name in forms:
        watch(f"fitting the population {name}")
        fits[name] = fitted(name, calibration)
        of_all[name] = predicted_masses(fits[name], catalogue, prior, calibration, rows)[1:]
    scores: dict[str, list] = {name: [] for name in forms}
    # Luminosities of calibrators that were chosen by them are in the fit even where their masses are not.
    lum_alone = calibration.chosen_by == "luminosity" and not isinstance(selection, SelectedOnMass)
    in_fit: Literal["luminosity", "nothing"] = "luminosity" if lum_alone else "nothing"
    for number in range(splits):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key_halves, number), rows.size))
        there = rows[order[rows.size // 2 :]]
        without = eqx.tree_at(lambda c: c.ln_mass, calibration, _blanked(calibration.ln_mass, there))
        for name in forms:
            watch(f"fitting the population {name} to half {number + 1} of {splits}")
            half = fitted(name, without)
            scores[name].append(predicted_masses(half, catalogue, prior, calibration, there, in_fit)[1].mean())
    ranked = sorted(forms, key=lambda name: -of_all[name][0].sum())
    return PopulationComparison(
        populations=tuple(ranked),
        log_density=np.stack([of_all[name][0] for name in ranked]),
        pareto_k=np.stack([of_all[name][1] for name in ranked]),
        rows=rows,
        fits=tuple(fits[name] for name in ranked),
        split_scores=np.array([scores[name] for name in ranked]),
    )


def _named(populations) -> dict[str, Population]:
    """The populations by name."""
    if isinstance(populations, str | Population):
        populations = [populations]
    given = populations.items() if isinstance(populations, Mapping) else [(None, form) for form in populations]
    forms: dict[str, Population] = {}
    for name, form in given:
        form = Population.parse(form) if isinstance(form, str) else form
        name = form.name if name is None else name
        if name in forms:
            raise MassmapError(
                f"the population {name!r} is given twice: give a dict with a name for each where two have one form"
            )
        forms[name] = form
    if len(forms) < 2:
        raise MassmapError(f"{len(forms)} populations are given to compare: give at least two")
    return forms


def _blanked(ln_mass, rows) -> np.ndarray:
    """A copy without the masses of these rows."""
    ln_mass = np.array(ln_mass)
    ln_mass[rows] = np.nan
    return ln_mass
