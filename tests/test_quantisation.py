import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from survey_scan.store.quantisation import NAN_INT16, noise, quantise, restore

rng = np.random.default_rng(0)


def check(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half a step at most; NaN stays; nothing clips."""
    steps, step = quantise(pixels)
    found = restore(steps, step)
    finite = np.isfinite(pixels)
    np.testing.assert_array_equal(np.isnan(found), ~finite)
    np.testing.assert_array_equal(steps == NAN_INT16, ~finite)
    assert np.isfinite(step).all() and (step > 0).all()
    error = np.abs(found.astype(float) - pixels.astype(float))
    bound = np.broadcast_to(step[:, None, None, :].astype(float), pixels.shape)
    assert (error <= 0.5 * bound * (1 + 1e-3) + np.abs(pixels) * 2e-7)[finite].all()
    return steps, step


def test_noise_is_the_standard_deviation():
    sigma = np.array([0.01, 1.0, 300.0])
    pixels = (rng.standard_normal((200, 64, 64, 3)) * sigma + 7).astype(np.float32)
    pixels[:, 20:40, 20:40] += 1e4  # an object in the middle
    np.testing.assert_allclose(noise(pixels).mean(axis=0), sigma, rtol=0.02)
    assert (noise(pixels).std(axis=0) < 0.1 * sigma).all()


def test_error_is_a_thirty_second_of_the_noise_at_most():
    pixels = rng.standard_normal((50, 64, 64, 2)).astype(np.float32) * 5
    steps, step = check(pixels)
    assert np.abs(restore(steps, step) - pixels).max() < 5 / 32 * 1.3
    assert (restore(steps, step) - pixels).std() == pytest.approx(5 / 16 / np.sqrt(12), rel=0.05)


def test_a_star_is_never_clipped():
    pixels = rng.standard_normal((4, 64, 64, 2)).astype(np.float32)
    pixels[0, 30, 30, 0] = 1e6
    pixels[1, 30, 30, 1] = -1e6
    steps, step = check(pixels)
    assert steps[0, 30, 30, 0] == 32767 and steps[1, 30, 30, 1] == -32767
    assert step[0, 0] == pytest.approx(1e6 / 32767) and step[0, 1] < 0.1


def test_zero_stays_zero():
    pixels = rng.standard_normal((2, 16, 16, 1)).astype(np.float32)
    pixels[0, :8] = 0
    steps, _ = check(pixels)
    assert (steps[0, :8] == 0).all()


@pytest.mark.parametrize("value", [0.0, np.nan, 3.0, -1e-30, 1e30, np.inf])
def test_constant_cutouts(value):
    check(np.full((2, 8, 8, 2), value, np.float32))


def test_a_missing_pixel_beside_enormous_ones():
    pixels = np.full((1, 4, 4, 1), np.nan, np.float32)
    pixels[0, 3, :2, 0] = 1.6e35, 0
    check(pixels)


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        (2, 4, 4, 2),
        elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
    )
)
def test_any_pixels(pixels):
    check(pixels)
