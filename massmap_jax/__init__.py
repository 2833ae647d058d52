"""massmap_jax: halo masses and mass maps with honest error bars.

    catalogue -> prior -> relation (given, or fitted) -> data term in ln M -> MassPosterior -> MassMap

    >>> import jax, massmap_jax as mm
    >>> catalogue = mm.read_catalogue("clusters.fits", lum="L500", z="z", sigma=0.1, lum_in="1e44 erg/s")
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
    "CalibrationCheck": "checks.calibration",
    "CalibrationMasses": "relation.calibration",
    "Circle": "maps.regions",
    "ConvergenceMap": "maps.convergence",
    "CosmologyDerivatives": "posterior.cosmology_derivatives",
    "CosmologyDraws": "prior.cosmology_draws",
    "CosmologyLikelihood": "relation.cosmology_likelihood",
    "CosmologyPosterior": "relation.cosmology_posterior",
    "Flag": "catalogue.flags",
    "FluxLimit": "likelihood.selection",
    "GaussianTerm": "likelihood.terms",
    "HaloCatalogue": "catalogue.halo_catalogue",
    "RedshiftDistributions": "catalogue.photo_z",
    "HaloMassSamples": "models.runner",
    "HealpixGrid": "maps.healpix",
    "HostPosterior": "posterior.host_result",
    "JointPosterior": "relation.joint_posterior",
    "MapContrast": "maps.kinds",
    "MapForm": "maps.form",
    "MassLuminosityRelation": "relation.law",
    "MassMap": "maps.images",
    "MassMeasurements": "simulate",
    "MassPosterior": "posterior.result",
    "MassPrior": "prior.mass_prior",
    "MassmapError": "errors",
    "Matches": "catalogue.match",
    "Membership": "catalogue.membership",
    "MultiObservableRelation": "relation.several",
    "NoSelection": "likelihood.selection",
    "Observables": "catalogue.observables",
    "PixelGrid": "maps.pixels",
    "Polygon": "maps.regions",
    "Population": "prior.population",
    "PopulationComparison": "checks.populations",
    "PosteriorSurface": "posterior.surface",
    "PriorCheck": "checks.prior_check",
    "RedshiftLimit": "likelihood.selection",
    "RegionMass": "maps.regions",
    "Relation": "relation.law",
    "RelationLikelihood": "relation.marginal",
    "RelationPosterior": "relation.fitted",
    "RelationPrior": "relation.beliefs",
    "SatelliteLuminosityFunction": "relation.satellites",
    "SchechterSatellites": "relation.satellites",
    "SelectedOn": "relation.selected_on",
    "SelectedOnMass": "relation.selected_on",
    "ShearProfiles": "likelihood.shear",
    "SimulatedField": "simulate",
    "SignalToNoiseLimit": "likelihood.selection",
    "StackedShear": "likelihood.stacks",
    "StackedTerm": "likelihood.stacks",
    "TabulatedSelection": "likelihood.selection",
    "TabulatedTerm": "likelihood.terms",
    "calibrated_model": "models.calibrated",
    "calibration_check": "checks.calibration",
    "calibrators_check": "checks.calibrators",
    "compare_populations": "checks.populations",
    "cosmology_derivatives": "posterior.cosmology_derivatives",
    "contrast": "maps.kinds",
    "convergence_map": "maps.convergence",
    "field_model": "models.field",
    "fit_relation": "relation.fit",
    "halo_mass_model": "models.halo_mass",
    "host_map": "maps.host_map",
    "host_posterior": "posterior.hosts",
    "log_likelihood": "relation.direct",
    "map_kinds_figure": "figures.map_kinds",
    "map_of_kind": "maps.kinds",
    "mass_in_circle": "maps.circle",
    "mass_map": "maps.mass_map",
    "mass_posterior": "posterior.mass_posterior",
    "match_to_catalogue": "catalogue.match",
    "one_slice": "maps.images",
    "prior_check": "checks.prior_check",
    "read_catalogue": "catalogue.read",
    "read_convergence": "maps.convergence_files",
    "read_map": "maps.files",
    "read_mass_likelihoods": "likelihood.mass_likelihoods",
    "read_shear_profiles": "likelihood.shear_file",
    "region_mass": "maps.regions",
    "relation_model": "models.relation",
    "sample_halo_masses": "models.runner",
    "simulate_field": "simulate",
    "smoothed": "maps.smoothing",
    "sum_of_slices": "maps.images",
    "with_cosmology": "relation.with_cosmology",
    "write_convergence": "maps.convergence_files",
    "write_map": "maps.files",
    "write_table": "catalogue.write",
}
__all__ = ["__version__", *_HOME]
# Modules of public names that need no import of their own.
_MODULES = ("plot",)


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*__all__, *_MODULES])
