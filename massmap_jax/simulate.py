"""Simulated fields: light cones of halos with clustered positions, luminosities and noise, and the true values.

The steps are those of the 2017 mocks: 40 x 40 arcmin, redshifts to 3.5, masses from the prior at each object's own
redshift, luminosities from the relation, 5 % noise. Unlike theirs, masses follow the density, cell widths included.
"""

import equinox as eqx
import jax
import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import DEFAULT_TABLE, MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

# The default table's cosmology (astropy's Planck18: arXiv:1807.06209, table 2, last column), flat, with matter and
# Lambda only. It only converts Mpc into angles, so the 0.1 % from radiation does not matter.
_H0 = 67.66  # km / s / Mpc
_OMEGA_M = 0.30966
_LIGHT_SPEED = 299792.458  # km / s
_ARCMIN_PER_RADIAN = 180 * 60 / np.pi
_BLOCK = 16_384


class SimulatedField(eqx.Module):
    """A simulated catalogue with everything that was drawn to make it.

    Attributes
    ----------
    catalogue : HaloCatalogue
        The n objects that were kept, with `truth_ln_mass` [ln Msun]. Ids are the int64 numbers 0 ... num_halos - 1
        under which the objects were drawn, so with a flux limit the ids have gaps and still match those of the
        unlimited field.
    ln_lum_true : Float[np.ndarray, "n"]
        ln of the luminosity before noise [ln of the relation's unit], float64.
    prior : MassPrior
        What masses were drawn from.
    relation : MassLuminosityRelation
        What luminosities were drawn from.
    flux_limit : float or None
        Lower limit on the observed luminosity, in the relation's unit.
    num_halos : int
        Number of objects drawn, before the flux limit; `len(field.catalogue)` is the number kept.

    See Also
    --------
    simulate_field : The function that makes it, with an example.
    """

    catalogue: HaloCatalogue
    ln_lum_true: np.ndarray
    prior: MassPrior
    relation: MassLuminosityRelation
    flux_limit: float | None = eqx.field(static=True)
    num_halos: int = eqx.field(static=True)


def simulate_field(
    key,
    num_halos: int = 20_000,
    *,
    side_arcmin: float = 40.0,
    z_max: float = 3.5,
    prior: MassPrior | None = None,
    relation: MassLuminosityRelation | None = None,
    sigma_ln_lum=0.05,
    flux_limit: float | None = None,
    centre: tuple[float, float] | None = (150.0, 2.2),
    redshift: tuple[np.ndarray, np.ndarray] | None = None,
    cluster_scale_mpc: float = 2.0,
    halos_per_cluster: float = 20.0,
) -> SimulatedField:
    """Draw a square field of halos: positions, redshifts, masses, luminosities, noise.

    **Masses are independent of the clustering**: each is drawn from the prior at its object's own redshift, whatever
    its neighbours are. Positions are clustered so that maps have structure, not as a model of bias.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key. The same key and arguments give the same field.
    num_halos : int
        Number of objects drawn, *before* the flux limit.
    side_arcmin : float
        Side of the square field [arcmin].
    z_max : float
        Highest redshift; the given dN/dz is cut there.
    prior : MassPrior, optional
        Density that masses are drawn from; `MassPrior.default` by default.
    relation : MassLuminosityRelation, optional
        One relation, not a batch of draws; the preset `bigmali2017` by default.
    sigma_ln_lum : float or array_like, (num_halos,)
        Width of the lognormal noise [ln L].
    flux_limit : float, optional
        Objects with an observed luminosity (after noise) below this are left out; in the relation's unit.
    centre : tuple of (float, float) or None
        Right ascension and declination of the field centre [deg]. None leaves positions as offsets (x, y) [arcmin] in
        a flat frame.
    redshift : tuple of (np.ndarray, np.ndarray), (node,), optional
        dN/dz as (z, dndz) at ascending nodes z, in any normalisation, linear in between. By default the comoving
        volume times the number density of halos above the lowest mass of the default table.
    cluster_scale_mpc : float
        Gaussian scale of a cluster of objects in each direction [comoving Mpc].
    halos_per_cluster : float
        Mean number of objects per cluster centre.

    Returns
    -------
    SimulatedField
        The catalogue with its true masses and luminosities.

    Raises
    ------
    MassmapError
        If a size is not positive, a noise width is negative, dN/dz is not a density, the relation has several draws,
        `z_max` lies beyond the prior, or no object passes the flux limit.

    Notes
    -----
    Positions are a Thomas process (Thomas 1949, Biometrika 36, 18; Neyman & Scott 1958, JRSS B 20, 1) with a fixed
    total: every object picks a cluster centre at random and is displaced from it by a Gaussian, folded back at the
    field's sides, which keeps the mean density uniform. Centres are spread evenly over the quantiles of dN/dz, so
    redshifts scatter about the given dN/dz as independent draws would; a real field of this size has sample variance
    in redshift as well.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> field = mm.simulate_field(jax.random.key(0), 200)
    >>> len(field.catalogue), field.catalogue.truth_ln_mass.shape
    (200, (200,))
    >>> bool(field.catalogue.redshift.max() < 3.5)
    True

    Only objects that are observed above a flux limit, under the ids that they have in the whole field:

    >>> bright = mm.simulate_field(jax.random.key(0), 200, flux_limit=1e4)
    >>> len(bright.catalogue) < 200 and set(bright.catalogue.ids) <= set(field.catalogue.ids)
    True
    """
    if not isinstance(num_halos, int | np.integer) or num_halos < 1:
        raise MassmapError(f"num_halos is {num_halos!r}, and a field needs a whole number of objects, at least 1")
    for name, value in [
        ("side_arcmin", side_arcmin),
        ("z_max", z_max),
        ("cluster_scale_mpc", cluster_scale_mpc),
        ("halos_per_cluster", halos_per_cluster),
    ]:
        if not (np.isfinite(value) and value > 0):
            raise MassmapError(f"{name} is {value!r}, and it must be a positive number")
    if flux_limit is not None and not (np.isfinite(flux_limit) and flux_limit > 0):
        raise MassmapError(f"flux_limit is {flux_limit!r}; give a positive luminosity, or None for no limit")
    prior = MassPrior.default() if prior is None else prior
    relation = MassLuminosityRelation.preset("bigmali2017") if relation is None else relation
    if relation.num_draws != 1:
        raise MassmapError(
            f"a field has one relation and this batch has {relation.num_draws} draws; pass one, say relation.draw(0)"
        )
    if z_max > prior.z_max:
        raise MassmapError(
            f"z_max is {z_max:g} and the prior ends at z = {prior.z_max:g}; lower z_max or extend the prior"
        )
    sigma = np.asarray(sigma_ln_lum, np.float64)
    if sigma.shape not in ((), (num_halos,)):
        raise MassmapError(f"sigma_ln_lum has shape {sigma.shape}; give one number or one per object, ({num_halos},)")
    sigma = np.broadcast_to(sigma, (num_halos,))
    if not np.all(np.isfinite(sigma) & (sigma >= 0)):
        row = int(np.argmin(np.isfinite(sigma) & (sigma >= 0)))
        raise MassmapError(f"sigma_ln_lum is {sigma[row]:g} in row {row}; give finite widths, not negative")

    key_place, key_light = jax.random.split(key)
    x_arcmin, y_arcmin, z = _clustered_positions(
        key_place,
        num_halos,
        side_arcmin,
        *_redshift_quantiles(redshift, z_max, prior.z_min),
        cluster_scale_mpc,
        max(1, round(num_halos / halos_per_cluster)),
    )
    ln_mass, ln_lum, noise = _masses_and_light(key_light, z, prior, relation)
    ln_lum_obs = ln_lum + sigma * noise

    kept = np.arange(num_halos, dtype=np.int64)
    if flux_limit is not None:
        kept = kept[ln_lum_obs >= np.log(flux_limit)]
        if kept.size == 0:
            raise MassmapError(
                f"no object of {num_halos} is brighter than flux_limit = {flux_limit:g}; "
                f"the brightest has {np.exp(ln_lum_obs.max()):g}"
            )
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum_obs[kept]),
        redshift=z[kept],
        sigma_ln_luminosity=sigma[kept],
        ra=x_arcmin[kept],
        dec=y_arcmin[kept],
        position_unit="arcmin",
        field_centre=centre,
        ids=kept,
        truth_mass=np.exp(ln_mass[kept]),
        lum_unit=relation.lum_unit,
    )
    return SimulatedField(
        catalogue=catalogue,
        ln_lum_true=ln_lum[kept],
        prior=prior,
        relation=relation,
        flux_limit=None if flux_limit is None else float(flux_limit),
        num_halos=int(num_halos),
    )


def _masses_and_light(key, z, prior, relation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ln M, ln L and standard normal noise at redshifts z, each (n,) float64, compiled once for all n."""
    columns = []
    for block, start in enumerate(range(0, z.size, _BLOCK)):
        part = z[start : start + _BLOCK]
        padded = np.pad(part, (0, _BLOCK - part.size), mode="edge")
        drawn = _draw_block(jax.random.fold_in(key, block), padded, prior, relation)
        columns.append(np.stack([np.asarray(column, np.float64) for column in drawn])[:, : part.size])
    return tuple(np.concatenate(columns, axis=1))


@jax.jit
def _draw_block(key, z, prior, relation):
    """ln M, ln L and noise scores of one block of redshifts."""
    key_mass, key_lum, key_noise = jax.random.split(key, 3)
    ln_mass = prior.sample(key_mass, z)
    return ln_mass, relation.sample(key_lum, ln_mass, z), jax.random.normal(key_noise, z.shape)


def _redshift_quantiles(redshift, z_max: float, z_min: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (z, cumulative fraction) of the given or default dN/dz between z_min and z_max."""
    if redshift is None:
        with np.load(DEFAULT_TABLE) as table:
            redshift = table["dndz_z"], table["dndz"]
    nodes, dndz = (np.asarray(a, np.float64) for a in redshift)
    if nodes.ndim != 1 or nodes.size < 2 or nodes.shape != dndz.shape or not np.all(np.diff(nodes) > 0):
        raise MassmapError("redshift must be two arrays of one length, z ascending and dN/dz at each")
    if not (np.all(np.isfinite(dndz)) and np.all(dndz >= 0)):
        raise MassmapError("dN/dz must be finite and nowhere negative")
    low, high = max(nodes[0], z_min, 0.0), min(nodes[-1], z_max)
    # dN/dz is linear between nodes, and its integral a parabola in each cell: with 4,000 more nodes, linear to 1e-7.
    inner = nodes[(nodes > low) & (nodes < high)]
    z = np.union1d(inner, np.linspace(low, high, 4001)) if high > low else inner
    density = np.interp(z, nodes, dndz)
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(z) * (density[1:] + density[:-1]) / 2)])
    if z.size == 0 or cumulative[-1] <= 0:
        raise MassmapError(f"dN/dz holds no objects between z = {low:g} and z = {min(z_max, nodes[-1]):g}")
    return z, cumulative / cumulative[-1]


def _clustered_positions(key, num_halos, side_arcmin, z_nodes, z_cumulative, scale_mpc, num_clusters):
    """Thomas process: offsets x (east) and y (north) [arcmin] in the field, and redshifts; (n,) float64."""
    key_centre, key_stratum, key_member, key_displacement = jax.random.split(key, 4)
    centre = np.asarray(jax.random.uniform(key_centre, (2, num_clusters)), np.float64)
    centre_x, centre_y = side_arcmin * (centre - 0.5)
    stratum = np.asarray(jax.random.uniform(key_stratum, (num_clusters,)), np.float64)
    centre_z = np.interp((np.arange(num_clusters) + stratum) / num_clusters, z_cumulative, z_nodes)

    member = np.asarray(jax.random.randint(key_member, (num_halos,), 0, num_clusters))
    displacement = scale_mpc * np.asarray(jax.random.normal(key_displacement, (3, num_halos)), np.float64)
    # At distances below 1 Mpc the angle would diverge: 1 Mpc is used, and the object lands anywhere in the field.
    arcmin_per_mpc = _ARCMIN_PER_RADIAN / np.maximum(_comoving_distance(centre_z), 1.0)[member]
    redshift_per_mpc = (_hubble(centre_z) / _LIGHT_SPEED)[member]
    half = side_arcmin / 2
    return (
        _fold(centre_x[member] + displacement[0] * arcmin_per_mpc, -half, half),
        _fold(centre_y[member] + displacement[1] * arcmin_per_mpc, -half, half),
        _fold(centre_z[member] + displacement[2] * redshift_per_mpc, z_nodes[0], z_nodes[-1]),
    )


def _fold(value, low, high):
    """Reflect at both ends until inside [low, high]: a uniform density stays uniform, unlike with clipping."""
    period = 2 * (high - low)
    phase = np.mod(value - low, period)
    return low + np.minimum(phase, period - phase)


def _hubble(z):
    """H(z) [km / s / Mpc] (Hogg 1999, astro-ph/9905116, eq. 14, flat)."""
    return _H0 * np.sqrt(_OMEGA_M * (1 + z) ** 3 + 1 - _OMEGA_M)


def _comoving_distance(z):
    """Comoving distance [Mpc] to redshifts z (Hogg 1999, astro-ph/9905116, eqs. 15 and 16, flat)."""
    grid = np.linspace(0.0, max(float(np.max(z)), 1e-3), 4001)
    rate = _LIGHT_SPEED / _hubble(grid)
    distance = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (rate[1:] + rate[:-1]) / 2)])
    return np.interp(z, grid, distance)
