"""Metadata of a Parquet file in the forms that its readers know: astropy, pandas, VOParquet, plain keys and values."""

import json

from massmap_jax.catalogue.described import DescribedTable, as_json

# Schema keys of the conventions; whatever else stands there is metadata of the table.
_ASTROPY, _PANDAS, _VOTABLE = "table_meta_yaml", "PANDAS_ATTRS", "IVOA.VOTable-Parquet."
_LENGTH = "table::len::"
_OF_FORMATS = (_ASTROPY, _PANDAS, _VOTABLE, _LENGTH, "pandas", "ARROW:schema")


def parquet_metadata(table: DescribedTable) -> dict[str, str]:
    """Make the metadata of a Parquet schema.

    Parameters
    ----------
    table : DescribedTable
        The table.

    Returns
    -------
    dict of str to str
        Each entry of the metadata under its own name; and all that is known of the table and its columns as
        `astropy.table.Table.read` takes it (YAML), as pandas does (the `attrs`, JSON), and as VOParquet does (the XML
        of a VOTable without data; Taylor et al. 2025, IVOA Note "Parquet in the VO" 1.0).
    """
    from astropy.table import meta

    found = {key: value if isinstance(value, str) else as_json(value) for key, value in table.meta.items()}
    found[_ASTROPY] = "\n".join(meta.get_yaml_from_table(table.astropy()))
    # Without the length of a text column astropy warns, and fails on a file without rows.
    lengths = {name: values.dtype.itemsize // 4 for name, values in table.columns.items() if values.dtype.kind == "U"}
    found |= {_LENGTH + name: str(length) for name, length in lengths.items()}
    found[_PANDAS] = json.dumps(table.pandas_attrs)
    found |= {_VOTABLE + "version": "1.0", _VOTABLE + "content": table.votable_without_rows()}
    return found


def own_metadata(schema) -> dict[str, str]:
    """Give the metadata of a Parquet schema without what the conventions of the formats add.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the file.

    Returns
    -------
    dict of str to str
        Key and value.
    """
    told = {key.decode(): value.decode("utf-8", "replace") for key, value in (schema.metadata or {}).items()}
    return {key: value for key, value in told.items() if not key.startswith(_OF_FORMATS)}
