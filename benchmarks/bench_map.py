"""Benchmark of mass_map: 100 coherent map realisations, and the peak memory."""

from dataclasses import replace

import accuracy
import jax
import numpy as np
import pytest
from inputs import PANEL_NODES, reference_draws, relation_draws

from massmap_jax import mass_map, mass_posterior
from massmap_jax.maps.pixels import PixelGrid

NUM_DRAWS = 100
SIDE = 64
# With a smaller Kolmogorov-Smirnov p-value, the sampled masses do not follow the exact posterior.
LEAST_P = 1e-3


@pytest.fixture
def mapped(field, checked):
    """The field with each checked object alone in its pixel, so that the map shows its mass samples."""
    grid = PixelGrid(projection="flat", shape=(SIDE, SIDE), pixel_arcmin=40 / SIDE, centre=(0.0, 0.0))
    rng, number = np.random.default_rng(5), len(field.catalogue)
    pixel = rng.integers(checked.size, SIDE**2, number)
    pixel[checked] = checked
    x, y = ((i - (SIDE - 1) / 2) * 40 / SIDE for i in (pixel % SIDE, pixel // SIDE))
    catalogue = replace(field.catalogue, ra=x, dec=y)
    place = grid.index(x, y)[checked]
    assert np.unique(place).size == checked.size
    return catalogue, grid, place


def test_map(record, field, checked, mapped):
    """The map alone: the posterior is passed in, as on the command line, which has computed it for the table."""
    catalogue, grid, place = mapped
    relation = relation_draws(NUM_DRAWS)
    posterior = mass_posterior(catalogue, field.prior, relation, relation_from="fixed_draws")

    def judge(made):
        objects, draws = field.objects.take(checked), reference_draws(relation)
        mass = made.draws.reshape(NUM_DRAWS, -1)[:, place].T
        # With equal weights and as many map realisations as relation draws, realisation t uses relation draw t.
        pit = accuracy.pit_of_draws(field.prior_reference, objects, draws, np.log(mass))
        distance, p_value = accuracy.uniform_distance(pit)
        mean = made.mean.ravel()[place]
        exact = accuracy.exact_mean_mass(field.prior_reference, objects, draws)
        off = float(np.abs(mean / exact - 1).max())
        return {
            "error": {"KS distance": distance, "KS p": p_value, "mean map": off},
            "passed": p_value > LEAST_P and off < accuracy.TOLERANCE["mean"],
        }

    record(
        f"mass_map, {NUM_DRAWS} draws (posterior given)",
        lambda: mass_map(
            jax.random.key(2),
            catalogue,
            field.prior,
            relation,
            grid,
            relation_from="fixed_draws",
            num_draws=NUM_DRAWS,
            keep_draws=True,
            posterior=posterior,
        ),
        judge,
        halos=len(catalogue),
        elements=NUM_DRAWS * PANEL_NODES,
    )


@pytest.mark.parametrize("rows", [100_000, 1_000_000])
def test_memory(record_memory, rows):
    record_memory("map", rows)
