"""The field and the relation draws that the benchmarks run on, in the form of the package and of the reference.

The field is the public light cone of 115,919 halos where it is available (folder MASSMAP_TEST_DATA), and a simulated
field of the same size and shape otherwise.
"""

import os
from pathlib import Path
from typing import NamedTuple

import accuracy
import jax
import numpy as np
from peers import notebook_2017
from reference.tables import read_three_columns, schechter_table

from massmap_jax import HaloCatalogue, MassLuminosityRelation, MassPrior, simulate_field

REPOSITORY = Path(__file__).resolve().parent.parent
SURVEY = 115_919
GRID_MASSES = 410  # masses of the grid that the 2017 code summed over
PANEL_NODES = 64


class Field(NamedTuple):
    """The inputs in the form of the package (catalogue, prior) and in the form of the reference."""

    name: str
    catalogue: HaloCatalogue
    prior: MassPrior
    objects: accuracy.Objects
    prior_reference: accuracy.PriorReference

    def take(self, rows) -> "Field":
        return self._replace(catalogue=self.catalogue.subset(rows), objects=self.objects.take(rows))


def reference_draws(relation) -> accuracy.Draws:
    relation = relation.as_batch()
    return accuracy.Draws(*(np.asarray(getattr(relation, name), dtype=np.float64) for name in accuracy.Draws._fields))


def relation_draws(number) -> MassLuminosityRelation:
    return MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(2017), number)


def _extremeness(objects) -> np.ndarray:
    """Return ln L_obs without the central evolution: the part of it that determines the mass."""
    return objects.ln_lum_obs - notebook_2017.MEAN[2] * np.log1p(objects.redshift)


def make_field(number: int) -> Field:
    """Return a field of `number` rows.

    The first 1,000 rows are checked: the 10 most extreme objects of the whole field, then random ones.
    """
    folder = Path(os.environ.get("MASSMAP_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "bigmali"
    if folder.is_dir():
        name = "public light cone (bigmali)"
        table = read_three_columns(folder / "massprior.txt")
        redshift, luminosity = np.loadtxt(folder / "mock_data.txt", unpack=True)
    else:
        name = "simulated field"
        table = schechter_table()
        prior = MassPrior.from_table(*table, per="mass", support="sharp")
        catalogue = simulate_field(jax.random.key(1), max(number, SURVEY), prior=prior).catalogue
        redshift, luminosity = catalogue.redshift, np.exp(catalogue.ln_lum_obs)
    rng = np.random.default_rng(1)
    objects = accuracy.Objects(np.log(luminosity), np.full(luminosity.size, 0.05), redshift)
    checked = accuracy.choose_rows(rng, _extremeness(objects), 1000)
    rest = rng.permutation(np.setdiff1d(np.arange(luminosity.size), checked))
    rows = np.concatenate([checked, rest])[:number]
    # A flat field of 40 arcmin. In bench_map.py each checked row is moved to a pixel of its own.
    x, y = rng.uniform(-20, 20, (2, rows.size))
    catalogue = HaloCatalogue.from_arrays(
        luminosity=luminosity[rows],
        redshift=redshift[rows],
        sigma_ln_luminosity=0.05,
        ra=x,
        dec=y,
        position_unit="arcmin",
        ids=rows,
    )
    return Field(
        name,
        catalogue,
        MassPrior.from_table(*table, per="mass", support="sharp", description=name),
        objects.take(rows),
        accuracy.PriorReference(*table, per="mass"),
    )
