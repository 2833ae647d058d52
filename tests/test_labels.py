"""Labels that contradict each other are refused wherever two labelled things meet; silence on one side is no conflict."""

import dataclasses

import jax
import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.catalogue.units import same_unit
from massmap_jax.errors import MassmapError
from massmap_jax.labels import Labels, check_labels, labels_of, same_cosmology
from massmap_jax.likelihood.objects import Range
from massmap_jax.models.field import field_model
from massmap_jax.models.runner import sample_halo_masses
from massmap_jax.posterior.surface import PosteriorSurface

PRIOR = mm.MassPrior.default()  # 200m, Planck18
GRID = mm.PixelGrid("tangent", (8, 8), 10.0, (10.0, 0.0))
VALUES = {"alpha1": 0.0, "alpha2": 1.0, "alpha3": 1e14, "alpha4": 0.0, "scatter": 0.2}
KEY = jax.random.key(0)


def catalogue(unit="Lsun"):
    return mm.HaloCatalogue.from_arrays(
        luminosity=[0.5, 1.0, 2.0],
        redshift=[0.2, 0.3, 0.4],
        sigma_ln_luminosity=0.05,
        ra=[10.0, 10.1, 9.9],
        dec=[0.0, 0.1, -0.1],
        lum_unit=unit,
    )


def relation(**labels):
    return mm.MassLuminosityRelation.create(**VALUES, **labels)


def beliefs(**labels):
    import numpyro.distributions as dist

    free = {"alpha1": dist.Normal(0.0, 1.0), "alpha2": 1.0, "alpha4": 0.0, "scatter": 0.2}
    return mm.RelationPrior(free, 1e14, labels=labels)


def meetings(cat, rel, prior, belief):
    """Every public function in which a catalogue, a relation (or its prior) and a mass prior meet."""
    where = Range.of([0.0, 1.0], [0.2, 0.4], [0.05, 0.06])
    lens = {"source_redshift": 1.0}
    return {
        "mass_posterior": lambda: mm.mass_posterior(cat, prior, rel),
        "mass_map": lambda: mm.mass_map(KEY, cat, prior, rel, GRID, num_draws=2),
        "convergence_map": lambda: mm.convergence_map(KEY, cat, prior, rel, GRID, **lens, num_draws=2),
        "prior_check": lambda: mm.prior_check(cat, prior, rel),
        "log_likelihood": lambda: mm.log_likelihood(rel, cat, prior),
        "sample_halo_masses": lambda: sample_halo_masses(KEY, cat, prior, rel),
        "halo_mass_model": lambda: mm.halo_mass_model(cat, prior, rel),
        "fit_relation": lambda: mm.fit_relation(cat, prior, belief),
        "field_model": lambda: field_model(cat, prior, belief),
        "surface": lambda: PosteriorSurface.build(prior, rel, where),
    }


NAMES = tuple(meetings(None, None, None, None))


@pytest.mark.parametrize("name", NAMES)
def test_mass_definitions_are_compared_where_things_meet(name):
    labels = {"mass_definition": "500c"}
    call = meetings(catalogue(), relation(**labels), PRIOR, beliefs(**labels))[name]
    with pytest.raises(MassmapError, match="is for 500c masses and the mass prior for 200m"):
        call()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "surface"])
def test_luminosity_units_are_compared_where_things_meet(name):
    labels = {"lum_unit": "erg/s"}
    call = meetings(catalogue("Lsun"), relation(**labels), PRIOR, beliefs(**labels))[name]
    with pytest.raises(MassmapError, match=r"has luminosities in 'Lsun' and the relation( prior)? in 'erg/s'"):
        call()


def test_cosmologies_of_maps_and_priors_are_compared():
    rel, cat = relation(), catalogue("")
    with pytest.raises(MassmapError, match="the map assumes the cosmology WMAP5 and the mass prior Planck18"):
        mm.mass_map(KEY, cat, PRIOR, rel, GRID, unit="Msun/Mpc2", cosmology="WMAP5")
    with pytest.raises(MassmapError, match="the convergence map assumes the cosmology WMAP5"):
        mm.convergence_map(KEY, cat, PRIOR, rel, GRID, source_redshift=1.0, cosmology="WMAP5")
    # A map of mass in pixels depends on no cosmology.
    assert mm.mass_map(KEY, cat, PRIOR, rel, GRID, num_draws=2, cosmology="WMAP5").n_mapped == 3


def test_silence_on_one_side_is_no_conflict():
    unknown = dataclasses.replace(PRIOR, mass_definition="unknown", cosmology="unknown")
    check_labels(
        catalogue=catalogue(""), relation=relation(lum_unit="erg/s", mass_definition="500c"), mass_prior=unknown
    )
    check_labels(catalogue=catalogue("Lsun"), relation=relation(), mass_prior=PRIOR)
    assert labels_of("the prior", unknown) == Labels("the prior")
    assert labels_of("it", beliefs(lum_unit="erg/s")).lum_unit == "erg/s"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("erg/s", "erg s-1", True),
        ("Msun", "solMass", True),
        ("M_sun", "Msun", True),
        ("1e14 Msun", "10^14 Msun", True),
        ("1e14 Msun", "Msun", False),
        ("Lsun", "erg/s", False),
        ("1e44 erg/s", "1e37 W", True),
        ("W", "erg/s", False),
        ("counts", "richness", False),
        ("my unit", "My  unit", True),
    ],
)
def test_units_are_compared_by_what_they_mean(first, second, same):
    assert same_unit(first, second) is same
    assert same_unit(second, first) is same


def test_cosmologies_are_compared_by_their_parameters():
    assert same_cosmology("Planck18", "H0=67.66,Om0=0.3097,Ob0=0.049,sigma8=0.81,n_s=0.967")
    assert not same_cosmology("Planck18", "WMAP9")
    assert not same_cosmology("Planck18", "my own")
    assert np.all([same_cosmology(name, name) for name in ("WMAP9", "my own")])


def test_the_way_out_of_another_definition_is_named():
    with pytest.raises(MassmapError, match="a prior with prior='hmf' and mass_definition='500c'"):
        check_labels(relation=Labels("the relation", mass_definition="500c"), mass_prior=PRIOR)
    with pytest.raises(MassmapError, match=r"both for the same definition \(or correct"):
        check_labels(fit=Labels("the fit", mass_definition="500c"), map=Labels("the map", mass_definition="200m"))
