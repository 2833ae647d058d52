"""massmap_jax: halo masses and mass maps with honest error bars.

    catalogue -> prior -> relation -> data term in ln M -> MassPosterior -> MassMap

    >>> import jax, massmap_jax as mm
    >>> catalogue = mm.read_catalogue("clusters.fits", lum="L500", z="z")
    >>> prior = mm.MassPrior.default()
    >>> relation = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 100)
    >>> posterior = mm.mass_posterior(catalogue, prior, relation, relation_from="fixed_draws")
    >>> grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec)
    >>> image = mm.mass_map(jax.random.key(1), catalogue, prior, relation, grid, relation_from="fixed_draws")

Inside, masses are in Msun without h and logarithms are natural. Importing leaves JAX's configuration alone.
"""

import importlib

__version__ = "0.1.0"

# Imported when first asked for, so that `massmap-jax --help` does not wait for JAX.
_HOME = {
    "Flag": "flags",
    "GaussianTerm": "data_term",
    "HaloCatalogue": "catalogue",
    "MassLuminosityRelation": "relation",
    "MassMap": "maps",
    "MassPosterior": "posterior",
    "MassPrior": "prior",
    "MassmapError": "errors",
    "NoSelection": "selection",
    "PixelGrid": "pixels",
    "SimulatedField": "simulate",
    "TabulatedTerm": "data_term",
    "mass_map": "maps",
    "mass_posterior": "posterior",
    "read_catalogue": "io",
    "read_map": "map_io",
    "simulate_field": "simulate",
    "write_map": "map_io",
    "write_table": "writers",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
