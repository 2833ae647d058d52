"""Random numbers that belong to an object: they follow its id, whatever the order, subset or chunk of the rows."""

import jax
from jaxtyping import Array, Float, UInt


def base_normals(key: Array, id_hash: UInt[Array, "2"], shape) -> Float[Array, "..."]:
    """Draw standard normals that depend on the key and on the halo's id only.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    id_hash : UInt[Array, "2"]
        Hash of the halo's id.
    shape : tuple of int
        Shape of the result.

    Returns
    -------
    Float[Array, "..."]
        The normals, the same in any order, subset or chunk of the rows.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, id_hash[0]), id_hash[1])
    return jax.random.normal(key, shape)
