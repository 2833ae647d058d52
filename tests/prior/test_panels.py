"""Panels: Gauss-Legendre nodes, and the CDF and quantiles of the polynomial through them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from massmap_jax.prior import panels

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # older JAX
    from jax.experimental import enable_x64

PANELS = panels.BASE_PANELS
find_range = jax.jit(panels.posterior_range)
panel_cdf = jax.jit(panels.panel_cdf, static_argnums=3)
panel_quantile = jax.jit(panels.panel_quantile, static_argnums=3)
SCORES = np.array([-4.7, -3.1, -1.0, -0.2, 0.0, 0.5, 2.0, 3.1, 4.7])


def nodes_and_weights(low, high, number=PANELS):
    return np.asarray(panels.panel_nodes(low, high, number)), np.asarray(panels.panel_weights(low, high, number))


def test_weights_integrate_polynomials_of_degree_15_exactly():
    with enable_x64(True):
        x, w = nodes_and_weights(np.float64(-1.0), np.float64(3.0), 2)
        for power in range(16):
            exact = (3.0 ** (power + 1) - (-1.0) ** (power + 1)) / (power + 1)
            assert w @ x**power == pytest.approx(exact, rel=1e-13)


def test_nodes_are_increasing_and_inside():
    x, w = nodes_and_weights(jnp.float32(23.0), jnp.float32(33.0))
    assert x.shape == w.shape == (PANELS * panels.NODES,)
    assert np.all(np.diff(x) > 0) and x[0] > 23 and x[-1] < 33 and np.all(w > 0)
    assert w.sum() == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize("x64, atol", [(False, 2e-5), (True, 3e-6)])
def test_gaussian_cdf_and_quantile(x64, atol):
    """Range +-7.7 sd in 8 panels, as `posterior_range` gives it; errors in sd and in probability."""
    mean, sd = 30.0, 0.4
    with enable_x64(x64):
        reach = np.sqrt(2 * panels.DEPTH) * sd
        low, high = jnp.asarray(mean - reach, dtype=float), jnp.asarray(mean + reach, dtype=float)
        x = panels.panel_nodes(low, high, PANELS)
        density = 7.3 * jnp.exp(-0.5 * ((x - mean) / sd) ** 2)  # any normalisation
        at = jnp.asarray(mean + sd * SCORES, dtype=float)
        cdf = np.asarray(panel_cdf(density, low, high, PANELS, at))
        np.testing.assert_allclose(cdf, stats.norm.cdf(SCORES), atol=atol)
        lower, upper = jnp.asarray(stats.norm.cdf(SCORES)), jnp.asarray(stats.norm.sf(SCORES))
        quantile = np.asarray(panel_quantile(density, low, high, PANELS, lower, upper))
        np.testing.assert_allclose((quantile - mean) / sd, SCORES, atol=6e-4)
        assert np.all(np.diff(quantile) > 0)
        # the interpolant is one object: its quantile function inverts its CDF far better than it follows the Gaussian
        back = np.asarray(panel_cdf(density, low, high, PANELS, jnp.asarray(quantile, dtype=float)))
        np.testing.assert_allclose(back, stats.norm.cdf(SCORES), atol=1e-5 if not x64 else 1e-10)


def test_both_tails_reach_far_in_float32():
    """1 - lower is 1 in float32 at 1e-9: the upper tail has to be given, and is used."""
    with enable_x64(False):
        reach = np.sqrt(2 * panels.DEPTH)
        low, high = jnp.float32(-reach), jnp.float32(reach)
        density = jnp.exp(-0.5 * panels.panel_nodes(low, high, PANELS) ** 2)
        tail = np.array([1e-4, 1e-6, 1e-9])
        upper = panel_quantile(density, low, high, PANELS, jnp.asarray(1 - tail), jnp.asarray(tail))
        lower = panel_quantile(density, low, high, PANELS, jnp.asarray(tail), jnp.asarray(1 - tail))
        np.testing.assert_allclose(np.asarray(upper), stats.norm.isf(tail), rtol=1e-3)
        np.testing.assert_allclose(np.asarray(lower), -stats.norm.isf(tail), rtol=1e-3)


def test_exponential_against_a_sharp_edge():
    """A posterior far beyond the table is an exponential at its edge: 30 e-folds in 8 panels."""
    with enable_x64(True):
        low, high = jnp.asarray(23.0), jnp.asarray(23.0 + panels.DEPTH * 1e-3)
        density = jnp.exp(-(panels.panel_nodes(low, high, PANELS) - 23.0) / 1e-3)
        level = np.array([1e-3, 0.1, 0.5, 0.9, 0.999])
        got = np.asarray(panel_quantile(density, low, high, PANELS, jnp.asarray(level), jnp.asarray(1 - level)))
        np.testing.assert_allclose((got - 23.0) / 1e-3, stats.expon.ppf(level), atol=1e-3)


def test_cdf_is_0_below_and_1_above_and_monotone_between():
    low, high = jnp.asarray(0.0), jnp.asarray(4.0)
    x = panels.panel_nodes(low, high, PANELS)
    density = jnp.where(x > 2.0, jnp.exp(-5 * (x - 2.0)), 0.0)  # panels without mass
    at = jnp.linspace(-1.0, 5.0, 121)
    cdf = np.asarray(panel_cdf(density, low, high, PANELS, at))
    assert cdf[0] == 0 and cdf[-1] == pytest.approx(1.0, abs=1e-6) and np.all(np.diff(cdf) > -1e-6)
    level = jnp.asarray([1e-6, 0.5, 1 - 1e-6])
    quantile = np.asarray(panel_quantile(density, low, high, PANELS, level, 1 - level))
    assert np.all(np.isfinite(quantile)) and np.all(quantile >= 2.0) and np.all(np.diff(quantile) > 0)


def random_tables(rng, cells):
    """Falling ln densities with bumps: (row (k,), nodes (k,))."""
    nodes = np.sort(np.concatenate([[23.0, 34.0], rng.uniform(23.0, 34.0, cells - 1)]))
    row = -0.9 * (nodes - 23) - np.exp(0.6 * (nodes - 31)) + rng.normal(size=nodes.size) * rng.choice([0.0, 1.0])
    return row, nodes


def dense_product(row, nodes, centre, width):
    """A fine grid that resolves the Gaussian, and ln (prior x Gaussian) on it."""
    grid = np.concatenate([np.linspace(nodes[0], nodes[-1], 4001), centre + width * np.linspace(-12, 12, 2001), nodes])
    grid = np.unique(grid[(grid >= nodes[0]) & (grid <= nodes[-1])])
    return grid, np.interp(grid, nodes, row) - 0.5 * ((grid - centre) / width) ** 2


@pytest.mark.parametrize("cells", [2, 12, 409])
@pytest.mark.parametrize("x64", [False, True])
def test_range_holds_everything_above_exp_minus_30_of_the_peak(cells, x64):
    rng = np.random.default_rng(cells)
    with enable_x64(x64):
        find = jax.jit(lambda row, nodes, c, w: panels.posterior_range(panels.Blocks.of(row, nodes), c, w))
        for _ in range(25):
            row, nodes = random_tables(rng, cells)
            width = 10 ** rng.uniform(-2.5, 0.7)
            centre = rng.uniform(20.0, 37.0) if width > 0.05 else rng.uniform(22.9, 34.1)
            low, high, narrowest = (float(v) for v in find(row, nodes, np.array([centre]), np.array([width])))
            assert nodes[0] - 1e-5 <= low < high <= nodes[-1] + 1e-5
            assert narrowest == pytest.approx(high - low, rel=1e-4)
            grid, ln_product = dense_product(row, nodes, centre, width)
            kept = grid[ln_product > ln_product.max() - panels.DEPTH]
            slack = 3e-6 * 34 + 1e-3 * width
            assert low <= kept[0] + slack and high >= kept[-1] - slack


def test_range_is_no_wider_than_it_need_be():
    """8 panels resolve it: the range must stay near the Gaussian's own, also where a block is wider than it."""
    row, nodes = -0.9 * np.linspace(0, 11, 12), np.linspace(23, 34, 12)
    for width in (0.003, 0.05, 0.4):
        low, high, _ = find_range(
            panels.Blocks.of(jnp.asarray(row), jnp.asarray(nodes)), jnp.asarray([28.3]), jnp.asarray([width])
        )
        assert float(high - low) < 2.6 * np.sqrt(2 * panels.DEPTH) * width + 1e-5


def test_range_over_corners_is_the_union_and_the_narrowest_is_reported():
    row, nodes = jnp.asarray(-0.9 * np.linspace(0, 11, 410)), jnp.asarray(np.linspace(23, 34, 410))
    blocks = panels.Blocks.of(row, nodes)
    centre, width = np.array([26.0, 26.0, 29.0, 29.0]), np.array([0.05, 0.4, 0.05, 0.4])
    low, high, narrowest = (float(v) for v in find_range(blocks, jnp.asarray(centre), jnp.asarray(width)))
    single = np.array(
        [[float(v) for v in find_range(blocks, jnp.asarray([c]), jnp.asarray([w]))] for c, w in zip(centre, width)]
    )
    assert low == pytest.approx(single[:, 0].min()) and high == pytest.approx(single[:, 1].max())
    assert narrowest == pytest.approx(single[:, 2].min(), rel=1e-5)


def test_range_far_outside_the_table_is_finite_and_in_order():
    """So far that float32 does not know the distance: a NaN or a reversed interval would stop a whole run."""
    row, nodes = jnp.asarray(-0.9 * np.linspace(0, 9.4, 410)), jnp.asarray(np.linspace(23.2, 32.6, 410))
    blocks = panels.Blocks.of(row, nodes)
    for centre, width in ((100.0, 1e-3), (-50.0, 1e-3), (1e4, 0.01), (-1e4, 0.01), (60.0, 0.028)):
        found = find_range(blocks, jnp.asarray([centre]), jnp.asarray([width]))
        low, high, narrowest = (float(v) for v in found)
        assert nodes[0] - 1e-4 <= low <= high <= nodes[-1] + 1e-4 and narrowest >= 0, (centre, width, low, high)
