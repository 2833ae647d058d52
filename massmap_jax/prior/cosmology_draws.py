"""CosmologyDraws: what is known of the cosmology, as draws of its parameters, from arrays, a chain or Planck.

Planck as a normal distribution, `CosmologyDraws.planck18`: Planck 2018 results VI (A&A 641, A6), Table 2, last column
(TT,TE,EE+lowE+lensing+BAO). The table has no correlations, but errors of products, and they tell them: Omega_m h^3,
known to 0.3 %, says that Omega_m and h go opposite ways, and sigma8 (Omega_m / 0.3)^0.5 how sigma8 goes with Omega_m.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.columns import rows_text
from massmap_jax.catalogue.quantities import plain_numbers
from massmap_jax.catalogue.relation_files import ln_weights, open_chains, refuse_strays, weight_column
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.halo.cosmology import unusual
from massmap_jax.keys import stratified_picks
from massmap_jax.prior.chain_columns import (
    COLUMNS,
    OPTION,
    densities,
    find_column,
    mass_of_neutrinos,
    plain_name,
    read_column,
)

PARAMETERS = ("omega_m", "sigma8", "h", "n_s", "omega_b")
# Draws of Planck at least: their mean and covariance are made exact.
FEWEST = 20
# Wide enough for any cosmology that was ever believed in.
POSSIBLE = {"omega_m": (0.01, 1.0), "sigma8": (0.1, 3.0), "h": (0.1, 2.0), "n_s": (0.3, 2.0), "omega_b": (1e-4, 1.0)}
# Draws of which a warm-up can be told.
_WARM = 50
_UNNAMED = "; the columns have no names: put the chain's .paramnames beside it, under its name"
# Parameters beyond flat LambdaCDM, and their values in it.
_BEYOND = dict.fromkeys(("w", "w0", "w0_fld", "w_0"), -1.0)
_BEYOND |= dict.fromkeys(("wa", "wa_fld", "w_a", "omegak", "omega_k", "ok0", "omk", "ok", "omega_k0", "omega0_k"), 0.0)
# Effective numbers of neutrinos that are told where they are off by more than this.
_RELATIVISTIC, _STANDARD, _OFF = ("nnu", "neff", "n_eff"), 3.046, 0.05
# Planck 2018 VI, Table 2, last column: relative errors of Omega_m, H0, sigma8, Omega_m h^3 and sigma8 Omega_m^0.5.
_SD_M, _SD_H, _SD_8, _SD_MH3, _SD_S8 = 0.0056 / 0.3111, 0.42 / 67.66, 0.0060 / 0.8102, 0.00030 / 0.09635, 0.011 / 0.825
_SD_NS, _SD_BARYONS = 0.0038, 0.00014 / 0.02242


class CosmologyDraws(eqx.Module):
    """Draws of the cosmology of flat LambdaCDM: a chain, or a belief.

    Make one with `from_arrays`, `read` or `planck18`, and pair it with a relation by `massmap_jax.with_cosmology`.

    Attributes
    ----------
    values : dict of str to Float[np.ndarray, "draw"]
        omega_m, sigma8, h, n_s and omega_b; omega_m without neutrinos, as in `CosmologyParameters`.
    log_weight : Float[np.ndarray, "draw"]
        ln weight of each draw.
    source : str
        Where the draws are from.
    notes : tuple of str
        What was taken for granted.

    See Also
    --------
    massmap_jax.with_cosmology : Give each draw of a relation a cosmology of its own.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> planck = mm.CosmologyDraws.planck18(jax.random.key(0), 500)
    >>> print({name: f"{planck.mean[name]:.4f} +- {planck.sd[name]:.4f}" for name in ("sigma8", "h")})
    {'sigma8': '0.8102 +- 0.0060', 'h': '0.6766 +- 0.0042'}
    """

    values: dict[str, Float[np.ndarray, "draw"]]
    log_weight: Float[np.ndarray, "draw"]
    source: str = eqx.field(static=True, default="given by the user")
    notes: tuple[str, ...] = eqx.field(static=True, default=())

    @classmethod
    def from_arrays(
        cls, *, omega_m, sigma8, h, n_s, omega_b, log_weight=0.0, source: str = "given by the user"
    ) -> "CosmologyDraws":
        """Make draws from arrays; a number stands for all draws.

        Parameters
        ----------
        omega_m : array_like, (draw,)
            Density of matter today, without neutrinos, over the critical one.
        sigma8 : array_like, (draw,)
            Standard deviation of the linear density in spheres of 8 Mpc/h; not S8.
        h : array_like, (draw,)
            H0 / (100 km/s/Mpc).
        n_s : array_like, (draw,)
            Slope of the primordial power spectrum.
        omega_b : array_like, (draw,)
            Density of baryons, part of `omega_m`.
        log_weight : array_like, (draw,), optional
            ln weight of each draw.
        source : str, optional
            Where they are from, for outputs.

        Returns
        -------
        CosmologyDraws
            The draws.

        Raises
        ------
        MassmapError
            Arrays of different lengths, no draw, values that no cosmology has, or no draw with a weight.
        """
        given = {"omega_m": omega_m, "sigma8": sigma8, "h": h, "n_s": n_s, "omega_b": omega_b, "log_weight": log_weight}
        try:
            arrays = [np.atleast_1d(plain_numbers(a, f"{name} of the cosmology")) for name, a in given.items()]
            found = dict(zip(given, (a.copy() for a in np.broadcast_arrays(*arrays)), strict=True))
        except MassmapError:
            raise
        except (TypeError, ValueError) as error:
            raise MassmapError(f"draws of the cosmology are not numbers of one length: {error}") from None
        weight = found.pop("log_weight")
        if weight.ndim != 1 or weight.size == 0:
            raise MassmapError(f"draws of the cosmology have shape {weight.shape}: give at least one draw, as (draw,)")
        for name, values in found.items():
            low, high = POSSIBLE[name]
            bad = ~((values >= low) & (values <= high))
            if bad.any():
                hint = ": give h = H0 / 100" if name == "h" and np.nanmedian(values) > 10 else ""
                raise MassmapError(
                    f"{name} of the cosmology must lie in {low:g} to {high:g}, but does not in"
                    f" {rows_text(bad, values)}{hint or ': remove these draws or correct the column'}"
                )
        bad = found["omega_b"] >= found["omega_m"]
        if bad.any():
            raise MassmapError(
                f"omega_b of the cosmology must be below omega_m, which holds the baryons, but is not in"
                f" {rows_text(bad, found['omega_b'])}: correct the columns"
            )
        bad = np.isnan(weight) | (weight == np.inf)
        if bad.any() or np.isneginf(weight).all():
            said = rows_text(bad, weight) if bad.any() else "all draws, whose weights are 0"
            raise MassmapError(f"log_weight of the cosmology must be a number, but is not in {said}")
        for told in unusual(_medians(found), "these draws", "has a median of"):
            warnings.warn(told, stacklevel=2)
        return cls(found, weight, source)

    @classmethod
    def planck18(cls, key: Array, number: int = 1000) -> "CosmologyDraws":
        """Draw from Planck's posterior of flat LambdaCDM, as a normal distribution in the logarithms.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        number : int, optional
            Number of draws, at least 20. Their mean and covariance are those of the distribution, without noise.

        Returns
        -------
        CosmologyDraws
            The draws.

        Raises
        ------
        MassmapError
            Fewer than 20 draws.

        Notes
        -----
        Means as astropy's Planck18 has them; errors of Planck 2018 results VI, Table 2, last column. Of the
        correlations, those of omega_m with h (-0.99) and sigma8 (0.3) follow from the errors of omega_m h^3 and S8 in
        that table; that of sigma8 with h is taken to come from omega_m alone, n_s and omega_b h^2 are taken to be
        independent of the rest, and whatever is not normal is left out. A chain, `read`, has all of these.
        """
        check_kinds("planck18", key=key)
        if number < FEWEST:
            raise MassmapError(f"{number} draws of the cosmology are too few: give at least {FEWEST}")
        mean = CosmologyParameters.of("Planck18")
        normals = np.asarray(jax.random.normal(key, (number, 5)), dtype=np.float64)
        normals = normals - normals.mean(axis=0)
        normals = np.linalg.solve(np.linalg.cholesky(np.cov(normals.T, bias=True)), normals.T).T
        with_h = (_SD_MH3**2 - _SD_M**2 - 9 * _SD_H**2) / 6
        with_8 = _SD_S8**2 - _SD_8**2 - _SD_M**2 / 4
        covariance = np.diag(np.square([_SD_M, _SD_8, _SD_H, _SD_NS / mean.n_s, _SD_BARYONS]))
        covariance[0, 1] = covariance[1, 0] = with_8
        covariance[0, 2] = covariance[2, 0] = with_h
        covariance[1, 2] = covariance[2, 1] = with_8 * with_h / _SD_M**2
        ratio = np.exp(normals @ np.linalg.cholesky(covariance).T)
        values = [getattr(mean, name) * ratio[:, i] for i, name in enumerate(PARAMETERS[:4])]
        baryons = mean.omega_b * mean.h**2 * ratio[:, 4]
        made = dict(zip(PARAMETERS, [*values, baryons / values[2] ** 2], strict=True))
        return cls.from_arrays(**made, source="planck18: Planck 2018 VI, Table 2, as a normal distribution")

    @classmethod
    def read(cls, path, columns: Mapping[str, str | float] | None = None) -> "CosmologyDraws":
        """Read draws from a chain or a table.

        Parameters
        ----------
        path : str or os.PathLike
            What `read_relation` reads too: a text chain of GetDist, Cobaya or CosmoSIS or its ROOT, a table (CSV, FITS,
            Parquet, ...), .npz or HDF5.
        columns : mapping of str to (str or float), optional
            Which column is which parameter, as {"sigma8": "s_8"}; a number is the value in all draws, such as
            {"n_s": 0.96} for a chain without it.

        Returns
        -------
        CosmologyDraws
            The draws with their weights.

        Raises
        ------
        MassmapError
            A file that cannot be read, a parameter that is missing or has two columns, a cosmology that is not flat
            LambdaCDM, or values that no cosmology has.

        Notes
        -----
        Usual names are known (omegam, Om0, H0, ns, ...), also of CosmoSIS. H0 counts as km/s/Mpc where it is above 10.
        Where a chain has omegabh2 and omegach2 (omega_b and omega_cdm of CLASS), omega_m is their sum over h^2, without
        neutrinos; from omegam of a chain those of its columns omnuh2 or mnu are subtracted. Where it has none of these,
        omegam is taken as it is, and may hold neutrinos (0.0014 for 0.06 eV).
        """
        path = str(path)
        notes: list[str] = []
        table, _ = open_chains(path, notes)
        given = {str(name): value for name, value in (columns or {}).items()}
        unknown = sorted(given.keys() - {*PARAMETERS, "weight", "log_weight"})
        if unknown:
            raise MassmapError(
                f"columns of the cosmology are given for {', '.join(unknown)}: it has {', '.join(PARAMETERS)}, and"
                " weight or log_weight"
            )
        for name, flat in _BEYOND.items():
            column = find_column(table, (name,), name, path)
            values = np.full(1, flat) if column is None else read_column(table, column, path)
            if (bad := ~np.isclose(values, flat)).any():
                raise MassmapError(
                    f"{column!r} of {path} is not {flat:g} in {rows_text(bad, values)}: the mass function here is of"
                    " flat LambdaCDM, so use a chain of that"
                )
        _refuse_other_columns(given, path)
        found = {}
        for name in PARAMETERS:
            source = given[name] if name in given else find_column(table, COLUMNS[name], name, path)
            if isinstance(source, str) and source not in table.names:
                raise MassmapError(f"{path} has no column {source!r} for {name}: it has {', '.join(table.names[:20])}")
            if source is not None:
                found[name] = read_column(table, source, path) if isinstance(source, str) else float(source)
        if "h" in found and np.nanmedian(found["h"]) > 10:
            found["h"] = found["h"] / 100
        found |= densities(table, found, given, path, notes)
        missing = [name for name in PARAMETERS if name not in found]
        if missing:
            raise MassmapError(
                f"{path} has no {', '.join(missing)}: draws of the cosmology need {', '.join(PARAMETERS)}; name the"
                f" column or give a number with {OPTION}='{missing[0]}=...' (columns in Python); it has"
                f" {', '.join(table.names[:20])}"
                + (_UNNAMED if all(re.fullmatch(r"col\d+", name) for name in table.names) else "")
            )
        weight = weight_column(table, {k: v for k, v in given.items() if k.endswith("weight")}, path, OPTION)
        log_weight = ln_weights(table, *weight, path, OPTION) if weight else 0.0
        old = find_column(table, ("old_weight",), "old_weight", path)
        if weight and weight[1] == "log_weight" and old is not None:
            log_weight = log_weight + ln_weights(table, old, "weight", path, OPTION)
            notes.append(
                f"cosmology: weights are those of {old!r} times exp({weight[0]!r}), as importance sampling has it"
            )
        made = cls.from_arrays(**found, log_weight=log_weight, source=path)
        refuse_strays(made.values, made.log_weight, path, "cosmology")
        notes += _told_of_draws(made, path)
        neutrinos = mass_of_neutrinos(table, path)
        if neutrinos is not None and (np.abs(neutrinos[1] - 0.06) > 0.05).any():
            notes.append(
                f"cosmology: the neutrinos of {path} ({neutrinos[0]!r}, median {np.median(neutrinos[1]):.2g} eV)"
                " are not followed: the mass function has those of Planck18, 0.06 eV, in all draws"
            )
        number = find_column(table, _RELATIVISTIC, "N_eff", path)
        if number is not None and (np.abs(read_column(table, number, path) - _STANDARD) > _OFF).any():
            notes.append(
                f"cosmology: the effective number of neutrinos of {path} ({number!r}, median"
                f" {np.median(read_column(table, number, path)):.3g}) is not followed: the mass function has that of"
                " Planck18, 3.046, in all draws"
            )
        return replace(made, notes=tuple(note.replace("relation: ", "cosmology: ", 1) for note in notes))

    @property
    def num_draws(self) -> int:
        """Number of draws."""
        return self.log_weight.size

    @property
    def shares(self) -> Float[np.ndarray, "draw"]:
        """Normalised weight of each draw, (draw,)."""
        weight = np.exp(self.log_weight - self.log_weight.max())
        return weight / weight.sum()

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each parameter."""
        return {name: float(self.shares @ values) for name, values in self.values.items()}

    @property
    def sd(self) -> dict[str, float]:
        """Standard deviation of each parameter."""
        mean = self.mean
        return {name: float(np.sqrt(self.shares @ (v - mean[name]) ** 2)) for name, v in self.values.items()}

    def draw(self, index) -> "CosmologyDraws":
        """Take some draws.

        Parameters
        ----------
        index : slice or array_like, (pick,)
            Which ones.

        Returns
        -------
        CosmologyDraws
            The draws, with their log weights as they are.
        """
        return replace(self, values={n: v[index] for n, v in self.values.items()}, log_weight=self.log_weight[index])

    def pick(self, key: Array, number: int) -> "CosmologyDraws":
        """Pick draws at random by their weights, in random order.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        number : int
            How many; one draw may be picked several times.

        Returns
        -------
        CosmologyDraws
            Draws of equal weight.
        """
        key_pick, key_order = jax.random.split(key)
        index = stratified_picks(key_pick, self.shares, number)
        picked = self.draw(np.asarray(jax.random.permutation(key_order, index)))
        return replace(picked, log_weight=np.zeros(number))

    def parameters(self) -> CosmologyParameters:
        """Give all draws as parameters of the mass function, with radiation and neutrinos as in Planck18.

        Returns
        -------
        CosmologyParameters
            Arrays (draw,), and the rest the same for all.
        """
        return cosmology_with(self.values)


def cosmology_with(values: Mapping[str, Any]) -> CosmologyParameters:
    """Give the cosmology with these values of `PARAMETERS`, and radiation and neutrinos as in Planck18."""
    return replace(CosmologyParameters.of("Planck18"), **{name: values[name] for name in PARAMETERS})


def _refuse_other_columns(given: Mapping[str, str | float], path: str) -> None:
    """Refuse a column that is named for two parameters, or for one and is by its name another."""
    named = {name: column for name, column in given.items() if isinstance(column, str) and name in PARAMETERS}
    for name, column in named.items():
        again = [other for other, same in named.items() if same == column and other != name]
        plain = plain_name(column)
        others = [other for other, names in COLUMNS.items() if other != name and plain in names]
        others += ["S8"] if name == "sigma8" and re.search(r"(?:^|--)S_?8|(?i:s_?8_?om)", column) else []
        if again or others:
            why = f"named for {again[0]}, too" if again else f"{others[0]} by its name"
            raise MassmapError(
                f"column {column!r} of {path} is named for {name}, and is {why}: give the column of each parameter with"
                f" {OPTION}='{name}=...' (columns in Python), or rename it"
            )


def _medians(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.median(of_draws)) for name, of_draws in values.items()}


def _told_of_draws(draws: "CosmologyDraws", path: str) -> list[str]:
    """What a user should know of draws: values far from all that is measured, few of them, a sampler's warm-up."""
    told = unusual(_medians(draws.values), path, "has a median of")
    share = draws.shares
    effective = 1.0 / float(share @ share)
    if effective < FEWEST:
        told.append(
            f"cosmology: {path} has {effective:.2g} effective draws of {draws.num_draws:,}, by their weights, which do"
            " not hold the error of a cosmology"
        )
    number = draws.num_draws
    for name, values in draws.values.items():
        error = 1.4826 * np.median(np.abs(values - np.median(values)))
        first, last = np.mean(values[: number // 10]) if number >= 10 else np.nan, np.mean(values[number // 2 :])
        if number >= _WARM and error > 0 and np.allclose(share, share[0]) and abs(first - last) > 3.0 * error:
            told.append(
                f"cosmology: {name} of {path} has a mean of {first:.3g} in the first tenth of the draws and {last:.3g}"
                " in the second half: see whether they begin with the warm-up of a sampler, and remove it"
            )
            break
    return told
