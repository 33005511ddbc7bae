import numpy as np
import pytest
from astropy.nddata import Cutout2D
from astropy.nddata.utils import NoOverlapError
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.imaging.cost import Box
from survey_scan.imaging.windows import copy_windows, count_bad, cut_windows, off_image, place, undefined

SHAPE = (37, 29)
IMAGE = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
BAD = np.random.default_rng(1).random(SHAPE) < 0.2

position = st.floats(-30, 70) | st.integers(-20, 60).map(float) | st.integers(-40, 120).map(lambda i: i / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(position, position), min_size=1, max_size=20), st.integers(1, 45))
def test_windows_are_cutout2d(positions, size):
    """Origin, pixels, and NaN off the image, at any position of even and odd sizes, larger than the image too."""
    x, y = np.array(positions).T
    windows = place(x, y, size, SHAPE)
    out = np.zeros((len(x), size, size, 2), np.float32)
    on = np.flatnonzero(windows.overlaps)
    box = Box(0, SHAPE[0], 0, SHAPE[1], 0, len(on))
    copy_windows(IMAGE, box, windows, on, out[..., 1], on)
    bad = count_bad(BAD, box, windows, on, size)
    for i in range(len(x)):
        try:
            expected = Cutout2D(IMAGE, (x[i], y[i]), size, mode="partial", fill_value=np.nan)
        except NoOverlapError:
            assert not windows.overlaps[i]
            continue
        assert windows.overlaps[i]
        assert windows.inside[i] == (not np.isnan(expected.data).any())
        np.testing.assert_array_equal(out[i, :, :, 1], expected.data)
        flags = Cutout2D(BAD.astype(float), (x[i], y[i]), size, mode="partial", fill_value=1.0).data
        assert bad[np.flatnonzero(on == i)[0]] == flags.sum()
    assert not out[..., 0].any()


@settings(deadline=None)
@given(
    st.lists(st.tuples(position, position), min_size=1, max_size=80),
    st.integers(1, 45),
    st.sampled_from([">f4", "<f8", ">i2", "u1"]),
    st.sampled_from([None, 0.0]),
)
def test_windows_of_a_whole_image(positions, size, dtype, nodata):
    """Pixels of any type, and their bad ones, are those of a box that holds all windows."""
    image = np.where(BAD, 0, IMAGE * 9)
    if dtype.endswith(("f4", "f8")):
        image[3, 4:9] = np.nan, np.inf, -np.inf, np.nan, 0
    image = image.astype(dtype) if dtype != "u1" else np.abs(image).astype(dtype)
    windows = place(*np.array(positions).T, size, SHAPE)
    on = np.flatnonzero(windows.overlaps)
    out, expected = (np.zeros((len(positions), size, size, 2), np.float32) for _ in range(2))
    counts = cut_windows(image, windows, on, out[..., 1], on, nodata)
    box, pixels = Box(0, SHAPE[0], 0, SHAPE[1], 0, len(on)), image.astype(np.float32)
    copy_windows(pixels, box, windows, on, expected[..., 1], on)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(counts, count_bad(undefined(pixels, nodata), box, windows, on, size))
    inside = np.isnan(cut_off(windows, on, size)).sum(axis=(1, 2))
    np.testing.assert_array_equal(off_image(windows.y0[on], windows.x0[on], size, SHAPE), inside)


def cut_off(windows, on, size):
    """Windows of an image of zeros: NaN where they are off it."""
    out = np.zeros((len(windows.x0), size, size), np.float32)
    copy_windows(np.zeros(SHAPE, np.float32), Box(0, SHAPE[0], 0, SHAPE[1], 0, len(on)), windows, on, out, on)
    return out[on]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e9])
def test_positions_that_are_no_place(value):
    windows = place(np.array([value, 5.0, 5.0]), np.array([5.0, value, 5.0]), 8, SHAPE)
    np.testing.assert_array_equal(windows.overlaps, [False, False, True])
    assert not windows.inside[:2].any()


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 16), st.integers(0, 12), st.integers(1, 16), st.integers(1, 9))
def test_a_box_serves_the_windows_it_holds(y0, height, x0, width, size):
    box = Box(y0, min(y0 + height, SHAPE[0]), x0, min(x0 + width, SHAPE[1]), 0, 1)
    y, x = (grid.ravel() for grid in np.mgrid[-3:40, -3:32].astype(float))
    windows = place(x, y, size, SHAPE)
    low_y, high_y = np.maximum(windows.y0, 0), np.minimum(windows.y0 + size, SHAPE[0])
    low_x, high_x = np.maximum(windows.x0, 0), np.minimum(windows.x0 + size, SHAPE[1])
    held = (low_y >= box.y0) & (high_y <= box.y1) & (low_x >= box.x0) & (high_x <= box.x1) & windows.overlaps
    chosen = np.flatnonzero(held)
    whole = Box(0, SHAPE[0], 0, SHAPE[1], 0, len(y))
    found, expected = np.zeros((2, len(y), size, size), np.float32)
    part = np.s_[box.y0 : box.y1, box.x0 : box.x1]
    copy_windows(IMAGE[part], box, windows, chosen, found, chosen)
    copy_windows(IMAGE, whole, windows, chosen, expected, chosen)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        count_bad(BAD[part], box, windows, chosen, size), count_bad(BAD, whole, windows, chosen, size)
    )


def test_counts_are_right_where_their_running_sums_wrap_around():
    """Sums down a column of 70,000 bad pixels do not fit 16 bits; their differences do."""
    bad = np.ones((70_000, 3), np.bool_)
    windows = place(np.array([1.0]), np.array([69_000.0]), 400, bad.shape)
    box = Box(0, 70_000, 0, 3, 0, 1)
    assert count_bad(bad, box, windows, np.array([0]), 400)[0] == 400 * 400


@pytest.mark.parametrize(
    ("blank", "bad"),
    [(0.0, [True, False, True, True]), (None, [False, False, True, True]), (5.0, [False, True, True, True])],
)
def test_undefined_pixels(blank, bad):
    pixels = np.tile(np.array([0.0, 5.0, np.nan, -np.inf], np.float32), (150, 2))
    np.testing.assert_array_equal(undefined(pixels, blank), np.tile(bad, (150, 2)))
