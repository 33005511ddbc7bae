from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.imaging import cost
from survey_scan.imaging.cost import Layout

DES = Layout("RICE_1", (10_000, 10_000), (1, 10_000))
BRICK = Layout("RICE_1", (3_600, 3_600), (100, 100))
OWN_DES, OWN_BRICK = (replace(layout, codec=cost.OWN_RICE) for layout in (DES, BRICK))


def windows(layout: Layout, n: int, size: int = 64, seed: int = 0):
    rng = np.random.default_rng(seed)
    y0 = np.sort(rng.integers(0, layout.shape[0] - size, n))
    x0 = rng.integers(0, layout.shape[1] - size, n)
    return y0, y0 + size, x0, x0 + size


@pytest.mark.parametrize(
    ("layout", "n", "mode"),
    [
        (OWN_BRICK, 5, "sections"),
        (OWN_BRICK, 4000, "whole"),
        (OWN_DES, 5, "sections"),
        (OWN_DES, 4000, "rows"),
        (BRICK, 5, "sections"),
        (BRICK, 50, "sections"),
        (BRICK, 4000, "whole"),
        (DES, 4000, "rows"),
        (DES, 300, "rows"),
    ],
)
def test_choices_measured_to_be_right(layout, n, mode):
    """See benchmarks/cutouts.py for the measurements."""
    assert cost.choose(layout, *windows(layout, n))[0] == mode


def test_the_compression_layout_decides_not_the_size():
    row_tiled = Layout("RICE_1", (3_600, 3_600), (1, 3_600))
    assert cost.choose(row_tiled, *windows(row_tiled, 100))[0] != "sections"
    assert cost.choose(BRICK, *windows(BRICK, 100))[0] == "sections"


def test_what_is_read_beside_an_image_counts():
    """Sections of a brick are cheap, but not if a mask of row tiles is read by the same boxes."""
    mask = Layout("GZIP_2", BRICK.shape, (1, BRICK.shape[1]))
    assert cost.choose(BRICK, *windows(BRICK, 100))[0] == "sections"
    assert cost.choose(BRICK, *windows(BRICK, 100), mask)[0] == "rows"


def test_gzip_is_read_whole():
    layout = Layout("gzip", (50_000, 50_000), (1, 50_000))
    assert cost.choose(layout, *windows(layout, 1)) == ("whole", [cost.Box(0, 50_000, 0, 50_000, 0, 1)])


def test_an_image_too_large_for_a_strip_is_not_read_whole():
    assert DES.image_bytes > cost.STRIP_BYTES
    assert cost.allowed(DES) == ("rows", "sections")


def test_an_unknown_codec_has_a_price():
    layout = Layout("NEW_1", (3_600, 3_600), (100, 100))
    assert cost.choose(layout, *windows(layout, 1))[0] == "sections"


layouts = st.builds(
    lambda codec, height, width, rows, columns: Layout(codec, (height, width), (rows, columns)),
    st.sampled_from(["none", "RICE_1", "HCOMPRESS_1"]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 120),
    st.integers(1, 300),
)


@settings(deadline=None)
@given(st.data(), layouts, st.integers(1, 60), st.sampled_from([10**3, 10**4, 10**8]))
def test_every_window_lies_in_the_box_that_names_it(data, layout, size, strip):
    height, width = layout.shape
    n = data.draw(st.integers(1, 30))
    low_y = data.draw(st.lists(st.integers(1 - size, height - 1), min_size=n, max_size=n))
    low_x = np.array(data.draw(st.lists(st.integers(1 - size, width - 1), min_size=n, max_size=n)))
    low_y = np.sort(np.array(low_y))
    y0, y1 = np.maximum(low_y, 0), np.minimum(low_y + size, height)
    x0, x1 = np.maximum(low_x, 0), np.minimum(low_x + size, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "STRIP_BYTES", strip)
        limit = cost.strip_bytes(layout, size)
        for mode in cost.allowed(layout):
            boxes = [cost.Box(*box) for box in cost.boxes(mode, layout, y0, y1, x0, x1).tolist()]
            assert [i for box in boxes for i in range(box.first, box.last)] == list(range(n))
            for box in boxes:
                assert 0 <= box.y0 < box.y1 <= height and 0 <= box.x0 < box.x1 <= width
                assert 4 * (box.y1 - box.y0) * (box.x1 - box.x0) <= limit
                for i in range(box.first, box.last):
                    assert box.y0 <= y0[i] and y1[i] <= box.y1 and box.x0 <= x0[i] and x1[i] <= box.x1
        assert cost.choose(layout, y0, y1, x0, x1)[0] in cost.allowed(layout)


def test_work_counts_whole_compression_tiles():
    calls = np.array([[99, 101, 0, 1], [0, 100, 0, 3600]])
    assert cost.work(BRICK, calls) == (2, 2 + 36, (2 + 36) * 10_000)
    assert cost.work(Layout("none", (3_600, 3_600), (1, 3_600)), calls) == (2, 0, 2 + 360_000)
