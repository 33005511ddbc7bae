"""Draw a lens, again and again until it passes the constraints, the cheapest tests first.

Rays are shot once: the lensed source is one image for all bands, scaled by the source's flux in each.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.simulation import sources, spectra
from survey_scan.simulation.conditions import Conditions
from survey_scan.simulation.config import Constraints, Simulation, between
from survey_scan.simulation.constraints import Tally
from survey_scan.simulation.galaxies import Filters, magnitude
from survey_scan.simulation.light import Component, Frame, ellipticity, mass_model, paint
from survey_scan.simulation.population import (
    ARCSEC,
    Draw,
    Population,
    comoving,
    distance_modulus,
    early_type,
)
from survey_scan.simulation.sources import Source

Floats = NDArray[np.float64]
Rng = np.random.Generator

FAINTEST_ARC = 2e-4
"""Pixels brighter than this share of the brightest are given several rays, as are those near the source."""
FAINTEST_IMAGE = 0.1
"""Magnification below which an image does not count, as the one at the lens' centre."""


@dataclass(frozen=True)
class Lens:
    """An accepted lens.

    Attributes
    ----------
    galaxy : Component or None
        The lens galaxy; None if there is a real one.
    light : ndarray, shape (bands, side, side)
        That galaxy, before blurring; 0 if there is a real one.
    mass : list of dict
        lenstronomy's parameters of SIE and SHEAR, about (0, 0).
    source : Source
    arcs : ndarray, shape (side, side)
        The lensed source, its unlensed flux being 1, before blurring.
    flux : ndarray, shape (bands,)
        Of the source, unlensed.
    truth : dict
        Columns of the truth table.
    """

    galaxy: Component | None
    light: Floats
    mass: list[dict[str, float]]
    source: Source
    arcs: Floats
    flux: Floats
    truth: dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """What a lens is drawn into.

    Attributes
    ----------
    x, y : float
        Of the lens, in arcsec from the middle of the cutout.
    conditions : Conditions
    light, variance : ndarray, shape (size, size), or None
        Of a real galaxy in the arc band; None where the galaxy is drawn, too.
    """

    x: float
    y: float
    conditions: Conditions
    light: Floats | None = None
    variance: Floats | None = None


@dataclass(frozen=True)
class Studio:
    """What all objects of a configuration share."""

    config: Simulation
    frame: Frame
    filters: Filters
    population: Population | None

    def canvas(self) -> Floats:
        """An empty sky, shape (bands, side, side)."""
        return np.zeros((len(self.config.bands), self.frame.side, self.frame.side))


def draw(rng: Rng, studio: Studio, scene: Scene, tally: Tally) -> Lens:
    """Draw lenses until one passes. A flat prior keeps Einstein radius and S/N of the first draw, so that they stay flat.

    Raises
    ------
    ConfigError
        If hardly any draw passes, with the tests that reject.
    """
    prior, wanted = studio.config.prior, None
    if prior.arc_snr is not None:
        wanted = between(rng, prior.theta_E), between(rng, prior.arc_snr)
    while True:
        tally.draws += 1
        found = _draw(rng, studio, scene, wanted)
        if isinstance(found, Lens):
            tally.accepted += 1
            return found
        tally.reject(found)


def galaxy(rng: Rng, studio: Studio, drawn: Draw, x: float, y: float) -> Component:
    """The early-type galaxy of a lens.

    One minus its axis ratio is of a Rayleigh distribution of width 0.378 - 0.000572 sigma (as in Collett's LensPop);
    below 0.5 it is drawn again.
    """
    magnitude_r, kpc = early_type(rng, drawn.sigma, drawn.z_lens)
    seen = spectra.old(studio.filters.wavelengths, drawn.z_lens)
    magnitudes = magnitude_r + distance_modulus(drawn.z_lens) + seen
    size = kpc / 1000 / (comoving(drawn.z_lens) / (1 + drawn.z_lens)) / ARCSEC
    axis_ratio, spread = 0.0, max(0.378 - 0.000572 * drawn.sigma, 0.1)
    while axis_ratio < 0.5:
        axis_ratio = 1 - rng.rayleigh(spread)
    flux = studio.filters.flux(magnitudes + rng.normal(0.0, 0.03, len(magnitudes)))
    return Component(x, y, flux, float(size), 4.0, float(axis_ratio), float(rng.uniform(0, np.pi)))


def _draw(rng: Rng, studio: Studio, scene: Scene, wanted: tuple[float, float] | None) -> Lens | str:
    """One draw: a lens, or the name of the test it failed."""
    assert studio.population is not None
    config, at_least, frame, band = studio.config, studio.config.constraints, studio.frame, studio.config.arc_band
    population, conditions = studio.population, scene.conditions
    drawn = population.draw_at(rng, wanted[0]) if wanted else population.draw(rng)
    light_galaxy = galaxy(rng, studio, drawn, scene.x, scene.y)
    found = light_galaxy if scene.light is None else None
    if found is not None and at_least.lens_magnitude is not None:
        brightest, faintest = at_least.lens_magnitude
        if not brightest <= studio.filters.magnitude(found.flux)[config.lens_band] <= faintest:
            return "lens_magnitude"
    source = sources.draw(rng, config.sources, drawn.theta_e)
    fwhm = conditions.fwhm[band]
    if at_least.seeing is not None and drawn.theta_e**2 < source.radius**2 + (at_least.seeing * fwhm) ** 2:
        return "seeing"

    mass = _mass(rng, config, drawn, light_galaxy)
    arcs = arcs_image(frame, (scene.x, scene.y), mass, source)
    magnification = float(arcs.sum())
    if magnification < (at_least.magnification or 0.0) or magnification == 0:
        return "magnification"
    colours = _colours(rng, studio)
    blurred = conditions.blurs[band](arcs)
    power = blurred**2
    # Against the sky alone: what is too faint, or needs too bright a source, even so is not drawn any further.
    snr_of_one = float(np.sqrt(np.sum(power) / conditions.noise[band] ** 2))
    flux = wanted[1] / snr_of_one if wanted else _flux(rng, studio)
    if failed := _too_bright_or_faint(studio, flux, flux * snr_of_one):
        return failed

    light, variance, sky = scene.light, scene.variance, studio.canvas()
    if light is None or variance is None:
        paint(sky, frame, light_galaxy, conditions.noise)
        light = conditions.blurs[band](sky[band])
        variance = conditions.variance(band, light)
    snr_of_one = float(np.sqrt(np.sum(power / variance)))
    flux = wanted[1] / snr_of_one if wanted else flux
    if failed := _too_bright_or_faint(studio, flux, flux * snr_of_one):
        return failed
    contrast = float(blurred[flux * blurred > light].sum() / blurred.sum())
    if contrast < (at_least.contrast or 0.0):
        return "contrast"
    fluxes = flux * colours
    outdone = fluxes[config.lens_band] * magnification / light_galaxy.flux[config.lens_band]
    if found is not None and at_least.share is not None and outdone > at_least.share:
        return "share"
    images = image_positions(mass, source)
    separation = _separation(images)
    if at_least.images is not None and len(images) < at_least.images:
        return "images"
    if at_least.separation is not None and separation < at_least.separation * fwhm:
        return "separation"
    truth = {
        "theta_E": drawn.theta_e,
        "sigma_v": drawn.sigma,
        "z_lens": drawn.z_lens if found is not None else np.nan,
        "z_source": drawn.z_source,
        "magnification": magnification,
        "arc_snr": flux * snr_of_one,
        "contrast": contrast,
        "images": len(images),
        "separation": separation,
        "mass_e1": mass[0]["e1"],
        "mass_e2": mass[0]["e2"],
        "gamma1": mass[1]["gamma1"],
        "gamma2": mass[1]["gamma2"],
        "source_x": source.x,
        "source_y": source.y,
        "source_radius": source.radius,
        "source_stamp": source.stamp,
    }
    return Lens(found, sky, mass, source, arcs, fluxes, truth)


def arcs_image(frame: Frame, centre: tuple[float, float], mass: list[dict[str, float]], source: Source) -> Floats:
    """The lensed source on a frame, of unit unlensed flux.

    Parameters
    ----------
    frame : Frame
    centre : tuple of float
        Of the lens, in arcsec from the middle of the frame.
    mass : list of dict
        lenstronomy's parameters of SIE and SHEAR, about (0, 0).
    source : Source
        Its position is relative to the lens.

    Returns
    -------
    ndarray, shape (side, side)
        Flux a pixel; several rays a pixel where it matters, and 0 where no light of the source can be.
    """
    shear = float(np.hypot(mass[1]["gamma1"], mass[1]["gamma2"]))
    farthest = (1.25 * mass[0]["theta_E"] + np.hypot(source.x, source.y) + source.reach) / (1 - shear)
    box, once = frame.box(*centre, farthest), replace(frame, factor=1)
    x, y = once.grid(box)
    x, y = x - centre[0], y - centre[1]
    behind_x, behind_y = mass_model().ray_shooting(x, y, mass)
    light = source.brightness(behind_x, behind_y)
    if frame.factor > 1:
        # A pixel is as large as this in the source plane, larger near the centre of the lens.
        pixel = frame.scale * (1 + mass[0]["theta_E"] / np.maximum(np.hypot(x, y), 0.5 * frame.scale))
        near = np.hypot(behind_x - source.x, behind_y - source.y) < source.uneven + 0.75 * pixel
        fine = np.flatnonzero(near | (np.abs(light) > FAINTEST_ARC * np.max(np.abs(light))))
        steps = ((np.arange(frame.factor) + 0.5) / frame.factor - 0.5) * frame.scale
        across, up = (a.ravel() for a in np.meshgrid(steps, steps))
        rays = mass_model().ray_shooting((x[fine, None] + across).ravel(), (y[fine, None] + up).ravel(), mass)
        light[fine] = source.brightness(*rays).reshape(len(fine), -1).mean(axis=1)
    image = np.zeros((frame.side, frame.side))
    image[box] = once.pixels(light, box)
    return image


def image_positions(mass: list[dict[str, float]], source: Source) -> Floats:
    """Images of the source's centre, shape (images, 2), in arcsec from the lens; faint ones left out."""
    x, y = _solver().image_position_from_source(
        source.x, source.y, mass, solver="analytical", arrival_time_sort=False, magnification_limit=FAINTEST_IMAGE
    )
    return np.stack([x, y], axis=1)


@cache
def _solver() -> Any:
    from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver

    return LensEquationSolver(mass_model())


def _mass(rng: Rng, config: Simulation, drawn: Draw, light: Component) -> list[dict[str, float]]:
    """SIE and shear about (0, 0): as elongated as the light, times ``ellipticity``, and nearly along it."""
    spec = config.deflectors
    e1, e2 = ellipticity(light.axis_ratio, light.angle + np.deg2rad(rng.normal(0.0, spec.misalignment)))
    factor, shear, angle = between(rng, spec.ellipticity), between(rng, spec.shear), rng.uniform(0.0, 2 * np.pi)
    factor = max(factor, 1e-3)  # of an exactly round lens lenstronomy's solver finds no images
    return [
        {"theta_E": drawn.theta_e, "e1": e1 * factor, "e2": e2 * factor, "center_x": 0.0, "center_y": 0.0},
        {"gamma1": float(shear * np.cos(angle)), "gamma2": float(shear * np.sin(angle))},
    ]


def _colours(rng: Rng, studio: Studio) -> Floats:
    """Flux of a source in each band over that in the arc band."""
    magnitudes = spectra.blue(studio.filters.wavelengths, between(rng, studio.config.sources.colour))
    magnitudes += rng.normal(0.0, 0.04, len(magnitudes))
    return np.asarray(10 ** (-0.4 * (magnitudes - magnitudes[studio.config.arc_band])))


def _flux(rng: Rng, studio: Studio) -> float:
    """Of a source in the arc band, unlensed, from the counts."""
    spec = studio.config.sources
    drawn = magnitude(rng, spec.magnitude[0], spec.magnitude[1], spec.slope)
    return float(studio.filters.flux(np.array(drawn)))


def _too_bright_or_faint(studio: Studio, flux: float, snr: float) -> str | None:
    limits: Constraints = studio.config.constraints
    magnitude_seen = studio.filters.magnitude(np.array(flux))
    if limits.source_magnitude is not None and magnitude_seen < limits.source_magnitude:
        return "source_magnitude"
    return "arc_snr" if limits.arc_snr is not None and snr < limits.arc_snr * (1 - 1e-9) else None


def _separation(images: Floats) -> float:
    """Largest distance between two images in arcsec; 0 if there is one."""
    if len(images) < 2:
        return 0.0
    return float(np.max(np.linalg.norm(images[:, None] - images[None], axis=-1)))
