"""`HostPosterior`: the masses of the hosts of galaxies, as `host_posterior` gives them."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.described import DescribedTable, writable
from massmap_jax.catalogue.flags import UNUSABLE, describe_all, summary_lines
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.membership import Membership
from massmap_jax.catalogue.quantities import in_unit
from massmap_jax.choices import RelationFrom
from massmap_jax.errors import MassmapError
from massmap_jax.posterior import host_kernel
from massmap_jax.posterior.columns import column_info, provenance
from massmap_jax.posterior.host_kernel import Hosts
from massmap_jax.posterior.result import check_ln_mass
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import Relation
from massmap_jax.relation.satellites import SatelliteLuminosityFunction

_LN10 = float(np.log(10.0))


def refuse_hosts(posterior, what: str) -> None:
    """Refuse the posterior of hosts where it would be taken for that of objects which are halos of their own.

    Parameters
    ----------
    posterior : MassPosterior or HostPosterior or None
        What was given.
    what : str
        Who refuses, for the message.

    Raises
    ------
    MassmapError
        For a `HostPosterior`.
    """
    if isinstance(posterior, HostPosterior):
        raise MassmapError(
            f"the posterior given to {what} is that of the hosts of galaxies, and would count each halo once for every"
            " galaxy in it: use host_map, which counts it once, at its central"
        )


class HostPosterior(eqx.Module):
    """Posterior of ln M of the host halo of every galaxy of a catalogue, which may be a central or a satellite.

    `massmap_jax.host_posterior` makes it. There is one row per row of the catalogue, in the same order; rows that
    cannot be used hold NaN and a `Flag`. M is in Msun without h. All arrays are float64 on the host.

    A galaxy of unknown type has a posterior with two humps: a light halo of which it is the central, and a heavy one in
    which it is a satellite. One mean and one standard deviation then describe neither; look at `p_sat` and the humps.

    Attributes
    ----------
    ids : np.ndarray, (galaxy,)
        The catalogue's ids.
    flag : Int[np.ndarray, "galaxy"]
        `Flag` bits, 0 for a good row.
    p_sat : Float[np.ndarray, "galaxy"]
        Probability of being a satellite; 0 or 1 where groups are given.
    mean, sd : Float[np.ndarray, "galaxy"]
        Posterior mean and standard deviation of ln M of the host [ln Msun], over both humps.
    mean_central, sd_central : Float[np.ndarray, "galaxy"]
        The same if the galaxy is the central; NaN where that is ruled out.
    mean_satellite, sd_satellite : Float[np.ndarray, "galaxy"]
        The same if it is a satellite; NaN where that is ruled out.
    mean_mass : Float[np.ndarray, "galaxy"]
        Posterior mean of the host's mass, E[M] [Msun]. It must not be summed over galaxies: several may share a host.
    mean_central_mass : Float[np.ndarray, "galaxy"]
        Posterior mean of the mass if it is a central, else 0, E[indicator(central) M] [Msun]: this may be summed.
    quantiles : Float[np.ndarray, "galaxy level"]
        Quantiles of ln M [ln Msun] at `quantile_levels`.
    edge_mass : Float[np.ndarray, "galaxy"]
        Fraction of the posterior that would lie beyond the prior's mass table, if it went on as at its ends.
    catalogue : HaloCatalogue
        The galaxies.
    prior : MassPrior
        The mass prior that was used.
    relation : Relation
        The relation of the centrals, or batch of draws, that was used.
    satellites : SatelliteLuminosityFunction
        The satellites that were used.
    membership : Membership or None
        What was known of the types.
    hosts : Hosts
        Which rows share a host.
    quantile_levels : tuple of float
        CDF levels of `quantiles`.
    relation_from : str or None
        Where the draws of the relation are from.

    See Also
    --------
    massmap_jax.host_posterior : Makes this result.
    massmap_jax.host_map : A map that counts each host once.
    """

    ids: np.ndarray
    flag: np.ndarray
    p_sat: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    mean_central: np.ndarray
    sd_central: np.ndarray
    mean_satellite: np.ndarray
    sd_satellite: np.ndarray
    mean_mass: np.ndarray
    mean_central_mass: np.ndarray
    quantiles: np.ndarray
    edge_mass: np.ndarray
    catalogue: HaloCatalogue
    prior: MassPrior
    relation: Relation
    satellites: SatelliteLuminosityFunction
    membership: Membership | None
    hosts: Hosts
    quantile_levels: tuple[float, ...] = eqx.field(static=True)
    relation_from: RelationFrom | None = eqx.field(static=True)

    def __len__(self) -> int:
        return self.flag.shape[0]

    @property
    def usable(self) -> np.ndarray:
        """Rows that have a posterior.

        Returns
        -------
        Bool[np.ndarray, "galaxy"]
            True where the row could be used.
        """
        return (self.flag & UNUSABLE) == 0

    @property
    def in_groups(self) -> bool:
        """Whether galaxies were taken in groups, so that rows share a host.

        Returns
        -------
        bool
            False where they were taken one by one.
        """
        return self.hosts.member_rows is not None

    def cdf(self, ln_mass) -> np.ndarray:
        """Compute the CDF of each row's host at a mass of its own.

        Parameters
        ----------
        ln_mass : array_like, (galaxy,)
            One ln mass per row [ln Msun].

        Returns
        -------
        Float[np.ndarray, "galaxy"]
            Posterior probability of a mass below `ln_mass`; NaN for unusable rows.

        Raises
        ------
        MassmapError
            For another number of masses than rows, and for masses or logarithms to base 10 in place of ln M.
        """
        ln_mass = np.asarray(in_unit(ln_mass, "", "ln_mass", "ln M, M in Msun"), dtype=np.float64)
        if ln_mass.shape != (len(self),):
            raise MassmapError(f"cdf needs one ln mass per row, {len(self)}, and was given the shape {ln_mass.shape}")
        check_ln_mass(ln_mass, self.prior)
        rows = np.flatnonzero(self.usable)
        found = np.full(len(self), np.nan)
        of = self.hosts.of_row[rows]
        relation = self.relation.as_batch()
        found[rows] = host_kernel.cdfs(self.hosts, of, ln_mass[rows], self.prior, relation, self.satellites)
        return found

    def sample(self, key: Array, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw host masses and types; a draw fixes one relation for all, and rows of one group share its host.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key. The numbers belong to the id of the galaxy, or of the group's central.
        num : int
            Draws.

        Returns
        -------
        ln_mass : Float[np.ndarray, "galaxy num"]
            ln M of the host [ln Msun]; NaN for unusable rows.
        is_central : Bool[np.ndarray, "galaxy num"]
            Whether the galaxy is the central of that host. A sum over galaxies counts a host once where it runs over
            these.
        """
        check_kinds("sample", key=key)
        key_relation, key_mass = jax.random.split(key)
        relation = self.relation.as_batch().pick(key_relation, num)
        rows = np.flatnonzero(self.usable)
        hosts = np.unique(self.hosts.of_row[rows])
        ln_mass, is_central = np.empty((len(self.hosts), num)), np.zeros((len(self.hosts), num), dtype=bool)
        for index, outputs in host_kernel.draws(hosts=self.hosts, of=hosts, prior=self.prior, relation=relation,
                                                satellites=self.satellites, key=key_mass):  # fmt: skip
            ln_mass[hosts[index]], is_central[hosts[index]] = outputs
        masses, central = np.full((len(self), num), np.nan), np.zeros((len(self), num), dtype=bool)
        masses[rows], central[rows] = ln_mass[self.hosts.of_row[rows]], is_central[self.hosts.of_row[rows]]
        if self.in_groups and self.membership is not None:
            central[rows] &= (self.membership.central[rows] == 1)[:, None]
        return masses, central

    def to_table(self) -> dict[str, np.ndarray]:
        """Make a dict of columns, one value per row of the catalogue in each, ready for `massmap_jax.write_table`.

        Returns
        -------
        dict of str to np.ndarray, (galaxy,)
            Columns by name: id, position, redshift, ln luminosity and its error; p_sat; mean, standard deviation and
            quantiles of log10(M / Msun) of the host, M without h; mean and standard deviation of either hump; the flag
            and, in words, its reason.
        """
        cat = self.catalogue
        table: dict[str, Any] = {"id": self.ids}
        if cat.ra is not None:
            names = ("ra", "dec") if cat.frame == "sky" else ("x", "y")
            table |= dict(zip(names, (cat.ra, cat.dec), strict=True))
        table |= {"z": cat.redshift, "ln_lum_obs": cat.ln_lum_obs, "sigma_ln_lum": cat.sigma_ln_lum}
        table["p_sat"] = self.p_sat
        for hump in ("", "_central", "_satellite"):
            for name in ("mean", "sd"):
                table[f"log10_host_mass_{name}{hump}"] = getattr(self, name + hump) / _LN10
        for i, level in enumerate(self.quantile_levels):
            table[f"log10_host_mass_q{f'{level:.6f}'.rstrip('0')[2:].ljust(2, '0')}"] = self.quantiles[:, i] / _LN10
        table |= {"host_mass_mean": self.mean_mass, "central_mass_mean": self.mean_central_mass}
        table |= {"edge_mass": self.edge_mass, "flag": self.flag, "flag_reason": describe_all(self.flag)}
        return table

    def described(self) -> DescribedTable:
        """Give the columns of `to_table` with what they mean and how they were made.

        Returns
        -------
        DescribedTable
            Columns, units, descriptions, UCDs and metadata.
        """
        table = {name: writable(values) for name, values in self.to_table().items()}
        meta = provenance(self.prior, self.relation) | {
            "satellites_source": getattr(self.satellites, "source", type(self.satellites).__name__),
            "membership": "unknown" if self.membership is None else self.membership.told,
            "relation_from": self.relation_from or "one relation",
            "luminosity_unit": self.catalogue.lum_unit or "unknown",
        }
        return DescribedTable(table, meta, **column_info(table))

    def to_astropy(self) -> Any:
        """Make an astropy Table of the columns of `to_table`, with units, descriptions, UCDs and metadata.

        Returns
        -------
        astropy.table.Table
            One row per row of the catalogue. How the masses were made is in its `meta`.
        """
        return self.described().astropy()

    def to_pandas(self) -> Any:
        """Make a pandas DataFrame of the columns of `to_table`.

        Returns
        -------
        pandas.DataFrame
            One row per row of the catalogue. Its `attrs` hold how the masses were made, and units, descriptions and
            ucds by column.

        Raises
        ------
        MassmapError
            Where pandas is not installed.
        """
        return self.described().pandas()

    def summary(self) -> str:
        """Summarise the result in a few lines of text: rows, flags, satellites, range of masses and typical error bar.

        Returns
        -------
        str
            Lines to print.
        """
        lines = summary_lines(self.flag)
        usable = self.usable
        if usable.any():
            known = "types unknown" if self.membership is None else self.membership.told
            low, high = (f(self.mean) / _LN10 for f in (np.nanmin, np.nanmax))
            lines += [
                f"{self.p_sat[usable].sum():.1f} satellites expected among {usable.sum()} galaxies; {known}",
                f"log10(M/Msun) of hosts from {low:.2f} to {high:.2f}, median error "
                f"{np.nanmedian(self.sd) / _LN10:.3f} dex",
            ]
        return "\n".join(lines)
