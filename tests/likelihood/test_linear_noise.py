"""The table of linear noise and upper limits against a dense sum in NumPy, away from the nodes of its lattice."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from massmap_jax.likelihood import linear_noise
from massmap_jax.relation.law import MassLuminosityRelation

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_linear_noise.py"
SCATTERS = (0.0, 0.013, 0.08, 0.25, 0.55, 1.1, 2.1)


def ln_sum(t, q, scatter, ln_p):
    """ln of the integral of N(y; -t, S^2) exp[f(q - L / e)], L_ref = e exp[asinh(q / 2)], by 40,001 terms."""
    if scatter == 0:
        return ln_p(q - np.exp(np.arcsinh(q / 2) - t))
    x = np.linspace(-11, 11, 40_001)
    terms = stats.norm.logpdf(x) + ln_p(q - np.exp(np.arcsinh(q / 2) - t + scatter * x))
    return terms.max() + np.log(np.sum(np.exp(terms - terms.max())) * (x[1] - x[0]))


def ln_measurement(ratio):
    return -0.5 * ratio**2


def compared(term, ln_p, q):
    """Largest difference of exp(K), in units of its highest value, over scatters and t."""
    made = jax.jit(lambda t, scatter: term.of(jnp.arcsinh(0.5 * q), scatter)(t))
    worst = 0.0
    for scatter in SCATTERS:
        t = np.concatenate([np.linspace(-5, 3, 17) * np.hypot(scatter, min(1 / abs(q), 1.0)), [4.0, 7.0, 12.0]])
        exact = np.array([ln_sum(one, q, scatter, ln_p) for one in t])
        got = np.asarray(made(jnp.asarray(t), scatter), dtype=float)
        worst = max(worst, np.abs(np.exp(got - exact.max()) - np.exp(exact - exact.max())).max())
    return worst


@pytest.mark.parametrize("q", [-2.3, -0.4, 1e-9, 0.37, 1.7, 3.3, 5.2, 7.1, 11.0, 47.0])
def test_measurements(q):
    assert compared(linear_noise.MeasurementTerm, ln_measurement, q) < 1.5e-3


@pytest.mark.parametrize("q", [0.6, 2.2, 4.1, 8.3, 60.0])
def test_upper_limits(q):
    assert compared(linear_noise.LimitTerm, stats.norm.logcdf, q) < 3e-3


def test_the_faint_part_matters():
    """The twin: without it, the likelihood of faint luminosities at 3 sigma is lost."""
    made = linear_noise.MeasurementTerm.of(jnp.arcsinh(1.5), 0.3)
    near = linear_noise.MeasurementTerm(made.near, jnp.zeros(linear_noise.FAINT + 1) - 50, made.on)
    exact = ln_sum(5.0, 3.0, 0.3, ln_measurement)
    assert abs(float(made(5.0)) - exact) < 2e-3 and float(near(5.0)) < exact - 3


def test_small_linear_noise_is_lognormal():
    """At a signal to noise of 250 the mean of y = ln(L / L_obs) is off by less than 1e-3 sd, and without the shift not."""
    s = 1 / 250
    y = np.linspace(-0.05, 0.05, 20_001)
    density = np.exp(-0.5 * ((1 - np.exp(y)) / s) ** 2)
    mean = (y * density).sum() / density.sum()
    assert abs(mean - linear_noise.nearly_lognormal(0.0, s)) < 1e-3 * s < abs(mean)


def test_the_table_is_what_the_script_makes():
    spec = importlib.util.spec_from_file_location("make_linear_noise", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    places, scatters = linear_noise.RATIO_NODES, np.exp(linear_noise.SCATTER_NODES) - linear_noise.SCATTER_ZERO
    x = np.linspace(-1, 1, 9)
    for kind, at_node in (("normal", script.measurement), ("upper_limit", script.limit)):
        table = linear_noise.coefficients(kind)
        assert table.dtype == np.float32
        for i, j in ((0, 3), (35, 0), (35, 24), (60, 40)):
            made = at_node(places[i], scatters[j])
            # Coefficients of powers are ill determined one by one: compare the polynomials.
            for part in (slice(None, linear_noise.NEAR + 1), slice(linear_noise.NEAR + 1, None))[
                : 1 + (kind == "normal")
            ]:
                got, exact = (np.polyval(np.asarray(c[part], dtype=float), x) for c in (table[i, j], made))
                np.testing.assert_allclose(got, exact, rtol=2e-5, atol=2e-4)


def test_the_likelihood_is_a_density_per_luminosity():
    """It integrates to 1 over L_obs at a fixed error; under jit, with a gradient by every parameter."""
    relation = MassLuminosityRelation.create(alpha1=1.0, alpha2=1.3, alpha3=1e14, alpha4=0.4, scatter=0.35)
    error = 1.1
    lum = np.linspace(0.05, 60, 20_001)

    def of(relation, lum):
        return linear_noise.ln_likelihood(32.0, 0.4, jnp.log(lum), error / lum, relation, None, kind="normal")

    values = np.asarray(jax.jit(jax.vmap(of, (None, 0)))(relation, lum), dtype=float)
    mean = float(relation.mean_ln_lum(32.0, 0.4))
    x = np.linspace(-8, 8, 4001)
    below = np.trapezoid(stats.norm.pdf(x) * stats.norm.cdf((lum[0] - np.exp(mean + 0.35 * x)) / error), x)
    assert abs(np.trapezoid(np.exp(values), lum) + below - 1) < 1e-3
    gradient = jax.grad(of)(relation, 3.0)
    step = 1e-2
    moved = [
        of(MassLuminosityRelation.create(alpha1=1.0 + d, alpha2=1.3, alpha3=1e14, alpha4=0.4, scatter=0.35), 3.0)
        for d in (-step, step)
    ]
    assert abs(float(gradient.alpha1) - float(moved[1] - moved[0]) / (2 * step)) < 2e-3
