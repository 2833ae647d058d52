"""A kernel for the tests of what runs kernels: Metropolis steps of one number."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Walk(NamedTuple):
    """A Metropolis kernel with NumPyro's methods, and little to compile."""

    potential_fn: Callable
    sample_field = "place"

    class State(NamedTuple):
        place: jax.Array
        key: jax.Array

    def init(self, key, num_warmup, place, args, kwargs):
        return self.State(place, key)

    def sample(self, state, args, kwargs):
        key, key_step, key_accept = jax.random.split(state.key, 3)
        new = state.place + 1.5 * jax.random.normal(key_step)
        better = self.potential_fn(state.place) - self.potential_fn(new)
        accepted = jnp.log(jax.random.uniform(key_accept)) < better
        return self.State(jnp.where(accepted, new, state.place), key)
