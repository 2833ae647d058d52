"""Objects with linear noise while the cosmology is free: against dense sums in NumPy with hmf's mass function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from reference.prior_reference import PriorReference

import massmap_jax as mm
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.prior.cosmology_draws import cosmology_with
from massmap_jax.relation.cosmology_data import CosmologyData, LinearUnderCosmology
from massmap_jax.relation.cosmology_likelihood import prior_at
from massmap_jax.relation.cosmology_prior import RelationUnderCosmology
from massmap_jax.relation.extra import ExtraEvidence
from massmap_jax.relation.linear import LinearData
from relation.test_cosmology_fit import FIXED, PIVOT, cosmology, plain_table, prior
from relation.test_linear import ln_chance, ln_z

LIMIT = mm.SignalToNoiseLimit(4.5)
Z = np.array([0.08, 0.15, 0.3, 0.3, 0.45, 0.6, 0.72, 0.8])
RATIO = np.array([4.6, 5.5, 7.0, 11.0, 20.0, 5.0, 60.0, 300.0])
# A standard deviation of sigma8 is 0.12 in its ln.
COSMOLOGIES = [{"sigma8": 0.8, "omega_m": 0.3}, {"sigma8": 0.73, "omega_m": 0.34}]


def law(**changes):
    return {"alpha1": 0.4, "scatter": 0.3} | FIXED | changes


def objects(repeated=1):
    mean = np.asarray(mm.MassLuminosityRelation.create(**law(), alpha3=PIVOT).mean_ln_lum(np.log(4e14), Z))
    lum = np.exp(mean) * np.array([0.8, 1.1, 1.4, 0.7, 1.0, 1.9, 0.5, 1.2])
    columns = (np.repeat(a, repeated) for a in (lum, Z, 1 / RATIO))
    lum, z, relative = columns
    return mm.HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_ln_luminosity=relative, noise_kind="normal")


@jax.jit
def value(likelihood, values, cosmology):
    return likelihood(RelationUnderCosmology(**values, alpha3=PIVOT, cosmology=cosmology))


@jax.jit
def value_and_gradient(likelihood, values, cosmology):
    return jax.value_and_grad(lambda both: value(likelihood, *both))((values, cosmology))


def under(values, parameters):
    others = {"h": 0.68, "n_s": 0.97, "omega_b": 0.048}
    return jax.tree.map(jnp.asarray, (values, parameters | others))


@pytest.mark.parametrize("parameters", COSMOLOGIES)
def test_against_dense_sums(parameters):
    """The sum over 1,600 objects, of eight kinds, and its gradient; the twin is another cosmology."""
    repeated = 200
    catalogue = objects(repeated)
    with jax.enable_x64(True):
        # The package's own mass function, whose neutrinos have masses: hmf's without differs by 1e-3 of an object.
        rows = prior_at(prior(), cosmology_with(under(law(), parameters)[1]), np.unique(Z))
    table = PriorReference(np.unique(Z), np.exp(rows.ln_mass_nodes), np.exp(rows.ln_density), per="ln_mass")
    relation = mm.MassLuminosityRelation.create(**law(), alpha3=PIVOT)
    lum = np.exp(catalogue.ln_lum_obs[::repeated])
    exact = sum(
        ln_z(table, a, a / q, z, relation, "normal") - ln_chance(table, 4.5 * a / q, a / q, z, relation)
        for a, q, z in zip(lum, RATIO, Z, strict=True)
    )
    with jax.enable_x64(True):
        likelihood = CosmologyData(catalogue, prior(), LIMIT, cosmology()).likelihood(0.25, 1.6)
        assert isinstance(likelihood, LinearUnderCosmology) and len(likelihood.others) == 1
        at = under(law(), parameters)
        found, (of_law, of_cosmology) = value_and_gradient(likelihood, *at)
        assert abs(float(found) - repeated * exact) < repeated * 3e-3
        other = COSMOLOGIES[parameters is COSMOLOGIES[0]]
        assert abs(float(value_and_gradient(likelihood, *under(law(), other))[0]) - repeated * exact) > repeated * 0.05
        for name, gradient in ({"alpha1": of_law["alpha1"], "scatter": of_law["scatter"]} | of_cosmology).items():
            moved = [
                eqx.tree_at(lambda t, n=name: t[n in t[1]][n], at, at[name in at[1]][name] + step)
                for step in (-2e-3, 2e-3)
            ]
            below, above = (float(value_and_gradient(likelihood, *both)[0]) for both in moved)
            assert float(gradient) == pytest.approx((above - below) / 4e-3, rel=5e-3, abs=1e-3 * repeated)


def test_mass_likelihoods_under_each_cosmology():
    """What they add is what they add under the prior of that cosmology alone."""
    nodes, table = np.linspace(np.log(1e13), np.log(1e17), 150), np.zeros((8, 150))
    table[1], table[4] = -0.5 * ((nodes - 33.6) / 0.3) ** 2, -0.5 * ((nodes - 34.5) / 0.2) ** 2
    extra, relation, catalogue = TabulatedTerm(nodes, table), law(), objects().subset(np.arange(7))
    extra = extra.take(np.arange(7))
    with jax.enable_x64(True):
        for parameters in COSMOLOGIES:
            at = under(relation, parameters)
            plain, with_masses = (
                float(value(CosmologyData(catalogue, prior(), LIMIT, cosmology(), own).likelihood(0.25, 1.6), *at))
                for own in (None, extra)
            )
            alone = mm.MassPrior.from_table(
                *plain_table(*np.log(list(parameters.values())), np.unique(Z)), per="ln_mass"
            )
            data = LinearData(catalogue, alone)
            own = ExtraEvidence.of(catalogue, data.rows, alone, extra)
            expected = float(own(mm.MassLuminosityRelation.create(**relation, alpha3=PIVOT), alone))
            assert with_masses - plain == pytest.approx(expected, abs=4e-3) and abs(expected) > 0.5


@pytest.mark.filterwarnings("ignore")
def test_a_fit_takes_them():
    """Its maximum is that of the objects' own integrals, under the mass function of hmf at the fitted cosmology."""
    catalogue = objects(40).subset(np.arange(280))  # without the brightest, which are nearly lognormal
    beliefs = {"alpha1": dist.Normal(0.4, 0.3), "scatter": 0.3} | FIXED | {"alpha3": PIVOT}
    fit = mm.fit_relation(catalogue, prior(), beliefs, cosmology=cosmology(), selection=LIMIT, num_draws=60)
    assert fit.free == ("alpha1", "omega_m", "sigma8")
    best = {name: float(fit.maximum.parameter(name)) for name in fit.free}
    at_best = plain_table(*np.log([best["sigma8"], best["omega_m"]]), np.unique(Z))
    with jax.enable_x64(True):
        alone = mm.MassPrior.from_table(*at_best, per="ln_mass", support="sharp")
        own = LinearData(catalogue, alone, LIMIT).likelihood(0.25)

        @jax.jit
        def density(alpha1):
            relation = mm.MassLuminosityRelation.create(**law(alpha1=alpha1), alpha3=PIVOT)
            return own(relation) + dist.Normal(0.4, 0.3).log_prob(alpha1)

        below, top, above = (float(density(best["alpha1"] + step)) for step in (-0.06, 0.0, 0.06))
    # Twice the step of a parabola through the three.
    assert abs(0.5 * 0.06 * (below - above) / (below + above - 2 * top)) < 0.1 * fit.sd["alpha1"]
    few = objects(1).subset([0, 0, 0, 0, 3])
    with pytest.raises(mm.MassmapError, match="4 objects have a signal to noise below the limit 5, first row 0"):
        mm.fit_relation(few, prior(), beliefs, cosmology=cosmology(), selection=mm.SignalToNoiseLimit(5.0))
