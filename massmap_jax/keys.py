"""Random numbers that belong to an object: they follow its id, whatever the order, subset or chunk of the rows."""

import jax
from jaxtyping import Array, Float, Int


def base_normals(key: Array, id_hash: Int[Array, "2"], shape) -> Float[Array, "..."]:
    """Standard normals keyed by the halo's id: order, subset and chunk leave them alone."""
    key = jax.random.fold_in(jax.random.fold_in(key, id_hash[0]), id_hash[1])
    return jax.random.normal(key, shape)
