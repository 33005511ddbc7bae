"""Pixels as 16-bit whole numbers of a sixteenth of the noise, as the surveys compress them (fpack with q = 16).

The error of a pixel is at most half a step, 1/32 of the noise; its variance adds 1/3072 of the noise's.
"""

import numpy as np
from numpy.typing import NDArray

#: What stands for NaN.
NAN_INT16 = -32768
#: Steps to one standard deviation of the noise.
STEPS_PER_SIGMA = 16


def quantise(pixels: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Pixels as whole steps of a sixteenth of the noise.

    Parameters
    ----------
    pixels : ndarray of float32, shape (n, size, size, bands)
        NaN, and infinities, become -32768.

    Returns
    -------
    steps : ndarray of int16, same shape
        ``steps * step`` differs from a pixel by at most half a step.
    step : ndarray of float32, shape (n, bands)
        A sixteenth of :func:`noise`, or the brightest pixel divided by 32767 if that is more: no pixel is clipped.
        1 where all pixels are 0 or NaN.
    """
    n, size, _, bands = pixels.shape
    flat = pixels.reshape(n, size, size * bands)
    undefined = ~np.isfinite(flat)
    if undefined.any():
        flat = np.where(undefined, np.float32(0), flat)
    peak = np.maximum(flat.max(axis=1), -flat.min(axis=1)).reshape(n, size, bands).max(axis=1)
    step = np.maximum(noise(pixels) / np.float32(STEPS_PER_SIGMA), peak / np.float32(32767))
    step[step == 0] = 1
    step = np.maximum(step, np.finfo(np.float32).tiny)  # smaller numbers lose their precision
    scaled = flat / np.tile(step, (1, size))[:, None, :]
    steps = np.rint(scaled, out=scaled).astype(np.int16)
    steps[undefined] = NAN_INT16
    return steps.reshape(pixels.shape), step


def noise(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation of the noise along the border of each cutout and band.

    Parameters
    ----------
    pixels : ndarray of float32, shape (n, size, size, bands)
        Cutouts; objects are mostly in the middle.

    Returns
    -------
    ndarray of float32, shape (n, bands)
        1.4826 / sqrt(2) times the median absolute difference of neighbouring border pixels: exact for independent
        Gaussian noise, too small (and so more finely sampled) for correlated noise. 0 if no two neighbours are finite.
    """
    sides = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
        steps = np.abs(np.concatenate([np.diff(side, axis=1) for side in sides], axis=1))
    steps = np.sort(np.where(np.isfinite(steps), steps, np.nan), axis=1)  # NaN last
    known = np.isfinite(steps).sum(axis=1)
    middle = np.take_along_axis(steps, np.maximum(known - 1, 0)[:, None, :] // 2, axis=1)[:, 0]
    return np.where(known > 0, middle, 0).astype(np.float32) * np.float32(1.4826 / np.sqrt(2))


def restore(steps: NDArray[np.int16], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels that :func:`quantise` was given, NaN where there was none.

    Parameters
    ----------
    steps : ndarray of int16, shape (n, size, size, bands)
        Whole steps.
    step : ndarray of float32, shape (n, bands)
        Flux of one.
    """
    with np.errstate(over="ignore"):  # -32768 times a step may be too large; it is no pixel
        pixels = steps * step[:, None, None, :]
    pixels[steps == NAN_INT16] = np.nan
    return pixels
