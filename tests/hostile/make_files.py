"""Write tests/hostile/files: the good field as real pipelines hand it over, and things that are no catalogue.

    python tests/hostile/make_files.py

The files are kept in the repository, so that a change in astropy or pyarrow cannot soften them; this script
says how each was made. `BAD_ROWS` says which rows of a readable file carry no usable value.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile.field import (
    COLUMNS,
    DEC,
    IDS,
    INTEGER_IDS,
    LUM,
    NUM,
    RA,
    REDSHIFT,
    SIGMA,
    as_text,
    csv_text,
    rows,
)

FILES = Path(__file__).resolve().parent / "files"

BAD_ROWS = {
    "masked_bigendian.fits": {3: "lum", 11: "lum", 5: "z|redshift"},
    "topcat_masked.ecsv": {2: "lum", 9: "z|redshift"},
    "nested_nulls.parquet": {4: "lum", 16: "z|redshift"},
    "iraf_indef.txt": {1: "lum", 6: "z|redshift", 14: "lum"},
    "sextractor.cat": {0: "lum", 8: "z|redshift", 12: "sigma|error|noise"},
}


def masked_bigendian_fits(path):
    """A survey's binary table: an integer column with TNULL, NaN in a float32 column, a vector column."""
    from astropy.io import fits

    null = 32767  # a plausible luminosity: a reader that forgets the mask gives these rows a mass
    lum = LUM.astype(">i4")
    lum[[3, 11]] = null
    z = REDSHIFT.astype(">f4")
    z[5] = np.nan
    columns = [
        fits.Column("NAME", "12A", array=IDS),
        fits.Column("RA", "D", unit="deg", array=RA),
        fits.Column("DEC", "D", unit="deg", array=DEC),
        fits.Column("Z", "E", array=z),
        fits.Column("LUM", "J", null=null, array=lum),
        fits.Column("SIGMA", "E", array=SIGMA.astype(">f4")),
        fits.Column("MAG_APER", "3E", array=np.full((NUM, 3), 99.0, dtype=">f4")),
        fits.Column("CLEAN", "L", array=np.arange(NUM) % 2 == 0),
    ]
    fits.BinTableHDU.from_columns(columns, name="CATALOG").writeto(path, overwrite=True, checksum=False)


def vo_units_row_csv(path):
    """CSV with a second line of units, as some archives and spreadsheets write it."""
    lines = [",".join(COLUMNS), ",deg,deg,,Lsun,", *(",".join(row) for row in rows())]
    path.write_text("\n".join(lines) + "\n")


def semicolon_decimal_comma_csv(path):
    """A spreadsheet in a German or French locale: semicolons between values, decimal commas within."""
    lines = [";".join(COLUMNS), *(";".join(v.replace(".", ",") for v in row) for row in rows())]
    path.write_bytes("\r\n".join(lines).encode() + b"\r\n")


def latin1_csv(path):
    """Names in Latin-1: 0xF6 and 0xE9 are not UTF-8."""
    names = [f"Bök-{i:02d}é" for i in range(NUM)]
    path.write_bytes(csv_text({**COLUMNS, "name": names}).encode("latin-1"))


def utf16_csv(path):
    """A spreadsheet's "Unicode text": UTF-16 with a byte order mark."""
    path.write_bytes(csv_text().encode("utf-16"))


def excel_bom_crlf_csv(path):
    """A spreadsheet's CSV: byte order mark first, Windows line ends, a comma at the end of each line."""
    body = "".join(",".join(row) + ",\r\n" for row in [list(COLUMNS), *rows()])
    path.write_bytes(b"\xef\xbb\xbf" + body.encode())


def topcat_masked_ecsv(path):
    """ECSV as TOPCAT writes it: comma delimiter, masked strings and numbers as empty fields, units, meta."""
    head = [
        "# %ECSV 1.0",
        "# ---",
        "# delimiter: ','",
        "# datatype:",
        "# - {name: name, datatype: string, description: 'source; from the parent catalogue'}",
        "# - {name: ra, unit: deg, datatype: float64, meta: !!omap [{ucd: pos.eq.ra;meta.main}]}",
        "# - {name: dec, unit: deg, datatype: float64}",
        "# - {name: z, datatype: float32}",
        "# - {name: lum, datatype: int32}",
        "# - {name: sigma, datatype: float64}",
        "# - {name: other_name, datatype: string}",
        "# meta: !!omap",
        "# - {name: 'match of two tables: best'}",
        "# schema: astropy-2.0",
        "name,ra,dec,z,lum,sigma,other_name",
    ]
    table = rows()
    table[2][4] = '""'
    table[9][3] = '""'
    lines = [",".join([*row, '""' if i % 3 else f"IRAS {i}"]) for i, row in enumerate(table)]
    path.write_text("\n".join([*head, *lines]) + "\n")


def nested_nulls_parquet(path):
    """Parquet from a data lake: ids beyond 2**53, nulls, float32, a list and a struct column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lum = [None if i == 4 else int(v) for i, v in enumerate(LUM)]
    z = [None if i == 16 else float(v) for i, v in enumerate(REDSHIFT)]
    table = pa.table(
        {
            "source_id": pa.array(INTEGER_IDS, pa.int64()),
            "ra": pa.array(RA, pa.float64()),
            "dec": pa.array(DEC, pa.float64()),
            "z": pa.array(z, pa.float32()),
            "lum": pa.array(lum, pa.int32()),
            "sigma": pa.array(SIGMA, pa.float32()),
            "spectrum": pa.array([[1.0, 2.0]] * (NUM - 1) + [None], pa.list_(pa.float32())),
            "best": pa.array([{"band": "r", "mag": 21.0}] * NUM),
        }
    )
    pq.write_table(table, path, compression="none", use_dictionary=False)


def iraf_indef_txt(path):
    """Whitespace text with a '#' header, and a missing value in three ways of IRAF and astropy."""
    table = rows()
    table[1][4] = "INDEF"
    table[6][3] = "nan"
    table[14][4] = "--"
    lines = ["# " + "  ".join(COLUMNS), *("  ".join(row) for row in table)]
    path.write_text("\n".join(lines) + "\n")


def sextractor_cat(path):
    """SExtractor's ASCII_HEAD: one '#' line a column and no header row; -99 and 99 for what failed."""
    about = {
        "name": "Name from the parent catalogue",
        "ra": "Right ascension [deg]",
        "dec": "Declination [deg]",
        "z": "Photometric redshift",
        "lum": "Luminosity",
        "sigma": "Error of ln luminosity",
    }
    table = rows()
    table[0][4] = "-99.0"
    table[8][3] = "99.0000"
    table[12][5] = "-99.0"
    head = [f"#{i:4d} {c.upper():<14} {about[c]}" for i, c in enumerate(COLUMNS, 1)]
    path.write_text("\n".join([*head, *("".join(f"{v:>14}" for v in row) for row in table)]) + "\n")


def zero_bytes_csv(path):
    """What a full disk leaves."""
    path.write_bytes(b"")


def png_renamed_csv(path):
    """A real one-pixel PNG image under the wrong name."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x80")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def lfs_pointer_fits(path):
    """A clone without git-lfs: three lines of text where the table should be."""
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 20160\n"
    )


def magnitudes_ecsv(path):
    """Magnitudes where luminosities are wanted; the unit says so."""
    magnitude = np.round(30 - 2.5 * np.log10(LUM), 2)
    head = [
        "# %ECSV 1.0",
        "# ---",
        "# datatype:",
        "# - {name: name, datatype: string}",
        "# - {name: z, datatype: float64}",
        "# - {name: r_total, unit: mag, datatype: float64}",
        "# schema: astropy-2.0",
        "name z r_total",
    ]
    lines = [f"{n} {as_text(z)} {as_text(m)}" for n, z, m in zip(IDS, REDSHIFT, magnitude, strict=True)]
    path.write_text("\n".join([*head, *lines]) + "\n")


def hms_positions_csv(path):
    """Sexagesimal positions, in text."""
    ra = [f"10:0{i // 10}:{i % 10:02d}.1" for i in range(NUM)]
    dec = [f"+02:{10 + i}:03.5" for i in range(NUM)]
    path.write_text(csv_text({**COLUMNS, "ra": ra, "dec": dec}))


def comma_in_name_csv(path):
    """An unquoted comma in row 6: that line has a value too many, and a careless reader shifts the rest."""
    names = [n if i != 6 else "NGC 1, core" for i, n in enumerate(IDS)]
    path.write_text(csv_text({**COLUMNS, "name": names}))


def repeated_column_csv(path):
    """Two columns called z, spectroscopic and photometric, after a join."""
    lines = [",".join([*COLUMNS, "z"]), *(",".join([*row, "0.5"]) for row in rows())]
    path.write_text("\n".join(lines) + "\n")


MAKERS = {
    "masked_bigendian.fits": masked_bigendian_fits,
    "vo_units_row.csv": vo_units_row_csv,
    "semicolon_decimal_comma.csv": semicolon_decimal_comma_csv,
    "latin1.csv": latin1_csv,
    "utf16.csv": utf16_csv,
    "excel_bom_crlf.csv": excel_bom_crlf_csv,
    "topcat_masked.ecsv": topcat_masked_ecsv,
    "nested_nulls.parquet": nested_nulls_parquet,
    "iraf_indef.txt": iraf_indef_txt,
    "sextractor.cat": sextractor_cat,
    "zero_bytes.csv": zero_bytes_csv,
    "png_renamed.csv": png_renamed_csv,
    "lfs_pointer.fits": lfs_pointer_fits,
    "magnitudes.ecsv": magnitudes_ecsv,
    "hms_positions.csv": hms_positions_csv,
    "comma_in_name.csv": comma_in_name_csv,
    "repeated_column.csv": repeated_column_csv,
}


def main():
    FILES.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        make(FILES / name)
        print(f"{(FILES / name).stat().st_size:7d} {name}")


if __name__ == "__main__":
    main()
