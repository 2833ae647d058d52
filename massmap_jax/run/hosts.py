"""`massmap-jax hosts`: host masses of galaxies that may be satellites, and a map that counts each halo once.

JAX is imported where it is needed, so that bad options are refused at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from massmap_jax.catalogue.column_checks import USED_BY_MASSES
from massmap_jax.errors import MassmapError
from massmap_jax.run.options import (
    FORMATS,
    MACHINE,
    MAP,
    OUTPUT,
    RELATION,
    JobOptions,
    PriorOptions,
    check_of_all,
    load_prior,
    load_relation,
    option,
    selection_of,
    with_definition_of_relation,
)

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.catalogue.membership import Membership
    from massmap_jax.choices import RelationFrom
    from massmap_jax.maps.images import MassMap
    from massmap_jax.posterior.host_result import HostPosterior
    from massmap_jax.relation.satellites import SchechterSatellites
    from massmap_jax.run.clock import Clock

MEMBERSHIP = "Centrals and satellites"
_HOSTS = ("hosts",)
_PRESET = "cacciato2009"


@dataclass(frozen=True)
class HostOptions:
    """Everything beside the catalogue that decides the host masses of galaxies."""

    prior: PriorOptions = field(default_factory=PriorOptions)
    relation: str | None = option(
        None,
        "Relation of the centrals: a published one (massmap-jax relations), such as lc_cacciato09, or a file of draws.",
        RELATION,
        commands=_HOSTS,
    )
    relation_from: str | None = option(
        None, "this_catalogue or fixed_draws (default, said in the output).", RELATION, commands=_HOSTS
    )
    num_relation_draws: int = option(100, "Draws of a published relation.", RELATION, commands=_HOSTS)
    relation_columns: str | None = option(
        None, "Columns of a file of draws: alpha1=A,alpha2=B,...,weight=W.", RELATION, commands=_HOSTS
    )
    ignore_columns: bool = option(
        False, "Leave out columns of a file of draws that are not understood.", RELATION, commands=_HOSTS
    )
    satellites: str | None = option(
        None,
        f"Luminosity function of the satellites: {_PRESET}, or a JSON file with the arguments of SchechterSatellites.",
        MEMBERSHIP,
        commands=_HOSTS,
    )
    central_probability: str | None = option(
        None, "Column of the probability of being a central; 1-COLUMN of that of being a satellite.", MEMBERSHIP,
        commands=_HOSTS,
    )  # fmt: skip
    central_fraction: float | None = option(
        None, "Share of centrals that this probability took for granted; 0.5 where not given.", MEMBERSHIP,
        commands=_HOSTS,
    )  # fmt: skip
    is_central: str | None = option(
        None,
        "Column with 1 (C, yes) for centrals and 0 (S, no) for satellites, or COLUMN=VALUE, as rank=1 or type=0; needs"
        " --purity or --group.",
        MEMBERSHIP,
        commands=_HOSTS,
    )
    purity: float | None = option(
        None, "Share of galaxies whose flag is right, from 0.5 to 1.", MEMBERSHIP, commands=_HOSTS
    )
    group: str | None = option(
        None, "Column of the group: a central with its satellites, which share a host.", MEMBERSHIP, commands=_HOSTS
    )
    lum_limit: float | None = option(
        None, "Lowest luminosity of a galaxy in the catalogue; groups need it.", MEMBERSHIP, commands=_HOSTS
    )
    make_map: bool = option(True, "No map.", MAP, name="no_map", commands=_HOSTS)
    pixel_arcmin: float | None = option(None, "Side of a pixel.", MAP, commands=_HOSTS)
    num_map_draws: int = option(100, "Draws of the map.", MAP, commands=_HOSTS)
    format: str = option("parquet", f"Kind of the table: {', '.join(FORMATS)}.", OUTPUT, commands=_HOSTS)
    seed: int = option(0, "Random seed, written to every output.", MACHINE, commands=_HOSTS)

    @property
    def job(self) -> JobOptions:
        """What a run would be asked for by the options that both have, under the same names.

        Returns
        -------
        JobOptions
            Those options; all others have their defaults.
        """
        shared = {f.name for f in fields(self)} & {f.name for f in fields(JobOptions)}
        return JobOptions(**{name: getattr(self, name) for name in shared})


class Hosts(NamedTuple):
    """What `compute_hosts` gives.

    Attributes
    ----------
    posterior : HostPosterior
        The host masses.
    mass_map : MassMap or None
        The map.
    notes : list of str
        What was taken for granted, to be shown.
    """

    posterior: HostPosterior
    mass_map: MassMap | None
    notes: list[str]


def check_host_options(options: HostOptions) -> None:
    """Refuse options that no catalogue could mend.

    Parameters
    ----------
    options : HostOptions
        The options.

    Raises
    ------
    MassmapError
        For options that are missing or contradict each other.
    """
    if options.relation is None or options.relation in ("fit", "identity"):
        raise MassmapError(
            "relation= is needed: the centrals' relation, which is not fitted here; give a published one"
            " (massmap-jax relations) or a file of draws"
        )
    if options.satellites is None:
        raise MassmapError(
            f"satellites= is needed: the number of satellites of each luminosity; give {_PRESET}, or a JSON file with"
            " the arguments of SchechterSatellites"
        )
    check_of_all(options.job)
    ways = {"central_probability": options.central_probability, "is_central": options.is_central}
    if None not in ways.values():
        raise MassmapError("central_probability= and is_central= say the same in two ways: give one of them")
    if options.is_central is None and (options.group is not None or options.purity is not None):
        name = "purity" if options.group is None else "group"
        raise MassmapError(f"{name}= needs is_central=, the column that says which galaxies are centrals")
    if options.is_central is not None and (options.group is None) == (options.purity is None):
        raise MassmapError(
            "is_central= needs either purity=, the share of galaxies for which it is right (no flag is right always),"
            " or group=, where each group has one central"
        )
    if options.central_fraction is not None and options.central_probability is None:
        raise MassmapError("central_fraction= has no effect without central_probability=: leave it out")
    if options.lum_limit is not None and options.group is None:
        raise MassmapError("lum_limit= has no effect on galaxies one by one: it is for groups; leave it out")
    if options.lum_limit is None and options.group is not None:
        raise MassmapError(
            "group= needs lum_limit=, the luminosity above which galaxies are in the catalogue: the members that a halo"
            " lacks say that it is light"
        )
    if options.pixel_arcmin is not None and not options.make_map:
        raise MassmapError("pixel_arcmin= has no effect with no_map: leave it out")


def read_satellites(source: str) -> SchechterSatellites:
    """Read the satellites' luminosity function.

    Parameters
    ----------
    source : str
        Name of a preset, or a JSON file with the arguments of `SchechterSatellites`.

    Returns
    -------
    SchechterSatellites
        The function.

    Raises
    ------
    MassmapError
        For a file that cannot be read as such arguments.
    """
    from massmap_jax.relation.satellites import SchechterSatellites

    if not Path(source).is_file():
        return SchechterSatellites.preset(source)  # type: ignore[arg-type]
    try:
        told = json.loads(Path(source).read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise TypeError("it is no object of names and values")
        arguments: dict[str, Any] = {"source": Path(source).name} | told
        return SchechterSatellites(**arguments)
    except (TypeError, ValueError, UnicodeDecodeError) as error:
        raise MassmapError(
            f"{source} does not hold the arguments of SchechterSatellites as JSON ({error}): it looks like"
            ' {"norm": [-1.8, 1.0], "ratio": 0.56, "slope_low": -1.1, "mass_definition": "200m"}'
        ) from None


def compute_hosts(catalogue: HaloCatalogue, membership: Membership | None, options: HostOptions, clock: Clock) -> Hosts:
    """Compute host masses, and their map where there are positions.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The galaxies.
    membership : Membership or None
        What is known of their types.
    options : HostOptions
        The options, after `check_host_options`.
    clock : Clock
        Times the stages.

    Returns
    -------
    Hosts
        The results.
    """
    import jax

    from massmap_jax.catalogue.flags import UNUSABLE
    from massmap_jax.likelihood.objects import flag_outside_prior
    from massmap_jax.maps.host_map import host_map
    from massmap_jax.posterior.hosts import host_posterior
    from massmap_jax.relation.presets import find_preset
    from massmap_jax.run.beside_beliefs import beyond_all_masses
    from massmap_jax.run.beside_limit import check_limit
    from massmap_jax.run.map_plan import plan_map
    from massmap_jax.run.observable_names import check_observable
    from massmap_jax.run.under_published import in_unit_of_relation

    # Host masses take redshifts as exact.
    notes = [note.removesuffix(USED_BY_MASSES) for note in catalogue.notes]
    key_relation, key_map = jax.random.split(jax.random.key(options.seed))
    with clock.stage("prior and relation"):
        job = with_definition_of_relation(options.job, notes)
        prior, satellites = load_prior(job.prior, notes), read_satellites(str(options.satellites))
        relation = load_relation(job, key_relation, prior, notes)
    if options.job.is_published:
        check_observable(find_preset(str(options.relation)), catalogue.columns_read.get("lum", ""), notes)
    job, catalogue = in_unit_of_relation(job, catalogue, relation, notes)
    # A map that cannot be made is refused before the masses are computed.
    usable = (flag_outside_prior(catalogue, prior) & UNUSABLE) == 0
    grid, of_map = plan_map(catalogue, usable, job)
    told = cast("RelationFrom | None", options.relation_from)
    if told is None and relation.num_draws > 1:
        told = "fixed_draws"
        notes.append("relation_from is not given: taken as fixed_draws, draws that these galaxies do not update")
    rows = np.isfinite(catalogue.ln_lum_obs) & catalogue.usable
    of = catalogue.ln_lum_obs[rows], catalogue.redshift[rows]
    if too := beyond_all_masses(*of, relation, prior, "the median luminosity of the galaxies"):
        raise MassmapError(too)
    check_limit(selection_of(job), catalogue, notes)
    notes += _told_of_types(membership)
    if membership is None:
        notes.append(
            "nothing is known of the galaxies' types: look at p_sat and at both humps, since one mass and one error do"
            " not describe them"
        )
    with clock.stage("host masses"):
        found = host_posterior(
            catalogue, prior, relation, satellites, membership=membership, selection=selection_of(job),
            relation_from=told, watch=clock.say,
        )  # fmt: skip
    image = None
    notes += of_map
    if grid is not None:
        with clock.stage("mass map"):
            image = host_map(key_map, found, grid, num_draws=options.num_map_draws, watch=clock.say)
    return Hosts(found, image, notes)


def _told_of_types(membership: Membership | None) -> list[str]:
    """What a user should know of types that are all the same, or taken as certain one by one."""
    if membership is not None and membership.group is not None:
        return [f"types: {membership.told}"] if "in no group" in membership.told else []
    if membership is None or not membership.known.any():
        return []
    central, satellite = membership.central[membership.known], membership.satellite[membership.known]
    told = []
    if np.all(central > satellite) or np.all(central < satellite):
        what = "centrals" if central[0] > satellite[0] else "satellites"
        told.append(
            f"all {central.size:,} galaxies are more likely {what} by what is said of their types: see whether the"
            " column is right"
        )
    if np.all((central == 0) | (satellite == 0)):
        told.append(
            "the types of all galaxies are taken as certain, and where one is wrong its mass is, too: flags go with"
            " is_central= and purity=, the share of them that is right"
        )
    return told


def write_hosts(directory: Path, result: Hosts, options: HostOptions, clock: Clock, record: dict) -> dict:
    """Write hosts.FORMAT, host_map.fits, figures/host_map.png and run.json.

    Parameters
    ----------
    directory : Path
        The folder, which exists and is empty.
    result : Hosts
        The results.
    options : HostOptions
        The options.
    clock : Clock
        Times the stages.
    record : dict
        What run.json says of the input.

    Returns
    -------
    dict
        The content of run.json.
    """
    from massmap_jax.catalogue.flags import count
    from massmap_jax.catalogue.write import write_table
    from massmap_jax.figures.maps import map_panels
    from massmap_jax.figures.standard import save_all
    from massmap_jax.maps.files import write_map
    from massmap_jax.run.outputs import full_record, map_record, write_record

    posterior, image = result.posterior, result.mass_map
    with clock.stage("writing"):
        table = posterior.described()
        meta = dict(table.meta) | {"seed": options.seed}
        told = table.units, table.descriptions, table.ucds
        write_table(directory / f"hosts.{options.format}", table.columns, meta, *told)
        if image is not None:
            write_map(directory / "host_map.fits", image, meta)
            save_all({"host_map": map_panels(image)}, directory / "figures", formats=("png",))
    p_sat = posterior.p_sat[posterior.usable]
    found = {
        "rows": len(posterior),
        "rows_with_mass": int(posterior.usable.sum()),
        "flags": count(posterior.flag),
        "expected_satellites": float(p_sat.sum()),
        "total_mass_of_centrals": float(np.nansum(posterior.mean_central_mass)),
        "notes": result.notes,
        "map": None if image is None else map_record(image),
    }
    return write_record(directory, full_record(record | meta | found, options, clock))
