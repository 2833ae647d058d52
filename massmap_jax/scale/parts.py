"""Masses of one part of a catalogue, which may contain no usable row.

`stream`, which reads a catalogue a chunk at a time, and `lsdb`, which has it in partitions, write the same columns.
"""

from collections.abc import Collection

import numpy as np

from massmap_jax.catalogue.flags import UNUSABLE, describe_all
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
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
        raise MassmapError(f"output columns {listed} are not known: choose among {', '.join(dict.fromkeys(known))}")
