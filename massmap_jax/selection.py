"""Which objects can be in the catalogue at all: p_det(L_obs, z).

Detection on L_obs cancels from one object's P(M | L_obs, relation), not from the evidence Z_k that weighs relation
draws: there Z_k is divided by A = the probability that such an object is in the catalogue.
"""

from typing import Protocol

import equinox as eqx
import jax.numpy as jnp


class Selection(Protocol):
    def log_prob(self, ln_lum_obs, z):
        """ln of the probability that an object with this L_obs and z is in the catalogue."""

    def log_norm(self, relation, prior, z):
        """ln A: ln of the integral of p_det(L_obs, z) p(L_obs | z, relation, prior) dL_obs, for one relation draw."""


class NoSelection(eqx.Module):
    """Every object is in the catalogue."""

    def log_prob(self, ln_lum_obs, z):
        return jnp.zeros_like(ln_lum_obs)

    def log_norm(self, relation, prior, z):
        return jnp.zeros_like(z)
