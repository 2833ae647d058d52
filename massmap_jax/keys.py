"""Random numbers that belong to an object: they follow its id, whatever the order, subset or chunk of the rows."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt


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


def stratified_picks(key: Array, shares: Float[np.ndarray, "draw"], number: int) -> Int[np.ndarray, " pick"]:
    """Pick draws at random by their weights, stratified: each is used as evenly as its weight allows.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key.
    shares : Float[np.ndarray, "draw"]
        Normalised weights of the draws.
    number : int
        Draws to pick; one draw may be picked several times.

    Returns
    -------
    Int[np.ndarray, "pick"]
        Their numbers, in rising order.
    """
    cumulative = np.cumsum(shares)
    places = (np.arange(number) + np.asarray(jax.random.uniform(key, (number,)), dtype=np.float64)) / number
    index = np.searchsorted(cumulative, places * cumulative[-1], side="right")
    return np.minimum(index, cumulative.size - 1)
