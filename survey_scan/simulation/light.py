"""Light on a grid finer than the survey's pixels: galaxies, arcs, stars; and the point-spread function over it.

A frame is the cutout with a margin as wide as the point-spread function reaches, so that light from beyond the edge is
blurred in. Coordinates are arcsec from the cutout's middle, x along rows, y up. Profiles are lenstronomy's.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

FAINTEST = 0.003
"""A component ends where it falls below this share of the sky noise of a pixel."""
ROUGHEST = 0.01
"""A pixel is given one sample where more would change it by less than this share of the noise."""
PSF_REACH = 2.5
"""Half width of a point-spread function's image in FWHM."""


@cache
def sersic() -> Any:
    """The Sérsic profile of lenstronomy, with ellipticity; lenstronomy takes a second to import."""
    from lenstronomy.LightModel.light_model import LightModel

    return LightModel(["SERSIC_ELLIPSE"])


@cache
def mass_model() -> Any:
    """The singular isothermal ellipsoid of lenstronomy, with external shear."""
    from lenstronomy.LensModel.lens_model import LensModel

    return LensModel(["SIE", "SHEAR"])


@dataclass(frozen=True, slots=True)
class Component:
    """A Sérsic profile, if need be with two spiral arms or drawn into a ring; a star if its radius is 0.

    Parameters
    ----------
    x, y : float
        Centre in arcsec from the middle of the cutout.
    flux : ndarray, shape (bands,)
        Total flux in each band.
    radius : float
        Half-light radius in arcsec, the geometric mean of those along the axes.
    index, axis_ratio, angle : float
        Sérsic index; minor over major axis; of the major axis, in radians from x to y.
    arms, phase : float
        Contrast of a two-armed spiral, 0 for none; phase of the arms, whose sign turns their sense.
    ring : float
        Radius of a ring in half-light radii; 0 for none.
    """

    x: float
    y: float
    flux: Floats
    radius: float
    index: float = 1.0
    axis_ratio: float = 1.0
    angle: float = 0.0
    arms: float = 0.0
    phase: float = 0.0
    ring: float = 0.0


def ellipticity(axis_ratio: float, angle: float) -> tuple[float, float]:
    """The e1, e2 of lenstronomy."""
    e = (1 - axis_ratio) / (1 + axis_ratio)
    return float(e * np.cos(2 * angle)), float(e * np.sin(2 * angle))


@dataclass(frozen=True)
class Frame:
    """The pixels of a cutout and its margin.

    Parameters
    ----------
    size, margin : int
        Pixels of the cutout and of its margin on each side.
    scale : float
        Arcsec per pixel.
    factor : int
        Samples per pixel along each axis.
    """

    size: int
    margin: int
    scale: float
    factor: int

    @property
    def side(self) -> int:
        """Pixels with both margins."""
        return self.size + 2 * self.margin

    def points(self, rows: slice) -> Floats:
        """Coordinates of the samples of some pixels along an axis."""
        steps = np.arange(rows.start * self.factor, rows.stop * self.factor)
        return ((steps + 0.5) / self.factor - 0.5 * self.side) * self.scale

    def box(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns of the pixels within ``reach`` arcsec of a point; empty if there are none."""
        found = []
        for centre in (y, x):
            middle, half = centre / self.scale + 0.5 * self.side, reach / self.scale
            low = int(np.clip(np.floor(middle - half), 0, self.side))
            found.append(slice(low, max(low, int(np.clip(np.ceil(middle + half), 0, self.side)))))
        return found[0], found[1]

    def grid(self, box: tuple[slice, slice]) -> tuple[Floats, Floats]:
        """Coordinates x, y of all samples of a box, flat."""
        return _grid(self, box[0].start, box[0].stop, box[1].start, box[1].stop)

    def pixels(self, samples: Floats, box: tuple[slice, slice]) -> Floats:
        """Flux in each pixel of a box, of surface brightness per square arcsec at its samples."""
        rows, columns, n = box[0].stop - box[0].start, box[1].stop - box[1].start, self.factor
        lines = samples.reshape(rows, n, columns * n).sum(axis=1)
        return np.asarray(np.sum([lines[:, i::n] for i in range(n)], axis=0) * (self.scale / n) ** 2)

    def inner(self, image: Floats) -> Floats:
        """The cutout without its margin, of an image (side, side)."""
        m = self.margin
        return image[m : m + self.size, m : m + self.size]


@lru_cache(maxsize=8)  # most often it is the whole frame
def _grid(frame: Frame, low: int, high: int, left: int, right: int) -> tuple[Floats, Floats]:
    x, y = np.meshgrid(frame.points(slice(left, right)), frame.points(slice(low, high)))
    return x.ravel(), y.ravel()


def paint(canvas: Floats, frame: Frame, component: Component, noise: Floats) -> None:
    """Add a component to a canvas (bands, side, side), before any blurring.

    Parameters
    ----------
    canvas : ndarray
        Changed in place.
    frame : Frame
    component : Component
    noise : ndarray, shape (bands,)
        Of the sky in a pixel: decides how far out the component is drawn.
    """
    if component.radius == 0:
        _paint_star(canvas, frame, component)
        return
    reach, near = _reach(component, frame, noise)
    box = frame.box(component.x, component.y, reach)
    if box[0].start == box[0].stop or box[1].start == box[1].stop:
        return
    once = replace(frame, factor=1)
    shape = once.pixels(_brightness(component, *once.grid(box)), box)
    rows, columns = frame.box(component.x, component.y, near)
    if frame.factor > 1 and rows.start < rows.stop and columns.start < columns.stop:
        fine = frame.pixels(_brightness(component, *frame.grid((rows, columns))), (rows, columns))
        top, left = rows.start - box[0].start, columns.start - box[1].start
        shape[top : top + len(fine), left : left + fine.shape[1]] = fine
    canvas[:, box[0], box[1]] += component.flux[:, None, None] * shape


def _paint_star(canvas: Floats, frame: Frame, component: Component) -> None:
    """Divide a star's flux among the four pixels about it, by their distance."""
    x, y = (centre / frame.scale + 0.5 * (frame.side - 1) for centre in (component.x, component.y))
    left, low = int(np.floor(x)), int(np.floor(y))
    for row, column in ((low, left), (low, left + 1), (low + 1, left), (low + 1, left + 1)):
        if 0 <= row < frame.side and 0 <= column < frame.side:
            canvas[:, row, column] += component.flux * (1 - abs(x - column)) * (1 - abs(y - row))


def sersic_b(index: float) -> float:
    """The b of exp(-b r^(1/n)) as lenstronomy approximates it."""
    return 1.9992 * index - 0.3271


def _keywords(component: Component, amplitude: float = 1.0) -> dict[str, float]:
    e1, e2 = ellipticity(component.axis_ratio, component.angle)
    return {
        "amp": amplitude,
        "R_sersic": component.radius,
        "n_sersic": component.index,
        "e1": e1,
        "e2": e2,
        "center_x": component.x,
        "center_y": component.y,
    }


def sersic_keywords(component: Component) -> dict[str, float]:
    """The component's profile, of unit flux, as lenstronomy's parameters."""
    total = float(sersic().total_flux([_keywords(component)])[0])
    return _keywords(component, 1 / total)


def _reach(component: Component, frame: Frame, noise: Floats) -> tuple[float, float]:
    """How far a component is drawn, and how far with several samples a pixel, in arcsec from its centre.

    It ends where a pixel's flux falls below :data:`FAINTEST` of the noise. One sample a pixel is enough where the mean
    over the pixel differs from the value at its middle by less than :data:`ROUGHEST`: pixel^2 / 24 times the Laplacian.
    """
    if component.ring:
        reach = component.radius * (component.ring + 1.5) / np.sqrt(component.axis_ratio) + 2 * frame.scale
        return reach, reach
    b, n = sersic_b(component.index), component.index
    central = sersic_keywords(component)["amp"] * np.exp(b) * frame.scale**2
    ratio = max(float(np.max(component.flux / noise)) * central / FAINTEST, 1.0)
    major = component.radius / np.sqrt(component.axis_ratio)
    reach = max(major * (np.log(ratio) / b) ** n, 2 * frame.scale)
    if component.arms:
        return reach, reach
    r = np.arange(1.0, min(reach / frame.scale, 2 * frame.side) + 3)  # pixels along the major axis
    light = ratio * np.exp(-b * (r * frame.scale / major) ** (1 / n))
    # Across the minor axis it bends 1/q times as fast, at 1/q of the radius: this is a bound.
    bend = (np.abs(np.gradient(np.gradient(light))) + np.abs(np.gradient(light)) / r) / component.axis_ratio
    matters = np.flatnonzero(bend / 24 * FAINTEST > ROUGHEST)
    return reach, min(reach, (r[matters[-1]] + 1 if len(matters) else 2.0) * frame.scale)


def _brightness(component: Component, x: Floats, y: Floats) -> Floats:
    """Surface brightness per unit flux at points, per square arcsec."""
    if not (component.ring or component.arms):
        return np.asarray(sersic().surface_brightness(x, y, [sersic_keywords(component)]))
    cos, sin, root = np.cos(component.angle), np.sin(component.angle), np.sqrt(component.axis_ratio)
    dx, dy = x - component.x, y - component.y
    u = (dx * cos + dy * sin) / component.radius * root
    v = (dy * cos - dx * sin) / component.radius / root
    r = np.hypot(u, v)
    if component.ring:  # a Gaussian rim; its flux is 2 pi r times the integral across it
        flux = 2 * np.pi * component.ring * np.sqrt(np.pi) / 4 * component.radius**2
        return np.asarray(np.exp(-16.0 * (r - component.ring) ** 2) / flux)
    winding = np.copysign(2.5, component.phase) * np.log(r + 0.2)
    pattern = np.cos(2 * (np.arctan2(v, u) - winding) + component.phase)
    disc = np.asarray(sersic().surface_brightness(x, y, [sersic_keywords(component)]))
    return np.asarray(disc * (1 + component.arms * pattern * np.minimum(4 * r**2, 1.0)))


@lru_cache(maxsize=256)
def _moffat(fwhm: float, beta: float, half: int) -> Floats:
    """Moffat profile of unit sum at pixel centres; ``fwhm`` in pixels."""
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    steps = np.arange(-half, half + 1)
    image = (1 + (steps[None, :] ** 2 + steps[:, None] ** 2) / alpha2) ** -beta
    return np.asarray(image / image.sum())


def moffat(fwhm: float, beta: float, half: int) -> Floats:
    """A point-spread function: Moffat profile of unit sum, sampled at pixel centres.

    Parameters
    ----------
    fwhm : float
        In pixels.
    beta : float
        Exponent of the wings.
    half : int
        The image is ``2 half + 1`` pixels wide.
    """
    return _moffat(fwhm, beta, half)


class Blur:
    """Convolution of a frame with one point-spread function.

    Parameters
    ----------
    frame : Frame
        Its margin is at least half the width of the image.
    kernel : ndarray, shape (k, k)
        Odd, of unit sum.
    """

    def __init__(self, frame: Frame, kernel: Floats):
        self._frame, self._half = frame, len(kernel) // 2
        # What wraps round falls into the margin, so the transform needs no more than the frame.
        self._shape = [fft.next_fast_len(frame.side, real=True)] * 2
        self._kernel = fft.rfft2(kernel, self._shape)

    def __call__(self, image: Floats) -> Floats:
        """The cutout (size, size) of an image (side, side), blurred."""
        blurred = fft.irfft2(fft.rfft2(image, self._shape) * self._kernel, self._shape)
        low = self._frame.margin + self._half
        return np.asarray(blurred[low : low + self._frame.size, low : low + self._frame.size])
