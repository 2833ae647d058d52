"""What a written table says of its columns, as astropy, pandas and pyarrow read it at their defaults."""

import io
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.write import write_table

COLUMNS = {
    "id": np.array(["a", "bö, c", "ddd"]),
    "ra": np.array([150.25, np.nan, 3.0]),
    "flag": np.array([0, 2, 1024], np.int32),
    "count": np.array([1, 2, 3], np.uint64),
    "lum": np.array([1e14, 2e14, 3.5e14], np.float32),
}
META = {"mass_definition": "200m", "seed": 1, "settings": {"levels": [0.5, None]}}
UNITS = {"ra": "deg", "lum": "foo / s"}
DESCRIPTIONS = {"id": "object", "ra": "right ascension"}
UCDS = {"id": "meta.id;meta.main", "ra": "pos.eq.ra;meta.main"}


def written(folder, suffix, columns=COLUMNS):
    path = folder / f"masses.{suffix}"
    write_table(path, columns, META, UNITS, DESCRIPTIONS, UCDS)
    return path


@pytest.fixture
def strict():
    """No warning, of astropy or pandas, on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("suffix", ["parquet", "ecsv", "vot"])
def test_astropy_reads_units_descriptions_and_ucds(tmp_path, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(written(tmp_path, suffix))
    assert table.colnames == list(COLUMNS)
    assert table["id"].tolist() == COLUMNS["id"].tolist()
    assert str(table["ra"].unit) == "deg"
    for name in COLUMNS:
        assert (table[name].description or "") == DESCRIPTIONS.get(name, "") or name == "lum"
        assert (table[name].meta or {}).get("ucd") == UCDS.get(name)
    np.testing.assert_array_equal(table["ra"], COLUMNS["ra"])
    np.testing.assert_array_equal(table["count"], COLUMNS["count"])
    if suffix != "vot":  # astropy leaves INFO elements out
        assert table.meta == META
        assert str(table["lum"].unit) == UNITS["lum"]
    else:
        infos = votable.parse(tmp_path / "masses.vot").get_first_table().infos
        assert json.loads({info.name: info.value for info in infos}["settings"]) == META["settings"]
        assert table["lum"].description == f"[{UNITS['lum']}]"


def test_pandas_reads_the_attrs_of_parquet(tmp_path, strict):
    frame = pd.read_parquet(written(tmp_path, "parquet"))
    assert frame.attrs == META | {"units": UNITS, "descriptions": DESCRIPTIONS, "ucds": UCDS}
    assert frame["id"].tolist() == COLUMNS["id"].tolist() and frame["lum"].dtype == np.float32


def test_voparquet_holds_a_votable_without_data(tmp_path):
    path = written(tmp_path, "parquet")
    metadata = pq.read_schema(path).metadata
    assert metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    text = metadata[b"IVOA.VOTable-Parquet.content"]
    assert b"<DATA" not in text
    table = votable.parse(io.BytesIO(text)).get_first_table()
    assert [field.name for field in table.fields] == pq.read_schema(path).names
    assert [field.ucd for field in table.fields][:2] == list(UCDS.values())
    assert {info.name: info.value for info in table.infos}["mass_definition"] == "200m"
    read = Table.read(path, format="parquet.votable")
    assert str(read["ra"].unit) == "deg" and read["id"].tolist() == COLUMNS["id"].tolist()


def test_csv_is_a_header_and_rows(tmp_path, strict):
    """pandas and astropy at their defaults, which know no comments."""
    path = written(tmp_path, "csv")
    frame, table = pd.read_csv(path), Table.read(path)
    assert list(frame.columns) == table.colnames == list(COLUMNS)
    assert frame["id"].tolist() == table["id"].tolist() == COLUMNS["id"].tolist()
    for name in ("ra", "flag", "count", "lum"):
        np.testing.assert_array_equal(frame[name].astype(COLUMNS[name].dtype), COLUMNS[name])
        np.testing.assert_array_equal(np.asarray(table[name], COLUMNS[name].dtype), COLUMNS[name])


def test_fits_has_ucds_and_comments(tmp_path):
    header = fits.getheader(written(tmp_path, "fits"), 1)
    names = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
    assert {name: header[f"TUCD{i}"] for name, i in names.items() if f"TUCD{i}" in header} == UCDS
    assert header[f"TCOMM{names['ra']}"] == "right ascension" and header[f"TUNIT{names['ra']}"] == "deg"


def test_integers_that_votable_lacks(tmp_path):
    large = {"small": np.array([-1, 2], np.int8), "id": np.array([2**63 + 5, 7], np.uint64)}
    write_table(tmp_path / "large.vot", large)
    table = Table.read(tmp_path / "large.vot")
    assert table["small"].tolist() == [-1, 2]
    assert table["id"].tolist() == [str(2**63 + 5), "7"]


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv", "ecsv", "vot"])
def test_a_table_without_rows(tmp_path, suffix):
    path = written(tmp_path, suffix, {name: values[:0] for name, values in COLUMNS.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = Table.read(path)
    assert len(table) == 0 and set(COLUMNS) <= set(table.colnames)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ecsv", "vot"])
def test_what_was_written_is_read_as_a_catalogue(tmp_path, suffix):
    """The unit of the luminosity comes back, from wherever the format keeps it."""
    columns = {"id": np.arange(3), "z": np.array([0.1, 0.2, 0.3]), "lum": np.array([1e44, 2e44, 3e44])}
    path = tmp_path / f"field.{suffix}"
    write_table(path, columns, units={"lum": "erg / s"})
    catalogue = read_catalogue(path, lum="lum", z="z", sigma=0.1)
    assert catalogue.lum_unit.replace(" ", "") == "erg/s"
    np.testing.assert_allclose(np.exp(catalogue.ln_lum_obs), columns["lum"])
