"""Objects that a catalogue holds more than once, which a map would count more than once."""

import numpy as np
from jaxtyping import Bool

from massmap_jax.catalogue.columns import rows_text
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue

_NO_ID = ("", "nan", "None", "--")


def repeats(catalogue: HaloCatalogue, counted: Bool[np.ndarray, "halo"], where: str = "on the map") -> str | None:
    """Say which objects come again: by their id, or by the very same position, redshift and luminosity.

    Parameters
    ----------
    catalogue : HaloCatalogue
        With positions.
    counted : Bool[np.ndarray, "halo"]
        Rows that are counted.
    where : str
        Where these are, for the sentence.

    Returns
    -------
    str or None
        A sentence with the number of rows and the first of each kind; None where nothing is repeated.
    """
    rows = np.flatnonzero(counted)
    by_id = np.zeros(len(catalogue), dtype=bool)
    if catalogue.key_number is not None:  # else every id is there once
        named = rows[[str(one) not in _NO_ID for one in catalogue.ids[rows].tolist()]]
        by_id[named] = _again(catalogue.ids[named].astype(str))
    by_place = np.zeros(len(catalogue), dtype=bool)
    by_place[rows] = _again_in_all(
        *(values[rows] for values in (catalogue.ln_lum_obs, catalogue.redshift, catalogue.ra, catalogue.dec))
    )
    again = by_id | by_place
    if not again.any():
        return None
    kinds = [
        f"by {what} in {rows_text(found, catalogue.ids)}"
        for found, what in ((by_id, "id"), (by_place & ~by_id, "position, redshift and luminosity"))
        if found.any()
    ]
    return (
        f"{again.sum()} of {rows.size} objects {where} repeat an earlier one ({'; '.join(kinds)}): each of them is "
        "counted; if they are the same objects, take the repeats out of the catalogue"
    )


def _again(values: np.ndarray) -> np.ndarray:
    """Whether each value has come before."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse] != np.arange(values.size)


def _again_in_all(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Whether each row of some columns has come before; most rows differ in the first column already."""
    order = np.argsort(first, kind="stable")
    alike = np.zeros(first.size, dtype=bool)
    same = first[order][1:] == first[order][:-1]
    alike[order[1:][same]] = alike[order[:-1][same]] = True
    again = np.zeros(first.size, dtype=bool)
    rows = np.flatnonzero(alike)
    table = np.stack([column[rows] for column in (first, *others)], axis=1)
    if rows.size:
        _, earliest, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
        again[rows] = earliest[inverse.ravel()] != np.arange(rows.size)
    return again & np.isfinite(np.sum(others, axis=0))
