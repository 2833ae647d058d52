"""Measurements of zero and less, which linear noise makes of faint objects: masses, likelihood, check and reading."""

import numpy as np
import pandas as pd
import pytest
from reference.linear_noise_reference import LinearNoise
from reference.moments import SharpMoments
from reference.prior_reference import PriorReference

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from relation.test_linear import LAW, ln_z, relation_of, table

SNR = np.array([-3.9, -1.7, -0.4, 0.0, 0.3, 6.0])
ERROR = np.array([0.2, 0.05, 0.4, 0.3, 0.1, 0.2])
Z = np.array([0.2, 0.5, 0.8, 0.3, 0.6, 0.4])


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.from_table(*table(), per="ln_mass", support="sharp")


@pytest.fixture(scope="module")
def reference():
    return PriorReference(*table(), per="ln_mass")


def catalogue(snr=SNR, error=ERROR, z=Z, **more):
    return mm.HaloCatalogue.from_arrays(
        luminosity=snr * error, redshift=z, sigma_luminosity=error, noise_kind="normal", **more
    )


@pytest.mark.parametrize("method", ["analytic", "quadrature"])
def test_masses_against_dense_sums(prior, reference, method):
    relation, objects = relation_of(), catalogue()
    assert objects.usable.all() and np.isnan(objects.ln_lum_obs[:4]).all() and np.isfinite(objects.ln_lum_obs[4:]).all()
    got = mm.mass_posterior(objects, prior, relation, method=method)
    for i in range(SNR.size):
        exact = SharpMoments(LinearNoise(reference, SNR[i] * ERROR[i], ERROR[i], Z[i], relation, "normal"))
        assert abs(got.mean[i] - exact.mean) < 1e-3 * exact.sd and abs(got.sd[i] / exact.sd - 1) < 1e-3
    # The twin: an upper limit at the same error is another statement.
    limits = mm.HaloCatalogue.from_arrays(
        luminosity=ERROR, redshift=Z, sigma_luminosity=ERROR, noise_kind="upper_limit"
    )
    assert np.abs(mm.mass_posterior(limits, prior, relation, method=method).mean - got.mean)[:2].min() > 0.05


@pytest.mark.parametrize("q", [-3.9, -2.1, -0.7, -1e-6])
@pytest.mark.parametrize("kind", ["normal", "above"])
def test_the_table_below_zero(q, kind):
    ln_function = {"normal": lambda r: -0.5 * r**2, "above": lambda r: np.log(_upper(-r))}[kind]
    x = np.linspace(-9, 9, 4001)
    for scatter in (0.05, 0.4, 1.3):
        ln_reference, place = (float(a) for a in linear_noise.reference(np.log(abs(q)), 1 / q))
        t = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
        found = np.asarray(linear_noise.kernel(kind, t, scatter, place), dtype=float)
        ratio = np.exp(ln_reference - t[:, None] + scatter * x)  # L / e
        exact = np.log(np.trapezoid(np.exp(ln_function(q - ratio) - 0.5 * x**2), x) / np.sqrt(2 * np.pi))
        # In units of the highest value, as for measurements above zero.
        np.testing.assert_allclose(np.exp(found - exact.max()), np.exp(exact - exact.max()), atol=3e-3)


def _upper(x):
    from scipy.special import ndtr

    return np.maximum(ndtr(x), 1e-300)


def test_ln_likelihood_against_dense_sums(prior, reference):
    for changes in ({}, {"alpha1": 0.3, "scatter": 0.5}):
        relation = relation_of(**changes)
        exact = sum(ln_z(reference, q * e, e, z, relation, "normal") for q, e, z in zip(SNR, ERROR, Z, strict=True))
        assert abs(float(mm.log_likelihood(relation, catalogue(), prior)) - exact) < 2e-3


def faint_survey(number=4_000):
    """Objects that were found in another way, whatever their luminosity: a third of it is below the noise."""
    rng = np.random.default_rng(3)
    reference = PriorReference(*table(), per="ln_mass")
    fine = np.linspace(reference.ln_mass[0], reference.ln_mass[-1], 4000)
    z = np.full(number, 0.4)
    density = np.exp(np.interp(fine, reference.ln_mass, reference.row(0.4)))
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    ln_mass = np.interp(rng.uniform(size=number), below / below[-1], fine)
    mean = np.asarray(relation_of().mean_ln_lum(ln_mass, z), dtype=float)
    lum = np.exp(mean + LAW["scatter"] * rng.normal(size=number))
    error = np.full(number, np.median(lum))
    return ln_mass, catalogue(lum / error + rng.normal(size=number), error, z)


def test_coverage_and_the_relation_of_a_noisy_survey(prior):
    ln_mass, objects = faint_survey()
    assert 0.1 < objects.is_below_zero().mean() < 0.4 and objects.usable.all()
    got = mm.mass_posterior(objects, prior, relation_of(), quantile_levels=(0.16, 0.84))
    inside = (ln_mass > got.quantiles[:, 0]) & (ln_mass < got.quantiles[:, 1])
    for chosen in (objects.is_below_zero(), ~objects.is_below_zero()):
        assert abs(inside[chosen].mean() - 0.68) < 5 * np.sqrt(0.68 * 0.32 / chosen.sum())
    check = mm.prior_check(objects, prior, relation_of())
    assert check.p_value > 1e-4

    # The normalisation where ln L is highest is the true one, to its error; without what is below zero it is not.
    def off(objects):
        step = 0.05
        at = [float(mm.log_likelihood(relation_of(alpha1=LAW["alpha1"] + d), objects, prior)) for d in (-step, 0, step)]
        curvature = (2 * at[1] - at[0] - at[2]) / step**2
        return (at[2] - at[0]) / (2 * step) / np.sqrt(curvature)

    assert abs(off(objects)) < 5 and off(objects.subset(~objects.is_below_zero())) > 10


def test_reading(tmp_path, prior):
    lum = np.array([3.0, -0.4, 0.0, -5.5, 2.0, -0.2])
    frame = pd.DataFrame({"flux": lum, "e_flux": [0.5, 0.5, 0.5, 1.0, 0.5, np.nan], "z": 0.3})
    frame.to_csv(tmp_path / "c.csv", index=False)
    bars = {"lum": "flux", "sigma": "e_flux", "sigma_kind": "linear"}
    read = mm.read_catalogue(tmp_path / "c.csv", **bars, noise="linear", lum_scale=10.0)
    assert read.usable.tolist() == [True, True, True, False, True, False]  # -5.5 is no noise, and no error is no error
    assert any(note.startswith("2 luminosities of zero or less") for note in read.notes)
    assert mm.Flag.LUM_NOT_POSITIVE in mm.Flag(int(read.flag[3]))
    plain = mm.HaloCatalogue.from_arrays(
        luminosity=10 * lum, redshift=np.full(6, 0.3), sigma_luminosity=10 * frame["e_flux"], noise_kind="normal"
    )
    relation = relation_of(alpha1=4.0)
    a, b = (mm.mass_posterior(c, prior, relation) for c in (read, plain))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-6)
    shifted = mm.mass_posterior(read.in_unit(0.1, ""), prior, relation_of(alpha1=4.0 - np.log(10)))
    np.testing.assert_allclose(shifted.mean, a.mean, rtol=1e-5)
    assert a.usable.sum() == 4 and a.mean[1] < a.mean[4] and np.isnan(a.to_pandas()["ln_lum_obs"][1])
    lognormal = mm.read_catalogue(tmp_path / "c.csv", **bars, lum_log="none")
    assert lognormal.usable.sum() == 2  # the twin: noise in ln L cannot take them


def test_bad_input(prior):
    with pytest.raises(MassmapError, match="sigma_luminosity is the error of luminosity= in its own unit"):
        mm.HaloCatalogue.from_arrays(luminosity=[1.0], redshift=[0.1], sigma_luminosity=[0.1])
    with pytest.raises(MassmapError, match="4 objects have a luminosity of zero or less, first row 0"):
        mm.log_likelihood(relation_of(), catalogue(), prior, mm.FluxLimit(0.01))
    flagged = catalogue(np.array([-4.1, 1.0]), np.array([1.0, -0.7]), np.array([0.2, 0.2]))
    assert flagged.flag.tolist() == [
        int(mm.Flag.LUM_NOT_POSITIVE),
        int(mm.Flag.LUM_NOT_POSITIVE | mm.Flag.SIGMA_NEGATIVE),
    ]
