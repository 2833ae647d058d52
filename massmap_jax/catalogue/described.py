"""A table with what its columns mean, and the forms in which other programs keep that: astropy, pandas, VOTable."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from massmap_jax.errors import MassmapError

# Integers that VOTable lacks -> the next wider signed ones, which hold them.
_WIDER = {"i1": "i2", "u1": "i2", "u2": "i4", "u4": "i8", "u8": "i8"}


@dataclass(frozen=True)
class DescribedTable:
    """Columns with their units, descriptions and UCDs, and the metadata of the table.

    Attributes
    ----------
    columns : dict of str to np.ndarray, (row,)
        Numbers, booleans or text (never bytes or objects), all of one length.
    meta : dict
        Metadata of the table.
    units, descriptions, ucds : dict of str to str
        By column; a column may lack any of them. UCDs (unified content descriptors) are the words of the Virtual
        Observatory for what a column holds.
    """

    columns: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    ucds: Mapping[str, str] = field(default_factory=dict)

    @property
    def says_something(self) -> bool:
        """Whether there is more than the columns."""
        return bool(self.meta) or any(self.about(name) for name in self.columns)

    def about(self, name: str) -> dict[str, str]:
        """Give the unit, description and UCD of a column, those that it has."""
        told = {"unit": self.units, "description": self.descriptions, "ucd": self.ucds}
        return {key: str(values[name]) for key, values in told.items() if values.get(name)}

    def unit_and_description(self, name: str, standard: str) -> tuple[str, str]:
        """Give a column's unit in a standard of astropy's, and its description.

        A unit that the standard does not allow stands in brackets at the end of the description, and no unit is given.
        """
        from astropy import units as u

        about = self.about(name)
        told, description = about.get("unit", ""), about.get("description", "")
        try:
            with _silent_about_units():
                return u.Unit(told).to_string(standard), description
        except (ValueError, TypeError):
            return "", f"{description} [{told}]".strip()

    @property
    def plain_meta(self) -> dict[str, Any]:
        """The metadata as JSON knows them: text, numbers, lists and dicts."""
        return json.loads(as_json(dict(self.meta)))

    def astropy(self):
        """Make an astropy Table: units, descriptions, UCDs in the `meta` of columns, metadata in that of the table."""
        from astropy.table import Column, Table

        made = []
        for name, values in self.columns.items():
            about = self.about(name)
            meta = {"ucd": about["ucd"]} if "ucd" in about else None
            made.append(Column(values, name, unit=about.get("unit"), description=about.get("description"), meta=meta))
        return Table(made, meta=self.plain_meta)

    @property
    def pandas_attrs(self) -> dict[str, Any]:
        """The `attrs` of a DataFrame: the metadata, and beside them units, descriptions and ucds by column."""
        told = {name: self.about(name) for name in self.columns}
        kinds = {"units": "unit", "descriptions": "description", "ucds": "ucd"}
        return self.plain_meta | {
            plural: {name: about[kind] for name, about in told.items() if kind in about}
            for plural, kind in kinds.items()
        }

    def pandas(self):
        """Make a pandas DataFrame with `pandas_attrs`.

        Raises
        ------
        MassmapError
            Where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MassmapError("to_pandas needs pandas: pip install pandas") from None
        frame = pd.DataFrame(dict(self.columns))
        frame.attrs = self.pandas_attrs
        return frame

    def votable(self) -> bytes:
        """Give the XML of a VOTable: units, descriptions and UCDs in FIELDs, metadata in INFOs, rows in BINARY2.

        Integers that VOTable lacks become wider ones, or text where none is wide enough.
        """
        from astropy.io.votable.tree import Info, VOTableFile

        told = {name: self.unit_and_description(name, "vounit") for name in self.columns}
        table = DescribedTable(
            {name: widened(values) for name, values in self.columns.items()},
            units={name: unit for name, (unit, _) in told.items()},
            descriptions={name: description for name, (_, description) in told.items()},
            ucds=self.ucds,
        )
        with _silent_about_units():
            file = VOTableFile.from_table(table.astropy())
            for key, value in self.meta.items():
                info = Info(name=key, value=value if isinstance(value, str) else as_json(value))
                info.ID = None  # by default the name, which may be that of a column
                file.get_first_table().infos.append(info)
            out = io.BytesIO()
            file.to_xml(out, tabledata_format="binary2")
        return out.getvalue()

    def votable_without_rows(self) -> str:
        """Give the XML of `votable` without its DATA, as a Parquet file holds it (`parquet_metadata`)."""
        none = {name: values[:0] for name, values in self.columns.items()}
        return DescribedTable(none, self.meta, self.units, self.descriptions, self.ucds).votable().decode()


@contextlib.contextmanager
def _silent_about_units() -> Iterator[None]:
    """Without astropy's advice that a standard would rather have another unit, such as none with erg."""
    from astropy.units import UnitsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)
        yield


def writable(values) -> np.ndarray:
    """Give values in a type that every kind of table can hold, in native byte order."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "O":
        return np.array(["" if value is None else str(value) for value in array], dtype=str)
    return array.astype(array.dtype.newbyteorder("="))


def as_json(value) -> str:
    """Give a value as JSON; arrays become lists, and what JSON does not know its text."""
    return json.dumps(value, default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x))


def widened(values: np.ndarray) -> np.ndarray:
    """Give integers in a type that VOTable has; beyond the largest, as text."""
    wider = _WIDER.get(values.dtype.str[1:])
    if wider is None:
        return values
    if wider == "i8" and values.size and values.max() >= 2**63:
        return values.astype(str)
    return values.astype(wider)
