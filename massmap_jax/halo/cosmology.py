"""Cosmologies by name or as text, distances, and the density inside a halo of a mass definition.

astropy is imported when a function is called, so that the rest of the library runs without it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from massmap_jax.errors import MassmapError

# c^2 / (4 pi G) [Msun / Mpc], with the constants of CODATA 2018 and IAU 2015.
_C2_4PI_G = 1.6629165401756e18
# What measurements of flat LambdaCDM lie within, and what is taken for a parameter that does not.
_USUAL = {
    "omega_m": (0.2, 0.45, "omega_m h^2, or without the cold dark matter"),
    "sigma8": (0.6, 1.05, "sigma8 (omega_m)^0.5 or another combination"),
    "h": (0.5, 0.9, "h = H0 / 100"),
    "n_s": (0.85, 1.1, "the slope of the primordial power spectrum"),
    "omega_b": (0.03, 0.07, "omega_b h^2, which CLASS calls omega_b"),
}
COSMOLOGIES = ("WMAP5", "WMAP7", "WMAP9", "Planck13", "Planck15", "Planck18")


def comoving_volume(cosmology: Any, redshift: np.ndarray) -> np.ndarray:
    """Compute the comoving volume per unit redshift and square degree.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW
        As in `hmf_table`.
    redshift : Float[np.ndarray, "j"]
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "j"]
        Comoving volume [Mpc^3 deg^-2] per unit redshift at each redshift.
    """
    flrw = flrw_of(cosmology)
    return flrw.differential_comoving_volume(redshift).to_value("Mpc3 / sr") * np.deg2rad(1.0) ** 2


def flrw_of(cosmology: Any) -> Any:
    """Return the astropy cosmology of a name or a text, for distances and densities.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW
        One of `COSMOLOGIES`, a text "H0=70,Om0=0.3,...", or an astropy cosmology, which is checked and returned.

    Returns
    -------
    astropy.cosmology.FLRW
        The flat LambdaCDM cosmology.
    """
    return cosmology_of(cosmology, 1.0, 1.0)[0]


def angular_diameter_distance(cosmology: Any, redshift: np.ndarray) -> np.ndarray:
    """Compute the angular diameter distance to each redshift, with astropy.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW
        As in `hmf_table`.
    redshift : array_like, (n,)
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "n"]
        Angular diameter distance [Mpc, proper].

    Notes
    -----
    Above 5,000 redshifts it is interpolated, because with massive neutrinos astropy integrates each distance anew: a
    cubic spline of the comoving distance through 2,001 nodes, evenly spaced in ln(1 + z) from z = 0 to 1,000, with
    relative errors below 1e-10 above z = 0.01.
    """
    flrw = flrw_of(cosmology)
    redshift = np.asarray(redshift, dtype=np.float64)
    if redshift.size <= 5000:
        return flrw.angular_diameter_distance(redshift).to_value("Mpc")
    from scipy.interpolate import CubicSpline

    nodes = np.linspace(0.0, np.log1p(1000.0), 2001)
    spline = CubicSpline(nodes, flrw.comoving_distance(np.expm1(nodes)).to_value("Mpc"))
    return spline(np.log1p(redshift)) / (1 + redshift)


def critical_surface_density(
    cosmology: Any, lens: Float[np.ndarray, "..."], source: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Compute the critical surface density of lensing.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW
        As in `hmf_table`.
    lens, source : Float[np.ndarray, "..."]
        Redshifts of lenses and sources, which broadcast; the lens is in front.

    Returns
    -------
    Float[np.ndarray, "..."]
        c^2 D_s / (4 pi G D_l D_ls) [Msun / Mpc^2, proper].

    Examples
    --------
    >>> from massmap_jax.halo.cosmology import critical_surface_density
    >>> print(f"{critical_surface_density('Planck18', 0.3, 1.0):.3g}")
    2.75e+15
    """
    lens, source = np.asarray(lens, dtype=np.float64), np.asarray(source, dtype=np.float64)

    def distance(z):  # of each redshift once: astropy integrates every one
        known, place = np.unique(z, return_inverse=True)
        return angular_diameter_distance(cosmology, known)[place].reshape(z.shape)

    to_lens, to_source = distance(lens), distance(source)
    # Flat: comoving distances are differences (`cosmology_of` refuses curved cosmologies).
    between = to_source - to_lens * (1 + lens) / (1 + source)
    return _C2_4PI_G * to_source / (to_lens * between)


def luminosity_distance(cosmology: Any, redshift: np.ndarray) -> np.ndarray:
    """Compute the luminosity distance to each redshift, (1 + z)^2 times the angular diameter distance.

    Parameters
    ----------
    cosmology : str or astropy.cosmology.FLRW
        As in `hmf_table`.
    redshift : array_like, (n,)
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "n"]
        Luminosity distance [Mpc].
    """
    redshift = np.asarray(redshift, dtype=np.float64)
    return (1 + redshift) ** 2 * angular_diameter_distance(cosmology, redshift)


def cosmology_of(cosmology: Any, sigma8: float | None, n_s: float | None) -> tuple[Any, str, float, float]:
    """The astropy cosmology, its name, sigma8 and n_s."""
    import astropy.cosmology

    if isinstance(cosmology, str) and "=" in cosmology:
        cosmology, given = _cosmology_from_text(cosmology)
        sigma8, n_s = given.get("sigma8", sigma8), given.get("n_s", n_s)
    if isinstance(cosmology, str):
        if cosmology not in COSMOLOGIES:
            meant = [name for name in COSMOLOGIES if name.lower() == cosmology.strip().lower()]
            hint = f" (did you mean {meant[0]!r}?)" if meant else ""
            raise MassmapError(
                f"cosmology {cosmology!r} is unknown{hint}; choose from {', '.join(COSMOLOGIES)}, write the parameters"
                " as 'H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95', or pass an astropy cosmology"
            )
        flrw = getattr(astropy.cosmology, cosmology)
        name = cosmology
        sigma8 = flrw.meta["sigma8"] if sigma8 is None else sigma8
        n_s = flrw.meta["n"] if n_s is None else n_s
    else:
        flrw = cosmology
        if not isinstance(flrw, astropy.cosmology.FLRW):
            raise MassmapError(
                f"cosmology must be one of {', '.join(COSMOLOGIES)} or an astropy FLRW cosmology, not "
                f"{type(flrw).__name__}"
            )
        if not isinstance(flrw, astropy.cosmology.LambdaCDM) or abs(flrw.Ok0) > 1e-8:
            raise MassmapError(
                f"cosmology must be flat LambdaCDM (the growth factor here is for no other), not "
                f"{type(flrw).__name__} with Ok0 = {flrw.Ok0:g}; pass your own table to MassPrior.from_table"
            )
        name = flrw.name or type(flrw).__name__
        missing = [label for label, value in (("sigma8", sigma8), ("n_s", n_s)) if value is None]
        if not flrw.Tcmb0.value > 0:
            missing.append("Tcmb0 (in the astropy cosmology, for example Tcmb0=2.7255)")
        if not (flrw.Ob0 or 0) > 0:
            missing.append("Ob0 (in the astropy cosmology, for example Ob0=0.049)")
        if missing:
            raise MassmapError(f"cosmology {name!r} lacks {' and '.join(missing)}, needed for the power spectrum")
    for label, value, upper in (("sigma8", sigma8, 10.0), ("n_s", n_s, 4.0)):
        if not 0.1 <= value <= upper:
            raise MassmapError(f"{label} must lie in 0.1 to {upper:g}, not {value:g}")
    return flrw, name, float(sigma8), float(n_s)


def unusual(values: Mapping[str, float], where: str, verb: str = "is") -> list[str]:
    """Name the parameters of a cosmology that no measurement of flat LambdaCDM has, and what they may be.

    Parameters
    ----------
    values : mapping of str to float
        Values of some of omega_m, sigma8, h, n_s and omega_b.
    where : str
        What they are values of.
    verb : str, optional
        "has a median of" for many draws.

    Returns
    -------
    list of str
        One sentence for each.

    Examples
    --------
    >>> from massmap_jax.halo.cosmology import unusual
    >>> unusual({"sigma8": 0.8, "omega_b": 0.0224}, "chain.txt")
    ['cosmology: omega_b of chain.txt is 0.0224, and measurements of flat LambdaCDM lie between 0.03 and 0.07: see \
whether it is omega_b h^2, which CLASS calls omega_b']
    """
    return [
        f"cosmology: {name} of {where} {verb} {values[name]:.3g}, and measurements of flat LambdaCDM lie between"
        f" {low:g} and {high:g}: see whether it is {slip}"
        for name, (low, high, slip) in _USUAL.items()
        if name in values and not low <= values[name] <= high
    ]


def told_of_cosmology(cosmology: str) -> list[str]:
    """Name what is unusual in a cosmology that is written as text; see `unusual`.

    Parameters
    ----------
    cosmology : str
        As in `hmf_table`. There is nothing to say of a name.

    Returns
    -------
    list of str
        One sentence for each parameter that no measurement has.
    """
    if "=" not in cosmology:
        return []
    _, given = _cosmology_from_text(cosmology)
    names = {"Om0": "omega_m", "sigma8": "sigma8", "n_s": "n_s", "Ob0": "omega_b"}
    values = {name: given[own] for own, name in names.items()} | {"h": given["H0"] / 100}
    return unusual(values, f"{cosmology!r}")


# Wide enough for any cosmology that was ever believed in.
_POSSIBLE = {"H0": (10.0, 500.0), "Om0": (0.01, 1.0), "Ob0": (1e-4, 1.0), "Tcmb0": (0.1, 100.0)}


def _cosmology_from_text(text: str) -> tuple[Any, dict[str, float]]:
    """Flat LambdaCDM from "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95" (Tcmb0 = 2.725 where not given)."""
    from astropy.cosmology import FlatLambdaCDM

    needed, optional = ("H0", "Om0", "Ob0", "sigma8", "n_s"), ("Tcmb0",)
    try:
        given = {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        given = {}
    if not set(needed) <= given.keys() <= set(needed + optional):
        raise MassmapError(
            f"cosmology {text!r} cannot be read: give {', '.join(needed)} (and Tcmb0 if not 2.725), such as "
            "'H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95'"
        )
    for key, (low, high) in _POSSIBLE.items():
        if not low <= given.get(key, low) <= high:
            raise MassmapError(f"cosmology {text!r} is not possible: {key} must lie in {low:g} to {high:g}")
    name = ", ".join(f"{key} = {value:g}" for key, value in given.items() if key not in ("sigma8", "n_s"))
    try:
        flrw = FlatLambdaCDM(given["H0"], given["Om0"], given.get("Tcmb0", 2.725), Ob0=given["Ob0"], name=name)
    except ValueError as error:
        raise MassmapError(f"cosmology {text!r} is not possible: {error}") from None
    return flrw, given


def virial_overdensity(omega_m):
    """Evaluate the virial overdensity of a flat universe, relative to the critical density.

    Parameters
    ----------
    omega_m : float or array
        Omega_m at the halo's redshift, of NumPy or JAX.

    Returns
    -------
    float or array
        Bryan & Norman (1998, ApJ 495, 80), eq. 6: with x = Omega_m - 1, 18 pi^2 + 82 x - 39 x^2.
    """
    x = omega_m - 1
    return 18 * np.pi**2 + 82 * x - 39 * x**2


def ln_halo_radius(ln_mass, mass_definition: str, cosmology: Any, z: Float[np.ndarray, "..."]) -> np.ndarray:
    """Compute ln of the radius that a mass definition gives a halo.

    Parameters
    ----------
    ln_mass : Float[np.ndarray, "..."]
        ln of the mass [ln Msun].
    mass_definition, cosmology : str
        As `overdensity`.
    z : Float[np.ndarray, "..."]
        Redshift. It broadcasts with `ln_mass`.

    Returns
    -------
    Float[np.ndarray, "..."]
        ln of the radius [ln Mpc, proper].
    """
    return (ln_mass - np.log(4 / 3 * np.pi * overdensity(mass_definition, cosmology, z))) / 3


def overdensity(mass_definition: str, cosmology: Any, z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Compute the mean density inside the radius that a mass definition gives a halo.

    Parameters
    ----------
    mass_definition : str
        <number>c (times the critical density), <number>m (times the mean matter density) or "vir", for example "200m".
    cosmology : str or astropy.cosmology.FLRW
        A name or a text of parameters as in `massmap_jax.halo.mass_function.hmf_table`, or a flat astropy LambdaCDM.
    z : Float[np.ndarray, "n"]
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "n"]
        Mean density at each redshift [Msun Mpc^-3, proper].

    Raises
    ------
    MassmapError
        If the mass definition is not <number>c, <number>m or vir.

    Notes
    -----
    "vir" is that of `virial_overdensity`.
    """
    flrw = flrw_of(cosmology)
    critical = flrw.critical_density(z).to_value("Msun / Mpc3")
    if mass_definition == "vir":
        return virial_overdensity(flrw.Om(z)) * critical
    number, kind = mass_definition[:-1], mass_definition[-1:]
    try:
        times = float(number)
    except ValueError:
        times = np.nan
    if kind not in ("c", "m") or not (np.isfinite(times) and times > 0):
        raise MassmapError(
            f"a halo's radius does not follow from the mass definition {mass_definition!r}: it has to be like 200m, "
            "200c, 500c or vir; say which one the prior's masses are"
        )
    return times * critical * (flrw.Om(z) if kind == "m" else 1.0)
