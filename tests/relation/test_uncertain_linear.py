"""The fit of a relation to fluxes with linear noise and photometric redshifts: its likelihood, and that it holds."""

import jax
import numpy as np
import pytest
from posterior.test_linear_redshifts import CLUSTERS, catalogue_of, survey
from posterior.test_uncertain_redshifts import Z_NODES, ln_distance2, prior_of, relation_of
from reference.uncertain_linear_reference import Field

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.halo.cosmology import comoving_volume
from massmap_jax.relation.uncertain_linear import UncertainLinearData

ERROR, LEAST = 0.04, 5.0
BELIEFS = mm.RelationPrior.parse("alpha1=0:0.3,alpha2=1.7:0.2,alpha4=0,scatter=0.3:0.1,alpha3=3e14")


def of_alpha1(alpha1):
    return mm.MassLuminosityRelation(alpha1=alpha1, alpha2=1.7, alpha3=3e14, alpha4=0.0, scatter=0.3)


@pytest.fixture(scope="module")
def field():
    prior = prior_of(CLUSTERS)
    return prior, survey(CLUSTERS, prior, 300, 2, ERROR, LEAST)


def reference_of(prior, relation):
    z = np.linspace(0.05, 1.2, 4000)
    ln_volume = np.log(comoving_volume("Planck18", z))
    alpha1, alpha2, alpha3, alpha4, scatter = (
        float(getattr(relation, name)) for name in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")
    )

    def ln_number(at):
        return np.interp(at, z, ln_volume) + np.interp(at, Z_NODES, np.asarray(prior.ln_number))

    def mean_ln_lum(ln_mass, z):
        return alpha1 + alpha2 * (ln_mass - np.log(alpha3)) + alpha4 * np.log1p(z)

    table = Z_NODES, np.asarray(prior.ln_mass_nodes), np.asarray(prior.ln_density)
    return Field(*table, ln_number, ln_distance2, mean_ln_lum, scatter)


@pytest.mark.parametrize("case", ["all", "selected", "limits"])
def test_likelihood_is_the_integral(field, case):
    prior, (_, _, flux, noise, z_phot) = field
    some = np.arange(0, 300, 60)
    flux, noise, z_phot = flux[some].copy(), noise[some], z_phot[some]
    if case == "all":
        flux[:3] = noise[:3] * (-1.0, 0.3, 3.0)
    kind = "upper_limit" if case == "limits" else "normal"
    catalogue = catalogue_of(flux, noise, z_phot, ERROR, kind=kind)
    selection = mm.SignalToNoiseLimit(LEAST) if case == "selected" else None
    true = relation_of(CLUSTERS)
    other = mm.MassLuminosityRelation(alpha1=0.2, alpha2=1.5, alpha3=true.alpha3, alpha4=0.5, scatter=0.4)
    for relation in (true, other):
        exact, expected = reference_of(prior, relation), 0.0
        for i in range(some.size):
            u = np.log1p(z_phot[i]) + np.linspace(-5, 5, 401) * ERROR
            u = np.linspace(max(u[0], np.log1p(Z_NODES[0])), min(u[-1], np.log1p(Z_NODES[-1])), 401)
            at = noise[i], u, -0.5 * ((u - np.log1p(z_phot[i])) / ERROR) ** 2
            expected += exact.ln_evidence(flux[i], *at, kind)
            if kind == "normal":  # per luminosity of the catalogue
                expected -= np.log(noise[i]) + ln_distance2(z_phot[i]) + 0.5 * np.log(2 * np.pi)
            if selection is not None:
                expected -= exact.ln_evidence(LEAST * noise[i], *at, "above")
        with jax.enable_x64(True):
            found = float(mm.log_likelihood(relation, catalogue, prior, selection))
        assert abs(found - expected) < 1e-3 * some.size, (case, found, expected)


def test_finds_the_normalisation_and_without_the_limit_does_not(field):
    """The likelihood of alpha1 alone; a whole fit is in benchmarks/programs/linear_photo_z.py."""
    prior, (_, _, *measured) = field
    some = [column[:150] for column in measured]
    catalogue = catalogue_of(*some, ERROR, num_nodes=12)
    alpha1, pulls = np.linspace(-0.4, 0.6, 16), {}
    for name, selection in (("right", mm.SignalToNoiseLimit(LEAST)), ("no limit", None)):
        with jax.enable_x64(True):
            likelihood = UncertainLinearData(catalogue, prior, selection).likelihood(0.3)
            found = jax.jit(lambda likelihood, a: jax.lax.map(lambda a: likelihood(of_alpha1(a)), a))(
                likelihood, alpha1
            )
            ln_l = np.asarray(found)
        share = np.exp(ln_l - ln_l.max())
        share /= share.sum()
        mean = share @ alpha1
        pulls[name] = mean / np.sqrt(share @ (alpha1 - mean) ** 2)
    assert abs(pulls["right"]) < 4.5 and abs(pulls["no limit"]) > 6.0, pulls


def test_what_cannot_be_fitted_is_refused(field):
    prior, (_, _, *measured) = field
    few = [column[:20] for column in measured]
    cases = (
        ({"contains": "posterior_with_flux"}, None, "flux twice"),
        ({}, mm.FluxLimit(1e-3), "luminosities are not known either"),
        ({"selection": "joint"}, mm.SignalToNoiseLimit(LEAST), "conditional"),
    )
    for options, selection, words in cases:
        with pytest.raises(MassmapError, match=words):
            mm.fit_relation(catalogue_of(*few, ERROR, **options), prior, BELIEFS, selection=selection)
    many = [np.tile(column, 70) for column in measured]
    with pytest.raises(MassmapError, match="20,000 objects at most"):
        mm.fit_relation(catalogue_of(*many, ERROR), prior, BELIEFS, selection=mm.SignalToNoiseLimit(LEAST))
