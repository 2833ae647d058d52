"""massmap_jax: halo masses and mass maps with honest error bars."""

__version__ = "0.1.0"
