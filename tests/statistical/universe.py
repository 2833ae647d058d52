"""Simulated objects from the reference prior in plain NumPy, the package's answer to them, and test statistics."""

import numpy as np
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.stats import kstest, norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

TABLE = schechter_table()
REFERENCE = PriorReference(*TABLE, per="mass")
TRUTH = Relation()
SIGMA = 0.05
NUM_KEYS = 20
# Of 20 keys each found each mistake, by far: few show it.
WRONG_KEYS = 6
# Distinct redshifts, none on a node of the table: the reference's sampler builds one table for each.
REDSHIFTS = np.random.default_rng(2017).uniform(0.02, 3.48, 200)


def package_prior() -> MassPrior:
    return MassPrior.from_table(*TABLE, per="mass")


def package_relation(relation: Relation = TRUTH, **changes) -> MassLuminosityRelation:
    names = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")
    return MassLuminosityRelation.create(**{name: getattr(relation, name) for name in names} | changes)


def catalogue(ln_lum_obs, z) -> HaloCatalogue:
    return HaloCatalogue.from_arrays(luminosity=np.exp(ln_lum_obs), redshift=z, sigma_ln_luminosity=SIGMA)


def simulate(rng, number, *, scatter_factor=1.0, cell_width=True):
    """(ln M, ln L_obs, z) of `number` objects; the mistakes to be found are switched on by the keywords."""
    z = rng.choice(REDSHIFTS, number)
    ln_mass = (REFERENCE.sample if cell_width else REFERENCE.sample_without_cell_width)(rng, z)
    ln_lum = TRUTH.alpha1 + TRUTH.alpha2 * (ln_mass - np.log(TRUTH.alpha3)) + TRUTH.alpha4 * np.log1p(z)
    ln_lum = ln_lum + scatter_factor * TRUTH.scatter * rng.standard_normal(number)
    return ln_mass, ln_lum + SIGMA * rng.standard_normal(number), z


def posterior_of(ln_lum_obs, z, relation=None, **options):
    relation = package_relation() if relation is None else relation
    return mass_posterior(catalogue(ln_lum_obs, z), package_prior(), relation, **options)


def bins_of_data(ln_lum_obs, z, number=3):
    """Index of each object in number x number bins, equally full: in z, and in L_obs within each bin of z."""
    z_bin = _equal_parts(z, number)
    index = np.empty(z.size, dtype=int)
    for i in range(number):
        index[z_bin == i] = i * number + _equal_parts(ln_lum_obs[z_bin == i], number)
    return index


def _equal_parts(values, number):
    return np.argsort(np.argsort(values, kind="stable")) * number // values.size


def smallest_p_value(pit, ln_lum_obs, z):
    """The smallest of 12 p values of the PIT, times 12: mean, spread and KS over all objects, and KS in each of
    3 x 3 bins of (z, L_obs). The spread is what a wrong scatter moves, to which KS is nearly blind."""
    index = bins_of_data(ln_lum_obs, z)
    p = [kstest(pit[index == i], "uniform").pvalue for i in range(9)] + [kstest(pit, "uniform").pvalue]
    offset = pit - 0.5
    # variance of a uniform's offset, and of the square of it
    for moment, variance in ((offset, 1 / 12), (offset**2 - 1 / 12, 1 / 180)):
        p.append(2 * norm.sf(abs(moment.sum()) / np.sqrt(variance * pit.size)))
    return min(1.0, len(p) * min(p))


def report(name, p_right, p_wrong: dict, level):
    """Print false alarms of the right model and the power against each mistake; at `level`, over the keys."""
    p_right = np.asarray(p_right)
    false_alarms = int((p_right < level).sum())
    print(f"\n{name}: level {level:g}, {p_right.size} keys")
    print(
        f"  right model: {false_alarms} false alarms, smallest p {p_right.min():.2g}, median {np.median(p_right):.2f}"
    )
    power = {}
    for mistake, p in p_wrong.items():
        p = np.asarray(p)
        power[mistake] = float((p < level).mean())
        print(f"  {mistake}: power {power[mistake]:.2f}, largest p {p.max():.2g}")
    return false_alarms, power
