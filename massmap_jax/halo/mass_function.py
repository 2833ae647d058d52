"""Tables of halo mass functions from the hmf package, in Msun and Mpc^-3 without h, and distances in a cosmology.

hmf and astropy are imported only when a function is called, so the rest of the package runs without them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.halo.cosmology import cosmology_of

# hmf's BBKS is left out: its default baryon term has sqrt(Omega_b h) where its documentation has sqrt(2 h)
TRANSFER_MODELS = ("EH", "EH_NoBAO", "BondEfs", "CAMB")
MASS_DEFINITIONS: dict[str, tuple[str, dict[str, float]]] = {
    "200m": ("SOMean", {"overdensity": 200.0}),
    "200c": ("SOCritical", {"overdensity": 200.0}),
    "500c": ("SOCritical", {"overdensity": 500.0}),
    "vir": ("SOVirial", {}),
    "fof": ("FOF", {"linking_length": 0.2}),
}

# Step in ln k of the power spectrum integrals. Error in ln n at z = 4, measured against a step of 0.0025: 8e-6 over the
# whole default mass range; with hmf's own step of 0.05 it is 7e-4 below 1e15 Msun and 4e-3 above, as wiggles in mass.
DLNK = 0.01
# hmf's default collapse threshold, which the fits in it assume.
DELTA_C = 1.686
# Overdensities relative to the mean for which Tinker et al. list parameters (2008, Table 2; 2010, Table 4).
TINKER_OVERDENSITY = (200.0, 3200.0)


def hmf_table(
    hmf_model: str = "Tinker10",
    cosmology: Any = "Planck18",
    mass_definition: str = "200m",
    transfer_model: str = "EH",
    sigma8: float | None = None,
    n_s: float | None = None,
    redshift: Any = None,
    log10_mass_range: tuple[float, float] = (10.0, 16.0),
    dlog10_mass: float = 0.02,
    cumulative: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Tabulate a halo mass function at nodes of redshift and mass.

    Parameters
    ----------
    hmf_model : str
        Name of a fit in ``hmf.mass_function.fitting_functions``, for example "Tinker10" or "Tinker08".
    cosmology : str or astropy.cosmology.FLRW
        One of `COSMOLOGIES`, a text such as "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95" (flat LambdaCDM), or an
        astropy flat LambdaCDM cosmology with Tcmb0 and Ob0.
    mass_definition : str
        One of `MASS_DEFINITIONS` ("fof" has linking length 0.2). It must be one that the fit was made for: masses are
        never converted from another definition.
    transfer_model : str
        One of `TRANSFER_MODELS`: "EH" is Eisenstein & Hu (1998) with baryon oscillations, "CAMB" needs the package
        camb.
    sigma8 : float, optional
        Amplitude of the power spectrum. For a named cosmology the default is the value of its paper as astropy records
        it (`flrw.meta`, with the reference); for any other cosmology it is required.
    n_s : float, optional
        Slope of the primordial power spectrum. The default is as for `sigma8`.
    redshift : array_like, (j,), optional
        Redshift nodes, increasing; 0 to 4 in steps of 0.05 by default.
    log10_mass_range : tuple of (float, float)
        log10 of the lowest and highest mass [log10 Msun]. The default ends at 10^16 Msun, where the density at z = 4
        (2e-94) is still far from underflow; no halo is more massive.
    dlog10_mass : float
        Step in log10 mass. It is made smaller where the range would not hold a whole number of steps.
    cumulative : bool
        Return N(>M) instead of the density. A calibrated posterior needs the density; N(>M) exists to reproduce
        published corrections that used it.

    Returns
    -------
    redshift : Float[np.ndarray, "j"]
        Redshift nodes.
    mass : Float[np.ndarray, "k"]
        Mass nodes [Msun, no h].
    density : Float[np.ndarray, "j k"]
        dn/dlnM [Mpc^-3 comoving, no h], or N(>M) [Mpc^-3] if `cumulative`. Values that underflow are 0.
    meta : dict of str to object
        What was computed, with versions (str, float, bool or None); `description` is one line for a header.

    Raises
    ------
    MassmapError
        If a name is unknown, the fit was not made for the mass definition, the cosmology is incomplete or not flat
        LambdaCDM, the nodes are not valid, or hmf is not installed.

    See Also
    --------
    massmap_jax.prior.mass_prior.MassPrior.from_hmf : The mass prior made from such a table.

    Notes
    -----
    The evolution of Tinker et al. (2010), eqs. 8 to 12, is frozen above z = 3. With massive neutrinos (Planck13 to
    Planck18) the mean matter density is astropy's Om0, which does not contain the neutrinos.
    """
    try:
        import astropy
        import hmf
    except ImportError as error:
        raise MassmapError(
            f"a mass prior from a halo mass function needs the package {error.name!r} (pip install hmf "
            "astropy), or use the shipped table (MassPrior.default) or one of your own (MassPrior.from_table)"
        ) from error

    redshift = redshift_nodes(redshift)
    log10_mass = log10_mass_nodes(log10_mass_range, dlog10_mass)
    flrw, cosmology_name, sigma8, n_s = cosmology_of(cosmology, sigma8, n_s)
    if transfer_model not in TRANSFER_MODELS:
        raise MassmapError(f"transfer_model {transfer_model!r} is unknown; choose from {', '.join(TRANSFER_MODELS)}")
    if transfer_model == "CAMB" and not hmf.density_field.transfer_models.HAVE_CAMB:
        raise MassmapError("transfer_model 'CAMB' needs the package 'camb': pip install camb, or use 'EH'")
    mdef_model, mdef_params = _native_definition(hmf_model, mass_definition, flrw, redshift)

    h = flrw.h
    step = log10_mass[1] - log10_mass[0]
    low = log10_mass[0] + np.log10(h)
    density = np.empty((len(redshift), len(log10_mass)))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        function = hmf.MassFunction(
            Mmin=low,
            # hmf excludes the upper end; half a step keeps rounding from adding or losing a node
            Mmax=low + (len(log10_mass) - 0.5) * step,
            dlog10m=step,
            hmf_model=hmf_model,
            mdef_model=mdef_model,
            mdef_params=mdef_params,
            cosmo_model=flrw,
            sigma_8=sigma8,
            n=n_s,
            transfer_model=transfer_model,
            # given explicitly, because hmf's default depends on whether camb is installed
            growth_model="GrowthFactor",
            delta_c=DELTA_C,
            dlnk=DLNK,
            z=redshift[0],
        )
        for j, z in enumerate(redshift):
            function.update(z=float(z))
            density[j] = function.dndlnm
        # The only place where h is removed: hmf works in Msun/h and (h/Mpc)^3.
        mass = function.m / h
        density *= h**3

    bad = np.argwhere(~(np.isfinite(density) & (density >= 0)))
    if len(bad):
        j, k = bad[0]
        raise MassmapError(
            f"hmf gives {len(bad)} densities of {hmf_model} that are not finite and >= 0, the first "
            f"{density[j, k]} at z = {redshift[j]:g}, mass {mass[k]:.4g} Msun: narrow redshift or "
            "log10_mass_range, or choose another fit"
        )
    meta = {
        "description": f"{hmf_model} {'N(>M)' if cumulative else 'dn/dlnM'}, {mass_definition}, "
        f"{cosmology_name}, {transfer_model} transfer, sigma8 = {sigma8:g}, n_s = {n_s:g}, "
        f"hmf {hmf.__version__}",
        "hmf_model": hmf_model,
        "mass_definition": mass_definition,
        "transfer_model": transfer_model,
        "cosmology": cosmology_name,
        "H0": float(flrw.H0.value),
        "Om0": float(flrw.Om0),
        "Ob0": float(flrw.Ob0),
        "Tcmb0": float(flrw.Tcmb0.value),
        "sigma8": sigma8,
        "n_s": n_s,
        "cumulative": bool(cumulative),
        "quantity": "N(>M) [Mpc^-3]" if cumulative else "dn/dlnM [Mpc^-3]",
        "mass_unit": "Msun",
        "hmf": hmf.__version__,
        "astropy": astropy.__version__,
        "camb": _camb_version() if transfer_model == "CAMB" else None,
    }
    return redshift, mass, number_above(mass, density) if cumulative else density, meta


def number_above(mass: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Integrate dn/dlnM to the cumulative number density N(>M) at each mass node.

    Parameters
    ----------
    mass : Float[np.ndarray, "k"]
        Mass nodes [Msun], increasing.
    density : Float[np.ndarray, "... k"]
        dn/dlnM at the nodes [Mpc^-3].

    Returns
    -------
    Float[np.ndarray, "... k"]
        N(>M) at the nodes [Mpc^-3].

    Notes
    -----
    ln(dn/dlnM) is taken as linear in ln M within a cell and integrated exactly: this is the density that `MassPrior`
    interpolates. Compared with the mass function itself, in steps of 0.02 in log10 mass, the result is 1e-4 low at
    1e14 Msun and 6e-4 low at 1e15. The slope of the last cell is continued to infinite mass; zero densities
    (underflow) contribute nothing.
    """
    width = np.diff(np.log(mass))
    left, right = density[..., :-1], density[..., 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.log(right / left)
        cells = width * np.where(np.abs(slope) > 1e-8, (right - left) / slope, 0.5 * (left + right))
        cells = np.where(right > 0, cells, 0.5 * width * left)
        falling = (right[..., -1] > 0) & (slope[..., -1] < 0)
        tail = np.where(falling, -right[..., -1] * width[-1] / slope[..., -1], 0.0)
    above = np.cumsum(np.concatenate([tail[..., None], cells[..., ::-1]], axis=-1), axis=-1)
    return above[..., ::-1]


def redshift_nodes(redshift: Any) -> np.ndarray:
    """The redshift nodes as a checked array, or the default ones."""
    if redshift is None:
        # a division and not multiples of 0.05, so that the node at 0.3 is the float 0.3
        return np.arange(81) / 20
    redshift = np.atleast_1d(np.asarray(redshift, dtype=float))
    if redshift.ndim != 1 or len(redshift) == 0:
        raise MassmapError(f"redshift must be a list of nodes, not an array of shape {redshift.shape}")
    bad = np.flatnonzero(~(np.isfinite(redshift) & (redshift >= 0)))
    if len(bad):
        raise MassmapError(
            f"redshift has {len(bad)} nodes that are not finite and >= 0; the first, node {bad[0]}, is "
            f"{redshift[bad[0]]}"
        )
    if np.any(np.diff(redshift) <= 0):
        first = int(np.flatnonzero(np.diff(redshift) <= 0)[0]) + 1
        raise MassmapError(f"redshift nodes must increase; node {first} is {redshift[first]:g}: sort them")
    return redshift


def log10_mass_nodes(log10_mass_range: tuple[float, float], dlog10_mass: float) -> np.ndarray:
    """Evenly spaced log10 masses over a checked range."""
    low, high = (float(value) for value in log10_mass_range)
    if not (np.isfinite([low, high]).all() and low < high):
        raise MassmapError(
            f"log10_mass_range must be (low, high) in log10 Msun with low < high, not ({low:g}, {high:g})"
        )
    if low < 3 or high > 18:
        raise MassmapError(f"log10_mass_range is log10 of Msun, in 3 to 18, not ({low:g}, {high:g}): pass 10, not 1e10")
    if not 0 < dlog10_mass <= (high - low) / 2:
        raise MassmapError(
            f"dlog10_mass must be above 0 and at most half of the mass range ({(high - low) / 2:g}), not "
            f"{dlog10_mass:g}"
        )
    return np.linspace(low, high, int(np.ceil((high - low) / dlog10_mass - 1e-9)) + 1)


def _native_definition(
    hmf_model: str, mass_definition: str, flrw: Any, redshift: np.ndarray
) -> tuple[str, dict[str, float]]:
    """hmf's names for the mass definition, after a check that the fit itself is for that definition."""
    from hmf.halos import mass_definitions
    from hmf.mass_function import fitting_functions

    fits = {
        name: fit
        for name, fit in vars(fitting_functions).items()
        if isinstance(fit, type)
        and issubclass(fit, fitting_functions.FittingFunction)
        and fit.get_measured_mdef() is not None
        # hmf <= 3.5.2 multiplies by h where it should divide (hmf pull request 335)
        and name != "Behroozi"
    }
    if hmf_model not in fits:
        why = {
            "Behroozi": "is left out because hmf up to 3.5.2 applies it in the wrong mass unit",
            "PS": "is left out because it has no mass definition",
        }.get(hmf_model, "is unknown")
        raise MassmapError(f"hmf_model {hmf_model!r} {why}; choose from {', '.join(sorted(fits))}")
    if mass_definition not in MASS_DEFINITIONS:
        raise MassmapError(f"mass_definition {mass_definition!r} is unknown; choose from {', '.join(MASS_DEFINITIONS)}")
    mdef_model, mdef_params = MASS_DEFINITIONS[mass_definition]
    requested = getattr(mass_definitions, mdef_model)(**mdef_params)
    measured = fits[hmf_model].get_measured_mdef()
    # `measured` on the left and not `!=`: hmf's generic spherical overdensity compares equal only in this order
    is_native = measured == requested
    if not is_native:
        native = ", ".join(
            name
            for name, (model, params) in MASS_DEFINITIONS.items()
            if measured == getattr(mass_definitions, model)(**params)
        )
        raise MassmapError(
            f"{hmf_model} was fitted for mass definition {native or measured}, not {mass_definition!r}, "
            "and masses are never converted silently: choose another fit (Tinker08 and Tinker10 do 200m, "
            "200c, 500c, vir) or another definition"
        )
    if hmf_model in ("Tinker08", "Tinker10"):
        check_calibrated(
            hmf_model, mass_definition, [requested.halo_overdensity_mean(z, flrw) for z in redshift], redshift
        )
    return mdef_model, mdef_params


def check_calibrated(fit: str, mass_definition: str, overdensity: Any, redshift: Any) -> None:
    """Refuse a mass definition outside the overdensities that Tinker et al. list parameters for.

    Parameters
    ----------
    fit : str
        Name of the fit, for the message.
    mass_definition : str
        The mass definition, for the message.
    overdensity : array_like, (j,)
        Overdensity of the definition relative to the mean density at each redshift.
    redshift : array_like, (j,)
        Redshifts.

    Raises
    ------
    MassmapError
        If an overdensity is outside `TINKER_OVERDENSITY`.

    Notes
    -----
    "vir" tends to 178 times the mean at high redshift, which is close enough to 200. Beyond the table the splines in
    overdensity would extrapolate without limit.
    """
    overdensity, redshift = np.asarray(overdensity, dtype=float), np.asarray(redshift, dtype=float)
    low, high = TINKER_OVERDENSITY
    bad = np.flatnonzero(~((overdensity >= 0.85 * low) & (overdensity <= high)))
    if len(bad):
        raise MassmapError(
            f"{fit} is tabulated for {low:g} to {high:g} times the mean density, and {mass_definition!r} is "
            f"{overdensity[bad[0]]:.0f} times at z = {redshift[bad[0]]:g} ({len(bad)} of {len(redshift)} redshifts): "
            "choose another definition"
        )


def _camb_version() -> str:
    import camb

    return camb.__version__
