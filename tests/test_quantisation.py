from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from survey_scan import c_library
from survey_scan.store import quantisation
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


PART = "survey_scan/store/_quantise.c is not built, so numpy quantises all pixels; `pip install -e .` builds it"


def both_ways(pixels: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """By the part in C, and by numpy."""
    if c_library.find("survey_scan.store._quantise", "quantise_1") is None:
        pytest.skip(PART)
    with mock.patch.object(quantisation, "_in_c", lambda *_: False):
        by_numpy = quantise(pixels)
    return quantise(pixels), by_numpy


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 3), st.just(7), st.just(7), st.integers(1, 4)),
        elements=st.floats(width=32),
    )
)
@settings(deadline=None, max_examples=300)
def test_the_part_in_c_gives_the_bits_of_numpy(pixels):
    for found, expected in zip(*both_ways(pixels), strict=True):
        np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), expected.view(f"u{expected.itemsize}"))


@pytest.mark.parametrize("size", [2, 5, 64, 101])
def test_the_part_in_c_rounds_halves_as_numpy_does(size):
    pixels = rng.integers(-(2**16), 2**16, (5, size, size, 3)).astype(np.float32) / 2
    pixels[0, 0, 0] = 32767  # steps of 1, and all halves between them
    pixels[1:3] *= np.float32(1e-3)
    pixels[2, size // 2, size // 2] = np.nan, np.inf, 1e6
    for found, expected in zip(*both_ways(pixels), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_pixels_that_the_part_in_c_does_not_take_are_quantised_by_numpy():
    pixels = rng.standard_normal((4, 8, 16, 3)).astype(np.float32)[:, :, ::2]
    for found, expected in zip(quantise(pixels), quantise(np.ascontiguousarray(pixels)), strict=True):
        np.testing.assert_array_equal(found, expected)
