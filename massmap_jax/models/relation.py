"""(alpha, S) as NumPyro sites, and the model of them with the masses marginalised."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from massmap_jax.models.objects import PlacedObjects
from massmap_jax.relation.beliefs import RelationPrior


class Pivot(NamedTuple):
    """Where the data are: the normalisation there is hardly correlated with the slopes.

    Attributes
    ----------
    ln_mass : float
        ln of the mass [ln Msun].
    evolution : float
        ln(1+z), or ln E(z).
    """

    ln_mass: float
    evolution: float

    @classmethod
    def of(cls, objects: PlacedObjects, relation_prior: RelationPrior) -> "Pivot":
        """Take the mean of the masses that the prior's central relation gives to the objects, and of the evolution."""
        return cls(*(float(np.mean(values)) for values in _masses_and_evolution(objects, relation_prior)))


def relation_sites(relation_prior: RelationPrior, pivot: Pivot | None = None) -> Callable:
    """Make a function without arguments that samples the free parameters as NumPyro sites and returns the relation.

    Parameters
    ----------
    relation_prior : RelationPrior
        Prior of the relation.
    pivot : Pivot, optional
        Where the data are. With a pivot `alpha1_offset` is sampled in place of alpha1: the change of ln L at the pivot
        from the prior's central relation, in units of alpha1's prior standard deviation. alpha1 (at alpha3) is
        reported.

    Returns
    -------
    callable
        () -> `MassLuminosityRelation`.

    Notes
    -----
    The change of variables has a constant Jacobian. NumPyro samples a positive parameter (the scatter) by its
    logarithm, Jacobian included.
    """
    beliefs, free, central = relation_prior.beliefs, relation_prior.free, relation_prior.central()
    shifts, unit = _shifts(relation_prior, pivot), _unit_of_offset(relation_prior)

    def sample():
        values = {p: numpyro.sample(p, beliefs[p]) for p in free if not (shifts and p == "alpha1")}
        if shifts:
            offset = numpyro.sample("alpha1_offset", dist.ImproperUniform(constraints.real, (), ()))
            lever = _lever(relation_prior, pivot)
            moved = sum((values[p] - central[p]) * lever[p] for p in lever if p in values)
            values["alpha1"] = numpyro.deterministic("alpha1", central["alpha1"] + unit * offset - moved)
            numpyro.factor("alpha1_prior", beliefs["alpha1"].log_prob(values["alpha1"]))
        return relation_prior.relation(values)

    return sample


def start(relation_prior: RelationPrior) -> dict:
    """Give the centre of a prior as values of the sites, for `numpyro.infer.init_to_value`.

    A random start is far from a narrow posterior.

    Parameters
    ----------
    relation_prior : RelationPrior
        Prior of the relation.

    Returns
    -------
    dict of str to Float[Array, ""]
        The middle of the prior for each free parameter, and 0 for `alpha1_offset`.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> from massmap_jax.models.relation import start
    >>> sorted(start(mm.RelationPrior.preset("bigmali2017", alpha4=0.0)))
    ['alpha1', 'alpha1_offset', 'alpha2', 'scatter']
    """
    central = relation_prior.central()
    return {"alpha1_offset": jnp.zeros(())} | {name: jnp.asarray(central[name]) for name in relation_prior.free}


def start_metric(objects: PlacedObjects, relation_prior: RelationPrior, pivot: Pivot | None = None) -> dict:
    """Give a first mass matrix of the relation's sites, for NumPyro's `inverse_mass_matrix`.

    With `dense_mass=[sites]`, NUTS begins with steps of about the right size in each direction. Without it, the warm-up
    takes trees of hundreds of steps (in a field of 100 halos: 20 times as many).

    Parameters
    ----------
    objects : PlacedObjects
        The objects, as the model has them.
    relation_prior : RelationPrior
        Prior of the relation, as the model has it.
    pivot : Pivot, optional
        Pivot of the model; `field_model` has `Pivot.of(objects, relation_prior)`.

    Returns
    -------
    dict of tuple to Float[Array, "dim dim"]
        The names of the sites, and the covariance of their unconstrained coordinates. For `field_model` add
        `{("e",): ones}`.

    Notes
    -----
    The covariance is that of the posterior if each mass were known to be what the prior's central relation gives it:
    linear regression of ln L_obs, Fisher information of the scatter, and the prior's variances.
    """
    free, beliefs, central = relation_prior.free, relation_prior.beliefs, relation_prior.central()
    ln_mass, evolution = _masses_and_evolution(objects, relation_prior)
    from_alpha3 = ln_mass - np.log(relation_prior.alpha3)
    slopes = {"alpha1": np.ones_like(ln_mass), "alpha2": from_alpha3, "alpha4": evolution}
    slopes["scatter"] = np.zeros_like(ln_mass)
    variance = central["scatter"] ** 2 + np.asarray(objects.sigma, dtype=np.float64) ** 2
    rows = np.stack([slopes[p] for p in free])
    information = (rows / variance) @ rows.T + np.diag([relation_prior.sd()[p] ** -2 for p in free])
    if "scatter" in free:
        at = free.index("scatter")
        information[at, at] += 2 * np.sum((central["scatter"] / variance) ** 2)
    # From the parameters to NumPyro's unconstrained coordinates, linear about the centre.
    sites, change = list(free), np.eye(len(free))
    for i, p in enumerate(free):
        if p == "alpha1" and _shifts(relation_prior, pivot):
            lever = _lever(relation_prior, pivot)
            change[i] = [1.0 if q == p else lever.get(q, 0.0) for q in free]
            change[i] /= _unit_of_offset(relation_prior)
            sites[i] = "alpha1_offset"
        else:
            transform = dist.biject_to(beliefs[p].support)
            change[i, i] = 1 / float(jax.grad(transform)(transform.inv(central[p])))
    return {tuple(sites): jnp.asarray(change @ np.linalg.inv(information) @ change.T, dtype=float)}


def _masses_and_evolution(objects, relation_prior) -> tuple[np.ndarray, ...]:
    """ln M that the prior's central relation gives each object, and ln(1+z) or ln E(z)."""
    central = relation_prior.central()
    term = relation_prior.relation(central).data_term(objects.ln_lum_obs, objects.sigma, objects.z)
    variable = relation_prior.relation(central).ln_redshift_variable(objects.z)
    return tuple(np.asarray(a, dtype=np.float64) for a in (term.centre, variable))


def _shifts(relation_prior, pivot) -> bool:
    """Whether alpha1 is sampled at the pivot."""
    real = "alpha1" in relation_prior.free and relation_prior.beliefs["alpha1"].support is constraints.real
    return pivot is not None and real


def _unit_of_offset(relation_prior) -> float:
    """Unit of `alpha1_offset`: the prior standard deviation of alpha1, or 1 where there is none."""
    sd = relation_prior.sd().get("alpha1", 1.0)
    return sd if np.isfinite(sd) else 1.0


def _lever(relation_prior, pivot) -> dict[str, float]:
    """How far ln L at the pivot moves with each slope."""
    return {"alpha2": pivot.ln_mass - np.log(relation_prior.alpha3), "alpha4": pivot.evolution}


def relation_model(likelihood: Callable, relation_prior: RelationPrior, *, pivot: Pivot | None = None) -> Callable:
    """Make the NumPyro model of the relation given a catalogue, with every mass marginalised.

    Parameters
    ----------
    likelihood : callable
        relation -> ln P(catalogue | relation), selection included: a `RelationLikelihood`, or a function.
    relation_prior : RelationPrior
        Prior of the relation; its free parameters are sampled.
    pivot : Pivot, optional
        Where the data are (`models.relation.Pivot.of`): alpha1 is sampled there, which NUTS finds easier.

    Returns
    -------
    callable
        A NumPyro model without arguments. Sites: the free parameters, with `alpha1_offset` in place of alpha1 where a
        pivot is given.

    See Also
    --------
    fit_relation : the same posterior with a sampler of its own, which is faster.
    field_model : the relation and every mass together.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> from numpyro.infer.util import log_density
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> with jax.enable_x64(True):
    ...     likelihood = mm.RelationLikelihood.build(catalogue, mm.MassPrior.default())
    ...     model = mm.relation_model(likelihood, mm.RelationPrior.preset("bigmali2017", alpha4=1.1))
    ...     ln_density = jax.jit(lambda sites: log_density(model, (), {}, sites)[0])
    ...     at_centre = ln_density({"alpha1": 10.709, "alpha2": 0.359, "scatter": 0.155})
    ...     far_off = ln_density({"alpha1": 10.709, "alpha2": 0.459, "scatter": 0.155})
    >>> bool(at_centre > far_off)
    True

    Sample it with any kernel of NumPyro under `jax.enable_x64(True)`.
    """

    sample_relation = relation_sites(relation_prior, pivot)

    def model():
        numpyro.factor("catalogue", likelihood(sample_relation()))

    return model
