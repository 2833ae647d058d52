"""massmap_jax: halo masses and mass maps with honest error bars.

    catalogue -> prior -> relation (given, or fitted) -> data term in ln M -> MassPosterior -> MassMap

    >>> import jax, massmap_jax as mm
    >>> catalogue = mm.read_catalogue("clusters.fits", lum="L500", z="z")
    >>> prior = mm.MassPrior.default()
    >>> fit = mm.fit_relation(catalogue, prior, "bigmali2017", method="nuts", key=jax.random.key(0))
    >>> relation = fit.draws.draw(slice(None, None, 10))
    >>> posterior = mm.mass_posterior(catalogue, prior, relation, relation_from="this_catalogue")
    >>> grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec)
    >>> image = mm.mass_map(jax.random.key(1), catalogue, prior, relation, grid, relation_from="this_catalogue")

Inside, masses are in Msun without h and logarithms are natural. Importing leaves JAX's configuration alone.
"""

import importlib

__version__ = "0.1.0"

# Imported when first asked for, so that `massmap-jax --help` does not wait for JAX.
_HOME = {
    "CalibrationCheck": "checks",
    "Circle": "regions",
    "ConvergenceMap": "lensing",
    "Flag": "flags",
    "FluxLimit": "selection",
    "GaussianTerm": "data_term",
    "HaloCatalogue": "catalogue",
    "HaloMassSamples": "models.runner",
    "HealpixGrid": "healpix",
    "MapContrast": "map_kinds",
    "MassLuminosityRelation": "relation",
    "MassMap": "maps",
    "MassPosterior": "posterior",
    "MassPrior": "prior",
    "MassmapError": "errors",
    "NoSelection": "selection",
    "PixelGrid": "pixels",
    "Polygon": "regions",
    "PosteriorSurface": "surface",
    "PriorCheck": "checks",
    "RegionMass": "regions",
    "Relation": "relation",
    "RelationLikelihood": "relation_likelihood",
    "RelationPosterior": "relation_posterior",
    "RelationPrior": "relation_prior",
    "SimulatedField": "simulate",
    "TabulatedSelection": "selection",
    "TabulatedTerm": "data_term",
    "calibration_check": "checks",
    "contrast": "map_kinds",
    "convergence_map": "lensing",
    "field_model": "models.field",
    "fit_relation": "relation_fit",
    "halo_mass_model": "models.halo_mass",
    "log_likelihood": "relation_likelihood",
    "map_kinds_figure": "map_kind_plots",
    "map_of_kind": "map_kinds",
    "mass_map": "maps",
    "mass_posterior": "posterior",
    "one_slice": "map_slices",
    "prior_check": "checks",
    "read_catalogue": "io",
    "read_convergence": "convergence_io",
    "read_map": "map_io",
    "region_mass": "regions",
    "relation_model": "models.relation",
    "sample_halo_masses": "models.runner",
    "simulate_field": "simulate",
    "smoothed": "map_smoothing",
    "sum_of_slices": "map_slices",
    "write_convergence": "convergence_io",
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
