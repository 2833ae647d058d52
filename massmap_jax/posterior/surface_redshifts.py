"""What a table of posteriors knows of redshifts with a normal error: their use, and what their error does to it."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.photo_z import Contains, RedshiftDistributions
from massmap_jax.catalogue.redshift_shapes import Normal, Variable
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.redshifts import flux_of_luminosity
from massmap_jax.prior.mass_prior import MassPrior

# A table holds all but so large a share of the errors, at each end: a few absurd ones would make it wide.
_BEYOND = 0.005
# Step in ln(1 + z) for the derivative of the luminosity.
_STEP = 1e-3
LEAST_Z = 1e-3
"""Below this redshift, luminosities do not move as they do in the Hubble flow."""


class RedshiftUse(eqx.Module):
    """How redshifts with a normal error are used: what `RedshiftDistributions` says beside the objects' own numbers.

    Attributes
    ----------
    code_prior, parent : tuple of (array, array) or None
        As in `RedshiftDistributions`.
    contains, lum_moves, k_slope, cosmology, num_nodes, selection
        As in `RedshiftDistributions`.
    variable : {"z", "ln_1z"}
        What is normal.
    """

    code_prior: tuple[np.ndarray, np.ndarray] | None
    parent: tuple[np.ndarray, np.ndarray] | None
    contains: Contains = eqx.field(static=True)
    lum_moves: bool = eqx.field(static=True)
    k_slope: float = eqx.field(static=True)
    selection: str = eqx.field(static=True)
    cosmology: Any = eqx.field(static=True)
    num_nodes: int | None = eqx.field(static=True)
    variable: Variable = eqx.field(static=True)

    @classmethod
    def of(cls, given: RedshiftDistributions) -> "RedshiftUse":
        """Take it from the distributions of some objects.

        Parameters
        ----------
        given : RedshiftDistributions
            The distributions.

        Returns
        -------
        RedshiftUse
            Their use.

        Raises
        ------
        MassmapError
            For p(z) of another shape, which are not told by two numbers.
        """
        if not isinstance(given.shape, Normal):
            raise MassmapError(
                "a posterior surface takes redshifts that are exact or have a normal error, and these have p(z) of"
                " another shape: use method='analytic', which integrates each object"
            )
        told = {f.name: getattr(given, f.name) for f in dataclasses.fields(cls) if f.name != "variable"}
        for name in ("code_prior", "parent"):
            if told[name] is not None:
                told[name] = tuple(np.asarray(a, dtype=np.float64) for a in told[name])
        return cls(**told, variable=given.shape.variable)

    def distributions(self, redshift, error) -> RedshiftDistributions:
        """Make the distributions of some objects.

        Parameters
        ----------
        redshift : Float[np.ndarray, "n"]
            Measured redshifts.
        error : Float[np.ndarray, "n"]
            Their errors in ln(1 + z).

        Returns
        -------
        RedshiftDistributions
            The distributions.
        """
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "variable"}
        logarithm = self.variable == "ln_1z"
        normal = Normal(
            np.log1p(redshift) if logarithm else np.asarray(redshift, dtype=np.float64),
            np.asarray(error, dtype=np.float64) * (1.0 if logarithm else 1 + np.asarray(redshift)),
            self.variable,
        )
        return RedshiftDistributions(normal, **told)

    def motion(self, prior: MassPrior, middle, z) -> tuple[float, float]:
        """Measure how fast the luminosity moves with redshift, beside the luminosities of the prior's masses.

        Parameters
        ----------
        prior : MassPrior
            The mass prior, for its cosmology.
        middle : callable
            The middle of the luminosities of the prior's masses at some redshifts, ln L.
        z : Float[np.ndarray, "z"]
            Redshifts of the table.

        Returns
        -------
        near, far : float
            An error s of u = ln(1 + z) moves ln L by about near ln(1 + s / u) + far s: distances go as u where that is
            small.
        """
        u = np.log1p(np.maximum(z, LEAST_Z))
        given = self.distributions(np.zeros(0), np.zeros(0))
        low, high = np.expm1(u), np.expm1(u + _STEP)
        moved = flux_of_luminosity(given, prior, high) - flux_of_luminosity(given, prior, low)
        near = 2.0 if self.lum_moves else 0.0
        return near, float(np.median((moved - middle(high) + middle(low)) / _STEP - near / u))


def errors_of(catalogue: HaloCatalogue) -> Float[np.ndarray, " halo"]:
    """Give the errors of redshifts with a normal error.

    Parameters
    ----------
    catalogue : HaloCatalogue
        With such redshifts.

    Returns
    -------
    Float[np.ndarray, "halo"]
        In ln(1 + z); NaN where they cannot be used.
    """
    assert catalogue.redshift_distributions is not None
    shape = catalogue.redshift_distributions.shape
    assert isinstance(shape, Normal)
    with np.errstate(invalid="ignore"):
        return shape.sd if shape.variable == "ln_1z" else shape.sd / (1 + shape.mean)


def range_of_errors(errors: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Give the range that a table is made for: 99 % of the errors.

    Parameters
    ----------
    errors : Float[np.ndarray, "n"]
        Errors in ln(1 + z).

    Returns
    -------
    tuple of (float, float)
        Lowest and highest.
    """
    low, high = np.quantile(errors, [_BEYOND, 1 - _BEYOND], method="nearest")
    return float(low), float(high)
