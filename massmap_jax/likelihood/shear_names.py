"""Whether columns of shear profiles can be what they are taken for, by their names."""

import re

from massmap_jax.catalogue.column_names import normal_name
from massmap_jax.catalogue.luminosity import named_log
from massmap_jax.catalogue.luminosity_error import is_no_error
from massmap_jax.catalogue.units import name_has_little_h, unit_factor
from massmap_jax.errors import MassmapError

# Units as words of a name: "theta_arcmin", "r_kpc".
_UNITS = r"(?<![a-z])(arcmin|arcsec|deg|[km]?pc)(?![a-z])"
_EXCESS = r"delta_?sig|(?<![a-z])(?:ds|esd|dsigma)(?![a-z])|excess"
# What a name says that its column is, and what is done with such a one; the first pattern that fits.
_OTHERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "radius": (
        (r"(?<![a-z])(?:co_?mov(?:ing)?|com|c[km]pc)(?![a-z])", "a comoving radius", "say radius_unit='cMpc'"),
        (
            r"(?:_|over|/)r_?(?:\d{3,4}[cm]?|vir|s)(?![a-z])",
            "a radius over that of the halo",
            "multiply it by the halo's radius in Mpc that it was divided by",
        ),
    ),
    "shear": (
        (r"kappa|(?<![a-z])conv(?:ergence)?(?![a-z])", "a convergence", "give the tangential shear"),
        (r"cross|(?<![a-z])(?:g|gamma|e)_?x(?![a-z])", "the cross shear", "give the tangential one"),
        (
            _EXCESS,
            "an excess surface density",
            "of comoving lengths, multiply it by (1 + z)^2 of the lens; then divide it, and its error, by one large"
            " number such as 1e6 Msun/pc2 and give that as sigma_crit=, so large that the shear is not reduced",
        ),
    ),
    "error": ((r"(?<![a-z])(?:w|wt|weights?)(?![a-z])", "a weight", "give the standard deviation of the shear"),),
    "source_redshift": (
        (
            r"z_?(?:l|lens|cl|clus(?:ter)?|d|halo)|redshift_lens|(?:lens|cluster)_(?:z|redshift)",
            "that of the lens",
            "give that of the sources",
        ),
        (
            r"beta|d_?ls.*|lensing_efficiency",
            "a ratio of distances",
            "give the redshift of the sources, or sigma_crit=",
        ),
    ),
    "sigma_crit": (
        (r"inv|(?<![a-z])1_?(?:/|over)", "the inverse of sigma_crit", "give sigma_crit itself"),
        (r"(?<![a-z])(?:co_?mov(?:ing)?|com)(?![a-z])", "a comoving density", "multiply it by (1 + z)^2 of the lens"),
    ),
    "covariance": (
        (r"inv|prec", "the inverse of a covariance", "give the covariance itself"),
        (r"corr", "a matrix of correlations", "give the covariance"),
    ),
}
_WHOLE = ("source_redshift",)


def is_excess(name: str) -> bool:
    """Tell whether a column is by its name an excess surface density."""
    return re.search(_EXCESS, normal_name(name)) is not None


def check_name(role: str, name: str, label: str, unit: str | None = None, is_comoving: bool = False) -> None:
    """Refuse a column of shear profiles that is, by its name, something else than it is taken for.

    Parameters
    ----------
    role : {"radius", "shear", "error", "source_redshift", "sigma_crit", "covariance"}
        What it is taken for.
    name : str
        The column.
    label : str
        How the table is called.
    unit : str, optional
        The unit that is given for radii.
    is_comoving : bool, optional
        Whether it is said that radii are comoving.

    Raises
    ------
    MassmapError
        For a convergence, a cross shear, a weight, the redshift of the lens, a comoving radius and the like.

    Examples
    --------
    >>> from massmap_jax.likelihood.shear_names import check_name
    >>> check_name("radius", "r_Mpc", "shear.csv", "Mpc")
    >>> check_name("radius", "theta_arcmin", "shear.csv", "Mpc")
    Traceback (most recent call last):
        ...
    massmap_jax.errors.MassmapError: radius column 'theta_arcmin' of shear.csv is in arcmin by its name, ...
    """
    plain, where = normal_name(name), f"{role} column {name!r} of {label}"
    if role == "radius":
        if named_log(name):
            raise MassmapError(f"{where} is a logarithm by its name: give the radius itself")
        if name_has_little_h(name) or re.search(r"pc[_ /]*(?:per_?)?h(?![a-z])", plain):
            raise MassmapError(f"{where} is in units with h by its name: divide it by h and give it in Mpc")
        found = re.search(_UNITS, plain)
        factor = None if found is None or not unit else unit_factor(found[1].replace("mpc", "Mpc"), unit)
        if found is not None and unit and (factor is None or abs(factor - 1) > 1e-6):
            raise MassmapError(
                f"{where} is in {found[1].replace('mpc', 'Mpc')} by its name, and its unit is {unit!r}: give the right"
                " radius_unit=, or rename the column"
            )
    if role == "error" and is_no_error(name):
        raise MassmapError(
            f"{where} is by its name a variance or a signal-to-noise ratio: give the standard deviation of the shear"
        )
    for pattern, what, remedy in _OTHERS[role]:
        if is_comoving and what == "a comoving radius":
            continue
        if (re.fullmatch if role in _WHOLE else re.search)(pattern, plain):
            raise MassmapError(f"{where} is {what} by its name: {remedy}, or rename the column where it is none")
