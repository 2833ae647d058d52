"""Which pixels a run chooses, before any mass: extents from a point to the sky, what is refused and what is said."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.result_folder import files_of_others
from massmap_jax.errors import MassmapError
from massmap_jax.figures.all_sky import MollweidePlane
from massmap_jax.figures.standard import standard_figures
from massmap_jax.maps.files import read_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.repeats import repeats
from massmap_jax.run import map_plan
from massmap_jax.run.clock import Clock
from massmap_jax.run.job import compute
from massmap_jax.run.map_plan import far_from_the_rest, nside_for, plan_map
from massmap_jax.run.options import JobOptions
from massmap_jax.run.outputs import write_outputs

HEALPIX = pytest.mark.skipif(find_spec("astropy_healpix") is None, reason="astropy-healpix is not installed")


def objects(ra, dec, **changes):
    n = np.size(ra)
    return HaloCatalogue.from_arrays(
        **{"luminosity": np.geomspace(1e14, 1e15, n), "redshift": np.linspace(0.1, 0.6, n), "ra": ra, "dec": dec}
        | {"sigma_ln_luminosity": 0.05}
        | changes
    )


def cap(radius, number=300, ra=30.0, dec=10.0, seed=0):
    """Positions in a circle of this radius [deg], two of them on its rim."""
    rng = np.random.default_rng(seed)
    apart = np.arccos(rng.uniform(np.cos(np.radians(radius)), 1.0, number))
    apart[:2], turn = np.radians(radius), rng.uniform(0, 2 * np.pi, number)
    turn[:2] = 0.0, np.pi
    dec0 = np.radians(dec)
    sin = np.sin(dec0) * np.cos(apart) + np.cos(dec0) * np.sin(apart) * np.cos(turn)
    shift = np.arctan2(np.sin(turn) * np.sin(apart) * np.cos(dec0), np.cos(apart) - np.sin(dec0) * sin)
    return (ra + np.degrees(shift)) % 360, np.degrees(np.arcsin(sin))


def planned(catalogue, **options):
    return plan_map(catalogue, catalogue.usable, JobOptions(relation="identity", **options))


@pytest.mark.parametrize("radius", [0.01, 3.0, 9.5])
def test_small_fields_are_planes(radius):
    grid, notes = planned(objects(*cap(radius)))
    assert isinstance(grid, PixelGrid) and notes == []


@HEALPIX
@pytest.mark.parametrize("radius", [11.0, 40.0, 75.0, 120.0, 179.0])
def test_wide_fields_are_healpix(radius):
    """All objects on it, at a size that suits them, and a note that says how to choose another."""
    catalogue = objects(*cap(radius))
    grid, (note,) = planned(catalogue)
    assert grid.projection == "healpix" and (grid.index(catalogue.ra, catalogue.dec) >= 0).all()
    assert (grid.pixels is None) == (radius > 90) and 2_500 < grid.num_pixels <= 14_000
    assert "--nside" in note and f"nside {grid.nside}" in note and ("--pixel-arcmin" in note) == (radius < 60)
    assert ("all over the sky" if radius > 90 else f"span {2 * radius:.0f} degrees") in note


def test_nside_suits_field_and_number():
    assert nside_for(180, 200) == 32 and nside_for(180, 10_000_000) == 128 and nside_for(11, 300) == 256
    for radius in (10, 30, 180):
        sizes = [nside_for(radius, number) for number in (1, 1e3, 1e4, 1e6)]
        assert sizes == sorted(sizes)


def test_without_healpix(monkeypatch):
    """A plane where one can show the field, else masses without a map; both are said."""
    monkeypatch.setattr(map_plan, "find_spec", lambda name: None)
    grid, (note,) = planned(objects(*cap(30.0)))
    assert isinstance(grid, PixelGrid) and "pip install astropy-healpix" in note
    grid, (note,) = planned(objects(*cap(100.0)))
    assert grid is None and note.startswith("no map: ") and "pip install astropy-healpix" in note


@pytest.mark.parametrize(
    ("options", "radius", "says"),
    [
        (
            dict(pixel_arcmin=5.0),
            80.0,
            r"span 16[01] degrees, more than the 120 .*--pixel-arcmin needs one: leave it out",
        ),
        (dict(halo_profile="nfw"), 170.0, r"all over the sky, more than .*--halo-profile needs one.*--nside"),
        (dict(halo_profile="nfw", source_redshift=1.0), 170.0, r"--halo-profile and --source-redshift need one"),
        (dict(pixel_arcmin=0.001), 3.0, r"give larger pixels, pixel_arcmin="),
        (dict(smooth_arcmin=5000.0), 3.0, r"FWHM to smooth by is 5000 arcmin and the map's longer side"),
        (dict(smooth_arcmin=2000.0), 100.0, r"on the sphere give at most 1,600"),
        (dict(num_map_draws=10**8), 3.0, r"needs about .* GB and this machine has"),
    ],
)
def test_what_cannot_be_made_is_refused_beforehand(options, radius, says):
    """In words of the command line, and with the way to the masses alone."""
    if radius > 90 and "halo_profile" not in options:
        pytest.importorskip("astropy_healpix")
    with pytest.raises(MassmapError, match=says) as caught:
        planned(objects(*cap(radius)), **options)
    assert "--no-map" in str(caught.value) and not any(
        w in str(caught.value) for w in ("max_pixels", "shape", "centre,")
    )


def test_slices_without_an_object_are_refused_beforehand():
    catalogue = objects(*cap(1.0))
    with pytest.raises(MassmapError, match=r"hold none of the 300 objects, whose redshifts are 0.1 to 0.6.*--no-map"):
        planned(catalogue, map_slices=(0.7, 1.0))
    assert planned(catalogue, map_slices=(0.55, 1.0))[1] == []


@pytest.mark.parametrize("options", [dict(halo_profile="nfw"), dict(map_unit="Msun/Mpc2")])
def test_redshift_zero_is_refused_beforehand(options):
    catalogue = objects(*cap(1.0), redshift=np.r_[np.full(299, 0.2), 0.0])
    with pytest.raises(MassmapError, match=r"1 objects on the map have redshift 0, 1 row, first row 299"):
        planned(catalogue, **options)


def test_positions_that_are_none_cost_no_masses():
    nowhere = objects(np.full(5, np.nan), np.zeros(5))
    grid, (note,) = planned(nowhere)
    assert grid is None and "none of the 5 objects with a mass has a usable position" in note
    bare = HaloCatalogue.from_arrays(luminosity=[1e14], redshift=[0.2], sigma_ln_luminosity=0.05)
    assert planned(bare) == (None, ["no map: the catalogue has no positions"])
    assert planned(nowhere, make_map=False) == (None, [])


def test_offsets_and_healpix():
    with pytest.raises(MassmapError, match=r"give --field-centre.*or leave --nside out"):
        planned(objects([0.0, 5.0], [0.0, 5.0], position_unit="arcmin"), nside=16)


# -- repeats --------------------------------------------------------------------------------------------------------


def test_repeats_are_told():
    ra, dec = cap(1.0, 50)
    same = np.r_[np.arange(50), 7, 7, 30]
    lum, z = np.geomspace(1e14, 1e15, 50)[same], np.linspace(0.1, 0.6, 50)[same]
    twice = objects(ra[same], dec[same], luminosity=lum, redshift=z)
    _, (note,) = planned(twice)
    assert "3 of 53 objects on the map repeat an earlier one" in note
    assert "by position, redshift and luminosity in 3 rows, first row 50" in note
    assert repeats(twice, twice.usable) in note
    named = objects(np.r_[ra, 30.3], np.r_[dec, 10.2], ids=[*map(str, range(50)), "7"], duplicate_ids="row_number")
    assert "1 of 51 objects on the map repeat an earlier one (by id in 1 row, first row 50 with value '7')" in str(
        planned(named)[1]
    )
    no_id = objects(np.r_[ra, 30.3], np.r_[dec, 10.2], ids=[*map(str, range(49)), "", ""], duplicate_ids="row_number")
    assert planned(no_id)[1] == []
    # One quantity alone in common is no repeat, nor is a row without a mass or place.
    assert planned(objects(ra, dec, luminosity=np.full(50, 1e14), redshift=np.full(50, 0.2)))[1] == []
    assert planned(objects(np.full(50, 30.0), np.full(50, 10.0), luminosity=np.full(50, 1e14)))[1] == []
    lost = objects(
        np.r_[ra, np.nan, np.nan], np.r_[dec, 1.0, 1.0], luminosity=np.full(52, 1e14), redshift=np.full(52, 0.2)
    )
    assert planned(lost)[1] == []


# -- the whole way --------------------------------------------------------------------------------------------------


@HEALPIX
def test_an_all_sky_run(tmp_path):
    """Masses, a HEALPix map and its Mollweide figure by default, without a word of an option."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 60), np.degrees(np.arcsin(rng.uniform(-1, 1, 60)))
    catalogue = objects(np.r_[ra, ra[3]], np.r_[dec, dec[3]], luminosity=np.r_[np.geomspace(1e14, 1e15, 60), 1e14 * 10 ** (3 / 59)],
                        redshift=np.r_[np.full(60, 0.3), 0.3])  # fmt: skip
    options = JobOptions(relation="identity", num_map_draws=20, make_report=False)
    clock = Clock(lambda stage: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = compute(catalogue, options, clock)
    assert any("all over the sky" in note for note in result.notes)
    record = write_outputs(tmp_path, result, options, clock, {"catalogue": "sky"})
    found = read_map(tmp_path / "mass_map.fits")
    assert found["grid"].pixels is None and found["nobj"].sum() == 61 and record["map"]["objects"] == 61
    assert {"mass_map", "map_panels"} <= {path.stem for path in (tmp_path / "figures").iterdir()}
    assert found["meta"]["cosmology"] == "Planck18" and found["meta"]["program"] == "massmap-jax"
    assert "mass_map" in standard_figures(result.posterior, result.mass_map)


def test_a_map_that_fails_late_costs_no_masses(monkeypatch):
    from massmap_jax.run import job

    def fail(*_, **__):
        raise MassmapError("the relation draws collapse")

    monkeypatch.setattr(job, "mass_map", fail)
    result = compute(objects(*cap(1.0, 20)), JobOptions(relation="identity"), Clock(lambda stage: None))
    assert result.mass_map is None and result.posterior.usable.all()
    assert "no mass map: the relation draws collapse" in result.notes


def test_a_figure_that_fails_costs_neither_tables_nor_other_figures(monkeypatch, tmp_path):
    from massmap_jax.figures import standard

    def fail(*_, **__):
        raise RuntimeError("no such glyph\nat all")

    def cannot_be_saved(*_, **__):
        from matplotlib.figure import Figure

        figure = Figure()
        figure.text(0.5, 0.5, "$a_$")
        return figure

    monkeypatch.setattr(standard, "field_of_view", fail)
    monkeypatch.setattr(standard, "map_panels", cannot_be_saved)
    options, clock = JobOptions(relation="identity", num_map_draws=8), Clock(lambda stage: None)
    result = compute(objects(*cap(1.0, 20)), options, clock)
    record = write_outputs(tmp_path, result, options, clock, {"catalogue": "cap", "command": "run", "date": "today"})
    notes = [note for note in record["notes"] if "could not be drawn" in note]
    assert notes[0] == "the figure field_of_view could not be drawn: no such glyph"
    assert len(notes) == 2 and notes[1].startswith("the figure map_panels could not be drawn: ")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"masses.parquet", "mass_map.fits", "report.html", "run.json"} <= names
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"posterior_panel.png", "mass_map.png"}
    assert files_of_others(tmp_path) == []  # run.json lists them all


@pytest.mark.parametrize(
    ("ra", "dec"),
    [("150.1", "200.0"), ("150.1", "north")],
    ids=["impossible", "text"],
)
def test_positions_that_cannot_be_read_stop_no_masses(tmp_path, ra, dec):
    """Where no map is asked for; where one is, columns that the user named are refused."""
    path = tmp_path / "some.csv"
    path.write_text("id,ra,dec,z,M200m\n" + "".join(f"{i},{ra},{dec},0.{i},1e14\n" for i in range(1, 5)))
    with pytest.raises(MassmapError):
        read_catalogue(path, lum="M200m", sigma=0.2, ra="ra", dec="dec")
    found = read_catalogue(path, lum="M200m", sigma=0.2, ra="ra", dec="dec", need_positions=False)
    assert found.ra is None and found.usable.all()
    assert any(note.startswith("no positions, which are not needed here: ") for note in found.notes)


def test_a_map_that_cannot_be_made_is_refused_before_the_fit(monkeypatch):
    from massmap_jax.run import job

    def fit(*_, **__):
        raise AssertionError("the relation was fitted first")

    monkeypatch.setattr(job, "fit", fit)
    options = JobOptions(relation="fit", relation_prior="bigmali2017", smooth_arcmin=5000.0)
    with pytest.raises(MassmapError, match="FWHM to smooth by"):
        compute(objects(*cap(3.0)), options, Clock(lambda stage: None))


def test_the_whole_sky_on_a_plane():
    """Places there and back, areas alike, RA growing to the left."""
    plane = MollweidePlane(rows=200)
    ra, dec = plane.centres()
    ny, nx = plane.shape
    y, x = np.mgrid[:ny, :nx]
    inside = ((x - (nx - 1) / 2) / ny) ** 2 + ((y - (ny - 1) / 2) / (ny / 2)) ** 2 < 0.999
    back = plane.project((ra[inside] + 180) % 360 - 180, dec[inside])
    np.testing.assert_allclose(back, (x[inside], y[inside]), atol=1e-2)
    share = np.mean(np.abs(dec[inside]) < 30)
    assert share == pytest.approx(0.5, abs=0.01)  # sin 30
    assert plane.project(10.0, 0.0)[0] < plane.project(-10.0, 0.0)[0]


@pytest.mark.parametrize(
    ("moved", "degrees", "words"),
    [
        (1, 40.0, "1 of 40 objects lies far outside the field of the others, 1"),
        (2, 40.0, "2 of 40 objects lie far outside"),
        (1, 1.0, ""),
        (6, 40.0, ""),
        (0, 0.0, ""),
    ],
)
def test_a_position_far_from_the_rest_is_told(moved, degrees, words):
    """Not of a field's own outskirts, nor of two fields."""
    rng = np.random.default_rng(3)
    ra, dec = 150 + rng.uniform(-1, 1, 40), rng.uniform(-1, 1, 40)
    ra[7 : 7 + moved] += degrees
    catalogue = HaloCatalogue.from_arrays(
        luminosity=np.ones(40), redshift=np.full(40, 0.2), sigma_ln_luminosity=0.1, ra=ra, dec=dec
    )
    told = far_from_the_rest(catalogue, np.ones(40, dtype=bool))
    assert told.startswith(words) and bool(words) == bool(told)
    assert not words or f"the farthest row {7 + int(np.argmax(ra[7 : 7 + moved]))}" in told
