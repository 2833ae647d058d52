"""(alpha, S) as NumPyro sites, and the model of them with the masses marginalised."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from massmap_jax.models.objects import Objects
from massmap_jax.relation_prior import RelationPrior


class Pivot(NamedTuple):
    """Where the data are: alpha1 there is not degenerate with the slopes.

    ln_mass : ln Msun. evolution : ln(1+z), or ln E(z).
    """

    ln_mass: float
    evolution: float

    @classmethod
    def of(cls, objects: Objects, relation_prior: RelationPrior) -> "Pivot":
        """Mean of the masses that the prior's central relation gives, and of the evolution."""
        relation = relation_prior.relation(relation_prior.central())
        unit = relation_prior.relation({**relation_prior.central(), "alpha4": 1.0})
        term = relation.data_term(objects.ln_lum_obs, objects.sigma, objects.z)
        return cls(float(np.mean(term.centre)), float(np.mean(unit.ln_evolution(objects.z))))


def relation_sites(relation_prior: RelationPrior, pivot: Pivot | None = None) -> Callable:
    """A function without arguments that makes NumPyro sites of the free parameters and returns the relation.

    With a pivot, what is sampled in place of alpha1 is `alpha1_offset`, the change of ln L at the pivot from the
    prior's central relation in units of alpha1's prior sd; alpha1 (at alpha3) is reported. The change of variables has
    a constant Jacobian. NumPyro samples a positive parameter (the scatter) by its logarithm, Jacobian included.
    """
    beliefs, free = relation_prior.beliefs, relation_prior.free
    shifts = pivot is not None and "alpha1" in free and beliefs["alpha1"].support is constraints.real
    central, sd = relation_prior.central(), relation_prior.sd().get("alpha1", 1.0)
    unit = sd if np.isfinite(sd) else 1.0

    def sample():
        values = {p: numpyro.sample(p, beliefs[p]) for p in free if not (shifts and p == "alpha1")}
        if shifts:
            offset = numpyro.sample("alpha1_offset", dist.ImproperUniform(constraints.real, (), ()))
            lever = {"alpha2": pivot.ln_mass - np.log(relation_prior.alpha3), "alpha4": pivot.evolution}
            moved = sum((values[p] - central[p]) * lever[p] for p in lever if p in values)
            values["alpha1"] = numpyro.deterministic("alpha1", central["alpha1"] + unit * offset - moved)
            numpyro.factor("alpha1_prior", beliefs["alpha1"].log_prob(values["alpha1"]))
        return relation_prior.relation(values)

    return sample


def start(relation_prior: RelationPrior) -> dict:
    """The prior's centre, for `numpyro.infer.init_to_value`: a random start is far from a narrow posterior."""
    central = relation_prior.central()
    return {"alpha1_offset": jnp.zeros(())} | {name: jnp.asarray(central[name]) for name in relation_prior.free}


def relation_model(likelihood: Callable, relation_prior: RelationPrior, *, pivot: Pivot | None = None) -> Callable:
    """The model of (alpha, S) given a catalogue, every mass marginalised.

    relation_prior : of its free parameters.
    likelihood : relation -> ln P(catalogue | relation), selection included (`RelationLikelihood`, or a function).
    pivot : sample alpha1 at the data (`Pivot.of`).
    """

    sample_relation = relation_sites(relation_prior, pivot)

    def model():
        numpyro.factor("catalogue", likelihood(sample_relation()))

    return model
