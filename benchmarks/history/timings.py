"""What a user waits for, small enough to be run on many commits: compiled times, first calls, memory and errors.

Only names that the package exports are used, so that old commits can be measured too.
"""

import jax
import numpy as np

import massmap_jax as mm

HALOS = 20_000


def _field():
    return mm.simulate_field(jax.random.key(1), HALOS)


def _draws(number):
    return mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(2017), number)


class Masses:
    """`mass_posterior` with the default method, compiled."""

    params = (1, 100)
    param_names = ("relation draws",)
    timeout = 300

    def setup(self, number):
        self.field, self.relation = _field(), _draws(number)
        self.once()

    def once(self):
        return mm.mass_posterior(
            self.field.catalogue, self.field.prior, self.relation, relation_from="fixed_draws", quantile_levels=(0.5,)
        )

    def time_masses(self, number):
        self.once()

    def peakmem_masses(self, number):
        self.once()

    def track_mean_of_means(self, number):
        """Mean of all results: a change of more than 1e-6 is a change of the answer, not of the speed."""
        return float(np.mean(self.once().mean))

    track_mean_of_means.unit = "ln Msun"


class Map:
    """100 coherent realisations of a map, compiled."""

    timeout = 300

    def setup(self):
        self.field, self.relation = _field(), _draws(100)
        self.grid = mm.PixelGrid.fit(self.field.catalogue.ra, self.field.catalogue.dec)
        self.time_map()

    def time_map(self):
        key, field = jax.random.key(2), self.field
        mm.mass_map(key, field.catalogue, field.prior, self.relation, self.grid, relation_from="fixed_draws")


class Fit:
    """The fit of the relation by its maximum, compiled."""

    timeout = 300

    def setup(self):
        self.field = _field()
        self.time_fit()

    def time_fit(self):
        mm.fit_relation(self.field.catalogue, self.field.prior, "bigmali2017", key=jax.random.key(3))


class FirstCall:
    """Ten masses with nothing compiled: what a small catalogue waits for."""

    timeout = 300
    number = 1
    repeat = 2
    warmup_time = 0

    def setup(self):
        self.field = mm.simulate_field(jax.random.key(1), 10)
        jax.clear_caches()

    def time_ten_masses(self):
        mm.mass_posterior(self.field.catalogue, self.field.prior, self.field.relation)


def timeraw_import():
    return "import massmap_jax; massmap_jax.mass_posterior"
