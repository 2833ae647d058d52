"""Masses of one part of a catalogue, which may contain no usable row.

`stream`, which reads a catalogue a chunk at a time, and `lsdb`, which has it in partitions, write the same columns.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from massmap_jax.catalogue.flags import UNUSABLE, describe_all
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.layouts import LAYOUTS
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import flag_of_part
from massmap_jax.posterior.columns import provenance
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.prior.mass_prior import MassPrior

MASS_COLUMNS = (
    "log10_mass_mean", "log10_mass_sd", "log10_mass_q025", "log10_mass_q16", "log10_mass_q50", "log10_mass_q84",
    "log10_mass_q975", "mass_mean", "log_evidence", "edge_mass", "information_bits", "flag",
)  # fmt: skip


REDSHIFTS = ("z_mean", "z_sd")
"""Output columns of redshifts that are not exact."""
# Objects whose redshift is a distribution are integrated so many at a time: their nodes are dozens of numbers each.
_BLOCK = 2**15


def blocks_of(catalogue: HaloCatalogue) -> Iterator[HaloCatalogue]:
    """Cut a part into blocks that are integrated in bounded memory.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The rows.

    Yields
    ------
    HaloCatalogue
        All rows at once where redshifts are exact; else the next rows, in order.
    """
    if catalogue.redshift_distributions is None or len(catalogue) <= _BLOCK:
        yield catalogue
        return
    for start in range(0, len(catalogue), _BLOCK):
        yield catalogue.subset(slice(start, start + _BLOCK))


def joined(tables: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Put the columns of blocks together.

    Parameters
    ----------
    tables : sequence of dict of str to np.ndarray, (halo,)
        Columns of each block, in order.

    Returns
    -------
    dict of str to np.ndarray, (halo,)
        Columns of all.
    """
    if len(tables) == 1:
        return tables[0]
    return {name: np.concatenate([columns[name] for columns in tables]) for name in tables[0]}


def posterior_of_part(catalogue: HaloCatalogue, prior: MassPrior, relation, **options) -> MassPosterior | None:
    """Compute `mass_posterior` of some rows of a catalogue.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The rows.
    prior : MassPrior
        The mass prior.
    relation : Relation
        One relation, or a batch of draws.
    **options : object
        Further arguments of `mass_posterior`.

    Returns
    -------
    MassPosterior or None
        None if none of the rows can be used.
    """
    if ((flag_of_part(catalogue, prior) & UNUSABLE) != 0).all():
        return None
    return mass_posterior(catalogue, prior, relation, **options)


def columns_of_part(catalogue: HaloCatalogue, prior: MassPrior, posterior: MassPosterior | None, keep) -> dict:
    """List the output columns of some rows; without a posterior, masses are NaN and flags say why.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The rows.
    prior : MassPrior
        The mass prior.
    posterior : MassPosterior or None
        What `posterior_of_part` returned.
    keep : sequence of str
        Names of the columns, as in `MassPosterior.to_table`.

    Returns
    -------
    dict of str to np.ndarray, (halo,)
        The columns.
    """
    if posterior is not None:
        return posterior.to_table(keep)
    flag = flag_of_part(catalogue, prior)
    known = {"id": catalogue.ids, "ra": catalogue.ra, "dec": catalogue.dec, "z": catalogue.redshift}
    known |= {"ln_lum_obs": catalogue.ln_lum_obs, "sigma_ln_lum": catalogue.sigma_ln_lum, "flag": flag}
    nan = np.full(len(catalogue), np.nan)
    columns = {name: known.get(name, nan) for name in keep}
    return columns | ({"flag_reason": describe_all(flag)} if "flag_reason" in columns else {})


def single_precision(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert all numbers but ids to float32.

    Parameters
    ----------
    columns : dict of str to np.ndarray, (halo,)
        The columns.

    Returns
    -------
    dict of str to np.ndarray, (halo,)
        The columns, in the same order.
    """
    narrow = {n: v.astype(np.float32) for n, v in columns.items() if v.dtype == np.float64 and n != "id"}
    return {name: narrow.get(name, values) for name, values in columns.items()}


def meta_of(prior: MassPrior, relation, relation_from, method: str) -> dict:
    """Collect the metadata of a written part: how its masses were made.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    relation : Relation
        The relation.
    relation_from : str or None
        How its draws are weighted.
    method : str
        Method of the masses.

    Returns
    -------
    dict of str to str
        The metadata.
    """
    return provenance(prior, relation) | {"relation_from": relation_from or "one relation", "method": method}


def check_redshift_columns(asked: Collection[str], uncertain: bool) -> None:
    """Refuse output columns of redshifts that are not exact where they are.

    Parameters
    ----------
    asked : collection of str
        Names of the columns that are asked for.
    uncertain : bool
        Whether redshifts are distributions.

    Raises
    ------
    MassmapError
        With the names.
    """
    if not uncertain and (own := [name for name in asked if name in REDSHIFTS]):
        raise MassmapError(
            f"the output columns {', '.join(own)} are those of redshifts that are not exact: give the error of the"
            " redshift, z_err=, z_pdf= or z_quantiles=, or leave them out"
        )


def check_columns(asked: Collection[str], known: Collection[str]) -> None:
    """Refuse unknown output columns, or none.

    Parameters
    ----------
    asked : collection of str
        Names of the columns that are asked for.
    known : collection of str
        Names of the columns that exist.

    Raises
    ------
    MassmapError
        With the unknown names.
    """
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        listed = ", ".join(unknown) or "of no name"
        if unknown and unknown[0] in LAYOUTS:
            raise MassmapError(
                f"columns={unknown[0]!r} is a layout of a catalogue, which massmap-jax run takes, and columns= here are"
                " those of the output: name the catalogue's columns with lum=, z=, sigma= ...; massmap-jax columns"
                f" {unknown[0]} shows them"
            )
        raise MassmapError(f"output columns {listed} are not known: choose among {', '.join(dict.fromkeys(known))}")
