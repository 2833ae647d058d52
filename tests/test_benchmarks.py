"""The formulas by which benchmarks/peers/regressions.py scores other codes, without these codes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def regressions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield __import__("peers.regressions", fromlist=["regressions"])
    for name in [name for name in sys.modules if name.split(".")[0] == "peers"]:
        del sys.modules[name]


def normal_data(regressions, number, seed=0):
    """Objects of a normal population whose p(ln M_obs | ln L_obs) is a normal that can be written down."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 0.5, number)
    y = 1.0 + 1.3 * x + np.hypot(0.3, 0.1) * rng.normal(size=number)
    m = x + 0.2 * rng.normal(size=number)
    columns = np.full(number, 0.1), np.full(number, 0.2), rng.uniform(0.1, 0.6, number)
    return regressions.Data(y, m, *columns)


def exact_scores(regressions, data):
    total = 1.3**2 * 0.25 + 0.1
    mean = 1.3 * 0.25 / total * (data.ln_lum - 1.0)
    spread = np.sqrt(0.25 - (1.3 * 0.25) ** 2 / total + 0.04)
    density = norm.logpdf(data.ln_mass, mean, spread)
    return regressions.scores(lambda m: norm.cdf(m, mean[:, None], spread), density, data.ln_mass)


@pytest.mark.parametrize("width", [0.1, 0.2, 0.4])
def test_crps_of_a_normal_is_the_closed_form(regressions, width):
    z = np.random.default_rng(1).normal(size=200)
    found = regressions.scores(lambda m: norm.cdf(m, 0.0, width), np.zeros(200), width * z)
    exact = width * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)).mean()
    assert found["CRPS"] == pytest.approx(exact, abs=1e-4)
    assert found["mean PIT"] == pytest.approx(norm.cdf(z).mean(), abs=1e-12)


def test_prediction_with_draws_of_linmix_is_exact_for_its_model(regressions, monkeypatch):
    """With the true regression of ln M on the true ln L as its only draw: three components that are the same normal."""
    variance = 1.3**2 * 0.25 + 0.09
    slope = 1.3 * 0.25 / variance
    chain = np.zeros(1, dtype=[(p, float) for p in ("alpha", "beta", "sigsqr")] + [(p, (float, 3)) for p in ("pi", "mu", "tausqr")])  # fmt: skip
    chain["beta"], chain["alpha"], chain["sigsqr"] = slope, -slope, 0.25 - slope**2 * variance
    chain["pi"], chain["mu"], chain["tausqr"] = 1 / 3, 1.0, variance
    monkeypatch.setattr(regressions, "chain_of", lambda *arguments: chain)
    data = normal_data(regressions, 100)
    found = regressions.predicted_by_linmix(data, data, 0, 0)
    assert found == pytest.approx(exact_scores(regressions, data), abs=1e-9)


def test_least_squares_is_nearly_exact_where_everything_is_normal(regressions):
    data = normal_data(regressions, 40_000, seed=2)
    known, asked = data.take(np.arange(20_000)), data.take(np.arange(20_000, 40_000))
    found, exact = regressions.predicted_by_least_squares(known, asked), exact_scores(regressions, asked)
    assert found == pytest.approx(exact, abs=5e-3)
    # The twin: errors that are twice as large are another prediction.
    wrong = regressions.predicted_by_least_squares(known, asked._replace(ln_mass=2 * asked.ln_mass))
    assert wrong["ln p"] < exact["ln p"] - 0.3
