"""MassFunctionDraws: a mass function of its own for each draw of the relation, from draws of the cosmology.

What a cosmology changes is smooth: ln p(ln M | z) minus that of the mass prior is a polynomial of degree 16 in ln M at
each redshift node of the prior, and linear in z in between, as the prior itself is. A draw so takes 11 kB instead of
the 190 kB of a table, and the table of the prior serves all draws. It goes where a population goes (`PopulationDraws`).
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import chebyshev_sum, check_within_reach
from massmap_jax.prior import panels
from massmap_jax.prior.cosmology_draws import PARAMETERS, cosmology_with
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import fingerprint

# Of the polynomial in ln M: a degree of 24 changes ln p by less than 1e-6 between 1e10 and 1e16 Msun.
_DEGREE = 16
# Cosmologies in one pass.
_AT_ONCE = 16


class MassFunctionDraws(eqx.Module):
    """The density p(ln M | z) under draws of the cosmology, relative to a mass prior: one cosmology, or a batch.

    Attributes
    ----------
    values : dict of str to Float[Array, "*draw"]
        The cosmology: omega_m, sigma8, h, n_s and omega_b.
    coefficients : Float[Array, "*draw j degree"]
        Chebyshev coefficients in ln M of ln p minus that of the prior, at its redshift nodes.
    redshift_nodes : Float[Array, "*draw j"]
        These nodes, the same in all draws.
    ends : Float[Array, "*draw 2"]
        Lowest and highest ln M of the prior [ln Msun], the same in all draws.
    base : str
        Fingerprint of the prior; they hold with no other.

    See Also
    --------
    massmap_jax.with_cosmology : Pair them with the draws of a relation.
    """

    values: dict[str, Float[Array | np.ndarray, "*draw"]]
    coefficients: Float[Array | np.ndarray, "*draw j degree"]
    redshift_nodes: Float[Array | np.ndarray, "*draw j"]
    ends: Float[Array | np.ndarray, "*draw 2"]
    base: str = eqx.field(static=True)

    @classmethod
    def of(cls, prior: MassPrior, values: Mapping) -> "MassFunctionDraws":
        """Compute the mass function of each draw of the cosmology.

        Parameters
        ----------
        prior : MassPrior
            A mass function of Tinker et al.; see `MassPrior.fit`.
        values : dict of str to Float[np.ndarray, "draw"]
            The cosmologies, as `CosmologyDraws.values`.

        Returns
        -------
        MassFunctionDraws
            A batch, in float64 on the host; 1.4 ms a draw for the default prior.

        Raises
        ------
        MassmapError
            A prior that is no such mass function, or that snaps to its redshift nodes; h / omega_m that is not between
            0.4 and 10.
        """
        refuse_snap(prior)
        _ = prior.fit
        with jax.enable_x64(True):
            made: dict[str, Array | np.ndarray]
            made = {name: np.asarray(values[name], dtype=np.float64) for name in PARAMETERS}
            check_within_reach(made["h"], made["omega_m"])
            coefficients = np.asarray(_coefficients(_float64(prior), made))
        draws = coefficients.shape[0]
        nodes = np.asarray(prior.redshift_nodes, dtype=np.float64)
        ends = np.array([prior.ln_mass_min, prior.ln_mass_max])
        return cls(
            values=made,
            coefficients=coefficients,
            redshift_nodes=np.tile(nodes, (draws, 1)),
            ends=np.tile(ends, (draws, 1)),
            base=fingerprint(prior),
        )

    @classmethod
    def of_one(cls, prior: MassPrior, values: Mapping, to_coefficients, base: str) -> "MassFunctionDraws":
        """Compute the mass function of one cosmology, all of which may be traced by JAX.

        Parameters
        ----------
        prior : MassPrior
            As in `of`.
        values : dict of str to Float[Array, ""]
            The cosmology.
        to_coefficients : Float[Array, "mass degree"]
            The result of `least_squares` for this prior.
        base : str
            Fingerprint of the prior.

        Returns
        -------
        MassFunctionDraws
            The mass function.
        """
        nodes = jnp.asarray(prior.ln_mass_nodes)
        return cls(
            values={name: jnp.asarray(values[name], dtype=float) for name in PARAMETERS},
            coefficients=_ratio(prior, values) @ to_coefficients,
            redshift_nodes=jnp.asarray(prior.redshift_nodes),
            ends=nodes[jnp.array([0, -1])],
            base=base,
        )

    @classmethod
    def slopes(cls, prior: MassPrior, values: Mapping) -> dict[str, Float[np.ndarray, "j degree"]]:
        """Differentiate the coefficients in each parameter of the cosmology.

        Parameters
        ----------
        prior : MassPrior
            As in `of`.
        values : dict of str to float
            One cosmology.

        Returns
        -------
        dict of str to Float[np.ndarray, "j degree"]
            Derivative in omega_m, sigma8, h, n_s and omega_b.
        """
        with jax.enable_x64(True):
            found = _slopes(_float64(prior), {name: jnp.asarray(float(values[name])) for name in PARAMETERS})
            return {name: np.asarray(slope) for name, slope in found.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything by name, for a file; nodes and ends, which are the same in all draws, once.

        Returns
        -------
        dict of str to object
            Arrays "cosmology.NAME", "coefficients", "redshift_nodes" and "ends".
        """
        once = {p: np.asarray(getattr(self, p)) for p in ("redshift_nodes", "ends")}
        found = {p: v.reshape(-1, v.shape[-1])[0] for p, v in once.items()}
        found |= {f"cosmology.{p}": np.asarray(v) for p, v in self.values.items()}
        return found | {"coefficients": np.asarray(self.coefficients)}

    @classmethod
    def of_arrays(cls, arrays: Mapping, base: str) -> "MassFunctionDraws":
        """Put together again what `arrays` gave.

        Parameters
        ----------
        arrays : dict of str to object
            The arrays by name.
        base : str
            Fingerprint of the prior.

        Returns
        -------
        MassFunctionDraws
            The mass functions.
        """
        coefficients = arrays["coefficients"]
        values = {p: arrays[f"cosmology.{p}"] for p in PARAMETERS}
        shape = coefficients.shape[:-2]
        nodes, ends = (np.broadcast_to(arrays[p], (*shape, arrays[p].size)).copy() for p in ("redshift_nodes", "ends"))
        return cls(values, coefficients, nodes, ends, base)

    @property
    def cosmologies(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """The parameters of the cosmology by name, as every population of a draw gives them."""
        return self.values

    def prior_under(self, prior: MassPrior) -> MassPrior:
        """Give the mass prior at one cosmology, with the nodes that it has.

        Parameters
        ----------
        prior : MassPrior
            The prior that this is relative to.

        Returns
        -------
        MassPrior
            The same nodes with the density of this cosmology.
        """
        basis = jnp.asarray(self.coefficients).T[:, :, None]
        return eqx.tree_at(
            lambda p: p.ln_density,
            prior,
            jnp.asarray(prior.ln_density) + chebyshev_sum(basis, _place(jnp.asarray(prior.ln_mass_nodes))),
        )

    def ln_ratio(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln p(ln M | z) minus that of the mass prior, for one cosmology.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the masses [ln Msun].
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        Float[Array, "..."]
            The difference; beyond the mass nodes it is that of the nearest node.
        """
        coefficients, nodes = jnp.asarray(self.coefficients), jnp.asarray(self.redshift_nodes)
        if nodes.shape[0] == 1:
            row = coefficients[0]
        else:
            upper = jnp.clip((nodes < z).sum(), 1, nodes.shape[0] - 1)
            t = jnp.clip((z - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
            row = (1 - t) * coefficients[upper - 1] + t * coefficients[upper]
        low, high = self.ends[0], self.ends[1]
        return chebyshev_sum(row, jnp.clip(2 * (ln_mass - low) / (high - low) - 1, -1.0, 1.0))

    def ln_density(self, ln_base, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln p(ln M | z), for one cosmology.

        Parameters
        ----------
        ln_base : Float[Array, "..."]
            ln of the mass prior's density at these masses and this redshift.
        ln_mass : Float[Array, "..."]
            ln of the masses [ln Msun].
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        Float[Array, "..."]
            ln of the normalised density per ln M.
        """
        return ln_base + self.ln_ratio(ln_mass, z)

    def range_of_draws(self, prior: MassPrior, z, centre, width):
        """Find the interval of ln M that holds mass function x Gaussian under every draw of a batch.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            One redshift.
        centre, width : Float[Array, "draw"]
            Mean and standard deviation of each draw's Gaussian [ln Msun].

        Returns
        -------
        low, high : Float[Array, ""]
            Ends of the interval [ln Msun], inside the mass nodes.
        narrowest : Float[Array, ""]
            Length of the shortest interval of an extreme draw.
        """
        (centres,), (widths,) = panels.corners([[centre], [width]])
        return panels.posterior_range(self.blocks_of_draws(prior, z), centres, widths)

    def blocks_of_draws(self, prior: MassPrior, z) -> panels.Blocks:
        """Bound the ln densities of all draws of a batch at one redshift over blocks of neighbouring mass cells.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        massmap_jax.prior.panels.Blocks
            The bounds.
        """
        blocks = prior.blocks_at(z)
        edges = jnp.append(blocks.left, blocks.right[-1])
        ratios = jax.vmap(lambda draw: draw.ln_ratio(edges, z))(self)
        least, most = ratios.min(axis=0), ratios.max(axis=0)
        # The ratio is smooth: between the ends of a block it leaves their range by far less than `panels.DEPTH`.
        lowest = blocks.lowest + jnp.minimum(least[:-1], least[1:])
        highest = blocks.highest + jnp.maximum(most[:-1], most[1:])
        return panels.Blocks(lowest, highest, blocks.left, blocks.right)


def refuse_snap(prior: MassPrior) -> None:
    """Refuse a mass prior that snaps to its redshift nodes, between which no cosmology moves it."""
    if prior.snap is not None:
        raise MassmapError("cosmologies need a prior that is continuous in redshift: make it without snap")


def _float64(prior: MassPrior) -> MassPrior:
    """The prior with host arrays in float64, which a float32 trace has not seen."""
    return jax.tree.map(lambda a: np.array(a, dtype=np.float64), prior)


@jax.jit
def _coefficients(prior: MassPrior, values) -> Float[Array, "draw j degree"]:
    """Coefficients of each cosmology."""
    solve = least_squares(prior)
    # Together, they share the windows of sigma(M).
    return jax.lax.map(lambda v: _ratio(prior, v) @ solve, values, batch_size=_AT_ONCE)


@jax.jit
def _slopes(prior: MassPrior, values) -> dict[str, Float[Array, "j degree"]]:
    """Derivatives of the coefficients in each parameter, at one cosmology."""
    solve = least_squares(prior)
    return jax.jacfwd(lambda v: _ratio(prior, v) @ solve)(values)


def _ratio(prior, values):
    """ln p at one cosmology minus that of the prior, at all nodes."""
    return prior.at_cosmology(cosmology_with(values)).ln_density - prior.ln_density


def _place(nodes):
    """Where mass nodes are between the ends, from -1 to 1."""
    return jnp.clip(2 * (nodes - nodes[0]) / (nodes[-1] - nodes[0]) - 1, -1.0, 1.0)


@jax.jit
def least_squares(prior: MassPrior) -> Float[Array, "mass degree"]:
    """Make the matrix from values at the mass nodes of a prior to Chebyshev coefficients."""
    basis = chebyshev_sum(jnp.eye(_DEGREE + 1)[:, :, None], _place(jnp.asarray(prior.ln_mass_nodes)))
    return jnp.linalg.pinv(basis.T).T
