"""P(alpha, S | data): the relation inferred from the catalogue itself, `fit_relation(...) -> RelationPosterior`.

Masses are marginalised: by `relation.marginal` where there are luminosities and redshifts alone, by `relation.joint`
where some masses were measured. `relation.search` finds the maximum and draws about it.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.likelihood.selection import NoSelection, described
from massmap_jax.likelihood.stacks import StackedTerm
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.cosmology_draws import CosmologyDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior, prior_deviations
from massmap_jax.relation.calibration import CalibrationMasses, belief
from massmap_jax.relation.contradiction import contradiction
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.correlations import LKJ_SHAPE
from massmap_jax.relation.cosmology_data import (
    CosmologyData,
    LikelihoodUnderCosmology,
    LinearUnderCosmology,
)
from massmap_jax.relation.cosmology_posterior import CosmologyPosterior
from massmap_jax.relation.cosmology_prior import CosmologyPrior
from massmap_jax.relation.data import RelationData
from massmap_jax.relation.direct import data_of
from massmap_jax.relation.draws import draw_by
from massmap_jax.relation.extra import BiasedPrior
from massmap_jax.relation.fitted import RelationPosterior
from massmap_jax.relation.joint_fit import beliefs_asked, fit_joint
from massmap_jax.relation.lattice import SLOPE_RANGE, LatticeTooLarge
from massmap_jax.relation.linear import LinearData, LinearLikelihood
from massmap_jax.relation.marginal import RelationLikelihood
from massmap_jax.relation.search import (
    PART,
    at_alpha3,
    covariance_of,
    maximise,
    off_normal,
    potentials,
    relation_at,
)
from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass
from massmap_jax.relation.stack_evidence import evidence_of
from massmap_jax.relation.uncertain import UncertainData, UncertainLikelihood

Method = Literal["laplace", "nuts", "importance"]
ByLattice = LinearLikelihood | LinearUnderCosmology
METHODS = ("laplace", "nuts", "importance")
# Points are not made for a smaller scatter S, since the number of boxes would grow without bound.
_LEAST_SCATTER = 1e-3
# Draws from the prior that a maximum is compared with, and the distance from the prior's middle, in its standard
# deviations, beyond which a second search starts from the best of them.
_STARTS, _FAR_SD = PART, 3.0
# The table of G has to hold this many standard deviations about the maximum, in every direction. Centre and width go
# as 1 / alpha2, so there is no table where this brings alpha2 near 0.
_REACH, _LEAST_SLOPE = 6.0, 0.3
# Lattices that would be too large hold this many standard deviations instead.
_LESS = (5.0, 4.0)
# Below this number of points, integrating each one is faster than building a table.
_FEW = 200
# From this number of objects on, a lattice that stands for them is compared with them; it may move the maximum by this
# many standard deviations, or they are integrated one by one. What it is off by goes as the root of their number.
_CHECKED, _OFF = 20_000, 0.05
# Draws of a normal approximation that are weighed to see how far it is off, where a weight takes milliseconds.
_WEIGHED = 200


def fit_relation(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior | str | dict = "bigmali2017",
    *,
    calibration: CalibrationMasses | None = None,
    population: Population | str | None = None,
    extra: TabulatedTerm | StackedTerm | None = None,
    extra_bias=0.0,
    observables: Mapping | None = None,
    scatter_correlation=LKJ_SHAPE,
    cosmology: CosmologyDraws | None = None,
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
        The objects; unusable rows are left out. Redshifts may be distributions, and noise may be linear and
        luminosities upper limits; both together in a fit to luminosities alone of up to 20,000 objects.
    prior : MassPrior
        Prior density p(ln M | z) of the masses. The fit rests on it, above all on its lowest mass.
    relation_prior : RelationPrior, str or dict, optional
        Prior of the relation: a `RelationPrior`, a preset's name, the text of `RelationPrior.parse`, or a numpyro
        distribution (free) or number (fixed) for each of alpha1, alpha2, alpha4 and scatter, with the pivot alpha3
        [Msun].
    calibration : CalibrationMasses, optional
        Measured masses of some objects, one entry for each row of the catalogue. With them the relation no longer
        rests on the shape of the mass function.
    population : Population or str, optional
        Form of the distribution of masses in the catalogue, fitted jointly. By default the mass function times a
        completeness, `Population.hmf_completeness()`, where there are calibration masses, and the mass prior as it is,
        `Population.fixed()`, where there are none. A name, such as "gaussian" or "mixture:3", is read by
        `Population.parse`.
    extra : TabulatedTerm or StackedTerm, optional
        A likelihood of ln M for each row of the catalogue, such as that of weak lensing; blank where there is none. It
        has to hold the whole error of these masses, their scatter too, and must be independent of the luminosity at
        fixed mass. Or stacked shear profiles of many objects, `StackedShear.signals`. Not together with `calibration`
        or `population`.
    extra_bias : float, numpyro.distributions.Distribution or str, optional
        Bias b that these likelihoods share: they are taken at ln M + b. A number, a distribution, or "MEAN:SD", which
        is fitted too.
    observables : dict of str to RelationPrior, optional
        Further observables that are fitted together with the luminosity, by the names that they have in the catalogue
        (`HaloCatalogue.with_observables`): the prior of each relation, in any form that `relation_prior` has.
    scatter_correlation : float or dict of str to object, optional
        Belief about the correlations of their scatters at fixed mass: the shape of an LKJ prior, or beliefs by name,
        "correlation_A" of A with the luminosity and "partial_A_B" of A and B at fixed luminosity.
    cosmology : CosmologyDraws, optional
        What is known of the cosmology: relation and cosmology are fitted together, with the mean and the covariance of
        the ln of these draws as the prior of the cosmology. The mass prior has to be a mass function of Tinker et al.,
        whose own cosmology is not used. Luminosities alone, or with `extra`, take no selection but a limit in
        luminosity, or with linear noise a sharp limit of any kind. With `calibration`, `population` or `observables` it
        takes the selections that these take, and populations that are made of the mass function: "fixed" and
        "hmf_completeness". Measured masses and E(z) of the relation stay those of the cosmology they were made with.
    method : {"laplace", "nuts", "importance"}, optional
        "laplace" draws from the normal distribution about the maximum, "importance" weights these draws to the exact
        posterior, and "nuts" samples the exact posterior by NUTS with the Laplace covariance as mass matrix; from 400
        draws on it goes on until R-hat is below 1.01 and 400 draws are effective, up to 16 times as many, and gives as
        many as were asked for.
    selection : Selection, optional
        Which objects can be in the catalogue; `SelectedOnMass` where they were selected by their measured mass, and
        `SelectedOn` where they were by another observable that is fitted. Without
        one, every object is assumed to be in it, and (without calibration masses) a warning says how far the maximum
        moves when the lowest mass of the prior doubles.
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
        `relation_from="this_catalogue"`. With calibration masses or a population it is a `JointPosterior`, whose draws
        bring the population along; with `extra` its draws bring that bias along. With `cosmology` it is a
        `CosmologyPosterior`, each draw of which has a cosmology and a mass function of its own; so has each draw of a
        `JointPosterior` then.

    Raises
    ------
    MassmapError
        Unknown names, no usable row, a selection that excludes a catalogued object, mass definitions of the two priors
        that differ, no maximum inside the prior, or draws of "importance" with a Pareto k of 0.7 or more. With a
        population: no calibration masses or fewer than 10, fewer than 30 without NUTS, or masses of objects that were
        chosen by mass without that selection. With a cosmology: a mass prior that cannot follow it, another selection,
        draws that are too few or as good as free, or a population that is no part of a mass function.

    Warns
    -----
    UserWarning
        Each of the notes of the result, such as a missing selection.

    See Also
    --------
    RelationPrior : the prior of the relation.
    CalibrationMasses : measured masses of some objects.
    read_mass_likelihoods : mass likelihoods of some objects from a file.
    log_likelihood : the likelihood that is fitted.
    prior_check : whether the mass prior describes the catalogue.

    Notes
    -----
    The posterior is prior(relation) x product over k of Z_k / A_k, where Z_k is the evidence of halo k and A_k the
    probability that such an object is in the catalogue. Without the A_k, a catalogue of bright objects biases the
    relation: use a selection wherever there is a limit. An object with a mass likelihood has the factor L_WL(ln M + b)
    in the integral of Z_k; A_k is as before, because the luminosity alone decides what is in the catalogue.

    With luminosities and redshifts alone, the shape of the mass function is what sets the slope and the scatter.
    Compare the fit with the prior of the relation (`unconstrained`, `notes`).

    With a cosmology, the prior of the cosmology is normal in the ln of its parameters, and p(ln M | z) is made anew for
    each cosmology that the fit looks at. Where a higher sigma8 makes halos of one rank more massive, the normalisation
    follows: with luminosities and redshifts alone the two are degenerate, and the notes say by how much. Measured
    masses tell them apart. Random calibrators are fitted alone; with `chosen_by="luminosity"`, which is true of them as
    well, the luminosities of all objects inform the cosmology.

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

    The same with sigma8 known to 0.05; the draws have a cosmology of their own each:

    >>> sigma8 = 0.81 + 0.05 * jax.random.normal(jax.random.key(1), (500,))
    >>> draws = mm.CosmologyDraws.from_arrays(omega_m=0.31, sigma8=sigma8, h=0.68, n_s=0.97, omega_b=0.05)
    >>> fit = mm.fit_relation(catalogue, prior, "bigmali2017", cosmology=draws, num_draws=50)
    >>> fit.free
    ('alpha1', 'alpha2', 'alpha4', 'scatter', 'sigma8')
    >>> fit.draws.parameter("sigma8").shape
    (50,)
    """
    check_kinds("fit_relation", catalogue=catalogue, prior=prior)
    if key is not None:
        check_kinds("fit_relation", key=key)
    relation_prior = check_fit(prior, relation_prior, method, num_draws, num_chains, num_warmup)
    beliefs: RelationPrior | BiasedPrior = relation_prior
    check_labels(catalogue=catalogue, relation_prior=relation_prior)
    bias = belief("extra_bias", extra_bias)
    # Before a default takes the place of a population that was not given.
    joint = calibration is not None or population is not None or bool(observables)
    laws, correlations, population = beliefs_asked(calibration, population, observables, scatter_correlation, selection)
    if not (cosmology is None or isinstance(cosmology, CosmologyDraws)):
        raise MassmapError(f"cosmology= is {cosmology!r}: give CosmologyDraws, of arrays, a chain or Planck")
    if extra is None and bias != 0:
        raise MassmapError("extra_bias is given without the mass likelihoods that it is of: give extra=, too")
    if isinstance(selection, SelectedOn) and not laws:
        raise MassmapError(
            f"the selection is on {selection.observable}, which is not fitted: give its relation, observables="
        )
    if joint or isinstance(selection, SelectedOnMass):
        if extra is not None:
            raise MassmapError(
                "extra= cannot be fitted together with calibration=, population=, observables= or a selection on mass:"
                " give masses of normal error as calibration=, or leave these out"
            )
        return fit_joint(
            catalogue, prior, relation_prior, calibration, population, laws, correlations, selection, cosmology,
            method, key, num_draws, num_chains, num_warmup, watch,
        )  # fmt: skip
    with jax.enable_x64(True):
        if extra is not None:
            refuse_uncertain(catalogue, "a fit with further likelihoods of the masses")
            beliefs = BiasedPrior.of(relation_prior, bias)
        if cosmology is not None:
            together = CosmologyData(catalogue, prior, selection, cosmology, extra)
            both = CosmologyPrior.of(beliefs, together.belief)
            return fit_to(together, both, method, key, num_draws, num_chains, num_warmup, watch)
        data = data_of(catalogue, prior, selection)
        if extra is not None:
            data.extra = evidence_of(catalogue, data.rows, data.prior, extra)
    return fit_to(data, beliefs, method, key, num_draws, num_chains, num_warmup, watch)


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
    data: RelationData,
    relation_prior: RelationPrior | BiasedPrior | CosmologyPrior,
    method,
    key,
    num_draws,
    num_chains,
    num_warmup,
    watch,
) -> RelationPosterior:
    """Fit the relation to objects that may be in memory or not; arguments as in `fit_relation`, after `check_fit`."""
    key = jax.random.key(0) if key is None else key
    prior, no_selection = data.prior, isinstance(data.selection, NoSelection)
    with jax.enable_x64(True):
        watch("finding the best relation")
        coordinates, likelihood, best = find_maximum(data, relation_prior)
        covariance = covariance_of(best, coordinates)
        off_by_lattice = None
        by_lattice = isinstance(likelihood, LinearLikelihood) and likelihood.made_for is not None
        if by_lattice and isinstance(data, LinearData) and data.num_halos >= _CHECKED:
            watch("comparing the lattice with the objects")
            off_by_lattice, exact = _off_by_lattice(data, coordinates, likelihood, best, covariance)
            if not off_by_lattice < _OFF:
                likelihood, best = exact, maximise(coordinates, exact, best.x)
                covariance = covariance_of(best, coordinates)
        prepared = None
        if method != "laplace":
            watch("tabulating the evidence")
            prepared = prepare(data, coordinates, likelihood, best, covariance)
        chains, log_weight, found = draw_by(
            method, key, coordinates, prepared, best, covariance, num_draws, num_chains, num_warmup, watch
        )
        values, maximum, covariance_at_alpha3 = at_alpha3(coordinates, chains, best.x, covariance)
        shift = None
        if no_selection:
            watch("moving the prior's lowest mass")
            shift = _shift_with_lowest_mass(prior, coordinates, likelihood, best)
        diagnosed = {"newton_steps": int(best.steps), "log_density": -float(best.negative_log_density)} | found
        if off_by_lattice is not None:
            diagnosed["off_by_lattice"] = off_by_lattice
        if data.extra is not None:
            diagnosed |= data.extra.told(relation_at(coordinates, best.x), prior)
            if not isinstance(data, CosmologyData):  # another search would cost many mass functions
                watch("comparing the data with the beliefs")
                against = contradiction(coordinates, likelihood, best, chains)
                diagnosed |= {} if against is None else {"against_beliefs": against.as_dict()}
        made: dict[str, Any] = {
            "values": {p: np.asarray(v).ravel() for p, v in values.items()},
            "log_weight": log_weight,
            "maximum": {p: float(v) for p, v in maximum.items()},
            "covariance": np.asarray(covariance_at_alpha3),
            "num_chains": chains.shape[0],
            "method": method,
            "diagnostics": diagnosed,
            "num_halos": int(data.num_halos),
            "selection": described(data.selection),
            "mass_prior": prior.description,
            "mass_definition": prior.mass_definition,
            "lum_unit": data.lum_unit,
            "shift_if_lowest_mass_doubles": shift,
        }
        result: RelationPosterior
        if isinstance(data, CosmologyData):
            if method == "laplace":
                watch("weighing a part of the draws")
                part = chains[0][np.linspace(0, chains.shape[1] - 1, min(chains.shape[1], _WEIGHED)).astype(int)]
                diagnosed["off_normal"] = off_normal(coordinates, likelihood, best, covariance, part)
            watch("making the mass functions of the draws")
            pivot = float(coordinates.pivot_ln_mass), float(coordinates.pivot_evolution)
            result = CosmologyPosterior.of_fit(relation_prior, prior, data.told, pivot, **made)
        else:
            result = RelationPosterior.assemble(relation_prior, **made)
    for note in result.notes:
        warnings.warn(note, stacklevel=3)
    return result


def find_maximum(data: RelationData, relation_prior):
    """Coordinates, likelihood and maximum: the search starts in the prior's middle, and again where it was trapped.

    The density may have several maxima, above all with a selection. The first search is trusted if it ends near the
    prior's middle and above every one of a few draws from the prior; otherwise another starts from the best of them.
    """
    central = relation_prior.central()
    start = relation_prior.relation(central)
    coordinates = Coordinates.at(relation_prior, *data.middle(start))
    likelihood, best = _search(data, coordinates, coordinates.place(central), central["scatter"])
    if not np.isfinite(best.negative_log_density):
        data.refuse(start)
    draws = relation_prior.sample(jax.random.key(0), (_STARTS,))
    draws = np.asarray(jax.vmap(coordinates.place)(draws))
    draws = draws[np.isfinite(draws).all(axis=1)]
    dim = len(coordinates.free)
    values = np.asarray(potentials(draws, (coordinates, likelihood, np.zeros(dim), np.eye(dim))))
    if not np.isfinite(values).any():
        return coordinates, likelihood, best
    highest = np.argmin(values)
    if values[highest] < best.negative_log_density or _conflict(coordinates, best.x) > _FAR_SD:
        other = _search(data, coordinates, draws[highest], float(relation_at(coordinates, draws[highest]).scatter))
        if other[1].negative_log_density < best.negative_log_density:
            likelihood, best = other
    return coordinates, likelihood, best


def _search(data: RelationData, coordinates, x, found: float):
    """Likelihood and maximum from x, of scatter `found`; points are made again for a much smaller fitted scatter."""
    for _ in range(8):
        scatter = max(0.5 * found, _LEAST_SCATTER)
        likelihood: RelationLikelihood | UncertainLikelihood | LikelihoodUnderCosmology | ByLattice
        if isinstance(data, LinearData | CosmologyData):
            likelihood = data.likelihood(scatter, float(relation_at(coordinates, x).alpha2))
        elif isinstance(data, UncertainData):
            likelihood = data.likelihood(scatter)
        else:
            likelihood = RelationLikelihood.of(data, scatter=scatter)
        best = maximise(coordinates, likelihood, x)
        if not np.isfinite(best.negative_log_density):
            break
        x = best.x
        relation = relation_at(coordinates, x)
        found = float(relation.scatter)
        if isinstance(likelihood, ByLattice) and not likelihood.suits(relation):
            continue
        exact = isinstance(likelihood, RelationLikelihood) and not likelihood.compressed
        if found > 1.1 * scatter or exact or scatter <= _LEAST_SCATTER:
            break
    return likelihood, best


def _conflict(coordinates, x) -> float:
    """The largest distance of a parameter from its prior's middle, in standard deviations of the prior."""
    prior, values = coordinates.prior, coordinates.values(x)
    return max(prior_deviations(values, prior.central(), prior.sd()).values())


def prepare(
    data: RelationData, coordinates, likelihood, best, covariance
) -> RelationLikelihood | LikelihoodUnderCosmology | ByLattice:
    """The likelihood for many evaluations near the maximum: points for its scatter, and G tabulated about it."""
    if isinstance(likelihood, ByLattice) and isinstance(data, LinearData | CosmologyData):
        if likelihood.made_for is None:
            return data.likelihood(_least_scatter(coordinates, best, covariance))
        return _lattices_about(data, coordinates, best, covariance)
    if not isinstance(likelihood, RelationLikelihood) or likelihood.weight.size < _FEW:
        return likelihood
    centre, root = np.asarray(best.x), np.linalg.cholesky(covariance)
    if likelihood.compressed and "scatter" in coordinates.free:
        likelihood = RelationLikelihood.of(data, scatter=_least_scatter(coordinates, best, covariance))
    corners = np.array(list(product((-_REACH, 0.0, _REACH), repeat=centre.size)))
    relations = relation_at(coordinates, centre + corners @ root.T)
    alpha2 = np.asarray(relations.alpha2)
    if (alpha2 / alpha2[alpha2.size // 2]).min() < _LEAST_SLOPE:
        return likelihood
    return likelihood.with_table(relations)


def _lattices_about(
    data: LinearData | CosmologyData, coordinates, best, covariance
) -> ByLattice | LikelihoodUnderCosmology:
    """The likelihood by lattices that hold for all relations about the maximum."""
    slopes = [abs(_away(coordinates, best, covariance, "alpha2", sds)) for sds in (-_REACH, 0.0, _REACH)]
    slope = max(slopes[1], max(slopes) / SLOPE_RANGE)
    for reach in (_REACH, *_LESS):
        least, greatest = (_away(coordinates, best, covariance, "scatter", sds) for sds in (-reach, reach))
        try:
            return data.likelihood(max(least, _LEAST_SCATTER), slope, greatest)
        except LatticeTooLarge as error:
            too_large = error
    raise too_large


def _least_scatter(coordinates, best, covariance) -> float:
    """The scatter `_REACH` standard deviations below that of the maximum."""
    return max(_away(coordinates, best, covariance, "scatter", -_REACH), _LEAST_SCATTER)


def _away(coordinates, best, covariance, name: str, sds: float) -> float:
    """A parameter of the relation so many standard deviations from the maximum."""
    x = np.array(best.x)
    if name in coordinates.free:
        i = coordinates.free.index(name)
        x[i] += sds * np.sqrt(covariance[i, i])
    return float(getattr(relation_at(coordinates, x), name))


def _off_by_lattice(data: LinearData, coordinates, likelihood: LinearLikelihood, best, covariance):
    """How far a lattice moves the maximum, in standard deviations, and the likelihood of the objects themselves.

    In coordinates in which the posterior is a standard normal, that is the gradient of what ln L is off by.
    """
    exact = data.likelihood(_least_scatter(coordinates, best, covariance))
    centre, root = np.asarray(best.x), np.linalg.cholesky(covariance)
    ends = np.concatenate([np.eye(centre.size), -np.eye(centre.size)])
    off = potentials(ends, (coordinates, likelihood, centre, root)) - potentials(
        ends, (coordinates, exact, centre, root)
    )
    ahead, behind = np.asarray(off).reshape(2, -1)
    return float(np.abs(ahead - behind).max() / 2), exact


def _shift_with_lowest_mass(prior, coordinates, likelihood, best) -> dict[str, float]:
    """How far the maximum moves, in each free parameter, when the prior's lowest mass doubles; NaN where it is lost."""
    nodes, ln_density = np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density)
    # As many nodes as before, and of their precision, so that nothing is compiled again; the lowest at twice the mass.
    moved = np.linspace(nodes[0] + np.log(2.0), nodes[-1], nodes.size)
    table = np.stack([np.interp(moved, nodes, row) for row in ln_density])
    changed = MassPrior.from_table(
        prior.redshift_nodes, np.exp(moved), np.exp(table - table.max(axis=1, keepdims=True)), per="ln_mass"
    )
    nodes_and_density = changed.ln_mass_nodes.astype(nodes.dtype), changed.ln_density.astype(ln_density.dtype)
    cut = likelihood.with_prior(eqx.tree_at(lambda p: (p.ln_mass_nodes, p.ln_density), prior, nodes_and_density))
    again = maximise(coordinates, cut, best.x)
    if not float(again.decrement) < 1e-2:
        return dict.fromkeys(coordinates.reported(best.x), float("nan"))
    before, after = coordinates.reported(best.x), coordinates.reported(again.x)
    return {p: float(after[p] - value) for p, value in before.items()}
