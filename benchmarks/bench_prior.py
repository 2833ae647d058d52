"""Benchmark of MassPrior: draws from the prior, and the evidence integral G."""

import accuracy
import jax
import jax.numpy as jnp
import numpy as np
from inputs import PANEL_NODES, reference_draws, relation_draws

LEAST_P = 1e-3
_G_TOLERANCE = 1e-3


def test_sample(record, field):
    """One mass for each redshift of the field; 20,000 of the masses are compared with the exact CDF."""
    redshift = jnp.asarray(field.objects.redshift, dtype=float)
    function = jax.jit(lambda prior, key, z: prior.sample(key, z))
    prior = jax.tree.map(lambda a: jnp.asarray(a, dtype=float), field.prior)

    def judge(ln_mass):
        part = slice(0, 20_000)
        ln_mass = np.asarray(ln_mass[part], dtype=np.float64)
        pit = accuracy.prior_pit(field.prior_reference, field.objects.redshift[part], ln_mass)
        distance, p_value = accuracy.uniform_distance(pit)
        return {"error": {"KS distance": distance, "KS p": p_value}, "passed": p_value > LEAST_P}

    record(
        "prior.sample",
        lambda: function(prior, jax.random.key(3), redshift),
        judge,
        halos=redshift.size,
        elements=field.prior_reference.mass.size,
        against_notebook=False,
    )


def test_log_evidence(record, field, checked):
    """G under one relation, which a fit of the relation evaluates at every step."""
    relation = relation_draws(1)
    draws = reference_draws(relation)
    objects = field.objects
    width = np.hypot(draws.scatter, objects.sigma) / draws.alpha2
    centre = (
        np.log(draws.alpha3)
        + (objects.ln_lum_obs - draws.alpha1 - draws.alpha4 * np.log1p(objects.redshift)) / draws.alpha2
    )
    arguments = tuple(jnp.asarray(a, dtype=float) for a in (centre, objects.redshift, width))
    function = jax.jit(lambda prior, *a: prior.log_evidence(*a))
    prior = jax.tree.map(lambda a: jnp.asarray(a, dtype=float), field.prior)

    def judge(found):
        exact = accuracy.exact_log_evidence(field.prior_reference, objects.take(checked), draws)
        off = float(np.abs(np.asarray(found, dtype=np.float64)[checked] - exact).max())
        return {"error": {"ln G": off}, "passed": off < _G_TOLERANCE}

    record(
        "prior.log_evidence (G), 1 draw",
        lambda: function(prior, *arguments),
        judge,
        halos=centre.size,
        elements=PANEL_NODES,
        against_notebook=False,
    )
