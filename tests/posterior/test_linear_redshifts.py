"""Masses of objects with linear noise whose redshifts are distributions: against dense sums, and they hold the truth.

Fluxes of any signal to noise, with photometric redshifts. The twin of the calibration takes the noise as lognormal.
"""

import jax
import numpy as np
import pytest
from reference.uncertain_linear_reference import Field, summary
from scipy.stats import chi2, norm

import massmap_jax as mm
from massmap_jax.halo.cosmology import comoving_volume
from massmap_jax.likelihood.objects import Objects
from massmap_jax.maps.samples import MassSamples
from posterior.test_uncertain_redshifts import Z_NODES, halos_of, ln_distance2, prior_of, relation_of

CLUSTERS = {"slope": 1.7, "scatter": 0.3, "pivot": 3e14, "lowest": 13.3}
LEVELS = (1e-3, 0.16, 0.5, 0.84, 0.999)
# ln of the error of the flux, about which errors of objects scatter: a halo of 10^14 at z = 0.3 has 5 sigma.
LN_ERROR, DEPTHS = -17.6, 0.3
SAID = {"contains": "likelihood", "lum_moves": True}


def survey(kind, prior, number, seed, error, least=2.0):
    """True redshifts and ln M of objects above a signal to noise, their fluxes with errors, and measured redshifts."""
    rng, found = np.random.default_rng(seed), np.zeros((5, 0))
    halos = halos_of(prior, rng, seed)
    while found.shape[1] < number:
        z, ln_mass = next(halos)
        mean = kind["slope"] * (ln_mass - np.log(kind["pivot"]))
        noise = np.exp(LN_ERROR + DEPTHS * rng.normal(size=z.size))
        flux = np.exp(mean + kind["scatter"] * rng.normal(size=z.size) - ln_distance2(z))
        flux = flux + noise * rng.normal(size=z.size)
        z_phot = np.expm1(np.log1p(z) + error * rng.normal(size=z.size))
        kept = (flux > least * noise) & (z_phot > Z_NODES[0]) & (z_phot < Z_NODES[-1])
        found = np.concatenate([found, np.stack([z, ln_mass, flux, noise, z_phot])[:, kept]], axis=1)
    return found[:, :number]


def catalogue_of(flux, noise, z_phot, error, *, lognormal=False, kind="normal", **options):
    """The survey as a catalogue: luminosities computed with the measured redshifts."""
    of_flux = np.exp(ln_distance2(z_phot))
    errors = {"sigma_luminosity": noise * of_flux, "noise_kind": kind}
    if lognormal:
        errors = {"sigma_ln_luminosity": noise / flux}
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=flux * of_flux, redshift=z_phot, **errors)
    return catalogue.with_redshifts(
        mm.RedshiftDistributions.gaussian(z_phot, error, variable="ln_1z", **(SAID | options))
    )


SNR = np.array([-1.0, 0.0, 0.5, 2.0, 3.0, 4.0, 5.0, 6.5, 9.0, 15.0, 30.0])
LIMITS = np.array([0.5, 2.0, 4.0, 10.0])
# p(z) as mixtures in ln(1 + z) about the measured redshift: narrow, wide, and with two humps.
SHAPES = {
    "narrow": ((1.0, 0.0), (0.0, 0.0), (0.008, 1.0)),
    "wide": ((1.0, 0.0), (0.0, 0.0), (0.09, 1.0)),
    "two humps": ((0.7, 0.3), (0.0, -0.15), (0.02, 0.03)),
}
NAMES = list(SHAPES)


@pytest.fixture(scope="module")
def clusters():
    """The prior, and what the reference takes of it: the raw table, astropy's volumes and distances."""
    prior = prior_of(CLUSTERS)
    z = np.linspace(0.05, 1.2, 4000)
    ln_volume = np.log(comoving_volume("Planck18", z))

    def ln_number(at):
        return np.interp(at, z, ln_volume) + np.interp(at, Z_NODES, np.asarray(prior.ln_number))

    def mean_ln_lum(ln_mass, z):
        return CLUSTERS["slope"] * (ln_mass - np.log(CLUSTERS["pivot"]))

    table = Z_NODES, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density)
    return prior, Field(*table, ln_number, ln_distance2, mean_ln_lum, CLUSTERS["scatter"])


def objects_of(snr):
    """Flux, its error, redshift and shape of p(z) of objects with these signals to noise; errors of a cluster's size."""
    number = np.arange(snr.size)
    redshift = np.where(number % 2 == 0, 0.3, 0.55)
    flux = np.exp(CLUSTERS["slope"] * np.log(2e14 / CLUSTERS["pivot"]) - ln_distance2(redshift))
    error = flux / np.maximum(np.abs(snr), 1.5)
    return snr * error, error, redshift, [NAMES[i % 3] for i in number]


def with_shapes(snr, kind, **options):
    """The catalogue of these objects: luminosities computed with the measured redshifts, and p(z)."""
    flux, error, redshift, names = objects_of(snr)
    of_flux = np.exp(ln_distance2(redshift))
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=flux * of_flux, redshift=redshift, sigma_luminosity=error * of_flux, noise_kind=kind
    )
    weights, means, sds = (np.array([SHAPES[name][i] for name in names]) for i in range(3))
    shapes = weights, means + np.log1p(redshift)[:, None], sds
    return catalogue.with_redshifts(mm.RedshiftDistributions.mixture(*shapes, variable="ln_1z", **(SAID | options)))


def ln_p_of(name, z_phot):
    """Grid of ln(1 + z) and ln of the density there, in NumPy."""
    weights, means, sds = SHAPES[name]
    low, high = (
        min(m - 7 * s for w, m, s in zip(*SHAPES[name], strict=True) if w),
        max(means) + 7 * max(s for w, s in zip(weights, sds, strict=True) if w),
    )
    u = np.linspace(
        max(np.log1p(z_phot) + low, np.log1p(Z_NODES[0])), min(np.log1p(z_phot) + high, np.log1p(Z_NODES[-1])), 601
    )
    parts = [w * norm(np.log1p(z_phot) + m, s).pdf(u) for w, m, s in zip(weights, means, sds, strict=True)]
    return u, np.log(np.maximum(sum(parts), 1e-300))


def compared(clusters, snr, kind, **options):
    """The largest errors of mean, sd, 0.1 and 99.9 % quantiles, and of mean and sd of the redshift, in sd."""
    prior, field = clusters
    flux, error, redshift, names = objects_of(snr)
    of_flux = np.exp(ln_distance2(redshift))
    catalogue = with_shapes(snr, kind, **options)
    found = mm.mass_posterior(catalogue, prior, relation_of(CLUSTERS), quantile_levels=LEVELS)
    asked = {"seen_z": options.get("contains") == "posterior_with_flux"}
    still = not options.get("lum_moves", True)
    errors = []
    for i in range(snr.size):
        u, ln_p = ln_p_of(names[i], redshift[i])
        unit = of_flux[i] if still else 1.0
        at = flux[i] * unit, error[i] * unit, u, ln_p
        of_mass, of_z = field.shares(*at, kind, lum_moves=not still, **asked)
        mean, sd, quantiles = summary(*of_mass, LEVELS)
        z_mean, z_sd, _ = summary(*of_z)
        off = np.abs(found.quantiles[i] - quantiles)[[0, -1]].max() / sd
        of_redshift = max(abs(found.redshift_mean[i] - z_mean) / z_sd, abs(found.redshift_sd[i] / z_sd - 1))
        errors.append((abs(found.mean[i] - mean) / sd, abs(found.sd[i] / sd - 1), off, of_redshift))
    return np.array(errors)


@pytest.mark.parametrize(("kind", "snr"), [("normal", SNR), ("upper_limit", LIMITS)])
def test_agrees_with_dense_sums(clusters, kind, snr):
    """Narrow and wide p(z), and such of two humps; measurements down to one error below zero, and upper limits."""
    assert (compared(clusters, snr, kind).max(axis=0) < (1e-3, 1e-3, 1e-2, 2e-3)).all()


def test_luminosities_that_do_not_move_agree_too(clusters):
    few = SNR[[0, 4, 6, 7, 9]]
    assert (compared(clusters, few, "normal", lum_moves=False).max(axis=0) < (1e-3, 1e-3, 1e-2, 2e-3)).all()


def test_p_of_z_that_has_seen_the_flux_agrees_too(clusters):
    few = SNR[[1, 4, 6, 7, 9]]
    assert (
        compared(clusters, few, "normal", contains="posterior_with_flux").max(axis=0) < (1e-3, 1e-3, 1e-2, 2e-3)
    ).all()


def test_masses_hold_the_truth_and_lognormal_noise_does_not(clusters):
    """True masses fall between the quantiles as often as these say; read as lognormal, the noise is the twin."""
    prior, _ = clusters
    error = 0.04
    _, ln_mass, flux, noise, z_phot = survey(CLUSTERS, prior, 600, 4, error)
    p_values = {}
    for lognormal in (False, True):
        catalogue = catalogue_of(flux, noise, z_phot, error, lognormal=lognormal, num_nodes=48)
        found = mm.mass_posterior(catalogue, prior, relation_of(CLUSTERS), quantile_levels=LEVELS)
        # Without the outermost, which few objects are beyond.
        inside = np.bincount((found.quantiles[:, 1:-1] < ln_mass[:, None]).sum(axis=1), minlength=len(LEVELS) - 1)
        expected = ln_mass.size * np.diff([0.0, *LEVELS[1:-1], 1.0])
        p_values[lognormal] = chi2.sf(((inside - expected) ** 2 / expected).sum(), len(LEVELS) - 2)
    assert p_values[False] > 1e-5, p_values
    assert p_values[True] < 1e-20, p_values


def test_maps_draw_mass_and_redshift_of_their_joint_density(clusters):
    prior, field = clusters
    snr, number = SNR[[6, 7]], 1000
    relations = jax.tree.map(
        lambda a: np.repeat(np.atleast_1d(np.asarray(a)), number), relation_of(CLUSTERS).as_batch()
    )
    samples = MassSamples(prior, relations, jax.random.key(3), "exact")
    drawn = np.empty((2, snr.size, number))
    for picked, *found in samples.with_redshifts(Objects.of(with_shapes(snr, "normal"), np.arange(snr.size), prior)):
        drawn[:, picked] = found
    flux, error, redshift, names = objects_of(snr)
    for i in range(snr.size):
        u, ln_p = ln_p_of(names[i], redshift[i])
        share, places = field.joint(flux[i], error[i], u, ln_p), (field.ln_mass, np.expm1(u))
        moments = [summary(place, share.sum(axis=axis)) for axis, place in enumerate(places)]
        for found, (mean, sd, _) in zip(drawn[:, i], moments, strict=True):
            assert abs(found.mean() - mean) < 5 * sd / np.sqrt(number)
        (mean, sd, _), (z_mean, z_sd, _) = moments
        expected = (places[1] - z_mean) @ share @ (places[0] - mean) / (sd * z_sd)
        assert abs(np.corrcoef(drawn[:, i])[0, 1] - expected) < 5 / np.sqrt(number)
        if i == 1:  # the twin: drawn apart, there is no correlation
            assert expected > 0.3
