"""Stacked shear profiles in the fit of a relation: what the relation says of the masses in a stack makes its shear.

Given luminosity and redshift, the mass of the member k has the posterior p_k(ln M) proportional to p N (p the mass
prior, N the likelihood of the luminosity), whatever selected it by its luminosity. The stack, the mean with weights
w_k that sum to 1, has then

    mean        mu = sum_k w_k E_k[m]
    covariance  C + sum_k w_k^2 (E_k[Q] - E_k[m] E_k[m]^T)

where E_k is the mean over p_k, m and Q the mean and second moment of the shear at given mass (`likelihood.stacks`),
and C the covariance of the measurement. By the central limit theorem it is normal for stacks of more than some ten
members, and its ln density is added to ln P(data | relation).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from massmap_jax.catalogue.halo_catalogue import NOISE_KINDS, HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.stacks import StackedTerm
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.data import HALF_LN_2PI, prior_rows
from massmap_jax.relation.extra import ExtraEvidence, bias_of, ln_of_luminosity

# Masses over the prior's support, for each node of the tables: their step is at most 0.05 in ln M. The trapezoidal rule
# is exact to 1e-8 for posteriors as wide as a step, and to 1 % for those half as wide.
_MASSES = 2
# Members that are summed at the same time.
_BLOCK = 256


class StackEvidence(eqx.Module):
    """What stacked profiles add to ln P(data | relation), as a function of the relation.

    Attributes
    ----------
    ln_lum_obs, sigma, z : Float[Array, "stack block member"]
        ln of the observed luminosity, its error and the redshift of the members; with linear noise or upper limits
        ln L_ref and asinh(q / 2), see `likelihood.linear_noise`.
    weight : Float[Array, "stack block member"]
        Weight in the stack, of sum 1; 0 for copies that fill up a block.
    row : Int[Array, "stack block member"]
        Which entry of `ln_prior` a member has.
    redshift : Float[Array, "row"]
        The distinct redshifts.
    ln_prior : Float[Array, "row mass"]
        ln p(ln M | z) there, at the mass nodes of the prior.
    term : StackedTerm
        The stacks.
    noise_kind : {"lognormal", "normal", "upper_limit"}
        Noise kind of all members.
    """

    ln_lum_obs: Float[Array | np.ndarray, "stack block member"]
    sigma: Float[Array | np.ndarray, "stack block member"]
    z: Float[Array | np.ndarray, "stack block member"]
    weight: Float[Array | np.ndarray, "stack block member"]
    row: Int[Array | np.ndarray, "stack block member"]
    redshift: Float[Array | np.ndarray, "row"]
    ln_prior: Float[Array | np.ndarray, "row mass"]
    term: StackedTerm
    noise_kind: str = eqx.field(static=True, default="lognormal")

    @classmethod
    def of(cls, catalogue: HaloCatalogue, rows: np.ndarray, prior: MassPrior, extra: StackedTerm) -> "StackEvidence":
        """Collect the members of the stacks.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The objects.
        rows : Int[np.ndarray, "used"]
            Rows that are fitted.
        prior : MassPrior
            The mass prior.
        extra : StackedTerm
            The stacks, with a member or none for each row of the catalogue.

        Returns
        -------
        StackEvidence
            The function.

        Raises
        ------
        MassmapError
            Stacks of another number of rows, members that are not fitted, or members with several kinds of noise.
        """
        members = np.asarray(extra.members)
        if members.size != len(catalogue):
            raise MassmapError(
                f"the stacks were made for {members.size} rows and the catalogue has {len(catalogue)}: make them for"
                " this one"
            )
        in_stack = members >= 0
        lost = in_stack & ~np.isin(np.arange(members.size), rows)
        if lost.any():
            raise MassmapError(
                f"{lost.sum()} of {in_stack.sum()} members of stacks are not fitted, the first is row"
                f" {int(np.argmax(lost))}: their shear is in the stack, so correct these rows or stack the others alone"
            )
        codes = np.unique(catalogue.noise_codes[in_stack])
        if codes.size > 1:
            several = " and ".join(NOISE_KINDS[code] for code in codes)
            raise MassmapError(f"the members of stacks have several kinds of noise, {several}: give those of one kind")
        kind = NOISE_KINDS[codes[0]]
        number = int(np.asarray(extra.shear).shape[0])
        of_stack = [np.flatnonzero(members == stack) for stack in range(number)]
        size = _BLOCK * -(-max(one.size for one in of_stack) // _BLOCK)
        chosen = np.stack([np.resize(one, size) for one in of_stack]).reshape(number, -1, _BLOCK)
        weight = np.stack([np.where(np.arange(size) < one.size, np.asarray(extra.weight)[np.resize(one, size)], 0.0)
                           for one in of_stack])  # fmt: skip
        weight = (weight / weight.sum(axis=1, keepdims=True)).reshape(chosen.shape)
        ln_lum, sigma = catalogue.ln_lum_obs[chosen], catalogue.sigma_ln_lum[chosen]
        if kind != "lognormal":
            found = linear_noise.reference(*catalogue.signed_measurements(chosen.ravel()))
            ln_lum, sigma = (np.asarray(a).reshape(chosen.shape) for a in found)
        z = catalogue.redshift[chosen]
        redshift, row = np.unique(z, return_inverse=True)
        row = row.reshape(chosen.shape)
        return cls(ln_lum, sigma, z, weight, row, redshift, prior_rows(prior, redshift), extra, kind)

    @property
    def number(self) -> int:
        """Number of objects in the stacks."""
        return int((np.asarray(self.weight) > 0).sum())

    def told(self, relation, prior: MassPrior) -> dict[str, Any]:
        """Tell what a fit reports of the stacks.

        Parameters
        ----------
        relation : BiasedRelation
            The relation at the maximum.
        prior : MassPrior
            The mass prior.

        Returns
        -------
        dict of str to object
            "stacks" and "in_stacks", how many stacks and members there are, and "stacks_p", the probability that right
            profiles are as far from the fitted ones; with the number of bins as degrees of freedom, it is not too
            small.
        """
        from scipy.stats import chi2  # slow to import

        mean, covariance = (np.asarray(a) for a in eqx.filter_jit(StackEvidence.predict)(self, relation, prior))
        away = (np.asarray(self.term.shear) - mean) * np.asarray(self.term.there)
        squares = np.einsum("sa,sa->", away, np.linalg.solve(covariance, away[..., None])[..., 0])
        p = float(chi2.sf(squares, np.asarray(self.term.there).sum()))
        return {"stacks": mean.shape[0], "in_stacks": self.number, "stacks_p": p}

    def with_prior(self, prior: MassPrior) -> "StackEvidence":
        """Replace the mass prior.

        Parameters
        ----------
        prior : MassPrior
            Another prior with the same redshift nodes and as many mass nodes.

        Returns
        -------
        StackEvidence
            The same stacks under that prior.
        """
        return eqx.tree_at(lambda s: s.ln_prior, self, prior_rows(prior, self.redshift))

    def __call__(self, relation, prior: MassPrior) -> Float[Array, ""]:
        """Evaluate the sum over the stacks.

        Parameters
        ----------
        relation : BiasedRelation
            One relation with its bias; a relation without one has the bias 0.
        prior : MassPrior
            The mass prior that `ln_prior` is of.

        Returns
        -------
        Float[Array, ""]
            Sum of the ln densities of the measured shears.
        """
        mean, covariance = self.predict(relation, prior)
        away, there = jnp.asarray(self.term.shear) - mean, jnp.asarray(self.term.there)
        lower = jnp.linalg.cholesky(covariance)
        white = jax.scipy.linalg.solve_triangular(lower, away[..., None], lower=True)[..., 0]
        ln_root = jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1))
        return (there * (-0.5 * white**2 - ln_root - HALF_LN_2PI)).sum()

    def predict(self, relation, prior: MassPrior) -> tuple[Float[Array, "stack bin"], Float[Array, "stack bin bin"]]:
        """Evaluate mean and covariance of the measured shears under one relation.

        Parameters
        ----------
        relation, prior
            As of a call.

        Returns
        -------
        mean : Float[Array, "stack bin"]
            Mean shear; 0 in bins without a measurement.
        covariance : Float[Array, "stack bin bin"]
            That of the errors and of the members' own profiles.
        """
        bias = bias_of(relation)
        nodes = jnp.asarray(prior.ln_mass_nodes)
        number = _MASSES * self.term.ln_mass_nodes.shape[0]
        ln_mass = jnp.linspace(nodes[0], nodes[-1], number)
        # The ends of a sharp prior count half, as in the trapezoidal rule.
        share = jnp.ones(number).at[jnp.array([0, -1])].set(0.5)

        def of_stack(stack):
            columns, redshift, mean, second, errors = stack
            at = _interpolated(self.term.ln_mass_nodes, mean, ln_mass + bias)  # (mass, node, bin)
            square = _interpolated(self.term.ln_mass_nodes, second, ln_mass + bias)

            def of_block(columns):
                ln_lum, sigma, z, weight, row = columns
                p = share * jax.vmap(lambda *one: self._posterior(relation, prior, ln_mass, *one))(
                    ln_lum, sigma, z, row
                )
                p = p / p.sum(axis=1, keepdims=True)
                basis = _parabola(redshift, z)
                own = jnp.einsum("kn,kg,gnb->kb", basis, p, at, optimize=[(1, 2), (0, 1)])
                spread = jnp.einsum("k,kn,kg->ng", weight**2, basis, p, optimize=[(0, 1), (0, 1)])
                squares = jnp.einsum("ng,gnab->ab", spread, square)
                return weight @ own, squares - jnp.einsum("k,ka,kb->ab", weight**2, own, own)

            sums = jax.lax.map(jax.checkpoint(of_block), columns)
            return sums[0].sum(axis=0), errors + sums[1].sum(axis=0)

        columns = tuple(jnp.asarray(a) for a in (self.ln_lum_obs, self.sigma, self.z, self.weight, self.row))
        tables = (self.term.redshift, self.term.mean, self.term.second, self.term.covariance)
        return jax.lax.map(of_stack, (columns, *(jnp.asarray(a) for a in tables)))

    def _posterior(self, relation, prior, ln_mass, ln_lum, sigma, z, row):
        """Density of one member's mass given its luminosity, up to a factor."""
        values = prior.interpolate(jnp.asarray(self.ln_prior)[row], ln_mass)
        values = values + ln_of_luminosity(relation, ln_lum, sigma, z, self.noise_kind, ln_mass)
        return jnp.exp(values - jax.lax.stop_gradient(values.max()))


def evidence_of(
    catalogue: HaloCatalogue, rows: np.ndarray, prior: MassPrior, extra: TabulatedTerm | StackedTerm
) -> ExtraEvidence | StackEvidence:
    """Collect what mass likelihoods of single objects, or stacked profiles, add; as their `of`."""
    if isinstance(extra, StackedTerm):
        return StackEvidence.of(catalogue, rows, prior, extra)
    return ExtraEvidence.of(catalogue, rows, prior, extra)


def _interpolated(nodes, values, at) -> Float[Array, "point ..."]:
    """Tables (node, ...) at some points, by the spline through them in the first axis."""
    columns = jnp.asarray(values).reshape(values.shape[0], -1).T
    slopes = jnp.gradient(columns, axis=1) / (nodes[1] - nodes[0])
    at = jnp.clip(at, nodes[0], nodes[-1])
    found = jax.vmap(lambda v, s: TabulatedTerm(jnp.asarray(nodes), v, s)(at))(columns, slopes)
    return found.T.reshape(at.shape[0], *values.shape[1:])


def _parabola(nodes: Float[Array, "3"], z: Float[Array, " member"]) -> Float[Array, "member 3"]:
    """Values of the parabolas that are 1 at one of three nodes."""
    first, middle, last = nodes
    return jnp.stack(
        [
            (z - middle) * (z - last) / ((first - middle) * (first - last)),
            (z - first) * (z - last) / ((middle - first) * (middle - last)),
            (z - first) * (z - middle) / ((last - first) * (last - middle)),
        ],
        axis=1,
    )
