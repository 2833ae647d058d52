"""P(alpha, S | data): the relation inferred from the catalogue itself, `fit_relation(...) -> RelationPosterior`.

Masses are marginalised (`relation.marginal`), so four numbers are left. They are sampled at the catalogue's own
pivot, where ln L is known best and hardly correlated with slope and evolution, and reported at alpha3:

    a = alpha1 + alpha2 ln(M_pivot / alpha3) + alpha4 ln(1 + z_pivot),   alpha2,   alpha4,   ln S

Newton's method finds the maximum; the inverse Hessian there is the Laplace approximation, the proposal of the
importance sampler and the mass matrix of NUTS. Everything runs in float64, whatever JAX's default: ln L is near 1e6.
"""

import warnings
from collections.abc import Callable
from itertools import product
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.integrals import effective_sample_size, pareto_k
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior, prior_deviations
from massmap_jax.relation.data import CatalogueData, RelationData
from massmap_jax.relation.fitted import RelationPosterior
from massmap_jax.relation.marginal import RelationLikelihood
from massmap_jax.relation.nuts import diagnostics, run_nuts

Method = Literal["laplace", "nuts", "importance"]
METHODS = ("laplace", "nuts", "importance")
MAX_PARETO_K = 0.7
_MAX_STEPS = 100
# Half of g H^-1 g: the ln density still to be gained.
_CONVERGED = 1e-7
# Points are not made for a smaller scatter S, since the number of boxes would grow without bound.
_LEAST_SCATTER = 1e-3
# Draws from the prior that a maximum is compared with, and the distance from the prior's middle, in its standard
# deviations, beyond which a second search starts from the best of them.
_STARTS, _FAR_SD = 64, 3.0
# The table of G has to hold this many standard deviations about the maximum, in every direction. Centre and width go
# as 1 / alpha2, so there is no table where this brings alpha2 near 0.
_REACH, _LEAST_SLOPE = 6.0, 0.3
# Below this number of points, integrating each one is faster than building a table.
_FEW = 200


class Coordinates(eqx.Module):
    """The free parameters at the catalogue's pivot, and the ln posterior density in them.

    Attributes
    ----------
    prior : RelationPrior
        Prior of the relation's parameters.
    pivot_ln_mass : Float[Array, ""]
        ln(M_pivot / alpha3).
    pivot_evolution : Float[Array, ""]
        ln(1 + z_pivot), or ln E(z_pivot).
    """

    prior: RelationPrior
    pivot_ln_mass: Float[Array, ""]  # ln(M_pivot / alpha3)
    pivot_evolution: Float[Array, ""]  # ln(1 + z_pivot), or ln E

    @classmethod
    def at(cls, prior: RelationPrior, centre: float, z: float) -> "Coordinates":
        """Put the pivot at a ln M and a redshift; where these are arrays, at their medians."""
        evolution = np.median(np.asarray(prior.relation(prior.central()).ln_redshift_variable(z)))
        return cls(prior, np.median(centre) - np.log(prior.alpha3), evolution)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return self.prior.free

    def values(self, x: Float[Array, "*draw dim"]) -> dict[str, Array]:
        """Give the free parameters, at alpha3, of points in the sampling coordinates."""
        values = dict(zip(self.free, jnp.moveaxis(jnp.asarray(x), -1, 0), strict=True))
        if "scatter" in values:
            values["scatter"] = jnp.exp(values["scatter"])
        if "alpha1" in values:
            values["alpha1"] = values["alpha1"] - self._shift(values)
        return values

    def place(self, values: dict) -> Float[Array, " dim"]:
        """Give the sampling coordinates of given parameters."""
        x = {p: jnp.asarray(values[p], dtype=float) for p in self.free}
        if "scatter" in x:
            x["scatter"] = jnp.log(x["scatter"])
        if "alpha1" in x:
            x["alpha1"] = x["alpha1"] + self._shift(values)
        return jnp.stack([x[p] for p in self.free])

    def _shift(self, values):
        """Change of the normalisation from alpha3 to the pivot."""
        alpha2, alpha4 = (values[p] if p in values else self.prior.beliefs[p] for p in ("alpha2", "alpha4"))
        return alpha2 * self.pivot_ln_mass + alpha4 * self.pivot_evolution

    def log_density(self, x: Float[Array, " dim"], likelihood) -> Float[Array, ""]:
        """Evaluate ln of likelihood x prior density in these coordinates (the shift has Jacobian 1, ln S has S)."""
        values = self.values(x)
        jacobian = x[self.free.index("scatter")] if "scatter" in self.free else 0.0
        return likelihood(self.prior.relation(values)) + self.prior.log_prob(values) + jacobian


class Maximum(NamedTuple):
    """The maximum of a posterior in its unconstrained coordinates, and the Hessian there.

    Attributes
    ----------
    x : Float[Array, "dim"]
        Coordinates of the maximum.
    negative_log_density : Float[Array, ""]
        -ln density there.
    hessian : Float[Array, "dim dim"]
        Second derivatives of -ln density there.
    decrement : Float[Array, ""]
        Half of g H^-1 g: the ln density still to be gained.
    steps : Array, ()
        Newton steps taken.
    ended : Array, ()
        Whether the search ended before the limit of steps.
    """

    x: Float[Array, " dim"]
    negative_log_density: Float[Array, ""]
    hessian: Float[Array, "dim dim"]
    decrement: Float[Array, ""]
    steps: Array
    ended: Array


@jax.jit
def maximise(coordinates: Coordinates, likelihood: RelationLikelihood, start: Float[Array, " dim"]) -> Maximum:
    """Find the maximum of the ln density by Newton's method.

    The curvature is made positive, and steps are halved until the density rises. It is pure JAX and works under vmap.
    """

    def objective(x):
        return -coordinates.log_density(x, likelihood)

    def expand(x):
        def gradient(x):
            value, gradient = jax.value_and_grad(objective)(x)
            return gradient, (value, gradient)

        hessian, (value, gradient) = jax.jacfwd(gradient, has_aux=True)(x)
        curvature, vectors = jnp.linalg.eigh(hessian)
        curvature = jnp.maximum(jnp.abs(curvature), 1e-10 * jnp.abs(curvature).max())
        step = -vectors @ ((vectors.T @ gradient) / curvature)
        step = step / jnp.maximum(1.0, jnp.abs(step).max())
        return value, hessian, step, -0.5 * gradient @ step

    def halve(carry):
        x, step, value, decrement, size, _ = carry
        return x, step, value, decrement, 0.5 * size, objective(x + 0.5 * size * step)

    def worse(carry):
        _, _, value, decrement, size, new = carry
        # 1e-13: the rounding of a ln likelihood of 1e6.
        return ~(new <= value - 2e-4 * size * decrement + 1e-13 * jnp.abs(value)) & (size > 1e-8)

    def body(state):
        value, hessian, step, decrement = expand(state.x)
        converged = decrement < _CONVERGED
        first = (state.x, step, value, decrement, jnp.where(converged, 0.0, 2.0), jnp.asarray(jnp.nan))
        *_, size, new = jax.lax.while_loop(worse, halve, first)
        # Where no step raises the density any more, the search ends, converged or not.
        ended = converged | ~(new <= value)
        x = jnp.where(ended, state.x, state.x + size * step)
        return Maximum(x, value, hessian, decrement, state.steps + 1, ended)

    unknown = jnp.asarray(jnp.nan)
    first = Maximum(
        start, unknown, jnp.full((start.size, start.size), jnp.nan), unknown, jnp.asarray(0), start[0] > jnp.inf
    )
    return jax.lax.while_loop(lambda state: ~state.ended & (state.steps < _MAX_STEPS), body, first)


def fit_relation(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior | str | dict = "bigmali2017",
    *,
    method: Method = "laplace",
    selection=None,
    key: Array | None = None,
    num_draws: int = 1000,
    num_chains: int = 4,
    num_warmup: int = 200,
    watch: Callable[[str], None] = lambda stage: None,
) -> RelationPosterior:
    """Infer the mass-luminosity relation from a catalogue, with every mass marginalised.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects, with one redshift each and lognormal noise; unusable rows are left out.
    prior : MassPrior
        Prior density p(ln M | z) of the masses. The fit rests on it, above all on its lowest mass.
    relation_prior : RelationPrior, str or dict, optional
        Prior of the relation: a `RelationPrior`, a preset's name, or a numpyro distribution (free) or number (fixed)
        for each of alpha1, alpha2, alpha4 and scatter, with the pivot alpha3 [Msun].
    method : {"laplace", "nuts", "importance"}, optional
        "laplace" draws from the normal distribution about the maximum, "importance" weights these draws to the exact
        posterior, and "nuts" samples the exact posterior by NUTS with the Laplace covariance as mass matrix.
    selection : Selection, optional
        Which objects can be in the catalogue. Without one, every object is assumed to be in it, and a warning says how
        far the maximum moves when the lowest mass of the prior doubles.
    key : Key[Array, ""], optional
        Random key of the draws; default `jax.random.key(0)`.
    num_draws : int, optional
        Draws in all, over all chains.
    num_chains : int, optional
        Chains of NUTS.
    num_warmup : int, optional
        Warm-up steps of each chain of NUTS.
    watch : callable, optional
        Called with a line of text at each stage.

    Returns
    -------
    RelationPosterior
        Draws, maximum, covariance, diagnostics and notes. `fit.draws` goes into `mass_posterior` and `mass_map` with
        `relation_from="this_catalogue"`.

    Raises
    ------
    MassmapError
        Unknown names, no usable row, a selection that excludes a catalogued object, mass definitions of the two priors
        that differ, no maximum inside the prior, or draws of "importance" with a Pareto k of 0.7 or more.

    Warns
    -----
    UserWarning
        Each of the notes of the result, such as a missing selection.

    See Also
    --------
    RelationPrior : the prior of the relation.
    log_likelihood : the likelihood that is fitted.
    prior_check : whether the mass prior describes the catalogue.

    Notes
    -----
    The posterior is prior(relation) x product over k of Z_k / A_k, where Z_k is the evidence of halo k and A_k the
    probability that such an object is in the catalogue. Without the A_k, a catalogue of bright objects biases the
    relation: use a selection wherever there is a limit.

    With luminosities and redshifts alone, the shape of the mass function is what sets the slope and the scatter.
    Compare the fit with the prior of the relation (`unconstrained`, `notes`).

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> prior = mm.MassPrior.default()
    >>> fit = mm.fit_relation(catalogue, prior, "bigmali2017", key=jax.random.key(0), num_draws=200)
    >>> fit.free
    ('alpha1', 'alpha2', 'alpha4', 'scatter')
    >>> fit.draws.num_draws
    200
    >>> print(f"{fit.mean['alpha2']:.2f}")
    0.35
    """
    relation_prior = check_fit(prior, relation_prior, method, num_draws, num_chains, num_warmup)
    check_labels(catalogue=catalogue, relation_prior=relation_prior)
    with jax.enable_x64(True):
        data = CatalogueData(catalogue, prior, selection)
    return fit_to(data, relation_prior, method, key, num_draws, num_chains, num_warmup, watch)


def check_fit(prior: MassPrior, relation_prior, method, num_draws, num_chains, num_warmup) -> RelationPrior:
    """Refuse arguments that no catalogue can make good, and give the relation's prior."""
    if method not in METHODS:
        raise MassmapError(f"fit method {method!r} is not known: give one of {', '.join(METHODS)}")
    if num_draws < 2 or num_chains < 1 or num_warmup < 1:
        raise MassmapError(f"a fit needs at least 2 draws, 1 chain and 1 warm-up step, not {num_draws}, {num_chains}, "
                           f"{num_warmup}")  # fmt: skip
    if (method == "nuts" and num_draws < 4 * num_chains) or (method == "importance" and num_draws < 25):
        raise MassmapError(
            f"{num_draws} draws are too few for diagnostics: give at least 4 for each chain (nuts) or 25 (importance)"
        )
    relation_prior = RelationPrior.of(relation_prior)
    if not relation_prior.free:
        raise MassmapError("every parameter of the relation is fixed: there is nothing to fit")
    check_labels(relation_prior=relation_prior, mass_prior=prior)
    return relation_prior


def fit_to(
    data: RelationData, relation_prior: RelationPrior, method, key, num_draws, num_chains, num_warmup, watch
) -> RelationPosterior:
    """Fit the relation to objects that may be in memory or not; arguments as in `fit_relation`, after `check_fit`."""
    key = jax.random.key(0) if key is None else key
    prior, no_selection = data.prior, isinstance(data.selection, NoSelection)
    with jax.enable_x64(True):
        watch("finding the best relation")
        coordinates, likelihood, best = find_maximum(data, relation_prior)
        covariance = covariance_of(best, coordinates)
        prepared = None
        if method != "laplace":
            watch("tabulating the evidence")
            prepared = prepare(data, coordinates, likelihood, best, covariance)
        chains, log_weight, found = _draws(
            method, key, coordinates, prepared, best, covariance, num_draws, num_chains, num_warmup, watch
        )
        values, maximum, covariance_at_alpha3 = _at_alpha3(coordinates, chains, best.x, covariance)
        shift = None
        if no_selection:
            watch("moving the prior's lowest mass")
            shift = _shift_with_lowest_mass(prior, coordinates, likelihood, best)
        result = RelationPosterior.assemble(
            relation_prior,
            values={p: np.asarray(v).ravel() for p, v in values.items()},
            log_weight=log_weight,
            maximum={p: float(v) for p, v in maximum.items()},
            covariance=np.asarray(covariance_at_alpha3),
            num_chains=chains.shape[0],
            method=method,
            diagnostics={"newton_steps": int(best.steps), "log_density": -float(best.negative_log_density)} | found,
            num_halos=int(data.num_halos),
            selection="none" if no_selection else data.selection.describe(),
            mass_prior=prior.description,
            mass_definition=prior.mass_definition,
            lum_unit=data.lum_unit,
            shift_if_lowest_mass_doubles=shift,
        )
    for note in result.notes:
        warnings.warn(note, stacklevel=3)
    return result


@jax.jit
def _at_alpha3(coordinates, chains, best, covariance):
    """Draws, maximum and covariance of the free parameters at alpha3, from the sampling coordinates."""
    jacobian = jax.jacobian(lambda x: jnp.stack([coordinates.values(x)[p] for p in coordinates.free]))(best)
    return coordinates.values(chains), coordinates.values(best), jacobian @ covariance @ jacobian.T


def find_maximum(data: RelationData, relation_prior):
    """Coordinates, likelihood and maximum: the search starts in the prior's middle, and again where it was trapped.

    The density may have several maxima, above all with a selection. The first search is trusted if it ends near the
    prior's middle and above every one of a few draws from the prior; otherwise another starts from the best of them.
    """
    central = relation_prior.central()
    start = relation_prior.relation(central)
    coordinates = Coordinates.at(relation_prior, *data.middle(start))
    place = jax.jit(Coordinates.place)
    likelihood, best = _search(data, coordinates, place(coordinates, central), central["scatter"])
    if not np.isfinite(best.negative_log_density):
        data.refuse(start)
    draws = relation_prior.sample(jax.random.key(0), (_STARTS,))
    draws = np.asarray(jax.vmap(place, in_axes=(None, 0))(coordinates, draws))
    draws = draws[np.isfinite(draws).all(axis=1)]
    dim = len(coordinates.free)
    values = np.asarray(_potentials(draws, (coordinates, likelihood, np.zeros(dim), np.eye(dim))))
    if not np.isfinite(values).any():
        return coordinates, likelihood, best
    highest = np.argmin(values)
    if values[highest] < best.negative_log_density or _conflict(coordinates, best.x) > _FAR_SD:
        other = _search(data, coordinates, draws[highest], float(_relation_at(coordinates, draws[highest]).scatter))
        if other[1].negative_log_density < best.negative_log_density:
            likelihood, best = other
    return coordinates, likelihood, best


def _search(data: RelationData, coordinates, x, found: float):
    """Likelihood and maximum from x, of scatter `found`; points are made again for a much smaller fitted scatter."""
    for _ in range(8):
        scatter = max(0.5 * found, _LEAST_SCATTER)
        likelihood = RelationLikelihood.of(data, scatter=scatter)
        best = maximise(coordinates, likelihood, x)
        if not np.isfinite(best.negative_log_density):
            break
        x = best.x
        found = float(_relation_at(coordinates, x).scatter)
        if found > 1.1 * scatter or not likelihood.compressed or scatter <= _LEAST_SCATTER:
            break
    return likelihood, best


def _conflict(coordinates, x) -> float:
    """The largest distance of a parameter from its prior's middle, in standard deviations of the prior."""
    prior, relation = coordinates.prior, _relation_at(coordinates, x)
    values = {p: getattr(relation, p) for p in coordinates.free}
    return max(prior_deviations(values, prior.central(), prior.sd()).values())


@jax.jit
def _relation_at(coordinates, x):
    return coordinates.prior.relation(coordinates.values(x))


def covariance_of(best: Maximum, coordinates: Coordinates) -> np.ndarray:
    """Inverse Hessian at the maximum; an error that says why, where there is no maximum inside the prior."""
    x, hessian = np.asarray(best.x), np.asarray(best.hessian)
    values = {p: float(getattr(_relation_at(coordinates, x), p)) for p in coordinates.free}
    at = ", ".join(f"{p} = {v:.4g}" for p, v in values.items())
    for name, value in values.items():
        support = coordinates.prior.beliefs[name].support
        ends = [float(getattr(support, end)) for end in ("lower_bound", "upper_bound") if hasattr(support, end)]
        near = [e for e in ends if abs(value - e) < 1e-4 * max(coordinates.prior.sd()[name], 1e-12)]
        if near:
            raise MassmapError(
                f"the prior of {name} excludes the data: the posterior is highest at its bound {near[0]:g} ({at}); "
                "widen it, or look for objects that the relation or the mass prior does not describe"
            )
    good = np.isfinite(x).all() and np.isfinite(hessian).all() and float(best.decrement) < 1e-2
    curvature, vectors = np.linalg.eigh(hessian) if np.isfinite(hessian).all() else (np.array([-1.0]), np.eye(1))
    if not good or curvature.min() <= 0:
        direction = coordinates.free[int(np.argmax(np.abs(vectors[:, 0])))] if vectors.shape[0] > 1 else "the relation"
        raise MassmapError(
            f"the relation has no maximum inside its prior after {int(best.steps)} steps ({at}): the data do not bound "
            f"{direction}; give it a normal prior or fix it, and check the unit of the luminosity and the mass prior"
        )
    return np.linalg.inv(hessian)


def _negative_log_density(x, model):
    """Potential in whitened coordinates: x = centre + root u."""
    coordinates, likelihood, centre, root = model
    value = -coordinates.log_density(centre + root @ x, likelihood)
    # Outside the table of G, or outside the prior's support, the potential is infinite.
    return jnp.where(jnp.isfinite(value), value, jnp.inf)


def _draws(method, key, coordinates, prepared, best, covariance, num_draws, num_chains, num_warmup, watch):
    """Draw by the method that was chosen: coordinates (chain, draw, dim), log weights, diagnostics."""
    root = np.linalg.cholesky(covariance)
    centre = np.asarray(best.x)
    key_start, key_draw = jax.random.split(key)
    if method == "nuts":
        start = np.asarray(jax.random.normal(key_start, (num_chains, centre.size))) * 0.5
        model = (coordinates, prepared, centre, root)
        each = -(-num_draws // num_chains)
        chains = run_nuts(
            key_draw, _negative_log_density, model, start, num_warmup=num_warmup, num_samples=each, watch=watch
        )
        x = centre + chains.draws @ root.T
        values = {p: np.asarray(v) for p, v in coordinates.values(x).items()}
        found = {
            name: {p: diagnostics(v)[name] for p, v in values.items()} for name in ("r_hat", "ess_bulk", "ess_tail")
        }
        found |= {"divergences": int(chains.divergences.sum()), "steps_per_draw": round(chains.steps_per_draw, 2)}
        return x, np.zeros(x.shape[0] * x.shape[1]), found
    normals = np.asarray(jax.random.normal(key_draw, (num_draws, centre.size)))
    x = centre + normals @ root.T
    if method == "laplace":
        x, inside = _within_prior(key_start, coordinates, x, centre, root)
        return x[None], np.zeros(num_draws), {"inside_prior": inside}
    watch("weighing the draws")
    log_density = -np.asarray(_potentials(normals, (coordinates, prepared, centre, root)))
    log_weight = log_density + 0.5 * (normals**2).sum(axis=1) + float(best.negative_log_density)
    k = float(pareto_k(jnp.asarray(log_weight)))
    if not k < MAX_PARETO_K:
        raise MassmapError(
            f"the normal approximation is too far from the posterior to be reweighted (Pareto k = {k:.2f}, at most "
            f"{MAX_PARETO_K}): use method='nuts'"
        )
    return x[None], log_weight, {"pareto_k": k, "ess": float(effective_sample_size(jnp.asarray(log_weight)))}


def _within_prior(key, coordinates, x, centre, root):
    """Draw again what lies outside the prior's support; give the draws, and the share that was inside at first."""
    outside = ~np.asarray(_supported(coordinates, x))
    inside = 1 - float(outside.mean())
    while outside.any():
        # No endless loop: the maximum lies inside, and the normal has its highest density there.
        key, own = jax.random.split(key)
        x = np.where(outside[:, None], centre + np.asarray(jax.random.normal(own, x.shape)) @ root.T, x)
        outside = ~np.asarray(_supported(coordinates, x))
    return x, inside


@jax.jit
def _supported(coordinates, x):
    """Whether each point (draw, dim) is inside the prior's support."""
    return jax.vmap(lambda x: coordinates.prior.log_prob(coordinates.values(x)) > -jnp.inf)(x)


@jax.jit
def _potentials(normals, model):
    """Potential of each point (draw, dim) in whitened coordinates, one after the other."""
    return jax.lax.map(lambda u: _negative_log_density(u, model), normals)


def prepare(data: RelationData, coordinates, likelihood, best, covariance) -> RelationLikelihood:
    """The likelihood for many evaluations near the maximum: points for its scatter, and G tabulated about it."""
    if likelihood.weight.size < _FEW:
        return likelihood
    centre, root = np.asarray(best.x), np.linalg.cholesky(covariance)
    if likelihood.compressed and "scatter" in coordinates.free:
        i = coordinates.free.index("scatter")
        least = float(_relation_at(coordinates, centre).scatter) * np.exp(-6 * np.sqrt(covariance[i, i]))
        likelihood = RelationLikelihood.of(data, scatter=max(least, _LEAST_SCATTER))
    corners = np.array(list(product((-_REACH, 0.0, _REACH), repeat=centre.size)))
    relations = _relation_at(coordinates, centre + corners @ root.T)
    alpha2 = np.asarray(relations.alpha2)
    if (alpha2 / alpha2[alpha2.size // 2]).min() < _LEAST_SLOPE:
        return likelihood
    return likelihood.with_table(relations)


def _shift_with_lowest_mass(prior, coordinates, likelihood, best) -> dict[str, float]:
    """How far the maximum moves, in each free parameter, when the prior's lowest mass doubles; NaN where it is lost."""
    nodes, ln_density = np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density)
    # As many nodes as before, so that nothing is compiled again; the lowest one at twice the mass.
    moved = np.linspace(nodes[0] + np.log(2.0), nodes[-1], nodes.size)
    table = np.stack([np.interp(moved, nodes, row) for row in ln_density])
    changed = MassPrior.from_table(
        prior.redshift_nodes, np.exp(moved), np.exp(table - table.max(axis=1, keepdims=True)), per="ln_mass"
    )
    nodes_and_density = (changed.ln_mass_nodes, changed.ln_density)
    cut = likelihood.with_prior(eqx.tree_at(lambda p: (p.ln_mass_nodes, p.ln_density), prior, nodes_and_density))
    again = maximise(coordinates, cut, best.x)
    if not float(again.decrement) < 1e-2:
        return dict.fromkeys(coordinates.free, float("nan"))
    before, after = _relation_at(coordinates, best.x), _relation_at(coordinates, again.x)
    return {p: float(getattr(after, p) - getattr(before, p)) for p in coordinates.free}
