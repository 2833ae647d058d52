"""ln P(data | relation, cosmology): the likelihood of `relation.marginal`, with the mass function made at every call.

A mass function of its own at every call has no redshift nodes, and so no kinks between them: ln Z of an object is
smooth in ln L_obs, z and sigma over the whole catalogue. A few thousand points in large boxes (`compress`) then stand
for any number of objects, at a few redshifts, and these are where the mass function is computed.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, Selection, described
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Boxes, compress
from massmap_jax.relation.data import HALF_LN_2PI, CatalogueData

# Errors of ln L, measured with benchmarks/programs/cosmology_speed.py: below 0.01 for 15,000 clusters.
_BOXES = Boxes(lum_nodes=9, z_nodes=10, sigma_nodes=5, lum_box=5.2, z_box=1.0, sigma_box=0.8)


class CosmologyLikelihood(eqx.Module):
    """The function ln P(all observed luminosities | relation, cosmology) of one catalogue, prepared once.

    Make one with `build`, and call it with a relation and a cosmology, under `jax.enable_x64(True)`. It is
    differentiable in both. It is not a likelihood of the number of objects: the cosmology enters by the shape of the
    mass function at each redshift.

    Attributes
    ----------
    ln_lum_obs, sigma, weight : Float[Array, "point"]
        ln of the observed luminosity, its error and the weight of the points: the objects themselves, or nodes of an
        interpolation that stand for them.
    row : Int[Array, "point"]
        Which entry of `redshift` a point has.
    redshift : Float[Array, "row"]
        The distinct redshifts.
    cell_row, cell_sigma, cell_weight : Array, (cell,)
        The same objects by redshift and noise alone, for the selection.
    constant : float
        Sum of ln p_det over the objects.
    prior : MassPrior
        The mass function, at a cosmology of its own that is not used.
    selection : Selection
        Which objects can be in the catalogue.
    num_halos : int
        Number of objects.

    See Also
    --------
    RelationLikelihood : The same under one mass prior.
    massmap_jax.prior.mass_prior.MassPrior.at_cosmology : The mass function at a cosmology.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> from massmap_jax.halo.abundance import CosmologyParameters
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[2500.0, 4200.0], redshift=[0.3, 0.5], sigma_ln_luminosity=0.05
    ... )
    >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
    >>> with jax.enable_x64(True):
    ...     likelihood = mm.CosmologyLikelihood.build(catalogue, mm.MassPrior.default())
    ...     gradient_of = jax.jit(jax.grad(lambda c: likelihood(relation, c)))
    ...     gradient = gradient_of(CosmologyParameters.of("Planck18"))
    ...     print(bool(gradient.sigma8 != 0))
    True
    """

    ln_lum_obs: Float[Array | np.ndarray, "point"]
    sigma: Float[Array | np.ndarray, "point"]
    weight: Float[Array | np.ndarray, "point"]
    row: Int[Array | np.ndarray, "point"]
    redshift: Float[Array | np.ndarray, "row"]
    cell_row: Int[Array | np.ndarray, " cell"]
    cell_sigma: Float[Array | np.ndarray, " cell"]
    cell_weight: Float[Array | np.ndarray, " cell"]
    constant: float
    prior: MassPrior
    selection: Selection
    num_halos: int = eqx.field(static=True)

    @classmethod
    def build(
        cls, catalogue: HaloCatalogue, prior: MassPrior, selection=None, *, scatter: float = 0.1
    ) -> "CosmologyLikelihood":
        """Prepare the likelihood of a catalogue.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The objects, with lognormal noise and one redshift each; unusable rows are left out.
        prior : MassPrior
            Which mass function: that of `MassPrior.default`, `from_hmf` or `from_cosmology`. Its cosmology is not used.
        selection : NoSelection or FluxLimit, optional
            Which objects can be in the catalogue; None for every object.
        scatter : float, optional
            Least scatter S of the relations to be evaluated [ln L]; a smaller one needs more points.

        Returns
        -------
        CosmologyLikelihood
            The likelihood.

        Raises
        ------
        MassmapError
            A prior that is no mass function of Tinker et al., another selection, no usable row, noise that is not
            lognormal, or an object that the selection excludes.
        """
        check_labels(catalogue=catalogue, mass_prior=prior)
        cls.check(prior, selection)
        data = CatalogueData(catalogue, prior, selection)
        points = data.halos()
        ln_lum, sigma, z, _ = points
        ends = np.array([z.min(), max(z.max(), z.min() + 1e-3)])
        short = compress(ln_lum, sigma, z, redshift_nodes=ends, scatter=scatter, boxes=_BOXES)
        points = short if short.weight.size < data.num_halos else points
        redshift, row = np.unique(points.z, return_inverse=True)
        cells, cell = np.unique(np.stack([row.ravel(), points.sigma]), axis=1, return_inverse=True)
        return cls(
            ln_lum_obs=points.ln_lum_obs,
            sigma=points.sigma,
            weight=points.weight,
            row=row.ravel(),
            redshift=redshift,
            cell_row=cells[0].astype(int),
            cell_sigma=cells[1],
            cell_weight=np.bincount(cell.ravel(), weights=points.weight),
            constant=data.constant,
            prior=data.prior,
            selection=data.selection,
            num_halos=data.num_halos,
        )

    @staticmethod
    def check(prior: MassPrior, selection) -> None:
        """Refuse what the likelihood does not know, before any work.

        Parameters
        ----------
        prior : MassPrior
            The mass function.
        selection : Selection or None
            Which objects can be in the catalogue.

        Raises
        ------
        MassmapError
            A prior that is no mass function of Tinker et al., or another selection than a limit in luminosity.
        """
        _ = prior.fit
        if not (selection is None or isinstance(selection, NoSelection | FluxLimit)):
            raise MassmapError(
                f"a fit with a free cosmology knows no selection but a limit in luminosity, and this one is"
                f" {described(selection)}: cut the catalogue at one luminosity and give that limit"
            )

    def __call__(self, relation, cosmology: CosmologyParameters) -> Float[Array, ""]:
        """Evaluate the ln likelihood of one relation and one cosmology.

        Parameters
        ----------
        relation : MassLuminosityRelation
            One relation.
        cosmology : CosmologyParameters
            One cosmology.

        Returns
        -------
        Float[Array, ""]
            Sum over the objects of ln (Z_k / A_k).
        """
        redshift, row = jnp.asarray(self.redshift), jnp.asarray(self.row)
        prior = prior_at(self.prior, cosmology, redshift)
        term = relation.data_term(jnp.asarray(self.ln_lum_obs), jnp.asarray(self.sigma), redshift[row])

        def evidence(i, centre, width):
            return prior.log_evidence_of_row(prior.ln_density[i], centre, redshift[i], width)

        ln_z = term.log_norm + jnp.log(term.width) + HALF_LN_2PI + jax.vmap(evidence)(row, term.centre, term.width)
        total = (self.weight * ln_z).sum() + self.constant
        if isinstance(self.selection, NoSelection):
            return total
        norm = jax.vmap(lambda i, s: self.selection.log_norm(relation, prior, redshift[i], s))
        return total - (self.cell_weight * norm(jnp.asarray(self.cell_row), jnp.asarray(self.cell_sigma))).sum()


def prior_at(prior: MassPrior, cosmology: CosmologyParameters, redshift) -> MassPrior:
    """Make a mass function at a cosmology and some redshifts, any of which may be traced by JAX.

    Parameters
    ----------
    prior : MassPrior
        Which mass function, mass definition and masses; its cosmology is not used.
    cosmology : CosmologyParameters
        The cosmology.
    redshift : Float[Array, "row"]
        The redshifts; the rows of the prior are to be used, and not to be interpolated.

    Returns
    -------
    MassPrior
        The mass function.
    """
    return eqx.tree_at(lambda p: p.redshift_nodes, prior, jnp.asarray(redshift)).at_cosmology(cosmology)
