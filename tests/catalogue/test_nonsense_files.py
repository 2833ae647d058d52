"""Files as astronomers write them: read as they are meant, or refused in a sentence; never taken for something else.

Kinds: headers and units in every position, delimiters, formats of the field, ids, angles, damaged files. Each test is a
table of instances; a file's text stands in it as the file would.
"""

import bz2
import gzip
import lzma
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError

SIGMA = {"sigma": 0.1}


def opened(tmp_path, text, name="o.txt", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_table(path, **options)


def read(tmp_path, text, name="o.txt", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_catalogue(path, **SIGMA | options)


def sentence(told) -> str:
    text = str(told.value)
    assert "\n" not in text and len(text) < 600, text
    return text


def values(table, name):
    return np.ma.filled(np.ma.asarray(table.column(name)).astype(float), np.nan).tolist()


# ---- headers: what names the columns, their units, and where the rows begin

HEADERS = {
    # VizieR and TOPCAT: names, units and a rule, commented or not
    "vizier commented": ("#ID;z;L\n# ;;Lsun\n#--;----;----\nA;0.1;10\nB;0.2;20\n", ["ID", "z", "L"], {"L": "Lsun"}),
    "vizier tsv": ("#\n#Table J/x\nID\tz\tL\n \t \t10+44erg/s\n--\t----\t----\nA\t0.1\t10\nB\t0.2\t20\n", ["ID", "z", "L"], {"L": "10+44erg/s"}),
    "vizier, first unit blank": ("#z\tL\n# \tmW\n#---\t---\n0.1\t10\n0.2\t20\n", ["z", "L"], {"L": "mW"}),
    "vizier, sexagesimal units": ("ID|RAJ2000|z|L\n|\"h:m:s\"||Lsun\n--|-----|---|---\nA|00 01 02|0.1|10\nB|00 01 03|0.2|20\n", ["ID", "RAJ2000", "z", "L"], {"RAJ2000": "h:m:s", "L": "Lsun"}),
    "units below names": ("# z L\n# - Lsun\n0.1 10\n0.2 20\n", ["z", "L"], {"L": "Lsun"}),
    "units below names, brackets": ("# z , L\n# [] , [erg/s]\n0.1 , 10\n0.2 , 20\n", ["z", "L"], {"L": "erg/s"}),
    "rule above and below": ("# --- ----\n# z   L\n# --- ----\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "rule below a header": ("z      L\n------ ------\n0.1    10\n0.2    20\n", ["z", "L"], {}),
    "rule of equals signs": ("z,L\n===,===\n0.1,10\n0.2,20\n", ["z", "L"], {}),
    "units row": ("z,L\n,Msun\n0.1,10\n0.2,20\n", ["z", "L"], {"L": "Msun"}),
    "units row with a scale": ("id,z,L\n,-,1e14 Msun\na,0.1,10\nb,0.2,20\n", ["id", "z", "L"], {"L": "1e14 Msun"}),
    "units row, brackets": ("ra;z;L\n(deg);;(10^44 erg/s)\n1;0.1;10\n2;0.2;20\n", ["ra", "z", "L"], {"ra": "deg", "L": "10^44 erg/s"}),
    "units row, brackets of all": ("ra,z,L\n[deg],,[Lsun]\n1,0.1,10\n2,0.2,20\n", ["ra", "z", "L"], {"ra": "deg", "L": "Lsun"}),
    # the comment that names them
    "footer": ("# z L\n0.1 10\n0.2 20\n# the end\n", ["z", "L"], {}),
    "footer of totals": ("z L\n0.1 10\n0.2 20\n# 2 rows\n", ["z", "L"], {}),
    "comment between": ("# z L\n0.1 10\n# second night\n0.2 20\n", ["z", "L"], {}),
    "prose before": ("# made by\n# z L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "prose after": ("# z L\n# by Smith\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "a row commented out": ("# z L\n# 0.5 50\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "percent": ("% z L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "exclamation mark": ("! made by hand\nz L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "two slashes": ("// z, L\n0.1, 10\n0.2, 20\n", ["z", "L"], {}),
    "numbered": ("# Col 1: z redshift\n# Col 2: L luminosity [Lsun]\n0.1 10\n0.2 20\n", ["z", "L"], {"L": "Lsun"}),
    "numbered in brackets": ("# (1) z\n# (2) L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "numbered from zero": ("# two columns\n# 0 z\n# 1 L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    # what stands above the header
    "blank first rows": ("\n \n\nz,L\n0.1,10\n0.2,20\n", ["z", "L"], {}),
    "rows of commas first": (",\n,\nz,L\n0.1,10\n0.2,20\n", ["z", "L"], {}),
    "title of a spreadsheet": ("My clusters,,\n,,\nid,z,L\na,0.1,10\nb,0.2,20\n", ["id", "z", "L"], {}),
    "byte order mark": (b"\xef\xbb\xbfz,L\r\n0.1,10\r\n0.2,20\r\n", ["z", "L"], {}),
    "byte order mark, comment": (b"\xef\xbb\xbf# z L\n0.1 10\n0.2 20\n", ["z", "L"], {}),
    "old Macintosh": (b"z,L\r0.1,10\r0.2,20\r", ["z", "L"], {}),
    # numbers among the names
    "one number": ("z,L,500\n0.1,10,7\n0.2,20,8\n", ["z", "L", "500"], {}),
    "commented number": ("# z L 200\n0.1 10 7\n0.2 20 8\n", ["z", "L", "200"], {}),
    "pandas": ("0,1\n0.1,10.0\n0.2,20.0\n", ["0", "1"], {}),
    "pandas with text": ("0;1;2\nA;0.1;10.0\nB;0.2;20.0\n", ["0", "1", "2"], {}),
    "counted from one": ("1\t2\t3\n0.1\t10.5\t1\n0.2\t20.5\t1\n", ["1", "2", "3"], {}),
    # boxes
    "psql": (" z   | L  \n-----+----\n 0.1 | 10\n 0.2 | 20\n", ["z", "L"], {}),
    "markdown": ("| z | L |\n|---|---|\n| 0.1 | 10 |\n| 0.2 | 20 |\n", ["", "z", "L", ""], {}),
    "TOPCAT's text": ("+-----+----+\n| z   | L  |\n+-----+----+\n| 0.1 | 10 |\n| 0.2 | 20 |\n+-----+----+\n", ["", "z", "L", ""], {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_headers(tmp_path, kind):
    text, names, units = HEADERS[kind]
    table = opened(tmp_path, text)
    assert list(table.names) == names
    assert table.units == units
    numbers = {"z": [0.1, 0.2], "L": [10.0, 20.0]}
    if "0" in names or "1" in names:
        numbers = dict.fromkeys(names)
    for name, expected in numbers.items():
        assert len(table.column(name)) == 2
        assert expected is None or values(table, name) == expected


ASKED = {
    "all integers": "1,2,3\n4,5,6\n7,8,9\n",
    "pandas, one row": "0,1,2\n",
    "years": "2010 2011 2012\n0.1 1.5 2.5\n0.2 1.5 2.5\n",
    "numbers of the columns as decimals": "0.0,1.0,2.0\n0.1,10.0,1.0\n0.2,20.0,1.0\n",
    "more numbers than names": "250,350,500,z\n1.5,2.5,3.5,0.1\n1.5,2.5,3.5,0.2\n",
}


@pytest.mark.parametrize("kind", ASKED)
def test_a_first_line_that_may_be_either_is_asked_about(tmp_path, kind):
    with pytest.raises(MassmapError) as told:
        opened(tmp_path, ASKED[kind])
    assert "o.txt" in sentence(told) and "header or a row" in sentence(told) and "header='yes'" in sentence(told)
    rows = len(ASKED[kind].splitlines())
    assert len(opened(tmp_path, ASKED[kind], header="no").column("col1")) == rows
    assert len(opened(tmp_path, ASKED[kind], header="yes").names) == len(
        opened(tmp_path, ASKED[kind], header="no").names
    )


ROWS = {
    "integers in the first row by chance": ("1 1000\n0.2 2000\n0.3 2500.5\n", 3),
    "a first row of missing values": ("# z L\n-- --\n0.1 10\n0.2 20\n", 3),
    "ids among numbers": ("A12 0.1 10\n13 0.2 20\n14 0.3 30\n", 3),
    "redshift one": ("1.0,2.0\n0.1,10.0\n", 2),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_first_row_is_no_header(tmp_path, kind):
    text, rows = ROWS[kind]
    table = opened(tmp_path, text)
    assert len(table.column(table.names[0])) == rows


# ---- delimiters

DELIMITERS = {
    "comma in a name": ("name\tz\tL (0.1,2.4 keV)\nA\t0.1\t10\nB\t0.2\t20\n", "\t", 3),
    "comma in every name": ("name\tz\tL\nSmith, A\t0.1\t10\nJones, B\t0.2\t20\n", "\t", 3),
    "semicolon in a name": ("name,z,L (soft; rest frame)\nA,0.1,10\nB,0.2,20\n", ",", 3),
    "bar in a name": ("z,L|500\n0.1,10\n0.2,20\n", ",", 2),
    "commas in a header of blanks": ("z L_(0.1,2.4)\n0.1 10\n0.2 20\n", " ", 2),
    "decimal commas": ("z;L\n0,1;10,5\n0,2;20,5\n", ";", 2),
    "decimal commas, no header": ("0,1;10,5\n0,2;20,5\n", ";", 2),
    "names of two words": ("name,z,L\nNGC 1,0.1,10\nNGC 2,0.2,20\nNGC 3,0.3,30\n", ",", 3),
    "angles with blanks": ("name,ra,dec,z,L\nA,10 45 30,-05 30 00,0.1,10\nB,10 46 30,-05 31 00,0.2,20\n", ",", 5),
    "tabs and blanks mixed": ("z L\n0.1\t10\n0.2   20\n", " ", 2),
    "empty cells": ("z\tL\te\n0.1\t10\t\n0.2\t\t1\n", "\t", 3),
    "quoted": ('name,z,L\n"A, the first",0.1,10\n"B",0.2,20\n', ",", 3),
    "bars": ("z|L\n0.1|10\n0.2|20\n", "|", 2),
}


@pytest.mark.parametrize("kind", DELIMITERS)
def test_delimiters_are_found_from_all_lines(tmp_path, kind):
    text, mark, columns = DELIMITERS[kind]
    table = opened(tmp_path, text)
    assert len(table.names) == columns
    named = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe", " ": "space"}[mark]
    assert opened(tmp_path, text, delimiter=named).names == table.names
    assert opened(tmp_path, text, delimiter=mark).names == table.names


def test_a_delimiter_may_be_any_character_and_is_for_text_only(tmp_path):
    table = opened(tmp_path, "z^L\n0.1^10\n0.2^20\n", delimiter="^")
    assert table.names == ("z", "L") and values(table, "L") == [10, 20]
    for delimiter in ("", "ab", "x", '"'):
        with pytest.raises(MassmapError, match="delimiter is"):
            opened(tmp_path, "z,L\n1,2\n", delimiter=delimiter)
    Table({"z": [0.1], "lum": [10.0]}).write(tmp_path / "t.fits")
    for option in ({"delimiter": "tab"}, {"header": "no"}, {"names": ["a", "b"]}):
        with pytest.raises(MassmapError, match="is fits"):
            open_table(tmp_path / "t.fits", **option)
    with pytest.raises(MassmapError, match="in memory"):
        open_table({"z": [1]}, delimiter="tab")


# ---- formats

MRT = """Title: Masses
Table: Clusters
================================================================================
Byte-by-byte Description of file: o.txt
--------------------------------------------------------------------------------
   Bytes Format Units        Label  Explanations
--------------------------------------------------------------------------------
   1-  5 A5     ---          Name   Name
   7- 12 F6.4   ---          z      Redshift
  14- 18 F5.2   10+14solMass M500   Mass
  20- 21 I2     h            RAh    Hour of Right Ascension
  23- 24 I2     min          RAm    Minute
  26- 29 F4.1   s            RAs    Second
      31 A1     ---          DE-    Sign
  32- 33 I2     deg          DEd    Degree
  35- 36 I2     arcmin       DEm    Minute
  38- 39 I2     arcsec       DEs    Second
--------------------------------------------------------------------------------
Ab  1 0.1000 05.50 10 45 30.0 -00 30 00
Ab 12 0.2000 04.10 10 15 00.0 +05 45 00
Ab 13 0.3000 03.10 10 15 00.0  05 45 00
"""
CDS = """
Byte-by-byte Description of file: table1.dat
--------------------------------------------------------------------------------
   Bytes Format Units  Label Explanations
--------------------------------------------------------------------------------
   1-  3 A3     ---    ID    Name
   5-  8 F4.2   ---    z     Redshift
  10- 15 F6.1   Lsun   lum   ?=-9.9 Luminosity
--------------------------------------------------------------------------------
a   0.10 1000.0
b   0.20   -9.9
"""
IPAC = """\\catalog = 'x'
\\ made by hand
| name |   z    |  lum   |
| char | double | double |
|      |        | Lsun   |
| null | null   | null   |
   A      0.1      1000.0
   B      0.2      null
"""
IPAC_SHORT = "|  z   |  lum   |\n  0.1    1000.0\n  0.2    2000.0\n"
VOTABLE = """<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE name="clusters">
<FIELD name="ID" datatype="char" arraysize="*"/><FIELD name="z" datatype="double"/>
<FIELD name="lum" datatype="double" unit="Lsun"/>
<DATA><TABLEDATA><TR><TD>a</TD><TD>0.1</TD><TD>1000</TD></TR><TR><TD>b</TD><TD>0.2</TD><TD></TD></TR></TABLEDATA></DATA>
</TABLE></RESOURCE></VOTABLE>
"""

FORMATS = {
    "AAS machine-readable": (MRT, ["Name", "z", "M500"], {"M500": "1e+14 solMass"}),
    "CDS": (CDS, ["ID", "z", "lum"], {"lum": "Lsun"}),
    "IPAC": (IPAC, ["name", "z", "lum"], {"lum": "solLum"}),
    "IPAC without types": (IPAC_SHORT, ["z", "lum"], {}),
    "VOTable": (VOTABLE, ["ID", "z", "lum"], {"lum": "Lsun"}),
}


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=lambda f: f.__module__)
@pytest.mark.parametrize("kind", FORMATS)
def test_formats_of_the_field(tmp_path, kind, squeeze):
    text, names, units = FORMATS[kind]
    table = opened(tmp_path, squeeze(text.encode()), name="anything.dat")
    assert list(table.names)[: len(names)] == names
    assert units.items() <= table.units.items()
    assert values(table, "z")[:2] == [0.1, 0.2]


def test_missing_values_of_these_formats_are_missing(tmp_path):
    for text in (CDS, IPAC, VOTABLE):
        catalogue = read(tmp_path, text)
        assert catalogue.usable.tolist() == [True, False]
        assert np.exp(catalogue.ln_lum_obs[0]) == pytest.approx(1000.0)


def test_a_machine_readable_table_whole(tmp_path):
    catalogue = read(tmp_path, MRT, lum="M500")
    assert catalogue.ids.tolist() == ["Ab  1", "Ab 12", "Ab 13"]
    np.testing.assert_allclose(np.exp(catalogue.ln_lum_obs), [5.5e14, 4.1e14, 3.1e14])
    np.testing.assert_allclose(catalogue.ra, [161.375, 153.75, 153.75])
    np.testing.assert_allclose(catalogue.dec, [-0.5, 5.75, 5.75])


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_compressed_text_and_fits(tmp_path, suffix):
    squeeze = {"gz": gzip, "bz2": bz2, "xz": lzma}[suffix].compress
    catalogue = read(tmp_path, squeeze(b"z,lum\n0.1,10\n0.2,20\n"), name=f"o.csv.{suffix}")
    assert catalogue.redshift.tolist() == [0.1, 0.2]
    Table({"z": [0.1, 0.2], "lum": [10.0, 20.0]}).write(tmp_path / "o.fits")
    path = tmp_path / f"o.fits.{suffix}"
    path.write_bytes(squeeze((tmp_path / "o.fits").read_bytes()))
    assert read_catalogue(path, **SIGMA).redshift.tolist() == [0.1, 0.2]


def test_several_tables_in_a_votable(tmp_path):
    one = VOTABLE.split("<TABLE name")[1].split("</RESOURCE>")[0]
    both = VOTABLE.replace("</RESOURCE>", "<TABLE name" + one.replace("clusters", "groups") + "</RESOURCE>")
    both = both[::-1].replace("0.1"[::-1], "0.7"[::-1], 1)[::-1]
    path = tmp_path / "two.xml"
    path.write_text(both)
    first = read_catalogue(path, **SIGMA)
    assert first.redshift[0] == 0.1 and any("groups" in note for note in first.notes)
    assert read_catalogue(f"{path}[groups]", **SIGMA).redshift[0] == 0.7
    with pytest.raises(MassmapError, match="0 clusters, 1 groups"):
        read_catalogue(f"{path}[galaxies]", **SIGMA)


@pytest.mark.parametrize("cell", ["1.5D+14", "1.5d14", "0.15D15", "15D+13"])
def test_fortran_exponents(tmp_path, cell):
    catalogue = read(tmp_path, f"z lum\n0.1D0 {cell}\n0.2D0 2.5D+14\n")
    np.testing.assert_allclose(np.exp(catalogue.ln_lum_obs), [1.5e14, 2.5e14])
    np.testing.assert_allclose(catalogue.redshift, [0.1, 0.2])


def test_a_number_with_an_underscore_is_none(tmp_path):
    with pytest.raises(MassmapError, match="'1_000'"):
        read(tmp_path, "z,lum\n0.1,1_000\n0.2,2_000\n")


# ---- HDF5


def _hdf5_columns(h5py, path):
    with h5py.File(path, "w") as file:
        group = file.create_group("Halos")
        group["z"], group["lum"], group["id"] = [0.1, 0.2], [1e10, 2e10], np.array([b"a ", b"b "])
        group["lum"].attrs["units"] = "Lsun"
        file["header"] = 3


def _hdf5_compound(h5py, path):
    rows = np.array([(b"a", 0.1, 1e10), (b"b", 0.2, 2e10)], dtype=[("id", "S4"), ("z", "f4"), ("lum", "f8")])
    with h5py.File(path, "w") as file:
        file["cat/table"] = rows


def _hdf5_astropy(h5py, path):
    Table({"id": ["a", "b"], "z": [0.1, 0.2], "lum": MaskedColumn([1e10, 2e10], unit="Lsun")}).write(
        path, path="t", serialize_meta=True
    )


@pytest.mark.parametrize("make", [_hdf5_columns, _hdf5_compound, _hdf5_astropy])
def test_hdf5(tmp_path, make):
    h5py = pytest.importorskip("h5py")
    make(h5py, tmp_path / "o.hdf5")
    catalogue = read_catalogue(tmp_path / "o.hdf5", **SIGMA)
    np.testing.assert_allclose(catalogue.redshift, [0.1, 0.2], rtol=1e-6)
    assert catalogue.ids.tolist() == ["a", "b"]
    assert catalogue.lum_unit in ("Lsun", "solLum", "")


def test_hdf5_without_h5py_is_a_sentence(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "o.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(MassmapError, match="pip install h5py"):
        open_table(path)


# ---- ids

PADDED = {
    "comma": "id,z,lum\n    1,0.1,10\n   22,0.2,20\n",
    "semicolon": "id;z;lum\n1    ;0.1;10\n22   ;0.2;20\n",
    "tab": "id\tz\tlum\n  1 \t0.1\t10\n 22 \t0.2\t20\n",
    "bars": "| id | z | lum |\n|  1 | 0.1 | 10 |\n| 22 | 0.2 | 20 |\n",
}


@pytest.mark.parametrize("kind", PADDED)
def test_ids_have_no_padding(tmp_path, kind):
    plain = read(tmp_path, "id z lum\n1 0.1 10\n22 0.2 20\n")
    padded = read(tmp_path, PADDED[kind])
    assert padded.ids.tolist() == plain.ids.tolist() == [1, 22]
    np.testing.assert_array_equal(padded.hashes, plain.hashes)


def test_ids_of_text_have_no_padding_in_any_format(tmp_path):
    columns = {"Name": [" Ab 1", "Ab 22  "], "z": [0.1, 0.2], "lum": [10.0, 20.0]}
    pd.DataFrame(columns).to_csv(tmp_path / "o.csv", index=False)
    pq.write_table(pa.table(columns), tmp_path / "o.parquet")
    Table(columns).write(tmp_path / "o.fits")
    Table(columns).write(tmp_path / "o.ecsv")
    Table(columns).write(tmp_path / "o.vot", format="votable")
    fixed = pa.table({**columns, "Name": pa.array([b"Ab 1\0\0\0", b"Ab 22\0\0"], pa.binary(7))})
    pq.write_table(fixed, tmp_path / "binary.parquet")
    sources = [tmp_path / f"o.{s}" for s in ("csv", "parquet", "fits", "ecsv", "vot")] + [tmp_path / "binary.parquet"]
    sources += [
        columns,
        pd.DataFrame(columns),
        pd.DataFrame({**columns, "Name": [b" Ab 1", b"Ab 22  "]}),
        Table(columns),
    ]
    for source in sources:
        ids = read_catalogue(source, **SIGMA).ids
        assert ids.tolist() == ["Ab 1", "Ab 22"], source
        assert ids.dtype.kind == "U"


@pytest.mark.parametrize(
    "name",
    ["ID", "NAME", "SOURCE_ID", "objid", "cluster_name", "Cluster Name", "Source ID", "clname", "IAUName", "DETUID"],
)
def test_usual_id_columns_are_guessed_with_a_note(tmp_path, name):
    catalogue = read(tmp_path, f"{name},z,lum\n007,0.1,10\nb,0.2,20\n")
    assert catalogue.ids.tolist() == ["007", "b"]
    assert f"id column: guessed {name!r}" in catalogue.notes


BIG = [2**63 - 1, 2**53 + 1]


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv", "ecsv"])
@pytest.mark.parametrize(
    "ids",
    [
        np.array(BIG),
        np.array([2**64 - 1, 2**63], dtype=np.uint64),
        pd.array(BIG, dtype="Int64"),
        pd.array(BIG, dtype="UInt64"),
    ],
    ids=["int64", "uint64", "Int64", "UInt64"],
)
def test_ids_of_64_bits_survive_every_format(tmp_path, ids, suffix):
    catalogue = read_catalogue(pd.DataFrame({"id": ids, "z": [0.1, 0.2], "lum": [10.0, 20.0]}), **SIGMA)
    write_table(tmp_path / f"o.{suffix}", {"id": catalogue.ids, "z": catalogue.redshift})
    back = {
        "parquet": lambda p: pd.read_parquet(p)["id"],
        "csv": lambda p: pd.read_csv(p, comment="#")["id"],
        "fits": lambda p: Table.read(p)["id"],
        "ecsv": lambda p: Table.read(p)["id"],
    }[suffix](tmp_path / f"o.{suffix}")
    assert [int(x) for x in back] == [int(x) for x in ids]


def test_letters_that_fits_cannot_hold_come_with_a_row_number(tmp_path):
    ids = np.array(["Böhringer 12", "λ Cet", "plain"])
    write_table(tmp_path / "o.fits", {"id": ids, "z": np.array([0.1, 0.2, 0.3])})
    back = Table.read(tmp_path / "o.fits")
    assert back.colnames == ["id", "row", "z"]
    assert [ids[row] for row in back["row"]] == ids.tolist() and back["id"][2] == "plain"
    assert "ASCII" in fits.getheader(tmp_path / "o.fits", 1)["TCOMM2"]
    write_table(tmp_path / "plain.fits", {"id": np.array(["a", "b"]), "z": np.array([0.1, 0.2])})
    assert Table.read(tmp_path / "plain.fits").colnames == ["id", "z"]


# ---- positions

SPLIT = {
    "CDS": ("RAh,RAm,RAs,DE-,DEd,DEm,DEs", "10,45,30.0,-,5,30,00", "10,15,0.0,+,5,45,0"),
    "no sign for plus": ("RAh,RAm,RAs,DE-,DEd,DEm,DEs", "10,45,30.0,-,5,30,00", "10,15,0.0,,5,45,0"),
    "sign before the degrees": ("RAh,RAm,RAs,DEd,DEm,DEs", "10,45,30.0,-05,30,00", "10,15,0.0,+05,45,0"),
    "other names": ("ra_h,ra_m,ra_s,dec_d,dec_m,dec_s", "10,45,30,-5,30,0", "10,15,0,5,45,0"),
    "hours and minutes": ("RAh,RAm,DEd,DEm", "10,45.5,-05,30", "10,15,5,45"),
    "sign of one": ("RA_hour,RA_min,RA_sec,Dec_sign,Dec_deg,Dec_min,Dec_sec", "10,45,30,-1,5,30,0", "10,15,0,1,5,45,0"),
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("kind", SPLIT)
def test_angles_split_over_columns(tmp_path, kind, delimiter, named):
    header, *rows = SPLIT[kind]
    text = "\n".join([f"z,lum,{header}", *(f"0.{i + 1},10,{row}" for i, row in enumerate(rows))]) + "\n"
    names = header.split(",")
    degrees = next(n for n in names if n.lower() in ("ded", "dec_d", "dec_deg"))
    catalogue = read(tmp_path, text.replace(",", delimiter), **({"ra": names[0], "dec": degrees} if named else {}))
    np.testing.assert_allclose(catalogue.ra, [161.375, 153.75])
    np.testing.assert_allclose(catalogue.dec, [-5.5, 5.75])
    assert any(f"combined from columns {names[0]}" in note for note in catalogue.notes)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ("-,00,30,00", -0.5),
        ("+,00,30,00", 0.5),
        (",-00,30,00", -0.5),
        (",-0,30,00", -0.5),
        (",0,-30,00", -0.5),
        (",0,0,-36", -0.01),
    ],
)
def test_the_sign_of_minus_zero(tmp_path, signs, expected):
    text = f"z,lum,RAh,RAm,RAs,DE-,DEd,DEm,DEs\n0.1,10,1,0,0,{signs}\n0.2,10,1,0,0,+,1,0,0\n"
    assert read(tmp_path, text).dec[0] == pytest.approx(expected)
    columns = pd.read_csv(tmp_path / "o.txt", dtype={"DEd": str})
    assert read_catalogue(columns, **SIGMA).dec[0] == pytest.approx(expected)
    number = pd.DataFrame(columns.assign(DEd=columns["DEd"].astype(float)))
    assert read_catalogue(number, **SIGMA).dec[0] == pytest.approx(expected)


def test_decimal_degrees_beside_split_ones_are_preferred(tmp_path):
    header = "z,lum,RAdeg,DEdeg,RAh,RAm,RAs,DE-,DEd,DEm,DEs"
    catalogue = read(tmp_path, f"{header}\n0.1,10,20.5,-5.5,1,22,0,-,5,30,0\n0.2,10,21,-6,1,24,0,-,6,0,0\n")
    assert catalogue.ra.tolist() == [20.5, 21.0] and catalogue.dec.tolist() == [-5.5, -6.0]


UNUSABLE = {
    "text": ("ra,dec", "here,there", "no column of numbers"),
    "a fraction of hours beside minutes": ("RAh,RAm,RAs,DE-,DEd,DEm,DEs", "10.76,45,30,-,5,30,0", ""),
    "no minutes of declination": ("RAh,RAm,RAs,DEd,DEs", "10,45,30,5,30", ""),
    "minutes beyond 60": ("RAh,RAm,RAs,DE-,DEd,DEm,DEs", "10,99,30,-,5,30,0", ""),
    "swapped": ("dec,ra", "150.1,2.2", ""),
    "a sign that is none": ("RAh,RAm,RAs,DE-,DEd,DEm,DEs", "10,45,30,x,5,30,0", ""),
    "hours beyond 24": ("ra,dec", "161:22:30,-05:30:00", ""),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_guessed_position_that_cannot_be_used_costs_the_map_only(tmp_path, kind):
    header, row, _ = UNUSABLE[kind]
    text = f"z,lum,{header}\n0.1,10,{row}\n0.2,20,{row}\n"
    catalogue = read(tmp_path, text)
    assert catalogue.ra is None and catalogue.usable.all()
    note = next(note for note in catalogue.notes if note.startswith("no positions, and so no map"))
    assert "o.txt" in note or "dec is outside" in note
    names = header.split(",")
    ra = next(n for n in names if n.lower() in ("ra", "rah"))
    dec = next(n for n in names if n.lower() in ("dec", "ded"))
    with pytest.raises(MassmapError):
        read_catalogue(tmp_path / "o.txt", ra=ra, dec=dec, **SIGMA)


SEXAGESIMAL = {
    "colons": ("10:45:30.0", "-05:30:00"),
    "blanks": ("10 45 30.0", "-05 30 00"),
    "letters": ("10h45m30s", "-05d30m00s"),
    "letters and blanks": ("10h 45m 30.0s", "-05d 30m 00.0s"),
    "signs of angles": ("10h45m30.0s", "-05°30′00″"),
    "degrees with quotes": ("161d22m30s", "-5d30'00''"),
    "minutes with a fraction": ("10:45.5", "-05:30.0"),
    "another minus": ("10:45:30", "−05:30:00"),
    "letters of minutes": ("10h45.5m", "-5d30m"),
}


@pytest.mark.parametrize("kind", SEXAGESIMAL)
def test_sexagesimal_text(tmp_path, kind):
    ra, dec = SEXAGESIMAL[kind]
    text = f"name;RAJ2000;DEJ2000;z;lum\nA;{ra};{dec};0.1;10\nB;{ra};{dec};0.2;20\n"
    for source in (None, "frame"):
        catalogue = read(tmp_path, text)
        if source:
            catalogue = read_catalogue(pd.read_csv(tmp_path / "o.txt", sep=";"), **SIGMA)
        np.testing.assert_allclose(catalogue.ra, 161.375)
        np.testing.assert_allclose(catalogue.dec, -5.5)
        assert any("sexagesimal" in note for note in catalogue.notes)


def test_sexagesimal_details(tmp_path):
    rows = ["00:00:01", "-00:00:36", "23:59:60", "+90:00:00", "", "", "12:61:00", "10:00:00"]
    text = "ra,dec,z,lum\n" + "".join(f"{a},{b},0.1,10\n" for a, b in zip(rows[::2], rows[1::2], strict=True))
    catalogue = read(tmp_path, text)
    np.testing.assert_allclose(catalogue.ra, [1 / 240, 0.0, np.nan, np.nan], atol=1e-9)
    np.testing.assert_allclose(catalogue.dec, [-0.01, 90.0, np.nan, np.nan])
    assert [bool(flag) for flag in catalogue.flag] == [False, False, True, True]
    assert any("1 row, first row 3 with value '12:61:00'" in note for note in catalogue.notes)
    degrees = read(tmp_path, "ra,dec,z,lum\n161:22:30,-05:30:00,0.1,10\n", position_unit="deg")
    np.testing.assert_allclose([degrees.ra[0], degrees.dec[0]], [161.375, -5.5])
    with pytest.raises(MassmapError, match="beyond 24 hours"):
        read(tmp_path, "ra,dec,z,lum\n161:22:30,-05:30:00,0.1,10\n", ra="ra", dec="dec")
    with pytest.raises(MassmapError, match="several ways"):
        read(tmp_path, "ra,dec,z,lum\n10:22:30,1,0.1,10\n10h22m30s,1,0.1,10\n", ra="ra", dec="dec")


def test_radians(tmp_path):
    ra, dec = np.radians([10.0, 200.0]), np.radians([-5.0, 60.0])
    columns = {"z": [0.1, 0.2], "lum": [10.0, 20.0]}
    for unit in ("rad", "radian"):
        table = Table({**columns, "ra": MaskedColumn(ra, unit=unit), "dec": MaskedColumn(dec, unit=unit)})
        np.testing.assert_allclose(read_catalogue(table, **SIGMA).ra, [10.0, 200.0])
    plain = {**columns, "ra": ra, "dec": dec}
    catalogue = read_catalogue(plain, position_unit="rad", **SIGMA)
    np.testing.assert_allclose(catalogue.dec, [-5.0, 60.0])
    with pytest.raises(MassmapError, match="look like degrees"):
        read_catalogue({**columns, "ra": [10.0, 200.0], "dec": [-5.0, 60.0]}, position_unit="rad", **SIGMA)
    mixed = Table({**columns, "ra": MaskedColumn([10.0, 200.0], unit="deg"), "dec": MaskedColumn(dec, unit="rad")})
    with pytest.raises(MassmapError, match="convert both"):
        read_catalogue(mixed, ra="ra", dec="dec", **SIGMA)
    rng = np.random.default_rng(0)
    sky = {"z": [0.1] * 30, "lum": [1.0] * 30, "ra": rng.uniform(0, 2 * np.pi, 30), "dec": rng.uniform(-1.5, 1.5, 30)}
    assert any("position_unit='rad'" in note for note in read_catalogue(sky, **SIGMA).notes)


# ---- damaged files


def damaged_parquet(path, codec):
    table = pa.table({"z": np.random.default_rng(0).random(5000), "lum": np.arange(5000.0) + 1})
    pq.write_table(table, path, compression=codec, use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    for place in range(200, 9000, 7):
        data[place] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none"])
def test_damaged_pages_of_parquet(tmp_path, codec):
    path = tmp_path / "o.parquet"
    damaged_parquet(path, codec)
    with pytest.raises(MassmapError) as told:
        read_catalogue(path, **SIGMA)
    assert "o.parquet" in sentence(told)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("kind", ["csv", "fits"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "head"])
def test_damaged_compression(tmp_path, suffix, kind, harm):
    squeeze = {"gz": gzip, "bz2": bz2, "xz": lzma}[suffix].compress
    rng = np.random.default_rng(1)
    whole = Table({"z": rng.random(3000), "lum": rng.random(3000)})
    whole.write(tmp_path / f"whole.{kind}", format={"csv": "ascii.csv", "fits": "fits"}[kind])
    data = bytearray(squeeze((tmp_path / f"whole.{kind}").read_bytes()))
    if harm == "cut":
        data = data[: len(data) // 2]
    elif harm == "flipped":
        data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    else:
        data[6:30] = bytes(24)
    path = tmp_path / f"o.{kind}.{suffix}"
    path.write_bytes(data)
    with pytest.raises(MassmapError) as told:
        read_catalogue(path, **SIGMA)
    assert path.name in sentence(told)


def _npz(path):
    np.savez_compressed(path, alpha1=np.ones(500), alpha2=np.linspace(0, 1, 500), alpha3=3e14, alpha4=0.0, scatter=0.1)


def _bad_magic(data):
    data[0:2] = b"XX"


def _encrypted(data):
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = data.find(start)
        while place >= 0:
            data[place + (6 if start[2] == 3 else 8)] |= 1
            place = data.find(start, place + 4)


def _bad_block(data):
    data[60:160] = bytes(100)


def _cut(data):
    del data[len(data) // 2 :]


@pytest.mark.parametrize("harm", [_bad_magic, _encrypted, _bad_block, _cut])
def test_damaged_archives(tmp_path, harm):
    from massmap_jax.catalogue.relation_files import read_relation
    from massmap_jax.posterior.surface import PosteriorSurface
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.fitted import RelationPosterior
    from massmap_jax.run.info import describe_path

    path = tmp_path / "o.npz"
    _npz(path)
    data = bytearray(path.read_bytes())
    harm(data)
    path.write_bytes(data)
    for reader in (
        read_relation,
        MassPrior.load,
        RelationPosterior.load,
        PosteriorSurface.load,
        open_table,
        describe_path,
    ):
        with pytest.raises(MassmapError) as told:
            reader(path)
        assert "o.npz" in sentence(told), reader
    assert not RelationPosterior.is_saved(path)


def test_a_zip_of_text_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as archive:
        archive.writestr("o.csv", "z,lum\n0.1,10\n")
    with pytest.raises(MassmapError, match="zip"):
        open_table(tmp_path / "o.zip")


@pytest.mark.parametrize("text", ["H0=1e300", "H0=-70", "H0=0", "H0=nan", "Om0=-0.3", "Om0=7", "Ob0=nan", "Tcmb0=1e9"])
def test_absurd_cosmologies(text):
    from massmap_jax.halo.cosmology import cosmology_of

    given = dict(H0="70", Om0="0.3", Ob0="0.05", sigma8="0.8", n_s="0.95") | dict([text.split("=")])
    with pytest.raises(MassmapError, match="must lie in") as told:
        cosmology_of(",".join(f"{k}={v}" for k, v in given.items()), None, None)
    assert text.split("=")[0] in sentence(told)


def test_names_whose_brackets_are_torn_are_refused(tmp_path):
    """As many words as columns, by chance, so that the luminosity would be of another column."""
    text = "# name z L (0.1 keV) e_L\nA 0.1 1 2 3 4\nB 0.2 2 3 4 5\n"
    with pytest.raises(MassmapError, match=r"blanks within brackets, as '\(0\.1' shows.*names="):
        read(tmp_path, text, lum="L", sigma=0.1)
    assert read(tmp_path, text.replace("(0.1 keV)", "(0.1keV) more"), lum="L", sigma=0.1).usable.all()
    assert read(tmp_path, text, lum="L", sigma=0.1, names=["name", "z", "L", "a", "b", "c"]).usable.all()
