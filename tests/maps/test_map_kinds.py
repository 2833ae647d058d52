"""The four kinds of map of a simulated field, and contrasts of two, against loops over objects."""

import dataclasses

import jax
import matplotlib.colors
import numpy as np
import pytest
from reference.map_loops import tangent_pixel
from reference.tables import schechter_table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.figures.map_kinds import map_kinds_figure
from massmap_jax.maps.images import NAMES, sum_of_slices
from massmap_jax.maps.kinds import KINDS, contrast, map_kinds, map_of_kind
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

NUMBER, DRAWS = 200, 130
GRID = PixelGrid("tangent", (6, 7), 12.0, (150.0, 2.0))


def columns():
    rng = np.random.default_rng(4)
    z, ln_mass = rng.uniform(0.2, 1.0, NUMBER), rng.normal(31.0, 0.8, NUMBER)
    ln_lum = 10.709 + 0.359 * (ln_mass - np.log(2.35e14)) + 1.1 * np.log1p(z) + 0.16 * rng.normal(size=NUMBER)
    return dict(
        luminosity=np.exp(ln_lum),
        redshift=z,
        ra=rng.uniform(149.4, 150.6, NUMBER),
        dec=rng.uniform(1.5, 2.5, NUMBER),
        truth_mass=np.exp(ln_mass),
    )


@pytest.fixture(scope="module")
def model():
    relation = MassLuminosityRelation.create(
        alpha1=10.709 + 0.1 * np.linspace(-1, 1, 5), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
    )
    objects = HaloCatalogue.from_arrays(**columns(), sigma_ln_luminosity=0.05)
    return objects, MassPrior.from_table(*schechter_table()), relation, GRID


@pytest.fixture(scope="module")
def posterior(model):
    return mass_posterior(*model[:3], relation_from="fixed_draws")


OPTIONS = dict(relation_from="fixed_draws", num_draws=DRAWS, keep_draws=True)


@pytest.fixture(scope="module")
def kinds(model, posterior):
    return map_kinds(jax.random.key(3), *model, posterior=posterior, **OPTIONS)


def by_loop(masses):
    """(ny, nx, ...) of (object, ...) masses; 0 where a position is outside."""
    table, out = columns(), np.zeros((*GRID.shape, *masses.shape[1:]))
    for ra, dec, mass in zip(table["ra"], table["dec"], masses, strict=True):
        place = tangent_pixel(ra, dec, GRID.centre, GRID.shape, GRID.pixel_arcmin)
        if place is not None:
            out[place] += mass
    return out


def test_what_each_kind_adds_up(kinds, model, posterior):
    assert tuple(kinds) == KINDS
    for kind, masses in (("truth", columns()["truth_mass"]), ("point", np.exp(posterior.median))):
        found = kinds[kind]
        np.testing.assert_allclose(found.mean, by_loop(masses), rtol=1e-10)
        for same in (found.sampled_mean, found.q16, found.q84, found.draws[0]):
            np.testing.assert_allclose(same, found.mean, rtol=1e-12)
        assert not found.sd.any() and found.total_sd == 0 and found.num_draws == 1
        assert found.total_mass == pytest.approx(by_loop(masses).sum(), rel=1e-12)
    own = np.exp(posterior.sample(jax.random.fold_in(jax.random.key(3), 1), DRAWS))
    np.testing.assert_allclose(kinds["marginal"].draws, np.moveaxis(by_loop(own), -1, 0), rtol=1e-10)
    np.testing.assert_array_equal(kinds["marginal"].mean, kinds["coherent"].mean)
    coherent = mass_map(jax.random.key(3), *model, posterior=posterior, **OPTIONS)
    np.testing.assert_array_equal(kinds["coherent"].draws, coherent.draws)
    # skewed posteriors: medians add up to less
    assert kinds["point"].total_mass < 0.95 * kinds["coherent"].total_mass
    assert len({one.nobj.sum() for one in kinds.values()}) == 1


def test_slices_of_the_real_draws_add_up_to_the_plain_map(kinds, model, posterior):
    """Other slices, other chunks, the same masses: to rounding."""
    edges = (0.0, 0.35, 0.7, 2.0)
    cube = map_of_kind(jax.random.key(3), "coherent", *model, posterior=posterior, redshift_edges=edges, **OPTIONS)
    whole, plain = sum_of_slices(cube), kinds["coherent"]
    for name in ("mean", *NAMES, "draws", "nobj", "total_draws", "total_mass"):
        np.testing.assert_allclose(getattr(whole, name), getattr(plain, name), rtol=1e-12, err_msg=name)
    assert (cube.nobj.sum(axis=(1, 2)) > 20).all()


def test_marginals_are_independent_and_coherent_draws_are_not(kinds, posterior):
    """Each marginal draw from the object's own posterior (its mean and sd); between pixels correlation 0, within 5
    errors of the mean over all pairs, for the marginals; far above for the coherent draws, whose total is less sure."""
    single = np.argwhere(kinds["marginal"].nobj == 1)
    assert single.shape[0] >= 3
    places = [
        tangent_pixel(*one, GRID.centre, GRID.shape, GRID.pixel_arcmin)
        for one in zip(columns()["ra"], columns()["dec"])
    ]
    for row, column in single:
        draws = np.log(kinds["marginal"].draws[:, row, column])
        object_ = places.index((row, column))
        assert abs(draws.mean() - posterior.mean[object_]) < 5 * posterior.sd[object_] / np.sqrt(DRAWS)
        assert draws.std() == pytest.approx(posterior.sd[object_], rel=6 / np.sqrt(2 * DRAWS))
    found = {}
    for kind in ("marginal", "coherent"):
        draws = np.log(kinds[kind].draws[:, kinds[kind].nobj > 0])
        pairs = np.corrcoef(draws.T)[np.triu_indices(draws.shape[1], 1)]
        found[kind] = pairs.mean()
        print(f"{kind}: mean correlation of {pairs.size} pairs of pixels {pairs.mean():.4f}")
    assert abs(found["marginal"]) < 5 / np.sqrt(pairs.size * DRAWS) < found["coherent"] / 3
    assert kinds["coherent"].total_sd > 1.5 * kinds["marginal"].total_sd


def test_contrast_of_two(kinds):
    truth, coherent, marginal = (kinds[k] for k in ("truth", "coherent", "marginal"))
    found = contrast(coherent, truth)
    filled = truth.nobj > 0
    for row, column in np.argwhere(filled):
        here = (row, column)
        assert found.difference[here] == coherent.mean[here] - truth.mean[here]
        assert found.pull[here] == pytest.approx(
            (coherent.mean[here] - truth.mean[here]) / coherent.draws[:, row, column].std(ddof=1)
        )
        assert found.ratio[here] == pytest.approx(coherent.mean[here] / truth.mean[here])
    assert np.isnan(found.ratio[~filled]).all() and np.isnan(found.pull[~filled]).all()
    assert found.total_pull == pytest.approx(
        (coherent.mean.sum() - truth.mean.sum()) / coherent.total_draws.std(ddof=1)
    )
    both, own = contrast(coherent, marginal), contrast(coherent, marginal, error="other")
    np.testing.assert_allclose(both.error, np.sqrt(coherent.sd**2 + marginal.sd**2))
    np.testing.assert_array_equal(own.error, marginal.sd)
    assert (
        own.total_error == marginal.total_sd
        and contrast(coherent, marginal, error="one").total_error == coherent.total_sd
    )
    # shared pixel by pixel the errors are alike; the totals' are not
    assert both.total_difference == 0 and both.total_ratio == 1
    none = contrast(truth, kinds["point"])
    assert np.isnan(none.pull).all() and np.isnan(none.total_pull)


def test_contrast_refuses_what_differs(kinds, model, posterior):
    truth, coherent = kinds["truth"], kinds["coherent"]
    changed = dataclasses.replace(truth, nobj=truth.nobj + (truth.nobj == 1))
    shifted = dataclasses.replace(truth, grid=PixelGrid("tangent", GRID.shape, 12.0, (150.0, 2.1)))
    density = map_of_kind(
        jax.random.key(0), "truth", *model, unit="Msun/arcmin2", posterior=posterior, relation_from="fixed_draws"
    )
    for other, says in (
        (shifted, "different pixels"),
        (density, "different units, Msun and Msun/arcmin2"),
        (changed, "hold different objects"),
        (dataclasses.replace(truth, mass_definition="500c"), "mass definitions"),
        (dataclasses.replace(truth, form=dataclasses.replace(truth.form, fwhm_arcmin=3.0)), "smoothings, None and 3.0"),
    ):
        with pytest.raises(MassmapError, match=says):
            contrast(coherent, other)
    with pytest.raises(MassmapError, match="error 'mine' is not known: give one, other or both"):
        contrast(coherent, truth, error="mine")


def test_kinds_that_cannot_be(model, posterior):
    objects, *rest = model
    with pytest.raises(MassmapError, match="map kind 'mode' is not known: give one of truth, point"):
        map_of_kind(jax.random.key(0), "mode", *model, relation_from="fixed_draws")
    lacking = dataclasses.replace(objects, truth_ln_mass=np.where(np.arange(NUMBER) < 2, np.nan, objects.truth_ln_mass))
    with pytest.raises(MassmapError, match="2 of 200 objects with a posterior have no true mass, the first in row 0"):
        map_of_kind(jax.random.key(0), "truth", lacking, *rest, posterior=posterior, relation_from="fixed_draws")
    without = dataclasses.replace(objects, truth_ln_mass=None)
    with pytest.raises(MassmapError, match="no true masses"):
        map_of_kind(jax.random.key(0), "truth", without, *rest, posterior=posterior, relation_from="fixed_draws")
    with pytest.raises(MassmapError, match="map draws is 1"):
        map_of_kind(jax.random.key(0), "marginal", *model, num_draws=1, relation_from="fixed_draws")
    nowhere = dataclasses.replace(objects, ra=None, dec=None)
    with pytest.raises(MassmapError, match="no positions"):
        map_of_kind(jax.random.key(0), "point", nowhere, *rest, relation_from="fixed_draws")


def test_figure_of_the_kinds(kinds, tmp_path):
    """One scale for all maps, and the intervals of the totals where the draws have them."""
    figure = map_kinds_figure(kinds)
    figure.canvas.draw()
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 4 and len({(i.norm.vmin, i.norm.vmax) for i in images}) == 1
    assert isinstance(images[0].norm, matplotlib.colors.LogNorm)
    (totals,) = [ax for ax in figure.axes if "total halo mass" in ax.get_xlabel()]
    bars = [line.get_xdata() for line in totals.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 3.0]
    np.testing.assert_allclose(
        bars, [np.quantile(kinds[k].total_draws, (0.16, 0.84)) for k in ("marginal", "coherent")]
    )
    with pytest.raises(MassmapError, match="of the kinds mode: give some of"):
        map_kinds_figure({"mode": kinds["truth"]})
