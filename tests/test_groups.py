"""Duplicates: friends-of-friends against the plain definition, at the poles and where right ascension begins again."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.ranking.groups import duplicates, friends


def table(ra, dec, ids=None):
    return pd.DataFrame({"object_id": np.arange(100, 100 + len(ra)) if ids is None else ids, "ra": ra, "dec": dec})


def separation(ra, dec):
    """All pairs, arcseconds, by the haversine: another formula than the program's."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    h = np.sin((d[:, None] - d) / 2) ** 2 + np.cos(d[:, None]) * np.cos(d) * np.sin((a[:, None] - a) / 2) ** 2
    return np.rad2deg(2 * np.arcsin(np.sqrt(h))) * 3600


def plainly(ra, dec, length):
    """Reachability by squaring the matrix of friends."""
    reach = separation(ra, dec) <= length
    for _ in range(8):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return reach


@settings(max_examples=60, deadline=None)
@given(
    centre=st.sampled_from([(0.0, 0.0), (359.9999, 45.0), (120.0, 89.9999), (240.0, -89.99995), (10.0, -44.0)]),
    offsets=st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=1, max_size=25),
    length=st.floats(0.3, 4),
)
def test_groups_are_what_the_plain_definition_says(centre, offsets, length):
    # offsets in arcseconds on the tangent plane, so that clumps straddle the pole and ra = 0
    from astropy.coordinates import SkyCoord

    at = SkyCoord(*centre, unit="deg")
    x, y = np.array(offsets).T
    moved = at.spherical_offsets_by(x * _ARCSEC(), y * _ARCSEC())
    ra, dec = moved.ra.deg, moved.dec.deg
    apart = separation(ra, dec)
    if (abs(apart - length) < 1e-5).any():  # exactly on the edge, rounding decides
        return
    label = friends(ra, dec, length)
    assert ((label[:, None] == label) == plainly(ra, dec, length)).all()


def _ARCSEC():
    from astropy import units

    return units.arcsec


def test_the_best_leads_and_every_row_stays():
    ra = np.array([10.0, 50.0, 10.0003, 50.0, 200.0])
    found = duplicates(table(ra, np.zeros(5)))
    assert found["group"].tolist() == [1, 2, 1, 2, 3]
    assert found["n_group"].tolist() == [2, 2, 2, 2, 1]
    assert found["leader"].tolist() == [True, True, False, False, True]
    assert found["duplicate_of"].tolist() == ["", "", "100", "101", ""]


def test_friends_of_friends_belong_together_though_far_apart():
    ra = np.arange(5) * 1.9 / 3600
    assert duplicates(table(ra, np.zeros(5)))["group"].tolist() == [1] * 5
    assert duplicates(table(ra, np.zeros(5)), 1.8)["group"].tolist() == [1, 2, 3, 4, 5]


def test_right_ascension_wraps_and_poles_have_no_seam():
    assert friends([359.9999, 0.0001, 720.0002], [0, 0, 0], 1.0).tolist() == [0, 0, 0]
    assert len(set(friends([0, 90, 180, 270], [89.9999] * 4, 0.6))) == 1
    assert len(set(friends([0, 180], [90, -90], 5))) == 2


def test_long_identifiers_and_texts_stay_exact_and_the_index_is_kept():
    ids = [2**63 - 1, 2**63 - 2]
    given = table([1, 1], [2, 2], np.array(ids)).set_index(pd.Index([7, 3]))
    found = duplicates(given)
    assert found.index.tolist() == [7, 3] and found["duplicate_of"].tolist() == ["", str(ids[0])]
    assert duplicates(table([1, 1], [2, 2], ["a b", "c"]))["duplicate_of"].tolist() == ["", "a b"]


def test_no_rows_one_row_and_no_position():
    assert len(duplicates(table(np.empty(0), np.empty(0)))) == 0
    assert duplicates(table([1.0], [1.0]))["group"].tolist() == [1]
    found = duplicates(table([np.nan, 1.0, np.nan], [0.0, np.nan, 1.0]))
    assert found["group"].tolist() == [1, 2, 3] and found["leader"].all()


def test_thousands_at_one_place_take_no_memory_of_pairs():
    found = duplicates(table(np.full(50_000, 30.0), np.full(50_000, -44.0)))
    assert found["n_group"].iloc[0] == 50_000 and found["leader"].sum() == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float64"])
def test_other_kinds_of_columns(dtype):
    given = table(pd.Series([10.0, 10.0], dtype=dtype), pd.Series([5.0, 5.0], dtype=dtype))
    assert duplicates(given)["group"].tolist() == [1, 1]
