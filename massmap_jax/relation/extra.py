"""Mass likelihoods of single objects in the fit of a relation, such as weak lensing of 200 out of 20,000.

A lensed object adds to its usual term ln Z, in which Z is the integral of p N over ln M (p the mass prior, N the
Gaussian of its luminosity, or exp(K) of linear noise),

    ln integral of p(ln M) N(ln M) L_WL(ln M + b) d ln M  -  ln integral of p(ln M) N(ln M) d ln M

with a bias b that all these likelihoods share. So the usual terms may be compressed as if there were no lensing.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import AroundRelation, RelationPrior, pack
from massmap_jax.relation.data import HALF_LN_2PI, filled, prior_rows
from massmap_jax.relation.law import LABELS, MassLuminosityRelation

# Points of each of the two searches for the range of an integrand, and the panels over it: twice as many panels
# change ln Z by less than 1e-6.
_SEARCH, _PANELS = 128, 16
# Objects that are integrated at the same time.
_BLOCK = 512


class BiasedRelation(MassLuminosityRelation):
    """A relation together with the bias of mass likelihoods that were fitted with it, draw by draw.

    `fit_relation(..., extra=)` makes batches of it. Wherever these draws meet the table of likelihoods, in
    `mass_posterior` and in maps, each draw shifts the table by its own bias.

    Parameters
    ----------
    extra_bias : float or array_like, (draw,), optional
        Bias b: the table holds likelihoods of ln M + b.
    **relation : object
        Arguments of `MassLuminosityRelation`.

    Attributes
    ----------
    extra_bias : Float[Array, "*draw"]
        As above.

    See Also
    --------
    MassLuminosityRelation : The relation alone.
    """

    extra_bias: Float[Array | np.ndarray, "*draw"]

    def __init__(self, *, extra_bias: Any = 0.0, **relation: Any):
        super().__init__(**relation)
        shape = jnp.shape(self.alpha1)
        if isinstance(extra_bias, jax.core.Tracer):
            self.extra_bias = jnp.broadcast_to(extra_bias, shape)
        else:
            self.extra_bias = np.broadcast_to(np.asarray(extra_bias, dtype=np.float64), shape).copy()

    def columns(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """Give the parameters and the ln weights by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            Those of `MassLuminosityRelation`, and extra_bias.
        """
        return super().columns() | {"extra_bias": self.extra_bias}


class BiasedPrior(AroundRelation):
    """Beliefs about a relation and about the bias that mass likelihoods share.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs by name, "extra_bias" among them.
    relation_prior : RelationPrior
        Beliefs about the relation alone.
    """

    stored: dict
    relation_prior: RelationPrior

    @classmethod
    def of(cls, relation_prior: RelationPrior, bias) -> "BiasedPrior":
        """Join beliefs.

        Parameters
        ----------
        relation_prior : RelationPrior
            Beliefs about the relation.
        bias : numpyro.distributions.Distribution or float
            Belief about the bias, in ln M.

        Returns
        -------
        BiasedPrior
            The beliefs.
        """
        return cls(dict(relation_prior.stored) | {"extra_bias": pack(bias)}, relation_prior)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return (*self.relation_prior.names, "extra_bias")

    def relation(self, values: Mapping, log_weight=0.0) -> BiasedRelation:
        """Make the relation with its bias, without a check of the values.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            All free parameters by name.
        log_weight : float or Float[Array, "*draw"], optional
            ln weight of each draw.

        Returns
        -------
        BiasedRelation
            One relation, or a batch where the values are arrays.
        """
        plain = self.relation_prior.relation(values, log_weight)
        bias = values["extra_bias"] if "extra_bias" in values else self.stored["extra_bias"]
        bias = jnp.broadcast_to(jnp.asarray(bias, dtype=float), jnp.shape(plain.alpha1))
        return BiasedRelation._unchecked(
            plain.columns() | {"extra_bias": bias}, {name: getattr(plain, name) for name in LABELS}
        )


class ExtraEvidence(eqx.Module):
    """What mass likelihoods add to ln P(data | relation), as a function of the relation.

    Attributes
    ----------
    ln_lum_obs, sigma, z : Float[Array, "point"]
        ln of the observed luminosity, its error and the redshift of the objects that have one; with linear noise or
        upper limits ln L_ref and asinh(q / 2), see `likelihood.linear_noise`.
    weight : Float[Array, "point"]
        1; 0 for copies that fill up to a size that is shared with other catalogues.
    row : Int[Array, "point"]
        Which entry of `ln_prior` an object has.
    redshift : Float[Array, "row"]
        The distinct redshifts.
    ln_prior : Float[Array, "row mass"]
        ln p(ln M | z) there, at the mass nodes of the prior.
    term : TabulatedTerm
        The likelihoods of these objects.
    noise_kind : {"lognormal", "normal", "upper_limit"}
        Noise kind of all of them.
    """

    ln_lum_obs: Float[Array | np.ndarray, "point"]
    sigma: Float[Array | np.ndarray, "point"]
    z: Float[Array | np.ndarray, "point"]
    weight: Float[Array | np.ndarray, "point"]
    row: Int[Array | np.ndarray, "point"]
    redshift: Float[Array | np.ndarray, "row"]
    ln_prior: Float[Array | np.ndarray, "row mass"]
    term: TabulatedTerm
    noise_kind: str = eqx.field(static=True, default="lognormal")

    @classmethod
    def of(cls, catalogue: HaloCatalogue, rows: np.ndarray, prior: MassPrior, extra: TabulatedTerm) -> "ExtraEvidence":
        """Collect the objects that have a mass likelihood.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The objects.
        rows : Int[np.ndarray, "used"]
            Rows that are fitted.
        prior : MassPrior
            The mass prior.
        extra : TabulatedTerm
            A likelihood for each row of the catalogue.

        Returns
        -------
        ExtraEvidence
            The function.

        Raises
        ------
        MassmapError
            A table with another number of rows, one in which no object that is fitted has a likelihood, or objects with
            likelihoods and several kinds of noise.
        """
        extra.check_rows(len(catalogue))
        chosen = rows[np.asarray(extra.informs)[rows]]
        if chosen.size == 0:
            raise MassmapError(
                f"none of the {rows.size} objects that are fitted has a mass likelihood: every row of the table is "
                "blank or 0; match it with the catalogue, or leave extra= out"
            )
        codes = np.unique(catalogue.noise_codes[chosen])
        if codes.size > 1:
            several = " and ".join(NOISE_KINDS[code] for code in codes)
            raise MassmapError(
                f"the {chosen.size} objects with a mass likelihood have several kinds of noise, {several}: give the"
                " likelihoods of those of one kind"
            )
        kind = NOISE_KINDS[codes[0]]
        of_lum = catalogue.ln_lum_obs[chosen], catalogue.sigma_ln_lum[chosen]
        if kind != "lognormal":
            of_lum = linear_noise.reference(*catalogue.signed_measurements(chosen))
        columns = (np.asarray(of_lum[0]), np.asarray(of_lum[1]), catalogue.redshift[chosen])
        redshift, row = np.unique(columns[2], return_inverse=True)
        redshift, weight = filled(redshift), filled(np.ones(chosen.size), 0.0)
        padded = np.concatenate([chosen, np.full(weight.size - chosen.size, chosen[-1])])
        # Copies of the nodes as well: see CatalogueData.
        table = extra.take(padded)
        term = TabulatedTerm(np.array(table.ln_mass_nodes), table.log_likelihood, table.slopes)
        ln_lum, sigma, z = (filled(column) for column in columns)
        return cls(ln_lum, sigma, z, weight, filled(row.ravel()), redshift, prior_rows(prior, redshift), term, kind)

    @property
    def number(self) -> int:
        """Number of objects with a mass likelihood."""
        return int(np.asarray(self.weight).sum())

    def told(self, relation, prior: MassPrior) -> dict[str, Any]:
        """Tell what a fit reports of the mass likelihoods.

        Parameters
        ----------
        relation : BiasedRelation
            The relation at the maximum.
        prior : MassPrior
            The mass prior.

        Returns
        -------
        dict of str to object
            "with_mass_likelihood", how many there are.
        """
        return {"with_mass_likelihood": self.number}

    def with_prior(self, prior: MassPrior) -> "ExtraEvidence":
        """Replace the mass prior.

        Parameters
        ----------
        prior : MassPrior
            Another prior with the same redshift nodes and as many mass nodes.

        Returns
        -------
        ExtraEvidence
            The same objects under that prior.
        """
        return eqx.tree_at(lambda s: s.ln_prior, self, prior_rows(prior, self.redshift))

    def __call__(self, relation, prior: MassPrior) -> Float[Array, ""]:
        """Evaluate the sum over the objects.

        Parameters
        ----------
        relation : BiasedRelation
            One relation with its bias; a relation without one has the bias 0.
        prior : MassPrior
            The mass prior that `ln_prior` is of.

        Returns
        -------
        Float[Array, ""]
            Sum of the ln of the likelihood's mean over each object's posterior without it.
        """
        bias = bias_of(relation)

        def one(point):
            ln_lum, sigma, z, row, values, slopes = point
            term = TabulatedTerm(self.term.ln_mass_nodes, values, slopes)
            with_prior = prior, jnp.asarray(self.ln_prior)[row], relation
            return _ln_mean(*with_prior, bias, term, ln_lum, sigma, z, self.noise_kind)

        columns = (self.ln_lum_obs, self.sigma, self.z, self.row, self.term.log_likelihood, self.term.slopes)
        points = tuple(jnp.asarray(a) for a in columns)
        if self.weight.shape[0] <= 2 * _BLOCK:
            return (self.weight * jax.vmap(one)(points)).sum()
        # `filled` has made whole blocks. Checkpointed: the gradient does not keep the panels of all in memory.
        blocks = jax.tree.map(lambda a: a.reshape(-1, _BLOCK, *a.shape[1:]), points)
        return (self.weight * jax.lax.map(jax.checkpoint(jax.vmap(one)), blocks).ravel()).sum()


def bias_of(relation) -> Float[Array, ""] | float:
    """Give the bias of mass likelihoods that a relation brings along.

    Parameters
    ----------
    relation : MassLuminosityRelation
        One relation.

    Returns
    -------
    Float[Array, ""] or float
        Its `extra_bias`; 0 where it has none.
    """
    bias = getattr(relation, "extra_bias", None)
    return 0.0 if bias is None else bias


def ln_of_luminosity(relation, ln_lum, sigma, z, noise_kind: str, ln_mass) -> Float[Array, "..."]:
    """Evaluate the ln likelihood of one object's luminosity at some masses, up to a constant.

    Parameters
    ----------
    relation : MassLuminosityRelation
        One relation.
    ln_lum, sigma, z : Float[Array, ""]
        As the attributes of `ExtraEvidence`.
    noise_kind : {"lognormal", "normal", "upper_limit"}
        Noise kind.
    ln_mass : Float[Array, "..."]
        The masses [ln Msun].

    Returns
    -------
    Float[Array, "..."]
        ln likelihood.
    """
    if noise_kind == "lognormal":
        data = relation.data_term(ln_lum, sigma, z)
        return -0.5 * ((ln_mass - data.centre) / data.width) ** 2
    t = ln_lum - relation.mean_ln_lum(ln_mass, z)
    return linear_noise.kernel(noise_kind, t, relation.scatter, sigma)


def _ln_mean(prior, row, relation, bias, term, ln_lum, sigma, z, noise_kind):
    """ln of the mean of one object's likelihood over its posterior without it."""
    ln_noise = partial(ln_of_luminosity, relation, ln_lum, sigma, z, noise_kind)
    if noise_kind == "lognormal":
        data = relation.data_term(ln_lum, sigma, z)
        ln_norm = jnp.log(data.width) + HALF_LN_2PI
        without = prior.log_evidence_of_row(row, data.centre, z, data.width) + ln_norm
    else:
        without = _ln_integral(lambda ln_mass: prior.interpolate(row, ln_mass) + ln_noise(ln_mass), prior)
    with_it = _ln_integral(
        lambda ln_mass: prior.interpolate(row, ln_mass) + ln_noise(ln_mass) + term(ln_mass + bias), prior
    )
    return with_it - without


def _ln_integral(ln_integrand, prior):
    """ln of an integral over the masses of the prior."""
    low, high = jax.lax.stop_gradient(_range(ln_integrand, prior.ln_mass_nodes))
    values = ln_integrand(panels.panel_nodes(low, high, _PANELS))
    peak = jax.lax.stop_gradient(values.max())
    return peak + jnp.log((panels.panel_weights(low, high, _PANELS) * jnp.exp(values - peak)).sum())


def _range(ln_integrand, nodes):
    """Range of ln M outside of which the integrand is below exp(-panels.DEPTH) of its peak, looked for twice.

    The luminosity and the lensing may contradict each other, above all where a search begins: the range of the one
    alone need not hold their product.
    """
    low, high = nodes[0], nodes[-1]
    for _ in range(2):
        grid = low + (high - low) * jnp.linspace(0.0, 1.0, _SEARCH)
        values = ln_integrand(grid)
        kept = values >= values.max() - panels.DEPTH
        step = grid[1] - grid[0]
        least, most = jnp.where(kept, grid, jnp.inf).min(), jnp.where(kept, grid, -jnp.inf).max()
        low, high = jnp.maximum(low, least - step), jnp.minimum(high, most + step)
    return low, high
