"""Rows of a second table found in a catalogue: by ids of any writing, by position, and what is refused."""

import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError


def catalogue(ids, **columns):
    n = len(ids)
    columns = {"luminosity": np.ones(n), "redshift": np.full(n, 0.3), "sigma_ln_luminosity": 0.05} | columns
    return mm.HaloCatalogue.from_arrays(ids=ids, **columns)


def on_sky(**columns):
    return catalogue(list("abc"), **({"ra": [359.99, 11.0, 12.0], "dec": [0.0, 60.0, 2.0]} | columns))


@pytest.mark.parametrize(
    ("own", "other", "rows"),
    [
        (["A1", "A2", "A3"], [" a1", "A 3", "B"], [0, 2, -1]),
        (["A1", "A2", "A3"], np.array([b"A3  ", b"A1"]), [2, 0]),
        ([12, 13, 14], ["12", "013", "14.0"], [0, 1, 2]),
        ([12, 13, 14], [14.0, np.nan, 12.0], [2, -1, 0]),
        (["12", "13", "14"], np.ma.masked_array([13, 12], [False, True]), [1, -1]),
        (["007", "7", "8"], ["7", "007", "07"], [1, 0, -1]),  # text: leading zeros belong to it
        (["A1", "a1", "b"], ["a1", "A1", "B"], [1, 0, 2]),  # letter case tells two apart, and no more
        (["x", "--", ""], ["--", "x", "nan"], [-1, 0, -1]),  # blanks are no ids
        ([2**53 + 1, 2**53], [str(2**53 + 1)], [0]),
        # names of one cluster in two tables
        (["Abell0068", "Abell0115N", "AS1101"], ["A68", "ACO 115N", "Abell S1101"], [0, 1, 2]),
        (
            ["RXC-J0142.0+2131", "SPT-CL J0000-5748"],
            ["RXCJ142.0+2131", "RXC J0142.0+2131", "SPT-CLJ0000-5748"],
            [-1, 0, 1],
        ),
        (["g01", "g1", "A7"], ["G1", "G01", "Abell 07"], [1, 0, 2]),  # zeros tell two apart, and no more
        (["12-3", "1-23", "3C 295"], ["1-23", "3C295", "123"], [1, 2, -1]),
    ],
)
def test_ids(own, other, rows):
    matches = mm.match_to_catalogue(catalogue(own, duplicate_ids="row_number"), ids=other)
    assert matches.rows.tolist() == rows


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [
        (["A1", "A1", "A2"], ["A1"], "'A1' is in row 0 of the measured objects and rows 0, 1 of the catalogue"),
        (["A1", "A2"], ["A2", "a2"], "'A2' is in rows 0, 1 of the measured objects and row 1 of the catalogue"),
        (["A1", "a1"], ["A 1"], "rows 0, 1 of the catalogue"),
        (["A68", "A2"], ["Abell 68", "ACO 0068"], "'Abell 68' is in rows 0, 1 of the measured objects and row 0"),
        (["g1", "g01"], ["g001"], "rows 0, 1 of the catalogue"),
        (["A1", "A2"], ["B1", "B2"], "they are like 'B1', 'B2', and like 'A1', 'A2' there"),
        ([1, 2], [1e17, 2.0], "too large to be exact"),
        (["A1"], [], "no rows"),
    ],
)
def test_ids_that_are_refused(own, other, words):
    with pytest.raises(MassmapError, match=words):
        mm.match_to_catalogue(catalogue(own, duplicate_ids="row_number"), ids=other)


def test_repeated_ids_of_other_objects_do_no_harm():
    matches = mm.match_to_catalogue(catalogue(["A", "B", "B"], duplicate_ids="row_number"), ids=["Q", "A", "Q"])
    assert matches.rows.tolist() == [-1, 0, -1]
    assert "WARNING, few matches: only 1 of 3" in matches.notes[0]


def test_positions_across_zero_hours_and_far_north():
    """Separations are great circles: 0.02 degrees of RA are 1.2 arcmin at the equator, and half of that at 60 degrees."""
    found = mm.match_to_catalogue(on_sky(), ra=[0.005, 11.02], dec=[0.0, 60.0], names=["x", "y"])
    assert found.rows.tolist() == [0, 1]
    assert found.separation == pytest.approx([0.9, 0.6], abs=1e-3)
    assert "within 1 arcmin (median 0.75, largest 0.9)" in found.notes[0]
    assert found.spread([5.0, 6.0]).tolist()[:2] == [5.0, 6.0] and np.isnan(found.spread(1.0)[2])


def test_a_redshift_decides_between_two():
    two = on_sky(ra=[10.0, 10.005, 50.0], dec=[0.0, 0.0, 0.0], redshift=[0.3, 0.5, 0.4])
    with pytest.raises(MassmapError, match=r"'s' could be row 0 of the catalogue at 0\.06 arcmin or row 1"):
        mm.match_to_catalogue(two, ra=[10.001], dec=[0.0], names=["s"])
    far = mm.match_to_catalogue(two, ra=[10.001], dec=[0.0], redshift=[0.51])
    assert far.rows.tolist() == [1]  # the nearer one is at another redshift
    with pytest.raises(MassmapError, match="ambiguous"):  # -99 is no redshift
        mm.match_to_catalogue(two, ra=[10.001], dec=[0.0], redshift=[-99])
    with pytest.raises(MassmapError, match="row 0 of the catalogue could be measured object row 0 at 0 arcmin or"):
        mm.match_to_catalogue(on_sky(), ra=[359.99, 359.992], dec=[0.0, 0.0])


def test_rows_without_a_mass_take_no_part():
    apart = {"ra": [359.99, 359.992, 80.0], "dec": [0.0, 0.0, 0.0]}
    found = mm.match_to_catalogue(on_sky(), **apart, use=[True, False, True])
    assert found.rows.tolist() == [0, -1, -1]
    assert "1 of 2 measured objects" in found.notes[0] and "row 2" in found.notes[0]
    again = mm.match_to_catalogue(on_sky(), ids=["a", "A", "b"], use=[True, False, True])
    assert again.rows.tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ra": [11.0], "dec": [60.1]}, "the nearest pair, row 0 and row 1, is 6 arcmin apart"),
        ({"ra": [11.0], "dec": [60.0], "redshift": [0.6]}, r"the least 0.231 \(row 0, row 1 of the catalogue\)"),
        ({"ra": [np.nan], "dec": [60.0]}, "have no positions"),
        ({"ra": [11.0]}, "go together"),
        ({"redshift": [0.3]}, "give one of them"),
        ({"ra": [11.0], "dec": [60.0], "separation_arcmin": 0.0}, "separation_arcmin is 0"),
        ({"ra": [11.0], "dec": [60.0], "use": [True, True]}, "use has shape"),
    ],
)
def test_positions_that_are_refused(given, words):
    with pytest.raises(MassmapError, match=words):
        mm.match_to_catalogue(on_sky(), **given)


def test_a_catalogue_without_a_sky():
    flat = on_sky(position_unit="arcmin")
    for one in (catalogue(["a"]), flat):
        with pytest.raises(MassmapError, match="the catalogue has no positions on the sky"):
            mm.match_to_catalogue(one, ra=[11.0], dec=[60.0])


def test_ids_of_other_objects_are_seen_by_their_positions():
    """Row numbers of two tables agree by chance: positions and redshifts tell."""
    moved = {"ra": [12.0, 359.99, 11.0], "dec": [2.0, 0.0, 60.0]}
    with pytest.raises(MassmapError, match="more than 10 arcmin apart on the sky in 3 of 3 cases"):
        mm.match_to_catalogue(on_sky(), ids=list("abc"), **moved)
    with pytest.raises(MassmapError, match="apart in redshift"):
        mm.match_to_catalogue(on_sky(), ids=list("abc"), redshift=[0.9, 0.8, 0.3])
    one = mm.match_to_catalogue(on_sky(), ids=list("abc"), ra=[359.99, 11.0, 12.5], dec=[0.0, 60.0, 2.0])
    assert one.rows.tolist() == [0, 1, 2]
    assert any("in 1 of 3 cases, the first 'c' by 30 arcmin" in note for note in one.notes)


def test_against_a_search_of_all_pairs():
    rng = np.random.default_rng(4)
    ra, z = rng.uniform(0, 360, 400), rng.uniform(0.1, 0.9, 400)
    dec = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 400)))
    pick = rng.permutation(400)[:60]
    shift = rng.normal(0, 0.01, (2, 60))
    other_ra, other_dec = ra[pick] + shift[0] / np.cos(np.deg2rad(dec[pick])), np.clip(dec[pick] + shift[1], -90, 90)
    own = catalogue(np.arange(400), ra=ra, dec=dec, redshift=z)
    found = mm.match_to_catalogue(own, ra=other_ra, dec=other_dec, redshift=z[pick], separation_arcmin=1.0)

    def vectors(ra, dec):
        ra, dec = np.deg2rad(ra), np.deg2rad(dec)
        return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])

    chord = np.linalg.norm(vectors(other_ra, other_dec)[:, :, None] - vectors(ra, dec)[:, None, :], axis=0)
    apart = np.rad2deg(2 * np.arcsin(chord / 2)) * 60
    near = apart <= 1.0
    wanted = np.where(near.any(axis=1), near.argmax(axis=1), -1)
    np.testing.assert_array_equal(found.rows, wanted)
    assert 40 < (wanted >= 0).sum() < 60
    np.testing.assert_allclose(found.separation[wanted >= 0], apart[near], rtol=1e-6)
