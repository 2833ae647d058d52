"""`MassPosterior`: the halo mass posteriors of a catalogue, as `mass_posterior` gives them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.described import DescribedTable, writable
from massmap_jax.catalogue.flags import UNUSABLE, describe_all, summary_lines
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.choices import RelationFrom
from massmap_jax.errors import MassmapError
from massmap_jax.html_table import html_summary
from massmap_jax.likelihood.integrals import SAMPLED_METHODS
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.selection import Selection
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior.columns import column_info, provenance
from massmap_jax.posterior.requests import REDSHIFT_COLUMNS, evaluate, settings_of
from massmap_jax.posterior.surface_redshifts import errors_of
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import Relation

# A row is flagged EDGE if more than this fraction of its posterior lies beyond the prior's mass table.
EDGE_LIMIT = 0.01
# Fields with one value, or one row, per object.
_PER_ROW = ("ids", "flag", "mean", "sd", "mode", "mean_mass", "quantiles", "log_evidence", "edge_mass",
            "information_bits", "ess", "pareto_k")  # fmt: skip
_ROWS_SHOWN = 5


class MassPosterior(eqx.Module):
    """Posterior of ln M of every row of a catalogue: summaries, and all that is needed to evaluate it again.

    `massmap_jax.mass_posterior` makes it. There is one row per row of the catalogue, in the same order; rows that
    cannot be used hold NaN and a `Flag`. M is in Msun without h. All arrays are float64 on the host.

    Attributes
    ----------
    ids : np.ndarray, (halo,)
        The catalogue's ids.
    flag : Int[np.ndarray, "halo"]
        `Flag` bits, 0 for a good row: those of the catalogue and those that the posterior adds (Z_OUTSIDE_PRIOR,
        NO_SUPPORT, EDGE).
    mean : Float[np.ndarray, "halo"]
        Posterior mean of ln M [ln Msun].
    sd : Float[np.ndarray, "halo"]
        Posterior standard deviation of ln M.
    mode : Float[np.ndarray, "halo"]
        ln M [ln Msun] where the posterior density per ln M is highest.
    mean_mass : Float[np.ndarray, "halo"]
        Posterior mean of the mass itself, E[M] [Msun]; a map adds these up.
    quantiles : Float[np.ndarray, "halo level"]
        Quantiles of ln M [ln Msun] at `quantile_levels`.
    log_evidence : Float[np.ndarray, "halo"]
        ln P(L_obs | z, relation), a density per unit of L_obs, averaged over the relation draws.
    edge_mass : Float[np.ndarray, "halo"]
        Fraction of the posterior that would lie beyond the prior's mass table if ln p went on linearly there.
    information_bits : Float[np.ndarray, "halo"]
        Kullback-Leibler divergence of the posterior from the prior at the object's redshift [bit].
    ess : Float[np.ndarray, "halo"]
        Effective number of relation draws; for a sampled method, of luminosity samples at the mean mass.
    pareto_k : Float[np.ndarray, "halo"]
        Pareto shape of the weights of those luminosity samples; NaN for methods without weights.
    redshift_mean, redshift_sd : Float[np.ndarray, "halo"] or None
        Posterior mean and standard deviation of a redshift that is not exact, given the luminosity too.
    catalogue : HaloCatalogue
        The catalogue that was passed to `mass_posterior`.
    prior : MassPrior
        The mass prior that was used.
    relation : Relation
        The relation, or batch of draws, that was used.
    selection : Selection
        The selection that was used.
    extra : TabulatedTerm or None
        The further likelihood that was used.
    key : Key[Array, ""] or None
        The random key that was used.
    quantile_levels : tuple of float
        CDF levels of `quantiles`.
    relation_from : str or None
        How the relation draws were weighted.
    method : str
        How the luminosity was integrated over.
    num_lum_draws : int
        Luminosity samples per relation draw.
    chunk_size : int
        Objects per compiled call and device.
    surface : PosteriorSurface or None
        The table that method "surface" read; None for the other methods.
    num_beside_surface : int
        Rows outside the range of that table, which were integrated one by one.

    See Also
    --------
    massmap_jax.mass_posterior : Makes this result.
    massmap_jax.mass_map : Sums of masses, whose errors are correlated through the relation.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, 6e4, -99.0], redshift=[0.2, 0.4, 0.3], sigma_ln_luminosity=0.05
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> posterior = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation)
    >>> print(posterior.summary())
    3 rows, 2 with a mass, 1 without
      1 rows: luminosity is a placeholder such as -99 (LUM_SENTINEL)
    log10(M/Msun) from 13.88 to 14.14, median error 0.191 dex
    >>> posterior.usable.tolist()
    [True, True, False]

    The 16, 50 and 84 % quantiles of log10(M/Msun), which are among the stored ones:

    >>> posterior.quantile_levels
    (0.025, 0.16, 0.5, 0.84, 0.975)
    >>> (posterior.quantiles[:, 1:4] / np.log(10)).round(2).tolist()
    [[13.69, 13.88, 14.08], [13.95, 14.14, 14.33], [nan, nan, nan]]
    """

    ids: np.ndarray
    flag: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    mode: np.ndarray
    mean_mass: np.ndarray
    quantiles: np.ndarray
    log_evidence: np.ndarray
    edge_mass: np.ndarray
    information_bits: np.ndarray
    ess: np.ndarray
    pareto_k: np.ndarray
    catalogue: HaloCatalogue
    prior: MassPrior
    relation: Relation
    selection: Selection
    extra: TabulatedTerm | None
    key: Array | None
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    method: str = eqx.field(static=True)
    num_lum_draws: int = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)
    surface: Any = None
    num_beside_surface: int = eqx.field(static=True, default=0)
    redshift_mean: np.ndarray | None = None
    redshift_sd: np.ndarray | None = None

    def __len__(self) -> int:
        return self.flag.shape[0]

    def __iter__(self) -> Iterator["MassPosterior"]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows) -> "MassPosterior":
        """The posterior of some rows: a row number, a slice, row numbers or a boolean mask.

        Their ids stay the same, and so do samples with the same key.
        """
        index = np.atleast_1d(np.arange(len(self))[rows])
        catalogue, extra, beside = self.catalogue.subset(index), self.extra, self.num_beside_surface
        if extra is not None:
            extra = extra.take(index)
        if self.surface is not None:
            kept = catalogue.subset(self.usable[index])
            errors = None if kept.redshift_distributions is None else errors_of(kept)
            found, _ = self.surface.summaries(kept.ln_lum_obs, kept.redshift, kept.sigma_ln_lum, errors)
            beside = int((~np.isfinite(found["mean"])).sum())
        names = _PER_ROW if self.redshift_mean is None else (*_PER_ROW, *REDSHIFT_COLUMNS)
        chosen = {name: getattr(self, name)[index] for name in names}
        return replace(self, catalogue=catalogue, extra=extra, num_beside_surface=beside, **chosen)

    def _repr_html_(self) -> str:
        """What a notebook shows: the first rows, and the summary."""
        table = self[:_ROWS_SHOWN].to_table()
        names = [name for name in ("id", "z", "log10_mass_mean", "log10_mass_sd", "flag_reason") if name in table]
        cells = [[f"{x:.4g}" if isinstance(x, float) else x for x in table[name].tolist()] for name in names]
        shown = min(_ROWS_SHOWN, len(self))
        title = f"MassPosterior, {self.prior.mass_definition} masses in Msun without h: {shown} of {len(self)} rows"
        return html_summary(title, names, zip(*cells, strict=True), self.summary().splitlines())

    @property
    def usable(self) -> np.ndarray:
        """Rows that have a posterior.

        Returns
        -------
        Bool[np.ndarray, "halo"]
            True where the row could be used.
        """
        return (self.flag & UNUSABLE) == 0

    @property
    def median(self) -> np.ndarray:
        """Posterior median of ln M.

        Returns
        -------
        Float[np.ndarray, "halo"]
            Median [ln Msun]: the stored quantile if 0.5 is among the levels, otherwise it is computed; NaN for unusable
            rows.
        """
        if 0.5 in self.quantile_levels:
            return self.quantiles[:, self.quantile_levels.index(0.5)]
        return self.quantile((0.5,))[:, 0]

    @property
    def quantile_columns(self) -> tuple[str, ...]:
        """Names that the quantiles have in `to_table`.

        Returns
        -------
        tuple of str
            One name per quantile level, such as "log10_mass_q16" for 0.16.
        """
        return tuple(f"log10_mass_q{_percent(level)}" for level in self.quantile_levels)

    def quantile(self, levels) -> np.ndarray:
        """Compute quantiles of ln M at any CDF levels.

        Parameters
        ----------
        levels : float or sequence of float
            CDF levels between 0 and 1, both excluded.

        Returns
        -------
        Float[np.ndarray, "halo level"]
            Quantiles of ln M [ln Msun]; NaN for unusable rows.

        Raises
        ------
        MassmapError
            For levels that are not numbers between 0 and 1.
        """
        levels = check_levels(levels)
        return self._evaluate("quantile", (levels, 1 - levels), levels.size, per_row=False)

    def cdf(self, ln_mass) -> np.ndarray:
        """Compute the CDF of each row at a mass of its own.

        At the true masses this is the PIT (probability integral transform), which is uniform for calibrated posteriors.

        Parameters
        ----------
        ln_mass : array_like, (halo,)
            One ln mass per row [ln Msun].

        Returns
        -------
        Float[np.ndarray, "halo"]
            Posterior probability of a mass below `ln_mass`; NaN for unusable rows.

        Raises
        ------
        MassmapError
            For another number of masses than rows, and for masses or logarithms to base 10 in place of ln M.
        """
        ln_mass = np.asarray(in_unit(ln_mass, "", "ln_mass", "ln M, M in Msun"), dtype=np.float64)
        if ln_mass.shape != (len(self),):
            raise MassmapError(f"cdf needs one ln mass per row, {len(self)}, and was given the shape {ln_mass.shape}")
        check_ln_mass(ln_mass, self.prior)
        return self._evaluate("cdf", (ln_mass[:, None],), 1)[:, 0]

    def sample(self, key: Array, num: int, rows=None) -> np.ndarray:
        """Draw independent samples of ln M from each row's own posterior, by the inverse CDF.

        All rows share the relation's error, and these samples do not: for a sum over rows use `massmap_jax.mass_map`,
        where one draw of the relation is common to all objects.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key. The numbers belong to the object's id, not to its row.
        num : int
            Samples per row.
        rows : int, slice or array_like, (m,), optional
            Row numbers to draw for; each gets the samples that it would get among all rows. By default all rows.

        Returns
        -------
        Float[np.ndarray, "halo num"]
            Samples of ln M [ln Msun], one row per row asked for; NaN for unusable rows.

        Raises
        ------
        MassmapError
            For fewer than one sample, or a seed in the place of a key.
        """
        check_kinds("sample", key=key)
        if num < 1:
            raise MassmapError(f"number of samples is {num}: give at least 1")
        rows = None if rows is None else self._numbers(rows)
        return self._evaluate("sample", (), num, rows=rows, key_sample=key)

    def log_pdf(self, rows, ln_mass=None) -> tuple[np.ndarray, np.ndarray]:
        """Compute the log density per ln M of some rows on a grid of masses.

        Parameters
        ----------
        rows : int, slice or array_like, (row,)
            Row numbers, or a slice or boolean mask over the rows.
        ln_mass : array_like, (mass,) or (row, mass), optional
            The grid [ln Msun], or one for each row; by default the mass nodes of the prior. Rows with grids of their
            own are integrated in one compiled call.

        Returns
        -------
        ln_mass : Float[np.ndarray, "mass"] or Float[np.ndarray, "row mass"]
            The grid, or grids [ln Msun].
        log_pdf : Float[np.ndarray, "row mass"]
            ln of dP/dlnM; minus infinity outside the prior's masses, NaN for unusable rows.

        Raises
        ------
        MassmapError
            For grids that are not one for each row, masses or logarithms to base 10 in place of ln M, and rows that are
            not there.
        """
        grid = np.asarray(self.prior.ln_mass_nodes if ln_mass is None else ln_mass, dtype=np.float64)
        rows = self._numbers(rows)
        own = grid.ndim == 2
        if grid.ndim not in (1, 2) or (own and len(grid) != rows.size):
            raise MassmapError(
                f"ln_mass has shape {grid.shape} for {rows.size} rows: give one grid, (mass,), or one for each, (row,"
                " mass)"
            )
        check_ln_mass(grid, self.prior)
        given: dict[str, Any] = {"rows": rows, "per_row": own, "together": own, "chunk_size": 16}
        return grid, self._evaluate("log_pdf", (grid,), grid.shape[-1], **given)

    def _numbers(self, rows) -> np.ndarray:
        """Numbers of the rows that were asked for."""
        try:
            return np.atleast_1d(np.arange(len(self))[rows])
        except IndexError as error:
            raise MassmapError(
                f"rows are numbers of rows, from 0 to {len(self) - 1}, a slice or a mask, which {rows!r} is not:"
                f" {error}"
            ) from None

    def _evaluate(
        self, request, arguments, size, *, rows=None, per_row=True, key_sample=None, chunk_size=None, together=False
    ):
        """Integrate the posteriors of some rows again (default: all); NaN for unusable rows."""
        asked = np.arange(len(self)) if rows is None else rows
        result = np.full((asked.size, size), np.nan)
        usable = np.flatnonzero(self.usable[asked])
        need_keys = request == "sample" or self.method in SAMPLED_METHODS
        relation, chunk_size = self.relation.as_batch(), chunk_size or self.chunk_size
        if request == "sample":  # about a dozen numbers per sample are in memory at the same time
            chunk_size = int(np.clip(2**22 // (12 * size), 1, chunk_size))
        options = {"need_keys": need_keys, "selection": self.selection}
        parts = Objects.in_parts(self.catalogue, asked[usable], self.prior, relation, self.extra, **options)
        for own, halos in parts:
            places = usable[own]
            for chosen, outputs in evaluate(
                halos,
                self.prior,
                relation,
                self.selection,
                self.key,
                chunk_size,
                request=request,
                arguments=tuple(a[places] for a in arguments) if per_row else (),
                shared=() if per_row else arguments,
                key_sample=key_sample,
                size=size,
                **settings_of(self.method, self.relation_from, self.num_lum_draws),
            ):
                result[places[chosen]] = outputs
        return result

    def to_table(self, columns=None) -> dict[str, np.ndarray]:
        """Make a dict of columns, one value per row of the catalogue in each, ready for `massmap_jax.write_table`.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns that are wanted; by default all of them.

        Returns
        -------
        dict of str to np.ndarray, (halo,)
            Columns by name, in the catalogue's order of rows: id, position, redshift, ln luminosity and its error; the
            mean, standard deviation, mode and quantiles of log10(M / Msun), M without h; mass_mean [Msun]; the
            diagnostics; the true mass where it is known; the flag and, in words, its reason.

        Raises
        ------
        MassmapError
            For a name that is not one of the columns.
        """
        cat, ln10 = self.catalogue, np.log(10.0)
        table = {"id": self.ids}
        if cat.ra is not None:
            names = ("ra", "dec") if cat.frame == "sky" else ("x", "y")
            table |= dict(zip(names, (cat.ra, cat.dec), strict=True))
        table |= {"z": cat.redshift, "ln_lum_obs": cat.ln_lum_obs, "sigma_ln_lum": cat.sigma_ln_lum}
        if self.redshift_mean is not None and self.redshift_sd is not None:
            table |= {"z_mean": self.redshift_mean, "z_sd": self.redshift_sd}
        table |= {f"log10_mass_{name}": getattr(self, name) / ln10 for name in ("mean", "sd", "mode")}
        table |= {name: self.quantiles[:, i] / ln10 for i, name in enumerate(self.quantile_columns)}
        table |= {
            "mass_mean": self.mean_mass,
            "log_evidence": self.log_evidence,
            "edge_mass": self.edge_mass,
            "information_bits": self.information_bits,
            "ess": self.ess,
        }
        if self.method in SAMPLED_METHODS:
            table["pareto_k"] = self.pareto_k
        if cat.truth_ln_mass is not None:
            table["log10_mass_true"] = cat.truth_ln_mass / ln10
        table["flag"] = self.flag
        if columns is None or "flag_reason" in columns:
            table["flag_reason"] = describe_all(self.flag)
        if columns is None:
            return table
        lacking = [name for name in columns if name not in table]
        if lacking:
            raise MassmapError(f"there is no column {', '.join(lacking)}: choose among {', '.join(table)}")
        return {name: table[name] for name in columns}

    def _described(self, columns) -> DescribedTable:
        """Columns of `to_table` with what they mean and how they were made."""
        table = {name: writable(values) for name, values in self.to_table(columns).items()}
        describe = getattr(self.selection, "describe", None)  # a user's own selection need not have it
        meta = provenance(self.prior, self.relation) | {
            "relation_from": self.relation_from or "one relation",
            "method": self.method,
            "selection": describe() if describe else type(self.selection).__name__,
            "luminosity_unit": self.catalogue.lum_unit or "unknown",
        }
        return DescribedTable(table, meta, **column_info(table))

    def to_astropy(self, columns=None) -> Any:
        """Make an astropy Table of the columns of `to_table`, with units, descriptions, UCDs and metadata.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns that are wanted; by default all of them.

        Returns
        -------
        astropy.table.Table
            One row per row of the catalogue. How the masses were made is in its `meta`, the UCD in that of a column.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> catalogue = mm.HaloCatalogue.from_arrays(
        ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.4], sigma_ln_luminosity=0.05, ids=["A", "B"]
        ... )
        >>> relation = mm.MassLuminosityRelation.identity()
        >>> table = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation).to_astropy()
        >>> table["id"].tolist(), str(table["mass_mean"].unit), table.meta["mass_definition"]
        (['A', 'B'], 'solMass', '200m')
        """
        return self._described(columns).astropy()

    def to_pandas(self, columns=None) -> Any:
        """Make a pandas DataFrame of the columns of `to_table`.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns that are wanted; by default all of them.

        Returns
        -------
        pandas.DataFrame
            One row per row of the catalogue. Its `attrs` hold how the masses were made, and units, descriptions and
            ucds by column.

        Raises
        ------
        MassmapError
            Where pandas is not installed.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> catalogue = mm.HaloCatalogue.from_arrays(
        ...     luminosity=[2e14, 5e14], redshift=[0.2, 0.4], sigma_ln_luminosity=0.05, ids=["A", "B"]
        ... )
        >>> relation = mm.MassLuminosityRelation.identity()
        >>> frame = mm.mass_posterior(catalogue, mm.MassPrior.default(), relation).to_pandas(["id", "mass_mean"])
        >>> frame.shape, frame.attrs["units"], frame.attrs["mass_definition"]
        ((2, 2), {'mass_mean': 'solMass'}, '200m')
        """
        return self._described(columns).pandas()

    def to_qp(self, num_quantiles: int = 99) -> Any:
        """Make a `qp` ensemble of quantiles of ln M, with one entry per usable row.

        Parameters
        ----------
        num_quantiles : int
            Number of levels, evenly spaced from 0.01 to 0.99; the levels 0.001 and 0.999 are added.

        Returns
        -------
        qp.Ensemble
            Quantiles of ln M [ln Msun] of the usable rows. Its table `ancil` says which rows these are: "id", and
            "row", the number of the row.

        Raises
        ------
        MassmapError
            Where the package qp-prob is not installed.
        """
        try:
            import qp
        except ImportError:
            raise MassmapError("to_qp needs the package qp-prob: pip install qp-prob") from None
        levels = np.concatenate([[1e-3], np.linspace(0.01, 0.99, num_quantiles), [0.999]])
        rows = np.flatnonzero(self.usable)
        ancil = {"id": writable(self.ids[rows]), "row": rows}
        return qp.Ensemble(qp.quant, data={"quants": levels, "locs": self.quantile(levels)[rows]}, ancil=ancil)

    def check(self) -> None:
        """Raise an error if any row is flagged.

        A row is flagged if it has no posterior, no usable position, or more than 1 % of its posterior lies beyond the
        prior's mass table.

        Raises
        ------
        MassmapError
            For flagged rows: it says how many there are, the first one, and the reasons.
        """
        bad = self.flag != 0
        if bad.any():
            lines = "; ".join(summary_lines(self.flag))
            raise MassmapError(f"{bad.sum()} of {len(self)} rows are flagged, first row {int(np.argmax(bad))}: {lines}")

    def summary(self) -> str:
        """Summarise the result in a few lines of text: rows, flags, range of masses and typical error bar.

        Returns
        -------
        str
            Lines to print.
        """
        lines = summary_lines(self.flag)
        if self.usable.any():
            dex = np.nanmedian(self.sd) / np.log(10)
            low, high = np.nanmin(self.mean) / np.log(10), np.nanmax(self.mean) / np.log(10)
            lines.append(f"log10(M/Msun) from {low:.2f} to {high:.2f}, median error {dex:.3f} dex")
        if self.surface is not None:
            lines += [
                self.surface.summary(),
                f"{self.num_beside_surface} rows outside its range, integrated one by one",
            ]
        return "\n".join(lines)


def check_ln_mass(ln_mass: np.ndarray, prior: MassPrior) -> None:
    """Refuse masses, or their logarithms to base 10, where natural logarithms are meant.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "..."]
        What was given as ln M [ln Msun].
    prior : MassPrior
        Its masses tell what is meant: a few of them may lie beyond, but not all.

    Raises
    ------
    MassmapError
        Where none lies within the prior's masses, and those that are meant are.
    """
    known = ln_mass[np.isfinite(ln_mass)]

    def within(values):
        return (values >= prior.ln_mass_min) & (values <= prior.ln_mass_max)

    if known.size == 0 or within(known).any():
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        meant = {"masses": np.log(known), "logarithms to base 10": known * np.log(10)}
    for what, values in meant.items():
        if 2 * within(values).sum() > values.size:
            raise MassmapError(
                f"ln_mass is {known[0]:g} in the first place: these look like {what}, and ln M is needed, between"
                f" {prior.ln_mass_min:.1f} and {prior.ln_mass_max:.1f} for the masses of the prior"
            )


def check_levels(levels) -> np.ndarray:
    """Check quantile levels and give them as an array.

    Parameters
    ----------
    levels : float or sequence of float
        CDF levels.

    Returns
    -------
    Float[np.ndarray, "level"]
        The levels.

    Raises
    ------
    MassmapError
        For levels that are not numbers between 0 and 1 (both excluded), or none.
    """
    levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    bad = ~((levels > 0) & (levels < 1))
    if levels.ndim != 1 or levels.size == 0 or bad.any():
        raise MassmapError(f"quantile levels {levels.tolist()} must be numbers between 0 and 1, both excluded")
    return levels


def _percent(level: float) -> str:
    """Give the digits of a level after the point: '16' for 0.16, '025' for 0.025."""
    return f"{level:.6f}".rstrip("0")[2:].ljust(2, "0")
