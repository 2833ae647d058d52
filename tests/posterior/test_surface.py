"""PosteriorSurface against exact cells, its measured error against objects it has not seen, and where it must not serve."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from reference.moments import SharpMoments
from reference.posterior_reference import Mixture, Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.special import ndtr
from scipy.stats import kstest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Range
from massmap_jax.likelihood.selection import FluxLimit, SignalToNoiseLimit, TabulatedSelection
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.surface import DRAW_LEVELS, SUMMARIES, TOLERANCE, PosteriorSurface
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation
from posterior.test_posterior import draws, make_catalogue

TABLE = schechter_table()
PRIOR = MassPrior.from_table(*TABLE)
RELATION, REFERENCES, LN_WEIGHT = draws()
FEW = RELATION.draw(np.arange(3))  # where the number of draws says nothing
CENTRAL = Relation(alpha1=10.709, alpha2=0.359, alpha3=2.35e14, alpha4=1.10, scatter=0.155)


def objects(seed, number, sigma=(0.03, 0.3), z_max=3.4):
    """(ln L_obs, z, sigma): random ones, and the first 12 at the ends of the masses, redshifts and widths."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.05, z_max, number)
    width = np.exp(rng.uniform(*np.log(sigma), number)) if np.ndim(sigma) else np.full(number, sigma)
    ln_mass = rng.uniform(23.2, 33.0, number)
    corner = np.array([(m, z, s) for m in (22.5, 28.0, 33.2) for z in (0.05, z_max) for s in np.resize(sigma, 2)])
    ln_mass[:12], z[:12], width[:12] = corner.T
    ln_lum = CENTRAL.mean_ln_lum(ln_mass, z)
    ln_lum[12:] += (np.hypot(CENTRAL.scatter, width) * rng.normal(size=number))[12:]
    return ln_lum, z, width


def catalogue_of(ln_lum, z, sigma):
    return make_catalogue(ln_lum, sigma, z)


@pytest.fixture(scope="module")
def field():
    return objects(1, 3000)


@pytest.fixture(scope="module")
def surface(field):
    return PosteriorSurface.build(
        PRIOR, RELATION, Range.of(*field), relation_from="this_catalogue", quantile_levels=(0.025, 0.5, 0.975)
    )


def errors(found, exact):
    """Largest error of each summary in the units of TOLERANCE."""
    good = np.isfinite(found.mean)
    off = {
        name: np.abs(getattr(found, name) - getattr(exact, name))[good] for name in SUMMARIES if name != "ln_mean_mass"
    }
    for name in ("mean", "sd", "mode"):
        off[name] = off[name] / exact.sd[good]
    off["ess"] = off["ess"] / exact.ess[good]
    off["ln_mean_mass"] = np.abs(np.log(found.mean_mass / exact.mean_mass))[good] / exact.sd[good]
    off["quantiles"] = np.abs(found.quantiles - exact.quantiles)[good] / exact.sd[good, None]
    return {name: float(values.max()) for name, values in off.items()}


def test_against_exact_cells(field, surface):
    """The reference has every draw's posterior in closed form from the raw table."""
    reference = PriorReference(*TABLE, per="mass")
    values = dict(zip(surface.names, surface(*field)[:24].T.astype(float), strict=True))
    for i in range(24):
        ln_lum, z, sigma = (float(a[i]) for a in field)
        exact = Mixture(reference, ln_lum, sigma, z, REFERENCES, "this_catalogue", LN_WEIGHT)
        sharp = SharpMoments(exact)
        assert abs(values["mean"][i] - sharp.mean) < 0.01 * sharp.sd
        assert abs(values["sd"][i] / sharp.sd - 1) < 0.01
        for number, level in enumerate(surface.quantile_levels):
            assert abs(values[f"quantile{number}"][i] - sharp.quantile(level)) < 0.01 * sharp.sd
        assert abs(values["log_evidence"][i] - exact.log_evidence) < 0.01
        assert abs(values["information_bits"][i] - exact.information_bits) < 0.01
        assert abs(values["edge_mass"][i] - exact.edge_mass) < 1e-3


def test_measured_error_holds_for_other_objects(field, surface):
    """On 20,000 objects that the measurement has not seen: below the tolerance, and near what was measured.

    The largest of so many is an extreme value: with other versions of JAX, whose keys give other objects, it was 1.1
    times the tolerance in one of the columns.
    """
    others = objects(2, 20_000)
    options = {"relation_from": "this_catalogue", "quantile_levels": surface.quantile_levels}
    exact = mass_posterior(catalogue_of(*others), PRIOR, RELATION, **options)
    found = mass_posterior(catalogue_of(*others), PRIOR, RELATION, method="surface", surface=surface, **options)
    seen = errors(found, exact)
    print({name: f"{seen[name]:.1e} of {surface.error[name]:.1e}" for name in seen})
    assert set(surface.error) == set(TOLERANCE)
    for name, allowed in TOLERANCE.items():
        assert surface.error[name] <= allowed
        assert seen[name] <= 1.3 * allowed
        # what is stored is no formality: objects elsewhere reach a good part of it
        assert seen[name] > 0.05 * surface.error[name]


def test_draws_from_the_quantile_function():
    """At random scores near the exact mixture's quantiles; 10^5 draws of one object follow its density."""
    ln_lum, z, _ = objects(4, 300, 0.05)
    sigma = np.full(300, 0.05)
    where = Range.of(ln_lum, z, sigma)
    options = {"relation_from": "this_catalogue"}
    surface = PosteriorSurface.build(PRIOR, RELATION, where, quantile_levels=DRAW_LEVELS, **options)
    exact = mass_posterior(catalogue_of(ln_lum, z, sigma), PRIOR, RELATION, **options)
    score = np.clip(np.random.default_rng(5).normal(size=(300, 8)), -4, 4)
    off = surface.ln_mass_at(score, ln_lum, z, sigma) - exact.quantile(ndtr(score[0]))
    off = np.abs(off) / exact.sd[:, None]
    assert off.shape == (300, 8) and off[1:].max() > 0.5  # other objects have other scores
    same = surface.ln_mass_at(score[0], ln_lum, z, sigma) - exact.quantile(ndtr(score[0]))
    worst = np.abs(same / exact.sd[:, None]).max()
    print(f"draws from the surface: off by {worst:.4f} sd at most, {len(surface.quantile_levels)} levels")
    assert worst < 0.02
    draws = surface.ln_mass_at(np.random.default_rng(6).normal(size=100_000), ln_lum[20:21], z[20:21], sigma[:1])[0]
    grid, log_pdf = exact.log_pdf(20, np.linspace(draws.min() - 1, draws.max() + 1, 4001))
    cdf = np.cumsum(np.exp(log_pdf[0]))
    assert kstest(np.interp(draws, grid, cdf / cdf[-1]), "uniform").pvalue > 1e-5
    with pytest.raises(MassmapError, match="several quantile levels"):
        dataclasses.replace(surface, quantile_levels=(0.5,)).ln_mass_at(score, ln_lum, z, sigma)


def test_fewer_columns_are_the_same_columns(field, surface):
    few = surface.only(("edge_mass", "quantile2"))
    both = [surface.names.index(name) for name in few.names]
    np.testing.assert_allclose(few(*field), surface(*field)[:, both], rtol=1e-6)


def test_a_spoiled_table_is_measured_as_such(surface):
    """The twin: quantiles moved by 2 % of 0.5 at a tenth of the nodes."""
    values = surface.values.copy()
    values[:, :, ::10, -1] += 0.01
    spoiled = eqx.tree_at(lambda s: s.values, surface, values)
    place = np.random.default_rng(0).uniform(0, np.array(surface.lattice.shape)[:, None] - 1, (3, 4096))
    probes = surface._exact_at(place)
    assert surface._measure(probes)["quantiles"] <= TOLERANCE["quantiles"] < spoiled._measure(probes)["quantiles"]


def test_a_tighter_tolerance_takes_more_nodes(field, surface):
    where = Range.of(*field)._replace(sigma=(0.05, 0.05))
    options = {"relation_from": "this_catalogue"}
    one = PosteriorSurface.build(PRIOR, RELATION, where, **options)
    finer = PosteriorSurface.build(PRIOR, RELATION, where, tolerance={"mean": 0.001, "quantiles": 0.001}, **options)
    assert one.lattice.shape[0] == finer.lattice.shape[0] == 1  # one sigma: no axis for it
    assert np.prod(finer.lattice.shape) > np.prod(one.lattice.shape)
    assert finer.error["mean"] <= 0.001 and finer.error["quantiles"] <= 0.001
    with pytest.raises(MassmapError, match="would need more than"):
        PosteriorSurface.build(PRIOR, RELATION, where, tolerance={"mean": 1e-9}, **options)


def in_simplex(values, place, backwards):
    """Kuhn's simplex, one object: from the first corner a step along the axis with the greatest place, then the next."""
    lower = np.minimum(place.astype(int), np.array(values.shape[:3]) - 2)
    turned = np.array([False, *backwards.astype(bool)])
    share = np.where(turned, 1 - (place - lower), place - lower)
    corner, order = lower + turned, np.argsort(-share)
    found, ends = (1 - share.max()) * values[tuple(corner)], [*share[order], 0.0]
    for k, axis in enumerate(order):
        corner[axis] += -1 if turned[axis] else 1
        found = found + (ends[k] - ends[k + 1]) * values[tuple(corner)]
    return found


@pytest.mark.parametrize("directions", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_it_is_linear_in_simplices(surface, directions):
    """Of a table of noise, on and between nodes; in each direction of their diagonal."""
    rng = np.random.default_rng(5)
    lattice = dataclasses.replace(surface.lattice, backwards=np.array(directions, dtype=np.int32))
    values = rng.normal(size=surface.values.shape).astype(np.float32)
    noise = dataclasses.replace(surface, lattice=lattice, values=values)
    place = rng.uniform(0.01, np.array(lattice.shape)[:, None] - 1.01, (3, 300))
    place[:, :50] = np.round(place[:, :50])
    place = np.clip(place, 0.0, np.array(lattice.shape)[:, None] - 1.0)
    place[2] = np.clip(place[2], 0.01, lattice.t.size - 1.01)  # the ends of t round to beyond it
    found = noise(*lattice.objects(place))
    edge = SUMMARIES.index("edge_mass")
    expected = np.array([in_simplex(values, p, lattice.backwards) for p in place.T])
    expected[:, edge] = 1 / (1 + np.exp(-expected[:, edge]))
    np.testing.assert_allclose(found, expected, atol=0.02)  # a place is known to 1e-3 of a step in float32


def test_outside_its_range_objects_are_integrated_and_counted(field, surface):
    ln_lum, z, sigma = (a[:50].copy() for a in field)
    ln_lum[13], z[14], sigma[15], sigma[16] = ln_lum[13] + 9, 0.01, 0.5, 0.01
    ln_lum[17] = np.nan
    options = {"relation_from": "this_catalogue", "quantile_levels": surface.quantile_levels}
    catalogue = catalogue_of(ln_lum, z, sigma)
    exact = mass_posterior(catalogue, PRIOR, RELATION, **options)
    found = mass_posterior(catalogue, PRIOR, RELATION, method="surface", surface=surface, **options)
    assert found.num_beside_surface == 4
    assert "4 rows outside its range" in found.summary()
    for name in ("mean", "sd", "log_evidence", "information_bits", "mean_mass"):
        np.testing.assert_array_equal(getattr(found, name)[13:17], getattr(exact, name)[13:17])
    np.testing.assert_array_equal(found.flag, exact.flag)
    assert np.isnan(found.mean[17])
    # what is asked of the posterior afterwards is integrated
    np.testing.assert_array_equal(found.quantile((0.3,)), exact.quantile((0.3,)))
    np.testing.assert_array_equal(found.cdf(exact.mean), exact.cdf(exact.mean))


def test_weights_of_other_data():
    relation_from = "other_data"
    catalogue = catalogue_of(*objects(4, 1000, z_max=1.2))
    exact, found = (
        mass_posterior(catalogue, PRIOR, RELATION, relation_from=relation_from, method=m)
        for m in ("analytic", "surface")
    )
    assert all(value <= TOLERANCE[name] for name, value in errors(found, exact).items())
    assert found.surface.relation_from == relation_from


def relations():
    steep = {"alpha1": 0.0, "alpha2": 1.0, "alpha3": 1e13, "scatter": 0.0}
    return {
        "identity": (MassLuminosityRelation.create(**steep), PRIOR),
        "inverse": (
            MassLuminosityRelation.create(alpha1=1.0, alpha2=-0.5, alpha3=1e13, alpha4=0.3, scatter=0.2),
            PRIOR,
        ),
        "one redshift": (RELATION.draw(1), MassPrior.from_table(TABLE[0][5:6], TABLE[1], TABLE[2][5:6])),
    }


@pytest.mark.parametrize("name", ["identity", "inverse", "one redshift"])
def test_other_relations_and_supports(name):
    relation, prior = relations()[name]
    rng = np.random.default_rng(4)
    z, sigma = rng.uniform(0.2, 1.0, 1000), rng.uniform(0.15, 0.3, 1000)
    ln_lum = np.asarray(relation.mean_ln_lum(rng.uniform(23.5, 32.5, 1000), z)) + sigma * rng.normal(size=1000)
    catalogue = catalogue_of(ln_lum, z, sigma)
    exact, found = (mass_posterior(catalogue, prior, relation, method=m) for m in ("analytic", "surface"))
    seen = errors(found, exact)
    print(name, found.surface.lattice.shape, found.num_beside_surface, {n: f"{v:.1e}" for n, v in seen.items()})
    assert found.num_beside_surface < 20
    assert all(value <= TOLERANCE[n] for n, value in seen.items())


def test_a_flux_limit_is_exact_at_its_edge(field):
    """The edge is no smooth function: it is not interpolated."""
    ln_lum, z, _ = (a[:300] for a in field)
    sigma = np.full(300, 0.1)
    selection = FluxLimit(float(np.exp(np.median(ln_lum))))
    options = {"relation_from": "other_data", "selection": selection}
    exact, found = (
        mass_posterior(catalogue_of(ln_lum, z, sigma), PRIOR, FEW, method=m, **options) for m in ("analytic", "surface")
    )
    np.testing.assert_array_equal(np.isfinite(found.log_evidence), np.isfinite(exact.log_evidence))
    good = np.isfinite(exact.log_evidence)
    assert 100 < good.sum() < 200
    assert np.abs(found.log_evidence - exact.log_evidence)[good].max() < 0.01


def test_a_table_of_the_completeness_is_read_off_at_its_kinks_and_slopes(field, tmp_path):
    """Its evidence holds the chance of an object, which the table of masses does not, and A has kinks in redshift."""
    ln_lum, z, _ = (a[:300] for a in field)
    middle = np.median(ln_lum)
    nodes, prob = [middle - 1.0, middle, middle + 1.0], [[0.0, 0.5, 1.0], [0.1, 0.2, 0.9], [0.3, 0.4, 1.0]]
    selection = TabulatedSelection([0.1, 0.5, 1.2], nodes, prob)
    options = {"relation_from": "other_data", "selection": selection}
    catalogue = catalogue_of(ln_lum, z, np.full(300, 0.1))
    exact, found = (mass_posterior(catalogue, PRIOR, FEW, method=m, **options) for m in ("analytic", "surface"))
    good = np.isfinite(exact.log_evidence)
    assert 200 < good.sum() < 300 and found.num_beside_surface < 20
    np.testing.assert_array_equal(np.isfinite(found.log_evidence), good)
    assert np.abs(found.log_evidence - exact.log_evidence)[good].max() < 0.01
    assert np.abs((found.mean - exact.mean) / exact.sd)[good].max() < 0.01
    found.surface.save(tmp_path / "surface.npz")
    back = PosteriorSurface.load(tmp_path / "surface.npz")
    assert jax.tree.structure(back) == jax.tree.structure(found.surface)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(found.surface), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("selection", [None, FluxLimit(3000.0)], ids=["none", "flux limit"])
def test_save_and_load(selection, field, tmp_path):
    where = Range.of(*field)._replace(sigma=(0.05, 0.05))
    made = PosteriorSurface.build(PRIOR, FEW, where, relation_from="other_data", selection=selection)
    made.save(tmp_path / "surface.npz")
    back = PosteriorSurface.load(tmp_path / "surface.npz")
    assert jax.tree.structure(back) == jax.tree.structure(made)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(made), strict=True):
        np.testing.assert_array_equal(one, other)
    catalogue = catalogue_of(field[0][:50], field[1][:50], np.full(50, 0.05))
    options = {"relation_from": "other_data", "selection": selection, "method": "surface"}
    a, b = (mass_posterior(catalogue, PRIOR, FEW, surface=s, **options) for s in (made, back))
    np.testing.assert_array_equal(a.mean, b.mean)
    (tmp_path / "other.npz").write_text("no zip")
    with pytest.raises(MassmapError, match="not a file that save"):
        PosteriorSurface.load(tmp_path / "other.npz")
    with pytest.raises(MassmapError, match="does not exist"):
        PosteriorSurface.load(tmp_path / "none.npz")


def test_what_it_cannot_serve_is_refused(field, surface, tmp_path):
    catalogue = catalogue_of(*(a[:20] for a in field))

    def ask(prior=PRIOR, relation=RELATION, catalogue=catalogue, **options):
        return mass_posterior(
            catalogue, prior, relation, method="surface", **({"relation_from": "this_catalogue"} | options)
        )

    with pytest.raises(MassmapError, match="made for another prior"):
        ask(surface=surface)  # other quantile levels
    levels = {"quantile_levels": surface.quantile_levels}
    with pytest.raises(MassmapError, match="made for another prior"):
        ask(relation=RELATION.draw(np.arange(4)), surface=surface, **levels)
    with pytest.raises(MassmapError, match="made for another prior"):
        ask(relation_from="fixed_draws", surface=surface, **levels)
    ask(surface=surface, **levels)
    with pytest.raises(MassmapError, match="continuous in redshift"):
        ask(prior=MassPrior.from_table(*TABLE, snap="upper"))
    with pytest.raises(MassmapError, match="noise and scatter are both 0"):
        ask(
            relation=MassLuminosityRelation.identity(),
            catalogue=catalogue_of(field[0][:20], field[1][:20], np.zeros(20)),
        )
    made = eqx.tree_at(lambda s: s.selection, surface, SignalToNoiseLimit(5.0))
    with pytest.raises(MassmapError, match="no selection, a sharp limit or a table"):
        made.save(tmp_path / "s.npz")


def test_the_program_takes_it_for_large_catalogues_and_says_so(field, monkeypatch):
    from massmap_jax.run import job
    from massmap_jax.run.options import JobOptions

    # Inside the default prior's redshifts and masses.
    catalogue = catalogue_of(field[0][20:320], field[1][20:320], field[2][20:320])
    options = JobOptions(relation="bigmali2017", num_relation_draws=8, make_map=False)
    few = job.compute(catalogue, options, job.Clock())
    assert few.posterior.method == "analytic" and not any("surface" in note for note in few.notes)
    monkeypatch.setattr(job, "SURFACE_PAYS", 200)
    many = job.compute(catalogue, options, job.Clock())
    assert many.posterior.method == "surface"
    assert any("300 objects are read off a posterior surface" in note for note in many.notes)
    good = many.posterior.usable
    off = np.abs(many.posterior.mean - few.posterior.mean)[good] / few.posterior.sd[good]
    assert 0 < off.max() < 0.01


def test_linear_noise(tmp_path):
    """Objects of a signal to noise of 12 and more are read off, the others integrated; the twin reads bars as ln L."""
    ln_lum, z, sigma = objects(9, 200, sigma=(0.02, 0.083), z_max=1.2)
    lum, error = np.exp(ln_lum), sigma * np.exp(ln_lum)
    error[20:23], lum[23] = lum[20:23] / np.array([11.9, 5.0, 2.0]), -0.5 * error[23]
    catalogue = HaloCatalogue.from_arrays(luminosity=lum, redshift=z, sigma_luminosity=error, noise_kind="normal")
    options = {"relation_from": "this_catalogue", "quantile_levels": (0.025, 0.5, 0.975)}
    exact, found = (mass_posterior(catalogue, PRIOR, RELATION, method=m, **options) for m in ("analytic", "surface"))
    assert found.num_beside_surface == 4 and found.surface.noise_kind == "normal"
    seen = errors(found, exact)
    for name, allowed in TOLERANCE.items():
        assert seen[name] <= allowed, name
    rest = np.r_[0:20, 24:200]
    wrong = mass_posterior(catalogue_of(ln_lum[rest], z[rest], sigma[rest]), PRIOR, RELATION, **options)
    off = np.abs(wrong.mean - exact.mean[rest]) / exact.sd[rest]
    assert off[sigma[rest] > 0.07].max() > 2 * TOLERANCE["mean"]
    found.surface.save(tmp_path / "linear.npz")
    again = mass_posterior(
        catalogue, PRIOR, RELATION, method="surface", surface=PosteriorSurface.load(tmp_path / "linear.npz"), **options
    )
    np.testing.assert_array_equal(again.mean, found.mean)
    faint = HaloCatalogue.from_arrays(
        luminosity=lum[:3], redshift=z[:3], sigma_luminosity=0.2 * lum[:3], noise_kind="normal"
    )
    with pytest.raises(MassmapError, match="signal to noise of 12 and more, and none of the 3 objects has it"):
        mass_posterior(faint, PRIOR, RELATION, method="surface", **options)


@pytest.mark.parametrize("snr", [12.0, 30.0, 150.0])
def test_linear_noise_where_the_mass_function_falls_steeply(snr):
    """Brighter than any halo should be: the posterior lies six standard deviations of the scatter lighter.

    The integral without the table is the reference.
    """
    lum = np.exp(np.array([12.5, 12.86]))
    catalogue = HaloCatalogue.from_arrays(
        luminosity=lum, redshift=[3.3, 3.4], sigma_luminosity=lum / snr, noise_kind="normal"
    )
    found, slow = (
        mass_posterior(catalogue, PRIOR, RELATION, method=m, relation_from="fixed_draws")
        for m in ("analytic", "quadrature")
    )
    np.testing.assert_allclose(found.mean, slow.mean, atol=2e-3 * slow.sd.min())
    np.testing.assert_allclose(found.sd, slow.sd, rtol=3e-3)
    np.testing.assert_allclose(found.quantiles, slow.quantiles, atol=1e-2 * slow.sd.min())
