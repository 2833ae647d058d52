"""Halo mass posteriors of a catalogue: `mass_posterior(...) -> MassPosterior`."""

import equinox as eqx
import numpy as np
from jaxtyping import Array

from massmap_jax.catalogue.flags import UNUSABLE, describe_all, summary_lines
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.integrals import SAMPLED_METHODS
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior.requests import evaluate, settings_of
from massmap_jax.prior.mass_prior import MassPrior

# Above this much posterior mass beyond the prior's table a row is flagged EDGE.
EDGE_LIMIT = 0.01


class MassPosterior(eqx.Module):
    """Posterior of ln M (Msun) of every catalogue row: summaries, and what is needed to evaluate it again.

    Rows in = rows out, in order; unusable rows hold NaN and a flag. All arrays are float64 on the host.

    Attributes
    ----------
    ids, flag : (halo,)
    mean, sd, mode : (halo,) of ln M. mean_mass : (halo,) E[M] in Msun, what a map adds up.
    quantile_levels : (level,); quantiles : (halo, level) of ln M.
    log_evidence : (halo,) ln P(L_obs | z, relation), a density per unit L_obs, averaged over relation draws.
    edge_mass : (halo,) fraction of the posterior that would lie beyond the prior's table, ln p continued linearly.
    information_bits : (halo,) Kullback-Leibler divergence of the posterior from the prior at the object's redshift.
    ess : (halo,) effective number of relation draws; with a sampled method, of luminosity samples at the mean mass.
    pareto_k : (halo,) of those luminosity weights; NaN for methods without weights.
    catalogue, prior, relation, selection, extra, relation_from, method, num_lum_draws, chunk_size, key : what it was
        made with.
    surface : the table that method "surface" read, else None. num_beside_surface : rows outside its range, which were
        integrated one by one.
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
    relation: eqx.Module
    selection: eqx.Module
    extra: TabulatedTerm | None
    key: Array | None
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    method: str = eqx.field(static=True)
    num_lum_draws: int = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)
    surface: eqx.Module | None = None
    num_beside_surface: int = eqx.field(static=True, default=0)

    def __len__(self) -> int:
        return self.flag.shape[0]

    @property
    def usable(self) -> np.ndarray:
        """(halo,) rows with a posterior."""
        return (self.flag & UNUSABLE) == 0

    @property
    def median(self) -> np.ndarray:
        """(halo,) median of ln M."""
        if 0.5 in self.quantile_levels:
            return self.quantiles[:, self.quantile_levels.index(0.5)]
        return self.quantile((0.5,))[:, 0]

    @property
    def quantile_columns(self) -> tuple[str, ...]:
        """Names of the quantiles in `to_table`."""
        return tuple(f"log10_mass_q{_percent(level)}" for level in self.quantile_levels)

    def quantile(self, levels) -> np.ndarray:
        """(halo, level) quantiles of ln M at CDF levels in (0, 1)."""
        levels = check_levels(levels)
        return self._evaluate("quantile", (levels, 1 - levels), levels.size, per_row=False)

    def cdf(self, ln_mass) -> np.ndarray:
        """(halo,) CDF of each row at its own ln_mass [ln Msun], (halo,); at the true mass this is the PIT.

        `MassmapError` for another shape.
        """
        ln_mass = np.asarray(ln_mass, dtype=np.float64)
        if ln_mass.shape != (len(self),):
            raise MassmapError(f"cdf needs one ln mass per row, {len(self)}, and has shape {ln_mass.shape}")
        return self._evaluate("cdf", (ln_mass[:, None],), 1)[:, 0]

    def sample(self, key: Array, num: int, rows=None) -> np.ndarray:
        """(halo, num) independent draws of ln M from each row's own posterior, by the inverse CDF.

        Rows share the relation's error, so sums over rows need `mass_map`, not these marginal draws. key : numbers are
        keyed by object. rows : (m,) row numbers to draw for, each as it would be among all; None: all.
        """
        return self._evaluate("sample", (), num, rows=rows, key_sample=key)

    def log_pdf(self, rows, ln_mass=None) -> tuple[np.ndarray, np.ndarray]:
        """ln density per ln M of some rows: grid (mass,) and values (row, mass).

        ln_mass : the grid [ln Msun]; None: the prior's.
        """
        grid = np.asarray(self.prior.ln_mass_nodes if ln_mass is None else ln_mass, dtype=np.float64)
        rows = np.atleast_1d(np.arange(len(self))[rows])
        return grid, self._evaluate("log_pdf", (grid,), grid.size, rows=rows, per_row=False, chunk_size=16)

    def _evaluate(self, request, arguments, size, *, rows=None, per_row=True, key_sample=None, chunk_size=None):
        """Recompute the panels of some rows (default all) and ask them something; NaN for unusable rows."""
        asked = np.arange(len(self)) if rows is None else rows
        result = np.full((asked.size, size), np.nan)
        places = np.flatnonzero(self.usable[asked])
        need_keys = request == "sample" or self.method in SAMPLED_METHODS
        halos = Objects.of(self.catalogue, asked[places], self.extra, need_keys=need_keys)
        chunk_size = chunk_size or self.chunk_size
        if request == "sample":  # about a dozen numbers live per draw
            chunk_size = int(np.clip(2**22 // (12 * size), 1, chunk_size))
        for chosen, outputs in evaluate(
            halos,
            self.prior,
            self.relation.as_batch(),
            self.selection,
            self.key,
            chunk_size,
            request=request,
            arguments=tuple(a[asked[places]] for a in arguments) if per_row else (),
            shared=() if per_row else arguments,
            key_sample=key_sample,
            size=size,
            **settings_of(self.method, self.relation_from, self.num_lum_draws),
        ):
            result[places[chosen]] = outputs
        return result

    def to_table(self, columns=None) -> dict[str, np.ndarray]:
        """Columns for a table, (halo,) each, in the catalogue's order; masses as log10(M / Msun), M without h.

        columns : names of those that are wanted; None: all.

        `MassmapError` for names that are no columns.
        """
        cat, ln10 = self.catalogue, np.log(10.0)
        table = {"id": self.ids}
        if cat.ra is not None:
            names = ("ra", "dec") if cat.frame == "sky" else ("x", "y")
            table |= dict(zip(names, (cat.ra, cat.dec), strict=True))
        table |= {"z": cat.redshift, "ln_lum_obs": cat.ln_lum_obs, "sigma_ln_lum": cat.sigma_ln_lum}
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

    def to_qp(self, num_quantiles: int = 99):
        """A `qp` ensemble of quantiles of ln M, one per usable row (extra `qp`; `MassmapError` without it).

        `num_quantiles` levels evenly from 0.01 to 0.99, and 0.001 and 0.999.
        """
        try:
            import qp
        except ImportError:
            raise MassmapError("to_qp needs the package qp-prob: pip install qp-prob") from None
        levels = np.concatenate([[1e-3], np.linspace(0.01, 0.99, num_quantiles), [0.999]])
        quantiles = self.quantile(levels)[self.usable]
        return qp.Ensemble(qp.quant, data={"quants": levels, "locs": quantiles})

    def check(self) -> None:
        """Raise where any row has no posterior or loses more than 1 % of it beyond the prior's table.

        `MassmapError` says how many, and the first.
        """
        bad = self.flag != 0
        if bad.any():
            lines = "; ".join(summary_lines(self.flag))
            raise MassmapError(f"{bad.sum()} of {len(self)} rows are flagged, first row {int(np.argmax(bad))}: {lines}")

    def summary(self) -> str:
        """A few lines for a person: rows, flags, typical error bar."""
        lines = summary_lines(self.flag)
        if self.usable.any():
            dex = np.nanmedian(self.sd) / np.log(10)
            low, high = np.nanmin(self.mean) / np.log(10), np.nanmax(self.mean) / np.log(10)
            lines.append(f"log10(M/Msun) from {low:.2f} to {high:.2f}, median error {dex:.3f} dex")
        if self.surface is not None:
            lines += [self.surface.summary(), f"{self.num_beside_surface} rows beside it, integrated one by one"]
        return "\n".join(lines)


def check_levels(levels) -> np.ndarray:
    """Give the quantile levels as an array, refused where one is not between 0 and 1."""
    levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    bad = ~((levels > 0) & (levels < 1))
    if levels.ndim != 1 or levels.size == 0 or bad.any():
        raise MassmapError(f"quantile levels {levels.tolist()} must be numbers between 0 and 1, both excluded")
    return levels


def _percent(level: float) -> str:
    """0.16 -> '16', 0.025 -> '025' (the digits after the point)."""
    return f"{level:.6f}".rstrip("0")[2:].ljust(2, "0")
