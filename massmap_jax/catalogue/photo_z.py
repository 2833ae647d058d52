"""What is known of the redshift of each object, where it is not exact: a normal error, or p(z) on a grid.

What a p(z) holds decides how it may be used, so it has to be said (`contains`). How it is used with the mass prior and
the luminosity is in `likelihood.redshifts`.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.columns import as_float64
from massmap_jax.errors import MassmapError

Contains = Literal["likelihood", "posterior", "posterior_with_flux"]
Variable = Literal["z", "ln_1z"]
# Nodes reach this many standard deviations, or down to exp(-DEPTH) of the peak of a grid.
REACH, _DEPTH = 5.0, 12.5
# An error that stands for a redshift that is exact.
_EXACT = 1e-5
# Above this error in ln(1 + z) a redshift says nothing.
_MOST = 2.0


@dataclass(frozen=True, eq=False)
class RedshiftDistributions:
    """The redshifts of objects that are not known exactly, one row per object, in host memory.

    Make one with `gaussian` or `grid`, and give it to `HaloCatalogue.with_redshifts`.

    Attributes
    ----------
    contains : {"likelihood", "posterior", "posterior_with_flux"}
        What went into p(z): only what was measured, p(data | z); also a distribution of redshifts `code_prior`; or also
        the flux of the object, as with a prior in magnitudes or training on magnitudes.
    lum_moves : bool
        Whether the luminosity was computed from a flux with the catalogue's redshift, so that it changes with z.
    k_slope : float
        Such a luminosity goes as D_L^2 (1 + z)^k_slope.
    mean, sd : Float[np.ndarray, "halo"] or None
        Mean and standard deviation of a normal distribution, in `variable`.
    variable : {"z", "ln_1z"}
        What is normal: z, or ln(1 + z).
    nodes : Float[np.ndarray, "node"] or None
        Redshifts of a grid.
    ln_density : Float[np.ndarray, "halo node"] or None
        ln p(z) there, in any normalisation; linear between the nodes.
    code_prior : tuple of (array, array) or None
        Redshifts and density of the distribution that a posterior holds; it is divided out.
    parent : tuple of (array, array) or None
        Redshifts and density dN/dz of all objects above the lowest mass of the mass prior, in the area of the survey
        and before any selection; None for that of the mass prior.
    cosmology : str
        Of the distances; "" for that of the mass prior.
    num_nodes : int
        Redshift nodes per object.

    See Also
    --------
    HaloCatalogue.with_redshifts : Give them to a catalogue.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[4e4, 6e4], redshift=[0.2, 0.4])
    >>> photo_z = mm.RedshiftDistributions.gaussian(
    ...     catalogue.redshift, [0.01, 0.02], variable="ln_1z", contains="likelihood", lum_moves=True
    ... )
    >>> posterior = mm.mass_posterior(
    ...     catalogue.with_redshifts(photo_z), mm.MassPrior.default(), mm.MassLuminosityRelation.preset("bigmali2017")
    ... )
    >>> posterior.redshift_sd.round(3).tolist()
    [0.012, 0.027]
    """

    contains: Contains
    lum_moves: bool
    k_slope: float = 0.0
    mean: Float[np.ndarray, " halo"] | None = None
    sd: Float[np.ndarray, " halo"] | None = None
    variable: Variable = "z"
    nodes: Float[np.ndarray, " node"] | None = None
    ln_density: Float[np.ndarray, "halo node"] | None = None
    code_prior: tuple[np.ndarray, np.ndarray] | None = None
    parent: tuple[np.ndarray, np.ndarray] | None = None
    cosmology: str = ""
    num_nodes: int = 32

    def __post_init__(self):
        if self.contains not in get_args(Contains):
            raise MassmapError(
                f"contains is {self.contains!r}: say what went into p(z), 'likelihood' (only the measurement: z_phot"
                " scatters about the true z), 'posterior' (also a distribution of redshifts, given as code_prior=) or"
                " 'posterior_with_flux' (also the flux, as with a prior in magnitudes)"
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
        if not 8 <= self.num_nodes <= 256:
            raise MassmapError(f"{self.num_nodes} redshift nodes: give 8 to 256")

    @classmethod
    def gaussian(
        cls, redshift, error, *, variable: Variable = "z", zero: Literal["refuse", "exact"] = "refuse", **options
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
        if variable not in get_args(Variable):
            raise MassmapError(f"variable {variable!r} is not known: give 'z' or 'ln_1z' (the error over 1 + z)")
        if zero not in ("refuse", "exact"):
            raise MassmapError(f"zero={zero!r} is not known: give 'refuse' or 'exact'")
        z = as_float64(redshift, "redshift")
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
        if not np.isfinite(sd).any():
            raise MassmapError(
                f"no row has a redshift error that can be used, of {sd.size}: errors are above 0 and below"
                f" {_MOST:g} (1 + z); is it the right column?"
            )
        typical = float(np.nanmedian(relative[~wide]))
        if typical > 0.5:
            raise MassmapError(
                f"half of the redshift errors are above {typical:.2g} (1 + z): these say nothing of the redshift; is it"
                " an error of another column, or a percentage?"
            )
        return cls(mean=mean, sd=sd, variable=variable, **options)

    @classmethod
    def grid(cls, nodes, density, **options) -> "RedshiftDistributions":
        """Describe redshifts by p(z) on a grid that all objects share.

        Parameters
        ----------
        nodes : array_like, (node,)
            Redshifts, increasing.
        density : array_like, (halo, node)
            p(z) there, in any normalisation. ln p is linear between the nodes.
        **options : object
            Attributes of `RedshiftDistributions`, by name; `contains` and `lum_moves` are needed.

        Returns
        -------
        RedshiftDistributions
            The distributions. Rows that are not finite, or 0 everywhere, are NaN.

        Raises
        ------
        MassmapError
            For nodes that do not increase, shapes that do not agree, or negative densities.
        """
        z = np.asarray(nodes, dtype=np.float64)
        p = np.array(density, dtype=np.float64)
        if z.ndim != 1 or z.size < 3 or not (np.isfinite(z).all() and (np.diff(z) > 0).all() and z[0] >= 0):
            raise MassmapError("the redshifts of a p(z) grid have to be at least 3 numbers from 0 on that increase")
        if p.ndim != 2 or p.shape[1] != z.size:
            raise MassmapError(
                f"p(z) has shape {p.shape} and {z.size} redshifts: give one row per object and one column per redshift"
            )
        below = p < 0
        if below.any():
            row, column = np.argwhere(below)[0]
            raise MassmapError(
                f"p(z) is negative in {np.count_nonzero(below.any(axis=1))} rows, first row {row} at z = {z[column]:g}:"
                f" {p[row, column]:g}; a density is not (are these logarithms?)"
            )
        top = p.max(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            # exp(-60) of the peak stands for 0, so that the logarithm can be interpolated.
            ln_p = np.log(np.maximum(p / top, 1e-26))
        ln_p[~(np.isfinite(p).all(axis=1) & (top[:, 0] > 0))] = np.nan
        if np.isnan(ln_p).all():
            raise MassmapError(f"none of the {p.shape[0]} p(z) can be used: each is NaN somewhere, or 0 everywhere")
        return cls(nodes=z, ln_density=ln_p, **options)

    def __len__(self) -> int:
        return (self.mean if self.ln_density is None else self.ln_density).shape[0]  # type: ignore[union-attr]

    @property
    def usable(self) -> np.ndarray:
        """Which rows can be used.

        Returns
        -------
        Bool[np.ndarray, "halo"]
            False where the error or the grid is missing.
        """
        return np.isfinite(self.sd if self.ln_density is None else self.ln_density[:, 0])  # type: ignore[arg-type]

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
        own = {n: getattr(self, n) for n in ("mean", "sd", "ln_density")}
        return replace(self, **{name: value[rows] for name, value in own.items() if value is not None})

    def bounds(self) -> tuple[Float[np.ndarray, " halo"], Float[np.ndarray, " halo"]]:
        """Give the redshifts between which each distribution lies.

        Returns
        -------
        low, high : Float[np.ndarray, "halo"]
            Redshifts, from 0 on.
        """
        if self.ln_density is None or self.nodes is None:
            assert self.mean is not None and self.sd is not None
            ends = self.mean - REACH * self.sd, self.mean + REACH * self.sd
            low, high = ends if self.variable == "z" else (np.expm1(ends[0]), np.expm1(ends[1]))
        else:
            there = self.ln_density > -_DEPTH
            last = there.shape[1] - 1
            first = np.argmax(there, axis=1)
            final = last - np.argmax(there[:, ::-1], axis=1)
            low, high = self.nodes[np.maximum(first - 1, 0)], self.nodes[np.minimum(final + 1, last)]
        return np.maximum(low, 0.0), high

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
        if self.ln_density is None or self.nodes is None:
            assert self.mean is not None and self.sd is not None
            x = z if self.variable == "z" else np.log1p(z)
            value = -0.5 * ((x - self.mean[:, None]) / self.sd[:, None]) ** 2
            if self.variable == "ln_1z" and self.contains != "likelihood":
                value = value - np.log1p(z)  # a density per unit z
        else:
            cell = np.clip(np.searchsorted(self.nodes, z, side="right") - 1, 0, self.nodes.size - 2)
            fraction = (z - self.nodes[cell]) / (self.nodes[cell + 1] - self.nodes[cell])
            rows = np.arange(len(self))[:, None]
            left, right = self.ln_density[rows, cell], self.ln_density[rows, cell + 1]
            value = left + fraction * (right - left)
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
    z, density = (np.asarray(a, dtype=np.float64) for a in table)
    good = z.ndim == 1 and z.shape == density.shape and z.size > 1
    if not good or not (np.isfinite(z).all() and (np.diff(z) > 0).all()):
        raise MassmapError(f"{name} has to be two arrays of one length, redshifts that increase and a density")
    if not (np.isfinite(density).all() and (density >= 0).all() and density.max() > 0):
        raise MassmapError(f"the density of {name} has to be finite, nowhere below 0 and somewhere above")
