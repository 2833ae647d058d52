"""Published relations: each against the paper's own form, written down again here in plain NumPy; what is refused."""

import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.relation.presets import AT_FIXED_OBSERVABLE, PRESETS, Value, find_preset
from massmap_jax.relation.published import identity_relation, published_relation

RNG = np.random.default_rng(20)
H = 0.7
SCATTER = Value(0.3, 0.05)


def big_e(z):
    return np.sqrt(0.3 * (1 + z) ** 3 + 0.7)


def behroozi(mass, z):
    """log10 of the stellar mass, Behroozi et al. 2019, with their coefficients in the order p0, pa, plna, pz."""
    a = 1 / (1 + z)

    def at(p0, pa, pz, plna=0.0):
        return p0 + pa * (a - 1) - plna * np.log(a) + pz * z

    eps = at(-1.431495, 1.757030, -0.217846, 1.350451)
    m1 = at(12.074023, 4.599896, -0.732499, 4.423389)
    al = at(1.973839, -2.468417, 0.182080, -1.816299)
    be = at(0.470227, -0.875164, -0.486642)
    ga = 10 ** at(-1.160189, -3.633671, -1.218900)
    x = np.log10(mass) - m1
    return m1 + eps - np.log10(10 ** (-al * x) + 10 ** (-be * x)) + ga * np.exp(-0.5 * (x / 0.382296) ** 2)


def moster(mass, z):
    f = z / (1 + z)
    m1, n = 10 ** (11.590 + 1.195 * f), 0.0351 - 0.0247 * f
    return mass * 2 * n / ((mass / m1) ** -(1.376 - 0.826 * f) + (mass / m1) ** (0.608 + 0.329 * f))


def cacciato(mass, z):
    """In Lsun: masses in Msun/h, luminosities in h^-2 Lsun."""
    x = mass * H / 10**11.07
    return 10**9.935 * x**3.273 / (1 + x) ** (3.273 - 0.255) / H**2


# The observable in the preset's unit as the source prints it: M in Msun, E(z) for h = 0.7 and Omega_m = 0.3.
PUBLISHED = {
    "lx_mcxc11": lambda m, z: big_e(z) ** (7 / 3) * 10**0.274 * (m / 3e14) ** 1.64,
    "lx_capasso20": lambda m, z: 0.62 * (m / 3e14) ** 2.35 * (big_e(z) / big_e(0.16)) ** 2 * ((1 + z) / 1.16) ** -2.77,
    "lambda_murata18": lambda m, z: np.exp(3.207 + 0.993 * np.log(m * H / 3e14)),
    "lambda_kiiveri21": lambda m, z: 84.0 * (m / 10**14.81) ** 0.49,
    "ysz_planck15": lambda m, z: big_e(z) ** 0.66 * 10**-0.19 * (m / 6e14) ** 1.79,
    "y0_act_a10": lambda m, z: 4.95e-5 * big_e(z) ** 2 * (m / 3e14) ** 1.08,
    "y0_act_dr6": lambda m, z: 3.0e-5 * big_e(z) ** 2 * (m / 3e14) ** 1.08,
    "mgas_akino22": lambda m, z: np.exp(1.95 + 1.29 * np.log(m * big_e(z) / 1e14)) / big_e(z),
    "mstar_akino22": lambda m, z: np.exp(0.76 + 0.85 * np.log(m * big_e(z) / 1e14)) / big_e(z),
    "sigv_evrard08": lambda m, z: 1082.9 * (H * big_e(z) * m / 1e15) ** 0.3361,
    "sigv_munari13": lambda m, z: 1177.0 * (H * big_e(z) * m / 1e15) ** 0.364,
    "mbcg_abdullah26": lambda m, z: 10 ** (11.04 + 0.17 * (np.log10(m * H) - 14.2)) / H**2 / 1e11,
    "mstar_kravtsov18": lambda m, z: 10 ** (12.399 + 0.6 * np.log10(m / 1e14)),
    "lc_cacciato09": cacciato,
    "smhm_moster13": moster,
    "smhm_behroozi19": lambda m, z: 10 ** behroozi(m, z),
}
# ln scatter at fixed mass, where it is published.
SCATTERS = {
    "lambda_murata18": lambda m: np.maximum(0.456 - 0.169 * np.log(np.maximum(m * H, 1e13) / 3e14), 0.05),
    "lambda_kiiveri21": lambda m: 0.17,
    "ysz_planck15": lambda m: 0.075 * np.log(10),
    "y0_act_a10": lambda m: 0.2,
    "y0_act_dr6": lambda m: 0.2,
    "sigv_evrard08": lambda m: 0.0426,
    "mbcg_abdullah26": lambda m: 0.19 * np.log(10),
    "mstar_kravtsov18": lambda m: 0.1 * np.log(10),
    "lc_cacciato09": lambda m: 0.143 * np.log(10),
}


def central(name):
    return published_relation(name, scatter=SCATTER if PRESETS[name].needs_scatter else None)


def test_every_preset_has_its_published_form_here():
    assert PUBLISHED.keys() == PRESETS.keys()
    assert SCATTERS.keys() == {name for name, preset in PRESETS.items() if not preset.needs_scatter}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_the_published_form(name):
    """200 random masses and redshifts, a decade beyond the range on either side."""
    import jax

    preset = PRESETS[name]
    low, high = np.log(preset.mass_range)
    ln_mass, z = RNG.uniform(low - 2, high + 2, 200), RNG.uniform(*preset.redshift_range, 200)
    with jax.enable_x64(True):
        found = np.asarray(central(name).mean_ln_lum(ln_mass, z))
        scatter = np.broadcast_to(np.asarray(central(name).scatter_ln_lum(ln_mass, z)), z.shape)
    np.testing.assert_allclose(found, np.log(PUBLISHED[name](np.exp(ln_mass), z)), rtol=0, atol=1e-9)
    expected = SCATTERS[name](np.exp(ln_mass)) if name in SCATTERS else SCATTER.value
    np.testing.assert_allclose(scatter, expected, rtol=3e-3)


def test_another_exponent_is_noticed():
    """The twin: the tolerance sees E^2 in place of E^(7/3)."""
    ln_mass, z = np.log(3e14), 0.15
    wrong = np.log(big_e(z) ** 2 * 10**0.274)
    assert abs(float(central("lx_mcxc11").mean_ln_lum(ln_mass, z)) - wrong) > 0.01


@pytest.mark.parametrize("name", PRESETS)
def test_draws_have_the_published_errors(name):
    import jax

    preset = PRESETS[name]
    draws = published_relation(
        name, jax.random.key(3), 4000, scatter=SCATTER if preset.needs_scatter else None, mass_bias=Value(0.8, 0.05)
    )
    assert draws.num_draws == 4000
    values = preset.parameters | ({"scatter": SCATTER} if preset.needs_scatter else {})
    for parameter, value in values.items():
        own = {"scatter": "scatter_at_pivot"}.get(parameter, parameter) if preset.law == "scatter_slope" else parameter
        drawn = np.asarray(getattr(draws, own))
        assert abs(drawn.mean() - value.value) <= 6 * value.sd / np.sqrt(4000) + 0.02 * value.sd + 1e-12
        assert abs(drawn.std() - value.sd) <= 0.1 * value.sd + 1e-12
    if preset.law == "power":
        assert np.asarray(draws.alpha3).mean() == pytest.approx(preset.alpha3 / 0.8, rel=0.02)


def test_what_is_published_at_fixed_observable_is_refused():
    for name in AT_FIXED_OBSERVABLE:
        with pytest.raises(MassmapError, match="mass at fixed observable"):
            find_preset(name)
    with pytest.raises(MassmapError, match="did you mean lx_mcxc11"):
        find_preset("lx_mcxc")


def test_a_scatter_is_asked_for_and_not_taken_twice():
    with pytest.raises(MassmapError, match="published without a scatter"):
        published_relation("lx_mcxc11")
    with pytest.raises(MassmapError, match="has a published scatter"):
        published_relation("ysz_planck15", scatter=SCATTER)
    with pytest.raises(MassmapError, match="1 - b has to be above 0"):
        published_relation("ysz_planck15", mass_bias=Value(0.0))


def test_identity_takes_scatter_and_bias():
    """O = (1-b) M: at the same O a bias of 0.8 makes the mass 1.25 times as large."""
    import jax

    plain, biased = identity_relation(), identity_relation(mass_bias=Value(0.8))
    offset = biased.data_term(np.log(1e14), 0.1, 0.3).centre - plain.data_term(np.log(1e14), 0.1, 0.3).centre
    assert float(offset) == pytest.approx(-np.log(0.8), rel=1e-5)
    drawn = identity_relation(jax.random.key(1), 500, scatter=Value(0.2, 0.05), mass_bias=Value(0.8, 0.1))
    assert drawn.num_draws == 500
    assert np.exp(np.asarray(drawn.alpha1)).mean() == pytest.approx(0.8, abs=0.02)
    assert float(identity_relation(scatter=Value(0.2)).scatter) == 0.2


def test_evolution_in_e_and_in_one_plus_z_together():
    both = mm.MassLuminosityRelation(alpha1=1.0, alpha2=0.5, alpha4=-2.77, gamma=2.0, scatter=0.2, alpha3=3e14)
    z = np.array([0.0, 0.4, 1.1])
    expected = 1.0 - 2.77 * np.log1p(z) + 2 * np.log(big_e(z))
    np.testing.assert_allclose(both.mean_ln_lum(np.log(3e14), z), expected, rtol=1e-5)
    term = both.data_term(np.log(4.0), 0.1, 0.4)
    np.testing.assert_allclose(both.mean_ln_lum(term.centre, 0.4), np.log(4.0), rtol=1e-5)
    assert mm.RelationPrior.parse("alpha1=1:1,alpha2=1:1,alpha4=0,scatter=0.1,alpha3=1e14,gamma=2").gamma == 2.0
    with pytest.raises(MassmapError, match="no pivot"):
        mm.RelationPrior.parse("alpha1=1:1,alpha2=1:1,alpha4=0,scatter=0.1")
