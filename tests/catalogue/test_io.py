"""Reading catalogues and relation draws, and writing tables, with files that other libraries made."""

import gzip
import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table

from massmap_jax.catalogue import read
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError

Z = np.array([0.1, 0.2, 0.3, 0.4])
LUM = np.array([1e3, 2e3, 3e3, 4e3])


def read_catalogue(source, **options):
    """Read with an error of 5 % where a test is of something else: an error has to be stated or found."""
    return read.read_catalogue(
        source, **({} if options.keys() & {"sigma", "sigma_plus"} else {"sigma": 0.05}), **options
    )


def table(**more):
    return Table({"z": Z, "lum": LUM, **more})


def fails(words, source, **options):
    with pytest.raises(MassmapError) as told:
        read_catalogue(source, **options)
    text = str(told.value)
    for word in words:
        assert word in text, text
    assert "\n" not in text


def check(catalogue):
    np.testing.assert_allclose(catalogue.redshift, Z, rtol=1e-6)
    np.testing.assert_allclose(catalogue.ln_lum_obs, np.log(LUM), rtol=1e-6)
    assert catalogue.usable.all()


# ---- real catalogues


def test_act_dr3_clusters(public_data):
    path = public_data / "act_dr3" / "E-D56Clusters.fits"
    catalogue = read_catalogue(
        path,
        lum="M500cUnc",
        sigma_plus="M500cUnc_errPlus",
        sigma_minus="M500cUnc_errMinus",
        sigma_kind="linear",
        lum_scale=1e14,
        lum_unit="Msun",
    )
    raw = fits.getdata(path)
    mass = raw["M500cUnc"]
    assert len(catalogue) == 182 and catalogue.usable.all() and not catalogue.flag.any()
    np.testing.assert_allclose(np.exp(catalogue.ln_lum_obs), 1e14 * mass)
    expected = 0.5 * (np.log1p(raw["M500cUnc_errPlus"] / mass) - np.log1p(-raw["M500cUnc_errMinus"] / mass))
    np.testing.assert_allclose(catalogue.sigma_ln_lum, expected, rtol=1e-12)
    np.testing.assert_allclose(catalogue.ra, raw["RADeg"])
    assert catalogue.ids.tolist() == raw["name"].tolist()
    assert catalogue.lum_unit == "Msun" and "redshift column: guessed 'z'" in catalogue.notes
    assert catalogue.mass_definition == "500c"
    fails(["luminosity", "lum", "M500cUnc"], path)


def test_millennium_light_cone(public_data):
    path = public_data / "bigmali" / "mock_data.txt"
    catalogue = read_catalogue(path, names=("z", "lum_obs"))
    z, lum = np.loadtxt(path, unpack=True)
    assert len(catalogue) == 115_919 and catalogue.usable.all()
    np.testing.assert_array_equal(catalogue.redshift, z)
    np.testing.assert_allclose(catalogue.ln_lum_obs, np.log(lum), rtol=1e-15)
    fails(["no column", "error", "sigma="], path, names=("z", "lum_obs"), sigma=None)
    fails(["no header", "names", "col1"], path)


# ---- kinds of file


def _ecsv(path):
    table().write(path, format="ascii.ecsv")


WRITERS = {
    "plain.csv": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p, index=False),
    "index.csv": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p),
    "spaces.csv": lambda p: p.write_text("z , lum\n0.1, 1000\n0.2, 2e3 \n0.3, +3000\n0.4, 4000.0\n"),
    "bom.csv": lambda p: p.write_bytes("\ufeffz,lum\r\n0.1,1000\r\n0.2,2000\r\n0.3,3000\r\n0.4,4000\r\n".encode()),
    "semicolon.csv": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p, index=False, sep=";"),
    "tab.tsv": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p, index=False, sep="\t"),
    "quoted.csv": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p, index=False, quoting=1),
    "zipped.csv.gz": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_csv(p, index=False),
    "comments.csv": lambda p: p.write_text("# made by hand\nz,lum\n0.1,1000\n# two\n0.2,2000\n\n0.3,3000\n0.4,4000"),
    "header.txt": lambda p: p.write_text("z lum\n0.1 1000\n 0.2   2000 \n0.3\t3000\n0.4 4000\n"),
    "savetxt.txt": lambda p: np.savetxt(p, np.c_[Z, LUM], header="z lum"),
    "comment_csv.txt": lambda p: np.savetxt(p, np.c_[Z, LUM], header="a light cone\nz,lum", delimiter=","),
    "commented_header.dat": lambda p: table().write(p, format="ascii.commented_header"),
    "sextractor.cat": lambda p: p.write_text(
        "#   1 Z    redshift\n#   2 LUM  luminosity [Lsun]\n  0.1 1000\n  0.2 2000\n  0.3 3000\n  0.4 4000\n"
    ),
    "latin1.csv": lambda p: p.write_bytes(
        "z,lum,name\n0.1,1000,ü\n0.2,2000,é\n0.3,3000,o\n0.4,4000,p\n".encode("latin-1")
    ),
    "no_suffix": lambda p: p.write_text("z lum\n0.1 1000\n0.2 2000\n0.3 3000\n0.4 4000\n"),
    "plain.ecsv": _ecsv,
    "ecsv_that_says.csv": _ecsv,
    "plain.fits": lambda p: table().write(p),
    "plain.fits.gz": lambda p: table().write(p),
    "fits_that_says.csv": lambda p: table().write(p, format="fits"),
    "float32.fits": lambda p: Table({"z": Z.astype("f4"), "lum": LUM.astype("i2")}).write(p),
    "qtable.fits": lambda p: QTable({"z": Z, "lum": LUM * u.Lsun}).write(p),
    "pandas.parquet": lambda p: pd.DataFrame({"z": Z, "lum": LUM}).to_parquet(p),
    "astropy.parquet": lambda p: table().write(p, format="parquet"),
    "parquet_that_says.fits": lambda p: pq.write_table(pa.table({"z": Z.astype("f4"), "lum": LUM.astype("i8")}), p),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_is_read_whatever_its_suffix(tmp_path, name):
    WRITERS[name](tmp_path / name)
    check(read_catalogue(tmp_path / name))
    check(read_catalogue(str(tmp_path / name), lum="LUM", z="Z"))


@pytest.mark.parametrize(
    "source",
    [
        table(),
        QTable({"z": Z, "lum": LUM * u.Lsun}),
        pd.DataFrame({"z": Z, "lum": LUM}, index=[5, 6, 7, 8]),
        pa.table({"z": Z, "lum": LUM}),
        {"z": list(Z), "lum": LUM},
        np.array(list(zip(Z, LUM, strict=True)), dtype=[("z", ">f8"), ("lum", ">f4")]),
    ],
    ids=lambda source: type(source).__name__,
)
def test_tables_in_memory(source):
    check(read_catalogue(source))


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_missing_cells_are_flagged(tmp_path, suffix):
    path = tmp_path / f"gaps.{suffix}"
    if suffix == "csv":
        path.write_text("id,z,lum,n\n1,0.1,1000,1\n2,INDEF,2000,2\n3,0.3,N/A,\n4,0.4,4000,4\n")
    elif suffix == "parquet":
        pq.write_table(
            pa.table({"id": [1, 2, 3, 4], "z": [0.1, None, 0.3, 0.4], "lum": [1000, 2000, None, 4000]}), path
        )
    else:
        gaps = Table(
            {
                "id": [1, 2, 3, 4],
                "z": MaskedColumn(Z, mask=[0, 1, 0, 0]),
                "lum": MaskedColumn(LUM.astype("i4"), mask=[0, 0, 1, 0], fill_value=-7),
            }
        )
        gaps.write(path)
    catalogue = read_catalogue(path)
    np.testing.assert_array_equal(catalogue.flag, [0, Flag.Z_MISSING, Flag.LUM_MISSING, 0])
    assert catalogue.ids.tolist() == [1, 2, 3, 4]


def test_fits_tables_are_chosen_by_name_or_number(tmp_path):
    path = tmp_path / "several.fits"
    hdus = [fits.PrimaryHDU(np.zeros((4, 4))), fits.ImageHDU(np.ones((2, 2)), name="MAP")]
    hdus += [fits.table_to_hdu(Table({"z": Z + shift, "lum": LUM})) for shift in (1.0, 0.0)]
    hdus[2].name, hdus[3].name = "FAR", "NEAR"
    fits.HDUList(hdus).writeto(path)
    check(read_catalogue(f"{path}[NEAR]"))
    check(read_catalogue(f"{path}[3]"))
    first = read_catalogue(path)
    assert first.redshift[0] == 1.1 and any("2 FAR" in note and "3 NEAR" in note for note in first.notes)
    fails(["'MIDDLE'", "2 FAR, 3 NEAR"], f"{path}[MIDDLE]")
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    fails(["no table"], tmp_path / "image.fits")


def test_ids_keep_leading_zeros_and_all_64_bits(tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("id,z,lum\n007,0.1,1000\n7,0.2,2000\n")
    assert read_catalogue(path).ids.tolist() == ["007", "7"]
    path.write_text("id,z,lum\n9007199254740993,0.1,1000\n9007199254740992,0.2,2000\n")
    assert read_catalogue(path).ids.tolist() == [9007199254740993, 9007199254740992]
    path.write_text("id,z,lum\n18446744073709551615,0.1,1000\n18446744073709551614,0.2,2000\n")
    assert read_catalogue(path).ids.tolist() == ["18446744073709551615", "18446744073709551614"]
    path.write_text('cluster name z lum\n"A 1" x 0.1 1000\n"A 2" y 0.2 2000\n')
    assert read_catalogue(path, id="cluster").ids.tolist() == ["A 1", "A 2"]


def test_position_units(tmp_path):
    hours = table(ra=Column([0.0, 6.0, 12.0, 23.0], unit="hourangle"), dec=Column([0.0, 1, 2, 3], unit="deg"))
    np.testing.assert_allclose(read_catalogue(hours).ra, [0.0, 90.0, 180.0, 345.0])
    np.testing.assert_allclose(read_catalogue(hours, position_unit="deg").ra, [0.0, 6.0, 12.0, 23.0])
    flat = table(x_arcmin=[0.0, 1.0, -2.0, 3.0], y_arcmin=[-100.0, 1, 2, 3])
    assert read_catalogue(flat).frame == "flat"
    assert read_catalogue(flat, field_centre=(150.0, 2.2)).frame == "sky"
    fails(["'gon'", "degrees"], table(ra=Column(Z, unit="gon"), dec=Column(Z, unit="gon")), ra="ra", dec="dec")
    fails(["dec", "ra", "both"], table(ra=Z), ra="ra")
    assert read_catalogue(table(ra=Z)).ra is None


# ---- the luminosity and its error


def test_units_and_scales():
    def with_unit(values, unit):
        return Table({"z": Z, "lum": Column(values, unit=unit)})

    for source, options in (
        (with_unit(LUM / 1e3, u.Unit("1000 Lsun")), {}),
        (with_unit(LUM / 1e3, None), {"lum_scale": 1e3}),
        (with_unit(LUM / 1e3, None), {"lum_unit": "1e3 Lsun"}),
        (with_unit(LUM / 1e3, u.Unit("1000 Lsun")), {"lum_scale": 1e3}),
        (with_unit(np.log10(LUM), None), {"lum_log": "log10"}),
        (with_unit(np.log(LUM), None), {"lum_log": "ln"}),
        (with_unit(np.log10(LUM), u.dex(u.Lsun)), {"lum_log": "log10"}),
        (with_unit(LUM, u.Lsun), {}),
    ):
        check(read_catalogue(source, **options))
    assert read_catalogue(with_unit(LUM, u.Lsun)).lum_unit == "solLum"
    assert read_catalogue(with_unit(LUM, None), lum_unit="Lsun").lum_unit == "Lsun"
    fails(["dex(solLum)", "lum_log"], with_unit(np.log10(LUM), u.dex(u.Lsun)))
    fails(["mag", "convert magnitudes"], with_unit(LUM, u.mag))
    fails(["1e3 Msun", "keep one"], with_unit(LUM, None), lum_unit="1e3 Msun", lum_scale=10.0)


def test_little_h_must_be_dealt_with(tmp_path):
    masses = Table({"z": Z, "mass_msun_h": LUM * 1e10})
    fails(["mass_msun_h", "lum_scale", "lum_unit"], masses, lum="mass_msun_h")
    assert read_catalogue(masses, lum="mass_msun_h", lum_unit="Msun/h").lum_unit == "Msun/h"
    done = read_catalogue(masses, lum="mass_msun_h", lum_unit="Msun", lum_scale=1 / 0.7)
    np.testing.assert_allclose(np.exp(done.ln_lum_obs), LUM * 1e10 / 0.7)
    path = tmp_path / "h.parquet"
    field = pa.field("lum", pa.float64(), metadata={"unit": "Msun/h"})
    pq.write_table(pa.table([pa.array(Z), pa.array(LUM)], schema=pa.schema([pa.field("z", pa.float64()), field])), path)
    fails(["'Msun/h'"], path)


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("logL", [10.1, 11.2, 12.3, 12.4], {}),
        ("lg_mass", [13.1, 14.2, 14.3, 14.4], {}),
        ("mass", [13.1, 14.2, 14.3, 14.4], {}),
        ("lum", [13.1, 14.2, 14.3, 14.4], {"lum_unit": "Msun"}),
        ("lx", [43.1, 44.2, 44.3, 44.4], {"lum_unit": "erg/s"}),
    ],
)
def test_a_logarithm_given_as_linear_is_refused(name, values, options):
    fails(["looks like log10", name, "lum_log='log10'"], {"z": Z, name: values}, lum=name, **options)
    read_catalogue({"z": Z, name: values}, lum=name, **{**options, "lum_log": "log10"})


def test_plain_small_numbers_are_not_taken_for_logarithms():
    for name, options in (
        ("lum", {}),
        ("M500cUnc", {"lum_scale": 1e14}),
        ("mass", {"lum_unit": "1e14 Msun"}),
        ("catalog_flux", {}),
    ):
        assert read_catalogue({"z": Z, name: [9.1, 10.2, 11.3, 12.4]}, lum=name, **options).usable.all()


def test_errors_in_every_form():
    bar, pair = 0.1 * LUM, {"sigma_plus": "p", "sigma_minus": "m"}
    linear = 0.5 * (np.log(1.1) - np.log(0.9))
    for source, options, sigma in (
        (table(), {"sigma": 0.2}, 0.2),
        (table(), {"sigma": "0.2"}, 0.2),
        (table(), {"sigma": 0.1, "sigma_kind": "dex"}, 0.1 * np.log(10)),
        (table(sigma_ln_lum=0.3 + 0 * Z), {"sigma": None}, 0.3),
        (table(e=0.3 + 0 * Z), {"sigma": "e", "sigma_kind": "ln"}, 0.3),
        (table(e=0.1 + 0 * Z), {"sigma": "e", "sigma_kind": "dex"}, 0.1 * np.log(10)),
        (table(e=bar), {"sigma": "e", "sigma_kind": "linear"}, linear),
        (table(lum_err=bar), {"sigma": None, "sigma_kind": "linear"}, linear),
        (table(p=2 * bar, m=bar), {**pair, "sigma_kind": "linear"}, 0.5 * (np.log(1.2) - np.log(0.9))),
        (
            table(p=2 * bar, m=-bar),
            {**pair, "sigma_kind": "linear"},
            0.5 * (np.log(1.2) - np.log(0.9)),
        ),
    ):
        np.testing.assert_allclose(read_catalogue(source, **options).sigma_ln_lum, sigma, rtol=1e-12)
    logs = {"z": Z, "lum": np.log10(LUM), "p": 0.2 + 0 * Z, "m": 0.1 + 0 * Z}
    both = read_catalogue(logs, lum_log="log10", sigma_plus="p", sigma_minus="m")
    np.testing.assert_allclose(both.sigma_ln_lum, 0.15 * np.log(10))
    fails(["'lum_err'", "sigma_kind"], table(lum_err=bar), sigma=None)


def test_bars_below_the_signal_to_noise_limit_are_refused():
    source = table(p=[100.0, 1900.0, 100.0, np.nan], m=[100.0, 100.0, -5.0, 100.0])
    bars = {"sigma_plus": "p", "sigma_minus": "m", "sigma_kind": "linear"}
    catalogue = read_catalogue(source, **bars)
    np.testing.assert_array_equal(catalogue.flag, [0, Flag.SIGMA_LOW_SNR, Flag.SIGMA_NEGATIVE, Flag.SIGMA_MISSING])
    assert read_catalogue(source, **bars, min_snr=1.5).flag[1] == 0
    fails(
        ["none of the 4 rows", "SIGMA_LOW_SNR 4", "min_snr=3"],
        table(e=LUM / 2),
        sigma="e",
        sigma_kind="linear",
    )
    fails(["min_snr", "above 1"], table(e=LUM / 2), sigma="e", sigma_kind="linear", min_snr=0.0)


def test_linear_noise_keeps_rows_of_any_signal_to_noise():
    source = table(p=[100.0, 1900.0, 100.0, np.nan], m=[100.0, 2100.0, -5.0, 100.0])
    bars = {"sigma_plus": "p", "sigma_minus": "m", "sigma_kind": "linear", "noise": "linear"}
    catalogue = read_catalogue(source, **bars)
    assert catalogue.noise_kind == "normal" and any("fraction of the observed L" in note for note in catalogue.notes)
    np.testing.assert_array_equal(catalogue.flag, [0, 0, Flag.SIGMA_NEGATIVE, Flag.SIGMA_MISSING])
    np.testing.assert_allclose(catalogue.sigma_ln_lum[:2], [100 / LUM[0], 2000 / LUM[1]], rtol=1e-12)
    bounds = read_catalogue(
        table(up=LUM + 3, low=LUM - 1), sigma_plus="up", sigma_minus="low", sigma_kind="bounds", noise="linear"
    )
    np.testing.assert_allclose(bounds.sigma_ln_lum, 2 / LUM, rtol=1e-12)
    fails(
        ["noise is 'linear'", "'e'", "in ln", "sigma_kind='linear'"],
        table(e=0.1 + 0 * LUM),
        sigma="e",
        sigma_kind="ln",
        noise="linear",
    )
    fails(
        ["noise is 'normal'", "lognormal or linear"], table(e=LUM / 9), sigma="e", sigma_kind="linear", noise="normal"
    )
    fails(["min_snr has no effect"], table(e=LUM / 9), sigma="e", sigma_kind="linear", noise="linear", min_snr=2.0)


def test_placeholders_are_found_before_scaling():
    values = [-99.0, 2.0, -1.0, 99.0]
    catalogue = read_catalogue({"z": Z, "lum": values}, lum_scale=1e14)
    np.testing.assert_array_equal(catalogue.flag, [Flag.LUM_SENTINEL, 0, Flag.LUM_SENTINEL, 0])
    logs = read_catalogue({"z": Z, "lum": values}, lum_log="log10")
    np.testing.assert_array_equal(logs.flag, [Flag.LUM_SENTINEL, 0, 0, Flag.LUM_SENTINEL])


# ---- refusals


@pytest.mark.parametrize(
    ("words", "source", "options"),
    [
        (["no column 'lumm'", "did you mean 'lum'", "z, lum"], table(), {"lum": "lumm"}),
        (["'z' and 'redshift'", "redshift column", "choose one with z"], table(redshift=Z), {}),
        (["both column 'z'"], table(), {"lum": "z"}),
        (["'kind'", "text", "4 rows", "first row 0", "'star'"], table(kind=["star"] * 4), {"lum": "kind"}),
        (["1 row, first row 2 with value 'x'"], {"z": Z, "lum": ["1", "2", "x", "4"]}, {}),
        (["list values", "first row 0"], {"z": Z, "lum": [[1], [1, 2], [3], [4]]}, {}),
        (["'mag_i'", "magnitudes"], {"z": Z, "mag_i": LUM}, {"lum": "mag_i"}),
        (["'north'", "text"], table(ra=["north"] * 4, dec=Z), {"ra": "ra"}),
        (["no rows"], table()[:0], {}),
        (["none of the 4 rows", "LUM_NOT_POSITIVE 4"], {"z": Z, "lum": -5 * LUM}, {}),
        (["2 rows", "first row 1", "row_number"], table(id=[1, 1, 1, 2]), {}),
        (["velocity", "299792.458"], {"z": Z * 1e5, "lum": LUM}, {}),
        (["redshift", "3 rows where 4"], {"z": Z[:3], "lum": LUM}, {}),
        (["sigma_plus and sigma_minus go together"], table(p=Z), {"sigma_plus": "p"}),
        (["sigma is -0.1"], table(), {"sigma": -0.1}),
        (["sigma_kind='linear'", "median"], table(e=LUM / 10), {"sigma": "e", "sigma_kind": "ln"}),
        (
            ["logarithm", "'dex'"],
            {"z": Z, "lum": np.log(LUM), "e": Z},
            {"sigma": "e", "sigma_kind": "linear", "lum_log": "ln"},
        ),
        (["'log2'", "sigma_kind"], table(), {"sigma_kind": "log2"}),
        (["lum_log is 'log2'"], table(), {"lum_log": "log2"}),
        (["lum_scale is -1"], table(), {"lum_scale": -1}),
        (["format is 'xlsx'", "parquet"], table(), {"format": "xlsx"}),
        (["usual name for the redshift"], {"lum": LUM, "q": Z}, {}),
        (["true mass", "Msun"], table(truth_mass=[13.0, 14.0, 13.5, 14.5]), {}),
        (["true mass", "Msun"], table(logM200_h=[13.0, 14.0, 13.5, 14.5]), {"truth": "logM200_h"}),
        (["true mass", "Msun"], table(logM=[1.0, 2.0, 3.5, 4.5]), {"truth": "logM"}),
        (["shape (4, 2)"], Table({"z": Z, "lum": np.ones((4, 2))}), {}),
        (["cannot be read from a int"], 3, {}),
    ],
)
def test_bad_tables_are_refused_with_reason(words, source, options):
    fails(words, source, **options)


@pytest.mark.parametrize(
    ("name", "unit", "base"),
    [("logM_true", "", 10), ("lg_m200m", "", 10), ("lnM", "", np.e), ("mt", "dex(solMass)", 10)],
)
def test_true_masses_in_logs_by_name_or_unit(name, unit, base):
    source = Table(table())
    true = np.array([2e13, 1e14, 3e14, np.nan])
    source[name] = np.log(true) / np.log(base)
    source[name].unit = unit or None
    catalogue = read_catalogue(source, sigma=0.1, truth=name)
    np.testing.assert_allclose(np.exp(catalogue.truth_ln_mass), true, rtol=1e-9)
    assert any("true masses" in note and "Msun" in note for note in catalogue.notes)


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (["is empty"], b""),
        (["is empty"], b"\n \n"),
        (["no rows"], b"z,lum\n"),
        (["no rows"], b"# z lum\n"),
        (["git-lfs"], b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
        (["bad.dat"], b"\x89HDF\r\n\x1a\n" + bytes(100)),
        (["UTF-16"], "z,lum\n1,2\n".encode("utf-16")),
        (["XML"], b"<?xml version='1.0'?><VOTABLE/>"),
        (["2 rows", "2 columns", "first row 1", "'0.2'"], b"z,lum\n0.1,1000\n0.2\n0.3,3000\n0.4,4,4\n"),
        (["columns", "first row 2", "'0.3'"], b"z lum\n0.1 1000\n0.2 2000\n0.3"),
        (["2 columns called 'z'"], b"z,z,lum\n1,2,3\n"),
        (["cannot be read as fits"], b"SIMPLE  =                    T" + bytes(50)),
        (["cannot be read as parquet"], b"PAR1" + bytes(50)),
        (["cannot be read"], gzip.compress(b"z,lum\n0.1,1000\n" * 1000, mtime=0)[:60]),
    ],
    ids=range(14),
)
def test_bad_files_are_refused_with_reason(tmp_path, words, content):
    path = tmp_path / "bad.dat"
    path.write_bytes(content)
    fails([*words, "bad.dat"], path)


def test_truncated_fits_is_refused(tmp_path):
    path = tmp_path / "cut.fits"
    Table({"z": np.tile(Z, 1000), "lum": np.tile(LUM, 1000)}).write(path)
    path.write_bytes(path.read_bytes()[:20_000])
    fails(["cut.fits", "cannot be read as fits"], path)


def test_paths_that_cannot_be_read(tmp_path):
    fails(["no file", "missing.fits"], tmp_path / "missing.fits")
    fails(["folder"], tmp_path)
    path = tmp_path / "names.csv"
    path.write_text("z,lum\n0.1,1000\n")
    fails(["3 names", "2 columns"], path, names=("a", "b", "c"))
    table().write(tmp_path / "t.fits")
    fails(["names are given", "fits"], tmp_path / "t.fits", names=("z", "lum"))
    if os.geteuid() != 0:
        path.chmod(0)
        fails(["cannot be read", "Permission denied"], path)


def test_one_row_and_a_million(tmp_path):
    assert len(read_catalogue({"z": [0.1], "lum": [1.0]})) == 1
    rows = 1_000_000
    path = tmp_path / "big.csv"
    rng = np.random.default_rng(0)
    write_table(path, {"id": np.arange(rows), "z": rng.random(rows), "lum": 1e3 * (1 + rng.random(rows))})
    # CPU time, which other work on the machine does not add to; 2 s where rows are read together, minutes one by one.
    start = time.process_time()
    catalogue = read_catalogue(path)
    spent = time.process_time() - start
    print(f"1e6 rows of CSV read in {spent:.1f} s of CPU time")
    assert len(catalogue) == rows and spent < 60.0


# ---- relation draws


@pytest.mark.parametrize("suffix", ["npz", "csv", "ecsv", "fits", "parquet"])
def test_relation_draws(tmp_path, suffix):
    draws = {name: np.linspace(1, 2, 5) + i for i, name in enumerate(("scatter", "alpha1", "alpha2", "alpha4"))}
    path = tmp_path / f"draws.{suffix}"
    if suffix == "npz":
        np.savez(path, **draws, alpha3=2.35e14)
    else:
        write_table(path, {**draws, "alpha3": np.full(5, 2.35e14)})
    read = read_relation(path)
    assert set(read) == {"alpha1", "alpha2", "alpha3", "alpha4", "scatter"}
    for name, values in draws.items():
        np.testing.assert_array_equal(read[name], values)
    np.testing.assert_array_equal(read["alpha3"], np.full(5, 2.35e14))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scatter": [0.1, -0.1]}, ["scatter", "1 row, first row 1 with value -0.1"]),
        ({"alpha1": [np.nan, 1.0]}, ["alpha1", "finite", "first row 0 with value nan"]),
        ({"alpha2": None}, ["no alpha2"]),
        ({"alpha4": ["a", "b"]}, ["alpha4", "text"]),
        ({"log_weight": [0.0, np.nan]}, ["log_weight", "first row 1"]),
    ],
)
def test_bad_relation_draws_are_refused(tmp_path, change, words):
    columns = {"alpha1": [1.0, 1], "alpha2": [1.0, 1], "alpha3": [1e14, 1e14], "alpha4": [1.0, 1]}
    columns |= {"scatter": [0.1, 0.1], **change}
    path = tmp_path / "draws.csv"
    write_table(path, {name: np.array(values) for name, values in columns.items() if values is not None})
    with pytest.raises(MassmapError) as told:
        read_relation(path)
    assert all(word in str(told.value) for word in [*words, "draws.csv"])


# ---- tables out

COLUMNS = {
    "id": np.array(["a", "bb", "ü, c"]),
    "n": np.array([1, 2, 2**60]),
    "flag": np.array([0, 1, 2], dtype=np.int32),
    "mass": np.array([1e14, np.nan, 0.1 + 0.2]),
    "used": np.array([True, False, True]),
}
META = {
    "seed": 1,
    "mass_definition": "200m",
    "a_long_key": "x" * 200,
    "settings": {"a": [1, 2.5]},
    "none": None,
}
UNITS = {"mass": "Msun", "n": "not a unit"}
DESCRIPTIONS = {"mass": "halo mass"}


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv", "ecsv", "vot"])
def test_written_tables_are_read_back_by_others(tmp_path, suffix):
    path = tmp_path / f"masses.{suffix}"
    units = UNITS if suffix != "ecsv" else {"mass": "Msun"}
    write_table(path, COLUMNS, META, units, DESCRIPTIONS)
    beside = [f"{path.name}-metadata.json"] if suffix == "csv" else []
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, *beside]
    if suffix == "parquet":
        back = pd.read_parquet(path)
        schema = pq.read_schema(path)
        assert schema.field("mass").metadata[b"unit"] == b"Msun" and schema.metadata[b"mass_definition"] == b"200m"
        assert json.loads(schema.metadata[b"settings"]) == META["settings"]
    elif suffix == "csv":
        back = pd.read_csv(path, float_precision="round_trip")  # pandas 2 is one bit off without
        assert json.loads((tmp_path / beside[0]).read_text())["notes"][0]["mass_definition"] == "200m"
    else:
        back = Table.read(path)
        assert str(back["mass"].unit) in ("solMass", "Msun")
        if suffix == "fits":
            header = fits.getheader(path, 1)
            assert header["SEED"] == 1 and header["A_LONG_KEY"] == "x" * 200
            assert header["TCOMM3"] == "[not a unit]" and header["TCOMM5"] == "halo mass"
            fits.open(path).verify("exception")
        elif suffix == "vot":
            assert back["mass"].description == "halo mass" and back["n"].description == "[not a unit]"
        else:
            assert back.meta["settings"] == META["settings"] and back["mass"].description == "halo mass"
    for name in ("n", "flag", "mass", "used"):
        np.testing.assert_array_equal(np.asarray(back[name]), COLUMNS[name])
        assert np.asarray(back[name]).dtype.kind == COLUMNS[name].dtype.kind
    expected = COLUMNS["id"].tolist() if suffix != "fits" else ["a", "bb", "\\xfc, c"]
    assert list(back["id"]) == expected


def test_a_file_is_not_overwritten_unasked(tmp_path):
    path = tmp_path / "masses.csv"
    path.write_text("mine")
    with pytest.raises(MassmapError, match="exists"):
        write_table(path, COLUMNS)
    assert path.read_text() == "mine"
    write_table(path, COLUMNS, overwrite=True)
    for bad, words in (("masses.txt", "must end in"), ("no/masses.csv", "does not exist")):
        with pytest.raises(MassmapError, match=words):
            write_table(tmp_path / bad, COLUMNS)
    with pytest.raises(MassmapError, match="differ in length"):
        write_table(tmp_path / "a.csv", {"a": np.ones(2), "b": np.ones(3)})
    assert os.listdir(tmp_path) == ["masses.csv"]


FULL_DISK = """
import resource, sys
import numpy as np
from massmap_jax.errors import MassmapError
from massmap_jax.catalogue.result_folder import atomic_directory
from massmap_jax.catalogue.write import write_table
sys.dont_write_bytecode = True  # Python 3.11 leaves .pyc files that are cut (gh-126606)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    if sys.argv[2] == "file":
        write_table(sys.argv[1], {"x": np.random.default_rng(0).random(100_000)}, overwrite=True)
    else:
        with atomic_directory(sys.argv[1]) as folder:
            (folder / "small").write_text("fine")
            (folder / "large").write_bytes(bytes(1_000_000))
except MassmapError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("name", ["a.parquet", "a.fits", "a.csv", "a.ecsv", "a.vot", "folder"])
def test_a_full_disk_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    kind = "file" if path.suffix else "folder"
    if kind == "file":
        path.write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), kind], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2, done.stderr
    assert (
        "could not be written (" in done.stdout
        and "file too large" in done.stdout.lower()
        and done.stdout.count("\n") == 1
    )
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ([name] if kind == "file" else [])
    assert kind == "folder" or path.read_text() == "before"
