"""Linear noise and upper limits in a fit with measured masses: against sums over mass and luminosity, and on mocks."""

import jax
import numpy as np
import pytest
from scipy.stats import norm, skewnorm

import massmap_jax as mm
from massmap_jax.checks.linear_calibrators import noise_columns, under_linear
from massmap_jax.errors import MassmapError
from massmap_jax.relation.correlations import beliefs_about
from massmap_jax.relation.joint import JointPrior
from massmap_jax.relation.joint_fit import likelihood_of
from massmap_jax.relation.linear import LinearData

ALPHA3, PIVOT_Z = 3e14, 0.3
VALUES = {"alpha1": 1.0, "alpha2": 0.9, "alpha4": 0.0, "scatter": 0.3, "bias": -0.1, "mass_scatter": 0.15,
          "population_centre": 33.1, "population_drift_ln_z": 0.3, "population_drift_ln_1z": -0.4,
          "population_width": 0.35, "population_skewness": 2.5, "population_offset_2": 0.5, "population_width_2": 0.2,
          "population_logit_2": -0.6}  # fmt: skip
BELIEFS = "alpha1=0:3,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=3e14"
# Luminosity, its error, redshift, measured mass and its error: bright, at 5, 3 and 1 sigma, near and below zero.
OBJECTS = np.array([
    [4.0, 0.1, 0.2, 4e14, 0.2], [2.0, 0.4, 0.3, 2.5e14, 0.2], [2.0, 0.4, 0.3, np.nan, np.nan],
    [1.5, 0.5, 0.4, 3e14, 0.3], [0.6, 0.6, 0.25, np.nan, np.nan], [-0.4, 0.8, 0.2, 1.5e14, 0.4],
    [-0.8, 0.8, 0.35, np.nan, np.nan], [0.05, 0.9, 0.3, 1.5e14, 0.15], [8.0, 0.03, 0.3, np.nan, np.nan],
])  # fmt: skip
LOWEST, HIGHEST = np.log(3e13), np.log(5e15)
ln_z_of = jax.jit(lambda likelihood, relation: likelihood.ln_z(relation))


def hmf(ln_mass):
    """A sharp-edged mass function, in any normalisation and the same at all redshifts."""
    return np.exp(-1.2 * (ln_mass - 32) - np.exp(0.9 * (ln_mass - 34)))


PRIOR = mm.MassPrior.from_table(
    [0.0, 1.0],
    np.exp(np.linspace(LOWEST, HIGHEST, 800)),
    np.tile(hmf(np.linspace(LOWEST, HIGHEST, 800)), (2, 1)),
    per="ln_mass",
    support="sharp",
)
predicted = jax.jit(lambda relation, *data: jax.vmap(lambda *point: under_linear(relation, PRIOR, *point))(*data))


def population(kind, ln_mass, z):
    v = {p.removeprefix("population_"): x for p, x in VALUES.items()}
    shift = v["drift_ln_z"] * np.log(z / PIVOT_Z) + v["drift_ln_1z"] * np.log((1 + z) / (1 + PIVOT_Z))
    centre, width = v["centre"] + shift, v["width"]
    if kind == "fixed":
        density = hmf(ln_mass)
    elif kind == "hmf_completeness":
        density = hmf(ln_mass) * norm.cdf(ln_mass, centre, width)
    elif kind == "gaussian":
        return norm.pdf(ln_mass, centre, width)
    elif kind == "skew_normal":
        return skewnorm.pdf(ln_mass, v["skewness"], centre, width)
    else:
        share = 1 / (1 + np.exp(v["logit_2"]))
        return share * norm.pdf(ln_mass, centre, width) + (1 - share) * norm.pdf(
            ln_mass, centre + v["offset_2"], v["width_2"]
        )
    return density / np.trapezoid(density, ln_mass)


def sums(kind, correlation, chance, z, mass=np.nan, sigma_mass=np.nan):
    """ln of the integral of population x scatter of ln L and of ln M_obs x chance(L), by sums over ln M and ln L."""
    ln_mass = np.linspace(*(LOWEST, HIGHEST) if kind in ("fixed", "hmf_completeness") else (29.0, 37.0), 700)
    p = population(kind, ln_mass, z)
    mean = VALUES["alpha1"] + VALUES["alpha2"] * (ln_mass - np.log(ALPHA3))
    scatter, spread = VALUES["scatter"], np.hypot(VALUES["mass_scatter"], sigma_mass)
    if np.isfinite(mass):
        off = np.log(mass) - ln_mass - VALUES["bias"]
        p = p * norm.pdf(off, 0.0, spread)
        with_lum = correlation * scatter * VALUES["mass_scatter"]
        mean, scatter = mean + with_lum / spread**2 * off, np.sqrt(scatter**2 - (with_lum / spread) ** 2)
    u = np.linspace(-8.5, 8.5, 1201)
    lum = np.exp(mean[:, None] + scatter * u)
    given_mass = np.trapezoid(norm.pdf(u) * chance(lum), u, axis=1)
    return np.log(np.trapezoid(p * given_mass, ln_mass))


def prepared(catalogue, calibration, kind, selection=None, correlation=0.0):
    """The likelihood of all objects under one relation, and that relation."""
    form = mm.Population.parse("mixture:2" if kind == "mixture" else kind)
    beliefs = mm.RelationPrior.parse(BELIEFS)
    with jax.enable_x64(True):
        data = LinearData(catalogue, PRIOR, selection)
        has_mass = np.isfinite(calibration.ln_mass[data.rows])
        likelihood = likelihood_of(data, calibration, has_mass, np.ones_like(has_mass), selection, 0.15)
        joint = JointPrior.of(beliefs, calibration.beliefs, form, (33.0, PIVOT_Z), data.prior)
        values = {p: VALUES[p] for p in joint.names if p in VALUES and p in joint.free} | {"correlation": correlation}
        relation = joint.relation(values)
        order = np.concatenate([data.rows[has_mass], data.rows[~has_mass]])
        return likelihood, relation, order


def calibrated(rows, noise_kind="normal", **options):
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=rows[:, 0], sigma_luminosity=rows[:, 1], redshift=rows[:, 2], noise_kind=noise_kind
    )
    beliefs = {"bias": "-0.1:0.05", "scatter": "0.15:0.05", "scatter_correlation": "0.2:0.2"}
    calibration = mm.CalibrationMasses.from_arrays(
        mass=rows[:, 3], sigma_ln_mass=rows[:, 4], chosen_by="luminosity", **(beliefs | options)
    )
    return catalogue, calibration


@pytest.mark.parametrize(
    ("kind", "correlation"),
    [("gaussian", 0.4), ("fixed", 0.0), ("hmf_completeness", 0.3), ("skew_normal", -0.5), ("mixture", 0.0)],
)
def test_evidence_of_one_object(kind, correlation):
    catalogue, calibration = calibrated(OBJECTS)
    likelihood, relation, order = prepared(catalogue, calibration, kind, correlation=correlation)
    with jax.enable_x64(True):
        found = np.asarray(ln_z_of(likelihood, relation))[: len(OBJECTS)]
    for row, value in zip(order, found, strict=True):
        lum, error, z, mass, sigma_mass = OBJECTS[row]
        # Where noise is so small that it counts as lognormal, per ln L.
        unit = lum if lum / error > 200 else 1.0
        expected = sums(kind, correlation, lambda x: unit * norm.pdf(lum, x, error), z, mass, sigma_mass)  # noqa: B023
        assert value == pytest.approx(expected, abs=5e-4), row


def test_evidence_of_a_limit():
    """An upper limit, with its own error, of objects with and without a measured mass."""
    rows = OBJECTS[[1, 2, 4, 5]] + np.array([0.5, 0, 0, 0, 0])
    rows[3, 0] = 0.2
    catalogue, calibration = calibrated(rows, "upper_limit")
    likelihood, relation, order = prepared(catalogue, calibration, "skew_normal", correlation=0.4)
    with jax.enable_x64(True):
        found = np.asarray(ln_z_of(likelihood, relation))[: len(rows)]
    for row, value in zip(order, found, strict=True):
        lum, error, z, mass, sigma_mass = rows[row]
        expected = sums("skew_normal", 0.4, lambda x: norm.cdf(lum, x, error), z, mass, sigma_mass)  # noqa: B023
        assert value == pytest.approx(expected, abs=4e-3), row


@pytest.mark.parametrize(
    ("kind", "selection"),
    [
        ("fixed", mm.SignalToNoiseLimit(2.5)),
        ("hmf_completeness", mm.FluxLimit(1.2)),
        ("gaussian", mm.SignalToNoiseLimit(2.5)),
    ],
)
def test_chance_to_be_in_the_catalogue(kind, selection):
    """It is that of any luminosity and mass at the redshift and error of the object, whatever it has itself."""
    rows = OBJECTS[[0, 1, 2, 3, 8]]
    catalogue, calibration = calibrated(rows)
    with_limit, relation, order = prepared(catalogue, calibration, kind, selection)
    without, _, _ = prepared(catalogue, calibration, kind)
    with jax.enable_x64(True):
        found = np.asarray(ln_z_of(without, relation) - ln_z_of(with_limit, relation))[: len(rows)]
    for row, value in zip(order, found, strict=True):
        error, z = rows[row, 1:3]
        limit = 2.5 * error if isinstance(selection, mm.SignalToNoiseLimit) else 1.2
        expected = sums(kind, 0.0, lambda x: norm.sf(limit, x, error), z)  # noqa: B023
        assert value == pytest.approx(expected, abs=5e-4), row


def test_more_objects_than_can_be_fitted_one_by_one(monkeypatch):
    monkeypatch.setattr("massmap_jax.relation.joint_fit._MOST_LINEAR", 30)
    catalogue, calibration = calibrated(np.tile(OBJECTS[[0, 1, 3, 5]], (9, 1)))
    with pytest.raises(MassmapError, match="36 are more than the 30 that are fitted one by one"):
        mm.fit_relation(catalogue, PRIOR, BELIEFS, calibration=calibration)


def test_density_at_one_mass():
    """What the NumPyro model samples integrates to the evidence."""
    catalogue, calibration = calibrated(OBJECTS)
    likelihood, relation, order = prepared(catalogue, calibration, "gaussian", correlation=0.4)
    e = np.linspace(-14, 14, 561)
    with jax.enable_x64(True):
        ln_z = np.asarray(ln_z_of(likelihood, relation))
        at = jax.jit(jax.vmap(lambda e: likelihood.ln_joint(relation, jax.numpy.full(ln_z.size, e))[0]))
        ln_density = np.asarray(at(e))
    area = np.trapezoid(np.exp(ln_density - ln_z), e, axis=0)[: len(order)]
    np.testing.assert_allclose(area, 1.0, atol=2e-3)


def test_predicted_mass_at_given_luminosity():
    """Each measured mass as one draw predicts it, and the luminosity, against sums over mass and luminosity."""
    rows = OBJECTS[[1, 3, 5, 7]]
    catalogue, calibration = calibrated(rows)
    _, relation, _ = prepared(catalogue, calibration, "gaussian", correlation=0.6)
    with jax.enable_x64(True):
        data = *noise_columns(catalogue, np.arange(4)), calibration.ln_mass, calibration.sigma, catalogue.redshift
        pit, ln_lum, both = predicted(relation, *data)
    ln_mass, u = np.linspace(29.0, 37.0, 1500), np.linspace(-8.5, 8.5, 1201)
    mean = VALUES["alpha1"] + VALUES["alpha2"] * (ln_mass - np.log(ALPHA3))
    lum = np.exp(mean[:, None] + VALUES["scatter"] * u)
    for row, (value, error, z, mass, sigma_mass) in enumerate(rows):
        density = population("gaussian", ln_mass, z)[:, None] * norm.pdf(u)
        of_both = density * norm.pdf(value, lum, error)
        of_mass = norm(
            ln_mass[:, None] + VALUES["bias"] + 0.6 * VALUES["mass_scatter"] * u,
            np.hypot(0.8 * VALUES["mass_scatter"], sigma_mass),
        )
        at_mass = (of_both * of_mass.cdf(np.log(mass))).sum() / of_both.sum()
        at_lum = (density * norm.cdf(value, lum, error)).sum() / density.sum()
        np.testing.assert_allclose(pit[row, :2], [at_mass, at_lum], atol=1e-3)
        expected = sums("gaussian", 0.6, lambda x: norm.pdf(value, x, error), z, mass, sigma_mass)  # noqa: B023
        without = sums("gaussian", 0.6, lambda x: norm.pdf(value, x, error), z)  # noqa: B023
        assert float(both[row] - ln_lum[row]) == pytest.approx(expected - without, abs=2e-3)


# A further observable of the objects above, of a slope, scatter and correlations of its own; one lacks a luminosity.
RICHNESS = {"alpha1": 3.0, "alpha2": 1.1, "alpha4": 0.4, "scatter": 0.25}
WITH_LUM, WITH_MASS = 0.5, 0.4
RICHNESSES = np.array([30.0, 20.0, 15.0, np.nan, 10.0, 14.0, 9.0, np.nan, 45.0])
ERRORS = np.linspace(0.1, 0.4, 9)


def with_richness(rows, richness=RICHNESSES):
    catalogue, calibration = calibrated(rows)
    observables = mm.Observables.from_arrays({"richness": richness}, {"richness": ERRORS[: len(rows)]})
    return catalogue.with_observables(observables), calibration


def prepared_with_richness(catalogue, calibration):
    beliefs = mm.RelationPrior.parse(BELIEFS)
    laws = {"richness": mm.RelationPrior.parse("alpha1=3:1,alpha2=1:0.5,alpha4=0:1,scatter=0.3:0.3,alpha3=3e14")}
    with jax.enable_x64(True):
        data = LinearData(catalogue.seen_by(("richness",)), PRIOR)
        has_mass = np.isfinite(calibration.ln_mass[data.rows])
        likelihood = likelihood_of(data, calibration, has_mass, np.ones_like(has_mass), None, 0.15)
        correlations = beliefs_about(("richness",), 2.0)
        asked = calibration.beliefs, mm.Population.gaussian(), (33.0, PIVOT_Z), data.prior, None, laws, correlations
        joint = JointPrior.of(beliefs, *asked)
        values = {p: VALUES[p] for p in joint.names if p in VALUES and p in joint.free}
        values |= {f"{p}_richness": v for p, v in RICHNESS.items()}
        values |= {"correlation": WITH_MASS, "correlation_richness": WITH_LUM}
        relation = joint.relation(values)
    return likelihood, relation, np.concatenate([data.rows[has_mass], data.rows[~has_mass]])


def grid_with_richness(catalogue, row):
    """Density of ln M and y = ln L given the richness, on a grid; mean and spread of ln M_obs there but for its error."""
    ln_mass, u = np.linspace(29.0, 37.0, 1201)[:, None], np.linspace(-9.0, 9.0, 901)
    z, x = catalogue.redshift[row], ln_mass - np.log(ALPHA3)
    mean, scatter = VALUES["alpha1"] + VALUES["alpha2"] * x, VALUES["scatter"]
    density, y = population("gaussian", ln_mass, z) * norm.pdf(u), mean + scatter * u
    richness, error = RICHNESSES[row], ERRORS[row]
    if np.isfinite(richness):
        own = RICHNESS["alpha1"] + RICHNESS["alpha2"] * x + RICHNESS["alpha4"] * np.log1p(z)
        own = own + WITH_LUM * RICHNESS["scatter"] * u
        density = density * norm.pdf(np.log(richness), own, np.hypot(RICHNESS["scatter"] * np.sqrt(0.75), error))
    of_mass = ln_mass + VALUES["bias"] + WITH_MASS * VALUES["mass_scatter"] * u
    rest = VALUES["mass_scatter"] * np.sqrt(1 - WITH_MASS**2)
    step = (ln_mass[1, 0] - ln_mass[0, 0]) * (u[1] - u[0])
    return density * step, np.exp(y), of_mass, rest


def test_evidence_beside_a_further_observable():
    """It knows the luminosity, the richness and the measured mass, whatever of them there is, and their correlations."""
    rows = OBJECTS.copy()
    rows[6, :2] = np.nan
    catalogue, calibration = with_richness(rows)
    likelihood, relation, order = prepared_with_richness(catalogue, calibration)
    e = np.linspace(-14, 14, 561)
    with jax.enable_x64(True):
        found = np.asarray(ln_z_of(likelihood, relation))
        at = jax.jit(jax.vmap(lambda e: likelihood.ln_joint(relation, jax.numpy.full(found.size, e))[0]))
        area = np.trapezoid(np.exp(np.asarray(at(e)) - found), e, axis=0)[: len(rows)]
    for row, value in zip(order, found, strict=False):
        lum, error, _, mass, sigma_mass = rows[row]
        density, true_lum, of_mass, rest = grid_with_richness(catalogue, row)
        if np.isfinite(lum):
            # Where noise is so small that it counts as lognormal, per ln L.
            density = density * norm.pdf(lum, true_lum, error) * (lum if lum / error > 200 else 1.0)
        if np.isfinite(mass):
            density = density * norm.pdf(np.log(mass), of_mass, np.hypot(rest, sigma_mass))
        assert value == pytest.approx(np.log(density.sum()), abs=1e-3), row
    np.testing.assert_allclose(area, 1.0, atol=2e-3)


def test_predicted_mass_beside_a_further_observable():
    index = np.array([1, 3, 5, 7])
    catalogue, calibration = with_richness(OBJECTS)
    _, relation, _ = prepared_with_richness(catalogue, calibration)
    with jax.enable_x64(True):
        seen = catalogue.seen_by(("richness",))
        data = (
            *noise_columns(seen, index),
            *(a[index] for a in (calibration.ln_mass, calibration.sigma, catalogue.redshift)),
        )
        data = jax.tree.map(jax.numpy.asarray, data)
        pit, ln_lum, both = predicted(relation, *data)
    for place, row in enumerate(index):
        lum, error, _, mass, sigma_mass = OBJECTS[row]
        density, true_lum, of_mass, rest = grid_with_richness(catalogue, row)
        of_both = density * norm.pdf(lum, true_lum, error)
        own = norm(of_mass, np.hypot(rest, sigma_mass))
        at_mass = (of_both * own.cdf(np.log(mass))).sum() / of_both.sum()
        assert pit[place, 0] == pytest.approx(at_mass, abs=1e-3)
        expected = np.log((of_both * own.pdf(np.log(mass))).sum() / of_both.sum())
        assert float(both[place] - ln_lum[place]) == pytest.approx(expected, abs=2e-3)


def test_a_limit_of_another_observable():
    """The two together have no integral: a good signal to noise counts as lognormal, another is refused."""
    rows = OBJECTS[[0, 1, 3, 5]]
    catalogue, calibration = calibrated(rows)
    limited = mm.Observables.from_arrays({"richness": [20.0] * 4}, {"richness": 0.2}, upper_limit={"richness": [1] * 4})
    catalogue = catalogue.with_observables(limited)
    with pytest.raises(MassmapError, match=r"3 objects have linear noise of the luminosity.*first row 1"):
        prepared_with_richness(catalogue, calibration)
    rest = mm.CalibrationMasses.from_arrays(mass=rows[:1, 3], sigma_ln_mass=rows[:1, 4])
    likelihood, _, _ = prepared_with_richness(catalogue.subset([0]), rest)
    assert not likelihood.noise.given.any()


def test_a_fit_with_a_limit_in_signal_to_noise():
    """It ends at the truth; the twin, with a limit that all objects would pass, does not.

    Squared distances are chi-square distributed with three degrees of freedom: above 40 by chance in 1e-8. Of the twin
    they are 135 on average for 300 objects.
    """
    rng, size = np.random.default_rng(5), 3000
    z, ln_mass, error = (
        rng.uniform(0.1, 0.4, size),
        rng.normal(33.0, 0.5, size),
        np.exp(rng.normal(-0.1, 0.4, size)),
    )
    lum = np.exp(1.0 + 0.9 * (ln_mass - np.log(ALPHA3)) + 0.3 * rng.normal(size=size))
    observed, mass = lum + error * rng.normal(size=size), np.exp(ln_mass + 0.2 * rng.normal(size=size))
    mass[::2] = np.nan
    kept = np.flatnonzero(observed > 4 * error)[:250]
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=observed[kept], sigma_luminosity=error[kept], redshift=z[kept], noise_kind="normal"
    )
    masses = mm.CalibrationMasses.from_arrays(mass=mass[kept], sigma_ln_mass=0.2, chosen_by="luminosity")

    def distance(snr_min):
        fit = mm.fit_relation(
            catalogue,
            PRIOR,
            BELIEFS,
            selection=mm.SignalToNoiseLimit(snr_min),
            calibration=masses,
            population=mm.Population.gaussian(drift=False),
            num_draws=400,
        )
        draws = np.stack([np.asarray(fit.draws.parameter(p)) for p in ("alpha1", "alpha2", "scatter")])
        off = np.array([1.0, 0.9, 0.3]) - draws.mean(axis=1)
        return off @ np.linalg.solve(np.cov(draws), off)

    assert distance(4.0) < 40 < distance(1e-3)
