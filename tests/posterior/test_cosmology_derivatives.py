"""Derivatives of masses in the cosmology: against differences of posteriors under mass functions of their own."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.halo.abundance import CosmologyParameters

NODES = {"redshift": np.arange(0, 1.21, 0.2), "log10_mass_range": (12.0, 16.0)}
LAW = {"alpha1": 0.5, "alpha2": 1.6, "alpha4": 1.0, "scatter": 0.35, "alpha3": 3e14}


@pytest.mark.parametrize("relation_from", ["fixed_draws", "other_data"])
def test_derivatives_are_those_of_differences(relation_from):
    with jax.enable_x64(True):
        catalogue = mm.HaloCatalogue.from_arrays(
            luminosity=[1.0, 3.0, 12.0, np.nan], redshift=[0.1, 0.5, 1.0, 0.3], sigma_ln_luminosity=[0.1, 0.5, 0.2, 0.1]
        )
        prior = mm.MassPrior.from_cosmology("Planck18", **NODES)
        relation = mm.MassLuminosityRelation(**(LAW | {"alpha1": [0.3, 0.5, 0.8], "scatter": [0.3, 0.35, 0.5]}))
        options = {"relation_from": relation_from}
        found = mm.cosmology_derivatives(catalogue, prior, relation, **options)
        steps = {"sigma8": 1e-3, "omega_m": 1e-3, "h": 1e-3, "n_s": 2e-3, "omega_b": 2e-4}
        for name, step in steps.items():
            around = []
            for sign in (1, -1):
                at = CosmologyParameters.of("Planck18")
                moved = replace(at, **{name: getattr(at, name) + sign * step})
                around.append(mm.mass_posterior(catalogue, prior.at_cosmology(moved), relation, **options))
            plus, minus = around
            expected = (plus.mean - minus.mean) / (2 * step)
            np.testing.assert_allclose(found.ln_mass[name], expected, rtol=2e-3, atol=2e-4)
            mass = (plus.mean_mass - minus.mean_mass) / (2 * step)
            np.testing.assert_allclose(found.mass[name], mass, rtol=2e-3, atol=1e-4 * np.nanmax(plus.mean_mass))
            total = np.log(np.nansum(plus.mean_mass) / np.nansum(minus.mean_mass)) / (2 * step)
            assert found.ln_total[name] == pytest.approx(total, rel=2e-3, abs=2e-4)
        assert np.isnan(found.ln_mass["sigma8"][3]) and found.ln_mass["sigma8"][0] > 0.05


def test_prior_has_to_say_its_cosmology():
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=[1.0], redshift=[0.1], sigma_ln_luminosity=0.1)
    prior = mm.MassPrior.from_cosmology(CosmologyParameters.of("Planck18"), **NODES)
    with pytest.raises(MassmapError, match="does not state its cosmology"):
        mm.cosmology_derivatives(catalogue, prior, mm.MassLuminosityRelation(**LAW))
