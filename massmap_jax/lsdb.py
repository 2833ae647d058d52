"""Masses, maps and the relation of an LSDB or Dask catalogue: the public names of `massmap_jax.scale.lsdb`."""

from massmap_jax.scale.lsdb import fit_relation, mass_map, mass_posterior, posterior_surface, write

__all__ = ["fit_relation", "mass_map", "mass_posterior", "posterior_surface", "write"]
