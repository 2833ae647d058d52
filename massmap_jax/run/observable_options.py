"""The options about further observables as values: texts by the name of the observable, beliefs, selection.

All of it is checked before the catalogue is read.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from massmap_jax.catalogue.archives import members, read_npz, told_of_archive
from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    from massmap_jax.relation.beliefs import RelationPrior
    from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass
    from massmap_jax.run.options import JobOptions

MEASURED_MASS = "mass"
"""What a selection calls the measured mass."""
# What stands behind the name of the observable, for messages.
_FORMS = {
    "observable": "NAME=COLUMN, such as richness=lambda",
    "observable_sigma": "NAME=COLUMN, or NAME=NUMBER in ln, such as richness=lambda_err",
    "observable_sigma_kind": "NAME=KIND, such as richness=linear",
    "observable_log": "NAME=LOG, such as richness=log10",
    "observable_unit": "NAME=UNIT, such as y_sz=Mpc2",
    "observable_limit": "NAME=COLUMN, such as y_sz=is_limit",
    "observable_prior": "NAME:alpha1=MEAN:SD,..., such as richness:alpha1=3.4:1,alpha2=1:0.3,alpha4=0,"
    "scatter=0.25:0.1,alpha3=3e14",
}


def named(options: JobOptions, option: str) -> dict[str, str]:
    """Read an option that has a text for each observable.

    Parameters
    ----------
    options : JobOptions
        The options.
    option : str
        Name of the option: "observable" or one of those that begin with it.

    Returns
    -------
    dict of str to str
        The texts by the name of the observable; empty where the option is not given.

    Raises
    ------
    MassmapError
        For a part without a name, or a name that is given twice.

    Examples
    --------
    >>> from massmap_jax.run.observable_options import named
    >>> from massmap_jax.run.options import JobOptions
    >>> named(JobOptions(observable="richness=lambda,y_sz=Y500"), "observable")
    {'richness': 'lambda', 'y_sz': 'Y500'}
    """
    text = getattr(options, option)
    if text is None:
        return {}
    mark = ":" if option == "observable_prior" else "="
    found: dict[str, str] = {}
    # A comma belongs to the text before it unless a name and the mark follow: priors have commas of their own.
    for part in re.split(rf",(?=\s*[A-Za-z]\w*\s*{mark})", text):
        name, _, value = (piece.strip() for piece in part.partition(mark))
        if not (name and value):
            raise MassmapError(f"{option}={part.strip()!r} cannot be read: give {_FORMS[option]}")
        if name in found:
            raise MassmapError(f"{option}= is given twice for {name}: leave one of them out")
        found[name] = value
    return found


def check_observables(options: JobOptions) -> None:
    """Refuse options about further observables that no catalogue could make valid.

    Parameters
    ----------
    options : JobOptions
        The options.

    Raises
    ------
    MassmapError
        For an observable without its error or its prior, a name that is none of theirs, one column for two of them, a
        belief or a selection that cannot be read, or options that know the luminosity alone; and for a relation of
        several observables whose columns are not given.
    """
    of_file = observables_of(str(options.relation)) if options.is_file else ()
    columns = named(options, "observable")
    if lacking := [name for name in of_file if name not in columns]:
        raise MassmapError(
            f"the relation {options.relation} is one of {', '.join(of_file)} beside the luminosity: say which columns"
            f" they are with observable='{lacking[0]}=COLUMN' and observable_sigma='{lacking[0]}=COLUMN'"
        )
    if not columns:
        return
    if options.relation != "fit" and (extra := [name for name in columns if name not in of_file]):
        known = f"of {', '.join(of_file)} beside the luminosity" if of_file else "of the luminosity alone"
        known += "" if of_file else ", and the relation.npz that a fit writes holds all observables"
        raise MassmapError(
            f"observable='{extra[0]}={columns[extra[0]]}' has no effect here: the relation {options.relation} is one"
            f" {known}; leave it out"
        )
    needed = {"observable_sigma": "error"} | ({"observable_prior": "prior"} if options.relation == "fit" else {})
    for option in _FORMS:
        given = named(options, option)
        if unknown := [name for name in given if name not in columns]:
            raise MassmapError(
                f"{option}= is given for {unknown[0]}, which is no observable of these: {', '.join(columns)}; give"
                f" observable='{unknown[0]}=COLUMN' too, or leave it out"
            )
        if option in needed and (lacking := [name for name in columns if name not in given]):
            raise MassmapError(
                f"the observable {lacking[0]} has no {needed[option]}, and needs one: give {option}= {_FORMS[option]}"
            )
    by_column: dict[str, str] = {}
    for name, column in columns.items():
        if (other := by_column.setdefault(column, name)) != name:
            raise MassmapError(
                f"the observables {other} and {name} are both the column {column!r}, which would count it twice: leave"
                " one of them out"
            )
    _check_the_rest(options)


def _check_the_rest(options: JobOptions) -> None:
    """Refuse what knows the luminosity alone, and beliefs and a selection that cannot be read."""
    if options.method not in ("auto", "analytic"):
        raise MassmapError(
            f"method {options.method!r} knows the luminosity alone, and observable= is given: give method 'analytic',"
            " or leave it out"
        )
    if options.uncertain_redshifts:
        raise MassmapError(
            "z_err=, z_pdf= and z_quantiles= make redshifts distributions, and several observables need exact ones:"
            " leave these out, or observable="
        )
    if options.relation != "fit":
        return
    laws_of(options)
    beliefs_about_scatters(options)


def check_selected_on(options: JobOptions) -> None:
    """Refuse a selection on an observable or on a measured mass that cannot be used.

    Parameters
    ----------
    options : JobOptions
        The options.

    Raises
    ------
    MassmapError
        For an observable that is not fitted, or a measured mass where none is given.
    """
    if options.selected_on is None or options.relation != "fit":
        return
    on = selected_on(options.selected_on)
    if is_on_mass(options.selected_on):
        if options.calib_mass is None:
            raise MassmapError(
                f"selected_on={options.selected_on!r} is on a measured mass: give calib_mass=, its column"
            )
        return
    known = named(options, "observable")
    if on.observable not in known:  # type: ignore[union-attr]
        raise MassmapError(
            f"selected_on={options.selected_on!r} names no observable of these: {', '.join(known) or 'none is given'};"
            " a limit of the luminosity is lum_limit=, and one of the measured mass is mass>VALUE"
        )


def observables_of(path: str) -> tuple[str, ...]:
    """Tell which observables beside the luminosity the relation of a file knows.

    Parameters
    ----------
    path : str
        A file of draws of any kind.

    Returns
    -------
    tuple of str
        Their names; none for a file that is not of a fit of several.

    Raises
    ------
    MassmapError
        For a damaged file.
    """
    if "joint.npy" not in members(path):
        return ()
    with told_of_archive(f"joint posterior {path}", "is not a file that JointPosterior.save() wrote"):
        return tuple(json.loads(str(read_npz(path)["joint"])).get("observables", {}))


def laws_of(options: JobOptions, units: dict[str, str] | None = None) -> dict[str, RelationPrior]:
    """Make the priors of the relations of further observables.

    Parameters
    ----------
    options : JobOptions
        The options.
    units : dict of str to str, optional
        Units of the observables, which the fitted relations carry along.

    Returns
    -------
    dict of str to RelationPrior
        The priors by name; empty where there are no further observables.

    Raises
    ------
    MassmapError
        For text that is no prior.
    """
    texts = named(options, "observable_prior")
    if not texts:
        return {}
    from massmap_jax.relation.beliefs import RelationPrior

    found = {}
    for name in named(options, "observable"):
        try:
            law = RelationPrior.parse(texts[name])
        except MassmapError as error:
            reason = str(error).replace("relation_prior", "the prior")
            raise MassmapError(f"observable_prior= of {name} cannot be used: {reason}") from None
        labels = dict(law.labels) | ({"lum_unit": units[name]} if units and units.get(name) else {})
        found[name] = RelationPrior(law.beliefs, law.alpha3, labels, law.gamma)
    return found


def beliefs_about_scatters(options: JobOptions) -> Any:
    """Give what is believed about the correlations of the scatters, as `fit_relation` takes it.

    Parameters
    ----------
    options : JobOptions
        The options.

    Returns
    -------
    float or dict of str to object
        Shape of an LKJ prior, or beliefs by name.

    Raises
    ------
    MassmapError
        For any other text, a shape that is not positive, or a name that there is not.
    """
    from massmap_jax.relation.calibration import belief
    from massmap_jax.relation.correlations import LKJ_SHAPE, beliefs_about

    text = options.scatter_correlation
    if text is None:
        return LKJ_SHAPE
    given: Any = {}
    try:
        if "=" in text:
            for part in text.split(","):
                name, _, value = (piece.strip() for piece in part.partition("="))
                given[name] = belief("correlation", value)
        else:
            given = float(text)
        beliefs_about(tuple(named(options, "observable")), given)
    except MassmapError as error:
        raise MassmapError(f"scatter_correlation={text!r} cannot be used: {error}") from None
    except ValueError:
        raise MassmapError(
            f"scatter_correlation={text!r} cannot be read: give the shape of an LKJ prior, such as 2, or"
            " correlation_NAME=MEAN:SD"
        ) from None
    return given


def is_on_mass(text: str | None) -> bool:
    """Tell whether a selection is one on the measured mass."""
    return text is not None and text.partition(">")[0].strip() == MEASURED_MASS


def selected_on(text: str) -> SelectedOn | SelectedOnMass:
    """Make the selection on an observable, or on the measured mass.

    Parameters
    ----------
    text : str
        NAME>VALUE, or NAME>VALUE:WIDTH; the measured mass [Msun] is called mass, and takes VALUE:WIDTH:EVOLUTION, each
        of them with ~ERROR where it is fitted.

    Returns
    -------
    SelectedOn or SelectedOnMass
        The selection.

    Raises
    ------
    MassmapError
        For any other text, or numbers that are not valid.

    Examples
    --------
    >>> from massmap_jax.run.observable_options import selected_on
    >>> selected_on("richness>20:0.1").describe()
    'richness above 20, width 0.1 in ln'
    >>> selected_on("mass>3e14").describe()
    'measured mass above 3e+14 Msun, width 0.001 in ln M'
    >>> selected_on("mass>3e14~0.2:0.1~0.5").describe()
    'measured mass above 3e+14 Msun (fitted), width 0.1 in ln M (fitted)'
    """
    from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass

    name, _, rest = text.partition(">")
    parts = [part.partition("~") for part in rest.split(":")]
    try:
        numbers = [float(value) for value, _, _ in parts]
        errors = [float(error) if mark else 0.0 for _, mark, error in parts]
    except ValueError:
        numbers, errors = [], []
    on_mass = is_on_mass(text)
    if not name.strip() or not 1 <= len(numbers) <= (3 if on_mass else 2) or (any(errors) and not on_mass):
        raise MassmapError(
            f"selected_on={text!r} cannot be read: give NAME>VALUE or NAME>VALUE:WIDTH, in quotes; of a measured mass"
            " mass>VALUE:WIDTH:EVOLUTION, with ~ERROR behind what is to be fitted"
        )
    if not on_mass:
        return SelectedOn(name.strip(), *numbers)
    names = ("threshold_error", "width_error", "evolution_error")
    return SelectedOnMass(*numbers, **dict(zip(names, errors, strict=False)))
