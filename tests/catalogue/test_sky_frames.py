"""Positions that are not columns of right ascension and declination: converted by astropy with a note, or told."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError

RA, DEC = np.array([10.0, 150.1, 266.4]), np.array([-5.0, 2.2, -28.9])
SKY = SkyCoord(RA, DEC, unit="deg")
COLUMNS = {"z": [0.1, 0.2, 0.3], "lum": [1.0, 2.0, 3.0]}


def table_with(**columns):
    return Table(COLUMNS | columns)


def read(table, **options):
    return read_catalogue(table, sigma=0.1, **options)


def placed(catalogue):
    np.testing.assert_allclose(catalogue.ra, RA, rtol=0, atol=1e-9)
    np.testing.assert_allclose(catalogue.dec, DEC, rtol=0, atol=1e-9)
    return " ".join(catalogue.notes)


@pytest.mark.parametrize(
    "names", [("GLON", "GLAT"), ("glon", "glat"), ("Gal Lon", "Gal Lat"), ("galactic_longitude", "galactic_latitude")]
)
@pytest.mark.parametrize("unit", [u.deg, u.rad])
def test_galactic_columns_are_converted(names, unit):
    lon, lat = names
    catalogue = read(table_with(**{lon: SKY.galactic.l.to(unit), lat: SKY.galactic.b.to(unit)}))
    assert f"the galactic coordinates {lon!r} and {lat!r} converted to right ascension" in placed(catalogue)
    assert (catalogue.columns_read["ra"], catalogue.columns_read["dec"]) == names


def test_galactic_columns_without_a_unit_are_taken_for_degrees():
    columns = {"GLON": SKY.galactic.l.deg, "GLAT": SKY.galactic.b.deg}
    assert "'GLON' and 'GLAT', taken to be in degrees, converted" in placed(read(COLUMNS | columns))
    columns = {"GLON": SKY.galactic.l.rad, "GLAT": SKY.galactic.b.rad}
    placed(read(COLUMNS | columns, position_unit="rad"))


def test_l_and_b_are_galactic_where_they_are_angles():
    columns = {"l": SKY.galactic.l.deg, "b": SKY.galactic.b.deg}
    catalogue = read(COLUMNS | columns)
    assert catalogue.ra is None and "call them GLON and GLAT" in " ".join(catalogue.notes)
    assert "'l' and 'b' converted" in placed(read(table_with(l=columns["l"] * u.deg, b=columns["b"] * u.deg)))


def test_right_ascension_goes_first():
    catalogue = read(COLUMNS | {"ra": RA, "dec": DEC, "GLON": [1.0, 2.0, 3.0], "GLAT": [4.0, 5.0, 6.0]})
    assert "galactic" not in placed(catalogue)


def test_what_is_no_angle_is_flagged():
    columns = {"GLON": [SKY.galactic.l.deg[0], np.nan, 10.0], "GLAT": [SKY.galactic.b.deg[0], 1.0, -99.0]}
    catalogue = read(COLUMNS | columns)
    assert catalogue.ra[0] == pytest.approx(RA[0]) and np.isnan(catalogue.ra[1:]).all()
    assert (catalogue.flag != 0).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"GLON": RA, "GLAT": DEC, "lii": RA, "bii": DEC}, "GLON with GLAT, lii with bii may be it"),
        ({"GLON": RA * u.arcmin, "GLAT": DEC * u.arcmin}, "are in arcmin: convert to deg"),
        ({"GLON": RA * u.rad, "GLAT": DEC * u.deg}, "are in deg and rad: convert to deg"),
    ],
)
def test_what_is_not_used_is_told(columns, words):
    catalogue = read(table_with(**columns))
    assert catalogue.ra is None and words in " ".join(catalogue.notes)


def test_galactic_columns_given_as_ra_and_dec_are_refused():
    with pytest.raises(MassmapError, match=r"'GLON' of .*, by its name a galactic longitude"):
        read(COLUMNS | {"GLON": RA, "GLAT": DEC}, ra="GLON", dec="GLAT")


@pytest.mark.parametrize("frame", ["icrs", "galactic", "fk5"])
@pytest.mark.parametrize("kind", [None, "ascii.ecsv", "fits", "parquet"])
def test_sky_coordinates_of_astropy(tmp_path, frame, kind):
    """In memory, from files that keep them, and from the columns that astropy makes of them elsewhere."""
    source = table_with(where=SKY.transform_to(frame) if kind in (None, "ascii.ecsv") else SKY)
    if kind is not None:
        source.write(tmp_path / "table", format=kind)
        source = tmp_path / "table"
    catalogue = read(source)
    assert "'where.ra' and 'where.dec'" in placed(catalogue)
    if frame != "icrs" and kind in (None, "ascii.ecsv"):
        assert f"a SkyCoord ({frame}): read as where.ra and where.dec, converted to ICRS" in placed(catalogue)


def test_a_frame_that_cannot_be_converted_is_told():
    from astropy.coordinates import AltAz

    catalogue = read(table_with(where=SkyCoord(az=RA, alt=DEC, unit="deg", frame=AltAz)))
    assert catalogue.ra is None and "'where' is a SkyCoord (altaz) and not used" in " ".join(catalogue.notes)
