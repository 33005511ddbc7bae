"""Background galaxies: Sérsic profiles, or real galaxies from a file of stamps."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.simulation import images
from survey_scan.simulation.config import Sources, between
from survey_scan.simulation.light import Component, sersic, sersic_b, sersic_keywords

Floats = NDArray[np.float64]

#: A Sérsic source ends where it is this share as bright as at its centre.
_FAINTEST = 1e-6


@dataclass(frozen=True)
class Stamp:
    """An image of a real galaxy.

    Attributes
    ----------
    image : ndarray, shape (rows, columns)
        Surface brightness per square arcsec, of unit flux.
    scale : float
        Arcsec per pixel.
    radius : float
        Half-light radius in arcsec: of the circle as large as the brightest pixels that hold half the light.
    """

    image: Floats
    scale: float
    radius: float


@dataclass(frozen=True)
class Source:
    """One source, of unit flux.

    Attributes
    ----------
    x, y : float
        Position in arcsec from the lens.
    radius, reach : float
        Half-light radius; distance in arcsec beyond which there is no light worth drawing.
    uneven : float
        Distance in arcsec within which the light changes much from ray to ray.
    profile : Component or None
        None for a real galaxy.
    stamp : int
        Which real galaxy; -1 for none.
    """

    x: float
    y: float
    radius: float
    reach: float
    uneven: float
    profile: Component | None
    stamp: int = -1
    angle: float = 0.0
    image: Stamp | None = None

    def brightness(self, x: Floats, y: Floats) -> Floats:
        """Surface brightness at points of the source plane, per square arcsec."""
        found = np.zeros(len(x))
        near = np.flatnonzero((x - self.x) ** 2 + (y - self.y) ** 2 < self.reach**2)
        if self.profile is not None:
            found[near] = sersic().surface_brightness(x[near], y[near], [sersic_keywords(self.profile)])
        elif self.image is not None:
            found[near] = _interpolated().surface_brightness(x[near], y[near], [self._interpolation(self.image)])
        return found

    def _interpolation(self, stamp: Stamp) -> dict[str, Any]:
        return {
            "image": stamp.image,
            "amp": 1.0,
            "center_x": self.x,
            "center_y": self.y,
            "phi_G": self.angle,
            "scale": stamp.scale,
        }


def _interpolated() -> Any:
    """A new one for each source: lenstronomy keeps the first image that one is given."""
    from lenstronomy.LightModel.light_model import LightModel

    return LightModel(["INTERPOL"])


def draw(rng: np.random.Generator, spec: Sources, theta_e: float) -> Source:
    """A source behind a lens, uniform in the disc of ``offset`` Einstein radii."""
    offset, around = spec.offset * theta_e * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    x, y = float(offset * np.cos(around)), float(offset * np.sin(around))
    angle, real = float(rng.uniform(0, np.pi)), rng.random()
    if spec.stamps is not None and real < spec.stamp_share:
        stamps = load(spec.stamps, spec.stamp_scale)
        number = int(rng.integers(len(stamps)))
        image = stamps[number]
        turn = angle + np.pi * int(rng.integers(2))
        reach = 0.5 * float(np.hypot(*image.image.shape)) * image.scale
        return Source(x, y, image.radius, reach, reach, None, number, turn, image)
    radius = float(np.exp(between(rng, [float(np.log(r)) for r in spec.radius])))
    index, axis_ratio = between(rng, spec.index), between(rng, spec.axis_ratio)
    profile = Component(x, y, np.ones(1), radius, index, axis_ratio, angle)
    reach = radius / np.sqrt(axis_ratio) * (-np.log(_FAINTEST) / sersic_b(index)) ** index
    return Source(x, y, radius, float(reach), 3 * radius, profile)


@lru_cache(maxsize=1)
def load(path: Path, scale: float) -> list[Stamp]:
    """Read a file of stamps, once a process; raises as :func:`survey_scan.simulation.images.read`."""
    return [_stamp(image, scale) for image in images.read(path, "stamps")]


def _stamp(image: Floats, scale: float) -> Stamp:
    total = image.sum()
    half = int(np.searchsorted(np.cumsum(np.sort(image, axis=None)[::-1]), 0.5 * total)) + 1
    return Stamp(image / total / scale**2, scale, float(np.sqrt(half / np.pi) * scale))
