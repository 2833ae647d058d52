"""PosteriorSurface of redshifts with a normal error: against NumPy, its measured error, and where it must not serve."""

import dataclasses

import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Range
from massmap_jax.posterior import surface as surface_module
from massmap_jax.posterior.surface import REDSHIFT_TOLERANCE, TOLERANCE, PosteriorSurface
from massmap_jax.posterior.surface_redshifts import RedshiftUse, errors_of
from massmap_jax.posterior.surface_splines import cells_at, divided, neighbours_of, nodes_of, parts_needed, refined
from posterior.test_surface import errors as errors_of_masses
from posterior.test_uncertain_redshifts import (
    CLUSTERS,
    ERROR,
    GALAXIES,
    by_hand,
    prior_of,
    relation_of,
    universe,
    with_errors,
)

LEVELS = (0.16, 0.5, 0.84)
# One number for all objects, since each is compiled by itself.
NODES = 40


def differences(found, exact):
    """Largest error of each summary in the units of the tolerance."""
    off = errors_of_masses(found, exact)
    good = np.isfinite(found.mean)
    for name in ("redshift_mean", "redshift_sd"):
        off[name] = float((np.abs(getattr(found, name) - getattr(exact, name)) / exact.redshift_sd)[good].max())
    return off


def some(kind, number, seed=5):
    """Objects of a narrow range, so that the table is small."""
    prior = prior_of(kind)
    *_, catalogue = universe(kind, prior, 1200, seed)
    near = (catalogue.redshift > 0.3) & (catalogue.redshift < 0.45)
    return prior, catalogue.subset(np.flatnonzero(near)[:number])


@pytest.fixture(scope="module", autouse=True)
def few_probes():
    """Of a narrow range, the error is known from fewer objects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface_module, "_AXIS_PROBES", 128)
        patch.setattr(surface_module, "_PROBES", 512)
        yield


@pytest.fixture(scope="module", params=[CLUSTERS, GALAXIES], ids=["clusters", "galaxies"])
def field(request):
    prior, catalogue = some(request.param, 120)
    relation = relation_of(request.param)
    uncertain = with_errors(catalogue, num_nodes=NODES)
    found = mm.mass_posterior(uncertain, prior, relation, method="surface", quantile_levels=LEVELS)
    return request.param, prior, relation, catalogue, uncertain, found


def test_against_numpy(field):
    kind, prior, _, catalogue, _, found = field
    assert found.num_beside_surface == 0 and found.surface.lattice.ln_error.size == 1
    for row in range(0, len(catalogue), 12)[:4]:
        (mean, sd), (z_mean, z_sd) = by_hand(kind, prior, catalogue, row)
        assert abs(found.mean[row] - mean) < 0.012 * sd
        assert abs(found.sd[row] / sd - 1) < 0.012
        assert abs(found.redshift_mean[row] - z_mean) < 0.012 * z_sd
        assert abs(found.redshift_sd[row] / z_sd - 1) < 0.012


def test_measured_error_holds_and_the_twin_fails(field):
    kind, prior, relation, catalogue, uncertain, found = field
    exact = mm.mass_posterior(uncertain, prior, relation, quantile_levels=LEVELS)
    seen, surface = differences(found, exact), found.surface
    allowed = TOLERANCE | REDSHIFT_TOLERANCE
    print(kind["slope"], surface.lattice.shape, {name: f"{value:.1e}" for name, value in seen.items()})
    assert set(surface.error) == set(allowed)
    for name in allowed:
        assert surface.error[name] <= allowed[name] and seen[name] <= allowed[name], name
    held = mm.mass_posterior(
        with_errors(catalogue, lum_moves=False, num_nodes=NODES), prior, relation, quantile_levels=LEVELS
    )
    assert differences(found, held)["mean"] > 10 * allowed["mean"]
    named = dataclasses.replace(uncertain.redshift_distributions, cosmology=object())
    with pytest.raises(MassmapError, match="name it"):
        dataclasses.replace(surface, redshifts=RedshiftUse.of(named)).save("never.npz")
    # A table that was made for luminosities that move is not read for others.
    with pytest.raises(MassmapError, match="other redshifts"):
        mm.mass_posterior(
            with_errors(catalogue, lum_moves=False, num_nodes=NODES), prior, relation, method="surface", surface=surface,
            quantile_levels=LEVELS,
        )  # fmt: skip


def test_errors_of_each_object_and_what_lies_outside(tmp_path):
    """An axis for the error of z; objects beyond its ends are integrated, and a saved table is read as it was."""
    prior, catalogue = some(CLUSTERS, 60)
    relation = relation_of(CLUSTERS)
    rng = np.random.default_rng(3)
    error = rng.uniform(0.02, 0.03, 60) * (1 + catalogue.redshift)
    error[[7, 8, 9]] = 1e-4, 0.3, np.nan
    given = {"contains": "posterior", "code_prior": (np.array([0.0, 2.0]), np.array([1.0, 2.0])), "lum_moves": True}
    given["num_nodes"] = NODES
    known = mm.RedshiftDistributions.gaussian(catalogue.redshift, error, variable="z", **given)
    uncertain = catalogue.with_redshifts(known)
    where = Range.of(catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum)
    where = where._replace(redshift_error=(0.02, 0.03))
    surface = PosteriorSurface.build(prior, relation, where, quantile_levels=LEVELS, redshifts=known)
    surface.save(tmp_path / "surface.npz")
    back = PosteriorSurface.load(tmp_path / "surface.npz")
    options = {"quantile_levels": LEVELS}
    exact = mm.mass_posterior(uncertain, prior, relation, **options)
    found, again = (
        mm.mass_posterior(uncertain, prior, relation, method="surface", surface=s, **options) for s in (surface, back)
    )
    np.testing.assert_array_equal(found.mean, again.mean)
    assert found.num_beside_surface == 2 and found[7:9].num_beside_surface == 2
    for name in ("mean", "sd", "redshift_mean", "mean_mass"):
        np.testing.assert_array_equal(getattr(found, name)[[7, 8]], getattr(exact, name)[[7, 8]])
    np.testing.assert_array_equal(found.flag, exact.flag)
    assert np.isnan(found.redshift_mean[9]) and surface.lattice.ln_error.size > 1
    seen = differences(found, exact)
    assert all(seen[name] <= surface.tolerance[name] for name in seen), seen
    draws = surface.ln_mass_at(np.zeros(1), *(a[:3] for a in (*surface_objects(uncertain),)))
    np.testing.assert_allclose(draws[:, 0], found.quantiles[:3, 1], atol=1e-4)


def test_luminosities_that_do_not_move():
    """A richness: its table begins at the prior's lowest redshift, and gives the masses that are integrated."""
    prior = prior_of(CLUSTERS)
    relation = relation_of(CLUSTERS)
    *_, catalogue = universe(CLUSTERS, prior, 1200, 5)
    catalogue = catalogue.subset(np.flatnonzero(catalogue.redshift < 0.3)[:80])
    given = {"lum_moves": False, "num_nodes": NODES}
    still = with_errors(catalogue, **given)
    exact = mm.mass_posterior(still, prior, relation, quantile_levels=LEVELS)
    found = mm.mass_posterior(still, prior, relation, method="surface", quantile_levels=LEVELS)
    assert found.num_beside_surface < 8 and found.surface.lattice.z[0] < 3 * ERROR
    seen = differences(found, exact)
    assert all(seen[name] <= found.surface.tolerance[name] for name in seen), seen
    # The twin: of luminosities that move, masses are others.
    moving = mm.mass_posterior(with_errors(catalogue, num_nodes=NODES), prior, relation, quantile_levels=LEVELS)
    assert differences(found, moving)["mean"] > 0.1


def test_the_program_takes_it_for_many_objects_of_one_error_and_says_so(monkeypatch):
    """Not where errors differ from object to object, nor where a table is refused."""
    from massmap_jax.run import job
    from massmap_jax.run.options import JobOptions

    _, catalogue = some(CLUSTERS, 100)
    one = with_errors(catalogue, num_nodes=NODES)
    options = JobOptions(relation="identity", pivot=1e14, make_map=False, uncertain_redshifts=True)
    few = job.compute(one, options, job.Clock())
    assert few.posterior.method == "analytic" and not any("surface" in note for note in few.notes)
    monkeypatch.setattr(job, "SURFACE_OF_UNCERTAIN_PAYS", 50)
    many = job.compute(one, options, job.Clock())
    assert many.posterior.method == "surface"
    (note,) = (note for note in many.notes if "read off a posterior surface" in note)
    assert "(measured: mean" in note and "0 objects beside the table" in note
    assert 0 < (np.abs(many.posterior.mean - few.posterior.mean) / few.posterior.sd).max() < 0.01
    errors = np.linspace(0.03, 0.05, len(catalogue))
    known = dataclasses.replace(one.redshift_distributions.shape, sd=errors)
    several = catalogue.with_redshifts(dataclasses.replace(one.redshift_distributions, shape=known))
    prior, relation = many.posterior.prior, many.posterior.relation
    assert job._method(options, several, prior, relation, None, None) == "analytic"
    limit = mm.RedshiftLimit.from_flux(1e-12, lum_unit="erg/s")
    assert job._method(options, one, prior, relation, None, limit) == "analytic"
    monkeypatch.setattr(surface_module, "_MOST_OF_SPLINES", 1)
    refused = job.compute(one, options, job.Clock())
    np.testing.assert_array_equal(refused.posterior.mean, few.posterior.mean)
    assert refused.posterior.method == "analytic" and not any("surface" in note for note in refused.notes)


def surface_objects(catalogue):
    return catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum, errors_of(catalogue)


def test_what_it_cannot_serve_is_refused():
    prior, catalogue = some(CLUSTERS, 5)
    relation = relation_of(CLUSTERS)
    uncertain = with_errors(catalogue, num_nodes=NODES)
    nodes = np.linspace(0.0, 1.6, 81)
    grid = mm.RedshiftDistributions.grid(nodes, np.ones((5, 81)), contains="likelihood", lum_moves=True)
    with pytest.raises(MassmapError, match="of another shape: use method='analytic'"):
        mm.mass_posterior(catalogue.with_redshifts(grid), prior, relation, method="surface")
    with pytest.raises(MassmapError, match="not made with a selection"):
        mm.mass_posterior(
            uncertain, prior, relation, method="surface", selection=mm.RedshiftLimit.from_flux(1e-12, lum_unit="erg/s")
        )
    where = Range.of(catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum)
    with pytest.raises(MassmapError, match=r"where\.redshift_error"):
        PosteriorSurface.build(prior, relation, where, redshifts=uncertain.redshift_distributions)


def test_splines_and_the_parts_they_need():
    """A cubic is its own spline; with the parts that are asked for, straight lines are as near as they should be."""
    x, y = np.array([0.0, 0.4, 1.0, 1.3, 2.0]), np.linspace(-1.0, 1.0, 6)
    values = (x[:, None] ** 3 - x[:, None] * y**2 + y)[:, :, None]
    fine = refined((x, y), values, [4, 2])
    u, v = divided(x, 4), divided(y, 2)
    np.testing.assert_allclose(fine[..., 0], u[:, None] ** 3 - u[:, None] * v**2 + v, rtol=1e-6, atol=1e-6)
    allowed, where = np.full(values.shape, 1e-2), np.ones(values.shape[:2], dtype=bool)
    parts, far = parts_needed((x, y), values, allowed, where, 1.0)
    assert all(number % 2 == 0 for number in parts) and not far.any()
    u, v = divided(x, parts[0]), divided(y, parts[1])
    between = np.linspace(0.0, 2.0, 2001)
    straight = np.interp(between, u, u**3)
    # The twin: two parts are too few.
    coarse = np.interp(between, divided(x, 2), divided(x, 2) ** 3)
    assert np.abs(straight - between**3).max() < 0.5e-2 < np.abs(coarse - between**3).max()
    assert parts_needed((x[:1], y), values[:1], allowed[:1], where[:1], 1.0)[0][0] == 1


def test_cells_and_their_nodes():
    """Against loops over cells."""
    cells = np.random.default_rng(2).uniform(size=(4, 1, 5)) < 0.15
    near, nodes = np.zeros_like(cells), np.zeros((5, 1, 6), dtype=bool)
    for i, _, k in np.argwhere(cells):
        near[max(i - 1, 0) : i + 2, :, max(k - 1, 0) : k + 2] = True
        nodes[i : i + 2, :, k : k + 2] = True
    np.testing.assert_array_equal(neighbours_of(cells), near)
    np.testing.assert_array_equal(nodes_of(cells, nodes.shape), nodes)
    at = np.zeros_like(cells)
    for i, _, k in np.argwhere(nodes):
        at[max(i - 1, 0) : i + 1, :, max(k - 1, 0) : k + 1] = True
    np.testing.assert_array_equal(cells_at(nodes), at)
