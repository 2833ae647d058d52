"""The mass prior p(ln M | z): a normalised halo mass function, or any other table of densities.

ln p is linear in ln M within a cell, linear in z between redshift nodes, and renormalised in closed form at each z.
Everything is stored as ln p per ln M, so dn/dM, dn/dlnM and dn/dlog10M cannot be confused after `from_table`, and
float32 does not overflow.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from massmap_jax.catalogue.archives import read_npz, told_of_archive
from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import FITS, CosmologyParameters, Fit, chebyshev_nodes, chebyshev_sum, mass_function
from massmap_jax.halo.mass_function import log10_mass_nodes, redshift_nodes
from massmap_jax.html_table import html_summary
from massmap_jax.prior import panels

_BATCH = 1024
_NORM_NODES = 8
DEFAULT_TABLE = Path(__file__).parent.parent / "data" / "tinker10_planck18_200m.npz"


def _mean_ratio(difference):
    """(1 - exp(-d)) / d for d >= 0: the mean over a cell of a density that falls by exp(-d), over its maximum."""
    near = difference < 0.03
    safe = jnp.where(near, 1.0, difference)
    return jnp.where(near, _mean_ratio_series(jnp.where(near, difference, 0.0)), -jnp.expm1(-safe) / safe)


def _mean_ratio_series(d):
    """Taylor series of (1 - exp(-d)) / d for small d."""
    return 1 - d / 2 * (1 - d / 3 * (1 - d / 4 * (1 - d / 5 * (1 - d / 6))))


def _cell_mass(row, nodes):
    """Integral over each cell of exp(ln p), with ln p linear between the cell's ends; (mass,) -> (mass - 1,).

    This is the logarithmic mean of the end densities times the cell width, with one exp per node. In a nearly flat
    cell the difference cancels, so a series is used there.
    """
    density = jnp.exp(row)
    top, d = jnp.maximum(density[:-1], density[1:]), jnp.abs(jnp.diff(row))
    near = d < 0.03
    mean = jnp.abs(jnp.diff(density)) / jnp.where(near, 1.0, d)
    return jnp.diff(nodes) * jnp.where(near, top * _mean_ratio_series(jnp.where(near, d, 0.0)), mean)


@jax.jit
def _normalised(ln_density, nodes):
    """ln densities (redshift, mass), each row with an integral of 1, differentiable."""
    # The result does not depend on the largest value, whose derivative can be 0 / 0 where it is rounded anew.
    relative = ln_density - jax.lax.stop_gradient(ln_density.max(axis=1, keepdims=True))
    cells = jax.vmap(_cell_mass, in_axes=(0, None))(relative, nodes)
    return relative - jnp.log(cells.sum(axis=1, keepdims=True))


def _of_mass_function(cosmology, redshift, ln_mass, fit, mass_definition) -> dict[str, Any]:
    """The arrays of a prior that depend on the cosmology, and its mass nodes."""
    ln_mass = jnp.asarray(ln_mass, dtype=float)
    ln_n = mass_function(cosmology, redshift, ln_mass, fit=fit, mass_definition=mass_definition)
    return {"ln_mass_nodes": ln_mass, "ln_density": _normalised(ln_n, ln_mass), "ln_number": _ln_number(ln_n, ln_mass)}


@jax.jit
def _ln_number(ln_n, ln_mass):
    """ln of the number density of all halos between the ends of the masses, at each redshift."""
    return jax.nn.logsumexp(ln_n + jnp.log(jnp.asarray(jnp.gradient(ln_mass))), axis=1)


class MassPrior(eqx.Module):
    """Prior density p(ln M | z) of the halo mass [Msun, no h] at each redshift.

    Make one with `MassPrior.default`, `MassPrior.from_table`, `MassPrior.from_hmf`, `MassPrior.from_cosmology` or
    `MassPrior.load`. Halo mass functions, the default among them, are densities of halo *centrals*; galaxies that may
    be satellites are for `massmap_jax.host_posterior`.

    Attributes
    ----------
    redshift_nodes : Float[Array, "j"]
        Redshifts of the table, increasing.
    ln_mass_nodes : Float[Array, "k"]
        ln of the masses of the table [ln Msun], increasing, the same at every redshift.
    ln_density : Float[Array, "j k"]
        ln p(ln M | z_j), density per ln M, normalised at each redshift node. It is an array leaf of this module, so
        `log_prob`, `cdf` and everything built on them can be differentiated with respect to it.
    support : {"extend", "sharp"}
        What the ends of the masses mean. "extend": the table simply ends there, and the `edge_mass` of a posterior
        says how much of it would lie beyond. "sharp": the ends are physical, and posteriors that touch them are not
        flagged.
    snap : {"upper"} or None
        None: interpolate in redshift. "upper": take the next redshift node up, as the 2017 code did; for comparison
        only.
    mass_definition : str
        "200m", "500c", "vir", "fof", ... This label travels into every output; masses are never converted.
    description : str
        Where the table comes from, for outputs.
    uniform : bool
        Whether the masses are in equal steps of ln M.
    cosmology : str
        Cosmology of the mass function, a name or parameters as text, compared with that of maps (`labels`).
    ln_number : Float[Array, "j"] or None
        ln of the comoving number density of all halos of the table at each redshift node, up to a constant; None where
        the table does not say it. Redshifts that are not exact need it.

    Raises
    ------
    MassmapError
        If the shape of `ln_density` is not that of the redshift and mass nodes.

    Notes
    -----
    ln p is linear in ln M within a cell and linear in z between redshift nodes, and is renormalised in closed form at
    each redshift. A table with one redshift holds at every redshift. Public methods broadcast their arguments and work
    in blocks, so memory stays bounded.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> prior = mm.MassPrior.default()
    >>> prior.mass_definition, prior.z_max
    ('200m', 4.0)

    Fewer halos are massive, and they are rarer at high redshift:

    >>> above = 1 - prior.cdf(np.log(1e14), np.array([0.2, 1.0, 2.0]))
    >>> above.shape
    (3,)
    >>> bool(above[0] > above[1] > above[2])
    True
    """

    redshift_nodes: Float[Array, "j"]
    ln_mass_nodes: Float[Array, "k"]
    ln_density: Float[Array, "j k"]
    support: Literal["extend", "sharp"] = eqx.field(static=True, default="extend")
    snap: Literal["upper"] | None = eqx.field(static=True, default=None)
    mass_definition: str = eqx.field(static=True, default="unknown")
    description: str = eqx.field(static=True, default="table")
    uniform: bool = eqx.field(static=True, default=False)
    cosmology: str = eqx.field(static=True, default="unknown")
    ln_number: Float[Array | np.ndarray, "j"] | None = None

    def __check_init__(self):
        shape = (self.redshift_nodes.shape[0], self.ln_mass_nodes.shape[0])
        if self.ln_density.shape != shape:
            raise MassmapError(f"ln_density has shape {self.ln_density.shape}; redshift and mass nodes need {shape}")

    def _repr_html_(self) -> str:
        """What a notebook shows: where the prior comes from, and its range."""
        log10_mass, z = np.asarray(self.ln_mass_nodes) / np.log(10), np.asarray(self.redshift_nodes)
        rows = [
            ("source", self.description),
            ("masses", f"{self.mass_definition}, Msun without h"),
            ("log10(M/Msun)", f"{log10_mass[0]:.2f} to {log10_mass[-1]:.2f} in {log10_mass.size} nodes"),
            ("redshift", f"{z[0]:g} to {z[-1]:g} in {z.size} nodes"),
            ("ends of the table", self.support),
            ("cosmology", self.cosmology),
        ]
        return html_summary("MassPrior", None, rows)

    # -- construction -------------------------------------------------------------------------------------------

    @classmethod
    def from_table(
        cls,
        redshift,
        mass,
        density,
        *,
        per: Literal["mass", "ln_mass", "log10_mass"] = "mass",
        mass_unit: Literal["Msun", "Msun/h"] = "Msun",
        h: float | None = None,
        snap: Literal["upper"] | None = None,
        support: Literal["extend", "sharp"] = "extend",
        mass_definition: str = "unknown",
        description: str = "table",
        cosmology: str = "unknown",
        number_density: bool = False,
    ) -> "MassPrior":
        """Make a prior from a table of densities.

        Parameters
        ----------
        redshift : array_like, (j,)
            Redshift nodes, increasing; or the first of three columns of equal length, sorted by redshift and then
            mass.
        mass : array_like, (k,)
            Masses common to all redshifts [Msun, or Msun/h, see `mass_unit`], increasing, at least 3; or the second
            column.
        density : array_like, (j, k)
            Density at each node, in any normalisation; or the third column.
        per : {"mass", "ln_mass", "log10_mass"}
            The variable that `density` is per unit of: "mass" for dn/dM, "ln_mass" for dn/dlnM, "log10_mass" for
            dn/dlog10M.
        mass_unit : {"Msun", "Msun/h"}
            Unit of `mass`. Masses in Msun/h are converted once, here: M[Msun] = m[Msun/h] / h.
        h : float, optional
            The little h of `mass_unit` "Msun/h".
        snap : {"upper"} or None
            "upper" takes the next redshift node up instead of interpolating, as the 2017 code did.
        support : {"extend", "sharp"}
            "sharp" where the ends of the masses are physical; see the class.
        mass_definition : str
            Definition of the masses, such as "200m": a label that travels into every output.
        description : str
            Where the table comes from, for outputs.
        cosmology : str
            Cosmology of the mass function, a label that is compared with that of maps.
        number_density : bool
            Whether `density` is a comoving number density, so that its integral says how many halos there are at each
            redshift; False for a table that is normalised at each redshift.

        Returns
        -------
        MassPrior
            The prior, normalised at each redshift.

        Raises
        ------
        MassmapError
            If an option is unknown, shapes do not match, the unit is not Msun (or masses look like log10 M), nodes do
            not increase, or a density is negative, not finite, or zero elsewhere than at the massive end.

        Notes
        -----
        Zero densities at the massive end (where dn/dM underflows) are replaced: the slope of ln p before them is
        continued.

        Examples
        --------
        dn/dM as a power law, steeper at z = 1 than at z = 0:

        >>> import numpy as np
        >>> import massmap_jax as mm
        >>> mass = np.geomspace(1e12, 1e15, 31)
        >>> density = [mass**-1.9, mass**-2.1]
        >>> prior = mm.MassPrior.from_table([0.0, 1.0], mass, density, per="mass", mass_definition="200c")
        >>> prior.ln_density.shape
        (2, 31)
        >>> round(float(prior.cdf(np.log(1e13), 0.5)), 2)
        0.9
        """
        if per not in ("mass", "ln_mass", "log10_mass"):
            raise MassmapError(f"prior density per {per!r} is not known: give per='mass', 'ln_mass' or 'log10_mass'")
        if snap not in (None, "upper"):
            raise MassmapError(f"prior snap {snap!r} is not known: give None or 'upper'")
        if support not in ("extend", "sharp"):
            raise MassmapError(f"prior support {support!r} is not known: give 'extend' or 'sharp'")
        redshift = in_unit(redshift, "", "prior redshift")
        mass = in_unit(mass, "Msun", "prior mass", "it in Msun, or mass_unit='Msun/h' and numbers without a unit")
        given = {"redshift": redshift, "mass": mass, "density": density}
        redshift, mass, density = (np.atleast_1d(plain_numbers(a, f"prior {name}")) for name, a in given.items())
        if density.ndim == 1 and redshift.shape == mass.shape == density.shape and redshift.size > 1:
            redshift, mass, density = _columns_to_grid(redshift, mass, density)
        density = np.atleast_2d(density)
        if density.shape != (redshift.size, mass.size):
            raise MassmapError(
                f"prior density has shape {density.shape}, but redshifts are {redshift.size} and masses {mass.size}"
            )
        if mass_unit == "Msun/h":
            if h is None or not 0 < h < 2:
                raise MassmapError(f"prior masses in Msun/h need h, and h is {h}: give h=0.7, say")
            mass = mass / h
        elif mass_unit != "Msun":
            raise MassmapError(f"prior mass unit {mass_unit!r} is not known: give 'Msun' or 'Msun/h' with h")
        _check_increasing("prior redshift", redshift, least=0.0)
        _check_increasing("prior mass", mass, least=np.nextafter(0, 1))
        if mass.size < 3:
            raise MassmapError(f"a prior needs at least 3 masses, and this table has {mass.size}")
        if mass[-1] < 1e3:
            raise MassmapError(
                f"prior masses end at {mass[-1]:g} Msun: these look like log10 M; give masses in Msun (10**column)"
            )
        ln_mass = np.log(mass)
        ln_density = _ln_positive(density, redshift, mass)
        ln_density += {"mass": ln_mass, "ln_mass": 0.0, "log10_mass": 0.0}[per]
        ln_number = _ln_norm_float64(ln_density, ln_mass)
        ln_density -= ln_number[:, None]
        steps = np.diff(ln_mass)
        return cls(
            redshift_nodes=redshift,
            ln_mass_nodes=ln_mass,
            ln_density=ln_density,
            ln_number=ln_number if number_density else None,
            support=support,
            snap=snap,
            mass_definition=mass_definition,
            description=description,
            uniform=bool(np.ptp(steps) < 1e-6 * steps.mean()),
            cosmology=cosmology,
        )

    @classmethod
    def from_hmf(cls, *, support: Literal["extend", "sharp"] = "extend", **options) -> "MassPrior":
        """Make a prior from a halo mass function that the package hmf computes.

        Parameters
        ----------
        support : {"extend", "sharp"}
            As in `from_table`.
        **options : object
            Options of `massmap_jax.halo.mass_function.hmf_table`: the fit, the cosmology, the mass definition, the
            nodes.

        Returns
        -------
        MassPrior
            The prior of halo centrals: the mass function counts halos, not satellites (`massmap_jax.host_posterior`).

        See Also
        --------
        massmap_jax.halo.mass_function.hmf_table : The table, with all its options.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> nodes = dict(redshift=[0.0, 0.5], log10_mass_range=(13.0, 15.0), dlog10_mass=0.1)
        >>> prior = mm.MassPrior.from_hmf(hmf_model="Tinker08", mass_definition="500c", **nodes)
        >>> prior.mass_definition, prior.ln_density.shape
        ('500c', (2, 21))
        """
        from massmap_jax.halo.mass_function import hmf_table

        redshift, mass, density, meta = hmf_table(**options)
        return cls.from_table(
            redshift,
            mass,
            density,
            per="ln_mass",
            support=support,
            mass_definition=meta["mass_definition"],
            description=meta["description"],
            cosmology=str(options.get("cosmology", "Planck18")),
            number_density=True,
        )

    @classmethod
    def from_cosmology(
        cls,
        cosmology: CosmologyParameters | str = "Planck18",
        *,
        fit: Fit = "Tinker10",
        mass_definition: str = "200m",
        redshift=None,
        log10_mass_range: tuple[float, float] = (10.0, 16.0),
        dlog10_mass: float = 0.02,
        support: Literal["extend", "sharp"] = "extend",
    ) -> "MassPrior":
        """Make a prior from a cosmology in JAX, so that everything built on it has gradients in the cosmology.

        Parameters
        ----------
        cosmology : CosmologyParameters or str
            The cosmology; its numbers may be traced by JAX, under `jax.grad`, `jax.vmap` or `jax.jit`.
        fit : {"Tinker08", "Tinker10"}
            Mass function of Tinker et al. 2008 or 2010.
        mass_definition : str
            "200m", "200c", "500c" or "vir".
        redshift : array_like, (j,), optional
            Redshift nodes, increasing; 0 to 4 in steps of 0.05 by default.
        log10_mass_range : tuple of (float, float)
            log10 of the lowest and highest mass [log10 Msun].
        dlog10_mass : float
            Step in log10 mass, made smaller where the range would not hold a whole number of steps.
        support : {"extend", "sharp"}
            As in `from_table`.

        Returns
        -------
        MassPrior
            The prior of halo centrals.

        Raises
        ------
        MassmapError
            For an unknown name, an incomplete cosmology, nodes that are not valid, or a mass definition that the fit
            was not made for at one of the redshifts (unless JAX traces the cosmology).

        See Also
        --------
        from_hmf : More mass functions and transfer functions, by hmf, without gradients.
        massmap_jax.halo.abundance.mass_function : The mass function itself.

        Notes
        -----
        ln p agrees with that of hmf within 4e-6 up to z = 4 and 3e15 Msun, in five combinations of cosmology, fit and
        definition (`tests/halo/test_abundance.py -s` prints the differences).

        Examples
        --------
        >>> import jax, numpy as np
        >>> import massmap_jax as mm
        >>> from massmap_jax.halo.abundance import CosmologyParameters
        >>> nodes = dict(redshift=[0.0, 0.5], log10_mass_range=(13.0, 15.5), dlog10_mass=0.1)
        >>> def ln_density(sigma8):
        ...     cosmology = CosmologyParameters.of("Planck18", sigma8=sigma8)
        ...     prior = mm.MassPrior.from_cosmology(cosmology, fit="Tinker08", mass_definition="500c", **nodes)
        ...     return prior.log_prob(np.log(1e15), 0.3)
        >>> bool(jax.grad(ln_density)(0.8) > 0)
        True
        """
        redshift, log10_mass = redshift_nodes(redshift), log10_mass_nodes(log10_mass_range, dlog10_mass)
        name = cosmology if isinstance(cosmology, str) else "CosmologyParameters"
        if isinstance(cosmology, str):
            cosmology = CosmologyParameters.of(cosmology)
        return cls(
            redshift_nodes=redshift,
            **_of_mass_function(cosmology, redshift, log10_mass * np.log(10.0), fit, mass_definition),
            support=support,
            mass_definition=mass_definition,
            description=f"{fit} dn/dlnM, {mass_definition}, {name}, EH transfer, massmap_jax",
            uniform=True,
            cosmology=name if name != "CosmologyParameters" else "unknown",
        )

    @property
    def fit(self) -> Fit:
        """The fit behind a prior that `at_cosmology` can move: "Tinker08" or "Tinker10".

        Raises
        ------
        MassmapError
            For a prior that is no such mass function, or has another transfer function.
        """
        fit: Fit
        for fit in get_args(Fit):
            if self.description.startswith(f"{fit} dn/dlnM, ") and ", EH transfer" in self.description:
                return fit
        raise MassmapError(
            f"the mass prior ({self.description}) cannot follow the cosmology: that needs dn/dlnM of "
            f"{' or '.join(FITS)} with the EH transfer function, from MassPrior.default, from_cosmology or from_hmf"
        )

    def at_cosmology(self, cosmology: CosmologyParameters, redshift=None) -> "MassPrior":
        """Make the prior of the same mass function at another cosmology, in JAX.

        Parameters
        ----------
        cosmology : CosmologyParameters
            The cosmology; its numbers may be traced by JAX.
        redshift : array_like, (j,), optional
            Redshift nodes; those of this prior by default.

        Returns
        -------
        MassPrior
            The same fit, mass definition and mass nodes.

        Raises
        ------
        MassmapError
            For a prior without a `fit`, or as `from_cosmology` does.
        """
        fit = self.fit
        redshift = self.redshift_nodes if redshift is None else redshift_nodes(redshift)
        return MassPrior(
            redshift_nodes=redshift,
            **_of_mass_function(cosmology, redshift, self.ln_mass_nodes, fit, self.mass_definition),
            support=self.support,
            snap=self.snap,
            mass_definition=self.mass_definition,
            description=f"{fit} dn/dlnM, {self.mass_definition}, CosmologyParameters, EH transfer, massmap_jax",
            uniform=self.uniform,
        )

    @classmethod
    def default(cls) -> "MassPrior":
        """Load the prior that comes with the package.

        Returns
        -------
        MassPrior
            Tinker et al. (2010), Planck18, mass definition 200m, Eisenstein-Hu transfer function, for 1e10 to 1e16
            Msun and z = 0 to 4 (made by scripts/make_default_prior.py).

        Examples
        --------
        >>> import massmap_jax as mm
        >>> prior = mm.MassPrior.default()
        >>> prior.mass_definition, prior.z_min, prior.z_max
        ('200m', 0.0, 4.0)
        >>> prior.ln_density.shape
        (81, 301)
        """
        return replace(cls.load(DEFAULT_TABLE), cosmology="Planck18")

    def save(self, path) -> None:
        """Write the prior to a .npz file that `load` reads back unchanged.

        Parameters
        ----------
        path : str or pathlib.Path
            File to write, in float64 where the prior is.
        """
        meta = {
            "support": self.support,
            "snap": self.snap,
            "mass_definition": self.mass_definition,
            "description": self.description,
            "cosmology": self.cosmology,
            "mass_unit": "Msun",
            "per": "ln_mass",
        }
        number: dict[str, Any] = {} if self.ln_number is None else {"ln_number": np.asarray(self.ln_number)}
        np.savez_compressed(
            path,
            redshift=np.asarray(self.redshift_nodes),
            mass=np.exp(np.asarray(self.ln_mass_nodes, dtype=np.float64)),
            ln_mass=np.asarray(self.ln_mass_nodes),
            ln_density=np.asarray(self.ln_density),
            **number,
            meta=json.dumps(meta),
        )

    @classmethod
    def load(cls, path) -> "MassPrior":
        """Read a prior from a .npz file.

        Parameters
        ----------
        path : str or pathlib.Path
            A file written by `save`; or one with the keys redshift, mass [Msun], and density or ln_density per ln M.

        Returns
        -------
        MassPrior
            The prior, to the last bit where `save` wrote it.

        Raises
        ------
        MassmapError
            If the file does not exist, cannot be read, or has other keys.
        """
        with told_of_archive(f"prior file {path}", "cannot be read as .npz"):
            table = read_npz(path)
            meta = json.loads(str(table["meta"])) if "meta" in table else {}
        if not {"redshift", "mass"} <= table.keys() or not {"density", "ln_density"} & table.keys():
            raise MassmapError(
                f"prior file {path} holds {sorted(table)}; it needs redshift, mass and density (or ln_density) per ln M"
            )
        ln_density = table.get("ln_density")
        density = table["density"] if ln_density is None else np.exp(ln_density - ln_density.max(axis=1, keepdims=True))
        prior = cls.from_table(
            table["redshift"],
            table["mass"],
            density,
            per="ln_mass",
            snap=meta.get("snap"),
            support=meta.get("support", "extend"),
            mass_definition=meta.get("mass_definition", "unknown"),
            description=meta.get("description", Path(path).name),
            cosmology=meta.get("cosmology", "unknown"),
            # A table of the mass function itself, as hmf gives it, and not its saved form, which is normalised.
            number_density=ln_density is None and "Mpc^-3" in meta.get("quantity", ""),
        )
        if ln_density is None:
            return prior
        if "ln_number" in table:
            prior = replace(prior, ln_number=table["ln_number"])
        # exp() above underflows where ln p is 700 below the peak; the saved logarithms do not.
        if "ln_mass" in table:  # written by `save`: restored to the last bit
            return eqx.tree_at(lambda p: (p.ln_mass_nodes, p.ln_density), prior, (table["ln_mass"], ln_density))
        ln_density = ln_density.astype(np.float64)
        ln_density = ln_density - _ln_norm_float64(ln_density, prior.ln_mass_nodes)[:, None]
        return eqx.tree_at(lambda p: p.ln_density, prior, ln_density)

    # -- range covered ------------------------------------------------------------------------------------------

    @property
    def z_min(self) -> float:
        """Lowest redshift covered; 0 for a table with one redshift node."""
        return float(self.redshift_nodes[0]) if self.redshift_nodes.shape[0] > 1 else 0.0

    @property
    def z_max(self) -> float:
        """Highest redshift covered; infinite for a table with one redshift node, which holds at every redshift."""
        return float(self.redshift_nodes[-1]) if self.redshift_nodes.shape[0] > 1 else np.inf

    @property
    def ln_mass_min(self) -> float:
        """Lowest ln M of the table [ln Msun]."""
        return float(self.ln_mass_nodes[0])

    @property
    def ln_mass_max(self) -> float:
        """Highest ln M of the table [ln Msun]."""
        return float(self.ln_mass_nodes[-1])

    # -- one redshift -------------------------------------------------------------------------------------------

    def ln_density_at(self, z: Float[ArrayLike, ""], norm: Array | None = None) -> Float[Array, "k"]:
        """Interpolate ln p(ln M | z) to one redshift, at the mass nodes.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.
        norm : Float[Array, "j-1 degree"], optional
            The result of `norm_coefficients`, where many redshifts are to be normalised. By default the integral is
            computed in closed form at this redshift.

        Returns
        -------
        Float[Array, "k"]
            ln p per ln M at the mass nodes, normalised; NaN outside the redshift nodes.
        """
        row = self._interpolate_in_z(jnp.asarray(self.ln_density), z)
        if norm is None or self.redshift_nodes.shape[0] == 1:
            return row - jnp.log(_cell_mass(row, jnp.asarray(self.ln_mass_nodes)).sum())
        upper, t = self.locate_redshift(z)
        return row - chebyshev_sum(norm[upper - 1], 2 * t - 1)

    def norm_coefficients(self) -> Float[Array, "j-1 degree"]:
        """Fit the normalisation of the interpolated density as a function of z in each redshift cell.

        Returns
        -------
        Float[Array, "j-1 degree"]
            Chebyshev coefficients of the ln of the integral of the interpolated density in each redshift cell.

        Notes
        -----
        That integral is a smooth function of z, so the sum over mass cells need not be repeated for every halo. The
        error is below 1e-6 in ln p.
        """
        lower, upper = jnp.asarray(self.ln_density[:-1]), jnp.asarray(self.ln_density[1:])
        nodes, to_coefficients = chebyshev_nodes(_NORM_NODES)
        t = jnp.asarray(0.5 * (nodes + 1), dtype=lower.dtype)[:, None, None]
        cells = jax.vmap(jax.vmap(_cell_mass, (0, None)), (0, None))
        ln_norm = jnp.log(cells((1 - t) * lower + t * upper, jnp.asarray(self.ln_mass_nodes)).sum(axis=-1))
        return (jnp.asarray(to_coefficients, dtype=lower.dtype) @ ln_norm).T

    def locate_redshift(self, z):
        """Find the redshift cell that holds one redshift.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        upper : Int[Array, ""]
            Number of the cell's upper node.
        t : Float[Array, ""]
            Place in the cell, from 0 at its lower node to 1 at its upper; NaN outside the redshift nodes.
        """
        nodes = jnp.asarray(self.redshift_nodes)
        upper = jnp.clip((nodes < z).sum(), 1, nodes.shape[0] - 1)
        t = (z - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1])
        # In float32 a redshift may round past an end node: it is put on the node.
        t = jnp.where((t > 1 + 1e-5) | (t < -1e-5), jnp.nan, jnp.clip(t, 0.0, 1.0))
        return upper, jnp.ceil(t) if self.snap == "upper" else t

    def _interpolate_in_z(self, table, z):
        """Row of a (redshift node, ...) table at one redshift, linear between nodes."""
        if table.shape[0] == 1:
            return table[0]
        upper, t = self.locate_redshift(z)
        return (1 - t) * table[upper - 1] + t * table[upper]

    def posterior_range(self, z, centre, width):
        """Find the interval of ln M that holds prior x Gaussian at one redshift.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.
        centre : Float[Array, "corner"]
            Means of the Gaussians [ln Msun].
        width : Float[Array, "corner"]
            Standard deviations of the Gaussians [ln Msun].

        Returns
        -------
        low : Float[Array, ""]
            Lower end of the interval [ln Msun].
        high : Float[Array, ""]
            Upper end of the interval [ln Msun].
        narrowest : Float[Array, ""]
            Length of the shortest interval of a single Gaussian [ln Msun].

        See Also
        --------
        massmap_jax.prior.panels.posterior_range : The search itself.

        Notes
        -----
        Bounds of ln p over blocks of mass cells are interpolated in z: a bound that holds at both redshift nodes holds
        between them.
        """
        return panels.posterior_range(self.blocks_at(z), centre, width)

    def blocks_at(self, z) -> panels.Blocks:
        """Bound ln p at one redshift over blocks of neighbouring mass cells.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        massmap_jax.prior.panels.Blocks
            The bounds, of a density whose normalisation is that of the redshift nodes.
        """
        blocks = panels.Blocks.of(jnp.asarray(self.ln_density), jnp.asarray(self.ln_mass_nodes))
        lowest, highest = self._interpolate_in_z(blocks.lowest, z), self._interpolate_in_z(blocks.highest, z)
        return panels.Blocks(lowest, highest, blocks.left, blocks.right)

    def interpolate(self, row: Float[Array | np.ndarray, "k"], ln_mass: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Interpolate values at the mass nodes linearly in ln M.

        Parameters
        ----------
        row : Float[Array, "k"]
            Values at the mass nodes.
        ln_mass : Float[Array, "..."]
            Where to interpolate [ln Msun].

        Returns
        -------
        Float[Array, "..."]
            Values in the shape of `ln_mass`; beyond the ends the last cell is continued linearly.
        """
        cell, fraction = self.locate(ln_mass)
        left, right = row[cell], row[cell + 1]
        return left + fraction * (right - left)

    def locate(self, ln_mass):
        """Find the mass cell that holds each ln M.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the masses [ln Msun].

        Returns
        -------
        cell : Int[Array, "..."]
            Number of the cell's lower node; beyond the ends, that of the first or last cell.
        fraction : Float[Array, "..."]
            Place in the cell, from 0 at its lower node to 1 at its upper; below 0 or above 1 beyond the ends.
        """
        nodes = jnp.asarray(self.ln_mass_nodes)
        last = nodes.shape[0] - 2
        if self.uniform:
            place = (ln_mass - nodes[0]) * (1 / ((nodes[-1] - nodes[0]) / (last + 1)))
            cell = jnp.clip(jnp.floor(place), 0, last).astype(jnp.int32)
            return cell, place - cell
        cell = jnp.clip(jnp.searchsorted(nodes, ln_mass, side="right") - 1, 0, last)
        return cell, (ln_mass - nodes[cell]) / (nodes[cell + 1] - nodes[cell])

    def _log_prob(self, ln_mass, z):
        """`log_prob` of one mass and one redshift."""
        inside = (ln_mass >= self.ln_mass_nodes[0]) & (ln_mass <= self.ln_mass_nodes[-1])
        return jnp.where(inside, self.interpolate(self.ln_density_at(z), ln_mass), -jnp.inf)

    def _cdf(self, ln_mass, z):
        """`cdf` of one mass and one redshift."""
        row, nodes = self.ln_density_at(z), jnp.asarray(self.ln_mass_nodes)
        mass = _cell_mass(row, nodes)
        below = jnp.cumsum(mass) - mass
        cell, fraction = self.locate(jnp.clip(ln_mass, nodes[0], nodes[-1]))
        # The part of the cell below ln_mass is itself a cell with a log-linear density.
        length = (nodes[cell + 1] - nodes[cell]) * fraction
        difference = (row[cell + 1] - row[cell]) * fraction
        inside = jnp.exp(jnp.maximum(row[cell], row[cell] + difference)) * length * _mean_ratio(jnp.abs(difference))
        return jnp.clip(below[cell] + inside, 0.0, 1.0)

    def _inverse_survival(self, upper, z):
        """ln M with the fraction `upper` of the prior above it, summed from the massive end, where float32 needs it."""
        row, nodes = self.ln_density_at(z), jnp.asarray(self.ln_mass_nodes)
        mass = _cell_mass(row, nodes)
        above = jnp.cumsum(mass[::-1])[::-1]  # at the left end of each cell
        cell = jnp.clip((above >= upper).sum() - 1, 0, mass.shape[0] - 1)
        fraction = jnp.clip(1 - (upper - (above[cell] - mass[cell])) / mass[cell], 0.0, 1.0)
        # Invert the integral of exp(slope * s) over the cell; in a flat cell s is the fraction itself.
        d = row[cell + 1] - row[cell]
        safe = jnp.where(jnp.abs(d) > 1e-4, d, 1.0)
        s = jnp.where(jnp.abs(d) > 1e-4, jnp.log1p(fraction * jnp.expm1(safe)) / safe, fraction)
        return nodes[cell] + s * (nodes[cell + 1] - nodes[cell])

    def _panel(self, row, centre, z, width):
        """Densities at the panels of prior x N(ln M; centre, width^2), the interval, and the ln of their common factor.

        `row` is `ln_density_at(z)`.
        """
        low, high, _ = self.posterior_range(z, centre[None], width[None])
        low, high = jax.lax.stop_gradient((low, high))
        ln_mass = panels.panel_nodes(low, high, panels.BASE_PANELS)
        ln_post = self.interpolate(row, ln_mass) - 0.5 * ((ln_mass - centre) / width) ** 2
        peak = jax.lax.stop_gradient(ln_post.max())
        return jnp.exp(ln_post - peak), low, high, peak - jnp.log(width) - 0.5 * np.log(2 * np.pi)

    def log_evidence_of_row(self, row, centre, z, width) -> Float[Array, ""]:
        """Compute `log_evidence` of one Gaussian at one redshift whose prior density is at hand.

        Parameters
        ----------
        row : Float[Array, "k"]
            ln p at the mass nodes for that redshift, from `ln_density_at`.
        centre : Float[Array, ""]
            Mean of the Gaussian [ln Msun].
        z : Float[Array, ""]
            The redshift.
        width : Float[Array, ""]
            Standard deviation of the Gaussian [ln Msun].

        Returns
        -------
        Float[Array, ""]
            G of `log_evidence`.
        """
        density, low, high, ln_scale = self._panel(row, centre, z, width)
        return ln_scale + jnp.log((panels.panel_weights(low, high, panels.BASE_PANELS) * density).sum())

    def _log_evidence(self, centre, z, width):
        """`log_evidence` of one Gaussian at one redshift."""
        return self.log_evidence_of_row(self.ln_density_at(z), centre, z, width)

    def _conditional_quantile(self, e, centre, z, width):
        """`conditional_quantile` of one level of one Gaussian at one redshift."""
        density, low, high, _ = self._panel(self.ln_density_at(z), centre, z, width)
        return panels.panel_quantile(density, low, high, panels.BASE_PANELS, ndtr(e), ndtr(-e))

    # -- public, batched ----------------------------------------------------------------------------------------

    def log_prob(self, ln_mass, z) -> Float[Array, "..."]:
        """Compute ln p(ln M | z), the density per ln M.

        Parameters
        ----------
        ln_mass : array_like, (...)
            ln of the masses [ln Msun].
        z : array_like, (...)
            Redshifts. They broadcast with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            ln p in the broadcast shape: -inf outside the mass nodes, NaN outside the redshift nodes.
        """
        return _batched(self, "_log_prob", ln_mass, z)

    def cdf(self, ln_mass, z) -> Float[Array, "..."]:
        """Compute the probability P(ln M' <= ln M | z) of masses up to a given one.

        Parameters
        ----------
        ln_mass : array_like, (...)
            ln of the masses [ln Msun].
        z : array_like, (...)
            Redshifts. They broadcast with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            Probabilities in the broadcast shape; NaN outside the redshift nodes.
        """
        return _batched(self, "_cdf", ln_mass, z)

    def sample(self, key: Array, z) -> Float[Array, "..."]:
        """Draw one ln M for each redshift.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        z : array_like, (...)
            Redshifts.

        Returns
        -------
        Float[Array, "..."]
            ln M [ln Msun], one for each redshift, in the shape of `z`.

        Notes
        -----
        The inverse CDF, cell widths included: drawing by dn/dM at the nodes alone would give another density.
        """
        z = jnp.asarray(z, dtype=float)
        key_high, key_low = jax.random.split(key)
        # A float32 uniform has steps of 1e-7; a second one fills the step, so that the massive tail is resolved.
        step = 2.0**-23
        whole = jnp.floor(jax.random.uniform(key_high, z.shape) / step)
        return _batched(self, "_inverse_survival", (whole + jax.random.uniform(key_low, z.shape)) * step, z)

    def log_evidence(self, ln_mass_centre, z, width) -> Float[Array, "..."]:
        """Compute G, the ln of the integral of the prior times a Gaussian in ln M.

        Parameters
        ----------
        ln_mass_centre : array_like, (...)
            Mean of the Gaussian [ln Msun].
        z : array_like, (...)
            Redshifts.
        width : array_like, (...)
            Standard deviation of the Gaussian [ln Msun]. All three broadcast.

        Returns
        -------
        Float[Array, "..."]
            G in the broadcast shape.

        Notes
        -----
        G = ln of the integral of p(ln M|z) N(ln M; ln_mass_centre, width^2) d ln M. With
        ln_mass_centre = ln alpha3 + [ln L_obs - alpha1 - alpha4 ln(1+z)] / alpha2 and
        width = sqrt(S^2 + sigma^2) / alpha2 the evidence of an object is ln Z = -ln L_obs - ln alpha2 + G.
        """
        return _batched(self, "_log_evidence", ln_mass_centre, z, width)

    def conditional_quantile(self, normal_score, ln_mass_centre, z, width) -> Float[Array, "..."]:
        """Compute Q, the quantiles of ln M under the prior times a Gaussian in ln M.

        Parameters
        ----------
        normal_score : array_like, (...)
            Level of the quantile as a standard normal score e: the CDF there is Phi(e).
        ln_mass_centre : array_like, (...)
            Mean of the Gaussian [ln Msun].
        z : array_like, (...)
            Redshifts.
        width : array_like, (...)
            Standard deviation of the Gaussian [ln Msun]. All four broadcast.

        Returns
        -------
        Float[Array, "..."]
            ln M [ln Msun] in the broadcast shape, at CDF level Phi(e) of p(ln M|z) N(ln M; ln_mass_centre, width^2).
        """
        return _batched(self, "_conditional_quantile", normal_score, ln_mass_centre, z, width)

    def ln_beyond_edges(self, row, centre, width) -> Float[Array, ""]:
        """Compute the ln of the integral of prior x Gaussian that would lie beyond the mass nodes.

        Parameters
        ----------
        row : Float[Array, "k"]
            ln p at the mass nodes for that redshift, from `ln_density_at`; the first two and the last two will do.
        centre : Float[Array, "..."]
            Mean of the Gaussian [ln Msun].
        width : Float[Array, "..."]
            Standard deviation of the Gaussian [ln Msun], in the shape of `centre`.

        Returns
        -------
        Float[Array, "..."]
            ln of the integral, with ln p continued linearly past its end cells; -inf where `support` is "sharp".
        """
        if self.support == "sharp":
            return jnp.full(jnp.shape(centre), -jnp.inf, dtype=row.dtype)
        nodes = jnp.asarray(self.ln_mass_nodes)
        low_slope = (row[1] - row[0]) / (nodes[1] - nodes[0])
        high_slope = (row[-1] - row[-2]) / (nodes[-1] - nodes[-2])

        def tail(value, slope, end, side):
            shift = centre + slope * width**2
            return value + slope * (centre - end) + 0.5 * (slope * width) ** 2 + log_ndtr(side * (end - shift) / width)

        return jnp.logaddexp(tail(row[0], low_slope, nodes[0], 1.0), tail(row[-1], high_slope, nodes[-1], -1.0))


@partial(jax.jit, static_argnames="method")
def _batched(prior, method, *arguments):
    """Broadcast the arguments and map a scalar method over them in blocks, so that memory stays bounded."""
    arguments = jnp.broadcast_arrays(*(jnp.asarray(a, dtype=float) for a in arguments))
    flat = tuple(a.ravel() for a in arguments)
    result = jax.lax.map(lambda a: getattr(prior, method)(*a), flat, batch_size=_BATCH)
    return result.reshape(arguments[0].shape)


def _ln_norm_float64(ln_density, ln_mass):
    """ln of the integral of each row over ln M, in float64 on the host (the closed form of `_cell_mass`)."""
    a, b = ln_density[:, :-1], ln_density[:, 1:]
    d = np.maximum(np.abs(b - a), 1e-12)
    ln_cell = np.maximum(a, b) + np.log(np.diff(ln_mass)) + np.log(-np.expm1(-d) / d)
    peak = ln_cell.max(axis=1, keepdims=True)
    return peak[:, 0] + np.log(np.exp(ln_cell - peak).sum(axis=1))


def _columns_to_grid(redshift, mass, density):
    """Nodes and a grid from three columns (z, M, density) of equal length, sorted by z and then M."""
    nodes, counts = np.unique(redshift, return_counts=True)
    if np.any(counts != counts[0]) or not np.array_equal(redshift, np.repeat(nodes, counts[0])):
        raise MassmapError(
            f"prior columns are not a grid: {nodes.size} redshifts with {counts.min()} to {counts.max()} masses;"
            " sort the rows by redshift, then mass, with the same masses at every redshift"
        )
    mass = mass.reshape(nodes.size, -1)
    if not np.allclose(mass, mass[0], rtol=1e-6):
        raise MassmapError("prior masses differ between redshifts: interpolate them onto common masses first")
    return nodes, mass[0], density.reshape(nodes.size, -1)


def _check_increasing(name, values, least):
    """Refuse nodes that are not finite, increasing and at least `least`."""
    bad = ~np.isfinite(values) | (values < least)
    bad[1:] |= ~(np.diff(values) > 0)
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"{name} has {bad.sum()} bad nodes, first node {first} = {values[first]:g}: nodes must be finite, "
            f"increasing and at least {least:g}"
        )


def _ln_positive(density, redshift, mass):
    """ln density; zeros at the massive end continue the last slope, other zeros and bad values are errors."""
    bad = ~np.isfinite(density) | (density < 0)
    if bad.any():
        j, k = np.argwhere(bad)[0]
        raise MassmapError(
            f"prior density has {bad.sum()} negative or non-finite values, first at z = {redshift[j]:g}, "
            f"M = {mass[k]:g}: {density[j, k]:g}; remove them or give a positive density"
        )
    # Below the smallest normal float64, digits are lost too.
    positive = density > np.finfo(np.float64).tiny
    last = np.where(positive.any(axis=1), density.shape[1] - 1 - np.argmax(positive[:, ::-1], axis=1), -1)
    for j in range(density.shape[0]):
        if last[j] < 1 or not positive[j, : last[j] + 1].all():
            k = int(np.argmin(positive[j]))
            raise MassmapError(
                f"prior density is zero at z = {redshift[j]:g}, M = {mass[k]:g}: only the massive end may underflow to "
                "zero; cut the masses where the density vanishes"
            )
    ln_mass = np.log(mass)
    with np.errstate(divide="ignore"):
        ln_density = np.log(density)
    for j in range(density.shape[0]):
        i = last[j]
        slope = (ln_density[j, i] - ln_density[j, i - 1]) / (ln_mass[i] - ln_mass[i - 1])
        ln_density[j, i + 1 :] = ln_density[j, i] + slope * (ln_mass[i + 1 :] - ln_mass[i])
    return ln_density
