"""What is known of the redshift of each object, where it is not exact: a normal error, or a p(z) of any shape.

What a p(z) holds decides how it may be used, so it has to be said (`contains`). How it is used with the mass prior and
the luminosity is in `likelihood.redshifts`.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.columns import as_float64
from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.catalogue.redshift_shapes import (
    FromQuantiles,
    Mixture,
    Normal,
    OnGrid,
    RedshiftShape,
    Variable,
    check_nodes,
    check_variable,
)
from massmap_jax.errors import MassmapError

Contains = Literal["likelihood", "posterior", "posterior_with_flux"]
# An error that stands for a redshift that is exact.
_EXACT = 1e-5
# Above this error in ln(1 + z) a redshift says nothing.
_MOST = 2.0
# So many rows tell whether p(z) is that of the redshifts; chance does not make this share of rows lie below the mean.
_SEVERAL, _ROWS, _MOSTLY = 10, 10_000, 2.0 / 3.0


@dataclass(frozen=True, eq=False)
class RedshiftDistributions:
    """The redshifts of objects that are not known exactly, one row per object, in host memory.

    Make one with `gaussian`, `mixture`, `grid`, `quantiles` or `from_qp`, and give it to
    `HaloCatalogue.with_redshifts`.

    Attributes
    ----------
    shape : RedshiftShape
        The densities, one of those in `massmap_jax.catalogue.redshift_shapes`.
    contains : {"likelihood", "posterior", "posterior_with_flux"}
        What went into p(z): only what was measured, p(data | z); also a distribution of redshifts `code_prior`; or also
        the flux of the object, as with a prior in magnitudes or training on magnitudes.
    lum_moves : bool
        Whether the luminosity was computed from a flux with the catalogue's redshift, so that it changes with z.
    k_slope : float
        Such a luminosity goes as D_L^2 (1 + z)^k_slope.
    code_prior : tuple of (array, array) or None
        Redshifts and density of the distribution that a posterior holds; it is divided out.
    parent : tuple of (array, array) or None
        Redshifts and density dN/dz of all objects above the lowest mass of the mass prior, in the area of the survey
        and before any selection; None for that of the mass prior.
    selection : {"conditional", "joint"}
        What a fit with a selection divides by. "conditional": the probability to be in the catalogue, averaged over
        each object's own p(z). "joint": averaged over all redshifts of the parent distribution. The redshifts at which
        objects were found then tell of the relation too, so that distribution has to be right: give `parent` if the
        survey has ends in redshift.
    cosmology : str
        Of the distances; "" for that of the mass prior.
    num_nodes : int or None
        Redshift nodes per object; None for as many as are needed.

    See Also
    --------
    HaloCatalogue.with_redshifts : Give them to a catalogue.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[4e4, 6e4], redshift=[0.2, 0.4], sigma_ln_luminosity=0.05)
    >>> photo_z = mm.RedshiftDistributions.gaussian(
    ...     catalogue.redshift, [0.01, 0.02], variable="ln_1z", contains="likelihood", lum_moves=True
    ... )
    >>> posterior = mm.mass_posterior(
    ...     catalogue.with_redshifts(photo_z), mm.MassPrior.default(), mm.MassLuminosityRelation.preset("bigmali2017")
    ... )
    >>> posterior.redshift_sd.round(3).tolist()
    [0.012, 0.027]
    """

    shape: RedshiftShape
    contains: Contains
    lum_moves: bool
    k_slope: float = 0.0
    code_prior: tuple[np.ndarray, np.ndarray] | None = None
    parent: tuple[np.ndarray, np.ndarray] | None = None
    selection: Literal["conditional", "joint"] = "conditional"
    cosmology: str = ""
    num_nodes: int | None = None

    def __post_init__(self):
        if self.contains not in get_args(Contains):
            raise MassmapError(
                f"contains is {self.contains!r}: say what went into p(z), 'likelihood' (only the measurement: z_phot"
                " scatters about the true z), 'posterior' (also a distribution of redshifts, given as code_prior=) or"
                " 'posterior_with_flux' (also the flux, as with a prior in magnitudes)"
            )
        if not isinstance(self.lum_moves, bool | np.bool_):
            raise MassmapError(
                f"lum_moves is {self.lum_moves!r}: give True for a luminosity that was computed from a flux with this"
                " redshift, False for one that was not, such as a richness"
            )
        if self.contains == "posterior" and self.code_prior is None:
            raise MassmapError(
                "p(z) is a posterior: give code_prior=(z, density), the distribution of redshifts that went into it, so"
                " that it can be divided out"
            )
        if self.contains != "posterior" and self.code_prior is not None:
            raise MassmapError(f"code_prior has no effect where p(z) contains {self.contains!r}: leave it out")
        if self.contains == "posterior_with_flux" and self.parent is not None:
            raise MassmapError("parent has no effect where p(z) has seen the flux already: leave it out")
        for name in ("code_prior", "parent"):
            if getattr(self, name) is not None:
                _check_density(name, getattr(self, name))
        if not self.lum_moves and self.k_slope:
            raise MassmapError(f"k_slope={self.k_slope:g} has no effect on a luminosity that does not move with z")
        if self.selection not in ("conditional", "joint"):
            raise MassmapError(f"selection is {self.selection!r}: give 'conditional' or 'joint'")
        if self.num_nodes is not None and not 8 <= self.num_nodes <= 256:
            raise MassmapError(f"{self.num_nodes} redshift nodes: give 8 to 256")

    @classmethod
    def gaussian(
        cls,
        redshift,
        error,
        *,
        variable: Variable = "z",
        zero: Literal["refuse", "exact"] = "refuse",
        need_usable: bool = True,
        **options,
    ) -> "RedshiftDistributions":
        """Describe redshifts with a normal error.

        Parameters
        ----------
        redshift : array_like, (halo,)
            Measured redshifts.
        error : float or array_like, (halo,)
            Standard deviation, in `variable`.
        variable : {"z", "ln_1z"}, optional
            Whether the error is that of z, or of ln(1 + z), which is sigma_z / (1 + z).
        zero : {"refuse", "exact"}, optional
            What an error of 0 means: nothing that can be used, or an exact redshift.
        need_usable : bool, optional
            Refuse distributions of which none can be used, or most say nothing. Pass False for a part of a larger
            catalogue: its rows are flagged.
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions. Rows without a usable error are NaN.

        Raises
        ------
        MassmapError
            For unknown words, errors of 0 that are not said to be exact, or errors that are no errors of a redshift.
        """
        check_variable(variable)
        if zero not in ("refuse", "exact"):
            raise MassmapError(f"zero={zero!r} is not known: give 'refuse' or 'exact'")
        z = as_float64(in_unit(redshift, "", "redshift", "redshifts, which have no unit"), "redshift")
        error = in_unit(error, "", "redshift error", "it without a unit")
        sd = np.array(as_float64(error, "redshift error", rows=z.size, scalar=True))
        nothing = sd == 0
        if nothing.any() and zero == "refuse":
            raise MassmapError(
                f"the redshift error is 0 in {np.count_nonzero(nothing)} rows, first row {int(np.argmax(nothing))}: if"
                " these redshifts are spectroscopic, say so with zero='exact' (--z-err-zero exact); else give the error"
            )
        sd[nothing] = _EXACT
        with np.errstate(all="ignore"):
            sd[~(np.isfinite(z) & np.isfinite(sd) & (z >= 0) & (sd > 0))] = np.nan
            relative = sd / (1 + z) if variable == "z" else sd
            mean = z if variable == "z" else np.log1p(z)
            wide = relative > _MOST
        # Above that it is a placeholder such as 99.
        sd[wide] = np.nan
        if not need_usable:
            return cls(Normal(mean, sd, variable), **options)
        if not np.isfinite(sd).any():
            first = float(np.ravel(np.asarray(error, dtype=float))[0]) if np.size(error) else np.nan
            raise MassmapError(
                f"no row has a redshift error that can be used, of {sd.size}, first row 0 with value {first:g}: errors"
                f" are above 0 and below {_MOST:g} (1 + z); is it the right column? An error of velocities is divided"
                " by the speed of light, 299792.458 km/s, and logarithms of errors are none"
            )
        typical = float(np.nanmedian(relative[~wide]))
        if typical > 0.5:
            raise MassmapError(
                f"half of the redshift errors are above {typical:.2g} (1 + z): these say nothing of the redshift; is it"
                " an error of another column, or a percentage?"
            )
        return cls(Normal(mean, sd, variable), **options)

    @classmethod
    def mixture(cls, weights, means, sds, *, variable: Variable = "z", **options) -> "RedshiftDistributions":
        """Describe redshifts by sums of normal densities.

        Parameters
        ----------
        weights : array_like, (halo, component)
            Weights, in any normalisation: 0 for components that an object lacks. Or (component,), the same for all.
        means : array_like, (halo, component)
            Their means, in `variable`.
        sds : array_like, (halo, component)
            Their standard deviations, in `variable`; or (component,), the same for all.
        variable : {"z", "ln_1z"}, optional
            Whether the densities are normal in z, or in ln(1 + z).
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions. Rows with a weight below 0 or without any, and those with a standard deviation that is
            not above 0, cannot be used.

        Raises
        ------
        MassmapError
            For shapes that do not agree, or where no row can be used.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> two_humps = mm.RedshiftDistributions.mixture(
        ...     [[0.7, 0.3], [1.0, 0.0]], [[0.2, 0.5], [0.3, 0.0]], [[0.02, 0.05], [0.02, 0.0]],
        ...     contains="likelihood", lum_moves=True,
        ... )
        >>> two_humps.usable.tolist()
        [True, True]
        """
        check_variable(variable)
        return cls(Mixture.of(weights, means, sds, variable), **options)

    @classmethod
    def grid(cls, nodes, density, *, need_usable: bool = True, **options) -> "RedshiftDistributions":
        """Describe redshifts by p(z) on a grid that all objects share.

        Parameters
        ----------
        nodes : array_like, (node,)
            Redshifts, increasing.
        density : array_like, (halo, node)
            p(z) there, in any normalisation. ln p is linear between the nodes.
        need_usable : bool, optional
            Refuse distributions of which none can be used, or all are cumulative. Pass False for a part of a larger
            catalogue: its rows are flagged.
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions. Rows that are not finite, negative somewhere, or 0 everywhere, cannot be used.

        Raises
        ------
        MassmapError
            For nodes that do not increase, shapes that do not agree, or where no row can be used.
        """
        return cls(OnGrid.of(nodes, density, need_usable), **options)

    @classmethod
    def quantiles(cls, levels, values, *, need_usable: bool = True, **options) -> "RedshiftDistributions":
        """Describe redshifts by quantiles of p(z).

        Between the quantiles, the normal score of the CDF is a monotone cubic of z; beyond them it goes on as a
        straight line, so that p(z) ends as a normal density does.

        Parameters
        ----------
        levels : array_like, (level,)
            CDF levels, increasing, between 0 and 1: nine or more, from 0.02 or less to 0.98 or more.
        values : array_like, (halo, level)
            Redshifts below which lies that share of p(z).
        need_usable : bool, optional
            Refuse distributions of which none can be used. Pass False for a part of a larger
            catalogue: its rows are flagged.
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions. Rows that are not finite or do not increase cannot be used.

        Raises
        ------
        MassmapError
            For too few levels, shapes that do not agree, or where no row can be used.
        """
        return cls(FromQuantiles.of(levels, values, need_usable), **options)

    @classmethod
    def from_qp(cls, ensemble, *, z=None, **options) -> "RedshiftDistributions":
        """Describe redshifts by an ensemble of the package qp (qp-prob).

        Parameters
        ----------
        ensemble : qp.Ensemble
            One distribution per object; whatever has a method `pdf` of redshifts will do.
        z : array_like, (node,), optional
            Redshifts at which p(z) is evaluated; by default those of the ensemble's own grid, where it has one.
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions, on that grid.

        Raises
        ------
        MassmapError
            For something without a `pdf`, an ensemble without a grid of its own where none is given, and as `grid`.
        """
        if not callable(getattr(ensemble, "pdf", None)):
            raise MassmapError(f"a {type(ensemble).__name__} has no method pdf: give an ensemble of qp")
        if z is None:
            metadata = getattr(ensemble, "metadata", {})
            z = (metadata() if callable(metadata) else metadata).get("xvals")
            if z is None:
                raise MassmapError(
                    "the ensemble has no grid of its own: say where to evaluate its p(z), with z=, redshifts that are"
                    " closer than a third of the narrowest p(z)"
                )
            z = np.ravel(z)
        z = check_nodes(z)
        return cls.grid(z, np.atleast_2d(ensemble.pdf(z)), **options)

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def usable(self) -> np.ndarray:
        """Which rows can be used.

        Returns
        -------
        Bool[np.ndarray, "halo"]
            False where the error or p(z) is missing or impossible.
        """
        return self.shape.usable

    def take(self, rows) -> "RedshiftDistributions":
        """Take some rows.

        Parameters
        ----------
        rows : Int[np.ndarray, "row"]
            Row numbers.

        Returns
        -------
        RedshiftDistributions
            The chosen rows.
        """
        return replace(self, shape=self.shape.take(rows))

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each distribution lies.

        Returns
        -------
        low, high : Float[np.ndarray, "halo"]
            Redshifts, from 0 on.
        """
        return self.shape.bounds()

    def refuse_others(self, redshift: Float[np.ndarray, "halo"], label: str) -> None:
        """Refuse p(z) that most of the redshifts of a catalogue have nothing to do with.

        Parameters
        ----------
        redshift : Float[np.ndarray, "halo"]
            Redshifts of the catalogue.
        label : str
            How it is called.

        Raises
        ------
        MassmapError
            Where more than half of the redshifts lie outside of their own p(z), or two thirds where p(z) on a grid is
            below its mean.
        """
        low, high = self.bounds()
        with np.errstate(invalid="ignore"):
            known = self.usable & np.isfinite(redshift) & (redshift >= 0)
            beside = known & ((redshift < low) | (redshift > high))
        if np.count_nonzero(beside) > 0.5 * np.count_nonzero(known):
            first = int(np.argmax(beside))
            raise MassmapError(
                f"the redshifts of {label} lie outside of their own p(z) in {np.count_nonzero(beside)} of"
                f" {np.count_nonzero(known)} rows, first row {first}: z = {redshift[first]:g}, and p(z) goes from"
                f" {low[first]:g} to {high[first]:g}; is the grid of redshifts right, and are the rows in the same"
                " order?"
            )
        some = np.flatnonzero(known & (redshift > 0))[:_ROWS]
        if not isinstance(self.shape, OnGrid) or some.size < _SEVERAL:
            return
        nodes, density, z = self.shape.nodes, np.exp(self.shape.ln_values[some]), redshift[some]
        mean = np.trapezoid(density, nodes, axis=1) / (nodes[-1] - nodes[0])
        here = np.array([np.interp(at, nodes, row, left=1.0, right=1.0) for at, row in zip(z, density, strict=True)])
        if np.count_nonzero(low := here < mean) > _MOSTLY * some.size:
            first = int(np.argmax(low))
            raise MassmapError(
                f"p(z) of {label} are lower at the catalogue's own redshift than on the average over their grid in"
                f" {np.count_nonzero(low)} of {some.size} rows, first row {some[first]} with z = {z[first]:g}: see"
                " whether these are densities (and no chi^2 or -ln p), their redshifts (z_grid=) are right, and the"
                " rows in the same order"
            )

    def ln_likelihood(self, z: Float[np.ndarray, "halo q"]) -> Float[np.ndarray, "halo q"]:
        """Evaluate ln of what the measurement says of z, with the code's prior divided out.

        Parameters
        ----------
        z : Float[np.ndarray, "halo q"]
            Redshifts of each object.

        Returns
        -------
        Float[np.ndarray, "halo q"]
            ln p(data | z), or ln p(z) per unit z where that has seen the flux; in any normalisation.
        """
        value = self.shape.ln_density(z)
        if self.shape.variable == "ln_1z" and self.contains != "likelihood":
            value = value - np.log1p(z)  # a density per unit z
        return value if self.code_prior is None else value - ln_density_at(self.code_prior, z)


def ln_density_at(table: tuple[np.ndarray, np.ndarray], z) -> np.ndarray:
    """Interpolate ln of a density of redshifts.

    Parameters
    ----------
    table : tuple of (array, array)
        Redshifts and density.
    z : Float[np.ndarray, "halo q"]
        Where.

    Returns
    -------
    Float[np.ndarray, "halo q"]
        ln of the density, which is linear between the nodes and continued as a constant.
    """
    with np.errstate(divide="ignore"):
        return np.log(np.interp(z, *table))


def _check_density(name: str, table) -> None:
    """Refuse a density of redshifts that is none."""
    z, density = (plain_numbers(a, name) for a in table)
    good = z.ndim == 1 and z.shape == density.shape and z.size > 1
    if not good or not (np.isfinite(z).all() and (np.diff(z) > 0).all()):
        raise MassmapError(f"{name} has to be two arrays of one length, redshifts that increase and a density")
    if not (np.isfinite(density).all() and (density >= 0).all() and density.max() > 0):
        raise MassmapError(f"the density of {name} has to be finite, nowhere below 0 and somewhere above")
