"""The mass in a circle from the catalogue itself: that of a fine map, object by object with astropy's separations."""

import jax
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from reference.tables import schechter_table

from maps.test_regions import catalogue
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.maps.circle import mass_in_circle
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.regions import Circle, region_mass
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

KEY, DRAWS = jax.random.key(7), 120
PRIOR = MassPrior.from_table(*schechter_table())
RELATION = MassLuminosityRelation.create(
    alpha1=10.709 + 0.1 * np.linspace(-1, 1, 200), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
)
ON_SKY, IN_PLANE = Circle(359.9, 59.2, 26.0), Circle(3.0, -2.0, 11.0)


def found_in(objects, circle, relation_from="fixed_draws", relation=RELATION):
    return mass_in_circle(KEY, objects, PRIOR, relation, circle, relation_from=relation_from, num_draws=DRAWS)


def apart(objects, circle):
    if objects.frame == "flat":
        return np.hypot(objects.ra - circle.ra, objects.dec - circle.dec)
    there = SkyCoord(circle.ra, circle.dec, unit="deg")
    return SkyCoord(objects.ra, objects.dec, unit="deg").separation(there).to_value(units.arcmin)


@pytest.mark.parametrize(("frame", "circle"), [("sky", ON_SKY), ("flat", IN_PLANE)])
def test_it_is_the_mass_of_a_map_of_fine_pixels(frame, circle):
    objects = catalogue(frame)
    inside = apart(objects, circle) <= circle.radius_arcmin
    found = found_in(objects, circle)
    assert found.nobj == inside.sum() > 10 and found.n_without_mass == 0
    assert found.num_pixels is None and found.cut is None
    grid = PixelGrid.fit(objects.ra, objects.dec, frame=frame, pixel_arcmin=0.2)
    image = mass_map(KEY, objects, PRIOR, RELATION, grid, relation_from="fixed_draws", num_draws=DRAWS, keep_draws=True)
    pixels = region_mass(image, circle)
    assert pixels.nobj == found.nobj, "a pixel is cut by the rim: choose another circle for this test"
    np.testing.assert_allclose(found.draws, pixels.draws, rtol=1e-6)
    assert found.mean == pytest.approx(pixels.mean, rel=1e-6)
    alone = mass_posterior(objects, PRIOR, RELATION, relation_from="fixed_draws")
    assert found.mean == pytest.approx(alone.mean_mass[inside].sum(), rel=1e-5)


def test_the_error_is_the_common_one_of_the_relation():
    """The twin: errors added in quadrature would be less than half of it."""
    objects = catalogue()
    found = found_in(objects, Circle(0.0, 59.0, 120.0))
    alone = mass_posterior(objects, PRIOR, RELATION, relation_from="fixed_draws")
    independent = np.sqrt(sum(np.exp(alone.sample(KEY, 500)).var(axis=1)))
    assert found.nobj == len(objects) and found.sd > 2 * independent


def test_objects_outside_update_the_relation_with_other_data():
    objects = catalogue()
    inside = objects.subset(apart(objects, ON_SKY) <= ON_SKY.radius_arcmin)
    narrow = MassLuminosityRelation.create(
        alpha1=10.709 + 0.003 * np.linspace(-1, 1, 400), alpha2=0.359, alpha3=2.35e14, alpha4=1.1, scatter=0.155
    )
    whole, part = (found_in(these, ON_SKY, "other_data", narrow) for these in (objects, inside))
    assert whole.nobj == part.nobj and abs(whole.mean / part.mean - 1) > 1e-6
    fixed = [found_in(these, ON_SKY, "fixed_draws", narrow).mean for these in (objects, inside)]
    assert fixed[0] == pytest.approx(fixed[1], rel=1e-9)


def test_objects_without_mass_or_position():
    objects = HaloCatalogue.from_arrays(
        luminosity=[2e4, -99.0, 2e4, 2e4],
        redshift=[0.3, 0.3, 0.3, 0.3],
        sigma_ln_luminosity=0.05,
        ra=[10.0, 10.0, np.nan, 10.01],
        dec=[5.0, 5.0, 5.0, 95.0],
    )
    found = found_in(objects, Circle(10.0, 5.0, 2.0))
    assert (found.nobj, found.n_without_mass) == (1, 1)


def test_a_circle_without_objects_holds_no_mass():
    found = found_in(catalogue(), Circle(180.0, -30.0, 5.0))
    assert (found.mean, found.sd, found.nobj) == (0.0, 0.0, 0) and np.isnan(found.signal_to_noise)


def test_an_object_that_comes_twice_is_told():
    objects = catalogue()
    twice = HaloCatalogue.from_arrays(
        ln_luminosity=np.repeat(objects.ln_lum_obs[:1], 2), redshift=np.repeat(objects.redshift[:1], 2),
        sigma_ln_luminosity=0.05, ra=[0.0, 0.0], dec=[59.0, 59.0],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 2 objects in the circle repeat"):
        found_in(twice, Circle(0.0, 59.0, 5.0))


def test_quantities_and_offsets_beyond_90_make_a_circle():
    objects = catalogue()
    in_units = Circle(ON_SKY.ra * units.deg, np.radians(ON_SKY.dec) * units.rad, ON_SKY.radius_arcmin / 60 * units.deg)
    assert found_in(objects, in_units).nobj == found_in(objects, ON_SKY).nobj > 10
    flat = HaloCatalogue.from_arrays(
        ln_luminosity=objects.ln_lum_obs[:3], redshift=objects.redshift[:3], sigma_ln_luminosity=0.05,
        ra=[0.0, 5.0, 0.0], dec=[-120.0, -118.0, 9.0], position_unit="arcmin",
    )  # fmt: skip
    assert found_in(flat, Circle(0.0, -120.0, 10.0)).nobj == 2


@pytest.mark.parametrize(
    "circle", [Circle(0.0, 59.0, 0.0), Circle(np.nan, 59.0, 1.0), Circle(0.0, 59.0, -5.0), Circle(59.0, 95.0, 600.0)]
)
def test_no_circle_is_refused(circle):
    with pytest.raises(MassmapError, match="no circle"):
        found_in(catalogue(), circle)


def test_a_catalogue_without_positions_is_refused():
    with pytest.raises(MassmapError, match="no positions"):
        found_in(HaloCatalogue.from_arrays(luminosity=[1e4], redshift=[0.2], sigma_ln_luminosity=0.05), ON_SKY)
