"""Options of a run as plain values, and the prior, relation and selection that they name.

JAX, and for fits NumPyro and SciPy, take most of the program's time to start. They are imported only where they are
needed, so that bad options are refused at once.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from massmap_jax.catalogue.relation_files import chain_files
from massmap_jax.catalogue.tables import split_extension
from massmap_jax.catalogue.write import SUFFIXES
from massmap_jax.choices import (
    FIT_METHODS,
    LARGEST_SCATTER,
    LIMITS,
    METHODS,
    PRESETS,
    ChosenBy,
    MassNoise,
    check_flux_min,
    check_fwhm,
    check_halo_profile,
    check_healpix_order,
    check_lum_limit,
    check_map_colours,
    check_map_unit,
    check_nside,
    check_redshift_edges,
    check_relation_from_known,
    check_scatter,
    check_snr_limit,
    check_source_redshift,
    need_healpix,
)
from massmap_jax.errors import MassmapError, first_line
from massmap_jax.relation.presets import PRESETS as PUBLISHED
from massmap_jax.relation.presets import Value, find_preset
from massmap_jax.run.observable_options import check_observables, check_selected_on, is_on_mass, named, selected_on
from massmap_jax.run.published_names import mass_column

if TYPE_CHECKING:
    from massmap_jax.maps.form import MapForm
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.law import Relation
    from massmap_jax.run.completeness import Completeness

FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)


def option(
    default,
    help: str,
    group: str,
    *,
    name: str | None = None,
    commands: tuple[str, ...] = ("run", "fit", "stream"),
    many: bool = False,
):
    """Declare an option: a field of one of the classes below, from which the command line makes its own.

    Parameters
    ----------
    default : object
        Its value where it is not given.
    help : str
        One sentence for `--help`.
    group : str
        The heading it stands under in `--help`.
    name : str, optional
        The name that users write, "no_map" for `--no-map`, where it is not the field's; a name that begins with "no_"
        turns a field off that is on by default.
    commands : tuple of str
        The commands that have it.
    many : bool
        Whether it may be given several times, which is the same as giving the values separated by commas.

    Returns
    -------
    dataclasses.Field
    """
    told = {"help": help, "group": group, "name": name, "commands": commands, "many": many}
    return field(default=default, metadata=told)


CATALOGUE, OBSERVABLE, PRIOR, RELATION = "Catalogue", "Observable", "Mass prior", "Relation"
REDSHIFTS = "Redshifts with errors"
CALIBRATION = "Calibration by measured masses"
LIKELIHOODS = "Mass likelihoods of single objects"
SEVERAL = "Further observables"
MASSES, MAP, OUTPUT, MACHINE = "Masses", "Map", "Output", "Machine"
_RUN, _RUN_FIT, _RUN_STREAM = ("run",), ("run", "fit"), ("run", "stream")


@dataclass(frozen=True)
class CatalogueOptions:
    """Which column of the catalogue is what: the keywords of `read_catalogue`, by the same names."""

    layout: str | None = option(
        None,
        "Layout of a published catalogue, which names the columns: massmap-jax columns lists them.",
        CATALOGUE,
        name="columns",
        commands=_RUN_FIT,  # stream has an option of that name: the columns to write
    )
    lum: str | None = option(None, "Column of the luminosity (or mass proxy).", OBSERVABLE)
    z: str | None = option(None, "Column of the redshift, or one number for all objects, as of a snapshot.", CATALOGUE)
    sigma: str | None = option(None, "Column of the luminosity error, or one number.", OBSERVABLE)
    sigma_kind: str | None = option(
        None,
        "The error is in ln, dex, linear (the luminosity's unit), percent, fraction, mag, or bounds (with --sigma-plus "
        "and --sigma-minus); by default its unit or name decides.",
        OBSERVABLE,
    )
    sigma_plus: str | None = option(None, "Column of the upper bar, or bound.", OBSERVABLE)
    sigma_minus: str | None = option(None, "Column of the lower bar, or bound.", OBSERVABLE)
    min_snr: float = option(3.0, "Linear bars below this signal to noise are flagged.", OBSERVABLE)
    noise: str = option(
        "lognormal",
        "lognormal, or linear: normal in the luminosity itself, as of counts and fluxes; keeps any signal to noise.",
        OBSERVABLE,
    )
    ra: str | None = option(None, "Column of the right ascension, or x.", CATALOGUE)
    dec: str | None = option(None, "Column of the declination, or y.", CATALOGUE)
    position_unit: str | None = option(None, "deg, hourangle, arcmin or rad.", CATALOGUE)
    field_centre: str | None = option(None, "RA,DEC in degrees, of arcmin offsets.", CATALOGUE)
    id: str | None = option(None, "Column of the object id.", CATALOGUE)
    duplicate_ids: str = option("error", "error, or row_number.", CATALOGUE)
    truth: str | None = option(None, "Column of the true mass in Msun, for simulations.", CATALOGUE, commands=_RUN_FIT)
    names: str | None = option(None, "Column names a,b,c of a text file without header.", CATALOGUE)
    delimiter: str | None = option(
        None, "Between the cells of a text file: comma, semicolon, tab, pipe, space or a character.", CATALOGUE
    )
    header: str | None = option(
        None, "yes or no: the first line of a text file names its columns; found where not given.", CATALOGUE
    )
    lum_log: str | None = option(
        None, "The luminosity column is none (linear), ln or log10; asked for where it looks like one.", OBSERVABLE
    )
    lum_scale: float | None = option(
        None, "Multiplies the luminosity (1e14 for 1e14 Msun); by default the scale in its unit. 1 means 1.", OBSERVABLE
    )
    lum_unit: str | None = option(None, "Unit of the luminosity, in place of the file's.", OBSERVABLE)
    lum_in: str | None = option(None, "Convert the luminosity to this unit, such as '1e44 erg/s'.", OBSERVABLE)
    magnitudes: str | None = option(None, "The luminosity column holds absolute or apparent magnitudes.", OBSERVABLE)
    mag_zero: float | None = option(
        None, "Absolute magnitude of one unit of luminosity (4.65 for Lsun in SDSS r).", OBSERVABLE
    )

    z_err: str | None = option(
        None,
        "Column of the redshift error, one number, or the two ends LOW,HIGH of 68 %: redshifts are then distributions.",
        REDSHIFTS,
    )
    z_err_kind: str | None = option(
        None,
        "The error is one of z, or relative: over 1 + z. A column is one of z by default.",
        REDSHIFTS,
    )
    z_err_zero: str = option("refuse", "An error of 0: refuse it, or exact for a spectroscopic redshift.", REDSHIFTS)
    z_pdf: str | None = option(
        None,
        "Column of p(z), an array in each row (FITS, Parquet, HDF5), in place of an error.",
        REDSHIFTS,
    )
    z_grid: str | None = option(
        None,
        "The redshifts of p(z): first:last:number as in 0:3:301, a column, or a file; qp files have their own.",
        REDSHIFTS,
    )
    z_quantiles: str | None = option(
        None,
        "Columns of nine or more quantiles of p(z), per cent and column, 1:z01,5:z05,16:z16,...",
        REDSHIFTS,
    )
    z_contains: str | None = option(
        None,
        "What went into the redshifts: likelihood (they scatter about the true ones), posterior (also --z-code-prior), "
        "or posterior_with_flux (p(z) has seen the flux).",
        REDSHIFTS,
    )
    z_code_prior: str | None = option(
        None,
        "File of the distribution of redshifts that went into p(z), columns z and density: it is divided out.",
        REDSHIFTS,
    )
    lum_moves: str | None = option(
        None,
        "yes: the luminosity was computed from a flux with this redshift, and changes with it; no: it was not, such as "
        "a richness.",
        REDSHIFTS,
    )

    @property
    def keywords(self) -> dict:
        """The keywords of `read_catalogue`: numbers and pairs read from the text that a command line gives."""
        found = asdict(self)
        found["columns"] = found.pop("layout")
        found["sigma"] = number_or_name(self.sigma)
        found["z_err"] = number_or_name(self.z_err)
        found["field_centre"] = pair("field_centre", self.field_centre)
        found["names"] = self.names.split(",") if self.names else None
        return found


@dataclass(frozen=True)
class PriorOptions:
    """The mass prior of a run: "default", "hmf", or a file (.npz, or text with columns z, M, density)."""

    source: str = option("default", "default, hmf, or a file (.npz; text z, M, density).", PRIOR, name="prior")
    per: str = option("mass", "Density of a text prior: mass, ln_mass, log10_mass.", PRIOR, name="prior_per")
    mass_unit: str = option("Msun", "Msun, or Msun/h with --h.", PRIOR, name="prior_mass_unit")
    h: float | None = option(None, "Little h of a prior in Msun/h.", PRIOR)
    snap: str | None = option(None, "upper: next redshift node up, as in 2017.", PRIOR, name="prior_snap")
    support: str = option("extend", "extend, or sharp (table ends are physical).", PRIOR, name="prior_support")
    mass_range: str | None = option(
        None, "hmf: lowest and highest mass of its halos [Msun], 1e13:1e16; 1e10:1e16 where not given.", PRIOR,
        name="prior_mass_range",
    )  # fmt: skip
    hmf_model: str = option("Tinker10", "hmf: mass function.", PRIOR)
    cosmology: str = option(
        "Planck18",
        "Of --prior hmf, Msun/Mpc2, halo sizes, lensing: Planck18, WMAP9, ... or H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,"
        "n_s=0.95.",
        PRIOR,
    )
    transfer_model: str = option("EH", "hmf: transfer function.", PRIOR)
    mass_definition: str | None = option(None, "200m, 500c, vir, ...", PRIOR)

    @property
    def is_text(self) -> bool:
        """Whether the prior is a text file, whose columns need an explanation.

        Returns
        -------
        bool
            True for a text file.
        """
        return self.source not in ("default", "hmf") and not self.source.endswith(".npz")


@dataclass(frozen=True)
class JobOptions:
    """Everything beside the catalogue that decides the result of a run."""

    prior: PriorOptions = field(default_factory=PriorOptions)
    relation: str | None = option(
        None,
        "fit (to this catalogue), identity (the observable is a mass), a published relation (massmap-jax relations), "
        "or a file of draws.",
        RELATION,
        commands=_RUN_STREAM,
    )
    num_relation_draws: int = option(
        100, "Draws that the masses use: of the fit (which keeps at least 1000), or of a preset.", RELATION
    )
    relation_from: str | None = option(
        None,
        "this_catalogue, other_data or fixed_draws (default, said in the output).",
        RELATION,
        commands=_RUN_STREAM,
    )
    relation_columns: str | None = option(
        None,
        "Columns of a file of draws: alpha1=A,alpha2=B,...,weight=W; a number is a value in all draws (alpha3=3e14).",
        RELATION,
        commands=_RUN_STREAM,
    )
    ignore_columns: bool = option(
        False,
        "Leave out columns and header lines of a file of draws that are not understood.",
        RELATION,
        commands=_RUN_STREAM,
    )
    relation_prior: str | None = option(
        None,
        "Prior of the relation that is fitted: a preset, or alpha1=MEAN:SD,alpha2=...,alpha4=0,"
        "scatter=...,alpha3=PIVOT.",
        RELATION,
        commands=_RUN_FIT,
    )
    relation_scatter: str | None = option(
        None,
        "identity, and published relations without one: scatter in ln of the observable at fixed mass, MEAN or "
        "MEAN:SD.",
        RELATION,
        commands=_RUN_STREAM,
    )
    mass_bias: str | None = option(
        None,
        "identity and published relations: 1-b, the ratio of the source's masses to true ones, MEAN or MEAN:SD.",
        RELATION,
        commands=_RUN_STREAM,
    )
    cosmology_draws: str | None = option(
        None,
        "planck18, or a chain or table of draws of the cosmology: a fit varies it with the relation, and each draw of "
        "any other relation gets a mass function of its own.",
        PRIOR,
        commands=_RUN_FIT,
    )
    cosmology_columns: str | None = option(
        None,
        "Columns of that file: omega_m=A,sigma8=B,...,weight=W; a number is a value in all draws (n_s=0.965).",
        PRIOR,
        commands=_RUN_FIT,
    )
    fit_method: str = option("laplace", "fit: laplace, importance or nuts.", RELATION, commands=_RUN_FIT)
    accept_misfit: bool = option(
        False,
        "Write the results of a fit that does not describe the catalogue, with a warning on top of each.",
        RELATION,
        commands=_RUN_FIT,
    )
    lum_limit: float | None = option(
        None, "Least luminosity in the catalogue, in the unit that it is read in.", RELATION
    )
    flux_limit: float | None = option(None, "Earlier name of --lum-limit: a luminosity, not a flux.", RELATION)
    flux_min: float | None = option(
        None,
        "Least flux in the catalogue [erg/s/cm2]: the luminosity limit at each redshift, with distances"
        " of --cosmology.",
        RELATION,
    )
    snr_limit: float | None = option(
        None,
        "Least signal to noise in the catalogue, with --noise linear: each object's limit is so many of its errors.",
        RELATION,
        commands=_RUN_FIT,
    )
    completeness: str | None = option(
        None,
        "File of the probability that an object is in the catalogue: columns of the luminosity (or an observable, by "
        "its name), z and completeness, a row for each node of the grid; without z the same at all redshifts.",
        RELATION,
    )
    completeness_columns: str | None = option(
        None,
        "Columns of that file: lum=A (or NAME=A of an observable),z=B,completeness=C; found where not given.",
        RELATION,
    )
    k_correction: float = option(
        0.0,
        "Slope s of L = 4 pi D_L^2 flux (1 + z)^s, of --flux-min, apparent magnitudes and --lum-moves yes.",
        RELATION,
    )
    pivot: float = option(1.0, "identity: Msun per unit of the observable.", RELATION, commands=_RUN_STREAM)
    calib_mass: str | None = option(
        None,
        "Column of measured masses, blank where an object has none: the relation is calibrated on them.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_sigma: str | None = option(
        None, "Column of their error, or one number in ln M.", CALIBRATION, commands=_RUN_FIT
    )
    calib_sigma_kind: str | None = option(
        None,
        "That error is in ln, dex, linear, percent, fraction, or bounds (with --calib-sigma-plus and "
        "--calib-sigma-minus); by default its unit or name decides.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_sigma_plus: str | None = option(
        None, "Column of their upper bar, or bound, in place of --calib-sigma.", CALIBRATION, commands=_RUN_FIT
    )
    calib_sigma_minus: str | None = option(None, "Column of their lower bar, or bound.", CALIBRATION, commands=_RUN_FIT)
    calib_noise: str = option(
        "lognormal",
        "lognormal, or linear: normal in the mass itself, with bars as long whatever was measured, as of lensing.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_log: str | None = option(
        None, "The measured masses are none (linear), ln or log10; asked for where they look like one.", CALIBRATION,
        commands=_RUN_FIT,
    )  # fmt: skip
    calib_unit: str | None = option(
        None, "Unit of the measured masses, in place of the file's, such as '1e14 Msun'.", CALIBRATION,
        commands=_RUN_FIT,
    )  # fmt: skip
    calib_correlation: str | None = option(
        None, "Correlation of the errors of mass and luminosity: a column, or one number.", CALIBRATION,
        commands=_RUN_FIT,
    )  # fmt: skip
    calib_bias: str = option(
        "0", "Bias of the measured masses in ln M, MEAN or MEAN:SD.", CALIBRATION, commands=_RUN_FIT
    )
    calib_scatter: str = option(
        "0", "Their intrinsic scatter in ln M, MEAN or MEAN:SD.", CALIBRATION, commands=_RUN_FIT
    )
    calib_scatter_correlation: str = option(
        "0", "Correlation of that scatter with the luminosity's, MEAN or MEAN:SD.", CALIBRATION, commands=_RUN_FIT
    )
    calib_chosen_by: str = option(
        "random",
        "How the objects with a mass were chosen: random, luminosity, or mass (with --selected-on).",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_definition: str | None = option(
        None, "Their definition, 500c, 200m or vir; by default what the column's name says.", CALIBRATION,
        commands=_RUN_FIT,
    )  # fmt: skip
    calib_convert: bool = option(
        False,
        "Convert them to the mass prior's definition, as NFW halos of mean concentration, with the scatter that adds.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_file: str | None = option(
        None,
        "Another file that the --calib columns are in, matched with the catalogue by --calib-id, or else by position.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_id: str | None = option(
        None,
        "Id column of that file; the catalogue's is --id, or its column of the same name.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_ra: str | None = option(
        None, "Right ascension of that file; found where not given, as in a catalogue.", CALIBRATION,
        commands=_RUN_FIT,
    )  # fmt: skip
    calib_dec: str | None = option(None, "Declination of that file.", CALIBRATION, commands=_RUN_FIT)
    calib_position_unit: str | None = option(None, "deg, hourangle or rad.", CALIBRATION, commands=_RUN_FIT)
    calib_z: str | None = option(None, "Redshift of that file; found where not given.", CALIBRATION, commands=_RUN_FIT)
    calib_separation: float | None = option(
        None,
        "Largest separation in arcmin: 1 for a match by position, 10 for objects of one id, where not given.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    calib_dz: float | None = option(None, "Largest |dz|/(1+z), 0.05 where not given.", CALIBRATION, commands=_RUN_FIT)
    population: str | None = option(
        None,
        "Distribution of the masses, fitted too: hmf_completeness (default), gaussian, skew_normal, mixture:K, fixed.",
        CALIBRATION,
        commands=_RUN_FIT,
    )
    compare_populations: bool = option(
        False,
        "Fit every form of the population, and write populations.csv: how well each predicts the measured masses.",
        CALIBRATION,
        commands=("fit",),
    )
    mass_likelihood: str | None = option(
        None,
        "A file of mass likelihoods of some objects, by id: columns lnl_<log10 M>, or a mass and its error.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    mass_likelihood_id: str | None = option(
        None, "Its id column; found where not given. The catalogue's is --id.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_mass: str | None = option(
        None, "Its column of masses; found where not given.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_error: str | None = option(
        None, "Their error, a column or one number in ln M; found where not given.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_error_kind: str | None = option(
        None,
        "That error is in ln, dex, linear, percent, fraction or bounds; by default its unit or name decides.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    mass_likelihood_error_plus: str | None = option(
        None, "Column of the upper bar, or bound, of these masses.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_error_minus: str | None = option(
        None, "Column of the lower bar, or bound, of these masses.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_unit: str | None = option(
        None, "Unit of the masses, in place of the file's, such as '1e14 Msun'.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_log: str | None = option(
        None, "The masses are none (linear), ln or log10; asked for where they look like one.", LIKELIHOODS,
        commands=_RUN_FIT,
    )  # fmt: skip
    mass_likelihood_scatter: float = option(
        0.0,
        "Intrinsic scatter of these masses in ln M, for errors that do not hold it; about 0.2 for weak lensing.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    mass_likelihood_bias: str = option(
        "0", "Bias b that all share, MEAN or MEAN:SD: they are likelihoods of ln M + b.", LIKELIHOODS, commands=_RUN_FIT
    )
    mass_likelihood_definition: str | None = option(
        None, "Definition of the masses, 500c, 200m or vir, which has to be the mass prior's.", LIKELIHOODS,
        commands=_RUN_FIT,
    )  # fmt: skip
    shear: str | None = option(
        None,
        "A file of tangential shear profiles of some objects, by id, with a row for each bin: mass likelihoods are made"
        " of them.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    shear_id: str | None = option(
        None, "Its id column; found where not given, as the next four are.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_radius: str | None = option(None, "Its column of radii.", LIKELIHOODS, commands=_RUN_FIT)
    shear_radius_unit: str | None = option(
        None, "Their unit, in place of the file's: kpc or Mpc (proper, without h), arcmin, ...", LIKELIHOODS,
        commands=_RUN_FIT,
    )  # fmt: skip
    shear_gt: str | None = option(
        None, "Its column of tangential (reduced) shears, blank where a bin has none.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_error: str | None = option(None, "Its column of their errors.", LIKELIHOODS, commands=_RUN_FIT)
    shear_covariance: str | None = option(
        None,
        "Or of their covariance, a matrix in each row, in a file with one row for each object and arrays of bins.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    shear_z: str | None = option(
        None, "Redshift of the sources, a column or one number.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_sigma_crit: str | None = option(
        None, "Column of their critical surface density (proper, without h), in place of --shear-z.", LIKELIHOODS,
        commands=_RUN_FIT,
    )  # fmt: skip
    shear_sigma_crit_unit: str | None = option(
        None, "Its unit, in place of the file's, such as Msun/pc2.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_profile: str = option(
        "nfw", "Halos of the shears: nfw, or bmo1, NFW with a smooth truncation.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_scatter: float = option(
        0.2, "Intrinsic scatter of lensing masses about the true ones in ln M.", LIKELIHOODS, commands=_RUN_FIT
    )
    shear_stack: str | None = option(
        None,
        "The catalogue's column that names the stack an object is in, blank for none: the profiles of --shear are means"
        " over the objects of a stack then, by its name in their id column.",
        LIKELIHOODS,
        commands=_RUN_FIT,
    )
    shear_stack_weight: str | None = option(
        None, "The catalogue's column of the weight of an object in its stack.", LIKELIHOODS, commands=_RUN_FIT
    )
    observable: str | None = option(
        None,
        "A further observable beside the luminosity, NAME=COLUMN, blank where an object has none; repeat it for more.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    observable_sigma: str | None = option(
        None, "Its error, NAME=COLUMN, or NAME=NUMBER in ln.", SEVERAL, commands=_RUN_FIT, many=True
    )
    observable_sigma_kind: str | None = option(
        None,
        "That error is in ln, dex, linear, percent or fraction, NAME=KIND; by default its unit or name decides.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    observable_log: str | None = option(
        None,
        "The column is none (linear), ln or log10, NAME=LOG; asked for where it looks like one.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    observable_unit: str | None = option(
        None,
        "Its unit, in place of the file's, NAME=UNIT; the numbers stay as they are in the column.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    observable_limit: str | None = option(
        None,
        "Column that says which of its values are limits, NAME=COLUMN: true, yes, 1 or < for an upper limit, > for a "
        "lower one.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    observable_prior: str | None = option(
        None,
        "Prior of its relation with the mass, NAME:alpha1=MEAN:SD,alpha2=...,alpha4=0,scatter=...,alpha3=PIVOT.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    scatter_correlation: str | None = option(
        None,
        "Belief about the correlations of the scatters: shape of an LKJ prior (2 where not given; 1 is flat for two), "
        "or correlation_NAME=MEAN:SD with the luminosity.",
        SEVERAL,
        commands=_RUN_FIT,
        many=True,
    )
    selected_on: str | None = option(
        None,
        "The catalogue holds what is above a value of an observable, NAME>VALUE, or NAME>VALUE:WIDTH in ln; "
        "mass>VALUE is a measured mass in Msun, and takes VALUE:WIDTH:EVOLUTION with (1 + z)^EVOLUTION, each with "
        "~ERROR where it is to be fitted, as in mass>3e14~0.2:0.1~0.5.",
        SEVERAL,
        commands=_RUN_FIT,
    )
    method: str = option(
        "auto",
        "auto (analytic, or surface where there are many), analytic, surface (interpolated, to 1 % of the error), "
        "monte_carlo, importance, quadrature or nuts.",
        MASSES,
        commands=_RUN,
    )
    num_lum_draws: int = option(100, "Luminosity draws of a sampled method.", MASSES, commands=_RUN)
    make_map: bool = option(True, "No map.", MAP, name="no_map", commands=_RUN)
    make_figures: bool = option(True, "Tables and map, no pictures.", OUTPUT, name="no_figures", commands=_RUN_FIT)
    pdf_figures: bool = option(False, "Each figure as PDF, too.", OUTPUT, commands=_RUN_FIT)
    map_colours: str = option(
        "magma", "Colours of maps: magma (bright is massive) or grey (dark is massive).", OUTPUT, commands=_RUN
    )
    make_report: bool = option(True, "No report.html.", OUTPUT, name="no_report", commands=_RUN)
    pixel_arcmin: float | None = option(None, "Pixel side; default about 1/64 of the field.", MAP, commands=_RUN_STREAM)
    num_map_draws: int = option(100, "Coherent draws of the map.", MAP, commands=_RUN_STREAM)
    map_unit: str = option("Msun", "Msun in a pixel, or Msun/arcmin2, Msun/Mpc2 (proper).", MAP, commands=_RUN)
    map_slices: tuple[float, ...] | None = option(
        None, "Edges of redshift slices, such as 0.1,0.3,0.5: the map is a cube.", MAP, commands=_RUN
    )
    smooth_arcmin: float | None = option(
        None, "FWHM in arcmin of a Gaussian that every map draw is smoothed by.", MAP, name="smooth", commands=_RUN
    )
    nside: int | None = option(None, "A HEALPix map of this nside (extra healpix).", MAP, commands=_RUN)
    healpix_order: str = option("RING", "RING or NESTED.", MAP, commands=_RUN)
    halo_profile: str | None = option(None, "nfw: halos on the map at their own size, not points.", MAP, commands=_RUN)
    source_redshift: float | None = option(
        None, "A map of the convergence and shear of sources there, convergence.fits.", MAP, commands=_RUN
    )
    circle: tuple[float, ...] | None = option(
        None, "RA,DEC,RADIUS (deg, deg, arcmin): the summed mass in that circle, with its error.", MAP, commands=_RUN
    )
    format: str = option("parquet", "Table: parquet, fits, csv, ecsv or vot (VOTable).", OUTPUT, commands=_RUN)
    column_names: str | None = option(
        None,
        "act, act_dr5, act_dr6 or erass1: name the columns of the table as that catalogue does.",
        OUTPUT,
        commands=_RUN,
    )
    seed: int = option(0, "Random seed, written to every output.", MACHINE)
    apparent_magnitudes: bool = False
    """Whether the catalogue's luminosities come from apparent magnitudes, and so from distances."""
    moving_luminosity: bool = False
    """Whether they change with redshifts that are not exact."""
    uncertain_redshifts: bool = False
    """Whether redshifts are distributions."""

    @property
    def has_likelihoods(self) -> bool:
        """Whether some objects have a mass likelihood."""
        return self.mass_likelihood is not None or self.shear is not None

    @property
    def has_draws(self) -> bool:
        """Whether the relation is uncertain, or the cosmology that its draws are paired with."""
        uncertain = any(text is not None and ":" in text for text in (self.relation_scatter, self.mass_bias))
        return self.relation != "identity" or uncertain or self.cosmology_draws is not None

    @property
    def draws_of_planck(self) -> bool:
        """Whether draws of the cosmology are those of `CosmologyDraws.planck18`, and of no file."""
        return str(self.cosmology_draws).lower() == "planck18"

    @property
    def is_published(self) -> bool:
        """Whether the relation is named like a published one: neither a file nor one of the program's own words."""
        return self.relation not in (None, "fit", "identity", *PRESETS) and not self.is_file

    @property
    def is_file(self) -> bool:
        """Whether the relation is a file of draws, or the root of chains."""
        if self.relation in (None, "fit", "identity", *PRESETS):
            return False
        # A folder may have a relation's name, as that of an earlier run has, and it is no file of draws.
        is_folder = Path(self.relation).is_dir() and self.relation.lower() in PUBLISHED
        return not is_folder and (Path(self.relation).exists() or bool(chain_files(self.relation)))

    @property
    def needs_distances(self) -> bool:
        """Whether the map depends on a cosmology."""
        per_mpc2 = self.map_unit == "Msun/Mpc2"
        return per_mpc2 or self.halo_profile is not None or self.source_redshift is not None

    @property
    def uses_distances(self) -> bool:
        """Whether anything but the mass prior depends on a cosmology."""
        measured = self.flux_min is not None or self.apparent_magnitudes or self.calib_convert or self.shear is not None
        return measured or (self.make_map and self.needs_distances)

    @property
    def form(self) -> MapForm:
        """The settings of the map as a `MapForm`, made from the options' own names for them.

        Returns
        -------
        MapForm
            The settings.
        """
        from massmap_jax.maps.form import MapForm

        return MapForm(
            unit=self.map_unit,
            redshift_edges=self.map_slices,
            fwhm_arcmin=self.smooth_arcmin,
            halo_profile=self.halo_profile,
            cosmology=self.prior.cosmology,
        )


# 1 - b between these: no calibration of cluster masses is as far off, and b itself, or a per cent, is outside.
_LEAST_RATIO, _LARGEST_RATIO = 0.4, 2.5
# Options that act only with others, by field of `JobOptions` or `PriorOptions`: when they act, and with what.
_ACTS = {
    "mass_range": (lambda o: o.prior.source == "hmf", "prior='hmf'"),
    "hmf_model": (lambda o: o.prior.source == "hmf", "prior='hmf'"),
    "transfer_model": (lambda o: o.prior.source == "hmf", "prior='hmf'"),
    "per": (lambda o: o.prior.is_text, "a prior that is a text file"),
    "mass_unit": (lambda o: o.prior.is_text, "a prior that is a text file"),
    "snap": (lambda o: o.prior.is_text, "a prior that is a text file"),
    "h": (lambda o: o.prior.is_text and o.prior.mass_unit == "Msun/h", "a text prior with prior_mass_unit='Msun/h'"),
    "support": (lambda o: not o.prior.source.endswith(".npz"), "a prior that is no .npz, which states its own"),
    "cosmology": (
        lambda o: o.prior.source == "hmf" or o.uses_distances,
        "prior='hmf', calib_convert=, shear=, a map in Msun/Mpc2, with halo_profile= or source_redshift=, flux_min=, or"
        " magnitudes='apparent'",
    ),
    "cosmology_draws": (
        lambda o: not o.prior.is_text,
        "a mass prior that is a mass function, prior='default' or 'hmf', and a text file has no cosmology",
    ),
    "cosmology_columns": (
        lambda o: o.cosmology_draws is not None and not o.draws_of_planck,
        "cosmology_draws=, a file of draws of the cosmology",
    ),
    "num_relation_draws": (
        lambda o: o.has_draws and not o.is_file,
        "a relation that the program draws itself, as it does 'fit' and published ones",
    ),
    "relation_from": (lambda o: o.has_draws, "a relation with draws"),
    "relation_columns": (lambda o: o.is_file, "a relation that is a file of draws"),
    "ignore_columns": (lambda o: o.is_file, "a relation that is a file of draws"),
    "relation_prior": (lambda o: o.relation == "fit", "relation='fit'"),
    "relation_scatter": (
        lambda o: o.relation == "identity" or o.is_published,
        "relation='identity' or a published one",
    ),
    "mass_bias": (lambda o: o.relation == "identity" or o.is_published, "relation='identity' or a published one"),
    "fit_method": (lambda o: o.relation == "fit", "relation='fit'"),
    "calib_mass": (lambda o: o.relation == "fit", "a relation that is fitted, with relation_prior="),
    **dict.fromkeys(
        (
            *("calib_sigma", "calib_sigma_kind", "calib_sigma_plus", "calib_sigma_minus", "calib_log", "calib_unit"),
            *("calib_correlation", "calib_bias", "calib_scatter", "calib_noise"),
            *("calib_scatter_correlation", "calib_chosen_by", "calib_definition", "calib_convert", "calib_file"),
            *("population", "compare_populations"),
        ),
        (lambda o: o.calib_mass is not None, "calib_mass=, the column of measured masses"),
    ),
    **dict.fromkeys(
        ("calib_id", "calib_ra", "calib_dec", "calib_position_unit", "calib_z", "calib_separation", "calib_dz"),
        (lambda o: o.calib_file is not None, "calib_file=, a file of measured masses"),
    ),
    **dict.fromkeys(
        (
            *("mass_likelihood_id", "mass_likelihood_mass", "mass_likelihood_error", "mass_likelihood_error_kind"),
            *("mass_likelihood_error_plus", "mass_likelihood_error_minus"),
            *("mass_likelihood_unit", "mass_likelihood_log", "mass_likelihood_scatter", "mass_likelihood_definition"),
        ),
        (lambda o: o.mass_likelihood is not None, "mass_likelihood=, a file of mass likelihoods"),
    ),
    "mass_likelihood_bias": (
        lambda o: o.relation == "fit" and o.has_likelihoods,
        "a relation that is fitted with mass_likelihood= or shear=, a file of mass likelihoods or of shear profiles",
    ),
    **dict.fromkeys(
        (
            "shear_id",
            "shear_radius",
            "shear_radius_unit",
            "shear_gt",
            "shear_error",
            "shear_covariance",
            "shear_z",
            "shear_sigma_crit",
            "shear_profile",
            "shear_scatter",
        ),
        (lambda o: o.shear is not None, "shear=, a file of shear profiles"),
    ),
    "shear_stack": (
        lambda o: o.relation == "fit" and o.shear is not None,
        "a relation that is fitted with shear=, a file of shear profiles",
    ),
    "shear_stack_weight": (lambda o: o.shear_stack is not None, "shear_stack=, a column of the catalogue"),
    "shear_sigma_crit_unit": (
        lambda o: o.shear_sigma_crit is not None,
        "shear_sigma_crit=, a column of the shear file",
    ),
    "observable": (
        lambda o: o.relation == "fit" or o.is_file,
        "a relation that is fitted, with relation_prior=, or the relation.npz of such a fit",
    ),
    **dict.fromkeys(
        ("observable_sigma", "observable_sigma_kind", "observable_log", "observable_unit", "observable_limit"),
        (lambda o: o.observable is not None, "observable=, a column beside the luminosity"),
    ),
    **dict.fromkeys(
        ("observable_prior", "scatter_correlation"),
        (
            lambda o: o.relation == "fit" and o.observable is not None,
            "a relation that is fitted with observable=, a column beside the luminosity",
        ),
    ),
    "selected_on": (
        lambda o: o.relation == "fit" and (o.observable is not None or o.calib_mass is not None),
        "a relation that is fitted with observable=, a column beside the luminosity, or calib_mass=, measured masses",
    ),
    "accept_misfit": (lambda o: o.relation == "fit", "relation='fit'"),
    **dict.fromkeys(
        LIMITS,
        (
            lambda o: o.relation == "fit" or o.relation_from == "other_data",
            "relation='fit', or draws with relation_from='other_data': it says which objects are in the catalogue, and "
            "masses under a fixed relation do not depend on that",
        ),
    ),
    "completeness": (
        lambda o: o.relation == "fit" or o.relation_from == "other_data" or o.uncertain_redshifts,
        "relation='fit', draws with relation_from='other_data', or redshifts with errors: it says which objects are in"
        " the catalogue, and masses under a fixed relation at known redshifts do not depend on that",
    ),
    "completeness_columns": (
        lambda o: o.completeness is not None,
        "completeness=, a file of the completeness of the catalogue",
    ),
    "k_correction": (
        lambda o: o.flux_min is not None or o.apparent_magnitudes or o.moving_luminosity,
        "flux_min=, magnitudes='apparent' or lum_moves='yes'",
    ),
    "pivot": (lambda o: o.relation == "identity", "relation='identity'"),
    "num_lum_draws": (lambda o: o.method in ("monte_carlo", "importance"), "method='monte_carlo' or 'importance'"),
    "pixel_arcmin": (lambda o: o.make_map, "a map"),
    "num_map_draws": (lambda o: o.make_map or o.circle is not None, "a map or a circle"),
    "map_unit": (lambda o: o.make_map, "a map"),
    "map_slices": (lambda o: o.make_map, "a map"),
    "smooth_arcmin": (lambda o: o.make_map, "a map"),
    "nside": (lambda o: o.make_map, "a map"),
    "healpix_order": (lambda o: o.make_map, "a map"),
    "halo_profile": (lambda o: o.make_map, "a map"),
    "pdf_figures": (lambda o: o.make_figures, "figures"),
    "map_colours": (lambda o: o.make_figures and o.make_map, "figures of a map"),
}
RELATION_CHOICES = (
    "a published relation by name (massmap-jax relations lists them), 'identity' where the observable is itself a "
    "mass, a file of draws, or 'fit' with relation_prior=, the prior of the relation"
)


def check_effects(options: JobOptions) -> None:
    """Refuse options that were given but have no effect with the others.

    Parameters
    ----------
    options : JobOptions
        The options.

    Raises
    ------
    MassmapError
        With the option, its value, and what it is for.
    """
    for part in (options, options.prior):
        for f in fields(part):
            value = getattr(part, f.name)
            if f.name in _ACTS and value != f.default:
                acts, needs = _ACTS[f.name]
                if not acts(options):
                    shown = f"{f.metadata['name'] or f.name}={_shown(value)}"
                    raise MassmapError(f"{shown} has no effect here: it is for {needs}; leave it out")


def _shown(value) -> str:
    """The value of an option as a user writes it; none for a switch."""
    if isinstance(value, tuple):
        return repr(",".join(f"{one:g}" for one in value))
    return "" if value is True else f"{value:g}" if isinstance(value, float) else repr(value)


def check_options(options: JobOptions) -> None:
    """Refuse options that no catalogue could make valid, before anything is read.

    Parameters
    ----------
    options : JobOptions
        The options.

    Raises
    ------
    MassmapError
        For a missing relation, an unknown name, a value out of range, or options that contradict each other.
    """
    if options.relation is None:
        raise MassmapError(
            "no relation between mass and observable is given, and none is guessed: give relation= " + RELATION_CHOICES
        )
    _mass_range(options.prior.mass_range)
    if options.relation == "fit" and options.relation_prior is None:
        raise MassmapError(
            "the relation is to be fitted, and it has no prior: give relation_prior='alpha1=MEAN:SD,"
            "alpha2=MEAN:SD,alpha4=0,scatter=MEAN:SD,alpha3=PIVOT' in natural logarithms and the catalogue's unit, or "
            "a preset; or give relation= instead: " + RELATION_CHOICES
        )
    check_effects(options)
    if options.method not in (known := ("auto", *METHODS, "surface", "nuts")):
        raise MassmapError(f"method {options.method!r} is not known: give one of {', '.join(known)}")
    if options.relation == "fit":
        if options.fit_method not in FIT_METHODS:
            raise MassmapError(f"fit_method {options.fit_method!r} is not known: give one of {', '.join(FIT_METHODS)}")
        if options.relation_prior not in PRESETS:
            from massmap_jax.relation.beliefs import RelationPrior

            RelationPrior.parse(options.relation_prior)
        _check_calibration(options)
    elif options.relation == "identity":
        _check_pivot(options.pivot)
    elif options.is_published:
        _check_published(options)
    check_observables(options)
    check_selected_on(options)
    _check_likelihoods(options)
    _check_cosmology_draws(options)
    if (scatter := value_of("relation_scatter", options.relation_scatter)) is not None:
        check_scatter(scatter.value, "relation_scatter")
    bias = value_of("mass_bias", options.mass_bias)
    if bias is not None and not _LEAST_RATIO < bias.value < _LARGEST_RATIO:
        raise MassmapError(
            f"mass_bias is {options.mass_bias}, so that masses would change by a factor of"
            f" {1 / max(bias.value, 1e-9):.3g}: give 1 - b, such as 0.8:0.05 for masses that are 20 % too low"
        )
    check_of_all(options)
    if options.circle is not None:
        check_circle(options.circle, is_flat=True)  # whether it is on the sky, the catalogue tells
    _check_map(options)


def check_of_all(options: JobOptions) -> None:
    """Refuse values that no command can use, whatever it computes.

    Parameters
    ----------
    options : JobOptions
        The options.

    Raises
    ------
    MassmapError
        For an unknown name, a value out of range, or more than one limit of the catalogue.
    """
    if options.relation_from is not None:
        check_relation_from_known(options.relation_from)
    if options.prior.source not in ("default", "hmf"):
        _check_prior_file(options.prior.source)
    if options.num_relation_draws < 1:
        raise MassmapError(f"num_relation_draws is {options.num_relation_draws}: give at least 1")
    limits = [name for name in LIMITS if getattr(options, name) is not None]
    selected = [*limits, *(n for n in ("completeness", "selected_on") if getattr(options, n) is not None)]
    if len(selected) > 1:
        raise MassmapError(f"{' and '.join(f'{name}=' for name in selected)} are given: a catalogue has one limit")
    for name in limits:
        checks = {"flux_min": check_flux_min, "snr_limit": check_snr_limit}
        checks.get(name, check_lum_limit)(getattr(options, name))
    _check_completeness(options)
    if options.format not in FORMATS:
        raise MassmapError(f"format {options.format!r} is not known: give one of {', '.join(FORMATS)}")
    if options.column_names is not None:
        mass_column(options.column_names, "500c")  # refuses a name that is not known
    if not 0 <= options.seed < 2**63:
        raise MassmapError(f"seed is {options.seed}: give an integer from 0 to 2**63 - 1")
    if options.num_map_draws < 2:
        raise MassmapError(f"num_map_draws is {options.num_map_draws}: give at least 2")
    size = options.pixel_arcmin
    if size is not None and not (np.isfinite(size) and size > 0):
        raise MassmapError(f"pixel_arcmin is {size:g}: give a positive size in arcmin")


def _check_completeness(options: JobOptions) -> None:
    """Refuse a completeness that is no file, and columns of it that cannot be read."""
    if options.completeness is None:
        return
    if not Path(split_extension(options.completeness)[0]).is_file():
        raise MassmapError(
            f"completeness={options.completeness!r} is no file: give a table with columns of the luminosity, z and the"
            " completeness"
        )
    completeness_columns(options)


def completeness_columns(options: JobOptions) -> dict[str, str]:
    """Read which columns of the completeness the options name.

    Parameters
    ----------
    options : JobOptions
        The options.

    Returns
    -------
    dict of str to str
        Column by "z", "completeness", and "lum" or the name of an observable.

    Raises
    ------
    MassmapError
        For any other text, or a name that there is not.
    """
    given = named_columns("completeness_columns", options.completeness_columns, "lum = A, z = B")
    known = ("lum", *named(options, "observable"), "z", "completeness")
    if unknown := [name for name in given if name not in known]:
        raise MassmapError(
            f"completeness_columns={options.completeness_columns!r} names {unknown[0]!r}, and a completeness has"
            f" {', '.join(known)}: leave it out, or name an observable that is given as observable="
        )
    if len(axes := [name for name in given if name not in ("z", "completeness")]) > 1:
        raise MassmapError(
            f"completeness_columns={options.completeness_columns!r} names {' and '.join(axes)}, and a completeness is"
            " one of a luminosity or one observable: leave the others out"
        )
    return given


def _check_calibration(options: JobOptions) -> None:
    """Refuse beliefs about measured masses, or a population, that cannot be read."""
    if options.calib_mass is None:
        return
    if options.calib_sigma is None and options.calib_sigma_plus is None and options.calib_sigma_minus is None:
        raise MassmapError(
            "the calibration masses need an error: give calib_sigma=, a column or one number in ln M, or"
            " calib_sigma_plus= and calib_sigma_minus="
        )
    if options.calib_chosen_by not in get_args(ChosenBy):
        raise MassmapError(
            f"calib_chosen_by is {options.calib_chosen_by!r}: give one of {', '.join(get_args(ChosenBy))}"
        )
    if options.calib_noise not in get_args(MassNoise):
        raise MassmapError(f"calib_noise is {options.calib_noise!r}: give {' or '.join(get_args(MassNoise))}")
    on_mass = is_on_mass(options.selected_on)
    if on_mass and options.calib_noise == "linear":
        raise MassmapError("calib_noise='linear' and a selection on the measured mass are given: leave one of them out")
    if options.calib_chosen_by == "mass" and not on_mass:
        raise MassmapError(
            "masses of objects that were chosen by their measured mass need that selection: give"
            " selected_on='mass>VALUE', in Msun"
        )
    if on_mass and options.calib_convert:
        raise MassmapError("calib_convert= and a selection on the measured mass are given: leave one of them out")
    if options.method not in ("auto", *METHODS):
        raise MassmapError(
            f"method {options.method!r} knows one mass prior, and a relation calibrated on measured masses brings its"
            " own population: give method 'analytic', or leave it out"
        )
    for name in ("calib_separation", "calib_dz"):
        value = getattr(options, name)
        if value is not None and not (np.isfinite(value) and value > 0):
            raise MassmapError(f"{name} is {value:g}: give a number above 0")
    _check_mass_definition("calib_definition", options.calib_definition)
    from massmap_jax.prior.population import Population
    from massmap_jax.relation.calibration import belief

    belief("bias", options.calib_bias)
    belief("scatter", options.calib_scatter)
    belief("correlation", options.calib_scatter_correlation)
    if options.population is not None:
        Population.parse(options.population)


def _check_likelihoods(options: JobOptions) -> None:
    """Refuse mass likelihoods beside what they cannot be used with, and beliefs about them that cannot be read."""
    if not options.has_likelihoods:
        return
    given = "shear" if options.mass_likelihood is None else "mass_likelihood"
    if options.mass_likelihood is not None and options.shear is not None:
        raise MassmapError("mass_likelihood= and shear= are given: an object has one likelihood of its mass, give one")
    for name in ("calib_mass", "observable"):
        if getattr(options, name) is not None:
            raise MassmapError(
                f"{given}= cannot be fitted together with {name}=: leave one out, or give masses of normal error as"
                " calib_mass="
            )
    if options.method not in ("auto", "analytic", "quadrature"):
        raise MassmapError(
            f"method {options.method!r} does not use mass likelihoods: give method 'analytic', or leave it out"
        )
    for name in ("mass_likelihood_scatter", "shear_scatter"):
        scatter = getattr(options, name)
        if not 0 <= scatter <= LARGEST_SCATTER:
            raise MassmapError(
                f"{name} is {scatter:g}: give a number in ln M, at least 0 and at most {LARGEST_SCATTER:g}, such as 0.2"
                " for 20 %"
            )
    if options.shear_profile not in ("nfw", "bmo1"):
        raise MassmapError(f"shear_profile is {options.shear_profile!r}: give nfw or bmo1")
    _check_mass_definition("mass_likelihood_definition", options.mass_likelihood_definition)
    from massmap_jax.relation.calibration import belief

    belief("extra_bias", options.mass_likelihood_bias)


def _check_cosmology_draws(options: JobOptions) -> None:
    """Refuse draws of the cosmology that are no file, and what neither a fit nor `with_cosmology` takes beside them."""
    given = options.cosmology_draws
    if given is None:
        return
    if not options.draws_of_planck and not chain_files(given):
        raise MassmapError(
            f"cosmology_draws={given!r} is no file and no known name: give 'planck18', or a chain or table of draws"
            " that exists"
        )
    named_columns("cosmology_columns", options.cosmology_columns, "omega_m=A,sigma8=B")
    if options.relation != "fit" and options.observable is not None:
        raise MassmapError(
            "cosmology_draws= and observable= are given: cosmologies are paired with a relation of luminosity and mass"
            " alone; leave one of them out, or fit relation and cosmology together"
        )
    if options.compare_populations:
        raise MassmapError(
            "compare_populations= compares forms of the population under one cosmology: leave it, or cosmology_draws=,"
            " out"
        )
    if options.population is not None:
        from massmap_jax.prior.population import Population
        from massmap_jax.prior.population_cosmology import PopulationUnderCosmology

        PopulationUnderCosmology.check(Population.parse(options.population))
    if options.uncertain_redshifts:
        raise MassmapError(
            "cosmology_draws= and redshifts that are not exact (z_err=, z_pdf=, z_quantiles=) are given: these need the"
            " number of objects at each"
            " redshift, which draws of the cosmology do not tell; leave one of them out"
        )
    if options.method in ("surface", "nuts"):
        raise MassmapError(
            f"method {options.method!r} knows one mass prior, and cosmology_draws= give every draw its own: give method"
            " 'analytic', or leave it out"
        )


def _check_mass_definition(name: str, definition: str | None) -> None:
    """Refuse what is no definition of a mass."""
    if definition is not None and not re.fullmatch(r"[1-9]\d*[cm]|vir", definition):
        raise MassmapError(f"{name} is {definition!r}: give one like 500c, 200m or vir")


def check_circle(circle: tuple[float, ...], *, is_flat: bool) -> None:
    """Refuse what is no RA, Dec and radius, or x, y and radius.

    Parameters
    ----------
    circle : tuple of float
        The centre [deg], or offsets [arcmin], and the radius [arcmin].
    is_flat : bool
        Whether the centre is one of offsets, which may be beyond 90.

    Raises
    ------
    MassmapError
        For another number of values, and for values that none of them has.
    """
    bad = len(circle) != 3 or not np.isfinite(circle).all()
    beyond = not (bad or is_flat) and (abs(circle[0]) > 360 or abs(circle[1]) > 90)
    if bad or beyond or circle[2] <= 0:
        shown = ",".join(f"{value:g}" for value in circle)
        raise MassmapError(
            f"circle is {shown}: give RA and Dec of its centre in degrees and a radius above 0 in arcmin, such as "
            "150.1,2.2,5"
        )


def _check_map(options: JobOptions) -> None:
    """Refuse options of a map that cannot be made."""
    check_map_unit(options.map_unit)
    check_map_colours(options.map_colours)
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
    """Refuse a pivot that is not a positive mass."""
    if not (np.isfinite(pivot) and pivot > 0):
        raise MassmapError(f"pivot is {pivot:g}: it must be a positive mass in Msun")


def _check_published(options: JobOptions) -> None:
    """Refuse an unknown published relation, or one that needs a scatter."""
    name = options.relation
    preset, _, more = name.partition(":")
    if more and preset.lower() in PUBLISHED:
        raise MassmapError(
            f"relation {name!r} is the published relation {preset.lower()} and {more!r}: give relation={preset!r}, and"
            " its scatter as relation_scatter='MEAN:SD' in ln of the observable"
        )
    if any(mark in name for mark in "/\\.") and name.lower() not in PUBLISHED:
        raise MassmapError(f"relation {name!r} is not found: give a file that exists, or {RELATION_CHOICES}")
    preset = find_preset(name)
    if preset.needs_scatter and options.relation_scatter is None:
        raise MassmapError(
            f"the relation {name} is published without a scatter at fixed mass, and masses depend on it: give "
            "relation_scatter='MEAN:SD' in ln of the observable (0.1 dex is 0.23)"
        )


def value_of(name: str, text: str | None) -> Value | None:
    """Read a number with an optional error, "MEAN" or "MEAN:SD".

    Parameters
    ----------
    name : str
        Name of the option.
    text : str or None
        Its value.

    Returns
    -------
    Value or None
        None if nothing is given.

    Raises
    ------
    MassmapError
        For any other text, or a number that is negative or not finite.
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in str(text).split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not (np.isfinite(numbers).all() and min(numbers) >= 0):
        raise MassmapError(f"{name} is {text!r}: give MEAN or MEAN:SD, not negative, such as 0.2:0.05")
    return Value(*numbers)


def _check_prior_file(source: str) -> None:
    """Refuse a prior that is neither a file nor a known name."""
    if not Path(source).exists():
        raise MassmapError(
            f"prior {source!r} is no file and no known name: give 'default', 'hmf' or a file that exists "
            "(.npz, or text with columns z, M, density)"
        )


def with_definition_of_relation(options: JobOptions, notes: list[str]) -> JobOptions:
    """Give a mass function that is made here the definition of a published relation, where none is given.

    Parameters
    ----------
    options : JobOptions
        The options of the run.
    notes : list of str
        A note is added.

    Returns
    -------
    JobOptions
        The options with the definition.
    """
    from massmap_jax.halo.mass_function import MASS_DEFINITIONS
    from massmap_jax.relation.presets import find_preset

    if not options.is_published or (options.prior.source, options.prior.mass_definition) != ("hmf", None):
        return options
    preset = find_preset(str(options.relation))
    if preset.mass_definition not in MASS_DEFINITIONS:
        return options
    notes.append(
        f"mass definition: {preset.mass_definition}, that of the relation {preset.name}, as mass_definition= was not"
        " given"
    )
    return replace(options, prior=replace(options.prior, mass_definition=preset.mass_definition))


def load_prior(options: PriorOptions, notes: list[str] | None = None) -> MassPrior:
    """Load the mass prior that the options name.

    Parameters
    ----------
    options : PriorOptions
        The options.
    notes : list of str, optional
        What is unusual in their cosmology is added.

    Returns
    -------
    MassPrior
        The prior; its mass definition is never converted.

    Raises
    ------
    MassmapError
        If the file cannot be read, or the prior is for another mass definition than the options.
    """
    from massmap_jax.halo.cosmology import told_of_cosmology
    from massmap_jax.prior.mass_prior import MassPrior

    if notes is not None:
        notes += told_of_cosmology(options.cosmology)
    if options.source == "default":
        prior = replace(MassPrior.default(), support=options.support)
    elif options.source == "hmf":
        prior = MassPrior.from_hmf(
            **_mass_range(options.mass_range),
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


def _mass_range(text: str | None) -> dict[str, tuple[float, float]]:
    """Read "LOWEST:HIGHEST" masses in Msun, as an option of `MassPrior.from_hmf`; its default where none is given."""
    if text is None:
        return {}
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 1e3 <= low < high <= 1e18:
        raise MassmapError(
            f"prior_mass_range {text!r} cannot be used: give the lowest and the highest mass in Msun, such as"
            " 1e13:1e16, not their logs"
        )
    return {"log10_mass_range": (float(np.log10(low)), float(np.log10(high)))}


def _prior_from_file(options: PriorOptions) -> MassPrior:
    """Read a prior from .npz, or from text with columns z, M, density."""
    from massmap_jax.prior.mass_prior import MassPrior

    _check_prior_file(options.source)
    path = Path(options.source)
    if path.suffix == ".npz":
        return MassPrior.load(path)
    columns = _columns_of_prior(path)
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


def _columns_of_prior(path: Path) -> np.ndarray:
    """Columns of a text prior: of blanks and numbers alone, or of any table of text, with commas and a header too."""
    try:
        return np.loadtxt(path, unpack=True, ndmin=2)
    except Exception as error:  # of NumPy, or of gzip or bz2 for a damaged file
        reason = first_line(error)
    from massmap_jax.catalogue.luminosity import named_log, numbers
    from massmap_jax.catalogue.tables import open_table

    try:
        table = open_table(str(path))
        columns = np.array([numbers(table, name, "prior", []) for name in table.names])
    except MassmapError:
        raise MassmapError(f"prior file {path} is not a table of three columns of numbers: {reason}") from None
    names = [name.strip().lower() for name in table.names]
    if not names[0].startswith(("z", "redshift")) or any(name.startswith(("z", "redshift")) for name in names[1:]):
        raise MassmapError(
            f"prior file {path} has the columns {', '.join(table.names)}: give z, M and density, in this order"
        )
    if logs := [name for name in table.names if named_log(name)]:
        raise MassmapError(
            f"prior file {path} has {', '.join(map(repr, logs))} by name as logarithms: give M in Msun and the density"
            " itself"
        )
    return columns


DRAWS_OF_UNCERTAIN = 100
"""Relation draws for objects whose redshift is a distribution."""


def draws_of_uncertain(relation: Relation, notes: list[str]) -> Relation:
    """Keep as many draws of a relation as masses with redshifts that are distributions are integrated under.

    Parameters
    ----------
    relation : Relation
        One relation, or a batch of draws.
    notes : list of str
        A note is added where there are more.

    Returns
    -------
    Relation
        At most `DRAWS_OF_UNCERTAIN` draws.
    """
    if relation.num_draws <= DRAWS_OF_UNCERTAIN:
        return relation
    notes.append(
        f"{DRAWS_OF_UNCERTAIN} of {relation.num_draws} relation draws are used, as each mass is an integral over"
        " dozens of redshifts, too"
    )
    return relation.thinned(DRAWS_OF_UNCERTAIN)


def load_relation(options: JobOptions, key, prior: MassPrior, notes: list[str] | None = None) -> Relation:
    """Load the relation that the options name: a preset or a published one (draws), "identity", or a file of draws.

    Parameters
    ----------
    options : JobOptions
        The options.
    key : jax.Array
        Random key for the draws of a preset or a published relation.
    prior : MassPrior
        The mass prior, whose mass definition an identity relation takes.
    notes : list of str, optional
        Notes on what was assumed about a file are added.

    Returns
    -------
    Relation
        One relation, or a batch of draws.

    Raises
    ------
    MassmapError
        If nothing has that name, or the file contains no relation.
    """
    from massmap_jax.relation.law import MassLuminosityRelation
    from massmap_jax.relation.published import identity_relation, published_relation

    name = options.relation
    uncertain = {
        "scatter": value_of("relation_scatter", options.relation_scatter),
        "mass_bias": value_of("mass_bias", options.mass_bias),
    }
    if name == "identity":
        _check_pivot(options.pivot)
        return identity_relation(
            key,
            options.num_relation_draws,
            pivot=options.pivot,
            mass_definition=prior.mass_definition,
            **uncertain,
        )
    if name in PRESETS:
        return MassLuminosityRelation.preset_draws(name, key, options.num_relation_draws)
    if options.is_published:
        return published_relation(name, key, options.num_relation_draws, **uncertain)
    from massmap_jax.relation.cosmology_posterior import CosmologyPosterior
    from massmap_jax.relation.fitted import RelationPosterior
    from massmap_jax.relation.joint_posterior import JointPosterior

    if CosmologyPosterior.is_saved(name):
        return CosmologyPosterior.load(name).draws
    if JointPosterior.is_saved(name):
        return JointPosterior.load(name).draws
    if RelationPosterior.is_saved(name):
        return RelationPosterior.load(name).draws
    from massmap_jax.catalogue.relation_files import read_relation

    columns = named_columns("relation_columns", options.relation_columns, "alpha1=A,alpha2=B")
    draws = read_relation(name, columns=columns, ignore_columns=options.ignore_columns, notes=notes)
    return MassLuminosityRelation.from_draws(**draws, source=Path(name).name)


def named_columns(option: str, text: str | None, example: str) -> dict[str, str]:
    """Read which column of a file of draws is which parameter, "alpha1=a,alpha3=3e14".

    Parameters
    ----------
    option : str
        Name of the option, for the message.
    text : str or None
        Its value.
    example : str
        How it may begin, for the message.

    Returns
    -------
    dict of str to str
        Column, or number, by parameter.

    Raises
    ------
    MassmapError
        For any other text.
    """
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    if not all(name.strip() and equals and column.strip() for name, equals, column in pairs):
        raise MassmapError(f"{option} is {text!r}: give {example},... with the columns' names")
    return {name.strip(): column.strip() for name, _, column in pairs}


def selection_of(options: JobOptions, lum_unit: str = "", completeness: Completeness | None = None):
    """Make the selection on the luminosity that the options name.

    Parameters
    ----------
    options : JobOptions
        The options.
    lum_unit : str
        Unit of the catalogue's luminosities, which a limit in flux needs.
    completeness : Completeness, optional
        The completeness, read from its file, in that unit.

    Returns
    -------
    Selection or None
        None if there is no limit, or one of another observable.

    Raises
    ------
    MassmapError
        For a limit in flux with luminosities that are not in a unit of power.
    """
    assert (completeness is None) == (options.completeness is None)
    if completeness is not None:
        return None if completeness.observable else completeness.selection()
    limit = options.flux_limit if options.lum_limit is None else options.lum_limit
    if limit is None and options.flux_min is None and options.snr_limit is None:
        return None
    from massmap_jax.likelihood.selection import FluxLimit, RedshiftLimit, SignalToNoiseLimit

    if limit is not None:
        return FluxLimit(limit)
    if options.snr_limit is not None:
        return SignalToNoiseLimit(options.snr_limit)
    slope = options.k_correction
    return RedshiftLimit.from_flux(options.flux_min, options.prior.cosmology, lum_unit=lum_unit, k_slope=slope)


def selection_of_fit(options: JobOptions, lum_unit: str = "", completeness: Completeness | None = None):
    """Make the selection that a fit takes: on the luminosity, on another observable or on a measured mass.

    Parameters
    ----------
    options : JobOptions
        The options.
    lum_unit : str
        Unit of the catalogue's luminosities, which a limit in flux needs.
    completeness : Completeness, optional
        The completeness, read from its file, in that unit.

    Returns
    -------
    Selection, SelectedOn, SelectedOnMass or None
        None if every object is in the catalogue.
    """
    if completeness is not None:
        return completeness.selection()
    return selection_of(options, lum_unit) if options.selected_on is None else selected_on(options.selected_on)


def number_or_name(text: str | None) -> str | float | None:
    """Read an error as a number if it is one, else as the name of a column.

    Parameters
    ----------
    text : str or None
        The text of the option.

    Returns
    -------
    str or float or None
        The name or the number.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def pair(name: str, text: str | None) -> tuple[float, float] | None:
    """Read "RA,DEC" in degrees.

    Parameters
    ----------
    name : str
        Name of the option, for the message.
    text : str or None
        Its value.

    Returns
    -------
    tuple of (float, float) or None
        The two numbers, None if nothing is given.

    Raises
    ------
    MassmapError
        For any other text.
    """
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise MassmapError(f"{name} is {text!r}: give RA,DEC in degrees, such as 150.1,2.2") from None
    return first, second


def numbers(name: str, text: str, example: str) -> tuple[float, ...]:
    """Read numbers that are separated by commas, such as the edges of redshift slices, "0.1,0.3,0.5".

    Parameters
    ----------
    name : str
        Name of the option, for the message.
    text : str
        Its value.
    example : str
        What is to be given, with an example, for the message.

    Returns
    -------
    tuple of float
        The numbers.

    Raises
    ------
    MassmapError
        For any other text.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MassmapError(f"{name} is {text!r}: give {example}") from None
