"""Halo mass function tables: units, definitions, cosmologies, and the shipped table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hmf", reason="hmf is not installed")
pytest.importorskip("astropy", reason="astropy is not installed")

from astropy.cosmology import FlatLambdaCDM, FlatwCDM, LambdaCDM, Planck18

from massmap_jax.errors import MassmapError
from massmap_jax.halo.cosmology import COSMOLOGIES, comoving_volume
from massmap_jax.halo.mass_function import hmf_table, number_above

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "massmap_jax" / "data" / "tinker10_planck18_200m.npz"
SMALL = {"redshift": [0.0, 1.0], "log10_mass_range": (12.0, 15.0), "dlog10_mass": 0.1}
ACT = FlatLambdaCDM(H0=70, Om0=0.3, Ob0=0.05, Tcmb0=2.725)


@pytest.mark.parametrize("z", [0.0, 0.9, 3.5])
def test_agrees_with_raw_hmf_after_taking_h_out(z):
    import hmf

    raw = hmf.MassFunction(
        z=z,
        Mmin=10,
        Mmax=16,
        dlog10m=0.05,
        hmf_model="Tinker10",
        mdef_model="SOMean",
        mdef_params={"overdensity": 200},
        cosmo_model=Planck18,
        sigma_8=0.8102,
        n=0.9665,
        transfer_model="EH",
        growth_model="GrowthFactor",
    )
    h = 0.6766
    low = np.log10(1e10 / h)
    _, mass, density, _ = hmf_table(redshift=[z], log10_mass_range=(low, low + 4.95), dlog10_mass=0.05)
    np.testing.assert_allclose(mass, raw.m[:100] / h, rtol=1e-9)
    # hmf's default step in ln k costs it up to 7e-4 here
    np.testing.assert_allclose(density[0], raw.dndlnm[:100] * h**3, rtol=1e-3)


def physical_tinker08(log10_mass, h, omega_m, sigma8, n_s):
    """dn/dlnM [Mpc^-3] at z = 0, 200m, with every quantity in Msun and Mpc from the start; NumPy only.

    Transfer function in the form of Bond & Efstathiou (1984) with the constants that hmf documents (a, b, c
    in Mpc at Omega_m h^2 = 0.3 0.75^2); Tinker et al. (2008, eq. 2-3, Table 2), with hmf's digits.
    """
    mass = 10.0**log10_mass
    rho = omega_m * 2.77536627e11 * h**2
    k = np.exp(np.linspace(np.log(1e-5), np.log(2e3), 40_001))
    a, b, c = np.array([37.1, 21.1, 10.8]) * 0.3 * 0.75**2 / (omega_m * h**2)
    transfer = (1 + (a * k + (b * k) ** 1.5 + (c * k) ** 2) ** 1.12) ** (-1 / 1.12)

    def variance(radius):
        x = k * radius
        window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
        return np.sum(k ** (n_s + 3) * (transfer * window) ** 2)

    def sigma(mass):
        radius = (3 * mass / (4 * np.pi * rho)) ** (1 / 3)
        return sigma8 * np.sqrt(variance(radius) / variance(8 / h))

    step = 1e-3
    s = np.array([sigma(m) for m in mass])
    slope = np.array([np.log(sigma(m * np.exp(-step)) / sigma(m * np.exp(step))) / (2 * step) for m in mass])
    f = 0.1858659 * ((s / 2.571104) ** -1.466904 + 1) * np.exp(-1.193958 / s**2)
    return f * rho / mass * slope


@pytest.mark.parametrize("h", [0.7, 1.0])
def test_little_h_against_a_calculation_that_never_has_it(h):
    """Catches M = m h, n without h^3 and any half of either: each is off by tens of per cent at h = 0.7."""
    cosmology = FlatLambdaCDM(H0=100 * h, Om0=0.3, Ob0=0.05, Tcmb0=2.725)
    _, mass, density, _ = hmf_table(
        "Tinker08",
        cosmology,
        transfer_model="BondEfs",
        sigma8=0.8,
        n_s=0.95,
        redshift=[0.0],
        log10_mass_range=(12.0, 15.0),
        dlog10_mass=0.5,
    )
    np.testing.assert_allclose(np.log10(mass), np.arange(12.0, 15.1, 0.5), rtol=0, atol=1e-9)
    expected = physical_tinker08(np.log10(mass), h, 0.3, 0.8, 0.95)
    np.testing.assert_allclose(density[0], expected, rtol=5e-3)
    wrong = physical_tinker08(np.log10(mass * 0.7**2), h, 0.3, 0.8, 0.95)
    assert np.min(np.abs(np.log(wrong / density[0]))) > 0.1


def test_mass_is_in_msun_at_the_ends_asked_for():
    _, mass, density, meta = hmf_table(**SMALL)
    assert mass[0] == pytest.approx(1e12, rel=1e-9)
    assert mass[-1] == pytest.approx(1e15, rel=1e-9)
    assert density.shape == (2, 31)
    assert meta["mass_unit"] == "Msun"
    # Planck18 has of order 1e-5 clusters above 1e14 Msun per cubic Mpc today
    above = np.interp(np.log(1e14), np.log(mass), np.log(number_above(mass, density)[0]))
    assert 1e-5 < np.exp(above) < 4e-5


@pytest.mark.parametrize("step", [0.02, 0.03, 0.07, 0.1])
def test_number_of_nodes_survives_rounding(step):
    for high in (14.0, 14.3, 15.1):
        mass = hmf_table(redshift=[0.0], log10_mass_range=(12.0, high), dlog10_mass=step)[1]
        assert mass[-1] == pytest.approx(10.0**high, rel=1e-9)
        assert np.ptp(np.diff(np.log(mass))) < 1e-9
        assert np.diff(np.log10(mass))[0] <= step + 1e-9


def test_cumulative_is_the_integral_of_the_density():
    options = dict(SMALL, log10_mass_range=(12.0, 16.0), dlog10_mass=0.01)
    _, mass, density, _ = hmf_table(**options)
    _, _, cumulative, meta = hmf_table(**options, cumulative=True)
    assert meta["quantity"].startswith("N(>M)")
    from scipy.integrate import simpson

    # nothing lies above 1e16 Msun; the log-linear cells cost (step^2 / 12) d2 ln n / d ln M2
    for k, rtol in ((0, 1e-5), (100, 3e-5), (200, 1e-4), (300, 3e-4)):
        expected = simpson(density[:, k:], x=np.log(mass[k:]), axis=1)
        np.testing.assert_allclose(cumulative[:, k], expected, rtol=rtol, err_msg=f"{mass[k]:.3g} Msun")
    # and its slope is the density
    slope = -np.gradient(cumulative, np.log(mass), axis=1)
    np.testing.assert_allclose(slope[:, 5:250], density[:, 5:250], rtol=3e-3)


def test_number_above_is_exact_for_a_power_law_and_ignores_underflow():
    mass = np.geomspace(1e12, 1e14, 11)
    np.testing.assert_allclose(number_above(mass, mass[None] ** -2.0)[0], mass**-2.0 / 2, rtol=1e-12)
    density = mass[None] ** -2.0
    density[:, 6:] = 0.0
    assert np.all(np.isfinite(number_above(mass, density)))
    assert np.all(number_above(mass, density)[0, 6:] == 0)


def test_act_table_of_tinker08_500c():
    _, mass, density, meta = hmf_table(
        "Tinker08", ACT, "500c", "EH", sigma8=0.8, n_s=0.95, redshift=np.arange(0, 2.01, 0.1)
    )
    assert np.all(density > 0) and np.all(np.diff(np.log(density), axis=1) < 0)
    assert meta["mass_definition"] == "500c"
    assert (meta["sigma8"], meta["n_s"]) == (0.8, 0.95)
    # spheres of higher density hold less mass, so there are fewer of a given mass
    density_200m = hmf_table("Tinker08", ACT, "200m", sigma8=0.8, n_s=0.95, redshift=[0.0])[2]
    ratio = density[0] / density_200m[0]
    assert np.all(ratio[(mass > 1e13) & (mass < 1e15)] < 0.7)


def test_500c_is_native_and_follows_the_mean_density():
    """500 times critical is 500 / Omega_m(z) times the mean: at Omega_m = 0.3125, z = 0, exactly 1600."""
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3125, Ob0=0.05, Tcmb0=2.725)
    _, mass, density, _ = hmf_table("Tinker08", cosmology, "500c", sigma8=0.8, n_s=0.95, **SMALL)
    import hmf

    raw = hmf.MassFunction(
        Mmin=np.log10(mass[0] * 0.7),
        Mmax=np.log10(mass[-1] * 0.7) + 0.05,
        dlog10m=0.1,
        hmf_model="Tinker08",
        mdef_model="SOMean",
        mdef_params={"overdensity": 1600},
        cosmo_model=cosmology,
        sigma_8=0.8,
        n=0.95,
        transfer_model="EH",
    )
    np.testing.assert_allclose(density[0], raw.dndlnm * 0.7**3, rtol=1e-3)


@pytest.mark.parametrize("name", COSMOLOGIES)
def test_named_cosmologies_bring_published_sigma8_and_slope(name):
    published = {  # the papers' tables, as named in astropy's cosmology references
        "WMAP5": (0.817, 0.962),
        "WMAP7": (0.810, 0.967),
        "WMAP9": (0.820, 0.9608),
        "Planck13": (0.8288, 0.9611),
        "Planck15": (0.8159, 0.9667),
        "Planck18": (0.8102, 0.9665),
    }
    meta = hmf_table(cosmology=name, **SMALL)[3]
    assert (meta["sigma8"], meta["n_s"]) == published[name]
    assert hmf_table(cosmology=name, sigma8=0.7, n_s=1.0, **SMALL)[3]["sigma8"] == 0.7


@pytest.mark.parametrize(
    ("fit", "definition"),
    [(fit, definition) for fit in ("Tinker08", "Tinker10", "Watson") for definition in ("200m", "200c", "500c", "vir")]
    + [("Jenkins", "fof"), ("SMT", "vir"), ("Bocquet500cDMOnly", "500c")],
)
def test_native_definitions_work_without_a_warning(fit, definition, recwarn):
    _, _, density, _ = hmf_table(fit, mass_definition=definition, **SMALL)
    assert np.all(np.isfinite(density)) and np.all(density > 0)
    assert not recwarn.list


def test_camb_transfer_differs_from_eisenstein_hu_by_a_few_per_cent():
    pytest.importorskip("camb", reason="camb is not installed")
    options = {"redshift": [0.0, 1.0], "log10_mass_range": (10.0, 14.0)}
    _, _, camb, meta = hmf_table(transfer_model="CAMB", **options)
    assert meta["transfer_model"] == "CAMB" and meta["camb"]
    ratio = np.log(camb / hmf_table(**options)[2])
    assert 1e-3 < np.abs(ratio).max() < 0.06


def test_a_fresh_process_sees_no_warning():
    """The first import of hmf included; warnings are errors there."""
    code = "from massmap_jax.halo.mass_function import hmf_table; hmf_table(redshift=[0.0, 1.0], dlog10_mass=0.1)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_vir_at_high_redshift_is_a_mild_extrapolation():
    """The virial overdensity tends to 178 times the mean, just below what Tinker et al. tabulate.

    For an NFW halo of concentration 3.5 masses grow by 4 % from 200 to 178, 5 to 15 % more halos at a mass.
    """
    options = {"redshift": [4.0], "log10_mass_range": (11.0, 13.0)}
    ratio = hmf_table(mass_definition="vir", **options)[2] / hmf_table(**options)[2]
    assert np.all(ratio > 1.03) and np.all(ratio < 1.2)


BAD = {
    "unknown fit": ({"hmf_model": "Tinker11"}, "'Tinker11' is unknown; choose from .*Tinker10"),
    "fit with a unit error in hmf": ({"hmf_model": "Behroozi", "mass_definition": "vir"}, "wrong mass unit"),
    "fit without a definition": ({"hmf_model": "PS"}, "no mass definition"),
    "unknown definition": (
        {"mass_definition": "200x"},
        "'200x' is unknown; choose from 200m, 200c, 500c, vir, fof",
    ),
    "FoF fit as 200m": ({"hmf_model": "Jenkins"}, "fitted for mass definition fof, not '200m'"),
    "Tinker as FoF": (
        {"mass_definition": "fof"},
        "fitted for mass definition 200m, 200c, 500c, vir, not 'fof'",
    ),
    "200m fit as 500c": ({"hmf_model": "Bocquet200mDMOnly", "mass_definition": "500c"}, "not '500c'"),
    "overdensity off the table": (
        {
            "cosmology": FlatLambdaCDM(H0=70, Om0=0.1, Ob0=0.02, Tcmb0=2.7),
            "sigma8": 0.8,
            "n_s": 1.0,
            "mass_definition": "500c",
        },
        "tabulated for 200 to 3200 times the mean density, and '500c' is 5000 times at z = 0 ",
    ),
    "unknown cosmology": ({"cosmology": "WMAP6"}, "'WMAP6' is unknown; choose from WMAP5"),
    "not a cosmology": ({"cosmology": 70.0}, "not float"),
    "curved": ({"cosmology": LambdaCDM(70, 0.3, 0.6, Ob0=0.05, Tcmb0=2.7)}, "must be flat LambdaCDM"),
    "dark energy": ({"cosmology": FlatwCDM(70, 0.3, w0=-0.9, Ob0=0.05, Tcmb0=2.7)}, "must be flat LambdaCDM"),
    "no sigma8": ({"cosmology": ACT}, "lacks sigma8 and n_s"),
    "no Tcmb0 or Ob0": (
        {"cosmology": FlatLambdaCDM(70, 0.3), "sigma8": 0.8, "n_s": 1},
        r"lacks Tcmb0.* and Ob0",
    ),
    "sigma8 absurd": ({"sigma8": 81.0}, "sigma8 must lie in"),
    "unknown transfer": ({"transfer_model": "Einstein"}, "choose from EH,"),
    "negative redshift": ({"redshift": [-0.1, 0.5]}, "node 0, is -0.1"),
    "NaN redshift": ({"redshift": [0.1, np.nan]}, "node 1, is nan"),
    "unsorted redshift": ({"redshift": [0.5, 0.1]}, "node 1 is 0.1: sort"),
    "linear mass range": ({"log10_mass_range": (1e10, 1e16)}, "pass 10, not 1e10"),
    "reversed mass range": ({"log10_mass_range": (15.0, 12.0)}, "low < high"),
    "step of zero": ({"dlog10_mass": 0.0}, "dlog10_mass must be above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_told_in_one_sentence(case):
    options, message = BAD[case]
    with pytest.raises(MassmapError, match=message) as caught:
        hmf_table(**{**SMALL, **options})
    assert "\n" not in str(caught.value)


def test_shipped_table_is_what_the_script_makes(tmp_path):
    made = tmp_path / "table.npz"
    script = REPOSITORY / "scripts" / "make_default_prior.py"
    subprocess.run([sys.executable, script, made], check=True, timeout=600)
    assert SHIPPED.stat().st_size < 400_000
    with np.load(SHIPPED, allow_pickle=False) as shipped, np.load(made, allow_pickle=False) as new:
        assert set(shipped.files) == set(new.files)
        for key in ("redshift", "mass", "dndz_z", "dndz"):
            np.testing.assert_allclose(shipped[key], new[key], rtol=1e-5, err_msg=key)
        # in the logarithm: the massive end at z = 4 is exp(-215), so a last-bit change of sigma is magnified
        np.testing.assert_allclose(np.log(shipped["density"]), np.log(new["density"]), rtol=0, atol=1e-5)
        meta, meta_new = json.loads(str(shipped["meta"])), json.loads(str(new["meta"]))
    differ = {key for key in meta_new if meta.get(key) != meta_new[key]}
    assert differ <= {"hmf", "astropy", "description"}


def test_shipped_table_between_its_redshift_nodes():
    """ln p, normalised, interpolated linearly halfway between nodes: its error where halos are."""
    with np.load(SHIPPED, allow_pickle=False) as table:
        redshift, mass, density = table["redshift"], table["mass"], table["density"]
    middle = 0.5 * (redshift[:-1] + redshift[1:])[::8]
    true = hmf_table(redshift=middle)[2]

    def ln_p(density):
        return np.log(density / number_above(mass, density)[:, :1])

    guess = 0.5 * (ln_p(density)[:-1] + ln_p(density)[1:])[::8]
    guess = ln_p(np.exp(guess))
    error = np.abs(guess - ln_p(true))
    assert error[:, mass < 1e13].max() < 2e-4
    assert error[:, mass < 1e15].max() < 1.6e-3


def test_shipped_number_per_redshift():
    """Against astropy's volume of a shell, summed."""
    with np.load(SHIPPED, allow_pickle=False) as table:
        z, dndz = table["dndz_z"], table["dndz"]
        above = number_above(table["mass"], table["density"])[:, 0]
    shell = Planck18.comoving_volume(2.0).value - Planck18.comoving_volume(1.95).value
    degrees = 4 * np.pi / np.deg2rad(1.0) ** 2
    k = int(np.searchsorted(z, 1.95))
    assert 0.05 * 0.5 * (dndz[k] + dndz[k + 1]) == pytest.approx(
        shell / degrees * 0.5 * (above[k] + above[k + 1]), rel=1e-3
    )
    assert dndz[0] == 0 and np.all(dndz[1:] > 0)
    np.testing.assert_allclose(comoving_volume("Planck18", z) * above, dndz, rtol=1e-9)
