"""Pixels as 16-bit whole numbers of a sixteenth of the noise, as the surveys compress them (fpack with q = 16).

The error of a pixel is at most half a step, 1/32 of the noise; its variance adds 1/3072 of the noise's.
"""

import ctypes

import numpy as np
from numpy.typing import NDArray

from survey_scan import c_library

#: What stands for NaN.
NAN_INT16 = -32768
#: Steps to one standard deviation of the noise.
STEPS_PER_SIGMA = 16
#: Bytes of float32 pixels treated at a time.
CACHED_BYTES = 2**20


def quantise(
    pixels: NDArray[np.float32], out: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Pixels as whole steps of a sixteenth of the noise.

    Parameters
    ----------
    pixels : ndarray of float32, shape (n, size, size, bands)
        NaN, and infinities, become -32768.
    out : ndarray of int16, same shape, optional
        Memory for the steps, contiguous and overwritten; new if not given.

    Returns
    -------
    steps : ndarray of int16, same shape
        ``steps * step`` differs from a pixel by at most half a step.
    step : ndarray of float32, shape (n, bands)
        A sixteenth of :func:`noise`, or the brightest pixel divided by 32767 if that is more: no pixel is clipped.
        1 where all pixels are 0 or NaN.
    """
    steps = np.empty(pixels.shape, np.int16) if out is None else out
    step = noise(pixels) / np.float32(STEPS_PER_SIGMA)
    if not _in_c(pixels, step, steps):
        _in_numpy(pixels, step, steps)
    return steps, step


def _in_c(pixels: NDArray[np.float32], step: NDArray[np.float32], steps: NDArray[np.int16]) -> bool:
    """Fill in the steps, and what each is; False, and nothing done, where the part in C is not there or cannot."""
    part = c_library.find("survey_scan.store._quantise", "quantise_1")
    plain = pixels.dtype == np.float32 and all(array.flags.c_contiguous for array in (pixels, step, steps))
    if part is None or not plain:
        return False
    n, rows, columns, bands = pixels.shape
    work = np.empty(2 * columns * bands, np.uint32)
    sizes = [ctypes.c_int64(number) for number in (n, rows, columns * bands, bands)]
    first, *others = (ctypes.c_void_p(array.ctypes.data) for array in (pixels, step, steps, work))
    part.quantise_1(first, *sizes, *others)
    return True


def _in_numpy(pixels: NDArray[np.float32], step: NDArray[np.float32], steps: NDArray[np.int16]) -> None:
    n, size, _, bands = pixels.shape
    some = max(1, CACHED_BYTES // (4 * size * size * bands))
    scaled = np.empty((some, size, size * bands), np.float32)
    for i in range(0, n, some):  # what is passed over several times stays in the cache
        flat, rows = pixels[i : i + some].reshape(-1, size, size * bands), slice(i, i + some)
        peak = _peak(flat, bands)
        undefined = None
        if not np.isfinite(peak).all():
            undefined = ~np.isfinite(flat)
            flat = np.where(undefined, np.float32(0), flat)
            peak = _peak(flat, bands)
        each = np.maximum(step[rows], peak / np.float32(32767))
        each[each == 0] = 1
        step[rows] = np.maximum(each, np.finfo(np.float32).tiny)  # smaller numbers lose their precision
        found, whole = scaled[: len(flat)], steps[rows].reshape(flat.shape)
        np.divide(flat, np.tile(step[rows], (1, size))[:, None, :], out=found)
        np.copyto(whole, np.rint(found, out=found), casting="unsafe")
        if undefined is not None:
            whole[undefined] = NAN_INT16


def _peak(flat: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """Largest absolute value of each cutout and band, shape (n, bands); not finite if any is not."""
    n, size, width = flat.shape
    groups = next(count for count in (8, 4, 2, 1) if size % count == 0)
    rows = flat.reshape(n, groups, -1)  # long rows are compared faster
    with np.errstate(invalid="ignore"):
        highest = np.maximum(rows.max(axis=1), -rows.min(axis=1)).reshape(n, -1, width).max(axis=1)
    return np.asarray(highest.reshape(n, size, bands).max(axis=1))


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
    finite = np.isfinite(steps)
    if finite.all():
        middle = np.partition(steps, (steps.shape[1] - 1) // 2, axis=1)[:, (steps.shape[1] - 1) // 2]
        return middle * np.float32(1.4826 / np.sqrt(2))
    steps = np.sort(np.where(finite, steps, np.nan), axis=1)  # NaN last
    known = finite.sum(axis=1)
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
