"""Masses from several observables: against linear algebra, object by object, whatever of them is missing or a limit."""

import dataclasses

import jax
import numpy as np
import pytest
from reference import several_reference as reference
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError

NAMES = ("richness", "y_sz")
LAWS = (
    {"alpha1": 1.0, "alpha2": 1.3, "alpha4": 2.0, "scatter": 0.4, "alpha3": 2e14},
    {"alpha1": 3.4, "alpha2": 0.9, "alpha4": 0.3, "scatter": 0.3, "alpha3": 1e14},
    {"alpha1": 0.5, "alpha2": 1.7, "alpha4": 0.7, "scatter": 0.2, "alpha3": 3e14},
)
SCATTERS = np.array([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
ERRORS = np.array([[1, 0.3, 0.0], [0.3, 1, 0.1], [0.0, 0.1, 1]])
# What each object has: 0 missing, 1 measured, 2 upper limit, 3 lower limit; the luminosity first.
KINDS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0], [1, 2, 1], [1, 1, 3], [0, 2, 1]])


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.default()


def catalogue_of(kinds=KINDS, seed=0, *, positions=False):
    rng = np.random.default_rng(seed)
    number = len(kinds)
    z = rng.uniform(0.1, 0.9, number)
    ln_mass = rng.normal(33.0, 0.3, number)
    sigma = rng.uniform(0.05, 0.3, (number, 3))
    y = np.stack([law["alpha1"] + law["alpha2"] * (ln_mass - np.log(law["alpha3"])) + law["alpha4"] * np.log1p(z)
                  + 0.3 * rng.normal(size=number) for law in LAWS], axis=1)  # fmt: skip
    shown = np.where(kinds == 0, np.nan, np.exp(y))
    observables = mm.Observables.from_arrays(
        dict(zip(NAMES, shown[:, 1:].T, strict=True)),
        dict(zip(NAMES, sigma[:, 1:].T, strict=True)),
        upper_limit={name: kinds[:, i] == 2 for i, name in enumerate(NAMES, start=1)},
        lower_limit={name: kinds[:, i] == 3 for i, name in enumerate(NAMES, start=1)},
        error_correlation=ERRORS,
    )
    where = {"ra": rng.uniform(10, 10.5, number), "dec": rng.uniform(0, 0.5, number)} if positions else {}
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=shown[:, 0], redshift=z, sigma_ln_luminosity=sigma[:, 0], **where
    )
    return catalogue.with_observables(observables), y, sigma


def relation_of(**changes):
    others = {name: mm.MassLuminosityRelation(**law) for name, law in zip(NAMES, LAWS[1:], strict=True)}
    given = {**LAWS[0], "others": others, "scatter_correlation": SCATTERS} | changes
    return mm.MultiObservableRelation(**given)


def ln_likelihood(t, catalogue, y, sigma, row, kind):
    """ln p of all that is known of one object, at masses t."""
    z, pivot = catalogue.redshift[row], np.log(1e14)
    scatter, slope = (np.array([law[p] for law in LAWS]) for p in ("scatter", "alpha2"))
    covariance = SCATTERS * np.outer(scatter, scatter) + ERRORS * np.outer(sigma[row], sigma[row])
    at_pivot = [
        law["alpha1"] + law["alpha2"] * (pivot - np.log(law["alpha3"])) + law["alpha4"] * np.log1p(z) for law in LAWS
    ]
    return reference.ln_density(t, y[row], kind, at_pivot, slope, covariance, pivot)


def test_against_linear_algebra(prior):
    catalogue, y, sigma = catalogue_of()
    found = mm.mass_posterior(catalogue, prior, relation_of())
    t = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 20_001)
    for row, kind in enumerate(KINDS):
        ln_prior = np.asarray(prior.log_prob(t, np.full(t.size, catalogue.redshift[row])))
        mean, sd, ln_evidence = reference.moments(t, ln_prior, ln_likelihood(t, catalogue, y, sigma, row, kind))
        assert abs(found.mean[row] - mean) < 1e-3 * sd, (row, kind)
        assert abs(found.sd[row] / sd - 1) < 1e-3, (row, kind)
        # A density per L_obs, and per unit ln of the others.
        per_lum = y[row, 0] if kind[0] else 0.0
        assert found.log_evidence[row] == pytest.approx(ln_evidence - per_lum, abs=1e-3), (row, kind)


def test_linear_noise_of_the_luminosity(prior):
    """Of any signal to noise and below zero, and upper limits, beside the others: against sums over the luminosity."""
    kinds = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]])
    catalogue, y, sigma = catalogue_of(kinds)
    error = np.exp(y[:, 0]) * np.array([0.3, 0.2, 0.5, 0.15, 0.3, 1.5, 0.05, 0.003])
    lum = np.where(kinds[:, 0] == 0, np.nan, np.exp(y[:, 0]))
    lum[5] = -0.4 * error[5]
    others = dataclasses.replace(catalogue.observables, error_correlation=np.eye(3))
    scatter, slope, first, rise = (
        np.array([law[p] for law in LAWS]) for p in ("scatter", "alpha2", "alpha1", "alpha4")
    )
    covariance = SCATTERS * np.outer(scatter, scatter)
    t, u = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 2001), np.linspace(-8, 8, 801)
    for kind, chance in (("normal", norm.pdf), ("upper_limit", norm.cdf)):
        used = np.arange(len(kinds)) if kind == "normal" else np.array([0, 1, 2, 3, 4])
        measured = mm.HaloCatalogue.from_arrays(
            luminosity=lum[used], redshift=catalogue.redshift[used], sigma_luminosity=error[used], noise_kind=kind
        )
        found = mm.mass_posterior(measured.with_observables(others.take(used)), prior, relation_of())
        for row in used:
            z, pivot = catalogue.redshift[row], np.array([law["alpha3"] for law in LAWS])
            mean = first + slope * (t[:, None] - np.log(pivot)) + rise * np.log1p(z)
            there = np.flatnonzero(kinds[row, 1:]) + 1
            own = covariance[np.ix_(there, there)] + np.diag(sigma[row, there] ** 2)
            off, to_lum = y[row, there] - mean[:, there], np.linalg.solve(own, covariance[there, 0])
            ln_like = -0.5 * np.sum(off * np.linalg.solve(own, off.T).T, axis=1)
            ln_like = ln_like - 0.5 * np.linalg.slogdet(2 * np.pi * own)[1]
            if kinds[row, 0]:
                true = mean[:, 0] + off @ to_lum
                spread = np.sqrt(covariance[0, 0] - to_lum @ covariance[there, 0])
                noise = chance(lum[row], np.exp(true[:, None] + spread * u), error[row])
                ln_like = ln_like + np.log(np.trapezoid(norm.pdf(u) * noise, u, axis=1) + 1e-300)
            ln_prior = np.asarray(prior.log_prob(t, np.full(t.size, z)))
            of_mean, sd, ln_evidence = reference.moments(t, ln_prior, ln_like)
            assert abs(found.mean[row] - of_mean) < 1e-3 * sd, (kind, row)
            assert abs(found.sd[row] / sd - 1) < 1e-3, (kind, row)
            # Of a limit, as near as its table is.
            assert found.log_evidence[row] == pytest.approx(ln_evidence, abs=1e-3 if kind == "normal" else 4e-3)


def test_linear_noise_beside_a_limit(prior):
    """Of a good signal to noise it counts as lognormal; of another, nothing is computed."""
    catalogue, y, _ = catalogue_of(np.array([[1, 2, 1], [1, 1, 1]]))
    lum, others = np.exp(y[:, 0]), dataclasses.replace(catalogue.observables, error_correlation=np.eye(3))

    def masses(relative_error):
        measured = mm.HaloCatalogue.from_arrays(
            luminosity=lum, redshift=catalogue.redshift, sigma_luminosity=relative_error * lum, noise_kind="normal"
        )
        return mm.mass_posterior(measured.with_observables(others), prior, relation_of())

    plain = mm.HaloCatalogue.from_arrays(
        luminosity=lum * np.exp(-1.5 * 0.06**2), redshift=catalogue.redshift, sigma_ln_luminosity=0.06
    )
    expected = mm.mass_posterior(plain.with_observables(others), prior, relation_of())
    np.testing.assert_allclose(masses(0.06).mean, expected.mean, atol=1e-3)
    with pytest.raises(MassmapError, match=r"1 objects have linear noise of the luminosity.*first row 0"):
        masses(0.2)


def test_draws_are_mixed(prior):
    """Two relations, weighted by what they say of each object, against the mean of the two posteriors."""
    catalogue, _, _ = catalogue_of(KINDS[:4])
    others = {name: mm.MassLuminosityRelation(**law | {"alpha1": [law["alpha1"], law["alpha1"] + 0.2]})
              for name, law in zip(NAMES, LAWS[1:], strict=True)}  # fmt: skip
    both = relation_of(alpha1=[1.0, 1.3], others=others)
    each = [mm.mass_posterior(catalogue, prior, both.draw(i)) for i in (0, 1)]
    fixed = mm.mass_posterior(catalogue, prior, both, relation_from="fixed_draws")
    np.testing.assert_allclose(fixed.mean, 0.5 * (each[0].mean + each[1].mean), atol=2e-4)
    share = 1 / (1 + np.exp(each[0].log_evidence - each[1].log_evidence))
    updated = mm.mass_posterior(catalogue, prior, both, relation_from="other_data")
    expected = (1 - share) * each[0].mean + share * each[1].mean
    np.testing.assert_allclose(updated.mean, expected, atol=5e-4)


def test_one_observable_is_the_luminosity(prior):
    """An observable that is the luminosity under another name gives the same masses as the luminosity."""
    catalogue, _, _ = catalogue_of(np.ones((5, 3), int))
    plain = mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation(**LAWS[0]))
    sigma = catalogue.sigma_ln_lum
    alone = mm.HaloCatalogue.from_arrays(
        luminosity=np.full(5, np.nan), redshift=catalogue.redshift, sigma_ln_luminosity=0.05
    ).with_observables(mm.Observables.from_arrays({"same": np.exp(catalogue.ln_lum_obs)}, {"same": sigma}))
    other = mm.MultiObservableRelation(**LAWS[1], others={"same": mm.MassLuminosityRelation(**LAWS[0])})
    found = mm.mass_posterior(alone, prior, other)
    np.testing.assert_allclose(found.mean, plain.mean, atol=1e-5)
    np.testing.assert_allclose(found.sd, plain.sd, rtol=1e-4)
    assert (found.flag == int(mm.Flag.NO_LUMINOSITY)).all()


def test_flags(prior):
    """Without a luminosity, an object needs one of the observables that the relation knows."""
    kinds = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 2, 0], [1, 0, 0]])
    catalogue, _, _ = catalogue_of(kinds)
    found = mm.mass_posterior(catalogue, prior, relation_of())
    no_lum, missing = int(mm.Flag.NO_LUMINOSITY), int(mm.Flag.LUM_MISSING)
    assert found.flag.tolist() == [0, no_lum, missing, missing, 0]
    assert np.isfinite(found.mean).tolist() == [True, True, False, False, True]
    # A relation of the luminosity alone makes nothing of the others.
    alone = mm.mass_posterior(catalogue, prior, mm.MassLuminosityRelation(**LAWS[0]))
    assert np.isfinite(alone.mean).tolist() == [True, False, False, False, True]


def test_map(prior):
    """The mean of a map is the sum of the mean masses, those of objects without a luminosity among them."""
    kinds = np.vstack([KINDS[[0, 1, 4]]] * 18)
    catalogue, _, _ = catalogue_of(kinds, positions=True)
    relation = relation_of()
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=10.0)
    found = mm.mass_map(jax.random.key(1), catalogue, prior, relation, grid, num_draws=400)
    expected = mm.mass_posterior(catalogue, prior, relation)
    assert found.nobj.sum() == np.isfinite(expected.mean).sum() == len(kinds)
    error = found.total_draws.std() / np.sqrt(400)
    assert abs(found.total_draws.mean() - expected.mean_mass.sum()) < 5 * error


WITH_LUMINOSITY_ALONE = {
    "quadrature": lambda c, p, r: mm.mass_posterior(c, p, r, method="quadrature"),
    "surface": lambda c, p, r: mm.mass_posterior(c, p, r, method="surface"),
    "models": lambda c, p, r: mm.sample_halo_masses(jax.random.key(0), c, p, r),
    "likelihood": lambda c, p, r: mm.log_likelihood(r, c, p),
    "no observables": lambda c, p, r: mm.mass_posterior(c.seen_by(()), p, r),
}


@pytest.mark.parametrize("what", WITH_LUMINOSITY_ALONE)
def test_what_takes_the_luminosity_alone_refuses(prior, what):
    catalogue, _, _ = catalogue_of(KINDS[:2])
    with pytest.raises(MassmapError, match="richness"):
        WITH_LUMINOSITY_ALONE[what](catalogue, prior, relation_of())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scatter_correlation": np.ones((3, 3))}, "positive definite"),
        ({"scatter_correlation": np.eye(2)}, "3 rows"),
        ({"others": {"richness": 0.3}}, "give a MassLuminosityRelation"),
        (
            {"others": {"richness": mm.MassLuminosityRelation(alpha1=[1.0, 2.0], alpha2=1, alpha3=1e14, scatter=0.1)}},
            "2 draws",
        ),
    ],
)
def test_relations_that_are_none(changes, match):
    with pytest.raises(MassmapError, match=match):
        relation_of(**({"scatter_correlation": None} | changes))
