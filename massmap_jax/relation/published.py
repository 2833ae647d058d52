"""Relations of presets (`presets.PRESETS`), and of observables that are themselves masses, with their uncertainty."""

import jax
import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.relation.law import MassLuminosityRelation, Relation
from massmap_jax.relation.laws import LAWS
from massmap_jax.relation.presets import Preset, Value, find_preset


def published_relation(
    name: str, key=None, num_draws: int = 1, *, scatter: Value | None = None, mass_bias: Value | None = None
) -> Relation:
    """Make a published relation, either its central values or draws of its uncertain parameters.

    Parameters
    ----------
    name : str
        One of the names in `massmap_jax.relation.presets.PRESETS`.
    key : jax.Array, optional
        Random key, needed for more than one draw.
    num_draws : int
        Draws of the parameters, which are independent normals with the published errors. 1 gives the central values.
    scatter : Value, optional
        Scatter in ln O at fixed mass. It is required where the source gives none, and refused where it does.
    mass_bias : Value, optional
        1 - b: the source's masses are (1 - b) times the true ones, so the pivot moves to alpha3 / (1 - b).

    Returns
    -------
    Relation
        One relation, or a batch of draws of equal weight.

    Raises
    ------
    MassmapError
        For an unknown name, a relation published as the mass at fixed observable, a scatter that is missing or given
        twice, or a bias that is not positive.

    Examples
    --------
    >>> import jax
    >>> from massmap_jax.relation.presets import Value
    >>> from massmap_jax.relation.published import published_relation
    >>> relation = published_relation("lx_mcxc11", jax.random.key(0), 10, scatter=Value(0.4, 0.1))
    >>> relation.num_draws, relation.lum_unit
    (10, '1e44 erg/s')
    """
    preset = find_preset(name)
    values = dict(preset.parameters)
    if preset.needs_scatter and scatter is None:
        raise MassmapError(
            f"the relation {name} is published without a scatter at fixed mass, and masses depend on it: give "
            "relation_scatter='MEAN:SD' in ln of the observable (0.1 dex is 0.23)"
        )
    if not preset.needs_scatter and scatter is not None:
        raise MassmapError(f"the relation {name} has a published scatter: leave relation_scatter= out")
    if scatter is not None:
        values["scatter"] = scatter
    alpha3 = Value(preset.alpha3)
    drawn = {p: _draw(p, value, i, key, num_draws) for i, (p, value) in enumerate(values.items())}
    pivot = np.full_like(next(iter(drawn.values())), alpha3.value)
    if mass_bias is not None:
        bias = _draw("mass_bias", mass_bias, len(values), key, num_draws)
        if not (bias > 0).all():
            raise MassmapError(f"mass_bias is {mass_bias.value:g} +- {mass_bias.up:g}: 1 - b has to be above 0")
        pivot = pivot / bias
    labels = {"lum_unit": preset.lum_unit, "mass_definition": preset.mass_definition, "source": preset.source}
    if preset.law == "power":
        return MassLuminosityRelation(**_power(drawn), alpha3=pivot, **labels)
    return _of_law(preset, drawn, pivot, labels)


def identity_relation(
    key=None,
    num_draws: int = 1,
    *,
    pivot: float = 1.0,
    unit: str = "Msun",
    mass_definition: str = "unknown",
    scatter: Value | None = None,
    mass_bias: Value | None = None,
) -> MassLuminosityRelation:
    """Make the relation of an observable that is itself a mass: O = (1 - b) M / pivot, with a scatter.

    Parameters
    ----------
    key : jax.Array, optional
        Random key, needed for more than one draw.
    num_draws : int
        Draws of scatter and bias, where they are uncertain.
    pivot : float
        Unit of the catalogue's masses [Msun].
    unit : str
        Label of that unit.
    mass_definition : str
        Definition of the catalogue's masses.
    scatter : Value, optional
        Intrinsic scatter of the measured mass about the true one, in ln M; 0 where it is not given.
    mass_bias : Value, optional
        1 - b, the ratio of measured to true mass; 1 where it is not given.

    Returns
    -------
    MassLuminosityRelation
        One relation where nothing is uncertain, else a batch of draws.

    Raises
    ------
    MassmapError
        For a scatter below 0, or a bias that is not positive.
    """
    uncertain = any(value is not None and value.sd > 0 for value in (scatter, mass_bias))
    number = num_draws if uncertain else 1
    bias = _draw("mass_bias", mass_bias or Value(1.0), 0, key, number)
    if not (bias > 0).all():
        raise MassmapError(f"mass_bias is {mass_bias.value:g} +- {mass_bias.up:g}: 1 - b has to be above 0")
    return MassLuminosityRelation(
        alpha1=np.log(bias),
        alpha2=1.0,
        alpha3=pivot,
        scatter=_draw("scatter", scatter or Value(0.0), 1, key, number),
        lum_unit=unit,
        mass_definition=mass_definition,
        source="identity: the observable is a mass",
    )


def _draw(name: str, value: Value, number: int, key, num_draws: int) -> np.ndarray | np.float64:
    """Draw a parameter from its normal distribution; shape () for one draw, and a scatter is not negative."""
    if num_draws == 1:
        return np.float64(value.value)
    if key is None:
        raise MassmapError("draws of a published relation need a random key: give key=jax.random.key(seed)")
    normals = jax.random.normal(jax.random.fold_in(key, number), (num_draws,))
    drawn = value.value + value.sd * np.asarray(normals, dtype=np.float64)
    # Reflected at zero, since a scatter is not negative.
    return np.abs(drawn) if name == "scatter" else drawn


def _power(drawn: dict) -> dict:
    gamma = drawn.get("gamma")
    return {
        "alpha1": drawn["alpha1"],
        "alpha2": drawn["alpha2"],
        "alpha4": drawn.get("alpha4", 0.0),
        "scatter": drawn["scatter"],
        "gamma": gamma,
    }


def _of_law(preset: Preset, drawn: dict, pivot, labels: dict) -> Relation:
    log_weight = np.zeros_like(pivot)
    if preset.law == "scatter_slope":
        own = {
            "alpha1": drawn["alpha1"],
            "alpha2": drawn["alpha2"],
            "alpha3": pivot,
            "scatter_at_pivot": drawn["scatter"],
            "scatter_slope": drawn["scatter_slope"],
            "constant_below": preset.constant_below,
        }
    elif preset.law == "broken_power":
        own = {**drawn, "alpha3": pivot}
    else:
        own = {"scatter": drawn["scatter"]}
    return LAWS[preset.law](**own, log_weight=log_weight, **labels)
