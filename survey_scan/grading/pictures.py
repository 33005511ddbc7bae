"""Pixels to pictures: colour with several stretches, single bands, and views that show the source's light.

Colour follows Lupton et al. (2004, PASP 116, 133): the mean of three bands is stretched by arcsinh, and each pixel keeps
its colour. Bands are weighed so that the run's candidates are in the middle a warm yellow (:func:`balance`): the same
colour is then the same colour ratio in every picture of a run. Brightness is in units of the cutout's own noise, so that one
stretch serves every survey and depth. Pictures are turned so that the array's y points up. What has no pixel is the same
grey in every view.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from survey_scan.simulation.config import WAVELENGTHS
from survey_scan.store.quantisation import noise

Floats = NDArray[np.float32]

#: Grey of pixels that are NaN in a band of the picture: a little violet, as no sky or galaxy is.
NO_DATA = (92, 84, 104)

#: Softening Q, and the brightness in units of the noise that is shown at about a tenth of white.
STRETCHES = {"colour": (8.0, 10.0), "deep": (10.0, 4.0), "bright": (5.0, 60.0)}

#: Channel and factor of the Legacy Surveys' viewer, for nanomaggies in g, r, z; there softened by 0.03 and Q = 20.
LEGACY = {"g": (2, 6.0), "r": (1, 3.4), "z": (0, 2.2)}
LEGACY_SOFTENING, LEGACY_Q = 0.03, 20.0

#: Each step of gain shows fluxes this many times brighter; so many steps each way.
GAIN_STEP, GAIN_STEPS = 1.4, 12

#: Red, green and blue of the middle of the typical candidate.
WARM = (1.0, 0.80, 0.50)

#: Width of the middle, in pixels.
MIDDLE = 5


@dataclass(frozen=True)
class View:
    """One way of looking at a cutout: its name in addresses and in the grades, and what it is called on the page."""

    name: str
    title: str


def views(bands: Sequence[str], legacy: bool) -> list[View]:
    """The views there are of cutouts in some bands.

    Parameters
    ----------
    bands : sequence of str
        Of the cutouts.
    legacy : bool
        Whether the flux is in nanomaggies, which the scales of the Legacy Surveys' viewer are for.
    """
    grz = [View("legacy", "Legacy viewer")] if legacy and set(LEGACY) <= set(bands) else []
    colour = [View("colour", "Colour"), View("deep", "Deep"), View("bright", "Bright")]
    minus = [View("difference", "Blue − red")] if len(bands) > 1 else []
    return [*colour, *grz, View("source", "Source light"), *minus, *(View(f"band-{b}", b) for b in blue_to_red(bands))]


def blue_to_red(bands: Sequence[str]) -> list[str]:
    """Bands by wavelength if all are known by name, else as they are given."""
    return sorted(bands, key=WAVELENGTHS.__getitem__) if set(bands) <= set(WAVELENGTHS) else list(bands)


def balance(cutouts: Sequence[Floats], bands: Sequence[str]) -> tuple[float, ...]:
    """Factors of the bands that make the middle of the typical cutout a warm yellow.

    Parameters
    ----------
    cutouts : sequence of ndarray, shape (size, size, bands)
        Some candidates.
    bands : sequence of str
        In the order of the last axis.

    Returns
    -------
    tuple of float
        One a band; all 1 if there are not two bands with light in them.
    """
    if len(bands) < 2 or not cutouts:
        return (1.0,) * len(bands)
    light = np.array([np.nansum((c - _sky(c))[_middle(c)], axis=(0, 1)) for c in cutouts], np.float64)
    light = light[(light > 0).all(axis=1)]
    if not len(light):
        return (1.0,) * len(bands)
    typical = np.median(light / light.mean(axis=1, keepdims=True), axis=0)
    order = [list(bands).index(band) for band in blue_to_red(bands)]
    wanted = np.interp(np.linspace(0, 1, len(bands)), [0, 0.5, 1], WARM[::-1])
    factors = np.ones(len(bands))
    factors[order] = wanted / typical[order]
    return tuple(factors.tolist())


def render(
    cutout: Floats, bands: Sequence[str], view: str, gain: int = 0, weights: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """A picture of a cutout.

    Parameters
    ----------
    cutout : ndarray of float32, shape (size, size, bands)
        y up the array; NaN where there is no pixel.
    bands : sequence of str
        In the order of the last axis.
    view : str
        Name of one of :func:`views`.
    gain : int
        Steps of brightness; each shows fluxes 1.4 times brighter.
    weights : sequence of float, optional
        Factors of the bands, from :func:`balance`.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        Red, green, blue; the first row is the uppermost.

    Notes
    -----
    ``source`` is the image less the galaxy's own light in each band: the median of the image along ellipses about its centre
    (:func:`galaxy`). ``difference`` is ``blue − k red`` of the bluest and reddest band, k their ratio in the middle: a
    galaxy of one colour vanishes, whatever its shape, and a whole ring of another colour stays, which ``source`` takes
    for the galaxy's. It is blurred by one pixel; a thin even ring about the middle is but the bands' different seeing.
    White is blue light left over, black is red.
    """
    factor = np.float32(GAIN_STEP**gain)
    if view == "legacy":
        rgb = np.zeros((*cutout.shape[:2], 3), np.float32)
        for band, (channel, scale) in LEGACY.items():
            rgb[..., channel] = cutout[..., list(bands).index(band)] * np.float32(scale)
        return _legacy(rgb * factor)[::-1]
    order = [list(bands).index(band) for band in blue_to_red(bands)]
    flux = (cutout - _sky(cutout)) * np.asarray(weights or [1] * len(bands), np.float32)
    sigma = noise(flux[None])[0]
    if view.startswith("band-"):
        one = list(bands).index(view.removeprefix("band-"))
        picture = lupton(_grey(flux[..., one]) / _or_one(sigma[one]) * factor, *STRETCHES["colour"])
    elif view == "difference":
        blue, red = order[0], order[-1]
        picture = _difference(flux[..., blue] / _or_one(sigma[blue]), flux[..., red] / _or_one(sigma[red]), factor)
    else:
        if view == "source":
            flux = flux - galaxy(flux, order[-1])
        q, stretch = STRETCHES["deep" if view == "source" else view]
        sigma = sigma[order]
        typical = _or_one(np.sqrt((sigma[[0, len(order) // 2, -1]] ** 2).mean()))
        picture = lupton(_channels(flux[..., order]) / typical * factor, q, stretch)
    return picture[::-1]


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def lupton(rgb: Floats, q: float, stretch: float) -> NDArray[np.uint8]:
    """Colour by Lupton et al. (2004), as ``astropy.visualization.make_lupton_rgb`` with ``minimum=0``.

    Parameters
    ----------
    rgb : ndarray of float32, shape (y, x, 3)
        Red, green, blue fluxes above the sky; where one of them is NaN the picture is grey.
    q, stretch : float
        Softening, and the flux shown at a tenth of white.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
    """
    empty = _empty(rgb)
    rgb = np.where(empty[..., None], np.float32(0), rgb)
    mean = rgb.mean(axis=-1, keepdims=True)
    shown = np.where(mean > 0, mean, np.float32(1))
    slope = 0.1 / np.arcsinh(0.1 * q)  # so that the flux 'stretch' times a tenth is shown at a tenth
    scale = np.where(mean > 0, np.arcsinh(shown * np.float32(q / stretch)) * np.float32(slope) / shown, np.float32(0))
    return _white(np.maximum(rgb * scale, 0), empty)


def galaxy(flux: Floats, band: int) -> Floats:
    """The light of the galaxy in the middle: in each band the median along ellipses of one shape.

    Parameters
    ----------
    flux : ndarray of float32, shape (size, size, bands)
        Above the sky.
    band : int
        The one that gives the shape, by its second moments within an eighth of the size: the reddest, where a lens is
        brighter than its source.

    Returns
    -------
    ndarray of float32, shape (size, size, bands)
        Smooth; an arc that fills less than half of its ellipse is not in it, a whole ring is.
    """
    size = flux.shape[0]
    y, x = np.indices((size, size)) - np.float64(size // 2)
    inside = np.hypot(x, y) <= max(size / 8, 3)
    weight = np.where(inside & np.isfinite(flux[..., band]), np.maximum(flux[..., band], 0), 0).astype(np.float64)
    total = weight.sum()
    if total > 0:
        cx, cy = (weight * x).sum() / total, (weight * y).sum() / total
        x, y = x - cx, y - cy
        xx, yy, xy = ((weight * a).sum() / total for a in (x * x, y * y, x * y))
        angle, spread = 0.5 * np.arctan2(2 * xy, xx - yy), np.hypot((xx - yy) / 2, xy)
        long, short = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
        ratio = np.sqrt(np.clip(short / long, 0.09, 1)) if long > 0 else 1.0
    else:
        angle, ratio = 0.0, 1.0
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.sqrt(along**2 * ratio + across**2 / ratio)
    ring = np.rint(radius).astype(int)
    members = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[members], np.arange(ring.max() + 2))
    places = np.arange(ring.max() + 1)
    model = np.empty_like(flux)
    for b in range(flux.shape[-1]):
        values = flux[..., b].ravel()[members]
        profile = np.zeros(len(places))
        for i, (low, high) in enumerate(pairwise(edges.tolist())):
            some = values[low:high]
            some = some[np.isfinite(some)]
            profile[i] = np.median(some) if len(some) else 0.0
        model[..., b] = np.interp(radius, places, profile)
    return model


def _channels(flux: Floats) -> Floats:
    """Red, green and blue of bands from blue to red: the last, the middle one (the mean of two), the first."""
    n = flux.shape[-1]
    green = flux.mean(axis=-1) if n == 2 else flux[..., n // 2]
    return np.stack([flux[..., -1], green, flux[..., 0]], axis=-1)


def _grey(band: Floats) -> Floats:
    return np.repeat(band[..., None], 3, axis=-1)


def _or_one(sigma: np.float32) -> np.float32:
    """A noise to divide by: 1 where there is none, as in a cutout of one value."""
    return np.float32(sigma if sigma > 0 else 1)


def _middle(cutout: Floats) -> tuple[slice, slice]:
    start = max(cutout.shape[0] // 2 - MIDDLE // 2, 0)
    return slice(start, start + MIDDLE), slice(start, start + MIDDLE)


def _difference(blue: Floats, red: Floats, factor: np.float32) -> NDArray[np.uint8]:
    from scipy.ndimage import gaussian_filter

    empty = ~(np.isfinite(blue) & np.isfinite(red))
    blue, red = (np.where(empty, np.float32(0), band) for band in (blue, red))
    middle = _middle(blue)
    light = float(red[middle].sum())
    k = max(float(blue[middle].sum()) / light, 0.0) if light > 0 else 0.0
    left = gaussian_filter(blue - np.float32(k) * red, 1.0) * factor
    grey = 0.32 + np.arcsinh(left / 3) * 0.16
    return _white(_grey(np.clip(grey, 0, 1)), empty)


def _legacy(rgb: Floats) -> NDArray[np.uint8]:
    """As the viewer's ``sdss_rgb``: fluxes already scaled, the mean softened by 0.03."""
    empty = _empty(rgb)
    shifted = np.maximum(np.where(empty[..., None], np.float32(0), rgb) + np.float32(LEGACY_SOFTENING), 0)
    mean = shifted.mean(axis=-1, keepdims=True)
    scale = np.arcsinh(mean * LEGACY_Q) / np.sqrt(LEGACY_Q) / np.where(mean > 0, mean, 1)
    return _white(shifted * scale, empty, keep_colour=False)


def _empty(rgb: Floats) -> NDArray[np.bool_]:
    """Where one of the channels has no pixel."""
    return np.asarray(~np.isfinite(rgb).all(axis=-1))


def _white(rgb: Floats, empty: NDArray[np.bool_], keep_colour: bool = True) -> NDArray[np.uint8]:
    """0 to 1 as bytes; what is brighter than white keeps its colour, or is cut."""
    if keep_colour:
        rgb = rgb / np.maximum(rgb.max(axis=-1, keepdims=True), 1)
    picture = (np.clip(rgb, 0, 1) * np.float32(255.99)).astype(np.uint8)
    picture[empty] = NO_DATA
    return picture


def _sky(cutout: Floats) -> Floats:
    """Median of the border of each band; 0 where it has no pixel."""
    sides = np.concatenate([cutout[0], cutout[-1], cutout[1:-1, 0], cutout[1:-1, -1]])
    finite = np.isfinite(sides)
    return np.array([np.median(sides[ok, b]) if ok.any() else 0.0 for b, ok in enumerate(finite.T)], np.float32)
