"""The NumPyro model of relation, population and all masses: integrated over the masses, it is what a fit maximises.

So both have the same posterior. It is not sampled here: what samples it is NumPyro's.
"""

import jax
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy.integrate import quad

import massmap_jax as mm

NUMBER = 60
BELIEFS = mm.RelationPrior.parse("alpha1=0:1,alpha2=1:0.3,alpha4=0,scatter=0.3:0.3,alpha3=2e14")
RICHNESS = mm.RelationPrior.parse("alpha1=3:1,alpha2=1:0.3,alpha4=0,scatter=0.3:0.3,alpha3=2e14")
# Where the two are compared.
AT = {
    "alpha1": 0.1, "alpha2": 0.8, "scatter": 0.3, "bias": 0.02, "alpha1_richness": 3.3, "alpha2_richness": 1.0,
    "scatter_richness": 0.25, "correlation_richness": -0.2, "population_centre": 33.0, "population_width": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def told():
    rng = np.random.default_rng(0)
    ln_mass = rng.normal(33.0, 0.4, NUMBER)
    ln_lum = 0.8 * (ln_mass - np.log(2e14)) + np.hypot(0.3, 0.05) * rng.normal(size=NUMBER)
    richness = np.exp(3.4 + (ln_mass - np.log(2e14)) + np.hypot(0.2, 0.1) * rng.normal(size=NUMBER))
    faint = richness < 25
    observables = mm.Observables.from_arrays(
        {"richness": np.where(faint, 25.0, richness)}, {"richness": 0.1}, upper_limit={"richness": faint}
    )
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum), redshift=np.full(NUMBER, 0.3), sigma_ln_luminosity=0.05
    )
    measured = np.exp(ln_mass + 0.2 * rng.normal(size=NUMBER))
    measured[:15] = np.nan
    masses = mm.CalibrationMasses.from_arrays(mass=measured, sigma_ln_mass=0.2, bias="0:0.05", chosen_by="luminosity")
    options = {"calibration": masses, "population": mm.Population.gaussian(drift=False)}
    return (
        catalogue.with_observables(observables),
        mm.MassPrior.default(),
        options | {"observables": {"richness": RICHNESS}},
    )


def test_its_density_is_that_of_the_fit(told):
    """The integral over the mass of one object changes with the relation as the fit's likelihood does."""
    from massmap_jax.relation.joint_fit import likelihood_of, prepare

    catalogue, prior, options = told
    model = mm.calibrated_model(catalogue, prior, BELIEFS, **options)
    first = AT | {"e": np.zeros(NUMBER)}
    other = first | {"alpha2": 0.9, "correlation_richness": 0.3}
    found = []
    with jax.enable_x64(True):
        # The density of one object's e, with all others at 0, for each of three objects: a limit, a mass, neither.
        value = jax.jit(lambda values: log_density(model, (), {}, values)[0])
        for row in (0, 20, NUMBER - 1):

            def of_e(e, values, row=row):
                at = np.zeros(NUMBER)
                at[row] = e
                return float(value(values | {"e": at}))

            found.append([])
            for values in (first, other):
                top = of_e(0.0, values)
                area = quad(lambda e, v=values, t=top: np.exp(of_e(e, v) - t), -9, 9, epsabs=1e-9, limit=200)[0]
                found[-1].append(np.log(area))  # relative to the density at e = 0
        asked = catalogue, prior, BELIEFS, options["calibration"], options["population"]
        laws = {"richness": RICHNESS}
        from massmap_jax.relation.correlations import beliefs_about

        data, has_mass, chosen, joint, _ = prepare(*asked, laws, beliefs_about(("richness",), 2.0), None, "nuts")
        likelihood = likelihood_of(data, options["calibration"], has_mass, chosen, None, None)
        for row, areas in zip((0, 20, NUMBER - 1), found, strict=True):
            for values, area in zip((first, other), areas, strict=True):
                relation = joint.relation({p: v for p, v in values.items() if p != "e"})
                at_zero = float(likelihood.ln_joint(relation, np.zeros(likelihood.weight.size))[0][row])
                assert area + at_zero == pytest.approx(float(likelihood.ln_z(relation)[row]), abs=1e-3), row
