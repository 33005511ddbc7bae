"""Painted components hold the flux they were given, and stand where they were put."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan.demo.pixels import MARGIN, blur, moffat
from survey_scan.demo.profiles import Component, extent, paint, stamp


@given(
    x=st.floats(90.0, 110.0),
    y=st.floats(90.0, 110.0),
    radius=st.floats(1.5, 8.0),
    axis_ratio=st.floats(0.3, 1.0),
    angle=st.floats(0.0, 3.1),
    index=st.sampled_from([1.0, 2.0]),
)
def test_a_stamp_holds_its_flux_at_its_place(x, y, radius, axis_ratio, angle, index):
    component = Component(x, y, (1.0, 1.0, 1.0), radius, index, axis_ratio, angle)
    x0, y0, image = stamp(component, 100)
    assert image.sum() == pytest.approx(1.0, abs=0.05)
    columns, rows = np.arange(201) + x0, np.arange(201) + y0
    assert (image.sum(axis=0) @ columns) / image.sum() == pytest.approx(x, abs=0.1)
    assert (image.sum(axis=1) @ rows) / image.sum() == pytest.approx(y, abs=0.1)


def test_half_of_the_light_lies_within_the_half_light_radius():
    component = Component(100.0, 100.0, (1.0, 1.0, 1.0), 10.0, 4.0)
    _, _, image = stamp(component, 160)
    steps = np.arange(-160, 161)
    within = np.hypot(steps[:, None], steps[None, :]) < 10.0
    assert image[within].sum() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [{"arms": 0.9, "phase": 1.0}, {"ring": 1.5}])
def test_arms_and_rings_keep_the_flux(shape):
    component = Component(50.3, 49.8, (100.0, 100.0, 100.0), 6.0, **shape)
    _, _, image = stamp(component, extent(component, (1.0, 1.0, 1.0)))
    assert image.sum() == pytest.approx(1.0, rel=1e-4)


def test_a_fainter_component_has_a_smaller_stamp():
    bright = Component(0.0, 0.0, (1e4, 1e4, 1e4), 3.0)
    faint = Component(0.0, 0.0, (1e2, 1e2, 1e2), 3.0)
    assert extent(faint, (2.0, 2.0, 2.0)) < extent(bright, (2.0, 2.0, 2.0))


def test_paint_clips_at_the_border_and_adds_every_band():
    canvas = np.zeros((2, 5, 5), np.float32)
    paint(canvas, -1, 3, np.ones((3, 3), np.float32), (2.0, 7.0))
    expected = np.zeros((5, 5))
    expected[3:, :2] = 1.0
    np.testing.assert_array_equal(canvas, np.stack([2.0 * expected, 7.0 * expected]))
    paint(canvas, 9, 9, np.ones((3, 3), np.float32), (2.0, 7.0))
    assert canvas.sum() == 9.0 * 4.0


def test_blur_keeps_place_and_flux():
    sky = np.zeros((60 + 2 * MARGIN, 70 + 2 * MARGIN), np.float32)
    sky[MARGIN + 30, MARGIN + 40] = 1000.0
    blurred = blur(sky, 3.6)
    assert blurred.shape == (60, 70)
    assert np.unravel_index(np.argmax(blurred), blurred.shape) == (30, 40)
    np.testing.assert_allclose(blurred[20:41, 30:51], 1000.0 * moffat(3.6, MARGIN)[20:41, 20:41], atol=1e-3)


def test_moffat_has_the_width_it_was_asked_for():
    profile = moffat(4.0, MARGIN)
    assert profile.sum() == pytest.approx(1.0, rel=1e-5)
    assert profile[MARGIN, MARGIN + 2] == pytest.approx(0.5 * profile[MARGIN, MARGIN], rel=1e-5)
