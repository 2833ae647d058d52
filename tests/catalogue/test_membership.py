"""What is known of centrals and satellites: odds from probabilities and flags, and groups; what is refused."""

import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax.errors import MassmapError


def odds(membership):
    return membership.central / membership.satellite


def test_probabilities_become_odds():
    given = mm.Membership.from_probability([0.9, 0.5, 0.2])
    np.testing.assert_allclose(odds(given), [9, 1, 0.25])
    # A probability that took a share of 0.8 for granted: 0.8 says nothing new.
    np.testing.assert_allclose(odds(mm.Membership.from_probability([0.8, 0.9], central_fraction=0.8)), [1, 2.25])


def test_flags_become_odds():
    np.testing.assert_allclose(odds(mm.Membership.from_flags([True, False], purity=0.85)), [0.85 / 0.15, 0.15 / 0.85])
    np.testing.assert_allclose(odds(mm.Membership.from_flags([1.0, 0.0], purity=0.5)), 1)
    assert not mm.Membership.from_flags([1.0, np.nan], purity=0.9).known[1]


def test_groups_by_any_id():
    for ids in (["b", "a", "b"], [7, 3, 7], np.array(["b", "a", "b"], dtype=object)):
        given = mm.Membership.from_groups(ids, np.array([True, True, False]))
        assert given.group is not None and given.group.tolist() == [1, 0, 1] and given.central.tolist() == [1, 1, 0]
    part = given.subset([0, 2])
    assert part.group is not None and part.group.tolist() == [0, 0]
    with pytest.raises(MassmapError, match="1 galaxies would be left out of groups"):
        given.subset([0, 1])


@pytest.mark.parametrize("none", [0, -1, -999])
@pytest.mark.parametrize("flag", [1, 0, np.nan])
def test_a_number_that_means_no_group(none, flag):
    """GAMA, Tempel and Yang give galaxies outside of groups the number 0, others -1: each is a central alone."""
    known = mm.Membership.from_groups([none, 12, none, 12, none], [flag, 1, flag, 0, flag])
    assert known.group[[1, 3]].tolist() == [known.group[1]] * 2
    assert np.unique(known.group).size == 4 and set(known.group) == {0, 1, 2, 3}
    assert known.central.tolist() == [1, 1, 1, 0, 1]
    assert "4 groups of 5 galaxies, 3 of which are in no group" in known.told


def test_a_group_of_number_0_is_one_where_it_has_a_central():
    """Simulations count from 0: the most massive group has that number."""
    known = mm.Membership.from_groups([0, 0, 0, 1, 1], [1, 0, 0, 1, 0])
    assert known.group.tolist() == [0, 0, 0, 1, 1] and known.central.tolist() == [1, 0, 0, 1, 0]
    words = mm.Membership.from_groups(["0", "0", "A1", "A1"], [1, 0, 1, 0])
    assert words.group.tolist() == [0, 0, 1, 1]


def test_missing_and_impossible_probabilities_are_marked():
    given = mm.Membership.from_probability([0.9, np.nan, -0.1, 1.2])
    assert given.known.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: mm.Membership.from_probability([90.0, 20.0]), "not between 0 and 1 in 2 rows, first row 0 .* 90"),
        (lambda: mm.Membership.from_probability([0.9], central_fraction=1.0), "central_fraction is 1.0"),
        (lambda: mm.Membership.from_flags([1, 0], purity=85), "purity is 85"),
        (lambda: mm.Membership.from_flags([1, 0], purity=0.3), "purity is 0.3"),
        (lambda: mm.Membership.from_flags([1, 2], purity=0.9), "neither 0 nor 1 in 1 row, first row 1 with value 2"),
        (lambda: mm.Membership.from_groups([1, 1, 2], [1, 0, 0]), "1 of 2 groups have no central, first group 2"),
        (lambda: mm.Membership.from_groups([1, 1, 2], [1, 1, 1]), "1 of 2 groups have more than one central"),
        (lambda: mm.Membership.from_groups(["a", "", "a"], [1, 1, 0]), "group id is missing in 1 row, first row 1"),
        (lambda: mm.Membership.from_groups([1, 2], [1, np.nan]), "is_central is missing in 1 row, first row 1"),
        (lambda: mm.Membership.from_groups([1, 2, 3], [1, 1]), "rows|length|shape"),
    ],
)
def test_what_cannot_be_is_refused(make, told):
    with pytest.raises(MassmapError, match=told):
        make()
