"""Bins of logits: what their counts say of the highest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan.watch import bins

LOGITS = st.lists(
    st.floats(-25, 25, width=32) | st.sampled_from([-20.0, 0.0, 0.5, 19.5, 20.0, -30.0, 99.0]), max_size=30
)


@given(parts=st.lists(LOGITS, max_size=5), n=st.integers(1, 40))
def test_none_of_the_highest_is_below_what_counts_say(parts, n):
    every = np.sort(np.array([x for part in parts for x in part], np.float32))[::-1]
    arrays = [np.array(part, np.float32) for part in parts]
    lowest = bins.lowest_of_highest(map(bins.count, arrays), n)
    assert all(x >= lowest for x in every[:n])
    if len(every) < n:
        assert lowest == -np.inf
    elif np.isfinite(lowest):
        assert lowest == bins.EDGES[-2] or (lowest in bins.EDGES and every[n - 1] < lowest + 0.5)
    for part in arrays:
        assert bins.reach(bins.count(part), lowest) == bool((part >= lowest).any())


@pytest.mark.parametrize(("n", "lowest"), [(1, 3.0), (2, 3.0), (3, -1.0), (4, -np.inf), (5, -np.inf)])
def test_the_edge_of_the_bin_that_holds_the_lowest_of_the_highest(n, lowest):
    counts = bins.count(np.array([3.2, 3.0, -0.6, -50.0, np.nan]))
    assert bins.lowest_of_highest([counts, {}], n) == lowest
