from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve2d

from survey_scan.errors import ImageError
from survey_scan.simulation import images, spectra
from survey_scan.simulation.conditions import Conditions, frame_of
from survey_scan.simulation.config import Band, Survey
from survey_scan.simulation.light import Blur, Component, Frame, moffat, paint, sersic, sersic_keywords

FRAME = Frame(size=41, margin=10, scale=0.25, factor=3)
NOISE = np.array([1.0, 2.0])


def painted(component: Component, frame: Frame = FRAME) -> np.ndarray:
    canvas = np.zeros((2, frame.side, frame.side))
    paint(canvas, frame, component, NOISE)
    return canvas


@pytest.mark.parametrize("change", [{}, {"arms": 0.8, "phase": -1.0}, {"ring": 1.5, "radius": 0.6}, {"radius": 0.0}])
def test_a_component_has_its_flux_and_its_place(change):
    component = Component(0.4, -0.7, np.array([1e4, 2e4]), 0.7, 1.0, 0.6, 0.3)
    canvas = painted(replace(component, **change))
    assert canvas.sum(axis=(1, 2)) == pytest.approx([1e4, 2e4], rel=0.02)
    y, x = np.indices(canvas.shape[1:])
    middle = (FRAME.side - 1) / 2
    assert (x * canvas[0]).sum() / canvas[0].sum() == pytest.approx(middle + 0.4 / 0.25, abs=0.1)
    assert (y * canvas[0]).sum() / canvas[0].sum() == pytest.approx(middle - 0.7 / 0.25, abs=0.1)


@given(
    st.floats(0.2, 2.0), st.floats(0.8, 4.5), st.floats(0.3, 1.0), st.floats(0, 3), st.floats(-2, 2), st.floats(2, 5)
)
def test_sampling_saves_work_but_not_light(radius, index, axis_ratio, angle, x, log_flux):
    component = Component(x, 0.3, 10**log_flux * np.ones(2), radius, index, axis_ratio, angle)
    samples = sersic().surface_brightness(*FRAME.grid((slice(0, 61), slice(0, 61))), [sersic_keywords(component)])
    exact = FRAME.pixels(samples, (slice(0, 61), slice(0, 61))) * 10**log_flux
    assert np.max(np.abs(painted(component)[0] - exact)) < 0.03 * NOISE[0]


def test_what_lies_outside_the_frame_is_not_drawn():
    assert not painted(Component(30.0, 0.0, np.ones(2), 0.3)).any()
    assert not painted(Component(30.0, 0.0, np.ones(2), 0.0)).any()


@pytest.mark.parametrize("half", [4, 10])
def test_blurring_is_a_convolution_with_what_lies_beyond_the_edge(half):
    image = np.random.default_rng(1).random((FRAME.side, FRAME.side))
    kernel = moffat(3.5, 3.0, half)
    assert np.allclose(Blur(FRAME, kernel)(image), FRAME.inner(convolve2d(image, kernel, mode="same")))


def survey(**band) -> Survey:
    return Survey(bands={"r": Band(noise=1.0, **band)}, pixel_scale=0.25, zero_point=30.0)


def test_a_file_of_point_spread_functions(tmp_path):
    kernels = np.array([moffat(w, 3.0, 9) * 7 for w in (3.0, 4.0)])
    np.save(tmp_path / "psf.npy", kernels)
    given_file = survey(psf=tmp_path / "psf.npy")
    frame = frame_of(given_file, 41)
    assert frame.margin == 9
    drawn = [Conditions.draw(np.random.default_rng(i), given_file, frame).fwhm[0] for i in range(20)]
    assert sorted(set(np.round(drawn, 6))) == pytest.approx([0.75, 1.0], rel=0.04)
    np.save(tmp_path / "even.npy", np.ones((8, 8)))
    with pytest.raises(ImageError) as caught:
        frame_of(survey(psf=tmp_path / "even.npy"), 41)
    assert str(caught.value) == (
        f"{tmp_path}/even.npy: point-spread function 0 has shape (8, 8); it must be square with an odd number of "
        "pixels, its peak on the middle one."
    )


def test_images_of_all_formats(tmp_path):
    import zarr
    from astropy.io import fits

    stamps = np.random.default_rng(1).random((3, 6, 5))
    np.save(tmp_path / "a.npy", stamps)
    np.savez(tmp_path / "a.npz", stamps)
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(s) for s in stamps)]).writeto(tmp_path / "a.fits")
    zarr.create_array(tmp_path / "a.zarr", data=stamps)
    for name in ("a.npy", "a.npz", "a.fits", "a.zarr"):
        assert np.array_equal(images.read(tmp_path / name, "stamps"), stamps)


def test_images_that_cannot_be_used(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([np.ones((4, 4)), -np.ones((4, 4))]))
    with pytest.raises(ImageError) as caught:
        images.read(tmp_path / "a.npy", "stamps")
    assert str(caught.value) == (
        f"{tmp_path}/a.npy: image 1 of the stamps has a sum of -16; it must be positive, and every pixel finite. "
        "Leave it out."
    )
    with pytest.raises(ImageError, match=r"none\.npz: cannot be read as stamps: \[Errno 2\]"):
        images.read(tmp_path / "none.npz", "stamps")


def test_colours_are_those_the_spectra_were_made_for():
    g, r, i = 4800.0, 6400.0, 7800.0
    for z, g_r, r_i in ((0.2, 1.15, 0.42), (0.4, 1.65, 0.58), (0.6, 1.75, 0.92), (0.9, 1.80, 1.20)):
        found = spectra.old([g, r, i], z)
        assert -np.diff(found) == pytest.approx([g_r, r_i], abs=0.025)
    assert -np.diff(spectra.blue([g, r, i], 0.4)) == pytest.approx([0.4, 0.24])
