"""Simulated fields: light cones of halos with clustered positions, luminosities and noise, and the true values.

The steps are those of the 2017 mocks: 40 x 40 arcmin, redshifts to 3.5, masses from the prior at each object's own
redshift, luminosities from the relation, 5 % noise. Unlike theirs, masses follow the density, cell widths included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import equinox as eqx
import jax
import numpy as np

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.observables import Observables
from massmap_jax.choices import ChosenBy
from massmap_jax.errors import MassmapError
from massmap_jax.halo.lognormal import LightCone, lognormal_density, places_in_density
from massmap_jax.likelihood.selection import Selection, described
from massmap_jax.prior.mass_prior import DEFAULT_TABLE, MassPrior
from massmap_jax.relation.law import MassLuminosityRelation, Relation
from massmap_jax.relation.several import names_of

if TYPE_CHECKING:  # NumPyro, which these import, is slow to load
    from massmap_jax.relation.calibration import CalibrationMasses
    from massmap_jax.relation.selected_on import SelectedOn, SelectedOnMass

# The default table's cosmology (astropy's Planck18: arXiv:1807.06209, table 2, last column), flat, with matter and
# Lambda only. It only converts Mpc into angles, so the 0.1 % from radiation does not matter.
_H0 = 67.66  # km / s / Mpc
_OMEGA_M = 0.30966
_LIGHT_SPEED = 299792.458  # km / s
_ARCMIN_PER_RADIAN = 180 * 60 / np.pi
_BLOCK = 16_384
Clustering = Literal["thomas", "lognormal"]


@dataclass(frozen=True)
class MassMeasurements:
    """How the masses of some objects of a simulated field are measured.

    Parameters
    ----------
    number : int
        Number of objects with a measured mass.
    sigma_ln_mass : float, optional
        Error of ln M_obs.
    bias : float, optional
        B0 in ln M_obs = ln M + B0 + scatter + error.
    scatter : float, optional
        Intrinsic scatter of ln M_obs at fixed mass.
    scatter_correlation : float, optional
        Correlation of that scatter with the scatter of ln L.
    chosen_by : {"random", "luminosity", "mass"}, optional
        Which objects have one: any of them, the brightest, or those of the largest measured mass.
    """

    number: int
    sigma_ln_mass: float = 0.2
    bias: float = 0.0
    scatter: float = 0.0
    scatter_correlation: float = 0.0
    chosen_by: ChosenBy = "random"


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
    relation : Relation
        What luminosities were drawn from.
    flux_limit : float or None
        Lower limit on the observed luminosity, in the relation's unit.
    num_halos : int
        Number of objects drawn, before any selection; `len(field.catalogue)` is the number kept.
    calibration : CalibrationMasses or None
        Measured masses of the objects, with the true bias, scatter and correlation as beliefs.

    See Also
    --------
    simulate_field : The function that makes it, with an example.
    """

    catalogue: HaloCatalogue
    ln_lum_true: np.ndarray
    prior: MassPrior
    relation: Any  # a Relation, but mostly a power law, whose parameters one wants to see
    flux_limit: float | None = eqx.field(static=True)
    num_halos: int = eqx.field(static=True)
    calibration: "CalibrationMasses | None" = None


def simulate_field(
    key,
    num_halos: int = 20_000,
    *,
    side_arcmin: float = 40.0,
    z_max: float = 3.5,
    prior: MassPrior | None = None,
    relation: Relation | None = None,
    sigma_ln_lum=0.05,
    flux_limit: float | None = None,
    sigma_observables: Mapping[str, float] | None = None,
    measured: MassMeasurements | None = None,
    selected_on: "Selection | SelectedOn | SelectedOnMass | None" = None,
    centre: tuple[float, float] | None = (150.0, 2.2),
    redshift: tuple[np.ndarray, np.ndarray] | None = None,
    cluster_scale_mpc: float = 2.0,
    halos_per_cluster: float = 20.0,
    clustering: Clustering = "thomas",
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
    relation : Relation, optional
        One relation, not a batch of draws; the preset `bigmali2017` by default. With a `MultiObservableRelation` the
        catalogue has the further observables.
    sigma_ln_lum : float or array_like, (num_halos,)
        Width of the lognormal noise [ln L].
    flux_limit : float, optional
        Objects with an observed luminosity (after noise) below this are left out; in the relation's unit.
    sigma_observables : dict of str to float, optional
        Errors in ln of the further observables of a `MultiObservableRelation`, 0.1 where none is given.
    measured : MassMeasurements, optional
        Masses that are measured for some of the objects that are kept.
    selected_on : Selection, SelectedOn or SelectedOnMass, optional
        Only objects with a high value of the luminosity, of another observable or of the measured mass are kept, each
        with the probability that the selection gives it: a `TabulatedSelection` is a completeness. A measured mass that
        decides is drawn as `measured` says.
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
    clustering : {"thomas", "lognormal"}
        What positions follow: clusters of objects of one size, or a lognormal density (`massmap_jax.halo.lognormal`)
        with the large-scale structure of the linear power spectrum of Planck18. Redshifts, masses and luminosities are
        the same for both, bit for bit.

    Returns
    -------
    SimulatedField
        The catalogue with its true masses and luminosities.

    Raises
    ------
    MassmapError
        If a size is not positive, a noise width is negative, dN/dz is not a density, the relation has several draws,
        `z_max` lies beyond the prior, no object passes the selection, more masses are to be measured than there are
        objects, or a selection is on something that is not simulated.

    Notes
    -----
    Positions are a Thomas process (Thomas 1949, Biometrika 36, 18; Neyman & Scott 1958, JRSS B 20, 1) with a fixed
    total: every object picks a cluster centre at random and is displaced from it by a Gaussian, folded back at the
    field's sides, which keeps the mean density uniform. Centres are spread evenly over the quantiles of dN/dz, so
    redshifts scatter about the given dN/dz as independent draws would; a real field of this size has sample variance
    in redshift as well.

    With "lognormal" the place on the sky of each object is drawn from the density at its redshift, which goes on from
    one redshift to the next. The correlation across the line of sight is that of the linear power spectrum today at
    every redshift and for every mass, less its mean over the field, and in fields below a few degrees by up to a third
    less than that, as there are as many objects at a redshift as without structure. Cells are at least 1 comoving Mpc
    wide, and at least 1 / 80 of the width of the box around the field: below that there is no structure.

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

    A field with a richness whose scatter is correlated with that of the luminosity, and ten measured masses:

    >>> richness = mm.MassLuminosityRelation(alpha1=3.0, alpha2=1.0, alpha3=1e14, scatter=0.3)
    >>> relation = mm.MultiObservableRelation(
    ...     alpha1=1.0, alpha2=0.8, alpha3=1e14, scatter=0.3,
    ...     others={"richness": richness}, scatter_correlation=[[1, 0.5], [0.5, 1]]
    ... )
    >>> measured = mm.MassMeasurements(10, bias=-0.1, scatter=0.1)
    >>> field = mm.simulate_field(jax.random.key(0), 200, relation=relation, measured=measured)
    >>> field.catalogue.observables.names, field.calibration.number
    (('richness',), 10)
    """
    check_kinds("simulate_field", key=key)
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
    if clustering not in get_args(Clustering):
        raise MassmapError(f"clustering is {clustering!r}, and it must be one of {', '.join(get_args(Clustering))}")
    if flux_limit is not None and not (np.isfinite(flux_limit) and flux_limit > 0):
        raise MassmapError(f"flux_limit is {flux_limit!r}; give a positive luminosity, or None for no limit")
    prior = MassPrior.default() if prior is None else prior
    relation = MassLuminosityRelation.preset("bigmali2017") if relation is None else relation
    if relation.num_draws != 1:
        raise MassmapError(
            f"a field has one relation and this batch has {relation.num_draws} draws; pass one, say relation.draw(0)"
        )
    _check_several(relation, sigma_observables, measured, selected_on)
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
    if clustering == "lognormal":
        x_arcmin, y_arcmin = _places_in_lognormal(jax.random.fold_in(key, 4), z, side_arcmin)
    ln_mass, ln_lum, noise = _masses_and_light(key_light, z, prior, relation)
    ln_lum_obs = ln_lum + sigma * noise
    key_several = jax.random.fold_in(key, 1)
    observables = _further_observables(key_several, ln_mass, ln_lum, z, relation, sigma_observables)
    ln_mass_obs = _measured_masses(key_several, ln_mass, ln_lum, z, relation, measured)

    kept = np.arange(num_halos, dtype=np.int64)
    if selected_on is not None:
        chance = _chance(selected_on, observables, ln_mass_obs, ln_lum_obs, z)
        kept = kept[np.asarray(jax.random.uniform(jax.random.fold_in(key, 2), (num_halos,))) < chance]
        if kept.size == 0:
            raise MassmapError(f"no object of {num_halos} is selected: {described(selected_on)}")
    if flux_limit is not None:
        kept = kept[ln_lum_obs[kept] >= np.log(flux_limit)]
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
        lum_unit=getattr(relation, "lum_unit", ""),
    )
    if observables is not None:
        catalogue = catalogue.with_observables(observables.take(kept))
    return SimulatedField(
        catalogue=catalogue,
        ln_lum_true=ln_lum[kept],
        prior=prior,
        relation=relation,
        flux_limit=None if flux_limit is None else float(flux_limit),
        num_halos=int(num_halos),
        calibration=_calibration(jax.random.fold_in(key, 3), ln_mass_obs, ln_lum_obs, kept, measured, prior),
    )


def _check_several(relation, sigma_observables, measured, selected_on) -> None:
    """Refuse errors, measurements and selections of what is not simulated."""
    names = names_of(relation)
    unknown = [name for name in (sigma_observables or {}) if name not in names]
    if unknown:
        raise MassmapError(
            f"an error is given for {', '.join(unknown)}, and the relation has {', '.join(names) or 'the luminosity'}"
            " only"
        )
    observable = getattr(selected_on, "observable", None)
    on_luminosity = hasattr(selected_on, "log_prob")
    if observable is not None and observable not in names:
        raise MassmapError(
            f"the selection is on {observable}, which the relation does not have: give a"
            " MultiObservableRelation with it, or flux_limit= for the luminosity"
        )
    if selected_on is not None and observable is None and not on_luminosity and measured is None:
        raise MassmapError("a selection on the measured mass needs measured=, which says how masses are measured")
    if measured is None:
        return
    if not (measured.sigma_ln_mass > 0 and measured.scatter >= 0 and abs(measured.scatter_correlation) < 1):
        raise MassmapError(
            f"measured masses have an error of {measured.sigma_ln_mass:g}, a scatter of {measured.scatter:g} and a"
            f" correlation of {measured.scatter_correlation:g}: the error is above 0, the scatter at least 0, and the"
            " correlation between -1 and 1"
        )


def _scores(ln_mass, ln_lum, z, relation) -> np.ndarray:
    """Scatter of each luminosity about its mean, in units of the scatter; 0 where there is none."""
    off = ln_lum - np.asarray(relation.mean_ln_lum(ln_mass, z), np.float64)
    scatter = np.broadcast_to(np.asarray(relation.scatter_ln_lum(ln_mass, z), np.float64), off.shape)
    return np.divide(off, scatter, out=np.zeros_like(off), where=scatter > 0)


def _further_observables(key, ln_mass, ln_lum, z, relation, sigma_observables) -> Observables | None:
    """Observables beside the luminosity, whose scatters are correlated with that of the luminosity drawn already."""
    names = names_of(relation)
    if not names:
        return None
    normals = np.asarray(jax.random.normal(key, (2, len(names), z.size)), np.float64)
    factor = np.linalg.cholesky(np.reshape(relation.scatter_correlation, (1 + len(names), 1 + len(names))))
    scatters = factor[1:] @ np.vstack([_scores(ln_mass, ln_lum, z, relation), normals[0]])
    values, sigma = {}, {}
    for i, (name, law) in enumerate(zip(names, relation.laws, strict=True)):
        sigma[name] = float((sigma_observables or {}).get(name, 0.1))
        mean = np.asarray(law.mean_ln_lum(ln_mass, z), np.float64)
        values[name] = np.exp(mean + float(np.squeeze(law.scatter)) * scatters[i] + sigma[name] * normals[1, i])
    return Observables.from_arrays(values, sigma)


def _measured_masses(key, ln_mass, ln_lum, z, relation, measured) -> np.ndarray | None:
    """ln of a measured mass of every object."""
    if measured is None:
        return None
    own, error = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (2, z.size)), np.float64)
    along = measured.scatter_correlation
    score = along * _scores(ln_mass, ln_lum, z, relation) + np.sqrt(1 - along**2) * own
    return ln_mass + measured.bias + measured.scatter * score + measured.sigma_ln_mass * error


def _chance(selected_on, observables, ln_mass_obs, ln_lum_obs, z) -> np.ndarray:
    """Probability that each object is in the catalogue."""
    if hasattr(selected_on, "log_prob"):  # one on the luminosity
        return np.exp(np.asarray(selected_on.log_prob(ln_lum_obs, z)))
    if hasattr(selected_on, "observable"):
        values = observables.ln_value[:, observables.names.index(selected_on.observable)]
    else:
        values = ln_mass_obs
    return np.exp(np.asarray(selected_on.ln_chance(values, z)))


def _calibration(key, ln_mass_obs, ln_lum_obs, kept, measured, prior) -> "CalibrationMasses | None":
    """Measured masses of the objects that were chosen among those that are kept."""
    if measured is None:
        return None
    from massmap_jax.relation.calibration import CalibrationMasses

    if not 1 <= measured.number <= kept.size:
        raise MassmapError(f"{measured.number} masses are to be measured, and the field has {kept.size} objects")
    order = {
        "random": lambda: np.asarray(jax.random.uniform(key, kept.shape)),
        "luminosity": lambda: -ln_lum_obs[kept],
        "mass": lambda: -ln_mass_obs[kept],
    }
    if measured.chosen_by not in order:
        raise MassmapError(f"masses chosen by {measured.chosen_by!r} are not known: give {', '.join(order)}")
    mass = np.full(kept.size, np.nan)
    chosen = np.argsort(order[measured.chosen_by]())[: measured.number]
    mass[chosen] = np.exp(ln_mass_obs[kept[chosen]])
    return CalibrationMasses.from_arrays(
        mass=mass,
        sigma_ln_mass=measured.sigma_ln_mass,
        bias=measured.bias,
        scatter=measured.scatter,
        scatter_correlation=measured.scatter_correlation,
        chosen_by=measured.chosen_by,
        mass_definition=prior.mass_definition,
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


def _places_in_lognormal(key, z, side_arcmin) -> tuple[np.ndarray, np.ndarray]:
    """Offsets x (east) and y (north) [arcmin] of objects at redshifts z, in a lognormal density; (n,) float64."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    distance = _comoving_distance(z)
    cone = LightCone.around(side_arcmin, float(distance.min()), float(distance.max()))
    return places_in_density(generator, lognormal_density(generator, cone), cone, distance, side_arcmin)


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
