"""Relation, population and all masses of objects with measured masses or several observables, as a NumPyro model."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.correlations import LKJ_SHAPE
from massmap_jax.relation.joint_fit import beliefs_asked, likelihood_of, prepare


def calibrated_model(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation_prior: RelationPrior | str | dict,
    *,
    calibration: CalibrationMasses | None = None,
    population: Population | str | None = None,
    observables: Mapping | None = None,
    scatter_correlation=LKJ_SHAPE,
    selection=None,
) -> Callable:
    """Make the joint NumPyro model of relation, calibration, population and all masses.

    It is the model that `fit_relation` fits with the same arguments, with the masses sampled and not marginalised.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        The mass prior.
    relation_prior : RelationPrior, str or dict
        Prior of the relation of the luminosity.
    calibration : CalibrationMasses, optional
        Measured masses, one entry for each row of the catalogue.
    population : Population or str, optional
        Form of the population; by default `Population.hmf_completeness()` with measured masses, and the mass prior as
        it is without.
    observables : dict of str to RelationPrior, optional
        Further observables, and the prior of the relation of each.
    scatter_correlation : float or dict of str to object, optional
        Belief about the correlations of their scatters.
    selection : Selection, optional
        Which objects can be in the catalogue.

    Returns
    -------
    callable
        A NumPyro model without arguments. Sites: the free parameters by the names that they have in a fit, and `e`
        (object,); reported: `ln_mass` (object,) [ln Msun]: objects with a measured mass first, then the others, each in
        the order of the catalogue. The objects are those that the fit uses.

    Raises
    ------
    MassmapError
        What `fit_relation` refuses.

    See Also
    --------
    fit_relation : The same with the masses marginalised, which is faster.
    field_model : Relation and masses of objects with a luminosity alone.

    Notes
    -----
    The density is beliefs x product over objects of p(ln M | z, population) P(data | M, relation) abs(d ln M / de) / A,
    at ln M = centre + width e with the Gaussian that the data of the object are under the current relation, so that
    masses and parameters are nearly independent. Start NUTS at the maximum of a fit, with a dense mass matrix for the
    parameters, as in the example.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from numpyro.infer import MCMC, NUTS, init_to_value
    >>> rng = np.random.default_rng(0)
    >>> ln_mass = rng.normal(33.0, 0.4, 40)
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=np.exp(0.8 * (ln_mass - 33.0) + 0.2 * rng.normal(size=40)), redshift=np.full(40, 0.3),
    ...     sigma_ln_luminosity=0.05
    ... )
    >>> masses = mm.CalibrationMasses.from_arrays(
    ...     mass=np.exp(ln_mass + 0.2 * rng.normal(size=40)), sigma_ln_mass=0.2
    ... )
    >>> beliefs = mm.RelationPrior.parse("alpha1=0:1,alpha2=1:0.5,alpha4=0,scatter=0.3:0.3,alpha3=2e14")
    >>> told = {"calibration": masses, "population": mm.Population.gaussian(drift=False)}
    >>> prior = mm.MassPrior.default()
    >>> fit = mm.fit_relation(catalogue, prior, beliefs, **told)
    >>> model = mm.calibrated_model(catalogue, prior, beliefs, **told)
    >>> start = {p: float(fit.maximum.parameter(p)) for p in fit.free} | {"e": np.zeros(40)}
    >>> kernel = NUTS(model, dense_mass=[fit.free], init_strategy=init_to_value(values=start))

    Then ``MCMC(kernel, num_warmup=500, num_samples=1000)`` samples it.
    """
    check_kinds("calibrated_model", catalogue=catalogue, prior=prior)
    laws, correlations, population = beliefs_asked(calibration, population, observables, scatter_correlation, selection)
    relation_prior = RelationPrior.of(relation_prior)
    with jax.enable_x64(True):
        asked = catalogue, prior, relation_prior, calibration, population, laws, correlations, selection, "nuts"
        data, has_mass, chosen, joint_prior, _ = prepare(*asked)
        likelihood = likelihood_of(data, calibration, has_mass, chosen, selection, None)
    number, size = int(chosen.sum()), likelihood.weight.shape[0]
    # In JAX's default precision, like every NumPyro model.
    likelihood, joint_prior = jax.tree.map(_host, (likelihood, joint_prior))

    def model():
        values = {p: numpyro.sample(p, belief) for p, belief in joint_prior.beliefs.items() if p in joint_prior.free}
        relation = joint_prior.relation(values)
        with numpyro.plate("object", number):
            e = numpyro.sample("e", dist.Normal(0.0, 1.0).mask(False))  # gives a start only: its density is left out
            ln_density, ln_mass = likelihood.ln_joint(relation, jnp.zeros(size).at[:number].set(e))
            numpyro.deterministic("ln_mass", ln_mass[:number])
            numpyro.factor("population_times_likelihood", ln_density[:number])

    return model


def _host(a):
    """An array on the host, whose precision JAX chooses when it is used."""
    return np.asarray(a) if isinstance(a, jax.Array | np.ndarray) else a
