"""Which objects can be in the catalogue at all: p_det(L_obs, z).

Detection on L_obs cancels from one object's P(M | L_obs, relation), not from the evidence Z_k that weighs relation
draws, nor from a fit of the relation: there Z_k is divided by A = the probability that such an object is in the
catalogue.

    A(z, sigma; relation) = integral of p(ln M | z) P(detected | M, z, sigma, relation) d ln M
"""

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from massmap_jax.choices import check_flux_limit
from massmap_jax.errors import MassmapError

# Panels over the prior's masses, at most, for the integral over mass in A.
_PANELS = 64


class Selection(Protocol):
    """What a selection has to say; p_det depends on the observed luminosity and the redshift alone."""

    def log_prob(self, ln_lum_obs, z):
        """ln of the probability that an object with this ln_lum_obs at z is in the catalogue; arrays of one shape."""

    def log_norm(self, relation, prior, z, sigma):
        """ln A: ln of the integral of p_det(L_obs, z) p(L_obs | z, sigma, relation, prior) dL_obs, one relation."""


class NoSelection(eqx.Module):
    """Every object is in the catalogue."""

    def log_prob(self, ln_lum_obs, z):
        """ln of the probability that an object with this ln_lum_obs at z is in the catalogue; arrays of one shape."""
        return jnp.zeros_like(ln_lum_obs)

    def log_norm(self, relation, prior, z, sigma):
        """ln A: that any object at z with error sigma [ln L] is, under this relation and mass prior; scalars."""
        return jnp.zeros_like(z)

    def describe(self) -> str:
        """In a few words, for headers and reports."""
        return "none"


class FluxLimit(eqx.Module):
    """Objects with L_obs >= the limit, all of them and no others.

    Attributes
    ----------
    ln_lum_min : () ln of the least observed luminosity, in the catalogue's unit.
    """

    ln_lum_min: Float[Array, ""]

    def __init__(self, lum_min: float):
        check_flux_limit(lum_min)
        self.ln_lum_min = np.log(np.float64(lum_min))

    def log_prob(self, ln_lum_obs, z):
        """ln of the probability that an object with this ln_lum_obs at z is in the catalogue; arrays of one shape."""
        # A luminosity that was cut in the catalogue's own unit may round below the logarithm of the limit.
        return jnp.where(ln_lum_obs >= self.ln_lum_min - 1e-6, 0.0, -jnp.inf)

    def log_norm(self, relation, prior, z, sigma):
        """ln A: that any object at z with error sigma [ln L] is, under this relation and mass prior; scalars."""
        ln_mass, ln_prior = _mass_nodes(prior, z)
        mean, spread = _predicted(relation, ln_mass, z, sigma)
        return _ln_mean(ln_prior, ndtr((mean - self.ln_lum_min) / spread))

    def describe(self) -> str:
        """In a few words, for headers and reports."""
        return f"flux limit {float(np.exp(self.ln_lum_min)):g}"


class TabulatedSelection(eqx.Module):
    """p_det on a grid, linear in ln L_obs and in z between the nodes, constant outside.

    Attributes
    ----------
    redshift_nodes : (j,) increasing; ln_lum_nodes : (lum_node,) increasing, ln of the catalogue's unit.
    prob : (j, lum_node) between 0 and 1.
    """

    redshift_nodes: Float[Array, "j"]
    ln_lum_nodes: Float[Array, " lum_node"]
    prob: Float[Array, "j lum_node"]

    def __init__(self, redshift_nodes, ln_lum_nodes, prob):
        redshift, ln_lum, prob = (np.asarray(a, dtype=np.float64) for a in (redshift_nodes, ln_lum_nodes, prob))
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

    def log_prob(self, ln_lum_obs, z):
        """ln of the probability that an object with this ln_lum_obs at z is in the catalogue; arrays of one shape."""

        def one(ln_lum, z):
            prob = jnp.interp(ln_lum, self.ln_lum_nodes, self._row(z))
            return jnp.where(prob > 0, jnp.log(jnp.where(prob > 0, prob, 1.0)), -jnp.inf)

        ln_lum_obs, z = jnp.broadcast_arrays(ln_lum_obs, z)
        return jax.vmap(one)(ln_lum_obs.ravel(), z.ravel()).reshape(z.shape)

    def log_norm(self, relation, prior, z, sigma):
        """ln A: that any object at z with error sigma [ln L] is, under this relation and mass prior; scalars."""
        ln_mass, ln_prior = _mass_nodes(prior, z)
        mean, spread = _predicted(relation, ln_mass, z, sigma)
        # p_det = p_0 + sum of slope changes times (L - node)_+, and E (L - node)_+ = s [phi(t) + t Phi(t)].
        row, nodes = self._row(z), jnp.asarray(self.ln_lum_nodes)
        slopes = jnp.concatenate([jnp.zeros(1), jnp.diff(row) / jnp.diff(nodes), jnp.zeros(1)])
        t = (mean[:, None] - nodes) / spread[:, None]
        above = spread[:, None] * (jnp.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) + t * ndtr(t))
        return _ln_mean(ln_prior, jnp.clip(row[0] + (above * jnp.diff(slopes)).sum(axis=1), 0.0, 1.0))

    def _row(self, z):
        nodes, prob = jnp.asarray(self.redshift_nodes), jnp.asarray(self.prob)
        if nodes.shape[0] == 1:
            return prob[0]
        upper = jnp.clip(jnp.searchsorted(nodes, z), 1, nodes.shape[0] - 1)
        t = jnp.clip((z - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
        return (1 - t) * prob[upper - 1] + t * prob[upper]

    def describe(self) -> str:
        """In a few words, for headers and reports."""
        return f"table of {self.prob.shape[0]} redshifts x {self.prob.shape[1]} luminosities"


def _mass_nodes(prior, z):
    """Nodes in ln M, and ln of the prior density at z times the quadrature weight."""
    nodes = jnp.asarray(prior.ln_mass_nodes, dtype=float)
    # Panel edges on the table's nodes, where ln p has its kinks; a coarse table gets more nodes a panel.
    cells = nodes.shape[0] - 1
    edges = jnp.concatenate([nodes[: -1 : -(-cells // _PANELS)], nodes[-1:]])
    x, w = np.polynomial.legendre.leggauss(4 if cells >= _PANELS else 12)
    half = 0.5 * jnp.diff(edges)[:, None]
    ln_mass = (edges[:-1, None] + half * (1 + jnp.asarray(x, dtype=float))).ravel()
    ln_weight = (jnp.log(half) + jnp.asarray(np.log(w), dtype=float)).ravel()
    return ln_mass, prior.interpolate(prior.ln_density_at(z), ln_mass) + ln_weight


def _ln_mean(ln_weight, prob):
    """ln of the weighted mean of a probability, finite also where it underflows."""
    return jnp.log(jnp.maximum((jnp.exp(ln_weight) * prob).sum(), jnp.finfo(prob.dtype).tiny))


def _predicted(relation, ln_mass, z, sigma):
    """Mean and standard deviation of ln L_obs at each mass."""
    mean = relation.mean_ln_lum(ln_mass, z)
    scatter = jnp.broadcast_to(relation.scatter_ln_lum(ln_mass, z), mean.shape)
    return mean, jnp.sqrt(scatter**2 + sigma**2)
