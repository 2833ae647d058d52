"""How often `calibrators_check` raises an alarm, where nothing is wrong and where the scatter has another shape.

    PYTHONPATH=benchmarks:tests python benchmarks/programs/shape_power.py [--case 1 --fields 40 --measured 500]

Fields are those of benchmarks/validate/misspecification.py, where the cases are numbered: 0 nothing is wrong, 1 Student
with 4 degrees of freedom, 2 skewness 1, 3 a scatter that falls with mass. Prints, for the objects with a measured mass
chosen as the brightest and at random: the share of fields with an alarm, that by the place of the masses alone (all
that the check looked at before it knew shapes), and the mean score of each feature.
"""

import argparse
import warnings

import jax
import numpy as np
from validate.misspecification import BELIEFS, CASES, SIGMA_MASS, mass_prior, simulate

import massmap_jax as mm

OBJECTS = 4000


def check_of_field(case: int, field: int, chosen_by: str, measured: int, prior):
    truth, catalogue = simulate(CASES[case], np.random.default_rng((13, case, field)), OBJECTS)
    rng = np.random.default_rng((5, field))
    mass = np.full(OBJECTS, np.nan)
    brightest = chosen_by == "luminosity"
    chosen = np.argsort(-catalogue.ln_lum_obs)[:measured] if brightest else rng.choice(OBJECTS, measured, replace=False)
    mass[chosen] = np.exp(truth[chosen] + SIGMA_MASS * rng.normal(size=measured))
    masses = mm.CalibrationMasses.from_arrays(mass=mass, sigma_ln_mass=SIGMA_MASS, chosen_by=chosen_by)
    fit = mm.fit_relation(
        catalogue, prior, mm.RelationPrior.parse(BELIEFS), key=jax.random.key(field), num_draws=400,
        calibration=masses, population=mm.Population.fixed(),
    )  # fmt: skip
    return mm.calibrators_check(fit, catalogue, prior, masses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, default=1)
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--measured", type=int, default=500)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior = mass_prior("Tinker08", "200m")
    for chosen_by in ("luminosity", "random"):
        checks = [check_of_field(given.case, k, chosen_by, given.measured, prior) for k in range(given.fields)]
        place = np.mean([not check.in_place for check in checks])
        print(f"{CASES[given.case].name}; chosen by {chosen_by}, {given.fields} fields: alarms in"
              f" {np.mean([not check.fits for check in checks]):.3f}, by the place alone in {place:.3f}")  # fmt: skip
        scores = np.mean([check.shape_scores for check in checks], axis=0)
        print("  " + ", ".join(f"{name} {score:+.1f}" for name, score in zip(checks[0].features, scores, strict=True)))


if __name__ == "__main__":
    main()
