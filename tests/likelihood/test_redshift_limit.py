"""A limit in flux: the luminosity limit at each redshift against astropy, its ln A against a slow integral, its use."""

import jax
import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM, Planck18
from reference.posterior_reference import Relation
from reference.prior_reference import PriorReference
from reference.tables import schechter_table
from scipy.integrate import quad
from scipy.stats import norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.checks.prior_check import prior_check
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Range
from massmap_jax.likelihood.selection import RedshiftLimit
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.posterior.surface import SUMMARIES, Lattice, PosteriorSurface
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.beliefs import RelationPrior
from massmap_jax.relation.direct import log_likelihood
from massmap_jax.relation.fit import fit_relation
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.relation.marginal import RelationLikelihood

TABLE = schechter_table()
REFERENCE = PriorReference(*TABLE, per="mass")
PRIOR = MassPrior.from_table(*TABLE, per="mass")
TRUTH = Relation()
RELATION = MassLuminosityRelation.create(
    **{name: getattr(TRUTH, name) for name in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")}
)
COSMOLOGY = "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95"
UNIT = "1e40 erg/s"
SIGMA = 0.1


def flux_limit(k_slope=0.0):
    """A limit that cuts the simulated luminosities (about e^9 of UNIT) in the middle, at z of about 0.5."""
    return RedshiftLimit.from_flux(1e-13, COSMOLOGY, lum_unit=UNIT, k_slope=k_slope)


def catalogue_of(number, seed, z_range=(0.01, 1.5)):
    rng = np.random.default_rng(seed)
    z = rng.uniform(*z_range, number)
    spread = np.hypot(TRUTH.scatter, SIGMA)
    ln_lum = TRUTH.mean_ln_lum(REFERENCE.sample(rng, z), z) + spread * rng.standard_normal(number)
    seen = ln_lum >= np.asarray(flux_limit().ln_lum_min(z)) + 1e-4
    return HaloCatalogue.from_arrays(ln_luminosity=ln_lum[seen], redshift=z[seen], sigma_ln_luminosity=SIGMA)


@pytest.mark.parametrize(("name", "cosmology"), [("Planck18", Planck18), (COSMOLOGY, FlatLambdaCDM(70, 0.3, 2.725))])
@pytest.mark.parametrize("k_slope", [0.0, -1.3])
def test_the_limit_is_four_pi_distance_squared_times_flux(name, cosmology, k_slope):
    z = np.array([1e-4, 0.003, 0.05, 0.3, 1.0, 3.7])
    distance = cosmology.luminosity_distance(z).to_value(u.cm)
    expected = np.log(4 * np.pi * distance**2 * 3e-12 * (1 + z) ** k_slope / 1e44)
    selection = RedshiftLimit.from_flux(3e-12, name, lum_unit="1e37 W", k_slope=k_slope)
    with jax.enable_x64(True):
        np.testing.assert_allclose(selection.ln_lum_min(z), expected, atol=2e-5 if z.size else 0)
        above, below = (selection.log_prob(expected + step, z) for step in (1e-3, -1e-3))
    np.testing.assert_array_equal(above, 0.0)
    assert (np.asarray(below) == -np.inf).all()
    assert "3e-12 erg/s/cm2" in selection.describe()


def test_a_table_is_followed_between_its_nodes():
    selection = RedshiftLimit.tabulated([0.1, 0.2, 0.4], [1.0, 8.0, 20.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            np.exp(selection.ln_lum_min(np.array([0.1, 0.2, 0.4]))), [1.0, 8.0, 20.0], rtol=1e-12
        )
        np.testing.assert_allclose(np.exp(selection.ln_lum_min(np.array([0.05, 0.8]))), [0.25, 80.0], rtol=1e-12)
    assert {0.1, 0.2, 0.4} <= set(np.round(selection.redshift_nodes, 12))


@pytest.mark.parametrize("z", [0.02, 0.31, 0.73, 1.9])
def test_log_norm_against_a_slow_integral(z):
    selection = flux_limit()
    with jax.enable_x64(True):
        limit = float(selection.ln_lum_min(z))
        got = float(selection.log_norm(RELATION, PRIOR, z, SIGMA))
    exact = quad(
        lambda m: (
            np.exp(REFERENCE.log_prob(m, z))
            * norm.sf((limit - TRUTH.mean_ln_lum(m, z)) / np.hypot(TRUTH.scatter, SIGMA))
        ),
        *REFERENCE.ln_mass[[0, -1]],
        limit=500,
    )[0]
    print("ln A", got, np.log(exact))
    assert got == pytest.approx(np.log(exact), abs=2e-5)


def test_the_fast_likelihood_follows_the_direct_sum():
    catalogue = catalogue_of(4000, 3, (0.003, 1.2))
    with jax.enable_x64(True):
        direct = float(log_likelihood(RELATION, catalogue, PRIOR, flux_limit()))
        plain = float(log_likelihood(RELATION, catalogue, PRIOR))
        points = RelationLikelihood.build(catalogue, PRIOR, flux_limit(), scatter=0.12)
        fast = float(jax.jit(lambda p, r: p(r))(points, RELATION))
    print(len(catalogue), "objects; A matters by", plain - direct, "fast off by", fast - direct)
    assert plain - direct < -40
    assert abs(fast - direct) < 4e-3


def test_a_fit_with_the_limit_finds_the_truth_and_one_without_does_not():
    catalogue = catalogue_of(4000, 5)
    beliefs = RelationPrior.parse("alpha1=9:3,alpha2=0.5:0.3,alpha4=1:1,scatter=0.2:0.1,alpha3=2.35e14")
    right = fit_relation(catalogue, PRIOR, beliefs, selection=flux_limit())
    wrong = fit_relation(catalogue, PRIOR, beliefs)
    pulls = {p: (right.mean[p] - getattr(TRUTH, p)) / right.sd[p] for p in right.free}
    print(len(catalogue), pulls)
    assert max(map(abs, pulls.values())) < 5
    assert max(abs(wrong.mean[p] - getattr(TRUTH, p)) / wrong.sd[p] for p in wrong.free) > 5
    assert "flux limit" in right.selection
    assert prior_check(catalogue, PRIOR, right.draws, selection=flux_limit()).p_value > 1e-6


def test_posteriors_and_a_surface_that_is_saved(tmp_path):
    catalogue = catalogue_of(60, 7)
    draws = MassLuminosityRelation.from_draws(
        alpha1=TRUTH.alpha1 + np.array([-0.2, 0.0, 0.2]),
        alpha2=TRUTH.alpha2,
        alpha3=TRUTH.alpha3,
        alpha4=TRUTH.alpha4,
        scatter=TRUTH.scatter,
    )
    options = {"relation_from": "other_data", "selection": flux_limit()}
    exact = mass_posterior(catalogue, PRIOR, draws, **options)
    plain = mass_posterior(catalogue, PRIOR, draws, relation_from="other_data")
    assert np.abs(exact.mean - plain.mean).max() > 1e-3  # the limit weights the draws
    where = Range.of(catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum)
    lattice = Lattice.of(PRIOR, draws, where, (0.5, 0.1, 0.25))
    # Any numbers do: what is tested is that the limit is saved with them.
    values = np.zeros((*lattice.shape, len(SUMMARIES)), dtype=np.float32)
    surface = PosteriorSurface(
        lattice, values, PRIOR, draws, flux_limit(), {}, {}, (0.5,), "other_data", names=SUMMARIES
    )
    surface.save(tmp_path / "surface.npz")
    back = PosteriorSurface.load(tmp_path / "surface.npz")
    assert jax.tree.structure(back) == jax.tree.structure(surface)
    assert back.selection.describe() == surface.selection.describe()
    z = np.array([0.1, 0.7])
    np.testing.assert_array_equal(back.selection.ln_lum_min(z), surface.selection.ln_lum_min(z))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RedshiftLimit.from_flux(-1, lum_unit="erg/s"), "flux limit is -1"),
        (lambda: RedshiftLimit.from_flux(1.5, lum_unit="erg/s"), "lum_limit"),
        (lambda: RedshiftLimit.from_flux(3e-12, lum_unit="Msun"), "unit of power"),
        (lambda: RedshiftLimit.from_flux(3e-12, lum_unit=""), "no unit"),
        (lambda: RedshiftLimit.from_flux(3e-12, lum_unit="erg/s", k_slope=np.nan), "k_correction"),
        (lambda: RedshiftLimit.tabulated([0.0, 0.1], [1.0, 2.0]), "above 0"),
        (lambda: RedshiftLimit.tabulated([0.1, 0.1], [1.0, 2.0]), "rise"),
        (lambda: RedshiftLimit.tabulated([0.1, 0.2], [1.0, -2.0]), "z = 0.2"),
        (lambda: RedshiftLimit.tabulated([0.1, 0.2], [1.0]), "shapes"),
    ],
)
def test_limits_that_are_none_are_refused(make, words):
    with pytest.raises(MassmapError, match=words):
        make()
