"""Which objects can be in the catalogue at all: the detection probability p_det(L_obs, z).

Detection on L_obs cancels from the posterior P(M | L_obs, relation) of one object. It does not cancel from the
evidence Z_k that weights relation draws, nor from a fit of the relation: there Z_k is divided by A, the probability
that such an object is in the catalogue.

    A(z, sigma; relation) = integral of p(ln M | z) P(detected | M, z, sigma, relation) d ln M
"""

from functools import partial
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import ndtr
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.choices import check_flux_min, check_lum_limit, check_snr_limit
from massmap_jax.errors import MassmapError
from massmap_jax.prior.normal_cdf import tail_and_density
from massmap_jax.prior.population import population_of

# Largest number of panels over the prior's masses in the integral of A.
_PANELS = 64
# Luminosities of a table that are summed at once: in one sum, and in several that share what they are made of.
_LUM_BLOCK, _FEW_LUM = 64, 8


class Selection(Protocol):
    """The two methods that a selection must have; p_det depends on the observed luminosity and the redshift alone.

    Any class with these methods will do. To be passed through JAX's transformations it must be a pytree: make it an
    `equinox.Module`, like `FluxLimit`. The two methods must agree: `prior_check` refuses a `log_norm` that is too
    small for its `log_prob`.
    """

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Return the ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts, in the shape of `ln_lum_obs`.

        Returns
        -------
        Float[Array, "..."]
            ln p_det, -inf where an object cannot be in the catalogue.
        """

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Return ln A, the ln of the probability that any object at a redshift is in the catalogue.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Returns
        -------
        Float[Array, ""]
            ln A, the ln of the integral of p_det(L_obs, z) p(L_obs | z, sigma, relation, prior) dL_obs.
        """


class NoSelection(eqx.Module):
    """No selection: every object is in the catalogue.

    See Also
    --------
    FluxLimit : A limit in the observed luminosity.
    TabulatedSelection : Any detection probability, on a grid.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import massmap_jax as mm
    >>> selection = mm.NoSelection()
    >>> selection.log_prob(jnp.array([9.0, 10.0]), jnp.array([0.1, 0.2])).tolist()
    [0.0, 0.0]
    >>> selection.describe()
    'none'
    """

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Return the ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts, in the shape of `ln_lum_obs`.

        Returns
        -------
        Float[Array, "..."]
            Zeros.
        """
        return jnp.zeros_like(ln_lum_obs)

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Return ln A, the ln of the probability that any object at a redshift is in the catalogue.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Returns
        -------
        Float[Array, ""]
            ln A, 0.
        """
        return jnp.zeros_like(z)

    def describe(self) -> str:
        """Describe the selection in a few words, for headers and reports.

        Returns
        -------
        str
            The description.
        """
        return "none"


class FluxLimit(eqx.Module):
    """A sharp limit: objects with L_obs at or above it are in the catalogue, and no others.

    Parameters
    ----------
    lum_min : float
        The lowest observed luminosity, in the catalogue's unit.

    Attributes
    ----------
    ln_lum_min : Float[Array, ""]
        ln of that luminosity [ln of the catalogue's unit].

    Raises
    ------
    MassmapError
        If the limit is not one positive, finite number.

    See Also
    --------
    RedshiftLimit : A sharp limit that depends on redshift, such as a limit in flux.
    TabulatedSelection : A detection probability that rises gradually.

    Notes
    -----
    The limit is on the luminosity L_obs, in spite of the name: it is the same at every redshift.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> selection = mm.FluxLimit(2e4)
    >>> selection.describe()
    'luminosity limit 20000'
    >>> selection.log_prob(np.log([1e4, 3e4]), np.array([0.2, 0.2])).tolist()
    [-inf, 0.0]
    """

    ln_lum_min: Float[Array | np.ndarray, ""]

    def __init__(self, lum_min: float) -> None:
        lum_min = in_unit(lum_min, "", "the luminosity limit", "a number in the unit of the catalogue's luminosities")
        check_lum_limit(lum_min)
        self.ln_lum_min = np.log(np.float64(lum_min))

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Return the ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts, in the shape of `ln_lum_obs`.

        Returns
        -------
        Float[Array, "..."]
            ln p_det, -inf where an object cannot be in the catalogue.
        """
        # The ln of a luminosity at the limit may round to just below the ln of the limit.
        return jnp.where(ln_lum_obs >= self.ln_lum_min - 1e-6, 0.0, -jnp.inf)

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Return ln A, the ln of the probability that any object at a redshift is in the catalogue.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Returns
        -------
        Float[Array, ""]
            ln A, finite also where the probability underflows.
        """
        ln_mass, ln_prior = mass_nodes(prior, z, relation)
        mean, spread = _predicted(relation, ln_mass, z, sigma)
        return _ln_mean(ln_prior, ndtr((mean - self.ln_lum_min) / spread))

    def limit_of(self, z, ln_error) -> Float[Array, "..."]:
        """Give the lowest luminosity at which an object is in the catalogue.

        Parameters
        ----------
        z : Float[Array, "..."]
            Redshifts.
        ln_error : Float[Array, "..."]
            ln of the error of the luminosities [ln of the catalogue's unit].

        Returns
        -------
        Float[Array, "..."]
            ln of the limit [ln of the catalogue's unit].
        """
        return jnp.broadcast_to(jnp.asarray(self.ln_lum_min), jnp.shape(z))

    def describe(self) -> str:
        """Describe the selection in a few words, for headers and reports.

        Returns
        -------
        str
            The description.
        """
        return f"luminosity limit {float(np.exp(self.ln_lum_min)):g}"


# Redshifts where boxes in z end, so that a limit which grows as z^2 is smooth within each: its ln is interpolated from
# four nodes in a box, and ln A changes several times as fast where few objects are bright enough.
_SMOOTH_Z = np.union1d(1e-3 * 2.0 ** (0.5 * np.arange(12)), np.expm1(np.arange(0.06, 3.05, 0.03)))
_MOST_KINKS = 200


class RedshiftLimit(eqx.Module):
    """A sharp limit that depends on redshift: objects with L_obs at or above L_min(z) are in the catalogue.

    Make one with `from_flux` or `tabulated`.

    Attributes
    ----------
    ln1z_nodes : Float[Array, "j"]
        ln(1 + z) of the nodes, increasing.
    ln_lum_over_z2 : Float[Array, "j"]
        ln(L_min / z^2) at the nodes [ln of the catalogue's unit]: linear between them, constant outside.
    told : str
        The limit in a few words.

    See Also
    --------
    FluxLimit : A limit in luminosity that is the same at every redshift.

    Examples
    --------
    A flux of 3e-12 erg/s/cm2, with luminosities in 1e44 erg/s:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> cosmology = "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95"
    >>> selection = mm.RedshiftLimit.from_flux(3e-12, cosmology, lum_unit="1e44 erg/s")
    >>> [f"{lum:.3f}" for lum in np.exp(selection.ln_lum_min(np.array([0.1, 0.3])))]
    ['0.761', '8.654']
    >>> selection.log_prob(np.log([5.0, 5.0]), np.array([0.1, 0.3])).tolist()
    [0.0, -inf]
    """

    ln1z_nodes: Float[Array | np.ndarray, "j"]
    ln_lum_over_z2: Float[Array | np.ndarray, "j"]
    told: str = eqx.field(static=True, default="luminosity limit by redshift")

    @classmethod
    def tabulated(cls, redshift, lum_min) -> "RedshiftLimit":
        """Make the limit from its values at some redshifts.

        Parameters
        ----------
        redshift : array_like, (j,)
            Redshifts above 0, increasing.
        lum_min : array_like, (j,)
            Lowest observed luminosity at each, in the catalogue's unit. In between ln(L_min / z^2) is linear in
            ln(1 + z), and beyond the ends it is constant.

        Returns
        -------
        RedshiftLimit

        Raises
        ------
        MassmapError
            For redshifts that do not rise from above 0, or a limit that is not positive and finite.
        """
        told = "numbers in the unit of the catalogue's luminosities"
        z = np.atleast_1d(plain_numbers(redshift, "redshifts of the limit"))
        lum = np.atleast_1d(plain_numbers(lum_min, "the luminosity limit", told=told))
        if z.ndim != 1 or z.shape != lum.shape or not (np.isfinite(z).all() and z[0] > 0 and (np.diff(z) > 0).all()):
            raise MassmapError(
                f"a limit by redshift needs redshifts that rise from above 0, one luminosity each: their shapes are"
                f" {z.shape} and {lum.shape}"
            )
        bad = ~(np.isfinite(lum) & (lum > 0))
        if bad.any():
            first = int(np.argmax(bad))
            raise MassmapError(
                f"the luminosity limit is not positive at {bad.sum()} redshifts, first at z ="
                f" {z[first]:g}: {lum[first]:g}"
            )
        return cls(np.log1p(z), np.log(lum) - 2 * np.log(z))

    @classmethod
    def from_flux(
        cls, flux_min: float, cosmology="Planck18", *, lum_unit: str, k_slope: float = 0.0
    ) -> "RedshiftLimit":
        """Make the limit from the lowest flux of the catalogue.

        Parameters
        ----------
        flux_min : float
            Lowest flux [erg/s/cm2], in the observed band that the luminosity is named by.
        cosmology : str or astropy.cosmology.FLRW
            Where luminosity distances come from.
        lum_unit : str
            Unit of the catalogue's luminosities.
        k_slope : float
            Slope s of the K-correction.

        Returns
        -------
        RedshiftLimit

        Raises
        ------
        MassmapError
            For a flux that is not positive, or luminosities in no unit of power.

        Notes
        -----
        L_min(z) = 4 pi D_L(z)^2 flux_min (1 + z)^s.
        """
        from massmap_jax.catalogue.units import unit_factor
        from massmap_jax.halo.cosmology import luminosity_distance

        flux_min = in_unit(flux_min, "erg/s/cm2", "the flux limit")
        check_flux_min(flux_min)
        factor = unit_factor("erg/s", lum_unit) if lum_unit else None
        if factor is None:
            raise MassmapError(
                "a limit in flux needs luminosities in a unit of power, and they are in"
                f" {lum_unit or 'no unit'!r}: state it"
                " with lum_unit= or lum_in=, such as '1e44 erg/s'"
            )
        if not np.isfinite(k_slope):
            raise MassmapError(f"k_correction is {k_slope}: give the slope of a K-correction (1 + z)^slope")
        # Steps of 0.0015 in ln(1 + z): L_min is right to 1e-6.
        ln1z = np.append(1e-5, np.linspace(1e-3, np.log(21.0), 2001))
        z = np.expm1(ln1z)
        ln_distance = np.log(luminosity_distance(cosmology, z)) + np.log(3.0856775814913673e24)  # cm in a Mpc
        ln_lum = np.log(4 * np.pi) + 2 * ln_distance + np.log(flux_min) + k_slope * ln1z + np.log(factor)
        correction = f", K-correction (1 + z)^{k_slope:g}" if k_slope else ""
        return cls(
            ln1z, ln_lum - 2 * np.log(z), f"flux limit {flux_min:g} erg/s/cm2, distances of {cosmology}{correction}"
        )

    @property
    def redshift_nodes(self) -> Float[np.ndarray, "node"]:
        """Redshifts between which the limit is smooth.

        Returns
        -------
        Float[np.ndarray, "node"]
            Increasing; the kinks of a table of few redshifts are among them, those of many are too small to matter.
        """
        ln1z = np.asarray(self.ln1z_nodes, dtype=np.float64)
        return np.union1d(_SMOOTH_Z, np.expm1(ln1z)) if ln1z.size <= _MOST_KINKS else _SMOOTH_Z

    def ln_lum_min(self, z) -> Float[Array, "..."]:
        """Evaluate the limit.

        Parameters
        ----------
        z : Float[Array, "..."]
            Redshifts.

        Returns
        -------
        Float[Array, "..."]
            ln of the lowest observed luminosity [ln of the catalogue's unit].
        """
        z = jnp.maximum(jnp.asarray(z, dtype=float), 1e-6)
        return jnp.interp(jnp.log1p(z), self.ln1z_nodes, self.ln_lum_over_z2) + 2 * jnp.log(z)

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Return the ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts, which broadcast with `ln_lum_obs`.

        Returns
        -------
        Float[Array, "..."]
            ln p_det, -inf where an object cannot be in the catalogue.
        """
        limit = self.ln_lum_min(z)
        # As for FluxLimit; here the limit itself carries the rounding of single precision, too.
        slack = 1e-6 + 4 * jnp.finfo(limit.dtype).eps * jnp.abs(limit)
        return jnp.where(ln_lum_obs >= limit - slack, 0.0, -jnp.inf)

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Return ln A, the ln of the probability that any object at a redshift is in the catalogue.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Returns
        -------
        Float[Array, ""]
            ln A, finite also where the probability underflows.
        """
        ln_mass, ln_prior = mass_nodes(prior, z, relation)
        mean, spread = _predicted(relation, ln_mass, z, sigma)
        return _ln_mean(ln_prior, ndtr((mean - self.ln_lum_min(z)) / spread))

    def limit_of(self, z, ln_error) -> Float[Array, "..."]:
        """Give the lowest luminosity at which an object is in the catalogue.

        Parameters
        ----------
        z : Float[Array, "..."]
            Redshifts.
        ln_error : Float[Array, "..."]
            ln of the error of the luminosities [ln of the catalogue's unit].

        Returns
        -------
        Float[Array, "..."]
            ln of the limit [ln of the catalogue's unit].
        """
        return self.ln_lum_min(z)

    def describe(self) -> str:
        """Describe the selection in a few words, for headers and reports.

        Returns
        -------
        str
            The description.
        """
        return self.told


class SignalToNoiseLimit(eqx.Module):
    """Objects whose luminosity was measured at this signal to noise or more, as in surveys that detect by it.

    It is for linear noise: each object has a limit of its own, snr_min times its error. With lognormal noise there is
    no such error, and methods that need one raise an error.

    Parameters
    ----------
    snr_min : float
        Lowest signal to noise L_obs / e.

    Attributes
    ----------
    snr_min : Float[Array, ""]
        As above.

    Raises
    ------
    MassmapError
        If it is not one positive, finite number.

    See Also
    --------
    FluxLimit : A limit in luminosity that is the same for all objects.

    Notes
    -----
    The error e of each object is taken to be known, whatever its luminosity, as that of a survey's noise map is. The
    probability to be in the catalogue is then that of L + noise >= snr_min e.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> selection = mm.SignalToNoiseLimit(5.0)
    >>> selection.describe()
    'signal to noise of at least 5'
    """

    snr_min: Float[Array | np.ndarray, ""]

    def __init__(self, snr_min: float) -> None:
        snr_min = in_unit(snr_min, "", "the limit in signal to noise")
        check_snr_limit(snr_min)
        self.snr_min = np.asarray(snr_min, dtype=np.float64)

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Refuse: the luminosity alone does not say whether an object is in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts.

        Raises
        ------
        MassmapError
            Always.
        """
        raise MassmapError(_LINEAR_ONLY)

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Refuse: the error in ln L does not say at which luminosity the limit is.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Raises
        ------
        MassmapError
            Always.
        """
        raise MassmapError(_LINEAR_ONLY)

    def limit_of(self, z, ln_error) -> Float[Array, "..."]:
        """Give the lowest luminosity at which an object is in the catalogue.

        Parameters
        ----------
        z : Float[Array, "..."]
            Redshifts.
        ln_error : Float[Array, "..."]
            ln of the error of the luminosities [ln of the catalogue's unit].

        Returns
        -------
        Float[Array, "..."]
            ln of the limit [ln of the catalogue's unit].
        """
        return ln_error + jnp.log(self.snr_min)

    def describe(self) -> str:
        """Describe the selection in a few words, for headers and reports.

        Returns
        -------
        str
            The description.
        """
        return f"signal to noise of at least {float(self.snr_min):g}"


_LINEAR_ONLY = (
    "a limit in signal to noise is for a fit to linear noise, where an error is one of the luminosity and not of its ln"
    " (noise='linear'): give a limit in luminosity or flux"
)


class TabulatedSelection(eqx.Module):
    """A detection probability on a grid, linear in ln L_obs and in z between nodes and constant outside.

    Parameters
    ----------
    redshift_nodes : Float[Array, "j"]
        Redshift nodes, increasing.
    ln_lum_nodes : Float[Array, "lum_node"]
        ln of the luminosity nodes [ln of the catalogue's unit], increasing, at least two.
    prob : Float[Array, "j lum_node"]
        Probability that an object is in the catalogue, between 0 and 1; at each redshift some must be above 0.

    Raises
    ------
    MassmapError
        If the shapes do not match, nodes do not increase, or a probability is not valid.

    See Also
    --------
    FluxLimit : A sharp limit.

    Examples
    --------
    Detection rises from 0 to 1 between two luminosities, at higher ones at z = 1:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> ln_lum = np.log([1e4, 3e4, 9e4])
    >>> selection = mm.TabulatedSelection([0.0, 1.0], ln_lum, [[0, 1, 1], [0, 0, 1]])
    >>> p_det = np.exp(selection.log_prob(np.full(3, np.log(3e4)), np.array([0.0, 0.5, 1.0])))
    >>> [round(float(p), 2) for p in p_det]
    [1.0, 0.5, 0.0]
    >>> selection.describe()
    'table of 2 redshifts x 3 luminosities'
    """

    redshift_nodes: Float[Array | np.ndarray, "j"]
    ln_lum_nodes: Float[Array | np.ndarray, " lum_node"]
    prob: Float[Array | np.ndarray, "j lum_node"]

    def __init__(self, redshift_nodes: ArrayLike, ln_lum_nodes: ArrayLike, prob: ArrayLike) -> None:
        given = {"redshifts": redshift_nodes, "ln luminosities": ln_lum_nodes, "probabilities": prob}
        redshift, ln_lum, prob = (plain_numbers(a, f"the selection's {name}") for name, a in given.items())
        if prob.shape != (redshift.size, ln_lum.size) or ln_lum.size < 2:
            raise MassmapError(
                f"the selection has shape {prob.shape}: redshift and ln luminosity nodes need "
                f"({redshift.size}, {ln_lum.size}), and at least two luminosities"
            )
        for name, nodes in (("redshift", redshift), ("ln luminosity", ln_lum)):
            if not (np.isfinite(nodes).all() and (np.diff(nodes) > 0).all()):
                raise MassmapError(f"the selection's {name} nodes must be finite and increasing")
        bad = ~((prob >= 0) & (prob <= 1))
        if bad.any() or not prob.any(axis=1).all():
            j, i = np.argwhere(bad)[0] if bad.any() else (int(np.argmin(prob.any(axis=1))), 0)
            raise MassmapError(
                f"the selection's probabilities must lie between 0 and 1, some of them above 0 at each redshift: "
                f"{bad.sum()} are not, first at z = {redshift[j]:g}, ln L = {ln_lum[i]:g}: {prob[j, i]:g}"
            )
        self.redshift_nodes, self.ln_lum_nodes, self.prob = redshift, ln_lum, prob

    def log_prob(self, ln_lum_obs, z) -> Float[Array, "..."]:
        """Return the ln of the probability that objects are in the catalogue.

        Parameters
        ----------
        ln_lum_obs : Float[Array, "..."]
            ln of the observed luminosities [ln of the catalogue's unit].
        z : Float[Array, "..."]
            Redshifts, which broadcast with `ln_lum_obs`.

        Returns
        -------
        Float[Array, "..."]
            ln p_det, -inf where an object cannot be in the catalogue.
        """

        def one(ln_lum, z):
            """ln p_det of one object."""
            prob = jnp.interp(ln_lum, self.ln_lum_nodes, self._row(z))
            return jnp.where(prob > 0, jnp.log(jnp.where(prob > 0, prob, 1.0)), -jnp.inf)

        ln_lum_obs, z = jnp.broadcast_arrays(ln_lum_obs, z)
        return jax.vmap(one)(ln_lum_obs.ravel(), z.ravel()).reshape(z.shape)

    def log_norm(self, relation, prior, z, sigma) -> Float[Array, ""]:
        """Return ln A, the ln of the probability that any object at a redshift is in the catalogue.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            Redshift.
        sigma : Float[Array, ""]
            Error of the luminosity [ln L].

        Returns
        -------
        Float[Array, ""]
            ln A, finite also where the probability underflows.
        """
        return self.log_norms(relation, prior, jnp.asarray(z)[None], jnp.asarray(sigma)[None])[0]

    def log_norms(self, relation, prior, z, sigma) -> Float[Array, " m"]:
        """Return `log_norm` at several redshifts and errors.

        Parameters
        ----------
        relation : Relation
            One draw of the relation.
        prior : MassPrior
            The mass prior.
        z : Float[Array, "m"]
            Redshifts.
        sigma : Float[Array, "m"]
            Errors of the luminosity [ln L].

        Returns
        -------
        Float[Array, "m"]
            ln A. The second derivatives are quicker than those of `log_norm` in a loop over objects.
        """

        def of_masses(z, sigma):
            ln_mass, ln_prior = mass_nodes(prior, z, relation)
            return ln_prior, *_predicted(relation, ln_mass, z, sigma)

        ln_prior, mean, spread = jax.vmap(of_masses)(z, sigma)
        row = jax.vmap(self._row)(z)
        rise = _mean_rise(jnp.asarray(self.ln_lum_nodes), row, mean, spread)
        return jax.vmap(_ln_mean)(ln_prior, jnp.clip(row[:, :1] + rise, 0.0, 1.0))

    def chance_above(self, ln_lum, z, mean, spread) -> Float[Array, "mass"]:
        """Return the probability that an object is in the catalogue with a luminosity above a given one.

        Parameters
        ----------
        ln_lum : Float[Array, ""]
            ln of the luminosity [ln of the catalogue's unit].
        z : Float[Array, ""]
            Redshift.
        mean, spread : Float[Array, "mass"]
            Mean and standard deviation of ln L_obs at each mass.

        Returns
        -------
        Float[Array, "mass"]
            The probability at each mass.
        """
        row, nodes = self._row(z), jnp.asarray(self.ln_lum_nodes)
        lowest = jnp.interp(ln_lum, nodes, row)
        row = jnp.where(nodes > ln_lum, row, lowest)
        rise = _mean_rise(jnp.maximum(nodes, ln_lum), row[None], mean[None], spread[None])[0]
        return jnp.clip(lowest * ndtr((mean - ln_lum) / spread) + rise, 0.0, 1.0)

    def _row(self, z):
        """Probabilities at the luminosity nodes, at one redshift."""
        nodes, prob = jnp.asarray(self.redshift_nodes), jnp.asarray(self.prob)
        if nodes.shape[0] == 1:
            return prob[0]
        upper = jnp.clip(jnp.searchsorted(nodes, z), 1, nodes.shape[0] - 1)
        t = jnp.clip((z - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
        return (1 - t) * prob[upper - 1] + t * prob[upper]

    def describe(self) -> str:
        """Describe the selection in a few words, for headers and reports.

        Returns
        -------
        str
            The description.
        """
        return f"table of {self.prob.shape[0]} redshifts x {self.prob.shape[1]} luminosities"


def is_sharp(selection) -> bool:
    """Tell whether a selection takes all of some objects and none of the others.

    Parameters
    ----------
    selection : Selection or None
        Which objects enter the catalogue.

    Returns
    -------
    bool
        True for a limit, and where there is no selection.
    """
    return selection is None or isinstance(selection, NoSelection) or hasattr(selection, "limit_of")


def mass_nodes(prior, z, relation):
    """Nodes in ln M, and ln of the prior density at z times the quadrature weight.

    A draw of the relation that was fitted jointly with a population brings its own prior density.
    """
    nodes = jnp.asarray(prior.ln_mass_nodes, dtype=float)
    # Panel edges are nodes of the table, where ln p has kinks; a coarse table gets more nodes per panel.
    cells = nodes.shape[0] - 1
    edges = jnp.concatenate([nodes[: -1 : -(-cells // _PANELS)], nodes[-1:]])
    x, w = np.polynomial.legendre.leggauss(4 if cells >= _PANELS else 12)
    half = 0.5 * jnp.diff(edges)[:, None]
    ln_mass = (edges[:-1, None] + half * (1 + jnp.asarray(x, dtype=float))).ravel()
    ln_weight = (jnp.log(half) + jnp.asarray(np.log(w), dtype=float)).ravel()
    ln_prior = prior.interpolate(prior.ln_density_at(z), ln_mass)
    population = population_of(relation)
    return ln_mass, (ln_prior if population is None else population.ln_density(ln_prior, ln_mass, z)) + ln_weight


def described(selection) -> str:
    """Describe a selection in a few words.

    Parameters
    ----------
    selection : Selection, SelectedOn, SelectedOnMass or None
        Which objects enter the catalogue.

    Returns
    -------
    str
        What it says of itself; the name of its class where it has only the two methods of a `Selection`, and "none" for
        None.
    """
    if selection is None:
        return "none"
    return selection.describe() if hasattr(selection, "describe") else type(selection).__name__


def _ln_mean(ln_weight, prob):
    """ln of the weighted mean of a probability, finite also where it underflows."""
    return jnp.log(jnp.maximum((jnp.exp(ln_weight) * prob).sum(), jnp.finfo(prob.dtype).tiny))


def _mean_rise(nodes, row, mean, spread):
    """Mean of how far a table rises above its first value, of normal ln L with each mean and standard deviation.

    Rows are (object, lum_node), means and standard deviations (object, mass).
    """
    # The table is p_0 + sum of slope changes times (L - node)_+.
    step = jnp.diff(nodes)
    slope = jnp.where(step > 0, jnp.diff(row) / jnp.where(step > 0, step, 1.0), 0.0)
    change = jnp.diff(jnp.pad(slope, ((0, 0), (1, 1))))
    return _rise(nodes, change, mean, spread)


@jax.custom_jvp
def _rise(nodes, change, mean, spread):
    """Sum over the nodes of change x E (L - node)_+, (object, mass)."""
    if mean.shape[0] > 1:
        return _rise_of_moments(nodes, change, mean, spread)

    # The value alone of one object, under `jax.vmap` of many: one sum, of which nothing is kept for each node.
    def of_nodes(nodes, change):
        t = (mean[0, :, None] - nodes) / spread[0, :, None]
        above = spread[0, :, None] * (jnp.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) + t * ndtr(t))
        return (above * change).sum(axis=1)

    return _in_blocks(_LUM_BLOCK, nodes, change[0], of_nodes)[None]


@partial(_rise.defjvp, symbolic_zeros=True)
def _rise_jvp(primals, tangents):
    """By the moments, which have derivatives of their own."""
    moving = [i for i, d in enumerate(tangents) if not isinstance(d, SymbolicZero)]

    def of_moving(*moved):
        return _rise_of_moments(*(moved[moving.index(i)] if i in moving else a for i, a in enumerate(primals)))

    return jax.jvp(of_moving, tuple(primals[i] for i in moving), tuple(tangents[i] for i in moving))


def _rise_of_moments(nodes, change, mean, spread):
    """`_rise`, by E (L - node)_+ = spread [phi(t) + t Phi(t)]."""
    density, prob = _moments(1, nodes, change, mean, spread)
    return spread * (density[:, 0] + prob[:, 1])


def _in_blocks(size: int, nodes, change, of_nodes):
    """Sum what `of_nodes` gives of blocks of nodes: a fit at many redshifts at once keeps one block in memory."""
    if nodes.shape[0] <= size:
        return of_nodes(nodes, change)
    short = -nodes.shape[0] % size
    parts = [a.reshape(-1, size) for a in (jnp.pad(nodes, (0, short), mode="edge"), jnp.pad(change, (0, short)))]
    # Checkpointed, for what differentiates the sums themselves.
    add = jax.checkpoint(lambda total, part: (jax.tree.map(jnp.add, total, of_nodes(*part)), None))
    begin = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(of_nodes, *(a[0] for a in parts)))
    return jax.lax.scan(add, begin, parts)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moments(number: int, nodes, change, mean, spread):
    """Sums over the nodes of change x t^k phi(t) for k below `number`, and of change x t^k Phi(t) for k = 0 and 1.

    t = (mean - node) / spread; sums are (object, k, mass). All derivatives are again such sums. Stated so, those with
    respect to the many parameters of a fit are sums over masses alone, and not over masses and nodes.
    """

    def of_nodes(nodes, change, mean, spread, summed):
        t = (mean - nodes[:, None]) / spread
        away = jnp.abs(t)
        tail, density = tail_and_density(away)
        powers = [density]
        for _ in range(number - 1):
            powers.append(powers[-1] * t)
        prob = [jnp.where(t > 0, 1 - tail, tail), jnp.maximum(t, 0.0) - away * tail]
        return jnp.stack([summed(change, a) for a in powers]), jnp.stack([summed(change, a) for a in prob])

    def of_object(change, mean, spread, summed, size):
        return _in_blocks(size, nodes, change, lambda *part: of_nodes(*part, mean, spread, summed))

    if mean.shape[0] == 1 or jax.default_backend() != "cpu":
        # Many objects at a time, by `jax.vmap` or on a GPU: few nodes, as what sums share is kept for each of them.
        def summed(change, a):
            return (change[:, None] * a).sum(axis=0)

        return jax.vmap(lambda c, m, s: of_object(c, m, s, summed, _FEW_LUM))(change, mean, spread)
    # One object after the other: its matrices stay in cache, and their products take a third of the time.
    product = partial(jnp.matmul, precision="highest")
    of_each = (change, mean, spread)
    return jax.lax.map(lambda one: of_object(one[0], one[1], one[2], product, _LUM_BLOCK), of_each)


@partial(_moments.defjvp, symbolic_zeros=True)
def _moments_jvp(number, primals, tangents):
    """Derivatives; those with respect to the table only where it moves, as a fit keeps it."""
    nodes, change, mean, spread = primals
    d_nodes, d_change, d_mean, d_spread = (None if isinstance(d, SymbolicZero) else d for d in tangents)
    density, prob = _moments(number + 2, nodes, change, mean, spread)
    found = density[:, :number], prob
    zero = jnp.zeros_like(mean)
    by_mean, by_spread = (zero if d is None else d / spread for d in (d_mean, d_spread))
    moved = [_along(density, prob, by_mean, -by_spread)]
    if d_nodes is not None:
        moved.append(_along(*_moments(number + 2, nodes, change * d_nodes, mean, spread), -1 / spread, zero))
    if d_change is not None:
        moved.append(_moments(number, nodes, d_change, mean, spread))
    return found, jax.tree.map(lambda *parts: sum(parts), *moved)


def _along(density, prob, by_mean, by_spread):
    """Change of the sums where t changes by by_mean + t by_spread; `density` holds two powers more than asked for."""
    # d(t^k phi) = (k t^(k-1) - t^(k+1)) phi dt, d Phi = phi dt, d(t Phi) = (Phi + t phi) dt
    number = density.shape[1] - 2
    by_mean, by_spread = by_mean[:, None], by_spread[:, None]
    k = jnp.arange(number, dtype=density.dtype)[:, None]
    lower = jnp.pad(density[:, : number - 1], ((0, 0), (1, 0), (0, 0)))
    d_density = (k * lower - density[:, 1:-1]) * by_mean + (k * density[:, :-2] - density[:, 2:]) * by_spread
    # With a 0 in place of Phi for the first of them.
    of_prob, t_prob = (jnp.pad(prob[:, i : i + 1], ((0, 0), (1, 0), (0, 0))) for i in (0, 1))
    d_prob = (of_prob + density[:, :2]) * by_mean + (t_prob + density[:, 1:3]) * by_spread
    return d_density, d_prob


def _predicted(relation, ln_mass, z, sigma):
    """Mean and standard deviation of ln L_obs at each mass."""
    mean = relation.mean_ln_lum(ln_mass, z)
    scatter = jnp.broadcast_to(relation.scatter_ln_lum(ln_mass, z), mean.shape)
    return mean, jnp.sqrt(scatter**2 + sigma**2)
