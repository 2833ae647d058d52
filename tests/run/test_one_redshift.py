"""`--z 0.3`: all objects of a snapshot at one redshift, in `run`, `fit` and `stream`, and in a file of options."""

import json

import numpy as np
import pytest
import warm_start
from astropy.table import Table

import massmap_jax as mm
from massmap_jax.errors import MassmapError

NUMBER = 60
SAID = "redshift: 0.3 for all objects, as z= is a number and no column has that name"


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """Halos of a box: places, whose third axis is called z, and luminosities; and a copy with a column of redshifts."""
    rng = np.random.default_rng(0)
    x, y, z = rng.uniform(0, 500, (3, NUMBER))
    lum = np.exp(rng.normal(0.5, 0.5, NUMBER))
    folder = tmp_path_factory.mktemp("box")
    table = Table({"id": np.arange(NUMBER), "x": x, "y": y, "z": z, "lum": lum})
    table.write(folder / "box.csv")
    table["snapshot"] = 0.3
    table.write(folder / "column.csv")
    return folder


def read(path, **options):
    return mm.read_catalogue(path, lum="lum", sigma=0.3, sigma_kind="ln", need_positions=False, **options)


@pytest.mark.parametrize("z", ["0.3", 0.3, "3e-1"])
def test_read(box, z):
    found = read(box / "box.csv", z=z)
    assert set(found.redshift) == {0.3} and found.usable.all() and SAID in found.notes
    assert found.columns_read["z"] == "0.3 for all"


def test_a_column_of_that_name_keeps_its_meaning(box, tmp_path):
    table = Table.read(box / "box.csv")
    table["0.3"] = 0.5
    table.write(tmp_path / "named.csv")
    found = read(tmp_path / "named.csv", z="0.3")
    assert set(found.redshift) == {0.5} and not any("for all objects" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"z": "-0.3"}, "nor a redshift of all objects"),
        ({"z": "nan"}, "nor a redshift of all objects"),
        ({"z": "300"}, "a number from 0 to 30"),
        ({"z": "o.3"}, "no column 'o.3'"),
        ({"z": "0.3", "z_err": 0.03, "z_err_kind": "z", "z_contains": "likelihood", "lum_moves": "no"}, "is exact"),
        ({}, "looks like a place in a box"),
    ],
)
def test_what_is_no_redshift_is_refused(box, options, words):
    with pytest.raises(MassmapError, match=words):
        read(box / "box.csv", **options)


def test_apparent_magnitudes_and_a_flux_limit_take_its_distance(box):
    """Against distances by astropy."""
    from astropy.cosmology import Planck18

    found = mm.read_catalogue(
        {"mag": np.array([17.0, 19.0]), "id": [1, 2]}, lum="mag", z=0.3, sigma=0.1, sigma_kind="mag",
        magnitudes="apparent", mag_zero=4.65, cosmology="Planck18",
    )  # fmt: skip
    absolute = np.array([17.0, 19.0]) - Planck18.distmod(0.3).value
    np.testing.assert_allclose(found.ln_lum_obs, -0.4 * np.log(10) * (absolute - 4.65), rtol=1e-6)
    limit = mm.RedshiftLimit.from_flux(1e-12, lum_unit="erg/s").limit_of(found.redshift, 0.0)
    expected = np.log(4 * np.pi * Planck18.luminosity_distance(0.3).to_value("cm") ** 2 * 1e-12)
    np.testing.assert_allclose(limit, expected, rtol=1e-5)


GIVEN = ["--lum", "lum", "--sigma", "0.3", "--sigma-kind", "ln"]
IDENTITY = ["--relation", "identity", "--pivot", "1e14"]


def masses(box, command, catalogue, z, out, *more):
    done = warm_start.run([command, catalogue, "--out", out, "--z", z, *GIVEN, *more], box)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_run_writes_the_masses_of_a_column(box):
    more = [*IDENTITY, "--no-map", "--no-figures", "--no-report"]
    assert SAID.replace("z=", "--z") in masses(box, "run", "box.csv", "0.3", "a", *more)
    masses(box, "run", "column.csv", "snapshot", "b", *more)
    masses(box, "run", "box.csv", "0.6", "c", *more)
    one, column, other = (Table.read(box / name / "masses.parquet")["log10_mass_mean"] for name in "abc")
    assert (one == column).all() and np.abs(one - other).max() > 1e-3
    record = json.loads((box / "a" / "run.json").read_text())
    assert record["columns"]["z"] == "0.3" and record["columns_read"]["z"] == "0.3 for all"
    # The record is a file of options, which repeats the run.
    done = warm_start.run(["run", "box.csv", "--config", "a/run.json", "--out", "d"], box)
    assert done.returncode == 0, done.stderr
    assert (Table.read(box / "d" / "masses.parquet")["log10_mass_mean"] == one).all()
    # In a stream, whatever the chunk.
    masses(box, "stream", "box.csv", "0.3", "s", *IDENTITY, "--method", "analytic", "--chunk-rows", "25")
    parts = [Table.read(path) for path in sorted((box / "s" / "masses").glob("*.parquet"))]
    assert len(parts) == 3
    np.testing.assert_allclose(np.concatenate([p["log10_mass_mean"] for p in parts]), one, rtol=1e-6)


def test_fit_takes_it(box):
    more = ["--relation-prior", "alpha1=0:0.3,alpha2=1:0.1,alpha4=0,scatter=0.3:0.05,alpha3=2e14", "--accept-misfit"]
    masses(box, "fit", "box.csv", "0.3", "f", *more, "--no-figures")
    masses(box, "fit", "column.csv", "snapshot", "g", *more, "--no-figures")
    one, column = (np.load(box / name / "relation.npz") for name in "fg")
    for name in one.files:
        if one[name].dtype.kind == "f":
            np.testing.assert_array_equal(one[name], column[name], err_msg=name)
