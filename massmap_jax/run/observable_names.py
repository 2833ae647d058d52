"""Whether the column of the observable can be, by its name, what a published relation is for."""

import re

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.units import overdensity_in
from massmap_jax.errors import MassmapError
from massmap_jax.relation.presets import Preset

# What a name says of an observable, and what that of a relation for it speaks of. "lum" and "luminosity" say nothing:
# it is what any observable is called here.
_KINDS = (
    ("a flux", r"(?:.*_)?(?:flux|fx|f_x|fluxes)(?:_.*)?|f(?:500|x500|lux.*)", r"\bflux"),
    ("a bolometric luminosity", r"(?:.*_)?l(?:x|um)?_?(?:500)?_?bol(?:o|ometric)?(?:_.*)?|bol_?lum.*", r"bolometric"),
    ("an X-ray luminosity", r"(?:log_?|ln_?)?(?:l_?x|l_?x?_?500|xray_?lum\w*)(?:_.*)?", r"luminosity"),
    ("a richness", r"(?:log_?|ln_?)?(?:richness|lambda|lambda_chisq|n_?200|n_?gal\w*|n_?mem|ngals?)", r"richness"),
    ("a temperature", r"(?:log_?|ln_?)?(?:k_?t|t_?x|t_?500|temp\w*)(?:_.*)?", r"temperature"),
    (
        "a velocity dispersion",
        r"(?:sig(?:ma)?_?v|v(?:el)?_?disp|velocity_dispersion)(?:_.*)?",
        r"velocity",
    ),
)


def check_observable(preset: Preset, column: str, notes: list[str]) -> None:
    """Say what a published relation is for, and refuse an observable that is another by the name of its column.

    Parameters
    ----------
    preset : Preset
        The relation.
    column : str
        The column of the observable; "" where it has no name.
    notes : list of str
        A note is added.

    Raises
    ------
    MassmapError
        For a flux, a mass or a richness where the relation is for a luminosity, and the like.
    """
    if not column:
        return
    plain, what = normal_name(column), preset.observable.lower()
    kind = next((named for named, names, _ in _KINDS if re.fullmatch(names, plain)), "")
    of_relation = next((words for named, _, words in _KINDS if named == kind), "")
    if overdensity_in(column):
        kind, of_relation = f"a halo mass, M{overdensity_in(column)},", r"(?!)"
    if kind and not re.search(of_relation, what):
        raise MassmapError(
            f"the relation {preset.name} is for the {preset.observable}, and column {column!r} is {kind} by its name:"
            " choose the column that the relation is for with lum=, or another relation, or rename the column"
        )
    notes.append(f"the relation {preset.name} is for the {preset.observable}: column {column!r} is taken to be that")
