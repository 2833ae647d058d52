"""Masses of objects with linear noise whose redshifts are distributions: against dense sums, and they hold the truth.

Fluxes of any signal to noise, with photometric redshifts. The twin of the calibration takes the noise as lognormal.
"""

import numpy as np

import massmap_jax as mm
from massmap_jax.halo.cosmology import comoving_volume
from posterior.test_uncertain_redshifts import Z_NODES, ln_distance2, parent, prior_of, relation_of
from reference.uncertain_linear_reference import Field, summary

CLUSTERS = {"slope": 1.7, "scatter": 0.3, "pivot": 3e14, "lowest": 13.3}
LEVELS = (1e-3, 0.16, 0.5, 0.84, 0.999)
# ln of the error of the flux, about which errors of objects scatter: a halo of 10^14 at z = 0.3 has 5 sigma.
LN_ERROR, DEPTHS = -17.6, 0.3
SAID = {"contains": "likelihood", "lum_moves": True}


def survey(kind, prior, number, seed, error, least=2.0):
    """True redshifts and ln M of objects above a signal to noise, their fluxes with errors, and measured redshifts."""
    import jax

    rng, found = np.random.default_rng(seed), np.zeros((5, 0))
    z_nodes, density = parent(prior)
    cdf = np.cumsum(density)
    key = jax.random.key(seed)
    while found.shape[1] < number:
        key, own = jax.random.split(key)
        z = np.interp(rng.uniform(cdf[0], cdf[-1], 40_000), cdf, z_nodes)
        ln_mass = np.asarray(prior.sample(own, z))
        mean = kind["slope"] * (ln_mass - np.log(kind["pivot"]))
        noise = np.exp(LN_ERROR + DEPTHS * rng.normal(size=z.size))
        flux = np.exp(mean + kind["scatter"] * rng.normal(size=z.size) - ln_distance2(z))
        flux = flux + noise * rng.normal(size=z.size)
        z_phot = np.expm1(np.log1p(z) + error * rng.normal(size=z.size))
        kept = (flux > least * noise) & (z_phot > Z_NODES[0]) & (z_phot < Z_NODES[-1])
        found = np.concatenate([found, np.stack([z, ln_mass, flux, noise, z_phot])[:, kept]], axis=1)
    return found[:, :number]


def catalogue_of(flux, noise, z_phot, error, *, lognormal=False, **options):
    """The survey as a catalogue: luminosities computed with the measured redshifts."""
    of_flux = np.exp(ln_distance2(z_phot))
    errors = {"sigma_luminosity": noise * of_flux, "noise_kind": "normal"}
    if lognormal:
        errors = {"sigma_ln_luminosity": noise / flux}
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=flux * of_flux, redshift=z_phot, **errors)
    return catalogue.with_redshifts(
        mm.RedshiftDistributions.gaussian(z_phot, error, variable="ln_1z", **(SAID | options))
    )
