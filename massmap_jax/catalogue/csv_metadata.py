"""Metadata of a CSV file in a file beside it, `NAME.csv-metadata.json`, as "CSV on the Web" (W3C) has it.

Comment lines above the header would say as much, but pandas and astropy do not open such a file at their defaults.
"""

import json
from pathlib import Path
from typing import Any

from massmap_jax.catalogue.described import DescribedTable
from massmap_jax.errors import MassmapError

_DATATYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "double"}
_SUFFIX = "-metadata.json"


def metadata_file(path) -> Path:
    """Give the path of the file beside a CSV file that holds its metadata."""
    path = Path(path)
    return path.with_name(path.name + _SUFFIX)


def metadata_text(table: DescribedTable, name: str) -> str:
    """Write the metadata of a CSV file.

    Parameters
    ----------
    table : DescribedTable
        What was written to it.
    name : str
        Name of the CSV file.

    Returns
    -------
    str
        JSON: in `tableSchema` name, type, unit, description and UCD of each column, and in `notes` the metadata.
    """
    columns = []
    for column, values in table.columns.items():
        about = table.about(column)
        told = {"name": column, "titles": column, "datatype": _DATATYPES.get(values.dtype.kind, "string")}
        told |= {"dc:description": about["description"]} if "description" in about else {}
        told |= {"schema:unitText": about["unit"]} if "unit" in about else {}
        told |= {"schema:propertyID": about["ucd"]} if "ucd" in about else {}
        columns.append(told)
    document = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": name,
        "tableSchema": {"columns": columns},
        "notes": [table.plain_meta],
    }
    return json.dumps(document, indent=1) + "\n"


def read_metadata(path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read what the file beside a CSV file says.

    Parameters
    ----------
    path : str or os.PathLike
        The CSV file.

    Returns
    -------
    meta : dict
        Metadata of the table; empty without such a file.
    units : dict of str to str
        Units by column.

    Raises
    ------
    MassmapError
        For a file beside it that is not what `write_table` writes.
    """
    beside = metadata_file(path)
    try:
        document = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError) as error:
        raise MassmapError(f"{beside}, the metadata of {path}, cannot be read ({error}): remove it") from error
    try:
        columns = document.get("tableSchema", {}).get("columns", [])
        units = {column["name"]: str(column["schema:unitText"]) for column in columns if "schema:unitText" in column}
        notes = document.get("notes", [])
        return dict(notes[0]) if notes else {}, units
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MassmapError(
            f"{beside}, the metadata of {path}, are not of the form that this program writes ({error!r}): correct or "
            "remove them"
        ) from error
