"""ln P(data | relation) of a catalogue, whatever its noise and its redshifts: `log_likelihood`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import lognormal_rows
from massmap_jax.likelihood.redshifts import refuse_joint, refuse_luminosity_limit
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.likelihood.stacks import StackedTerm
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.data import CatalogueData, detection, ln_z_per_halo
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.linear import LinearData, is_linear
from massmap_jax.relation.several import refuse_several
from massmap_jax.relation.stack_evidence import evidence_of
from massmap_jax.relation.uncertain import UncertainData
from massmap_jax.relation.uncertain_linear import UncertainLinearData

# Least scatter for which the panels of linear noise are made, where the scatter itself may be traced.
_LEAST_SCATTER = 0.05


def log_likelihood(
    relation,
    catalogue: HaloCatalogue,
    prior: MassPrior,
    selection=None,
    extra: TabulatedTerm | StackedTerm | None = None,
) -> Float[Array, ""]:
    """Evaluate ln P(all observed luminosities | relation), with the masses marginalised.

    Parameters
    ----------
    relation : MassLuminosityRelation
        One relation (or another kind with a `data_term`). The result is differentiable in each of its parameters.
    catalogue : HaloCatalogue
        The objects; unusable rows are left out.
    prior : MassPrior
        Prior density p(ln M | z) of the masses.
    selection : Selection, optional
        Which objects can be in the catalogue; None for every object.
    extra : TabulatedTerm or StackedTerm, optional
        A further likelihood of ln M for each row of the catalogue, as in `fit_relation`.

    Returns
    -------
    Float[Array, ""]
        Sum over the usable halos of ln (Z_k / A_k), in float64. Each halo is integrated on its own, in JAX's default
        precision (with linear noise in float64).

    Raises
    ------
    MassmapError
        No usable row, an object that the selection excludes, or, with linear noise or upper limits, a relation that is
        no power law, a selection that is no sharp limit, or mass likelihoods.

    See Also
    --------
    RelationLikelihood : the same function, prepared once for many relations.
    massmap_jax.relation.linear.LinearLikelihood : the same for linear noise and upper limits.
    fit_relation : the posterior of the relation.

    Notes
    -----
    The evidence of halo k is Z_k = integral of p(ln M | z) P(L_obs | M, z, relation) d ln M, a density per L_obs.
    A_k is the probability that such an object is in the catalogue.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
    ...     redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
    ...     sigma_ln_luminosity=0.05,
    ... )
    >>> prior = mm.MassPrior.default()
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> print(f"{mm.log_likelihood(relation, catalogue, prior):.1f}")
    -44.1
    """
    check_kinds("log_likelihood", relation=relation, catalogue=catalogue, prior=prior)
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    refuse_several(relation, "this likelihood")
    if population_of(relation) is not None:
        raise MassmapError(
            f"this likelihood is that of the mass prior, and the relation is a {type(relation).__name__}, whose draws"
            " have a population or a cosmology of their own: give a MassLuminosityRelation, or use CosmologyLikelihood"
        )
    refuse_joint(catalogue, selection, "this likelihood")
    refuse_luminosity_limit(catalogue, selection)
    selection = NoSelection() if selection is None else selection
    if is_linear(catalogue, prior):
        return _of_linear(relation, catalogue, prior, selection, extra)
    rows = lognormal_rows(catalogue, prior)
    total = detection(catalogue, prior, selection, rows).sum()
    # float64: a float32 sum over 1e5 objects is off by 9.
    with jax.enable_x64(True):
        precise = jnp.asarray(total, dtype=jnp.float64)
    for values in ln_z_per_halo(relation, catalogue, prior, selection, rows):
        with jax.enable_x64(True):
            precise = precise + values.astype(jnp.float64).sum()
    if extra is not None:
        with jax.enable_x64(True):
            precise = precise + evidence_of(catalogue, rows, prior, extra)(relation, prior)
    return precise


def _of_linear(relation, catalogue, prior, selection, extra) -> Float[Array, ""]:
    """The same for objects some of which have linear noise or upper limits."""
    if not isinstance(relation, MassLuminosityRelation):
        raise MassmapError(
            f"with linear noise this likelihood needs a power law, and the relation is a {type(relation).__name__}"
        )
    if extra is not None:
        raise MassmapError("mass likelihoods (extra=) are for lognormal noise here, and the catalogue has linear noise")
    with jax.enable_x64(True):
        data = _linear_data(catalogue, prior, selection)
        return _evaluated(data.likelihood(_LEAST_SCATTER), relation)


@jax.jit
def _evaluated(likelihood, relation) -> Float[Array, ""]:
    """The likelihood of a relation, compiled in one piece and once for all catalogues of a size."""
    return likelihood(relation)


def data_of(catalogue: HaloCatalogue, prior: MassPrior, selection) -> CatalogueData:
    """Collect what a fit needs of a catalogue, whose redshifts may be distributions or whose noise may be linear."""
    if is_linear(catalogue, prior):
        return _linear_data(catalogue, prior, selection)
    if catalogue.redshift_distributions is not None:
        return UncertainData(catalogue, prior, selection)
    return CatalogueData(catalogue, prior, selection)


def _linear_data(catalogue: HaloCatalogue, prior: MassPrior, selection) -> LinearData:
    """The same for linear noise, with redshifts of either kind."""
    kind = LinearData if catalogue.redshift_distributions is None else UncertainLinearData
    return kind(catalogue.seen_by(()), prior, selection)
