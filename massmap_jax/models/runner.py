"""NUTS, or any NumPyro kernel, on every halo by itself: `sample_halo_masses(...) -> HaloMassSamples`.

Each halo has a chain (or several) of its own, with its own step size and its own trajectories; thousands advance
together under vmap. In the coordinates of `coordinates` every posterior is close to N(0, 1), so that trajectories are
short and the halos do not wait for one with a long trajectory.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS
from numpyro.infer.mcmc import MCMCKernel

from massmap_jax import devices
from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE, Flag, summary_lines
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import flag_outside_prior, lognormal_rows
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.models.coordinates import TruncatedGaussian
from massmap_jax.models.mixture import check_relation, draw_terms, mixture_log_likelihood
from massmap_jax.models.objects import PlacedObjects
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.steps import Step

# Halos per chunk at most, on a CPU and on a GPU; on a CPU, draws of a chunk.
_CHUNK, _CHUNK_GPU = 4096, 2**16
_DRAWS_PER_CHUNK = 2**22
# Draws of a chain from which R-hat is computed, and the R-hat beyond which an object is flagged.
_FEWEST, _MAX_R_HAT = 4, 1.1


def nuts(potential_fn) -> NUTS:
    """Make the default kernel, tuned for a density close to N(0, 1) in one dimension.

    Parameters
    ----------
    potential_fn : callable
        -ln density of one number.

    Returns
    -------
    numpyro.infer.NUTS
        The kernel.

    Notes
    -----
    With this density a step of about 1.6 crosses the posterior and the trajectory turns back after it: draws are nearly
    uncorrelated, and deeper trees cost twice the time for fewer effective draws (172 of 300 against 218). The step
    size, adapted to each halo, does the work of a mass matrix. The acceptance is set lower than usual, for longer
    steps. It is no lower than this because the last 50 transitions of a warm-up decide the step: with 0.6 some chains
    got a step so long that they stayed for up to 80 transitions in a tail (of 6,400 chains of 1,000 draws the worst had
    62 effective draws of a tail, with 0.65 it has 140, and the median rises from 614 to 694).
    """
    return NUTS(
        potential_fn=potential_fn, step_size=1.5, target_accept_prob=0.65, max_tree_depth=1, adapt_mass_matrix=False
    )


class HaloMassSamples(eqx.Module):
    """The draws of ln M of each catalogue row, summarised, as `sample_halo_masses` returns them.

    There is one entry for each row of the catalogue; unusable rows hold NaN.

    Attributes
    ----------
    ids : np.ndarray, (halo,)
        Ids of the catalogue.
    flag : np.ndarray, (halo,)
        `Flag` bits of each row.
    mean, sd : np.ndarray, (halo,)
        Posterior mean and standard deviation of ln M [ln Msun].
    mean_mass : np.ndarray, (halo,)
        Posterior mean of M [Msun].
    quantiles : np.ndarray, (halo, level)
        Quantiles of ln M [ln Msun].
    r_hat : np.ndarray, (halo,)
        Split R-hat.
    ess : np.ndarray, (halo,)
        Effective number of draws for the mean of ln M, over all chains.
    divergences : np.ndarray, (halo,)
        Divergent transitions after the warm-up; 0 for kernels that do not report them.
    draws : np.ndarray or None, (halo, chain, sample)
        Every draw of ln M [ln Msun] in float32, where `keep_draws` was given.
    quantile_levels : tuple of float
        Levels of the quantiles.
    relation_from : str or None
        Where the relation draws are from, as it was given.
    num_warmup, num_samples, num_chains : int
        Transitions of each chain before the draws are kept, draws kept of each chain, and chains of each halo.

    See Also
    --------
    sample_halo_masses : the function that makes them.
    """

    ids: np.ndarray
    flag: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    mean_mass: np.ndarray
    quantiles: np.ndarray
    r_hat: np.ndarray
    ess: np.ndarray
    divergences: np.ndarray
    draws: np.ndarray | None
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)
    num_warmup: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)
    num_chains: int = eqx.field(static=True)

    def __len__(self) -> int:
        return self.flag.shape[0]

    @property
    def usable(self) -> np.ndarray:
        """Rows that were sampled, (halo,) bool."""
        return (self.flag & UNUSABLE) == 0

    def summary(self) -> str:
        """Describe the samples in a few lines of text.

        Returns
        -------
        str
            Rows, flags, and how well the chains mixed.
        """
        lines = summary_lines(self.flag)
        if self.usable.any():
            # A chain that did not move has no R-hat.
            high = 100 * np.mean(~(self.r_hat[self.usable] <= 1.05))
            lines.append(
                f"{self.num_chains} x {self.num_samples} draws a halo: median ESS {np.nanmedian(self.ess):.0f}, split "
                "R-hat above 1.05 or undefined in "
                f"{high:.3g} % of halos, {self.divergences.sum()} divergent transitions"
            )
        return "\n".join(lines)


class _Settings(NamedTuple):
    """What a compiled chunk depends on, besides its arrays."""

    normalise: bool
    num_warmup: int
    num_samples: int
    num_chains: int
    kernel: Callable


def sample_halo_masses(
    key: Array,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    *,
    relation_from: RelationFrom | None = None,
    num_warmup: int = 150,
    num_samples: int = 300,
    num_chains: int = 1,
    chunk_size: int | None = None,
    kernel: Callable[[Callable], MCMCKernel] = nuts,
    quantile_levels=(0.025, 0.16, 0.5, 0.84, 0.975),
    selection=None,
    keep_draws: bool = False,
    watch: Callable[[str], None] = lambda stage: None,
) -> HaloMassSamples:
    """Draw ln M of each halo by MCMC from prior x likelihood, with the relation marginalised over its draws.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key. A halo's random numbers depend on it and on the halo's id, not on row order, subset or chunk.
    catalogue : HaloCatalogue
        The objects, with lognormal noise; unusable rows are left out.
    prior : MassPrior
        Prior density p(ln M | z) of the masses.
    relation : MassLuminosityRelation
        One relation, or a batch of relation draws (or another kind with a `data_term`).
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        Where a batch of draws is from, which sets its weights as in `mass_posterior`; needed for a batch.
    num_warmup, num_samples : int, optional
        Transitions of each chain before the draws are kept, and draws kept. In a test with 20 warm-up transitions
        nearly all transitions of some halos diverged and their chains did not move, which NOT_CONVERGED flags; with
        50 all was well.
    num_chains : int, optional
        Chains of each halo.
    chunk_size : int, optional
        Halos in one compiled call on each device; the memory needed is proportional to it. Default: by the memory that
        is free.
    kernel : callable, optional
        potential_fn -> NumPyro kernel, where potential_fn takes one number. Give a named function: each new function
        is compiled again.
    quantile_levels : tuple of float, optional
        Levels of the quantiles of ln M.
    selection : Selection, optional
        Which objects can be in the catalogue; it enters the weights of "other_data" only.
    keep_draws : bool, optional
        Whether to keep every draw, 4 bytes each.
    watch : callable, optional
        Called now and then with a line of text on the halos that are done.

    Returns
    -------
    HaloMassSamples
        Summaries, diagnostics and, with `keep_draws`, the draws.

    Raises
    ------
    MassmapError
        A batch without `relation_from`, noise that is not lognormal, no usable row, noise and scatter that are both 0,
        or sizes below 1.

    See Also
    --------
    mass_posterior : the same posterior by integration, faster.
    halo_mass_model : the same density as a NumPyro model.

    Notes
    -----
    The target is that of `mass_posterior`. The density itself is the mixture over relation draws, with the weights that
    `relation_from` asks for, so that any kernel samples the exact posterior.

    The chains of one halo in two runs with different chunk sizes agree to rounding at first. A chunk of another size is
    compiled to other float32 sums, so a chain may later go another way.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> prior = mm.MassPrior.default()
    >>> key = jax.random.key(0)
    >>> samples = mm.sample_halo_masses(key, catalogue, prior, relation, num_warmup=50, num_samples=50, keep_draws=True)
    >>> samples.draws.shape
    (5, 1, 50)
    >>> bool((samples.sd > 0).all())
    True
    """
    check_kinds("sample_halo_masses", key=key, catalogue=catalogue, prior=prior, relation=relation)
    relation_from = check_relation_from(relation, relation_from)
    check_relation(relation)
    _check_sizes(num_warmup=num_warmup, num_samples=num_samples, num_chains=num_chains, chunk_size=chunk_size)
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    objects, rows = PlacedObjects.of(catalogue, prior), lognormal_rows(catalogue, prior)
    _check_widths(objects, relation)
    settings = _Settings(relation_from != "other_data", num_warmup, num_samples, num_chains, kernel)
    selection = NoSelection() if selection is None else selection
    levels = np.asarray(quantile_levels, dtype=np.float64)
    number, per_halo = len(catalogue), num_chains * num_samples
    chunk_size = chunk_size or _auto_chunk(per_halo, relation.num_draws)
    chunk_size = min(chunk_size, 16 * -(-len(objects) // (16 * devices.count()))) * devices.count()

    names = ("mean", "sd", "mean_mass", "r_hat", "ess")
    columns = {name: np.full(number, np.nan) for name in names}
    quantiles, divergences = np.full((number, levels.size), np.nan), np.zeros(number, dtype=np.int64)
    draws = np.full((number, num_chains, num_samples), np.nan, dtype=np.float32) if keep_draws else None
    arguments = devices.everywhere((*jax.tree.map(jnp.asarray, (prior, relation.as_batch(), selection)), key))

    def work(start):
        chosen = np.arange(start, min(start + chunk_size, len(objects)))
        padded = np.concatenate([chosen, np.full(chunk_size - chosen.size, chosen[-1])])
        ln_mass, diverging = _sample_chunk(objects.take(padded).on_device(), *arguments, settings=settings)
        ln_mass = np.asarray(ln_mass, dtype=np.float64)[..., : chosen.size]
        place = rows[chosen]
        for name, values in zip(names, _summaries(ln_mass), strict=True):
            columns[name][place] = values
        quantiles[place] = np.quantile(ln_mass, levels, axis=(0, 1)).T
        divergences[place] = np.asarray(diverging)[: chosen.size]
        if keep_draws:
            draws[place] = ln_mass.transpose(2, 0, 1)
        say(int(np.isfinite(columns["mean"]).sum()))

    def say(done):
        watch(Step("NUTS for each object", done, len(objects)))

    say(0)
    devices.in_threads(work, range(0, len(objects), chunk_size))
    flag = flag_outside_prior(catalogue, prior)
    flag[((flag & UNUSABLE) == 0) & ~np.isfinite(columns["mean"])] |= Flag.NO_SUPPORT
    if num_samples >= _FEWEST:
        flag[((flag & UNUSABLE) == 0) & ~(columns["r_hat"] <= _MAX_R_HAT)] |= Flag.NOT_CONVERGED
    return HaloMassSamples(
        ids=catalogue.ids,
        flag=flag,
        quantiles=quantiles,
        divergences=divergences,
        draws=draws,
        quantile_levels=tuple(float(v) for v in levels),
        relation_from=relation_from,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        **columns,
    )


def _auto_chunk(draws: int, relation_draws: int) -> int:
    """Halos per chunk and device, for so many draws of each: by the memory that is free where the device reports it."""
    free = devices.free_bytes()
    if free is None:
        return int(np.clip(_DRAWS_PER_CHUNK // draws, 16, _CHUNK))
    # Copies of the draws and of the mixture's terms, for two chunks that run at once.
    numbers = 2 * (4 * draws + 8 * relation_draws)
    return int(np.clip(free // (2 * numbers * jnp.zeros(()).dtype.itemsize), 16, _CHUNK_GPU))


@devices.over_halos("objects", static=("settings",), out=(P(None, None, "halo"), devices.HALO))
def _sample_chunk(objects: PlacedObjects, prior, relation, selection, key, *, settings: _Settings):
    """Draws of ln M (chain, sample, halo) and divergent transitions (halo,) of one chunk."""
    norm = prior.norm_coefficients()

    def one(one_halo):
        terms, typical = draw_terms(one_halo, prior, norm, relation, selection, normalise=settings.normalise)
        coordinates = TruncatedGaussian.fit(one_halo, prior, typical)

        def potential(e):
            ln_mass, ln_jacobian = coordinates(e, typical)
            ln_density = one_halo.ln_prior(prior, ln_mass) + mixture_log_likelihood(terms, ln_mass)
            return -(ln_density + ln_jacobian)

        own = jax.random.fold_in(jax.random.fold_in(key, one_halo.id_hash[0]), one_halo.id_hash[1])
        chain = partial(_chain, potential_fn=potential, settings=settings)
        e, diverging = jax.vmap(chain)(jax.random.split(own, settings.num_chains))
        return coordinates(e, typical)[0], diverging.sum()

    return jax.vmap(one, out_axes=(2, 0))(objects)


def _chain(key, *, potential_fn, settings: _Settings):
    """Coordinates (sample,) and divergences (sample,) of one chain, started at a draw of N(0, 1)."""
    kernel = settings.kernel(potential_fn)
    key_start, key_chain = jax.random.split(key)
    state = kernel.init(key_chain, settings.num_warmup, jax.random.normal(key_start), (), {})

    def step(state, _):
        state = kernel.sample(state, (), {})
        return state, (getattr(state, kernel.sample_field), getattr(state, "diverging", jnp.zeros((), bool)))

    # One loop, with the warm-up, which is not kept: a second loop would double the time to compile.
    _, kept = jax.lax.scan(step, state, length=settings.num_warmup + settings.num_samples)
    return jax.tree.map(lambda a: a[settings.num_warmup :], kept)


def _summaries(ln_mass):
    """mean, sd, E[M], split R-hat and effective sample size of draws (chain, sample, halo)."""
    mean = ln_mass.mean(axis=(0, 1))
    few = ln_mass.shape[1] < _FEWEST
    with np.errstate(invalid="ignore", divide="ignore"):
        r_hat = np.full_like(mean, np.nan) if few else split_gelman_rubin(ln_mass)
        ess = np.full_like(mean, np.nan) if few else effective_sample_size(ln_mass)
    return mean, ln_mass.std(axis=(0, 1)), np.exp(ln_mass).mean(axis=(0, 1)), r_hat, ess


def _check_sizes(**sizes) -> None:
    """Refuse sizes below 1."""
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise MassmapError(f"{name} is {value}: give at least 1")


def _check_widths(objects: PlacedObjects, relation) -> None:
    """Refuse objects whose likelihood has no width: noise and scatter both 0."""
    bad = (objects.sigma == 0) & bool((np.asarray(relation.scatter_ln_lum(0.0, 0.0)) == 0).any())
    if bad.any():
        raise MassmapError(
            f"noise and scatter are both 0 for {bad.sum()} objects, first usable row {int(np.argmax(bad))}: give a "
            "sigma above 0"
        )
