"""The measured mass of an object as one more observable of that object, where its own mass is asked for."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.observables import MEASURED, MISSING, Observables
from massmap_jax.errors import MassmapError
from massmap_jax.labels import check_labels
from massmap_jax.relation.calibrated import OWN_MASS, CalibratedRelation
from massmap_jax.relation.calibration import CalibrationMasses
from massmap_jax.relation.law import LABELS, MassLuminosityRelation


def with_measured_masses(
    catalogue: HaloCatalogue, relation, calibration: CalibrationMasses
) -> tuple[HaloCatalogue, CalibratedRelation]:
    """Take measured masses as observables of slope 1, with the bias, scatter and correlation of each draw.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    relation : CalibratedRelation
        Draws of a fit with calibration masses, or one of them.
    calibration : CalibrationMasses
        Measured masses, one entry for each row of the catalogue.

    Returns
    -------
    catalogue : HaloCatalogue
        The objects with the measured masses among their observables.
    relation : CalibratedRelation
        The draws with a law for them.

    Raises
    ------
    MassmapError
        A relation without a calibration, another number of rows, or another definition of mass.
    """
    if not isinstance(relation, CalibratedRelation):
        raise MassmapError(
            "measured masses enter the mass of their own object through the bias and scatter of a fit with"
            " calibration=: give the draws of such a fit"
        )
    if calibration.ln_mass.shape[0] != len(catalogue):
        raise MassmapError(
            f"calibration masses are given for {calibration.ln_mass.shape[0]} objects, and the catalogue has"
            f" {len(catalogue)}: give one for each row, NaN where there is none"
        )
    check_labels(calibration=calibration, relation=relation)
    catalogue = catalogue.seen_by(relation.names)
    return replace(catalogue, observables=_observables(catalogue, calibration)), _relation(relation)


def _observables(catalogue: HaloCatalogue, calibration: CalibrationMasses) -> Observables:
    """The observables of the catalogue, and the measured masses as the last of them."""
    own, rows = catalogue.observables, len(catalogue)
    there = np.isfinite(calibration.ln_mass)
    kind = np.where(there, MEASURED, MISSING)[:, None]
    ln_value, sigma = (np.where(there, a, np.nan)[:, None] for a in (calibration.ln_mass, calibration.sigma))
    names: tuple[str, ...] = (OWN_MASS,)
    errors = np.eye(1)
    if own is not None:
        names, errors = (*own.names, OWN_MASS), own.error_correlation
        ln_value, sigma, kind = (
            np.hstack(pair) for pair in ((own.ln_value, ln_value), (own.sigma, sigma), (own.kind, kind))
        )
    size = 1 + len(names)
    matrix = np.zeros((rows, size, size))
    matrix[:, :-1, :-1], matrix[:, -1, -1] = errors, 1.0
    with_lum = np.where(there, calibration.correlation, 0.0)[:, None]
    # Independent of the others at fixed luminosity, as in the fit.
    matrix[:, -1, :-1] = matrix[:, :-1, -1] = with_lum * matrix[:, 0, :-1]
    return Observables(names, ln_value, sigma, kind, matrix, {})


def _relation(relation: CalibratedRelation) -> CalibratedRelation:
    """The relation with the law of a measured mass as the last of its laws."""
    shape, size = jnp.shape(relation.alpha1), 2 + len(relation.names)
    law = MassLuminosityRelation(
        alpha1=np.log(relation.alpha3) + relation.measured["bias"],
        alpha2=1.0,
        alpha3=relation.alpha3,
        scatter=relation.measured["mass_scatter"],
    )
    matrix = np.zeros((*shape, size, size))
    matrix[..., :-1, :-1] = 1.0 if relation.scatter_correlation is None else relation.scatter_correlation
    matrix[..., -1, -1] = 1.0
    with_lum = np.asarray(relation.measured["correlation"])[..., None]
    matrix[..., -1, :-1] = matrix[..., :-1, -1] = with_lum * matrix[..., 0, :-1]
    others = dict(zip(relation.names, relation.laws, strict=True)) | {OWN_MASS: law}
    labels = {name: getattr(relation, name) for name in LABELS}
    return CalibratedRelation(
        measured=relation.measured,
        population=relation.population,
        selected=relation.selected,
        others=others,
        scatter_correlation=matrix,
        **relation.columns(),
        **labels,
    )
