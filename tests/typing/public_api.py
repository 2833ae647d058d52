"""Every public name as a user calls it, for mypy to check: `python -m mypy massmap_jax tests/typing`. Never run.

A user has NumPy arrays, keys and keywords. tests/test_types.py holds that no name of `massmap_jax.__all__` is left out.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from matplotlib.figure import Figure

import massmap_jax as mm
from massmap_jax.likelihood.objects import Range


def catalogues(path: Path) -> mm.HaloCatalogue:
    """Read a catalogue, make one from arrays, and write a table."""
    print(mm.__version__)
    mm.read_catalogue(path)
    mm.read_catalogue(
        "clusters.fits", lum="L500", z="z", sigma=0.1, sigma_kind="dex", lum_in="1e44 erg/s", names=["id", "L500", "z"]
    )
    mm.read_catalogue({"lum": np.ones(3), "z": np.full(3, 0.2)}, lum="lum", z="z", field_centre=(150.0, 2.0))
    redshift, luminosity = np.array([0.1, 0.2]), np.array([1e4, 2e4])
    catalogue = mm.HaloCatalogue.from_arrays(
        redshift=redshift,
        luminosity=luminosity,
        sigma_ln_luminosity=0.1,
        ra=[150.0, 150.1],
        dec=[2.0, 2.1],
        ids=["a", "b"],
    )
    mm.HaloCatalogue.from_arrays(
        redshift=jnp.asarray(redshift), ln_luminosity=jnp.log(luminosity), sigma_ln_luminosity=np.array([0.1, 0.2])
    )
    bad = (catalogue.flag & mm.Flag.Z_MISSING) != 0
    usable: np.ndarray = catalogue.usable & ~bad
    part = catalogue.subset(usable).subset(slice(0, 10)).subset([0, 1])
    if part.ra is not None and part.dec is not None:
        print(part.ra.mean(), part.dec.mean(), len(part.notes))
    photo_z = mm.RedshiftDistributions.gaussian(part.redshift, 0.02, contains="likelihood", lum_moves=True)
    said: dict[str, Any] = {"contains": "likelihood", "lum_moves": True}
    mm.RedshiftDistributions.mixture([[1.0]], part.redshift[:, None], [[0.02]], variable="ln_1z", **said)
    mm.RedshiftDistributions.grid(np.linspace(0, 1, 9), np.ones((2, 9)), **said)
    mm.RedshiftDistributions.quantiles(np.linspace(0.01, 0.99, 9), np.ones((2, 9)), **said)
    mm.RedshiftDistributions.from_qp(object(), z=np.linspace(0, 1, 9), **said)
    print(part.with_redshifts(photo_z).redshift_distributions, photo_z.usable.sum(), photo_z.bounds()[0].min())
    mm.write_table(
        path, {"z": redshift, "lum": luminosity}, {"cosmology": "Planck18"}, units={"lum": "erg/s"}, overwrite=True
    )
    try:
        mm.read_catalogue("none.csv")
    except mm.MassmapError as error:
        print(str(error))
    return part


def priors(path: Path) -> mm.MassPrior:
    """Make, save and evaluate mass priors."""
    mm.MassPrior.from_hmf(mass_definition="200c", support="sharp")
    redshift, mass, density = np.linspace(0.0, 1.0, 5), np.geomspace(1e13, 1e15, 20), np.ones((5, 20))
    table = mm.MassPrior.from_table(redshift, mass, density, per="ln_mass", mass_unit="Msun/h", h=0.7, snap="upper")
    table.save(path)
    table.save("prior.npz")
    prior = mm.MassPrior.default()
    prior = mm.MassPrior.load(str(path))
    key = jax.random.key(0)
    ln_mass: np.ndarray = np.log(mass)
    print(prior.z_min, prior.z_max, prior.ln_mass_min, prior.ln_mass_max, prior.mass_definition)
    print(
        prior.log_prob(ln_mass, 0.2).sum(), prior.cdf(np.log(1e14), redshift).max(), prior.sample(key, redshift).mean()
    )
    print(prior.log_evidence(np.log(1e14), redshift, 0.3).sum(), prior.conditional_quantile(0.0, 32.0, 0.1, 0.3).item())
    print(prior.interpolate(prior.ln_density_at(0.3), np.log(1e14)).item(), prior.ln_density_at(np.float64(0.3)).shape)
    return prior


def selections(relation: mm.MassLuminosityRelation, prior: mm.MassPrior) -> None:
    """Make selections and evaluate them."""
    z, ln_lum = np.array([0.1, 0.5]), np.log([1e4, 3e4])
    for selection in (
        mm.NoSelection(),
        mm.FluxLimit(2e4),
        mm.RedshiftLimit.from_flux(3e-12, "Planck18", lum_unit="1e44 erg/s", k_slope=0.1),
        mm.RedshiftLimit.tabulated(z, np.exp(ln_lum)),
        mm.TabulatedSelection(z, ln_lum, np.ones((2, 2))),
        mm.TabulatedSelection([0.0, 1.0], ln_lum, [[0.0, 1.0], [0.5, 1.0]]),
    ):
        print(selection.describe(), selection.log_prob(ln_lum, z).sum(), selection.log_norm(relation, prior, 0.1, 0.05))
    print(mm.SignalToNoiseLimit(5.0).limit_of(z, ln_lum).max(), mm.SignalToNoiseLimit(snr_min=5).describe())
    limit = mm.RedshiftLimit.tabulated([0.1, 0.2], [1e4, 2e4])
    print(limit.ln_lum_min(z).max(), limit.ln_lum_min(0.3).item(), limit.redshift_nodes.size)


def terms() -> mm.TabulatedTerm:
    """Make likelihoods in ln M."""
    both = mm.GaussianTerm.normalised(np.log(1e14), 0.4) + mm.GaussianTerm(
        np.array([32.0]), np.array([0.3]), np.zeros(1)
    )
    print(both.width.shape, both.centre.mean(), both(np.log(1.1e14)).item())
    jax_term = mm.TabulatedTerm(jnp.linspace(30.0, 36.0, 10), jnp.zeros(10))
    print(jax_term(jnp.asarray(32.0)).item())
    term = mm.TabulatedTerm(np.linspace(30.0, 36.0, 10), np.zeros((3, 10)))
    print(term.take([0]).log_likelihood.shape, term.informs.sum())
    return term


def lensing(catalogue: mm.HaloCatalogue, prior: mm.MassPrior, grid: mm.PixelGrid) -> None:
    """Use mass likelihoods of some objects in the fit, the masses and the map."""
    key = jax.random.key(0)
    extra = mm.read_mass_likelihoods("lensing.csv", catalogue, mass="m", error=0.3, mass_unit="Msun", scatter=0.2)
    fit = mm.fit_relation(catalogue, prior, "bigmali2017", extra=extra, extra_bias="0:0.05")
    image = mm.mass_map(key, catalogue, prior, fit.draws, grid, relation_from="this_catalogue", extra=extra)
    circle = mm.Circle(150.0, 2.0, 3.0)
    found = mm.mass_in_circle(key, catalogue, prior, fit.draws, circle, relation_from="this_catalogue", extra=extra)
    print(image.total_mass, found.mean)
    kappa = mm.convergence_map(key, catalogue, prior, fit.draws, grid, 1.0, relation_from="this_catalogue", extra=extra)
    print(kappa.mean.shape, float(mm.log_likelihood(fit.maximum, catalogue, prior, extra=extra)))
    profiles = mm.read_shear_profiles("shear.fits", catalogue, source_redshift="z_s", radius_unit="arcmin")
    made = mm.ShearProfiles.from_arrays(
        np.geomspace(0.3, 3.0, 4), np.zeros((2, 4)), error=0.01, source_redshift=1.0, rows=[0, 3]
    )
    for one in (profiles, made):
        term = one.likelihoods(catalogue, prior, scatter=0.2, profile="bmo1", cosmology="Planck18")
        print(one.rows, one.shear.shape, term.informs.sum())
    stacks = mm.StackedShear.from_arrays(
        np.zeros(5, dtype=int), np.geomspace(0.3, 3.0, 4), np.zeros((1, 4)), error=0.01, sigma_crit=[[3e15]]
    )
    signals: mm.StackedTerm = stacks.signals(catalogue, prior, scatter=0.2)
    print(mm.fit_relation(catalogue, prior, "bigmali2017", extra=signals).diagnostics["stacks_p"])


def relations() -> mm.MassLuminosityRelation:
    """Make relations and batches of draws."""
    one = mm.MassLuminosityRelation(
        alpha1=9.6,
        alpha2=0.36,
        alpha3=1e14,
        alpha4=2.0,
        scatter=np.float64(0.15),
        evolution="E",
        lum_unit="erg/s",
        gamma=0.7,
    )
    batch = mm.MassLuminosityRelation(
        alpha1=np.ones(3), alpha2=np.ones(3), alpha3=1e14, scatter=[0.1, 0.2, 0.3], log_weight=np.zeros(3)
    )
    mm.MassLuminosityRelation.create(alpha1=9.6, alpha2=0.36, alpha3=1e14, scatter=0.15, lum_unit="erg/s")
    mm.MassLuminosityRelation.from_draws(
        alpha1=np.ones(3), alpha2=np.ones(3), alpha3=1e14, scatter=np.ones(3), omega_m=0.3
    )
    draws = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 100)
    any_relation: mm.Relation = mm.MassLuminosityRelation.identity(pivot=1e14, unit="Msun")
    print(any_relation.num_draws, any_relation.is_batch, any_relation.shares.sum(), any_relation.effective_draws)
    z, ln_mass = np.array([0.1, 0.2]), np.array([31.0, 32.0])
    print(
        one.mean_ln_lum(ln_mass, z).shape, one.scatter_ln_lum(ln_mass, 0.1), any_relation.mean_ln_lum(32.0, 0.1).item()
    )
    print(one.sample(jax.random.key(1), ln_mass, z).mean(), one.data_term(np.log(1e4), 0.05, 0.2).centre)
    print(draws.draw(0).alpha1, draws.draw(slice(None, None, 10)).num_draws, draws.draw(np.arange(3)).scatter.mean())
    print(batch.as_batch().thinned(2).num_draws, draws.pick(jax.random.key(2), 10).log_weight.shape)
    return mm.MassLuminosityRelation.preset("bigmali2017")


class Curved(mm.Relation):
    """A relation of the user's own."""

    bend: jax.Array
    log_weight: jax.Array

    def mean_ln_lum(self, ln_mass: jax.Array, z: jax.Array) -> jax.Array:
        """Return the mean of ln L."""
        return self.bend * ln_mass**2 + jnp.log1p(z)

    def scatter_ln_lum(self, ln_mass: jax.Array, z: jax.Array) -> jax.Array:
        """Return the scatter of ln L."""
        return 0.2 * jnp.ones_like(ln_mass)


def fits(catalogue: mm.HaloCatalogue, prior: mm.MassPrior, path: Path) -> mm.RelationPosterior:
    """Fit the relation, and evaluate its likelihood and prior."""
    key = jax.random.key(3)
    beliefs = mm.RelationPrior(
        {"alpha1": dist.Normal(1.0, 0.5), "alpha2": 0.8, "alpha4": 0.0, "scatter": dist.HalfNormal(0.3)}, alpha3=1e14
    )
    print(
        beliefs.free, beliefs.sd()["alpha1"], beliefs.central(), mm.RelationPrior.preset("bigmali2017", alpha4=0.0).free
    )
    print(mm.RelationPrior.parse("alpha1=1:0.5, alpha2=0.8, alpha4=0, scatter=0.2:0.05").free)
    values = beliefs.sample(key, (10,))
    print(
        beliefs.log_prob(values).shape,
        beliefs.relation(values).num_draws,
        beliefs.log_prob({"alpha1": 1.0, "scatter": 0.1}),
    )
    print(beliefs.density({"alpha1": np.linspace(0.0, 1.0, 5), "scatter": np.linspace(0.1, 0.2, 5)})["alpha1"].sum())
    mm.fit_relation(catalogue, prior)
    mm.fit_relation(catalogue, prior, beliefs, method="importance", key=key, num_draws=100, selection=mm.FluxLimit(1e4))
    fit = mm.fit_relation(catalogue, prior, "bigmali2017", method="nuts", key=key, num_chains=2, watch=print)
    print(fit.summary(), fit.mean["alpha1"], fit.sd["scatter"], fit.notes, fit.check(), fit.draws.alpha1.mean())
    print(fit.to_getdist())
    fit.write_getdist(path)
    print(fit.to_arviz(), fit.to_table()["alpha2"].mean(), fit.against(relations()), fit.weights.sum())
    fit.save(path)
    if mm.RelationPosterior.is_saved(path):
        fit = mm.RelationPosterior.load("fit.npz")
    likelihood = mm.RelationLikelihood.build(catalogue, prior, mm.NoSelection(), scatter=0.1)
    print(likelihood(relations()).item(), likelihood.with_prior(prior).compressed)
    print(mm.log_likelihood(relations(), catalogue, prior, mm.FluxLimit(1e4)).item())
    model = mm.relation_model(likelihood, beliefs)
    print(model, mm.field_model(catalogue, prior, beliefs, selection=mm.FluxLimit(1e4)))
    print(mm.calibrated_model(catalogue, prior, beliefs, population=mm.Population.fixed(), observables={"a": beliefs}))
    return fit


def posteriors(
    catalogue: mm.HaloCatalogue, prior: mm.MassPrior, relation: mm.MassLuminosityRelation, path: Path
) -> None:
    """Compute the masses of halos, in every way, and check them."""
    key = jax.random.key(4)
    posterior = mm.mass_posterior(
        catalogue, prior, relation, relation_from="this_catalogue", quantile_levels=[0.1, 0.5], extra=terms()
    )
    print(
        posterior.summary(), posterior.mean.shape, posterior.median, posterior.usable.sum(), posterior.quantile_columns
    )
    print(posterior.quantile(0.5), posterior.quantile([0.1, 0.9]).shape, posterior.cdf(np.log(1e14)).mean())
    print(
        posterior.sample(key, 10).shape, posterior.sample(key, 10, rows=np.arange(3)).mean(), posterior.to_table()["id"]
    )
    print(posterior.log_pdf(0)[1], posterior.log_pdf([0, 1], np.linspace(30.0, 34.0, 5))[0].shape, posterior.to_qp())
    print(posterior[0].mean, posterior[1:].ids, posterior[posterior.usable].summary(), [row.ids for row in posterior])
    print(posterior.to_astropy(), posterior.to_pandas(["id"]))
    posterior.check()
    for_table = mm.mass_posterior(catalogue, prior, relation, method="montecarlo", key=key, num_lum_draws=50)
    mm.write_table("masses.fits", for_table.to_table(["id", "mean"]), overwrite=True)
    where = Range(ln_lum=(10.6, 11.0), redshift=(0.2, 0.25), sigma=(0.05, 0.05))
    surface = mm.PosteriorSurface.build(prior, relation, where, tolerance={"mean": 0.01}, watch=print)
    summaries, quantiles = surface.summaries(np.log([1e4]), np.array([0.2]), np.array([0.05]))
    print(summaries["mean"].shape, quantiles.shape, surface.error["mean"], surface.summary())
    surface.save(path)
    again = mm.PosteriorSurface.load(path).only(["mean", "sd"])
    posterior = mm.mass_posterior(catalogue, prior, relation, method="surface", surface=again)
    own = Curved(bend=jnp.asarray(0.1), log_weight=jnp.zeros(()))
    result: mm.MassPosterior = mm.mass_posterior(catalogue, prior, own)
    samples: mm.HaloMassSamples = mm.sample_halo_masses(
        key, catalogue, prior, relation, num_samples=100, keep_draws=True
    )
    print(samples.summary(), samples.mean.max(), samples.r_hat.max(), samples.usable.sum(), result.ids)
    print(mm.halo_mass_model(catalogue, prior, relation, luminosity="latent", selection=mm.NoSelection()))
    check: mm.PriorCheck = mm.prior_check(catalogue, prior, relation, selection=mm.FluxLimit(1e4), level=0.05)
    figure: Figure = check.figure()
    figure.savefig("prior.png")
    print(check.fits, check.summary(), check.p_value)
    calibration: mm.CalibrationCheck = mm.calibration_check(posterior, np.log(np.full(3, 1e14)), bins=2)
    print(calibration.calibrated, calibration.summary(), calibration.table()["number"], calibration.figure())


def cosmologies(catalogue: mm.HaloCatalogue, relation: mm.MassLuminosityRelation, key: jax.Array, path: Path) -> None:
    """Masses under draws of the cosmology, derivatives, and the likelihood of both."""
    prior = mm.MassPrior.default()
    planck = mm.CosmologyDraws.planck18(key, 100)
    chain = mm.CosmologyDraws.read(path, columns={"sigma8": "s8", "n_s": 0.96}).pick(key, 10)
    some = mm.CosmologyDraws.from_arrays(omega_m=[0.3, 0.31], sigma8=0.8, h=0.7, n_s=0.96, omega_b=0.05)
    print(planck.mean["sigma8"], planck.sd, chain.notes, some.num_draws, some.draw(slice(1)).shares)
    paired = mm.with_cosmology(relation, planck, prior, key)
    posterior = mm.mass_posterior(catalogue, prior, paired, relation_from="fixed_draws")
    found: mm.CosmologyDerivatives = mm.cosmology_derivatives(catalogue, prior, relation, "Planck18")
    print(posterior.mean, found.ln_mass["sigma8"], found.ln_total["omega_m"])
    likelihood = mm.CosmologyLikelihood.build(catalogue, prior, mm.FluxLimit(1.0), scatter=0.2)
    print(likelihood(relation, some.draw(slice(1)).parameters()))
    fit = mm.fit_relation(catalogue, prior, cosmology=planck, selection=mm.FluxLimit(1.0), method="importance")
    if isinstance(fit, mm.CosmologyPosterior):
        print(fit.with_sigma8["slope"], fit.belief["source"], fit.informed["sigma8"], fit.draws.population.values)
    print(mm.CosmologyPosterior.load(path).of_cosmology, mm.CosmologyPosterior.is_saved(path))


def calibrated(catalogue: mm.HaloCatalogue, prior: mm.MassPrior, beliefs: mm.RelationPrior, path: Path) -> None:
    """Calibrate a relation on measured masses, check it, and use its draws."""
    masses = mm.CalibrationMasses.from_arrays(
        mass=np.full(3, 1e14), sigma_ln_mass=0.2, bias="0:0.05", scatter=dist.HalfNormal(0.1), chosen_by="luminosity"
    )
    matches: mm.Matches = mm.match_to_catalogue(
        catalogue, ids=["a", "b"], ra=[1.0, 2.0], dec=[0.0, 1.0], redshift=[0.1, 0.2]
    )
    print(matches.rows, matches.separation, *matches.notes)
    mm.CalibrationMasses.from_arrays(
        mass=matches.spread([1e14, 2e14]), sigma_ln_mass=0.2, noise="linear", mass_definition="500c"
    ).in_definition("200m", catalogue.redshift, cosmology="Planck18")
    population = mm.Population.hmf_completeness(drift=False, beliefs={"width": 0.3})
    fit = mm.fit_relation(catalogue, prior, beliefs, calibration=masses, population=population, method="nuts")
    if isinstance(fit, mm.JointPosterior):
        check = mm.calibrators_check(fit, catalogue, prior, masses)
        print(check.fits, check.score, check.summary(), check.figure(), fit.shared_error, fit.informed["alpha2"])
        fit.save(path)
        print(mm.JointPosterior.load(path).summary())
    compared: mm.PopulationComparison = mm.compare_populations(
        catalogue, prior, beliefs, masses, ["gaussian", population], splits=2, key=jax.random.key(1)
    )
    print(compared, compared.difference[1] / compared.error[1], compared.worse, compared.fits[0].mean)
    print(mm.compare_populations(catalogue, prior, beliefs, masses, {"own": population, "flat": "fixed"}).to_table())
    mm.fit_relation(catalogue, prior, beliefs, calibration=masses, selection=mm.SelectedOnMass(3e14, 0.1))
    mm.mass_posterior(catalogue, prior, fit.draws, relation_from="this_catalogue")


def several(catalogue: mm.HaloCatalogue, prior: mm.MassPrior, beliefs: mm.RelationPrior) -> None:
    """Use a richness beside the luminosity."""
    observables = mm.Observables.from_arrays(
        {"richness": np.full(3, 30.0)},
        {"richness": 0.2},
        upper_limit={"richness": [False, False, True]},
        error_correlation=[[1.0, 0.1], [0.1, 1.0]],
        units={"richness": ""},
    )
    catalogue = catalogue.with_observables(observables)
    fit = mm.fit_relation(
        catalogue, prior, beliefs, observables={"richness": beliefs}, scatter_correlation={"correlation_richness": 0.3},
        selection=mm.SelectedOn("richness", 20.0, width=0.1),
    )  # fmt: skip
    mm.mass_posterior(catalogue, prior, fit.draws, relation_from="this_catalogue")
    law = mm.MassLuminosityRelation(alpha1=3.0, alpha2=1.0, alpha3=1e14, scatter=0.2)
    field = mm.simulate_field(jax.random.key(0), 50, measured=mm.MassMeasurements(10, bias=0.1, chosen_by="mass"))
    print(field.calibration, mm.simulate_field(jax.random.key(0), 50, sigma_observables={"a": 0.1}))
    print(mm.simulate_field(jax.random.key(0), 50, clustering="lognormal"))
    known = mm.MultiObservableRelation(alpha1=1.0, alpha2=0.8, alpha3=1e14, scatter=0.3, others={"richness": law})
    print(known.names, known.laws[0].scatter, known.scatter_correlation, mm.mass_posterior(catalogue, prior, known).sd)


def maps(catalogue: mm.HaloCatalogue, prior: mm.MassPrior, relation: mm.MassLuminosityRelation, path: Path) -> None:
    """Make, compare, cut, read and write maps."""
    key = jax.random.key(5)
    if catalogue.ra is None or catalogue.dec is None:
        return
    grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=0.5, frame="sky")
    mm.PixelGrid("tangent", shape=(3, 5), pixel_arcmin=2.0, centre=(150.0, 2.0))
    print(grid.index([150.0], [2.0]), grid.centres()[0].shape, grid.describe(), grid.pixel_areas_arcmin2(np.arange(3)))
    print(
        grid.project(np.zeros(2), np.zeros(2)), grid.sky_of(0.0, 0.0), grid.wcs_cards(), grid.shape[0] * grid.num_pixels
    )
    sky = mm.HealpixGrid(64, "NESTED", np.arange(100))
    sky = mm.HealpixGrid.fit(catalogue.ra, catalogue.dec, nside=64, order="RING")
    print(sky.pixel_arcmin, sky.numbers.sum(), sky.describe(), sky.index(150.0, 2.0))
    image = mm.mass_map(
        key,
        catalogue,
        prior,
        relation,
        grid,
        relation_from="this_catalogue",
        num_draws=200,
        keep_draws=True,
        redshift_edges=[0.0, 0.5, 1.0],
        footprint=np.ones(grid.shape, dtype=bool),
        unit="Msun/arcmin2",
        fwhm_arcmin=1.0,
        selection=mm.FluxLimit(1e4),
    )
    form = mm.MapForm(unit="Msun/Mpc2", redshift_edges=(0.0, 1.0), cosmology="Planck18", halo_profile="nfw")
    on_sphere: mm.MassMap = mm.mass_map(key, catalogue, prior, relation, sky, form=form)
    print(image.mean.sum(), image.sd.max(), image.total_mass, image.total_sd, image.unit, on_sphere.redshift_edges)
    kinds = {
        "truth": mm.map_of_kind(key, "truth", catalogue, prior, relation, grid),
        "coherent": mm.map_of_kind(key, "coherent", catalogue, prior, relation, grid, num_draws=50, unit="Msun"),
    }
    figure: Figure = mm.map_kinds_figure(kinds)
    figure.savefig("kinds.png")
    apart: mm.MapContrast = mm.contrast(kinds["coherent"], kinds["truth"], error="one")
    print(apart.pull.max(), apart.total_pull, apart.difference.sum())
    wide = mm.smoothed(mm.sum_of_slices(image), 2.0, keep_draws=False)
    print(mm.one_slice(image, 0).mean.sum(), wide.fwhm_arcmin)
    circle = mm.Circle(150.0, 2.0, radius_arcmin=3.0)
    polygon = mm.Polygon([(150.0, 2.0), (150.1, 2.0), (150.1, 2.1)])
    for region in (circle, polygon, mm.Polygon(np.ones((4, 2))), np.ones(grid.shape, dtype=bool)):
        inside: mm.RegionMass = mm.region_mass(image, region)
        print(inside.mean, inside.sd, inside.signal_to_noise, inside.quantile([0.16, 0.84]), inside.draws.std())
    summed: mm.RegionMass = mm.mass_in_circle(key, catalogue, prior, relation, circle, relation_from="fixed_draws")
    print(summed.mean, summed.nobj, summed.n_without_mass, mm.plot.map_panels(image))
    print(mm.plot.map_panels(image, ["mean", "sd"], "grey"), mm.plot.truth_maps_figure(image, image, colours="grey"))
    mm.write_map(path, image, {"OBSERVER": "me"}, overwrite=True)
    print(mm.read_map("map.fits")["mean"])
    kappa: mm.ConvergenceMap = mm.convergence_map(
        key, catalogue, prior, relation, grid, 1.0, num_draws=10, profile="nfw", shear=True, cosmology="Planck18"
    )
    mm.write_convergence(path, kappa, overwrite=True)
    print(kappa.mean.max(), kappa.n_lenses, mm.read_convergence(path)["mean"])


class Proportional(mm.SatelliteLuminosityFunction):
    """Satellites of a form of one's own."""

    one_per: float

    def ln_norm(self, ln_mass: jax.Array, z: jax.Array) -> jax.Array:
        return jnp.asarray(ln_mass) - jnp.log(self.one_per)

    def slope(self, ln_mass: jax.Array, z: jax.Array) -> jax.Array:
        return jnp.full_like(ln_mass, -1.1)

    def ln_ratio(self, ln_mass: jax.Array, z: jax.Array) -> jax.Array:
        return jnp.full_like(ln_mass, -0.5)


def hosts() -> mm.MassMap:
    """Hosts of galaxies, and a map of them."""
    catalogue, prior, relation = catalogues(Path("galaxies.fits")), mm.MassPrior.default(), relations()
    satellites = mm.SchechterSatellites(norm=[-1.8, 1.0], ratio=0.56, slope_low=-1.1, slope_high=-1.5)
    known = mm.Membership.from_probability(np.array([0.9, 0.2]), central_fraction=0.8)
    flags = mm.Membership.from_flags([True, False], purity=0.85)
    groups = mm.Membership.from_groups(["a", "a"], np.array([True, False]))
    limit = mm.FluxLimit(1e4)
    single: mm.HostPosterior = mm.host_posterior(catalogue, prior, relation, satellites, membership=known)
    print(single.p_sat.mean(), single.summary(), single.to_table()["p_sat"], flags.known.all(), len(groups))
    mm.host_posterior(catalogue, prior, relation, mm.SchechterSatellites.preset("cacciato2009"), membership=flags)
    mm.host_posterior(
        catalogue, prior, relation, Proportional(1e12, mass_definition="200m"), quantile_levels=[0.5], chunk_size=64
    )
    found = mm.host_posterior(
        catalogue, prior, relation, satellites, membership=groups, selection=limit, relation_from="fixed_draws"
    )
    print(found.to_astropy().meta, found.to_pandas().shape)
    ln_mass, is_central = found.sample(jax.random.key(1), 10)
    print(found.cdf(ln_mass[:, 0]), is_central.sum(), found.usable, found.in_groups)
    grid = mm.PixelGrid.fit([150.0, 150.1], [2.0, 2.1])
    return mm.host_map(jax.random.key(2), found, grid, num_draws=50, unit="Msun/arcmin2", keep_draws=True)


def simulations() -> mm.SimulatedField:
    """Simulate fields with their truth."""
    field = mm.simulate_field(jax.random.key(6), 1000, side_arcmin=20.0, sigma_ln_lum=np.full(1000, 0.1), centre=None)
    print(field.catalogue.ids.size, field.ln_lum_true.mean(), field.relation.alpha1, field.prior.z_max)
    return mm.simulate_field(jax.random.key(6), prior=mm.MassPrior.default(), relation=relations(), flux_limit=1e4)
