"""Masses of one part of a catalogue, whatever is in it: a part without a usable row is no error, the whole may be.

What reads a catalogue a chunk at a time (`stream`) and what has it in partitions (`lsdb`) write the same columns.
"""

from collections.abc import Collection

import numpy as np

from massmap_jax.catalogue.flags import UNUSABLE, describe_all
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import flag_of_part
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.result import MassPosterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.run.outputs import provenance

MASS_COLUMNS = (
    "log10_mass_mean", "log10_mass_sd", "log10_mass_q025", "log10_mass_q16", "log10_mass_q50", "log10_mass_q84",
    "log10_mass_q975", "mass_mean", "log_evidence", "edge_mass", "information_bits", "flag",
)  # fmt: skip


def posterior_of_part(catalogue: HaloCatalogue, prior: MassPrior, relation, **options) -> MassPosterior | None:
    """`mass_posterior` of some rows of a catalogue; None where none of them can be used."""
    if ((flag_of_part(catalogue, prior) & UNUSABLE) != 0).all():
        return None
    return mass_posterior(catalogue, prior, relation, **options)


def columns_of_part(catalogue: HaloCatalogue, prior: MassPrior, posterior: MassPosterior | None, keep) -> dict:
    """Columns (`MassPosterior.to_table`) of `posterior_of_part`'s answer: NaN and the flags that say why for None."""
    if posterior is not None:
        return posterior.to_table(keep)
    flag = flag_of_part(catalogue, prior)
    known = {"id": catalogue.ids, "ra": catalogue.ra, "dec": catalogue.dec, "z": catalogue.redshift}
    known |= {"ln_lum_obs": catalogue.ln_lum_obs, "sigma_ln_lum": catalogue.sigma_ln_lum, "flag": flag}
    nan = np.full(len(catalogue), np.nan)
    columns = {name: known.get(name, nan) for name in keep}
    return columns | ({"flag_reason": describe_all(flag)} if "flag_reason" in columns else {})


def single_precision(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers but ids as float32."""
    narrow = {n: v.astype(np.float32) for n, v in columns.items() if v.dtype == np.float64 and n != "id"}
    return {name: narrow.get(name, values) for name, values in columns.items()}


def meta_of(prior: MassPrior, relation, relation_from, method: str) -> dict:
    """Say what a written part says of how its masses were made."""
    return provenance(prior, relation) | {"relation_from": relation_from or "one relation", "method": method}


def check_columns(asked: Collection[str], known: Collection[str]) -> None:
    """Refuse output columns that there are not."""
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        listed = ", ".join(unknown) or "of no name"
        raise MassmapError(f"output columns {listed} are not known: choose among {', '.join(dict.fromkeys(known))}")
