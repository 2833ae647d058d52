"""What decides the answer beside the catalogue, as plain values; the prior and the relation that they name.

JAX, and NumPyro and SciPy for fits, take most of the program's time to start: they are imported where they are asked
for, so that what is refused is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.write import SUFFIXES
from massmap_jax.choices import (
    FIT_METHODS,
    METHODS,
    PRESETS,
    check_flux_limit,
    check_fwhm,
    check_halo_profile,
    check_healpix_order,
    check_map_unit,
    check_nside,
    check_redshift_edges,
    check_relation_from_known,
    check_source_redshift,
    need_healpix,
)
from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    from massmap_jax.maps.form import MapForm
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.law import MassLuminosityRelation

FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)


@dataclass(frozen=True)
class PriorOptions:
    """Which mass prior: "default", "hmf", or a file (.npz, or text with columns z, M, density)."""

    source: str = "default"
    per: str = "mass"
    mass_unit: str = "Msun"
    h: float | None = None
    snap: str | None = None
    support: str = "extend"
    hmf_model: str = "Tinker10"
    cosmology: str = "Planck18"
    transfer_model: str = "EH"
    mass_definition: str | None = None


@dataclass(frozen=True)
class JobOptions:
    """Everything that decides the answer, beside the catalogue."""

    prior: PriorOptions = field(default_factory=PriorOptions)
    relation: str = "fit"
    num_relation_draws: int = 100
    relation_from: str | None = None
    relation_prior: str = "bigmali2017"
    fit_method: str = "laplace"
    flux_limit: float | None = None
    pivot: float = 1.0
    method: str = "auto"
    num_lum_draws: int = 100
    make_map: bool = True
    make_figures: bool = True
    pdf_figures: bool = False
    make_report: bool = True
    pixel_arcmin: float | None = None
    num_map_draws: int = 100
    map_unit: str = "Msun"
    map_slices: tuple[float, ...] | None = None
    smooth_arcmin: float | None = None
    nside: int | None = None
    healpix_order: str = "RING"
    halo_profile: str | None = None
    source_redshift: float | None = None
    format: str = "parquet"
    seed: int = 0

    @property
    def form(self) -> MapForm:
        """What shapes the map: the one place where the options' names for it meet those of `MapForm`."""
        from massmap_jax.maps.form import MapForm

        return MapForm(
            unit=self.map_unit,
            redshift_edges=self.map_slices,
            fwhm_arcmin=self.smooth_arcmin,
            halo_profile=self.halo_profile,
            cosmology=self.prior.cosmology,
        )


def check_options(options: JobOptions) -> None:
    """Refuse what no catalogue can mend, before anything is read."""
    if options.method not in (known := ("auto", *METHODS, "surface", "nuts")):
        raise MassmapError(f"method {options.method!r} is not known: give one of {', '.join(known)}")
    if options.relation == "fit":
        if options.fit_method not in FIT_METHODS:
            raise MassmapError(f"fit_method {options.fit_method!r} is not known: give one of {', '.join(FIT_METHODS)}")
        if options.relation_prior not in PRESETS:
            from massmap_jax.relation.beliefs import RelationPrior

            RelationPrior.parse(options.relation_prior)
    elif options.relation == "identity":
        _check_pivot(options.pivot)
    elif options.relation not in PRESETS:
        _check_relation_file(options.relation)
    if options.relation_from is not None:
        check_relation_from_known(options.relation_from)
    if options.prior.source not in ("default", "hmf"):
        _check_prior_file(options.prior.source)
    if options.num_relation_draws < 1:
        raise MassmapError(f"num_relation_draws is {options.num_relation_draws}: give at least 1")
    if options.flux_limit is not None:
        check_flux_limit(options.flux_limit)
    if options.format not in FORMATS:
        raise MassmapError(f"format {options.format!r} is not known: give one of {', '.join(FORMATS)}")
    if not 0 <= options.seed < 2**63:
        raise MassmapError(f"seed is {options.seed}: give an integer from 0 to 2**63 - 1")
    if options.num_map_draws < 2:
        raise MassmapError(f"num_map_draws is {options.num_map_draws}: give at least 2")
    size = options.pixel_arcmin
    if size is not None and not (np.isfinite(size) and size > 0):
        raise MassmapError(f"pixel_arcmin is {size:g}: give a positive size in arcmin")
    _check_map(options)


def _check_map(options: JobOptions) -> None:
    check_map_unit(options.map_unit)
    check_healpix_order(options.healpix_order)
    if options.map_slices is not None:
        check_redshift_edges(options.map_slices, "map_slices")
    if options.smooth_arcmin is not None:
        check_fwhm(options.smooth_arcmin)
    if options.halo_profile is not None:
        check_halo_profile(options.halo_profile, on_a_plane=options.nside is None)
    if options.source_redshift is not None:
        check_source_redshift(options.source_redshift)
        if options.nside is not None or not options.make_map:
            asked = "no map is asked for" if not options.make_map else f"nside is {options.nside}"
            raise MassmapError(
                f"source_redshift is {options.source_redshift:g} and {asked}: a convergence map is made on the mass "
                "map's tangent plane, so ask for one"
            )
    if options.nside is None:
        return
    check_nside(options.nside)
    need_healpix()
    if options.pixel_arcmin is not None:
        raise MassmapError(
            f"nside is {options.nside} and pixel_arcmin {options.pixel_arcmin:g}: a map has one kind of pixels, give "
            "nside for HEALPix or pixel_arcmin for a tangent plane"
        )


def _check_pivot(pivot: float) -> None:
    if not (np.isfinite(pivot) and pivot > 0):
        raise MassmapError(f"pivot is {pivot:g}: it must be a positive mass in Msun")


def _check_relation_file(name: str) -> None:
    if not Path(name).exists():
        raise MassmapError(
            f"relation {name!r} is not found: give a file that exists, or one of fit, {', '.join(PRESETS)}, identity"
        )


def _check_prior_file(source: str) -> None:
    if not Path(source).exists():
        raise MassmapError(
            f"prior {source!r} is no file and no known name: give 'default', 'hmf' or a file that exists "
            "(.npz, or text with columns z, M, density)"
        )


def load_prior(options: PriorOptions) -> MassPrior:
    """The prior that the options name; mass definitions are kept as they are told."""
    from massmap_jax.prior.mass_prior import MassPrior

    if options.source == "default":
        prior = replace(MassPrior.default(), support=options.support)
    elif options.source == "hmf":
        prior = MassPrior.from_hmf(
            hmf_model=options.hmf_model,
            cosmology=options.cosmology,
            transfer_model=options.transfer_model,
            mass_definition=options.mass_definition or "200m",
            support=options.support,
        )
    else:
        prior = _prior_from_file(options)
    if options.mass_definition not in (None, prior.mass_definition):
        raise MassmapError(
            f"the prior {options.source!r} is for {prior.mass_definition} masses and mass_definition is "
            f"{options.mass_definition!r}: nothing is converted, so choose a prior of that definition, "
            "such as prior='hmf'"
        )
    return prior


def _prior_from_file(options: PriorOptions) -> MassPrior:
    from massmap_jax.prior.mass_prior import MassPrior

    _check_prior_file(options.source)
    path = Path(options.source)
    if path.suffix == ".npz":
        return MassPrior.load(path)
    try:
        columns = np.loadtxt(path, unpack=True, ndmin=2)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise MassmapError(f"prior file {path} is not a table of three columns of numbers: {error}") from None
    if columns.shape[0] != 3:
        raise MassmapError(f"prior file {path} has {columns.shape[0]} columns: it needs three, z, M and density")
    return MassPrior.from_table(
        *columns,
        per=options.per,
        mass_unit=options.mass_unit,
        h=options.h,
        snap=options.snap,
        support=options.support,
        mass_definition=options.mass_definition or "unknown",
        description=path.name,
    )


def load_relation(options: JobOptions, key, prior: MassPrior) -> MassLuminosityRelation:
    """The relation that the options name: a preset (draws), "identity", or a file of draws."""
    from massmap_jax.relation.law import MassLuminosityRelation

    name = options.relation
    if name == "identity":
        _check_pivot(options.pivot)
        return MassLuminosityRelation.identity(pivot=options.pivot, mass_definition=prior.mass_definition)
    if name in PRESETS:
        if options.num_relation_draws < 1:
            raise MassmapError(f"num_relation_draws is {options.num_relation_draws}: give at least 1")
        return MassLuminosityRelation.preset_draws(name, key, options.num_relation_draws)
    _check_relation_file(name)
    from massmap_jax.relation.fitted import RelationPosterior

    if RelationPosterior.is_saved(name):
        return RelationPosterior.load(name).draws
    from massmap_jax.catalogue.read import read_relation

    return MassLuminosityRelation.create(**read_relation(name), source=Path(name).name)


def selection_of(options: JobOptions):
    """The selection that the options name, or None."""
    if options.flux_limit is None:
        return None
    from massmap_jax.likelihood.selection import FluxLimit

    return FluxLimit(options.flux_limit)
