"""Galaxies that are no lenses, and those that look like some: spirals, rings, mergers, bright companions.

Numbers are rough, as those of the demo's sky, which these kinds follow: good enough to make a lens search hard in the
usual ways; no measurement of the galaxy population.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from survey_scan.simulation import spectra
from survey_scan.simulation.light import Component

Floats = NDArray[np.float64]
Rng = np.random.Generator

SHARES = {"elliptical": 0.27, "spiral": 0.39, "ring": 0.02, "irregular": 0.12, "merger": 0.10, "companions": 0.10}
"""Of each kind among neighbours by chance."""


@dataclass(frozen=True)
class Filters:
    """The survey's bands: wavelengths in Å, and the zero point of its flux."""

    wavelengths: list[float]
    zero_point: float

    def flux(self, magnitudes: Floats) -> Floats:
        """Flux of magnitudes."""
        return np.asarray(10 ** (0.4 * (self.zero_point - magnitudes)))

    def magnitude(self, flux: Floats) -> Floats:
        """Magnitude of fluxes; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(flux > 0, self.zero_point - 2.5 * np.log10(flux), np.nan)

    def old(self, mag_i: float, redshift: float, rng: Rng) -> Floats:
        """Flux of an old galaxy of an i magnitude; colours scatter by 0.03 mag a band."""
        colours = spectra.old([*self.wavelengths, spectra.I_BAND], redshift)
        return self.flux(mag_i + colours[:-1] - colours[-1] + rng.normal(0.0, 0.03, len(self.wavelengths)))

    def blue(self, mag_i: float, g_r: float, rng: Rng) -> Floats:
        """Flux of a star-forming galaxy of an i magnitude; colours scatter by 0.04 mag a band."""
        colours = spectra.blue(self.wavelengths, g_r)
        return self.flux(mag_i + colours + rng.normal(0.0, 0.04, len(self.wavelengths)))


def magnitude(rng: Rng, brightest: float, faintest: float, slope: float) -> float:
    """Draw a magnitude from counts that rise as 10^(slope mag)."""
    if slope == 0:
        return float(rng.uniform(brightest, faintest))
    low, high = 10.0 ** (slope * brightest), 10.0 ** (slope * faintest)
    return float(np.log10(rng.uniform(low, high)) / slope)


def radius(rng: Rng, mag_i: float, scale: float = 1.0) -> float:
    """Half-light radius in arcsec: 0.65 at i = 20, larger for brighter galaxies, 0.13 dex of scatter."""
    return float(np.clip(scale * 0.65 * 10.0 ** (-0.11 * (mag_i - 20.0) + rng.normal(0.0, 0.13)), 0.15, 8.0))


def red_galaxy(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> Component:
    """An elliptical, redder when fainter because it is farther away."""
    redshift = float(np.clip(0.15 + 0.13 * (mag_i - 17.0) + rng.normal(0.0, 0.08), 0.05, 0.9))
    flux = f.old(mag_i, redshift, rng)
    return Component(x, y, flux, radius(rng, mag_i), 4.0, rng.uniform(0.5, 1.0), rng.uniform(0.0, np.pi))


def disc(rng: Rng, f: Filters, x: float, y: float, mag_i: float, scale: float = 1.0) -> Component:
    """A star-forming exponential disc seen at a random inclination."""
    flux, axis_ratio = f.blue(mag_i, rng.uniform(0.15, 0.85), rng), max(0.18, rng.uniform(0.0, 1.0))
    size = radius(rng, mag_i, scale) * np.sqrt(axis_ratio)
    return Component(x, y, flux, float(size), 1.0, axis_ratio, rng.uniform(0.0, np.pi))


def elliptical(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """One red component."""
    return [red_galaxy(rng, f, x, y, mag_i)]


def spiral(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """A blue disc, with arms where it is large enough to show them, about a red bulge."""
    share = rng.beta(1.5, 4.0)
    whole = disc(rng, f, x, y, mag_i - 2.5 * np.log10(1.0 - share), 1.3)
    arms = rng.uniform(0.2, 0.95) if rng.random() < 0.7 and whole.radius > 0.7 else 0.0
    whole = replace(whole, arms=arms, phase=rng.uniform(-np.pi, np.pi))
    bulge = red_galaxy(rng, f, x, y, mag_i - 2.5 * np.log10(max(share, 0.02)))
    return [whole, replace(bulge, radius=0.25 * whole.radius, angle=whole.angle, axis_ratio=max(0.6, whole.axis_ratio))]


def ring(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """A ring galaxy: a blue circle of 0.9 to 2.2 arcsec, seen at an angle, about a red centre."""
    centre = red_galaxy(rng, f, x, y, mag_i + 0.3)
    rim = disc(rng, f, x, y, mag_i + rng.uniform(1.0, 2.2))
    size, axis_ratio = rng.uniform(0.9, 2.2), rng.uniform(0.45, 0.95)
    return [centre, replace(rim, radius=size / 1.5 * np.sqrt(axis_ratio), ring=1.5, axis_ratio=axis_ratio)]


def irregular(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """A blue galaxy with one or two off-centre clumps."""
    clumps = [
        disc(rng, f, *near(rng, x, y, 0.2, 0.9), mag_i + rng.uniform(1.5, 2.8), 0.5) for _ in range(rng.integers(1, 3))
    ]
    return [disc(rng, f, x, y, mag_i + 0.3), *clumps]


def merger(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """Two or three galaxies, red or blue, that overlap."""
    parts = (spiral if rng.random() < 0.5 else elliptical)(rng, f, x, y, mag_i + 0.4)
    for _ in range(rng.integers(1, 3)):
        where, faint = near(rng, x, y, 0.7, 2.2), mag_i + rng.uniform(0.6, 2.2)
        parts += elliptical(rng, f, *where, faint) if rng.random() < 0.4 else [disc(rng, f, *where, faint)]
    return parts


def companions(rng: Rng, f: Filters, x: float, y: float, mag_i: float) -> list[Component]:
    """A red galaxy with one to three small blue ones beside it; some lie along the tangent, as an arc would."""
    parts = [red_galaxy(rng, f, x, y, mag_i)]
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12])):
        cx, cy = near(rng, x, y, 1.0, 3.2)
        blue = disc(rng, f, cx, cy, float(np.clip(mag_i + rng.uniform(1.5, 4.0), 20.0, 24.0)), 0.8)
        if rng.random() < 0.4:
            blue = replace(blue, angle=float(np.arctan2(cy - y, cx - x)) + np.pi / 2, axis_ratio=rng.uniform(0.25, 0.6))
        parts.append(blue)
    return parts


def near(rng: Rng, x: float, y: float, closest: float, farthest: float) -> tuple[float, float]:
    """A point between two distances, in arcsec, from (x, y)."""
    distance, angle = rng.uniform(closest, farthest), rng.uniform(0.0, 2.0 * np.pi)
    return float(x + distance * np.cos(angle)), float(y + distance * np.sin(angle))


GALAXIES: dict[str, Callable[[Rng, Filters, float, float, float], list[Component]]] = {
    "elliptical": elliptical,
    "spiral": spiral,
    "ring": ring,
    "irregular": irregular,
    "merger": merger,
    "companions": companions,
}


def star(rng: Rng, f: Filters, x: float, y: float, faintest: float) -> Component:
    """A star as bright as i = 15.5 to ``faintest``, its colours those of a blue or an old galaxy nearby."""
    mag_i = 15.5 + (faintest - 15.5) * np.sqrt(rng.random())
    flux = f.blue(mag_i, rng.uniform(0.3, 0.9), rng) if rng.random() < 0.5 else f.old(mag_i, 0.2, rng)
    return Component(x, y, flux, 0.0)
