"""Injected lenses: geometry from lenstronomy, arcs as bright as they were drawn."""

import numpy as np
import pytest

from survey_scan.demo.lenses import ARC_SNR, BRIGHTEST_SOURCE, LARGEST_SHARE, THETA_E, arcs_image, lens
from survey_scan.demo.photometry import PIXEL_SCALE

ROUND = {"e1": 0.0, "e2": 0.0, "center_x": 0.0, "center_y": 0.0}
NO_SHEAR = {"gamma1": 0.0, "gamma2": 0.0}


def test_a_source_behind_a_round_lens_is_an_einstein_ring():
    source = {"amp": 1.0, "R_sersic": 0.1, "n_sersic": 1.0, "center_x": 0.0, "center_y": 0.0}
    image = arcs_image(20, (0.0, 0.0), [{"theta_E": 1.8, **ROUND}, NO_SHEAR], source)
    steps = np.arange(-20, 21) * PIXEL_SCALE
    radius = np.hypot(steps[:, None], steps[None, :])
    assert (image * radius).sum() / image.sum() == pytest.approx(1.8, abs=0.08)
    np.testing.assert_allclose(image, image[::-1], rtol=1e-3, atol=1e-4 * image.max())


def test_arcs_stand_about_the_deflector_within_the_pixel():
    source = {"amp": 1.0, "R_sersic": 0.1, "n_sersic": 1.0, "center_x": 0.0, "center_y": 0.0}
    mass = [{"theta_E": 1.8, **ROUND}, NO_SHEAR]
    image = arcs_image(20, (0.1, -0.05), mass, source)
    steps = np.arange(-20, 21) * PIXEL_SCALE
    assert image.sum(axis=0) @ steps / image.sum() == pytest.approx(0.1, abs=0.02)
    assert image.sum(axis=1) @ steps / image.sum() == pytest.approx(-0.05, abs=0.02)


def test_lenses_keep_to_what_they_promise():
    rng = np.random.default_rng(3)
    for _ in range(20):
        item = lens(rng, 200.3, 99.6)
        assert item.arcs is not None
        assert item.kind == "lens"
        assert item.arcs.image.sum() == pytest.approx(1.0, rel=1e-5)
        assert item.arcs.flux[1] <= LARGEST_SHARE * item.components[0].flux[1]
        assert THETA_E[0] <= item.truth["theta_E"] <= THETA_E[1]
        assert ARC_SNR[0] <= item.truth["arc_snr"] <= ARC_SNR[1]
        assert item.truth["source_mag_g"] > BRIGHTEST_SOURCE
        assert item.truth["magnification"] > 1.0
        half = item.arcs.image.shape[0] // 2
        assert (item.arcs.x0 + half, item.arcs.y0 + half) == (200, 100)
