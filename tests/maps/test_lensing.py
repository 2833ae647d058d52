"""Convergence maps against a loop over halos in NumPy, and what they share with the mass map."""

import dataclasses

import jax
import numpy as np
import pytest
from reference import lensing_loop
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.halo import concentration, profiles
from massmap_jax.halo.concentration import SCATTER_LN, mean_ln_concentration
from massmap_jax.halo.cosmology import overdensity
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps import convergence as lensing
from massmap_jax.maps.convergence import convergence_map
from massmap_jax.maps.cusp import mean_over_pixel
from massmap_jax.maps.mass_map import chosen_samples
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

NUMBER, DRAWS, SOURCE = 200, 80, 1.2
RELATION = MassLuminosityRelation.create(
    alpha1=10.709 + 0.1 * np.linspace(-1, 1, 5), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
)
PRIOR = MassPrior.from_table(*schechter_table())
PRIOR = dataclasses.replace(PRIOR, mass_definition="200m")
SETTINGS = {"relation_from": "fixed_draws", "num_draws": DRAWS, "source_redshift": SOURCE}


def catalogue(**changes):
    rng = np.random.default_rng(4)
    columns = {
        "redshift": rng.uniform(0.2, 1.0, NUMBER),
        "luminosity": np.exp(rng.normal(9.5, 0.4, NUMBER)),
        "sigma_ln_luminosity": 0.05,
        "ra": rng.uniform(-1.5, 1.5, NUMBER) % 360,
        "dec": rng.uniform(58, 60, NUMBER),
    }
    return HaloCatalogue.from_arrays(**columns | changes)


OBJECTS = catalogue()
GRID = PixelGrid("tangent", (40, 48), 2.0, (0.0, 59.0))


@pytest.fixture(scope="module")
def full():
    return convergence_map(jax.random.key(0), OBJECTS, PRIOR, RELATION, GRID, shear=True, keep_draws=True, **SETTINGS)


def masses(number=DRAWS):
    """ln M (halo, draw) that `mass_map` draws with this key."""
    chosen = chosen_samples(jax.random.key(0), OBJECTS, PRIOR, RELATION, relation_from="fixed_draws", num_draws=number,
                          draws="exact")  # fmt: skip
    ln_mass = np.zeros((NUMBER, number))
    for rows, values in chosen.masses(Objects.of(OBJECTS, np.arange(NUMBER), PRIOR)):
        ln_mass[rows] = values
    return ln_mass


def test_maps_are_those_of_a_loop_over_halos():
    """Without scatter of the concentration; two of the draws, the reach so large that nothing is cut."""
    found = convergence_map(
        jax.random.key(0), OBJECTS, PRIOR, RELATION, GRID, keep_draws=True, concentration_scatter=0.0, reach=300.0,
        **SETTINGS
    )  # fmt: skip
    ln_mass, z = masses(), OBJECTS.redshift
    x, y = GRID.project(OBJECTS.ra, OBJECTS.dec)
    for draw in (0, 77):
        mass = np.exp(ln_mass[:, draw])
        c = 10.14 * (mass * 0.6766 / 2e12) ** -0.081 * (1 + z) ** -1.01  # Duffy et al. 2008, 200m
        kappa = lensing_loop.convergence(GRID.shape, 2.0, x, y, mass, c, z, SOURCE, 2.6)
        np.testing.assert_allclose(found.draws[draw], kappa, atol=3e-5 * kappa.max())
    assert 0.01 < found.mean.max() < 3 and found.neglected < 1e-5 * found.mean.max()
    assert found.n_lenses == NUMBER and found.n_behind == found.n_outside == found.n_flagged == 0


def test_shear_of_single_halos():
    """Where two halos alone lens, mean shear and convergence are the loop's, signs and all."""
    z, x, y = np.array([0.3, 0.5]), np.array([10.3, 30.6]), np.array([12.1, 25.9])
    lenses = lensing.Lenses.of(z, x, y, GRID, SOURCE, "200m", "Planck18", "bmo1", 2.6, 300.0)
    mass, c = np.array([3e14, 8e14]), np.array([4.0, 6.0])
    images = np.zeros((3, *GRID.shape))
    assert lensing.add_profiles(images, lenses, lenses.shapes(np.log(mass), np.log(c)), "bmo1").all()
    wanted = lensing_loop.convergence(GRID.shape, 2.0, x, y, mass, c, z, SOURCE, 2.6, shear=True)
    np.testing.assert_allclose(images, wanted, atol=2e-5 * wanted.max())
    # gamma1 is negative beside a halo along x (the image is stretched along y), gamma2 negative on its diagonal
    assert images[1, 12, 20] < 0 < images[1, 22, 10] and images[2, 20, 18] < 0


@pytest.mark.parametrize("profile", ["bmo1", "nfw"])
def test_mean_over_the_pixel_that_holds_a_halo(profile):
    """Far smaller and larger halos than the pixel, in its middle, anywhere, and on its rim and corner."""
    rng = np.random.default_rng(8)
    places = [(0.0, 0.0), (1e-6, -1e-5), *rng.uniform(-0.5, 0.5, (6, 2)), (0.4998, 0.1), (-0.5, 0.49999), (0.5, 0.5)]
    mean = {"bmo1": lambda u: profiles.bmo_mean_sigma(u, 13.0), "nfw": profiles.nfw_mean_sigma}[profile]
    density = {"bmo1": lambda u: lensing_loop.bmo_sigma(u, 13.0), "nfw": lambda u: lensing_loop.bmo_sigma(u, 1e6)}
    with jax.enable_x64(True):
        for scale in (0.003, 0.1, 1.3, 40.0):
            for dy, dx in places:
                found = float(mean_over_pixel(dy, dx, 1e4, lambda r, a=scale: mean(r / a)))
                wanted = lensing_loop.mean_over_pixel(lambda r, a=scale: density[profile](r / a), dy, dx)
                # Less than 1e-4 from a side, a halo is taken to be at that distance.
                on_the_rim = max(abs(dy), abs(dx)) > 0.4999
                assert found == pytest.approx(
                    wanted, rel=2e-4 / scale + 1e-3 if on_the_rim else 1e-3 if scale < 0.1 else 1e-4
                )
    # A halo that ends inside the pixel gives it all that it has.
    inside = float(mean_over_pixel(0.2, -0.1, 0.05, lambda r: mean(r / 0.01)))
    assert inside == pytest.approx(np.pi * 0.05**2 * float(mean(5.0)), rel=1e-3)


def test_the_cusp_does_not_depend_on_where_in_its_pixel_a_halo_is():
    """Kappa at the centre of a pixel grows without bound as a small halo nears it; the mean over the pixel does not."""
    held, beside = [], []
    for off in (0.0, 0.01, 0.2, 0.4):
        z, x, y = np.array([0.3]), np.array([20.0 + off]), np.array([20.0])
        lenses = lensing.Lenses.of(z, x, y, GRID, SOURCE, "200m", "Planck18", "bmo1", 2.6, 10.0)
        images = np.zeros((1, *GRID.shape))
        lensing.add_profiles(images, lenses, lenses.shapes(np.log([1e13]), np.log([5.0])), "bmo1")
        held.append(images[0, 20, 20])
        beside.append(images[0].sum() - images[0, 20, 20])
    at_centre = lensing_loop.scales(1e13, 5.0, 0.3, SOURCE)[1] * lensing_loop.bmo_sigma(1e-4, 13.0)
    assert np.ptp(held) < 0.25 * held[0] and at_centre > 8 * held[0]
    # Most of the mass is in that pixel, and hardly any is lost or made where the others have the value at their centre.
    assert np.ptp(np.add(held, beside)) < 0.1 * (held[0] + beside[0])


def test_windows_and_blocks_of_any_size_add_up():
    """Haloes of all sizes, on and off the map: in windows, against each alone on the whole grid."""
    rng = np.random.default_rng(2)
    number = 150
    z, x, y = rng.uniform(0.2, 0.8, number), rng.uniform(-30, 80, number), rng.uniform(-30, 70, number)
    mass, c = np.exp(rng.uniform(np.log(1e11), np.log(1e15), number)), rng.uniform(3, 12, number)
    lenses = lensing.Lenses.of(z, x, y, GRID, SOURCE, "200m", "Planck18", "bmo1", 2.6, 4.0)
    shapes = lenses.shapes(np.log(mass), np.log(c))
    images = np.zeros((1, *GRID.shape))
    touching = lensing.add_profiles(images, lenses, shapes, "bmo1")
    wanted = np.zeros(GRID.shape)
    rows, columns = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    for k in range(number):
        one = lensing_loop.convergence(GRID.shape, 2.0, x[[k]], y[[k]], mass[[k]], c[[k]], z[[k]], SOURCE, 2.6)
        inside = np.hypot(columns - x[k], rows - y[k]) < shapes.radius[k]
        one = np.where(inside, one, 0.0)
        row, column = int(np.floor(y[k] + 0.5)), int(np.floor(x[k] + 0.5))
        if 0 <= row < GRID.shape[0] and 0 <= column < GRID.shape[1]:
            scale, amplitude = lensing_loop.scales(mass[k], c[k], z[k], SOURCE)
            scale, radius, tau = scale / np.radians(2.0 / 60), shapes.radius[k], 2.6 * c[k]
            one[row, column] = amplitude * lensing_loop.mean_over_pixel(
                lambda r, a=scale, radius=radius, tau=tau: (r < radius) * lensing_loop.bmo_sigma(r / a, tau),
                *(y[k] - row, x[k] - column, 200),
            )  # fmt: skip
            assert touching[k]
        wanted += one
        assert touching[k] or not inside.any()
    np.testing.assert_allclose(images[0], wanted, atol=2e-5 * wanted.max())
    assert 20 < (~touching).sum() < 130
    at_rim = [
        lensing_loop.scales(mass[k], c[k], z[k], SOURCE)[1] * lensing_loop.bmo_sigma(4 * c[k], 2.6 * c[k])
        for k in range(number)
    ]
    np.testing.assert_allclose(shapes.rim, at_rim, rtol=1e-5)


def test_summaries_are_those_of_the_draws(full):
    np.testing.assert_allclose(full.mean, full.draws.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(full.sd, full.draws.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(full.q84, np.quantile(full.draws, 0.84, axis=0), rtol=1e-9)
    flat = convergence_map(
        jax.random.key(0), OBJECTS, PRIOR, RELATION, GRID, subtract_mean=True, keep_draws=True, **SETTINGS
    )
    np.testing.assert_allclose(flat.draws.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(
        flat.draws, full.draws - full.draws.mean(axis=(1, 2), keepdims=True), atol=1e-5 * full.mean.max()
    )


def test_concentrations_scatter_and_masses_are_those_of_the_mass_map(full):
    """Scatter moves the peaks of the draws about those without; the scores are normal, one an object and draw."""
    sharp = convergence_map(
        jax.random.key(0), OBJECTS, PRIOR, RELATION, GRID, keep_draws=True, concentration_scatter=0.0, **SETTINGS
    )
    ratio = full.draws.max(axis=(1, 2)) / sharp.draws.max(axis=(1, 2))
    assert 0.02 < ratio.std() < 1.0
    assert np.abs(np.log(ratio).mean()) < 0.2
    scores = concentration._scores(jax.random.key(1), OBJECTS.hashes, 5000)
    assert np.abs(np.asarray(scores).std() - 1) < 5 / np.sqrt(2 * 5000 * NUMBER)
    assert pytest.approx(0.15 * np.log(10)) == SCATTER_LN


def test_lenses_behind_off_and_unusable_are_counted(full):
    some = catalogue(redshift=np.where(np.arange(NUMBER) < 60, 1.5, OBJECTS.redshift))
    luminosity = np.exp(np.asarray(some.ln_lum_obs))
    luminosity[100] = np.nan
    dec = OBJECTS.dec.copy()
    dec[110:120] = 20.0
    some = catalogue(redshift=some.redshift, luminosity=luminosity, dec=dec)
    found = convergence_map(jax.random.key(0), some, PRIOR, RELATION, GRID, reach=300.0, **SETTINGS)
    assert (found.n_behind, found.n_outside, found.n_flagged) == (60, 10, 1)
    assert found.n_lenses == NUMBER - 71
    assert full.n_lenses + full.n_outside == NUMBER and full.n_outside > 10  # with the usual reach small ones are off


def test_concentration_and_density_against_colossus():
    """In a cosmology without massive neutrinos, which Colossus counts otherwise (1e-3 of a critical density)."""
    colossus = pytest.importorskip("colossus.halo.concentration", reason="Colossus is an extra (peers)")
    from colossus.cosmology import cosmology
    from colossus.halo import mass_so

    mass, h, own = np.array([1e12, 1e13, 3e14]), 0.7, "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.96,Tcmb0=2.7255"
    cosmology.setCosmology("test", flat=True, H0=70.0, Om0=0.3, Ob0=0.05, sigma8=0.8, ns=0.96, Tcmb0=2.7255)
    for definition, tolerance in (
        ("200m", 1e-4),
        ("200c", 1e-4),
        ("vir", 1e-4),
        ("500c", 1e-3),
        ("2500c", 1e-3),
        ("180m", 1e-3),
    ):
        for z in (0.1, 0.7):
            wanted = colossus.concentration(mass * h, definition, z, model="duffy08")
            found = np.exp(mean_ln_concentration(np.log(mass), np.full(3, z), definition, own))
            np.testing.assert_allclose(found, wanted, rtol=tolerance)
            radius = mass_so.M_to_R(mass * h, z, definition) / 1e3 / h  # kpc/h, proper
            density = overdensity(definition, own, np.array([z]))
            np.testing.assert_allclose(np.cbrt(3 * mass / (4 * np.pi * density)), radius, rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source_redshift": 0.05}, r"in front of all 200 halos, the nearest of which has z = 0\.2"),
        ({"source_redshift": np.nan}, "source_redshift is nan"),
        ({"reach": 0.0}, "reach is 0"),
        ({"profile": "isothermal"}, "bmo1 or nfw"),
        ({"concentration_scatter": -1.0}, "at least 0"),
        ({"num_draws": 1}, "at least 2"),
        ({"prior": MassPrior.from_table(*schechter_table())}, "mass definition 'unknown'"),
        ({"grid": PixelGrid("flat", (10, 10), 1.0, (0.0, 0.0))}, "tangent-plane grid"),
        ({"grid": PixelGrid("tangent", (10**6, 10**6), 1e-3, (0.0, 59.0))}, "needs about .* GB and this machine"),
        ({"catalogue": catalogue(ra=None, dec=None)}, "no positions"),
    ],
)
def test_refusals(changes, says):
    arguments = {"catalogue": OBJECTS, "prior": PRIOR, "relation": RELATION, "grid": GRID, **SETTINGS}
    with pytest.raises(MassmapError, match=says):
        convergence_map(jax.random.key(0), **arguments | changes)
