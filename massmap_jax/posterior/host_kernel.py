"""Posterior density of ln M of the host of one galaxy or group on panels, and the loop over many of them.

For a galaxy there are two densities, that of the host if it is a central and that if it is a satellite; their integrals
are the odds of the type. For a group there is one. `host_posterior` reads summaries off them, `host_map` draws from
them.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int, UInt

from massmap_jax import devices
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.membership import Membership
from massmap_jax.keys import base_normals
from massmap_jax.likelihood.integrals import log_likelihood
from massmap_jax.posterior import kernel
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior

# Hosts in a chunk: the two densities of each stay in cache on a CPU.
_CHUNK = 256
# Points at which the range of a posterior is searched, over the whole mass prior; more where it is narrow.
_LEAST_POINTS, _MOST_POINTS, _LEAST_SCATTER = 96, 1024, 0.02
# Outside of its range a posterior is below exp(-30) of its peak.
_DEPTH = 30.0
# Standard deviations in a panel of 8 nodes.
_PER_PANEL = 1.9
_LEAST_PANELS, _MOST_PANELS = 32, 1024
# Masses at which the number of satellites above the limit is computed; it is interpolated by cubics.
_NUMBER_NODES = 128
_central_likelihood = log_likelihood("analytic", "lognormal")


class Members(NamedTuple):
    """Satellites of some groups, padded to one number, and the limit above which they are in the catalogue.

    Attributes
    ----------
    ln_lum, sigma : Float[Array, "host member"]
        ln of their luminosities, and errors in ln L.
    there : Bool[Array, "host member"]
        False for padding.
    ln_lum_min, noise : Float[Array, "host"]
        ln of the limit, and the error of luminosities near it.
    """

    ln_lum: Float[Array | np.ndarray, "*host member"]
    sigma: Float[Array | np.ndarray, "*host member"]
    there: Bool[Array | np.ndarray, "*host member"]
    ln_lum_min: Float[Array | np.ndarray, "*host"]
    noise: Float[Array | np.ndarray, "*host"]


class HostData(NamedTuple):
    """What the kernels take of each host: one galaxy, or the central of a group with its members.

    Attributes
    ----------
    ln_lum, sigma, z : Float[Array, "host"]
        Of the galaxy, or of the central.
    ln_central, ln_satellite : Float[Array, "host"]
        ln likelihood of what is known of its type.
    id_hash : UInt[Array, "host 2"]
        Keys its random numbers.
    members : Members or None
        Satellites, for groups.
    """

    ln_lum: Float[Array | np.ndarray, "*host"]
    sigma: Float[Array | np.ndarray, "*host"]
    z: Float[Array | np.ndarray, "*host"]
    ln_central: Float[Array | np.ndarray, "*host"]
    ln_satellite: Float[Array | np.ndarray, "*host"]
    id_hash: UInt[Array | np.ndarray, "*host 2"]
    members: Members | None = None


class Hosts(eqx.Module):
    """All hosts of a catalogue: its usable galaxies, or its groups; host arrays.

    Attributes
    ----------
    central_row : Int[np.ndarray, "host"]
        Row of the galaxy, or of the group's central.
    of_row : Int[np.ndarray, "galaxy"]
        Host of each row; -1 where there is none.
    data : HostData
        Without members.
    member_rows : Int[np.ndarray, "member"] or None
        Rows of all satellites, those of a group side by side; None where galaxies are taken one by one.
    first, number : Int[np.ndarray, "host"]
        Where those of each group begin, and how many there are.
    ln_lum, sigma : Float[np.ndarray, "galaxy"]
        Of all rows.
    ln_lum_min : Float[np.ndarray, "host"]
        ln of the limit at the redshift of each group.
    noise : Float[np.ndarray, "host"]
        Mean error of the group's luminosities.
    """

    central_row: np.ndarray
    of_row: np.ndarray
    data: HostData
    member_rows: np.ndarray | None
    first: np.ndarray
    number: np.ndarray
    ln_lum: np.ndarray
    sigma: np.ndarray
    ln_lum_min: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(
        cls, catalogue: HaloCatalogue, usable: Bool[np.ndarray, " galaxy"], membership: Membership | None, limit=None
    ) -> "Hosts":
        """Collect the hosts of the usable rows.

        Parameters
        ----------
        catalogue : HaloCatalogue
            The galaxies.
        usable : Bool[np.ndarray, "galaxy"]
            Rows to use; in groups all of a group or none.
        membership : Membership or None
            What is known of their types.
        limit : FluxLimit or RedshiftLimit, optional
            Which members of groups are in the catalogue.

        Returns
        -------
        Hosts
            In the order of the rows (of the centrals).
        """
        rows, number = np.flatnonzero(usable), len(catalogue)
        group = None if membership is None else membership.group
        of_row = np.full(number, -1)
        member_rows, first, counts = None, np.zeros(rows.size, int), np.zeros(rows.size, int)
        ln_lum_min, noise = np.zeros(rows.size), np.zeros(rows.size)
        if group is None or membership is None:
            of_row[rows] = np.arange(rows.size)
        else:
            is_central = membership.central == 1
            of_group = np.full(group.max() + 1, -1)
            centrals = rows[is_central[rows]]
            of_group[group[centrals]] = np.arange(centrals.size)
            of_row[rows] = of_group[group[rows]]
            satellites = rows[~is_central[rows]]
            member_rows = satellites[np.argsort(of_row[satellites], kind="stable")]
            counts = np.bincount(of_row[satellites], minlength=centrals.size)
            first = np.cumsum(counts) - counts
            noise = np.bincount(of_row[rows], catalogue.sigma_ln_lum[rows], centrals.size) / (counts + 1)
            rows = centrals
            ln_lum_min = np.asarray(limit.limit_of(catalogue.redshift[rows], 0.0), dtype=np.float64)
        if membership is None:
            known = np.zeros(rows.size), np.zeros(rows.size)
        else:
            with np.errstate(divide="ignore"):
                known = np.log(membership.central[rows]), np.log(membership.satellite[rows])
        of_galaxy = catalogue.ln_lum_obs[rows], catalogue.sigma_ln_lum[rows], catalogue.redshift[rows]
        data = HostData(*of_galaxy, known[0], known[1], catalogue.hashes[rows])
        columns = catalogue.ln_lum_obs, catalogue.sigma_ln_lum
        return cls(rows, of_row, data, member_rows, first, counts, *columns, ln_lum_min, noise)

    def __len__(self) -> int:
        return self.central_row.size

    def take(self, hosts: Int[np.ndarray, " m"], width: int) -> HostData:
        """Give the data of some hosts, their members padded to a number of columns."""
        chosen = jax.tree.map(lambda a: a[hosts], self.data)
        if self.member_rows is None:
            return chosen
        column = np.arange(width)
        there = column < self.number[hosts, None]
        place = np.where(there, self.first[hosts, None] + column, 0)
        row = self.member_rows[place] if self.member_rows.size else np.zeros_like(place)
        return chosen._replace(
            members=Members(
                np.where(there, self.ln_lum[row], 0.0),
                np.where(there, self.sigma[row], 1.0),
                there,
                self.ln_lum_min[hosts],
                self.noise[hosts],
            )
        )


def joint(host: HostData, ln_mass, ln_prior, relation, satellites) -> Float[Array, "hump node"]:
    """Compute ln(prior x likelihood) of the host's mass under one draw of the relation.

    Parameters
    ----------
    host : HostData
        One host.
    ln_mass : Float[Array, "node"]
        ln of the masses [ln Msun].
    ln_prior : Float[Array, "node"]
        ln of the mass prior there.
    relation : Relation
        One draw of the centrals' relation.
    satellites : SatelliteLuminosityFunction
        The satellites.

    Returns
    -------
    Float[Array, "hump node"]
        For a galaxy two: as a central, and as a satellite. For a group one.
    """
    central = _central_likelihood(ln_mass, host.z, host.ln_lum, host.sigma, relation, None)
    central = ln_prior + host.ln_central + central
    if host.members is None:
        number = satellites.ln_number(relation, ln_mass, host.z, host.ln_lum, host.sigma)
        # Per luminosity, as the central's.
        return jnp.stack([central, ln_prior + host.ln_satellite + number - host.ln_lum])
    members = host.members
    # Satellites are a Poisson process: the product of its rates, times exp of minus the number expected.
    expected = _mean_number(members, ln_mass, host.z, relation, satellites)

    def add(total, member):
        ln_lum, sigma, there = member
        number = satellites.ln_number(relation, ln_mass, host.z, ln_lum, sigma)
        return total + jnp.where(there, number, 0.0), None

    total, _ = jax.lax.scan(add, central - expected, (members.ln_lum, members.sigma, members.there))
    return total[None]


def _mean_number(members: Members, ln_mass, z, relation, satellites):
    """N_s at the masses, which are in rising order: from a grid, as it is smooth and takes 40 nodes for each mass."""

    def at(ln_mass):
        return satellites.mean_number(relation, ln_mass, z, members.ln_lum_min, members.noise)

    if ln_mass.size <= _NUMBER_NODES:
        return at(ln_mass)
    grid = jnp.linspace(ln_mass[0], ln_mass[-1], _NUMBER_NODES)
    place = (ln_mass - grid[0]) / (grid[1] - grid[0])
    # A cubic may swing below 0 where the number rises steeply from nothing.
    return jnp.maximum(panels.cubic_at(at(grid), place), 0.0)


def _ln_prior(prior: MassPrior, norm, z, ln_mass):
    """ln p at the masses; the barrier keeps XLA from repeating the interpolation for every draw."""
    row = jax.lax.optimization_barrier(prior.ln_density_at(z, norm))
    return jax.lax.optimization_barrier(prior.interpolate(row, ln_mass))


@devices.over_halos("hosts", static=("points",))
def _ranges(hosts, prior: MassPrior, norm, relation, satellites, *, points):
    """Ends of the range of each posterior, over all draws, and the standard deviation of the narrowest."""
    nodes = jnp.asarray(prior.ln_mass_nodes, dtype=float)
    grid = jnp.linspace(nodes[0], nodes[-1], points)

    def one(host):
        ln_prior = _ln_prior(prior, norm, host.z, grid)

        def step(carry, relation):
            kept, narrowest = carry
            value = joint(host, grid, ln_prior, relation, satellites).max(axis=0)
            keep = value > value.max() - _DEPTH
            slope = jnp.abs(jnp.gradient(relation.mean_ln_lum(grid, host.z))) / (grid[1] - grid[0])
            spread = jnp.sqrt(relation.scatter_ln_lum(grid, host.z) ** 2 + host.sigma**2)
            # Phi_s is cut off within about half an e-fold in L.
            precision = (slope / jnp.minimum(spread, 0.5)) ** 2
            if host.members is not None:
                precision = precision + host.members.there.sum() * (1 + 4 * slope**2)
            width = jnp.where(keep, precision, 0.0).max() ** -0.5
            return (kept | keep, jnp.minimum(narrowest, width)), None

        start = jnp.zeros(points, dtype=bool), jnp.full((), jnp.inf, dtype=grid.dtype)
        (kept, narrowest), _ = jax.lax.scan(step, start, relation)
        first, last = jnp.argmax(kept), points - 1 - jnp.argmax(kept[::-1])
        return grid[jnp.maximum(first - 1, 0)], grid[jnp.minimum(last + 1, points - 1)], narrowest

    return jax.vmap(one)(hosts)


@devices.over_halos("hosts", "low", "high", "arguments", static=("num_panels", "request"))
def _mixed(hosts, low, high, arguments, levels, prior, norm, relation, satellites, *, num_panels, request):
    """Densities mixed over the draws, and what is asked of them."""
    weight = jax.nn.softmax(jnp.asarray(relation.log_weight, dtype=float))

    def one(host, low, high, arguments):
        ln_mass = panels.panel_nodes(low, high, num_panels)
        weights = panels.panel_weights(low, high, num_panels)
        ln_prior = _ln_prior(prior, norm, host.z, ln_mass)

        def step(density, inputs):
            relation, share = inputs
            value = joint(host, ln_mass, ln_prior, relation, satellites)
            peak = value.max()
            own = jnp.exp(value - jnp.where(jnp.isfinite(peak), peak, 0.0))
            total = (own @ weights).sum()
            return density + own * (share / jnp.where(total > 0, total, jnp.inf)), None

        humps = 2 if host.members is None else 1
        density, _ = jax.lax.scan(step, jnp.zeros((humps, ln_mass.size), ln_mass.dtype), (relation, weight))
        summed = density.sum(axis=0)
        if request == "cdf":
            return panels.panel_cdf(summed, low, high, num_panels, *arguments)
        return _summaries(density, ln_mass, weights, low, high, num_panels, levels, prior)

    return jax.vmap(one)(hosts, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float), arguments)


def _summaries(density, ln_mass, weights, low, high, num_panels, levels, prior):
    """Numbers of one host from its densities (hump, node): of each hump, and of both."""

    def moments(density):
        mass = density @ weights
        safe = jnp.where(mass > 0, mass, jnp.nan)
        mean = (density * weights) @ ln_mass / safe
        return mean, jnp.sqrt((density * weights) @ (ln_mass - mean) ** 2 / safe), mass

    summed = density.sum(axis=0)
    mean, sd, total = moments(summed)
    of_hump = jax.vmap(moments)(density)
    share = of_hump[2] / jnp.where(total > 0, total, jnp.nan)
    # In units of the mean mass, so that float32 does not overflow.
    relative = (density * weights) @ jnp.exp(ln_mass - mean) / total
    ends = panels.end_densities(summed)
    at_ends = jnp.asarray(prior.ln_mass_nodes, dtype=ln_mass.dtype)[jnp.array([0, -1])]
    # The fall of the density at the ends of the mass table, as an exponential that goes on.
    near = jnp.stack([summed[0], summed[-1]]), jnp.stack([summed[panels.NODES], summed[-1 - panels.NODES]])
    gap = jnp.stack([ln_mass[panels.NODES] - ln_mass[0], ln_mass[-1] - ln_mass[-1 - panels.NODES]])
    fall = jnp.log(jnp.where(near[1] > 0, near[1], 1.0) / jnp.where(near[0] > 0, near[0], 1.0)) / gap
    touches = jnp.stack([low <= at_ends[0], high >= at_ends[1]]) & (prior.support == "extend")
    # A density that does not fall leaves the table: there is as much beyond as inside, at least.
    beyond = jnp.where(fall > 0, jnp.maximum(jnp.stack(ends), 0.0) / jnp.where(fall > 0, fall, 1.0), total)
    beyond = jnp.where(touches, beyond, 0.0).sum()
    return {
        "mean": mean,
        "sd": sd,
        "share": share,
        "hump_mean": of_hump[0],
        "hump_sd": of_hump[1],
        "hump_mass": relative,
        "edge_mass": beyond / (beyond + total),
        "quantiles": panels.panel_quantile(summed, low, high, num_panels, levels, 1 - levels),
    }


@devices.over_halos("hosts", "low", "high", static=("num_panels",))
def _drawn(hosts, low, high, prior, norm, relation, satellites, key, *, num_panels):
    """ln M of the host, and whether the galaxy is its central, under each draw; (host, draw)."""
    draws = relation.log_weight.shape[0]

    def one(host, low, high):
        ln_mass = panels.panel_nodes(low, high, num_panels)
        weights = panels.panel_weights(low, high, num_panels)
        ln_prior = _ln_prior(prior, norm, host.z, ln_mass)
        of_type, of_mass = base_normals(key, host.id_hash, (2, draws))

        def draw(inputs):
            relation, of_type, of_mass = inputs
            value = joint(host, ln_mass, ln_prior, relation, satellites)
            peak = value.max()
            density = jnp.exp(value - jnp.where(jnp.isfinite(peak), peak, 0.0))
            mass = density @ weights
            central = ndtr(of_type) * mass.sum() <= mass[0]
            chosen = jnp.where(central, density[0], density[-1])
            ends = low, high, num_panels, ndtr(of_mass), ndtr(-of_mass)
            return panels.panel_quantile(chosen, *ends), central

        return jax.lax.map(draw, (relation, of_type, of_mass))

    return jax.vmap(one)(hosts, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))


def summaries(hosts: Hosts, prior: MassPrior, relation, satellites, levels, chunk_size=None):
    """Summarise the posteriors of all hosts, yielding (hosts, columns) chunk by chunk.

    Parameters
    ----------
    hosts : Hosts
        The hosts.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws.
    satellites : SatelliteLuminosityFunction
        The satellites.
    levels : Float[np.ndarray, "level"]
        CDF levels of the quantiles.
    chunk_size : int, optional
        Hosts per compiled call.

    Yields
    ------
    tuple of (Int[np.ndarray, "host"], dict of str to np.ndarray)
    """
    norm = prior.norm_coefficients()

    def chunk(data, low, high, index, num_panels):
        static = {"num_panels": num_panels, "request": "summaries"}
        return _mixed(
            data, low, high, (), jnp.asarray(levels, dtype=float), prior, norm, relation, satellites, **static
        )

    yield from _run(chunk, hosts, np.arange(len(hosts)), prior, norm, relation, satellites, chunk_size)


def cdfs(hosts: Hosts, of, ln_mass, prior: MassPrior, relation, satellites, chunk_size=None) -> np.ndarray:
    """Compute the CDF of some hosts, each at a mass of its own.

    Parameters
    ----------
    hosts : Hosts
        The hosts.
    of : Int[np.ndarray, "m"]
        Which of them; one may come several times.
    ln_mass : Float[np.ndarray, "m"]
        Masses [ln Msun].
    prior, relation, satellites, chunk_size : object
        As in `summaries`.

    Returns
    -------
    Float[np.ndarray, "m"]
        The CDFs.
    """
    norm, out = prior.norm_coefficients(), np.full(of.size, np.nan)

    def chunk(data, low, high, index, num_panels):
        static = {"num_panels": num_panels, "request": "cdf"}
        own = (jnp.asarray(ln_mass[index], dtype=float),)
        return _mixed(data, low, high, own, jnp.zeros(0), prior, norm, relation, satellites, **static)

    for index, found in _run(chunk, hosts, of, prior, norm, relation, satellites, chunk_size):
        out[index] = found
    return out


def draws(hosts: Hosts, of, prior: MassPrior, relation, satellites, key, chunk_size=None):
    """Draw the mass of some hosts, and the type of each galaxy, under each draw of the relation.

    Parameters
    ----------
    hosts : Hosts
        The hosts.
    of : Int[np.ndarray, "m"]
        Which of them.
    prior, relation, satellites, chunk_size : object
        As in `summaries`.
    key : Key[Array, ""]
        Random key; the numbers belong to the id of the galaxy, or of the group's central.

    Yields
    ------
    index : Int[np.ndarray, "n"]
        Places in `of`.
    outputs : tuple of (Float[np.ndarray, "n draw"], Bool[np.ndarray, "n draw"])
        ln M [ln Msun], and whether the galaxy is the central.
    """
    norm = prior.norm_coefficients()

    def chunk(data, low, high, index, num_panels):
        return _drawn(data, low, high, prior, norm, relation, satellites, key, num_panels=num_panels)

    yield from _run(chunk, hosts, of, prior, norm, relation, satellites, chunk_size)


def _run(kernel_of_chunk, hosts: Hosts, of, prior, norm, relation, satellites, chunk_size):
    """Call a kernel on groups of hosts of like size and like number of panels, yielding (places in `of`, outputs).

    Both depend on the host alone, so neither a subset nor the chunk size changes an answer.
    """
    size = chunk_size or _CHUNK
    points = _points(prior, relation)
    # Members in steps of 4: few sizes are compiled.
    width = np.where(hosts.number > 0, 4 ** np.ceil(np.log(np.maximum(hosts.number, 1)) / np.log(4)), 0).astype(int)
    width = width[of]
    for columns in np.unique(width):
        index = np.flatnonzero(width == columns)
        # Few hosts are not padded to a chunk of many.
        held = min(max(1, size // max(1, columns // 16)), 2 ** max(4, (index.size - 1).bit_length()))

        def search(i, columns=columns):
            return _ranges(hosts.take(of[i], columns), prior, norm, relation, satellites, points=points)

        found = kernel.in_chunks(search, index, held)
        low, high, narrowest = (np.concatenate(part) for part in zip(*found, strict=True))
        asked = np.where(narrowest > 0, (high - low) / (_PER_PANEL * np.maximum(narrowest, 1e-12)), _LEAST_PANELS)
        number = 2 ** np.ceil(np.log2(np.clip(asked, _LEAST_PANELS, _MOST_PANELS)))
        number = (number * kernel.refinement(prior)).astype(int)
        for panel_count in np.unique(number):
            chosen = np.flatnonzero(number == panel_count)

            def chunk(i, columns=columns, panel_count=panel_count, index=index, low=low, high=high):
                where = index[i]
                return kernel_of_chunk(hosts.take(of[where], columns), low[i], high[i], where, int(panel_count))

            start = 0
            for outputs in kernel.in_chunks(chunk, chosen, max(1, held * 64 // max(64, int(panel_count)))):
                count = jax.tree.leaves(outputs)[0].shape[0]
                yield index[chosen[start : start + count]], outputs
                start += count


def _points(prior: MassPrior, relation) -> int:
    """Points of the search: some in the width of the narrowest Gaussian that the scatter alone would give."""
    ln_mass = np.linspace(prior.ln_mass_min, prior.ln_mass_max, 65)
    at = jnp.asarray(ln_mass, dtype=float), float(np.asarray(prior.redshift_nodes)[0])
    mean = np.asarray(jax.vmap(lambda r: r.mean_ln_lum(*at))(relation))
    scatter = np.asarray(jax.vmap(lambda r: r.scatter_ln_lum(*at))(relation))
    width = max(scatter.min(), _LEAST_SCATTER) / np.abs(np.gradient(mean, ln_mass, axis=1)).max()
    asked = 2 ** np.ceil(np.log2((prior.ln_mass_max - prior.ln_mass_min) / width))
    return int(np.clip(asked, _LEAST_POINTS, _MOST_POINTS))
