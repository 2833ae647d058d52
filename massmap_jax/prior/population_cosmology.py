"""PopulationUnderCosmology: a population whose mass function has a cosmology of its own, draw by draw.

The population is the mass function of the cosmology, as it is or times a completeness. What the cosmology changes of
the mass prior is `MassFunctionDraws`; fit and masses share it. Forms that are no part of a mass function, such as a
normal, have no cosmology.
"""

from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_function_draws import MassFunctionDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import Lattice, Population, PopulationDraws


class PopulationUnderCosmology(PopulationDraws):
    """Values of a population's parameters and the mass function of a cosmology: one set, or a batch of draws.

    Attributes
    ----------
    functions : MassFunctionDraws
        The mass functions, draw by draw.

    See Also
    --------
    massmap_jax.prior.population.PopulationDraws : The same under one cosmology.
    """

    functions: MassFunctionDraws = eqx.field(kw_only=True)

    @staticmethod
    def check(population: Population) -> None:
        """Refuse a form of the population that no cosmology changes.

        Parameters
        ----------
        population : Population
            The form.

        Raises
        ------
        MassmapError
            For a form that is no part of a mass function.
        """
        if population.kind not in ("fixed", "hmf_completeness"):
            raise MassmapError(
                f"the population {population.name!r} is no part of a mass function, so that masses say nothing of the"
                " cosmology: give population 'hmf_completeness' or 'fixed', or leave the draws of the cosmology out"
            )

    @classmethod
    def under(
        cls, population: Population, values: Mapping, pivot_z, base: Lattice, prior: MassPrior, functions
    ) -> "PopulationUnderCosmology":
        """Make one set of values of a population under one cosmology, all of which may be traced by JAX.

        Parameters
        ----------
        population : Population
            The form, which `check` lets pass.
        values : dict of str to Float[Array, ""]
            Its parameters.
        pivot_z : Float[Array, ""]
            The redshift z_p that `centre` belongs to.
        base : Lattice
            The mass prior at the redshifts of the lattice.
        prior : MassPrior
            The mass prior.
        functions : MassFunctionDraws
            The mass function of one cosmology, relative to the prior.

        Returns
        -------
        PopulationUnderCosmology
            The values.
        """
        moved = base.under(functions.prior_under(prior)) if population.kind == "hmf_completeness" else base
        plain = PopulationDraws.of(population, values, pivot_z, moved)
        return cls(
            plain.values,
            plain.ln_norm,
            plain.lattice,
            plain.kind,
            plain.components,
            plain.base,
            functions=functions,
        )

    @property
    def alone(self) -> PopulationDraws:
        """The same without its mass function, for a mass prior that is this mass function."""
        return PopulationDraws(self.values, self.ln_norm, self.lattice, self.kind, self.components, self.base)

    @property
    def cosmologies(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """The parameters of the cosmology by name."""
        return self.functions.values

    def ln_density(self, ln_base, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln p(ln M | z); arguments as in `PopulationDraws.ln_density`, of the mass prior itself."""
        return super().ln_density(self.functions.ln_density(ln_base, ln_mass, z), ln_mass, z)

    def posterior_range(self, prior: MassPrior, z, centre, width):
        """Find the interval of ln M that holds population x Gaussian; as in `PopulationDraws.posterior_range`."""
        return super().posterior_range(self.functions.prior_under(prior), z, centre, width)

    def range_of_draws(self, prior: MassPrior, z, centre, width):
        """Find the interval that holds it under every draw; as in `PopulationDraws.range_of_draws`."""
        return self._range_of_draws_in(self.functions.blocks_of_draws(prior, z), z, centre, width)
