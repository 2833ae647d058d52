"""Mass likelihoods from tangential shear profiles, against plain NumPy and Colossus; what is refused."""

import jax
import numpy as np
import pytest
from reference import shear_reference as slow
from scipy.interpolate import CubicSpline

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.halo import profiles
from massmap_jax.halo.cosmology import critical_surface_density, overdensity
from massmap_jax.likelihood import shear_model
from massmap_jax.likelihood.shear import ShearProfiles, told_of_fit, whitened
from massmap_jax.prior.mass_prior import MassPrior

PRIOR = MassPrior.default()
Z, Z_SOURCE, SCATTER_C = 0.3, 1.0, 0.345
CATALOGUE = HaloCatalogue.from_arrays(luminosity=[1.0, 2.0, 3.0], redshift=[0.2, Z, 0.4], sigma_ln_luminosity=0.05)
RADIUS = np.geomspace(0.3, 3.0, 6)
NODES = shear_model.LN_MASS_NODES
LN_MASS = np.log(5e14)


def measured(error, ln_mass=LN_MASS, away=0.3, seed=0):
    """A noisy profile of the reference and its covariance, with correlated errors."""
    shape = slow.reduced_shear(RADIUS, np.array([ln_mass]), slow.mean_ln_c(ln_mass, Z) + away * SCATTER_C, Z, Z_SOURCE)[
        0
    ]
    sd = error * RADIUS**-0.5
    covariance = sd[:, None] * sd * (0.3 + 0.7 * np.eye(RADIUS.size))
    return np.random.default_rng(seed).multivariate_normal(shape, covariance), covariance


def moments(values, nodes=NODES):
    """Mean and sd of ln M under a broad belief."""
    fine = np.linspace(nodes[0], nodes[-1], 20_001)
    ln_density = CubicSpline(nodes, values)(fine) - 0.5 * ((fine - LN_MASS) / 0.8) ** 2
    density = np.exp(ln_density - ln_density.max())
    mean = (density * fine).sum() / density.sum()
    return mean, np.sqrt((density * (fine - mean) ** 2).sum() / density.sum())


@pytest.mark.parametrize(
    ("error", "scatter", "scatter_c"),
    [(0.03, 0.0, SCATTER_C), (0.008, 0.2, SCATTER_C), (0.002, 0.2, SCATTER_C), (0.008, 0.2, 0.0)],
)
def test_likelihoods_against_plain_numpy(error, scatter, scatter_c):
    """To 1e-3 sd of the mass, for signals to noise of about 3, 12 and 45."""
    shear, covariance = measured(error)
    found = ShearProfiles.from_arrays(
        RADIUS, shear[None], covariance=covariance, source_redshift=Z_SOURCE, rows=[1]
    ).likelihoods(CATALOGUE, PRIOR, scatter=scatter, concentration_scatter=scatter_c)
    assert found.informs.tolist() == [False, True, False]
    wanted = slow.ln_likelihood(NODES, RADIUS, shear, covariance, Z, Z_SOURCE, scatter, scatter_c)
    mean, sd = moments(wanted)
    ours = moments(found.log_likelihood[1])
    assert abs(ours[0] - mean) < 1e-3 * sd and abs(ours[1] / sd - 1) < 1e-3
    # With the largest error this reaches masses whose bins lie inside the critical curve.
    near = wanted > wanted.max() - 10
    assert np.ptp((found.log_likelihood[1] - wanted)[near]) < 0.02


def test_missing_bins_angles_and_sigma_crit_say_the_same():
    shear, covariance = measured(0.01)
    sources = dict(source_redshift=Z_SOURCE, rows=[1])
    plain = ShearProfiles.from_arrays(RADIUS, shear[None], covariance=covariance, **sources)
    wider = np.full((8, 8), 7.0)
    place = np.array([0, 2, 3, 4, 6, 7])
    wider[np.ix_(place, place)] = covariance
    more, at = np.full((1, 8), np.nan), np.ones(8)
    more[0, place], at[place] = shear, slow.angle(RADIUS, Z)
    gaps = ShearProfiles.from_arrays(at, more, covariance=wider, radius_unit="arcmin", **sources)
    physical = ShearProfiles.from_arrays(
        RADIUS, shear[None], covariance=covariance, sigma_crit=slow.critical(Z, Z_SOURCE), rows=[1]
    )
    first = plain.likelihoods(CATALOGUE, PRIOR).log_likelihood[1]
    for other in (gaps, physical):
        np.testing.assert_allclose(other.likelihoods(CATALOGUE, PRIOR).log_likelihood[1], first, rtol=1e-6, atol=1e-5)


def test_an_error_is_a_diagonal_covariance_and_each_object_its_own():
    shears = np.stack([measured(0.01, ln_mass)[0] for ln_mass in np.log([2e14, 5e14, 9e14])])
    both = [
        ShearProfiles.from_arrays(RADIUS, shears, source_redshift=Z_SOURCE, **given).likelihoods(CATALOGUE, PRIOR)
        for given in (dict(error=0.01 * RADIUS), dict(covariance=np.diag((0.01 * RADIUS) ** 2)))
    ]
    np.testing.assert_array_equal(both[0].log_likelihood, both[1].log_likelihood)
    alone = ShearProfiles.from_arrays(RADIUS, shears[2:], error=0.01 * RADIUS, source_redshift=Z_SOURCE, rows=[2])
    np.testing.assert_allclose(
        alone.likelihoods(CATALOGUE, PRIOR).log_likelihood[2], both[0].log_likelihood[2], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("truncation", [None, 2.6])
def test_shear_is_that_of_the_profiles(truncation):
    """Inside and outside the critical curve."""
    radius, sigma_crit, mass, c, scale = np.array([0.01, 0.06, 0.4, 2.0]), 1.5e15, 1e15, 5.0, 0.4
    with jax.enable_x64(True):
        g = np.asarray(shear_model.tangential_shear(radius, sigma_crit, mass, c, scale, truncation, True))
        gamma = np.asarray(shear_model.tangential_shear(radius, sigma_crit, mass, c, scale, truncation, False))
        x = radius / scale
        sigma = profiles.nfw_sigma(x) if truncation is None else profiles.bmo_sigma(x, truncation * c)
    kappa = np.asarray(sigma) * mass / (2 * np.pi * scale**2 * (np.log(6) - 5 / 6)) / sigma_crit
    strong = gamma + kappa >= 1
    np.testing.assert_allclose(g, np.where(strong, gamma + kappa, gamma / (1 - kappa)), rtol=1e-12)
    assert strong.tolist() == [True, True, False, False] and 0 < g[3] < 0.1 and (np.diff(g) < 0).all()


def test_against_colossus():
    """Reduced shear to 1e-4, and critical surface densities."""
    pytest.importorskip("colossus", reason="Colossus is an extra (peers)")
    from colossus.cosmology import cosmology
    from colossus.halo import profile_nfw

    cosmology.setCosmology("mine", flat=True, H0=70.0, Om0=0.3, Ob0=0.05, sigma8=0.8, ns=0.95, relspecies=False)
    ours = "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95"
    radius = np.geomspace(0.1, 5.0, 30)
    sigma_crit = critical_surface_density(ours, Z, Z_SOURCE)
    for mass in (1e13, 3e14, 2e15):
        for c in (2.0, 5.0, 12.0):
            halo = profile_nfw.NFWProfile(M=mass * 0.7, c=c, z=Z, mdef="200m")
            # Surface densities in Msun h / kpc^2 and lengths in kpc / h, physical.
            kappa, gamma = (f(radius * 1e3 * 0.7) * 0.7e6 / sigma_crit for f in (halo.surfaceDensity, halo.deltaSigma))
            scale = np.cbrt(3 * mass / (4 * np.pi * overdensity("200m", ours, np.array(Z)))) / c
            with jax.enable_x64(True):
                g = np.asarray(shear_model.tangential_shear(radius, sigma_crit, mass, c, scale, None, True))
            weak = gamma + kappa < 1
            np.testing.assert_allclose(g[weak], (gamma / (1 - kappa))[weak], rtol=1e-4)


def test_a_signal_to_noise_decides_how_many_concentrations():
    numbers = shear_model.number_of_concentrations(np.array([1.0, 5.0, 9.0, 25.0, 100.0, 500.0]), SCATTER_C)
    assert numbers.tolist() == [11, 11, 21, 61, 321, 0]
    assert shear_model.number_of_concentrations(np.array([5.0]), 0.0).tolist() == [1]


def test_rows_that_cannot_be_used_inform_nothing():
    catalogue = HaloCatalogue.from_arrays(luminosity=[1.0, -99.0], redshift=[0.3, np.nan], sigma_ln_luminosity=0.05)
    profiles = ShearProfiles.from_arrays(RADIUS, [measured(0.01)[0]] * 2, error=0.01, source_redshift=1.0)
    assert profiles.likelihoods(catalogue, PRIOR).informs.tolist() == [True, False]


SHEAR = np.array([[0.10, 0.06, 0.03], [0.09, 0.05, 0.02], [0.08, 0.04, 0.01]])
GOOD = dict(radius=[0.3, 0.6, 1.2], shear=SHEAR, error=0.01, source_redshift=1.0)


def changed(value, row=1, column=2):
    values = SHEAR.copy()
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dict(shear=SHEAR[0]), r"shears have the shape \(3,\): give one row for each profile"),
        (dict(radius=[0.3, 0.6]), r"radii have the shape \(2,\), and the shears \(3, 3\)"),
        (dict(radius=[0.3, -0.6, 1.2]), "radii of bins are not above 0: 3 of 3 profiles, the first of row 0 .*, bin 1"),
        (dict(shear=changed(12.0)), "not between -1 and 1: 1 of 3 profiles, the first of row 1 of the catalogue, bin 2"),
        (dict(shear=changed(np.inf)), "not between -1 and 1: 1 of 3 profiles"),
        (dict(error=-0.01), "errors of shears are not above 0: 3 of 3 .*, bin 0"),
        (dict(error=[0.01, 0.0, 0.01]), "errors of shears are not above 0: 3 of 3 .*, bin 1"),
        (dict(error=[0.01, np.nan, 0.01]), "errors of shears are not above 0: 3 of 3 .*, bin 1"),
        (dict(error=None), "give error= or covariance=, one of them"),
        (dict(covariance=np.eye(3)), "give error= or covariance=, one of them"),
        (dict(error=None, covariance=np.full((3, 3), 1e-4)), "covariances are singular.*: 3 of 3 profiles"),
        (dict(error=None, covariance=np.diag([1e-4, -1e-4, 1e-4])), "errors of shears are not above 0: 3 of 3 .*, bin 1"),
        (dict(error=None, covariance=1e-4 * (2 * np.eye(3)[::-1] + np.eye(3))), "covariances are singular"),
        (dict(error=None, covariance=np.triu(np.full((3, 3), 0.5)) + np.eye(3)), "not finite or not symmetric"),
        (dict(source_redshift=None), "one of them: source_redshift="),
        (dict(sigma_crit=1e15), "one of them: source_redshift="),
        (dict(source_redshift=-1.0), "source redshifts are not above 0: 3 of 3"),
        (dict(source_redshift=None, sigma_crit=3e3), "densities are not from 1e.14 to 1e.21 .*: 3 of 3"),
        (dict(source_redshift=99.0), "source redshifts are above 20: 3 of 3 .*sigma_crit="),
        (dict(shear=[[0.1, np.nan, np.nan], [0.1, 0.05, np.nan]], rows=[4, 2]),
         "fewer bins with a shear .1. than parameters, mass and concentration: 1 of 2 profiles, the first of row 4"),
        (dict(shear=np.full((3, 3), np.nan)), "none of the 3 profiles has a shear"),
        (dict(rows=[0, 1, 1]), "give as many different row numbers"),
        (dict(radius_unit="kpc"), "radius_unit is 'kpc': give Mpc"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used_are_refused(given, told):
    with pytest.raises(MassmapError, match=told):
        ShearProfiles.from_arrays(**GOOD | given)


@pytest.mark.parametrize(
    ("given", "more", "told"),
    [
        (
            dict(source_redshift=0.3),
            {},
            "source in front of the lens: 2 of 3 profiles, the first of row 1 of .*, bin 0",
        ),
        (dict(rows=[0, 1, 3]), {}, "1 of 3 profiles are of rows beyond the catalogue's 3, the first of row 3"),
        (dict(radius=[300.0, 600.0, 1200.0]), {}, "median radius beyond 50 Mpc: 3 of 3"),
        (dict(radius=[3e-4, 6e-4, 1.2e-3]), {}, "no radius beyond 0.02 Mpc: 3 of 3"),
        (dict(radius=[2e-3, 3e-3, 5e-3], radius_unit="arcmin"), {}, "no radius beyond 0.02 Mpc: 3 of 3"),
        (dict(error=1e-5), {}, "signal to noise that is too high .*: 3 of 3"),
        (dict(shear=-SHEAR), {}, r"shears of the 3 profiles are 1\d of their errors below 0 .* change their sign"),
        ({}, dict(scatter=-0.2), "scatter of the lensing masses is -0.2: give 0, or 0.01"),
        ({}, dict(profile="einasto"), "profile 'einasto' is not known: give nfw or bmo1"),
        ({}, dict(profile="bmo1", truncation=0.0), "truncation is 0"),
        ({}, dict(concentration_scatter=-1.0), "concentration_scatter"),
        ({}, dict(cosmology="WMAP9"), "the lensing assumes the cosmology WMAP9"),
    ],
)
def test_what_does_not_fit_the_lenses_is_refused(given, more, told):
    with pytest.raises(MassmapError, match=told):
        ShearProfiles.from_arrays(**GOOD | given).likelihoods(CATALOGUE, PRIOR, **more)


def test_a_prior_without_a_definition_is_refused():
    from reference.tables import schechter_table

    with pytest.raises(MassmapError, match="a halo's radius does not follow from the mass definition 'unknown'"):
        ShearProfiles.from_arrays(**GOOD).likelihoods(CATALOGUE, MassPrior.from_table(*schechter_table()))


@pytest.mark.parametrize(
    ("times", "error", "words"),
    [
        (1.0, 1.0, ()),
        (1.0, 0.3, ("see whether these are tangential shears",)),
        (1.0, 8.0, ("fewer than chance gives",)),
        (0.0, 1.0, ("hardly more than upper limits",)),
    ],
)
def test_what_the_chi2_of_profiles_tells(times, error, words):
    """Of 40 profiles of 6 bins about halos that fit them, with errors that are right, too small or too large."""
    rng = np.random.default_rng(8)
    shear, errors = times * np.array([[0.1, 0.08, 0.06, 0.04, 0.03, 0.02]]), np.full((40, 6), 0.02 * error)
    noise = 0.02 * rng.normal(size=(40, 6))
    covariance = errors[:, :, None] ** 2 * np.eye(6)
    whitening, _ = whitened(covariance, shear + noise)
    # About the best halos a profile has as many degrees of freedom less as parameters, here one.
    chi2 = ((noise - noise.mean(axis=1, keepdims=True)) ** 2 / errors**2).sum(axis=1)
    found = told_of_fit(chi2, whitening, shear + noise)
    assert len(found) == len(words) and all(word in one for word, one in zip(words, found, strict=True)), found
