"""Files for `massmap-jax stream`: the good field as pipelines store it, and things that are no catalogue.

Written from the interface alone, before its reader was read. Each case puts its files into an empty folder and says what a
user expects: the rows in order, the named ones flagged and the others with the masses of the plain table; or a refusal
in one sentence with the given words, which leaves no output.
"""

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import field as good

HALF = good.NUM // 2


@dataclass
class Case:
    name: str
    put: Callable
    source: str
    words: tuple[str, ...] = ()  # of the refusal; none: it is read
    flagged: tuple[int, ...] = ()  # rows without a usable value
    ids: object = None  # where they are not good.IDS
    columns: dict = field(default_factory=dict)  # changes of the usual ones
    on_way: bool = False  # refused when some parts are written

    def __str__(self):
        return self.name


CASES: list[Case] = []


def read(source, *, name=None, **expected):
    """This file is read."""

    def keep(put):
        CASES.append(Case(name or put.__name__, put, source, **expected))
        return put

    return keep


def refused(source, *words, name=None, **expected):
    """This file is refused, in a sentence with these words (patterns, lower case)."""

    def keep(put):
        CASES.append(Case(name or put.__name__, put, source, words, **expected))
        return put

    return keep


def table(**changed) -> pa.Table:
    return pa.table({**good.COLUMNS, **changed})


def parquet(path, columns=None, rows=7, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if columns is not None else table(), path, row_group_size=rows, **options)


def parquet_bytes(**options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table(), sink, row_group_size=7, **options)
    return sink.getvalue().to_pybytes()


def halves(folder, second, *, names=("a.parquet", "b.parquet")):
    """The field in two files, the second one changed."""
    parquet(folder / names[0], table().slice(0, HALF))
    parquet(folder / names[1], second(table().slice(HALF)))


def with_none(column, *rows, kind=None):
    values = list(good.COLUMNS[column].tolist())
    for row in rows:
        values[row] = None
    return table(**{column: pa.array(values, kind)})


# -- Parquet: columns ------------------------------------------------------------------------------------------


@read("o.parquet")
def nested_columns_beside(folder):
    extra = {"list": [[1.0] * i for i in range(good.NUM)], "struct": [{"a": i, "b": "x"} for i in range(good.NUM)]}
    parquet(folder / "o.parquet", table(**extra))


@read("o.parquet")
def dictionaries_that_differ_by_row_group(folder):
    groups = [table().slice(i, 5) for i in range(0, good.NUM, 5)]
    schema = pa.schema([(n, pa.dictionary(pa.int32(), table().schema.field(n).type)) for n in ("name", "lum")])
    schema = pa.schema([schema.field(n) if n in schema.names else table().schema.field(n) for n in good.COLUMNS])
    with pq.ParquetWriter(folder / "o.parquet", schema) as writer:
        for group in groups:
            columns = [group[n].combine_chunks() for n in good.COLUMNS]
            coded = [c.dictionary_encode() if n in ("name", "lum") else c for n, c in zip(good.COLUMNS, columns)]
            writer.write_table(pa.table(coded, schema=schema))


@read("o.parquet")
def decimals(folder):
    lum = pa.array([Decimal(int(v)) for v in good.LUM], pa.decimal128(20, 4))
    z = pa.array([Decimal(repr(float(v))) for v in good.REDSHIFT], pa.decimal128(20, 8))
    parquet(folder / "o.parquet", table(lum=lum, z=z))


@refused("o.parquet", "'z'", "1970-01-01")
def timestamps_as_redshift(folder):
    parquet(folder / "o.parquet", table(z=pa.array(range(good.NUM), pa.timestamp("ms"))))


@refused("o.parquet", "'lum'", "one value per object")
def lists_as_luminosity(folder):
    parquet(folder / "o.parquet", table(lum=[[float(v)] for v in good.LUM]))


@refused("o.parquet", "'lum'", "structure values")
def a_struct_as_luminosity(folder):
    parquet(folder / "o.parquet", table(lum=[{"value": float(v)} for v in good.LUM]))


@refused("o.parquet", "lum", "bool")
def booleans_as_luminosity(folder):
    parquet(folder / "o.parquet", table(lum=[True, False] * HALF))


@read("o.parquet")
def strings_that_hold_numbers(folder):
    parquet(folder / "o.parquet", table(lum=[str(v) for v in good.LUM]))


@refused("o.parquet", "'lum'", "row 4", "12 jy", "begins at row 8", on_way=True)
def strings_that_hold_no_numbers(folder):
    parquet(folder / "o.parquet", table(lum=[str(v) for v in good.LUM[:12]] + ["12 Jy"] * 8))


@read("o.parquet", flagged=(3, 9, 15))
def nulls_of_integers_and_floats(folder):
    parquet(folder / "o.parquet", with_none("lum", 3, 9).set_column(3, "z", with_none("z", 15)["z"]))


@refused("o.parquet", "name|id", "(row|index) 4|4")
def a_null_id(folder):
    parquet(folder / "o.parquet", with_none("name", 4))


@read("o.parquet", flagged=(0, 7, 19))
def nan_and_infinity(folder):
    z, lum = good.REDSHIFT.copy(), good.LUM.astype(float)
    z[[0, 19]], lum[7] = np.nan, np.inf
    parquet(folder / "o.parquet", table(z=z, lum=lum))


@read("o.parquet", flagged=tuple(range(HALF)))
def the_first_half_is_null(folder):
    parquet(folder / "o.parquet", with_none("lum", *range(HALF)))


@refused("o.parquet", "no row", "can be used")
def a_column_of_nothing_but_null(folder):
    parquet(folder / "o.parquet", table(lum=pa.nulls(good.NUM)))


@read("o.parquet")
def half_precision_sigma(folder):
    parquet(folder / "o.parquet", table(sigma=good.SIGMA.astype(np.float16)))


@read("o.parquet", ids=2**63 + 5 + np.arange(good.NUM, dtype=np.uint64))
def unsigned_ids_beyond_int64(folder):
    parquet(folder / "o.parquet", table(name=2**63 + 5 + np.arange(good.NUM, dtype=np.uint64)))


@read("o.parquet", ids=good.INTEGER_IDS)
def integer_ids_beyond_float64(folder):
    parquet(folder / "o.parquet", table(name=good.INTEGER_IDS))


@read("o.parquet")
def long_and_viewed_strings(folder):
    parquet(folder / "o.parquet", table(name=pa.array(good.IDS.tolist(), pa.large_string())))


@read("o.parquet")
def ids_as_bytes(folder):
    parquet(folder / "o.parquet", table(name=pa.array([i.encode() for i in good.IDS], pa.binary())))


@refused("o.parquet", "lum", "twice|2 |two|more than once|duplicate")
def a_column_name_twice(folder):
    columns = table()
    both = pa.table([*columns.columns, pa.array(good.LUM * 2)], names=[*columns.column_names, "lum"])
    parquet(folder / "o.parquet", both)


@refused("o.parquet", "id|name", "obj-013|twice|more than once|duplicate")
def an_id_twice_in_one_chunk(folder):
    parquet(folder / "o.parquet", table(name=[good.IDS[0], *good.IDS[:-1].tolist()]))


@refused("o.parquet", "o.parquet", "l_bol|no column|lum")
def no_such_column(folder):
    parquet(folder / "o.parquet", table().rename_columns(["name", "ra", "dec", "z", "l_bol", "sigma"]))


@read("o.parquet")
def zstandard_and_page_statistics(folder):
    parquet(folder / "o.parquet", compression="zstd", data_page_version="2.0", write_page_index=True)


@read("o.parquet")
def no_statistics_old_version(folder):
    parquet(folder / "o.parquet", write_statistics=False, version="1.0", use_dictionary=False)


# -- Parquet: the file -----------------------------------------------------------------------------------------


@refused("o.parquet", "o.parquet", "no rows|empty|0 rows|no objects")
def no_rows(folder):
    parquet(folder / "o.parquet", table().slice(0, 0))


@refused("o.parquet", "o.parquet", "no rows|empty|0 rows|no objects")
def no_row_groups(folder):
    pq.ParquetWriter(folder / "o.parquet", table().schema).close()


@read("o.parquet")
def empty_row_groups_between(folder):
    with pq.ParquetWriter(folder / "o.parquet", table().schema) as writer:
        for start, rows in ((0, 0), (0, 3), (3, 0), (3, 0), (3, 16), (19, 1), (20, 0)):
            writer.write_table(table().slice(start, rows))


@refused("o.parquet", "o.parquet")
def cut_short(folder):
    (folder / "o.parquet").write_bytes(parquet_bytes()[:-100])


@refused("o.parquet", "o.parquet")
def footer_only(folder):
    (folder / "o.parquet").write_bytes(b"PAR1" + parquet_bytes()[-800:])


@refused("o.parquet", "o.parquet")
def wrong_magic(folder):
    (folder / "o.parquet").write_bytes(parquet_bytes()[:-4] + b"PAR0")


@refused("o.parquet", "o.parquet", "empty|no bytes|0 bytes|not parquet|cannot be read")
def no_bytes(folder):
    (folder / "o.parquet").touch()


@refused("o.parquet", "o.parquet", "row group 1", on_way=True)
def a_page_overwritten(folder):
    parquet(folder / "o.parquet", rows=8, compression="zstd")
    content = bytearray((folder / "o.parquet").read_bytes())
    place = pq.ParquetFile(folder / "o.parquet").metadata.row_group(1).column(4)
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    (folder / "o.parquet").write_bytes(content)


@read("o.parquet")
def text_named_parquet(folder):
    (folder / "o.parquet").write_text(good.csv_text())


@read("o.csv")
def parquet_named_csv(folder):
    (folder / "o.csv").write_bytes(parquet_bytes())


@read("o[1] é*.parquet")
def a_file_name_with_brackets(folder):
    parquet(folder / "o[1] é*.parquet")


@read("O.PARQUET")
def an_upper_case_suffix(folder):
    parquet(folder / "O.PARQUET")


@read("o.pq")
def the_short_suffix(folder):
    parquet(folder / "o.pq")


@read("o.parquet")
def a_link_to_the_file(folder):
    parquet(folder / "elsewhere" / "data")
    (folder / "o.parquet").symlink_to("elsewhere/data")


@refused("o.parquet", "o.parquet")
def a_link_to_itself(folder):
    (folder / "o.parquet").symlink_to("o.parquet")


@refused("o.parquet", "o.parquet")
def a_link_to_nothing(folder):
    (folder / "o.parquet").symlink_to("gone.parquet")


@refused("o.parquet", "o.parquet", "pipe|not a file|regular|ordinary")
def a_pipe_named_parquet(folder):
    os.mkfifo(folder / "o.parquet")


@refused("o.csv", "o.csv", "pipe|not a file|regular|ordinary")
def a_pipe_named_csv(folder):
    os.mkfifo(folder / "o.csv")


# -- Parquet: folders ------------------------------------------------------------------------------------------


@read("survey")
def what_spark_leaves_beside_the_parts(folder):
    halves(folder / "survey", lambda t: t)
    for name in ("_SUCCESS", "._SUCCESS.crc", ".a.parquet.crc", "README.md", "_temporary.parquet", ".hidden.parquet"):
        (folder / "survey" / name).write_bytes(b"" if name == "_SUCCESS" else b"text")
    pq.write_metadata(table().schema, folder / "survey" / "_common_metadata")
    (folder / "survey" / "_delta_log").mkdir()
    (folder / "survey" / "_delta_log" / "000.checkpoint.parquet").write_bytes(b"no catalogue")


@read("survey.parquet")
def a_folder_named_parquet(folder):
    halves(folder / "survey.parquet", lambda t: t, names=("part-0.snappy.parquet", "part-1.snappy.parquet"))


@read("survey")
def hive_partitions(folder):
    halves(folder / "survey", lambda t: t, names=("field=a/0.parquet", "field=b/0.parquet"))


@refused("survey", "column 'z'|column z|'z'")
def the_redshift_is_in_the_hive_path(folder):
    halves(folder / "survey", lambda t: t.drop_columns("z"), names=("z=1/0.parquet", "z=2/0.parquet"))
    parquet(folder / "survey" / "z=1" / "0.parquet", table().slice(0, HALF).drop_columns("z"))


@read("survey")
def a_part_without_rows(folder):
    halves(folder / "survey", lambda t: t)
    parquet(folder / "survey" / "aa.parquet", table().slice(0, 0))


@refused("survey", "aa.parquet")
def a_part_without_bytes(folder):
    halves(folder / "survey", lambda t: t)
    (folder / "survey" / "aa.parquet").touch()


@refused("survey", "b.parquet", "lum")
def a_part_with_a_column_renamed(folder):
    halves(folder / "survey", lambda t: t.rename_columns([n.replace("lum", "L500") for n in t.column_names]))


@read("survey")
def parts_with_columns_in_another_order(folder):
    def second(t):
        t = t.select(["lum", "sigma", "z", "name", "dec", "ra"]).replace_schema_metadata({"pandas": "{}"})
        return t.cast(pa.schema([f.with_nullable(False) for f in t.schema]))

    halves(folder / "survey", second)


@refused("survey", "'w'", "b.parquet", "missing in .*a.parquet")
def a_part_with_a_column_more(folder):
    halves(folder / "survey", lambda t: t.append_column("w", t["z"]))


@read("survey")
def folders_of_parts_that_end_in_parquet(folder):
    halves(folder / "survey", lambda t: t, names=("tile_1.parquet/0.parquet", "tile_2.parquet/0.parquet"))


@refused("survey", "b.parquet", "name")
def a_part_with_other_ids(folder):
    halves(folder / "survey", lambda t: t.set_column(0, "name", pa.array(np.arange(HALF))))


@refused("survey", "b.parquet", "cannot be read")
def a_part_that_is_text(folder):
    halves(folder / "survey", lambda t: t)
    (folder / "survey" / "b.parquet").write_text("text")


@refused("survey", "survey", r"\.parquet")
def a_folder_of_text_only(folder):
    (folder / "survey").mkdir()
    (folder / "survey" / "a.csv").write_text(good.csv_text())


@read("survey")
def a_folder_that_links_to_itself(folder):
    halves(folder / "survey", lambda t: t)
    (folder / "survey" / "again").symlink_to(".", target_is_directory=True)


@refused("survey", "survey")
def a_link_round_two_folders(folder):
    (folder / "survey").symlink_to("other")
    (folder / "other").symlink_to("survey")


@refused("survey", "gone.parquet")
def a_part_that_links_to_nothing(folder):
    halves(folder / "survey", lambda t: t)
    (folder / "survey" / "gone.parquet").symlink_to("nowhere.parquet")


@refused("survey", "pipe.parquet")
def a_part_that_is_a_pipe(folder):
    halves(folder / "survey", lambda t: t)
    os.mkfifo(folder / "survey" / "pipe.parquet")


@read("survey", ids=[*good.IDS[:HALF], *good.IDS[:HALF]])
def an_id_twice_in_two_parts(folder):
    halves(folder / "survey", lambda t: t.set_column(0, "name", pa.array(good.IDS[:HALF].tolist())))


# -- FITS --------------------------------------------------------------------------------------------------------


def fits_columns(big=True, **changed):
    from astropy.io import fits

    kinds = {"name": "12A", "ra": "D", "dec": "D", "z": "E", "lum": "J", "sigma": "E"}
    made = []
    for name, values in {**good.COLUMNS, **changed}.items():
        if isinstance(values, fits.Column):
            made.append(values)
        else:
            made.append(fits.Column(name, kinds[name], array=values))
    return made


def fits_file(path, columns=None, *before):
    from astropy.io import fits

    made = fits.BinTableHDU.from_columns(columns or fits_columns(), name="CAT")
    fits.HDUList([fits.PrimaryHDU(), *before, made]).writeto(path)


@read("o.fits")
def fits_plain(folder):
    fits_file(folder / "o.fits")


@read("o.fits[CAT]")
def fits_second_table_by_name(folder):
    from astropy.io import fits

    first = fits.BinTableHDU.from_columns([fits.Column("code", "J", array=[1, 2])], name="CODES")
    fits_file(folder / "o.fits", None, first)


@refused("o.fits", "no column 'lum'", "columns: code")
def fits_two_tables(folder):
    fits_second_table_by_name(folder)


@read("o.fits")
def fits_an_image_before_the_table(folder):
    from astropy.io import fits

    fits_file(
        folder / "o.fits", None, fits.ImageHDU(np.zeros((4, 4)), name="IMAGE"), fits.CompImageHDU(np.zeros((9, 9)))
    )


@refused("o.fits[NONE]", "none")
def fits_no_such_extension(folder):
    fits_file(folder / "o.fits")


@refused("o.fits", "o.fits", "table")
def fits_image_only(folder):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4))).writeto(folder / "o.fits")


@read("o.fits", flagged=(3, 11))
def fits_null_integers(folder):
    from astropy.io import fits

    lum = good.LUM.astype(">i4")
    lum[[3, 11]] = 32767
    fits_file(folder / "o.fits", fits_columns(lum=fits.Column("lum", "J", null=32767, array=lum)))


@read("o.fits")
def fits_scaled_and_unsigned(folder):
    from astropy.io import fits

    scaled = fits.Column("sigma", "E", bscale=2.0**-10, bzero=0.03125, array=good.SIGMA.astype(np.float32))
    unsigned = fits.Column("lum", "J", bzero=2**31, array=good.LUM.astype(np.uint32))
    fits_file(folder / "o.fits", fits_columns(sigma=scaled, lum=unsigned))


@read("o.fits", ids=2**63 + 5 + np.arange(good.NUM, dtype=np.uint64))
def fits_unsigned_ids_beyond_int64(folder):
    from astropy.io import fits

    ids = 2**63 + 5 + np.arange(good.NUM, dtype=np.uint64)
    fits_file(folder / "o.fits", fits_columns(name=fits.Column("name", "K", bzero=2**63, array=ids)))


@read("o.fits")
def fits_variable_lengths_beside(folder):
    from astropy.io import fits

    spectra = np.array([np.arange(i % 4, dtype=np.float32) for i in range(good.NUM)], dtype=object)
    fits_file(folder / "o.fits", [*fits_columns(), fits.Column("spectrum", "PE()", array=spectra)])


@refused("o.fits", "'lum'", "list values")
def fits_variable_lengths_as_luminosity(folder):
    from astropy.io import fits

    lists = np.array([np.arange(1 + i % 4, dtype=np.float32) for i in range(good.NUM)], dtype=object)
    fits_file(folder / "o.fits", fits_columns(lum=fits.Column("lum", "PE()", array=lists)))


@refused("o.fits", "lum", "3|one value|one number|vector|shape")
def fits_vectors_as_luminosity(folder):
    from astropy.io import fits

    fits_file(folder / "o.fits", fits_columns(lum=fits.Column("lum", "3D", array=np.tile(good.LUM[:, None], (1, 3)))))


@refused("o.fits", "lum", "complex|number")
def fits_complex_as_luminosity(folder):
    from astropy.io import fits

    fits_file(folder / "o.fits", fits_columns(lum=fits.Column("lum", "M", array=good.LUM + 1j)))


@read("o.fits.gz")
def fits_gzip(folder):
    fits_file(folder / "o.fits.gz")


@read("o.fits")
def fits_ascii_table(folder):
    from astropy.io import fits

    kinds = {"name": "A12", "ra": "F16.10", "dec": "F16.10", "z": "F16.10", "lum": "I10", "sigma": "F16.10"}
    columns = [fits.Column(n, kinds[n], array=v, ascii=True) for n, v in good.COLUMNS.items()]
    fits.HDUList([fits.PrimaryHDU(), fits.TableHDU.from_columns(columns)]).writeto(folder / "o.fits")


@refused("o.fits", "o.fits", "no rows|empty|0 rows|no objects")
def fits_no_rows(folder):
    from astropy.io import fits

    fits_file(folder / "o.fits", [fits.Column(c.name, c.format) for c in fits_columns()])


@refused("o.fits", "cut short", "byte")
def fits_cut_short(folder):
    fits_file(folder / "whole.fits")
    (folder / "o.fits").write_bytes((folder / "whole.fits").read_bytes()[:-2400])


# -- CSV and text --------------------------------------------------------------------------------------------------


def text(path, lines=None, *, end="\n", encoding="utf-8", last=True):
    content = end.join(lines if lines is not None else good.csv_text().splitlines()) + (end if last else "")
    path.write_bytes(content.encode(encoding))


LINES = good.csv_text().splitlines()


def edited(number, line):
    """The good CSV with line `number` (1 is the header) replaced by some lines."""
    return [*LINES[: number - 1], *([line] if isinstance(line, str) else line), *LINES[number:]]


def cells(number, **changed):
    row = dict(zip(good.COLUMNS, LINES[number - 1].split(","), strict=True))
    return ",".join({**row, **changed}.values())


@read("o.csv")
def csv_byte_order_mark_and_crlf(folder):
    text(folder / "o.csv", end="\r\n", encoding="utf-8-sig")


@read("o.csv")
def csv_last_line_without_an_end(folder):
    text(folder / "o.csv", last=False)


@refused("o.csv", "6 columns", "row 3 with 4", "begins at row 16", on_way=True)
def csv_last_line_unfinished(folder):
    text(folder / "o.csv", edited(21, ",".join(LINES[20].split(",")[:4])), last=False)


@refused("o.csv", "6 columns", "row 2 with 7", "begins at row 8", on_way=True)
def csv_a_ragged_row(folder):
    text(folder / "o.csv", edited(12, LINES[11] + ",7"))


@read("o.csv", ids=["a,b", *good.IDS[1:].tolist()])
def csv_quotes_with_commas(folder):
    text(folder / "o.csv", edited(2, cells(2, name='"a,b"', lum=f'"{good.LUM[0]}"')))


@read("o.csv")
def csv_semicolons(folder):
    (folder / "o.csv").write_text(good.csv_text(delimiter=";"))


@read("o.csv")
def csv_tabs(folder):
    (folder / "o.csv").write_text(good.csv_text(delimiter="\t"))


@read("o.csv")
def csv_comment_lines_first(folder):
    text(folder / "o.csv", ["# made by a pipeline", "# units: deg, deg, , , ", *LINES])


@read("o.csv")
def csv_blank_lines(folder):
    text(folder / "o.csv", [LINES[0], "", *LINES[1:8], "", *LINES[8:], "", ""])


@read("o.csv")
def csv_spaces_after_commas(folder):
    text(folder / "o.csv", [line.replace(",", ", ") for line in LINES])


@refused("o.csv", "'ra'", "row 1 with value 'ra'", "begins at row 8", on_way=True)
def csv_header_again_in_the_middle(folder):
    text(folder / "o.csv", [*LINES[:10], LINES[0], *LINES[10:]])


@refused("o.csv", "o.csv", "no rows|empty|0 rows|no objects")
def csv_header_only(folder):
    text(folder / "o.csv", LINES[:1])


@refused("o.csv", "o.csv", "empty|no rows|no bytes|0 bytes")
def csv_no_bytes(folder):
    (folder / "o.csv").touch()


@refused("o.csv", "lum", "twice|2 |two|more than once|duplicate")
def csv_a_column_name_twice(folder):
    text(folder / "o.csv", [line + "," + line.split(",")[4] for line in LINES])


@read("o.csv", flagged=(2, 5, 8, 13, 17))
def csv_missing_values_of_many_kinds(folder):
    lines = list(LINES)
    for row, value in ((2, ""), (5, "NaN"), (8, "NA"), (13, "null"), (17, "nan")):
        lines[row + 1] = cells(row + 2, lum=value)
    text(folder / "o.csv", lines)


@refused("o.csv", "'lum'", "bright", "row 5", "begins at row 8", on_way=True)
def csv_a_word_among_the_numbers(folder):
    text(folder / "o.csv", edited(15, cells(15, lum="bright")))


@refused("o.csv", "utf-16")
def csv_sixteen_bits(folder):
    text(folder / "o.csv", encoding="utf-16")


@read("o.csv", ids=[good.IDS[0], "é", *good.IDS[2:].tolist()])
def csv_latin_1(folder):
    text(folder / "o.csv", edited(3, cells(3, name="é")), encoding="latin-1")


@refused("o.csv", "binary")
def csv_null_bytes(folder):
    text(folder / "o.csv", edited(5, "\0" * 40))


@read("o.csv", ids=[f"{i:05d}" for i in range(good.NUM)])
def csv_ids_with_leading_zeros(folder):
    text(folder / "o.csv", [LINES[0]] + [cells(i + 2, name=f"{i:05d}") for i in range(good.NUM)])


@refused("o.csv", "'name'", "integers", "text", "begins at row 8", on_way=True)
def csv_ids_of_digits_then_letters(folder):
    ids = [*map(str, range(15)), *"abcde"]
    text(folder / "o.csv", [LINES[0]] + [cells(i + 2, name=ids[i]) for i in range(good.NUM)])


@read("o.csv", ids=2**63 + 5 + np.arange(good.NUM, dtype=np.uint64))
def csv_ids_beyond_int64(folder):
    text(folder / "o.csv", [LINES[0]] + [cells(i + 2, name=str(2**63 + 5 + i)) for i in range(good.NUM)])


@read("o.csv.gz")
def csv_gzip(folder):
    (folder / "o.csv.gz").write_bytes(gzip.compress(good.csv_text().encode()))


@read("o.csv.gz")
def csv_gzip_of_two_members(folder):
    whole = good.csv_text().encode()
    (folder / "o.csv.gz").write_bytes(gzip.compress(whole[:333]) + gzip.compress(whole[333:]))


@refused("o.csv.gz", "end-of-stream")
def csv_gzip_cut_short(folder):
    (folder / "o.csv.gz").write_bytes(gzip.compress(good.csv_text().encode())[:-40])


@read("o.csv.gz")
def csv_named_gzip(folder):
    text(folder / "o.csv.gz")


@read("o.csv")
def gzip_named_csv(folder):
    (folder / "o.csv").write_bytes(gzip.compress(good.csv_text().encode()))


@refused("o.txt", "line 12|row 11|row 10|columns|6|7", on_way=True)
def text_a_ragged_row(folder):
    lines = [line.replace(",", " ") for line in LINES]
    lines[11] += " 7"
    text(folder / "o.txt", lines)


@refused("o.csv", "'lum'", "no header")
def csv_no_header(folder):
    text(folder / "o.csv", LINES[1:])


# -- text, where one chunk of 8 rows ends and the next begins ------------------------------------------------------


@read("o.csv", flagged=(8,))
def csv_a_chunk_begins_with_a_row_of_blanks(folder):
    text(folder / "o.csv", edited(10, f"{good.IDS[8]},,,,,"))


@refused("o.csv", "'ra'", "row 0 with value 'ra'", "begins at row 8", on_way=True)
def csv_a_chunk_begins_with_the_header_again(folder):
    text(folder / "o.csv", [*LINES[:9], LINES[0], *LINES[9:]])


@refused("o.csv", "6 columns", "row 0 with 7", "begins at row 8", on_way=True)
def csv_a_chunk_begins_with_a_ragged_row(folder):
    text(folder / "o.csv", edited(10, LINES[9] + ",7"))


@read("o.tsv", ids=[*good.IDS[:8], "a,b", *good.IDS[9:]])
def tabs_and_a_chunk_begins_with_a_comma(folder):
    lines = [line.replace(",", "\t") for line in LINES]
    lines[9] = lines[9].replace(good.IDS[8], "a,b")
    text(folder / "o.tsv", lines)


@read("o.csv")
def csv_a_chunk_of_blank_lines_and_comments(folder):
    text(folder / "o.csv", [*LINES[:9], *[""] * 5, "# night 2", *[""] * 20, *LINES[9:], "", "# end", *[""] * 9])


@read("o.csv", ids=[*"abcdefgh", *map(str, range(8, good.NUM))])
def csv_ids_of_letters_then_digits(folder):
    ids = [*"abcdefgh", *map(str, range(8, good.NUM))]
    text(folder / "o.csv", [LINES[0]] + [cells(i + 2, name=ids[i]) for i in range(good.NUM)])


@read("o.csv", flagged=tuple(range(8)))
def csv_a_first_chunk_without_a_value(folder):
    text(folder / "o.csv", [LINES[0], *(cells(i, lum="") for i in range(2, 10)), *LINES[9:]])


@read("o.csv")
def csv_integers_at_first_then_decimals(folder):
    text(folder / "o.csv", [*LINES[:15], *(cells(i, lum=f"{good.LUM[i - 2]}.0e0") for i in range(16, 22))])


@read("o.csv")
def csv_carriage_returns_alone(folder):
    text(folder / "o.csv", end="\r")


@refused("o.csv", "columns", "cells")
def csv_a_line_end_within_quotes(folder):
    text(folder / "o.csv", edited(9, cells(9, name='"a\nb"')))


@read("o.txt")
def text_header_in_a_comment(folder):
    lines = [line.replace(",", "  ") for line in LINES]
    text(folder / "o.txt", ["# " + lines[0], *lines[1:]])


@refused("o.csv", "no rows|empty|only comments")
def csv_comments_only(folder):
    text(folder / "o.csv", ["# " + line for line in LINES])
