"""Draws of the cosmology in a run: read, and fitted with the relation or paired with its draws."""

import jax
from jaxtyping import Array

from massmap_jax.errors import MassmapError
from massmap_jax.prior.cosmology_draws import FEWEST, CosmologyDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.law import MassLuminosityRelation, Relation
from massmap_jax.relation.with_cosmology import RelationAndCosmology, with_cosmology
from massmap_jax.run.options import JobOptions, named_columns, number_or_name


def read_cosmology(options: JobOptions, prior: MassPrior, notes: list[str]) -> CosmologyDraws | None:
    """Read the draws of the cosmology that the options name.

    Parameters
    ----------
    options : JobOptions
        The options.
    prior : MassPrior
        The mass prior, which has to follow the cosmology.
    notes : list of str
        Notes on what was assumed are added.

    Returns
    -------
    CosmologyDraws or None
        The draws; None where there are none, and where those of Planck are to be paired with a relation, which makes as
        many as are used.

    Raises
    ------
    MassmapError
        For a prior that cannot follow the cosmology, or a file without draws of one.
    """
    if options.cosmology_draws is None:
        return None
    try:
        _ = prior.fit
    except MassmapError:
        raise MassmapError(
            f"cosmology_draws= needs a mass prior that can follow the cosmology, and this one ({prior.description})"
            " cannot: give prior='default', or prior='hmf' with hmf_model='Tinker08' or hmf_model='Tinker10' and"
            " transfer_model='EH'"
        ) from None
    if options.uses_distances:
        notes.append(
            "draws of the cosmology change the mass function alone: distances are those of"
            f" cosmology={options.prior.cosmology} in all draws"
        )
    if options.calib_mass is not None:
        notes.append(
            "measured masses are taken as they are given under all draws of the cosmology: what its distances would"
            " change of them belongs into the belief about their bias"
        )
    if options.draws_of_planck:
        # A fit takes their mean and covariance alone, which are exact for any number of them.
        return CosmologyDraws.planck18(jax.random.key(options.seed)) if options.relation == "fit" else None
    columns = named_columns("cosmology_columns", options.cosmology_columns, "omega_m=A,sigma8=B")
    told = {name: value for name, text in columns.items() if (value := number_or_name(text)) is not None}
    draws = CosmologyDraws.read(options.cosmology_draws, columns=told)
    notes.extend(draws.notes)
    return draws


def paired(
    relation: MassLuminosityRelation,
    cosmology: CosmologyDraws | None,
    prior: MassPrior,
    options: JobOptions,
    key: Array,
    notes: list[str],
) -> tuple[RelationAndCosmology, CosmologyDraws]:
    """Give each draw of the relation a cosmology, and so a mass function, of its own.

    Parameters
    ----------
    relation : MassLuminosityRelation
        One relation or a batch of draws. One is repeated for each of `num_relation_draws` cosmologies.
    cosmology : CosmologyDraws or None
        Draws of a file; None for those of Planck, of which as many are made as are used.
    prior : MassPrior
        The mass prior.
    options : JobOptions
        The options.
    key : Key[Array, ""]
        Random key; of its two parts, the first makes the draws of Planck and the second the pairs.
    notes : list of str
        Notes on what was assumed are added.

    Returns
    -------
    relation : RelationAndCosmology
        The pairs.
    used : CosmologyDraws
        Their cosmologies, with the weights of the pairs.

    Raises
    ------
    MassmapError
        For a relation that brings more along than a law of the luminosity.
    """
    key_draws, key_pairs = jax.random.split(key)
    number = relation.num_draws if relation.num_draws > 1 else options.num_relation_draws
    if cosmology is None:
        cosmology = CosmologyDraws.planck18(key_draws, max(FEWEST, number))
    if cosmology.num_draws > number:
        notes.append(f"{number:,} of {cosmology.num_draws:,} draws of the cosmology are used, picked by their weights")
        if relation.num_draws == 1:
            cosmology = cosmology.pick(key_pairs, number)
    if options.relation_from == "this_catalogue":
        notes.append(
            "the relation was fitted under one cosmology, and its draws do not follow those of the cosmology: the"
            " luminosities do not tell sigma8 from the normalisation of the relation, so the error that the cosmology"
            " gives the masses comes out too small"
        )
    pairs = with_cosmology(relation, cosmology, prior, key_pairs)
    return pairs, cosmologies_of(pairs, cosmology.source)


def brings_cosmologies(relation: Relation) -> bool:
    """Tell whether the draws of a relation have cosmologies of their own, as those of a fit of both do.

    Parameters
    ----------
    relation : Relation
        Any relation.

    Returns
    -------
    bool
        True where they have.
    """
    population = population_of(relation)
    return population is not None and bool(population.cosmologies)


def cosmologies_of(pairs, source: str) -> CosmologyDraws:
    """Give the cosmologies that the draws of a relation bring along.

    Parameters
    ----------
    pairs : RelationAndCosmology or CalibratedRelation
        The draws.
    source : str
        Where the cosmologies are from.

    Returns
    -------
    CosmologyDraws
        The cosmologies, with the weights of the draws.
    """
    return CosmologyDraws.from_arrays(**pairs.population.cosmologies, log_weight=pairs.log_weight, source=source)


def fitted_from(cosmology: CosmologyDraws) -> str:
    """Say where the cosmologies of a fit are from."""
    return f"a fit of relation and cosmology, under {cosmology.source}"
