"""ln P(fluxes, measured redshifts | relation) of objects with linear noise whose redshifts are distributions.

    ln Z_k = ln sum_q w_q n(z_q) p(d_k | z_q) Z(L_k(z_q), z_q; q_k),   L_k(z) the luminosity of its flux at z

Z is the integral over ln M of `relation.linear`: the signal to noise of a flux is the same at all redshifts. What a
flux limit, or one in signal to noise, lets into the catalogue is averaged over each object's own n(z) p(d | z).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.redshifts import refuse_luminosity_limit
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.linear import LinearData, LinearLikelihood, Part, groups_of
from massmap_jax.relation.uncertain import UncertainData, refuse_flux_seen

# Each object is integrated at each of its redshifts: more take hours.
_MOST = 20_000


class OverRedshifts(eqx.Module):
    """Integrals of objects at their redshift nodes, summed over these, and ln of them over the objects.

    Attributes
    ----------
    part : Part
        The integrals, those of one object behind each other.
    ln_weight : Float[Array, "halo q"]
        ln of the weights of the nodes.
    sign : int
        -1 for the probabilities to be in the catalogue.
    """

    part: Part
    ln_weight: Float[Array | np.ndarray, "halo q"]
    sign: int = eqx.field(static=True, default=1)

    def __call__(self, relation, prior: MassPrior, norm) -> Float[Array, ""]:
        """Sum over the objects under one relation; `norm` is `prior.norm_coefficients()`."""
        ln_weight = jnp.asarray(self.ln_weight)
        values = self.part.values(relation, prior, norm)[: ln_weight.size].reshape(ln_weight.shape)
        return self.sign * jax.nn.logsumexp(values + ln_weight, axis=1).sum()


class UncertainLinearData(LinearData):
    """The objects of a catalogue with linear noise, or upper limits, whose redshifts are distributions.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        Prior density of the masses, with the number of halos at each redshift.
    selection : Selection, optional
        Which objects can be in the catalogue: `RedshiftLimit` or `SignalToNoiseLimit`, or `FluxLimit` for luminosities
        that do not move.

    Raises
    ------
    MassmapError
        As `LinearData`; where p(z) has seen the flux, or for a limit of a luminosity that moves, selection="joint", or
        more objects than can be integrated one by one.
    """

    def __init__(self, catalogue: HaloCatalogue, prior: MassPrior, selection=None):
        known = catalogue.redshift_distributions
        assert known is not None
        refuse_flux_seen(known)
        refuse_luminosity_limit(catalogue, selection)
        if known.selection == "joint" and not isinstance(selection, NoSelection | None):
            raise MassmapError(
                "a fit to linear noise takes the selection over each object's own p(z), and selection='joint' asks for"
                " one over all redshifts: give selection='conditional' with the redshift distributions"
            )
        super().__init__(catalogue, prior, selection, exact=False)
        if self.num_halos > _MOST:
            raise MassmapError(
                f"a fit to linear noise with redshifts that are not exact integrates each object at each of its"
                f" redshifts, {_MOST:,} objects at most, and there are {self.num_halos:,}: fit a random part of them,"
                " or those with spectroscopic redshifts"
            )

    def likelihood(self, scatter: float, slope: float | None = None, greatest: float | None = None) -> LinearLikelihood:
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].
        slope, greatest : float, optional
            Not used: there is no lattice.

        Returns
        -------
        LinearLikelihood
            The likelihood.
        """
        halos = Objects.of(self.catalogue, self.rows, self.prior, need_keys=False)
        number = halos.z.shape[1]
        # Of those that are integrated; the density per flux is in `density_of_noise`.
        sigma = np.broadcast_to(self.sigma[:, None], halos.z.shape)
        parts = []

        def add(kind, own, ln_lum, sigma, sign=1):
            ln_reference, place = (np.asarray(a) for a in linear_noise.reference(ln_lum, sigma))
            for chosen, name, outer in groups_of(kind, place[:, 0], number):
                columns = (a[chosen].ravel() for a in (ln_reference, halos.z[own], place, np.ones_like(place)))
                part = Part.of(name, *columns, scatter, outer)
                parts.append(OverRedshifts(part, halos.ln_z_weight[own][chosen], sign))

        for kind, own in (("normal", self.noisy), ("upper_limit", self.limits)):
            if own.any():
                add(kind, own, halos.ln_lum_obs[own], sigma[own])
        if self.linear.any() and not isinstance(self.selection, NoSelection):
            moved = halos.ln_factor  # of the luminosity alone: a limit has no other factor
            assert moved is not None
            ln_error = (self.ln_error[:, None] + moved)[self.linear]
            ln_limit = np.asarray(self.selection.limit_of(halos.z[self.linear], ln_error))
            add("above", self.linear, ln_limit, np.exp(ln_error - ln_limit), sign=-1)
        lognormal = [
            UncertainData(objects, self.prior, selection).likelihood(scatter)
            for objects, selection in self.lognormal_objects()
        ]
        norm = np.asarray(self.prior.norm_coefficients())
        return LinearLikelihood(
            tuple(parts), tuple(lognormal), np.asarray(self.density_of_noise), norm, self.prior, extra=self.extra
        )
