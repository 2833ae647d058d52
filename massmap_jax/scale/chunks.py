"""Read a catalogue file too large for memory one chunk of rows at a time, in order: `Chunks`.

A chunk is a `ColumnTable`, as `open_table` makes it of a whole file, so the same columns are guessed, refused and
flagged.
"""

import contextlib
import io
import itertools
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_plain
from massmap_jax.catalogue.tables import (
    check_regular,
    check_text_options,
    fits_descriptions,
    fits_table,
    from_arrow,
    open_plain,
    parquet_units,
    sniff_format,
    split_extension,
    units_of_text,
)
from massmap_jax.catalogue.text_table import SAMPLE, footer_notes, layout_of, parse_rows, split_footer
from massmap_jax.errors import MassmapError, first_line
from massmap_jax.scale.fingerprint import fingerprint_of, first_difference

SAMPLE_ROWS = 10_000
"""Rows at the beginning that tell what a column's values are like: whatever is decided by them is so in all chunks."""


class Chunks:
    """Iterate over the rows of a Parquet file, a folder of them, a FITS table, or a CSV or whitespace-separated text
    file.

    Parameters
    ----------
    source : str or Path
        The path, or FILE[EXTENSION] for FITS.
    names : sequence of str, optional
        Column names of a text file without a header.
    text_columns : collection of str
        Lower-case names of columns that are read as text, such as ids.
    delimiter, header : optional
        As in `massmap_jax.catalogue.tables.open_table`.

    Attributes
    ----------
    path : str
        Path of the file or folder.
    extension : str or None
        Extension of a FITS file.
    kind : {"parquet", "fits", "text"}
        Format of the files.
    files : list of Path
        The files in reading order.
    num_rows : int or None
        Number of rows, None where it is not known beforehand (text, and FITS before it is read).
    footer : tuple of str
        What stands below the last row of a text file and is left out, as a note, once that was read.

    Raises
    ------
    MassmapError
        If there is no such file, its format is not known, or the columns of the files in a folder differ.
    """

    def __init__(
        self,
        source,
        *,
        names: Sequence[str] | None = None,
        text_columns: Collection[str] = (),
        delimiter: str | None = None,
        header: str | None = None,
    ):
        self.path, self.extension = split_extension(str(source))
        self.names, self.text_columns = names, text_columns
        self.delimiter, self.header = delimiter, header
        folder = Path(self.path)
        if folder.is_dir():
            # Names that begin with . or _ are bookkeeping (Spark, Delta, unfinished files); a folder may be named
            # x.parquet.
            inside = [p for p in folder.rglob("*.parquet") if not p.is_dir()]
            found = sorted(p for p in inside if not any(n[0] in "._" for n in p.relative_to(folder).parts))
            if not found:
                raise MassmapError(f"the folder {self.path} holds no .parquet file: give a folder of Parquet files")
            for path in found:
                check_regular(path)
            self.kind, self.files = "parquet", found
        else:
            kind = sniff_format(self.path)
            if kind not in ("parquet", "fits", "text"):
                raise MassmapError(
                    f"{self.path} is {kind.upper()}, which is not read in chunks: convert it to Parquet or CSV"
                )
            self.kind, self.files = kind, [folder]
        check_text_options(self.path, self.kind, names=names, delimiter=delimiter, header=header)
        self.num_rows, self.footer = None, ()
        if self.kind == "parquet":
            self._groups = self._row_groups()
            self.num_rows = sum(rows for _, _, rows in self._groups)

    def fingerprint(self) -> dict[str, str]:
        """Identify the files by their content, as `massmap_jax.scale.fingerprint` does.

        Returns
        -------
        dict of str to str
            The identification of each file by its name.
        """
        return fingerprint_of(self.files, self.path)

    def differs_from(self, fingerprint: dict[str, str]) -> str | None:
        """Find the first file that is not the one of the fingerprint; a copy with another date is the same file.

        Parameters
        ----------
        fingerprint : dict of str to str
            What `fingerprint` returned earlier, perhaps elsewhere.

        Returns
        -------
        str or None
            Name of a file that has another content, or that is in one of the two only; None if there is none.
        """
        return first_difference(fingerprint, self.fingerprint())

    def read(self, size: int, skip: int = 0, columns: Sequence[str] | None = None) -> Iterator[ColumnTable]:
        """Yield tables of `size` rows, of which the last may be shorter.

        Parameters
        ----------
        size : int
            Rows of a table.
        skip : int
            Number of chunks to leave out at the beginning.
        columns : sequence of str, optional
            The columns to read of a Parquet file. By default all are read.

        Yields
        ------
        ColumnTable
            The next rows.

        Raises
        ------
        MassmapError
            If the file cannot be read.
        """
        readers = {"parquet": self._parquet, "fits": self._fits, "text": self._text}
        tables = readers[self.kind](size, skip, columns)
        while True:
            try:
                table = next(tables, None)
            except MassmapError:
                raise
            except Exception as error:  # the libraries of the formats raise many unrelated types of errors
                raise MassmapError(f"{self.path} cannot be read as {self.kind}: {first_line(error)}") from error
            if table is None:
                return
            yield table

    def sample(self) -> ColumnTable | None:
        """Read the first rows, by which placeholders are told from values in every chunk alike, whatever its size.

        Returns
        -------
        ColumnTable or None
            At most `SAMPLE_ROWS` rows; None where they cannot be read, which their own chunk will say.
        """
        with contextlib.suppress(MassmapError):
            return next(self.read(SAMPLE_ROWS), None)
        return None

    def extremes(self) -> ColumnTable | None:
        """Read the smallest and the largest number of every column from a Parquet file's statistics.

        Returns
        -------
        ColumnTable or None
            Two rows, with NaN for a column without statistics. None for other formats.
        """
        if self.kind != "parquet":
            return None
        import pyarrow.parquet as pq

        low: dict[str, float] = {}
        high: dict[str, float] = {}
        for path in self.files:
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                for i in range(metadata.num_columns):
                    column = metadata.row_group(group).column(i)
                    found = column.statistics
                    known = found is not None and found.has_min_max and isinstance(found.min, int | float)
                    ends = (found.min, found.max) if known else (np.nan, np.nan)
                    name = column.path_in_schema
                    low[name] = np.minimum(low.get(name, np.inf), ends[0])
                    high[name] = np.maximum(high.get(name, -np.inf), ends[1])
        columns = {name: np.array([low[name], high[name]], dtype=np.float64) for name in low}
        units = parquet_units(pq.read_schema(self.files[0]))
        return ColumnTable(self.path, tuple(columns), columns.__getitem__, units)

    # -- Parquet ------------------------------------------------------------------------------------------------

    def _row_groups(self) -> list[tuple[Path, int, int]]:
        """List (file, row group, rows) in order; refuse files whose columns differ."""
        import pyarrow.parquet as pq

        groups, first = [], None
        for path in self.files:
            try:
                metadata = pq.read_metadata(path)
                schema = pq.read_schema(path)
            except Exception as error:
                raise MassmapError(f"{path} cannot be read as parquet: {first_line(error)}") from error
            types = dict(zip(schema.names, map(str, schema.types), strict=True))
            first = (path, types) if first is None else first
            for name in sorted(types.keys() | first[1].keys()):
                if types.get(name) != first[1].get(name):
                    raise MassmapError(
                        f"column {name!r} is {types.get(name, 'missing')} in {path} and "
                        f"{first[1].get(name, 'missing')} in {first[0]}: the files of a folder need the same columns"
                    )
            groups += [(path, i, metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)]
        return groups

    def _parquet(self, size, skip, columns):
        """Yield tables across the borders of row groups and files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = pq.read_schema(self.files[0])
        units = parquet_units(first)
        names = [name for name in first.names if columns is None or name in columns]
        start = size * skip
        held, number = [], 0
        for path, group, rows in self._groups:
            if start >= rows:
                start -= rows
                continue
            try:
                with pq.ParquetFile(path, page_checksum_verification=True) as file:
                    batches = file.iter_batches(size, row_groups=[group], columns=columns)
                    for batch in batches:
                        # Files may differ in the order of columns, in metadata, and in which columns may hold nulls.
                        batch = batch if batch.schema.names == names else batch.select(names)
                        batch = pa.record_batch(batch.columns, names)
                        if start:
                            cut = min(start, batch.num_rows)
                            batch, start = batch.slice(cut), start - cut
                        while number + batch.num_rows >= size:
                            held.append(batch.slice(0, size - number))
                            batch = batch.slice(size - number)
                            yield from_arrow(pa.Table.from_batches(held), str(path), units)
                            held, number = [], 0
                        if batch.num_rows:
                            held.append(batch)
                            number += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise MassmapError(f"row group {group} of {path} cannot be read: {first_line(error)}") from error
        if number:
            yield from_arrow(pa.Table.from_batches(held), str(self.files[-1]), units)

    # -- FITS ---------------------------------------------------------------------------------------------------

    def _fits(self, size, skip, columns):
        """Yield tables of a FITS file, which is mapped into memory; refuse one that is cut short."""
        from astropy.io import fits
        from astropy.table import Table

        with fits.open(self.path, memmap=True) as hdus:
            with warnings.catch_warnings():  # a warning that the file is cut short: an error below says so
                warnings.simplefilter("ignore")
                hdu, notes = fits_table(hdus, self.path, self.extension)
            place, length = hdu.fileinfo()["datLoc"], Path(self.path).stat().st_size
            with open(self.path, "rb") as file:
                plain = file.read(2) == b"SI"
            if plain and length < place + hdu.size:
                raise MassmapError(
                    f"{self.path} is cut short: its table ends at byte {place + hdu.size} and the file at {length}; "
                    "fetch it anew"
                )
            self.num_rows = len(hdu.data)
            for start in range(size * skip, self.num_rows, size):
                part = fits.BinTableHDU(hdu.data[start : start + size], header=hdu.header)
                table = Table.read(part, character_as_bytes=False)
                columns = {name: as_plain(table[name]) for name in table.colnames}
                units = {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
                found = fits_descriptions(hdu.header)
                yield ColumnTable(self.path, tuple(columns), columns.__getitem__, units, notes, descriptions=found)

    # -- text ---------------------------------------------------------------------------------------------------

    def _text(self, size, skip, columns):
        """Blocks of lines through the same parser as a whole file; the first block's columns serve them all."""
        with open_plain(self.path) as binary:
            head = binary.read(SAMPLE + 1)
            layout = layout_of(head, self.path, self.names, self.delimiter, self.header, whole=len(head) <= SAMPLE)
            binary.seek(0)
            # Latin-1 gives every byte back; lines end as in the sample, by any of the three conventions.
            file = io.TextIOWrapper(binary, encoding="latin-1", newline=None)
            for _ in range(layout.first_line):
                file.readline()
            units, notes = units_of_text(self.path, layout)
            schema, number, held, ahead = None, 0, [], file.readline()
            while ahead:
                lines = [*held, ahead, *itertools.islice(file, size - 1)]
                # A footer has no rows below it.
                lines, held = split_footer(lines, layout)
                if not (ahead := file.readline()):
                    self.footer = footer_notes(held)
                data = "".join(lines).encode("latin-1")
                if all(_is_no_row(line, layout.comments) for line in lines):
                    continue
                if number >= skip or schema is None:
                    table = parse_rows(data, self.path, layout, self.text_columns)
                    schema = schema or table.schema
                    if number >= skip:
                        yield from_arrow(self._texts_as_before(table, schema), self.path, units, notes)
                number += 1

    def _texts_as_before(self, table, schema):
        """Give text columns the type that they had in the first chunk; ids of digits alone are read as integers."""
        import pyarrow as pa

        for position, (field, before) in enumerate(zip(table.schema, schema, strict=True)):
            if normal_name(field.name) not in self.text_columns or field.type == before.type:
                continue
            if before.type == pa.int64():
                raise MassmapError(
                    f"column {field.name!r} of {self.path} holds integers in its first chunk and other text later on: "
                    "convert it to Parquet, with the column as text"
                )
            table = table.set_column(position, field.name, table.column(position).cast(before.type))
        return table


def _is_no_row(line: str, comments: tuple[str, ...]) -> bool:
    return not line.strip() or line.lstrip().startswith(comments)
