"""Whether arguments are what their places are for: catalogue, mass prior and relation are easily interchanged."""

from typing import NamedTuple

from massmap_jax.errors import MassmapError


class _Kind(NamedTuple):
    """What an argument needs to have, what it is called, and how to get one."""

    has: tuple[str, ...]
    what: str
    how: str


# By attributes and not by class, so that a user's own relation or grid is one.
_KINDS = {
    "catalogue": _Kind(
        ("ln_lum_obs", "redshift", "usable"),
        "a HaloCatalogue",
        "read_catalogue reads one from a file or a table, HaloCatalogue.from_arrays makes one of arrays",
    ),
    "prior": _Kind(("ln_mass_min", "ln_mass_max"), "a mass prior", "MassPrior.default() or MassPrior.from_hmf(...)"),
    "relation": _Kind(
        ("num_draws", "log_weight"),
        "a relation",
        "MassLuminosityRelation.create(...), read_relation(...), or the draws of a fit, fit.draws",
    ),
    "key": _Kind(("dtype", "ndim"), "a random key", "jax.random.key(0)"),
    "grid": _Kind(("num_pixels", "projection", "pixel_arcmin"), "a grid of pixels", "PixelGrid or HealpixGrid"),
    "fit": _Kind(
        ("draws", "maximum", "shared_error"),
        "a fit with measured masses or a population",
        "fit_relation(..., calibration=...)",
    ),
    "calibration": _Kind(
        ("ln_mass", "chosen_by"), "CalibrationMasses", "CalibrationMasses.from_arrays(mass=, sigma_ln_mass=, ...)"
    ),
    "posterior": _Kind(("mean", "sd", "catalogue"), "a posterior of masses", "mass_posterior(...)"),
    "cosmology": _Kind(("values", "source", "pick"), "CosmologyDraws", "CosmologyDraws.from_arrays, read or planck18"),
    "mass_map": _Kind(("grid", "mean", "unit"), "a map", "mass_map(...) or read_map(...)"),
}


def check_kinds(function: str, **given: object) -> None:
    """Refuse arguments that are not what their places are for.

    Parameters
    ----------
    function : str
        Name of the function that was called.
    **given : object
        Its first arguments by name, in order, each one of `_KINDS`.

    Raises
    ------
    MassmapError
        For one that lacks what such a thing has, with the order of the arguments.

    Examples
    --------
    >>> from massmap_jax.argument_kinds import check_kinds
    >>> check_kinds("mass_posterior", catalogue="clusters.csv")
    Traceback (most recent call last):
        ...
    massmap_jax.errors.MassmapError: mass_posterior: catalogue is a str, and has to be a HaloCatalogue (read_catalogue \
reads one from a file or a table, HaloCatalogue.from_arrays makes one of arrays)
    """
    for name, value in given.items():
        kind = _KINDS[name]
        if all(hasattr(value, attribute) for attribute in kind.has):
            continue
        order = f"; its arguments are {', '.join(given)}, in this order" if len(given) > 1 else ""
        # A fit is where a relation is looked for.
        how = "its draws, fit.draws" if name == "relation" and hasattr(value, "draws") else kind.how
        raise MassmapError(f"{function}: {name} is a {type(value).__name__}, and has to be {kind.what} ({how}){order}")
