"""Sums over many objects with linear noise by a lattice: against dense sums in NumPy, and against each object's."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.prior_reference import PriorReference

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood import linear_noise
from massmap_jax.relation import fit as fit_module
from massmap_jax.relation import linear
from massmap_jax.relation.coordinates import Coordinates
from massmap_jax.relation.lattice import Lattice, MadeFor, lattices_of
from massmap_jax.relation.linear import LinearData, Part
from massmap_jax.relation.search import Maximum
from relation.test_linear import BELIEFS, RATIO, Z, evaluate, ln_chance, ln_z, relation_of, survey, table

NAMES = ("alpha1", "alpha2", "alpha4", "scatter")
# Within the scatters and slopes that a lattice for 0.18 and 1.7 is made for.
RELATIONS = [{}, {"alpha1": 1.4, "scatter": 0.4}, {"alpha2": 1.3, "alpha4": 1.1, "scatter": 0.19}]


@pytest.fixture(scope="module")
def prior():
    return mm.MassPrior.from_table(*table(), per="ln_mass", support="sharp")


@pytest.fixture
def always(monkeypatch):
    """Lattices also where the objects by themselves are quicker."""
    monkeypatch.setattr(linear, "_PRODUCTS", np.inf)


@jax.jit
def summed(parts, relation, prior):
    """The sum of some parts and its gradient in four parameters."""

    def of(x):
        relation_ = eqx.tree_at(lambda r: tuple(getattr(r, name) for name in NAMES), relation, tuple(x))
        return sum(part(relation_, prior, prior.norm_coefficients()) for part in parts)

    return jax.value_and_grad(of)(jnp.stack([jnp.asarray(getattr(relation, name), dtype=float) for name in NAMES]))


def points(number=3_000, seed=3, lowest=-2.0):
    """Measurements of all signals to noise down to `lowest`, near and far of the relation."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.02, 0.99, number)
    ratio = np.where(
        rng.uniform(size=number) < 0.5, rng.uniform(lowest, 8, number), np.exp(rng.uniform(2, 5.2, number))
    )
    ln_lum = np.asarray(relation_of().mean_ln_lum(np.log(4e14), z)) + rng.normal(0, 0.8, number)
    ln_reference, place = linear_noise.reference(ln_lum, 1 / np.where(np.abs(ratio) < 0.02, 0.02, ratio))
    return np.asarray(ln_reference, dtype=float), z, np.asarray(place, dtype=float), rng.uniform(0.5, 1.5, number)


@pytest.mark.parametrize("kind", ["normal", "upper_limit", "above"])
def test_sum_and_gradient_are_those_of_the_objects(prior, kind):
    """Off by 2e-5 of each object in the mean."""
    ln_reference, z, place, weight = points(lowest=-2.0 if kind == "normal" else 1.0)
    with jax.enable_x64(True):
        made_for = MadeFor.relations(0.18, 1.7)
        about = {"made_for": made_for, "prior": prior, "redshift_nodes": prior.redshift_nodes}
        lattices = lattices_of(kind, ln_reference, z, place, weight, **about)
        assert sum(lattice.weight.sum() for lattice in lattices) == pytest.approx(weight.sum(), rel=1e-6)
        parts = [Part.of(kind, ln_reference, z, place, weight, 0.1)]
        for changes in RELATIONS:
            found, by_lattice = summed(lattices, relation_of(**changes), prior)
            exact, by_object = summed(parts, relation_of(**changes), prior)
            assert abs(found - exact) < 5e-5 * z.size
            np.testing.assert_allclose(by_lattice, by_object, atol=2e-4 * z.size)
            assert np.abs(by_object).max() > 0.01 * z.size


def test_a_catalogue_against_dense_sums(prior, always):
    """As the objects' own likelihood, in which each is integrated, is tested: with negative fluxes, limit and error."""
    reference, relation, selection = PriorReference(*table(), per="ln_mass"), relation_of(), mm.SignalToNoiseLimit(5.0)
    lum = np.exp(np.asarray(relation.mean_ln_lum(np.log(4e14), Z)))[RATIO < 150]
    ratio, z = RATIO[RATIO < 150], Z[RATIO < 150]
    rows = list(zip(lum, lum / ratio, z, strict=True))
    exact = sum(
        ln_z(reference, a, e, z, relation, "normal") - ln_chance(reference, 5 * e, e, z, relation) for a, e, z in rows
    )
    objects = mm.HaloCatalogue.from_arrays(
        luminosity=np.repeat(lum, 200), redshift=np.repeat(z, 200), sigma_ln_luminosity=np.repeat(1 / ratio, 200),
        noise_kind="normal",
    )  # fmt: skip
    with jax.enable_x64(True):
        likelihood = LinearData(objects, prior, selection).likelihood(0.15, 1.7)
        assert all(isinstance(part, Lattice) for part in likelihood.parts)
        assert abs(float(evaluate(likelihood, relation)) - 200 * exact) < 200 * 3e-3
        # Few objects are integrated one by one.
        few = LinearData(objects.subset(np.arange(0, len(objects), 200)), prior, selection).likelihood(0.15, 1.7)
        assert few.made_for is None and not any(isinstance(part, Lattice) for part in few.parts)


def test_other_masses_and_a_prior_that_snaps(prior, always):
    """`with_prior` moves the lowest mass, as a fit does; between nodes a prior may be constant in redshift."""
    objects = survey(4, 16_000)
    moved = mm.MassPrior.from_table(
        prior.redshift_nodes, np.geomspace(4e13, 6e15, 160), np.exp(-np.geomspace(0.1, 15, 160)) * np.ones((3, 1)),
        per="ln_mass", support="sharp",
    )  # fmt: skip
    snap = mm.MassPrior.from_table(*table(), per="ln_mass", support="sharp", snap="upper")
    with jax.enable_x64(True):
        for of, then in ((prior, moved), (snap, snap)):
            data = LinearData(objects, of)
            found = float(evaluate(data.likelihood(0.18, 1.7).with_prior(then), relation_of()))
            exact = float(evaluate(data.likelihood(0.18).with_prior(then), relation_of()))
            assert abs(found - exact) < 5e-5 * len(objects)
            before = float(evaluate(data.likelihood(0.18), relation_of()))
            assert (abs(before - exact) > 10) == (then is moved)


def test_it_says_which_relations_it_is_for(prior, always):
    with jax.enable_x64(True):
        likelihood = LinearData(survey(4, 16_000), prior).likelihood(0.15, 1.7)
        exact = LinearData(survey(4, 16_000), prior).likelihood(0.15)
    assert likelihood.suits(relation_of())
    for outside in ({"scatter": 0.1}, {"scatter": 0.7}, {"alpha2": 3.0}):
        assert not likelihood.suits(relation_of(**outside))
        assert exact.suits(relation_of(**outside))


def test_draws_have_a_lattice_that_holds_for_scatters_far_from_the_maximum(prior, always):
    """The data may not bound the scatter; a lattice for other scatters is off by far more there."""
    objects = survey(4, 16_000)
    with jax.enable_x64(True):
        data = LinearData(objects, prior)
        beliefs = mm.RelationPrior.of(BELIEFS)
        coordinates = Coordinates.at(beliefs, *data.middle(beliefs.relation(beliefs.central())))
        x = coordinates.place({name: float(getattr(relation_of(), name)) for name in NAMES})
        covariance = np.diag([0.1, 0.1, 0.1, 0.25]) ** 2
        prepared = fit_module._lattices_about(data, coordinates, Maximum(x, *[np.nan] * 5), covariance)
        parts = {"prepared": prepared, "narrow": data.likelihood(0.04, 1.7), "exact": data.likelihood(0.04)}
        off = {}
        for sds in (-5.0, 5.0):
            relation = relation_of(scatter=relation_of().scatter * np.exp(0.25 * sds))
            assert prepared.suits(relation)
            exact, found, narrow = (float(evaluate(parts[name], relation)) for name in ("exact", "prepared", "narrow"))
            assert abs(found - exact) < 5e-5 * len(objects)
            off[sds] = abs(narrow - exact)
        assert not parts["narrow"].suits(relation) and off[5.0] > 1


def test_lattices_stand_for_objects_where_they_are_quicker(prior):
    """Of a thousand objects: for the chances to be in the catalogue, and not for measurements of a small scatter."""
    with jax.enable_x64(True):
        data = LinearData(survey(4, 16_000), prior, mm.SignalToNoiseLimit(5.0))
        likelihood = data.likelihood(0.02, 1.7)
    kinds = {part.kind: isinstance(part, Lattice) for part in likelihood.parts}
    assert kinds == {"normal": False, "above": True}
    assert likelihood.suits(relation_of(scatter=0.05)) and not likelihood.suits(relation_of(scatter=0.2))


def test_a_lattice_that_would_be_too_large_is_not_made(prior, always):
    """A scatter of 0.1 %, or a luminosity far from all others: each object is integrated, and alone it is refused."""
    objects = survey(4, 16_000)
    far = replace(objects, ln_lum_obs=np.where(np.arange(len(objects)) == 3, 500.0, objects.ln_lum_obs))
    with jax.enable_x64(True):
        for of, scatter in ((objects, 1e-3), (far, 0.15)):
            data = LinearData(of, prior)
            assert data.likelihood(scatter, 1.7).made_for is None
            made_for, nodes = MadeFor.relations(scatter, 1.7), prior.redshift_nodes
            with pytest.raises(MassmapError, match=r"would need .* steps .*: leave out luminosities that are far"):
                lattices_of("normal", *data.integrals()["normal"], made_for=made_for, prior=prior, redshift_nodes=nodes)


def test_a_fit_finds_out_what_its_lattice_is_off_by(prior, monkeypatch, always):
    """In standard deviations of the fit: below 0.01, and with one node's weight tripled far above the limit."""
    monkeypatch.setattr(fit_module, "_CHECKED", 1_000)
    objects, told, given, measured = survey(4, 16_000), [], [], fit_module._off_by_lattice

    def noted(*args):
        given.append(args)
        return measured(*args)

    monkeypatch.setattr(fit_module, "_off_by_lattice", noted)
    fit = mm.fit_relation(
        objects, prior, BELIEFS, selection=mm.SignalToNoiseLimit(5.0), watch=told.append, num_draws=200
    )
    assert "comparing the lattice with the objects" in told
    assert fit.diagnostics["off_by_lattice"] < 0.01
    with jax.enable_x64(True):
        data, coordinates, likelihood, best, covariance = given[0]
        heaviest = np.unravel_index(likelihood.parts[0].weight.argmax(), likelihood.parts[0].weight.shape)
        weight = likelihood.parts[0].weight.copy()
        weight[heaviest] *= 3
        wrong = eqx.tree_at(lambda t: t.parts[0].weight, likelihood, weight)
        far, _ = measured(data, coordinates, wrong, best, covariance)
    assert far > 0.2
