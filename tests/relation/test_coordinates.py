"""The coordinates of a fit: there and back, and a density that a change of coordinates does not change."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import massmap_jax as mm
from massmap_jax.prior.population import Population
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.calibration import belief
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.joint import JointPrior

BELIEFS = "alpha1=1:1,alpha2=0.8:0.3,alpha4=1:0.5,scatter=0.3:0.2,alpha3=3e14"
FORMS = ("gaussian", "skew_normal", "mixture:2", "hmf_completeness", "fixed")


def coordinates_of(form, mass_scatter="0.1:0.05", beliefs=BELIEFS, of_many=True):
    measured = {"bias": belief("bias", "0:0.05"), "mass_scatter": belief("scatter", mass_scatter), "correlation": 0.2}
    prior = mm.MassPrior.default()
    joint = JointPrior.of(RelationPrior.parse(beliefs), measured, Population.parse(form), (33.0, 0.4), prior)
    return Coordinates.at(joint, 33.5, 0.3, of_many)


class _OfScatters(eqx.Module):
    """A likelihood that knows the relation."""

    def __call__(self, relation):
        return -0.5 * ((relation.alpha1 - 0.5) / 0.7) ** 2 - 3.0 * relation.scatter


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "beliefs",
    [BELIEFS, BELIEFS.replace("alpha2=0.8:0.3", "alpha2=0.8"), BELIEFS.replace("scatter=0.3:0.2", "scatter=0.3")],
)
def test_there_and_back(form, beliefs):
    with jax.enable_x64(True):
        coordinates = coordinates_of(form, beliefs=beliefs)
        x = np.random.default_rng(0).normal(size=(20, len(coordinates.free))) + 0.3
        again = jax.jit(lambda x: jax.vmap(coordinates.place)(coordinates.values(x)))(x)
    np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("form", "of_many"), [*((form, True) for form in FORMS), ("gaussian", False)])
def test_density_goes_with_the_determinant(form, of_many):
    """ln of the density in x is that of the parameters plus ln of the determinant, by JAX, up to one constant."""
    with jax.enable_x64(True):
        coordinates, likelihood = coordinates_of(form, of_many=of_many), _OfScatters()

        @jax.jit
        def of(x):
            values = coordinates.values(x)
            rows = jax.jacobian(lambda x: jnp.stack([coordinates.values(x)[p] for p in coordinates.free]))(x)
            of_values = coordinates.prior.log_prob(values) + likelihood(coordinates.prior.relation(values))
            return coordinates.log_density(x, likelihood), of_values, rows

        points = 0.5 * np.random.default_rng(1).normal(size=(8, len(coordinates.free)))
        off = []
        for x in points:
            found, of_values, rows = of(x)
            off.append(float(found - of_values) - np.linalg.slogdet(rows)[1])
    assert np.ptp(off) < 1e-9


@pytest.mark.parametrize("text", ["0.1:0.05", "0:0.1", "0.3:0.01"])
def test_a_belief_above_zero_is_normal_in_its_score(text):
    """Of draws of the belief, the scores are standard normal; those of ln S_m, the twin, are not for wide beliefs."""
    with jax.enable_x64(True):
        coordinates = coordinates_of("fixed", text)
        i = coordinates.free.index("mass_scatter")
        of_belief = coordinates.prior.beliefs["mass_scatter"]
        drawn = np.asarray(of_belief.sample(jax.random.key(0), (20_000,)))
        values = {p: np.full(drawn.size, coordinates.prior.middle()[p]) for p in coordinates.prior.names}
        scores = np.asarray(jax.jit(jax.vmap(coordinates.place))(values | {"mass_scatter": drawn}))[:, i]
    # 5 sigma of 20,000 draws for mean, sd and skewness.
    assert abs(scores.mean()) < 0.036 and abs(scores.std() - 1) < 0.025 and abs((scores**3).mean()) < 0.14
    if text != "0.3:0.01":
        logs = (np.log(drawn) - np.log(drawn).mean()) / np.log(drawn).std()
        assert abs((logs**3).mean()) > 1


def test_other_beliefs_about_the_scatter_of_masses_are_sampled_by_their_ln():
    with jax.enable_x64(True):
        for other in (dist.LogNormal(-2.0, 0.5), dist.Uniform(0.05, 0.4)):
            coordinates = coordinates_of("gaussian", other)
            x = np.zeros(len(coordinates.free))
            x[coordinates.free.index("mass_scatter")] = -1.7
            assert float(coordinates.values(x)["mass_scatter"]) == pytest.approx(np.exp(-1.7))
