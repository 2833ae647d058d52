"""`host_map`: mass maps of galaxies that may be satellites; each halo is counted once, at its central."""

import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.errors import MassmapError
from massmap_jax.labels import Labels, check_labels
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.images import MassMap
from massmap_jax.maps.mass_map import check_map
from massmap_jax.maps.pixels import SkyPixels
from massmap_jax.maps.repeats import repeats
from massmap_jax.maps.samples import MassSamples
from massmap_jax.maps.sums import MapSums
from massmap_jax.maps.units import MASS
from massmap_jax.posterior import host_kernel
from massmap_jax.posterior.host_result import HostPosterior
from massmap_jax.steps import Step


def host_map(
    key: Array,
    hosts: HostPosterior,
    grid: SkyPixels,
    *,
    num_draws: int = 100,
    keep_draws: bool = False,
    redshift_edges=None,
    footprint=None,
    unit: str = MASS,
    cosmology="Planck18",
    fwhm_arcmin: float | None = None,
    form: MapForm | None = None,
    chunk_size: int | None = None,
    watch: Callable[[str], None] = lambda stage: None,
) -> MassMap:
    """Sum the masses of the halos that galaxies live in, each halo once, in coherent draws of the whole field.

    Parameters
    ----------
    key : Key[Array, ""]
        Random key: one relation draw per map draw, and numbers keyed by the id of each galaxy, or group's central.
    hosts : HostPosterior
        What `host_posterior` returned for galaxies with positions.
    grid : PixelGrid or HealpixGrid
        Pixels.
    num_draws : int
        Map draws.
    keep_draws : bool
        Keep the image of every draw.
    redshift_edges : array_like, (slice + 1,), optional
        Edges of slices, as in `mass_map`.
    footprint : Bool[np.ndarray, "ny nx"], optional
        Pixels observed, as in `mass_map`.
    unit : {"Msun", "Msun/arcmin2", "Msun/Mpc2"}
        As in `mass_map`.
    cosmology : str or astropy.cosmology.FLRW
        For distances, as in `mass_map`.
    fwhm_arcmin : float, optional
        Smooth every draw by a Gaussian, as in `mass_map`.
    form : MapForm, optional
        The settings from `redshift_edges` on as one object, in place of them.
    chunk_size : int, optional
        Hosts per compiled call.
    watch : callable, optional
        Called with a line of text as hosts are added to the map.

    Returns
    -------
    MassMap
        Images of mean, error and quantiles. `nobj` counts the galaxies whose mass may be in a pixel: all of them, or in
        groups the centrals.

    Raises
    ------
    MassmapError
        For a result that is not of `host_posterior`, no positions, fewer than 2 draws, a halo profile, or a map that
        cannot be made.

    See Also
    --------
    massmap_jax.mass_map : The map of objects each of which is a halo of its own.

    Notes
    -----
    A map draw fixes one draw of the relation. Under it each galaxy is drawn as a central or a satellite, and adds its
    host's mass where it is a central and 0 where it is a satellite: the sum over galaxies of indicator(central) M runs
    over each halo once. Halos whose central is not in the catalogue are not in the map. A group has one central, whose
    place is that of the group's mass.

    Examples
    --------
    >>> import jax
    >>> import massmap_jax as mm
    >>> relation = mm.MassLuminosityRelation(alpha1=24.6, alpha2=0.35, alpha3=1e13, scatter=0.35)
    >>> satellites = mm.SchechterSatellites(norm=[-1.8, 1.0, -0.04], ratio=0.56, slope_low=-1.1)
    >>> galaxies = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[3e10, 5e10], redshift=[0.1, 0.1], sigma_ln_luminosity=0.1, ra=[150.0, 150.2], dec=[2.0, 2.1]
    ... )
    >>> hosts = mm.host_posterior(galaxies, mm.MassPrior.default(), relation, satellites)
    >>> grid = mm.PixelGrid.fit(galaxies.ra, galaxies.dec)
    >>> field = mm.host_map(jax.random.key(0), hosts, grid, num_draws=20)
    >>> bool(field.total_mass < hosts.mean_mass.sum())
    True
    """
    check_kinds("host_map", key=key)
    if not isinstance(hosts, HostPosterior):
        raise MassmapError(
            f"host_map needs the result of host_posterior, and was given {type(hosts).__name__}: a map of objects that "
            "are all centrals is mass_map's"
        )
    if hosts.catalogue.ra is None:
        raise MassmapError("the catalogue has no positions: a map needs ra and dec")
    if num_draws < 2:
        raise MassmapError(f"number of map draws is {num_draws}: give at least 2")
    given = MapForm(unit, redshift_edges, footprint, fwhm_arcmin, cosmology=cosmology)
    if form is not None and not eqx.tree_equal(given, MapForm()):
        raise MassmapError("the map's form is given whole, as form=, and in parts beside it: give one or the other")
    form = given if form is None else form
    if form.halo_profile is not None:
        raise MassmapError("maps of hosts count each halo in its central's pixel: leave halo_profile out")
    check_labels(map=Labels("the map", cosmology=form.distances and form.cosmology), mass_prior=hosts.prior)

    # Satellites of known groups hold no mass of their own.
    rows = hosts.hosts.central_row if hosts.in_groups else np.arange(len(hosts))
    catalogue, usable = hosts.catalogue.subset(rows), hosts.usable[rows]
    check_map(catalogue, usable, grid, form, num_draws, keep_draws=keep_draws)
    placed = np.isfinite(np.asarray(catalogue.ra)) & np.isfinite(np.asarray(catalogue.dec))
    if (twice := repeats(catalogue, usable & placed)) is not None:
        warnings.warn(twice, stacklevel=2)
    key_relation, key_mass = jax.random.split(key)
    batch = hosts.relation.as_batch()
    relations = batch.pick(key_relation, num_draws)

    def draw(places):
        of, done = hosts.hosts.of_row[rows[places]], 0
        settings = hosts.prior, relations, hosts.satellites, key_mass, chunk_size
        for index, (ln_mass, is_central) in host_kernel.draws(hosts.hosts, of, *settings):
            yield index, np.where(is_central, ln_mass, -np.inf)
            done += index.size
            watch(Step("mass map", done, places.size, "hosts"))

    sums = MapSums(grid, MassSamples(hosts.prior, relations, key_mass, "exact"), form)
    sums.add_masses(catalogue, usable, hosts.mean_central_mass[rows], draw)
    return sums.finish(ess=batch.effective_draws, relation_from=hosts.relation_from, keep_draws=keep_draws)
