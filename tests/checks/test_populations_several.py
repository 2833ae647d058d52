"""compare_populations where objects have further observables."""

import numpy as np

from checks.test_populations import ALPHA3, BELIEFS, NORMAL, SIGMA, compared
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.observables import Observables
from massmap_jax.checks.calibrators import calibrators_check
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.calibration import CalibrationMasses


def test_masses_are_predicted_from_all_observables():
    """The scores are those of the check of the same fits, and better than the luminosity alone could make them."""
    rng, number = np.random.default_rng(3), 120
    ln_mass = 32.4 + 0.7 * rng.normal(size=number)
    ln_lum, ln_richness = ln_mass - np.log(ALPHA3) + rng.normal(size=(2, number)) * np.array([[0.5], [0.2]])
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum), redshift=rng.uniform(0.1, 0.6, number), sigma_ln_luminosity=SIGMA
    )
    masses = CalibrationMasses.from_arrays(
        mass=np.exp(ln_mass + 0.1 * rng.normal(size=number)), sigma_ln_mass=0.1, scatter=0
    )
    richness = Observables.from_arrays({"richness": np.exp(ln_richness)}, {"richness": SIGMA})
    both = compared(
        (catalogue.with_observables(richness), masses), [NORMAL, "fixed"], observables={"richness": BELIEFS}
    )
    check = calibrators_check(both.fits[0], catalogue.with_observables(richness), MassPrior.default(), masses)
    np.testing.assert_array_equal(check.log_density, both.log_density[0])
    # A normal density of the sd of M_obs given both is 0.14 in the mean over objects, and -0.55 given the luminosity.
    assert both.populations[0] == NORMAL and both.elpd[0] / number > -0.2
