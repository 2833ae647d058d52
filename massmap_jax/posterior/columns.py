"""What the columns of the mass tables mean: unit, description and UCD by name, and the metadata of every table."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, TypedDict

import massmap_jax

if TYPE_CHECKING:  # a refused option is not to wait for JAX
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.law import Relation

PROGRAM = "massmap-jax"
# One sentence for every table, since its columns hold logarithms to both bases.
LOGARITHMS = "columns log10_* are to base 10 [dex]; ln_*, sigma_ln_lum, log_evidence and the relation are natural"
_UNITS = {"ra": "deg", "dec": "deg", "x": "arcmin", "y": "arcmin", "mass_mean": "solMass", "information_bits": "bit"}
_UNITS |= {"host_mass_mean": "solMass", "central_mass_mean": "solMass"}
_DESCRIPTIONS = {
    "id": "object, as in the catalogue",
    "ra": "right ascension",
    "dec": "declination",
    "x": "offset from the field centre",
    "y": "offset from the field centre",
    "z": "redshift",
    "z_mean": "posterior mean of a redshift that is not exact",
    "z_sd": "posterior standard deviation of that redshift",
    "pareto_k": "shape of the tail of the luminosity weights; above 0.7 they are not to be trusted",
    "log10_mass_true": "true log10(M/Msun), from the catalogue",
    "ln_lum_obs": "ln of the observed luminosity",
    "sigma_ln_lum": "standard deviation of the error of ln_lum_obs",
    "log10_mass_mean": "posterior mean of log10(M/Msun), M without h",
    "log10_mass_sd": "posterior standard deviation of log10(M/Msun)",
    "log10_mass_mode": "peak of the posterior of log10 M",
    "mass_mean": "posterior mean of M",
    "log_evidence": "ln P(L_obs | z, relation), density per unit L_obs",
    "edge_mass": "posterior fraction beyond the prior's mass table",
    "information_bits": "divergence of the posterior from the prior",
    "ess": "effective number of relation draws (luminosity samples with a sampled method, mass draws with nuts)",
    "r_hat": "split R-hat of the object's chain (nuts)",
    "divergences": "divergent transitions of the object's chain (nuts)",
    "flag": "bits; 0 is good",
    "flag_reason": "names of the bits",
}
# Those of the hosts of galaxies, which only the table of hosts has: beside masses, a user's own column may have such a
# name.
_OF_HOSTS = {
    "p_sat": "probability that the galaxy is a satellite",
    "log10_host_mass_mean": "posterior mean of log10(M/Msun) of the galaxy's host, as central or satellite",
    "log10_host_mass_sd": "posterior standard deviation of it; there may be two humps",
    "log10_host_mass_mean_central": "the mean if the galaxy is the central of its host",
    "log10_host_mass_sd_central": "the standard deviation if it is the central",
    "log10_host_mass_mean_satellite": "the mean if it is a satellite",
    "log10_host_mass_sd_satellite": "the standard deviation if it is a satellite",
    "host_mass_mean": "posterior mean of M of the host; not to be summed, as galaxies share hosts",
    "central_mass_mean": "posterior mean of M if the galaxy is the central, else 0; may be summed",
}
# https://www.ivoa.net/documents/UCD1+ has no word for a logarithm: the description says it.
_UCDS = {
    "id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "x": "pos.cartesian.x",
    "y": "pos.cartesian.y",
    "z": "src.redshift",
    "z_mean": "src.redshift;stat.mean",
    "z_sd": "stat.stdev;src.redshift",
    "ln_lum_obs": "phys.luminosity",
    "sigma_ln_lum": "stat.error;phys.luminosity",
    "log10_mass_mean": "phys.mass;stat.mean",
    "log10_mass_sd": "stat.stdev;phys.mass",
    "log10_mass_mode": "phys.mass;stat.max",
    "log10_mass_true": "phys.mass",
    "mass_mean": "phys.mass;stat.mean",
    "p_sat": "stat.probability",
    **dict.fromkeys(("host_mass_mean", "central_mass_mean", "log10_host_mass_mean"), "phys.mass;stat.mean"),
    "log_evidence": "stat.likelihood",
    "edge_mass": "stat.probability",
    "flag": "meta.code.qual",
    "flag_reason": "meta.note",
}
KNOWN_COLUMNS = tuple(_DESCRIPTIONS)
_QUANTILE = re.compile(r"log10_(host_)?mass_q(\d+)")


class ColumnInfo(TypedDict):
    """What `write_table` takes beside the columns and the metadata."""

    units: dict[str, str]
    descriptions: dict[str, str]
    ucds: dict[str, str]


def column_info(names: Collection[str]) -> ColumnInfo:
    """Say what columns of masses mean.

    Parameters
    ----------
    names : collection of str
        Names of columns; those of a catalogue's own may be among them, and nothing is said of these.

    Returns
    -------
    dict of str to dict
        "units", "descriptions" and "ucds", each by name, as `write_table` takes them.
    """
    quantiles = {name: found[2] for name in names if (found := _QUANTILE.fullmatch(name))}
    descriptions = (
        _DESCRIPTIONS
        | _OF_HOSTS
        | {name: f"posterior quantile {float('0.' + digits):g} of log10(M/Msun)" for name, digits in quantiles.items()}
    )
    ucds = (
        _UCDS
        | dict.fromkeys(quantiles, "phys.mass;stat.percentile")
        | {name: "phys.mass;stat.median" for name, digits in quantiles.items() if digits == "50"}
    )
    return {
        "units": {name: _UNITS[name] for name in names if name in _UNITS},
        "descriptions": {name: descriptions[name] for name in names if name in descriptions},
        "ucds": {name: ucds[name] for name in names if name in ucds},
    }


def provenance(prior: MassPrior, relation: Relation) -> dict:
    """Collect the metadata of every written file: how its masses were made.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.
    relation : Relation
        The relation.

    Returns
    -------
    dict of str to str
        The metadata.
    """
    return {
        "program": PROGRAM,
        "version": massmap_jax.__version__,
        "mass_definition": prior.mass_definition,
        "mass_unit": "Msun without h",
        "logarithms": LOGARITHMS,
        "prior": prior.description,
        "relation_source": getattr(relation, "source", type(relation).__name__),
    }
