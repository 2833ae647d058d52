"""How masses change with the cosmology: d <ln M> / d sigma8 and the like, of each object and of their sum."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from massmap_jax import devices
from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.flags import UNUSABLE
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Objects, flag_outside_prior
from massmap_jax.likelihood.selection import NoSelection
from massmap_jax.posterior import kernel
from massmap_jax.posterior.requests import settings_of
from massmap_jax.prior import panels
from massmap_jax.prior.cosmology_draws import PARAMETERS
from massmap_jax.prior.mass_function_draws import MassFunctionDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.with_cosmology import joined


class CosmologyDerivatives(NamedTuple):
    """Derivatives of masses in the parameters of the cosmology, each with the others held.

    Attributes
    ----------
    ln_mass : dict of str to Float[np.ndarray, "halo"]
        Derivative of the posterior mean of ln M [ln Msun]; NaN for rows that cannot be used.
    mass : dict of str to Float[np.ndarray, "halo"]
        Derivative of the posterior mean of M [Msun].
    ln_total : dict of str to float
        Derivative of ln of the sum of the posterior means of M, over the usable rows.
    """

    ln_mass: dict[str, Float[np.ndarray, "halo"]]
    mass: dict[str, Float[np.ndarray, "halo"]]
    ln_total: dict[str, float]


def cosmology_derivatives(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    cosmology: CosmologyParameters | str | None = None,
    *,
    relation_from: RelationFrom | None = None,
    selection=None,
) -> CosmologyDerivatives:
    """Differentiate the posterior means of masses in the parameters of the cosmology.

    Parameters
    ----------
    catalogue : HaloCatalogue
        One row per object.
    prior : MassPrior
        The mass prior, a mass function of Tinker et al.: see `MassPrior.fit`.
    relation : MassLuminosityRelation
        One relation or a batch of draws; it is held while the cosmology changes.
    cosmology : CosmologyParameters or str, optional
        Where the mass function is differentiated; by default the cosmology that the prior states.
    relation_from : {"this_catalogue", "other_data", "fixed_draws"}, optional
        As in `mass_posterior`.
    selection : Selection, optional
        As in `mass_posterior`.

    Returns
    -------
    CosmologyDerivatives
        Derivatives in omega_m, sigma8, h, n_s and omega_b.

    Raises
    ------
    MassmapError
        A prior that is no such mass function or does not state its cosmology, redshifts that are not exact, another
        kind of relation, or no usable row.

    See Also
    --------
    massmap_jax.with_cosmology : The error of masses by that of the cosmology, exactly.

    Notes
    -----
    Under one draw of the relation, d <ln M> / d theta = Cov[ln M, d ln p(ln M | z) / d theta] over the posterior. Here
    the posterior itself is differentiated, by automatic differentiation. The relation is held: one that was fitted to
    luminosities under a mass function moves with the cosmology too, and more than these derivatives say.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[1.0, 9.0], redshift=[0.3, 0.3], sigma_ln_luminosity=0.1)
    >>> prior = mm.MassPrior.from_cosmology("Planck18", redshift=[0.0, 1.0], dlog10_mass=0.1)
    >>> relation = mm.MassLuminosityRelation(alpha1=0.0, alpha2=1.0, scatter=0.5, alpha3=1e14)
    >>> found = mm.cosmology_derivatives(catalogue, prior, relation)
    >>> low, high = found.ln_mass["sigma8"]
    >>> bool(0 < low < high)
    True
    """
    check_kinds("cosmology_derivatives", catalogue=catalogue, prior=prior, relation=relation)
    relation_from = check_relation_from(relation, relation_from)
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior)
    if catalogue.redshift_distributions is not None:
        raise MassmapError("derivatives in the cosmology need exact redshifts, and these are distributions")
    if cosmology is None and prior.cosmology == "unknown":
        raise MassmapError("the mass prior does not state its cosmology: say where to differentiate, cosmology=")
    if not isinstance(cosmology, CosmologyParameters):
        cosmology = CosmologyParameters.of(prior.cosmology if cosmology is None else cosmology)
    at = {name: float(getattr(cosmology, name)) for name in PARAMETERS}
    slopes = MassFunctionDraws.slopes(prior, at)
    one = MassFunctionDraws.of(prior, {name: np.array([value]) for name, value in at.items()})
    # The polynomials start from the prior itself, whatever its cosmology: 0.
    one = eqx.tree_at(lambda m: m.coefficients, one, np.zeros_like(one.coefficients))
    batch = relation.as_batch()
    functions = jax.tree.map(lambda a: np.repeat(a, batch.num_draws, axis=0), one)
    paired = joined(batch, functions, batch.log_weight)
    usable = np.flatnonzero((flag_outside_prior(catalogue, prior) & UNUSABLE) == 0)
    halos = Objects.of(catalogue, usable, prior, None, need_keys=False)
    kernel.check_noise(halos, paired, "analytic", prior)
    if relation_from == "other_data":
        kernel.check_chance(halos, selection)
    settings = settings_of("analytic", relation_from, 1)
    stacked = np.stack([slopes[name] for name in PARAMETERS])
    common = devices.everywhere((prior, paired, NoSelection() if selection is None else selection, stacked))

    def chunk(i, low, high, **group):
        return _chunk(halos.take(i), low, high, *common, **group, **settings)

    number = len(catalogue)
    mean, d_ln_mass, d_mass = np.full(number, np.nan), *(np.full((number, len(PARAMETERS)), np.nan) for _ in range(2))
    for rows, (means, slopes_of) in kernel.run(chunk, halos, prior, paired, kernel.auto_chunk(paired)):
        mean[usable[rows]] = means[:, 1]
        d_ln_mass[usable[rows]], d_mass[usable[rows]] = slopes_of[:, 0], slopes_of[:, 1]
    total = np.nansum(d_mass, axis=0) / np.nansum(mean)
    return CosmologyDerivatives(
        dict(zip(PARAMETERS, d_ln_mass.T, strict=True)),
        dict(zip(PARAMETERS, d_mass.T, strict=True)),
        dict(zip(PARAMETERS, total.tolist(), strict=True)),
    )


@devices.over_halos(*("halos", "low", "high"), static=("method", "kind", "normalise", "wide", "num_panels", "num_lum"))
def _chunk(halos, low, high, prior, relation, selection, slopes, *, num_panels, **settings):
    """Means of ln M and M, and their derivatives in the cosmology: (halo, 2) and (halo, 2, parameter)."""
    norm, key = prior.norm_coefficients(), jax.random.key(0)
    slopes = jnp.asarray(slopes, dtype=float)

    def one(halo, low, high):
        ln_mass = panels.panel_nodes(low, high, num_panels)
        weights = panels.panel_weights(low, high, num_panels)

        def means(change):
            moved = eqx.tree_at(
                lambda r: r.population.coefficients,
                relation,
                jnp.asarray(relation.population.coefficients, dtype=float) + jnp.tensordot(change, slopes, 1),
            )
            panel = kernel.mixture_panel(
                halo, low, high, prior, norm, moved, selection, key, num_panels=num_panels, **settings
            )
            share = weights * panel.density
            return jnp.stack([share @ ln_mass, share @ jnp.exp(ln_mass)]) / share.sum()

        still = jnp.zeros(slopes.shape[0], dtype=slopes.dtype)
        return means(still), jax.jacfwd(means)(still)

    return jax.vmap(one, (halos.axes(), 0, 0))(halos, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))
