"""The mass function in JAX: against hmf, its gradients against differences, and the prior made from it."""

import jax
import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM, Planck15, Planck18

from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters, mass_function
from massmap_jax.halo.mass_function import hmf_table
from massmap_jax.prior.mass_prior import MassPrior

LOW_MATTER = FlatLambdaCDM(H0=62, Om0=0.22, Ob0=0.035, Tcmb0=2.725)
COSMOLOGIES = {
    "Planck18": ("Planck18", {}),  # with massive neutrinos
    "WMAP9": ("WMAP9", {}),
    "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95": ("H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95", {}),
    "low matter": (LOW_MATTER, {"sigma8": 0.95, "n_s": 1.02}),
}
REDSHIFT = np.array([0.0, 0.3, 1.0, 2.0, 4.0])
# Largest difference in ln p up to 3e15 Msun, at each redshift.
TOLERANCE = np.array([1e-5, 1e-5, 2e-5, 4e-5, 1e-4])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normalised(ln_n, ln_mass):
    top = ln_n.max(axis=1, keepdims=True)
    return ln_n - top - np.log(np.trapezoid(np.exp(ln_n - top), ln_mass, axis=1))[:, None]


@pytest.mark.parametrize(
    ("name", "fit", "definition"),
    [
        ("Planck18", "Tinker10", "200m"),
        ("Planck18", "Tinker08", "vir"),
        ("WMAP9", "Tinker08", "500c"),
        ("H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95", "Tinker08", "500c"),
        ("low matter", "Tinker10", "200c"),
    ],
)
def test_mass_function_is_that_of_hmf(name, fit, definition):
    cosmology, more = COSMOLOGIES[name]
    _, mass, density, _ = hmf_table(fit, cosmology, definition, redshift=REDSHIFT, dlog10_mass=0.1, **more)
    parameters = CosmologyParameters.of(cosmology, **more)
    found = np.asarray(mass_function(parameters, REDSHIFT, np.log(mass), fit=fit, mass_definition=definition))
    used = mass < 3e15
    difference = (normalised(found, np.log(mass)) - normalised(np.log(density), np.log(mass)))[:, used]
    print(name, fit, definition, np.abs(difference).max(axis=1))
    assert (np.abs(difference).max(axis=1) < TOLERANCE).all()
    # Not only the shape; at z = 0 the tabulated normalisation of Tinker et al. 2010 has three digits.
    first = 1 if fit == "Tinker10" else 0
    np.testing.assert_allclose(found[first:, used], np.log(density)[first:, used], atol=2e-4)


@pytest.mark.parametrize("flrw", [Planck18, Planck15, LOW_MATTER])
def test_expansion_is_that_of_astropy(flrw):
    parameters = CosmologyParameters.of(flrw, sigma8=0.8, n_s=0.96)
    z = np.array([0.0, 0.5, 3.0, 30.0, 1100.0])
    np.testing.assert_allclose(parameters.efunc(z), flrw.efunc(z), rtol=1e-5)


@pytest.mark.parametrize(("fit", "definition"), [("Tinker10", "200m"), ("Tinker08", "500c")])
def test_gradients_are_those_of_finite_differences(fit, definition):
    ln_mass, z = np.log([1e11, 1e13, 1e14, 1e15]), np.array([0.0, 0.4, 1.5])
    names = ("h", "omega_m", "omega_b", "sigma8", "n_s")
    central = np.array([getattr(CosmologyParameters.of("Planck18"), name) for name in names])

    @jax.jit
    def density(values):
        changed = CosmologyParameters.of("Planck18", **dict(zip(names, values, strict=True)))
        return mass_function(changed, z, ln_mass, fit=fit, mass_definition=definition)

    forward = jax.jacfwd(density)(central)
    if fit == "Tinker08":  # reverse mode takes long to compile
        np.testing.assert_allclose(jax.jacrev(density)(central), forward, rtol=1e-9, atol=1e-9)
    for i, step in enumerate(1e-4 * np.diag(central)):
        # Four-point differences: their error is of fourth order in the step.
        around = [np.asarray(density(central + j * step)) for j in (-2, -1, 1, 2)]
        expected = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * step[i])
        np.testing.assert_allclose(forward[..., i], expected, rtol=1e-6, atol=1e-6)


def test_prior_is_the_shipped_one_and_follows_sigma8():
    shipped, made = MassPrior.default(), MassPrior.from_cosmology("Planck18")
    assert made.ln_density.shape == shipped.ln_density.shape and made.mass_definition == "200m"
    used = np.asarray(shipped.ln_mass_nodes) < np.log(3e15)
    difference = np.abs(np.asarray(made.ln_density) - np.asarray(shipped.ln_density))[:, used]
    assert difference.max() < 1e-4
    np.testing.assert_allclose(made.cdf(np.log(1e16), np.array([0.1, 2.0])), 1.0, atol=1e-9)

    def mean_of(sigma8):
        nodes = {"redshift": [0.2, 0.4], "log10_mass_range": (13.0, 15.5), "dlog10_mass": 0.1}
        prior = MassPrior.from_cosmology(CosmologyParameters.of("Planck18", sigma8=sigma8), **nodes)
        return prior.log_prob(np.log(1e15), 0.3)

    slope, step = float(jax.grad(mean_of)(0.8102)), 1e-4
    difference = float(mean_of(0.8102 + step) - mean_of(0.8102 - step)) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-5)
    assert slope > 5


def test_many_cosmologies_in_one_call():
    sigma8 = np.array([0.75, 0.8, 0.85])
    nodes = {"redshift": [0.0, 0.5], "log10_mass_range": (13.0, 15.5), "dlog10_mass": 0.1}

    def ln_density(value):
        return MassPrior.from_cosmology(CosmologyParameters.of("Planck18", sigma8=value), **nodes).ln_density

    together = jax.vmap(ln_density)(sigma8)
    for row, value in zip(together, sigma8, strict=True):
        np.testing.assert_allclose(row, ln_density(value), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "changes", [{"omega_m": 0.9, "h": 0.37, "omega_b": 0.1}, {"omega_m": 0.0725, "h": 0.72, "omega_b": 0.02}]
)
def test_sigma_is_interpolated_as_it_is_summed(changes):
    """At the ends of what the nodes reach; a few masses are summed each by itself. Beyond, there is no number."""
    cosmology, ln_mass = CosmologyParameters.of("Planck18", **changes), np.linspace(np.log(1e10), np.log(1e16), 80)
    summed = [np.concatenate(part) for part in zip(*map(cosmology.ln_sigma, np.split(ln_mass, 4)), strict=True)]
    for found, expected in zip(cosmology.ln_sigma(ln_mass), summed, strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-6)
    beyond = CosmologyParameters.of("Planck18", **changes | {"h": 0.35 if changes["h"] < 0.5 else 0.74})
    assert np.isnan(beyond.ln_sigma(ln_mass)[0]).all() and np.isfinite(beyond.ln_sigma(ln_mass[:40])[0]).all()
    with pytest.raises(MassmapError, match=r"h / omega_m is between 0.4 and 10: 1 of 1 are others"):
        mass_function(beyond, 0.3, ln_mass)


# 500 times the critical density are 5,000 times the mean.
THIN = "H0=70,Om0=0.1,Ob0=0.05,sigma8=0.8,n_s=0.95"


def test_overdensities_that_are_traced_or_calibrated_pass():
    """Under `jit` a value is not known; "vir" at high redshift is 178 times the mean, which counts as 200."""
    thin = CosmologyParameters.of(THIN)
    assert jax.jit(lambda c: mass_function(c, 0.0, np.log([1e14]), mass_definition="500c"))(thin).shape == (1, 1)
    MassPrior.from_cosmology("Planck18", mass_definition="vir", redshift=[0.0, 4.0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MassPrior.from_cosmology("Planck18", fit="Jenkins"), "from_hmf"),
        (lambda: MassPrior.from_cosmology("Planck18", mass_definition="fof"), "from_hmf"),
        (lambda: MassPrior.from_cosmology("Planck18", redshift=[0.3, 0.1]), "increase"),
        (lambda: MassPrior.from_cosmology("Plank18"), "Planck18"),
        (lambda: CosmologyParameters.of("Planck18", Om0=0.3), "omega_m"),
        (
            lambda: MassPrior.from_cosmology(THIN, mass_definition="500c"),
            "Tinker10 is tabulated for 200 to 3200 times the mean density, and '500c' is 5000 times at z = 0 ",
        ),
        (
            lambda: mass_function(CosmologyParameters.of(THIN), 0.0, np.log([1e14]), mass_definition="500c"),
            "'500c' is 5000 times at z = 0 ",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(MassmapError, match=words):
        make()


def test_gradients_in_both_precisions_in_one_program():
    """JAX kept constants of NumPy in the precision of the first call, and refused the second."""

    def clusters(sigma8):
        cosmology = CosmologyParameters.of("Planck18", sigma8=sigma8)
        return mass_function(cosmology, np.array([0.3]), np.log([1e15]), fit="Tinker08")[0, 0]

    with jax.enable_x64(False):
        single = jax.grad(clusters)(0.8)
    double = jax.grad(clusters)(0.8)
    with jax.enable_x64(False):
        again = jax.grad(clusters)(0.8)
    assert single.dtype == np.float32 and double.dtype == np.float64
    np.testing.assert_allclose([single, again], double, rtol=1e-4)
