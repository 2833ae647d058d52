"""ln P(fluxes, measured redshifts | relation) of objects whose redshifts are distributions, masses marginalised.

    ln Z_k = ln sum_q w_q n(z_q) p(d_k | z_q) Z(L_k(z_q), z_q, sigma_k),   L_k(z) the luminosity of its flux at z

Z is smooth in ln F, z and sigma, whatever the relation: it is evaluated on a lattice of a few thousand points that all
objects share, and their nodes read it off by polynomials whose weights do not change with the relation.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.photo_z import RedshiftDistributions
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.redshifts import flux_of_luminosity, parent_nodes, refuse_luminosity_limit
from massmap_jax.likelihood.selection import NoSelection, Selection
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.data import HALF_LN_2PI, CatalogueData, prior_rows

# Step of the lattice in ln(1 + z), in ln F over sqrt(S^2 + sigma^2), and the number of nodes in ln sigma.
_STEP_U, _STEP_FLUX, _NUM_SIGMA = 0.01, 0.4, 6
# Points between which the places on the lattice of redshifts are linear.
_FINE = 2000
_BLOCK = 2048


class UncertainData(CatalogueData):
    """The objects of a catalogue whose redshifts are distributions, for a fit of the relation.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    prior : MassPrior
        Prior density of the masses, with the number of halos at each redshift.
    selection : Selection, optional
        Which objects can be in the catalogue; for each object the probability of that is averaged over its own p(z).

    Raises
    ------
    MassmapError
        As `CatalogueData`; where p(z) has seen the flux, which a fit would use twice; and for a limit in luminosities
        that move.
    """

    def __init__(self, catalogue: HaloCatalogue, prior: MassPrior, selection=None):
        if catalogue.redshift_distributions is not None:
            refuse_flux_seen(catalogue.redshift_distributions)
        refuse_luminosity_limit(catalogue, selection)
        super().__init__(catalogue, prior, selection, exact=False)

    def likelihood(self, scatter: float) -> "UncertainLikelihood":
        """Prepare the likelihood.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].

        Returns
        -------
        UncertainLikelihood
            The likelihood.
        """
        halos = Objects.of(self.catalogue, self.rows, self.prior, need_keys=False, selection=self.selection)
        given = self.catalogue.redshift_distributions
        factor = halos.ln_factor
        assert given is not None and factor is not None
        # ln F of an object is the same at all of its nodes.
        ln_flux = halos.ln_lum_obs[:, 0] - flux_of_luminosity(given, self.prior, halos.z[:, 0])
        step = float(_STEP_FLUX * np.sqrt(scatter**2 + halos.sigma.min() ** 2))
        redshift, place = _redshift_lattice(halos.z, lambda z: flux_of_luminosity(given, self.prior, z), step)
        moved = flux_of_luminosity(given, self.prior, redshift)
        first = ln_flux.min() - 2 * step
        ln_f = first + step * np.arange(int(np.ceil((ln_flux.max() - first) / step)) + 3)
        sigma, of_sigma = _sigma_nodes(halos.sigma, scatter)
        flux_cell, of_flux = _cubic((ln_flux - first) / step, ln_f.size)
        parent = None
        if given.selection == "joint" and not isinstance(self.selection, NoSelection):
            parent = parent_nodes(given, self.prior)
        z_cell, of_z = _cubic(place, redshift.size)
        return UncertainLikelihood(
            ln_lum=ln_f[None, :] + moved[:, None],
            redshift=redshift,
            sigma=sigma,
            ln_prior=np.asarray(prior_rows(self.prior, redshift)),
            flux_cell=flux_cell,
            of_flux=of_flux,
            z_cell=z_cell,
            of_z=of_z,
            of_sigma=of_sigma,
            ln_weight=halos.ln_z_weight + factor,
            ln_z_weight=halos.ln_z_weight,
            constant=np.float64(self.constant),
            prior=self.prior,
            selection=self.selection,
            parent=parent,
        )


class UncertainLikelihood(eqx.Module):
    """The sum over objects of ln (Z_k / A_k), prepared for many relations.

    Attributes
    ----------
    ln_lum : Float[Array, "row flux"]
        ln of the luminosity at each point of the lattice.
    redshift : Float[Array, "row"]
        Redshifts of the lattice.
    sigma : Float[Array, "noise"]
        Errors of the lattice [ln L].
    ln_prior : Float[Array, "row mass"]
        ln of the mass prior at these redshifts.
    flux_cell : Int[Array, "halo"]
        First of the four lattice fluxes that an object reads.
    of_flux : Float[Array, "halo 4"]
        Weights of these.
    z_cell : Int[Array, "halo q"]
        First of the four lattice redshifts that each node of an object reads.
    of_z : Float[Array, "halo q 4"]
        Weights of these.
    of_sigma : Float[Array, "halo noise"]
        Weights of the errors of the lattice.
    ln_weight, ln_z_weight : Float[Array, "halo q"]
        ln of the weights of the nodes, per flux and per luminosity.
    constant : Float[Array, ""]
        Sum of ln p_det over the objects.
    prior : MassPrior
        The mass prior.
    selection : Selection
        Which objects can be in the catalogue.
    parent : tuple of (Float[Array, "parent"], Float[Array, "parent"]) or None
        Redshifts of the parent distribution and ln of their shares, where A is over all of them; None where it is over
        each object's own p(z).
    """

    ln_lum: Float[Array, "row flux"]
    redshift: Float[Array | np.ndarray, "row"]
    sigma: Float[Array, " noise"]
    ln_prior: Float[Array | np.ndarray, "row mass"]
    flux_cell: Int[Array, " halo"]
    of_flux: Float[Array, "halo 4"]
    z_cell: Int[Array, "halo q"]
    of_z: Float[Array, "halo q 4"]
    of_sigma: Float[Array, "halo noise"]
    ln_weight: Float[Array, "halo q"]
    ln_z_weight: Float[Array, "halo q"]
    constant: Float[Array | np.float64, ""]
    prior: MassPrior
    selection: Selection
    parent: tuple[Float[Array | np.ndarray, " parent"], Float[Array | np.ndarray, " parent"]] | None = None
    # What a search asks of any likelihood: these are the objects themselves.
    compressed: bool = eqx.field(static=True, default=False)

    def with_prior(self, prior: MassPrior) -> "UncertainLikelihood":
        """Replace the mass prior, and keep the number of halos at each redshift.

        Parameters
        ----------
        prior : MassPrior
            Another prior with as many mass nodes.

        Returns
        -------
        UncertainLikelihood
            The same objects under that prior.
        """
        changed = (prior, prior_rows(prior, self.redshift))
        return eqx.tree_at(lambda s: (s.prior, s.ln_prior), self, changed)

    def __call__(self, relation) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.

        Returns
        -------
        Float[Array, ""]
            Sum over the objects.
        """

        def at(ln_lum, sigma, z, row):
            term = relation.data_term(ln_lum, sigma, z)
            evidence = self.prior.log_evidence_of_row(row, term.centre, z, term.width)
            return term.log_norm + jnp.log(term.width) + HALF_LN_2PI + evidence

        over_flux = jax.vmap(at, (0, None, None, None))
        over_noise = jax.vmap(over_flux, (None, 0, None, None))
        sigma, redshift = jnp.asarray(self.sigma), jnp.asarray(self.redshift)
        rows = jnp.asarray(self.ln_lum), redshift, jnp.asarray(self.ln_prior)
        ln_z = jax.lax.map(lambda x: over_noise(x[0], sigma, x[1], x[2]), rows)
        ln_a = ln_a_of_all = None
        if not isinstance(self.selection, NoSelection):
            chance = jax.vmap(lambda z, s: self.selection.log_norm(relation, self.prior, z, s), (None, 0))
            if self.parent is None:
                ln_a = jax.lax.map(lambda z: chance(z, sigma), redshift)
            else:
                of_parent, ln_share = (jnp.asarray(a) for a in self.parent)
                at_parent = jax.lax.map(lambda z: chance(z, sigma), of_parent)
                ln_a_of_all = jax.nn.logsumexp(at_parent + ln_share[:, None], axis=0)

        def one(halo):
            flux_cell, of_flux, z_cell, of_z, of_sigma, ln_weight, ln_z_weight = halo
            # (row, noise, 4 fluxes) -> (row,): the object has one flux and one error.
            near = jax.lax.dynamic_slice_in_dim(ln_z, flux_cell, 4, axis=2)
            of_row = jnp.einsum("rnf,n,f->r", near, of_sigma, of_flux)
            found = jax.nn.logsumexp(ln_weight + _read(of_row, z_cell, of_z))
            if ln_a_of_all is not None:
                return found - ln_a_of_all @ of_sigma
            if ln_a is None:
                return found
            return found - jax.nn.logsumexp(ln_z_weight + _read(ln_a @ of_sigma, z_cell, of_z))

        halos = (self.flux_cell, self.of_flux, self.z_cell, self.of_z, self.of_sigma, self.ln_weight, self.ln_z_weight)
        number = self.flux_cell.shape[0]
        size = min(_BLOCK, number)
        padded = np.minimum(np.arange(-(-number // size) * size), number - 1).reshape(-1, size)
        blocks = tuple(jnp.asarray(a)[padded] for a in halos)
        # Checkpointed: the gradient does not keep what each block read.
        values = jax.lax.map(jax.checkpoint(lambda block: jax.vmap(one)(block)), blocks)
        return values.ravel()[:number].sum() + self.constant


def refuse_flux_seen(known: RedshiftDistributions) -> None:
    """Refuse p(z) that has seen the flux, in a fit.

    Parameters
    ----------
    known : RedshiftDistributions
        The distributions.

    Raises
    ------
    MassmapError
        Where it has.
    """
    if known.contains == "posterior_with_flux":
        raise MassmapError(
            "p(z) that has seen the flux cannot enter a fit of the relation, which would use the flux twice: give"
            " the likelihood of the colours alone, or fit the objects with spectroscopic redshifts"
        )


def _read(values, cell, weight):
    """Interpolate values on the redshifts of the lattice at the nodes of one object."""
    return (values[cell[:, None] + np.arange(4)] * weight).sum(axis=1)


def _redshift_lattice(z, moved, step: float):
    """Redshifts of the lattice, and the places of all nodes on it.

    Its points are equally far apart in ln(1 + z) over its step plus ln L over that of ln F: at low redshift the
    luminosity of a flux changes as z^2, so that steps in ln(1 + z) alone would not resolve ln Z.
    """
    low, high = float(z.min()), float(z.max())
    fine = np.unique(np.clip([np.linspace(low, high, _FINE), np.geomspace(low, high, _FINE)], low, high))
    along = np.log1p(fine) / _STEP_U
    along[1:] += np.cumsum(np.abs(np.diff(moved(fine)))) / step
    size = max(8, int(np.ceil(along[-1] - along[0]))) + 1
    redshift = np.interp(np.linspace(along[0], along[-1], size), along, fine)
    return redshift, (np.interp(z, fine, along) - along[0]) / (along[-1] - along[0]) * (size - 1)


def _cubic(place, size: int):
    """First of four neighbours on a lattice of so many points, and the weights of a cubic through them."""
    cell = np.clip(np.floor(place).astype(np.int32) - 1, 0, size - 4)
    return cell, np.stack(panels.cubic_weights(place - cell), axis=-1)


def _sigma_nodes(sigma, scatter: float):
    """Errors of the lattice, and the weights with which each object reads them: one polynomial over the whole range."""
    if sigma.min() == sigma.max():
        return sigma[:1], np.ones((sigma.size, 1))
    # S^2 + sigma^2 is what Z depends on.
    x = 0.5 * np.log1p((sigma / scatter) ** 2)
    middle, half = 0.5 * (x.min() + x.max()), 0.5 * (x.max() - x.min())
    t = np.cos(np.pi * (np.arange(_NUM_SIGMA) + 0.5) / _NUM_SIGMA)
    to_weights = np.linalg.inv(np.polynomial.chebyshev.chebvander(t, _NUM_SIGMA - 1))
    weights = np.polynomial.chebyshev.chebvander((x - middle) / half, _NUM_SIGMA - 1) @ to_weights
    return scatter * np.sqrt(np.expm1(2 * (middle + half * t))), weights
