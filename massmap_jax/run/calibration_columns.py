"""Measured masses of a run: columns of the catalogue, read by the same rules as its luminosity and error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from massmap_jax.catalogue.column_names import choose_column, named_column
from massmap_jax.catalogue.luminosity import numbers, read_luminosity
from massmap_jax.catalogue.luminosity_error import read_sigma
from massmap_jax.catalogue.tables import open_table
from massmap_jax.catalogue.units import mass_definition_in
from massmap_jax.errors import MassmapError
from massmap_jax.run.options import number_or_name

if TYPE_CHECKING:
    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.relation.calibration import CalibrationMasses
    from massmap_jax.run.options import JobOptions


def read_calibration(
    source: str, columns: dict, options: JobOptions, catalogue: HaloCatalogue, notes: list[str]
) -> CalibrationMasses | None:
    """Read the measured masses that the options name.

    Parameters
    ----------
    source : str
        The catalogue's file.
    columns : dict
        Keywords that the catalogue was read with.
    options : JobOptions
        The options of the run.
    catalogue : HaloCatalogue
        The catalogue, whose rows they belong to.
    notes : list of str
        What was taken for granted or converted is added.

    Returns
    -------
    CalibrationMasses or None
        None if the options name none.

    Raises
    ------
    MassmapError
        For columns that do not exist, masses that are not in a unit of mass, or an error whose kind is not clear.
    """
    if options.calib_mass is None:
        return None
    from massmap_jax.relation.calibration import CalibrationMasses

    table = open_table(
        source, names=columns.get("names"), delimiter=columns.get("delimiter"), header=columns.get("header")
    )
    name = named_column(table, options.calib_mass, "calib_mass")
    found: list[str] = []
    unit = options.calib_unit or table.units.get(name, "")
    if not unit:
        raise MassmapError(
            f"calibration mass column {name!r} of {table.label} states no unit: give calib_unit='1e14 Msun', or"
            " whatever it is"
        )
    mass = read_luminosity(
        table, name, found, lum_log=None, lum_scale=None, lum_unit=options.calib_unit, lum_in="Msun", magnitudes=None,
        redshift=catalogue.redshift,
    )  # fmt: skip
    sigma, bad = read_sigma(
        table, mass, found, sigma=number_or_name(options.calib_sigma), kind=options.calib_sigma_kind, plus=None,
        minus=None, min_snr=1.0001, choose=lambda role, given, option, **more: _chosen(table, role, given), whole=True,
    )  # fmt: skip
    usable = (mass.flag == 0) & (bad == 0) & np.isfinite(mass.ln_lum_obs)
    ln_mass = np.where(usable, mass.ln_lum_obs, np.nan)
    correlation: str | float | np.ndarray | None = number_or_name(options.calib_correlation)
    if isinstance(correlation, str):
        correlation = numbers(table, named_column(table, correlation, "calib_correlation"), "correlation", found)
    notes.extend(_of_masses(note) for note in found)
    left_out = int((np.isfinite(mass.ln_lum_obs) & ~usable).sum())
    notes.append(
        f"{int(usable.sum()):,} of {len(catalogue):,} objects have a calibration mass ({name!r}), taken as a"
        " measurement into which no prior went" + (f"; {left_out:,} more cannot be used" if left_out else "")
    )
    return CalibrationMasses.from_arrays(
        mass=np.exp(ln_mass),
        sigma_ln_mass=np.where(usable, sigma, np.nan),
        correlation=0.0 if correlation is None else correlation,
        bias=options.calib_bias,
        scatter=options.calib_scatter,
        scatter_correlation=options.calib_scatter_correlation,
        chosen_by=options.calib_chosen_by,  # type: ignore[arg-type]
        mass_definition=mass_definition_in(name) or "unknown",
    )


def _chosen(table, role, given):
    """The column of the error, which has to be named: that of the luminosity would be guessed else."""
    if given is None:
        raise MassmapError("the calibration masses need an error: give calib_sigma=, a column or one number in ln M")
    return choose_column(table, role, given, "calib_sigma")[0]


def _of_masses(note: str) -> str:
    """A note of the reader of luminosities, said of the calibration masses."""
    return "calibration masses: " + note.replace("luminosity", "mass")
