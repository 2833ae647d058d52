"""Every public kernel under jit, vmap and grad, in both precisions (G: tests/prior/test_prior.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.tables import schechter_table

from massmap_jax.choices import METHODS
from massmap_jax.likelihood import integrals as likelihood
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import GaussianTerm, TabulatedTerm
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # older JAX
    from jax.experimental import enable_x64

PRIOR = MassPrior.from_table(*schechter_table())
RELATION = MassLuminosityRelation.preset("bigmali2017")
NORMALS = np.linspace(-2.3, 2.3, 9)
NODES = np.linspace(22.0, 35.0, 14)
# Modules hold arrays and are arguments, as everywhere in the package: a captured one would be baked in.
MODULES = (PRIOR, RELATION, NORMALS, TabulatedTerm(NODES, np.sin(NODES)))


def ln_f(method, kind="lognormal"):
    return lambda modules, m, z, L, s: likelihood.log_likelihood(method, kind)(m, z, L, s, modules[1], modules[2])


def of_prior(name):
    return lambda modules, *arguments: getattr(modules[0], name)(*arguments)


def panel(function):
    """A Gaussian density through panels, as a function of where it is asked for and of its centre."""

    def run(modules, at, centre):
        low, high = jnp.asarray(20.0, dtype=at.dtype), jnp.asarray(40.0, dtype=at.dtype)
        density = jnp.exp(-0.5 * (panels.panel_nodes(low, high, 16) - centre) ** 2)
        return function(density, low, high, 16, at)

    return run


def log_weights(z, spread):
    return jnp.asarray(np.linspace(-3, 3, 60), dtype=z.dtype) * spread + z


MASSES, REDSHIFTS, LN_LUM = [27.0, 28.3, 31.0], [0.1, 1.0, 3.0], [8.0, 9.0, 9.7]
BRIGHT = [8.9, 9.9, 11.9]
# name: (scalar function of the modules and its arguments, three points per argument)
KERNELS = {
    "prior.log_prob": (of_prior("_log_prob"), ([24.1, 28.3, 32.11], [0.3, 1.0, 3.3])),
    "prior.cdf": (of_prior("_cdf"), ([24.1, 28.3, 32.11], [0.3, 1.0, 3.3])),
    "prior.conditional_quantile": (
        of_prior("_conditional_quantile"),
        ([-1.1, 0.2, 1.3], [26.1, 28.3, 31.0], [0.3, 1.0, 3.3], [0.05, 0.4, 1.0]),
    ),
    "relation.mean_ln_lum": (lambda x, m, z: x[1].mean_ln_lum(m, z), (MASSES, REDSHIFTS)),
    "relation.data_term": (
        lambda x, m, L, s, z: x[1].data_term(L, s, z)(m),
        (MASSES, LN_LUM, [0.05, 0.2, 1.0], REDSHIFTS),
    ),
    "gaussian term": (
        lambda x, m, c, w: GaussianTerm.normalised(c, w)(m),
        (MASSES, [27.5, 28.3, 27.0], [0.3, 0.1, 2.0]),
    ),
    "sum of gaussian terms": (
        lambda x, m, c, w: (GaussianTerm.normalised(c, w) + GaussianTerm.normalised(28.0, 0.7))(m),
        (MASSES, [27.5, 28.3, 27.0], [0.3, 0.1, 2.0]),
    ),
    "tabulated term": (lambda x, m: x[3](m), ([24.3, 28.3, 32.2],)),
    "analytic": (ln_f("analytic"), (MASSES, REDSHIFTS, LN_LUM, [0.05, 0.2, 1.0])),
    "monte_carlo": (ln_f("monte_carlo"), (MASSES, REDSHIFTS, BRIGHT, [0.1, 0.2, 1.0])),
    "importance": (ln_f("importance"), (MASSES, REDSHIFTS, BRIGHT, [0.1, 0.2, 0.3])),
    "quadrature": (ln_f("quadrature"), (MASSES, REDSHIFTS, BRIGHT, [0.1, 0.2, 0.3])),
    "quadrature, normal noise": (ln_f("quadrature", "normal"), (MASSES, REDSHIFTS, BRIGHT, [0.1, 0.2, 0.3])),
    "quadrature, upper limit": (ln_f("quadrature", "upper_limit"), (MASSES, REDSHIFTS, BRIGHT, [0.1, 0.2, 0.3])),
    "effective sample size": (
        lambda x, z, s: likelihood.effective_sample_size(log_weights(z, s)),
        ([0.0, -5.0, 9.0], [0.1, 1.0, 2.0]),
    ),
    "pareto k": (lambda x, z, s: likelihood.pareto_k(log_weights(z, s)), ([0.0, -5.0, 9.0], [0.3, 1.0, 2.0])),
    "panel_cdf": (panel(panels.panel_cdf), ([29.0, 30.3, 31.0], [29.5, 30.0, 30.7])),
    "panel_quantile": (
        panel(lambda d, low, high, n, at: panels.panel_quantile(d, low, high, n, at, 1 - at)),
        ([0.2, 0.5, 0.9], [29.5, 30.0, 30.7]),
    ),
    "no selection": (
        lambda x, L, z: NoSelection().log_prob(L, z) + NoSelection().log_norm(x[1], x[0], z, 0.05),
        (LN_LUM, REDSHIFTS),
    ),
}


def evaluate(name, x64):
    """Values and gradients at the points, through jit(vmap(.))."""
    function, points = KERNELS[name]
    with enable_x64(x64):
        arguments = [jnp.asarray(p, dtype=float) for p in points]
        axes = (None, *(0,) * len(points))
        both = jax.jit(jax.vmap(jax.value_and_grad(function, tuple(range(1, len(axes)))), axes))
        value, grads = both(MODULES, *arguments)
        assert value.dtype == (jnp.float64 if x64 else jnp.float32)
        return np.asarray(value, dtype=float), np.stack([np.asarray(g, dtype=float) for g in grads])


# Its float32 gradient loses digits where products are not fused with sums.
OPTIMISED = ("panel_quantile",)


@pytest.fixture(autouse=True)
def optimisations(request):
    """The other tests of this file are compiled as conftest.py says."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name in OPTIMISED:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", KERNELS)
def test_jit_vmap_grad_in_both_precisions(name):
    function, points = KERNELS[name]
    value, grads = evaluate(name, True)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(grads))
    single, single_grads = evaluate(name, False)
    np.testing.assert_allclose(single, value, rtol=1e-4, atol=1e-4)
    scale = np.abs(grads).max(axis=1, keepdims=True) + 1e-3
    np.testing.assert_allclose(single_grads / scale, grads / scale, atol=5e-3)
    # central differences in float64
    with enable_x64(True):
        batched = jax.jit(jax.vmap(function, (None, *(0,) * len(points))))
        base = [jnp.asarray(p, dtype=float) for p in points]
        np.testing.assert_allclose(batched(MODULES, *base), value, rtol=1e-9, atol=1e-12)
        for i, argument in enumerate(base):
            step = 1e-5
            high, low = (batched(MODULES, *base[:i], argument + s * step, *base[i + 1 :]) for s in (1, -1))
            np.testing.assert_allclose(
                (np.asarray(high) - np.asarray(low)) / (2 * step) / scale[i],
                grads[i] / scale[i],
                atol=2e-3,
                err_msg=f"argument {i}",
            )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_in_the_relation_and_the_prior(method):
    """What a fit differentiates: ln f in every relation parameter, G in the node densities."""
    with enable_x64(True):
        grads = jax.jit(
            jax.grad(lambda r: likelihood.log_likelihood(method)(28.3, 1.0, 9.5, 0.2, r, jnp.asarray(NORMALS)))
        )(jax.tree.map(jnp.asarray, RELATION))
        for name in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter"):

            def moved(step, name=name):
                values = {n: float(getattr(RELATION, n)) for n in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")}
                values[name] *= 1 + step
                one = MassLuminosityRelation.create(**values)
                return float(likelihood.log_likelihood(method)(28.3, 1.0, 9.5, 0.2, one, NORMALS))

            expected = (moved(1e-6) - moved(-1e-6)) / (2e-6 * float(getattr(RELATION, name)))
            assert float(getattr(grads, name)) == pytest.approx(expected, rel=1e-4, abs=1e-12), name


def test_scatter_of_zero_has_finite_gradients():
    sharp = MassLuminosityRelation.create(alpha1=0.0, alpha2=1.0, alpha3=1.0, scatter=0.0)
    for method in ("analytic", "quadrature", "monte_carlo"):
        grads = jax.grad(
            lambda r, method=method: likelihood.log_likelihood(method)(
                30.1, 1.0, 30.0, 0.1, r, jnp.asarray(NORMALS, dtype=jnp.float32)
            )
        )(jax.tree.map(jnp.asarray, sharp))
        assert all(np.isfinite(g) for g in jax.tree.leaves(grads)), method
