"""Published mass corrections of ACT DR3 clusters (Hilton et al. 2018), reproduced from the uncorrected masses.

The sample is selected on signal to noise, so this tests code, not calibration.
"""

import numpy as np
import pytest

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation


@pytest.fixture(scope="module")
def clusters(public_data):
    path = public_data / "act_dr3" / "E-D56Clusters.fits"
    if not path.is_file():
        pytest.skip(f"ACT DR3 clusters not found at {path}")
    return path


@pytest.fixture(scope="module")
def published(clusters):
    """ln M500cUPP [Msun], the masses that Hilton et al. corrected with N(>M); NaN where there is none."""
    from astropy.table import Table

    mass = np.ma.filled(Table.read(clusters)["M500cUPP"].astype(float), np.nan)
    return np.log(1e14 * np.where(mass > 0, mass, np.nan))


@pytest.fixture(scope="module")
def catalogue(clusters):
    return read_catalogue(
        clusters,
        lum="M500cUnc",
        sigma_plus="M500cUnc_errPlus",
        sigma_minus="M500cUnc_errMinus",
        sigma_kind="linear",
        lum_scale=1e14,
        lum_unit="Msun",
    )


def prior_of_hilton(cumulative):
    from astropy.cosmology import FlatLambdaCDM

    return MassPrior.from_hmf(
        hmf_model="Tinker08",
        mass_definition="500c",
        transfer_model="EH",
        cosmology=FlatLambdaCDM(H0=70, Om0=0.3, Ob0=0.05, Tcmb0=2.725),
        sigma8=0.8,
        n_s=0.95,
        redshift=np.arange(0.0, 1.601, 0.05),
        log10_mass_range=(13.0, 16.0),
        cumulative=cumulative,
    )


@pytest.fixture(scope="module", params=[True, False], ids=["N(>M)", "dn/dlnM"])
def answer(request, catalogue):
    """Whether the prior is cumulative, and the posterior under it."""
    prior = prior_of_hilton(request.param)
    return request.param, mass_posterior(catalogue, prior, MassLuminosityRelation.identity(mass_definition="500c"))


def test_errors_are_half_the_log_interval(clusters, catalogue):
    from astropy.table import Table

    table = Table.read(clusters)
    mass, plus, minus = (
        np.asarray(table[name], float) for name in ("M500cUnc", "M500cUnc_errPlus", "M500cUnc_errMinus")
    )
    expected = (np.log1p(plus / mass) - np.log1p(-minus / mass)) / 2
    used = catalogue.usable
    np.testing.assert_allclose(catalogue.sigma_ln_lum[used], expected[used], rtol=1e-6)
    np.testing.assert_allclose(catalogue.ln_lum_obs[used], np.log(1e14 * mass[used]), rtol=1e-7)


def test_modes_reproduce_the_published_corrections(answer, catalogue, published):
    cumulative, posterior = answer
    used = posterior.usable & np.isfinite(published)
    assert len(posterior) == 182 and used.sum() > 170
    difference = (posterior.mode - published)[used]
    rms, mean = np.sqrt(np.mean(difference**2)), difference.mean()
    print(
        f"\n{'N(>M)' if cumulative else 'dn/dlnM'}: {used.sum()} clusters, mode - published in ln M: rms {rms:.5f}, "
        f"mean {mean:+.5f}, median {np.median(difference):+.5f}, {difference.min():+.5f} to {difference.max():+.5f}"
    )
    if cumulative:
        assert rms < 0.0025
        # Without the prior's pull the masses are those that went in: the test can fail.
        uncorrected = (catalogue.ln_lum_obs - published)[used]
        assert np.sqrt(np.mean(uncorrected**2)) > 0.05
    else:
        assert 0.012 < mean < 0.017


def test_the_mode_is_where_the_density_is_highest(answer):
    """The mode against log_pdf around it, for every tenth cluster."""
    _, posterior = answer
    rows = np.flatnonzero(posterior.usable)[::10]
    for row in rows:
        # A parabola over 0.4 sd, as float32 leaves no single highest point.
        grid = posterior.mode[row] + posterior.sd[row] * np.linspace(-0.2, 0.2, 201)
        _, ln_density = posterior.log_pdf([row], grid)
        slope, curvature = np.polynomial.Polynomial.fit(grid - posterior.mode[row], ln_density[0], 2).convert().coef[1:]
        assert curvature < 0
        assert -slope / (2 * curvature) == pytest.approx(0, abs=5e-4)
