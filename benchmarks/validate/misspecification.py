"""Fields that another law made: how wrong the masses become, and whether the checks that need no truth notice.

Every field is analysed as if it followed the right model, in three ways: with the relation known, with a relation that
is fitted to the field's own luminosities, and with one that is fitted to these and to measured masses of some objects.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from reference.prior_reference import PriorReference

import massmap_jax as mm
from massmap_jax.checks.calibrators import calibrators_check
from massmap_jax.figures import style
from validate import visible
from validate.record import Number, Row, Section, Twin, at_least, at_most, average

LAW = {"alpha1": 1.0, "alpha2": 1.3, "alpha3": 3e14, "alpha4": 1.0, "scatter": 0.3}
BELIEFS = "alpha1=1:3,alpha2=1.3:0.7,alpha4=1:2,scatter=0.3:0.3,alpha3=3e14"
BELIEFS_ABOUT = {"alpha1": (1.0, 3.0), "alpha2": (1.3, 0.7), "alpha4": (1.0, 2.0)}
SIGMA = 0.1
MEASURED, SIGMA_MASS = 500, 0.2  # masses of mode "fitted with masses": those of the brightest objects
REDSHIFTS = np.random.default_rng(7).uniform(0.1, 1.0, 60)
# Masses are harmed where their mean or the coverage of the 68 % intervals is off by more than this, and by 3 errors.
HARM = 0.03
NOTICED = 0.8  # share of fields in which a harm has to raise an alarm
# Objects that the power of the best possible test is computed from, and the cheap fields of `whole_check_row`.
MANY = 40_000
SILENT_FIELDS, SILENT_OBJECTS, SILENT_MEASURED = 100, 1000, 100


class Size(NamedTuple):
    fields: int
    objects: int
    fitted: int  # fields that are fitted


class Case(NamedTuple):
    """What is wrong. `mass_function` is that of the truth; `assumed` are changes of the law in the analysis."""

    name: str
    mass_function: tuple[str, str] = ("Tinker08", "200m")
    scores: Callable = lambda rng, ln_mass: rng.normal(size=ln_mass.size)
    keep: Callable = lambda rng, ln_mass, score, ln_lum_obs: np.ones(ln_mass.size, bool)
    satellites: float = 0.0
    noise_factor: float = 1.0
    assumed: dict = {}  # noqa: RUF012  a NamedTuple's default, never changed


def _student(rng, ln_mass):
    """Student's t with four degrees of freedom, scaled to the standard deviation of the normal."""
    return rng.standard_t(4, ln_mass.size) / np.sqrt(2)


def _skewed(rng, ln_mass):
    """A gamma distribution of skewness 1 with mean 0 and standard deviation 1: a tail of bright objects."""
    return (rng.gamma(4, size=ln_mass.size) - 4) / 2


def _less_at_high_mass(rng, ln_mass):
    factor = np.clip(1.0 - 0.25 * (ln_mass - np.log(1e14)), 0.4, 1.5)
    return factor * rng.normal(size=ln_mass.size)


def _bright(rng, ln_mass, score, ln_lum_obs):
    return ln_lum_obs > 0.0


def _rich(rng, ln_mass, score, ln_lum_obs):
    """Selected on a richness whose scatter is correlated by 0.6 with that of the luminosity."""
    own = 0.6 * score + 0.8 * rng.normal(size=ln_mass.size)
    return ln_mass - np.log(1e14) + 0.4 * own > 0.0


CASES = (
    Case("nothing"),
    Case("scatter: Student, 4 degrees of freedom", scores=_student),
    Case("scatter: skewness 1", scores=_skewed),
    Case("scatter: falls with mass", scores=_less_at_high_mass),
    Case("mass function: Watson, taken as Tinker08", ("Watson", "200m")),
    Case("mass function: Bocquet hydro, taken as Tinker08", ("Bocquet200mHydro", "200m")),
    Case("mass definition: 500c, taken as 200m", ("Tinker08", "500c")),
    Case("25 % satellites, in hosts 5 times as massive", satellites=0.25),
    Case("limit in L_obs left out", keep=_bright),
    Case("selection on a correlated richness left out", keep=_rich),
    Case("noise twice as large as stated", noise_factor=2.0),
    Case("scatter assumed 10 % too large", assumed={"scatter": 1.1 * LAW["scatter"]}),
)
MODES = ("known", "fitted", "fitted with masses")


def mass_prior(model: str, definition: str) -> mm.MassPrior:
    return mm.MassPrior.from_hmf(
        hmf_model=model,
        mass_definition=definition,
        redshift=np.arange(0.0, 1.11, 0.1),
        log10_mass_range=(13.3, 16.0),
        support="sharp",
    )


def simulate(case: Case, rng, number: int) -> tuple[np.ndarray, mm.HaloCatalogue]:
    """True ln M of the objects' halos and the catalogue; plain NumPy but for the table of the mass function."""
    table = mass_prior(*case.mass_function)
    nodes = np.asarray(table.redshift_nodes), np.exp(table.ln_mass_nodes), np.exp(table.ln_density)
    reference = PriorReference(*nodes, per="ln_mass")
    parts, found = [], 0
    while found < number:
        z = rng.choice(REDSHIFTS, 4 * number)
        ln_mass = reference.sample(rng, z)
        score = case.scores(rng, ln_mass)
        mean = LAW["alpha1"] + LAW["alpha2"] * (ln_mass - np.log(LAW["alpha3"])) + LAW["alpha4"] * np.log1p(z)
        ln_lum = mean + LAW["scatter"] * score + case.noise_factor * SIGMA * rng.normal(size=z.size)
        kept = case.keep(rng, ln_mass, score, ln_lum)
        # A satellite has the light of its own halo, and lies in one that is five times as massive.
        host = ln_mass + np.log(5) * (rng.random(z.size) < case.satellites)
        parts.append(np.stack([host, ln_lum, z])[:, kept])
        found += int(kept.sum())
    truth, ln_lum, z = np.concatenate(parts, axis=1)[:, :number]
    return truth, mm.HaloCatalogue.from_arrays(ln_luminosity=ln_lum, redshift=z, sigma_ln_luminosity=SIGMA)


class Outcome(NamedTuple):
    """One field: mean of (posterior mean - truth), coverages, mean PIT, and whether the check raised an alarm."""

    bias: float
    within_68: float
    within_95: float
    mean_pit: float
    alarm: bool


def measured_masses(rng, truth, ln_lum_obs, number: int):
    """Measured masses of the brightest objects, NaN for the others."""
    mass = np.full(truth.size, np.nan)
    chosen = np.argsort(-ln_lum_obs)[:number]
    mass[chosen] = np.exp(truth[chosen] + SIGMA_MASS * rng.normal(size=chosen.size))
    return mass


def fit_of(mode: str, truth, catalogue, prior, seed: int, number: int = MEASURED):
    """The fit of the relation, and the measured masses that it had (None without)."""
    calibration, options = None, {}
    if mode == "fitted with masses":
        mass = measured_masses(np.random.default_rng((5, seed)), truth, catalogue.ln_lum_obs, number)
        calibration = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=SIGMA_MASS, chosen_by="luminosity")
        # Complete fields do not bound the completeness of the default population.
        options = {"calibration": calibration, "population": mm.Population.fixed()}
    beliefs = mm.RelationPrior.parse(BELIEFS)
    return mm.fit_relation(catalogue, prior, beliefs, key=jax.random.key(seed), num_draws=400, **options), calibration


def analyse(mode: str, case: Case, truth, catalogue, prior, seed: int) -> Outcome:
    """The field under the right model, which is not the one that made it, and the check that a user can make."""
    if mode == "known":
        relation = mm.MassLuminosityRelation.create(**LAW | case.assumed)
        alarm = not mm.prior_check(catalogue, prior, relation).fits
        posterior = mm.mass_posterior(catalogue, prior, relation)
    else:
        fit, calibration = fit_of(mode, truth, catalogue, prior, seed)
        draws = fit.draws.thinned(20)
        posterior = mm.mass_posterior(catalogue, prior, draws, relation_from="this_catalogue")
        if calibration is None:
            alarm = not mm.prior_check(catalogue, prior, draws).fits
        else:
            alarm = not calibrators_check(fit, catalogue, prior, calibration).fits
    pit = posterior.cdf(truth)
    off = np.abs(pit - 0.5)
    bias = float((posterior.mean - truth).mean())
    return Outcome(bias, float((off < 0.34).mean()), float((off < 0.475).mean()), float(pit.mean()), bool(alarm))


class Result(NamedTuple):
    case: Case
    mode: str
    numbers: dict[str, Number]
    alarms: int
    fields: int
    best: float | None = None  # power of the best possible test, where a harm was not noticed

    @property
    def harmed(self) -> bool:
        bias, within = self.numbers["bias of ln M"], self.numbers["within 68 %"]
        return any(abs(n.value - right) > max(HARM, 3 * n.error) for n, right in ((bias, 0.0), (within, 0.68)))

    @property
    def noticed(self) -> bool:
        return self.alarms >= NOTICED * self.fields

    @property
    def hidden(self) -> bool:
        """Whether no test that needs no truth could notice the harm as often as is demanded."""
        return self.best is not None and self.best < NOTICED

    def row(self) -> Row:
        """A harm that the data show has to be noticed; the right model has to be right and silent."""
        numbers = {**self.numbers, "alarms": Number(self.alarms / self.fields)}
        limits = {"alarms": at_least(NOTICED)} if self.harmed and not self.hidden else {}
        said, remark = "no harm", ""
        if self.harmed:
            said = "the harm is noticed"
        if self.best is not None:
            remark = f"the best possible test would alarm in {100 * self.best:.0f} % of the fields"
        if self.hidden:
            said = "a harm that these data do not show"
        return Row(f"{self.case.name} ({self.mode}): {said}", numbers, f"{self.fields} fields", limits, remark=remark)


def best_power(case: Case, mode: str, size: Size, prior) -> float:
    """Power of the best possible test against this fault, in fields of this size."""
    rng = np.random.default_rng((17, CASES.index(case)))
    truth, catalogue = simulate(case, rng, MANY)
    ln_lum, measured = np.asarray(catalogue.ln_lum_obs), MEASURED if mode == MODES[2] else 0
    mass = np.full(MANY, np.nan)
    if measured:
        mass = np.log(measured_masses(rng, truth, ln_lum, MANY * measured // size.objects))
    seen = visible.Simulated(ln_lum, SIGMA, np.asarray(catalogue.redshift), mass, SIGMA_MASS)
    nodes = np.asarray(prior.redshift_nodes), np.exp(prior.ln_mass_nodes), np.exp(prior.ln_density)
    reference = PriorReference(*nodes, per="ln_mass")
    return visible.best_power(seen, reference, LAW, BELIEFS_ABOUT, size.objects, measured, fitted=mode != MODES[0])


def fraction(values, objects: int) -> Number:
    """Mean over fields; its error is from their scatter, but never below that of as many independent objects."""
    value, between = average(values)
    return Number(value, max(between, float(np.sqrt(value * (1 - value) / (len(values) * objects)))))


def result(case: Case, mode: str, size: Size, prior) -> Result:
    number = size.fields if mode == "known" else size.fitted
    found = []
    for field in range(number):
        truth, catalogue = simulate(case, np.random.default_rng((11, CASES.index(case), field)), size.objects)
        found.append(analyse(mode, case, truth, catalogue, prior, field))
    numbers = {
        "bias of ln M": average([one.bias for one in found]),
        "within 68 %": fraction([one.within_68 for one in found], size.objects),
        "within 95 %": fraction([one.within_95 for one in found], size.objects),
        "mean PIT": average([one.mean_pit for one in found]),
    }
    whole = Result(case, mode, numbers, sum(one.alarm for one in found), number)
    if whole.harmed and not whole.noticed:
        whole = whole._replace(best=best_power(case, mode, size, prior))
    return whole


def definitions_row() -> Row:
    """Where masses are labelled, the wrong definition is not computed with but refused."""
    prior = mass_prior("Tinker08", "200m")
    _, catalogue = simulate(CASES[0], np.random.default_rng(0), 20)

    def refused(definition):
        try:
            mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation.create(**LAW, mass_definition=definition))
        except mm.MassmapError:
            return 1
        return 0

    return Row(
        "A relation in 500c with a mass function of 200m is refused where both are labelled",
        {"refused": Number(refused("500c"))},
        "20 objects",
        {"refused": at_least(1)},
        Twin("the same test with equal labels refuses nothing", 1 - refused("200m"), 1, 1),
    )


def whole_check_row(prior) -> Row:
    """How often `calibrators_check` alarms where nothing is wrong, and where the errors of the masses are."""

    def alarms(field, errors):
        truth, catalogue = simulate(CASES[0], np.random.default_rng((13, field)), SILENT_OBJECTS)
        wrong = truth + np.sqrt(errors**2 - 1) * SIGMA_MASS * np.random.default_rng((19, field)).normal(size=truth.size)
        fit, calibration = fit_of("fitted with masses", wrong, catalogue, prior, field, SILENT_MEASURED)
        return not calibrators_check(fit, catalogue, prior, calibration).fits

    found = sum(alarms(field, 1.0) for field in range(SILENT_FIELDS))
    twins = 5
    twin = Twin(
        "errors of the masses three times as large as said", sum(alarms(f, 3.0) for f in range(twins)), twins, 4
    )
    return Row(
        "Nothing is wrong (fitted with masses): calibrators_check is silent",
        {"alarms": Number(found / SILENT_FIELDS)},
        f"{SILENT_FIELDS} fields of {SILENT_OBJECTS:,} objects, masses of the {SILENT_MEASURED} brightest",
        {"alarms": at_most(0.05)},
        twin,
        remark="at its level of 0.01, six alarms in 100 have a probability of 5e-4",
    )


def right_row(results: list[Result]) -> Row:
    """The right model under a known relation: right masses, no alarm; the twin is the wrong scatter."""
    right, wrong = (
        next(r for r in results if r.mode == "known" and r.case.name == name)
        for name in (CASES[0].name, CASES[-1].name)
    )
    ranges = {"within 68 %": (0.67, 0.69), "within 95 %": (0.944, 0.956), "mean PIT": (0.49, 0.51)}
    seen = any(not low <= wrong.numbers[name].value <= high for name, (low, high) in ranges.items())
    return Row(
        "Nothing is wrong (known): the masses are right and the check is silent",
        {**right.numbers, "alarms": Number(right.alarms / right.fields)},
        f"{right.fields} fields",
        ranges | {"alarms": at_most(0.1)},
        Twin(f"{wrong.case.name}: outside of these ranges", int(seen), 1, 1),
    )


def run(quick: bool) -> Section:
    size = Size(2, 1000, 1) if quick else Size(10, 4000, 5)
    cases = [CASES[i] for i in (0, 7, 11)] if quick else CASES
    modes = MODES[:1] if quick else MODES
    prior = mass_prior("Tinker08", "200m")
    results = [
        result(case, mode, size, prior) for mode in modes for case in cases if mode == "known" or not case.assumed
    ]
    rows = [right_row(results), definitions_row()] + ([] if quick else [whole_check_row(prior)])
    rows += [r.row() for r in results if r.case.name != "nothing" or r.mode != "known"]
    counts = []
    for mode in modes:
        harmed = [r for r in results if r.mode == mode and r.harmed]
        silent, hidden = (sum(not r.noticed and r.hidden is kind for r in harmed) for kind in (False, True))
        counts.append(f"{silent + hidden} of {len(harmed)} harms ({mode}), {hidden} of which no test could notice")
    return Section(
        "misspecification",
        "When the model is wrong",
        f"Fields of {size.objects:,} objects (Tinker08 200m, L ~ M^1.3 with scatter 0.3, errors of 0.1, z from 0.1 to "
        "1) with one thing wrong, analysed as if nothing were: with the relation *known*; *fitted* to the field's own "
        f"luminosities; and *fitted with masses*, {MEASURED} measured ones of its brightest objects (error "
        f"{SIGMA_MASS}). The check of the first two is `prior_check`, that of the third `calibrators_check`: both need "
        "no truth. The bias is the mean of (posterior mean - truth) in ln M; errors are from the scatter between "
        "fields. Masses are *harmed* where their bias, or the coverage of the 68 % intervals, is off by more than "
        f"{HARM} and by three errors. A harm has to be noticed in {100 * NOTICED:.0f} % of the fields, unless the data "
        "do not show it: where a check is silent, the remark gives the power of the best test of the same data that is "
        "possible (Neyman & Pearson; `benchmarks/validate/visible.py`), one that knows the fault and only has to "
        "decide whether it is there, at the false-alarm rate of the check, 0.01. Values below 0.2 are not told from "
        f"0.01. Where that power is below {NOTICED}, no check can be asked for more, and the harm is reported. **Not "
        f"noticed: {'; '.join(counts)}.** There a silent check is no proof of right masses. A fit absorbs into the "
        "relation what it can, and satellites leave the luminosities as they are, so that no check of luminosities can "
        "see them; measured masses are the remedy, as far as they reach. What is noticed may harm nothing: a limit in "
        "L_obs that is left out is no error for masses under a known relation.",
        rows,
        figures={
            "misspecification": (
                lambda: figure(results, modes),
                "Bias and coverage for each fault, by mode; filled: the check raised an alarm in at least "
                f"{100 * NOTICED:.0f} % of the fields, open: it did not. Grey: no harm.",
            )
        },
    )


@style.styled
def figure(results: list[Result], modes):
    names = list(dict.fromkeys(r.case.name for r in results))
    drawn = style.new_figure(style.PAGE, 1.0 + 0.3 * len(names))
    axes = drawn.subplots(1, 2, sharey=True)
    quantities = (("bias of ln M", 0.0, "bias of ln M"), ("within 68 %", 0.68, "coverage of the 68 % intervals"))
    for ax, (quantity, right, label) in zip(axes, quantities, strict=True):
        ax.axvspan(right - HARM, right + HARM, color="0.9", lw=0)
        for mode, colour, marker in zip(modes, (style.BLUE, style.VERMILLION, style.GREEN), "osD", strict=False):
            shift = 0.22 * (modes.index(mode) - (len(modes) - 1) / 2)
            for r in (r for r in results if r.mode == mode):
                number = r.numbers[quantity]
                fill = colour if r.noticed else "white"
                ax.errorbar(
                    number.value,
                    names.index(r.case.name) + shift,
                    xerr=number.error,
                    fmt=marker,
                    ms=4,
                    color=colour,
                    mfc=fill,
                    lw=0.8,
                )
            ax.plot([], [], marker, ms=4, color=colour, label=mode)
        ax.set_xlabel(label)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].legend(loc="best")
    return drawn
