"""Names that a user may choose from, and checks of a choice that need no JAX, so that a refusal comes at once."""

import numbers
from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

import numpy as np

from massmap_jax.errors import MassmapError

METHODS = ("analytic", "monte_carlo", "importance", "quadrature")
"""Methods of the integral over the luminosity; see `massmap_jax.likelihood.integrals`."""
FIT_METHODS = ("laplace", "nuts", "importance")

RelationFrom = Literal["this_catalogue", "other_data", "fixed_draws"]
RELATION_FROM = get_args(RelationFrom)
ChosenBy = Literal["random", "luminosity", "mass"]
"""How the objects with a measured mass were chosen."""
MassNoise = Literal["lognormal", "linear"]
"""Kinds of noise of measured masses."""
LARGEST_SCATTER = 2.0
"""Largest scatter of measured masses in ln M, or of an observable, a factor of 7: larger numbers are per cents."""


def check_scatter(scatter: float, where: str) -> None:
    """Refuse a scatter that can be none in ln of an observable, as one in per cent.

    Parameters
    ----------
    scatter : float
        The scatter, or the median or mean of several.
    where : str
        How the sentence names it.

    Raises
    ------
    MassmapError
        For less than 0, or more than `LARGEST_SCATTER`.
    """
    if scatter < 0:
        raise MassmapError(f"{where} is {scatter:.3g}: it is a standard deviation in ln of the observable, at least 0")
    if scatter > LARGEST_SCATTER:
        raise MassmapError(
            f"{where} is {scatter:.3g} in ln of the observable, a factor of {np.exp(min(scatter, 700.0)):.2g}: is it in"
            " per cent? 25 % is 0.25, and 0.1 dex is 0.23"
        )


class RelationPreset(NamedTuple):
    """Independent normal distributions of a relation's parameters, with their source.

    Attributes
    ----------
    mean : dict of str to float
        Mean of each parameter; natural logarithms, alpha3 in Msun.
    sd : dict of str to float
        Standard deviation of each parameter; 0 for a fixed one.
    lum_unit : str
        Unit of the luminosity.
    mass_definition : str
        Definition of the masses, such as "200m".
    source : str
        Where the numbers come from.
    """

    mean: dict[str, float]
    sd: dict[str, float]
    lum_unit: str
    mass_definition: str
    source: str


PRESETS = {
    # Natural logs, luminosity in the authors' own unit. Very probably these are log10 and dex figures that were taken
    # for natural logs: use the preset with the 2017 mocks, not as a measured relation.
    "bigmali2017": RelationPreset(
        mean={"alpha1": 10.709, "alpha2": 0.359, "alpha3": 2.35e14, "alpha4": 1.10, "scatter": 0.155},
        sd={"alpha1": 0.022, "alpha2": 0.009, "alpha3": 0.0, "alpha4": 0.06, "scatter": 0.0009},
        lum_unit="bigmali2017 luminosity unit",
        mass_definition="unknown",
        source="github.com/davidthomas5412/BigMaLI (2017)",
    ),
}


def check_relation_from_known(relation_from: str) -> None:
    """Refuse a `relation_from` that is not one of `RELATION_FROM`.

    Parameters
    ----------
    relation_from : str
        The choice.

    Raises
    ------
    MassmapError
        If it is not known.
    """
    if relation_from not in RELATION_FROM:
        raise MassmapError(f"relation_from {relation_from!r} is not known: give one of {', '.join(RELATION_FROM)}")


def check_relation_from(relation, relation_from: RelationFrom | None) -> RelationFrom | None:
    """Refuse a relation with several draws whose origin is not stated.

    Parameters
    ----------
    relation : Relation
        The relation.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"} or None
        Where its draws come from. There is no default: the wrong weights give a wrong answer.

    Returns
    -------
    str or None
        `relation_from`.

    Raises
    ------
    MassmapError
        If the origin is not known, or not given for several draws.
    """
    if relation_from is None and relation.num_draws > 1:
        raise MassmapError(
            f"relation has {relation.num_draws} draws, and relation_from is not given: say 'this_catalogue' (draws "
            "inferred with these objects), 'other_data' (external draws that the objects may update) or 'fixed_draws' "
            "(external draws that they may not)"
        )
    if relation_from is not None:
        check_relation_from_known(relation_from)
    return relation_from


# Options that say which objects are in the catalogue by their luminosity; it has one of them.
LIMITS = ("lum_limit", "flux_limit", "flux_min", "snr_limit")


def check_lum_limit(lum_min) -> None:
    """Refuse a luminosity limit that is not one positive number.

    Parameters
    ----------
    lum_min : float
        Lowest observed luminosity, in the catalogue's unit.

    Raises
    ------
    MassmapError
        If it is not one finite number above 0.
    """
    if not (np.ndim(lum_min) == 0 and np.isfinite(lum_min) and lum_min > 0):
        raise MassmapError(f"the luminosity limit is {lum_min}: give one positive luminosity in the catalogue's unit")


def check_snr_limit(snr_min) -> None:
    """Refuse a limit in signal to noise that is not one positive number.

    Parameters
    ----------
    snr_min : float
        Lowest signal to noise of the objects in the catalogue.

    Raises
    ------
    MassmapError
        If it is not one finite number above 0.
    """
    if not (np.ndim(snr_min) == 0 and np.isfinite(snr_min) and snr_min > 0):
        raise MassmapError(f"the limit in signal to noise is {snr_min}: give one number above 0, such as 5")


def check_flux_min(flux_min) -> None:
    """Refuse a flux limit that is not one positive number, or too large to be in erg/s/cm2.

    Parameters
    ----------
    flux_min : float
        Lowest flux [erg/s/cm2].

    Raises
    ------
    MassmapError
        If it is not one finite number above 0, or above 1e-3: the brightest cluster has 1e-9.
    """
    if not (np.ndim(flux_min) == 0 and np.isfinite(flux_min) and flux_min > 0):
        raise MassmapError(f"the flux limit is {flux_min}: give one positive flux in erg/s/cm2, such as 3e-12")
    if flux_min > 1e-3:
        raise MassmapError(
            f"the flux limit is {flux_min:g} erg/s/cm2, more than any cluster or galaxy has: give it in"
            " erg/s/cm2, such as"
            " 3e-12, as flux_min=, or a limit of the luminosity as lum_limit="
        )


# -- maps -----------------------------------------------------------------------------------------------------------

MAP_UNITS = ("Msun", "Msun/arcmin2", "Msun/Mpc2")
"""Mass in a pixel, or surface density; see `massmap_jax.maps.units`."""
HEALPIX_ORDERS = ("RING", "NESTED")
MAP_COLOURS = ("magma", "grey")
"""Bright is massive, on a scale that the eye sees as even; or dark is massive, as in 2017."""
HALO_PROFILES = ("nfw",)
# 12 nside^2 - 1 has to fit into 64 bits.
_MAX_NSIDE = 2**29


def check_map_unit(unit: str) -> None:
    """Refuse a map unit that is not one of `MAP_UNITS`.

    Parameters
    ----------
    unit : str
        The unit.

    Raises
    ------
    MassmapError
        If it is not known.
    """
    if unit not in MAP_UNITS:
        raise MassmapError(f"map unit {unit!r} is not known: give one of {', '.join(MAP_UNITS)}")


def check_redshift_edges(edges, name: str = "redshift_edges") -> np.ndarray:
    """Return the edges of redshift slices as a checked array.

    Parameters
    ----------
    edges : array_like, (n,)
        The edges.
    name : str, optional
        Name of the argument, for messages.

    Returns
    -------
    Float[np.ndarray, "n"]
        The edges in float64.

    Raises
    ------
    MassmapError
        If they are not at least two finite, increasing numbers, none of them negative.
    """
    try:
        found = np.atleast_1d(np.asarray(edges, dtype=np.float64))
    except (TypeError, ValueError):
        raise MassmapError(f"{name} must be numbers, not {edges!r}") from None
    if found.ndim != 1 or found.size < 2:
        raise MassmapError(f"{name} has shape {found.shape}: give at least two redshifts, such as 0.1, 0.3")
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise MassmapError(
            f"{name} has {bad.sum()} values that are not finite and >= 0, the first {found[np.argmax(bad)]:g}"
        )
    falls = np.diff(found) <= 0
    if falls.any():
        first = int(np.argmax(falls))
        raise MassmapError(
            f"{name} must rise, and {falls.sum()} do not, the first {found[first + 1]:g} after "
            f"{found[first]:g}: sort them, each once"
        )
    return found


def check_fwhm(fwhm_arcmin: float) -> None:
    """Refuse a smoothing width that is not positive and finite.

    Parameters
    ----------
    fwhm_arcmin : float
        Full width at half maximum [arcmin].

    Raises
    ------
    MassmapError
        If it is not finite and above 0.
    """
    if not (np.isfinite(fwhm_arcmin) and fwhm_arcmin > 0):
        raise MassmapError(f"the FWHM to smooth by is {fwhm_arcmin:g} arcmin: give a finite width above 0")


def check_map_colours(colours: str) -> None:
    """Refuse colours of maps that are not known.

    Parameters
    ----------
    colours : str
        Their name.

    Raises
    ------
    MassmapError
        If they are not one of `MAP_COLOURS`.
    """
    if colours not in MAP_COLOURS:
        raise MassmapError(f"map colours {colours!r} are not known: give {' or '.join(MAP_COLOURS)}")


def check_halo_profile(halo_profile: str, on_a_plane: bool = True) -> None:
    """Refuse a halo profile that is not one of `HALO_PROFILES`, and any profile on HEALPix pixels.

    Parameters
    ----------
    halo_profile : str
        Name of the profile.
    on_a_plane : bool
        Whether the pixels lie on a tangent plane and are not HEALPix.

    Raises
    ------
    MassmapError
        If the profile is not known, or the pixels are HEALPix.
    """
    if halo_profile not in HALO_PROFILES:
        raise MassmapError(f"halo profile {halo_profile!r} is not known: give {' or '.join(HALO_PROFILES)}, or none")
    if not on_a_plane:
        raise MassmapError(
            "halo profiles are drawn on a plane, and the pixels are HEALPix: give a tangent plane (pixel_arcmin), or "
            "map the halos as points"
        )


def check_concentration_scatter(scatter: float) -> None:
    """Refuse a scatter of ln c that is negative or not finite.

    Parameters
    ----------
    scatter : float
        Standard deviation of ln c at fixed mass.

    Raises
    ------
    MassmapError
        If it is not finite and at least 0.
    """
    if not (np.isfinite(scatter) and scatter >= 0):
        raise MassmapError(f"concentration_scatter is {scatter:g}: give the standard deviation of ln c, at least 0")


def check_source_redshift(source_redshift: float) -> None:
    """Refuse a redshift of lensed sources that is not positive and finite.

    Parameters
    ----------
    source_redshift : float
        Redshift of the sources.

    Raises
    ------
    MassmapError
        If it is not finite and above 0.
    """
    if not (np.isfinite(source_redshift) and source_redshift > 0):
        raise MassmapError(f"source_redshift is {source_redshift:g}: give a finite number above 0")


def check_nside(nside) -> int:
    """Return the nside of HEALPix pixels, after a check.

    Parameters
    ----------
    nside : int
        Number of pixels along the side of a base pixel.

    Returns
    -------
    int
        The nside.

    Raises
    ------
    MassmapError
        If it is not a power of two from 1 to 2**29.
    """
    whole = isinstance(nside, numbers.Integral) and 1 <= int(nside) <= _MAX_NSIDE
    if not whole or nside & (int(nside) - 1):
        raise MassmapError(f"nside is {nside!r}: give a power of two from 1 to 2**29, such as 1024")
    return int(nside)


def check_healpix_order(order) -> Literal["RING", "NESTED"]:
    """Return the order of HEALPix pixels, after a check.

    Parameters
    ----------
    order : str
        The order.

    Returns
    -------
    str
        The order.

    Raises
    ------
    MassmapError
        If it is not one of `HEALPIX_ORDERS`.
    """
    if order not in HEALPIX_ORDERS:
        raise MassmapError(f"HEALPix order {order!r} is not known: give {' or '.join(HEALPIX_ORDERS)}")
    return order


def need_healpix() -> None:
    """Refuse to go on where the extra `healpix` is not installed.

    Raises
    ------
    MassmapError
        If the package astropy-healpix is missing.
    """
    if find_spec("astropy_healpix") is None:
        raise MassmapError("HEALPix maps need astropy-healpix: pip install astropy-healpix")
