"""Benchmark of mass_posterior: the four integrators, two numbers of relation draws, and the peak memory."""

import accuracy
import jax
import numpy as np
import pytest
from inputs import GRID_MASSES, PANEL_NODES, reference_draws, relation_draws

from massmap_jax import mass_posterior

NUM_LUM = 100
QUADRATURE_NODES = 64


def _compute(field, relation, method="analytic"):
    """Run the timed call. Its arrays come from the host and go back to it, so the transfers count."""
    return mass_posterior(
        field.catalogue,
        field.prior,
        relation,
        relation_from="fixed_draws",
        method=method,
        key=jax.random.key(1),
        num_lum_draws=NUM_LUM,
        quantile_levels=(accuracy.LEVELS[0], 0.16, 0.5, 0.84, accuracy.LEVELS[1]),
    )


def _summaries(posterior, checked) -> accuracy.Posteriors:
    return accuracy.Posteriors(posterior.mean[checked], posterior.sd[checked], posterior.quantiles[checked][:, [0, -1]])


@pytest.mark.parametrize("num_draws", [10, 100])
def test_analytic(record, field, checked, exact, num_draws):
    relation = relation_draws(num_draws)
    record(
        f"analytic, {num_draws} draws",
        lambda: _compute(field, relation),
        lambda posterior: accuracy.judge(_summaries(posterior, checked), exact(relation)),
        halos=len(field.catalogue),
        elements=num_draws * PANEL_NODES,
        grid_elements=num_draws * GRID_MASSES,
        target=400_000 if num_draws == 10 else None,
    )


@pytest.mark.parametrize("method", ["monte_carlo", "importance"])
def test_sampled(record, field, checked, exact, method):
    relation = relation_draws(10)

    def judge(posterior):
        found, best = _summaries(posterior, checked), exact(relation)
        expected = accuracy.expected_error(
            np.random.default_rng(4),
            method,
            field.prior_reference,
            field.objects.take(checked),
            reference_draws(relation),
            best,
            NUM_LUM,
        )
        return accuracy.judge_sampled(found, best, expected)

    record(
        f"{method}, 10 x {NUM_LUM} draws",
        lambda: _compute(field, relation, method),
        judge,
        halos=len(field.catalogue),
        elements=10 * NUM_LUM * PANEL_NODES,
        grid_elements=10 * NUM_LUM * GRID_MASSES,
        target=4000 if method == "monte_carlo" else None,
    )


def test_quadrature(record, field, checked, exact):
    part, relation = field.take(np.arange(min(len(field.catalogue), 20_000))), relation_draws(10)
    record(
        f"quadrature, 10 draws x {QUADRATURE_NODES} nodes",
        lambda: _compute(part, relation, "quadrature"),
        lambda posterior: accuracy.judge(_summaries(posterior, checked), exact(relation)),
        halos=len(part.catalogue),
        elements=10 * QUADRATURE_NODES * PANEL_NODES,
        grid_elements=10 * QUADRATURE_NODES * GRID_MASSES,
    )


@pytest.mark.parametrize("rows", [100_000, 1_000_000])
def test_memory(record_memory, rows):
    record_memory("analytic", rows)


def test_memory_monte_carlo(record_memory):
    record_memory("monte_carlo", 100_000)
