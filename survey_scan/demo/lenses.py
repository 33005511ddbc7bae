"""Strong lenses: a red elliptical that bends the light of a blue galaxy behind it."""

from functools import cache
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

from survey_scan.demo.galaxies import Arcs, Rng, SkyObject, blue_colours, red_colours
from survey_scan.demo.photometry import GAIN, PIXEL_SCALE, SEEING, SKY_NOISE, ZERO_POINT, flux_of
from survey_scan.demo.pixels import moffat
from survey_scan.demo.profiles import Component, Float, stamp

THETA_E = (1.0, 2.5)
"""Einstein radii in arcsec, drawn flat."""
ARC_SNR = (50.0, 160.0)
"""S/N of the arcs in g, drawn flat; below about 50 a person no longer sees most of them."""
OUTSHINING = 0.65
"""Least share of the arcs' light in g that falls where they are brighter than the deflector."""
BRIGHTEST_SOURCE = 21.5
"""Unlensed g magnitude; a brighter source behind every lens would be unreal."""
LARGEST_SHARE = 0.9
"""Greatest flux of the arcs in r over the deflector's: the pair is to keep a red galaxy's colour as a whole."""
SOURCE_COLOUR = (0.0, 0.6)
"""Range of g-r of the sources, which are distant star-forming galaxies."""
SUPERSAMPLING = 3


@cache
def _models() -> tuple[Any, Any]:
    # lenstronomy takes a second to import and only lens drawing needs it
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    return LensModel(["SIE", "SHEAR"]), LightModel(["SERSIC"])


def arcs_image(half: int, centre: tuple[float, float], mass: list[dict[str, float]], source: dict[str, float]) -> Float:
    """Lensed surface brightness of a source, in flux per pixel.

    Parameters
    ----------
    half : int
        Half width of the stamp in pixels.
    centre : tuple of float
        Deflector's offset in arcsec from the middle of the stamp.
    mass : list of dict
        lenstronomy parameters of SIE and SHEAR, which are given the centre here.
    source : dict
        lenstronomy parameters of SERSIC, with its position relative to the deflector.

    Returns
    -------
    float32 array (2 half + 1, 2 half + 1)
    """
    lens, light = _models()
    fine = (2 * half + 1) * SUPERSAMPLING
    steps = ((np.arange(fine) + 0.5) / SUPERSAMPLING - half - 0.5) * PIXEL_SCALE
    x, y = np.meshgrid(steps - centre[0], steps - centre[1])
    bx, by = lens.ray_shooting(x.ravel(), y.ravel(), mass)
    image = light.surface_brightness(bx, by, [source]).reshape(fine, fine)
    side = 2 * half + 1
    binned = image.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean(axis=(1, 3))
    return np.asarray(binned * PIXEL_SCALE**2, np.float32)


@cache
def _blur() -> Float:
    return moffat(SEEING[0] / PIXEL_SCALE, 12)


def deflector(rng: Rng, x: float, y: float, theta_e: float) -> tuple[Component, float]:
    """A massive elliptical between z = 0.25 and 0.75, brighter where it bends light further."""
    redshift = rng.uniform(0.25, 0.75)
    mag_i = 18.4 + 4.2 * (redshift - 0.25) - 1.2 * np.log10(theta_e / 1.5) + rng.normal(0.0, 0.3)
    size = 1.1 * 10.0 ** (-0.08 * (mag_i - 18.5) + rng.normal(0.0, 0.1)) / PIXEL_SCALE
    flux = flux_of(mag_i, *red_colours(rng, redshift))
    return Component(x, y, flux, size, 4.0, rng.uniform(0.6, 0.98), rng.uniform(0.0, np.pi)), mag_i


def lens(rng: Rng, x: float, y: float) -> SkyObject:
    """Draw a lens at (x, y), flat in Einstein radius and in the S/N of its arcs.

    A draw is repeated, with the same Einstein radius and S/N, while the arcs hide under the deflector
    (:data:`OUTSHINING`), outdo it (:data:`LARGEST_SHARE`) or need a source brighter than :data:`BRIGHTEST_SOURCE`.
    """
    theta_e, snr = float(rng.uniform(*THETA_E)), float(rng.uniform(*ARC_SNR))
    while True:
        candidate = _draw(rng, x, y, theta_e, snr)
        if candidate is not None:
            return candidate


def _draw(rng: Rng, x: float, y: float, theta_e: float, snr: float) -> SkyObject | None:
    galaxy, mag_i = deflector(rng, x, y, theta_e)
    e = (1.0 - galaxy.axis_ratio) / (1.0 + galaxy.axis_ratio) * rng.uniform(0.6, 1.2)
    turn = 2.0 * (galaxy.angle + rng.normal(0.0, 0.1))
    shear, shear_angle = rng.uniform(0.0, 0.08), rng.uniform(0.0, 2.0 * np.pi)
    mass = [
        {"theta_E": theta_e, "e1": e * np.cos(turn), "e2": e * np.sin(turn), "center_x": 0.0, "center_y": 0.0},
        {"gamma1": shear * np.cos(shear_angle), "gamma2": shear * np.sin(shear_angle)},
    ]
    offset, around = 0.45 * theta_e * np.sqrt(rng.random()), rng.uniform(0.0, 2.0 * np.pi)
    size, index = rng.uniform(0.12, 0.35), rng.uniform(0.8, 2.0)
    source = {
        "amp": 1.0,
        "R_sersic": size,
        "n_sersic": index,
        "center_x": offset * np.cos(around),
        "center_y": offset * np.sin(around),
    }
    half = int(np.ceil((2.0 * theta_e + 2.2) / PIXEL_SCALE))
    cx, cy = round(x), round(y)
    image = arcs_image(half, ((x - cx) * PIXEL_SCALE, (y - cy) * PIXEL_SCALE), mass, source)
    lensed, unlensed = float(image.sum()), float(_models()[1].total_flux([source])[0])
    image /= lensed

    blurred = fftconvolve(image, _blur(), mode="same")
    _, _, light = stamp(galaxy, half)
    hidden = fftconvolve(light, _blur(), mode="same") * galaxy.flux[0]
    flux_g = snr / np.sqrt(np.sum(blurred**2 / (SKY_NOISE[0] ** 2 + np.maximum(hidden, 0.0) / GAIN)))
    visible = blurred[flux_g * blurred > hidden].sum()
    source_mag = ZERO_POINT - 2.5 * np.log10(flux_g * unlensed / lensed)
    g_r, r_i = blue_colours(rng, SOURCE_COLOUR)
    flux = flux_of(ZERO_POINT - 2.5 * np.log10(flux_g) - g_r - r_i, g_r, r_i)
    if visible < OUTSHINING or source_mag < BRIGHTEST_SOURCE or flux[1] > LARGEST_SHARE * galaxy.flux[1]:
        return None
    truth = {
        "theta_E": theta_e,
        "arc_snr": snr,
        "source_mag_g": float(source_mag),
        "magnification": lensed / unlensed,
        "deflector_mag_i": float(mag_i),
        "axis_ratio": galaxy.axis_ratio,
        "shear": float(shear),
    }
    arcs = Arcs(cx - half, cy - half, image, flux)
    return SkyObject("lens", x, y, (galaxy,), arcs=arcs, truth=truth)
