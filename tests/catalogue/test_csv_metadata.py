"""The file beside a CSV file: written with it, read with it, never a leftover of another one."""

import json

import numpy as np
import pytest

from massmap_jax.catalogue.csv_metadata import metadata_file, read_metadata
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError

COLUMNS = {"z": np.array([0.1, 0.2]), "mass": np.array([1e14, 2e14])}
DRAWS = {"alpha1": [1.0, 2.0], "alpha2": [1.0, 1.1], "alpha3": [1e14] * 2, "alpha4": [0.0] * 2, "scatter": [0.2] * 2}


def test_metadata_and_units_come_back(tmp_path):
    path = tmp_path / "a.csv"
    write_table(path, COLUMNS, {"prior": "mine", "levels": np.array([1, 2])}, {"mass": "solMass"})
    assert read_metadata(path) == ({"prior": "mine", "levels": [1, 2]}, {"mass": "solMass"})
    document = json.loads(metadata_file(path).read_text())
    assert document["url"] == "a.csv"
    assert [column["name"] for column in document["tableSchema"]["columns"]] == ["z", "mass"]
    table = open_table(path)
    assert table.units == {"mass": "solMass"} and "a.csv-metadata.json" in table.notes[-1]


def test_no_file_where_there_is_nothing_to_say(tmp_path):
    write_table(tmp_path / "a.csv", COLUMNS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert read_metadata(tmp_path / "a.csv") == ({}, {})


def test_an_earlier_one_does_not_describe_a_later_table(tmp_path):
    path = tmp_path / "a.csv"
    write_table(path, COLUMNS, units={"mass": "solMass"})
    write_table(path, COLUMNS, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    metadata_file(path).write_text("mine")
    path.unlink()
    for meta in ({}, {"prior": "mine"}):
        with pytest.raises(MassmapError, match=r"a\.csv-metadata\.json exists"):
            write_table(path, COLUMNS, meta)
    assert metadata_file(path).read_text() == "mine" and not path.exists()


@pytest.mark.parametrize("text", ["no json", "[1]", '{"tableSchema": {"columns": [1]}}', '{"notes": [3]}'])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    path = tmp_path / "a.csv"
    write_table(path, COLUMNS)
    metadata_file(path).write_text(text)
    with pytest.raises(MassmapError, match=r"a\.csv-metadata\.json, the metadata of .*remove"):
        open_table(path)


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet", "vot"])
def test_labels_of_a_relation_come_back(tmp_path, suffix):
    path = tmp_path / f"relation.{suffix}"
    meta = {
        "program": "massmap-jax",
        "mass_definition": "500c",
        "luminosity_unit": "1e44 erg/s",
        "logarithms": "natural",
    }
    write_table(path, DRAWS, meta, {"alpha3": "solMass"}, {"alpha1": "normalisation"}, {"alpha3": "phys.mass"})
    read = read_relation(path)
    assert read["mass_definition"] == "500c" and read["lum_unit"] == "1e44 erg/s"
    np.testing.assert_array_equal(read["alpha2"], DRAWS["alpha2"])
