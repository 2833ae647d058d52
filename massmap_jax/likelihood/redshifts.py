"""Redshift nodes of objects whose redshift is a distribution: place, weight and luminosity of each.

The flux F is what was measured, so that the luminosity moves with z: ln L(z) = ln F + 2 ln D_L(z) + k ln(1 + z). Per
ln F the evidence of an object is a sum over nodes z_q,

    p(M, F, d) = sum_q w_q n(z_q) p(d | z_q) p(M | z_q) p(ln L(z_q) | M, z_q)

with n(z) the density of all halos above the lowest mass of the prior: a catalogue's own N(z) has seen the flux already.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.photo_z import RedshiftDistributions, ln_density_at
from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import MassPrior

# Below this redshift distances are not those of the Hubble flow, and ln D_L diverges.
_LEAST_Z = 1e-3


class RedshiftNodes(NamedTuple):
    """Redshift nodes of some objects.

    Attributes
    ----------
    z : Float[np.ndarray, "halo q"]
        Redshifts.
    ln_weight : Float[np.ndarray, "halo q"]
        ln of the weights, which sum to 1; minus infinity where the prior has no halos.
    ln_moved : Float[np.ndarray, "halo q"]
        ln of the luminosity there over that of the catalogue.
    """

    z: Float[np.ndarray, "halo q"]
    ln_weight: Float[np.ndarray, "halo q"]
    ln_moved: Float[np.ndarray, "halo q"]


def place(catalogue: HaloCatalogue, rows, prior: MassPrior) -> RedshiftNodes:
    """Place the redshift nodes of some objects.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue; objects without redshift distributions have one node.
    rows : Int[np.ndarray, "row"]
        Row numbers.
    prior : MassPrior
        The mass prior, which says how many halos there are at each redshift.

    Returns
    -------
    RedshiftNodes
        The nodes: those of Gauss and Legendre in ln(1 + z), over 5 standard deviations to both sides or the part of a
        grid that is not 0, cut to the redshifts of the prior.

    Raises
    ------
    MassmapError
        Where the mass prior cannot say how many halos there are, or its cosmology is not known.
    """
    known = catalogue.redshift[rows][:, None]
    if catalogue.redshift_distributions is None:
        return RedshiftNodes(known, np.zeros_like(known), np.zeros_like(known))
    given = catalogue.redshift_distributions.take(rows)
    least, most = max(prior.z_min, _LEAST_Z), min(prior.z_max, 1e3)
    low, high = (np.clip(end, least, most) for end in given.bounds())
    start, length = np.log1p(low)[:, None], (np.log1p(high) - np.log1p(low))[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(given.num_nodes)
    u = start + 0.5 * length * (nodes + 1)
    z = np.clip(np.expm1(u), least, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        # dz = (1 + z) du.
        ln_weight = np.log(0.5 * length * weights) + u + given.ln_likelihood(z)
        if given.contains != "posterior_with_flux":
            ln_weight = ln_weight + _ln_parent(given, prior, z)
        top = ln_weight.max(axis=1, keepdims=True)
        total = np.exp(ln_weight - np.where(np.isfinite(top), top, 0.0)).sum(axis=1, keepdims=True)
        ln_weight = np.where(total > 0, ln_weight - top - np.log(total), -np.inf)
    at_known = flux_of_luminosity(given, prior, np.maximum(known, _LEAST_Z))
    return RedshiftNodes(z, ln_weight, flux_of_luminosity(given, prior, z) - at_known)


def _cosmology(given: RedshiftDistributions, prior: MassPrior) -> str:
    """The cosmology of volumes and distances."""
    found = given.cosmology or prior.cosmology
    if found in ("", "unknown"):
        raise MassmapError(
            "uncertain redshifts need a cosmology, for volumes and distances, and the mass prior does not say its own:"
            " give cosmology='Planck18', say, with the redshift distributions"
        )
    return found


def _ln_parent(given: RedshiftDistributions, prior: MassPrior, z):
    """ln of the number of halos per unit redshift."""
    if given.parent is not None:
        return ln_density_at(given.parent, z)
    if prior.ln_number is None:
        raise MassmapError(
            "the mass prior does not say how many halos there are at each redshift, which uncertain redshifts need:"
            " make it with from_hmf, from_cosmology or from_table(..., number_density=True), or give parent=(z, dN/dz)"
        )
    from massmap_jax.halo.cosmology import comoving_volume

    nodes = np.linspace(0.0, np.log1p(float(z.max())), 400)
    with np.errstate(divide="ignore"):
        volume = np.log(comoving_volume(_cosmology(given, prior), np.expm1(nodes[1:])))
    # Less its own shape at small z, dV/dz ~ z^2, so that a straight line serves between the nodes.
    smooth = np.interp(np.log1p(z), nodes[1:], volume - 2 * np.log(np.expm1(nodes[1:])))
    number = np.asarray(prior.ln_number, dtype=np.float64)
    redshift = np.asarray(prior.redshift_nodes, dtype=np.float64)
    return smooth + 2 * np.log(z) + (np.interp(z, redshift, number) if redshift.size > 1 else number[0])


def flux_of_luminosity(given: RedshiftDistributions, prior: MassPrior, z) -> np.ndarray:
    """Give ln of the luminosity of an object of given flux at each redshift, up to a constant.

    Parameters
    ----------
    given : RedshiftDistributions
        It says whether and how luminosities move with redshift.
    prior : MassPrior
        The mass prior, for its cosmology.
    z : Float[np.ndarray, "..."]
        Redshifts.

    Returns
    -------
    Float[np.ndarray, "..."]
        2 ln D_L + k ln(1 + z); 0 for luminosities that do not move.
    """
    if not given.lum_moves:
        return np.zeros_like(z)
    from massmap_jax.halo.cosmology import luminosity_distance

    u = np.log1p(z)
    nodes = np.linspace(np.log1p(_LEAST_Z), max(float(u.max()), 0.01), 2000)
    ln_distance = np.log(luminosity_distance(_cosmology(given, prior), np.expm1(nodes)))
    # Less its own shape at small z, as above.
    smooth = np.interp(u, nodes, ln_distance - np.log(np.expm1(nodes)))
    return 2 * (smooth + np.log(z)) + given.k_slope * u


def refuse_uncertain(catalogue: HaloCatalogue, what: str) -> None:
    """Refuse a catalogue whose redshifts are not exact, where they would be taken as such.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.
    what : str
        Who refuses, for the message.

    Raises
    ------
    MassmapError
        For a catalogue with redshift distributions.
    """
    if catalogue.redshift_distributions is not None:
        raise MassmapError(
            f"{what} takes redshifts as exact, and those of this catalogue are distributions: choose the objects with"
            " spectroscopic redshifts, or leave the redshift errors out and say so in what you publish"
        )
