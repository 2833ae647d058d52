"""Names that a user may choose from, and the checks of a choice that need no JAX: a refusal should not wait for it."""

from typing import Literal, NamedTuple, get_args

import numpy as np

from massmap_jax.errors import MassmapError

METHODS = ("analytic", "monte_carlo", "importance", "quadrature")
"""Integrals over the luminosity; see `likelihood`."""
FIT_METHODS = ("laplace", "nuts", "importance")

RelationFrom = Literal["this_catalogue", "other_data", "fixed_draws"]
RELATION_FROM = get_args(RelationFrom)


class RelationPreset(NamedTuple):
    """Independent normal beliefs about the parameters, with where they come from."""

    mean: dict[str, float]
    sd: dict[str, float]
    lum_unit: str
    mass_definition: str
    source: str


PRESETS = {
    # Natural logs, luminosity in the authors' own unit. Very probably log10/dex figures read as natural logs: use it
    # with the 2017 mocks, not as a measured relation.
    "bigmali2017": RelationPreset(
        mean={"alpha1": 10.709, "alpha2": 0.359, "alpha3": 2.35e14, "alpha4": 1.10, "scatter": 0.155},
        sd={"alpha1": 0.022, "alpha2": 0.009, "alpha3": 0.0, "alpha4": 0.06, "scatter": 0.0009},
        lum_unit="bigmali2017 luminosity unit",
        mass_definition="unknown",
        source="github.com/davidthomas5412/BigMaLI (2017)",
    ),
}


def check_relation_from_known(relation_from: str) -> None:
    if relation_from not in RELATION_FROM:
        raise MassmapError(f"relation_from {relation_from!r} is not known: give one of {', '.join(RELATION_FROM)}")


def check_flux_limit(lum_min) -> None:
    if not (np.ndim(lum_min) == 0 and np.isfinite(lum_min) and lum_min > 0):
        raise MassmapError(f"the flux limit is {lum_min}: give one positive luminosity in the catalogue's unit")
