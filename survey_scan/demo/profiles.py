"""Surface brightness of one galaxy component, painted on the noiseless sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv

Float = NDArray[np.float32]

CUSP_HALF = 4
"""Half width in pixels of the box at a component's centre that is oversampled."""
CUSP_OVERSAMPLING = 5
SOFTENING = 0.03
"""Pixels: stands for the mean of the cusp over one point of the finer grid, which is 0.2 pixels wide."""
FAINTEST = 0.04
"""A stamp ends where the component falls below this fraction of the sky noise of a pixel."""
LARGEST_HALF = 160


@dataclass(frozen=True, slots=True)
class Component:
    """A Sérsic profile, if need be with two spiral arms or drawn into a ring.

    Parameters
    ----------
    x, y : float
        Centre in pixels of the sky frame (0-based, whole numbers at pixel centres).
    flux : tuple of float
        Total counts in g, r, i at zero point 30.
    radius : float
        Half-light semi-major axis in pixels.
    index : float
        Sérsic index.
    axis_ratio : float
        Minor over major axis.
    angle : float
        Position of the major axis in radians, from +x to +y.
    arms : float
        Contrast of a two-armed spiral pattern, 0 for none.
    phase : float
        Phase of the arms in radians; its sign also turns the spiral's sense.
    ring : float
        Radius of a ring in half-light radii; 0 for an ordinary profile.
    """

    x: float
    y: float
    flux: tuple[float, float, float]
    radius: float
    index: float = 1.0
    axis_ratio: float = 1.0
    angle: float = 0.0
    arms: float = 0.0
    phase: float = 0.0
    ring: float = 0.0


def sersic_b(index: float) -> float:
    """Return b of exp(-b r^(1/n)), which puts half of the light within r = 1."""
    return float(gammaincinv(2.0 * index, 0.5))


def central_brightness(component: Component) -> float:
    """Central surface brightness per unit flux, in 1 / pixel (Graham & Driver 2005, eq. 4)."""
    n, b = component.index, sersic_b(component.index)
    area = component.radius**2 * component.axis_ratio
    return float(b ** (2.0 * n) / (2.0 * np.pi * n * gamma(2.0 * n) * area))


def extent(component: Component, sky_noise: tuple[float, float, float]) -> int:
    """Half width in pixels of the stamp outside which the component is lost in the noise."""
    if component.ring:
        return int(min(LARGEST_HALF, np.ceil(component.radius * (component.ring + 1.5)) + 2))
    brightest = max(f / s for f, s in zip(component.flux, sky_noise, strict=True))
    ratio = max(brightest * central_brightness(component) / FAINTEST, 1.0)
    reach = component.radius * (np.log(ratio) / sersic_b(component.index)) ** component.index
    return int(np.clip(np.ceil(reach), CUSP_HALF + 1, LARGEST_HALF))


def brightness(component: Component, x: Float, y: Float) -> Float:
    """Surface brightness per unit flux at points (x, y), which broadcast against each other.

    Components with arms or a ring are normalised by :func:`stamp`, others here.
    """
    cos, sin = np.float32(np.cos(component.angle)), np.float32(np.sin(component.angle))
    dx, dy = x - np.float32(component.x), y - np.float32(component.y)
    u = (dx * cos + dy * sin) / np.float32(component.radius)
    v = (dy * cos - dx * sin) / np.float32(component.radius * component.axis_ratio)
    r2 = u * u + v * v + np.float32((SOFTENING / component.radius) ** 2 / component.axis_ratio)
    if component.ring:
        return np.asarray(np.exp(-16.0 * (np.sqrt(r2) - np.float32(component.ring)) ** 2), np.float32)
    if component.index == 4.0:
        power = np.sqrt(np.sqrt(np.sqrt(r2)))
    elif component.index == 1.0:
        power = np.sqrt(r2)
    else:
        power = r2 ** np.float32(0.5 / component.index)
    image: Float = np.exp(np.float32(-sersic_b(component.index)) * power)
    image *= np.float32(central_brightness(component))
    if component.arms:
        winding = np.float32(np.copysign(2.5, component.phase)) * np.log(np.sqrt(r2) + np.float32(0.2))
        pattern = np.cos(2.0 * (np.arctan2(v, u) - winding) + np.float32(component.phase))
        image *= 1.0 + np.float32(component.arms) * pattern * np.minimum(r2 * 4.0, 1.0)
    return image


def stamp(component: Component, half: int) -> tuple[int, int, Float]:
    """Pixel values of a component of unit flux.

    Returns
    -------
    x0, y0 : int
        Pixel of the sky frame at which the stamp's first column and row lie.
    image : float32 array (2 half + 1, 2 half + 1)
        Brightness at pixel centres; the cusp is averaged over a finer grid.
    """
    cx, cy = round(component.x), round(component.y)
    steps = np.arange(-half, half + 1, dtype=np.float32)
    image = brightness(component, (cx + steps)[None, :], (cy + steps)[:, None])
    width = 2 * CUSP_HALF + 1
    fine = np.arange(width * CUSP_OVERSAMPLING, dtype=np.float32)
    fine = ((fine + 0.5) / CUSP_OVERSAMPLING - 0.5 - CUSP_HALF).astype(np.float32)
    cusp = brightness(component, (cx + fine)[None, :], (cy + fine)[:, None])
    inner = slice(half - CUSP_HALF, half + CUSP_HALF + 1)
    image[inner, inner] = cusp.reshape(width, CUSP_OVERSAMPLING, width, CUSP_OVERSAMPLING).mean(axis=(1, 3))
    if component.ring or component.arms:
        image /= image.sum()
    return cx - half, cy - half, image


def paint(canvas: Float, x0: int, y0: int, image: Float, flux: tuple[float, ...]) -> None:
    """Add ``image`` times each band's flux to a canvas (band, height, width), clipped at its edges."""
    height, width = canvas.shape[1:]
    left, right = max(x0, 0), min(x0 + image.shape[1], width)
    bottom, top = max(y0, 0), min(y0 + image.shape[0], height)
    if left >= right or bottom >= top:
        return
    piece = image[bottom - y0 : top - y0, left - x0 : right - x0]
    for plane, counts in zip(canvas, flux, strict=True):
        plane[bottom:top, left:right] += np.float32(counts) * piece
