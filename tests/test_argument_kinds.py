"""What a user passes from Python: interchanged arguments, quantities with units, and arrays of every kind."""

import jax
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.errors import MassmapError

N = 6
Z, LUM, ERROR = np.linspace(0.1, 0.5, N), np.linspace(1.0, 4.0, N), np.full(N, 0.1)
KEY = jax.random.key(0)
SAID = "alpha1=1:1,alpha2=1.6:0.3,alpha4=0,scatter=0.3:0.1,alpha3=3e14"


@pytest.fixture(scope="module")
def things():
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=LUM, redshift=Z, sigma_ln_luminosity=ERROR, ra=Z + 10, dec=Z, lum_unit="1e44 erg/s"
    )
    relation = mm.MassLuminosityRelation.create(alpha1=1.0, alpha2=1.6, scatter=0.3, alpha3=3e14)
    grid = mm.PixelGrid("tangent", (4, 4), 10.0, (10.3, 0.3))
    return catalogue, mm.MassPrior.default(), relation, grid


CALLS = {
    "mass_posterior": lambda c, p, r, g: mm.mass_posterior(r, p, c),
    "mass_posterior 2": lambda c, p, r, g: mm.mass_posterior(c, r, p),
    "mass_posterior of a path": lambda c, p, r, g: mm.mass_posterior("clusters.csv", p, r),
    "mass_posterior with a name": lambda c, p, r, g: mm.mass_posterior(c, p, "bigmali2017"),
    "mass_map": lambda c, p, r, g: mm.mass_map(c, KEY, p, r, g),
    "mass_map without a key": lambda c, p, r, g: mm.mass_map(0, c, p, r, g),
    "mass_map without a grid": lambda c, p, r, g: mm.mass_map(KEY, c, p, r, None),
    "mass_in_circle": lambda c, p, r, g: mm.mass_in_circle(KEY, p, c, r, mm.Circle(10, 0, 5)),
    "convergence_map": lambda c, p, r, g: mm.convergence_map(KEY, c, p, g, r, 1.0),
    "prior_check": lambda c, p, r, g: mm.prior_check(p, c, r),
    "fit_relation": lambda c, p, r, g: mm.fit_relation(p, c, SAID),
    "fit_relation of a relation": lambda c, p, r, g: mm.fit_relation(c, p, r),
    "fit_relation key": lambda c, p, r, g: mm.fit_relation(c, p, SAID, key=3),
    "log_likelihood": lambda c, p, r, g: mm.log_likelihood(c, p, r),
    "cosmology_derivatives": lambda c, p, r, g: mm.cosmology_derivatives(p, c, r),
    "sample_halo_masses": lambda c, p, r, g: mm.sample_halo_masses(c, KEY, p, r),
    "halo_mass_model": lambda c, p, r, g: mm.halo_mass_model(p, c, r),
    "field_model": lambda c, p, r, g: mm.field_model(p, c, r),
    "write_map": lambda c, p, r, g: mm.write_map(c, "map.fits"),
    "smoothed": lambda c, p, r, g: mm.smoothed(1.0, c),
    "calibration_check": lambda c, p, r, g: mm.calibration_check(c),
    "calibrators_check": lambda c, p, r, g: mm.calibrators_check(c, p, r, None),
    "with_cosmology": lambda c, p, r, g: mm.with_cosmology(r, p, None),
    "region_mass": lambda c, p, r, g: mm.region_mass(mm.Circle(10, 0, 5), c),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_are_interchanged_are_named(name, things):
    with pytest.raises(MassmapError, match=r" is an? \w+|is not|give") as told:
        CALLS[name](*things)
    assert "\n" not in str(told.value) and "attribute" not in str(told.value)


def test_a_seed_in_the_place_of_a_key_of_samples(things):
    catalogue, prior, relation, _ = things
    posterior = mm.mass_posterior(catalogue, prior, relation)
    with pytest.raises(MassmapError, match=r"sample: key is an? int, and has to be a random key"):
        posterior.sample(0, 10)
    assert posterior.sample(KEY, 2).shape == (N, 2)
    calls = {
        "simulate_field": lambda: mm.simulate_field(0, 10),
        "preset_draws": lambda: mm.MassLuminosityRelation.preset_draws("bigmali2017", 0, 10),
        "planck18": lambda: mm.CosmologyDraws.planck18(0),
        "mass_posterior": lambda: mm.mass_posterior(catalogue, prior, relation, key=0),
    }
    for name, call in calls.items():
        with pytest.raises(MassmapError, match=f"{name}: key is an? int, and has to be a random key"):
            call()


def test_an_index_with_a_name_is_a_column():
    """As that of a DataFrame whose names were made its index is."""
    frame = pd.DataFrame({"name": list("abcdef"), "z": Z, "lum": LUM})
    for given in (frame.set_index("name"), frame.set_index(["name", "z"])):
        catalogue = mm.read_catalogue(given, sigma=0.1)
        assert catalogue.ids.tolist() == list("abcdef") and catalogue.usable.all()
    assert mm.read_catalogue(frame.drop(columns="name")[2:], sigma=0.1).ids.tolist() == [0, 1, 2, 3]


def test_a_fit_in_the_place_of_its_draws(things):
    from types import SimpleNamespace

    with pytest.raises(MassmapError, match=r"its draws, fit\.draws"):
        mm.mass_posterior(things[0], things[1], SimpleNamespace(draws=things[2]))


LEVELS = np.array([0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99])
RADIUS, SHEAR = np.tile(np.geomspace(0.2, 2, 5), (N, 1)), np.tile(np.linspace(0.2, 0.05, 5), (N, 1))
NODES, MASSES = np.array([0.0, 0.5, 1.0]), np.geomspace(1e13, 1e16, 12)
ROW = {"contains": "likelihood", "lum_moves": False}


def shear_of(radius, shear, error, **more):
    found = mm.ShearProfiles.from_arrays(radius, shear, error=error, source_redshift=1.0, **more)
    return np.concatenate([found.radius, found.shear, found.covariance.reshape(len(found.radius), -1)], axis=1)


# Name: what makes numbers of arrays, the arrays, which of them a row of a catalogue is (NaN where masked), exact in f16.
MAKERS = {
    "catalogue": (
        lambda x, z, s: (c := mm.HaloCatalogue.from_arrays(luminosity=x, redshift=z, sigma_ln_luminosity=s))
        and np.concatenate([c.ln_lum_obs, c.redshift, c.sigma_ln_lum]),
        (LUM, Z, ERROR),
    ),
    "calibration": (
        lambda m, s: (c := mm.CalibrationMasses.from_arrays(mass=m, sigma_ln_mass=s))
        and np.concatenate([c.ln_mass, c.sigma]),
        (MASSES[:N], ERROR),
    ),
    "observables": (
        lambda v, s: (o := mm.Observables.from_arrays({"y": v}, {"y": s})) and np.concatenate([o.ln_value, o.sigma]),
        (LUM, ERROR),
    ),
    "membership": (lambda p: mm.Membership.from_probability(p).central, (np.linspace(0.1, 0.9, N),)),
    "normal redshifts": (
        lambda z, e: (d := mm.RedshiftDistributions.gaussian(z, e, **ROW).shape) and np.concatenate([d.mean, d.sd]),
        (Z, 0.1 * ERROR),
    ),
    "quantiles": (
        lambda level, q: mm.RedshiftDistributions.quantiles(level, q, **ROW).shape.values,
        (LEVELS, Z[:, None] + 0.02 * norm.ppf(LEVELS)),
    ),
    "shear": (shear_of, (RADIUS, SHEAR, 0.1 * SHEAR)),
    "cosmologies": (
        lambda m, s: np.concatenate(
            [v for _, v in sorted(mm.CosmologyDraws.from_arrays(
                omega_m=m, sigma8=s, h=0.7, n_s=0.96, omega_b=0.05).values.items())]
        ),
        (np.linspace(0.28, 0.32, N), np.linspace(0.78, 0.82, N)),
    ),
    "prior": (
        lambda z, m, d: (p := mm.MassPrior.from_table(z, m, d)) and np.concatenate(
            [p.redshift_nodes, p.ln_mass_nodes, np.ravel(p.ln_density)]
        ),
        (NODES, MASSES, np.tile(MASSES**-1.0, (3, 1)) * 1e14),
    ),
    "relation": (
        lambda a, s: (r := mm.MassLuminosityRelation.from_draws(alpha1=a, alpha2=1.6, alpha3=1e14, scatter=s)) and np.concatenate(
            [r.alpha1, r.scatter]
        ),
        (np.linspace(1, 1.5, N), np.linspace(0.2, 0.3, N)),
    ),
    "selection": (
        lambda z, x, p: np.ravel(mm.TabulatedSelection(z, x, p).prob),
        (NODES, np.linspace(0, 3, 4), np.linspace(0, 1, 12).reshape(3, 4)),
    ),
    "likelihood": (
        lambda m, v: mm.TabulatedTerm(m, v).log_likelihood,
        (np.linspace(28, 36, 90), np.tile(-0.5 * (np.linspace(28, 36, 90) - 32) ** 2, (N, 1))),
    ),
}  # fmt: skip
FORMS = {
    "list": lambda a: a.tolist(),
    "big endian": lambda a: a.astype(">f8"),
    "float32": lambda a: a.astype(np.float32),
    "strided": lambda a: np.stack([a, -a], axis=-1)[..., 0],
    "JAX": jax.numpy.asarray,
    "object": lambda a: a.astype(object),
    "nothing masked": lambda a: np.ma.masked_array(a, np.zeros(a.shape, dtype=bool)),
    "index from behind": lambda a: pd.Series(a, index=np.arange(len(a))[::-1]) if a.ndim == 1 else a,
    "index of names": lambda a: pd.Series(a, index=[f"r{i}" for i in range(len(a))]) if a.ndim == 1 else a,
    "float16": lambda a: a.astype(np.float16) if np.abs(a).max() < 6e4 and np.abs(a).min() > 1e-3 else a,
}


@pytest.mark.parametrize("name", MAKERS)
def test_arrays_of_every_kind_are_read_alike(name):
    make, arrays = MAKERS[name]
    expected = np.asarray(make(*arrays), dtype=float)
    for i in range(len(arrays)):
        for form, change in FORMS.items():
            changed = [change(a) if j == i else a for j, a in enumerate(arrays)]
            found = np.asarray(make(*changed), dtype=float)
            np.testing.assert_allclose(found, expected, rtol=3e-3, atol=3e-3, err_msg=f"{form} {i}")


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_under_a_mask_is_never_used(name):
    """The number under a mask changes nothing: a row of a catalogue is left out, a table is refused."""
    make, arrays = MAKERS[name]
    for i in range(len(arrays)):
        outcomes = []
        for hidden in (1.01, 1.2):
            given, mask = np.array(arrays[i]), np.zeros(arrays[i].shape, dtype=bool)
            mask[1] = True
            given[1] = given[1] * hidden
            changed = [np.ma.masked_array(given, mask) if j == i else a for j, a in enumerate(arrays)]
            try:
                outcomes.append(np.asarray(make(*changed), dtype=float))
            except MassmapError as error:
                outcomes.append(str(error))
        if isinstance(outcomes[0], str):
            assert outcomes[0] == outcomes[1]
        else:
            np.testing.assert_array_equal(*outcomes)
            assert not np.array_equal(outcomes[0], make(*arrays))


def test_quantities_are_converted():
    np.testing.assert_allclose(
        shear_of(RADIUS * 1e3 * u.kpc, SHEAR, 0.1 * SHEAR), shear_of(RADIUS, SHEAR, 0.1 * SHEAR), rtol=1e-12
    )
    np.testing.assert_allclose(
        shear_of(RADIUS * 60 * u.arcsec, SHEAR, 0.1 * SHEAR, radius_unit="arcmin"), shear_of(RADIUS, SHEAR, 0.1 * SHEAR)
    )
    masses = mm.CalibrationMasses.from_arrays(mass=[2.0, 3.0] * u.Unit("1e14 Msun"), sigma_ln_mass=0.1)
    np.testing.assert_allclose(masses.ln_mass, np.log([2e14, 3e14]))
    found = mm.Observables.from_arrays({"y": [4.0, 5.0] * u.Unit("Mpc2")}, {"y": 0.1})
    assert found.units == {"y": "Mpc2"}
    stated = mm.Observables.from_arrays({"y": [4.0, 5.0] * u.Unit("Mpc2")}, {"y": 0.1}, units={"y": "kpc2"})
    np.testing.assert_allclose(stated.ln_value[:, 0], np.log([4e6, 5e6]))
    assert mm.SelectedOnMass(3 * u.Unit("1e14 Msun")).ln_threshold == pytest.approx(np.log(3e14))
    same = [mm.RedshiftLimit.from_flux(f, lum_unit="erg/s") for f in (3e-12, 3e-15 * u.W / u.m**2)]
    np.testing.assert_allclose(same[0].ln_lum_over_z2, same[1].ln_lum_over_z2, rtol=1e-6)


def test_positions_in_hours_are_matched(things):
    catalogue = things[0]
    hours = [catalogue.ra / 15 * u.hourangle, catalogue.dec * 60 * u.arcmin]
    found = mm.match_to_catalogue(catalogue, ra=hours[0], dec=hours[1], separation_arcmin=1.0)
    assert found.rows.tolist() == list(range(N))


REFUSED = {
    "FluxLimit": lambda: mm.FluxLimit(3e43 * u.erg / u.s),
    "SignalToNoiseLimit": lambda: mm.SignalToNoiseLimit(5 * u.keV),
    "flux": lambda: mm.RedshiftLimit.from_flux(3e-12 * u.erg, lum_unit="erg/s"),
    "redshift": lambda: mm.RedshiftDistributions.gaussian(3e4 * Z * u.km / u.s, ERROR, **ROW),
    "radius": lambda: shear_of(RADIUS * u.arcmin, SHEAR, 0.1 * SHEAR),
    "shear": lambda: shear_of(RADIUS, SHEAR * u.Msun / u.pc**2, 0.1 * SHEAR),
    "mass": lambda: mm.CalibrationMasses.from_arrays(mass=[2e14, 3e14] * u.erg, sigma_ln_mass=0.1),
    "sigma": lambda: mm.CalibrationMasses.from_arrays(mass=[2e14, 3e14], sigma_ln_mass=[1e13, 1e13] * u.Msun),
    "threshold": lambda: mm.SelectedOnMass(3e14 * u.Lsun),
    "h": lambda: mm.CosmologyDraws.from_arrays(
        omega_m=[0.3], sigma8=[0.8], h=[70.0] * u.km / u.s / u.Mpc, n_s=[0.96], omega_b=[0.05]
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_quantities_that_measure_another_thing_are_refused(name):
    with pytest.raises(MassmapError, match=r"(?:is|are) in '") as told:
        REFUSED[name]()
    assert "\n" not in str(told.value)
