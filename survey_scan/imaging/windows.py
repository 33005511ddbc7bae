"""Square windows of an image: where they lie, their pixels, how many of those are bad."""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from survey_scan.imaging.cost import Box, Indices

#: Windows, or rows, treated by one call: what they hold stays in the cache.
BATCH = 64


class Windows(NamedTuple):
    """Windows of one size on an image.

    Attributes
    ----------
    x0, y0 : ndarray of int64, shape (n,)
        Lowest column and row; may lie outside the image.
    overlaps : ndarray of bool, shape (n,)
        Whether any pixel lies on the image.
    inside : ndarray of bool, shape (n,)
        Whether all pixels do.
    """

    x0: Indices
    y0: Indices
    overlaps: NDArray[np.bool_]
    inside: NDArray[np.bool_]


def place(x: NDArray[np.float64], y: NDArray[np.float64], size: int, shape: tuple[int, int]) -> Windows:
    """Windows around positions: the lowest pixel is ``ceil(position - size / 2)``, as in ``astropy.nddata.Cutout2D``.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        0-based positions; NaN is nowhere on the image.
    size : int
        Pixels along a side.
    shape : tuple of int
        Rows and columns of the image.
    """
    height, width = shape
    near = (np.abs(x) < 1e9) & (np.abs(y) < 1e9)  # not NaN, and fit for integers
    x0 = np.ceil(np.where(near, x, 0.0) - size / 2).astype(np.int64)
    y0 = np.ceil(np.where(near, y, 0.0) - size / 2).astype(np.int64)
    overlaps = near & (x0 > -size) & (x0 < width) & (y0 > -size) & (y0 < height)
    inside = overlaps & (x0 >= 0) & (x0 + size <= width) & (y0 >= 0) & (y0 + size <= height)
    return Windows(x0, y0, overlaps, inside)


def copy_windows(
    pixels: NDArray[np.float32], box: Box, windows: Windows, targets: Indices, out: NDArray[np.float32], rows: Indices
) -> None:
    """Copy windows of one band out of the pixels of a box; NaN where a window runs off the image.

    Parameters
    ----------
    pixels : ndarray of float32, shape (box.y1 - box.y0, box.x1 - box.x0)
        What was read.
    box : Box
        Where; it holds whatever of the windows lies on the image.
    windows : Windows
        All windows.
    targets : ndarray of int64, shape (k,)
        Which windows to copy.
    out : ndarray of float32, shape (n, size, size)
        Where to; may have any strides.
    rows : ndarray of int64, shape (k,)
        Row of ``out`` of each.
    """
    size = out.shape[1]
    whole = windows.inside[targets]
    if whole.any():
        views = sliding_window_view(pixels, (size, size))
        y, x = windows.y0[targets[whole]] - box.y0, windows.x0[targets[whole]] - box.x0
        to = rows[whole]
        for i in range(0, len(to), BATCH):
            out[to[i : i + BATCH]] = views[y[i : i + BATCH], x[i : i + BATCH]]
    for target, row in zip(targets[~whole].tolist(), rows[~whole].tolist(), strict=True):
        y0, x0 = int(windows.y0[target]), int(windows.x0[target])
        part = pixels[
            max(y0 - box.y0, 0) : max(y0 + size - box.y0, 0),
            max(x0 - box.x0, 0) : max(x0 + size - box.x0, 0),
        ]
        top, left = max(box.y0 - y0, 0), max(box.x0 - x0, 0)
        out[row] = np.nan
        out[row, top : top + part.shape[0], left : left + part.shape[1]] = part


def cut_windows(
    pixels: NDArray[Any],
    windows: Windows,
    targets: Indices,
    out: NDArray[np.float32],
    rows: Indices,
    nodata: float | None,
) -> Indices:
    """Copy windows out of a whole image, and count their bad pixels.

    Parameters
    ----------
    pixels : ndarray, shape (height, width)
        The image, of any type and byte order.
    windows, targets, out, rows
        As in :func:`copy_windows`.
    nodata : float or None
        A value that is no data.

    Returns
    -------
    ndarray of int64, shape (k,)
        How many pixels of each window are not finite, ``nodata``, or off the image.
    """
    (height, width), size = pixels.shape, out.shape[1]
    counts = np.empty(len(targets), np.int64)
    whole = np.flatnonzero(windows.inside[targets])
    views = sliding_window_view(pixels, (size, size)) if len(whole) else pixels
    for i in range(0, len(whole), BATCH):
        some = whole[i : i + BATCH]
        block = views[windows.y0[targets[some]], windows.x0[targets[some]]].astype(np.float32)
        out[rows[some]] = block
        counts[some] = np.count_nonzero(undefined(block.reshape(len(some), -1), nodata), axis=1)
    for i in np.flatnonzero(~windows.inside[targets]).tolist():
        y0, x0 = int(windows.y0[targets[i]]), int(windows.x0[targets[i]])
        box = Box(max(y0, 0), min(y0 + size, height), max(x0, 0), min(x0 + size, width), 0, 1)
        part = pixels[box.y0 : box.y1, box.x0 : box.x1].astype(np.float32)
        copy_windows(part, box, windows, targets[i : i + 1], out, rows[i : i + 1])
        counts[i] = size * size - part.size + np.count_nonzero(undefined(part, nodata))
    return counts


def off_image(y0: Indices, x0: Indices, size: int, shape: tuple[int, int]) -> Indices:
    """How many pixels of windows that overlap an image are off it."""
    height, width = (
        np.minimum(y0 + size, shape[0]) - np.maximum(y0, 0),
        np.minimum(x0 + size, shape[1]) - np.maximum(x0, 0),
    )
    return np.asarray(size * size - height * width)


def undefined(pixels: NDArray[np.float32], blank: float | None) -> NDArray[np.bool_]:
    """Which pixels are not finite, or equal to a value that stands for no data."""
    bad = np.empty(pixels.shape, dtype=np.bool_)
    equal = np.empty((BATCH, pixels.shape[1]), dtype=np.bool_)
    for row in range(0, len(pixels), BATCH):  # what is compared twice stays in the cache
        block, found = pixels[row : row + BATCH], bad[row : row + BATCH]
        np.logical_not(np.isfinite(block, out=found), out=found)
        if blank is not None:
            found |= np.equal(block, blank, out=equal[: len(block)])
    return bad


def count_bad(bad: NDArray[np.bool_], box: Box, windows: Windows, targets: Indices, size: int) -> Indices:
    """How many pixels of each window are bad or off the image.

    Parameters
    ----------
    bad : ndarray of bool, shape (box.y1 - box.y0, box.x1 - box.x0)
        Bad pixels of the box.
    box, windows, targets
        As in :func:`copy_windows`.
    size : int
        Pixels along a side.
    """
    y0, x0 = windows.y0[targets], windows.x0[targets]
    low_y, high_y = np.maximum(y0, box.y0), np.minimum(y0 + size, box.y1)
    low_x, high_x = np.maximum(x0, box.x0), np.minimum(x0 + size, box.x1)
    counts: Indices = size * size - (high_y - low_y) * (high_x - low_x)
    if not bad.any():
        return counts
    # counts down the columns; sums of at most 1024 pixels come out right even where the counts wrap around
    above = np.zeros((bad.shape[0] + 1, bad.shape[1]), dtype=np.uint16)
    for row in range(bad.shape[0]):
        np.add(above[row], bad[row], out=above[row + 1])
    for k in range(len(targets)):
        columns = slice(int(low_x[k]) - box.x0, int(high_x[k]) - box.x0)
        column = above[high_y[k] - box.y0, columns] - above[low_y[k] - box.y0, columns]
        counts[k] += int(column.sum(dtype=np.int64))
    return counts
