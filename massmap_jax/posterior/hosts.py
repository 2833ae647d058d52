"""`host_posterior`: the masses of the hosts of galaxies, each of which may be a central or a satellite."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.columns import rows_text
from massmap_jax.catalogue.flags import UNUSABLE, Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.membership import Membership
from massmap_jax.choices import RelationFrom, check_relation_from
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.likelihood.objects import Objects, flag_outside_prior, lognormal_rows
from massmap_jax.likelihood.redshifts import refuse_uncertain
from massmap_jax.likelihood.selection import FluxLimit, RedshiftLimit
from massmap_jax.posterior import host_kernel, kernel
from massmap_jax.posterior.host_kernel import Hosts
from massmap_jax.posterior.host_result import HostPosterior
from massmap_jax.posterior.result import EDGE_LIMIT, check_levels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.population import population_of
from massmap_jax.relation.satellites import SatelliteLuminosityFunction
from massmap_jax.relation.several import names_of
from massmap_jax.steps import Step

# Error of a luminosity [ln L] up to which means are right to 1e-3 standard deviations with 11 nodes for the noise
# (tests/posterior/test_hosts.py).
LARGEST_ERROR = 0.6
# Members whose redshifts differ from the central's by more than this, over 1 + z, are not in one halo (15,000 km/s).
_ONE_REDSHIFT = 0.05
# A hump with less than this of the posterior is ruled out: its range was not searched.
_RULED_OUT = 1e-12


def host_posterior(
    catalogue: HaloCatalogue,
    prior: MassPrior,
    relation,
    satellites: SatelliteLuminosityFunction,
    *,
    membership: Membership | None = None,
    selection: FluxLimit | RedshiftLimit | None = None,
    relation_from: RelationFrom | None = None,
    quantile_levels=(0.025, 0.16, 0.5, 0.84, 0.975),
    chunk_size: int | None = None,
    watch: Callable[[str], None] = lambda stage: None,
) -> HostPosterior:
    """Compute the posterior of the mass of each galaxy's host halo, whether it is its central or a satellite.

    Parameters
    ----------
    catalogue : HaloCatalogue
        One row per galaxy, with lognormal noise and exact redshifts. Rows that cannot be used get NaN, and every row
        keeps its place.
    prior : MassPrior
        The mass function of halos.
    relation : Relation
        The centrals' luminosities at fixed mass: one relation, or a batch of draws.
    satellites : SatelliteLuminosityFunction
        The number of satellites of each luminosity at fixed mass, for every draw of the relation.
    membership : Membership, optional
        What is known of the galaxies' types beside the luminosity: probabilities, flags with a purity, or groups. By
        default nothing: the luminosity functions alone give the odds.
    selection : FluxLimit or RedshiftLimit, optional
        The limit above which galaxies are in the catalogue. Groups need it, as the members that a halo does not have
        tell its mass as well. For single galaxies it does not matter.
    relation_from : {"this_catalogue", "fixed_draws"}, optional
        Where the draws of the relation come from; needed for more than one. With either, the draws' posteriors are
        normalised and averaged.
    quantile_levels : sequence of float
        CDF levels, between 0 and 1 (both excluded), whose quantiles are kept.
    chunk_size : int, optional
        Hosts per compiled call and device; the answer does not depend on it.
    watch : callable, optional
        Called with a line of text after each chunk.

    Returns
    -------
    HostPosterior
        One row per row of the catalogue: the probability of being a satellite, the mass of the host, and its two humps.

    Raises
    ------
    MassmapError
        For labels that contradict each other, noise that is not lognormal or larger than 0.6 in ln L, redshifts that
        are distributions, a relation of several observables or with a population of its own, draws that the galaxies
        would update, groups without a limit, galaxies below the limit, groups whose redshifts differ, or no usable row.

    See Also
    --------
    massmap_jax.host_map : A map of the hosts, each counted once.
    massmap_jax.mass_posterior : Masses where every object is a central.

    Notes
    -----
    For one galaxy and one draw of the relation

        P(ln M | L_obs) ~ p(ln M | z) [q_c Phi_c(L_obs | M) + q_s Phi_s(L_obs | M)]

    Phi_c is the relation with its scatter, Phi_s the number of satellites per ln L, both convolved with the noise, and
    q_c, q_s the likelihood of what `membership` says. The share of satellites at a luminosity follows; it is not a free
    number. For a group with central c and n satellites above the limit

        P(ln M | L_c, L_1 ... L_n) ~ p(ln M | z) Phi_c(L_c | M) exp[-N_s(M)] prod_i Phi_s(L_i | M)

    since satellites are a Poisson process: N_s is the mean number above the limit. Cacciato et al. 2009, eqs. 34 to 37,
    for the luminosity functions.

    Examples
    --------
    A galaxy may be the central of a light halo or a satellite in a heavy one:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> relation = mm.MassLuminosityRelation(alpha1=24.6, alpha2=0.35, alpha3=1e13, scatter=0.35)
    >>> satellites = mm.SchechterSatellites(norm=[-1.8, 1.0, -0.04], ratio=0.56, slope_low=-1.1)
    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[3e10, 5e10], redshift=[0.1, 0.1], sigma_ln_luminosity=0.1)
    >>> hosts = mm.host_posterior(catalogue, mm.MassPrior.default(), relation, satellites)
    >>> print(hosts.p_sat.round(2))
    [0.13 0.2 ]
    >>> print((hosts.mean_central / np.log(10)).round(1), (hosts.mean_satellite / np.log(10)).round(1))
    [12.  12.6] [13.7 14. ]

    What a flag says, which is right for 85 % of the galaxies:

    >>> known = mm.Membership.from_flags([0, 0], purity=0.85)
    >>> flagged = mm.host_posterior(catalogue, mm.MassPrior.default(), relation, satellites, membership=known)
    >>> print(flagged.p_sat.round(2))
    [0.46 0.58]
    """
    check_kinds("host_posterior", catalogue=catalogue, prior=prior, relation=relation)
    check_hosts(catalogue, prior, relation, satellites, membership, selection, relation_from)
    levels = check_levels(quantile_levels)
    if chunk_size is not None and chunk_size < 1:
        raise MassmapError(f"chunk size is {chunk_size}: give at least 1")
    flag, hosts = usable_hosts(catalogue, prior, membership, selection)
    usable = hosts.of_row >= 0
    kernel.check_noise(Objects.of(catalogue, hosts.central_row, prior, need_keys=False), relation, "analytic", prior)

    of_host: dict[str, np.ndarray] = {}
    done = 0
    batch = relation.as_batch()
    for index, outputs in host_kernel.summaries(hosts, prior, batch, satellites, levels, chunk_size):
        for name, values in outputs.items():
            if name not in of_host:
                of_host[name] = np.full((len(hosts), *values.shape[1:]), np.nan)
            of_host[name][index] = values
        done += index.size
        watch(Step("host masses", done, len(hosts), "hosts"))
    lost = ~np.isfinite(of_host["mean"])
    for values in of_host.values():
        values[lost] = np.nan

    columns = _columns(of_host, hosts, membership, usable)
    flag[usable & ~np.isfinite(columns["mean"])] |= Flag.NO_SUPPORT
    with np.errstate(invalid="ignore"):
        flag[columns["edge_mass"] > EDGE_LIMIT] |= Flag.EDGE
    return HostPosterior(
        ids=catalogue.ids,
        flag=flag,
        catalogue=catalogue,
        prior=prior,
        relation=relation,
        satellites=satellites,
        membership=membership,
        hosts=hosts,
        quantile_levels=tuple(float(v) for v in levels),
        relation_from=relation_from,
        **columns,
    )


def _columns(of_host, hosts: Hosts, membership: Membership | None, usable) -> dict[str, np.ndarray]:
    """Columns of the result from the numbers of each host."""
    row, number = hosts.of_row[usable], usable.size

    def spread(values):
        out = np.full((number, *values.shape[1:]), np.nan)
        out[usable] = values[row]
        return out

    columns = {name: spread(of_host[name]) for name in ("mean", "sd", "quantiles", "edge_mass")}
    share, of_mean = spread(of_host["share"]), np.exp(columns["mean"])
    relative, mean, sd = (spread(of_host["hump_" + name]) for name in ("mass", "mean", "sd"))
    columns["mean_mass"] = of_mean * relative.sum(axis=1)
    columns["mean_central_mass"] = of_mean * relative[:, 0]
    if hosts.member_rows is None:
        columns["p_sat"] = share[:, 1]
    else:
        # One density for all rows of a group: in the place of the one hump or of the other.
        assert membership is not None
        columns["p_sat"] = np.where(usable, membership.satellite, np.nan)
        columns["mean_central_mass"] *= 1 - columns["p_sat"]
        is_satellite = np.stack([columns["p_sat"] == 0, columns["p_sat"] == 1], axis=1)
        share, mean, sd = is_satellite * 1.0, np.repeat(mean, 2, axis=1), np.repeat(sd, 2, axis=1)
    with np.errstate(invalid="ignore"):
        there = share > _RULED_OUT
    for i, hump in enumerate(("central", "satellite")):
        columns[f"mean_{hump}"] = np.where(there[:, i], mean[:, i], np.nan)
        columns[f"sd_{hump}"] = np.where(there[:, i], sd[:, i], np.nan)
    return columns


def usable_hosts(catalogue: HaloCatalogue, prior: MassPrior, membership: Membership | None, selection):
    """Find the rows that have a host, and the hosts.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The galaxies.
    prior : MassPrior
        The mass prior.
    membership : Membership or None
        What is known of their types.
    selection : FluxLimit or RedshiftLimit or None
        The limit of groups.

    Returns
    -------
    flag : Int[np.ndarray, "galaxy"]
        `Flag` bits.
    hosts : Hosts
        The hosts.

    Raises
    ------
    MassmapError
        If no row is usable, or members of a group are at redshifts of their own, or below the limit.
    """
    flag = flag_outside_prior(catalogue, prior)
    group = None if membership is None else membership.group
    if membership is not None:
        flag[~membership.known] |= Flag.MEMBERSHIP_BAD
    if group is not None:
        lost = np.bincount(group, weights=(flag & UNUSABLE) != 0) > 0
        flag[lost[group] & ((flag & UNUSABLE) == 0)] |= Flag.GROUP_BAD
    usable = (flag & UNUSABLE) == 0
    if not usable.any():
        raise MassmapError("no galaxy can be used: each has a missing value, or is in a group with one that has")
    hosts = Hosts.of(catalogue, usable, membership, selection)
    if group is not None:
        _check_groups(catalogue, usable, hosts, selection)
    return flag, hosts


def _check_groups(catalogue, usable, hosts: Hosts, selection) -> None:
    central = np.where(usable, hosts.central_row[hosts.of_row], 0)
    z = catalogue.redshift
    with np.errstate(invalid="ignore"):
        apart = usable & (np.abs(z - z[central]) > _ONE_REDSHIFT * (1 + z[central]))
    if apart.any():
        first = int(np.argmax(apart))
        raise MassmapError(
            f"redshifts differ by more than {_ONE_REDSHIFT} (1 + z) from that of the group's central in "
            f"{rows_text(apart, z)} (its central has {z[central[first]]:g}): these are not in one halo, so look at the "
            "group ids"
        )
    faint = np.zeros(usable.size, dtype=bool)
    limit = np.asarray(selection.limit_of(z[usable], 0.0))
    faint[usable] = catalogue.ln_lum_obs[usable] < limit - 1e-6
    if faint.any():
        raise MassmapError(
            f"the luminosity is below the limit of the catalogue ({selection.describe()}) in "
            f"{rows_text(faint, np.exp(catalogue.ln_lum_obs))}: the number of members is counted above that limit, so "
            "leave fainter galaxies out, or give the limit that the catalogue has"
        )


def check_hosts(catalogue, prior, relation, satellites, membership, selection, relation_from) -> None:
    """Refuse what has no host masses, before anything is computed; arguments as `host_posterior` takes them.

    Parameters
    ----------
    catalogue : HaloCatalogue
    prior : MassPrior
    relation : Relation
    satellites : SatelliteLuminosityFunction
    membership : Membership or None
    selection : FluxLimit or RedshiftLimit or None
    relation_from : str or None

    Raises
    ------
    MassmapError
        As `host_posterior` says.
    """
    check_relation_from(relation, relation_from)
    if relation_from == "other_data":
        raise MassmapError(
            "galaxies that may be satellites do not update draws of the centrals' relation: their evidence is a number"
            " density, and needs the whole luminosity function; use relation_from='fixed_draws', or 'this_catalogue'"
            " for draws that were fitted to these galaxies"
        )
    if not isinstance(satellites, SatelliteLuminosityFunction):
        raise MassmapError(
            f"satellites is {type(satellites).__name__}: give SchechterSatellites(...), SchechterSatellites.preset("
            "'cacciato2009'), or a subclass of SatelliteLuminosityFunction"
        )
    strange = [leaf for leaf in jax.tree.leaves(satellites) if not eqx.is_array_like(leaf)]
    if strange:
        raise MassmapError(
            f"a parameter of the satellites is {strange[0]!r}, and JAX takes arrays and numbers: declare that field as"
            " equinox.field(static=True)"
        )
    if names_of(relation):
        raise MassmapError(
            f"the relation is one of {', '.join(names_of(relation))} beside the luminosity, and host masses know the"
            " luminosity alone: give a relation of the luminosity"
        )
    if population_of(relation) is not None:
        raise MassmapError(
            "the relation has a population or cosmology of its own, which host masses do not take: give the relation"
            " alone, with the mass function of all halos"
        )
    refuse_uncertain(catalogue, "the host mass of a galaxy")
    check_labels(catalogue=catalogue, relation=relation, mass_prior=prior, satellites=satellites)
    rows = lognormal_rows(catalogue, prior)
    large = np.zeros(len(catalogue), dtype=bool)
    large[rows] = catalogue.sigma_ln_lum[rows] > LARGEST_ERROR
    if large.any():
        raise MassmapError(
            f"the error of the luminosity is above {LARGEST_ERROR} in ln L in "
            f"{rows_text(large, catalogue.sigma_ln_lum)}: the number of satellites is not computed there; leave these "
            "galaxies out"
        )
    if membership is None:
        return
    if len(membership) != len(catalogue):
        raise MassmapError(f"membership has {len(membership)} rows, and the catalogue has {len(catalogue)} galaxies")
    if membership.group is not None and not isinstance(selection, FluxLimit | RedshiftLimit):
        raise MassmapError(
            "groups need the limit above which their members are in the catalogue, as the members that a halo lacks say"
            " that it is light: give selection=FluxLimit(...) or RedshiftLimit.from_flux(...)"
        )
