"""Halo mass posteriors of a catalogue: `mass_posterior(...) -> MassPosterior`."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array

from massmap_jax import devices
from massmap_jax.catalogue.flags import UNUSABLE, Flag, describe_all, summary_lines
from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from_known
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.integrals import METHODS, SAMPLED_METHODS, effective_sample_size, log_weights_at, pareto_k
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior import kernel as _halos
from massmap_jax.prior.mass_prior import MassPrior, panels

# Above this much posterior mass beyond the prior's table a row is flagged EDGE.
EDGE_LIMIT = 0.01
_SUMMARIES = ("mean", "sd", "mode", "mean_mass", "log_evidence", "edge_mass", "information_bits", "ess", "pareto_k")


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
        levels = _check_levels(levels)
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
        halos = _halos.of_catalogue(self.catalogue, self.extra, asked[places], need_keys=need_keys)
        chunk_size = chunk_size or self.chunk_size
        if request == "sample":  # about a dozen numbers live per draw
            chunk_size = int(np.clip(2**22 // (12 * size), 1, chunk_size))
        for chosen, outputs in _run(
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
            **_settings(self.method, self.relation_from, self.num_lum_draws),
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
            raise MassmapError("to_qp needs the package qp-prob: pip install 'massmap_jax[qp]'") from None
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


def mass_posterior(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    *,
    relation_from: RelationFrom | None = None,
    method: str = "analytic",
    key: Array | None = None,
    chunk_size: int | None = None,
    quantile_levels=(0.025, 0.16, 0.5, 0.84, 0.975),
    num_lum_draws: int = 100,
    selection=None,
    extra: TabulatedTerm | None = None,
    surface=None,
) -> MassPosterior:
    """Posterior of each object's halo mass, the relation marginalised over its draws.

    P(M | L_obs, z, sigma) is proportional to P(M|z) times the average over draws of P(L_obs | M, alpha, S, z).

    Parameters
    ----------
    catalogue : one row per object.
    prior : P(ln M | z), centrals only.
    relation : one relation or a batch of draws (`MassLuminosityRelation`, or any `relation.Relation`).
    relation_from : how the draws are weighted; required with more than one draw.
        "this_catalogue": inferred with these objects: each draw's posterior is normalised, then averaged.
        "other_data": external draws, which the object itself updates: a draw weighs Z_k (the 2017 formula).
        "fixed_draws": external draws, which the objects may not update: as "this_catalogue".
    method : "analytic", "monte_carlo", "importance" or "quadrature" (`likelihood`); "surface": the summaries of the
        analytic integral, interpolated (`surface.PosteriorSurface`, to 1 % of the posterior sd), which pays from some
        10^5 objects on. CDFs, densities and draws of the result are integrated.
    key : for the sampled methods; randomness is keyed per object id.
    chunk_size : objects per compiled call and device; the answer does not depend on it. None: from a memory budget.
    quantile_levels : CDF levels in (0, 1) to keep.
    num_lum_draws : luminosity samples per relation draw (sampled methods).
    selection : which objects are in the catalogue (`selection.NoSelection()`); it enters the Z_k weights only.
    extra : a further, independent likelihood per object, log_likelihood (halo, g).
    surface : for method "surface", a `PosteriorSurface` made earlier with the same arguments; None: one is made.

    Raises
    ------
    MassmapError : unknown names, no key for a sampled method, no `relation_from` for a batch, no usable row.
    """
    if method not in (*METHODS, "surface"):
        raise MassmapError(f"method {method!r} is not known: give one of {', '.join(METHODS)}, surface")
    relation_from = check_relation_from(relation, relation_from)
    if method in SAMPLED_METHODS and key is None:
        raise MassmapError(f"method {method!r} draws luminosities: give key=jax.random.key(seed)")
    if num_lum_draws < 1:
        raise MassmapError(f"number of luminosity draws is {num_lum_draws}: give at least 1")
    if chunk_size is not None and chunk_size < 1:
        raise MassmapError(f"chunk size is {chunk_size}: give at least 1")
    if extra is not None and extra.log_likelihood.shape != (len(catalogue), extra.ln_mass_nodes.shape[0]):
        raise MassmapError(
            f"extra likelihood has shape {extra.log_likelihood.shape}: give one row per catalogue row and one column "
            f"per ln mass node, ({len(catalogue)}, {extra.ln_mass_nodes.shape[0]})"
        )
    levels = _check_levels(quantile_levels)
    flag = flag_outside_prior(catalogue, prior)
    usable = (flag & UNUSABLE) == 0
    rows = np.flatnonzero(usable)
    halos = _halos.of_catalogue(catalogue, extra, rows, need_keys=method in SAMPLED_METHODS)
    _halos.check_noise(halos, relation, "analytic" if method == "surface" else method, prior)
    chunk_size = chunk_size or _halos.auto_chunk(relation)
    selection = NoSelection() if selection is None else selection

    number = len(catalogue)
    columns = {name: np.full(number, np.nan) for name in _SUMMARIES}
    quantiles = np.full((number, levels.size), np.nan)
    beside = 0
    if method == "surface":
        from massmap_jax.posterior.surface import for_posterior

        surface = for_posterior(catalogue, rows, prior, relation, relation_from, selection, levels, extra, surface)
        found, read_quantiles = surface.summaries(halos.ln_lum_obs[:, 0], halos.z[:, 0], halos.sigma)
        for name, values in found.items():
            columns[name][rows] = values
        quantiles[rows] = read_quantiles
        outside = ~np.isfinite(found["mean"])
        beside = int(outside.sum())
        halos, rows = halos.take(outside), rows[outside]
    integrated = _run(
        halos,
        prior,
        relation.as_batch(),
        selection,
        key,
        chunk_size,
        request="summaries",
        shared=(levels, 1 - levels),
        **_settings(method, relation_from, num_lum_draws),
    )
    for chosen, outputs in integrated if rows.size else ():
        for name in _SUMMARIES:
            columns[name][rows[chosen]] = outputs[name]
        quantiles[rows[chosen]] = outputs["quantiles"]

    lost = usable & ~np.isfinite(columns["log_evidence"])
    flag[lost] |= Flag.NO_SUPPORT
    for name in _SUMMARIES:
        columns[name][lost] = np.nan
    quantiles[lost] = np.nan
    with np.errstate(invalid="ignore"):
        flag[columns["edge_mass"] > EDGE_LIMIT] |= Flag.EDGE
    return MassPosterior(
        ids=catalogue.ids,
        flag=flag,
        quantiles=quantiles,
        catalogue=catalogue,
        prior=prior,
        relation=relation,
        selection=selection,
        extra=extra,
        key=key,
        quantile_levels=tuple(float(v) for v in levels),
        relation_from=relation_from,
        method=method,
        num_lum_draws=num_lum_draws,
        chunk_size=chunk_size,
        surface=surface if method == "surface" else None,
        num_beside_surface=beside,
        **columns,
    )


def check_relation_from(relation, relation_from: RelationFrom | None) -> RelationFrom | None:
    """Draws need a stated origin: the wrong weights are a wrong answer, so there is no default."""
    if relation_from is None and relation.num_draws > 1:
        raise MassmapError(
            f"relation has {relation.num_draws} draws, and relation_from is not given: say 'this_catalogue' (draws "
            "inferred with these objects), 'other_data' (external draws that the objects may update) or 'fixed_draws' "
            "(external draws that they may not)"
        )
    if relation_from is not None:
        check_relation_from_known(relation_from)
    return relation_from


def flag_outside_prior(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """The catalogue's flags, with rows beyond the prior's redshifts flagged; an error when no row is left."""
    flag = flag_of_part(catalogue, prior)
    if not ((flag & UNUSABLE) == 0).any():
        outside = (flag & Flag.Z_OUTSIDE_PRIOR) != 0
        if outside.any():
            first = int(np.argmax(outside))
            raise MassmapError(
                f"redshift of all {outside.sum()} usable rows lies outside the prior's range {prior.z_min:g} to "
                f"{prior.z_max:g}, first row {first}: z = {catalogue.redshift[first]:g}; give a prior that covers the "
                "catalogue"
            )
        raise MassmapError("no usable row: " + "; ".join(summary_lines(flag)))
    return flag


def flag_of_part(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """The same for a part of a catalogue, which may have no row left."""
    flag = np.array(catalogue.flag, dtype=np.int32)
    with np.errstate(invalid="ignore"):
        outside = (catalogue.redshift < prior.z_min) | (catalogue.redshift > prior.z_max)
    flag[outside & ((flag & UNUSABLE) == 0)] |= Flag.Z_OUTSIDE_PRIOR
    return flag


def lognormal_rows(catalogue: HaloCatalogue, prior: MassPrior) -> np.ndarray:
    """Usable row numbers, for what knows lognormal noise only (the relation's fit, the models): an error otherwise."""
    rows = np.flatnonzero((flag_outside_prior(catalogue, prior) & UNUSABLE) == 0)
    kinds = catalogue.noise_codes[rows]
    other = kinds != NOISE_KINDS.index("lognormal")
    if other.any():
        first = int(np.argmax(other))
        raise MassmapError(
            f"the noise has to be lognormal here, and {other.sum()} objects have another kind, first row {rows[first]} "
            f"({NOISE_KINDS[kinds[first]]}): leave them out, give sigma in ln L, or use mass_posterior(..., "
            "method='quadrature') with a relation known beforehand"
        )
    return rows


def _check_levels(levels) -> np.ndarray:
    levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    bad = ~((levels > 0) & (levels < 1))
    if levels.ndim != 1 or levels.size == 0 or bad.any():
        raise MassmapError(f"quantile levels {levels.tolist()} must be numbers between 0 and 1, both excluded")
    return levels


def _percent(level: float) -> str:
    """0.16 -> '16', 0.025 -> '025' (the digits after the point)."""
    return f"{level:.6f}".rstrip("0")[2:].ljust(2, "0")


def _settings(method, relation_from, num_lum_draws) -> dict:
    method = "analytic" if method == "surface" else method
    num_lum = num_lum_draws if method in SAMPLED_METHODS else 1
    return {"method": method, "normalise": relation_from != "other_data", "num_lum": num_lum}


def _run(halos, prior, relation, selection, key, chunk_size, *, request, arguments=(), shared=(), **static):
    """The posterior kernel over all rows; yields (rows, outputs on the host)."""
    key = jax.random.key(0) if key is None else key  # unused by the methods that need none
    key_sample = static.pop("key_sample", None)
    keys = (key, key if key_sample is None else key_sample)
    common = devices.everywhere((shared, prior, relation, selection, keys))

    def kernel(i, low, high, **group):
        own = tuple(a[i] for a in arguments)
        return _posterior_chunk(halos.take(i), low, high, own, *common, request=request, **group, **static)

    return _halos.run(kernel, halos, prior, relation, chunk_size)


@devices.over_halos(
    *("halos", "low", "high", "arguments"),
    static=("request", "method", "kind", "normalise", "wide", "num_panels", "num_lum", "size"),
)
def _posterior_chunk(
    halos,
    low,
    high,
    arguments,
    shared,
    prior,
    relation,
    selection,
    keys,
    *,
    request,
    method,
    kind,
    normalise,
    wide,
    num_panels,
    num_lum,
    size=0,
):
    """One chunk of objects: the panel of each, then what `request` asks of it. The package's one posterior kernel."""
    settings = {"method": method, "kind": kind, "normalise": normalise, "wide": wide}
    settings |= {"num_panels": num_panels, "num_lum": num_lum}
    low, high = jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float)
    norm = prior.norm_coefficients()

    def one(halo, low, high, arguments):
        panel = _halos.mixture_panel(halo, low, high, prior, norm, relation, selection, keys[0], **settings)
        quantile = partial(panels.panel_quantile, panel.density, panel.low, panel.high, num_panels)
        if request == "cdf":
            return panels.panel_cdf(panel.density, panel.low, panel.high, num_panels, arguments[0])
        if request == "quantile":
            return quantile(*shared)
        if request == "sample":
            scores = _halos.base_normals(keys[1], halo.id_hash, (size,))
            return quantile(ndtr(scores), ndtr(-scores))
        if request == "log_pdf":
            return _log_pdf(halo, panel, shared[0], prior, relation, selection, keys[0], settings)
        return _summaries(halo, panel, quantile(*shared), prior, relation, selection, keys[0], settings)

    return jax.vmap(one, (halos.axes(), 0, 0, 0))(halos, low, high, arguments)


def _draw_weights(halo, panel, prior, relation, selection, normalise):
    """ln of each draw's share in the object's posterior; (draw,)."""
    log_weight = jax.nn.log_softmax(relation.log_weight)
    if normalise:
        return log_weight
    ln_norm = jax.vmap(lambda r: selection.log_norm(r, prior, halo.z[0], halo.sigma))(relation)
    shares = log_weight + panel.ln_evidence - ln_norm
    return shares - jnp.maximum(jax.nn.logsumexp(jnp.maximum(shares, -1e30)), -1e30)


def _summaries(halo, panel, quantiles, prior, relation, selection, key, settings):
    ln_mass = panels.panel_nodes(panel.low, panel.high, settings["num_panels"])
    weights = panels.panel_weights(panel.low, panel.high, settings["num_panels"])
    total = (weights * panel.density).sum()
    density = panel.density / jnp.where(total > 0, total, 1.0)
    fraction = weights * density
    offset = ln_mass - panel.low
    mean = (fraction * offset).sum()
    sd = jnp.sqrt((fraction * (offset - mean) ** 2).sum())
    ln_density = jnp.log(jnp.where(density > 0, density, 1.0))
    information = (fraction * jnp.where(density > 0, ln_density - panel.ln_prior, 0.0)).sum() / np.log(2)

    ln_shares = _draw_weights(halo, panel, prior, relation, selection, settings["normalise"])
    shares = jnp.exp(ln_shares)
    ln_evidence = jax.nn.log_softmax(relation.log_weight) + jnp.maximum(panel.ln_evidence, -1e30)
    ln_odds = panel.ln_beyond - jnp.maximum(panel.ln_evidence, -1e30)
    if settings["normalise"]:
        edge_mass = (shares * jax.nn.sigmoid(ln_odds)).sum()
    else:  # draws weigh their evidence with the part beyond the table, too
        edge_mass = jax.nn.sigmoid(jax.nn.logsumexp(ln_shares + ln_odds))
    log_evidence = jax.nn.logsumexp(ln_evidence) + selection.log_prob(halo.ln_lum_obs[0], halo.z[0])
    mean = panel.low + mean
    if settings["method"] in SAMPLED_METHODS:
        normals = _all_normals(halo, relation, key, settings["num_lum"])
        log_weights = log_weights_at(
            settings["method"], mean, halo.z[0], halo.ln_lum_obs[0], halo.sigma, relation, normals
        )
        log_weights = (log_weights + ln_shares[:, None]).ravel()
        ess, k = effective_sample_size(log_weights), pareto_k(log_weights)
    else:
        ess, k = effective_sample_size(ln_shares), jnp.nan * total
    return {
        "mean": mean,
        "sd": sd,
        "mode": _mode(ln_mass, panel.density, panel.low, panel.high),
        "mean_mass": (fraction * jnp.exp(ln_mass)).sum(),
        "log_evidence": jnp.where((total > 0) & (log_evidence > -1e29), log_evidence, -jnp.inf),
        "edge_mass": edge_mass,
        "information_bits": information,
        "ess": ess,
        "pareto_k": k,
        "quantiles": quantiles,
    }


def _mode(ln_mass, density, low, high):
    """Highest of: the parabola through the highest node and its neighbours in ln density (exact for a Gaussian), and
    the two ends of the interval, where a table that ends cuts the posterior off."""
    # The first index of the maximum (argmax is a slow reduction on CPU).
    index = jnp.arange(density.shape[0])
    top = jnp.clip(jnp.where(density == density.max(), index, density.shape[0]).min(), 1, density.shape[0] - 2)
    three = jnp.stack([top - 1, top, top + 1])
    x = ln_mass[three] - ln_mass[top]
    tiny = jnp.finfo(density.dtype).tiny
    y = jnp.log(jnp.maximum(density[three], tiny))
    left, right = (y[1] - y[0]) / -x[0], (y[2] - y[1]) / x[2]
    curvature = jnp.minimum((right - left) / (x[2] - x[0]), -tiny)
    slope = left + curvature * -x[0]  # at the highest node
    offset = jnp.clip(-slope / (2 * curvature), low - ln_mass[top], high - ln_mass[top])
    candidates = jnp.stack([ln_mass[top] + offset, low, high])
    ends = jnp.log(jnp.maximum(jnp.stack(panels.end_densities(density)), tiny))
    values = jnp.concatenate([(y[1] + slope * offset + curvature * offset**2)[None], ends])
    return candidates[jnp.argmax(values)]


def _all_normals(halo, relation, key, num_lum):
    """The base normals of every draw as the streamed blocks use them; (draw, lum)."""
    draws = relation.log_weight.shape[0]
    block = min(_halos.DRAW_BLOCK, draws)
    blocks = [
        _halos.base_normals(jax.random.fold_in(key, i), halo.id_hash, (block, num_lum))
        for i in range(-(-draws // block))
    ]
    return jnp.concatenate(blocks)[:draws]


def _log_pdf(halo, panel, ln_mass, prior, relation, selection, key, settings):
    normals = _all_normals(halo, relation, key, settings["num_lum"])
    ln_prior = _halos.ln_prior_at(halo, prior, _halos.prior_rows_of(halo, prior), ln_mass)
    joint = _halos.joint_of_draws(halo, relation, normals, ln_prior, ln_mass, settings["method"], settings["kind"])
    shares = _draw_weights(halo, panel, prior, relation, selection, settings["normalise"])
    values = jax.nn.logsumexp(joint + (shares - panel.ln_evidence)[:, None], axis=0)
    inside = (ln_mass >= prior.ln_mass_nodes[0]) & (ln_mass <= prior.ln_mass_nodes[-1])
    return jnp.where(inside, values, -jnp.inf)
