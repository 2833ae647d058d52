"""The NumPyro model of relation, population and all masses agrees with the fit, in which masses are marginalised."""

import warnings

import jax
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS, init_to_value
from numpyro.infer.util import log_density
from scipy.integrate import quad

import massmap_jax as mm

NUMBER = 60
BELIEFS = mm.RelationPrior.parse("alpha1=0:1,alpha2=1:0.3,alpha4=0,scatter=0.3:0.3,alpha3=2e14")
RICHNESS = mm.RelationPrior.parse("alpha1=3:1,alpha2=1:0.3,alpha4=0,scatter=0.3:0.3,alpha3=2e14")


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
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum), redshift=np.full(NUMBER, 0.3))
    measured = np.exp(ln_mass + 0.2 * rng.normal(size=NUMBER))
    measured[:15] = np.nan
    masses = mm.CalibrationMasses.from_arrays(mass=measured, sigma_ln_mass=0.2, bias="0:0.05", chosen_by="luminosity")
    options = {"calibration": masses, "population": mm.Population.gaussian(drift=False)}
    return catalogue.with_observables(observables), mm.MassPrior.default(), options | {"observables": {"richness": RICHNESS}}


@pytest.fixture(scope="module")
def fit(told):
    catalogue, prior, options = told
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Weighted to the exact posterior.
        return mm.fit_relation(catalogue, prior, BELIEFS, method="importance", num_draws=2000, **options)


def start_of(fit):
    return {p: float(fit.maximum.parameter(p)) for p in fit.free} | {"e": np.zeros(NUMBER)}


def test_its_density_is_that_of_the_fit(told, fit):
    """The integral over the mass of one object changes with the relation as the fit's likelihood does."""
    from massmap_jax.relation.joint_fit import likelihood_of, prepare

    catalogue, prior, options = told
    model = mm.calibrated_model(catalogue, prior, BELIEFS, **options)
    first, other = start_of(fit), start_of(fit) | {"alpha2": fit.mean["alpha2"] + 0.1}
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


@pytest.mark.slow
def test_nuts_agrees_with_the_fit(told, fit):
    catalogue, prior, options = told
    model = mm.calibrated_model(catalogue, prior, BELIEFS, **options)
    kernel = NUTS(model, dense_mass=[fit.free], init_strategy=init_to_value(values=start_of(fit)))
    chain = MCMC(kernel, num_warmup=300, num_samples=800, progress_bar=False)
    chain.run(jax.random.key(1))
    draws = chain.get_samples()
    for p in fit.free:
        sd = fit.sd[p]
        assert abs(float(draws[p].mean()) - fit.mean[p]) < 0.4 * sd, p
        assert 0.7 < float(draws[p].std()) / sd < 1.45, p
    posterior = mm.mass_posterior(
        catalogue, prior, fit.draws.thinned(200), relation_from="this_catalogue", calibration=options["calibration"]
    )
    order = np.argsort(~np.isfinite(options["calibration"].ln_mass), kind="stable")
    pull = (np.asarray(draws["ln_mass"]).mean(axis=0) - posterior.mean[order]) / posterior.sd[order]
    assert np.abs(pull).max() < 0.4
