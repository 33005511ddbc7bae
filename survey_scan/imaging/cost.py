"""Which way to read the pixels of some targets from one image costs least.

Three ways: ``whole`` reads the image once, ``rows`` reads the bands of rows that hold targets, ``sections`` reads one
box a target. What each costs follows from how the image is compressed: a compression tile is decoded entirely or not
at all, so one pixel of a row-tiled image costs a row of 10,000, and in a Legacy Surveys brick a box of 100 x 100.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mode = Literal["rows", "whole", "sections"]
Indices = NDArray[np.int64]

#: Most bytes of float32 pixels held at once, unless one target's rows, or a gzipped image, are more than that.
STRIP_BYTES = 96 * 2**20


@dataclass(frozen=True)
class Layout:
    """How an image lies in its file.

    Attributes
    ----------
    codec : str
        ``none``, ``gzip`` (the file as a whole), or the value of ZCMPTYPE.
    shape : tuple of int
        Rows and columns of the image.
    tile : tuple of int
        Rows and columns of a compression tile; one row if there is no tile compression.
    """

    codec: str
    shape: tuple[int, int]
    tile: tuple[int, int]

    @property
    def image_bytes(self) -> int:
        """Bytes of the image as float32."""
        return 4 * self.shape[0] * self.shape[1]


class Box(NamedTuple):
    """One call to read pixels ``[y0:y1, x0:x1]``, which hold the windows of targets ``first`` to ``last - 1``."""

    y0: int
    y1: int
    x0: int
    x1: int
    first: int
    last: int


@dataclass(frozen=True)
class Price:
    """Seconds of CPU for one call, for one compression tile and for one pixel decoded."""

    call: float
    tile: float
    pixel: float


#: Prices of reading whole images and bands of rows, and of reading sections, by codec; an unknown codec is priced as
#: GZIP_1. Printed by ``python benchmarks/cost_model.py`` (astropy 8.0.2, fitsio 1.4.2, one core of an AMD EPYC Zen 5):
#: only their ratios matter, and they hold from machine to machine far better than the seconds do.
BULK = {
    "none": Price(20e-6, 0.0, 0.5e-9),
    "RICE_1": Price(2e-3, 5e-6, 8e-9),
    "GZIP_1": Price(2e-3, 5e-6, 30e-9),
}
SECTION = {
    "none": Price(20e-6, 0.0, 1e-9),
    "RICE_1": Price(50e-6, 5e-6, 11e-9),
    "GZIP_1": Price(50e-6, 5e-6, 30e-9),
}


def choose(layout: Layout, y0: Indices, y1: Indices, x0: Indices, x1: Indices) -> tuple[Mode, list[Box]]:
    """The cheapest way to read some windows, and the calls it consists of.

    Parameters
    ----------
    layout : Layout
        Of the image.
    y0, y1, x0, x1 : ndarray of int64, shape (n,)
        The windows ``[y0:y1, x0:x1]``, inside the image, not empty, sorted by ``y0`` then ``y1``.

    Returns
    -------
    mode : str
        ``whole`` for a gzipped file; else the cheapest, where ``whole`` must fit into ``STRIP_BYTES``.
    boxes : list of Box
        Every window lies in the box that names it.
    """
    ways = {mode: boxes(mode, layout, y0, y1, x0, x1) for mode in allowed(layout)}
    mode = min(ways, key=lambda mode: seconds(mode, layout, ways[mode]))
    return mode, ways[mode]


def allowed(layout: Layout) -> tuple[Mode, ...]:
    """The ways an image may be read; on a tie the first is taken."""
    if layout.codec == "gzip":
        return ("whole",)
    return ("whole", "rows", "sections") if layout.image_bytes <= STRIP_BYTES else ("rows", "sections")


def boxes(mode: Mode, layout: Layout, y0: Indices, y1: Indices, x0: Indices, x1: Indices) -> list[Box]:
    """The calls one way of reading consists of; parameters as in :func:`choose`."""
    height, width = layout.shape
    if mode == "whole":
        return [Box(0, height, 0, width, 0, len(y0))]
    windows = zip(y0.tolist(), y1.tolist(), x0.tolist(), x1.tolist(), strict=True)
    if mode == "sections":
        return [Box(*window, k, k + 1) for k, window in enumerate(windows)]
    depth = layout.tile[0]
    most = STRIP_BYTES // (4 * width)
    bands: list[Box] = []
    for k, (low, high, _, _) in enumerate(windows):
        if bands:
            last = bands[-1]
            # rows between two windows are worth reading only if their compression tiles are decoded anyhow
            near = low // depth <= (last.y1 - 1) // depth + 1
            if near and max(high, last.y1) - last.y0 <= max(most, high - low):
                bands[-1] = last._replace(y1=max(high, last.y1), last=k + 1)
                continue
        bands.append(Box(low, high, 0, width, k, k + 1))
    return bands


def seconds(mode: Mode, layout: Layout, calls: list[Box]) -> float:
    """CPU seconds these calls should take on the machine the prices were measured on."""
    prices = SECTION if mode == "sections" else BULK
    price = prices.get(layout.codec, prices["GZIP_1"])
    box = np.array(calls, dtype=np.int64).reshape(-1, 6)
    rows, columns = layout.tile
    tiles_down = (box[:, 1] - 1) // rows - box[:, 0] // rows + 1
    tiles_across = (box[:, 3] - 1) // columns - box[:, 2] // columns + 1
    if layout.codec == "none":
        tiles, pixels = 0, int(((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).sum())
    else:
        tiles = int((tiles_down * tiles_across).sum())
        pixels = tiles * rows * columns
    return len(calls) * price.call + tiles * price.tile + pixels * price.pixel


def strip_bytes(layout: Layout, size: int) -> int:
    """Most bytes of float32 pixels :func:`choose` ever has read by one call, for cutouts of ``size``."""
    if layout.codec == "gzip":
        return layout.image_bytes
    return min(layout.image_bytes, max(STRIP_BYTES, 4 * size * layout.shape[1]))
