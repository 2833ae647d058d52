"""Benchmark of sample_halo_masses: NUTS on every halo, its diagnostics, and its difference from the exact posterior."""

import jax
import numpy as np
import pytest
from inputs import relation_draws

from massmap_jax.models.runner import sample_halo_masses

NUM_WARMUP, NUM_SAMPLES = 150, 300


def _judge(samples, exact):
    """Return diagnostics over all halos, and the errors of the checked means in units of their Monte Carlo error."""
    checked = np.arange(exact.mean.size)
    error = exact.sd / np.sqrt(samples.ess[checked])
    z = (samples.mean[checked] - exact.mean) / error
    high = float(np.mean(samples.r_hat > 1.05))
    figures = {
        "median ESS": float(np.median(samples.ess)),
        "share R-hat > 1.05": high,
        "divergences": float(samples.divergences.sum()),
        "rms z of the mean": float(np.sqrt(np.mean(z**2))),
        "largest z": float(np.abs(z).max()),
        "median sd ratio - 1": float(np.median(samples.sd[checked] / exact.sd) - 1),
    }
    passed = figures["median ESS"] > 0.65 * NUM_SAMPLES and high < 0.01 and 0.8 < figures["rms z of the mean"] < 1.2
    return {"error": figures, "passed": passed and figures["largest z"] < 6}


@pytest.mark.parametrize("num_draws", [1, 10])
def test_nuts_per_halo(record, field, checked, exact, num_draws):
    """One relation on the full field, and a mixture over 10 relation draws on a tenth of the field."""
    relation = relation_draws(num_draws)
    part = field if num_draws == 1 else field.take(np.arange(max(checked.size, len(field.catalogue) // 10)))

    def judge(samples):
        return _judge(samples, exact(relation))

    record(
        f"NUTS per halo, {num_draws} relation draws, {NUM_WARMUP} + {NUM_SAMPLES}",
        lambda: sample_halo_masses(
            jax.random.key(1),
            part.catalogue,
            field.prior,
            relation,
            relation_from="fixed_draws",
            num_warmup=NUM_WARMUP,
            num_samples=NUM_SAMPLES,
        ),
        judge,
        halos=len(part.catalogue),
    )
